//! The service manager's part, played by the tests: sockets passed in, notifications, the watchdog, and the unit files.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::Signal;

use crate::support::{Connection, Daemon, PATIENCE, TempDir};

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

/// Runs `bbd` with a socket as descriptor 3, as a service manager does.
fn activated(dir: &TempDir, listener: &UnixListener) -> Command {
    passing_in(listener, &Daemon::command_in(dir), dir)
}

/// A command that starts this daemon with the socket as descriptor 3.
pub(crate) fn passing_in(listener: &UnixListener, bbd: &Command, dir: &TempDir) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"]);
    command.arg(bbd.get_program()).args(bbd.get_args());
    command.stdin(OwnedFd::from(listener.try_clone().unwrap())).stderr(Daemon::log_in(dir));
    command
}

#[test]
fn a_socket_passed_in_is_used_instead_of_its_own() {
    let dir = TempDir::new();
    let path = Daemon::socket_in(&dir);
    let listener = UnixListener::bind(&path).unwrap();
    let command = activated(&dir, &listener);
    // A client that came before the daemon is served by it.
    let mut early = Connection::new(std::os::unix::net::UnixStream::connect(&path).unwrap());
    early.send(HEALTHZ);
    let daemon = Daemon::run(dir, command);
    assert_eq!(early.answer(false).unwrap().unwrap().status, 200);
    // A client that comes with the end is left to the next one.
    daemon.freeze();
    let mut late = Connection::new(std::os::unix::net::UnixStream::connect(&path).unwrap());
    late.send(HEALTHZ);
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    let (status, dir) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(is_socket(&path), "it is not ours to remove");
    let command = activated(&dir, &listener);
    let next = Daemon::run(dir, command);
    let answer = late.answer(false).unwrap().unwrap();
    assert_eq!((answer.status, answer.closes()), (200, false));
    drop(next);
}

#[test]
fn what_is_passed_in_must_be_a_socket() {
    let dir = TempDir::new();
    let bbd = Daemon::command_in(&dir);
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"]);
    let output = command.arg(bbd.get_program()).args(bbd.get_args()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("LISTEN_FDS"), "{output:?}");
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let dir = TempDir::new();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = Daemon::start_in(dir, |command| {
        command.env("NOTIFY_SOCKET", manager.local_addr().unwrap().as_pathname().unwrap());
        command.env("WATCHDOG_USEC", "200000");
    });
    let next = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).expect("a notification");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(next().contains("READY=1"));
    let started = Instant::now();
    for _ in 0..5 {
        assert!(next().contains("WATCHDOG=1"));
    }
    let took = started.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_millis(1500)).contains(&took), "five in {took:?}");
    daemon.signal(Signal::TERM);
    while !next().contains("STOPPING=1") {}
    assert_eq!(daemon.wait().0.code(), Some(0));
}

#[test]
fn a_service_manager_that_hangs_holds_nobody() {
    let dir = TempDir::new();
    // Nobody reads from it: its queue is full after some messages, at two a millisecond within the first moments.
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let daemon = Daemon::start_in(dir, |command| {
        command.env("NOTIFY_SOCKET", manager.local_addr().unwrap().as_pathname().unwrap());
        command.env("WATCHDOG_USEC", "1000");
    });
    let full = UnixDatagram::unbound().unwrap();
    full.connect_addr(&manager.local_addr().unwrap()).unwrap();
    full.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while full.send(b"x").is_ok() {
        assert!(Instant::now() < deadline, "its queue never fills");
    }
    for _ in 0..10 {
        sleep(Duration::from_millis(5));
        assert_eq!(daemon.ask(HEALTHZ).status, 200);
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().0.code(), Some(0));
}

/// How often the daemon is restarted under load.
const RESTARTS: u32 = 5;
/// Clients that connect for every request, as scripts do.
const CLIENTS: u32 = 8;

/// Asks once on a connection of its own. `None`: it was let in by a daemon that stopped in the same moment, and closed unheard.
fn ask_once(path: &Path) -> Option<u16> {
    let mut connection = Connection::new(UnixStream::connect(path).expect("the socket always stands"));
    connection.send(HEALTHZ);
    connection.answer(false).ok().flatten().map(|answer| answer.status)
}

#[test]
fn a_restart_keeps_connections_in_line() {
    let dir = TempDir::new();
    let path = Daemon::socket_in(&dir);
    let listener = UnixListener::bind(&path).unwrap();
    let (is_over, asked, repeated) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let client = || {
            while !is_over.load(Ordering::Relaxed) {
                let status = ask_once(&path).or_else(|| {
                    repeated.fetch_add(1, Ordering::Relaxed);
                    ask_once(&path)
                });
                assert_eq!(status, Some(200), "at the second try");
                asked.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(1));
            }
        };
        for _ in 0..CLIENTS {
            scope.spawn(client);
        }
        let mut dir = dir;
        for _ in 0..RESTARTS {
            let command = activated(&dir, &listener);
            let daemon = Daemon::run(dir, command);
            let before = asked.load(Ordering::Relaxed);
            while asked.load(Ordering::Relaxed) < before + 10 * CLIENTS {
                sleep(Duration::from_millis(1));
            }
            daemon.signal(Signal::TERM);
            let (status, back) = daemon.wait();
            assert_eq!(status.code(), Some(0));
            dir = back;
            // Whoever comes now waits in line.
            sleep(Duration::from_millis(20));
        }
        let command = activated(&dir, &listener);
        let _last = Daemon::run(dir, command);
        is_over.store(true, Ordering::Relaxed);
    });
    let (asked, repeated) = (asked.into_inner(), repeated.into_inner());
    println!("{asked} requests over {RESTARTS} restarts, {repeated} of them repeated once");
    assert!(asked >= RESTARTS * 10 * CLIENTS && repeated <= RESTARTS * CLIENTS);
}

/// A unit file's settings.
fn settings(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd").join(name);
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_units_fit_each_other_and_the_daemon() {
    let (service, socket) = (settings("bbd.service"), settings("bbd.socket"));
    let value = |unit: &[(String, String)], key: &str| {
        let found = unit.iter().find(|(found, _)| found == key);
        found.unwrap_or_else(|| panic!("no {key}=")).1.clone()
    };
    let listen = value(&socket, "ListenStream");
    let start = value(&service, "ExecStart");
    let mut words = start.split(' ');
    assert!(words.next().unwrap().ends_with("/bbd"));
    // The flags are ones that the daemon takes; --uds names the socket that is passed in, for its log and its status.
    let flags: Vec<&str> = words.collect();
    assert!(flags.contains(&format!("--uds={listen}").as_str()), "{flags:?}");
    let mut check = Command::new(env!("CARGO_BIN_EXE_bbd"));
    let output = check.env_clear().args(&flags).args(["--dev", "--check-config"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // What it may be passed as credentials has the names that it looks for.
    for credential in service.iter().filter(|(key, _)| key == "LoadCredential").map(|(_, value)| value) {
        let name = credential.split(':').next().unwrap();
        let dir = TempDir::new();
        fs::write(dir.path().join(name), "").unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_bbd"));
        check.env_clear().env("CREDENTIALS_DIRECTORY", dir.path()).args(["--dev", "--check-config"]);
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&format!("credential \"{}", dir.path().display())), "{said}");
    }
    assert_eq!((value(&service, "Type"), value(&socket, "SocketMode")), ("notify".to_owned(), "0600".to_owned()));
}

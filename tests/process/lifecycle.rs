//! The daemon's start and end: its socket files, signals, and what it inherits.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Connection, Daemon, PATIENCE, TempDir};

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &[u8] = b"PUT /api/v1/named/s HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\nContent-Length: 4\r\n\r\nbody";

/// Runs a daemon that must refuse to start: its exit status and what it says.
fn refused(dir: &TempDir, change: impl FnOnce(&mut Command)) -> (ExitStatus, String) {
    let mut command = Daemon::command_in(dir);
    change(&mut command);
    let output = command.stderr(Stdio::piped()).output().expect("bbd starts");
    (output.status, String::from_utf8(output.stderr).unwrap())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

#[test]
fn after_kill_9_the_stale_socket_is_replaced() {
    let daemon = Daemon::start(&[] as &[&str]);
    daemon.signal(Signal::KILL);
    let (status, dir) = daemon.wait();
    assert!(!status.success());
    assert!(is_socket(&Daemon::socket_in(&dir)), "it is left behind");
    let again = Daemon::start_in(dir, |_| {});
    assert_eq!(again.ask(HEALTHZ).status, 200);
}

#[test]
fn a_socket_that_is_answered_is_not_taken() {
    let daemon = Daemon::start(&[] as &[&str]);
    let other = TempDir::new();
    let (status, said) = refused(&other, |command| {
        command.arg("--uds").arg(daemon.socket());
    });
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another daemon answers") && said.contains(daemon.socket().to_str().unwrap()), "{said}");
    assert_eq!(daemon.ask(HEALTHZ).status, 200, "the first is not hurt");

    // Nor is one whose queue of connections is full.
    let dir = TempDir::new();
    let path = Daemon::socket_in(&dir);
    let stuck = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&stuck, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&stuck, 0).unwrap();
    let _fills = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let (status, said) = refused(&dir, |_| {});
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another daemon answers"), "{said}");
    assert!(is_socket(&path));
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = TempDir::new();
    let path = Daemon::socket_in(&dir);
    let says = |what: &str| {
        let (status, said) = refused(&dir, |_| {});
        assert_eq!(status.code(), Some(1), "{what}");
        assert!(said.contains("is not a socket") && said.lines().count() <= 2, "{what}: {said}");
    };
    fs::write(&path, "precious").unwrap();
    says("a file");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::rename(&path, dir.path().join("file")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("file"), &path).unwrap();
    says("a link");
    assert!(path.is_symlink());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    says("a directory");
    assert!(path.is_dir());
}

#[test]
fn a_start_that_fails_leaves_no_socket_behind() {
    let dir = TempDir::new();
    let (status, said) = refused(&dir, |command| {
        command.arg(format!("--uds-for=acme={}/no/such/folder.sock", dir.path().display()));
    });
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("no/such/folder.sock"), "{said}");
    assert!(!Daemon::socket_in(&dir).exists());
}

#[test]
fn the_socket_has_the_mode_and_group_asked_for() {
    let mode = |daemon: &Daemon| fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&Daemon::start(&[] as &[&str])), 0o600);
    for (asked, wanted) in [("--uds-mode=0660", 0o660), ("--uds-mode=0666", 0o666), ("--uds-mode=0600", 0o600)] {
        assert_eq!(mode(&Daemon::start(&[asked])), wanted);
    }
    // Our own group is one that anybody may give a file of his to.
    let gid = rustix::process::getgid().as_raw();
    let daemon = Daemon::start(&[format!("--uds-group={gid}")]);
    assert_eq!(fs::metadata(daemon.socket()).unwrap().gid(), gid);
}

#[test]
fn a_clean_stop_removes_its_own_files_only() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = TempDir::new();
        let own = dir.path().join("acme.sock");
        let daemon = Daemon::start_in(dir, |command| {
            command.arg(format!("--uds-for=acme={}", own.display()));
        });
        assert!(is_socket(&own));
        daemon.signal(signal);
        let (status, dir) = daemon.wait();
        assert_eq!(status.code(), Some(0));
        assert!(!own.exists() && !Daemon::socket_in(&dir).exists());
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(log.contains(" info stopped "), "{log}");
    }
    // Something else has taken the path meanwhile.
    let daemon = Daemon::start(&[] as &[&str]);
    fs::remove_file(daemon.socket()).unwrap();
    let _other = UnixListener::bind(daemon.socket()).unwrap();
    daemon.signal(Signal::TERM);
    let (status, dir) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(is_socket(&Daemon::socket_in(&dir)));
}

#[test]
fn a_clean_stop_answers_what_is_in_flight() {
    let daemon = Daemon::start(&[] as &[&str]);
    let socket = daemon.socket().to_owned();
    let mut idle = daemon.connect();
    idle.send(HEALTHZ);
    assert_eq!(idle.answer(false).unwrap().unwrap().status, 200);
    let mut halfway = daemon.connect();
    halfway.send(&PUT[..PUT.len() - 2]);
    let mut asking = daemon.connect();
    asking.send(&HEALTHZ[..20]);
    sleep(Duration::from_millis(50));
    daemon.signal(Signal::TERM);
    idle.expect_end().expect("an idle connection is closed at once");
    assert!(!socket.exists(), "nobody new comes");
    halfway.send(&PUT[PUT.len() - 2..]);
    halfway.send(HEALTHZ);
    let answer = halfway.answer(false).unwrap().unwrap();
    assert_eq!((answer.status, answer.closes()), (201, true));
    halfway.expect_end().expect("closed behind the answer");
    asking.send(&HEALTHZ[20..]);
    let answer = asking.answer(false).unwrap().unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    asking.expect_end().expect("closed behind the answer");
    assert_eq!(daemon.wait().0.code(), Some(0));
}

#[test]
fn who_stands_in_line_at_a_clean_stop_is_served() {
    let daemon = Daemon::start(&[] as &[&str]);
    daemon.freeze();
    let mut waiting: Vec<Connection> = (0..100).map(|_| daemon.connect()).collect();
    for connection in &mut waiting {
        connection.send(HEALTHZ);
    }
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    for connection in &mut waiting {
        let answer = connection.answer(false).unwrap().unwrap();
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
    assert_eq!(daemon.wait().0.code(), Some(0));
}

#[test]
fn a_clean_stop_does_not_wait_for_ever_and_a_second_signal_not_at_all() {
    let stuck = |daemon: &Daemon| -> Vec<Connection> {
        let mut holder = daemon.connect();
        holder.send(PUT);
        holder.send(
            b"POST /api/v1/named/s/begin-modify HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\nBigBunny-Lock-Hold: 20000\r\n\r\n",
        );
        assert_eq!(holder.answer(false).unwrap().unwrap().status, 201);
        assert_eq!(holder.answer(false).unwrap().unwrap().status, 200);
        let mut waiter = daemon.connect();
        waiter.send(
            b"POST /api/v1/named/s/begin-modify HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\nBigBunny-Lock-Wait: 20000\r\n\r\n",
        );
        let mut halfway = daemon.connect();
        halfway.send(&PUT[..20]);
        sleep(Duration::from_millis(50));
        vec![holder, waiter, halfway]
    };
    let daemon = Daemon::start(&[] as &[&str]);
    let connections = stuck(&daemon);
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().0.code(), Some(0));
    let took = asked.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
    drop(connections);

    let daemon = Daemon::start(&[] as &[&str]);
    let connections = stuck(&daemon);
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    sleep(Duration::from_millis(20));
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().0.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_millis(800), "{:?}", asked.elapsed());
    drop(connections);
}

#[test]
fn a_customers_own_socket_is_that_customers_alone() {
    let dir = TempDir::new();
    let own = dir.path().join("acme.sock");
    let daemon = Daemon::start_in(dir, |command| {
        command.arg(format!("--uds-for=acme={}", own.display()));
    });
    let ask = |request: &str| {
        let mut connection = Connection::new(std::os::unix::net::UnixStream::connect(&own).unwrap());
        connection.send(request.as_bytes());
        connection.answer(false).unwrap().unwrap()
    };
    assert_eq!(ask("PUT /api/v1/named/s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").status, 201);
    assert_eq!(ask("GET /api/v1/named/s HTTP/1.1\r\nHost: a\r\nX-Customer-ID: acme\r\n\r\n").body, b"x");
    let foreign = ask("GET /api/v1/named/s HTTP/1.1\r\nHost: a\r\nX-Customer-ID: other\r\n\r\n");
    assert_eq!((foreign.status, foreign.header("BigBunny-Error-Code")), (403, Some("Unauthorized")));
    assert_eq!(ask("POST /internal/promote HTTP/1.1\r\nHost: a\r\n\r\n").status, 403);
    let main = daemon.ask(b"GET /api/v1/named/s HTTP/1.1\r\nHost: a\r\nX-Customer-ID: acme\r\n\r\n");
    assert_eq!(main.body, b"x");
}

#[test]
fn a_reload_changes_the_keys_and_a_bad_file_changes_nothing() {
    let dir = TempDir::new();
    let keys = dir.path().join("keys");
    let write_keys = |text: &str| {
        fs::write(&keys, text).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let key = |id: &str, digit: &str| format!("{id}:{}", digit.repeat(64));
    write_keys(&key("a", "1"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
    command.arg("--uds").arg(Daemon::socket_in(&dir)).arg("--store-keys-file").arg(&keys).env_clear();
    command.stderr(Daemon::log_in(&dir));
    let daemon = Daemon::run(dir, command);
    let create = || {
        let answer =
            daemon.ask(b"POST /api/v1/create HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body).unwrap()
    };
    let opens = |id: &str| {
        let get = format!("GET /api/v1/snapshot/{id} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n\r\n");
        daemon.ask(get.as_bytes()).status
    };
    let reload = |event: &str, times: usize| {
        daemon.signal(Signal::HUP);
        let deadline = Instant::now() + PATIENCE;
        while daemon.log().matches(event).count() < times {
            assert!(Instant::now() < deadline, "no {event}: {}", daemon.log());
            sleep(Duration::from_millis(5));
        }
    };
    let old = create();
    assert!(old.starts_with("v1:a:"));
    write_keys(&format!("{},{}", key("a", "1"), key("b", "2")));
    reload("store_keys_reloaded", 1);
    let new = create();
    assert!(new.starts_with("v1:b:"), "{new}");
    assert_eq!((opens(&old), opens(&new)), (200, 200));
    for (index, bad) in ["", "c:12", "nonsense"].into_iter().enumerate() {
        write_keys(bad);
        reload("reload_failed", index + 1);
        assert_eq!((opens(&old), opens(&new)), (200, 200));
    }
    write_keys(&key("b", "2"));
    reload("store_keys_reloaded", 2);
    assert_eq!((opens(&old), opens(&new)), (400, 200));
    let log = daemon.log();
    assert!(log.contains("store_keys_reloaded current=b added=b removed=\"\""), "{log}");
    assert!(log.contains("store_keys_reloaded current=b added=\"\" removed=a"), "{log}");
    assert!(!log.contains("2222"), "no secrets: {log}");
}

#[test]
fn a_reload_changes_the_limits() {
    let dir = TempDir::new();
    let limits = dir.path().join("limits");
    fs::write(&limits, "rate-limit=1\nburst-size=1\n").unwrap();
    let daemon = Daemon::start_in(dir, |command| {
        command.arg("--limits-file").arg(&limits);
    });
    let status = || daemon.ask(PUT).status;
    assert_eq!((status(), status()), (201, 429));
    let reload = |text: &str, event: &str| {
        fs::write(&limits, text).unwrap();
        daemon.signal(Signal::HUP);
        let deadline = Instant::now() + PATIENCE;
        while !daemon.log().contains(event) {
            assert!(Instant::now() < deadline, "no {event}: {}", daemon.log());
            sleep(Duration::from_millis(5));
        }
    };
    reload("rate-limit=0\nmemory-limit=1\n", "limits_reloaded memory_limit=1 ");
    // What is there stays and may be replaced; more than there is, is refused.
    assert_eq!((status(), status()), (200, 200));
    let another = String::from_utf8(PUT.to_vec()).unwrap().replace("/named/s", "/named/another");
    assert_eq!(daemon.ask(another.as_bytes()).status, 507);
    assert!(String::from_utf8(daemon.ask(METRICS).body).unwrap().contains("\nbbd_memory_limit_bytes 1\n"));
    reload("rate-limit=no\n", "reload_failed");
    assert_eq!(daemon.ask(another.as_bytes()).status, 507, "nothing has changed");
}

#[test]
fn a_full_or_closed_standard_error_stops_nothing() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let daemon = Daemon::start_in(TempDir::new(), |command| {
        command.arg("--log-level=debug").stderr(writer);
    });
    assert_eq!(daemon.ask(HEALTHZ).status, 200);
    drop(reader);
    daemon.signal(Signal::HUP);
    assert_eq!(daemon.ask(HEALTHZ).status, 200);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().0.code(), Some(0));
}

#[test]
fn logs_can_be_json() {
    let daemon = Daemon::start(&["--log-format=json"]);
    let log = daemon.log();
    for line in log.lines() {
        assert!(line.starts_with("{\"time\":\"20") && line.ends_with('}'), "{line}");
    }
    assert!(log.contains("\"event\":\"started\""), "{log}");
}

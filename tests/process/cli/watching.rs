//! `bbd top` and `bbd doctor` against real daemons; `top` on a real terminal too.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{bbd, run, unlimited};
use crate::support::{Daemon, PATIENCE};

#[test]
fn top_once_prints_one_screen() {
    let daemon = unlimited();
    run(&daemon, &["create", "--data=x"]).line();
    let screen = String::from_utf8(run(&daemon, &["top", "--once", "--interval=100ms"]).bytes()).unwrap();
    assert!(screen.starts_with("bbd 0.1.0   ") && screen.contains("   PRIMARY   epoch "), "{screen}");
    for name in ["requests", "latency", "memory", "stores       1 ", "locks", "connections", "operation"] {
        assert!(screen.lines().any(|line| line.starts_with(name)), "{name} in {screen}");
    }
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.len() <= 80), "{screen}");
    assert!(!screen.contains('\x1b'), "no terminal is there to be controlled");
    // The same without a terminal.
    assert_eq!(run(&daemon, &["top", "--interval=100ms"]).status, 0);
    run(&daemon, &["top", "--interval=1ms"]).fails(2, "at least 100ms");
}

/// `bbd top` on a terminal of 80x24.
struct Live {
    child: Child,
    keyboard: File,
    terminal: File,
    seen: JoinHandle<String>,
}

impl Live {
    fn start(daemon: &Daemon) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let name = std::ffi::OsStr::from_bytes(name.as_bytes());
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = bbd();
        command.env("BBD_UDS", daemon.socket()).args(["top", "--interval=100ms"]);
        command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(Stdio::null());
        let child = command.spawn().expect("bbd runs");
        let keyboard = File::from(controller);
        let mut screen = keyboard.try_clone().unwrap();
        // Somebody must look at it, or it would wait with a full screen.
        let seen = thread::spawn(move || {
            let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
            while let Ok(length) = screen.read(&mut bytes)
                && length > 0
            {
                seen.extend_from_slice(&bytes[..length]);
            }
            String::from_utf8_lossy(&seen).into_owned()
        });
        Self { child, keyboard, terminal, seen }
    }

    fn takes_keys(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn wait_until_it_takes_keys(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.takes_keys() {
            assert!(Instant::now() < deadline, "top does not start");
            thread::sleep(Duration::from_millis(5));
        }
        // Some screens.
        thread::sleep(Duration::from_millis(400));
    }

    /// Everything that was shown, after an end in good order.
    fn end(mut self) -> String {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(!self.takes_keys(), "the terminal is as it was");
        // The last one who has the terminal open leaves, which ends the reading.
        drop(self.terminal);
        drop(self.keyboard);
        self.seen.join().unwrap()
    }
}

#[test]
fn top_is_live_and_gives_the_terminal_back() {
    let daemon = unlimited();
    let mut live = Live::start(&daemon);
    live.wait_until_it_takes_keys();
    live.keyboard.write_all(b"xq").unwrap();
    let seen = live.end();
    assert!(seen.starts_with("\x1b[?1049h\x1b[?25l"), "{seen:?}");
    assert!(seen.ends_with("\x1b[?25h\x1b[?1049l"), "{seen:?}");
    assert!(seen.matches("q leaves; every 0.1 s").count() >= 2, "more than one screen: {seen:?}");
    let screen = seen.rsplit("\x1b[H").next().unwrap();
    assert_eq!(screen.matches("\r\n").count(), 23, "it fills the terminal and does not scroll it: {screen:?}");
}

#[test]
fn top_gives_the_terminal_back_when_it_is_ended_and_says_that_nobody_answers() {
    let daemon = unlimited();
    let live = Live::start(&daemon);
    live.wait_until_it_takes_keys();
    daemon.signal(Signal::TERM);
    daemon.wait();
    thread::sleep(Duration::from_millis(400));
    kill_process(Pid::from_child(&live.child), Signal::TERM).unwrap();
    let seen = live.end();
    assert!(seen.contains("NO ANSWER: ") && seen.ends_with("\x1b[?25h\x1b[?1049l"), "{seen:?}");
}

#[test]
fn the_doctor_says_what_is_wrong_to_people_and_to_programs() {
    let daemon = Daemon::start(&["--uds-mode=0666"]);
    let found = run(&daemon, &["doctor"]);
    let text = String::from_utf8(found.stdout.clone()).unwrap();
    assert_eq!((found.status, found.stderr.as_str()), (1, ""), "{text}");
    for line in ["ok    daemon", "WRONG settings", "WRONG socket", "WRONG memory limit"] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
    }
    assert!(text.ends_with(" things are wrong\n"), "{text}");
    let json = run(&daemon, &["doctor", "--json"]);
    let json = String::from_utf8(json.stdout).unwrap();
    assert!(json.starts_with("{\"wrong\":") && json.contains("\"about\":\"socket\",\"state\":\"wrong\""), "{json}");

    // Nothing is wrong with one that is set up with care.
    let dir = crate::support::TempDir::new();
    let keys = dir.path().join("keys");
    let keygen = String::from_utf8(bbd().arg("keygen").output().unwrap().stdout).unwrap();
    std::fs::write(&keys, keygen.lines().next().unwrap().strip_prefix("store-keys ").unwrap()).unwrap();
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = bbd();
    command.arg("--uds").arg(Daemon::socket_in(&dir)).arg("--store-keys-file").arg(&keys).arg("--memory-limit=16M");
    command.stdout(Stdio::null()).stderr(Daemon::log_in(&dir));
    let daemon = Daemon::run(dir, command);
    let found = run(&daemon, &["doctor"]);
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(found.status == 0 && text.ends_with("\nnothing is wrong\n"), "{text}");
    assert!(text.contains(", 0 days old\n"), "{text}");
}

//! What the daemon gives up: it is confined, the kernel says so too, and everything that it still has to do works confined. The
//! other tests run confined as well; a debug build ends where it asks for a system call that is not on its list.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Daemon, TempDir};

const STATUS: &[u8] = b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n";

/// What `/status` says of the sandbox.
fn said(daemon: &Daemon) -> String {
    let body = String::from_utf8(daemon.ask(STATUS).body).unwrap();
    body[body.find("\"seccomp\"").expect("a member seccomp")..].split(",\"pid\"").next().unwrap().to_owned()
}

/// What the kernel says of a process.
fn kernel_says(daemon: &Daemon, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn it_is_confined_unless_asked_not_to_be() {
    let daemon = Daemon::start::<&str>(&[]);
    assert_eq!(kernel_says(&daemon, "NoNewPrivs"), "1");
    if kernel_says(&daemon, "Seccomp") == "2" {
        assert!(said(&daemon).contains("\"seccomp\":\"on\""), "{}", said(&daemon));
        assert!(daemon.log().contains("seccomp=on"), "{}", daemon.log());
    } else {
        assert!(said(&daemon).contains("\"seccomp\":\"unavailable\""), "{}", said(&daemon));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);

    let open = Daemon::start(&["--no-sandbox"]);
    assert_eq!((kernel_says(&open, "Seccomp"), kernel_says(&open, "NoNewPrivs")), ("0".to_owned(), "1".to_owned()));
    assert_eq!(said(&open), "\"seccomp\":\"off\",\"landlock\":\"off\"");
    assert!(open.log().contains("--no-sandbox"), "{}", open.log());
}

/// A file that has nothing to do with the daemon is out of its reach, where Landlock is there: keys that are moved behind a link to
/// another folder after the start are not read. A folder that the keys were in at the start stays open.
#[test]
fn it_reads_its_own_key_files_and_no_others() {
    let (dir, elsewhere) = (TempDir::new(), TempDir::new());
    let key = |id: &str| format!("{id}:{}", "1".repeat(64));
    let write = |path: &std::path::Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let keys = dir.path().join("keys");
    write(&keys, &key("a"));
    write(&elsewhere.path().join("keys"), &key("c"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
    command.arg("--uds").arg(Daemon::socket_in(&dir)).arg("--store-keys-file").arg(&keys).env_clear();
    command.stderr(Daemon::log_in(&dir));
    let daemon = Daemon::run(dir, command);
    let reload = |event: &str| {
        let before = daemon.log().matches(event).count();
        daemon.signal(Signal::HUP);
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while daemon.log().matches(event).count() == before {
            assert!(std::time::Instant::now() < deadline, "no {event}: {}", daemon.log());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    // Replaced as careful editors do.
    write(&keys.with_extension("new"), &key("b"));
    fs::rename(keys.with_extension("new"), &keys).unwrap();
    reload("current=b");
    if said(&daemon).contains("\"landlock\":\"on\"") {
        fs::remove_file(&keys).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("keys"), &keys).unwrap();
        reload("reload_failed");
        assert!(daemon.log().contains("Permission denied"), "{}", daemon.log());
    }
}

/// The peer's name is resolved, on a thread that is made and reads files while the process is confined.
#[test]
fn names_are_resolved_within() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = format!("--tcp={}", listener.local_addr().unwrap());
    drop(listener);
    let daemon = Daemon::start(&["--host-id=a", &tcp, "--peers=b@localhost:9"]);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !daemon.log().contains("peer_unreachable") {
        assert!(std::time::Instant::now() < deadline, "{}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(daemon.log().contains("why=Refused") && !daemon.log().contains("not permitted"), "{}", daemon.log());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().0.signal(), None, "no system call was missed");
}

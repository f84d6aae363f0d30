//! What the daemon gives up: it is confined, the kernel says so too, and everything that it still has to do works confined. The
//! other tests run confined as well; a debug build ends where it asks for a system call that is not on its list.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::map::{Node, command as map_command, free_port, set};
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

/// A line of `/proc/PID/task/*/status`, of every thread.
fn kernel_says_of_threads(pid: u32, key: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let value =
        |status: String| status.lines().find_map(|line| line.strip_prefix(key)).map(|line| line[1..].trim().to_owned());
    statuses.filter_map(value).collect()
}

/// The cluster map is confined too, alone and beside sessions, with all of its threads, and does its work.
#[test]
fn the_cluster_map_is_confined() {
    let is_possible = kernel_says(&Daemon::start::<&str>(&[]), "Seccomp") == "2";
    for is_beside in [false, true] {
        let dir = TempDir::new();
        let port = free_port();
        let start = |arguments: &[&str]| {
            let mut command = map_command(&dir, port);
            command.args(arguments);
            if is_beside {
                command.arg("--dev").arg("--uds").arg(dir.path().join("x.sock"));
            }
            Node::run(command, port)
        };
        let node = start(&[]);
        node.insist("/write", &set("k", "v"));
        assert!(node.ask("/backup", "").1.starts_with("bbd map"));
        let modes = kernel_says_of_threads(node.child.id(), "Seccomp");
        let (landlock, log) = ("landlock=", fs::read_to_string(dir.path().join(format!("log-{port}"))).unwrap());
        let started = log.lines().find(|line| line.contains(" map_started ")).unwrap();
        assert!(started.contains(landlock) && !started.contains("landlock=off"), "{started}");
        if is_possible {
            assert!(modes.len() >= 2 && modes.iter().all(|mode| mode == "2"), "{modes:?}");
            assert!(log.contains(" seccomp=on"), "{log}");
        }
        node.kill();
        let node = start(&["--no-sandbox"]);
        assert_eq!(node.insist("/read", "\"k\""), r#"{"Ok":"v"}"#);
        let modes = kernel_says_of_threads(node.child.id(), "Seccomp");
        assert!(modes.iter().all(|mode| mode == "0"), "{modes:?}");
    }
}

/// Its tokens are read again, from where they were at the start and from nowhere else; a bad file changes nothing.
#[test]
fn the_tokens_of_the_cluster_map_are_reloaded() {
    let dir = TempDir::new();
    let (port, other_port) = (free_port(), free_port());
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("client", "one\n");
    write("internal", "alpha\n");
    let start = |port: u16| {
        let mut command = map_command(&dir, port);
        command.arg("--client-token-file").arg(dir.path().join("client"));
        command.arg("--internal-token-file").arg(dir.path().join("internal"));
        Node::run(command, port)
    };
    let node = start(port);
    let status_with = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        node.try_ask("POST", "/write", &header, &set("k", "v")).unwrap().0
    };
    let log = || fs::read_to_string(dir.path().join(format!("log-{port}"))).unwrap();
    let reload = |event: &str| {
        let before = log().matches(event).count();
        rustix::process::kill_process(rustix::process::Pid::from_child(&node.child), Signal::HUP).unwrap();
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while log().matches(event).count() == before {
            assert!(std::time::Instant::now() < deadline, "no {event}: {}", log());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    assert_eq!((status_with("one"), status_with("two")), (200, 401));
    write("client", "two");
    reload("client_token_reloaded");
    assert_eq!((status_with("one"), status_with("two")), (401, 200));
    assert!(!log().contains("internal_token_reloaded"), "{}", log());
    write("client", "three\nlines");
    write("internal", "beta");
    reload("reload_failed");
    assert_eq!((status_with("two"), status_with("three")), (200, 401));
    write("client", "two");
    reload("internal_token_reloaded");
    // A node with the new token is let in, one with the old one is not.
    let header = "Authorization: Bearer two\r\n";
    let add = |other: &Node| {
        let id = other.try_ask("GET", "/get-id", header, "").unwrap().1;
        let body = format!("[{id},\"127.0.0.1:{}\"]", other.port);
        node.try_ask("POST", "/add-learner", header, &body).unwrap()
    };
    let other = start(other_port);
    assert_eq!(add(&other), (200, r#"{"Ok":"Added"}"#.to_owned()));
    write("internal", "alpha");
    let stranger = start(free_port());
    let id = stranger.try_ask("GET", "/get-id", header, "").unwrap().1;
    let mut asked = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = format!("[{id},\"127.0.0.1:{}\"]", stranger.port);
    let head = format!("POST /add-learner HTTP/1.1\r\nHost: a\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    std::io::Write::write_all(&mut asked, format!("{head}{body}").as_bytes()).unwrap();
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !log().contains("map_link_failed") {
        assert!(std::time::Instant::now() < deadline, "{}", log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(stranger.try_ask("GET", "/metrics", header, "").unwrap().1.contains("\"cluster\":null"));
}

//! What happens to socket files: fault 12.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::history::{check_at_rest, converge, leave_mark};
use crate::site::{Name, Site, await_role, figure, role};
use crate::support::{Daemon, TempDir};

const OF: &str = "12 socket file";

#[test]
#[ignore = "with all the others: scripts/faults"]
fn a_socket_file_that_is_removed_or_replaced() {
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    let mut before = a.connect();
    fs::remove_file(a.socket()).unwrap();
    before.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(before.answer(false).unwrap().unwrap().status, 200, "who is connected stays connected");
    leave_mark(&b, "m");
    // Somebody else takes the place, and keeps it.
    let other = UnixListener::bind(a.socket()).unwrap();
    leave_mark(&b, "n");
    assert_eq!(role(&b), "SECONDARY", "the pair does not need it");
    let used = crate::site::idle_use(&[&a, &b]);
    assert!(used < 0.25, "{used} of a core");
    a.signal(Signal::TERM);
    let (status, dir) = a.wait();
    assert!(status.success());
    assert!(dir.path().join("x.sock").exists(), "what is not its own is not removed");
    await_role(&b, "PRIMARY");
    drop(other);
    let a = site.start_in(dir, Name::A);
    converge(&a, &b);
    check_at_rest([&a, &b]);
    figure(OF, "removed, and replaced, at the primary", "the pair goes on, and the other's file stays");
}

#[test]
fn a_socket_file_that_is_stale_or_answered() {
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    leave_mark(&a, "m");
    a.signal(Signal::KILL);
    let (_, dir) = a.wait();
    assert!(dir.path().join("x.sock").exists(), "it is stale");
    let a = site.start_in(dir, Name::A);
    converge(&a, &b);
    // A second daemon on the same path, with nothing to do with the pair.
    let elsewhere = TempDir::new();
    let mut command = Command::new(Daemon::command_in(&elsewhere).get_program());
    command.args(["--dev", "--host-id=c", "--uds"]).arg(a.socket()).env_clear();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("x.sock"), "it says which: {said}");
    std::thread::sleep(Duration::from_millis(100));
    leave_mark(&a, "n");
    converge(&a, &b);
    check_at_rest([&a, &b]);
    figure(OF, "stale at the start; answered by another daemon", "taken over; refused, and the other goes on");
}

//! Locks, and `bbd modify`.

use std::process::Stdio;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::{bbd, run, run_with, unlimited};
use crate::support::{Daemon, PATIENCE};

#[test]
fn begin_and_complete() {
    let daemon = unlimited();
    let id = run(&daemon, &["create", "--data=one"]).line();
    let lock = run(&daemon, &["begin-modify", "--hold=20000", &id]).line();
    assert_eq!(lock.len(), 22, "{lock}");
    run(&daemon, &["update", "--data=x", &id]).fails(3, "StoreLocked");
    run(&daemon, &["begin-modify", &id]).fails(3, "StoreLocked");
    let other = "A".repeat(22);
    run(&daemon, &["complete-modify", "--lock", &other, "--data=x", &id]).fails(3, "LockMismatch");
    run(&daemon, &["cancel-modify", "--lock", &other, &id]).fails(3, "LockMismatch");
    run(&daemon, &["complete-modify", "--lock", "not a lock", "--data=x", &id]).fails(2, "--lock");
    run_with(&daemon, &["complete-modify", &id, "--ttl=30", "--lock", &lock], b"two").done();
    let got = run(&daemon, &["get", "--ttl", &id]);
    assert_eq!((got.stdout.as_slice(), got.stderr.as_str()), (&b"two"[..], "30\n"));
    run(&daemon, &["complete-modify", "--lock", &lock, "--data=x", &id]).fails(3, "LockMismatch");

    let begun = run(&daemon, &["begin-modify", "--data", &id]);
    let lock = String::from_utf8(begun.stdout).unwrap();
    assert_eq!((begun.status, begun.stderr.as_str()), (0, "two"));
    run(&daemon, &["cancel-modify", "--lock", lock.trim_end(), &id]).done();
    run(&daemon, &["cancel-modify", "--lock", lock.trim_end(), &id]).done();
    run(&daemon, &["begin-modify", "--hold=30001", &id]).fails(2, "BigBunny-Lock-Hold");
}

#[test]
fn a_lock_is_dropped_by_the_operator() {
    let daemon = unlimited();
    let id = run(&daemon, &["create", "--data=one", "--customer=acme"]).line();
    let lock = run(&daemon, &["begin-modify", "--hold=20000", "--customer=acme", &id]).line();
    run(&daemon, &["release-lock", &id]).done();
    run(&daemon, &["complete-modify", "--customer=acme", "--lock", &lock, "--data=x", &id]).fails(3, "LockMismatch");
    run(&daemon, &["update", "--customer=acme", "--data=two", &id]).done();
    run(&daemon, &["release-lock", &id]).fails(1, "NotFound");
    run(&daemon, &["release-lock", "v1:0:nonsense"]).fails(1, "NotFound");
}

#[test]
fn a_program_changes_a_blob() {
    let daemon = unlimited();
    let id = run(&daemon, &["create", "--data=one two"]).line();
    run(&daemon, &["modify", &id, "--", "tr", "a-z", "A-Z"]).done();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"ONE TWO");
    // Flags of the program need the dashes in front, words do not.
    run(&daemon, &["modify", &id, "--ttl=70", "tr", "A-Z", "a-z"]).done();
    let got = run(&daemon, &["get", "--ttl", &id]);
    assert_eq!((got.stdout.as_slice(), got.stderr.as_str()), (&b"one two"[..], "70\n"));
    // One that reads nothing, and one that says something on standard error.
    run(&daemon, &["modify", &id, "--", "echo", "-n", "three"]).done();
    let loud = run(&daemon, &["modify", &id, "--", "sh", "-c", "echo hint >&2; cat"]);
    assert_eq!((loud.status, loud.stderr.as_str()), (0, "hint\n"));
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"three");
    run(&daemon, &["modify", "v1:0:x", "--", "cat"]).fails(2, "no store id");
    run(&daemon, &["delete", &id]).done();
    run(&daemon, &["modify", &id, "--", "cat"]).fails(1, "NotFound");
}

#[test]
fn a_program_that_fails_changes_nothing() {
    let daemon = Daemon::start(&["--rate-limit=0", "--lock-timeout=20s"]);
    let id = run(&daemon, &["create", "--data=one"]).line();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["sh", "-c", "echo two; exit 7"], 7, "status 7"),
        (&["sh", "-c", "kill -TERM $$"], 143, "signal 15"),
        (&["/nonexistent/program"], 127, "cannot be run"),
        (&["/dev/null"], 126, "cannot be run"),
        (&["false"], 1, "status 1"),
        (&["head", "-c", "3000000", "/dev/zero"], 4, "more than any store"),
    ];
    for (program, status, message) in cases {
        run(&daemon, &[&["modify", &id, "--"], program].concat()).fails(status, message);
        assert_eq!(run(&daemon, &["get", &id]).bytes(), b"one", "{program:?}");
        // The lock would last for 20 s.
        run(&daemon, &["update", "--data=one", &id]).done();
    }
    run(&daemon, &["modify", &id, "--", "head", "-c", "3000", "/dev/zero"]).fails(4, "");
    run(&daemon, &["update", "--data=one", &id]).done();
}

#[test]
fn a_program_that_is_too_slow_changes_nothing() {
    let daemon = Daemon::start(&["--rate-limit=0", "--lock-timeout=100ms"]);
    let id = run(&daemon, &["create", "--data=one"]).line();
    run(&daemon, &["modify", &id, "--", "sh", "-c", "sleep 0.3; echo two"]).fails(3, "--hold");
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"one");
    run(&daemon, &["modify", "--hold", "5000", &id, "--", "sh", "-c", "sleep 0.3; echo two"]).done();
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"two\n");
}

#[test]
fn programs_wait_for_each_other() {
    let daemon = Daemon::start(&["--rate-limit=0", "--lock-timeout=10s"]);
    let id = run(&daemon, &["create", "--data="]).line();
    let begun = Instant::now();
    run(&daemon, &["begin-modify", "--hold=300", &id]).line();
    scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    run(&daemon, &["modify", &id, "--", "sh", "-c", "cat; printf x"]).done();
                }
            });
        }
    });
    assert!(begun.elapsed() >= Duration::from_millis(300), "they did not wait for the first lock");
    assert_eq!(run(&daemon, &["get", &id]).bytes(), [b'x'; 32]);
}

#[test]
fn a_killed_modify_frees_its_lock() {
    let daemon = Daemon::start(&["--rate-limit=0", "--lock-timeout=25s"]);
    let id = run(&daemon, &["create", "--data=one"]).line();
    let mut modify = bbd();
    modify.env("BBD_UDS", daemon.socket()).args(["modify", &id, "--", "sh", "-c", "sleep 1; cat"]);
    let mut modify = modify.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while run(&daemon, &["update", "--data=one", &id]).status != 3 {
        assert!(Instant::now() < deadline, "modify never took the lock");
        sleep(Duration::from_millis(5));
    }
    modify.kill().unwrap();
    modify.wait().unwrap();
    while run(&daemon, &["update", "--data=two", &id]).status != 0 {
        assert!(Instant::now() < deadline, "the lock outlived its holder");
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(1100));
    assert_eq!(run(&daemon, &["get", &id]).bytes(), b"two");
}

//! The exit statuses that need a daemon with limits, none at all, or one that may not be asked.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use super::{Ran, bbd, run, run_at, run_with, unlimited};
use crate::support::{Daemon, TempDir};

#[test]
fn limits_end_with_4() {
    let daemon = Daemon::start(&["--rate-limit=1", "--burst-size=2"]);
    let id = run(&daemon, &["create", "--data=x"]).line();
    run(&daemon, &["get", &id]).bytes();
    run(&daemon, &["get", &id]).fails(4, "RateLimited");
    let daemon = Daemon::start(&["--memory-limit=4K", "--max-store-size=10K"]);
    run_with(&daemon, &["create"], &[b'x'; 5000]).fails(4, "CapacityExceeded");
    run_with(&daemon, &["create"], &[b'x'; 20_000]).fails(4, "413");
    run_with(&daemon, &["create"], &vec![b'x'; 5_000_000]).fails(4, "413");
    let daemon = Daemon::start(&["--customer-memory-quota=1K"]);
    run_with(&daemon, &["create"], &[b'x'; 2000]).fails(4, "CustomerQuotaExceeded");
    let daemon = Daemon::start(&["--tombstone-customer-limit=1"]);
    for status in [0, 4] {
        let id = run(&daemon, &["create", "--data=x"]).line();
        assert_eq!(run(&daemon, &["delete", &id]).status, status);
    }
}

#[test]
fn no_daemon_ends_with_5() {
    let directory = TempDir::new();
    let socket = directory.path().join("x.sock");
    run_at(&socket, &["status"]).fails(5, "no such file");
    run_at(&directory.path().join("none/x.sock"), &["status"]).fails(5, "no such file");
    fs::write(&socket, "").unwrap();
    assert_eq!(run_at(&socket, &["status"]).status, 5);
    fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    run_at(&socket, &["modify", "v1:0:x", "--", "cat"]).fails(5, "nobody answers");
    fs::remove_file(&socket).unwrap();
    // One that closes without an answer, and one that is no bbd.
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
        });
        run_at(&socket, &["status"]).fails(5, "without an answer");
        scope.spawn(|| {
            use std::io::Write;
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap();
        });
        run_at(&socket, &["status"]).fails(70, "no bbd");
    });
    // One that accepts and says nothing.
    run_at(&socket, &["status"]).fails(5, "in time");
}

#[test]
fn no_permission_ends_with_6() {
    let daemon = unlimited();
    let owner = fs::metadata(daemon.socket()).unwrap().uid();
    let mut command = bbd();
    command.arg("status").env("BBD_UDS", daemon.socket());
    if owner == 0 {
        // The superuser may do anything, so somebody else asks.
        command.uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let Ok(output) = command.output() else {
        // The other user may not even run the binary where this was built.
        return;
    };
    let ran = Ran::new(output);
    assert!(ran.stderr.contains(if owner == 0 { "mode 0600, owner root" } else { "mode 0000" }), "{ran:?}");
    ran.fails(6, "may not connect");

    if owner == 0 {
        fs::set_permissions(daemon.socket().parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        Ran::new(command.output().unwrap()).fails(6, "the directory");
    }
    let directory = TempDir::new();
    let socket = directory.path().join("acme.sock");
    let _daemon = Daemon::start(&[format!("--uds-for=acme={}", socket.display())]);
    run_at(&socket, &["create", "--data=x", "--customer=acme"]).line();
    run_at(&socket, &["create", "--data=x"]).fails(6, "Unauthorized");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let daemon = unlimited();
    let id = run_with(&daemon, &["create"], &[b'x'; 2000]).line();
    for args in [&["get", &id][..], &["help"], &["named", "list"], &["keygen"]] {
        let mut command = bbd();
        command.args(args).env("BBD_UDS", daemon.socket()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        Ran::new(child.wait_with_output().unwrap()).done();
    }
    let mut command = bbd();
    command.args(["get", &id]).env("BBD_UDS", daemon.socket());
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    Ran::new(command.output().unwrap()).fails(70, "standard output");
}

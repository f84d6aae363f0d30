//! Status, keys, help, and the start of the daemon as the command line asks for it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use bigbunny::cli::commands::COMMANDS;
use bigbunny::config::flags::FLAGS;

use super::{Ran, bbd, run, run_at, unlimited};
use crate::support::TempDir;

#[test]
fn status_for_people_and_for_programs() {
    let daemon = unlimited();
    run(&daemon, &["create", "--data=x"]).line();
    let json = run(&daemon, &["status", "--json"]).line();
    assert!(json.starts_with('{') && json.ends_with('}') && json.contains(r#""role":"PRIMARY""#), "{json}");
    let text = String::from_utf8(run(&daemon, &["status"]).bytes()).unwrap();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key} in {text}")).split_whitespace().nth(1).unwrap_or_default()
    };
    assert_eq!((value("role"), value("site"), value("store_count"), value("peers")), ("PRIMARY", "local", "1", "none"));
    assert_eq!(text.lines().count(), json.matches("\":").count(), "{text}");
    run(&daemon, &["promote"]).done();
    run(&daemon, &["promote", "--force"]).done();
}

/// What a node of two may answer to `bbd promote`, and to a change: played, since each of it is rare.
#[test]
fn a_node_that_does_not_promote_says_what_to_do() {
    let refused = |code: &str, line: &str| {
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nBigBunny-Error-Code: {code}\r\nRetry-After: 1\r\n\
             Content-Length: {}\r\n\r\n{line}\n",
            line.len() + 1
        )
    };
    let promote = "POST /internal/promote HTTP/1.1";
    let force = "POST /internal/promote?force=true HTTP/1.1";
    let create = "POST /api/v1/create HTTP/1.1";
    for (args, asked, code, line, told) in [
        (&["promote"][..], promote, "StoreUnavailable", "not now", "does not have the data yet"),
        (&["promote", "--force=false"], promote, "LeaderChanged", "not now", "did not hand over"),
        (&["promote", "--force"], force, "LeaderChanged", "not now", "see bbd status"),
        (&["create", "--data=x"], create, "LeaderChanged", "changing places", "LeaderChanged: changing places"),
        (&["create", "--data=x"], create, "StoreUnavailable", "not now", "StoreUnavailable: not now"),
        (&["create", "--data=x"], create, "NotReplicated", "it may survive", "NotReplicated: it may survive"),
    ] {
        let directory = TempDir::new();
        let socket = directory.path().join("x.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            let player = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap();
                stream.write_all(refused(code, line).as_bytes()).unwrap();
                String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned()
            });
            run_at(&socket, args).fails(5, told);
            assert_eq!(player.join().unwrap(), asked);
        });
    }
}

#[test]
fn generated_keys_are_what_the_daemon_takes() {
    let keygen = |args: &[&str]| String::from_utf8(Ran::new(bbd().args(args).output().unwrap()).bytes()).unwrap();
    let (first, second) = (keygen(&["keygen", "--env"]), keygen(&["keygen", "--env"]));
    assert_ne!(first, second);
    let mut check = bbd();
    for line in first.lines() {
        let (name, value) = line.split_once('=').unwrap();
        check.env(name, value);
    }
    let checked = Ran::new(check.arg("--check-config").output().unwrap());
    assert_eq!((checked.status, checked.stderr.as_str()), (0, ""), "{checked:?}");
    let report = String::from_utf8(checked.stdout).unwrap();
    assert!(report.contains(":(secret)") && report.contains("# BBD_STORE_KEYS"), "{report}");
    assert!(first.lines().all(|line| !report.contains(&line[line.len() - 16..])), "{report}");

    let plain = keygen(&["keygen"]);
    let directory = TempDir::new();
    for line in plain.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        fs::write(directory.path().join(name), value).unwrap();
        fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut check = bbd();
    check.arg("--check-config").env("CREDENTIALS_DIRECTORY", directory.path());
    assert_eq!(Ran::new(check.output().unwrap()).status, 0);
    let mut check = bbd();
    check.arg("--check-config").arg("--store-keys-file").arg(directory.path().join("store-keys"));
    check.arg("-internal-token-file").arg(directory.path().join("internal-token"));
    assert_eq!(Ran::new(check.output().unwrap()).status, 0);
}

#[test]
fn help_of_everything() {
    let everything = |args: &[&str]| String::from_utf8(Ran::new(bbd().args(args).output().unwrap()).bytes()).unwrap();
    let text = everything(&["help"]);
    for args in [&["--help"][..], &["-h"], &["-help"], &["--dev", "--help"], &["--site=", "-h"]] {
        assert_eq!(everything(args), text, "{args:?}");
    }
    for command in COMMANDS {
        assert!(text.contains(command.help), "{}", command.name);
        let words: Vec<&str> = command.name.split(' ').collect();
        let own = everything(&[&["help"], words.as_slice()].concat());
        assert!(own.starts_with(&format!("Usage: bbd {}", command.name)) && own.contains(command.help), "{own}");
        for help in ["--help", "-h", "-help"] {
            assert_eq!(everything(&[words.as_slice(), &[help]].concat()), own);
            let place = if command.asks_map() { "--addr=x" } else { "--uds=x" };
            assert_eq!(everything(&[words.as_slice(), &["argument", help, place]].concat()), own);
        }
    }
    for flag in FLAGS {
        assert!(text.contains(&format!("--{}", flag.name)) && text.contains(flag.help), "{}", flag.name);
    }
    assert!(everything(&["help", "named"]).contains("named increment"));
    assert!(everything(&["help", "cluster"]).contains("cluster backup"));
    let version = concat!("bbd ", env!("CARGO_PKG_VERSION"), "\n");
    for args in [["version"], ["--version"], ["-version"]] {
        assert_eq!(everything(&args), version, "{args:?}");
    }
    let alone = Ran::new(bbd().output().unwrap());
    assert_eq!((alone.status, alone.stdout.as_slice()), (2, &b""[..]));
    assert!(alone.stderr.starts_with("Usage: bbd"), "{alone:?}");
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let directory = TempDir::new();
    let socket = directory.path().join("x.sock");
    let mut command = bbd();
    command.args(["--dev", "--check-config", "-site", "fra", "--internal-token=opensesame"]).env("BBD_UDS", &socket);
    let checked = Ran::new(command.output().unwrap());
    let report = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status, 0);
    assert_eq!(report.lines().count(), FLAGS.len());
    assert!(report.contains(socket.to_str().unwrap()) && report.contains("# BBD_UDS"), "{report}");
    assert!(!socket.exists(), "it was started");
    assert_eq!(checked.stderr.lines().count(), 2, "a warning for --dev and one for the token: {}", checked.stderr);
    assert!(!format!("{report}{}", checked.stderr).contains("opensesame"));
}

/// Every flag of the daemon with every kind of nonsense: nothing starts, and the flag is named.
#[test]
fn a_daemon_with_nonsense_does_not_start() {
    let directory = TempDir::new();
    let socket = directory.path().join("x.sock");
    let starts_not = |args: &[String], name: &str| {
        let mut command = bbd();
        command.arg("--dev").arg("--check-config").args(args);
        if name != "uds" {
            command.env("BBD_UDS", &socket);
        }
        Ran::new(command.output().unwrap()).fails(2, &format!("--{name}"));
        assert!(!socket.exists(), "{args:?}");
    };
    for flag in FLAGS {
        let name = flag.name;
        if flag.value_name.is_some() {
            starts_not(&[format!("--{name}")], name);
        }
        starts_not(&[format!("--{name}=")], name);
        // These may be anything that is not empty.
        if !["uds", "data-dir", "internal-token", "routing-secret"].contains(&name) {
            starts_not(&[format!("-{name}=non sense\u{1b}[2J")], name);
        }
    }
    for (args, message) in [
        (&["--nonsense"][..], "unknown flag --nonsense"),
        (&["--metrics-listen=:9"], "--metrics-listen: "),
        (&["-x"], "unknown flag --x"),
        (&["-5"], "unknown flag -5"),
        (&["status"], "\"status\""),
        (&["--", "status"], "\"status\""),
    ] {
        Ran::new(bbd().arg("--dev").args(args).output().unwrap()).fails(2, message);
    }
    Ran::new(bbd().arg("--site=fra").output().unwrap()).fails(2, "bbd keygen");
}

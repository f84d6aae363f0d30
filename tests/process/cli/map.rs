//! The commands about the cluster map, against real nodes: what they print where, and how they end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use super::{NO_ADDR, Ran, bbd};
use crate::map::{Node, command, free_port};
use crate::support::{PATIENCE, TempDir};

fn addr_of(node: &Node) -> String {
    format!("127.0.0.1:{}", node.port)
}

/// A command that asks this node.
fn asking(node: &Node, args: &[&str]) -> Command {
    let mut command = bbd();
    command.env("BBD_ADDR", addr_of(node)).args(args);
    command
}

fn run(node: &Node, args: &[&str]) -> Ran {
    Ran::new(asking(node, args).output().expect("bbd runs"))
}

fn run_with(node: &Node, args: &[&str], input: &[u8]) -> Ran {
    let mut child =
        asking(node, args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    Ran::new(child.wait_with_output().expect("bbd ends"))
}

/// Runs it until it ends well, as a script would that is told to try again.
fn insist(node: &Node, args: &[&str]) -> Ran {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let ran = run(node, args);
        if ran.status == 0 || Instant::now() > deadline {
            return ran;
        }
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn keys_are_written_and_read() {
    let dir = TempDir::new();
    let node = Node::start(&dir, free_port());
    // A node that nobody made a cluster of does so itself at its first write.
    assert_eq!(run(&node, &["kv", "set", "--data", "one", "k"]).line(), "3");
    assert_eq!(run(&node, &["kv", "get", "k"]).bytes(), b"one");
    let stale = run(&node, &["kv", "get", "--stale", "k"]);
    assert_eq!((stale.status, &stale.stdout[..]), (0, &b"one"[..]));
    assert!(stale.stderr.starts_with("as of ") && stale.stderr.ends_with(" ms ago\n"), "{stale:?}");
    run(&node, &["kv", "get", "nobody"]).fails(1, "KeyNotFound: there is no such key");

    let awkward = "a \"value\"\nof \\ two\u{1} lines, é\n";
    run_with(&node, &["kv", "set", "a key\"é"], awkward.as_bytes()).line();
    assert_eq!(run(&node, &["kv", "get", "a key\"é"]).bytes(), awkward.as_bytes());
    run_with(&node, &["kv", "set", "k"], b"\xff").fails(2, "UTF-8");
    run_with(&node, &["kv", "set", "k"], &vec![b'x'; 70_000]).fails(4, "TooLarge");
    run(&node, &["kv", "get", &"x".repeat(513)]).fails(4, "TooLarge");

    run(&node, &["kv", "cas", "--data", "two", "k"]).fails(3, "CasMismatch: nothing was changed: the value is \"one\"");
    run(&node, &["kv", "cas", "--expect", "one", "--data", "two", "k"]).line();
    assert_eq!(run(&node, &["kv", "get", "k"]).bytes(), b"two");
    run(&node, &["kv", "cas", "--data", "new", "fresh"]).line();
    run(&node, &["kv", "cas", "--expect", "x", "--data", "y", "nobody"]).fails(3, "there is no such key");
    run(&node, &["kv", "delete", "--expect", "other", "fresh"]).fails(3, "the value is \"new\"");
    run(&node, &["kv", "delete", "--expect", "new", "fresh"]).line();
    run(&node, &["kv", "delete", "fresh"]).line();
    run(&node, &["kv", "get", "fresh"]).fails(1, "KeyNotFound");
}

#[test]
fn keys_are_listed_and_watched() {
    let dir = TempDir::new();
    let node = Node::start(&dir, free_port());
    for key in ["p/a", "p/b", "p/c", "q"] {
        run(&node, &["kv", "set", "--data", &format!("of\n{key}"), key]).line();
    }
    let list = |args: &[&str]| String::from_utf8(run(&node, &[&["kv", "list"], args].concat()).bytes()).unwrap();
    assert_eq!(list(&[]), "p/a\np/b\np/c\nq\n");
    assert_eq!(list(&["--prefix", "p/", "--after", "p/a"]), "p/b\np/c\n");
    assert_eq!(list(&["--limit", "2"]), "p/a\np/b\n");
    assert_eq!(list(&["--prefix", "none"]), "");
    assert_eq!(list(&["--json", "--after", "p/c"]), "[\"q\",\"of\\nq\"]\n");
    // More than one page.
    let changes: Vec<String> =
        (0..300).map(|at| format!(r#"{{"Set":{{"key":"many/{at:04}","value":"1"}}}}"#)).collect();
    for part in 0..4 {
        let batch = changes.join(",").replace("many/", &format!("many/{part}-"));
        let body = format!(r#"{{"Batch":[{batch}]}}"#);
        assert_eq!(node.ask("/write", &body).0, 200);
    }
    assert_eq!(list(&["--prefix", "many/"]).lines().count(), 1200);
    assert_eq!(list(&["--prefix", "many/", "--limit", "1100"]).lines().count(), 1100);

    let past = run(&node, &["kv", "watch", "--prefix", "p/", "--from", "0", "--limit", "2"]).line();
    assert_eq!(
        past,
        "{\"index\":3,\"key\":\"p/a\",\"value\":\"of\\np/a\"}\n{\"index\":4,\"key\":\"p/b\",\"value\":\"of\\np/b\"}"
    );
    // What is still to come is printed as it comes.
    let mut watch = asking(&node, &["kv", "watch", "--prefix", "w é", "--limit", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while watch.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not see what happens");
        run(&node, &["kv", "set", "--data", "x", "w é"]).line();
        run(&node, &["kv", "delete", "w é"]).line();
        sleep(Duration::from_millis(20));
    }
    let seen = Ran::new(watch.wait_with_output().unwrap()).line();
    assert!(seen.contains(r#""key":"w é","value":"x"}"#) && seen.contains(r#""key":"w é","value":null}"#), "{seen}");
}

#[test]
fn a_cluster_is_made_changed_and_backed_up() {
    let dir = TempDir::new();
    let (first, second) = (Node::start(&dir, free_port()), Node::start(&dir, free_port()));
    let path = dir.path().join("map.backup");
    let file = path.to_str().unwrap();
    run(&first, &["cluster", "backup", file]).fails(3, "belongs to no cluster");
    run(&first, &["cluster", "init"]).done();
    run(&first, &["cluster", "init"]).fails(3, "belongs to a cluster already");
    run(&first, &["kv", "set", "--data", "v", "k"]).line();

    let status = run(&first, &["cluster", "status"]).line();
    assert!(status.lines().any(|line| line.split_whitespace().eq(["state", "Leader"])), "{status}");
    assert!(status.ends_with(" votes, leads") && !status.contains('{'), "{status}");
    let status = run(&first, &["cluster", "status", "--json"]).line();
    assert!(status.starts_with("{\"Ok\":{") && status.contains("\"state\":\"Leader\""), "{status}");

    run(&first, &["cluster", "add", NO_ADDR]).fails(5, NO_ADDR);
    run(&first, &["cluster", "add", "nowhere"]).fails(2, "HOST:PORT");
    let id = run(&first, &["cluster", "add", &addr_of(&second)]).line();
    assert_eq!(format!("\"{id}\""), second.ask("/get-id", "").1);
    run(&first, &["cluster", "remove", &id]).done();
    run(&first, &["cluster", "remove", &id]).fails(1, "is no member");
    assert_eq!(run(&first, &["cluster", "add", &addr_of(&second)]).line(), id);
    let status = run(&first, &["cluster", "status"]).line();
    let learner = format!("{:<24}{} {id} learns, has entry ", "member", addr_of(&second));
    assert!(status.lines().any(|line| line.starts_with(&learner) && line.ends_with(" ms ago")), "{status}");
    run(&first, &["cluster", "promote", "nobody"]).fails(1, &format!("{id} at {}", addr_of(&second)));
    run(&first, &["cluster", "transfer", "nobody"]).fails(1, "is no member");
    run(&second, &["cluster", "promote", &addr_of(&second)]).done();
    insist(&second, &["cluster", "transfer", &id]).done();
    let leads = || run(&second, &["cluster", "status", "--json"]).line().contains("\"state\":\"Leader\"");
    let deadline = Instant::now() + PATIENCE;
    while !leads() {
        assert!(Instant::now() < deadline, "it does not lead");
        sleep(Duration::from_millis(20));
    }
    insist(&first, &["cluster", "transfer"]).done();
    assert_eq!(insist(&second, &["kv", "get", "k"]).bytes(), b"v");
    run(&first, &["cluster", "remove", &id, &addr_of(&first)]).fails(2, "nobody would be left");

    // A backup replaces the one before, and only as a whole.
    fs::write(&path, "old").unwrap();
    let index: u64 = run(&first, &["cluster", "backup", file]).line().parse().unwrap();
    assert!(index >= 3, "{index}");
    assert!(fs::read(&path).unwrap().starts_with(b"bbd map\x01"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let nowhere = dir.path().join("nowhere/map.backup");
    run(&first, &["cluster", "backup", nowhere.to_str().unwrap()]).fails(70, "cannot be written");

    // One of two alone has no leader, and says so; what it has can still be read.
    let port = second.kill();
    let deadline = Instant::now() + PATIENCE;
    while run(&first, &["cluster", "status", "--json"]).line().contains("\"state\":\"Leader\"") {
        assert!(Instant::now() < deadline, "it still leads");
        sleep(Duration::from_millis(20));
    }
    run(&first, &["kv", "get", "k"]).fails(5, "NoLeader");
    assert_eq!(run(&first, &["kv", "get", "--stale", "k"]).stdout, b"v");
    let second = Node::start(&dir, port);
    insist(&first, &["kv", "get", "k"]).bytes();
    insist(&first, &["cluster", "remove", &id]).done();
    assert_eq!(insist(&first, &["kv", "get", "k"]).bytes(), b"v");
    drop(second);
}

#[test]
fn the_client_token_is_sent() {
    let dir = TempDir::new();
    let port = free_port();
    let mut guarded = command(&dir, port);
    guarded.env("BBD_CLIENT_TOKEN", "secret words");
    let node = Node::run(guarded, port);
    let file = dir.path().join("token");
    let path = file.to_str().unwrap();
    fs::write(&file, "secret words\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    run(&node, &["kv", "list"]).fails(6, "--client-token-file");
    run(&node, &["kv", "list", "--client-token-file", path]).fails(2, "mode 0644");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    run(&node, &["kv", "set", "--data", "v", "k", "--client-token-file", path]).line();
    let with = |name: &str, value: &str, args: &[&str]| {
        Ran::new(asking(&node, args).env(name, value).output().expect("bbd runs"))
    };
    let get = ["kv", "get", "k"];
    assert_eq!(with("BBD_CLIENT_TOKEN", "secret words", &get).bytes(), b"v");
    assert_eq!(with("BBD_CLIENT_TOKEN_FILE", path, &get).bytes(), b"v");
    with("BBD_CLIENT_TOKEN", "secret word", &get).fails(6, "Unauthorized");
    // The command line wins.
    let named = ["kv", "get", "k", "--client-token-file", path];
    assert_eq!(with("BBD_CLIENT_TOKEN", "secret word", &named).bytes(), b"v");
}

/// Something else answers there, or nobody.
#[test]
fn what_is_no_cluster_map_is_told() {
    let get = |addr: &str| Ran::new(bbd().args(["kv", "get", "k", "--addr", addr]).output().unwrap());
    get(NO_ADDR).fails(5, "nobody answers; start bbd with --bind-addr");
    get("name.invalid:8080").fails(5, "name.invalid:8080");
    for (answer, status, message) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 70, "none of a cluster map"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", 70, "HTTP status 404"),
        ("HTTP/1.1 502 Bad\r\nContent-Length: 10\r\n\r\n{\"Err\":{}}", 70, "HTTP status 502"),
        ("SSH-2.0-OpenSSH\r\n", 70, "is no bbd"),
        ("", 5, "closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let server = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        get(&addr).fails(status, message);
        server.join().unwrap();
    }
}

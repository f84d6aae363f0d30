//! The cluster map against somebody hostile: whatever is sent to it, it answers what is wrong, lives, and serves everybody else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::map::{Node, command, free_port, set};
use crate::support::TempDir;

/// Sends bytes, and returns all that comes back until the other end closes or is silent.
fn send(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // It may have been closed before all was sent.
    let _ = stream.write_all(bytes);
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn bad_bodies_are_refused_by_name_and_change_nothing() {
    let dir = TempDir::new();
    let node = Node::start(&dir, free_port());
    node.insist("/write", &set("k", "v"));
    let before = node.ask("/list", "{}");
    let batch = |count: usize| format!(r#"{{"Batch":[{}]}}"#, vec![set("a", "b"); count].join(","));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = |bytes: usize| "x".repeat(bytes);
    for (target, body, status, expected) in [
        ("/write", "{".to_owned(), 400, "at byte"),
        ("/write", "null".to_owned(), 400, "BadRequest"),
        ("/write", deep.clone(), 400, "at byte"),
        ("/write", r#"{"Set":{"key":"a","value":"b"}} x"#.to_owned(), 400, "at byte"),
        ("/write", r#"{"Set":{"key":"a","key":"b","value":"c"}}"#.to_owned(), 400, "stands twice"),
        ("/write", r#"{"Set":{"key":"\ud800","value":"c"}}"#.to_owned(), 400, "BadRequest"),
        ("/write", r#"{"Set":{"key":"","value":"c"}}"#.to_owned(), 400, "BadRequest"),
        ("/write", format!(r#"{{"Batch":[{}]}}"#, batch(1)), 400, "BadRequest"),
        ("/write", batch(501), 413, "at most 500"),
        ("/write", set(&long(513), "v"), 413, "512"),
        ("/write", set("a", &long(65_537)), 413, "65536"),
        ("/write", long(7 * 1024 * 1024), 413, "too large"),
        ("/read", format!("\"{}\"", long(513)), 413, "512"),
        ("/list", r#"{"limit":-1}"#.to_owned(), 400, "limit"),
        ("/add-learner", deep, 400, "BadRequest"),
        ("/change-membership", format!("[{}]", vec!["\"x\""; 65].join(",")), 400, "UUID"),
        ("/remove-learner", "[]".to_owned(), 400, "BadRequest"),
        ("/watch?from=x", String::new(), 400, "from"),
        ("/read?consistency=none", "\"k\"".to_owned(), 400, "consistency"),
    ] {
        let (found, answer) = node.ask(target, &body);
        let shown = &body[..body.len().min(60)];
        assert!(found == status && answer.contains(expected), "{target} {shown}: {found} {answer}");
    }
    assert_eq!(node.ask("/list", "{}"), before);
    // The largest of everything is taken.
    for body in [batch(500), set(&long(512), &long(65_536))] {
        assert_eq!(node.ask("/write", &body).0, 200);
    }
}

#[test]
fn what_is_no_http_or_no_node_is_refused() {
    let dir = TempDir::new();
    let node = Node::start(&dir, free_port());
    node.insist("/write", &set("k", "v"));
    let head =
        |method: &str, target: &str, headers: &str| format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    for (bytes, expected) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), ""),
        (b"\0\0\0\0\r\n\r\n".to_vec(), "HTTP/1.1 400"),
        (b"GET /read\n\n".to_vec(), "HTTP/1.1 400"),
        (head("POST", "/read", "Transfer-Encoding: chunked\r\n").into_bytes(), "HTTP/1.1 411"),
        (head("POST", "/read", "Content-Length: 3\r\nContent-Length: 4\r\n").into_bytes(), "HTTP/1.1 400"),
        (head("POST", "/read", "Content-Length: 99999999999999999999\r\n").into_bytes(), "HTTP/1.1 4"),
        (head("POST", "/read", &format!("X: {}\r\n", "x".repeat(20_000))).into_bytes(), "HTTP/1.1 431"),
        (head("BREW", "/read", "").into_bytes(), "HTTP/1.1 4"),
        // Requests of nodes, from somebody who knows no token.
        ([head("POST", "/raft-append", "Content-Length: 5\r\n").as_bytes(), b"\xff\xff\xff\xff\xff"].concat(), ""),
        ([head("POST", "/raft-vote", "Content-Length: 64\r\n").as_bytes(), &[0; 64]].concat(), ""),
        ([head("POST", "/raft-snapshot", "Content-Length: 4294967295\r\n").as_bytes(), &[7; 4096]].concat(), ""),
    ] {
        let answer = send(node.port, &bytes);
        assert!(
            answer.starts_with(expected) && !answer.contains("200 OK"),
            "{:?}: {answer}",
            String::from_utf8_lossy(&bytes[..20.min(bytes.len())])
        );
        assert_eq!(node.ask("/read", "\"k\"").0, 200);
    }
}

/// Somebody fills all places with connections that say nothing, or half of something: others are served, nodes get in, and neither the
/// log nor a snapshot lacks a descriptor.
#[test]
fn silent_connections_lock_out_nobody() {
    // For this process's own ends of them, if it is allowed.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let dir = TempDir::new();
    let port = free_port();
    let mut small = std::process::Command::new("sh");
    let map = command(&dir, port);
    // Few descriptors, so that a flood is soon there.
    small.arg("-c").arg("ulimit -n 256; exec \"$@\"").arg("sh").arg(map.get_program()).args(map.get_args());
    small.env_clear().stderr(std::fs::File::create(dir.path().join("log")).unwrap());
    let node = Node::run(small, port);
    node.insist("/write", &set("k", "v"));
    let mut held = Vec::new();
    for at in 0..600 {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { break };
        if at % 2 == 0 {
            let _ = stream.write_all(b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
        }
        held.push(stream);
    }
    assert!(held.len() > 300, "{}", held.len());
    assert_eq!(node.ask("/read", "\"k\"").0, 200);
    let other = Node::start(&dir, free_port());
    let learner = format!("[{},\"127.0.0.1:{}\"]", other.ask("/get-id", "").1, other.port);
    assert_eq!(node.insist("/add-learner", &learner), r#"{"Ok":"Added"}"#);
    // More than one file of the log, and a snapshot.
    let value = "x".repeat(60_000);
    for at in 0..330 {
        assert_eq!(node.ask("/write", &set(&format!("{}", at % 10), &value)).0, 200, "write {at}");
    }
    assert_eq!(other.insist("/read", "\"k\""), r#"{"Ok":"v"}"#);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains(" warn too_many_connections refused=1"), "{log}");
}

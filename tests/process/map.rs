//! The cluster map: real processes, real disks, `kill -9`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::support::{PATIENCE, TempDir};

/// One node in a folder of its own; killed when dropped.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn command(dir: &TempDir, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
    let log = fs::File::options().create(true).append(true).open(dir.path().join(format!("log-{port}"))).unwrap();
    command.arg("--bind-addr").arg(format!("127.0.0.1:{port}"));
    command.arg("--data-dir").arg(dir.path().join(format!("data-{port}")));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

/// Asks whoever listens at a port.
pub(crate) fn ask_at(port: u16, method: &str, target: &str, headers: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}");
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

impl Node {
    pub(crate) fn start(dir: &TempDir, port: u16) -> Self {
        Self::run(command(dir, port), port)
    }

    pub(crate) fn run(mut command: Command, port: u16) -> Self {
        let node = Self { child: command.spawn().unwrap(), port };
        let deadline = Instant::now() + PATIENCE;
        while !matches!(node.try_ask("GET", "/healthz", "", ""), Some((200, _))) {
            assert!(Instant::now() < deadline, "it does not answer");
            sleep(Duration::from_millis(10));
        }
        node
    }

    /// A request on a connection of its own: the status and the body.
    pub(crate) fn try_ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Option<(u16, String)> {
        ask_at(self.port, method, target, headers, body)
    }

    pub(crate) fn ask(&self, target: &str, body: &str) -> (u16, String) {
        let method = if body.is_empty() { "GET" } else { "POST" };
        self.try_ask(method, target, "", body).expect("an answer")
    }

    /// Asks until the answer is good.
    pub(crate) fn insist(&self, target: &str, body: &str) -> String {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let (status, answer) = self.ask(target, body);
            if status == 200 {
                return answer;
            }
            assert!(Instant::now() < deadline, "{target} {body}: {status} {answer}");
            sleep(Duration::from_millis(20));
        }
    }

    /// How old an answer from what this node has may be.
    fn lag_ms(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let head = "POST /read?consistency=stale HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
        stream.write_all(format!("{head}\"k\"").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.lines().find_map(|line| line.strip_prefix("BigBunny-Raft-Lag-Ms: "))?.trim().parse().ok()
    }

    pub(crate) fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.ask("/metrics", "").1.contains("\"state\":\"Leader\"")
    }
}

/// Makes a cluster in which all of these vote.
pub(crate) fn add_voters(nodes: &[Node]) {
    assert_eq!(nodes[0].ask("/init", ""), (201, r#"{"Ok":"Initialized"}"#.to_owned()));
    let ids: Vec<String> = nodes.iter().map(|node| node.ask("/get-id", "").1).collect();
    for (node, id) in nodes.iter().zip(&ids).skip(1) {
        let learner = format!("[{id},\"127.0.0.1:{}\"]", node.port);
        assert_eq!(nodes[0].insist("/add-learner", &learner), r#"{"Ok":"Added"}"#);
    }
    let last = nodes.last().unwrap();
    assert_eq!(last.insist("/change-membership", &format!("[{}]", ids.join(","))), r#"{"Ok":"Changed"}"#);
}

pub(crate) fn set(key: &str, value: &str) -> String {
    format!(r#"{{"Set":{{"key":"{key}","value":"{value}"}}}}"#)
}

#[test]
fn one_node_answers_from_nothing_and_keeps_what_it_answered() {
    let dir = TempDir::new();
    let node = Node::start(&dir, free_port());
    assert_eq!(node.ask("/write", &set("k", "v")), (200, r#"{"Ok":{"value":"v","index":3}}"#.to_owned()));
    assert_eq!(node.ask("/read", r#""k""#), (200, r#"{"Ok":"v"}"#.to_owned()));
    assert_eq!(node.ask("/read", r#""x""#), (404, r#"{"Err":"KeyNotFound"}"#.to_owned()));
    let cas = r#"{"Cas":{"key":"k","expect":"w","value":"x"}}"#;
    assert_eq!(node.ask("/write", cas), (409, r#"{"Err":{"CasMismatch":{"value":"v"}}}"#.to_owned()));
    let once = node.try_ask("POST", "/write", "Idempotency-Key: a\r\n", &set("l", "1"));
    assert_eq!(node.try_ask("POST", "/write", "Idempotency-Key: a\r\n", &set("l", "1")), once);
    assert_eq!(node.ask("/list", "{}"), (200, r#"{"Ok":{"entries":[["k","v"],["l","1"]],"next":null}}"#.to_owned()));
    let stale = node.try_ask("POST", "/read?consistency=stale", "", r#""k""#);
    assert_eq!(stale, Some((200, r#"{"Ok":"v"}"#.to_owned())));
    assert_eq!(node.ask("/init", "").0, 409);
    assert_eq!(node.ask("/write", "{").0, 400);
    assert_eq!(node.ask("/nowhere", "").0, 404);
    assert_eq!(node.try_ask("GET", "/write", "", "").map(|(status, _)| status), Some(405));
    assert!(node.ask("/metrics?format=prometheus", "").1.contains("\nbbd_map_is_leader 1\n"));
    assert!(node.ask("/backup", "").1.starts_with("bbd map\u{1}"));
    // A watch waits for what comes.
    let watch = std::thread::spawn({
        let port = node.port;
        move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /watch?prefix=w HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while !watch.is_finished() {
        assert!(Instant::now() < deadline);
        node.insist("/write", &set("w", "1"));
        sleep(Duration::from_millis(20));
    }
    assert!(watch.join().unwrap().contains(r#""key":"w","value":"1""#));
    let id = node.ask("/get-id", "");
    let node = Node::start(&dir, node.kill());
    assert_eq!(node.ask("/get-id", ""), id);
    assert_eq!(node.insist("/read", r#""k""#), r#"{"Ok":"v"}"#);
    assert_eq!(node.try_ask("POST", "/write", "Idempotency-Key: a\r\n", &set("l", "1")), once, "and remembers answers");
}

#[test]
fn three_nodes_survive_their_leader() {
    let dir = TempDir::new();
    let nodes: Vec<Node> = (0..3).map(|_| Node::start(&dir, free_port())).collect();
    add_voters(&nodes);
    for at in 0..30 {
        nodes[at % 3].insist("/write", &set(&format!("before-{at}"), "1"));
    }
    // The leader dies, and comes back later as if nothing had been.
    let (leaders, others): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(Node::is_leader);
    assert_eq!(leaders.len(), 1);
    let port = leaders.into_iter().next().unwrap().kill();
    for at in 0..10 {
        others[at % 2].insist("/write", &set(&format!("after-{at}"), "1"));
    }
    let again = Node::start(&dir, port);
    for node in others.iter().chain([&again]) {
        for key in ["before-0", "before-29", "after-0", "after-9"] {
            assert_eq!(node.insist("/read", &format!("\"{key}\"")), r#"{"Ok":"1"}"#, "{key}");
        }
    }
    assert_eq!(others[0].insist("/transfer-leader", "null"), r#"{"Ok":"Transferred"}"#);
    // All of them lose their power at once.
    let ports: Vec<u16> = others.into_iter().chain([again]).map(Node::kill).collect();
    let nodes: Vec<Node> = ports.into_iter().map(|port| Node::start(&dir, port)).collect();
    assert_eq!(nodes[0].insist("/read", r#""after-9""#), r#"{"Ok":"1"}"#);
    // Two of three go on without the third, which is told that it is a member no more.
    let leader = nodes.iter().position(Node::is_leader).unwrap_or(0);
    let ids: Vec<String> = nodes.iter().map(|node| node.ask("/get-id", "").1).collect();
    let out = (leader + 1) % 3;
    let kept = [leader, (leader + 2) % 3].map(|at| ids[at].clone()).join(",");
    assert_eq!(nodes[leader].insist("/change-membership", &format!("[{kept}]")), r#"{"Ok":"Changed"}"#);
    let deadline = Instant::now() + PATIENCE;
    while !nodes[out].ask("/metrics", "").1.contains("\"removed\":true") {
        assert!(Instant::now() < deadline, "it does not know that it was removed");
        sleep(Duration::from_millis(50));
    }
    nodes[leader].insist("/write", &set("last", "1"));
}

#[test]
fn a_folder_has_one_node_and_others_need_tokens() {
    let dir = TempDir::new();
    let port = free_port();
    let _node = Node::start(&dir, port);
    let second = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
        let output = command.args(arguments).env_clear().output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let folder = dir.path().join(format!("data-{port}"));
    let (status, told) =
        second(&["--bind-addr", &format!("127.0.0.1:{}", free_port()), "--data-dir", folder.to_str().unwrap()]);
    assert!(status == Some(1) && told.contains("in use by another process"), "{told}");
    let (status, told) = second(&["--bind-addr", "0.0.0.0:1", "--advertise-addr", "10.0.0.1:1"]);
    assert!(status == Some(2) && told.contains("--internal-token"), "{told}");
    let (status, told) = second(&["--bind-addr", "0.0.0.0:1", "--insecure"]);
    assert!(status == Some(2) && told.contains("--advertise-addr"), "{told}");
    let port = free_port();
    let mut guarded = command(&dir, port);
    guarded.env("BBD_CLIENT_TOKEN", "secret words");
    let node = Node::run(guarded, port);
    assert_eq!(node.ask("/write", &set("k", "v")).0, 401);
    assert_eq!(node.ask("/get-id", "").0, 401);
    let wrong = node.try_ask("POST", "/write", "Authorization: Bearer secret word\r\n", &set("k", "v"));
    assert_eq!(wrong.map(|(status, _)| status), Some(401));
    let right = node.try_ask("POST", "/write", "Authorization: Bearer secret words\r\n", &set("k", "v"));
    assert_eq!(right.map(|(status, _)| status), Some(200));
}

#[test]
fn sessions_and_the_map_are_served_side_by_side() {
    let dir = TempDir::new();
    let port = free_port();
    let socket = dir.path().join("x.sock");
    let mut both = command(&dir, port);
    both.arg("--dev").arg("--uds").arg(&socket);
    let mut node = Node::run(both, port);
    node.insist("/write", &set("k", "v"));
    // The map is open first.
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(10));
    };
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Sessions first: field 19 of stat(5) is the nice value.
    let mut nice = std::collections::BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", node.child.id())).unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, fields) = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap();
        let value: i32 = fields.split(' ').nth(16).unwrap().parse().unwrap();
        nice.insert(name.to_owned(), value);
    }
    let sessions = nice["bbd"];
    assert_eq!((nice["map"], nice["storage"]), (sessions + 10, sessions + 10), "{nice:?}");
    rustix::process::kill_process(Pid::from_child(&node.child), Signal::TERM).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = node.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not stop");
        sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_learner_follows_without_a_vote_and_knows_when_it_is_removed() {
    let dir = TempDir::new();
    let nodes: Vec<Node> = (0..2).map(|_| Node::start(&dir, free_port())).collect();
    nodes[0].insist("/write", &set("k", "v"));
    let id = nodes[1].ask("/get-id", "").1;
    let learner = format!("[{id},\"127.0.0.1:{}\"]", nodes[1].port);
    let says = |node: &Node, what: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !node.ask("/metrics", "").1.contains(what) {
            assert!(Instant::now() < deadline, "{what}: {}", node.ask("/metrics", "").1);
            sleep(Duration::from_millis(10));
        }
    };
    // The second time it is not there when it is removed.
    for is_there in [true, false] {
        assert_eq!(nodes[0].insist("/add-learner", &learner), r#"{"Ok":"Added"}"#);
        says(&nodes[1], r#""state":"Learner""#);
        says(&nodes[1], r#""removed":false"#);
        nodes[0].insist("/write", &set("k", &format!("{is_there}")));
        assert_eq!(nodes[1].insist("/read", r#""k""#), format!("{{\"Ok\":\"{is_there}\"}}"));
        // Until it has caught up for the first time what it has is as old as can be.
        let deadline = Instant::now() + PATIENCE;
        while nodes[1].lag_ms().expect("how old it may be") >= 10_000 {
            assert!(Instant::now() < deadline, "it never catches up");
            sleep(Duration::from_millis(10));
        }
        if !is_there {
            rustix::process::kill_process(Pid::from_child(&nodes[1].child), Signal::STOP).unwrap();
        }
        // One that has a vote is not a learner.
        let (status, answer) = nodes[0].ask("/remove-learner", &nodes[0].ask("/get-id", "").1);
        assert!(status == 409 && answer.contains("it has a vote"), "{answer}");
        assert_eq!(nodes[0].insist("/remove-learner", &id), r#"{"Ok":"Removed"}"#);
        assert_eq!(nodes[0].insist("/remove-learner", &id), r#"{"Ok":"Removed"}"#);
        rustix::process::kill_process(Pid::from_child(&nodes[1].child), Signal::CONT).unwrap();
        says(&nodes[1], r#""removed":true"#);
        assert!(!nodes[0].ask("/metrics", "").1.contains(&id));
    }
    let log = fs::read_to_string(dir.path().join(format!("log-{}", nodes[1].port))).unwrap();
    assert_eq!(log.matches(" warn map_removed ").count(), 2, "{log}");
    // It never asked for a vote that could have counted.
    assert!(nodes[0].ask("/metrics", "").1.contains(r#""current_term":1,"#));
}

//! What these tests share: addresses, daemons with a peer, and what they say of themselves.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Answer, Daemon, PATIENCE, TempDir};

/// An address of the loopback network that no other test has.
pub(super) fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    assert!(number < 255, "too many addresses for one run");
    format!("127.{}.{}.{number}:7946", 1 + (process >> 8) % 250, process & 0xff)
}

/// A node and where it may be found.
pub(super) struct NodeFlags {
    pub(super) host_id: &'static str,
    pub(super) tcp: String,
    /// As in `--peers`.
    pub(super) peer: String,
    pub(super) more: Vec<String>,
}

impl NodeFlags {
    pub(super) fn start(&self) -> Daemon {
        self.start_in(TempDir::new())
    }

    pub(super) fn start_in(&self, dir: TempDir) -> Daemon {
        Daemon::start_in(dir, |command| {
            self.add_to(command);
        })
    }

    pub(super) fn add_to(&self, command: &mut Command) {
        command.args([format!("--host-id={}", self.host_id), format!("--tcp={}", self.tcp)]);
        command.args([format!("--peers={}", self.peer), "--rate-limit=0".to_owned()]).args(&self.more);
    }
}

/// The flags of two nodes, a and b, and some for both.
pub(super) fn two_nodes(more: &[&str]) -> [NodeFlags; 2] {
    let (a, b) = (address(), address());
    let flags = |host_id, tcp: &String, peer| NodeFlags {
        host_id,
        tcp: tcp.clone(),
        peer,
        more: more.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    [flags("a", &a, format!("b@{b}")), flags("b", &b, format!("a@{a}"))]
}

/// Two nodes that have found each other: the first is primary, the second follows and has everything.
pub(super) fn a_pair(more: &[&str]) -> ([NodeFlags; 2], Daemon, Daemon) {
    let flags = two_nodes(more);
    let (a, b) = (flags[0].start(), flags[1].start());
    wait_for_role(&a, "PRIMARY");
    wait_for_role(&b, "SECONDARY");
    wait_until("the secondary is in step", || metric(&a, "bbd_peer_in_step{peer=\"b\"}") == 1.0);
    (flags, a, b)
}

pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2));
    }
}

pub(super) fn wait_for_role(daemon: &Daemon, role: &str) {
    let deadline = Instant::now() + PATIENCE;
    while status(daemon, "role") != role {
        assert!(Instant::now() < deadline, "never {role}: {}", daemon.log());
        sleep(Duration::from_millis(2));
    }
}

pub(super) fn wait_for_log(daemon: &Daemon, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !daemon.log().contains(text) {
        assert!(Instant::now() < deadline, "no {text:?} in {}", daemon.log());
        sleep(Duration::from_millis(5));
    }
}

/// A field of `/status`, without quotes.
pub(super) fn status(daemon: &Daemon, field: &str) -> String {
    let page = String::from_utf8(get(daemon, "/status").body).unwrap();
    let (_, behind) = page.split_once(&format!("\"{field}\":")).unwrap_or_else(|| panic!("no {field} in {page}"));
    let end = if behind.starts_with('{') { '}' } else { ',' };
    behind.split(end).next().unwrap().trim_matches(['"', '{']).to_owned()
}

/// The value of a metric, named with its labels.
pub(super) fn metric(daemon: &Daemon, name: &str) -> f64 {
    let page = String::from_utf8(get(daemon, "/metrics").body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

pub(super) fn get(daemon: &Daemon, path: &str) -> Answer {
    daemon.ask(&request("GET", path, "", ""))
}

/// A request of the customer `c`.
pub(super) fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(super) fn put(daemon: &Daemon, name: &str, body: &str) {
    let answer = daemon.ask(&request("PUT", &format!("/api/v1/named/{name}"), "", body));
    assert!(matches!(answer.status, 200 | 201), "{answer:?} {}", daemon.log());
}

pub(super) fn increment() -> Vec<u8> {
    request("POST", "/api/v1/named/n/increment", "", r#"{"delta":1}"#)
}

pub(super) fn read(daemon: &Daemon, name: &str) -> Answer {
    get(daemon, &format!("/api/v1/named/{name}"))
}

/// Ends a daemon as a crash does. Its directory stays.
pub(super) fn crash(daemon: Daemon) -> TempDir {
    daemon.signal(Signal::KILL);
    let (_, dir) = daemon.wait();
    fs::remove_file(dir.path().join("log")).unwrap();
    dir
}

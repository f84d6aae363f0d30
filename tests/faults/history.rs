//! Clients of both nodes, and what must hold of all that they were answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::load::{Load, Outcome, Plan, Record};
use crate::pair::request;
use crate::site::{Name, PATIENCE, epoch, field, figure, idle_use, ms, role, wait_until};
use crate::support::Daemon;

/// Writers that write the same names again and again, one change at a time each.
pub(crate) const WRITERS: Plan = Plan { clients: 3, depth: 1, names: 100, body_bytes: 128, remembers: true };
/// Reads that are under way at a time, when all is compared.
const READS_AT_A_TIME: usize = 64;
/// More of a core than a node at rest may use.
const IDLE_USE_MAX: f64 = 0.25;
/// Descriptors of a node at rest: what it always has, its connections with the peer, and those that are being tried.
const OPEN_FILES_MAX: usize = 40;

/// Writers at both nodes.
pub(crate) struct Clients {
    loads: [Load; 2],
    since: Instant,
}

impl Clients {
    pub(crate) fn start(a: &Daemon, b: &Daemon) -> Self {
        let load = |node: &Daemon, name: Name| Load::start(node.socket(), name.id(), WRITERS);
        Self { loads: [load(a, Name::A), load(b, Name::B)], since: Instant::now() }
    }

    /// Changes answered with success so far, through either node.
    pub(crate) fn done(&self) -> [u64; 2] {
        [self.loads[0].done(), self.loads[1].done()]
    }

    pub(crate) fn stop(self) -> History {
        let until = Instant::now();
        let [at_a, at_b] = self.loads.map(Load::stop);
        History { records: [at_a, at_b], since: self.since, until }
    }

    /// What every fault ends with: the clients stop, both nodes become equal, there was one primary at a time, what was answered is kept,
    /// and neither node is busy with anything. Prints the figures that every fault has, and says how long it took to be equal.
    pub(crate) fn finish(self, of: &str, a: &Daemon, b: &Daemon, kept: Kept) -> Duration {
        let history = self.stop();
        let took = converge(a, b);
        history.check_one_primary_at_a_time();
        let lost = history.lost(b).len();
        if kept == Kept::All {
            history.check_nothing_lost([a, b]);
        }
        check_at_rest([a, b]);
        let [at_a, at_b] = Name::BOTH.map(|name| ms(history.longest_gap(name)));
        figure(of, "longest wait at a, at b", format!("{at_a}, {at_b}"));
        figure(of, "answered changes, of the unmarked lost", format!("{}, {lost}", history.done()));
        took
    }
}

/// What must be there in the end of the changes that were answered without a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// A primary that dies or is cut off takes with it what it had not sent yet.
    WhatWasReplicated,
}

/// All that was asked and answered.
pub(crate) struct History {
    records: [Vec<Record>; 2],
    since: Instant,
    until: Instant,
}

impl History {
    pub(crate) fn done(&self) -> usize {
        self.changes().filter(|change| change.outcome.is_done()).count()
    }

    fn changes(&self) -> impl Iterator<Item = &crate::load::Change> {
        self.records.iter().flatten().flat_map(|record| &record.changes)
    }

    /// The longest time that a client of this node was without success.
    pub(crate) fn longest_gap(&self, at: Name) -> Duration {
        let gaps = self.records[at as usize].iter().map(|record| record.longest_gap(self.since, self.until));
        gaps.max().unwrap_or_default()
    }

    /// At most one primary: once a newer epoch has answered a change, an older one answers none that was asked for afterwards,
    /// unless it says that the change may be lost. With `--on-peer-loss=safe` none says so.
    pub(crate) fn check_one_primary_at_a_time(&self) {
        let mut last_asked: BTreeMap<u32, Instant> = BTreeMap::new();
        let mut first_answered: BTreeMap<u32, Instant> = BTreeMap::new();
        for change in self.changes() {
            let Outcome::Done { epoch, is_degraded } = change.outcome else { continue };
            let answered = first_answered.entry(epoch).or_insert(change.ended);
            *answered = change.ended.min(*answered);
            if !is_degraded {
                let asked = last_asked.entry(epoch).or_insert(change.sent);
                *asked = change.sent.max(*asked);
            }
        }
        for (older, asked) in &last_asked {
            for (newer, answered) in first_answered.range(older + 1..) {
                let late = asked.saturating_duration_since(*answered);
                assert!(late.is_zero(), "epoch {older} answered what was asked {late:?} after epoch {newer} had begun");
            }
        }
    }

    /// Changes that were answered, without a mark, and that this node does not have.
    pub(crate) fn lost(&self, at: &Daemon) -> Vec<Duration> {
        let lost = self.records.iter().flatten().flat_map(|record| record.lost(at.socket()).unwrap());
        let unmarked = lost.filter(|change| !matches!(change.outcome, Outcome::Done { is_degraded: true, .. }));
        unmarked.map(|change| self.until.saturating_duration_since(change.ended)).collect()
    }

    /// Nothing that was answered is lost at either node.
    pub(crate) fn check_nothing_lost(&self, nodes: [&Daemon; 2]) {
        for node in nodes {
            let lost = self.lost(node);
            assert!(
                lost.is_empty(),
                "{} answered changes are lost, {lost:?} before the end: {}",
                lost.len(),
                node.log()
            );
        }
    }
}

/// Waits until one is primary and the other follows, and says how long that took. Clients may go on.
pub(crate) fn settle(a: &Daemon, b: &Daemon) -> Duration {
    let since = Instant::now();
    let roles = || [role(a), role(b)];
    while !matches!(roles().each_ref().map(|role| &**role), ["PRIMARY", "SECONDARY"] | ["SECONDARY", "PRIMARY"]) {
        assert!(since.elapsed() < PATIENCE, "converge: {:?}\na: {}\nb: {}", roles(), a.log(), b.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    since.elapsed()
}

/// The same, and both hold the same in the end. Clients have stopped.
pub(crate) fn converge(a: &Daemon, b: &Daemon) -> Duration {
    let took = settle(a, b);
    wait_until("everything is acknowledged", || {
        [a, b].iter().all(|node| field(node, "queue_length").is_some_and(|length| length == "0"))
    });
    assert_eq!(epoch(a), epoch(b));
    let (at_a, at_b) = (contents(a), contents(b));
    assert_eq!(at_a.len(), at_b.len());
    for (name, at_a) in &at_a {
        assert_eq!(Some(at_a), at_b.get(name), "{name}");
    }
    took
}

/// Neither spins nor keeps descriptors.
pub(crate) fn check_at_rest(nodes: [&Daemon; 2]) {
    let used = idle_use(&nodes);
    assert!(used < IDLE_USE_MAX, "a node at rest uses {used} of a core");
    for node in nodes {
        assert!(node.open_files() < OPEN_FILES_MAX, "{} descriptors", node.open_files());
    }
}

/// Every name with its tag and contents, as the node itself answers.
pub(crate) fn contents(node: &Daemon) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut connection = node.connect();
    let mut get = |requests: &[String]| {
        let bytes: Vec<u8> = requests.concat().into_bytes();
        connection.send(&bytes);
        (0..requests.len()).map(|_| connection.answer(false).unwrap().expect("an answer")).collect::<Vec<_>>()
    };
    let plain =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: {}\r\n\r\n", crate::load::CUSTOMER);
    let mut names: Vec<String> = Vec::new();
    loop {
        let after = names.last().cloned().unwrap_or_default();
        let page = get(&[plain(&format!("/api/v1/named?after={after}"))]).remove(0);
        let page = String::from_utf8(page.body).unwrap();
        let (_, list) = page.split_once('[').unwrap_or_else(|| panic!("no list of names: {page}"));
        let (list, more) = list.split_once(']').unwrap();
        names.extend(list.split(',').map(|name| name.trim_matches('"').to_owned()).filter(|name| !name.is_empty()));
        if !more.contains("true") {
            break;
        }
    }
    let mut contents = BTreeMap::new();
    for names in names.chunks(READS_AT_A_TIME) {
        let requests: Vec<String> = names.iter().map(|name| plain(&format!("/api/v1/named/{name}"))).collect();
        for (name, answer) in names.iter().zip(get(&requests)) {
            let tag = answer.header("ETag").unwrap_or_default().to_owned();
            contents.insert(name.clone(), (tag, answer.body));
        }
    }
    contents
}

/// Writes a value that must outlive everything, and waits until both nodes have it.
pub(crate) fn leave_mark(at: &Daemon, name: &str) {
    let path = format!("/api/v1/named/{name}");
    let answer = at.ask(&request("PUT", &path, "BigBunny-Durability: replicated\r\n", "mark"));
    assert!(matches!(answer.status, 200 | 201), "{answer:?}: {}", at.log());
}

pub(crate) fn has_mark(at: &Daemon, name: &str) -> bool {
    crate::pair::read(at, name).body == b"mark"
}

//! Two nodes that talk to each other in virtual time, over a network that delays and is cut: the protocol's own story, small
//! enough to be read. The simulator in `tests/sim` is the one that looks for trouble.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod overload;
mod places;
mod reach;
mod spaces;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use super::request::*;
use super::response::*;
use super::*;
use crate::peer::message::{Message, Path, read_message, write_message};
use crate::time::WallTime;

struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 33) as u8;
        }
    }
}

/// What a node said.
#[derive(Default)]
struct Said {
    answers: Vec<(RequestId, Result<String, Refusal>, bool)>,
    messages: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Outbox for Said {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        self.answers.push((id, response.result.map(|answer| format!("{answer:?}")), response.degraded));
    }

    fn send_peer(&mut self, message: Message<'_>) {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &message).unwrap();
        self.messages.push(bytes);
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        panic!("{why:?}");
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// A message on its way: when it arrives, from which node, which life of it.
type Flying = (Instant, usize, u64, Vec<u8>);

struct Pair {
    now: Instant,
    nodes: [Option<Node>; 2],
    said: [Said; 2],
    linked: bool,
    flying: VecDeque<Flying>,
    seed: u64,
    next_id: u64,
    safe: bool,
    backlog_limit_bytes: u64,
    delay: Duration,
    /// Whether each can dial the other.
    reaches: [bool; 2],
    /// How much longer everything takes that is no sign of life.
    jam: Duration,
    /// A node whose process is stopped; what is said to it waits.
    stopped: Option<usize>,
}

const DELAY: Duration = Duration::from_micros(300);

impl Pair {
    fn new() -> Self {
        Self {
            now: Instant::from_millis(1000),
            nodes: [None, None],
            said: Default::default(),
            linked: false,
            flying: VecDeque::new(),
            seed: 1,
            next_id: 0,
            safe: false,
            backlog_limit_bytes: 1 << 20,
            delay: DELAY,
            reaches: [true; 2],
            jam: Duration::ZERO,
            stopped: None,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.now, wall: WallTime(0) }
    }

    fn start(&mut self, place: usize) {
        let ids = ["a", "b"];
        let peer = PeerConfig {
            own_id: ids[place].into(),
            peer_id: ids[1 - place].into(),
            heartbeat_interval_ms: 200,
            lease_ms: 2000,
            grace_ms: 2000,
            on_peer_loss: if self.safe { OnPeerLoss::Safe } else { OnPeerLoss::Available },
            replicate_all: false,
            backlog_limit_bytes: self.backlog_limit_bytes,
        };
        self.seed += 1;
        let config = NodeConfig {
            limits: Limits { rate_limit_per_second: 0, ..Limits::default() },
            peer: Some(peer),
            ..NodeConfig::default()
        };
        self.nodes[place] = Some(Node::new(config, Box::new(Seeded(self.seed)), self.now()));
        self.connect();
    }

    fn connect(&mut self) {
        if let [Some(a), Some(b)] = &self.nodes {
            let lives = [a.incarnation(), b.incarnation()];
            let reaches = self.reaches;
            self.linked = true;
            for place in (0..2).filter(|&place| reaches[place]) {
                self.tell(place, Input::PeerUp { incarnation: lives[1 - place] });
            }
        }
    }

    fn cut(&mut self) {
        self.linked = false;
        self.flying.clear();
        for place in 0..2 {
            if self.nodes[place].is_some() {
                self.tell(place, Input::PeerDown);
            }
        }
    }

    fn kill(&mut self, place: usize) {
        self.nodes[place] = None;
        self.cut();
        for _ in 0..3 {
            self.tell(1 - place, Input::PeerRefused);
        }
    }

    fn tell(&mut self, place: usize, input: Input<'_>) {
        let now = self.now();
        let Some(node) = &mut self.nodes[place] else { return };
        node.handle(now, input, &mut self.said[place]);
        node.handle(now, Input::EndOfTurn, &mut self.said[place]);
        if node.status().stores < 300 {
            node.check_invariants();
        }
        let life = node.incarnation();
        for message in std::mem::take(&mut self.said[place].messages) {
            if self.linked && self.reaches[place] {
                let is_sign_of_life = read_message(&message).unwrap().path() == Path::Heartbeat;
                let delay = if is_sign_of_life { self.delay } else { self.delay + self.jam };
                let arrives = self.now + delay;
                let behind = self.flying.partition_point(|(at, ..)| *at <= arrives);
                self.flying.insert(behind, (arrives, place, life, message));
            }
        }
    }

    fn ask(&mut self, place: usize, operation: Operation<'_>) -> RequestId {
        self.ask_as(place, operation, false)
    }

    fn ask_as(&mut self, place: usize, operation: Operation<'_>, durable: bool) -> RequestId {
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let request = Request { durable, ..Request::new(ConnectionId(self.next_id), "shop", operation) };
        self.tell(place, Input::Request { id, request });
        id
    }

    fn run_ms(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let mut next = end;
            let stopped = self.stopped;
            let arrives = |(_, from, ..): &Flying| stopped != Some(1 - from);
            if let Some((at, ..)) = self.flying.iter().find(|message| arrives(message)) {
                next = next.min((*at).max(self.now));
            }
            for place in (0..2).filter(|&place| stopped != Some(place)) {
                let due = self.nodes[place].as_ref().and_then(Node::next_timeout);
                next = next.min(due.unwrap_or(end).max(self.now));
            }
            self.now = next;
            while let Some(index) = self.flying.iter().position(arrives)
                && self.flying[index].0 <= self.now
            {
                let (_, from, life, bytes) = self.flying.remove(index).unwrap();
                let message = read_message(&bytes).unwrap();
                self.tell(1 - from, Input::PeerMessage { incarnation: life, message });
            }
            for place in (0..2).filter(|&place| stopped != Some(place)) {
                if self.nodes[place].as_ref().is_some_and(|node| node.next_timeout().is_some_and(|at| at <= self.now)) {
                    self.tell(place, Input::Timeout);
                }
            }
            if self.now >= end {
                return;
            }
        }
    }

    /// The process is another one, and nothing was heard of it meanwhile.
    fn restart_unnoticed(&mut self, place: usize) {
        self.nodes[place] = None;
        self.linked = false;
        self.flying.clear();
        self.tell(1 - place, Input::PeerDown);
        self.start(place);
    }

    fn count(&self, place: usize, event: Event) -> usize {
        self.said[place].events.iter().filter(|other| **other == event).count()
    }

    fn role(&self, place: usize) -> Role {
        self.nodes[place].as_ref().unwrap().role()
    }

    fn answer(&self, id: RequestId) -> Option<&Result<String, Refusal>> {
        let found = self.said.iter().flat_map(|said| &said.answers).find(|(other, ..)| *other == id);
        found.map(|(_, result, _)| result)
    }

    fn done(&self, id: RequestId) -> &str {
        self.answer(id).expect("it is answered").as_ref().expect("it is done")
    }

    /// Both nodes hold the same. Deadlines may differ by what the messages took: after a handover the old primary has the
    /// original ones, and the new one what it was told.
    fn check_equal(&self) {
        let [a, b] = [0, 1].map(|place| self.nodes[place].as_ref().unwrap());
        let (primary, secondary) = if a.role() == Role::Primary { (a, b) } else { (b, a) };
        assert_eq!((primary.role(), secondary.role()), (Role::Primary, Role::Secondary));
        let (there, here) = (primary.image(), secondary.image());
        assert_eq!(there.len(), here.len());
        for (mut there, here) in there.into_iter().zip(here) {
            assert!(here.ends_ms.abs_diff(there.ends_ms) <= 2, "ttl-never-extends");
            there.ends_ms = here.ends_ms;
            assert_eq!(there, here, "prefix");
        }
        let books = [primary, secondary].map(|node| {
            let status = node.status();
            (status.memory_bytes, status.stores, status.tombstones, status.names, status.epoch, status.changes)
        });
        assert_eq!(books[0], books[1]);
    }
}

fn put<'a>(name: &'a str, body: &'a [u8]) -> Operation<'a> {
    Operation::Put { name: Cow::Borrowed(name), content: Content::Blob(body), ttl_ms: None, wait_ms: 0 }
}

fn read(name: &str) -> Operation<'_> {
    Operation::Read { target: Target::Name(Cow::Borrowed(name)), touch: None }
}

fn begin(name: &str, wait_ms: u64) -> Operation<'_> {
    Operation::BeginModify {
        target: Target::Name(Cow::Borrowed(name)),
        wait_ms,
        hold_ms: Some(3000),
        connection_scope: false,
        renew: None,
        create_if_missing: false,
        ttl_ms: None,
    }
}

fn pair_in_step() -> Pair {
    let mut pair = Pair::new();
    pair.start(0);
    pair.start(1);
    pair.run_ms(50);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Secondary));
    pair
}

#[test]
fn a_node_that_nobody_answers_becomes_primary_alone() {
    let mut pair = Pair::new();
    pair.start(1);
    let early = pair.ask(1, put("n", b"x"));
    assert_eq!(pair.answer(early), Some(&Err(Refusal::StoreUnavailable)));
    pair.run_ms(3999);
    assert_eq!(pair.role(1), Role::Joining);
    pair.run_ms(2);
    assert_eq!(pair.role(1), Role::Primary);
    let id = pair.ask(1, put("n", b"x"));
    assert!(pair.done(id).contains("created: true"));
    assert!(pair.said[1].answers.last().unwrap().2, "it says that it is alone");
}

#[test]
fn a_joiner_gets_what_is_there_and_what_happens_meanwhile() {
    let mut pair = Pair::new();
    pair.start(1);
    pair.run_ms(4001);
    for number in 0..3000 {
        pair.ask(1, put(&format!("n{number}"), &[7; 100]));
    }
    pair.ask(1, Operation::Delete { target: Target::Name(Cow::Borrowed("n5")) });
    pair.ask(1, begin("n6", 0));
    pair.start(0);
    for number in 0..500 {
        pair.ask(1, put(&format!("n{}", number * 5), &[8; 50]));
        pair.ask(1, put(&format!("m{number}"), b"new"));
        pair.ask(1, Operation::Rename { name: format!("n{}", number * 3 + 1).into(), to: format!("r{number}").into() });
        pair.ask(1, Operation::Delete { target: Target::Name(format!("n{}", 2999 - number).into()) });
        pair.run_ms(1);
    }
    pair.run_ms(100);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    pair.check_equal();
}

#[test]
fn the_secondary_reads_here_and_changes_there() {
    let mut pair = pair_in_step();
    let id = pair.ask(1, put("n", b"hello"));
    assert_eq!(pair.answer(id), None, "it is on its way");
    pair.run_ms(5);
    assert!(pair.done(id).contains("created: true"));
    let id = pair.ask(1, read("n"));
    assert!(pair.done(id).starts_with("Blob"));
    pair.check_equal();
}

#[test]
fn a_dead_primary_is_replaced_at_once_and_its_locks_are_void() {
    let mut pair = pair_in_step();
    pair.ask(0, put("n", b"hello"));
    pair.ask(0, begin("n", 0));
    pair.run_ms(5);
    pair.kill(0);
    assert_eq!(pair.role(1), Role::Primary);
    let id = pair.ask(1, begin("n", 0));
    assert!(matches!(pair.answer(id), Some(Err(Refusal::LockStateUnknown { .. }))));
    pair.run_ms(501);
    let id = pair.ask(1, begin("n", 0));
    assert!(pair.done(id).starts_with("Locked"));
    pair.start(0);
    pair.run_ms(50);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    pair.check_equal();
}

#[test]
fn a_silent_primary_is_replaced_after_lease_and_grace_and_drops_what_it_did_alone() {
    let mut pair = pair_in_step();
    pair.ask(0, put("n", b"hello"));
    pair.run_ms(250);
    pair.cut();
    for number in 0..10 {
        pair.ask(0, put(&format!("alone{number}"), b"x"));
    }
    pair.run_ms(3700);
    assert_eq!(pair.role(1), Role::Secondary);
    let id = pair.ask(0, put("late", b"x"));
    assert!(pair.answer(id).unwrap().is_ok() && pair.said[0].answers.last().unwrap().2, "marked as degraded");
    pair.run_ms(301);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Primary));
    pair.ask(1, put("other", b"y"));
    pair.connect();
    pair.run_ms(50);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    assert_eq!(pair.nodes[0].as_ref().unwrap().status().lost_changes_total, 11);
    pair.check_equal();
}

#[test]
fn in_safe_mode_nothing_changes_without_a_lease() {
    let mut pair = Pair { safe: true, ..Pair::new() };
    pair.start(0);
    pair.start(1);
    pair.run_ms(500);
    let id = pair.ask(0, put("n", b"hello"));
    pair.done(id);
    pair.cut();
    pair.run_ms(2001);
    let id = pair.ask(0, put("n", b"late"));
    assert_eq!(pair.answer(id), Some(&Err(Refusal::NotReplicated { applied: false })));
    pair.connect();
    pair.run_ms(50);
    let id = pair.ask(0, put("n", b"again"));
    pair.done(id);
    pair.run_ms(5);
    pair.check_equal();
}

#[test]
fn a_short_cut_costs_nothing_and_a_long_one_a_snapshot() {
    let mut pair = pair_in_step();
    pair.cut();
    for number in 0..100 {
        pair.ask(0, put(&format!("n{number}"), &[1; 100]));
    }
    pair.connect();
    pair.run_ms(20);
    pair.check_equal();
    pair.cut();
    for number in 0..10_000 {
        pair.ask(0, put(&format!("n{}", number % 50), &[2; 200]));
    }
    assert!(pair.said[0].events.contains(&Event::BacklogOverflow));
    assert_eq!(pair.nodes[0].as_ref().unwrap().status().backlog_bytes, 0);
    pair.connect();
    pair.run_ms(50);
    pair.check_equal();
}

#[test]
fn replicated_waits_for_the_secondary() {
    let mut pair = pair_in_step();
    let id = pair.ask_as(0, put("n", b"hello"), true);
    assert_eq!(pair.answer(id), None);
    pair.run_ms(2);
    pair.done(id);
    let id = pair.ask_as(1, put("n", b"there"), true);
    pair.run_ms(5);
    pair.done(id);
    pair.cut();
    let id = pair.ask_as(0, put("n", b"lost"), true);
    pair.run_ms(2100);
    assert_eq!(pair.answer(id), Some(&Err(Refusal::NotReplicated { applied: true })));
    let id = pair.ask_as(0, put("n", b"refused"), true);
    assert_eq!(pair.answer(id), Some(&Err(Refusal::NotReplicated { applied: false })));
}

#[test]
fn a_handover_loses_nothing_and_keeps_locks_and_lines() {
    let mut pair = pair_in_step();
    pair.ask(0, put("n", b"hello"));
    pair.ask(0, begin("n", 0));
    let waits_here = pair.ask(0, begin("n", 5000));
    let waits_there = pair.ask(1, begin("n", 5000));
    pair.run_ms(5);
    let unsent = pair.ask(0, put("m", b"unsent"));
    pair.done(unsent);
    pair.next_id += 1;
    let promote = RequestId(pair.next_id);
    pair.tell(1, Input::Promote { id: promote, force: false });
    pair.now = pair.now + DELAY;
    let held_there = pair.ask(1, put("held there", b"x"));
    pair.run_ms(1);
    let held_here = pair.ask(0, put("held here", b"x"));
    pair.run_ms(20);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    for id in [promote, held_there, held_here] {
        pair.done(id);
    }
    pair.check_equal();
    let busy = pair.ask(1, begin("n", 0));
    assert!(matches!(pair.answer(busy), Some(Err(Refusal::StoreLocked { .. }))), "the lock went along");
    pair.run_ms(3000);
    pair.done(waits_here);
    pair.run_ms(3000);
    assert!(pair.answer(waits_there).is_some());
    // And back again, with the same node in the same life.
    pair.next_id += 1;
    pair.tell(0, Input::Promote { id: RequestId(pair.next_id), force: false });
    pair.run_ms(300);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Secondary));
    pair.ask(1, put("after", b"x"));
    pair.run_ms(5);
    pair.check_equal();
}

// What the simulator found, told shortly; the seeds are in the history.

#[test]
fn a_handover_is_not_finished_to_a_peer_that_has_restarted() {
    let mut pair = pair_in_step();
    pair.ask(0, put("n", b"hello"));
    pair.run_ms(250);
    pair.ask(0, put("m", b"unsent"));
    pair.next_id += 1;
    let now = pair.now();
    assert!(pair.nodes[0].as_mut().unwrap().begin_handover(now));
    let held = pair.ask(0, put("held", b"x"));
    assert_eq!(pair.answer(held), None);
    pair.restart_unnoticed(1);
    pair.run_ms(50);
    pair.done(held);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Secondary));
    pair.check_equal();
}

#[test]
fn an_empty_node_that_knows_of_data_waits_for_it() {
    let mut pair = Pair::new();
    pair.start(1);
    pair.run_ms(4001);
    pair.ask(1, put("n", b"hello"));
    pair.start(0);
    pair.now = pair.now + DELAY;
    pair.run_ms(0);
    // It has heard that there is a primary, and nothing more.
    pair.cut();
    pair.run_ms(60_000);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Joining, Role::Primary));
    pair.connect();
    pair.run_ms(50);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    pair.check_equal();
}

#[test]
fn an_empty_node_whose_peer_is_dead_goes_on_alone() {
    let mut pair = Pair::new();
    pair.start(1);
    pair.run_ms(4001);
    pair.start(0);
    pair.now = pair.now + DELAY;
    pair.run_ms(0);
    pair.kill(1);
    pair.run_ms(4001);
    assert_eq!(pair.role(0), Role::Primary);
}

#[test]
fn a_small_backlog_is_enough_for_a_snapshot() {
    let mut pair = Pair { backlog_limit_bytes: 256 << 10, ..Pair::new() };
    pair.start(1);
    pair.run_ms(4001);
    for number in 0..2000 {
        pair.ask(1, put(&format!("n{number}"), &[7; 1000]));
    }
    pair.start(0);
    pair.run_ms(200);
    pair.check_equal();
    assert_eq!((pair.count(1, Event::SnapshotBegun), pair.count(1, Event::BacklogOverflow)), (1, 0));
}

#[test]
fn a_repeat_under_replicated_waits_too() {
    let mut pair = pair_in_step();
    pair.cut();
    let repeat = |pair: &mut Pair| {
        pair.next_id += 1;
        let id = RequestId(pair.next_id);
        let request = Request {
            durable: true,
            idempotency: Some(Idempotency { key: "once", fingerprint: [1; 16] }),
            ..Request::new(ConnectionId(pair.next_id), "shop", put("n", b"hello"))
        };
        pair.tell(0, Input::Request { id, request });
        id
    };
    let first = repeat(&mut pair);
    let second = repeat(&mut pair);
    assert_eq!((pair.answer(first), pair.answer(second)), (None, None));
    pair.connect();
    pair.run_ms(5);
    pair.done(first);
    pair.done(second);
}

#[test]
fn locks_that_a_failover_made_void_do_not_come_back() {
    let mut pair = pair_in_step();
    pair.ask(0, put("n", b"hello"));
    let id = pair.ask(0, begin("n", 0));
    pair.done(id);
    pair.run_ms(5);
    // It hands over, but the other node never hears that it was done, and takes over by itself.
    pair.next_id += 1;
    pair.tell(1, Input::Promote { id: RequestId(pair.next_id), force: false });
    pair.run_ms(0);
    pair.now = pair.now + DELAY;
    pair.run_ms(0);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Secondary));
    pair.cut();
    pair.next_id += 1;
    pair.tell(1, Input::Promote { id: RequestId(pair.next_id), force: true });
    pair.connect();
    pair.run_ms(100);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    pair.check_equal();
}

#[test]
fn a_word_of_a_life_long_over_is_no_restart() {
    let mut pair = pair_in_step();
    let old = pair.nodes[0].as_ref().unwrap().incarnation();
    for _ in 0..3 {
        pair.restart_unnoticed(0);
        pair.run_ms(50);
    }
    let restarts = pair.count(1, Event::PeerRestarted);
    let message = Message::Heartbeat { epoch: 1, sent_at_ns: 1 };
    pair.tell(1, Input::PeerMessage { incarnation: old, message });
    assert_eq!(pair.count(1, Event::PeerRestarted), restarts);
    pair.run_ms(50);
    pair.check_equal();
}

#[test]
fn what_waits_for_the_secondary_is_answered_by_a_handover_without_a_lease() {
    let mut pair = pair_in_step();
    let id = pair.ask_as(0, put("n", b"hello"), true);
    let now = pair.now();
    assert!(pair.nodes[0].as_mut().unwrap().begin_handover(now));
    pair.now = pair.now + DELAY;
    pair.run_ms(0);
    assert_eq!(pair.answer(id), None);
    // It is stopped until its lease is over, and then hears first that the other node has everything.
    pair.now = pair.now + Duration::from_millis(2500);
    let (_, from, life, bytes) = pair.flying.pop_front().unwrap();
    assert_eq!(from, 1);
    pair.tell(0, Input::PeerMessage { incarnation: life, message: read_message(&bytes).unwrap() });
    assert_eq!(pair.role(0), Role::Secondary);
    assert_eq!(pair.answer(id), Some(&Err(Refusal::NotReplicated { applied: true })));
}

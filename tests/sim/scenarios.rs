//! Scenarios with names: what a failing seed once showed, told as short stories, and a few that the specification tells.
//!
//! The model judges every answer here too; what a scenario asserts by itself is the point of it.

use crate::reply::{Reply, Told};
use crate::rng::Rng;
use crate::subject::{Arrival, Subject};
use crate::universe::universe;
use bigbunny::node::request::{ConnectionId, Content, LockId, Operation, Request, RequestId, StoreKey, Target};
use bigbunny::node::response::Refusal;
use bigbunny::node::{Limits, NodeConfig};
use bigbunny::time::{Instant, Now, WallTime};
use std::collections::BTreeMap;
use std::time::Duration;

/// One node, and one shop with as many connections as it likes.
struct Story {
    subject: Subject,
    now: Instant,
    requests: u64,
    answers: BTreeMap<RequestId, Reply>,
}

/// Connections.
const ANNA: ConnectionId = ConnectionId(1);
const BERT: ConnectionId = ConnectionId(2);
const CARL: ConnectionId = ConnectionId(3);
const DORA: ConnectionId = ConnectionId(4);

impl Story {
    fn new() -> Self {
        Self::with(NodeConfig::default())
    }

    fn with(config: NodeConfig) -> Self {
        let now = Instant::from_millis(1_000_000);
        let subject = Subject::new(config, Rng::new(1), Now { monotonic: now, wall: WallTime(0) });
        Self { subject, now, requests: 0, answers: BTreeMap::new() }
    }

    fn happens(&mut self, arrival: Arrival) -> Option<Instant> {
        self.subject.handle(Now { monotonic: self.now, wall: WallTime(0) }, arrival);
        while let Some((id, reply)) = self.subject.has_answered().cloned() {
            self.subject.judge_next().unwrap();
            self.answers.insert(id, reply);
        }
        let due = self.subject.end().unwrap();
        self.subject.node.check_invariants();
        due
    }

    /// Somebody asks. The answer may come later.
    fn ask(&mut self, connection: ConnectionId, operation: Operation<'static>) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = Request::new(connection, "shop", operation);
        self.happens(Arrival::Request { id, request: Box::new(request) });
        id
    }

    /// Somebody asks, and is answered at once.
    fn gets(&mut self, connection: ConnectionId, operation: Operation<'static>) -> Reply {
        let id = self.ask(connection, operation);
        self.answer(id)
    }

    fn answer(&self, id: RequestId) -> Reply {
        self.answers.get(&id).unwrap_or_else(|| panic!("request {} has no answer", id.0)).clone()
    }

    fn waits(&self, id: RequestId) -> bool {
        !self.answers.contains_key(&id)
    }

    /// Time passes, and the node is told of it in time.
    fn pass_ms(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(due) = self.subject.node.next_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.happens(Arrival::Timeout);
        }
        self.now = until;
    }

    /// Time passes, and the node does not notice: its process is stopped.
    fn stop_ms(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    fn put(&mut self, name: &'static str, body: &'static [u8], ttl_ms: u64) -> StoreKey {
        let content = Content::Blob(body);
        match self.gets(ANNA, Operation::Put { name: name.into(), content, ttl_ms: Some(ttl_ms), wait_ms: 0 }).result {
            Ok(Told::StoreId { key, .. }) => key,
            other => panic!("{other:?}"),
        }
    }

    fn lock(&mut self, connection: ConnectionId, name: &'static str, hold_ms: u64) -> LockId {
        lock_of(&self.gets(connection, begin(name, 0, hold_ms, false)))
    }

    fn read(&mut self, key: StoreKey) -> Result<Told, Refusal> {
        self.gets(ANNA, Operation::Read { target: Target::Key(key), touch: None }).result
    }
}

fn begin(name: &'static str, wait_ms: u64, hold_ms: u64, create_if_missing: bool) -> Operation<'static> {
    Operation::BeginModify {
        target: Target::Name(name.into()),
        wait_ms,
        hold_ms: Some(hold_ms),
        connection_scope: false,
        renew: None,
        create_if_missing,
        ttl_ms: None,
    }
}

fn complete(name: &'static str, lock: LockId, ttl_ms: Option<u64>) -> Operation<'static> {
    Operation::CompleteModify { target: Target::Name(name.into()), lock, body: b"saved", ttl_ms }
}

fn lock_of(reply: &Reply) -> LockId {
    match &reply.result {
        Ok(Told::Locked { lock, .. }) => *lock,
        other => panic!("{other:?}"),
    }
}

/// Found by the simulator: the one way of deleting by name that passed over a store past its expiry, so that the save of a
/// session that had been logged out brought it back.
#[test]
fn deleting_many_takes_what_is_locked_past_its_expiry() {
    let mut story = Story::new();
    story.put("session", b"cart", 100);
    let lock = story.lock(ANNA, "session", 10_000);
    story.pass_ms(1_000);
    let deleted = story.gets(BERT, Operation::DeleteMany { names: vec!["session".into()] });
    assert_eq!(deleted.result, Ok(Told::Deleted { count: 0 }), "by name an expired store is not there");
    let saved = story.gets(ANNA, complete("session", lock, Some(60_000)));
    assert_eq!(saved.result, Err(Refusal::NotFound));
}

/// Found by the simulator (seed 817): a store that had expired, but not been noticed, was deleted with its prefix, and its id
/// answered `404` instead of `410`.
#[test]
fn deleting_a_prefix_after_a_pause_leaves_expired_ids_expired() {
    let mut story = Story::new();
    let over = story.put("a/1", b"x", 100);
    let alive = story.put("a/2", b"x", 60_000);
    story.stop_ms(200);
    let deleted = story.gets(ANNA, Operation::DeletePrefix { prefix: "a/".into() });
    assert_eq!(deleted.result, Ok(Told::Deleted { count: 1 }));
    assert_eq!(story.read(over), Err(Refusal::StoreExpired));
    assert_eq!(story.read(alive), Err(Refusal::NotFound));
}

/// As before, with a tombstone limit: what is over needs no tombstone.
#[test]
fn what_is_over_needs_no_tombstone() {
    let mut story = Story::with(NodeConfig {
        limits: Limits { tombstone_customer_limit: 1, ..Limits::default() },
        ..NodeConfig::default()
    });
    story.put("a/1", b"x", 100);
    story.put("a/2", b"x", 100);
    story.put("a/3", b"x", 60_000);
    story.stop_ms(200);
    let deleted = story.gets(ANNA, Operation::DeletePrefix { prefix: "a/".into() });
    assert_eq!(deleted.result, Ok(Told::Deleted { count: 1 }));
}

/// A lock that had run out, unnoticed, was dropped by the operator: the next in line kept what it got.
#[test]
fn the_operator_drops_a_hold_that_has_run_out() {
    let mut story = Story::new();
    let key = story.put("cart", b"x", 60_000);
    story.lock(ANNA, "cart", 100);
    let next = story.ask(BERT, begin("cart", 5_000, 1_000, false));
    let last = story.ask(CARL, begin("cart", 5_000, 1_000, false));
    story.stop_ms(200);
    story.happens(Arrival::Release(key));
    let lock = lock_of(&story.answer(next));
    assert!(story.waits(last));
    assert_eq!(story.gets(BERT, complete("cart", lock, None)).result, Ok(Told::Done));
    lock_of(&story.answer(last));
}

/// Found by the simulator as a mistake of the model (seed 2181): those who waited for a store that went wait before one whose
/// request brought it to light.
#[test]
fn who_finds_a_store_gone_stands_behind_those_who_waited() {
    let mut story = Story::new();
    story.put("cart", b"x", 100);
    story.lock(ANNA, "cart", 150);
    let first = story.ask(BERT, begin("cart", 5_000, 1_000, true));
    let second = story.ask(CARL, begin("cart", 5_000, 1_000, true));
    story.stop_ms(200);
    let third = story.ask(DORA, begin("cart", 5_000, 1_000, true));
    let made = story.answer(first);
    assert!(matches!(made.result, Ok(Told::Locked { created: true, .. })), "{made:?}");
    assert!(story.waits(second) && story.waits(third));
    story.gets(BERT, complete("cart", lock_of(&made), None));
    let lock = lock_of(&story.answer(second));
    assert!(story.waits(third));
    story.gets(CARL, complete("cart", lock, None));
    lock_of(&story.answer(third));
}

/// Section 4: a store is not removed at its expiry while it is locked, but it is not served either.
#[test]
fn a_save_may_finish_after_the_expiry() {
    let mut story = Story::new();
    let key = story.put("cart", b"x", 100);
    let lock = story.lock(ANNA, "cart", 10_000);
    story.pass_ms(1_000);
    assert_eq!(story.read(key), Err(Refusal::StoreExpired));
    let name_taken =
        Operation::CreateNamed { name: "cart".into(), content: Content::Blob(b"y"), ttl_ms: None, reuse: true };
    assert_eq!(story.gets(BERT, name_taken).result, Err(Refusal::NameExists));
    assert_eq!(story.gets(ANNA, complete("cart", lock, Some(60_000))).result, Ok(Told::Done));
    assert_eq!(story.read(key), Ok(Told::Blob(b"saved".into())));
}

/// Section 7: the id of an expired store answers `410` for 30 s, then `404`; its name is free at once.
#[test]
fn an_expired_id_is_gone_and_then_unknown() {
    let mut story = Story::new();
    let key = story.put("cart", b"x", 100);
    story.pass_ms(99);
    assert_eq!(story.read(key), Ok(Told::Blob(b"x".into())));
    story.pass_ms(1);
    assert_eq!(story.read(key), Err(Refusal::StoreExpired));
    assert_ne!(story.put("cart", b"y", 60_000), key);
    story.pass_ms(29_999);
    assert_eq!(story.read(key), Err(Refusal::StoreExpired));
    story.pass_ms(1_001);
    assert_eq!(story.read(key), Err(Refusal::NotFound));
}

/// Section 5: a prefix of a thousand names is deleted in turns, and others are answered in between.
#[test]
fn a_long_prefix_delete_holds_nobody_up() {
    let mut story = Story::with(NodeConfig {
        limits: Limits { rate_limit_per_second: 0, ..Limits::default() },
        ..NodeConfig::default()
    });
    let names: Vec<&'static str> = (0..512).flat_map(|n| [8 * n, 8 * n + 1]).map(|n| universe().name(n)).collect();
    for name in &names {
        story.put(name, b"x", 60_000);
    }
    let job = story.ask(ANNA, Operation::DeletePrefix { prefix: "s/".into() });
    assert!(story.waits(job));
    let last = names.iter().max().unwrap();
    let in_between = story.gets(BERT, Operation::Lookup { name: (*last).into() });
    assert!(in_between.result.is_ok());
    story.pass_ms(1);
    assert_eq!(story.answer(job).result, Ok(Told::Deleted { count: 1024 }));
    assert_eq!(story.subject.node.status().stores, 0);
}

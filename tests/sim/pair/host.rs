//! One machine of the pair: its clock, its process, what waits for it, and what the node said in one turn.

use super::sealed::Sockets;
use crate::rng::Rng;
use bigbunny::node::request::{Content, Etag, LockId, RequestId, StoreKey};
use bigbunny::node::response::{Answer, Refusal, Response};
use bigbunny::node::{EntryImage, Event, Limits, Node, Outbox, PeerMisbehaved, Role, cost_of_new_bytes};
use bigbunny::peer::message::{Message, write_message};
use bigbunny::store_id::KeyRing;
use bigbunny::time::{Instant, Now, WallTime};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// So early that a wall clock can be set back by an hour or two.
const HOUR_NS: u64 = 4 * 3600 * 1_000_000_000;

/// A clock that drifts and reads in steps.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    base_ns: u64,
    start: u64,
    ppm: i64,
    step_ns: u64,
    /// What somebody has set the wall clock forward or back, in all.
    pub(crate) wall_steps_ms: i64,
    /// The wall clock runs backwards since this reading of the other one.
    wall_back_since: Option<Instant>,
}

impl Clock {
    pub(crate) fn new(rng: &mut Rng, start: u64, ppm: i64, step_ns: u64) -> Self {
        Self {
            base_ns: rng.log_between(HOUR_NS, 1 << 50),
            start,
            ppm,
            step_ns,
            wall_steps_ms: 0,
            wall_back_since: None,
        }
    }

    pub(crate) fn read(&self, now: u64) -> Now {
        // A run is ten minutes: that fits.
        let ns = self.base_ns + (now - self.start) * (1_000_000 + self.ppm) as u64 / 1_000_000;
        let ns = ns / self.step_ns * self.step_ns;
        let monotonic = Instant::from_nanos(ns);
        let back_ms = self.wall_back_since.map_or(0, |since| 2 * monotonic.since(since).as_millis() as i64);
        Now { monotonic, wall: WallTime(monotonic.as_millis().saturating_add_signed(self.wall_steps_ms - back_ms)) }
    }

    /// The wall clock turns round.
    pub(crate) fn turn_wall_round(&mut self, now: u64) {
        let now = self.read(now).monotonic;
        match self.wall_back_since.take() {
            Some(since) => self.wall_steps_ms -= 2 * now.since(since).as_millis() as i64,
            None => self.wall_back_since = Some(now),
        }
    }

    /// When the clock will read at least this.
    pub(crate) fn when(&self, at: Instant) -> u64 {
        let ns = at.as_nanos().div_ceil(self.step_ns).saturating_mul(self.step_ns);
        let (passed, rate) = (ns.saturating_sub(self.base_ns), (1_000_000 + self.ppm) as u64);
        let passed = match passed.checked_mul(1_000_000) {
            Some(passed) => passed.div_ceil(rate),
            None => (u128::from(passed) * 1_000_000).div_ceil(u128::from(rate)).try_into().unwrap_or(u64::MAX),
        };
        self.start.saturating_add(passed)
    }
}

/// What comes to a node.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Request(u64),
    Closed(u64),
    PeerUp { incarnation: u64, generation: u64 },
    PeerDown,
    PeerRefused,
    Message { from: u64, bytes: Vec<u8> },
    Promote { id: u64, force: bool },
    Timeout,
}

impl Arrival {
    /// It comes from a client: those are let in only when the node says so.
    pub(crate) fn is_of_client(&self) -> bool {
        match self {
            Self::Request(_) | Self::Closed(_) => true,
            Self::PeerUp { .. }
            | Self::PeerDown
            | Self::PeerRefused
            | Self::Message { .. }
            | Self::Promote { .. }
            | Self::Timeout => false,
        }
    }
}

/// An answer that outlives the call.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) result: Result<Body, Refusal>,
    pub(crate) ttl_left_ms: Option<u64>,
    pub(crate) by: Role,
    pub(crate) degraded: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Done,
    StoreId { customer: String, key: StoreKey },
    Blob(Vec<u8>),
    Counter(u64),
    Locked { lock: LockId, body: Vec<u8> },
    Other,
}

impl From<&Response<'_>> for Heard {
    fn from(response: &Response<'_>) -> Self {
        let result = match &response.result {
            Err(refusal) => Err(*refusal),
            Ok(Answer::Done) => Ok(Body::Done),
            Ok(Answer::StoreId { customer, key, .. }) => {
                Ok(Body::StoreId { customer: (*customer).to_owned(), key: *key })
            }
            Ok(Answer::Blob(bytes)) => Ok(Body::Blob(bytes.to_vec())),
            Ok(Answer::Locked { lock, body, .. }) => Ok(Body::Locked { lock: *lock, body: body.to_vec() }),
            Ok(Answer::Counter { counter, .. }) => Ok(Body::Counter(counter.value as u64)),
            Ok(Answer::Authorized | Answer::Names { .. } | Answer::Deleted { .. } | Answer::Stores(_)) => {
                Ok(Body::Other)
            }
        };
        Self {
            result,
            ttl_left_ms: response.facts.map(|facts| facts.ttl_left_ms),
            by: response.by,
            degraded: response.degraded,
        }
    }
}

/// A message, and what it answers if it is the answer to a forwarded request.
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) forwarded: Option<(u64, Heard)>,
    /// Its place among the answers.
    pub(crate) order: u32,
}

/// What a node said.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) answers: Vec<(u64, Heard, u32)>,
    /// So many of them, the first ones, are the other node's: it did what was asked, even if this one is primary by now.
    pub(crate) passed_on: usize,
    order: u32,
    pub(crate) messages: Vec<Sent>,
    pub(crate) events: Vec<Event>,
    pub(crate) misbehaved: Option<PeerMisbehaved>,
}

impl Outbox for Said {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        self.order += 1;
        self.answers.push((id.0, Heard::from(&response), self.order));
    }

    fn send_peer(&mut self, message: Message<'_>) {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &message).expect("whatever a node says fits");
        let forwarded =
            if let Message::Forwarded { id, response } = &message { Some((*id, Heard::from(response))) } else { None };
        self.order += 1;
        self.messages.push(Sent { bytes, forwarded, order: self.order });
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        self.misbehaved = Some(why);
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// A machine.
pub(crate) struct Host {
    pub(crate) node: Option<Box<Node>>,
    /// Which life of its process this is.
    pub(crate) life: u64,
    pub(crate) clock: Clock,
    /// What its clock said last.
    pub(crate) last_read: Instant,
    /// It does nothing until then.
    pub(crate) busy_until: u64,
    /// The last time at which it was arranged that it looks again.
    pub(crate) wakes_at: u64,
    pub(crate) inbox: VecDeque<Arrival>,
    /// Requests that may still be served before the turn ends.
    pub(crate) turn_left: u32,
    /// Its sockets, where the link is sealed, and whether one of them has something to do.
    pub(crate) sockets: Option<Sockets>,
    pub(crate) has_ready_sockets: bool,
    /// Which internal token it has: an operator may have given one node another one first.
    pub(crate) token: u8,
    /// Decided before a pause, and not yet sent.
    pub(crate) unsent: Option<Said>,
    /// A dead process' port refuses; a dead machine says nothing.
    pub(crate) refuses: bool,
    /// The branch of history it is primary of, or follows.
    pub(crate) branch: Option<usize>,
    /// The branch it was primary of last, and its last change, until it has said what of that is lost.
    pub(crate) was_primary: Option<(usize, u64)>,
    /// The operator ordered it to be primary, whatever the other does.
    pub(crate) forced: bool,
    /// Ids of forwarded requests that came to it, and the asks they are.
    pub(crate) forwarded: BTreeMap<u64, u64>,
    /// It was asked to stop.
    pub(crate) stopping: Option<u64>,
    /// By what it was told: in safe mode it may answer changes until then, by its own clock.
    pub(crate) lease_until: Instant,
    /// It follows somebody, or has heard of somebody who has data, in this life.
    pub(crate) knows_of_data: bool,
    /// The peer's life that it heard that of.
    pub(crate) knows_from: u64,
    /// The lives of the other node that this life has heard, the newest last.
    pub(crate) peers: Vec<u64>,
    /// By its own clock: when it had the last heartbeat that counted.
    pub(crate) heartbeat_at: Option<Instant>,
    /// By its own clock: until when each customer's bucket is not full, as far as its answers tell.
    pub(crate) buckets: BTreeMap<usize, Instant>,
    /// What its files say, which outlive its process.
    pub(crate) limits: Limits,
    pub(crate) keyring: KeyRing,
}

impl Host {
    /// It hears a life of the other node. Says whether that is the newest: whatever older ones say late means nothing.
    pub(crate) fn hears(&mut self, incarnation: u64) -> bool {
        if !self.peers.contains(&incarnation) {
            self.peers.push(incarnation);
        }
        self.peers.last() == Some(&incarnation)
    }
}

/// What two nodes must have in common: the digest of everything but deadlines, with and without locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) all: u64,
    pub(crate) without_locks: u64,
}

/// What is in an entry, apart from its name.
pub(crate) fn content_hash(entry: &EntryImage<'_>) -> u64 {
    let mut hash = Fnv(1);
    hash.bytes(entry.blob.unwrap_or(b"\x00\x01"));
    hash.word(entry.counter.map_or(0, |counter| counter.value as u64));
    hash.0
}

/// A store at one of its versions.
pub(crate) fn tag_hash(key: &StoreKey, etag: Etag) -> u64 {
    let mut hash = Fnv(1);
    hash.bytes(&key.0);
    hash.tag(etag);
    hash.0
}

/// For tables whose keys are such hashes.
pub(crate) type Hashed = BuildHasherDefault<AsItIs>;

#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes come here");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a node's books should say, by its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) stores: u64,
    pub(crate) tombstones: u64,
    pub(crate) names: u64,
    /// Without what answers cost that are kept.
    pub(crate) memory_bytes: u64,
}

impl Books {
    pub(crate) fn add(&mut self, entry: &EntryImage<'_>) {
        self.tombstones += u64::from(entry.is_tombstone);
        let content = match (entry.blob, entry.counter) {
            (Some(blob), _) => Content::Blob(blob),
            (None, Some(counter)) => Content::Counter(counter),
            (None, None) => return,
        };
        self.stores += 1;
        self.names += u64::from(entry.name.is_some());
        self.memory_bytes += cost_of_new_bytes(&content, entry.name);
    }
}

struct Fnv(u64);

impl Fnv {
    /// The beginning, the end and the length: what the clients write differs there or not at all.
    fn bytes(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks::<8>().0.iter().take(4) {
            self.word(u64::from_le_bytes(*word));
        }
        // The last ones may have been in a word before: that costs less than to take them apart.
        let last = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(last), ..) => u64::from_le_bytes(*last),
            (None, Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            (None, ..) => bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        self.word(last ^ (bytes.len() as u64) << 40);
    }

    /// Both parts, which never meet: versions are below 2^40 here, and epochs below 2^24.
    fn tag(&mut self, etag: Etag) {
        self.word(etag.version | u64::from(etag.epoch) << 40);
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

pub(crate) fn digest<'n>(image: impl Iterator<Item = EntryImage<'n>>) -> Digest {
    let mut digest = Digest { all: 0, without_locks: 0 };
    for entry in image {
        let mut hash = Fnv(1);
        hash.bytes(&entry.key.0);
        hash.bytes(entry.customer.as_bytes());
        hash.bytes(entry.name.unwrap_or("\u{0}").as_bytes());
        hash.bytes(entry.blob.unwrap_or(b"\x00\x01"));
        if let Some(counter) = entry.counter {
            hash.word(counter.value as u64);
        }
        hash.word(u64::from(entry.is_tombstone));
        if let Some(etag) = entry.etag {
            hash.tag(etag);
        }
        digest.without_locks = digest.without_locks.wrapping_add(hash.0);
        if let Some(lock) = entry.lock {
            hash.bytes(&lock.0);
        }
        digest.all = digest.all.wrapping_add(hash.0);
    }
    digest
}

//! Requests of clients who know a few names, and the keys and locks that they were answered.

use std::borrow::Cow;

use bigbunny::node::request::{
    Condition, ConnectionId, Content, Counter, CounterToMake, Etag, Idempotency, IfMatch, LockId, Operation, Request,
    StoreKey, Target, TouchOnRead,
};
use bigbunny::node::response::{Answer, Response};

use super::bytes::Bytes;

const NAMES: [&str; 6] = ["a", "a/b", "a/c", "b", "\u{e4}\u{10ffff}", "n"];
const CUSTOMERS: [&str; 3] = ["c", "d", "e"];
const KEYS: [&str; 3] = ["k", "l", "m"];

/// What clients have learnt.
#[derive(Default)]
pub(crate) struct Known {
    keys: Vec<StoreKey>,
    locks: Vec<LockId>,
}

impl Known {
    pub(crate) fn learn(&mut self, response: &Response<'_>) {
        match &response.result {
            Ok(Answer::StoreId { key, .. }) if self.keys.len() < 16 => self.keys.push(*key),
            Ok(Answer::Locked { lock, .. }) if self.locks.len() < 16 => self.locks.push(*lock),
            _ => {}
        }
    }

    fn key(&self, bytes: &mut Bytes<'_>) -> StoreKey {
        self.keys.get(bytes.below(16)).copied().unwrap_or(StoreKey([9; 20]))
    }

    fn lock(&self, bytes: &mut Bytes<'_>) -> LockId {
        self.locks.get(bytes.below(16)).copied().unwrap_or(LockId([9; 16]))
    }

    fn target(&self, bytes: &mut Bytes<'_>) -> Target<'static> {
        if bytes.below(2) == 0 { Target::Name(name(bytes)) } else { Target::Key(self.key(bytes)) }
    }

    /// Any request.
    pub(crate) fn request<'b>(&self, bytes: &mut Bytes<'b>) -> Request<'b> {
        let flags = bytes.byte();
        let condition = Condition {
            if_match: match flags & 7 {
                0 => IfMatch::Any,
                1 => IfMatch::Tag(Etag { epoch: bytes.below(4) as u32, version: bytes.number() }),
                2 => IfMatch::Foreign,
                _ => IfMatch::Unset,
            },
            if_none_match_any: flags & 7 == 3,
        };
        let operation = self.operation(bytes);
        // As the API has it: only what changes something has a key.
        let with_key = operation.is_change() && flags & 0x80 != 0;
        let idempotency =
            with_key.then(|| Idempotency { key: KEYS[bytes.below(KEYS.len())], fingerprint: [bytes.byte() % 3; 16] });
        Request {
            connection: ConnectionId(bytes.below(4) as u64),
            customer: CUSTOMERS[bytes.below(CUSTOMERS.len())],
            condition,
            durable: flags & 0x20 != 0,
            from_primary: flags & 0x40 != 0,
            idempotency,
            operation,
        }
    }

    fn operation<'b>(&self, bytes: &mut Bytes<'b>) -> Operation<'b> {
        match bytes.below(20) {
            0 => Operation::Create { content: content(bytes), ttl_ms: ttl(bytes) },
            1 => Operation::CreateNamed {
                name: name(bytes),
                content: content(bytes),
                ttl_ms: ttl(bytes),
                reuse: bytes.below(2) == 1,
            },
            2 => {
                Operation::Put { name: name(bytes), content: content(bytes), ttl_ms: ttl(bytes), wait_ms: wait(bytes) }
            }
            3 => Operation::Lookup { name: name(bytes) },
            4 => Operation::Read { target: Target::Key(self.key(bytes)), touch: None },
            5 => Operation::Read { target: Target::Name(name(bytes)), touch: touch(bytes) },
            6 => Operation::Authorize { name: (bytes.below(4) > 0).then(|| name(bytes)), touch: touch(bytes) },
            7 => {
                Operation::Update { key: self.key(bytes), body: blob(bytes), ttl_ms: ttl(bytes), wait_ms: wait(bytes) }
            }
            8 | 9 => {
                let target = self.target(bytes);
                let create_if_missing = matches!(target, Target::Name(_)) && bytes.below(2) == 1;
                Operation::BeginModify {
                    target,
                    wait_ms: wait(bytes),
                    hold_ms: (bytes.below(2) == 1).then(|| 1 + bytes.pause_ms().min(30_000)),
                    connection_scope: bytes.below(4) == 1,
                    renew: (bytes.below(4) == 1).then(|| self.lock(bytes)),
                    create_if_missing,
                    ttl_ms: ttl(bytes),
                }
            }
            10 => Operation::CompleteModify {
                target: self.target(bytes),
                lock: self.lock(bytes),
                body: blob(bytes),
                ttl_ms: ttl(bytes),
            },
            11 => Operation::CancelModify { target: self.target(bytes), lock: self.lock(bytes) },
            12 => Operation::Delete { target: self.target(bytes) },
            13 => {
                let target = self.target(bytes);
                let is_named = matches!(target, Target::Name(_));
                Operation::Increment {
                    target,
                    delta: i128::from(bytes.number() as i64),
                    reject_at_bound: is_named && bytes.below(2) == 1,
                    make: is_named.then(|| CounterToMake { counter: counter(bytes), ttl_ms: ttl(bytes) }),
                    ttl_ms: ttl(bytes),
                }
            }
            14 => Operation::Touch { target: self.target(bytes), ttl_ms: 1 + bytes.pause_ms() },
            15 => Operation::List {
                prefix: prefix(bytes),
                after: (bytes.below(2) == 1).then(|| name(bytes)),
                limit: 1 + bytes.below(1000),
            },
            16 => Operation::DeletePrefix { prefix: prefix(bytes) },
            17 => Operation::ReadMany { names: (0..bytes.below(8)).map(|_| name(bytes)).collect() },
            18 => Operation::DeleteMany { names: (0..bytes.below(8)).map(|_| name(bytes)).collect() },
            _ => Operation::Rename { name: name(bytes), to: name(bytes) },
        }
    }
}

fn name(bytes: &mut Bytes<'_>) -> Cow<'static, str> {
    Cow::Borrowed(NAMES[bytes.below(NAMES.len())])
}

fn prefix(bytes: &mut Bytes<'_>) -> Cow<'static, str> {
    Cow::Borrowed(["", "a", "a/", "\u{e4}"][bytes.below(4)])
}

fn counter(bytes: &mut Bytes<'_>) -> Counter {
    let bound = |bytes: &mut Bytes<'_>| (bytes.below(3) == 0).then(|| bytes.number() as i64);
    Counter { value: bytes.number() as i64, min: bound(bytes), max: bound(bytes) }
}

fn content<'b>(bytes: &mut Bytes<'b>) -> Content<'b> {
    if bytes.below(3) == 0 { Content::Counter(counter(bytes)) } else { Content::Blob(blob(bytes)) }
}

fn blob<'b>(bytes: &mut Bytes<'b>) -> &'b [u8] {
    // Rarely a large one, so that backlogs fill.
    const LARGE: &[u8] = &[0x55; 20_000];
    if bytes.below(32) == 31 { LARGE } else { bytes.piece() }
}

fn ttl(bytes: &mut Bytes<'_>) -> Option<u64> {
    (bytes.below(2) == 1).then(|| 1 + bytes.pause_ms())
}

fn wait(bytes: &mut Bytes<'_>) -> u64 {
    if bytes.below(2) == 1 { bytes.pause_ms().min(30_000) } else { 0 }
}

fn touch(bytes: &mut Bytes<'_>) -> Option<TouchOnRead> {
    (bytes.below(3) == 1).then(|| TouchOnRead {
        ttl_ms: 1 + bytes.pause_ms(),
        if_below_ms: (bytes.below(2) == 1).then(|| bytes.pause_ms()),
    })
}

//! What is asked of the pair: each kind of request, who sent it, and the values that tell whose they are.

use super::ledger::{Done, Place, Wrong};
use bigbunny::node::EntryImage;
use bigbunny::node::request::{
    ConnectionId, Content, Counter, CounterToMake, Idempotency, LockId, Operation, Request, StoreKey, Target,
};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(crate) const CUSTOMERS: [&str; 2] = ["shop", "other"];

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Put { name: String, body: Vec<u8>, ttl_ms: Option<u64>, wait_ms: u64 },
    Create { body: Vec<u8> },
    Read { name: String },
    Delete { name: String },
    Increment { name: String },
    Begin { name: String, wait_ms: u64, hold_ms: u64, connection_scope: bool },
    Complete { name: String, lock: LockId, body: Vec<u8> },
    Cancel { name: String, lock: LockId },
    Touch { name: String, ttl_ms: u64 },
    Rename { name: String, to: String },
    DeletePrefix { prefix: String },
    DeleteMany { names: Vec<String> },
    ReadMany { names: Vec<String> },
    DeleteKey { key: StoreKey },
    ReadKey { key: StoreKey },
    List,
}

/// Where an ask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waits,
    Answered,
    /// Its connection has ended, or the process that had it.
    Gone,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Client(usize),
    Visit(u64),
}

/// One request of one client, on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) asker: Asker,
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) customer: usize,
    pub(crate) act: Act,
    pub(crate) place: Option<Place>,
    pub(crate) op: Option<usize>,
    pub(crate) durable: bool,
    pub(crate) from_primary: bool,
    pub(crate) key: Option<String>,
    pub(crate) state: State,
    pub(crate) sent_at: u64,
    /// When it was sent for the first time; `None` before.
    pub(crate) first_sent_at: Option<u64>,
    pub(crate) wait_ms: u64,
    /// Where and when it was carried out.
    pub(crate) done_in: Option<Done>,
}

impl Ask {
    /// Not sent yet: [`World::sends`](super::world::World) gives it its number and its host.
    pub(crate) fn new(asker: Asker, customer: usize, act: Act) -> Self {
        Self {
            id: 0,
            asker,
            host: 0,
            life: 0,
            customer,
            act,
            place: None,
            op: None,
            durable: false,
            from_primary: false,
            key: None,
            state: State::Waits,
            sent_at: 0,
            first_sent_at: None,
            wait_ms: 0,
            done_in: None,
        }
    }

    pub(crate) fn is_change(&self) -> bool {
        !matches!(self.act, Act::Read { .. } | Act::ReadMany { .. } | Act::ReadKey { .. } | Act::List)
    }

    /// For what is about a lock: how long it is to be held, or nothing more.
    pub(crate) fn lock_hold_ms(&self) -> Option<u64> {
        match &self.act {
            Act::Begin { hold_ms, .. } => Some(*hold_ms),
            Act::Complete { .. } | Act::Cancel { .. } => Some(0),
            Act::Put { .. }
            | Act::Create { .. }
            | Act::Read { .. }
            | Act::Delete { .. }
            | Act::Increment { .. }
            | Act::Touch { .. }
            | Act::Rename { .. }
            | Act::DeletePrefix { .. }
            | Act::DeleteMany { .. }
            | Act::ReadMany { .. }
            | Act::DeleteKey { .. }
            | Act::ReadKey { .. }
            | Act::List => None,
        }
    }

    /// For people: what is asked, without the filling of its body.
    pub(crate) fn story(&self) -> String {
        let mut act = self.act.clone();
        if let Act::Put { body, .. } | Act::Create { body } | Act::Complete { body, .. } = &mut act {
            body.truncate(12);
        }
        let key = self.key.as_deref().unwrap_or("no key");
        format!("{act:?} under {key}{}", if self.durable { ", durable" } else { "" })
    }

    pub(crate) fn operation(&self) -> Operation<'_> {
        let name = |name: &'_ String| Cow::Owned(name.clone());
        let target = |name: &'_ String| Target::Name(Cow::Owned(name.clone()));
        match &self.act {
            Act::Put { name: at, body, ttl_ms, wait_ms } => {
                Operation::Put { name: name(at), content: Content::Blob(body), ttl_ms: *ttl_ms, wait_ms: *wait_ms }
            }
            Act::Create { body } => Operation::Create { content: Content::Blob(body), ttl_ms: None },
            Act::Read { name } => Operation::Read { target: target(name), touch: None },
            Act::Delete { name } => Operation::Delete { target: target(name) },
            Act::Increment { name } => Operation::Increment {
                target: target(name),
                delta: 1,
                reject_at_bound: false,
                make: Some(CounterToMake { counter: Counter { value: 0, min: None, max: None }, ttl_ms: None }),
                ttl_ms: None,
            },
            Act::Begin { name, wait_ms, hold_ms, connection_scope } => Operation::BeginModify {
                target: target(name),
                wait_ms: *wait_ms,
                hold_ms: Some(*hold_ms),
                connection_scope: *connection_scope,
                renew: None,
                create_if_missing: true,
                ttl_ms: None,
            },
            Act::Complete { name, lock, body } => {
                Operation::CompleteModify { target: target(name), lock: *lock, body, ttl_ms: None }
            }
            Act::Cancel { name, lock } => Operation::CancelModify { target: target(name), lock: *lock },
            Act::Touch { name, ttl_ms } => Operation::Touch { target: target(name), ttl_ms: *ttl_ms },
            Act::Rename { name: from, to } => Operation::Rename { name: name(from), to: name(to) },
            Act::DeletePrefix { prefix } => Operation::DeletePrefix { prefix: name(prefix) },
            Act::DeleteMany { names } => Operation::DeleteMany { names: names.iter().map(name).collect() },
            Act::ReadMany { names } => Operation::ReadMany { names: names.iter().map(name).collect() },
            Act::DeleteKey { key } => Operation::Delete { target: Target::Key(*key) },
            Act::ReadKey { key } => Operation::Read { target: Target::Key(*key), touch: None },
            Act::List => Operation::List { prefix: Cow::Borrowed(""), after: None, limit: 100 },
        }
    }

    pub(crate) fn request<'a>(&'a self, operation: Operation<'a>) -> Request<'a> {
        Request {
            durable: self.durable,
            from_primary: self.from_primary,
            idempotency: self.key.as_deref().map(|key| Idempotency { key, fingerprint: [7; 16] }),
            ..Request::new(ConnectionId(self.id), CUSTOMERS[self.customer], operation)
        }
    }
}

pub(crate) fn name_of(place: Place) -> String {
    format!("{}{}", char::from(place.1), place.2)
}

/// Whose value it is, and which.
pub(crate) const VALUE_HEAD_BYTES: u64 = 12;

/// The bytes that say whose value it is.
pub(crate) fn body_of(place: Place, value: u64, more: u64) -> Vec<u8> {
    let mut body = vec![place.0 as u8, place.1, place.2 as u8, 0];
    body.extend_from_slice(&value.to_le_bytes());
    body.resize((VALUE_HEAD_BYTES + more) as usize, 0x5a);
    body
}

/// Whose value it is; nothing of an empty body.
pub(crate) fn read_body(body: &[u8]) -> Option<(Place, u64)> {
    let value = u64::from_le_bytes(body.get(4..12)?.try_into().expect("eight bytes"));
    Some(((usize::from(body[0]), body[1], u64::from(body[2])), value))
}

/// Counters and registers as they are in the end.
#[allow(clippy::type_complexity, reason = "two maps by place")]
pub(crate) fn read_image(image: &[EntryImage<'_>]) -> Result<(BTreeMap<Place, i64>, BTreeMap<Place, u64>), Wrong> {
    let (mut counters, mut registers) = (BTreeMap::new(), BTreeMap::new());
    for entry in image {
        let Some(name) = entry.name else { continue };
        let Some(customer) = CUSTOMERS.iter().position(|customer| *customer == entry.customer) else {
            return Err(format!("customers-apart: a store of {}", entry.customer));
        };
        let place = (customer, name.as_bytes()[0], name[1..].parse().unwrap_or(0));
        if let Some(counter) = entry.counter {
            counters.insert(place, counter.value);
        }
        if let Some((of, value)) = entry.blob.and_then(read_body) {
            if of != place && matches!(place.1, b'r' | b'l' | b't') {
                return Err(format!("customers-apart: {place:?} holds a value of {of:?}"));
            }
            registers.insert(place, value);
        }
    }
    Ok((counters, registers))
}

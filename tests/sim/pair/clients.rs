//! The clients of both nodes: what they ask, what they make of the answers, and what they try again.

use super::coverage::Met;
use super::host::{Arrival, Body, Heard};
use super::ledger::{Deed, Done, Op, Place, Wrong};
use super::net::{MS, US};
use super::world::{Event, World};
use bigbunny::node::request::{
    Condition, ConnectionId, Content, Counter, CounterToMake, Idempotency, LockId, Operation, Request, Target,
};
use bigbunny::node::response::Refusal;
use bigbunny::node::{EntryImage, Role};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Kinds of deeds a run draws the weights of: see [`World::new_deed`].
pub(crate) const DEEDS: usize = 8;
/// More requests in a storm say nothing new.
pub(crate) const ASKS_IN_STORM_MAX: u64 = 3000;
/// And in the calm behind it.
pub(crate) const ASKS_IN_CALM_MAX: u64 = 1000;
/// A key is good for a minute; whoever tries for longer begins anew.
const RETRY_FOR_MS: u64 = 40_000;
/// How long a client waits that was told to try again.
const UNAVAILABLE_PAUSE_MS: u64 = 300;
/// What a primary takes for a forwarded request beside its wait, and a little more.
const FORWARD_MS: u64 = 6_500;

const CUSTOMERS: [&str; 2] = ["shop", "other"];

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Put { name: String, body: Vec<u8>, ttl_ms: Option<u64>, wait_ms: u64 },
    Create { body: Vec<u8> },
    Read { name: String },
    Delete { name: String },
    Increment { name: String },
    Begin { name: String, wait_ms: u64, hold_ms: u64 },
    Complete { name: String, lock: LockId, body: Vec<u8> },
    Cancel { name: String, lock: LockId },
    Touch { name: String, ttl_ms: u64 },
    Rename { name: String, to: String },
    DeletePrefix { prefix: String },
    DeleteMany { names: Vec<String> },
    ReadMany { names: Vec<String> },
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

/// One request of one client, on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    client: usize,
    host: usize,
    life: u64,
    customer: usize,
    pub(crate) act: Act,
    place: Option<Place>,
    op: Option<usize>,
    durable: bool,
    from_primary: bool,
    key: Option<String>,
    state: State,
    sent_at: u64,
    wait_ms: u64,
    /// It was answered somewhere, and that place.
    done_in: Option<usize>,
}

impl Ask {
    pub(crate) fn is_change(&self) -> bool {
        !matches!(self.act, Act::Read { .. } | Act::ReadMany { .. } | Act::List)
    }

    pub(crate) fn customer(&self) -> usize {
        self.customer
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
            Act::Begin { name, wait_ms, hold_ms } => Operation::BeginModify {
                target: target(name),
                wait_ms: *wait_ms,
                hold_ms: Some(*hold_ms),
                connection_scope: false,
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
            Act::List => Operation::List { prefix: Cow::Borrowed(""), after: None, limit: 100 },
        }
    }

    pub(crate) fn request<'a>(&'a self, operation: Operation<'a>) -> Request<'a> {
        Request {
            connection: ConnectionId(self.id),
            customer: CUSTOMERS[self.customer],
            condition: Condition::default(),
            durable: self.durable,
            from_primary: self.from_primary,
            idempotency: self.key.as_deref().map(|key| Idempotency { key, fingerprint: [7; 16] }),
            operation,
        }
    }
}

/// A client: one thing at a time.
#[derive(Debug)]
pub(crate) struct Client {
    host: usize,
    customer: usize,
    asks: Option<u64>,
    /// To be tried again under the same key, and since when.
    retry: Option<(Ask, u64)>,
    held: Option<(Place, LockId)>,
    pub(crate) rests: bool,
}

fn name_of(place: Place) -> String {
    format!("{}{}", char::from(place.1), place.2)
}

/// The bytes that say whose value it is.
fn body_of(place: Place, value: u64, more: u64) -> Vec<u8> {
    let mut body = vec![place.0 as u8, place.1, place.2 as u8, 0];
    body.extend_from_slice(&value.to_le_bytes());
    body.resize(12 + more as usize, 0x5a);
    body
}

/// Whose value it is; nothing of an empty body.
fn read_body(body: &[u8]) -> Option<(Place, u64)> {
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

impl World {
    pub(crate) fn make_clients(&mut self) {
        for number in 0..self.profile.clients {
            let host = self.client_rng.index(2);
            let customer = self.client_rng.index(self.profile.customers);
            self.clients.push(Client { host, customer, asks: None, retry: None, held: None, rests: false });
            let at = self.client_rng.between(0, 6000) * MS;
            self.schedule(at, Event::ClientActs(number));
        }
    }

    fn acts_later(&mut self, client: usize) {
        let (low, high) = if self.calm { self.profile.calm_think_us } else { self.profile.think_us };
        let at = self.now + self.client_rng.log_between(low, high) * US;
        self.schedule(at, Event::ClientActs(client));
    }

    pub(crate) fn client_acts(&mut self, number: usize) -> Result<(), Wrong> {
        if self.clients[number].asks.is_some() || self.clients[number].rests || self.coverage.asks >= self.asks_max {
            return Ok(());
        }
        if self.hosts[self.clients[number].host].node.is_none() {
            // Its own node is away; some have another to go to.
            if self.client_rng.one_in(3) {
                self.clients[number].host ^= 1;
            }
            let at = self.now + self.client_rng.between(10, 500) * MS;
            self.schedule(at, Event::ClientActs(number));
            return Ok(());
        }
        if let Some((ask, since)) = self.clients[number].retry.take()
            && self.now < since + RETRY_FOR_MS * MS
        {
            self.coverage.met(Met::RetriedAfterUnknown);
            if ask.host != self.clients[number].host {
                self.coverage.met(Met::RetriedOnOtherNode);
            }
            return self.asks(number, ask);
        }
        let ask = self.new_deed(number);
        self.asks(number, ask)
    }

    /// A client sends a request; it has its own connection.
    fn asks(&mut self, number: usize, mut ask: Ask) -> Result<(), Wrong> {
        ask.id = self.next_ask;
        self.next_ask += 1;
        ask.client = number;
        ask.host = self.clients[number].host;
        ask.life = self.hosts[ask.host].life;
        ask.state = State::Waits;
        ask.sent_at = self.now;
        ask.done_in = None;
        if let Some(op) = ask.op {
            let op = &mut self.ledger.ops[op];
            op.attempts += 1;
            if op.attempts > 1
                && let Deed::Write(Some(value)) = op.deed
                && let Some((at, _)) = self.ledger.times.get_mut(&value)
            {
                // It may be carried out anew, and nobody knows when.
                *at = u64::MAX;
            }
        }
        self.coverage.asks += 1;
        let (id, host) = (ask.id, ask.host);
        self.clients[number].asks = Some(id);
        self.asks.insert(id, ask);
        if self.client_rng.chance(self.profile.impatience) {
            let (low, high) = self.profile.patience_ms;
            let at = self.now + self.client_rng.log_between(low, high) * MS;
            self.schedule(at, Event::ClientGivesUp { client: number, ask: id });
        }
        self.give(host, Arrival::Request(id))
    }

    fn op(&mut self, place: Place, deed: Deed) -> usize {
        let op = self.ledger.ops.len();
        self.ledger.ops.push(Op { place, deed, done: Vec::new(), unknown: false, attempts: 0 });
        if let Deed::Write(Some(value)) = deed {
            self.ledger.values.insert(value, op);
        }
        op
    }

    fn new_deed(&mut self, number: usize) -> Ask {
        let customer = self.clients[number].customer;
        let mut ask = Ask {
            id: 0,
            client: number,
            host: 0,
            life: 0,
            customer,
            act: Act::List,
            place: None,
            op: None,
            durable: self.client_rng.chance(self.profile.durable),
            from_primary: self.client_rng.one_in(3),
            key: None,
            state: State::Waits,
            sent_at: 0,
            wait_ms: 0,
            done_in: None,
        };
        let value = self.next_ask;
        let more = {
            let (low, high) = self.profile.blob_bytes;
            self.client_rng.between(low, high)
        };
        let (low, high) = self.profile.wait_ms;
        let wait_ms = if self.client_rng.one_in(2) { self.client_rng.log_between(low, high) } else { 0 };
        if let Some((place, lock)) = self.clients[number].held.take() {
            ask.durable = false;
            ask.place = Some(place);
            let name = name_of(place);
            match self.client_rng.below(8) {
                0 => ask.act = Act::Cancel { name, lock },
                1 => ask.act = Act::Read { name },
                _ => {
                    ask.op = Some(self.op(place, Deed::Write(Some(value))));
                    ask.act = Act::Complete { name, lock, body: body_of(place, value, more) };
                }
            }
            return ask;
        }
        if self.profile.deeds.iter().all(|weight| *weight == 0) {
            return ask;
        }
        let kind = self.client_rng.weighted(&self.profile.deeds);
        let index = self.client_rng.below(self.profile.names);
        let place = |class: u8| (customer, class, index);
        match kind {
            0 => {
                let place = place(b'r');
                ask.place = Some(place);
                ask.op = Some(self.op(place, Deed::Write(Some(value))));
                ask.act = Act::Put { name: name_of(place), body: body_of(place, value, more), ttl_ms: None, wait_ms };
            }
            1 => {
                let place = place(b'r');
                ask.place = Some(place);
                ask.op = Some(self.op(place, Deed::Write(None)));
                ask.act = Act::Delete { name: name_of(place) };
            }
            2 => {
                let place = place(self.client_rng.pick(b"rrltc"));
                ask.place = Some(place);
                ask.act = Act::Read { name: name_of(place) };
            }
            3 => {
                let place = place(b'c');
                ask.place = Some(place);
                ask.op = Some(self.op(place, Deed::Add(1)));
                ask.act = Act::Increment { name: name_of(place) };
            }
            4 => {
                let place = place(b'l');
                ask.durable = false;
                ask.place = Some(place);
                let (low, high) = self.profile.hold_ms;
                let hold_ms = self.client_rng.log_between(low, high);
                ask.act = Act::Begin { name: name_of(place), wait_ms, hold_ms };
            }
            5 => {
                let place = place(b't');
                ask.place = Some(place);
                let (low, high) = self.profile.ttl_ms;
                let ttl_ms = self.client_rng.log_between(low, high);
                ask.op = Some(self.op(place, Deed::Write(Some(value))));
                self.ledger.times.insert(value, (u64::MAX, ttl_ms * MS));
                let body = body_of(place, value, more);
                ask.act = Act::Put { name: name_of(place), body, ttl_ms: Some(ttl_ms), wait_ms };
            }
            6 => {
                let place = place(b't');
                ask.place = Some(place);
                ask.act = Act::Read { name: name_of(place) };
            }
            _ => ask.act = self.wild(place(b'w'), value, more),
        }
        let is_keyable = matches!(ask.act, Act::Put { .. } | Act::Delete { .. } | Act::Increment { .. });
        if is_keyable && self.client_rng.chance(self.profile.keyed) {
            ask.key = Some(format!("key {value}"));
        }
        ask.wait_ms = wait_ms;
        ask
    }

    /// Deeds that only the comparison of the two nodes judges.
    fn wild(&mut self, place: Place, value: u64, more: u64) -> Act {
        let rng = &mut self.client_rng;
        let name = name_of(place);
        let mut other = || name_of((place.0, place.1, rng.below(self.profile.names)));
        let (to, third) = (other(), other());
        match self.client_rng.below(10) {
            0..=2 => {
                let (low, high) = self.profile.ttl_ms;
                let ttl_ms = Some(self.client_rng.log_between(low, high));
                Act::Put { name, body: body_of(place, value, more), ttl_ms, wait_ms: 0 }
            }
            3 => Act::Rename { name, to },
            4 => Act::Touch { name, ttl_ms: self.client_rng.log_between(1, 100_000) },
            5 => Act::DeletePrefix { prefix: "w".to_owned() },
            6 => Act::DeleteMany { names: vec![name, to, third] },
            7 => Act::ReadMany { names: vec![name, to, third] },
            8 => Act::Create { body: body_of(place, value, more) },
            _ => Act::List,
        }
    }

    pub(crate) fn client_gives_up(&mut self, number: usize, id: u64) -> Result<(), Wrong> {
        let Some(ask) = self.asks.get_mut(&id).filter(|ask| ask.state == State::Waits) else { return Ok(()) };
        ask.state = State::Gone;
        let ask = ask.clone();
        self.coverage.met(Met::ClientGaveUp);
        self.tell(|_| format!("client {number} gives up {id}"));
        self.nobody_knows(number, ask.clone());
        if self.hosts[ask.host].life == ask.life { self.give(ask.host, Arrival::Closed(id)) } else { Ok(()) }
    }

    /// What a client does that does not know whether it was done.
    fn nobody_knows(&mut self, number: usize, ask: Ask) {
        if let Some(op) = ask.op {
            self.ledger.ops[op].unknown = true;
        }
        let since = self.clients[number].retry.as_ref().map_or(ask.sent_at, |(_, since)| *since);
        self.clients[number].asks = None;
        if ask.key.is_some() && self.client_rng.below(4) > 0 {
            self.clients[number].retry = Some((ask, since));
            if self.client_rng.one_in(3) {
                self.clients[number].host ^= 1;
            }
        }
        self.acts_later(number);
    }

    pub(crate) fn clients_of_the_dead(&mut self, host: usize, life: u64) {
        for number in 0..self.clients.len() {
            let Some(id) = self.clients[number].asks else { continue };
            let ask = &self.asks[&id];
            if (ask.host, ask.life) == (host, life) && ask.state == State::Waits {
                let ask = ask.clone();
                self.asks.get_mut(&id).expect("it is there").state = State::Gone;
                self.nobody_knows(number, ask);
            }
        }
    }

    /// A primary has answered: whatever it was is done, whether or not anybody hears of it.
    pub(crate) fn was_carried_out(&mut self, id: u64, heard: &Heard, mut done: Done) -> Result<(), Wrong> {
        if heard.by != Role::Primary {
            return Ok(());
        }
        let ask = self.asks.get_mut(&id).expect("it was asked");
        if ask.done_in.is_some() {
            return Err(format!("answered-once: {ask:?} is carried out again"));
        }
        ask.done_in = Some(done.branch);
        done.durable = ask.is_change() && (ask.durable || self.profile.replicate_all);
        if let Some(op) = ask.op {
            let op = &mut self.ledger.ops[op];
            if done.durable || op.attempts > 1 {
                done.before = 0;
            }
            op.done.push(done);
            if let Deed::Write(Some(value)) = op.deed
                && let Some((at, _)) = self.ledger.times.get_mut(&value)
            {
                *at = done.at;
            }
        }
        let Some(place) = ask.place else { return Ok(()) };
        if self.profile.replicate_all {
            // Answers come later than the deeds, and in another order.
            return Ok(());
        }
        let branch = &mut self.ledger.branches[done.branch];
        match (&ask.act, &heard.result) {
            (Act::Begin { .. }, Ok(Body::Locked { lock, body })) => {
                branch.grants.insert(place, *lock);
                let found = read_body(body).map_or(0, |(_, value)| value);
                match branch.bodies.get(&place) {
                    Some(expected) if *expected != found => {
                        return Err(format!("no-lost-update: {place:?} holds {found} instead of {expected}"));
                    }
                    Some(_) => {}
                    None => _ = branch.bodies.insert(place, found),
                }
            }
            (Act::Complete { lock, body, .. }, Ok(_)) => {
                if branch.grants.get(&place) != Some(lock) {
                    let holder = branch.grants.get(&place);
                    return Err(format!("commit-needs-lock: {place:?} was locked by {holder:?}, written by {lock:?}"));
                }
                if branch.by_handover {
                    self.coverage.met(Met::CompletedAfterHandover);
                }
                let value = read_body(body).map_or(0, |(_, value)| value);
                branch.bodies.insert(place, value);
                branch.grants.remove(&place);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn is_answered(&mut self, host: usize, id: u64, heard: Heard) -> Result<(), Wrong> {
        self.note(&heard);
        let Some(ask) = self.asks.get_mut(&id) else { return Err(format!("answered-once: nobody asked {id}")) };
        match ask.state {
            State::Waits => ask.state = State::Answered,
            State::Answered => return Err(format!("answered-once: {ask:?} has another answer {heard:?}")),
            State::Gone => return Ok(()),
        }
        if (ask.host, ask.life) != (host, self.hosts[host].life) {
            return Err(format!("answered-once: {ask:?} is answered by {host}"));
        }
        let ask = ask.clone();
        self.tell(|_| format!("{host} answers {id}: {:?}", heard.result.as_ref().err()));
        let number = ask.client;
        self.meets(&ask, &heard);
        self.check_answer(host, &ask, &heard)?;
        let is_unknown = matches!(
            heard.result,
            Err(Refusal::LeaderChanged | Refusal::NotReplicated { applied: true } | Refusal::IdempotencyInProgress)
        );
        if is_unknown && !matches!(heard.result, Err(Refusal::IdempotencyInProgress)) && !ask.is_change() {
            self.clients[number].asks = None;
            self.acts_later(number);
            return Ok(());
        }
        if is_unknown {
            self.nobody_knows(number, ask);
            return Ok(());
        }
        self.clients[number].asks = None;
        self.clients[number].retry = None;
        if matches!(heard.result, Err(Refusal::StoreUnavailable | Refusal::NotReplicated { applied: false })) {
            // Whoever tries again at once learns nothing new.
            let at = self.now + self.client_rng.between(1, UNAVAILABLE_PAUSE_MS) * MS;
            self.schedule(at, Event::ClientActs(number));
            return Ok(());
        }
        match (&ask.act, &heard.result) {
            (Act::Begin { .. }, Ok(Body::Locked { lock, .. })) if self.client_rng.below(8) > 0 => {
                self.clients[number].held = ask.place.map(|place| (place, *lock));
            }
            // It only looked; it still holds the lock.
            _ => {}
        }
        self.acts_later(number);
        Ok(())
    }

    fn meets(&mut self, ask: &Ask, heard: &Heard) {
        let is_local = self.hosts[ask.host].node.as_ref().is_some_and(|node| node.role() != Role::Primary);
        let met = match &heard.result {
            Err(Refusal::LockStateUnknown { .. }) => Met::LockWindowHit,
            Err(Refusal::LeaderChanged) => Met::LeaderChanged,
            Err(Refusal::StoreUnavailable) => Met::Unavailable,
            Err(Refusal::NotReplicated { applied: true }) => Met::NotReplicatedApplied,
            Err(Refusal::NotReplicated { applied: false }) if self.profile.safe => Met::SafeRefused,
            Err(Refusal::NotReplicated { applied: false }) => Met::NotReplicatedRefused,
            Err(Refusal::LockMismatch) => Met::CommitRefusedAfterFailover,
            Err(Refusal::RateLimited { .. }) => Met::RateLimited,
            Err(Refusal::CapacityExceeded | Refusal::CustomerQuotaExceeded) => Met::MemoryRefused,
            Err(Refusal::TombstoneLimitExceeded) => Met::TombstonesRefused,
            Err(Refusal::NotFound) if ask.place.is_some_and(|place| place.1 == b't') => Met::ExpiredRefused,
            Ok(_) if heard.degraded => Met::Degraded,
            Ok(_) if ask.durable && ask.is_change() && is_local => Met::DurableForwarded,
            Ok(_) if ask.durable && ask.is_change() => Met::DurableAnswered,
            Ok(_) if heard.by == Role::Secondary => Met::ReadFromSecondary,
            Ok(_) if ask.from_primary && !ask.is_change() && is_local => Met::ReadFromPrimary,
            Ok(_) if ask.op.is_some_and(|op| self.ledger.ops[op].attempts > 1) => Met::RetryAnswered,
            Ok(_) if is_local => Met::ForwardAnswered,
            Ok(_) if matches!(ask.act, Act::Delete { .. }) => Met::Tombstoned,
            Ok(_) if matches!(ask.act, Act::Rename { .. }) => Met::Renamed,
            _ => return,
        };
        self.coverage.met(met);
    }

    fn check_answer(&mut self, host: usize, ask: &Ask, heard: &Heard) -> Result<(), Wrong> {
        let Ok(body) = &heard.result else { return Ok(()) };
        match heard.by {
            Role::Joining => return Err(format!("a joining node answers {ask:?}")),
            Role::Secondary if ask.is_change() || ask.from_primary => {
                return Err(format!("a secondary answers {ask:?} by itself"));
            }
            Role::Primary | Role::Secondary => {}
        }
        if let Body::StoreId { customer } = body
            && customer != CUSTOMERS[ask.customer]
        {
            return Err(format!("customers-apart: {ask:?} got a store of {customer}"));
        }
        let (Body::Blob(bytes), Some(place)) = (body, ask.place) else { return Ok(()) };
        let Some((of, value)) = read_body(bytes) else { return Ok(()) };
        if of != place {
            return Err(format!("customers-apart: {place:?} holds a value of {of:?}"));
        }
        if !self.ledger.values.contains_key(&value) {
            return Err(format!("no-lost-update: nobody wrote {value} to {place:?}"));
        }
        if let (Some(&(at, ttl)), Some(left_ms)) = (self.ledger.times.get(&value), heard.ttl_left_ms)
            && at != u64::MAX
            && self.hosts[host].node.as_ref().is_some_and(|node| node.role() != Role::Joining)
        {
            self.coverage.met(Met::TtlChecked);
            // By true time; each clock is off by a hundredth at most, and so is the offset between them after two seconds.
            let passed = self.now - at;
            let forwarded_ago = if heard.by == Role::Primary { self.now - ask.sent_at } else { 0 };
            let most = ttl + passed / 40 + 300 * MS;
            if passed.saturating_sub(forwarded_ago) + left_ms * MS > most {
                return Err(format!(
                    "ttl-never-extends: {place:?} was written {passed} ns ago for {ttl}, and has {left_ms} ms left"
                ));
            }
        }
        Ok(())
    }

    /// Whatever was asked is over, one way or the other; the clients begin anew.
    pub(crate) fn clients_begin_anew(&mut self) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            client.rests = false;
            client.retry = None;
            if client.asks.is_none() {
                self.acts_later(number);
            }
        }
        self.asks.retain(|_, ask| ask.state == State::Waits);
        for ask in self.asks.values_mut() {
            ask.op = None;
        }
    }

    /// In the end nobody waits who has not been told so.
    pub(crate) fn everything_is_answered(&self) -> Result<(), Wrong> {
        for ask in self.asks.values().filter(|ask| ask.state == State::Waits) {
            let is_alive = self.hosts[ask.host].life == ask.life;
            if is_alive && ask.sent_at + (ask.wait_ms + FORWARD_MS) * MS < self.now {
                return Err(format!("answered-once: {ask:?} has no answer"));
            }
        }
        Ok(())
    }
}

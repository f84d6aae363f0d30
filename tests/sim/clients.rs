//! The clients: who they are, what they know from the answers they got, and what they do next. They race, repeat themselves,
//! hold locks and vanish, use what is not theirs, and believe in versions long past.

use crate::kinds::{changes, subject, takes_conditions};
use crate::model::said;
use crate::profile::{Act, Profile, Range};
use crate::reply::{Reply, Told, TraceHash};
use crate::rng::Rng;
use crate::universe::{IDEMPOTENCY_KEYS, universe};
use bigbunny::node::Entropy as _;
use bigbunny::node::request::{
    Condition, ConnectionId, Content, Counter, CounterToMake, Etag, Idempotency, IfMatch, LockId, Operation, Request,
    StoreKey, Target, TouchOnRead,
};
use bigbunny::time::Instant;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};

const KEYS_KNOWN: usize = 48;
const LOCKS_REMEMBERED: usize = 24;
const KEYED_REMEMBERED: usize = 24;

/// What one client does.
pub(crate) enum Todo {
    Ask(Box<Request<'static>>),
    Disconnect(ConnectionId),
    /// It has the operator drop a lock.
    Release(StoreKey),
}

/// A connection, and when what was last sent on it arrives: nothing overtakes on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) connection: ConnectionId,
    pub(crate) last_arrival: Instant,
}

/// A lock that a client believes to have.
#[derive(Clone, Debug)]
struct Hold {
    target: Target<'static>,
    lock: LockId,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    customer: &'static str,
    pub(crate) wires: Vec<Wire>,
    holds: Vec<Hold>,
    pub(crate) burst_left: u64,
}

/// What the clients of one customer tell each other.
#[derive(Debug, Default)]
struct Gossip {
    keys: Vec<StoreKey>,
    tags: BTreeMap<&'static str, Etag>,
    tags_by_key: BTreeMap<StoreKey, Etag>,
}

/// All clients.
pub(crate) struct Crowd {
    pub(crate) clients: Vec<Client>,
    gossip: BTreeMap<&'static str, Gossip>,
    locks: Vec<Hold>,
    keyed: Vec<Request<'static>>,
    connections: u64,
}

impl Crowd {
    pub(crate) fn new(profile: &Profile, rng: &mut Rng) -> Self {
        let mut crowd =
            Self { clients: Vec::new(), gossip: BTreeMap::new(), locks: Vec::new(), keyed: Vec::new(), connections: 0 };
        let first = rng.index(crate::universe::CUSTOMERS);
        for n in 0..profile.clients {
            let customer = universe().customer(first + n % profile.customers);
            let wires = (0..rng.between(1, 3)).map(|_| crowd.new_wire()).collect();
            crowd.gossip.entry(customer).or_default();
            crowd.clients.push(Client { customer, wires, holds: Vec::new(), burst_left: 0 });
        }
        crowd
    }

    pub(crate) fn new_wire(&mut self) -> Wire {
        self.connections += 1;
        Wire { connection: ConnectionId(self.connections), last_arrival: Instant::ZERO }
    }

    /// A request of a client, on any of its connections.
    pub(crate) fn request(&self, client: usize, rng: &mut Rng, operation: Operation<'static>) -> Request<'static> {
        let client = &self.clients[client];
        let connection = client.wires[rng.index(client.wires.len())].connection;
        Request { from_primary: rng.one_in(50), ..Request::new(connection, client.customer, operation) }
    }

    /// What a client does next.
    pub(crate) fn act(&mut self, client: usize, profile: &Profile, rng: &mut Rng) -> Todo {
        let mut act = Act::ALL[rng.weighted(&profile.weights)];
        if !self.clients[client].holds.is_empty() && rng.chance(600) {
            act = rng.pick(&[Act::CompleteModify, Act::CompleteModify, Act::CancelModify, Act::Renew]);
        }
        if act == Act::Disconnect {
            let wires = &self.clients[client].wires;
            return Todo::Disconnect(wires[rng.index(wires.len())].connection);
        }
        if act == Act::OperatorReleases {
            return Todo::Release(Draw { crowd: self, client, profile, rng }.locked_key());
        }
        if act == Act::Repeat
            && let Some(request) = self.repeat(client, rng)
        {
            return Todo::Ask(Box::new(request));
        }
        let operation = Draw { crowd: self, client, profile, rng }.operation(act);
        let mut request = self.request(client, rng, operation);
        if takes_conditions(&request.operation) && rng.chance(profile.conditions) {
            request.condition = self.condition(client, &request.operation, rng);
        }
        request.durable = rng.chance(profile.durable);
        let is_read = matches!(request.operation, Operation::Read { .. } | Operation::Authorize { .. });
        if changes(&request.operation) && !is_read && rng.chance(profile.idempotency) {
            request.idempotency = Some(idempotency(&request, rng.index(IDEMPOTENCY_KEYS)));
            remember(&mut self.keyed, request.clone(), KEYED_REMEMBERED, rng);
        }
        Todo::Ask(Box::new(request))
    }

    /// The same again, or another request with the same key.
    fn repeat(&mut self, client: usize, rng: &mut Rng) -> Option<Request<'static>> {
        let customer = self.clients[client].customer;
        let mine: Vec<&Request<'static>> = self.keyed.iter().filter(|other| other.customer == customer).collect();
        let mut again = (*mine.get(rng.index(mine.len().max(1)))?).clone();
        let wires = &self.clients[client].wires;
        again.connection = wires[rng.index(wires.len())].connection;
        if rng.one_in(4)
            && let Some(idempotency) = &mut again.idempotency
        {
            idempotency.fingerprint[0] ^= 1;
        }
        Some(again)
    }

    fn condition(&self, client: usize, operation: &Operation<'static>, rng: &mut Rng) -> Condition {
        let gossip = &self.gossip[self.clients[client].customer];
        let known = match subject(operation) {
            Some(Target::Key(key)) => gossip.tags_by_key.get(&key).copied(),
            Some(Target::Name(name)) => gossip.tags.get(said(&name)).copied(),
            None => None,
        };
        let tag = known.unwrap_or(Etag { epoch: 1, version: 1 });
        match rng.below(10) {
            0 => Condition { if_match: IfMatch::Any, if_none_match_any: false },
            1 => Condition { if_match: IfMatch::Unset, if_none_match_any: true },
            2 => Condition { if_match: IfMatch::Foreign, if_none_match_any: false },
            3 => Condition { if_match: IfMatch::Tag(Etag { epoch: 2, ..tag }), if_none_match_any: false },
            4 => Condition { if_match: IfMatch::Tag(tag), if_none_match_any: true },
            _ => Condition { if_match: IfMatch::Tag(tag), if_none_match_any: false },
        }
    }

    /// A client hears its answer.
    pub(crate) fn hear(&mut self, client: usize, request: &Request<'static>, reply: &Reply, rng: &mut Rng) {
        let gossip = self.gossip.get_mut(request.customer).expect("every customer has gossip");
        if let Some(facts) = &reply.facts {
            match subject(&request.operation) {
                Some(Target::Key(key)) => _ = gossip.tags_by_key.insert(key, facts.etag),
                Some(Target::Name(name)) => _ = gossip.tags.insert(said(&name), facts.etag),
                None => {}
            }
        }
        match &reply.result {
            Ok(Told::StoreId { key, .. }) if !gossip.keys.contains(key) => {
                remember(&mut gossip.keys, *key, KEYS_KNOWN, rng);
            }
            Ok(Told::Locked { lock, .. }) => {
                let target = subject(&request.operation).expect("a lock is of a store");
                let hold = Hold { target, lock: *lock };
                self.clients[client].holds.retain(|other| other.lock != *lock);
                self.clients[client].holds.push(hold.clone());
                remember(&mut self.locks, hold, LOCKS_REMEMBERED, rng);
            }
            Ok(_) | Err(_) => {}
        }
        if let Operation::CompleteModify { lock, .. } | Operation::CancelModify { lock, .. } = &request.operation {
            self.clients[client].holds.retain(|hold| hold.lock != *lock);
        }
        if let (Operation::BeginModify { renew: Some(lock), .. }, Err(_)) = (&request.operation, &reply.result) {
            self.clients[client].holds.retain(|hold| hold.lock != *lock);
        }
    }
}

/// Puts something among the things remembered, in place of any other if there are enough.
fn remember<T>(things: &mut Vec<T>, thing: T, at_most: usize, rng: &mut Rng) {
    if things.len() < at_most {
        things.push(thing);
    } else {
        let at = rng.index(at_most);
        things[at] = thing;
    }
}

/// What stands for a request under its key: a digest of all but the connection.
fn idempotency(request: &Request<'static>, key: usize) -> Idempotency<'static> {
    let mut hash = TraceHash::new();
    format!("{:?} {:?}", request.condition, request.operation).hash(&mut hash);
    let mut fingerprint = [0; 16];
    fingerprint[..8].copy_from_slice(&hash.finish().to_le_bytes());
    Idempotency { key: universe().idempotency_key(key), fingerprint }
}

/// The drawing of one operation.
struct Draw<'d> {
    crowd: &'d Crowd,
    client: usize,
    profile: &'d Profile,
    rng: &'d mut Rng,
}

impl Draw<'_> {
    fn operation(&mut self, act: Act) -> Operation<'static> {
        match act {
            Act::Create => Operation::Create { content: self.content(), ttl_ms: self.ttl_ms() },
            Act::CreateNamed => Operation::CreateNamed {
                name: self.name(),
                content: self.content(),
                ttl_ms: self.ttl_ms(),
                reuse: self.rng.one_in(3),
            },
            Act::Put => Operation::Put {
                name: self.name(),
                content: self.content(),
                ttl_ms: self.ttl_ms(),
                wait_ms: self.wait_ms(),
            },
            Act::Lookup => Operation::Lookup { name: self.name() },
            Act::Read | Act::Repeat | Act::Disconnect | Act::OperatorReleases => {
                Operation::Read { target: self.target(), touch: None }
            }
            Act::ReadTouch => Operation::Read { target: Target::Name(self.name()), touch: Some(self.touch_on_read()) },
            Act::Authorize => Operation::Authorize {
                name: (!self.rng.one_in(20)).then(|| self.name()),
                touch: self.rng.one_in(2).then(|| self.touch_on_read()),
            },
            Act::Update => Operation::Update {
                key: self.key(),
                body: if self.rng.chance(self.profile.counters) {
                    universe().counter_body(self.rng)
                } else {
                    self.blob()
                },
                ttl_ms: self.ttl_ms(),
                wait_ms: self.wait_ms(),
            },
            Act::BeginModify => self.begin_modify(None),
            Act::Renew => {
                let Some(hold) = self.hold() else { return self.begin_modify(None) };
                self.begin_modify(Some(hold))
            }
            Act::CompleteModify => {
                let Some(hold) = self.hold() else { return self.begin_modify(None) };
                let Hold { target, lock } = hold;
                Operation::CompleteModify { target, lock, body: self.blob(), ttl_ms: self.ttl_ms() }
            }
            Act::CancelModify => {
                let Some(hold) = self.hold() else { return self.begin_modify(None) };
                Operation::CancelModify { target: hold.target, lock: hold.lock }
            }
            Act::Delete => Operation::Delete { target: self.target() },
            Act::Increment => self.increment(),
            Act::Touch => Operation::Touch { target: self.target(), ttl_ms: self.range(self.profile.ttl_ms) },
            Act::List => Operation::List {
                prefix: Cow::Borrowed(universe().prefix(self.rng)),
                after: self.rng.one_in(2).then(|| self.name()),
                limit: self.rng.log_between(1, 1000) as usize,
            },
            Act::DeletePrefix => Operation::DeletePrefix { prefix: Cow::Borrowed(universe().prefix(self.rng)) },
            Act::ReadMany => Operation::ReadMany { names: self.some_names() },
            Act::DeleteMany => Operation::DeleteMany { names: self.some_names() },
            Act::Rename => Operation::Rename { name: self.name(), to: self.name() },
        }
    }

    fn begin_modify(&mut self, renew: Option<Hold>) -> Operation<'static> {
        let (target, renew) = match renew {
            Some(hold) => (hold.target, Some(hold.lock)),
            None => (self.target(), None),
        };
        let create_if_missing = matches!(target, Target::Name(_)) && self.rng.chance(self.profile.create_if_missing);
        Operation::BeginModify {
            target,
            wait_ms: self.wait_ms(),
            hold_ms: self.rng.chance(self.profile.hold_given).then(|| self.range(self.profile.hold_ms)),
            connection_scope: self.rng.chance(self.profile.connection_scope),
            renew,
            create_if_missing,
            ttl_ms: self.ttl_ms(),
        }
    }

    /// One's own lock, or seldom another's, or none that ever was.
    fn hold(&mut self) -> Option<Hold> {
        let mine = &self.crowd.clients[self.client].holds;
        match self.rng.below(20) {
            0 => {
                let mut lock = LockId([0; 16]);
                self.rng.fill(&mut lock.0);
                Some(Hold { target: self.target(), lock })
            }
            1 | 2 if !self.crowd.locks.is_empty() => {
                Some(self.crowd.locks[self.rng.index(self.crowd.locks.len())].clone())
            }
            3 if !self.crowd.locks.is_empty() => {
                let lock = self.crowd.locks[self.rng.index(self.crowd.locks.len())].lock;
                Some(Hold { target: self.target(), lock })
            }
            _ => mine.get(self.rng.index(mine.len().max(1))).cloned(),
        }
    }

    /// The key of a store that may be locked.
    fn locked_key(&mut self) -> StoreKey {
        let locked = self.crowd.locks.get(self.rng.index(self.crowd.locks.len().max(1)));
        match locked.map(|hold| &hold.target) {
            Some(Target::Key(key)) => *key,
            Some(Target::Name(_)) | None => self.key(),
        }
    }

    fn increment(&mut self) -> Operation<'static> {
        let target = self.target();
        let delta = match self.rng.below(12) {
            0 => 0,
            1 => i128::from(self.rng.pick(&[i64::MAX, i64::MIN, i64::MAX - 1])),
            2 => -i128::from(i64::MIN),
            3..8 => 1,
            _ => {
                let step = i128::from(self.rng.log_between(1, self.profile.counter_span));
                (if self.rng.one_in(3) { -step } else { step }).clamp(-(1 << 63), 1 << 63)
            }
        };
        let by_name = matches!(target, Target::Name(_));
        let make =
            (by_name && !self.rng.one_in(4)).then(|| CounterToMake { counter: self.counter(), ttl_ms: self.ttl_ms() });
        let reject_at_bound = self.rng.one_in(3);
        Operation::Increment { target, delta, reject_at_bound, make, ttl_ms: self.ttl_ms() }
    }

    fn content(&mut self) -> Content<'static> {
        if self.rng.chance(self.profile.counters) {
            Content::Counter(self.counter())
        } else {
            Content::Blob(self.blob())
        }
    }

    fn counter(&mut self) -> Counter {
        let span = self.profile.counter_span;
        let edge = self.rng.one_in(8);
        let mut number = |low: i128, high: i128| -> i64 {
            if edge && self.rng.one_in(3) {
                return self.rng.pick(&[i64::MIN, i64::MAX, i64::MAX - 1, 0]);
            }
            let drawn = low + i128::from(self.rng.below((high - low).clamp(1, i128::from(u64::MAX)) as u64));
            drawn.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
        };
        let span = i128::from(span);
        let (min, value, max) = (number(-span, 1), number(0, span), number(span / 2, span));
        Counter { value, min: self.rng.one_in(2).then_some(min), max: self.rng.one_in(2).then_some(max) }
    }

    fn blob(&mut self) -> &'static [u8] {
        let len = self.range(self.profile.blob_bytes) as usize;
        universe().blob(self.rng, len)
    }

    fn name(&mut self) -> Cow<'static, str> {
        // Two draws, so that some names are loved more than others.
        let n = self.rng.index(self.profile.names).min(self.rng.index(self.profile.names));
        Cow::Borrowed(universe().name(self.profile.first_name + n))
    }

    fn some_names(&mut self) -> Vec<Cow<'static, str>> {
        (0..self.rng.log_between(1, 30)).map(|_| self.name()).collect()
    }

    fn target(&mut self) -> Target<'static> {
        if self.rng.chance(self.profile.by_name) { Target::Name(self.name()) } else { Target::Key(self.key()) }
    }

    fn key(&mut self) -> StoreKey {
        let customer = self.crowd.clients[self.client].customer;
        let from = match self.rng.below(50) {
            0 => {
                let mut key = StoreKey([0; 20]);
                self.rng.fill(&mut key.0);
                return key;
            }
            1 => self.crowd.clients[self.rng.index(self.crowd.clients.len())].customer,
            _ => customer,
        };
        let keys = &self.crowd.gossip[from].keys;
        keys.get(self.rng.index(keys.len().max(1))).copied().unwrap_or(StoreKey([0; 20]))
    }

    fn range(&mut self, (low, high): Range) -> u64 {
        self.rng.log_between(low, high)
    }

    fn ttl_ms(&mut self) -> Option<u64> {
        self.rng.chance(self.profile.ttl_given).then(|| self.range(self.profile.ttl_ms))
    }

    fn wait_ms(&mut self) -> u64 {
        if self.rng.chance(self.profile.waits) { self.range(self.profile.wait_ms) } else { 0 }
    }

    fn touch_on_read(&mut self) -> TouchOnRead {
        TouchOnRead {
            ttl_ms: self.range(self.profile.ttl_ms),
            if_below_ms: self.rng.one_in(2).then(|| self.range(self.profile.ttl_ms)),
        }
    }
}

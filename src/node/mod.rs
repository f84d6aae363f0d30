//! The state machine: stores, locks, counters, names, tombstones, limits. Pure: it knows no socket, clock, file, thread or
//! environment. It is told what happened and what time it is, and says what to do.
//!
//! Where things are: `interface` is what the node is told and what it says; `arena` and `store` are the memory; `customers`,
//! `locks`, `kept` the books beside it; `gates` what every request passes; `stores`, `counters`, `modify`, `named` the
//! operations; `timeouts` all that happens by itself; `image` shows the whole to tests.
//!
//! What the specification leaves open is decided so:
//! - `cancel-modify` of a store that is gone is done: nobody holds its lock.
//! - A step of 0, or one clamped to nothing, is a change all the same and raises the version; a rejected one is none.
//! - A store past its expiry whose lock is still held can be completed by its holder, and deleted; to everybody else it is
//!   expired, except that its name is in use: `create-by-name` is `NameExists`, `PUT` and increment by name `StoreLocked`.
//! - With `If-Match`, what is missing or expired is `VersionMismatch` and nothing else.
//! - An idempotency key whose first request still waits is `StoreLocked`; answers worth a retry are not kept.
//! - Names made under a prefix while a long prefix delete runs may be deleted with it.

mod arena;
mod backlog;
pub mod codec;
mod counters;
mod customers;
mod follow;
mod forward;
mod gates;
mod handover;
mod image;
mod interface;
mod kept;
mod locks;
mod modify;
mod named;
mod pace;
#[cfg(test)]
mod pair_tests;
mod parked;
mod peering;
mod record;
pub mod request;
pub mod response;
mod store;
mod stores;
mod stream;
mod timeouts;

use std::collections::VecDeque;

use self::arena::{Arena, Index, OwnMap};
use self::backlog::Backlog;
use self::customers::Customers;
use self::follow::FollowedLock;
use self::forward::deliver;
use self::gates::Admission;
use self::kept::KeptAnswers;
use self::locks::Locks;
use self::parked::Parked;
use self::peering::{Follower, Peering};
use self::request::{Condition, ConnectionId, Content, LockId, Operation, Request, RequestId, StoreKey};
use self::response::{Answer, Refusal, Response, StepTaken, StoreFacts, StoreView};
use self::store::Entry;
use self::timeouts::PrefixJob;
use crate::time::{Instant, Now};
use crate::wheel::{Timers, Wheel};

pub use self::forward::FORWARDS_MAX;
pub use self::handover::HANDOVER_TIMEOUT_MS;
pub use self::image::EntryImage;
pub use self::interface::{Entropy, Event, Input, Limits, NodeConfig, NodeStatus, Outbox, PeerMisbehaved, Role};
pub use self::kept::{ANSWER_KEPT_MS, ANSWER_OVERHEAD_BYTES};
pub use self::named::READ_MANY_MAX_BYTES;
pub use self::peering::{OnPeerLoss, PeerConfig, REFUSALS_PROVING_DEATH, REFUSALS_WITHIN_MS};
pub use self::store::{NAME_OVERHEAD_BYTES, STORE_OVERHEAD_BYTES, cost_of_new_bytes};
pub use self::timeouts::{EXPIRED_REMEMBERED_MS, PREFIX_DELETES_PER_TURN, TOMBSTONE_KEPT_MS};

/// Stores that are looked up at once ahead of their requests.
pub const LOOKED_UP_AHEAD_MAX: usize = 16;
/// Hash tables over which the stores are spread: a table that grows visits a thousandth of them.
const STORE_INDEX_TABLES: usize = 1024;

/// Who asked: all that is needed to answer later.
#[derive(Clone, Copy, Debug)]
struct Asker {
    request: RequestId,
    connection: ConnectionId,
    customer: u32,
    /// The place for the answer, if it came with an idempotency key.
    kept: Option<u32>,
    /// It may change something.
    changes: bool,
    /// It is answered only when the secondary has the change.
    durable: bool,
}

/// What was asked, and how long it may wait for a lock.
struct Ask<'r> {
    now: Now,
    asker: Asker,
    condition: Condition,
    operation: &'r Operation<'r>,
    /// Set when it has waited already.
    deadline: Option<Instant>,
}

/// What an operation came to. Names the stores of the answer instead of borrowing from them, so that the books may still be
/// changed before the answer is written.
enum Outcome {
    Done,
    /// Done, and this is the store it was done to.
    DoneTo(u32),
    StoreId {
        slot: u32,
        created: bool,
    },
    Content(u32),
    Stepped {
        slot: u32,
        step: StepTaken,
    },
    Locked {
        slot: u32,
        lock: LockId,
        created: bool,
    },
    Authorized(u32),
    Names {
        slots: Vec<u32>,
        more: bool,
    },
    Deleted {
        count: u64,
    },
    Stores(Vec<Option<u32>>),
    /// It will be answered later.
    Later,
}

/// The stores, how they are found, and when they end.
struct Stores {
    arena: Arena<Entry>,
    index: Index,
    wheel: Wheel,
}

/// What an answer borrows from, apart from what may be changed while it is written.
struct View<'n> {
    stores: &'n Arena<Entry>,
    customers: &'n Customers,
    locks: &'n Locks,
    /// A follower's.
    followed_locks: Option<&'n OwnMap<u32, FollowedLock>>,
    now: Now,
}

impl<'n> View<'n> {
    /// The answer in full.
    fn response(&self, customer: u32, outcome: Result<Outcome, Refusal>) -> Response<'n> {
        let (answer, facts) = match outcome {
            Err(refusal) => return Response::new(Err(refusal), None),
            Ok(Outcome::Done) => (Answer::Done, None),
            Ok(Outcome::DoneTo(slot)) => (Answer::Done, Some(self.facts(slot))),
            Ok(Outcome::StoreId { slot, created }) => {
                let customer = &*self.customers.get(customer).id;
                (Answer::StoreId { customer, key: self.stores.get(slot).key, created }, Some(self.facts(slot)))
            }
            Ok(Outcome::Content(slot)) => match self.stores.get(slot).content() {
                Content::Blob(bytes) => {
                    let followed = || self.followed_locks.and_then(|locks| locks.get(&slot));
                    let is_followed = || followed().is_some_and(|lock| lock.until > self.now.monotonic);
                    let locked = Some(self.locks.holder(slot).is_some() || is_followed());
                    (Answer::Blob(bytes), Some(StoreFacts { locked, ..self.facts(slot) }))
                }
                Content::Counter(counter) => (Answer::Counter { counter, step: None }, Some(self.facts(slot))),
            },
            Ok(Outcome::Stepped { slot, step }) => {
                let counter = self.stores.get(slot).counter();
                (Answer::Counter { counter, step: Some(step) }, Some(self.facts(slot)))
            }
            Ok(Outcome::Locked { slot, lock, created }) => {
                (Answer::Locked { lock, body: self.stores.get(slot).blob(), created }, Some(self.facts(slot)))
            }
            Ok(Outcome::Authorized(slot)) => (Answer::Authorized, Some(self.facts(slot))),
            Ok(Outcome::Names { slots, more }) => {
                let name = |slot| self.stores.get(slot).name().expect("only named stores are listed");
                (Answer::Names { names: slots.into_iter().map(name).collect(), more }, None)
            }
            Ok(Outcome::Deleted { count }) => (Answer::Deleted { count }, None),
            Ok(Outcome::Stores(slots)) => {
                let view = |slot| {
                    let entry = self.stores.get(slot);
                    let name = entry.name().expect("read-many asks by name");
                    StoreView { name, content: entry.content(), facts: self.facts(slot) }
                };
                (Answer::Stores(slots.into_iter().map(|slot| slot.map(view)).collect()), None)
            }
            Ok(Outcome::Later) => unreachable!("what is answered later is not answered now"),
        };
        Response::new(Ok(answer), facts)
    }

    fn facts(&self, slot: u32) -> StoreFacts {
        let entry = self.stores.get(slot);
        let ttl_left_ms = entry.expires_ms().saturating_sub(self.now.monotonic.as_millis());
        StoreFacts { etag: entry.etag(), ttl_left_ms, locked: None }
    }
}

impl Stores {
    fn new(now: Now) -> Self {
        let wheel = Wheel::new(now.monotonic.as_millis());
        Self { arena: Arena::new(), index: Index::new(STORE_INDEX_TABLES), wheel }
    }
}

/// A node of the session store.
pub struct Node {
    config: NodeConfig,
    entropy: Box<dyn Entropy>,
    epoch: u32,
    stores: Stores,
    customers: Customers,
    locks: Locks,
    kept: KeptAnswers,
    timers: Timers<timeouts::Timer>,
    /// Locks that were released during this input: their lines are served when the releasing request has its answer.
    lines_to_serve: VecDeque<u32>,
    /// Waiters whose store has gone: carried out anew when the request that removed it has its answer.
    orphans: VecDeque<Parked>,
    prefix_jobs: VecDeque<PrefixJob>,
    /// Entries of a former life, dropped a chunk at a time.
    trash: Vec<Vec<Option<Entry>>>,
    peering: Option<Peering>,
    status: NodeStatus,
}

impl Node {
    /// Other limits from now on. What is there already stays, even if it is more than a new one allows.
    pub fn set_limits(&mut self, limits: Limits) {
        self.config.limits = limits;
        self.customers.set_rate(limits.rate_limit_per_second, limits.burst_size);
    }

    /// An empty node.
    #[must_use]
    pub fn new(config: NodeConfig, mut entropy: Box<dyn Entropy>, now: Now) -> Self {
        let mut hash_keys = || {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            let (low, high) = bytes.split_at(8);
            [low, high].map(|half| u64::from_le_bytes(half.try_into().expect("half of 16 is 8")))
        };
        let [incarnation, _] = hash_keys();
        let peering = config.peer.clone().map(|peer| Peering::new(peer, incarnation, now));
        let customers = Customers::new(hash_keys(), config.limits.rate_limit_per_second, config.limits.burst_size);
        let kept = KeptAnswers::new(hash_keys());
        let stores = Stores::new(now);
        Self {
            config,
            entropy,
            epoch: u32::from(peering.is_none()),
            stores,
            customers,
            locks: Locks::new(),
            kept,
            timers: Timers::new(now.monotonic),
            lines_to_serve: VecDeque::new(),
            orphans: VecDeque::new(),
            prefix_jobs: VecDeque::new(),
            trash: Vec::new(),
            peering,
            status: NodeStatus::default(),
        }
    }

    /// Tells the node what happened. Cannot fail: a client's mistake is an answer, ours an assertion.
    pub fn handle(&mut self, now: Now, input: Input<'_>, outbox: &mut dyn Outbox) {
        match input {
            Input::Request { id, request } => self.on_request(now, id, &request, outbox),
            Input::ConnectionClosed { connection } => self.on_connection_closed(now, connection, outbox),
            Input::Timeout => self.on_timeout(now, outbox),
            Input::EndOfTurn => self.on_end_of_turn(now, outbox),
            Input::PeerUp { incarnation } => self.on_peer_up(now, incarnation, outbox),
            Input::PeerDown => self.on_peer_down(now, outbox),
            Input::PeerRefused => self.on_peer_refused(now, outbox),
            Input::PeerMessage { incarnation, message } => {
                if let Err(why) = self.on_peer_message(now, incarnation, message, outbox) {
                    outbox.close_peer(why);
                }
            }
            Input::Promote { id, force } => self.on_promote(now, id, force, outbox),
        }
    }

    /// A client asks: [`Input::Request`] without the move, which costs more than many a step of the operation.
    pub fn on_request(&mut self, now: Now, id: RequestId, request: &Request<'_>, outbox: &mut dyn Outbox) {
        if self.pass_on(now, id, request, outbox) {
            return;
        }
        let Some(customer) = self.customers.find_or_make(request.customer) else {
            return deliver(outbox, id, Response::new(Err(Refusal::CapacityExceeded), None));
        };
        match self.admit(now, id, customer, request, outbox) {
            Admission::Admitted(asker) => {
                let (condition, operation) = (request.condition, &request.operation);
                self.carry_out(&Ask { now, asker, condition, operation, deadline: None }, outbox);
                self.serve_lines(now, outbox);
            }
            Admission::Refused(refusal) => {
                let by = self.role();
                deliver(outbox, id, Response { by, ..Response::new(Err(refusal), None) });
            }
            Admission::Answered => {}
        }
        self.forget_customer_if_unused(now, customer);
    }

    /// Looks the stores and customers up that are about to be asked for, [`LOOKED_UP_AHEAD_MAX`] at most, and does nothing with them. Among many
    /// stores each look-up waits for memory several times, and each time for what the last one brought; those of several requests do not
    /// depend on each other. So it goes step by step, each for all of them: the processor waits for them at once, and finds them in its
    /// cache when they are served.
    pub fn look_up_ahead<'k>(&self, asked: impl Iterator<Item = (&'k str, &'k StoreKey)> + Clone) {
        self.customers.look_up_ahead(asked.clone().map(|(customer, _)| customer));
        self.stores.look_up_ahead(asked.map(|(_, key)| key));
    }

    /// Does what is asked and answers it.
    fn carry_out(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) {
        let outcome = match ask.operation {
            Operation::Create { content, ttl_ms } => self.on_create(ask, content, *ttl_ms),
            Operation::CreateNamed { name, content, ttl_ms, reuse } => {
                self.on_create_named(ask, name, content, *ttl_ms, *reuse, outbox)
            }
            Operation::Put { name, content, ttl_ms, wait_ms } => {
                self.on_put(ask, name, content, *ttl_ms, *wait_ms, outbox)
            }
            Operation::Lookup { name } => self.on_lookup(ask, name, outbox),
            Operation::Read { target, touch } => self.on_read(ask, target, touch.as_ref(), outbox),
            Operation::Authorize { name, touch } => self.on_authorize(ask, name.as_deref(), touch.as_ref(), outbox),
            Operation::Update { key, body, ttl_ms, wait_ms } => {
                self.on_update(ask, *key, body, *ttl_ms, *wait_ms, outbox)
            }
            Operation::BeginModify { .. } => self.on_begin_modify(ask, outbox),
            Operation::CompleteModify { target, lock, body, ttl_ms } => {
                self.on_complete_modify(ask, target, *lock, body, *ttl_ms, outbox)
            }
            Operation::CancelModify { target, lock } => self.on_cancel_modify(ask, target, *lock, outbox),
            Operation::Delete { target } => self.on_delete(ask, target, outbox),
            Operation::Increment { .. } => self.on_increment(ask, outbox),
            Operation::Touch { target, ttl_ms } => self.on_touch(ask, target, *ttl_ms, outbox),
            Operation::List { prefix, after, limit } => Ok(self.on_list(ask, prefix, after.as_deref(), *limit)),
            Operation::DeletePrefix { prefix } => self.on_delete_prefix(ask, prefix),
            Operation::ReadMany { names } => self.on_read_many(ask, names, outbox),
            Operation::DeleteMany { names } => self.on_delete_many(ask, names, outbox),
            Operation::Rename { name, to } => self.on_rename(ask, name, to, outbox),
        };
        match outcome {
            Ok(Outcome::Later) => {}
            outcome => {
                let about = if outcome.is_err() { self.store_asked_about(ask) } else { None };
                self.answer(ask.now, ask.asker, outcome, about, outbox);
            }
        }
    }

    /// The store that a refused request was about, if there is one: whoever is refused learns its tag.
    fn store_asked_about(&self, ask: &Ask<'_>) -> Option<u32> {
        let (key, name) = ask.operation.subject();
        let slot = match (key, name) {
            (Some(key), _) => self.stores.find(key)?,
            (None, Some(name)) => *self.customers.get(ask.asker.customer).names.get(name)?,
            (None, None) => return None,
        };
        let entry = self.stores.arena.get(slot);
        let is_alive = entry.is_store() && entry.expires_ms() > ask.now.monotonic.as_millis();
        (is_alive && entry.customer() == ask.asker.customer).then_some(slot)
    }

    /// `about` is the store that a refusal is about.
    fn answer(
        &mut self,
        now: Now,
        asker: Asker,
        outcome: Result<Outcome, Refusal>,
        about: Option<u32>,
        outbox: &mut dyn Outbox,
    ) {
        if let Err(Refusal::CapacityExceeded | Refusal::CustomerQuotaExceeded) = outcome {
            self.status.capacity_refused_total += 1;
        }
        let followed_locks = self.peering.as_ref().map(|peering| &peering.followed_locks);
        let (stores, customers, locks) = (&self.stores.arena, &self.customers, &self.locks);
        let view = View { stores, customers, locks, followed_locks, now };
        let refused = about.filter(|_| outcome.is_err()).map(|slot| view.facts(slot));
        let mut response = view.response(asker.customer, outcome);
        response.facts = response.facts.or(refused);
        let by = self.peering.as_ref().map_or(Role::Primary, |peering| peering.role);
        let degraded = asker.changes && self.is_degraded(now);
        let response = Response { by, degraded, ..response };
        let more_bytes = asker.kept.map(|kept| (kept, self.kept.keep(kept, &response)));
        let mut withheld = None;
        if asker.durable && response.result.is_ok() {
            let mut bytes = Vec::new();
            codec::write_response(&mut bytes, &response);
            withheld = Some(bytes.into_boxed_slice());
        } else {
            deliver(outbox, asker.request, response);
        }
        if let Some((kept, more_bytes)) = more_bytes {
            self.settle_kept_answer(now, asker.customer, kept, more_bytes);
        }
        if let Some(bytes) = withheld {
            self.withhold(asker.request, bytes, outbox);
        }
    }

    /// When `Input::Timeout` is due; a time in the past means there is work left over.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.prefix_jobs.is_empty() || !self.trash.is_empty() || self.has_images_to_append() {
            return Some(Instant::ZERO);
        }
        let expires = self.role() == Role::Primary;
        let stores = expires.then(|| self.stores.wheel.next_deadline_ms()).flatten().map(Instant::from_millis);
        Instant::earliest([stores, self.timers.next_deadline(), self.peering.as_ref().map(Peering::next_deadline)])
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let peering = self.peering.as_ref();
        let backlog = peering.filter(|peering| peering.role == Role::Primary).map(|peering| &peering.backlog);
        NodeStatus {
            role: self.role(),
            epoch: self.epoch,
            changes: peering.map_or(0, Peering::number),
            unacknowledged: backlog.map_or(0, |backlog| backlog.last() - backlog.acked()),
            backlog_bytes: backlog.map_or(0, Backlog::bytes),
            peer_heard_at: peering.and_then(|peering| peering.heard_at),
            is_peer_up: peering.is_some_and(|peering| peering.link_up),
            is_peer_in_step: peering.is_some_and(|peering| peering.follower == Follower::InStep),
            pace_waits_total: peering.map_or(0, |peering| peering.pace.waits_total),
            customers: self.customers.len() as u64,
            locks: self.locks.held(),
            waiters: self.locks.waiters() as u64,
            ..self.status
        }
    }

    /// Drops everything it holds: it is about to join anew, or what it has is worth nothing. The memory goes a little at a time.
    fn forget_everything(&mut self, now: Now) {
        let old = std::mem::replace(&mut self.stores, Stores::new(now));
        self.trash.extend(old.arena.into_chunks());
        self.customers.forget_all();
        self.kept.forget_all();
        self.locks = Locks::new();
        self.timers = Timers::new(now.monotonic);
        self.lines_to_serve.clear();
        self.orphans.clear();
        self.status = NodeStatus { stores: 0, memory_bytes: 0, tombstones: 0, names: 0, ..self.status };
        if let Some(peering) = &mut self.peering {
            peering.stream = None;
            peering.primary_since = None;
            peering.applied = 0;
            peering.followed_locks.clear();
            peering.follower = Follower::None;
            peering.backlog = Backlog::new(0);
        }
    }

    fn drop_some_trash(&mut self) {
        self.trash.pop();
    }

    /// Milliseconds until this customer may ask again, if its rate is used up. Takes nothing from it: for a client that asks
    /// whether to send its body (`Expect: 100-continue`).
    #[must_use]
    pub fn is_rate_limited(&self, now: Now, customer: &str) -> Option<u64> {
        self.customers.rate_wait_ms(self.customers.find(customer)?, now.monotonic)
    }

    /// Drops the lock of a store, whoever holds it. Says whether there was one.
    pub fn release_lock(&mut self, now: Now, key: StoreKey, outbox: &mut dyn Outbox) -> bool {
        let Some(slot) = self.stores.find(&key) else { return false };
        // A hold that has run out ends as such, and the next in line keeps what it gets.
        let released = self.end_hold_if_due(now, slot, outbox) || self.end_hold(slot).is_some();
        self.serve_lines(now, outbox);
        released
    }

    /// The customers that hold locks now, each once, `at_most` so many: an operator may name a store without its customer, and
    /// its id opens only for that one.
    #[must_use]
    pub fn customers_holding_locks(&self, at_most: usize) -> Vec<String> {
        let mut customers: Vec<u32> = Vec::new();
        for slot in self.locks.held_slots() {
            let customer = self.stores.arena.get(slot).customer();
            if !customers.contains(&customer) {
                customers.push(customer);
            }
            if customers.len() == at_most {
                break;
            }
        }
        customers.into_iter().map(|customer| self.customers.get(customer).id.to_string()).collect()
    }
}

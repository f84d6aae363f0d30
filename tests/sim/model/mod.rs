//! The reference model: what a node must answer, written from the specification with plain maps, without a thought for speed
//! or memory and without the node's code.
//!
//! It owns the stores, names, locks, lines and books as they should be. It is told of every event, judges every answer in the
//! order in which the node gave it, and applies it. Where the specification leaves a choice (ids drawn at random, what happens
//! first when several things are overdue) it follows the answer; everywhere else the answer must be its own.
//!
//! Lives are counted in whole milliseconds of the node's clock, rounded down; holds and waits to the nanosecond.

pub(crate) mod counters;
pub(crate) mod limits;
pub(crate) mod lines;
pub(crate) mod names;
pub(crate) mod stores;

use crate::checks;
use crate::coverage::{Coverage, Rare};
use crate::kinds::operation_name;
use crate::reply::{Matter, Reply, Told};
use bigbunny::node::request::{ConnectionId, Etag, LockId, Operation, Request, RequestId, StoreKey};
use bigbunny::node::response::{Refusal, StoreFacts};
use bigbunny::node::{NodeConfig, NodeStatus};
use bigbunny::time::Instant;
use limits::{Customer, LimboKey};
use names::PrefixJob;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A store by the order of its making. Its key may be unknown for a while: not every answer that makes a store tells it.
pub(crate) type Slot = usize;

/// What is wrong with an answer: the invariant it breaks and how.
pub(crate) type Wrong = String;

/// How far a store's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Live,
    Expired { removed_ms: u64 },
    Deleted,
}

/// Who may write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    pub(crate) id: LockId,
    pub(crate) until: Instant,
    /// The connection it ends with.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) taken_on: ConnectionId,
}

/// A store, living or not.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) customer: &'static str,
    pub(crate) key: Option<StoreKey>,
    pub(crate) name: Option<&'static str>,
    pub(crate) matter: Matter,
    pub(crate) version: u64,
    pub(crate) made_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) life: Life,
    pub(crate) lock: Option<Lock>,
    /// Requests that wait for the lock, in the order in which they came.
    pub(crate) line: VecDeque<RequestId>,
}

/// Where a request that has no answer yet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has just come.
    Fresh,
    /// It waits for the lock of this store.
    InLine(Slot),
    /// The store it waited for has gone.
    Orphan,
    /// It deletes names in turns.
    Working,
}

/// A request that has no answer yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) request: Request<'static>,
    pub(crate) came: Instant,
    pub(crate) place: Place,
}

/// The whole.
pub(crate) struct Model {
    pub(crate) config: NodeConfig,
    pub(crate) customers: BTreeMap<&'static str, Customer>,
    pub(crate) stores: Vec<Store>,
    pub(crate) keys: BTreeMap<StoreKey, Slot>,
    /// Live stores by the end of their time.
    pub(crate) expiries: BTreeSet<(u64, Slot)>,
    /// Live stores with a lock or a line.
    pub(crate) lined: BTreeSet<Slot>,
    pub(crate) pending: BTreeMap<RequestId, Pending>,
    /// Requests whose store went while they waited, in the order of their line.
    pub(crate) orphans: Vec<RequestId>,
    /// Stores whose time is over, of which the node may not have heard: their bytes may still be on its books.
    pub(crate) limbo: Vec<Slot>,
    /// The same for idempotency keys.
    pub(crate) limbo_keys: Vec<LimboKey>,
    /// And the owners of such tombstones.
    pub(crate) limbo_tombstones: Vec<&'static str>,
    tombstones_seen: u64,
    /// When kept answers are forgotten, oldest first.
    pub(crate) keys_until: VecDeque<(Instant, &'static str, &'static str)>,
    /// Prefixes that are being deleted, the next one first.
    pub(crate) prefix_jobs: VecDeque<PrefixJob>,
    /// Every lock id ever given.
    pub(crate) lock_ids: BTreeSet<[u8; 16]>,
    /// When tombstones end, oldest first.
    pub(crate) tombstones: VecDeque<(u64, &'static str)>,
    pub(crate) memory_bytes: u64,
    /// What the event is: a timeout, or this request, or the end of a connection.
    is_timeout: bool,
    asked_now: Option<RequestId>,
    /// A hold ended within this millisecond: the node's timers, rounded up, may not have told it before then.
    unsettled_until_ms: u64,
    /// Stores whose hold has run out, of which the node may not have heard.
    just_ended: Vec<Slot>,
    pub(crate) expired_total: u64,
    pub(crate) memory_refused_total: u64,
    /// The long deletions have had their turn in this event.
    prefix_turn_taken: bool,
    pub(crate) now: Instant,
    pub(crate) now_ms: u64,
    pub(crate) coverage: Coverage,
}

impl Model {
    pub(crate) fn new(config: NodeConfig) -> Self {
        Self {
            config,
            customers: BTreeMap::new(),
            stores: Vec::new(),
            keys: BTreeMap::new(),
            expiries: BTreeSet::new(),
            lined: BTreeSet::new(),
            pending: BTreeMap::new(),
            orphans: Vec::new(),
            limbo: Vec::new(),
            limbo_keys: Vec::new(),
            limbo_tombstones: Vec::new(),
            tombstones_seen: 0,
            keys_until: VecDeque::new(),
            prefix_jobs: VecDeque::new(),
            lock_ids: BTreeSet::new(),
            tombstones: VecDeque::new(),
            is_timeout: false,
            asked_now: None,
            unsettled_until_ms: 0,
            just_ended: Vec::new(),
            expired_total: 0,
            memory_refused_total: 0,
            prefix_turn_taken: false,
            memory_bytes: 0,
            now: Instant::ZERO,
            now_ms: 0,
            coverage: Coverage::default(),
        }
    }

    /// Something happens now: what is over is over from here on, whether the node has heard of it or not.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = now;
        self.now_ms = now.as_millis();
        self.is_timeout = false;
        self.asked_now = None;
        self.prefix_turn_taken = false;
        self.end_holds();
        self.end_lives();
        self.end_tombstones();
        self.end_keys();
    }

    /// The node is told of the time.
    pub(crate) fn timed_out(&mut self) {
        self.is_timeout = true;
    }

    /// The node says how many stores it has deleted; what a turn of a long deletion took shows in nothing else.
    pub(crate) fn has_tombstones(&mut self, tombstones: u64) {
        self.tombstones_seen = tombstones;
    }

    /// A client asks.
    pub(crate) fn asked(&mut self, id: RequestId, request: Request<'static>) {
        self.asked_now = Some(id);
        let before = self.pending.insert(id, Pending { request, came: self.now, place: Place::Fresh });
        assert!(before.is_none(), "request ids are unique");
    }

    /// The node answers. Gives back what was asked.
    pub(crate) fn answered(&mut self, id: RequestId, seen: &Reply) -> Result<Pending, Wrong> {
        if !self.pending.contains_key(&id) {
            return Err(format!("answered-once: request {} had no answer due: {seen:?}", id.0));
        }
        self.catch_up_with_prefix_jobs(id, seen)?;
        let pending = self.pending.remove(&id).expect("it was just there");
        let expected = self.judge(id, &pending, seen)?;
        checks::compare(&pending.request, &expected, seen)?;
        if let Err(Refusal::CapacityExceeded | Refusal::CustomerQuotaExceeded) = seen.result {
            self.memory_refused_total += 1;
        }
        if !self.prefix_jobs.is_empty() && pending.place != Place::Working {
            self.met(Rare::AnsweredDuringPrefixDelete);
        }
        self.coverage.answered(operation_name(&pending.request.operation), seen.result.is_ok());
        Ok(pending)
    }

    fn judge(&mut self, id: RequestId, pending: &Pending, seen: &Reply) -> Result<Reply, Wrong> {
        let expected = match pending.place {
            Place::Fresh => {
                if let Some(expected) = self.admit(pending, seen) {
                    return Ok(expected);
                }
                self.perform(id, pending, false, seen)?
            }
            Place::InLine(slot) => match self.leave_line(id, slot, pending, seen)? {
                Some(expected) => expected,
                None => self.perform(id, pending, true, seen)?,
            },
            Place::Orphan => match self.leave_orphans(id, pending, seen)? {
                Some(expected) => expected,
                None => self.perform(id, pending, false, seen)?,
            },
            Place::Working => self.perform(id, pending, true, seen)?,
        };
        self.keep_first_answer(pending, &expected);
        Ok(expected)
    }

    /// The event is over. `settled`: the node says that nothing more is due now.
    pub(crate) fn end(&mut self, settled: bool, status: &NodeStatus) -> Result<(), Wrong> {
        // Those whose store has gone were there before.
        self.settle_orphans();
        if let Some(id) = self.asked_now.filter(|id| self.pending.contains_key(id)) {
            self.stays_unanswered(id)?;
        }
        if self.is_timeout {
            self.take_prefix_turn();
        }
        self.settle_orphans();
        let settled = settled && self.now_ms >= self.unsettled_until_ms;
        if settled {
            self.check_lines()?;
        }
        if settled {
            self.limbo.clear();
            self.limbo_tombstones.clear();
            self.just_ended.clear();
            self.forget_keys();
            checks::books(self, status)?;
        }
        Ok(())
    }

    /// The node has had the time to notice what was over then: its timers are rounded up to whole milliseconds.
    pub(crate) fn must_be_noticed(&self, then: Instant) -> bool {
        then.as_nanos().div_ceil(1_000_000) <= self.now_ms
    }

    /// Where an operation does what it does. `through`: it has waited, and it is its turn.
    fn perform(&mut self, id: RequestId, pending: &Pending, through: bool, seen: &Reply) -> Result<Reply, Wrong> {
        let request = &pending.request;
        match &request.operation {
            Operation::Create { content, ttl_ms } => self.create(request, None, content, *ttl_ms, seen),
            Operation::CreateNamed { name, content, ttl_ms, reuse } => {
                self.create_named(request, said(name), content, *ttl_ms, *reuse, seen)
            }
            Operation::Put { name, content, ttl_ms, .. } => {
                self.put(pending, said(name), content, *ttl_ms, through, seen)
            }
            Operation::Lookup { name } => self.lookup(request, said(name), seen),
            Operation::Read { target, touch } => Ok(self.read(request, target, *touch, seen)),
            Operation::Authorize { name, touch } => Ok(self.authorize(request, name.as_ref().map(said), *touch)),
            Operation::Update { key, body, ttl_ms, .. } => self.update(pending, *key, body, *ttl_ms, through, seen),
            Operation::BeginModify { .. } => self.begin_modify(pending, through, seen),
            Operation::CompleteModify { target, lock, body, ttl_ms } => {
                Ok(self.complete_modify(request, target, *lock, body, *ttl_ms, seen))
            }
            Operation::CancelModify { target, lock } => Ok(self.cancel_modify(request, target, *lock, seen)),
            Operation::Delete { target } => Ok(self.delete(request, target, seen)),
            Operation::Increment { .. } => self.increment(pending, seen),
            Operation::Touch { target, ttl_ms } => Ok(self.touch(request, target, *ttl_ms, seen)),
            Operation::List { prefix, after, limit } => {
                Ok(self.list(request.customer, said(prefix), after.as_ref().map(said), *limit))
            }
            Operation::DeletePrefix { .. } => self.delete_prefix(id, pending, seen),
            Operation::ReadMany { names } => Ok(self.read_many(request.customer, names)),
            Operation::DeleteMany { names } => Ok(self.delete_many(request, names, seen)),
            Operation::Rename { name, to } => Ok(self.rename(request, said(name), said(to), seen)),
        }
    }

    pub(crate) fn store(&self, slot: Slot) -> &Store {
        &self.stores[slot]
    }

    pub(crate) fn alive(&self, slot: Slot) -> bool {
        self.stores[slot].life == Life::Live && self.now_ms < self.stores[slot].expires_ms
    }

    /// What is said of a store beside its content.
    pub(crate) fn facts(&self, slot: Slot) -> StoreFacts {
        let store = &self.stores[slot];
        StoreFacts {
            etag: Etag { epoch: 1, version: store.version },
            ttl_left_ms: store.expires_ms.saturating_sub(self.now_ms),
            locked: None,
        }
    }

    /// An answer about one store.
    pub(crate) fn told(&self, slot: Slot, told: Told) -> Reply {
        Reply { result: Ok(told), facts: Some(self.facts(slot)) }
    }

    /// A refusal that concerns a store that is there.
    pub(crate) fn refused(&self, slot: Slot, refusal: Refusal) -> Reply {
        Reply { result: Err(refusal), facts: self.alive(slot).then(|| self.facts(slot)) }
    }

    /// Live stores that have a name.
    pub(crate) fn names_in_use(&self) -> u64 {
        self.customers.values().map(|customer| customer.names.len() as u64).sum()
    }

    pub(crate) fn met(&mut self, rare: Rare) {
        self.coverage.met(rare);
    }
}

/// An answer about no store.
pub(crate) fn plain(told: Told) -> Reply {
    Reply { result: Ok(told), facts: None }
}

/// A refusal that concerns no store that is there.
pub(crate) fn refusal(refusal: Refusal) -> Reply {
    Reply { result: Err(refusal), facts: None }
}

/// The simulator's clients say only what lives for ever.
#[allow(clippy::ptr_arg, reason = "the point is what the Cow borrows from")]
pub(crate) fn said(text: &std::borrow::Cow<'static, str>) -> &'static str {
    match text {
        std::borrow::Cow::Borrowed(text) => text,
        std::borrow::Cow::Owned(text) => unreachable!("not from the universe: {text}"),
    }
}

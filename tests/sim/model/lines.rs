//! The model's clockwork: holds and lives that end, lines that wait, and the request that leaves its line.

use super::stores::Found;
use super::{Life, Model, Pending, Place, Slot, Store, Wrong, refusal, said};
use crate::coverage::Rare;
use crate::kinds;
use crate::reply::{Matter, Reply};
use bigbunny::node::request::{ConnectionId, Operation, RequestId, StoreKey, Target};
use bigbunny::node::response::Refusal;
use bigbunny::time::Instant;
use std::time::Duration;

/// For how long a tombstone stands (section 7).
const TOMBSTONE_MS: u64 = 24 * 3_600_000;

impl Model {
    pub(super) fn end_holds(&mut self) {
        let over: Vec<Slot> = self
            .lined
            .iter()
            .copied()
            .filter(|slot| self.stores[*slot].lock.is_some_and(|lock| lock.until <= self.now))
            .collect();
        for slot in over {
            self.met(Rare::LockTimedOut);
            let until = self.stores[slot].lock.expect("it is held").until;
            self.just_ended.push(slot);
            self.unsettled_until_ms = self.unsettled_until_ms.max(until.as_nanos().div_ceil(1_000_000));
            if self.stores[slot].line.iter().any(|id| wait_ends(&self.pending[id]) <= self.now) {
                self.met(Rare::WaiterAndHoldOverdue);
            }
            self.unlock(slot);
        }
    }

    pub(super) fn end_lives(&mut self) {
        let over: Vec<Slot> =
            self.expiries.iter().take_while(|(at, _)| *at <= self.now_ms).map(|(_, slot)| *slot).collect();
        for slot in over {
            if self.stores[slot].lock.is_none() {
                self.limbo.push(slot);
                self.vanish(slot, Life::Expired { removed_ms: self.now_ms });
            }
        }
    }

    pub(super) fn end_tombstones(&mut self) {
        while let Some((until_ms, customer)) = self.tombstones.front().copied()
            && until_ms <= self.now_ms
        {
            self.tombstones.pop_front();
            self.customers.get_mut(customer).expect("it has a tombstone").tombstones -= 1;
            self.limbo_tombstones.push(customer);
        }
    }

    /// A connection ends: its requests leave their lines, its locks end.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId) {
        let gone: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.request.connection == connection && pending.place != Place::Working)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let pending = self.pending.remove(&id).expect("it was listed");
            self.met(Rare::WaiterAbandoned);
            match pending.place {
                Place::InLine(slot) => {
                    self.stores[slot].line.retain(|other| *other != id);
                    self.tidy_line(slot);
                }
                Place::Orphan => self.orphans.retain(|other| *other != id),
                Place::Fresh | Place::Working => unreachable!("only waiting requests are between events"),
            }
            if let Some(idempotency) = &pending.request.idempotency {
                self.forget_key(pending.request.customer, idempotency.key);
            }
        }
        let locked: Vec<Slot> = self
            .lined
            .iter()
            .copied()
            .filter(|slot| self.stores[*slot].lock.is_some_and(|lock| lock.connection == Some(connection)))
            .collect();
        for slot in locked {
            self.met(Rare::ConnectionLockEnded);
            self.unlock(slot);
        }
    }

    /// The operator has had a lock dropped. One that had run out may count as dropped, if the node had not noticed.
    pub(crate) fn released(&mut self, key: StoreKey, seen: bool) -> Result<(), Wrong> {
        let slot = self.keys.get(&key).copied();
        let held = slot.filter(|slot| self.stores[*slot].lock.is_some());
        if let Some(slot) = held {
            self.met(Rare::OperatorReleased);
            self.unlock(slot);
        }
        let unnoticed = slot.is_some_and(|slot| self.just_ended.contains(&slot));
        if seen == held.is_some() || (seen && unnoticed) {
            Ok(())
        } else {
            Err(format!("one-lock-holder: the operator drops {held:?}, and is told {seen}"))
        }
    }

    /// The lock is free. A store past its expiry goes with it.
    pub(super) fn unlock(&mut self, slot: Slot) {
        self.stores[slot].lock = None;
        if self.stores[slot].expires_ms <= self.now_ms {
            self.met(Rare::ExpiredWhileLocked);
            self.limbo.push(slot);
            self.vanish(slot, Life::Expired { removed_ms: self.now_ms });
        } else {
            self.tidy_line(slot);
        }
    }

    pub(super) fn tidy_line(&mut self, slot: Slot) {
        if self.stores[slot].lock.is_none() && self.stores[slot].line.is_empty() {
            self.lined.remove(&slot);
        }
    }

    /// A store is made. The caller has asked for room.
    pub(super) fn bear(
        &mut self,
        customer: &'static str,
        name: Option<&'static str>,
        matter: Matter,
        ttl_ms: u64,
    ) -> Slot {
        let slot = self.stores.len();
        let expires_ms = self.now_ms + ttl_ms;
        self.stores.push(Store {
            customer,
            key: None,
            name,
            matter,
            version: 1,
            made_ms: self.now_ms,
            expires_ms,
            life: Life::Live,
            lock: None,
            line: std::collections::VecDeque::new(),
        });
        self.expiries.insert((expires_ms, slot));
        let cost = self.cost_bytes(slot);
        self.charge(customer, 0, cost);
        if let Some(name) = name {
            let account = self.account(customer);
            let again = !account.names_ever.insert(name);
            assert!(account.names.insert(name, slot).is_none(), "the model never gives a name twice");
            if again {
                self.met(Rare::NameUsedAgain);
            }
        }
        slot
    }

    /// A store goes, with its name, its lock and its bytes; those who wait for it are orphans.
    pub(super) fn vanish(&mut self, slot: Slot, life: Life) {
        let cost = self.cost_bytes(slot);
        let customer = self.stores[slot].customer;
        self.charge(customer, cost, 0);
        self.expiries.remove(&(self.stores[slot].expires_ms, slot));
        self.lined.remove(&slot);
        self.expired_total += u64::from(life != Life::Deleted);
        let store = &mut self.stores[slot];
        store.life = life;
        store.lock = None;
        let line = std::mem::take(&mut store.line);
        if let Some(name) = store.name {
            self.account(customer).names.remove(name);
        }
        if life == Life::Deleted {
            self.tombstones.push_back((self.now_ms + TOMBSTONE_MS, customer));
            self.account(customer).tombstones += 1;
        }
        if !line.is_empty() {
            self.met(if life == Life::Deleted { Rare::DeletedUnderWaiter } else { Rare::ExpiredUnderWaiter });
        }
        for id in line {
            self.pending.get_mut(&id).expect("it waits").place = Place::Orphan;
            self.orphans.push(id);
        }
    }

    pub(super) fn set_expiry(&mut self, slot: Slot, ttl_ms: Option<u64>) {
        if let Some(ttl_ms) = ttl_ms {
            self.expiries.remove(&(self.stores[slot].expires_ms, slot));
            self.stores[slot].expires_ms = self.now_ms + ttl_ms;
            self.expiries.insert((self.stores[slot].expires_ms, slot));
        }
    }

    /// Whether somebody else is before this request.
    pub(super) fn is_blocked(&self, slot: Slot, through: bool) -> bool {
        let store = &self.stores[slot];
        store.lock.is_some() || (!through && !store.line.is_empty())
    }

    /// What a request that may not write now is told: nothing, if it waits.
    pub(super) fn blocked(&self, slot: Slot, pending: &Pending, seen: &Reply) -> Result<Reply, Wrong> {
        if wait_ends(pending) <= self.now {
            let retry_after_ms = self.stores[slot].lock.map_or(1, |lock| retry_after_ms(lock.until, self.now));
            return Ok(self.refused(slot, Refusal::StoreLocked { retry_after_ms }));
        }
        match seen.result {
            Err(Refusal::TooManyWaiting) => Ok(self.refused(slot, Refusal::TooManyWaiting)),
            _ => Err(format!("first-come-first-served: somebody else is before it, yet it is answered: {seen:?}")),
        }
    }

    /// One who waited is answered: it is its turn, or its time is over.
    pub(super) fn leave_line(
        &mut self,
        id: RequestId,
        slot: Slot,
        pending: &Pending,
        seen: &Reply,
    ) -> Result<Option<Reply>, Wrong> {
        let overdue = wait_ends(pending) <= self.now;
        let store = &mut self.stores[slot];
        if overdue && matches!(seen.result, Err(Refusal::StoreLocked { .. })) {
            store.line.retain(|other| *other != id);
            let retry_after_ms = store.lock.map_or(1, |lock| retry_after_ms(lock.until, self.now));
            self.met(Rare::WaiterTimedOut);
            self.tidy_line(slot);
            return Ok(Some(self.refused(slot, Refusal::StoreLocked { retry_after_ms })));
        }
        if let Some(lock) = store.lock {
            return Err(format!("one-lock-holder: held until {:?}, yet one in line gets {seen:?}", lock.until));
        }
        if store.line.front() != Some(&id) {
            return Err(format!("first-come-first-served: {:?} are before it, yet it gets {seen:?}", store.line));
        }
        store.line.pop_front();
        self.met(Rare::WaiterServed);
        self.tidy_line(slot);
        Ok(None)
    }

    /// One whose store has gone is answered.
    pub(super) fn leave_orphans(
        &mut self,
        id: RequestId,
        pending: &Pending,
        seen: &Reply,
    ) -> Result<Option<Reply>, Wrong> {
        let at = self.orphans.iter().position(|other| *other == id).expect("it is an orphan");
        if makes_anew(pending) && seen.result.is_ok() {
            let same = |other: &&RequestId| {
                let other = &self.pending[*other];
                makes_anew(other)
                    && other.request.customer == pending.request.customer
                    && waited_name(other) == waited_name(pending)
            };
            if let Some(before) = self.orphans[..at].iter().find(same) {
                return Err(format!("first-come-first-served: request {} would have made the store anew", before.0));
            }
        }
        self.orphans.remove(at);
        if wait_ends(pending) <= self.now && matches!(seen.result, Err(Refusal::StoreLocked { .. })) {
            self.met(Rare::WaiterTimedOut);
            return Ok(Some(refusal(Refusal::StoreLocked { retry_after_ms: 1 })));
        }
        if makes_anew(pending) && seen.result.is_ok() {
            self.met(Rare::RemadeByWaiter);
        }
        Ok(None)
    }

    /// A request has no answer at the end of its event: it must have a reason.
    pub(super) fn stays_unanswered(&mut self, id: RequestId) -> Result<(), Wrong> {
        let pending = self.pending[&id].clone();
        if pending.place != Place::Fresh {
            return Ok(());
        }
        if let Some(expected) = self.admit(&pending, &refusal(Refusal::TooManyWaiting)) {
            return Err(format!("answered-once: no answer, expected {expected:?}"));
        }
        let place = if let Operation::DeletePrefix { prefix } = &pending.request.operation {
            self.start_prefix_job(id, pending.request.customer, said(prefix));
            Place::Working
        } else {
            let Some(slot) = self.waits_for(&pending) else {
                return Err("answered-once: no answer, and nothing to wait for".to_owned());
            };
            self.enter_line(id, slot);
            Place::InLine(slot)
        };
        self.pending.get_mut(&id).expect("it is pending").place = place;
        Ok(())
    }

    fn enter_line(&mut self, id: RequestId, slot: Slot) {
        self.stores[slot].line.push_back(id);
        self.lined.insert(slot);
        if self.stores[slot].line.len() == 2 {
            self.met(Rare::LineOfSeveral);
        }
    }

    /// The store whose lock a request may wait for.
    fn waits_for(&mut self, pending: &Pending) -> Option<Slot> {
        let request = &pending.request;
        let nothing = refusal(Refusal::NotFound);
        kinds::wait_ms(&request.operation)?;
        let target = kinds::subject(&request.operation)?;
        let or_overdue = makes_anew(pending);
        let (slot, alive) = match self.by_target(request.customer, &target, &nothing) {
            Found::Alive(slot) => (slot, Some(slot)),
            Found::Overdue(slot) if or_overdue => (slot, None),
            Found::Overdue(_) | Found::Nothing(_) => return None,
        };
        let may_wait =
            self.is_blocked(slot, false) && wait_ends(pending) > self.now && self.condition_holds(request, alive);
        may_wait.then_some(slot)
    }

    /// Those whose store has gone, and who have no answer, wait again, if another has been made.
    pub(super) fn settle_orphans(&mut self) {
        for id in std::mem::take(&mut self.orphans) {
            let pending = self.pending[&id].clone();
            if let Some(slot) = self.waits_for(&pending) {
                self.enter_line(id, slot);
                self.pending.get_mut(&id).expect("it is pending").place = Place::InLine(slot);
            } else {
                self.orphans.push(id);
            }
        }
    }

    /// Nobody may be left behind whose turn it is, or whose time is over.
    pub(super) fn check_lines(&self) -> Result<(), Wrong> {
        if let Some(id) = self.orphans.first() {
            return Err(format!("nobody-left-behind: request {} waits for nothing", id.0));
        }
        for slot in &self.lined {
            let store = &self.stores[*slot];
            if store.lock.is_none() {
                return Err(format!("nobody-left-behind: {:?} wait for a free lock", store.line));
            }
            if let Some(late) = store.line.iter().find(|id| self.must_be_noticed(wait_ends(&self.pending[id]))) {
                return Err(format!("nobody-left-behind: request {} waits for too long", late.0));
            }
        }
        Ok(())
    }

    /// Requests that wait in lines.
    pub(crate) fn waiting(&self) -> u64 {
        self.lined.iter().map(|slot| self.stores[*slot].line.len() as u64).sum::<u64>() + self.orphans.len() as u64
    }

    /// Locks held.
    pub(crate) fn held(&self) -> u64 {
        self.lined.iter().filter(|slot| self.stores[**slot].lock.is_some()).count() as u64
    }
}

/// When a request that waits gives up by itself.
fn wait_ends(pending: &Pending) -> Instant {
    let wait_ms = kinds::wait_ms(&pending.request.operation).unwrap_or(0);
    pending.came + Duration::from_millis(wait_ms)
}

/// How long a hold lasts, as a client is told: at least 1 ms.
fn retry_after_ms(until: Instant, now: Instant) -> u64 {
    u64::try_from(until.since(now).as_millis()).expect("holds are short").max(1)
}

/// It would make the store it waits for, were it missing.
fn makes_anew(pending: &Pending) -> bool {
    matches!(
        pending.request.operation,
        Operation::Put { .. } | Operation::BeginModify { create_if_missing: true, target: Target::Name(_), .. }
    )
}

fn waited_name(pending: &Pending) -> Option<&'static str> {
    if let Operation::Put { name, .. } | Operation::BeginModify { target: Target::Name(name), .. } =
        &pending.request.operation
    {
        Some(said(name))
    } else {
        None
    }
}

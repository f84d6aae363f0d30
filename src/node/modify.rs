//! What has to do with locks: begin, complete, cancel, update, and the serving of lines.
//!
//! A line is served after the request that freed the lock has its answer, and before the next input: so between two inputs
//! every line has a holder, and who comes first is served first.

use std::time::Duration;

use super::gates::{check_condition, check_value};
use super::locks::{Holder, WAITERS_MAX};
use super::parked::Parked;
use super::request::{ConnectionId, Content, Counter, LockId, Operation, StoreKey, Target};
use super::response::Refusal;
use super::store::State;
use super::stores::{Found, missing};
use super::timeouts::Timer;
use super::{Ask, Node, Outbox, Outcome};
use crate::json::{CounterBodyError, counter_update};
use crate::planted::{self, Bug};
use crate::time::Now;

impl Node {
    /// The refusal of somebody who found the lock held.
    pub(super) fn locked(&self, now: Now, slot: u32) -> Refusal {
        let left = self.locks.holder(slot).map_or(Duration::ZERO, |holder| holder.until.since(now.monotonic));
        Refusal::StoreLocked { retry_after_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1) }
    }

    /// Puts a request in line for a lock, or refuses it if it does not (any longer) want to wait.
    pub(super) fn wait_for_lock(&mut self, ask: &Ask<'_>, slot: u32, wait_ms: u64) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let deadline = ask.deadline.unwrap_or(now.monotonic + Duration::from_millis(wait_ms));
        if deadline <= now.monotonic {
            return Err(self.locked(now, slot));
        }
        if self.locks.waiters() == WAITERS_MAX {
            return Err(Refusal::TooManyWaiting);
        }
        let timer = self.timers.arm(deadline, Timer::WaitEnds(asker.request));
        self.locks.park(slot, Parked::new(asker, deadline, timer, ask));
        Ok(Outcome::Later)
    }

    fn take_lock(&mut self, now: Now, slot: u32, id: LockId, hold_ms: Option<u64>, connection: Option<ConnectionId>) {
        if let Some(before) = self.locks.holder(slot) {
            self.timers.disarm(before.timer);
        }
        let until = now.monotonic + Duration::from_millis(hold_ms.unwrap_or(self.config.lock_timeout_ms));
        let timer = self.timers.arm(until, Timer::HoldEnds(slot));
        self.locks.hold(slot, Holder { id, until, timer, connection });
        self.stores.arena.get_mut(slot).set_has_lock_line(true);
        self.log_lock(slot);
    }

    /// Ends a hold and has its line served. Says who held it.
    pub(super) fn end_hold(&mut self, slot: u32) -> Option<Holder> {
        let holder = self.locks.release(slot)?;
        self.timers.disarm(holder.timer);
        self.log_lock(slot);
        self.lines_to_serve.push_back(slot);
        Some(holder)
    }

    /// Ends a hold whose time is over, and serves its line at once. Says whether it did.
    pub(super) fn end_hold_if_due(&mut self, now: Now, slot: u32, outbox: &mut dyn Outbox) -> bool {
        if !self.stores.arena.get(slot).has_lock_line() {
            return false;
        }
        let is_due = self.locks.holder(slot).is_some_and(|holder| holder.until <= now.monotonic);
        let is_due = is_due && !planted::is(Bug::LockTimedByClient);
        if is_due {
            self.end_hold(slot);
            self.status.lock_expirations_total += 1;
            self.serve_lines(now, outbox);
        }
        is_due
    }

    /// The store is about to go: its lock ends, and whoever waited is carried out anew, in order.
    pub(super) fn dissolve_line(&mut self, slot: u32) {
        if !self.stores.arena.get(slot).has_lock_line() {
            return;
        }
        if let Some(holder) = self.locks.release(slot) {
            self.timers.disarm(holder.timer);
        }
        while let Some(parked) = self.locks.next(slot) {
            self.timers.disarm(parked.timer);
            self.orphans.push_back(parked);
        }
        assert!(self.locks.drop_line_if_empty(slot));
        self.stores.arena.get_mut(slot).set_has_lock_line(false);
    }

    /// Carries out whoever's turn it is, until every line has a holder or is empty.
    pub(super) fn serve_lines(&mut self, now: Now, outbox: &mut dyn Outbox) {
        loop {
            if let Some(parked) = self.orphans.pop_front() {
                self.take_turn(now, &parked, None, outbox);
            } else if let Some(slot) = self.lines_to_serve.pop_front() {
                self.serve_line(now, slot, outbox);
            } else {
                return;
            }
        }
    }

    fn serve_line(&mut self, now: Now, slot: u32, outbox: &mut dyn Outbox) {
        while self.locks.holder(slot).is_none() {
            let entry = self.stores.arena.get(slot);
            if entry.is_store() && entry.expires_ms() <= now.monotonic.as_millis() {
                return self.expire_store(now, slot);
            }
            let Some(parked) = self.locks.next(slot) else { break };
            self.timers.disarm(parked.timer);
            self.take_turn(now, &parked, Some(slot), outbox);
        }
        if self.locks.drop_line_if_empty(slot) {
            self.stores.arena.get_mut(slot).set_has_lock_line(false);
        }
    }

    /// `about` is the store it waited for, if that is still there.
    fn take_turn(&mut self, now: Now, parked: &Parked, about: Option<u32>, outbox: &mut dyn Outbox) {
        if parked.deadline <= now.monotonic {
            let refusal = Refusal::StoreLocked { retry_after_ms: 1 };
            return self.answer(now, parked.asker, Err(refusal), about, outbox);
        }
        let (condition, operation) = parked.operation(0);
        let (asker, deadline) = (parked.asker, Some(parked.deadline));
        self.carry_out(&Ask { now, asker, condition, operation: &operation, deadline }, outbox);
    }

    pub(super) fn on_begin_modify(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let Operation::BeginModify { target, wait_ms, hold_ms, connection_scope, renew, create_if_missing, ttl_ms } =
            ask.operation
        else {
            unreachable!("only begin-modify comes here")
        };
        let found = self.find(now, asker, target, outbox);
        check_condition(ask.condition, self.etag_of(found))?;
        let tie = connection_scope.then_some(asker.connection);
        if tie.is_some_and(|connection| !self.locks.may_tie(connection)) {
            return Err(Refusal::TooManyWaiting);
        }
        match (found, target) {
            (Found::Alive(slot), _) => {
                if self.stores.arena.get(slot).state() != State::Blob {
                    return Err(Refusal::TypeMismatch { needed: "blob" });
                }
                match (self.locks.holder(slot).copied(), renew) {
                    (Some(holder), Some(lock)) if holder.id == *lock => {
                        self.take_lock(now, slot, *lock, *hold_ms, tie.or(holder.connection));
                        Ok(Outcome::Locked { slot, lock: *lock, created: false })
                    }
                    (_, Some(_)) => Err(Refusal::LockMismatch),
                    (Some(_), None) => self.wait_for_lock(ask, slot, *wait_ms),
                    (None, None) => {
                        let lock = self.new_lock_id();
                        self.take_lock(now, slot, lock, *hold_ms, tie);
                        Ok(Outcome::Locked { slot, lock, created: false })
                    }
                }
            }
            (Found::Dying(slot), Target::Name(_)) if *create_if_missing => self.wait_for_lock(ask, slot, *wait_ms),
            (Found::Nothing, Target::Name(name)) if *create_if_missing => {
                if renew.is_some() {
                    return Err(Refusal::LockMismatch);
                }
                let slot = self.make_store(now, asker, Some(name), &Content::Blob(&[]), *ttl_ms)?;
                let lock = self.new_lock_id();
                self.take_lock(now, slot, lock, *hold_ms, tie);
                Ok(Outcome::Locked { slot, lock, created: true })
            }
            (Found::Nothing | Found::Expired | Found::Dying(_), _) => Err(missing(target, found)),
        }
    }

    fn new_lock_id(&mut self) -> LockId {
        let mut id = LockId([0; 16]);
        self.entropy.fill(&mut id.0);
        id
    }

    pub(super) fn on_complete_modify(
        &mut self,
        ask: &Ask<'_>,
        target: &Target<'_>,
        lock: LockId,
        body: &[u8],
        ttl_ms: Option<u64>,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let found = self.find(now, asker, target, outbox);
        let holds = |slot: u32| self.locks.holder(slot).is_some_and(|holder| holder.id == lock);
        let slot = match found {
            Found::Alive(slot) => Some(slot),
            Found::Dying(slot) if holds(slot) => Some(slot),
            Found::Nothing | Found::Expired | Found::Dying(_) => None,
        };
        check_condition(ask.condition, slot.map(|slot| self.stores.arena.get(slot).etag()))?;
        let slot = slot.ok_or(missing(target, found))?;
        if self.stores.arena.get(slot).state() != State::Blob {
            return Err(Refusal::TypeMismatch { needed: "blob" });
        }
        if !holds(slot) && !planted::is(Bug::CommitWithoutLock) {
            return Err(Refusal::LockMismatch);
        }
        self.change_store(now, slot, &Content::Blob(body), ttl_ms)?;
        self.end_hold(slot);
        Ok(Outcome::DoneTo(slot))
    }

    pub(super) fn on_cancel_modify(
        &mut self,
        ask: &Ask<'_>,
        target: &Target<'_>,
        lock: LockId,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let (Found::Alive(slot) | Found::Dying(slot)) = self.find(now, asker, target, outbox) else {
            return Ok(Outcome::Done);
        };
        if self.stores.arena.get(slot).state() != State::Blob {
            return Err(Refusal::TypeMismatch { needed: "blob" });
        }
        match self.locks.holder(slot) {
            Some(holder) if holder.id != lock => return Err(Refusal::LockMismatch),
            Some(_) => _ = self.end_hold(slot),
            None => {}
        }
        Ok(Outcome::DoneTo(slot))
    }

    pub(super) fn on_update(
        &mut self,
        ask: &Ask<'_>,
        key: StoreKey,
        body: &[u8],
        ttl_ms: Option<u64>,
        wait_ms: u64,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let now = ask.now;
        let slot = self.find_alive(ask, &Target::Key(key), outbox)?;
        let entry = self.stores.arena.get(slot);
        let content = match entry.content() {
            Content::Blob(_) if self.locks.holder(slot).is_some() => {
                return self.wait_for_lock(ask, slot, wait_ms);
            }
            Content::Blob(_) => Content::Blob(body),
            Content::Counter(counter) => {
                let value = counter_update(body).map_err(|error| match error {
                    CounterBodyError::NotAnObject => Refusal::TypeMismatch { needed: "blob" },
                    CounterBodyError::Bad(why) => Refusal::BadCounterBody(why),
                })?;
                check_value(&counter, value)?;
                Content::Counter(Counter { value, ..counter })
            }
        };
        self.change_store(now, slot, &content, ttl_ms)?;
        Ok(Outcome::DoneTo(slot))
    }
}

//! What happens by itself: locks and waits that run out, answers and customers that are forgotten, stores that expire, and
//! prefix deletes that need more than one turn. Each input does a bounded part of it; what is left makes `next_timeout` due.

use std::ops::Bound;
use std::time::Duration;

use super::request::{ConnectionId, RequestId};
use super::response::Refusal;
use super::store::State;
use super::{Asker, Node, Outbox, Outcome, Role};
use crate::time::Now;

/// How long the id of an expired store answers `410`.
pub const EXPIRED_REMEMBERED_MS: u64 = 30_000;
/// How long a deleted store leaves a tombstone.
pub const TOMBSTONE_KEPT_MS: u64 = 24 * 3600 * 1000;

/// How often a follower looks at an answer whose time is over.
const ANSWER_LOOKED_AT_AGAIN_MS: u64 = 1000;

/// Timers looked at by one `Timeout`, and stores expired: a tenth of a millisecond's work even if none of them is in the cache. Whoever
/// has a clock may have more of it done ([`Node::has_more_to_expire`]).
const TIMERS_PER_TURN: u32 = 512;
const EXPIRIES_PER_TURN: u32 = 128;
/// Names deleted by one turn of a prefix delete.
pub const PREFIX_DELETES_PER_TURN: usize = 256;

/// What a timer of the node is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// The lock of this store.
    HoldEnds(u32),
    /// The wait of this request.
    WaitEnds(RequestId),
    /// This kept answer.
    AnswerForgotten(u32),
    /// Whether this customer can be forgotten.
    CustomerUnused(u32),
}

/// A prefix delete that goes on over several turns. What was deleted is out of the names, so it needs no cursor.
pub(super) struct PrefixJob {
    pub(super) asker: Asker,
    pub(super) prefix: Box<str>,
    pub(super) deleted: u64,
}

impl Node {
    pub(super) fn on_timeout(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let mut budget = TIMERS_PER_TURN;
        while let Some(timer) = self.timers.pop_due(now.monotonic, &mut budget) {
            match timer {
                Timer::HoldEnds(slot) => _ = self.end_hold_if_due(now, slot, outbox),
                Timer::WaitEnds(request) => self.end_wait(now, request, outbox),
                Timer::AnswerForgotten(kept) if self.role() == Role::Primary => {
                    self.forget_answer_of_its_customer(now, kept);
                }
                // The primary will say so; should this node become primary, it looks again.
                Timer::AnswerForgotten(kept) => {
                    let later = now.monotonic + Duration::from_millis(ANSWER_LOOKED_AT_AGAIN_MS);
                    let timer = self.timers.arm(later, Timer::AnswerForgotten(kept));
                    let (until, _) = self.kept.until(kept).expect("only a kept answer is timed");
                    self.kept.set_until(kept, until, timer);
                }
                Timer::CustomerUnused(customer) => {
                    self.customers.get_mut(customer).forget_armed = false;
                    self.forget_customer_if_unused(now, customer);
                }
            }
        }
        if self.role() == Role::Primary {
            self.expire_due(now);
        }
        self.drop_some_trash();
        if self.peering.is_some() {
            self.on_peering_time(now, outbox);
        }
        if let Some(job) = self.prefix_jobs.pop_front() {
            let asker = job.asker;
            match self.run_prefix_job(now, job) {
                Ok(Outcome::Later) => {}
                outcome => self.answer(now, asker, outcome, None, outbox),
            }
        }
        self.serve_lines(now, outbox);
    }

    fn end_wait(&mut self, now: Now, request: RequestId, outbox: &mut dyn Outbox) {
        if let Some((slot, parked)) = self.locks.leave(request) {
            let refusal = self.locked(now, slot);
            let is_alive = self.stores.arena.get(slot).expires_ms() > now.monotonic.as_millis();
            self.answer(now, parked.asker, Err(refusal), is_alive.then_some(slot), outbox);
        }
    }

    pub(super) fn forget_answer_of_its_customer(&mut self, now: Now, kept: u32) {
        let customer = self.forget_kept_answer(kept);
        self.forget_customer_if_unused(now, customer);
    }

    /// Nothing is kept of a customer longer than it is needed.
    pub(super) fn forget_customer_if_unused(&mut self, now: Now, customer: u32) {
        if let Some(look_again) = self.customers.forget_if_unused(customer, now.monotonic) {
            self.customers.get_mut(customer).forget_armed = true;
            self.timers.arm(look_again, Timer::CustomerUnused(customer));
        }
    }

    /// Whether a further `Timeout` would expire stores.
    #[must_use]
    pub fn has_more_to_expire(&self, now: Now) -> bool {
        let due_ms = self.stores.wheel.next_deadline_ms();
        self.role() == Role::Primary && due_ms.is_some_and(|due_ms| due_ms <= now.monotonic.as_millis())
    }

    fn expire_due(&mut self, now: Now) {
        let mut budget = EXPIRIES_PER_TURN;
        let now_ms = now.monotonic.as_millis();
        while let Some(slot) = self.stores.wheel.advance(&mut self.stores.arena, now_ms, &mut budget) {
            let entry = self.stores.arena.get(slot);
            let customer = entry.customer();
            match entry.state() {
                // The end of its lock will look after it.
                State::Blob | State::Counter if entry.has_lock_line() => {}
                State::Blob | State::Counter => self.expire_store(now, slot),
                state @ (State::Expired | State::Tombstone) => {
                    self.log_gone(slot);
                    self.remove_remains(now, slot, customer, state);
                }
            }
        }
    }

    pub(super) fn remove_remains(&mut self, now: Now, slot: u32, customer: u32, state: State) {
        if state == State::Tombstone {
            self.customers.get_mut(customer).tombstones -= 1;
            self.status.tombstones -= 1;
        }
        self.stores.remove(slot);
        self.customers.get_mut(customer).entries -= 1;
        self.forget_customer_if_unused(now, customer);
    }

    /// Past its expiry and not locked, but not yet collected: its id must go on to answer `410`, so it is not to be deleted.
    pub(super) fn is_over(&self, now: Now, slot: u32) -> bool {
        let is_held = self.locks.holder(slot).is_some_and(|holder| holder.until > now.monotonic);
        !is_held && self.stores.arena.get(slot).expires_ms() <= now.monotonic.as_millis()
    }

    /// The next names to delete, a turn's worth at most.
    pub(super) fn names_with_prefix(&self, customer: u32, prefix: &str) -> Vec<u32> {
        let names = &self.customers.get(customer).names;
        let with_prefix = names
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix));
        with_prefix.map(|(_, &slot)| slot).take(PREFIX_DELETES_PER_TURN).collect()
    }

    /// Does a turn's worth of a prefix delete; `Later` if more is to do.
    pub(super) fn run_prefix_job(&mut self, now: Now, mut job: PrefixJob) -> Result<Outcome, Refusal> {
        let slots = self.names_with_prefix(job.asker.customer, &job.prefix);
        for &slot in &slots {
            if self.is_over(now, slot) {
                self.expire_store(now, slot);
                continue;
            }
            let is_alive = self.stores.arena.get(slot).expires_ms() > now.monotonic.as_millis();
            self.check_tombstones(job.asker.customer, 1)?;
            self.delete_store(now, slot);
            job.deleted += u64::from(is_alive);
        }
        if slots.len() < PREFIX_DELETES_PER_TURN {
            return Ok(Outcome::Deleted { count: job.deleted });
        }
        self.prefix_jobs.push_back(job);
        Ok(Outcome::Later)
    }

    pub(super) fn on_connection_closed(&mut self, now: Now, connection: ConnectionId, outbox: &mut dyn Outbox) {
        self.forget_forwards_of(connection, outbox);
        let (waiting, locks) = self.locks.left_behind(connection);
        for request in waiting {
            if let Some((_, parked)) = self.locks.leave(request) {
                self.timers.disarm(parked.timer);
                if let Some(kept) = parked.asker.kept {
                    self.forget_answer_of_its_customer(now, kept);
                }
            }
        }
        for slot in locks {
            self.end_hold(slot);
        }
        self.serve_lines(now, outbox);
    }
}

//! All gates of a request, in the one order in which they are passed: it decides which error wins.
//!
//! Before the store is looked for: whether this node is the one to ask ([`Node::pass_on`]), then, in [`Node::admit`], the lease, the
//! lock window after a failover, the rate, whether a change can be replicated, and the idempotency key. Then, by the operations, in this order:
//! the preconditions ([`check_condition`]), whether it is there, its kind, its lock, the values, the tombstone limits, and at
//! last room ([`Node::check_room`]).

use super::kept::{KeptAnswers, Seen};
use super::request::{Condition, Counter, Etag, IfMatch, Operation, Request, RequestId};
use super::response::Refusal;
use super::timeouts::Timer;
use super::{ANSWER_KEPT_MS, Asker, Node, Outbox};
use crate::planted::{self, Bug};
use crate::time::{Instant, Now};

/// What the first gates say.
pub(super) enum Admission {
    Admitted(Asker),
    Refused(Refusal),
    /// A repeat got its first answer again.
    Answered,
}

impl Node {
    pub(super) fn admit(
        &mut self,
        now: Now,
        id: RequestId,
        customer: u32,
        request: &Request<'_>,
        outbox: &mut dyn Outbox,
    ) -> Admission {
        let changes = request.operation.is_change();
        if changes && self.must_refuse_changes(now) {
            return Admission::Refused(Refusal::NotReplicated { applied: false });
        }
        if let Some(refusal) = self.lock_window(now, &request.operation) {
            return Admission::Refused(refusal);
        }
        let at = if planted::is(Bug::RateByWallClock) { Instant::from_millis(now.wall.0) } else { now.monotonic };
        if let Some(retry_after_ms) = self.customers.rate_wait_ms(customer, at) {
            self.status.rate_limited_total += 1;
            return Admission::Refused(Refusal::RateLimited { retry_after_ms });
        }
        self.customers.take_token(customer, at);

        let replicate_all = self.peering.as_ref().is_some_and(|peering| peering.config.replicate_all);
        let durable = changes && (request.durable || replicate_all);
        if durable && !self.can_replicate(now) {
            return Admission::Refused(Refusal::NotReplicated { applied: false });
        }

        let mut kept = None;
        if let Some(idempotency) = &request.idempotency {
            match self.kept.look_up(customer, idempotency) {
                Seen::Answered(_)
                    if planted::is(Bug::CounterTwice) && matches!(request.operation, Operation::Increment { .. }) =>
                {
                    return Admission::Admitted(Asker {
                        request: id,
                        connection: request.connection,
                        customer,
                        kept: None,
                        changes,
                        durable,
                    });
                }
                Seen::Answered(handle) => {
                    self.replay(id, handle, durable, outbox);
                    return Admission::Answered;
                }
                Seen::Mismatch => return Admission::Refused(Refusal::IdempotencyMismatch),
                Seen::InProgress => return Admission::Refused(Refusal::IdempotencyInProgress),
                Seen::New => {}
            }
            let cost_bytes = KeptAnswers::cost_bytes(idempotency);
            if let Err(refusal) = self.check_room(customer, cost_bytes) {
                self.status.capacity_refused_total += 1;
                return Admission::Refused(refusal);
            }
            kept = Some(self.kept.reserve(customer, idempotency));
            self.customers.get_mut(customer).kept_answers += 1;
            self.add_memory(customer, cost_bytes);
        }
        Admission::Admitted(Asker { request: id, connection: request.connection, customer, kept, changes, durable })
    }

    /// Gives a repeat its first answer. One that is to be on both nodes waits like the first: that may still be on its way.
    fn replay(&mut self, id: RequestId, kept: u32, durable: bool, outbox: &mut dyn Outbox) {
        let response = self.kept.replay(kept);
        if durable && response.result.is_ok() {
            let mut bytes = Vec::new();
            super::codec::write_response(&mut bytes, &response);
            self.withhold(id, bytes.into_boxed_slice(), outbox);
        } else {
            super::forward::deliver(outbox, id, response);
        }
    }

    /// After a failover nobody knows who held which lock, until all of them would have run out. What only waits for a lock, and takes
    /// none, goes on: whoever held one can complete nothing any more, so no change of his is overwritten unseen.
    fn lock_window(&self, now: Now, operation: &Operation<'_>) -> Option<Refusal> {
        let until = self.peering.as_ref()?.lock_window_until;
        let is_about_locks = matches!(
            operation,
            Operation::BeginModify { .. } | Operation::CompleteModify { .. } | Operation::CancelModify { .. }
        );
        if !is_about_locks || until <= now.monotonic || planted::is(Bug::NoUnknownWindow) {
            return None;
        }
        let left = until.since(now.monotonic).as_millis();
        Some(Refusal::LockStateUnknown { retry_after_ms: u64::try_from(left).unwrap_or(u64::MAX).max(1) })
    }

    /// After the answer: keeps it for its time, or gives its place back. `more_bytes` is nothing for what is not kept.
    pub(super) fn settle_kept_answer(&mut self, now: Now, customer: u32, kept: u32, more_bytes: Option<u64>) {
        match more_bytes {
            Some(more_bytes) => {
                self.add_memory(customer, more_bytes);
                let until = now.monotonic + std::time::Duration::from_millis(ANSWER_KEPT_MS);
                let timer = self.timers.arm(until, Timer::AnswerForgotten(kept));
                self.kept.set_until(kept, until, timer);
                self.log_answer(kept);
            }
            None => _ = self.forget_kept_answer(kept),
        }
    }

    /// Gives the place of an answer back. Returns whose it was.
    pub(super) fn forget_kept_answer(&mut self, kept: u32) -> u32 {
        self.log_answer_gone(kept);
        if let Some((_, timer)) = self.kept.until(kept) {
            self.timers.disarm(timer);
        }
        let (customer, cost_bytes) = self.kept.forget(kept);
        self.customers.get_mut(customer).kept_answers -= 1;
        self.take_memory(customer, cost_bytes);
        customer
    }

    /// Whether `more_bytes` fit under the customer's quota and the node's limit.
    pub(super) fn check_room(&self, customer: u32, more_bytes: u64) -> Result<(), Refusal> {
        let fits = |used: u64, limit: u64| limit == 0 || used + more_bytes <= limit;
        if !fits(self.customers.get(customer).memory_bytes, self.config.limits.customer_memory_quota_bytes) {
            return Err(Refusal::CustomerQuotaExceeded);
        }
        if !fits(self.status.memory_bytes, self.config.limits.memory_limit_bytes) {
            return Err(Refusal::CapacityExceeded);
        }
        Ok(())
    }

    /// Whether so many more tombstones fit under both limits.
    pub(super) fn check_tombstones(&self, customer: u32, more: u64) -> Result<(), Refusal> {
        let fits = |used: u64, limit: u64| limit == 0 || used + more <= limit;
        let of_customer = fits(self.customers.get(customer).tombstones, self.config.limits.tombstone_customer_limit);
        let of_all = fits(self.status.tombstones, self.config.limits.tombstone_global_limit);
        if of_customer && of_all { Ok(()) } else { Err(Refusal::TombstoneLimitExceeded) }
    }

    pub(super) fn add_memory(&mut self, customer: u32, bytes: u64) {
        self.customers.get_mut(customer).memory_bytes += bytes;
        self.status.memory_bytes += bytes;
    }

    pub(super) fn take_memory(&mut self, customer: u32, bytes: u64) {
        let of_customer = &mut self.customers.get_mut(customer).memory_bytes;
        *of_customer = of_customer.checked_sub(bytes).expect("books-exact");
        self.status.memory_bytes = self.status.memory_bytes.checked_sub(bytes).expect("books-exact");
    }
}

/// `existing` is the tag of the store, or nothing if there is none (any more).
pub(super) fn check_condition(condition: Condition, existing: Option<Etag>) -> Result<(), Refusal> {
    let matches = match condition.if_match {
        IfMatch::Unset => true,
        IfMatch::Any => existing.is_some(),
        IfMatch::Tag(etag) => existing == Some(etag),
        IfMatch::Foreign => false,
    };
    if matches && !(condition.if_none_match_any && existing.is_some()) { Ok(()) } else { Err(Refusal::VersionMismatch) }
}

/// Whether a counter is one: its bounds in order, and its value between them.
pub(super) fn check_counter(counter: &Counter) -> Result<(), Refusal> {
    if counter.min.zip(counter.max).is_some_and(|(min, max)| min > max) {
        return Err(Refusal::InvalidBounds);
    }
    check_value(counter, counter.value)
}

pub(super) fn check_value(counter: &Counter, value: i64) -> Result<(), Refusal> {
    if counter.min.is_some_and(|min| value < min) || counter.max.is_some_and(|max| value > max) {
        return Err(Refusal::ValueOutOfBounds);
    }
    Ok(())
}

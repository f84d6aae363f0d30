//! The model's counters: one step, by id or by name.

use super::stores::{Found, refuse_bounds};
use super::{Model, Pending, Slot, Wrong, refusal, said};
use crate::coverage::Rare;
use crate::reply::{Matter, Reply, Told};
use bigbunny::node::request::{Content, Counter, Operation, Request, Target};
use bigbunny::node::response::{Refusal, StepTaken};

impl Model {
    pub(super) fn increment(&mut self, pending: &Pending, seen: &Reply) -> Result<Reply, Wrong> {
        let request = &pending.request;
        let Operation::Increment { target, delta, reject_at_bound, make, ttl_ms } = &request.operation else {
            unreachable!("only steps come here")
        };
        let found = self.by_target(request.customer, target, seen);
        if let Some(refused) = self.condition_on_found(request, &found) {
            return Ok(refused);
        }
        match (&found, target, make) {
            (Found::Overdue(slot), Target::Name(_), Some(_)) => self.blocked(*slot, pending, seen),
            (Found::Nothing(_), Target::Name(name), Some(to_make)) => {
                let ttl_ms = to_make.ttl_ms.or(*ttl_ms);
                Ok(self.make_by_step(request, said(name), to_make.counter, *delta, *reject_at_bound, ttl_ms, seen))
            }
            _ => Ok(match self.readable(&found, target) {
                Ok(slot) => self.step(slot, *delta, *reject_at_bound, *ttl_ms),
                Err(refused) => refusal(refused),
            }),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one for each part of the request")]
    fn make_by_step(
        &mut self,
        request: &Request<'static>,
        name: &'static str,
        first: Counter,
        delta: i128,
        reject: bool,
        ttl_ms: Option<u64>,
        seen: &Reply,
    ) -> Reply {
        if let Some(refused) = refuse_bounds(&Content::Counter(first)) {
            return refusal(refused);
        }
        let Some((counter, step)) = stepped(&first, delta, reject) else {
            self.met(Rare::Overflowed);
            return refusal(Refusal::Overflow);
        };
        match self.make(request, Some(name), Matter::Counter(counter), ttl_ms, seen) {
            Err(refused) => refusal(refused),
            Ok(slot) => {
                self.met(Rare::CreatedByIncrement);
                self.told(slot, Told::Counter { counter, step: Some(StepTaken { created: true, ..step }) })
            }
        }
    }

    fn step(&mut self, slot: Slot, delta: i128, reject: bool, ttl_ms: Option<u64>) -> Reply {
        let Matter::Counter(before) = self.stores[slot].matter else {
            return self.refused(slot, Refusal::TypeMismatch { needed: "counter" });
        };
        let Some((counter, step)) = stepped(&before, delta, reject) else {
            self.met(Rare::Overflowed);
            return self.refused(slot, Refusal::Overflow);
        };
        if step.bounded {
            self.met(if reject { Rare::RejectedAtBound } else { Rare::Clamped });
        }
        if counter.value == i64::MAX || counter.value == i64::MIN {
            self.met(Rare::AtEdgeOf64Bits);
        }
        // A step that is not taken changes nothing, the expiry included.
        if !(step.bounded && reject) {
            self.stores[slot].matter = Matter::Counter(counter);
            self.stores[slot].version += 1;
            self.set_expiry(slot, ttl_ms);
        }
        self.told(slot, Told::Counter { counter, step: Some(step) })
    }
}

/// One step: section 6 in wide numbers. Nothing if it leaves 64 bits.
fn stepped(before: &Counter, delta: i128, reject: bool) -> Option<(Counter, StepTaken)> {
    let wanted = i128::from(before.value) + delta;
    let low = before.min.map_or(i128::MIN, i128::from);
    let high = before.max.map_or(i128::MAX, i128::from);
    let clamped = wanted.clamp(low, high);
    let bounded = clamped != wanted;
    let value = if bounded && reject { i128::from(before.value) } else { clamped };
    let applied = value - i128::from(before.value);
    let value = i64::try_from(value).ok()?;
    Some((Counter { value, ..*before }, StepTaken { bounded, applied, created: false }))
}

//! Increment and decrement. Arithmetic is done in 128 bits, so that nothing overflows before it is noticed.

use super::gates::{check_condition, check_counter};
use super::request::{Content, Counter, Operation, Target};
use super::response::{Refusal, StepTaken};
use super::store::State;
use super::stores::{Found, missing};
use super::{Ask, Node, Outbox, Outcome};

/// What becomes of a counter's value by a step: clamped to the bounds, or not taken where it would pass one.
fn step(counter: &Counter, delta: i128, reject_at_bound: bool) -> Result<(i64, StepTaken), Refusal> {
    let wanted = i128::from(counter.value) + delta;
    let bound = if delta > 0 { counter.max } else { counter.min };
    let passes =
        bound.is_some_and(|bound| if delta > 0 { wanted > i128::from(bound) } else { wanted < i128::from(bound) });
    let value = match bound {
        Some(_) if passes && reject_at_bound => counter.value,
        Some(bound) if passes => bound,
        _ => i64::try_from(wanted).map_err(|_| Refusal::Overflow)?,
    };
    let applied = i128::from(value) - i128::from(counter.value);
    Ok((value, StepTaken { bounded: passes, applied, created: false }))
}

impl Node {
    pub(super) fn on_increment(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let Operation::Increment { target, delta, reject_at_bound, make, ttl_ms } = ask.operation else {
            unreachable!("only increments come here")
        };
        let found = self.find(now, asker, target, outbox);
        check_condition(ask.condition, self.etag_of(found))?;
        match (found, target, make) {
            (Found::Alive(slot), _, _) => {
                let entry = self.stores.arena.get_mut(slot);
                if entry.state() != State::Counter {
                    return Err(Refusal::TypeMismatch { needed: "counter" });
                }
                let (value, step) = step(&entry.counter(), *delta, *reject_at_bound)?;
                let is_rejected = step.bounded && *reject_at_bound;
                if !is_rejected {
                    entry.set_counter_value(value);
                    self.raise_version(slot);
                    self.move_expiry(now, slot, *ttl_ms);
                    self.log_store(slot);
                }
                Ok(Outcome::Stepped { slot, step })
            }
            (Found::Dying(slot), Target::Name(_), Some(_)) => Err(self.locked(now, slot)),
            (Found::Nothing, Target::Name(name), Some(make)) => {
                check_counter(&make.counter)?;
                let (value, step) = step(&make.counter, *delta, *reject_at_bound)?;
                let content = Content::Counter(Counter { value, ..make.counter });
                let slot = self.make_store(now, asker, Some(name), &content, make.ttl_ms.or(*ttl_ms))?;
                Ok(Outcome::Stepped { slot, step: StepTaken { created: true, ..step } })
            }
            (Found::Nothing | Found::Expired | Found::Dying(_), _, _) => Err(missing(target, found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(value: i64, min: Option<i64>, max: Option<i64>) -> Counter {
        Counter { value, min, max }
    }

    fn taken(value: i64, applied: i128, bounded: bool) -> Result<(i64, StepTaken), Refusal> {
        Ok((value, StepTaken { bounded, applied, created: false }))
    }

    #[test]
    fn steps_clamp_reject_and_overflow() {
        let between = counter(50, Some(0), Some(100));
        assert_eq!(step(&between, 5, false), taken(55, 5, false));
        assert_eq!(step(&between, 50, false), taken(100, 50, false));
        assert_eq!(step(&between, 51, false), taken(100, 50, true));
        assert_eq!(step(&between, 51, true), taken(50, 0, true));
        assert_eq!(step(&between, -51, false), taken(0, -50, true));
        assert_eq!(step(&between, i128::from(i64::MAX), false), taken(100, 50, true));
        assert_eq!(step(&between, -i128::from(i64::MIN), false), taken(100, 50, true));
        assert_eq!(step(&between, 0, true), taken(50, 0, false));

        let free = counter(i64::MAX - 1, None, None);
        assert_eq!(step(&free, 1, false), taken(i64::MAX, 1, false));
        assert_eq!(step(&free, 2, false), Err(Refusal::Overflow));
        assert_eq!(step(&counter(i64::MIN, None, None), -1, true), Err(Refusal::Overflow));
        assert_eq!(step(&counter(i64::MIN, None, Some(0)), -1, false), Err(Refusal::Overflow));
        let whole_range = step(&counter(i64::MIN, None, Some(i64::MAX)), i128::from(u64::MAX), false);
        assert_eq!(whole_range, taken(i64::MAX, i128::from(u64::MAX), false));
    }
}

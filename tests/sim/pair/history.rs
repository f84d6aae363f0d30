//! Histories: what the clients of each store were told, from one time at which all was well to the next, must have one order that explains it.
//!
//! Within a lineage: only what the branches have done that led to the last one. What was answered and lost with a branch is left to
//! `loss-is-suffix`; a primary that another has already taken over from may look back, without a lease, and its looks do not count.
//! Neither do a secondary's, which `prefix` checks.

use super::ledger::{Deed, Fate, Ledger, Place, Wrong};
use crate::linear::{self, Operation, Verdict, judge};
use std::collections::BTreeMap;

/// The classes of stores of which all is known that was done to them.
const JUDGED: &[u8] = b"rclt";

/// What a store was asked, with what came back. A store is nothing, a value or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Write(Option<u64>),
    /// So many steps, and what they were said to have come to.
    Add(u64, Option<u64>),
    Look(Option<u64>),
}

impl linear::Deed for Asked {
    type State = Option<u64>;

    fn after(&self, state: &Option<u64>) -> Option<Option<u64>> {
        match *self {
            Self::Write(value) => Some(value),
            Self::Add(steps, told) => {
                let sum = state.unwrap_or(0) + steps;
                told.is_none_or(|told| told == sum).then_some(Some(sum))
            }
            Self::Look(seen) => (seen == *state).then_some(*state),
        }
    }

    fn is_look(&self) -> bool {
        matches!(self, Self::Look(_))
    }

    fn is_unique(&self) -> bool {
        matches!(self, Self::Write(Some(_)))
    }

    fn shows(&self, unique: &Self) -> bool {
        matches!((self, unique), (Self::Look(Some(seen)), Self::Write(Some(value))) if seen == value)
    }
}

impl Ledger {
    /// Checks the history of every store up to now, when it is as it is said to be. Gives how many could be decided, and how many not.
    pub(crate) fn check_histories(
        &self,
        branch: usize,
        now: u64,
        counters: &BTreeMap<Place, i64>,
        registers: &BTreeMap<Place, u64>,
    ) -> Result<[u64; 2], Wrong> {
        let mut counts = [0; 2];
        for (place, mut history) in self.histories(branch) {
            let counted = counters.get(&place).map(|&value| value as u64);
            let last = registers.get(&place).copied().or(counted);
            // A store that ends may have ended.
            if last.is_some() || place.1 != b't' {
                history.push(Operation { deed: Asked::Look(last), asked: now, answered: Some(now) });
            }
            match judge(None, history.clone()) {
                Verdict::Explained => counts[0] += 1,
                Verdict::Undecided => counts[1] += 1,
                Verdict::Unexplained => {
                    history.sort_by_key(|operation| operation.asked);
                    let story: Vec<String> = history.iter().map(|operation| format!("  {operation:?}")).collect();
                    return Err(format!("linearizable: no order explains {place:?}:\n{}", story.join("\n")));
                }
            }
        }
        Ok(counts)
    }

    fn histories(&self, branch: usize) -> BTreeMap<Place, Vec<Operation<Asked>>> {
        let path = self.path(branch);
        let mut histories: BTreeMap<Place, Vec<Operation<Asked>>> = BTreeMap::new();
        for op in self.ops.iter().filter(|op| JUDGED.contains(&op.place.1)) {
            let fate = Self::fate_of(&path, op);
            let told = op.answered.filter(|_| fate == Fate::Certain);
            // A deletion that found nothing is a look.
            let says_nothing = |done: &super::ledger::Done| done.before == done.after && !done.is_fresh;
            if fate == Fate::Lost || (op.deed == Deed::Write(None) && op.done.iter().any(says_nothing)) {
                continue;
            }
            let deed = match op.deed {
                Deed::Write(value) => Asked::Write(value),
                Deed::Add(steps) => Asked::Add(steps as u64, told.and_then(|(_, told)| told)),
            };
            let operation = Operation { deed, asked: op.asked, answered: told.map(|(at, _)| at) };
            histories.entry(op.place).or_default().push(operation);
        }
        for look in &self.looks {
            if look.done.is_fresh && Self::fate(&path, &look.done) == Fate::Certain {
                let operation =
                    Operation { deed: Asked::Look(look.seen), asked: look.asked, answered: Some(look.answered) };
                histories.entry(look.place).or_default().push(operation);
            }
        }
        histories
    }
}

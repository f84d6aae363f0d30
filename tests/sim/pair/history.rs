//! Histories: what the clients of each store were told, from one time at which all was well to the next, must have one order that explains it.
//!
//! Within a lineage: only what the branches have done that led to the last one. What was answered and lost with a branch is left to
//! `loss-is-suffix`; a primary that another has already taken over from may look back, without a lease, and its looks do not count.
//! Neither do a secondary's, which `prefix` checks.

use super::ledger::{Deed, Done, Fate, Ledger, Place, Wrong};
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
            let counts = |done: &Done| Self::fate(&path, done) == Fate::Certain;
            // What a primary said whose deed is lost says nothing of the deed that counts, which another may have done before: only
            // that this one was done by then.
            let told = op.answered.filter(|told| counts(&told.done));
            let done_at = op.done.iter().filter(|done| counts(done)).map(|done| done.at).min();
            let answered = told.map(|told| told.at).or(done_at);
            // A deletion that found nothing is a look.
            let says_nothing = |done: &Done| done.before == done.after && !done.is_fresh;
            if fate == Fate::Lost || (op.deed == Deed::Write(None) && op.done.iter().any(says_nothing)) {
                continue;
            }
            let deed = match op.deed {
                Deed::Write(value) => Asked::Write(value),
                Deed::Add(steps) => Asked::Add(steps as u64, told.and_then(|told| told.count)),
            };
            let operation = Operation { deed, asked: op.asked, answered };
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

#[cfg(test)]
mod tests {
    use super::super::ledger::{Deed, Done, Ledger, Look, Op, Place, Told};
    use std::collections::BTreeMap;

    const COUNTER: Place = (0, b'c', 0);

    /// Two nodes that know nothing of each other have both begun, and the first will have the last word.
    fn two_beginnings() -> Ledger {
        let mut ledger = Ledger::default();
        for owner in [10, 20] {
            let branch = ledger.branch(1, owner, None, false, &[10, 20]).unwrap();
            ledger.branches[branch].last = 9;
        }
        ledger
    }

    /// Done at this time by the first node or the second, as its change of this number.
    fn done(branch: usize, number: u64, at: u64) -> Done {
        Done { branch, before: number - 1, after: number, at, durable: false, is_fresh: true }
    }

    fn step(asked: u64, done: &[Done], told: Option<(u64, u64, Done)>) -> Op {
        let told = told.map(|(at, count, done)| Told { at, count: Some(count), done });
        Op { done: done.to_vec(), answered: told, ..Op::new(COUNTER, Deed::Add(1), asked) }
    }

    /// In the end the first node counts to this.
    fn is_explained(ledger: &Ledger, count: i64) -> bool {
        ledger.check_histories(0, 1000, &BTreeMap::from([(COUNTER, count)]), &BTreeMap::new()).is_ok()
    }

    #[test]
    fn an_answer_counts_where_it_was_made() {
        let (here, first, there) = (done(0, 2, 12), done(0, 1, 2), done(1, 1, 30));
        let mut ledger = two_beginnings();
        ledger.ops.push(step(1, &[first], Some((3, 1, first))));
        // Done as the second step here, where the answer was lost; tried again, it was the first step there.
        ledger.ops.push(step(11, &[here, there], Some((31, 1, there))));
        assert!(is_explained(&ledger, 2));
        // Had it been said here, it would be wrong.
        ledger.ops[1] = step(11, &[here, there], Some((31, 1, here)));
        assert!(!is_explained(&ledger, 2));
    }

    #[test]
    fn what_was_done_is_done_from_then_on() {
        let (here, there) = (done(0, 1, 12), done(1, 1, 30));
        let mut ledger = two_beginnings();
        ledger.ops.push(step(11, &[here, there], Some((31, 1, there))));
        let look = |seen, asked| Look { place: COUNTER, seen, asked, answered: asked + 1, done: here };
        ledger.looks = vec![look(None, 10), look(Some(1), 13)];
        assert!(is_explained(&ledger, 1));
        ledger.looks = vec![look(None, 13)];
        assert!(!is_explained(&ledger, 1), "it was done at 12");
    }
}

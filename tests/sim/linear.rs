//! Whether a history could have happened one operation after another: the search of Wing and Gong, with the states met before remembered.
//! An operation without an answer may have happened at any time after it was asked, or never.
//!
//! It knows nothing of what is asked: that is a [`Deed`]'s business, and every simulator has its own.

use std::collections::HashMap;
use std::hash::Hash;

/// What was asked, with what came back.
pub(crate) trait Deed: PartialEq {
    /// What it is done to.
    type State: Clone + Eq + Hash;

    /// The state afterwards, if it could have been done in this state and answered so.
    fn after(&self, state: &Self::State) -> Option<Self::State>;

    /// It changes nothing, wherever it comes.
    fn is_look(&self) -> bool;

    /// What it leaves is left by no other: unless somebody has [seen](Self::shows) that, nobody can tell whether it happened.
    fn is_unique(&self) -> bool;

    /// It could not be as it is if that unique one had never happened.
    fn shows(&self, unique: &Self) -> bool;
}

/// One operation: asked then, and answered then if it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation<D> {
    pub(crate) deed: D,
    pub(crate) asked: u64,
    pub(crate) answered: Option<u64>,
}

/// What a history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One order explains all answers.
    Explained,
    /// None does.
    Unexplained,
    /// There are too many orders to try.
    Undecided,
}

/// Steps of the search at most.
const STEPS_MAX: usize = 200_000;

/// Whether one order explains all answers, from this state on.
pub(crate) fn judge<D: Deed>(first: D::State, mut operations: Vec<Operation<D>>) -> Verdict {
    leave_out_the_untold(&mut operations);
    bound_the_seen(&mut operations);
    operations.sort_by_key(|operation| operation.asked);
    Search::new(&operations).run(first)
}

/// Takes away what nobody can tell: looks without an answer, and unique ones without an answer that nobody has seen.
fn leave_out_the_untold<D: Deed>(operations: &mut Vec<Operation<D>>) {
    operations.retain(|operation| operation.answered.is_some() || !operation.deed.is_look());
    loop {
        let is_told = |one: &Operation<D>| {
            one.answered.is_some()
                || !one.deed.is_unique()
                || operations.iter().any(|other| other.deed.shows(&one.deed))
        };
        let told: Vec<bool> = operations.iter().map(is_told).collect();
        if told.iter().all(|is_told| *is_told) {
            return;
        }
        let mut told = told.into_iter();
        operations.retain(|_| told.next().unwrap_or(true));
    }
}

/// Whatever somebody has seen was done before that one was answered.
fn bound_the_seen<D: Deed>(operations: &mut [Operation<D>]) {
    let seen_at = |one: &Operation<D>| {
        let seers = operations.iter().filter(|other| other.deed.shows(&one.deed));
        seers.filter_map(|other| other.answered).min()
    };
    let bounds: Vec<Option<u64>> = operations
        .iter()
        .map(|one| one.answered.or_else(|| if one.deed.is_unique() { seen_at(one) } else { None }))
        .collect();
    for (operation, bound) in operations.iter_mut().zip(bounds) {
        operation.answered = bound;
    }
}

/// A step of the search: what was done last, what it was done to, and what else might come in its place.
struct Step<S> {
    done: usize,
    before: S,
    others: Vec<usize>,
}

/// The search: what is left to be done, and every state met with the same left.
struct Search<'o, D: Deed> {
    operations: &'o [Operation<D>],
    /// In the order of asking.
    is_done: Vec<bool>,
    by_answer: Vec<usize>,
    /// The place of each in `by_answer`.
    ranks: Vec<usize>,
    /// Everything before these is done.
    asked_from: usize,
    answered_from: usize,
    left: usize,
    /// Stands for the set of those that are done and have an answer.
    sum: u128,
    /// By that and the state: which of those without an answer were done then.
    met: HashMap<(u128, D::State), Vec<Vec<usize>>>,
    /// Those without an answer that are done.
    open_done: Vec<usize>,
}

/// A number that looks random, for each operation: their sums differ wherever the sets do, but for once in 2^100.
const fn mark(operation: usize) -> u128 {
    let mut word = (operation as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    word = (word ^ (word >> 67)).wrapping_mul(0xbf58_476d_1ce4_e5b9_94d0_49bb_1331_11eb);
    word ^ (word >> 61)
}

impl<'o, D: Deed> Search<'o, D> {
    fn new(operations: &'o [Operation<D>]) -> Self {
        let mut by_answer: Vec<usize> = (0..operations.len()).filter(|&at| operations[at].answered.is_some()).collect();
        by_answer.sort_by_key(|&at| operations[at].answered);
        let mut ranks = vec![0; operations.len()];
        by_answer.iter().enumerate().for_each(|(rank, &at)| ranks[at] = rank);
        Self {
            operations,
            is_done: vec![false; operations.len()],
            left: by_answer.len(),
            by_answer,
            ranks,
            asked_from: 0,
            answered_from: 0,
            sum: 0,
            met: HashMap::new(),
            open_done: Vec::new(),
        }
    }

    fn run(mut self, first: D::State) -> Verdict {
        let mut state = first;
        let mut steps: Vec<Step<D::State>> = Vec::new();
        let mut count = 0;
        let mut next = self.candidates(&state);
        loop {
            if self.left == 0 {
                return Verdict::Explained;
            }
            count += 1;
            if count > STEPS_MAX {
                return Verdict::Undecided;
            }
            if let Some(done) = next.pop() {
                let after = self.operations[done].deed.after(&state).expect("a candidate can be next");
                let before = std::mem::replace(&mut state, after);
                self.set_done(done, true);
                steps.push(Step { done, before, others: next });
                next = if self.is_new(&state) { self.candidates(&state) } else { Vec::new() };
            } else {
                let Some(step) = steps.pop() else { return Verdict::Unexplained };
                self.set_done(step.done, false);
                (state, next) = (step.before, step.others);
            }
        }
    }

    fn set_done(&mut self, at: usize, is_done: bool) {
        self.is_done[at] = is_done;
        if self.operations[at].answered.is_none() {
            if is_done {
                self.open_done.push(at);
            } else {
                self.open_done.pop();
            }
            return;
        }
        if is_done {
            self.sum = self.sum.wrapping_add(mark(at));
            self.left -= 1;
        } else {
            self.sum = self.sum.wrapping_sub(mark(at));
            self.left += 1;
            self.asked_from = self.asked_from.min(at);
            self.answered_from = self.answered_from.min(self.ranks[at]);
        }
        while self.asked_from < self.is_done.len()
            && self.is_done[self.asked_from]
            && self.operations[self.asked_from].answered.is_some()
        {
            self.asked_from += 1;
        }
        while self.answered_from < self.by_answer.len() && self.is_done[self.by_answer[self.answered_from]] {
            self.answered_from += 1;
        }
    }

    /// Whether this state was not met before with the same left to do, by one who had used up no more of those without an answer.
    fn is_new(&mut self, state: &D::State) -> bool {
        let key = (self.sum, state.clone());
        let met = self.met.entry(key).or_default();
        let is_known = met.iter().any(|used| used.iter().all(|open| self.open_done.contains(open)));
        if !is_known {
            met.push(self.open_done.clone());
        }
        !is_known
    }

    /// What may be next, the best guess last: a look alone if there is one, for it may as well come first; then whoever was answered first;
    /// then those without an answer.
    fn candidates(&self, state: &D::State) -> Vec<usize> {
        // Whatever was answered before another was asked comes before it.
        let first_answer = self.by_answer.get(self.answered_from).and_then(|&at| self.operations[at].answered);
        let first_answer = first_answer.unwrap_or(u64::MAX);
        let (mut answered, mut open) = (Vec::new(), Vec::<usize>::new());
        for (at, operation) in self.operations.iter().enumerate().skip(self.asked_from) {
            if operation.asked > first_answer {
                break;
            }
            if self.is_done[at] || operation.deed.after(state).is_none() {
                continue;
            }
            if operation.answered.is_none() {
                // One that was asked for earlier does as well.
                if !open.iter().any(|&other| self.operations[other].deed == operation.deed) {
                    open.push(at);
                }
            } else if operation.deed.is_look() {
                return vec![at];
            } else {
                answered.push(at);
            }
        }
        answered.sort_by_key(|&at| std::cmp::Reverse(self.operations[at].answered));
        open.reverse();
        open.extend(answered);
        open
    }
}

#[cfg(test)]
mod tests {
    use super::{Deed, Operation, Verdict, judge};

    /// A register of numbers, each written once, and a counter.
    #[derive(Clone, Debug, PartialEq)]
    enum Act {
        Set(u32),
        Delete,
        Get(Option<u32>),
        /// What it came to, if that was told.
        Add(Option<u32>),
    }

    impl Deed for Act {
        type State = Option<u32>;

        fn after(&self, state: &Option<u32>) -> Option<Option<u32>> {
            match self {
                Self::Set(value) => Some(Some(*value)),
                Self::Delete => Some(None),
                Self::Get(value) => (value == state).then_some(*state),
                Self::Add(told) => {
                    let sum = state.unwrap_or(0) + 1;
                    told.is_none_or(|told| told == sum).then_some(Some(sum))
                }
            }
        }

        fn is_look(&self) -> bool {
            matches!(self, Self::Get(_))
        }

        fn is_unique(&self) -> bool {
            matches!(self, Self::Set(_))
        }

        fn shows(&self, unique: &Self) -> bool {
            matches!((self, unique), (Self::Get(Some(seen)), Self::Set(value)) if seen == value)
        }
    }

    fn at(deed: Act, asked: u64, answered: u64) -> Operation<Act> {
        Operation { deed, asked, answered: Some(answered) }
    }

    fn open(deed: Act, asked: u64) -> Operation<Act> {
        Operation { deed, asked, answered: None }
    }

    fn is_good(operations: &[Operation<Act>]) -> bool {
        judge(None, operations.to_vec()) == Verdict::Explained
    }

    use Act::{Add, Delete, Get, Set};

    #[test]
    fn a_stale_read_is_found() {
        assert!(is_good(&[at(Set(1), 1, 2), at(Get(Some(1)), 3, 4), at(Set(2), 5, 6), at(Get(Some(2)), 7, 8)]));
        assert!(!is_good(&[at(Set(1), 1, 2), at(Set(2), 3, 4), at(Get(Some(1)), 5, 6)]));
        assert!(is_good(&[at(Set(1), 1, 2), at(Set(2), 3, 8), at(Get(Some(1)), 5, 6)]), "2 was under way");
        assert!(
            !is_good(&[at(Set(1), 1, 2), at(Set(2), 3, 9), at(Get(Some(2)), 4, 5), at(Get(Some(1)), 6, 7)]),
            "back"
        );
        assert!(!is_good(&[at(Set(1), 1, 2), at(Delete, 3, 4), at(Get(Some(1)), 5, 6)]), "it is back from the dead");
        assert!(!is_good(&[at(Get(Some(1)), 1, 2), at(Set(1), 3, 4)]), "read before it was written");
    }

    #[test]
    fn a_lost_update_is_found() {
        assert!(is_good(&[at(Add(Some(1)), 1, 5), at(Add(Some(2)), 2, 4), at(Get(Some(2)), 6, 7)]));
        assert!(!is_good(&[at(Add(Some(1)), 1, 5), at(Add(Some(1)), 2, 4)]), "both began with the same");
        assert!(!is_good(&[at(Add(Some(1)), 1, 2), at(Add(Some(2)), 3, 4), at(Get(Some(1)), 5, 6)]), "one is gone");
        assert!(!is_good(&[at(Add(Some(1)), 1, 2), at(Add(Some(3)), 3, 4)]), "applied twice");
    }

    #[test]
    fn what_has_no_answer_may_have_happened_later_or_never() {
        assert!(is_good(&[at(Set(1), 1, 2), open(Set(2), 3), at(Get(Some(1)), 5, 6), at(Get(Some(2)), 7, 8)]));
        assert!(!is_good(&[at(Set(1), 1, 2), open(Set(2), 3), at(Get(Some(2)), 5, 6), at(Get(Some(1)), 7, 8)]));
        assert!(is_good(&[at(Set(1), 1, 2), open(Delete, 3), at(Get(Some(1)), 5, 6), at(Get(None), 7, 8)]));
        assert!(!is_good(&[at(Set(1), 1, 2), at(Get(None), 3, 4), open(Delete, 5)]), "it was asked for too late");
        assert!(
            is_good(&[at(Add(Some(1)), 1, 2), open(Add(None), 1), at(Add(Some(3)), 4, 5)]),
            "the open one was done"
        );
        assert!(!is_good(&[at(Add(Some(1)), 1, 2), open(Add(None), 1), at(Add(Some(4)), 4, 5)]), "but not twice");
        // Two that are open and alike are two all the same.
        let twice = [open(Delete, 1), open(Delete, 1), at(Set(1), 2, 3), at(Get(None), 4, 5), at(Set(2), 6, 7)];
        assert!(is_good(&[&twice[..], &[at(Get(None), 8, 9)]].concat()));
        assert!(!is_good(&[&twice[1..], &[at(Get(None), 8, 9)]].concat()));
    }

    #[test]
    fn long_histories_are_judged() {
        // Many at a time, in the order in which they were asked for or answered, and one planted mistake.
        let mut long: Vec<Operation<Act>> =
            (0..3000).map(|n| at(Set(n), u64::from(n) * 10, u64::from(n) * 10 + 2005)).collect();
        long.extend((0..500).map(|n| open(Delete, n * 60)));
        long.extend((1..300).map(|n| at(Get(Some(n * 10)), u64::from(n) * 100 + 2005, u64::from(n) * 100 + 2006)));
        long.push(at(Get(Some(2999)), 60_000, 60_001));
        assert!(is_good(&long));
        long.push(at(Get(Some(20)), 60_002, 60_003));
        assert_ne!(judge(None, long.clone()), Verdict::Explained);
        long.pop();
        long.push(at(Get(None), 60_002, 60_003));
        assert!(is_good(&long), "a deletion may come late");
    }
}

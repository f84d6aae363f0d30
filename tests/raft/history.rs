//! Whether a history of reads and writes of one key could have happened one after another (Wing and Gong's search, with the states met
//! before remembered). An operation without an answer may have happened at any time after it was asked, or never.

use std::collections::{BTreeMap, HashMap, HashSet};

/// What was asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Set(String),
    Delete,
    /// Expected, new.
    Cas(Option<String>, Option<String>),
    Read,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// Done; of a read, the value.
    Done(Option<String>),
    /// Of a `Cas`: this was there.
    Mismatch(Option<String>),
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    pub what: What,
    pub asked: u64,
    /// When it was answered, and how.
    pub back: Option<(u64, Back)>,
}

/// Operations on one key that are checked at most.
pub const OPERATIONS_MAX: usize = 128;

/// The state after an operation, if it could have happened in this state with this answer.
fn after(state: &Option<String>, operation: &Operation) -> Option<Option<String>> {
    let back = operation.back.as_ref().map(|(_, back)| back);
    match &operation.what {
        What::Set(value) => Some(Some(value.clone())),
        What::Delete => Some(None),
        What::Read => match back {
            Some(Back::Done(value)) => (value == state).then(|| state.clone()),
            Some(Back::Mismatch(_)) => None,
            None => Some(state.clone()),
        },
        What::Cas(expect, value) => match back {
            Some(Back::Done(_)) => (expect == state).then(|| value.clone()),
            Some(Back::Mismatch(found)) => (found == state && expect != state).then(|| state.clone()),
            None if expect == state => Some(value.clone()),
            None => Some(state.clone()),
        },
    }
}

/// States that are looked at for one key at most. Past it the history counts as good: with many operations of open fate there may be
/// too many orders to try.
const STATES_MAX: usize = 20_000;

/// Whether one order explains all answers.
pub fn is_linearizable(operations: &[Operation]) -> bool {
    let operations: &[Operation] = &telling(operations);
    assert!(operations.len() <= OPERATIONS_MAX);
    let answered: u128 = mask(operations, |operation| operation.back.is_some());
    let mut seen: HashMap<(u128, Option<String>), Vec<u128>> = HashMap::new();
    let mut stack = vec![(0_u128, None::<String>)];
    let mut looked_at = 0;
    while let Some((done, state)) = stack.pop() {
        looked_at += 1;
        if done & answered == answered || looked_at > STATES_MAX {
            return true;
        }
        // Whoever has used up fewer operations without an answer can do whatever the other can.
        let met = seen.entry((done & answered, state.clone())).or_default();
        if met.iter().any(|other| other & !answered & !done == 0) {
            continue;
        }
        met.push(done);
        // Whatever was answered before another was asked comes before it.
        let first_end = operations
            .iter()
            .enumerate()
            .filter(|(at, _)| done & (1 << at) == 0)
            .filter_map(|(_, operation)| operation.back.as_ref().map(|(end, _)| *end))
            .min()
            .unwrap_or(u64::MAX);
        let possible = operations.iter().enumerate().filter_map(|(at, operation)| {
            let may_be_next = done & (1 << at) == 0 && operation.asked <= first_end;
            let next = after(&state, operation).filter(|_| may_be_next)?;
            let is_a_look = operation.what == What::Read || matches!(operation.back, Some((_, Back::Mismatch(_))));
            Some((done | 1 << at, next, is_a_look))
        });
        let possible: Vec<(u128, Option<String>, bool)> = possible.collect();
        // What only looks may as well come first.
        match possible.iter().find(|(_, _, is_a_look)| *is_a_look) {
            Some((done, next, _)) => stack.push((*done, next.clone())),
            None => {
                // Those with an answer are tried first: they stand last on the stack.
                let (with, without): (Vec<_>, Vec<_>) =
                    possible.into_iter().partition(|(next_done, ..)| (next_done ^ done) & answered != 0);
                stack.extend(without.into_iter().chain(with).map(|(done, next, _)| (done, next)));
            }
        }
    }
    false
}

/// The operations without those that say nothing: reads without an answer, and writes without one whose value nobody has seen, for what
/// they might have done, nobody has met. (Every value is written once.)
fn telling(operations: &[Operation]) -> Vec<Operation> {
    let mut left: Vec<Operation> = operations
        .iter()
        .filter(|operation| operation.what != What::Read || operation.back.is_some())
        .cloned()
        .collect();
    loop {
        let mut seen: HashSet<String> = HashSet::new();
        for operation in &left {
            match (&operation.what, &operation.back) {
                (_, Some((_, Back::Mismatch(value)))) | (What::Read, Some((_, Back::Done(value)))) => {
                    seen.extend(value.clone());
                }
                (What::Cas(expect, _), _) => seen.extend(expect.clone()),
                (What::Set(_) | What::Delete | What::Read, _) => {}
            }
        }
        let before = left.len();
        left.retain(|operation| match (&operation.what, &operation.back) {
            (What::Set(value) | What::Cas(_, Some(value)), None) => seen.contains(value),
            (What::Set(_) | What::Delete | What::Cas(..) | What::Read, _) => true,
        });
        if left.len() == before {
            return left;
        }
    }
}

fn mask(operations: &[Operation], is_in: impl Fn(&Operation) -> bool) -> u128 {
    operations.iter().enumerate().filter(|(_, operation)| is_in(operation)).fold(0, |mask, (at, _)| mask | 1 << at)
}

/// Histories by key.
#[derive(Default)]
pub struct Histories(pub BTreeMap<String, Vec<Operation>>);

impl Histories {
    pub fn check(&self) -> Result<(), String> {
        for (key, operations) in &self.0 {
            if !is_linearizable(operations) {
                let story: Vec<String> = operations.iter().map(|operation| format!("  {operation:?}")).collect();
                return Err(format!("no order explains what {key} was seen to be:\n{}", story.join("\n")));
            }
        }
        Ok(())
    }
}

#[test]
fn the_checker_tells_good_histories_from_planted_stale_reads() {
    let operation = |what, asked, back| Operation { what, asked, back };
    let text = |value: &str| Some(value.to_owned());
    let set = |value: &str, asked, end| operation(What::Set(value.to_owned()), asked, Some((end, Back::Done(None))));
    let read = |value, asked, end| operation(What::Read, asked, Some((end, Back::Done(value))));
    assert!(is_linearizable(&[set("a", 1, 2), read(text("a"), 3, 4), set("b", 5, 6), read(text("b"), 7, 8)]));
    assert!(!is_linearizable(&[set("a", 1, 2), set("b", 3, 4), read(text("a"), 5, 6)]), "a stale read");
    assert!(is_linearizable(&[set("a", 1, 2), set("b", 3, 8), read(text("a"), 5, 6)]), "not stale: b was under way");
    assert!(
        !is_linearizable(&[set("a", 1, 2), set("b", 3, 9), read(text("b"), 4, 5), read(text("a"), 6, 7)]),
        "no way back"
    );
    let lost = operation(What::Set("c".to_owned()), 3, None);
    assert!(is_linearizable(&[set("a", 1, 2), lost.clone(), read(text("a"), 5, 6), read(text("c"), 7, 8)]));
    assert!(!is_linearizable(&[set("a", 1, 2), lost, read(text("c"), 5, 6), read(text("a"), 7, 8)]));
    let cas = |expect, value, asked, back| operation(What::Cas(expect, value), asked, Some((asked + 1, back)));
    assert!(is_linearizable(&[
        cas(None, text("a"), 1, Back::Done(None)),
        cas(text("b"), text("c"), 3, Back::Mismatch(text("a"))),
        cas(text("a"), None, 5, Back::Done(None)),
        read(None, 7, 8),
    ]));
    assert!(!is_linearizable(&[cas(None, text("a"), 1, Back::Done(None)), cas(None, text("b"), 3, Back::Done(None))]));
    // A long one with many under way at a time, good but for one answer.
    let mut long: Vec<Operation> = (0..40).map(|n| set(&n.to_string(), n * 10, n * 10 + 25)).collect();
    long.push(read(text("39"), 1000, 1001));
    assert!(is_linearizable(&long));
    long.push(read(text("20"), 1002, 1003));
    assert!(!is_linearizable(&long));
}

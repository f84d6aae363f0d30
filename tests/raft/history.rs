//! What was asked of each key, and what came back: a register, whose history [`crate::linear`] judges.

use std::collections::{BTreeMap, HashMap};

use crate::linear::{self, Deed, Verdict};

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

/// A value by its number among those of a history; 0 is none.
type Number = u16;

/// An operation as the search sees it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Whatever was there, this is now.
    Put(Number),
    /// This was there; of a `Cas`, and not what it expected.
    Saw(Number),
    SawInstead {
        expected: Number,
        found: Number,
    },
    /// A `Cas` that was done, or one that was done if it could be.
    Exchanged {
        expected: Number,
        value: Number,
    },
    MayExchange {
        expected: Number,
        value: Number,
    },
    /// A read without an answer.
    Nothing,
}

impl Deed for Kind {
    type State = Number;

    fn after(&self, &state: &Number) -> Option<Number> {
        match *self {
            Self::Put(value) => Some(value),
            Self::Saw(value) => (value == state).then_some(state),
            Self::SawInstead { expected, found } => (found == state && expected != state).then_some(state),
            Self::Exchanged { expected, value } => (expected == state).then_some(value),
            Self::MayExchange { expected, value } => Some(if expected == state { value } else { state }),
            Self::Nothing => Some(state),
        }
    }

    fn is_look(&self) -> bool {
        match self {
            Self::Saw(_) | Self::SawInstead { .. } | Self::Nothing => true,
            Self::Put(_) | Self::Exchanged { .. } | Self::MayExchange { .. } => false,
        }
    }

    /// Every value is written once.
    fn is_unique(&self) -> bool {
        match *self {
            Self::Put(value) | Self::Exchanged { value, .. } | Self::MayExchange { value, .. } => value != 0,
            Self::Saw(_) | Self::SawInstead { .. } | Self::Nothing => false,
        }
    }

    fn shows(&self, unique: &Self) -> bool {
        let seen = match *self {
            Self::Saw(value) | Self::SawInstead { found: value, .. } => value,
            Self::Exchanged { expected, .. } | Self::MayExchange { expected, .. } => expected,
            Self::Put(_) | Self::Nothing => 0,
        };
        match *unique {
            Self::Put(value) | Self::Exchanged { value, .. } | Self::MayExchange { value, .. } => {
                value == seen && seen != 0
            }
            Self::Saw(_) | Self::SawInstead { .. } | Self::Nothing => false,
        }
    }
}

/// Looks for an order that explains all answers.
fn judge(operations: &[Operation]) -> Verdict {
    let mut numbers: HashMap<String, Number> = HashMap::new();
    let mut number = |value: &Option<String>| match value {
        None => 0,
        Some(text) => {
            let next = numbers.len() as Number + 1;
            *numbers.entry(text.clone()).or_insert(next)
        }
    };
    let operations = operations
        .iter()
        .map(|operation| {
            let back = operation.back.as_ref().map(|(_, back)| back);
            let kind = match (&operation.what, back) {
                (What::Set(value), _) => Kind::Put(number(&Some(value.clone()))),
                (What::Delete, _) => Kind::Put(0),
                (What::Read, Some(Back::Done(value) | Back::Mismatch(value))) => Kind::Saw(number(value)),
                (What::Read, None) => Kind::Nothing,
                (What::Cas(expected, _), Some(Back::Mismatch(found))) => {
                    Kind::SawInstead { expected: number(expected), found: number(found) }
                }
                (What::Cas(expected, value), Some(Back::Done(_))) => {
                    Kind::Exchanged { expected: number(expected), value: number(value) }
                }
                (What::Cas(expected, value), None) => {
                    Kind::MayExchange { expected: number(expected), value: number(value) }
                }
            };
            let answered = operation.back.as_ref().map(|(end, _)| *end);
            linear::Operation { deed: kind, asked: operation.asked, answered }
        })
        .collect();
    linear::judge(0, operations)
}

/// Histories by key.
#[derive(Default)]
pub struct Histories(pub BTreeMap<String, Vec<Operation>>);

impl Histories {
    /// Judges every key. Says for how many there were too many orders.
    pub fn check(&self) -> Result<u64, String> {
        let mut given_up = 0;
        for (key, operations) in &self.0 {
            match judge(operations) {
                Verdict::Explained => {}
                Verdict::Undecided => given_up += 1,
                Verdict::Unexplained => {
                    let story: Vec<String> = operations.iter().map(|operation| format!("  {operation:?}")).collect();
                    return Err(format!("no order explains what {key} was seen to be:\n{}", story.join("\n")));
                }
            }
        }
        Ok(given_up)
    }
}

#[cfg(test)]
fn is_linearizable(operations: &[Operation]) -> bool {
    judge(operations) == Verdict::Explained
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

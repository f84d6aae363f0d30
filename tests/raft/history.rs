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

/// A value by its number among those of a history; 0 is none.
type Number = u16;

/// An operation as the search sees it.
struct Event {
    asked: u64,
    /// When it was answered; never, if it was not.
    end: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
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

impl Kind {
    /// The state after it, if it could have happened in this state with this answer.
    fn after(self, state: Number) -> Option<Number> {
        match self {
            Self::Put(value) => Some(value),
            Self::Saw(value) => (value == state).then_some(state),
            Self::SawInstead { expected, found } => (found == state && expected != state).then_some(state),
            Self::Exchanged { expected, value } => (expected == state).then_some(value),
            Self::MayExchange { expected, value } => Some(if expected == state { value } else { state }),
            Self::Nothing => Some(state),
        }
    }

    fn is_a_look(self) -> bool {
        match self {
            Self::Saw(_) | Self::SawInstead { .. } | Self::Nothing => true,
            Self::Put(_) | Self::Exchanged { .. } | Self::MayExchange { .. } => false,
        }
    }
}

/// The operations in the order in which they were asked for, with numbers for values.
fn events_of(operations: &[Operation]) -> Vec<Event> {
    let mut numbers: HashMap<String, Number> = HashMap::new();
    let mut number = |value: &Option<String>| match value {
        None => 0,
        Some(text) => {
            let next = numbers.len() as Number + 1;
            *numbers.entry(text.clone()).or_insert(next)
        }
    };
    let mut events: Vec<Event> = operations
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
            Event { asked: operation.asked, end: operation.back.as_ref().map_or(u64::MAX, |(end, _)| *end), kind }
        })
        .collect();
    events.sort_by_key(|event| event.asked);
    events
}

/// States that are looked at for one key at most: with many operations of open fate there may be too many orders to try.
const STATES_MAX: usize = 20_000;

/// What came of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One order explains all answers.
    Explained,
    /// None does.
    Unexplained,
    /// None was found among as many as are tried.
    TooMany,
}

/// Whether one order explains all answers.
fn is_linearizable(operations: &[Operation]) -> bool {
    judge(operations) == Verdict::Explained
}

/// Looks for an order that explains all answers.
pub fn judge(operations: &[Operation]) -> Verdict {
    let events = events_of(&telling(operations));
    assert!(events.len() <= OPERATIONS_MAX);
    let answered = (0..events.len()).filter(|at| events[*at].end < u64::MAX).fold(0_u128, |mask, at| mask | 1 << at);
    let mut seen: HashMap<(u128, Number), Vec<u128>> = HashMap::new();
    let mut stack = vec![(0_u128, 0)];
    let mut looked_at = 0;
    while let Some((done, state)) = stack.pop() {
        looked_at += 1;
        if done & answered == answered {
            return Verdict::Explained;
        }
        if looked_at > STATES_MAX {
            return Verdict::TooMany;
        }
        // Whoever has used up fewer operations without an answer can do whatever the other can.
        let met = seen.entry((done & answered, state)).or_default();
        if met.iter().any(|other| other & !answered & !done == 0) {
            continue;
        }
        met.push(done);
        // Whatever was answered before another was asked comes before it: behind the first end nothing is possible.
        let mut first_end = u64::MAX;
        let mut possible = Vec::new();
        let mut left = !done;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            let Some(event) = events.get(at).filter(|event| event.asked <= first_end) else { break };
            first_end = first_end.min(event.end);
            possible.push(at);
        }
        let next = |at: usize| Some((done | 1 << at, events[at].kind.after(state)?));
        // What only looks may as well come first.
        let look = possible.iter().filter(|at| events[**at].kind.is_a_look()).find_map(|at| next(*at));
        match look {
            Some(next) => stack.push(next),
            None => {
                // Those with an answer are tried first: they stand last on the stack.
                let is_answered = |at: &&usize| events[**at].end < u64::MAX;
                stack.extend(possible.iter().filter(|at| !is_answered(at)).filter_map(|at| next(*at)));
                stack.extend(possible.iter().filter(is_answered).filter_map(|at| next(*at)));
            }
        }
    }
    Verdict::Unexplained
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
                Verdict::TooMany => given_up += 1,
                Verdict::Unexplained => {
                    let story: Vec<String> = operations.iter().map(|operation| format!("  {operation:?}")).collect();
                    return Err(format!("no order explains what {key} was seen to be:\n{}", story.join("\n")));
                }
            }
        }
        Ok(given_up)
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

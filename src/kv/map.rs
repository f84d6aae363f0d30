//! The keys and values, what a write does to them, the answers to writes that may be repeated, and the history for watches. The same
//! commands in the same order make the same map on every node; nothing here knows what time it is.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::command::{Change, Command};
use super::image::Painter;
use crate::planted::{self, Bug};
use crate::wire::{Malformed, Reader, Write as _};

/// Answers kept for repeated writes at most, and their bytes: the oldest go first.
const ANSWERS_MAX: usize = 10_000;
const ANSWERS_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Changes kept for watches at most, and their bytes.
const HISTORY_MAX: usize = 10_000;
const HISTORY_MAX_BYTES: usize = 4 * 1024 * 1024;
/// What a key takes in memory beside its bytes and those of its value.
pub const BESIDE_KEY_BYTES: usize = 96;
/// Bytes that tell the commands of one idempotency key apart.
const PRINT_BYTES: usize = 16;

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, as the entry at this index.
    Done(u64),
    /// A `Cas` found another value than it expects: the key, and what is there. Nothing was changed.
    Mismatch(String, Option<String>),
    /// Another write was sent with the same idempotency key before.
    OtherCommand,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// By which entry.
    pub index: u64,
    /// The key.
    pub key: Arc<str>,
    /// Its new value; `None` if it is gone.
    pub value: Option<Arc<str>>,
}

/// The answer to a write with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    print: [u8; PRINT_BYTES],
    outcome: Outcome,
}

/// The map.
#[derive(Debug, Default)]
pub struct Map {
    pairs: BTreeMap<Arc<str>, Arc<str>>,
    bytes: u64,
    answers: BTreeMap<Arc<str>, Kept>,
    /// The idempotency keys, the oldest first.
    answers_order: VecDeque<Arc<str>>,
    answers_bytes: usize,
    history: VecDeque<Event>,
    history_bytes: usize,
    /// What happened up to here is not in the history any more.
    compacted: u64,
    /// A picture of the map that is being made.
    pub(super) painter: Option<Painter>,
}

impl Map {
    /// A map with nothing in it, whose history begins behind an index.
    #[must_use]
    pub fn new(index: u64) -> Self {
        Self { compacted: index, ..Self::default() }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// About how many bytes the keys and values take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many answers to writes with an idempotency key are kept.
    #[must_use]
    pub fn answers_len(&self) -> usize {
        self.answers.len()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        self.pairs.get(key)
    }

    /// Keys with a prefix, behind `after` if that is given, in byte order.
    pub fn range<'m>(&'m self, prefix: &'m str, after: Option<&'m str>) -> impl Iterator<Item = (&'m str, &'m str)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let pairs = self.pairs.range::<str, _>((from, Bound::Unbounded));
        pairs.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, value)| (&**key, &**value))
    }

    /// All pairs behind a key.
    pub(super) fn pairs_behind<'m>(
        &'m self,
        key: Option<&'m str>,
    ) -> impl Iterator<Item = (&'m Arc<str>, &'m Arc<str>)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.pairs.range::<str, _>((from, Bound::Unbounded))
    }

    /// Does what the entry at `index` says.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        let Some(key) = &command.idempotency_key else { return self.carry_out(index, command) };
        let print = print_of(command);
        if let Some(kept) = self.answers.get(key.as_str()) {
            return if kept.print == print { kept.outcome.clone() } else { Outcome::OtherCommand };
        }
        let outcome = self.carry_out(index, command);
        self.keep_answer(key.as_str().into(), Kept { print, outcome: outcome.clone() });
        outcome
    }

    fn carry_out(&mut self, index: u64, command: &Command) -> Outcome {
        // A batch sees its own changes, and changes nothing if one of them fails.
        let mut changed: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for change in &command.changes {
            if let Change::Cas { key, expect, .. } = change {
                let is_there = changed.get(key.as_str()).copied();
                let is_there = is_there.unwrap_or_else(|| self.pairs.get(key.as_str()).map(|value| &**value));
                if is_there != expect.as_deref() {
                    return Outcome::Mismatch(key.clone(), is_there.map(str::to_owned));
                }
            }
            if command.is_batch {
                changed.insert(change.key(), change.value());
            }
        }
        for change in &command.changes {
            self.put(index, change.key(), change.value().map(Into::into));
        }
        Outcome::Done(index)
    }

    fn put(&mut self, index: u64, key: &str, value: Option<Arc<str>>) {
        let (key, old) = match self.pairs.entry(key.into()) {
            Entry::Occupied(mut pair) => {
                // A key that is there is in memory once, however often it stands in the history.
                let key = Arc::clone(pair.key());
                let old = match &value {
                    Some(value) => pair.insert(Arc::clone(value)),
                    None => pair.remove(),
                };
                (key, Some(old))
            }
            Entry::Vacant(pair) => {
                let Some(value) = &value else { return };
                let key = Arc::clone(pair.key());
                pair.insert(Arc::clone(value));
                (key, None)
            }
        };
        if let Some(painter) = &mut self.painter {
            painter.note_change(&key, old.as_ref());
        }
        let cost = |value: &Arc<str>| (key.len() + value.len() + BESIDE_KEY_BYTES) as u64;
        self.bytes += value.as_ref().map_or(0, cost);
        self.bytes -= old.as_ref().map_or(0, cost);
        let event = Event { index, key, value };
        self.history_bytes += event.cost_bytes();
        self.history.push_back(event);
        while self.history.len() > HISTORY_MAX || self.history_bytes > HISTORY_MAX_BYTES {
            let Some(event) = self.history.pop_front() else { break };
            self.history_bytes -= event.cost_bytes();
            self.compacted = event.index;
        }
    }

    fn keep_answer(&mut self, key: Arc<str>, kept: Kept) {
        self.answers_bytes += answer_cost(&key, &kept);
        self.answers_order.push_back(Arc::clone(&key));
        self.answers.insert(key, kept);
        while self.answers.len() > ANSWERS_MAX || self.answers_bytes > ANSWERS_MAX_BYTES {
            let Some((oldest, kept)) = self.answers_order.pop_front().and_then(|key| self.answers.remove_entry(&key))
            else {
                break;
            };
            self.answers_bytes -= answer_cost(&oldest, &kept);
        }
    }

    /// The oldest index behind which all changes are known.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// What happened behind an index, in order; `None` if that is too long ago.
    #[must_use]
    pub fn events_behind(&self, index: u64) -> Option<impl Iterator<Item = &Event>> {
        if index < self.compacted {
            return None;
        }
        let first = self.history.partition_point(|event| event.index <= index);
        Some(self.history.range(first..))
    }

    /// Appends the answers that are kept, for a picture of the map.
    pub(super) fn write_answers(&self, out: &mut Vec<u8>) {
        if planted::is(Bug::AnswersMissingInSnapshot) {
            return out.put_u32(0);
        }
        out.put_u32(u32::try_from(self.answers.len()).unwrap_or(u32::MAX));
        for key in &self.answers_order {
            let Some(kept) = self.answers.get(key) else { continue };
            out.put_bytes(key.as_bytes());
            out.put_array(&kept.print);
            match &kept.outcome {
                Outcome::Done(index) => {
                    out.put_u8(0);
                    out.put_u64(*index);
                }
                Outcome::Mismatch(key, value) => {
                    out.put_u8(1);
                    out.put_bytes(key.as_bytes());
                    out.put_option(value.as_deref(), |out, value| out.put_bytes(value.as_bytes()));
                }
                // Never kept: the first command of a key is.
                Outcome::OtherCommand => out.put_u8(2),
            }
        }
    }

    pub(super) fn read_answers(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..reader.u32()? {
            let key = reader.str()?.into();
            let print = reader.array()?;
            let outcome = match reader.u8()? {
                0 => Outcome::Done(reader.u64()?),
                1 => Outcome::Mismatch(
                    reader.str()?.to_owned(),
                    reader.option(|reader| reader.str().map(str::to_owned))?,
                ),
                _ => return Err(Malformed),
            };
            self.keep_answer(key, Kept { print, outcome });
        }
        Ok(())
    }

    /// Adds a pair of a picture, in order.
    pub(super) fn restore(&mut self, key: &str, value: &str) -> Result<(), Malformed> {
        if self.pairs.last_key_value().is_some_and(|(last, _)| **last >= *key) {
            return Err(Malformed);
        }
        self.bytes += (key.len() + value.len() + BESIDE_KEY_BYTES) as u64;
        self.pairs.insert(key.into(), value.into());
        Ok(())
    }
}

impl Event {
    fn cost_bytes(&self) -> usize {
        const BESIDE: usize = 48;
        BESIDE + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

fn answer_cost(key: &str, kept: &Kept) -> usize {
    const BESIDE: usize = 128;
    let text = match &kept.outcome {
        Outcome::Mismatch(key, value) => key.len() + value.as_ref().map_or(0, String::len),
        Outcome::Done(_) | Outcome::OtherCommand => 0,
    };
    BESIDE + key.len() + text
}

fn print_of(command: &Command) -> [u8; PRINT_BYTES] {
    let hash = Sha256::digest(command.to_bytes());
    let mut print = [0; PRINT_BYTES];
    print.copy_from_slice(&hash[..PRINT_BYTES]);
    print
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn command(body: &str, key: Option<&str>) -> Command {
        Command::parse(body.as_bytes(), key.map(str::to_owned)).unwrap()
    }

    fn apply(map: &mut Map, index: u64, body: &str) -> Outcome {
        map.apply(index, &command(body, None))
    }

    #[test]
    fn set_delete_and_cas() {
        let mut map = Map::new(0);
        assert_eq!(apply(&mut map, 1, r#"{"Set":{"key":"a","value":"1"}}"#), Outcome::Done(1));
        assert_eq!(
            apply(&mut map, 2, r#"{"Cas":{"key":"a","expect":"2","value":"3"}}"#),
            Outcome::Mismatch("a".into(), Some("1".into()))
        );
        assert_eq!(apply(&mut map, 3, r#"{"Cas":{"key":"a","expect":"1","value":"3"}}"#), Outcome::Done(3));
        assert_eq!(
            apply(&mut map, 4, r#"{"Cas":{"key":"b","expect":"1","value":"3"}}"#),
            Outcome::Mismatch("b".into(), None)
        );
        assert_eq!(apply(&mut map, 5, r#"{"Cas":{"key":"b","expect":null,"value":"x"}}"#), Outcome::Done(5));
        assert_eq!(map.range("", None).collect::<Vec<_>>(), [("a", "3"), ("b", "x")]);
        assert_eq!(apply(&mut map, 6, r#"{"Delete":{"key":"a"}}"#), Outcome::Done(6));
        assert_eq!(apply(&mut map, 7, r#"{"Cas":{"key":"b","expect":"x","value":null}}"#), Outcome::Done(7));
        assert!(map.is_empty() && map.bytes() == 0);
    }

    #[test]
    fn a_batch_sees_itself_and_is_all_or_nothing() {
        let mut map = Map::new(0);
        let good = r#"{"Batch":[{"Set":{"key":"a","value":"1"}},{"Cas":{"key":"a","expect":"1","value":"2"}},{"Delete":{"key":"a"}},{"Cas":{"key":"a","expect":null,"value":"3"}}]}"#;
        assert_eq!(apply(&mut map, 1, good), Outcome::Done(1));
        assert_eq!(map.get("a").map(|value| &**value), Some("3"));
        let bad = r#"{"Batch":[{"Set":{"key":"b","value":"1"}},{"Cas":{"key":"a","expect":"1","value":"2"}}]}"#;
        assert_eq!(apply(&mut map, 2, bad), Outcome::Mismatch("a".into(), Some("3".into())));
        assert_eq!(map.get("b"), None);
    }

    #[test]
    fn a_repeated_write_is_done_once() {
        let mut map = Map::new(0);
        let cas = command(r#"{"Cas":{"key":"a","expect":null,"value":"1"}}"#, Some("once"));
        assert_eq!(map.apply(1, &cas), Outcome::Done(1));
        assert_eq!(map.apply(2, &cas), Outcome::Done(1));
        let other = command(r#"{"Set":{"key":"a","value":"9"}}"#, Some("once"));
        assert_eq!(map.apply(3, &other), Outcome::OtherCommand);
        for number in 0..ANSWERS_MAX as u64 {
            map.apply(4 + number, &command(r#"{"Batch":[]}"#, Some(&number.to_string())));
        }
        assert_eq!(map.answers_len(), ANSWERS_MAX);
        assert_eq!(map.apply(99_999, &cas), Outcome::Mismatch("a".into(), Some("1".into())), "forgotten at last");
    }

    #[test]
    fn lists_are_in_byte_order_behind_a_key() {
        let mut map = Map::new(0);
        for key in ["p/b", "p/a", "p", "q", "o", "p/\u{e9}"] {
            apply(&mut map, 1, &format!(r#"{{"Set":{{"key":"{key}","value":""}}}}"#));
        }
        let list = |prefix, after| map.range(prefix, after).map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(list("p/", None), ["p/a", "p/b", "p/\u{e9}"]);
        assert_eq!(list("p/", Some("p/a")), ["p/b", "p/\u{e9}"]);
        assert_eq!(list("p/", Some("a")), ["p/a", "p/b", "p/\u{e9}"]);
        assert_eq!(list("", Some("p/\u{e9}")), ["q"]);
        assert!(list("p/", Some("q")).is_empty());
    }

    #[test]
    fn the_history_is_bounded_and_says_so() {
        let mut map = Map::new(7);
        assert!(map.events_behind(6).is_none());
        apply(&mut map, 8, r#"{"Batch":[{"Set":{"key":"a","value":"1"}},{"Set":{"key":"b","value":"2"}}]}"#);
        apply(&mut map, 9, r#"{"Delete":{"key":"a"}}"#);
        apply(&mut map, 10, r#"{"Delete":{"key":"never"}}"#);
        let seen = |map: &Map, index| {
            let events = map.events_behind(index).unwrap();
            events.map(|event| (event.index, event.key.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(seen(&map, 7), [(8, "a".into()), (8, "b".into()), (9, "a".into())]);
        assert_eq!(seen(&map, 8), [(9, "a".into())]);
        assert!(seen(&map, 10).is_empty());
        for index in 11..11 + HISTORY_MAX as u64 {
            apply(&mut map, index, r#"{"Set":{"key":"a","value":"1"}}"#);
        }
        assert_eq!(map.compacted(), 9);
        assert!(map.events_behind(8).is_none());
        assert_eq!(map.events_behind(9).unwrap().count(), HISTORY_MAX);
    }
}

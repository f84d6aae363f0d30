//! What each key was behind every entry, by the entries alone: what reads are judged by, whoever answered them. A true read shows a
//! state between all that was applied anywhere when it was asked and all that was when it was answered; one that may be stale shows what the node
//! that answers has applied.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bigbunny::kv::command::Command;
use bigbunny::kv::map::Map;
use bigbunny::raft::entry::Entry;

/// An entry, and what a key was behind it.
type Became = (u64, Option<Arc<str>>);

/// All states of the map.
pub struct Values {
    map: Map,
    applied: u64,
    /// The values of a key, each with the entry that made it so.
    changes: BTreeMap<String, Vec<Became>>,
}

impl Default for Values {
    fn default() -> Self {
        Self { map: Map::new(0), applied: 0, changes: BTreeMap::new() }
    }
}

impl Values {
    /// The map behind the last entry.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The last entry that anybody has applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Somebody has applied an entry, before everybody else. Whether it was the next one.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> bool {
        let is_next = index == self.applied + 1;
        self.applied = index;
        if let Entry::Command(bytes) = entry {
            let command = Command::read(bytes).expect("it was applied");
            self.map.apply(index, &command);
            for change in &command.changes {
                let value = self.map.get(change.key()).cloned();
                self.changes.entry(change.key().to_owned()).or_default().push((index, value));
            }
        }
        is_next
    }

    /// Whether a key had this value behind one of these entries.
    pub fn was(&self, key: &str, between: RangeInclusive<u64>, value: Option<&str>) -> bool {
        let changes = self.changes.get(key).map_or(&[][..], Vec::as_slice);
        let first = changes.partition_point(|(index, _)| index <= between.start());
        let before = first.checked_sub(1).and_then(|at| changes[at].1.as_deref());
        let meanwhile = changes[first..].iter().take_while(|(index, _)| index <= between.end());
        before == value || meanwhile.map(|(_, value)| value.as_deref()).any(|then| then == value)
    }
}

#[test]
fn a_value_is_judged_by_when_it_was_there() {
    use bigbunny::kv::command::Change;
    use bigbunny::raft::Term;

    let mut values = Values::default();
    let set = |value: &str| Change::Set { key: "key-1".to_owned(), value: value.to_owned() };
    for (index, change) in (1..).zip([set("a"), set("b"), Change::Delete { key: "key-1".to_owned() }]) {
        let command = Command { idempotency_key: None, changes: vec![change], is_batch: false };
        assert!(values.apply(index, &Entry::Command(command.to_bytes().into())));
    }
    assert!(values.was("key-1", 0..=0, None) && values.was("key-1", 1..=1, Some("a")));
    assert!(values.was("key-1", 1..=2, Some("a")) && values.was("key-1", 1..=2, Some("b")));
    assert!(!values.was("key-1", 2..=3, Some("a")) && !values.was("key-1", 0..=1, Some("b")));
    assert!(values.was("key-1", 2..=3, None) && values.was("key-2", 1..=3, None));
    assert!(!values.apply(5, &Entry::Term(Term::new(2))), "the entry 4 is missing");
}

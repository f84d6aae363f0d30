//! What stands in the log: the entries with their contents, in memory since the last snapshot, and their bytes. noraft keeps the
//! shape of the same log (terms and configurations); this keeps what it has no use for.

use std::collections::VecDeque;
use std::sync::Arc;

use noraft::{LogEntry, Term};

use super::TERM_MAX;
use super::member::Membership;
use super::message::{ENTRIES_MAX, ENTRIES_MAX_BYTES};
use crate::wire::{Malformed, Reader, Write as _};

/// Bytes of a command at most.
pub const COMMAND_MAX_BYTES: usize = 1024 * 1024;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A leader began its term: all entries behind it, up to the next of its kind, are of this term.
    Term(Term),
    /// The members from here on.
    Config(Arc<Membership>),
    /// Something for the state machine.
    Command(Arc<[u8]>),
}

impl Entry {
    /// As noraft sees it.
    #[must_use]
    pub fn shape(&self) -> LogEntry {
        match self {
            Self::Term(term) => LogEntry::Term(*term),
            Self::Config(membership) => LogEntry::ClusterConfig(membership.config.clone()),
            Self::Command(_) => LogEntry::Command,
        }
    }

    /// About how many bytes it takes in memory, in a message and on disk.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        const BESIDE: usize = 32;
        match self {
            Self::Term(_) => BESIDE,
            Self::Config(membership) => BESIDE + membership.members.len() * 64,
            Self::Command(command) => BESIDE + command.len(),
        }
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Term(term) => {
                out.put_u8(0);
                out.put_u64(term.get());
            }
            Self::Config(membership) => {
                out.put_u8(1);
                membership.write(out);
            }
            Self::Command(command) => {
                out.put_u8(2);
                out.put_bytes(command);
            }
        }
    }

    /// Reads what [`Self::write`] writes.
    ///
    /// # Errors
    ///
    /// It is cut or out of bounds.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            0 => {
                let term = reader.u64()?;
                if term > TERM_MAX { Err(Malformed) } else { Ok(Self::Term(Term::new(term))) }
            }
            1 => Ok(Self::Config(Arc::new(Membership::read(reader)?))),
            2 => {
                let command = reader.bytes()?;
                if command.len() > COMMAND_MAX_BYTES { Err(Malformed) } else { Ok(Self::Command(command.into())) }
            }
            _ => Err(Malformed),
        }
    }
}

/// The entries behind the last snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// The index before the first entry.
    start: u64,
    entries: VecDeque<Entry>,
    /// The indices of those of them that are configurations: among thousands of others they are asked for with every message.
    configs: VecDeque<u64>,
    cost_bytes: usize,
}

impl Tail {
    pub(super) fn new(start: u64, entries: Vec<Entry>) -> Self {
        let mut tail = Self { start, entries: VecDeque::with_capacity(entries.len()), ..Self::default() };
        entries.into_iter().for_each(|entry| tail.push(entry));
        tail
    }

    /// The index of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// About how many bytes all entries take.
    pub(super) fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.start + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Where a message with the entries behind an index ends, if it ends at `most` at the latest; and whether it is full.
    pub(super) fn batch_behind(&self, prev: u64, most: u64) -> (u64, bool) {
        let (mut last, mut bytes) = (prev, 0);
        while last < most {
            let Some(entry) = self.get(last + 1) else { break };
            bytes += entry.cost_bytes();
            if last > prev && (bytes > ENTRIES_MAX_BYTES || last - prev == ENTRIES_MAX as u64) {
                return (last, true);
            }
            last += 1;
        }
        (last, false)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.cost_bytes += entry.cost_bytes();
        if let Entry::Config(_) = entry {
            self.configs.push_back(self.last() + 1);
        }
        self.entries.push_back(entry);
    }

    /// Drops the entries behind `last`.
    pub(super) fn truncate(&mut self, last: u64) {
        while self.last() > last {
            let Some(entry) = self.entries.pop_back() else { break };
            self.cost_bytes -= entry.cost_bytes();
        }
        while self.configs.pop_back_if(|index| *index > last).is_some() {}
    }

    /// Drops the entries up to `start`, or all of them, if they do not reach that far.
    pub(super) fn drop_to(&mut self, start: u64) {
        while self.start < start {
            match self.entries.pop_front() {
                Some(entry) => {
                    self.cost_bytes -= entry.cost_bytes();
                    self.start += 1;
                }
                None => self.start = start,
            }
        }
        while self.configs.pop_front_if(|index| *index <= start).is_some() {}
    }

    /// The last configuration up to an index, with its own.
    pub(super) fn config_at(&self, index: u64) -> Option<(u64, &Arc<Membership>)> {
        let index = *self.configs.iter().rev().find(|config| **config <= index)?;
        match self.get(index)? {
            Entry::Config(membership) => Some((index, membership)),
            Entry::Term(_) | Entry::Command(_) => None,
        }
    }

    /// The index of the first configuration behind one.
    pub(super) fn config_behind(&self, index: u64) -> Option<u64> {
        self.configs.iter().copied().find(|config| *config > index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written_and_never_cut() {
        let config = Entry::Config(Arc::new(Membership::default()));
        for entry in [Entry::Term(Term::new(7)), config, Entry::Command(b"set"[..].into())] {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            assert_eq!(Entry::read(&mut Reader::new(&bytes)), Ok(entry));
            for length in 0..bytes.len() {
                assert_eq!(Entry::read(&mut Reader::new(&bytes[..length])), Err(Malformed));
            }
        }
        let mut bytes = Vec::new();
        Entry::Term(Term::new(u64::MAX)).write(&mut bytes);
        assert_eq!(Entry::read(&mut Reader::new(&bytes)), Err(Malformed));
    }

    #[test]
    fn the_tail_knows_its_bounds() {
        let command = |text: &str| Entry::Command(text.as_bytes().into());
        let mut tail = Tail::new(10, vec![command("a"), command("b"), command("c")]);
        assert_eq!((tail.last(), tail.get(10), tail.get(14)), (13, None, None));
        assert_eq!(tail.get(12), Some(&command("b")));
        tail.truncate(12);
        tail.drop_to(11);
        assert_eq!((tail.last(), tail.get(11), tail.get(12)), (12, None, Some(&command("b"))));
        tail.drop_to(20);
        assert_eq!((tail.last(), tail.cost_bytes()), (20, 0));
        tail.push(command("d"));
        assert_eq!(tail.get(21), Some(&command("d")));
    }

    #[test]
    fn the_tail_knows_where_its_configurations_are() {
        let command = || Entry::Command(b"a"[..].into());
        let config = || Entry::Config(Arc::default());
        let mut tail = Tail::new(10, vec![command(), config(), command(), config(), command(), config()]);
        let at = |tail: &Tail, index| tail.config_at(index).map(|(index, _)| index);
        assert_eq!(
            [10, 11, 12, 13, 14, 99].map(|index| at(&tail, index)),
            [None, None, Some(12), Some(12), Some(14), Some(16)]
        );
        assert_eq!([0, 12, 14, 16].map(|index| tail.config_behind(index)), [Some(12), Some(14), Some(16), None]);
        tail.truncate(15);
        tail.drop_to(12);
        assert_eq!([12, 13, 14, 99].map(|index| at(&tail, index)), [None, None, Some(14), Some(14)]);
        tail.push(config());
        assert_eq!((at(&tail, 99), tail.config_behind(14)), (Some(16), Some(16)));
        tail.drop_to(20);
        assert_eq!((at(&tail, 99), tail.config_behind(0)), (None, None));
        tail.push(config());
        tail.truncate(20);
        assert_eq!(at(&tail, 99), None);
    }
}

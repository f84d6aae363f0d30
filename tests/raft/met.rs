//! What the runs have met: faults and rare states, each with its counter. One that never occurs in an ordinary run fails it, for a
//! simulator that no longer reaches a state no longer tests it.

use std::collections::BTreeMap;

use crate::seeds::Tally;

/// What a run has met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    pub simulated_ms: u64,
    /// A hash of all that machines were told, and when.
    pub trace: u64,
    counts: BTreeMap<&'static str, u64>,
}

macro_rules! steps {
    ($($kind:literal,)*) => {
        /// Crashes at the steps of a write to the disk, by what is written ([`Kind`]) and [`Step`].
        const STEPS: &[[&str; 4]] = &[$([
            concat!("crash before ", $kind),
            concat!("crash amid ", $kind),
            concat!("crash behind ", $kind),
            concat!("crash at the word of ", $kind),
        ],)*];
    };
}

steps! {
    "a vote",
    "entries",
    "entries for others",
    "a cut of the log",
    "a compaction",
    "an installation",
    "a cluster's id",
    "a removal",
    "an own snapshot",
    "a leader's snapshot",
}

/// What is written, by its place in [`STEPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Vote,
    Entries,
    EntriesForOthers,
    Cut,
    Compaction,
    Installation,
    Cluster,
    Removal,
    OwnSnapshot,
    LeadersSnapshot,
}

/// When a machine crashes around a write to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing has reached the disk.
    Before,
    /// Some of it has.
    Amid,
    /// All of it has, and the node does not know.
    Behind,
    /// The node has heard it, and nothing of what that lets leave has left.
    AtTheWord,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Before, Self::Amid, Self::Behind, Self::AtTheWord];
}

/// Every one of them must occur in an ordinary run, beside the crashes of [`STEPS`].
const EXPECTED: &[&str] = &[
    "a backup taken",
    "a burst of writes",
    "a candidate beaten",
    "a client gave up",
    "a cut both ways",
    "a cut one way",
    "a deaf leader",
    "a fault amid a hand-over",
    "a full disk",
    "a leader cut off",
    "a leader of nobody steps down",
    "a leader removed",
    "a learner became a voter",
    "a learner removed",
    "a log of two leaders mended",
    "a machine wiped and joined again",
    "a message came twice",
    "a message delayed",
    "a message lost",
    "a message of 500 entries",
    "a message overtook another",
    "a mismatch",
    "a mute leader",
    "a node taken in again",
    "a partition",
    "a pause",
    "a pause of a leader in a turn",
    "a pause of a leader in a turn that cuts it off",
    "a pause of a leader",
    "a question answered",
    "a question refused",
    "a removed node told so",
    "a repeated write answered as the first time",
    "a slow disk",
    "a snapshot in several parts",
    "a snapshot installed",
    "a snapshot installed below the log's end",
    "a snapshot saved",
    "a stale read answered",
    "a stale read of an old state",
    "a stalled link",
    "a stalled window of messages",
    "a voter removed",
    "a watch answered",
    "a watch too late",
    "a write of unknown fate",
    "a write repeated",
    "an election",
    "an unsynced write lost",
    "crash",
    "crash in a turn",
    "crash of a leader",
    "crash of a minority",
    "crash of all",
    "crash of all, without what was not synced",
    "faulty clocks",
    "leader changed by request",
    "leader kept after a failed hand-over",
    "learner added",
    "lost lead",
    "members in two sets",
];

impl Met {
    pub fn note(&mut self, what: &'static str) {
        self.note_many(what, 1);
    }

    pub fn note_many(&mut self, what: &'static str, count: u64) {
        debug_assert!(EXPECTED.contains(&what) || STEPS.as_flattened().contains(&what), "{what} is not expected");
        *self.counts.entry(what).or_default() += count;
    }

    pub fn note_step(&mut self, kind: Kind, step: Step) {
        self.note(STEPS[kind as usize][step as usize]);
    }
}

impl Tally for Met {
    fn add(&mut self, more: &Self) {
        self.simulated_ms += more.simulated_ms;
        self.trace = self.trace.wrapping_add(more.trace);
        for (what, count) in &more.counts {
            self.note_many(what, *count);
        }
    }

    fn simulated_ms(&self) -> u64 {
        self.simulated_ms
    }

    /// What never occurred.
    fn missing(&self) -> Vec<&'static str> {
        let all = EXPECTED.iter().chain(STEPS.as_flattened());
        all.copied().filter(|what| !self.counts.contains_key(what)).collect()
    }

    fn report(&self) -> String {
        let lines: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count:>9}  {what}")).collect();
        format!("{}\ntrace {:016x}", lines.join("\n"), self.trace)
    }
}

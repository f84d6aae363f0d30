//! Mistakes that the simulator makes in the place of a shell or a disk, one at a time, to prove that it would find them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A crash loses the vote and the term, though they were said to be on disk.
    VoteNotSynced,
    /// Everything is said to be on disk before it is.
    AnsweredBeforeSync,
    /// A crash tears the log's tail off, and the node starts again without it.
    TornTailAccepted,
    /// Snapshots do not hold the answers to repeated writes.
    AnswersMissingInSnapshot,
    /// A follower answers reads from what it has applied as if that were proved.
    StaleReads,
}

impl Planted {
    pub const ALL: [Self; 5] = [
        Self::VoteNotSynced,
        Self::AnsweredBeforeSync,
        Self::TornTailAccepted,
        Self::AnswersMissingInSnapshot,
        Self::StaleReads,
    ];
}

//! Mistakes that can be planted in the node, one at a time, to see whether the simulator finds them: the proof that it looks. It
//! owns their list and which of them is planted; each is made where it would be made in earnest, behind [`is`].
//!
//! Without the feature `planted-bugs` nothing is ever planted and nothing of this is left in the program; with it the daemon
//! refuses to run.

macro_rules! bugs {
    ($($(#[doc = $what:literal])* $list:ident { $($(#[doc = $how:literal])* $name:ident = $text:literal,)* })*) => {
        /// A mistake, by its name in the list of faults to survive.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each has its name for people in its list")]
        pub enum Bug { $($($(#[doc = $how])* $name,)*)* }

        impl Bug {
            $($(#[doc = $what])* pub const $list: &[(Self, &str)] = &[$((Self::$name, $text),)*];)*
        }
    };
}

bugs! {
    /// Those of two nodes with stores, with their names for people.
    OF_PAIR {
        LeaseFromAnswer = "lease counted from the answer",
        LeaseOnWallClock = "lease on the wall clock",
        NoCheckAfterPause = "no check after a pause",
        NoGrace = "no grace",
        EpochNotCompared = "epoch not compared",
        EpochReused = "epoch reused after a restart",
        PromotionWhileJoining = "promotion while JOINING",
        PromotionWithGap = "promotion with a gap",
        AnswerBeforeApply = "answer before apply",
        SnapshotOffByOne = "snapshot cut off by one",
        /// Made as records applied again that a batch brings a second time. The two places cannot be mixed up otherwise: images and changes
        /// are numbered in one stream, and each tells the whole new state, so what is in the snapshot and behind it is the same twice
        /// unless an older record comes after a newer one.
        ChangeAppliedTwice = "change applied in and behind the snapshot",
        TombstoneDropped = "tombstone dropped early",
        ExpiryNotReplicated = "expiry not replicated",
        TtlRestarted = "TTL restarted at failover",
        AgeNotSent = "time left sent without its age",
        LockKept = "lock kept over a failover",
        CommitWithoutLock = "commit without its lock",
        LockTimedByClient = "lock timed by the client",
        NoUnknownWindow = "no unknown window",
        NameLeftBehind = "name left behind at expiry",
        QuotaGivenTwice = "quota given back twice",
        CounterTwice = "counter applied twice on a retry",
        BacklogUnbounded = "backlog without a bound",
        RateByWallClock = "rate bucket filled by a clock jump",
    }
    /// Those of the cluster map.
    OF_MAP {
        VoteNotSaved = "vote not synced",
        VoteBeforeSync = "vote sent before it is synced",
        AckBeforeSync = "entries acknowledged before they are synced",
        AnswerBeforeSync = "answer before sync",
        TermNotSaved = "term spoken of before it is synced",
        ReadWithoutOwnTerm = "read without an entry of the current term",
        ReadByOldRound = "read proved by a round begun before it",
        ReadUnproved = "read by a lease, after a pause or not",
        LearnerCounted = "learner counted in a quorum",
        NewConfigAlone = "new configuration counted without the old one",
        ConfigBeforeSync = "configuration sent before it is synced",
        PreVoteSkipped = "pre-vote skipped",
        PreVoteAlways = "pre-vote given beside a living leader",
        NoQuorumCheck = "no check that a majority is heard",
        TornTailAccepted = "torn tail accepted",
        AnswersMissingInSnapshot = "answers table missing in the snapshot",
        AnswersOfLeaderOnly = "answers table kept by the leader alone",
        SnapshotNotWhole = "snapshot without what changed meanwhile",
        CompactedBeforeSaved = "log cut before the snapshot is synced",
        TailThrownAway = "log behind an installed snapshot thrown away",
        ForwardedTwice = "forwarded write sent again by itself",
        WatchSkips = "watch that skips what came while it waited",
    }
    /// Those of its journal.
    OF_JOURNAL {
        PreviousEndUnchecked = "end of the part before not checked",
        PlaceNotSummed = "place left out of a record's checksum",
        NamedBeforeWritten = "part named before its first record is on disk",
        CutRecordTaken = "record cut at a sector's edge taken as whole",
    }
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// From now on the nodes of this thread make this mistake, or none.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this mistake is to be made.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

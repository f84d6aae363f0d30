//! What the runs of the pair have met: each fault and each rare state with its counter. One that never occurs fails a long run.

use crate::seeds::Tally;
use std::fmt::Write as _;

macro_rules! met {
    ($($name:ident,)*) => {
        /// A fault that struck, or a state that only some runs reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Met { $($name,)* }

        impl Met {
            const ALL: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

met! {
    CutBoth, CutFromA, CutFromB, Flap, Reset, HalfOpen, Crash, Vanish, CrashBoth, Pause, Promote, Force, GracefulStop,
    WallStep, MidPause, Reboot, LateMessage, RefusedConnection, StalledMessages, TailDelay,
    FoundedAlone, FoundedTogether, PromotedBySilence, PromotedByRefusals, PromotedByRestart,
    PromotedByOrder, Outbid, PromotedAfterNoAnswer, PromotedByHandover, HandoverAborted, HandoverRefused, SteppedDown,
    TwoPrimaries, SamePrimaryEpoch, BothSecondary, ChangesLost, LossCounted, SnapshotBegun, SnapshotCut, PromotedInMidSnapshot, BacklogOverflow, InStepAgain,
    StaleEpochHeard, LockWindowHit, CompletedAfterHandover, CommitRefusedAfterFailover,
    NotReplicatedRefused, NotReplicatedApplied, DurableAnswered, DurableForwarded, Degraded, AnswerWithdrawn,
    LeaderChanged, Unavailable, ReadFromSecondary, ReadFromPrimary, RetriedAfterUnknown, RetriedOnOtherNode, RetryAnswered,
    ForwardAnswered, ClientGaveUp, ExecutedAndLost, PrefixCompared, HistoryExplained,
    TtlChecked, ExpiredRefused, Tombstoned, Renamed, ConvergedAfterFault, SafeRefused, RateLimited,
    NewLimits, NewKeys, IdOfOtherKey, Pipeline, PipelineOfHundreds, NeverRead, LeftInMidBody, HeldAndVanished, StormedStore,
    ManyNames, MadeAndDeleted, TtlOfASecond, TtlOfTenYears,
    PromoteAtPrimary, PromoteAtJoining, PromoteTwice, HandoverUnderLoad, HeldForHandover,
    RateChecked, MemoryRefused, TombstonesRefused, LockEndChecked,
    WallBackwards, Suspend, Stall, SlowMachine, Drift, ClockStoodStill, CrashBeforeAnswer, CrashBehindAnswer, LargestValue,
    ClientsWaited, SealedLink, HangUp, Stranger, RotateToken, BitFlip, Garbage, HugeLength, Replay, LeftOut, CutInMidMessage,
    Hiccup, FullBuffer, SlowWire, LongDelay, LongRestart, BytePieces, SynLost, ConnectionReplaced, EndClosed, EndRefused, EndNoAnswer, EndReset,
    EndHandshakeTooLong, EndCrowded, EndLeaseOver, EndNotHttp, EndAltered, EndTooLong, EndStrangeAnswer, EndWrongToken,
    EndOtherwiseWrong,
}

const COUNT: usize = Met::ALL.len();

/// Counters over one run or many.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    met: [u64; COUNT],
    pub(crate) events: u64,
    pub(crate) asks: u64,
    pub(crate) simulated_ms: u64,
    /// Histories with too many possible orders to say whether one explains them.
    pub(crate) undecided: u64,
    /// The sum of the traces.
    pub(crate) traces: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { met: [0; COUNT], events: 0, asks: 0, simulated_ms: 0, undecided: 0, traces: 0 }
    }
}

impl Coverage {
    pub(crate) fn met(&mut self, met: Met) {
        self.met_often(met, 1);
    }

    pub(crate) fn met_often(&mut self, met: Met, times: u64) {
        self.met[met as usize] += times;
    }
}

impl Tally for Coverage {
    fn add(&mut self, more: &Self) {
        for (sum, more) in self.met.iter_mut().zip(more.met) {
            *sum += more;
        }
        self.events += more.events;
        self.asks += more.asks;
        self.simulated_ms += more.simulated_ms;
        self.undecided += more.undecided;
        self.traces = self.traces.wrapping_add(more.traces);
    }

    fn simulated_ms(&self) -> u64 {
        self.simulated_ms
    }

    fn missing(&self) -> Vec<&'static str> {
        Met::ALL.iter().filter(|(met, _)| self.met[*met as usize] == 0).map(|(_, name)| *name).collect()
    }

    fn report(&self) -> String {
        let mut text = String::new();
        for (met, name) in Met::ALL {
            let _ = writeln!(text, "{name:<28}{:>12}", self.met[*met as usize]);
        }
        let Self { events, asks, undecided, traces, .. } = self;
        let _ = write!(text, "{events} events, {asks} requests, {undecided} histories undecided, traces {traces:016x}");
        text
    }
}

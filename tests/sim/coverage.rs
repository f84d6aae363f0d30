//! What the runs have met: operations, answers and rare states, each with its counter. A rare state that never occurs over a
//! whole run fails it, for a simulator that no longer reaches a state no longer tests it.

use crate::seeds::Tally;
use std::fmt::Write as _;

macro_rules! rare_states {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// States that only some runs reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Rare { $($(#[doc = $doc])* $name,)* }

        impl Rare {
            const ALL: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

rare_states! {
    /// A hold ran into its end.
    LockTimedOut,
    /// Somebody in line got what it waited for.
    WaiterServed,
    /// Two or more waited for one lock.
    LineOfSeveral,
    /// A wait ran into its end.
    WaiterTimedOut,
    /// A client's connection ended while it waited.
    WaiterAbandoned,
    /// A wait ran out and the lock came free before the node looked again.
    WaiterAndHoldOverdue,
    /// A hold was prolonged.
    LockRenewed,
    /// A hold that was over was to be prolonged.
    RenewedTooLate,
    /// A hold was prolonged while others waited.
    LockRenewedPastWaiters,
    /// A store's time ended while it was locked.
    ExpiredWhileLocked,
    /// A locked store past its expiry was written.
    CompletedAfterExpiry,
    /// A locked store past its expiry was given new time by its writer.
    RevivedByComplete,
    /// A write under a lock that was over.
    CompletedTooLate,
    /// A lock of scope connection ended with its connection.
    ConnectionLockEnded,
    /// A lock of scope connection was used on another connection.
    ConnectionLockUsedElsewhere,
    /// The operator dropped a lock.
    OperatorReleased,
    /// A locked store was deleted.
    DeletedWhileLocked,
    /// Somebody waited for a store that was deleted.
    DeletedUnderWaiter,
    /// Somebody waited for a store that expired.
    ExpiredUnderWaiter,
    /// A store that went while others waited was made anew by the first of them.
    RemadeByWaiter,
    /// `BigBunny-Create-If-Missing` made a store.
    CreatedByBeginModify,
    /// A name was refused because its store, locked, was past its expiry.
    NameTakenPastExpiry,
    /// A store with a lock or waiters got another name.
    RenamedWhileLocked,
    /// A store got another name.
    Renamed,
    /// A name was taken again after its store had gone.
    NameUsedAgain,
    /// A keyed request was answered with its first answer.
    IdempotentReplay,
    /// A key was used for another request.
    IdempotencyMismatched,
    /// A keyed request came again while the first one waited.
    IdempotencyInProgress,
    /// A key was forgotten and used again.
    IdempotencyForgotten,
    /// A precondition failed.
    PreconditionFailed,
    /// A tag matched and the change was made.
    TagMatched,
    /// A precondition failed for one that had waited in line.
    PreconditionFailedInLine,
    /// The customer's quota refused growth.
    QuotaRefused,
    /// The memory limit refused growth.
    CapacityRefused,
    /// A change that does not grow was accepted with no byte to spare.
    ChangedWhileFull,
    /// A tombstone limit refused a deletion.
    TombstoneRefused,
    /// A bucket was empty.
    RateLimited,
    /// A change was to be on two nodes.
    NotReplicated,
    /// A step was clamped.
    Clamped,
    /// A step was not taken because of a bound.
    RejectedAtBound,
    /// A step would have left 64 bits.
    Overflowed,
    /// A counter came to an end of 64 bits and stayed.
    AtEdgeOf64Bits,
    /// An increment made its counter.
    CreatedByIncrement,
    /// A counter was updated to a value outside its bounds.
    ValueRefused,
    /// A store changed its kind.
    KindChanged,
    /// One waiting in line found a store of another kind.
    KindChangedUnderWaiter,
    /// A prefix was deleted in several turns.
    PrefixDeletedInTurns,
    /// Others were answered while a prefix was being deleted.
    AnsweredDuringPrefixDelete,
    /// A list had a further page.
    ListedInPages,
    /// A read moved the expiry.
    TouchedOnRead,
    /// A read did not move the expiry since enough was left.
    TouchNotNeeded,
    /// An expired id was asked for in its grace.
    AskedForExpired,
    /// An expired id was asked for after its grace.
    AskedForForgotten,
    /// A deleted id was asked for.
    AskedForDeleted,
    /// A key that never was, or another customer's, was asked for.
    AskedForForeign,
    /// A store expired before the node was told of the time.
    ExpiredBeforeTimeout,
    /// The node was paused while clients asked.
    Paused,
    /// The node's machine was suspended, by its clock for up to a day and a half.
    Suspended,
    /// Two events came at one reading of the clock.
    ClockReadTwice,
    /// A timeout came before its time.
    EarlyTimeout,
    /// A store lived for more than a year.
    OutlivedAYear,
}

const RARE: usize = Rare::ALL.len();

/// Counters over one run or many.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    rare: [u64; RARE],
    /// Answers by operation and outcome; the operations in the order of their first answer.
    answers: Vec<(&'static str, [u64; 2])>,
    /// Calls of `handle`.
    pub(crate) events: u64,
    /// Calls of `handle` with a timeout.
    pub(crate) timeouts: u64,
    /// Simulated time, in milliseconds, without the last phase in which the rest expires.
    pub(crate) simulated_ms: u64,
    /// The sum of the traces.
    pub(crate) traces: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { rare: [0; RARE], answers: Vec::new(), events: 0, timeouts: 0, simulated_ms: 0, traces: 0 }
    }
}

impl Coverage {
    pub(crate) fn met(&mut self, rare: Rare) {
        self.rare[rare as usize] += 1;
    }

    pub(crate) fn count(&self, rare: Rare) -> u64 {
        self.rare[rare as usize]
    }

    pub(crate) fn answered(&mut self, operation: &'static str, done: bool) {
        self.add_answers(operation, if done { [1, 0] } else { [0, 1] });
    }

    fn add_answers(&mut self, operation: &'static str, counts: [u64; 2]) {
        match self.answers.iter_mut().find(|(name, _)| *name == operation) {
            Some((_, sums)) => {
                sums[0] += counts[0];
                sums[1] += counts[1];
            }
            None => self.answers.push((operation, counts)),
        }
    }
}

impl Tally for Coverage {
    fn add(&mut self, more: &Self) {
        for (sum, more) in self.rare.iter_mut().zip(more.rare) {
            *sum += more;
        }
        for (operation, counts) in &more.answers {
            self.add_answers(operation, *counts);
        }
        self.events += more.events;
        self.timeouts += more.timeouts;
        self.simulated_ms += more.simulated_ms;
        self.traces = self.traces.wrapping_add(more.traces);
    }

    fn simulated_ms(&self) -> u64 {
        self.simulated_ms
    }

    fn missing(&self) -> Vec<&'static str> {
        Rare::ALL.iter().filter(|(rare, _)| self.count(*rare) == 0).map(|(_, name)| *name).collect()
    }

    fn report(&self) -> String {
        let mut text = format!("{:<28}{:>12}{:>12}\n", "operation", "done", "refused");
        let mut answers = self.answers.clone();
        answers.sort_unstable();
        for (operation, [done, refused]) in &answers {
            let _ = writeln!(text, "{operation:<28}{done:>12}{refused:>12}");
        }
        let _ = writeln!(text, "rare states");
        for (rare, name) in Rare::ALL {
            let _ = writeln!(text, "{name:<28}{:>12}", self.count(*rare));
        }
        let answered: u64 = answers.iter().map(|(_, [done, refused])| done + refused).sum();
        let _ = write!(
            text,
            "{} events, {} of them timeouts; {answered} requests answered, traces {:016x}",
            self.events, self.timeouts, self.traces
        );
        text
    }
}

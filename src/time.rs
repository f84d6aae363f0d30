//! The two clocks of a node, as two types, so that nobody compares them by accident.
//!
//! [`Instant`] is monotonic and decides everything: leases, locks, time to live. [`WallTime`] is only ever shown.

use std::ops::Add;
use std::time::Duration;

/// A point of monotonic time, in nanoseconds since a start that means nothing. Time in suspend counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than anything that is ever armed.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the clock's start, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01 UTC; may jump in both directions, so it is only ever shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallTime(pub u64);

/// What time it is, read once per event by the shell (or made up by the simulator).
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// For every decision.
    pub monotonic: Instant,
    /// For dates in answers and logs.
    pub wall: WallTime,
}

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

    /// The first of several times, if there is any.
    #[must_use]
    pub fn earliest<const N: usize>(times: [Option<Self>; N]) -> Option<Self> {
        let earliest = times.iter().fold(Self::FAR_FUTURE, |earliest, time| earliest.min(time.unwrap_or(earliest)));
        (earliest != Self::FAR_FUTURE).then_some(earliest)
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

/// Year, month (1 to 12) and day (1 to 31) of the Gregorian calendar, `days` after 1970-01-01. Counts in eras of 400 years that
/// begin on 1 March, so that the leap day comes last.
#[must_use]
pub const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // 719,468 days from 0000-03-01 to 1970-01-01; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, years_on) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (era * 400 + year_of_era + years_on, month, day)
}

/// The day, counted from 1970-01-01, of a year, month and day; `None` if there is no such day since.
#[must_use]
pub fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    // A day is at most 366 days into its year, so that a few steps find it.
    let first = (year.checked_sub(1970)? * 146_097 / 400).saturating_sub(1);
    (first..first + 370).find(|&days| civil_from_days(days) == (year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_follows_the_one_before() {
        const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(civil_from_days(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), Some(days));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = LENGTHS[month as usize - 1] + u64::from(is_leap && month == 2);
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}

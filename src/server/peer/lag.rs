//! How long changes take to be acknowledged by the peer. Pure: one change at a time is timed, from its making to its
//! acknowledgement, so that it costs nothing however many there are.

use std::time::Duration;

use crate::time::Instant;

/// The change being timed, and how long the last one took.
#[derive(Default)]
pub(super) struct Lag {
    timed: Option<(u64, Instant)>,
    last: Duration,
}

impl Lag {
    /// To be told at the end of every turn: the last change made, and how many are not acknowledged.
    pub(super) fn note(&mut self, now: Instant, last_change: u64, unacknowledged: u64) {
        let acknowledged = last_change.saturating_sub(unacknowledged);
        if let Some((number, since)) = self.timed
            && number <= acknowledged
        {
            self.last = now.since(since);
            self.timed = None;
        }
        if unacknowledged == 0 {
            *self = Self::default();
        } else if self.timed.is_none() {
            self.timed = Some((last_change, now));
        }
    }

    /// How far the peer is behind: nothing if it has everything.
    pub(super) fn at(&self, now: Instant) -> Duration {
        self.timed.map_or(Duration::ZERO, |(_, since)| now.since(since).max(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_keeps_up_and_one_that_does_not() {
        let ms = Instant::from_millis;
        let mut lag = Lag::default();
        lag.note(ms(0), 10, 0);
        assert_eq!(lag.at(ms(5)), Duration::ZERO);
        lag.note(ms(10), 12, 2);
        assert_eq!(lag.at(ms(13)), Duration::from_millis(3));
        // Change 12 has taken 5 ms; those behind it are timed from now on.
        lag.note(ms(15), 20, 8);
        assert_eq!(lag.at(ms(16)), Duration::from_millis(5));
        lag.note(ms(17), 25, 7);
        assert_eq!(lag.at(ms(30)), Duration::from_millis(15), "change 20 still waits");
        lag.note(ms(31), 25, 0);
        assert_eq!(lag.at(ms(40)), Duration::ZERO);
        // A new stream begins with smaller numbers.
        lag.note(ms(50), 3, 3);
        assert_eq!(lag.at(ms(51)), Duration::from_millis(1));
    }
}

//! When to dial the peer again. Pure.
//!
//! Three refusals within 100 ms prove to a secondary that its primary is dead (section 2 of the replication specification), so a
//! refused connection is tried again quickly until there is that proof; whatever else goes wrong, the tries back off.

use std::time::Duration;

use super::limits::{QUICK_REDIAL_PAUSE, QUICK_REDIALS_MAX, REDIAL_PAUSE_MAX, REDIAL_PAUSE_MIN, STABLE_LINK_TIME};
use crate::node::{REFUSALS_PROVING_DEATH, REFUSALS_WITHIN_MS};
use crate::time::Instant;

/// How the last tries went.
pub(super) struct Redial {
    /// The longest that the next pause may be.
    pause_max: Duration,
    /// Refusals since `refused_since`, counted as the node counts them.
    refusals: u32,
    refused_since: Instant,
    /// Quick tries since something else than a refusal.
    quick: u32,
}

impl Redial {
    /// Before the first try.
    pub(super) const fn new() -> Self {
        Self { pause_max: REDIAL_PAUSE_MIN, refusals: 0, refused_since: Instant::ZERO, quick: 0 }
    }

    /// The connection had been up for `lived`, and has ended: how long to wait. Not at all, unless it ends again and again.
    pub(super) fn after_link(&mut self, lived: Duration, random: u64) -> Duration {
        if lived < STABLE_LINK_TIME {
            return self.after_failure(random);
        }
        *self = Self::new();
        Duration::ZERO
    }

    /// The port refused: how long to wait.
    pub(super) fn after_refusal(&mut self, now: Instant, random: u64) -> Duration {
        if now.since(self.refused_since) > Duration::from_millis(REFUSALS_WITHIN_MS) {
            self.refused_since = now;
            self.refusals = 0;
        }
        self.refusals += 1;
        self.quick += 1;
        if self.refusals < REFUSALS_PROVING_DEATH && self.quick < QUICK_REDIALS_MAX {
            return QUICK_REDIAL_PAUSE;
        }
        // Whatever comes now is no longer about that proof.
        self.quick = QUICK_REDIALS_MAX;
        self.next_pause(random)
    }

    /// It came to nothing in another way: how long to wait.
    pub(super) fn after_failure(&mut self, random: u64) -> Duration {
        self.quick = 0;
        self.next_pause(random)
    }

    /// Twice as long each time, and by chance up to half of that less, so that two nodes do not keep step.
    fn next_pause(&mut self, random: u64) -> Duration {
        self.pause_max = (self.pause_max * 2).min(REDIAL_PAUSE_MAX);
        let half = self.pause_max / 2;
        half + half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: u64 = 0x8000_0000_0000_0000;
    const LONG: Duration = Duration::from_secs(60);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn three_refusals_fit_into_their_time() {
        let mut redial = Redial::new();
        let ended = Instant::from_millis(1_000_000);
        let mut at = ended + redial.after_link(LONG, ANY);
        assert_eq!(at, ended);
        for _ in 0..2 {
            // A millisecond for the try, and one by which the loop wakes late.
            at = after(at, 1);
            at = after(at + redial.after_refusal(at, ANY), 1);
        }
        at = after(at, 1);
        assert!(at.since(ended) <= Duration::from_millis(REFUSALS_WITHIN_MS), "{:?}", at.since(ended));
        assert!(redial.after_refusal(at, ANY) >= REDIAL_PAUSE_MIN, "the proof is there");
        assert!(redial.after_refusal(after(at, 2000), ANY) > QUICK_REDIAL_PAUSE, "and is not asked for again");
    }

    #[test]
    fn a_slow_machine_gets_its_proof_a_little_later() {
        let mut redial = Redial::new();
        let start = Instant::from_millis(1_000_000);
        // Refusals at 0, 60 and 130 ms are not within 100 ms, so it goes on: 130, 170 and 210 are.
        let pauses: Vec<Duration> =
            [0, 60, 130, 170].map(|ms| redial.after_refusal(after(start, ms), ANY)).into_iter().collect();
        assert_eq!(pauses, [QUICK_REDIAL_PAUSE; 4]);
        assert!(redial.after_refusal(after(start, 210), ANY) >= REDIAL_PAUSE_MIN);
        // But not for ever.
        let mut redial = Redial::new();
        let quick = (0..1000).filter(|n| redial.after_refusal(after(start, n * 99), ANY) == QUICK_REDIAL_PAUSE).count();
        assert!(quick < QUICK_REDIALS_MAX as usize, "{quick}");
    }

    #[test]
    fn the_first_refusal_after_something_else_begins_anew() {
        let mut redial = Redial::new();
        let start = Instant::from_millis(1_000_000);
        for ms in [0, 40, 80, 1000] {
            redial.after_refusal(after(start, ms), ANY);
        }
        redial.after_failure(ANY);
        assert_eq!(redial.after_refusal(after(start, 3000), ANY), QUICK_REDIAL_PAUSE);
    }

    #[test]
    fn tries_back_off_with_jitter_between_50_ms_and_1_s() {
        for random in [0, ANY, u64::MAX] {
            let mut redial = Redial::new();
            let pauses: Vec<Duration> = (0..10).map(|_| redial.after_failure(random)).collect();
            assert!(pauses.is_sorted());
            assert!(pauses.iter().all(|pause| (REDIAL_PAUSE_MIN..=REDIAL_PAUSE_MAX).contains(pause)), "{pauses:?}");
            assert!(pauses[9] >= REDIAL_PAUSE_MAX / 2);
        }
        let mut redial = Redial::new();
        assert_ne!(Redial::new().after_failure(0), redial.after_failure(u64::MAX), "jitter");
        redial.after_failure(ANY);
        assert!(
            redial.after_link(Duration::from_millis(3), ANY) > REDIAL_PAUSE_MIN,
            "a link that does not last is none"
        );
        assert_eq!(redial.after_link(LONG, ANY), Duration::ZERO);
        assert!(redial.after_failure(ANY) <= 2 * REDIAL_PAUSE_MIN, "after a good one it begins anew");
    }
}

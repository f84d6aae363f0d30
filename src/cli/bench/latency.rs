//! A histogram of latencies: every one is counted, none is kept, and percentiles are right to 3 %. Knows no clock.

use std::time::Duration;

/// Buckets between one power of two and the next: each is 1/32 wide.
const STEPS: u64 = 32;
/// Buckets for all of 64 bits of nanoseconds.
const BUCKETS: usize = (64 - STEPS.ilog2() as usize + 1) * STEPS as usize;

/// How often which latency was met.
pub(super) struct Latencies {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: Duration::ZERO }
    }

    pub(super) fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(latency);
    }

    /// How many there are.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub(super) const fn longest(&self) -> Duration {
        self.longest
    }

    /// What so many of a thousand stayed within; nothing if there are none.
    pub(super) fn per_mille(&self, per_mille: u64) -> Duration {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map_or(Duration::ZERO, |bucket| Duration::from_nanos(top_of(bucket)).min(self.longest))
    }
}

/// Below two times STEPS every number has a bucket of its own; above, the STEPS buckets of each power of two share it.
fn bucket_of(nanos: u64) -> usize {
    let shift = (nanos | STEPS).ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (nanos >> shift)) as usize
}

/// The greatest number of a bucket.
fn top_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let first = bucket - shift * STEPS;
    (u128::from(first + 1) << shift).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_within_its_bucket_and_close_to_its_top() {
        let mut numbers: Vec<u64> = (0..5000).chain([u64::MAX, u64::MAX - 1]).collect();
        for shift in 0..64 {
            numbers.extend([(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1]);
        }
        for number in numbers {
            let bucket = bucket_of(number);
            let top = top_of(bucket);
            assert!(top >= number && top - number <= number / STEPS, "{number} under {top}");
            assert!(bucket == 0 || top_of(bucket - 1) < number, "{number}");
            assert!(bucket < BUCKETS);
        }
    }

    #[test]
    fn percentiles_of_known_latencies() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.per_mille(500), Duration::ZERO);
        for micros in 1..=1000 {
            latencies.add(Duration::from_micros(micros));
        }
        assert_eq!((latencies.total(), latencies.longest()), (1000, Duration::from_micros(1000)));
        for (per_mille, micros) in [(500, 500), (900, 900), (990, 990), (999, 999), (1000, 1000)] {
            let found = latencies.per_mille(per_mille);
            let expected = Duration::from_micros(micros);
            assert!(found >= expected && found <= expected + expected / 32, "{per_mille}: {found:?}");
        }
    }
}

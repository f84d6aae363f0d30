//! Decisions out of the fuzzer's bytes, and randomness that is the same in every run.

use bigbunny::node::Entropy;
use bigbunny::time::{Instant, Now, WallTime};

/// Takes decisions from the front of the input. At its end everything is 0.
pub(crate) struct Bytes<'b>(pub(crate) &'b [u8]);

impl<'b> Bytes<'b> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub(crate) fn number(&mut self) -> u64 {
        // Small numbers are worth the most, and the greatest.
        match self.byte() {
            byte @ 0..=199 => u64::from(byte),
            200..=209 => u64::MAX,
            210..=219 => u64::MAX / 2 + 1,
            220..=229 => u64::from(u32::MAX),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// A length, and so many bytes, or as many as there are.
    pub(crate) fn piece(&mut self) -> &'b [u8] {
        let length = (usize::from(self.byte()) << 8 | usize::from(self.byte())).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    /// A time to let pass, from nothing to two weeks, in milliseconds.
    pub(crate) fn pause_ms(&mut self) -> u64 {
        const PAUSES_MS: [u64; 12] = [0, 1, 10, 50, 100, 200, 500, 1000, 2000, 4000, 60_000, 1_300_000_000];
        PAUSES_MS[self.below(PAUSES_MS.len())]
    }
}

/// Randomness of a seed.
pub(crate) struct Seeded(pub(crate) u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 33) as u8;
        }
    }
}

pub(crate) fn now(monotonic: Instant) -> Now {
    Now { monotonic, wall: WallTime(1_700_000_000_000 + monotonic.as_millis()) }
}

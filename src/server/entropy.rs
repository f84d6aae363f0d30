//! The operating system's randomness, fetched in blocks so that a new store or lock costs no system call.

use zeroize::Zeroize as _;

use crate::node::Entropy;

/// So many bytes are fetched at once: 100 store keys' worth, and within what Linux never gives in parts.
const BLOCK_BYTES: usize = 2048;

/// Randomness of the operating system.
pub(super) struct OsEntropy {
    block: [u8; BLOCK_BYTES],
    used: usize,
}

impl OsEntropy {
    /// Fetches the first block, so that a system without randomness shows at start.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut block = [0; BLOCK_BYTES];
        getrandom::fill(&mut block)?;
        Ok(Self { block, used: 0 })
    }
}

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(BLOCK_BYTES) {
            if BLOCK_BYTES - self.used < part.len() {
                // Once the kernel's generator has been seeded, which `new` waited for, Linux documents no way for it to fail.
                assert!(getrandom::fill(&mut self.block).is_ok(), "the operating system gives no randomness");
                self.used = 0;
            }
            let given = &mut self.block[self.used..self.used + part.len()];
            part.copy_from_slice(given);
            // What has been handed out is not kept: a later look into memory shows no past store or lock id.
            given.zeroize();
            self.used += part.len();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn never_the_same_bytes_twice() {
        let mut entropy = OsEntropy::new().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let mut key = [0; 20];
            entropy.fill(&mut key);
            assert!(seen.insert(key));
        }
    }

    #[test]
    fn fills_more_than_a_block() {
        let mut bytes = [0; 3 * BLOCK_BYTES + 5];
        OsEntropy::new().unwrap().fill(&mut bytes);
        assert!(bytes.chunks(32).all(|chunk| chunk.len() < 32 || chunk.iter().any(|&byte| byte != 0)));
    }
}

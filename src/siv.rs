//! What AES-SIV (RFC 5297) is made of, for the two uses of it that the crate aes-siv is too slow for: store ids, which are short and
//! many, and long messages of the link. AES itself is the `aes` crate's.

use aes::Aes128Enc;
use aes::cipher::BlockCipherEncrypt as _;
use zeroize::Zeroize as _;

/// Bytes of a block of AES, and so of a tag.
pub(crate) const BLOCK_BYTES: usize = 16;

/// A block of AES.
pub(crate) type Block = [u8; BLOCK_BYTES];

pub(crate) fn xor(one: Block, other: Block) -> Block {
    (u128::from_ne_bytes(one) ^ u128::from_ne_bytes(other)).to_ne_bytes()
}

/// Multiplies by x in GF(2^128) (RFC 4493 section 2.3), in constant time.
pub(crate) fn double(block: Block) -> Block {
    let bits = u128::from_be_bytes(block);
    ((bits << 1) ^ ((bits >> 127) * 0x87)).to_be_bytes()
}

pub(crate) fn encrypted(cipher: &Aes128Enc, block: Block) -> Block {
    let mut block = block.into();
    cipher.encrypt_block(&mut block);
    block.into()
}

/// Where counter mode begins under a tag: two bits of it are left out (RFC 5297 section 2.5).
pub(crate) fn first_counter(tag: &Block) -> u128 {
    const LEFT_OUT: u128 = 1 << 63 | 1 << 31;
    u128::from_be_bytes(*tag) & !LEFT_OUT
}

/// AES-CMAC (RFC 4493). It wipes itself.
pub(crate) struct Cmac {
    cipher: Aes128Enc,
    /// For a complete last block, and for a padded one.
    subkeys: [Block; 2],
}

impl Drop for Cmac {
    fn drop(&mut self) {
        self.subkeys.zeroize();
    }
}

impl Cmac {
    pub(crate) fn new(cipher: Aes128Enc) -> Self {
        let first = double(encrypted(&cipher, [0; BLOCK_BYTES]));
        Self { cipher, subkeys: [first, double(first)] }
    }

    pub(crate) fn cipher(&self) -> &Aes128Enc {
        &self.cipher
    }

    /// What is added to a last block that is whole.
    pub(crate) fn mask_of_whole(&self) -> Block {
        self.subkeys[0]
    }

    /// What is added to a last block that was filled up.
    pub(crate) fn mask_of_padded(&self) -> Block {
        self.subkeys[1]
    }

    pub(crate) fn of(&self, message: &[u8]) -> Block {
        self.finish([0; BLOCK_BYTES], message)
    }

    /// The CMAC of a message of which whole blocks have come to `state`, and `rest` is left: not nothing, unless it is the whole.
    pub(crate) fn finish(&self, mut state: Block, rest: &[u8]) -> Block {
        let last_at = rest.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
        let (before, last) = rest.split_at(last_at);
        for block in before.as_chunks().0 {
            state = encrypted(&self.cipher, xor(state, *block));
        }
        let mut padded = [0; BLOCK_BYTES];
        padded[..last.len()].copy_from_slice(last);
        if let Some(end) = padded.get_mut(last.len()) {
            *end = 0x80;
        }
        let mask = self.subkeys[usize::from(last.len() < BLOCK_BYTES)];
        encrypted(&self.cipher, xor(xor(padded, mask), state))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use aes::cipher::KeyInit as _;

    use super::*;

    /// RFC 4493 section 4.
    #[test]
    fn cmac_agrees_with_its_rfc() {
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
            digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
        };
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let mac = Cmac::new(Aes128Enc::new(&key.into()));
        let message = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        for (length, expected) in [
            (0, "bb1d6929e95937287fa37d129b756746"),
            (16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (40, "dfa66747de9ae63030ca32611497c827"),
            (64, "51f0bebf7e3b9d92fc49741779363cfe"),
        ] {
            assert_eq!(mac.of(&message[..length])[..], hex(expected), "{length} bytes");
            let (begun, rest) = message[..length].split_at(length.saturating_sub(1) / 32 * 16);
            let state =
                begun.as_chunks().0.iter().fold([0; 16], |state, block| encrypted(mac.cipher(), xor(state, *block)));
            assert_eq!(mac.finish(state, rest)[..], hex(expected), "{length} bytes, in two parts");
        }
    }
}

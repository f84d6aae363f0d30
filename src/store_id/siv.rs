//! AES-128-SIV (RFC 5297) for many messages of one length under one key and one associated data: the part of S2V before the message
//! is always the same, so it is done once.
//!
//! aes-siv does it, and expands a key, for every message: seven blocks and a key schedule where four blocks remain. This is that
//! crate's one use that every request pays for. AES itself is the `aes` crate's; the tests compare the whole with aes-siv.

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::siv::{BLOCK_BYTES, Block, Cmac, double, encrypted, first_counter, xor};

/// Bytes of a key: one half for the tag, one for the text.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a message: `SHARD:UNIQUE`. More than one block and less than two.
pub(super) const MESSAGE_BYTES: usize = super::PLAINTEXT_BYTES;

/// Bytes of a message in its second block.
const REST_BYTES: usize = MESSAGE_BYTES - BLOCK_BYTES;
const _: () = assert!(MESSAGE_BYTES > BLOCK_BYTES && REST_BYTES < BLOCK_BYTES);

/// What a cipher is made of: small, to be kept.
pub(super) struct SivKeys {
    key: Zeroizing<[u8; KEY_BYTES]>,
    /// What the two blocks of a message are added to before each is encrypted for the tag: see [`SivKeys::new`].
    masks: Zeroizing<[Block; 2]>,
}

impl SivKeys {
    /// Prepares S2V (RFC 5297 section 2.4) as far as it goes without the message.
    pub(super) fn new(key: &[u8; KEY_BYTES], associated_data: &[u8]) -> Self {
        let mac = Cmac::new(cipher(key, 0));
        let before = xor(double(mac.of(&[0; BLOCK_BYTES])), mac.of(associated_data));
        // `before` is added to the last 16 bytes of the message, of which REST_BYTES stand in its second block; that block is
        // incomplete, so it is padded with a 1 bit and the second subkey is added (RFC 4493 section 2.4).
        let mut masks = Zeroizing::new([[0; BLOCK_BYTES]; 2]);
        masks[0][REST_BYTES..].copy_from_slice(&before[..BLOCK_BYTES - REST_BYTES]);
        masks[1][..REST_BYTES].copy_from_slice(&before[BLOCK_BYTES - REST_BYTES..]);
        masks[1][REST_BYTES] = 0x80;
        masks[1] = xor(masks[1], mac.mask_of_padded());
        Self { key: Zeroizing::new(*key), masks }
    }
}

impl SivKeys {
    /// Reads a byte of each cache line.
    pub(super) fn look_at(&self) -> u8 {
        self.key[0] ^ self.masks[1][0]
    }
}

/// AES under one half of a key.
fn cipher(key: &[u8; KEY_BYTES], half: usize) -> Aes128Enc {
    let mut half_key = Zeroizing::new([0; KEY_BYTES / 2]);
    half_key.copy_from_slice(&key[half * KEY_BYTES / 2..][..KEY_BYTES / 2]);
    Aes128Enc::new((&*half_key).into())
}

/// A cipher for one key and one associated data, ready for use. It wipes itself.
pub(super) struct Siv {
    mac: Aes128Enc,
    counter: Aes128Enc,
    masks: Zeroizing<[Block; 2]>,
}

impl Siv {
    /// Expands the keys.
    pub(super) fn new(keys: &SivKeys) -> Self {
        Self { mac: cipher(&keys.key, 0), counter: cipher(&keys.key, 1), masks: keys.masks.clone() }
    }

    /// Encrypts a message in place, and gives its tag.
    pub(super) fn encrypt(&self, message: &mut [u8; MESSAGE_BYTES]) -> [u8; TAG_BYTES] {
        let tag = self.tag(message);
        self.add_keystream(&tag, message);
        tag
    }

    /// Decrypts a message in place. Says whether it is authentic; if not, it is zeroes.
    pub(super) fn decrypt(&self, tag: &[u8; TAG_BYTES], message: &mut [u8; MESSAGE_BYTES]) -> bool {
        self.add_keystream(tag, message);
        let is_authentic = bool::from(u128::from_ne_bytes(self.tag(message)).ct_eq(&u128::from_ne_bytes(*tag)));
        if !is_authentic {
            message.zeroize();
        }
        is_authentic
    }

    fn tag(&self, message: &[u8; MESSAGE_BYTES]) -> [u8; TAG_BYTES] {
        let [first, second] = blocks_of(message);
        let first = encrypted(&self.mac, xor(first, self.masks[0]));
        encrypted(&self.mac, xor(xor(second, self.masks[1]), first))
    }

    fn add_keystream(&self, tag: &[u8; TAG_BYTES], message: &mut [u8; MESSAGE_BYTES]) {
        let counter = first_counter(tag);
        let mut keystream = [counter, counter.wrapping_add(1)].map(|counter| counter.to_be_bytes().into());
        self.counter.encrypt_blocks(&mut keystream);
        let [first, second] = blocks_of(message);
        message[..BLOCK_BYTES].copy_from_slice(&xor(first, keystream[0].into()));
        message[BLOCK_BYTES..].copy_from_slice(&xor(second, keystream[1].into())[..REST_BYTES]);
    }
}

/// The two blocks of a message, the second one filled up with zeroes.
fn blocks_of(message: &[u8; MESSAGE_BYTES]) -> [Block; 2] {
    let mut blocks = [[0; BLOCK_BYTES]; 2];
    blocks[0].copy_from_slice(&message[..BLOCK_BYTES]);
    blocks[1][..REST_BYTES].copy_from_slice(&message[BLOCK_BYTES..]);
    blocks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;
    use aes_siv::siv::Aes128Siv;

    #[test]
    fn agrees_with_aes_siv_for_associated_data_of_every_length() {
        for length in 0..100_usize {
            let byte = |index: usize| (index * 0x3b + length * 0x71) as u8 ^ (index as u8).rotate_left(5);
            let key: [u8; KEY_BYTES] = std::array::from_fn(|index| byte(index + 200));
            let associated_data: Vec<u8> = (0..length).map(byte).collect();
            let plaintext: [u8; MESSAGE_BYTES] = std::array::from_fn(|index| byte(index + 300));

            let siv = Siv::new(&SivKeys::new(&key, &associated_data));
            let mut message = plaintext;
            let tag = siv.encrypt(&mut message);
            let mut theirs = aes_siv::KeyInit::new(&key.into());
            let sealed = Aes128Siv::encrypt(&mut theirs, [&associated_data], &plaintext).unwrap();
            assert_eq!([&tag[..], &message].concat(), sealed);
            let ciphertext = message;
            assert!(siv.decrypt(&tag, &mut message));
            assert_eq!(message, plaintext);

            for bit in 0..(TAG_BYTES + MESSAGE_BYTES) * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let (tag, text) = changed.split_first_chunk().unwrap();
                let mut message = text.try_into().unwrap();
                assert!(!siv.decrypt(tag, &mut message), "bit {bit}");
                assert_eq!(message, [0; MESSAGE_BYTES], "what is not authentic is not shown");
            }
            let others = Siv::new(&SivKeys::new(&key, &[&associated_data[..], &[0]].concat()));
            assert!(!others.decrypt(&tag, &mut { ciphertext }));
        }
    }
}

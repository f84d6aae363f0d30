//! AES-128-SIV (RFC 5297) for long messages, fast: the message is given to S2V as eight strings instead of one.
//!
//! CMAC takes a block only when the one before is done, so that AES waits for itself: 29 ns a block here, in a node's busiest loop. S2V
//! takes any number of strings, and is a pseudorandom function of all of them together (RFC 5297 section 2.4); their CMACs
//! have nothing to do with each other, so that eight are made side by side: 4 ns a block. Where a message is cut depends on its length
//! alone, so that no two messages come to the same strings. The tag is that of aes-siv for the same strings, as the tests compare.

use std::array;

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::siv::{BLOCK_BYTES, Block, Cmac, double, first_counter, xor};

/// Bytes of a key: one half for the tag, one for the text.
pub(super) const KEY_BYTES: usize = 32;
/// Messages from this length on are sealed so; below, there is little to gain.
pub(super) const LONG_BYTES: usize = 1024;

const STRANDS: usize = 8;
const _: () = assert!(LONG_BYTES >= 2 * STRANDS * BLOCK_BYTES, "every strand has two blocks at least");
/// Of the last strand at most so much is left when the others are done: a block, and what eight strands of whole blocks leave over.
const REST_MAX_BYTES: usize = BLOCK_BYTES + STRANDS * BLOCK_BYTES - 1;
/// Blocks of keystream that are made at once.
const KEYSTREAM_BLOCKS: usize = 16;

/// The ciphers of a link's long messages.
pub(super) struct Strands {
    mac: Cmac,
    counter: Aes128Enc,
    /// Where every S2V begins.
    mac_of_zero: Zeroizing<Block>,
}

impl Strands {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let cipher = |half: usize| {
            let mut half_key = Zeroizing::new([0; KEY_BYTES / 2]);
            half_key.copy_from_slice(&key[half * KEY_BYTES / 2..][..KEY_BYTES / 2]);
            Aes128Enc::new((&*half_key).into())
        };
        let mac = Cmac::new(cipher(0));
        let mac_of_zero = Zeroizing::new(mac.of(&[0; BLOCK_BYTES]));
        Self { mac, counter: cipher(1), mac_of_zero }
    }

    /// Encrypts a message of [`LONG_BYTES`] or more in place, and gives its tag.
    pub(super) fn encrypt(&self, associated_data: [&[u8]; 2], message: &mut [u8]) -> Block {
        let tag = self.tag(associated_data, message);
        self.add_keystream(&tag, message);
        tag
    }

    /// Decrypts a message of [`LONG_BYTES`] or more in place. Says whether it is authentic; if not, it is zeroes.
    pub(super) fn decrypt(&self, associated_data: [&[u8]; 2], tag: &Block, message: &mut [u8]) -> bool {
        self.add_keystream(tag, message);
        let expected = self.tag(associated_data, message);
        let is_authentic = bool::from(u128::from_ne_bytes(expected).ct_eq(&u128::from_ne_bytes(*tag)));
        if !is_authentic {
            message.zeroize();
        }
        is_authentic
    }

    /// S2V of the associated data and the strands.
    fn tag(&self, associated_data: [&[u8]; 2], message: &[u8]) -> Block {
        let strand_bytes = strand_bytes(message.len());
        let strands: [&[u8]; STRANDS] = array::from_fn(|strand| &message[strand * strand_bytes..][..strand_bytes]);
        let strands = strands.map(|strand| strand.as_chunks::<BLOCK_BYTES>().0);
        let last_block = strand_bytes / BLOCK_BYTES - 1;
        let mut states = [aes::Block::default(); STRANDS];
        for block in 0..last_block {
            for (state, strand) in states.iter_mut().zip(strands) {
                *state = xor((*state).into(), strand[block]).into();
            }
            self.mac.cipher().encrypt_blocks(&mut states);
        }
        let [whole @ .., last_state] = &mut states;
        for (state, strand) in whole.iter_mut().zip(strands) {
            *state = xor(xor((*state).into(), strand[last_block]), self.mac.mask_of_whole()).into();
        }
        self.mac.cipher().encrypt_blocks(whole);

        let macs_of_associated_data = associated_data.map(|string| self.mac.of(string));
        let macs = macs_of_associated_data.into_iter().chain(whole.iter().map(|state| (*state).into()));
        let sum = macs.fold(*self.mac_of_zero, |sum, mac| xor(double(sum), mac));
        // The last string has the sum of the others added to its last 16 bytes.
        let mut rest = Zeroizing::new([0; REST_MAX_BYTES]);
        let left = &message[(STRANDS - 1) * strand_bytes + last_block * BLOCK_BYTES..];
        let rest = &mut rest[..left.len()];
        rest.copy_from_slice(left);
        if let Some(end) = rest.last_chunk_mut() {
            *end = xor(*end, sum);
        }
        self.mac.finish((*last_state).into(), rest)
    }

    fn add_keystream(&self, tag: &Block, message: &mut [u8]) {
        let mut counter = first_counter(tag);
        for piece in message.chunks_mut(KEYSTREAM_BLOCKS * BLOCK_BYTES) {
            let mut keystream: [aes::Block; KEYSTREAM_BLOCKS] =
                array::from_fn(|number| counter.wrapping_add(number as u128).to_be_bytes().into());
            counter = counter.wrapping_add(KEYSTREAM_BLOCKS as u128);
            self.counter.encrypt_blocks(&mut keystream);
            let (blocks, rest) = piece.as_chunks_mut();
            for (block, key) in blocks.iter_mut().zip(&keystream) {
                *block = xor(*block, (*key).into());
            }
            for (byte, key) in rest.iter_mut().zip(&keystream[blocks.len() % KEYSTREAM_BLOCKS]) {
                *byte ^= key;
            }
        }
    }
}

/// The length of each strand but the last, which has what is left.
fn strand_bytes(message_bytes: usize) -> usize {
    message_bytes / (STRANDS * BLOCK_BYTES) * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use aes_siv::siv::Aes128Siv;

    use super::*;

    #[test]
    fn the_tag_is_that_of_aes_siv_for_the_same_strings() {
        for length in (LONG_BYTES..LONG_BYTES + 300).chain([4095, 4096, 4097, 65_535, 1 << 20]) {
            let byte = |index: usize| (index * 0x3b + length * 0x71) as u8 ^ (index as u8).rotate_left(5);
            let key: [u8; KEY_BYTES] = array::from_fn(|index| byte(index + 200));
            let plaintext: Vec<u8> = (0..length).map(byte).collect();
            let associated_data = [&key[..8], &b"/a/path"[..]];
            let strands = Strands::new(&key);
            let mut message = plaintext.clone();
            let tag = strands.encrypt(associated_data, &mut message);

            let strand_bytes = length / 128 * 16;
            let (whole, last) = plaintext.split_at(7 * strand_bytes);
            let strings = associated_data.into_iter().chain(whole.chunks(strand_bytes));
            let mut theirs: Aes128Siv = aes_siv::KeyInit::new(&key.into());
            let sealed = theirs.encrypt(strings, last).unwrap();
            assert_eq!(tag, sealed[..16], "{length} bytes");
            // Under one tag their text and ours are added to one keystream.
            let (theirs, ours) = (&sealed[16..], &message[..last.len()]);
            let keystream = |sealed: &[u8], text: &[u8]| -> Vec<u8> {
                sealed.iter().zip(text).map(|(sealed, text)| sealed ^ text).collect()
            };
            assert_eq!(keystream(theirs, last), keystream(ours, &plaintext[..last.len()]), "{length} bytes");

            assert!(strands.decrypt(associated_data, &tag, &mut message));
            assert_eq!(message, plaintext);
        }
    }
}

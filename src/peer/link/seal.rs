//! The seal of a link's messages: AES-128-SIV (RFC 5297) under the key of the dialler, with the number of the message and its path as
//! associated data. Owns the number.

use aes::Aes128Enc;
use aes_siv::siv::CmacSiv;
use aes_siv::{KeyInit as _, Tag};

use super::strands::{KEY_BYTES, LONG_BYTES, Strands};
use super::{LinkError, Path, SEAL_BYTES};

/// The key of a link, and how many messages it has seen: at the dialler those sealed, at the acceptor those opened. Its keys are wiped
/// when it is dropped.
pub(super) struct Seal {
    /// For short messages. SIV never decrypts a block, so that only half of AES's key schedule is needed.
    siv: CmacSiv<Aes128Enc>,
    /// For long ones.
    strands: Strands,
    next_number: u64,
}

impl Seal {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self { siv: CmacSiv::new(key.into()), strands: Strands::new(key), next_number: 0 }
    }

    pub(super) fn seal(&mut self, path: Path, message: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; SEAL_BYTES]);
        out.extend_from_slice(message);
        let (tag, message) = out[start..].split_at_mut(SEAL_BYTES);
        let number = self.next_number.to_le_bytes();
        let associated_data = [&number[..], path.as_str().as_bytes()];
        if message.len() < LONG_BYTES {
            let siv = self.siv.encrypt_inout_detached(associated_data, message.into());
            tag.copy_from_slice(&siv.expect("two pieces of associated data are not too many"));
        } else {
            tag.copy_from_slice(&self.strands.encrypt(associated_data, message));
        }
        self.next_number += 1;
    }

    pub(super) fn open(&mut self, path: Path, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let (tag, ciphertext) = sealed.split_first_chunk().ok_or(LinkError::Altered)?;
        let start = out.len();
        out.extend_from_slice(ciphertext);
        let number = self.next_number.to_le_bytes();
        let associated_data = [&number[..], path.as_str().as_bytes()];
        let message = &mut out[start..];
        let is_authentic = if message.len() < LONG_BYTES {
            self.siv.decrypt_inout_detached(associated_data, message.into(), &Tag::from(*tag)).is_ok()
        } else {
            self.strands.decrypt(associated_data, tag, message)
        };
        if !is_authentic {
            out.truncate(start);
            return Err(LinkError::Altered);
        }
        self.next_number += 1;
        Ok(())
    }
}

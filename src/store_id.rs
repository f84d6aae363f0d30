//! Store ids: the text that stands for a store, sealed for its customer and site. The only user of AES-SIV and HKDF beside
//! the peer link.
//!
//! A store id is `v1:KEYID:TOKEN`; the token is unpadded base64url (RFC 4648 section 5) of AES-128-SIV (RFC 5297) over
//! `SHARD:UNIQUE`, the two parts of a [`StoreKey`] in unpadded base64url. The associated data is `storeid:v1:` and the
//! customer; the key comes from the master key `KEYID` by HKDF-SHA256 (RFC 5869) without salt, its info being
//! `storeid:v1:enc:`, the site and `:` unless sites are not verified, and the customer.
//!
//! This module owns the keys and what is derived from them, and checks their form. It does not know where they come from
//! (flags, variables, files), and it does not check customers: whoever calls has done that, which is what bounds their length.
//!
//! # What the time to open an id tells
//!
//! Text that does not open costs the same whatever is wrong with it: one decoding of a whole token and one SIV opening that
//! fails, if need be of a dummy. Tags are compared in constant time; base64 is decoded by a table, for what is sent is known to who
//! sends it. Not equal are: text that opens (the answer tells that anyway), the first use of a customer's key in a while, valid or
//! not (it is derived then), and how many of a key id's bytes are right (key ids stand in every store id and are no secret).

mod base64url;
mod ciphers;
mod siv;

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use self::ciphers::{Ciphers, Owner};
use self::siv::{Siv, SivKeys, TAG_BYTES};
use crate::node::request::StoreKey;

/// Bytes of a master key.
pub const MASTER_KEY_BYTES: usize = 32;
/// The key of `--dev`, which everybody knows.
pub const DEV_KEY: [u8; MASTER_KEY_BYTES] = {
    let mut key = [0; MASTER_KEY_BYTES];
    let mut index = 0;
    while index < MASTER_KEY_BYTES {
        key[index] = index as u8;
        index += 1;
    }
    key
};
/// The key id of [`DEV_KEY`].
pub const DEV_KEY_ID: &str = "0";
/// Master keys a ring holds at most.
pub const MAX_MASTER_KEYS: usize = 64;
/// Characters of a key id at most.
pub const MAX_KEY_ID_CHARS: usize = 16;
/// Characters of a site at most.
pub const MAX_SITE_CHARS: usize = 16;

const VERSION: &str = "v1:";
const ASSOCIATED_DATA_PREFIX: &str = "storeid:v1:";
const INFO_PREFIX: &str = "storeid:v1:enc:";

/// Bytes of `SHARD`, and its characters in base64url.
const SHARD_BYTES: usize = 8;
const SHARD_CHARS: usize = 11;
/// Bytes of `UNIQUE`, and its characters in base64url.
const UNIQUE_BYTES: usize = 12;
const UNIQUE_CHARS: usize = 16;
/// Bytes of `SHARD:UNIQUE`.
const PLAINTEXT_BYTES: usize = SHARD_CHARS + 1 + UNIQUE_CHARS;
/// Bytes of a token, and its characters in base64url.
const TOKEN_BYTES: usize = TAG_BYTES + PLAINTEXT_BYTES;
const TOKEN_CHARS: usize = (TOKEN_BYTES * 8).div_ceil(6);

const _: () = assert!(SHARD_BYTES + UNIQUE_BYTES == size_of::<StoreKey>());
const _: () = assert!((SHARD_BYTES * 8).div_ceil(6) == SHARD_CHARS && (UNIQUE_BYTES * 8).div_ceil(6) == UNIQUE_CHARS);
/// A store id's characters at most.
pub const MAX_STORE_ID_CHARS: usize = VERSION.len() + MAX_KEY_ID_CHARS + 1 + TOKEN_CHARS;

/// A key from which the keys of customers are derived.
pub struct MasterKey {
    /// `[0-9a-z][0-9a-z_-]{0,15}`.
    pub id: String,
    /// The secret.
    pub key: Zeroizing<[u8; MASTER_KEY_BYTES]>,
}

impl MasterKey {
    /// The key of `--dev`.
    #[must_use]
    pub fn dev() -> Self {
        Self { id: DEV_KEY_ID.to_owned(), key: Zeroizing::new(DEV_KEY) }
    }
}

impl fmt::Debug for MasterKey {
    /// The id alone.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is wrong with a set of master keys or a site. Says what to do and shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No key at all.
    NoKeys,
    /// More than [`MAX_MASTER_KEYS`].
    TooManyKeys,
    /// An entry of the list, counted from 1, is not `ID:KEY`. It is not shown: it may be a key.
    MalformedEntry {
        /// Which.
        entry: usize,
    },
    /// A key id is not `[0-9a-z][0-9a-z_-]{0,15}`. It is not shown: it may be a key.
    MalformedId {
        /// Which entry, counted from 1.
        entry: usize,
    },
    /// A key is not 64 hexadecimal digits.
    MalformedKey {
        /// Its id.
        id: String,
    },
    /// Two keys have the same id.
    DuplicateId {
        /// The id.
        id: String,
    },
    /// No key has the id that was named as the current one.
    UnknownCurrent {
        /// The id.
        id: String,
    },
    /// The site is not `[a-z0-9-]{1,16}`.
    MalformedSite {
        /// The site.
        site: String,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeys => write!(formatter, "there is no store key; make one with `bbd keygen`"),
            Self::TooManyKeys => write!(formatter, "there are more than {MAX_MASTER_KEYS} store keys; drop the oldest"),
            Self::MalformedEntry { entry } => {
                write!(formatter, "store key {entry} of the list is not ID:KEY, KEY being 64 hexadecimal digits")
            }
            Self::MalformedId { entry } => write!(
                formatter,
                "the id of store key {entry} of the list must be 1 to {MAX_KEY_ID_CHARS} of 0-9 a-z _ - and begin with a digit or letter"
            ),
            Self::MalformedKey { id } => {
                write!(formatter, "store key {id:?} must be 64 hexadecimal digits; make one with `bbd keygen`")
            }
            Self::DuplicateId { id } => write!(formatter, "there are two store keys with the id {id:?}; rename one"),
            Self::UnknownCurrent { id } => {
                write!(formatter, "the current store key {id:?} is not among the store keys")
            }
            Self::MalformedSite { site } => {
                write!(formatter, "the site {site:?} must be 1 to {MAX_SITE_CHARS} of a-z 0-9 -")
            }
        }
    }
}

impl std::error::Error for KeyError {}

/// Reads `ID:KEY,ID:KEY,…`, each key being 64 hexadecimal digits; the entry `dev` means the key of `--dev`. White space
/// around an entry is dropped, so that a file may end with a newline.
///
/// # Errors
///
/// The first thing that is wrong. That a current key is named and is among them is checked by [`KeyRing::new`].
pub fn parse_store_keys(text: &str) -> Result<Vec<MasterKey>, KeyError> {
    if text.trim().is_empty() {
        return Err(KeyError::NoKeys);
    }
    let mut keys: Vec<MasterKey> = Vec::new();
    for (index, entry) in text.split(',').enumerate() {
        let key = parse_store_key(entry.trim(), index + 1)?;
        if keys.iter().any(|other| other.id == key.id) {
            return Err(KeyError::DuplicateId { id: key.id });
        }
        keys.push(key);
    }
    Ok(keys)
}

fn parse_store_key(text: &str, entry: usize) -> Result<MasterKey, KeyError> {
    if text == "dev" {
        return Ok(MasterKey::dev());
    }
    let (id, digits) = text.split_once(':').ok_or(KeyError::MalformedEntry { entry })?;
    if !is_key_id(id) {
        return Err(KeyError::MalformedId { entry });
    }
    let malformed = || KeyError::MalformedKey { id: id.to_owned() };
    let digits: &[u8; MASTER_KEY_BYTES * 2] = digits.as_bytes().try_into().map_err(|_| malformed())?;
    let mut key = Zeroizing::new([0; MASTER_KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(malformed);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Ok(MasterKey { id: id.to_owned(), key })
}

fn is_key_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    (1..=MAX_KEY_ID_CHARS).contains(&id.len())
        && allowed(id.as_bytes()[0])
        && id.bytes().all(|byte| allowed(byte) || byte == b'_' || byte == b'-')
}

fn is_site(site: &str) -> bool {
    (1..=MAX_SITE_CHARS).contains(&site.len())
        && site.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-')
}

/// The master keys of a node, and the keys derived from them for the customers seen lately.
pub struct KeyRing {
    keys: RingKeys,
    /// HKDF's info without the customer.
    info_prefix: String,
    ciphers: Ciphers,
}

/// Checked master keys, HKDF-Extract done: without a salt it is the same for all customers.
struct RingKeys {
    keys: Vec<RingKey>,
    current: usize,
}

struct RingKey {
    id: String,
    hkdf: Hkdf<Sha256>,
}

impl RingKeys {
    fn new(keys: Vec<MasterKey>, current_id: &str) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::NoKeys);
        }
        if keys.len() > MAX_MASTER_KEYS {
            return Err(KeyError::TooManyKeys);
        }
        for (index, key) in keys.iter().enumerate() {
            if !is_key_id(&key.id) {
                return Err(KeyError::MalformedId { entry: index + 1 });
            }
            if keys[..index].iter().any(|other| other.id == key.id) {
                return Err(KeyError::DuplicateId { id: key.id.clone() });
            }
        }
        let current = keys
            .iter()
            .position(|key| key.id == current_id)
            .ok_or_else(|| KeyError::UnknownCurrent { id: current_id.to_owned() })?;
        let extract = |key: MasterKey| {
            let (mut pseudorandom_key, hkdf) = Hkdf::<Sha256>::extract(None, &*key.key);
            pseudorandom_key.as_mut_slice().zeroize();
            RingKey { id: key.id, hkdf }
        };
        Ok(Self { keys: keys.into_iter().map(extract).collect(), current })
    }
}

impl KeyRing {
    /// The ring that seals with the key `current_id` and opens with all of `keys`, for one site, or without a site
    /// (`--disable-site-verification`).
    ///
    /// # Errors
    ///
    /// No keys or too many, a malformed or duplicate key id, an unknown current one, a malformed site.
    pub fn new(keys: Vec<MasterKey>, current_id: &str, site: Option<&str>) -> Result<Self, KeyError> {
        let info_prefix = match site {
            Some(site) if !is_site(site) => return Err(KeyError::MalformedSite { site: site.to_owned() }),
            Some(site) => format!("{INFO_PREFIX}{site}:"),
            None => INFO_PREFIX.to_owned(),
        };
        Ok(Self { keys: RingKeys::new(keys, current_id)?, info_prefix, ciphers: Ciphers::default() })
    }

    /// Puts other keys in the place of the present ones, which stay if the new ones are refused.
    ///
    /// # Errors
    ///
    /// As for [`KeyRing::new`].
    pub fn replace_keys(&mut self, keys: Vec<MasterKey>, current_id: &str) -> Result<(), KeyError> {
        self.keys = RingKeys::new(keys, current_id)?;
        self.ciphers = Ciphers::default();
        Ok(())
    }

    /// Makes new store ids with another of its keys, if it has that one.
    pub fn use_key(&mut self, id: &str) {
        if let Some(found) = self.keys.keys.iter().position(|key| key.id == id) {
            self.keys.current = found;
        }
    }

    /// The id of the key that new store ids are made with.
    #[must_use]
    pub fn current_id(&self) -> &str {
        &self.keys.keys[self.keys.current].id
    }

    /// Appends the id of a customer's store to `out`, sealed with the current key. Allocates nothing if `out` has
    /// [`MAX_STORE_ID_CHARS`] to spare and the customer's key is cached.
    pub fn seal(&mut self, customer: &str, key: &StoreKey, out: &mut Vec<u8>) {
        let mut message = write_plaintext(key);
        let tag = self.cipher(self.keys.current, customer).encrypt(&mut message);

        let mut token = [0; TOKEN_BYTES];
        token[..TAG_BYTES].copy_from_slice(&tag);
        token[TAG_BYTES..].copy_from_slice(&message);
        let mut characters = [0; TOKEN_CHARS];
        base64url::encode(&token, &mut characters);
        out.extend_from_slice(VERSION.as_bytes());
        out.extend_from_slice(self.keys.keys[self.keys.current].id.as_bytes());
        out.push(b':');
        out.extend_from_slice(&characters);
    }

    /// The store that an id stands for, if it is one of this customer's ids, of this site, sealed with a key of the ring. There is exactly
    /// one text that opens to a store for each key of the ring. Allocates nothing if the customer's key is cached.
    pub fn open(&mut self, customer: &str, text: &[u8]) -> Option<StoreKey> {
        let named = split(text).and_then(|(id, token)| {
            let key = self.keys.keys.iter().position(|key| key.id.as_bytes() == id)?;
            Some((key, token))
        });
        // From here to the end of the SIV opening, what is wrong makes no difference: see the top of this file.
        let (key, characters) = named.unwrap_or((self.keys.current, &[b'A'; TOKEN_CHARS]));
        let mut token = [0; TOKEN_BYTES];
        let is_decoded = base64url::decode(characters, &mut token);
        let (tag, message) = token.split_first_chunk()?;
        let mut message = message.try_into().ok()?;
        let is_authentic = self.cipher(key, customer).decrypt(tag, &mut message);
        if named.is_some() && is_decoded && is_authentic { read_plaintext(&message) } else { None }
    }

    /// Looks the keys of customers up whose ids are about to be opened, and does nothing with them; with how many at most, and why, says
    /// [`Node::look_up_ahead`](crate::node::Node::look_up_ahead).
    pub fn look_up_ahead<'i>(&self, sealed: impl Iterator<Item = (&'i str, &'i [u8])>) {
        self.ciphers.look_up_ahead(sealed.filter_map(|(customer, id)| {
            let (id, _) = split(id)?;
            let key = self.keys.keys.iter().position(|key| key.id.as_bytes() == id)?;
            Some(Owner { key, customer })
        }));
    }

    /// A customer's cipher under the master key of this index.
    fn cipher(&mut self, key: usize, customer: &str) -> &Siv {
        let Self { keys, info_prefix, ciphers } = self;
        ciphers.get(Owner { key, customer }, || derive(&keys.keys[key], info_prefix, customer))
    }
}

/// Splits an id into key id and token.
fn split(text: &[u8]) -> Option<(&[u8], &[u8; TOKEN_CHARS])> {
    let (before, token) = text.strip_prefix(VERSION.as_bytes())?.split_last_chunk()?;
    Some((before.strip_suffix(b":")?, token))
}

/// Reads `SHARD:UNIQUE`.
fn read_plaintext(plaintext: &[u8; PLAINTEXT_BYTES]) -> Option<StoreKey> {
    let (shard, rest) = plaintext.split_first_chunk::<SHARD_CHARS>()?;
    let unique: &[u8; UNIQUE_CHARS] = rest.strip_prefix(b":")?.try_into().ok()?;
    let (mut key_shard, mut key_unique) = ([0; SHARD_BYTES], [0; UNIQUE_BYTES]);
    if !base64url::decode(shard, &mut key_shard) || !base64url::decode(unique, &mut key_unique) {
        return None;
    }
    let mut key = [0; SHARD_BYTES + UNIQUE_BYTES];
    key[..SHARD_BYTES].copy_from_slice(&key_shard);
    key[SHARD_BYTES..].copy_from_slice(&key_unique);
    Some(StoreKey(key))
}

/// Writes `SHARD:UNIQUE`.
fn write_plaintext(key: &StoreKey) -> [u8; PLAINTEXT_BYTES] {
    let (mut key_shard, mut key_unique) = ([0; SHARD_BYTES], [0; UNIQUE_BYTES]);
    key_shard.copy_from_slice(&key.0[..SHARD_BYTES]);
    key_unique.copy_from_slice(&key.0[SHARD_BYTES..]);
    let (mut shard, mut unique) = ([0; SHARD_CHARS], [0; UNIQUE_CHARS]);
    base64url::encode(&key_shard, &mut shard);
    base64url::encode(&key_unique, &mut unique);
    let mut plaintext = [b':'; PLAINTEXT_BYTES];
    plaintext[..SHARD_CHARS].copy_from_slice(&shard);
    plaintext[SHARD_CHARS + 1..].copy_from_slice(&unique);
    plaintext
}

/// HKDF-Expand for one customer.
fn derive(master: &RingKey, info_prefix: &str, customer: &str) -> SivKeys {
    let mut siv_key = Zeroizing::new([0; siv::KEY_BYTES]);
    master
        .hkdf
        .expand_multi_info(&[info_prefix.as_bytes(), customer.as_bytes()], &mut *siv_key)
        .expect("so few bytes are no more than 255 blocks of SHA-256");
    SivKeys::new(&siv_key, format!("{ASSOCIATED_DATA_PREFIX}{customer}").as_bytes())
}

#[cfg(test)]
mod tests;

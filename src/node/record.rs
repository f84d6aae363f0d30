//! The records of the change stream: what a follower must do to have what the primary has. Each says the whole new state of
//! what it is about, so that applying it needs nothing but what was applied before.

use super::codec::{
    read_content, read_etag, read_key, read_lock, read_response, read_text, write_content, write_etag, write_response,
    write_str,
};
use super::request::{ConnectionId, Content, Etag, LockId, StoreKey};
use super::response::Response;
use super::store::State;
use crate::wire::{Malformed, Reader, Write as _};

/// One record. Times are the primary's monotonic milliseconds.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(super) enum Record<'a> {
    /// A store is made, or has another content, name or expiry.
    Store { key: StoreKey, customer: &'a str, name: Option<&'a str>, etag: Etag, expires_ms: u64, content: Content<'a> },
    /// A store's expiry moved, and nothing else.
    Expiry { key: StoreKey, expires_ms: u64 },
    /// A store was deleted or has expired: what is left of it.
    Remains { key: StoreKey, customer: &'a str, state: State, until_ms: u64 },
    /// The remains are forgotten.
    Gone { key: StoreKey },
    /// Somebody holds the lock.
    Lock { key: StoreKey, lock: LockId, until_ms: u64, connection: Option<ConnectionId> },
    /// Nobody holds the lock.
    Unlock { key: StoreKey },
    /// An answer is kept under an idempotency key.
    Answer { customer: &'a str, key: &'a str, fingerprint: [u8; 16], until_ms: u64, response: Response<'a> },
    /// A kept answer is forgotten.
    AnswerGone { customer: &'a str, key: &'a str },
    /// All that was there when the snapshot began has been sent.
    SnapshotEnd,
}

impl Record<'_> {
    /// The store that it is about.
    pub(super) fn store(&self) -> Option<&StoreKey> {
        match self {
            Self::Store { key, .. }
            | Self::Expiry { key, .. }
            | Self::Remains { key, .. }
            | Self::Gone { key }
            | Self::Lock { key, .. }
            | Self::Unlock { key } => Some(key),
            Self::Answer { .. } | Self::AnswerGone { .. } | Self::SnapshotEnd => None,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Store { key, customer, name, etag, expires_ms, content } => {
                out.put_u8(0);
                out.put_array(&key.0);
                write_str(out, customer);
                out.put_option(*name, write_str);
                write_etag(out, *etag);
                out.put_u64(*expires_ms);
                write_content(out, content);
            }
            Self::Expiry { key, expires_ms } => {
                out.put_u8(1);
                out.put_array(&key.0);
                out.put_u64(*expires_ms);
            }
            Self::Remains { key, customer, state, until_ms } => {
                out.put_u8(2);
                out.put_array(&key.0);
                write_str(out, customer);
                out.put_bool(*state == State::Tombstone);
                out.put_u64(*until_ms);
            }
            Self::Gone { key } => {
                out.put_u8(3);
                out.put_array(&key.0);
            }
            Self::Lock { key, lock, until_ms, connection } => {
                out.put_u8(4);
                out.put_array(&key.0);
                out.put_array(&lock.0);
                out.put_u64(*until_ms);
                out.put_option(*connection, |out, connection| out.put_u64(connection.0));
            }
            Self::Unlock { key } => {
                out.put_u8(5);
                out.put_array(&key.0);
            }
            Self::Answer { customer, key, fingerprint, until_ms, response } => {
                out.put_u8(6);
                write_str(out, customer);
                write_str(out, key);
                out.put_array(fingerprint);
                out.put_u64(*until_ms);
                write_response(out, response);
            }
            Self::AnswerGone { customer, key } => {
                out.put_u8(7);
                write_str(out, customer);
                write_str(out, key);
            }
            Self::SnapshotEnd => out.put_u8(8),
        }
    }
}

pub(super) fn read_record<'b>(reader: &mut Reader<'b>) -> Result<Record<'b>, Malformed> {
    Ok(match reader.u8()? {
        0 => Record::Store {
            key: read_key(reader)?,
            customer: read_text(reader, 64)?,
            name: reader.option(|reader| read_text(reader, 256))?,
            etag: read_etag(reader)?,
            expires_ms: reader.u64()?,
            content: read_content(reader)?,
        },
        1 => Record::Expiry { key: read_key(reader)?, expires_ms: reader.u64()? },
        2 => Record::Remains {
            key: read_key(reader)?,
            customer: read_text(reader, 64)?,
            state: if reader.bool()? { State::Tombstone } else { State::Expired },
            until_ms: reader.u64()?,
        },
        3 => Record::Gone { key: read_key(reader)? },
        4 => Record::Lock {
            key: read_key(reader)?,
            lock: read_lock(reader)?,
            until_ms: reader.u64()?,
            connection: reader.option(Reader::u64)?.map(ConnectionId),
        },
        5 => Record::Unlock { key: read_key(reader)? },
        6 => Record::Answer {
            customer: read_text(reader, 64)?,
            key: read_text(reader, 128)?,
            fingerprint: reader.array()?,
            until_ms: reader.u64()?,
            response: read_response(reader)?,
        },
        7 => Record::AnswerGone { customer: read_text(reader, 64)?, key: read_text(reader, 128)? },
        8 => Record::SnapshotEnd,
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
mod tests;

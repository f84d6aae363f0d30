//! The messages between two nodes.
//!
//! They are one-way: a node's messages go out on the connection it dialled, and what answers them comes back as messages of the
//! other node on its own connection. So nothing that takes long ever stands in the way of a heartbeat.
//!
//! Here are the messages, their bytes and the HTTP path of each, as the table in bbd-internals(7) has them. What carries
//! them is the link's business, and what they mean the node's.

use crate::config::flags::MAX_STORE_SIZE_BYTES;
use crate::node::codec::{read_request, read_response, read_role, role_number, write_request, write_response};
use crate::node::request::{ConnectionId, Request};
use crate::node::response::Response;
use crate::node::{FORWARDS_MAX, READ_MANY_MAX_BYTES, Role};
use crate::wire::{Malformed, Reader, Write as _};

/// The bytes of a message at most, before it is sealed.
pub const MESSAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The bytes of `records` in one [`Message::Changes`] at most.
pub const RECORDS_MAX_BYTES: usize = MESSAGE_MAX_BYTES - CHANGES_OVERHEAD_BYTES;
/// What [`Message::Changes`] is without its records: kind, epoch, first number, count, offset, length.
const CHANGES_OVERHEAD_BYTES: usize = 1 + 4 + 8 + 4 + 8 + 4;
/// The greatest epoch that is believed. No node lives to see it, and one that heard of it could still count on.
pub const EPOCH_MAX: u32 = u32::MAX / 2;
/// The greatest number of a change that is believed: as [`EPOCH_MAX`].
pub const NUMBER_MAX: u64 = u64::MAX / 2;
/// More than what holds stores takes beside their bytes: names, keys, numbers.
const BESIDE_STORES_MAX_BYTES: usize = 64 * 1024;

// Whatever the node sends fits: a store in a change, a forwarded request or an answer, and many stores in one answer.
const _: () = {
    assert!(MAX_STORE_SIZE_BYTES as usize + BESIDE_STORES_MAX_BYTES <= RECORDS_MAX_BYTES);
    assert!(FORWARDS_MAX * size_of::<u64>() + BESIDE_STORES_MAX_BYTES <= MESSAGE_MAX_BYTES);
    assert!(READ_MANY_MAX_BYTES as usize + BESIDE_STORES_MAX_BYTES <= MESSAGE_MAX_BYTES);
};

/// A message. Each of an epoch older than the receiver's changes nothing.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Message<'a> {
    /// What the sender is: the first message on every connection, and sent again whenever it changes.
    Status {
        /// Its role.
        role: Role,
        /// Its epoch.
        epoch: u32,
        /// The number of its last change.
        number: u64,
    },
    /// To a primary: let me follow. I hold your changes up to `number`; or I hold nothing, and was primary of another epoch.
    Join {
        /// The epoch of the stream it follows, or the first it was primary of since it had nothing before; 0 if there is none.
        epoch: u32,
        /// The incarnation of that stream's primary, or its own.
        primary: u64,
        /// The last change applied; 0 if it holds nothing.
        number: u64,
    },
    /// To a joiner: forget everything; what follows is all there is, from the change after `number` on.
    Begin {
        /// The primary's epoch.
        epoch: u32,
        /// The primary's incarnation.
        primary: u64,
        /// The last change before what follows.
        number: u64,
        /// The last change of the epochs before, as far as the joiner was there: what it made beyond is lost.
        base: u64,
    },
    /// To a joiner: you are in step; what follows begins behind the change `number`.
    Resume {
        /// The primary's epoch.
        epoch: u32,
        /// The primary's incarnation.
        primary: u64,
        /// The last change before what follows.
        number: u64,
        /// As of [`Begin`](Self::Begin).
        base: u64,
    },
    /// Numbered records in order.
    Changes {
        /// The primary's epoch.
        epoch: u32,
        /// The number of the first record.
        first_number: u64,
        /// How many there are.
        count: u32,
        /// What is added to the primary's monotonic time to have the follower's, never too much; in nanoseconds.
        clock_offset_ns: i64,
        /// The records, one behind the other.
        records: &'a [u8],
    },
    /// The primary lives.
    Heartbeat {
        /// Its epoch.
        epoch: u32,
        /// When it was sent, by the primary's monotonic clock, in nanoseconds: the lease counts from there.
        sent_at_ns: u64,
    },
    /// The follower has heard, and applied.
    Ack {
        /// The epoch it follows.
        epoch: u32,
        /// The last change applied.
        number: u64,
        /// `sent_at_ns` of the newest heartbeat of this epoch; 0 if there was none.
        heartbeat_sent_at_ns: u64,
        /// When this was sent, by the follower's monotonic clock, in nanoseconds.
        sent_at_ns: u64,
    },
    /// To the primary: hand over to me.
    Handover {
        /// The epoch to end.
        epoch: u32,
    },
    /// To the secondary: you are primary, from behind the change `number` on.
    HandoverDone {
        /// The epoch that has ended.
        epoch: u32,
        /// Its last change.
        number: u64,
    },
    /// To the secondary: not now.
    HandoverRefused {
        /// The primary's epoch.
        epoch: u32,
    },
    /// To the primary: a client of mine asks.
    Forward {
        /// For the answer.
        id: u64,
        /// What.
        request: Request<'a>,
    },
    /// The answer to a forwarded request.
    Forwarded {
        /// Which.
        id: u64,
        /// What.
        response: Response<'a>,
    },
    /// First on a new connection, to whoever has forwarded anything: of the requests before `heard` I still hold these. All others I have
    /// answered, and an answer that has not come was lost with the connection before.
    Unanswered {
        /// One more than the greatest id heard.
        heard: u64,
        /// Those that wait, in order.
        ids: Vec<u64>,
    },
    /// To the primary: a client's connection ended from which requests were forwarded.
    ConnectionClosed {
        /// Which.
        connection: ConnectionId,
    },
}

/// The paths of the link. Every message belongs under one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The handshake, and what a node says of itself.
    Hello,
    /// That a node lives, and how far it has come.
    Heartbeat,
    /// The change stream.
    Replicate,
    /// Where a joiner's stream begins.
    Snapshot,
    /// Changing places.
    Handover,
    /// Clients' requests.
    Forward,
    /// Of the cluster map's nodes: votes, and who speaks.
    RaftVote,
    /// Of the cluster map's nodes: entries, heartbeats, forwarded requests.
    RaftAppend,
    /// Of the cluster map's nodes: snapshots.
    RaftSnapshot,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Heartbeat,
        Self::Replicate,
        Self::Snapshot,
        Self::Handover,
        Self::Forward,
        Self::RaftVote,
        Self::RaftAppend,
        Self::RaftSnapshot,
    ];

    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "/internal/hello",
            Self::Heartbeat => "/internal/heartbeat",
            Self::Replicate => "/internal/replicate",
            Self::Snapshot => "/internal/snapshot",
            Self::Handover => "/internal/handover",
            Self::Forward => "/internal/forward",
            Self::RaftVote => "/raft-vote",
            Self::RaftAppend => "/raft-append",
            Self::RaftSnapshot => "/raft-snapshot",
        }
    }

    /// The path that is written so.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.as_str() == text)
    }
}

/// A message would be longer than [`MESSAGE_MAX_BYTES`]: a mistake of our own, for what the node sends is kept shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Message<'_> {
    /// The path it belongs under.
    #[must_use]
    pub const fn path(&self) -> Path {
        match self {
            Self::Status { .. } | Self::Join { .. } => Path::Hello,
            Self::Begin { .. } | Self::Resume { .. } => Path::Snapshot,
            Self::Changes { .. } => Path::Replicate,
            Self::Heartbeat { .. } | Self::Ack { .. } => Path::Heartbeat,
            Self::Handover { .. } | Self::HandoverDone { .. } | Self::HandoverRefused { .. } => Path::Handover,
            Self::Forward { .. } | Self::Forwarded { .. } | Self::Unanswered { .. } | Self::ConnectionClosed { .. } => {
                Path::Forward
            }
        }
    }

    /// The epoch it is about; clients' requests are about none.
    #[must_use]
    pub const fn epoch(&self) -> Option<u32> {
        match *self {
            Self::Status { epoch, .. }
            | Self::Join { epoch, .. }
            | Self::Begin { epoch, .. }
            | Self::Resume { epoch, .. }
            | Self::Changes { epoch, .. }
            | Self::Heartbeat { epoch, .. }
            | Self::Ack { epoch, .. }
            | Self::Handover { epoch }
            | Self::HandoverDone { epoch, .. }
            | Self::HandoverRefused { epoch } => Some(epoch),
            Self::Forward { .. } | Self::Forwarded { .. } | Self::Unanswered { .. } | Self::ConnectionClosed { .. } => {
                None
            }
        }
    }
}

/// Appends a message.
///
/// # Errors
///
/// It is longer than [`MESSAGE_MAX_BYTES`]; `out` is as it was.
pub fn write_message(out: &mut Vec<u8>, message: &Message<'_>) -> Result<(), TooLong> {
    let start = out.len();
    match message {
        Message::Status { role, epoch, number } => {
            out.put_u8(0);
            out.put_u8(role_number(*role));
            out.put_u32(*epoch);
            out.put_u64(*number);
        }
        Message::Join { epoch, primary, number } => {
            out.put_u8(1);
            out.put_u32(*epoch);
            out.put_u64(*primary);
            out.put_u64(*number);
        }
        Message::Begin { epoch, primary, number, base } => {
            out.put_u8(2);
            write_stream_start(out, *epoch, *primary, *number, *base);
        }
        Message::Resume { epoch, primary, number, base } => {
            out.put_u8(3);
            write_stream_start(out, *epoch, *primary, *number, *base);
        }
        Message::Changes { epoch, first_number, count, clock_offset_ns, records } => {
            // Also keeps the length within its 32 bits.
            if records.len() > RECORDS_MAX_BYTES {
                return Err(TooLong);
            }
            out.put_u8(4);
            out.put_u32(*epoch);
            out.put_u64(*first_number);
            out.put_u32(*count);
            out.put_i64(*clock_offset_ns);
            out.put_bytes(records);
        }
        Message::Heartbeat { epoch, sent_at_ns } => {
            out.put_u8(5);
            out.put_u32(*epoch);
            out.put_u64(*sent_at_ns);
        }
        Message::Ack { epoch, number, heartbeat_sent_at_ns, sent_at_ns } => {
            out.put_u8(6);
            out.put_u32(*epoch);
            out.put_u64(*number);
            out.put_u64(*heartbeat_sent_at_ns);
            out.put_u64(*sent_at_ns);
        }
        Message::Handover { epoch } => {
            out.put_u8(7);
            out.put_u32(*epoch);
        }
        Message::HandoverDone { epoch, number } => {
            out.put_u8(8);
            out.put_u32(*epoch);
            out.put_u64(*number);
        }
        Message::HandoverRefused { epoch } => {
            out.put_u8(9);
            out.put_u32(*epoch);
        }
        Message::Forward { id, request } => {
            out.put_u8(10);
            out.put_u64(*id);
            write_request(out, request);
        }
        Message::Forwarded { id, response } => {
            out.put_u8(11);
            out.put_u64(*id);
            write_response(out, response);
        }
        Message::ConnectionClosed { connection } => {
            out.put_u8(12);
            out.put_u64(connection.0);
        }
        Message::Unanswered { heard, ids } => {
            let count = u32::try_from(ids.len()).map_err(|_| TooLong)?;
            out.put_u8(13);
            out.put_u64(*heard);
            out.put_u32(count);
            ids.iter().for_each(|id| out.put_u64(*id));
        }
    }
    if out.len() - start > MESSAGE_MAX_BYTES {
        out.truncate(start);
        return Err(TooLong);
    }
    Ok(())
}

/// Reads a message, which is all of `bytes`.
///
/// # Errors
///
/// It is cut, something is left over, or something is out of range.
pub fn read_message(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let message = match reader.u8()? {
        0 => Message::Status {
            role: read_role(&mut reader)?,
            epoch: read_epoch(&mut reader)?,
            number: read_number(&mut reader)?,
        },
        1 => {
            Message::Join { epoch: read_epoch(&mut reader)?, primary: reader.u64()?, number: read_number(&mut reader)? }
        }
        2 => Message::Begin {
            epoch: read_epoch(&mut reader)?,
            primary: reader.u64()?,
            number: read_number(&mut reader)?,
            base: read_number(&mut reader)?,
        },
        3 => Message::Resume {
            epoch: read_epoch(&mut reader)?,
            primary: reader.u64()?,
            number: read_number(&mut reader)?,
            base: read_number(&mut reader)?,
        },
        4 => Message::Changes {
            epoch: read_epoch(&mut reader)?,
            first_number: read_number(&mut reader)?,
            count: reader.u32()?,
            clock_offset_ns: reader.i64()?,
            records: reader.bytes()?,
        },
        5 => Message::Heartbeat { epoch: read_epoch(&mut reader)?, sent_at_ns: reader.u64()? },
        6 => Message::Ack {
            epoch: read_epoch(&mut reader)?,
            number: read_number(&mut reader)?,
            heartbeat_sent_at_ns: reader.u64()?,
            sent_at_ns: reader.u64()?,
        },
        7 => Message::Handover { epoch: read_epoch(&mut reader)? },
        8 => Message::HandoverDone { epoch: read_epoch(&mut reader)?, number: read_number(&mut reader)? },
        9 => Message::HandoverRefused { epoch: read_epoch(&mut reader)? },
        10 => Message::Forward { id: reader.u64()?, request: read_request(&mut reader)? },
        11 => Message::Forwarded { id: reader.u64()?, response: read_response(&mut reader)? },
        12 => Message::ConnectionClosed { connection: ConnectionId(reader.u64()?) },
        13 => {
            let heard = reader.u64()?;
            // As many as there are bytes for: a count that lies ends the reading, and makes no room before.
            let count = reader.u32()?;
            let ids = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
            Message::Unanswered { heard, ids }
        }
        _ => return Err(Malformed),
    };
    reader.finish()?;
    Ok(message)
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    reader.u32().and_then(|epoch| if epoch <= EPOCH_MAX { Ok(epoch) } else { Err(Malformed) })
}

fn read_number(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    reader.u64().and_then(|number| if number <= NUMBER_MAX { Ok(number) } else { Err(Malformed) })
}

fn write_stream_start(out: &mut Vec<u8>, epoch: u32, primary: u64, number: u64, base: u64) {
    out.put_u32(epoch);
    out.put_u64(primary);
    out.put_u64(number);
    out.put_u64(base);
}

#[cfg(test)]
mod tests;

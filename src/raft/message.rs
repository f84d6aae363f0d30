//! The messages between the nodes of a cluster, their bytes, and the path each belongs under. One-way, as those of the session store's
//! peer are: what answers a message is a message on the other node's own link.

use noraft::{LogIndex, LogPosition, Term};

use super::entry::Entry;
use super::member::{ADDRESS_MAX_BYTES, Uuid};
use super::{INDEX_MAX, TERM_MAX};
use crate::peer::message::Path;
use crate::wire::{Malformed, Reader, Write as _};

/// Entries in one [`Message::Append`] at most.
pub const ENTRIES_MAX: usize = 500;
/// About how many bytes of entries one [`Message::Append`] has at most; a single entry may exceed it.
pub const ENTRIES_MAX_BYTES: usize = 512 * 1024;
/// Bytes of one part of a snapshot at most.
pub const PART_MAX_BYTES: usize = 256 * 1024;
/// Bytes of what is forwarded, and of its answer, at most.
pub const FORWARDED_MAX_BYTES: usize = 3 * 1024 * 1024;

/// A message. `term` is the sender's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the Raft paper, where not said otherwise")]
pub enum Message {
    /// The first message on every link: who speaks, of which cluster, and where it is reached.
    Hello {
        cluster: Option<Uuid>,
        uuid: Uuid,
        address: String,
    },
    /// Would you vote for me in `term`, which is not yet mine?
    PreVote {
        term: Term,
        last: LogPosition,
    },
    /// The answer to a [`Message::PreVote`] for the term `asked`.
    PreVoteReply {
        term: Term,
        asked: Term,
        granted: bool,
    },
    Vote {
        term: Term,
        last: LogPosition,
    },
    VoteReply {
        term: Term,
        granted: bool,
    },
    /// To one who shall lead: begin an election now.
    TimeoutNow {
        term: Term,
    },
    /// To one who asks for votes or is spoken to no more: you are no member.
    Removed {
        term: Term,
    },
    Append {
        term: Term,
        commit: LogIndex,
        prev: LogPosition,
        entries: Vec<Entry>,
    },
    /// `commit` is what the follower knows to be committed.
    AppendReply {
        term: Term,
        last: LogPosition,
        commit: LogIndex,
    },
    /// The leader lives. The highest `round` answered by a majority proves that it led after that round had begun.
    /// `commit` is how far the leader knows to be committed, once it is sure that nobody has answered for more.
    Heartbeat {
        term: Term,
        round: u64,
        commit: Option<LogIndex>,
    },
    HeartbeatReply {
        term: Term,
        round: u64,
    },
    /// To the leader: somebody asks here.
    Forward {
        id: u64,
        request: Vec<u8>,
    },
    /// The answer to a forwarded request.
    Forwarded {
        id: u64,
        response: Vec<u8>,
    },
    /// Bytes of the snapshot at `last`, from `offset` of `total`.
    Snapshot {
        term: Term,
        last: LogPosition,
        total: u64,
        offset: u64,
        part: Vec<u8>,
    },
    /// So many bytes of the snapshot at `last` have come; all of them: it is installed.
    SnapshotReply {
        term: Term,
        last: LogPosition,
        received: u64,
    },
}

impl Message {
    /// The path it belongs under.
    #[must_use]
    pub const fn path(&self) -> Path {
        match self {
            Self::Hello { .. }
            | Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::Vote { .. }
            | Self::VoteReply { .. }
            | Self::TimeoutNow { .. }
            | Self::Removed { .. } => Path::RaftVote,
            Self::Append { .. }
            | Self::AppendReply { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::Forward { .. }
            | Self::Forwarded { .. } => Path::RaftAppend,
            Self::Snapshot { .. } | Self::SnapshotReply { .. } => Path::RaftSnapshot,
        }
    }

    /// The sender's term, where it says one.
    #[must_use]
    pub const fn term(&self) -> Option<Term> {
        match self {
            Self::Hello { .. } | Self::PreVote { .. } | Self::Forward { .. } | Self::Forwarded { .. } => None,
            Self::PreVoteReply { term, .. }
            | Self::Vote { term, .. }
            | Self::VoteReply { term, .. }
            | Self::TimeoutNow { term }
            | Self::Removed { term }
            | Self::Append { term, .. }
            | Self::AppendReply { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::Snapshot { term, .. }
            | Self::SnapshotReply { term, .. } => Some(*term),
        }
    }

    /// Appends its bytes: no more than the link carries, so long as [`ENTRIES_MAX_BYTES`] and the other bounds were kept.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { cluster, uuid, address } => {
                out.put_u8(0);
                out.put_option(*cluster, |out, cluster| out.put_array(cluster.bytes()));
                out.put_array(uuid.bytes());
                out.put_bytes(address.as_bytes());
            }
            Self::PreVote { term, last } => write_position(out, 1, *term, *last),
            Self::PreVoteReply { term, asked, granted } => {
                write_term(out, 2, *term);
                out.put_u64(asked.get());
                out.put_bool(*granted);
            }
            Self::Vote { term, last } => write_position(out, 3, *term, *last),
            Self::VoteReply { term, granted } => {
                write_term(out, 4, *term);
                out.put_bool(*granted);
            }
            Self::TimeoutNow { term } => write_term(out, 5, *term),
            Self::Removed { term } => write_term(out, 6, *term),
            Self::Append { term, commit, prev, entries } => {
                write_position(out, 7, *term, *prev);
                out.put_u64(commit.get());
                out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
                for entry in entries {
                    entry.write(out);
                }
            }
            Self::AppendReply { term, last, commit } => {
                write_position(out, 8, *term, *last);
                out.put_u64(commit.get());
            }
            Self::Heartbeat { term, round, commit } => {
                write_term(out, 9, *term);
                out.put_u64(*round);
                out.put_option(*commit, |out, commit| out.put_u64(commit.get()));
            }
            Self::HeartbeatReply { term, round } => {
                write_term(out, 10, *term);
                out.put_u64(*round);
            }
            Self::Forward { id, request } => {
                out.put_u8(11);
                out.put_u64(*id);
                out.put_bytes(request);
            }
            Self::Forwarded { id, response } => {
                out.put_u8(12);
                out.put_u64(*id);
                out.put_bytes(response);
            }
            Self::Snapshot { term, last, total, offset, part } => {
                write_position(out, 13, *term, *last);
                out.put_u64(*total);
                out.put_u64(*offset);
                out.put_bytes(part);
            }
            Self::SnapshotReply { term, last, received } => {
                write_position(out, 14, *term, *last);
                out.put_u64(*received);
            }
        }
    }

    /// Reads a message, which is all of `bytes`.
    ///
    /// # Errors
    ///
    /// It is cut, something is left over, something is out of bounds, or its parts do not fit together.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            0 => {
                let cluster = reader.option(|reader| reader.array().map(Uuid::from_bytes))?;
                let uuid = Uuid::from_bytes(reader.array()?);
                let address = reader.str()?.to_owned();
                if address.len() > ADDRESS_MAX_BYTES {
                    return Err(Malformed);
                }
                Self::Hello { cluster, uuid, address }
            }
            1 => Self::PreVote { term: read_term(&mut reader)?, last: read_position(&mut reader)? },
            2 => Self::PreVoteReply {
                term: read_term(&mut reader)?,
                asked: read_term(&mut reader)?,
                granted: reader.bool()?,
            },
            3 => Self::Vote { term: read_term(&mut reader)?, last: read_position(&mut reader)? },
            4 => Self::VoteReply { term: read_term(&mut reader)?, granted: reader.bool()? },
            5 => Self::TimeoutNow { term: read_term(&mut reader)? },
            6 => Self::Removed { term: read_term(&mut reader)? },
            7 => read_append(&mut reader)?,
            8 => Self::AppendReply {
                term: read_term(&mut reader)?,
                last: read_position(&mut reader)?,
                commit: read_index(&mut reader)?,
            },
            9 => Self::Heartbeat {
                term: read_term(&mut reader)?,
                round: reader.u64()?,
                commit: reader.option(|reader| reader.u64().map(LogIndex::new))?,
            },
            10 => Self::HeartbeatReply { term: read_term(&mut reader)?, round: reader.u64()? },
            11 => Self::Forward { id: reader.u64()?, request: reader.bytes()?.to_vec() },
            12 => Self::Forwarded { id: reader.u64()?, response: reader.bytes()?.to_vec() },
            13 => {
                let (term, last) = (read_term(&mut reader)?, read_position(&mut reader)?);
                let (total, offset, part) = (reader.u64()?, reader.u64()?, reader.bytes()?.to_vec());
                let is_within = offset.checked_add(part.len() as u64).is_some_and(|end| end <= total);
                if !is_within || part.len() > PART_MAX_BYTES || last.term > term {
                    return Err(Malformed);
                }
                Self::Snapshot { term, last, total, offset, part }
            }
            14 => Self::SnapshotReply {
                term: read_term(&mut reader)?,
                last: read_position(&mut reader)?,
                received: reader.u64()?,
            },
            _ => return Err(Malformed),
        };
        reader.finish()?;
        Ok(message)
    }
}

/// Terms only grow along the entries, and none is greater than the leader's: noraft takes that for granted.
fn read_append(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let (term, prev, commit) = (read_term(reader)?, read_position(reader)?, read_index(reader)?);
    let count = reader.u32()? as usize;
    if count > ENTRIES_MAX || prev.term > term {
        return Err(Malformed);
    }
    let mut entries = Vec::with_capacity(count);
    let mut newest = prev.term;
    for _ in 0..count {
        let entry = Entry::read(reader)?;
        if let Entry::Term(begun) = entry {
            if begun <= newest || begun > term {
                return Err(Malformed);
            }
            newest = begun;
        }
        entries.push(entry);
    }
    Ok(Message::Append { term, commit, prev, entries })
}

fn write_term(out: &mut Vec<u8>, kind: u8, term: Term) {
    out.put_u8(kind);
    out.put_u64(term.get());
}

fn write_position(out: &mut Vec<u8>, kind: u8, term: Term, position: LogPosition) {
    write_term(out, kind, term);
    out.put_u64(position.term.get());
    out.put_u64(position.index.get());
}

fn read_term(reader: &mut Reader<'_>) -> Result<Term, Malformed> {
    let term = reader.u64()?;
    if term > TERM_MAX { Err(Malformed) } else { Ok(Term::new(term)) }
}

fn read_index(reader: &mut Reader<'_>) -> Result<LogIndex, Malformed> {
    let index = reader.u64()?;
    if index > INDEX_MAX { Err(Malformed) } else { Ok(LogIndex::new(index)) }
}

/// Reads a position in the log.
pub(super) fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, Malformed> {
    Ok(LogPosition { term: read_term(reader)?, index: read_index(reader)? })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::raft::member::Membership;

    fn examples() -> Vec<Message> {
        let term = Term::new(7);
        let last = LogPosition { term: Term::new(6), index: LogIndex::new(99) };
        let uuid = Uuid::from_random([5; 16]);
        let entries = vec![
            Entry::Term(term),
            Entry::Config(Arc::new(Membership::default())),
            Entry::Command(b"set k v"[..].into()),
        ];
        vec![
            Message::Hello { cluster: Some(uuid), uuid, address: "127.0.0.1:8080".to_owned() },
            Message::Hello { cluster: None, uuid, address: "127.0.0.1:8080".to_owned() },
            Message::PreVote { term, last },
            Message::PreVoteReply { term, asked: term, granted: true },
            Message::Vote { term, last },
            Message::VoteReply { term, granted: false },
            Message::TimeoutNow { term },
            Message::Removed { term },
            Message::Append { term, commit: LogIndex::new(98), prev: last, entries },
            Message::AppendReply { term, last, commit: LogIndex::new(98) },
            Message::Heartbeat { term, round: 3, commit: None },
            Message::Heartbeat { term, round: 3, commit: Some(LogIndex::new(7)) },
            Message::HeartbeatReply { term, round: 3 },
            Message::Forward { id: 1, request: b"request".to_vec() },
            Message::Forwarded { id: 1, response: b"response".to_vec() },
            Message::Snapshot { term, last, total: 10, offset: 3, part: b"part".to_vec() },
            Message::SnapshotReply { term, last, received: 7 },
        ]
    }

    /// A new kind does not compile until it has a place here, and fails below until it has an example.
    const fn place(message: &Message) -> usize {
        match message {
            Message::Hello { .. } => 0,
            Message::PreVote { .. } => 1,
            Message::PreVoteReply { .. } => 2,
            Message::Vote { .. } => 3,
            Message::VoteReply { .. } => 4,
            Message::TimeoutNow { .. } => 5,
            Message::Removed { .. } => 6,
            Message::Append { .. } => 7,
            Message::AppendReply { .. } => 8,
            Message::Heartbeat { .. } => 9,
            Message::HeartbeatReply { .. } => 10,
            Message::Forward { .. } => 11,
            Message::Forwarded { .. } => 12,
            Message::Snapshot { .. } => 13,
            Message::SnapshotReply { .. } => 14,
        }
    }

    #[test]
    fn there_is_an_example_of_every_message() {
        let mut places: Vec<usize> = examples().iter().map(place).collect();
        places.dedup();
        assert!(places.into_iter().eq(0..15));
    }

    #[test]
    fn every_message_is_read_as_it_is_written_and_never_cut_or_longer() {
        for message in examples() {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(Message::read(&bytes), Ok(message.clone()));
            for length in 0..bytes.len() {
                assert_eq!(Message::read(&bytes[..length]), Err(Malformed), "{message:?} cut at {length}");
            }
            bytes.push(0);
            assert_eq!(Message::read(&bytes), Err(Malformed), "{message:?} and a byte more");
        }
    }

    #[test]
    fn no_change_of_one_byte_is_taken_for_something_out_of_bounds() {
        for message in examples() {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            for at in 0..bytes.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    // What is read can be written again, so it is within all bounds; anything else is refused.
                    if let Ok(message) = Message::read(&changed) {
                        let mut again = Vec::new();
                        message.write(&mut again);
                        assert_eq!(again, changed);
                    }
                }
            }
        }
    }

    #[test]
    fn terms_that_do_not_grow_are_refused() {
        let prev = LogPosition { term: Term::new(3), index: LogIndex::new(5) };
        for (term, begun) in [(4, 3), (4, 5), (2, 2)] {
            let entries = vec![Entry::Term(Term::new(begun))];
            let message = Message::Append { term: Term::new(term), commit: LogIndex::ZERO, prev, entries };
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(Message::read(&bytes), Err(Malformed));
        }
    }
}

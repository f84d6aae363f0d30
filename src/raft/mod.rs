//! One node of a Raft cluster, as pure code: told what happened and what time it is, it says what to save, what to send, and which entries
//! are committed. [noraft] owns elections, the agreement of logs and joint consensus; this owns what noraft leaves to its users:
//!
//! - what is saved before what is said ([`node`]): a reply or a vote leaves when everything before it is on disk, and an entry counts as
//!   committed here only when it is on the own disk too;
//! - pre-vote, the leader's check that a majority hears it, leader transfer, and reads that are true ([`node`], [`lead`]);
//! - the flow of entries and snapshots to each follower ([`lead`]);
//! - members with their addresses, and the contents of the log ([`member`], [`entry`]), and the messages ([`message`]).
//!
//! What the commands mean is the state machine's business ([`crate::kv`]); where bytes are saved and how messages travel is the shell's.
//!
//! # What leaves before what is on disk
//!
//! Appended entries may leave for the followers while they are on their way to the own disk, which saves the leader's sync on the way of a
//! write. noraft counts the leader's own copy at once, so [`node::Node::commit`] is never beyond what is on the own disk, and everything that
//! depends on commitment asks there: what is applied, what followers are told, what reads wait for. A configuration is the exception: it
//! leaves only when it is on the own disk, because noraft itself goes on to the next configuration when one is committed.

pub mod entry;
pub mod lead;
pub mod member;
pub mod message;
pub mod node;

use std::time::Duration;

pub use noraft::{LogIndex, LogPosition, NodeId, Term};

/// A leader says so often that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// Followers are told how far is committed with the next entries, or so long after.
pub const COMMIT_TOLD_AFTER: Duration = Duration::from_millis(2);
/// A follower that hears nothing for a random time between these asks for votes.
pub const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// The longest such time; a leader that hears no majority for so long leads no more.
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(400);
/// What was sent and not answered for so long is sent again.
pub const RESEND_AFTER: Duration = Duration::from_millis(500);
/// A leader that is to hand over waits so long for its successor to catch up and take over.
pub const TRANSFER_TIME_MAX: Duration = Duration::from_secs(1);
/// No term and no index comes near this: sums of them cannot overflow.
pub const TERM_MAX: u64 = 1 << 62;
/// As [`TERM_MAX`].
pub const INDEX_MAX: u64 = 1 << 62;

const _: () = {
    assert!(HEARTBEAT_INTERVAL.as_millis() * 2 <= ELECTION_TIMEOUT_MIN.as_millis());
    assert!(ELECTION_TIMEOUT_MIN.as_millis() < ELECTION_TIMEOUT_MAX.as_millis());
};

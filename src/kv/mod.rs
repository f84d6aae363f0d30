//! The cluster map: keys and values that every node of a cluster holds alike, and what may be asked of them. Pure code, as the node of the
//! session store is.
//!
//! | | |
//! |---|---|
//! | [`map`] | the keys and values, the answers to repeated writes, the history for watches |
//! | [`command`] | what a write is, as JSON and as bytes in the log |
//! | [`image`] | the whole map as bytes: snapshots and backups |
//! | [`ask`] | what can be asked over HTTP, and the answers |
//! | [`replica`] | one node's copy: requests, forwarding, waiting, membership, snapshots, around [`crate::raft`] |

pub mod ask;
pub mod command;
pub mod image;
pub mod map;
pub mod replica;

/// Bytes of a key at most; at least one.
pub const KEY_MAX_BYTES: usize = 512;
/// Bytes of a value at most.
pub const VALUE_MAX_BYTES: usize = 64 * 1024;
/// Changes in one batch at most.
pub const BATCH_MAX: usize = 500;
/// Bytes of an `Idempotency-Key` at most.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 128;

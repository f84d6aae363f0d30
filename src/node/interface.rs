//! What a node is told and what it says: its inputs, its outbox, the events for an operator, its settings and its status. No state
//! and nothing that acts on it.

use super::peering::PeerConfig;
use super::request::{ConnectionId, Request, RequestId};
use super::response::Response;
use crate::peer::message::Message;
use crate::time::Instant;

/// What can happen to a node.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is handed over at once and never kept; a box would cost an allocation a request"
)]
pub enum Input<'a> {
    /// A client asks.
    Request {
        /// For the answer.
        id: RequestId,
        /// What.
        request: Request<'a>,
    },
    /// A client's connection ended: its waiting requests leave their lines unanswered, its connection-scoped locks end.
    ConnectionClosed {
        /// Which.
        connection: ConnectionId,
    },
    /// The time `next_timeout` named has come. What waits on the peer's connection is to be told before.
    Timeout,
    /// Everything that happened together has been told: what it comes to is sent to the peer.
    EndOfTurn,
    /// The connection to the peer that this node dialled is up, and both sides have proved who they are.
    PeerUp {
        /// Which life of the peer it is.
        incarnation: u64,
    },
    /// That connection has ended.
    PeerDown,
    /// The peer's port refused a connection.
    PeerRefused,
    /// The peer says something, on the connection that it dialled.
    PeerMessage {
        /// Which life of the peer said it.
        incarnation: u64,
        /// What.
        message: Message<'a>,
    },
    /// The operator wants this node to be primary.
    Promote {
        /// For the answer.
        id: RequestId,
        /// Without asking the other node.
        force: bool,
    },
}

/// What a node is to its site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It does not have the data yet, and asks its peer.
    Joining,
    /// It takes every change.
    #[default]
    Primary,
    /// It follows, serves reads, and takes over.
    Secondary,
}

/// Where the node says what to do.
pub trait Outbox {
    /// Answers a request. Each is answered once at most, and every one that is not abandoned; a long prefix delete answers even
    /// if its connection has gone.
    fn respond(&mut self, id: RequestId, response: Response<'_>);

    /// Sends a message to the peer on the connection this node dialled; nowhere if it is down.
    fn send_peer(&mut self, message: Message<'_>);

    /// Ends both connections with the peer, which are then dialled anew.
    fn close_peer(&mut self, why: PeerMisbehaved);

    /// Something an operator wants to know.
    fn event(&mut self, event: Event);
}

/// What a peer did that no peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMisbehaved {
    /// It acknowledged what was never sent.
    AcknowledgedTheFuture,
    /// Its changes do not fit what it sent before.
    ImpossibleRecord,
    /// It passed on two requests under one number.
    RepeatedRequest,
}

/// Something an operator wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node is now something else.
    RoleChanged {
        /// What.
        role: Role,
    },
    /// It became primary.
    Promoted {
        /// In which epoch.
        epoch: u32,
        /// As the end of a sentence that begins with "promoted:".
        why: &'static str,
    },
    /// It was primary, and heard of a newer one.
    SteppedDown {
        /// Of which epoch it was.
        old_epoch: u32,
        /// Of which epoch the other is.
        new_epoch: u32,
    },
    /// Changes it had made alone are dropped.
    ChangesLost {
        /// How many.
        count: u64,
    },
    /// The connection to the peer has ended.
    PeerLinkDown,
    /// The peer's process is another one than before.
    PeerRestarted,
    /// A snapshot for the peer begins.
    SnapshotBegun,
    /// The peer has everything.
    FollowerInStep,
    /// The peer does not follow any more.
    FollowerLost,
    /// The peer is too far behind, and will need a snapshot.
    BacklogOverflow,
    /// The other node was handed this epoch's end.
    HandedOver {
        /// The epoch that has ended.
        epoch: u32,
    },
    /// The other node did not take over in time.
    HandoverAborted,
}

/// Randomness: the operating system's, or a seed's.
pub trait Entropy {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The limits and defaults of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Those that can be changed while it runs.
    pub limits: Limits,
    /// How long a lock is held unless asked otherwise.
    pub lock_timeout_ms: u64,
    /// Time to live of a store created without one.
    pub default_ttl_ms: u64,
    /// The other node, if there is one.
    pub peer: Option<PeerConfig>,
}

/// The limits that can be changed while a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all stores; 0 = none.
    pub memory_limit_bytes: u64,
    /// Bytes of one customer's stores; 0 = none.
    pub customer_memory_quota_bytes: u64,
    /// Requests a second and customer; 0 = no limit.
    pub rate_limit_per_second: u32,
    /// Requests at once and customer.
    pub burst_size: u32,
    /// Tombstones a customer; 0 = no limit.
    pub tombstone_customer_limit: u64,
    /// Tombstones altogether; 0 = no limit.
    pub tombstone_global_limit: u64,
}

impl Default for Limits {
    /// The defaults of the flags (section 11 of the specification).
    fn default() -> Self {
        Self {
            memory_limit_bytes: 0,
            customer_memory_quota_bytes: 0,
            rate_limit_per_second: 100,
            burst_size: 200,
            tombstone_customer_limit: 0,
            tombstone_global_limit: 0,
        }
    }
}

impl Default for NodeConfig {
    /// The defaults of the flags (section 11 of the specification).
    fn default() -> Self {
        Self { limits: Limits::default(), lock_timeout_ms: 500, default_ttl_ms: 1_209_600_000, peer: None }
    }
}

/// What a node says of itself. Counts that start at 0 and only grow end in `_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// Live stores, expired ones not yet removed included.
    pub stores: u64,
    /// Bytes on the books.
    pub memory_bytes: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Customers on the books.
    pub customers: u64,
    /// Locks held.
    pub locks: u64,
    /// Requests that wait for a lock.
    pub waiters: u64,
    /// Names.
    pub names: u64,
    /// Stores removed at their expiry.
    pub expired_total: u64,
    /// Locks that ran into their time-out.
    pub lock_expirations_total: u64,
    /// Requests refused by the rate limit.
    pub rate_limited_total: u64,
    /// Requests refused for want of memory, capacity or quota.
    pub capacity_refused_total: u64,
    /// What the node is.
    pub role: Role,
    /// The epoch it is in; 0 before it has heard of one.
    pub epoch: u32,
    /// Changes made or applied.
    pub changes: u64,
    /// Changes the peer has not acknowledged.
    pub unacknowledged: u64,
    /// The same in bytes.
    pub backlog_bytes: u64,
    /// When the peer was last heard; nothing if it never was.
    pub peer_heard_at: Option<Instant>,
    /// The connection to the peer is up.
    pub is_peer_up: bool,
    /// The peer follows and has everything it acknowledged.
    pub is_peer_in_step: bool,
    /// Changes of this node that were dropped after it had been primary alone.
    pub lost_changes_total: u64,
    /// Times that clients were made to wait for the peer to come on.
    pub pace_waits_total: u64,
}

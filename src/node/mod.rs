//! The state machine: stores, locks, counters, names, tombstones, limits. Pure: it knows no socket, clock, file, thread or
//! environment. It is told what happened and what time it is, and says what to do.

pub mod request;
pub mod response;

use request::{ConnectionId, Request, RequestId};
use response::Response;

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
    /// The time `next_timeout` named has come.
    Timeout,
}

/// Where the node says what to do.
pub trait Outbox {
    /// Answers a request; every request that is not abandoned is answered exactly once.
    fn respond(&mut self, id: RequestId, response: Response<'_>);
}

/// Randomness: the operating system's, or a seed's.
pub trait Entropy {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The limits and defaults of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
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
    /// How long a lock is held unless asked otherwise.
    pub lock_timeout_ms: u64,
    /// Time to live of a store created without one.
    pub default_ttl_ms: u64,
}

impl Default for NodeConfig {
    /// The defaults of the flags (section 11 of the specification).
    fn default() -> Self {
        Self {
            memory_limit_bytes: 0,
            customer_memory_quota_bytes: 0,
            rate_limit_per_second: 100,
            burst_size: 200,
            tombstone_customer_limit: 0,
            tombstone_global_limit: 0,
            lock_timeout_ms: 500,
            default_ttl_ms: 1_209_600_000,
        }
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
}

//! What the node answers. Answers borrow the store's bytes, so that the shell copies them once, into the connection's output.

use super::Role;
use super::request::{Counter, Etag, LockId, StoreKey};
use crate::json::CounterBodyMistake;

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    /// What was asked for, or why not.
    pub result: Result<Answer<'a>, Refusal>,
    /// On every answer about one store that exists.
    pub facts: Option<StoreFacts>,
    /// What the node was that answered.
    pub by: Role,
    /// A change made without a lease: it may be lost when the other node has been primary too.
    pub degraded: bool,
}

impl<'a> Response<'a> {
    /// An answer of a primary, with nothing to warn of.
    #[must_use]
    pub const fn new(result: Result<Answer<'a>, Refusal>, facts: Option<StoreFacts>) -> Self {
        Self { result, facts, by: Role::Primary, degraded: false }
    }
}

/// What is said of a store beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// The entity tag after the operation.
    pub etag: Etag,
    /// Time to live left, in milliseconds.
    pub ttl_left_ms: u64,
    /// Whether somebody holds the lock; `None` where it is not said (counters, changes).
    pub locked: Option<bool>,
}

/// What one step did to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTaken {
    /// A bound was met: the step was clamped or not taken.
    pub bounded: bool,
    /// What was really added.
    pub applied: i128,
    /// The counter was made by this step.
    pub created: bool,
}

/// One store of a read of many.
#[derive(Clone, Copy, Debug)]
pub struct StoreView<'a> {
    /// The name it was asked by.
    pub name: &'a str,
    /// Its content.
    pub content: super::request::Content<'a>,
    /// Tag and time to live.
    pub facts: StoreFacts,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// Done, nothing to say.
    Done,
    /// The id of a store, to be sealed for its customer.
    StoreId {
        /// Whose it is.
        customer: &'a str,
        /// Which.
        key: StoreKey,
        /// It was made by this request.
        created: bool,
    },
    /// A blob's bytes.
    Blob(&'a [u8]),
    /// A counter; `step` for increments and decrements.
    Counter {
        /// Value and bounds.
        counter: Counter,
        /// What the step did.
        step: Option<StepTaken>,
    },
    /// A lock and the blob under it.
    Locked {
        /// The lock.
        lock: LockId,
        /// The bytes under it.
        body: &'a [u8],
        /// The store was made by this request.
        created: bool,
    },
    /// A named store lives.
    Authorized,
    /// A page of names.
    Names {
        /// In byte order.
        names: Vec<&'a str>,
        /// There are more behind the last one.
        more: bool,
    },
    /// How many stores were deleted.
    Deleted {
        /// The number.
        count: u64,
    },
    /// The stores of a read of many, in the order asked.
    Stores(Vec<Option<StoreView<'a>>>),
}

/// Why not. Each has one status and one code (section 10 of the specification), which the API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such store or name.
    NotFound,
    /// `auth`: no such store lives (`401`, no code).
    NotAuthorized,
    /// Somebody holds the lock; free again in about `retry_after_ms`.
    StoreLocked {
        /// Milliseconds until the hold ends.
        retry_after_ms: u64,
    },
    /// The lock named is not the one held.
    LockMismatch,
    /// After a failover: nobody knows who holds it.
    LockStateUnknown {
        /// Milliseconds until it is known.
        retry_after_ms: u64,
    },
    /// The name is in use.
    NameExists,
    /// The store's time is over.
    StoreExpired,
    /// A precondition does not hold.
    VersionMismatch,
    /// The idempotency key was used for another request.
    IdempotencyMismatch,
    /// The first request with this idempotency key has no answer yet (`409 StoreLocked`: it waits for a lock).
    IdempotencyInProgress,
    /// A blob operation on a counter, or the other way round.
    TypeMismatch {
        /// What was needed: `blob` or `counter`.
        needed: &'static str,
    },
    /// The value lies outside the bounds.
    ValueOutOfBounds,
    /// `min` is greater than `max`.
    InvalidBounds,
    /// The body of a counter's update is not `{"value":N}` (`400`, no code).
    BadCounterBody(CounterBodyMistake),
    /// The value would leave 64 bits.
    Overflow,
    /// The customer's bucket is empty.
    RateLimited {
        /// Milliseconds until the next token.
        retry_after_ms: u64,
    },
    /// Too many tombstones.
    TombstoneLimitExceeded,
    /// The node's memory limit.
    CapacityExceeded,
    /// The customer's quota, or the cap on the number of customers.
    CustomerQuotaExceeded,
    /// The change cannot be handed on, or nobody knows whether it was made: ask again.
    LeaderChanged,
    /// The stores asked for at once are too large for one answer (`413`, no code).
    AnswerTooLarge,
    /// The node does not have the data yet.
    StoreUnavailable,
    /// The other node does not have it.
    NotReplicated {
        /// The change was made here, and may survive.
        applied: bool,
    },
    /// Too many requests wait for this lock, or for locks altogether (`503 StoreUnavailable`).
    TooManyWaiting,
}

impl Refusal {
    /// The same request may succeed a little later.
    #[must_use]
    pub const fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::StoreLocked { .. }
            | Self::LockStateUnknown { .. }
            | Self::IdempotencyInProgress
            | Self::RateLimited { .. }
            | Self::TombstoneLimitExceeded
            | Self::CapacityExceeded
            | Self::CustomerQuotaExceeded
            | Self::LeaderChanged
            | Self::StoreUnavailable
            | Self::NotReplicated { .. }
            | Self::TooManyWaiting => true,
            Self::NotFound
            | Self::NotAuthorized
            | Self::LockMismatch
            | Self::NameExists
            | Self::StoreExpired
            | Self::VersionMismatch
            | Self::IdempotencyMismatch
            | Self::TypeMismatch { .. }
            | Self::ValueOutOfBounds
            | Self::InvalidBounds
            | Self::BadCounterBody(_)
            | Self::AnswerTooLarge
            | Self::Overflow => false,
        }
    }
}

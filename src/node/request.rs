//! What the node can be asked: one typed request per endpoint, already checked for form.
//!
//! Form (header syntax, limits of values, percent-encoding, JSON) is the API's business, and so is opening store ids; meaning
//! (does it exist, is it locked, is there room) is the node's. Requests borrow from the connection's input buffer.

use std::borrow::Cow;

/// The 20 random bytes that are a store's identity: 8 of `SHARD`, 12 of `UNIQUE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey(pub [u8; 20]);

/// The 16 random bytes of a lock id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockId(pub [u8; 16]);

impl LockId {
    /// What a text that cannot be a lock id is read as. It matches nothing, for no lock ever gets it: 16 random bytes are all
    /// zero once in 2^128 draws.
    pub const FOREIGN: Self = Self([0; 16]);
}

/// A request that waits for its answer. The shell chooses it; unique among those not yet answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A client's connection, for locks that end with it. The shell chooses it; never reused while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One request of a customer.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The customer's id: 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub customer: &'a str,
    /// `If-Match` and `If-None-Match`.
    pub condition: Condition,
    /// `BigBunny-Durability: replicated`: answer only when the other node has it.
    pub durable: bool,
    /// `BigBunny-Read: primary`: not from a secondary.
    pub from_primary: bool,
    /// `Idempotency-Key` and what it stands for; only on operations that change something.
    pub idempotency: Option<Idempotency<'a>>,
    /// What to do.
    pub operation: Operation<'a>,
}

impl<'a> Request<'a> {
    /// One that says nothing beside its operation.
    #[must_use]
    pub fn new(connection: ConnectionId, customer: &'a str, operation: Operation<'a>) -> Self {
        Self {
            connection,
            customer,
            condition: Condition::default(),
            durable: false,
            from_primary: false,
            idempotency: None,
            operation,
        }
    }
}

/// An entity tag: the epoch in which the content last changed, and the store's version. Shown as `"E.V"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Etag {
    /// The epoch of the last change of content.
    pub epoch: u32,
    /// Starts at 1, grows by one with every change of content.
    pub version: u64,
}

/// What `If-Match` asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// The header is absent.
    #[default]
    Unset,
    /// `*`: there is one.
    Any,
    /// This very content.
    Tag(Etag),
    /// A well-formed tag that is none of ours, and so matches nothing.
    Foreign,
}

/// The preconditions of a request (RFC 9110 section 13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match`.
    pub if_match: IfMatch,
    /// `If-None-Match: *`: there is none.
    pub if_none_match_any: bool,
}

/// An idempotency key and a digest of the request it came with.
#[derive(Clone, Copy, Debug)]
pub struct Idempotency<'a> {
    /// 1 to 128 printable ASCII characters.
    pub key: &'a str,
    /// The first 16 bytes of SHA-256 over method, target, relevant headers and body: the same for a true repeat on either node.
    pub fingerprint: [u8; 16],
}

/// Which store: by its id, or by its name.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// By id, already opened.
    Key(StoreKey),
    /// By name: 1 to 256 bytes of UTF-8, percent-decoded, no control characters, neither `.` nor `..`.
    Name(Cow<'a, str>),
}

/// A counter's value and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The value.
    pub value: i64,
    /// The lower bound, fixed for life.
    pub min: Option<i64>,
    /// The upper bound, fixed for life.
    pub max: Option<i64>,
}

/// What a store is made of.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Bytes, no longer than `--max-store-size`.
    Blob(&'a [u8]),
    /// A counter; its bounds are checked by the node.
    Counter(Counter),
}

/// Moves the expiry of a store that is read by name.
#[derive(Clone, Copy, Debug)]
pub struct TouchOnRead {
    /// The new time to live, in milliseconds.
    pub ttl_ms: u64,
    /// Only if less than this is left, in milliseconds.
    pub if_below_ms: Option<u64>,
}

/// How a counter is made by an increment by name that finds none.
#[derive(Clone, Copy, Debug)]
pub struct CounterToMake {
    /// Value before the step, and bounds.
    pub counter: Counter,
    /// Time to live from the body, in milliseconds; else the header's, else the default.
    pub ttl_ms: Option<u64>,
}

/// What an operation does.
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    /// Makes a store without a name.
    Create {
        /// What is in it.
        content: Content<'a>,
        /// Time to live in milliseconds; the node's default if absent.
        ttl_ms: Option<u64>,
    },
    /// Makes a store with a name, which must be free unless `reuse`.
    CreateNamed {
        /// The name.
        name: Cow<'a, str>,
        /// What is in it.
        content: Content<'a>,
        /// Time to live in milliseconds.
        ttl_ms: Option<u64>,
        /// `BigBunny-Reuse-If-Exists`: answer with the id of the one that is there.
        reuse: bool,
    },
    /// `PUT` by name: creates or replaces, kind included. Waits for a lock up to `wait_ms`.
    Put {
        /// The name.
        name: Cow<'a, str>,
        /// The new content.
        content: Content<'a>,
        /// New time to live; absent: default for a new one, unchanged for an old one.
        ttl_ms: Option<u64>,
        /// `BigBunny-Lock-Wait`, 0 if absent.
        wait_ms: u64,
    },
    /// The id of a name.
    Lookup {
        /// The name.
        name: Cow<'a, str>,
    },
    /// Reads a blob or counter.
    Read {
        /// Which.
        target: Target<'a>,
        /// `?touch=`, by name only.
        touch: Option<TouchOnRead>,
    },
    /// Says whether a named store lives.
    Authorize {
        /// The name; `None` if the path cannot be a name, which is answered as if it did not exist.
        name: Option<Cow<'a, str>>,
        /// `?touch=`.
        touch: Option<TouchOnRead>,
    },
    /// By id: a new blob, or `{"value":N}` for a counter; the kind of the store decides how the body is read.
    Update {
        /// Which.
        key: StoreKey,
        /// The raw body.
        body: &'a [u8],
        /// New time to live; absent: unchanged.
        ttl_ms: Option<u64>,
        /// `BigBunny-Lock-Wait`, 0 if absent.
        wait_ms: u64,
    },
    /// Takes the lock of a blob and reads it, or, with the holder's own lock, holds it for longer.
    BeginModify {
        /// Which.
        target: Target<'a>,
        /// `BigBunny-Lock-Wait`, 0 if absent.
        wait_ms: u64,
        /// `BigBunny-Lock-Hold`; `--lock-timeout` if absent.
        hold_ms: Option<u64>,
        /// `BigBunny-Lock-Scope: connection`.
        connection_scope: bool,
        /// `BigBunny-Lock-ID`: renew this one.
        renew: Option<LockId>,
        /// `BigBunny-Create-If-Missing`: by name, make an empty blob where there is none.
        create_if_missing: bool,
        /// Time to live of what `create_if_missing` makes.
        ttl_ms: Option<u64>,
    },
    /// Writes under a lock and releases it.
    CompleteModify {
        /// Which.
        target: Target<'a>,
        /// The lock.
        lock: LockId,
        /// The new blob.
        body: &'a [u8],
        /// New time to live; absent: unchanged.
        ttl_ms: Option<u64>,
    },
    /// Releases a lock without writing.
    CancelModify {
        /// Which.
        target: Target<'a>,
        /// The lock.
        lock: LockId,
    },
    /// Removes a store; one that is not there is fine.
    Delete {
        /// Which.
        target: Target<'a>,
    },
    /// Adds to a counter; by name, makes it first if it is missing.
    Increment {
        /// Which.
        target: Target<'a>,
        /// What to add: `delta`, or less `delta` for a decrement. Within ±(2^63).
        delta: i128,
        /// `"bound":"reject"`: a step that would pass a bound is not taken, instead of clamped.
        reject_at_bound: bool,
        /// By name: what to make where there is none.
        make: Option<CounterToMake>,
        /// The header's time to live; absent: unchanged (or the default, for one just made).
        ttl_ms: Option<u64>,
    },
    /// Moves the expiry alone. Never creates.
    Touch {
        /// Which.
        target: Target<'a>,
        /// The new time to live, in milliseconds.
        ttl_ms: u64,
    },
    /// One page of names in byte order.
    List {
        /// Only those that begin with it; may be empty.
        prefix: Cow<'a, str>,
        /// Only those behind it, in byte order.
        after: Option<Cow<'a, str>>,
        /// 1 to 1000.
        limit: usize,
    },
    /// Deletes every named store whose name begins so; empty means all of the customer's named stores.
    DeletePrefix {
        /// The prefix.
        prefix: Cow<'a, str>,
    },
    /// Reads up to 100 by name.
    ReadMany {
        /// The names, in the order of the answer; one may stand twice.
        names: Vec<Cow<'a, str>>,
    },
    /// Deletes up to 100 by name.
    DeleteMany {
        /// The names; one may stand twice.
        names: Vec<Cow<'a, str>>,
    },
    /// Gives a store another name in one step.
    Rename {
        /// The name it has.
        name: Cow<'a, str>,
        /// The name it gets.
        to: Cow<'a, str>,
    },
}

impl Operation<'_> {
    /// The one store it is about, by key or by name; neither if it is about none that can exist, or about many.
    #[must_use]
    pub fn subject(&self) -> (Option<&StoreKey>, Option<&str>) {
        match self {
            Self::Read { target, .. }
            | Self::BeginModify { target, .. }
            | Self::CompleteModify { target, .. }
            | Self::CancelModify { target, .. }
            | Self::Delete { target }
            | Self::Increment { target, .. }
            | Self::Touch { target, .. } => match target {
                Target::Key(key) => (Some(key), None),
                Target::Name(name) => (None, Some(name)),
            },
            Self::Update { key, .. } => (Some(key), None),
            Self::CreateNamed { name, .. }
            | Self::Put { name, .. }
            | Self::Lookup { name }
            | Self::Rename { name, .. }
            | Self::Authorize { name: Some(name), .. } => (None, Some(name)),
            Self::Create { .. }
            | Self::Authorize { name: None, .. }
            | Self::List { .. }
            | Self::DeletePrefix { .. }
            | Self::ReadMany { .. }
            | Self::DeleteMany { .. } => (None, None),
        }
    }

    /// Puts another key in the place of the one it asks by; nothing happens if it does not ask by key.
    pub fn set_key(&mut self, new: StoreKey) {
        match self {
            Self::Read { target, .. }
            | Self::BeginModify { target, .. }
            | Self::CompleteModify { target, .. }
            | Self::CancelModify { target, .. }
            | Self::Delete { target }
            | Self::Increment { target, .. }
            | Self::Touch { target, .. } => {
                if let Target::Key(key) = target {
                    *key = new;
                }
            }
            Self::Update { key, .. } => *key = new,
            Self::CreateNamed { .. }
            | Self::Put { .. }
            | Self::Lookup { .. }
            | Self::Rename { .. }
            | Self::Authorize { .. }
            | Self::Create { .. }
            | Self::List { .. }
            | Self::DeletePrefix { .. }
            | Self::ReadMany { .. }
            | Self::DeleteMany { .. } => {}
        }
    }

    /// Whether it changes anything: a read that moves an expiry does, and so does taking a lock.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::List { .. } | Self::ReadMany { .. } => false,
            Self::Read { touch, .. } | Self::Authorize { touch, .. } => touch.is_some(),
            Self::Create { .. }
            | Self::CreateNamed { .. }
            | Self::Put { .. }
            | Self::Update { .. }
            | Self::BeginModify { .. }
            | Self::CompleteModify { .. }
            | Self::CancelModify { .. }
            | Self::Delete { .. }
            | Self::Increment { .. }
            | Self::Touch { .. }
            | Self::DeletePrefix { .. }
            | Self::DeleteMany { .. }
            | Self::Rename { .. } => true,
        }
    }

    /// How long it wants to wait for a lock.
    #[must_use]
    pub const fn wait_ms(&self) -> u64 {
        match self {
            Self::Put { wait_ms, .. } | Self::Update { wait_ms, .. } | Self::BeginModify { wait_ms, .. } => *wait_ms,
            Self::Create { .. }
            | Self::CreateNamed { .. }
            | Self::Lookup { .. }
            | Self::Read { .. }
            | Self::Authorize { .. }
            | Self::CompleteModify { .. }
            | Self::CancelModify { .. }
            | Self::Delete { .. }
            | Self::Increment { .. }
            | Self::Touch { .. }
            | Self::List { .. }
            | Self::DeletePrefix { .. }
            | Self::ReadMany { .. }
            | Self::DeleteMany { .. }
            | Self::Rename { .. } => 0,
        }
    }
}

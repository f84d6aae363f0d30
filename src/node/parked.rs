//! Requests that wait for a lock, kept as they came: when their turn comes they are carried out like new ones, so that what
//! happened meanwhile (a delete, a rename, another content) needs no second set of rules.

use std::borrow::Cow;

use super::request::{Condition, Content, LockId, Operation, Request, StoreKey, Target};
use super::{Ask, Asker};
use crate::time::Instant;
use crate::wheel::TimerId;

/// A request that owns what it needs.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) asker: Asker,
    /// From then on it is refused instead of served.
    pub(super) deadline: Instant,
    pub(super) timer: TimerId,
    condition: Condition,
    operation: ParkedOperation,
}

/// The operations that can wait.
#[derive(Debug)]
enum ParkedOperation {
    Put { name: Box<str>, content: ParkedContent, ttl_ms: Option<u64> },
    Update { key: StoreKey, body: Box<[u8]>, ttl_ms: Option<u64> },
    Begin { target: ParkedTarget, begin: ParkedBegin },
}

#[derive(Debug)]
enum ParkedContent {
    Blob(Box<[u8]>),
    Counter(super::request::Counter),
}

#[derive(Debug)]
enum ParkedTarget {
    Key(StoreKey),
    Name(Box<str>),
}

#[derive(Debug)]
struct ParkedBegin {
    hold_ms: Option<u64>,
    connection_scope: bool,
    renew: Option<LockId>,
    create_if_missing: bool,
    ttl_ms: Option<u64>,
}

impl Parked {
    /// `ask` must be of an operation that can wait.
    pub(super) fn new(asker: Asker, deadline: Instant, timer: TimerId, ask: &Ask<'_>) -> Self {
        let operation = match ask.operation {
            Operation::Put { name, content, ttl_ms, .. } => ParkedOperation::Put {
                name: name.as_ref().into(),
                content: match content {
                    Content::Blob(bytes) => ParkedContent::Blob((*bytes).into()),
                    Content::Counter(counter) => ParkedContent::Counter(*counter),
                },
                ttl_ms: *ttl_ms,
            },
            Operation::Update { key, body, ttl_ms, .. } => {
                ParkedOperation::Update { key: *key, body: (*body).into(), ttl_ms: *ttl_ms }
            }
            Operation::BeginModify { target, hold_ms, connection_scope, renew, create_if_missing, ttl_ms, .. } => {
                ParkedOperation::Begin {
                    target: match target {
                        Target::Key(key) => ParkedTarget::Key(*key),
                        Target::Name(name) => ParkedTarget::Name(name.as_ref().into()),
                    },
                    begin: ParkedBegin {
                        hold_ms: *hold_ms,
                        connection_scope: *connection_scope,
                        renew: *renew,
                        create_if_missing: *create_if_missing,
                        ttl_ms: *ttl_ms,
                    },
                }
            }
            Operation::Create { .. }
            | Operation::CreateNamed { .. }
            | Operation::Lookup { .. }
            | Operation::Read { .. }
            | Operation::Authorize { .. }
            | Operation::CompleteModify { .. }
            | Operation::CancelModify { .. }
            | Operation::Delete { .. }
            | Operation::Increment { .. }
            | Operation::Touch { .. }
            | Operation::List { .. }
            | Operation::DeletePrefix { .. }
            | Operation::ReadMany { .. }
            | Operation::DeleteMany { .. }
            | Operation::Rename { .. } => unreachable!("only what needs the lock waits for it"),
        };
        Self { asker, deadline, timer, condition: ask.condition, operation }
    }

    /// The request again, for another node, without its idempotency key.
    pub(super) fn request<'p>(&'p self, customer: &'p str, wait_ms: u64) -> Request<'p> {
        Request {
            connection: self.asker.connection,
            customer,
            condition: self.condition,
            durable: self.asker.durable,
            from_primary: false,
            idempotency: None,
            operation: self.operation(wait_ms).1,
        }
    }

    /// What was asked. Here its wait is in `deadline`, and `wait_ms` does not count.
    pub(super) fn operation(&self, wait_ms: u64) -> (Condition, Operation<'_>) {
        let operation = match &self.operation {
            ParkedOperation::Put { name, content, ttl_ms } => Operation::Put {
                name: Cow::Borrowed(name),
                content: match content {
                    ParkedContent::Blob(bytes) => Content::Blob(bytes),
                    ParkedContent::Counter(counter) => Content::Counter(*counter),
                },
                ttl_ms: *ttl_ms,
                wait_ms,
            },
            ParkedOperation::Update { key, body, ttl_ms } => {
                Operation::Update { key: *key, body, ttl_ms: *ttl_ms, wait_ms }
            }
            ParkedOperation::Begin { target, begin } => Operation::BeginModify {
                target: match target {
                    ParkedTarget::Key(key) => Target::Key(*key),
                    ParkedTarget::Name(name) => Target::Name(Cow::Borrowed(name)),
                },
                wait_ms,
                hold_ms: begin.hold_ms,
                connection_scope: begin.connection_scope,
                renew: begin.renew,
                create_if_missing: begin.create_if_missing,
                ttl_ms: begin.ttl_ms,
            },
        };
        (self.condition, operation)
    }

    /// The store it waits for got another name.
    pub(super) fn rename(&mut self, to: &str) {
        match &mut self.operation {
            ParkedOperation::Put { name, .. } | ParkedOperation::Begin { target: ParkedTarget::Name(name), .. } => {
                *name = to.into()
            }
            ParkedOperation::Update { .. } | ParkedOperation::Begin { target: ParkedTarget::Key(_), .. } => {}
        }
    }
}

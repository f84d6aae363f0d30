//! HTTP to operations and back: which endpoint a request means, what its headers, names and body may hold, and how answers,
//! errors and pages are written.
//!
//! [`prepare`] runs when the head is there and refuses all that can be refused without the body; [`Prepared::call`] reads the
//! body and makes the typed request for the node; [`write_answer`] writes what the node says. Three tables say what there is:
//! [`endpoints::ENDPOINTS`], [`fields::REQUEST_HEADERS`] and [`errors::ERRORS`]; the manual bbd-api(7) is checked against them.
//! No state is kept here, and nothing is known of stores, sockets or clocks.

mod answers;
mod bodies;
pub mod endpoints;
pub mod errors;
pub mod fields;
pub mod names;
mod pages;
mod text;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::http::{Expectation, Field, Head, Method};
use crate::node::request::{
    ConnectionId, Content, Idempotency, LockId, Operation as NodeOperation, Request, StoreKey, Target, TouchOnRead,
};
use crate::store_id::KeyRing;
use bodies::Many;
use endpoints::{Audience, Body, Endpoint, Operation, Route};
use fields::{Fields, MAX_TTL_SECONDS};
use names::{decode_name, decode_prefix, is_percent_encoded, percent_decode, read_query};

pub use answers::{RESPONSE_HEADERS, write_answer};
pub use errors::{ApiError, Code, write_api_error};
pub use pages::{render_page, write_page, write_released};

/// Names on one page of a listing at most, and where the request does not say.
pub const MAX_NAMES_A_PAGE: usize = 1000;

/// The limits that the API itself enforces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--max-store-size`.
    pub max_store_size_bytes: usize,
    /// `--max-lock-timeout`: the longest `BigBunny-Lock-Hold`.
    pub max_lock_timeout_ms: u64,
}

/// Through which socket a request came.
#[derive(Clone, Copy, Debug)]
pub enum Door<'s> {
    /// `--uds`: everything.
    Main,
    /// `--uds-for`: one customer's.
    Customer(&'s str),
    /// `--metrics-listen`: metrics and health alone.
    Metrics,
    /// `--uds` while all its places are taken but the one that is kept for operators: everything but what customers ask.
    Operators,
}

/// What the shell answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `OPTIONS *`
    Options,
    /// `/status`
    Status,
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Healthz,
    /// `/readyz`
    Readyz,
}

/// What a request comes to.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would cost an allocation a request")]
pub enum Call<'b> {
    /// For the node.
    Node(Request<'b>),
    /// For the shell.
    Page(Page),
    /// For the node, by an operator: it is to be primary.
    Promote {
        /// Without asking the other node.
        force: bool,
    },
    /// For the shell: the lock of this store is dropped, whoever holds it.
    ReleaseLock {
        /// The store id, not opened: without a customer it takes trying those that hold locks.
        id: Cow<'b, [u8]>,
        /// `X-Customer-ID`, if it was sent.
        customer: Option<&'b str>,
    },
}

/// What the writer of an answer must know of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyShape {
    /// What was asked for.
    pub operation: Operation,
}

/// A request whose head is in order; only its body is still to be read. It is large, so it is moved as little as can be, and what few
/// requests have is kept elsewhere.
#[derive(Debug)]
pub struct Prepared<'b> {
    endpoint: &'static Endpoint,
    customer: Option<&'b str>,
    is_octet_stream: bool,
    body_limit_bytes: usize,
    /// The idempotency key, if there is one, and what the head adds to the fingerprint.
    idempotency: Option<Box<(&'b str, Sha256)>>,
    /// The store id, if it is not opened yet.
    sealed: Option<&'b [u8]>,
    /// What will be called: as yet with an empty body, and on no connection.
    call: Call<'b>,
}

/// Finds out what a request asks for and checks all of its head: the method, the path, the door, the customer, the headers that
/// are read, the store id or the name, the query, in this order.
///
/// # Errors
/// The first thing that is wrong. The connection can go on.
pub fn prepare<'b>(
    head: &Head<'b>,
    door: &Door<'b>,
    settings: &Settings,
    keyring: &mut KeyRing,
) -> Result<Prepared<'b>, ApiError> {
    prepare_with(head, door, settings, Some(keyring))
}

/// The same, but that the store id is left to [`Prepared::open`]: so the keys of several customers can be looked up together before.
///
/// # Errors
/// As for [`prepare`], though with another mistake beside an id that does not open, it is not the id that is refused.
pub fn prepare_sealed<'b>(head: &Head<'b>, door: &Door<'b>, settings: &Settings) -> Result<Prepared<'b>, ApiError> {
    prepare_with(head, door, settings, None)
}

fn prepare_with<'b>(
    head: &Head<'b>,
    door: &Door<'b>,
    settings: &Settings,
    keyring: Option<&mut KeyRing>,
) -> Result<Prepared<'b>, ApiError> {
    let (endpoint, argument) = find_endpoint(head, door)?;
    if head.expectation == Expectation::Unknown {
        return Err(ApiError::unknown_expectation());
    }
    if let Some(field) = head.repeated {
        return Err(ApiError::naming("the header", field.name(), "stands twice; send it once"));
    }
    let customer = find_customer(head, door, endpoint.audience())?;
    let fields = fields::read_fields(head, endpoint, settings)?;
    let mut planner = Planner { argument, query: head.query, fields: &fields, customer, keyring, sealed: None };
    let call = planner.plan(endpoint.operation)?;
    let sealed = planner.sealed;
    let idempotency = fields.idempotency_key.map(|key| Box::new((key, digest_head(head, endpoint))));
    let body_limit_bytes = match endpoint.body {
        Body::Ignored | Body::SmallJson => endpoints::SMALL_BODY_LIMIT_BYTES,
        Body::Store => settings.max_store_size_bytes,
        Body::Names => endpoints::NAMES_BODY_LIMIT_BYTES,
    };
    let is_octet_stream = fields.is_octet_stream;
    Ok(Prepared { endpoint, customer, is_octet_stream, body_limit_bytes, idempotency, sealed, call })
}

/// What a request asks for that [`prepare`] has refused, if its path and method lead anywhere.
#[must_use]
pub fn operation_of(head: &Head<'_>) -> Option<Operation> {
    match endpoints::route(head.method, head.path) {
        Route::Found(endpoint, _) => Some(endpoint.operation),
        Route::WrongMethod(_) | Route::Unknown => None,
    }
}

/// The endpoint, and what stands in the path for `ID` or `NAME`.
fn find_endpoint<'b>(head: &Head<'b>, door: &Door<'_>) -> Result<(&'static Endpoint, &'b [u8]), ApiError> {
    if head.method == Method::Other {
        return Err(ApiError::unknown_method());
    }
    if matches!(door, Door::Metrics) && !endpoints::is_for_scrapers(head.path) {
        return Err(ApiError::no_such_endpoint());
    }
    let (endpoint, argument) = match endpoints::route(head.method, head.path) {
        Route::Found(endpoint, argument) => (endpoint, argument),
        Route::WrongMethod(allow) => return Err(ApiError::wrong_method(allow)),
        Route::Unknown if head.method == Method::Trace => return Err(ApiError::unknown_method()),
        Route::Unknown if !is_percent_encoded(head.path) => return Err(names::NameError::BadPercent.into()),
        Route::Unknown => return Err(ApiError::no_such_endpoint()),
    };
    match (door, endpoint.audience()) {
        (Door::Main | Door::Metrics, _) | (Door::Customer(_), Audience::Customer | Audience::Anyone) => {
            Ok((endpoint, argument))
        }
        (Door::Operators, Audience::Operator | Audience::Anyone) => Ok((endpoint, argument)),
        (Door::Customer(_), Audience::Operator) => Err(ApiError::of(Code::Unauthorized)),
        (Door::Operators, Audience::Customer) => Err(ApiError::for_operators_only()),
    }
}

/// Whose request it is, as far as its endpoint asks.
fn find_customer<'b>(head: &Head<'b>, door: &Door<'b>, audience: Audience) -> Result<Option<&'b str>, ApiError> {
    let named = || head.field(Field::CustomerId).map(fields::read_customer).transpose();
    match (audience, door) {
        (Audience::Anyone, _) => Ok(None),
        (Audience::Operator, _) => named(),
        (Audience::Customer, Door::Customer(own)) => match named()? {
            Some(other) if other != *own => Err(ApiError::of(Code::Unauthorized)),
            Some(_) | None => Ok(Some(*own)),
        },
        (Audience::Customer, Door::Main | Door::Metrics | Door::Operators) => {
            let missing = ApiError::bad_request("X-Customer-ID is missing: say whose stores these are");
            named()?.map(Some).ok_or(missing)
        }
    }
}

fn open_id(keyring: &mut KeyRing, customer: &str, argument: &[u8]) -> Result<StoreKey, ApiError> {
    if let Some(key) = keyring.open(customer, argument) {
        return Ok(key);
    }
    // Clients that percent-encode the colons are right, too. What is badly encoded was tried as it stands, and does not open.
    match percent_decode(argument) {
        Some(Cow::Owned(decoded)) => keyring.open(customer, &decoded).ok_or(ApiError::bad_store_id()),
        Some(Cow::Borrowed(_)) | None => Err(ApiError::bad_store_id()),
    }
}

/// Makes the operation that a head asks for.
struct Planner<'p, 'b> {
    argument: &'b [u8],
    query: Option<&'b str>,
    fields: &'p Fields<'b>,
    customer: Option<&'b str>,
    /// Without it the store id is left sealed.
    keyring: Option<&'p mut KeyRing>,
    sealed: Option<&'b [u8]>,
}

impl<'b> Planner<'_, 'b> {
    fn plan(&mut self, operation: Operation) -> Result<Call<'b>, ApiError> {
        let Fields { ttl_ms, wait_ms, reuse, condition, replicated, from_primary, .. } = *self.fields;
        let content = Content::Blob(&[]);
        let body: &[u8] = &[];
        let operation = match operation {
            Operation::Create => NodeOperation::Create { content, ttl_ms },
            Operation::CreateByName => NodeOperation::CreateNamed { name: self.name()?, content, ttl_ms, reuse },
            Operation::NamedPut => NodeOperation::Put { name: self.name()?, content, ttl_ms, wait_ms },
            Operation::LookupIdByName => NodeOperation::Lookup { name: self.name()? },
            Operation::Snapshot => NodeOperation::Read { target: Target::Key(self.key()?), touch: None },
            Operation::NamedGet => NodeOperation::Read { target: Target::Name(self.name()?), touch: self.touch()? },
            Operation::Auth => NodeOperation::Authorize { name: self.name().ok(), touch: self.touch()? },
            Operation::Update => NodeOperation::Update { key: self.key()?, body, ttl_ms, wait_ms },
            Operation::BeginModify => begin(self.fields, Target::Key(self.key()?)),
            Operation::NamedBeginModify => begin(self.fields, Target::Name(self.name()?)),
            Operation::CompleteModify => {
                NodeOperation::CompleteModify { target: Target::Key(self.key()?), lock: self.lock()?, body, ttl_ms }
            }
            Operation::NamedCompleteModify => {
                NodeOperation::CompleteModify { target: Target::Name(self.name()?), lock: self.lock()?, body, ttl_ms }
            }
            Operation::CancelModify => {
                NodeOperation::CancelModify { target: Target::Key(self.key()?), lock: self.lock()? }
            }
            Operation::NamedCancelModify => {
                NodeOperation::CancelModify { target: Target::Name(self.name()?), lock: self.lock()? }
            }
            Operation::Delete => NodeOperation::Delete { target: Target::Key(self.key()?) },
            Operation::DeleteByName | Operation::NamedDelete => {
                NodeOperation::Delete { target: Target::Name(self.name()?) }
            }
            Operation::Increment | Operation::Decrement => increment(self.fields, Target::Key(self.key()?)),
            Operation::NamedIncrement => increment(self.fields, Target::Name(self.name()?)),
            Operation::Touch => NodeOperation::Touch { target: Target::Key(self.key()?), ttl_ms: self.needed_ttl()? },
            Operation::NamedTouch => {
                NodeOperation::Touch { target: Target::Name(self.name()?), ttl_ms: self.needed_ttl()? }
            }
            Operation::NamedRename => NodeOperation::Rename { name: self.name()?, to: Cow::Borrowed("") },
            Operation::NamedMany => NodeOperation::ReadMany { names: Vec::new() },
            Operation::NamedList => self.list()?,
            Operation::NamedDeletePrefix => self.delete_prefix()?,
            Operation::Options => return Ok(Call::Page(Page::Options)),
            Operation::Status => return Ok(Call::Page(Page::Status)),
            Operation::Metrics => return Ok(Call::Page(Page::Metrics)),
            Operation::Healthz => return Ok(Call::Page(Page::Healthz)),
            Operation::Readyz => return Ok(Call::Page(Page::Readyz)),
            Operation::Promote => return Ok(Call::Promote { force: self.force()? }),
            Operation::ReleaseLock => {
                let id = percent_decode(self.argument).ok_or(ApiError::bad_store_id())?;
                return Ok(Call::ReleaseLock { id, customer: self.customer });
            }
        };
        Ok(Call::Node(Request {
            connection: ConnectionId(0),
            customer: self.customer.unwrap_or(""),
            condition,
            durable: replicated,
            from_primary,
            idempotency: None,
            operation,
        }))
    }

    /// The store id of the path, opened; or a stand-in for it, if it is opened later.
    fn key(&mut self) -> Result<StoreKey, ApiError> {
        match &mut self.keyring {
            Some(keyring) => open_id(keyring, self.customer.unwrap_or(""), self.argument),
            None => {
                self.sealed = Some(self.argument);
                Ok(StoreKey::default())
            }
        }
    }

    fn name(&self) -> Result<Cow<'b, str>, ApiError> {
        Ok(decode_name(self.argument)?)
    }

    fn lock(&self) -> Result<LockId, ApiError> {
        self.fields.lock.ok_or(ApiError::bad_request("BigBunny-Lock-ID is missing: send what begin-modify answered"))
    }

    fn needed_ttl(&self) -> Result<u64, ApiError> {
        self.fields
            .ttl_ms
            .ok_or(ApiError::bad_request("BigBunny-Not-Valid-After is missing: a touch needs the seconds"))
    }

    /// `?touch=S&touch-if-below=T`
    fn touch(&self) -> Result<Option<TouchOnRead>, ApiError> {
        let known = ["touch", "touch-if-below"];
        let [touch, below] = read_query(self.query, &known)?;
        let seconds = |key: &str, value: &str| {
            fields::bounded(value.as_bytes(), 1, MAX_TTL_SECONDS)
                .ok_or_else(|| ApiError::naming("the query parameter", key, "must be whole seconds, 1 to 315360000"))
        };
        let ttl_ms = touch.map(|touch| seconds(known[0], touch)).transpose()?.map(|seconds| seconds * 1000);
        let if_below_ms = below.map(|below| seconds(known[1], below)).transpose()?.map(|seconds| seconds * 1000);
        match (ttl_ms, if_below_ms) {
            (Some(ttl_ms), if_below_ms) => Ok(Some(TouchOnRead { ttl_ms, if_below_ms })),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err(ApiError::bad_request("the query parameter `touch-if-below` needs `touch` beside it"))
            }
        }
    }

    fn list(&self) -> Result<NodeOperation<'b>, ApiError> {
        let [prefix, after, limit] = read_query(self.query, &["prefix", "after", "limit"])?;
        let after = after.map(decode_prefix).transpose()?.filter(|after| !after.is_empty());
        let limit = match limit {
            None => MAX_NAMES_A_PAGE,
            Some(limit) => fields::bounded(limit.as_bytes(), 1, MAX_NAMES_A_PAGE as u64)
                .and_then(|limit| usize::try_from(limit).ok())
                .ok_or(ApiError::bad_request("the query parameter `limit` must be 1 to 1000"))?,
        };
        Ok(NodeOperation::List { prefix: decode_prefix(prefix.unwrap_or(""))?, after, limit })
    }

    /// `?force=true`
    fn force(&self) -> Result<bool, ApiError> {
        let [force] = read_query(self.query, &["force"])?;
        match force {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::bad_request("the query parameter `force` must be true or false")),
        }
    }

    fn delete_prefix(&self) -> Result<NodeOperation<'b>, ApiError> {
        let [prefix] = read_query(self.query, &["prefix"])?;
        let prefix = prefix.ok_or(ApiError::bad_request(
            "the query parameter `prefix` is missing: ?prefix=P deletes what begins with P, ?prefix= everything",
        ))?;
        Ok(NodeOperation::DeletePrefix { prefix: decode_prefix(prefix)? })
    }
}

fn begin<'b>(fields: &Fields<'_>, target: Target<'b>) -> NodeOperation<'b> {
    NodeOperation::BeginModify {
        target,
        wait_ms: fields.wait_ms,
        hold_ms: fields.hold_ms,
        connection_scope: fields.connection_scope,
        renew: fields.lock,
        create_if_missing: fields.create_if_missing,
        ttl_ms: fields.ttl_ms,
    }
}

/// The step itself is in the body.
fn increment<'b>(fields: &Fields<'_>, target: Target<'b>) -> NodeOperation<'b> {
    NodeOperation::Increment { target, delta: 0, reject_at_bound: false, make: None, ttl_ms: fields.ttl_ms }
}

/// Begins the fingerprint of a request: its method, target and all headers that are read, the key itself excepted. Lengths stand
/// before what varies, so that no two requests are hashed alike.
fn digest_head(head: &Head<'_>, endpoint: &Endpoint) -> Sha256 {
    let mut digest = Sha256::new();
    let mut add = |kind: u8, bytes: &[u8]| {
        digest.update([kind]);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(head.method as u8, head.path);
    if let Some(query) = head.query {
        add(u8::MAX, query.as_bytes());
    }
    for &field in endpoint.fields.iter().copied().flatten() {
        if let Some(value) = head.field(field).filter(|_| field != Field::IdempotencyKey) {
            add(field as u8, value);
        }
    }
    digest
}

impl<'b> Prepared<'b> {
    /// Bytes of body that will be read at most; more is [`ApiError::too_large`].
    #[must_use]
    pub fn body_limit(&self) -> usize {
        self.body_limit_bytes
    }

    /// Whose request it is.
    #[must_use]
    pub fn customer(&self) -> Option<&'b str> {
        self.customer
    }

    /// What [`write_answer`] needs to know later.
    #[must_use]
    pub fn reply_shape(&self) -> ReplyShape {
        ReplyShape { operation: self.endpoint.operation }
    }

    /// The store id that [`Self::open`] will open, and its customer.
    #[must_use]
    pub fn sealed(&self) -> Option<(&'b str, &'b [u8])> {
        Some((self.customer.unwrap_or(""), self.sealed?))
    }

    /// Opens the store id that [`prepare_sealed`] has left.
    ///
    /// # Errors
    /// It does not open.
    pub fn open(&mut self, keyring: &mut KeyRing) -> Result<(), ApiError> {
        let Some(id) = self.sealed.take() else { return Ok(()) };
        let Call::Node(request) = &mut self.call else { return Ok(()) };
        let key = open_id(keyring, request.customer, id)?;
        request.operation.set_key(key);
        Ok(())
    }

    /// The store that it asks about by id, and the customer.
    #[must_use]
    pub fn store(&self) -> Option<(&'b str, &StoreKey)> {
        match &self.call {
            Call::Node(request) => request.operation.subject().0.map(|key| (request.customer, key)),
            Call::Page(_) | Call::Promote { .. } | Call::ReleaseLock { .. } => None,
        }
    }

    /// Reads the body and says what to do. To be called once.
    ///
    /// # Errors
    /// The body is not what the endpoint takes.
    pub fn call(&mut self, connection: ConnectionId, body: &'b [u8]) -> Result<&Call<'b>, ApiError> {
        assert!(self.sealed.is_none(), "the store id is opened before the call");
        let Call::Node(request) = &mut self.call else { return Ok(&self.call) };
        read_body(&mut request.operation, self.endpoint.operation, body, self.is_octet_stream)?;
        request.connection = connection;
        if let Some((key, mut digest)) = self.idempotency.take().map(|boxed| *boxed)
            && !matches!(request.operation, NodeOperation::ReadMany { .. })
        {
            digest.update(body);
            let mut fingerprint = [0; 16];
            fingerprint.copy_from_slice(&digest.finalize()[..16]);
            request.idempotency = Some(Idempotency { key, fingerprint });
        }
        Ok(&self.call)
    }
}

/// Puts the body where its operation wants it.
fn read_body<'b>(
    operation: &mut NodeOperation<'b>,
    asked: Operation,
    bytes: &'b [u8],
    is_octet_stream: bool,
) -> Result<(), ApiError> {
    match operation {
        NodeOperation::Create { content, .. }
        | NodeOperation::CreateNamed { content, .. }
        | NodeOperation::Put { content, .. } => *content = bodies::read_content(bytes, is_octet_stream)?,
        NodeOperation::Update { body, .. } | NodeOperation::CompleteModify { body, .. } => *body = bytes,
        NodeOperation::Increment { target: Target::Key(_), delta, .. } => {
            let step = i128::from(bodies::read_step(bytes)?);
            *delta = if asked == Operation::Decrement { -step } else { step };
        }
        NodeOperation::Increment { target: Target::Name(_), delta, reject_at_bound, make, .. } => {
            let step = bodies::read_named_step(bytes)?;
            *delta = i128::from(step.delta);
            *reject_at_bound = step.reject_at_bound;
            *make = Some(step.make);
        }
        NodeOperation::ReadMany { names } => match bodies::read_many(bytes)? {
            Many::Get(asked) => *names = asked,
            Many::Delete(names) => *operation = NodeOperation::DeleteMany { names },
        },
        NodeOperation::Rename { to, .. } => *to = bodies::read_rename(bytes)?,
        NodeOperation::Lookup { .. }
        | NodeOperation::Read { .. }
        | NodeOperation::Authorize { .. }
        | NodeOperation::BeginModify { .. }
        | NodeOperation::CancelModify { .. }
        | NodeOperation::Delete { .. }
        | NodeOperation::Touch { .. }
        | NodeOperation::List { .. }
        | NodeOperation::DeletePrefix { .. }
        | NodeOperation::DeleteMany { .. } => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;

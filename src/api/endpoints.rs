//! The one table of endpoints: path, methods, operation, body, and the request headers and query parameters that are read.
//!
//! Routing, `404`, `405` with `Allow`, the checks of headers, the manual's check and metrics by operation all come from it.
//! What an operation does with what it reads is not here.

use crate::http::{Field, Method};

/// What a request asks for, as metrics and logs call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each is")]
pub enum Operation {
    Snapshot,
    Update,
    BeginModify,
    CompleteModify,
    CancelModify,
    Create,
    Delete,
    Increment,
    Decrement,
    Touch,
    CreateByName,
    LookupIdByName,
    DeleteByName,
    NamedGet,
    NamedPut,
    NamedDelete,
    NamedTouch,
    NamedIncrement,
    NamedBeginModify,
    NamedCompleteModify,
    NamedCancelModify,
    NamedRename,
    NamedList,
    NamedDeletePrefix,
    NamedMany,
    Auth,
    Options,
    Status,
    Metrics,
    Healthz,
    Readyz,
    Promote,
    ReleaseLock,
}

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u16);

impl Methods {
    /// The methods that some endpoint has, in the order in which `Allow` names them.
    const NAMED: [(Method, &'static str); 6] = [
        (Method::Get, "GET"),
        (Method::Head, "HEAD"),
        (Method::Post, "POST"),
        (Method::Put, "PUT"),
        (Method::Delete, "DELETE"),
        (Method::Options, "OPTIONS"),
    ];
    /// None of them.
    pub const NONE: Self = Self(0);

    const fn of(methods: &[Method]) -> Self {
        let mut set = 0;
        let mut index = 0;
        while index < methods.len() {
            set |= 1 << methods[index] as u16;
            index += 1;
        }
        Self(set)
    }

    /// Whether `method` is among them.
    #[must_use]
    pub const fn contain(self, method: Method) -> bool {
        self.0 & (1 << method as u16) != 0
    }

    /// The methods of either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The value of `Allow`.
    #[must_use]
    pub fn allow(self) -> String {
        let named: Vec<_> =
            Self::NAMED.iter().filter(|(method, _)| self.contain(*method)).map(|(_, name)| *name).collect();
        named.join(", ")
    }
}

const READ: Methods = Methods::of(&[Method::Get, Method::Head]);
const READ_OR_POST: Methods = Methods::of(&[Method::Get, Method::Head, Method::Post]);
const POST: Methods = Methods::of(&[Method::Post]);
const PUT: Methods = Methods::of(&[Method::Put]);
const DELETE: Methods = Methods::of(&[Method::Delete]);
const OPTIONS: Methods = Methods::of(&[Method::Options]);

/// What stands in a path where the table has `ID` or `NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing varies.
    None,
    /// A store id: one segment.
    Id,
    /// A name: one segment.
    Name,
    /// A name, and slashes do not end it: a proxy puts a cookie there as it came.
    AnyText,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Customers, each for himself: `X-Customer-ID`.
    Customer,
    /// Anyone who can open the socket.
    Anyone,
    /// Only who opens the node's own socket.
    Operator,
}

/// What is done with a request's body, and how long it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is not looked at.
    Ignored,
    /// The bytes of a store, or JSON about one counter.
    Store,
    /// A small JSON object.
    SmallJson,
    /// JSON with up to 100 names.
    Names,
}

/// What fits in a body that is not looked at, or that holds a small JSON object with a name.
pub const SMALL_BODY_LIMIT_BYTES: usize = 4096;
/// Names in one request at most.
pub const MAX_NAMES_A_REQUEST: usize = 100;
/// What fits in a body that lists names: each byte of a name may be written as an escape of 6 (`\u0061`), and some space is left
/// for punctuation and indentation.
pub const NAMES_BODY_LIMIT_BYTES: usize =
    MAX_NAMES_A_REQUEST * (6 * super::names::MAX_NAME_BYTES + 64) + SMALL_BODY_LIMIT_BYTES;

/// The time to live.
const TTL: &[Field] = &[Field::NotValidAfter, Field::NotValidAfterMs];
/// What a change of a store that may already be there reads beside.
const CONDITION: &[Field] = &[Field::IfMatch, Field::IfNoneMatch];
/// What every change reads.
const CHANGE: &[Field] = &[Field::IdempotencyKey, Field::Durability];
/// What makes a counter of a body, or not.
const CONTENT: &[Field] = &[Field::ContentType];
const REUSE: &[Field] = &[Field::ReuseIfExists];
const WAIT: &[Field] = &[Field::LockWait];
const LOCK: &[Field] = &[Field::LockId];
const HOLD: &[Field] = &[Field::LockHold, Field::LockScope];
const CREATE_IF_MISSING: &[Field] = &[Field::CreateIfMissing];
/// What every read reads.
const FRESHNESS: &[Field] = &[Field::Read];

/// The query parameters that move the expiry of what is read.
const TOUCH_QUERY: &[&str] = &["touch", "touch-if-below"];

/// One line of the table.
#[derive(Debug)]
pub struct Endpoint {
    /// What it does.
    pub operation: Operation,
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// With which methods.
    pub methods: Methods,
    /// Its path, `ID` or `NAME` standing for what varies.
    pub path: &'static str,
    /// What its body is.
    pub body: Body,
    /// The request headers that are read, in groups; all others are ignored, whatever they hold.
    pub fields: &'static [&'static [Field]],
    /// The query parameters that are read. Where there are none, a query is ignored; else an unknown one is refused.
    pub parameters: &'static [&'static str],
    /// What it does, in a line.
    pub doc: &'static str,
    audience: Audience,
    head: &'static str,
    argument: Argument,
    tail: &'static str,
}

impl Endpoint {
    const fn new(
        operation: Operation,
        name: &'static str,
        methods: Methods,
        path: &'static str,
        body: Body,
        doc: &'static str,
    ) -> Self {
        let bytes = path.as_bytes();
        let mut start = 0;
        while start < bytes.len() && !bytes[start].is_ascii_uppercase() {
            start += 1;
        }
        let mut end = start;
        while end < bytes.len() && bytes[end] != b'/' {
            end += 1;
        }
        let argument = if start == bytes.len() {
            Argument::None
        } else if bytes[start] == b'I' {
            Argument::Id
        } else if matches!(operation, Operation::Auth) {
            Argument::AnyText
        } else {
            Argument::Name
        };
        let (head, rest) = path.split_at(start);
        let (_, tail) = rest.split_at(end - start);
        let audience = match path.as_bytes() {
            [b'/', b'a', b'p', b'i', b'/', ..] => Audience::Customer,
            [b'/', b'i', b'n', b't', b'e', b'r', b'n', b'a', b'l', b'/', ..] => Audience::Operator,
            _ => Audience::Anyone,
        };
        Self { operation, name, methods, path, body, fields: &[], parameters: &[], doc, audience, head, argument, tail }
    }

    const fn reads(self, fields: &'static [&'static [Field]]) -> Self {
        Self { fields, ..self }
    }

    const fn takes(self, parameters: &'static [&'static str]) -> Self {
        Self { parameters, ..self }
    }

    /// What varies in its path.
    #[must_use]
    pub const fn argument(&self) -> Argument {
        self.argument
    }

    /// Who may ask.
    #[must_use]
    pub const fn audience(&self) -> Audience {
        self.audience
    }

    /// What stands in `path` for `ID` or `NAME` (empty where nothing varies), if this is its endpoint.
    fn matches<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let head = self.head.as_bytes();
        // Mostly the slash behind another endpoint's word stands elsewhere, and nothing else need be compared.
        if path.get(head.len() - 1) != head.last() {
            return None;
        }
        let rest = path.strip_prefix(head)?;
        match self.argument {
            Argument::None => rest.is_empty().then_some(rest),
            Argument::AnyText => Some(rest),
            Argument::Id | Argument::Name => {
                rest.strip_suffix(self.tail.as_bytes()).filter(|argument| memchr::memchr(b'/', argument).is_none())
            }
        }
    }
}

/// Where a path leads.
#[derive(Debug)]
pub enum Route<'p> {
    /// To this endpoint, with what stood for `ID` or `NAME`, still percent-encoded.
    Found(&'static Endpoint, &'p [u8]),
    /// The path is known, but with these methods only.
    WrongMethod(Methods),
    /// Nowhere.
    Unknown,
}

/// Whether a path is served on `--metrics-listen`.
#[must_use]
pub fn is_for_scrapers(path: &[u8]) -> bool {
    let is_open = |operation| matches!(operation, Operation::Metrics | Operation::Healthz | Operation::Readyz);
    ENDPOINTS.iter().any(|endpoint| is_open(endpoint.operation) && endpoint.path.as_bytes() == path)
}

/// All methods that some endpoint has: the answer to `OPTIONS *`.
#[must_use]
pub fn all_methods() -> Methods {
    ENDPOINTS.iter().fold(Methods::NONE, |all, endpoint| all.and(endpoint.methods))
}

/// Finds the endpoint. Nothing is normalised or decoded on the way.
#[inline(always)] // Into the one place that every request passes; the other one is for refused ones.
#[must_use]
pub fn route(method: Method, path: &[u8]) -> Route<'_> {
    let mut allowed = Methods::NONE;
    for endpoint in &ENDPOINTS {
        if let Some(argument) = endpoint.matches(path) {
            if endpoint.methods.contain(method) {
                return Route::Found(endpoint, argument);
            }
            allowed = allowed.and(endpoint.methods);
        }
    }
    if allowed == Methods::NONE { Route::Unknown } else { Route::WrongMethod(allowed) }
}

/// The table. What is asked most often stands first, since it is searched from the top.
#[rustfmt::skip]
pub static ENDPOINTS: [Endpoint; 33] = [
    Endpoint::new(Operation::Snapshot, "snapshot", READ_OR_POST, "/api/v1/snapshot/ID", Body::Ignored,
        "reads a blob or a counter").reads(&[FRESHNESS]),
    Endpoint::new(Operation::NamedGet, "named-get", READ, "/api/v1/named/NAME", Body::Ignored,
        "reads a blob or a counter by its name, and may move its expiry").reads(&[FRESHNESS]).takes(TOUCH_QUERY),
    Endpoint::new(Operation::Update, "update", POST, "/api/v1/update/ID", Body::Store,
        "replaces a blob, or sets a counter's value").reads(&[TTL, WAIT, CONDITION, CHANGE]),
    Endpoint::new(Operation::Increment, "increment", POST, "/api/v1/increment/ID", Body::SmallJson,
        "adds to a counter").reads(&[TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::Decrement, "decrement", POST, "/api/v1/decrement/ID", Body::SmallJson,
        "takes from a counter").reads(&[TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::Auth, "auth", READ, "/api/v1/auth/NAME", Body::Ignored,
        "says whether a named store lives, and may move its expiry").reads(&[FRESHNESS]).takes(TOUCH_QUERY),
    Endpoint::new(Operation::NamedPut, "named-put", PUT, "/api/v1/named/NAME", Body::Store,
        "makes or replaces a named store").reads(&[CONTENT, TTL, WAIT, CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedDelete, "named-delete", DELETE, "/api/v1/named/NAME", Body::Ignored,
        "deletes a named store").reads(&[CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedIncrement, "named-increment", POST, "/api/v1/named/NAME/increment", Body::SmallJson,
        "adds to a named counter, and makes it where there is none").reads(&[TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedTouch, "named-touch", POST, "/api/v1/named/NAME/touch", Body::Ignored,
        "moves the expiry of a named store").reads(&[TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedBeginModify, "named-begin-modify", POST, "/api/v1/named/NAME/begin-modify", Body::Ignored,
        "takes the lock of a named blob and reads it, and may make it")
        .reads(&[WAIT, HOLD, LOCK, CREATE_IF_MISSING, TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedCompleteModify, "named-complete-modify", POST, "/api/v1/named/NAME/complete-modify", Body::Store,
        "writes a named blob under its lock and releases the lock").reads(&[LOCK, TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedCancelModify, "named-cancel-modify", POST, "/api/v1/named/NAME/cancel-modify", Body::Ignored,
        "releases the lock of a named blob").reads(&[LOCK, CHANGE]),
    Endpoint::new(Operation::NamedRename, "named-rename", POST, "/api/v1/named/NAME/rename", Body::SmallJson,
        "gives a store another name").reads(&[CONDITION, CHANGE]),
    Endpoint::new(Operation::NamedMany, "named-many", POST, "/api/v1/named", Body::Names,
        "reads or deletes up to 100 named stores").reads(&[FRESHNESS, CHANGE]),
    Endpoint::new(Operation::NamedList, "named-list", READ, "/api/v1/named", Body::Ignored,
        "lists a page of names").reads(&[FRESHNESS]).takes(&["prefix", "after", "limit"]),
    Endpoint::new(Operation::NamedDeletePrefix, "named-delete-prefix", DELETE, "/api/v1/named", Body::Ignored,
        "deletes all stores whose names begin so").reads(&[CHANGE]).takes(&["prefix"]),
    Endpoint::new(Operation::Create, "create", POST, "/api/v1/create", Body::Store,
        "makes a store").reads(&[CONTENT, TTL, CHANGE]),
    Endpoint::new(Operation::CreateByName, "create-by-name", POST, "/api/v1/create-by-name/NAME", Body::Store,
        "makes a store with a name").reads(&[CONTENT, TTL, REUSE, CONDITION, CHANGE]),
    Endpoint::new(Operation::LookupIdByName, "lookup-id-by-name", READ_OR_POST, "/api/v1/lookup-id-by-name/NAME", Body::Ignored,
        "says the store id of a name").reads(&[FRESHNESS]),
    Endpoint::new(Operation::DeleteByName, "delete-by-name", POST, "/api/v1/delete-by-name/NAME", Body::Ignored,
        "deletes a named store").reads(&[CONDITION, CHANGE]),
    Endpoint::new(Operation::BeginModify, "begin-modify", POST, "/api/v1/begin-modify/ID", Body::Ignored,
        "takes the lock of a blob and reads it").reads(&[WAIT, HOLD, LOCK, CONDITION, CHANGE]),
    Endpoint::new(Operation::CompleteModify, "complete-modify", POST, "/api/v1/complete-modify/ID", Body::Store,
        "writes a blob under its lock and releases the lock").reads(&[LOCK, TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::CancelModify, "cancel-modify", POST, "/api/v1/cancel-modify/ID", Body::Ignored,
        "releases the lock of a blob").reads(&[LOCK, CHANGE]),
    Endpoint::new(Operation::Delete, "delete", POST, "/api/v1/delete/ID", Body::Ignored,
        "deletes a store").reads(&[CONDITION, CHANGE]),
    Endpoint::new(Operation::Touch, "touch", POST, "/api/v1/touch/ID", Body::Ignored,
        "moves the expiry of a store").reads(&[TTL, CONDITION, CHANGE]),
    Endpoint::new(Operation::Options, "options", OPTIONS, "*", Body::Ignored,
        "says which methods there are"),
    Endpoint::new(Operation::Status, "status", READ, "/status", Body::Ignored,
        "the state of the node, as JSON"),
    Endpoint::new(Operation::Metrics, "metrics", READ, "/metrics", Body::Ignored,
        "the same and more, for Prometheus"),
    Endpoint::new(Operation::Healthz, "healthz", READ, "/healthz", Body::Ignored,
        "says whether the node is alive"),
    Endpoint::new(Operation::Readyz, "readyz", READ, "/readyz", Body::Ignored,
        "says whether the node serves"),
    Endpoint::new(Operation::Promote, "promote", POST, "/internal/promote", Body::Ignored,
        "makes the node PRIMARY").takes(&["force"]),
    Endpoint::new(Operation::ReleaseLock, "release-lock", POST, "/internal/release-lock/ID", Body::Ignored,
        "drops the lock of a store"),
];

impl Operation {
    /// How many there are.
    pub const COUNT: usize = ENDPOINTS.len();

    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        ENDPOINTS.iter().find(|endpoint| endpoint.operation == self).map_or("", |endpoint| endpoint.name)
    }
}

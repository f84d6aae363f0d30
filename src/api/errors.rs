//! The one table of errors (section 10 of the specification), and the errors of the API itself.
//!
//! Owns every line of text that a client is told. A line never repeats what the client sent, except for a short, plain key that
//! it names; so answers to two names differ in nothing, and nothing foreign gets into a terminal.

use std::borrow::Cow;

use super::endpoints::Methods;
use super::text::Text;
use crate::http::{AnswerWriter, HttpDate, ReplyFrame, header};
use crate::node::response::Refusal;

/// What `BigBunny-Error-Code` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each is")]
pub enum Code {
    NotFound,
    Unauthorized,
    StoreLocked,
    LockMismatch,
    LockStateUnknown,
    NameExists,
    StoreExpired,
    VersionMismatch,
    IdempotencyMismatch,
    TypeMismatch,
    ValueOutOfBounds,
    InvalidBounds,
    Overflow,
    RateLimited,
    TombstoneLimitExceeded,
    LeaderChanged,
    StoreUnavailable,
    NotReplicated,
    CapacityExceeded,
    CustomerQuotaExceeded,
}

/// One line of the table.
#[derive(Debug)]
pub struct ErrorRow {
    /// The code.
    pub code: Code,
    /// As it is written.
    pub name: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// Whether a repeat may succeed, and after how many milliseconds where nothing better is known.
    pub retry_after_ms: Option<u64>,
    /// What the client is told unless there is more to say.
    pub line: &'static str,
}

const fn row(code: Code, name: &'static str, status: u16, retry_after_ms: Option<u64>, line: &'static str) -> ErrorRow {
    ErrorRow { code, name, status, retry_after_ms, line }
}

/// The table, in the order of [`Code`].
pub static ERRORS: [ErrorRow; 20] = [
    row(Code::NotFound, "NotFound", 404, None, "there is no such store; it was deleted, has expired or never was"),
    row(Code::Unauthorized, "Unauthorized", 403, None, "this socket serves one customer only, and not this request"),
    row(
        Code::StoreLocked,
        "StoreLocked",
        409,
        Some(1000),
        "somebody holds the lock of this store; try again, or wait in line with BigBunny-Lock-Wait",
    ),
    row(
        Code::LockMismatch,
        "LockMismatch",
        409,
        None,
        "this is not the lock that is held; it was completed, cancelled or timed out: begin anew",
    ),
    row(
        Code::LockStateUnknown,
        "LockStateUnknown",
        409,
        Some(1000),
        "after a failover it is not known yet who holds the lock; try again",
    ),
    row(
        Code::NameExists,
        "NameExists",
        409,
        None,
        "the name is in use; look it up, delete it, or send BigBunny-Reuse-If-Exists: true",
    ),
    row(Code::StoreExpired, "StoreExpired", 410, None, "the store has expired"),
    row(
        Code::VersionMismatch,
        "VersionMismatch",
        412,
        None,
        "If-Match or If-None-Match does not hold: the store is another version, missing or there; read it again",
    ),
    row(
        Code::IdempotencyMismatch,
        "IdempotencyMismatch",
        422,
        None,
        "this Idempotency-Key was sent with another request within 60 s; take a new key for a new request",
    ),
    row(Code::TypeMismatch, "TypeMismatch", 400, None, "the store is of the other kind, blob or counter"),
    row(Code::ValueOutOfBounds, "ValueOutOfBounds", 400, None, "the value is below min or above max"),
    row(Code::InvalidBounds, "InvalidBounds", 400, None, "min is greater than max"),
    row(Code::Overflow, "Overflow", 409, None, "the value would leave 64 bits; nothing was changed"),
    row(
        Code::RateLimited,
        "RateLimited",
        429,
        Some(1000),
        "too many requests of this customer; slow down, or raise --rate-limit and --burst-size",
    ),
    row(
        Code::TombstoneLimitExceeded,
        "TombstoneLimitExceeded",
        429,
        Some(60_000),
        "too many stores were deleted within 24 h; let them expire instead, or raise the tombstone limits",
    ),
    row(Code::LeaderChanged, "LeaderChanged", 503, Some(1000), "the nodes are changing places; try again"),
    row(Code::StoreUnavailable, "StoreUnavailable", 503, Some(1000), "the node cannot serve this now; try again"),
    row(
        Code::NotReplicated,
        "NotReplicated",
        503,
        Some(1000),
        "there is no other node in step to keep a copy; nothing was changed",
    ),
    row(Code::CapacityExceeded, "CapacityExceeded", 507, None, "the node is full; see --memory-limit"),
    row(
        Code::CustomerQuotaExceeded,
        "CustomerQuotaExceeded",
        507,
        None,
        "the customer's share is used up; see --customer-memory-quota",
    ),
];

impl Code {
    /// Its line of the table.
    #[must_use]
    pub fn row(self) -> &'static ErrorRow {
        &ERRORS[self as usize]
    }
}

const FOR_OPERATORS_ONLY: &str =
    "all connections are in use, and the last place is kept for operators: bbd status, bbd top, bbd promote; try again";

/// Characters of a client's key that an error repeats at most.
const MAX_NAMED_CHARS: usize = 40;

/// A request that is refused: the status, the code if there is one, one line, and what headers go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: u16,
    code: Option<Code>,
    line: Cow<'static, str>,
    allow: Methods,
    retry_after_ms: Option<u64>,
}

impl ApiError {
    const fn plain(status: u16, line: &'static str) -> Self {
        Self { status, code: None, line: Cow::Borrowed(line), allow: Methods::NONE, retry_after_ms: None }
    }

    /// `400` without a code.
    #[must_use]
    pub const fn bad_request(line: &'static str) -> Self {
        Self::plain(400, line)
    }

    /// `400` without a code: `before`, then `key` in backquotes, then `behind`.
    #[must_use]
    pub fn naming(before: &str, key: &str, behind: &str) -> Self {
        let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
        let line = if key.len() <= MAX_NAMED_CHARS && key.chars().all(is_plain) {
            format!("{before} `{key}` {behind}")
        } else {
            format!("{before} of this spelling {behind}")
        };
        Self::made(400, line)
    }

    /// An error without a code whose line is made up of our own words and plain keys.
    #[must_use]
    pub(super) fn made(status: u16, mut line: String) -> Self {
        debug_assert!(line.is_ascii() && line.len() < MAX_LINE_BYTES);
        line.truncate(MAX_LINE_BYTES - 1);
        Self { line: Cow::Owned(line), ..Self::plain(status, "") }
    }

    /// An error of the table.
    #[must_use]
    pub fn of(code: Code) -> Self {
        let row = code.row();
        Self { code: Some(code), retry_after_ms: row.retry_after_ms, ..Self::plain(row.status, row.line) }
    }

    fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    pub(super) fn saying(self, line: &'static str) -> Self {
        Self { line: Cow::Borrowed(line), ..self }
    }

    /// A target that holds too long a name.
    #[must_use]
    pub(super) const fn target_too_long(line: &'static str) -> Self {
        Self::plain(414, line)
    }

    /// A path that leads nowhere.
    #[must_use]
    pub const fn no_such_endpoint() -> Self {
        Self::plain(404, "there is no such endpoint; bbd-api(7) lists them")
    }

    /// A known path, but not with this method.
    #[must_use]
    pub fn wrong_method(allow: Methods) -> Self {
        Self { allow, ..Self::plain(405, "this endpoint has other methods; see Allow") }
    }

    /// A method that no endpoint has.
    #[must_use]
    pub const fn unknown_method() -> Self {
        Self::plain(501, "this method is not implemented")
    }

    /// An `Expect` that is not `100-continue`.
    #[must_use]
    pub const fn unknown_expectation() -> Self {
        Self::plain(417, "only Expect: 100-continue can be met")
    }

    /// A body longer than `limit_bytes`.
    #[must_use]
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::made(413, format!("the body is longer than {limit_bytes} bytes"))
    }

    /// A store id that does not open: the same words whatever the reason.
    #[must_use]
    pub const fn bad_store_id() -> Self {
        Self::bad_request("this is no store id of this customer at this site")
    }

    /// A request of a customer at the place that is kept for operators.
    #[must_use]
    pub fn for_operators_only() -> Self {
        Self::of(Code::StoreUnavailable).saying(FOR_OPERATORS_ONLY)
    }

    /// Whether it is [`Self::for_operators_only`].
    #[must_use]
    pub fn is_for_operators_only(&self) -> bool {
        self.line == FOR_OPERATORS_ONLY
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// What `BigBunny-Error-Code` says.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        self.code
    }

    /// The line, without the line feed.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::of(Code::NotFound),
            Refusal::NotAuthorized => Self::plain(401, "there is no such store, or it has expired"),
            Refusal::StoreLocked { retry_after_ms } => Self::of(Code::StoreLocked).after(retry_after_ms),
            Refusal::LockMismatch => Self::of(Code::LockMismatch),
            Refusal::LockStateUnknown { retry_after_ms } => Self::of(Code::LockStateUnknown).after(retry_after_ms),
            Refusal::NameExists => Self::of(Code::NameExists),
            Refusal::StoreExpired => Self::of(Code::StoreExpired),
            Refusal::VersionMismatch => Self::of(Code::VersionMismatch),
            Refusal::IdempotencyMismatch => Self::of(Code::IdempotencyMismatch),
            Refusal::IdempotencyInProgress => Self::of(Code::StoreLocked)
                .saying("the first request with this Idempotency-Key still waits for the lock; try again"),
            Refusal::TypeMismatch { needed: "counter" } => {
                Self::of(Code::TypeMismatch).saying("the store is a blob, and this is for counters")
            }
            Refusal::TypeMismatch { .. } => Self::of(Code::TypeMismatch)
                .saying("the store is a counter, and this is for blobs; a counter is updated by {\"value\":N}"),
            Refusal::ValueOutOfBounds => Self::of(Code::ValueOutOfBounds),
            Refusal::InvalidBounds => Self::of(Code::InvalidBounds),
            Refusal::BadCounterBody(mistake) => Self::bad_request(mistake.message()),
            Refusal::Overflow => Self::of(Code::Overflow),
            Refusal::RateLimited { retry_after_ms } => Self::of(Code::RateLimited).after(retry_after_ms),
            Refusal::TombstoneLimitExceeded => Self::of(Code::TombstoneLimitExceeded),
            Refusal::CapacityExceeded => Self::of(Code::CapacityExceeded),
            Refusal::CustomerQuotaExceeded => Self::of(Code::CustomerQuotaExceeded),
            Refusal::AnswerTooLarge => {
                Self::plain(413, "these stores are too large for one answer (2 MiB at most); ask for fewer at once")
            }
            Refusal::LeaderChanged => Self::of(Code::LeaderChanged),
            Refusal::StoreUnavailable => Self::of(Code::StoreUnavailable),
            Refusal::NotReplicated { applied: false } => Self::of(Code::NotReplicated),
            Refusal::NotReplicated { applied: true } => Self::of(Code::NotReplicated)
                .saying("the other node was lost before it had the change; it was made here, and may survive"),
            Refusal::TooManyWaiting => {
                Self::of(Code::StoreUnavailable).saying("too many requests wait for locks; try again")
            }
        }
    }
}

/// Writes the answer that says so. Does not close by itself: the frame says whether the connection goes on.
pub fn write_api_error(out: &mut Vec<u8>, frame: &ReplyFrame, date: &HttpDate, error: &ApiError) {
    let writer = AnswerWriter::start(out, error.status, frame, date);
    finish_error(writer, error);
}

/// Everything of an error's answer behind its first lines.
pub(super) fn finish_error(mut writer: AnswerWriter<'_>, error: &ApiError) {
    if let Some(code) = error.code {
        header!(writer, "BigBunny-Error-Code", code.row().name.as_bytes());
        if code == Code::LockStateUnknown {
            header!(writer, "BigBunny-Lock-State", b"unknown");
        }
    }
    if let Some(retry_after_ms) = error.retry_after_ms {
        header!(writer, "Retry-After", retry_after_ms.div_ceil(1000).max(1));
        header!(writer, "BigBunny-Retry-After-Ms", retry_after_ms);
    }
    if error.allow != Methods::NONE {
        header!(writer, "Allow", error.allow.allow().as_bytes());
    }
    let mut body = Text::<MAX_LINE_BYTES>::new();
    body.push_str(&error.line);
    body.push(b'\n');
    writer.body(Some("text/plain"), body.as_bytes());
}

/// Bytes of an error's line at most.
const MAX_LINE_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_codes() {
        for (index, row) in ERRORS.iter().enumerate() {
            assert_eq!(row.code as usize, index);
            assert_eq!(format!("{:?}", row.code), row.name);
            assert!(row.line.is_ascii() && !row.line.contains('\n') && row.line.len() < MAX_LINE_BYTES);
        }
    }

    #[test]
    fn only_plain_keys_are_repeated() {
        let line = |key: &str| ApiError::naming("no", key, "here").line().to_owned();
        assert_eq!(line("ttll"), "no `ttll` here");
        for key in ["a\nb", "a\u{1b}[0m", "é", "<b>", "x y", &"x".repeat(41)] {
            assert_eq!(line(key), "no of this spelling here", "{key:?}");
        }
    }
}

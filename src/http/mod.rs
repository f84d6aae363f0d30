//! Bytes to requests and responses to bytes, strictly after RFC 9112, as functions of slices. No sockets here.
//!
//! [`parse_head`] reads one request head, [`ChunkDecoder`] a chunked body, [`AnswerWriter`] writes answers. What each
//! kind of input gets is the HTTP profile's table; an [`HttpError`] always closes the connection, and everything that
//! leaves the framing certain (an unknown method, a bad path, a field that stands twice) travels in the [`Head`] for
//! the API to refuse.

mod answer;
mod chunk;
mod date;
pub mod fields;
mod head;
mod plain;
mod target;

pub(crate) use answer::header;
pub use answer::{AnswerWriter, CONTINUE, write_error};
pub use chunk::ChunkDecoder;
pub use date::HttpDate;
pub use fields::Field;
pub use head::{HeadLimits, parse_head};

/// Why a connection cannot go on: what is said before it is closed. Never holds anything of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// `400`, `413`, `414`, `431`, `501` or `505`.
    pub status: u16,
    /// One line, without the line feed.
    pub message: &'static str,
}

impl HttpError {
    /// A malformed message.
    const fn bad(message: &'static str) -> Self {
        Self { status: 400, message }
    }
}

/// A request method. Anything else that is a token is `Other`, answered `501`. `CONNECT` never gets here: it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods are RFC 9110's own names")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Other,
}

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and every later HTTP/1.x
    Http11,
}

/// How a request's body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    Empty,
    /// `Content-Length`
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// What the client expects before it sends the body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing: no `Expect`, or HTTP/1.0, or no body that could wait.
    None,
    /// `100-continue`.
    Continue,
    /// Something unheard of: `417`.
    Unknown,
}

/// The head of one request, borrowed from the input buffer.
#[derive(Clone, Debug)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The path as sent, in ASCII: begins with `/`, still percent-encoded, without the query. `*` for `OPTIONS *`.
    pub path: &'b [u8],
    /// What follows the first `?`, still percent-encoded.
    pub query: Option<&'b str>,
    /// The version.
    pub version: Version,
    /// How the body is delimited.
    pub body: BodyFraming,
    /// What the client waits for before it sends the body.
    pub expectation: Expectation,
    /// The client allows another request on this connection.
    pub keep_alive: bool,
    /// The value of each field that means something, trimmed of SP and HTAB. Of several lines of one, the first.
    pub fields: [Option<&'b [u8]>; Field::COUNT],
    /// A field that stood twice though it may not (`Host`, `Content-Length` and `Transfer-Encoding` never get here:
    /// they close; `Connection` may).
    pub repeated: Option<Field>,
}

impl<'b> Head<'b> {
    /// The path as text, for those that look at few of them: to make text of bytes takes another pass over them.
    #[must_use]
    pub fn path_text(&self) -> &'b str {
        str::from_utf8(self.path).unwrap_or_default()
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, field: Field) -> Option<&'b [u8]> {
        self.fields[field as usize]
    }
}

/// What the writer of an answer must know of the request it answers.
#[derive(Clone, Copy, Debug)]
pub struct ReplyFrame {
    /// The request's version: 1.0 clients are told about keep-alive.
    pub version: Version,
    /// It was a `HEAD`: all headers, no body.
    pub head_only: bool,
    /// The connection is closed behind this answer.
    pub close: bool,
}

//! Bytes to requests and responses to bytes, strictly after RFC 9112, as functions of slices. No sockets here.

pub mod fields;

pub use fields::Field;

/// A request method. Anything else that is a token is `Other`, answered `501`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods are RFC 9110's own names")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Connect,
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

/// The head of one request, borrowed from the input buffer.
#[derive(Clone, Debug)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The path as sent: begins with `/`, still percent-encoded, without the query. `*` for `OPTIONS *`.
    pub path: &'b str,
    /// What follows the first `?`, still percent-encoded.
    pub query: Option<&'b str>,
    /// The version.
    pub version: Version,
    /// How the body is delimited.
    pub body: BodyFraming,
    /// `Expect: 100-continue` in HTTP/1.1.
    pub expects_continue: bool,
    /// The client allows another request on this connection.
    pub keep_alive: bool,
    /// The value of each field that means something, trimmed of SP and HTAB.
    pub fields: [Option<&'b [u8]>; Field::COUNT],
    /// A field that stood twice though it may not (`Host`, `Content-Length` and `Transfer-Encoding` never get here: they close).
    pub repeated: Option<Field>,
}

impl<'b> Head<'b> {
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

//! One request head: finding its end, taking it apart, and every check that its framing and grammar need.
//!
//! Nearly every head is read by `plain`. Of all others httparse splits the lines. What it lets through although the profile does not (bare LF, versions, targets, `Host`,
//! lengths, transfer codings) is checked here. A head that is not whole yet is checked as far as it goes, so that
//! garbage is refused when it comes and not when the deadline passes; such a check never costs more than the bytes that
//! are new, save once a line.

use std::mem::MaybeUninit;

use super::fields::Field;
use super::plain::read_plain;
use super::target::{Target, is_host, parse_target};
use super::{BodyFraming, Expectation, Head, HttpError, Method, Version};

/// How large a head may be.
#[derive(Clone, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, leading empty lines and the last one included; past it `431`.
    pub max_head_bytes: usize,
    /// Bytes of the request target; past it `414`.
    pub max_target_bytes: usize,
    /// Header lines, at most [`HeadLimits::MOST_FIELDS`]; past it `431`.
    pub max_fields: usize,
}

impl HeadLimits {
    /// More header lines than this are never taken.
    pub const MOST_FIELDS: usize = 64;
}

/// A longer method is none that anybody has registered, and closes the connection.
const MAX_METHOD_BYTES: usize = 64;
/// `HTTP/1.1`, and the CRLF.
const VERSION_LINE_BYTES: usize = 10;

const BARE_LINE_FEED: HttpError = HttpError::bad("lines of the head end in CRLF, not in a bare LF");
const BAD_REQUEST_LINE: HttpError = HttpError::bad("the request line is malformed: send METHOD /path HTTP/1.1");
const BAD_BYTE: HttpError = HttpError::bad("the head holds a control character that may not stand there");
const BAD_FIELD_NAME: HttpError =
    HttpError::bad("a header line is malformed: send Name: value, with no space before the colon");
const BAD_FIELD_VALUE: HttpError = HttpError::bad("a header value holds a control character");
const ONLY_EMPTY_LINES: HttpError = HttpError::bad("too many empty lines before the request");
const METHOD_TOO_LONG: HttpError = HttpError { status: 501, message: "no method is that long" };
const NO_TUNNELS: HttpError = HttpError { status: 501, message: "CONNECT is not implemented" };
const TARGET_TOO_LONG: HttpError = HttpError { status: 414, message: "the request target is too long" };
const HEAD_TOO_LARGE: HttpError = HttpError { status: 431, message: "the request head is too large" };
const TOO_MANY_FIELDS: HttpError = HttpError { status: 431, message: "too many header lines" };
const WRONG_VERSION: HttpError = HttpError { status: 505, message: "this server speaks HTTP/1.1 and HTTP/1.0" };

/// What reading a head comes to. Passed on as it is: a [`Head`] is large, and moving it costs more than finding its
/// end.
type Parsed<'b> = Result<Option<(Head<'b>, usize)>, HttpError>;

/// Reads one head at the start of `bytes`: the head and its length, leading empty lines included; `None` if more bytes
/// are needed.
///
/// `scanned` remembers, between calls with more and more bytes of the same head, how far its end was searched: 0 for a
/// new head, and 0 again when a head was read.
///
/// # Errors
///
/// Everything after which the connection cannot go on (RFC 9112 sections 2.2, 3, 5, 6).
#[inline]
pub fn parse_head<'b>(bytes: &'b [u8], scanned: &mut usize, limits: &HeadLimits) -> Parsed<'b> {
    let window = &bytes[..bytes.len().min(limits.max_head_bytes)];
    if *scanned == 0 {
        let mut lines = Lines::default();
        if let Some((line, end)) = read_plain(window, limits, &mut lines) {
            return assemble(line, lines, end);
        }
    }
    parse_carefully(window, scanned, limits)
}

/// Reads a head that is not whole, not written as nearly all are, or not without fault.
#[cold]
fn parse_carefully<'b>(window: &'b [u8], scanned: &mut usize, limits: &HeadLimits) -> Parsed<'b> {
    let from = *scanned;
    match search_end(window, scanned) {
        Search::End(end) => {
            *scanned = 0;
            let lines = &window[empty_lines(window)..end];
            return parse_lines(lines, end, limits);
        }
        Search::BareLineFeed(at) => {
            parse_lines(&window[empty_lines(window)..at], at, limits)?;
            return Err(BARE_LINE_FEED);
        }
        Search::LineEnded => {
            parse_lines(&window[empty_lines(window)..], window.len(), limits)?;
        }
        Search::NoLineEnded => check_new_bytes(window, from, limits)?,
    }
    if window.len() == limits.max_head_bytes { Err(over_limit(window)) } else { Ok(None) }
}

/// What a search for the head's end found.
enum Search {
    /// The head ends before this.
    End(usize),
    /// A line feed without a carriage return before it stands here.
    BareLineFeed(usize),
    /// At least one more line is whole, but not the head.
    LineEnded,
    /// Nothing new.
    NoLineEnded,
}

/// Searches what was not searched before.
fn search_end(window: &[u8], scanned: &mut usize) -> Search {
    let mut from = (*scanned).min(window.len());
    let mut found = Search::NoLineEnded;
    if nothing_but_empty_lines(&window[..from]) {
        from += empty_lines(&window[from..]);
        if matches!(window[from..], [] | [b'\r']) {
            *scanned = from;
            return found;
        }
    }
    while let Some(offset) = memchr::memchr(b'\n', &window[from..]) {
        let at = from + offset;
        if at == 0 || window[at - 1] != b'\r' {
            return Search::BareLineFeed(at);
        }
        from = at + 1;
        if window[..at].ends_with(b"\r\n\r") {
            return Search::End(from);
        }
        found = Search::LineEnded;
    }
    *scanned = window.len();
    found
}

/// Whether no line of a head that has not ended holds anything. Two line ends in a row would have ended one that did.
fn nothing_but_empty_lines(lines: &[u8]) -> bool {
    lines.is_empty() || lines == b"\r\n" || lines.ends_with(b"\r\n\r\n")
}

/// How many bytes of empty lines stand in front.
fn empty_lines(bytes: &[u8]) -> usize {
    let mut length = 0;
    while bytes[length..].starts_with(b"\r\n") {
        length += 2;
    }
    length
}

/// What can be said of bytes in which no line ended.
fn check_new_bytes(window: &[u8], from: usize, limits: &HeadLimits) -> Result<(), HttpError> {
    // The byte before the new ones may be a CR that wants its LF.
    let new = &window[from.saturating_sub(1).min(window.len())..];
    for (index, &byte) in new.iter().enumerate() {
        let wants_line_feed = index > 0 && new[index - 1] == b'\r';
        if wants_line_feed && byte != b'\n' || byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n') {
            return Err(BAD_BYTE);
        }
    }
    let line = memchr::memrchr(b'\n', window).map_or(0, |at| at + 1);
    if nothing_but_empty_lines(&window[..line]) {
        check_unfinished_request_line(&window[line..], limits)
    } else {
        Ok(())
    }
}

/// What can be said of a request line that has not ended.
fn check_unfinished_request_line(line: &[u8], limits: &HeadLimits) -> Result<(), HttpError> {
    let method_bytes = line.iter().take_while(|&&byte| is_token_byte(byte)).take(MAX_METHOD_BYTES + 1).count();
    if method_bytes > MAX_METHOD_BYTES {
        return Err(METHOD_TOO_LONG);
    }
    match line.get(method_bytes) {
        None => return Ok(()),
        Some(b' ') if method_bytes > 0 => {}
        // An empty line that is not whole yet.
        Some(b'\r') if line.len() == 1 => return Ok(()),
        Some(_) => return Err(BAD_REQUEST_LINE),
    }
    let rest = &line[method_bytes + 1..];
    match memchr::memchr(b' ', &rest[..rest.len().min(limits.max_target_bytes + 1)]) {
        None if rest.len() > limits.max_target_bytes => Err(TARGET_TOO_LONG),
        Some(at) if rest.len() - at > VERSION_LINE_BYTES => Err(BAD_REQUEST_LINE),
        None | Some(_) => Ok(()),
    }
}

/// Why a head that fills the window cannot be served.
fn over_limit(window: &[u8]) -> HttpError {
    let head = &window[empty_lines(window)..];
    if matches!(head, [] | [b'\r']) {
        return ONLY_EMPTY_LINES;
    }
    if memchr::memchr(b'\n', head).is_some() {
        return HEAD_TOO_LARGE;
    }
    // The request line alone is longer than a head may be.
    match memchr::memchr_iter(b' ', head).count() {
        0 => METHOD_TOO_LONG,
        1 => TARGET_TOO_LONG,
        _ => BAD_REQUEST_LINE,
    }
}

/// Splits lines that begin with a whole request line; `None` if the last empty line is missing. The head ends at `end`.
fn parse_lines<'b>(lines: &'b [u8], end: usize, limits: &HeadLimits) -> Parsed<'b> {
    let mut fields = [const { MaybeUninit::uninit() }; HeadLimits::MOST_FIELDS];
    let fields = &mut fields[..limits.max_fields.min(HeadLimits::MOST_FIELDS)];
    let mut request = httparse::Request::new(&mut []);
    let split = request.parse_with_uninit_headers(lines, fields);
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(BAD_REQUEST_LINE);
    };
    if method.len() > MAX_METHOD_BYTES {
        return Err(METHOD_TOO_LONG);
    }
    if target.len() > limits.max_target_bytes {
        return Err(TARGET_TOO_LONG);
    }
    let version = match (&split, request.version) {
        (Err(httparse::Error::Version), _) => {
            let version_at = method.len() + 1 + target.len() + 1;
            return parse_later_version(lines, version_at, method, target, end, limits);
        }
        (_, Some(0)) => Version::Http10,
        (_, Some(_)) => Version::Http11,
        (_, None) => return Err(BAD_REQUEST_LINE),
    };
    let line = parse_request_line(method, target, version)?;
    match split {
        Ok(httparse::Status::Complete(_)) => assemble(line, Lines::add_all(request.headers)?, end),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(refusal(error)),
    }
}

/// httparse knows HTTP/1.0 and HTTP/1.1 alone. A later HTTP/1.x is served as HTTP/1.1 (RFC 9110 section 2.5), another
/// HTTP is refused.
fn parse_later_version<'b>(
    lines: &'b [u8],
    version_at: usize,
    method: &str,
    target: &'b str,
    end: usize,
    limits: &HeadLimits,
) -> Parsed<'b> {
    let rest = lines.get(version_at..).unwrap_or_default();
    let headers = match rest {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n', headers @ ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if *major != b'1' {
                return Err(WRONG_VERSION);
            }
            headers
        }
        _ => return Err(BAD_REQUEST_LINE),
    };
    let line = parse_request_line(method, target, Version::Http11)?;
    let mut fields = [httparse::EMPTY_HEADER; HeadLimits::MOST_FIELDS];
    let fields = &mut fields[..limits.max_fields.min(HeadLimits::MOST_FIELDS)];
    match httparse::parse_headers(headers, fields) {
        Ok(httparse::Status::Complete((_, fields))) => assemble(line, Lines::add_all(fields)?, end),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::HeaderName => BAD_FIELD_NAME,
        httparse::Error::HeaderValue => BAD_FIELD_VALUE,
        httparse::Error::TooManyHeaders => TOO_MANY_FIELDS,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            BAD_REQUEST_LINE
        }
    }
}

/// What the request line says.
pub(super) struct RequestLine<'b> {
    pub(super) method: Method,
    pub(super) target: Target<'b>,
    pub(super) version: Version,
}

fn parse_request_line<'b>(method: &str, target: &'b str, version: Version) -> Result<RequestLine<'b>, HttpError> {
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        "CONNECT" => return Err(NO_TUNNELS),
        _ => Method::Other,
    };
    Ok(RequestLine { method, target: parse_target(method, target)?, version })
}

/// What the header lines say, sorted.
#[derive(Default)]
pub(super) struct Lines<'b> {
    fields: [Option<&'b [u8]>; Field::COUNT],
    repeated: Option<Field>,
    connection: ConnectionOptions,
}

impl<'b> Lines<'b> {
    /// Takes one line in.
    #[inline(always)]
    pub(super) fn add(&mut self, field: Field, value: &'b [u8]) -> Result<(), HttpError> {
        if field == Field::Connection {
            self.connection.add(value);
        }
        let slot = &mut self.fields[field as usize];
        if slot.is_none() {
            *slot = Some(value);
        } else if let Some(error) = second_line(field) {
            return Err(error);
        } else if !matches!(field, Field::Connection | Field::Accept) && self.repeated.is_none() {
            self.repeated = Some(field);
        }
        Ok(())
    }

    /// Takes in what httparse has split.
    fn add_all(headers: &[httparse::Header<'b>]) -> Result<Self, HttpError> {
        let mut lines = Self::default();
        for header in headers {
            if let Some(field) = Field::of(header.name.as_bytes()) {
                lines.add(field, header.value)?;
            }
        }
        Ok(lines)
    }
}

/// The checks that need several lines. Inlined, so that the head is made where it is to be.
#[inline(always)]
fn assemble<'b>(line: RequestLine<'b>, lines: Lines<'b>, end: usize) -> Parsed<'b> {
    let Lines { fields, repeated, connection } = lines;
    match fields[Field::Host as usize] {
        Some(host) if !is_host(host) => return Err(HttpError::bad("the Host header is malformed")),
        None if line.version == Version::Http11 => return Err(HttpError::bad("the Host header is missing")),
        Some(_) | None => {}
    }
    let body =
        body_framing(line.version, fields[Field::ContentLength as usize], fields[Field::TransferEncoding as usize])?;
    let expectation = match (line.version, fields[Field::Expect as usize]) {
        (Version::Http10, _) | (_, None | Some(b"")) => Expectation::None,
        (Version::Http11, Some(value)) if !value.eq_ignore_ascii_case(b"100-continue") => Expectation::Unknown,
        (Version::Http11, Some(_)) => match body {
            BodyFraming::Empty | BodyFraming::Length(0) => Expectation::None,
            BodyFraming::Length(_) | BodyFraming::Chunked => Expectation::Continue,
        },
    };
    let keep_alive = match line.version {
        Version::Http10 => connection.keep_alive && !connection.close,
        Version::Http11 => !connection.close,
    };
    let head = Head {
        method: line.method,
        path: line.target.path,
        query: line.target.query,
        version: line.version,
        body,
        expectation,
        keep_alive,
        fields,
        repeated,
    };
    Ok(Some((head, end)))
}

/// Why a second line of this field leaves the framing or the target in doubt.
fn second_line(field: Field) -> Option<HttpError> {
    match field {
        Field::Host => Some(HttpError::bad("the Host header stands twice")),
        Field::ContentLength => Some(HttpError::bad("the Content-Length header stands twice")),
        Field::TransferEncoding => Some(HttpError::bad("the Transfer-Encoding header stands twice")),
        Field::Connection
        | Field::Expect
        | Field::ContentType
        | Field::CustomerId
        | Field::NotValidAfter
        | Field::NotValidAfterMs
        | Field::LockId
        | Field::ReuseIfExists
        | Field::CreateIfMissing
        | Field::LockWait
        | Field::LockHold
        | Field::LockScope
        | Field::IfMatch
        | Field::IfNoneMatch
        | Field::IdempotencyKey
        | Field::Durability
        | Field::Read
        | Field::Authorization
        | Field::Accept => None,
    }
}

/// The options of all `Connection` lines that mean something here.
#[derive(Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    fn add(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = trim_blanks(option);
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// How the body is delimited (RFC 9112 section 6.3); whatever two readers could read in two ways is an error.
fn body_framing(version: Version, length: Option<&[u8]>, coding: Option<&[u8]>) -> Result<BodyFraming, HttpError> {
    match (length, coding) {
        (None, None) => Ok(BodyFraming::Empty),
        (Some(length), None) => content_length(length).map(BodyFraming::Length),
        (Some(_), Some(_)) => Err(HttpError::bad("Content-Length and Transfer-Encoding exclude each other")),
        (None, Some(_)) if version == Version::Http10 => Err(HttpError::bad("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::Chunked),
        (None, Some(coding)) => Err(unknown_coding(coding)),
    }
}

/// 1*DIGIT within 64 bits; leading zeros are allowed.
fn content_length(value: &[u8]) -> Result<u64, HttpError> {
    const BAD: HttpError = HttpError::bad("the Content-Length header is no number of bytes");
    if value.is_empty() {
        return Err(BAD);
    }
    value.iter().try_fold(0_u64, |length, &digit| {
        if !digit.is_ascii_digit() {
            return Err(BAD);
        }
        length.checked_mul(10).and_then(|length| length.checked_add(u64::from(digit - b'0'))).ok_or(BAD)
    })
}

/// `501` for other codings below a final `chunked`, where the length would be known; `400` for all else.
fn unknown_coding(value: &[u8]) -> HttpError {
    const NOT_IMPLEMENTED: HttpError = HttpError { status: 501, message: "the only transfer coding here is chunked" };
    const BAD: HttpError = HttpError::bad("the Transfer-Encoding header is malformed: send chunked, or Content-Length");
    let mut codings = value.rsplit(|&byte| byte == b',').map(trim_blanks);
    let ends_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let others_are_others = codings.all(|coding| {
        !coding.is_empty() && coding.iter().copied().all(is_token_byte) && !coding.eq_ignore_ascii_case(b"chunked")
    });
    if ends_chunked && others_are_others { NOT_IMPLEMENTED } else { BAD }
}

/// Without SP and HTAB around it.
fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// tchar (RFC 9110 section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests;

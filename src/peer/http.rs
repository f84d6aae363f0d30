//! The HTTP of the link, as functions of slices: the requests of a dialler, the two answers of an acceptor. A small part of HTTP/1.1,
//! and nothing else is taken: see bbd-internals(7). What the bodies say is not looked at here.

use super::link::{Awaited, HELLO_MAX_BYTES, LinkError, PROOF_BYTES, SEALED_MAX_BYTES};
use super::message::Path;
use crate::http::{BodyFraming, Expectation, HeadLimits, Method, Version, parse_head};

/// All that may be held of what an acceptor has received before the other side has proved itself.
pub const UNPROVED_INPUT_MAX_BYTES: usize = 4096;
/// The head of a request.
pub const HEAD_MAX_BYTES: usize = 1024;
/// The answer to a message: it has been taken in.
pub const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

const HEAD_LIMITS: HeadLimits = HeadLimits { max_head_bytes: HEAD_MAX_BYTES, max_target_bytes: 64, max_fields: 8 };
/// The line of a first request that says which bbd the dialler is.
const RELEASE_FIELD: &str = "BigBunny-Version: ";
/// A version is no longer than this, or is taken for none.
const RELEASE_MAX_BYTES: usize = 32;
const OK_BEFORE_LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: ";
const OK_BEHIND_LENGTH: &[u8] = b"\r\n\r\n";
/// The body of an answer: a hello and a proof.
const ANSWER_MAX_BYTES: usize = HELLO_MAX_BYTES + PROOF_BYTES;
const ANSWER_LENGTH_DIGITS: usize = 3;

const _: () = {
    assert!(HEAD_MAX_BYTES + HELLO_MAX_BYTES + HEAD_MAX_BYTES + PROOF_BYTES <= UNPROVED_INPUT_MAX_BYTES);
    assert!(ANSWER_MAX_BYTES < 10_usize.pow(ANSWER_LENGTH_DIGITS as u32));
};

/// What an acceptor must know of the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The path.
    pub path: Path,
    /// The length of the head: the body begins there.
    pub head_bytes: usize,
    /// The length of the body.
    pub body_bytes: usize,
}

/// Appends the head of a request; `body_bytes` of body must follow. `authority` is the `host:port` that was dialled.
pub fn write_request_head(out: &mut Vec<u8>, authority: &str, path: Path, body_bytes: usize) {
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(path.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body_bytes).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the head of the first request of a connection, which says which bbd the dialler is. Whoever does not know that line passes
/// over it, so that two releases understand each other.
pub fn write_first_head(out: &mut Vec<u8>, authority: &str, body_bytes: usize) {
    write_request_head(out, authority, Path::Hello, body_bytes);
    out.truncate(out.len() - 2);
    out.extend_from_slice(RELEASE_FIELD.as_bytes());
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Which bbd a dialler is by the head of its first request: empty if it does not say, or nothing that a version looks like. It is no
/// part of what the handshake proves, and good for telling people alone.
#[must_use]
pub fn release_of(head: &[u8]) -> &str {
    let is_of_version = |byte: &u8| byte.is_ascii_alphanumeric() || b".+-".contains(byte);
    let lines = head.split(|&byte| byte == b'\n');
    let said = lines.filter_map(|line| line.strip_prefix(RELEASE_FIELD.as_bytes())?.strip_suffix(b"\r")).next();
    let release = said.filter(|text| text.len() <= RELEASE_MAX_BYTES && text.iter().all(is_of_version));
    release.and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
}

/// Reads the head of a request at the start of `bytes`; `None` if more bytes are needed. `scanned` is as for [`parse_head`]: 0 for a new
/// head.
///
/// # Errors
///
/// It is no HTTP, nothing that a node sends, or not what the acceptor waits for.
pub fn read_request_head(
    bytes: &[u8],
    scanned: &mut usize,
    awaited: Awaited,
) -> Result<Option<RequestHead>, LinkError> {
    let body_max_bytes = match awaited {
        Awaited::Hello => HELLO_MAX_BYTES,
        Awaited::Proof => PROOF_BYTES,
        Awaited::Message => SEALED_MAX_BYTES,
        Awaited::Nothing => return Err(LinkError::OutOfTurn),
    };
    let Some((head, head_bytes)) = parse_head(bytes, scanned, &HEAD_LIMITS).map_err(LinkError::NotHttp)? else {
        return Ok(None);
    };
    let is_plain = head.method == Method::Post
        && head.version == Version::Http11
        && head.query.is_none()
        && head.expectation == Expectation::None
        && head.keep_alive;
    let (true, Some(path), BodyFraming::Length(length)) = (is_plain, Path::of(head.path_text()), head.body) else {
        return Err(LinkError::StrangeRequest);
    };
    if path != Path::Hello && awaited != Awaited::Message {
        return Err(LinkError::OutOfTurn);
    }
    match usize::try_from(length) {
        Ok(body_bytes) if body_bytes <= body_max_bytes => Ok(Some(RequestHead { path, head_bytes, body_bytes })),
        Ok(_) | Err(_) => Err(LinkError::TooLong { bytes: length }),
    }
}

/// Appends the answer to a request of the handshake.
pub fn write_answer(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(OK_BEFORE_LENGTH);
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(OK_BEHIND_LENGTH);
    out.extend_from_slice(body);
}

/// Reads the answer to a request of the handshake at the start of `bytes`: its body, and its whole length; `None` if more bytes are needed.
///
/// # Errors
///
/// It is not what [`write_answer`] writes.
pub fn read_answer(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, LinkError> {
    let Some(rest) = behind(bytes, OK_BEFORE_LENGTH)? else { return Ok(None) };
    let digits = rest.iter().take_while(|digit| digit.is_ascii_digit()).take(ANSWER_LENGTH_DIGITS + 1).count();
    let (digits, rest) = rest.split_at(digits);
    let length = digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    // One length is written in one way.
    let is_number = matches!(digits, [] | [b'0'] | [b'1'..=b'9', ..]);
    if !is_number || length > ANSWER_MAX_BYTES || (digits.is_empty() && !rest.is_empty()) {
        return Err(LinkError::StrangeAnswer);
    }
    let Some(rest) = behind(rest, OK_BEHIND_LENGTH)? else { return Ok(None) };
    Ok(rest.get(..length).map(|body| (body, bytes.len() - rest.len() + length)))
}

/// Takes the answers to messages from the start of `bytes`, and says how many bytes those were. `awaited` is how many messages have no
/// answer yet.
///
/// # Errors
///
/// There are others than [`NO_CONTENT`], or more than are waited for.
pub fn take_no_contents(bytes: &[u8], awaited: &mut usize) -> Result<usize, LinkError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        if *awaited == 0 {
            return Err(LinkError::UnaskedAnswer);
        }
        let Some(behind) = behind(rest, NO_CONTENT)? else { break };
        rest = behind;
        *awaited -= 1;
    }
    Ok(bytes.len() - rest.len())
}

/// What stands behind `expected`; `None` if it has not all come.
fn behind<'b>(bytes: &'b [u8], expected: &[u8]) -> Result<Option<&'b [u8]>, LinkError> {
    match bytes.strip_prefix(expected) {
        Some(rest) => Ok(Some(rest)),
        None if expected.starts_with(bytes) => Ok(None),
        None => Err(LinkError::StrangeAnswer),
    }
}

#[cfg(test)]
mod tests;

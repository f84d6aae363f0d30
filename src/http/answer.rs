//! Answers to bytes, appended to a connection's output without allocating anything else.

use super::{HttpDate, ReplyFrame, Version};

/// The interim answer that asks for the body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The statuses that are ever sent, with their status lines (RFC 9110 section 15, RFC 6585) and the name of the first header.
const STATUS_LINES: [(u16, &str); 25] = [
    (200, "HTTP/1.1 200 OK\r\nDate: "),
    (201, "HTTP/1.1 201 Created\r\nDate: "),
    (204, "HTTP/1.1 204 No Content\r\nDate: "),
    (304, "HTTP/1.1 304 Not Modified\r\nDate: "),
    (400, "HTTP/1.1 400 Bad Request\r\nDate: "),
    (401, "HTTP/1.1 401 Unauthorized\r\nDate: "),
    (403, "HTTP/1.1 403 Forbidden\r\nDate: "),
    (404, "HTTP/1.1 404 Not Found\r\nDate: "),
    (405, "HTTP/1.1 405 Method Not Allowed\r\nDate: "),
    (408, "HTTP/1.1 408 Request Timeout\r\nDate: "),
    (409, "HTTP/1.1 409 Conflict\r\nDate: "),
    (410, "HTTP/1.1 410 Gone\r\nDate: "),
    (411, "HTTP/1.1 411 Length Required\r\nDate: "),
    (412, "HTTP/1.1 412 Precondition Failed\r\nDate: "),
    (413, "HTTP/1.1 413 Content Too Large\r\nDate: "),
    (414, "HTTP/1.1 414 URI Too Long\r\nDate: "),
    (417, "HTTP/1.1 417 Expectation Failed\r\nDate: "),
    (422, "HTTP/1.1 422 Unprocessable Content\r\nDate: "),
    (429, "HTTP/1.1 429 Too Many Requests\r\nDate: "),
    (431, "HTTP/1.1 431 Request Header Fields Too Large\r\nDate: "),
    (500, "HTTP/1.1 500 Internal Server Error\r\nDate: "),
    (501, "HTTP/1.1 501 Not Implemented\r\nDate: "),
    (503, "HTTP/1.1 503 Service Unavailable\r\nDate: "),
    (505, "HTTP/1.1 505 HTTP Version Not Supported\r\nDate: "),
    (507, "HTTP/1.1 507 Insufficient Storage\r\nDate: "),
];

/// Adds a header line to an answer: its name, then the parts of its value, each a number or something in bytes. A macro, so that all
/// that is the same in every answer is put together by the compiler and copied at once.
macro_rules! header {
    ($writer:expr, $name:literal, $($part:expr),+) => {
        $writer.begin_header(concat!("\r\n", $name, ": "))$(.value($part))+
    };
}
pub(crate) use header;

/// A part of the value of a header.
pub(crate) trait HeaderValue {
    fn write(self, out: &mut Vec<u8>);
}

impl HeaderValue for &[u8] {
    /// It must hold no control characters; nothing that a client sent is ever put here undecoded.
    #[inline(always)]
    fn write(self, out: &mut Vec<u8>) {
        debug_assert!(!self.iter().any(u8::is_ascii_control), "a control character in {self:?}");
        out.extend_from_slice(self);
    }
}

impl<const N: usize> HeaderValue for &[u8; N] {
    #[inline(always)]
    fn write(self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl HeaderValue for u64 {
    #[inline(always)]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(self).as_bytes());
    }
}

/// Writes one answer: `start`, any number of `header!`s, then `body`. Between the calls the last line has no end yet: each line
/// brings the end of the one before it.
#[derive(Debug)]
#[must_use = "an answer without its body never ends"]
pub struct AnswerWriter<'o> {
    out: &'o mut Vec<u8>,
    status: u16,
    head_only: bool,
}

impl<'o> AnswerWriter<'o> {
    /// The status line, `Date`, and `Connection` where the client must be told.
    ///
    /// # Panics
    ///
    /// When the status is none that this server sends: a mistake of ours, never of a client.
    pub fn start(out: &'o mut Vec<u8>, status: u16, frame: &ReplyFrame, date: &HttpDate) -> Self {
        let line = STATUS_LINES.iter().find(|(known, _)| *known == status);
        assert!(line.is_some(), "status {status} has no line in STATUS_LINES");
        if let Some((_, line)) = line {
            out.extend_from_slice(line.as_bytes());
        }
        out.extend_from_slice(date.as_bytes());
        match (frame.close, frame.version) {
            (true, _) => out.extend_from_slice(b"\r\nConnection: close"),
            (false, Version::Http10) => out.extend_from_slice(b"\r\nConnection: keep-alive"),
            (false, Version::Http11) => {}
        }
        Self { out, status, head_only: frame.head_only }
    }

    /// What [`header!`] begins a line with.
    #[inline(always)]
    pub(crate) fn begin_header(&mut self, name: &'static str) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        self
    }

    /// What [`header!`] goes on with.
    #[inline(always)]
    pub(crate) fn value(&mut self, part: impl HeaderValue) -> &mut Self {
        part.write(self.out);
        self
    }

    /// `Content-Type`, `Content-Length` (neither for `204` and `304`, which have no body), the end of the head, and the
    /// body unless the request was a `HEAD`.
    pub fn body(mut self, content_type: Option<&str>, body: &[u8]) {
        if matches!(self.status, 204 | 304) {
            self.out.extend_from_slice(b"\r\n\r\n");
            return;
        }
        if let Some(content_type) = content_type {
            header!(self, "Content-Type", content_type.as_bytes());
        }
        header!(self, "Content-Length", body.len() as u64);
        self.out.extend_from_slice(b"\r\n\r\n");
        if !self.head_only {
            self.out.extend_from_slice(body);
        }
    }
}

/// An answer of one line of text, behind which the connection is closed.
pub fn write_error(out: &mut Vec<u8>, frame: &ReplyFrame, date: &HttpDate, status: u16, message: &str) {
    let frame = ReplyFrame { close: true, ..*frame };
    let mut writer = AnswerWriter::start(out, status, &frame, date);
    header!(writer, "Content-Type", b"text/plain");
    header!(writer, "Content-Length", message.len() as u64 + 1);
    writer.out.extend_from_slice(b"\r\n\r\n");
    if !writer.head_only {
        writer.out.extend_from_slice(message.as_bytes());
        writer.out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::time::WallTime;

    const FRAME: ReplyFrame = ReplyFrame { version: Version::Http11, head_only: false, close: false };

    fn date() -> HttpDate {
        HttpDate::new(WallTime(784_111_777_000))
    }

    fn answer(status: u16, frame: &ReplyFrame, content_type: Option<&str>, body: &[u8]) -> String {
        let mut out = Vec::new();
        let mut writer = AnswerWriter::start(&mut out, status, frame, &date());
        header!(writer, "ETag", b"\"", 1, b".", 2, b"\"");
        header!(writer, "Retry-After", 3);
        writer.body(content_type, body);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_whole_answer() {
        assert_eq!(
            answer(200, &FRAME, Some("text/plain"), b"hi"),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"1.2\"\r\nRetry-After: 3\r\n\
             Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
        );
    }

    #[test]
    fn head_says_the_length_without_the_body() {
        let text = answer(200, &ReplyFrame { head_only: true, ..FRAME }, None, b"hello");
        assert!(text.ends_with("Content-Length: 5\r\n\r\n"), "{text}");
    }

    #[test]
    fn no_content_has_no_length() {
        for status in [204, 304] {
            let text = answer(status, &FRAME, Some("text/plain"), b"x");
            assert!(!text.contains("Content-Length") && !text.contains("Content-Type"), "{text}");
            assert!(text.ends_with("Retry-After: 3\r\n\r\n"), "{text}");
        }
    }

    #[test]
    fn connection_is_said_where_the_client_cannot_know() {
        let http10 = ReplyFrame { version: Version::Http10, ..FRAME };
        assert!(!answer(200, &FRAME, None, b"").contains("Connection"));
        assert!(answer(200, &http10, None, b"").contains("\r\nConnection: keep-alive\r\n"));
        for frame in [FRAME, http10] {
            let closing = ReplyFrame { close: true, ..frame };
            assert!(answer(200, &closing, None, b"").contains("\r\nConnection: close\r\n"));
        }
    }

    #[test]
    fn an_error_is_one_line_and_closes() {
        let mut out = Vec::new();
        write_error(&mut out, &FRAME, &date(), 400, "no");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\
             Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nno\n"
        );
    }

    #[test]
    fn status_lines_say_their_status() {
        for (status, line) in STATUS_LINES {
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")) && line.ends_with("\r\nDate: "), "{line}");
        }
    }
}

//! Answers to bytes, appended to a connection's output without allocating anything else.

use super::{HttpDate, ReplyFrame, Version};

/// The interim answer that asks for the body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The statuses that are ever sent, with their status lines (RFC 9110 section 15, RFC 6585).
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

/// Writes one answer: `start`, any number of `header`s, then `body`.
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
        out.extend_from_slice(match (frame.close, frame.version) {
            (true, _) => b"\r\nConnection: close\r\n",
            (false, Version::Http10) => b"\r\nConnection: keep-alive\r\n",
            (false, Version::Http11) => b"\r\n",
        });
        Self { out, status, head_only: frame.head_only }
    }

    /// One header line; inlined, so that the name is no call of memcpy. The value must hold no control characters; nothing that a client sent is ever put here
    /// undecoded.
    #[inline(always)]
    pub fn header(&mut self, name: &str, value: &[u8]) {
        debug_assert!(!value.iter().any(u8::is_ascii_control), "a control character in the value of {name}");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    /// One header line with a number.
    #[inline(always)]
    pub fn header_u64(&mut self, name: &str, value: u64) {
        self.header(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// `Content-Type`, `Content-Length` (neither for `204` and `304`, which have no body), the end of the head, and the
    /// body unless the request was a `HEAD`.
    pub fn body(mut self, content_type: Option<&str>, body: &[u8]) {
        if matches!(self.status, 204 | 304) {
            self.out.extend_from_slice(b"\r\n");
            return;
        }
        if let Some(content_type) = content_type {
            self.header("Content-Type", content_type.as_bytes());
        }
        self.header_u64("Content-Length", body.len() as u64);
        self.out.extend_from_slice(b"\r\n");
        if !self.head_only {
            self.out.extend_from_slice(body);
        }
    }
}

/// An answer of one line of text, behind which the connection is closed.
pub fn write_error(out: &mut Vec<u8>, frame: &ReplyFrame, date: &HttpDate, status: u16, message: &str) {
    let frame = ReplyFrame { close: true, ..*frame };
    let mut writer = AnswerWriter::start(out, status, &frame, date);
    writer.header("Content-Type", b"text/plain");
    writer.header_u64("Content-Length", message.len() as u64 + 1);
    writer.out.extend_from_slice(b"\r\n");
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
        writer.header("ETag", b"\"1.2\"");
        writer.header_u64("Retry-After", 3);
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

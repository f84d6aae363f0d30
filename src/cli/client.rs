//! Owns the conversation with the daemon: one blocking HTTP/1.1 connection, on its Unix socket or over TCP, with a deadline for each
//! request.
//! Does not own what is asked for, nor what an answer means to a command.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::exit::{Exit, Failure};
use crate::config::values::HostPort;

/// How long the daemon has for an answer, the time that a request waits for a lock aside.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that the head of an answer may have.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most bytes that the body of an answer may have: a page of the longest names, all escaped, has room.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// The most header lines that an answer may have.
const MAX_HEADERS: usize = 64;
/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A request. Names and values are the caller's own or checked: nothing here escapes them.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The method.
    pub method: &'static str,
    /// The target, percent-encoded.
    pub target: String,
    /// Header fields beside `Host` and `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: &'a [u8],
    /// How long the daemon may wait before it answers, as the request itself allows it to.
    pub wait: Duration,
    /// The most bytes that the body of the answer may have.
    pub answer_max_bytes: usize,
}

impl<'a> Ask<'a> {
    /// A `POST` without body and headers.
    #[must_use]
    pub fn post(target: String) -> Self {
        Self {
            method: "POST",
            target,
            headers: Vec::new(),
            body: b"",
            wait: Duration::ZERO,
            answer_max_bytes: MAX_BODY_BYTES,
        }
    }

    /// With another method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// With a header field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: bbd\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header field; its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The error code of the answer.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.header("BigBunny-Error-Code")
    }

    /// How long the daemon says to wait before the next try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let exact =
            self.header("BigBunny-Retry-After-Ms").and_then(|text| text.parse().ok()).map(Duration::from_millis);
        exact.or_else(|| self.header("Retry-After").and_then(|text| text.parse().ok()).map(Duration::from_secs))
    }

    /// The answer itself if it is a success, else what it means.
    ///
    /// # Errors
    /// The answer is none of success.
    pub fn success(self) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.failure()) }
    }

    /// What an answer that is no success means: its code, what to do, and when to try again.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let line = printable(&String::from_utf8_lossy(&self.body));
        let mut message = match self.code() {
            Some(code) => format!("{}: {}", printable(code), in_our_words(code).unwrap_or(&line)),
            None if line.is_empty() => format!("HTTP status {}", self.status),
            None => format!("{line} (HTTP status {})", self.status),
        };
        if let Some(wait) = self.retry_after() {
            message.push_str(&format!(" (try again in {} ms)", wait.as_millis()));
        }
        Failure::new(Exit::of_answer(self.status, self.code()), message)
    }
}

/// What to do where the daemon speaks of headers, which nobody can send from here.
fn in_our_words(code: &str) -> Option<&'static str> {
    match code {
        "StoreLocked" => Some("somebody holds the lock of this store; try again, or let bbd modify wait for it"),
        "NameExists" => Some("the name is in use; look it up, delete it, or get the id of its store with --reuse"),
        "VersionMismatch" => Some("the store is there already (--if-absent), or it is missing (--if-present)"),
        _ => None,
    }
}

/// Text for a terminal: on one line, without control characters.
pub(super) fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Where a daemon is.
#[derive(Clone)]
enum Place {
    Socket(PathBuf),
    Address(HostPort),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(addr) => addr.fmt(f),
        }
    }
}

/// What a connection runs over.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn write_before(&mut self, bytes: &[u8], deadline: Instant) -> std::io::Result<usize> {
        let timeout = Some(time_left(deadline)?);
        match self {
            Self::Unix(stream) => stream.set_write_timeout(timeout).and_then(|()| stream.write(bytes)),
            Self::Tcp(stream) => stream.set_write_timeout(timeout).and_then(|()| stream.write(bytes)),
        }
    }

    fn read_before(&mut self, chunk: &mut [u8], deadline: Instant) -> std::io::Result<usize> {
        let timeout = Some(time_left(deadline)?);
        match self {
            Self::Unix(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.read(chunk)),
            Self::Tcp(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.read(chunk)),
        }
    }
}

/// A connection to the daemon.
pub struct Client {
    stream: Stream,
    /// The daemon has said that it takes no further request on it.
    is_over: bool,
    place: Place,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

impl Client {
    /// Connects to a daemon's socket.
    ///
    /// # Errors
    /// As [`connect_unix`].
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        Self::connect_to(Place::Socket(path.to_owned()))
    }

    /// Connects to a daemon over TCP.
    ///
    /// # Errors
    /// No daemon there, with what to do about it.
    pub fn connect_tcp(addr: &HostPort) -> Result<Self, Failure> {
        Self::connect_to(Place::Address(addr.clone()))
    }

    fn connect_to(place: Place) -> Result<Self, Failure> {
        let stream = match &place {
            Place::Socket(path) => Stream::Unix(connect_unix(path)?),
            Place::Address(addr) => Stream::Tcp(connect_tcp(addr)?),
        };
        Ok(Self { stream, is_over: false, place, rest: Vec::new() })
    }

    /// Asks and waits for the answer, whatever its status; on a new connection if the daemon has ended the last one.
    ///
    /// # Errors
    /// There is none, not in time, or not one of HTTP.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        if self.is_over {
            *self = Self::connect_to(self.place.clone())?;
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT + ask.wait;
        if let Err(error) = self.send(&ask.bytes(), deadline) {
            // A daemon that refuses a request early closes before it has read all of it; its answer says why.
            if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
                return Err(self.lost(&error));
            }
        }
        let mut buffer = std::mem::take(&mut self.rest);
        loop {
            match parse_reply(&buffer, ask.answer_max_bytes) {
                Ok(Some((reply, length))) if reply.status >= 200 => {
                    self.rest = buffer.split_off(length);
                    self.is_over = reply.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                    return Ok(reply);
                }
                Ok(Some((_, length))) => {
                    // An interim answer (RFC 9110 section 15.2); the final one follows.
                    buffer.drain(..length);
                    continue;
                }
                Ok(None) => {}
                Err(problem) => return Err(self.garbled(problem)),
            }
            let mut chunk = [0; READ_BYTES];
            match self.receive(&mut chunk, deadline) {
                Ok(0) => {
                    return Err(Failure::new(
                        Exit::Unavailable,
                        format!("the daemon on {} closed the connection without an answer; try again", self.place),
                    ));
                }
                Ok(length) => buffer.extend_from_slice(&chunk[..length]),
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write_before(bytes, deadline) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, chunk: &mut [u8], deadline: Instant) -> std::io::Result<usize> {
        loop {
            match self.stream.read_before(chunk, deadline) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn lost(&self, error: &std::io::Error) -> Failure {
        let place = &self.place;
        let message = if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            format!("no answer from the daemon on {place} in time; is it stopped or overloaded?")
        } else {
            format!("the connection to the daemon on {place} broke: {error}; try again")
        };
        Failure::new(Exit::Unavailable, message)
    }

    fn garbled(&self, problem: &str) -> Failure {
        Failure::new(Exit::Other, format!("what answers on {} is no bbd: {problem}", self.place))
    }
}

fn time_left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A time-out of zero would mean none.
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Connects to a daemon's socket, for who asks in another way than [`Client`].
///
/// # Errors
/// No daemon on the socket, or no permission, with what to do about it.
pub fn connect_unix(path: &Path) -> Result<UnixStream, Failure> {
    open(path).map_err(|errno| connect_failure(path, errno))
}

fn connect_tcp(addr: &HostPort) -> Result<TcpStream, Failure> {
    // Without a host it is this one.
    let host = if addr.host.is_empty() { "localhost" } else { &addr.host };
    let unavailable = |what: String| Failure::new(Exit::Unavailable, what);
    let hint = "start bbd with --bind-addr, or name its address with --addr or BBD_ADDR";
    let addresses = (host, addr.port).to_socket_addrs().map_err(|error| {
        unavailable(format!("{addr} has no address: {error}; name another with --addr or BBD_ADDR"))
    })?;
    let mut failure = unavailable(format!("{addr} has no address; name another with --addr or BBD_ADDR"));
    for address in addresses {
        let error = match TcpStream::connect_timeout(&address, ANSWER_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        failure = unavailable(if error.kind() == ErrorKind::ConnectionRefused {
            format!("no daemon on {addr}: nobody answers; {hint}")
        } else {
            format!("cannot connect to {addr}: {error}; {hint}")
        });
    }
    Err(failure)
}

/// Connects with a time-out, which std cannot: a daemon that accepts nothing lets its backlog run full, and then connecting waits.
fn open(path: &Path) -> Result<UnixStream, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_TIMEOUT))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// What a failed connect means, and what to do about it.
fn connect_failure(path: &Path, errno: Errno) -> Failure {
    let shown = path.display();
    match errno {
        Errno::NOENT | Errno::CONNREFUSED | Errno::NOTSOCK | Errno::NOTDIR => {
            let what = match errno {
                Errno::NOENT | Errno::NOTDIR => "there is no such file",
                Errno::NOTSOCK => "it is no socket",
                _ => "nobody answers",
            };
            let hint = "start bbd, or name its socket with --uds or BBD_UDS";
            Failure::new(Exit::Unavailable, format!("no daemon on {shown}: {what}; {hint}"))
        }
        Errno::AGAIN | Errno::TIMEDOUT | Errno::INTR => Failure::new(
            Exit::Unavailable,
            format!("the daemon on {shown} accepts no connection; is it stopped or overloaded?"),
        ),
        Errno::ACCESS | Errno::PERM => Failure::new(Exit::NotPermitted, not_permitted(path)),
        Errno::NAMETOOLONG | Errno::INVAL => Failure::usage(format!("{shown} cannot be the path of a socket")),
        _ => Failure::new(Exit::Other, format!("cannot connect to {shown}: {}", std::io::Error::from(errno))),
    }
}

/// Says who may use the socket, and who asks: of the socket file, or of the first directory on the way that bars it.
fn not_permitted(path: &Path) -> String {
    let us = user_name(rustix::process::geteuid().as_raw());
    let shown = path.display();
    let barred = path.ancestors().find_map(|place| std::fs::symlink_metadata(place).ok().map(|found| (place, found)));
    let Some((place, found)) = barred else { return format!("user {us} may not connect to {shown}") };
    let (mode, owner, gid) = (found.mode() & 0o7777, user_name(found.uid()), found.gid());
    let (kind, hint) = if place == path {
        ("its socket file".to_owned(), "start the daemon with --uds-mode and --uds-group")
    } else {
        (format!("the directory {}", place.display()), "move the socket to a directory that both may enter")
    };
    format!(
        "user {us} may not connect to {shown}: {kind} has mode {mode:04o}, owner {owner} and group {gid}; \
         run this as {owner}, or {hint}"
    )
}

/// A user's name, or the number of one who has none. Read here, as a static binary cannot ask the C library.
fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut names = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names.next().unwrap_or_else(|| uid.to_string())
}

/// Reads one answer, whose body has at most `body_max_bytes`: `None` if more bytes are needed, else the answer and its length.
pub(super) fn parse_reply(bytes: &[u8], body_max_bytes: usize) -> Result<Option<(Reply, usize)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES => {
            return Err("the head of its answer is too long");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("its answer is not HTTP"),
    };
    let status = head.code.ok_or("its answer has no status")?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = head.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
    let mut reply = Reply { status, headers, body: Vec::new() };
    // These never have a body (RFC 9112 section 6.3).
    if status < 200 || status == 204 || status == 304 {
        return Ok(Some((reply, head_length)));
    }
    let length = reply.header("Content-Length").and_then(|text| text.parse::<usize>().ok());
    let length =
        length.filter(|length| *length <= body_max_bytes).ok_or("its answer has no length that makes sense")?;
    match bytes.get(head_length..head_length + length) {
        Some(body) => reply.body = body.to_vec(),
        None => return Ok(None),
    }
    Ok(Some((reply, head_length + length)))
}

/// Percent-encodes a path segment or the value in a query: all but RFC 3986's unreserved characters and the colon of store ids.
#[must_use]
pub fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn answers_cut_at_every_byte() {
        let whole: &[u8] = b"HTTP/1.1 503 Busy\r\nbigbunny-error-code: LeaderChanged\r\nBigBunny-Retry-After-Ms: 7\r\n\
            Retry-After: 1\r\nContent-Length: 5\r\n\r\nbusy\n";
        for cut in 0..whole.len() {
            assert_eq!(parse_reply(&whole[..cut], MAX_BODY_BYTES), Ok(None), "cut at {cut}");
        }
        let (reply, length) = parse_reply(&[whole, b"HTTP/1.1 "].concat(), MAX_BODY_BYTES).unwrap().unwrap();
        assert_eq!(length, whole.len());
        assert_eq!((reply.status, reply.code()), (503, Some("LeaderChanged")));
        assert_eq!(reply.retry_after(), Some(Duration::from_millis(7)));
        let failure = reply.failure();
        assert_eq!(failure.message, "LeaderChanged: busy (try again in 7 ms)");
        assert_eq!(failure.exit, Exit::Unavailable);
    }

    #[test]
    fn answers_without_a_body_need_no_length() {
        for status in ["100 Continue", "204 No Content", "304 Not Modified"] {
            let whole = format!("HTTP/1.1 {status}\r\n\r\n");
            let (reply, length) = parse_reply(whole.as_bytes(), MAX_BODY_BYTES).unwrap().unwrap();
            assert_eq!((reply.body.len(), length), (0, whole.len()));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(parse_reply(bytes.as_bytes(), MAX_BODY_BYTES).is_err(), "{bytes:?}");
        }
        let long_head = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(MAX_HEAD_BYTES));
        assert!(parse_reply(long_head.as_bytes(), MAX_BODY_BYTES).is_err());
        let body = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(parse_reply(body, 2).is_err() && parse_reply(body, 3).is_ok());
    }

    #[test]
    fn a_daemon_cannot_move_the_cursor() {
        let reply = Reply { status: 500, headers: Vec::new(), body: b"a\x1b[2Jb\r\nc\n".to_vec() };
        assert_eq!(reply.failure().message, "a [2Jb  c (HTTP status 500)");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(percent_encode(b"v1:0:A-b_c"), "v1:0:A-b_c");
        assert_eq!(percent_encode("a/b?c#d %é+".as_bytes()), "a%2Fb%3Fc%23d%20%25%C3%A9%2B");
        assert_eq!(percent_encode(b"\r\n\xff"), "%0D%0A%FF");
    }
}

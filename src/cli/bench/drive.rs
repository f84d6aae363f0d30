//! Many connections that ask as fast as they are answered: one thread, one event loop, a batch of requests in flight on each. Owns
//! sending, receiving and counting; what is asked is the caller's.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

use super::latency::Latencies;
use crate::cli::client::{ANSWER_TIMEOUT, MAX_BODY_BYTES, parse_reply};
use crate::cli::exit::{Exit, Failure};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Header lines of an answer at most.
const MAX_HEADERS: usize = 32;
/// How long the loop sleeps at most: how often progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// What is asked, and what is made of the answers.
pub(super) trait Work {
    /// Appends one request; says no when there are no more.
    fn ask(&mut self, out: &mut Vec<u8>) -> bool;
    /// A good answer came.
    fn answered(&mut self, body: &[u8]);
    /// Called a few times a second.
    fn tick(&mut self, done: u64, elapsed: Duration);
}

/// What came of it.
pub(super) struct Driven {
    /// From the write of a request's batch to its answer, refused ones included.
    pub(super) latencies: Latencies,
    /// Answers of `429`.
    pub(super) rate_limited: u64,
    pub(super) elapsed: Duration,
}

/// One connection.
struct Lane {
    stream: UnixStream,
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    in_flight: usize,
    /// It has asked something that is not all answered, or is to ask more.
    is_busy: bool,
    asked_at: Instant,
}

/// Asks on all connections, `pipeline` requests at once on each, until there are no more or the time is over.
///
/// # Errors
/// A connection breaks, nothing is answered for [`ANSWER_TIMEOUT`], or an answer is an error other than `429`.
pub(super) fn drive(
    streams: Vec<std::os::unix::net::UnixStream>,
    pipeline: usize,
    duration: Option<Duration>,
    work: &mut impl Work,
) -> Result<Driven, Failure> {
    let mut poll = Poll::new().map_err(|error| broken(&error))?;
    let mut lanes = Vec::with_capacity(streams.len());
    let started = Instant::now();
    for (index, stream) in streams.into_iter().enumerate() {
        let mut lane = Lane::new(stream, started).map_err(|error| broken(&error))?;
        poll.registry()
            .register(&mut lane.stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| broken(&error))?;
        lanes.push(lane);
    }
    let mut driven = Driven { latencies: Latencies::new(), rate_limited: 0, elapsed: Duration::ZERO };
    let mut busy = 0;
    for lane in &mut lanes {
        lane.fire(pipeline, work).map_err(|error| broken(&error))?;
        busy += usize::from(lane.is_busy);
    }
    let mut events = Events::with_capacity(lanes.len().min(1024));
    let mut buffer = vec![0; READ_BYTES];
    let (mut last_answer, mut last_tick) = (started, started);
    while busy > 0 && duration.is_none_or(|duration| started.elapsed() < duration) {
        match poll.poll(&mut events, Some(TICK)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(&error)),
        }
        for event in &events {
            let Some(lane) = lanes.get_mut(event.token().0) else { continue };
            lane.send().map_err(|error| broken(&error))?;
            if lane.receive(&mut buffer, &mut driven, work)? {
                last_answer = Instant::now();
            }
            if lane.is_busy && lane.in_flight == 0 {
                lane.fire(pipeline, work).map_err(|error| broken(&error))?;
                busy -= usize::from(!lane.is_busy);
            }
        }
        let now = Instant::now();
        if now - last_answer >= ANSWER_TIMEOUT {
            return Err(Failure::new(Exit::Unavailable, "the daemon stopped answering; is it stopped or overloaded?"));
        }
        if now - last_tick >= TICK {
            last_tick = now;
            work.tick(driven.latencies.total(), now - started);
        }
    }
    driven.elapsed = started.elapsed();
    Ok(driven)
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("a connection to the daemon broke: {error}"))
}

impl Lane {
    fn new(stream: std::os::unix::net::UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream);
        Ok(Self { stream, output: Vec::new(), sent: 0, input: Vec::new(), in_flight: 0, is_busy: true, asked_at: now })
    }

    /// Asks the next batch; the connection is not busy any more if there is nothing left to ask.
    fn fire(&mut self, pipeline: usize, work: &mut impl Work) -> io::Result<()> {
        self.output.clear();
        self.sent = 0;
        while self.in_flight < pipeline && work.ask(&mut self.output) {
            self.in_flight += 1;
        }
        self.asked_at = Instant::now();
        self.is_busy = self.in_flight > 0;
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Who refuses a request early closes; the answer says why.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all that has come and counts the answers in it. Says whether there were any.
    fn receive(&mut self, buffer: &mut [u8], driven: &mut Driven, work: &mut impl Work) -> Result<bool, Failure> {
        let before = driven.latencies.total();
        while self.in_flight > 0 {
            match self.stream.read(buffer) {
                Ok(0) => return Err(broken(&ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
            self.count(driven, work)?;
        }
        Ok(driven.latencies.total() > before)
    }

    fn count(&mut self, driven: &mut Driven, work: &mut impl Work) -> Result<(), Failure> {
        let latency = self.asked_at.elapsed();
        let mut used = 0;
        while let Some(answer) = read_answer(&self.input[used..])? {
            match answer.status {
                200..300 => work.answered(answer.body),
                429 => driven.rate_limited += 1,
                _ => {
                    let reply = parse_reply(&self.input[used..], MAX_BODY_BYTES).ok().flatten();
                    return Err(reply.map_or_else(no_bbd, |(reply, _)| reply.failure()));
                }
            }
            driven.latencies.add(latency);
            used += answer.length;
            self.in_flight -= 1;
        }
        self.input.drain(..used);
        Ok(())
    }
}

fn no_bbd() -> Failure {
    Failure::new(Exit::Other, "what answers is no bbd")
}

/// An answer, and its length with its head.
#[derive(Debug, PartialEq, Eq)]
struct Answer<'b> {
    status: u16,
    body: &'b [u8],
    length: usize,
}

/// The first answer in `bytes`; `None` if it is not whole. Nothing is allocated, as this is half of what
/// the measuring side has to do.
fn read_answer(bytes: &[u8]) -> Result<Option<Answer<'_>>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(no_bbd()),
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Content-Length"));
    let length: usize = length
        .and_then(|header| std::str::from_utf8(header.value).ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(no_bbd)?;
    let body = bytes.get(head_length..).and_then(|rest| rest.get(..length));
    let status = head.code.ok_or_else(no_bbd)?;
    Ok(body.map(|body| Answer { status, body, length: head_length + length }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn answers_cut_at_every_byte() {
        let whole: &[u8] = b"HTTP/1.1 200 OK\r\nETag: \"1.1\"\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..whole.len() {
            assert_eq!(read_answer(&whole[..cut]).unwrap(), None, "cut at {cut}");
        }
        let two = [whole, whole].concat();
        assert_eq!(read_answer(&two).unwrap(), Some(Answer { status: 200, body: b"hello", length: whole.len() }));
        assert!(read_answer(b"+PONG\r\n").is_err());
        assert!(read_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}

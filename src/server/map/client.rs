//! One connection on `--bind-addr`, before it is known to be a node's: its bytes, the requests in them, and its answers. One request at a
//! time; the next is looked at when the one before is answered. Owns who may ask; what is asked is [`crate::kv::ask`]'s.

use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use subtle::ConstantTimeEq as _;

use crate::config::secrets::Secret;
use crate::http::{
    AnswerWriter, BodyFraming, CONTINUE, Expectation, Field, Head, HeadLimits, HttpDate, HttpError, Method, ReplyFrame,
    Version, header, parse_head, write_error,
};
use crate::kv::IDEMPOTENCY_KEY_MAX_BYTES;
use crate::kv::ask::{Answer, Endpoint, Kind, Question, parameter};
use crate::kv::command::BadCommand;
use crate::peer::message::Path;
use crate::peer::{End, Output};
use crate::raft::entry::COMMAND_MAX_BYTES;
use crate::server::peer::{is_readable, is_writable};
use crate::time::Instant;

const HEAD_LIMITS: HeadLimits =
    HeadLimits { max_head_bytes: 16 * 1024, max_target_bytes: 8 * 1024, max_fields: HeadLimits::MOST_FIELDS };
/// A body at most: a write of the greatest size, all of it written as escapes.
const BODY_MAX_BYTES: usize = 6 * COMMAND_MAX_BYTES;
/// Read in one turn at most.
const READ_PER_TURN_MAX_BYTES: usize = 256 * 1024;
/// A request must come whole, and an answer leave, within this.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// A request that is refused before it has come whole may go on for so long.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// A connection on which nothing is asked is closed after this.
const IDLE_TIME_MAX: Duration = Duration::from_secs(300);

const UNKNOWN_FRAME: ReplyFrame = ReplyFrame { version: Version::Http11, head_only: false, close: true };

/// What a connection has come to.
pub(super) enum Step {
    /// Nothing that concerns others.
    Waits,
    /// It asks.
    Question { question: Question, is_stale: bool },
    /// A node speaks: all that has come of it.
    Node(Vec<u8>),
    /// It is over.
    Over,
}

/// A client's connection.
pub(super) struct Client {
    stream: TcpStream,
    pub(super) address: SocketAddr,
    /// Counts connections, so that an answer never reaches another one.
    pub(super) life: u64,
    input: Vec<u8>,
    scanned: usize,
    output: Output,
    readable: bool,
    writable: bool,
    /// The other side says nothing more, so that reading is to go on until there is nothing left.
    has_hung_up: bool,
    /// The request that is being answered.
    owed: Option<ReplyFrame>,
    is_asked_for_body: bool,
    /// Nothing more is taken; what is in the output still leaves.
    is_closing: bool,
    has_ended: bool,
    /// Its last answer came before all that it sends: that is read and dropped, for a while, or it would never see the answer.
    lingers: bool,
    since: Instant,
}

impl Client {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, life: u64, now: Instant) -> Self {
        Self {
            stream,
            address,
            life,
            input: Vec::new(),
            scanned: 0,
            output: Output::default(),
            readable: true,
            writable: true,
            has_hung_up: false,
            owed: None,
            is_asked_for_body: false,
            is_closing: false,
            has_ended: false,
            lingers: false,
            since: now,
        }
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        self.readable |= is_readable(event);
        self.writable |= is_writable(event);
        self.has_hung_up |= event.is_read_closed() || event.is_error();
    }

    /// When its patience is over; a question under way has that of the replica.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let is_idle = self.input.is_empty() && self.output.waiting_bytes() == 0;
        match self.owed {
            Some(_) => None,
            None if self.lingers => Some(self.since + LINGER_TIME_MAX),
            None if is_idle => Some(self.since + IDLE_TIME_MAX),
            None => Some(self.since + REQUEST_TIME_MAX),
        }
    }

    pub(super) fn is_owed(&self) -> bool {
        self.owed.is_some()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Reads, looks for a request, and writes, as far as it goes.
    pub(super) fn advance(&mut self, now: Instant, date: &HttpDate, token: Option<&Secret>, buffer: &mut [u8]) -> Step {
        if self.read(now, buffer).is_err() {
            return Step::Over;
        }
        if let Some(step) = self.next_request(now, date, token) {
            return step;
        }
        if self.send().is_err() {
            return Step::Over;
        }
        let is_sent = self.output.waiting_bytes() == 0;
        if self.lingers && is_sent {
            // One that has gone already says so at the next read.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let is_spent = is_sent && ((self.is_closing && !self.lingers) || self.has_ended) && self.owed.is_none();
        let is_late = self.deadline().is_some_and(|deadline| deadline <= now);
        // Whoever has gone gets no answer.
        if is_spent || is_late || (self.has_ended && self.owed.is_some()) { Step::Over } else { Step::Waits }
    }

    fn read(&mut self, now: Instant, buffer: &mut [u8]) -> io::Result<()> {
        let mut left = READ_PER_TURN_MAX_BYTES;
        while left > 0 && self.can_read() {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.readable = false;
                    self.has_ended = true;
                }
                Ok(length) => {
                    left = left.saturating_sub(length);
                    if self.input.is_empty() && !self.lingers {
                        self.since = now;
                    }
                    if !self.lingers {
                        self.input.extend_from_slice(&buffer[..length]);
                    }
                    // A short read has taken all there was.
                    self.readable &= length == buffer.len() || self.has_hung_up;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn send(&mut self) -> Result<(), End> {
        self.output.write(&mut self.stream, &mut self.writable)
    }

    /// Whether there is more to read, and room for it.
    pub(super) fn can_read(&self) -> bool {
        self.readable
            && (!self.is_closing || self.lingers)
            && self.input.len() < BODY_MAX_BYTES + READ_PER_TURN_MAX_BYTES
    }

    /// Whether nothing is owed any more, and there is something to go on with: a further request, or the end.
    pub(super) fn can_go_on(&self) -> bool {
        self.owed.is_none() && (!self.input.is_empty() || (self.is_closing && !self.lingers) || self.has_ended)
    }

    /// The next request, if one is whole and the one before is answered. What is wrong is answered here.
    fn next_request(&mut self, now: Instant, date: &HttpDate, token: Option<&Secret>) -> Option<Step> {
        while self.owed.is_none() && !self.is_closing && !self.input.is_empty() {
            let input = std::mem::take(&mut self.input);
            let (used, asked) = match self.look_for_request(&input, date, token) {
                Ok(None) => {
                    self.input = input;
                    return None;
                }
                Ok(Some(Found::Node)) => return Some(Step::Node(input)),
                Ok(Some(Found::Answered(used))) => (used, None),
                Ok(Some(Found::Question { used, question, is_stale })) => (used, Some((question, is_stale))),
                Err(error) => {
                    write_error(self.output.bytes(), &UNKNOWN_FRAME, date, error.status, error.message);
                    (self.is_closing, self.lingers, self.since) = (true, true, now);
                    return None;
                }
            };
            self.input = input;
            self.input.drain(..used);
            self.scanned = 0;
            self.is_asked_for_body = false;
            self.since = now;
            if let Some((question, is_stale)) = asked {
                return Some(Step::Question { question, is_stale });
            }
        }
        None
    }

    fn look_for_request(
        &mut self,
        input: &[u8],
        date: &HttpDate,
        token: Option<&Secret>,
    ) -> Result<Option<Found>, HttpError> {
        const NO_LENGTH: HttpError =
            HttpError { status: 411, message: "send the body with a Content-Length, not in chunks" };
        const TOO_LARGE: HttpError = HttpError { status: 413, message: "the body is too large" };
        let Some((head, head_bytes)) = parse_head(input, &mut self.scanned, &HEAD_LIMITS)? else { return Ok(None) };
        // Asked for again once the body has come.
        self.scanned = 0;
        if Path::of(head.path_text()).is_some() {
            return Ok(Some(Found::Node));
        }
        let body_bytes = match head.body {
            BodyFraming::Empty => 0,
            BodyFraming::Length(length) => {
                usize::try_from(length).ok().filter(|length| *length <= BODY_MAX_BYTES).ok_or(TOO_LARGE)?
            }
            BodyFraming::Chunked => return Err(NO_LENGTH),
        };
        let Some(body) = input.get(head_bytes..head_bytes + body_bytes) else {
            if head.expectation == Expectation::Continue && !self.is_asked_for_body && input.len() == head_bytes {
                self.is_asked_for_body = true;
                self.output.bytes().extend_from_slice(CONTINUE);
            }
            return Ok(None);
        };
        let used = head_bytes + body_bytes;
        let frame =
            ReplyFrame { version: head.version, head_only: head.method == Method::Head, close: !head.keep_alive };
        match question_of(&head, body, token) {
            Ok((question, is_stale)) => {
                self.owed = Some(frame);
                Ok(Some(Found::Question { used, question, is_stale }))
            }
            Err(answer) => {
                self.write_answer(&frame, date, &answer);
                Ok(Some(Found::Answered(used)))
            }
        }
    }

    fn write_answer(&mut self, frame: &ReplyFrame, date: &HttpDate, answer: &Answer) {
        self.is_closing |= frame.close;
        let mut writer = AnswerWriter::start(self.output.bytes(), answer.status, frame, date);
        if answer.status == 401 {
            header!(writer, "WWW-Authenticate", b"Bearer");
        }
        if let Some(lag_ms) = answer.lag_ms {
            header!(writer, "BigBunny-Raft-Lag-Ms", lag_ms);
        }
        let content_type = match answer.kind {
            Kind::Json => "application/json",
            Kind::Prometheus => "text/plain; version=0.0.4",
            Kind::Bytes => "application/octet-stream",
        };
        writer.body(Some(content_type), &answer.body);
    }

    /// The answer that was owed.
    pub(super) fn answer(&mut self, date: &HttpDate, answer: &Answer) {
        if let Some(frame) = self.owed.take() {
            self.write_answer(&frame, date, answer);
        }
    }
}

/// What was found in the bytes at hand.
enum Found {
    /// A request of a node.
    Node,
    /// A request that is answered already.
    Answered(usize),
    /// A question.
    Question { used: usize, question: Question, is_stale: bool },
}

/// What a request asks, and whether an old answer will do.
fn question_of(head: &Head<'_>, body: &[u8], token: Option<&Secret>) -> Result<(Question, bool), Answer> {
    let not_found = || Answer::json(404, "{\"Err\":{\"NotFound\":\"no such path; bbd-kv(7) has them all\"}}");
    let endpoint = Endpoint::of(head.path_text());
    // Without the token nobody learns more than that the node lives.
    if !matches!(endpoint, Some((Endpoint::Healthz, _))) && !is_allowed(head, token) {
        return Err(Answer::json(
            401,
            "{\"Err\":{\"Unauthorized\":\"send Authorization: Bearer and the client token\"}}",
        ));
    }
    let (endpoint, method) = endpoint.ok_or_else(not_found)?;
    let is_head_of_get = method == Method::Get && head.method == Method::Head;
    if head.method != method && !is_head_of_get {
        return Err(Answer::json(405, "{\"Err\":{\"MethodNotAllowed\":\"this path takes another method\"}}"));
    }
    let bad = |what: &str| Answer::bad(&BadCommand::Malformed(what.to_owned()));
    let key = match head.field(Field::IdempotencyKey) {
        None => None,
        Some(key) => {
            let key = std::str::from_utf8(key).ok().filter(|key| (1..=IDEMPOTENCY_KEY_MAX_BYTES).contains(&key.len()));
            Some(key.ok_or_else(|| bad("an Idempotency-Key has 1 to 128 bytes of text"))?.to_owned())
        }
    };
    let is_stale = match parameter(head.query, "consistency").as_deref() {
        None | Some("linearizable") => false,
        Some("stale") => true,
        Some(_) => return Err(bad("consistency is linearizable or stale")),
    };
    let mut question = Question::parse(endpoint, body, head.query, key).map_err(|error| Answer::bad(&error))?;
    if let Question::Metrics { as_prometheus } = &mut question {
        *as_prometheus |= head.field(Field::Accept).is_some_and(|accept| accept.starts_with(b"text/plain"));
    }
    Ok((question, is_stale))
}

fn is_allowed(head: &Head<'_>, token: Option<&Secret>) -> bool {
    let Some(token) = token else { return true };
    let given = head.field(Field::Authorization).and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| bool::from(given.ct_eq(token.expose().as_bytes())))
}

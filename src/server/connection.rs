//! One connection: its buffers, what it owes and is owed, and its deadlines. Pure but for holding its socket: owns the answers to
//! "may it be read?", "is there work?" and "when is its patience over?"; reading, serving and writing are done by a visit.

use std::time::Duration;

use mio::event::Event;

use super::intake::{Intake, Missing};
use super::limits::{
    LINGER_BYTES_MAX, OPERATOR_PATIENCE, OUTPUT_BYTES_MAX, OUTPUT_COMPACT_BYTES, UNFINISHED_VISITS_MAX,
};
use super::stream::Stream;
use crate::api::ReplyShape;
use crate::http::ReplyFrame;
use crate::node::request::ConnectionId;
use crate::time::Instant;
use crate::wheel::TimerId;

/// The times of `--http-…-timeout`.
#[derive(Clone, Copy, Debug)]
pub(super) struct HttpTimes {
    /// A whole request, from its first byte.
    pub(super) read: Duration,
    /// Its head, from its first byte.
    pub(super) read_header: Duration,
    /// Between two bits of progress in sending.
    pub(super) write: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

impl HttpTimes {
    /// The same, none of them longer than `most`.
    fn at_most(&self, most: Duration) -> Self {
        let [read, read_header, write, idle] =
            [self.read, self.read_header, self.write, self.idle].map(|time| time.min(most));
        Self { read, read_header, write, idle }
    }
}

/// Which of the server's bounds on connections one counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `--max-connections`.
    Client,
    /// `METRICS_CONNECTIONS_MAX`: it came in on `--metrics-listen`.
    Metrics,
    /// `OPERATOR_CONNECTIONS_MAX`: an operator was let in while the places of clients were taken.
    Operator,
    /// `Room::refused`: there was no room for it, or it has had its answer at a place that others wait for, and only lingers.
    Refused,
}

impl Place {
    /// How many there are.
    pub(super) const COUNT: usize = 4;
}

/// Which patience is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The rest of a request has not come: `408`.
    Request,
    /// Nothing was asked for: closed in silence.
    Idle,
    /// The client does not read, or does not close: dropped.
    Drop,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Requests are taken.
    Open,
    /// No more requests are taken; what is in the output is still to be sent.
    Closing,
    /// Everything is sent and the client knows it; what it still sends is dropped until it closes, `deadline` passes or
    /// `left_bytes` are used up.
    Lingering { deadline: Instant, left_bytes: u64 },
}

/// The answer that the node owes this connection.
#[derive(Clone, Copy)]
pub(super) struct Owed {
    /// How its head is to look.
    pub(super) frame: ReplyFrame,
    /// How the rest is.
    pub(super) shape: ReplyShape,
    /// A change was asked for.
    pub(super) is_change: bool,
}

/// One client's connection.
pub(super) struct Connection {
    /// Never reused.
    pub(super) id: ConnectionId,
    /// Which of the server's doors it came in by.
    pub(super) door: usize,
    /// The socket.
    pub(super) stream: Stream,
    /// Where in a request it is.
    pub(super) intake: Intake,
    /// Bytes that came and have not been used yet; owns no memory while there are none.
    pub(super) input: Input,
    /// Answers that have not been sent yet; owns no memory while there are none.
    pub(super) output: Output,
    /// Among the answers not sent yet is that of a change made under a lease: it may leave only while the node still has it.
    pub(super) holds_change: bool,
    /// Set while the node owes an answer: then no further request is taken.
    pub(super) owed: Option<Owed>,
    /// How far its end has come.
    pub(super) stage: Stage,
    /// Reading may bring something: an event said so, and no read has come back short since.
    pub(super) readable: bool,
    /// Writing may get rid of something: no write has been refused since an event said so.
    pub(super) writable: bool,
    /// The loop was asked to say when writing is possible again.
    pub(super) polled_for_writing: bool,
    /// The client will send no more, by what an event said. There may be bytes in front of the end.
    pub(super) read_closed: bool,
    /// The end was read.
    pub(super) ended: bool,
    /// Both directions are closed: nobody is there to read an answer.
    pub(super) peer_gone: bool,
    /// What it counts for.
    pub(super) place: Place,
    /// The node has heard of it, and must hear of its end.
    pub(super) known_to_node: bool,
    /// It ends by our will while the client may still be sending, so that the answer would be lost without a lingering close.
    pub(super) ends_early: bool,
    /// How many visits in a row have ended with a part of a request, and without a whole one.
    pub(super) unfinished_visits: u8,
    /// It is in one of the loop's queues.
    pub(super) queued: bool,
    /// When the loop learnt of what it serves now: what is found in a visit counts as asked when the connection was queued for it.
    pub(super) asked_at: Instant,
    /// It is in the list of those that got an answer outside of a visit.
    pub(super) dirty: bool,
    /// When the first byte of the request that is not whole came, or was first looked at.
    pub(super) request_since: Option<Instant>,
    /// When it was accepted, or its last request was answered.
    pub(super) idle_since: Instant,
    /// When sending last got on.
    pub(super) sent_at: Instant,
    /// The one timer and the time it is armed for: never later than [`Self::deadline`], often earlier.
    pub(super) timer: Option<(TimerId, Instant)>,
}

impl Connection {
    /// One that was just accepted.
    pub(super) fn new(id: ConnectionId, door: usize, place: Place, stream: Stream, now: Instant) -> Self {
        Self {
            id,
            door,
            stream,
            intake: Intake::new(),
            input: Input::default(),
            output: Output::default(),
            holds_change: false,
            owed: None,
            stage: Stage::Open,
            readable: false,
            writable: true,
            polled_for_writing: false,
            read_closed: false,
            ended: false,
            peer_gone: false,
            place,
            known_to_node: false,
            ends_early: false,
            unfinished_visits: 0,
            queued: false,
            asked_at: now,
            dirty: false,
            request_since: None,
            idle_since: now,
            sent_at: now,
            timer: None,
        }
    }

    /// Marks what an event said.
    pub(super) fn note_event(&mut self, event: &Event) {
        // On a Unix socket that is the other side's full close; a half-close alone leaves it waiting for its answer.
        let peer_gone = event.is_write_closed() || event.is_error();
        self.peer_gone |= peer_gone;
        self.read_closed |= peer_gone || event.is_read_closed();
        self.readable |= peer_gone || event.is_readable() || event.is_read_closed();
        self.writable |= event.is_writable();
    }

    /// Whether a further request may be taken: no answer is owed, and the client reads those it got.
    pub(super) fn takes_requests(&self) -> bool {
        self.stage == Stage::Open && self.owed.is_none() && self.output.unsent_bytes() < OUTPUT_BYTES_MAX
    }

    /// Whether a visit would get anywhere now.
    pub(super) fn has_work(&self) -> bool {
        if self.peer_gone || (self.output.unsent_bytes() > 0 && self.writable) {
            return true;
        }
        match self.stage {
            Stage::Open => self.takes_requests() && (self.readable || self.input.is_fresh()),
            Stage::Closing => self.output.unsent_bytes() == 0,
            Stage::Lingering { .. } => self.readable,
        }
    }

    /// Nobody is there any more, and all that had been sent before is served.
    pub(super) fn is_spent(&self) -> bool {
        self.peer_gone && !self.readable && !(self.takes_requests() && self.input.is_fresh())
    }

    /// Something happened to it: whatever is found now counts as asked at `now`, unless an answer is owed already.
    pub(super) fn note_woken(&mut self, now: Instant) {
        if self.owed.is_none() {
            self.asked_at = now;
        }
    }

    /// Notes that a request was taken.
    pub(super) fn note_request(&mut self, now: Instant) {
        self.request_since = None;
        self.unfinished_visits = 0;
        self.idle_since = now;
    }

    /// Notes, at the end of a visit, whether part of a request waits for its rest.
    pub(super) fn note_waiting(&mut self, now: Instant) {
        let part_has_come = (!self.input.is_empty() && !self.input.is_fresh()) || self.intake.holds_part();
        if part_has_come {
            self.unfinished_visits = self.unfinished_visits.saturating_add(1);
            self.request_since.get_or_insert(now);
        }
    }

    /// Whether it keeps up, so that it is visited first: it sends whole requests and reads the answers, or is new. Whoever sends a
    /// request bit by bit, does not read, or is about to end does not; the next whole request, or the last answer read, brings it
    /// back.
    pub(super) fn is_prompt(&self) -> bool {
        self.unfinished_visits < UNFINISHED_VISITS_MAX
            && self.output.unsent_bytes() == 0
            && self.stage == Stage::Open
            && !self.peer_gone
    }

    /// Nothing is under way: no part of a request has come, no answer is owed or unsent.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Open
            && self.owed.is_none()
            && self.input.is_empty()
            && !self.intake.holds_part()
            && self.output.unsent_bytes() == 0
    }

    /// Where to append an answer, in `spare` memory if there is none yet.
    pub(super) fn writer(&mut self, now: Instant, spare: impl FnOnce() -> Vec<u8>) -> &mut Vec<u8> {
        if self.output.unsent_bytes() == 0 {
            self.sent_at = now;
        }
        self.output.writer(spare)
    }

    /// Takes no more requests; what is in the output still leaves.
    pub(super) fn close_when_sent(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Closing;
        }
    }

    /// Begins the lingering close: the output has been sent. A client that may still be sending is let finish, so that it gets to read
    /// the answer. From any other nothing more is taken; but what it sent since the last read must be read before the socket is
    /// closed, or it would see a reset in place of the end.
    pub(super) fn linger(&mut self, now: Instant, time: Duration) {
        if self.ends_early || self.readable || !self.input.is_empty() {
            self.stream.shutdown_write();
        } else {
            self.stream.shutdown();
            self.readable = true;
        }
        self.stage = Stage::Lingering { deadline: now + time, left_bytes: LINGER_BYTES_MAX };
    }

    /// When its patience is over; `None` while it waits for the node, which counts against nothing.
    pub(super) fn deadline(&self, times: &HttpTimes) -> Option<Instant> {
        self.patience(times).map(|(deadline, _)| deadline)
    }

    /// Which patience is over at `now`, if any.
    pub(super) fn due(&self, times: &HttpTimes, now: Instant) -> Option<Due> {
        self.patience(times).filter(|&(deadline, _)| deadline <= now).map(|(_, due)| due)
    }

    fn patience(&self, times: &HttpTimes) -> Option<(Instant, Due)> {
        let times = match self.place {
            Place::Operator => &times.at_most(OPERATOR_PATIENCE),
            Place::Client | Place::Metrics | Place::Refused => times,
        };
        if let Stage::Lingering { deadline, .. } = self.stage {
            return Some((deadline, Due::Drop));
        }
        if self.output.unsent_bytes() > 0 {
            return Some((self.sent_at + times.write, Due::Drop));
        }
        if self.owed.is_some() {
            return None;
        }
        let Some(since) = self.request_since else {
            return Some((self.idle_since + times.idle, Due::Idle));
        };
        Some(match self.intake.missing() {
            Missing::Head => (since + times.read_header.min(times.read), Due::Request),
            Missing::Body => (since + times.read, Due::Request),
            Missing::Discarded => (since + times.read, Due::Drop),
        })
    }
}

/// Bytes that came and have not been used yet.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    used: usize,
    /// Nothing was made of them yet, or not everything that could be: they are more than a part of a request.
    fresh: bool,
}

impl Input {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// Whether looking at them again may bring something without further bytes.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh && !self.is_empty()
    }

    /// Adds bytes, in `spare` memory if there is none yet.
    pub(super) fn append(&mut self, bytes: &[u8], spare: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = spare();
        }
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
        self.fresh = true;
    }

    /// Notes whether looking at the bytes again may bring something.
    pub(super) fn set_fresh(&mut self, fresh: bool) {
        self.fresh = fresh;
    }

    /// Lends the memory, so that requests may borrow from it while the connection changes: the bytes and how many are used.
    pub(super) fn lend(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.used))
    }

    /// Takes it back, of which `used` bytes are used by now. Gives the memory away if that is all.
    pub(super) fn give_back(&mut self, bytes: Vec<u8>, used: usize, fresh: bool) -> Option<Vec<u8>> {
        self.fresh = fresh;
        if used == bytes.len() {
            return Some(bytes);
        }
        self.bytes = bytes;
        self.used = used;
        None
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) -> Vec<u8> {
        self.used = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// Answers that have not been sent yet.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// How many bytes wait.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The bytes that wait.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn writer(&mut self, spare: impl FnOnce() -> Vec<u8>) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spare();
        }
        &mut self.bytes
    }

    /// Notes that so many bytes were sent. Gives the memory away if that was all.
    pub(super) fn note_sent(&mut self, bytes: usize) -> Option<Vec<u8>> {
        self.sent += bytes;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            let mut empty = std::mem::take(&mut self.bytes);
            empty.clear();
            return Some(empty);
        }
        // Moving costs no more than what was sent, so it is worth it only when that is most of the buffer.
        if self.sent >= OUTPUT_COMPACT_BYTES && self.sent >= self.unsent_bytes() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        None
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) -> Vec<u8> {
        self.sent = 0;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests;

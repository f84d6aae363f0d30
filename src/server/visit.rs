//! One visit to one connection: serve what has come, send what is answered, read on, within the visit's bounds; and what ends a
//! connection. Owns the life of a request between the socket and the node.

use std::io;
use std::mem;
use std::rc::Rc;

use mio::{Interest, Token};

use super::arrivals::Arrived;
use super::connection::{Due, Place, Stage};
use super::connections::index_of;
use super::intake::{Context, Step, UNKNOWN_FRAME, WholeRequest};
use super::limits::{
    LINGER_TIME_MAX, OUTPUT_BYTES_PER_REQUEST, READS_PER_VISIT_MAX, REFUSED_LINGER_TIME_MAX, WRITE_BYTES_PER_VISIT_MAX,
};
use super::{Fixed, Server, clock};
use crate::api::Door;
use crate::log::{LogEvent, Value};
use crate::metrics::limits::Limit;
use crate::node::request::ConnectionId;
use crate::node::{Input, LOOKED_UP_AHEAD_MAX};
use crate::time::Now;

const REQUEST_TOO_SLOW: &str = "the request did not come whole in time";

/// Whether a connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Close,
}

/// What one read brought.
pub(super) enum Read {
    Bytes(usize),
    Nothing,
    End,
    Broken,
}

impl Server {
    /// Visits a connection, in which it may have `quota` requests served, first of all those in what has arrived on it. Says how many of
    /// them it used, at least one.
    pub(super) fn visit(&mut self, now: Now, id: ConnectionId, quota: u32, arrived: Arrived<'_>) -> u32 {
        let mut left = quota;
        self.connections.set_visited(Some(id));
        self.take_arrived(now, id, arrived, &mut left);
        let fate = self.work_on(now, id, &mut left);
        self.connections.set_visited(None);
        let spent = (quota - left).max(1);
        let Some(connection) = self.connections.get(id) else { return spent };
        if fate == Fate::Close || connection.is_spent() {
            self.close(now, id);
            return spent;
        }
        connection.note_waiting(now.monotonic);
        if connection.has_work() {
            self.connections.wake_later(id, now.monotonic);
        }
        self.settle_timer(id);
        spent
    }

    fn work_on(&mut self, now: Now, id: ConnectionId, quota: &mut u32) -> Fate {
        let mut reads_left = READS_PER_VISIT_MAX;
        loop {
            self.serve_input(now, id, quota);
            let has_output = self.connections.get(id).is_some_and(|connection| connection.output.unsent_bytes() > 0);
            if has_output && self.send(now, id) == Fate::Close {
                return Fate::Close;
            }
            let Some(connection) = self.connections.get(id) else { return Fate::Keep };
            let unsent = connection.output.unsent_bytes() > 0;
            if connection.peer_gone && (unsent || connection.owed.is_some()) {
                return Fate::Close;
            }
            match connection.stage {
                Stage::Open => {}
                Stage::Closing if unsent => return Fate::Keep,
                Stage::Closing => {
                    if connection.ended {
                        return Fate::Close;
                    }
                    let mut linger_time = LINGER_TIME_MAX;
                    if connection.place == Place::Operator {
                        // The next operator does not wait for the client's end.
                        if self.connections.count(Place::Refused) >= self.fixed.room.refused {
                            return Fate::Close;
                        }
                        self.connections.leave_place(id);
                        linger_time = REFUSED_LINGER_TIME_MAX;
                    }
                    let Some(connection) = self.connections.get(id) else { return Fate::Keep };
                    connection.linger(now.monotonic, linger_time);
                    let input = connection.input.clear();
                    self.connections.spares.put(input);
                    continue;
                }
                Stage::Lingering { .. } => return self.drop_input(id),
            }
            if !connection.takes_requests() || *quota == 0 {
                return Fate::Keep;
            }
            if connection.input.is_fresh() {
                // Serving had stopped because the output was full, and it has been sent.
                continue;
            }
            if connection.ended || (self.stopping.is_some() && !connection.readable && connection.is_idle()) {
                // Nothing more will come, and all that came is served: at most a part of a request is left.
                connection.close_when_sent();
                continue;
            }
            if !connection.readable || reads_left == 0 {
                return Fate::Keep;
            }
            reads_left -= 1;
            let mut buffer = mem::take(&mut self.read_buffer);
            let read = self.read(id, &mut buffer);
            if let Read::Bytes(length) = read {
                self.take_bytes(now, id, &buffer[..length], quota);
            }
            self.read_buffer = buffer;
            if matches!(read, Read::Broken) {
                return Fate::Close;
            }
        }
    }

    /// One read. A short one means that nothing is left to read (epoll(7)), unless the end stands behind it.
    pub(super) fn read(&mut self, id: ConnectionId, buffer: &mut [u8]) -> Read {
        let Some(connection) = self.connections.get(id) else { return Read::Nothing };
        match connection.stream.read(buffer) {
            Ok(0) => {
                connection.ended = true;
                connection.readable = false;
                Read::End
            }
            Ok(length) => {
                if length < buffer.len() && !connection.read_closed {
                    connection.readable = false;
                }
                Read::Bytes(length)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.readable = false;
                Read::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Read::Nothing,
            Err(_) => Read::Broken,
        }
    }

    /// Reads and drops what a connection sends that lingers.
    fn drop_input(&mut self, id: ConnectionId) -> Fate {
        let mut buffer = mem::take(&mut self.read_buffer);
        let mut fate = Fate::Keep;
        for _ in 0..READS_PER_VISIT_MAX {
            if self.connections.get(id).is_none_or(|connection| !connection.readable) {
                break;
            }
            fate = match self.read(id, &mut buffer) {
                Read::Bytes(length) => match self.connections.get(id).map(|connection| &mut connection.stage) {
                    Some(Stage::Lingering { left_bytes, .. }) if *left_bytes > length as u64 => {
                        *left_bytes -= length as u64;
                        Fate::Keep
                    }
                    _ => Fate::Close,
                },
                Read::Nothing => Fate::Keep,
                Read::End | Read::Broken => Fate::Close,
            };
            if fate == Fate::Close {
                break;
            }
        }
        self.read_buffer = buffer;
        fate
    }

    /// Serves what was read before the visit.
    fn take_arrived(&mut self, now: Now, id: ConnectionId, arrived: Arrived<'_>, quota: &mut u32) {
        let mut used = 0;
        if let Some(mut first) = arrived.first
            && self.connections.get(id).is_some_and(|connection| connection.takes_requests())
        {
            used = self.serve_one(now, id, &mut first, quota);
        }
        if used < arrived.bytes.len() {
            self.take_bytes(now, id, &arrived.bytes[used..], quota);
        }
    }

    /// Serves bytes that were just read: straight from the loop's buffer if the connection has kept nothing.
    fn take_bytes(&mut self, now: Now, id: ConnectionId, bytes: &[u8], quota: &mut u32) {
        let Some(connection) = self.connections.get(id) else { return };
        if !connection.input.is_empty() {
            let spare = self.connections.spares.take();
            if let Some(connection) = self.connections.get(id) {
                connection.input.append(bytes, || spare);
            }
            return self.serve_input(now, id, quota);
        }
        let (used, fresh) = self.serve(now, id, bytes, 0, quota);
        if used < bytes.len() {
            let spare = self.connections.spares.take();
            if let Some(connection) = self.connections.get(id) {
                connection.input.append(&bytes[used..], || spare);
                connection.input.set_fresh(fresh);
            }
        }
    }

    /// Serves what the connection has kept.
    fn serve_input(&mut self, now: Now, id: ConnectionId, quota: &mut u32) {
        let Some(connection) = self.connections.get(id) else { return };
        if !connection.input.is_fresh() || !connection.takes_requests() || *quota == 0 {
            return;
        }
        let (bytes, used) = connection.input.lend();
        let (used, fresh) = self.serve(now, id, &bytes, used, quota);
        let empty = match self.connections.get(id) {
            Some(connection) => connection.input.give_back(bytes, used, fresh),
            None => Some(bytes),
        };
        self.connections.spares.put(empty.unwrap_or_default());
    }

    /// Serves the requests in `bytes` behind the first `used`: how many bytes are used by now, and whether serving stopped for
    /// another reason than that more bytes are needed.
    fn serve(&mut self, now: Now, id: ConnectionId, bytes: &[u8], mut used: usize, quota: &mut u32) -> (usize, bool) {
        let fixed = Rc::clone(&self.fixed);
        let mut scratch = mem::take(&mut self.scratch);
        let stopped = loop {
            let Some(connection) = self.connections.get(id) else { break true };
            if !connection.takes_requests() || *quota == 0 {
                break true;
            }
            if used == bytes.len() {
                break false;
            }
            let door = match connection.place {
                Place::Operator => Door::Operators,
                Place::Client | Place::Metrics | Place::Refused => fixed.doors[connection.door].door(),
            };
            let taken = self.serve_whole(now, id, &bytes[used..], &fixed, &door, quota);
            if taken > 0 {
                used += taken;
                continue;
            }
            let Some(connection) = self.connections.get(id) else { break true };
            let unsent_before = connection.output.unsent_bytes();
            let mut context = Context {
                head_limits: &fixed.head_limits,
                settings: &fixed.settings,
                door: &door,
                keyring: &mut self.keyring,
            };
            let (consumed, step) = connection.intake.next(&bytes[used..], &mut scratch, &mut context);
            used += consumed;
            match step {
                Step::More => break false,
                Step::Ask { frame, prepared } => {
                    self.ask_for_body(now, id, frame, &prepared);
                    break false;
                }
                Step::Request { frame, mut prepared, body } => {
                    connection.note_request(now.monotonic);
                    self.answer_request(now, id, frame, &mut prepared, body);
                }
                Step::Refused { frame, operation, error } => {
                    connection.note_request(now.monotonic);
                    if error.is_for_operators_only() {
                        self.note_no_room();
                    }
                    self.answer_error(now, id, frame, operation, &error);
                    self.end_early_if_closing(id);
                }
                Step::Broken { frame, error } => self.refuse_and_close(now, id, frame, error.status, error.message),
            }
            self.spend(id, unsent_before, quota);
        };
        self.scratch = scratch;
        (used, stopped)
    }

    /// Serves requests that stand whole at the start of `bytes`, several of which are read and have their stores looked up before the
    /// first is served: how many bytes they were.
    fn serve_whole(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: &[u8],
        fixed: &Fixed,
        door: &Door<'_>,
        quota: &mut u32,
    ) -> usize {
        let Some(connection) = self.connections.get(id) else { return 0 };
        let (head_limits, settings, keyring) = (&fixed.head_limits, &fixed.settings, &mut self.keyring);
        let context = Context { head_limits, settings, door, keyring };
        let mut read = |bytes| {
            let mut request = connection.intake.whole_request(bytes, &context)?;
            // One whose id does not open is read again in its turn, and refused.
            request.prepared.open(context.keyring).is_ok().then_some(request)
        };
        let Some(mut first) = read(bytes) else { return 0 };
        if first.bytes == bytes.len() || *quota == 1 {
            return self.serve_one(now, id, &mut first, quota);
        }
        let mut requests = Vec::with_capacity(LOOKED_UP_AHEAD_MAX);
        let mut rest = &bytes[first.bytes..];
        requests.push(first);
        while requests.len() < LOOKED_UP_AHEAD_MAX.min(*quota as usize) {
            let Some(request) = read(rest) else { break };
            rest = &rest[request.bytes..];
            requests.push(request);
        }
        self.node.look_up_ahead(requests.iter().filter_map(|request| request.prepared.store()));
        let mut used = 0;
        for request in &mut requests {
            // What was read in vain will be read again.
            if *quota == 0 || !self.connections.get(id).is_some_and(|connection| connection.takes_requests()) {
                break;
            }
            used += self.serve_one(now, id, request, quota);
        }
        used
    }

    /// Serves a request: how many bytes it was.
    fn serve_one(&mut self, now: Now, id: ConnectionId, request: &mut WholeRequest<'_>, quota: &mut u32) -> usize {
        let Some(connection) = self.connections.get(id) else { return 0 };
        let unsent_before = connection.output.unsent_bytes();
        connection.note_request(now.monotonic);
        self.answer_request(now, id, request.frame, &mut request.prepared, request.body);
        self.spend(id, unsent_before, quota);
        request.bytes
    }

    /// Takes one request, and as many more as its answer is long, from what a visit may serve.
    fn spend(&mut self, id: ConnectionId, unsent_before_bytes: usize, quota: &mut u32) {
        let unsent_bytes = self.connections.get(id).map_or(0, |connection| connection.output.unsent_bytes());
        let more = unsent_bytes.saturating_sub(unsent_before_bytes) / OUTPUT_BYTES_PER_REQUEST;
        *quota = quota.saturating_sub(u32::try_from(more + 1).unwrap_or(u32::MAX));
    }

    /// Sends what waits, until the socket takes no more or the visit's share is sent; asks to be told when it takes more, and
    /// stops asking once everything has left.
    pub(super) fn send(&mut self, now: Now, id: ConnectionId) -> Fate {
        let Some(connection) = self.connections.get(id) else { return Fate::Keep };
        // The lease is looked at as late as can be: any amount of time may have passed since the change was made.
        if connection.holds_change && self.peer.is_some() && !self.node.may_answer_changes(clock::now()) {
            self.log.event(now, LogEvent::AnswersWithheld, &[("why", Value::Text("the lease is over"))]);
            return Fate::Close;
        }
        let mut left = WRITE_BYTES_PER_VISIT_MAX;
        let mut empty = None;
        while connection.writable && left > 0 && connection.output.unsent_bytes() > 0 {
            let unsent = connection.output.unsent();
            let part = &unsent[..unsent.len().min(left)];
            match connection.stream.write(part) {
                Ok(0) => return Fate::Close,
                Ok(length) => {
                    connection.writable = length == part.len();
                    connection.sent_at = now.monotonic;
                    left -= length;
                    empty = connection.output.note_sent(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Fate::Close,
            }
        }
        let all_sent = connection.output.unsent_bytes() == 0;
        if all_sent {
            connection.writable = true;
            connection.holds_change = false;
        }
        let poll_for_writing = !all_sent && !connection.writable;
        if connection.polled_for_writing != poll_for_writing && (poll_for_writing || all_sent) {
            connection.polled_for_writing = poll_for_writing;
            let interest = if poll_for_writing { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let source = connection.stream.source();
            if self.poll.registry().reregister(source, Token(index_of(id)), interest).is_err() {
                return Fate::Close;
            }
        }
        if let Some(empty) = empty {
            self.connections.spares.put(empty);
        }
        Fate::Keep
    }

    /// Sends the answers that connections got while another one was served, or by a timer; their next requests come in the
    /// next turn.
    pub(super) fn send_to_dirty(&mut self, now: Now) {
        while let Some(id) = self.connections.next_dirty() {
            match self.send(now, id) {
                Fate::Close => self.close(now, id),
                Fate::Keep => {
                    if self.connections.get(id).is_some_and(|connection| connection.has_work()) {
                        self.connections.wake(id, now.monotonic);
                    }
                    self.settle_timer(id);
                }
            }
        }
    }

    /// Closes a connection: its lock waits and its connection-scoped locks end, its memory goes to the next one.
    pub(super) fn close(&mut self, now: Now, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        if let Some((timer, _)) = connection.timer {
            self.timers.disarm(timer);
        }
        let input = connection.input.clear();
        self.connections.spares.put(input);
        let output = connection.output.clear();
        self.connections.spares.put(output);
        // Closing the descriptor also ends its place in epoll: it has no copy.
        drop(connection.stream);
        if connection.known_to_node {
            self.tell_node(now, Input::ConnectionClosed { connection: id });
        }
    }

    /// Has the connection's timer go off no later than its deadline. A timer that goes off early is armed anew then, so the
    /// common case, a deadline that moved later, costs nothing.
    pub(super) fn settle_timer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let Some(deadline) = connection.deadline(&self.fixed.times) else { return };
        match connection.timer {
            Some((_, armed_for)) if armed_for <= deadline => return,
            Some((timer, _)) => {
                self.timers.disarm(timer);
            }
            None => {}
        }
        connection.timer = Some((self.timers.arm(deadline, id), deadline));
    }

    /// The timer of a connection went off.
    pub(super) fn on_connection_timer(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        connection.timer = None;
        connection.note_woken(now.monotonic);
        match connection.due(&self.fixed.times, now.monotonic) {
            None => self.settle_timer(id),
            Some(Due::Drop) => {
                if connection.output.unsent_bytes() > 0 {
                    self.limits_met.note(Limit::WriteTime);
                }
                self.close(now, id);
            }
            Some(Due::Request) => {
                self.refuse_and_close(now, id, UNKNOWN_FRAME, 408, REQUEST_TOO_SLOW);
                self.visit(now, id, 1, Arrived::default());
            }
            Some(Due::Idle) => {
                // A request that races the end of patience is still read and answered.
                connection.readable = true;
                self.visit(now, id, 1, Arrived::default());
                let Some(connection) = self.connections.get(id) else { return };
                if connection.due(&self.fixed.times, now.monotonic) == Some(Due::Idle) {
                    connection.close_when_sent();
                    self.visit(now, id, 1, Arrived::default());
                }
            }
        }
    }
}

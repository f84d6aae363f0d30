//! All connections: their ids, the queues of those that have work, the spare buffers, and the node's way to answer them.

use slab::Slab;

use super::connection::{Connection, Owed, Place};
use super::lanes::Lanes;
use super::limits::{SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX};
use super::peer::{Outgoing, log_event};
use super::stream::Stream;
use super::systemd::ServiceManager;
use crate::api::{self, ApiError};
use crate::http::{HttpDate, ReplyFrame};
use crate::log::Log;
use crate::metrics::limits::LimitsMet;
use crate::metrics::requests::{AnswerResult, Requests};
use crate::node::request::{ConnectionId, RequestId};
use crate::node::response::Response;
use crate::node::{Event, Outbox, PeerMisbehaved};
use crate::peer::message::Message;
use crate::status::role_name;
use crate::store_id::KeyRing;
use crate::time::{Instant, Now};

/// The low bits of a [`ConnectionId`] say where the connection is in the table; those above count accepted connections, 2^44 of
/// them, so that no id is ever given twice.
const INDEX_BITS: u32 = 20;
/// What the table can address.
pub(super) const CONNECTIONS_MAX: usize = 1 << INDEX_BITS;

/// All connections.
pub(super) struct Connections {
    table: Slab<Connection>,
    accepted_total: u64,
    /// How many of them count for what, in the order of [`Place`].
    counts: [usize; Place::COUNT],
    /// Those that wait for a visit.
    pub(super) lanes: Lanes,
    /// Connections that got an answer while another one was served, or no one.
    dirty: Vec<ConnectionId>,
    /// The one that is being visited.
    visited: Option<ConnectionId>,
    /// Buffers for the next connections that need one.
    pub(super) spares: Spares,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self {
            table: Slab::new(),
            accepted_total: 0,
            counts: [0; Place::COUNT],
            lanes: Lanes::default(),
            dirty: Vec::new(),
            visited: None,
            spares: Spares::default(),
        }
    }

    /// Takes a connection in, at a place that it counts for; `None` if the table is full.
    pub(super) fn insert(
        &mut self,
        door: usize,
        place: Place,
        stream: Stream,
        now: Instant,
    ) -> Option<&mut Connection> {
        let entry = self.table.vacant_entry();
        if entry.key() >= CONNECTIONS_MAX {
            return None;
        }
        self.accepted_total += 1;
        self.counts[place as usize] += 1;
        let id = ConnectionId(self.accepted_total << INDEX_BITS | entry.key() as u64);
        Some(entry.insert(Connection::new(id, door, place, stream, now)))
    }

    /// The connection of an id, if it is still there.
    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.table.get_mut(index_of(id)).filter(|connection| connection.id == id)
    }

    /// The connection at a place in the table, as events name it.
    pub(super) fn at(&mut self, index: usize) -> Option<&mut Connection> {
        self.table.get_mut(index)
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        let connection = self.table.try_remove(index_of(id))?;
        self.counts[connection.place as usize] -= 1;
        Some(connection)
    }

    /// Has a connection make room for the next one: it counts with the refused ones from here on.
    pub(super) fn leave_place(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get(id) {
            let left = std::mem::replace(&mut connection.place, Place::Refused);
            self.counts[left as usize] -= 1;
            self.counts[Place::Refused as usize] += 1;
        }
    }

    /// How many there are, those that were refused included.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many ever came in.
    pub(super) fn accepted_total(&self) -> u64 {
        self.accepted_total
    }

    /// How many there are at a place.
    pub(super) fn count(&self, place: Place) -> usize {
        self.counts[place as usize]
    }

    /// Every connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.table.iter().map(|(_, connection)| connection)
    }

    /// Has a connection visited, in the lane that it has earned: in this turn if there is room.
    pub(super) fn wake(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.get(id)
            && !connection.queued
        {
            connection.queued = true;
            connection.note_woken(now);
            let is_prompt = connection.is_prompt();
            let lane = if is_prompt { &mut self.lanes.prompt } else { &mut self.lanes.slow };
            lane.push_back(id);
        }
    }

    /// Has a connection visited again that used up its visit: after those that have waited.
    pub(super) fn wake_later(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.get(id)
            && !connection.queued
        {
            connection.queued = true;
            connection.note_woken(now);
            self.lanes.slow.push_back(id);
        }
    }

    /// The next one of the prompt lane.
    pub(super) fn next_prompt(&mut self) -> Option<ConnectionId> {
        let id = self.lanes.prompt.pop_front()?;
        if let Some(connection) = self.get(id) {
            connection.queued = false;
        }
        Some(id)
    }

    /// The next one of the slow lane.
    pub(super) fn next_slow(&mut self) -> Option<ConnectionId> {
        let id = self.lanes.slow.pop_front()?;
        if let Some(connection) = self.get(id) {
            connection.queued = false;
        }
        Some(id)
    }

    /// Begins or ends a visit: answers to the visited connection are sent at its end, without a further look.
    pub(super) fn set_visited(&mut self, id: Option<ConnectionId>) {
        self.visited = id;
    }

    /// Whether it is being visited.
    pub(super) fn is_visited(&self, id: ConnectionId) -> bool {
        self.visited == Some(id)
    }

    /// The next one that got an answer outside of its own visit.
    pub(super) fn next_dirty(&mut self) -> Option<ConnectionId> {
        let id = self.dirty.pop()?;
        if let Some(connection) = self.get(id) {
            connection.dirty = false;
        }
        Some(id)
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get(id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Where to append an answer for a connection.
    pub(super) fn writer(&mut self, id: ConnectionId, now: Instant) -> Option<&mut Vec<u8>> {
        let connection = self.table.get_mut(index_of(id)).filter(|connection| connection.id == id)?;
        Some(connection.writer(now, || self.spares.take()))
    }
}

/// Where a connection is in the table; events name it by this.
pub(super) fn index_of(id: ConnectionId) -> usize {
    (id.0 & (CONNECTIONS_MAX as u64 - 1)) as usize
}

/// A few empty buffers that have memory already.
#[derive(Default)]
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// One with memory if there is one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps the memory of one for later, unless it has none, has grown large, or there are enough.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity()) && self.0.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// The node's way to answer: straight into the output of the connection whose request it is. A connection has one unanswered
/// request at most, so a request has the number of its connection.
pub(super) struct Replies<'s> {
    /// Where the answers go.
    pub(super) connections: &'s mut Connections,
    /// For store ids in answers.
    pub(super) keyring: &'s mut KeyRing,
    /// For every answer.
    pub(super) date: &'s HttpDate,
    /// For deadlines of sending, and the log.
    pub(super) now: Now,
    /// A clean stop is under way: connections close behind their next answer.
    pub(super) stopping: bool,
    /// For `/metrics`, and the log.
    pub(super) limits_met: &'s mut LimitsMet,
    /// For `/metrics`.
    pub(super) requests: &'s mut Requests,
    /// The way to the other node, if there is one.
    pub(super) peer: Option<&'s mut Outgoing>,
    /// For events.
    pub(super) log: &'s mut Log,
    /// For changes of the role.
    pub(super) service_manager: &'s mut ServiceManager,
}

/// The request that a connection may have with the node.
pub(super) const fn request_id(connection: ConnectionId) -> RequestId {
    RequestId(connection.0)
}

impl Outbox for Replies<'_> {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        let id = ConnectionId(id.0);
        // What outlasts its connection is answered too: there is nobody any more who waits for it.
        let is_visited = self.connections.is_visited(id);
        let Some(connection) = self.connections.get(id) else { return };
        let Some(Owed { frame, shape, is_change }) = connection.owed.take() else { return };
        let asked_at = connection.asked_at;
        if !is_visited {
            // What it has sent meanwhile could not be served before.
            connection.asked_at = self.now.monotonic;
        }
        let result = match response.result {
            Ok(_) => AnswerResult::OK,
            Err(refusal) => {
                self.limits_met.note_refusal(refusal);
                AnswerResult::of_error(&ApiError::from(refusal))
            }
        };
        self.requests.note(Some(shape.operation), result, asked_at, is_visited);
        let frame = ReplyFrame { close: frame.close || self.stopping, ..frame };
        if let Some(output) = self.connections.writer(id, self.now.monotonic) {
            api::write_answer(output, &frame, self.date, shape, &response, self.keyring);
        }
        if let Some(connection) = self.connections.get(id) {
            connection.holds_change |= is_change && response.result.is_ok() && !response.degraded;
            if frame.close {
                connection.close_when_sent();
            }
        }
        if !is_visited {
            self.connections.mark_dirty(id);
        }
    }

    fn send_peer(&mut self, message: Message<'_>) {
        if let Some(peer) = &mut self.peer {
            peer.push(&message);
        }
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        if let Some(peer) = &mut self.peer {
            peer.misbehaved = Some(why);
        }
    }

    fn event(&mut self, event: Event) {
        log_event(self.log, self.now, event);
        if let Event::RoleChanged { role } = event {
            self.service_manager.is_now(role_name(role).to_owned());
        }
    }
}

//! Requests that go to the primary, from the secondary's clients; and after a handover, from the old primary's.
//!
//! A forwarded request is told apart by one bit of its id and of its connection's, so that the same rules serve it: it waits in
//! the same lines, and its connection's end ends what is tied to it.

use std::time::Duration;

use super::arena::OwnMap;
use super::codec::{read_request, write_request};
use super::handover::Held;
use super::request::{ConnectionId, Operation, Request, RequestId};
use super::response::{Refusal, Response};
use super::{Node, Outbox, PeerMisbehaved, Role};
use crate::peer::message::Message;
use crate::time::Now;
use crate::wheel::TimerId;
use crate::wire::Reader;

/// Set in the ids of what comes from the peer's clients. The shell's own ids never have it.
const FORWARDED: u64 = 1 << 63;
/// Requests forwarded and not answered, at most.
pub const FORWARDS_MAX: usize = 65_536;
/// The same in bytes: what a primary that does not answer may cost.
pub(super) const FORWARDS_MAX_BYTES: usize = 16 << 20;
/// How long the primary may take beside the wait for a lock.
const FORWARD_TIMEOUT_MS: u64 = 5000;

/// A request at the primary.
pub(super) struct Forward {
    request: RequestId,
    timer: TimerId,
    connection: ConnectionId,
    /// Its bytes, in case the primary hands over instead of answering.
    bytes: Box<[u8]>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Forwards {
    by_id: OwnMap<u64, Forward>,
    bytes: usize,
    next_id: u64,
}

impl Forwards {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.by_id.len() < FORWARDS_MAX && self.bytes + bytes <= FORWARDS_MAX_BYTES
    }

    fn insert(&mut self, id: u64, forward: Forward) {
        self.bytes += forward.bytes.len();
        self.by_id.insert(id, forward);
    }

    fn remove(&mut self, id: u64) -> Option<Forward> {
        let forward = self.by_id.remove(&id)?;
        self.bytes -= forward.bytes.len();
        Some(forward)
    }

    /// Takes all of them, in the order in which they came.
    fn drain(&mut self) -> Vec<Forward> {
        self.bytes = 0;
        let mut forwards: Vec<(u64, Forward)> = self.by_id.drain().collect();
        forwards.sort_unstable_by_key(|(id, _)| *id);
        forwards.into_iter().map(|(_, forward)| forward).collect()
    }

    fn ids_before(&self, end: u64) -> Vec<u64> {
        let mut ids: Vec<u64> = self.by_id.keys().copied().filter(|id| *id < end).collect();
        ids.sort_unstable();
        ids
    }

    fn ids_of(&self, connection: ConnectionId) -> Vec<u64> {
        let of_it = self.by_id.iter().filter(|(_, forward)| forward.connection == connection);
        of_it.map(|(&id, _)| id).collect()
    }
}

/// The id of a connection of the peer.
pub(super) const fn forwarded_connection(connection: ConnectionId) -> ConnectionId {
    ConnectionId(connection.0 | FORWARDED)
}

/// A connection as the other node calls it.
pub(super) const fn other_sides_connection(connection: ConnectionId) -> ConnectionId {
    ConnectionId(connection.0 ^ FORWARDED)
}

const fn is_forwarded(request: RequestId) -> bool {
    request.0 & FORWARDED != 0
}

/// Answers a request where it came from.
pub(super) fn deliver(outbox: &mut dyn Outbox, request: RequestId, response: Response<'_>) {
    if is_forwarded(request) {
        outbox.send_peer(Message::Forwarded { id: request.0 & !FORWARDED, response });
    } else {
        outbox.respond(request, response);
    }
}

pub(super) fn refuse(outbox: &mut dyn Outbox, request: RequestId, refusal: Refusal) {
    deliver(outbox, request, Response::new(Err(refusal), None));
}

impl Node {
    /// The first gate: whether the request is for this node at all. Says whether it was dealt with here.
    pub(super) fn pass_on(&mut self, now: Now, id: RequestId, request: &Request<'_>, outbox: &mut dyn Outbox) -> bool {
        let Some(peering) = &mut self.peering else { return false };
        match peering.role {
            Role::Primary => {
                let holds = peering.handover_until.is_some() && request.operation.is_change();
                if holds {
                    let mut bytes = Vec::new();
                    write_request(&mut bytes, request);
                    peering.held.push_back(Held { request: id, bytes: bytes.into_boxed_slice() });
                }
                holds
            }
            Role::Secondary if !request.operation.is_change() && !request.from_primary => false,
            Role::Secondary | Role::Joining => {
                self.forward(now, id, request, outbox);
                true
            }
        }
    }

    pub(super) fn forward(&mut self, now: Now, id: RequestId, request: &Request<'_>, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        let nobody = match peering.role {
            Role::Joining => Refusal::StoreUnavailable,
            Role::Primary | Role::Secondary => Refusal::LeaderChanged,
        };
        let has_primary = peering.link_up && peering.peer_role == Some(Role::Primary);
        if is_forwarded(id) || !has_primary {
            return refuse(outbox, id, nobody);
        }
        let mut bytes = Vec::new();
        write_request(&mut bytes, request);
        if !peering.forwards.has_room_for(bytes.len()) {
            return refuse(outbox, id, nobody);
        }
        let forward = peering.forwards.next_id;
        peering.forwards.next_id += 1;
        let wait = Duration::from_millis(request.operation.wait_ms() + FORWARD_TIMEOUT_MS);
        let timer = peering.forward_ends.arm(now.monotonic + wait, forward);
        let connection = request.connection;
        peering.forwards.insert(forward, Forward { request: id, timer, connection, bytes: bytes.into_boxed_slice() });
        if matches!(request.operation, Operation::BeginModify { .. }) || request.operation.wait_ms() > 0 {
            peering.tied_connections.insert(connection, ());
        }
        outbox.send_peer(Message::Forward { id: forward, request: request.clone() });
    }

    /// A client of the secondary asks.
    pub(super) fn on_forward(
        &mut self,
        now: Now,
        id: u64,
        request: Request<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), PeerMisbehaved> {
        let connection = forwarded_connection(request.connection);
        let request = Request { connection, ..request };
        let peering = self.peering.as_mut().expect("only with a peer");
        peering.forwards_heard = peering.forwards_heard.max(id.saturating_add(1));
        let id = RequestId(id | FORWARDED);
        if self.locks.is_waiting(id) {
            return Err(PeerMisbehaved::RepeatedRequest);
        }
        self.on_request(now, id, &request, outbox);
        Ok(())
    }

    /// The primary has answered.
    pub(super) fn on_forwarded(&mut self, now: Now, id: u64, response: Response<'_>, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        let Some(forward) = peering.forwards.remove(id) else { return };
        peering.forward_ends.disarm(forward.timer);
        let was_passed_back = matches!(response.result, Err(Refusal::LeaderChanged));
        if was_passed_back && peering.role == Role::Primary {
            // The old primary handed over before it did anything with this.
            return self.repeat_request(now, forward.request, &forward.bytes, outbox);
        }
        outbox.respond(forward.request, response);
    }

    /// On a new connection: which of the peer's requests this node still holds. The answers to others may have been lost with the connection
    /// before, and nobody should wait for them.
    pub(super) fn send_unanswered(&mut self, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_ref().expect("only with a peer");
        if peering.forwards_heard == 0 {
            return;
        }
        let held = peering.held.iter().map(|held| held.request);
        let withheld = peering.withheld.iter().map(|withheld| withheld.request);
        let jobs = self.prefix_jobs.iter().map(|job| job.asker.request);
        let all = self.locks.waiting().chain(held).chain(withheld).chain(jobs);
        let mut ids: Vec<u64> = all.filter(|id| is_forwarded(*id)).map(|id| id.0 & !FORWARDED).collect();
        ids.sort_unstable();
        outbox.send_peer(Message::Unanswered { heard: peering.forwards_heard, ids });
    }

    /// The peer has a new connection, and says what it still holds: of the rest nobody knows whether it was carried out.
    pub(super) fn on_unanswered(&mut self, heard: u64, mut ids: Vec<u64>, outbox: &mut dyn Outbox) {
        ids.sort_unstable();
        let peering = self.peering.as_mut().expect("only with a peer");
        for id in peering.forwards.ids_before(heard) {
            if ids.binary_search(&id).is_err()
                && let Some(forward) = peering.forwards.remove(id)
            {
                peering.forward_ends.disarm(forward.timer);
                refuse(outbox, forward.request, Refusal::LeaderChanged);
            }
        }
    }

    pub(super) fn repeat_request(&mut self, now: Now, id: RequestId, bytes: &[u8], outbox: &mut dyn Outbox) {
        let request = read_request(&mut Reader::new(bytes)).expect("what was written reads back");
        self.on_request(now, id, &request, outbox);
    }

    /// Nobody will answer these, and nobody knows whether they were carried out.
    pub(super) fn give_up_forwards(&mut self, _now: Now, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        for forward in peering.forwards.drain() {
            peering.forward_ends.disarm(forward.timer);
            refuse(outbox, forward.request, Refusal::LeaderChanged);
        }
    }

    pub(super) fn expire_forwards(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        let mut budget = u32::MAX;
        while let Some(id) = peering.forward_ends.pop_due(now.monotonic, &mut budget) {
            if let Some(forward) = peering.forwards.remove(id) {
                refuse(outbox, forward.request, Refusal::LeaderChanged);
            }
        }
    }

    /// A connection of this node's client ended: what was forwarded from it is not waited for.
    pub(super) fn forget_forwards_of(&mut self, connection: ConnectionId, outbox: &mut dyn Outbox) {
        let Some(peering) = &mut self.peering else { return };
        if peering.tied_connections.remove(&connection).is_none() {
            return;
        }
        for id in peering.forwards.ids_of(connection) {
            if let Some(forward) = peering.forwards.remove(id) {
                peering.forward_ends.disarm(forward.timer);
            }
        }
        if peering.link_up && peering.role != Role::Primary {
            outbox.send_peer(Message::ConnectionClosed { connection });
        }
    }

    /// The peer's process is gone, and its clients' connections with it.
    pub(super) fn abandon_forwarded(&mut self, now: Now, outbox: &mut dyn Outbox) {
        for connection in self.locks.connections() {
            if connection.0 & FORWARDED != 0 {
                self.on_connection_closed(now, connection, outbox);
            }
        }
        let peering = self.peering.as_mut().expect("only with a peer");
        peering.held.retain(|held| !is_forwarded(held.request));
        peering.withheld.retain(|withheld| !is_forwarded(withheld.request));
    }

    /// Before this node forgets everything: whoever waits is told so.
    pub(super) fn refuse_all_waiting(&mut self, now: Now, outbox: &mut dyn Outbox) {
        for slot in self.locks.slots_with_line() {
            while let Some(parked) = self.locks.next(slot) {
                self.timers.disarm(parked.timer);
                refuse(outbox, parked.asker.request, Refusal::LeaderChanged);
            }
        }
        self.refuse_withheld(outbox);
        self.give_up_forwards(now, outbox);
        let held = std::mem::take(&mut self.peering.as_mut().expect("only with a peer").held);
        for Held { request, .. } in held {
            refuse(outbox, request, Refusal::LeaderChanged);
        }
        for job in std::mem::take(&mut self.prefix_jobs) {
            refuse(outbox, job.asker.request, Refusal::LeaderChanged);
        }
    }
}

//! What has come on several connections at once: it is read from all of them, and the stores of their first requests are looked up
//! together, before the first is served; a request waits for memory several times, and so they wait at the same time
//! ([`Node::look_up_ahead`](crate::node::Node::look_up_ahead)). Owns the reading ahead; what becomes of what was read is the visit's
//! business.

use std::mem;
use std::rc::Rc;

use super::Server;
use super::connection::Place;
use super::intake::{Context, WholeRequest};
use super::lanes::Visits;
use super::limits::{ARRIVALS_BYTES_MAX, READ_AHEAD_BYTES_MIN};
use super::listener::DoorOwner;
use super::visit::Read;
use crate::api::Door;
use crate::node::LOOKED_UP_AHEAD_MAX;
use crate::node::request::ConnectionId;
use crate::time::Now;

/// What has been read from a connection before its visit.
#[derive(Default)]
pub(super) struct Arrived<'b> {
    /// All of it.
    pub(super) bytes: &'b [u8],
    /// The request it begins with, if that is there whole.
    pub(super) first: Option<WholeRequest<'b>>,
}

impl Server {
    /// Visits the next connections of the prompt lane, at most so many. Says how many it has taken from there.
    pub(super) fn visit_together(&mut self, visits: &mut Visits, most: usize, quota: u32) -> usize {
        let fixed = Rc::clone(&self.fixed);
        let mut buffer = mem::take(&mut self.arrivals);
        // Of no size until it is needed for the first time.
        buffer.resize(ARRIVALS_BYTES_MAX, 0);
        let mut ends = [(ConnectionId(0), 0); LOOKED_UP_AHEAD_MAX];
        let mut count = 0;
        let mut end = 0;
        while count < most.min(LOOKED_UP_AHEAD_MAX) && buffer.len() - end >= READ_AHEAD_BYTES_MIN {
            let Some(id) = self.connections.next_prompt() else { break };
            end += self.read_ahead(id, &mut buffer[end..]);
            ends[count] = (id, end);
            count += 1;
        }
        let doors: Vec<Door<'_>> = fixed.doors.iter().map(DoorOwner::door).collect();
        let mut arrivals = Vec::with_capacity(LOOKED_UP_AHEAD_MAX);
        let mut begin = 0;
        for &(id, end) in &ends[..count] {
            let bytes = &buffer[begin..end];
            begin = end;
            let first = self.connections.get(id).and_then(|connection| {
                let (head_limits, settings, keyring) = (&fixed.head_limits, &fixed.settings, &mut self.keyring);
                let context = Context { head_limits, settings, door: &doors[connection.door], keyring };
                connection.intake.whole_request(bytes, &context)
            });
            arrivals.push((id, Arrived { bytes, first }));
        }
        let firsts = arrivals.iter().filter_map(|(_, arrived)| arrived.first.as_ref());
        self.keyring.look_up_ahead(firsts.filter_map(|request| request.prepared.sealed()));
        for (_, arrived) in &mut arrivals {
            // One whose id does not open is read again in its turn, and refused.
            arrived.first.take_if(|request| request.prepared.open(&mut self.keyring).is_err());
        }
        let firsts = arrivals.iter().filter_map(|(_, arrived)| arrived.first.as_ref());
        self.node.look_up_ahead(firsts.filter_map(|request| request.prepared.store()));
        for (id, arrived) in arrivals {
            if visits.prompt_share_is_used() {
                self.keep_arrived(visits.now, id, arrived.bytes);
            } else {
                self.visit_one(visits, id, quota, arrived);
            }
        }
        self.arrivals = buffer;
        count
    }

    /// Reads from a client's connection, if nothing else is under way on it.
    fn read_ahead(&mut self, id: ConnectionId, buffer: &mut [u8]) -> usize {
        let is_quiet = self.connections.get(id).is_some_and(|connection| {
            connection.place == Place::Client && connection.readable && !connection.peer_gone && connection.is_idle()
        });
        if !is_quiet {
            return 0;
        }
        match self.read(id, buffer) {
            Read::Bytes(length) => length,
            // The visit sees it.
            Read::Nothing | Read::End | Read::Broken => 0,
        }
    }

    /// Keeps what was read for the next turn.
    fn keep_arrived(&mut self, now: Now, id: ConnectionId, bytes: &[u8]) {
        if !bytes.is_empty() {
            let spare = self.connections.spares.take();
            if let Some(connection) = self.connections.get(id) {
                connection.input.append(bytes, || spare);
            }
        }
        self.connections.wake(id, now.monotonic);
    }
}

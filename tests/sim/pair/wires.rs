//! The network of the runs in which the link is sealed: connections whose bytes fly from kernel to kernel, at the pace of a wire that both
//! directions' connections share, and everything that happens to them on the way.

use super::coverage::Met;
use super::net::{MS, US};
use super::profile::Tampering;
use super::socket::{Kernels, Plug};
use super::world::{Event, World};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::Rc;

/// A machine that did not answer a SYN is sent another after this.
const SYN_AGAIN_NS: u64 = 1_000 * MS;
/// Nobody's place: who dials from there is neither node.
pub(crate) const STRANGER: usize = 2;

/// What is on its way in one direction.
#[derive(Clone, Debug)]
pub(crate) enum Flight {
    Bytes(Vec<u8>),
    /// The sender has closed.
    End,
    /// The sender's machine knows of no such connection.
    Reset,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where each end is.
    pub(crate) places: [usize; 2],
    pub(crate) kernels: Rc<RefCell<Kernels>>,
    pub(crate) flights: [VecDeque<Flight>; 2],
    last_arrival: [u64; 2],
    /// What dialled end sends vanishes, and nobody says so.
    pub(crate) hole: bool,
    /// The other end has been told that this one has closed, or nobody will.
    is_end_told: [bool; 2],
    /// When each end looks next whether anything comes back.
    looks_at: [u64; 2],
    /// What happens to the next bytes of each end.
    tampering: [Option<Tampering>; 2],
}

/// What leaves one machine.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// When the last byte before this has left.
    free_at: u64,
    /// Nothing arrives before.
    pub(crate) stalled_until: u64,
    /// Requests as they once stood on the wire, whole.
    old_requests: VecDeque<Vec<u8>>,
}

impl World {
    /// A process has dialled the other's port.
    pub(crate) fn dialled(&mut self, from: usize, id: u64, kernels: Rc<RefCell<Kernels>>) {
        let connection = Connection {
            places: [from, 1 - from],
            kernels,
            flights: Default::default(),
            last_arrival: [0; 2],
            hole: false,
            is_end_told: [false; 2],
            looks_at: [0; 2],
            tampering: [None; 2],
        };
        self.connections.insert(id, connection);
        let delay = 2 * self.delay_ns(from);
        self.schedule(self.now + delay, Event::SynArrives { connection: id });
    }

    /// Somebody who is no node dials a port, and says something.
    pub(crate) fn stranger_dials(&mut self, to: usize, words: Vec<u8>) {
        if self.hosts[to].node.is_none() {
            return;
        }
        let id = self.next_connection();
        let mut kernels = Kernels::new(self.profile.roughness, self.net_rng.fork());
        (kernels.is_connected, kernels.is_open) = (true, [false, true]);
        kernels.pipes[0].arrived = words;
        let kernels = Rc::new(RefCell::new(kernels));
        let connection = Connection {
            places: [STRANGER, to],
            kernels: Rc::clone(&kernels),
            flights: Default::default(),
            last_arrival: [0; 2],
            hole: false,
            is_end_told: [true, false],
            looks_at: [0; 2],
            tampering: [None; 2],
        };
        self.connections.insert(id, connection);
        self.calls(to, Plug { connection: id, end: 1, kernels });
    }

    /// How the other node once introduced itself to this one; or nothing.
    pub(crate) fn old_hello(&self, to: usize) -> Vec<u8> {
        let requests = &self.wires[1 - to].old_requests;
        requests.iter().find(|request| request.starts_with(b"POST /internal/hello")).cloned().unwrap_or_default()
    }

    pub(crate) fn next_connection(&mut self) -> u64 {
        self.last_connection += 1;
        self.last_connection
    }

    /// A SYN has come, or should have.
    pub(crate) fn syn_arrives(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let [from, to] = connection.places;
        let kernels = Rc::clone(&connection.kernels);
        if !kernels.borrow().is_open[0] {
            // The dialler has given up.
            self.connections.remove(&id);
            return;
        }
        let host = &self.hosts[to];
        if self.is_cut() || self.wires[from].stalled_until > self.now || (host.node.is_none() && !host.refuses) {
            self.coverage.met(Met::SynLost);
            self.schedule(self.now + SYN_AGAIN_NS, Event::SynArrives { connection: id });
        } else if host.node.is_none() {
            self.coverage.met(Met::RefusedConnection);
            self.fails(id, 0, ErrorKind::ConnectionRefused);
        } else {
            {
                let mut kernels = kernels.borrow_mut();
                (kernels.is_connected, kernels.is_open[1]) = (true, true);
            }
            self.calls(to, Plug { connection: id, end: 1, kernels });
            self.readies(id, 0);
        }
    }

    /// Whatever this end tries from now on comes to this.
    pub(crate) fn fails(&mut self, id: u64, end: usize, kind: ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.kernels.borrow_mut().error[end].get_or_insert(kind);
        connection.is_end_told[end] = true;
        self.readies(id, end);
    }

    /// What the processes of this machine have written, read and closed by now has its consequences on the network.
    pub(crate) fn carries(&mut self, place: usize) {
        let ids: Vec<(u64, usize)> = self
            .connections
            .iter()
            .filter_map(|(&id, connection)| Some((id, connection.places.iter().position(|&at| at == place)?)))
            .filter(|(id, end)| self.connections[id].kernels.borrow().has_news_of(*end))
            .collect();
        for (id, end) in ids {
            self.carries_of(id, end);
            let kernels = self.connections[&id].kernels.borrow();
            if kernels.is_open == [false; 2] {
                self.coverage.met_often(Met::Hiccup, kernels.hiccups);
                drop(kernels);
                self.connections.remove(&id);
            }
        }
    }

    fn carries_of(&mut self, id: u64, end: usize) {
        let connection = self.connections.get_mut(&id).expect("it was just found");
        let kernels = Rc::clone(&connection.kernels);
        let (written, has_closed, was_put_off, frees) = {
            let mut kernels = kernels.borrow_mut();
            let written = std::mem::take(&mut kernels.pipes[end].written);
            let frees = kernels.pipes[1 - end].was_full && kernels.room(1 - end) > 0;
            if frees {
                kernels.pipes[1 - end].was_full = false;
            }
            (
                written,
                !kernels.is_open[end] && kernels.is_connected,
                std::mem::take(&mut kernels.was_put_off[end]),
                frees,
            )
        };
        if was_put_off {
            let at = self.now + self.net_rng.between(1, 500) * US;
            self.schedule(at, Event::Readies { connection: id, end });
        }
        if frees {
            self.coverage.met(Met::FullBuffer);
            let at = self.now + self.delay_ns(1 - self.connections[&id].places[1 - end].min(1));
            self.schedule(at, Event::Readies { connection: id, end: 1 - end });
        }
        if !written.is_empty() {
            self.flies(id, end, written);
        }
        let connection = self.connections.get_mut(&id).expect("it was just found");
        if has_closed && !connection.is_end_told[end] {
            connection.is_end_told[end] = true;
            let has_unread = kernels.borrow().pipes[1 - end].unread_bytes() > 0;
            self.takes_off(id, end, if has_unread { Flight::Reset } else { Flight::End });
        }
    }

    /// Bytes leave a kernel, perhaps not as they were.
    fn flies(&mut self, id: u64, end: usize, mut bytes: Vec<u8>) {
        let connection = self.connections.get_mut(&id).expect("its kernel has it");
        if connection.places[0] == STRANGER {
            return;
        }
        let written_bytes = bytes.len();
        if connection.hole {
            connection.kernels.borrow_mut().pipes[end].flying_bytes += written_bytes;
            return;
        }
        let mut ends = None;
        if let Some(tampering) = connection.tampering[end].take() {
            self.coverage.met(tampering.met());
            self.tell(|_| format!("{tampering:?} of connection {id}"));
            ends = self.tamper(id, end, tampering, &mut bytes);
        }
        // What is taken out on the way was acknowledged there; what is added was never in the sender's buffer.
        self.connections[&id].kernels.borrow_mut().pipes[end].flying_bytes += bytes.len().min(written_bytes);
        let wire = &mut self.wires[self.connections[&id].places[end]];
        if end == 0 && bytes.starts_with(b"POST /internal/") && bytes.len() < 4096 {
            if wire.old_requests.len() >= 8 {
                wire.old_requests.pop_front();
            }
            wire.old_requests.push_back(bytes.clone());
        }
        if bytes.len() > 1 && self.net_rng.chance(self.profile.split) {
            let rest = bytes.split_off(1 + self.net_rng.index(bytes.len() - 1));
            self.takes_off(id, end, Flight::Bytes(bytes));
            bytes = rest;
        }
        self.takes_off(id, end, Flight::Bytes(bytes));
        if let Some(flight) = ends {
            self.takes_off(id, end, flight);
            self.fails(id, end, ErrorKind::ConnectionReset);
        }
    }

    /// What somebody on the way does to bytes. Says how the connection ends behind them, if it does.
    fn tamper(&mut self, id: u64, end: usize, tampering: Tampering, bytes: &mut Vec<u8>) -> Option<Flight> {
        let place = self.connections[&id].places[end];
        let at = self.net_rng.index(bytes.len());
        match tampering {
            Tampering::BitFlip => bytes[at] ^= 1 << self.net_rng.below(8),
            Tampering::Garbage => {
                let garbage: Vec<u8> = (0..self.net_rng.between(1, 64)).map(|_| self.net_rng.next() as u8).collect();
                bytes.splice(at..at, garbage);
            }
            Tampering::HugeLength => {
                let head = b"POST /internal/replicate HTTP/1.1\r\nHost: b\r\nContent-Length: 4294967296\r\n\r\n";
                bytes.splice(0..0, head.iter().copied());
            }
            Tampering::Replay => {
                let old = &self.wires[place].old_requests;
                if !old.is_empty() {
                    let old = old[self.net_rng.index(old.len())].clone();
                    bytes.splice(0..0, old);
                }
            }
            Tampering::LeaveOut => bytes.clear(),
            Tampering::CutMid => {
                bytes.truncate(at);
                return Some(if self.net_rng.one_in(2) { Flight::End } else { Flight::Reset });
            }
        }
        None
    }

    /// The next bytes of one direction of what this node has dialled will be tampered with.
    pub(crate) fn tampers(&mut self, place: usize, tampering: Tampering) {
        let end = if self.net_rng.below(4) == 0 { 1 } else { 0 };
        if let Some(connection) = self.dialled_by(place) {
            self.connections.get_mut(&connection).expect("it was found").tampering[end] = Some(tampering);
        }
    }

    /// The newest connection that this node has dialled, if its process still has it.
    pub(crate) fn dialled_by(&self, place: usize) -> Option<u64> {
        let (&id, connection) = self.connections.iter().rfind(|(_, connection)| connection.places[0] == place)?;
        connection.kernels.borrow().is_open[0].then_some(id)
    }

    fn takes_off(&mut self, id: u64, end: usize, flight: Flight) {
        let place = self.connections[&id].places[end];
        if place == STRANGER || self.connections[&id].places[1 - end] == STRANGER {
            return;
        }
        let length = if let Flight::Bytes(bytes) = &flight { bytes.len() as u64 } else { 40 };
        let delay = self.delay_ns(place);
        let wire = &mut self.wires[place];
        let starts = self.now.max(wire.free_at);
        let passes = if self.healed { 0 } else { length * 1_000_000_000 / self.profile.bandwidth[place] };
        wire.free_at = starts + passes;
        let arrives = (wire.free_at + delay).max(wire.stalled_until);
        if passes > 100 * MS {
            self.coverage.met(Met::SlowWire);
        }
        let connection = self.connections.get_mut(&id).expect("it was just there");
        let at = arrives.max(connection.last_arrival[end]);
        connection.last_arrival[end] = at;
        connection.flights[end].push_back(flight);
        self.schedule(at, Event::Lands { connection: id, end });
    }

    /// The next flight of this end arrives.
    pub(crate) fn lands(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if self.cut[connection.places[end]] {
            // Sent again by the kernel when it is healed.
            self.coverage.met(Met::StalledMessages);
            return;
        }
        let Some(flight) = connection.flights[end].pop_front() else { return };
        let to = connection.places[1 - end];
        let mut kernels = connection.kernels.borrow_mut();
        let is_open = kernels.is_open[1 - end] && kernels.error[1 - end].is_none();
        match flight {
            Flight::Bytes(bytes) => {
                let pipe = &mut kernels.pipes[end];
                // What was added on the way was never the sender's.
                pipe.flying_bytes = pipe.flying_bytes.saturating_sub(bytes.len());
                if is_open {
                    pipe.arrived.extend_from_slice(&bytes);
                } else if self.hosts[to].node.is_some() || self.hosts[to].refuses {
                    drop(kernels);
                    // Nobody is there to read it.
                    self.fails(id, end, ErrorKind::ConnectionReset);
                    return;
                }
            }
            Flight::End => kernels.pipes[end].has_ended = true,
            Flight::Reset => {
                drop(kernels);
                self.fails(id, 1 - end, ErrorKind::ConnectionReset);
                return;
            }
        }
        drop(kernels);
        self.readies(id, 1 - end);
    }

    /// Both ends hear of a reset, or the dialling one alone: what is on its way arrives at the other all the same.
    pub(crate) fn resets(&mut self, id: u64, dialler_alone: bool) {
        self.fails(id, 0, ErrorKind::ConnectionReset);
        if !dialler_alone {
            self.fails(id, 1, ErrorKind::ConnectionReset);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.flights.iter_mut().for_each(VecDeque::clear);
            }
        }
    }

    /// Both ends hear that the other has closed, as from a proxy that is stopped.
    pub(crate) fn ends_streams(&mut self, id: u64) {
        for end in 0..2 {
            self.takes_off(id, end, Flight::End);
        }
    }

    /// A kernel has had no acknowledgement for long enough, unless it has one now.
    pub(crate) fn falls_silent(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let kernels = connection.kernels.borrow();
        let (is_connected, is_other_gone) = (kernels.is_connected, !kernels.is_open[1 - end]);
        drop(kernels);
        if is_connected && connection.places[0] != STRANGER && (connection.hole || self.is_cut() || is_other_gone) {
            self.fails(id, end, ErrorKind::TimedOut);
        }
    }

    /// Each end of these will notice by itself that nothing comes back, if nothing does.
    pub(crate) fn will_fall_silent(&mut self, ids: Vec<u64>, within_ms: (u64, u64)) {
        for id in ids {
            for end in 0..2 {
                let at = self.now + self.net_rng.between(within_ms.0, within_ms.1) * MS;
                let connection = self.connections.get_mut(&id).expect("it is there");
                let is_open = connection.kernels.borrow().is_open[end];
                // One look is enough, if it comes as soon.
                let looks_before = (self.now + 1..=at).contains(&connection.looks_at[end]);
                if is_open && !looks_before && connection.places[0] != STRANGER {
                    connection.looks_at[end] = at;
                    self.schedule(at, Event::FallsSilent { connection: id, end });
                }
            }
        }
    }

    /// A machine is gone without a word: nothing of its connections is told to anybody.
    pub(crate) fn nothing_is_told_by(&mut self, place: usize) {
        for connection in self.connections.values_mut() {
            for end in 0..2 {
                connection.is_end_told[end] |= connection.places[end] == place;
            }
        }
    }

    /// What a cut has held up arrives.
    pub(crate) fn lets_pass(&mut self) {
        let mut landings = Vec::new();
        for (&connection, Connection { flights, .. }) in &self.connections {
            for (end, flights) in flights.iter().enumerate() {
                landings.extend(flights.iter().map(|_| Event::Lands { connection, end }));
            }
        }
        for landing in landings {
            self.schedule(self.now, landing);
        }
    }

    /// The network is well.
    pub(crate) fn heals_wires(&mut self) {
        self.wires.iter_mut().for_each(|wire| (wire.free_at, wire.stalled_until) = (0, 0));
        self.lets_pass();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            let connection = self.connections.get_mut(&id).expect("it is there");
            connection.last_arrival = [0; 2];
            connection.tampering = [None; 2];
            let (is_connected, is_open) = {
                let kernels = connection.kernels.borrow();
                (kernels.is_connected, kernels.is_open)
            };
            if !is_connected {
                self.schedule(self.now, Event::SynArrives { connection: id });
            } else if connection.hole || is_open != [true; 2] {
                self.resets(id, false);
            }
        }
    }
}

//! The network between the two: one connection that each node dials, messages in order on each, and what can go wrong with them. In the runs
//! in which the link is sealed it carries bytes instead: see `wires`.

use super::coverage::Met;
use super::host::Arrival;
use super::world::{Event, World};
use std::collections::VecDeque;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const US: u64 = 1_000;

/// Messages, each with the life that has sent it.
type Messages = VecDeque<(u64, Vec<u8>)>;

/// The connection that one node dials.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// The node that dialled it has been told.
    pub(crate) is_known: bool,
    /// Which connection this is; it grows with each.
    pub(crate) generation: u64,
    /// A connection that is over, but whose messages still arrive until the next one is up.
    late: Option<(u64, Messages)>,
    /// What is sent vanishes.
    pub(crate) hole: bool,
    /// Arrived at a cut: sent again by the kernel when it is healed.
    stalled: Messages,
    /// On their way.
    flying: Messages,
    last_arrival: u64,
    to_life: u64,
    attempts: u32,
}

impl World {
    pub(crate) fn is_cut(&self) -> bool {
        self.cut[0] || self.cut[1]
    }

    pub(crate) fn delay_ns(&mut self, from: usize) -> u64 {
        if self.healed {
            return self.net_rng.between(50, 2000) * US;
        }
        if self.profile.tail > 0 && self.net_rng.chance(self.profile.tail) {
            self.coverage.met(Met::TailDelay);
            return self.net_rng.log_between(1, self.profile.tail_us) * US;
        }
        let (low, high) = self.profile.delay_us[from];
        let delay_us = self.net_rng.between(low, high);
        if delay_us >= 50_000 {
            self.coverage.met(Met::LongDelay);
        }
        delay_us * US
    }

    /// A node sends on the connection it dialled.
    pub(crate) fn send(&mut self, from: usize, life: u64, bytes: Vec<u8>) {
        if self.profile.sealed {
            return self.says(from, life, &bytes);
        }
        if !self.links[from].up || !self.links[from].is_known || self.links[from].hole {
            return;
        }
        let delay = self.delay_ns(from);
        let link = &mut self.links[from];
        let at = (self.now + delay).max(link.last_arrival).max(self.wires[from].stalled_until);
        link.last_arrival = at;
        link.flying.push_back((life, bytes));
        let generation = link.generation;
        self.schedule(at, Event::Delivers { from, generation });
    }

    /// The next message of a connection arrives.
    pub(crate) fn delivers(&mut self, from: usize, generation: u64) -> Result<(), String> {
        let link = &mut self.links[from];
        let is_late = link.generation != generation;
        let flying = match &mut link.late {
            _ if !is_late => &mut link.flying,
            Some((late, flying)) if *late == generation => flying,
            Some(_) | None => return Ok(()),
        };
        let Some((life, bytes)) = flying.pop_front() else { return Ok(()) };
        if self.hosts[1 - from].life != link.to_life {
            return Ok(());
        }
        if is_late {
            self.coverage.met(Met::LateMessage);
        } else if self.cut[from] {
            self.coverage.met(Met::StalledMessages);
            link.stalled.push_back((life, bytes));
            return Ok(());
        }
        self.give(1 - from, Arrival::Message { from: life, bytes })
    }

    /// A node tries to connect.
    pub(crate) fn dials(&mut self, from: usize, generation: u64) -> Result<(), String> {
        let link = &self.links[from];
        if link.up || link.generation != generation || self.hosts[from].node.is_none() {
            return Ok(());
        }
        let delay = 2 * self.delay_ns(from);
        let to = &self.hosts[1 - from];
        let to = (to.node.is_some(), to.refuses, to.busy_until);
        match to {
            (false, true, _) if !self.is_cut() => {
                self.coverage.met(Met::RefusedConnection);
                self.schedule(self.now + delay.min(5 * MS), Event::Refused { from, generation });
            }
            (false, ..) => self.dials_later(from, generation, 1000),
            (true, ..) if self.is_cut() => self.dials_later(from, generation, 1000),
            (true, _, busy_until) => {
                let at = self.now.max(busy_until) + delay;
                let life = self.hosts[1 - from].life;
                self.schedule(at, Event::Connected { from, generation, life });
            }
        }
        Ok(())
    }

    fn dials_later(&mut self, from: usize, generation: u64, most_ms: u64) {
        let most_ms = if self.healed { 200 } else { most_ms };
        let at = self.now + self.net_rng.between(50, most_ms) * MS;
        self.schedule(at, Event::Dials { from, generation });
    }

    pub(crate) fn refused(&mut self, from: usize, generation: u64) -> Result<(), String> {
        let link = &mut self.links[from];
        if link.generation != generation || self.hosts[from].node.is_none() {
            return Ok(());
        }
        link.attempts += 1;
        if link.attempts < 3 {
            self.schedule(self.now + 40 * MS, Event::Dials { from, generation });
        } else {
            self.dials_later(from, generation, 1000);
        }
        self.give(from, Arrival::PeerRefused)
    }

    pub(crate) fn connected(&mut self, from: usize, generation: u64, life: u64) -> Result<(), String> {
        let link = &self.links[from];
        if link.up || link.generation != generation || self.hosts[from].node.is_none() {
            return Ok(());
        }
        let to = &self.hosts[1 - from];
        let Some(peer) = to.node.as_ref().filter(|_| to.life == life && !self.is_cut()) else {
            self.dials_later(from, generation, 500);
            return Ok(());
        };
        let incarnation = peer.incarnation();
        self.links[from] = Link { up: true, generation, to_life: life, ..Link::default() };
        self.tell(|_| format!("{from} is connected"));
        self.give(from, Arrival::PeerUp { incarnation, generation })
    }

    /// A connection ends, and the one who dialled it hears of it.
    pub(crate) fn breaks(&mut self, from: usize) -> Result<(), String> {
        let is_late = self.net_rng.chance(self.profile.late) && !self.healed;
        if self.profile.sealed {
            if let Some(id) = self.dialled_by(from) {
                self.resets(id, is_late);
            }
            return Ok(());
        }
        let link = &mut self.links[from];
        if !link.up {
            return Ok(());
        }
        let flying = std::mem::take(&mut link.flying);
        *link = Link {
            late: is_late.then_some((link.generation, flying)),
            generation: link.generation + 1,
            to_life: link.to_life,
            ..Link::default()
        };
        let generation = link.generation;
        self.tell(|_| format!("{from} loses its connection"));
        if self.hosts[from].node.is_none() {
            return Ok(());
        }
        self.schedule(self.now, Event::Dials { from, generation });
        self.give(from, Arrival::PeerDown)
    }

    /// It is noticed that a connection does not work any more, unless it works again.
    pub(crate) fn notices(&mut self, from: usize, generation: u64) -> Result<(), String> {
        let link = &self.links[from];
        let peer = &self.hosts[1 - from];
        let is_dead = link.hole || self.is_cut() || peer.node.is_none() || peer.life != link.to_life;
        if link.up && link.generation == generation && is_dead { self.breaks(from) } else { Ok(()) }
    }

    pub(crate) fn will_be_noticed(&mut self, from: usize, within_ms: (u64, u64)) {
        if self.profile.sealed {
            let ids = self.connections.keys().copied().collect();
            return self.will_fall_silent(ids, within_ms);
        }
        let generation = self.links[from].generation;
        let at = self.now + self.net_rng.between(within_ms.0, within_ms.1) * MS;
        self.schedule(at, Event::Notices { from, generation });
    }

    pub(crate) fn cut(&mut self, cut: [bool; 2]) {
        self.cut = cut;
        self.tell(|_| format!("cut {cut:?}"));
        for from in 0..2 {
            self.will_be_noticed(from, self.profile.notice_ms);
        }
    }

    pub(crate) fn heals_cut(&mut self) {
        if !self.is_cut() {
            return;
        }
        self.cut = [false; 2];
        self.tell(|_| "the cut is healed".to_owned());
        self.lets_pass();
        for from in 0..2 {
            for (life, bytes) in std::mem::take(&mut self.links[from].stalled).into_iter().rev() {
                self.links[from].flying.push_front((life, bytes));
                let generation = self.links[from].generation;
                self.schedule(self.now, Event::Delivers { from, generation });
            }
        }
    }

    /// What is on its way need not wait for anything that was wrong with the network.
    pub(crate) fn hurries(&mut self) {
        for from in 0..2 {
            let link = &mut self.links[from];
            link.last_arrival = 0;
            let generation = link.generation;
            for _ in 0..link.flying.len() {
                self.schedule(self.now, Event::Delivers { from, generation });
            }
        }
    }

    /// What is sent on the connection that this node has dialled vanishes, until somebody notices.
    pub(crate) fn swallows(&mut self, from: usize) {
        if let Some(connection) = self.dialled_by(from).and_then(|id| self.connections.get_mut(&id)) {
            connection.hole = true;
        }
        self.links[from].hole = true;
    }
}

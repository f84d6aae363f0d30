//! What strikes the two machines, and how all of it is healed.

use super::clients::ASKS_IN_CALM_MAX;
use super::coverage::Met;
use super::host::Arrival;
use super::ledger::Wrong;
use super::net::MS;
use super::profile::Fault;
use super::world::{CALM_UNTIL_MS, Event, HEALED_MS, World};
use bigbunny::node::{Node, Role};

impl World {
    pub(crate) fn flaps(&mut self, left: u32) {
        if left == 0 || self.healed {
            return self.heals_cut();
        }
        if self.cut == [false; 2] {
            self.cut([true; 2]);
            for from in 0..2 {
                self.will_be_noticed(from, (1, 40));
            }
        } else {
            self.heals_cut();
        }
        self.schedule(self.now + 50 * MS, Event::Flaps { left: left - 1 });
    }

    pub(crate) fn strikes(&mut self) -> Result<(), Wrong> {
        if self.healed {
            return Ok(());
        }
        let (low, high) = if self.calm { self.profile.calm_fault_every_ms } else { self.profile.fault_every_ms };
        let at = self.now + self.fault_rng.log_between(low, high) * MS;
        self.schedule(at, Event::Fault);
        if self.profile.faults.iter().all(|weight| *weight == 0) {
            return Ok(());
        }
        let fault = Fault::ALL[self.fault_rng.weighted(&self.profile.faults)];
        let place = self.fault_rng.index(2);
        self.tell(|_| format!("fault: {fault:?} at {place}"));
        let (low, high) = self.profile.cut_ms;
        let cut_until = self.now + self.fault_rng.log_between(low, high) * MS;
        match fault {
            Fault::CutBoth => {
                self.coverage.met(Met::CutBoth);
                self.cut([true; 2]);
                self.schedule(cut_until, Event::HealsCut);
            }
            Fault::CutOneWay => {
                self.coverage.met(Met::CutOneWay);
                self.cut([place == 0, place == 1]);
                self.schedule(cut_until, Event::HealsCut);
            }
            Fault::Flap if self.now < self.flaps_until => {}
            Fault::Flap => {
                self.coverage.met(Met::Flap);
                self.flaps_until = self.now + 2000 * MS;
                let left = self.fault_rng.between(2, 40) as u32;
                self.flaps(left);
            }
            Fault::Reset => {
                self.coverage.met(Met::Reset);
                self.breaks(place)?;
            }
            Fault::HalfOpen => {
                self.coverage.met(Met::HalfOpen);
                self.links[place].hole = true;
                self.will_be_noticed(place, self.profile.notice_ms);
            }
            Fault::Crash => {
                self.coverage.met(Met::Crash);
                self.dies(place, true)?;
            }
            Fault::Vanish => {
                self.coverage.met(Met::Vanish);
                self.dies(place, false)?;
            }
            Fault::CrashBoth => {
                self.coverage.met(Met::CrashBoth);
                self.dies(0, true)?;
                self.dies(1, true)?;
            }
            Fault::Pause => {
                self.coverage.met(Met::Pause);
                let (low, high) = self.profile.pause_ms;
                let until = self.now + self.fault_rng.between(low, high) * MS;
                self.busy(place, until);
            }
            Fault::Promote | Fault::Force => {
                let force = fault == Fault::Force;
                self.coverage.met(if force { Met::Force } else { Met::Promote });
                let id = self.next_ask;
                self.next_ask += 1;
                self.note_moment(place);
                let host = &mut self.hosts[place];
                // Who makes one primary that has a part of a snapshot has a part of everything: no history says which.
                let is_partial = |node: &Node| node.role() == Role::Joining && node.status().stores > 0;
                if host.node.as_ref().is_some_and(|node| !(force && is_partial(node))) {
                    self.promotions.insert(id, (place, host.life, self.now));
                    self.give(place, Arrival::Promote { id, force })?;
                }
            }
            Fault::WallStep => {
                self.coverage.met(Met::WallStep);
                let step_ms = self.fault_rng.pick(&[-3_600_000, 3_600_000]);
                let clock = &mut self.hosts[place].clock;
                // Back by no more than an hour in all.
                clock.wall_steps_ms = (clock.wall_steps_ms + step_ms).clamp(-3_600_000, 3_600_000);
            }
            Fault::NewLimits => self.changes_limits(place),
            Fault::NewKeys => self.changes_keys(place),
            Fault::GracefulStop => {
                let host = &mut self.hosts[place];
                let now = host.clock.read(self.now);
                if let Some(node) = &mut host.node
                    && node.begin_handover(now)
                {
                    self.coverage.met(Met::GracefulStop);
                    host.stopping = Some(self.now);
                }
            }
        }
        for place in 0..2 {
            let host = &self.hosts[place];
            let is_over = host.node.as_ref().is_some_and(|node| !node.is_handing_over());
            if host.stopping.is_some() && is_over {
                self.dies(place, true)?;
            }
        }
        Ok(())
    }

    pub(crate) fn heals(&mut self) -> Result<(), Wrong> {
        self.healed = true;
        self.healed_at = self.now;
        self.tell(|_| "everything is healed".to_owned());
        self.heals_cut();
        for place in 0..2 {
            if self.links[place].hole {
                self.breaks(place)?;
            }
            if !self.links[place].up {
                // Not when it would have found the other awake before.
                self.links[place].generation += 1;
                let generation = self.links[place].generation;
                self.schedule(self.now, Event::Dials { from: place, generation });
            }
            let host = &mut self.hosts[place];
            host.stopping = None;
            if host.node.is_none() {
                self.starts(place)?;
            } else if host.busy_until > self.now {
                host.busy_until = self.now;
                self.schedule(self.now, Event::Wakes { place });
            }
        }
        self.schedule(self.now + HEALED_MS * MS, Event::Ends);
        Ok(())
    }

    /// The storm is over and the two are one: what follows is more like a day, until its end.
    pub(crate) fn calms_down(&mut self) {
        (self.healed, self.calm) = (false, true);
        self.asks_max = self.coverage.asks + ASKS_IN_CALM_MAX;
        self.tell(|_| "the calm begins".to_owned());
        self.schedule(self.now, Event::Fault);
        self.schedule(self.now, Event::VisitorComes);
        self.schedule(CALM_UNTIL_MS * MS, Event::Heals);
        self.clients_begin_anew();
    }
}

//! What strikes the two machines, and how all of it is healed.
//!
//! Where each cell of the table of faults is, and by which counter a long run fails in which it never occurred. What is marked * needs the
//! sealed link, which a quarter of the runs have; their stories begin with `the network carries bytes`.
//!
//! | group | fault | drawn as | counted as |
//! |---|---|---|---|
//! | link | delay 0.05 to 100 ms, each direction alone | `delay_us` | `LongDelay` from 50 ms on |
//! | | a tail to 5 s | `tail`, `tail_us` | `TailDelay` |
//! | | bandwidth from 10 kB/s * | `bandwidth` | `SlowWire` where it takes 0.1 s |
//! | | stalls to 10 s | `Fault::Stall` | `Stall` |
//! | | cut one way, the other, both | `Fault::CutOneWay`, `CutBoth` | `CutFromA`, `CutFromB`, `CutBoth`, `StalledMessages` |
//! | | ten flaps a second | `Fault::Flap` | `Flap` |
//! | | half-open, sends succeed until the buffer is full | `Fault::HalfOpen`, `buffer_bytes` * | `HalfOpen`, `FullBuffer` |
//! | | end of stream | `Fault::HangUp` * | `HangUp`, `EndClosed` |
//! | | reset, refused, connect timeout | `Fault::Reset`; a dead process; a dead machine or a cut | `EndReset`, `EndRefused`, `SynLost`, `EndNoAnswer` |
//! | | an old connection delivers after a new one is up | `late` | `LateMessage`, `ConnectionReplaced` |
//! | stream * | pieces of 1 to n bytes | `piece_bytes`, `split` | `BytePieces` below 64 |
//! | | short writes, `WouldBlock`, interrupted calls | `hiccups` | `Hiccup` |
//! | | cut in mid-message | `Tampering::CutMid` | `CutInMidMessage` |
//! | | bit flip, garbage, huge length, left out | `Tampering` | `BitFlip`, `Garbage`, `HugeLength`, `LeftOut`; `EndAltered`, `EndNotHttp`, `EndTooLong`, `EndStrangeAnswer` |
//! | | an old message replayed, of this connection or one before | `Tampering::Replay`, `Fault::Stranger` | `Replay`, `EndAltered` |
//! | | two connections of one peer interleaved | `late`: until the new one has proved itself | `ConnectionReplaced` |
//! | process | crash at any event | `Fault::Crash`, `Vanish` | `Crash`, `Vanish` |
//! | | between apply and answer, between answer and send | `mid_crashes` | `CrashBeforeAnswer`, `CrashBehindAnswer` |
//! | | restart empty after 0 to 10 s | `restart_ms` | `LongRestart` from 5 s on |
//! | | both crash | `Fault::CrashBoth` | `CrashBoth` |
//! | | pause 1 ms to 30 s at any event | `Fault::Pause`, `pause_ms` | `Pause` |
//! | | between the lease check and the answer | `mid_pauses` | `MidPause`, `AnswerWithdrawn`, `EndLeaseOver` |
//! | | everything 10 to 1000 times slower | `turn_ns` | `SlowMachine` |
//! | clock | drift to 1 % | `drift_ppm` | `Drift` from 0.5 % on |
//! | | the wall clock steps by an hour, runs backwards | `Fault::WallStep`, `WallBackwards` | `WallStep`, `WallBackwards` |
//! | | the monotonic clock reads equal twice | `clock_step_ns` | `ClockStoodStill` |
//! | | suspend | `Fault::Suspend`: process and network stand still, the clock does not | `Suspend` |
//! | memory | quota full | `memory_limit_bytes`, `customer_quota_bytes` | `MemoryRefused` |
//! | | backlog full, clients that wait for the other node | `backlog_bytes`, `requests_per_turn` | `BacklogOverflow`, `ClientsWaited` |
//! | | largest value | `largest` | `LargestValue` |
//!
//! Beyond the table: strangers at the port and the internal token changed on one node first (`Stranger`, `RotateToken`,
//! `EndCrowded`, `EndWrongToken`). Clients are in `clients` and `visits`, operators in `operators`.

use super::clients::ASKS_IN_CALM_MAX;
use super::coverage::Met;
use super::host::Arrival;
use super::ledger::Wrong;
use super::net::MS;
use super::profile::{Fault, Tampering};
use super::world::{CALM_UNTIL_MS, Event, HEALED_MS, World};

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
                self.coverage.met(if place == 0 { Met::CutFromA } else { Met::CutFromB });
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
                self.swallows(place);
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
                let host = &self.hosts[place];
                if host.node.is_some() {
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
            Fault::WallBackwards => {
                self.coverage.met(Met::WallBackwards);
                self.schedule(self.now, Event::TurnsWall { place });
                self.schedule(cut_until, Event::TurnsWall { place });
            }
            Fault::Suspend => {
                self.coverage.met(Met::Suspend);
                let (low, high) = self.profile.pause_ms;
                let until = self.now + self.fault_rng.between(low, high) * MS;
                self.cut([true; 2]);
                self.schedule(until, Event::HealsCut);
                self.busy(place, until);
            }
            Fault::Stall => {
                self.coverage.met(Met::Stall);
                let (low, high) = self.profile.stall_ms;
                let until = self.now + self.fault_rng.log_between(low, high) * MS;
                self.wires[place].stalled_until = until;
            }
            Fault::HangUp => {
                if let Some(id) = self.dialled_by(place) {
                    self.coverage.met(Met::HangUp);
                    self.ends_streams(id);
                }
            }
            Fault::Tamper => {
                let tampering = self.fault_rng.pick(&Tampering::ALL);
                self.tampers(place, tampering);
            }
            Fault::Stranger => {
                self.coverage.met(Met::Stranger);
                for _ in 0..self.fault_rng.log_between(1, 24) {
                    let words = self.words_of_stranger(place);
                    self.stranger_dials(place, words);
                }
            }
            Fault::RotateToken => {
                self.coverage.met(Met::RotateToken);
                self.hosts[place].token = self.hosts[place].token.wrapping_add(1);
                self.schedule(cut_until, Event::TurnsToken { place: 1 - place });
            }
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

    /// What somebody says who is no node.
    fn words_of_stranger(&mut self, place: usize) -> Vec<u8> {
        let rng = &mut self.fault_rng;
        match rng.below(5) {
            0 => Vec::new(),
            1 => (0..rng.between(1, 5000)).map(|_| rng.next() as u8).collect(),
            2 => b"POST /internal/hello HTTP/1.1\r\nHost: b\r\nContent-Length: 4294967296\r\n\r\n".to_vec(),
            3 => b"GET / HTTP/1.1\r\nHost: b\r\n\r\n".to_vec(),
            _ => self.old_hello(place),
        }
    }

    pub(crate) fn heals(&mut self) -> Result<(), Wrong> {
        self.healed = true;
        self.healed_at = self.now;
        self.tell(|_| "everything is healed".to_owned());
        self.heals_cut();
        self.heals_wires();
        self.hurries();
        self.hosts[1].token = self.hosts[0].token;
        for place in 0..2 {
            if self.links[place].hole {
                self.breaks(place)?;
            }
            if !self.links[place].up && !self.profile.sealed {
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

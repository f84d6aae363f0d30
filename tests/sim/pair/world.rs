//! The simulated pair: one true time, one queue of events, two machines whose clocks are wrong, and their lives. What a node does
//! in a turn is in `turn`, what strikes it in `faults`, what must hold in `checks`; what is asked is the clients' business.

use super::asks::Ask;
use super::clients::{ASKS_IN_STORM_MAX, Client};
use super::coverage::{Coverage, Met};
use super::host::{Arrival, Clock, Heard, Host};
use super::ledger::{Ledger, Wrong};
use super::net::{Link, MS};
use super::operators;
use super::profile::Profile;
use super::sealed::Sockets;
use super::visits::Visit;
use super::wires::{Connection, Wire};
use crate::reply::TraceHash;
use crate::rng::Rng;
use bigbunny::node::Node;
use bigbunny::time::Instant;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::Hasher as _;

/// After the last fault.
pub(crate) const HEALED_MS: u64 = 5000;
/// Then everything that was asked must have an answer.
pub(crate) const LAST_ANSWERS_MS: u64 = 6000;
/// When all is healed for the second time: a run is ten minutes.
pub(crate) const CALM_UNTIL_MS: u64 = 600_000 - HEALED_MS - LAST_ANSWERS_MS;
/// A run with more events than this spins; so many more are allowed for each of many names, and for each second that has passed.
const EVENTS_MAX: u64 = 400_000;
const EVENTS_PER_NAME: u64 = 12;
const EVENTS_PER_SECOND: u64 = 500;

/// One read of a socket at most.
const READ_BYTES: usize = 64 * 1024;

/// A turn of a well machine takes a two-hundredth of this.
const SLOW_TURN_NS: u64 = 1_000_000;

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Delivers { from: usize, generation: u64 },
    Dials { from: usize, generation: u64 },
    Refused { from: usize, generation: u64 },
    Connected { from: usize, generation: u64, life: u64 },
    Notices { from: usize, generation: u64 },
    HealsCut,
    SynArrives { connection: u64 },
    Lands { connection: u64, end: usize },
    Readies { connection: u64, end: usize },
    FallsSilent { connection: u64, end: usize },
    Sockets { place: usize, life: u64 },
    TurnsToken { place: usize },
    TurnsWall { place: usize },
    Flaps { left: u32 },
    Wakes { place: usize },
    Restarts { place: usize, life: u64 },
    Fault,
    ClientActs(usize),
    ClientGivesUp { client: usize, ask: u64 },
    VisitorComes,
    VisitGoesOn(u64),
    VisitorLeaves(u64),
    ReloadsKeys { place: usize, generation: u8 },
    UsesKey { place: usize, generation: u8 },
    Heals,
    Ends,
}

/// An event and its time; the earliest is the greatest.
pub(crate) struct Due {
    at: u64,
    seq: u64,
    event: Event,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Due {}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) seq: u64,
    pub(crate) queue: BinaryHeap<Due>,
    pub(crate) profile: Profile,
    pub(crate) hosts: [Host; 2],
    pub(crate) links: [Link; 2],
    pub(crate) wires: [Wire; 2],
    /// Where the link is sealed: by number, the newest last.
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) last_connection: u64,
    pub(crate) read_buffer: Vec<u8>,
    /// Nothing passes from this node to the other.
    pub(crate) cut: [bool; 2],
    pub(crate) healed: bool,
    pub(crate) healed_at: u64,
    /// The storm is over.
    pub(crate) calm: bool,
    /// No more than so many requests until the next time all is healed.
    pub(crate) asks_max: u64,
    pub(crate) over: bool,
    pub(crate) flaps_until: u64,
    pub(crate) net_rng: Rng,
    pub(crate) fault_rng: Rng,
    pub(crate) client_rng: Rng,
    pub(crate) node_rng: Rng,
    pub(crate) ledger: Ledger,
    pub(crate) clients: Vec<Client>,
    pub(crate) asks: BTreeMap<u64, Ask>,
    pub(crate) next_ask: u64,
    pub(crate) visits: BTreeMap<u64, Visit>,
    pub(crate) next_visit: u64,
    /// What visitors have sent in one go, in all; and whether one of them has made its names.
    pub(crate) pipelined: u64,
    pub(crate) makes_names: bool,
    /// The number of the store that everybody wants, and until when.
    pub(crate) storm: Option<(u64, u64)>,
    /// How often the store keys have been changed.
    pub(crate) key_generation: u8,
    pub(crate) promotions: BTreeMap<u64, (usize, u64, u64)>,
    pub(crate) coverage: Coverage,
    pub(crate) trace: TraceHash,
    pub(crate) tells: bool,
}

impl World {
    pub(crate) fn new(seed: u64, tells: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0x7061_6972);
        let profile = Profile::draw(&mut rng.fork(), super::clients::DEEDS);
        let mut node_rng = rng.fork();
        let mut host = |place: usize| Host {
            node: None,
            life: 0,
            clock: Clock::new(&mut node_rng, 0, profile.drift_ppm[place], profile.clock_step_ns),
            last_read: Instant::ZERO,
            busy_until: 0,
            wakes_at: 0,
            inbox: Default::default(),
            turn_left: 0,
            sockets: None,
            has_ready_sockets: false,
            token: 0,
            unsent: None,
            refuses: true,
            branch: None,
            was_primary: None,
            forced: false,
            forwarded: BTreeMap::new(),
            stopping: None,
            lease_until: Instant::ZERO,
            knows_of_data: false,
            knows_from: 0,
            peers: Vec::new(),
            heartbeat_at: None,
            buckets: BTreeMap::new(),
            limits: profile.limits(),
            keyring: operators::first_keyring(),
        };
        let hosts = [host(0), host(1)];
        let mut world = Self {
            now: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            hosts,
            links: Default::default(),
            wires: Default::default(),
            connections: BTreeMap::new(),
            last_connection: 0,
            read_buffer: vec![0; if profile.sealed { READ_BYTES } else { 0 }],
            cut: [false; 2],
            healed: false,
            healed_at: 0,
            calm: false,
            asks_max: ASKS_IN_STORM_MAX,
            over: false,
            flaps_until: 0,
            net_rng: rng.fork(),
            fault_rng: rng.fork(),
            client_rng: rng.fork(),
            node_rng,
            ledger: Ledger::default(),
            clients: Vec::new(),
            asks: BTreeMap::new(),
            next_ask: 1,
            visits: BTreeMap::new(),
            next_visit: 0,
            pipelined: 0,
            makes_names: false,
            storm: None,
            key_generation: 0,
            promotions: BTreeMap::new(),
            coverage: Coverage::default(),
            trace: TraceHash::new(),
            tells,
            profile,
        };
        if tells {
            let carried = if world.profile.sealed { "bytes, the link is sealed" } else { "messages" };
            crate::seeds::say(format_args!("{:?}\nthe network carries {carried}", world.profile));
        }
        world.begin();
        let profile = &world.profile;
        let draws = [
            (profile.sealed, Met::SealedLink),
            (profile.sealed && profile.roughness.piece_bytes < 64, Met::BytePieces),
            (profile.drift_ppm.iter().any(|ppm| ppm.abs() > 5000), Met::Drift),
            (profile.turn_ns.iter().any(|&ns| ns >= SLOW_TURN_NS), Met::SlowMachine),
        ];
        for (_, met) in draws.into_iter().filter(|(is_drawn, _)| *is_drawn) {
            world.coverage.met(met);
        }
        world
    }

    fn begin(&mut self) {
        for place in 0..2 {
            let at = if self.fault_rng.one_in(2) { 0 } else { self.fault_rng.between(0, 6000) * MS };
            self.schedule(at, Event::Restarts { place, life: 0 });
        }
        self.make_clients();
        let first = self.fault_rng.between(0, 3000) * MS;
        self.schedule(first, Event::Fault);
        self.schedule(first, Event::VisitorComes);
        self.schedule(self.profile.storm_ms * MS, Event::Heals);
    }

    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.queue.push(Due { at: at.max(self.now), seq: self.seq, event });
    }

    pub(crate) fn tell(&self, text: impl FnOnce(&Self) -> String) {
        if self.tells {
            crate::seeds::say(format_args!("{:>14.6} {}", self.now as f64 / 1e9, text(self)));
        }
    }

    /// One run, from the start of the nodes to the comparison of the two. Gives what it has met.
    pub(crate) fn run(mut self) -> Result<Coverage, Wrong> {
        self.goes_on().map_err(|wrong| format!("{:.6} s: {wrong}", self.now as f64 / 1e9))?;
        (self.coverage.simulated_ms, self.coverage.traces) = (self.now / MS, self.trace.finish());
        Ok(self.coverage)
    }

    fn goes_on(&mut self) -> Result<(), Wrong> {
        while !self.over {
            self.coverage.events += 1;
            let seconds = self.now / (1000 * MS);
            let most = EVENTS_MAX + EVENTS_PER_NAME * self.profile.names_at_once + EVENTS_PER_SECOND * seconds;
            if self.coverage.events > most {
                return Err("spins: too many events".to_owned());
            }
            let due = [0, 1].map(|place| self.timeout_of(place));
            let next = self.queue.peek().map_or(u64::MAX, |due| due.at);
            // Whatever waits is heard before the clock.
            let timeout = (0..2).filter(|&place| due[place] < next).min_by_key(|&place| due[place]);
            if let Some(place) = timeout {
                self.now = self.now.max(due[place]);
                self.process(place, Arrival::Timeout)?;
                continue;
            }
            let Due { at, event, .. } = self.queue.pop().expect("the end is always ahead");
            self.now = at;
            self.happens(event)?;
        }
        Ok(())
    }

    fn timeout_of(&self, place: usize) -> u64 {
        let host = &self.hosts[place];
        if host.has_ready_sockets || host.unsent.is_some() || self.next_in_line(place).is_some() {
            return u64::MAX;
        }
        let due = host.node.as_deref().and_then(Node::next_timeout);
        due.map_or(u64::MAX, |due| host.clock.when(due).max(self.now).max(host.busy_until))
    }

    fn happens(&mut self, event: Event) -> Result<(), Wrong> {
        match event {
            Event::Delivers { from, generation } => self.delivers(from, generation),
            Event::SynArrives { connection } => {
                self.syn_arrives(connection);
                Ok(())
            }
            Event::Lands { connection, end } => {
                self.lands(connection, end);
                Ok(())
            }
            Event::Readies { connection, end } => {
                self.readies(connection, end);
                Ok(())
            }
            Event::FallsSilent { connection, end } => {
                self.falls_silent(connection, end);
                Ok(())
            }
            Event::Sockets { place, life } => self.sockets_are_due(place, life),
            Event::TurnsToken { place } => {
                self.hosts[place].token = self.hosts[1 - place].token;
                Ok(())
            }
            Event::TurnsWall { place } => {
                self.hosts[place].clock.turn_wall_round(self.now);
                Ok(())
            }
            Event::Dials { from, generation } => self.dials(from, generation),
            Event::Refused { from, generation } => self.refused(from, generation),
            Event::Connected { from, generation, life } => self.connected(from, generation, life),
            Event::Notices { from, generation } => self.notices(from, generation),
            Event::HealsCut => {
                self.heals_cut();
                Ok(())
            }
            Event::Flaps { left } => {
                self.flaps(left);
                Ok(())
            }
            Event::Wakes { place } => self.wakes(place),
            Event::Restarts { place, life } => {
                if self.hosts[place].life == life && self.hosts[place].node.is_none() {
                    self.starts(place)?;
                }
                Ok(())
            }
            Event::Fault => self.strikes(),
            Event::ClientActs(client) => self.client_acts(client),
            Event::ClientGivesUp { client, ask } => self.client_gives_up(client, ask),
            Event::VisitorComes => self.visitor_comes(),
            Event::VisitGoesOn(visit) => self.visit_goes_on(visit),
            Event::VisitorLeaves(visit) => self.visitor_leaves(visit),
            Event::ReloadsKeys { place, generation } => {
                self.reloads_keys(place, generation);
                Ok(())
            }
            Event::UsesKey { place, generation } => {
                self.uses_key(place, generation);
                Ok(())
            }
            Event::Heals => self.heals(),
            Event::Ends => self.ends(),
        }
    }

    pub(crate) fn starts(&mut self, place: usize) -> Result<(), Wrong> {
        let is_reboot = self.fault_rng.chance(self.profile.reboots);
        let host = &mut self.hosts[place];
        if is_reboot {
            host.clock =
                Clock::new(&mut self.node_rng, self.now, self.profile.drift_ppm[place], self.profile.clock_step_ns);
            self.coverage.met(Met::Reboot);
        }
        host.life += 1;
        let entropy = Box::new(self.node_rng.fork());
        let config = self.profile.config(place, host.limits);
        host.node = Some(Box::new(Node::new(config, entropy, host.clock.read(self.now))));
        host.refuses = true;
        host.busy_until = self.now;
        let life = host.life;
        self.tell(|_| format!("{place} starts, life {life}"));
        if self.profile.sealed {
            let identity = self.identity(place);
            let host = &mut self.hosts[place];
            let now = host.clock.read(self.now).monotonic;
            host.sockets = Some(Sockets::new(identity, self.net_rng.next(), now));
            self.schedule(self.now, Event::Sockets { place, life });
        } else {
            self.links[place].generation += 1;
            let generation = self.links[place].generation;
            self.schedule(self.now, Event::Dials { from: place, generation });
        }
        // Whoever still holds a connection to the life before is told that there is none.
        let other = 1 - place;
        self.will_be_noticed(other, (1, 50));
        Ok(())
    }

    pub(crate) fn dies(&mut self, place: usize, refuses: bool) -> Result<(), Wrong> {
        let host = &mut self.hosts[place];
        if host.node.take().is_none() {
            return Ok(());
        }
        host.inbox.clear();
        host.unsent = None;
        host.turn_left = 0;
        host.sockets = None;
        host.has_ready_sockets = false;
        host.refuses = refuses;
        host.branch = None;
        host.was_primary = None;
        host.forced = false;
        host.forwarded.clear();
        host.stopping = None;
        host.lease_until = Instant::ZERO;
        host.knows_of_data = false;
        host.peers.clear();
        host.heartbeat_at = None;
        host.buckets.clear();
        let life = host.life;
        self.tell(|_| format!("{place} dies{}", if refuses { "" } else { " without a word" }));
        if self.profile.sealed {
            if !refuses {
                self.nothing_is_told_by(place);
            }
            self.carries(place);
        } else {
            self.breaks(place)?;
            self.links[place].generation += 1;
        }
        let within = if refuses { (1, 20) } else { self.profile.notice_ms };
        self.will_be_noticed(1 - place, within);
        self.clients_of_the_dead(place, life);
        let (low, high) = if self.healed { (0, 0) } else { self.profile.restart_ms };
        let pause_ms = self.fault_rng.between(low, high);
        if pause_ms >= 5000 {
            self.coverage.met(Met::LongRestart);
        }
        self.schedule(self.now + pause_ms * MS, Event::Restarts { place, life });
        Ok(())
    }

    /// Something comes to a node, now or when it looks again.
    pub(crate) fn give(&mut self, place: usize, arrival: Arrival) -> Result<(), Wrong> {
        let host = &mut self.hosts[place];
        if host.node.is_none() {
            return Ok(());
        }
        let is_busy = host.busy_until > self.now || host.unsent.is_some() || host.has_ready_sockets;
        host.inbox.push_back(arrival);
        if is_busy {
            self.wakes_if_any(place);
            return Ok(());
        }
        self.wakes(place)
    }

    /// What the process takes next of what waits: nothing of clients while the other node is to come on first.
    fn next_in_line(&self, place: usize) -> Option<usize> {
        let host = &self.hosts[place];
        if host.inbox.is_empty() || self.clients_wait_until(place).is_none() {
            return (!host.inbox.is_empty()).then_some(0);
        }
        host.inbox.iter().position(|arrival| !arrival.is_of_client())
    }

    fn clients_wait_until(&self, place: usize) -> Option<Instant> {
        let host = &self.hosts[place];
        host.node.as_ref()?.clients_wait_until(host.clock.read(self.now).monotonic)
    }

    /// There is something to do for it when it looks again, if there is.
    pub(crate) fn wakes_if_any(&mut self, place: usize) {
        let host = &self.hosts[place];
        if host.unsent.is_some() {
            return;
        }
        if host.has_ready_sockets || self.next_in_line(place).is_some() {
            self.wakes_later(place);
        } else if !host.inbox.is_empty()
            && let Some(until) = self.clients_wait_until(place)
        {
            self.coverage.met(Met::ClientsWaited);
            let at = self.hosts[place].clock.when(until);
            self.schedule(at, Event::Wakes { place });
        }
    }

    /// It does nothing until then; and then sends what it had decided before.
    pub(crate) fn busy(&mut self, place: usize, until: u64) {
        let host = &mut self.hosts[place];
        host.busy_until = host.busy_until.max(until);
        self.wakes_later(place);
    }

    /// Once it is not busy any more, and only once.
    pub(crate) fn wakes_later(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        if host.wakes_at != host.busy_until {
            host.wakes_at = host.busy_until;
            let at = host.busy_until;
            self.schedule(at, Event::Wakes { place });
        }
    }

    pub(crate) fn wakes(&mut self, place: usize) -> Result<(), Wrong> {
        loop {
            let host = &mut self.hosts[place];
            if host.node.is_none() {
                return Ok(());
            }
            if host.busy_until > self.now {
                if host.unsent.is_some() {
                    self.wakes_later(place);
                }
                self.wakes_if_any(place);
                return Ok(());
            }
            if let Some(said) = host.unsent.take() {
                self.leaves(place, said)?;
            } else if host.has_ready_sockets {
                self.serves(place)?;
            } else if let Some(at) = self.next_in_line(place) {
                let arrival = self.hosts[place].inbox.remove(at).expect("it was just found");
                self.process(place, arrival)?;
            } else {
                self.wakes_if_any(place);
                return Ok(());
            }
        }
    }

    /// For the traces of runs.
    pub(crate) fn note(&mut self, heard: &Heard) {
        self.trace.word(u64::from(heard.result.is_ok()));
    }
}

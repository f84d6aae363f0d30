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
use super::visits::Visit;
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
/// A run with more events than this spins, and so many more for each of many names.
const EVENTS_MAX: u64 = 400_000;
const EVENTS_PER_NAME: u64 = 12;
/// The records one turn can add to a backlog before it is looked at: a chunk, and the largest turn of the clients.
pub(crate) const BACKLOG_SLACK_BYTES: u64 = 192 * 1024;

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Delivers { from: usize, generation: u64, life: u64, bytes: Vec<u8> },
    Dials { from: usize, generation: u64 },
    Refused { from: usize, generation: u64 },
    Connected { from: usize, generation: u64, life: u64 },
    Notices { from: usize, generation: u64 },
    HealsCut,
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
            busy_until: 0,
            wakes_at: 0,
            inbox: Default::default(),
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
            crate::seeds::say(format_args!("{:?}", world.profile));
        }
        world.begin();
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
            if self.coverage.events > EVENTS_MAX + EVENTS_PER_NAME * self.profile.names_at_once {
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
        if !host.inbox.is_empty() || host.unsent.is_some() {
            return u64::MAX;
        }
        let due = host.node.as_ref().and_then(Node::next_timeout);
        due.map_or(u64::MAX, |due| host.clock.when(due).max(self.now).max(host.busy_until))
    }

    fn happens(&mut self, event: Event) -> Result<(), Wrong> {
        match event {
            Event::Delivers { from, generation, life, bytes } => self.delivers(from, generation, life, bytes),
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
        host.node = Some(Node::new(self.profile.config(place, host.limits), entropy, host.clock.read(self.now)));
        host.refuses = true;
        host.busy_until = self.now;
        let life = host.life;
        self.tell(|_| format!("{place} starts, life {life}"));
        self.links[place].generation += 1;
        let generation = self.links[place].generation;
        self.schedule(self.now, Event::Dials { from: place, generation });
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
        self.breaks(place)?;
        self.links[place].generation += 1;
        let within = if refuses { (1, 20) } else { self.profile.notice_ms };
        self.will_be_noticed(1 - place, within);
        self.clients_of_the_dead(place, life);
        let (low, high) = if self.healed { (0, 0) } else { self.profile.restart_ms };
        let at = self.now + self.fault_rng.between(low, high) * MS;
        self.schedule(at, Event::Restarts { place, life });
        Ok(())
    }

    /// Something comes to a node, now or when it looks again.
    pub(crate) fn give(&mut self, place: usize, arrival: Arrival) -> Result<(), Wrong> {
        let host = &mut self.hosts[place];
        if host.node.is_none() {
            return Ok(());
        }
        if host.busy_until > self.now || !host.inbox.is_empty() || host.unsent.is_some() {
            host.inbox.push_back(arrival);
            let wakes = host.inbox.len() == 1 && host.unsent.is_none();
            if wakes {
                self.wakes_later(place);
            }
            return Ok(());
        }
        self.process(place, arrival)
    }

    /// It does nothing until then; and then sends what it had decided before.
    pub(crate) fn busy(&mut self, place: usize, until: u64) {
        let host = &mut self.hosts[place];
        host.busy_until = host.busy_until.max(until);
        self.wakes_later(place);
    }

    /// Once it is not busy any more, and only once.
    fn wakes_later(&mut self, place: usize) {
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
                if !host.inbox.is_empty() {
                    self.wakes_later(place);
                }
                return Ok(());
            }
            if let Some(said) = host.unsent.take() {
                self.leaves(place, said)?;
            } else if let Some(arrival) = host.inbox.pop_front() {
                self.process(place, arrival)?;
            } else {
                return Ok(());
            }
        }
    }

    /// For the traces of runs.
    pub(crate) fn note(&mut self, heard: &Heard) {
        self.trace.word(u64::from(heard.result.is_ok()));
    }
}

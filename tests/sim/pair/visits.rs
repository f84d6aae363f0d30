//! Visitors: clients that come for one thing and do it badly. They fill a connection without waiting or reading, leave in the middle, take a
//! lock and vanish, make and delete in a loop, or want a hundred thousand names. What they ask is judged as everything else is.

use super::asks::{Act, Ask, Asker, CUSTOMERS, State, name_of};
use super::coverage::Met;
use super::host::{Arrival, Body, Heard};
use super::ledger::{Done, Fate, Ledger, Wrong};
use super::net::MS;
use super::profile::Habit;
use super::world::{Event, World};
use bigbunny::node::Role;
use bigbunny::node::request::{LockId, StoreKey};

/// Requests on one connection at once, at most.
const PIPELINE_MAX: u64 = 1000;
/// A pipeline as long as this is counted beside the others.
const HUNDREDS: u64 = 500;
/// No pipeline keeps a loop busy for longer: a real one hears its peer in between.
const PIPELINE_MAX_NS: u64 = 100 * MS;
/// All that visitors may send in a run, apart from names.
const PIPELINED_MAX: u64 = 3000;
/// So many names are made at a time, and then again a little later.
const NAMES_AT_ONCE: u64 = 100;

/// One visit.
#[derive(Debug)]
pub(crate) struct Visit {
    habit: Habit,
    host: usize,
    customer: usize,
    /// Asked and not answered.
    open: Vec<u64>,
    /// How often it goes on.
    left: u64,
    /// What it holds, and by which request.
    lock: Option<(u64, LockId)>,
    /// What it made last, and where and when it was deleted.
    made: Option<StoreKey>,
    deleted: Option<Done>,
}

impl World {
    /// Somebody comes.
    pub(crate) fn visitor_comes(&mut self) -> Result<(), Wrong> {
        if self.healed {
            return Ok(());
        }
        let (low, high) = if self.calm { self.profile.calm_fault_every_ms } else { self.profile.visit_every_ms };
        let at = self.now + self.client_rng.log_between(low, high) * MS;
        self.schedule(at, Event::VisitorComes);
        if self.profile.habits.iter().all(|weight| *weight == 0) {
            return Ok(());
        }
        let habit = Habit::ALL[self.client_rng.weighted(&self.profile.habits)];
        let host = self.client_rng.index(2);
        if self.hosts[host].node.is_none() {
            return Ok(());
        }
        let customer = self.client_rng.index(self.profile.customers);
        let number = self.next_visit;
        self.next_visit += 1;
        self.tell(|_| format!("visitor {number} of {host}: {habit:?}"));
        let mut visit =
            Visit { habit, host, customer, open: Vec::new(), left: 0, lock: None, made: None, deleted: None };
        let longest_ms = match habit {
            Habit::Pipelines | Habit::NeverReads => {
                self.visits.insert(number, visit);
                return self.fills_a_connection(number);
            }
            Habit::StormsAStore => {
                let index = self.client_rng.below(self.profile.names);
                self.storm = Some((index, self.now + self.client_rng.between(10, 2000) * MS));
                return Ok(());
            }
            Habit::MakesNames if self.makes_names || !self.is_settled() => return Ok(()),
            Habit::MakesNames => {
                self.makes_names = true;
                visit.left = self.profile.names_at_once / NAMES_AT_ONCE;
                0
            }
            Habit::MakesAndDeletes => {
                visit.left = self.client_rng.log_between(2, 50);
                0
            }
            Habit::HoldsAndVanishes | Habit::LeavesInMidBody => 4000,
        };
        self.visits.insert(number, visit);
        if longest_ms == 0 {
            return self.visit_goes_on(number);
        }
        let leaves_at = self.now + self.client_rng.log_between(1, longest_ms) * MS;
        self.schedule(leaves_at, Event::VisitorLeaves(number));
        let index = self.client_rng.below(self.profile.names);
        let place = (customer, b'l', index);
        let (low, high) = self.profile.hold_ms;
        let hold_ms = self.client_rng.log_between(low, high);
        let (low, high) = self.profile.wait_ms;
        let wait_ms = self.client_rng.log_between(low, high);
        let connection_scope = habit == Habit::LeavesInMidBody;
        let act = Act::Begin { name: name_of(place), wait_ms, hold_ms, connection_scope };
        let ask = Ask { place: Some(place), wait_ms, ..Ask::new(Asker::Visit(number), customer, act) };
        self.visitor_asks(number, ask)
    }

    /// Both nodes have their roles.
    fn is_settled(&self) -> bool {
        self.hosts.iter().all(|host| host.node.as_ref().is_some_and(|node| node.role() != Role::Joining))
    }

    fn visitor_asks(&mut self, number: u64, ask: Ask) -> Result<(), Wrong> {
        let Some(visit) = self.visits.get_mut(&number) else { return Ok(()) };
        let host = visit.host;
        let never_reads = visit.habit == Habit::NeverReads;
        let op = ask.op.filter(|_| never_reads);
        let id = self.connects(host, ask);
        // Clients have as much to ask as without it.
        self.asks_max += 1;
        if never_reads {
            if let Some(op) = op {
                self.ledger.ops[op].unknown = true;
            }
            self.asks.get_mut(&id).expect("it was just sent").state = State::Gone;
        }
        self.visits.get_mut(&number).expect("it is there").open.push(id);
        self.give(host, Arrival::Request(id))
    }

    /// Many requests at once, and nobody waits for an answer before the next.
    fn fills_a_connection(&mut self, number: u64) -> Result<(), Wrong> {
        let Visit { habit, host, customer, .. } = self.visits[&number];
        let most = (PIPELINE_MAX_NS / self.profile.turn_ns[host]).clamp(2, PIPELINE_MAX);
        let many = self.client_rng.log_between(2, most).min(PIPELINED_MAX.saturating_sub(self.pipelined));
        self.pipelined += many;
        self.coverage.met(if habit == Habit::NeverReads { Met::NeverRead } else { Met::Pipeline });
        if many >= HUNDREDS {
            self.coverage.met(Met::PipelineOfHundreds);
        }
        if self.client_rng.one_in(2) {
            let leaves_at = self.now + self.client_rng.log_between(1, 5000) * MS;
            self.schedule(leaves_at, Event::VisitorLeaves(number));
        }
        for _ in 0..many {
            let ask = self.deed(Asker::Visit(number), customer);
            self.visitor_asks(number, ask)?;
        }
        Ok(())
    }

    /// The next step of a loop.
    pub(crate) fn visit_goes_on(&mut self, number: u64) -> Result<(), Wrong> {
        let Some(visit) = self.visits.get_mut(&number) else { return Ok(()) };
        if self.hosts[visit.host].node.is_none() || visit.left == 0 || self.healed {
            return Ok(());
        }
        visit.left -= 1;
        let (habit, customer, left) = (visit.habit, visit.customer, visit.left);
        let asker = Asker::Visit(number);
        if habit == Habit::MakesAndDeletes {
            return self.visitor_asks(number, Ask::new(asker, customer, Act::Create { body: b"loop".to_vec() }));
        }
        for name in 0..NAMES_AT_ONCE {
            let name = format!("m{}", left * NAMES_AT_ONCE + name);
            let act = Act::Put { name, body: b"name".to_vec(), ttl_ms: None, wait_ms: 0 };
            self.visitor_asks(number, Ask::new(asker, customer, act))?;
        }
        // The node may have died of it, and the visit with it.
        let Some(visit) = self.visits.get_mut(&number) else { return Ok(()) };
        visit.open.clear();
        if left > 0 {
            self.schedule(self.now + MS, Event::VisitGoesOn(number));
        } else if self.client_rng.one_in(2) {
            let deletion = Ask::new(asker, customer, Act::DeletePrefix { prefix: "m".to_owned() });
            self.visitor_asks(number, deletion)?;
        }
        Ok(())
    }

    pub(crate) fn visit_is_answered(&mut self, number: u64, ask: &Ask, heard: &Heard) -> Result<(), Wrong> {
        let Some(visit) = self.visits.get_mut(&number) else { return Ok(()) };
        visit.open.retain(|open| *open != ask.id);
        match (&ask.act, &heard.result) {
            (Act::Begin { .. }, Ok(Body::Locked { lock, .. })) => visit.lock = Some((ask.id, *lock)),
            (Act::Create { .. }, Ok(Body::StoreId { key, .. })) if visit.habit == Habit::MakesAndDeletes => {
                let from = visit.host;
                let key = *key;
                visit.made = Some(key);
                visit.deleted = None;
                if self.client_rng.one_in(2) && self.hosts[1 - from].node.is_some() {
                    self.visits.get_mut(&number).expect("it is there").host = 1 - from;
                }
                let key = self.carries_id(number, from, key)?;
                let deletion = Ask::new(Asker::Visit(number), ask.customer, Act::DeleteKey { key });
                return self.visitor_asks(number, deletion);
            }
            (Act::DeleteKey { key }, Ok(_)) => {
                let read = Ask::new(Asker::Visit(number), ask.customer, Act::ReadKey { key: *key });
                return self.visitor_asks(number, Ask { from_primary: true, ..read });
            }
            (Act::ReadKey { .. }, _) => {
                self.coverage.met(Met::MadeAndDeleted);
                let at = self.now + self.client_rng.log_between(1, 200) * MS;
                self.schedule(at, Event::VisitGoesOn(number));
            }
            // Whoever is told that nobody knows does not find out either.
            (_, Err(_)) => {
                if let Some(op) = ask.op {
                    self.ledger.ops[op].unknown = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An id that one node made opens at the node that the visitor goes to next.
    fn carries_id(&mut self, number: u64, from: usize, key: StoreKey) -> Result<StoreKey, Wrong> {
        let Visit { host: to, customer, .. } = self.visits[&number];
        let customer = CUSTOMERS[customer];
        let mut id = Vec::new();
        self.hosts[from].keyring.seal(customer, &key, &mut id);
        if self.hosts[from].keyring.current_id() != self.hosts[to].keyring.current_id() {
            self.coverage.met(Met::IdOfOtherKey);
        }
        match self.hosts[to].keyring.open(customer, &id) {
            Some(opened) if opened == key => Ok(opened),
            _ => Err(format!("store-id: {} made by {from} does not open at {to}", String::from_utf8_lossy(&id))),
        }
    }

    /// What was deleted by its id does not come back.
    pub(crate) fn check_resurrection(&mut self, ask: &Ask, heard: &Heard, done: Done) -> Result<(), Wrong> {
        let Asker::Visit(number) = ask.asker else { return Ok(()) };
        let Some(visit) = self.visits.get_mut(&number) else { return Ok(()) };
        match (&ask.act, &heard.result) {
            // Of two primaries at once one may never have had it, and deletes nothing.
            (Act::DeleteKey { key }, Ok(_)) if visit.made == Some(*key) => {
                visit.deleted = Some(done).filter(|done| done.before < done.after);
            }
            (Act::ReadKey { key }, Ok(_)) if visit.made == Some(*key) => {
                let path = self.ledger.path(done.branch);
                if visit.deleted.is_some_and(|deleted| Ledger::fate(&path, &deleted) == Fate::Certain) {
                    return Err(format!("no-resurrection: {key:?} was deleted, and is read"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The visitor's connection ends, whatever it was about.
    pub(crate) fn visitor_leaves(&mut self, number: u64) -> Result<(), Wrong> {
        let Some(visit) = self.visits.remove(&number) else { return Ok(()) };
        self.tell(|_| format!("visitor {number} leaves"));
        for id in visit.open.iter().copied() {
            self.leaves_unanswered(id);
        }
        let Some((id, lock)) = visit.lock else {
            return visit.open.into_iter().try_for_each(|id| self.hangs_up(visit.host, id));
        };
        let is_in_mid_body = visit.habit == Habit::LeavesInMidBody;
        self.coverage.met(if is_in_mid_body { Met::LeftInMidBody } else { Met::HeldAndVanished });
        self.hangs_up(visit.host, id)?;
        let host = &self.hosts[visit.host];
        let has_heard = host.inbox.is_empty() && host.unsent.is_none();
        if let Some(node) = host.node.as_ref().filter(|node| has_heard && node.role() == Role::Primary)
            && is_in_mid_body
            && !node.is_handing_over()
            && node.entries().any(|entry| entry.lock == Some(lock))
        {
            return Err(format!("one-lock-holder: {lock:?} outlives its connection"));
        }
        Ok(())
    }

    fn hangs_up(&mut self, host: usize, id: u64) -> Result<(), Wrong> {
        let ask = &self.asks[&id];
        if self.hosts[host].life == ask.life { self.give(host, Arrival::Closed(id)) } else { Ok(()) }
    }

    /// Nobody waits for this any more, and nobody will know what came of it.
    fn leaves_unanswered(&mut self, id: u64) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        ask.state = State::Gone;
        if let Some(op) = ask.op {
            self.ledger.ops[op].unknown = true;
        }
    }

    pub(crate) fn visits_of_the_dead(&mut self, host: usize, life: u64) {
        let of_it = |visit: &&mut Visit| visit.host == host;
        let open: Vec<u64> =
            self.visits.values_mut().filter(of_it).flat_map(|visit| std::mem::take(&mut visit.open)).collect();
        for id in open {
            if self.asks.get(&id).is_some_and(|ask| ask.life == life) {
                self.leaves_unanswered(id);
            }
        }
        self.visits.retain(|_, visit| visit.host != host);
    }
}

//! The simulated world: one clock, one queue of events ordered by (time, sequence), the nodes and their clients. The only
//! place that calls a node.
//!
//! It owns time: when a request arrives, when a process is stopped and goes on, what a node's clock reads. It says nothing of
//! what is right; that is the model's.

use crate::clients::{Crowd, Todo};
use crate::coverage::{Coverage, Rare};
use crate::kinds;
use crate::model::Wrong;
use crate::profile::{Profile, Range};
use crate::reply::TraceHash;
use crate::rng::Rng;
use crate::subject::{Arrival, Subject};
use crate::universe::universe;
use bigbunny::node::request::{ConnectionId, Content, Operation, Request, RequestId, StoreKey, Target};
use bigbunny::time::{Instant, Now, WallTime};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::Hasher as _;
use std::io::Write as _;
use std::time::Duration;

/// For how long the clients are at it.
pub(crate) const RUN: Duration = Duration::from_secs(600);
/// Timeouts that change nothing, one after another, before a node counts as spinning.
const IDLE_TIMEOUTS_MAX: u32 = 1000;
/// Tombstones stand for a day.
const SLEEP_MAX_MS: u64 = 40 * 3_600_000;

/// What happens.
enum Event {
    ClientActs(usize),
    /// Once, out of its turn.
    ClientActsOnce(usize),
    ClientGivesUp {
        client: usize,
        connection: ConnectionId,
    },
    Arrives {
        node: usize,
        arrival: Arrival,
    },
    /// A node's timer; void if it has been armed anew since.
    Wakes {
        node: usize,
        armed: u64,
    },
    GoesOn {
        node: usize,
    },
    /// The machine of a node sleeps for so many milliseconds, and nobody notices but by the clock.
    Sleeps {
        node: usize,
        ms: u64,
    },
    /// A client makes all its names, or deletes them.
    Fills {
        delete: bool,
    },
}

struct Scheduled {
    at: Instant,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The heap gives the greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// A node, its process and its clock.
struct Member {
    subject: Subject,
    /// While its process is stopped, what comes waits here.
    stopped_until: Option<Instant>,
    inbox: VecDeque<Arrival>,
    wakes_at: Option<Instant>,
    armed: u64,
    /// How long its machine has been suspended, as its clock sees it.
    suspended_ns: u64,
    idle_timeouts: u32,
}

/// All there is.
pub(crate) struct World {
    now: Instant,
    queue: BinaryHeap<Scheduled>,
    sequence: u64,
    rng: Rng,
    profile: Profile,
    members: Vec<Member>,
    crowd: Crowd,
    askers: BTreeMap<RequestId, usize>,
    requests: u64,
    acts_left: u64,
    started: Instant,
    trace: TraceHash,
    tells: bool,
}

impl World {
    pub(crate) fn new(seed: u64, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let profile = Profile::draw(&mut rng.fork());
        // The clock's start means nothing, so it is anywhere: at 0, or after a year of uptime.
        let started = Instant::from_nanos(if rng.one_in(3) { 0 } else { rng.below(1 << 55) });
        let crowd = Crowd::new(&profile, &mut rng);
        let reading = read_clock(started, profile.clock_step_ns);
        let now = Now { monotonic: reading, wall: WallTime(0) };
        let member = Member {
            subject: Subject::new(profile.config.clone(), rng.fork(), now),
            stopped_until: None,
            inbox: VecDeque::new(),
            wakes_at: None,
            armed: 0,
            suspended_ns: 0,
            idle_timeouts: 0,
        };
        let mut world = Self {
            now: started,
            queue: BinaryHeap::new(),
            sequence: 0,
            acts_left: profile.acts,
            rng,
            profile,
            members: vec![member],
            crowd,
            askers: BTreeMap::new(),
            requests: 0,
            started,
            trace: TraceHash::new(),
            tells,
        };
        if tells {
            world.tell(format_args!("{:#?}", world.profile));
        }
        for client in 0..world.crowd.clients.len() {
            let at = world.now + micros(&mut world.rng, (0, 1_000_000));
            world.schedule(at, Event::ClientActs(client));
        }
        world
    }

    /// The whole run. Gives what it has met.
    pub(crate) fn run(mut self) -> Result<Coverage, Wrong> {
        for _ in 0..self.profile.fillings {
            let at = self.now + Duration::from_millis(self.rng.below(500_000));
            self.schedule(at, Event::Fills { delete: false });
        }
        for _ in 0..self.profile.sleeps {
            let at = self.now + Duration::from_millis(self.rng.below(600_000));
            let ms = self.rng.log_between(1, SLEEP_MAX_MS);
            self.schedule(at, Event::Sleeps { node: 0, ms });
        }
        while let Some(scheduled) = self.queue.pop() {
            if scheduled.at > self.started + RUN {
                break;
            }
            self.now = scheduled.at;
            self.happens(scheduled.event)?;
        }
        self.coverage().simulated_ms = RUN.as_millis() as u64;
        self.wind_down()?;
        self.coverage().traces = self.trace.finish();
        Ok(std::mem::take(self.coverage()))
    }

    fn coverage(&mut self) -> &mut Coverage {
        &mut self.members[0].subject.model.coverage
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.push(Scheduled { at, sequence: self.sequence, event });
    }

    /// One customer has hundreds of names at once, or none any more.
    fn fill_names(&mut self, delete: bool) {
        if delete {
            let prefix = if self.rng.one_in(2) { "" } else { universe().prefix(&mut self.rng) };
            let delete = Operation::DeletePrefix { prefix: prefix.into() };
            let request = self.crowd.request(0, &mut self.rng, delete);
            for _ in 0..self.rng.below(40) {
                let at = self.now + micros(&mut self.rng, (1, 100_000));
                let client = self.rng.index(self.crowd.clients.len());
                self.schedule(at, Event::ClientActsOnce(client));
            }
            return self.send(0, Box::new(request));
        }
        for n in 0..self.profile.names {
            let name = universe().name(self.profile.first_name + n);
            let put = Operation::Put { name: name.into(), content: Content::Blob(b"filled"), ttl_ms: None, wait_ms: 0 };
            let request = self.crowd.request(0, &mut self.rng, put);
            self.send(0, Box::new(request));
        }
        let at = self.now + Duration::from_millis(self.rng.log_between(1, 60_000));
        self.schedule(at, Event::Fills { delete: true });
    }

    fn happens(&mut self, event: Event) -> Result<(), Wrong> {
        match event {
            Event::ClientActs(client) => {
                self.client_acts(client);
                Ok(())
            }
            Event::ClientActsOnce(client) => {
                self.act_once(client);
                Ok(())
            }
            Event::ClientGivesUp { client, connection } => {
                self.disconnect(client, connection);
                Ok(())
            }
            Event::Arrives { node, arrival } => self.arrives(node, arrival),
            Event::Wakes { node, armed } => {
                if self.members[node].armed != armed {
                    return Ok(());
                }
                self.members[node].wakes_at = None;
                self.arrives(node, Arrival::Timeout)
            }
            Event::GoesOn { node } => self.goes_on(node),
            Event::Sleeps { node, ms } => {
                self.coverage().met(Rare::Suspended);
                self.tell(format_args!("the machine sleeps for {ms} ms"));
                self.members[node].suspended_ns += ms * 1_000_000;
                // Either the timers see it first, or whoever comes next does.
                if self.rng.one_in(2) { self.arrives(node, Arrival::Timeout) } else { Ok(()) }
            }
            Event::Fills { delete } => {
                self.fill_names(delete);
                Ok(())
            }
        }
    }

    fn client_acts(&mut self, client: usize) {
        if self.acts_left == 0 {
            return;
        }
        self.acts_left -= 1;
        if self.crowd.clients[client].burst_left == 0 {
            self.crowd.clients[client].burst_left = log(&mut self.rng, self.profile.burst);
        }
        self.act_once(client);
        self.crowd.clients[client].burst_left -= 1;
        let mut rest = micros(&mut self.rng, self.profile.think_us);
        if self.crowd.clients[client].burst_left == 0 {
            rest += Duration::from_millis(log(&mut self.rng, self.profile.idle_ms));
        }
        self.schedule(self.now + rest, Event::ClientActs(client));
    }

    fn act_once(&mut self, client: usize) {
        match self.crowd.act(client, &self.profile, &mut self.rng) {
            Todo::Ask(request) => self.send(client, request),
            Todo::Disconnect(connection) => self.disconnect(client, connection),
            Todo::Release(key) => {
                self.schedule(self.now, Event::Arrives { node: 0, arrival: Arrival::Release(key) });
            }
        }
    }

    /// A request goes out. It does not overtake what was sent on its connection before.
    fn send(&mut self, client: usize, request: Box<Request<'static>>) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.askers.insert(id, client);
        let connection = request.connection;
        if let Some(wait_ms) = kinds::wait_ms(&request.operation)
            && wait_ms > 0
            && self.rng.chance(self.profile.impatience)
        {
            let at = self.now + Duration::from_millis(self.rng.log_between(1, wait_ms));
            self.schedule(at, Event::ClientGivesUp { client, connection });
        }
        let at = self.arrival(client, connection);
        self.schedule(at, Event::Arrives { node: 0, arrival: Arrival::Request { id, request } });
    }

    fn arrival(&mut self, client: usize, connection: ConnectionId) -> Instant {
        let at = self.now + micros(&mut self.rng, self.profile.delay_us);
        let wires = &mut self.crowd.clients[client].wires;
        let wire = wires.iter_mut().find(|wire| wire.connection == connection).expect("it sends on its own connection");
        wire.last_arrival = wire.last_arrival.max(at);
        wire.last_arrival
    }

    /// A connection ends, and the client makes another.
    fn disconnect(&mut self, client: usize, connection: ConnectionId) {
        if !self.crowd.clients[client].wires.iter().any(|wire| wire.connection == connection) {
            return;
        }
        let at = self.arrival(client, connection);
        self.schedule(at, Event::Arrives { node: 0, arrival: Arrival::Closed(connection) });
        let new = self.crowd.new_wire();
        let wires = &mut self.crowd.clients[client].wires;
        wires.retain(|wire| wire.connection != connection);
        wires.push(new);
    }

    fn arrives(&mut self, node: usize, arrival: Arrival) -> Result<(), Wrong> {
        if self.members[node].stopped_until.is_none() && self.rng.below(100_000) < self.profile.pauses {
            let until = self.now + Duration::from_millis(log(&mut self.rng, self.profile.pause_ms));
            self.members[node].stopped_until = Some(until);
            self.schedule(until, Event::GoesOn { node });
            self.coverage().met(Rare::Paused);
            self.tell(format_args!("the node is stopped until {}", self.since_start(until)));
        }
        if self.members[node].stopped_until.is_some() {
            self.members[node].inbox.push_back(arrival);
            return Ok(());
        }
        if self.rng.chance(self.profile.early_timeouts) {
            self.coverage().met(Rare::EarlyTimeout);
            self.handle(node, Arrival::Timeout)?;
        }
        self.handle(node, arrival)
    }

    /// The process goes on: all that came meanwhile comes now, and so does the time.
    fn goes_on(&mut self, node: usize) -> Result<(), Wrong> {
        self.members[node].stopped_until = None;
        if self.profile.timers_first {
            self.handle(node, Arrival::Timeout)?;
        }
        while let Some(arrival) = self.members[node].inbox.pop_front() {
            self.handle(node, arrival)?;
        }
        Ok(())
    }

    /// One call of the node, judged in full.
    fn handle(&mut self, node: usize, arrival: Arrival) -> Result<(), Wrong> {
        let reading = self.clock(node);
        self.story_of_arrival(reading, &arrival);
        self.trace.word(reading.as_nanos());
        let is_timeout = matches!(arrival, Arrival::Timeout);
        let wall = WallTime(self.rng.next() >> 20);
        let subject = &mut self.members[node].subject;
        subject.handle(Now { monotonic: reading, wall }, arrival);
        let is_idle = is_timeout && subject.has_answered().is_none();
        while let Some((id, reply)) = self.members[node].subject.has_answered().cloned() {
            self.trace.word(id.0);
            self.trace.reply(&reply);
            self.tell(format_args!("    #{} gets {reply:?}", id.0));
            let request = self.members[node].subject.judge_next()?;
            if let Some(client) = self.askers.remove(&id) {
                self.crowd.hear(client, &request, &reply, &mut self.rng);
            }
        }
        let due = self.members[node].subject.end()?;
        self.rearm(node, reading, due, is_idle)
    }

    /// The shell's timer: as late as shells are, and never before the node's clock reads the time.
    fn rearm(&mut self, node: usize, reading: Instant, due: Option<Instant>, is_idle: bool) -> Result<(), Wrong> {
        let member = &mut self.members[node];
        let overdue = due.is_some_and(|due| due <= reading);
        member.idle_timeouts = if overdue && is_idle { member.idle_timeouts + 1 } else { 0 };
        if member.idle_timeouts > IDLE_TIMEOUTS_MAX {
            return Err(format!("no-spinning: next_timeout stays at {due:?}, and it is {reading:?}"));
        }
        let Some(due) = due else {
            member.armed += 1;
            member.wakes_at = None;
            return Ok(());
        };
        let at = if overdue {
            self.now + Duration::from_micros(self.profile.turn_us)
        } else {
            self.clock_reaches(node, due)
        };
        let member = &mut self.members[node];
        if member.wakes_at == Some(at) {
            return Ok(());
        }
        member.wakes_at = Some(at);
        member.armed += 1;
        let armed = member.armed;
        let late = micros(&mut self.rng, self.profile.timeout_late_us);
        self.schedule(at + late, Event::Wakes { node, armed });
        Ok(())
    }

    /// The clients go, and everything must come to its end: by deletion, or by the passing of ten years.
    fn wind_down(&mut self) -> Result<(), Wrong> {
        self.tell(format_args!("the clients go"));
        self.acts_left = 0;
        self.now = self.started + RUN;
        self.queue.clear();
        for node in 0..self.members.len() {
            self.goes_on(node)?;
        }
        for client in 0..self.crowd.clients.len() {
            for wire in self.crowd.clients[client].wires.clone() {
                self.handle(0, Arrival::Closed(wire.connection))?;
            }
        }
        if self.rng.one_in(2) {
            self.ask_of_all(|key| Operation::Delete { target: Target::Key(key) })?;
        } else {
            self.pass_time(self.now + Duration::from_secs(2 * 365 * 86_400))?;
            self.ask_of_all(|key| Operation::Read { target: Target::Key(key), touch: None })?;
        }
        self.pass_time(Instant::FAR_FUTURE)?;
        let node = &self.members[0].subject.node;
        node.check_invariants();
        let status = node.status();
        let left = [
            status.stores,
            status.memory_bytes,
            status.tombstones,
            status.customers,
            status.locks,
            status.waiters,
            status.names,
        ];
        if left.iter().any(|left| *left != 0) {
            return Err(format!("books-exact: everything has ended, yet there is {status:?}"));
        }
        Ok(())
    }

    fn ask_of_all(&mut self, operation: impl Fn(StoreKey) -> Operation<'static>) -> Result<(), Wrong> {
        let model = &self.members[0].subject.model;
        let all: Vec<_> = model
            .expiries
            .iter()
            .filter_map(|(_, slot)| model.store(*slot).key.map(|key| (model.store(*slot).customer, key)))
            .collect();
        for (customer, key) in all {
            self.pass_time(self.now + Duration::from_secs(1))?;
            self.requests += 1;
            let request = Box::new(Request::new(ConnectionId(0), customer, operation(key)));
            self.handle(0, Arrival::Request { id: RequestId(self.requests), request })?;
        }
        Ok(())
    }

    /// What a node's clock reads.
    fn clock(&self, node: usize) -> Instant {
        let awake = read_clock(self.now, self.profile.clock_step_ns);
        Instant::from_nanos(awake.as_nanos() + self.members[node].suspended_ns)
    }

    /// When it first reads `due` or more.
    fn clock_reaches(&self, node: usize, due: Instant) -> Instant {
        let step_ns = self.profile.clock_step_ns;
        let awake_ns = due.as_nanos().saturating_sub(self.members[node].suspended_ns);
        Instant::from_nanos(awake_ns.div_ceil(step_ns).saturating_mul(step_ns))
    }

    /// Nothing happens but time, until then or until nothing is left to happen.
    fn pass_time(&mut self, until: Instant) -> Result<(), Wrong> {
        while let Some(due) = self.members[0].subject.node.next_timeout()
            && self.clock_reaches(0, due) <= until
        {
            self.now = self.now.max(self.clock_reaches(0, due));
            self.handle(0, Arrival::Timeout)?;
        }
        if until != Instant::FAR_FUTURE {
            self.now = self.now.max(until);
        }
        Ok(())
    }

    fn since_start(&self, at: Instant) -> String {
        format!("{:.6} s", at.since(self.started).as_secs_f64())
    }

    fn story_of_arrival(&self, reading: Instant, arrival: &Arrival) {
        if !self.tells {
            return;
        }
        let at = self.since_start(self.now);
        let reads = reading.as_nanos();
        match arrival {
            Arrival::Request { id, request } => {
                let Request { connection, customer, condition, idempotency, operation, .. } = &**request;
                self.tell(format_args!(
                    "{at} (clock {reads}) #{} of {customer} on connection {}: {operation:?} {condition:?} {}",
                    id.0,
                    connection.0,
                    idempotency.as_ref().map_or(String::new(), |idempotency| format!("{idempotency:?}")),
                ));
            }
            Arrival::Closed(connection) => {
                self.tell(format_args!("{at} (clock {reads}) connection {} ends", connection.0));
            }
            Arrival::Release(key) => self.tell(format_args!("{at} (clock {reads}) the operator releases {key:?}")),
            Arrival::Timeout => self.tell(format_args!("{at} (clock {reads}) timeout")),
        }
    }

    fn tell(&self, line: std::fmt::Arguments<'_>) {
        if self.tells {
            // Not through the test harness, which would keep it for itself.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// What a clock of this resolution reads.
fn read_clock(at: Instant, step_ns: u64) -> Instant {
    Instant::from_nanos(at.as_nanos() - at.as_nanos() % step_ns)
}

fn log(rng: &mut Rng, (low, high): Range) -> u64 {
    rng.log_between(low, high)
}

fn micros(rng: &mut Rng, range: Range) -> Duration {
    if range.1 == 0 { Duration::ZERO } else { Duration::from_micros(log(rng, range)) }
}

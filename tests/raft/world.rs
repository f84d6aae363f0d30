//! The simulated world: time, the network, machines and their disks, faults, and the checks after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bigbunny::kv::ask::Question;
use bigbunny::kv::replica::{Input, Notice, Outbox, Replica, Settings};
use bigbunny::raft::entry::Entry;
use bigbunny::raft::member::{Member, Uuid};
use bigbunny::raft::message::Message;
use bigbunny::raft::{LogPosition, NodeId, Term};
use bigbunny::time::Instant;

use crate::clients::{Asked, Clients};
use crate::disk::Disk;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::seeds::{Tally, say};

const MS: u64 = 1_000_000;
/// The clients' numbers are greater.
const ADMIN_IDS: std::ops::Range<u64> = 1..1_000_000;

/// What a run has met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    simulated_ms: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// Every one of them must occur in an ordinary run.
const EXPECTED: &[&str] = &[
    "crash",
    "crash with unsynced writes",
    "crash of all",
    "cut",
    "isolation",
    "pause",
    "slow disk",
    "full disk",
    "elections",
    "lost leaderships",
    "snapshots saved",
    "snapshots installed",
    "members changed",
    "leaders transferred",
    "learners added",
    "answered",
    "mismatches",
    "unknown",
    "refused",
    "retried",
    "removed",
    "message lost",
    "message delayed",
];

impl Met {
    fn note(&mut self, what: &'static str) {
        self.note_many(what, 1);
    }

    fn note_many(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }
}

impl Tally for Met {
    fn add(&mut self, more: &Self) {
        self.simulated_ms += more.simulated_ms;
        for (what, count) in &more.counts {
            self.note_many(what, *count);
        }
    }

    fn simulated_ms(&self) -> u64 {
        self.simulated_ms
    }

    fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|what| !self.counts.contains_key(what)).collect()
    }

    fn report(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        counts.join(", ")
    }
}

struct Machine {
    uuid: Uuid,
    disk: Disk,
    replica: Option<Replica>,
    /// Counts its lives: what is meant for one life does not reach the next.
    life: u64,
    is_syncing: bool,
    paused_until: u64,
    slow_until: u64,
    wake_at: u64,
    checked: u64,
}

enum Event {
    Deliver { from: usize, to: usize, cluster: Option<Uuid>, bytes: Vec<u8> },
    Synced { machine: usize, life: u64, batch: u64 },
    ImageSynced { machine: usize, life: u64, last: LogPosition },
    Wake { machine: usize, life: u64, at: u64 },
    Restart { machine: usize },
    Client,
    Fault,
    Heal { cut: (usize, usize) },
    DiskRoom { machine: usize, life: u64 },
}

pub struct World {
    rng: Rng,
    planted: Option<Planted>,
    tells: bool,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    machines: Vec<Machine>,
    numbers: BTreeMap<NodeId, usize>,
    cuts: BTreeSet<(usize, usize)>,
    loss_permille: u64,
    is_faulty: bool,
    clients: Clients,
    admin_id: u64,
    admin_answers: BTreeMap<u64, (u16, String)>,
    leaders: BTreeMap<Term, usize>,
    /// Of each life of a leader: a term that a lone voter has begun and not saved may begin anew, for nobody has heard of it.
    leader_last: BTreeMap<(Term, u64), u64>,
    committed: BTreeMap<u64, (Term, Entry)>,
    states: BTreeMap<u64, u64>,
    met: Met,
    wrong: Option<String>,
}

impl World {
    pub fn new(seed: u64, planted: Option<Planted>, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let count = rng.between(1, 7) as usize;
        let clients = Clients::new(rng.fork());
        let mut machines = Vec::new();
        for number in 0..count {
            let mut bytes = [0; 16];
            bigbunny::node::Entropy::fill(&mut rng, &mut bytes);
            bytes[0] = number as u8;
            machines.push(Machine {
                uuid: Uuid::from_random(bytes),
                disk: Disk::default(),
                replica: None,
                life: 0,
                is_syncing: false,
                paused_until: 0,
                slow_until: 0,
                wake_at: u64::MAX,
                checked: 0,
            });
        }
        let numbers = machines.iter().enumerate().map(|(at, machine)| (machine.uuid.node_id(), at)).collect();
        Self {
            loss_permille: rng.pick(&[0, 0, 5, 50]),
            rng,
            planted,
            tells,
            now: 1_000 * MS,
            sequence: 0,
            events: BTreeMap::new(),
            machines,
            numbers,
            cuts: BTreeSet::new(),
            is_faulty: false,
            clients,
            admin_id: 0,
            admin_answers: BTreeMap::new(),
            leaders: BTreeMap::new(),
            leader_last: BTreeMap::new(),
            committed: BTreeMap::new(),
            states: BTreeMap::new(),
            met: Met::default(),
            wrong: None,
        }
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        if self.tells {
            say(format_args!("{:>9.3} {}", self.now as f64 / 1e9, line()));
        }
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// The whole run: a cluster is made, has faults, is healed, and must agree.
    pub fn run(mut self) -> Result<Met, String> {
        for machine in 0..self.machines.len() {
            self.start(machine);
        }
        let voters = self.rng.between(1, self.machines.len() as u64) as usize;
        self.expect(0, Question::Init, 201)?;
        for machine in 1..self.machines.len() {
            self.expect(0, Question::AddLearner(self.member(machine)), 200)?;
        }
        let ids = self.machines[..voters].iter().map(|machine| machine.uuid).collect();
        self.expect(0, Question::ChangeMembership(ids), 200)?;
        self.is_faulty = true;
        self.schedule(self.now, Event::Client);
        self.schedule(self.now, Event::Fault);
        let seconds = self.rng.between(4, 12);
        self.run_for(seconds * 1_000 * MS)?;
        self.heal();
        self.run_for(12_000 * MS)?;
        if self.clients.open_len() > 0 {
            return Err(format!(
                "{} questions have no answer long after everything was healed",
                self.clients.open_len()
            ));
        }
        for machine in 0..self.machines.len() {
            if !self.is_member(machine) {
                continue;
            }
            for asked in self.clients.read_all(self.now, machine) {
                self.ask(asked);
            }
            let before = self.clients.refused;
            self.run_for(1_500 * MS)?;
            if self.clients.refused > before || self.clients.open_len() > 0 {
                return Err(format!("node {machine} does not answer long after everything was healed"));
            }
        }
        self.check_agreement()?;
        self.clients.histories.check()?;
        self.met.simulated_ms = self.now / MS;
        for (what, count) in [
            ("answered", self.clients.done),
            ("mismatches", self.clients.mismatches),
            ("unknown", self.clients.unknown),
            ("refused", self.clients.refused),
            ("retried", self.clients.retried),
        ] {
            if count > 0 {
                self.met.note_many(what, count);
            }
        }
        Ok(self.met)
    }

    fn member(&self, machine: usize) -> Member {
        Member { uuid: self.machines[machine].uuid, address: format!("10.0.0.{machine}:8080") }
    }

    /// Asks as an operator until the answer is that.
    fn expect(&mut self, machine: usize, question: Question, status: u16) -> Result<(), String> {
        for _ in 0..20 {
            let id = self.ask_admin(machine, question.clone());
            self.run_for(2_000 * MS)?;
            if self.admin_answers.get(&id).is_some_and(|(answered, _)| *answered == status) {
                return Ok(());
            }
        }
        Err(format!("{question:?} was never answered with {status}: {:?}", self.admin_answers.last_key_value()))
    }

    fn ask_admin(&mut self, machine: usize, question: Question) -> u64 {
        self.admin_id += 1;
        let id = self.admin_id;
        self.input(machine, Input::Question { id, question, is_stale: false });
        id
    }

    fn run_for(&mut self, nanos: u64) -> Result<(), String> {
        let end = self.now + nanos;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.on_event(event);
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        self.now = end;
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, cluster, bytes } => {
                if self.cuts.contains(&(from, to)) {
                    return;
                }
                if self.machines[to].paused_until > self.now {
                    return self.schedule(self.machines[to].paused_until, Event::Deliver { from, to, cluster, bytes });
                }
                let message = Message::read(&bytes).expect("what is sent can be read");
                let from = self.machines[from].uuid.node_id();
                self.input(to, Input::Message { from, cluster, message });
            }
            Event::Synced { machine, life, batch } => {
                if self.machines[machine].life != life {
                    return;
                }
                self.machines[machine].disk.sync_to(batch);
                self.machines[machine].is_syncing = false;
                self.sync(machine);
                self.input(machine, Input::Saved(batch));
            }
            Event::ImageSynced { machine, life, last } => {
                if self.machines[machine].life == life {
                    self.machines[machine].disk.sync_image(last);
                    self.input(machine, Input::ImageSaved(last));
                }
            }
            Event::Wake { machine, life, at } => {
                let paused_until = self.machines[machine].paused_until;
                if self.machines[machine].life != life || self.machines[machine].wake_at != at {
                } else if paused_until > self.now {
                    self.machines[machine].wake_at = paused_until;
                    self.schedule(paused_until, Event::Wake { machine, life, at: paused_until });
                } else {
                    self.machines[machine].wake_at = u64::MAX;
                    self.input(machine, Input::Time);
                }
            }
            Event::Restart { machine } => self.start(machine),
            Event::Client => {
                if !self.is_faulty {
                    return;
                }
                if let Some(asked) = self.clients.ask(self.now, self.machines.len()) {
                    self.ask(asked);
                }
                let pause = self.rng.log_between(MS / 2, 60 * MS);
                self.schedule(self.now + pause, Event::Client);
            }
            Event::Fault => {
                if self.is_faulty {
                    self.fault();
                    let pause = self.rng.log_between(10 * MS, 1_500 * MS);
                    self.schedule(self.now + pause, Event::Fault);
                }
            }
            Event::Heal { cut } => self.heal_cut(cut),
            Event::DiskRoom { machine, life } => {
                if self.machines[machine].life == life {
                    self.input(machine, Input::DiskIsLow(false));
                }
            }
        }
    }

    fn ask(&mut self, asked: Asked) {
        let Asked { id, node, question } = asked;
        if self.machines[node].replica.is_none() {
            let again = self.clients.on_crash(self.now, node, self.machines.len());
            return self.ask_again(again);
        }
        let is_stale = self.planted == Some(Planted::StaleReads);
        self.input(node, Input::Question { id, question, is_stale });
    }

    /// Whoever asks again does so a little later: as a fault of the next moment, so that nothing turns in circles.
    fn ask_again(&mut self, again: Vec<Asked>) {
        for asked in again {
            self.ask(asked);
        }
    }

    fn start(&mut self, machine: usize) {
        if self.machines[machine].replica.is_some() {
            return;
        }
        let settings = Settings { own: self.member(machine), memory_limit_bytes: 0, snapshot_entries: 40 };
        let entropy = Box::new(self.rng.fork());
        let restored = self.machines[machine].disk.read(self.planted);
        let checked = restored.as_ref().map_or(0, |(restored, _)| restored.start.snapshot.index.get());
        self.machines[machine].checked = checked;
        self.machines[machine].replica = Some(Replica::new(self.instant(), settings, entropy, restored));
        self.tell(|| format!("{machine} starts, behind {checked}"));
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            if !self.cuts.contains(&(machine, other)) {
                self.input(machine, Input::LinkUp(self.machines[other].uuid.node_id()));
                self.input(other, Input::LinkUp(self.machines[machine].uuid.node_id()));
            }
        }
        self.input(machine, Input::Time);
    }

    fn crash(&mut self, machine: usize) {
        if self.machines[machine].replica.take().is_none() {
            return;
        }
        self.met.note("crash");
        if self.machines[machine].disk.unsynced() > 0 {
            self.met.note("crash with unsynced writes");
        }
        self.tell(|| format!("{machine} crashes"));
        let planted = self.planted;
        let node = &mut self.machines[machine];
        node.life += 1;
        node.is_syncing = false;
        node.wake_at = u64::MAX;
        node.disk.crash(&mut self.rng, planted);
        let id = node.uuid.node_id();
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            self.input(other, Input::LinkDown(id));
        }
        let again = self.clients.on_crash(self.now, machine, self.machines.len());
        self.ask_again(again);
        let pause = self.rng.log_between(5 * MS, 2_500 * MS);
        self.schedule(self.now + pause, Event::Restart { machine });
    }

    fn cut(&mut self, from: usize, to: usize, nanos: u64) {
        if from == to || !self.cuts.insert((from, to)) {
            return;
        }
        self.tell(|| format!("cut from {from} to {to}"));
        self.input(from, Input::LinkDown(self.machines[to].uuid.node_id()));
        self.schedule(self.now + nanos, Event::Heal { cut: (from, to) });
    }

    fn heal_cut(&mut self, (from, to): (usize, usize)) {
        if self.cuts.remove(&(from, to)) {
            self.tell(|| format!("healed from {from} to {to}"));
            self.input(from, Input::LinkUp(self.machines[to].uuid.node_id()));
        }
    }

    fn fault(&mut self) {
        let machine = self.rng.index(self.machines.len());
        let nanos = self.rng.log_between(20 * MS, 3_000 * MS);
        let count = self.machines.len();
        match self.rng.below(16) {
            0..3 => self.crash(machine),
            3 => {
                // The leader, if there is one.
                let leader = (0..count)
                    .find(|at| self.machines[*at].replica.as_ref().is_some_and(|replica| replica.raft().is_leader()));
                self.crash(leader.unwrap_or(machine));
            }
            4 => {
                if self.rng.one_in(3) {
                    self.met.note("crash of all");
                    (0..count).for_each(|machine| self.crash(machine));
                }
            }
            5 | 6 => {
                self.met.note("cut");
                let to = self.rng.index(count);
                self.cut(machine, to, nanos);
                if self.rng.one_in(2) {
                    self.cut(to, machine, nanos);
                }
            }
            7 => {
                self.met.note("isolation");
                let with: Vec<usize> = (0..count).filter(|_| self.rng.one_in(2)).collect();
                for from in 0..count {
                    for to in 0..count {
                        if with.contains(&from) != with.contains(&to) {
                            self.cut(from, to, nanos);
                        }
                    }
                }
            }
            8 => {
                self.met.note("pause");
                self.machines[machine].paused_until = self.now + nanos / 2;
            }
            9 => {
                self.met.note("slow disk");
                self.machines[machine].slow_until = self.now + nanos;
            }
            10 => {
                self.met.note("full disk");
                self.input(machine, Input::DiskIsLow(true));
                let life = self.machines[machine].life;
                self.schedule(self.now + nanos, Event::DiskRoom { machine, life });
            }
            11 => {
                let to = self.rng.index(count);
                let uuid = (!self.rng.one_in(3)).then(|| self.machines[to].uuid);
                self.ask_admin(machine, Question::TransferLeader(uuid));
            }
            12 => {
                let member = self.rng.index(count);
                self.ask_admin(machine, Question::AddLearner(self.member(member)));
            }
            13 | 14 => {
                let voters: Vec<Uuid> =
                    (0..count).filter(|_| !self.rng.one_in(3)).map(|at| self.machines[at].uuid).collect();
                if !voters.is_empty() {
                    self.ask_admin(machine, Question::ChangeMembership(voters));
                }
            }
            _ => self.loss_permille = self.rng.pick(&[0, 0, 0, 5, 50, 200]),
        }
    }

    fn heal(&mut self) {
        self.is_faulty = false;
        self.loss_permille = 0;
        self.tell(|| "everything is healed".to_owned());
        for cut in self.cuts.clone() {
            self.heal_cut(cut);
        }
        for machine in 0..self.machines.len() {
            self.machines[machine].paused_until = self.machines[machine].paused_until.min(self.now);
            self.machines[machine].slow_until = 0;
            self.start(machine);
            self.input(machine, Input::DiskIsLow(false));
        }
    }

    fn is_member(&self, machine: usize) -> bool {
        let id = self.machines[machine].uuid.node_id();
        let newest = self.machines.iter().filter_map(|machine| machine.replica.as_ref());
        let leader = newest.filter(|replica| replica.raft().is_leader()).max_by_key(|replica| replica.raft().term());
        leader.is_some_and(|leader| leader.raft().membership().config.contains(id))
    }

    /// Tells a machine something, and carries out what it says.
    fn input(&mut self, machine: usize, input: Input) {
        let now = self.instant();
        let mut out = Outbox::default();
        let Some(replica) = &mut self.machines[machine].replica else { return };
        if self.tells && self.now > 0 {
            let story = match &input {
                Input::Message { from, message, .. } => {
                    let from = self.numbers.get(from).copied().unwrap_or(99);
                    Some(format!("{machine} < {from} {message:?}"))
                }
                Input::Question { id, question, .. } => Some(format!("{machine} ? {id} {question:?}")),
                Input::Gone { .. }
                | Input::LinkUp(_)
                | Input::LinkDown(_)
                | Input::Saved(_)
                | Input::ImageSaved(_)
                | Input::DiskIsLow(_)
                | Input::Time
                | Input::EndOfTurn => None,
            };
            if let Some(story) = story {
                say(format_args!("{:>9.3} {}", self.now as f64 / 1e9, &story[..story.len().min(220)]));
            }
        }
        replica.handle(now, input, &mut out);
        replica.handle(now, Input::EndOfTurn, &mut out);
        while replica.has_work() {
            replica.handle(now, Input::EndOfTurn, &mut out);
        }
        let next = replica.next_timeout().map_or(u64::MAX, Instant::as_nanos);
        let cluster = replica.raft().cluster();
        self.check_machine(machine);
        self.carry_out(machine, cluster, out);
        let (wake_at, life) = (self.machines[machine].wake_at, self.machines[machine].life);
        if next < wake_at && self.machines[machine].replica.is_some() {
            let at = next.max(self.now);
            self.machines[machine].wake_at = at;
            self.schedule(at, Event::Wake { machine, life, at });
        }
    }

    fn carry_out(&mut self, machine: usize, cluster: Option<Uuid>, out: Outbox) {
        let life = self.machines[machine].life;
        for notice in &out.notices {
            self.tell(|| format!("{machine} ! {notice:?}"));
            match notice {
                Notice::BecameLeader { .. } => self.met.note("elections"),
                Notice::LostLeadership { .. } => self.met.note("lost leaderships"),
                Notice::MembershipChanged { .. } => self.met.note("members changed"),
                Notice::SnapshotSaved { .. } => self.met.note("snapshots saved"),
                Notice::SnapshotInstalled { .. } => self.met.note("snapshots installed"),
                Notice::Removed => self.met.note("removed"),
                Notice::BadSnapshot { .. } | Notice::OtherCluster { .. } | Notice::Broken(_) => {
                    self.wrong = Some(format!("node {machine} says {notice:?}"));
                }
                Notice::InitialisedByWrite { .. }
                | Notice::Initialised { .. }
                | Notice::Joined { .. }
                | Notice::LeaderChanged { .. }
                | Notice::DiskIsLow
                | Notice::DiskHasRoom => {}
            }
        }
        let newest = out.saves.last().map(|save| save.batch);
        for save in out.saves {
            self.machines[machine].disk.write(save);
        }
        self.sync(machine);
        for image in out.images {
            let last = image.last;
            self.machines[machine].disk.write_image(image);
            let delay = self.rng.log_between(MS, 200 * MS);
            self.schedule(self.now + delay, Event::ImageSynced { machine, life, last });
        }
        for (to, message) in out.messages {
            self.send(machine, to, cluster, &message);
        }
        for (id, answer) in out.answers {
            if ADMIN_IDS.contains(&id) {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                self.tell(|| format!("operator {id}: {} {text}", answer.status));
                if text.contains("Transferred") {
                    self.met.note("leaders transferred");
                } else if text.contains("Added") {
                    self.met.note("learners added");
                }
                self.admin_answers.insert(id, (answer.status, text));
                continue;
            }
            self.tell(|| format!("client {id}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
            let again = self.clients.on_answer(self.now, id, &answer, self.machines.len());
            self.ask_again(again.into_iter().collect());
        }
        if self.planted == Some(Planted::AnsweredBeforeSync)
            && let Some(batch) = newest
        {
            self.input(machine, Input::Saved(batch));
        }
    }

    /// Begins a sync of all that was written, if none is under way.
    fn sync(&mut self, machine: usize) {
        let node = &mut self.machines[machine];
        if node.is_syncing {
            return;
        }
        let Some(batch) = node.disk.newest_batch() else { return };
        node.is_syncing = true;
        let life = node.life;
        let is_slow = node.slow_until > self.now;
        let delay = if is_slow { self.rng.between(50, 700) * MS } else { self.rng.log_between(MS / 10, 8 * MS) };
        self.schedule(self.now + delay, Event::Synced { machine, life, batch });
    }

    fn send(&mut self, from: usize, to: NodeId, cluster: Option<Uuid>, message: &Message) {
        let Some(&to) = self.numbers.get(&to) else { return };
        assert!(to != from, "nobody speaks to himself");
        if self.cuts.contains(&(from, to)) || self.rng.chance(self.loss_permille) {
            self.met.note("message lost");
            return;
        }
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        let mut delay = self.rng.log_between(MS / 20, 3 * MS);
        if self.is_faulty && self.rng.one_in(200) {
            self.met.note("message delayed");
            delay = self.rng.log_between(MS, 800 * MS);
        }
        // What is asked once is done once: a link repeats nothing. Everything else may come twice.
        let may_repeat = !matches!(message, Message::Forward { .. } | Message::Forwarded { .. });
        if self.is_faulty && may_repeat && self.rng.one_in(100) {
            let later = self.rng.log_between(MS, 300 * MS);
            self.schedule(self.now + later, Event::Deliver { from, to, cluster, bytes: bytes.clone() });
        }
        self.schedule(self.now + delay, Event::Deliver { from, to, cluster, bytes });
    }

    // The checks.

    fn check_machine(&mut self, machine: usize) {
        let Some(replica) = &self.machines[machine].replica else { return };
        let raft = replica.raft();
        let mut wrong = None;
        assert!(raft.applied() <= raft.commit() && raft.commit() <= raft.last().index.get());
        if raft.is_leader() {
            let term = raft.term();
            let is_new = !self.leaders.contains_key(&term);
            let leader = *self.leaders.entry(term).or_insert(machine);
            if leader != machine {
                wrong = Some(format!("election safety: {leader} and {machine} lead in term {}", term.get()));
            }
            let last = self.leader_last.entry((term, self.machines[machine].life)).or_default();
            if raft.last().index.get() < *last {
                wrong = Some(format!("leader append-only: {machine} has dropped entries of its own term"));
            }
            *last = raft.last().index.get();
            // One that late votes make a leader of a term that is over owes nothing to later ones.
            let is_newest = self.leaders.last_key_value().is_some_and(|(newest, _)| *newest == term);
            if is_new && is_newest {
                for (index, (term, entry)) in self.committed.range(raft.start().index.get() + 1..) {
                    if raft.entry(*index) != Some((*term, entry)) {
                        wrong =
                            Some(format!("leader completeness: {machine} leads without the committed entry {index}"));
                    }
                }
            }
        }
        let from = self.machines[machine].checked + 1;
        for index in from..=raft.applied() {
            let Some((term, entry)) = raft.entry(index) else { continue };
            match self.committed.get(&index) {
                Some((known_term, known)) if *known_term != term || known != entry => {
                    wrong = Some(format!("state machine safety: {machine} applies another entry {index}"));
                }
                Some(_) => {}
                None => {
                    self.committed.insert(index, (term, entry.clone()));
                }
            }
        }
        let applied = raft.applied();
        self.machines[machine].checked = applied;
        if applied >= from {
            let digest = digest_of(replica_of(&self.machines[machine]));
            let known = *self.states.entry(applied).or_insert(digest);
            if known != digest {
                wrong = Some(format!("{machine} has another state at {applied} than another node had"));
            }
        }
        if let Some(wrong) = wrong {
            self.wrong.get_or_insert(wrong);
        }
    }

    fn check_agreement(&self) -> Result<(), String> {
        let members: Vec<usize> = (0..self.machines.len()).filter(|machine| self.is_member(*machine)).collect();
        if members.is_empty() {
            return Err("nobody leads long after everything was healed".to_owned());
        }
        let states: BTreeSet<(u64, u64)> = members
            .iter()
            .map(|machine| replica_of(&self.machines[*machine]))
            .map(|replica| (replica.applied().index.get(), digest_of(replica)))
            .collect();
        if states.len() != 1 {
            return Err(format!("members differ long after everything was healed: {states:?}"));
        }
        for pair in members.windows(2) {
            let (one, other) = (&self.machines[pair[0]].disk, &self.machines[pair[1]].disk);
            let common = one.entries().iter().rev().zip(other.entries().iter().rev());
            if common.clone().any(|(one, other)| one != other) {
                return Err(format!("log matching: the disks of {} and {} differ", pair[0], pair[1]));
            }
        }
        Ok(())
    }
}

fn replica_of(machine: &Machine) -> &Replica {
    machine.replica.as_ref().expect("it runs")
}

fn digest_of(replica: &Replica) -> u64 {
    let mut hasher = DefaultHasher::new();
    replica.map().range("", None).for_each(|pair| pair.hash(&mut hasher));
    replica.map().answers_len().hash(&mut hasher);
    hasher.finish()
}

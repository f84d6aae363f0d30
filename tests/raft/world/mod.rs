//! The simulated world: time, machines with their clocks and disks, and the turns of the real code on them. What is sent is [`net`]'s, what goes
//! wrong [`faults`]', and what must hold [`checks`]'.

mod checks;
pub mod faults;
mod net;
mod replace;
mod script;
mod turn;
mod values;

use std::collections::BTreeMap;

use bigbunny::kv::ask::{Answer, Question};
use bigbunny::kv::command::{Change, Command};
use bigbunny::kv::replica::{Input, Replica, Settings};
use bigbunny::raft::member::{Member, Uuid};
use bigbunny::raft::{LogPosition, NodeId};
use bigbunny::time::Instant;

use self::checks::{Seen, Watched};
use self::net::Link;
use self::replace::{REPLACE_INTERVAL, Replacement};
use crate::clients::{Asked, Clients};
use crate::disk::{Disk, Left};
use crate::met::{Met, Step};
use crate::profile::Profile;
use crate::rng::Rng;
use crate::seeds::say;
use crate::watchers::Watchers;

pub const MS: u64 = 1_000_000;
/// Whose question a number is.
const ADMIN_IDS: std::ops::Range<u64> = 1..1_000_000;
const BURST_IDS: std::ops::Range<u64> = 1_000_000..2_000_000;
const WATCH_IDS: std::ops::Range<u64> = 2_000_000..3_000_000;
const STALE_IDS: std::ops::Range<u64> = 3_000_000..4_000_000;
const CLIENT_IDS: u64 = 4_000_000;
/// Keys with long values, and how long they are.
const BALLAST: u64 = 12;
const BALLAST_BYTES: usize = 50_000;
/// When everything is healed all must be as it should within this time.
const SETTLE_TIME_MAX: u64 = 15_000 * MS;

struct Machine {
    uuid: Uuid,
    disk: Disk,
    replica: Option<Replica>,
    /// Counts its lives: what is meant for one life does not reach the next.
    life: u64,
    /// What has come and was not handled.
    inbox: Vec<Input>,
    /// When its next turn is.
    turn_at: u64,
    is_syncing: bool,
    /// It crashes in its next turn, before anything leaves.
    dies_in_turn: bool,
    paused_until: u64,
    slow_until: u64,
    /// Its next turn has looked at the clock already.
    stale_now: Option<Instant>,
    /// Where its clock began, and how fast it runs, in thousandths.
    clock_start: u64,
    clock_rate: u64,
    watched: Watched,
}

impl Machine {
    /// When it was, or will be, itself again.
    fn disturbed_until(&self) -> u64 {
        self.watched.disturbed.max(self.paused_until).max(self.slow_until)
    }
}

enum Event {
    Deliver { from: usize, to: usize, cluster: Option<Uuid>, bytes: Vec<u8> },
    Turn { machine: usize, at: u64 },
    Synced { machine: usize, life: u64, batch: u64 },
    ImageSynced { machine: usize, life: u64, last: LogPosition },
    DiskCrash { machine: usize, life: u64, batch: u64, step: Step },
    ImageCrash { machine: usize, life: u64, last: LogPosition, step: Step },
    Restart { machine: usize },
    Client,
    Ask(Asked),
    Answer { id: u64, answer: Answer },
    GiveUp { id: u64 },
    Fault,
    Replace,
    Heal { from: usize, to: usize, cut: u64 },
    DiskRoom { machine: usize, life: u64 },
}

pub struct World {
    rng: Rng,
    profile: Profile,
    tells: bool,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    machines: Vec<Machine>,
    numbers: BTreeMap<NodeId, usize>,
    links: BTreeMap<(usize, usize), Link>,
    loss_permille: u64,
    /// When messages were last lost for no reason, and when operators last changed who leads or votes.
    lossless_since: u64,
    reign_changes: u64,
    is_faulty: bool,
    is_healed: bool,
    replacement: Option<Replacement>,
    pub clients: Clients,
    watchers: Watchers,
    admin_id: u64,
    burst_id: u64,
    admin_answers: BTreeMap<u64, Answer>,
    seen: Seen,
    pub met: Met,
    wrong: Option<String>,
}

impl World {
    pub fn new(seed: u64, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let profile = Profile::draw(&mut rng);
        Self::with(profile, rng, tells)
    }

    pub fn with(profile: Profile, mut rng: Rng, tells: bool) -> Self {
        let clients = Clients::new(rng.fork(), CLIENT_IDS, STALE_IDS.start);
        let watchers = Watchers::new(rng.fork(), WATCH_IDS.start);
        let mut machines = Vec::new();
        for number in 0..profile.machines {
            let mut bytes = [0; 16];
            bigbunny::node::Entropy::fill(&mut rng, &mut bytes);
            bytes[0] = number as u8;
            let drift = profile.drift_permille;
            machines.push(Machine {
                uuid: Uuid::from_random(bytes),
                disk: Disk::default(),
                replica: None,
                life: 0,
                inbox: Vec::new(),
                turn_at: u64::MAX,
                is_syncing: false,
                dies_in_turn: false,
                paused_until: 0,
                slow_until: 0,
                stale_now: None,
                clock_start: rng.log_between(1, 1 << 50),
                clock_rate: 1000 - drift + rng.below(2 * drift + 1),
                watched: Watched::default(),
            });
        }
        let numbers = machines.iter().enumerate().map(|(at, machine)| (machine.uuid.node_id(), at)).collect();
        let mut met = Met::default();
        if profile.drift_permille > 0 {
            met.note("faulty clocks");
        }
        Self {
            loss_permille: profile.loss_permille,
            profile,
            rng,
            tells,
            now: 1_000 * MS,
            sequence: 0,
            events: BTreeMap::new(),
            machines,
            numbers,
            links: BTreeMap::new(),
            lossless_since: 0,
            reign_changes: 0,
            is_faulty: false,
            is_healed: false,
            replacement: None,
            clients,
            watchers,
            admin_id: 0,
            burst_id: 0,
            admin_answers: BTreeMap::new(),
            seen: Seen::default(),
            met,
            wrong: None,
        }
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        if self.tells {
            let line = line();
            let line: String = line.chars().take(240).collect();
            say(format_args!("{:>9.4} {line}", self.now as f64 / 1e9));
        }
    }

    /// What a machine's clock says.
    fn local(&self, machine: usize) -> Instant {
        let node = &self.machines[machine];
        Instant::from_nanos(node.clock_start + self.now * node.clock_rate / 1000)
    }

    /// When a machine's clock will say that.
    fn when(&self, machine: usize, local: Instant) -> u64 {
        let node = &self.machines[machine];
        let nanos = u128::from(local.as_nanos().saturating_sub(node.clock_start)) * 1000;
        u64::try_from(nanos.div_ceil(u128::from(node.clock_rate))).unwrap_or(u64::MAX)
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// The whole run: a cluster is made, has faults, is healed, and must agree.
    pub fn run(mut self) -> Result<Met, String> {
        self.set_up()?;
        self.is_faulty = true;
        let watches = self.watchers.ask_all(self.machines.len());
        self.ask_all(watches);
        self.schedule(self.now, Event::Client);
        self.schedule(self.now, Event::Fault);
        if self.profile.replaces_machine {
            self.replacement = Some(Replacement::new(self.rng.index(self.machines.len())));
            self.schedule(self.now, Event::Replace);
        }
        let nanos = self.profile.faulty_seconds * 1_000 * MS;
        self.run_for(nanos)?;
        self.settle()?;
        self.finish()?;
        Ok(self.met)
    }

    /// All machines start, and are a cluster in the end.
    pub fn set_up(&mut self) -> Result<(), String> {
        for machine in 0..self.machines.len() {
            self.start(machine);
        }
        let begins_with_write = self.profile.begins_with_write;
        let changes = vec![Change::Set { key: "first".to_owned(), value: "1".to_owned() }];
        let write = Question::Write(Command { idempotency_key: None, changes, is_batch: false });
        self.until_led(if begins_with_write { &write } else { &Question::Init })?;
        for machine in 1..self.machines.len() {
            let member = self.member(machine);
            self.expect(0, Question::AddLearner(member))?;
        }
        let ids = self.machines[..self.profile.voters].iter().map(|machine| machine.uuid).collect();
        self.expect(0, Question::ChangeMembership(ids))?;
        for number in 0..if self.profile.has_ballast { BALLAST } else { 0 } {
            let value = format!("{number:0>BALLAST_BYTES$}");
            let changes = vec![Change::Set { key: format!("ballast-{number}"), value }];
            self.expect(0, Question::Write(Command { idempotency_key: None, changes, is_batch: false }))?;
        }
        Ok(())
    }

    /// Everything is healed, and all must be answered and equal soon.
    pub fn settle(&mut self) -> Result<(), String> {
        self.heal();
        let end = self.now + SETTLE_TIME_MAX;
        while self.now < end && (self.clients.open_len() > 0 || self.is_held_back() || !self.is_settled()) {
            self.run_for(200 * MS)?;
        }
        if self.clients.open_len() > 0 {
            let open = self.clients.open();
            return Err(format!("these questions have no answer long after everything was healed: {open}"));
        }
        Ok(())
    }

    /// Every member is asked for what it holds, and all of it is judged.
    pub fn finish(&mut self) -> Result<(), String> {
        let members: Vec<usize> = (0..self.machines.len()).filter(|machine| self.is_member(*machine)).collect();
        for (count, machine) in members.iter().enumerate() {
            let reads = self.clients.read_all(self.now, *machine, count == 0);
            self.ask_all(reads);
            let before = self.clients.refused;
            self.run_until(1_500 * MS, |world| world.clients.open_len() == 0)?;
            if self.clients.refused > before || self.clients.open_len() > 0 {
                return Err(format!("node {machine} does not answer long after everything was healed"));
            }
        }
        self.run_until(5_000 * MS, Self::is_settled)?;
        self.check_agreement()?;
        let backups: Vec<u64> = members.iter().map(|machine| self.ask_admin(*machine, Question::Backup)).collect();
        self.run_for(500 * MS)?;
        let bytes: Vec<&Vec<u8>> =
            backups.iter().filter_map(|id| self.admin_answers.get(id)).map(|answer| &answer.body).collect();
        if bytes.len() != members.len() || bytes.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err("the backups of equal nodes are not the same bytes".to_owned());
        }
        self.watchers.check(self.seen.values.map())?;
        self.clients.histories.check()?;
        self.met.simulated_ms = self.now / MS;
        for (what, count) in [
            ("a question answered", self.clients.done),
            ("a mismatch", self.clients.mismatches),
            ("a write of unknown fate", self.clients.unknown),
            ("a question refused", self.clients.refused),
            ("a write repeated", self.clients.retried),
            ("a watch answered", self.watchers.answered()),
            ("a watch too late", self.watchers.too_late),
        ] {
            if count > 0 {
                self.met.note_many(what, count);
            }
        }
        Ok(())
    }

    fn member(&self, machine: usize) -> Member {
        Member { uuid: self.machines[machine].uuid, address: format!("10.0.0.{machine}:8080") }
    }

    /// Asks as an operator until the answer is good.
    pub fn expect(&mut self, machine: usize, question: Question) -> Result<(), String> {
        for _ in 0..40 {
            let id = self.ask_admin(machine, question.clone());
            self.run_until(2_000 * MS, |world| world.admin_answers.contains_key(&id))?;
            if self.admin_answers.get(&id).is_some_and(|answer| answer.status == 200) {
                return Ok(());
            }
        }
        Err(format!("{question:?} was never answered as it should: {:?}", self.admin_answers.last_key_value()))
    }

    /// Asks the first machine until it leads a cluster.
    fn until_led(&mut self, question: &Question) -> Result<(), String> {
        for _ in 0..200 {
            self.ask_admin(0, question.clone());
            self.run_for(100 * MS)?;
            let replica = self.machines[0].replica.as_ref();
            if replica.is_some_and(|replica| replica.raft().is_leader() && replica.raft().commit() > 0) {
                return Ok(());
            }
        }
        Err("the first machine never led".to_owned())
    }

    pub fn run_for(&mut self, nanos: u64) -> Result<(), String> {
        self.run_until(nanos, |_| false)
    }

    /// Runs so long, or until something is true.
    pub fn run_until(&mut self, nanos: u64, is_over: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = self.now + nanos;
        while !is_over(self) {
            let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) else {
                self.now = end;
                return Ok(());
            };
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.on_event(event);
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, cluster, bytes } => self.deliver(from, to, cluster, &bytes),
            Event::Turn { machine, at } => {
                let node = &mut self.machines[machine];
                if node.turn_at != at {
                } else if node.paused_until > self.now {
                    let until = node.paused_until;
                    node.turn_at = until;
                    self.schedule(until, Event::Turn { machine, at: until });
                } else {
                    node.turn_at = u64::MAX;
                    self.turn(machine);
                }
            }
            Event::Synced { machine, life, batch } => {
                if self.machines[machine].life == life {
                    self.tell(|| format!("{machine} has saved {batch}"));
                    self.machines[machine].disk.sync_to(batch);
                    self.machines[machine].is_syncing = false;
                    self.sync(machine);
                    self.arrive(machine, Input::Saved(batch));
                }
            }
            Event::ImageSynced { machine, life, last } => {
                if self.machines[machine].life == life {
                    self.machines[machine].disk.sync_image(last);
                    self.arrive(machine, Input::ImageSaved(last));
                }
            }
            Event::DiskCrash { machine, life, batch, step } => {
                if self.machines[machine].life == life {
                    if matches!(step, Step::Behind | Step::AtTheWord) {
                        self.machines[machine].disk.sync_to(batch);
                    }
                    self.crash_at(machine, step, Input::Saved(batch));
                }
            }
            Event::ImageCrash { machine, life, last, step } => {
                if self.machines[machine].life == life {
                    if matches!(step, Step::Behind | Step::AtTheWord) {
                        self.machines[machine].disk.sync_image(last);
                    }
                    self.crash_at(machine, step, Input::ImageSaved(last));
                }
            }
            Event::Restart { machine } => self.start(machine),
            Event::Client => {
                if self.is_faulty {
                    let asked = self.clients.ask(self.now, self.machines.len());
                    let stale = self.rng.one_in(6).then(|| self.clients.ask_stale(self.machines.len()));
                    self.ask_all(asked.into_iter().chain(stale).collect());
                    let pause = self.rng.log_between(MS / 2, self.profile.client_pause_max_ms * MS);
                    self.schedule(self.now + pause, Event::Client);
                }
            }
            Event::Ask(Asked { id, node, question }) => {
                if self.machines[node].replica.is_some() && !self.is_blank(node) {
                    let is_stale = STALE_IDS.contains(&id);
                    return self.arrive(node, Input::Question { id, question, is_stale });
                }
                let again = match WATCH_IDS.contains(&id) {
                    true => self.watchers.on_refused(id, self.machines.len()),
                    false => self.clients.on_refused(id, self.machines.len()),
                };
                self.ask_again(again.into_iter().collect());
            }
            Event::Answer { id, answer } => self.on_answer(id, &answer),
            Event::GiveUp { id } => {
                if let Some((node, again)) = self.clients.give_up(id, self.machines.len()) {
                    self.met.note("a client gave up");
                    self.arrive(node, Input::Gone { id });
                    self.ask_again(again.into_iter().collect());
                }
            }
            Event::Fault => {
                if self.is_faulty {
                    self.random_fault();
                    let pause = self.rng.log_between(10 * MS, self.profile.fault_pause_max_ms * MS);
                    self.schedule(self.now + pause, Event::Fault);
                }
            }
            Event::Replace => {
                if self.is_faulty {
                    self.replace_on();
                    self.schedule(self.now + REPLACE_INTERVAL, Event::Replace);
                }
            }
            Event::Heal { from, to, cut } => self.heal_link(from, to, cut),
            Event::DiskRoom { machine, life } => {
                if self.machines[machine].life == life {
                    self.arrive(machine, Input::DiskIsLow(false));
                }
            }
        }
    }

    /// Questions on their way to their nodes.
    pub fn ask_all(&mut self, asked: Vec<Asked>) {
        for asked in asked {
            let delay = self.rng.log_between(MS / 50, 2 * MS);
            if self.is_faulty && self.rng.one_in(40) && asked.id >= CLIENT_IDS {
                let patience = self.rng.log_between(MS, 1_000 * MS);
                self.schedule(self.now + delay + patience, Event::GiveUp { id: asked.id });
            }
            self.schedule(self.now + delay, Event::Ask(asked));
        }
    }

    /// Questions that are asked once more, after a while.
    fn ask_again(&mut self, asked: Vec<Asked>) {
        for asked in asked {
            let pause = self.rng.log_between(5 * MS, 300 * MS);
            self.schedule(self.now + pause, Event::Ask(asked));
        }
    }

    fn on_answer(&mut self, id: u64, answer: &Answer) {
        let nodes = self.machines.len();
        if WATCH_IDS.contains(&id) {
            let again = self.watchers.on_answer(id, answer, nodes);
            return self.ask_all(again.into_iter().collect());
        }
        let led = self.clients.on_answer(self.now, id, answer, nodes);
        if let Some((index, command, is_repeated)) = led.claim {
            self.check_claim(index, &command);
            if is_repeated {
                self.met.note("a repeated write answered as the first time");
            }
        }
        if let Some(shown) = led.shown {
            self.check_shown(&shown);
        }
        self.ask_again(led.again.into_iter().collect());
    }

    // Machines.

    pub fn start(&mut self, machine: usize) {
        if self.machines[machine].replica.is_some() {
            return;
        }
        let settings = Settings {
            own: self.member(machine),
            memory_limit_bytes: 0,
            snapshot_entries: self.profile.snapshot_entries,
        };
        let entropy = Box::new(self.rng.fork());
        let restored = self.machines[machine].disk.read();
        let replica = Replica::new(self.local(machine), settings, entropy, restored);
        let node = &mut self.machines[machine];
        node.replica = Some(replica);
        node.turn_at = u64::MAX;
        node.watched.disturbed = self.now;
        self.tell(|| format!("{machine} starts"));
        self.check_start(machine);
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            if !self.is_cut(machine, other) {
                self.arrive(machine, Input::LinkUp(self.machines[other].uuid.node_id()));
            }
            if !self.is_cut(other, machine) {
                self.arrive(other, Input::LinkUp(self.machines[machine].uuid.node_id()));
            }
        }
        self.arrive(machine, Input::Time);
    }

    pub fn crash(&mut self, machine: usize, left: Left) {
        if self.machines[machine].replica.take().is_none() {
            return;
        }
        self.met.note("crash");
        self.tell(|| format!("{machine} crashes"));
        let node = &mut self.machines[machine];
        node.life += 1;
        node.is_syncing = false;
        node.dies_in_turn = false;
        node.stale_now = None;
        node.turn_at = u64::MAX;
        node.inbox.clear();
        if node.disk.crash(&mut self.rng, left) > 0 {
            self.met.note("an unsynced write lost");
        }
        let id = node.uuid.node_id();
        self.check_crash(machine);
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            self.arrive(other, Input::LinkDown(id));
        }
        let nodes = self.machines.len();
        let mut again = self.clients.on_crash(machine, nodes);
        again.extend(self.watchers.on_crash(machine, nodes));
        self.ask_again(again);
        let pause = self.rng.log_between(5 * MS, 2_500 * MS);
        self.schedule(self.now + pause, Event::Restart { machine });
    }

    /// A crash at a step of a write to the disk; `word` is what the node would have heard of it.
    fn crash_at(&mut self, machine: usize, step: Step, word: Input) {
        match step {
            Step::Before | Step::Behind => self.crash(machine, Left::Nothing),
            Step::Amid => self.crash(machine, Left::Some),
            Step::AtTheWord => {
                self.machines[machine].dies_in_turn = true;
                self.arrive(machine, word);
            }
        }
    }

    fn heal(&mut self) {
        self.is_faulty = false;
        self.is_healed = true;
        self.loss_permille = 0;
        self.lossless_since = self.now;
        self.tell(|| "everything is healed".to_owned());
        self.heal_links();
        for machine in 0..self.machines.len() {
            let node = &mut self.machines[machine];
            node.paused_until = node.paused_until.min(self.now);
            node.slow_until = node.slow_until.min(self.now);
            self.start(machine);
            self.arrive(machine, Input::DiskIsLow(false));
            // A turn that was put off by a pause comes now.
            self.machines[machine].turn_at = u64::MAX;
            self.wake(machine, self.now);
        }
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.machines[*at].replica.as_ref().is_some_and(|replica| replica.raft().is_leader());
        let term = |at: &usize| replica_of(&self.machines[*at]).raft().term();
        (0..self.machines.len()).filter(leads).max_by_key(term)
    }

    fn is_member(&self, machine: usize) -> bool {
        let id = self.machines[machine].uuid.node_id();
        let leader = self.leader().map(|leader| replica_of(&self.machines[leader]).raft());
        leader.is_some_and(|leader| leader.membership().config.contains(id))
    }
}

fn replica_of(machine: &Machine) -> &Replica {
    machine.replica.as_ref().expect("it runs")
}

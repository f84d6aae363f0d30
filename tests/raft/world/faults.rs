//! What goes wrong, and what operators do meanwhile.

use bigbunny::kv::ask::Question;
use bigbunny::kv::command::{Change, Command};
use bigbunny::kv::replica::Input;
use bigbunny::raft::member::Uuid;

use super::{ADMIN_IDS, BURST_IDS, Event, MS, World};
use crate::disk::Left;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash,
    CrashLeader,
    CrashMinority,
    CrashAll,
    /// Every machine at once, without a byte of what was not synced.
    PowerLost,
    CutOneWay,
    CutBothWays,
    Partition,
    LeaderCutOff,
    LeaderDeaf,
    LeaderMute,
    Stall,
    Pause,
    PauseLeader,
    /// Between the look at the clock and what follows from it.
    PauseInTurn,
    /// The same, and when it goes on nobody hears it.
    PauseInTurnCutOff,
    SlowDisk,
    FullDisk,
    Loss,
    Burst,
    Backup,
    Transfer,
    /// Something goes wrong with one of the two while the lead is handed over.
    DisturbedTransfer,
    AddLearner,
    RemoveLearner,
    ChangeMembership,
    RemoveLeader,
}

impl Fault {
    /// All of them, with how often each happens where it does.
    pub const ALL: &[(Self, u32)] = &[
        (Self::Crash, 6),
        (Self::CrashLeader, 4),
        (Self::CrashMinority, 2),
        (Self::CrashAll, 1),
        (Self::PowerLost, 1),
        (Self::CutOneWay, 3),
        (Self::CutBothWays, 3),
        (Self::Partition, 4),
        (Self::LeaderCutOff, 3),
        (Self::LeaderDeaf, 2),
        (Self::LeaderMute, 2),
        (Self::Stall, 4),
        (Self::Pause, 2),
        (Self::PauseLeader, 3),
        (Self::PauseInTurn, 3),
        (Self::PauseInTurnCutOff, 3),
        (Self::SlowDisk, 3),
        (Self::FullDisk, 2),
        (Self::Loss, 2),
        (Self::Burst, 1),
        (Self::Backup, 2),
        (Self::Transfer, 5),
        (Self::DisturbedTransfer, 4),
        (Self::AddLearner, 4),
        (Self::RemoveLearner, 3),
        (Self::ChangeMembership, 6),
        (Self::RemoveLeader, 3),
    ];
}

/// Writes of one burst: more than one message holds.
const BURST: u64 = 650;

impl World {
    pub(super) fn random_fault(&mut self) {
        let (fault, _) = Fault::ALL[self.rng.weighted(&self.profile.weights)];
        let machine = self.rng.index(self.machines.len());
        let nanos = self.rng.log_between(20 * MS, 3_000 * MS);
        self.tell(|| format!("-- {fault:?}"));
        self.fault(fault, machine, nanos);
    }

    /// The leader, if there is one, or else that machine.
    fn leader_or(&self, machine: usize) -> usize {
        self.leader().unwrap_or(machine)
    }

    pub fn fault(&mut self, fault: Fault, machine: usize, nanos: u64) {
        let count = self.machines.len();
        match fault {
            Fault::Crash => self.crash(machine, Left::Some),
            Fault::CrashLeader => {
                self.met.note("crash of a leader");
                self.crash(self.leader_or(machine), Left::Some);
            }
            Fault::CrashMinority => {
                if count > 2 {
                    self.met.note("crash of a minority");
                    for at in 0..(count - 1) / 2 {
                        self.crash((machine + at) % count, Left::Some);
                    }
                }
            }
            Fault::CrashAll => {
                self.met.note("crash of all");
                (0..count).for_each(|machine| self.crash(machine, Left::Some));
            }
            Fault::PowerLost => {
                self.met.note("crash of all, without what was not synced");
                (0..count).for_each(|machine| self.crash(machine, Left::Nothing));
            }
            Fault::CutOneWay => {
                self.met.note("a cut one way");
                let to = self.rng.index(count);
                self.cut(machine, to, nanos);
            }
            Fault::CutBothWays => {
                self.met.note("a cut both ways");
                let to = self.rng.index(count);
                self.cut(machine, to, nanos);
                self.cut(to, machine, nanos);
            }
            Fault::Partition => {
                self.met.note("a partition");
                let with: Vec<bool> = (0..count).map(|_| self.rng.one_in(2)).collect();
                let is_one_way = self.rng.one_in(3);
                self.cut_where(nanos, |from, to| with[from] != with[to] && (with[from] || !is_one_way));
            }
            Fault::LeaderCutOff => {
                self.met.note("a leader cut off");
                let leader = self.leader_or(machine);
                self.cut_where(nanos, |from, to| from == leader || to == leader);
            }
            Fault::LeaderDeaf => {
                self.met.note("a deaf leader");
                let leader = self.leader_or(machine);
                self.cut_where(nanos, |_, to| to == leader);
            }
            Fault::LeaderMute => {
                self.met.note("a mute leader");
                let leader = self.leader_or(machine);
                self.cut_where(nanos, |from, _| from == leader);
            }
            Fault::Stall => {
                self.met.note("a stalled link");
                let to = self.rng.index(count);
                self.stall(machine, to, nanos);
            }
            Fault::Pause => {
                self.met.note("a pause");
                self.pause(machine, nanos / 2);
            }
            Fault::PauseLeader => {
                self.met.note("a pause of a leader");
                self.pause(self.leader_or(machine), nanos / 2);
            }
            Fault::PauseInTurn => {
                if self.leader().is_some() {
                    self.met.note("a pause of a leader in a turn");
                }
                self.pause_in_turn(self.leader_or(machine), nanos / 2);
            }
            Fault::PauseInTurnCutOff => {
                self.met.note("a pause of a leader in a turn that cuts it off");
                let leader = self.leader_or(machine);
                self.pause_in_turn(leader, nanos / 2);
                self.cut_where(nanos, |from, to| from == leader || to == leader);
            }
            Fault::SlowDisk => {
                self.met.note("a slow disk");
                self.machines[machine].slow_until = self.now + nanos;
            }
            Fault::FullDisk => {
                self.met.note("a full disk");
                self.arrive(machine, Input::DiskIsLow(true));
                let life = self.machines[machine].life;
                self.schedule(self.now + nanos, Event::DiskRoom { machine, life });
            }
            Fault::Loss => {
                self.loss_permille = self.rng.pick(&[0, 0, 0, 5, 50, 200]);
                self.lossless_since = self.now;
            }
            Fault::Burst => self.burst(machine),
            Fault::Backup => {
                self.ask_admin(machine, Question::Backup);
            }
            Fault::Transfer => {
                let to = self.rng.index(count);
                let uuid = (!self.rng.one_in(3)).then(|| self.machines[to].uuid);
                self.ask_admin(machine, Question::TransferLeader(uuid));
            }
            Fault::DisturbedTransfer => {
                let to = self.rng.index(count);
                self.disturbed_transfer(machine, to, nanos);
            }
            Fault::AddLearner => {
                let member = self.rng.index(count);
                if self.may_be_named(member) {
                    self.ask_admin(machine, Question::AddLearner(self.member(member)));
                }
            }
            Fault::RemoveLearner => {
                let learner = self.machines[self.rng.index(count)].uuid;
                self.ask_admin(machine, Question::RemoveLearner(learner));
            }
            Fault::ChangeMembership => {
                let named: Vec<usize> = (0..count).filter(|_| !self.rng.one_in(3)).collect();
                let voters = self.uuids_of(named.into_iter());
                if !voters.is_empty() {
                    self.ask_admin(machine, Question::ChangeMembership(voters));
                }
            }
            Fault::RemoveLeader => {
                let leader = self.leader();
                let others = self.uuids_of((0..count).filter(|at| Some(*at) != leader));
                if leader.is_some() && !others.is_empty() {
                    self.ask_admin(machine, Question::ChangeMembership(others));
                }
            }
        }
    }

    /// Of those of some machines that operators may name.
    fn uuids_of(&self, machines: impl Iterator<Item = usize>) -> Vec<Uuid> {
        machines.filter(|at| self.may_be_named(*at)).map(|at| self.machines[at].uuid).collect()
    }

    /// It has looked at the clock, and goes on as if no time had passed.
    fn pause_in_turn(&mut self, machine: usize, nanos: u64) {
        self.machines[machine].stale_now = Some(self.local(machine));
        self.pause(machine, nanos);
    }

    fn disturbed_transfer(&mut self, asked: usize, to: usize, nanos: u64) {
        let Some(leader) = self.leader().filter(|leader| *leader != to) else { return };
        self.met.note("a fault amid a hand-over");
        self.ask_admin(asked, Question::TransferLeader(Some(self.machines[to].uuid)));
        match self.rng.below(6) {
            0 => self.crash(to, Left::Some),
            1 => self.crash(leader, Left::Some),
            2 => self.pause(to, nanos / 2),
            3 => self.pause(leader, nanos / 2),
            4 => self.cut(leader, to, nanos),
            _ => self.cut(to, leader, nanos),
        }
    }

    /// What an operator asks of a node.
    pub fn ask_admin(&mut self, machine: usize, question: Question) -> u64 {
        if matches!(question, Question::ChangeMembership(_) | Question::TransferLeader(_) | Question::AddLearner(_)) {
            self.reign_changes = self.now;
        }
        self.admin_id += 1;
        let id = ADMIN_IDS.start + self.admin_id;
        self.arrive(machine, Input::Question { id, question, is_stale: false });
        id
    }

    /// Many writes at once, in one turn of the leader's.
    fn burst(&mut self, machine: usize) {
        self.met.note("a burst of writes");
        let to = self.leader_or(machine);
        if self.is_blank(to) {
            return;
        }
        for _ in 0..BURST {
            self.burst_id += 1;
            let id = BURST_IDS.start + self.burst_id;
            let key = format!("burst-{}", self.burst_id % 4);
            let changes = vec![Change::Set { key, value: format!("b{id}") }];
            let question = Question::Write(Command { idempotency_key: None, changes, is_batch: false });
            self.arrive(to, Input::Question { id, question, is_stale: false });
        }
    }

    pub(super) fn pause(&mut self, machine: usize, nanos: u64) {
        let node = &mut self.machines[machine];
        node.paused_until = node.paused_until.max(self.now + nanos);
    }

    fn cut_where(&mut self, nanos: u64, is_cut: impl Fn(usize, usize) -> bool) {
        let count = self.machines.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if is_cut(from, to) {
                self.cut(from, to, nanos);
            }
        }
    }
}

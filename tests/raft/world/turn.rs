//! The turns of the real code on a machine: what has come is handled, what it says is carried out, and its disk may die at any step of that.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bigbunny::kv::ask::{Answer, Kind as AnswerKind};
use bigbunny::kv::command::{Change, Command};
use bigbunny::kv::replica::{Input, Notice, Outbox};
use bigbunny::raft::Term;
use bigbunny::raft::lead::Image;
use bigbunny::raft::member::Uuid;

use super::{ADMIN_IDS, BURST_IDS, Event, MS, STALE_IDS, World, replica_of};
use crate::clients::index_of;
use crate::disk::Left;
use crate::met::{Kind, Step};

impl World {
    /// Something comes to a machine; its next turn handles it.
    pub fn arrive(&mut self, machine: usize, input: Input) {
        if self.machines[machine].replica.is_none() {
            return;
        }
        if let Input::Message { from, message, .. } = &input {
            self.tell(|| format!("{machine} < {} {message:?}", self.numbers.get(from).copied().unwrap_or(99)));
        } else if let Input::Question { id, question, .. } = &input {
            self.tell(|| format!("{machine} ? {id} {question:?}"));
        }
        // What comes when is the whole of a run.
        let kind = std::mem::discriminant(&input);
        let mut hasher = DefaultHasher::new();
        (self.met.trace, self.now, machine, kind).hash(&mut hasher);
        self.met.trace = hasher.finish();
        self.machines[machine].inbox.push(input);
        let delay = self.rng.log_between(MS / 200, MS / 10);
        self.wake(machine, self.now + delay);
    }

    pub(super) fn wake(&mut self, machine: usize, at: u64) {
        if at < self.machines[machine].turn_at {
            self.machines[machine].turn_at = at;
            self.schedule(at, Event::Turn { machine, at });
        }
    }

    /// One turn of a machine's loop: what the disk has done, what nodes say, clients, time, and the end.
    pub(super) fn turn(&mut self, machine: usize) {
        let local = self.local(machine);
        let node = &mut self.machines[machine];
        let now = node.stale_now.take().unwrap_or(local);
        let mut inbox = std::mem::take(&mut node.inbox);
        let Some(replica) = &mut node.replica else { return };
        inbox.sort_by_key(|input| match input {
            Input::Saved(_) | Input::ImageSaved(_) | Input::DiskIsLow(_) | Input::ImageWaits(_) => 0,
            Input::LinkUp(_) | Input::LinkDown(_) | Input::Message { .. } => 1,
            Input::Question { .. } | Input::Gone { .. } => 2,
            Input::Time | Input::EndOfTurn => 3,
        });
        let (was_leader, was_candidate) = (replica.raft().is_leader(), replica.raft().is_candidate());
        let mut out = Outbox::default();
        let mut heard = Vec::new();
        for input in inbox {
            if let Input::Message { from, .. } = &input {
                heard.push(*from);
            }
            replica.handle(now, input, &mut out);
        }
        if replica.next_timeout().is_some_and(|due| due <= now) {
            replica.handle(now, Input::Time, &mut out);
        }
        replica.handle(now, Input::EndOfTurn, &mut out);
        let cluster = replica.raft().cluster();
        let has_work = replica.has_work();
        let due = replica.next_timeout();
        heard.into_iter().for_each(|from| self.note_heard(machine, from));
        if out.notices.iter().any(|notice| matches!(notice, Notice::BecameLeader { .. })) {
            self.note_leads(machine);
        }
        let raft = replica_of(&self.machines[machine]).raft();
        let (is_leader, is_candidate) = (raft.is_leader(), raft.is_candidate());
        if was_leader && !is_leader {
            self.check_unseated(machine);
        }
        if was_candidate && !is_candidate && !is_leader {
            self.met.note("a candidate beaten");
        }
        self.check_machine(machine);
        if std::mem::take(&mut self.machines[machine].dies_in_turn) {
            return self.crash(machine, Left::Some);
        }
        let life = self.machines[machine].life;
        self.carry_out(machine, cluster, out);
        if self.machines[machine].life != life {
            return;
        }
        if has_work {
            let at = self.now + self.rng.log_between(MS / 100, 2 * MS);
            self.wake(machine, at);
        }
        if let Some(due) = due {
            let at = self.when(machine, due).max(self.now + MS / 100);
            self.wake(machine, at);
        }
    }

    fn carry_out(&mut self, machine: usize, cluster: Option<Uuid>, out: Outbox) {
        let life = self.machines[machine].life;
        self.note_notices(machine, &out.notices);
        let mut left = usize::MAX;
        let crash_per_100_000 = if self.is_faulty { self.profile.turn_crash_per_100_000 } else { 0 };
        if crash_per_100_000 > 0 && self.rng.below(100_000) < crash_per_100_000 {
            self.met.note("crash in a turn");
            left = self.rng.index(out.saves.len() + out.images.len() + out.messages.len() + out.answers.len() + 1);
        }
        let mut goes_on = || {
            let goes_on = left > 0;
            left = left.saturating_sub(1);
            goes_on
        };
        let saves: Vec<_> = out.saves.into_iter().take_while(|_| goes_on()).collect();
        let images: Vec<_> = out.images.into_iter().take_while(|_| goes_on()).collect();
        let messages: Vec<_> = out.messages.into_iter().take_while(|_| goes_on()).collect();
        let answers: Vec<_> = out.answers.into_iter().take_while(|_| goes_on()).collect();
        let mut kinds = Vec::new();
        for save in saves {
            self.tell(|| format!("{machine} saves {save:?}"));
            kinds.extend(self.machines[machine].disk.kinds_of(&save));
            self.machines[machine].disk.write(save);
        }
        if !self.crashes_at_disk(machine, &kinds) {
            self.sync(machine);
        }
        for image in images {
            self.save_image(machine, life, image);
        }
        for (to, message) in messages {
            self.send(machine, to, cluster, &message);
        }
        for (id, answer) in answers {
            self.answer(machine, id, answer);
        }
        if left == 0 {
            self.crash(machine, Left::Some);
        }
    }

    fn answer(&mut self, machine: usize, id: u64, answer: Answer) {
        if STALE_IDS.contains(&id) {
            return self.check_stale(machine, id, &answer);
        }
        if answer.kind == AnswerKind::Bytes {
            self.met.note("a backup taken");
            self.check_image(&answer.body);
            self.tell(|| format!("operator {id}: {} bytes", answer.body.len()));
        } else {
            self.tell(|| format!("client {id}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
        if BURST_IDS.contains(&id) {
            if answer.status == 200 {
                let changes =
                    vec![Change::Set { key: format!("burst-{}", (id - BURST_IDS.start) % 4), value: format!("b{id}") }];
                let command = Command { idempotency_key: None, changes, is_batch: false };
                self.check_claim(index_of(&String::from_utf8_lossy(&answer.body)), &command.to_bytes());
            }
            return;
        }
        if !ADMIN_IDS.contains(&id) {
            let slowest = if self.is_faulty && self.rng.one_in(50) { 300 * MS } else { MS };
            let delay = self.rng.log_between(MS / 50, slowest);
            return self.schedule(self.now + delay, Event::Answer { id, answer });
        }
        let text = String::from_utf8_lossy(&answer.body);
        if text.contains("Transferred") {
            self.met.note("leader changed by request");
        } else if text.contains("still leads") {
            self.met.note("leader kept after a failed hand-over");
        } else if text.contains("Added") {
            self.met.note("learner added");
        } else if text.contains("Removed") {
            self.met.note("a learner removed");
        }
        self.admin_answers.insert(id, answer);
    }

    fn note_notices(&mut self, machine: usize, notices: &[Notice]) {
        for notice in notices {
            self.tell(|| format!("{machine} ! {notice:?}"));
            match notice {
                Notice::BecameLeader { .. } => self.met.note("an election"),
                Notice::LostLeadership { .. } => {
                    self.met.note("lost lead");
                    let raft = replica_of(&self.machines[machine]).raft();
                    if !raft.membership().is_voter(raft.id()) {
                        self.met.note("a leader removed");
                    } else if raft.leader().is_none() && raft.term() > self.newest_term_beside(machine) {
                        self.met.note("a leader of nobody steps down");
                    }
                }
                Notice::MembershipChanged { .. } => self.note_members(machine),
                Notice::SnapshotSaved { .. } => self.met.note("a snapshot saved"),
                Notice::SnapshotInstalled { .. } => {
                    self.met.note("a snapshot installed");
                    let raft = replica_of(&self.machines[machine]).raft();
                    if raft.last() > raft.start() {
                        self.met.note("a snapshot installed below the log's end");
                    }
                }
                Notice::Removed => self.met.note("a voter removed"),
                Notice::BadSnapshot { .. } | Notice::OtherCluster { .. } | Notice::Broken(_) => {
                    self.fail(|| format!("node {machine} says {notice:?}"));
                }
                Notice::Joined { .. }
                | Notice::InitialisedByWrite { .. }
                | Notice::Initialised { .. }
                | Notice::LeaderChanged { .. }
                | Notice::DiskIsLow
                | Notice::DiskHasRoom
                | Notice::SnapshotWaits
                | Notice::SnapshotGoesOn => {}
            }
        }
    }

    fn newest_term_beside(&self, machine: usize) -> Term {
        let others = self.machines.iter().enumerate().filter(|(at, _)| *at != machine);
        let terms = others.filter_map(|(_, other)| Some(other.replica.as_ref()?.raft().term()));
        terms.max().unwrap_or(Term::ZERO)
    }

    fn note_members(&mut self, machine: usize) {
        let membership = replica_of(&self.machines[machine]).raft().membership();
        if membership.config.is_joint_consensus() {
            self.met.note("members in two sets");
        }
        self.reign_changes = self.now;
    }

    // Disks.

    /// Begins a sync of all that was written, if none is under way.
    pub(super) fn sync(&mut self, machine: usize) {
        let node = &mut self.machines[machine];
        if node.is_syncing {
            return;
        }
        let Some(batch) = node.disk.newest_batch() else { return };
        node.is_syncing = true;
        let life = node.life;
        let delay = self.sync_time(machine);
        self.schedule(self.now + delay, Event::Synced { machine, life, batch });
    }

    fn sync_time(&mut self, machine: usize) -> u64 {
        let is_slow = self.machines[machine].slow_until > self.now;
        if is_slow { self.rng.between(50, 700) * MS } else { self.rng.log_between(MS / 10, 8 * MS) }
    }

    /// Whether the machine is to crash at this write, and at which step. What is rare is hit more often.
    fn disk_crash(&mut self, kinds: &[Kind]) -> Option<Step> {
        let times = |kind: &Kind| match kind {
            Kind::Entries => 1,
            Kind::Vote | Kind::OwnSnapshot | Kind::Compaction => 5,
            Kind::Installation | Kind::LeadersSnapshot => 10,
            Kind::EntriesForOthers | Kind::Cluster | Kind::Removal => 40,
            Kind::Cut => 200,
        };
        let permille = self.profile.disk_crash_permille * kinds.iter().map(times).max().unwrap_or(0);
        let is_hit = !self.is_healed && self.rng.chance(permille);
        let step = is_hit.then(|| self.rng.pick(&Step::ALL))?;
        kinds.iter().for_each(|kind| self.met.note_step(*kind, step));
        self.tell(|| format!("a crash {step:?} {kinds:?}"));
        Some(step)
    }

    fn crashes_at_disk(&mut self, machine: usize, kinds: &[Kind]) -> bool {
        // Only where this write is the next that is synced.
        if self.machines[machine].is_syncing {
            return false;
        }
        let Some(step) = self.disk_crash(kinds) else { return false };
        let Some(batch) = self.machines[machine].disk.newest_batch() else { return false };
        let delay = self.sync_time(machine);
        let delay = match step {
            Step::Before => 0,
            Step::Amid => delay / 2,
            Step::Behind | Step::AtTheWord => delay,
        };
        self.machines[machine].is_syncing = true;
        let life = self.machines[machine].life;
        self.schedule(self.now + delay, Event::DiskCrash { machine, life, batch, step });
        true
    }

    fn save_image(&mut self, machine: usize, life: u64, image: Arc<Image>) {
        let last = image.last;
        let is_own = last.index <= replica_of(&self.machines[machine]).applied().index;
        self.machines[machine].disk.write_image(image);
        let delay = self.rng.log_between(MS, 200 * MS);
        match self.disk_crash(&[if is_own { Kind::OwnSnapshot } else { Kind::LeadersSnapshot }]) {
            Some(step) => self.schedule(self.now + delay, Event::ImageCrash { machine, life, last, step }),
            None => self.schedule(self.now + delay, Event::ImageSynced { machine, life, last }),
        }
    }
}

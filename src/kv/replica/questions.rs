//! A question on its way to its answer: proposed, proved, passed on, or waiting, for as long as its patience lasts; and the watches.

use noraft::{LogIndex, NodeId};

use super::admin::{LEARNER_WAIT_MAX, Task};
use super::{
    ANSWER_WAIT_MAX, Asked, Asker, Outbox, PassedOn, Proposed, QUESTIONS_MAX, Read, Replica, SWEEP_INTERVAL,
    WATCH_TIME_MAX, Watch,
};
use crate::kv::ask::{Answer, Question};
use crate::kv::command::Command;
use crate::kv::map::BESIDE_KEY_BYTES;
use crate::planted::{self, Bug};
use crate::raft::member::Uuid;
use crate::raft::message::{FORWARDED_MAX_BYTES, Message};
use crate::time::Instant;

impl Replica {
    pub(super) fn on_question(&mut self, now: Instant, asked: Asked, out: &mut Outbox) {
        match asked.question {
            Question::GetId | Question::Metrics { .. } | Question::Healthz => {
                if let Some(answer) = self.answer_of_self(now, &asked.question) {
                    out.reply(asked.asker, answer);
                }
            }
            Question::Backup => self.on_backup(asked.asker, out),
            Question::Init => self.on_init(now, asked.asker, out),
            Question::Watch { prefix, from } => self.on_watch(now, asked.asker, prefix, from, out),
            Question::Write(_)
            | Question::Read { .. }
            | Question::List { .. }
            | Question::AddLearner(_)
            | Question::RemoveLearner(_)
            | Question::ChangeMembership(_)
            | Question::TransferLeader(_) => {
                if matches!(asked.question, Question::Write(_)) && self.raft.cluster().is_none() {
                    self.init_by_write(now, out);
                }
                if self.raft.is_leader() && !self.raft.is_transferring() {
                    self.lead_question(now, asked, out);
                } else {
                    self.pass_on(now, asked, out);
                }
            }
        }
    }

    /// This node leads: it proposes, or seeks proof that it still leads.
    fn lead_question(&mut self, now: Instant, asked: Asked, out: &mut Outbox) {
        let Asked { asker, question, leader_deadline } = asked;
        let deadline = now + ANSWER_WAIT_MAX;
        match question {
            Question::Write(command) => {
                if let Some(answer) = self.admit_write(&command) {
                    return out.reply(asker, answer);
                }
                match self.raft.propose(now, command.to_bytes().into()) {
                    Some(position) => {
                        let proposed = Proposed { term: position.term, asker, command, deadline };
                        self.proposed.insert(position.index.get(), proposed);
                    }
                    None => {
                        let question = Question::Write(command);
                        self.wait_for_leader(now, Asked { asker, question, leader_deadline }, out);
                    }
                }
            }
            Question::Read { .. } | Question::List { .. } => {
                if planted::is(Bug::ReadUnproved)
                    && let Some(answer) = self.answer_from_here(&question)
                {
                    return out.reply(asker, answer);
                }
                let number = self.next_number();
                if self.raft.read(number) {
                    self.reads.insert(number, Read { asker, question, deadline });
                } else {
                    self.wait_for_leader(now, Asked { asker, question, leader_deadline }, out);
                }
            }
            Question::AddLearner(member) => self.queue_admin(now, asker, Task::Add(member), out),
            Question::RemoveLearner(uuid) => self.queue_admin(now, asker, Task::Remove(uuid.node_id()), out),
            Question::ChangeMembership(uuids) => {
                self.queue_admin(now, asker, Task::Change(uuids.iter().map(Uuid::node_id).collect()), out);
            }
            Question::TransferLeader(uuid) => self.queue_admin(now, asker, Task::Transfer(uuid), out),
            Question::Watch { .. }
            | Question::Init
            | Question::GetId
            | Question::Metrics { .. }
            | Question::Backup
            | Question::Healthz => {}
        }
    }

    /// Whether there is room for a write; the answer if not.
    fn admit_write(&self, command: &Command) -> Option<Answer> {
        let adds: usize = command
            .changes
            .iter()
            .map(|change| change.value().map_or(0, |value| value.len() + change.key().len() + BESIDE_KEY_BYTES))
            .sum();
        // What only takes away is let through even then.
        if adds == 0 {
            return None;
        }
        if self.disk_is_low {
            return Some(Answer::full("the disk of the leader is nearly full; free some of it"));
        }
        let limit = self.settings.memory_limit_bytes;
        let is_too_much = limit > 0 && self.map.bytes() + adds as u64 > limit;
        is_too_much.then(|| Answer::full("--kv-memory-limit is reached; delete keys, or raise it on every node"))
    }

    /// Another node leads: it is asked for the client. One node does not pass on what another has passed on.
    fn pass_on(&mut self, now: Instant, asked: Asked, out: &mut Outbox) {
        let leader = self.raft.leader().filter(|leader| *leader != self.raft.id());
        let (Some(to), Asker::Client(client)) = (leader, asked.asker) else {
            return self.wait_for_leader(now, asked, out);
        };
        let Asked { question, leader_deadline, .. } = asked;
        let Some(bytes) = question.to_bytes().filter(|bytes| bytes.len() <= FORWARDED_MAX_BYTES) else {
            return out.answer(client, Answer::not_allowed("it is too long to be passed on; ask the leader itself"));
        };
        let id = self.next_number();
        let is_slow = matches!(question, Question::AddLearner(_) | Question::ChangeMembership(_));
        let deadline = now + if is_slow { LEARNER_WAIT_MAX } else { ANSWER_WAIT_MAX };
        self.passed_on.insert(id, PassedOn { to, client, question, leader_deadline, deadline });
        out.messages.push((to, Message::Forward { id, request: bytes }));
    }

    /// Nobody leads, as far as this node knows: it waits. A node that has asked this one for its client is told, and waits itself.
    pub(super) fn wait_for_leader(&mut self, now: Instant, asked: Asked, out: &mut Outbox) {
        match asked.asker {
            Asker::Node(to, id) => out.messages.push((to, Message::Forwarded { id, response: Vec::new() })),
            Asker::Client(client) if asked.leader_deadline <= now || self.questions_len() >= QUESTIONS_MAX => {
                out.answer(client, Answer::no_leader());
            }
            Asker::Client(_) => self.waiting.push_back(asked),
        }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The answer to a read from what is applied here.
    pub(super) fn answer_from_here(&self, question: &Question) -> Option<Answer> {
        match question {
            Question::Read { key } => Some(Answer::of_read(self.map.get(key).map(|value| &**value))),
            Question::List { prefix, after, limit } => {
                Some(Answer::of_list(self.map.range(prefix, after.as_deref()), *limit))
            }
            Question::Write(_)
            | Question::Watch { .. }
            | Question::Init
            | Question::GetId
            | Question::AddLearner(_)
            | Question::RemoveLearner(_)
            | Question::ChangeMembership(_)
            | Question::TransferLeader(_)
            | Question::Metrics { .. }
            | Question::Backup
            | Question::Healthz => None,
        }
    }

    /// How old what is applied here may be: how long ago the leader knew of nothing more.
    pub(super) fn lag_ms(&self, now: Instant) -> u64 {
        if self.raft.is_leader() {
            return 0;
        }
        u64::try_from(now.since(self.as_of).as_millis()).unwrap_or(u64::MAX)
    }

    /// The leader has said how far is committed.
    pub(super) fn note_leaders_commit(&mut self, now: Instant, commit: LogIndex) {
        // The one before, until this node has come so far: whoever is always a little behind would never know how much.
        self.leaders_commit.get_or_insert((commit.get(), now));
        self.note_applied();
    }

    /// More is applied, or more is known of what the leader has.
    pub(super) fn note_applied(&mut self) {
        let applied = self.applied.index.get();
        if let Some((_, said_at)) = self.leaders_commit.take_if(|(commit, _)| *commit <= applied) {
            self.as_of = said_at;
        }
    }

    // Watches.

    fn on_watch(&mut self, now: Instant, asker: Asker, prefix: String, from: Option<u64>, out: &mut Outbox) {
        let Asker::Client(client) = asker else { return };
        let from = from.unwrap_or_else(|| self.applied.index.get());
        let watch = Watch { client, prefix, from, deadline: now + WATCH_TIME_MAX };
        match self.watch_answer(&watch, false) {
            Some(answer) => out.answer(client, answer),
            None => self.watches.push(watch),
        }
    }

    fn watch_answer(&self, watch: &Watch, may_be_empty: bool) -> Option<Answer> {
        let Some(events) = self.map.events_behind(watch.from) else {
            return Some(Answer::compacted(self.map.compacted()));
        };
        // Who asks from an index that this node has not come to waits for it.
        let upto = self.applied.index.get().max(watch.from);
        Answer::of_watch(events, &watch.prefix, upto, may_be_empty)
    }

    pub(super) fn tell_watches(&mut self, now: Instant, out: &mut Outbox) {
        if !std::mem::take(&mut self.has_news) || self.watches.is_empty() {
            return;
        }
        self.answer_watches(now, out);
    }

    fn answer_watches(&mut self, now: Instant, out: &mut Outbox) {
        let mut watches = std::mem::take(&mut self.watches);
        watches.retain_mut(|watch| match self.watch_answer(watch, watch.deadline <= now) {
            Some(answer) => {
                out.answer(watch.client, answer);
                false
            }
            None => {
                // What has been looked at is not looked at again.
                watch.from = watch.from.max(self.applied.index.get()) + u64::from(planted::is(Bug::WatchSkips));
                true
            }
        });
        self.watches = watches;
    }

    // The end of patience.

    pub(super) fn sweep(&mut self, now: Instant, out: &mut Outbox) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        self.is_hopeful |= !self.waiting.is_empty() && self.raft.leader().is_some();
        for asked in std::mem::take(&mut self.waiting) {
            if asked.leader_deadline <= now {
                out.reply(asked.asker, Answer::no_leader());
            } else {
                self.waiting.push_back(asked);
            }
        }
        for (_, proposed) in self.proposed.extract_if(.., |_, proposed| proposed.deadline <= now) {
            out.reply(proposed.asker, Answer::unknown());
        }
        for (_, read) in self.reads.extract_if(.., |_, read| read.deadline <= now) {
            out.reply(read.asker, Answer::no_leader());
        }
        for (_, passed_on) in self.passed_on.extract_if(.., |_, passed_on| passed_on.deadline <= now) {
            let is_change = passed_on.question.is_change();
            out.answer(passed_on.client, if is_change { Answer::unknown() } else { Answer::no_leader() });
        }
        self.answer_watches(now, out);
        self.sweep_admin(now, out);
    }

    /// The way to a node is lost: what was passed on to it is done or not.
    pub(super) fn on_lost(&mut self, now: Instant, to: Option<NodeId>, out: &mut Outbox) {
        let lost = self.passed_on.extract_if(.., |_, passed_on| Some(passed_on.to) == to);
        for (_, passed_on) in lost.collect::<Vec<(u64, PassedOn)>>() {
            if passed_on.question.is_change() && !planted::is(Bug::ForwardedTwice) {
                out.answer(passed_on.client, Answer::unknown());
            } else {
                self.wait_for_leader(now, passed_on.into_asked(), out);
            }
        }
    }

    /// Nobody waits for that answer any more. What was proposed stays proposed.
    pub(super) fn forget(&mut self, id: u64) {
        self.waiting.retain(|asked| asked.asker != Asker::Client(id));
        self.watches.retain(|watch| watch.client != id);
        self.passed_on.retain(|_, passed_on| passed_on.client != id);
    }
}

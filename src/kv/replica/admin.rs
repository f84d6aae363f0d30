//! What operators ask of a leader: learners, other voters, another leader. One after another, in the order asked; owns whose turn it is and
//! when it is done.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use noraft::NodeId;

use super::{Asker, Outbox, Replica};
use crate::kv::ask::Answer;
use crate::raft::member::{MEMBERS_MAX, Member, Uuid};
use crate::time::Instant;

/// A learner follows when it lacks no more entries than this.
const LEARNER_BEHIND_MAX: u64 = 1000;
/// A learner that does not follow by then is reported; it stays a learner.
pub(super) const LEARNER_WAIT_MAX: Duration = Duration::from_secs(30);
/// What waits for its turn, at most.
pub(super) const QUEUE_MAX: usize = 64;

/// What operators have asked.
#[derive(Debug, Default)]
pub(super) struct Admin {
    queue: VecDeque<Job>,
    current: Option<Job>,
}

#[derive(Debug)]
struct Job {
    asker: Asker,
    task: Task,
    /// Its configuration was proposed.
    is_begun: bool,
    deadline: Instant,
}

#[derive(Debug)]
pub(super) enum Task {
    Add(Member),
    /// A learner has turned out to belong to another cluster, and is to be gone before it is refused.
    TakeBack(NodeId),
    /// The cluster was made, and is to be on the disk before anybody hears of it.
    Init,
    Remove(NodeId),
    Change(BTreeSet<NodeId>),
    Transfer(Option<Uuid>),
}

/// How far a job has come.
enum Progress {
    Waits,
    Begun,
    Done(Answer),
}

impl Admin {
    pub(super) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.current.is_some())
    }
}

impl Replica {
    pub(super) fn queue_admin(&mut self, now: Instant, asker: Asker, task: Task, out: &mut Outbox) {
        if self.admin.queue.len() >= QUEUE_MAX {
            return out.reply(asker, Answer::not_allowed("too many changes of members wait already; try again later"));
        }
        self.admin.queue.push_back(Job { asker, task, is_begun: false, deadline: now + LEARNER_WAIT_MAX });
    }

    /// Goes on with what is under way, or begins the next.
    pub(super) fn step_admin(&mut self, now: Instant, out: &mut Outbox) {
        loop {
            let Some(mut job) = self.admin.current.take().or_else(|| self.admin.queue.pop_front()) else { return };
            match self.advance(now, &mut job) {
                Progress::Done(answer) => out.reply(job.asker, answer),
                Progress::Waits => {
                    self.admin.current = Some(job);
                    return;
                }
                Progress::Begun => {
                    job.is_begun = true;
                    self.admin.current = Some(job);
                    return;
                }
            }
        }
    }

    /// A leader whose own address is another one now, or was never known because it was restored from a backup, tells everybody.
    pub(super) fn announce_own_address(&mut self, now: Instant) {
        let membership = self.raft.membership();
        let own = &self.settings.own;
        if self.raft.is_leader() && membership.find(own.uuid).is_some_and(|known| known.address != own.address) {
            // Refused while another change is under way; then it is tried again.
            let _ = self.raft.propose_config(now, membership.config.clone(), Some(own.clone()));
        }
    }

    fn advance(&mut self, now: Instant, job: &mut Job) -> Progress {
        match &job.task {
            Task::Add(member) => self.advance_add(now, member.clone(), job.is_begun),
            Task::TakeBack(id) => self.advance_take_back(now, *id, job.is_begun),
            Task::Init if self.applied.index.get() == 0 => Progress::Waits,
            Task::Init => Progress::Done(Answer::json(201, "{\"Ok\":\"Initialized\"}")),
            Task::Remove(id) => self.advance_remove(now, *id, job.is_begun),
            Task::Change(voters) => self.advance_change(now, &voters.clone(), job.is_begun),
            Task::Transfer(uuid) => self.advance_transfer(now, *uuid, job.is_begun),
        }
    }

    fn advance_add(&mut self, now: Instant, member: Member, is_begun: bool) -> Progress {
        let id = member.uuid.node_id();
        let membership = self.raft.membership();
        if membership.members.get(&id).is_some_and(|known| known.uuid != member.uuid) {
            return Progress::Done(Answer::not_allowed(
                "its id begins as that of another member; wipe it, so that it draws another",
            ));
        }
        if id == self.raft.id() {
            let is_as_known = membership.find(member.uuid) == Some(&member);
            let other_address = || Answer::not_allowed("this is the leader itself, at another address");
            return Progress::Done(if is_as_known { Answer::ok("Added") } else { other_address() });
        }
        if membership.find(member.uuid) == Some(&member) {
            let is_committed = self.raft.is_membership_committed() && !membership.config.is_joint_consensus();
            let matched = self.raft.matched(id).unwrap_or(0);
            let follows = matched > 0 && matched + LEARNER_BEHIND_MAX >= self.raft.last().index.get();
            return if is_committed && follows { Progress::Done(Answer::ok("Added")) } else { Progress::Waits };
        }
        if is_begun || !self.raft.is_membership_committed() || membership.config.is_joint_consensus() {
            return Progress::Waits;
        }
        let mut config = membership.config.clone();
        if !config.contains(id) {
            if membership.members.len() >= MEMBERS_MAX {
                return Progress::Done(Answer::not_allowed("the cluster has as many members as it may have"));
            }
            config.non_voters.insert(id);
        }
        if self.raft.propose_config(now, config, Some(member)) { Progress::Begun } else { Progress::Waits }
    }

    /// A node has said that it belongs to another cluster: if it was to become a learner of this one, it does not.
    pub(super) fn note_foreigner(&mut self, from: NodeId) {
        if let Some(job) = &mut self.admin.current
            && matches!(&job.task, Task::Add(member) if member.uuid.node_id() == from)
        {
            (job.task, job.is_begun) = (Task::TakeBack(from), false);
        }
    }

    fn advance_take_back(&mut self, now: Instant, id: NodeId, is_begun: bool) -> Progress {
        match self.raft.membership().is_voter(id) {
            true => Progress::Done(Answer::of_foreigner()),
            false => match self.advance_remove(now, id, is_begun) {
                Progress::Done(_) => Progress::Done(Answer::of_foreigner()),
                progress @ (Progress::Waits | Progress::Begun) => progress,
            },
        }
    }

    fn advance_remove(&mut self, now: Instant, id: NodeId, is_begun: bool) -> Progress {
        let membership = self.raft.membership();
        let is_settled = self.raft.is_membership_committed() && !membership.config.is_joint_consensus();
        if is_settled && !membership.config.contains(id) {
            return Progress::Done(Answer::ok("Removed"));
        }
        if is_begun || !is_settled {
            return Progress::Waits;
        }
        let mut config = membership.config.clone();
        if !config.non_voters.remove(&id) {
            return Progress::Done(Answer::not_allowed(
                "it has a vote; name the voters that are to stay to /change-membership",
            ));
        }
        if self.raft.propose_config(now, config, None) { Progress::Begun } else { Progress::Waits }
    }

    fn advance_change(&mut self, now: Instant, voters: &BTreeSet<NodeId>, is_begun: bool) -> Progress {
        let membership = self.raft.membership();
        let is_settled = self.raft.is_membership_committed() && !membership.config.is_joint_consensus();
        if is_settled && membership.config.voters == *voters {
            return Progress::Done(Answer::ok("Changed"));
        }
        if is_begun || !is_settled {
            return Progress::Waits;
        }
        if !voters.iter().all(|id| membership.members.contains_key(id)) {
            return Progress::Done(Answer::not_allowed("not all of them are members; add each as a learner first"));
        }
        let mut config = membership.config.clone();
        config.new_voters.clone_from(voters);
        config.non_voters.retain(|id| !voters.contains(id));
        if self.raft.propose_config(now, config, None) { Progress::Begun } else { Progress::Waits }
    }

    fn advance_transfer(&mut self, now: Instant, uuid: Option<Uuid>, is_begun: bool) -> Progress {
        if is_begun {
            return Progress::Waits;
        }
        let membership = self.raft.membership();
        let to = match uuid {
            Some(uuid) if uuid.node_id() == self.raft.id() => return Progress::Done(Answer::ok("Transferred")),
            Some(uuid) => membership.find(uuid).map(|member| member.uuid.node_id()),
            None => {
                let others = membership.config.voters.iter().filter(|id| **id != self.raft.id());
                others.max_by_key(|id| self.raft.matched(**id)).copied()
            }
        };
        match to {
            Some(to) if self.raft.transfer(now, to) => Progress::Begun,
            Some(_) | None => Progress::Done(Answer::not_allowed("there is no such other voter")),
        }
    }

    pub(super) fn admin_transfer_failed(&mut self, out: &mut Outbox) {
        self.is_hopeful = true;
        if let Some(job) = self.admin.current.take_if(|job| matches!(job.task, Task::Transfer(_))) {
            out.reply(job.asker, Answer::not_allowed("it did not take over in time; this node still leads"));
        }
    }

    /// This node leads no more: what was under way is done, or its fate is open; what waited was not begun.
    pub(super) fn admin_lost_leadership(&mut self, out: &mut Outbox) {
        let Admin { queue, current } = std::mem::take(&mut self.admin);
        if let Some(job) = current {
            let membership = self.raft.membership();
            let answer = match &job.task {
                Task::Transfer(_) => Answer::ok("Transferred"),
                Task::Change(voters)
                    if membership.config.voters == *voters
                        && !membership.config.is_joint_consensus()
                        && self.raft.is_membership_committed() =>
                {
                    Answer::ok("Changed")
                }
                Task::TakeBack(_) => Answer::of_foreigner(),
                Task::Init | Task::Add(_) | Task::Remove(_) | Task::Change(_) => Answer::unknown(),
            };
            out.reply(job.asker, answer);
        }
        for job in queue {
            out.reply(job.asker, Answer::no_leader());
        }
    }

    pub(super) fn sweep_admin(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(job) = self.admin.current.take_if(|job| job.deadline <= now) {
            let answer = match job.task {
                Task::Add(_) => Answer::not_allowed(
                    "it is a learner now, but does not follow yet: is it reachable at this address, with the same --internal-token?",
                ),
                Task::TakeBack(_) => Answer::of_foreigner(),
                Task::Init | Task::Remove(_) | Task::Change(_) | Task::Transfer(_) => Answer::unknown(),
            };
            out.reply(job.asker, answer);
        }
        while self.admin.queue.front().is_some_and(|job| job.deadline <= now) {
            let Some(job) = self.admin.queue.pop_front() else { return };
            out.reply(job.asker, Answer::no_leader());
        }
    }
}

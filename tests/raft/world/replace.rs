//! A machine is replaced by the book: its id is taken out of the cluster, its disk is lost, and it is added again with the id that it draws
//! then. Owns the order of that. Nobody names the old id meanwhile: an operator who promotes what he has just thrown away loses a voter for good.

use bigbunny::kv::ask::Question;
use bigbunny::raft::member::Uuid;

use super::checks::Watched;
use super::{Event, MS, World, replica_of};
use crate::disk::{Disk, Left};

/// How often the operator looks.
pub const REPLACE_INTERVAL: u64 = 150 * MS;

/// Which machine is replaced, and how far that has come.
pub struct Replacement {
    pub machine: usize,
    /// The question that must be answered before it goes on.
    asked: Option<u64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is to vote no more, and is to be no member.
    Leaves,
    /// It has lost its disk and has another id, and is to be a member again.
    Returns,
}

impl Replacement {
    pub fn new(machine: usize) -> Self {
        Self { machine, asked: None, stage: Stage::Leaves }
    }
}

impl World {
    /// Whether operators may name a machine: not one that is being replaced.
    pub(super) fn may_be_named(&self, machine: usize) -> bool {
        self.replacement.as_ref().is_none_or(|replacement| replacement.machine != machine)
    }

    /// Whether a machine belongs to no cluster yet and must not be asked to write, for then it would make one.
    pub(super) fn is_blank(&self, machine: usize) -> bool {
        !self.may_be_named(machine)
            && self.machines[machine].replica.as_ref().is_some_and(|replica| replica.raft().cluster().is_none())
    }

    /// The next step, if it is time for it.
    pub(super) fn replace_on(&mut self) {
        let Some(Replacement { machine, asked, stage }) = self.replacement.take() else { return };
        let status = asked.and_then(|id| self.status_of(id));
        // By one of its answers that is good: the removal is committed, or the new member follows.
        let is_done = status == Some(200);
        let (asked, stage) = match (stage, is_done, self.leader()) {
            (Stage::Returns, true, _) => return self.met.note("a machine wiped and joined again"),
            (Stage::Leaves, true, _) => {
                self.wipe(machine);
                (None, Stage::Returns)
            }
            (_, false, None) => (asked, stage),
            // Until it is done it is asked for again: the last question may be lost.
            (Stage::Leaves, false, Some(leader)) => (self.ask_to_leave(leader, machine), stage),
            (Stage::Returns, false, Some(leader)) => {
                let member = self.member(machine);
                (Some(self.ask_admin(leader, Question::AddLearner(member))), stage)
            }
        };
        self.replacement = Some(Replacement { machine, asked, stage });
    }

    /// Has the others vote, or a learner removed. The question whose good answer says that the machine is no member.
    fn ask_to_leave(&mut self, leader: usize, machine: usize) -> Option<u64> {
        let membership = replica_of(&self.machines[leader]).raft().membership();
        let uuid = self.machines[machine].uuid;
        if !membership.is_voter(uuid.node_id()) {
            return Some(self.ask_admin(leader, Question::RemoveLearner(uuid)));
        }
        let voters = membership.config.voters.iter().filter(|id| **id != uuid.node_id());
        let voters: Vec<Uuid> = voters.filter_map(|id| Some(membership.members.get(id)?.uuid)).collect();
        if !voters.is_empty() {
            self.ask_admin(leader, Question::ChangeMembership(voters));
        }
        None
    }

    /// A machine loses its disk, and with it its id.
    fn wipe(&mut self, machine: usize) {
        self.crash(machine, Left::Nothing);
        self.tell(|| format!("{machine} has lost its disk"));
        let mut bytes = [0; 16];
        bigbunny::node::Entropy::fill(&mut self.rng, &mut bytes);
        bytes[0] = machine as u8;
        let uuid = Uuid::from_random(bytes);
        let node = &mut self.machines[machine];
        self.numbers.remove(&node.uuid.node_id());
        (node.uuid, node.disk) = (uuid, Disk::default());
        node.watched = Watched::default();
        self.numbers.insert(uuid.node_id(), machine);
        // What was on its way was for another, or of another.
        self.events
            .retain(|_, event| !matches!(event, Event::Deliver { from, to, .. } if [*from, *to].contains(&machine)));
    }
}

//! Elections: who is asked for a vote, who is given one, and who leads.

use std::sync::Arc;
use std::time::Duration;

use noraft::{LogPosition, NodeId, Term};

use super::{Append, Event, Node, Outbox, PreVote};
use crate::planted::{self, Bug};
use crate::raft::member::{Membership, Uuid};
use crate::raft::message::Message;
use crate::raft::{ELECTION_TIMEOUT_MAX, ELECTION_TIMEOUT_MIN};
use crate::time::Instant;

impl Node {
    pub(super) fn reset_election_timer(&mut self, now: Instant) {
        // xorshift64: nobody must be able to guess it, and everybody must be able to repeat it from its seed.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let spread = (ELECTION_TIMEOUT_MAX - ELECTION_TIMEOUT_MIN).as_nanos() as u64;
        self.election_due = now + ELECTION_TIMEOUT_MIN + Duration::from_nanos(self.jitter % spread);
    }

    pub(super) fn ask_for_pre_votes(&mut self, now: Instant, out: &mut dyn Outbox) {
        let term = Term::new(self.term().get() + 1);
        self.pre_vote = Some(PreVote { term, granted: [self.id()].into() });
        let last = self.last();
        for id in self.membership.config.unique_nodes().filter(|id| *id != self.id() && self.membership.is_voter(*id)) {
            out.send(id, Message::PreVote { term, last });
        }
        self.begin_election_if_wanted(now);
    }

    /// A learner that hears no leader asks as if it wanted to be elected, which it never does, whatever the others say: a leader
    /// that does not know it any more tells it so.
    pub(super) fn ask_whether_removed(&self, out: &mut dyn Outbox) {
        let (term, last) = (Term::new(self.term().get() + 1), self.last());
        for id in self.membership.config.unique_nodes().filter(|id| self.membership.is_voter(*id)) {
            out.send(id, Message::PreVote { term, last });
        }
    }

    /// A former leader that has begun its own removal, and does not know whether that was committed, takes it out of its log again. noraft lets
    /// nobody ask for votes whose newest configuration leaves him out, and the others, who have not heard of it, cannot win against the longer
    /// log of one whose vote they need: nobody would ever lead. It is safe, because the copy of one who is left out never counted towards
    /// that entry's majority, nor towards that of any entry behind it.
    pub(super) fn take_back_own_removal(&mut self) {
        let own_id = self.id();
        let before = self.membership_index.saturating_sub(1);
        let was_voter = |(_, membership): (LogPosition, Arc<Membership>)| membership.is_voter(own_id);
        if self.membership.is_voter(own_id)
            || self.is_membership_committed()
            || !self.position_and_membership(before).is_some_and(was_voter)
        {
            return;
        }
        let mut entries = self.core.log().entries().clone();
        entries.truncate(usize::try_from(before - self.start().index.get()).unwrap_or(usize::MAX));
        let log = noraft::Log::new(self.start_membership.config.clone(), entries);
        self.core = noraft::Node::restart(own_id, self.term(), self.core.voted_for(), log);
        self.tail.truncate(before);
        self.durable = self.durable.min(before);
        self.next_save.append = Some(Append { prev: before, entries: Vec::new() });
        self.find_membership();
    }

    pub(super) fn begin_election_if_wanted(&mut self, now: Instant) {
        let Some(pre_vote) = &self.pre_vote else { return };
        if pre_vote.term.get() == self.term().get() + 1
            && self.membership.is_majority(|id| pre_vote.granted.contains(&id))
        {
            self.pre_vote = None;
            self.core.handle_election_timeout();
            self.after_core(now);
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        last: LogPosition,
        out: &mut dyn Outbox,
    ) {
        if self.is_stranger_to_leader(from) {
            return self.send_in_term(from, Message::Removed { term: self.term() }, out);
        }
        let hears_leader =
            self.lead.is_some() || (self.leader.is_some() && now.since(self.leader_heard) < ELECTION_TIMEOUT_MIN);
        let hears_leader = hears_leader && !planted::is(Bug::PreVoteAlways);
        let granted = term > self.term() && last >= self.last() && !hears_leader;
        self.send_in_term(from, Message::PreVoteReply { term: self.term(), asked: term, granted }, out);
    }

    /// Somebody who is no member, and this node leads and knows for sure.
    pub(super) fn is_stranger_to_leader(&self, from: NodeId) -> bool {
        self.lead.is_some() && self.is_membership_committed() && !self.membership.config.contains(from)
    }

    /// A newer term: whatever this node was, it is a follower now.
    pub(super) fn observe_term(&mut self, now: Instant, from: NodeId, newer: Option<Term>) {
        if let Some(term) = newer {
            self.tell_core(now, &noraft::Message::RequestVoteReply { from, term, vote_granted: false });
        }
    }

    /// A leader that hears no majority begins a new term, as a follower: noraft knows no other way out.
    pub(super) fn step_down(&mut self, now: Instant) {
        let other = self.membership.config.unique_nodes().find(|id| *id != self.id());
        if let Some(other) = other {
            self.observe_term(now, other, Some(Term::new(self.term().get() + 1)));
        }
    }

    pub(super) fn note_leader(&mut self, now: Instant, from: NodeId) {
        self.leader_heard = now;
        self.pre_vote = None;
        self.set_leader(Some(from));
        self.reset_election_timer(now);
        if self.removed {
            self.set_removed(false);
        }
    }

    pub(super) fn set_leader(&mut self, leader: Option<NodeId>) {
        if self.leader != leader {
            self.leader = leader;
            self.events.push_back(Event::LeaderChanged);
        }
    }

    pub(super) fn set_removed(&mut self, removed: bool) {
        self.removed = removed;
        self.next_save.removed = Some(removed);
    }

    pub(super) fn set_cluster(&mut self, cluster: Uuid) {
        self.cluster = Some(cluster);
        self.next_save.cluster = Some(cluster);
    }

    /// The cluster of the leader that speaks to this node, which belongs to none yet.
    pub fn join(&mut self, now: Instant, cluster: Uuid) {
        if self.cluster.is_none() {
            self.set_cluster(cluster);
            self.reset_election_timer(now);
        }
    }
}

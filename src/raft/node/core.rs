//! The way to noraft and back: what it has become, which entries it has made, and what it wants saved and sent.

use std::sync::Arc;

use noraft::{LogEntry, LogIndex, NodeId};

use super::{Append, Event, Node, Outbox, Save, Saving};
use crate::planted::{self, Bug};
use crate::raft::entry::Entry;
use crate::raft::lead::Lead;
use crate::raft::member::Membership;
use crate::raft::message::Message;
use crate::time::Instant;

impl Node {
    pub(super) fn tell_core(&mut self, now: Instant, message: &noraft::Message) {
        if self.core.handle_message(message).is_err() {
            self.events.push_back(Event::Broken("the leader's log contradicts this node's snapshot"));
        }
        self.after_core(now);
    }

    /// Follows what noraft has become: its role, and the entries that it has put into the log by itself.
    pub(super) fn after_core(&mut self, now: Instant) {
        self.take_own_entries();
        let term = self.term();
        if let Some(lead) = self.lead.take_if(|lead| lead.term != term || !self.core.role().is_leader()) {
            self.events.extend(lead.into_reads().map(Event::ReadFailed));
            self.events.push_back(Event::LostLeadership);
            self.leader = None;
            self.reset_election_timer(now);
        }
        if self.core.role().is_leader() && self.lead.is_none() {
            self.pre_vote = None;
            self.leader = None;
            self.lead = Some(Lead::new(term, now));
            self.events.push_back(Event::BecameLeader);
        }
        if let Some(lead) = &mut self.lead {
            let before_last = self.tail.last().saturating_sub(1);
            lead.follow_membership(now, self.core.id(), before_last, &self.membership);
        }
    }

    /// The tail gets the contents of what noraft has appended as a leader.
    pub(super) fn take_own_entries(&mut self) {
        let last = self.last().index.get();
        let mut is_config_new = false;
        for index in self.tail.last() + 1..=last {
            match self.core.log().entries().get_entry(LogIndex::new(index)) {
                Some(LogEntry::Term(term)) => self.tail.push(Entry::Term(term)),
                Some(LogEntry::ClusterConfig(config)) => {
                    let member = |id: NodeId| {
                        let known = self.announced.get(&id).or_else(|| self.membership.members.get(&id));
                        known.map(|member| (id, member.clone()))
                    };
                    let members = config.unique_nodes().filter_map(member).collect();
                    self.membership = Arc::new(Membership { config, members });
                    self.membership_index = index;
                    self.tail.push(Entry::Config(Arc::clone(&self.membership)));
                    is_config_new = true;
                }
                Some(LogEntry::Command) => {
                    let Some(command) = self.proposed.pop_front() else { break };
                    self.tail.push(Entry::Command(command));
                }
                None => break,
            }
        }
        assert!(self.tail.last() == last, "the contents of every entry are known");
        self.proposed.clear();
        if is_config_new {
            self.announced.retain(|id, _| !self.membership.config.contains(*id));
        }
    }

    /// The newest membership in the log, after the log has changed.
    pub(super) fn find_membership(&mut self) {
        match self.tail.config_at(self.tail.last()) {
            Some((index, membership)) => {
                self.membership_index = index;
                self.membership = Arc::clone(membership);
            }
            None => {
                self.membership_index = self.start().index.get();
                self.membership = Arc::clone(&self.start_membership);
            }
        }
    }

    /// Does what noraft asks for: one batch for the disk, and messages behind it.
    pub(super) fn flush(&mut self, now: Instant, out: &mut dyn Outbox) {
        let actions = std::mem::take(self.core.actions_mut());
        if actions.set_election_timeout && self.lead.is_none() {
            self.reset_election_timer(now);
        }
        let mut save = std::mem::take(&mut self.next_save);
        let has_vote = actions.save_current_term || actions.save_voted_for;
        if has_vote && !planted::is(Bug::VoteNotSaved) {
            save.vote = Some((self.term(), self.core.voted_for()));
        }
        if let Some(appended) = &actions.append_log_entries {
            let (prev, last) = (appended.prev_position().index.get(), appended.last_position().index.get());
            let entries = (prev + 1..=last).filter_map(|index| self.tail.get(index).cloned()).collect();
            save.append = Some(Append { prev, entries });
            self.durable = self.durable.min(prev);
        }
        if save != Save::default() {
            self.issued_batch += 1;
            save.batch = self.issued_batch;
            if has_vote {
                self.vote_batch = self.issued_batch;
            }
            let prev = save.append.as_ref().map(|append| append.prev);
            self.saving.push_back(Saving { batch: save.batch, prev, last: self.tail.last() });
            out.save(save);
        }
        if let Some(message) = actions.broadcast_message {
            match message {
                noraft::Message::RequestVoteCall { term, last_position, .. } => {
                    let peers: Vec<NodeId> = self.core.peers().filter(|id| self.membership.is_voter(*id)).collect();
                    for id in peers {
                        self.send_when_saved(id, Message::Vote { term, last: last_position }, out);
                    }
                }
                noraft::Message::AppendEntriesCall { .. } => {
                    if let Some(lead) = &mut self.lead {
                        lead.probe_all();
                    }
                }
                noraft::Message::RequestVoteReply { .. } | noraft::Message::AppendEntriesReply { .. } => {}
            }
        }
        for (to, message) in actions.send_messages {
            match message {
                noraft::Message::AppendEntriesCall { entries, .. } => {
                    if let Some(lead) = &mut self.lead {
                        lead.note_wanted(to, entries.prev_position().index.get(), !entries.is_empty());
                    }
                }
                noraft::Message::AppendEntriesReply { term, last_position, .. } => {
                    let commit = self.core.commit_index();
                    self.send_when_saved(to, Message::AppendReply { term, last: last_position, commit }, out);
                }
                noraft::Message::RequestVoteReply { term, vote_granted, .. } => {
                    self.send_when_saved(to, Message::VoteReply { term, granted: vote_granted }, out);
                }
                noraft::Message::RequestVoteCall { term, last_position, .. } => {
                    self.send_when_saved(to, Message::Vote { term, last: last_position }, out);
                }
            }
        }
        for to in actions.install_snapshots {
            if self.lead.as_mut().is_some_and(|lead| lead.note_needs_snapshot(to)) {
                self.events.push_back(Event::NeedsSnapshot(to));
            }
        }
    }

    pub(super) fn send_when_saved(&mut self, to: NodeId, message: Message, out: &mut dyn Outbox) {
        let is_vote = matches!(message, Message::Vote { .. } | Message::VoteReply { .. });
        let is_early = planted::is(if is_vote { Bug::VoteBeforeSync } else { Bug::AckBeforeSync });
        if self.issued_batch == self.saved_batch || is_early {
            out.send(to, message);
        } else {
            self.held.push_back((self.issued_batch, to, message));
        }
    }

    /// Sends what names this node's term, and depends on nothing else: it does not wait for entries that are on their way to the disk.
    pub(super) fn send_in_term(&mut self, to: NodeId, message: Message, out: &mut dyn Outbox) {
        if self.is_term_saved() {
            out.send(to, message);
        } else {
            // The term is on its way, or goes with the next batch.
            self.held.push_back((self.issued_batch + u64::from(self.is_term_new()), to, message));
        }
    }

    /// Whether the term or the vote has changed since the last batch.
    fn is_term_new(&self) -> bool {
        self.core.actions().save_current_term || self.core.actions().save_voted_for
    }

    /// Whether the term that this node is in is on its disk.
    pub(in crate::raft) fn is_term_saved(&self) -> bool {
        (self.vote_batch <= self.saved_batch && !self.is_term_new()) || planted::is(Bug::TermNotSaved)
    }

    /// The commit index, if an entry of this leader's term is committed: before that it may be behind those of former leaders.
    pub(in crate::raft) fn committed_in_term(&self) -> Option<u64> {
        let commit = self.commit();
        let term = self.core.log().entries().get_term(LogIndex::new(commit))?;
        (term == self.term() || planted::is(Bug::ReadWithoutOwnTerm)).then_some(commit)
    }

    pub(super) fn check_reads(&mut self) {
        let (committed, applied) = (self.committed_in_term(), self.applied);
        if let Some(lead) = &mut self.lead {
            self.events.extend(lead.take_ready_reads(committed, applied).into_iter().map(Event::ReadReady));
        }
    }
}

//! One node of a cluster around noraft: what is saved before what is said, elections with pre-vote, and the way of a message. Owns the
//! log with its contents and all that must be on disk; what a leader knows of the others is [`super::lead`]'s.
//!
//! Every call may queue [`Event`]s, which [`Node::next_event`] hands out, and commit entries, which [`Node::next_committed`] does. After all
//! that a turn brings, [`Node::end_turn`] saves and sends.

mod core;
mod elect;
mod follow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use noraft::{ClusterConfig, LogEntries, LogIndex, LogPosition, NodeId, Role, Term};

use super::ELECTION_TIMEOUT_MAX;
use super::entry::{Entry, Tail};
use super::lead::{Image, Lead};
use super::member::{Member, Membership, Uuid};
use super::message::Message;
use crate::planted::{self, Bug};
use crate::time::Instant;

/// What a node has done with what it was told. Nothing may be sent before what was saved before it is on disk; the node takes care of
/// that itself, and hands messages out when they may leave.
pub trait Outbox {
    /// To be saved, behind all that was to be saved before; [`Node::on_saved`] says when it is on disk.
    fn save(&mut self, save: Save);
    /// To be sent; may get lost.
    fn send(&mut self, to: NodeId, message: Message);
}

/// What is to be on disk at once or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Save {
    /// Its number: one more than that of the one before.
    pub batch: u64,
    /// The term, and for whom this node voted in it.
    pub vote: Option<(Term, Option<NodeId>)>,
    /// Entries.
    pub append: Option<Append>,
    /// The log begins elsewhere from now on.
    pub start: Option<Start>,
    /// The cluster that this node belongs to.
    pub cluster: Option<Uuid>,
    /// Whether this node was removed from its cluster.
    pub removed: Option<bool>,
}

/// Entries for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// They stand behind this index; whatever stood behind it before is gone.
    pub prev: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Where a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The last entry that is not in it any more.
    pub position: LogPosition,
    /// The members there.
    pub membership: Arc<Membership>,
    /// The last entry in the snapshot that holds what is gone: not before `position`.
    pub snapshot: LogPosition,
    /// Nothing of the log before is to be kept.
    pub is_new: bool,
}

/// What a node starts again from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its cluster.
    pub cluster: Option<Uuid>,
    /// Its term, and its vote in it.
    pub vote: (Term, Option<NodeId>),
    /// Where its log begins, and which snapshot is before it.
    pub start: Start,
    /// The log.
    pub entries: Vec<Entry>,
    /// It was removed.
    pub removed: bool,
}

/// What the state machine's side must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node leads from now on.
    BecameLeader,
    /// It leads no more: the fate of what it proposed and was not committed is open.
    LostLeadership,
    /// Another leader is known, or none.
    LeaderChanged,
    /// A read may be answered from what is applied.
    ReadReady(u64),
    /// A read cannot be answered: this node does not lead any more.
    ReadFailed(u64),
    /// A follower needs a snapshot: [`Node::send_snapshot`].
    NeedsSnapshot(NodeId),
    /// A snapshot has come whole. It must be checked, saved and given to [`Node::install`], or dropped.
    SnapshotReceived(Image),
    /// The leader has not handed over in time, and goes on.
    TransferFailed,
    /// This node is no member any more, as the leader says.
    Removed,
    /// The log contradicts what is committed: this node must stop. Nothing that a sound disk and a sound cluster do leads here.
    Broken(&'static str),
}

/// An election that this node would begin if the others want it.
#[derive(Debug)]
struct PreVote {
    term: Term,
    granted: BTreeSet<NodeId>,
}

/// A snapshot that comes in parts.
#[derive(Debug)]
struct Receiving {
    from: NodeId,
    last: LogPosition,
    total: u64,
    bytes: Vec<u8>,
    is_whole: bool,
}

/// Something that is on its way to the disk.
#[derive(Debug)]
struct Saving {
    batch: u64,
    /// What stood behind this index is replaced.
    prev: Option<u64>,
    /// The last entry when it is saved.
    last: u64,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    pub(super) core: noraft::Node,
    pub(super) tail: Tail,
    pub(super) lead: Option<Lead>,
    start_membership: Arc<Membership>,
    membership: Arc<Membership>,
    membership_index: u64,
    /// Nodes that are to become members.
    announced: BTreeMap<NodeId, Member>,
    cluster: Option<Uuid>,
    removed: bool,
    leader: Option<NodeId>,
    leader_heard: Instant,
    election_due: Instant,
    pre_vote: Option<PreVote>,
    receiving: Option<Receiving>,
    /// The longest snapshot that is taken.
    image_max_bytes: u64,
    applied: u64,
    /// What goes with the next save.
    next_save: Save,
    saving: VecDeque<Saving>,
    issued_batch: u64,
    saved_batch: u64,
    vote_batch: u64,
    durable: u64,
    /// Replies and votes that wait for a batch.
    held: VecDeque<(u64, NodeId, Message)>,
    /// Commands that were proposed and are not in the tail yet.
    proposed: VecDeque<Arc<[u8]>>,
    events: VecDeque<Event>,
    jitter: u64,
}

impl Node {
    /// A node that belongs to no cluster and holds nothing. `seed` is random, for the times of elections.
    #[must_use]
    pub fn new(now: Instant, id: NodeId, seed: u64, image_max_bytes: u64) -> Self {
        let membership = Arc::new(Membership::default());
        Self {
            core: noraft::Node::start(id),
            tail: Tail::default(),
            lead: None,
            start_membership: Arc::clone(&membership),
            membership,
            membership_index: 0,
            announced: BTreeMap::new(),
            cluster: None,
            removed: false,
            leader: None,
            leader_heard: Instant::ZERO,
            election_due: now + ELECTION_TIMEOUT_MAX,
            pre_vote: None,
            receiving: None,
            image_max_bytes,
            applied: 0,
            next_save: Save::default(),
            saving: VecDeque::new(),
            issued_batch: 0,
            saved_batch: 0,
            vote_batch: 0,
            durable: 0,
            held: VecDeque::new(),
            proposed: VecDeque::new(),
            events: VecDeque::new(),
            jitter: seed | 1,
        }
    }

    /// A node that starts again from what is on its disk. The state machine holds the snapshot already.
    #[must_use]
    pub fn restart(now: Instant, id: NodeId, seed: u64, image_max_bytes: u64, restored: Restored) -> Self {
        let Restored { cluster, vote: (term, voted_for), start, entries, removed } = restored;
        let shapes = LogEntries::from_iter(start.position, entries.iter().map(Entry::shape));
        let log = noraft::Log::new(start.membership.config.clone(), shapes);
        let core = noraft::Node::restart(id, term, voted_for, log);
        let mut node = Self { core, cluster, removed, ..Self::new(now, id, seed, image_max_bytes) };
        node.tail = Tail::new(start.position.index.get(), entries);
        node.durable = node.tail.last();
        node.applied = start.snapshot.index.get();
        node.membership_index = start.position.index.get();
        node.membership = Arc::clone(&start.membership);
        node.start_membership = start.membership;
        node.find_membership();
        node.reset_election_timer(now);
        node
    }

    // What is known.

    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.core.id()
    }

    /// Its cluster, once it belongs to one.
    #[must_use]
    pub fn cluster(&self) -> Option<Uuid> {
        self.cluster
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.core.current_term()
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.lead.is_some()
    }

    /// Whether it asks for votes.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        self.core.role() == Role::Candidate
    }

    /// Whether it was removed from its cluster.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        if self.lead.is_some() { Some(self.id()) } else { self.leader }
    }

    /// The newest membership in its log, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// Whether the newest membership is committed.
    #[must_use]
    pub fn is_membership_committed(&self) -> bool {
        self.membership_index <= self.commit()
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.core.log().last_position()
    }

    /// The index before the first entry of the log.
    #[must_use]
    pub fn start(&self) -> LogPosition {
        self.core.log().snapshot_position()
    }

    /// About how many bytes the log has.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.tail.cost_bytes()
    }

    /// All entries up to here are committed, and on this node's own disk.
    #[must_use]
    pub fn commit(&self) -> u64 {
        let durable = if planted::is(Bug::AnswerBeforeSync) { u64::MAX } else { self.durable };
        self.core.commit_index().get().min(durable).max(self.applied).max(self.start().index.get())
    }

    /// The last entry on its own disk.
    #[must_use]
    pub fn durable_last(&self) -> u64 {
        self.durable
    }

    /// All entries up to here have been handed out.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// An entry of the log, with its term.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<(Term, &Entry)> {
        Some((self.core.log().entries().get_term(LogIndex::new(index))?, self.tail.get(index)?))
    }

    /// How far a follower's log agrees with this leader's; `None` if this does not lead or that does not follow.
    #[must_use]
    pub fn matched(&self, id: NodeId) -> Option<u64> {
        self.lead.as_ref()?;
        self.core.follower_match_index(id).map(LogIndex::get)
    }

    /// How long ago a leader heard a follower, in milliseconds.
    #[must_use]
    pub fn silence_ms(&self, now: Instant, id: NodeId) -> Option<u64> {
        self.lead.as_ref()?.silence_ms(now, id)
    }

    /// How many snapshots are on their way to followers.
    #[must_use]
    pub fn snapshots_in_flight(&self) -> usize {
        self.lead.as_ref().map_or(0, Lead::snapshots_in_flight)
    }

    /// Whether this leader is handing over, and takes no proposals meanwhile.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.lead.as_ref().is_some_and(Lead::is_transferring)
    }

    /// When [`Self::on_time`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.lead {
            Some(lead) => Some(lead.next_deadline()),
            None => self.cluster.is_some().then_some(self.election_due),
        }
    }

    /// What happened, in order.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next entry that is committed and was not handed out yet.
    pub fn next_committed(&mut self) -> Option<(LogPosition, Entry)> {
        if self.applied >= self.commit() {
            return None;
        }
        let index = self.applied + 1;
        let (term, entry) = self.entry(index)?;
        let committed = (LogPosition { term, index: LogIndex::new(index) }, entry.clone());
        self.applied = index;
        Some(committed)
    }

    // What is asked.

    /// Makes a cluster of this node alone. Says whether that was possible: not if it belongs to one already.
    pub fn create_cluster(&mut self, now: Instant, cluster: Uuid, member: Member) -> bool {
        if self.cluster.is_some() || self.last() != LogPosition::ZERO {
            return false;
        }
        self.announced.insert(self.id(), member);
        self.set_cluster(cluster);
        let position = self.core.create_cluster(&[self.id()]);
        self.after_core(now);
        !position.is_invalid()
    }

    /// Proposes a command; its position if this node leads. It is committed if [`Self::next_committed`] hands out an entry of that
    /// position.
    pub fn propose(&mut self, now: Instant, command: Arc<[u8]>) -> Option<LogPosition> {
        if self.lead.is_none() || self.is_transferring() {
            return None;
        }
        self.proposed.push_back(command);
        let position = self.core.propose_command();
        self.after_core(now);
        (!position.is_invalid()).then_some(position)
    }

    /// Proposes another configuration, of nodes that are members already or are `announced` here. `false` if this node does not lead, another
    /// change is under way, or the sets do not fit together.
    pub fn propose_config(&mut self, now: Instant, config: ClusterConfig, announced: Option<Member>) -> bool {
        let is_known = |id: NodeId| {
            self.membership.members.contains_key(&id)
                || announced.as_ref().is_some_and(|member| member.uuid.node_id() == id)
        };
        let is_possible = self.lead.is_some()
            && self.is_membership_committed()
            && !self.membership.config.is_joint_consensus()
            && config.unique_nodes().all(is_known);
        if !is_possible {
            return false;
        }
        self.announced.extend(announced.map(|member| (member.uuid.node_id(), member)));
        let position = self.core.propose_config(config);
        self.after_core(now);
        !position.is_invalid()
    }

    /// Asks for a read that is true as of now: [`Event::ReadReady`] or [`Event::ReadFailed`] answers. `false` if this node does not lead.
    pub fn read(&mut self, token: u64) -> bool {
        let index = self.committed_in_term();
        let Some(lead) = &mut self.lead else { return false };
        lead.add_read(token, index);
        true
    }

    /// Hands the lead over to a voter. `false` if this node does not lead, or that one is no other voter.
    pub fn transfer(&mut self, now: Instant, to: NodeId) -> bool {
        let is_possible = to != self.id() && self.membership.is_voter(to);
        match &mut self.lead {
            Some(lead) if is_possible => {
                lead.begin_transfer(now, to);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Sends a snapshot to a follower that needs one.
    pub fn send_snapshot(&mut self, now: Instant, to: NodeId, image: &Arc<Image>, out: &mut dyn Outbox) {
        let first = self.lead.as_mut().and_then(|lead| lead.begin_snapshot(now, to, Arc::clone(image)));
        if let Some(first) = first {
            out.send(to, first);
        }
    }

    /// The membership at an index of the log, if that is known.
    #[must_use]
    pub fn position_and_membership(&self, index: u64) -> Option<(LogPosition, Arc<Membership>)> {
        let (position, config) = self.core.log().get_position_and_config(LogIndex::new(index))?;
        let membership = self.tail.config_at(index).map_or(&self.start_membership, |(_, membership)| membership);
        debug_assert_eq!(&membership.config, config);
        Some((position, Arc::clone(membership)))
    }

    /// Drops the log up to an index that a saved snapshot covers.
    pub fn compact(&mut self, to: u64, snapshot: LogPosition) {
        debug_assert!(to <= snapshot.index.get() && snapshot.index.get() <= self.applied);
        let Some((position, membership)) = self.position_and_membership(to) else { return };
        if !self.core.handle_snapshot_installed(position, membership.config.clone()) {
            return;
        }
        self.tail.drop_to(to);
        self.begin_log_at(Start { position, membership, snapshot, is_new: false });
    }

    /// Takes the place of everything before a snapshot, which is saved, and which the state machine is to hold from now on if this says `true`.
    pub fn install(&mut self, now: Instant, last: LogPosition, membership: Arc<Membership>) -> bool {
        let receiving = self.receiving.take();
        let is_newer = last.index.get() > self.applied && last.index.get() > self.commit();
        if self.lead.is_some() || !is_newer || !self.core.handle_snapshot_installed(last, membership.config.clone()) {
            return false;
        }
        let is_new = self.last() == last;
        if is_new {
            self.tail = Tail::new(last.index.get(), Vec::new());
        } else {
            self.tail.drop_to(last.index.get());
        }
        self.durable = if is_new { last.index.get() } else { self.durable.max(last.index.get()) };
        self.applied = last.index.get();
        let is_new = is_new || planted::is(Bug::TailThrownAway);
        self.begin_log_at(Start { position: last, membership, snapshot: last, is_new });
        self.find_membership();
        self.after_core(now);
        if let Some(receiving) = receiving.filter(|receiving| receiving.last == last) {
            let received = receiving.total;
            self.held.push_back((
                self.issued_batch + 1,
                receiving.from,
                Message::SnapshotReply { term: self.term(), last, received },
            ));
        }
        true
    }

    fn begin_log_at(&mut self, start: Start) {
        self.start_membership = Arc::clone(&start.membership);
        // Of several since the last save the newest counts, which forgets what the others would have.
        let is_new = start.is_new || self.next_save.start.as_ref().is_some_and(|before| before.is_new);
        self.next_save.start = Some(Start { is_new, ..start });
    }

    // What happens.

    /// Everything up to a batch is on disk.
    pub fn on_saved(&mut self, now: Instant, batch: u64, out: &mut dyn Outbox) {
        self.saved_batch = self.saved_batch.max(batch);
        while self.saving.front().is_some_and(|saving| saving.batch <= batch) {
            let Some(saved) = self.saving.pop_front() else { break };
            self.durable =
                self.saving.iter().filter_map(|saving| saving.prev).fold(saved.last.min(self.tail.last()), u64::min);
        }
        while self.held.front().is_some_and(|(batch, _, _)| *batch <= self.saved_batch) {
            let Some((_, to, message)) = self.held.pop_front() else { break };
            out.send(to, message);
        }
        self.check_reads();
        self.after_core(now);
    }

    /// A link to a node is there, or is there again: what was on its way is lost.
    pub fn on_link(&mut self, id: NodeId) {
        let matched = self.core.follower_match_index(id).map_or(0, LogIndex::get);
        if let Some(lead) = &mut self.lead {
            lead.note_lost(id, matched);
        }
    }

    /// A message has come. One of another cluster never gets here.
    pub fn on_message(&mut self, now: Instant, from: NodeId, message: Message, out: &mut dyn Outbox) {
        // So that what this message brings does not mix with what is waiting.
        self.flush(now, out);
        let newer = message.term().filter(|term| *term > self.term());
        match message {
            Message::Hello { .. } | Message::Forward { .. } | Message::Forwarded { .. } => {}
            Message::PreVote { term, last } => self.on_pre_vote(now, from, term, last, out),
            Message::PreVoteReply { asked, granted, .. } => {
                if newer.is_some() {
                    return self.observe_term(now, from, newer);
                }
                if granted && let Some(pre_vote) = self.pre_vote.as_mut().filter(|pre_vote| pre_vote.term == asked) {
                    pre_vote.granted.insert(from);
                    self.begin_election_if_wanted(now);
                }
            }
            Message::Vote { term, last } => {
                if self.is_stranger_to_leader(from) {
                    return self.send_in_term(from, Message::Removed { term: self.term() }, out);
                }
                self.tell_core(now, &noraft::Message::RequestVoteCall { from, term, last_position: last });
            }
            Message::VoteReply { term, granted } => {
                self.tell_core(now, &noraft::Message::RequestVoteReply { from, term, vote_granted: granted });
            }
            Message::TimeoutNow { term } => {
                if term == self.term() && !self.removed && self.lead.is_none() {
                    self.core.handle_election_timeout();
                    self.after_core(now);
                }
            }
            Message::Removed { term } => {
                if term >= self.term() && self.lead.is_none() && !self.removed {
                    self.set_removed(true);
                    self.events.push_back(Event::Removed);
                }
            }
            Message::Append { term, commit, prev, entries } => self.on_append(now, from, term, commit, prev, entries),
            Message::AppendReply { term, last, commit } => self.on_append_reply(now, from, term, last, commit, out),
            Message::Heartbeat { term, round, .. } => {
                self.observe_term(now, from, newer);
                if term == self.term() && self.lead.is_none() {
                    self.note_leader(now, from);
                }
                // Of an old leader's, the answer says the newer term.
                self.send_in_term(from, Message::HeartbeatReply { term: self.term(), round }, out);
            }
            Message::HeartbeatReply { term, round } => {
                self.observe_term(now, from, newer);
                if term == self.term() {
                    let (own_id, membership) = (self.id(), Arc::clone(&self.membership));
                    if let Some(lead) = &mut self.lead {
                        lead.note_heard(now, from);
                        lead.on_heartbeat_reply(from, round, own_id, &membership);
                    }
                    self.check_reads();
                }
            }
            Message::Snapshot { term, last, total, offset, part } => {
                self.observe_term(now, from, newer);
                if term == self.term() && self.lead.is_none() {
                    self.note_leader(now, from);
                    self.on_snapshot_part(from, last, total, offset, &part, out);
                }
            }
            Message::SnapshotReply { term, last, received } => {
                self.observe_term(now, from, newer);
                if let Some(lead) = &mut self.lead
                    && term == lead.term
                {
                    lead.note_heard(now, from);
                    if let Some(next) = lead.on_snapshot_reply(now, from, last, received) {
                        out.send(from, next);
                    }
                }
            }
        }
        self.flush(now, out);
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Instant, out: &mut dyn Outbox) {
        if let Some(lead) = &self.lead {
            if lead.next_tick() > now {
                return;
            }
            if !lead.hears_majority(now, self.id(), &self.membership) && !planted::is(Bug::NoQuorumCheck) {
                return self.step_down(now);
            }
            if self.tick(now, out) {
                self.events.push_back(Event::TransferFailed);
            }
        } else if self.election_due <= now && self.cluster.is_some() {
            self.set_leader(None);
            self.reset_election_timer(now);
            self.take_back_own_removal();
            if self.membership.is_voter(self.id()) && !self.removed {
                if planted::is(Bug::PreVoteSkipped) {
                    self.core.handle_election_timeout();
                    self.after_core(now);
                } else {
                    self.ask_for_pre_votes(now, out);
                }
            } else if !self.removed {
                self.ask_whether_removed(out);
            }
        }
        self.flush(now, out);
    }

    /// The end of a turn: what has come together is saved and sent.
    pub fn end_turn(&mut self, now: Instant, out: &mut dyn Outbox) {
        self.flush(now, out);
        self.lead_on(now, out);
        self.check_reads();
    }
}

#[cfg(test)]
mod tests;

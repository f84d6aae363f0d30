//! One node's copy of the cluster map, and everything asked of it: who answers, who waits for what, what is passed on to the leader. Pure:
//! told what happened and what time it is, it says what to save, to send and to answer. Owns requests; the agreement on the order of writes
//! is [`crate::raft`]'s, what they do [`super::map`]'s.
//!
//! # The life of a write
//!
//! [`Replica::handle`] gets a question; `on_question` proposes it if this node leads (`propose`), passes it on to the leader
//! (`pass_on`), or has it wait for one (`wait_for_leader`). `apply_committed` carries out what is committed, and answers whoever proposed it here.
//!
//! # The life of a read
//!
//! At the leader `on_question` asks [`raft::node::Node::read`] for proof that it still leads; `on_raft_event` answers from the map when the
//! proof is there. A node that does not lead passes the question on, unless what it has itself is good enough (`?consistency=stale`).

mod admin;
mod questions;
mod snapshots;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use noraft::{LogPosition, NodeId, Term};

use self::admin::{Admin, Task};
pub use self::snapshots::SNAPSHOT_ENTRIES;
use self::snapshots::Snapshots;
pub use self::status::METRICS;
use super::ask::{Answer, Question};
use super::command::Command;
use super::map::Map;
use crate::node::Entropy;
use crate::planted::{self, Bug};
use crate::raft;
use crate::raft::entry::Entry;
use crate::raft::lead::Image;
use crate::raft::member::{Member, Uuid};
use crate::raft::message::Message;
use crate::raft::node::{Restored, Save};
use crate::time::Instant;

/// A question waits so long for a leader.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(1);
/// What was proposed or passed on is answered after so long, with or without its fate.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// A watch in which nothing happens is answered after so long.
pub const WATCH_TIME_MAX: Duration = Duration::from_secs(30);
/// How often is looked whose time is over.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// Entries are carried out in one turn at most.
const APPLIED_PER_TURN_MAX: u32 = 2_000;
/// Questions that wait or are under way at most: past it there is no leader for them.
const QUESTIONS_MAX: usize = 20_000;

/// What happens to a replica.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Input {
    /// A client asks; `id` is for the answer.
    Question {
        /// For the answer.
        id: u64,
        /// What.
        question: Question,
        /// What this node has applied is good enough.
        is_stale: bool,
    },
    /// Nobody waits for the answer to that any more.
    Gone {
        /// To what.
        id: u64,
    },
    /// A node says something, and that it is of this cluster.
    Message {
        /// Who.
        from: NodeId,
        /// Its cluster, if it belonged to one when it said so.
        cluster: Option<Uuid>,
        /// What.
        message: Message,
    },
    /// The way to a node is there.
    LinkUp(NodeId),
    /// The way to a node is gone, with all that was on it.
    LinkDown(NodeId),
    /// All batches up to this are on disk.
    Saved(u64),
    /// A snapshot is on disk.
    ImageSaved(LogPosition),
    /// There is little room on the disk, or enough again.
    DiskIsLow(bool),
    /// A snapshot waits for room on the disk, or does not any more.
    ImageWaits(bool),
    /// Time has passed.
    Time,
    /// All that came together has been said.
    EndOfTurn,
}

/// What an operator should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what the names say")]
pub enum Notice {
    /// A cluster of this node alone was made, by a first write and not by `/init`.
    InitialisedByWrite {
        cluster: Uuid,
    },
    Initialised {
        cluster: Uuid,
    },
    /// This node was taken into a cluster.
    Joined {
        cluster: Uuid,
    },
    BecameLeader {
        term: Term,
    },
    LostLeadership {
        term: Term,
    },
    LeaderChanged {
        leader: Option<Uuid>,
    },
    MembershipChanged {
        voters: usize,
        learners: usize,
    },
    Removed,
    SnapshotSaved {
        index: u64,
        bytes: usize,
    },
    SnapshotInstalled {
        index: u64,
        bytes: usize,
    },
    /// A node sent a snapshot that is none.
    BadSnapshot {
        from: Option<NodeId>,
    },
    /// A node of another cluster speaks to this one.
    OtherCluster {
        from: NodeId,
    },
    DiskIsLow,
    DiskHasRoom,
    /// A snapshot is not written before there is more room on the disk.
    SnapshotWaits,
    SnapshotGoesOn,
    /// This node must stop.
    Broken(&'static str),
}

/// What a replica does, in the order in which it was done.
#[derive(Default)]
pub struct Outbox {
    /// To be saved, one behind the other.
    pub saves: Vec<Save>,
    /// Snapshots to be saved, beside all that.
    pub images: Vec<Arc<Image>>,
    /// To be sent to nodes; may get lost.
    pub messages: Vec<(NodeId, Message)>,
    /// The answers to clients.
    pub answers: Vec<(u64, Answer)>,
    /// For the log.
    pub notices: Vec<Notice>,
}

impl Outbox {
    fn answer(&mut self, client: u64, answer: Answer) {
        self.answers.push((client, answer));
    }

    fn reply(&mut self, asker: Asker, answer: Answer) {
        match asker {
            Asker::Client(client) => self.answer(client, answer),
            Asker::Node(to, id) => self.messages.push((to, Message::Forwarded { id, response: answer.to_bytes() })),
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// The part of it that the node below needs.
impl raft::node::Outbox for Outbox {
    fn save(&mut self, save: Save) {
        self.saves.push(save);
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.messages.push((to, message));
    }
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A client of this node.
    Client(u64),
    /// A node, with the number of its question.
    Node(NodeId, u64),
}

/// A question, and how long it waits for a leader.
#[derive(Debug)]
struct Asked {
    asker: Asker,
    question: Question,
    leader_deadline: Instant,
}

/// A write that was proposed here.
#[derive(Debug)]
struct Proposed {
    term: Term,
    asker: Asker,
    command: Command,
    deadline: Instant,
}

/// A read that waits for its proof.
#[derive(Debug)]
struct Read {
    asker: Asker,
    question: Question,
    deadline: Instant,
}

/// A question that was passed on.
#[derive(Debug)]
struct PassedOn {
    to: NodeId,
    client: u64,
    question: Question,
    /// The end of its wait for a leader, should it have to wait for one again.
    leader_deadline: Instant,
    deadline: Instant,
}

impl PassedOn {
    /// As it was asked here.
    fn into_asked(self) -> Asked {
        Asked { asker: Asker::Client(self.client), question: self.question, leader_deadline: self.leader_deadline }
    }
}

/// A client that waits for something to happen.
#[derive(Debug)]
struct Watch {
    client: u64,
    prefix: String,
    from: u64,
    deadline: Instant,
}

/// What a replica is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this is, and where the others reach it.
    pub own: Member,
    /// `--kv-memory-limit`; 0 is none.
    pub memory_limit_bytes: u64,
    /// A snapshot is saved when the log has so many entries more than are kept behind it.
    pub snapshot_entries: u64,
}

/// One node's copy of the map.
pub struct Replica {
    settings: Settings,
    entropy: Box<dyn Entropy>,
    raft: raft::node::Node,
    map: Map,
    applied: LogPosition,
    /// How far was committed as a leader said it, and when, while this node has not come so far.
    leaders_commit: Option<(u64, Instant)>,
    /// What is applied was all there is at this time.
    as_of: Instant,
    waiting: VecDeque<Asked>,
    /// Something has changed for those that wait.
    is_hopeful: bool,
    proposed: BTreeMap<u64, Proposed>,
    reads: BTreeMap<u64, Read>,
    passed_on: BTreeMap<u64, PassedOn>,
    watches: Vec<Watch>,
    /// Something was applied since the watches were looked at.
    has_news: bool,
    next_number: u64,
    admin: Admin,
    snapshots: Snapshots,
    disk_is_low: bool,
    next_sweep: Instant,
    is_broken: bool,
}

impl Replica {
    /// A node that was never in a cluster, or starts again: then `restored` is what is on its disk and the map of its snapshot.
    #[must_use]
    pub fn new(
        now: Instant,
        settings: Settings,
        mut entropy: Box<dyn Entropy>,
        restored: Option<(Restored, Map)>,
    ) -> Self {
        let mut draw = || {
            let mut bytes = [0; 8];
            entropy.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let (id, seed) = (settings.own.uuid.node_id(), draw());
        // An answer to a question of this node's last life must not be taken for one to a question of this life.
        let next_number = draw() >> 1;
        let image_max_bytes = snapshots::longest_image(settings.memory_limit_bytes);
        let (raft, map, applied, snapshot) = match restored {
            Some((restored, map)) => {
                let last = restored.start.snapshot;
                let saved = (last != LogPosition::ZERO).then_some(last);
                (raft::node::Node::restart(now, id, seed, image_max_bytes, restored), map, last, saved)
            }
            None => (raft::node::Node::new(now, id, seed, image_max_bytes), Map::new(0), LogPosition::ZERO, None),
        };
        Self {
            settings,
            entropy,
            raft,
            map,
            applied,
            leaders_commit: None,
            as_of: Instant::ZERO,
            waiting: VecDeque::new(),
            is_hopeful: false,
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
            passed_on: BTreeMap::new(),
            watches: Vec::new(),
            has_news: false,
            next_number,
            admin: Admin::default(),
            snapshots: Snapshots::new(snapshot),
            disk_is_low: false,
            next_sweep: now,
            is_broken: false,
        }
    }

    /// The consensus below, to look at.
    #[must_use]
    pub fn raft(&self) -> &raft::node::Node {
        &self.raft
    }

    /// The map, to look at.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The last entry that was carried out.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        self.applied
    }

    /// Whether there is something to do at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.map.is_painting() || (!self.is_broken && self.raft.applied() < self.raft.commit())
    }

    /// When there is something to do by the clock alone.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let sweep = (self.questions_len() > 0 || self.snapshots.is_busy()).then_some(self.next_sweep);
        Instant::earliest([self.raft.next_timeout(), sweep])
    }

    /// How many questions have no answer yet.
    #[must_use]
    pub fn questions_len(&self) -> usize {
        self.waiting.len()
            + self.proposed.len()
            + self.reads.len()
            + self.passed_on.len()
            + self.watches.len()
            + self.admin.len()
    }

    /// Something has happened.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox) {
        if self.is_broken {
            return;
        }
        match input {
            Input::Question { id, question, is_stale } => {
                if is_stale && let Some(answer) = self.answer_from_here(&question) {
                    let lag_ms = self.lag_ms(now);
                    return out.answer(id, Answer { lag_ms: Some(lag_ms), ..answer });
                }
                let asked = Asked { asker: Asker::Client(id), question, leader_deadline: now + LEADER_WAIT_MAX };
                self.on_question(now, asked, out);
            }
            Input::Gone { id } => self.forget(id),
            Input::Message { from, cluster, message } => self.on_message(now, from, cluster, message, out),
            Input::LinkUp(id) => {
                self.raft.on_link(id);
                self.is_hopeful = true;
            }
            Input::LinkDown(id) => self.on_lost(now, Some(id), out),
            Input::Saved(batch) => self.raft.on_saved(now, batch, out),
            Input::ImageSaved(last) => self.on_image_saved(now, last, out),
            Input::DiskIsLow(is_low) => {
                if self.disk_is_low != is_low {
                    self.disk_is_low = is_low;
                    out.notice(if is_low { Notice::DiskIsLow } else { Notice::DiskHasRoom });
                }
            }
            Input::ImageWaits(waits) => self.on_image_waits(waits, out),
            Input::Time => {
                self.raft.on_time(now, out);
                self.sweep(now, out);
            }
            Input::EndOfTurn => return self.end_turn(now, out),
        }
        self.settle(now, out);
    }

    fn end_turn(&mut self, now: Instant, out: &mut Outbox) {
        if std::mem::take(&mut self.is_hopeful) {
            for asked in std::mem::take(&mut self.waiting) {
                self.on_question(now, asked, out);
            }
        }
        self.raft.end_turn(now, out);
        self.settle(now, out);
        self.announce_own_address(now);
        self.step_admin(now, out);
        self.step_snapshots(now, out);
        // What was asked for just now goes along.
        self.raft.end_turn(now, out);
        self.settle(now, out);
        self.tell_watches(now, out);
    }

    /// Hears what the consensus has come to, and carries out what it has committed.
    fn settle(&mut self, now: Instant, out: &mut Outbox) {
        let mut left = APPLIED_PER_TURN_MAX;
        loop {
            while let Some(event) = self.raft.next_event() {
                self.on_raft_event(now, event, out);
            }
            if left == 0 || self.is_broken {
                return;
            }
            let Some((position, entry)) = self.raft.next_committed() else { return };
            left -= 1;
            self.apply(position, &entry, out);
        }
    }

    fn apply(&mut self, position: LogPosition, entry: &Entry, out: &mut Outbox) {
        self.applied = position;
        self.has_news = true;
        self.note_applied();
        let index = position.index.get();
        let proposed = self.proposed.remove(&index);
        match entry {
            Entry::Term(_) => {}
            Entry::Config(membership) => {
                let (voters, learners) = (membership.config.voters.len(), membership.config.non_voters.len());
                out.notice(Notice::MembershipChanged { voters, learners });
            }
            Entry::Command(bytes) => {
                if let Some(proposed) = proposed.as_ref().filter(|proposed| proposed.term == position.term) {
                    // It need not be read from its bytes again.
                    let outcome = self.map.apply(index, &proposed.command);
                    return out.reply(proposed.asker, Answer::of_write(&proposed.command, &outcome));
                }
                let Ok(mut command) = Command::read(bytes) else {
                    return self.break_down("a committed write cannot be read; run the same bbd on all nodes", out);
                };
                if planted::is(Bug::AnswersOfLeaderOnly) && proposed.is_none() {
                    command.idempotency_key = None;
                }
                self.map.apply(index, &command);
            }
        }
        // Something else stands where it was proposed: it never will be done.
        if let Some(proposed) = proposed {
            out.reply(proposed.asker, Answer::no_leader());
        }
    }

    fn break_down(&mut self, why: &'static str, out: &mut Outbox) {
        self.is_broken = true;
        out.notice(Notice::Broken(why));
    }

    fn on_raft_event(&mut self, now: Instant, event: raft::node::Event, out: &mut Outbox) {
        use raft::node::Event;
        match event {
            Event::BecameLeader => {
                self.is_hopeful = true;
                out.notice(Notice::BecameLeader { term: self.raft.term() });
            }
            Event::LostLeadership => {
                self.is_hopeful = true;
                out.notice(Notice::LostLeadership { term: self.raft.term() });
                self.admin_lost_leadership(out);
                for (_, proposed) in std::mem::take(&mut self.proposed) {
                    out.reply(proposed.asker, Answer::unknown());
                }
            }
            Event::LeaderChanged => {
                self.is_hopeful = true;
                let leader = self.raft.leader();
                let uuid = leader.and_then(|id| Some(self.raft.membership().members.get(&id)?.uuid));
                out.notice(Notice::LeaderChanged { leader: uuid });
                // Whoever was asked before does not lead any more, or is out of reach.
                let lost: Vec<NodeId> = self.passed_on.values().map(|passed_on| passed_on.to).collect();
                for id in lost.into_iter().filter(|id| Some(*id) != leader) {
                    self.on_lost(now, Some(id), out);
                }
            }
            Event::ReadReady(number) => {
                if let Some(read) = self.reads.remove(&number)
                    && let Some(answer) = self.answer_from_here(&read.question)
                {
                    out.reply(read.asker, answer);
                }
            }
            Event::ReadFailed(number) => {
                if let Some(read) = self.reads.remove(&number) {
                    let Read { asker, question, .. } = read;
                    self.wait_for_leader(now, Asked { asker, question, leader_deadline: now + LEADER_WAIT_MAX }, out);
                }
            }
            Event::NeedsSnapshot(to) => self.snapshots.want_for(to),
            Event::SnapshotReceived(image) => self.on_image_received(image, out),
            Event::TransferFailed => self.admin_transfer_failed(out),
            Event::Removed => out.notice(Notice::Removed),
            Event::Broken(why) => self.break_down(why, out),
        }
    }

    // Other nodes.

    fn on_message(&mut self, now: Instant, from: NodeId, cluster: Option<Uuid>, message: Message, out: &mut Outbox) {
        match (self.raft.cluster(), cluster) {
            (Some(own), Some(other)) if own != other => {
                self.note_foreigner(from);
                // Who speaks hears of which cluster this node is; that again is not answered.
                if !matches!(message, Message::Hello { .. }) {
                    let Member { uuid, address } = self.settings.own.clone();
                    out.messages.push((from, Message::Hello { cluster: Some(own), uuid, address }));
                }
                return out.notice(Notice::OtherCluster { from });
            }
            (Some(_), _) => {}
            // A leader speaks to whoever it takes in; nobody else has anything to say to a node of no cluster.
            (None, Some(cluster)) if matches!(message, Message::Append { .. } | Message::Heartbeat { .. }) => {
                self.raft.join(now, cluster);
                out.notice(Notice::Joined { cluster });
            }
            (None, _) => return,
        }
        match message {
            Message::Forward { id, request } => {
                let asker = Asker::Node(from, id);
                match Question::read(&request) {
                    Ok(question) => self.on_question(now, Asked { asker, question, leader_deadline: now }, out),
                    Err(_) => out.reply(asker, Answer::no_leader()),
                }
            }
            Message::Forwarded { id, response } => self.on_forwarded(now, from, id, &response, out),
            // Without room for them entries are not taken, but the leader is heard all the same.
            Message::Append { ref entries, .. } if self.disk_is_low && !entries.is_empty() => {}
            Message::Heartbeat { term, commit, .. } => {
                self.raft.on_message(now, from, message, out);
                if let Some(commit) = commit.filter(|_| term == self.raft.term() && !self.raft.is_leader()) {
                    self.note_leaders_commit(now, commit);
                }
            }
            Message::Hello { .. }
            | Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Vote { .. }
            | Message::VoteReply { .. }
            | Message::TimeoutNow { .. }
            | Message::Removed { .. }
            | Message::Append { .. }
            | Message::AppendReply { .. }
            | Message::HeartbeatReply { .. }
            | Message::Snapshot { .. }
            | Message::SnapshotReply { .. } => self.raft.on_message(now, from, message, out),
        }
    }

    fn on_forwarded(&mut self, now: Instant, from: NodeId, id: u64, response: &[u8], out: &mut Outbox) {
        if self.passed_on.get(&id).is_none_or(|passed_on| passed_on.to != from) {
            return;
        }
        let Some(passed_on) = self.passed_on.remove(&id) else { return };
        match Answer::read(response) {
            Ok(Some(answer)) => out.answer(passed_on.client, answer),
            // It did nothing, for it does not lead.
            Ok(None) => self.wait_for_leader(now, passed_on.into_asked(), out),
            Err(_) => out.answer(passed_on.client, Answer::unknown()),
        }
    }

    /// Random bytes for an id.
    fn draw_uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        Uuid::from_random(bytes)
    }

    fn on_init(&mut self, now: Instant, asker: Asker, out: &mut Outbox) {
        let cluster = self.draw_uuid();
        if !self.raft.create_cluster(now, cluster, self.settings.own.clone()) {
            return out.reply(asker, Answer::not_allowed("this node belongs to a cluster already"));
        }
        out.notice(Notice::Initialised { cluster });
        self.queue_admin(now, asker, Task::Init, out);
    }

    fn init_by_write(&mut self, now: Instant, out: &mut Outbox) {
        let cluster = self.draw_uuid();
        if self.raft.create_cluster(now, cluster, self.settings.own.clone()) {
            out.notice(Notice::InitialisedByWrite { cluster });
        }
    }
}

#[cfg(test)]
mod tests;

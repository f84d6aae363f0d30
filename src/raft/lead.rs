//! What a leader knows of the others and of the reads that wait for it: who was heard when, which entries are on their way, which part of
//! a snapshot. Owns how much may be on its way; what noraft makes of the answers is [`super::node`]'s business.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use noraft::{LogIndex, LogPosition, NodeId, Term};

use super::entry::Entry;
use super::member::Membership;
use super::message::{Message, PART_MAX_BYTES};
use super::node::Node;
use super::{COMMIT_TOLD_AFTER, ELECTION_TIMEOUT_MAX, HEARTBEAT_INTERVAL, RESEND_AFTER, TRANSFER_TIME_MAX};
use crate::planted::{self, Bug};
use crate::time::Instant;

/// Messages with entries to one follower that are not answered, at most.
const MESSAGES_IN_FLIGHT_MAX: usize = 8;
/// So many before only full ones follow: one is synced, one waits for that, and what comes meanwhile goes along in the next.
const PARTIAL_IN_FLIGHT_MAX: usize = 2;
/// Rounds of heartbeats that are not answered and were begun for reads, at most: further reads share the next one.
const ROUNDS_IN_FLIGHT_MAX: u64 = 4;

/// The state at one point of the log, as bytes that mean something to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The last entry that is in it.
    pub last: LogPosition,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How far one follower is.
#[derive(Debug)]
pub(super) struct Progress {
    /// The next entry to send.
    next: u64,
    /// Messages with entries that are not answered: the last entry of each, and when it was sent.
    in_flight: VecDeque<(u64, Instant)>,
    /// Something is to be sent even without an entry.
    probe: bool,
    /// The commit index that it was last told, and that it knows.
    told_commit: u64,
    known_commit: u64,
    snapshot: Option<Sending>,
    /// It needs a snapshot, which is not there yet.
    awaits_snapshot: bool,
    heard: Instant,
    /// The newest round of heartbeats that it answered.
    round: u64,
}

/// A snapshot on its way.
#[derive(Debug)]
struct Sending {
    image: Arc<Image>,
    received: u64,
    sent_at: Instant,
}

/// A read that waits.
#[derive(Debug)]
struct Read {
    token: u64,
    /// A majority must have answered this round, which begins after the read came.
    round: u64,
    /// This must have been applied; `None` until an entry of this term is committed.
    index: Option<u64>,
}

/// The leader hands over.
#[derive(Debug)]
struct Transfer {
    to: NodeId,
    deadline: Instant,
    is_asked: bool,
}

/// A leader's knowledge, for one term.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) term: Term,
    /// The membership whose other nodes the books are of.
    followed: Option<Arc<Membership>>,
    peers: BTreeMap<NodeId, Progress>,
    /// The newest round that has begun, and the newest that a majority has answered.
    round: u64,
    confirmed: u64,
    reads: VecDeque<Read>,
    transfer: Option<Transfer>,
    pub(super) tick_due: Instant,
    /// When those are told how far is committed to whom no entries go until then.
    commit_due: Option<Instant>,
}

impl Lead {
    pub(super) fn new(term: Term, now: Instant) -> Self {
        let (followed, peers, reads) = (None, BTreeMap::new(), VecDeque::new());
        Self { term, followed, peers, round: 0, confirmed: 0, reads, transfer: None, tick_due: now, commit_due: None }
    }

    /// The reads that can no longer be answered.
    pub(super) fn into_reads(self) -> impl Iterator<Item = u64> {
        self.reads.into_iter().map(|read| read.token)
    }

    /// Has somebody in the books who has become a follower, and nobody else.
    pub(super) fn follow_membership(&mut self, now: Instant, own_id: NodeId, last: u64, membership: &Arc<Membership>) {
        if self.followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, membership)) {
            return;
        }
        self.followed = Some(Arc::clone(membership));
        self.peers.retain(|id, _| membership.config.contains(*id));
        for id in membership.config.unique_nodes().filter(|id| *id != own_id) {
            self.peers.entry(id).or_insert_with(|| Progress {
                next: last + 1,
                in_flight: VecDeque::new(),
                probe: true,
                told_commit: 0,
                known_commit: 0,
                snapshot: None,
                awaits_snapshot: false,
                heard: now,
                round: 0,
            });
        }
    }

    pub(super) fn note_heard(&mut self, now: Instant, from: NodeId) {
        if let Some(progress) = self.peers.get_mut(&from) {
            progress.heard = now;
        }
    }

    /// How long ago a follower was last heard; `None` if it is none.
    pub(super) fn silence_ms(&self, now: Instant, id: NodeId) -> Option<u64> {
        let progress = self.peers.get(&id)?;
        Some(u64::try_from(now.since(progress.heard).as_millis()).unwrap_or(u64::MAX))
    }

    /// All are to hear something, even without an entry.
    pub(super) fn probe_all(&mut self) {
        for progress in self.peers.values_mut() {
            progress.probe = true;
        }
    }

    /// noraft wants entries behind `prev` sent to a follower. What is on its way already is not sent twice.
    pub(super) fn note_wanted(&mut self, to: NodeId, prev: u64, has_entries: bool) {
        let Some(progress) = self.peers.get_mut(&to) else { return };
        if has_entries && !progress.in_flight.is_empty() && prev < progress.next {
            return;
        }
        progress.next = prev + 1;
        progress.in_flight.clear();
        // Where there are entries they are sent by themselves, as soon as they may leave.
        progress.probe |= !has_entries;
    }

    /// A follower has entries up to `matched`, and knows that those up to `commit` are committed.
    pub(super) fn note_matched(&mut self, from: NodeId, matched: u64, commit: u64) {
        let Some(progress) = self.peers.get_mut(&from) else { return };
        progress.known_commit = commit;
        while progress.in_flight.front().is_some_and(|(last, _)| *last <= matched) {
            progress.in_flight.pop_front();
        }
        progress.next = progress.next.max(matched + 1);
    }

    /// What was on its way to a follower is lost.
    pub(super) fn note_lost(&mut self, to: NodeId, matched: u64) {
        let Some(progress) = self.peers.get_mut(&to) else { return };
        progress.in_flight.clear();
        // Whoever has started again has to hear anew what is committed: that is on nobody's disk.
        progress.known_commit = 0;
        if matched > 0 {
            progress.next = matched + 1;
        }
        progress.probe = true;
    }

    /// A follower needs a snapshot. Says whether that is new.
    pub(super) fn note_needs_snapshot(&mut self, to: NodeId) -> bool {
        let Some(progress) = self.peers.get_mut(&to) else { return false };
        if progress.snapshot.is_some() || progress.awaits_snapshot {
            return false;
        }
        progress.in_flight.clear();
        progress.awaits_snapshot = true;
        true
    }

    pub(super) fn begin_snapshot(&mut self, now: Instant, to: NodeId, image: Arc<Image>) -> Option<Message> {
        let progress = self.peers.get_mut(&to)?;
        progress.awaits_snapshot = false;
        let sending = progress.snapshot.insert(Sending { image, received: 0, sent_at: now });
        Some(sending.part(self.term))
    }

    /// Followers to which a snapshot is on its way.
    pub(super) fn snapshots_in_flight(&self) -> usize {
        self.peers.values().filter(|progress| progress.snapshot.is_some()).count()
    }

    /// A follower has got so much of a snapshot: what to send next.
    pub(super) fn on_snapshot_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        last: LogPosition,
        received: u64,
    ) -> Option<Message> {
        let progress = self.peers.get_mut(&from)?;
        let sending = progress.snapshot.as_mut().filter(|sending| sending.image.last == last)?;
        if received >= sending.image.bytes.len() as u64 {
            progress.snapshot = None;
            progress.next = last.index.get() + 1;
            progress.probe = true;
            return None;
        }
        sending.received = received;
        sending.sent_at = now;
        Some(sending.part(self.term))
    }

    /// Begins a further round of heartbeats; the rounds that a majority of one answers are answered at once.
    fn begin_round(&mut self, own_id: NodeId, membership: &Membership, commit: Option<u64>) -> Message {
        self.round += 1;
        if membership.is_majority(|id| id == own_id) {
            self.confirmed = self.round;
        }
        Message::Heartbeat { term: self.term, round: self.round, commit: commit.map(LogIndex::new) }
    }

    pub(super) fn on_heartbeat_reply(&mut self, from: NodeId, round: u64, own_id: NodeId, membership: &Membership) {
        let Some(progress) = self.peers.get_mut(&from) else { return };
        // A round that has not begun is a lie that must not make a read come true.
        progress.round = progress.round.max(round.min(self.round));
        let has = |id| id == own_id || self.peers.get(&id).is_some_and(|progress| progress.round >= round);
        if round <= self.round && membership.is_majority(has) {
            self.confirmed = self.confirmed.max(round);
        }
    }

    pub(super) fn add_read(&mut self, token: u64, index: Option<u64>) {
        let next = u64::from(!planted::is(Bug::ReadByOldRound));
        self.reads.push_back(Read { token, round: self.round + next, index });
    }

    /// Takes out the reads that may be answered. `committed` is the commit index if an entry of this term is committed.
    pub(super) fn take_ready_reads(&mut self, committed: Option<u64>, applied: u64) -> Vec<u64> {
        for read in &mut self.reads {
            read.index = read.index.or(committed);
        }
        let confirmed = self.confirmed;
        let is_ready = |read: &Read| read.round <= confirmed && read.index.is_some_and(|index| index <= applied);
        // Both only grow along the line.
        let count = self.reads.iter().take_while(|read| is_ready(read)).count();
        self.reads.drain(..count).map(|read| read.token).collect()
    }

    fn wants_round(&self) -> bool {
        self.reads.back().is_some_and(|read| read.round > self.round)
            && self.round - self.confirmed < ROUNDS_IN_FLIGHT_MAX
    }

    pub(super) fn begin_transfer(&mut self, now: Instant, to: NodeId) {
        self.transfer = Some(Transfer { to, deadline: now + TRANSFER_TIME_MAX, is_asked: false });
    }

    pub(super) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// When there is something to do by the clock alone.
    pub(super) fn next_deadline(&self) -> Instant {
        self.commit_due.map_or(self.next_tick(), |due| due.min(self.next_tick()))
    }

    /// When [`Node::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Instant {
        self.transfer.as_ref().map_or(self.tick_due, |transfer| transfer.deadline.min(self.tick_due))
    }

    /// Whether a majority was heard within an election timeout.
    pub(super) fn hears_majority(&self, now: Instant, own_id: NodeId, membership: &Membership) -> bool {
        membership.is_majority(|id| {
            id == own_id || self.peers.get(&id).is_some_and(|progress| now.since(progress.heard) < ELECTION_TIMEOUT_MAX)
        })
    }
}

impl Sending {
    fn part(&self, term: Term) -> Message {
        let bytes = &self.image.bytes;
        let start = usize::try_from(self.received).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes[start..bytes.len().min(start + PART_MAX_BYTES)].to_vec();
        let total = bytes.len() as u64;
        Message::Snapshot { term, last: self.image.last, total, offset: start as u64, part }
    }
}

impl Node {
    /// What a leader does ten times a second: says that it lives, and sends again what was not answered. Says whether the hand-over under way
    /// has failed.
    pub(super) fn tick(&mut self, now: Instant, out: &mut dyn super::node::Outbox) -> bool {
        let (commit, is_term_saved) = (self.commit(), self.is_term_saved());
        let (own_id, membership) = (self.id(), Arc::clone(self.membership()));
        let sure_commit = self.committed_in_term();
        let Some(lead) = &mut self.lead else { return false };
        lead.tick_due = now + HEARTBEAT_INTERVAL;
        let has_failed = lead.transfer.take_if(|transfer| transfer.deadline <= now).is_some();
        let heartbeat = lead.begin_round(own_id, &membership, sure_commit);
        for (&id, progress) in &mut lead.peers {
            // Nobody is to know of a term that may be forgotten.
            if is_term_saved {
                out.send(id, heartbeat.clone());
            }
            if let Some(sending) = &mut progress.snapshot
                && now.since(sending.sent_at) >= RESEND_AFTER
            {
                sending.sent_at = now;
                out.send(id, sending.part(lead.term));
            }
            if progress.in_flight.front().is_some_and(|(_, sent_at)| now.since(*sent_at) >= RESEND_AFTER) {
                progress.in_flight.clear();
                let matched = self.core.follower_match_index(id).map_or(0, LogIndex::get);
                if matched > 0 {
                    progress.next = matched + 1;
                }
                progress.probe = true;
            }
            // Whoever lags behind without anything on its way has lost something, or is new.
            let matched = self.core.follower_match_index(id).map_or(0, LogIndex::get);
            let lags = matched < self.core.log().last_position().index.get() || progress.known_commit < commit;
            progress.probe |= progress.in_flight.is_empty() && lags;
        }
        has_failed
    }

    /// At the end of a turn: entries to the followers, heartbeats for reads, the last step of a hand-over.
    pub(super) fn lead_on(&mut self, now: Instant, out: &mut dyn super::node::Outbox) {
        let (own_id, membership) = (self.id(), Arc::clone(self.membership()));
        let (commit, sendable, is_term_saved) = (self.commit(), self.sendable_last(), self.is_term_saved());
        let sure_commit = self.committed_in_term();
        let Some(lead) = &mut self.lead else { return };
        if !is_term_saved {
            return;
        }
        if lead.wants_round() {
            let heartbeat = lead.begin_round(own_id, &membership, sure_commit);
            for &id in lead.peers.keys() {
                out.send(id, heartbeat.clone());
            }
        }
        let entries = self.core.log().entries();
        let start = entries.prev_position().index.get();
        let is_commit_due = lead.commit_due.is_some_and(|due| due <= now);
        for (&id, progress) in &mut lead.peers {
            if progress.snapshot.is_some() || progress.awaits_snapshot {
                continue;
            }
            // What is not in the log any more is answered with a request for a snapshot.
            progress.next = progress.next.clamp(start + 1, entries.last_position().index.get() + 1);
            loop {
                let prev = LogIndex::new(progress.next - 1);
                let Some(prev_term) = entries.get_term(prev) else { break };
                let (last, is_full) = match progress.in_flight.len() {
                    ..MESSAGES_IN_FLIGHT_MAX => self.tail.batch_behind(prev.get(), sendable),
                    MESSAGES_IN_FLIGHT_MAX.. => (prev.get(), false),
                };
                let last = if is_full || progress.in_flight.len() < PARTIAL_IN_FLIGHT_MAX { last } else { prev.get() };
                let batch: Vec<Entry> =
                    (prev.get() + 1..=last).filter_map(|index| self.tail.get(index).cloned()).collect();
                let is_news = progress.probe || (is_commit_due && progress.told_commit < commit);
                if batch.is_empty() && !is_news {
                    break;
                }
                progress.probe = false;
                progress.told_commit = commit;
                progress.next = last + 1;
                let is_empty = batch.is_empty();
                if !is_empty {
                    progress.in_flight.push_back((last, now));
                }
                let prev = LogPosition { term: prev_term, index: prev };
                out.send(id, Message::Append { term: lead.term, commit: LogIndex::new(commit), prev, entries: batch });
                if is_empty {
                    break;
                }
            }
        }
        // Whoever waits for a snapshot hears it behind that.
        let mut others =
            lead.peers.values().filter(|progress| progress.snapshot.is_none() && !progress.awaits_snapshot);
        lead.commit_due = match others.any(|progress| progress.told_commit < commit) {
            true => lead.commit_due.filter(|due| *due > now).or(Some(now + COMMIT_TOLD_AFTER)),
            false => None,
        };
        if let Some(transfer) = &mut lead.transfer
            && !transfer.is_asked
            && self.core.follower_match_index(transfer.to) == Some(entries.last_position().index)
        {
            transfer.is_asked = true;
            out.send(transfer.to, Message::TimeoutNow { term: lead.term });
        }
    }

    /// The last entry that may leave: all but a configuration that is not on the own disk, and what is behind it.
    fn sendable_last(&self) -> u64 {
        let (last, durable) = (self.tail.last(), self.durable_last());
        if planted::is(Bug::ConfigBeforeSync) {
            return last;
        }
        self.tail.config_behind(durable).map_or(last, |index| index - 1)
    }
}

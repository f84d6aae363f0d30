//! What a leader sends: entries, and snapshots in parts; and what a follower answers.

use noraft::{LogEntries, LogIndex, LogPosition, NodeId, Term};

use super::{Event, Node, Outbox, Receiving};
use crate::raft::entry::Entry;
use crate::raft::lead::Image;
use crate::raft::message::Message;
use crate::time::Instant;

impl Node {
    pub(super) fn on_append(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        commit: LogIndex,
        prev: LogPosition,
        entries: Vec<Entry>,
    ) {
        if term >= self.term() && self.lead.as_ref().is_none_or(|lead| lead.term < term) {
            self.note_leader(now, from);
        }
        let shapes = LogEntries::from_iter(prev, entries.iter().map(Entry::shape));
        let message = noraft::Message::AppendEntriesCall { from, term, commit_index: commit, entries: shapes };
        if self.core.handle_message(&message).is_err() {
            self.events.push_back(Event::Broken("the leader's log contradicts this node's snapshot"));
            return;
        }
        // noraft forgets entries that contradict the leader's before it has others for their place.
        let appended = self.core.actions().append_log_entries.as_ref();
        let kept = appended.map_or(self.last().index, |appended| appended.prev_position().index).get();
        if kept < self.tail.last() {
            self.tail.truncate(kept);
            self.durable = self.durable.min(kept);
        }
        if appended.is_some() {
            let skipped = usize::try_from(kept.saturating_sub(prev.index.get())).unwrap_or(usize::MAX);
            for entry in entries.into_iter().skip(skipped) {
                self.tail.push(entry);
            }
        }
        self.find_membership();
        self.after_core(now);
    }

    pub(super) fn on_append_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        last: LogPosition,
        commit: LogIndex,
        out: &mut dyn Outbox,
    ) {
        let led_in = self.lead.as_ref().map(|lead| lead.term);
        self.tell_core(now, &noraft::Message::AppendEntriesReply { from, term, last_position: last });
        if led_in == Some(self.term()) && self.lead.is_none() && self.membership.is_voter(from) {
            // That was the word by which this leader's own removal is committed: who has said it has all there is, and need not wait until
            // it misses a leader.
            out.send(from, Message::TimeoutNow { term: self.term() });
        }
        let matched = self.core.follower_match_index(from).map_or(0, LogIndex::get);
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.term == term) {
            lead.note_heard(now, from);
            lead.note_matched(from, matched, commit.get());
        }
    }

    pub(super) fn on_snapshot_part(
        &mut self,
        from: NodeId,
        last: LogPosition,
        total: u64,
        offset: u64,
        part: &[u8],
        out: &mut dyn Outbox,
    ) {
        let term = self.term();
        let reply = |received| Message::SnapshotReply { term, last, received };
        if last.index.get() <= self.commit() {
            self.receiving = None;
            // What was installed may be on its way to the disk still.
            return self.send_when_saved(from, reply(total), out);
        }
        if total > self.image_max_bytes {
            return;
        }
        let is_same = self.receiving.as_ref().is_some_and(|receiving| receiving.last == last && receiving.from == from);
        if !is_same {
            self.receiving = Some(Receiving { from, last, total, bytes: Vec::new(), is_whole: false });
        }
        let Some(receiving) = &mut self.receiving else { return };
        if receiving.is_whole {
            // It is being saved; the answer comes when it is installed.
            return;
        }
        if offset == receiving.bytes.len() as u64 {
            receiving.bytes.extend_from_slice(part);
        }
        if receiving.bytes.len() as u64 == total {
            receiving.is_whole = true;
            let image = Image { last, bytes: std::mem::take(&mut receiving.bytes) };
            self.events.push_back(Event::SnapshotReceived(image));
        } else {
            let received = receiving.bytes.len() as u64;
            self.send_in_term(from, reply(received), out);
        }
    }

    /// A snapshot that had come whole was not good: it is to come again.
    pub fn reject_snapshot(&mut self) {
        self.receiving = None;
    }
}

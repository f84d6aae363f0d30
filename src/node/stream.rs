//! The primary's side of replication: every change is numbered and appended to the backlog as it is made, and sent at the end of
//! the turn. A snapshot is images of what is there, appended to the same stream between the changes, so that the joiner always
//! has a consistent part of the state and nothing is ever held up for it.

use std::time::Duration;

use super::peering::{Cursor, Follower, OnPeerLoss, Peering, StreamId, Withheld};
use super::record::Record;
use super::request::RequestId;
use super::response::{Refusal, Response};
use super::store::{Entry, State};
use super::{Event, Node, Outbox, PeerMisbehaved, Role};
use crate::peer::message::Message;
use crate::planted::{self, Bug};
use crate::time::{Instant, Now};

/// Sent and not acknowledged, at most: what the shell may have to keep for the peer.
const IN_FLIGHT_MAX_BYTES: u64 = 4 << 20;
/// Images go out in portions of so many, or of so many bytes, or of a sixteenth of the backlog: well under a millisecond's work. There are
/// two under way at most, so that a snapshot comes on whatever else happens, makes no client wait, and never fills the backlog.
const IMAGES_PER_PORTION: u32 = 512;
const PORTION_BYTES: u64 = 256 << 10;
/// The clock offset is the best of so many of the newest milliseconds, and of those before.
const CLOCK_SAMPLE_MS: u64 = 1000;
/// Two clocks drift apart by no more than this, a hundredth each: an older offset counts for as much less.
const CLOCKS_APART_PER_MILLE: i64 = 20;

impl Node {
    /// Appends a record about an entry to the stream, if anybody follows.
    fn log_entry(&mut self, slot: u32) {
        let Some(peering) = &mut self.peering else { return };
        let entry = self.stores.arena.get(slot);
        append(peering, &image(entry, &self.customers.get(entry.customer()).id));
    }

    /// A store was made or changed.
    pub(super) fn log_store(&mut self, slot: u32) {
        self.log_entry(slot);
    }

    /// A store became remains.
    pub(super) fn log_remains(&mut self, slot: u32) {
        self.log_entry(slot);
    }

    pub(super) fn log_expiry(&mut self, slot: u32) {
        let Some(peering) = &mut self.peering else { return };
        let entry = self.stores.arena.get(slot);
        append(peering, &Record::Expiry { key: entry.key, expires_ms: entry.expires_ms() });
    }

    pub(super) fn log_gone(&mut self, slot: u32) {
        let Some(peering) = &mut self.peering else { return };
        append(peering, &Record::Gone { key: self.stores.arena.get(slot).key });
    }

    pub(super) fn log_lock(&mut self, slot: u32) {
        let Some(peering) = &mut self.peering else { return };
        let key = self.stores.arena.get(slot).key;
        let record = match self.locks.holder(slot) {
            Some(holder) => {
                Record::Lock { key, lock: holder.id, until_ms: holder.until.as_millis(), connection: holder.connection }
            }
            None => Record::Unlock { key },
        };
        append(peering, &record);
    }

    pub(super) fn log_answer(&mut self, kept: u32) {
        let Some(peering) = &mut self.peering else { return };
        let Some((customer, key, fingerprint)) = self.kept.answered(kept) else { return };
        let Some((until, _)) = self.kept.until(kept) else { return };
        let record = Record::Answer {
            customer: &self.customers.get(customer).id,
            key,
            fingerprint,
            until_ms: until.as_millis(),
            response: self.kept.replay(kept),
        };
        append(peering, &record);
    }

    /// To be called before it is forgotten. A place without an answer was never told of.
    pub(super) fn log_answer_gone(&mut self, kept: u32) {
        let Some(peering) = &mut self.peering else { return };
        let Some((customer, key, _)) = self.kept.answered(kept) else { return };
        append(peering, &Record::AnswerGone { customer: &self.customers.get(customer).id, key });
    }

    /// The end of a turn: everything to be sent is handed out, changes in batches, then what follows by itself.
    pub(super) fn on_end_of_turn(&mut self, now: Now, outbox: &mut dyn Outbox) {
        self.serve_held(now, outbox);
        let epoch = self.epoch;
        let Some(peering) = &mut self.peering else { return };
        if !peering.link_up {
            self.drop_overflowing_backlog(now, outbox);
            return;
        }
        if peering.role != Role::Primary {
            if std::mem::take(&mut peering.ack_due) {
                if peering.acked_number != peering.applied {
                    peering.acked_number = peering.applied;
                    peering.acked_since = now.monotonic;
                }
                outbox.send_peer(Message::Ack {
                    epoch,
                    number: peering.applied,
                    heartbeat_sent_at_ns: peering.heartbeat_sent_at_ns,
                    sent_at_ns: now.monotonic.as_nanos(),
                });
            }
            return;
        }
        if peering.next_heartbeat <= now.monotonic {
            outbox.send_peer(Message::Heartbeat { epoch, sent_at_ns: now.monotonic.as_nanos() });
            peering.next_heartbeat = now.monotonic + Duration::from_millis(peering.config.heartbeat_interval_ms);
        }
        self.append_images();
        self.send_changes(now, outbox);
        self.drop_overflowing_backlog(now, outbox);
        self.keep_pace(now);
        // One that nobody asked for by a message, because this node is about to stop, need not wait for an acknowledgement.
        self.finish_handover_if_acknowledged(now, outbox);
    }

    /// Has clients wait for a follower that is too far behind.
    fn keep_pace(&mut self, now: Now) {
        let peering = self.peering.as_mut().expect("only with a peer");
        match peering.follower {
            Follower::None => peering.pace.end_wait(),
            Follower::Snapshot(_) | Follower::Finishing(_) | Follower::InStep => {
                let is_joining = peering.follower != Follower::InStep;
                peering.pace.on_end_of_turn(now.monotonic, &peering.backlog, is_joining);
            }
        }
    }

    /// Until when the shell is to bring nothing from clients, if it is: the follower is to come on first. Whatever the peer says may
    /// end it before.
    #[must_use]
    pub fn clients_wait_until(&self, now: Instant) -> Option<Instant> {
        let peering = self.peering.as_ref()?;
        let is_primary = peering.role == Role::Primary && peering.link_up;
        peering.pace.wait_until(now).filter(|_| is_primary)
    }

    fn send_changes(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let epoch = self.epoch;
        let peering = self.peering.as_mut().expect("only with a peer");
        // Without a sample of the clocks nothing can be said of deadlines yet; the first heartbeat brings one.
        let Some(clock_offset_ns) = clock_offset(peering, now) else {
            return;
        };
        while peering.backlog.in_flight_bytes() < IN_FLIGHT_MAX_BYTES {
            let Some(batch) = peering.backlog.next_batch() else { return };
            let (first_number, count, records) = (batch.first_number, batch.count, batch.records);
            outbox.send_peer(Message::Changes { epoch, first_number, count, clock_offset_ns, records });
        }
    }

    /// Whether a turn's end would have more images to make.
    pub(super) fn has_images_to_append(&self) -> bool {
        self.peering.as_ref().is_some_and(|peering| {
            peering.link_up
                && matches!(peering.follower, Follower::Snapshot(_))
                && peering.backlog.acked() >= peering.portion_begins
        })
    }

    /// Appends a portion of images, if there is one to append.
    fn append_images(&mut self) {
        if !self.has_images_to_append() {
            return;
        }
        let peering = self.peering.as_mut().expect("only with a peer");
        let before_bytes = peering.backlog.bytes();
        let portion_bytes = PORTION_BYTES.min(peering.config.backlog_limit_bytes / 16);
        peering.portion_begins = peering.backlog.last();
        for _ in 0..IMAGES_PER_PORTION {
            let peering = self.peering.as_ref().expect("only with a peer");
            let Follower::Snapshot(_) = peering.follower else { return };
            if peering.backlog.bytes() - before_bytes >= portion_bytes {
                return;
            }
            self.append_image();
        }
    }

    fn append_image(&mut self) {
        let peering = self.peering.as_mut().expect("only with a peer");
        let Follower::Snapshot(cursor) = peering.follower else { return };
        let next = match cursor {
            Cursor::Entries(slot)
                if slot + u32::from(planted::is(Bug::SnapshotOffByOne)) < self.stores.arena.handles_end() =>
            {
                if self.stores.arena.find(slot).is_some() {
                    self.log_entry(slot);
                    if self.locks.holder(slot).is_some() {
                        self.log_lock(slot);
                    }
                }
                Follower::Snapshot(Cursor::Entries(slot + 1))
            }
            Cursor::Entries(_) => Follower::Snapshot(Cursor::Answers(0)),
            Cursor::Answers(kept) if kept < self.kept.handles_end() => {
                self.log_answer(kept);
                Follower::Snapshot(Cursor::Answers(kept + 1))
            }
            Cursor::Answers(_) => {
                append(peering, &Record::SnapshotEnd);
                Follower::Finishing(peering.backlog.last())
            }
        };
        self.peering.as_mut().expect("only with a peer").follower = next;
    }

    /// Somebody wants to follow from behind `number` of a stream.
    pub(super) fn on_join(&mut self, stream: StreamId, number: u64, outbox: &mut dyn Outbox) {
        if self.role() != Role::Primary {
            return;
        }
        let epoch = self.epoch;
        let peering = self.peering.as_mut().expect("only with a peer");
        let primary = peering.incarnation;
        let base = peering.base;
        let is_ours = stream == StreamId { epoch, primary };
        let can_go_on = peering.follower != Follower::None && peering.backlog.holds_from(number);
        if is_ours && can_go_on {
            peering.backlog.acknowledge(number);
            peering.backlog.rewind();
        } else if is_ours && number == base && peering.backlog.last() == base {
            peering.backlog.clear();
            peering.follower = Follower::InStep;
            peering.snapshot_owed = false;
        } else {
            let is_on_its_way = matches!(peering.follower, Follower::Snapshot(_) | Follower::Finishing(_));
            // What it says it said before it had heard of the snapshot that is under way to it.
            if !(peering.begin_is_safe && is_on_its_way) {
                // Whoever was primary before this node, and had begun before, has lost what comes behind; of another history everything is lost.
                let is_common =
                    |previous: StreamId| previous.primary == stream.primary && previous.epoch >= stream.epoch;
                let common = if is_ours || peering.previous.is_some_and(is_common) { base } else { 0 };
                begin_snapshot(peering, epoch, common, outbox);
            }
            return;
        }
        outbox.send_peer(Message::Resume { epoch, primary, number, base });
    }

    pub(super) fn on_ack(
        &mut self,
        now: Now,
        epoch: u32,
        number: u64,
        heartbeat_sent_at_ns: u64,
        sent_at_ns: u64,
        outbox: &mut dyn Outbox,
    ) -> Result<(), PeerMisbehaved> {
        if epoch != self.epoch || self.role() != Role::Primary {
            return Ok(());
        }
        self.end_order_to_be_alone();
        let peering = self.peering.as_mut().expect("only with a peer");
        if heartbeat_sent_at_ns > now.monotonic.as_nanos() {
            return Err(PeerMisbehaved::AcknowledgedTheFuture);
        }
        if heartbeat_sent_at_ns > 0 {
            let sent = Instant::from_nanos(heartbeat_sent_at_ns);
            let sent = if planted::is(Bug::LeaseFromAnswer) { now.monotonic } else { sent };
            let until = sent + Duration::from_millis(peering.config.lease_ms);
            peering.lease_until = peering.lease_until.max(until);
        }
        // One that was on its way for longer than a lease says little of the clocks: this node was stopped, or the connection.
        let is_prompt = now.monotonic.as_nanos() - heartbeat_sent_at_ns <= peering.config.lease_ms * 1_000_000;
        if heartbeat_sent_at_ns > 0 && is_prompt {
            note_clock(peering, now, sent_at_ns);
        }
        if planted::is(Bug::AgeNotSent) && heartbeat_sent_at_ns > 0 {
            note_clock(peering, Now { monotonic: Instant::from_nanos(heartbeat_sent_at_ns), ..now }, sent_at_ns);
        }
        if peering.follower == Follower::None && peering.peer_role == Some(Role::Secondary) {
            // It believes that it follows.
            let primary = peering.incarnation;
            self.on_join(StreamId { epoch, primary }, number, outbox);
        } else if peering.snapshot_owed {
            let base = peering.base;
            begin_snapshot(peering, epoch, base, outbox);
        } else if peering.follower != Follower::None {
            if number > peering.backlog.last() {
                return Err(PeerMisbehaved::AcknowledgedTheFuture);
            }
            peering.backlog.acknowledge(number);
            peering.pace.on_acknowledged(now.monotonic, &peering.backlog);
            if let Follower::Finishing(end) = peering.follower
                && number >= end
            {
                peering.follower = Follower::InStep;
                outbox.event(Event::FollowerInStep);
            }
        }
        self.release_withheld(now, outbox);
        self.finish_handover_if_acknowledged(now, outbox);
        Ok(())
    }

    /// Answers what the follower has now.
    fn release_withheld(&mut self, now: Now, outbox: &mut dyn Outbox) {
        if !self.may_answer_changes(now) {
            return;
        }
        let peering = self.peering.as_mut().expect("only with a peer");
        while peering.withheld.front().is_some_and(|withheld| withheld.number <= peering.backlog.acked()) {
            let withheld = peering.withheld.pop_front().expect("there is a first one");
            deliver_bytes(outbox, withheld.request, &withheld.response);
        }
    }

    /// The secondary was lost before it had these.
    pub(super) fn refuse_withheld(&mut self, outbox: &mut dyn Outbox) {
        let Some(peering) = &mut self.peering else { return };
        for withheld in peering.withheld.drain(..) {
            let refusal = Refusal::NotReplicated { applied: true };
            super::forward::deliver(outbox, withheld.request, Response::new(Err(refusal), None));
        }
    }

    /// Keeps an answer until the follower has everything that is there now.
    pub(super) fn withhold(&mut self, request: RequestId, response: Box<[u8]>, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        if peering.backlog.acked() == peering.backlog.last() || planted::is(Bug::AnswerBeforeApply) {
            return deliver_bytes(outbox, request, &response);
        }
        peering.withheld.push_back(Withheld { number: peering.backlog.last(), request, response });
    }

    /// Changes may be answered under `replicated`: the follower has everything, and is there.
    pub(super) fn can_replicate(&self, now: Now) -> bool {
        self.peering.as_ref().is_some_and(|peering| {
            peering.role == Role::Primary && peering.follower == Follower::InStep && peering.has_lease(now)
        })
    }

    /// In safe mode a primary without a lease changes nothing.
    pub(super) fn must_refuse_changes(&self, now: Now) -> bool {
        self.peering
            .as_ref()
            .is_some_and(|peering| peering.config.on_peer_loss == OnPeerLoss::Safe && !peering.has_lease(now))
    }

    /// Nobody follows any more.
    pub(super) fn lose_follower(&mut self, outbox: &mut dyn Outbox) {
        self.refuse_withheld(outbox);
        let peering = self.peering.as_mut().expect("only with a peer");
        if peering.follower != Follower::None {
            peering.follower = Follower::None;
            outbox.event(Event::FollowerLost);
        }
        peering.snapshot_owed = false;
        peering.backlog.clear();
        if self.is_handing_over() {
            self.abort_handover(outbox);
        }
    }

    /// A follower too far behind costs no more memory than the backlog may have; it will need a snapshot, which begins when it shows
    /// that it is there.
    fn drop_overflowing_backlog(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let Some(peering) = &mut self.peering else { return };
        let is_over = peering.backlog.bytes() > peering.config.backlog_limit_bytes;
        if is_over && peering.follower != Follower::None && !planted::is(Bug::BacklogUnbounded) {
            outbox.event(Event::BacklogOverflow);
            self.lose_follower(outbox);
            self.peering.as_mut().expect("only with a peer").snapshot_owed = true;
            self.serve_held(now, outbox);
        }
    }
}

/// Begins a snapshot for the peer, whatever it has. It begins behind a number that is used for nothing: what the peer may still
/// have, or get, of the stream before then never fits what follows.
fn begin_snapshot(peering: &mut Peering, epoch: u32, base: u64, outbox: &mut dyn Outbox) {
    peering.backlog.skip();
    peering.backlog.clear();
    peering.follower = Follower::Snapshot(Cursor::Entries(0));
    peering.begin_is_safe = peering.link_up;
    peering.snapshot_owed = false;
    peering.portion_begins = 0;
    let (primary, number) = (peering.incarnation, peering.backlog.last());
    outbox.send_peer(Message::Begin { epoch, primary, number, base });
    outbox.event(Event::SnapshotBegun);
}

fn append(peering: &mut Peering, record: &Record<'_>) {
    if peering.role != Role::Primary {
        return;
    }
    match peering.follower {
        Follower::None => peering.backlog.skip(),
        Follower::Snapshot(_) | Follower::Finishing(_) | Follower::InStep => peering.backlog.append(record),
    }
}

/// The whole state of an entry.
fn image<'a>(entry: &'a Entry, customer: &'a str) -> Record<'a> {
    match entry.state() {
        State::Blob | State::Counter => Record::Store {
            key: entry.key,
            customer,
            name: entry.name(),
            etag: entry.etag(),
            expires_ms: entry.expires_ms(),
            content: entry.content(),
        },
        state @ (State::Expired | State::Tombstone) => {
            Record::Remains { key: entry.key, customer, state, until_ms: entry.expires_ms() }
        }
    }
}

/// An acknowledgement sent at `sent_at_ns` of the follower's clock arrived now: the follower's clock shows at least that much
/// more than ours. The greatest of such differences is nearest to the truth, and never above it. Those of long ago are not
/// forgotten, so that a connection that stalls and then delivers everything at once shortens nobody's time.
fn note_clock(peering: &mut Peering, now: Now, sent_at_ns: u64) {
    let sent = i64::try_from(sent_at_ns).unwrap_or(i64::MAX);
    let offset = sent.saturating_sub(i64::try_from(now.monotonic.as_nanos()).unwrap_or(i64::MAX));
    let [current, before] = &mut peering.clock_samples;
    match current {
        Some((since, best)) if now.monotonic.since(*since) < Duration::from_millis(CLOCK_SAMPLE_MS) => {
            *best = offset.max(*best);
        }
        Some((since, best)) => {
            let older = before.map_or(i64::MIN, |(since, best)| drifted(best, now.monotonic.since(since)));
            let fresh = Duration::from_millis(2 * CLOCK_SAMPLE_MS);
            let newer = drifted(*best, now.monotonic.since(*since).saturating_sub(fresh));
            *before = Some((now.monotonic, older.max(newer)));
            *current = Some((now.monotonic, offset));
        }
        None => *current = Some((now.monotonic, offset)),
    }
}

/// By how much the follower's clock shows more, at least; nothing if it has acknowledged nothing for a lease: heartbeats go on, and
/// the answer to one brings the next.
fn clock_offset(peering: &Peering, now: Now) -> Option<i64> {
    let (since, _) = peering.clock_samples[0]?;
    let is_fresh = now.monotonic.since(since) <= Duration::from_millis(peering.config.lease_ms);
    is_fresh.then(|| peering.clock_samples.iter().flatten().map(|&(_, best)| best).max()).flatten()
}

/// What is left of an offset after so long.
fn drifted(offset: i64, passed: Duration) -> i64 {
    let passed_ns = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
    offset.saturating_sub(passed_ns / 1000 * CLOCKS_APART_PER_MILLE)
}

pub(super) fn deliver_bytes(outbox: &mut dyn Outbox, request: RequestId, response: &[u8]) {
    let response = super::codec::read_response(&mut crate::wire::Reader::new(response));
    super::forward::deliver(outbox, request, response.expect("what was written reads back"));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::node::peering::PeerConfig;

    #[test]
    fn acknowledgements_that_were_long_on_their_way_shorten_nobodys_time() {
        let config = PeerConfig {
            own_id: "a".into(),
            peer_id: "b".into(),
            heartbeat_interval_ms: 200,
            lease_ms: 2000,
            grace_ms: 2000,
            on_peer_loss: OnPeerLoss::Available,
            replicate_all: false,
            backlog_limit_bytes: 1 << 20,
        };
        let at = |millis| Now { monotonic: Instant::from_millis(millis), ..Now::default() };
        let mut peering = Peering::new(config, 1, at(0));
        let offset_at = |peering: &Peering, millis| clock_offset(peering, at(millis)).unwrap() / 1_000_000;
        // The follower's clock shows 5 s more, and an acknowledgement takes 10 ms.
        note_clock(&mut peering, at(1010), 6_000_000_000);
        assert_eq!(offset_at(&peering, 1010), 4990);
        assert_eq!(clock_offset(&peering, at(9000)), None, "there is nothing of late");
        // Then the connection stalls, and what was said in twelve seconds arrives within two.
        for number in 0..20 {
            note_clock(&mut peering, at(13_010 + 100 * number), (6200 + 100 * number) * 1_000_000);
        }
        assert_eq!(offset_at(&peering, 15_000), 4990 - 11_000 / 50);
        // The next one that is quick is better.
        note_clock(&mut peering, at(15_010), 20_000_000_000);
        assert_eq!(offset_at(&peering, 15_010), 4990);
    }
}

//! The follower's side of replication: it applies the stream in order, without gaps or repeats, and acknowledges.
//!
//! It expires nothing by itself: a store whose time is over is not readable, but goes when the primary says so. What comes from
//! the peer is checked before it reaches an assertion: a stream that does not fit ends the connection, and this node joins anew.

use super::backlog::Batch;
use super::peering::StreamId;
use super::record::{Record, read_record};
use super::request::{ConnectionId, Content, Etag, Idempotency, LockId, StoreKey};
use super::response::Response;
use super::store::{Entry, State};
use super::timeouts::{TOMBSTONE_KEPT_MS, Timer};
use super::{Event, LOOKED_UP_AHEAD_MAX, Node, Outbox, PeerMisbehaved, Role};
use crate::planted::{self, Bug};
use crate::time::{Instant, Now};
use crate::wire::{Malformed, Reader};

/// A lock that somebody holds at the primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct FollowedLock {
    pub(super) id: LockId,
    pub(super) until: Instant,
    pub(super) connection: Option<ConnectionId>,
}

/// A record that cannot be true.
struct Impossible;

impl Node {
    pub(super) fn on_begin(&mut self, now: Now, stream: StreamId, number: u64, base: u64, outbox: &mut dyn Outbox) {
        if stream.epoch < self.epoch || self.role() == Role::Primary {
            return;
        }
        self.forget_everything(now);
        self.follow(now, stream, number, base, outbox);
        self.enter_role(now, Role::Joining, outbox);
    }

    pub(super) fn on_resume(&mut self, now: Now, stream: StreamId, number: u64, base: u64, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_ref().expect("only with a peer");
        if stream.epoch < self.epoch || peering.role == Role::Primary || number != peering.applied {
            return;
        }
        self.follow(now, stream, number, base, outbox);
    }

    fn follow(&mut self, now: Now, stream: StreamId, number: u64, base: u64, outbox: &mut dyn Outbox) {
        self.epoch = stream.epoch;
        let peering = self.peering.as_mut().expect("only with a peer");
        peering.stream = Some(stream);
        peering.applied = number;
        peering.promote_at = now.monotonic + peering.patience();
        peering.ack_due = true;
        self.count_loss(base, outbox);
    }

    /// This node goes on with a history that has what its own had up to `base`: if it was primary, the rest of its changes is lost.
    pub(super) fn count_loss(&mut self, base: u64, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        if let Some((_, was_up_to)) = peering.was_primary.take() {
            let lost = was_up_to.saturating_sub(base);
            self.status.lost_changes_total += lost;
            outbox.event(Event::ChangesLost { count: lost });
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Now, epoch: u32, sent_at_ns: u64, outbox: &mut dyn Outbox) {
        let is_older = epoch < self.epoch && !planted::is(Bug::EpochNotCompared);
        if is_older || self.role() == Role::Primary {
            return;
        }
        self.epoch = epoch;
        let peering = self.peering.as_mut().expect("only with a peer");
        if peering.peer_role != Some(Role::Primary) {
            self.send_join(outbox);
        }
        let peering = self.peering.as_mut().expect("only with a peer");
        let patience = peering.patience();
        peering.peer_role = Some(Role::Primary);
        peering.note_data_at_peer(epoch);
        peering.promote_at = now.monotonic + patience;
        peering.alone_at = now.monotonic + patience;
        peering.handed_over = None;
        peering.heartbeat_sent_at_ns = peering.heartbeat_sent_at_ns.max(sent_at_ns);
        peering.ack_due = true;
    }

    pub(super) fn on_changes(
        &mut self,
        now: Now,
        epoch: u32,
        batch: &Batch<'_>,
        clock_offset_ns: i64,
        outbox: &mut dyn Outbox,
    ) -> Result<(), PeerMisbehaved> {
        let &Batch { first_number, count, records } = batch;
        let peering = self.peering.as_mut().expect("only with a peer");
        let follows = peering.stream.is_some_and(|stream| stream.epoch == epoch);
        if epoch != self.epoch || peering.role == Role::Primary || !follows {
            return Ok(());
        }
        if first_number > peering.applied + 1 {
            if planted::is(Bug::PromotionWithGap) {
                peering.applied = first_number - 1;
            } else {
                self.send_join(outbox);
                return Ok(());
            }
        }
        let peering = self.peering.as_mut().expect("only with a peer");
        peering.ack_due = true;
        let repeated = peering.applied + 1 - first_number;
        let (mut reader, mut place) = (Reader::new(records), 0);
        while place < u64::from(count) {
            let some = LOOKED_UP_AHEAD_MAX.min((u64::from(count) - place) as usize);
            let Ok(some) = (0..some).map(|_| read_record(&mut reader)).collect::<Result<Vec<Record<'_>>, Malformed>>()
            else {
                return Err(self.join_anew(now, outbox));
            };
            self.stores.look_up_ahead(some.iter().filter_map(Record::store));
            for record in &some {
                let is_repeated = place < repeated;
                place += 1;
                if is_repeated && !planted::is(Bug::ChangeAppliedTwice) {
                    continue;
                }
                if self.apply(now, record, clock_offset_ns, outbox).is_err() {
                    return Err(self.join_anew(now, outbox));
                }
                if !is_repeated {
                    self.peering.as_mut().expect("only with a peer").applied += 1;
                }
            }
        }
        reader.finish().map_err(|_| self.join_anew(now, outbox))
    }

    /// The stream does not fit what is here: all of it is worthless.
    fn join_anew(&mut self, now: Now, outbox: &mut dyn Outbox) -> PeerMisbehaved {
        self.forget_everything(now);
        self.enter_role(now, Role::Joining, outbox);
        PeerMisbehaved::ImpossibleRecord
    }

    fn apply(
        &mut self,
        now: Now,
        record: &Record<'_>,
        clock_offset_ns: i64,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Impossible> {
        // Rounded down: a deadline never grows by being passed on.
        let here_ms = |primary_ms: u64| {
            let there_ns = i128::from(primary_ms) * 1_000_000;
            u64::try_from((there_ns + i128::from(clock_offset_ns)).div_euclid(1_000_000)).unwrap_or(0)
        };
        match record {
            Record::Store { key, customer, name, etag, expires_ms, content } => {
                self.apply_store(*key, customer, *name, *etag, here_ms(*expires_ms), content)
            }
            Record::Expiry { key, expires_ms } => self.with_store(key, |node, slot| {
                node.stores.set_expires_ms(slot, here_ms(*expires_ms));
                Ok(())
            }),
            Record::Remains { key, customer, state, until_ms } => {
                let early_ms = if planted::is(Bug::TombstoneDropped) { TOMBSTONE_KEPT_MS / 2 } else { 0 };
                self.apply_remains(*key, customer, *state, here_ms(*until_ms).saturating_sub(early_ms))
            }
            Record::Gone { key } => {
                let Some(slot) = self.stores.find(key) else { return self.only_while_joining() };
                let entry = self.stores.arena.get(slot);
                let (customer, state) = (entry.customer(), entry.state());
                if entry.is_store() {
                    return Err(Impossible);
                }
                self.stores.disarm(slot);
                self.remove_remains(now, slot, customer, state);
                Ok(())
            }
            Record::Lock { key, lock, until_ms, connection } => self.with_store(key, |node, slot| {
                let until = Instant::from_millis(here_ms(*until_ms));
                let connection = connection.map(super::forward::other_sides_connection);
                let peering = node.peering.as_mut().expect("only with a peer");
                peering.followed_locks.insert(slot, FollowedLock { id: *lock, until, connection });
                Ok(())
            }),
            Record::Unlock { key } => self.with_store(key, |node, slot| {
                node.peering.as_mut().expect("only with a peer").followed_locks.remove(&slot);
                Ok(())
            }),
            Record::Answer { customer, key, fingerprint, until_ms, response } => {
                let idempotency = Idempotency { key, fingerprint: *fingerprint };
                self.apply_answer(customer, &idempotency, here_ms(*until_ms), response)
            }
            Record::AnswerGone { customer, key } => {
                let found = self.customers.find(customer).and_then(|handle| self.kept.find(handle, key));
                let Some(kept) = found else { return self.only_while_joining() };
                self.forget_answer_of_its_customer(now, kept);
                Ok(())
            }
            Record::SnapshotEnd => {
                if self.role() != Role::Joining {
                    return Err(Impossible);
                }
                self.enter_role(now, Role::Secondary, outbox);
                Ok(())
            }
        }
    }

    /// A joiner does not have everything yet, so what it does not know is no mistake.
    fn only_while_joining(&self) -> Result<(), Impossible> {
        if self.role() == Role::Joining { Ok(()) } else { Err(Impossible) }
    }

    fn with_store(
        &mut self,
        key: &StoreKey,
        apply: impl FnOnce(&mut Self, u32) -> Result<(), Impossible>,
    ) -> Result<(), Impossible> {
        match self.stores.find(key) {
            None => self.only_while_joining(),
            Some(slot) if self.stores.arena.get(slot).is_store() => apply(self, slot),
            Some(_) => Err(Impossible),
        }
    }

    fn apply_store(
        &mut self,
        key: StoreKey,
        customer: &str,
        name: Option<&str>,
        etag: Etag,
        expires_ms: u64,
        content: &Content<'_>,
    ) -> Result<(), Impossible> {
        let customer = self.customers.find_or_make(customer).ok_or(Impossible)?;
        if etag.version >= 1 << 48 {
            return Err(Impossible);
        }
        let slot = match self.stores.find(&key) {
            Some(slot) => {
                let entry = self.stores.arena.get(slot);
                if entry.customer() != customer || !entry.is_store() || (entry.name().is_some() && name.is_none()) {
                    return Err(Impossible);
                }
                let old_bytes = entry.cost_bytes();
                self.take_memory(customer, old_bytes);
                self.stores.arena.get_mut(slot).set_content(*content);
                self.stores.arena.get_mut(slot).set_etag(etag);
                self.stores.set_expires_ms(slot, expires_ms);
                slot
            }
            None => {
                let mut entry = Entry::new(key, customer, etag, expires_ms);
                entry.set_content(*content);
                self.customers.get_mut(customer).entries += 1;
                self.status.stores += 1;
                self.stores.insert(entry)
            }
        };
        if let Some(name) = name {
            self.apply_name(customer, slot, name)?;
        }
        self.add_memory(customer, self.stores.arena.get(slot).cost_bytes());
        Ok(())
    }

    fn apply_name(&mut self, customer: u32, slot: u32, name: &str) -> Result<(), Impossible> {
        let old = self.stores.arena.get(slot).name().map(str::to_owned);
        if old.as_deref() == Some(name) {
            return Ok(());
        }
        let names = &mut self.customers.get_mut(customer).names;
        if names.contains_key(name) {
            return Err(Impossible);
        }
        names.insert(name.into(), slot);
        match old {
            Some(old) => _ = names.remove(old.as_str()),
            None => self.status.names += 1,
        }
        self.stores.arena.get_mut(slot).set_name(name);
        Ok(())
    }

    fn apply_remains(&mut self, key: StoreKey, customer: &str, state: State, until_ms: u64) -> Result<(), Impossible> {
        let customer = self.customers.find_or_make(customer).ok_or(Impossible)?;
        let slot = match self.stores.find(&key) {
            Some(slot) => {
                let entry = self.stores.arena.get(slot);
                if entry.customer() != customer {
                    return Err(Impossible);
                }
                if !entry.is_store() {
                    // The snapshot's image of what a change has told already.
                    return if entry.state() == state { self.only_while_joining() } else { Err(Impossible) };
                }
                self.peering.as_mut().expect("only with a peer").followed_locks.remove(&slot);
                self.remove_content(slot, state, until_ms);
                slot
            }
            None => {
                let etag = Etag { epoch: self.epoch, version: 1 };
                let mut entry = Entry::new(key, customer, etag, until_ms);
                entry.become_remains(state, until_ms);
                self.customers.get_mut(customer).entries += 1;
                self.stores.insert(entry)
            }
        };
        if state == State::Tombstone {
            let customer = self.stores.arena.get(slot).customer();
            self.customers.get_mut(customer).tombstones += 1;
            self.status.tombstones += 1;
        }
        Ok(())
    }

    fn apply_answer(
        &mut self,
        customer: &str,
        idempotency: &Idempotency<'_>,
        until_ms: u64,
        response: &Response<'_>,
    ) -> Result<(), Impossible> {
        let customer = self.customers.find_or_make(customer).ok_or(Impossible)?;
        if self.kept.find(customer, idempotency.key).is_some() {
            return self.only_while_joining();
        }
        let kept = self.kept.reserve(customer, idempotency);
        self.customers.get_mut(customer).kept_answers += 1;
        let more_bytes = self.kept.keep(kept, response).unwrap_or(0);
        self.add_memory(customer, super::kept::KeptAnswers::cost_bytes(idempotency) + more_bytes);
        let until = Instant::from_millis(until_ms);
        let timer = self.timers.arm(until, Timer::AnswerForgotten(kept));
        self.kept.set_until(kept, until, timer);
        Ok(())
    }
}

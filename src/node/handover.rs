//! Handover: the primary and the secondary change places by order, without loss. The secondary asks for it, or the primary begins by itself
//! because it is about to stop; the primary holds new changes until the other node has every one before, then gives its epoch's end away.
//!
//! Promotion where the primary is gone is `peering`'s. What the old primary has not answered yet is forwarded to the new one, by the rules
//! of `forward`.

use std::time::Duration;

use super::codec::read_request;
use super::follow::FollowedLock;
use super::forward::refuse;
use super::locks::Holder;
use super::peering::{Follower, StreamId};
use super::request::{Idempotency, RequestId};
use super::response::{Answer, Refusal, Response};
use super::timeouts::Timer;
use super::{Event, Node, Outbox, Role};
use crate::peer::message::Message;
use crate::time::Now;
use crate::wire::Reader;

/// A handover that the other node does not answer ends after this, one way or the other.
pub const HANDOVER_TIMEOUT_MS: u64 = 1000;

/// A request that a primary keeps while it hands over.
pub(super) struct Held {
    pub(super) request: RequestId,
    pub(super) bytes: Box<[u8]>,
}

impl Node {
    /// The operator wants this node to be primary.
    pub(super) fn on_promote(&mut self, now: Now, id: RequestId, force: bool, outbox: &mut dyn Outbox) {
        let done = Response::new(Ok(Answer::Done), None);
        let Some(peering) = self.peering.as_mut() else { return outbox.respond(id, done) };
        match (peering.role, force) {
            (Role::Primary, _) => {
                if force {
                    peering.alone_by_order = true;
                }
                outbox.respond(id, done);
            }
            (Role::Joining, false) => outbox.respond(id, Response::new(Err(Refusal::StoreUnavailable), None)),
            (Role::Secondary, false) if peering.promotion.is_none() => {
                let until = now.monotonic + Duration::from_millis(HANDOVER_TIMEOUT_MS);
                peering.promotion = Some((id, until));
                self.repeat_handover(outbox);
            }
            (Role::Secondary, false) => outbox.respond(id, Response::new(Err(Refusal::LeaderChanged), None)),
            (Role::Secondary | Role::Joining, true) => {
                self.become_primary(now, "the operator asked for it", outbox);
                outbox.respond(id, done);
            }
        }
    }

    /// Says what a handover has come to here, if there is one: again on every new connection, for with the one before it may have been lost.
    pub(super) fn repeat_handover(&mut self, outbox: &mut dyn Outbox) {
        let Some(peering) = self.peering.as_ref().filter(|peering| peering.link_up) else { return };
        if peering.promotion.is_some() && peering.role == Role::Secondary {
            outbox.send_peer(Message::Handover { epoch: self.epoch });
        }
        if let Some(epoch) = peering.handed_over {
            outbox.send_peer(Message::HandoverDone { epoch, number: peering.applied });
        }
    }

    pub(super) fn on_handover_refused(&mut self, epoch: u32, outbox: &mut dyn Outbox) {
        if epoch == self.epoch
            && let Some((request, _)) = self.peering.as_mut().and_then(|peering| peering.promotion.take())
        {
            outbox.respond(request, Response::new(Err(Refusal::LeaderChanged), None));
        }
    }

    /// The primary begins to hand over, because the secondary asks or because it is about to stop. Says whether it did.
    pub fn begin_handover(&mut self, now: Now) -> bool {
        let Some(peering) = &mut self.peering else { return false };
        let can = peering.role == Role::Primary
            && peering.follower == Follower::InStep
            && peering.link_up
            && peering.lease_until > now.monotonic;
        if can && peering.handover_until.is_none() {
            peering.handover_until = Some(now.monotonic + Duration::from_millis(HANDOVER_TIMEOUT_MS));
        }
        can
    }

    /// Whether a handover is under way.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.peering.as_ref().is_some_and(|peering| peering.handover_until.is_some())
    }

    pub(super) fn on_handover(&mut self, now: Now, epoch: u32, outbox: &mut dyn Outbox) {
        if self.peering.as_ref().is_some_and(|peering| peering.handed_over == Some(epoch)) {
            return self.repeat_handover(outbox);
        }
        if epoch != self.epoch || !self.begin_handover(now) {
            return outbox.send_peer(Message::HandoverRefused { epoch });
        }
        self.finish_handover_if_acknowledged(now, outbox);
    }

    /// Once the secondary has every change, this node is secondary and the other one primary.
    pub(super) fn finish_handover_if_acknowledged(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_mut().expect("only with a peer");
        if peering.handover_until.is_none()
            || peering.follower != Follower::InStep
            || peering.backlog.acked() != peering.backlog.last()
        {
            return;
        }
        // Whatever is still withheld had no lease when it was acknowledged, and nobody will look at it here again.
        self.refuse_withheld(outbox);
        let peering = self.peering.as_mut().expect("only with a peer");
        let (epoch, number) = (self.epoch, peering.backlog.last());
        peering.handover_until = None;
        peering.applied = number;
        // The next epoch is given away: should this node ever promote itself again, it takes the one after.
        let primary = peering.peer.expect("whoever acknowledges has said who it is");
        peering.stream = Some(StreamId { epoch: epoch + 1, primary });
        peering.follower = Follower::None;
        peering.backlog.clear();
        outbox.send_peer(Message::HandoverDone { epoch, number });
        self.epoch = epoch + 1;
        self.follow_own_locks();
        self.enter_role(now, Role::Secondary, outbox);
        let peering = self.peering.as_mut().expect("only with a peer");
        peering.handed_over = Some(epoch);
        // The other node promotes itself first if it never hears of it.
        peering.promote_at = peering.promote_at + Duration::from_millis(2 * HANDOVER_TIMEOUT_MS);
        peering.peer_role = Some(Role::Primary);
        outbox.event(Event::HandedOver { epoch });
        self.pass_on_what_waits(now, outbox);
    }

    /// Keeps the locks as a follower does.
    fn follow_own_locks(&mut self) {
        let slots: Vec<u32> = self.locks.held_slots().collect();
        for slot in slots {
            let Some(&Holder { id, until, timer, connection }) = self.locks.holder(slot) else { continue };
            self.timers.disarm(timer);
            // One that is over goes too, as it is: the other node has it, and says when it is gone.
            let peering = self.peering.as_mut().expect("only with a peer");
            peering.followed_locks.insert(slot, FollowedLock { id, until, connection });
        }
    }

    /// Everything that has no answer yet goes to the new primary, in the order in which it came.
    fn pass_on_what_waits(&mut self, now: Now, outbox: &mut dyn Outbox) {
        for slot in self.locks.slots_with_line() {
            while let Some(parked) = self.locks.next(slot) {
                self.timers.disarm(parked.timer);
                let left = parked.deadline.since(now.monotonic);
                let customer = self.customers.get(parked.asker.customer).id.clone();
                let mut request = parked.request(&customer, u64::try_from(left.as_millis()).unwrap_or(0));
                let place = parked.asker.kept.map(|kept| (kept, self.kept.place(kept)));
                if let Some((kept, (key, fingerprint))) = &place {
                    request.idempotency = Some(Idempotency { key, fingerprint: *fingerprint });
                    self.forget_kept_answer(*kept);
                }
                self.forward(now, parked.asker.request, &request, outbox);
            }
            self.locks.release(slot);
            self.locks.drop_line_if_empty(slot);
            self.stores.arena.get_mut(slot).set_has_lock_line(false);
            // One whose time had come while it was locked waits for no timer any more; should this node be primary again, it ends.
            self.stores.set_expires_ms(slot, self.stores.arena.get(slot).expires_ms());
        }
        let held = std::mem::take(&mut self.peering.as_mut().expect("only with a peer").held);
        for Held { request, bytes } in held {
            let asked = read_request(&mut Reader::new(&bytes)).expect("what was written reads back");
            self.forward(now, request, &asked, outbox);
        }
        for job in std::mem::take(&mut self.prefix_jobs) {
            refuse(outbox, job.asker.request, Refusal::LeaderChanged);
        }
    }

    /// The other node did not take over in time: this one goes on.
    pub(super) fn abort_handover(&mut self, outbox: &mut dyn Outbox) {
        self.peering.as_mut().expect("only with a peer").handover_until = None;
        outbox.send_peer(Message::HandoverRefused { epoch: self.epoch });
        outbox.event(Event::HandoverAborted);
    }

    /// Does what was held for a handover that did not come about. At the end of a turn and not before: what has ended the handover may
    /// go on to end this primary, and nobody is to be told that something was done that is lost the moment after.
    pub(super) fn serve_held(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let Some(peering) = &mut self.peering else { return };
        if peering.handover_until.is_some() {
            return;
        }
        for Held { request, bytes } in std::mem::take(&mut peering.held) {
            self.repeat_request(now, request, &bytes, outbox);
        }
    }

    /// The old primary has handed over: nothing is missing, and locks go on.
    pub(super) fn on_handover_done(&mut self, now: Now, epoch: u32, number: u64, outbox: &mut dyn Outbox) {
        let peering = self.peering.as_ref().expect("only with a peer");
        if epoch != self.epoch || peering.role != Role::Secondary || peering.applied != number {
            return;
        }
        self.start_epoch(now, "the other node handed over", outbox);
        let peering = self.peering.as_mut().expect("only with a peer");
        peering.lock_window_until = now.monotonic;
        // The old primary has exactly this, and follows. It began to wait for a heartbeat after it had the acknowledgement
        // that ended its epoch, so its patience outlasts a lease from the sending of that.
        peering.follower = Follower::InStep;
        peering.lease_until = peering.acked_since + Duration::from_millis(peering.config.lease_ms);
        self.take_over_locks();
    }

    /// The locks of the old primary are this one's from now on.
    pub(super) fn take_over_locks(&mut self) {
        let peering = self.peering.as_mut().expect("only with a peer");
        let mut locks: Vec<(u32, FollowedLock)> = peering.followed_locks.drain().collect();
        locks.sort_unstable_by_key(|(slot, _)| *slot);
        for (slot, lock) in locks {
            let timer = self.timers.arm(lock.until, Timer::HoldEnds(slot));
            self.locks.hold(slot, Holder { id: lock.id, until: lock.until, timer, connection: lock.connection });
            self.stores.arena.get_mut(slot).set_has_lock_line(true);
        }
    }
}

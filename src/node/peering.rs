//! Two nodes: who is what. Roles, epochs, the lease, and every change from one role to another.
//!
//! The rules, each with its reason (section 1 and 2 of the replication specification):
//! - Only a SECONDARY promotes itself, for it alone has the other's data; a JOINING node becomes PRIMARY only where nobody can
//!   have any: nobody ever answered for lease and grace, or the other is JOINING too and has the greater host id. One that has
//!   heard a PRIMARY or SECONDARY waits for it in silence too, until that one is proved dead or the operator decides: with
//!   nothing it would win over the full one by its newer epoch. So does one whose own connection to the other is up though the
//!   other is never heard: it lives, and if it cannot reach this node, it is the one that goes on.
//! - Of two joiners the one that goes first becomes PRIMARY when it hears the other, so the other one repeats itself until it has a
//!   role: nothing else would pass between them, and neither could ever notice that the network has swallowed that word.
//! - A primary's lease counts from the sending of the newest heartbeat that was acknowledged, a secondary's patience from its
//!   receipt: so the lease is always over first, by at least the grace.
//! - Whoever hears a newer epoch stops being primary before it does anything else.
//! - Another incarnation of the peer means that the one before is gone, and its memory with it.
//!
//! `stream` sends changes, `follow` applies them, `forward` passes requests on, `handover` has the nodes change places by order; this file
//! says when.

use std::collections::VecDeque;
use std::time::Duration;

use super::arena::OwnMap;
use super::backlog::{Backlog, Batch};
use super::follow::FollowedLock;
use super::forward::Forwards;
use super::handover::Held;
use super::pace::Pace;
use super::request::{ConnectionId, RequestId};
use super::response::{Answer, Refusal, Response};
use super::store::Entry;
use super::{Event, Node, Outbox, Role};
use crate::peer::message::Message;
use crate::planted::{self, Bug};
use crate::time::{Instant, Now};
use crate::wheel::Timers;

/// So many refused connections, within so many milliseconds, prove that nobody listens any more.
pub const REFUSALS_PROVING_DEATH: u32 = 3;
/// See [`REFUSALS_PROVING_DEATH`].
pub const REFUSALS_WITHIN_MS: u64 = 100;
/// Lives of the peer that are known to be over: more than can come and go while a message is on its way.
const FORMER_PEERS_REMEMBERED: usize = 32;

/// What a primary does whose lease has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPeerLoss {
    /// Goes on alone, and says so with every change.
    Available,
    /// Refuses changes, so that there is never a second writer.
    Safe,
}

/// The settings of a node with a peer.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// This node's host id.
    pub own_id: String,
    /// The peer's host id.
    pub peer_id: String,
    /// How often a primary sends a heartbeat.
    pub heartbeat_interval_ms: u64,
    /// How long an acknowledged heartbeat lets a primary go on.
    pub lease_ms: u64,
    /// How long a secondary waits beyond the lease.
    pub grace_ms: u64,
    /// What a primary does without a lease.
    pub on_peer_loss: OnPeerLoss,
    /// Every change waits for the secondary.
    pub replicate_all: bool,
    /// Unacknowledged changes that are kept, in bytes.
    pub backlog_limit_bytes: u64,
}

/// The other node, seen from a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follower {
    /// Nobody follows, or is too far behind.
    None,
    /// It gets a snapshot.
    Snapshot(Cursor),
    /// The snapshot has been sent; its last change has this number.
    Finishing(u64),
    /// It has everything up to what it acknowledged.
    InStep,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Entries from this handle on are to be sent.
    Entries(u32),
    /// Kept answers from this handle on are to be sent.
    Answers(u32),
}

/// An answer that waits until the secondary has the change.
pub(super) struct Withheld {
    pub(super) number: u64,
    pub(super) request: RequestId,
    pub(super) response: Box<[u8]>,
}

/// A stream of changes: the epoch and the incarnation of its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub(super) epoch: u32,
    pub(super) primary: u64,
}

/// All that a node with a peer has beside the stores.
pub(super) struct Peering {
    pub(super) config: PeerConfig,
    pub(super) role: Role,
    pub(super) incarnation: u64,
    /// The connection that this node dialled is up.
    pub(super) link_up: bool,
    pub(super) peer: Option<u64>,
    /// Its lives before, the newest last: what they said may still arrive.
    former_peers: VecDeque<u64>,
    pub(super) peer_role: Option<Role>,
    pub(super) heard_at: Option<Instant>,
    /// The number in the last status sent: two primaries compare what they have told each other.
    pub(super) told_number: u64,

    // As primary.
    pub(super) backlog: Backlog,
    pub(super) follower: Follower,
    /// The connection on which the newest snapshot was announced is still the one there is.
    pub(super) begin_is_safe: bool,
    /// The follower was dropped for being too far behind: it gets a snapshot when it is heard of.
    pub(super) snapshot_owed: bool,
    /// The last record before the newest portion of a snapshot.
    pub(super) portion_begins: u64,
    pub(super) pace: Pace,
    pub(super) lease_until: Instant,
    /// The operator said to go on without a peer.
    pub(super) alone_by_order: bool,
    pub(super) next_heartbeat: Instant,
    pub(super) clock_samples: [Option<(Instant, i64)>; 2],
    /// The last change of the epochs before this one.
    pub(super) base: u64,
    pub(super) previous: Option<StreamId>,
    pub(super) lock_window_until: Instant,
    pub(super) handover_until: Option<Instant>,
    /// This epoch's end was handed over, and the other node has not been heard as primary of the next.
    pub(super) handed_over: Option<u32>,
    pub(super) held: VecDeque<Held>,
    pub(super) withheld: VecDeque<Withheld>,
    /// One more than the greatest id of a request that this life of the peer has forwarded.
    pub(super) forwards_heard: u64,

    // As follower.
    pub(super) stream: Option<StreamId>,
    pub(super) applied: u64,
    pub(super) heartbeat_sent_at_ns: u64,
    pub(super) promote_at: Instant,
    refusals: u32,
    refused_since: Instant,
    pub(super) ack_due: bool,
    /// The number in the newest acknowledgement, and when the first with that number was sent.
    pub(super) acked_number: u64,
    pub(super) acked_since: Instant,
    pub(super) followed_locks: OwnMap<u32, FollowedLock>,
    /// The first epoch it was primary of since it last began with nothing.
    pub(super) primary_since: Option<u32>,
    /// This node was primary from this epoch on, up to this change, and what it has lost of it has not been counted yet.
    pub(super) was_primary: Option<(StreamId, u64)>,
    pub(super) promotion: Option<(RequestId, Instant)>,

    // As joiner.
    pub(super) alone_at: Instant,
    repeats_status_at: Instant,
    /// This life of the peer has said that it has data.
    pub(super) peer_has_data: bool,
    /// The newest epoch that this life of the peer spoke of: what it says of older ones it said before.
    pub(super) peer_epoch: u32,

    // As anything but primary.
    pub(super) forwards: Forwards,
    pub(super) forward_ends: Timers<u64>,
    pub(super) tied_connections: OwnMap<ConnectionId, ()>,
}

impl Peering {
    pub(super) fn new(config: PeerConfig, incarnation: u64, now: Now) -> Self {
        let patience = Duration::from_millis(config.lease_ms + config.grace_ms);
        let pace = Pace::new(config.backlog_limit_bytes);
        Self {
            config,
            role: Role::Joining,
            incarnation,
            link_up: false,
            peer: None,
            former_peers: VecDeque::new(),
            peer_role: None,
            heard_at: None,
            told_number: 0,
            backlog: Backlog::new(0),
            follower: Follower::None,
            begin_is_safe: false,
            snapshot_owed: false,
            portion_begins: 0,
            pace,
            lease_until: Instant::ZERO,
            alone_by_order: false,
            next_heartbeat: Instant::ZERO,
            clock_samples: [None; 2],
            base: 0,
            previous: None,
            lock_window_until: Instant::ZERO,
            handover_until: None,
            handed_over: None,
            held: VecDeque::new(),
            withheld: VecDeque::new(),
            forwards_heard: 0,
            stream: None,
            applied: 0,
            heartbeat_sent_at_ns: 0,
            promote_at: Instant::FAR_FUTURE,
            refusals: 0,
            refused_since: Instant::ZERO,
            ack_due: false,
            acked_number: u64::MAX,
            acked_since: Instant::ZERO,
            followed_locks: OwnMap::default(),
            primary_since: None,
            was_primary: None,
            promotion: None,
            alone_at: now.monotonic + patience,
            repeats_status_at: Instant::FAR_FUTURE,
            peer_has_data: false,
            peer_epoch: 0,
            forwards: Forwards::default(),
            forward_ends: Timers::new(now.monotonic),
            tied_connections: OwnMap::default(),
        }
    }

    pub(super) fn patience(&self) -> Duration {
        let grace_ms = if planted::is(Bug::NoGrace) { 0 } else { self.config.grace_ms };
        Duration::from_millis(self.config.lease_ms + grace_ms)
    }

    /// The peer is primary of this epoch.
    pub(super) fn note_data_at_peer(&mut self, epoch: u32) {
        self.peer_has_data = true;
        self.peer_epoch = self.peer_epoch.max(epoch);
    }

    pub(super) fn has_lease(&self, now: Now) -> bool {
        if planted::is(Bug::LeaseOnWallClock) {
            return self.alone_by_order || self.lease_until > Instant::from_millis(now.wall.0);
        }
        self.alone_by_order || self.lease_until > now.monotonic
    }

    /// Changes applied: as primary, made; as follower, received.
    pub(super) const fn number(&self) -> u64 {
        match self.role {
            Role::Primary => self.backlog.last(),
            Role::Joining | Role::Secondary => self.applied,
        }
    }

    /// Of two nodes that are equal in everything else, this one is primary.
    fn goes_first(&self) -> bool {
        self.config.own_id < self.config.peer_id
    }

    /// When there is something to do here by the clock alone.
    pub(super) fn next_deadline(&self) -> Instant {
        let by_role = match self.role {
            Role::Joining if self.link_up && !self.goes_first() => self.repeats_status_at,
            Role::Joining if self.peer_has_data || self.link_up => Instant::FAR_FUTURE,
            Role::Joining => self.alone_at,
            Role::Secondary => self.promote_at,
            Role::Primary => {
                let heartbeat = if self.link_up { self.next_heartbeat } else { Instant::FAR_FUTURE };
                let withheld = if self.withheld.is_empty() { Instant::FAR_FUTURE } else { self.lease_until };
                heartbeat.min(withheld).min(self.handover_until.unwrap_or(Instant::FAR_FUTURE))
            }
        };
        let promotion = self.promotion.map_or(Instant::FAR_FUTURE, |(_, until)| until);
        by_role.min(promotion).min(self.forward_ends.next_deadline().unwrap_or(Instant::FAR_FUTURE))
    }
}

impl Node {
    /// What this node is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.peering.as_ref().map_or(Role::Primary, |peering| peering.role)
    }

    /// Which life of this node it is: random, so that the peer notices a restart.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.peering.as_ref().map_or(0, |peering| peering.incarnation)
    }

    /// Whether an answer to a change that says nothing of a missing lease may still leave: asked again after anything that may have
    /// taken time, since the other node may be primary by now.
    #[must_use]
    pub fn may_answer_changes(&self, now: Now) -> bool {
        let has_lease = |peering: &Peering| peering.role != Role::Primary || peering.has_lease(now);
        planted::is(Bug::NoCheckAfterPause) || self.peering.as_ref().is_none_or(has_lease)
    }

    /// Changes made now are marked: without a lease the other node may be primary too.
    pub(super) fn is_degraded(&self, now: Now) -> bool {
        self.peering
            .as_ref()
            .is_some_and(|peering| peering.role == Role::Primary && peering.lease_until <= now.monotonic)
    }

    fn peer(&mut self) -> &mut Peering {
        self.peering.as_mut().expect("peers speak only to a node with a peer")
    }

    pub(super) fn send_status(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let epoch = self.epoch;
        let peering = self.peer();
        if peering.link_up {
            peering.repeats_status_at = now.monotonic + Duration::from_millis(peering.config.heartbeat_interval_ms);
            peering.told_number = peering.number();
            outbox.send_peer(Message::Status { role: peering.role, epoch, number: peering.told_number });
        }
    }

    pub(super) fn send_join(&mut self, outbox: &mut dyn Outbox) {
        let peering = self.peer();
        let former = peering.was_primary.map(|(stream, _)| stream);
        let stream = peering.stream.or(former).unwrap_or(StreamId { epoch: 0, primary: 0 });
        outbox.send_peer(Message::Join { epoch: stream.epoch, primary: stream.primary, number: peering.applied });
    }

    /// The connection this node dialled is up, and whoever answered is this incarnation of the peer.
    pub(super) fn on_peer_up(&mut self, now: Now, incarnation: u64, outbox: &mut dyn Outbox) {
        let peering = self.peer();
        peering.link_up = true;
        peering.begin_is_safe = false;
        peering.next_heartbeat = now.monotonic;
        peering.backlog.rewind();
        self.note_incarnation(now, incarnation, outbox);
        self.send_status(now, outbox);
        self.send_unanswered(outbox);
        self.repeat_handover(outbox);
        let peering = self.peer();
        if peering.role == Role::Joining && peering.peer_role == Some(Role::Primary) {
            self.send_join(outbox);
        }
    }

    pub(super) fn on_peer_down(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let peering = self.peer();
        peering.link_up = false;
        peering.begin_is_safe = false;
        // It has been there up to now.
        peering.alone_at = peering.alone_at.max(now.monotonic + peering.patience());
        outbox.event(Event::PeerLinkDown);
        self.give_up_forwards(now, outbox);
    }

    /// A connection to the peer's port was refused.
    pub(super) fn on_peer_refused(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let peering = self.peer();
        if peering.role == Role::Primary || peering.link_up {
            return;
        }
        if now.monotonic.since(peering.refused_since) > Duration::from_millis(REFUSALS_WITHIN_MS) {
            peering.refused_since = now.monotonic;
            peering.refusals = 0;
        }
        peering.refusals += 1;
        if peering.refusals < REFUSALS_PROVING_DEATH {
            return;
        }
        match peering.role {
            Role::Secondary => self.become_primary(now, "the peer's port refuses connections", outbox),
            Role::Joining if peering.peer_has_data => {
                peering.peer_has_data = false;
                peering.alone_at = now.monotonic + peering.patience();
            }
            Role::Joining | Role::Primary => {}
        }
    }

    /// Whoever speaks is this incarnation. Says whether it is the one that counts: what a dead one sent late does not.
    fn note_incarnation(&mut self, now: Now, incarnation: u64, outbox: &mut dyn Outbox) -> bool {
        let peering = self.peer();
        if peering.peer == Some(incarnation) {
            return true;
        }
        if peering.former_peers.contains(&incarnation) {
            return false;
        }
        let is_restart = peering.peer.is_some();
        if let Some(former) = peering.peer.replace(incarnation) {
            peering.former_peers.push_back(former);
            if peering.former_peers.len() > FORMER_PEERS_REMEMBERED {
                peering.former_peers.pop_front();
            }
        }
        peering.heartbeat_sent_at_ns = 0;
        peering.forwards_heard = 0;
        peering.peer_role = None;
        peering.peer_has_data = false;
        peering.peer_epoch = 0;
        // Its machine's clock may have begun anew.
        peering.clock_samples = [None; 2];
        if !is_restart {
            return true;
        }
        outbox.event(Event::PeerRestarted);
        match self.peer().role {
            Role::Primary => {
                self.lose_follower(outbox);
                self.abandon_forwarded(now, outbox);
            }
            Role::Secondary => self.become_primary(now, "the peer has restarted", outbox),
            Role::Joining => self.forget_everything(now),
        }
        true
    }

    pub(super) fn on_peer_message(
        &mut self,
        now: Now,
        incarnation: u64,
        message: Message<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), super::PeerMisbehaved> {
        if !self.note_incarnation(now, incarnation, outbox) {
            return Ok(());
        }
        self.peer().heard_at = Some(now.monotonic);
        self.step_down_if_older(now, &message, outbox);
        match message {
            Message::Status { role, epoch, number } => self.on_status(now, role, epoch, number, outbox),
            Message::Join { epoch, primary, number } => {
                self.on_join(StreamId { epoch, primary }, number, outbox);
            }
            Message::Begin { epoch, primary, number, base } => {
                self.on_begin(now, StreamId { epoch, primary }, number, base, outbox);
            }
            Message::Resume { epoch, primary, number, base } => {
                self.on_resume(now, StreamId { epoch, primary }, number, base, outbox);
            }
            Message::Changes { epoch, first_number, count, clock_offset_ns, records } => {
                let batch = Batch { first_number, count, records };
                return self.on_changes(now, epoch, &batch, clock_offset_ns, outbox);
            }
            Message::Heartbeat { epoch, sent_at_ns } => self.on_heartbeat(now, epoch, sent_at_ns, outbox),
            Message::Ack { epoch, number, heartbeat_sent_at_ns, sent_at_ns } => {
                return self.on_ack(now, epoch, number, heartbeat_sent_at_ns, sent_at_ns, outbox);
            }
            Message::Handover { epoch } => self.on_handover(now, epoch, outbox),
            Message::HandoverDone { epoch, number } => self.on_handover_done(now, epoch, number, outbox),
            Message::HandoverRefused { epoch } => self.on_handover_refused(epoch, outbox),
            Message::Forward { id, request } => return self.on_forward(now, id, request, outbox),
            Message::Forwarded { id, response } => self.on_forwarded(now, id, response, outbox),
            Message::Unanswered { heard, ids } => self.on_unanswered(heard, ids, outbox),
            Message::ConnectionClosed { connection } => {
                self.on_connection_closed(now, super::forward::forwarded_connection(connection), outbox);
            }
        }
        Ok(())
    }

    fn on_status(&mut self, now: Now, role: Role, epoch: u32, number: u64, outbox: &mut dyn Outbox) {
        let own_epoch = self.epoch;
        let peering = self.peer();
        if epoch < peering.peer_epoch && !planted::is(Bug::EpochNotCompared) {
            return;
        }
        peering.peer_epoch = epoch;
        peering.peer_role = Some(role);
        peering.peer_has_data = role != Role::Joining;
        let we_go_first = peering.goes_first();
        match (peering.role, role) {
            (Role::Joining, Role::Primary) => {
                // Should the operator make this node primary, its epoch is newer than that one's.
                self.epoch = own_epoch.max(epoch);
                self.send_join(outbox);
            }
            (Role::Joining, Role::Joining) if we_go_first => {
                self.epoch = own_epoch.max(epoch);
                self.become_primary(now, "both nodes are new, and this one has the smaller host id", outbox);
            }
            (Role::Joining, Role::Joining) => peering.alone_at = now.monotonic + peering.patience(),
            // It does not know yet that nobody else has what it has.
            (Role::Joining, Role::Secondary) => self.send_status(now, outbox),
            (Role::Primary, Role::Primary) => {
                let mine = (own_epoch, peering.told_number, we_go_first);
                if (epoch, number, !we_go_first) > mine {
                    self.step_down(now, epoch, outbox);
                    self.send_join(outbox);
                } else {
                    self.send_status(now, outbox);
                }
            }
            (Role::Primary, Role::Secondary) if epoch > own_epoch => {
                self.step_down(now, epoch, outbox);
                self.send_status(now, outbox);
            }
            (Role::Primary, Role::Joining) if epoch > own_epoch => self.outbid(now, epoch, outbox),
            (Role::Primary, Role::Secondary | Role::Joining) => {}
            (Role::Secondary, Role::Primary) if epoch < own_epoch => self.send_status(now, outbox),
            (Role::Secondary, Role::Primary) => {
                if peering.stream.is_none_or(|stream| stream.epoch != epoch) {
                    self.send_join(outbox);
                }
            }
            (Role::Secondary, Role::Joining) => {
                self.epoch = own_epoch.max(epoch);
                self.become_primary(now, "the peer has lost its memory", outbox);
            }
            (Role::Secondary, Role::Secondary) => {}
        }
    }

    /// Whatever speaks of a newer epoch than this primary's ends it, before it means anything else. What to do after a status
    /// depends on the role it tells.
    fn step_down_if_older(&mut self, now: Now, message: &Message<'_>, outbox: &mut dyn Outbox) {
        // One that joins and was primary has nothing of that epoch any more.
        let has_nothing = matches!(*message, Message::Join { primary, .. } if self.peer().peer == Some(primary));
        if self.role() != Role::Primary
            || has_nothing
            || matches!(message, Message::Status { .. })
            || planted::is(Bug::EpochNotCompared)
        {
            return;
        }
        if let Some(epoch) = message.epoch().filter(|&epoch| epoch > self.epoch) {
            self.step_down(now, epoch, outbox);
            self.send_join(outbox);
        }
    }

    /// The peer promoted itself without this node: what this node has beyond the common history is worth nothing.
    fn step_down(&mut self, now: Now, epoch: u32, outbox: &mut dyn Outbox) {
        let number = self.peer().backlog.last();
        let since = self.peer().primary_since;
        self.refuse_all_waiting(now, outbox);
        self.forget_everything(now);
        let old_epoch = std::mem::replace(&mut self.epoch, epoch);
        let peering = self.peer();
        let former = StreamId { epoch: since.unwrap_or(old_epoch), primary: peering.incarnation };
        peering.was_primary = Some((former, number));
        peering.handover_until = None;
        self.enter_role(now, Role::Joining, outbox);
        outbox.event(Event::SteppedDown { old_epoch, new_epoch: epoch });
    }

    /// Promotes this node where the old primary is gone, or was never there: locks of old epochs are void.
    pub(super) fn become_primary(&mut self, now: Now, why: &'static str, outbox: &mut dyn Outbox) {
        let window = Duration::from_millis(self.config.lock_timeout_ms);
        let had_data = self.role() == Role::Secondary;
        if planted::is(Bug::LockKept) && had_data {
            self.take_over_locks();
        }
        if planted::is(Bug::TtlRestarted) {
            self.give_everything_another_minute();
        }
        let peering = self.peer();
        let voids_locks = !peering.followed_locks.is_empty();
        peering.followed_locks.clear();
        peering.lock_window_until = if had_data { now.monotonic + window } else { Instant::ZERO };
        self.start_epoch(now, why, outbox);
        if voids_locks {
            // A change like any other: who has the locks still does not have what this node has.
            self.peer().backlog.skip();
        }
        self.give_up_forwards(now, outbox);
    }

    /// Only for [`Bug::TtlRestarted`].
    fn give_everything_another_minute(&mut self) {
        for slot in 0..self.stores.arena.handles_end() {
            if self.stores.arena.find(slot).is_some_and(Entry::is_store) {
                let expires_ms = self.stores.arena.get(slot).expires_ms();
                self.stores.set_expires_ms(slot, expires_ms + 60_000);
            }
        }
    }

    /// Begins a new epoch as its primary, with what this node has.
    pub(super) fn start_epoch(&mut self, now: Now, why: &'static str, outbox: &mut dyn Outbox) {
        if !(planted::is(Bug::EpochReused) && why == "the peer has restarted") {
            self.epoch += 1;
        }
        let epoch = self.epoch;
        let peering = self.peer();
        peering.primary_since.get_or_insert(epoch);
        peering.base = peering.applied;
        // One that was primary before and begins anew has nothing of what it had.
        let base = peering.base;
        self.count_loss(base, outbox);
        let peering = self.peer();
        peering.previous = peering.stream.take();
        peering.backlog = Backlog::new(peering.applied);
        peering.follower = Follower::None;
        peering.snapshot_owed = false;
        peering.lease_until = Instant::ZERO;
        peering.alone_by_order = false;
        peering.next_heartbeat = now.monotonic;
        peering.handover_until = None;
        self.enter_role(now, Role::Primary, outbox);
        outbox.event(Event::Promoted { epoch, why });
        if let Some((request, _)) = self.peer().promotion.take() {
            outbox.respond(request, Response::new(Ok(Answer::Done), None));
        }
    }

    pub(super) fn enter_role(&mut self, now: Now, role: Role, outbox: &mut dyn Outbox) {
        let peering = self.peer();
        peering.role = role;
        peering.handed_over = None;
        peering.refusals = 0;
        let patience = peering.patience();
        peering.alone_at = now.monotonic + patience;
        peering.promote_at = now.monotonic + patience;
        outbox.event(Event::RoleChanged { role });
        self.send_status(now, outbox);
    }

    /// The peer has heard of a newer epoch, whose primary is gone, and has nothing itself: this node goes on with what it has, in
    /// an epoch that is newer still.
    fn outbid(&mut self, now: Now, epoch: u32, outbox: &mut dyn Outbox) {
        self.lose_follower(outbox);
        self.epoch = epoch;
        let peering = self.peer();
        peering.applied = peering.backlog.last();
        peering.stream = None;
        // What the two had in common ends where this node began to be primary, however often its epoch changes.
        let (base, previous) = (peering.base, peering.previous);
        self.start_epoch(now, "the peer has nothing, and knows of a newer epoch", outbox);
        let peering = self.peer();
        (peering.base, peering.previous) = (base, previous);
    }

    /// What is due by the clock.
    pub(super) fn on_peering_time(&mut self, now: Now, outbox: &mut dyn Outbox) {
        let peering = self.peer();
        if let Some((request, _)) = peering.promotion.filter(|(_, until)| *until <= now.monotonic) {
            if peering.role == Role::Secondary {
                self.become_primary(now, "the operator asked for it, and the primary did not answer", outbox);
            } else {
                peering.promotion = None;
                outbox.respond(request, Response::new(Err(Refusal::StoreUnavailable), None));
            }
        }
        let peering = self.peer();
        match peering.role {
            Role::Joining
                if ((!peering.peer_has_data && !peering.link_up) || planted::is(Bug::PromotionWhileJoining))
                    && peering.alone_at <= now.monotonic =>
            {
                self.become_primary(now, "nobody answered", outbox);
            }
            Role::Joining if peering.link_up && !peering.goes_first() && peering.repeats_status_at <= now.monotonic => {
                self.send_status(now, outbox);
            }
            Role::Secondary if peering.promote_at <= now.monotonic => {
                self.become_primary(now, "the primary has been silent for lease and grace", outbox);
            }
            Role::Primary => {
                if peering.handover_until.is_some_and(|until| until <= now.monotonic) {
                    self.abort_handover(outbox);
                }
                if self.peer().lease_until <= now.monotonic {
                    self.refuse_withheld(outbox);
                }
            }
            Role::Joining | Role::Secondary => {}
        }
        self.expire_forwards(now, outbox);
    }

    /// The last acknowledgement ended a wait for the peer: it is back.
    pub(super) fn end_order_to_be_alone(&mut self) {
        self.peer().alone_by_order = false;
    }
}

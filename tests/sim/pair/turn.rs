//! One turn of a node's loop: what comes to it is told to it, what it says is looked at and leaves it.

use super::asks::Ask;
use super::coverage::Met;
use super::host::{Arrival, Heard, Host, Said, Sent};
use super::ledger::{Done, Wrong};
use super::net::MS;
use super::world::World;
use bigbunny::node::request::{ConnectionId, RequestId};
use bigbunny::node::response::Refusal;
use bigbunny::node::{Input, NodeStatus, Role};
use bigbunny::peer::message::{Message, read_message};
use bigbunny::time::Instant;
use std::time::Duration;

/// A turn of a machine that is well.
const HEALED_TURN_NS: u64 = 5_000;

impl World {
    /// One turn of a node's loop.
    pub(crate) fn process(&mut self, place: usize, arrival: Arrival) -> Result<(), Wrong> {
        let turn_ns = if self.healed { HEALED_TURN_NS } else { self.profile.turn_ns[place] };
        self.tell(|world| world.describe(place, &arrival));
        let host = &mut self.hosts[place];
        let is_newest = match &arrival {
            Arrival::PeerUp { incarnation, .. } | Arrival::Message { from: incarnation, .. } => {
                host.hears(*incarnation)
            }
            Arrival::Request(_)
            | Arrival::Closed(_)
            | Arrival::PeerDown
            | Arrival::PeerRefused
            | Arrival::Promote { .. }
            | Arrival::Timeout => true,
        };
        let now = host.clock.read(self.now);
        if host.last_read == now.monotonic {
            self.coverage.met(Met::ClockStoodStill);
        }
        host.last_read = now.monotonic;
        let node = host.node.as_mut().expect("only what lives is told");
        let before = node.status();
        let mut said = Said::default();
        let mut heard_changes = None;
        let mut heard_stream = None;
        let mut asked = None;
        let mut is_heartbeat = false;
        match &arrival {
            Arrival::Request(ask) => {
                let ask = &self.asks[ask];
                asked = Some(ask.id);
                if node.is_handing_over() && ask.is_change() {
                    self.coverage.met(Met::HeldForHandover);
                }
                let operation = ask.operation();
                let request = ask.request(operation);
                node.handle(now, Input::Request { id: RequestId(ask.id), request }, &mut said);
            }
            Arrival::Closed(connection) => {
                let connection = ConnectionId(*connection);
                node.handle(now, Input::ConnectionClosed { connection }, &mut said);
            }
            Arrival::PeerUp { incarnation, generation } => {
                // Only from now on can it send on it.
                self.links[place].is_known = self.links[place].generation == *generation && !self.profile.sealed;
                node.handle(now, Input::PeerUp { incarnation: *incarnation }, &mut said);
            }
            Arrival::PeerDown => node.handle(now, Input::PeerDown, &mut said),
            Arrival::PeerRefused => node.handle(now, Input::PeerRefused, &mut said),
            Arrival::Promote { id, force } => {
                node.handle(now, Input::Promote { id: RequestId(*id), force: *force }, &mut said);
            }
            Arrival::Timeout => node.handle(now, Input::Timeout, &mut said),
            Arrival::Message { from, bytes } => {
                let message = read_message(bytes).expect("what was written reads back");
                is_heartbeat = matches!(message, Message::Heartbeat { epoch, .. } if epoch >= before.epoch);
                match &message {
                    Message::Changes { epoch, .. } => heard_changes = Some((*epoch, *from)),
                    Message::Begin { epoch, primary, number, .. } | Message::Resume { epoch, primary, number, .. } => {
                        heard_stream = Some((*epoch, *primary, *number));
                    }
                    Message::Status { role: Role::Primary | Role::Secondary, .. } | Message::Heartbeat { .. }
                        if before.role == Role::Joining =>
                    {
                        (host.knows_of_data, host.knows_from) = (true, *from);
                    }
                    Message::Forward { id, request } => {
                        host.forwarded.insert(*id, request.connection.0);
                        asked = Some(request.connection.0);
                    }
                    Message::Ack { epoch, heartbeat_sent_at_ns, .. }
                        if *epoch == before.epoch && before.role == Role::Primary && *heartbeat_sent_at_ns > 0 =>
                    {
                        let until = Instant::from_nanos(*heartbeat_sent_at_ns) + Duration::from_millis(2000);
                        host.lease_until = host.lease_until.max(until);
                    }
                    Message::HandoverDone { .. } => {
                        // It has just been acknowledged to the old primary, which will wait for longer than a lease.
                        host.lease_until = host.lease_until.max(now.monotonic + Duration::from_millis(2000));
                    }
                    Message::Status { .. }
                    | Message::Join { .. }
                    | Message::Heartbeat { .. }
                    | Message::Ack { .. }
                    | Message::Handover { .. }
                    | Message::HandoverRefused { .. }
                    | Message::Forwarded { .. }
                    | Message::Unanswered { .. }
                    | Message::ConnectionClosed { .. } => {}
                }
                // A joiner says which epoch it followed last.
                if let Some(epoch) = message.epoch().filter(|_| !matches!(message, Message::Join { .. })) {
                    if epoch < before.epoch {
                        self.coverage.met(Met::StaleEpochHeard);
                    }
                    if is_newest && let Some(branch) = self.ledger.find(epoch, *from) {
                        self.ledger.branches[branch].was_heard = true;
                    }
                }
                let is_passed_on = matches!(message, Message::Forwarded { .. });
                node.handle(now, Input::PeerMessage { incarnation: *from, message }, &mut said);
                said.passed_on = if is_passed_on { said.answers.len() } else { 0 };
            }
        }
        // Those clients that wait are served in one turn, as far as a turn goes.
        let is_followed = || host.inbox.iter().any(Arrival::is_of_client);
        let goes_on = arrival.is_of_client() && host.turn_left > 0 && is_followed();
        if goes_on {
            host.turn_left -= 1;
        } else {
            host.turn_left = self.profile.requests_per_turn;
            node.handle(now, Input::EndOfTurn, &mut said);
        }
        let after = node.status();
        if !goes_on && after.backlog_bytes > self.profile.backlog_bytes {
            return Err(format!("backlog-bound: {} bytes", after.backlog_bytes));
        }
        self.trace.word(self.now);
        self.trace.word(after.changes);
        if matches!(arrival, Arrival::Promote { force: true, .. }) && after.role == Role::Primary {
            self.hosts[place].forced = true;
        }
        self.has_become(place, &before, &after, &said)?;
        let host = &mut self.hosts[place];
        if is_heartbeat && after.peer_heard_at == Some(now.monotonic) {
            host.heartbeat_at = Some(now.monotonic);
        }
        if let Some((epoch, owner, number)) = heard_stream
            && after.role != Role::Primary
            && (after.epoch, after.changes) == (epoch, number)
        {
            host.branch = self.ledger.find(epoch, owner);
        }
        if let Some((epoch, owner)) = heard_changes
            && after.role != Role::Primary
            && after.changes > before.changes
        {
            host.branch = self.ledger.find(epoch, owner);
        }
        self.check_loss(place, &said)?;
        self.looks_at(place, &before, &after)?;
        self.was_done(place, &before, &after, &said, asked)?;
        if matches!(arrival, Arrival::Timeout) && after.role == Role::Primary && after.locks > 0 {
            self.check_locks(place)?;
        }
        self.hosts[place].busy_until = self.now + turn_ns;
        if self.fault_rng.below(100_000) < self.profile.mid_pauses && !self.healed {
            self.coverage.met(Met::MidPause);
            let (low, high) = self.profile.pause_ms;
            let until = self.now + self.fault_rng.between(low, high) * MS;
            self.tell(|_| format!("{place} is stopped before it answers, until {:.6}", until as f64 / 1e9));
            self.hosts[place].unsent = Some(said);
            self.busy(place, until);
            return Ok(());
        }
        if self.fault_rng.below(100_000) < self.profile.mid_crashes && !self.healed {
            if self.fault_rng.one_in(2) {
                self.coverage.met(Met::CrashBeforeAnswer);
            } else {
                // Clients are answered first, and the other node never hears of it.
                self.coverage.met(Met::CrashBehindAnswer);
                let mut said = said;
                said.messages.clear();
                self.leaves(place, said)?;
            }
            return self.dies(place, true);
        }
        self.leaves(place, said)
    }

    /// What was carried out in this turn.
    pub(crate) fn was_done(
        &mut self,
        place: usize,
        before: &NodeStatus,
        after: &NodeStatus,
        said: &Said,
        asked: Option<u64>,
    ) -> Result<(), Wrong> {
        if before.role != Role::Primary && after.role != Role::Primary {
            return Ok(());
        }
        let Some(branch) = self.hosts[place].branch else { return Ok(()) };
        let was = if before.role == Role::Primary { before.changes } else { after.changes.min(before.changes) };
        let done = Done { branch, before: was, after: after.changes, at: self.now, durable: false, is_fresh: true };
        let forwarded = |sent: &Sent| {
            let (forward, heard) = sent.forwarded.as_ref()?;
            Some((sent.order, *self.hosts[place].forwarded.get(forward)?, heard.clone()))
        };
        let mut all: Vec<(u32, u64, Heard)> = said.messages.iter().filter_map(forwarded).collect();
        // What the other node did may be known already, from its own turn.
        let is_known = |id: &u64| self.asks.get(id).is_some_and(|ask| ask.done_in.is_some());
        let answers = said.answers.iter().enumerate();
        let answers = answers.filter(|(place, (id, ..))| *place >= said.passed_on || !is_known(id));
        all.extend(answers.map(|(_, answer)| answer).map(|(id, heard, order)| (*order, *id, heard.clone())));
        all.sort_unstable_by_key(|(order, ..)| *order);
        for (_, id, heard) in all {
            let is_done = heard.result.is_ok() || matches!(heard.result, Err(Refusal::NotFound));
            if is_done && self.asks.contains_key(&id) {
                if asked == Some(id) && heard.by == Role::Primary && heard.result.is_ok() {
                    self.check_rate(place, id)?;
                }
                self.was_carried_out(id, &heard, done)?;
                self.check_lock_answer(place, id, &heard, done)?;
            }
        }
        Ok(())
    }

    /// What a node has decided leaves it.
    pub(crate) fn leaves(&mut self, place: usize, said: Said) -> Result<(), Wrong> {
        let host = &self.hosts[place];
        let Some(node) = &host.node else { return Ok(()) };
        let now = host.clock.read(self.now);
        let (incarnation, may_answer) = (node.incarnation(), node.may_answer_changes(now));
        let is_primary = node.role() == Role::Primary;
        let lease_holds = host.forced || host.lease_until > now.monotonic;
        for sent in said.messages {
            let is_change = sent.forwarded.as_ref().is_some_and(|(forward, heard)| {
                let ask = host_ask(&self.hosts[place], *forward).and_then(|id| self.asks.get(&id));
                heard.result.is_ok() && heard.by == Role::Primary && ask.is_some_and(|ask| ask.is_change())
            });
            // Where the link is sealed, the connection ends with all that waits on it: see `flushes`.
            if is_change && self.profile.safe && !may_answer && !self.profile.sealed {
                // The shell asks again before it sends, and says that nobody knows.
                self.coverage.met(Met::AnswerWithdrawn);
                continue;
            }
            if is_change && self.profile.safe && may_answer && is_primary && !lease_holds {
                return Err(format!("no-answer-without-lease: node {place} answers the other's client"));
            }
            self.send(place, incarnation, sent.bytes);
        }
        for (id, mut heard, _) in said.answers {
            if self.promotions.remove(&id).is_some() {
                self.tell(|_| format!("{place}: promotion {id} {:?}", heard.result));
                if heard.result.is_err() {
                    self.coverage.met(Met::HandoverRefused);
                }
                continue;
            }
            let is_change = self.asks.get(&id).is_some_and(Ask::is_change) && heard.result.is_ok();
            if is_change && self.profile.safe && is_primary {
                if !may_answer {
                    self.coverage.met(Met::AnswerWithdrawn);
                    heard.result = Err(Refusal::NotReplicated { applied: true });
                } else if !lease_holds {
                    return Err(format!("no-answer-without-lease: node {place} answers {id}"));
                }
            }
            self.is_answered(place, id, heard)?;
        }
        if self.profile.sealed { self.flushes(place) } else { Ok(()) }
    }

    pub(crate) fn describe(&self, place: usize, arrival: &Arrival) -> String {
        match arrival {
            Arrival::Message { bytes, .. } => {
                let message = read_message(bytes).expect("what was written reads back");
                if let Message::Changes { epoch, first_number, count, .. } = message {
                    format!("{place} <- changes {first_number} +{count} of epoch {epoch}")
                } else if let Message::Forward { id, request } = message {
                    format!("{place} <- request {}, forwarded as {id}", request.connection.0)
                } else if let Message::Forwarded { id, response } = message {
                    format!("{place} <- answer to what was forwarded as {id}: {:?}", response.result.err())
                } else {
                    format!("{place} <- {message:?}")
                }
            }
            Arrival::Request(id) => format!("{place} <- request {id} {}", self.asks[id].story()),
            Arrival::Closed(_)
            | Arrival::PeerUp { .. }
            | Arrival::PeerDown
            | Arrival::PeerRefused
            | Arrival::Promote { .. }
            | Arrival::Timeout => format!("{place} <- {arrival:?}"),
        }
    }
}

fn host_ask(host: &Host, forward: u64) -> Option<u64> {
    host.forwarded.get(&forward).copied()
}

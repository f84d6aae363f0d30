//! The clients of both nodes: what they ask, what they make of the answers, and what they try again.

use super::asks::{Act, Ask, Asker, CUSTOMERS, State, VALUE_HEAD_BYTES, body_of, name_of, read_body};
use super::coverage::Met;
use super::host::{Arrival, Body, Heard};
use super::ledger::{Deed, Done, Look, Op, Place, Told, Wrong};
use super::net::{MS, US};
use super::profile::TEN_YEARS_MS;
use super::world::{Event, World};
use bigbunny::node::Role;
use bigbunny::node::request::LockId;
use bigbunny::node::response::Refusal;

/// Kinds of deeds a run draws the weights of: see [`World::new_deed`].
pub(crate) const DEEDS: usize = 8;
/// More requests in a storm say nothing new.
pub(crate) const ASKS_IN_STORM_MAX: u64 = 3000;
/// And in the calm behind it.
pub(crate) const ASKS_IN_CALM_MAX: u64 = 1000;
/// A key is good for a minute, and a process may stand still for half of one; whoever tries for longer begins anew.
const RETRY_FOR_MS: u64 = 20_000;
/// How long a client waits that was told to try again.
const UNAVAILABLE_PAUSE_MS: u64 = 300;
/// What a primary takes for a forwarded request beside its wait, and a little more.
const FORWARD_MS: u64 = 6_500;

/// A client: one thing at a time.
#[derive(Debug)]
pub(crate) struct Client {
    host: usize,
    customer: usize,
    asks: Option<u64>,
    /// To be tried again under the same key, and since when.
    retry: Option<(Ask, u64)>,
    held: Option<(Place, LockId)>,
    pub(crate) rests: bool,
}

impl World {
    pub(crate) fn make_clients(&mut self) {
        for number in 0..self.profile.clients {
            let host = self.client_rng.index(2);
            let customer = self.client_rng.index(self.profile.customers);
            self.clients.push(Client { host, customer, asks: None, retry: None, held: None, rests: false });
            let at = self.client_rng.between(0, 6000) * MS;
            self.schedule(at, Event::ClientActs(number));
        }
    }

    fn acts_later(&mut self, client: usize) {
        let (low, high) = if self.calm { self.profile.calm_think_us } else { self.profile.think_us };
        let at = self.now + self.client_rng.log_between(low, high) * US;
        self.schedule(at, Event::ClientActs(client));
    }

    pub(crate) fn client_acts(&mut self, number: usize) -> Result<(), Wrong> {
        if self.clients[number].asks.is_some() || self.clients[number].rests || self.coverage.asks >= self.asks_max {
            return Ok(());
        }
        if self.hosts[self.clients[number].host].node.is_none() {
            // Its own node is away; some have another to go to.
            if self.client_rng.one_in(3) {
                self.clients[number].host ^= 1;
            }
            let at = self.now + self.client_rng.between(10, 500) * MS;
            self.schedule(at, Event::ClientActs(number));
            return Ok(());
        }
        if let Some((ask, since)) = self.clients[number].retry.take()
            && self.now < since + RETRY_FOR_MS * MS
        {
            self.coverage.met(Met::RetriedAfterUnknown);
            if ask.host != self.clients[number].host {
                self.coverage.met(Met::RetriedOnOtherNode);
            }
            return self.asks(number, ask);
        }
        let ask = self.new_deed(number);
        self.asks(number, ask)
    }

    /// A client sends a request; it has its own connection.
    fn asks(&mut self, number: usize, ask: Ask) -> Result<(), Wrong> {
        let host = self.clients[number].host;
        let id = self.connects(host, Ask { asker: Asker::Client(number), ..ask });
        self.clients[number].asks = Some(id);
        if self.client_rng.chance(self.profile.impatience) {
            let (low, high) = self.profile.patience_ms;
            let at = self.now + self.client_rng.log_between(low, high) * MS;
            self.schedule(at, Event::ClientGivesUp { client: number, ask: id });
        }
        self.give(host, Arrival::Request(id))
    }

    /// A request has its number and its host, and is about to come to it.
    pub(crate) fn connects(&mut self, host: usize, ask: Ask) -> u64 {
        let id = self.next_ask;
        self.next_ask += 1;
        if let Some(op) = ask.op {
            let op = &mut self.ledger.ops[op];
            op.attempts += 1;
            if op.attempts > 1
                && let Deed::Write(Some(value)) = op.deed
                && let Some((at, _)) = self.ledger.times.get_mut(&value)
            {
                // It may be carried out anew, and nobody knows when.
                *at = u64::MAX;
            }
        }
        self.coverage.asks += 1;
        let life = self.hosts[host].life;
        let first_sent_at = ask.first_sent_at.or(Some(self.now));
        let ask = Ask { id, host, life, state: State::Waits, sent_at: self.now, first_sent_at, done_in: None, ..ask };
        self.asks.insert(id, ask);
        id
    }

    pub(crate) fn op(&mut self, place: Place, deed: Deed) -> usize {
        let op = self.ledger.ops.len();
        self.ledger.ops.push(Op::new(place, deed, self.now));
        if let Deed::Write(Some(value)) = deed {
            self.ledger.values.insert(value, op);
        }
        op
    }

    fn new_deed(&mut self, number: usize) -> Ask {
        let customer = self.clients[number].customer;
        let asker = Asker::Client(number);
        let Some((place, lock)) = self.clients[number].held.take() else { return self.deed(asker, customer) };
        let (value, name) = (self.next_ask, name_of(place));
        let (low, high) = self.profile.blob_bytes;
        let more = self.client_rng.between(low, high);
        let mut ask = Ask::new(asker, customer, Act::List);
        ask.place = Some(place);
        ask.from_primary = self.client_rng.one_in(3);
        match self.client_rng.below(8) {
            0 => ask.act = Act::Cancel { name, lock },
            1 => ask.act = Act::Read { name },
            _ => {
                ask.op = Some(self.op(place, Deed::Write(Some(value))));
                ask.act = Act::Complete { name, lock, body: body_of(place, value, more) };
            }
        }
        ask
    }

    /// Something that anybody may want who holds nothing.
    pub(crate) fn deed(&mut self, asker: Asker, customer: usize) -> Ask {
        let mut ask = Ask::new(asker, customer, Act::List);
        ask.durable = self.client_rng.chance(self.profile.durable);
        ask.from_primary = self.client_rng.one_in(3);
        let value = self.next_ask;
        let more = {
            let (low, high) = self.profile.blob_bytes;
            if self.client_rng.chance(self.profile.largest) {
                self.coverage.met(Met::LargestValue);
                self.profile.largest_bytes - VALUE_HEAD_BYTES
            } else {
                self.client_rng.between(low, high)
            }
        };
        let (low, high) = self.profile.wait_ms;
        let wait_ms = if self.client_rng.one_in(2) { self.client_rng.log_between(low, high) } else { 0 };
        if self.profile.deeds.iter().all(|weight| *weight == 0) {
            return ask;
        }
        let kind = self.client_rng.weighted(&self.profile.deeds);
        let index = match self.storm.filter(|(_, until)| *until > self.now) {
            Some((index, _)) => {
                self.coverage.met(Met::StormedStore);
                index
            }
            None => self.client_rng.below(self.profile.names),
        };
        let place = |class: u8| (customer, class, index);
        match kind {
            0 => {
                let place = place(b'r');
                ask.place = Some(place);
                ask.op = Some(self.op(place, Deed::Write(Some(value))));
                ask.act = Act::Put { name: name_of(place), body: body_of(place, value, more), ttl_ms: None, wait_ms };
            }
            1 => {
                let place = place(b'r');
                ask.place = Some(place);
                ask.op = Some(self.op(place, Deed::Write(None)));
                ask.act = Act::Delete { name: name_of(place) };
            }
            2 => {
                let place = place(self.client_rng.pick(b"rrltc"));
                ask.place = Some(place);
                ask.act = Act::Read { name: name_of(place) };
            }
            3 => {
                let place = place(b'c');
                ask.place = Some(place);
                ask.op = Some(self.op(place, Deed::Add(1)));
                ask.act = Act::Increment { name: name_of(place) };
            }
            4 => {
                let place = place(b'l');
                ask.durable = false;
                ask.place = Some(place);
                let (low, high) = self.profile.hold_ms;
                let hold_ms = self.client_rng.log_between(low, high);
                ask.act = Act::Begin { name: name_of(place), wait_ms, hold_ms, connection_scope: false };
            }
            5 => {
                let place = place(b't');
                ask.place = Some(place);
                let ttl_ms = self.draw_ttl_ms();
                ask.op = Some(self.op(place, Deed::Write(Some(value))));
                self.ledger.times.insert(value, (u64::MAX, ttl_ms * MS));
                let body = body_of(place, value, more);
                ask.act = Act::Put { name: name_of(place), body, ttl_ms: Some(ttl_ms), wait_ms };
            }
            6 => {
                let place = place(b't');
                ask.place = Some(place);
                ask.act = Act::Read { name: name_of(place) };
            }
            _ => ask.act = self.wild(place(b'w'), value, more),
        }
        let is_keyable = matches!(ask.act, Act::Put { .. } | Act::Delete { .. } | Act::Increment { .. });
        if is_keyable && self.client_rng.chance(self.profile.keyed) {
            ask.key = Some(format!("key {value}"));
        }
        ask.wait_ms = wait_ms;
        ask
    }

    fn draw_ttl_ms(&mut self) -> u64 {
        let (low, high) = self.profile.ttl_ms;
        let drawn = self.client_rng.log_between(low, high);
        self.profile.ttl_exact_ms.filter(|_| self.client_rng.one_in(2)).unwrap_or(drawn)
    }

    /// Deeds that only the comparison of the two nodes judges.
    fn wild(&mut self, place: Place, value: u64, more: u64) -> Act {
        let ttl_ms = self.draw_ttl_ms();
        let rng = &mut self.client_rng;
        let name = name_of(place);
        let mut other = || name_of((place.0, place.1, rng.below(self.profile.names)));
        let (to, third) = (other(), other());
        match self.client_rng.below(10) {
            0..=2 => Act::Put { name, body: body_of(place, value, more), ttl_ms: Some(ttl_ms), wait_ms: 0 },
            3 => Act::Rename { name, to },
            4 => Act::Touch { name, ttl_ms: self.client_rng.log_between(1, 100_000) },
            5 => Act::DeletePrefix { prefix: "w".to_owned() },
            6 => Act::DeleteMany { names: vec![name, to, third] },
            7 => Act::ReadMany { names: vec![name, to, third] },
            8 => Act::Create { body: body_of(place, value, more) },
            _ => Act::List,
        }
    }

    pub(crate) fn client_gives_up(&mut self, number: usize, id: u64) -> Result<(), Wrong> {
        let Some(ask) = self.asks.get_mut(&id).filter(|ask| ask.state == State::Waits) else { return Ok(()) };
        ask.state = State::Gone;
        let ask = ask.clone();
        self.coverage.met(Met::ClientGaveUp);
        self.tell(|_| format!("client {number} gives up {id}"));
        self.nobody_knows(number, ask.clone());
        if self.hosts[ask.host].life == ask.life { self.give(ask.host, Arrival::Closed(id)) } else { Ok(()) }
    }

    /// What a client does that does not know whether it was done.
    fn nobody_knows(&mut self, number: usize, ask: Ask) {
        if let Some(op) = ask.op {
            self.ledger.ops[op].unknown = true;
        }
        let since = ask.first_sent_at.unwrap_or(ask.sent_at);
        self.clients[number].asks = None;
        if ask.key.is_some() && self.client_rng.below(4) > 0 {
            self.clients[number].retry = Some((ask, since));
            if self.client_rng.one_in(3) {
                self.clients[number].host ^= 1;
            }
        }
        self.acts_later(number);
    }

    pub(crate) fn clients_of_the_dead(&mut self, host: usize, life: u64) {
        self.visits_of_the_dead(host, life);
        for number in 0..self.clients.len() {
            let Some(id) = self.clients[number].asks else { continue };
            let ask = &self.asks[&id];
            if (ask.host, ask.life) == (host, life) && ask.state == State::Waits {
                let ask = ask.clone();
                self.asks.get_mut(&id).expect("it is there").state = State::Gone;
                self.nobody_knows(number, ask);
            }
        }
    }

    /// A primary has answered: whatever it was is done, whether or not anybody hears of it.
    pub(crate) fn was_carried_out(&mut self, id: u64, heard: &Heard, mut done: Done) -> Result<(), Wrong> {
        if heard.by != Role::Primary {
            return Ok(());
        }
        let ask = self.asks.get_mut(&id).expect("it was asked");
        done.is_fresh = !self.ledger.branches[done.branch].is_superseded;
        if matches!(heard.result, Err(Refusal::NotFound)) {
            // Nothing is done, but it is known that there was nothing.
            ask.done_in = Some(done);
            return Ok(());
        }
        if ask.done_in.is_some() {
            return Err(format!("answered-once: {ask:?} is carried out again"));
        }
        done.durable = ask.is_change() && (ask.durable || self.profile.replicate_all);
        ask.done_in = Some(done);
        if let Some(op) = ask.op {
            let op = &mut self.ledger.ops[op];
            if done.durable || op.attempts > 1 {
                done.before = 0;
            }
            op.done.push(done);
            if let Deed::Write(Some(value)) = op.deed
                && let Some((at, _)) = self.ledger.times.get_mut(&value)
            {
                *at = done.at;
            }
        }
        let Some(place) = ask.place else {
            let ask = ask.clone();
            return self.check_resurrection(&ask, heard, done);
        };
        if self.profile.replicate_all {
            // Answers come later than the deeds, and in another order.
            return Ok(());
        }
        let branch = &mut self.ledger.branches[done.branch];
        match (&ask.act, &heard.result) {
            (Act::Begin { .. }, Ok(Body::Locked { lock, body })) => {
                branch.grants.insert(place, *lock);
                let found = read_body(body).map_or(0, |(_, value)| value);
                match branch.bodies.get(&place) {
                    Some(expected) if *expected != found => {
                        return Err(format!("no-lost-update: {place:?} holds {found} instead of {expected}"));
                    }
                    Some(_) => {}
                    None => _ = branch.bodies.insert(place, found),
                }
            }
            (Act::Complete { lock, body, .. }, Ok(_)) => {
                if branch.grants.get(&place) != Some(lock) {
                    let holder = branch.grants.get(&place);
                    return Err(format!("commit-needs-lock: {place:?} was locked by {holder:?}, written by {lock:?}"));
                }
                if branch.by_handover {
                    self.coverage.met(Met::CompletedAfterHandover);
                }
                let value = read_body(body).map_or(0, |(_, value)| value);
                branch.bodies.insert(place, value);
                branch.grants.remove(&place);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn is_answered(&mut self, host: usize, id: u64, heard: Heard) -> Result<(), Wrong> {
        self.note(&heard);
        let Some(ask) = self.asks.get_mut(&id) else { return Err(format!("answered-once: nobody asked {id}")) };
        match ask.state {
            State::Waits => ask.state = State::Answered,
            State::Answered => return Err(format!("answered-once: {ask:?} has another answer {heard:?}")),
            State::Gone => return Ok(()),
        }
        if (ask.host, ask.life) != (host, self.hosts[host].life) {
            return Err(format!("answered-once: {ask:?} is answered by {host}"));
        }
        let ask = ask.clone();
        self.tell(|_| format!("{host} answers {id}: {:?}", heard.result.as_ref().err()));
        self.meets(&ask, &heard);
        self.check_answer(host, &ask, &heard)?;
        self.remember(&ask, &heard);
        let number = match ask.asker {
            Asker::Client(number) => number,
            Asker::Visit(visit) => return self.visit_is_answered(visit, &ask, &heard),
        };
        let is_unknown = matches!(
            heard.result,
            Err(Refusal::LeaderChanged | Refusal::NotReplicated { applied: true } | Refusal::IdempotencyInProgress)
        );
        if is_unknown && !matches!(heard.result, Err(Refusal::IdempotencyInProgress)) && !ask.is_change() {
            self.clients[number].asks = None;
            self.acts_later(number);
            return Ok(());
        }
        if is_unknown {
            self.nobody_knows(number, ask);
            return Ok(());
        }
        self.clients[number].asks = None;
        self.clients[number].retry = None;
        if matches!(heard.result, Err(Refusal::StoreUnavailable | Refusal::NotReplicated { applied: false })) {
            // Whoever tries again at once learns nothing new.
            let at = self.now + self.client_rng.between(1, UNAVAILABLE_PAUSE_MS) * MS;
            self.schedule(at, Event::ClientActs(number));
            return Ok(());
        }
        match (&ask.act, &heard.result) {
            (Act::Begin { .. }, Ok(Body::Locked { lock, .. })) if self.client_rng.below(8) > 0 => {
                self.clients[number].held = ask.place.map(|place| (place, *lock));
            }
            // It only looked; it still holds the lock.
            _ => {}
        }
        self.acts_later(number);
        Ok(())
    }

    /// What the history of a store has to explain.
    fn remember(&mut self, ask: &Ask, heard: &Heard) {
        let (Some(place), Role::Primary) = (ask.place, heard.by) else { return };
        if let (Some(op), Some(done), Ok(body)) = (ask.op, ask.done_in, &heard.result) {
            let count = if let Body::Counter(count) = body { Some(*count) } else { None };
            self.ledger.ops[op].answered = Some(Told { at: self.now, count, done });
            return;
        }
        let looks = matches!(ask.act, Act::Read { .. } | Act::Begin { .. });
        let seen = match &heard.result {
            Ok(Body::Blob(bytes) | Body::Locked { body: bytes, .. }) => read_body(bytes).map(|(_, value)| value),
            Ok(Body::Counter(count)) => Some(*count),
            Err(Refusal::NotFound) => None,
            Ok(Body::Done | Body::StoreId { .. } | Body::Other) | Err(_) => return,
        };
        let ends = place.1 == b't' && seen.is_none();
        if let Some(done) = ask.done_in.filter(|_| looks && !ends) {
            self.ledger.looks.push(Look { place, seen, asked: ask.sent_at, answered: self.now, done });
        }
    }

    fn meets(&mut self, ask: &Ask, heard: &Heard) {
        if let (Act::Put { ttl_ms: Some(ttl_ms), .. }, Ok(_)) = (&ask.act, &heard.result) {
            match *ttl_ms {
                1000 => self.coverage.met(Met::TtlOfASecond),
                TEN_YEARS_MS => self.coverage.met(Met::TtlOfTenYears),
                _ => {}
            }
        }
        let is_local = self.hosts[ask.host].node.as_ref().is_some_and(|node| node.role() != Role::Primary);
        let met = match &heard.result {
            Err(Refusal::LockStateUnknown { .. }) => Met::LockWindowHit,
            Err(Refusal::LeaderChanged) => Met::LeaderChanged,
            Err(Refusal::StoreUnavailable) => Met::Unavailable,
            Err(Refusal::NotReplicated { applied: true }) => Met::NotReplicatedApplied,
            Err(Refusal::NotReplicated { applied: false }) if self.profile.safe => Met::SafeRefused,
            Err(Refusal::NotReplicated { applied: false }) => Met::NotReplicatedRefused,
            Err(Refusal::LockMismatch) => Met::CommitRefusedAfterFailover,
            Err(Refusal::RateLimited { .. }) => Met::RateLimited,
            Err(Refusal::CapacityExceeded | Refusal::CustomerQuotaExceeded) => Met::MemoryRefused,
            Err(Refusal::TombstoneLimitExceeded) => Met::TombstonesRefused,
            Err(Refusal::NotFound) if ask.place.is_some_and(|place| place.1 == b't') => Met::ExpiredRefused,
            Ok(_) if heard.degraded => Met::Degraded,
            Ok(_) if ask.durable && ask.is_change() && is_local => Met::DurableForwarded,
            Ok(_) if ask.durable && ask.is_change() => Met::DurableAnswered,
            Ok(_) if heard.by == Role::Secondary => Met::ReadFromSecondary,
            Ok(_) if ask.from_primary && !ask.is_change() && is_local => Met::ReadFromPrimary,
            Ok(_) if ask.op.is_some_and(|op| self.ledger.ops[op].attempts > 1) => Met::RetryAnswered,
            Ok(_) if is_local => Met::ForwardAnswered,
            Ok(_) if matches!(ask.act, Act::Delete { .. }) => Met::Tombstoned,
            Ok(_) if matches!(ask.act, Act::Rename { .. }) => Met::Renamed,
            _ => return,
        };
        self.coverage.met(met);
    }

    fn check_answer(&mut self, host: usize, ask: &Ask, heard: &Heard) -> Result<(), Wrong> {
        let Ok(body) = &heard.result else { return Ok(()) };
        match heard.by {
            Role::Joining => return Err(format!("a joining node answers {ask:?}")),
            Role::Secondary if ask.is_change() || ask.from_primary => {
                return Err(format!("a secondary answers {ask:?} by itself"));
            }
            Role::Primary | Role::Secondary => {}
        }
        if let Body::StoreId { customer, .. } = body
            && customer != CUSTOMERS[ask.customer]
        {
            return Err(format!("customers-apart: {ask:?} got a store of {customer}"));
        }
        let (Body::Blob(bytes), Some(place)) = (body, ask.place) else { return Ok(()) };
        let Some((of, value)) = read_body(bytes) else { return Ok(()) };
        if of != place {
            return Err(format!("customers-apart: {place:?} holds a value of {of:?}"));
        }
        if !self.ledger.values.contains_key(&value) {
            return Err(format!("no-lost-update: nobody wrote {value} to {place:?}"));
        }
        if let (Some(&(at, ttl)), Some(left_ms)) = (self.ledger.times.get(&value), heard.ttl_left_ms)
            && at != u64::MAX
            && self.hosts[host].node.as_ref().is_some_and(|node| node.role() != Role::Joining)
        {
            self.coverage.met(Met::TtlChecked);
            // By true time; each clock is off by a hundredth at most, and so is the offset between them after two seconds. The answer was made
            // at any time since it was asked for.
            let passed = self.now - at;
            let made_ago = self.now - ask.sent_at;
            let most = ttl + passed / 40 + 300 * MS;
            if passed.saturating_sub(made_ago) + left_ms * MS > most {
                return Err(format!(
                    "ttl-never-extends: {place:?} was written {passed} ns ago for {ttl}, and has {left_ms} ms left"
                ));
            }
        }
        Ok(())
    }

    /// Whatever was asked is over, one way or the other; the clients begin anew.
    pub(crate) fn clients_begin_anew(&mut self) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            client.rests = false;
            client.retry = None;
            if client.asks.is_none() {
                self.acts_later(number);
            }
        }
        self.visits.clear();
        self.storm = None;
        self.asks.retain(|_, ask| ask.state == State::Waits);
        for ask in self.asks.values_mut() {
            ask.op = None;
        }
    }

    /// In the end nobody waits who has not been told so.
    pub(crate) fn everything_is_answered(&self) -> Result<(), Wrong> {
        for ask in self.asks.values().filter(|ask| ask.state == State::Waits) {
            let is_alive = self.hosts[ask.host].life == ask.life;
            if is_alive && ask.sent_at + (ask.wait_ms + FORWARD_MS) * MS < self.now {
                return Err(format!("answered-once: {ask:?} has no answer"));
            }
        }
        Ok(())
    }
}

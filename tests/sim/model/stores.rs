//! The model's operations on one store: by id, and what names and ids have in common.

use super::{Life, Lock, Model, Pending, Slot, Wrong, plain, refusal, said};
use crate::coverage::Rare;
use crate::reply::{Matter, Reply, Told};
use crate::universe::{Universe, universe};
use bigbunny::json::CounterBodyMistake;
use bigbunny::node::EXPIRED_REMEMBERED_MS;
use bigbunny::node::request::{
    ConnectionId, Content, Counter, IfMatch, LockId, Operation, Request, StoreKey, Target, TouchOnRead,
};
use bigbunny::node::response::Refusal;
use std::borrow::Cow;
use std::time::Duration;

/// The id of an expired store answers `410` for at least this long (section 7).
const GRACE_MS: u64 = 30_000;
/// By how much a node may be late in forgetting it: it may be paused.
const GRACE_SLACK_MS: u64 = 31_000;

/// What a target leads to.
pub(super) enum Found {
    /// A store that can be read.
    Alive(Slot),
    /// A store past its expiry that somebody holds the lock of.
    Overdue(Slot),
    /// Nothing, and how that is said.
    Nothing(Refusal),
}

impl Model {
    /// What an id leads to.
    pub(super) fn by_key(&mut self, customer: &'static str, key: StoreKey, seen: &Reply) -> Found {
        let slot = self.keys.get(&key).copied().filter(|slot| self.stores[*slot].customer == customer);
        let Some(slot) = slot else {
            self.met(Rare::AskedForForeign);
            return Found::Nothing(Refusal::NotFound);
        };
        match self.stores[slot].life {
            Life::Live if self.alive(slot) => Found::Alive(slot),
            Life::Live => Found::Overdue(slot),
            Life::Deleted => {
                self.met(Rare::AskedForDeleted);
                Found::Nothing(Refusal::NotFound)
            }
            Life::Expired { removed_ms } => {
                let must_be_known = self.now_ms < self.stores[slot].expires_ms + GRACE_MS;
                let may_be_known = self.now_ms < removed_ms + EXPIRED_REMEMBERED_MS + GRACE_SLACK_MS;
                let known = must_be_known || (may_be_known && seen.result == Err(Refusal::StoreExpired));
                self.met(if known { Rare::AskedForExpired } else { Rare::AskedForForgotten });
                if known && self.limbo.contains(&slot) {
                    self.met(Rare::ExpiredBeforeTimeout);
                }
                Found::Nothing(if known { Refusal::StoreExpired } else { Refusal::NotFound })
            }
        }
    }

    pub(super) fn by_target(&mut self, customer: &'static str, target: &Target<'static>, seen: &Reply) -> Found {
        match target {
            Target::Key(key) => self.by_key(customer, *key, seen),
            Target::Name(name) => self.by_name(customer, said(name)),
        }
    }

    /// A store that can be read, or what to say instead.
    pub(super) fn readable(&self, found: &Found, target: &Target<'static>) -> Result<Slot, Refusal> {
        match (found, target) {
            (Found::Alive(slot), _) => Ok(*slot),
            (Found::Overdue(_), Target::Key(_)) => Err(Refusal::StoreExpired),
            (Found::Overdue(_), Target::Name(_)) => Err(Refusal::NotFound),
            (Found::Nothing(refusal), _) => Err(*refusal),
        }
    }

    /// `If-Match` and `If-None-Match`; what cannot be read counts as missing.
    pub(super) fn condition_holds(&mut self, request: &Request<'static>, slot: Option<Slot>) -> bool {
        let condition = &request.condition;
        let matches = match (condition.if_match, slot) {
            (IfMatch::Unset, _) | (IfMatch::Any, Some(_)) => true,
            (IfMatch::Tag(tag), Some(slot)) => tag.epoch == 1 && tag.version == self.stores[slot].version,
            (IfMatch::Foreign, _) | (IfMatch::Any | IfMatch::Tag(_), None) => false,
        };
        let holds = matches && !(condition.if_none_match_any && slot.is_some());
        if !holds {
            self.met(Rare::PreconditionFailed);
        } else if matches!(condition.if_match, IfMatch::Tag(_)) {
            self.met(Rare::TagMatched);
        }
        holds
    }

    pub(super) fn condition_on_found(&mut self, request: &Request<'static>, found: &Found) -> Option<Reply> {
        let slot = match found {
            Found::Alive(slot) => Some(*slot),
            Found::Overdue(_) | Found::Nothing(_) => None,
        };
        if self.condition_holds(request, slot) {
            return None;
        }
        Some(slot.map_or(refusal(Refusal::VersionMismatch), |slot| self.refused(slot, Refusal::VersionMismatch)))
    }

    pub(super) fn create(
        &mut self,
        request: &Request<'static>,
        name: Option<&'static str>,
        content: &Content<'static>,
        ttl_ms: Option<u64>,
        seen: &Reply,
    ) -> Result<Reply, Wrong> {
        if name.is_none() && !self.condition_holds(request, None) {
            return Ok(refusal(Refusal::VersionMismatch));
        }
        if let Some(refused) = refuse_bounds(content) {
            return Ok(refusal(refused));
        }
        match self.make(request, name, Matter::asked(content), ttl_ms, seen) {
            Ok(slot) => self.told_id(slot, true, seen),
            Err(refused) => Ok(refusal(refused)),
        }
    }

    /// Makes a store if there is room.
    pub(super) fn make(
        &mut self,
        request: &Request<'static>,
        name: Option<&'static str>,
        matter: Matter,
        ttl_ms: Option<u64>,
        seen: &Reply,
    ) -> Result<Slot, Refusal> {
        let cost_bytes = super::limits::cost_bytes(&matter, name);
        if let Some(refused) = self.refuse_growth(request, 0, cost_bytes, seen) {
            return Err(refused);
        }
        Ok(self.bear(request.customer, name, matter, ttl_ms.unwrap_or(self.config.default_ttl_ms)))
    }

    /// The answer with a store's id: a new one where none was known, for ever the same afterwards.
    pub(super) fn told_id(&mut self, slot: Slot, created: bool, seen: &Reply) -> Result<Reply, Wrong> {
        let customer = self.stores[slot].customer;
        let key = match (self.stores[slot].key, &seen.result) {
            (Some(key), _) => key,
            (None, Ok(Told::StoreId { key, .. })) => {
                if self.keys.insert(*key, slot).is_some() {
                    return Err(format!("customers-apart: the key {key:?} is another store's"));
                }
                self.stores[slot].key = Some(*key);
                *key
            }
            (None, _) => StoreKey([0; 20]),
        };
        Ok(self.told(slot, Told::StoreId { customer: Cow::Borrowed(customer), key, created }))
    }

    /// Gives a store other content, if there is room.
    pub(super) fn replace(
        &mut self,
        request: &Request<'static>,
        slot: Slot,
        matter: Matter,
        ttl_ms: Option<u64>,
        seen: &Reply,
    ) -> Result<(), Refusal> {
        let old_bytes = self.cost_bytes(slot);
        let new_bytes = super::limits::cost_bytes(&matter, self.stores[slot].name);
        if let Some(refused) = self.refuse_growth(request, old_bytes, new_bytes, seen) {
            return Err(refused);
        }
        self.charge(request.customer, old_bytes, new_bytes);
        if std::mem::discriminant(&matter) != std::mem::discriminant(&self.stores[slot].matter) {
            self.met(Rare::KindChanged);
        }
        self.stores[slot].matter = matter;
        self.stores[slot].version += 1;
        self.set_expiry(slot, ttl_ms);
        Ok(())
    }

    pub(super) fn content(&mut self, slot: Slot) -> Reply {
        let store = &self.stores[slot];
        if self.now_ms - store.made_ms > 365 * 24 * 3_600_000 {
            self.met(Rare::OutlivedAYear);
        }
        let store = &self.stores[slot];
        let mut reply = self.told(
            slot,
            match &store.matter {
                Matter::Blob(bytes) => Told::Blob(bytes.clone()),
                Matter::Counter(counter) => Told::Counter { counter: *counter, step: None },
            },
        );
        if let (Matter::Blob(_), Some(facts)) = (&store.matter, &mut reply.facts) {
            facts.locked = Some(store.lock.is_some());
        }
        reply
    }

    pub(super) fn touch_on_read(&mut self, slot: Slot, touch: Option<TouchOnRead>) {
        let Some(touch) = touch else { return };
        let left_ms = self.stores[slot].expires_ms - self.now_ms;
        if touch.if_below_ms.is_none_or(|below_ms| left_ms < below_ms) {
            self.set_expiry(slot, Some(touch.ttl_ms));
            self.met(Rare::TouchedOnRead);
        } else {
            self.met(Rare::TouchNotNeeded);
        }
    }

    pub(super) fn read(
        &mut self,
        request: &Request<'static>,
        target: &Target<'static>,
        touch: Option<TouchOnRead>,
        seen: &Reply,
    ) -> Reply {
        let found = self.by_target(request.customer, target, seen);
        match self.readable(&found, target) {
            Err(refused) => refusal(refused),
            Ok(slot) => {
                self.touch_on_read(slot, touch);
                self.content(slot)
            }
        }
    }

    pub(super) fn touch(
        &mut self,
        request: &Request<'static>,
        target: &Target<'static>,
        ttl_ms: u64,
        seen: &Reply,
    ) -> Reply {
        let found = self.by_target(request.customer, target, seen);
        if let Some(refused) = self.condition_on_found(request, &found) {
            return refused;
        }
        match self.readable(&found, target) {
            Err(refused) => refusal(refused),
            Ok(slot) => {
                self.set_expiry(slot, Some(ttl_ms));
                self.told(slot, Told::Done)
            }
        }
    }

    pub(super) fn update(
        &mut self,
        pending: &Pending,
        key: StoreKey,
        body: &'static [u8],
        ttl_ms: Option<u64>,
        through: bool,
        seen: &Reply,
    ) -> Result<Reply, Wrong> {
        let request = &pending.request;
        let found = self.by_key(request.customer, key, seen);
        if let Some(refused) = self.condition_on_found(request, &found) {
            if through {
                self.met(Rare::PreconditionFailedInLine);
            }
            return Ok(refused);
        }
        let slot = match self.readable(&found, &Target::Key(key)) {
            Ok(slot) => slot,
            Err(refused) => return Ok(refusal(refused)),
        };
        if self.is_blocked(slot, through) {
            return self.blocked(slot, pending, seen);
        }
        let matter = match self.stores[slot].matter.clone() {
            Matter::Blob(_) => Matter::Blob(Cow::Borrowed(body)),
            Matter::Counter(counter) => {
                if through {
                    self.met(Rare::KindChangedUnderWaiter);
                }
                let Some(value) = universe().counter_value(body) else {
                    let is_object = Universe::is_junk_object(body);
                    let for_a_blob = Refusal::TypeMismatch { needed: "blob" };
                    let refused =
                        if is_object { Refusal::BadCounterBody(CounterBodyMistake::Missing) } else { for_a_blob };
                    return Ok(self.refused(slot, refused));
                };
                let counter = Counter { value, ..counter };
                if !within_bounds(&counter) {
                    self.met(Rare::ValueRefused);
                    return Ok(self.refused(slot, Refusal::ValueOutOfBounds));
                }
                Matter::Counter(counter)
            }
        };
        Ok(match self.replace(request, slot, matter, ttl_ms, seen) {
            Ok(()) => self.told(slot, Told::Done),
            Err(refused) => self.refused(slot, refused),
        })
    }

    pub(super) fn begin_modify(&mut self, pending: &Pending, through: bool, seen: &Reply) -> Result<Reply, Wrong> {
        let request = &pending.request;
        let Operation::BeginModify { target, hold_ms, connection_scope, renew, create_if_missing, ttl_ms, .. } =
            &request.operation
        else {
            unreachable!("only begin-modify comes here")
        };
        let connection = connection_scope.then_some(request.connection);
        let hold_ms = hold_ms.unwrap_or(self.config.lock_timeout_ms);
        let found = self.by_target(request.customer, target, seen);
        let holds_it = |model: &Self, slot: Slot| {
            renew.is_some() && model.stores[slot].lock.is_some_and(|lock| Some(lock.id) == *renew)
        };
        if let Some(refused) = self.condition_on_found(request, &found) {
            if through {
                self.met(Rare::PreconditionFailedInLine);
            }
            return Ok(refused);
        }
        let slot = match (&found, target) {
            (Found::Overdue(slot), Target::Name(_)) if *create_if_missing => {
                return self.blocked(*slot, pending, seen);
            }
            // What was to be held on to is lost: that is not made good by a new one.
            (Found::Nothing(_), Target::Name(_)) if *create_if_missing && renew.is_some() => {
                return Ok(refusal(Refusal::LockMismatch));
            }
            (Found::Nothing(_), Target::Name(name)) if *create_if_missing => {
                let blank = Matter::Blob(Cow::Borrowed(b""));
                let slot = match self.make(request, Some(said(name)), blank, *ttl_ms, seen) {
                    Ok(slot) => slot,
                    Err(refused) => return Ok(refusal(refused)),
                };
                self.met(Rare::CreatedByBeginModify);
                return self.lock(slot, request.connection, connection, hold_ms, true, seen);
            }
            (found, target) => match self.readable(found, target) {
                Ok(slot) => slot,
                Err(refused) => return Ok(refusal(refused)),
            },
        };
        let Matter::Blob(body) = self.stores[slot].matter.clone() else {
            if through {
                self.met(Rare::KindChangedUnderWaiter);
            }
            return Ok(self.refused(slot, Refusal::TypeMismatch { needed: "blob" }));
        };
        if let Some(id) = *renew {
            if !holds_it(self, slot) {
                self.met(Rare::RenewedTooLate);
                return Ok(self.refused(slot, Refusal::LockMismatch));
            }
            self.met(Rare::LockRenewed);
            if !self.stores[slot].line.is_empty() {
                self.met(Rare::LockRenewedPastWaiters);
            }
            let until = self.now + Duration::from_millis(hold_ms);
            let lock = self.stores[slot].lock.as_mut().expect("it is held");
            lock.until = until;
            lock.connection = connection.or(lock.connection);
            return Ok(self.told(slot, Told::Locked { lock: id, body, created: false }));
        }
        if self.is_blocked(slot, through) {
            return self.blocked(slot, pending, seen);
        }
        self.lock(slot, request.connection, connection, hold_ms, false, seen)
    }

    /// The store is locked from now on, under the id that the node drew.
    fn lock(
        &mut self,
        slot: Slot,
        taken_on: ConnectionId,
        connection: Option<ConnectionId>,
        hold_ms: u64,
        created: bool,
        seen: &Reply,
    ) -> Result<Reply, Wrong> {
        let id = match &seen.result {
            Ok(Told::Locked { lock, .. }) => *lock,
            Ok(_) | Err(_) => LockId([0; 16]),
        };
        if !self.lock_ids.insert(id.0) {
            return Err(format!("one-lock-holder: the lock id {id:?} has been given before"));
        }
        let until = self.now + Duration::from_millis(hold_ms);
        self.stores[slot].lock = Some(Lock { id, until, connection, taken_on });
        self.lined.insert(slot);
        let Matter::Blob(body) = self.stores[slot].matter.clone() else { unreachable!("only blobs are locked") };
        Ok(self.told(slot, Told::Locked { lock: id, body, created }))
    }

    pub(super) fn complete_modify(
        &mut self,
        request: &Request<'static>,
        target: &Target<'static>,
        lock: LockId,
        body: &'static [u8],
        ttl_ms: Option<u64>,
        seen: &Reply,
    ) -> Reply {
        let mut found = self.by_target(request.customer, target, seen);
        let held = |model: &Self, slot: Slot| model.stores[slot].lock.filter(|held| held.id == lock);
        if let Found::Overdue(slot) = found
            && held(self, slot).is_some()
        {
            // To its holder alone a locked store past its expiry is still there.
            found = Found::Alive(slot);
        }
        if let Some(refused) = self.condition_on_found(request, &found) {
            return refused;
        }
        let slot = match self.readable(&found, target) {
            Ok(slot) => slot,
            Err(refused) => return refusal(refused),
        };
        if matches!(self.stores[slot].matter, Matter::Counter(_)) {
            return self.refused(slot, Refusal::TypeMismatch { needed: "blob" });
        }
        let Some(held) = held(self, slot) else {
            if self.lock_ids.contains(&lock.0) {
                self.met(Rare::CompletedTooLate);
            }
            return self.refused(slot, Refusal::LockMismatch);
        };
        let overdue = !self.alive(slot);
        if let Err(refused) = self.replace(request, slot, Matter::Blob(Cow::Borrowed(body)), ttl_ms, seen) {
            return self.refused(slot, refused);
        }
        if held.connection.is_some() && held.taken_on != request.connection {
            self.met(Rare::ConnectionLockUsedElsewhere);
        }
        if overdue {
            self.met(if ttl_ms.is_some() { Rare::RevivedByComplete } else { Rare::CompletedAfterExpiry });
        }
        let told = self.told(slot, Told::Done);
        self.unlock(slot);
        told
    }

    pub(super) fn cancel_modify(
        &mut self,
        request: &Request<'static>,
        target: &Target<'static>,
        lock: LockId,
        seen: &Reply,
    ) -> Reply {
        let found = self.by_target(request.customer, target, seen);
        let (Found::Alive(slot) | Found::Overdue(slot)) = found else { return plain(Told::Done) };
        if matches!(self.stores[slot].matter, Matter::Counter(_)) {
            return self.refused(slot, Refusal::TypeMismatch { needed: "blob" });
        }
        match self.stores[slot].lock {
            None => self.told(slot, Told::Done),
            Some(held) if held.id == lock => {
                let told = self.told(slot, Told::Done);
                self.unlock(slot);
                told
            }
            Some(_) => self.refused(slot, Refusal::LockMismatch),
        }
    }

    pub(super) fn delete(&mut self, request: &Request<'static>, target: &Target<'static>, seen: &Reply) -> Reply {
        let found = self.by_target(request.customer, target, seen);
        if let Some(refused) = self.condition_on_found(request, &found) {
            return refused;
        }
        let (Found::Alive(slot) | Found::Overdue(slot)) = found else { return plain(Told::Done) };
        if let Some(refused) = self.refuse_tombstones(request.customer, 1, seen) {
            return self.refused(slot, refused);
        }
        self.bury(slot);
        plain(Told::Done)
    }
}

/// What is wrong with new content, if anything.
pub(super) fn refuse_bounds(content: &Content<'_>) -> Option<Refusal> {
    let Content::Counter(counter) = content else { return None };
    if counter.min.zip(counter.max).is_some_and(|(min, max)| min > max) {
        return Some(Refusal::InvalidBounds);
    }
    (!within_bounds(counter)).then_some(Refusal::ValueOutOfBounds)
}

pub(super) fn within_bounds(counter: &Counter) -> bool {
    counter.min.is_none_or(|min| min <= counter.value) && counter.max.is_none_or(|max| counter.value <= max)
}

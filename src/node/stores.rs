//! Stores as such: finding, making, changing and removing them, with the books kept exact, and the operations that do no more.

use super::gates::{check_condition, check_counter};
use super::request::{Content, Etag, StoreKey, Target, TouchOnRead};
use super::response::Refusal;
use super::store::{Entry, State, cost_of_new_bytes};
use super::timeouts::{EXPIRED_REMEMBERED_MS, TOMBSTONE_KEPT_MS};
use super::{Arena, Ask, Asker, LOOKED_UP_AHEAD_MAX, Node, Outbox, Outcome, Role, Stores};
use crate::planted::{self, Bug};
use crate::time::Now;
use crate::wheel::{Link, Timed};

/// What was found under an id or a name.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// Nothing, or something deleted.
    Nothing,
    /// By id alone: its time is over.
    Expired,
    /// A store.
    Alive(u32),
    /// A store past its expiry that somebody still holds the lock of.
    Dying(u32),
}

impl Timed for Arena<Entry> {
    fn deadline_ms(&self, index: u32) -> u64 {
        self.get(index).expires_ms()
    }

    fn link(&self, index: u32) -> Link {
        self.get(index).link
    }

    fn set_link(&mut self, index: u32, link: Link) {
        self.get_mut(index).link = link;
    }
}

/// The key is random bytes of our own, and authentic: eight of them are a hash.
fn hash_of_key(key: &StoreKey) -> u64 {
    u64::from_le_bytes(key.0[..8].try_into().expect("20 bytes hold 8"))
}

impl Stores {
    pub(super) fn find(&self, key: &StoreKey) -> Option<u32> {
        self.index.find(hash_of_key(key), |slot| self.arena.get(slot).key == *key)
    }

    /// [`Node::look_up_ahead`], of the stores.
    pub(super) fn look_up_ahead<'k>(&self, keys: impl Iterator<Item = &'k StoreKey>) {
        let mut likely = [None; LOOKED_UP_AHEAD_MAX];
        for (key, likely) in keys.zip(&mut likely) {
            *likely = self.index.likely(hash_of_key(key));
        }
        let entries = likely.iter().filter_map(|&slot| self.arena.find(slot?));
        std::hint::black_box(entries.clone().fold(0, |seen, entry| seen ^ entry.expires_ms()));
        std::hint::black_box(entries.fold(0, |seen, entry| seen ^ entry.look_at_content()));
    }

    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let hash = hash_of_key(&entry.key);
        let slot = self.arena.insert(entry);
        self.index.insert(hash, slot, |other| hash_of_key(&self.arena.get(other).key));
        self.wheel.arm(&mut self.arena, slot);
        slot
    }

    /// Removes an entry that nothing else knows any more. Its timer has fired.
    pub(super) fn remove(&mut self, slot: u32) {
        let hash = hash_of_key(&self.arena.get(slot).key);
        self.index.remove(hash, slot, |other| hash_of_key(&self.arena.get(other).key));
        self.arena.remove(slot);
    }

    pub(super) fn disarm(&mut self, slot: u32) {
        self.wheel.disarm(&mut self.arena, slot);
    }

    /// A later expiry is met by the timer that is armed already; an earlier one needs another.
    pub(super) fn set_expires_ms(&mut self, slot: u32, expires_ms: u64) {
        let is_earlier = expires_ms < self.arena.get(slot).expires_ms();
        if is_earlier {
            self.wheel.disarm(&mut self.arena, slot);
        }
        self.arena.get_mut(slot).set_expires_ms(expires_ms);
        if is_earlier || !self.wheel.is_armed(&self.arena, slot) {
            self.wheel.arm(&mut self.arena, slot);
        }
    }
}

impl Node {
    /// Finds what a request is about, and brings it up to date first: a lock whose time is over ends and its line is served, a
    /// store whose time is over is removed, whether or not their timers have been looked at yet.
    pub(super) fn find(&mut self, now: Now, asker: Asker, target: &Target<'_>, outbox: &mut dyn Outbox) -> Found {
        match target {
            Target::Key(key) => self.find_key(now, asker, key, outbox),
            Target::Name(name) => self.find_name(now, asker, name, outbox),
        }
    }

    fn find_key(&mut self, now: Now, asker: Asker, key: &StoreKey, outbox: &mut dyn Outbox) -> Found {
        let find = |node: &Self| {
            node.stores.find(key).filter(|&slot| node.stores.arena.get(slot).customer() == asker.customer)
        };
        let Some(slot) = find(self) else { return Found::Nothing };
        if self.role() != Role::Primary {
            return self.look_at_followed(now, slot);
        }
        if self.end_hold_if_due(now, slot, outbox) {
            return self.find_key(now, asker, key, outbox);
        }
        let entry = self.stores.arena.get(slot);
        let is_over = entry.expires_ms() <= now.monotonic.as_millis();
        match (entry.state(), is_over) {
            (State::Blob | State::Counter, false) => Found::Alive(slot),
            (State::Blob | State::Counter, true) if entry.has_lock_line() => Found::Dying(slot),
            (State::Blob | State::Counter, true) => {
                self.expire_store(now, slot);
                Found::Expired
            }
            (State::Expired, false) => Found::Expired,
            (State::Expired, true) | (State::Tombstone, _) => Found::Nothing,
        }
    }

    /// What a follower sees: it ends and expires nothing by itself.
    fn look_at_followed(&self, now: Now, slot: u32) -> Found {
        let entry = self.stores.arena.get(slot);
        let is_over = entry.expires_ms() <= now.monotonic.as_millis();
        match (entry.state(), is_over) {
            (State::Blob | State::Counter, false) => Found::Alive(slot),
            (State::Blob | State::Counter, true) | (State::Expired, false) => Found::Expired,
            (State::Expired, true) | (State::Tombstone, _) => Found::Nothing,
        }
    }

    pub(super) fn find_name(&mut self, now: Now, asker: Asker, name: &str, outbox: &mut dyn Outbox) -> Found {
        let Some(&slot) = self.customers.get(asker.customer).names.get(name) else { return Found::Nothing };
        if self.role() != Role::Primary {
            return match self.look_at_followed(now, slot) {
                Found::Alive(slot) => Found::Alive(slot),
                Found::Nothing | Found::Expired | Found::Dying(_) => Found::Nothing,
            };
        }
        if self.end_hold_if_due(now, slot, outbox) {
            return self.find_name(now, asker, name, outbox);
        }
        let entry = self.stores.arena.get(slot);
        if entry.expires_ms() > now.monotonic.as_millis() {
            return Found::Alive(slot);
        }
        if entry.has_lock_line() {
            return Found::Dying(slot);
        }
        self.expire_store(now, slot);
        Found::Nothing
    }

    /// The store a request wants to change, past the gates of precondition and existence.
    pub(super) fn find_alive(
        &mut self,
        ask: &Ask<'_>,
        target: &Target<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<u32, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let found = self.find(now, asker, target, outbox);
        check_condition(ask.condition, self.etag_of(found))?;
        match found {
            Found::Alive(slot) => Ok(slot),
            Found::Nothing | Found::Expired | Found::Dying(_) => Err(missing(target, found)),
        }
    }

    /// The tag of a store that is alive.
    pub(super) fn etag_of(&self, found: Found) -> Option<Etag> {
        match found {
            Found::Alive(slot) => Some(self.stores.arena.get(slot).etag()),
            Found::Nothing | Found::Expired | Found::Dying(_) => None,
        }
    }

    /// Makes a store, if there is room. The name must be free.
    pub(super) fn make_store(
        &mut self,
        now: Now,
        asker: Asker,
        name: Option<&str>,
        content: &Content<'_>,
        ttl_ms: Option<u64>,
    ) -> Result<u32, Refusal> {
        let cost_bytes = cost_of_new_bytes(content, name);
        self.check_room(asker.customer, cost_bytes)?;
        let mut key = StoreKey([0; 20]);
        self.entropy.fill(&mut key.0);
        while self.stores.find(&key).is_some() {
            self.entropy.fill(&mut key.0);
        }
        let expires_ms = now.monotonic.as_millis().saturating_add(ttl_ms.unwrap_or(self.config.default_ttl_ms));
        let etag = Etag { epoch: self.epoch, version: 1 };
        let mut entry = Entry::new(key, asker.customer, etag, expires_ms);
        entry.set_content(*content);
        if let Some(name) = name {
            entry.set_name(name);
        }
        let slot = self.stores.insert(entry);
        let customer = self.customers.get_mut(asker.customer);
        customer.entries += 1;
        if let Some(name) = name {
            assert!(customer.names.insert(name.into(), slot).is_none(), "name-unique");
            self.status.names += 1;
        }
        self.status.stores += 1;
        self.add_memory(asker.customer, cost_bytes);
        self.log_store(slot);
        Ok(slot)
    }

    /// Replaces a store's content, if there is room for more, as a new version; and moves its expiry, if asked.
    pub(super) fn change_store(
        &mut self,
        now: Now,
        slot: u32,
        content: &Content<'_>,
        ttl_ms: Option<u64>,
    ) -> Result<(), Refusal> {
        let entry = self.stores.arena.get_mut(slot);
        let customer = entry.customer();
        let (old_bytes, new_bytes) = (entry.cost_bytes(), entry.cost_bytes_with(content));
        if new_bytes > old_bytes {
            self.check_room(customer, new_bytes - old_bytes)?;
        }
        self.stores.arena.get_mut(slot).set_content(*content);
        if new_bytes > old_bytes {
            self.add_memory(customer, new_bytes - old_bytes);
        } else {
            self.take_memory(customer, old_bytes - new_bytes);
        }
        self.raise_version(slot);
        self.move_expiry(now, slot, ttl_ms);
        self.log_store(slot);
        Ok(())
    }

    pub(super) fn raise_version(&mut self, slot: u32) {
        let epoch = self.epoch;
        let entry = self.stores.arena.get_mut(slot);
        entry.set_etag(Etag { epoch, version: entry.etag().version + 1 });
    }

    pub(super) fn move_expiry(&mut self, now: Now, slot: u32, ttl_ms: Option<u64>) {
        if let Some(ttl_ms) = ttl_ms {
            self.stores.set_expires_ms(slot, now.monotonic.as_millis().saturating_add(ttl_ms));
        }
    }

    /// Its time is over and nobody holds its lock: the id answers `410` for a while, the name is free.
    pub(super) fn expire_store(&mut self, now: Now, slot: u32) {
        self.remove_content(slot, State::Expired, now.monotonic.as_millis() + EXPIRED_REMEMBERED_MS);
        self.status.expired_total += 1;
        if !planted::is(Bug::ExpiryNotReplicated) {
            self.log_remains(slot);
        }
    }

    /// Deletes a store, its lock with it, and leaves a tombstone. The tombstone limits have been asked.
    pub(super) fn delete_store(&mut self, now: Now, slot: u32) {
        self.remove_content(slot, State::Tombstone, now.monotonic.as_millis() + TOMBSTONE_KEPT_MS);
        let customer = self.stores.arena.get(slot).customer();
        self.customers.get_mut(customer).tombstones += 1;
        self.status.tombstones += 1;
        self.log_remains(slot);
    }

    pub(super) fn remove_content(&mut self, slot: u32, state: State, until_ms: u64) {
        self.dissolve_line(slot);
        let entry = self.stores.arena.get(slot);
        let (customer, cost_bytes) = (entry.customer(), entry.cost_bytes());
        if let Some(name) = entry.name()
            && !(planted::is(Bug::NameLeftBehind) && state == State::Expired)
        {
            assert_eq!(self.customers.get_mut(customer).names.remove(name), Some(slot), "name-unique");
            self.status.names -= 1;
        }
        self.take_memory(customer, cost_bytes);
        if planted::is(Bug::QuotaGivenTwice) && state == State::Tombstone {
            self.take_memory(customer, cost_bytes);
        }
        self.status.stores -= 1;
        self.stores.wheel.disarm(&mut self.stores.arena, slot);
        self.stores.arena.get_mut(slot).become_remains(state, until_ms);
        self.stores.wheel.arm(&mut self.stores.arena, slot);
    }

    pub(super) fn on_create(
        &mut self,
        ask: &Ask<'_>,
        content: &Content<'_>,
        ttl_ms: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        check_condition(ask.condition, None)?;
        check_content(content)?;
        let slot = self.make_store(now, asker, None, content, ttl_ms)?;
        Ok(Outcome::StoreId { slot, created: true })
    }

    pub(super) fn on_read(
        &mut self,
        ask: &Ask<'_>,
        target: &Target<'_>,
        touch: Option<&TouchOnRead>,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        match self.find(now, asker, target, outbox) {
            Found::Alive(slot) => {
                self.touch_on_read(now, slot, touch);
                Ok(Outcome::Content(slot))
            }
            found @ (Found::Nothing | Found::Expired | Found::Dying(_)) => Err(missing(target, found)),
        }
    }

    pub(super) fn touch_on_read(&mut self, now: Now, slot: u32, touch: Option<&TouchOnRead>) {
        let Some(touch) = touch else { return };
        let left_ms = self.stores.arena.get(slot).expires_ms().saturating_sub(now.monotonic.as_millis());
        if touch.if_below_ms.is_none_or(|below_ms| left_ms < below_ms) {
            self.move_expiry(now, slot, Some(touch.ttl_ms));
            self.log_expiry(slot);
        }
    }

    pub(super) fn on_touch(
        &mut self,
        ask: &Ask<'_>,
        target: &Target<'_>,
        ttl_ms: u64,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let now = ask.now;
        let slot = self.find_alive(ask, target, outbox)?;
        self.move_expiry(now, slot, Some(ttl_ms));
        self.log_expiry(slot);
        Ok(Outcome::DoneTo(slot))
    }

    pub(super) fn on_delete(
        &mut self,
        ask: &Ask<'_>,
        target: &Target<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let found = self.find(now, asker, target, outbox);
        check_condition(ask.condition, self.etag_of(found))?;
        match found {
            Found::Alive(slot) | Found::Dying(slot) => {
                self.check_tombstones(asker.customer, 1)?;
                self.delete_store(now, slot);
            }
            Found::Nothing | Found::Expired => {}
        }
        Ok(Outcome::Done)
    }
}

/// Why a store that was asked for is not there. By name nobody is told that there was one.
pub(super) const fn missing(target: &Target<'_>, found: Found) -> Refusal {
    match (target, found) {
        (Target::Key(_), Found::Expired | Found::Dying(_)) => Refusal::StoreExpired,
        (Target::Key(_), Found::Nothing | Found::Alive(_)) | (Target::Name(_), _) => Refusal::NotFound,
    }
}

pub(super) fn check_content(content: &Content<'_>) -> Result<(), Refusal> {
    match content {
        Content::Blob(_) => Ok(()),
        Content::Counter(counter) => check_counter(counter),
    }
}

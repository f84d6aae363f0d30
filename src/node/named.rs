//! Operations by name: create, put, lookup, auth, list, rename, and many at once.

use std::borrow::Cow;
use std::ops::Bound;

use super::gates::check_condition;
use super::request::{Content, Target, TouchOnRead};
use super::response::Refusal;
use super::stores::{Found, check_content};
use super::timeouts::PrefixJob;
use super::{Ask, Asker, Node, Outbox, Outcome};
use crate::time::Now;

/// Stores that are read at once, in bytes on the books: one answer holds the loop for well under a millisecond.
pub const READ_MANY_MAX_BYTES: u64 = 2 << 20;

impl Node {
    pub(super) fn on_create_named(
        &mut self,
        ask: &Ask<'_>,
        name: &str,
        content: &Content<'_>,
        ttl_ms: Option<u64>,
        reuse: bool,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let found = self.find_name(now, asker, name, outbox);
        check_condition(ask.condition, self.etag_of(found))?;
        match found {
            Found::Alive(slot) if reuse => Ok(Outcome::StoreId { slot, created: false }),
            Found::Alive(_) | Found::Dying(_) => Err(Refusal::NameExists),
            Found::Nothing | Found::Expired => {
                check_content(content)?;
                let slot = self.make_store(now, asker, Some(name), content, ttl_ms)?;
                Ok(Outcome::StoreId { slot, created: true })
            }
        }
    }

    pub(super) fn on_put(
        &mut self,
        ask: &Ask<'_>,
        name: &str,
        content: &Content<'_>,
        ttl_ms: Option<u64>,
        wait_ms: u64,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let found = self.find_name(now, asker, name, outbox);
        check_condition(ask.condition, self.etag_of(found))?;
        match found {
            Found::Alive(slot) | Found::Dying(slot) if self.locks.holder(slot).is_some() => {
                self.wait_for_lock(ask, slot, wait_ms)
            }
            Found::Alive(slot) => {
                check_content(content)?;
                self.change_store(now, slot, content, ttl_ms)?;
                Ok(Outcome::StoreId { slot, created: false })
            }
            Found::Dying(_) => unreachable!("a store past its expiry is kept for the holder of its lock alone"),
            Found::Nothing | Found::Expired => {
                check_content(content)?;
                let slot = self.make_store(now, asker, Some(name), content, ttl_ms)?;
                Ok(Outcome::StoreId { slot, created: true })
            }
        }
    }

    fn find_alive_name(&mut self, now: Now, asker: Asker, name: &str, outbox: &mut dyn Outbox) -> Option<u32> {
        match self.find_name(now, asker, name, outbox) {
            Found::Alive(slot) => Some(slot),
            Found::Nothing | Found::Expired | Found::Dying(_) => None,
        }
    }

    pub(super) fn on_lookup(&mut self, ask: &Ask<'_>, name: &str, outbox: &mut dyn Outbox) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let slot = self.find_alive_name(now, asker, name, outbox).ok_or(Refusal::NotFound)?;
        Ok(Outcome::StoreId { slot, created: false })
    }

    pub(super) fn on_authorize(
        &mut self,
        ask: &Ask<'_>,
        name: Option<&str>,
        touch: Option<&TouchOnRead>,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let found = name.and_then(|name| self.find_alive_name(now, asker, name, outbox));
        let slot = found.ok_or(Refusal::NotAuthorized)?;
        self.touch_on_read(now, slot, touch);
        Ok(Outcome::Authorized(slot))
    }

    pub(super) fn on_list(&self, ask: &Ask<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Outcome {
        let &Ask { now, asker, .. } = ask;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let names = &self.customers.get(asker.customer).names;
        let now_ms = now.monotonic.as_millis();
        let mut slots = names
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(_, &slot)| slot)
            .filter(|&slot| self.stores.arena.get(slot).expires_ms() > now_ms);
        let page: Vec<u32> = slots.by_ref().take(limit).collect();
        let more = slots.next().is_some();
        Outcome::Names { slots: page, more }
    }

    pub(super) fn on_delete_prefix(&mut self, ask: &Ask<'_>, prefix: &str) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let job = PrefixJob { asker, prefix: prefix.into(), deleted: 0 };
        let first = self.names_with_prefix(asker.customer, prefix);
        // A prefix that is done in one go is refused whole; a longer one stops where the limit is met.
        let tombstones = first.iter().filter(|&&slot| !self.is_over(now, slot)).count() as u64;
        self.check_tombstones(asker.customer, tombstones)?;
        self.run_prefix_job(now, job)
    }

    pub(super) fn on_read_many(
        &mut self,
        ask: &Ask<'_>,
        names: &[Cow<'_, str>],
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let slots: Vec<Option<u32>> = names.iter().map(|name| self.find_alive_name(now, asker, name, outbox)).collect();
        let bytes: u64 = slots.iter().flatten().map(|&slot| self.stores.arena.get(slot).cost_bytes()).sum();
        if bytes > READ_MANY_MAX_BYTES {
            return Err(Refusal::AnswerTooLarge);
        }
        Ok(Outcome::Stores(slots))
    }

    pub(super) fn on_delete_many(
        &mut self,
        ask: &Ask<'_>,
        names: &[Cow<'_, str>],
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let mut slots = Vec::with_capacity(names.len());
        for name in names {
            // What is past its expiry and locked goes too, or the completion of a save could bring it back; it is not counted.
            match self.find_name(now, asker, name, outbox) {
                Found::Alive(slot) => slots.push((slot, true)),
                Found::Dying(slot) => slots.push((slot, false)),
                Found::Nothing | Found::Expired => {}
            }
        }
        slots.sort_unstable();
        slots.dedup();
        self.check_tombstones(asker.customer, slots.len() as u64)?;
        for &(slot, _) in &slots {
            self.delete_store(now, slot);
        }
        let count = slots.iter().filter(|(_, is_alive)| *is_alive).count() as u64;
        Ok(Outcome::Deleted { count })
    }

    pub(super) fn on_rename(
        &mut self,
        ask: &Ask<'_>,
        name: &str,
        to: &str,
        outbox: &mut dyn Outbox,
    ) -> Result<Outcome, Refusal> {
        let &Ask { now, asker, .. } = ask;
        let target = Target::Name(Cow::Borrowed(name));
        let slot = self.find_alive(ask, &target, outbox)?;
        if name == to {
            return Ok(Outcome::DoneTo(slot));
        }
        if let Found::Alive(_) | Found::Dying(_) = self.find_name(now, asker, to, outbox) {
            return Err(Refusal::NameExists);
        }
        let entry = self.stores.arena.get(slot);
        let (old_bytes, new_bytes) = (entry.cost_bytes(), entry.cost_bytes_named(to));
        if new_bytes > old_bytes {
            self.check_room(asker.customer, new_bytes - old_bytes)?;
        }
        self.add_memory(asker.customer, new_bytes);
        self.take_memory(asker.customer, old_bytes);
        let names = &mut self.customers.get_mut(asker.customer).names;
        assert_eq!(names.remove(name), Some(slot), "name-unique");
        names.insert(to.into(), slot);
        self.stores.arena.get_mut(slot).set_name(to);
        self.locks.rename(slot, to);
        self.log_store(slot);
        Ok(Outcome::DoneTo(slot))
    }
}

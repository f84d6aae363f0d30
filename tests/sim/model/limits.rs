//! The model's limits: rate, memory, tombstones, and the answers kept under idempotency keys.

use super::{Life, Model, Pending, Slot, Wrong, refusal};
use crate::coverage::Rare;
use crate::kinds::changes;
use crate::reply::{Matter, Reply, Told};
use bigbunny::node::request::{Counter, Idempotency, Request};
use bigbunny::node::response::Refusal;
use bigbunny::node::{ANSWER_OVERHEAD_BYTES, NAME_OVERHEAD_BYTES, STORE_OVERHEAD_BYTES};
use bigbunny::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// For how long an idempotency key is known after its first answer (section 3).
const KEY_KNOWN_MS: u64 = 60_000;

/// A customer's account.
#[derive(Debug, Default)]
pub(crate) struct Customer {
    pub(crate) names: BTreeMap<&'static str, Slot>,
    pub(crate) names_ever: BTreeSet<&'static str>,
    pub(crate) memory_bytes: u64,
    pub(crate) tombstones: u64,
    pub(crate) kept: BTreeMap<&'static str, Kept>,
    /// What has been taken from the bucket and not come back, in nanoseconds of the rate, as of `bucket_at`.
    used_nanos: u64,
    bucket_at: Instant,
}

/// An idempotency key in use.
#[derive(Debug)]
pub(crate) struct Kept {
    fingerprint: [u8; 16],
    /// The first answer, and until when it is kept; nothing while there is none.
    answer: Option<(Reply, Instant)>,
    cost_bytes: u64,
    /// Its time is over, though the node may not have noticed: off the model's books.
    is_over: bool,
}

/// A key past its time that the node may not have forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimboKey {
    until: Instant,
    customer: &'static str,
    key: &'static str,
    cost_bytes: u64,
}

/// Whether a change may grow.
enum Room {
    Enough,
    /// It depends on whether the node has noticed what has just expired.
    Unsure,
    Short,
}

impl Model {
    /// Every request passes here once: rate, then idempotency key. What it gives is the answer, and nothing more happens.
    pub(super) fn admit(&mut self, pending: &Pending, seen: &Reply) -> Option<Reply> {
        let request = &pending.request;
        if let Some(retry_after_ms) = self.take_token(request.customer) {
            self.met(Rare::RateLimited);
            return Some(refusal(Refusal::RateLimited { retry_after_ms }));
        }
        if request.durable && changes(&request.operation) {
            // There is no second node.
            self.met(Rare::NotReplicated);
            return Some(refusal(Refusal::NotReplicated { applied: false }));
        }
        let idempotency = request.idempotency.as_ref()?;
        let account = self.account(request.customer);
        if let Some(kept) = account.kept.get(idempotency.key) {
            let told = match &kept.answer {
                _ if kept.fingerprint != idempotency.fingerprint => refusal(Refusal::IdempotencyMismatch),
                None => refusal(Refusal::IdempotencyInProgress),
                Some((first, _)) => first.clone(),
            };
            // Past its time the node may still have it, until it is told of the time.
            if !kept.is_over || told.result == seen.result {
                self.met(match told.result {
                    Err(Refusal::IdempotencyMismatch) => Rare::IdempotencyMismatched,
                    Err(Refusal::IdempotencyInProgress) => Rare::IdempotencyInProgress,
                    Ok(_) | Err(_) => Rare::IdempotentReplay,
                });
                return Some(told);
            }
            self.forget_key(request.customer, idempotency.key);
        }
        let cost_bytes = ANSWER_OVERHEAD_BYTES + idempotency.key.len() as u64;
        if let Some(refused) = self.refuse_growth(request, 0, cost_bytes, seen) {
            return Some(refusal(refused));
        }
        self.keep_key(request.customer, idempotency, cost_bytes);
        None
    }

    /// Somebody looked whether a customer may ask, and took nothing.
    pub(crate) fn peeked(&mut self, customer: &'static str, seen: Option<u64>) -> Result<(), Wrong> {
        let expected = self.token_in_ms(customer);
        if seen == expected {
            return Ok(());
        }
        Err(format!("rate: {customer} may ask in {expected:?} ms, the node says {seen:?}"))
    }

    fn token_nanos(&self) -> u64 {
        1_000_000_000 / u64::from(self.config.limits.rate_limit_per_second)
    }

    /// In how many milliseconds there is a token; nothing if there is one.
    fn token_in_ms(&mut self, customer: &'static str) -> Option<u64> {
        if self.config.limits.rate_limit_per_second == 0 {
            return None;
        }
        let token_nanos = self.token_nanos();
        let bucket_nanos = token_nanos * u64::from(self.config.limits.burst_size.max(1));
        let now = self.now;
        let account = self.account(customer);
        let back = u64::try_from(now.since(account.bucket_at).as_nanos()).expect("a run is no longer than 584 years");
        account.used_nanos = account.used_nanos.saturating_sub(back);
        account.bucket_at = now;
        let missing_nanos = (account.used_nanos + token_nanos).saturating_sub(bucket_nanos);
        (missing_nanos > 0).then(|| missing_nanos.div_ceil(1_000_000))
    }

    /// Takes a token, or says in how many milliseconds there is one.
    fn take_token(&mut self, customer: &'static str) -> Option<u64> {
        let retry_after_ms = self.token_in_ms(customer);
        if retry_after_ms.is_none() && self.config.limits.rate_limit_per_second != 0 {
            let token_nanos = self.token_nanos();
            self.account(customer).used_nanos += token_nanos;
        }
        retry_after_ms
    }

    pub(super) fn account(&mut self, customer: &'static str) -> &mut Customer {
        self.customers.entry(customer).or_default()
    }

    /// What a store counts on the books.
    pub(super) fn cost_bytes(&self, slot: Slot) -> u64 {
        cost_bytes(&self.stores[slot].matter, self.stores[slot].name)
    }

    pub(super) fn charge(&mut self, customer: &'static str, old_bytes: u64, new_bytes: u64) {
        let account = self.account(customer);
        account.memory_bytes = account.memory_bytes + new_bytes - old_bytes;
        self.memory_bytes = self.memory_bytes + new_bytes - old_bytes;
    }

    /// What growth from `old_bytes` to `new_bytes` is refused with, if it is.
    pub(super) fn refuse_growth(
        &mut self,
        request: &Request<'static>,
        old_bytes: u64,
        new_bytes: u64,
        seen: &Reply,
    ) -> Option<Refusal> {
        let capacity = self.room(None, self.config.limits.memory_limit_bytes, old_bytes, new_bytes);
        let quota =
            self.room(Some(request.customer), self.config.limits.customer_memory_quota_bytes, old_bytes, new_bytes);
        let refused = match (&seen.result, capacity, quota) {
            // Where both are true, or may be, either may be said.
            (Err(Refusal::CapacityExceeded), Room::Short | Room::Unsure, _) => Some(Refusal::CapacityExceeded),
            (Err(Refusal::CustomerQuotaExceeded), _, Room::Short | Room::Unsure) => {
                Some(Refusal::CustomerQuotaExceeded)
            }
            (_, Room::Short, _) => Some(Refusal::CapacityExceeded),
            (_, _, Room::Short) => Some(Refusal::CustomerQuotaExceeded),
            (_, Room::Enough | Room::Unsure, Room::Enough | Room::Unsure) => None,
        };
        match refused {
            Some(Refusal::CapacityExceeded) => self.met(Rare::CapacityRefused),
            Some(Refusal::CustomerQuotaExceeded) => self.met(Rare::QuotaRefused),
            Some(_) | None => {}
        }
        refused
    }

    fn room(&mut self, customer: Option<&'static str>, limit_bytes: u64, old_bytes: u64, new_bytes: u64) -> Room {
        if limit_bytes == 0 {
            return Room::Enough;
        }
        let used_bytes = match customer {
            None => self.memory_bytes,
            Some(customer) => self.account(customer).memory_bytes,
        };
        if new_bytes <= old_bytes {
            if used_bytes >= limit_bytes {
                self.met(Rare::ChangedWhileFull);
            }
            return Room::Enough;
        }
        let grown_bytes = used_bytes + new_bytes - old_bytes;
        if grown_bytes > limit_bytes {
            return Room::Short;
        }
        if grown_bytes + self.limbo_bytes(customer) > limit_bytes { Room::Unsure } else { Room::Enough }
    }

    /// A deletion of `count` stores leaves as many tombstones. Says whether there is room for them.
    pub(super) fn refuse_tombstones(&mut self, customer: &'static str, count: u64, seen: &Reply) -> Option<Refusal> {
        let over = |limit: u64, used: u64| limit != 0 && used + count > limit;
        let limits = (self.config.limits.tombstone_global_limit, self.config.limits.tombstone_customer_limit);
        let (all, mine) = (self.tombstones.len() as u64, self.account(customer).tombstones);
        let mut refused = over(limits.0, all) || over(limits.1, mine);
        if seen.result == Err(Refusal::TombstoneLimitExceeded) {
            // Those that are over may still be there.
            let all_over = self.limbo_tombstones.len() as u64;
            let mine_over = self.limbo_tombstones.iter().filter(|owner| **owner == customer).count() as u64;
            refused |= over(limits.0, all + all_over) || over(limits.1, mine + mine_over);
        }
        refused.then(|| {
            self.met(Rare::TombstoneRefused);
            Refusal::TombstoneLimitExceeded
        })
    }

    /// Deletes a store.
    pub(super) fn bury(&mut self, slot: Slot) {
        if self.stores[slot].lock.is_some() {
            self.met(Rare::DeletedWhileLocked);
        }
        self.vanish(slot, Life::Deleted);
    }

    fn keep_key(&mut self, customer: &'static str, idempotency: &Idempotency<'static>, cost_bytes: u64) {
        self.charge(customer, 0, cost_bytes);
        let kept = Kept { fingerprint: idempotency.fingerprint, answer: None, cost_bytes, is_over: false };
        let before = self.account(customer).kept.insert(idempotency.key, kept);
        assert!(before.is_none(), "a key is kept once");
    }

    /// The first answer under a key is kept, unless it is worth a retry.
    pub(super) fn keep_first_answer(&mut self, pending: &Pending, answer: &Reply) {
        let request = &pending.request;
        let Some(idempotency) = &request.idempotency else { return };
        if let Err(refusal) = &answer.result
            && is_worth_a_retry(refusal)
        {
            return self.forget_key(request.customer, idempotency.key);
        }
        let body_bytes = match &answer.result {
            Ok(Told::Locked { body, .. }) => body.len() as u64,
            Ok(_) | Err(_) => 0,
        };
        let until = self.now + std::time::Duration::from_millis(KEY_KNOWN_MS);
        self.charge(request.customer, 0, body_bytes);
        let kept = self.account(request.customer).kept.get_mut(idempotency.key).expect("it was kept when it came");
        kept.cost_bytes += body_bytes;
        kept.answer = Some((answer.clone(), until));
        self.keys_until.push_back((until, request.customer, idempotency.key));
    }

    pub(super) fn forget_key(&mut self, customer: &'static str, key: &'static str) {
        match self.account(customer).kept.remove(key) {
            Some(kept) if kept.is_over => {
                self.limbo_keys.retain(|limbo| (limbo.customer, limbo.key) != (customer, key));
            }
            Some(kept) => self.charge(customer, kept.cost_bytes, 0),
            None => {}
        }
    }

    /// The time of keys ends.
    pub(super) fn end_keys(&mut self) {
        while let Some((until, customer, key)) = self.keys_until.front().copied()
            && until <= self.now
        {
            self.keys_until.pop_front();
            let Some(kept) = self.account(customer).kept.get_mut(key) else { continue };
            if kept.answer.as_ref().is_some_and(|(_, known_until)| *known_until == until) {
                kept.is_over = true;
                let cost_bytes = kept.cost_bytes;
                self.charge(customer, cost_bytes, 0);
                self.limbo_keys.push(LimboKey { until, customer, key, cost_bytes });
            }
        }
    }

    /// Forgets the keys whose end the node must have noticed.
    pub(super) fn forget_keys(&mut self) {
        for limbo in self.limbo_keys.clone() {
            if self.must_be_noticed(limbo.until) {
                self.met(Rare::IdempotencyForgotten);
                self.forget_key(limbo.customer, limbo.key);
            }
        }
    }

    /// Bytes of what is over, but may still be on the node's books.
    pub(crate) fn limbo_bytes(&self, customer: Option<&'static str>) -> u64 {
        let mine = |other: &'static str| customer.is_none_or(|customer| customer == other);
        let stores = self.limbo.iter().filter(|slot| mine(self.stores[**slot].customer));
        let keys = self.limbo_keys.iter().filter(|limbo| mine(limbo.customer));
        stores.map(|slot| self.cost_bytes(*slot)).sum::<u64>() + keys.map(|limbo| limbo.cost_bytes).sum::<u64>()
    }
}

/// What a store counts on the books: section 8, with the node's published constants.
pub(super) fn cost_bytes(matter: &Matter, name: Option<&str>) -> u64 {
    let content_bytes = match matter {
        Matter::Blob(bytes) => bytes.len() as u64,
        Matter::Counter(Counter { min: None, max: None, .. }) => 8,
        Matter::Counter(_) => 25,
    };
    // A name's bytes are there twice: in the store and in its customer's table.
    STORE_OVERHEAD_BYTES + content_bytes + name.map_or(0, |name| NAME_OVERHEAD_BYTES + 2 * name.len() as u64)
}

/// The column `retry` of section 10, and want of memory: it may end within the minute for which an answer is kept, and keeping
/// the refusal would take memory too.
fn is_worth_a_retry(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::StoreLocked { .. }
        | Refusal::LockStateUnknown { .. }
        | Refusal::RateLimited { .. }
        | Refusal::TombstoneLimitExceeded
        | Refusal::TooManyWaiting
        | Refusal::CapacityExceeded
        | Refusal::CustomerQuotaExceeded
        | Refusal::LeaderChanged
        | Refusal::StoreUnavailable
        | Refusal::NotReplicated { .. }
        | Refusal::IdempotencyInProgress => true,
        Refusal::NotFound
        | Refusal::NotAuthorized
        | Refusal::LockMismatch
        | Refusal::NameExists
        | Refusal::StoreExpired
        | Refusal::VersionMismatch
        | Refusal::IdempotencyMismatch
        | Refusal::AnswerTooLarge
        | Refusal::TypeMismatch { .. }
        | Refusal::ValueOutOfBounds
        | Refusal::InvalidBounds
        | Refusal::BadCounterBody(_)
        | Refusal::Overflow => false,
    }
}

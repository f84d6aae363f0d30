//! The customers: their interned ids, rate, books and names. Nothing here outlives its use: a customer without stores,
//! remains, kept answers and a used rate is forgotten.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::LOOKED_UP_AHEAD_MAX;
use super::arena::{Arena, Index};
use super::store::CUSTOMERS_MAX;
use crate::time::Instant;

const INDEX_TABLES: usize = 256;

/// What is kept of one customer.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) id: Box<str>,
    /// The rate limit as the generic cell rate algorithm (ITU-T I.371): when the bucket will be full again.
    full_at: Instant,
    /// Entries of any state that belong to it.
    pub(super) entries: u64,
    /// Kept idempotency answers, unanswered ones included.
    pub(super) kept_answers: u64,
    pub(super) tombstones: u64,
    /// Stores and kept answers, in bytes.
    pub(super) memory_bytes: u64,
    /// The names, in byte order, and the entries that have them. One map finds, lists and deletes by prefix.
    pub(super) names: BTreeMap<Box<str>, u32>,
    /// A timer will look whether it can be forgotten.
    pub(super) forget_armed: bool,
}

/// The rate of a token bucket.
#[derive(Clone, Copy, Debug)]
struct Rate {
    nanos_per_token: u64,
    burst_nanos: u64,
}

impl Rate {
    /// None if there is no limit.
    fn of(rate_per_second: u32, burst: u32) -> Option<Self> {
        let nanos_per_token = 1_000_000_000 / u64::from(rate_per_second.max(1));
        let rate = Self { nanos_per_token, burst_nanos: nanos_per_token * u64::from(burst.max(1)) };
        (rate_per_second != 0).then_some(rate)
    }
}

fn hash_id(keyed: SipHasher13, id: &str) -> u64 {
    let mut hasher = keyed;
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// All customers.
pub(super) struct Customers {
    arena: Arena<Customer>,
    index: Index,
    /// Ids come from outside, so they are hashed with keys nobody outside knows.
    hasher: SipHasher13,
    rate: Option<Rate>,
    /// Who asked last: requests in a row are often of one customer, who is then found without a hash.
    latest: u32,
}

impl Customers {
    pub(super) fn new(hash_keys: [u64; 2], rate_per_second: u32, burst: u32) -> Self {
        Self {
            arena: Arena::new(),
            index: Index::new(INDEX_TABLES),
            hasher: SipHasher13::new_with_keys(hash_keys[0], hash_keys[1]),
            rate: Rate::of(rate_per_second, burst),
            latest: 0,
        }
    }

    /// Another rate from now on. A bucket that was emptied at the old one is at most empty at the new one.
    pub(super) fn set_rate(&mut self, rate_per_second: u32, burst: u32) {
        self.rate = Rate::of(rate_per_second, burst);
    }

    pub(super) fn find(&self, id: &str) -> Option<u32> {
        if self.is_latest(id) {
            return Some(self.latest);
        }
        self.index.find(hash_id(self.hasher, id), |handle| &*self.arena.get(handle).id == id)
    }

    /// [`Node::look_up_ahead`](super::Node::look_up_ahead), of the customers.
    pub(super) fn look_up_ahead<'c>(&self, ids: impl Iterator<Item = &'c str>) {
        let mut likely = [None; LOOKED_UP_AHEAD_MAX];
        for (id, likely) in ids.filter(|id| !self.is_latest(id)).zip(&mut likely) {
            *likely = self.index.likely(hash_id(self.hasher, id));
        }
        let customers = likely.iter().filter_map(|&handle| self.arena.find(handle?));
        let heads =
            customers.clone().map(|customer| customer.entries ^ customer.memory_bytes ^ customer.id.len() as u64);
        std::hint::black_box(heads.fold(0, |seen, head| seen ^ head));
        std::hint::black_box(
            customers.fold(0, |seen, customer| seen ^ customer.id.as_bytes().first().copied().unwrap_or(0)),
        );
    }

    fn is_latest(&self, id: &str) -> bool {
        self.arena.find(self.latest).is_some_and(|customer| *customer.id == *id)
    }

    /// The customer's handle, made if need be; `None` when there are as many customers as there may be.
    pub(super) fn find_or_make(&mut self, id: &str) -> Option<u32> {
        if !self.is_latest(id) {
            self.latest = self.find_or_make_by_hash(id)?;
        }
        Some(self.latest)
    }

    fn find_or_make_by_hash(&mut self, id: &str) -> Option<u32> {
        let hash = hash_id(self.hasher, id);
        if let Some(handle) = self.index.find(hash, |handle| &*self.arena.get(handle).id == id) {
            return Some(handle);
        }
        if self.arena.len() == CUSTOMERS_MAX {
            return None;
        }
        let customer = Customer {
            id: id.into(),
            full_at: Instant::ZERO,
            entries: 0,
            kept_answers: 0,
            tombstones: 0,
            memory_bytes: 0,
            names: BTreeMap::new(),
            forget_armed: false,
        };
        let handle = self.arena.insert(customer);
        let Self { arena, index, hasher, .. } = self;
        index.insert(hash, handle, |other| hash_id(*hasher, &arena.get(other).id));
        Some(handle)
    }

    /// Forgets all of them, with their rates.
    pub(super) fn forget_all(&mut self) {
        self.arena = Arena::new();
        self.index = Index::new(INDEX_TABLES);
    }

    pub(super) fn get(&self, handle: u32) -> &Customer {
        self.arena.get(handle)
    }

    pub(super) fn get_mut(&mut self, handle: u32) -> &mut Customer {
        self.arena.get_mut(handle)
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    /// Every customer; for checks only.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Customer)> {
        self.arena.iter()
    }

    /// Milliseconds until the customer may ask again; `None` if it may ask now.
    pub(super) fn rate_wait_ms(&self, handle: u32, now: Instant) -> Option<u64> {
        let rate = self.rate?;
        let used = self.arena.get(handle).full_at.since(now).as_nanos().min(u128::from(rate.burst_nanos));
        let over = (used + u128::from(rate.nanos_per_token)).checked_sub(u128::from(rate.burst_nanos))?;
        (over > 0).then(|| u64::try_from(over.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// Takes one token. To be asked for with `rate_wait_ms` before.
    pub(super) fn take_token(&mut self, handle: u32, now: Instant) {
        if let Some(rate) = self.rate {
            let customer = self.arena.get_mut(handle);
            let full_at = customer.full_at.max(now) + Duration::from_nanos(rate.nanos_per_token);
            customer.full_at = full_at.min(now + Duration::from_nanos(rate.burst_nanos));
        }
    }

    /// Forgets a customer of whom nothing is left. Otherwise says when to look again, if only its rate is in the way.
    pub(super) fn forget_if_unused(&mut self, handle: u32, now: Instant) -> Option<Instant> {
        let customer = self.arena.get(handle);
        if customer.entries != 0 || customer.kept_answers != 0 {
            return None;
        }
        if customer.full_at > now {
            return (!customer.forget_armed).then_some(customer.full_at);
        }
        if customer.forget_armed {
            return None;
        }
        assert!(customer.memory_bytes == 0 && customer.tombstones == 0 && customer.names.is_empty(), "books-exact");
        let Self { arena, index, hasher, .. } = self;
        let hash = hash_id(*hasher, &arena.get(handle).id);
        index.remove(hash, handle, |other| hash_id(*hasher, &arena.get(other).id));
        arena.remove(handle);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn the_bucket_gives_its_burst_and_then_its_rate() {
        let mut customers = Customers::new([1, 2], 100, 3);
        let shop = customers.find_or_make("shop").expect("there is room");
        for _ in 0..3 {
            assert_eq!(customers.rate_wait_ms(shop, at(1000)), None);
            customers.take_token(shop, at(1000));
        }
        assert_eq!(customers.rate_wait_ms(shop, at(1000)), Some(10));
        assert_eq!(customers.rate_wait_ms(shop, at(1009)), Some(1));
        assert_eq!(customers.rate_wait_ms(shop, at(1010)), None);
        assert_eq!(customers.rate_wait_ms(shop, at(999_999)), None, "a bucket is never fuller than full");
    }

    #[test]
    fn who_has_used_up_a_slow_rate_need_not_wait_for_it_at_a_fast_one() {
        let mut customers = Customers::new([1, 2], 1, 100);
        let shop = customers.find_or_make("shop").expect("there is room");
        for _ in 0..100 {
            customers.take_token(shop, at(1000));
        }
        assert_eq!(customers.rate_wait_ms(shop, at(1000)), Some(1000));
        customers.set_rate(100, 10);
        assert_eq!(customers.rate_wait_ms(shop, at(1000)), Some(10));
        customers.set_rate(0, 10);
        assert_eq!(customers.rate_wait_ms(shop, at(1000)), None);
        customers.set_rate(100, 10);
        customers.take_token(shop, at(1010));
        assert_eq!(customers.rate_wait_ms(shop, at(1110)), None, "full after as long as it takes at this rate");
    }

    #[test]
    fn a_customer_is_forgotten_when_only_a_full_bucket_is_left() {
        let mut customers = Customers::new([1, 2], 100, 3);
        let shop = customers.find_or_make("shop").expect("there is room");
        customers.take_token(shop, at(1000));
        assert_eq!(customers.forget_if_unused(shop, at(1000)), Some(at(1010)));
        assert_eq!(customers.len(), 1);
        assert_eq!(customers.forget_if_unused(shop, at(1010)), None);
        assert_eq!((customers.len(), customers.find("shop")), (0, None));
    }
}

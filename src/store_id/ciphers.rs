//! The keys of customers: derived once and kept, in two bounded caches. Owns what is kept of a customer and for how long; how a key
//! is derived is the ring's business.
//!
//! A cipher that is ready for use takes 1.5 KB, as AES keeps room for the keys of every way to compute it; what it is made from takes
//! 130 bytes. So few customers have their ciphers ready, and many their keys: with a hundred thousand customers who ask in turn, a
//! request expands two AES keys (0.2 µs) instead of deriving them (some microseconds). A table that grows visits all of its entries,
//! so the many are spread over small ones.

use std::hash::{BuildHasher, Hasher, RandomState};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::siv::{Siv, SivKeys};

/// Ciphers ready for use at most: 3 MB.
pub(super) const READY_CIPHERS_MAX: usize = 2048;
/// Keys kept at most, 17 MB, in so many tables.
pub(super) const KEYS_MAX: usize = 1 << 17;
const KEYS_TABLES: usize = 256;
const KEYS_PER_TABLE_MAX: usize = KEYS_MAX / KEYS_TABLES;

/// One customer under one master key.
#[derive(Clone, Copy)]
pub(super) struct Owner<'c> {
    /// The index of the master key.
    pub(super) key: usize,
    /// The customer.
    pub(super) customer: &'c str,
}

/// What was derived lately.
pub(super) struct Ciphers {
    /// Customers are chosen by clients, so they are hashed with a random key; it shows in nothing but time.
    hasher: SipHasher13,
    ready: Cache<Siv>,
    /// Which of the ready ones was used last: requests in a row are often of one customer, who is then found without a hash.
    latest: usize,
    keys: Vec<Cache<SivKeys>>,
}

impl Default for Ciphers {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            hasher: SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)),
            ready: Cache::new(READY_CIPHERS_MAX),
            latest: 0,
            keys: (0..KEYS_TABLES).map(|_| Cache::new(KEYS_PER_TABLE_MAX)).collect(),
        }
    }
}

impl Ciphers {
    /// The cipher of an owner, derived by `derive` if nothing of it is kept.
    pub(super) fn get(&mut self, owner: Owner<'_>, derive: impl FnOnce() -> SivKeys) -> &Siv {
        if !self.ready.is_of(self.latest, owner) {
            self.latest = self.find_or_derive(owner, derive);
        }
        self.ready.value(self.latest)
    }

    fn find_or_derive(&mut self, owner: Owner<'_>, derive: impl FnOnce() -> SivKeys) -> usize {
        let hash = self.hash(owner);
        match self.ready.find(hash, owner) {
            Some(index) => index,
            None => {
                // The hash tables use the highest 7 bits and the lowest.
                let table = &mut self.keys[(hash >> 48) as usize % KEYS_TABLES];
                let kept = table.find(hash, owner);
                let kept = kept.unwrap_or_else(|| table.insert(hash, owner, derive()));
                self.ready.insert(hash, owner, Siv::new(table.value(kept)))
            }
        }
    }

    fn hash(&self, owner: Owner<'_>) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(owner.customer.as_bytes());
        hasher.write_usize(owner.key);
        hasher.finish()
    }
}

/// At most so many values by owner; a new one takes the place of the oldest.
struct Cache<T> {
    most: usize,
    entries: Vec<Entry<T>>,
    /// Indices of `entries`.
    table: HashTable<u32>,
    /// Once the cache is full, the entry that goes next.
    oldest: usize,
}

struct Entry<T> {
    hash: u64,
    key: usize,
    customer: Box<str>,
    value: T,
}

impl<T> Cache<T> {
    const fn new(most: usize) -> Self {
        Self { most, entries: Vec::new(), table: HashTable::new(), oldest: 0 }
    }

    fn value(&self, index: usize) -> &T {
        &self.entries[index].value
    }

    fn is_of(&self, index: usize, owner: Owner<'_>) -> bool {
        self.entries.get(index).is_some_and(|entry| entry.key == owner.key && *entry.customer == *owner.customer)
    }

    fn find(&self, hash: u64, owner: Owner<'_>) -> Option<usize> {
        let found = self
            .table
            .find(hash, |&index| self.entries[index as usize].hash == hash && self.is_of(index as usize, owner));
        found.map(|&index| index as usize)
    }

    fn insert(&mut self, hash: u64, owner: Owner<'_>, value: T) -> usize {
        let entry = Entry { hash, key: owner.key, customer: owner.customer.into(), value };
        let index = if self.entries.len() < self.most {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let index = self.oldest;
            self.oldest = (index + 1) % self.most;
            if let Ok(found) = self.table.find_entry(self.entries[index].hash, |&other| other as usize == index) {
                found.remove();
            }
            self.entries[index] = entry;
            index
        };
        let Self { entries, table, .. } = self;
        table.insert_unique(hash, index as u32, |&other| entries[other as usize].hash);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(number: usize) -> SivKeys {
        SivKeys::new(&[number as u8; super::super::siv::KEY_BYTES], &number.to_le_bytes())
    }

    fn owner(customer: &str) -> Owner<'_> {
        Owner { key: 0, customer }
    }

    #[test]
    fn what_is_kept_is_not_derived_again_and_no_more_is_kept_than_there_may_be() {
        let mut ciphers = Ciphers::default();
        let customers: Vec<String> = (0..READY_CIPHERS_MAX * 3).map(|number| format!("customer-{number}")).collect();
        for round in 0..2 {
            for (number, customer) in customers.iter().enumerate() {
                let mut is_derived = false;
                let tag = |siv: &Siv| siv.encrypt(&mut [7; super::super::siv::MESSAGE_BYTES]);
                let found = tag(ciphers.get(owner(customer), || {
                    is_derived = true;
                    keys_of(number)
                }));
                assert_eq!(found, tag(&Siv::new(&keys_of(number))), "{customer}");
                assert_eq!(is_derived, round == 0, "{customer}");
            }
            assert_eq!(
                (ciphers.ready.entries.len(), ciphers.ready.table.len()),
                (READY_CIPHERS_MAX, READY_CIPHERS_MAX)
            );
        }
    }

    #[test]
    fn a_full_cache_forgets_the_oldest() {
        let mut cache = Cache::new(4);
        for number in 0..10_usize {
            // All have the same hash, so that only their owners tell them apart.
            cache.insert(5, Owner { key: number, customer: "c" }, number);
            for other in 0..10 {
                let found = cache.find(5, Owner { key: other, customer: "c" }).map(|index| *cache.value(index));
                assert_eq!(found, (other <= number && other + 4 > number).then_some(other));
            }
            assert_eq!(cache.find(5, Owner { key: number, customer: "d" }), None);
        }
        assert_eq!((cache.entries.len(), cache.table.len()), (4, 4));
    }
}

//! The keys of customers: derived once and kept, in two bounded caches. Owns what is kept of a customer and for how long; how a key
//! is derived is the ring's business.
//!
//! A cipher that is ready for use takes 1.5 KB, as AES keeps room for the keys of every way to compute it; what it is made from takes
//! 130 bytes. So few customers have their ciphers ready, and many their keys. Among a hundred thousand customers who ask in turn, each
//! would push another one's cipher out, only to be pushed out itself before it asks again: so only who asks twice before another one
//! comes to the same place is made ready, and for all others a request expands two AES keys (0.1 µs). A table that grows visits all of its
//! entries, so the many are spread over small ones.

use std::hash::{BuildHasher, Hasher, RandomState};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::siv::{Siv, SivKeys};
use crate::node::LOOKED_UP_AHEAD_MAX;

/// Ciphers ready for use at most: 1.5 MB, and 32 KB for their places.
pub(super) const READY_CIPHERS_MAX: usize = 1024;
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
    /// [`READY_CIPHERS_MAX`] of them.
    places: Box<[Place]>,
    /// The place that was used last: requests in a row are often of one customer, who is then found without a hash.
    latest: usize,
    /// That of the last one who has none ready.
    lent: Option<Siv>,
    keys: Vec<Cache<SivKeys>>,
}

/// Where the cipher of a customer is ready, of all those whose hashes lead here.
#[derive(Default)]
struct Place {
    ready: Option<Box<Ready>>,
    /// The hash of who asked last without having one ready.
    asked_by: u64,
}

struct Ready {
    key: usize,
    customer: Box<str>,
    cipher: Siv,
}

impl Place {
    fn of(&self, owner: Owner<'_>) -> Option<&Siv> {
        let ready = self.ready.as_ref()?;
        (ready.key == owner.key && *ready.customer == *owner.customer).then_some(&ready.cipher)
    }
}

impl Default for Ciphers {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            hasher: SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)),
            places: (0..READY_CIPHERS_MAX).map(|_| Place::default()).collect(),
            latest: 0,
            lent: None,
            keys: (0..KEYS_TABLES).map(|_| Cache::new(KEYS_PER_TABLE_MAX)).collect(),
        }
    }
}

impl Ciphers {
    /// The cipher of an owner, derived by `derive` if nothing of it is kept.
    pub(super) fn get(&mut self, owner: Owner<'_>, derive: impl FnOnce() -> SivKeys) -> &Siv {
        if self.places[self.latest].of(owner).is_none() {
            let hash = self.hash(owner);
            let at = hash as usize % READY_CIPHERS_MAX;
            if self.places[at].of(owner).is_none() {
                let cipher = Siv::new(self.find_or_derive(hash, owner, derive));
                let place = &mut self.places[at];
                if place.asked_by != hash {
                    place.asked_by = hash;
                    return self.lent.insert(cipher);
                }
                place.ready = Some(Box::new(Ready { key: owner.key, customer: owner.customer.into(), cipher }));
            }
            self.latest = at;
        }
        self.places[self.latest].of(owner).expect("it was there, or was put there")
    }

    /// Looks for the keys of those who have no cipher ready, step by step, each for all of them.
    pub(super) fn look_up_ahead<'c>(&self, owners: impl Iterator<Item = Owner<'c>>) {
        let mut likely = [(0, 0); LOOKED_UP_AHEAD_MAX];
        let mut count = 0;
        let unready = owners.filter(|&owner| self.places[self.latest].of(owner).is_none()).filter_map(|owner| {
            let hash = self.hash(owner);
            Some((table_of(hash), self.keys[table_of(hash)].likely(hash)?))
        });
        for (found, likely) in unready.zip(&mut likely) {
            *likely = found;
            count += 1;
        }
        let entries = likely[..count].iter().map(|&(table, index)| &self.keys[table].entries[index]);
        let heads = entries.clone().map(|entry| entry.value.look_at() ^ entry.customer.len() as u8);
        std::hint::black_box(heads.fold(0, |seen, read| seen ^ read));
        let customers = entries.map(|entry| entry.customer.as_bytes().first().copied().unwrap_or(0));
        std::hint::black_box(customers.fold(0, |seen, read| seen ^ read));
    }

    fn find_or_derive(&mut self, hash: u64, owner: Owner<'_>, derive: impl FnOnce() -> SivKeys) -> &SivKeys {
        let table = &mut self.keys[table_of(hash)];
        let kept = table.find(hash, owner);
        let kept = kept.unwrap_or_else(|| table.insert(hash, owner, derive()));
        table.value(kept)
    }

    fn hash(&self, owner: Owner<'_>) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(owner.customer.as_bytes());
        hasher.write_usize(owner.key);
        hasher.finish()
    }
}

/// The table of the keys: the hash tables use the highest 7 bits and the lowest, and the places the lowest.
const fn table_of(hash: u64) -> usize {
    (hash >> 48) as usize % KEYS_TABLES
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

    /// Where [`Self::find`] looks first; nothing of the entry itself is read.
    fn likely(&self, hash: u64) -> Option<usize> {
        self.table.iter_hash(hash).next().map(|&index| index as usize)
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

    fn tag(siv: &Siv) -> [u8; super::super::siv::TAG_BYTES] {
        siv.encrypt(&mut [7; super::super::siv::MESSAGE_BYTES])
    }

    fn count_ready(ciphers: &Ciphers) -> usize {
        ciphers.places.iter().filter(|place| place.ready.is_some()).count()
    }

    #[test]
    fn what_is_kept_is_not_derived_again_and_who_asks_once_in_a_while_takes_nobodys_place() {
        let mut ciphers = Ciphers::default();
        let customers: Vec<String> = (0..READY_CIPHERS_MAX * 20).map(|number| format!("customer-{number}")).collect();
        for round in 0..2 {
            for (number, customer) in customers.iter().enumerate() {
                let mut is_derived = false;
                let found = tag(ciphers.get(owner(customer), || {
                    is_derived = true;
                    keys_of(number)
                }));
                assert_eq!(found, tag(&Siv::new(&keys_of(number))), "{customer}");
                assert_eq!(is_derived, round == 0, "{customer}");
            }
        }
        assert_eq!(count_ready(&ciphers), 0);
    }

    #[test]
    fn who_asks_again_has_its_cipher_ready_until_another_one_does() {
        let mut ciphers = Ciphers::default();
        let customers: Vec<String> = (0..READY_CIPHERS_MAX * 20).map(|number| format!("customer-{number}")).collect();
        for (number, customer) in customers.iter().enumerate() {
            for round in 0..3 {
                let found = tag(ciphers.get(owner(customer), || keys_of(number)));
                assert_eq!(found, tag(&Siv::new(&keys_of(number))), "{customer}");
                let is_ready = ciphers.places[ciphers.latest].of(owner(customer)).is_some();
                assert_eq!(is_ready, round > 0, "{customer}");
            }
        }
        assert_eq!(count_ready(&ciphers), READY_CIPHERS_MAX);
        let other_key = Owner { key: 1, ..owner(&customers[0]) };
        assert_eq!(tag(ciphers.get(other_key, || keys_of(9))), tag(&Siv::new(&keys_of(9))), "another master key");
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

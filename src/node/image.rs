//! A node seen whole, for tests and the simulator: every entry that two nodes must have alike, and the books added up anew.

use super::arena::OwnMap;
use super::request::{Counter, Etag, LockId, StoreKey};
use super::store::State;
use super::{Node, NodeStatus, Role};

/// An entry as [`Node::image`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of a store")]
pub struct EntryImage<'n> {
    pub key: StoreKey,
    pub customer: &'n str,
    pub name: Option<&'n str>,
    pub blob: Option<&'n [u8]>,
    pub counter: Option<Counter>,
    /// Of remains: deleted, not expired.
    pub is_tombstone: bool,
    pub etag: Option<Etag>,
    /// By the node's own monotonic clock, in milliseconds: the store's expiry, or when the remains are forgotten.
    pub ends_ms: u64,
    pub lock: Option<LockId>,
}

/// What [`Node::check_invariants`] counts.
#[derive(Default)]
struct Books {
    memory_bytes: u64,
    stores: u64,
    entries: u64,
    tombstones: u64,
    kept_answers: u64,
}

impl Node {
    /// Everything a follower must have too, in no order: for tests that compare two nodes.
    pub fn entries(&self) -> impl Iterator<Item = EntryImage<'_>> {
        self.stores.arena.iter().map(|(slot, entry)| EntryImage {
            key: entry.key,
            customer: &self.customers.get(entry.customer()).id,
            name: entry.name(),
            blob: (entry.state() == State::Blob).then(|| entry.blob()),
            counter: (entry.state() == State::Counter).then(|| entry.counter()),
            is_tombstone: entry.state() == State::Tombstone,
            etag: entry.is_store().then(|| entry.etag()),
            ends_ms: entry.expires_ms(),
            lock: match self.peering.as_ref().and_then(|peering| peering.followed_locks.get(&slot)) {
                Some(lock) => Some(lock.id),
                None if entry.has_lock_line() => self.locks.holder(slot).map(|holder| holder.id),
                None => None,
            },
        })
    }

    /// The same in the order of keys.
    #[must_use]
    pub fn image(&self) -> Vec<EntryImage<'_>> {
        let mut image: Vec<EntryImage<'_>> = self.entries().collect();
        image.sort_unstable_by_key(|entry| entry.key);
        image
    }

    /// Asserts what must always hold between two inputs (section 6 of the replication specification). Visits everything: for
    /// the simulator.
    pub fn check_invariants(&self) {
        let mut books = Books::default();
        let mut of_customers: OwnMap<u32, Books> = OwnMap::default();
        for (slot, entry) in self.stores.arena.iter() {
            assert_eq!(self.stores.find(&entry.key), Some(slot), "every entry is found by its key");
            assert!(self.stores.wheel.is_armed(&self.stores.arena, slot) || entry.has_lock_line(), "every entry ends");
            if let Some(name) = entry.name() {
                assert_eq!(self.customers.get(entry.customer()).names.get(name), Some(&slot), "name-unique");
            }
            assert_eq!(entry.has_lock_line(), self.locks.holder(slot).is_some(), "one-lock-holder");
            let followed = self.peering.as_ref().is_some_and(|peering| peering.followed_locks.contains_key(&slot));
            assert!(!followed || self.role() != Role::Primary, "a primary has no locks of another");
            for books in [&mut books, of_customers.entry(entry.customer()).or_default()] {
                books.memory_bytes += if entry.is_store() { entry.cost_bytes() } else { 0 };
                books.stores += u64::from(entry.is_store());
                books.entries += 1;
                books.tombstones += u64::from(entry.state() == State::Tombstone);
            }
        }
        for (customer, cost_bytes) in self.kept.costs() {
            for books in [&mut books, of_customers.entry(customer).or_default()] {
                books.memory_bytes += cost_bytes;
                books.kept_answers += 1;
            }
        }
        let NodeStatus { memory_bytes, stores, tombstones, .. } = self.status;
        assert_eq!((books.memory_bytes, books.stores), (memory_bytes, stores), "books-exact");
        assert_eq!(books.tombstones, tombstones, "books-exact");
        let names: usize = self.customers.iter().map(|(_, customer)| customer.names.len()).sum();
        assert_eq!(names as u64, self.status.names, "books-exact");
        for (handle, customer) in self.customers.iter() {
            let books = of_customers.remove(&handle).unwrap_or_default();
            assert_eq!(books.memory_bytes, customer.memory_bytes, "books-exact");
            assert_eq!(books.entries, customer.entries, "books-exact");
            assert_eq!(books.kept_answers, customer.kept_answers, "books-exact");
            assert_eq!(books.tombstones, customer.tombstones, "books-exact");
            for (name, &slot) in &customer.names {
                assert_eq!(self.stores.arena.get(slot).name(), Some(&**name), "name-unique");
            }
        }
        assert!(of_customers.is_empty(), "every entry has a customer");
        self.locks.check();
        assert!(self.lines_to_serve.is_empty() && self.orphans.is_empty(), "every line has been served");
    }
}

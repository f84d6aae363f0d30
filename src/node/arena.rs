//! Where things live ([`Arena`]) and how they are found ([`Index`]), both without ever pausing to grow.
//!
//! A `Vec` of a million stores that doubles copies them all, and a hash table that doubles visits them all: tens of
//! milliseconds in which nobody is served. So things live in chunks that never move, and are found through many small hash
//! tables that hold only 4-byte handles and grow one at a time. A handle costs 5 bytes a bucket, whatever the thing's size.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashTable;

/// Things in one chunk. A chunk of stores is 64 KiB.
const CHUNK_THINGS: usize = 1024;
/// A table this small is not worth shrinking.
const SHRINK_ABOVE_CAPACITY: usize = 64;

/// Things that never move, each under a 4-byte handle that is used again after the thing is removed.
#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(super) fn insert(&mut self, thing: T) -> u32 {
        self.len += 1;
        if let Some(handle) = self.free.pop() {
            self.chunks[handle as usize / CHUNK_THINGS][handle as usize % CHUNK_THINGS] = Some(thing);
            return handle;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_THINGS) {
            self.chunks.push(Vec::with_capacity(CHUNK_THINGS));
        }
        let before = (self.chunks.len() - 1) * CHUNK_THINGS;
        let chunk = &mut self.chunks[before / CHUNK_THINGS];
        chunk.push(Some(thing));
        u32::try_from(before + chunk.len() - 1).expect("memory ends long before 2^32 things")
    }

    pub(super) fn remove(&mut self, handle: u32) -> T {
        let thing = self.chunks[handle as usize / CHUNK_THINGS][handle as usize % CHUNK_THINGS].take();
        self.free.push(handle);
        self.len -= 1;
        thing.expect("a handle is removed once")
    }

    pub(super) fn get(&self, handle: u32) -> &T {
        self.find(handle).expect("a handle in use names a thing")
    }

    pub(super) fn get_mut(&mut self, handle: u32) -> &mut T {
        self.chunks[handle as usize / CHUNK_THINGS][handle as usize % CHUNK_THINGS]
            .as_mut()
            .expect("a handle in use names a thing")
    }

    /// The thing, or nothing if it was removed.
    pub(super) fn find(&self, handle: u32) -> Option<&T> {
        self.chunks.get(handle as usize / CHUNK_THINGS)?.get(handle as usize % CHUNK_THINGS)?.as_ref()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Handles below this one may be in use.
    pub(super) fn handles_end(&self) -> u32 {
        let in_last = self.chunks.last().map_or(0, Vec::len);
        u32::try_from(self.chunks.len().saturating_sub(1) * CHUNK_THINGS + in_last).unwrap_or(u32::MAX)
    }

    /// The chunks, to be dropped one at a time.
    pub(super) fn into_chunks(self) -> Vec<Vec<Option<T>>> {
        self.chunks
    }

    /// Every thing, in the order of handles; for checks only.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let things = self.chunks.iter().flatten().enumerate();
        things.filter_map(|(handle, thing)| Some((u32::try_from(handle).ok()?, thing.as_ref()?)))
    }
}

/// Hashes numbers that are ours: nobody outside can choose them, so spreading their bits is enough.
#[derive(Clone, Copy, Default)]
pub(super) struct OwnNumbers(u64);

impl Hasher for OwnNumbers {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        #[allow(clippy::cast_possible_truncation, reason = "the two halves are folded into one")]
        let folded = product as u64 ^ (product >> 64) as u64;
        self.0 = folded;
    }
}

/// A map whose keys are numbers of ours. Its order never reaches an output.
pub(super) type OwnMap<K, V> = HashMap<K, V, BuildHasherDefault<OwnNumbers>>;

/// The hash of a handle, for an [`Index`].
pub(super) fn hash_of_number(number: u32) -> u64 {
    let mut hasher = OwnNumbers::default();
    hasher.write_u32(number);
    hasher.finish()
}

/// Handles by hash, in many small tables.
#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[HashTable<u32>]>,
}

impl Index {
    /// `tables` is a power of two of at most 65,536.
    pub(super) fn new(tables: usize) -> Self {
        assert!(tables.is_power_of_two() && tables <= 1 << 16, "the table's number is 16 bits of the hash");
        Self { tables: (0..tables).map(|_| HashTable::new()).collect() }
    }

    /// hashbrown places by the lowest bits and tells apart by the highest seven; the table is chosen by bits between them.
    fn table_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.tables.len() - 1)
    }

    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables[self.table_of(hash)].find(hash, |&handle| is_it(handle)).copied()
    }

    /// What [`Self::find`] looks at first, nearly always the thing that it finds: nothing of the thing itself is read.
    pub(super) fn likely(&self, hash: u64) -> Option<u32> {
        self.tables[self.table_of(hash)].iter_hash(hash).next().copied()
    }

    /// The handle must not be there yet. `hash_of` is asked for the others' hashes when the small table grows.
    pub(super) fn insert(&mut self, hash: u64, handle: u32, hash_of: impl Fn(u32) -> u64) {
        let table = self.table_of(hash);
        self.tables[table].insert_unique(hash, handle, |&other| hash_of(other));
    }

    pub(super) fn remove(&mut self, hash: u64, handle: u32, hash_of: impl Fn(u32) -> u64) {
        let table = self.table_of(hash);
        let table = &mut self.tables[table];
        let entry = table.find_entry(hash, |&other| other == handle).ok();
        entry.expect("what is removed was inserted").remove();
        if table.capacity() > SHRINK_ABOVE_CAPACITY && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, |&other| hash_of(other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_stay_while_others_come_and_go() {
        let mut arena = Arena::new();
        let handles: Vec<u32> = (0..5000_u64).map(|number| arena.insert(number)).collect();
        for &handle in handles.iter().step_by(2) {
            arena.remove(handle);
        }
        assert_eq!(arena.len(), 2500);
        for &handle in handles.iter().skip(1).step_by(2) {
            assert_eq!(*arena.get(handle), u64::from(handle));
        }
        let reused = arena.insert(7);
        assert!(reused < 5000, "a freed handle is used again");
        assert_eq!(arena.iter().count(), 2501);
    }

    #[test]
    fn an_index_finds_what_was_inserted_and_shrinks() {
        let hash_of = |handle: u32| u64::from(handle).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut index = Index::new(4);
        for handle in 0..10_000 {
            index.insert(hash_of(handle), handle, hash_of);
        }
        for handle in 0..10_000 {
            assert_eq!(index.find(hash_of(handle), |other| other == handle), Some(handle));
        }
        let likely = (0..10_000).filter(|&handle| index.likely(hash_of(handle)) == Some(handle)).count();
        assert!(likely > 9000, "{likely}");
        let capacity: usize = index.tables.iter().map(HashTable::capacity).sum();
        for handle in 10..10_000 {
            index.remove(hash_of(handle), handle, hash_of);
        }
        assert!(index.tables.iter().map(HashTable::capacity).sum::<usize>() < capacity / 4);
        assert_eq!(index.find(hash_of(10), |other| other == 10), None);
        assert_eq!(index.find(hash_of(3), |other| other == 3), Some(3));
    }
}

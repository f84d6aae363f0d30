//! One store as it lies in memory: 64 bytes, one cache line, and one allocation for what is in it.
//!
//! ```text
//! key 20 | expiry 6 | version 6 | payload 16 | timer links 8 | epoch 4 | customer 3 | flags 1
//! ```
//!
//! The payload points to the content, and behind it, for a named store, the name and one byte with the name's length less one: so a
//! store knows its name without a table. A counter's content is its value, or value and bounds; a mere value stands in the payload itself.
//! Locks live in `locks`.
//! A store that was deleted or has expired keeps its place for a while, as the memory that its id is used up.

use std::num::NonZeroU8;

use super::request::{Content, Counter, Etag, StoreKey};
use crate::wheel::Link;

/// What a store costs beside content and name: the entry, its place in the index (at most 11.5 bytes), the allocator's header
/// and rounding (at most 24).
pub const STORE_OVERHEAD_BYTES: u64 = 112;
/// What a name costs beside its bytes, which are there twice: an entry of the customer's ordered map, and the allocation's header.
pub const NAME_OVERHEAD_BYTES: u64 = 80;

/// The greatest number of customers: the entry holds 24 bits of them.
pub(super) const CUSTOMERS_MAX: usize = 1 << 24;

const COUNTER_BYTES: usize = 8;
const BOUNDED_COUNTER_BYTES: usize = 25;
const HAS_MIN: u8 = 1;
const HAS_MAX: u8 = 2;

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A blob.
    Blob,
    /// A counter.
    Counter,
    /// Its time is over: the id answers `410` until the entry's new expiry.
    Expired,
    /// Deleted: the id answers `404`, and nothing late may bring it back until the entry's new expiry.
    Tombstone,
}

/// 48 bits: milliseconds for 8,900 years, or versions for as long at a thousand changes a millisecond.
#[derive(Clone, Copy, PartialEq, Eq)]
struct U48([u16; 3]);

impl U48 {
    const MAX: u64 = (1 << 48) - 1;

    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out of its 16 bits")]
    const fn new(number: u64) -> Self {
        Self([number as u16, (number >> 16) as u16, (number >> 32) as u16])
    }

    const fn get(self) -> u64 {
        self.0[0] as u64 | (self.0[1] as u64) << 16 | (self.0[2] as u64) << 32
    }
}

/// Content and name. A counter that has neither bounds nor a name needs no memory beside its entry, and a step of it no wait for that.
enum Payload {
    Bytes(Box<[u8]>),
    Number(i64),
}

/// A store, or what is left of one. Aligned, or it would lie across two cache lines, and nearly every request would wait for both.
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) key: StoreKey,
    expires_ms: U48,
    version: U48,
    payload: Payload,
    pub(super) link: Link,
    epoch: u32,
    customer: [u8; 3],
    flags: Flags,
}

const _: () = assert!(size_of::<Option<Entry>>() == 64);

/// State, and whether there is a name and a lock, in one byte. Its lowest bit is always set, so that an `Option<Entry>` is no larger than
/// an entry.
#[derive(Clone, Copy)]
struct Flags(NonZeroU8);

impl Flags {
    const NONE: Self = Self(NonZeroU8::MIN);
    const STATE: u8 = 0b0_0110;
    const NAMED: u8 = 0b0_1000;
    const LOCKED: u8 = 0b1_0000;

    const fn of(self, mask: u8) -> u8 {
        self.0.get() & mask
    }

    /// Makes the bits of `mask` those of `bits`.
    fn set(&mut self, mask: u8, bits: u8) {
        self.0 = NonZeroU8::MIN | (self.0.get() & !mask) | bits;
    }
}

impl Entry {
    pub(super) fn new(key: StoreKey, customer: u32, etag: Etag, expires_ms: u64) -> Self {
        let [high, a, b, c] = customer.to_be_bytes();
        assert!(high == 0, "customers are capped at 24 bits");
        let mut entry = Self {
            key,
            expires_ms: U48::new(0),
            version: U48::new(0),
            payload: Payload::Bytes(Box::default()),
            link: Link::default(),
            epoch: 0,
            customer: [a, b, c],
            flags: Flags::NONE,
        };
        entry.set_etag(etag);
        entry.set_expires_ms(expires_ms);
        entry
    }

    pub(super) fn customer(&self) -> u32 {
        u32::from_be_bytes([0, self.customer[0], self.customer[1], self.customer[2]])
    }

    pub(super) fn state(&self) -> State {
        match self.flags.of(Flags::STATE) {
            0b000 => State::Blob,
            0b010 => State::Counter,
            0b100 => State::Expired,
            _ => State::Tombstone,
        }
    }

    fn set_state(&mut self, state: State) {
        let bits = match state {
            State::Blob => 0b000,
            State::Counter => 0b010,
            State::Expired => 0b100,
            State::Tombstone => 0b110,
        };
        self.flags.set(Flags::STATE, bits);
    }

    /// It holds content: it neither was deleted nor has been collected.
    pub(super) fn is_store(&self) -> bool {
        matches!(self.state(), State::Blob | State::Counter)
    }

    pub(super) const fn has_lock_line(&self) -> bool {
        self.flags.of(Flags::LOCKED) != 0
    }

    pub(super) fn set_has_lock_line(&mut self, yes: bool) {
        self.flags.set(Flags::LOCKED, if yes { Flags::LOCKED } else { 0 });
    }

    pub(super) const fn expires_ms(&self) -> u64 {
        self.expires_ms.get()
    }

    /// A time beyond 48 bits (8,900 years) becomes the last one.
    pub(super) fn set_expires_ms(&mut self, expires_ms: u64) {
        self.expires_ms = U48::new(expires_ms.min(U48::MAX));
    }

    pub(super) const fn etag(&self) -> Etag {
        Etag { epoch: self.epoch, version: self.version.get() }
    }

    pub(super) fn set_etag(&mut self, etag: Etag) {
        assert!(etag.version <= U48::MAX, "a version never falls, so it may not wrap");
        self.epoch = etag.epoch;
        self.version = U48::new(etag.version);
    }

    const fn is_named(&self) -> bool {
        self.flags.of(Flags::NAMED) != 0
    }

    /// The content, unless it is a mere number, and the name with its length behind it.
    fn split(&self) -> (&[u8], &[u8]) {
        let Payload::Bytes(bytes) = &self.payload else { return (&[], &[]) };
        if !self.is_named() {
            return (bytes, &[]);
        }
        let len_less_one = *bytes.last().expect("a named store's payload ends with its name");
        bytes.split_at(bytes.len() - usize::from(len_less_one) - 2)
    }

    fn content_len(&self) -> usize {
        match &self.payload {
            Payload::Bytes(_) => self.split().0.len(),
            Payload::Number(_) => COUNTER_BYTES,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        let (_, name) = self.split().1.split_last()?;
        Some(std::str::from_utf8(name).expect("names came in as str"))
    }

    /// The bytes of a blob. Only of a blob.
    pub(super) fn blob(&self) -> &[u8] {
        self.split().0
    }

    /// The counter. Only of a counter.
    pub(super) fn counter(&self) -> Counter {
        if let Payload::Number(value) = self.payload {
            return Counter { value, min: None, max: None };
        }
        let payload = self.split().0;
        let number =
            |at: usize| i64::from_le_bytes(payload[at..at + 8].try_into().expect("a counter's numbers are 8 bytes"));
        let has = payload.get(COUNTER_BYTES).copied().unwrap_or(0);
        let bound = |bit: u8, at: usize| (has & bit != 0).then(|| number(at));
        Counter { value: number(0), min: bound(HAS_MIN, 9), max: bound(HAS_MAX, 17) }
    }

    /// Reads a byte of each cache line of the content, up to a bound, so that it is in the cache.
    pub(super) fn look_at_content(&self) -> u8 {
        const CACHE_LINE_BYTES: usize = 64;
        const LINES_MAX: usize = 64;
        let Payload::Bytes(bytes) = &self.payload else { return 0 };
        bytes.iter().step_by(CACHE_LINE_BYTES).take(LINES_MAX).fold(0, |seen, &byte| seen ^ byte)
    }

    /// Only of a counter.
    pub(super) fn set_counter_value(&mut self, value: i64) {
        match &mut self.payload {
            Payload::Bytes(bytes) => bytes[..COUNTER_BYTES].copy_from_slice(&value.to_le_bytes()),
            Payload::Number(number) => *number = value,
        }
    }

    pub(super) fn content(&self) -> Content<'_> {
        match self.state() {
            State::Blob => Content::Blob(self.blob()),
            State::Counter => Content::Counter(self.counter()),
            State::Expired | State::Tombstone => unreachable!("what is left of a store has no content"),
        }
    }

    /// Replaces the content and keeps the name. Bytes of the same length are written in place.
    pub(super) fn set_content(&mut self, content: Content<'_>) {
        let mut counter_bytes = [0; BOUNDED_COUNTER_BYTES];
        let (state, bytes) = match content {
            Content::Blob(bytes) => (State::Blob, bytes),
            Content::Counter(Counter { value, min: None, max: None }) if !self.is_named() => {
                self.payload = Payload::Number(value);
                return self.set_state(State::Counter);
            }
            Content::Counter(counter) => (State::Counter, counter_content(&counter, &mut counter_bytes)),
        };
        let is_as_long = self.split().0.len() == bytes.len();
        match &mut self.payload {
            Payload::Bytes(old) if is_as_long => old[..bytes.len()].copy_from_slice(bytes),
            Payload::Bytes(_) | Payload::Number(_) => {
                self.payload = Payload::Bytes([bytes, self.split().1].concat().into_boxed_slice());
            }
        }
        self.set_state(state);
    }

    /// Gives the store a name of 1 to 256 bytes, in place of the one it may have.
    pub(super) fn set_name(&mut self, name: &str) {
        let len_less_one = u8::try_from(name.len() - 1).expect("names are 1 to 256 bytes");
        let number;
        let content = match self.payload {
            Payload::Bytes(_) => self.split().0,
            Payload::Number(value) => {
                number = value.to_le_bytes();
                &number
            }
        };
        self.payload = Payload::Bytes([content, name.as_bytes(), &[len_less_one]].concat().into_boxed_slice());
        self.flags.set(Flags::NAMED, Flags::NAMED);
    }

    /// Takes content and name out and leaves the memory of a used-up id, until `until_ms`.
    pub(super) fn become_remains(&mut self, state: State, until_ms: u64) {
        assert!(matches!(state, State::Expired | State::Tombstone) && !self.has_lock_line());
        self.payload = Payload::Bytes(Box::default());
        self.flags = Flags::NONE;
        self.set_state(state);
        self.set_expires_ms(until_ms);
    }

    /// What this store counts on the books, in bytes.
    pub(super) fn cost_bytes(&self) -> u64 {
        cost_bytes(self.content_len(), self.name())
    }

    /// What it would count with other content, in bytes.
    pub(super) fn cost_bytes_with(&self, content: &Content<'_>) -> u64 {
        cost_bytes(content_len(content), self.name())
    }

    /// What it would count under another name, in bytes.
    pub(super) fn cost_bytes_named(&self, name: &str) -> u64 {
        cost_bytes(self.content_len(), Some(name))
    }
}

fn cost_bytes(content_len: usize, name: Option<&str>) -> u64 {
    let name_bytes = name.map_or(0, |name| 2 * name.len() as u64 + NAME_OVERHEAD_BYTES);
    STORE_OVERHEAD_BYTES + content_len as u64 + name_bytes
}

/// What a new store would count on the books, in bytes: content, name (whose bytes are there twice) and the overheads.
#[must_use]
pub fn cost_of_new_bytes(content: &Content<'_>, name: Option<&str>) -> u64 {
    cost_bytes(content_len(content), name)
}

const fn content_len(content: &Content<'_>) -> usize {
    match content {
        Content::Blob(bytes) => bytes.len(),
        Content::Counter(Counter { min: None, max: None, .. }) => COUNTER_BYTES,
        Content::Counter(_) => BOUNDED_COUNTER_BYTES,
    }
}

fn counter_content<'b>(counter: &Counter, bytes: &'b mut [u8; BOUNDED_COUNTER_BYTES]) -> &'b [u8] {
    bytes[..8].copy_from_slice(&counter.value.to_le_bytes());
    if counter.min.is_none() && counter.max.is_none() {
        return &bytes[..COUNTER_BYTES];
    }
    if let Some(min) = counter.min {
        bytes[8] |= HAS_MIN;
        bytes[9..17].copy_from_slice(&min.to_le_bytes());
    }
    if let Some(max) = counter.max {
        bytes[8] |= HAS_MAX;
        bytes[17..25].copy_from_slice(&max.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::new(StoreKey([7; 20]), 0x00AB_CDEF, Etag { epoch: 3, version: 1 }, 1 << 40)
    }

    #[test]
    fn content_and_name_share_the_payload() {
        let mut entry = entry();
        let long_name = "é".repeat(128);
        for name in [None, Some("n"), Some(long_name.as_str())] {
            if let Some(name) = name {
                entry.set_name(name);
            }
            for body in [&b""[..], b"abc", b"xyz", &[0; 2048]] {
                entry.set_content(Content::Blob(body));
                assert_eq!((entry.blob(), entry.name()), (body, name));
                assert_eq!(entry.state(), State::Blob);
            }
            for (min, max) in [(None, None), (Some(i64::MIN), None), (None, Some(9)), (Some(-1), Some(i64::MAX))] {
                let counter = Counter { value: 5, min, max };
                entry.set_content(Content::Counter(counter));
                assert_eq!((entry.counter(), entry.name()), (counter, name));
                entry.set_counter_value(-7);
                assert_eq!(entry.counter(), Counter { value: -7, min, max });
            }
        }
        assert_eq!(entry.customer(), 0x00AB_CDEF);
        assert_eq!((entry.etag(), entry.expires_ms()), (Etag { epoch: 3, version: 1 }, 1 << 40));
    }

    #[test]
    fn a_mere_number_becomes_anything_and_back() {
        let counter = Counter { value: -5, min: None, max: None };
        let bounded = Counter { max: Some(7), ..counter };
        let mut entry = entry();
        for content in [Content::Counter(counter), Content::Blob(b"12345678"), Content::Counter(bounded)] {
            entry.set_content(Content::Counter(counter));
            assert!(matches!(entry.payload, Payload::Number(-5)));
            assert_eq!((entry.counter(), entry.cost_bytes()), (counter, STORE_OVERHEAD_BYTES + 8));
            entry.set_content(content);
            match content {
                Content::Blob(bytes) => assert_eq!((entry.state(), entry.blob()), (State::Blob, bytes)),
                Content::Counter(counter) => assert_eq!((entry.state(), entry.counter()), (State::Counter, counter)),
            }
        }
        entry.set_content(Content::Counter(counter));
        entry.set_name("n");
        entry.set_counter_value(6);
        assert_eq!((entry.counter().value, entry.name()), (6, Some("n")));
        entry.set_content(Content::Counter(counter));
        assert_eq!((entry.counter(), entry.name()), (counter, Some("n")));
    }

    #[test]
    fn remains_keep_the_key_and_nothing_else() {
        let mut entry = entry();
        entry.set_name("n");
        entry.set_content(Content::Blob(b"secret"));
        entry.become_remains(State::Tombstone, 9);
        assert_eq!((entry.state(), entry.name(), entry.expires_ms()), (State::Tombstone, None, 9));
        assert!(matches!(&entry.payload, Payload::Bytes(bytes) if bytes.is_empty()) && !entry.is_store());
    }

    #[test]
    fn a_time_past_48_bits_is_the_last_one() {
        let mut entry = entry();
        entry.set_expires_ms(u64::MAX);
        assert_eq!(entry.expires_ms(), (1 << 48) - 1);
    }
}

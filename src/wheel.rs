//! The timer wheel: which of many things is due, without ever looking at all of them.
//!
//! [`Wheel`] owns the order of deadlines and nothing else. The things live in a table of their owner's, which lends it to every
//! call as a [`Timed`]: a thing costs 8 bytes of links, and arming and disarming are O(1). [`Timers`] owns its things and is
//! meant for few of them. Neither knows a clock: the time is an argument.
//!
//! There are 7 levels of 64 slots. A slot of level 0 is one millisecond wide, one of level `n` is as wide as all of level
//! `n - 1`, so that the last level reaches about 139 years ahead; what lies further off is put into its last slot and armed
//! again from there. Time moves to any later point in one step: a bitmap a level names the occupied slots.
//!
//! A slot whose time has come is spliced whole, in O(1), to one of two lists, and these are worked off step by step within the
//! caller's budget: a million things of one slot take many turns, but none of the turns takes long.
//!
//! Invariant: each occupied slot of a level begins later than the wheel's time (at level 0 not before it) and lies within the
//! slot of the next level that holds the wheel's time, so that all of a level comes before all of the levels above it. Only
//! the last level wraps around.

use crate::time::Instant;

/// Levels of slots.
const LEVELS: usize = 7;
/// Bits of the time that choose a slot within its level: 64 slots.
const SLOT_BITS: u32 = 6;
/// Slots a level, one bit of its bitmap each.
const SLOTS: usize = 1 << SLOT_BITS;
/// How far ahead a thing is put at most, in milliseconds: into the slot of the last level that comes round last, never the
/// current one.
const REACH_MS: u64 = (SLOTS as u64 - 1) << (SLOT_BITS * (LEVELS as u32 - 1));

/// The list of things that were met in a slot of level 0: due, unless their deadline has moved.
const DUE: usize = LEVELS * SLOTS;
/// The list of things that were met in a slot of a higher level: due, or to be put into a finer slot.
const CASCADING: usize = DUE + 1;
/// Slots and lists, each the head of a circular list.
const LISTS: usize = CASCADING + 1;

/// In a link, numbers from here on are list heads.
const FIRST_HEAD: u32 = u32::MAX - LISTS as u32;
/// In a link, nothing.
const UNLINKED: u32 = u32::MAX;

/// Where a thing stands in the wheel: its neighbours in a circular list. The owner stores it and never looks into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The thing or list head before this one.
    pub prev: u32,
    /// The thing or list head behind this one.
    pub next: u32,
}

impl Default for Link {
    /// The link of a thing that is not armed.
    fn default() -> Self {
        Self { prev: UNLINKED, next: UNLINKED }
    }
}

/// A table of things that have deadlines. Their indices are below 2^32 - 451.
pub trait Timed {
    /// When the thing is due, in milliseconds of the wheel's clock.
    fn deadline_ms(&self, index: u32) -> u64;
    /// What [`Timed::set_link`] was last given; `Link::default()` at first.
    fn link(&self, index: u32) -> Link;
    /// Stores the thing's links.
    fn set_link(&mut self, index: u32, link: Link);
}

/// The order of deadlines of things that live elsewhere.
///
/// A thing whose deadline has moved later since it was armed needs no call: the wheel arms it again when it meets it. One whose
/// deadline has moved earlier must be disarmed and armed by its owner.
pub struct Wheel {
    now_ms: u64,
    /// One bit a slot that is not empty.
    occupied: [u64; LEVELS],
    heads: [Link; LISTS],
    /// Whose turn it is when both lists of met things have some, so that neither waits for the whole of the other.
    cascading_is_next: bool,
}

impl Wheel {
    /// An empty wheel whose time is `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let mut heads = [Link::default(); LISTS];
        for (list, head) in heads.iter_mut().enumerate() {
            *head = Link { prev: head_of(list), next: head_of(list) };
        }
        Self { now_ms, occupied: [0; LEVELS], heads, cascading_is_next: false }
    }

    /// Arms a thing, which must not be armed, at its deadline. One whose deadline has passed is due at the next
    /// [`Wheel::advance`]. O(1).
    pub fn arm(&mut self, things: &mut impl Timed, index: u32) {
        assert!(index < FIRST_HEAD, "the index leaves no room for list heads");
        assert!(!self.is_armed(things, index), "the thing is armed already");
        let when = things.deadline_ms(index).clamp(self.now_ms, self.now_ms.saturating_add(REACH_MS));
        // The level is that of the highest slot number in which `when` differs from the wheel's time.
        let highest_difference = ((self.now_ms ^ when) | 1).ilog2();
        let level = ((highest_difference / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = slot_of(when, level);
        self.occupied[level] |= 1 << slot;
        let head = head_of(level * SLOTS + slot);
        let last = self.link(things, head).prev;
        things.set_link(index, Link { prev: last, next: head });
        self.set_next(things, last, index);
        self.set_prev(things, head, index);
    }

    /// Disarms a thing; nothing happens to one that is not armed. O(1).
    pub fn disarm(&mut self, things: &mut impl Timed, index: u32) {
        let Link { prev, next } = things.link(index);
        if prev == UNLINKED {
            return;
        }
        things.set_link(index, Link::default());
        self.set_next(things, prev, next);
        self.set_prev(things, next, prev);
        // Only a list head is its thing's neighbour on both sides, and then the list is empty now.
        if prev == next && prev >= FIRST_HEAD {
            let list = (prev - FIRST_HEAD) as usize;
            if list < DUE {
                self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            }
        }
    }

    /// Whether a thing is armed, that is, in the wheel and not yet returned.
    #[must_use]
    pub fn is_armed(&self, things: &impl Timed, index: u32) -> bool {
        things.link(index) != Link::default()
    }

    /// Moves the wheel's time to `now_ms` (never back) and returns one due thing, disarmed. Call it until it says `None`.
    ///
    /// Each thing that is returned or put into a finer slot takes 1 of `budget`; with nothing left of it the answer is `None`,
    /// and [`Wheel::next_deadline_ms`] then says that there is more to do. Due things come in the order of their deadlines as
    /// long as time moves no further than [`Wheel::next_deadline_ms`] and the budget suffices; else the order is some other,
    /// the same for the same calls.
    pub fn advance(&mut self, things: &mut impl Timed, now_ms: u64, budget: &mut u32) -> Option<u32> {
        self.move_to(things, now_ms.max(self.now_ms));
        while *budget > 0 {
            let index = self.next_met()?;
            *budget -= 1;
            self.disarm(things, index);
            if things.deadline_ms(index) <= self.now_ms {
                return Some(index);
            }
            self.arm(things, index);
        }
        None
    }

    /// When [`Wheel::advance`] should be called next: at the earliest deadline or before it, never later. `None` if nothing is
    /// armed.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if !self.is_empty(DUE) || !self.is_empty(CASCADING) {
            return Some(self.now_ms);
        }
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        self.first_slot(level).map(|(_, start_ms)| start_ms)
    }

    /// Splices every slot that begins at `now_ms` or before to the lists of met things; these are at most 448.
    fn move_to(&mut self, things: &mut impl Timed, now_ms: u64) {
        'levels: for level in 0..LEVELS {
            while let Some((slot, start_ms)) = self.first_slot(level) {
                if start_ms > now_ms {
                    break 'levels;
                }
                self.occupied[level] &= !(1 << slot);
                self.splice(things, level * SLOTS + slot, if level == 0 { DUE } else { CASCADING });
            }
        }
        self.now_ms = now_ms;
    }

    /// The first occupied slot of a level and the millisecond in which it begins.
    fn first_slot(&self, level: usize) -> Option<(usize, u64)> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let current = self.now_ms >> shift;
        let ahead = self.occupied[level].rotate_right(slot_of(self.now_ms, level) as u32).trailing_zeros();
        let start = current + u64::from(ahead);
        Some(((start as usize) % SLOTS, start << shift))
    }

    /// The next thing to look at, from either list of met things in turn.
    fn next_met(&mut self) -> Option<u32> {
        let list = match (self.is_empty(DUE), self.is_empty(CASCADING)) {
            (true, true) => return None,
            (false, true) => DUE,
            (true, false) => CASCADING,
            (false, false) => {
                self.cascading_is_next = !self.cascading_is_next;
                if self.cascading_is_next { DUE } else { CASCADING }
            }
        };
        Some(self.heads[list].next)
    }

    fn is_empty(&self, list: usize) -> bool {
        self.heads[list].next == head_of(list)
    }

    /// Moves all of the list `from`, which is not empty, behind the last thing of the list `to`.
    fn splice(&mut self, things: &mut impl Timed, from: usize, to: usize) {
        let Link { prev: last, next: first } = self.heads[from];
        let before = self.heads[to].prev;
        self.heads[from] = Link { prev: head_of(from), next: head_of(from) };
        self.set_next(things, before, first);
        self.set_prev(things, first, before);
        self.set_next(things, last, head_of(to));
        self.heads[to].prev = last;
    }

    fn link(&self, things: &impl Timed, at: u32) -> Link {
        if at < FIRST_HEAD { things.link(at) } else { self.heads[(at - FIRST_HEAD) as usize] }
    }

    fn set_link(&mut self, things: &mut impl Timed, at: u32, link: Link) {
        if at < FIRST_HEAD {
            things.set_link(at, link);
        } else {
            self.heads[(at - FIRST_HEAD) as usize] = link;
        }
    }

    fn set_next(&mut self, things: &mut impl Timed, at: u32, next: u32) {
        let prev = self.link(things, at).prev;
        self.set_link(things, at, Link { prev, next });
    }

    fn set_prev(&mut self, things: &mut impl Timed, at: u32, prev: u32) {
        let next = self.link(things, at).next;
        self.set_link(things, at, Link { prev, next });
    }
}

/// The number that stands for the head of a list in a link.
const fn head_of(list: usize) -> u32 {
    FIRST_HEAD + list as u32
}

/// The slot of a level in which a time falls.
const fn slot_of(time_ms: u64, level: usize) -> usize {
    (time_ms >> (SLOT_BITS * level as u32)) as usize % SLOTS
}

/// Names a timer of [`Timers`]. Once the timer has fired or was disarmed, its id names nothing, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u64,
}

/// Timers that carry a value each, for few of them: a wheel and the table of what is armed in it.
///
/// A deadline is rounded up to the millisecond and the time down, so that no timer fires early.
pub struct Timers<T> {
    wheel: Wheel,
    entries: Entries<T>,
    free: Vec<u32>,
    /// How many timers were ever armed: the next one's generation.
    armed_total: u64,
}

struct Entries<T>(Vec<Entry<T>>);

struct Entry<T> {
    deadline_ms: u64,
    link: Link,
    generation: u64,
    /// `None` if the entry is free.
    value: Option<T>,
}

impl<T> Timed for Entries<T> {
    fn deadline_ms(&self, index: u32) -> u64 {
        self.0[index as usize].deadline_ms
    }

    fn link(&self, index: u32) -> Link {
        self.0[index as usize].link
    }

    fn set_link(&mut self, index: u32, link: Link) {
        self.0[index as usize].link = link;
    }
}

impl<T> Timers<T> {
    /// No timers; the time is `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { wheel: Wheel::new(now.as_millis()), entries: Entries(Vec::new()), free: Vec::new(), armed_total: 0 }
    }

    /// Arms a timer that gives `value` back when `deadline` has come.
    pub fn arm(&mut self, deadline: Instant, value: T) -> TimerId {
        let generation = self.armed_total;
        self.armed_total += 1;
        let deadline_ms = deadline.as_nanos().div_ceil(1_000_000);
        let entry = Entry { deadline_ms, link: Link::default(), generation, value: Some(value) };
        let index = if let Some(index) = self.free.pop() {
            self.entries.0[index as usize] = entry;
            index
        } else {
            self.entries.0.push(entry);
            (self.entries.0.len() - 1) as u32
        };
        self.wheel.arm(&mut self.entries, index);
        TimerId { index, generation }
    }

    /// Disarms a timer and gives its value back; `None` if it has fired or was disarmed before.
    pub fn disarm(&mut self, id: TimerId) -> Option<T> {
        if self.entries.0.get(id.index as usize)?.generation != id.generation {
            return None;
        }
        self.wheel.disarm(&mut self.entries, id.index);
        self.take(id.index)
    }

    /// The value of one timer that is due at `now`; call it until it says `None`. `budget` is that of [`Wheel::advance`].
    pub fn pop_due(&mut self, now: Instant, budget: &mut u32) -> Option<T> {
        let index = self.wheel.advance(&mut self.entries, now.as_millis(), budget)?;
        self.take(index)
    }

    /// When to call [`Timers::pop_due`] next: at the earliest deadline or before it. `None` if nothing is armed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline_ms().map(Instant::from_millis)
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.0.len() - self.free.len()
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&mut self, index: u32) -> Option<T> {
        let value = self.entries.0[index as usize].value.take()?;
        self.free.push(index);
        Some(value)
    }
}

#[cfg(test)]
mod tests;

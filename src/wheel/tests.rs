//! The wheel against a naive model, and the bounds on its work, counted in accesses to the things rather than in time.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Enough for everything there is.
const UNBOUNDED: u32 = u32::MAX;
/// The latest deadline the wheel is asked to keep.
const LATEST_MS: u64 = 1 << 48;

struct Thing {
    deadline_ms: u64,
    link: Link,
}

/// A table that counts how often the wheel looks at it.
#[derive(Default)]
struct Table {
    things: Vec<Thing>,
    accesses: Cell<u64>,
}

impl Table {
    fn add(&mut self, deadline_ms: u64) -> u32 {
        self.things.push(Thing { deadline_ms, link: Link::default() });
        (self.things.len() - 1) as u32
    }

    fn thing(&mut self, index: u32) -> &mut Thing {
        &mut self.things[index as usize]
    }

    fn count(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl Timed for Table {
    fn deadline_ms(&self, index: u32) -> u64 {
        self.count();
        self.things[index as usize].deadline_ms
    }

    fn link(&self, index: u32) -> Link {
        self.count();
        self.things[index as usize].link
    }

    fn set_link(&mut self, index: u32, link: Link) {
        self.count();
        self.things[index as usize].link = link;
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Below 2^`bits`, every order of magnitude as likely as any other.
    fn of_any_size(&mut self, bits: u64) -> u64 {
        let size = self.below(bits + 1);
        self.next() & ((1 << size) - 1)
    }
}

/// The wheel beside a sorted map of what should be armed in it.
struct Compared {
    wheel: Wheel,
    table: Table,
    /// (deadline, index) of everything armed.
    armed: BTreeSet<(u64, u32)>,
    now_ms: u64,
    fired: Vec<u32>,
}

impl Compared {
    fn new(now_ms: u64, things: u32) -> Self {
        let mut table = Table::default();
        for _ in 0..things {
            table.add(0);
        }
        Self { wheel: Wheel::new(now_ms), table, armed: BTreeSet::new(), now_ms, fired: Vec::new() }
    }

    fn arm(&mut self, index: u32, deadline_ms: u64) {
        self.table.thing(index).deadline_ms = deadline_ms;
        self.wheel.arm(&mut self.table, index);
        self.armed.insert((deadline_ms, index));
    }

    fn disarm(&mut self, index: u32) {
        self.wheel.disarm(&mut self.table, index);
        self.armed.remove(&(self.table.thing(index).deadline_ms, index));
    }

    /// Takes every due thing that `budget` allows.
    fn advance(&mut self, now_ms: u64, mut budget: u32) {
        self.now_ms = now_ms;
        while let Some(index) = self.wheel.advance(&mut self.table, now_ms, &mut budget) {
            let deadline_ms = self.table.thing(index).deadline_ms;
            assert!(deadline_ms <= now_ms, "{index} fired {} ms early", deadline_ms - now_ms);
            assert!(self.armed.remove(&(deadline_ms, index)), "{index} fired and was not armed");
            assert!(!self.wheel.is_armed(&self.table, index));
            self.fired.push(index);
        }
        if budget > 0 {
            assert!(self.armed.range(..(now_ms + 1, 0)).next().is_none(), "something due at {now_ms} did not fire");
            // Else a loop that sleeps until then would not sleep.
            assert!(self.wheel.next_deadline_ms().is_none_or(|next_ms| next_ms > now_ms));
        }
    }

    fn check(&self) {
        let earliest_ms = self.armed.first().map(|&(deadline_ms, _)| deadline_ms);
        let next_ms = self.wheel.next_deadline_ms();
        assert_eq!(next_ms.is_some(), earliest_ms.is_some());
        assert!(next_ms <= earliest_ms.map(|deadline_ms| deadline_ms.max(self.now_ms)), "{next_ms:?} {earliest_ms:?}");
        for index in 0..self.table.things.len() as u32 {
            let deadline_ms = self.table.things[index as usize].deadline_ms;
            assert_eq!(self.wheel.is_armed(&self.table, index), self.armed.contains(&(deadline_ms, index)));
        }
    }
}

/// One seeded life of a wheel; what fired, in order.
fn random_life(seed: u64, steps: u32) -> Vec<u32> {
    const THINGS: u32 = 60;
    let mut random = Random(seed);
    let start_ms = random.of_any_size(47);
    let mut both = Compared::new(start_ms, THINGS);
    for _ in 0..steps {
        let index = random.below(u64::from(THINGS)) as u32;
        let armed = both.wheel.is_armed(&both.table, index);
        let deadline_ms = match random.below(8) {
            0 => both.now_ms - random.below(both.now_ms + 1),
            1..=3 => both.now_ms + random.below(200),
            _ => (both.now_ms + random.of_any_size(48)).min(LATEST_MS),
        };
        match random.below(10) {
            0..=3 => {
                // Moving a deadline earlier is disarming and arming; this is also what arms an unarmed one.
                both.disarm(index);
                both.arm(index, deadline_ms);
            }
            4 => both.disarm(index),
            5 => {
                // A deadline that moves later is the wheel's business.
                let before_ms = both.table.thing(index).deadline_ms;
                if armed && deadline_ms > before_ms {
                    both.armed.remove(&(before_ms, index));
                    both.armed.insert((deadline_ms, index));
                    both.table.thing(index).deadline_ms = deadline_ms;
                }
            }
            6 => {
                let now_ms = both.wheel.next_deadline_ms().unwrap_or(0).max(both.now_ms);
                both.advance(now_ms, UNBOUNDED);
            }
            7 => {
                let now_ms = (both.now_ms + random.of_any_size(45)).min(LATEST_MS);
                both.advance(now_ms, UNBOUNDED);
            }
            8 => both.advance(both.now_ms + random.below(3), UNBOUNDED),
            _ => {
                let now_ms = both.now_ms + random.below(100);
                both.advance(now_ms, random.below(4) as u32);
            }
        }
        both.check();
    }
    both.advance(LATEST_MS + 1000, UNBOUNDED);
    both.check();
    assert!(both.armed.is_empty());
    both.fired
}

#[test]
fn agrees_with_a_sorted_map() {
    let mut fired = 0;
    for seed in 0..200 {
        fired += random_life(seed, 1000).len();
    }
    assert!(fired > 10_000, "the test hardly fires anything: {fired}");
}

#[test]
fn the_same_calls_give_the_same_order() {
    for seed in 1000..1020 {
        assert_eq!(random_life(seed, 1000), random_life(seed, 1000));
    }
}

#[test]
fn comes_in_the_order_of_deadlines_when_followed_closely() {
    let mut random = Random(7);
    let mut both = Compared::new(123_456_789, 2000);
    for index in 0..2000 {
        let deadline_ms = both.now_ms + random.of_any_size(40);
        both.arm(index, deadline_ms);
    }
    while let Some(next_ms) = both.wheel.next_deadline_ms() {
        both.advance(next_ms, UNBOUNDED);
    }
    let deadlines: Vec<u64> = both.fired.iter().map(|&index| both.table.things[index as usize].deadline_ms).collect();
    assert_eq!(deadlines.len(), 2000);
    assert!(deadlines.is_sorted());
}

#[test]
fn things_of_one_millisecond_come_in_the_order_of_their_arming() {
    let mut both = Compared::new(0, 100);
    for index in (0..100).rev() {
        both.arm(index, 1_000_000);
    }
    both.advance(1_000_000, UNBOUNDED);
    assert!(both.fired.iter().copied().eq((0..100).rev()));
}

#[test]
fn fires_at_the_very_millisecond_from_every_level() {
    for bits in 0..=48 {
        for deadline_ms in [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
            for start_ms in [0, 1, 63, 64, 4095, (1 << 42) - 1, 1 << 42] {
                let mut both = Compared::new(start_ms, 1);
                both.arm(0, deadline_ms);
                if deadline_ms > start_ms {
                    both.advance(deadline_ms - 1, UNBOUNDED);
                    assert!(both.fired.is_empty());
                }
                both.advance(deadline_ms.max(start_ms), UNBOUNDED);
                assert_eq!(both.fired, [0]);
            }
        }
    }
}

#[test]
fn time_may_stand_still() {
    let mut both = Compared::new(500, 4);
    both.arm(0, 499);
    both.arm(1, 500);
    both.arm(2, 501);
    both.advance(500, UNBOUNDED);
    assert_eq!(both.fired, [0, 1]);
    // What is armed as due while time stands still fires without it moving.
    both.arm(3, 0);
    assert_eq!(both.wheel.next_deadline_ms(), Some(500));
    both.advance(500, UNBOUNDED);
    both.advance(500, UNBOUNDED);
    assert_eq!(both.fired, [0, 1, 3]);
    assert_eq!(both.wheel.next_deadline_ms(), Some(501));
}

#[test]
fn time_never_goes_back() {
    let mut both = Compared::new(1000, 1);
    both.arm(0, 1001);
    let mut budget = UNBOUNDED;
    assert_eq!(both.wheel.advance(&mut both.table, 0, &mut budget), None);
    assert_eq!(both.wheel.next_deadline_ms(), Some(1001));
    both.advance(1001, UNBOUNDED);
    assert_eq!(both.fired, [0]);
}

#[test]
fn a_jump_over_years_walks_no_ticks() {
    // A wheel that visited each of the 2^47 ms would not come back from this test.
    let mut both = Compared::new(0, 8);
    for (index, deadline_ms) in [1, 70, 5000, 86_400_000, 30 * 86_400_000, 1 << 41, 1 << 46, 1 << 47].iter().enumerate()
    {
        both.arm(index as u32, *deadline_ms);
    }
    both.table.accesses.set(0);
    both.advance(1 << 47, UNBOUNDED);
    assert_eq!(both.fired.len(), 8);
    assert!(both.table.accesses.get() < 500, "{} accesses", both.table.accesses.get());
}

/// Each step may look at its thing, its neighbours, and a neighbour or two where it is armed again.
const ACCESSES_PER_STEP: u64 = 25;

#[test]
fn a_million_things_of_one_slot_cost_no_turn_more_than_its_budget() {
    const THINGS: u32 = 1_000_000;
    const BUDGET: u32 = 1000;
    // All deadlines lie within one slot of level 4 (2^24 ms wide), so that all of them cascade at once.
    let slot_ms = 1 << 24;
    let mut random = Random(1);
    let mut table = Table::default();
    let mut wheel = Wheel::new(0);
    for index in 0..THINGS {
        table.add(slot_ms + random.below(5000));
        wheel.arm(&mut table, index);
    }
    assert_eq!(wheel.next_deadline_ms(), Some(slot_ms));

    // A lock's time-out, armed when the wave has begun, waits for none of it.
    let lock = table.add(slot_ms + 10);
    let mut lock_fired_ms = None;
    let mut fired = 0;
    for turn in 0.. {
        let now_ms = slot_ms + turn;
        table.accesses.set(0);
        let mut budget = BUDGET;
        while let Some(index) = wheel.advance(&mut table, now_ms, &mut budget) {
            assert!(table.thing(index).deadline_ms <= now_ms);
            if index == lock {
                lock_fired_ms = Some(now_ms);
            } else {
                fired += 1;
            }
        }
        assert!(table.accesses.get() <= u64::from(BUDGET) * ACCESSES_PER_STEP + 500, "{}", table.accesses.get());
        if turn == 5 {
            wheel.arm(&mut table, lock);
        }
        if fired == THINGS {
            break;
        }
        assert!(budget == 0 || wheel.next_deadline_ms() > Some(now_ms), "stopped with work and budget left");
        assert!(turn < 20_000);
    }
    assert_eq!(wheel.next_deadline_ms(), None);
    assert!(lock_fired_ms.is_some_and(|fired_ms| fired_ms <= slot_ms + 12), "{lock_fired_ms:?}");
}

#[test]
fn a_million_things_of_one_millisecond_cost_no_turn_more_than_its_budget() {
    const THINGS: u32 = 1_000_000;
    let mut table = Table::default();
    let mut wheel = Wheel::new(0);
    for index in 0..THINGS {
        table.add(50);
        wheel.arm(&mut table, index);
    }
    let mut turns = 0;
    let mut expected = 0..THINGS;
    while wheel.next_deadline_ms().is_some() {
        turns += 1;
        table.accesses.set(0);
        let mut budget = 4000;
        while let Some(index) = wheel.advance(&mut table, 50, &mut budget) {
            assert_eq!(Some(index), expected.next());
        }
        assert!(table.accesses.get() <= 4000 * ACCESSES_PER_STEP + 500);
    }
    assert_eq!((turns, expected.len()), (250, 0));
}

#[test]
fn a_wave_of_due_things_does_not_hold_up_what_cascades() {
    let mut both = Compared::new(63, 1001);
    both.arm(0, 128);
    both.advance(64, UNBOUNDED);
    for index in 1..=1000 {
        both.arm(index, 127);
    }
    both.advance(128, 2);
    both.advance(128, 2);
    assert!(both.fired.contains(&0), "{:?}", both.fired);
}

#[test]
fn what_waits_for_its_turn_can_be_disarmed_or_moved() {
    let mut both = Compared::new(0, 100);
    for index in 0..100 {
        both.arm(index, 5000 + u64::from(index));
    }
    both.advance(6000, 10);
    let waiting: Vec<u32> = (0..100).filter(|&index| both.wheel.is_armed(&both.table, index)).collect();
    assert_eq!(waiting.len(), 90);
    for &index in &waiting[..80] {
        both.disarm(index);
    }
    both.disarm(waiting[80]);
    both.arm(waiting[80], 7000);
    both.check();
    both.advance(6000, UNBOUNDED);
    assert_eq!(both.fired.len(), 19);
    both.advance(7000, UNBOUNDED);
    assert_eq!(both.fired.len(), 20);
}

#[test]
#[should_panic(expected = "armed already")]
fn arming_twice_is_our_own_mistake() {
    let mut both = Compared::new(0, 1);
    both.arm(0, 10);
    both.arm(0, 20);
}

fn micros(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

#[test]
fn timers_never_fire_early() {
    let mut timers = Timers::new(micros(10_700));
    timers.arm(micros(12_001), "a");
    assert_eq!(timers.next_deadline(), Some(micros(13_000)));
    assert_eq!(timers.pop_due(micros(12_999), &mut { UNBOUNDED }), None);
    assert_eq!(timers.pop_due(micros(13_000), &mut { UNBOUNDED }), Some("a"));
    assert_eq!(timers.pop_due(micros(13_000), &mut { UNBOUNDED }), None);
    assert_eq!(timers.next_deadline(), None);
    timers.arm(Instant::FAR_FUTURE, "never");
    assert_eq!(timers.pop_due(Instant::ZERO + Duration::from_secs(1 << 31), &mut { UNBOUNDED }), None);
}

#[test]
fn stale_timer_ids_are_harmless() {
    let mut timers = Timers::new(Instant::ZERO);
    let first = timers.arm(micros(1000), 1);
    assert_eq!(timers.pop_due(micros(1000), &mut { UNBOUNDED }), Some(1));
    let second = timers.arm(micros(2000), 2);
    assert_eq!(first.index, second.index, "the entry is used again");
    assert_eq!(timers.disarm(first), None);
    assert_eq!(timers.len(), 1);
    assert_eq!(timers.disarm(second), Some(2));
    assert_eq!(timers.disarm(second), None);
    assert!(timers.is_empty());
    assert_eq!(timers.pop_due(micros(9000), &mut { UNBOUNDED }), None);
}

#[test]
fn timers_agree_with_a_sorted_map() {
    let mut random = Random(3);
    let mut timers = Timers::new(Instant::ZERO);
    let mut model: BTreeMap<u64, (TimerId, u64)> = BTreeMap::new();
    let mut now = Instant::ZERO;
    for number in 0..20_000_u64 {
        match random.below(3) {
            0 => {
                let deadline = now + Duration::from_nanos(random.of_any_size(45));
                model.insert(number, (timers.arm(deadline, number), deadline.as_nanos()));
            }
            1 => {
                let chosen = random.below(number + 1);
                if let Some((&key, &(id, _))) = model.range(chosen..).next() {
                    assert_eq!(timers.disarm(id), Some(key));
                    model.remove(&key);
                }
            }
            _ => {
                now = now + Duration::from_nanos(random.of_any_size(36));
                while let Some(key) = timers.pop_due(now, &mut { UNBOUNDED }) {
                    let (id, deadline_ns) = model.remove(&key).unwrap();
                    assert!(deadline_ns <= now.as_nanos());
                    assert_eq!(timers.disarm(id), None);
                }
                let late_ns = now.as_nanos().saturating_sub(1_000_000);
                assert!(model.values().all(|&(_, deadline_ns)| deadline_ns > late_ns));
            }
        }
        assert_eq!(timers.len(), model.len());
    }
    assert!(timers.entries.0.len() < 5000, "entries are used again: {}", timers.entries.0.len());
}

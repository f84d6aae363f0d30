//! The locks that are held and the lines of requests that wait for them. Beside the stores, because few stores have one.
//!
//! This file keeps the books: who holds, who waits in which order, which connection is tied to what. What a request does when
//! its turn comes is decided in `modify`.

use std::collections::VecDeque;

use super::arena::{Arena, Index, OwnMap, hash_of_number};
use super::parked::Parked;
use super::request::{ConnectionId, LockId, RequestId};
use crate::time::Instant;
use crate::wheel::TimerId;

/// Locks tied to one connection, so that its end costs a bounded time.
pub(super) const LOCKS_PER_CONNECTION_MAX: usize = 1000;
/// Requests that wait, altogether.
pub(super) const WAITERS_MAX: usize = 65_536;

const INDEX_TABLES: usize = 256;

/// Who holds a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) id: LockId,
    pub(super) until: Instant,
    pub(super) timer: TimerId,
    /// The lock also ends with this connection.
    pub(super) connection: Option<ConnectionId>,
}

/// The lock of one store.
#[derive(Debug)]
struct Line {
    slot: u32,
    holder: Option<Holder>,
    waiters: VecDeque<Parked>,
}

/// What ends or is abandoned with a connection.
#[derive(Debug, Default)]
struct Ties {
    locks: Vec<u32>,
    waiting: Vec<RequestId>,
}

/// All locks and lines.
pub(super) struct Locks {
    lines: Arena<Line>,
    by_slot: Index,
    waiting: OwnMap<RequestId, u32>,
    ties: OwnMap<ConnectionId, Ties>,
    held: u64,
}

impl Locks {
    pub(super) fn new() -> Self {
        Self {
            lines: Arena::new(),
            by_slot: Index::new(INDEX_TABLES),
            waiting: OwnMap::default(),
            ties: OwnMap::default(),
            held: 0,
        }
    }

    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    pub(super) fn waiters(&self) -> usize {
        self.waiting.len()
    }

    /// Lines in any order that is the same on every run.
    pub(super) fn held_slots(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().filter(|(_, line)| line.holder.is_some()).map(|(_, line)| line.slot)
    }

    /// Every store whose lock is held or waited for.
    pub(super) fn slots_with_line(&self) -> Vec<u32> {
        self.lines.iter().map(|(_, line)| line.slot).collect()
    }

    /// Every connection that something is tied to, in order.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        let mut connections: Vec<ConnectionId> = self.ties.keys().copied().collect();
        connections.sort_unstable();
        connections
    }

    fn find(&self, slot: u32) -> Option<u32> {
        self.by_slot.find(hash_of_number(slot), |handle| self.lines.get(handle).slot == slot)
    }

    fn find_or_make(&mut self, slot: u32) -> &mut Line {
        let handle = self.find(slot).unwrap_or_else(|| {
            let handle = self.lines.insert(Line { slot, holder: None, waiters: VecDeque::new() });
            let lines = &self.lines;
            self.by_slot.insert(hash_of_number(slot), handle, |other| hash_of_number(lines.get(other).slot));
            handle
        });
        self.lines.get_mut(handle)
    }

    pub(super) fn holder(&self, slot: u32) -> Option<&Holder> {
        self.lines.get(self.find(slot)?).holder.as_ref()
    }

    /// Whether one more lock may be tied to this connection.
    pub(super) fn may_tie(&self, connection: ConnectionId) -> bool {
        self.ties.get(&connection).is_none_or(|ties| ties.locks.len() < LOCKS_PER_CONNECTION_MAX)
    }

    /// Gives a free lock to `holder`, or the holder new terms; the old terms' timer is the caller's to disarm.
    pub(super) fn hold(&mut self, slot: u32, holder: Holder) {
        let before = self.find_or_make(slot).holder.replace(holder);
        assert!(before.is_none_or(|before| before.id == holder.id), "one-lock-holder");
        self.held += u64::from(before.is_none());
        let connection_before = before.and_then(|before| before.connection);
        if connection_before != holder.connection {
            self.untie_lock(connection_before, slot);
            if let Some(connection) = holder.connection {
                self.ties.entry(connection).or_default().locks.push(slot);
            }
        }
    }

    /// Ends the hold; its timer is the caller's to disarm.
    pub(super) fn release(&mut self, slot: u32) -> Option<Holder> {
        let handle = self.find(slot)?;
        let holder = self.lines.get_mut(handle).holder.take()?;
        self.held -= 1;
        self.untie_lock(holder.connection, slot);
        Some(holder)
    }

    fn untie_lock(&mut self, connection: Option<ConnectionId>, slot: u32) {
        let Some(connection) = connection else { return };
        let ties = self.ties.get_mut(&connection).expect("a tied lock's connection has ties");
        let place = ties.locks.iter().position(|&tied| tied == slot).expect("a tied lock is among them");
        ties.locks.swap_remove(place);
        self.drop_ties_if_empty(connection);
    }

    fn drop_ties_if_empty(&mut self, connection: ConnectionId) {
        if self.ties.get(&connection).is_some_and(|ties| ties.locks.is_empty() && ties.waiting.is_empty()) {
            self.ties.remove(&connection);
        }
    }

    /// Puts a request at the end of the line.
    pub(super) fn park(&mut self, slot: u32, parked: Parked) {
        self.waiting.insert(parked.asker.request, slot);
        self.ties.entry(parked.asker.connection).or_default().waiting.push(parked.asker.request);
        self.find_or_make(slot).waiters.push_back(parked);
    }

    /// Takes the first of the line out; its timer is the caller's to disarm.
    pub(super) fn next(&mut self, slot: u32) -> Option<Parked> {
        let handle = self.find(slot)?;
        let parked = self.lines.get_mut(handle).waiters.pop_front()?;
        self.forget_waiting(&parked);
        Some(parked)
    }

    /// All requests that stand in a line, in no order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.waiting.keys().copied()
    }

    /// Whether a request stands in a line.
    pub(super) fn is_waiting(&self, request: RequestId) -> bool {
        self.waiting.contains_key(&request)
    }

    /// Takes one request out of whatever line it stands in; its timer is the caller's to disarm.
    pub(super) fn leave(&mut self, request: RequestId) -> Option<(u32, Parked)> {
        let slot = *self.waiting.get(&request)?;
        let handle = self.find(slot).expect("a waiting request's line is there");
        let waiters = &mut self.lines.get_mut(handle).waiters;
        let place = waiters.iter().position(|parked| parked.asker.request == request);
        let parked = waiters.remove(place.expect("it stands in its line")).expect("the place was just found");
        self.forget_waiting(&parked);
        Some((slot, parked))
    }

    fn forget_waiting(&mut self, parked: &Parked) {
        let (request, connection) = (parked.asker.request, parked.asker.connection);
        self.waiting.remove(&request);
        let ties = self.ties.get_mut(&connection).expect("a waiting request's connection has ties");
        ties.waiting.retain(|&other| other != request);
        self.drop_ties_if_empty(connection);
    }

    /// Removes an empty line. Says whether there is none (any more).
    pub(super) fn drop_line_if_empty(&mut self, slot: u32) -> bool {
        let Some(handle) = self.find(slot) else { return true };
        let line = self.lines.get(handle);
        if line.holder.is_some() || !line.waiters.is_empty() {
            return false;
        }
        let lines = &self.lines;
        self.by_slot.remove(hash_of_number(slot), handle, |other| hash_of_number(lines.get(other).slot));
        self.lines.remove(handle);
        true
    }

    /// The store got another name, and whoever waits for it by name goes along.
    pub(super) fn rename(&mut self, slot: u32, to: &str) {
        if let Some(handle) = self.find(slot) {
            self.lines.get_mut(handle).waiters.iter_mut().for_each(|parked| parked.rename(to));
        }
    }

    /// What a connection that ended leaves behind: the requests that wait, and the stores whose locks end with it.
    pub(super) fn left_behind(&self, connection: ConnectionId) -> (Vec<RequestId>, Vec<u32>) {
        self.ties.get(&connection).map_or_else(Default::default, |ties| (ties.waiting.clone(), ties.locks.clone()))
    }

    /// Asserts that the books agree; for the simulator.
    pub(super) fn check(&self) {
        let lines = || self.lines.iter().map(|(_, line)| line);
        assert_eq!(lines().filter(|line| line.holder.is_some()).count() as u64, self.held, "one-lock-holder");
        assert_eq!(lines().map(|line| line.waiters.len()).sum::<usize>(), self.waiting.len(), "every waiter is found");
        for line in lines() {
            assert_eq!(self.find(line.slot).map(|handle| self.lines.get(handle).slot), Some(line.slot));
            assert!(line.holder.is_some(), "a line without a holder has been served");
            assert!(line.waiters.iter().all(|parked| self.waiting.get(&parked.asker.request) == Some(&line.slot)));
        }
        let tied: usize = self.ties.values().map(|ties| ties.waiting.len()).sum();
        assert_eq!(tied, self.waiting.len(), "every waiter is tied to its connection");
    }
}

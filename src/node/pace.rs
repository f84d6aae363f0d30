//! How far the follower may fall behind: clients whose changes come faster than it takes them in are made to wait, a few milliseconds
//! at a time, so that little is lost when this node dies, and that the backlog is for a follower that is away and not for one that
//! is slow. Pure arithmetic on the marks of the stream; that nobody reads from clients meanwhile is the shell's business.
//!
//! A wait ends with the acknowledgement that it is for. One that lasts too long lets clients in for one turn, so that nobody
//! stands still while much is caught up on; and a follower that does not come on at all is not waited for.

use std::time::Duration;

use super::backlog::Backlog;
use crate::time::Instant;

/// So many changes may be unacknowledged, and so many bytes, before clients wait; of a small backlog, a quarter. Beyond it come those of one
/// turn. That is all that a dead primary takes with it: at 200,000 changes a second 3 ms of them, and no less than what is under way
/// if an acknowledgement takes 1 ms and changes come at 500,000 a second.
const CHANGES_BEFORE_WAIT: u64 = 512;
const BYTES_BEFORE_WAIT: u64 = 512 << 10;
/// A follower without everything saves nothing yet, and has images to take in between the changes: it may be so much further behind.
const TIMES_AS_MUCH_WHILE_JOINING: u64 = 4;
/// One wait at most.
const WAIT_MS: u64 = 5;
/// A follower that acknowledges nothing for so long is stopped or away.
const PATIENCE_MS: u64 = 100;

/// What is known of the follower's progress, and whether clients wait for it.
pub(super) struct Pace {
    limit_bytes: u64,
    is_joining: bool,
    /// What was acknowledged when last it was looked at, and whether that was all there was.
    acked: u64,
    had_all: bool,
    /// When it last had more than before, or something to acknowledge again.
    progress_at: Instant,
    wait_until: Option<Instant>,
    pub(super) waits_total: u64,
}

impl Pace {
    pub(super) const fn new(backlog_limit_bytes: u64) -> Self {
        Self {
            limit_bytes: backlog_limit_bytes,
            is_joining: false,
            acked: 0,
            had_all: true,
            progress_at: Instant::ZERO,
            wait_until: None,
            waits_total: 0,
        }
    }

    fn is_behind(&self, backlog: &Backlog) -> bool {
        let times = if self.is_joining { TIMES_AS_MUCH_WHILE_JOINING } else { 1 };
        backlog.last() - backlog.acked() > CHANGES_BEFORE_WAIT * times
            || backlog.bytes() > (BYTES_BEFORE_WAIT * times).min(self.limit_bytes / 4)
    }

    /// To be told when something was acknowledged.
    pub(super) fn on_acknowledged(&mut self, now: Instant, backlog: &Backlog) {
        self.note_progress(now, backlog);
        if !self.is_behind(backlog) {
            self.wait_until = None;
        }
    }

    /// To be told at the end of every turn in which there is somebody to wait for.
    pub(super) fn on_end_of_turn(&mut self, now: Instant, backlog: &Backlog, is_joining: bool) {
        self.is_joining = is_joining;
        self.note_progress(now, backlog);
        let comes_on = now.since(self.progress_at) < Duration::from_millis(PATIENCE_MS);
        if !comes_on || !self.is_behind(backlog) {
            self.wait_until = None;
        } else if self.wait_until.is_none_or(|until| until <= now) {
            self.wait_until = Some(now + Duration::from_millis(WAIT_MS));
            self.waits_total += 1;
        }
    }

    fn note_progress(&mut self, now: Instant, backlog: &Backlog) {
        if backlog.acked() != self.acked || self.had_all {
            self.acked = backlog.acked();
            self.progress_at = now;
        }
        self.had_all = backlog.acked() == backlog.last();
    }

    /// There is nobody to wait for.
    pub(super) const fn end_wait(&mut self) {
        self.wait_until = None;
    }

    /// Until when clients wait, if they do, and nothing happens before.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.wait_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::request::StoreKey;
    use super::*;

    const LIMIT_BYTES: u64 = 16 << 20;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1000 + ms)
    }

    fn grow(backlog: &mut Backlog, changes: u64) {
        for _ in 0..changes {
            backlog.append(&Record::Gone { key: StoreKey([7; 20]) });
        }
    }

    #[test]
    fn who_is_too_far_ahead_waits_until_the_follower_has_come_on() {
        let (mut pace, mut backlog) = (Pace::new(LIMIT_BYTES), Backlog::new(0));
        pace.on_end_of_turn(at(0), &backlog, false);
        grow(&mut backlog, CHANGES_BEFORE_WAIT);
        pace.on_end_of_turn(at(1), &backlog, false);
        assert_eq!(pace.wait_until(at(1)), None);
        grow(&mut backlog, 1);
        pace.on_end_of_turn(at(2), &backlog, false);
        assert_eq!(pace.wait_until(at(2)), Some(at(2 + WAIT_MS)));
        backlog.acknowledge(1);
        pace.on_acknowledged(at(3), &backlog);
        assert_eq!((pace.wait_until(at(3)), pace.waits_total), (None, 1));
    }

    #[test]
    fn a_wait_is_short_and_the_next_one_begins_behind_a_turn() {
        let (mut pace, mut backlog) = (Pace::new(LIMIT_BYTES), Backlog::new(0));
        grow(&mut backlog, 10 * CHANGES_BEFORE_WAIT);
        pace.on_end_of_turn(at(0), &backlog, false);
        // Turns in which only the other node is heard.
        backlog.acknowledge(10);
        pace.on_acknowledged(at(2), &backlog);
        pace.on_end_of_turn(at(2), &backlog, false);
        assert_eq!(pace.wait_until(at(4)), Some(at(WAIT_MS)));
        assert_eq!(pace.wait_until(at(WAIT_MS)), None);
        pace.on_end_of_turn(at(WAIT_MS), &backlog, false);
        assert_eq!(pace.wait_until(at(6)), Some(at(2 * WAIT_MS)));
        pace.end_wait();
        assert_eq!((pace.wait_until(at(6)), pace.waits_total), (None, 2));
    }

    #[test]
    fn who_does_not_come_on_is_not_waited_for() {
        let (mut pace, mut backlog) = (Pace::new(LIMIT_BYTES), Backlog::new(0));
        pace.on_end_of_turn(at(0), &backlog, false);
        grow(&mut backlog, 2 * CHANGES_BEFORE_WAIT);
        let waits = (0..1000).filter(|&ms| {
            pace.on_end_of_turn(at(ms), &backlog, false);
            pace.wait_until(at(ms)).is_some()
        });
        assert_eq!(waits.count() as u64, PATIENCE_MS);
        backlog.acknowledge(1);
        pace.on_acknowledged(at(1000), &backlog);
        pace.on_end_of_turn(at(1000), &backlog, false);
        assert!(pace.wait_until(at(1000)).is_some(), "it is back");
    }

    #[test]
    fn a_joiner_may_be_further_behind() {
        let (mut pace, mut backlog) = (Pace::new(LIMIT_BYTES), Backlog::new(0));
        grow(&mut backlog, CHANGES_BEFORE_WAIT * TIMES_AS_MUCH_WHILE_JOINING);
        pace.on_end_of_turn(at(0), &backlog, true);
        assert_eq!(pace.wait_until(at(0)), None);
        pace.on_end_of_turn(at(0), &backlog, false);
        assert!(pace.wait_until(at(0)).is_some());
    }

    #[test]
    fn of_a_small_backlog_a_quarter_may_be_used() {
        let (mut pace, mut backlog) = (Pace::new(1024), Backlog::new(0));
        pace.on_end_of_turn(at(0), &backlog, false);
        grow(&mut backlog, 256 / 21);
        pace.on_end_of_turn(at(0), &backlog, false);
        assert_eq!(pace.wait_until(at(0)), None);
        grow(&mut backlog, 1);
        pace.on_end_of_turn(at(0), &backlog, false);
        assert!(pace.wait_until(at(0)).is_some());
    }

    #[test]
    fn the_manual_has_the_bounds() {
        let manual = include_str!("../../man/bbd-internals.7");
        let behind = format!("more than {CHANGES_BEFORE_WAIT} changes or {BYTES_BEFORE_WAIT} bytes");
        let times = format!("After {WAIT_MS} ms clients are let in");
        let patience = format!("nothing for {PATIENCE_MS} ms");
        for bound in [behind, times, patience] {
            assert!(manual.contains(&bound), "{bound}");
        }
    }
}

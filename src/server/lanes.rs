//! Who is visited next, and for how long: the two lanes of connections with work, and the share that each has of a turn. Does not own
//! who belongs where ([`Connection::is_prompt`](super::connection::Connection::is_prompt)) nor what a visit does.
//!
//! Connections that send whole requests and read their answers are in the prompt lane, which is visited first. Whoever sends a request
//! bit by bit, does not read, or asks for more than one visit serves is in the slow one, which has a short part of every turn: so
//! thousands of them delay nobody else by more than that part, and none of them waits for ever.

use std::collections::VecDeque;
use std::time::Duration;

use super::arrivals::Arrived;
use super::limits::{
    REQUESTS_PER_CLOCK, REQUESTS_PER_TURN_MAX, REQUESTS_PER_VISIT_MAX, REQUESTS_PER_VISIT_MIN, SLOW_REQUESTS_PER_TURN,
    SLOW_VISITS_TIME_MAX, VISITS_TIME_MAX,
};
use super::{Server, clock};
use crate::node::request::ConnectionId;
use crate::time::{Instant, Now};

/// The connections that wait for a visit.
#[derive(Default)]
pub(super) struct Lanes {
    /// Those that keep up.
    pub(super) prompt: VecDeque<ConnectionId>,
    /// Those that do not, and those that had work left when their visit was over.
    pub(super) slow: VecDeque<ConnectionId>,
}

impl Lanes {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.prompt.is_empty() && self.slow.is_empty()
    }
}

impl Server {
    /// Visits connections with work, for the length of a turn: at least one of each lane; none while the other node is to come on
    /// first. Says what time it is then.
    pub(super) fn visit_connections(&mut self, now: Now) -> Now {
        let lanes = &self.connections.lanes;
        let (prompt, slow) = (lanes.prompt.len(), lanes.slow.len());
        let waiting = u32::try_from(prompt + slow).unwrap_or(u32::MAX);
        if waiting == 0 || self.node.clients_wait_until(now.monotonic).is_some() {
            return now;
        }
        let quota = (REQUESTS_PER_TURN_MAX / waiting).clamp(REQUESTS_PER_VISIT_MIN, REQUESTS_PER_VISIT_MAX);
        let mut visits = Visits::new(now, slow > 0);
        let mut left = prompt;
        while left > 0 && !visits.prompt_share_is_used() {
            left -= match left {
                1 => self.visit_alone(&mut visits, quota),
                _ => self.visit_together(&mut visits, left, quota).max(1),
            };
        }
        let slow_began = visits.now.monotonic;
        for _ in 0..slow {
            let Some(id) = self.connections.next_slow() else { break };
            self.visit_one(&mut visits, id, quota, Arrived::default());
            if visits.slow_share_is_used(slow_began) {
                break;
            }
        }
        visits.now
    }

    /// Visits the next connection of the prompt lane.
    fn visit_alone(&mut self, visits: &mut Visits, quota: u32) -> usize {
        if let Some(id) = self.connections.next_prompt() {
            self.visit_one(visits, id, quota, Arrived::default());
        }
        1
    }

    /// One visit, with what has been read for it already.
    pub(super) fn visit_one(&mut self, visits: &mut Visits, id: ConnectionId, quota: u32, arrived: Arrived<'_>) {
        let served = self.visit(visits.now, id, quota, arrived);
        if visits.count(served, clock::monotonic) {
            self.requests.note_time(visits.now.monotonic);
        }
    }
}

/// What a turn's visits have used up.
pub(super) struct Visits {
    began: Instant,
    /// As the clock was last read.
    pub(super) now: Now,
    /// Requests that may still be served.
    left: u32,
    /// Requests that were served since the clock was read.
    untimed: u32,
    /// What is kept for the slow lane while somebody waits there.
    kept: (u32, Duration),
}

impl Visits {
    fn new(now: Now, slow_waits: bool) -> Self {
        let kept = if slow_waits { (SLOW_REQUESTS_PER_TURN, SLOW_VISITS_TIME_MAX) } else { (0, Duration::ZERO) };
        Self { began: now.monotonic, now, left: REQUESTS_PER_TURN_MAX, untimed: 0, kept }
    }

    /// Counts the requests of a visit, and reads the clock every few of them. Says whether it did.
    fn count(&mut self, requests: u32, clock: impl Fn() -> Instant) -> bool {
        self.left = self.left.saturating_sub(requests);
        self.untimed += requests;
        let reads_clock = self.untimed >= REQUESTS_PER_CLOCK;
        if reads_clock {
            self.untimed = 0;
            self.now.monotonic = clock();
        }
        reads_clock
    }

    pub(super) fn prompt_share_is_used(&self) -> bool {
        let (kept, kept_time) = self.kept;
        self.left <= kept || self.now.monotonic.since(self.began) >= VISITS_TIME_MAX - kept_time
    }

    fn slow_share_is_used(&self, slow_began: Instant) -> bool {
        self.left == 0 || self.now.monotonic.since(slow_began) >= SLOW_VISITS_TIME_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visits of so many requests in a row, each of so long, until the share is used: how many there were.
    fn visits_until(requests: u32, each: Duration, visits: &mut Visits, is_used: impl Fn(&Visits) -> bool) -> u32 {
        let began = visits.now.monotonic;
        (1..)
            .find(|&count| {
                visits.count(requests, || began + each * count);
                is_used(visits)
            })
            .unwrap_or_default()
    }

    fn turn(slow_waits: bool) -> Visits {
        let now = Now { monotonic: Instant::from_millis(1000), ..Now::default() };
        Visits::new(now, slow_waits)
    }

    #[test]
    fn the_prompt_lane_leaves_a_share_to_the_slow_one() {
        let prompt = |visits: &Visits| visits.prompt_share_is_used();
        let quick = Duration::from_nanos(1);
        assert_eq!(visits_until(1, quick, &mut turn(false), prompt), REQUESTS_PER_TURN_MAX);
        assert_eq!(visits_until(1, quick, &mut turn(true), prompt), REQUESTS_PER_TURN_MAX - SLOW_REQUESTS_PER_TURN);
        let slow = Duration::from_micros(10);
        assert_eq!(visits_until(8, slow, &mut turn(false), prompt), 64, "512 requests");
        let slower = Duration::from_micros(100);
        assert_eq!(visits_until(8, slower, &mut turn(false), prompt), 10, "1 ms");
        assert_eq!(visits_until(8, slower, &mut turn(true), prompt), 9, "0.9 ms");
    }

    #[test]
    fn the_slow_lane_has_its_share_and_no_more() {
        for prompt_visits in [0, 40] {
            let mut visits = turn(true);
            for _ in 0..prompt_visits {
                let before = visits.now.monotonic;
                visits.count(8, || before + Duration::from_micros(20));
            }
            let began = visits.now.monotonic;
            let slow = |visits: &Visits| visits.slow_share_is_used(began);
            assert_eq!(visits_until(8, Duration::from_micros(50), &mut visits, slow), 2, "0.1 ms");
        }
    }
}

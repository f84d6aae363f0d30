//! Requests by operation and result, and how long they took. Pure: it is told of every answer, and of the time whenever the loop
//! has read the clock anyway.
//!
//! # What a latency is
//!
//! From when the loop learnt that there was something to read on the connection (or, for a client that has sent more than one
//! visit serves, from the end of the visit before) to the first reading of the clock after the answer was handed to the socket. So
//! it holds the wait for other connections, for a lock and for the other node; it is never less than what the daemon took, and
//! more by the few requests at most that are served until the clock is read again. No clock is read for it.

use crate::api::endpoints::{ENDPOINTS, Operation};
use crate::api::errors::ERRORS;
use crate::api::{ApiError, Code};
use crate::time::Instant;

/// The upper bounds of the buckets, in nanoseconds; whatever is longer is counted in one more. The last is the longest wait for a
/// lock.
pub const LATENCY_BOUNDS_NANOS: [u64; 18] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];

/// The label of what is no endpoint's: a path that leads nowhere, bytes that are no request.
pub const NO_OPERATION: &str = "none";
const OPERATIONS: usize = ENDPOINTS.len() + 1;

/// Statuses of errors that have no code.
const STATUSES_WITHOUT_CODE: [u16; 12] = [400, 401, 404, 405, 408, 413, 414, 417, 431, 501, 503, 505];
const FIRST_CODE: usize = 1;
const FIRST_STATUS: usize = FIRST_CODE + ERRORS.len();
const OTHER: usize = FIRST_STATUS + STATUSES_WITHOUT_CODE.len();
const RESULTS: usize = OTHER + 1;
/// A row of the counts, a power of two.
const ROW: usize = RESULTS.next_power_of_two();

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerResult(usize);

impl AnswerResult {
    /// As it was asked for.
    pub const OK: Self = Self(0);

    /// With an error that has a code.
    #[must_use]
    pub const fn of_code(code: Code) -> Self {
        Self(FIRST_CODE + code as usize)
    }

    /// With an error that has none, or well.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        if status < 400 {
            return Self::OK;
        }
        let place = STATUSES_WITHOUT_CODE.iter().position(|&known| known == status);
        Self(place.map_or(OTHER, |place| FIRST_STATUS + place))
    }

    /// With this error.
    #[must_use]
    pub fn of_error(error: &ApiError) -> Self {
        error.code().map_or_else(|| Self::of_status(error.status()), Self::of_code)
    }

    /// Its label: `ok`, the code, or where there is none the status.
    #[must_use]
    pub fn label(self) -> String {
        match self.0 {
            0 => "ok".to_owned(),
            OTHER => "other".to_owned(),
            place if place < FIRST_STATUS => ERRORS[place - FIRST_CODE].name.to_owned(),
            place => STATUSES_WITHOUT_CODE[place - FIRST_STATUS].to_string(),
        }
    }
}

/// How long the requests of one operation took.
#[derive(Clone, Copy, Default)]
pub struct Latencies {
    /// How many fell into each bucket and not into a lower one; the last has no bound.
    pub buckets: [u64; LATENCY_BOUNDS_NANOS.len() + 1],
    /// Together.
    pub sum_nanos: u64,
}

/// An answer whose time is not known yet.
struct Answered {
    operation: usize,
    since: Instant,
}

/// All that is counted of requests.
pub struct Requests {
    /// A row of [`ROW`] an operation, of which the first [`RESULTS`] count.
    by_result: Box<[u64; ROW * OPERATIONS]>,
    latencies: Box<[Latencies; OPERATIONS]>,
    /// Answers that have been handed to the socket when the clock is read next.
    leaving: Vec<Answered>,
    /// Answers that are handed to the socket at the end of the turn.
    waiting: Vec<Answered>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            by_result: Box::new([0; ROW * OPERATIONS]),
            latencies: Box::new([Latencies::default(); OPERATIONS]),
            leaving: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

impl Requests {
    /// Counts an answer. It leaves with the visit under way, or else at the end of the turn.
    pub fn note(&mut self, operation: Option<Operation>, result: AnswerResult, since: Instant, leaves_now: bool) {
        let operation = operation.map_or(ENDPOINTS.len(), |operation| operation as usize);
        self.by_result[operation * ROW + result.0] += 1;
        let answers = if leaves_now { &mut self.leaving } else { &mut self.waiting };
        answers.push(Answered { operation, since });
    }

    /// The clock was read, after a visit.
    pub fn note_time(&mut self, now: Instant) {
        for &Answered { operation, since } in &self.leaving {
            self.latencies[operation].add(now.as_nanos().saturating_sub(since.as_nanos()));
        }
        self.leaving.clear();
    }

    /// The clock was read at the end of a turn: everything has left.
    pub fn note_end_of_turn(&mut self, now: Instant) {
        if !self.waiting.is_empty() {
            self.leaving.append(&mut self.waiting);
        }
        self.note_time(now);
    }

    /// What ever happened: the operation's name, the result's label and how often.
    pub fn by_result(&self) -> impl Iterator<Item = (&'static str, String, u64)> {
        names().zip(self.by_result.chunks_exact(ROW)).flat_map(|(name, counts)| {
            let counts = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
            counts.map(move |(place, &count)| (name, AnswerResult(place).label(), count))
        })
    }

    /// The latencies of the operations that were ever asked for.
    pub fn latencies(&self) -> impl Iterator<Item = (&'static str, &Latencies)> {
        names().zip(self.latencies.iter()).filter(|(_, latencies)| latencies.buckets.iter().any(|&count| count > 0))
    }
}

/// The names of all operations, in the order of [`Operation`], and that of none.
fn names() -> impl Iterator<Item = &'static str> {
    let mut names = [NO_OPERATION; OPERATIONS];
    for endpoint in &ENDPOINTS {
        names[endpoint.operation as usize] = endpoint.name;
    }
    names.into_iter()
}

impl Latencies {
    fn add(&mut self, nanos: u64) {
        // Nearly all are in one of the first buckets, so that looking from the start is the shortest way.
        let bucket = LATENCY_BOUNDS_NANOS.iter().position(|&bound| nanos <= bound);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS_NANOS.len())] += 1;
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

    use super::*;

    #[test]
    fn answers_are_timed_when_they_have_left() {
        let at = Instant::from_nanos;
        let mut requests = Requests::default();
        requests.note(Some(Operation::Snapshot), AnswerResult::OK, at(0), true);
        requests.note(Some(Operation::Update), AnswerResult::of_code(Code::StoreLocked), at(0), false);
        requests.note_time(at(10_000));
        requests.note(Some(Operation::Snapshot), AnswerResult::OK, at(10_000), true);
        requests.note(None, AnswerResult::of_status(400), at(10_000), true);
        requests.note_end_of_turn(at(20_001));
        requests.note_end_of_turn(at(1_000_000));

        let counts: Vec<_> = requests.by_result().collect();
        let expected = [("snapshot", "ok", 2), ("update", "StoreLocked", 1), ("none", "400", 1)];
        assert_eq!(counts, expected.map(|(name, result, count)| (name, result.to_owned(), count)));
        let latencies: Vec<_> = requests.latencies().collect();
        let of = |name| latencies.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(latencies.len(), 3);
        assert_eq!((of("snapshot").buckets[..3].to_vec(), of("snapshot").sum_nanos), (vec![1, 1, 0], 20_001));
        assert_eq!(of("update").sum_nanos, 20_001, "it left at the end of the turn");
        assert_eq!(of("none").sum_nanos, 10_001);
    }

    #[test]
    fn buckets_hold_their_bounds() {
        let mut latencies = Latencies::default();
        for (bucket, bound) in LATENCY_BOUNDS_NANOS.into_iter().enumerate() {
            assert!(bucket == 0 || LATENCY_BOUNDS_NANOS[bucket - 1] < bound);
            latencies.add(bound);
            latencies.add(bound + 1);
        }
        let last = LATENCY_BOUNDS_NANOS.len();
        assert_eq!((latencies.buckets[0], latencies.buckets[1], latencies.buckets[last]), (1, 2, 1));
    }

    #[test]
    fn every_result_has_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<String> =
            (0..RESULTS).map(|place| AnswerResult(place).label()).collect();
        assert_eq!(labels.len(), RESULTS);
        for row in &ERRORS {
            assert_eq!(AnswerResult::of_code(row.code).label(), row.name);
        }
        assert_eq!(AnswerResult::of_status(204).label(), "ok");
        assert_eq!(AnswerResult::of_status(431).label(), "431");
        assert_eq!(AnswerResult::of_status(599).label(), "other");
    }

    #[test]
    fn every_operation_has_one_name() {
        let places: std::collections::BTreeSet<usize> = ENDPOINTS.iter().map(|row| row.operation as usize).collect();
        assert_eq!(places, (0..ENDPOINTS.len()).collect());
    }
}

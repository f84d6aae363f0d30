//! The limits that requests and connections can meet, by name, and how often they did. Owns the one table of them; what each bounds
//! is told in the manual.

use crate::log::LogEvent;
use crate::node::response::Refusal;

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each is")]
pub enum Limit {
    Rate,
    Memory,
    CustomerMemory,
    Tombstones,
    LockWaiters,
    AnswerSize,
    BodySize,
    HeadSize,
    ReadTime,
    WriteTime,
    Connections,
    Descriptors,
}

/// One line of the table.
pub struct LimitRow {
    /// Which.
    pub limit: Limit,
    /// Its label: the name of its flag where one flag sets it.
    pub name: &'static str,
    /// What the log says when it is met.
    pub event: LogEvent,
}

const fn row(limit: Limit, name: &'static str, event: LogEvent) -> LimitRow {
    LimitRow { limit, name, event }
}

/// The table, in the order of [`Limit`].
pub static LIMITS: [LimitRow; 12] = [
    row(Limit::Rate, "rate-limit", LogEvent::RateLimitReached),
    row(Limit::Memory, "memory-limit", LogEvent::MemoryLimitReached),
    row(Limit::CustomerMemory, "customer-memory-quota", LogEvent::CustomerMemoryQuotaReached),
    row(Limit::Tombstones, "tombstones", LogEvent::TombstoneLimitReached),
    row(Limit::LockWaiters, "lock-waiters", LogEvent::LockWaitersLimitReached),
    row(Limit::AnswerSize, "answer-size", LogEvent::AnswerSizeLimitReached),
    row(Limit::BodySize, "body-size", LogEvent::BodySizeLimitReached),
    row(Limit::HeadSize, "head-size", LogEvent::HeadSizeLimitReached),
    row(Limit::ReadTime, "read-time", LogEvent::ReadTimeLimitReached),
    row(Limit::WriteTime, "write-time", LogEvent::WriteTimeLimitReached),
    row(Limit::Connections, "max-connections", LogEvent::TooManyConnections),
    row(Limit::Descriptors, "descriptors", LogEvent::NoDescriptorsLeft),
];

impl Limit {
    /// The limit that a refusal of the node is about, if it is about one.
    fn of_refusal(refusal: Refusal) -> Option<Self> {
        match refusal {
            Refusal::RateLimited { .. } => Some(Self::Rate),
            Refusal::CapacityExceeded => Some(Self::Memory),
            Refusal::CustomerQuotaExceeded => Some(Self::CustomerMemory),
            Refusal::TombstoneLimitExceeded => Some(Self::Tombstones),
            Refusal::TooManyWaiting => Some(Self::LockWaiters),
            Refusal::AnswerTooLarge => Some(Self::AnswerSize),
            Refusal::NotFound
            | Refusal::NotAuthorized
            | Refusal::StoreLocked { .. }
            | Refusal::LockMismatch
            | Refusal::LockStateUnknown { .. }
            | Refusal::NameExists
            | Refusal::StoreExpired
            | Refusal::VersionMismatch
            | Refusal::IdempotencyMismatch
            | Refusal::IdempotencyInProgress
            | Refusal::TypeMismatch { .. }
            | Refusal::ValueOutOfBounds
            | Refusal::InvalidBounds
            | Refusal::BadCounterBody(_)
            | Refusal::Overflow
            | Refusal::LeaderChanged
            | Refusal::StoreUnavailable
            | Refusal::NotReplicated { .. } => None,
        }
    }

    /// The limit that a status of HTTP without a code is about, if it is about one.
    fn of_status(status: u16) -> Option<Self> {
        match status {
            408 => Some(Self::ReadTime),
            413 => Some(Self::BodySize),
            414 | 431 => Some(Self::HeadSize),
            _ => None,
        }
    }
}

/// How often each limit was met.
#[derive(Default)]
pub struct LimitsMet {
    totals: [u64; LIMITS.len()],
    /// The same when the log was last told.
    told: [u64; LIMITS.len()],
    has_untold: bool,
}

impl LimitsMet {
    /// A limit was met.
    pub fn note(&mut self, limit: Limit) {
        self.totals[limit as usize] += 1;
        self.has_untold = true;
    }

    /// The node refused a request.
    pub fn note_refusal(&mut self, refusal: Refusal) {
        if let Some(limit) = Limit::of_refusal(refusal) {
            self.note(limit);
        }
    }

    /// A request was refused with a status that has no code.
    pub fn note_status(&mut self, status: u16) {
        if let Some(limit) = Limit::of_status(status) {
            self.note(limit);
        }
    }

    /// How often each was met.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LIMITS.iter().map(|row| row.name).zip(self.totals)
    }

    /// Whether there is something to log.
    #[must_use]
    pub const fn has_untold(&self) -> bool {
        self.has_untold
    }

    /// The events to log, with how often each happened since this was last asked.
    pub fn take_untold(&mut self) -> Vec<(LogEvent, u64)> {
        self.has_untold = false;
        let untold = LIMITS.iter().zip(self.totals.iter().zip(self.told));
        let events = untold.map(|(row, (total, told))| (row.event, total - told)).filter(|&(_, count)| count > 0);
        let events = events.collect();
        self.told = self.totals;
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_limits() {
        for (index, row) in LIMITS.iter().enumerate() {
            assert_eq!(row.limit as usize, index);
        }
    }

    #[test]
    fn the_log_is_told_once() {
        let mut met = LimitsMet::default();
        assert_eq!(met.take_untold(), []);
        met.note_refusal(Refusal::RateLimited { retry_after_ms: 1 });
        met.note_refusal(Refusal::RateLimited { retry_after_ms: 1 });
        met.note_refusal(Refusal::NotFound);
        met.note_status(431);
        met.note_status(400);
        assert_eq!(met.take_untold(), [(LogEvent::RateLimitReached, 2), (LogEvent::HeadSizeLimitReached, 1)]);
        assert_eq!(met.take_untold(), []);
        met.note(Limit::Rate);
        assert_eq!(met.take_untold(), [(LogEvent::RateLimitReached, 1)]);
        assert!(met.totals().any(|total| total == ("rate-limit", 3)));
    }
}

//! The changes a follower has not acknowledged yet, as bytes ready to be sent, in chunks that are freed whole.
//!
//! It owns the numbering of the stream and its three marks: acknowledged, sent, last. It knows nothing of what is in a record.

use std::collections::VecDeque;

use super::record::Record;

/// A chunk is closed when it has so many bytes; one batch is one chunk, or the rest of one.
const CHUNK_BYTES: usize = 64 * 1024;

/// Records that belong together.
struct Chunk {
    first_number: u64,
    bytes: Vec<u8>,
    /// Where each record begins, so that a batch can begin and end at any.
    starts: Vec<u32>,
}

/// Records to send, one behind the other.
pub(super) struct Batch<'b> {
    pub(super) first_number: u64,
    pub(super) count: u32,
    pub(super) records: &'b [u8],
}

/// The tail of the stream.
pub(super) struct Backlog {
    chunks: VecDeque<Chunk>,
    bytes: u64,
    last: u64,
    sent: u64,
    acked: u64,
}

impl Backlog {
    pub(super) const fn new(number: u64) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, last: number, sent: number, acked: number }
    }

    /// The number of the last change.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) const fn has_unsent(&self) -> bool {
        self.sent < self.last
    }

    /// What it holds, in bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Numbers a change that nobody follows.
    pub(super) const fn skip(&mut self) {
        self.last += 1;
        self.sent = self.last;
        self.acked = self.last;
    }

    pub(super) fn append(&mut self, record: &Record<'_>) {
        // An answer goes with what was done for it, which may end with a lock: with one and not the other, a repeat would do it
        // twice.
        let is_end = matches!(record, Record::Answer { .. } | Record::Lock { .. } | Record::Unlock { .. });
        let stays = is_end && self.sent < self.last;
        if self.chunks.back().is_none_or(|chunk| chunk.bytes.len() >= CHUNK_BYTES && !stays) {
            self.chunks.push_back(Chunk { first_number: self.last + 1, bytes: Vec::new(), starts: Vec::new() });
        }
        let chunk = self.chunks.back_mut().expect("there is an open chunk");
        let start = chunk.bytes.len();
        chunk.starts.push(u32::try_from(start).expect("a chunk is closed long before 4 GiB"));
        record.write(&mut chunk.bytes);
        self.bytes += (chunk.bytes.len() - start) as u64;
        self.last += 1;
    }

    /// Forgets what it holds; the stream goes on behind `last`.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.last);
    }

    /// The follower has everything up to `number`.
    pub(super) fn acknowledge(&mut self, number: u64) {
        assert!(number <= self.last, "only what was sent is acknowledged");
        self.acked = self.acked.max(number);
        self.sent = self.sent.max(number);
        while let Some(chunk) = self.chunks.front() {
            if chunk.first_number + chunk.starts.len() as u64 - 1 > self.acked {
                break;
            }
            self.bytes -= chunk.bytes.len() as u64;
            self.chunks.pop_front();
        }
    }

    /// Sends again from behind what is acknowledged: the connection was lost, and nobody knows with what on it.
    pub(super) const fn rewind(&mut self) {
        self.sent = self.acked;
    }

    /// Whether the change behind `number` can still be sent.
    pub(super) const fn holds_from(&self, number: u64) -> bool {
        self.acked <= number && number <= self.last
    }

    /// How many bytes were sent and are not acknowledged, rounded up to chunks.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        let sent = self.chunks.iter().take_while(|chunk| chunk.first_number <= self.sent);
        sent.map(|chunk| chunk.bytes.len() as u64).sum()
    }

    /// The next records to send, which are then taken for sent.
    pub(super) fn next_batch(&mut self) -> Option<Batch<'_>> {
        if !self.has_unsent() {
            return None;
        }
        let first_number = self.sent + 1;
        let place = self.chunks.partition_point(|chunk| chunk.first_number <= first_number) - 1;
        let chunk = &self.chunks[place];
        let skipped = usize::try_from(first_number - chunk.first_number).expect("a chunk's records are few");
        let count = chunk.starts.len() - skipped;
        self.sent += count as u64;
        Some(Batch {
            first_number,
            count: u32::try_from(count).expect("a chunk's records are few"),
            records: &chunk.bytes[chunk.starts[skipped] as usize..],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::StoreKey;
    use super::*;

    fn record(number: u8) -> Record<'static> {
        Record::Gone { key: StoreKey([number; 20]) }
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again() {
        let mut backlog = Backlog::new(10);
        for number in 0..5 {
            backlog.append(&record(number));
        }
        let batch = backlog.next_batch().expect("there is something to send");
        assert_eq!((batch.first_number, batch.count, batch.records.len()), (11, 5, 5 * 21));
        assert!(backlog.next_batch().is_none());
        backlog.append(&record(9));
        let batch = backlog.next_batch().expect("there is one more");
        assert_eq!((batch.first_number, batch.count, batch.records[1]), (16, 1, 9));
        backlog.acknowledge(12);
        backlog.rewind();
        let batch = backlog.next_batch().expect("it begins again");
        assert_eq!((batch.first_number, batch.count, batch.records[1]), (13, 4, 2));
        assert!(backlog.holds_from(12) && backlog.holds_from(16));
        assert!(!backlog.holds_from(11) && !backlog.holds_from(17));
        backlog.acknowledge(16);
        assert_eq!((backlog.bytes(), backlog.in_flight_bytes()), (0, 0));
    }

    #[test]
    fn chunks_are_freed_as_they_are_acknowledged() {
        let mut backlog = Backlog::new(0);
        for _ in 0..20_000 {
            backlog.append(&record(1));
        }
        assert_eq!(backlog.bytes(), 20_000 * 21);
        let mut next = 1;
        while let Some(batch) = backlog.next_batch() {
            assert_eq!(batch.first_number, next);
            next += u64::from(batch.count);
        }
        assert_eq!(next, 20_001);
        backlog.acknowledge(19_000);
        assert!(backlog.bytes() <= 2 * 65_536 + 1000 * 21);
        backlog.clear();
        assert_eq!((backlog.bytes(), backlog.last(), backlog.has_unsent()), (0, 20_000, false));
    }
}

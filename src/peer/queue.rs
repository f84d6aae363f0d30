//! Messages that wait to be sealed and sent to the peer, in their order. Pure. What is sealed has a number and cannot be
//! reordered any more, so messages are sealed as late as possible and wait here until then.
//!
//! Signs of life (heartbeats and acknowledgements) overtake the others when much waits, so that neither a snapshot nor a flood of
//! forwarded requests delays them; otherwise everything keeps its order. Overtaking is harmless: they say how far the sender has
//! come, and the newest says all that those before it said, which is why only that one is kept.
//!
//! The beginning of a stream makes what waits of the stream before it worthless: it is dropped. So a peer that takes in nothing
//! costs no more than what the node sends ahead of one beginning, and it gets one snapshot when it is back, not many.

use std::collections::VecDeque;
use std::mem;

use super::dialled::Waiting;
use super::limits::{BUFFER_KEPT_BYTES, QUEUE_BYTES_MAX, SEALED_AHEAD_BYTES};
use super::message::{Message, Path, write_message};

/// The messages that wait.
#[derive(Default)]
pub(super) struct Queue {
    /// Messages one behind the other; those before `taken_bytes` are taken.
    bytes: Vec<u8>,
    taken_bytes: usize,
    messages: VecDeque<(Path, usize)>,
    /// Some were left over when last some were sent.
    held_up: bool,
    /// The newest sign of life, if it came while others were held up; else empty.
    sign_of_life: Vec<u8>,
    taken_sign: Vec<u8>,
}

impl Queue {
    /// Appends a message. Says whether there was room.
    #[must_use]
    pub(super) fn push(&mut self, message: &Message<'_>) -> bool {
        let path = message.path();
        let is_jammed = self.held_up || self.waiting_bytes() > SEALED_AHEAD_BYTES;
        if is_jammed && path == Path::Heartbeat {
            self.sign_of_life.clear();
            return write_message(&mut self.sign_of_life, message).is_ok();
        }
        if let Message::Begin { .. } = message {
            self.drop_stream();
        }
        let before = self.bytes.len();
        if before - self.taken_bytes >= QUEUE_BYTES_MAX || write_message(&mut self.bytes, message).is_err() {
            return false;
        }
        self.messages.push_back((path, self.bytes.len() - before));
        true
    }

    /// Drops the messages of the change stream.
    fn drop_stream(&mut self) {
        let mut kept = Vec::new();
        let mut start = self.taken_bytes;
        self.messages.retain(|&(path, length)| {
            let is_kept = !matches!(path, Path::Replicate | Path::Snapshot);
            if is_kept {
                kept.extend_from_slice(&self.bytes[start..start + length]);
            }
            start += length;
            is_kept
        });
        self.bytes = kept;
        self.taken_bytes = 0;
    }

    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + usize::from(!self.sign_of_life.is_empty())
    }

    /// How many bytes of messages wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.taken_bytes + self.sign_of_life.len()
    }

    /// Notes that for now no more can be sent: what is left is held up. Gives memory back.
    pub(super) fn note_sent(&mut self) {
        self.held_up = !self.messages.is_empty();
        if !self.held_up {
            self.bytes.clear();
            self.taken_bytes = 0;
            self.bytes.shrink_to(BUFFER_KEPT_BYTES);
        } else if self.taken_bytes > self.bytes.len() / 2 {
            // Moving costs no more than what was sent.
            self.bytes.drain(..self.taken_bytes);
            self.taken_bytes = 0;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Waiting for Queue {
    fn take(&mut self, must_wait: bool) -> Option<(Path, &[u8])> {
        if !self.sign_of_life.is_empty() {
            self.taken_sign.clear();
            mem::swap(&mut self.taken_sign, &mut self.sign_of_life);
            return Some((Path::Heartbeat, &self.taken_sign));
        }
        if must_wait {
            return None;
        }
        let (path, length) = self.messages.pop_front()?;
        let start = self.taken_bytes;
        self.taken_bytes += length;
        Some((path, &self.bytes[start..self.taken_bytes]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::node::request::ConnectionId;
    use crate::peer::message::read_message;

    fn closed(connection: u64) -> Message<'static> {
        Message::ConnectionClosed { connection: ConnectionId(connection) }
    }

    fn heartbeat(sent_at_ns: u64) -> Message<'static> {
        Message::Heartbeat { epoch: 1, sent_at_ns }
    }

    /// Which message is next, in short.
    fn next(queue: &mut Queue, must_wait: bool) -> Option<u64> {
        let (path, bytes) = queue.take(must_wait)?;
        let message = read_message(bytes).unwrap();
        assert_eq!(message.path(), path);
        if let Message::ConnectionClosed { connection } = message {
            return Some(connection.0);
        }
        let Message::Heartbeat { sent_at_ns, .. } = message else { panic!("{message:?}") };
        Some(1000 + sent_at_ns)
    }

    #[test]
    fn everything_keeps_its_order_while_nothing_is_held_up() {
        let mut queue = Queue::default();
        for message in [closed(1), heartbeat(2), closed(3)] {
            assert!(queue.push(&message));
        }
        assert_eq!(next(&mut queue, true), None);
        assert_eq!([(); 4].map(|()| next(&mut queue, false)), [Some(1), Some(1002), Some(3), None]);
        queue.note_sent();
        assert_eq!(queue.waiting_bytes(), 0);
        assert!(queue.push(&heartbeat(4)) && queue.push(&closed(5)));
        assert_eq!([(); 3].map(|()| next(&mut queue, false)), [Some(1004), Some(5), None]);
    }

    #[test]
    fn the_newest_sign_of_life_overtakes_what_is_held_up() {
        let mut queue = Queue::default();
        for message in [closed(1), heartbeat(2), closed(3)] {
            assert!(queue.push(&message));
        }
        assert_eq!(next(&mut queue, false), Some(1));
        queue.note_sent();
        for message in [heartbeat(4), closed(5), heartbeat(6)] {
            assert!(queue.push(&message));
        }
        assert_eq!(next(&mut queue, true), Some(1006));
        assert_eq!(next(&mut queue, true), None);
        assert_eq!([(); 4].map(|()| next(&mut queue, false)), [Some(1002), Some(3), Some(5), None]);
    }

    fn changes(first_number: u64, records: &[u8]) -> Message<'_> {
        Message::Changes { epoch: 1, first_number, count: 1, clock_offset_ns: 0, records }
    }

    #[test]
    fn a_sign_of_life_does_not_wait_behind_much_even_if_that_is_new() {
        let mut queue = Queue::default();
        assert!(queue.push(&changes(1, &[7; SEALED_AHEAD_BYTES])));
        assert!(queue.push(&heartbeat(1)));
        assert_eq!(next(&mut queue, false), Some(1001));
        assert!(queue.take(false).is_some_and(|(path, _)| path == Path::Replicate));
    }

    #[test]
    fn a_new_beginning_makes_the_stream_before_it_worthless() {
        let mut queue = Queue::default();
        let begin = |number| Message::Begin { epoch: 1, primary: 2, number, base: 0 };
        for message in [closed(1), begin(10), changes(11, b"one"), closed(2), changes(12, b"two"), closed(3)] {
            assert!(queue.push(&message));
        }
        assert_eq!(next(&mut queue, false), Some(1));
        queue.note_sent();
        assert!(queue.push(&begin(20)) && queue.push(&changes(21, b"three")));
        assert_eq!([(); 2].map(|()| next(&mut queue, false)), [Some(2), Some(3)]);
        let (_, bytes) = queue.take(false).unwrap();
        assert!(matches!(read_message(bytes), Ok(Message::Begin { number: 20, .. })));
        let (_, bytes) = queue.take(false).unwrap();
        assert!(matches!(read_message(bytes), Ok(Message::Changes { first_number: 21, records: b"three", .. })));
        assert!(queue.take(false).is_none());
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut queue = Queue::default();
        let records = vec![7; 1 << 20];
        let changes = changes(1, &records);
        let pushed = (0..1000).take_while(|_| queue.push(&changes)).count();
        assert_eq!(pushed, QUEUE_BYTES_MAX.div_ceil(records.len() + 29));
        queue.note_sent();
        assert!(queue.push(&heartbeat(1)), "there is always room for a sign of life");
        assert_eq!(next(&mut queue, false), Some(1001));
        while queue.take(false).is_some() {
            queue.note_sent();
        }
        assert!(queue.bytes.capacity() <= BUFFER_KEPT_BYTES);
        assert!(queue.push(&closed(1)));
        queue.clear();
        assert_eq!((queue.waiting_bytes(), next(&mut queue, false)), (0, None));
    }
}

//! Answers kept for a while under their idempotency keys, so that a repeat gets the first answer and changes nothing.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::arena::{Arena, Index};
use super::codec::{read_response, write_response};
use super::request::Idempotency;
use super::response::{Answer, Refusal, Response};
use crate::time::Instant;
use crate::wheel::TimerId;
use crate::wire::Reader;

/// How long an answer is kept from the moment it was given.
pub const ANSWER_KEPT_MS: u64 = 60_000;
/// What a kept answer counts on the books beside its key and, for a lock, the blob read under it.
pub const ANSWER_OVERHEAD_BYTES: u64 = 320;

const INDEX_TABLES: usize = 256;

/// One key of one customer.
#[derive(Debug)]
struct Kept {
    customer: u32,
    key: Box<str>,
    fingerprint: [u8; 16],
    /// Its bytes; nothing while the first request has no answer yet.
    answer: Option<Box<[u8]>>,
    /// Until when, and the timer for it.
    until: Option<(Instant, TimerId)>,
    cost_bytes: u64,
}

/// What is known of an idempotency key.
pub(super) enum Seen {
    /// Nothing: this is the first.
    New,
    /// The first request has no answer yet.
    InProgress,
    /// It came with another request.
    Mismatch,
    /// It has its answer.
    Answered(u32),
}

fn hash_kept(keyed: SipHasher13, customer: u32, key: &str) -> u64 {
    let mut hasher = keyed;
    hasher.write_u32(customer);
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// All kept answers.
pub(super) struct KeptAnswers {
    arena: Arena<Kept>,
    index: Index,
    /// Keys come from outside, so they are hashed with keys nobody outside knows.
    hasher: SipHasher13,
}

impl KeptAnswers {
    pub(super) fn new(hash_keys: [u64; 2]) -> Self {
        Self {
            arena: Arena::new(),
            index: Index::new(INDEX_TABLES),
            hasher: SipHasher13::new_with_keys(hash_keys[0], hash_keys[1]),
        }
    }

    pub(super) fn look_up(&self, customer: u32, idempotency: &Idempotency<'_>) -> Seen {
        let Some(handle) = self.find(customer, idempotency.key) else { return Seen::New };
        let kept = self.arena.get(handle);
        match (&kept.answer, kept.fingerprint == idempotency.fingerprint) {
            (_, false) => Seen::Mismatch,
            (None, true) => Seen::InProgress,
            (Some(_), true) => Seen::Answered(handle),
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.arena = Arena::new();
        self.index = Index::new(INDEX_TABLES);
    }

    /// What keeping the answer of a request costs at least, in bytes.
    pub(super) const fn cost_bytes(idempotency: &Idempotency<'_>) -> u64 {
        ANSWER_OVERHEAD_BYTES + idempotency.key.len() as u64
    }

    /// Makes the place for an answer; the caller puts its cost on the books.
    pub(super) fn reserve(&mut self, customer: u32, idempotency: &Idempotency<'_>) -> u32 {
        let hash = hash_kept(self.hasher, customer, idempotency.key);
        let handle = self.arena.insert(Kept {
            customer,
            key: idempotency.key.into(),
            fingerprint: idempotency.fingerprint,
            answer: None,
            until: None,
            cost_bytes: Self::cost_bytes(idempotency),
        });
        let Self { arena, index, hasher } = self;
        index.insert(hash, handle, |other| hash_kept(*hasher, arena.get(other).customer, &arena.get(other).key));
        handle
    }

    /// Keeps the answer, or says that it is none to keep (worth a retry). Returns the bytes it adds to the books.
    pub(super) fn keep(&mut self, handle: u32, response: &Response<'_>) -> Option<u64> {
        if response.result.as_ref().is_err_and(Refusal::is_worth_a_retry) {
            return None;
        }
        let mut bytes = Vec::new();
        write_response(&mut bytes, response);
        let more_bytes = match &response.result {
            Ok(Answer::Locked { body, .. } | Answer::Blob(body)) => body.len() as u64,
            Ok(_) | Err(_) => 0,
        };
        let kept = self.arena.get_mut(handle);
        kept.answer = Some(bytes.into_boxed_slice());
        kept.cost_bytes += more_bytes;
        Some(more_bytes)
    }

    pub(super) fn set_until(&mut self, handle: u32, until: Instant, timer: TimerId) {
        self.arena.get_mut(handle).until = Some((until, timer));
    }

    pub(super) fn until(&self, handle: u32) -> Option<(Instant, TimerId)> {
        self.arena.get(handle).until
    }

    /// The answer of an `Answered` key, as it was.
    pub(super) fn replay(&self, handle: u32) -> Response<'_> {
        let bytes = self.arena.get(handle).answer.as_ref().expect("only an answered key is replayed");
        read_response(&mut Reader::new(bytes)).expect("what was written reads back")
    }

    /// Whose it is, its key and its fingerprint, if it is answered; for a snapshot.
    pub(super) fn answered(&self, handle: u32) -> Option<(u32, &str, [u8; 16])> {
        let kept = self.arena.find(handle).filter(|kept| kept.answer.is_some())?;
        Some((kept.customer, &kept.key, kept.fingerprint))
    }

    /// The key and fingerprint of a place, answered or not.
    pub(super) fn place(&self, handle: u32) -> (Box<str>, [u8; 16]) {
        let kept = self.arena.get(handle);
        (kept.key.clone(), kept.fingerprint)
    }

    pub(super) fn find(&self, customer: u32, key: &str) -> Option<u32> {
        self.index.find(hash_kept(self.hasher, customer, key), |handle| {
            let kept = self.arena.get(handle);
            kept.customer == customer && &*kept.key == key
        })
    }

    /// Handles below this one may be in use.
    pub(super) fn handles_end(&self) -> u32 {
        self.arena.handles_end()
    }

    /// Forgets an answer, or the place for one. Returns whose it was and the bytes it takes off the books.
    pub(super) fn forget(&mut self, handle: u32) -> (u32, u64) {
        let Self { arena, index, hasher } = self;
        let hash = hash_kept(*hasher, arena.get(handle).customer, &arena.get(handle).key);
        index.remove(hash, handle, |other| hash_kept(*hasher, arena.get(other).customer, &arena.get(other).key));
        let kept = arena.remove(handle);
        (kept.customer, kept.cost_bytes)
    }

    /// Whose each is and what it costs; for checks only.
    pub(super) fn costs(&self) -> impl Iterator<Item = (u32, u64)> {
        self.arena.iter().map(|(_, kept)| (kept.customer, kept.cost_bytes))
    }
}

//! Answers kept for a while under their idempotency keys, so that a repeat gets the first answer and changes nothing.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::arena::{Arena, Index};
use super::request::{Counter, Idempotency, LockId, StoreKey};
use super::response::{Answer, Refusal, Response, StepTaken, StoreFacts};

/// How long an answer is kept from the moment it was given.
pub const ANSWER_KEPT_MS: u64 = 60_000;
/// What a kept answer counts on the books beside its key and, for a lock, the blob read under it.
pub const ANSWER_OVERHEAD_BYTES: u64 = 320;

const INDEX_TABLES: usize = 256;

/// An answer to a change.
#[derive(Debug)]
enum KeptAnswer {
    Done,
    StoreId { key: StoreKey, created: bool },
    Counter { counter: Counter, step: Option<StepTaken> },
    Locked { lock: LockId, body: Box<[u8]>, created: bool },
    Deleted { count: u64 },
}

/// One key of one customer.
#[derive(Debug)]
struct Kept {
    customer: u32,
    key: Box<str>,
    fingerprint: [u8; 16],
    /// Nothing while the first request has no answer yet.
    answer: Option<(Result<KeptAnswer, Refusal>, Option<StoreFacts>)>,
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
        let found = self.index.find(hash_kept(self.hasher, customer, idempotency.key), |handle| {
            let kept = self.arena.get(handle);
            kept.customer == customer && &*kept.key == idempotency.key
        });
        let Some(handle) = found else { return Seen::New };
        let kept = self.arena.get(handle);
        match (&kept.answer, kept.fingerprint == idempotency.fingerprint) {
            (_, false) => Seen::Mismatch,
            (None, true) => Seen::InProgress,
            (Some(_), true) => Seen::Answered(handle),
        }
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
            cost_bytes: Self::cost_bytes(idempotency),
        });
        let Self { arena, index, hasher } = self;
        index.insert(hash, handle, |other| hash_kept(*hasher, arena.get(other).customer, &arena.get(other).key));
        handle
    }

    /// Keeps the answer, or says that it is none to keep (worth a retry, or no answer to a change). Returns the bytes it adds
    /// to the books.
    pub(super) fn keep(&mut self, handle: u32, response: &Response<'_>) -> Option<u64> {
        let (result, more_bytes) = match &response.result {
            Ok(Answer::Done) => (Ok(KeptAnswer::Done), 0),
            Ok(Answer::StoreId { key, created, .. }) => (Ok(KeptAnswer::StoreId { key: *key, created: *created }), 0),
            Ok(Answer::Counter { counter, step }) => (Ok(KeptAnswer::Counter { counter: *counter, step: *step }), 0),
            Ok(Answer::Locked { lock, body, created }) => {
                (Ok(KeptAnswer::Locked { lock: *lock, body: (*body).into(), created: *created }), body.len() as u64)
            }
            Ok(Answer::Deleted { count }) => (Ok(KeptAnswer::Deleted { count: *count }), 0),
            Ok(Answer::Blob(_) | Answer::Authorized | Answer::Names { .. } | Answer::Stores(_)) => return None,
            Err(refusal) if refusal.is_worth_a_retry() => return None,
            Err(refusal) => (Err(*refusal), 0),
        };
        let kept = self.arena.get_mut(handle);
        kept.answer = Some((result, response.facts));
        kept.cost_bytes += more_bytes;
        Some(more_bytes)
    }

    /// The answer of an `Answered` key, as it was.
    pub(super) fn replay<'a>(&'a self, handle: u32, customer: &'a str) -> Response<'a> {
        let (result, facts) = self.arena.get(handle).answer.as_ref().expect("only an answered key is replayed");
        let result = result.as_ref().map_err(|refusal| *refusal).map(|answer| match answer {
            KeptAnswer::Done => Answer::Done,
            KeptAnswer::StoreId { key, created } => Answer::StoreId { customer, key: *key, created: *created },
            KeptAnswer::Counter { counter, step } => Answer::Counter { counter: *counter, step: *step },
            KeptAnswer::Locked { lock, body, created } => Answer::Locked { lock: *lock, body, created: *created },
            KeptAnswer::Deleted { count } => Answer::Deleted { count: *count },
        });
        Response::new(result, *facts)
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

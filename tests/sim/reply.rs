//! Answers that outlive the node's call: what a node said, and what the model says it should have said, in one type.

use bigbunny::node::Role;
use bigbunny::node::request::{Content, Counter, LockId, StoreKey};
use bigbunny::node::response::{Answer, Refusal, Response, StepTaken, StoreFacts};
use std::borrow::Cow;
use std::hash::{Hash, Hasher};

/// A [`Response`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) result: Result<Told, Refusal>,
    pub(crate) facts: Option<StoreFacts>,
}

/// An [`Answer`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    StoreId { customer: Cow<'static, str>, key: StoreKey, created: bool },
    Blob(Cow<'static, [u8]>),
    Counter { counter: Counter, step: Option<StepTaken> },
    Locked { lock: LockId, body: Cow<'static, [u8]>, created: bool },
    Authorized,
    Names { names: Vec<Cow<'static, str>>, more: bool },
    Deleted { count: u64 },
    Stores(Vec<Option<View>>),
}

/// One store of a read of many.
pub(crate) type View = (Matter, StoreFacts);

/// What a store is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matter {
    Blob(Cow<'static, [u8]>),
    Counter(Counter),
}

impl Matter {
    /// As asked for by a client of the simulator, whose bytes live for ever.
    pub(crate) fn asked(content: &Content<'static>) -> Self {
        match *content {
            Content::Blob(bytes) => Self::Blob(Cow::Borrowed(bytes)),
            Content::Counter(counter) => Self::Counter(counter),
        }
    }

    fn told(content: &Content<'_>) -> Self {
        match *content {
            Content::Blob(bytes) => Self::Blob(Cow::Owned(bytes.to_vec())),
            Content::Counter(counter) => Self::Counter(counter),
        }
    }
}

impl From<Response<'_>> for Reply {
    fn from(response: Response<'_>) -> Self {
        assert_eq!((response.by, response.degraded), (Role::Primary, false), "a node without a peer is primary");
        let result = response.result.map(|answer| match answer {
            Answer::Done => Told::Done,
            Answer::StoreId { customer, key, created } => {
                Told::StoreId { customer: Cow::Owned(customer.to_owned()), key, created }
            }
            Answer::Blob(bytes) => Told::Blob(Cow::Owned(bytes.to_vec())),
            Answer::Counter { counter, step } => Told::Counter { counter, step },
            Answer::Locked { lock, body, created } => Told::Locked { lock, body: Cow::Owned(body.to_vec()), created },
            Answer::Authorized => Told::Authorized,
            Answer::Names { names, more } => {
                Told::Names { names: names.into_iter().map(|name| Cow::Owned(name.to_owned())).collect(), more }
            }
            Answer::Deleted { count } => Told::Deleted { count },
            Answer::Stores(views) => Told::Stores(
                views.into_iter().map(|view| view.map(|view| (Matter::told(&view.content), view.facts))).collect(),
            ),
        });
        Self { result, facts: response.facts }
    }
}

/// The hash of a trace: FNV-1a over 64-bit words, the same on every machine and in every build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceHash(u64);

impl TraceHash {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    fn counter(&mut self, counter: &Counter) {
        self.word(counter.value as u64);
        (counter.min, counter.max).hash(self);
    }

    fn facts(&mut self, facts: &StoreFacts) {
        self.word(facts.etag.version);
        self.word(u64::from(facts.etag.epoch));
        self.word(facts.ttl_left_ms);
        facts.locked.hash(self);
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        std::mem::discriminant(&reply.result).hash(self);
        match &reply.result {
            // Refusals are small and rare enough to be hashed as text.
            Err(refusal) => format!("{refusal:?}").hash(self),
            Ok(told) => {
                std::mem::discriminant(told).hash(self);
                match told {
                    Told::Done | Told::Authorized => {}
                    Told::StoreId { customer, key, created } => (customer, key, created).hash(self),
                    Told::Blob(bytes) => bytes.hash(self),
                    Told::Counter { counter, step } => {
                        self.counter(counter);
                        if let Some(step) = step {
                            (step.bounded, step.applied, step.created).hash(self);
                        }
                    }
                    Told::Locked { lock, body, created } => (lock, body, created).hash(self),
                    Told::Names { names, more } => (names, more).hash(self),
                    Told::Deleted { count } => self.word(*count),
                    Told::Stores(views) => {
                        for view in views {
                            match view {
                                None => self.word(0),
                                Some((Matter::Blob(bytes), facts)) => {
                                    bytes.hash(self);
                                    self.facts(facts);
                                }
                                Some((Matter::Counter(counter), facts)) => {
                                    self.counter(counter);
                                    self.facts(facts);
                                }
                            }
                        }
                    }
                }
            }
        }
        if let Some(facts) = &reply.facts {
            self.facts(facts);
        }
    }
}

impl Hasher for TraceHash {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0xff; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

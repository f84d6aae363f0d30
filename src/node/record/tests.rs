//! Every record: written and read back, cut at every byte, with every byte changed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;
use crate::node::request::Counter;
use crate::node::response::{Answer, Refusal};

const KEY: StoreKey = StoreKey(*b"01234567890123456789");

/// One of each kind at least, in the order of their numbers, and each optional part with and without.
fn records() -> Vec<Record<'static>> {
    let etag = Etag { epoch: 3, version: 1 << 40 };
    let counter = Counter { value: -5, min: Some(i64::MIN), max: None };
    let lock = LockId([7; 16]);
    let store = |name, content| Record::Store { key: KEY, customer: "shop", name, etag, expires_ms: u64::MAX, content };
    let answer =
        |response| Record::Answer { customer: "shop", key: "once", fingerprint: [9; 16], until_ms: 1, response };
    vec![
        store(Some("näme"), Content::Blob(b"content")),
        store(None, Content::Counter(counter)),
        Record::Expiry { key: KEY, expires_ms: 5 },
        Record::Remains { key: KEY, customer: "shop", state: State::Tombstone, until_ms: 6 },
        Record::Remains { key: KEY, customer: "shop", state: State::Expired, until_ms: 0 },
        Record::Gone { key: KEY },
        Record::Lock { key: KEY, lock, until_ms: 7, connection: Some(ConnectionId(u64::MAX)) },
        Record::Lock { key: KEY, lock, until_ms: 7, connection: None },
        Record::Unlock { key: KEY },
        answer(Response::new(Ok(Answer::Blob(b"body")), None)),
        answer(Response::new(Err(Refusal::NotFound), None)),
        Record::AnswerGone { customer: "shop", key: "once" },
        Record::SnapshotEnd,
    ]
}

/// A new kind does not compile until it has a number here, and fails below until it has a sample.
fn number(record: &Record<'_>) -> u8 {
    match record {
        Record::Store { .. } => 0,
        Record::Expiry { .. } => 1,
        Record::Remains { .. } => 2,
        Record::Gone { .. } => 3,
        Record::Lock { .. } => 4,
        Record::Unlock { .. } => 5,
        Record::Answer { .. } => 6,
        Record::AnswerGone { .. } => 7,
        Record::SnapshotEnd => 8,
    }
}

const KINDS: u8 = 9;

fn bytes_of(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    record.write(&mut out);
    out
}

/// All of `bytes` as one record.
fn whole(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let record = read_record(&mut reader)?;
    reader.finish().map(|()| record)
}

#[test]
fn there_is_a_sample_of_every_kind_and_no_other_is_read() {
    let mut kinds: Vec<u8> = records().iter().map(number).collect();
    kinds.dedup();
    assert!(kinds.into_iter().eq(0..KINDS));
    for kind in KINDS..=u8::MAX {
        let mut bytes = vec![kind];
        bytes.resize(200, 0);
        assert_eq!(read_record(&mut Reader::new(&bytes)).err(), Some(Malformed), "{kind}");
    }
}

#[test]
fn records_survive_and_nothing_else_is_read() {
    for record in records() {
        let bytes = bytes_of(&record);
        assert_eq!(bytes[0], number(&record));
        assert_eq!(format!("{:?}", whole(&bytes).unwrap()), format!("{record:?}"));
        for cut in 0..bytes.len() {
            assert_eq!(whole(&bytes[..cut]).err(), Some(Malformed), "{record:?} cut at {cut}");
        }
        let mut changed = bytes.clone();
        for (index, &byte) in bytes.iter().enumerate() {
            for other in 0..=u8::MAX {
                changed[index] = other;
                if let Ok(again) = whole(&changed) {
                    assert_eq!(bytes_of(&again), changed, "{record:?} with {other} at {index}");
                }
            }
            changed[index] = byte;
        }
        changed.push(0);
        assert_eq!(whole(&changed).err(), Some(Malformed), "{record:?} and one byte");
    }
}

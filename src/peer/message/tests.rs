//! Every message: written and read back, cut at every byte, with every byte changed, and against the table of the manual.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::borrow::Cow;

use super::*;
use crate::node::request::{Content, Etag, LockId, Operation, StoreKey};
use crate::node::response::{Answer, StoreFacts, StoreView};

const MANUAL: &str = include_str!("../../../man/bbd-internals.7");

fn request(operation: Operation<'_>) -> Request<'_> {
    Request { durable: true, ..Request::new(ConnectionId(3), "customer", operation) }
}

/// One of each kind at least, in the order of their numbers.
fn messages() -> Vec<Message<'static>> {
    let store =
        Operation::Put { name: Cow::Borrowed("name"), content: Content::Blob(b"content"), ttl_ms: Some(1), wait_ms: 2 };
    let locked = Answer::Locked { lock: LockId([1; 16]), body: b"body", created: true };
    vec![
        Message::Status { role: Role::Joining, epoch: 1, number: 2 },
        Message::Status { role: Role::Primary, epoch: EPOCH_MAX, number: NUMBER_MAX },
        Message::Status { role: Role::Secondary, epoch: 0, number: 0 },
        Message::Join { epoch: 1, primary: 2, number: 3 },
        Message::Begin { epoch: 1, primary: 2, number: 3, base: 4 },
        Message::Resume { epoch: 1, primary: 2, number: 3, base: 4 },
        Message::Changes { epoch: 1, first_number: 2, count: 0, clock_offset_ns: i64::MIN, records: b"" },
        Message::Changes { epoch: 1, first_number: 2, count: 3, clock_offset_ns: -4, records: b"some records" },
        Message::Heartbeat { epoch: 1, sent_at_ns: 2 },
        Message::Ack { epoch: 1, number: 2, heartbeat_sent_at_ns: 3, sent_at_ns: 4 },
        Message::Handover { epoch: 1 },
        Message::HandoverDone { epoch: 1, number: 2 },
        Message::HandoverRefused { epoch: 1 },
        Message::Forward { id: 1, request: request(store) },
        Message::Forwarded { id: 1, response: Response::new(Ok(locked), None) },
        Message::ConnectionClosed { connection: ConnectionId(u64::MAX) },
        Message::Unanswered { heard: 9, ids: vec![1, 7, u64::MAX] },
    ]
}

/// A new kind does not compile until it has a number and a name here, and fails below until it has a sample and stands in the manual.
fn number_and_name(message: &Message<'_>) -> (u8, &'static str) {
    match message {
        Message::Status { .. } => (0, "Status"),
        Message::Join { .. } => (1, "Join"),
        Message::Begin { .. } => (2, "Begin"),
        Message::Resume { .. } => (3, "Resume"),
        Message::Changes { .. } => (4, "Changes"),
        Message::Heartbeat { .. } => (5, "Heartbeat"),
        Message::Ack { .. } => (6, "Ack"),
        Message::Handover { .. } => (7, "Handover"),
        Message::HandoverDone { .. } => (8, "HandoverDone"),
        Message::HandoverRefused { .. } => (9, "HandoverRefused"),
        Message::Forward { .. } => (10, "Forward"),
        Message::Forwarded { .. } => (11, "Forwarded"),
        Message::ConnectionClosed { .. } => (12, "ConnectionClosed"),
        Message::Unanswered { .. } => (13, "Unanswered"),
    }
}

fn bytes_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(&mut out, message).unwrap();
    out
}

#[test]
fn the_manual_has_every_message_and_no_other() {
    let lines = MANUAL.lines().skip_while(|line| !line.starts_with(".It Sy u8 Ta Sy message")).skip(1);
    let mut table = lines.take_while(|line| line.starts_with(".It "));
    let mut last = None;
    for message in messages() {
        let (number, name) = number_and_name(&message);
        assert_eq!(bytes_of(&message)[0], number);
        if last != Some(number) {
            let row = format!(".It {number} Ta {name} Ta {} Ta ", message.path().as_str());
            let line = table.next().unwrap();
            assert!(line.starts_with(&row), "{line} is not {row}");
        }
        last = Some(number);
    }
    assert_eq!(table.next(), None);
}

#[test]
fn messages_survive_and_nothing_else_is_read() {
    for message in messages() {
        let bytes = bytes_of(&message);
        assert_eq!(format!("{:?}", read_message(&bytes).unwrap()), format!("{message:?}"));
        for cut in 0..bytes.len() {
            assert!(read_message(&bytes[..cut]).is_err(), "{message:?} cut at {cut}");
        }
        let mut changed = bytes.clone();
        for (index, &byte) in bytes.iter().enumerate() {
            for other in 0..=u8::MAX {
                changed[index] = other;
                if let Ok(message) = read_message(&changed) {
                    assert_eq!(bytes_of(&message), changed, "{message:?}");
                }
            }
            changed[index] = byte;
        }
        changed.push(0);
        assert!(read_message(&changed).is_err(), "{message:?} and one byte");
    }
}

#[test]
fn no_other_kind_is_read() {
    for kind in 13..=u8::MAX {
        let mut bytes = vec![kind];
        bytes.resize(100, 0);
        assert!(read_message(&bytes).is_err(), "{kind}");
    }
}

#[test]
fn the_bytes_of_a_message_are_what_the_manual_says() {
    let ack = Message::Ack { epoch: 0x0403_0201, number: 5, heartbeat_sent_at_ns: 6, sent_at_ns: 1 << 56 };
    assert_eq!(bytes_of(&ack), *b"\x06\x01\x02\x03\x04\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    let changes = Message::Changes { epoch: 1, first_number: 2, count: 3, clock_offset_ns: -1, records: b"rec" };
    let head = b"\x04\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x03\0\0\0";
    assert_eq!(bytes_of(&changes), [&head[..], b"rec"].concat());
    assert_eq!(head.len(), CHANGES_OVERHEAD_BYTES);
}

#[test]
fn a_message_is_appended_to_what_is_there() {
    let mut out = b"before".to_vec();
    write_message(&mut out, &Message::Handover { epoch: 7 }).unwrap();
    assert_eq!(out, b"before\x07\x07\0\0\0");
}

fn changes(records: &[u8]) -> Message<'_> {
    Message::Changes { epoch: EPOCH_MAX, first_number: 1, count: 1, clock_offset_ns: 0, records }
}

#[test]
fn the_most_records_fit_and_one_byte_more_does_not() {
    let records = vec![0; RECORDS_MAX_BYTES + 1];
    let mut out = b"before".to_vec();
    assert_eq!(write_message(&mut out, &changes(&records)), Err(TooLong));
    assert_eq!(out, b"before");
    let longest = bytes_of(&changes(&records[1..]));
    assert_eq!(longest.len(), MESSAGE_MAX_BYTES);
    assert!(read_message(&longest).is_ok());
}

#[test]
fn requests_and_answers_fit_at_their_longest() {
    let body = vec![b'x'; MAX_STORE_SIZE_BYTES as usize];
    let name = "n".repeat(256);
    let content = Content::Blob(&body);
    let put = Operation::Put { name: Cow::Borrowed(&name), content, ttl_ms: Some(1), wait_ms: 1 };
    bytes_of(&Message::Forward { id: 1, request: request(put) });
    let many = Operation::ReadMany { names: vec![Cow::Borrowed(&*name); 100] };
    bytes_of(&Message::Forward { id: 1, request: request(many) });
    let forwarded = |answer| Message::Forwarded { id: 1, response: Response::new(Ok(answer), None) };
    bytes_of(&forwarded(Answer::Blob(&body)));
    bytes_of(&forwarded(Answer::Names { names: vec![&*name; 1000], more: true }));
    bytes_of(&forwarded(Answer::StoreId { customer: "c", key: StoreKey([0; 20]), created: true }));

    let facts = StoreFacts { etag: Etag { epoch: 1, version: 1 }, ttl_left_ms: 1, locked: None };
    let view = StoreView { name: &name, content: Content::Blob(&body[..READ_MANY_MAX_BYTES as usize / 100]), facts };
    bytes_of(&forwarded(Answer::Stores(vec![Some(view); 100])));
    let whole = StoreView { content, ..view };
    let mut out = b"before".to_vec();
    assert_eq!(write_message(&mut out, &forwarded(Answer::Stores(vec![Some(whole); 4]))), Err(TooLong));
    assert_eq!(out, b"before");
}

#[test]
fn nobody_counts_beyond_what_can_be_counted() {
    let (epoch, number) = (EPOCH_MAX, NUMBER_MAX);
    assert!(read_message(&bytes_of(&Message::HandoverDone { epoch, number })).is_ok());
    for message in [
        Message::HandoverDone { epoch: epoch + 1, number },
        Message::HandoverDone { epoch, number: number + 1 },
        Message::Begin { epoch, primary: 1, number, base: number + 1 },
        Message::Changes { epoch, first_number: number + 1, count: 1, clock_offset_ns: 0, records: b"" },
    ] {
        assert!(read_message(&bytes_of(&message)).is_err(), "{message:?}");
    }
}

#[test]
fn paths_are_found_by_their_text_alone() {
    for path in Path::ALL {
        assert_eq!(Path::of(path.as_str()), Some(path));
        assert_eq!(Path::of(&path.as_str()[..path.as_str().len() - 1]), None);
    }
    for text in ["", "/", "/internal/", "/internal/hello/", "/internal/promote", "/INTERNAL/HELLO"] {
        assert_eq!(Path::of(text), None, "{text}");
    }
}

//! Every operation, answer and refusal: written and read back, cut at every byte, with every byte changed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::*;

const KEY: StoreKey = StoreKey(*b"01234567890123456789");
const LOCK: LockId = LockId(*b"0123456789abcdef");
const BOUNDED: Counter = Counter { value: -5, min: Some(i64::MIN), max: Some(i64::MAX) };
const UNBOUNDED: Counter = Counter { value: i64::MAX, min: None, max: None };
const ETAG: Etag = Etag { epoch: u32::MAX, version: 1 << 40 };

/// One operation of each kind at least, and each optional part with and without.
fn operations() -> Vec<Operation<'static>> {
    let name = || Cow::Borrowed("näme");
    let touch = || Some(TouchOnRead { ttl_ms: 7, if_below_ms: Some(9) });
    let names = || vec![name(), Cow::Borrowed("b"), name()];
    let make = |ttl_ms| Some(CounterToMake { counter: BOUNDED, ttl_ms });
    vec![
        Operation::Create { content: Content::Blob(b""), ttl_ms: None },
        Operation::Create { content: Content::Counter(BOUNDED), ttl_ms: Some(u64::MAX) },
        Operation::CreateNamed { name: name(), content: Content::Blob(b"blob"), ttl_ms: Some(0), reuse: true },
        Operation::Put { name: name(), content: Content::Counter(UNBOUNDED), ttl_ms: Some(1), wait_ms: 30_000 },
        Operation::Lookup { name: name() },
        Operation::Read { target: Target::Key(KEY), touch: None },
        Operation::Read { target: Target::Name(name()), touch: touch() },
        Operation::Read { target: Target::Key(KEY), touch: Some(TouchOnRead { ttl_ms: 1, if_below_ms: None }) },
        Operation::Authorize { name: None, touch: touch() },
        Operation::Authorize { name: Some(name()), touch: None },
        Operation::Update { key: KEY, body: b"{\"value\":1}", ttl_ms: None, wait_ms: 0 },
        Operation::BeginModify {
            target: Target::Name(name()),
            wait_ms: 1,
            hold_ms: Some(2),
            connection_scope: true,
            renew: Some(LOCK),
            create_if_missing: false,
            ttl_ms: Some(3),
        },
        Operation::BeginModify {
            target: Target::Key(KEY),
            wait_ms: 0,
            hold_ms: None,
            connection_scope: false,
            renew: None,
            create_if_missing: true,
            ttl_ms: None,
        },
        Operation::CompleteModify { target: Target::Key(KEY), lock: LOCK, body: b"new", ttl_ms: Some(1) },
        Operation::CancelModify { target: Target::Key(KEY), lock: LockId::FOREIGN },
        Operation::Delete { target: Target::Name(name()) },
        Operation::Increment {
            target: Target::Name(name()),
            delta: -(1 << 63),
            reject_at_bound: true,
            make: make(Some(5)),
            ttl_ms: None,
        },
        Operation::Increment {
            target: Target::Key(KEY),
            delta: 1 << 63,
            reject_at_bound: false,
            make: None,
            ttl_ms: Some(6),
        },
        Operation::Increment {
            target: Target::Name(name()),
            delta: 0,
            reject_at_bound: false,
            make: make(None),
            ttl_ms: None,
        },
        Operation::Touch { target: Target::Key(KEY), ttl_ms: 315_360_000_000 },
        Operation::List { prefix: Cow::Borrowed(""), after: None, limit: 1000 },
        Operation::List { prefix: name(), after: Some(name()), limit: 1 },
        Operation::DeletePrefix { prefix: Cow::Borrowed("") },
        Operation::ReadMany { names: vec![] },
        Operation::ReadMany { names: names() },
        Operation::DeleteMany { names: names() },
        Operation::Rename { name: name(), to: Cow::Borrowed("other") },
    ]
}

/// A new variant does not compile until it has a place here, and fails below until it has a sample.
fn place_of_operation(operation: &Operation<'_>) -> usize {
    match operation {
        Operation::Create { .. } => 0,
        Operation::CreateNamed { .. } => 1,
        Operation::Put { .. } => 2,
        Operation::Lookup { .. } => 3,
        Operation::Read { .. } => 4,
        Operation::Authorize { .. } => 5,
        Operation::Update { .. } => 6,
        Operation::BeginModify { .. } => 7,
        Operation::CompleteModify { .. } => 8,
        Operation::CancelModify { .. } => 9,
        Operation::Delete { .. } => 10,
        Operation::Increment { .. } => 11,
        Operation::Touch { .. } => 12,
        Operation::List { .. } => 13,
        Operation::DeletePrefix { .. } => 14,
        Operation::ReadMany { .. } => 15,
        Operation::DeleteMany { .. } => 16,
        Operation::Rename { .. } => 17,
    }
}

fn requests() -> Vec<Request<'static>> {
    let request = |operation| Request::new(ConnectionId(u64::MAX - 1), "Shop_7-b", operation);
    let mut requests: Vec<_> = operations().into_iter().map(request).collect();
    let lookup = || request(Operation::Lookup { name: Cow::Borrowed("n") });
    for if_match in [IfMatch::Unset, IfMatch::Any, IfMatch::Tag(ETAG), IfMatch::Foreign] {
        let condition = Condition { if_match, if_none_match_any: true };
        requests.push(Request { condition, durable: true, ..lookup() });
    }
    let idempotency = Some(Idempotency { key: "a key", fingerprint: [9; 16] });
    requests.push(Request { idempotency, from_primary: true, ..lookup() });
    requests
}

fn answers() -> Vec<Answer<'static>> {
    let facts = StoreFacts { etag: ETAG, ttl_left_ms: 1, locked: None };
    let view = |content| Some(StoreView { name: "n", content, facts });
    let step = StepTaken { bounded: true, applied: i128::from(i64::MIN), created: false };
    vec![
        Answer::Done,
        Answer::StoreId { customer: "c", key: KEY, created: true },
        Answer::Blob(b"some bytes"),
        Answer::Blob(b""),
        Answer::Counter { counter: UNBOUNDED, step: None },
        Answer::Counter { counter: BOUNDED, step: Some(step) },
        Answer::Locked { lock: LOCK, body: b"body", created: false },
        Answer::Authorized,
        Answer::Names { names: vec![], more: false },
        Answer::Names { names: vec!["a", "ö"], more: true },
        Answer::Deleted { count: u64::MAX },
        Answer::Stores(vec![]),
        Answer::Stores(vec![view(Content::Blob(b"x")), None, view(Content::Counter(BOUNDED))]),
    ]
}

fn place_of_answer(answer: &Answer<'_>) -> usize {
    match answer {
        Answer::Done => 0,
        Answer::StoreId { .. } => 1,
        Answer::Blob(_) => 2,
        Answer::Counter { .. } => 3,
        Answer::Locked { .. } => 4,
        Answer::Authorized => 5,
        Answer::Names { .. } => 6,
        Answer::Deleted { .. } => 7,
        Answer::Stores(_) => 8,
    }
}

fn refusals() -> Vec<Refusal> {
    let mut refusals = vec![
        Refusal::NotFound,
        Refusal::NotAuthorized,
        Refusal::StoreLocked { retry_after_ms: u64::MAX },
        Refusal::LockMismatch,
        Refusal::LockStateUnknown { retry_after_ms: 1 },
        Refusal::NameExists,
        Refusal::StoreExpired,
        Refusal::VersionMismatch,
        Refusal::IdempotencyMismatch,
        Refusal::IdempotencyInProgress,
        Refusal::TypeMismatch { needed: "blob" },
        Refusal::TypeMismatch { needed: "counter" },
        Refusal::ValueOutOfBounds,
        Refusal::InvalidBounds,
        Refusal::Overflow,
        Refusal::RateLimited { retry_after_ms: 0 },
        Refusal::TombstoneLimitExceeded,
        Refusal::CapacityExceeded,
        Refusal::CustomerQuotaExceeded,
        Refusal::TooManyWaiting,
        Refusal::LeaderChanged,
        Refusal::StoreUnavailable,
        Refusal::NotReplicated { applied: false },
        Refusal::NotReplicated { applied: true },
        Refusal::AnswerTooLarge,
    ];
    refusals.extend(CounterBodyMistake::ALL.map(Refusal::BadCounterBody));
    refusals
}

fn place_of_refusal(refusal: Refusal) -> usize {
    match refusal {
        Refusal::NotFound => 0,
        Refusal::NotAuthorized => 1,
        Refusal::StoreLocked { .. } => 2,
        Refusal::LockMismatch => 3,
        Refusal::LockStateUnknown { .. } => 4,
        Refusal::NameExists => 5,
        Refusal::StoreExpired => 6,
        Refusal::VersionMismatch => 7,
        Refusal::IdempotencyMismatch => 8,
        Refusal::IdempotencyInProgress => 9,
        Refusal::TypeMismatch { .. } => 10,
        Refusal::ValueOutOfBounds => 11,
        Refusal::InvalidBounds => 12,
        Refusal::BadCounterBody(_) => 13,
        Refusal::Overflow => 14,
        Refusal::RateLimited { .. } => 15,
        Refusal::TombstoneLimitExceeded => 16,
        Refusal::CapacityExceeded => 17,
        Refusal::CustomerQuotaExceeded => 18,
        Refusal::TooManyWaiting => 19,
        Refusal::LeaderChanged => 20,
        Refusal::StoreUnavailable => 21,
        Refusal::NotReplicated { .. } => 22,
        Refusal::AnswerTooLarge => 23,
    }
}

fn responses() -> Vec<Response<'static>> {
    let facts = Some(StoreFacts { etag: ETAG, ttl_left_ms: u64::MAX, locked: Some(true) });
    let mut responses: Vec<_> = answers().into_iter().map(|answer| Response::new(Ok(answer), facts)).collect();
    responses.extend(refusals().into_iter().map(|refusal| Response::new(Err(refusal), None)));
    for by in [Role::Joining, Role::Primary, Role::Secondary] {
        responses.push(Response { by, degraded: true, ..Response::new(Ok(Answer::Done), None) });
    }
    responses
}

#[test]
fn there_is_a_sample_of_everything() {
    let places = |places: BTreeSet<usize>, count| assert!(places.into_iter().eq(0..count));
    places(operations().iter().map(place_of_operation).collect(), 18);
    places(answers().iter().map(place_of_answer).collect(), 9);
    places(refusals().into_iter().map(place_of_refusal).collect(), 24);
}

fn request_bytes(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_request(&mut out, request);
    out
}

fn response_bytes(response: &Response<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_response(&mut out, response);
    out
}

/// All of `bytes` as one thing.
fn whole<'b, T>(bytes: &'b [u8], read: impl Fn(&mut Reader<'b>) -> Result<T, Malformed>) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes);
    let thing = read(&mut reader)?;
    reader.finish().map(|()| thing)
}

/// What is written is read back, no part of it is, and what is read after a change of one byte is written back just so: there is one
/// spelling of each thing.
fn check<T: Debug>(
    thing: &T,
    write: impl Fn(&T) -> Vec<u8>,
    read: impl Fn(&[u8]) -> Result<Vec<u8>, Malformed>,
    debug: impl Fn(&[u8]) -> String,
) {
    let bytes = write(thing);
    assert_eq!(read(&bytes), Ok(bytes.clone()), "{thing:?}");
    assert_eq!(debug(&bytes), format!("{thing:?}"));
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Err(Malformed), "{thing:?} cut at {cut}");
    }
    let mut changed = bytes.clone();
    for (index, &byte) in bytes.iter().enumerate() {
        for other in 0..=u8::MAX {
            changed[index] = other;
            if let Ok(again) = read(&changed) {
                assert_eq!(again, changed, "{thing:?} with {other} at {index}");
            }
        }
        changed[index] = byte;
    }
    changed.push(0);
    assert_eq!(read(&changed), Err(Malformed), "{thing:?} and one byte");
}

#[test]
fn requests_survive_and_nothing_else_is_read() {
    for request in requests() {
        check(
            &request,
            request_bytes,
            |bytes| whole(bytes, read_request).map(|request| request_bytes(&request)),
            |bytes| format!("{:?}", whole(bytes, read_request).unwrap()),
        );
    }
}

#[test]
fn responses_survive_and_nothing_else_is_read() {
    for response in responses() {
        check(
            &response,
            response_bytes,
            |bytes| whole(bytes, read_response).map(|response| response_bytes(&response)),
            |bytes| format!("{:?}", whole(bytes, read_response).unwrap()),
        );
    }
}

#[test]
fn a_list_has_no_more_names_than_a_page() {
    let list = |count: u32| {
        let mut bytes = count.to_le_bytes().to_vec();
        (0..count).for_each(|_| write_str(&mut bytes, "n"));
        bytes
    };
    assert_eq!(whole(&list(1000), read_names).unwrap().len(), 1000);
    assert_eq!(whole(&list(NAMES_MAX + 1), read_names), Err(Malformed));
}

#[test]
fn a_length_that_lies_is_refused_without_room_being_made_for_it() {
    for count in [2, NAMES_MAX, u32::MAX] {
        let mut bytes = count.to_le_bytes().to_vec();
        write_str(&mut bytes, "n");
        assert_eq!(whole(&bytes, read_names), Err(Malformed));
    }
}

#[test]
fn a_name_has_1_to_256_bytes() {
    for (length, fits) in [(0, false), (1, true), (256, true), (257, false)] {
        let mut bytes = Vec::new();
        write_str(&mut bytes, &"n".repeat(length));
        assert_eq!(whole(&bytes, read_name).is_ok(), fits, "{length}");
    }
}

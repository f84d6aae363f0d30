//! The node's answers, written as HTTP: statuses, headers, content types, JSON.
//!
//! Answers about one blob or counter are written without an allocation; lists are made in a buffer of their own first, since
//! their length stands before them.

use base64ct::{Base64, Encoding};

use super::ReplyShape;
use super::endpoints::Operation;
use super::errors::{ApiError, finish_error};
use super::text::Text;
use crate::http::{AnswerWriter, HttpDate, ReplyFrame, header};
use crate::json::write_string;
use crate::node::Role;
use crate::node::request::{Content, Counter, Etag, LockId};
use crate::node::response::{Answer, Response, StepTaken, StoreFacts, StoreView};
use crate::store_id::{KeyRing, MAX_STORE_ID_CHARS};

const BLOB: Option<&str> = Some("application/octet-stream");
const JSON: Option<&str> = Some("application/json");
const PLAIN: Option<&str> = Some("text/plain");

/// The most that a counter's JSON takes: eight numbers of at most 20 characters and a sign, and about 110 of keys.
const MAX_COUNTER_BYTES: usize = 320;
/// Characters of a lock id.
const LOCK_ID_CHARS: usize = 22;

/// The response headers that some answer carries, and what each says. The manual is checked against this.
pub static RESPONSE_HEADERS: [(&str, &str); 13] = [
    ("Allow", "the methods that this path has"),
    ("BigBunny-Error-Code", "the code of an error"),
    ("BigBunny-Lock-ID", "the lock that was taken"),
    ("BigBunny-Lock-State", "held, free, or unknown after a failover"),
    ("BigBunny-Not-Valid-After", "the seconds left, rounded up"),
    ("BigBunny-Not-Valid-After-Ms", "the milliseconds left"),
    ("BigBunny-Retry-After-Ms", "when a repeat may succeed, in milliseconds"),
    ("BigBunny-Role", "which node answered"),
    ("BigBunny-Warning", "DegradedWrite: made without a lease, and may be lost"),
    ("Content-Type", "what the body is"),
    ("Date", "when the answer was made"),
    ("ETag", "the version of the store"),
    ("Retry-After", "when a repeat may succeed, in seconds"),
];

/// Writes an answer of the node behind whatever `out` holds.
pub fn write_answer(
    out: &mut Vec<u8>,
    frame: &ReplyFrame,
    date: &HttpDate,
    shape: ReplyShape,
    response: &Response<'_>,
    keyring: &mut KeyRing,
) {
    match &response.result {
        Ok(answer) => {
            let mut writer = AnswerWriter::start(out, status(shape, answer), frame, date);
            write_facts(&mut writer, shape, response);
            finish_answer(writer, shape, answer, response.facts.as_ref(), keyring);
        }
        Err(refusal) => {
            let error = ApiError::from(*refusal);
            let mut writer = AnswerWriter::start(out, error.status(), frame, date);
            write_facts(&mut writer, shape, response);
            finish_error(writer, &error);
        }
    }
}

/// The status of an answer that is no error.
fn status(shape: ReplyShape, answer: &Answer<'_>) -> u16 {
    match answer {
        Answer::StoreId { created: true, .. } if shape.operation == Operation::NamedPut => 201,
        Answer::Locked { created: true, .. } => 201,
        Answer::Authorized => 204,
        Answer::Done
        | Answer::StoreId { .. }
        | Answer::Blob(_)
        | Answer::Counter { .. }
        | Answer::Locked { .. }
        | Answer::Names { .. }
        | Answer::Deleted { .. }
        | Answer::Stores(_) => 200,
    }
}

/// What is said of the store and of the node, whether the request was refused or not.
fn write_facts(writer: &mut AnswerWriter<'_>, shape: ReplyShape, response: &Response<'_>) {
    if let Some(facts) = &response.facts {
        header!(writer, "ETag", b"\"", u64::from(facts.etag.epoch), b".", facts.etag.version, b"\"");
    }
    if matches!(shape.operation, Operation::Snapshot | Operation::NamedGet | Operation::LookupIdByName) {
        match response.by {
            Role::Primary => header!(writer, "BigBunny-Role", b"primary"),
            Role::Secondary | Role::Joining => header!(writer, "BigBunny-Role", b"secondary"),
        };
    }
    if response.degraded {
        header!(writer, "BigBunny-Warning", b"DegradedWrite");
    }
}

fn push_etag<const N: usize>(text: &mut Text<N>, etag: Etag) {
    text.push_integer(etag.epoch);
    text.push(b'.');
    text.push_integer(etag.version);
}

fn write_time_left(writer: &mut AnswerWriter<'_>, facts: Option<&StoreFacts>) {
    if let Some(facts) = facts {
        header!(writer, "BigBunny-Not-Valid-After", facts.ttl_left_ms.div_ceil(1000));
        header!(writer, "BigBunny-Not-Valid-After-Ms", facts.ttl_left_ms);
    }
}

/// Everything behind the headers that answers have in common.
fn finish_answer(
    mut writer: AnswerWriter<'_>,
    shape: ReplyShape,
    answer: &Answer<'_>,
    facts: Option<&StoreFacts>,
    keyring: &mut KeyRing,
) {
    match answer {
        Answer::Done if shape.operation == Operation::Promote => writer.body(PLAIN, b"this node is PRIMARY\n"),
        Answer::Done => writer.body(None, b""),
        Answer::StoreId { customer, key, .. } => {
            let mut id = Vec::with_capacity(MAX_STORE_ID_CHARS);
            keyring.seal(customer, key, &mut id);
            writer.body(PLAIN, &id);
        }
        Answer::Blob(blob) => {
            write_time_left(&mut writer, facts);
            if let Some(locked) = facts.and_then(|facts| facts.locked) {
                let state: &[u8] = if locked { b"held" } else { b"free" };
                header!(writer, "BigBunny-Lock-State", state);
            }
            writer.body(BLOB, blob);
        }
        Answer::Counter { counter, step } => {
            write_time_left(&mut writer, facts);
            let by_name = shape.operation == Operation::NamedIncrement;
            let mut json = Text::<MAX_COUNTER_BYTES>::new();
            push_counter(&mut json, counter, step.as_ref(), facts, by_name);
            writer.body(JSON, json.as_bytes());
        }
        Answer::Locked { lock, body, .. } => {
            write_time_left(&mut writer, facts);
            write_lock_id(&mut writer, *lock);
            writer.body(BLOB, body);
        }
        Answer::Authorized => {
            write_time_left(&mut writer, facts);
            writer.body(None, b"");
        }
        Answer::Names { names, more } => writer.body(JSON, &names_json(names, *more)),
        Answer::Deleted { count } => {
            let mut json = Text::<40>::new();
            json.push_str("{\"deleted\":");
            json.push_integer(*count);
            json.push(b'}');
            writer.body(JSON, json.as_bytes());
        }
        Answer::Stores(stores) => writer.body(JSON, &stores_json(stores)),
    }
}

fn write_lock_id(writer: &mut AnswerWriter<'_>, lock: LockId) {
    let mut text = [0; LOCK_ID_CHARS];
    // 16 bytes are 22 characters, so that the encoding cannot fail.
    if let Ok(text) = base64ct::Base64UrlUnpadded::encode(&lock.0, &mut text) {
        header!(writer, "BigBunny-Lock-ID", text.as_bytes());
    }
}

/// `{"value":55,"version":2,"bounded":false,"min":0,"max":100}`, and for steps by name what was done beside.
fn push_counter(
    json: &mut Text<MAX_COUNTER_BYTES>,
    counter: &Counter,
    step: Option<&StepTaken>,
    facts: Option<&StoreFacts>,
    by_name: bool,
) {
    json.push_str("{\"value\":");
    json.push_integer(counter.value);
    if let Some(facts) = facts {
        json.push_str(",\"version\":");
        json.push_integer(facts.etag.version);
    }
    if let Some(step) = step {
        json.push_str(if step.bounded { ",\"bounded\":true" } else { ",\"bounded\":false" });
    }
    for (key, bound) in [(",\"min\":", counter.min), (",\"max\":", counter.max)] {
        if let Some(bound) = bound {
            json.push_str(key);
            json.push_integer(bound);
        }
    }
    if let Some(step) = step.filter(|_| by_name) {
        json.push_str(",\"applied\":");
        json.push_integer(step.applied);
        json.push_str(if step.created { ",\"created\":true" } else { ",\"created\":false" });
        if let Some(max) = counter.max {
            json.push_str(",\"remaining\":");
            json.push_integer(i128::from(max) - i128::from(counter.value));
        }
        if let Some(facts) = facts {
            json.push_str(",\"ttl_ms\":");
            json.push_integer(facts.ttl_left_ms);
        }
    }
    json.push(b'}');
}

/// `{"names":["a","b"],"next":"b"}`
fn names_json(names: &[&str], more: bool) -> Vec<u8> {
    let mut json = Vec::with_capacity(32 + names.iter().map(|name| name.len() + 3).sum::<usize>());
    json.extend_from_slice(b"{\"names\":[");
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write_string(&mut json, name);
    }
    json.push(b']');
    if let Some(last) = names.last().filter(|_| more) {
        json.extend_from_slice(b",\"next\":");
        write_string(&mut json, last);
    }
    json.push(b'}');
    json
}

/// `{"stores":[{"name":"a","body":"…","encoding":"utf8","etag":"1.1","ttl_ms":1},null]}`
fn stores_json(stores: &[Option<StoreView<'_>>]) -> Vec<u8> {
    let mut json = b"{\"stores\":[".to_vec();
    for (index, store) in stores.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        match store {
            Some(store) => write_store(&mut json, store),
            None => json.extend_from_slice(b"null"),
        }
    }
    json.extend_from_slice(b"]}");
    json
}

fn write_store(json: &mut Vec<u8>, store: &StoreView<'_>) {
    json.extend_from_slice(b"{\"name\":");
    write_string(json, store.name);
    match store.content {
        Content::Blob(blob) => write_blob(json, blob),
        Content::Counter(counter) => {
            let mut text = Text::<MAX_COUNTER_BYTES>::new();
            push_counter(&mut text, &counter, None, Some(&store.facts), false);
            // Its keys stand among the store's own, so that the braces are left away.
            json.push(b',');
            json.extend_from_slice(
                text.as_bytes().strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).unwrap_or(b""),
            );
        }
    }
    let mut tail = Text::<96>::new();
    tail.push_str(",\"etag\":\"");
    push_etag(&mut tail, store.facts.etag);
    tail.push_str("\",\"ttl_ms\":");
    tail.push_integer(store.facts.ttl_left_ms);
    tail.push(b'}');
    json.extend_from_slice(tail.as_bytes());
}

fn write_blob(json: &mut Vec<u8>, blob: &[u8]) {
    json.extend_from_slice(b",\"body\":");
    match std::str::from_utf8(blob) {
        Ok(text) => {
            write_string(json, text);
            json.extend_from_slice(b",\"encoding\":\"utf8\"");
        }
        Err(_) => {
            json.push(b'"');
            json.extend_from_slice(Base64::encode_string(blob).as_bytes());
            json.extend_from_slice(b"\",\"encoding\":\"base64\"");
        }
    }
}

//! The bytes of requests and answers on their way between two nodes, on the primitives of [`crate::wire`]. Enumerations are one
//! byte with the number that stands beside the variant below; nothing that is not written here can be read.

use std::borrow::Cow;

use super::Role;
use super::request::{
    Condition, ConnectionId, Content, Counter, CounterToMake, Etag, Idempotency, IfMatch, LockId, Operation, Request,
    StoreKey, Target, TouchOnRead,
};
use super::response::{Answer, Refusal, Response, StepTaken, StoreFacts, StoreView};
use crate::json::CounterBodyMistake;
use crate::wire::{Malformed, Reader, Write as _};

/// Names in one request or answer: a page of a list at most.
const NAMES_MAX: u32 = 1001;

/// Appends a request.
pub fn write_request(out: &mut Vec<u8>, request: &Request<'_>) {
    out.put_u64(request.connection.0);
    out.put_bytes(request.customer.as_bytes());
    out.put_bool(request.durable);
    out.put_bool(request.from_primary);
    out.put_bool(request.condition.if_none_match_any);
    match request.condition.if_match {
        IfMatch::Unset => out.put_u8(0),
        IfMatch::Any => out.put_u8(1),
        IfMatch::Tag(etag) => {
            out.put_u8(2);
            write_etag(out, etag);
        }
        IfMatch::Foreign => out.put_u8(3),
    }
    out.put_option(request.idempotency.as_ref(), |out, idempotency| {
        out.put_bytes(idempotency.key.as_bytes());
        out.put_array(&idempotency.fingerprint);
    });
    write_operation(out, &request.operation);
}

/// Reads a request.
pub fn read_request<'b>(reader: &mut Reader<'b>) -> Result<Request<'b>, Malformed> {
    Ok(Request {
        connection: ConnectionId(reader.u64()?),
        customer: read_text(reader, 64)?,
        durable: reader.bool()?,
        from_primary: reader.bool()?,
        condition: Condition {
            if_none_match_any: reader.bool()?,
            if_match: match reader.u8()? {
                0 => IfMatch::Unset,
                1 => IfMatch::Any,
                2 => IfMatch::Tag(read_etag(reader)?),
                3 => IfMatch::Foreign,
                _ => return Err(Malformed),
            },
        },
        idempotency: reader
            .option(|reader| Ok(Idempotency { key: read_text(reader, 128)?, fingerprint: reader.array()? }))?,
        operation: read_operation(reader)?,
    })
}

fn write_operation(out: &mut Vec<u8>, operation: &Operation<'_>) {
    match operation {
        Operation::Create { content, ttl_ms } => {
            out.put_u8(0);
            write_content(out, content);
            write_ms(out, *ttl_ms);
        }
        Operation::CreateNamed { name, content, ttl_ms, reuse } => {
            out.put_u8(1);
            write_str(out, name);
            write_content(out, content);
            write_ms(out, *ttl_ms);
            out.put_bool(*reuse);
        }
        Operation::Put { name, content, ttl_ms, wait_ms } => {
            out.put_u8(2);
            write_str(out, name);
            write_content(out, content);
            write_ms(out, *ttl_ms);
            out.put_u64(*wait_ms);
        }
        Operation::Lookup { name } => {
            out.put_u8(3);
            write_str(out, name);
        }
        Operation::Read { target, touch } => {
            out.put_u8(4);
            write_target(out, target);
            write_touch(out, touch.as_ref());
        }
        Operation::Authorize { name, touch } => {
            out.put_u8(5);
            out.put_option(name.as_ref(), |out, name| write_str(out, name));
            write_touch(out, touch.as_ref());
        }
        Operation::Update { key, body, ttl_ms, wait_ms } => {
            out.put_u8(6);
            out.put_array(&key.0);
            out.put_bytes(body);
            write_ms(out, *ttl_ms);
            out.put_u64(*wait_ms);
        }
        Operation::BeginModify { target, wait_ms, hold_ms, connection_scope, renew, create_if_missing, ttl_ms } => {
            out.put_u8(7);
            write_target(out, target);
            out.put_u64(*wait_ms);
            write_ms(out, *hold_ms);
            out.put_bool(*connection_scope);
            out.put_option(*renew, |out, lock| out.put_array(&lock.0));
            out.put_bool(*create_if_missing);
            write_ms(out, *ttl_ms);
        }
        Operation::CompleteModify { target, lock, body, ttl_ms } => {
            out.put_u8(8);
            write_target(out, target);
            out.put_array(&lock.0);
            out.put_bytes(body);
            write_ms(out, *ttl_ms);
        }
        Operation::CancelModify { target, lock } => {
            out.put_u8(9);
            write_target(out, target);
            out.put_array(&lock.0);
        }
        Operation::Delete { target } => {
            out.put_u8(10);
            write_target(out, target);
        }
        Operation::Increment { target, delta, reject_at_bound, make, ttl_ms } => {
            out.put_u8(11);
            write_target(out, target);
            out.put_i128(*delta);
            out.put_bool(*reject_at_bound);
            out.put_option(make.as_ref(), |out, make| {
                write_counter(out, &make.counter);
                write_ms(out, make.ttl_ms);
            });
            write_ms(out, *ttl_ms);
        }
        Operation::Touch { target, ttl_ms } => {
            out.put_u8(12);
            write_target(out, target);
            out.put_u64(*ttl_ms);
        }
        Operation::List { prefix, after, limit } => {
            out.put_u8(13);
            write_str(out, prefix);
            out.put_option(after.as_ref(), |out, after| write_str(out, after));
            out.put_u64(*limit as u64);
        }
        Operation::DeletePrefix { prefix } => {
            out.put_u8(14);
            write_str(out, prefix);
        }
        Operation::ReadMany { names } => {
            out.put_u8(15);
            write_names(out, names);
        }
        Operation::DeleteMany { names } => {
            out.put_u8(16);
            write_names(out, names);
        }
        Operation::Rename { name, to } => {
            out.put_u8(17);
            write_str(out, name);
            write_str(out, to);
        }
    }
}

fn read_operation<'b>(reader: &mut Reader<'b>) -> Result<Operation<'b>, Malformed> {
    Ok(match reader.u8()? {
        0 => Operation::Create { content: read_content(reader)?, ttl_ms: read_ms(reader)? },
        1 => Operation::CreateNamed {
            name: read_name(reader)?,
            content: read_content(reader)?,
            ttl_ms: read_ms(reader)?,
            reuse: reader.bool()?,
        },
        2 => Operation::Put {
            name: read_name(reader)?,
            content: read_content(reader)?,
            ttl_ms: read_ms(reader)?,
            wait_ms: reader.u64()?,
        },
        3 => Operation::Lookup { name: read_name(reader)? },
        4 => Operation::Read { target: read_target(reader)?, touch: read_touch(reader)? },
        5 => Operation::Authorize { name: reader.option(read_name)?, touch: read_touch(reader)? },
        6 => Operation::Update {
            key: read_key(reader)?,
            body: reader.bytes()?,
            ttl_ms: read_ms(reader)?,
            wait_ms: reader.u64()?,
        },
        7 => Operation::BeginModify {
            target: read_target(reader)?,
            wait_ms: reader.u64()?,
            hold_ms: read_ms(reader)?,
            connection_scope: reader.bool()?,
            renew: reader.option(read_lock)?,
            create_if_missing: reader.bool()?,
            ttl_ms: read_ms(reader)?,
        },
        8 => Operation::CompleteModify {
            target: read_target(reader)?,
            lock: read_lock(reader)?,
            body: reader.bytes()?,
            ttl_ms: read_ms(reader)?,
        },
        9 => Operation::CancelModify { target: read_target(reader)?, lock: read_lock(reader)? },
        10 => Operation::Delete { target: read_target(reader)? },
        11 => Operation::Increment {
            target: read_target(reader)?,
            delta: reader.i128()?,
            reject_at_bound: reader.bool()?,
            make: reader
                .option(|reader| Ok(CounterToMake { counter: read_counter(reader)?, ttl_ms: read_ms(reader)? }))?,
            ttl_ms: read_ms(reader)?,
        },
        12 => Operation::Touch { target: read_target(reader)?, ttl_ms: reader.u64()? },
        13 => Operation::List {
            prefix: Cow::Borrowed(reader.str()?),
            after: reader.option(read_name)?,
            limit: usize::try_from(reader.u64()?).ok().filter(|limit| (1..=1000).contains(limit)).ok_or(Malformed)?,
        },
        14 => Operation::DeletePrefix { prefix: Cow::Borrowed(reader.str()?) },
        15 => Operation::ReadMany { names: read_names(reader)? },
        16 => Operation::DeleteMany { names: read_names(reader)? },
        17 => Operation::Rename { name: read_name(reader)?, to: read_name(reader)? },
        _ => return Err(Malformed),
    })
}

/// Appends an answer.
pub fn write_response(out: &mut Vec<u8>, response: &Response<'_>) {
    out.put_u8(role_number(response.by));
    out.put_bool(response.degraded);
    out.put_option(response.facts, |out, facts| write_facts(out, &facts));
    match &response.result {
        Err(refusal) => {
            out.put_u8(0);
            write_refusal(out, *refusal);
        }
        Ok(Answer::Done) => out.put_u8(1),
        Ok(Answer::StoreId { customer, key, created }) => {
            out.put_u8(2);
            out.put_bytes(customer.as_bytes());
            out.put_array(&key.0);
            out.put_bool(*created);
        }
        Ok(Answer::Blob(blob)) => {
            out.put_u8(3);
            out.put_bytes(blob);
        }
        Ok(Answer::Counter { counter, step }) => {
            out.put_u8(4);
            write_counter(out, counter);
            out.put_option(step.as_ref(), write_step);
        }
        Ok(Answer::Locked { lock, body, created }) => {
            out.put_u8(5);
            out.put_array(&lock.0);
            out.put_bytes(body);
            out.put_bool(*created);
        }
        Ok(Answer::Authorized) => out.put_u8(6),
        Ok(Answer::Names { names, more }) => {
            out.put_u8(7);
            write_names(out, names);
            out.put_bool(*more);
        }
        Ok(Answer::Deleted { count }) => {
            out.put_u8(8);
            out.put_u64(*count);
        }
        Ok(Answer::Stores(stores)) => {
            out.put_u8(9);
            out.put_u32(u32::try_from(stores.len()).expect("at most 100 are asked for"));
            for store in stores {
                out.put_option(store.as_ref(), |out, store| {
                    write_str(out, store.name);
                    write_content(out, &store.content);
                    write_facts(out, &store.facts);
                });
            }
        }
    }
}

/// Reads an answer.
pub fn read_response<'b>(reader: &mut Reader<'b>) -> Result<Response<'b>, Malformed> {
    let by = read_role(reader)?;
    let degraded = reader.bool()?;
    let facts = reader.option(read_facts)?;
    let answer = match reader.u8()? {
        0 => return Ok(Response { result: Err(read_refusal(reader)?), facts, by, degraded }),
        1 => Answer::Done,
        2 => Answer::StoreId { customer: reader.str()?, key: read_key(reader)?, created: reader.bool()? },
        3 => Answer::Blob(reader.bytes()?),
        4 => Answer::Counter { counter: read_counter(reader)?, step: reader.option(read_step)? },
        5 => Answer::Locked { lock: read_lock(reader)?, body: reader.bytes()?, created: reader.bool()? },
        6 => Answer::Authorized,
        7 => Answer::Names { names: read_list(reader, Reader::str)?, more: reader.bool()? },
        8 => Answer::Deleted { count: reader.u64()? },
        9 => Answer::Stores(read_list(reader, |reader| {
            reader.option(|reader| {
                Ok(StoreView { name: reader.str()?, content: read_content(reader)?, facts: read_facts(reader)? })
            })
        })?),
        _ => return Err(Malformed),
    };
    Ok(Response { result: Ok(answer), facts, by, degraded })
}

fn write_refusal(out: &mut Vec<u8>, refusal: Refusal) {
    let (number, detail) = refusal_numbers(refusal);
    out.put_u8(number);
    out.put_u64(detail);
}

fn refusal_numbers(refusal: Refusal) -> (u8, u64) {
    match refusal {
        Refusal::NotFound => (0, 0),
        Refusal::NotAuthorized => (1, 0),
        Refusal::StoreLocked { retry_after_ms } => (2, retry_after_ms),
        Refusal::LockMismatch => (3, 0),
        Refusal::LockStateUnknown { retry_after_ms } => (4, retry_after_ms),
        Refusal::NameExists => (5, 0),
        Refusal::StoreExpired => (6, 0),
        Refusal::VersionMismatch => (7, 0),
        Refusal::IdempotencyMismatch => (8, 0),
        Refusal::IdempotencyInProgress => (9, 0),
        Refusal::TypeMismatch { needed } => (10, u64::from(needed == "counter")),
        Refusal::ValueOutOfBounds => (11, 0),
        Refusal::InvalidBounds => (12, 0),
        Refusal::BadCounterBody(mistake) => {
            let place = CounterBodyMistake::ALL.iter().position(|&other| other == mistake);
            (13, place.expect("ALL has all") as u64)
        }
        Refusal::Overflow => (14, 0),
        Refusal::RateLimited { retry_after_ms } => (15, retry_after_ms),
        Refusal::TombstoneLimitExceeded => (16, 0),
        Refusal::CapacityExceeded => (17, 0),
        Refusal::CustomerQuotaExceeded => (18, 0),
        Refusal::TooManyWaiting => (19, 0),
        Refusal::LeaderChanged => (20, 0),
        Refusal::StoreUnavailable => (21, 0),
        Refusal::NotReplicated { applied } => (22, u64::from(applied)),
        Refusal::AnswerTooLarge => (23, 0),
    }
}

fn read_refusal(reader: &mut Reader<'_>) -> Result<Refusal, Malformed> {
    let (number, detail) = (reader.u8()?, reader.u64()?);
    let refusal = match number {
        0 => Refusal::NotFound,
        1 => Refusal::NotAuthorized,
        2 => Refusal::StoreLocked { retry_after_ms: detail },
        3 => Refusal::LockMismatch,
        4 => Refusal::LockStateUnknown { retry_after_ms: detail },
        5 => Refusal::NameExists,
        6 => Refusal::StoreExpired,
        7 => Refusal::VersionMismatch,
        8 => Refusal::IdempotencyMismatch,
        9 => Refusal::IdempotencyInProgress,
        10 => Refusal::TypeMismatch { needed: if detail == 1 { "counter" } else { "blob" } },
        11 => Refusal::ValueOutOfBounds,
        12 => Refusal::InvalidBounds,
        13 => {
            let place = usize::try_from(detail).map_err(|_| Malformed)?;
            Refusal::BadCounterBody(*CounterBodyMistake::ALL.get(place).ok_or(Malformed)?)
        }
        14 => Refusal::Overflow,
        15 => Refusal::RateLimited { retry_after_ms: detail },
        16 => Refusal::TombstoneLimitExceeded,
        17 => Refusal::CapacityExceeded,
        18 => Refusal::CustomerQuotaExceeded,
        19 => Refusal::TooManyWaiting,
        20 => Refusal::LeaderChanged,
        21 => Refusal::StoreUnavailable,
        22 => Refusal::NotReplicated { applied: detail == 1 },
        23 => Refusal::AnswerTooLarge,
        _ => return Err(Malformed),
    };
    // One spelling of each: a detail that means nothing must be 0.
    if refusal_numbers(refusal) == (number, detail) { Ok(refusal) } else { Err(Malformed) }
}

/// The number of a role on the wire.
#[must_use]
pub const fn role_number(role: Role) -> u8 {
    match role {
        Role::Joining => 0,
        Role::Primary => 1,
        Role::Secondary => 2,
    }
}

/// Reads a role.
pub fn read_role(reader: &mut Reader<'_>) -> Result<Role, Malformed> {
    match reader.u8()? {
        0 => Ok(Role::Joining),
        1 => Ok(Role::Primary),
        2 => Ok(Role::Secondary),
        _ => Err(Malformed),
    }
}

pub(super) fn write_str(out: &mut Vec<u8>, text: &str) {
    out.put_bytes(text.as_bytes());
}

fn write_ms(out: &mut Vec<u8>, ms: Option<u64>) {
    out.put_option(ms, Vec::put_u64);
}

fn read_ms(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    reader.option(Reader::u64)
}

fn read_name<'b>(reader: &mut Reader<'b>) -> Result<Cow<'b, str>, Malformed> {
    read_text(reader, 256).map(Cow::Borrowed)
}

/// Text of 1 to `most_bytes` bytes.
pub(super) fn read_text<'b>(reader: &mut Reader<'b>, most_bytes: usize) -> Result<&'b str, Malformed> {
    let text = reader.str()?;
    if (1..=most_bytes).contains(&text.len()) { Ok(text) } else { Err(Malformed) }
}

fn write_names<T: AsRef<str>>(out: &mut Vec<u8>, names: &[T]) {
    out.put_u32(u32::try_from(names.len()).expect("a page has at most 1000 names"));
    names.iter().for_each(|name| write_str(out, name.as_ref()));
}

fn read_names<'b>(reader: &mut Reader<'b>) -> Result<Vec<Cow<'b, str>>, Malformed> {
    read_list(reader, read_name)
}

fn read_list<'b, T>(
    reader: &mut Reader<'b>,
    mut read: impl FnMut(&mut Reader<'b>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.u32()?;
    if count > NAMES_MAX {
        return Err(Malformed);
    }
    (0..count).map(|_| read(reader)).collect()
}

pub(super) fn read_key(reader: &mut Reader<'_>) -> Result<StoreKey, Malformed> {
    reader.array().map(StoreKey)
}

pub(super) fn read_lock(reader: &mut Reader<'_>) -> Result<LockId, Malformed> {
    reader.array().map(LockId)
}

pub(super) fn write_etag(out: &mut Vec<u8>, etag: Etag) {
    out.put_u32(etag.epoch);
    out.put_u64(etag.version);
}

pub(super) fn read_etag(reader: &mut Reader<'_>) -> Result<Etag, Malformed> {
    Ok(Etag { epoch: reader.u32()?, version: reader.u64()? })
}

fn write_target(out: &mut Vec<u8>, target: &Target<'_>) {
    match target {
        Target::Key(key) => {
            out.put_u8(0);
            out.put_array(&key.0);
        }
        Target::Name(name) => {
            out.put_u8(1);
            write_str(out, name);
        }
    }
}

fn read_target<'b>(reader: &mut Reader<'b>) -> Result<Target<'b>, Malformed> {
    match reader.u8()? {
        0 => read_key(reader).map(Target::Key),
        1 => read_name(reader).map(Target::Name),
        _ => Err(Malformed),
    }
}

fn write_touch(out: &mut Vec<u8>, touch: Option<&TouchOnRead>) {
    out.put_option(touch, |out, touch| {
        out.put_u64(touch.ttl_ms);
        write_ms(out, touch.if_below_ms);
    });
}

fn read_touch(reader: &mut Reader<'_>) -> Result<Option<TouchOnRead>, Malformed> {
    reader.option(|reader| Ok(TouchOnRead { ttl_ms: reader.u64()?, if_below_ms: read_ms(reader)? }))
}

pub(super) fn write_counter(out: &mut Vec<u8>, counter: &Counter) {
    out.put_i64(counter.value);
    out.put_option(counter.min, Vec::put_i64);
    out.put_option(counter.max, Vec::put_i64);
}

pub(super) fn read_counter(reader: &mut Reader<'_>) -> Result<Counter, Malformed> {
    Ok(Counter { value: reader.i64()?, min: reader.option(Reader::i64)?, max: reader.option(Reader::i64)? })
}

pub(super) fn write_content(out: &mut Vec<u8>, content: &Content<'_>) {
    match content {
        Content::Blob(bytes) => {
            out.put_u8(0);
            out.put_bytes(bytes);
        }
        Content::Counter(counter) => {
            out.put_u8(1);
            write_counter(out, counter);
        }
    }
}

pub(super) fn read_content<'b>(reader: &mut Reader<'b>) -> Result<Content<'b>, Malformed> {
    match reader.u8()? {
        0 => reader.bytes().map(Content::Blob),
        1 => read_counter(reader).map(Content::Counter),
        _ => Err(Malformed),
    }
}

pub(super) fn write_step(out: &mut Vec<u8>, step: &StepTaken) {
    out.put_bool(step.bounded);
    out.put_i128(step.applied);
    out.put_bool(step.created);
}

pub(super) fn read_step(reader: &mut Reader<'_>) -> Result<StepTaken, Malformed> {
    Ok(StepTaken { bounded: reader.bool()?, applied: reader.i128()?, created: reader.bool()? })
}

pub(super) fn write_facts(out: &mut Vec<u8>, facts: &StoreFacts) {
    write_etag(out, facts.etag);
    out.put_u64(facts.ttl_left_ms);
    out.put_option(facts.locked, Vec::put_bool);
}

pub(super) fn read_facts(reader: &mut Reader<'_>) -> Result<StoreFacts, Malformed> {
    Ok(StoreFacts { etag: read_etag(reader)?, ttl_left_ms: reader.u64()?, locked: reader.option(Reader::bool)? })
}

#[cfg(test)]
mod tests;

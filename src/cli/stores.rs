//! Owns the commands about one store: blobs, counters, locks, by id or by the older commands for names. Does not own the round
//! trips by name ([`super::named`]).

use std::time::Duration;

use super::client::{Ask, Reply, percent_encode};
use super::commands::{DELTA, LOCK, MAX, MIN, NAME, REUSE, SHOW_DATA, SHOW_TTL, TTL, VALUE};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::{Outcome, print, print_line, tell};
use crate::json;

/// A blob, byte for byte, whatever it contains.
pub(super) const BLOB: (&str, &str) = ("Content-Type", "application/octet-stream");
/// A counter's JSON.
const COUNTER: (&str, &str) = ("Content-Type", "application/json");

/// A request about the store whose id is the first argument.
fn by_id(invocation: &Invocation, operation: &str) -> Ask<'static> {
    Ask::post(format!("/api/v1/{operation}/{}", percent_encode(invocation.first())))
}

/// With a time to live, in the header that can say it exactly.
pub(super) fn with_ttl<'a>(ask: Ask<'a>, ttl: Option<Duration>) -> Ask<'a> {
    match ttl {
        None => ask,
        Some(ttl) if ttl.subsec_nanos() == 0 => ask.header("BigBunny-Not-Valid-After", ttl.as_secs().to_string()),
        Some(ttl) => ask.header("BigBunny-Not-Valid-After-Ms", ttl.as_millis().to_string()),
    }
}

/// Makes a store and prints its id.
fn make(invocation: &Invocation, (header, content_type): (&'static str, &str), body: &[u8]) -> Outcome {
    let name = invocation.value(&NAME);
    if invocation.has(&REUSE) && name.is_none() {
        return Err(Failure::usage("--reuse needs --name: only a named store can be found again"));
    }
    let target = match name {
        Some(name) if name.is_empty() => return Err(Failure::usage("--name: an empty name names nothing")),
        Some(name) => format!("/api/v1/create-by-name/{}", percent_encode(name.as_encoded_bytes())),
        None => "/api/v1/create".to_owned(),
    };
    let mut ask = with_ttl(Ask::post(target).header(header, content_type).body(body), invocation.ttl(&TTL)?);
    if invocation.has(&REUSE) {
        ask = ask.header("BigBunny-Reuse-If-Exists", "true");
    }
    print_line(&invocation.ask(ask)?.body)
}

/// `bbd create`
pub(super) fn create(invocation: &Invocation) -> Outcome {
    // Flags are checked before standard input is waited for.
    invocation.ttl(&TTL)?;
    let body = invocation.data()?;
    make(invocation, BLOB, &body)
}

/// `bbd get`
pub(super) fn get(invocation: &Invocation) -> Outcome {
    show(invocation, invocation.ask(by_id(invocation, "snapshot"))?)
}

/// Prints what was read: bytes as they are, JSON as a line. The time left goes to standard error if asked for.
pub(super) fn show(invocation: &Invocation, reply: Reply) -> Outcome {
    if invocation.has(&SHOW_TTL) {
        tell(reply.header("BigBunny-Not-Valid-After").unwrap_or_default());
    }
    if is_json(&reply) { print_line(&reply.body) } else { print(&reply.body) }
}

/// `bbd update`
pub(super) fn update(invocation: &Invocation) -> Outcome {
    let ttl = invocation.ttl(&TTL)?;
    let body = invocation.data()?;
    invocation.ask(with_ttl(by_id(invocation, "update").header(BLOB.0, BLOB.1).body(&body), ttl))?;
    Ok(Exit::Done)
}

/// `bbd touch`
pub(super) fn touch(invocation: &Invocation) -> Outcome {
    invocation.ask(with_ttl(by_id(invocation, "touch"), invocation.ttl(&TTL)?))?;
    Ok(Exit::Done)
}

/// `bbd delete`
pub(super) fn delete(invocation: &Invocation) -> Outcome {
    invocation.ask(by_id(invocation, "delete"))?;
    Ok(Exit::Done)
}

/// `bbd delete-named`
pub(super) fn delete_named(invocation: &Invocation) -> Outcome {
    invocation.ask(by_id(invocation, "delete-by-name"))?;
    Ok(Exit::Done)
}

/// `bbd lookup`
pub(super) fn lookup(invocation: &Invocation) -> Outcome {
    print_line(&invocation.ask(by_id(invocation, "lookup-id-by-name"))?.body)
}

/// `bbd begin-modify`
pub(super) fn begin_modify(invocation: &Invocation) -> Outcome {
    let mut ask = by_id(invocation, "begin-modify");
    if let Some(hold_ms) = invocation.hold_ms()? {
        ask = ask.header("BigBunny-Lock-Hold", hold_ms.to_string());
    }
    let reply = invocation.ask(ask)?;
    let lock = lock_of(&reply)?;
    if invocation.has(&SHOW_DATA) {
        super::tell_bytes(&reply.body);
    }
    print_line(lock.as_bytes())
}

/// The lock that an answer brings.
pub(super) fn lock_of(reply: &Reply) -> Result<String, Failure> {
    let lock = reply.header("BigBunny-Lock-ID").map(str::to_owned);
    lock.ok_or_else(|| Failure::new(Exit::Other, "the daemon's answer names no lock"))
}

/// `--lock`, which becomes a header, so that nothing but the letters of lock ids may stand in it.
fn lock_flag(invocation: &Invocation) -> Result<String, Failure> {
    let lock = invocation.value(&LOCK).and_then(|lock| lock.to_str()).unwrap_or_default();
    if !lock.is_empty() && lock.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Ok(lock.to_owned());
    }
    Err(Failure::usage(format!("--lock: {lock:?} is not allowed; allowed: what bbd begin-modify printed")))
}

/// `bbd complete-modify`
pub(super) fn complete_modify(invocation: &Invocation) -> Outcome {
    let (lock, ttl) = (lock_flag(invocation)?, invocation.ttl(&TTL)?);
    let body = invocation.data()?;
    let ask = by_id(invocation, "complete-modify").header("BigBunny-Lock-ID", lock).header(BLOB.0, BLOB.1).body(&body);
    invocation.ask(with_ttl(ask, ttl))?;
    Ok(Exit::Done)
}

/// `bbd cancel-modify`
pub(super) fn cancel_modify(invocation: &Invocation) -> Outcome {
    let lock = lock_flag(invocation)?;
    invocation.ask(by_id(invocation, "cancel-modify").header("BigBunny-Lock-ID", lock))?;
    Ok(Exit::Done)
}

/// `bbd counter-create`
pub(super) fn counter_create(invocation: &Invocation) -> Outcome {
    let mut body = format!(r#"{{"type":"counter","value":{}"#, invocation.integer(&VALUE)?.unwrap_or(0));
    for (flag, key) in [(&MIN, "min"), (&MAX, "max")] {
        if let Some(bound) = invocation.integer(flag)? {
            body.push_str(&format!(r#","{key}":{bound}"#));
        }
    }
    body.push('}');
    make(invocation, COUNTER, body.as_bytes())
}

/// `bbd counter-get`
pub(super) fn counter_get(invocation: &Invocation) -> Outcome {
    let reply = invocation.ask(by_id(invocation, "snapshot"))?;
    check_is_counter(&reply)?;
    print_counter(&reply)
}

/// `bbd counter-increment`
pub(super) fn counter_increment(invocation: &Invocation) -> Outcome {
    step(invocation, "increment")
}

/// `bbd counter-decrement`
pub(super) fn counter_decrement(invocation: &Invocation) -> Outcome {
    step(invocation, "decrement")
}

fn step(invocation: &Invocation, operation: &str) -> Outcome {
    let body = format!(r#"{{"delta":{}}}"#, invocation.integer(&DELTA)?.unwrap_or(1));
    let ask = by_id(invocation, operation).header(COUNTER.0, COUNTER.1).body(body.as_bytes());
    print_counter(&invocation.ask(with_ttl(ask, invocation.ttl(&TTL)?))?)
}

/// `bbd counter-set`
pub(super) fn counter_set(invocation: &Invocation) -> Outcome {
    let body = format!(r#"{{"value":{}}}"#, invocation.integer(&VALUE)?.unwrap_or_default());
    let ask =
        with_ttl(by_id(invocation, "update").header(COUNTER.0, COUNTER.1).body(body.as_bytes()), invocation.ttl(&TTL)?);
    // The daemon would take the same body as the new contents of a blob.
    check_is_counter(&invocation.ask(by_id(invocation, "snapshot"))?)?;
    invocation.ask(ask)?;
    Ok(Exit::Done)
}

/// A blob is answered as bytes, whatever they look like.
fn check_is_counter(reply: &Reply) -> Result<(), Failure> {
    if is_json(reply) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        "TypeMismatch: this store is a blob, not a counter; bbd get and bbd update are for blobs",
    ))
}

fn is_json(reply: &Reply) -> bool {
    reply.header("Content-Type").is_some_and(|kind| kind.starts_with("application/json"))
}

/// Prints the value of a counter; that a step met a bound goes to standard error.
pub(super) fn print_counter(reply: &Reply) -> Outcome {
    let (mut value, mut is_bounded) = (None, false);
    let read = json::read_object(&reply.body, |key, member| match (&*key, member) {
        ("value", json::Value::Integer(number)) => value = Some(number),
        ("bounded", json::Value::Bool(bounded)) => is_bounded = bounded,
        _ => {}
    });
    let (Ok(true), Some(value)) = (read, value) else {
        return Err(Failure::new(Exit::Other, "the daemon's answer is no counter"));
    };
    print_line(value.to_string().as_bytes())?;
    if is_bounded {
        tell("the step met a bound");
    }
    Ok(Exit::Done)
}

//! Owns the commands that find stores by name in one round trip each, and the list of names.

use super::client::{Ask, percent_encode};
use super::commands::{AFTER, DELTA, IF_ABSENT, IF_PRESENT, MAX, MIN, PREFIX, REJECT, TOUCH, TTL, VALUE};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::stores::{self, BLOB, with_ttl};
use super::{Outcome, print_line, print_lines};
use crate::json;

/// The most names that one page has.
const PAGE_NAMES_MAX: u64 = 1000;

/// A request about the store whose name is the first argument; `operation` follows the name.
fn by_name(invocation: &Invocation, operation: &str) -> Ask<'static> {
    Ask::post(format!("/api/v1/named/{}{operation}", percent_encode(invocation.first())))
}

/// `bbd named get`
pub(super) fn get(invocation: &Invocation) -> Outcome {
    let query = match invocation.ttl(&TOUCH)? {
        None => String::new(),
        Some(ttl) if ttl.subsec_nanos() == 0 => format!("?touch={}", ttl.as_secs()),
        Some(_) => return Err(Failure::usage("--touch: allowed: whole seconds")),
    };
    stores::show(invocation, invocation.ask(by_name(invocation, &query).method("GET"))?)
}

/// `bbd named put`
pub(super) fn put(invocation: &Invocation) -> Outcome {
    let ttl = invocation.ttl(&TTL)?;
    let mut ask = with_ttl(by_name(invocation, "").method("PUT").header(BLOB.0, BLOB.1), ttl);
    ask = match (invocation.has(&IF_ABSENT), invocation.has(&IF_PRESENT)) {
        (false, false) => ask,
        (true, false) => ask.header("If-None-Match", "*"),
        (false, true) => ask.header("If-Match", "*"),
        (true, true) => {
            return Err(Failure::usage("--if-absent and --if-present exclude each other; allowed: one of them"));
        }
    };
    let body = invocation.data()?;
    print_line(&invocation.ask(ask.body(&body))?.body)
}

/// `bbd named delete`
pub(super) fn delete(invocation: &Invocation) -> Outcome {
    invocation.ask(by_name(invocation, "").method("DELETE"))?;
    Ok(Exit::Done)
}

/// `bbd named touch`
pub(super) fn touch(invocation: &Invocation) -> Outcome {
    invocation.ask(with_ttl(by_name(invocation, "/touch"), invocation.ttl(&TTL)?))?;
    Ok(Exit::Done)
}

/// `bbd named increment`
pub(super) fn increment(invocation: &Invocation) -> Outcome {
    let delta = invocation.integer(&DELTA)?.unwrap_or(1);
    let mut body = format!(r#"{{"delta":{delta}"#);
    for (flag, key) in [(&VALUE, "value"), (&MIN, "min"), (&MAX, "max")] {
        if let Some(number) = invocation.integer(flag)? {
            body.push_str(&format!(r#","{key}":{number}"#));
        }
    }
    if let Some(ttl) = invocation.ttl(&TTL)? {
        // In the body it holds for a counter that this makes; in the header it would move the expiry of any.
        body.push_str(&format!(r#","ttl_ms":{}"#, ttl.as_millis()));
    }
    if invocation.has(&REJECT) {
        body.push_str(r#","bound":"reject""#);
    }
    body.push('}');
    let ask = by_name(invocation, "/increment").header("Content-Type", "application/json").body(body.as_bytes());
    let reply = invocation.ask(ask)?;
    let mut is_bounded = false;
    let _ = json::read_object(&reply.body, |key, member| {
        is_bounded |= key == "bounded" && member == json::Value::Bool(true);
    });
    stores::print_counter(&reply)?;
    // The daemon took no error in it, but whoever asked to be told wants to branch on it.
    Ok(if invocation.has(&REJECT) && is_bounded { Exit::Limit } else { Exit::Done })
}

/// `bbd named list`
pub(super) fn list(invocation: &Invocation) -> Outcome {
    let mut left = invocation.limit()?;
    let prefix = percent_encode(invocation.value(&PREFIX).unwrap_or_default().as_encoded_bytes());
    let mut after = percent_encode(invocation.value(&AFTER).unwrap_or_default().as_encoded_bytes());
    let mut client = invocation.connect()?;
    while left > 0 {
        let limit = left.min(PAGE_NAMES_MAX);
        let target = format!("/api/v1/named?prefix={prefix}&after={after}&limit={limit}");
        let reply = client.ask(&invocation.as_customer(Ask::post(target).method("GET")))?.success()?;
        let page = read_page(&reply.body)
            .ok_or_else(|| Failure::new(Exit::Other, "the daemon's answer is no list of names"))?;
        left = left.saturating_sub(page.names.len() as u64);
        if print_lines(page.names.iter().map(|name| name.as_bytes()))? == super::Reader::Gone {
            return Ok(Exit::Done);
        }
        match page.next {
            Some(next) => after = percent_encode(next.as_bytes()),
            None => break,
        }
    }
    Ok(Exit::Done)
}

/// One page of names.
struct Page {
    names: Vec<String>,
    next: Option<String>,
}

/// Reads `{"names":["a","b"],"next":"b"}`.
fn read_page(body: &[u8]) -> Option<Page> {
    let mut page = Page { names: Vec::new(), next: None };
    let read = json::read_object(body, |key, member| match (&*key, member) {
        ("names", json::Value::Array(names)) => {
            for name in names.items() {
                if let json::Value::String(name) = name {
                    page.names.push(name.into_owned());
                }
            }
        }
        ("next", json::Value::String(next)) => page.next = Some(next.into_owned()),
        _ => {}
    });
    (read == Ok(true)).then_some(page)
}

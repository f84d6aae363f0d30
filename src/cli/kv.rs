//! Owns the commands about keys of the cluster map: read, write, list, watch.

use super::client::{Ask, Reply, percent_encode};
use super::commands::{AFTER, EXPECT, FROM, JSON, PREFIX, STALE};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::map::{self, Node, find, strange};
use super::{Outcome, Reader, print, print_line, print_lines, tell};
use crate::config::values;
use crate::json::{Value, write_string};
use crate::kv::ask::LIST_MAX;
use crate::kv::replica::WATCH_TIME_MAX;

/// A path, whose answer may be old if that was asked for.
fn target(invocation: &Invocation, path: &str) -> String {
    let query = if invocation.has(&STALE) { "?consistency=stale" } else { "" };
    format!("{path}{query}")
}

/// Says how old an answer may be, if it may.
fn tell_lag(reply: &Reply) {
    if let Some(lag_ms) = reply.header("BigBunny-Raft-Lag-Ms") {
        tell(&format!("as of {lag_ms} ms ago"));
    }
}

/// Bytes of the command line or of standard input as text, which is all that JSON can carry.
fn text<'t>(what: &str, bytes: &'t [u8]) -> Result<&'t str, Failure> {
    std::str::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{what} is not UTF-8; the cluster map has text alone")))
}

fn key(invocation: &Invocation) -> Result<&str, Failure> {
    text("the key", invocation.first())
}

/// The value of a flag as text.
fn flag<'i>(invocation: &'i Invocation, flag: &super::commands::CommandFlag) -> Result<Option<&'i str>, Failure> {
    let value = invocation.value(flag).map(std::ffi::OsStr::as_encoded_bytes);
    value.map(|value| text(&format!("--{}", flag.name), value)).transpose()
}

/// `{"NAME":{"key":…, …}}`; a value that is not there is `null`.
fn change(name: &str, key: &str, members: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut body = format!("{{\"{name}\":{{\"key\":").into_bytes();
    write_string(&mut body, key);
    for (member, value) in members {
        body.extend_from_slice(format!(",\"{member}\":").as_bytes());
        match value {
            Some(value) => write_string(&mut body, value),
            None => body.extend_from_slice(b"null"),
        }
    }
    body.extend_from_slice(b"}}");
    body
}

/// Writes, and prints the index that the write has got.
fn write(invocation: &Invocation, body: &[u8]) -> Outcome {
    let reply = Node::connect(invocation)?.ask(Ask::post("/write".to_owned()).body(body))?;
    let Some(Value::Integer(index)) = find(map::object(&reply)?, "index") else { return Err(strange()) };
    print_line(index.to_string().as_bytes())
}

/// `bbd kv get`
pub(super) fn get(invocation: &Invocation) -> Outcome {
    let mut body = Vec::new();
    write_string(&mut body, key(invocation)?);
    let reply = Node::connect(invocation)?.ask(Ask::post(target(invocation, "/read")).body(&body))?;
    let Value::String(value) = map::answer(&reply)? else { return Err(strange()) };
    tell_lag(&reply);
    print(value.as_bytes())
}

/// `bbd kv set`
pub(super) fn set(invocation: &Invocation) -> Outcome {
    let key = key(invocation)?;
    let value = invocation.data()?;
    write(invocation, &change("Set", key, &[("value", Some(text("the value", &value)?))]))
}

/// `bbd kv cas`
pub(super) fn cas(invocation: &Invocation) -> Outcome {
    let (key, expected) = (key(invocation)?, flag(invocation, &EXPECT)?);
    let value = invocation.data()?;
    write(invocation, &change("Cas", key, &[("expect", expected), ("value", Some(text("the value", &value)?))]))
}

/// `bbd kv delete`
pub(super) fn delete(invocation: &Invocation) -> Outcome {
    let key = key(invocation)?;
    let body = match flag(invocation, &EXPECT)? {
        None => change("Delete", key, &[]),
        expected => change("Cas", key, &[("expect", expected), ("value", None)]),
    };
    write(invocation, &body)
}

/// `bbd kv list`
pub(super) fn list(invocation: &Invocation) -> Outcome {
    let mut left = invocation.limit()?;
    let prefix = flag(invocation, &PREFIX)?.unwrap_or_default();
    let mut after = flag(invocation, &AFTER)?.map(str::to_owned);
    let mut node = Node::connect(invocation)?;
    while left > 0 {
        let mut body = b"{\"prefix\":".to_vec();
        write_string(&mut body, prefix);
        if let Some(after) = &after {
            body.extend_from_slice(b",\"after\":");
            write_string(&mut body, after);
        }
        body.extend_from_slice(format!(",\"limit\":{}}}", left.min(LIST_MAX as u64)).as_bytes());
        let reply = node.ask(Ask::post(target(invocation, "/list")).body(&body))?;
        tell_lag(&reply);
        let page = map::object(&reply)?;
        let Some(Value::Array(entries)) = find(page, "entries") else { return Err(strange()) };
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for entry in entries.items() {
            let Value::Array(pair) = entry else { return Err(strange()) };
            let pair: Vec<Value<'_>> = pair.items().collect();
            let [Value::String(key), Value::String(value)] = &pair[..] else { return Err(strange()) };
            lines.push(if invocation.has(&JSON) { json_pair(key, value) } else { key.as_bytes().to_vec() });
        }
        left = left.saturating_sub(lines.len() as u64);
        if print_lines(lines.iter().map(Vec::as_slice))? == Reader::Gone {
            break;
        }
        match find(page, "next") {
            Some(Value::String(next)) => after = Some(next.into_owned()),
            _ => break,
        }
    }
    Ok(Exit::Done)
}

/// `["KEY","VALUE"]`
fn json_pair(key: &str, value: &str) -> Vec<u8> {
    let mut line = b"[".to_vec();
    write_string(&mut line, key);
    line.push(b',');
    write_string(&mut line, value);
    line.push(b']');
    line
}

/// `bbd kv watch`
pub(super) fn watch(invocation: &Invocation) -> Outcome {
    let mut left = invocation.limit()?;
    let prefix = percent_encode(flag(invocation, &PREFIX)?.unwrap_or_default().as_bytes());
    let mut from = match invocation.value(&FROM) {
        None => String::new(),
        Some(from) => values::number(from, 0..=u64::MAX)
            .map(|from| format!("&from={from}"))
            .map_err(|allowed| Failure::usage(format!("--from: {from:?} is not allowed; allowed: {allowed}")))?,
    };
    let mut node = Node::connect(invocation)?;
    while left > 0 {
        let mut ask = Ask::post(format!("/watch?prefix={prefix}{from}")).method("GET");
        ask.wait = WATCH_TIME_MAX;
        let reply = node.ask(ask)?;
        let answer = map::object(&reply)?;
        let Some(Value::Array(events)) = find(answer, "events") else { return Err(strange()) };
        let Some(Value::Integer(index)) = find(answer, "index") else { return Err(strange()) };
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for event in events.items().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            let Value::Object(event) = event else { return Err(strange()) };
            lines.push(json_event(event).ok_or_else(strange)?);
        }
        left = left.saturating_sub(lines.len() as u64);
        if print_lines(lines.iter().map(Vec::as_slice))? == Reader::Gone {
            break;
        }
        from = format!("&from={index}");
    }
    Ok(Exit::Done)
}

/// `{"index":N,"key":"KEY","value":"VALUE"}`; the value is `null` where the key was deleted.
fn json_event(event: crate::json::Object<'_>) -> Option<Vec<u8>> {
    let (Value::Integer(index), Value::String(key)) = (find(event, "index")?, find(event, "key")?) else { return None };
    let mut line = format!("{{\"index\":{index},\"key\":").into_bytes();
    write_string(&mut line, &key);
    line.extend_from_slice(b",\"value\":");
    if let Value::String(value) = find(event, "value")? {
        write_string(&mut line, &value);
    } else {
        line.extend_from_slice(b"null");
    }
    line.push(b'}');
    Some(line)
}

//! Owns the commands for operators: status, promotion, locks that nobody gives back, keys. They name no customer.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::{Ask, percent_encode};
use super::commands::{ENV, FORCE, JSON};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::{Outcome, print, print_line};
use crate::store_id::MASTER_KEY_BYTES;
use crate::time::civil_from_days;
use zeroize::Zeroizing;

/// How wide the left column of `bbd status` and `bbd cluster status` is.
pub(super) const COLUMN: usize = 24;

/// `bbd status`
pub(super) fn status(invocation: &Invocation) -> Outcome {
    let reply = invocation.connect()?.ask(&Ask::post("/status".to_owned()).method("GET"))?.success()?;
    if invocation.has(&JSON) {
        return print_line(reply.body.trim_ascii_end());
    }
    let lines = lines_of(&String::from_utf8_lossy(&reply.body), &[]);
    let lines = lines.ok_or_else(|| Failure::new(Exit::Other, "the daemon's answer is no JSON object"))?;
    print(lines.as_bytes())
}

/// The members of a JSON object, one a line, but for some; `None` if it is none.
pub(super) fn lines_of(text: &str, left_out: &[&str]) -> Option<String> {
    let mut lines = String::new();
    for (key, value) in members(text)?.into_iter().filter(|(key, _)| !left_out.contains(key)) {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{}", format!("{key:<COLUMN$}{}", plain(value)).trim_end());
    }
    Some(lines)
}

/// A value for people: of an object, its members one behind the other, each key with its value; else as it stands.
fn plain(value: &str) -> String {
    match members(value) {
        Some(members) if members.is_empty() => "none".to_owned(),
        Some(members) => {
            let pairs: Vec<String> = members.iter().map(|(key, value)| format!("{key} {value}")).collect();
            pairs.join(", ")
        }
        None => value.to_owned(),
    }
}

/// The members of a JSON object, each key with the text of its value: strings without their quotes, all else as it stands.
///
/// `None` if it is none. What is inside of a value is not looked at: the daemon is trusted to write JSON.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    let mut rest = inside.trim();
    while !rest.is_empty() {
        let (key, value) = rest.split_at_checked(end_of_value(rest, ':')?)?;
        let value = value.strip_prefix(':')?.trim_start();
        let end = end_of_value(value, ',').unwrap_or(value.len());
        members.push((unquoted(key), unquoted(&value[..end])));
        rest = value[end..].strip_prefix(',').unwrap_or_default().trim_start();
    }
    Some(members)
}

/// Where the next `end` stands that is inside of no string, object or array.
fn end_of_value(text: &str, end: char) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0_u32, false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ if c == end && depth == 0 => return Some(index),
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// `bbd promote`
pub(super) fn promote(invocation: &Invocation) -> Outcome {
    let target = if invocation.has(&FORCE) { "/internal/promote?force=true" } else { "/internal/promote" };
    let reply = invocation.connect()?.ask(&Ask::post(target.to_owned()))?;
    let hint = match reply.code() {
        Some("StoreUnavailable") => {
            "this node is JOINING and does not have the data yet; wait until bbd status says SECONDARY, or use --force \
             if the other node is lost for good: what it has is lost with it then"
        }
        Some("LeaderChanged") => {
            "the other node did not hand over, or is handing over already; see bbd status on both nodes and try again"
        }
        _ => {
            reply.success()?;
            return Ok(Exit::Done);
        }
    };
    Err(Failure::new(Exit::Unavailable, format!("{}: {hint}", reply.code().unwrap_or_default())))
}

/// `bbd release-lock`
pub(super) fn release_lock(invocation: &Invocation) -> Outcome {
    let target = format!("/internal/release-lock/{}", percent_encode(invocation.first()));
    invocation.connect()?.ask(&Ask::post(target))?.success()?;
    Ok(Exit::Done)
}

/// `bbd keygen`
pub(super) fn keygen(invocation: &Invocation) -> Outcome {
    let (key, token) = (random_hex()?, random_hex()?);
    let id = key_id_of_today();
    let (keys_name, token_name) = if invocation.has(&ENV) {
        ("BBD_STORE_KEYS=", "BBD_INTERNAL_TOKEN=")
    } else {
        ("store-keys ", "internal-token ")
    };
    let lines = Zeroizing::new(format!("{keys_name}{id}:{}\n{token_name}{}\n", *key, *token));
    print(lines.as_bytes())
}

/// The day as the id of a key: the greatest id is the current key, so that a newer key takes over by itself.
fn key_id_of_today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_from_days(seconds / 86_400);
    format!("{year:04}{month:02}{day:02}")
}

fn random_hex() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| Failure::new(Exit::Other, format!("no random bytes: {error}")))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * MASTER_KEY_BYTES));
    for byte in bytes.iter() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_apart() {
        let text = r#"{"host_id":"a,b\"}","peers":{"x":{"y":[1,2]},"z":3},"list":["a:b"], "n" : 0.5,"s":""}"#;
        let expected = [
            ("host_id", r#"a,b\"}"#),
            ("peers", r#"{"x":{"y":[1,2]},"z":3}"#),
            ("list", r#"["a:b"]"#),
            ("n", "0.5"),
            ("s", ""),
        ];
        assert_eq!(members(text), Some(expected.to_vec()));
        assert_eq!(members("{}"), Some(vec![]));
        for text in ["", "[]", "{", "{\"a\"}", "busy\n"] {
            assert_eq!(members(text), None, "{text}");
        }
    }

    #[test]
    fn objects_are_shown_plainly() {
        for (value, shown) in [
            ("{}", "none"),
            (r#"{"b":"0.103s"}"#, "b 0.103s"),
            (r#"{"live":3,"gone":0}"#, "live 3, gone 0"),
            ("PRIMARY", "PRIMARY"),
            ("17", "17"),
            ("", ""),
        ] {
            assert_eq!(plain(value), shown, "{value}");
        }
    }

    #[test]
    fn keys_are_what_the_daemon_takes() {
        assert_eq!(random_hex().map(|text| text.len()), Ok(64));
        assert_ne!(random_hex(), random_hex());
        let text = format!("{}:{}", key_id_of_today(), "0".repeat(64));
        assert!(crate::store_id::parse_store_keys(&text).is_ok_and(|keys| keys.len() == 1));
    }
}

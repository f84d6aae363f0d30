//! What a write is: its JSON, as section 1 of the specification has it, and its bytes in the log. Owns what is malformed or too large;
//! what a write does is [`super::map`]'s.

use std::borrow::Cow;

use super::{BATCH_MAX, IDEMPOTENCY_KEY_MAX_BYTES, KEY_MAX_BYTES, VALUE_MAX_BYTES};
use crate::json::{self, Value};
use crate::raft::entry::COMMAND_MAX_BYTES;
use crate::wire::{Malformed, Reader, Write as _};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the body")]
pub enum Change {
    Set {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// `None` is a key that is not there.
    Cas {
        key: String,
        expect: Option<String>,
        value: Option<String>,
    },
}

impl Change {
    /// Whose value it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Delete { key } | Self::Cas { key, .. } => key,
        }
    }

    /// What the key is to have; `None` if it is to be gone.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Set { value, .. } => Some(value),
            Self::Delete { .. } => None,
            Self::Cas { value, .. } => value.as_deref(),
        }
    }
}

/// A write: all of its changes or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The same write sent again has the same.
    pub idempotency_key: Option<String>,
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// They came as a batch, and are answered as one.
    pub is_batch: bool,
}

/// Why a body is no write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCommand {
    /// It is malformed; a sentence that says where.
    Malformed(String),
    /// A key, a value or all of it is too long; a sentence that says what.
    TooLarge(String),
}

impl Command {
    /// Reads the body of a write.
    ///
    /// # Errors
    ///
    /// See [`BadCommand`].
    pub fn parse(body: &[u8], idempotency_key: Option<String>) -> Result<Self, BadCommand> {
        let value = json::read_value(body).map_err(|error| malformed_json(&error))?;
        let (name, value) = only_member(value)?;
        let (changes, is_batch) = if name == "Batch" {
            let Value::Array(items) = value else { return Err(malformed("Batch must be an array of writes")) };
            let mut changes = Vec::new();
            for item in items.items() {
                if changes.len() == BATCH_MAX {
                    return Err(BadCommand::TooLarge(format!("a Batch has at most {BATCH_MAX} writes")));
                }
                let (name, value) = only_member(item)?;
                changes.push(read_change(&name, value)?);
            }
            (changes, true)
        } else {
            (vec![read_change(&name, value)?], false)
        };
        let command = Self { idempotency_key, changes, is_batch };
        let bytes: usize = command.changes.iter().map(|change| BESIDE_BYTES + cost_of(change)).sum();
        if bytes + BESIDE_BYTES + IDEMPOTENCY_KEY_MAX_BYTES > COMMAND_MAX_BYTES {
            return Err(BadCommand::TooLarge(format!("a write has at most {COMMAND_MAX_BYTES} bytes in all")));
        }
        Ok(command)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_option(self.idempotency_key.as_deref(), |out, key| out.put_bytes(key.as_bytes()));
        out.put_bool(self.is_batch);
        out.put_u32(u32::try_from(self.changes.len()).unwrap_or(u32::MAX));
        for change in &self.changes {
            match change {
                Change::Set { .. } => out.put_u8(0),
                Change::Delete { .. } => out.put_u8(1),
                Change::Cas { expect, .. } => {
                    out.put_u8(2);
                    out.put_option(expect.as_deref(), |out, expect| out.put_bytes(expect.as_bytes()));
                }
            }
            out.put_bytes(change.key().as_bytes());
            match change {
                Change::Set { value, .. } => out.put_bytes(value.as_bytes()),
                Change::Delete { .. } => {}
                Change::Cas { value, .. } => {
                    out.put_option(value.as_deref(), |out, value| out.put_bytes(value.as_bytes()));
                }
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] writes, which is all of `bytes`.
    ///
    /// # Errors
    ///
    /// It is cut, something is left over, or something is out of bounds.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let idempotency_key = reader.option(|reader| bounded(reader, IDEMPOTENCY_KEY_MAX_BYTES))?;
        let is_batch = reader.bool()?;
        let count = reader.u32()? as usize;
        if count > BATCH_MAX || (!is_batch && count != 1) {
            return Err(Malformed);
        }
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            changes.push(match reader.u8()? {
                0 => Change::Set { key: read_key(&mut reader)?, value: bounded(&mut reader, VALUE_MAX_BYTES)? },
                1 => Change::Delete { key: read_key(&mut reader)? },
                2 => {
                    let expect = reader.option(|reader| bounded(reader, VALUE_MAX_BYTES))?;
                    let key = read_key(&mut reader)?;
                    Change::Cas { key, expect, value: reader.option(|reader| bounded(reader, VALUE_MAX_BYTES))? }
                }
                _ => return Err(Malformed),
            });
        }
        reader.finish()?;
        Ok(Self { idempotency_key, changes, is_batch })
    }
}

/// What a change takes beside its texts, in the log and in memory, at most.
const BESIDE_BYTES: usize = 32;

fn cost_of(change: &Change) -> usize {
    let expect = match change {
        Change::Cas { expect, .. } => expect.as_ref().map_or(0, String::len),
        Change::Set { .. } | Change::Delete { .. } => 0,
    };
    change.key().len() + change.value().map_or(0, str::len) + expect
}

fn bounded(reader: &mut Reader<'_>, max_bytes: usize) -> Result<String, Malformed> {
    let text = reader.str()?;
    if text.len() > max_bytes { Err(Malformed) } else { Ok(text.to_owned()) }
}

fn read_key(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let key = bounded(reader, KEY_MAX_BYTES)?;
    if key.is_empty() { Err(Malformed) } else { Ok(key) }
}

fn malformed(what: &str) -> BadCommand {
    BadCommand::Malformed(what.to_owned())
}

fn malformed_json(error: &json::JsonError) -> BadCommand {
    BadCommand::Malformed(format!("the body is not JSON: at byte {}: {}", error.at, error.what))
}

/// The name and the value of an object that has one member.
fn only_member<'a>(value: Value<'a>) -> Result<(Cow<'a, str>, Value<'a>), BadCommand> {
    let what = "a write is an object of one member: Set, Delete, Cas or Batch";
    let Value::Object(object) = value else { return Err(malformed(what)) };
    let mut members = object.members();
    match (members.pop(), members.is_empty()) {
        (Some(member), true) => Ok(member),
        _ => Err(malformed(what)),
    }
}

fn read_change(name: &str, value: Value<'_>) -> Result<Change, BadCommand> {
    let allowed: &[&str] = match name {
        "Set" => &["key", "value"],
        "Delete" => &["key"],
        "Cas" => &["key", "expect", "value"],
        _ => return Err(malformed("a write is Set, Delete or Cas, or a Batch of these, no Batch in a Batch")),
    };
    let Value::Object(object) = value else { return Err(BadCommand::Malformed(format!("{name} must be an object"))) };
    let mut found: [Option<Option<String>>; 3] = [None, None, None];
    for (member, value) in object.members() {
        let Some(place) = allowed.iter().position(|allowed| *allowed == member) else {
            return Err(BadCommand::Malformed(format!(
                "{name} has a member that it may not have; allowed: {allowed:?}"
            )));
        };
        let text = match value {
            Value::String(text) => Some(text.into_owned()),
            Value::Null if name == "Cas" && member != "key" => None,
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::OtherNumber
            | Value::Array(_)
            | Value::Object(_) => {
                return Err(BadCommand::Malformed(format!("{name}.{member} must be a string")));
            }
        };
        if found[place].replace(text).is_some() {
            return Err(BadCommand::Malformed(format!("{name}.{member} stands twice")));
        }
    }
    let mut take = |place: usize| {
        let missing = || BadCommand::Malformed(format!("{name}.{} is missing", allowed[place]));
        found[place].take().ok_or_else(missing)
    };
    let key = take(0)?.unwrap_or_default();
    check_key(&key)?;
    let change = match name {
        "Set" => Change::Set { key, value: take(1)?.unwrap_or_default() },
        "Delete" => Change::Delete { key },
        _ => Change::Cas { key, expect: take(1)?, value: take(2)? },
    };
    if change.value().is_some_and(|value| value.len() > VALUE_MAX_BYTES) {
        return Err(BadCommand::TooLarge(format!("a value has at most {VALUE_MAX_BYTES} bytes")));
    }
    if let Change::Cas { expect: Some(expect), .. } = &change
        && expect.len() > VALUE_MAX_BYTES
    {
        return Err(BadCommand::TooLarge(format!("a value has at most {VALUE_MAX_BYTES} bytes")));
    }
    Ok(change)
}

/// Checks the length of a key.
///
/// # Errors
///
/// It is empty or too long.
pub fn check_key(key: &str) -> Result<(), BadCommand> {
    if key.is_empty() {
        return Err(malformed("a key has at least 1 byte"));
    }
    if key.len() > KEY_MAX_BYTES {
        return Err(BadCommand::TooLarge(format!("a key has at most {KEY_MAX_BYTES} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(body: &str) -> Result<Command, BadCommand> {
        Command::parse(body.as_bytes(), None)
    }

    #[test]
    fn all_forms_are_read_and_survive_the_log() {
        for body in [
            r#"{"Set":{"key":"k","value":"v"}}"#,
            r#"{"Set":{"value":"","key":"k"}}"#,
            r#"{"Delete":{"key":"k"}}"#,
            r#"{"Cas":{"key":"k","expect":"v","value":null}}"#,
            r#"{"Cas":{"key":"k","expect":null,"value":"w"}}"#,
            r#"{"Batch":[{"Set":{"key":"k","value":"v"}},{"Delete":{"key":"l"}},{"Cas":{"key":"k","expect":"v","value":"w"}}]}"#,
            r#"{"Batch":[]}"#,
        ] {
            for key in [None, Some("once".to_owned())] {
                let command = Command::parse(body.as_bytes(), key).unwrap();
                let bytes = command.to_bytes();
                assert_eq!(Command::read(&bytes), Ok(command), "{body}");
                for length in 0..bytes.len() {
                    assert_eq!(Command::read(&bytes[..length]), Err(Malformed), "{body} cut at {length}");
                }
            }
        }
    }

    #[test]
    fn what_is_malformed_is_refused_with_the_place() {
        for (body, place) in [
            ("", "byte 0"),
            ("{\"Set\":", "byte 7"),
            ("[]", "one member"),
            ("{}", "one member"),
            (r#"{"Set":{"key":"k","value":"v"},"Delete":{"key":"k"}}"#, "one member"),
            (r#"{"Put":{"key":"k"}}"#, "Set, Delete or Cas"),
            (r#"{"Set":"k"}"#, "must be an object"),
            (r#"{"Set":{"key":"k"}}"#, "Set.value is missing"),
            (r#"{"Set":{"key":"k","value":1}}"#, "Set.value must be a string"),
            (r#"{"Set":{"key":"k","value":"v","ttl":"1"}}"#, "may not have"),
            (r#"{"Set":{"key":"k","key":"k","value":"v"}}"#, "stands twice"),
            (r#"{"Set":{"key":"","value":"v"}}"#, "at least 1 byte"),
            (r#"{"Cas":{"key":"k","value":"v"}}"#, "Cas.expect is missing"),
            (r#"{"Batch":[{"Batch":[]}]}"#, "no Batch in a Batch"),
            (r#"{"Batch":{}}"#, "array"),
        ] {
            let Err(BadCommand::Malformed(what)) = parse(body) else { panic!("{body} is taken") };
            assert!(what.contains(place), "{body}: {what}");
        }
    }

    #[test]
    fn what_is_too_long_is_too_large() {
        let key = "k".repeat(KEY_MAX_BYTES + 1);
        let value = "v".repeat(VALUE_MAX_BYTES + 1);
        let set = |key: &str, value: &str| format!(r#"{{"Set":{{"key":"{key}","value":"{value}"}}}}"#);
        let batch = |count: usize, value: &str| format!(r#"{{"Batch":[{}]}}"#, vec![set("k", value); count].join(","));
        for body in [
            set(&key, "v"),
            set("k", &value),
            format!(r#"{{"Cas":{{"key":"k","expect":"{value}","value":null}}}}"#),
            batch(BATCH_MAX + 1, "v"),
            batch(17, &value[1..]),
        ] {
            assert!(matches!(parse(&body), Err(BadCommand::TooLarge(_))), "{}", &body[..60]);
        }
        assert!(parse(&set(&key[1..], &value[1..])).is_ok());
        assert!(parse(&batch(BATCH_MAX, "v")).is_ok());
    }
}

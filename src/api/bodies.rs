//! Request bodies: what makes a counter, what a step of a counter is, and lists of names.
//!
//! Owns every rule about keys and values in JSON bodies, save the update of a counter by id, which the node reads with
//! [`crate::json::counter_update`]. Whether values fit together (bounds) is the node's business.

use std::borrow::Cow;

use super::endpoints::MAX_NAMES_A_REQUEST;
use super::errors::ApiError;
use super::fields::MAX_TTL_SECONDS;
use super::names::check_name;
use crate::json::{JsonError, Value, read_object};
use crate::node::request::{Content, Counter, CounterToMake};

/// What the body of an increment by name asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedStep {
    pub(super) delta: i64,
    pub(super) reject_at_bound: bool,
    pub(super) make: CounterToMake,
}

/// What the body of a request about many asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Many<'a> {
    Get(Vec<Cow<'a, str>>),
    Delete(Vec<Cow<'a, str>>),
}

/// An object's members, sorted by the keys that may stand there.
struct Members<'a, const N: usize> {
    values: [Option<Value<'a>>; N],
    problem: Option<Problem<'a>>,
}

/// The first key that may not stand where it does.
enum Problem<'a> {
    Unknown(Cow<'a, str>),
    Twice(&'static str),
}

impl<'a, const N: usize> Members<'a, N> {
    /// `Ok(None)` if the text is no object.
    fn read(body: &'a [u8], known: &[&'static str; N]) -> Result<Option<Self>, JsonError> {
        let mut members = Self { values: [const { None }; N], problem: None };
        let is_object = read_object(body, |key, value| {
            let Some(index) = known.iter().position(|name| *name == key) else {
                members.problem.get_or_insert(Problem::Unknown(key));
                return;
            };
            if members.values[index].is_some() {
                members.problem.get_or_insert(Problem::Twice(known[index]));
            } else {
                members.values[index] = Some(value);
            }
        })?;
        Ok(is_object.then_some(members))
    }

    /// The values, if every key may stand where it does.
    fn checked(self, known: &[&'static str; N]) -> Result<[Option<Value<'a>>; N], ApiError> {
        match self.problem {
            None => Ok(self.values),
            Some(Problem::Unknown(key)) => {
                Err(ApiError::naming("there is no key", &key, &format!("here; there is: {}", known.join(", "))))
            }
            Some(Problem::Twice(key)) => Err(ApiError::naming("the key", key, "stands twice")),
        }
    }
}

/// Reads a body that must be an object of these keys and no others.
fn read_strictly<'a, const N: usize>(
    body: &'a [u8],
    known: &[&'static str; N],
) -> Result<[Option<Value<'a>>; N], ApiError> {
    match Members::read(body, known) {
        Ok(Some(members)) => members.checked(known),
        Ok(None) => Err(ApiError::bad_request("the body must be a JSON object")),
        Err(JsonError { at, what }) => {
            Err(ApiError::made(400, format!("the body is not JSON: {what} (byte {at} of {})", body.len())))
        }
    }
}

fn integer(key: &str, value: &Value<'_>) -> Result<i64, ApiError> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Null | Value::Bool(_) | Value::OtherNumber | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(ApiError::naming("the value of", key, "must be an integer of 64 bits"))
        }
    }
}

fn optional_integer(key: &str, value: Option<&Value<'_>>) -> Result<Option<i64>, ApiError> {
    value.map(|value| integer(key, value)).transpose()
}

fn required_integer(key: &str, value: Option<&Value<'_>>) -> Result<i64, ApiError> {
    let value = value.ok_or_else(|| ApiError::naming("the key", key, "is missing"))?;
    integer(key, value)
}

/// Makes a blob or a counter of a body (section 6 of the specification).
///
/// # Errors
/// It is a JSON object whose `type` is `counter`, but no good counter.
pub(super) fn read_content(body: &[u8], is_octet_stream: bool) -> Result<Content<'_>, ApiError> {
    const KNOWN: [&str; 4] = ["type", "value", "min", "max"];
    if is_octet_stream || !may_be_counter(body) {
        return Ok(Content::Blob(body));
    }
    let Ok(Some(members)) = Members::read(body, &KNOWN) else { return Ok(Content::Blob(body)) };
    if !matches!(&members.values[0], Some(Value::String(kind)) if kind == "counter") {
        return Ok(Content::Blob(body));
    }
    // From here on it was meant to be a counter, and a key that is dropped in silence would be lost data.
    let [_, value, min, max] = members.checked(&KNOWN)?;
    Ok(Content::Counter(Counter {
        value: required_integer("value", value.as_ref())?,
        min: optional_integer("min", min.as_ref())?,
        max: optional_integer("max", max.as_ref())?,
    }))
}

/// Whether it is worth reading a body as JSON: blobs that are not about counters must cost next to nothing.
fn may_be_counter(body: &[u8]) -> bool {
    let trimmed = body.trim_ascii();
    if trimmed.first() != Some(&b'{') || trimmed.last() != Some(&b'}') {
        return false;
    }
    let holds = |needle: &[u8]| memchr::memmem::find(trimmed, needle).is_some();
    // A letter can be written otherwise as \u006X and \u007X only.
    (holds(b"\"counter\"") && holds(b"\"type\"")) || holds(b"\\u006") || holds(b"\\u007")
}

/// Reads the body of an increment or decrement by id: `{"delta":N}`.
///
/// # Errors
/// It is anything else.
pub(super) fn read_step(body: &[u8]) -> Result<i64, ApiError> {
    if let Some(step) = plain_step(body) {
        return Ok(step);
    }
    let [delta] = read_strictly(body, &["delta"])?;
    required_integer("delta", delta.as_ref())
}

/// The step of a body as nearly all clients write it, `{"delta":N}` or `{"delta": N}`: a tenth of what reading any JSON costs, of the
/// most frequent of all changes. `None` for anything else.
fn plain_step(body: &[u8]) -> Option<i64> {
    /// So many digits fit in 64 bits.
    const DIGITS_MAX: usize = 18;
    let value = body.strip_prefix(b"{\"delta\":")?.strip_suffix(b"}")?;
    let value = value.strip_prefix(b" ").unwrap_or(value);
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let is_number = match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < DIGITS_MAX && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let size = digits.iter().fold(0, |size: i64, digit| size.wrapping_mul(10).wrapping_add(i64::from(digit & 15)));
    is_number.then(|| if digits.len() < value.len() { -size } else { size })
}

/// Reads the body of an increment by name, which also says what to make where there is no counter.
///
/// # Errors
/// An unknown key, a value of a wrong kind, no `delta`, or both `ttl` and `ttl_ms`.
pub(super) fn read_named_step(body: &[u8]) -> Result<NamedStep, ApiError> {
    let [delta, value, min, max, ttl, ttl_ms, bound] =
        read_strictly(body, &["delta", "value", "min", "max", "ttl", "ttl_ms", "bound"])?;
    let delta = required_integer("delta", delta.as_ref())?;
    let counter = Counter {
        value: optional_integer("value", value.as_ref())?.unwrap_or(0),
        min: optional_integer("min", min.as_ref())?,
        max: optional_integer("max", max.as_ref())?,
    };
    let ttl_ms = match (ttl, ttl_ms) {
        (None, None) => None,
        (Some(ttl), None) => Some(time("ttl", &ttl, MAX_TTL_SECONDS)? * 1000),
        (None, Some(ttl_ms)) => Some(time("ttl_ms", &ttl_ms, MAX_TTL_SECONDS * 1000)?),
        (Some(_), Some(_)) => return Err(ApiError::bad_request("send `ttl` or `ttl_ms`, not both")),
    };
    let reject_at_bound = match bound {
        None => false,
        Some(Value::String(word)) if word == "clamp" => false,
        Some(Value::String(word)) if word == "reject" => true,
        Some(
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::OtherNumber
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
        ) => return Err(ApiError::bad_request("the value of `bound` must be \"clamp\" or \"reject\"")),
    };
    Ok(NamedStep { delta, reject_at_bound, make: CounterToMake { counter, ttl_ms } })
}

/// A time to live in a body.
fn time(key: &str, value: &Value<'_>, most: u64) -> Result<u64, ApiError> {
    u64::try_from(integer(key, value)?)
        .ok()
        .filter(|time| (1..=most).contains(time))
        .ok_or_else(|| ApiError::naming("the value of", key, &format!("must be 1 to {most}")))
}

/// Reads `{"get":[…]}` or `{"delete":[…]}`.
///
/// # Errors
/// Other keys, both, neither, no array of strings, more than 100, or an impossible name.
pub(super) fn read_many(body: &[u8]) -> Result<Many<'_>, ApiError> {
    let [get, delete] = read_strictly(body, &["get", "delete"])?;
    match (get, delete) {
        (Some(names), None) => Ok(Many::Get(read_names("get", &names)?)),
        (None, Some(names)) => Ok(Many::Delete(read_names("delete", &names)?)),
        (None, None) | (Some(_), Some(_)) => {
            Err(ApiError::bad_request("the body must have either `get` or `delete`: {\"get\":[\"NAME\",...]}"))
        }
    }
}

fn read_names<'a>(key: &str, names: &Value<'a>) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let not_names = || ApiError::naming("the value of", key, "must be an array of names");
    let Value::Array(names) = names else { return Err(not_names()) };
    let mut list = Vec::new();
    for item in names.items() {
        let Value::String(name) = item else { return Err(not_names()) };
        check_name(&name).map_err(|error| ApiError::bad_request(error.line()))?;
        if list.len() == MAX_NAMES_A_REQUEST {
            return Err(ApiError::naming("the value of", key, "holds more than 100 names; ask in several requests"));
        }
        list.push(name);
    }
    Ok(list)
}

/// Reads `{"to":"NEW"}`.
///
/// # Errors
/// It is anything else, or NEW cannot be a name.
pub(super) fn read_rename(body: &[u8]) -> Result<Cow<'_, str>, ApiError> {
    let [to] = read_strictly(body, &["to"])?;
    let Some(Value::String(name)) = to else {
        return Err(ApiError::bad_request("the new name is missing: send {\"to\":\"NAME\"}"));
    };
    check_name(&name).map_err(|error| ApiError::bad_request(error.line()))?;
    Ok(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn counter(body: &str) -> Option<Counter> {
        match read_content(body.as_bytes(), false).unwrap() {
            Content::Counter(counter) => Some(counter),
            Content::Blob(blob) => {
                assert_eq!(blob, body.as_bytes());
                None
            }
        }
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, mention: &str) {
        let error = result.unwrap_err();
        assert_eq!((error.status(), error.code()), (400, None));
        assert!(error.line().contains(mention), "{} does not mention {mention}", error.line());
    }

    #[test]
    fn counters_are_made_of_objects_that_say_so() {
        let plain = Counter { value: 5, min: None, max: None };
        assert_eq!(counter(r#"{"type":"counter","value":5}"#), Some(plain));
        assert_eq!(counter(" {\n\"value\" : 5 ,\t\"type\":\"counter\"}\r\n"), Some(plain));
        assert_eq!(counter(r#"{"t\u0079pe":"counte\u0072","value":5}"#), Some(plain));
        assert_eq!(counter(r#"{"type":"\u0063ounter","value":5}"#), Some(plain));
        assert_eq!(
            counter(
                r#"{"type":"counter","value":-9223372036854775808,"min":-9223372036854775808,"max":9223372036854775807}"#
            ),
            Some(Counter { value: i64::MIN, min: Some(i64::MIN), max: Some(i64::MAX) })
        );
        // Bounds that do not fit are for the node to refuse, with their codes.
        assert_eq!(
            counter(r#"{"type":"counter","value":5,"min":9,"max":1}"#),
            Some(Counter { value: 5, min: Some(9), max: Some(1) })
        );
    }

    #[test]
    fn everything_else_is_a_blob_byte_for_byte() {
        for body in [
            "",
            "hello",
            "{}",
            "counter",
            "\"counter\"",
            r#"[{"type":"counter","value":5}]"#,
            r#"{"type":"Counter","value":5}"#,
            r#"{"Type":"counter","value":5}"#,
            r#"{"type":["counter"],"value":5}"#,
            r#"{"type":{"type":"counter"},"value":5}"#,
            r#"{"inner":{"type":"counter","value":5}}"#,
            r#"{"kind":"counter","type":"blob"}"#,
            r#"{"type":"counter","value":5"#,
            r#"{"type":"counter","value":5}}"#,
            r#"{"type":"counter","value":5,}"#,
            r#"{"type":"counter","value":05}"#,
            r#"{'type':'counter','value':5}"#,
            r#"{"type":"counter"/**/,"value":5}"#,
            "{\"type\":\"counter\",\"value\":5,\"x\":\"\n\"}",
            "\u{feff}{\"type\":\"counter\",\"value\":5}",
            "{\"type\":\"counter\",\"value\":5}\0",
        ] {
            assert_eq!(counter(body), None, "{body}");
        }
        let not_utf8 = b"{\"type\":\"counter\",\"value\":5,\"x\":\"\xff\"}";
        assert!(matches!(read_content(not_utf8, false), Ok(Content::Blob(blob)) if blob == not_utf8));
        let body = br#"{"type":"counter","value":"x"}"#;
        assert!(matches!(read_content(body, true), Ok(Content::Blob(blob)) if blob == body));
    }

    #[test]
    fn bad_counters_are_refused_by_key() {
        for (body, mention) in [
            (r#"{"type":"counter"}"#, "`value` is missing"),
            (r#"{"type":"counter","min":1}"#, "`value` is missing"),
            (r#"{"type":"counter","value":"5"}"#, "`value`"),
            (r#"{"type":"counter","value":5.0}"#, "`value`"),
            (r#"{"type":"counter","value":1e3}"#, "`value`"),
            (r#"{"type":"counter","value":null}"#, "`value`"),
            (r#"{"type":"counter","value":9223372036854775808}"#, "`value`"),
            (r#"{"type":"counter","value":-9223372036854775809}"#, "`value`"),
            (r#"{"type":"counter","value":5,"min":"0"}"#, "`min`"),
            (r#"{"type":"counter","value":5,"max":0.5}"#, "`max`"),
            (r#"{"type":"counter","value":5,"value":6}"#, "`value` stands twice"),
            (r#"{"type":"counter","value":5,"type":"counter"}"#, "`type` stands twice"),
            (r#"{"type":"counter","value":5,"maximum":6}"#, "`maximum`"),
        ] {
            refused(read_content(body.as_bytes(), false), mention);
        }
    }

    #[test]
    fn steps_by_id() {
        assert_eq!(read_step(br#"{"delta":-3}"#), Ok(-3));
        assert_eq!(read_step(b" {\"delta\" : 0} "), Ok(0));
        for (body, mention) in [
            ("", "not JSON"),
            ("5", "object"),
            ("[]", "object"),
            ("{}", "`delta` is missing"),
            (r#"{"delta":1"#, "not JSON"),
            (r#"{"delta":"1"}"#, "`delta`"),
            (r#"{"delta":1.5}"#, "`delta`"),
            (r#"{"delta":9223372036854775808}"#, "`delta`"),
            (r#"{"delta":1,"value":2}"#, "`value`"),
            (r#"{"delta":1,"bound":"clamp"}"#, "`bound`"),
            (r#"{"delta":1,"delta":1}"#, "`delta` stands twice"),
            (r#"{"Delta":1}"#, "`Delta`"),
        ] {
            refused(read_step(body.as_bytes()), mention);
        }
    }

    #[test]
    fn steps_by_name() {
        let NamedStep { delta, reject_at_bound, make } = read_named_step(br#"{"delta":1}"#).unwrap();
        assert_eq!((delta, reject_at_bound), (1, false));
        assert_eq!((make.counter, make.ttl_ms), (Counter { value: 0, min: None, max: None }, None));
        let body = br#"{"delta":-1,"value":7,"min":0,"max":100,"ttl":60,"bound":"reject"}"#;
        let NamedStep { delta, reject_at_bound, make } = read_named_step(body).unwrap();
        assert_eq!((delta, reject_at_bound), (-1, true));
        assert_eq!(make.counter, Counter { value: 7, min: Some(0), max: Some(100) });
        assert_eq!(make.ttl_ms, Some(60_000));
        let ttl = |body: &str| read_named_step(body.as_bytes()).map(|step| step.make.ttl_ms);
        assert_eq!(ttl(r#"{"delta":1,"ttl":1,"bound":"clamp"}"#), Ok(Some(1000)));
        assert_eq!(ttl(r#"{"delta":1,"ttl":315360000}"#), Ok(Some(315_360_000_000)));
        assert_eq!(ttl(r#"{"delta":1,"ttl_ms":1}"#), Ok(Some(1)));
        assert_eq!(ttl(r#"{"delta":1,"ttl_ms":315360000000}"#), Ok(Some(315_360_000_000)));
        for (body, mention) in [
            ("", "not JSON"),
            ("{}", "`delta` is missing"),
            (r#"{"value":1}"#, "`delta` is missing"),
            (r#"{"delta":1,"ttll":60}"#, "`ttll`"),
            (r#"{"delta":null}"#, "`delta`"),
            (r#"{"delta":1,"value":"0"}"#, "`value`"),
            (r#"{"delta":1,"min":true}"#, "`min`"),
            (r#"{"delta":1,"max":[]}"#, "`max`"),
            (r#"{"delta":1,"ttl":0}"#, "`ttl`"),
            (r#"{"delta":1,"ttl":-1}"#, "`ttl`"),
            (r#"{"delta":1,"ttl":315360001}"#, "`ttl`"),
            (r#"{"delta":1,"ttl":"60"}"#, "`ttl`"),
            (r#"{"delta":1,"ttl_ms":0}"#, "`ttl_ms`"),
            (r#"{"delta":1,"ttl_ms":315360000001}"#, "`ttl_ms`"),
            (r#"{"delta":1,"ttl":1,"ttl_ms":1000}"#, "`ttl`"),
            (r#"{"delta":1,"bound":"Reject"}"#, "`bound`"),
            (r#"{"delta":1,"bound":1}"#, "`bound`"),
            (r#"{"delta":1,"min":1,"min":1}"#, "`min` stands twice"),
        ] {
            refused(read_named_step(body.as_bytes()), mention);
        }
    }

    #[test]
    fn many_names() {
        let names = |list: &[&'static str]| list.iter().map(|name| Cow::Borrowed(*name)).collect::<Vec<_>>();
        assert_eq!(read_many(br#"{"get":["a","b","a"]}"#), Ok(Many::Get(names(&["a", "b", "a"]))));
        assert_eq!(read_many(br#"{"delete":[ "\u00e9" , "x/y" ]}"#), Ok(Many::Delete(names(&["é", "x/y"]))));
        assert_eq!(read_many(br#"{"get":[]}"#), Ok(Many::Get(vec![])));
        let list = |count: usize| format!("{{\"get\":[{}]}}", vec!["\"n\""; count].join(","));
        assert!(matches!(read_many(list(100).as_bytes()), Ok(Many::Get(names)) if names.len() == 100));
        refused(read_many(list(101).as_bytes()), "100");
        for (body, mention) in [
            ("", "not JSON"),
            ("[]", "object"),
            ("{}", "`get` or `delete`"),
            (r#"{"get":["a"],"delete":["a"]}"#, "`get` or `delete`"),
            (r#"{"get":["a"],"get":["a"]}"#, "`get` stands twice"),
            (r#"{"get":["a"],"x":1}"#, "`x`"),
            (r#"{"get":"a"}"#, "`get`"),
            (r#"{"get":[1]}"#, "`get`"),
            (r#"{"get":[["a"]]}"#, "`get`"),
            (r#"{"get":[""]}"#, "empty"),
            (r#"{"delete":["a",".."]}"#, "no names"),
            (r#"{"get":["a\n"]}"#, "control"),
            (r#"{"get":["\ud800"]}"#, "not JSON"),
        ] {
            refused(read_many(body.as_bytes()), mention);
        }
        let longest = format!("{{\"get\":[\"{}\"]}}", "\\u0061".repeat(256));
        assert!(read_many(longest.as_bytes()).is_ok());
        refused(read_many(format!("{{\"get\":[\"{}\"]}}", "a".repeat(257)).as_bytes()), "256");
    }

    #[test]
    fn new_names() {
        assert_eq!(read_rename(br#"{"to":"b"}"#).as_deref(), Ok("b"));
        for (body, mention) in [
            ("", "not JSON"),
            ("{}", "missing"),
            (r#"{"to":1}"#, "missing"),
            (r#"{"to":""}"#, "empty"),
            (r#"{"to":"."}"#, "no names"),
            (r#"{"to":"a\u0000"}"#, "control"),
            (r#"{"to":"b","from":"a"}"#, "`from`"),
        ] {
            refused(read_rename(body.as_bytes()), mention);
        }
    }
}

//! What can be asked of the cluster map, and the answers: bodies of requests to questions, outcomes to bodies. Owns the table of paths and the
//! JSON of section 1 and 2 of the specification. Knows no sockets, and nothing of who leads.

use noraft::NodeId;

use super::command::{BadCommand, Command, check_key};
use super::map::{Event, Outcome};
use super::{BATCH_MAX, KEY_MAX_BYTES};
use crate::http::Method;
use crate::json::{self, Value, write_string};
use crate::raft::member::{ADDRESS_MAX_BYTES, MEMBERS_MAX, Member, Membership, Uuid};
use crate::wire::{Malformed, Reader, Write as _};

/// Entries of one list at most, and when none are asked for.
pub const LIST_MAX: usize = 1000;
const LIST_DEFAULT: usize = 100;
/// A list ends behind the entry with which its answer has so many bytes.
const LIST_MAX_BYTES: usize = 1024 * 1024;
/// Events in the answer to a watch at most, but never half of an entry's.
const EVENTS_MAX: usize = 1000;
/// What a client without a leader is told to wait before it tries again.
const RETRY_MS: u64 = 200;

/// A path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the paths")]
pub enum Endpoint {
    Write,
    Read,
    List,
    Watch,
    Init,
    GetId,
    AddLearner,
    RemoveLearner,
    ChangeMembership,
    TransferLeader,
    Metrics,
    Backup,
    Healthz,
}

impl Endpoint {
    /// Every path, its method, and what stands behind it.
    pub const ALL: [(&'static str, Method, Self); 13] = [
        ("/write", Method::Post, Self::Write),
        ("/read", Method::Post, Self::Read),
        ("/list", Method::Post, Self::List),
        ("/watch", Method::Get, Self::Watch),
        ("/init", Method::Get, Self::Init),
        ("/get-id", Method::Get, Self::GetId),
        ("/add-learner", Method::Post, Self::AddLearner),
        ("/remove-learner", Method::Post, Self::RemoveLearner),
        ("/change-membership", Method::Post, Self::ChangeMembership),
        ("/transfer-leader", Method::Post, Self::TransferLeader),
        ("/metrics", Method::Get, Self::Metrics),
        ("/backup", Method::Get, Self::Backup),
        ("/healthz", Method::Get, Self::Healthz),
    ];

    /// The path that is written so, with the method it takes.
    #[must_use]
    pub fn of(path: &str) -> Option<(Self, Method)> {
        Self::ALL.iter().find(|(known, ..)| *known == path).map(|(_, method, endpoint)| (*endpoint, *method))
    }
}

/// Something that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the paths and bodies")]
pub enum Question {
    Write(Command),
    Read { key: String },
    List { prefix: String, after: Option<String>, limit: usize },
    Watch { prefix: String, from: Option<u64> },
    Init,
    GetId,
    AddLearner(Member),
    RemoveLearner(Uuid),
    ChangeMembership(Vec<Uuid>),
    TransferLeader(Option<Uuid>),
    Metrics { as_prometheus: bool },
    Backup,
    Healthz,
}

impl Question {
    /// Whether it changes something.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Write(_)
            | Self::Init
            | Self::AddLearner(_)
            | Self::RemoveLearner(_)
            | Self::ChangeMembership(_)
            | Self::TransferLeader(_) => true,
            Self::Read { .. }
            | Self::List { .. }
            | Self::Watch { .. }
            | Self::GetId
            | Self::Metrics { .. }
            | Self::Backup
            | Self::Healthz => false,
        }
    }

    /// Its bytes, if it is one that is passed on to the leader.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Write(command) => {
                out.put_u8(0);
                out.put_array(&command.to_bytes());
            }
            Self::Read { key } => {
                out.put_u8(1);
                out.put_bytes(key.as_bytes());
            }
            Self::List { prefix, after, limit } => {
                out.put_u8(2);
                out.put_bytes(prefix.as_bytes());
                out.put_option(after.as_deref(), |out, after| out.put_bytes(after.as_bytes()));
                out.put_u64(*limit as u64);
            }
            Self::AddLearner(member) => {
                out.put_u8(3);
                out.put_array(member.uuid.bytes());
                out.put_bytes(member.address.as_bytes());
            }
            Self::ChangeMembership(uuids) => {
                out.put_u8(4);
                for uuid in uuids {
                    out.put_array(uuid.bytes());
                }
            }
            Self::TransferLeader(uuid) => {
                out.put_u8(5);
                out.put_option(*uuid, |out, uuid| out.put_array(uuid.bytes()));
            }
            Self::RemoveLearner(uuid) => {
                out.put_u8(6);
                out.put_array(uuid.bytes());
            }
            Self::Watch { .. } | Self::Init | Self::GetId | Self::Metrics { .. } | Self::Backup | Self::Healthz => {
                return None;
            }
        }
        Some(out)
    }

    /// Reads what [`Self::to_bytes`] writes, which is all of `bytes`.
    ///
    /// # Errors
    ///
    /// It is cut, something is left over, or something is out of bounds.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let text = |reader: &mut Reader<'_>| {
            let text = reader.str()?;
            if text.len() > KEY_MAX_BYTES { Err(Malformed) } else { Ok(text.to_owned()) }
        };
        let question = match reader.u8()? {
            0 => return Command::read(&bytes[1..]).map(Self::Write),
            1 => Self::Read { key: text(&mut reader)? },
            2 => {
                let (prefix, after) = (text(&mut reader)?, reader.option(text)?);
                let limit = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
                if limit > LIST_MAX {
                    return Err(Malformed);
                }
                Self::List { prefix, after, limit }
            }
            3 => {
                let uuid = Uuid::from_bytes(reader.array()?);
                let address = reader.str()?;
                if address.len() > ADDRESS_MAX_BYTES {
                    return Err(Malformed);
                }
                Self::AddLearner(Member { uuid, address: address.to_owned() })
            }
            4 => {
                let mut uuids = Vec::new();
                while !reader.is_empty() && uuids.len() < MEMBERS_MAX {
                    uuids.push(Uuid::from_bytes(reader.array()?));
                }
                Self::ChangeMembership(uuids)
            }
            5 => Self::TransferLeader(reader.option(|reader| reader.array().map(Uuid::from_bytes))?),
            6 => Self::RemoveLearner(Uuid::from_bytes(reader.array()?)),
            _ => return Err(Malformed),
        };
        reader.finish()?;
        Ok(question)
    }

    /// Reads the body of a request, where a path takes one.
    ///
    /// # Errors
    ///
    /// It is malformed or too large.
    pub fn parse(
        endpoint: Endpoint,
        body: &[u8],
        query: Option<&str>,
        idempotency_key: Option<String>,
    ) -> Result<Self, BadCommand> {
        let malformed = |what: &str| BadCommand::Malformed(what.to_owned());
        let value = || {
            json::read_value(body).map_err(|error| {
                BadCommand::Malformed(format!("the body is not JSON: at byte {}: {}", error.at, error.what))
            })
        };
        Ok(match endpoint {
            Endpoint::Write => Self::Write(Command::parse(body, idempotency_key)?),
            Endpoint::Read => {
                let Value::String(key) = value()? else { return Err(malformed("the body must be a key: \"k\"")) };
                check_key(&key)?;
                Self::Read { key: key.into_owned() }
            }
            Endpoint::List => parse_list(value()?)?,
            Endpoint::Watch => {
                let from = match parameter(query, "from") {
                    None => None,
                    Some(from) => Some(from.parse().map_err(|_| malformed("from must be an index, a whole number"))?),
                };
                Self::Watch { prefix: parameter(query, "prefix").unwrap_or_default(), from }
            }
            Endpoint::Init => Self::Init,
            Endpoint::GetId => Self::GetId,
            Endpoint::AddLearner => {
                let what = "the body must be [\"uuid\",\"host:port\"]";
                let Value::Array(items) = value()? else { return Err(malformed(what)) };
                let items: Vec<Value<'_>> = items.items().collect();
                let [Value::String(uuid), Value::String(address)] = &items[..] else { return Err(malformed(what)) };
                let uuid =
                    Uuid::parse(uuid).ok_or_else(|| malformed("the id of a node is a UUID, as /get-id says it"))?;
                if address.len() > ADDRESS_MAX_BYTES || !is_address(address) {
                    return Err(malformed("the address of a node is host:port"));
                }
                Self::AddLearner(Member { uuid, address: address.clone().into_owned() })
            }
            Endpoint::RemoveLearner => {
                let uuid = if let Value::String(uuid) = value()? { Uuid::parse(&uuid) } else { None };
                Self::RemoveLearner(uuid.ok_or_else(|| malformed("the body must be the id of a node: \"uuid\""))?)
            }
            Endpoint::ChangeMembership => {
                let what = "the body must be an array of ids: [\"uuid\",…]";
                let Value::Array(items) = value()? else { return Err(malformed(what)) };
                let mut uuids = Vec::new();
                for item in items.items() {
                    let Value::String(uuid) = item else { return Err(malformed(what)) };
                    uuids.push(Uuid::parse(&uuid).ok_or_else(|| malformed("the id of a node is a UUID"))?);
                }
                if uuids.is_empty() || uuids.len() > MEMBERS_MAX {
                    return Err(BadCommand::Malformed(format!("a cluster has 1 to {MEMBERS_MAX} voters")));
                }
                Self::ChangeMembership(uuids)
            }
            Endpoint::TransferLeader => match value()? {
                Value::Null => Self::TransferLeader(None),
                Value::String(uuid) => {
                    let uuid = Uuid::parse(&uuid).ok_or_else(|| malformed("the id of a node is a UUID"))?;
                    Self::TransferLeader(Some(uuid))
                }
                Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Array(_) | Value::Object(_) => {
                    return Err(malformed("the body must be an id, \"uuid\", or null"));
                }
            },
            Endpoint::Metrics => {
                Self::Metrics { as_prometheus: parameter(query, "format").as_deref() == Some("prometheus") }
            }
            Endpoint::Backup => Self::Backup,
            Endpoint::Healthz => Self::Healthz,
        })
    }
}

fn parse_list(value: Value<'_>) -> Result<Question, BadCommand> {
    let malformed = |what: &str| BadCommand::Malformed(what.to_owned());
    let what = "the body must be {\"prefix\":\"p\",\"after\":\"k\",\"limit\":100}; each may be left out";
    let Value::Object(object) = value else { return Err(malformed(what)) };
    let (mut prefix, mut after, mut limit) = (String::new(), None, LIST_DEFAULT);
    for (member, value) in object.members() {
        match (&*member, value) {
            ("prefix", Value::String(text)) if text.len() <= KEY_MAX_BYTES => prefix = text.into_owned(),
            ("after", Value::String(text)) if text.len() <= KEY_MAX_BYTES => after = Some(text.into_owned()),
            ("after", Value::Null) => after = None,
            ("limit", Value::Integer(number)) => {
                let number = usize::try_from(number).ok().filter(|number| (1..=LIST_MAX).contains(number));
                limit = number.ok_or_else(|| BadCommand::Malformed(format!("limit is 1 to {LIST_MAX}")))?;
            }
            _ => return Err(malformed(what)),
        }
    }
    Ok(Question::List { prefix, after, limit })
}

/// `host:port`, as far as one can see.
fn is_address(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The value of a parameter in a query, decoded; the first one, if there are several.
#[must_use]
pub fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON.
    Json,
    /// The text that Prometheus reads.
    Prometheus,
    /// A backup.
    Bytes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What the body is.
    pub kind: Kind,
    /// The body.
    pub body: Vec<u8>,
    /// For a read of what this node has applied: how old that may be.
    pub lag_ms: Option<u64>,
}

impl Answer {
    /// JSON that is written already.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind: Kind::Json, body: body.into(), lag_ms: None }
    }

    /// `{"Err":{NAME:TEXT}}`
    fn error(status: u16, name: &str, text: &str) -> Self {
        let mut body = format!("{{\"Err\":{{\"{name}\":").into_bytes();
        write_string(&mut body, text);
        body.extend_from_slice(b"}}");
        Self::json(status, body)
    }

    /// The body was malformed or too large.
    #[must_use]
    pub fn bad(error: &BadCommand) -> Self {
        match error {
            BadCommand::Malformed(what) => Self::error(400, "BadRequest", what),
            BadCommand::TooLarge(what) => Self::error(413, "TooLarge", what),
        }
    }

    /// Nobody leads whom one could ask.
    #[must_use]
    pub fn no_leader() -> Self {
        Self::json(503, format!("{{\"Err\":{{\"NoLeader\":{{\"retry_ms\":{RETRY_MS}}}}}}}"))
    }

    /// It may have been done, or not, or yet be done.
    #[must_use]
    pub fn unknown() -> Self {
        Self::json(503, "{\"Err\":\"Unknown\"}")
    }

    /// There is no room: `what` says where.
    #[must_use]
    pub fn full(what: &str) -> Self {
        Self::error(507, "Full", what)
    }

    /// An operation that this cluster does not allow now.
    #[must_use]
    pub fn not_allowed(why: &str) -> Self {
        let mut body = b"{\"Err\":{\"APIError\":{\"NotAllowed\":{\"reason\":".to_vec();
        write_string(&mut body, why);
        body.extend_from_slice(b"}}}}");
        Self::json(409, body)
    }

    /// A node that was to become a member belongs to another cluster.
    #[must_use]
    pub fn of_foreigner() -> Self {
        Self::not_allowed(
            "it belongs to another cluster; to add it, stop it, move its --data-dir away, and start it as a new node",
        )
    }

    /// `{"Ok":TEXT}`
    #[must_use]
    pub fn ok(text: &str) -> Self {
        let mut body = b"{\"Ok\":".to_vec();
        write_string(&mut body, text);
        body.push(b'}');
        Self::json(200, body)
    }

    /// What a write came to.
    #[must_use]
    pub fn of_write(command: &Command, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done(index) => {
                let mut body = b"{\"Ok\":{".to_vec();
                match command.changes.first().filter(|_| !command.is_batch) {
                    Some(change) => {
                        body.extend_from_slice(b"\"value\":");
                        write_option(&mut body, change.value());
                    }
                    None => body.extend_from_slice(format!("\"changes\":{}", command.changes.len()).as_bytes()),
                }
                body.extend_from_slice(format!(",\"index\":{index}}}}}").as_bytes());
                Self::json(200, body)
            }
            Outcome::Mismatch(key, value) => {
                let mut body = b"{\"Err\":{\"CasMismatch\":{".to_vec();
                if command.is_batch {
                    body.extend_from_slice(b"\"key\":");
                    write_string(&mut body, key);
                    body.push(b',');
                }
                body.extend_from_slice(b"\"value\":");
                write_option(&mut body, value.as_deref());
                body.extend_from_slice(b"}}}");
                Self::json(409, body)
            }
            Outcome::OtherCommand => Self::error(
                422,
                "BadRequest",
                "another write was sent with this Idempotency-Key; use a new key for a new write",
            ),
        }
    }

    /// What a read has found.
    #[must_use]
    pub fn of_read(value: Option<&str>) -> Self {
        value.map_or_else(|| Self::json(404, "{\"Err\":\"KeyNotFound\"}"), Self::ok)
    }

    /// A page of keys and values.
    pub fn of_list<'m>(mut pairs: impl Iterator<Item = (&'m str, &'m str)>, limit: usize) -> Self {
        let mut body = b"{\"Ok\":{\"entries\":[".to_vec();
        let mut last = None;
        let mut has_more = false;
        for count in 0.. {
            let Some((key, value)) = pairs.next() else { break };
            if count == limit || body.len() >= LIST_MAX_BYTES {
                has_more = true;
                break;
            }
            body.extend_from_slice(if count == 0 { b"[" } else { b",[" });
            write_string(&mut body, key);
            body.push(b',');
            write_string(&mut body, value);
            body.push(b']');
            last = Some(key);
        }
        body.extend_from_slice(b"],\"next\":");
        write_option(&mut body, last.filter(|_| has_more));
        body.extend_from_slice(b"}}");
        Self::json(200, body)
    }

    /// What happened under a prefix, up to the index `applied`; `None` if nothing did and `may_be_empty` is not.
    pub fn of_watch<'m>(
        events: impl Iterator<Item = &'m Event>,
        prefix: &str,
        applied: u64,
        may_be_empty: bool,
    ) -> Option<Self> {
        let mut body = b"{\"Ok\":{\"events\":[".to_vec();
        let (mut count, mut last, mut upto) = (0, 0, applied);
        for event in events.filter(|event| event.key.starts_with(prefix)) {
            if (count >= EVENTS_MAX || body.len() >= LIST_MAX_BYTES) && event.index != last {
                upto = last;
                break;
            }
            if count > 0 {
                body.push(b',');
            }
            body.extend_from_slice(format!("{{\"index\":{},\"key\":", event.index).as_bytes());
            write_string(&mut body, &event.key);
            body.extend_from_slice(b",\"value\":");
            write_option(&mut body, event.value.as_deref());
            body.push(b'}');
            (count, last) = (count + 1, event.index);
        }
        body.extend_from_slice(format!("],\"index\":{upto}}}}}").as_bytes());
        (count > 0 || may_be_empty).then(|| Self::json(200, body))
    }

    /// The history does not reach back so far.
    #[must_use]
    pub fn compacted(index: u64) -> Self {
        Self::json(410, format!("{{\"Err\":{{\"Compacted\":{{\"index\":{index}}}}}}}"))
    }

    /// Its bytes, to pass it back to the node that was asked. An answer that is passed back is never a backup.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 8);
        out.put_u32(u32::from(self.status));
        out.put_bytes(&self.body);
        out
    }

    /// Reads what [`Self::to_bytes`] writes. `None` is the answer of a node that does not lead.
    ///
    /// # Errors
    ///
    /// It is cut, something is left over, or something is out of bounds.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes);
        let status = u16::try_from(reader.u32()?).map_err(|_| Malformed)?;
        let body = reader.bytes()?.to_vec();
        reader.finish()?;
        match status {
            200 | 201 | 400 | 404 | 409 | 413 | 422 | 503 | 507 => Ok(Some(Self::json(status, body))),
            _ => Err(Malformed),
        }
    }
}

/// Appends a JSON string, or `null`.
pub(super) fn write_option(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// Ids as a JSON array, in order.
pub(super) fn write_ids<'i>(out: &mut Vec<u8>, membership: &Membership, ids: impl Iterator<Item = &'i NodeId>) {
    out.push(b'[');
    for (count, member) in ids.filter_map(|id| membership.members.get(id)).enumerate() {
        if count > 0 {
            out.push(b',');
        }
        write_string(out, &member.uuid.to_string());
    }
    out.push(b']');
}

const _: () = assert!(BATCH_MAX <= LIST_MAX);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;

    fn parse(endpoint: Endpoint, body: &str) -> Result<Question, BadCommand> {
        Question::parse(endpoint, body.as_bytes(), None, None)
    }

    const UUID: &str = "abababab-abab-4bab-abab-abababababab";

    #[test]
    fn questions_survive_being_passed_on() {
        let learner = format!("[\"{UUID}\",\"10.0.0.1:8080\"]");
        let both = format!("[\"{UUID}\",\"{UUID}\"]");
        for (endpoint, body) in [
            (Endpoint::Write, r#"{"Set":{"key":"k","value":"v"}}"#),
            (Endpoint::Read, r#""k""#),
            (Endpoint::List, "{}"),
            (Endpoint::List, r#"{"prefix":"p","after":"k","limit":7}"#),
            (Endpoint::AddLearner, &learner),
            (Endpoint::RemoveLearner, &format!("\"{UUID}\"")),
            (Endpoint::ChangeMembership, &both),
            (Endpoint::TransferLeader, "null"),
            (Endpoint::TransferLeader, &format!("\"{UUID}\"")),
        ] {
            let question = parse(endpoint, body).unwrap();
            let bytes = question.to_bytes().unwrap();
            assert_eq!(Question::read(&bytes), Ok(question.clone()), "{body}");
            for length in 0..bytes.len() {
                assert_ne!(Question::read(&bytes[..length]), Ok(question.clone()), "{body} cut at {length}");
            }
        }
    }

    #[test]
    fn bad_bodies_are_refused() {
        for (endpoint, body) in [
            (Endpoint::Read, "k"),
            (Endpoint::Read, "1"),
            (Endpoint::Read, "\"\""),
            (Endpoint::List, "[]"),
            (Endpoint::List, r#"{"limit":0}"#),
            (Endpoint::List, r#"{"limit":1001}"#),
            (Endpoint::List, r#"{"other":1}"#),
            (Endpoint::AddLearner, r#"["x","host:1"]"#),
            (Endpoint::AddLearner, &format!("[\"{UUID}\",\"host\"]")),
            (Endpoint::AddLearner, &format!("[\"{UUID}\",\"host:0\"]")),
            (Endpoint::RemoveLearner, "null"),
            (Endpoint::RemoveLearner, "\"x\""),
            (Endpoint::ChangeMembership, "[]"),
            (Endpoint::ChangeMembership, "[1]"),
            (Endpoint::TransferLeader, "1"),
        ] {
            assert!(matches!(parse(endpoint, body), Err(BadCommand::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Some("prefix=a%2Fb+c&from=7&prefix=x");
        assert_eq!(parameter(query, "prefix").as_deref(), Some("a/b c"));
        assert_eq!(parameter(query, "from").as_deref(), Some("7"));
        assert_eq!(parameter(query, "missing"), None);
        assert_eq!(parameter(Some("prefix=%f"), "prefix"), None);
        let watch = Question::parse(Endpoint::Watch, b"", query, None);
        assert_eq!(watch, Ok(Question::Watch { prefix: "a/b c".into(), from: Some(7) }));
    }

    #[test]
    fn answers_are_those_of_the_specification() {
        let text = |answer: Answer| (answer.status, String::from_utf8(answer.body).unwrap());
        let command = |body: &str| Command::parse(body.as_bytes(), None).unwrap();
        let set = command(r#"{"Set":{"key":"k","value":"v"}}"#);
        let cas = command(r#"{"Cas":{"key":"k","expect":"x","value":null}}"#);
        let mismatch = Outcome::Mismatch("k".into(), Some("v".into()));
        for (answer, status, body) in [
            (Answer::of_write(&set, &Outcome::Done(7)), 200, r#"{"Ok":{"value":"v","index":7}}"#),
            (Answer::of_write(&cas, &Outcome::Done(8)), 200, r#"{"Ok":{"value":null,"index":8}}"#),
            (Answer::of_write(&cas, &mismatch), 409, r#"{"Err":{"CasMismatch":{"value":"v"}}}"#),
            (Answer::of_read(Some("v\n")), 200, r#"{"Ok":"v\n"}"#),
            (Answer::of_read(None), 404, r#"{"Err":"KeyNotFound"}"#),
            (Answer::no_leader(), 503, r#"{"Err":{"NoLeader":{"retry_ms":200}}}"#),
            (Answer::unknown(), 503, r#"{"Err":"Unknown"}"#),
            (Answer::compacted(3), 410, r#"{"Err":{"Compacted":{"index":3}}}"#),
            (Answer::not_allowed("x"), 409, r#"{"Err":{"APIError":{"NotAllowed":{"reason":"x"}}}}"#),
        ] {
            assert_eq!(text(answer), (status, body.to_owned()));
        }
        let pairs = [("a", "1"), ("b", "2"), ("c", "3")];
        let list = |limit| text(Answer::of_list(pairs.into_iter(), limit)).1;
        assert_eq!(list(2), r#"{"Ok":{"entries":[["a","1"],["b","2"]],"next":"b"}}"#);
        assert_eq!(list(3), r#"{"Ok":{"entries":[["a","1"],["b","2"],["c","3"]],"next":null}}"#);
    }

    #[test]
    fn a_watch_never_splits_an_entry() {
        let event = |index| Event { index, key: Arc::from("k"), value: None };
        let mut events: Vec<Event> = (0..EVENTS_MAX as u64 - 1).map(event).collect();
        events.extend([event(5000), event(5000), event(6000)]);
        let answer = Answer::of_watch(events.iter(), "k", 7000, false).unwrap();
        let body = String::from_utf8(answer.body).unwrap();
        assert!(
            body.ends_with(r#"{"index":5000,"key":"k","value":null}],"index":5000}}"#),
            "{}",
            &body[body.len() - 90..]
        );
        assert_eq!(Answer::of_watch(events.iter(), "other", 7000, false), None);
        let empty = Answer::of_watch(events.iter(), "other", 7000, true).unwrap();
        assert_eq!(empty.body, br#"{"Ok":{"events":[],"index":7000}}"#);
    }
}

//! Request headers: what each means, what it may hold, and how it is read.
//!
//! Only those that an endpoint reads (its row of the table of endpoints) are looked at; the others may hold anything. Nothing
//! here knows what an operation does with them.

use super::Settings;
use super::endpoints::Endpoint;
use super::errors::ApiError;
use crate::http::{Field, Head};
use crate::node::request::{Condition, Etag, IfMatch, LockId};
use base64ct::{Base64UrlUnpadded, Encoding};

/// The longest time to live in seconds: ten years.
pub const MAX_TTL_SECONDS: u64 = 315_360_000;
/// The longest wait for a lock.
pub const MAX_LOCK_WAIT_MS: u64 = 30_000;
/// Characters of an idempotency key at most.
pub const MAX_IDEMPOTENCY_KEY_CHARS: usize = 128;
/// Characters of a customer's id at most.
pub const MAX_CUSTOMER_CHARS: usize = 64;
/// Characters of a lock id.
const LOCK_ID_CHARS: usize = 22;

/// The request headers that some endpoint reads, and what each is for. The manual is checked against this.
pub static REQUEST_HEADERS: [(Field, &str); 15] = [
    (Field::CustomerId, "whose stores these are"),
    (Field::ContentType, "application/octet-stream: the body is a blob, whatever it holds"),
    (Field::NotValidAfter, "the time to live in seconds"),
    (Field::NotValidAfterMs, "the time to live in milliseconds"),
    (Field::LockId, "the lock to complete, cancel or renew"),
    (Field::ReuseIfExists, "answer with the id of the store that has the name"),
    (Field::CreateIfMissing, "make an empty blob where there is none"),
    (Field::LockWait, "how long to wait in line for the lock, in milliseconds"),
    (Field::LockHold, "how long to hold the lock, in milliseconds"),
    (Field::LockScope, "connection: the lock also ends when this connection does"),
    (Field::IfMatch, "change only what is still this version"),
    (Field::IfNoneMatch, "change only if there is none"),
    (Field::IdempotencyKey, "makes a repeat harmless"),
    (Field::Durability, "replicated: answer only when the other node has it"),
    (Field::Read, "primary: the newest, not what a secondary has"),
];

/// What the headers of a request say, for those that its endpoint reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'b> {
    pub(super) ttl_ms: Option<u64>,
    pub(super) lock: Option<LockId>,
    pub(super) reuse: bool,
    pub(super) create_if_missing: bool,
    pub(super) wait_ms: u64,
    pub(super) hold_ms: Option<u64>,
    pub(super) connection_scope: bool,
    pub(super) condition: Condition,
    pub(super) idempotency_key: Option<&'b str>,
    pub(super) replicated: bool,
    /// `BigBunny-Read: primary`.
    pub(super) from_primary: bool,
    pub(super) is_octet_stream: bool,
}

/// Reads the headers that an endpoint reads, and checks each.
///
/// # Errors
/// One holds what it may not, or both headers of the time to live are there.
pub(super) fn read_fields<'b>(
    head: &Head<'b>,
    endpoint: &Endpoint,
    settings: &Settings,
) -> Result<Fields<'b>, ApiError> {
    let mut fields = Fields::default();
    for &field in endpoint.fields.iter().copied().flatten() {
        if let Some(value) = head.field(field) {
            read_field(&mut fields, field, value, settings)?;
        }
    }
    Ok(fields)
}

fn read_field<'b>(fields: &mut Fields<'b>, field: Field, value: &'b [u8], settings: &Settings) -> Result<(), ApiError> {
    match field {
        Field::NotValidAfter => {
            let seconds = bounded(value, 1, MAX_TTL_SECONDS);
            fields.set_ttl(seconds.ok_or_else(ttl_range)? * 1000)?;
        }
        Field::NotValidAfterMs => {
            let ttl_ms = bounded(value, 1, MAX_TTL_SECONDS * 1000);
            fields.set_ttl(ttl_ms.ok_or(ApiError::bad_request(
                "BigBunny-Not-Valid-After-Ms must be whole milliseconds, 1 to 315360000000",
            ))?)?;
        }
        // An empty one is as good as none: it cannot have been meant.
        Field::LockId => fields.lock = (!value.is_empty()).then(|| read_lock_id(value)),
        Field::ReuseIfExists => {
            fields.reuse = read_flag(value)
                .ok_or(ApiError::bad_request("BigBunny-Reuse-If-Exists must be true, or false, or left away"))?;
        }
        Field::CreateIfMissing => {
            fields.create_if_missing = read_flag(value)
                .ok_or(ApiError::bad_request("BigBunny-Create-If-Missing must be true, or false, or left away"))?;
        }
        Field::LockWait => {
            fields.wait_ms = bounded(value, 0, MAX_LOCK_WAIT_MS)
                .ok_or(ApiError::bad_request("BigBunny-Lock-Wait must be whole milliseconds, at most 30000"))?;
        }
        Field::LockHold => {
            let most = settings.max_lock_timeout_ms;
            fields.hold_ms = Some(bounded(value, 1, most).ok_or_else(|| {
                ApiError::made(
                    400,
                    format!("BigBunny-Lock-Hold must be whole milliseconds, 1 to {most} (--max-lock-timeout)"),
                )
            })?);
        }
        Field::LockScope => {
            if value != b"connection" {
                return Err(ApiError::bad_request("BigBunny-Lock-Scope must be connection, or left away"));
            }
            fields.connection_scope = true;
        }
        Field::IfMatch => fields.condition.if_match = read_if_match(value)?,
        Field::IfNoneMatch => {
            if value != b"*" {
                return Err(ApiError::bad_request("If-None-Match must be *: change only if there is none"));
            }
            fields.condition.if_none_match_any = true;
        }
        Field::IdempotencyKey => fields.idempotency_key = Some(read_idempotency_key(value)?),
        Field::Durability => {
            if value != b"replicated" {
                return Err(ApiError::bad_request("BigBunny-Durability must be replicated, or left away"));
            }
            fields.replicated = true;
        }
        Field::Read => {
            if value != b"primary" {
                return Err(ApiError::bad_request("BigBunny-Read must be primary, or left away"));
            }
            fields.from_primary = true;
        }
        Field::ContentType => fields.is_octet_stream = is_octet_stream(value),
        Field::Host
        | Field::ContentLength
        | Field::TransferEncoding
        | Field::Connection
        | Field::Expect
        | Field::CustomerId
        | Field::Authorization
        | Field::Accept => {}
    }
    Ok(())
}

impl Fields<'_> {
    fn set_ttl(&mut self, ttl_ms: u64) -> Result<(), ApiError> {
        match self.ttl_ms.replace(ttl_ms) {
            None => Ok(()),
            Some(_) => {
                Err(ApiError::bad_request("send BigBunny-Not-Valid-After or BigBunny-Not-Valid-After-Ms, not both"))
            }
        }
    }
}

fn ttl_range() -> ApiError {
    ApiError::bad_request("BigBunny-Not-Valid-After must be whole seconds, 1 to 315360000")
}

/// A decimal number of digits alone, from `least` to `most`.
pub(super) fn bounded(value: &[u8], least: u64, most: u64) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (least..=most).contains(&number).then_some(number)
}

fn read_flag(value: &[u8]) -> Option<bool> {
    match value {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// A text that cannot be a lock id is read as one that matches nothing: a wrong lock is the node's to refuse, however wrong.
fn read_lock_id(value: &[u8]) -> LockId {
    let mut bytes = [0; 16];
    if value.len() != LOCK_ID_CHARS {
        return LockId::FOREIGN;
    }
    match Base64UrlUnpadded::decode(value, &mut bytes) {
        Ok(_) => LockId(bytes),
        Err(_) => LockId::FOREIGN,
    }
}

/// `*` or one entity tag (RFC 9110 section 8.8.3). A list of tags is refused: no client of one store needs it.
fn read_if_match(value: &[u8]) -> Result<IfMatch, ApiError> {
    const BAD: ApiError =
        ApiError::bad_request("If-Match must be * or one ETag with its quotation marks, as in \"1.5\"");
    if value == b"*" {
        return Ok(IfMatch::Any);
    }
    // A weak tag never matches where the strong comparison is asked for (RFC 9110 section 13.1.1), and none of ours is weak.
    let (is_weak, quoted) = value.strip_prefix(b"W/").map_or((false, value), |quoted| (true, quoted));
    let opaque = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).ok_or(BAD)?;
    if opaque.iter().any(|&byte| byte <= b' ' || byte == b'"' || byte == 0x7f) {
        return Err(BAD);
    }
    if is_weak {
        return Ok(IfMatch::Foreign);
    }
    Ok(read_etag(opaque).map_or(IfMatch::Foreign, IfMatch::Tag))
}

/// `E.V`, just as it is written: no second text means the same tag.
fn read_etag(opaque: &[u8]) -> Option<Etag> {
    let dot = memchr::memchr(b'.', opaque)?;
    let (epoch, version) = (&opaque[..dot], &opaque[dot + 1..]);
    let is_padded = |digits: &[u8]| digits.len() > 1 && digits[0] == b'0';
    if is_padded(epoch) || is_padded(version) {
        return None;
    }
    let epoch = bounded(epoch, 0, u64::from(u32::MAX))?;
    Some(Etag { epoch: u32::try_from(epoch).ok()?, version: bounded(version, 0, u64::MAX)? })
}

fn read_idempotency_key(value: &[u8]) -> Result<&str, ApiError> {
    const BAD: ApiError = ApiError::bad_request("Idempotency-Key must be 1 to 128 printable ASCII characters");
    let is_printable = value.iter().all(|byte| (b' '..=b'~').contains(byte));
    if value.is_empty() || value.len() > MAX_IDEMPOTENCY_KEY_CHARS || !is_printable {
        return Err(BAD);
    }
    std::str::from_utf8(value).map_err(|_| BAD)
}

/// Reads a customer's id.
///
/// # Errors
/// It is not 1 to 64 of `A-Z a-z 0-9 _ -`.
pub(super) fn read_customer(value: &[u8]) -> Result<&str, ApiError> {
    const BAD: ApiError = ApiError::bad_request("X-Customer-ID must be 1 to 64 of A-Z a-z 0-9 _ -");
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if value.is_empty() || value.len() > MAX_CUSTOMER_CHARS || !value.iter().all(is_allowed) {
        return Err(BAD);
    }
    std::str::from_utf8(value).map_err(|_| BAD)
}

/// Whether a `Content-Type` says `application/octet-stream`, in any case and with any parameters.
fn is_octet_stream(value: &[u8]) -> bool {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    value[..end].trim_ascii_end().eq_ignore_ascii_case(b"application/octet-stream")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { max_store_size_bytes: 2048, max_lock_timeout_ms: 30_000 };

    /// What one header alone is read as.
    fn read(field: Field, value: &str) -> Result<Fields<'_>, ApiError> {
        let mut fields = Fields::default();
        read_field(&mut fields, field, value.as_bytes(), &SETTINGS).map(|()| fields)
    }

    /// Every value is refused with `400`, no code, and a line that names the header.
    fn refused(field: Field, values: &[&str]) {
        for value in values {
            let error = read(field, value).unwrap_err();
            assert_eq!((error.status(), error.code()), (400, None), "{field:?} {value:?}");
            assert!(error.line().contains(field.name()), "{field:?} {value:?}: {}", error.line());
        }
    }

    const NO_NUMBERS: [&str; 11] =
        ["", "-1", "+1", "1.0", "1e3", "0x1", "1 2", "1_0", "one", "18446744073709551616", "\u{661}"];

    #[test]
    fn times_to_live() {
        let ttl = |field, value| read(field, value).unwrap().ttl_ms;
        assert_eq!(ttl(Field::NotValidAfter, "1"), Some(1000));
        assert_eq!(ttl(Field::NotValidAfter, "0060"), Some(60_000));
        assert_eq!(ttl(Field::NotValidAfter, "315360000"), Some(315_360_000_000));
        refused(Field::NotValidAfter, &NO_NUMBERS);
        refused(Field::NotValidAfter, &["0", "315360001"]);
        assert_eq!(ttl(Field::NotValidAfterMs, "1"), Some(1));
        assert_eq!(ttl(Field::NotValidAfterMs, "315360000000"), Some(315_360_000_000));
        refused(Field::NotValidAfterMs, &NO_NUMBERS);
        refused(Field::NotValidAfterMs, &["0", "315360000001"]);
        let mut both = read(Field::NotValidAfter, "1").unwrap();
        assert!(read_field(&mut both, Field::NotValidAfterMs, b"1000", &SETTINGS).is_err());
    }

    #[test]
    fn locks() {
        assert_eq!(read(Field::LockWait, "0").unwrap().wait_ms, 0);
        assert_eq!(read(Field::LockWait, "30000").unwrap().wait_ms, 30_000);
        refused(Field::LockWait, &NO_NUMBERS);
        refused(Field::LockWait, &["30001"]);
        assert_eq!(read(Field::LockHold, "1").unwrap().hold_ms, Some(1));
        assert_eq!(read(Field::LockHold, "30000").unwrap().hold_ms, Some(30_000));
        refused(Field::LockHold, &NO_NUMBERS);
        refused(Field::LockHold, &["0", "30001"]);
        let settings = Settings { max_lock_timeout_ms: 7, ..SETTINGS };
        assert!(read_field(&mut Fields::default(), Field::LockHold, b"7", &settings).is_ok());
        assert!(read_field(&mut Fields::default(), Field::LockHold, b"8", &settings).is_err());
        assert!(read(Field::LockScope, "connection").unwrap().connection_scope);
        refused(Field::LockScope, &["", "Connection", "session"]);
    }

    #[test]
    fn lock_ids() {
        let id = |value| read(Field::LockId, value).unwrap().lock;
        assert_eq!(id("AAECAwQFBgcICQoLDA0ODw"), Some(LockId(std::array::from_fn(|index| index as u8))));
        assert_eq!(id("-_-_-_-_-_-_-_-_-_-_-w").unwrap().0[0], 0xfb);
        assert_eq!(id(""), None);
        for foreign in [
            "x",
            "AAECAwQFBgcICQoLDA0OD",
            "AAECAwQFBgcICQoLDA0ODwA",
            "AAECAwQFBgcICQoLDA0ODw==",
            "AAECAwQFBgcICQoLDA0OD+",
            "AAECAwQFBgcICQoLDA0ODx",
            "é",
        ] {
            assert_eq!(id(foreign), Some(LockId::FOREIGN), "{foreign}");
        }
    }

    #[test]
    fn flags() {
        assert!(read(Field::ReuseIfExists, "true").unwrap().reuse);
        assert!(!read(Field::ReuseIfExists, "false").unwrap().reuse);
        assert!(read(Field::CreateIfMissing, "true").unwrap().create_if_missing);
        assert!(!read(Field::CreateIfMissing, "false").unwrap().create_if_missing);
        for field in [Field::ReuseIfExists, Field::CreateIfMissing] {
            refused(field, &["", "1", "True", "yes", "true,true"]);
        }
        assert!(read(Field::Durability, "replicated").unwrap().replicated);
        refused(Field::Durability, &["", "local", "Replicated"]);
        assert!(read(Field::Read, "primary").is_ok());
        refused(Field::Read, &["", "secondary", "Primary"]);
    }

    #[test]
    fn conditions() {
        let if_match = |value| read(Field::IfMatch, value).unwrap().condition.if_match;
        assert_eq!(Fields::default().condition.if_match, IfMatch::Unset);
        assert_eq!(if_match("*"), IfMatch::Any);
        assert_eq!(if_match("\"1.5\""), IfMatch::Tag(Etag { epoch: 1, version: 5 }));
        assert_eq!(
            if_match("\"4294967295.18446744073709551615\""),
            IfMatch::Tag(Etag { epoch: u32::MAX, version: u64::MAX })
        );
        for foreign in [
            "\"\"",
            "\"1\"",
            "\"1.\"",
            "\".1\"",
            "\"01.5\"",
            "\"1.05\"",
            "\"1.5.6\"",
            "\"x\"",
            "W/\"1.5\"",
            "\"4294967296.1\"",
            "\"1.18446744073709551616\"",
            "\"+1.5\"",
            "\"é\"",
        ] {
            assert_eq!(if_match(foreign), IfMatch::Foreign, "{foreign}");
        }
        refused(
            Field::IfMatch,
            &["", "1.5", "\"1.5", "1.5\"", "\"", "'1.5'", "\"1.5\", \"1.6\"", "w/\"1.5\"", "W/1.5", "\"1 5\"", "**"],
        );
        assert!(read(Field::IfNoneMatch, "*").unwrap().condition.if_none_match_any);
        refused(Field::IfNoneMatch, &["", "\"1.5\"", "**"]);
    }

    #[test]
    fn keys_and_customers() {
        let longest = "k".repeat(128);
        for key in ["k", " a b", "~!\"\\", &longest] {
            assert_eq!(read(Field::IdempotencyKey, key).unwrap().idempotency_key, Some(key));
        }
        refused(Field::IdempotencyKey, &["", "a\tb", "é", "\u{7f}", &"k".repeat(129)]);
        let longest = "c".repeat(64);
        for customer in ["a", "Z-9_", &longest] {
            assert_eq!(read_customer(customer.as_bytes()).unwrap(), customer);
        }
        for customer in ["", "a b", "a.b", "a/b", "é", "a\0", &"c".repeat(65)] {
            assert_eq!(read_customer(customer.as_bytes()).unwrap_err().status(), 400, "{customer}");
        }
    }

    #[test]
    fn octet_streams() {
        for value in ["application/octet-stream", "Application/Octet-Stream", "application/octet-stream ; a=b"] {
            assert!(read(Field::ContentType, value).unwrap().is_octet_stream, "{value}");
        }
        for value in ["", "application/json", "application/octet-streams", "x;application/octet-stream"] {
            assert!(!read(Field::ContentType, value).unwrap().is_octet_stream, "{value}");
        }
    }
}

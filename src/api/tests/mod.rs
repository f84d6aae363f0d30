//! Tests of the API as a whole: text of a request in, operation or error out; answer in, text out.
#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

mod answers;
mod manual;
mod requests;
mod routes;

use super::*;
use crate::http::{HeadLimits, parse_head};
use crate::store_id::MasterKey;

pub(super) const SETTINGS: Settings = Settings { max_store_size_bytes: 2048, max_lock_timeout_ms: 30_000 };
const LIMITS: HeadLimits = HeadLimits { max_head_bytes: 65_536, max_target_bytes: 8192, max_fields: 64 };
pub(super) const KEY: StoreKey = StoreKey([7; 20]);
/// A well-formed lock id, and what it is read as.
pub(super) const LOCK: &str = "BigBunny-Lock-ID: AAECAwQFBgcICQoLDA0ODw";
pub(super) const LOCK_ID: LockId = LockId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

pub(super) fn keyring() -> KeyRing {
    KeyRing::new(vec![MasterKey::dev()], "0", Some("local")).unwrap()
}

/// The id of [`KEY`] for a customer.
pub(super) fn id_of(customer: &str) -> String {
    let mut id = Vec::new();
    keyring().seal(customer, &KEY, &mut id);
    String::from_utf8(id).unwrap()
}

/// A request's head, with lines of headers that are not about framing.
pub(super) fn head_text(method: &str, target: &str, headers: &[&str]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text
}

/// Takes a request through all that the API does before the node, and shows what came of it.
pub(super) fn ask_at(
    door: Door<'_>,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &[u8],
) -> Result<String, ApiError> {
    let text = head_text(method, target, headers);
    let (head, length) = parse_head(text.as_bytes(), &mut 0, &LIMITS).unwrap().unwrap();
    assert_eq!(length, text.len());
    let prepared = prepare(&head, &door, &SETTINGS, &mut keyring());
    // Whether the store id is opened with the rest or afterwards makes no difference.
    let opened_later = prepare_sealed(&head, &door, &SETTINGS)
        .and_then(|mut prepared| prepared.open(&mut keyring()).map(|()| format!("{prepared:?}")));
    assert_eq!(opened_later.ok(), prepared.as_ref().ok().map(|prepared| format!("{prepared:?}")));
    let mut prepared = prepared?;
    let call = prepared.call(ConnectionId(1), body)?;
    Ok(format!("{call:?}"))
}

/// Asks as the customer `c` at the main socket.
pub(super) fn ask(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Result<String, ApiError> {
    let mut all = vec!["X-Customer-ID: c"];
    all.extend_from_slice(headers);
    ask_at(Door::Main, method, target, &all, body)
}

/// What the node is asked by a good request.
pub(super) fn operation(method: &str, target: &str, headers: &[&str], body: &[u8]) -> String {
    let shown = ask(method, target, headers, body).unwrap();
    let start = shown.find("operation: ").unwrap() + "operation: ".len();
    shown[start..].strip_suffix(" })").unwrap().to_owned()
}

/// The status, the code and the line of a refused one.
pub(super) fn refusal(result: Result<String, ApiError>) -> (u16, Option<Code>, String) {
    let error = result.unwrap_err();
    (error.status(), error.code(), error.line().to_owned())
}

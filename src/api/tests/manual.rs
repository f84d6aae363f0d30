//! The manual bbd-api(7) says what the tables say, no less and no more.

use std::collections::BTreeSet;

use super::super::endpoints::{ENDPOINTS, MAX_NAMES_A_REQUEST, NAMES_BODY_LIMIT_BYTES, SMALL_BODY_LIMIT_BYTES};
use super::super::errors::ERRORS;
use super::super::fields::{MAX_IDEMPOTENCY_KEY_CHARS, MAX_LOCK_WAIT_MS, REQUEST_HEADERS};
use super::super::names::MAX_NAME_BYTES;
use super::*;
use crate::metrics::METRICS;
use crate::metrics::limits::LIMITS;
use crate::metrics::requests::NO_OPERATION;

const MANUAL: &str = include_str!("../../../man/bbd-api.7");

/// The text of one section.
fn section(title: &str) -> &'static str {
    let (_, rest) = MANUAL.split_once(&format!("\n.Sh {title}\n")).unwrap();
    rest.split_once("\n.Sh ").unwrap().0
}

/// What stands behind a macro, on every line of a text that begins with it.
fn lines_of<'t>(text: &'t str, start: &'t str) -> BTreeSet<&'t str> {
    text.lines().filter_map(|line| line.strip_prefix(start)).collect()
}

#[test]
fn endpoints() {
    let listed = lines_of(section("ENDPOINTS"), ".It Ic ");
    let known: BTreeSet<String> = ENDPOINTS
        .iter()
        .map(|endpoint| format!("{} Pa {}", endpoint.methods.allow().replace(", ", " , "), endpoint.path))
        .collect();
    assert_eq!(listed, known.iter().map(String::as_str).collect());
    for parameter in ENDPOINTS.iter().flat_map(|endpoint| endpoint.parameters) {
        assert!(MANUAL.contains(&format!("{parameter}=")), "{parameter}");
    }
}

#[test]
fn headers() {
    let known: BTreeSet<&str> = REQUEST_HEADERS.iter().map(|(field, _)| field.name()).collect();
    assert_eq!(lines_of(section("REQUEST HEADERS"), ".It Ic "), known);
    let known: BTreeSet<&str> = RESPONSE_HEADERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(lines_of(section("ANSWER HEADERS"), ".It Ic "), known);
    let read: BTreeSet<&str> =
        ENDPOINTS.iter().flat_map(|endpoint| endpoint.fields).copied().flatten().map(|field| field.name()).collect();
    let explained: BTreeSet<&str> = REQUEST_HEADERS.iter().map(|(field, _)| field.name()).collect();
    assert_eq!(explained.difference(&read).copied().collect::<Vec<_>>(), ["X-Customer-ID"]);
    assert!(read.is_subset(&explained));
}

#[test]
fn codes() {
    let known: BTreeSet<String> = ERRORS
        .iter()
        .map(|row| {
            let retry = if row.retry_after_ms.is_some() { "yes" } else { "no" };
            format!("{} Ta {} Ta {retry}", row.name, row.status)
        })
        .collect();
    let listed = lines_of(section("ERROR CODES"), ".It Er ");
    assert_eq!(listed, known.iter().map(String::as_str).collect());
    let names: Vec<_> = ERRORS.iter().map(|row| row.name).collect();
    for line in MANUAL.lines().filter(|line| line.contains("Er ")) {
        let (_, behind) = line.split_once("Er ").unwrap();
        let code = behind.split(' ').next().unwrap();
        assert!(names.contains(&code), "{line}");
    }
}

#[test]
fn limits() {
    for (number, unit) in [
        (SMALL_BODY_LIMIT_BYTES as u64, "a JSON body "),
        (NAMES_BODY_LIMIT_BYTES as u64, "list of names "),
        (MAX_NAMES_A_REQUEST as u64, "reads up to "),
        (MAX_NAMES_A_PAGE as u64, "for 1 to "),
        (MAX_NAME_BYTES as u64, "A name is 1 to "),
        (MAX_LOCK_WAIT_MS, "so many milliseconds, at most "),
        (MAX_TTL_SECONDS, "whole seconds, 1 to "),
        (MAX_IDEMPOTENCY_KEY_CHARS as u64, "1 to "),
    ] {
        assert!(MANUAL.replace('\n', " ").contains(&format!("{unit}{number}")), "{unit}{number}");
    }
}

#[test]
fn metrics() {
    let text = section("METRICS");
    let read = text.replace('\n', " ");
    for row in &METRICS {
        let labels = match row.labels {
            [] => String::new(),
            [only] => format!(", by {only}"),
            [first @ .., last] => format!(", by {} and {last}", first.join(", ")),
        };
        let entry = format!(".It Li {} {:?}{labels}. {} .", row.name, row.kind, row.help);
        assert!(read.contains(&entry), "{entry}");
    }
    let listed = lines_of(text, ".It Li ");
    let listed: Vec<&str> = listed.into_iter().map(|item| item.split(" Ta ").next().unwrap_or(item)).collect();
    let known: BTreeSet<&str> = METRICS.iter().map(|row| row.name).chain(LIMITS.iter().map(|row| row.name)).collect();
    assert_eq!(listed, known.into_iter().collect::<Vec<_>>());
    for name in ENDPOINTS.iter().map(|endpoint| endpoint.name).chain([NO_OPERATION]) {
        assert!(text.contains(&format!("\n.Li {name} ")), "{name}");
    }
}

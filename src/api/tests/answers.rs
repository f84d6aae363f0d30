//! Answers, errors and pages, as the bytes that leave.

use super::super::errors::ERRORS;
use super::*;
use crate::http::{HttpDate, ReplyFrame, Version};
use crate::json::CounterBodyMistake;
use crate::log::{Format, Level, Log, LogEvent};
use crate::metrics::limits::{Limit, LimitsMet};
use crate::metrics::requests::{AnswerResult, Requests};
use crate::metrics::{Kind, METRICS, metrics_text};
use crate::node::request::{Counter, Etag};
use crate::node::response::{Answer, Refusal, Response, StepTaken, StoreFacts, StoreView};
use crate::node::{NodeStatus, Role};
use crate::status::{PeerStatus, ProcessStatus, Protection, Sandbox, ShellStatus};
use crate::time::{Instant, Now, WallTime};

const FRAME: ReplyFrame = ReplyFrame { version: Version::Http11, head_only: false, close: false };
const FACTS: StoreFacts = StoreFacts { etag: Etag { epoch: 3, version: 12 }, ttl_left_ms: 59_001, locked: None };
const DATE_LINE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

fn date() -> HttpDate {
    HttpDate::new(WallTime(784_111_777_000))
}

fn text_of(operation: Operation, result: Result<Answer<'_>, Refusal>, facts: Option<StoreFacts>) -> String {
    let mut out = Vec::new();
    let response = Response::new(result, facts);
    write_answer(&mut out, &FRAME, &date(), ReplyShape { operation }, &response, &mut keyring());
    without_date(out)
}

/// The text of an answer without its date, if all its headers stand in the table.
fn without_date(out: Vec<u8>) -> String {
    let text = String::from_utf8(out).unwrap();
    for header in text.split("\r\n\r\n").next().unwrap().lines().skip(1) {
        let (name, _) = header.split_once(": ").unwrap();
        let is_known = RESPONSE_HEADERS.iter().any(|(known, _)| *known == name);
        assert!(is_known || name == "Content-Length", "{name} stands in no table");
    }
    text.replacen(DATE_LINE, "", 1)
}

fn body_of(operation: Operation, answer: Answer<'_>, facts: Option<StoreFacts>) -> String {
    let text = text_of(operation, Ok(answer), facts);
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn ids() {
    let id = id_of("c");
    let answer = |created| Ok(Answer::StoreId { customer: "c", key: KEY, created });
    let head = format!("ETag: \"3.12\"\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{id}", id.len());
    for (operation, created, line) in [
        (Operation::Create, true, "HTTP/1.1 200 OK\r\n"),
        (Operation::CreateByName, true, "HTTP/1.1 200 OK\r\n"),
        (Operation::CreateByName, false, "HTTP/1.1 200 OK\r\n"),
        (Operation::NamedPut, true, "HTTP/1.1 201 Created\r\n"),
        (Operation::NamedPut, false, "HTTP/1.1 200 OK\r\n"),
    ] {
        assert_eq!(text_of(operation, answer(created), Some(FACTS)), format!("{line}{head}"));
    }
    let looked_up = text_of(Operation::LookupIdByName, answer(false), Some(FACTS));
    assert!(looked_up.contains("\r\nBigBunny-Role: primary\r\n") && looked_up.ends_with(&id));
}

#[test]
fn blobs() {
    let facts = |locked| Some(StoreFacts { locked, ..FACTS });
    for operation in [Operation::Snapshot, Operation::NamedGet] {
        for (locked, state) in [(true, "held"), (false, "free")] {
            assert_eq!(
                text_of(operation, Ok(Answer::Blob(b"{\"a\":1}")), facts(Some(locked))),
                format!(
                    "HTTP/1.1 200 OK\r\nETag: \"3.12\"\r\nBigBunny-Role: primary\r\nBigBunny-Not-Valid-After: 60\r\n\
                     BigBunny-Not-Valid-After-Ms: 59001\r\nBigBunny-Lock-State: {state}\r\n\
                     Content-Type: application/octet-stream\r\nContent-Length: 7\r\n\r\n{{\"a\":1}}"
                )
            );
        }
    }
    let answer = |created| Ok(Answer::Locked { lock: LOCK_ID, body: b"x", created });
    assert_eq!(
        text_of(Operation::BeginModify, answer(false), facts(None)),
        format!(
            "HTTP/1.1 200 OK\r\nETag: \"3.12\"\r\nBigBunny-Not-Valid-After: 60\r\nBigBunny-Not-Valid-After-Ms: 59001\r\n\
             {LOCK}\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx"
        )
    );
    assert!(text_of(Operation::NamedBeginModify, answer(true), facts(None)).starts_with("HTTP/1.1 201 Created\r\n"));
}

#[test]
fn who_answered_and_with_what_doubt() {
    let mut response = Response::new(Ok(Answer::Blob(b"")), None);
    for (by, name) in [(Role::Primary, "primary"), (Role::Secondary, "secondary")] {
        for degraded in [false, true] {
            (response.by, response.degraded) = (by, degraded);
            let mut out = Vec::new();
            let shape = ReplyShape { operation: Operation::Snapshot };
            write_answer(&mut out, &FRAME, &date(), shape, &response, &mut keyring());
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(&format!("\r\nBigBunny-Role: {name}\r\n")), "{text}");
            assert_eq!(text.contains("\r\nBigBunny-Warning: DegradedWrite\r\n"), degraded, "{text}");
        }
    }
}

#[test]
fn the_seconds_left_are_rounded_up() {
    for (ttl_left_ms, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (315_360_000_000, 315_360_000)] {
        let facts = StoreFacts { ttl_left_ms, ..FACTS };
        let text = text_of(Operation::Snapshot, Ok(Answer::Blob(b"")), Some(facts));
        let expected = format!("BigBunny-Not-Valid-After: {seconds}\r\nBigBunny-Not-Valid-After-Ms: {ttl_left_ms}\r\n");
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn empty_answers() {
    let text = text_of(Operation::Update, Ok(Answer::Done), Some(FACTS));
    assert_eq!(text, "HTTP/1.1 200 OK\r\nETag: \"3.12\"\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(text_of(Operation::Delete, Ok(Answer::Done), None), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        text_of(Operation::Auth, Ok(Answer::Authorized), Some(FACTS)),
        "HTTP/1.1 204 No Content\r\nETag: \"3.12\"\r\nBigBunny-Not-Valid-After: 60\r\n\
         BigBunny-Not-Valid-After-Ms: 59001\r\n\r\n"
    );
}

#[test]
fn counters() {
    let bounded = Counter { value: 55, min: Some(0), max: Some(100) };
    let free = Counter { value: -5, min: None, max: None };
    let facts = Some(StoreFacts { etag: Etag { epoch: 1, version: 2 }, ttl_left_ms: 900, locked: None });
    let step = |bounded, applied, created| Some(StepTaken { bounded, applied, created });
    let cases = [
        (Operation::Snapshot, bounded, None, r#"{"value":55,"version":2,"min":0,"max":100}"#),
        (Operation::NamedGet, free, None, r#"{"value":-5,"version":2}"#),
        (
            Operation::Increment,
            bounded,
            step(false, 5, false),
            r#"{"value":55,"version":2,"bounded":false,"min":0,"max":100}"#,
        ),
        (Operation::Decrement, free, step(true, -5, false), r#"{"value":-5,"version":2,"bounded":true}"#),
        (
            Operation::NamedIncrement,
            bounded,
            step(true, 0, false),
            r#"{"value":55,"version":2,"bounded":true,"min":0,"max":100,"applied":0,"created":false,"remaining":45,"ttl_ms":900}"#,
        ),
        (
            Operation::NamedIncrement,
            free,
            step(false, -5, true),
            r#"{"value":-5,"version":2,"bounded":false,"applied":-5,"created":true,"ttl_ms":900}"#,
        ),
    ];
    for (operation, counter, step, expected) in cases {
        assert_eq!(body_of(operation, Answer::Counter { counter, step }, facts), expected);
    }
    let text = text_of(Operation::Snapshot, Ok(Answer::Counter { counter: free, step: None }), facts);
    assert!(text.contains("\r\nContent-Type: application/json\r\n"));
    assert!(text.contains("\r\nBigBunny-Not-Valid-After: 1\r\nBigBunny-Not-Valid-After-Ms: 900\r\n"));
}

/// The longest numbers fit in the buffers that are made for them.
#[test]
fn the_longest_counter_fits() {
    let counter = Counter { value: i64::MIN, min: Some(i64::MIN), max: Some(i64::MAX) };
    let step = Some(StepTaken { bounded: false, applied: -18_446_744_073_709_551_615, created: false });
    let etag = Etag { epoch: u32::MAX, version: u64::MAX };
    let facts = StoreFacts { etag, ttl_left_ms: u64::MAX, locked: None };
    let text = text_of(Operation::NamedIncrement, Ok(Answer::Counter { counter, step }), Some(facts));
    assert!(text.contains("\r\nETag: \"4294967295.18446744073709551615\"\r\n"));
    assert!(text.contains("\"remaining\":18446744073709551615"));
    assert!(body_of(Operation::NamedMany, Answer::Deleted { count: u64::MAX }, None).ends_with("615}"));
    let view = StoreView { name: "n", content: Content::Counter(counter), facts };
    assert!(body_of(Operation::NamedMany, Answer::Stores(vec![Some(view)]), None).ends_with("615}]}"));
}

#[test]
fn lists() {
    let names = |names: &[&'static str], more| {
        body_of(Operation::NamedList, Answer::Names { names: names.to_vec(), more }, None)
    };
    assert_eq!(names(&["a", "b"], true), r#"{"names":["a","b"],"next":"b"}"#);
    assert_eq!(names(&["a\"\\é"], false), "{\"names\":[\"a\\\"\\\\é\"]}");
    assert_eq!(names(&[], false), r#"{"names":[]}"#);
    assert_eq!(body_of(Operation::NamedDeletePrefix, Answer::Deleted { count: 7 }, None), r#"{"deleted":7}"#);
    let view = |name, content| Some(StoreView { name, content, facts: FACTS });
    let stores = vec![
        view("a", Content::Blob(b"x\"\n\x01")),
        None,
        view("b\"", Content::Blob(b"\xff\0")),
        view("c", Content::Counter(Counter { value: 5, min: Some(0), max: None })),
        view("d", Content::Counter(Counter { value: 5, min: None, max: None })),
        view("e", Content::Blob(b"")),
    ];
    assert_eq!(
        body_of(Operation::NamedMany, Answer::Stores(stores), None),
        r#"{"stores":[{"name":"a","body":"x\"\n\u0001","encoding":"utf8","etag":"3.12","ttl_ms":59001},null,"#
            .to_owned()
            + r#"{"name":"b\"","body":"/wA=","encoding":"base64","etag":"3.12","ttl_ms":59001},"#
            + r#"{"name":"c","value":5,"version":12,"min":0,"etag":"3.12","ttl_ms":59001},"#
            + r#"{"name":"d","value":5,"version":12,"etag":"3.12","ttl_ms":59001},"#
            + r#"{"name":"e","body":"","encoding":"utf8","etag":"3.12","ttl_ms":59001}]}"#
    );
    assert_eq!(body_of(Operation::NamedMany, Answer::Stores(vec![]), None), r#"{"stores":[]}"#);
}

/// Section 10 of the specification once more, written down by hand.
const SPECIFIED: [(&str, u16, bool); 20] = [
    ("NotFound", 404, false),
    ("Unauthorized", 403, false),
    ("StoreLocked", 409, true),
    ("LockMismatch", 409, false),
    ("LockStateUnknown", 409, true),
    ("NameExists", 409, false),
    ("StoreExpired", 410, false),
    ("VersionMismatch", 412, false),
    ("IdempotencyMismatch", 422, false),
    ("TypeMismatch", 400, false),
    ("ValueOutOfBounds", 400, false),
    ("InvalidBounds", 400, false),
    ("Overflow", 409, false),
    ("RateLimited", 429, true),
    ("TombstoneLimitExceeded", 429, true),
    ("LeaderChanged", 503, true),
    ("StoreUnavailable", 503, true),
    ("NotReplicated", 503, true),
    ("CapacityExceeded", 507, false),
    ("CustomerQuotaExceeded", 507, false),
];

fn error_text(error: &ApiError) -> String {
    let mut out = Vec::new();
    write_api_error(&mut out, &FRAME, &date(), error);
    without_date(out)
}

#[test]
fn every_error_of_the_table() {
    for (row, (name, status, is_retryable)) in ERRORS.iter().zip(SPECIFIED) {
        assert_eq!((row.name, row.status, row.retry_after_ms.is_some()), (name, status, is_retryable));
        let text = error_text(&ApiError::of(row.code));
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.contains(&format!("\r\nBigBunny-Error-Code: {name}\r\n")), "{text}");
        assert_eq!(text.contains("\r\nRetry-After: "), is_retryable, "{text}");
        assert_eq!(text.contains("\r\nBigBunny-Retry-After-Ms: "), is_retryable, "{text}");
        assert_eq!(text.contains("\r\nBigBunny-Lock-State: unknown\r\n"), name == "LockStateUnknown", "{text}");
        assert!(text.contains("\r\nContent-Type: text/plain\r\n"), "{text}");
        assert!(text.ends_with(&format!("\r\n\r\n{}\n", row.line)), "{text}");
    }
}

#[test]
fn every_refusal() {
    let cases = [
        (Refusal::NotFound, 404, Some("NotFound")),
        (Refusal::NotAuthorized, 401, None),
        (Refusal::StoreLocked { retry_after_ms: 5 }, 409, Some("StoreLocked")),
        (Refusal::LockMismatch, 409, Some("LockMismatch")),
        (Refusal::LockStateUnknown { retry_after_ms: 5 }, 409, Some("LockStateUnknown")),
        (Refusal::NameExists, 409, Some("NameExists")),
        (Refusal::StoreExpired, 410, Some("StoreExpired")),
        (Refusal::VersionMismatch, 412, Some("VersionMismatch")),
        (Refusal::IdempotencyMismatch, 422, Some("IdempotencyMismatch")),
        (Refusal::IdempotencyInProgress, 409, Some("StoreLocked")),
        (Refusal::TypeMismatch { needed: "blob" }, 400, Some("TypeMismatch")),
        (Refusal::TypeMismatch { needed: "counter" }, 400, Some("TypeMismatch")),
        (Refusal::ValueOutOfBounds, 400, Some("ValueOutOfBounds")),
        (Refusal::InvalidBounds, 400, Some("InvalidBounds")),
        (Refusal::BadCounterBody(CounterBodyMistake::Missing), 400, None),
        (Refusal::Overflow, 409, Some("Overflow")),
        (Refusal::RateLimited { retry_after_ms: 5 }, 429, Some("RateLimited")),
        (Refusal::TombstoneLimitExceeded, 429, Some("TombstoneLimitExceeded")),
        (Refusal::CapacityExceeded, 507, Some("CapacityExceeded")),
        (Refusal::CustomerQuotaExceeded, 507, Some("CustomerQuotaExceeded")),
        (Refusal::LeaderChanged, 503, Some("LeaderChanged")),
        (Refusal::StoreUnavailable, 503, Some("StoreUnavailable")),
        (Refusal::NotReplicated { applied: false }, 503, Some("NotReplicated")),
        (Refusal::NotReplicated { applied: true }, 503, Some("NotReplicated")),
        (Refusal::TooManyWaiting, 503, Some("StoreUnavailable")),
    ];
    for (refusal, status, code) in cases {
        let text = text_of(Operation::Update, Err(refusal), None);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        match code {
            Some(code) => assert!(text.contains(&format!("\r\nBigBunny-Error-Code: {code}\r\n")), "{text}"),
            None => assert!(!text.contains("BigBunny-Error-Code"), "{text}"),
        }
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(body.ends_with('\n') && body.len() > 5 && body.matches('\n').count() == 1, "{text}");
        assert!(!text.contains("ETag"));
    }
    let mismatch = text_of(Operation::Update, Err(Refusal::VersionMismatch), Some(FACTS));
    assert!(mismatch.contains("\r\nETag: \"3.12\"\r\n"), "{mismatch}");
}

#[test]
fn retries_are_told_in_whole_seconds_and_exactly() {
    for (retry_after_ms, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (30_000, 30)] {
        for refusal in [
            Refusal::StoreLocked { retry_after_ms },
            Refusal::LockStateUnknown { retry_after_ms },
            Refusal::RateLimited { retry_after_ms },
        ] {
            let text = text_of(Operation::Update, Err(refusal), None);
            let expected = format!("\r\nRetry-After: {seconds}\r\nBigBunny-Retry-After-Ms: {retry_after_ms}\r\n");
            assert!(text.contains(&expected), "{text}");
        }
    }
}

#[test]
fn errors_without_a_code() {
    let text = error_text(&refused("POST", "/status"));
    assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{text}");
    assert!(text.contains("\r\nAllow: GET, HEAD\r\n"), "{text}");
    let text = error_text(&refused("POST", "/x"));
    assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n") && !text.contains("BigBunny-Error-Code"), "{text}");
    let text = error_text(&ApiError::too_large(2048));
    assert!(text.starts_with("HTTP/1.1 413 ") && text.ends_with("\r\n\r\nthe body is longer than 2048 bytes\n"));
}

fn refused(method: &str, target: &str) -> ApiError {
    ask(method, target, &[], b"").unwrap_err()
}

#[test]
fn pages() {
    let node = NodeStatus {
        stores: 5,
        memory_bytes: 6,
        locks: 7,
        lock_expirations_total: 8,
        epoch: 1,
        ..NodeStatus::default()
    };
    let mut requests = Requests::default();
    requests.note(Some(Operation::Update), AnswerResult::of_code(Code::StoreLocked), Instant::ZERO, true);
    requests.note_end_of_turn(Instant::from_millis(3));
    let mut limits = LimitsMet::default();
    limits.note(Limit::Rate);
    let mut log = Log::to_stderr(Level::Error, Format::Text);
    log.event(Now::default(), LogEvent::Promoted, &[]);
    let peer = PeerStatus {
        host_id: "other".to_owned(),
        version: "1.2.4".to_owned(),
        lag: std::time::Duration::from_micros(1250),
        failures_total: 21,
        last_failure: "why".to_owned(),
        handshakes_total: 22,
        connection_ends: vec![("incoming", "WrongSite", 23)],
        forwarded_total: 24,
        served_forwards_total: 25,
    };
    let shell = ShellStatus {
        version: "1.2.3",
        host_id: "host",
        site: "local",
        started_at: WallTime(1_767_323_045_678),
        uptime: std::time::Duration::from_millis(1999),
        process: ProcessStatus { resident_bytes: Some(4096), cpu_time: std::time::Duration::from_millis(12) },
        requests: &requests,
        limits: &limits,
        log: &log,
        connections: 9,
        connections_limit: 1024,
        connections_accepted_total: 12,
        connections_rejected_total: 10,
        memory_limit_bytes: 11,
        loop_stalls_total: 13,
        longest_turn: std::time::Duration::from_micros(1500),
        now: Instant::from_millis(20_000),
        sandbox: Sandbox { seccomp: Protection::On, landlock: Protection::Unavailable },
        pid: 12,
        store_key: "20260101",
        warnings: &["a \"b\"".to_owned()],
        peer: None,
    };
    let page = |page| {
        let mut out = Vec::new();
        write_page(&mut out, &FRAME, &date(), page, &render_page(page, &node, &shell));
        String::from_utf8(out).unwrap()
    };
    for health in [Page::Healthz, Page::Readyz] {
        assert!(page(health).starts_with("HTTP/1.1 200 OK\r\n") && page(health).ends_with("\r\n\r\nok\n"));
    }
    assert!(page(Page::Options).starts_with("HTTP/1.1 204 No Content\r\n"));
    assert!(page(Page::Options).contains("\r\nAllow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n"));
    let status = page(Page::Status);
    assert!(status.contains("\r\nContent-Type: application/json\r\n"));
    let expected = r#"{"host_id":"host","site":"local","role":"PRIMARY","leader_epoch":1,"last_leader_seen":"0.000s","#
        .to_owned()
        + r#""store_count":5,"memory_usage":6,"tombstone_count":0,"peers":{},"queue_length":0,"registry_count":0,"#
        + r#""registry_queue_length":0,"registry_states":{},"replication_fail_count":0,"last_replication_fail":"","#
        + r#""version":"1.2.3","peer_version":"","uptime_seconds":1,"customer_count":0,"connections":9,"#
        + r#""replication_lag_ms":0,"lock_count":7,"#
        + r#""seccomp":"on","landlock":"unavailable","#
        + r#""pid":12,"store_key":"20260101","warnings":["a \"b\""]}"#;
    assert_eq!(status.split_once("\r\n\r\n").unwrap().1, expected + "\n");
    let metrics = page(Page::Metrics);
    assert!(metrics.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    let alone = metrics.split_once("\r\n\r\n").unwrap().1;
    let node = NodeStatus { peer_heard_at: Some(Instant::from_millis(19_750)), ..node };
    let paired = metrics_text(&node, &ShellStatus { peer: Some(&peer), ..shell });
    let of_peer: Vec<&str> = metrics_on(&paired).into_iter().filter(|name| !metrics_on(alone).contains(name)).collect();
    assert_eq!(
        metrics_on(&paired),
        METRICS.each_ref().map(|row| row.name),
        "with a peer there is every metric, in order"
    );
    assert!(
        of_peer.iter().all(|name| ["peer", "replication", "forward", "changes"].iter().any(|part| name.contains(part)))
    );
    for line in [
        "bbd_lock_expirations_total 8",
        "bbd_node_info{site=\"local\",host_id=\"host\",version=\"1.2.3\"} 1",
        "bbd_role{role=\"PRIMARY\"} 1",
        "bbd_role{role=\"JOINING\"} 0",
        "bbd_start_time_seconds 1767323045.678",
        "bbd_cpu_seconds_total 0.012",
        "bbd_requests_total{operation=\"update\",result=\"StoreLocked\"} 1",
        "bbd_request_duration_seconds_bucket{operation=\"update\",le=\"0.0025\"} 0",
        "bbd_request_duration_seconds_bucket{operation=\"update\",le=\"0.005\"} 1",
        "bbd_request_duration_seconds_bucket{operation=\"update\",le=\"+Inf\"} 1",
        "bbd_request_duration_seconds_sum{operation=\"update\"} 0.003",
        "bbd_limits_reached_total{limit=\"rate-limit\"} 1",
        "bbd_limits_reached_total{limit=\"memory-limit\"} 0",
        "bbd_log_events_total{event=\"promoted\"} 1",
        "bbd_peer_info{peer=\"other\",version=\"1.2.4\"} 1",
        "bbd_peer_silence_seconds{peer=\"other\"} 0.25",
        "bbd_peer_connection_ends_total{direction=\"incoming\",reason=\"WrongSite\"} 23",
        "bbd_replication_lag_seconds 0.00125",
    ] {
        assert!(paired.lines().any(|known| known == line), "{line} in {paired}");
    }
}

/// The metrics of a page, which is read strictly: help and type once and first, then samples with the labels of the table.
fn metrics_on(page: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        let row = METRICS.iter().find(|row| row.name == name).unwrap();
        assert_eq!((help, row.kind == Kind::Counter), (row.help, name.ends_with("_total")));
        assert_eq!(lines.next().unwrap(), format!("# TYPE {name} {}", row.kind.name()));
        let mut samples = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (series, labels) = series.split_once('{').unwrap_or((series, ""));
            assert!(
                series == name || (row.kind == Kind::Histogram && series.starts_with(&format!("{name}_"))),
                "{line}"
            );
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let labels: Vec<&str> = labels.map(|label| label.split('=').next().unwrap()).collect();
            let labels: Vec<&str> = labels.into_iter().filter(|label| *label != "le").collect();
            assert_eq!(labels, row.labels, "{line}");
            samples += 1;
        }
        assert!(samples > 0 && !names.contains(&name), "{name}");
        names.push(name);
    }
    names
}

#[test]
fn the_answer_to_an_operator() {
    let text = |released| {
        let mut out = Vec::new();
        write_released(&mut out, &FRAME, &date(), released);
        String::from_utf8(out).unwrap()
    };
    assert!(text(true).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(text(false).starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(text(false).contains("\r\nBigBunny-Error-Code: NotFound\r\n"));
}

//! Requests: what becomes of names, queries, customers and bodies, and every header where it is read and where it is not.

use super::super::endpoints::ENDPOINTS;
use super::super::fields::REQUEST_HEADERS;
use super::*;
use crate::node::request::{Condition, Etag, IfMatch};

#[test]
fn operations_are_what_the_request_says() {
    let id = id_of("c");
    let path = |verb: &str| format!("/api/v1/{verb}/{id}");
    let key = format!("{KEY:?}");
    let lock = format!("{LOCK_ID:?}");
    let cases = [
        (operation("POST", &path("snapshot"), &[], b"x"), format!("Read {{ target: Key({key}), touch: None }}")),
        (operation("GET", &path("snapshot").replace(':', "%3A"), &[], b""), format!("Read {{ target: Key({key}), touch: None }}")),
        (
            operation("POST", &path("update"), &["BigBunny-Lock-Wait: 5", "BigBunny-Not-Valid-After: 2"], b"ab"),
            format!("Update {{ key: {key}, body: [97, 98], ttl_ms: Some(2000), wait_ms: 5 }}"),
        ),
        (
            operation("POST", "/api/v1/create", &["BigBunny-Not-Valid-After-Ms: 7"], b"a"),
            "Create { content: Blob([97]), ttl_ms: Some(7) }".to_owned(),
        ),
        (
            operation("POST", "/api/v1/create-by-name/%6e", &["BigBunny-Reuse-If-Exists: true"], br#"{"type":"counter","value":1}"#),
            "CreateNamed { name: \"n\", content: Counter(Counter { value: 1, min: None, max: None }), ttl_ms: None, \
             reuse: true }"
                .to_owned(),
        ),
        (operation("GET", "/api/v1/lookup-id-by-name/n", &["BigBunny-Read: primary"], b""), "Lookup { name: \"n\" }".to_owned()),
        (operation("POST", "/api/v1/delete-by-name/n", &[], b""), "Delete { target: Name(\"n\") }".to_owned()),
        (operation("DELETE", "/api/v1/named/n", &[], b"x"), "Delete { target: Name(\"n\") }".to_owned()),
        (operation("POST", &path("delete"), &[], b""), format!("Delete {{ target: Key({key}) }}")),
        (
            operation("POST", &path("touch"), &["BigBunny-Not-Valid-After: 1"], b""),
            format!("Touch {{ target: Key({key}), ttl_ms: 1000 }}"),
        ),
        (
            operation("POST", "/api/v1/named/n/touch", &["BigBunny-Not-Valid-After: 1"], b""),
            "Touch { target: Name(\"n\"), ttl_ms: 1000 }".to_owned(),
        ),
        (
            operation("POST", &path("begin-modify"), &["BigBunny-Create-If-Missing: true", "BigBunny-Not-Valid-After: 1"], b""),
            format!(
                "BeginModify {{ target: Key({key}), wait_ms: 0, hold_ms: None, connection_scope: false, renew: None, \
                 create_if_missing: false, ttl_ms: None }}"
            ),
        ),
        (
            operation(
                "POST",
                "/api/v1/named/n/begin-modify",
                &[
                    LOCK,
                    "BigBunny-Create-If-Missing: true",
                    "BigBunny-Not-Valid-After: 1",
                    "BigBunny-Lock-Wait: 30000",
                    "BigBunny-Lock-Hold: 30000",
                    "BigBunny-Lock-Scope: connection",
                ],
                b"",
            ),
            format!(
                "BeginModify {{ target: Name(\"n\"), wait_ms: 30000, hold_ms: Some(30000), connection_scope: true, \
                 renew: Some({lock}), create_if_missing: true, ttl_ms: Some(1000) }}"
            ),
        ),
        (
            operation("POST", &path("complete-modify"), &[LOCK], b"a"),
            format!("CompleteModify {{ target: Key({key}), lock: {lock}, body: [97], ttl_ms: None }}"),
        ),
        (
            operation("POST", "/api/v1/named/n/complete-modify", &[LOCK], br#"{"type":"counter","value":1}"#)[..60].to_owned(),
            format!("CompleteModify {{ target: Name(\"n\"), lock: {lock}")[..60].to_owned(),
        ),
        (
            operation("POST", &path("cancel-modify"), &["BigBunny-Lock-ID: nonsense"], b""),
            format!("CancelModify {{ target: Key({key}), lock: {:?} }}", LockId::FOREIGN),
        ),
        (
            operation("POST", "/api/v1/named/n/cancel-modify", &[LOCK], b""),
            format!("CancelModify {{ target: Name(\"n\"), lock: {lock} }}"),
        ),
        (
            operation("POST", &path("increment"), &[], br#"{"delta":-9223372036854775808}"#),
            format!(
                "Increment {{ target: Key({key}), delta: -9223372036854775808, reject_at_bound: false, make: None, ttl_ms: None }}"
            ),
        ),
        (
            operation("POST", &path("decrement"), &[], br#"{"delta":-9223372036854775808}"#),
            format!(
                "Increment {{ target: Key({key}), delta: 9223372036854775808, reject_at_bound: false, make: None, ttl_ms: None }}"
            ),
        ),
        (
            operation(
                "POST",
                "/api/v1/named/n/increment",
                &["BigBunny-Not-Valid-After: 1"],
                br#"{"delta":1,"max":5,"ttl_ms":9,"bound":"reject"}"#,
            ),
            "Increment { target: Name(\"n\"), delta: 1, reject_at_bound: true, make: Some(CounterToMake { counter: Counter \
             { value: 0, min: None, max: Some(5) }, ttl_ms: Some(9) }), ttl_ms: Some(1000) }"
                .to_owned(),
        ),
        (operation("GET", "/api/v1/named/n", &[], b""), "Read { target: Name(\"n\"), touch: None }".to_owned()),
        (
            operation("GET", "/api/v1/named/n?touch=60&touch-if-below=30", &[], b""),
            "Read { target: Name(\"n\"), touch: Some(TouchOnRead { ttl_ms: 60000, if_below_ms: Some(30000) }) }".to_owned(),
        ),
        (
            operation("PUT", "/api/v1/named/n", &["BigBunny-Lock-Wait: 1"], b""),
            "Put { name: \"n\", content: Blob([]), ttl_ms: None, wait_ms: 1 }".to_owned(),
        ),
        (
            operation("PUT", "/api/v1/named/n", &["Content-Type: application/octet-stream"], br#"{"type":"counter","value":1}"#)
                [..30]
                .to_owned(),
            "Put { name: \"n\", content: Blob([123, 34".to_owned()[..30].to_owned(),
        ),
        (
            operation("HEAD", "/api/v1/auth/n?touch=1", &[], b""),
            "Authorize { name: Some(\"n\"), touch: Some(TouchOnRead { ttl_ms: 1000, if_below_ms: None }) }".to_owned(),
        ),
        (
            operation("GET", "/api/v1/named", &[], b""),
            "List { prefix: \"\", after: None, limit: 1000 }".to_owned(),
        ),
        (
            operation("GET", "/api/v1/named?prefix=%61+&after=&limit=1", &[], b""),
            "List { prefix: \"a+\", after: None, limit: 1 }".to_owned(),
        ),
        (
            operation("GET", "/api/v1/named?after=b&limit=1000", &[], b""),
            "List { prefix: \"\", after: Some(\"b\"), limit: 1000 }".to_owned(),
        ),
        (operation("DELETE", "/api/v1/named?prefix=", &[], b""), "DeletePrefix { prefix: \"\" }".to_owned()),
        (operation("DELETE", "/api/v1/named?prefix=%2e", &[], b""), "DeletePrefix { prefix: \".\" }".to_owned()),
        (operation("POST", "/api/v1/named", &[], br#"{"get":["a"]}"#), "ReadMany { names: [\"a\"] }".to_owned()),
        (operation("POST", "/api/v1/named", &[], br#"{"delete":["a"]}"#), "DeleteMany { names: [\"a\"] }".to_owned()),
        (
            operation("POST", "/api/v1/named/n/rename", &[], br#"{"to":"m"}"#),
            "Rename { name: \"n\", to: \"m\" }".to_owned(),
        ),
    ];
    for (shown, expected) in cases {
        assert_eq!(shown, expected);
    }
}

#[test]
fn what_cannot_be_a_name_is_refused_but_for_auth_not_there() {
    let paths = ["", ".", "..", "%2e%2E", "%00", "a%0d%0ab", "%ff", "%zz", "a%4", "%"];
    for name in paths {
        for (method, path) in [
            ("GET", format!("/api/v1/named/{name}")),
            ("PUT", format!("/api/v1/named/{name}")),
            ("DELETE", format!("/api/v1/named/{name}")),
            ("POST", format!("/api/v1/named/{name}/touch")),
            ("POST", format!("/api/v1/named/{name}/increment")),
            ("POST", format!("/api/v1/create-by-name/{name}")),
            ("GET", format!("/api/v1/lookup-id-by-name/{name}")),
        ] {
            let refused = refusal(ask(method, &path, &["BigBunny-Not-Valid-After: 1"], br#"{"delta":1}"#));
            assert_eq!((refused.0, refused.1), (400, None), "{method} {path}");
        }
        let auth = operation("GET", &format!("/api/v1/auth/{name}"), &[], b"");
        assert_eq!(auth, "Authorize { name: None, touch: None }", "{name}");
    }
    let long = "x".repeat(257);
    for target in [format!("named/{long}"), format!("lookup-id-by-name/{long}"), format!("named?prefix={long}")] {
        let refused = refusal(ask("GET", &format!("/api/v1/{target}"), &[], b""));
        assert_eq!((refused.0, refused.1), (414, None), "{target}");
    }
    for (path, body) in
        [("named/n/rename", format!("{{\"to\":\"{long}\"}}")), ("named", format!("{{\"get\":[\"{long}\"]}}"))]
    {
        let refused = refusal(ask("POST", &format!("/api/v1/{path}"), &[], body.as_bytes()));
        assert_eq!((refused.0, refused.1), (400, None), "{body}");
    }
    // A proxy puts a cookie there as it came: a slash in it is a part of the name.
    for path in ["/api/v1/auth/a%2Fb", "/api/v1/auth/a/b"] {
        assert_eq!(operation("GET", path, &[], b""), "Authorize { name: Some(\"a/b\"), touch: None }");
    }
    assert_eq!(operation("GET", "/api/v1/auth/../b", &[], b""), "Authorize { name: Some(\"../b\"), touch: None }");
}

#[test]
fn queries_are_checked_where_they_are_read() {
    for (method, target) in [
        ("GET", "/api/v1/named/n?touch=0"),
        ("GET", "/api/v1/named/n?touch=315360001"),
        ("GET", "/api/v1/named/n?touch="),
        ("GET", "/api/v1/named/n?touch"),
        ("GET", "/api/v1/named/n?touch=1.5"),
        ("GET", "/api/v1/named/n?touch-if-below=5"),
        ("GET", "/api/v1/named/n?touch=5&touch-if-below=x"),
        ("GET", "/api/v1/named/n?touch=5&touch=5"),
        ("GET", "/api/v1/named/n?tuch=5"),
        ("GET", "/api/v1/auth/n?touch=0"),
        ("GET", "/api/v1/auth/n?tuch=5"),
        ("GET", "/api/v1/named?limit=0"),
        ("GET", "/api/v1/named?limit=1001"),
        ("GET", "/api/v1/named?limit="),
        ("GET", "/api/v1/named?limit=-1"),
        ("GET", "/api/v1/named?limit=1&limit=1"),
        ("GET", "/api/v1/named?prefix=%zz"),
        ("GET", "/api/v1/named?prefix=%c3"),
        ("GET", "/api/v1/named?after=%00"),
        ("GET", "/api/v1/named?page=2"),
        ("DELETE", "/api/v1/named"),
        ("DELETE", "/api/v1/named?"),
        ("DELETE", "/api/v1/named?prefix"),
        ("DELETE", "/api/v1/named?prefx=a"),
        ("DELETE", "/api/v1/named?prefix=a&limit=1"),
        ("DELETE", "/api/v1/named?prefix=%0a"),
    ] {
        let refused = refusal(ask(method, target, &[], b""));
        assert_eq!((refused.0, refused.1), (400, None), "{method} {target}");
    }
    assert!(ask("GET", "/api/v1/named/n?touch=315360000&touch-if-below=1", &[], b"").is_ok());
    assert!(ask("GET", "/api/v1/lookup-id-by-name/n?touch=0&x", &[], b"").is_ok(), "a query that nobody reads");
}

/// A request that is good for every endpoint, as (method, target, headers, body).
fn good(endpoint: &Endpoint) -> (&'static str, String, Vec<&'static str>, &'static [u8]) {
    let method = super::routes::METHODS.iter().find(|(_, method)| endpoint.methods.contain(*method)).unwrap().0;
    let mut target = endpoint.path.replace("ID", &id_of("c")).replace("NAME", "n");
    if endpoint.operation == Operation::NamedDeletePrefix {
        target.push_str("?prefix=a");
    }
    let mut headers = vec!["X-Customer-ID: c"];
    if matches!(endpoint.operation, Operation::Touch | Operation::NamedTouch) {
        headers.push("BigBunny-Not-Valid-After: 1");
    }
    if endpoint.operation.name().contains("complete") || endpoint.operation.name().contains("cancel") {
        headers.push(LOCK);
    }
    let body: &[u8] = match endpoint.operation {
        Operation::Increment | Operation::Decrement | Operation::NamedIncrement => br#"{"delta":1}"#,
        Operation::NamedMany => br#"{"get":["a"]}"#,
        Operation::NamedRename => br#"{"to":"m"}"#,
        _ => b"",
    };
    (method, target, headers, body)
}

/// A header is checked where it is read, and may hold anything where it is not; twice it may stand nowhere.
#[test]
fn every_header_at_every_endpoint() {
    for endpoint in &ENDPOINTS {
        let (method, target, headers, body) = good(endpoint);
        let ask = |more: &[&str]| {
            let is_kept = |header: &&str| !more.iter().any(|other| same_name(header, other));
            let all: Vec<_> = headers.iter().copied().filter(is_kept).chain(more.iter().copied()).collect();
            ask_at(Door::Main, method, &target, &all, body)
        };
        assert!(ask(&[]).is_ok(), "{}", endpoint.name);
        for (field, _) in REQUEST_HEADERS {
            let name = field.name();
            let is_read = endpoint.fields.iter().copied().flatten().any(|known| *known == field);
            let bad = format!("{name}: \u{1F407}");
            match field {
                Field::CustomerId => {
                    let is_ok = endpoint.audience() == Audience::Anyone;
                    assert_eq!(ask(&[&bad]).is_ok(), is_ok, "{name} at {}", endpoint.name);
                }
                Field::ContentType | Field::LockId => assert!(ask(&[&bad]).is_ok(), "{name} at {}", endpoint.name),
                _ if is_read => {
                    let refused = refusal(ask(&[&bad]));
                    assert_eq!((refused.0, refused.1), (400, None), "{name} at {}", endpoint.name);
                    assert!(refused.2.contains(name), "{}", refused.2);
                }
                _ => assert!(ask(&[&bad]).is_ok(), "{name} at {}", endpoint.name),
            }
            let twice = format!("{name}: 1\r\n{name}: 1");
            let refused = refusal(ask(&[&twice]));
            assert_eq!((refused.0, refused.1), (400, None), "{name} twice at {}", endpoint.name);
            assert!(refused.2.contains(name), "{}", refused.2);
        }
        assert_eq!(refusal(ask(&["Content-Length: 0", "Expect: 200-ok"])).0, 417, "{}", endpoint.name);
        let both = ask(&["BigBunny-Not-Valid-After: 1", "BigBunny-Not-Valid-After-Ms: 1000"]);
        let reads_ttl = endpoint.fields.iter().copied().flatten().any(|known| *known == Field::NotValidAfter);
        assert_eq!(both.is_err(), reads_ttl, "{}", endpoint.name);
    }
}

fn same_name(header: &str, other: &str) -> bool {
    header.split(':').next() == other.split(':').next()
}

#[test]
fn what_is_needed_must_be_there() {
    let id = id_of("c");
    for target in [format!("/api/v1/touch/{id}"), "/api/v1/named/n/touch".to_owned()] {
        assert!(refusal(ask("POST", &target, &[], b"")).2.contains("BigBunny-Not-Valid-After is missing"));
    }
    for verb in ["complete-modify", "cancel-modify"] {
        for target in [format!("/api/v1/{verb}/{id}"), format!("/api/v1/named/n/{verb}")] {
            for headers in [&[][..], &["BigBunny-Lock-ID:"]] {
                let refused = refusal(ask("POST", &target, headers, b""));
                assert_eq!((refused.0, refused.1), (400, None));
                assert!(refused.2.contains("BigBunny-Lock-ID is missing"));
            }
        }
    }
}

#[test]
fn conditions_reach_the_node() {
    let shown = ask("PUT", "/api/v1/named/n", &["If-Match: \"2.9\"", "If-None-Match: *"], b"").unwrap();
    let condition = Condition { if_match: IfMatch::Tag(Etag { epoch: 2, version: 9 }), if_none_match_any: true };
    assert!(shown.contains(&format!("condition: {condition:?}")), "{shown}");
}

#[test]
fn ids_that_do_not_open_are_told_alike() {
    let good = id_of("c");
    let other = id_of("d");
    let mut altered = good.clone().into_bytes();
    let last = altered.len() - 2;
    altered[last] ^= 1;
    let altered = String::from_utf8(altered).unwrap();
    let other_key = good.replacen("v1:0:", "v1:1:", 1);
    let mut lines = Vec::new();
    for id in ["", "x", "v1:0:", "%zz", "%", "..", "%00", &other, &altered, &other_key, &good[1..], &format!("{good}A")]
    {
        for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.audience() == Audience::Customer) {
            if endpoint.path.ends_with("ID") {
                let (method, target, headers, body) = self::good(endpoint);
                let target = target.replace(&good, id);
                lines.push(refusal(ask_at(Door::Main, method, &target, &headers, body)));
            }
        }
    }
    assert!(lines.len() > 50);
    assert!(lines.iter().all(|line| line.0 == 400 && line.1.is_none() && *line == lines[0]), "{lines:?}");
}

#[test]
fn customers() {
    for endpoint in &ENDPOINTS {
        let (method, target, headers, body) = good(endpoint);
        let without: Vec<_> = headers.iter().copied().filter(|header| !header.starts_with("X-Customer")).collect();
        let is_needed = endpoint.path.starts_with("/api/v1/");
        let missing = ask_at(Door::Main, method, &target, &without, body);
        assert_eq!(missing.is_err(), is_needed, "{}", endpoint.name);
        if is_needed {
            let refused = refusal(missing);
            assert_eq!((refused.0, refused.1), (400, None));
            assert!(refused.2.contains("X-Customer-ID"));
        }
    }
    let shown = ask_at(Door::Main, "POST", "/internal/release-lock/x%3A", &["X-Customer-ID: c"], b"").unwrap();
    assert_eq!(shown, "ReleaseLock { id: [120, 58], customer: Some(\"c\") }");
    let shown = ask_at(Door::Main, "POST", "/internal/release-lock/x", &[], b"").unwrap();
    assert_eq!(shown, "ReleaseLock { id: [120], customer: None }");
}

#[test]
fn a_door_of_one_customer() {
    for endpoint in &ENDPOINTS {
        let (method, target, headers, body) = good(endpoint);
        let without: Vec<_> = headers.iter().copied().filter(|header| !header.starts_with("X-Customer")).collect();
        let mut other = without.clone();
        other.push("X-Customer-ID: d");
        let at = |headers: &[&str]| ask_at(Door::Customer("c"), method, &target, headers, body);
        match endpoint.audience() {
            Audience::Customer => {
                assert!(at(&headers).is_ok(), "{}", endpoint.name);
                assert!(at(&without).unwrap().contains("customer: \"c\""), "{}", endpoint.name);
                let refused = refusal(at(&other));
                assert_eq!((refused.0, refused.1), (403, Some(Code::Unauthorized)), "{}", endpoint.name);
            }
            Audience::Anyone => assert!(at(&other).is_ok(), "{}", endpoint.name),
            Audience::Operator => {
                for headers in [&headers, &without, &other] {
                    let refused = refusal(at(headers));
                    assert_eq!((refused.0, refused.1), (403, Some(Code::Unauthorized)), "{}", endpoint.name);
                }
            }
        }
    }
    assert_eq!(refusal(ask_at(Door::Customer("c"), "GET", "/api/v1/auth/n", &["X-Customer-ID: d d"], b"")).0, 400);
}

#[test]
fn the_door_of_operators() {
    for endpoint in &ENDPOINTS {
        let (method, target, headers, body) = good(endpoint);
        let result = ask_at(Door::Operators, method, &target, &headers, body);
        match endpoint.audience() {
            Audience::Operator | Audience::Anyone => assert!(result.is_ok(), "{}", endpoint.name),
            Audience::Customer => {
                let error = result.unwrap_err();
                assert!(error.is_for_operators_only(), "{}: {error:?}", endpoint.name);
                assert_eq!((error.status(), error.code()), (503, Some(Code::StoreUnavailable)));
            }
        }
    }
}

#[test]
fn the_door_of_metrics() {
    for endpoint in &ENDPOINTS {
        let (method, target, headers, body) = good(endpoint);
        let is_served = ["metrics", "healthz", "readyz"].contains(&endpoint.name);
        let result = ask_at(Door::Metrics, method, &target, &headers, body);
        assert_eq!(result.is_ok(), is_served, "{}", endpoint.name);
        if !is_served {
            assert_eq!(refusal(result).0, 404);
        }
    }
}

#[test]
fn durability_and_freshness_reach_the_node() {
    for endpoint in &ENDPOINTS {
        let (method, target, mut headers, body) = good(endpoint);
        headers.extend(["BigBunny-Durability: replicated", "BigBunny-Read: primary"]);
        let shown = ask_at(Door::Main, method, &target, &headers, body).unwrap();
        for (field, mark) in [(Field::Durability, "durable: true"), (Field::Read, "from_primary: true")] {
            let is_read = endpoint.fields.iter().copied().flatten().any(|known| *known == field);
            assert_eq!(shown.contains(mark), is_read, "{}: {shown}", endpoint.name);
        }
    }
    let plain = ask("PUT", "/api/v1/named/n", &[], b"").unwrap();
    assert!(plain.contains("durable: false, from_primary: false"), "{plain}");
}

#[test]
fn limits_of_bodies() {
    let text = |method: &str, target: &str, headers: &[&str]| head_text(method, target, headers);
    for endpoint in &ENDPOINTS {
        let (method, target, headers, _) = good(endpoint);
        let text = text(method, &target, &headers);
        let (head, _) = parse_head(text.as_bytes(), &mut 0, &LIMITS).unwrap().unwrap();
        let settings = Settings { max_store_size_bytes: 77, ..SETTINGS };
        let prepared = prepare(&head, &Door::Main, &settings, &mut keyring()).unwrap();
        let expected = match endpoint.body {
            Body::Ignored | Body::SmallJson => 4096,
            Body::Store => 77,
            Body::Names => 164_096,
        };
        assert_eq!(prepared.body_limit(), expected, "{}", endpoint.name);
        assert_eq!(prepared.reply_shape().operation, endpoint.operation);
    }
    // The longest list of names there can be fits.
    let name = "\\u0061".repeat(256);
    let body = format!("{{\"delete\":[{}]}}", vec![format!("\"{name}\""); 100].join(",\n        "));
    assert!(body.len() < 164_096);
    assert!(ask("POST", "/api/v1/named", &[], body.as_bytes()).is_ok());
}

/// The fingerprint that goes with an idempotency key.
fn fingerprint(method: &str, target: &str, headers: &[&str], body: &[u8]) -> String {
    let mut all = vec!["Idempotency-Key: k"];
    all.extend_from_slice(headers);
    let shown = ask(method, target, &all, body).unwrap();
    let start = shown.find("fingerprint: ").unwrap();
    let end = start + shown[start..].find(']').unwrap();
    shown[start..end].to_owned()
}

#[test]
fn fingerprints_tell_requests_apart() {
    let ttl = "BigBunny-Not-Valid-After: 1";
    let mut seen = vec![
        fingerprint("PUT", "/api/v1/named/n", &[], b"a"),
        fingerprint("PUT", "/api/v1/named/n", &[], b"b"),
        fingerprint("PUT", "/api/v1/named/n", &[], b""),
        fingerprint("PUT", "/api/v1/named/m", &[], b"a"),
        fingerprint("DELETE", "/api/v1/named/n", &[], b"a"),
        fingerprint("PUT", "/api/v1/named/n", &[ttl], b"a"),
        fingerprint("PUT", "/api/v1/named/n", &["BigBunny-Not-Valid-After-Ms: 1"], b"a"),
        fingerprint("PUT", "/api/v1/named/n", &["If-Match: *"], b"a"),
        fingerprint("PUT", "/api/v1/named/n", &["If-None-Match: *"], b"a"),
        fingerprint("DELETE", "/api/v1/named?prefix=a", &[], b""),
        fingerprint("DELETE", "/api/v1/named?prefix=b", &[], b""),
    ];
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
    let first = fingerprint("PUT", "/api/v1/named/n", &[], b"a");
    assert_eq!(first, fingerprint("PUT", "/api/v1/named/n", &["User-Agent: x", "BigBunny-Lock-Scope: y"], b"a"));
    let read = ask("POST", "/api/v1/named", &["Idempotency-Key: k"], br#"{"get":["a"]}"#).unwrap();
    assert!(read.contains("idempotency: None"), "a read needs none");
    assert!(ask("GET", "/api/v1/named/n", &["Idempotency-Key: k"], b"").unwrap().contains("idempotency: None"));
}

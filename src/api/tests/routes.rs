//! Every path with every method.

use super::super::endpoints::{ENDPOINTS, Operation, Route, all_methods, route};
use super::*;

/// Section 3 of the specification once more, written down by hand: path, methods, operation.
const SPECIFIED: [(&str, &str, Operation); 35] = [
    ("/api/v1/create", "POST", Operation::Create),
    ("/api/v1/create-by-name/n", "POST", Operation::CreateByName),
    ("/api/v1/lookup-id-by-name/n", "GET, HEAD, POST", Operation::LookupIdByName),
    ("/api/v1/delete-by-name/n", "POST", Operation::DeleteByName),
    ("/api/v1/snapshot/x", "GET, HEAD, POST", Operation::Snapshot),
    ("/api/v1/update/x", "POST", Operation::Update),
    ("/api/v1/begin-modify/x", "POST", Operation::BeginModify),
    ("/api/v1/complete-modify/x", "POST", Operation::CompleteModify),
    ("/api/v1/cancel-modify/x", "POST", Operation::CancelModify),
    ("/api/v1/delete/x", "POST", Operation::Delete),
    ("/api/v1/increment/x", "POST", Operation::Increment),
    ("/api/v1/decrement/x", "POST", Operation::Decrement),
    ("/api/v1/touch/x", "POST", Operation::Touch),
    ("/api/v1/named/n", "GET, HEAD", Operation::NamedGet),
    ("/api/v1/named/n", "PUT", Operation::NamedPut),
    ("/api/v1/named/n", "DELETE", Operation::NamedDelete),
    ("/api/v1/named/n/touch", "POST", Operation::NamedTouch),
    ("/api/v1/named/n/increment", "POST", Operation::NamedIncrement),
    ("/api/v1/named/n/begin-modify", "POST", Operation::NamedBeginModify),
    ("/api/v1/named/n/complete-modify", "POST", Operation::NamedCompleteModify),
    ("/api/v1/named/n/cancel-modify", "POST", Operation::NamedCancelModify),
    ("/api/v1/named/n/rename", "POST", Operation::NamedRename),
    ("/api/v1/named", "GET, HEAD", Operation::NamedList),
    ("/api/v1/named", "POST", Operation::NamedMany),
    ("/api/v1/named", "DELETE", Operation::NamedDeletePrefix),
    ("/api/v1/auth/n", "GET, HEAD", Operation::Auth),
    ("/api/v1/auth/n/m", "GET, HEAD", Operation::Auth),
    ("/api/v1/auth/", "GET, HEAD", Operation::Auth),
    ("/status", "GET, HEAD", Operation::Status),
    ("/metrics", "GET, HEAD", Operation::Metrics),
    ("/healthz", "GET, HEAD", Operation::Healthz),
    ("/readyz", "GET, HEAD", Operation::Readyz),
    ("/internal/promote", "POST", Operation::Promote),
    ("/internal/release-lock/x", "POST", Operation::ReleaseLock),
    ("*", "OPTIONS", Operation::Options),
];

pub(super) const METHODS: [(&str, Method); 9] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("OPTIONS", Method::Options),
    ("TRACE", Method::Trace),
    ("PATCH", Method::Patch),
    ("BREW", Method::Other),
];

#[test]
fn every_path_with_every_method() {
    let mut reached = Vec::new();
    for (path, _, _) in SPECIFIED {
        for (name, method) in METHODS {
            let rows = || SPECIFIED.iter().filter(|(known, _, _)| *known == path);
            let expected = rows().find(|(_, methods, _)| methods.split(", ").any(|known| known == name));
            match (route(method, path.as_bytes()), expected) {
                (Route::Found(endpoint, argument), Some((_, _, operation))) => {
                    assert_eq!(endpoint.operation, *operation, "{name} {path}");
                    let argument = std::str::from_utf8(argument).unwrap();
                    let shown = endpoint.path.replace("ID", argument).replace("NAME", argument);
                    assert_eq!(shown, path, "{name} {path}");
                    reached.push(endpoint.operation);
                }
                (Route::WrongMethod(methods), None) => {
                    let mut allowed: Vec<_> = rows().flat_map(|(_, methods, _)| methods.split(", ")).collect();
                    allowed.sort_by_key(|name| METHODS.iter().position(|(known, _)| known == name));
                    assert_eq!(methods.allow(), allowed.join(", "), "{name} {path}");
                }
                (other, expected) => panic!("{name} {path}: {other:?}, not {expected:?}"),
            }
        }
    }
    for endpoint in &ENDPOINTS {
        assert!(reached.contains(&endpoint.operation), "{} is not in the specification", endpoint.name);
        assert_eq!(ENDPOINTS.iter().filter(|other| other.operation == endpoint.operation).count(), 1);
        assert_eq!(ENDPOINTS.iter().filter(|other| other.name == endpoint.name).count(), 1);
        assert_eq!(endpoint.operation.name(), endpoint.name);
    }
    assert_eq!(all_methods().allow(), "GET, HEAD, POST, PUT, DELETE, OPTIONS");
}

#[test]
fn paths_are_not_normalised() {
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/create/",
        "/api/v1/creat",
        "/api/v1/created",
        "/api/v1/snapshot",
        "/api/v1/snapshot/x/",
        "/api/v1/snapshot/x/y",
        "/api/v1/named/n/",
        "/api/v1/named/n/touch/",
        "/api/v1/named/n/decrement",
        "/api/v1/named/n/m/touch",
        "/api/v1/auth",
        "/api/v2/create",
        "/API/v1/create",
        "/api/v1/%63reate",
        "/api/v1/../v1/create",
        "/./status",
        "/v1/%2e%2e/x",
        "/status/",
        "/internal/promote/x",
        "/internal/hello",
        "/metrics/x",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"] {
            assert_eq!(refusal(ask(method, path, &[], b"")).0, 404, "{method} {path}");
        }
        assert_eq!(refusal(ask("TRACE", path, &[], b"")).0, 501);
        assert_eq!(refusal(ask("BREW", path, &[], b"")).0, 501);
    }
    for path in ["/%zz", "/api/v1/x%4", "/%"] {
        assert_eq!(refusal(ask("GET", path, &[], b"")).0, 400, "{path}");
    }
    assert_eq!(refusal(ask("TRACE", "/status", &[], b"")).0, 405);
    assert_eq!(refusal(ask("BREW", "/status", &[], b"")).0, 501);
    assert_eq!(refusal(ask("get", "/status", &[], b"")).0, 501);
}

//! H: header fields.

use super::case::{Case, Ends, MARKER, equal, get, get_named, get_with, no_echo, no_stores, put};

const LIMIT_BYTES: usize = 65_536;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::closed("H01", "3.2 MUST", "GET /healthz HTTP/1.1\r\n\r\n", &[&[400]]),
        Case::closed("H02", "3.2 MUST", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[&[400]]),
        Case::closed("H02", "3.2 MUST", "GET /healthz HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n", &[&[400]]),
        Case::open("H04", "3.2", "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", &[&[200]]),
        Case::closed("H05", "3.2, 9.3", "GET /healthz HTTP/1.0\r\n\r\n", &[&[200]]),
        Case::closed("H06", "5.1 MUST", get_with("X : y\r\n"), &[&[400]]),
        Case::closed("H06", "5.1 MUST", get_with("X\t: y\r\n"), &[&[400]]),
        Case::closed("H07", "2.2 MUST reject or drop", "GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n", &[&[400]]),
        Case::closed("H07", "2.2 MUST reject or drop", "GET /healthz HTTP/1.1\r\n\tHost: a\r\n\r\n", &[&[400]]),
        Case::closed("H08", "5.2", "GET /healthz HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", &[&[400]]),
        Case::open("H13", "9110 5.5", get_with(b"X: \x80\xff\xc3\xa9\r\n"), &[&[200]]),
        Case::open(
            "H14",
            "trimmed",
            "GET /api/v1/named/probe HTTP/1.1\r\nHost: a\r\nX-Customer-ID:\t probe \t\r\n\r\n",
            &[&[200]],
        ),
        Case::closed("H14", "not trimmed", customer(b"\x0bprobe"), &[&[400]]),
        Case::closed("H14", "not trimmed", customer(b"probe\x0c"), &[&[400]]),
        Case::open("H14", "not trimmed", customer(b"\xa0probe"), &[&[400]]),
        Case::open("H14", "not trimmed", customer(b"probe\x85"), &[&[400]]),
        Case::open("H15", "5", get_with("X:\r\nAccept: \t\r\n"), &[&[200]]),
        Case::open("H16", "9110 5.4 MUST 4xx; RFC 6585", get_with("X: y\r\n".repeat(62)), &[&[200]]),
        Case::closed("H16", "9110 5.4 MUST 4xx; RFC 6585", get_with("X: y\r\n".repeat(63)), &[&[431]]),
        Case::closed("H17", "RFC 6585 5", get_with(format!("X: {}\r\n", "y".repeat(LIMIT_BYTES))), &[&[431]]),
        Case::closed("H17", "RFC 6585 5", of_length(LIMIT_BYTES + 1), &[&[431]]),
        Case::open("H17", "RFC 6585 5", of_length(LIMIT_BYTES), &[&[200]]),
        Case::open("H18", "9110 5.3", get_with("X-Customer-ID: probe\r\n"), &[&[400]]),
        Case::open("H18", "9110 5.3", put("bad", "h18", ttl_twice(), "hi"), &[&[400]]),
        Case::open(
            "H18",
            "9110 5.3",
            put("bad", "h18", "If-Match: *\r\nif-match: \"1.1\"\r\nContent-Length: 2\r\n", "hi"),
            &[&[400]],
        ),
        Case::closed("H19", "strict", "GET /healthz HTTP/1.1\r\nHost: a\r\n\rX", &[&[400]]),
        Case::closed(
            "H20",
            "9.6 MUST NOT",
            [get_with("Connection: close\r\n"), put("bad", "h20", "Content-Length: 2\r\n", "hi")].concat(),
            &[&[200]],
        )
        .after(|daemon| no_stores(daemon, "bad")),
        Case::open(
            "H21",
            "hop-by-hop trick",
            stored("h21a", "Connection: Content-Length\r\nContent-Length: 2\r\n", "hi"),
            &[&[200, 201], &[200]],
        )
        .check(2, |answer| equal(answer, "hi")),
        Case::open(
            "H21",
            "hop-by-hop trick",
            stored("h21b", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            &[&[200, 201], &[200]],
        )
        .check(2, |answer| equal(answer, "hi")),
        Case::open("H22", "not an alias", get_with("Content_Length: 5\r\n"), &[&[200]]),
        Case::open("H23", "5", stored("h23", "cOnTeNt-LeNgTh: 2\r\n", "hi"), &[&[200, 201], &[200]])
            .check(2, |answer| equal(answer, "hi")),
        Case::open(
            "H24",
            "RUSTSEC-2026-0033",
            upgrade("h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
            &[&[200], &[200]],
        ),
        Case::open(
            "H24",
            "RUSTSEC-2026-0033",
            upgrade("websocket", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
            &[&[200], &[200]],
        ),
        Case::open("H25", "9.3", "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &[&[200]])
            .ends(Ends::AsTold)
            .check(1, |answer| {
                answer.header("Connection").map(|_| ()).ok_or_else(|| "the answer does not tell".into())
            }),
        // S10 and S12 are about answers to bad heads.
        Case::closed("S10", "9.6", format!("GET /{MARKER} HTTP/1.1\r\nX: {MARKER}\r\n\r\n"), &[&[400]])
            .check(1, no_echo),
        Case::closed("S10", "9.6", format!("GET /{MARKER}^ HTTP/1.1\r\nHost: a\r\n\r\n"), &[&[400]]).check(1, no_echo),
        Case::closed("S10", "9.6", get(format!("/{}", MARKER.repeat(9_000))), &[&[414]]).check(1, no_echo),
        Case::closed("S10", "9.6", get_with(format!("{MARKER}: {MARKER}\r\n").repeat(100)), &[&[431]])
            .check(1, no_echo),
        Case::closed("S10", "9.6", get_with(format!("{MARKER}: {}\r\n", MARKER.repeat(10_000))), &[&[431]])
            .check(1, no_echo),
        Case::closed(
            "S12",
            "first answered in full",
            [get_with(""), b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()].concat(),
            &[&[200], &[400]],
        )
        .check(1, |answer| equal(answer, super::PROBE_BODY)),
    ];
    for host in ["a b", "a/b", "u@a", "a,b", "a:99999"] {
        cases.push(Case::closed(
            "H03",
            "3.2 MUST",
            format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[&[400]],
        ));
    }
    for folded in [
        "X: y\r\n z\r\n",
        "X: y\r\n\tz\r\n",
        "Content-Length: 1\r\n 2\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X:\r\n \r\n",
    ] {
        cases.push(Case::closed("H08", "5.2", get_with(folded), &[&[400]]));
    }
    for bad in ["no colon\r\n", "nocolon\r\n", ": v\r\n", ":\r\n"] {
        cases.push(Case::closed("H09", "5", get_with(bad), &[&[400]]));
    }
    for name in [&b"X[]"[..], b"X@", b"X Y", b"X\0", b"X\x7f", b"\x80", b"X\xff"] {
        cases.push(Case::closed("H10", "9110 5.1", get_with([name, b": y\r\n"].concat()), &[&[400]]));
    }
    for value in [&b"a\0b"[..], b"a\rb", b"a\nb", b"\r", b"a\r\rb"] {
        cases.push(Case::closed("H11", "9110 5.5 MUST", get_with([b"X: ", value, b"\r\n"].concat()), &[&[400]]));
    }
    for byte in (1..=0x1f).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
        cases.push(Case::closed(
            "H12",
            "9110 5.5 MAY keep; strict",
            get_with([b"X: a", &[byte][..], b"b\r\n"].concat()),
            &[&[400]],
        ));
    }
    cases
}

/// A `PUT` of something, and a `GET` of it.
fn stored(name: &str, lines: &str, body: &str) -> Vec<u8> {
    [put("good", name, lines, body), get_named("good", name)].concat()
}

/// A request of a customer whose id is written so.
fn customer(id: &[u8]) -> Vec<u8> {
    [b"GET /api/v1/named/probe HTTP/1.1\r\nHost: a\r\nX-Customer-ID: ", id, b"\r\n\r\n"].concat()
}

/// A head of `bytes` bytes.
fn of_length(bytes: usize) -> Vec<u8> {
    let rest = get_with("X: \r\n").len();
    get_with(format!("X: {}\r\n", "y".repeat(bytes - rest)))
}

fn ttl_twice() -> &'static str {
    "BigBunny-Not-Valid-After: 5\r\nBigBunny-Not-Valid-After: 6\r\nContent-Length: 2\r\n"
}

/// A request that asks for another protocol, and the bytes of the next one at once.
fn upgrade(protocol: &str, lines: &str) -> Vec<u8> {
    [get_with(format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n{lines}")), get_with("")].concat()
}

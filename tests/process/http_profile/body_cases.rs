//! C and T: Content-Length, Transfer-Encoding, chunks; and what of E is bytes alone.

use super::case::{Case, Ends, Which, equal, get_named, get_with, no_stores, put};

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
/// What a body of two bytes gets.
const STORED: &[u16] = &[200, 201];

pub(crate) fn cases() -> Vec<Case> {
    [lengths(), codings(), chunks(), trailers(), expectations()].concat()
}

/// A `PUT` that must change nothing.
fn bad(lines: impl AsRef<[u8]>, rest: impl AsRef<[u8]>) -> Vec<u8> {
    put("bad", "x", lines, rest)
}

/// A `PUT` of something, and a `GET` of it.
fn stored(name: &str, lines: &str, body: &str) -> Vec<u8> {
    [put("good", name, lines, body), get_named("good", name)].concat()
}

fn lengths() -> Vec<Case> {
    let mut cases = vec![
        Case::closed(
            "C01",
            "6.3 may merge; strict",
            bad("Content-Length: 2\r\nContent-Length: 2\r\n", "hi"),
            &[&[400]],
        )
        .after(|daemon| no_stores(daemon, "bad")),
        Case::closed("C01", "6.3 may merge; strict", bad("Content-Length: 2, 2\r\n", "hi"), &[&[400]]),
        Case::closed("C02", "6.3 MUST", bad("Content-Length: 2\r\nContent-Length: 3\r\n", "hi"), &[&[400]]),
        Case::closed("C02", "6.3 MUST", bad("Content-Length: 2, 3\r\n", "hi"), &[&[400]]),
        Case::closed("C03", "RUSTSEC-2021-0078", bad("Content-Length: +2\r\n", "hi"), &[&[400]]),
        Case::closed("C05", "8.6", bad("Content-Length:\r\n", "hi"), &[&[400]]),
        Case::closed("C05", "8.6", bad("Content-Length:   \r\n", "hi"), &[&[400]]),
        Case::closed("C05", "8.6", bad(b"Content-Length: \xa02\r\n", "hi"), &[&[400]]),
        Case::open("C07", "1*DIGIT", stored("c07", "Content-Length: 002\r\n", "hi"), &[STORED, &[200]])
            .check(2, |answer| equal(answer, "hi")),
        Case::closed("C08", "9110 15.5.14", bad("Content-Length: 2049\r\n", ""), &[&[413]]),
        Case::closed("C08", "9110 15.5.14", bad("Content-Length: 10000000\r\n", ""), &[&[413]]),
        Case::closed("C09", "6.3, 8", bad("Content-Length: 1000\r\n", "hi"), &[&[400, 408]]).end_sending().or_silence(),
        Case::closed("C10", "9110 15.5.9", bad("Content-Length: 1000\r\n", "hi"), &[&[408]])
            .on(Which::Hasty)
            .after(|daemon| no_stores(daemon, "bad")),
        Case::closed(
            "C11",
            "rest is the next request",
            put("good", "c11", "Content-Length: 2\r\n", "hi+ /\r\n"),
            &[STORED, &[400]],
        ),
        Case::closed(
            "C11",
            "rest is the next request",
            put("good", "c11", "Content-Length: 2\r\n", "hi\0"),
            &[STORED, &[400]],
        ),
        Case::open("C13", "6.3", put("good", "c13", "", ""), &[STORED]),
        Case::open(
            "C13",
            "6.3",
            "POST /api/v1/create HTTP/1.1\r\nHost: a\r\nX-Customer-ID: good\r\n\r\n",
            &[&[200, 201]],
        ),
        Case::open("C15", "9110 8.6", [&b"HEAD"[..], &get_with("")[3..]].concat(), &[&[200]]).head(1).check(
            1,
            |answer| match answer.header("Content-Length") {
                Some(length) if length == super::PROBE_BODY.len().to_string() => Ok(()),
                other => Err(format!("Content-Length of a HEAD: {other:?}")),
            },
        ),
        Case::open(
            "C15",
            "9110 8.6",
            "GET /api/v1/auth/probe HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\n\r\n",
            &[&[204]],
        )
        .check(1, |answer| equal(answer, "")),
        Case::open("C15", "9110 8.6", "HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n", &[&[404]]).head(1),
        Case::closed(
            "C16",
            "honoured",
            "PUT /api/v1/named/c16 HTTP/1.0\r\nX-Customer-ID: good\r\nContent-Length: 2\r\n\r\nhi",
            &[STORED],
        )
        .after(|daemon| equal(&daemon.ask(&get_named("good", "c16")), "hi")),
    ];
    for value in ["-2", "0x2", "2_0", "2 0", "2.0", "2e1", "2;", "\"2\""] {
        cases.push(Case::closed(
            "C04",
            "9110 8.6 1*DIGIT",
            bad(format!("Content-Length: {value}\r\n"), "hi"),
            &[&[400]],
        ));
    }
    for (value, statuses) in [
        ("9223372036854775808", &[413, 400]),
        ("18446744073709551615", &[413, 400]),
        ("18446744073709551616", &[400, 413]),
        ("18446744073709551618", &[400, 413]),
        ("4444444444444444444444444444444444444444", &[400, 413]),
    ] {
        let input = bad(format!("Content-Length: {value}\r\n"), "hi");
        cases.push(Case::closed("C06", "8.6 MUST no overflow", input, &[statuses]).after(|daemon| {
            // A length is a claim: nothing is reserved for it.
            let peak = daemon.peak_memory_bytes();
            if peak < 100 << 20 { Ok(()) } else { Err(format!("the daemon once had {peak} bytes")) }
        }));
    }
    // A body that looks like a request, in requests whose method seldom has one, and then a request.
    for (method, name, statuses) in
        [("GET", "probe", &[200, 400]), ("DELETE", "c12", &[200, 400]), ("HEAD", "probe", &[200, 400])]
    {
        let smuggled = "GET /api/v1/named/nothing HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\n\r\n";
        let first = format!(
            "{method} /api/v1/named/{name} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        );
        let case =
            Case::open("C12", "RUSTSEC-2020-0008", [first.as_bytes(), &get_with("")].concat(), &[statuses, &[200]])
                .check(2, |answer| equal(answer, super::PROBE_BODY));
        cases.push(if method == "HEAD" { case.head(1) } else { case });
    }
    // An error is known while most of a long body is still to come, and what has come looks like a request.
    for (target, status) in [("PUT /api/v1/named/x", 413), ("POST /nothing", 404), ("GET /api/v1/auth/nothing", 413)] {
        let head = format!("{target} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: bad\r\nContent-Length: 10485760\r\n\r\n");
        let input = [head.as_bytes(), &get_with("")].concat();
        cases.push(Case::closed("C14", "async-h1 2020-0093", input, &[&[status]]));
    }
    cases
}

fn codings() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |id, rule, lines: &str, statuses: &[u16]| {
        cases.push(Case::closed(id, rule, bad(lines, "2\r\nhi\r\n0\r\n\r\n"), &[statuses]));
    };
    add("T02", "6.1 MAY; strict; MUST close", "Transfer-Encoding: chunked\r\nContent-Length: 12\r\n", &[400]);
    add("T02", "6.1 MAY; strict; MUST close", "content-length: 12\r\nTRANSFER-ENCODING: Chunked\r\n", &[400]);
    add("T04", "6.3 MUST 400", "Transfer-Encoding: identity\r\n", &[400, 501]);
    add("T05", "6.1 SHOULD", "Transfer-Encoding: gzip, chunked\r\n", &[501]);
    add("T06", "6.3 MUST 400", "Transfer-Encoding: chunked, gzip\r\n", &[400, 501]);
    add("T06", "6.3 MUST 400", "Transfer-Encoding: chunked, identity\r\n", &[400, 501]);
    add("T07", "6.1", "Transfer-Encoding: chunked, chunked\r\n", &[400]);
    add("T07", "6.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &[400]);
    add("T07", "6.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", &[400]);
    for coding in [
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "chunk",
        "\x0bchunked",
        "chunked\x0b",
        "\0chunked",
        "chunked\0",
    ] {
        add("T08", "7.1 params = error", &format!("Transfer-Encoding: {coding}\r\n"), &[400, 501]);
    }
    add("T09", "9110 5.6.1.2; strict", "Transfer-Encoding: ,chunked\r\n", &[400]);
    add("T09", "9110 5.6.1.2; strict", "Transfer-Encoding: chunked,\r\n", &[400]);
    add("T11", "5.1, 5.2", "Transfer-Encoding : chunked\r\n", &[400]);
    add("T11", "5.1, 5.2", "Transfer-Encoding:\r\n chunked\r\n", &[400]);
    cases.push(Case::closed(
        "T03",
        "6.1 MUST treat as faulty",
        format!("PUT /api/v1/named/x HTTP/1.0\r\nX-Customer-ID: bad\r\n{CHUNKED}\r\n2\r\nhi\r\n0\r\n\r\n"),
        &[&[400]],
    ));
    cases
}

fn chunks() -> Vec<Case> {
    let good = |id, rule, name: &str, body: &str| {
        Case::open(id, rule, stored(name, CHUNKED, body), &[STORED, &[200]]).check(2, |answer| equal(answer, "hello"))
    };
    let mut cases = vec![
        good("T01", "7.1", "t01a", "5\r\nhello\r\n0\r\n\r\n"),
        good("T01", "7.1", "t01b", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n000\r\n\r\n"),
        Case::open(
            "T10",
            "7 case-insensitive",
            stored("t10", "Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            &[STORED, &[200]],
        )
        .check(2, |answer| equal(answer, "hello")),
        good("T17", "7.1.1 MUST", "t17a", "5;a=b\r\nhello\r\n0;c\r\n\r\n"),
        good("T17", "7.1.1 MUST", "t17b", "5;a=\"q;x\"\r\nhello\r\n0\r\n\r\n"),
        Case::closed("T22", "8", bad(CHUNKED, "3e8\r\nhe"), &[&[400, 408]]).end_sending().or_silence(),
        Case::closed("T22", "8", bad(CHUNKED, "2\r\nhi\r\n"), &[&[400, 408]]).end_sending().or_silence(),
        Case::closed("T27", "limit", bad(CHUNKED, chunks_of(1_500, 2)), &[&[413]]),
        Case::open("T27", "limit", put("good", "t27", CHUNKED, chunks_of(1_024, 2)), &[STORED]),
        Case::open("T28", "one-byte chunks", put("good", "t28", CHUNKED, chunks_of(1, 1 << 20)), &[STORED])
            .on(Which::Large)
            .after(|daemon| {
                let length = daemon.ask(&get_named("good", "t28")).body.len();
                let peak = daemon.peak_memory_bytes();
                if length != 1 << 20 {
                    return Err(format!("the store has {length} bytes"));
                }
                if peak < 200 << 20 { Ok(()) } else { Err(format!("the daemon once had {peak} bytes")) }
            }),
        Case::open(
            "T29",
            "9.3.2",
            [stored("t29a", CHUNKED, "5\r\nhello\r\n0\r\n\r\n"), stored("t29b", CHUNKED, "2\r\nhi\r\n0\r\n\r\n")]
                .concat(),
            &[STORED, &[200], STORED, &[200]],
        )
        .check(2, |answer| equal(answer, "hello"))
        .check(4, |answer| equal(answer, "hi")),
    ];
    for size in ["0x2", "+2", "-2", "2_0", " 2", "g"] {
        cases.push(Case::closed("T12", "7.1 1*HEXDIG", bad(CHUNKED, format!("{size}\r\nhi\r\n0\r\n\r\n")), &[&[400]]));
    }
    cases.push(Case::closed("T13", "7.1.1", bad(CHUNKED, "2 \r\nhi\r\n0\r\n\r\n"), &[&[400]]));
    cases.push(Case::closed("T14", "7.1", bad(CHUNKED, "\r\nhi\r\n0\r\n\r\n"), &[&[400]]));
    let zeros = "0".repeat(1_000);
    for (size, status) in
        [("FFFFFFFFFFFFFFFF", 413), ("10000000000000000", 400), ("00000000000000002", 400), (&zeros, 400)]
    {
        cases.push(Case::closed("T15", "7.1 MUST", bad(CHUNKED, format!("{size}\r\nhi\r\n0\r\n\r\n")), &[&[status]]));
    }
    for end in ["\n", "\rX"] {
        cases.push(Case::closed("T16", "erratum 7633", bad(CHUNKED, format!("2{end}hi\r\n0\r\n\r\n")), &[&[400]]));
    }
    for extension in [";a\n", ";a=\"b\r\n", ";a=b\"\r\n", ";\r\n"] {
        cases.push(Case::closed("T18", "7.1.1", bad(CHUNKED, format!("2{extension}hi\r\n0\r\n\r\n")), &[&[400]]));
    }
    let extension = "e".repeat(500);
    let body = format!("1;{extension}\r\nx\r\n").repeat(9);
    cases.push(Case::closed("T19", "7.1.1 ought limit", bad(CHUNKED, format!("{body}0\r\n\r\n")), &[&[400, 413]]));
    for end in ["", "\n", "XX", "X\n", "\rX"] {
        cases.push(Case::closed("T20", "7.1", bad(CHUNKED, format!("2\r\nhi{end}0\r\n\r\n")), &[&[400]]));
    }
    cases.push(Case::closed("T21", "7.1", bad(CHUNKED, "4\r\nSEE-THIS\r\n0\r\n\r\n"), &[&[400]]));
    cases
}

/// `count` chunks of `bytes` bytes each.
fn chunks_of(bytes: usize, count: usize) -> String {
    format!("{}0\r\n\r\n", format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes)).repeat(count))
}

fn trailers() -> Vec<Case> {
    let with = |trailer: &str| format!("5\r\nhello\r\n0\r\n{trailer}\r\n");
    let mut cases = vec![
        Case::closed("T23", "8", bad(CHUNKED, "2\r\nhi\r\n0\r\n"), &[&[408]])
            .on(Which::Hasty)
            .also_when_followed(&[400])
            .after(|daemon| no_stores(daemon, "bad")),
        Case::closed("T23", "8", bad(CHUNKED, "2\r\nhi\r\n0\r\nX: y\r\n"), &[&[408]])
            .on(Which::Hasty)
            .also_when_followed(&[400]),
        Case::open("T24", "7.1.2", stored("t24", CHUNKED, &with("X: y\r\n")), &[STORED, &[200]])
            .check(2, |answer| equal(answer, "hello")),
    ];
    // Each of these would be another customer, another name for the body's end, or another life, if it were merged.
    for (name, trailer) in [
        ("t25a", "Host: b\r\nHost: c\r\n"),
        ("t25b", "Content-Length: 5\r\n"),
        ("t25c", "X-Customer-ID: other\r\n"),
        ("t25d", "Transfer-Encoding: gzip\r\n"),
        ("t25e", "BigBunny-Not-Valid-After: 1\r\nIf-Match: \"9.9\"\r\n"),
        ("t25f", "Connection: close\r\n"),
    ] {
        cases.push(
            Case::open("T25", "7.1.2 MUST NOT merge", stored(name, CHUNKED, &with(trailer)), &[STORED, &[200]])
                .check(2, |answer| equal(answer, "hello")),
        );
    }
    for trailer in ["X: y\r\n z\r\n", "X[]: y\r\n", "X : y\r\n", "X\r\n", ": y\r\n", "X: \0\r\n"] {
        cases.push(Case::closed("T26", "5.2", bad(CHUNKED, with(trailer)), &[&[400]]));
    }
    cases.push(Case::closed(
        "T26",
        "5.2",
        bad(CHUNKED, with(&format!("X: {}\r\n", "y".repeat(17_000)))),
        &[&[431, 400]],
    ));
    cases.push(Case::closed("T26", "5.2", bad(CHUNKED, with(&"X: y\r\n".repeat(65))), &[&[431, 400]]));
    cases
}

fn expectations() -> Vec<Case> {
    let expect = "Expect: 100-continue\r\nContent-Length: 2\r\n";
    vec![
        Case::closed(
            "E03",
            "MUST",
            format!("PUT /api/v1/named/e03 HTTP/1.0\r\nX-Customer-ID: good\r\n{expect}\r\nhi"),
            &[STORED],
        ),
        Case::open("E04", "MAY", get_with("Expect: 100-continue\r\n"), &[&[200]]).may_continue(),
        Case::open("E05", "MAY 417", get_with("Expect: 200-ok\r\n"), &[&[417]]),
        Case::open("E05", "MAY 417", put("bad", "x", "Expect: 200-ok\r\nContent-Length: 2\r\n", "hi"), &[&[417]])
            .ends(Ends::AsTold),
        Case::open("E06", "MAY omit", stored("e06", expect, "hi"), &[STORED, &[200]])
            .may_continue()
            .check(2, |answer| equal(answer, "hi")),
        Case::closed(
            "E07",
            "deadline",
            put("bad", "x", "Expect: 100-continue\r\nContent-Length: 1000\r\n", ""),
            &[&[408]],
        )
        .may_continue()
        .on(Which::Hasty),
    ]
}

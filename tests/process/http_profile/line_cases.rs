//! L: the request line.

use super::case::{Case, MARKER, get, get_with, no_echo, put};

const LIMIT_BYTES: usize = 65_536;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::open("L01", "2.2 SHOULD ignore", [b"\r\n", &get_with("")[..]].concat(), &[&[200]]),
        Case::open("L01", "2.2 SHOULD ignore", [b"\r\n\r\n\r\n", &get_with("")[..]].concat(), &[&[200]]),
        Case::closed("L02", "limit", b"\r\n".repeat(LIMIT_BYTES / 2), &[&[400]]),
        Case::closed("L03", "2.2 MAY accept; strict", "GET /healthz HTTP/1.1\nHost: a\n\n", &[&[400]]),
        Case::closed("L03", "2.2 MAY accept; strict", "GET /healthz HTTP/1.1\r\nHost: a\n\r\n", &[&[400]]),
        Case::closed("L03", "2.2 MAY accept; strict", "\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", &[&[400]]),
        Case::open("L04", "3.1; 9110 9.1", line("get / HTTP/1.1"), &[&[501, 400]]),
        Case::open("L05", "9110 9.1 SHOULD", line("BREW / HTTP/1.1"), &[&[501]]),
        Case::open("L06", "9110 15.5.6 MUST Allow", line("PUT /status HTTP/1.1"), &[&[405]])
            .check(1, |answer| allows(answer.header("Allow"), "GET")),
        Case::open("L06", "9110 15.5.6 MUST Allow", line("GET /api/v1/create HTTP/1.1"), &[&[405]])
            .check(1, |answer| allows(answer.header("Allow"), "POST")),
        Case::closed("L07", "token", line("GE(T / HTTP/1.1"), &[&[400]]),
        Case::closed("L08", "3 SHOULD 501", "A".repeat(LIMIT_BYTES), &[&[501, 400]]),
        Case::closed("L10", "2.2", "GET /\r\n\r\n", &[&[400]]),
        Case::closed("L11", "3", line("GET / HTTP/1.1 "), &[&[400]]),
        Case::open("L12", "9110 2.5 SHOULD", line("GET /healthz HTTP/1.2"), &[&[200]]),
        Case::open(
            "L12",
            "9110 2.5 SHOULD",
            "PUT /api/v1/named/l12 HTTP/1.9\r\nHost: a\r\nX-Customer-ID: good\r\nContent-Length: 2\r\n\r\nhi",
            &[&[200, 201]],
        ),
        Case::closed("L15", "no upgrade", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[&[505, 400]]),
        Case::closed("L16", "3.2", line("GET foo HTTP/1.1"), &[&[400]]),
        Case::open("L17", "3.2.2 MUST accept", get("http://b/api/v1/named/probe"), &[&[200]])
            .check(1, |answer| super::case::equal(answer, super::PROBE_BODY)),
        Case::open("L17", "3.2.2 MUST accept", get("HTTP://b:99/healthz?x"), &[&[200]]),
        Case::closed("L19", "9110 9.3.6", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", &[&[405, 501]]),
        Case::closed("L20", "3.2.3", line("GET a:80 HTTP/1.1"), &[&[400]]),
        Case::open("L21", "3.2.4", line("OPTIONS * HTTP/1.1"), &[&[204, 200, 405]]),
        Case::closed("L22", "3.2.4", line("GET * HTTP/1.1"), &[&[400]]),
        Case::closed("L23", "3.2 no autocorrect", get("/api/v1/named/a b"), &[&[400]]),
        Case::open("L28", "decoded once only", l28(), &[&[200, 201], &[200]])
            .check(2, |answer| super::case::equal(answer, "{\"names\":[\"%2e\"]}")),
        Case::open("L31", "3 RECOMMENDED", get(long_target("/", 7_985)), &[&[404, 414]]),
        Case::open("L31", "3 RECOMMENDED", get(long_target("/api/v1/named/", 7_985)), &[&[404, 414]]),
        Case::closed("L32", "3 MUST", get(long_target("/api/v1/named/", 60_000)), &[&[414]]),
        Case::open("L33", "9110 9.3.8", format!("TRACE / HTTP/1.1\r\nHost: a\r\nX: {MARKER}\r\n\r\n"), &[&[405, 501]])
            .check(1, no_echo),
    ];
    for bad in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\x0b/ HTTP/1.1",
        "GET /\x0bHTTP/1.1",
    ] {
        cases.push(Case::closed("L09", "3 grammar; strict", line(bad), &[&[400]]));
    }
    for version in ["HTTP/2.0", "HTTP/9.9"] {
        cases.push(Case::closed("L13", "9110 15.6.6", line(&format!("GET / {version}")), &[&[505]]));
    }
    for version in ["HTTP/1.10", "HTTP/01.1", "HTTP/1", "http/1.1", "HTTP/1.1x"] {
        cases.push(Case::closed("L14", "2.3 DIGIT.DIGIT", line(&format!("GET / {version}")), &[&[400]]));
    }
    for target in ["http:///x", "//x", "ftp://a/x", "ftp:x"] {
        cases.push(Case::closed("L18", "URI", get(target), &[&[400]]));
    }
    for byte in [0, 1, 0x0b, 0x1f, 0x7f] {
        cases.push(Case::closed("L24", "URI", get([b"/api/v1/named/a", &[byte][..]].concat()), &[&[400]]));
    }
    for bytes in [&b"\x80"[..], b"\xc3\xa9", b"\xff"] {
        cases.push(Case::closed("L25", "URI", get([b"/api/v1/named/a", bytes].concat()), &[&[400]]));
    }
    for bad in ["%zz", "%4", "%", "a%"] {
        cases.push(Case::open("L26", "URI", get(format!("/api/v1/named/{bad}")), &[&[400]]));
    }
    for bad in ["a%00b", "a%0d%0aX-Zebra17:%201", "a%0aZebra17"] {
        cases.push(
            Case::open("L27", "11.1", get(format!("/api/v1/named/{bad}")), &[&[400]])
                .check(1, no_echo)
                .after(|daemon| if daemon.log().contains(MARKER) { Err("the log echoes it".into()) } else { Ok(()) }),
        );
        cases.push(
            Case::open("L27", "11.1", put("bad", bad, "Content-Length: 2\r\n", "hi"), &[&[400]]).check(1, no_echo),
        );
    }
    for path in [
        "/../x",
        "/./x",
        "/v1/%2e%2e/x",
        "/api/v1/../../status",
        "/api/v1/named/../../../status",
        "/api//v1/named/probe",
    ] {
        cases.push(Case::open("L29", "no normalising", get(path), &[&[404, 400]]));
    }
    // L18 says of this one that it closes.
    cases.push(Case::closed("L29", "no normalising", get("//x"), &[&[404, 400]]));
    for odd in ["#frag", "\"", "<", ">", "\\", "^", "{", "}", "`"] {
        cases.push(Case::closed("L30", "URI", get(format!("/api/v1/named/a{odd}")), &[&[400]]));
    }
    for garbage in [client_hello(), b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n".to_vec(), random_kilobyte()] {
        cases.push(Case::closed("L34", "2.2", garbage, &[&[400]]).or_silence().most_answer_bytes(256));
    }
    for bad in ["GET /\r HTTP/1.1", "GET\r / HTTP/1.1", "GET / HTTP/1.1\r", "G\rET / HTTP/1.1", "\rGET / HTTP/1.1"] {
        cases.push(Case::closed("L35", "2.2 MUST", line(bad), &[&[400]]));
    }
    cases
}

/// A request with this request line.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

/// A target of `bytes` bytes.
fn long_target(start: &str, bytes: usize) -> String {
    format!("{start}{}", "a".repeat(bytes - start.len()))
}

fn allows(allow: Option<&str>, method: &str) -> Result<(), String> {
    match allow {
        Some(allow) if allow.split(", ").any(|allowed| allowed == method) => Ok(()),
        other => Err(format!("Allow: {other:?}")),
    }
}

/// `%252e` is the name `%2e`, and not `.`.
fn l28() -> Vec<u8> {
    let list = "GET /api/v1/named HTTP/1.1\r\nHost: a\r\nX-Customer-ID: l28\r\n\r\n";
    put("l28", "%252e", "Content-Length: 2\r\n", [b"hi", list.as_bytes()].concat())
}

/// What a browser sends to a port that it takes for HTTPS.
fn client_hello() -> Vec<u8> {
    let mut bytes = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    bytes.extend(random_kilobyte().into_iter().take(506));
    bytes
}

fn random_kilobyte() -> Vec<u8> {
    let mut seed = 7_u64;
    (0..1024)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect()
}

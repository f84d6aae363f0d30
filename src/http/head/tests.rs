//! The cases of the HTTP profile that are about the bytes of a head, each whole and cut at each offset.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const LIMITS: HeadLimits = HeadLimits { max_head_bytes: 65_536, max_target_bytes: 16_384, max_fields: 64 };

/// What a head gets: the whole head's length must be its own.
fn parse(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, HttpError> {
    parse_head(bytes, &mut 0, &LIMITS)
}

/// The same, without the short way that `plain` is.
fn parse_with_care(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, HttpError> {
    let mut scanned = 0;
    parse_carefully(&bytes[..bytes.len().min(LIMITS.max_head_bytes)], &mut scanned, &LIMITS)
}

/// Reads `bytes` as growing input, in steps of `step`; the offset at which it was decided, and how.
fn parse_growing(bytes: &[u8], step: usize) -> (usize, Result<Option<usize>, HttpError>) {
    let mut scanned = 0;
    let mut length = step.min(bytes.len());
    loop {
        match parse_head(&bytes[..length], &mut scanned, &LIMITS) {
            Ok(None) if length < bytes.len() => length = (length + step).min(bytes.len()),
            Ok(None) => return (length, Ok(None)),
            Ok(Some((_, end))) => return (length, Ok(Some(end))),
            Err(error) => return (length, Err(error)),
        }
    }
}

/// The offsets at which an input is cut: all of a short one, those near its ends and lines of a long one.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let near_line = |at: usize| bytes[at.saturating_sub(3)..bytes.len().min(at + 3)].contains(&b'\n');
    (0..bytes.len())
        .filter(|&at| at < 600 || at + 100 > bytes.len() || at % 997 == 0 || (at < 20_000 && near_line(at)))
        .collect()
}

fn refused(status: u16, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    let error = parse(bytes).map(|head| head.map(|(_, end)| end)).expect_err(&shown);
    assert_eq!(error.status, status, "{shown:?}: {error:?}");
    for cut in cuts(bytes) {
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            Ok(Some((_, end))) => panic!("{shown:?} cut at {cut} is a head of {end}"),
            Err(of_prefix) => assert_eq!(of_prefix.status, status, "{shown:?} cut at {cut}"),
        }
    }
    for step in [1, 2, 3, 7, 1000] {
        if bytes.len() / step < 70_000 {
            let growing = parse_growing(bytes, step).1.map_err(|error| error.status);
            assert_eq!(growing, Err(status), "{shown:?} in steps of {step}");
        }
    }
    let mut followed = bytes.to_vec();
    followed.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let followed = parse(&followed).map(|_| ()).map_err(|error| error.status);
    assert_eq!(followed, Err(status), "{shown:?} followed by a request");
}

/// The head is whole exactly at its last byte, however it comes.
fn served(bytes: &[u8]) -> Head<'_> {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    let (head, end) = parse(bytes).expect(&shown).expect(&shown);
    assert_eq!(end, bytes.len(), "{shown:?}");
    for cut in cuts(bytes) {
        assert!(matches!(parse(&bytes[..cut]), Ok(None)), "{shown:?} cut at {cut}: {:?}", parse(&bytes[..cut]));
    }
    for step in [1, 2, 3, 7, 1000] {
        let (length, result) = parse_growing(bytes, step);
        assert_eq!((length, result), (bytes.len(), Ok(Some(bytes.len()))), "{shown:?} in steps of {step}");
    }
    let mut followed = bytes.to_vec();
    followed.extend_from_slice(b"\x00\x16garbage");
    assert_eq!(parse(&followed).unwrap().unwrap().1, end, "{shown:?} followed by something");
    head
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn with_lines(lines: &str) -> Vec<u8> {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

#[test]
fn request_lines_that_are_served() {
    let head = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = served(head);
    assert_eq!((head.method, head.path_text(), head.query), (Method::Get, "/a", Some("b")));
    assert_eq!((head.version, head.body, head.keep_alive), (Version::Http11, BodyFraming::Empty, true));
    // L01
    served(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    served(b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // L04, L05: the API answers 501.
    assert_eq!(served(b"get / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other);
    assert_eq!(served(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other);
    // L12
    let head = served(b"GET /x HTTP/1.2\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    assert_eq!((head.version, head.path_text(), head.body), (Version::Http11, "/x", BodyFraming::Length(3)));
    // L17, L21, L26 to L29, L33
    assert_eq!(served(b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n").path_text(), "/x");
    assert_eq!(served(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path_text(), "*");
    for target in ["/%zz", "/%4", "/%", "/%00", "/%0d%0a", "/%252e", "/../x", "/./x", "/v1/%2e%2e/x"] {
        assert_eq!(served(&get(target)).path_text(), target);
    }
    assert_eq!(served(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Trace);
    // L31
    let long = format!("/{}", "a".repeat(8_000));
    assert_eq!(served(&get(&long)).path_text(), long);
}

#[test]
fn every_method() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("PATCH", Method::Patch),
        ("PROPFIND", Method::Other),
        ("!#$%&'*+-.^_`|~09", Method::Other),
    ] {
        assert_eq!(served(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).method, method);
    }
}

#[test]
fn request_lines_that_are_refused() {
    refused(400, b"\r\n".repeat(32_768)); // L02
    refused(400, "GET / HTTP/1.1\nHost: a\n\n"); // L03
    refused(400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\n\n");
    refused(400, "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"); // L07
    refused(501, "A".repeat(65_536)); // L08
    refused(501, format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(65)));
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\x0b/ HTTP/1.1",
        "GET /\x0bHTTP/1.1", // L09
        " GET / HTTP/1.1",
        "GET /",
        "GET / ",
        "GET",
        "", // L10
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t", // L11
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1",
        "GET / http/1.1",
        "GET / HTTP/1.1x", // L14
        "GET / HTTP/1.2x",
        "GET / HTTP/1.",
        "GET / HTTP/",
        "GET / H",
        "GET / HTTP/1.a",
        "GET / HTTP/a.1",
        "GET / HTTP/2",
        "GET / HTTP/2.0 ",
        "GET / HTTP 1.1",
        "GET / FTP/1.1",
        "GET foo HTTP/1.1", // L16
        "GET http:///x HTTP/1.1",
        "GET //x HTTP/1.1",
        "GET ftp://a/x HTTP/1.1",
        "GET ftp:x HTTP/1.1", // L18
        "GET a:80 HTTP/1.1",
        "GET * HTTP/1.1",    // L20, L22
        "GET /a b HTTP/1.1", // L23
        "GET /\0 HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x1f HTTP/1.1",
        "GET /\x7f HTTP/1.1", // L24
        "GET /é HTTP/1.1",    // L25
        "GET /a#frag HTTP/1.1",
        "GET /\" HTTP/1.1",
        "GET /< HTTP/1.1",
        "GET /> HTTP/1.1",
        "GET /\\ HTTP/1.1",
        "GET /^ HTTP/1.1",
        "GET /{ HTTP/1.1",
        "GET /} HTTP/1.1",
        "GET /` HTTP/1.1", // L30
        "GET /\r HTTP/1.1",
        "GET\r / HTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET / \rHTTP/1.1", // L35
    ] {
        if line.is_empty() {
            continue;
        }
        refused(400, format!("{line}\r\nHost: a\r\n\r\n"));
    }
    refused(400, b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n");
    for version in ["HTTP/2.0", "HTTP/9.9", "HTTP/0.9"] {
        refused(505, format!("GET / {version}\r\nHost: a\r\n\r\n")); // L13
    }
    refused(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); // L15
    refused(501, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"); // L19
    refused(414, get(&format!("/{}", "a".repeat(LIMITS.max_target_bytes)))); // L32
    served(&get(&format!("/{}", "a".repeat(LIMITS.max_target_bytes - 1))));
}

#[test]
fn garbage_is_refused_when_it_comes() {
    // L34: none of these has a whole head, and some not even a line.
    refused(400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    refused(400, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    refused(400, b"\0");
    refused(400, b"GET /\xff \x01");
    refused(400, b"(");
    refused(400, b"GET / HTTP/1.1 and so on without an end");
    refused(400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX");
    refused(400, b"\r\n\rX");
    // Steps of a small generator instead of a table of random bytes.
    let mut seed = 1_u64;
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..1024)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            })
            .collect();
        assert!(parse(&bytes).is_err());
    }
}

#[test]
fn fields_that_are_served() {
    served(b"GET / HTTP/1.1\r\nHost:\r\n\r\n"); // H04
    served(b"GET / HTTP/1.1\r\nhOsT: a\r\n\r\n");
    let head = served(b"GET / HTTP/1.0\r\n\r\n"); // H05
    assert_eq!((head.version, head.keep_alive), (Version::Http10, false));
    served(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\x80\r\n\r\n"); // H13
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\nX-Customer-ID: \t c \t \r\n\r\n"); // H14
    assert_eq!(head.field(Field::CustomerId), Some(&b"c"[..]));
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\nX-Customer-ID: \xa0c\x85\r\n\r\n");
    assert_eq!(head.field(Field::CustomerId), Some(&b"\xa0c\x85"[..]), "only SP and HTAB are blanks");
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nIf-Match:  \t\r\n\r\n"); // H15
    assert_eq!((head.field(Field::IfMatch), head.field(Field::Expect)), (Some(&b""[..]), None));
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\nif-match: \"1.1\"\r\n\r\n"); // H18
    assert_eq!((head.repeated, head.field(Field::IfMatch)), (Some(Field::IfMatch), Some(&b"*"[..])));
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n");
    assert_eq!(head.repeated, None, "nobody reads X");
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n"); // H22
    assert_eq!(head.body, BodyFraming::Empty);
    let head = served(b"GET / HTTP/1.1\r\nHost: a\r\ncOnTeNt-LeNgTh: 2\r\n\r\n"); // H23
    assert_eq!(head.body, BodyFraming::Length(2));
    served(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); // H24
    let host = Field::Host;
    for value in ["a:80", "[::1]:80", "localhost", "127.0.0.1"] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        assert_eq!(served(bytes.as_bytes()).field(host), Some(value.as_bytes()));
    }
}

#[test]
fn fields_that_are_refused() {
    refused(400, "GET / HTTP/1.1\r\n\r\n"); // H01
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"); // H02
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n");
    refused(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    for host in ["a b", "a/b", "u@a", "a,b", "a:99999"] {
        refused(400, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")); // H03
        refused(400, format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"));
    }
    refused(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"); // H07
    for line in [
        "X : y",
        "X\t: y", // H06
        "X: y\r\n z",
        "X: y\r\n\tz",
        "X:\r\n z",
        "Content-Length: 1\r\n 2",
        "Content-Length:\r\n 2",
        "Transfer-Encoding:\r\n chunked", // H08
        "colon",
        "",
        ": v",
        ":", // H09
        "X[]: y",
        "X@: y",
        "X y: z",
        "X\0: y",
        "X\x7f: y",
        "é: y",
        "X\": y",
        "(X): y",
        "X/: y",
        "{X}: y",
        "X\\: y", // H10
        "X: a\0b",
        "X: a\rb",
        "X: a\nb",
        "X: a\r\rb", // H11
        "X: a\x01",
        "X: \x1f",
        "X: a\x7fb",
        "X: \x0by",
        "X: y\x0c", // H12, H14
    ] {
        if !line.is_empty() {
            refused(400, with_lines(line));
        }
    }
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\n\rX"); // H19
}

#[test]
fn every_byte_in_a_name_and_in_a_value() {
    // httparse takes several bytes at a time; the odd one stands at each place of such a block.
    for length in [1, 40] {
        for at in 0..length {
            for byte in 0..=255_u8 {
                let mut name = vec![b'n'; length];
                name[at] = byte;
                let line = [b"GET / HTTP/1.1\r\nHost: a\r\n", &name[..], b": v\r\n\r\n"].concat();
                let colon = byte == b':' && at > 0;
                assert_eq!(parse(&line).is_ok(), is_token_byte(byte) || colon, "{byte:#x} at {at} of a name");
                let mut value = vec![b'v'; length];
                value[at] = byte;
                let line = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &value[..], b"\r\n\r\n"].concat();
                let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                assert_eq!(parse(&line).is_ok(), allowed, "{byte:#x} at {at} of a value");
                let mut path = vec![b'p'; length];
                path[at] = byte;
                let line = [b"GET /", &path[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
                let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
                let two_slashes = byte == b'/' && at == 0;
                assert_eq!(parse(&line).is_ok(), allowed && !two_slashes, "{byte:#x} at {at} of a path");
            }
        }
    }
}

#[test]
fn limits_of_heads() {
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    served(lines(64).as_bytes()); // H16
    refused(431, lines(65));
    refused(431, lines(1000));
    let of_length = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "y".repeat(bytes - start.len() - 4))
    };
    served(of_length(LIMITS.max_head_bytes).as_bytes()); // H17
    refused(431, of_length(LIMITS.max_head_bytes + 1));
    refused(431, of_length(LIMITS.max_head_bytes + 100_000));
    let empty_lines_too = |bytes: usize| format!("\r\n{}", of_length(bytes - 2));
    served(empty_lines_too(LIMITS.max_head_bytes).as_bytes());
    refused(431, empty_lines_too(LIMITS.max_head_bytes + 1));
    // A target that is longer than a whole head may be.
    let small = HeadLimits { max_head_bytes: 100, ..LIMITS };
    let status = |bytes: &[u8]| parse_head(bytes, &mut 0, &small).map(|_| ()).unwrap_err().status;
    assert_eq!(status(&get(&format!("/{}", "a".repeat(100)))), 414);
    assert_eq!(status(&with_lines(&format!("X: {}", "y".repeat(100)))), 431);
    assert_eq!(status(format!("GET /{} HTTP/1.1\r\n", "a".repeat(86)).as_bytes()), 400);
}

#[test]
fn connections() {
    let keep_alive = |version: &str, lines: &str| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        served(bytes.as_bytes()).keep_alive
    };
    assert!(keep_alive("1.1", ""));
    assert!(!keep_alive("1.1", "Connection: close\r\n")); // H20
    assert!(!keep_alive("1.1", "Connection: x ,\tCLOSE\t, y\r\n"));
    assert!(!keep_alive("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(keep_alive("1.1", "Connection: closed, close-d\r\nConnection:\r\nConnection: ,,\r\n"));
    assert!(keep_alive("1.1", "Connection: Transfer-Encoding, Content-Length\r\n")); // H21
    assert!(!keep_alive("1.0", ""));
    assert!(keep_alive("1.0", "Connection: Keep-Alive\r\n")); // H25
    assert!(!keep_alive("1.0", "Connection: keep-alive, close\r\n"));
    let bytes = with_lines("Connection: close\r\nConnection: close");
    assert_eq!(served(&bytes).repeated, None, "Connection is a list");
    let bytes = with_lines("Connection: Content-Length\r\nContent-Length: 5");
    assert_eq!(served(&bytes).body, BodyFraming::Length(5)); // H21
}

#[test]
fn content_lengths() {
    let body = |value: &str| served(&with_lines(&format!("Content-Length: {value}"))).body;
    assert_eq!(body("0"), BodyFraming::Length(0));
    assert_eq!(body("002"), BodyFraming::Length(2)); // C07
    assert_eq!(body("9223372036854775808"), BodyFraming::Length(1 << 63)); // C06
    assert_eq!(body("18446744073709551615"), BodyFraming::Length(u64::MAX));
    assert_eq!(body(&format!("{}7", "0".repeat(100))), BodyFraming::Length(7));
    for value in [
        "2, 2",
        "2, 3",
        "2,2",
        "+2",
        "-2",
        "0x2",
        "2_0",
        "2 0",
        "2.0",
        "2e1",
        "2;",
        "\"2\"",
        "",
        "   ",
        "\u{a0}2", // C01 to C05
        "18446744073709551616",
        "18446744073709551618",
        "9999999999999999999999999999999999999999", // C06
    ] {
        refused(400, with_lines(&format!("Content-Length: {value}")));
    }
    refused(400, with_lines("Content-Length: 2\r\nContent-Length: 2"));
    refused(400, with_lines("Content-Length: 2\r\ncontent-length: 3"));
    refused(400, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: \xa02\r\n\r\n");
    let head = served(b"POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\n"); // C16
    assert_eq!((head.body, head.keep_alive), (BodyFraming::Length(2), false));
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"); // C12
        assert_eq!(served(bytes.as_bytes()).body, BodyFraming::Length(2));
    }
}

#[test]
fn transfer_codings() {
    let coding = |value: &str| with_lines(&format!("Transfer-Encoding: {value}"));
    for value in ["chunked", "CHUNKED", "cHuNkEd", "\tchunked  "] {
        assert_eq!(served(&coding(value)).body, BodyFraming::Chunked); // T01, T10
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "content-length: 2\r\nTRANSFER-ENCODING: chunked",
        "Transfer-Encoding: identity\r\nContent-Length: 2", // T02
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\ntransfer-encoding: chunked", // T07
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked", // T11
    ] {
        refused(400, with_lines(lines));
    }
    refused(400, b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"); // T03
    for value in [
        "identity",
        "chunked, gzip",
        "chunked, identity",
        "chunked, chunked",
        "chunked,gzip,chunked", // T04, T06, T07
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "chunk",
        "\x0bchunked",
        "chunked\x0b",
        "chunked\0", // T08
        ",chunked",
        "chunked,",
        ",",
        "",
        "gzip,,chunked",
        "gzip;q=1, chunked",
        "chunked chunked", // T09
    ] {
        refused(400, coding(value));
    }
    for value in ["gzip, chunked", "gzip,deflate , Chunked", "identity, chunked"] {
        refused(501, coding(value)); // T05
    }
}

#[test]
fn expectations() {
    let expectation = |version: &str, lines: &str| {
        served(format!("PUT /x HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes()).expectation
    };
    let waits = "Expect: 100-continue\r\n";
    assert_eq!(expectation("1.1", ""), Expectation::None);
    assert_eq!(expectation("1.1", &format!("{waits}Content-Length: 2\r\n")), Expectation::Continue); // E01
    assert_eq!(expectation("1.1", "expect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n"), Expectation::Continue);
    assert_eq!(expectation("1.0", &format!("{waits}Content-Length: 2\r\n")), Expectation::None); // E03
    assert_eq!(expectation("1.0", "Expect: 200-ok\r\n"), Expectation::None);
    assert_eq!(expectation("1.1", waits), Expectation::None); // E04
    assert_eq!(expectation("1.1", &format!("{waits}Content-Length: 0\r\n")), Expectation::None);
    assert_eq!(expectation("1.1", "Expect: 200-ok\r\n"), Expectation::Unknown); // E05
    assert_eq!(expectation("1.1", "Expect: 100-continue, x\r\nContent-Length: 2\r\n"), Expectation::Unknown);
    assert_eq!(expectation("1.1", "Expect:\r\nContent-Length: 2\r\n"), Expectation::None);
}

#[test]
fn refusals_are_short_and_echo_nothing() {
    use crate::http::{HttpDate, ReplyFrame, write_error};
    use crate::time::WallTime;
    for bytes in [
        &b"GE(T"[..],
        b"X\0",
        b"GET / HTTP/1.1\r\nX : y\r\n",
        b"GET / HTTP/1.1\nX",
        b"GET ftp://a HTTP/1.1\r\n",
        b"GET / HTTP/7.7\r\n",
    ] {
        let error = parse(bytes).unwrap_err();
        let mut out = Vec::new();
        let frame = ReplyFrame { version: Version::Http11, head_only: false, close: true };
        write_error(&mut out, &frame, &HttpDate::new(WallTime(0)), error.status, error.message);
        assert!(out.len() <= 256, "{}", String::from_utf8_lossy(&out)); // L34
    }
}

#[test]
fn a_byte_at_a_time_costs_no_more_than_linear_work() {
    // Not a measurement: quadratic work would take minutes here.
    let mut all = b"\r\n".repeat(16_000);
    all.extend_from_slice(
        format!("GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(8_000), "y".repeat(20_000)).as_bytes(),
    );
    assert_eq!(parse_growing(&all, 1), (all.len(), Ok(Some(all.len()))));
}

#[test]
fn every_delivery_of_a_spoilt_head_comes_to_the_same() {
    const GOOD: [&[u8]; 4] = [
        b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n\r\n",
        b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: close\r\n\r\n",
        b"PUT http://a/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        b"OPTIONS * HTTP/1.2\r\nhost:\r\nIf-Match: *\r\nIf-Match: *\r\n\r\n",
    ];
    const SPOILERS: &[u8] = b"\r\n \t:;,\0\x7f\xffAz09/%*#\"";
    let mut seed = 3_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut served = 0;
    for number in 0..40_000 {
        let mut bytes = GOOD[number % GOOD.len()].to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = SPOILERS[random(SPOILERS.len())],
                1 => bytes.insert(at, SPOILERS[random(SPOILERS.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        // However it was spoilt, here it is decided.
        bytes.extend_from_slice(b"\r\n\r\n");
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let whole = parse(&bytes).map(|head| head.map(|(_, end)| end));
        for step in [1, 1 + random(9)] {
            let (length, growing) = parse_growing(&bytes, step);
            match (&whole, &growing) {
                (Ok(whole), Ok(growing)) => assert_eq!(whole, growing, "{shown:?}"),
                (Err(_), Err(_)) => assert!(length <= bytes.len()),
                _ => panic!("{shown:?}: {whole:?} whole, {growing:?} in steps of {step}"),
            }
        }
        served += usize::from(matches!(whole, Ok(Some(_))));
    }
    assert!((1_000..39_000).contains(&served), "{served} were served: the spoilers are too harsh or too soft");
}

/// What is read in one pass is read just so with care, and whether it is read at all does not depend on that pass.
#[test]
fn plain_heads_are_read_as_with_care() {
    let same = |bytes: &[u8]| {
        let shown = String::from_utf8_lossy(bytes);
        let [short, careful] = [parse(bytes), parse_with_care(bytes)].map(|parsed| format!("{parsed:?}"));
        assert_eq!(short, careful, "{shown:?}");
        let mut lines = Lines::default();
        read_plain(bytes, &LIMITS, &mut lines).is_some()
    };
    let heads = [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST /api/v1/snapshot/v1:0:abc HTTP/1.1\r\nHost: bbd\r\nX-Customer-ID: shop\r\nContent-Length: 3\r\n\r\nabc",
        b"PUT /named/a%20b?c=d HTTP/1.1\r\nhost: [::1]:80\r\nUser-Agent: curl/8.0 (x; y)\r\nAccept: */*\r\naccept: a\r\n\r\n",
        b"DELETE /x HTTP/1.1\r\nConnection: keep-alive, close\r\nHost:a:8\r\nif-match:  \"1.5\"  \r\nIf-Match: *\r\nX-:\r\n\r\n",
        b"HEAD /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nBigBunny-Lock-Wait: 1\r\n\r\n",
    ];
    for head in heads {
        assert!(same(head), "it is plain");
        for at in 0..head.len() {
            same(&head[..at]);
            same(&[&head[..at], &head[at + 1..]].concat());
            same(&[&head[..=at], &head[at..]].concat());
            for byte in 0..=255 {
                let mut changed = head.to_vec();
                changed[at] = byte;
                same(&changed);
            }
        }
    }
    let many = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields));
    assert!(same(many(LIMITS.max_fields - 1).as_bytes()));
    assert!(!same(many(LIMITS.max_fields).as_bytes()));
}

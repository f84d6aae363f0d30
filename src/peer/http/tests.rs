//! Requests and answers of the link: whole, cut at every byte, with every byte changed, and whatever else HTTP allows.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;

const MANUAL: &str = include_str!("../../../man/bbd-internals.7");

fn head(bytes: &[u8], awaited: Awaited) -> Result<Option<RequestHead>, LinkError> {
    read_request_head(bytes, &mut 0, awaited)
}

fn written(path: Path, body_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write_request_head(&mut out, "[2001:db8::7]:8080", path, body_bytes);
    out
}

#[test]
fn a_request_is_read_as_it_was_written() {
    assert_eq!(
        written(Path::Hello, 137),
        b"POST /internal/hello HTTP/1.1\r\nHost: [2001:db8::7]:8080\r\nContent-Length: 137\r\n\r\n"
    );
    for path in Path::ALL {
        for body_bytes in [0, 1, SEALED_MAX_BYTES] {
            let bytes = written(path, body_bytes);
            let expected = RequestHead { path, head_bytes: bytes.len(), body_bytes };
            assert_eq!(head(&bytes, Awaited::Message), Ok(Some(expected)));
            assert_eq!(head(&[&bytes[..], b"body\0\r\n"].concat(), Awaited::Message), Ok(Some(expected)));
        }
    }
}

#[test]
fn the_first_request_says_which_bbd_it_is_and_no_other_has_to() {
    let mut bytes = Vec::new();
    write_first_head(&mut bytes, "a:1", 5);
    let expected = RequestHead { path: Path::Hello, head_bytes: bytes.len(), body_bytes: 5 };
    assert_eq!(head(&bytes, Awaited::Hello), Ok(Some(expected)));
    let said = format!("\r\nBigBunny-Version: {}\r\n\r\n", env!("CARGO_PKG_VERSION"));
    assert!(bytes.ends_with(said.as_bytes()) && bytes.len() < HEAD_MAX_BYTES);
    assert_eq!(release_of(&bytes), env!("CARGO_PKG_VERSION"));
    assert_eq!(release_of(&written(Path::Hello, 5)), "", "one that does not say is as good");
    let said =
        |text: &str| release_of(format!("POST / HTTP/1.1\r\nBigBunny-Version: {text}\r\n\r\n").as_bytes()).to_owned();
    assert_eq!(said("1.20.3-rc.1+g0a"), "1.20.3-rc.1+g0a");
    assert_eq!((said(&"1".repeat(32)).len(), said(&"1".repeat(33)).len()), (32, 0));
    for none in ["", "1 2", "\"1\"", "1\u{1b}[2J", "ä"] {
        assert_eq!(said(none), "", "{none:?}");
    }
    assert_eq!(release_of(b"BigBunny-Version: 1"), "", "a line that has not ended");
}

#[test]
fn a_request_that_has_not_all_come_is_waited_for() {
    let bytes = written(Path::Forward, 99);
    let mut scanned = 0;
    for cut in 0..bytes.len() {
        assert_eq!(head(&bytes[..cut], Awaited::Message), Ok(None), "cut at {cut}");
        assert_eq!(read_request_head(&bytes[..cut], &mut scanned, Awaited::Message), Ok(None), "grown to {cut}");
    }
    assert!(read_request_head(&bytes, &mut scanned, Awaited::Message).unwrap().is_some());
}

#[test]
fn the_longest_head_of_a_node_is_taken() {
    let mut bytes = Vec::new();
    let authority = format!("{}:65535", "h".repeat(253));
    write_request_head(&mut bytes, &authority, Path::Replicate, SEALED_MAX_BYTES);
    assert!(bytes.len() <= HEAD_MAX_BYTES);
    assert!(head(&bytes, Awaited::Message).unwrap().is_some());
}

#[test]
fn before_the_proof_there_is_the_handshake_alone() {
    for (awaited, body_max_bytes) in [(Awaited::Hello, HELLO_MAX_BYTES), (Awaited::Proof, PROOF_BYTES)] {
        for path in Path::ALL {
            let answer = head(&written(path, body_max_bytes), awaited);
            if path == Path::Hello {
                assert_eq!(answer.unwrap().unwrap().body_bytes, body_max_bytes);
            } else {
                assert_eq!(answer, Err(LinkError::OutOfTurn));
            }
        }
        let bytes = body_max_bytes as u64 + 1;
        assert_eq!(head(&written(Path::Hello, body_max_bytes + 1), awaited), Err(LinkError::TooLong { bytes }));
    }
    assert_eq!(head(&written(Path::Hello, 1), Awaited::Nothing), Err(LinkError::OutOfTurn));
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_comes() {
    for bytes in [SEALED_MAX_BYTES as u64 + 1, 1 << 32, u64::MAX] {
        let request = format!("POST /internal/replicate HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
        assert_eq!(head(request.as_bytes(), Awaited::Message), Err(LinkError::TooLong { bytes }));
    }
}

#[test]
fn no_other_request_is_taken() {
    let requests = [
        "GET /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "post /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST /internal/hello HTTP/1.0\r\nContent-Length: 1\r\n\r\n",
        "POST /internal/hello?a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST /internal/promote HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST /internal/hell%6f HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST /internal/../internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST /internal/hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /internal/hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        "POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\n",
    ];
    for request in requests {
        for awaited in [Awaited::Hello, Awaited::Message] {
            assert_eq!(head(request.as_bytes(), awaited), Err(LinkError::StrangeRequest), "{request}");
        }
    }
}

#[test]
fn what_is_no_http_is_refused() {
    let requests = [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"POST /internal/hello HTTP/1.1\nHost: a\nContent-Length: 1\n\n",
        b"POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /internal/hello HTTP/2.0\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
    ];
    for request in requests {
        assert!(matches!(head(request, Awaited::Hello), Err(LinkError::NotHttp(_))), "{}", request.escape_ascii());
    }
}

#[test]
fn no_head_is_held_beyond_its_limit() {
    let endless_line = [b"POST /internal/hello HTTP/1.1\r\nHost: ", &[b'a'; 2 * HEAD_MAX_BYTES][..]].concat();
    let empty_lines = b"\r\n".repeat(HEAD_MAX_BYTES);
    let many_fields = [&b"POST /internal/hello HTTP/1.1\r\n"[..], &b"A: b\r\n".repeat(9)].concat();
    for bytes in [endless_line, empty_lines, many_fields] {
        let mut refused_at = None;
        let mut scanned = 0;
        for length in 0..bytes.len() {
            if let Err(error) = read_request_head(&bytes[..length], &mut scanned, Awaited::Hello) {
                assert!(matches!(error, LinkError::NotHttp(_)), "{error:?}");
                refused_at = Some(length);
                break;
            }
        }
        assert!(refused_at.unwrap_or(bytes.len()) <= HEAD_MAX_BYTES);
    }
}

#[test]
fn no_changed_byte_of_a_request_makes_it_longer_than_it_may_be() {
    let bytes = written(Path::Hello, 32);
    let mut changed = bytes.clone();
    for (index, &byte) in bytes.iter().enumerate() {
        for other in 0..=u8::MAX {
            changed[index] = other;
            if let Ok(Some(head)) = head(&changed, Awaited::Proof) {
                assert!(head.path == Path::Hello && head.body_bytes <= PROOF_BYTES && head.head_bytes <= bytes.len());
            }
        }
        changed[index] = byte;
    }
}

fn answer(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_answer(&mut out, body);
    out
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    assert_eq!(answer(b""), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for length in [0, 1, 9, 10, 99, 100, ANSWER_MAX_BYTES] {
        let body = vec![b'7'; length];
        let bytes = answer(&body);
        assert_eq!(read_answer(&bytes), Ok(Some((&body[..], bytes.len()))));
        assert_eq!(read_answer(&[&bytes[..], b"77"].concat()), Ok(Some((&body[..], bytes.len()))));
        for cut in 0..bytes.len() {
            assert_eq!(read_answer(&bytes[..cut]), Ok(None), "{length} cut at {cut}");
        }
    }
}

#[test]
fn no_other_answer_is_taken() {
    let bytes = answer(b"12345678901");
    let body_at = bytes.len() - 11;
    let mut changed = bytes.clone();
    for index in 0..body_at {
        for other in (0..=u8::MAX).filter(|&other| other != bytes[index]) {
            changed[index] = other;
            match read_answer(&changed) {
                // Another number of bytes.
                Ok(None) => assert!(bytes[index] == b'1' && other > b'1', "{other} at {index}"),
                Ok(Some((body, _))) => assert!(body.len() == 10 && other == b'0', "{other} at {index}"),
                Err(error) => assert_eq!(error, LinkError::StrangeAnswer),
            }
        }
        changed[index] = bytes[index];
    }
    let length = |length: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}");
    let too_long = (ANSWER_MAX_BYTES + 1).to_string();
    for text in ["\r\n\r\n", "00", "01\r\n\r\n", &too_long, "1000", "99999999999999999999", "+1", " 1", "1 ", "1\n"] {
        assert_eq!(read_answer(length(text).as_bytes()), Err(LinkError::StrangeAnswer), "{text:?}");
    }
    for other in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 403 Forbidden\r\n", "SSH-2.0-"] {
        assert_eq!(read_answer(other.as_bytes()), Err(LinkError::StrangeAnswer), "{other:?}");
    }
}

#[test]
fn answers_to_messages_are_counted() {
    let three = NO_CONTENT.repeat(3);
    for cut in 0..=three.len() {
        let mut awaited = 5;
        let whole = cut / NO_CONTENT.len();
        assert_eq!(take_no_contents(&three[..cut], &mut awaited), Ok(whole * NO_CONTENT.len()));
        assert_eq!(awaited, 5 - whole);
    }
    let mut awaited = 3;
    assert_eq!(take_no_contents(&three, &mut awaited), Ok(three.len()));
    assert_eq!((awaited, take_no_contents(b"", &mut awaited)), (0, Ok(0)));
}

#[test]
fn an_answer_that_nothing_waits_for_is_refused_at_its_first_byte() {
    let bytes = NO_CONTENT.repeat(3);
    for length in 2 * NO_CONTENT.len() + 1..=bytes.len() {
        assert_eq!(take_no_contents(&bytes[..length], &mut 2), Err(LinkError::UnaskedAnswer));
    }
}

#[test]
fn no_other_answer_to_a_message_is_taken() {
    for (index, &byte) in NO_CONTENT.iter().enumerate() {
        let mut bytes = NO_CONTENT.to_vec();
        for other in (0..=u8::MAX).filter(|&other| other != byte) {
            bytes[index] = other;
            assert_eq!(take_no_contents(&bytes, &mut 1), Err(LinkError::StrangeAnswer));
            assert_eq!(take_no_contents(&bytes[..=index], &mut 1), Err(LinkError::StrangeAnswer));
        }
    }
}

#[test]
fn the_manual_has_the_bytes() {
    let block = |bytes: &[u8], end: &str| {
        let text = str::from_utf8(bytes).unwrap().replace("\r\n", "\n");
        let block = format!(".Bd -literal -offset indent\n{}\n{end}", text.trim_end());
        assert!(MANUAL.contains(&block), "{block}");
    };
    block(NO_CONTENT, "\n.Ed\n");
    block(&[OK_BEFORE_LENGTH, b"N", OK_BEHIND_LENGTH].concat(), "\nN bytes\n.Ed\n");
    let request = String::from_utf8(written(Path::Hello, 5)).unwrap();
    let request =
        request.replace("/internal/hello", "PATH").replace("[2001:db8::7]:8080", "HOST:PORT").replace('5', "N");
    block(request.as_bytes(), "\nN bytes\n.Ed\n");
    assert!(MANUAL.contains(&format!(" Ta {UNPROVED_INPUT_MAX_BYTES} bytes, 2 s\n")));
    let limits = format!(".It the head of a request Ta {HEAD_MAX_BYTES} bytes, {} lines\n", HEAD_LIMITS.max_fields);
    assert!(MANUAL.contains(&limits));
}

//! The cases of the HTTP profile that are about chunked bodies, each whole, byte by byte, and in every two pieces.

use super::*;

const LIMIT: usize = 1 << 20;

/// Feeds pieces until the body is whole: the body, how many bytes of all pieces were its encoding, and whether it is
/// whole.
fn feed(pieces: &[&[u8]], limit: usize) -> Result<(Vec<u8>, usize, bool), HttpError> {
    let mut decoder = ChunkDecoder::new(limit);
    let mut body = Vec::new();
    let mut eaten = 0;
    for piece in pieces {
        let (length, whole) = decoder.decode(piece, &mut body)?;
        eaten += length;
        if whole {
            return Ok((body, eaten, true));
        }
        assert_eq!(length, piece.len(), "what is not whole takes all there is");
    }
    Ok((body, eaten, false))
}

/// The same in every delivery. A long input is cut at its first and last bytes and at some between.
fn feed_each_way(input: &[u8], limit: usize) -> Result<(Vec<u8>, usize, bool), HttpError> {
    let whole = feed(&[input], limit);
    let single: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(feed(&single, limit), whole, "byte by byte");
    for cut in (0..=input.len()).filter(|&cut| cut < 300 || cut + 300 > input.len() || cut % 4_999 == 0) {
        assert_eq!(feed(&[&input[..cut], &input[cut..]], limit), whole, "cut at {cut}");
    }
    whole
}

fn decoded(input: impl AsRef<[u8]>) -> Vec<u8> {
    let input = input.as_ref();
    let followed = [input, b"GET / HTTP/1.1\r\n"].concat();
    for bytes in [input, &followed] {
        let (_, eaten, whole) = feed_each_way(bytes, LIMIT).expect("a good body");
        assert_eq!((eaten, whole), (input.len(), true), "{:?}", String::from_utf8_lossy(bytes));
    }
    for cut in (0..input.len()).filter(|&cut| cut < 300 || cut % 4_999 == 0) {
        assert_eq!(feed(&[&input[..cut]], LIMIT).map(|(_, _, whole)| whole), Ok(false), "only {cut} bytes");
    }
    feed(&[input], LIMIT).expect("a good body").0
}

fn refused(status: u16, input: impl AsRef<[u8]>) {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(&input[..input.len().min(60)]).into_owned();
    assert_eq!(feed_each_way(input, LIMIT).map_err(|error| error.status), Err(status), "{shown:?}");
}

#[test]
fn good_bodies() {
    assert_eq!(decoded("5\r\nhello\r\n0\r\n\r\n"), b"hello"); // T01
    assert_eq!(decoded("1\r\nh\r\n1\r\ni\r\n000\r\n\r\n"), b"hi");
    assert_eq!(decoded("0\r\n\r\n"), b"");
    assert_eq!(decoded("0000000000000000\r\n\r\n"), b"");
    assert_eq!(decoded("000000000000000a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n").len(), 20);
    assert_eq!(decoded("2\r\n\r\n\r\n0\r\n\r\n"), b"\r\n", "data may look like line ends");
}

#[test]
fn extensions_are_dropped() {
    for extension in [
        ";a",
        ";a=b",
        ";a=\"q;x\"",
        ";a=\"\"",
        ";a=\"\\\"\\\\\"",
        ";a;b=c;d=\"e\"",
        " ;a",
        " ; a = b ; c",
        ";a=\"\t\u{e9} \"", // T17
    ] {
        assert_eq!(decoded(format!("2{extension}\r\nhi\r\n0{extension}\r\n\r\n")), b"hi", "{extension}");
    }
    for extension in [
        ";",
        ";=b",
        ";a=",
        ";a=\"",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=b\"",
        ";a b",
        ";a=b c",
        ";a ",
        ";a=b ",
        ";a=\"b\" ",
        ";;a",
        ";a;",
        ";(",
        ";a=\"\\\u{7f}\"",
        ";a=\"\u{1}\"",
        ";a\0", // T18
    ] {
        refused(400, format!("2{extension}\r\nhi\r\n0\r\n\r\n"));
    }
    refused(400, "2;a\nhi\r\n0\r\n\r\n");
    refused(400, "2;a=\"\n\"\r\nhi\r\n0\r\n\r\n");
    refused(400, "2;a=\"\r\n\"\r\nhi\r\n0\r\n\r\n");
    // T19: the bound is on one body, not on one chunk.
    decoded(format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(MAX_EXTENSION_BYTES - 1)));
    refused(400, format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(MAX_EXTENSION_BYTES)));
    refused(400, "1;abc\r\nx\r\n".repeat(MAX_EXTENSION_BYTES / 4 + 1));
}

#[test]
fn bad_sizes() {
    for size in
        ["0x2", "+2", "-2", "2_0", " 2", "\t2", "g", "2 ", "2\t", "", ";a", " ;a", "2 2", "\r", "2\r", "\0", "é"]
    {
        refused(400, format!("{size}\r\nhi\r\n0\r\n\r\n")); // T12 to T14, T16
    }
    refused(413, "FFFFFFFFFFFFFFFF\r\n"); // T15
    refused(400, "10000000000000000\r\n");
    refused(400, "00000000000000001\r\nx\r\n0\r\n\r\n");
    refused(400, "0".repeat(1000));
    refused(400, "2\nhi\r\n0\r\n\r\n"); // T16
    refused(400, "2\rXhi\r\n0\r\n\r\n");
}

#[test]
fn bad_ends_of_data() {
    for rest in [
        "hi0\r\n\r\n",
        "hiX\n0\r\n\r\n",
        "hi\n0\r\n\r\n",
        "hiXX0\r\n\r\n",
        "hi\r0\r\n\r\n",
        "hi\r\r\n",
        "h\r\n0\r\n\r\n",
    ] {
        refused(400, format!("2\r\n{rest}")); // T20
    }
    refused(400, "4\r\nSEE-THIS\r\n0\r\n\r\n"); // T21
    refused(400, "0\r\n\rX");
    refused(400, "0\r\n\n");
}

#[test]
fn trailers_are_dropped() {
    for trailer in [
        "X: y",
        "X:",
        "X:y",
        "Host: b",
        "Content-Length: 5",
        "X-Customer-ID: c",
        "Transfer-Encoding: chunked",
        "X: \u{e9}\t",
    ] {
        assert_eq!(decoded(format!("2\r\nhi\r\n0\r\n{trailer}\r\n{trailer}\r\n\r\n")), b"hi", "{trailer}"); // T24, T25
    }
    for trailer in [
        "X: y\r\n z",
        " X: y",
        "X : y",
        "X[]: y",
        ": y",
        "X",
        "X: \0",
        "X: a\rb",
        "X: a\nb",
        "X: y\n",
        "é: y",
        "X: \x7f",
    ] {
        refused(400, format!("2\r\nhi\r\n0\r\n{trailer}\r\n\r\n")); // T26
    }
    decoded(format!("0\r\n{}\r\n", "X: y\r\n".repeat(MAX_TRAILER_LINES)));
    refused(431, format!("0\r\n{}\r\n", "X: y\r\n".repeat(MAX_TRAILER_LINES + 1)));
    let of_length = |bytes: usize| format!("0\r\nX:{}\r\n\r\n", "y".repeat(bytes - 4));
    decoded(of_length(MAX_TRAILER_BYTES));
    refused(431, of_length(MAX_TRAILER_BYTES + 1));
}

#[test]
fn the_limit_is_on_the_decoded_bytes() {
    let body = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let status = |limit: usize| {
        feed_each_way(body.as_bytes(), limit).map(|(body, _, _)| body.len()).map_err(|error| error.status)
    };
    assert_eq!(status(5), Ok(5));
    assert_eq!(status(4), Err(413)); // T27
    assert_eq!(status(0), Err(413));
    assert_eq!(feed(&[b"0\r\n\r\n"], 0), Ok((Vec::new(), 5, true)));
    // Refused when the size is known, before any data has come.
    assert_eq!(feed(&[b"5\r\n"], 4).map_err(|error| error.status), Err(413));
}

#[test]
fn a_megabyte_in_chunks_of_one_byte() {
    let encoded = [b"1\r\nx\r\n".repeat(LIMIT), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(
        feed(&[&encoded], LIMIT).map(|(body, eaten, whole)| (body.len(), eaten, whole)),
        Ok((LIMIT, encoded.len(), true))
    ); // T28
}

//! Heads and chunked bodies: what comes in pieces reads as it does whole.

use bigbunny::api::{self, Door, Settings};
use bigbunny::http::{ChunkDecoder, Head, HeadLimits, HttpDate, HttpError, ReplyFrame, Version, parse_head};
use bigbunny::node::request::ConnectionId;
use bigbunny::store_id::{KeyRing, MasterKey};
use bigbunny::time::WallTime;

const LIMITS: HeadLimits = HeadLimits { max_head_bytes: 1024, max_target_bytes: 256, max_fields: 16 };
pub(crate) const SETTINGS: Settings = Settings { max_store_size_bytes: 1000, max_lock_timeout_ms: 30_000 };
pub(crate) const FRAME: ReplyFrame = ReplyFrame { version: Version::Http11, head_only: false, close: false };

/// Longer inputs are not cut at every byte.
const CUT_BYTES_MAX: usize = 200;

pub(crate) fn keyring() -> KeyRing {
    KeyRing::new(vec![MasterKey::dev()], "0", Some("local")).expect("the key of --dev is good")
}

thread_local! {
    /// Its ciphers take longer to make than a head to be read.
    static KEYRING: std::cell::RefCell<KeyRing> = std::cell::RefCell::new(keyring());
}

/// What a head came to, to be compared.
fn summary(parsed: &Result<Option<(Head<'_>, usize)>, HttpError>) -> Result<Option<(String, usize)>, HttpError> {
    match parsed {
        Ok(Some((head, length))) => Ok(Some((format!("{head:?}"), *length))),
        Ok(None) => Ok(None),
        Err(error) => Err(*error),
    }
}

/// One head, and what the API makes of it and of what stands behind.
pub fn http_head(input: &[u8]) {
    let whole = parse_head(input, &mut 0, &LIMITS);
    if let Ok(Some((head, length))) = &whole {
        assert!(*length <= input.len() && *length <= LIMITS.max_head_bytes);
        assert!(head.path.starts_with(b"/") || head.path == b"*");
        assert_eq!(head.path_text().as_bytes(), head.path);
        KEYRING.with_borrow_mut(|keyring| {
            for door in [Door::Main, Door::Customer("c"), Door::Metrics, Door::Operators] {
                let mut prepared = match api::prepare(head, &door, &SETTINGS, keyring) {
                    Ok(prepared) => prepared,
                    Err(error) => {
                        check_error(&error);
                        continue;
                    }
                };
                let body = &input[*length..];
                if body.len() <= prepared.body_limit()
                    && let Err(error) = prepared.call(ConnectionId(1), body)
                {
                    check_error(&error);
                }
            }
        });
    }
    if input.len() > CUT_BYTES_MAX {
        return;
    }
    let whole = summary(&whole);
    let mut scanned = 0;
    for end in 0..=input.len() {
        let parsed = summary(&parse_head(&input[..end], &mut scanned, &LIMITS));
        if parsed != Ok(None) {
            assert_eq!(parsed.is_ok(), whole.is_ok(), "cut at {end}");
            if parsed.is_ok() {
                assert_eq!(parsed, whole, "cut at {end}");
            }
            return;
        }
    }
    // A line that is wrong may be refused when it ends, and not before.
    if whole.is_err() {
        let ended = [input, b"\r\n\r\n"].concat();
        assert!(parse_head(&ended, &mut scanned, &LIMITS).is_err(), "in pieces it is none");
    } else {
        assert_eq!(whole, Ok(None), "in pieces it is not whole");
    }
}

fn check_error(error: &api::ApiError) {
    let mut out = Vec::new();
    api::write_api_error(&mut out, &FRAME, &HttpDate::new(WallTime(0)), error);
    super::connection::read_answer(&out, false).expect("an error is an answer");
}

/// A chunked body; two bytes before it say how much it may be, and how it comes.
pub fn chunks(input: &[u8]) {
    let Some((&[limit, cut], input)) = input.split_first_chunk() else { return };
    let limit = usize::from(limit) * 8;
    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = ChunkDecoder::new(limit);
        let mut body = Vec::new();
        let mut eaten = 0;
        for piece in pieces {
            let (length, is_whole) = decoder.decode(piece, &mut body)?;
            assert!(body.len() <= limit && length <= piece.len());
            eaten += length;
            if is_whole {
                return Ok((eaten, true, body));
            }
            assert_eq!(length, piece.len(), "all is eaten unless it is whole");
        }
        Ok::<_, HttpError>((eaten, false, body))
    };
    let whole = decode(&mut std::iter::once(input));
    assert_eq!(decode(&mut input.chunks(1 + usize::from(cut % 16))), whole);
    if let Ok((_, true, body)) = whole {
        let mut again = Vec::new();
        for chunk in body.chunks(1 + usize::from(cut)) {
            again.extend_from_slice(format!("{:X};x=\"y\"\r\n", chunk.len()).as_bytes());
            again.extend_from_slice(chunk);
            again.extend_from_slice(b"\r\n");
        }
        // Extensions have a limit of their own.
        if body.len() / (1 + usize::from(cut)) < 500 {
            again.extend_from_slice(b"0\r\n\r\n");
            let length = again.len();
            assert_eq!(decode(&mut std::iter::once(&again[..])), Ok((length, true, body)));
        }
    }
}

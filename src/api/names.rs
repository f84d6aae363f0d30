//! Names, and everything else in a request target that is percent-encoded: path segments and query parameters.
//!
//! Section 5 of the specification says what a name is. Decoding happens once, and a plus is a plus.

use std::borrow::Cow;

use super::errors::ApiError;

/// Bytes of a name at most, after decoding.
pub const MAX_NAME_BYTES: usize = 256;

const BAD_PERCENT: &str = "bad percent-encoding in the request target: % must be followed by two hexadecimal digits";

/// Why a text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// A `%` without two hexadecimal digits behind it.
    BadPercent,
    /// Not UTF-8.
    NotUtf8,
    /// No byte at all.
    Empty,
    /// More than [`MAX_NAME_BYTES`].
    TooLong,
    /// A control character.
    Control,
    /// `.` or `..`.
    Dots,
}

impl NameError {
    /// The line that says so.
    #[must_use]
    pub const fn line(self) -> &'static str {
        match self {
            Self::BadPercent => BAD_PERCENT,
            Self::NotUtf8 => "a name must be UTF-8, percent-encoded",
            Self::Empty => "a name must not be empty",
            Self::TooLong => "a name must not be longer than 256 bytes",
            Self::Control => "a name must not hold control characters",
            Self::Dots => "`.` and `..` are no names",
        }
    }
}

/// In a request target, where a name that is too long makes the target too long. In a body every bad name is a `400`.
impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::TooLong => Self::target_too_long(error.line()),
            NameError::BadPercent | NameError::NotUtf8 | NameError::Empty | NameError::Control | NameError::Dots => {
                Self::bad_request(error.line())
            }
        }
    }
}

/// Resolves percent-encoding; `None` if a `%` stands without two hexadecimal digits behind it. Allocates only where there is one.
#[must_use]
pub fn percent_decode(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(first) = memchr::memchr(b'%', bytes) else { return Some(Cow::Borrowed(bytes)) };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = behind;
            continue;
        }
        let hex = |at: usize| behind.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let number = hex(0)? * 16 + hex(1)?;
        decoded.push(u8::try_from(number).ok()?);
        rest = &behind[2..];
    }
    Some(Cow::Owned(decoded))
}

/// Whether every `%` of a text is followed by two hexadecimal digits.
#[must_use]
pub fn is_percent_encoded(text: &[u8]) -> bool {
    memchr::memchr(b'%', text).is_none() || percent_decode(text).is_some()
}

/// Text that is a part of a name: UTF-8 without control characters, not too long. May be empty.
fn decode_part(text: &[u8]) -> Result<Cow<'_, str>, NameError> {
    let part = match percent_decode(text).ok_or(NameError::BadPercent)? {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?),
    };
    check_part(&part)?;
    Ok(part)
}

fn check_part(part: &str) -> Result<(), NameError> {
    if part.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    if part.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

/// Checks a name that stood somewhere else than in a path.
///
/// # Errors
/// It cannot be a name.
pub fn check_name(name: &str) -> Result<(), NameError> {
    check_part(name)?;
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ => Ok(()),
    }
}

/// Reads a name from a path segment.
///
/// # Errors
/// It cannot be a name.
pub fn decode_name(segment: &[u8]) -> Result<Cow<'_, str>, NameError> {
    let name = decode_part(segment)?;
    check_name(&name)?;
    Ok(name)
}

/// Reads a prefix, or a point in the order of names: what a name is made of, or nothing.
///
/// # Errors
/// No name can begin so.
pub fn decode_prefix(text: &str) -> Result<Cow<'_, str>, NameError> {
    decode_part(text.as_bytes())
}

/// The parameters of a query, still encoded, in the order of `known`; absent ones are `None`.
///
/// # Errors
/// One is unknown, stands twice, or has no `=`: a misspelt parameter must not be as if absent.
pub fn read_query<'q, const N: usize>(
    query: Option<&'q str>,
    known: &[&str],
) -> Result<[Option<&'q str>; N], ApiError> {
    debug_assert_eq!(known.len(), N);
    let mut values = [None; N];
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
        let decoded = percent_decode(key.as_bytes()).ok_or_else(|| ApiError::bad_request(BAD_PERCENT))?;
        let Some(index) = known.iter().position(|name| name.as_bytes() == &*decoded) else {
            return Err(ApiError::naming(
                "there is no query parameter",
                &String::from_utf8_lossy(&decoded),
                &format!("here; there is: {}", known.join(", ")),
            ));
        };
        let Some(value) = value else {
            return Err(ApiError::naming("the query parameter", known[index], "has no value: write =VALUE behind it"));
        };
        if values[index].replace(value).is_some() {
            return Err(ApiError::naming("the query parameter", known[index], "stands twice"));
        }
    }
    Ok(values)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn decoding_happens_once_and_a_plus_is_a_plus() {
        let cases: [(&str, Option<&[u8]>); 12] = [
            ("", Some(b"")),
            ("a+b c", Some(b"a+b c")),
            ("%41%62", Some(b"Ab")),
            ("%252e", Some(b"%2e")),
            ("a%2Fb%2f", Some(b"a/b/")),
            ("%00%0d%0A%ff", Some(b"\0\r\n\xff")),
            ("%", None),
            ("a%4", None),
            ("%zz", None),
            ("%4g", None),
            ("%+1", None),
            ("%%41", None),
        ];
        for (text, expected) in cases {
            assert_eq!(percent_decode(text.as_bytes()).as_deref(), expected, "{text}");
            assert_eq!(is_percent_encoded(text.as_bytes()), expected.is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_a_name_and_what_is_none() {
        let longest = "x".repeat(256);
        let longest_encoded = "%c3%a9".repeat(128);
        for (segment, name) in [
            ("a", "a"),
            ("...", "..."),
            ("%2e%2e%2e", "..."),
            ("a%20b", "a b"),
            ("a%2Fb", "a/b"),
            ("+", "+"),
            ("%22%5c", "\"\\"),
            ("%c2%a0", "\u{a0}"),
            (&longest, &longest),
            (&longest_encoded, &"é".repeat(128)),
        ] {
            assert_eq!(decode_name(segment.as_bytes()).as_deref(), Ok(name), "{segment}");
        }
        for (segment, error) in [
            ("", NameError::Empty),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("%2e", NameError::Dots),
            (".%2E", NameError::Dots),
            ("%", NameError::BadPercent),
            ("a%0", NameError::BadPercent),
            ("%00", NameError::Control),
            ("a%0d", NameError::Control),
            ("%0aa", NameError::Control),
            ("%1f", NameError::Control),
            ("%7f", NameError::Control),
            ("%c2%80", NameError::Control),
            ("%c2%9f", NameError::Control),
            ("%ff", NameError::NotUtf8),
            ("%c3", NameError::NotUtf8),
            ("%c0%80", NameError::NotUtf8),
            ("%ed%a0%80", NameError::NotUtf8),
            (&format!("{longest}x"), NameError::TooLong),
            (&format!("{longest_encoded}x"), NameError::TooLong),
        ] {
            assert_eq!(decode_name(segment.as_bytes()), Err(error), "{segment}");
        }
        assert_eq!(decode_prefix("").as_deref(), Ok(""));
        assert_eq!(decode_prefix("%2e").as_deref(), Ok("."));
        assert_eq!(decode_prefix("%c3"), Err(NameError::NotUtf8));
    }

    #[test]
    fn queries_are_read_strictly() {
        let read = |query| read_query::<2>(Some(query), &["a", "bc"]);
        assert_eq!(read_query::<2>(None, &["a", "bc"]).unwrap(), [None, None]);
        assert_eq!(read("").unwrap(), [None, None]);
        assert_eq!(read("a=1").unwrap(), [Some("1"), None]);
        assert_eq!(read("bc=x=y&%61=").unwrap(), [Some(""), Some("x=y")]);
        assert_eq!(read("&a=1&&bc=2&").unwrap(), [Some("1"), Some("2")]);
        for (query, named) in
            [("d=1", "`d`"), ("a=1&a=1", "`a`"), ("bc", "`bc`"), ("A=1", "`A`"), ("=1", "``"), ("%=1", "%")]
        {
            let error = read(query).unwrap_err();
            assert_eq!(error.status(), 400, "{query}");
            assert!(error.line().contains(named), "{query}: {}", error.line());
        }
    }
}

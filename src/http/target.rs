//! The request target and the `Host` field: their grammar (RFC 3986, RFC 9112 section 3.2), nothing about what a path
//! means.

use super::{HttpError, Method};

/// Path and query of a request target.
pub(super) struct Target<'b> {
    pub(super) path: &'b [u8],
    pub(super) query: Option<&'b str>,
}

/// What may stand in a host name: as in RFC 3986's reg-name, without the comma, which a merged list would bring.
static IS_HOST_BYTE: [bool; 256] = byte_set(b"-._~!$&'()*+;=%");

/// Letters, digits and these.
const fn byte_set(others: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        set[others[index] as usize] = true;
        index += 1;
    }
    set
}

/// What may stand in a path or query, `%` included (RFC 3986: pchar, `/`, `?`): what is visible, but none of `"#<>[\]^`{|}`.
/// Percent-encoding is judged by the API, where a bad one costs no connection. Said in arithmetic without branches, which the compiler
/// does for sixteen bytes at once.
fn is_target_byte(byte: u8) -> bool {
    let is_from_to = |first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
    is_from_to(b'!', b'~')
        & !is_from_to(b'"', b'#')
        & (byte | 2 != b'>')
        & !is_from_to(b'[', b'^')
        & (byte != b'`')
        & !is_from_to(b'{', b'}')
}

/// Whether this may be a path and a query.
fn is_path_and_query(bytes: &[u8]) -> bool {
    let are_all = |sixteen: &[u8; 16]| sixteen.iter().fold(true, |all, &byte| all & is_target_byte(byte));
    match bytes.last_chunk() {
        // The last sixteen bytes may overlap those before.
        Some(end) => bytes.as_chunks().0.iter().all(are_all) && are_all(end),
        None => bytes.iter().all(|&byte| is_target_byte(byte)),
    }
}

/// Whether all bytes are in a set. Eight are looked at between two branches, which halves the cost of a long path.
fn is_made_of(set: &[bool; 256], bytes: &[u8]) -> bool {
    let (eights, rest) = bytes.as_chunks::<8>();
    let are_in = |bytes: &[u8]| bytes.iter().fold(true, |all, &byte| all & set[usize::from(byte)]);
    eights.iter().all(|eight| are_in(eight)) && are_in(rest)
}

/// Takes a target apart. Origin-form, absolute-form with `http:`, and `*` for `OPTIONS`; nothing is normalised or
/// decoded.
pub(super) fn parse_target(method: Method, target: &str) -> Result<Target<'_>, HttpError> {
    const BAD: HttpError = HttpError::bad("the request target is malformed: send /path, percent-encoded");
    let path_and_query = if target.starts_with('/') {
        target
    } else if target == "*" {
        return match method {
            Method::Options => Ok(Target { path: target.as_bytes(), query: None }),
            Method::Get
            | Method::Head
            | Method::Post
            | Method::Put
            | Method::Delete
            | Method::Trace
            | Method::Patch
            | Method::Other => Err(BAD),
        };
    } else {
        match absolute_form(target).ok_or(BAD)? {
            // An empty path is `/`; with OPTIONS it asks about the server as a whole (RFC 9112 section 3.2.4).
            "" if method == Method::Options => "*",
            rest => rest,
        }
    };
    split_path_and_query(path_and_query.as_bytes()).ok_or(BAD)
}

/// Takes a target apart if it is in origin-form.
pub(super) fn split_origin_form(target: &[u8]) -> Option<Target<'_>> {
    if target.first() == Some(&b'/') { split_path_and_query(target) } else { None }
}

/// Takes an absolute path, or nothing, and the query behind it apart, if no byte stands in them that may not.
fn split_path_and_query(path_and_query: &[u8]) -> Option<Target<'_>> {
    if !is_path_and_query(path_and_query) {
        return None;
    }
    let (path, query) = match memchr::memchr(b'?', path_and_query) {
        Some(at) => (&path_and_query[..at], Some(str::from_utf8(&path_and_query[at + 1..]).ok()?)),
        None => (path_and_query, None),
    };
    // `//x` is a path that some readers take for a host.
    if path.starts_with(b"//") {
        return None;
    }
    Some(Target { path: if path.is_empty() { b"/" } else { path }, query })
}

/// What follows the authority of `http://authority/path?query`; the authority itself is checked and dropped.
fn absolute_form(target: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let scheme = target.get(..SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let rest = &target[SCHEME.len()..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let named = !authority.is_empty() && !authority.starts_with(':');
    (named && is_host(authority.as_bytes())).then_some(rest)
}

/// Whether this is `uri-host [ ":" port ]` (RFC 9110 section 7.2); empty is allowed.
pub(super) fn is_host(value: &[u8]) -> bool {
    let port = if let Some(rest) = value.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', rest) else { return false };
        let Ok(address) = str::from_utf8(&rest[..end]) else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        &rest[end + 1..]
    } else {
        // Mostly a few bytes, for which a search by vectors costs more than it saves.
        let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
        let (name, port) = value.split_at(end);
        if !is_made_of(&IS_HOST_BYTE, name) || !is_percent_encoded(name) {
            return false;
        }
        port
    };
    match port.split_first() {
        None => true,
        Some((b':', digits)) => is_port(digits),
        Some(_) => false,
    }
}

/// Digits up to 65535, or nothing.
fn is_port(digits: &[u8]) -> bool {
    let mut port = 0_u32;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return false;
        }
        port = port * 10 + u32::from(digit - b'0');
        if port > u32::from(u16::MAX) {
            return false;
        }
    }
    true
}

/// Whether every `%` is followed by two hexadecimal digits.
fn is_percent_encoded(name: &[u8]) -> bool {
    let mut encoded = name.iter().enumerate().filter(|&(_, &byte)| byte == b'%');
    encoded.all(|(at, _)| name.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parts(method: Method, target: &str) -> Option<(&str, Option<&str>)> {
        let target = parse_target(method, target).ok()?;
        Some((str::from_utf8(target.path).unwrap(), target.query))
    }

    #[test]
    fn forms_of_targets() {
        assert_eq!(parts(Method::Get, "/"), Some(("/", None)));
        assert_eq!(parts(Method::Get, "/a/b?c=d?e"), Some(("/a/b", Some("c=d?e"))));
        assert_eq!(parts(Method::Get, "/a?"), Some(("/a", Some(""))));
        assert_eq!(parts(Method::Get, "/../x"), Some(("/../x", None)), "no normalising");
        assert_eq!(parts(Method::Get, "/%2e%2E/%zz%"), Some(("/%2e%2E/%zz%", None)), "no decoding");
        assert_eq!(parts(Method::Get, "http://b/x?y"), Some(("/x", Some("y"))));
        assert_eq!(parts(Method::Get, "HTTP://b:80/x"), Some(("/x", None)));
        assert_eq!(parts(Method::Get, "http://[::1]:80/x"), Some(("/x", None)));
        assert_eq!(parts(Method::Get, "http://b"), Some(("/", None)));
        assert_eq!(parts(Method::Get, "http://b?q"), Some(("/", Some("q"))));
        assert_eq!(parts(Method::Options, "*"), Some(("*", None)));
        assert_eq!(parts(Method::Options, "http://b"), Some(("*", None)));
        for bad in [
            "*",
            "**",
            "foo",
            "a:80",
            "//x",
            "//",
            "//x/y?z",
            "http:///x",
            "http://",
            "http://:80/x",
            "http://u@a/x",
            "http://a:99999/x",
            "http://a,b/x",
            "http:/x",
            "http:x",
            "https://b/x",
            "ftp://b/x",
            "ftp:",
            "http://b//x",
            "?q",
            "http://[::1/x",
            "http://[::g]/x",
            "http://a b/x",
            "http://b#f",
            "/x#f",
        ] {
            assert_eq!(parts(Method::Get, bad), None, "{bad}");
        }
    }

    #[test]
    fn every_byte_of_a_target() {
        for byte in 0_u8..128 {
            let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
            for (before, behind) in [(0, 0), (0, 30), (5, 12), (20, 3), (40, 0)] {
                let target = format!("/{}{}{}", "a".repeat(before), char::from(byte), "b".repeat(behind));
                let is_host = before == 0 && byte == b'/';
                assert_eq!(parts(Method::Get, &target).is_some(), allowed && !is_host, "{target}");
            }
        }
        assert_eq!(parts(Method::Get, "/\u{e9}"), None);
        assert_eq!(parts(Method::Get, "/0123456789abcdef\u{e9}0123456789abcdef"), None);
    }

    #[test]
    fn hosts() {
        for good in
            ["", "a", "a:80", "a:", ":80", "a.b-c_d~e", "[::1]", "[::1]:65535", "127.0.0.1:0", "a%41", "localhost"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "u@a", "a,b", "a:99999", "a:65536", "a:8x", "a:80:80", "[::1", "[]", "[::1]x", "a[", "a%4",
            "a%zz", "a?b", "a#b", "\u{e9}", "a:-1", "a:+1", "a\\b", "<a>", "[v1.x]",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}

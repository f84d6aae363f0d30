//! Owns the text forms of values: durations, sizes, identifiers, file modes, addresses, and their ranges.
//! Does not own which flag takes which value; that is [`super::flags`].
//!
//! Every parser here is a function of a string that returns the value, or in words what would have been allowed.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::peer::Peer;

/// What a value may be, in words that follow "allowed: ".
pub type Allowed = String;

/// The longest path a Unix socket can have: `sun_path` is 108 bytes with its NUL (unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;
/// The longest customer id and the longest host id (sections 2 and 11 of the specification).
pub const MAX_ID_BYTES: usize = 64;
/// The longest host name (RFC 1035 section 2.3.4, less the root).
const MAX_HOST_NAME_BYTES: usize = 253;
/// The longest site name.
pub const MAX_SITE_BYTES: usize = 16;

/// The value as text; flags whose value is no path take UTF-8 only.
pub fn text(value: &OsStr) -> Result<&str, Allowed> {
    value.to_str().ok_or_else(|| "UTF-8 text".to_owned())
}

/// One of a few words.
pub fn choice<T: Copy>(value: &OsStr, choices: &[(T, &'static str)]) -> Result<T, Allowed> {
    let found = value.to_str().and_then(|text| choices.iter().find(|(_, name)| *name == text));
    found.map(|(choice, _)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(_, name)| *name).collect();
        names.join(", ")
    })
}

/// The word for one of a few choices; nothing for one that has none.
pub fn name_of<T: Copy + PartialEq>(choice: T, choices: &[(T, &'static str)]) -> String {
    let found = choices.iter().find(|(other, _)| *other == choice);
    found.map_or_else(String::new, |(_, name)| (*name).to_owned())
}

/// A switch that is given a value, as the environment must: `BBD_DEV=1`.
pub fn switch(value: &OsStr) -> Result<bool, Allowed> {
    match value.to_str() {
        Some("1" | "true" | "yes" | "on") => Ok(true),
        Some("0" | "false" | "no" | "off") => Ok(false),
        Some(_) | None => Err("true or false (also 1, yes, on; 0, no, off)".to_owned()),
    }
}

/// A duration: whole numbers with the units `d`, `h`, `m`, `s`, `ms`, each at most once and in that order, or plain seconds.
///
/// `None` if it is not one, or does not fit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    if let Some(seconds) = parse_digits(text) {
        return Some(Duration::from_millis(seconds.checked_mul(1000)?));
    }
    let mut rest = text;
    let mut units_left = UNITS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits_end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, after) = rest.split_at(digits_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, behind) = after.split_at(unit_end);
        // The iterator goes on where the last unit stood, so that `30m1h` and `1h1h`, both likely slips, are refused.
        let (_, unit_ms) = units_left.find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(parse_digits(digits)?.checked_mul(*unit_ms)?)?;
        rest = behind;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// The shortest text that [`parse_duration`] reads back as this duration. Parts of a millisecond are dropped.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let mut left_ms = duration.as_millis();
    if left_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit_ms, name) in UNITS {
        if left_ms >= unit_ms {
            text.push_str(&format!("{}{name}", left_ms / unit_ms));
            left_ms %= unit_ms;
        }
    }
    text
}

/// A duration within a range.
pub fn duration(value: &OsStr, range: RangeInclusive<Duration>) -> Result<Duration, Allowed> {
    value.to_str().and_then(parse_duration).filter(|duration| range.contains(duration)).ok_or_else(|| {
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        format!("a duration such as 500ms, 30s, 2m, 1h30m or plain seconds, from {least} to {most}")
    })
}

/// A size in bytes: digits, or digits and one of `K`, `M`, `G`, `T` (powers of 1024, either case).
///
/// `None` if it is not one, or does not fit.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        b'T' | b't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    parse_digits(digits)?.checked_mul(1 << shift)
}

/// The shortest text that [`parse_size`] reads back as this size.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = UNITS.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, name)| format!("{}{name}", bytes >> shift))
}

/// A size within a range.
pub fn size(value: &OsStr, range: RangeInclusive<u64>) -> Result<u64, Allowed> {
    value.to_str().and_then(parse_size).filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        let (least, most) = (show_size(*range.start()), show_size(*range.end()));
        format!("a size in bytes or such as 64K or 4G, from {least} to {most}")
    })
}

/// A size within a range that fits what memory can address.
pub fn size_in_memory(value: &OsStr, range: RangeInclusive<u64>) -> Result<usize, Allowed> {
    let bytes = size(value, range)?;
    usize::try_from(bytes).map_err(|_| "a size that this machine can address".to_owned())
}

/// A whole number within a range.
pub fn number<T>(value: &OsStr, range: RangeInclusive<T>) -> Result<T, Allowed>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    let number = value.to_str().and_then(parse_digits).and_then(|number| T::try_from(number).ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// Digits and nothing else; `u64::from_str` would take a `+`.
fn parse_digits(text: &str) -> Option<u64> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits_only { text.parse().ok() } else { None }
}

/// A customer id: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub fn customer(text: &str) -> Result<String, Allowed> {
    let fits = !text.is_empty() && text.len() <= MAX_ID_BYTES;
    if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("a customer id, 1 to {MAX_ID_BYTES} of A-Z a-z 0-9 _ -"))
    }
}

/// A host id: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn host_id(value: &OsStr) -> Result<String, Allowed> {
    let bytes = value.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= MAX_ID_BYTES;
    let legal = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    match value.to_str() {
        Some(text) if fits && legal => Ok(text.to_owned()),
        Some(_) | None => Err(format!("1 to {MAX_ID_BYTES} of A-Z a-z 0-9 . _ -")),
    }
}

/// A site: 1 to 16 of `a-z 0-9 -`.
pub fn site(value: &OsStr) -> Result<String, Allowed> {
    let bytes = value.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= MAX_SITE_BYTES;
    let legal = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    match value.to_str() {
        Some(text) if fits && legal => Ok(text.to_owned()),
        Some(_) | None => Err(format!("1 to {MAX_SITE_BYTES} of a-z 0-9 -")),
    }
}

/// The path of a file.
pub fn path(value: &OsStr) -> Result<PathBuf, Allowed> {
    if value.is_empty() || value.as_bytes().contains(&0) {
        return Err("the path of a file".to_owned());
    }
    Ok(PathBuf::from(value))
}

/// The path of a Unix socket.
pub fn socket_path(value: &OsStr) -> Result<PathBuf, Allowed> {
    if value.len() > MAX_SOCKET_PATH_BYTES {
        return Err(format!("the path of a socket, at most {MAX_SOCKET_PATH_BYTES} bytes long"));
    }
    path(value).map_err(|_| "the path of a socket".to_owned())
}

/// The permission bits of a file, in octal.
pub fn file_mode(value: &OsStr) -> Result<u32, Allowed> {
    let octal = |text: &str| text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    value
        .to_str()
        .filter(|text| (3..=4).contains(&text.len()) && octal(text))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "permission bits in octal, 0000 to 0777".to_owned())
}

/// A host and a TCP port. Shown as it would be written: an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, or an address without brackets; where one may listen, nothing for all of one's own addresses.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl HostPort {
    /// The host as an address, if it is written as one: then nothing needs to be resolved.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `HOST:PORT`, `[IPV6]:PORT` or `:PORT`. Only the form is checked: names are resolved when they are used.
pub fn tcp_address(value: &OsStr) -> Result<HostPort, Allowed> {
    let address = value.to_str().and_then(parse_host_port);
    address.ok_or_else(|| "HOST:PORT, [IPV6]:PORT or :PORT with a port from 1 to 65535".to_owned())
}

/// `ADDRESS:PORT` or `[IPV6]:PORT`, where one may listen without asking anybody for an address.
pub fn socket_address(value: &OsStr) -> Result<SocketAddr, Allowed> {
    let address = value.to_str().and_then(|text| text.parse::<SocketAddr>().ok());
    address
        .filter(|address| address.port() != 0)
        .ok_or_else(|| "ADDRESS:PORT or [IPV6]:PORT with a port from 1 to 65535, such as 127.0.0.1:9120".to_owned())
}

/// `ID@HOST:PORT`, the one peer; an IPv6 address stands in brackets.
pub fn peer(value: &OsStr) -> Result<Peer, Allowed> {
    let allowed = || "one peer, ID@HOST:PORT or ID@[IPV6]:PORT with a port from 1 to 65535".to_owned();
    let (id, address) = value.to_str().and_then(|text| text.split_once('@')).ok_or_else(allowed)?;
    let host_id = host_id(OsStr::new(id)).map_err(|_| allowed())?;
    let address = parse_host_port(address).filter(|address| !address.host.is_empty()).ok_or_else(allowed)?;
    Ok(Peer { host_id, address })
}

fn parse_host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let port = parse_digits(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|address| address.parse::<Ipv6Addr>().is_ok())?,
        None => host,
    };
    let is_name = host.len() <= MAX_HOST_NAME_BYTES
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    (is_name || text.starts_with('[')).then(|| HostPort { host: host.to_owned(), port })
}

/// A group by its name or number, looked up in the text of a group file (group(5)).
pub fn group_id(value: &OsStr, group_file: &str) -> Result<u32, Allowed> {
    let text = text(value)?;
    if let Some(number) = parse_digits(text) {
        // 2^32 - 1 means "leave it as it is" to chown(2), so it can be nobody's number.
        let number = u32::try_from(number).ok().filter(|number| *number != u32::MAX);
        return number.ok_or_else(|| "the name or number of a group".to_owned());
    }
    let lines = group_file.lines().map(|line| line.split(':').collect::<Vec<&str>>());
    let mut found = lines.filter_map(|fields| match fields.as_slice() {
        [name, _password, number, ..] if *name == text => number.parse().ok(),
        _ => None,
    });
    found.next().ok_or_else(|| "the name or number of a group in /etc/group".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn durations_read_as_written() {
        let cases = [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("1h30m5s250ms", 5_405_250),
            ("7", 7000),
            ("0", 0),
            ("14d", 1_209_600_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        let not_durations = [
            "",
            "s",
            "1x",
            "30m1h",
            "1h1h",
            "-1s",
            "+1",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "1h30",
            "99999999999999999999",
            "١s",
        ];
        for text in not_durations {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("18446744073709551615"), None, "milliseconds would not fit");
        assert_eq!(parse_duration("18446744073709551615h"), None, "milliseconds would not fit");
    }

    #[test]
    fn shown_durations_read_back() {
        for ms in [0, 1, 500, 1000, 1500, 60_000, 61_001, 5_400_000, 1_209_600_000, 86_399_999, 90_000_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration), "{ms}");
        }
    }

    #[test]
    fn sizes_read_as_written_and_read_back() {
        let cases =
            [("0", 0), ("1", 1), ("64K", 65_536), ("64k", 65_536), ("4G", 4 << 30), ("3M", 3 << 20), ("1T", 1 << 40)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes), "{text}");
        }
        for text in ["", "K", "1KB", "1.5G", "-1", "+1", "1 K", "0x10", "18446744073709551616", "99999999999T", "é"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(show_size(2048), "2K");
        assert_eq!(show_size(2049), "2049");
    }

    #[test]
    fn identifiers_keep_to_their_letters() {
        assert!(customer("acme_1-A").is_ok());
        assert!(customer(&"a".repeat(64)).is_ok());
        for text in ["", "a b", "a.b", "ä", &"a".repeat(65)] {
            assert!(customer(text).is_err(), "{text}");
        }
        assert!(host_id(OsStr::new("edge-7.example_x")).is_ok());
        assert!(host_id(OsStr::new("edge 7")).is_err());
        assert!(site(OsStr::new("fra-1")).is_ok());
        for text in ["", "Fra", "fra_1", "a-site-with-17-cc"] {
            assert!(site(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(file_mode(OsStr::new("0600")), Ok(0o600));
        assert_eq!(file_mode(OsStr::new("660")), Ok(0o660));
        for text in ["", "8", "0o600", "rw-------", "1777", "0688", "00600", "-600"] {
            assert!(file_mode(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_a_port() {
        for text in [":8080", "127.0.0.1:1", "[::1]:8080", "peer-1.example.com:65535"] {
            let address = tcp_address(OsStr::new(text)).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.ip().is_some(), text.contains("0.0.1") || text.contains("::1"), "{text}");
        }
        for text in
            ["", ":", "8080", ":0", ":65536", "::1:8080", "[::1]", "[x]:1", "[::1:1", "::1]:1", "a b:1", "host:port"]
        {
            assert!(tcp_address(OsStr::new(text)).is_err(), "{text}");
            assert!(peer(OsStr::new(&format!("b@{text}"))).is_err(), "{text}");
        }
    }

    #[test]
    fn socket_addresses_are_no_names() {
        for text in ["127.0.0.1:9120", "[::1]:1", "0.0.0.0:65535"] {
            assert_eq!(socket_address(OsStr::new(text)).unwrap().to_string(), text);
        }
        for text in ["", ":9120", "9120", "localhost:9120", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:9120"] {
            assert!(socket_address(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn peers_have_an_id_and_an_address() {
        for (text, id, host, port) in [
            ("b@10.0.0.2:8080", "b", "10.0.0.2", 8080),
            ("edge-2.example@edge-2.example:1", "edge-2.example", "edge-2.example", 1),
            ("b@[fd00::2]:8080", "b", "fd00::2", 8080),
        ] {
            let address = HostPort { host: host.to_owned(), port };
            assert_eq!(peer(OsStr::new(text)), Ok(Peer { host_id: id.to_owned(), address }));
        }
        for text in
            ["", "@", "b@:8080", "@10.0.0.2:8080", "10.0.0.2:8080", "b c@d:1", "b@c@d:1", "b@c:1,d@e:2", "ä@b:1"]
        {
            assert!(peer(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_are_found_by_name_or_number() {
        let file = "root:x:0:\nwww-data:x:33:nginx,php\nbroken\nodd:x:many:\n";
        assert_eq!(group_id(OsStr::new("www-data"), file), Ok(33));
        assert_eq!(group_id(OsStr::new("1234"), file), Ok(1234));
        for text in ["", "nobody-here", "broken", "odd", "4294967295", "99999999999"] {
            assert!(group_id(OsStr::new(text), file).is_err(), "{text}");
        }
    }

    #[test]
    fn socket_paths_fit_the_kernel() {
        assert!(socket_path(OsStr::new(&"a".repeat(107))).is_ok());
        assert!(socket_path(OsStr::new(&"a".repeat(108))).is_err());
        assert!(socket_path(OsStr::new("")).is_err());
    }
}

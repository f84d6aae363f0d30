//! The header fields that mean something here, in one table: one pass over a head sorts every line into it.

/// A header field that somebody reads. All but `Connection` and `Accept` are singletons: a second line of one is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Expect`
    Expect,
    /// `Content-Type`
    ContentType,
    /// `X-Customer-ID`
    CustomerId,
    /// `BigBunny-Not-Valid-After`
    NotValidAfter,
    /// `BigBunny-Not-Valid-After-Ms`
    NotValidAfterMs,
    /// `BigBunny-Lock-ID`
    LockId,
    /// `BigBunny-Reuse-If-Exists`
    ReuseIfExists,
    /// `BigBunny-Create-If-Missing`
    CreateIfMissing,
    /// `BigBunny-Lock-Wait`
    LockWait,
    /// `BigBunny-Lock-Hold`
    LockHold,
    /// `BigBunny-Lock-Scope`
    LockScope,
    /// `If-Match`
    IfMatch,
    /// `If-None-Match`
    IfNoneMatch,
    /// `Idempotency-Key`
    IdempotencyKey,
    /// `BigBunny-Durability`
    Durability,
    /// `BigBunny-Read`
    Read,
    /// `Authorization`
    Authorization,
    /// `Accept`
    Accept,
}

impl Field {
    /// How many there are.
    pub const COUNT: usize = FIELDS.len();

    /// The name as it is written in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        FIELDS[self as usize].1
    }

    /// The field of this name, in any case.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let candidates = BY_LENGTH.get(name.len())?;
        for &index in candidates {
            let (field, text) = FIELDS.get(usize::from(index))?;
            if is_named(name, text.as_bytes()) {
                return Some(*field);
            }
        }
        None
    }
}

/// Whether a text is this name in any case; both have the same length. The names are made of letters and hyphens: the bit that tells
/// upper from lower case does not count in a letter, and a letter is told from a hyphen by the bit above it. So eight bytes are compared
/// at once.
fn is_named(text: &[u8], name: &[u8]) -> bool {
    const LETTER: u8 = 0x40;
    const CASE_BELOW_LETTER: u32 = 1;
    let are_same = |text: &[u8; 8], name: &[u8; 8]| {
        let [text, name, letter] = [*text, *name, [LETTER; 8]].map(u64::from_ne_bytes);
        (text ^ name) & !((name & letter) >> CASE_BELOW_LETTER) == 0
    };
    let (Some((text_start, text_rest)), Some((name_start, name_rest))) =
        (text.split_first_chunk(), name.split_first_chunk())
    else {
        let differ = |text: u8, name: u8| (text ^ name) & !((name & LETTER) >> CASE_BELOW_LETTER);
        return text.iter().zip(name).fold(0, |seen, (&text, &name)| seen | differ(text, name)) == 0;
    };
    let (Some(text_end), Some(name_end)) = (text.last_chunk(), name.last_chunk()) else { return false };
    // The first eight bytes and the last may overlap; few names have more than both.
    are_same(text_start, name_start)
        && are_same(text_end, name_end)
        && (text_rest.len() <= 8
            || text_rest.as_chunks().0.iter().zip(name_rest.as_chunks().0).all(|(text, name)| are_same(text, name)))
}

/// Every field and its name, in the order of the enum.
const FIELDS: [(Field, &str); 22] = [
    (Field::Host, "Host"),
    (Field::ContentLength, "Content-Length"),
    (Field::TransferEncoding, "Transfer-Encoding"),
    (Field::Connection, "Connection"),
    (Field::Expect, "Expect"),
    (Field::ContentType, "Content-Type"),
    (Field::CustomerId, "X-Customer-ID"),
    (Field::NotValidAfter, "BigBunny-Not-Valid-After"),
    (Field::NotValidAfterMs, "BigBunny-Not-Valid-After-Ms"),
    (Field::LockId, "BigBunny-Lock-ID"),
    (Field::ReuseIfExists, "BigBunny-Reuse-If-Exists"),
    (Field::CreateIfMissing, "BigBunny-Create-If-Missing"),
    (Field::LockWait, "BigBunny-Lock-Wait"),
    (Field::LockHold, "BigBunny-Lock-Hold"),
    (Field::LockScope, "BigBunny-Lock-Scope"),
    (Field::IfMatch, "If-Match"),
    (Field::IfNoneMatch, "If-None-Match"),
    (Field::IdempotencyKey, "Idempotency-Key"),
    (Field::Durability, "BigBunny-Durability"),
    (Field::Read, "BigBunny-Read"),
    (Field::Authorization, "Authorization"),
    (Field::Accept, "Accept"),
];

const LONGEST_NAME_BYTES: usize = 27;
const MOST_OF_ONE_LENGTH: usize = 4;
const NO_FIELD: u8 = u8::MAX;

/// Which fields have a name of this length: most lines of a head are told apart by their length alone.
static BY_LENGTH: [[u8; MOST_OF_ONE_LENGTH]; LONGEST_NAME_BYTES + 1] = {
    let mut table = [[NO_FIELD; MOST_OF_ONE_LENGTH]; LONGEST_NAME_BYTES + 1];
    let mut index = 0;
    while index < FIELDS.len() {
        assert!(FIELDS[index].0 as usize == index, "FIELDS stands in the order of the enum");
        let name = FIELDS[index].1.as_bytes();
        let mut at = 0;
        while at < name.len() {
            assert!(name[at] == b'-' || name[at].is_ascii_alphabetic(), "is_named relies on it");
            at += 1;
        }
        let row = &mut table[FIELDS[index].1.len()];
        let mut column = 0;
        while row[column] != NO_FIELD {
            column += 1;
        }
        row[column] = index as u8;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_no_other() {
        for (field, name) in FIELDS {
            assert_eq!(Field::of(name.as_bytes()), Some(field));
            assert_eq!(Field::of(name.to_ascii_lowercase().as_bytes()), Some(field));
            assert_eq!(Field::of(name.to_ascii_uppercase().as_bytes()), Some(field));
            assert_eq!(field.name(), name);
            for index in 0..name.len() {
                for byte in 0..=u8::MAX {
                    let mut other = name.as_bytes().to_vec();
                    other[index] = byte;
                    let is_same = other.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(Field::of(&other) == Some(field), is_same, "{byte:#x} at {index} of {name}");
                }
                assert_ne!(Field::of(&name.as_bytes()[..index]), Some(field), "a prefix of {name}");
            }
        }
        assert_eq!(Field::of(b""), None);
        assert_eq!(Field::of(&[b'x'; 300]), None);
        assert_eq!(Field::of(b"Content_Length"), None);
    }
}

//! A head as nearly every client writes it, taken apart in one pass: a usual method, a target in origin-form, HTTP/1.1, lines that end in
//! CRLF and hold no HTAB, the last empty line. Owns no rule: whatever is not written so, or is wrong, is left to `head`, which reads
//! it anew with httparse, and what is read here reads the same there (the tests and the fuzzing of `head` compare the two).
//!
//! It stands beside httparse because the splitting of a head and the passes behind it were a third of what a request cost. Eight bytes at a
//! time are looked at as one number, as usual in such code ("Bit Twiddling Hacks", determine if a word has a byte less than n).

use super::fields::Field;
use super::head::{HeadLimits, Lines, RequestLine, is_token_byte};
use super::target::split_origin_form;
use super::{Method, Version};

/// Reads one head at the start of `bytes`: its request line, its fields, its length. `None` if it is not plain, or not whole.
#[inline(always)] // Into the one caller, so that what it makes is not copied.
pub(super) fn read_plain<'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    fields: &mut Lines<'b>,
) -> Option<(RequestLine<'b>, usize)> {
    const VERSION: &[u8; 11] = b" HTTP/1.1\r\n";
    let (method, rest) = read_method(bytes)?;
    let target_bytes = memchr::memchr(b' ', rest)?;
    let (target, rest) = rest.split_at(target_bytes);
    let mut rest = rest.strip_prefix(VERSION)?;
    if target_bytes > limits.max_target_bytes {
        return None;
    }
    let target = split_origin_form(target)?;
    let mut fields_left = limits.max_fields.min(HeadLimits::MOST_FIELDS);
    loop {
        if let Some(behind) = rest.strip_prefix(b"\r\n") {
            let line = RequestLine { method, target, version: Version::Http11 };
            return Some((line, bytes.len() - behind.len()));
        }
        fields_left = fields_left.checked_sub(1)?;
        let (field, value, behind) = read_line(rest)?;
        if let Some(field) = field {
            fields.add(field, value).ok()?;
        }
        rest = behind;
    }
}

fn read_method(bytes: &[u8]) -> Option<(Method, &[u8])> {
    Some(match bytes {
        [b'G', b'E', b'T', b' ', rest @ ..] => (Method::Get, rest),
        [b'P', b'O', b'S', b'T', b' ', rest @ ..] => (Method::Post, rest),
        [b'P', b'U', b'T', b' ', rest @ ..] => (Method::Put, rest),
        [b'D', b'E', b'L', b'E', b'T', b'E', b' ', rest @ ..] => (Method::Delete, rest),
        [b'H', b'E', b'A', b'D', b' ', rest @ ..] => (Method::Head, rest),
        _ => return None,
    })
}

/// One header line: which field it is, if one that means something; its value without the blanks around it; what stands behind.
#[inline(always)]
fn read_line(bytes: &[u8]) -> Option<(Option<Field>, &[u8], &[u8])> {
    let name_bytes = position(bytes, |eight| equal_to(eight, b':'), |byte| byte == b':')?;
    let (name, rest) = bytes.split_at(name_bytes);
    let field = Field::of(name);
    if field.is_none() && (name.is_empty() || !name.iter().copied().all(is_token_byte)) {
        return None;
    }
    let mut value = match rest {
        [b':', b' ', value @ ..] | [b':', value @ ..] => value,
        _ => return None,
    };
    // One blank is usual.
    while value.first() == Some(&b' ') {
        value = &value[1..];
    }
    let controls = |eight| less_than_blank(eight) | equal_to(eight, DELETE);
    let value_bytes = position(value, controls, |byte| byte.is_ascii_control())?;
    let (mut value, rest) = value.split_at(value_bytes);
    while value.last() == Some(&b' ') {
        value = &value[..value.len() - 1];
    }
    Some((field, value, rest.strip_prefix(b"\r\n")?))
}

/// Where the first byte stands of which `is_it` holds. `marks` sets the highest bit of the first such byte of eight, and of none before
/// it; the first one is the lowest.
#[inline(always)]
fn position(bytes: &[u8], marks: impl Fn(u64) -> u64, is_it: impl Fn(u8) -> bool) -> Option<usize> {
    let (eights, rest) = bytes.as_chunks::<8>();
    for (index, &eight) in eights.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(eight));
        if marked != 0 {
            return Some(index * 8 + marked.trailing_zeros() as usize / 8);
        }
    }
    Some(eights.len() * 8 + rest.iter().position(|&byte| is_it(byte))?)
}

const DELETE: u8 = 0x7f;
/// Eight times 1, so that its product with a byte is that byte eight times.
const ONES: u64 = u64::MAX / 255;
const HIGHEST_BITS: u64 = ONES * 0x80;

/// Subtracting 1 from each byte takes the highest bit of those only that have it or were 0, up to the first borrow.
const fn equal_to(eight: u64, byte: u8) -> u64 {
    let zero_where_equal = eight ^ (ONES * byte as u64);
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGHEST_BITS
}

const fn less_than_blank(eight: u64) -> u64 {
    eight.wrapping_sub(ONES * b' ' as u64) & !eight & HIGHEST_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_marked_byte_is_the_first_such_byte() {
        let mut random = 1_u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Bytes near those that are looked for.
            let bytes = (random ^ random >> 29).to_le_bytes().map(|byte| match byte & 3 {
                0 => byte,
                1 => b' ' - 2 + (byte >> 2) % 4,
                2 => DELETE - 1 + (byte >> 2) % 3,
                _ => b':' - 1 + (byte >> 2) % 3,
            });
            let eight = u64::from_le_bytes(bytes);
            let first = |marked: u64| (marked != 0).then(|| marked.trailing_zeros() as usize / 8);
            for byte in [b':', DELETE] {
                assert_eq!(first(equal_to(eight, byte)), bytes.iter().position(|&other| other == byte), "{bytes:x?}");
            }
            let is_less = bytes.iter().position(|&byte| byte < b' ');
            assert_eq!(first(less_than_blank(eight)), is_less, "{bytes:x?}");
            let controls = less_than_blank(eight) | equal_to(eight, DELETE);
            assert_eq!(first(controls), bytes.iter().position(u8::is_ascii_control), "{bytes:x?}");
        }
    }
}

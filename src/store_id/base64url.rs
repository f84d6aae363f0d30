//! Unpadded base64url (RFC 4648 section 5) between buffers whose lengths are known when compiling, by a table.
//!
//! A crate's constant-time decoder takes five times as long and was a quarter of all that a request costs. What is decoded here is
//! either what a client sent, who knows it, or authentic, so that no time tells anybody anything. Secrets are not for this.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The value of what is not in the alphabet: a bit beyond the 24 of a group.
const NONE: u32 = 1 << 24;

/// What each character adds to the 24 bits of its group, by its place in the group.
static VALUES: [[u32; 256]; 4] = {
    let mut values = [[NONE; 256]; 4];
    let mut place = 0;
    while place < 4 {
        let mut value = 0;
        while value < ALPHABET.len() {
            values[place][ALPHABET[value] as usize] = (value as u32) << (18 - 6 * place);
            value += 1;
        }
        place += 1;
    }
    values
};

/// Decodes all of `characters` into all of `bytes`. Says whether it could: for every content of `bytes` there is one text alone.
pub(super) fn decode<const CHARACTERS: usize, const BYTES: usize>(
    characters: &[u8; CHARACTERS],
    bytes: &mut [u8; BYTES],
) -> bool {
    const { assert!((BYTES * 8).div_ceil(6) == CHARACTERS) };
    let value = |place: usize, character: u8| VALUES[place][usize::from(character)];
    let group = |[a, b, c, d]: [u8; 4]| value(0, a) | value(1, b) | value(2, c) | value(3, d);
    let mut seen = 0;
    // Pairs of groups, and a group, have loops of their own, in which every length is known.
    let (eights, rest) = characters.as_chunks::<8>();
    let (sixes, rest_bytes) = bytes.as_chunks_mut::<6>();
    for (&[a, b, c, d, e, f, g, h], six) in eights.iter().zip(sixes) {
        let (high, low) = (group([a, b, c, d]), group([e, f, g, h]));
        seen |= high | low;
        let [_, _, decoded @ ..] = (u64::from(high) << 24 | u64::from(low)).to_be_bytes();
        *six = decoded;
    }
    let (fours, rest) = rest.as_chunks::<4>();
    let (threes, last_bytes) = rest_bytes.as_chunks_mut::<3>();
    for (&four, three) in fours.iter().zip(threes) {
        let bits = group(four);
        seen |= bits;
        [_, three[0], three[1], three[2]] = bits.to_be_bytes();
    }
    // Two characters more are one byte and four spare bits, three are two bytes and two.
    let last = rest.iter().enumerate().fold(0, |bits, (place, &character)| bits | value(place, character));
    seen |= last;
    let [_, last @ ..] = last.to_be_bytes();
    let (whole, spare) = last.split_at(last_bytes.len());
    last_bytes.copy_from_slice(whole);
    seen & NONE == 0 && spare.iter().all(|&bits| bits == 0)
}

/// Encodes all of `bytes` into all of `characters`.
pub(super) fn encode<const BYTES: usize, const CHARACTERS: usize>(
    bytes: &[u8; BYTES],
    characters: &mut [u8; CHARACTERS],
) {
    const { assert!((BYTES * 8).div_ceil(6) == CHARACTERS) };
    let character = |bits: u32, index: usize| ALPHABET[(bits >> (18 - 6 * index)) as usize % 64];
    let (threes, last_bytes) = bytes.as_chunks::<3>();
    let (fours, rest) = characters.as_chunks_mut::<4>();
    for (&[a, b, c], four) in threes.iter().zip(fours) {
        let bits = u32::from_be_bytes([0, a, b, c]);
        *four = std::array::from_fn(|index| character(bits, index));
    }
    let mut last = [0; 4];
    last[1..=last_bytes.len()].copy_from_slice(last_bytes);
    for (index, place) in rest.iter_mut().enumerate() {
        *place = character(u32::from_be_bytes(last), index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64UrlUnpadded, Encoding};

    /// Both ways, and every change of every character, against another implementation.
    fn compare<const BYTES: usize, const CHARACTERS: usize>(bytes: [u8; BYTES]) {
        let mut characters = [0; CHARACTERS];
        encode(&bytes, &mut characters);
        assert_eq!(characters, Base64UrlUnpadded::encode_string(&bytes).as_bytes());
        for index in 0..CHARACTERS {
            for byte in 0..=u8::MAX {
                let mut changed = characters;
                changed[index] = byte;
                let (mut ours, mut theirs) = ([0; BYTES], [0; BYTES]);
                let is_good = Base64UrlUnpadded::decode(changed, &mut theirs).is_ok();
                assert_eq!(decode(&changed, &mut ours), is_good, "{byte:#x} at {index}");
                assert!(!is_good || ours == theirs);
            }
        }
    }

    #[test]
    fn agrees_with_another_implementation() {
        for seed in 0..40_u8 {
            let byte =
                |index: usize| (index as u8).wrapping_mul(0x9d).wrapping_add(seed.wrapping_mul(0x35)).rotate_left(3);
            compare::<8, 11>(std::array::from_fn(byte));
            compare::<12, 16>(std::array::from_fn(byte));
            compare::<44, 59>(std::array::from_fn(byte));
        }
        compare::<8, 11>([0; 8]);
        compare::<8, 11>([255; 8]);
        compare::<12, 16>([255; 12]);
        compare::<1, 2>([255]);
        compare::<3, 4>([0, 255, 1]);
        compare::<11, 15>(std::array::from_fn(|index| index as u8 * 23));
    }
}

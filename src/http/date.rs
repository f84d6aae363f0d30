//! The `Date` of answers: IMF-fixdate (RFC 9110 section 5.6.7), made anew only when the second changes.

use crate::time::{WallTime, civil_from_days};

/// The date of now as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Debug)]
pub struct HttpDate {
    second: u64,
    text: [u8; HttpDate::LENGTH],
}

const SECONDS_A_DAY: u64 = 86_400;
/// 9999-12-31T23:59:59Z: the format has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl HttpDate {
    const LENGTH: usize = 29;

    /// The date of `now`.
    #[must_use]
    pub fn new(now: WallTime) -> Self {
        let second = (now.0 / 1000).min(LAST_SECOND);
        Self { second, text: format(second) }
    }

    /// Makes it the date of `now`; cheap while the second is the same.
    pub fn update(&mut self, now: WallTime) {
        if (now.0 / 1000).min(LAST_SECOND) != self.second {
            *self = Self::new(now);
        }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

fn format(second: u64) -> [u8; HttpDate::LENGTH] {
    let days = second / SECONDS_A_DAY;
    let of_day = second % SECONDS_A_DAY;
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[0..3].copy_from_slice(DAYS[(days % 7) as usize]);
    write_two(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    write_two(&mut text[12..14], year / 100);
    write_two(&mut text[14..16], year % 100);
    write_two(&mut text[17..19], of_day / 3600);
    write_two(&mut text[20..22], of_day / 60 % 60);
    write_two(&mut text[23..25], of_day % 60);
    text
}

fn write_two(text: &mut [u8], number: u64) {
    text[0] = b'0' + (number / 10) as u8;
    text[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn text_at(second: u64) -> String {
        String::from_utf8(HttpDate::new(WallTime(second * 1000 + 999)).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        assert_eq!(text_at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text_at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text_at(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(text_at(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text_at(1_709_251_199), "Thu, 29 Feb 2024 23:59:59 GMT");
        assert_eq!(text_at(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(text_at(LAST_SECOND), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text_at(u64::MAX / 1000 - 1), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn update_changes_only_with_the_second() {
        let mut date = HttpDate::new(WallTime(1_000));
        date.update(WallTime(1_999));
        assert_eq!(date.as_bytes(), b"Thu, 01 Jan 1970 00:00:01 GMT");
        date.update(WallTime(2_000));
        assert_eq!(date.as_bytes(), b"Thu, 01 Jan 1970 00:00:02 GMT");
        date.update(WallTime(1_000));
        assert_eq!(date.as_bytes(), b"Thu, 01 Jan 1970 00:00:01 GMT", "the wall clock may go back");
    }
}

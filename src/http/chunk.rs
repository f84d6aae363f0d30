//! A chunked body (RFC 9112 section 7.1), decoded as it comes. Extensions and trailers are checked and dropped.

use super::HttpError;
use super::head::is_token_byte;

/// Digits of a chunk size, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of extensions in one body.
const MAX_EXTENSION_BYTES: usize = 4 * 1024;
/// Bytes of trailer lines.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// Trailer lines.
const MAX_TRAILER_LINES: usize = 64;

const BAD_SIZE: HttpError = HttpError::bad("a chunk size is malformed: send hexadecimal digits and CRLF");
const BAD_EXTENSION: HttpError = HttpError::bad("a chunk extension is malformed");
const BAD_DATA_END: HttpError = HttpError::bad("the data of a chunk is not followed by CRLF");
const BAD_TRAILER: HttpError = HttpError::bad("a trailer line is malformed");
const TOO_MUCH_EXTENSION: HttpError = HttpError::bad("the chunk extensions are too long");
const TOO_LARGE: HttpError = HttpError { status: 413, message: "the body is too large" };
const TOO_MUCH_TRAILER: HttpError = HttpError { status: 431, message: "the trailers are too large" };

/// Decodes one chunked body, from the byte behind the head to the last CRLF.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    body_limit: usize,
    /// Of the chunk in work: what is left of its data.
    left: u64,
    size_digits: u8,
    decoded_bytes: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_lines: usize,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Blanks behind the size: only good before an extension.
    SizeBlanks,
    ExtensionNameStart,
    ExtensionName,
    ExtensionNameBlanks,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionQuotedPair,
    /// Behind a whole extension value.
    ExtensionEnd,
    /// Blanks behind an extension value: only good before another one.
    ExtensionEndBlanks,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl ChunkDecoder {
    /// A decoder for a body that may have `body_limit` bytes when decoded.
    #[must_use]
    pub fn new(body_limit: usize) -> Self {
        Self {
            state: State::Size,
            body_limit,
            left: 0,
            size_digits: 0,
            decoded_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_lines: 0,
        }
    }

    /// Decodes as much of `input` as belongs to the body, appending to `body`: how many bytes of `input` were eaten,
    /// and whether the body is whole. All of `input` is eaten unless the body is whole.
    ///
    /// # Errors
    ///
    /// `400` for whatever is malformed, `413` at the chunk that passes the limit, `431` for too many trailers.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, bool), HttpError> {
        let mut at = 0;
        while self.state != State::Done {
            let Some(&byte) = input.get(at) else { break };
            if self.state == State::Data {
                let rest = &input[at..];
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                body.extend_from_slice(&rest[..length]);
                at += length;
                self.left -= length as u64;
                if self.left == 0 {
                    self.state = State::DataCarriageReturn;
                }
            } else {
                self.state = self.step(byte)?;
                at += 1;
            }
        }
        Ok((at, self.state == State::Done))
    }

    /// What one byte outside of the data does.
    fn step(&mut self, byte: u8) -> Result<State, HttpError> {
        match (self.state, byte) {
            (State::Size, b'\r') => self.on_size_end(State::SizeLineFeed),
            (State::Size, b';') => self.on_extension_byte(State::ExtensionNameStart),
            (State::Size, b' ' | b'\t') => self.on_extension_byte(State::SizeBlanks),
            (State::Size, byte) => self.on_size_digit(byte),
            (State::SizeBlanks, b' ' | b'\t') => self.on_extension_byte(State::SizeBlanks),
            (State::SizeBlanks, b';') => self.on_extension_byte(State::ExtensionNameStart),
            (State::SizeBlanks, _) => Err(BAD_SIZE),

            (State::ExtensionNameStart, b' ' | b'\t') => self.on_extension_byte(State::ExtensionNameStart),
            (State::ExtensionNameStart | State::ExtensionName, byte) if is_token_byte(byte) => {
                self.on_extension_byte(State::ExtensionName)
            }
            (State::ExtensionName | State::ExtensionNameBlanks, b' ' | b'\t') => {
                self.on_extension_byte(State::ExtensionNameBlanks)
            }
            (State::ExtensionName | State::ExtensionNameBlanks, b'=') => {
                self.on_extension_byte(State::ExtensionValueStart)
            }
            (State::ExtensionValueStart, b' ' | b'\t') => self.on_extension_byte(State::ExtensionValueStart),
            (State::ExtensionValueStart, b'"') => self.on_extension_byte(State::ExtensionQuoted),
            (State::ExtensionValueStart | State::ExtensionToken, byte) if is_token_byte(byte) => {
                self.on_extension_byte(State::ExtensionToken)
            }
            (State::ExtensionQuoted, b'"') => self.on_extension_byte(State::ExtensionEnd),
            (State::ExtensionQuoted, b'\\') => self.on_extension_byte(State::ExtensionQuotedPair),
            (State::ExtensionQuoted | State::ExtensionQuotedPair, byte) if is_value_byte(byte) => {
                self.on_extension_byte(State::ExtensionQuoted)
            }
            (State::ExtensionToken | State::ExtensionEnd | State::ExtensionEndBlanks, b' ' | b'\t') => {
                self.on_extension_byte(State::ExtensionEndBlanks)
            }
            (
                State::ExtensionName
                | State::ExtensionNameBlanks
                | State::ExtensionToken
                | State::ExtensionEnd
                | State::ExtensionEndBlanks,
                b';',
            ) => self.on_extension_byte(State::ExtensionNameStart),
            (State::ExtensionName | State::ExtensionToken | State::ExtensionEnd, b'\r') => {
                self.on_size_end(State::SizeLineFeed)
            }
            (
                State::ExtensionNameStart
                | State::ExtensionName
                | State::ExtensionNameBlanks
                | State::ExtensionValueStart
                | State::ExtensionToken
                | State::ExtensionQuoted
                | State::ExtensionQuotedPair
                | State::ExtensionEnd
                | State::ExtensionEndBlanks,
                _,
            ) => Err(BAD_EXTENSION),

            (State::SizeLineFeed, b'\n') => Ok(self.on_size_line_end()),
            (State::SizeLineFeed, _) => Err(BAD_SIZE),
            (State::DataCarriageReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::Size),
            (State::DataCarriageReturn | State::DataLineFeed, _) => Err(BAD_DATA_END),

            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::TrailerStart, byte) if is_token_byte(byte) => self.on_trailer_line(),
            (State::TrailerName, b':') => self.on_trailer_byte(State::TrailerValue),
            (State::TrailerName, byte) if is_token_byte(byte) => self.on_trailer_byte(State::TrailerName),
            (State::TrailerValue, b'\r') => self.on_trailer_byte(State::TrailerLineFeed),
            (State::TrailerValue, byte) if is_value_byte(byte) => self.on_trailer_byte(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => self.on_trailer_byte(State::TrailerStart),
            (State::LastLineFeed, b'\n') => Ok(State::Done),
            (
                State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLineFeed
                | State::LastLineFeed,
                _,
            ) => Err(BAD_TRAILER),
            // The loop of `decode` never asks in these states.
            (State::Data | State::Done, _) => Err(BAD_SIZE),
        }
    }

    fn on_size_digit(&mut self, byte: u8) -> Result<State, HttpError> {
        let digit = char::from(byte).to_digit(16).ok_or(BAD_SIZE)?;
        if self.size_digits == MAX_SIZE_DIGITS {
            return Err(BAD_SIZE);
        }
        self.size_digits += 1;
        // 16 digits of 4 bits are 64 bits.
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn on_size_end(&mut self, next: State) -> Result<State, HttpError> {
        if self.size_digits == 0 {
            return Err(BAD_SIZE);
        }
        let room = self.body_limit - self.decoded_bytes;
        match usize::try_from(self.left) {
            Ok(size) if size <= room => self.decoded_bytes += size,
            Ok(_) | Err(_) => return Err(TOO_LARGE),
        }
        Ok(next)
    }

    fn on_size_line_end(&mut self) -> State {
        self.size_digits = 0;
        if self.left == 0 { State::TrailerStart } else { State::Data }
    }

    fn on_extension_byte(&mut self, next: State) -> Result<State, HttpError> {
        if self.size_digits == 0 {
            return Err(BAD_SIZE);
        }
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(TOO_MUCH_EXTENSION) } else { Ok(next) }
    }

    fn on_trailer_line(&mut self) -> Result<State, HttpError> {
        self.trailer_lines += 1;
        if self.trailer_lines > MAX_TRAILER_LINES {
            Err(TOO_MUCH_TRAILER)
        } else {
            self.on_trailer_byte(State::TrailerName)
        }
    }

    fn on_trailer_byte(&mut self, next: State) -> Result<State, HttpError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES { Err(TOO_MUCH_TRAILER) } else { Ok(next) }
    }
}

/// What may stand in a field value or, but for `"` and `\`, between quotes (RFC 9110 section 5.5).
const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests;

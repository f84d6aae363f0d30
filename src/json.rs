//! JSON as RFC 8259 has it, and nothing beside it: reading what clients send, and writing what they get.
//!
//! Owns the grammar, the escapes, and the one body that the node itself reads (`{"value":N}`, see [`counter_update`]). Knows
//! no HTTP. The reader hands out an object's members one by one and allocates only for strings with escapes; it never builds
//! a tree, so that a body costs no more than one pass over it.

use std::borrow::Cow;

/// How deep arrays and objects may stand in each other. RFC 8259 section 9 lets a reader set a limit; our bodies need 2.
pub const MAX_DEPTH: u32 = 64;

/// What is wrong with a text that should be JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What, as the end of a sentence that begins with "the body is not JSON:".
    pub what: &'static str,
}

/// One value. What stands inside of an array is read by [`Array::items`], inside of an object by [`Object::members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent that fits.
    Integer(i64),
    /// Any other number: `1.0`, `1e3`, or an integer of more than 64 bits.
    OtherNumber,
    /// A string, its escapes resolved.
    String(Cow<'a, str>),
    /// An array, its syntax already checked.
    Array(Array<'a>),
    /// An object, its syntax already checked.
    Object(Object<'a>),
}

/// An array whose syntax has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array<'a> {
    /// From bracket to bracket.
    text: &'a str,
    depth: u32,
}

impl<'a> Array<'a> {
    /// Its values, in order.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let mut reader = Reader { text: self.text, at: 1 };
        std::iter::from_fn(move || {
            reader.skip_white();
            // The syntax was checked when the array was met, so the errors that end this early cannot occur.
            if reader.peek() == Some(b']') {
                return None;
            }
            let item = reader.value(self.depth).ok()?;
            reader.skip_white();
            if reader.peek() == Some(b',') {
                reader.at += 1;
            }
            Some(item)
        })
    }
}

/// An object whose syntax has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// From brace to brace.
    text: &'a str,
    depth: u32,
}

impl<'a> Object<'a> {
    /// Its members, in order; a key that stands twice is there twice.
    #[must_use]
    pub fn members(self) -> Vec<(Cow<'a, str>, Value<'a>)> {
        let mut members = Vec::new();
        // The syntax was checked when the object was met, so that this cannot fail.
        let _ = Reader { text: self.text, at: 0 }.object(self.depth + 1, &mut |key, value| members.push((key, value)));
        members
    }
}

/// Reads a text that must be one value of any kind.
///
/// # Errors
/// The text is not UTF-8, or not JSON, or something follows it.
pub fn read_value(text: &[u8]) -> Result<Value<'_>, JsonError> {
    let text =
        std::str::from_utf8(text).map_err(|error| JsonError { at: error.valid_up_to(), what: "it is not UTF-8" })?;
    let mut reader = Reader { text, at: 0 };
    reader.skip_white();
    let value = reader.value(MAX_DEPTH)?;
    reader.skip_white();
    if reader.at < text.len() {
        return Err(reader.error("something follows it"));
    }
    Ok(value)
}

/// Reads a text that must be one object, and hands out its members in order.
///
/// Members are handed out before the text behind them is checked, so nothing may be done with them until this returns `Ok`.
/// `Ok(false)` is good JSON that is no object. A key that stands twice is handed out twice: that is for the caller to
/// refuse, who knows all keys that may stand there at all.
///
/// # Errors
/// The text is not UTF-8, or not JSON, or something follows it.
pub fn read_object<'a>(text: &'a [u8], mut member: impl FnMut(Cow<'a, str>, Value<'a>)) -> Result<bool, JsonError> {
    let text =
        std::str::from_utf8(text).map_err(|error| JsonError { at: error.valid_up_to(), what: "it is not UTF-8" })?;
    let mut reader = Reader { text, at: 0 };
    reader.skip_white();
    let is_object = reader.peek() == Some(b'{');
    if is_object {
        reader.object(MAX_DEPTH, &mut member)?;
    } else {
        reader.value(MAX_DEPTH)?;
    }
    reader.skip_white();
    if reader.at < text.len() {
        return Err(reader.error("something follows it"));
    }
    Ok(is_object)
}

/// Why a body is no update of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterBodyError {
    /// It is no JSON object at all, so it was meant for a blob.
    NotAnObject,
    /// It is an object, but not `{"value":N}`.
    Bad(CounterBodyMistake),
}

/// Why an object is not `{"value":N}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterBodyMistake {
    /// It has another key.
    OtherKey,
    /// `value` stands twice.
    Twice,
    /// `value` is something else, or has more than 64 bits.
    NotAnInteger,
    /// There is no `value`.
    Missing,
}

impl CounterBodyMistake {
    /// All of them, in the order of their wire numbers.
    pub const ALL: [Self; 4] = [Self::OtherKey, Self::Twice, Self::NotAnInteger, Self::Missing];

    /// What the user is told.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::OtherKey => "a counter is updated by {\"value\":N}, without any other key",
            Self::Twice => "`value` stands twice",
            Self::NotAnInteger => "`value` must be an integer of 64 bits",
            Self::Missing => "`value` is missing: a counter is updated by {\"value\":N}",
        }
    }
}

/// Reads `{"value":N}`, the body that updates a counter. A pure function, because only the store's kind, which the node
/// knows, decides whether a body is read at all.
///
/// # Errors
/// See [`CounterBodyError`].
pub fn counter_update(body: &[u8]) -> Result<i64, CounterBodyError> {
    let mut value = None;
    let mut problem = None;
    let is_object = read_object(body, |key, member| {
        if key != "value" {
            problem = problem.or(Some(CounterBodyMistake::OtherKey));
        } else if value.is_some() {
            problem = problem.or(Some(CounterBodyMistake::Twice));
        } else {
            value = Some(member);
        }
    });
    if is_object != Ok(true) {
        return Err(CounterBodyError::NotAnObject);
    }
    if let Some(problem) = problem {
        return Err(CounterBodyError::Bad(problem));
    }
    match value {
        Some(Value::Integer(value)) => Ok(value),
        Some(
            Value::Null | Value::Bool(_) | Value::OtherNumber | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => Err(CounterBodyError::Bad(CounterBodyMistake::NotAnInteger)),
        None => Err(CounterBodyError::Bad(CounterBodyMistake::Missing)),
    }
}

/// A place in a text; every method reads what begins there.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over `byte` or says what is wrong.
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Reads any value; `depth` is how many more may stand in each other.
    fn value(&mut self, depth: u32) -> Result<Value<'a>, JsonError> {
        match self.peek() {
            Some(b'{') => {
                let start = self.at;
                self.object(depth, &mut |_, _| ())?;
                Ok(Value::Object(Object { text: &self.text[start..self.at], depth: depth - 1 }))
            }
            Some(b'[') => self.array(depth).map(Value::Array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.error("no value begins so")),
            None => Err(self.error("it ends where a value should stand")),
        }
    }

    fn word(&mut self, word: &'static str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("no value begins so"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: u32, member: &mut dyn FnMut(Cow<'a, str>, Value<'a>)) -> Result<(), JsonError> {
        let Some(depth) = depth.checked_sub(1) else { return Err(self.error("it is too deep")) };
        self.expect(b'{', "an object must begin with {")?;
        self.skip_white();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_white();
            let key = self.string()?;
            self.skip_white();
            self.expect(b':', "a colon must follow a key")?;
            self.skip_white();
            let value = self.value(depth)?;
            member(key, value);
            self.skip_white();
            if self.peek() == Some(b'}') {
                self.at += 1;
                return Ok(());
            }
            self.expect(b',', "a comma or } must follow a member")?;
        }
    }

    fn array(&mut self, depth: u32) -> Result<Array<'a>, JsonError> {
        let start = self.at;
        let Some(depth) = depth.checked_sub(1) else { return Err(self.error("it is too deep")) };
        self.expect(b'[', "an array must begin with [")?;
        self.skip_white();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Array { text: &self.text[start..self.at], depth });
        }
        loop {
            self.skip_white();
            self.value(depth)?;
            self.skip_white();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Array { text: &self.text[start..self.at], depth });
            }
            self.expect(b',', "a comma or ] must follow an item")?;
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"', "a string must begin with a quotation mark")?;
        let start = self.at;
        let end = self.plain_run()?;
        if self.text.as_bytes()[end] == b'"' {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        let mut resolved = String::from(&self.text[start..end]);
        self.at = end;
        loop {
            // Here stands a backslash or the closing quotation mark: all that ends a run.
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(Cow::Owned(resolved));
            }
            resolved.push(self.escape()?);
            let start = self.at;
            let end = self.plain_run()?;
            resolved.push_str(&self.text[start..end]);
            self.at = end;
        }
    }

    /// Where the run of plain characters that begins here ends: at a quotation mark or a backslash.
    fn plain_run(&mut self) -> Result<usize, JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20) else {
            self.at = self.text.len();
            return Err(self.error("it ends inside of a string"));
        };
        if rest[length] < 0x20 {
            self.at += length;
            return Err(self.error("a control character stands in a string without an escape"));
        }
        Ok(self.at + length)
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.expect(b'\\', "an escape must begin with a backslash")?;
        let Some(letter) = self.peek() else { return Err(self.error("it ends inside of a string")) };
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.error("there is no such escape")),
        };
        self.at += 1;
        Ok(character)
    }

    /// `uXXXX`, and a second one behind it where the first is half of a pair (RFC 8259 section 7).
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        const HALF: &str = "half a surrogate pair is no character";
        let first = self.four_hex_digits()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.error(HALF));
        }
        if first >= 0xdc00 || self.peek() != Some(b'\\') {
            return Err(self.error(HALF));
        }
        self.at += 1;
        if self.peek() != Some(b'u') {
            return Err(self.error(HALF));
        }
        let second = self.four_hex_digits()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(self.error(HALF));
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or_else(|| self.error(HALF))
    }

    /// The `u` and what follows it.
    fn four_hex_digits(&mut self) -> Result<u32, JsonError> {
        self.expect(b'u', "an escape of four digits must begin with u")?;
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.error("\\u needs four hexadecimal digits")) };
            number = number * 16 + digit;
            self.at += 1;
        }
        Ok(number)
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.error("a number must not begin with 0"));
            }
        } else {
            self.digits()?;
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        let integer = if is_integer { text.parse().ok() } else { None };
        Ok(integer.map_or(Value::OtherNumber, Value::Integer))
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit must stand there")) } else { Ok(()) }
    }
}

/// Appends `text` as a JSON string, quotation marks included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests;

//! The primitives of our own byte formats: little-endian numbers of fixed width, and bytes behind their length.
//!
//! Writing cannot fail. Reading refuses what is cut or out of range and never allocates: what it returns borrows from the input.

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Succeeds if nothing is left.
    pub const fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// `0` or `1`.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// 4 bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// 8 bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// 8 bytes.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// 16 bytes.
    pub fn i128(&mut self) -> Result<i128, Malformed> {
        self.array().map(i128::from_le_bytes)
    }

    /// Bytes behind a `u32` length.
    pub fn bytes(&mut self) -> Result<&'b [u8], Malformed> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// UTF-8 behind a `u32` length.
    pub fn str(&mut self) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// `0`, or `1` and what `read` reads.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }
}

/// Writes to the end of a buffer.
pub trait Write {
    /// One byte.
    fn put_u8(&mut self, number: u8);
    /// `0` or `1`.
    fn put_bool(&mut self, yes: bool) {
        self.put_u8(u8::from(yes));
    }
    /// Bytes as they are.
    fn put_array(&mut self, bytes: &[u8]);
    /// 4 bytes.
    fn put_u32(&mut self, number: u32) {
        self.put_array(&number.to_le_bytes());
    }
    /// 8 bytes.
    fn put_u64(&mut self, number: u64) {
        self.put_array(&number.to_le_bytes());
    }
    /// 8 bytes.
    fn put_i64(&mut self, number: i64) {
        self.put_array(&number.to_le_bytes());
    }
    /// 16 bytes.
    fn put_i128(&mut self, number: i128) {
        self.put_array(&number.to_le_bytes());
    }
    /// Bytes behind a `u32` length. Nothing here comes near 4 GiB.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).expect("bodies and batches are capped far below 4 GiB"));
        self.put_array(bytes);
    }
    /// `0`, or `1` and what `write` writes.
    fn put_option<T>(&mut self, option: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.put_bool(option.is_some());
        if let Some(value) = option {
            write(self, value);
        }
    }
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, number: u8) {
        self.push(number);
    }

    fn put_array(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

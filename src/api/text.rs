//! A short text on the stack, so that small answers are made without an allocation.

/// Up to `N` bytes of text.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Appends; what is pushed is our own, so running out of room is our own mistake.
    pub(super) fn push_str(&mut self, text: &str) {
        let end = self.length + text.len();
        assert!(end <= N, "a text of {end} bytes does not fit in {N}");
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
    }

    /// Appends one ASCII character.
    pub(super) fn push(&mut self, character: u8) {
        assert!(self.length < N, "a text does not fit in {N} bytes");
        self.bytes[self.length] = character;
        self.length += 1;
    }

    /// Appends a number in decimal.
    pub(super) fn push_integer(&mut self, number: impl itoa::Integer) {
        self.push_str(itoa::Buffer::new().format(number));
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

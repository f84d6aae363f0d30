//! Bytes on their way into a socket that takes them when it can.

use std::io::{self, Write};

use super::End;
use super::limits::BUFFER_KEPT_BYTES;

/// What waits to be written. Gives memory back when it is empty.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    sent_bytes: usize,
}

impl Output {
    /// Where to append what is to be written.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many bytes wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.sent_bytes
    }

    /// Writes until there is nothing left, or the socket takes no more, which is then not `writable`.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub fn write(&mut self, socket: &mut impl Write, writable: &mut bool) -> Result<(), End> {
        while *writable && self.sent_bytes < self.bytes.len() {
            match socket.write(&self.bytes[self.sent_bytes..]) {
                Ok(0) => return Err(End::Closed),
                Ok(length) => self.sent_bytes += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Failed(error)),
            }
        }
        if self.sent_bytes == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(BUFFER_KEPT_BYTES);
            self.sent_bytes = 0;
        }
        Ok(())
    }
}

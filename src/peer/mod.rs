//! What two nodes say to each other, as pure code: the messages and their bytes, the sealed link that carries them, the HTTP
//! around it, and the two ends of a connection over any [`Socket`]. bbd-internals(7) has all of it byte by byte.
//!
//! The shell runs [`outgoing`] and [`incoming`] on TCP, the simulator on a network of its own; neither knows which.

pub(crate) mod dialled;
mod end;
pub mod http;
pub mod incoming;
pub mod limits;
pub mod link;
pub mod message;
pub mod outgoing;
mod output;
mod queue;
mod redial;

use std::io;

pub use self::end::End;
pub use self::output::Output;

/// A connection as the operating system gives it: it never waits, but says [`io::ErrorKind::WouldBlock`].
pub trait Socket: io::Read + io::Write {
    /// Whether it is connected, once it says that it can be written to.
    ///
    /// # Errors
    ///
    /// It will never be.
    fn is_connected(&self) -> io::Result<bool>;
}

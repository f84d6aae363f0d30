//! Signals as bytes in two pipes that the loop polls: one for "stop", one for "reload".

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream as StdUnixStream;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// The reading ends of the two pipes.
pub(super) struct Signals {
    stop: UnixStream,
    reload: UnixStream,
}

/// How often each kind of signal came since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// `SIGTERM` or `SIGINT`.
    pub(super) stop: usize,
    /// `SIGHUP`.
    pub(super) reload: usize,
}

impl Signals {
    /// Catches the signals from here on. `SIGPIPE` is ignored by Rust's runtime already.
    pub(super) fn catch(registry: &Registry, token: Token) -> io::Result<Self> {
        let (stop, stop_sender) = StdUnixStream::pair()?;
        pipe::register(SIGTERM, stop_sender.try_clone()?)?;
        pipe::register(SIGINT, stop_sender)?;
        let (reload, reload_sender) = StdUnixStream::pair()?;
        pipe::register(SIGHUP, reload_sender)?;
        stop.set_nonblocking(true)?;
        reload.set_nonblocking(true)?;
        let mut signals = Self { stop: UnixStream::from_std(stop), reload: UnixStream::from_std(reload) };
        registry.register(&mut signals.stop, token, Interest::READABLE)?;
        registry.register(&mut signals.reload, token, Interest::READABLE)?;
        Ok(signals)
    }

    /// What came since the last call.
    pub(super) fn take(&mut self) -> Received {
        Received { stop: drain(&mut self.stop), reload: drain(&mut self.reload) }
    }
}

/// Reads a pipe until it is empty; each byte was a signal.
fn drain(pipe: &mut UnixStream) -> usize {
    let mut bytes = [0; 64];
    let mut count = 0;
    loop {
        match pipe.read(&mut bytes) {
            Ok(0) => return count,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return count,
        }
    }
}

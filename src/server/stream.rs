//! The kinds of socket that clients come in on, behind one face: the one place that another kind is added to.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Uid;

/// One client's socket.
pub(super) enum Stream {
    /// On a Unix socket.
    Unix(UnixStream),
    /// On `--metrics-listen`.
    Tcp(TcpStream),
}

impl Stream {
    /// As read(2).
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }

    /// As write(2).
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    /// Says that nothing more will be written. A client that is gone already needs not be told.
    pub(super) fn shutdown_write(&self) {
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Says that nothing more will be written nor taken: what has come can still be read, and then comes the end.
    pub(super) fn shutdown(&self) {
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Whose process the client was when it connected, as the system says; nobody knows of one on TCP.
    pub(super) fn client_uid(&self) -> Option<Uid> {
        match self {
            Self::Unix(stream) => socket_peercred(stream).ok().map(|client| client.uid),
            Self::Tcp(_) => None,
        }
    }

    /// What the loop polls.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Unix(stream) => stream,
            Self::Tcp(stream) => stream,
        }
    }
}

/// One listening socket.
pub(super) enum Acceptor {
    /// A Unix socket.
    Unix(UnixListener),
    /// `--metrics-listen`.
    Tcp(TcpListener),
}

impl Acceptor {
    /// As accept(2).
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => Ok(Stream::Tcp(listener.accept()?.0)),
        }
    }

    /// Has the loop poll it.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Unix(listener) => registry.register(listener, token, Interest::READABLE),
            Self::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
        }
    }
}

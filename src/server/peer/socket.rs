//! TCP sockets between the nodes: how they are opened, which options they get, and what the loop is told of them.

use std::io::{self, ErrorKind};
use std::net::{self, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use rustix::net::sockopt;

use super::super::limits::{PEER_KEEPALIVE_COUNT, PEER_KEEPALIVE_INTERVAL, PEER_SILENCE_MAX};
use crate::config::values::HostPort;
use crate::peer::Socket;

/// Listens at `--tcp`; without a host on every address of this one. A host name is resolved here and now, before anything is served.
pub(in crate::server) fn listen(at: &HostPort) -> io::Result<TcpListener> {
    let listener = if at.host.is_empty() {
        match net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, at.port)) {
            // A system without IPv6.
            Err(error) if error.kind() != ErrorKind::AddrInUse => {
                net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, at.port))?
            }
            bound => bound?,
        }
    } else {
        net::TcpListener::bind((at.host.as_str(), at.port))?
    };
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

/// Has small messages leave at once, and a connection end whose other side is gone without a word: after [`PEER_SILENCE_MAX`] in
/// which sent bytes were not acknowledged, or probes of an idle connection not answered.
pub(in crate::server) fn set_options(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, PEER_KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepintvl(socket, PEER_KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, PEER_KEEPALIVE_COUNT)?;
    sockopt::set_tcp_user_timeout(socket, PEER_SILENCE_MAX.as_millis() as u32)?;
    Ok(())
}

impl Socket for TcpStream {
    /// mio's documentation of `TcpStream::connect` has the steps.
    fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether reading may bring something, if only an end.
pub(in crate::server) fn is_readable(event: &Event) -> bool {
    event.is_readable() || event.is_read_closed() || event.is_error()
}

/// Whether writing may bring something, if only an end.
pub(in crate::server) fn is_writable(event: &Event) -> bool {
    event.is_writable() || event.is_write_closed() || event.is_error()
}

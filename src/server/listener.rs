//! Where clients come in: the listening sockets and their doors, how many may come, and what happens when the system has no
//! descriptor left. Does not own what becomes of a connection once it is in.

use std::fs::File;
use std::io;
use std::path::Path;

use listenfd::ListenFd;
use mio::net::{TcpListener, UnixListener};
use mio::{Registry, Token};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::limits::{OPERATOR_CONNECTIONS_MAX, OTHER_DESCRIPTORS, REFUSED_LINGERING_MAX};
use super::socket_file::{ListenError, SocketFile, listen_at};
use super::stream::{Acceptor, Stream};
use crate::api::Door;
use crate::config::Config;

/// What a connection may do by where it came in.
pub(super) enum DoorOwner {
    /// Everything.
    Everyone,
    /// `--uds-for`: the requests of one customer.
    Customer(String),
    /// `--metrics-listen`: metrics and health. Its connections are counted apart, so that neither kind keeps the other out.
    Metrics,
}

impl DoorOwner {
    /// As the API knows it.
    pub(super) fn door(&self) -> Door<'_> {
        match self {
            Self::Everyone => Door::Main,
            Self::Customer(customer) => Door::Customer(customer),
            Self::Metrics => Door::Metrics,
        }
    }
}

/// One listening socket.
pub(super) struct Listener {
    acceptor: Acceptor,
    file: Option<SocketFile>,
    /// Which of the server's doors it is.
    pub(super) door: usize,
    /// Somebody may be waiting: an event said so, and no accept has come back empty since.
    pub(super) ready: bool,
}

impl Listener {
    fn new(acceptor: Acceptor, file: Option<SocketFile>, door: usize) -> Self {
        Self { acceptor, file, door, ready: false }
    }

    /// Has the loop poll it.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.acceptor.register(registry, token)
    }

    /// The next client who waits; `None` if nobody does.
    pub(super) fn accept(&mut self) -> io::Result<Option<Stream>> {
        loop {
            match self.acceptor.accept() {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    return Ok(None);
                }
                // A client that has left the line again is no reason to stop.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the socket is our own and not one that was passed in.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Removes the socket's file if it has one and it is still its own, so that nobody new comes.
    pub(super) fn remove_file(&mut self) {
        if let Some(file) = self.file.take() {
            file.remove();
        }
    }
}

/// The doors of a configuration and their listening sockets. Sockets passed in by activation take the place of `--uds`.
pub(super) fn open_all(config: &Config) -> Result<(Vec<DoorOwner>, Vec<Listener>), ListenError> {
    let mut doors = vec![DoorOwner::Everyone];
    let mut listeners: Vec<Listener> = Vec::new();
    let open = |path: &Path| listen_at(path, config.uds_mode, config.uds_gid);
    let opened = (|| {
        for socket in take_activated()? {
            listeners.push(Listener::new(Acceptor::Unix(socket), None, 0));
        }
        if listeners.is_empty() {
            let (socket, file) = open(&config.uds)?;
            listeners.push(Listener::new(Acceptor::Unix(socket), Some(file), 0));
        }
        for own in &config.uds_for {
            let (socket, file) = open(&own.path)?;
            listeners.push(Listener::new(Acceptor::Unix(socket), Some(file), doors.len()));
            doors.push(DoorOwner::Customer(own.customer.clone()));
        }
        if let Some(address) = config.metrics_listen {
            let socket = TcpListener::bind(address).map_err(|error| ListenError::Metrics(address, error))?;
            listeners.push(Listener::new(Acceptor::Tcp(socket), None, doors.len()));
            doors.push(DoorOwner::Metrics);
        }
        Ok(())
    })();
    match opened {
        Ok(()) => Ok((doors, listeners)),
        Err(error) => {
            // What was made before the one that failed does not stay behind.
            listeners.iter_mut().for_each(Listener::remove_file);
            Err(error)
        }
    }
}

/// The sockets that a service manager has opened for us (sd_listen_fds(3)).
fn take_activated() -> Result<Vec<UnixListener>, ListenError> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let socket = passed
            .take_unix_listener(index)
            .and_then(|socket| {
                if let Some(socket) = &socket {
                    socket.set_nonblocking(true)?;
                }
                Ok(socket)
            })
            .map_err(|error| ListenError::Activation(error.to_string()))?;
        sockets.extend(socket.map(UnixListener::from_std));
    }
    Ok(sockets)
}

/// How many connections may be open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Served ones.
    pub(super) connections: usize,
    /// Refused ones that linger.
    pub(super) refused: usize,
}

/// Raises the limit of open files as far as `wanted` connections need, `beside` other sockets and that of an operator, and the hard
/// limit allows, and says what there is room for.
/// So the connections' own number never exhausts the descriptors: a client too many gets an answer instead of silence.
pub(super) fn make_room(wanted: usize, beside: usize) -> Room {
    let other = OTHER_DESCRIPTORS + OPERATOR_CONNECTIONS_MAX + beside;
    let needed = (wanted + REFUSED_LINGERING_MAX + other) as u64;
    let limit = getrlimit(Resource::Nofile);
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < needed {
        let raised = needed.min(limit.maximum.unwrap_or(u64::MAX));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).is_ok() {
            current = raised;
        }
    }
    share(usize::try_from(current).unwrap_or(usize::MAX).saturating_sub(other), wanted)
}

/// Shares descriptors between connections and refused ones: at most an eighth for the latter.
fn share(descriptors: usize, wanted: usize) -> Room {
    let refused = REFUSED_LINGERING_MAX.min(descriptors / 8);
    Room { connections: wanted.min(descriptors - refused).max(1), refused }
}

/// Whether an accept failed because the system has no room for one more connection.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// A descriptor kept for the moment when there is no other: with it one client can be taken out of the line and told.
pub(super) struct Reserve(Option<File>);

impl Reserve {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// None, in place of one that is being lent.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// Does `work` with one descriptor more to spend than there are.
    pub(super) fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.0 = None;
        let done = work();
        *self = Self::new();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::limits::{METRICS_CONNECTIONS_MAX, OPERATOR_PATIENCE};
    use super::*;

    #[test]
    fn the_manual_has_the_bounds() {
        const MANUAL: &str = include_str!("../../man/bbd.8");
        assert!(MANUAL.contains(&format!("Up to {METRICS_CONNECTIONS_MAX} connections may be open there")));
        assert!(OPERATOR_CONNECTIONS_MAX == 1 && MANUAL.contains("is one more place on the socket"));
        assert!(OPERATOR_PATIENCE == Duration::from_secs(1) && MANUAL.contains("which has to come within a second"));
    }

    #[test]
    fn descriptors_are_shared() {
        assert_eq!(share(2000, 1024), Room { connections: 1024, refused: 64 });
        assert_eq!(share(1088, 1024), Room { connections: 1024, refused: 64 });
        assert_eq!(share(1024, 1024), Room { connections: 960, refused: 64 });
        assert_eq!(share(40, 1024), Room { connections: 35, refused: 5 });
        assert_eq!(share(0, 1024), Room { connections: 1, refused: 0 });
    }
}

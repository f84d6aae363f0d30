//! The link to one other node: dialled from here, and all that this node says to that one goes out on it. Owns when it is dialled and what
//! waits to be sent; what comes in from that node comes on the link that it has dialled.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, Waker};

use super::Key;
use crate::peer::End;
use crate::peer::dialled::{Dialled, Stage, Waiting};
use crate::peer::limits::BUFFER_KEPT_BYTES;
use crate::peer::link::Dialler;
use crate::peer::message::Path;
use crate::raft::member::Uuid;
use crate::raft::message::Message;
use crate::server::peer::{challenge, is_readable, is_writable, set_options};
use crate::server::resolver;
use crate::time::Instant;

/// The pauses between tries.
const REDIAL_PAUSE_MIN: Duration = Duration::from_millis(20);
const REDIAL_PAUSE_MAX: Duration = Duration::from_millis(500);
/// More than this never waits: past it the link is given up, and what it held with it.
const QUEUE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// So much is sent without an answer: all that a leader sends ahead.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// What has become of a link.
pub(super) enum News {
    Up,
    /// It was up.
    Down,
    /// It did not come up; why, if that is worth a line.
    Failed(End),
}

enum State {
    Pausing { until: Instant },
    Resolving(Receiver<resolver::Answer>),
    Dialled(Box<Dialled<TcpStream>>),
}

/// What a link needs of the loop to be dialled.
pub(super) struct Dialling<'s> {
    pub(super) registry: &'s Registry,
    pub(super) token: Token,
    pub(super) key: &'s Key,
    pub(super) waker: &'s Arc<Waker>,
}

/// The link to one node.
pub(super) struct Link {
    uuid: Uuid,
    pub(super) address: Rc<str>,
    state: State,
    pause: Duration,
    /// Dials of a name: all of its addresses are tried in turn.
    tries: usize,
    queue: Queue,
}

/// Messages in their order.
#[derive(Default)]
struct Queue {
    messages: VecDeque<(Path, Vec<u8>)>,
    bytes: usize,
    taken: Vec<u8>,
}

impl Waiting for Queue {
    fn take(&mut self, must_wait: bool) -> Option<(Path, &[u8])> {
        let (path, message) = self.messages.pop_front_if(|_| !must_wait)?;
        self.bytes -= message.len();
        self.taken = message;
        Some((path, &self.taken))
    }
}

impl Link {
    pub(super) fn new(uuid: Uuid, address: &str, now: Instant) -> Self {
        let state = State::Pausing { until: now };
        Self { uuid, address: address.into(), state, pause: REDIAL_PAUSE_MIN, tries: 0, queue: Queue::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&self.state, State::Dialled(dialled) if matches!(dialled.stage, Stage::Up { .. }))
    }

    /// Takes a message along; drops it if the link is down.
    pub(super) fn push(&mut self, message: &Message) {
        if !self.is_up() {
            return;
        }
        // In the memory of the one that was sealed last, if that is not too much to keep.
        let mut bytes = std::mem::take(&mut self.queue.taken);
        bytes.clear();
        bytes.shrink_to(BUFFER_KEPT_BYTES);
        message.write(&mut bytes);
        self.queue.bytes += bytes.len();
        self.queue.messages.push_back((message.path(), bytes));
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        if let State::Dialled(dialled) = &mut self.state {
            dialled.readable |= is_readable(event);
            dialled.writable |= is_writable(event);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Pausing { until } => Some(*until),
            State::Resolving(_) => None,
            State::Dialled(dialled) => (!self.is_up()).then_some(dialled.deadline),
        }
    }

    /// The node is there, as it has just shown.
    pub(super) fn dial_soon(&mut self, now: Instant) {
        if let State::Pausing { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Goes on: dials if it is time, shakes hands, reads answers. Tells at most one thing.
    pub(super) fn advance(&mut self, now: Instant, dialling: &Dialling<'_>) -> Option<News> {
        match &mut self.state {
            State::Pausing { until } if *until > now => return None,
            State::Pausing { .. } => match self.address.parse::<SocketAddr>() {
                Ok(address) => return self.dial(now, address, dialling),
                Err(_) => match resolver::resolve(self.address.to_string(), dialling.waker) {
                    Ok(receiver) => self.state = State::Resolving(receiver),
                    Err(error) => return Some(self.fail(now, End::Unresolved(error))),
                },
            },
            State::Resolving(_) | State::Dialled(_) => {}
        }
        if let State::Resolving(receiver) = &self.state {
            return match receiver.try_recv().ok()? {
                Ok(addresses) => {
                    let address = addresses[self.tries % addresses.len()];
                    self.tries = self.tries.wrapping_add(1);
                    self.dial(now, address, dialling)
                }
                Err(error) => Some(self.fail(now, End::Unresolved(error))),
            };
        }
        let State::Dialled(dialled) = &mut self.state else { return None };
        match dialled.advance(now) {
            Ok(None) => None,
            Ok(Some(_)) => {
                self.pause = REDIAL_PAUSE_MIN;
                Some(News::Up)
            }
            Err(end) => Some(self.fail(now, end)),
        }
    }

    /// Sends what waits, as far as the socket and the node take it.
    pub(super) fn send(&mut self, now: Instant) -> Option<News> {
        let State::Dialled(dialled) = &mut self.state else { return None };
        let sent =
            if self.queue.bytes > QUEUE_MAX_BYTES { Err(End::Overflowed) } else { dialled.send(&mut self.queue) };
        sent.err().map(|end| self.fail(now, end))
    }

    fn dial(&mut self, now: Instant, address: SocketAddr, dialling: &Dialling<'_>) -> Option<News> {
        match connect(address, self.uuid, dialling) {
            Ok((stream, handshake)) => {
                let dialled = Dialled::new(now, stream, address, &self.address, handshake, WINDOW_BYTES);
                self.state = State::Dialled(Box::new(dialled));
                None
            }
            Err(error) => Some(self.fail(now, End::of_connect(error))),
        }
    }

    fn fail(&mut self, now: Instant, end: End) -> News {
        let was_up = self.is_up();
        self.queue = Queue::default();
        self.state = State::Pausing { until: now + self.pause };
        self.pause = (self.pause * 2).min(REDIAL_PAUSE_MAX);
        if was_up { News::Down } else { News::Failed(end) }
    }
}

/// A socket that connects, and the handshake for it.
fn connect(
    address: SocketAddr,
    expected: Uuid,
    dialling: &Dialling<'_>,
) -> io::Result<(TcpStream, (Dialler, Vec<u8>))> {
    let mut stream = TcpStream::connect(address)?;
    set_options(&stream)?;
    dialling.registry.register(&mut stream, dialling.token, Interest::READABLE | Interest::WRITABLE)?;
    Ok((stream, Dialler::new(&dialling.key.identity(Some(expected)), dialling.key.token(), challenge()?)))
}

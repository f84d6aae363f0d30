//! The connection that this node dials: its messages go out on it. Owns when it is dialled, its socket, and what waits to be sent.
//!
//! Messages are sent without waiting for the answers to those before, but so many bytes at most may be unanswered
//! ([`PEER_WINDOW_BYTES`]): what has left this process cannot be overtaken any more, and all buffers on the way together never
//! hold more than that in front of a heartbeat. Signs of life do not wait for answers.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::super::limits::{HANDSHAKE_TIME_MAX, PEER_BUFFER_KEPT_BYTES, PEER_SEALED_AHEAD_BYTES, PEER_WINDOW_BYTES};
use super::addresses::{Address, Addresses};
use super::queue::Queue;
use super::redial::Redial;
use super::{End, Key, random, socket};
use crate::node::PeerMisbehaved;
use crate::peer::http::{read_answer, take_no_contents, write_request_head};
use crate::peer::link::{Dialler, Peer, SEAL_BYTES};
use crate::peer::message::{Message, Path};
use crate::time::Instant;

/// What has become of the connection.
pub(super) enum News {
    /// It is up, and whoever answered is this life of the peer.
    Up {
        /// It.
        peer: Peer,
        /// Where.
        address: SocketAddr,
    },
    /// It was up and has ended.
    Down(End),
    /// It did not come up.
    Failed(End),
}

/// The connection, and the tries to have one.
pub(in crate::server) struct Outgoing {
    addresses: Addresses,
    authority: Rc<str>,
    redial: Redial,
    state: State,
    queue: Queue,
    /// There was no room in the queue.
    has_overflowed: bool,
    /// Among what has not left are answers to requests of the peer's clients: they may leave only while the node has its lease.
    holds_answers: bool,
    /// The node wants both connections ended.
    pub(in crate::server) misbehaved: Option<PeerMisbehaved>,
    /// Requests of this node's clients that went this way.
    pub(super) forwarded_total: u64,
    /// Answers to requests of the peer's clients that did.
    pub(super) served_forwards_total: u64,
}

enum State {
    /// The next try is due then.
    Waiting { until: Instant },
    /// The next try is due as soon as the name is resolved.
    Resolving,
    /// There is a socket.
    Dialled(Box<Dialled>),
}

impl Outgoing {
    pub(super) fn new(addresses: Addresses, authority: &str, now: Instant) -> Self {
        Self {
            addresses,
            authority: authority.into(),
            redial: Redial::new(),
            state: State::Waiting { until: now },
            queue: Queue::default(),
            has_overflowed: false,
            holds_answers: false,
            misbehaved: None,
            forwarded_total: 0,
            served_forwards_total: 0,
        }
    }

    /// Whether both sides have proved themselves.
    pub(super) fn is_up(&self) -> bool {
        matches!(&self.state, State::Dialled(dialled) if matches!(dialled.stage, Stage::Up { .. }))
    }

    /// Takes a message along; drops it if the connection is down.
    pub(in crate::server) fn push(&mut self, message: &Message<'_>) {
        if self.is_up() {
            self.has_overflowed |= !self.queue.push(message);
            self.forwarded_total += u64::from(matches!(message, Message::Forward { .. }));
            self.served_forwards_total += u64::from(matches!(message, Message::Forwarded { .. }));
            self.holds_answers |= matches!(
                message,
                Message::Forwarded { response, .. } if response.result.is_ok() && !response.degraded
            );
        }
    }

    /// Whether answers to requests of the peer's clients wait to be sent.
    pub(super) fn holds_answers(&self) -> bool {
        self.holds_answers
    }

    /// Marks what an event said.
    pub(super) fn note_event(&mut self, event: &Event) {
        if let State::Dialled(dialled) = &mut self.state {
            dialled.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            dialled.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
    }

    /// When there is something to do by the clock alone.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Resolving => None,
            State::Dialled(dialled) => match dialled.stage {
                Stage::Connecting | Stage::Hello | Stage::Proof { .. } => Some(dialled.deadline),
                Stage::Up { .. } => None,
            },
        }
    }

    /// How many messages were said on this connection, those that wait included, and how many of them the peer has taken in; nothing
    /// if it is down.
    pub(super) fn said_and_taken_in(&self) -> Option<(u64, u64)> {
        let State::Dialled(dialled) = &self.state else { return None };
        let Stage::Up { .. } = dialled.stage else { return None };
        let answered = dialled.sealed_total - dialled.unanswered.len() as u64;
        Some((dialled.sealed_total + self.queue.len() as u64, answered))
    }

    /// The peer is there, as it has just shown: a new try need not wait, neither for its time nor for one that the network has
    /// not answered so far.
    pub(super) fn dial_soon(&mut self, now: Instant) {
        let waits = match &self.state {
            State::Waiting { until } => *until > now,
            State::Dialled(dialled) => matches!(dialled.stage, Stage::Connecting),
            State::Resolving => false,
        };
        if waits {
            self.state = State::Waiting { until: now };
        }
    }

    /// Goes on: dials if it is time, shakes hands, reads answers. Tells at most one thing.
    pub(super) fn advance(&mut self, now: Instant, registry: &Registry, token: Token, key: &Key) -> Option<News> {
        let resolved = self.addresses.take_answer();
        match &mut self.state {
            State::Resolving => match resolved? {
                Ok(()) => self.state = State::Waiting { until: now },
                Err(error) => return Some(self.fail(now, End::Unresolved(error))),
            },
            State::Waiting { .. } | State::Dialled(_) => {}
        }
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.dial(now, registry, token, key),
            State::Waiting { .. } | State::Resolving => None,
            State::Dialled(dialled) => {
                let advanced = match self.has_overflowed {
                    true => Err(End::Overflowed),
                    false => dialled.advance(now),
                };
                match advanced {
                    Ok(None) => None,
                    Ok(Some(peer)) => Some(News::Up { peer, address: dialled.address }),
                    Err(end) => Some(self.end(now, end)),
                }
            }
        }
    }

    /// Sends what waits, as far as the socket and the peer take it.
    pub(super) fn send(&mut self, now: Instant) -> Option<News> {
        let State::Dialled(dialled) = &mut self.state else { return None };
        let sent = dialled.send(&mut self.queue);
        self.queue.note_sent();
        self.holds_answers &= self.queue.waiting_bytes() > 0 || dialled.sent_bytes < dialled.output.len();
        sent.err().map(|end| self.end(now, end))
    }

    /// Ends the connection, or the try to have one.
    pub(super) fn end(&mut self, now: Instant, end: End) -> News {
        let State::Dialled(dialled) = mem::replace(&mut self.state, State::Resolving) else {
            return self.fail(now, end);
        };
        let Stage::Up { since } = dialled.stage else { return self.fail(now, end) };
        self.queue.clear();
        self.has_overflowed = false;
        self.holds_answers = false;
        let pause = if end.is_its_fault() {
            self.redial.after_failure(random())
        } else {
            self.redial.after_link(now.since(since), random())
        };
        self.state = State::Waiting { until: now + pause };
        News::Down(end)
    }

    fn dial(&mut self, now: Instant, registry: &Registry, token: Token, key: &Key) -> Option<News> {
        let address = match self.addresses.next(now) {
            Address::Known(address) => address,
            Address::Awaited => {
                self.state = State::Resolving;
                return None;
            }
            Address::Unknown(error) => return Some(self.fail(now, End::Unresolved(error))),
        };
        match Dialled::new(now, address, &self.authority, registry, token, key) {
            Ok(dialled) => {
                self.state = State::Dialled(Box::new(dialled));
                None
            }
            Err(error) => Some(self.fail(now, End::of_connect(error))),
        }
    }

    fn fail(&mut self, now: Instant, end: End) -> News {
        let pause = if let End::Refused = end {
            self.redial.after_refusal(now, random())
        } else {
            self.redial.after_failure(random())
        };
        self.state = State::Waiting { until: now + pause };
        News::Failed(end)
    }
}

/// How far a connection has come.
enum Stage {
    /// The network has not answered.
    Connecting,
    /// Our hello goes out; the other's is awaited.
    Hello,
    /// Our proof goes out; its acceptance is awaited.
    Proof { peer: Peer },
    /// Messages go out.
    Up { since: Instant },
}

/// A socket that was dialled.
struct Dialled {
    stream: TcpStream,
    address: SocketAddr,
    authority: Rc<str>,
    stage: Stage,
    dialler: Dialler,
    /// When the handshake must be over.
    deadline: Instant,
    readable: bool,
    writable: bool,
    /// Answers that are not whole: a few bytes.
    input: Vec<u8>,
    /// Requests on their way into the socket; those before `sent_bytes` are in.
    output: Vec<u8>,
    sent_bytes: usize,
    /// The lengths of the requests that have no answer yet, and their sum.
    unanswered: VecDeque<usize>,
    unanswered_bytes: usize,
    /// Messages ever sealed on it.
    sealed_total: u64,
}

impl Dialled {
    fn new(
        now: Instant,
        address: SocketAddr,
        authority: &Rc<str>,
        registry: &Registry,
        token: Token,
        key: &Key,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        socket::set_options(&stream)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (dialler, hello) = Dialler::new(&key.identity, key.token(), key.challenge()?);
        let mut output = Vec::new();
        write_request_head(&mut output, authority, Path::Hello, hello.len());
        output.extend_from_slice(&hello);
        Ok(Self {
            stream,
            address,
            authority: Rc::clone(authority),
            stage: Stage::Connecting,
            dialler,
            deadline: now + HANDSHAKE_TIME_MAX,
            readable: false,
            writable: false,
            input: Vec::new(),
            output,
            sent_bytes: 0,
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            sealed_total: 0,
        })
    }

    /// Goes on with the handshake, or takes answers. Says which life of the peer it is when the handshake is over.
    fn advance(&mut self, now: Instant) -> Result<Option<Peer>, End> {
        if let Stage::Connecting = self.stage {
            if !self.is_connected()? {
                return self.check_deadline(now);
            }
            self.stage = Stage::Hello;
            self.write()?;
        }
        let mut buffer = [0; 4096];
        while self.readable {
            let length = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Failed(error)),
            };
            self.input.extend_from_slice(&buffer[..length]);
            if let Some(peer) = self.take_answers(now)? {
                return Ok(Some(peer));
            }
        }
        self.check_deadline(now)
    }

    fn check_deadline(&self, now: Instant) -> Result<Option<Peer>, End> {
        match self.stage {
            Stage::Up { .. } => Ok(None),
            _ if self.deadline > now => Ok(None),
            Stage::Connecting => Err(End::Failed(io::ErrorKind::TimedOut.into())),
            Stage::Hello | Stage::Proof { .. } => Err(End::TimedOut),
        }
    }

    /// Whether the network has answered. mio's documentation of `TcpStream::connect` has the steps.
    fn is_connected(&mut self) -> Result<bool, End> {
        if !self.writable {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error().map_err(End::Failed)? {
            return Err(End::of_connect(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.writable = false;
                Ok(false)
            }
            Err(error) => Err(End::of_connect(error)),
        }
    }

    fn take_answers(&mut self, now: Instant) -> Result<Option<Peer>, End> {
        match self.stage {
            Stage::Connecting => Ok(None),
            Stage::Hello => {
                let Some((body, length)) = read_answer(&self.input)? else { return Ok(None) };
                let (proof, peer) = self.dialler.on_answer(body)?;
                self.input.drain(..length);
                write_request_head(&mut self.output, &self.authority, Path::Hello, proof.len());
                self.output.extend_from_slice(&proof);
                self.stage = Stage::Proof { peer };
                self.write()?;
                Ok(None)
            }
            Stage::Proof { ref peer } => {
                let peer = peer.clone();
                let Some((body, length)) = read_answer(&self.input)? else { return Ok(None) };
                self.dialler.on_accepted(body)?;
                self.input.drain(..length);
                self.stage = Stage::Up { since: now };
                Ok(Some(peer))
            }
            Stage::Up { .. } => {
                let mut left = self.unanswered.len();
                let length = take_no_contents(&self.input, &mut left)?;
                self.input.drain(..length);
                let answered = self.unanswered.len() - left;
                self.unanswered_bytes -= self.unanswered.drain(..answered).sum::<usize>();
                Ok(None)
            }
        }
    }

    /// Seals and writes, until the socket or the peer takes no more.
    fn send(&mut self, queue: &mut Queue) -> Result<(), End> {
        if let Stage::Connecting = self.stage {
            return Ok(());
        }
        loop {
            if let Stage::Up { .. } = self.stage {
                self.seal(queue);
            }
            if self.sent_bytes == self.output.len() || !self.writable {
                return Ok(());
            }
            self.write()?;
        }
    }

    fn seal(&mut self, queue: &mut Queue) {
        while self.output.len() - self.sent_bytes < PEER_SEALED_AHEAD_BYTES {
            let Some((path, message)) = queue.take(self.unanswered_bytes >= PEER_WINDOW_BYTES) else { return };
            let before = self.output.len();
            write_request_head(&mut self.output, &self.authority, path, message.len() + SEAL_BYTES);
            self.dialler.seal(path, message, &mut self.output);
            let length = self.output.len() - before;
            self.unanswered.push_back(length);
            self.unanswered_bytes += length;
            self.sealed_total += 1;
        }
    }

    fn write(&mut self) -> Result<(), End> {
        while self.writable && self.sent_bytes < self.output.len() {
            match self.stream.write(&self.output[self.sent_bytes..]) {
                Ok(0) => return Err(End::Closed),
                Ok(length) => self.sent_bytes += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Failed(error)),
            }
        }
        if self.sent_bytes == self.output.len() {
            self.output.clear();
            self.output.shrink_to(PEER_BUFFER_KEPT_BYTES);
            self.sent_bytes = 0;
        }
        Ok(())
    }
}

//! The connection that this node dials: its messages go out on it. Owns when it is dialled, its socket, and what waits to be sent.
//!
//! Messages are sent without waiting for the answers to those before, but so many bytes at most may be unanswered
//! ([`WINDOW_BYTES`]): what has left this process cannot be overtaken any more, and all buffers on
//! the way together never hold more than that in front of a heartbeat. Signs of life do not wait for answers.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use super::dialled::{Dialled, Stage};
use super::limits::WINDOW_BYTES;
use super::link::{Dialler, Peer};
use super::message::Message;
use super::queue::Queue;
use super::redial::Redial;
use super::{End, Socket};
use crate::node::PeerMisbehaved;
use crate::time::Instant;

/// What is known of the address to dial.
pub enum Address {
    /// It.
    Known(SocketAddr),
    /// Nothing yet: the resolver is at work, and wakes the loop.
    Awaited,
    /// Nothing, and the resolver could not be asked.
    Unknown(io::Error),
}

/// Where connections come from.
pub trait Network {
    /// A connection.
    type Socket: Socket;

    /// The address to dial now.
    fn next_address(&mut self, now: Instant) -> Address;

    /// The resolver's answer, if it is there and was not taken before: whether it was good.
    fn take_resolved(&mut self) -> Option<io::Result<()>>;

    /// Begins to dial.
    ///
    /// # Errors
    ///
    /// The system does not let it.
    fn dial(&mut self, address: SocketAddr) -> io::Result<Self::Socket>;

    /// A handshake with fresh random, and the hello that it begins with.
    ///
    /// # Errors
    ///
    /// There is no random.
    fn begin_handshake(&mut self) -> io::Result<(Dialler, Vec<u8>)>;
}

/// What has become of the connection.
pub enum News {
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
pub struct Outgoing<S> {
    authority: Rc<str>,
    redial: Redial,
    /// What jitter is made of.
    random: u64,
    state: State<S>,
    queue: Queue,
    /// There was no room in the queue.
    has_overflowed: bool,
    /// Among what has not left are answers to requests of the peer's clients: they may leave only while the node has its lease.
    holds_answers: bool,
    /// The node wants both connections ended.
    pub misbehaved: Option<PeerMisbehaved>,
    /// Requests of this node's clients that went this way.
    pub forwarded_total: u64,
    /// Answers to requests of the peer's clients that did.
    pub served_forwards_total: u64,
}

enum State<S> {
    /// The next try is due then.
    Waiting { until: Instant },
    /// The next try is due as soon as the name is resolved.
    Resolving,
    /// There is a socket.
    Dialled(Box<Dialled<S>>),
}

impl<S: Socket> Outgoing<S> {
    /// None yet, to `authority`, the `host:port` of the other node. The pauses between tries differ with `random`.
    #[must_use]
    pub fn new(authority: &str, random: u64, now: Instant) -> Self {
        Self {
            authority: authority.into(),
            redial: Redial::new(),
            random,
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
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(&self.state, State::Dialled(dialled) if matches!(dialled.stage, Stage::Up { .. }))
    }

    /// Takes a message along; drops it if the connection is down.
    pub fn push(&mut self, message: &Message<'_>) {
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
    #[must_use]
    pub fn holds_answers(&self) -> bool {
        self.holds_answers
    }

    /// Marks what the system says of the socket: trying may now bring something.
    pub fn note_ready(&mut self, readable: bool, writable: bool) {
        if let State::Dialled(dialled) = &mut self.state {
            dialled.readable |= readable;
            dialled.writable |= writable;
        }
    }

    /// When there is something to do by the clock alone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
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
    #[must_use]
    pub fn said_and_taken_in(&self) -> Option<(u64, u64)> {
        let State::Dialled(dialled) = &self.state else { return None };
        let Stage::Up { .. } = dialled.stage else { return None };
        let answered = dialled.sealed_total - dialled.unanswered() as u64;
        Some((dialled.sealed_total + self.queue.len() as u64, answered))
    }

    /// The peer is there, as it has just shown: a new try need not wait, neither for its time nor for one that the network has
    /// not answered so far.
    pub fn dial_soon(&mut self, now: Instant) {
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
    pub fn advance(&mut self, now: Instant, network: &mut impl Network<Socket = S>) -> Option<News> {
        let resolved = network.take_resolved();
        match &mut self.state {
            State::Resolving => match resolved? {
                Ok(()) => self.state = State::Waiting { until: now },
                Err(error) => return Some(self.fail(now, End::Unresolved(error))),
            },
            State::Waiting { .. } | State::Dialled(_) => {}
        }
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.dial(now, network),
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
    pub fn send(&mut self, now: Instant) -> Option<News> {
        let State::Dialled(dialled) = &mut self.state else { return None };
        let sent = dialled.send(&mut self.queue);
        self.queue.note_sent();
        self.holds_answers &= self.queue.waiting_bytes() > 0 || dialled.waiting_bytes() > 0;
        sent.err().map(|end| self.end(now, end))
    }

    /// Ends the connection, or the try to have one.
    pub fn end(&mut self, now: Instant, end: End) -> News {
        let State::Dialled(dialled) = mem::replace(&mut self.state, State::Resolving) else {
            return self.fail(now, end);
        };
        let Stage::Up { since } = dialled.stage else { return self.fail(now, end) };
        self.queue.clear();
        self.has_overflowed = false;
        self.holds_answers = false;
        let random = self.random();
        let pause = if end.is_its_fault() {
            self.redial.after_failure(random)
        } else {
            self.redial.after_link(now.since(since), random)
        };
        self.state = State::Waiting { until: now + pause };
        News::Down(end)
    }

    fn dial(&mut self, now: Instant, network: &mut impl Network<Socket = S>) -> Option<News> {
        let address = match network.next_address(now) {
            Address::Known(address) => address,
            Address::Awaited => {
                self.state = State::Resolving;
                return None;
            }
            Address::Unknown(error) => return Some(self.fail(now, End::Unresolved(error))),
        };
        let dialled = network.dial(address).and_then(|socket| Ok((socket, network.begin_handshake()?)));
        match dialled {
            Ok((socket, handshake)) => {
                let dialled = Dialled::new(now, socket, address, &self.authority, handshake, WINDOW_BYTES);
                self.state = State::Dialled(Box::new(dialled));
                None
            }
            Err(error) => Some(self.fail(now, End::of_connect(error))),
        }
    }

    fn fail(&mut self, now: Instant, end: End) -> News {
        let random = self.random();
        let pause = if let End::Refused = end {
            self.redial.after_refusal(now, random)
        } else {
            self.redial.after_failure(random)
        };
        self.state = State::Waiting { until: now + pause };
        News::Failed(end)
    }

    /// The next number of SplitMix64: jitter needs no better ones.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

//! One connection that was accepted on `--tcp`: the peer's messages come in on it, once it has proved that it is the peer. Until
//! then it is anybody's, and costs a little memory for a little time. Owns its socket and its bytes; what a message means is not
//! its business, nor is who makes room for whom.

use std::io;
use std::net::SocketAddr;

use super::http::{NO_CONTENT, RequestHead, UNPROVED_INPUT_MAX_BYTES, read_request_head, release_of, write_answer};
use super::limits::{ANSWERS_BYTES_MAX, BUFFER_KEPT_BYTES};
use super::link::{Acceptor, Awaited, LinkError, Peer};
use super::message::Path;
use super::{End, Output, Socket};
use crate::time::Instant;

/// What the bytes at hand come to.
pub enum Step {
    /// Nothing: more are needed.
    More,
    /// The other side has proved that it is the peer.
    Proved(Peer),
    /// A message under this path.
    Message(Path),
}

/// What a read brings.
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing: all that had come when it began has been read.
    Nothing,
}

/// An accepted connection.
pub struct Incoming<S> {
    stream: S,
    /// Whose it is.
    pub address: SocketAddr,
    acceptor: Acceptor,
    /// When it must have proved itself.
    pub deadline: Instant,
    /// Reading may bring something.
    pub readable: bool,
    writable: bool,
    /// Bytes that have come; those before `used_bytes` are used.
    input: Vec<u8>,
    used_bytes: usize,
    /// Of the request at hand: how far the end of its head was searched, and the head when it was found.
    scanned: usize,
    head: Option<RequestHead>,
    output: Output,
    /// Anything ever came.
    pub has_spoken: bool,
    /// Which bbd the other side says it is, once its hello has come; empty if it does not say.
    pub release: String,
}

impl<S: Socket> Incoming<S> {
    /// One that was just accepted.
    #[must_use]
    pub fn new(stream: S, address: SocketAddr, acceptor: Acceptor, deadline: Instant) -> Self {
        Self {
            stream,
            address,
            acceptor,
            deadline,
            readable: true,
            writable: true,
            input: Vec::new(),
            used_bytes: 0,
            scanned: 0,
            head: None,
            output: Output::default(),
            has_spoken: false,
            release: String::new(),
        }
    }

    /// One that something has been read from already.
    #[must_use]
    pub fn with_input(stream: S, address: SocketAddr, acceptor: Acceptor, deadline: Instant, input: Vec<u8>) -> Self {
        Self { input, has_spoken: true, ..Self::new(stream, address, acceptor, deadline) }
    }

    /// Marks what the system says of the socket: trying may now bring something.
    pub fn note_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// The socket.
    pub const fn socket(&self) -> &S {
        &self.stream
    }

    /// Whether it still has to prove itself.
    #[must_use]
    pub fn is_unproved(&self) -> bool {
        self.acceptor.awaited() != Awaited::Message
    }

    /// One read, through `buffer`. Of what is unproved no more is taken than may be kept.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Read, End> {
        let room = match self.is_unproved() {
            true => UNPROVED_INPUT_MAX_BYTES.saturating_sub(self.input.len() - self.used_bytes).min(buffer.len()),
            false => buffer.len(),
        };
        if self.output.waiting_bytes() > ANSWERS_BYTES_MAX {
            self.send()?;
        }
        if !self.readable || self.output.waiting_bytes() > ANSWERS_BYTES_MAX {
            return Ok(Read::Nothing);
        }
        loop {
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => return Err(End::Closed),
                Ok(length) => {
                    self.has_spoken = true;
                    self.input.drain(..self.used_bytes);
                    self.used_bytes = 0;
                    self.input.extend_from_slice(&buffer[..length]);
                    return Ok(Read::Bytes(length));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(Read::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Failed(error)),
            }
        }
    }

    /// Goes on if it has not proved itself: which life of the peer it is, once it has.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub fn shake_hands(&mut self, buffer: &mut [u8], now: Instant) -> Result<Option<u64>, End> {
        loop {
            match self.next(&mut Vec::new())? {
                Step::Proved(peer) => {
                    self.send()?;
                    return Ok(Some(peer.incarnation));
                }
                // There are none before the proof.
                Step::Message(_) => return Err(End::Wrong(LinkError::OutOfTurn)),
                Step::More => {}
            }
            self.send()?;
            match self.read(buffer)? {
                Read::Bytes(_) => {}
                Read::Nothing if self.deadline <= now => return Err(End::TimedOut),
                Read::Nothing => return Ok(None),
            }
        }
    }

    /// Goes on in the bytes that have come. Of a message, `opened` gets the bytes.
    ///
    /// # Errors
    ///
    /// They are not what the peer sends next.
    pub fn next(&mut self, opened: &mut Vec<u8>) -> Result<Step, LinkError> {
        loop {
            let bytes = &self.input[self.used_bytes..];
            let awaited = self.acceptor.awaited();
            let head = match self.head {
                Some(head) => head,
                None => match read_request_head(bytes, &mut self.scanned, awaited)? {
                    Some(head) => *self.head.insert(head),
                    None => break,
                },
            };
            let Some(body) = bytes.get(head.head_bytes..head.head_bytes + head.body_bytes) else { break };
            let step = match awaited {
                Awaited::Hello => {
                    let answer = self.acceptor.on_hello(body)?;
                    release_of(&bytes[..head.head_bytes]).clone_into(&mut self.release);
                    write_answer(self.output.bytes(), &answer);
                    None
                }
                Awaited::Proof => {
                    let peer = self.acceptor.on_proof(body)?;
                    write_answer(self.output.bytes(), &[]);
                    Some(Step::Proved(peer))
                }
                Awaited::Message | Awaited::Nothing => {
                    opened.clear();
                    self.acceptor.open(head.path, body, opened)?;
                    self.output.bytes().extend_from_slice(NO_CONTENT);
                    Some(Step::Message(head.path))
                }
            };
            self.used_bytes += head.head_bytes + head.body_bytes;
            self.scanned = 0;
            self.head = None;
            if let Some(step) = step {
                return Ok(step);
            }
        }
        if self.used_bytes == self.input.len() {
            self.input.clear();
            self.used_bytes = 0;
            self.input.shrink_to(BUFFER_KEPT_BYTES);
        }
        Ok(Step::More)
    }

    /// Sends the answers that wait, as far as the socket takes them.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub fn send(&mut self) -> Result<(), End> {
        self.output.write(&mut self.stream, &mut self.writable)
    }

    /// Whether answers wait that the socket would take.
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.writable && self.output.waiting_bytes() > 0
    }
}

//! A connection that was dialled: its handshake, and the sealing and framing of what goes out on it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::http::{read_answer, take_no_contents, write_first_head, write_request_head};
use super::limits::{HANDSHAKE_TIME_MAX, SEALED_AHEAD_BYTES};
use super::link::{Dialler, Peer, SEAL_BYTES};
use super::message::Path;
use super::{End, Output, Socket};
use crate::time::Instant;

/// How far a connection has come.
pub(crate) enum Stage {
    /// The network has not answered.
    Connecting,
    /// Our hello goes out; the other's is awaited.
    Hello,
    /// Our proof goes out; its acceptance is awaited.
    Proof { peer: Peer },
    /// Messages go out.
    Up { since: Instant },
}

/// Where what is to be sent waits.
pub(crate) trait Waiting {
    /// Takes the next message to be sealed; only one that overtakes if the others `must_wait`.
    fn take(&mut self, must_wait: bool) -> Option<(Path, &[u8])>;
}

/// A socket that was dialled.
pub(crate) struct Dialled<S> {
    socket: S,
    pub(crate) address: SocketAddr,
    authority: Rc<str>,
    pub(crate) stage: Stage,
    dialler: Dialler,
    window_bytes: usize,
    /// When the handshake must be over.
    pub(crate) deadline: Instant,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Answers that are not whole: a few bytes.
    input: Vec<u8>,
    /// Requests on their way into the socket.
    output: Output,
    /// The lengths of the requests that have no answer yet, and their sum.
    unanswered: VecDeque<usize>,
    unanswered_bytes: usize,
    /// Messages ever sealed on it.
    pub(crate) sealed_total: u64,
}

impl<S: Socket> Dialled<S> {
    /// One that was just dialled; `hello` is the first thing that `dialler` has to say. So many bytes at most, and a message, are sent
    /// without an answer.
    pub(crate) fn new(
        now: Instant,
        socket: S,
        address: SocketAddr,
        authority: &Rc<str>,
        (dialler, hello): (Dialler, Vec<u8>),
        window_bytes: usize,
    ) -> Self {
        let mut output = Output::default();
        write_first_head(output.bytes(), authority, hello.len());
        output.bytes().extend_from_slice(&hello);
        Self {
            socket,
            address,
            authority: Rc::clone(authority),
            stage: Stage::Connecting,
            dialler,
            deadline: now + HANDSHAKE_TIME_MAX,
            window_bytes,
            readable: false,
            writable: false,
            input: Vec::new(),
            output,
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            sealed_total: 0,
        }
    }

    /// How many of the messages sealed on it have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// How many bytes wait for the socket.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.output.waiting_bytes()
    }

    /// Goes on with the handshake, or takes answers. Says which life of the peer it is when the handshake is over.
    pub(crate) fn advance(&mut self, now: Instant) -> Result<Option<Peer>, End> {
        if let Stage::Connecting = self.stage {
            if !self.is_connected()? {
                return self.check_deadline(now);
            }
            self.stage = Stage::Hello;
            self.write()?;
        }
        if !self.readable {
            return self.check_deadline(now);
        }
        let mut buffer = [0; 4096];
        while self.readable {
            let length = match self.socket.read(&mut buffer) {
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

    /// Whether the network has answered.
    fn is_connected(&mut self) -> Result<bool, End> {
        if self.writable && !self.socket.is_connected().map_err(End::of_connect)? {
            self.writable = false;
        }
        Ok(self.writable)
    }

    fn take_answers(&mut self, now: Instant) -> Result<Option<Peer>, End> {
        match self.stage {
            Stage::Connecting => Ok(None),
            Stage::Hello => {
                let Some((body, length)) = read_answer(&self.input)? else { return Ok(None) };
                let (proof, peer) = self.dialler.on_answer(body)?;
                self.input.drain(..length);
                write_request_head(self.output.bytes(), &self.authority, Path::Hello, proof.len());
                self.output.bytes().extend_from_slice(&proof);
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
    pub(crate) fn send(&mut self, queue: &mut impl Waiting) -> Result<(), End> {
        if let Stage::Connecting = self.stage {
            return Ok(());
        }
        loop {
            if let Stage::Up { .. } = self.stage {
                self.seal(queue);
            }
            if self.output.waiting_bytes() == 0 || !self.writable {
                return Ok(());
            }
            self.write()?;
        }
    }

    fn seal(&mut self, queue: &mut impl Waiting) {
        while self.output.waiting_bytes() < SEALED_AHEAD_BYTES {
            let Some((path, message)) = queue.take(self.unanswered_bytes >= self.window_bytes) else { return };
            let output = self.output.bytes();
            let before = output.len();
            write_request_head(output, &self.authority, path, message.len() + SEAL_BYTES);
            self.dialler.seal(path, message, output);
            let length = output.len() - before;
            self.unanswered.push_back(length);
            self.unanswered_bytes += length;
            self.sealed_total += 1;
        }
    }

    fn write(&mut self) -> Result<(), End> {
        self.output.write(&mut self.socket, &mut self.writable)
    }
}

//! The link to one other node: dialled from here, and all that this node says to that one goes out on it. Owns when it is dialled, its socket and
//! what waits to be sent; what comes in from that node comes on the link that it has dialled.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::Key;
use crate::peer::http::{read_answer, take_no_contents, write_request_head};
use crate::peer::link::{Dialler, LinkError, SEAL_BYTES};
use crate::peer::message::Path;
use crate::raft::member::Uuid;
use crate::raft::message::Message;
use crate::server::peer::set_options;
use crate::time::Instant;

/// A handshake must be over by then.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(2);
/// The pauses between tries.
const REDIAL_PAUSE_MIN: Duration = Duration::from_millis(20);
const REDIAL_PAUSE_MAX: Duration = Duration::from_millis(500);
/// More than this never waits: past it the link is given up, and what it held with it.
const QUEUE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// So much is sent without an answer.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Sealed before the socket has taken it.
const SEALED_AHEAD_BYTES: usize = 128 * 1024;

/// What has become of a link.
pub(super) enum News {
    Up,
    /// It was up.
    Down,
    /// It did not come up; why, if that is worth a line.
    Failed(String),
}

enum State {
    Waiting { until: Instant },
    Resolving(Receiver<io::Result<SocketAddr>>),
    Dialled(Box<Dialled>),
}

enum Stage {
    Connecting,
    Hello,
    Proof,
    Up,
}

struct Dialled {
    stream: TcpStream,
    stage: Stage,
    dialler: Dialler,
    deadline: Instant,
    readable: bool,
    writable: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    sent_bytes: usize,
    unanswered: VecDeque<usize>,
    unanswered_bytes: usize,
}

/// The link to one node.
pub(super) struct Link {
    pub(super) uuid: Uuid,
    pub(super) address: String,
    state: State,
    pause: Duration,
    queue: VecDeque<(Path, Vec<u8>)>,
    queued_bytes: usize,
}

impl Link {
    pub(super) fn new(uuid: Uuid, address: String, now: Instant) -> Self {
        let state = State::Waiting { until: now };
        Self { uuid, address, state, pause: REDIAL_PAUSE_MIN, queue: VecDeque::new(), queued_bytes: 0 }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&self.state, State::Dialled(dialled) if matches!(dialled.stage, Stage::Up))
    }

    /// Takes a message along; drops it if the link is down.
    pub(super) fn push(&mut self, message: &Message) {
        if !self.is_up() {
            return;
        }
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.queued_bytes += bytes.len();
        self.queue.push_back((message.path(), bytes));
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        if let State::Dialled(dialled) = &mut self.state {
            dialled.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            dialled.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Resolving(_) => None,
            State::Dialled(dialled) => (!matches!(dialled.stage, Stage::Up)).then_some(dialled.deadline),
        }
    }

    /// The node is there, as it has just shown.
    pub(super) fn dial_soon(&mut self, now: Instant) {
        if let State::Waiting { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Goes on: dials if it is time, shakes hands, sends. Tells at most one thing.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        registry: &Registry,
        token: Token,
        key: &Key,
        wake: &super::Wake,
    ) -> Option<News> {
        if let State::Waiting { until } = &self.state
            && *until <= now
        {
            self.state = match self.address.parse::<SocketAddr>() {
                Ok(address) => match Dialled::new(now, address, &self.address, registry, token, key, self.uuid) {
                    Ok(dialled) => State::Dialled(Box::new(dialled)),
                    Err(error) => return Some(self.fail(now, &error)),
                },
                // A name: the resolver may take as long as it likes.
                Err(_) => {
                    let (sender, receiver) = channel();
                    let (name, wake) = (self.address.clone(), wake.clone());
                    let ask = move || {
                        let found = name.to_socket_addrs().and_then(|mut found| {
                            found.next().ok_or_else(|| io::Error::other("the name has no address"))
                        });
                        let _ = sender.send(found);
                        wake.wake();
                    };
                    match thread::Builder::new().name("resolver".to_owned()).spawn(ask) {
                        Ok(_) => State::Resolving(receiver),
                        Err(error) => return Some(self.fail(now, &error)),
                    }
                }
            };
        }
        if let State::Resolving(receiver) = &self.state {
            let found = receiver.try_recv().ok()?;
            let dialled =
                found.and_then(|address| Dialled::new(now, address, &self.address, registry, token, key, self.uuid));
            match dialled {
                Ok(dialled) => self.state = State::Dialled(Box::new(dialled)),
                Err(error) => return Some(self.fail(now, &error)),
            }
        }
        let is_overfull = self.queued_bytes > QUEUE_MAX_BYTES;
        let State::Dialled(dialled) = &mut self.state else { return None };
        let was_up = matches!(dialled.stage, Stage::Up);
        let advanced = match is_overfull {
            true => Err(io::Error::other("it takes in too little")),
            false => dialled.advance(now, &self.address, &mut self.queue, &mut self.queued_bytes),
        };
        match advanced {
            Ok(()) if !was_up && self.is_up() => {
                self.pause = REDIAL_PAUSE_MIN;
                Some(News::Up)
            }
            Ok(()) => None,
            Err(error) => Some(self.fail(now, &error)),
        }
    }

    fn fail(&mut self, now: Instant, error: &io::Error) -> News {
        let was_up = self.is_up();
        self.queue.clear();
        self.queued_bytes = 0;
        self.state = State::Waiting { until: now + self.pause };
        self.pause = (self.pause * 2).min(REDIAL_PAUSE_MAX);
        if was_up { News::Down } else { News::Failed(error.to_string()) }
    }
}

fn of_link(error: LinkError) -> io::Error {
    io::Error::other(error.to_string())
}

impl Dialled {
    fn new(
        now: Instant,
        address: SocketAddr,
        authority: &str,
        registry: &Registry,
        token: Token,
        key: &Key,
        expected: Uuid,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        set_options(&stream)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (dialler, hello) = Dialler::new(&key.identity(Some(expected)), key.token(), key.challenge()?);
        let mut output = Vec::new();
        write_request_head(&mut output, authority, Path::Hello, hello.len());
        output.extend_from_slice(&hello);
        Ok(Self {
            stream,
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
        })
    }

    fn advance(
        &mut self,
        now: Instant,
        authority: &str,
        queue: &mut VecDeque<(Path, Vec<u8>)>,
        queued_bytes: &mut usize,
    ) -> io::Result<()> {
        if let Stage::Connecting = self.stage {
            if !self.writable {
                return self.check_deadline(now);
            }
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => self.stage = Stage::Hello,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.writable = false;
                    return self.check_deadline(now);
                }
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 4096];
        while self.readable {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("it closed the connection")),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.take_answers(authority).map_err(of_link)?;
        }
        loop {
            if let Stage::Up = self.stage {
                self.seal(authority, queue, queued_bytes);
            }
            self.write()?;
            let can_go_on = self.output.is_empty() && !queue.is_empty() && self.unanswered_bytes < WINDOW_BYTES;
            if !can_go_on || !matches!(self.stage, Stage::Up) {
                return self.check_deadline(now);
            }
        }
    }

    fn check_deadline(&self, now: Instant) -> io::Result<()> {
        let is_over = !matches!(self.stage, Stage::Up) && self.deadline <= now;
        if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn take_answers(&mut self, authority: &str) -> Result<(), LinkError> {
        match self.stage {
            Stage::Connecting => {}
            Stage::Hello => {
                let Some((body, length)) = read_answer(&self.input)? else { return Ok(()) };
                let (proof, _) = self.dialler.on_answer(body)?;
                self.input.drain(..length);
                write_request_head(&mut self.output, authority, Path::Hello, proof.len());
                self.output.extend_from_slice(&proof);
                self.stage = Stage::Proof;
            }
            Stage::Proof => {
                let Some((body, length)) = read_answer(&self.input)? else { return Ok(()) };
                self.dialler.on_accepted(body)?;
                self.input.drain(..length);
                self.stage = Stage::Up;
            }
            Stage::Up => {
                let mut left = self.unanswered.len();
                let length = take_no_contents(&self.input, &mut left)?;
                self.input.drain(..length);
                let answered = self.unanswered.len() - left;
                self.unanswered_bytes -= self.unanswered.drain(..answered).sum::<usize>();
            }
        }
        Ok(())
    }

    fn seal(&mut self, authority: &str, queue: &mut VecDeque<(Path, Vec<u8>)>, queued_bytes: &mut usize) {
        while self.output.len() - self.sent_bytes < SEALED_AHEAD_BYTES && self.unanswered_bytes < WINDOW_BYTES {
            let Some((path, message)) = queue.pop_front() else { return };
            *queued_bytes -= message.len();
            let before = self.output.len();
            write_request_head(&mut self.output, authority, path, message.len() + SEAL_BYTES);
            self.dialler.seal(path, &message, &mut self.output);
            let length = self.output.len() - before;
            self.unanswered.push_back(length);
            self.unanswered_bytes += length;
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.writable && self.sent_bytes < self.output.len() {
            match self.stream.write(&self.output[self.sent_bytes..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => self.sent_bytes += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.sent_bytes == self.output.len() {
            self.output.clear();
            self.sent_bytes = 0;
        }
        Ok(())
    }
}

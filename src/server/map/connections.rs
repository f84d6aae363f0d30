//! The connections on `--bind-addr`: who is let in, which of them are to be looked at, and what they turn out to be. Owns whose turn it is;
//! what a client asks is [`super::client`]'s, what a node says the replica's business.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use slab::Slab;

use super::client::{Client, Step};
use super::{FIRST_CONNECTION, Map};
use crate::kv::ask::Answer;
use crate::kv::replica::Input;
use crate::log::{LogEvent, Value};
use crate::peer::incoming::{self, Read};
use crate::peer::limits::HANDSHAKE_TIME_MAX;
use crate::peer::link::Acceptor;
use crate::raft::NodeId;
use crate::raft::member::{Member, Uuid};
use crate::raft::message::Message;
use crate::server::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX};
use crate::server::peer::{Incoming, challenge, is_readable, set_options};
use crate::time::{Instant, Now};

/// Connections at a time, if there are descriptors for so many.
pub(super) const CONNECTIONS_MAX: usize = 2048;
/// One turn reads so much of one node.
const NODE_BYTES_PER_TURN_MAX: usize = 1024 * 1024;
/// Through which everything is read.
const BUFFER_BYTES: usize = 64 * 1024;
/// How often is looked whose patience is over, and answers are sent to nodes that wait for more of them.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A node that has said so much gets its answers. Nobody waits for one, but they must not fill the node's window.
const UNANSWERED_BYTES_MAX: usize = 64 * 1024;

/// What somebody on `--bind-addr` is.
enum Who {
    Client(Client),
    Node(Box<Speaker>),
}

/// A node that speaks to this one.
struct Speaker {
    incoming: Incoming,
    /// The id that it has proved to go with the token.
    proved: Option<String>,
    /// Who it is, once it has proved itself and said hello, and its cluster.
    who: Option<(NodeId, Option<Uuid>)>,
    /// What it has said since it got answers.
    unanswered_bytes: usize,
}

impl Speaker {
    /// Sends the answers, if it is time. Says whether the connection still is.
    fn answer(&mut self, is_due: bool) -> bool {
        if self.who.is_some() && !is_due && self.unanswered_bytes < UNANSWERED_BYTES_MAX {
            return true;
        }
        self.unanswered_bytes = 0;
        self.incoming.send().is_ok()
    }
}

/// One of them.
struct Connection {
    who: Who,
    /// It is among the ready ones.
    is_ready: bool,
}

/// All of them.
pub(super) struct Connections {
    listener: TcpListener,
    has_callers: bool,
    accept_paused_until: Option<Instant>,
    all: Slab<Connection>,
    /// So many at most.
    most: usize,
    accepted: u64,
    /// Those to be visited in this turn, or in the next.
    ready: Vec<usize>,
    next_sweep: Instant,
    buffer: Vec<u8>,
}

impl Connections {
    /// None yet, and at most so many.
    pub(super) fn new(listener: TcpListener, now: Instant, most: usize) -> Self {
        Self {
            listener,
            has_callers: true,
            accept_paused_until: None,
            all: Slab::new(),
            most,
            accepted: 0,
            ready: Vec::new(),
            next_sweep: now,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    pub(super) fn note_callers(&mut self) {
        self.has_callers = true;
    }

    pub(super) fn note_event(&mut self, place: usize, event: &Event) {
        let Some(connection) = self.all.get_mut(place) else { return };
        match &mut connection.who {
            Who::Client(client) => client.note_event(event),
            Who::Node(speaker) => speaker.incoming.note_ready(is_readable(event), event.is_writable()),
        }
        self.make_ready(place);
    }

    fn make_ready(&mut self, place: usize) {
        if let Some(connection) = self.all.get_mut(place)
            && !mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push(place);
        }
    }

    /// Whether somebody can be visited at once.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || (self.has_callers && self.accept_paused_until.is_none())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sweep = (!self.all.is_empty()).then_some(self.next_sweep);
        Instant::earliest([self.accept_paused_until, sweep])
    }

    /// The client whose patience is over first, of those that are owed nothing: so whoever opens connections to fill all places loses his
    /// own first, and the other nodes get in.
    fn find_idlest(&self) -> Option<usize> {
        let deadline = |connection: &Connection| match &connection.who {
            Who::Client(client) => client.deadline(),
            Who::Node(speaker) => speaker.who.is_none().then_some(speaker.incoming.deadline),
        };
        let idle = self.all.iter().filter_map(|(place, connection)| Some((deadline(connection)?, place)));
        idle.min().map(|(_, place)| place)
    }

    /// Whether a client is owed an answer.
    pub(super) fn owes(&self) -> bool {
        self.all.iter().any(|(_, connection)| match &connection.who {
            Who::Client(client) => client.is_owed(),
            Who::Node(_) => false,
        })
    }
}

impl Map {
    /// Gives a client its answer, which leaves at the end of the turn.
    pub(super) fn answer(&mut self, id: u64, answer: &Answer) {
        let place = (id & u64::from(u32::MAX)) as usize;
        let Some(connection) = self.connections.all.get_mut(place) else { return };
        if let Who::Client(client) = &mut connection.who
            && client.life == id >> 32
        {
            client.answer(&self.date, answer);
            self.connections.make_ready(place);
        }
    }

    pub(super) fn take_callers(&mut self, now: Now) {
        let connections = &mut self.connections;
        if connections.accept_paused_until.is_some_and(|until| until > now.monotonic) {
            return;
        }
        connections.accept_paused_until = None;
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            if !self.connections.has_callers {
                return;
            }
            match self.connections.listener.accept() {
                Ok((stream, address)) => self.admit(now, stream, address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.connections.has_callers = false,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    self.connections.accept_paused_until = Some(now.monotonic + ACCEPT_PAUSE);
                    let why = error.to_string();
                    self.log.event(now, LogEvent::AcceptFailed, &[("error", Value::Text(&why))]);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, now: Now, mut stream: TcpStream, address: SocketAddr) {
        if self.connections.all.len() >= self.connections.most {
            self.log.event(now, LogEvent::TooManyConnections, &[("refused", Value::Number(1))]);
            let Some(place) = self.connections.find_idlest() else { return };
            self.close(now, place);
        }
        let connections = &mut self.connections;
        connections.accepted += 1;
        let entry = connections.all.vacant_entry();
        let place = entry.key();
        let token = Token(FIRST_CONNECTION + place);
        let is_registered = set_options(&stream).is_ok()
            && self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok();
        if is_registered {
            let client = Client::new(stream, address, connections.accepted, now.monotonic);
            entry.insert(Connection { who: Who::Client(client), is_ready: false });
            connections.make_ready(place);
        }
    }

    /// Hears all that have said something, or have something to be sent. What they say is told to the replica.
    pub(super) fn visit_connections(&mut self, now: Now) {
        if self.connections.next_sweep <= now.monotonic {
            self.connections.next_sweep = now.monotonic + SWEEP_INTERVAL;
            self.sweep_connections(now);
        }
        let mut buffer = mem::take(&mut self.connections.buffer);
        for place in mem::take(&mut self.connections.ready) {
            let Some(connection) = self.connections.all.get_mut(place) else { continue };
            connection.is_ready = false;
            let is_over = match &connection.who {
                Who::Client(_) => self.visit_client(now, place, &mut buffer),
                Who::Node(_) => self.visit_node(now, place, &mut buffer),
            };
            if is_over {
                self.close(now, place);
            }
        }
        self.connections.buffer = buffer;
    }

    /// Sends the answers of this turn.
    pub(super) fn send_answers(&mut self, now: Now) {
        let mut over = Vec::new();
        // Those that are to be visited again stay.
        let connections = &mut self.connections;
        connections.ready.retain(|place| {
            let Some(connection) = connections.all.get_mut(*place) else { return false };
            if let Who::Client(client) = &mut connection.who {
                if client.send().is_err() {
                    over.push(*place);
                }
                connection.is_ready = client.can_read() || client.can_go_on();
            }
            connection.is_ready
        });
        for place in over {
            self.close(now, place);
        }
    }

    fn sweep_connections(&mut self, now: Now) {
        let mut over = Vec::new();
        for (place, connection) in &mut self.connections.all {
            let is_over = match &mut connection.who {
                Who::Client(client) => client.deadline().is_some_and(|deadline| deadline <= now.monotonic),
                Who::Node(speaker) if speaker.who.is_none() && speaker.incoming.deadline <= now.monotonic => {
                    over.push((place, Some("the handshake took too long")));
                    false
                }
                Who::Node(speaker) => !speaker.answer(true),
            };
            if is_over {
                over.push((place, None));
            }
        }
        for (place, why) in over {
            if let Some(why) = why {
                self.refuse_node(now, place, why);
            }
            self.close(now, place);
        }
    }

    fn close(&mut self, now: Now, place: usize) {
        let Some(connection) = self.connections.all.try_remove(place) else { return };
        match connection.who {
            Who::Client(client) => {
                if client.is_owed() {
                    self.tell(now, Input::Gone { id: client.life << 32 | place as u64 });
                }
            }
            Who::Node(speaker) => {
                if let Some((id, _)) = speaker.who {
                    self.links.forget(id);
                }
            }
        }
    }

    /// Says whether it is over.
    fn visit_client(&mut self, now: Now, place: usize, buffer: &mut [u8]) -> bool {
        loop {
            let Some(connection) = self.connections.all.get_mut(place) else { return false };
            let Who::Client(client) = &mut connection.who else { return false };
            match client.advance(now.monotonic, &self.date, self.settings.client_token.as_ref(), buffer) {
                Step::Waits => {
                    if client.can_read() {
                        self.connections.make_ready(place);
                    }
                    return false;
                }
                Step::Over => return true,
                Step::Question { question, is_stale } => {
                    let id = client.life << 32 | place as u64;
                    self.tell(now, Input::Question { id, question, is_stale });
                }
                Step::Node(input) => return self.become_node(now, place, input, buffer),
            }
        }
    }

    /// A connection turns out to be a node's. Says whether it is over.
    fn become_node(&mut self, now: Now, place: usize, input: Vec<u8>, buffer: &mut [u8]) -> bool {
        let Ok(challenge) = challenge() else { return true };
        let acceptor = Acceptor::new(&self.key.identity(None), self.key.token(), challenge);
        let Some(Connection { who: Who::Client(client), .. }) = self.connections.all.try_remove(place) else {
            return true;
        };
        let address = client.address;
        let deadline = now.monotonic + HANDSHAKE_TIME_MAX;
        let incoming = Incoming::with_input(client.into_stream(), address, acceptor, deadline, input);
        let entry = self.connections.all.vacant_entry();
        // The place that was just made free: its events go on.
        debug_assert_eq!(entry.key(), place);
        let speaker = Speaker { incoming, proved: None, who: None, unanswered_bytes: 0 };
        entry.insert(Connection { who: Who::Node(Box::new(speaker)), is_ready: false });
        self.visit_node(now, place, buffer)
    }

    /// Hears a node. Says whether it is over.
    fn visit_node(&mut self, now: Now, place: usize, buffer: &mut [u8]) -> bool {
        let mut left = NODE_BYTES_PER_TURN_MAX;
        let mut opened = Vec::new();
        loop {
            let Some(connection) = self.connections.all.get_mut(place) else { return false };
            let Who::Node(speaker) = &mut connection.who else { return false };
            match speaker.incoming.next(&mut opened) {
                Ok(incoming::Step::Message(path)) => {
                    let message = match Message::read(&opened) {
                        Ok(message) if message.path() == path => message,
                        Ok(_) | Err(_) => {
                            let why = "a message is malformed; run the same bbd on all nodes";
                            return self.refuse_node(now, place, why);
                        }
                    };
                    match (message, speaker.who) {
                        (Message::Hello { cluster, uuid, address }, None)
                            if speaker.proved.as_deref() == Some(uuid.to_string().as_str()) =>
                        {
                            speaker.who = Some((uuid.node_id(), cluster));
                            let from = uuid.node_id();
                            self.links.hear_of(now.monotonic, Member { uuid, address: address.clone() });
                            // The replica looks at the cluster alone.
                            let message = Message::Hello { cluster, uuid, address };
                            self.tell(now, Input::Message { from, cluster, message });
                        }
                        (message, Some((from, cluster))) => self.tell(now, Input::Message { from, cluster, message }),
                        (_, None) => return self.refuse_node(now, place, "it did not say who it is"),
                    }
                }
                Ok(incoming::Step::Proved(peer)) => speaker.proved = Some(peer.host_id),
                Ok(incoming::Step::More) if left == 0 => {
                    let is_open = speaker.answer(false);
                    self.connections.make_ready(place);
                    return !is_open;
                }
                Ok(incoming::Step::More) => match speaker.incoming.read(buffer) {
                    Ok(Read::Bytes(length)) => {
                        left = left.saturating_sub(length);
                        speaker.unanswered_bytes += length;
                    }
                    Ok(Read::Nothing) => return !speaker.answer(false),
                    Err(_) => return true,
                },
                Err(error) => {
                    let why = error.to_string();
                    return self.refuse_node(now, place, &why);
                }
            }
        }
    }

    /// Tells that a node is not heard any more. `true`, for it is over.
    fn refuse_node(&mut self, now: Now, place: usize, why: &str) -> bool {
        if let Some(connection) = self.connections.all.get(place)
            && let Who::Node(speaker) = &connection.who
        {
            let address = speaker.incoming.address.to_string();
            let fields = [("address", Value::Text(&address)), ("error", Value::Text(why))];
            self.log.event(now, LogEvent::MapNodeRefused, &fields);
        }
        true
    }
}

//! The shell of the cluster map: its sockets (`--bind-addr`), the links between its nodes, its disk. Owns the order of its turn; what is answered,
//! sent and saved is the [`Replica`]'s decision.
//!
//! # A turn
//!
//! What the disk has done comes first, for it lets answers and acknowledgements leave; then what other nodes say; then clients; then time. At the
//! end the replica proposes, saves and sends all of it together: one commit of the disk, one write a socket.

mod client;
mod link;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::mem;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use mio::event::Event;
use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use self::client::{Client, Step};
use self::link::{Link, News};
use self::store::{Done, Store, StoreError};
use super::clock;
use super::entropy::OsEntropy;
use super::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, EVENTS_PER_TURN_MAX, SLEEP_MAX};
use super::peer::{Incoming, is_readable, listen, set_options};
use super::signals::Signals;
use super::systemd::ServiceManager;
use crate::config::map::MapConfig;
use crate::config::secrets::{DEV_INTERNAL_TOKEN, Secret};
use crate::http::HttpDate;
use crate::kv::ask::Answer;
use crate::kv::replica::{Input, Notice, Outbox, Replica, SNAPSHOT_ENTRIES, Settings};
use crate::log::{Log, LogEvent, Value};
use crate::node::{Entropy as _, OnPeerLoss};
use crate::peer::incoming::{self, Read};
use crate::peer::limits::HANDSHAKE_TIME_MAX;
use crate::peer::link::{Acceptor, CHALLENGE_BYTES, Identity, Rules};
use crate::raft::NodeId;
use crate::raft::member::{MEMBERS_MAX, Member, Uuid};
use crate::raft::message::Message;
use crate::time::{Instant, Now};

/// The site that nodes of the map name in their handshake, so that no node of a session store is taken for one.
const LINK_SITE: &str = "cluster map";
/// The nodes of the map have no lease between two of them; all say the same.
const LINK_RULES: Rules = Rules { lease_ms: 0, grace_ms: 1, on_peer_loss: OnPeerLoss::Available };
/// Connections at a time.
const CONNECTIONS_MAX: usize = 2048;
/// One turn reads so much of one node.
const NODE_BYTES_PER_TURN_MAX: usize = 1024 * 1024;
/// Through which everything is read.
const BUFFER_BYTES: usize = 64 * 1024;
/// A stop waits no longer for the hand-over of the lead and for answers to leave.
const STOP_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(1);

const SIGNALS: Token = Token(0);
const LISTENER: Token = Token(1);
const WAKER: Token = Token(2);
const FIRST_LINK: usize = 16;
const FIRST_CONNECTION: usize = FIRST_LINK + 2 * MEMBERS_MAX;

/// Why the map cannot start or go on. Shown as one line.
#[derive(Debug)]
pub enum MapError {
    /// `--bind-addr` cannot be opened.
    Listen(String, io::Error),
    /// The data folder cannot be used.
    Store(StoreError),
    /// The operating system refused a step.
    System(&'static str, io::Error),
    /// The disk failed while the daemon ran.
    Disk(String),
    /// The log contradicts itself.
    Broken(&'static str),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "cannot listen on --bind-addr {address}: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::System(step, error) => write!(f, "cannot {step}: {error}"),
            Self::Disk(what) => write!(
                f,
                "the disk of --data-dir failed, so that nothing may be answered any more: {what}; start again when it is sound"
            ),
            Self::Broken(what) => write!(
                f,
                "{what}; remove this node from its cluster, move its --data-dir away, and add it as a new one"
            ),
        }
    }
}

impl std::error::Error for MapError {}

/// What a handshake needs of this node.
pub(super) struct Key {
    own: String,
    incarnation: u64,
    token: Secret,
}

impl Key {
    /// Who we are, and whom we expect; nobody in particular where others come in.
    fn identity(&self, expected: Option<Uuid>) -> Identity {
        Identity {
            site: LINK_SITE.to_owned(),
            host_id: self.own.clone(),
            incarnation: self.incarnation,
            peer_host_id: expected.map(|uuid| uuid.to_string()),
            rules: LINK_RULES,
        }
    }

    fn token(&self) -> &[u8] {
        self.token.expose().as_bytes()
    }

    fn challenge(&self) -> io::Result<[u8; CHALLENGE_BYTES]> {
        let mut challenge = [0; CHALLENGE_BYTES];
        getrandom::fill(&mut challenge).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(challenge)
    }
}

/// Wakes the loop from another thread.
#[derive(Clone)]
pub(super) struct Wake(Arc<StdUnixStream>);

impl Wake {
    fn wake(&self) {
        // A full pipe wakes as well as one byte more.
        let _ = (&*self.0).write(&[1]);
    }
}

/// A connection on `--bind-addr`.
enum Connection {
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
}

/// The shell.
pub(super) struct Map {
    poll: Poll,
    log: Log,
    signals: Signals,
    listener: TcpListener,
    has_callers: bool,
    accept_paused_until: Option<Instant>,
    waker: UnixStream,
    wake: Wake,
    store: Store,
    replica: Replica,
    own: Member,
    key: Key,
    client_token: Option<Secret>,
    connections: Slab<Connection>,
    accepted: u64,
    links: BTreeMap<NodeId, (usize, Link)>,
    /// Where nodes that are no members yet have said that they are.
    heard_of: BTreeMap<NodeId, Member>,
    date: HttpDate,
    buffer: Vec<u8>,
    manager: ServiceManager,
    failed: Option<MapError>,
    stopping: Option<Instant>,
}

/// Serves the cluster map until a clean stop.
///
/// # Errors
///
/// What keeps it from starting, or from going on.
pub fn run(settings: &MapConfig, warnings: &[String]) -> Result<(), MapError> {
    start(settings, warnings)?.serve()
}

/// Opens everything that the cluster map needs.
///
/// # Errors
///
/// What keeps it from starting.
pub(super) fn start(settings: &MapConfig, warnings: &[String]) -> Result<Map, MapError> {
    Map::start(settings, warnings)
}

impl Map {
    /// Serves until a clean stop.
    pub(super) fn serve(&mut self) -> Result<(), MapError> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        while self.turn(&mut events)? {}
        Ok(())
    }

    fn start(settings: &MapConfig, warnings: &[String]) -> Result<Self, MapError> {
        let now = clock::now();
        let mut log = Log::to_stderr(settings.log_level, settings.log_format);
        for warning in warnings {
            log.event(now, LogEvent::Configuration, &[("warning", Value::Text(warning))]);
        }
        let system = |step| move |error| MapError::System(step, error);
        let poll = Poll::new().map_err(system("make an epoll instance"))?;
        let signals = Signals::catch(poll.registry(), SIGNALS).map_err(system("catch signals"))?;
        let mut entropy = OsEntropy::new()
            .map_err(|error| MapError::System("get randomness", io::Error::other(error.to_string())))?;
        let mut listener =
            listen(&settings.bind_addr).map_err(|error| MapError::Listen(settings.bind_addr.to_string(), error))?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(system("poll a socket"))?;
        let (reader, writer) = StdUnixStream::pair().map_err(system("make a pipe"))?;
        reader.set_nonblocking(true).map_err(system("make a pipe"))?;
        writer.set_nonblocking(true).map_err(system("make a pipe"))?;
        let mut waker = UnixStream::from_std(reader);
        registry.register(&mut waker, WAKER, Interest::READABLE).map_err(system("poll a pipe"))?;
        let draw = || {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            Uuid::from_random(bytes)
        };
        let opened = store::open(&settings.data_dir, draw).map_err(MapError::Store)?;
        let uuid = opened.uuid;
        let thread_waker = writer.try_clone().map_err(system("make a pipe"))?;
        let (store, restored) =
            opened.start(settings.data_dir.clone(), thread_waker).map_err(system("start a thread"))?;
        let own = Member { uuid, address: settings.advertise_addr.to_string() };
        let mut incarnation = [0; 8];
        entropy.fill(&mut incarnation);
        let token = settings.internal_token.clone().unwrap_or_else(|| Secret::new(DEV_INTERNAL_TOKEN.to_owned()));
        let key = Key { own: uuid.to_string(), incarnation: u64::from_le_bytes(incarnation), token };
        let replica_settings = Settings {
            own: own.clone(),
            memory_limit_bytes: settings.memory_limit_bytes,
            snapshot_entries: SNAPSHOT_ENTRIES,
        };
        let replica = Replica::new(now.monotonic, replica_settings, Box::new(entropy), restored);
        let (id, address, folder) =
            (uuid.to_string(), settings.bind_addr.to_string(), settings.data_dir.display().to_string());
        let fields = [
            ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
            ("id", Value::Text(&id)),
            ("bind_addr", Value::Text(&address)),
            ("data_dir", Value::Text(&folder)),
            ("pid", Value::Number(u64::from(std::process::id()))),
        ];
        log.event(now, LogEvent::MapStarted, &fields);
        let mut manager = ServiceManager::from_env(now.monotonic);
        manager.is_ready("serving the cluster map".to_owned());
        Ok(Self {
            poll,
            log,
            signals,
            listener,
            has_callers: true,
            accept_paused_until: None,
            waker,
            wake: Wake(Arc::new(writer)),
            store,
            replica,
            own,
            key,
            client_token: settings.client_token.clone(),
            connections: Slab::new(),
            accepted: 0,
            links: BTreeMap::new(),
            heard_of: BTreeMap::new(),
            date: HttpDate::new(now.wall),
            buffer: vec![0; BUFFER_BYTES],
            manager,
            failed: None,
            stopping: None,
        })
    }

    /// One turn. Says whether there is to be another.
    fn turn(&mut self, events: &mut Events) -> Result<bool, MapError> {
        match self.poll.poll(events, Some(self.sleep_time())) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(MapError::System("wait for events", error)),
        }
        let now = clock::now();
        self.date.update(now.wall);
        for event in events.iter() {
            self.note_event(now, event);
        }
        self.hear_disk(now);
        self.go_on_with_links(now);
        self.take_callers(now);
        self.visit_connections(now);
        self.tell(now, Input::Time);
        self.tell(now, Input::EndOfTurn);
        self.go_on_with_links(now);
        self.send_answers(now);
        self.log.close_windows(now);
        self.manager.on_end_of_turn(now.monotonic);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        Ok(!self.is_stopped(now))
    }

    fn sleep_time(&self) -> std::time::Duration {
        let now = clock::monotonic();
        if self.replica.has_work() || (self.has_callers && self.accept_paused_until.is_none()) {
            return std::time::Duration::ZERO;
        }
        let links = self.links.values().filter_map(|(_, link)| link.next_deadline()).min();
        let connections = self.connections.iter().filter_map(|(_, connection)| match connection {
            Connection::Client(client) => client.deadline(),
            Connection::Node(speaker) => speaker.who.is_none().then_some(speaker.incoming.deadline),
        });
        let due = Instant::earliest([
            self.replica.next_timeout(),
            links,
            connections.min(),
            self.accept_paused_until,
            self.log.next_deadline(),
            self.manager.next_deadline(),
            self.stopping,
        ]);
        due.map_or(SLEEP_MAX, |due| due.since(now)).min(SLEEP_MAX)
    }

    fn note_event(&mut self, now: Now, event: &Event) {
        match event.token() {
            SIGNALS => self.on_signals(now),
            LISTENER => self.has_callers = true,
            WAKER => {
                let mut bytes = [0; 64];
                while matches!(self.waker.read(&mut bytes), Ok(1..)) {}
            }
            Token(token) if token >= FIRST_CONNECTION => match self.connections.get_mut(token - FIRST_CONNECTION) {
                Some(Connection::Client(client)) => client.note_event(event),
                Some(Connection::Node(speaker)) => speaker.incoming.note_ready(is_readable(event), event.is_writable()),
                None => {}
            },
            Token(token) => {
                let place = token.saturating_sub(FIRST_LINK);
                if let Some((_, link)) = self.links.values_mut().find(|(at, _)| *at == place) {
                    link.note_event(event);
                }
            }
        }
    }

    fn on_signals(&mut self, now: Now) {
        let received = self.signals.take();
        if received.stop > 0 && self.stopping.is_none() {
            self.log.event(now, LogEvent::Stopping, &[]);
            self.manager.is_stopping();
            self.stopping = Some(now.monotonic + STOP_TIME_MAX);
            // Its successor leads before anybody misses it.
            if self.replica.raft().is_leader() {
                let question = crate::kv::ask::Question::TransferLeader(None);
                self.tell(now, Input::Question { id: 0, question, is_stale: false });
            }
        }
    }

    /// A stop is complete when this node leads no other and owes nobody anything.
    fn is_stopped(&mut self, now: Now) -> bool {
        let Some(deadline) = self.stopping else { return false };
        let is_alone = self.replica.raft().membership().members.len() < 2;
        let owes = self
            .connections
            .iter()
            .any(|(_, connection)| matches!(connection, Connection::Client(client) if client.is_owed()));
        let is_done = (is_alone || !self.replica.raft().is_leader()) && !owes;
        if is_done || deadline <= now.monotonic {
            self.log.event(now, LogEvent::Stopped, &[]);
            return true;
        }
        false
    }

    /// Tells the replica something and does what it says.
    fn tell(&mut self, now: Now, input: Input) {
        let mut said = Outbox::default();
        self.replica.handle(now.monotonic, input, &mut said);
        for save in said.saves {
            self.store.save(save);
        }
        for image in &said.images {
            self.store.save_image(image);
        }
        for (to, message) in said.messages {
            if let Some((_, link)) = self.links.get_mut(&to) {
                link.push(&message);
            }
        }
        for (id, answer) in said.answers {
            self.answer(id, &answer);
        }
        for notice in said.notices {
            self.report(now, &notice);
        }
    }

    fn answer(&mut self, id: u64, answer: &Answer) {
        let place = (id & u64::from(u32::MAX)) as usize;
        if let Some(Connection::Client(client)) = self.connections.get_mut(place)
            && client.life == id >> 32
        {
            client.answer(&self.date, answer);
        }
    }

    fn hear_disk(&mut self, now: Now) {
        while let Some(done) = self.store.next_done() {
            match done {
                Done::Saved(batch) => self.tell(now, Input::Saved(batch)),
                Done::ImageSaved(last) => self.tell(now, Input::ImageSaved(last)),
                Done::DiskIsLow(is_low) => self.tell(now, Input::DiskIsLow(is_low)),
                Done::Failed(what) => self.failed = Some(MapError::Disk(what)),
            }
        }
    }

    // Links.

    /// Has a link to every member and to everybody who speaks to this node, and to nobody else; and goes on with each.
    fn go_on_with_links(&mut self, now: Now) {
        let mut wanted: BTreeMap<NodeId, Member> = self.heard_of.clone();
        wanted.extend(self.replica.raft().membership().members.iter().map(|(id, member)| (*id, member.clone())));
        wanted.remove(&self.own.uuid.node_id());
        let is_wanted = |id: &NodeId, link: &Link| wanted.get(id).is_some_and(|member| member.address == link.address);
        let gone: Vec<NodeId> =
            self.links.iter().filter(|(id, (_, link))| !is_wanted(id, link)).map(|(id, _)| *id).collect();
        for id in gone {
            if self.links.remove(&id).is_some_and(|(_, link)| link.is_up()) {
                self.tell(now, Input::LinkDown(id));
            }
        }
        for (id, member) in wanted {
            if !self.links.contains_key(&id)
                && let Some(place) = (0..2 * MEMBERS_MAX).find(|place| self.links.values().all(|(at, _)| at != place))
            {
                self.links.insert(id, (place, Link::new(member.uuid, member.address, now.monotonic)));
            }
        }
        let ids: Vec<NodeId> = self.links.keys().copied().collect();
        for id in ids {
            let Some((place, link)) = self.links.get_mut(&id) else { continue };
            let token = Token(FIRST_LINK + *place);
            let news = link.advance(now.monotonic, self.poll.registry(), token, &self.key, &self.wake);
            let address = link.address.clone();
            let address = [("address", Value::Text(&address))];
            match news {
                None => {}
                Some(News::Up) => {
                    let hello = Message::Hello {
                        cluster: self.replica.raft().cluster(),
                        uuid: self.own.uuid,
                        address: self.own.address.clone(),
                    };
                    link.push(&hello);
                    self.log.event(now, LogEvent::MapLinkUp, &address);
                    self.tell(now, Input::LinkUp(id));
                }
                Some(News::Down) => {
                    self.log.event(now, LogEvent::MapLinkDown, &address);
                    self.tell(now, Input::LinkDown(id));
                }
                Some(News::Failed(why)) => {
                    let fields = [address[0], ("error", Value::Text(&why))];
                    self.log.event(now, LogEvent::MapLinkFailed, &fields);
                }
            }
        }
    }

    // Connections.

    fn take_callers(&mut self, now: Now) {
        if self.accept_paused_until.is_some_and(|until| until > now.monotonic) {
            return;
        }
        self.accept_paused_until = None;
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            if !self.has_callers {
                return;
            }
            match self.listener.accept() {
                Ok((stream, address)) => self.admit(now, stream, address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.has_callers = false,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    self.accept_paused_until = Some(now.monotonic + ACCEPT_PAUSE);
                    let why = error.to_string();
                    self.log.event(now, LogEvent::AcceptFailed, &[("error", Value::Text(&why))]);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, now: Now, mut stream: mio::net::TcpStream, address: SocketAddr) {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.log.event(
                now,
                LogEvent::TooManyConnections,
                &[("max_connections", Value::Number(CONNECTIONS_MAX as u64))],
            );
            return;
        }
        self.accepted += 1;
        let entry = self.connections.vacant_entry();
        let token = Token(FIRST_CONNECTION + entry.key());
        let is_registered = set_options(&stream).is_ok()
            && self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok();
        if is_registered {
            entry.insert(Connection::Client(Client::new(stream, address, self.accepted, now.monotonic)));
        }
    }

    fn visit_connections(&mut self, now: Now) {
        let places: Vec<usize> = self.connections.iter().map(|(place, _)| place).collect();
        let mut buffer = mem::take(&mut self.buffer);
        for place in places {
            let is_over = match self.connections.get_mut(place) {
                Some(Connection::Client(_)) => self.visit_client(now, place, &mut buffer),
                Some(Connection::Node(_)) => self.visit_node(now, place, &mut buffer),
                None => false,
            };
            if is_over {
                self.close(now, place);
            }
        }
        self.buffer = buffer;
    }

    fn close(&mut self, now: Now, place: usize) {
        let Some(connection) = self.connections.try_remove(place) else { return };
        match connection {
            Connection::Client(client) => {
                if client.is_owed() {
                    self.tell(now, Input::Gone { id: client.life << 32 | place as u64 });
                }
            }
            Connection::Node(speaker) => {
                if let Some((id, _)) = speaker.who {
                    self.heard_of.remove(&id);
                }
            }
        }
    }

    /// Says whether it is over.
    fn visit_client(&mut self, now: Now, place: usize, buffer: &mut [u8]) -> bool {
        loop {
            let Some(Connection::Client(client)) = self.connections.get_mut(place) else { return false };
            match client.advance(now.monotonic, &self.date, self.client_token.as_ref(), buffer) {
                Step::Waits => return false,
                Step::Over => return true,
                Step::Question { question, is_stale } => {
                    let id = client.life << 32 | place as u64;
                    self.tell(now, Input::Question { id, question, is_stale });
                }
                Step::Node(input) => return self.become_node(now, place, input),
            }
        }
    }

    /// A connection turns out to be a node's. Says whether it is over.
    fn become_node(&mut self, now: Now, place: usize, input: Vec<u8>) -> bool {
        let Ok(challenge) = self.key.challenge() else { return true };
        let acceptor = Acceptor::new(&self.key.identity(None), self.key.token(), challenge);
        let Some(Connection::Client(client)) = self.connections.try_remove(place) else { return true };
        let address = client.address;
        let deadline = now.monotonic + HANDSHAKE_TIME_MAX;
        let incoming = Incoming::with_input(client.into_stream(), address, acceptor, deadline, input);
        let entry = self.connections.vacant_entry();
        // The place that was just made free: its events go on.
        debug_assert_eq!(entry.key(), place);
        entry.insert(Connection::Node(Box::new(Speaker { incoming, proved: None, who: None })));
        let mut buffer = vec![0; BUFFER_BYTES];
        self.visit_node(now, place, &mut buffer)
    }

    /// Hears a node. Says whether it is over.
    fn visit_node(&mut self, now: Now, place: usize, buffer: &mut [u8]) -> bool {
        let mut left = NODE_BYTES_PER_TURN_MAX;
        let mut opened = Vec::new();
        loop {
            let Some(Connection::Node(speaker)) = self.connections.get_mut(place) else { return false };
            match speaker.incoming.next(&mut opened) {
                Ok(incoming::Step::Message(path)) => {
                    let message = match Message::read(&opened) {
                        Ok(message) if message.path() == path => message,
                        Ok(_) | Err(_) => {
                            return self.end_of_node(
                                now,
                                place,
                                "a message is malformed; run the same bbd on all nodes",
                            );
                        }
                    };
                    match (message, speaker.who) {
                        (Message::Hello { cluster, uuid, address }, None)
                            if speaker.proved.as_deref() == Some(uuid.to_string().as_str()) =>
                        {
                            speaker.who = Some((uuid.node_id(), cluster));
                            let id = uuid.node_id();
                            if self.heard_of.len() < MEMBERS_MAX {
                                self.heard_of.insert(id, Member { uuid, address });
                            }
                            if let Some((_, link)) = self.links.get_mut(&id) {
                                link.dial_soon(now.monotonic);
                            }
                        }
                        (message, Some((from, cluster))) => self.tell(now, Input::Message { from, cluster, message }),
                        (_, None) => return self.end_of_node(now, place, "it did not say who it is"),
                    }
                }
                Ok(incoming::Step::Proved(peer)) => speaker.proved = Some(peer.host_id),
                Ok(incoming::Step::More) => {
                    let is_late = speaker.who.is_none() && speaker.incoming.deadline <= now.monotonic;
                    if is_late {
                        return self.end_of_node(now, place, "the handshake took too long");
                    }
                    if left == 0 {
                        return speaker.incoming.send().is_err();
                    }
                    match speaker.incoming.read(buffer) {
                        Ok(Read::Bytes(length)) => left = left.saturating_sub(length),
                        Ok(Read::Nothing) => return speaker.incoming.send().is_err(),
                        Err(_) => return true,
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    return self.end_of_node(now, place, &why);
                }
            }
        }
    }

    fn end_of_node(&mut self, now: Now, place: usize, why: &str) -> bool {
        if let Some(Connection::Node(speaker)) = self.connections.get(place) {
            let address = speaker.incoming.address.to_string();
            let fields = [("address", Value::Text(&address)), ("error", Value::Text(why))];
            self.log.event(now, LogEvent::MapNodeRefused, &fields);
        }
        true
    }

    fn send_answers(&mut self, now: Now) {
        let mut over = Vec::new();
        for (place, connection) in &mut self.connections {
            let is_sent = match connection {
                Connection::Client(client) => client.send().is_ok(),
                Connection::Node(speaker) => speaker.incoming.send().is_ok(),
            };
            if !is_sent {
                over.push(place);
            }
        }
        for place in over {
            self.close(now, place);
        }
    }

    fn report(&mut self, now: Now, notice: &Notice) {
        let text = |uuid: &Uuid| uuid.to_string();
        let log = &mut self.log;
        match notice {
            Notice::InitialisedByWrite { cluster } => {
                let fields = [
                    ("cluster", Value::Text(&text(cluster))),
                    (
                        "help",
                        Value::Text("this node belonged to no cluster, and its first write has made it one of its own"),
                    ),
                ];
                log.event(now, LogEvent::MapInitialisedByWrite, &fields);
            }
            Notice::Initialised { cluster } => {
                log.event(now, LogEvent::MapInitialised, &[("cluster", Value::Text(&text(cluster)))])
            }
            Notice::Joined { cluster } => {
                log.event(now, LogEvent::MapJoined, &[("cluster", Value::Text(&text(cluster)))])
            }
            Notice::BecameLeader { term } => {
                log.event(now, LogEvent::MapLeader, &[("term", Value::Number(term.get()))])
            }
            Notice::LostLeadership { term } => {
                log.event(now, LogEvent::MapLeadsNoMore, &[("term", Value::Number(term.get()))])
            }
            Notice::LeaderChanged { leader } => {
                let leader = leader.as_ref().map_or_else(|| "none".to_owned(), text);
                log.event(now, LogEvent::MapLeaderChanged, &[("leader", Value::Text(&leader))]);
            }
            Notice::MembershipChanged { voters, learners } => {
                let fields = [("voters", Value::Number(*voters as u64)), ("learners", Value::Number(*learners as u64))];
                log.event(now, LogEvent::MapMembershipChanged, &fields);
            }
            Notice::Removed => log.event(
                now,
                LogEvent::MapRemoved,
                &[("help", Value::Text("this node is no member of its cluster any more; stop it"))],
            ),
            Notice::SnapshotSaved { index, .. } => {
                log.event(now, LogEvent::MapSnapshotSaved, &[("index", Value::Number(*index))])
            }
            Notice::SnapshotInstalled { index, bytes } => {
                let fields = [("index", Value::Number(*index)), ("bytes", Value::Number(*bytes as u64))];
                log.event(now, LogEvent::MapSnapshotInstalled, &fields);
            }
            Notice::BadSnapshot { .. } => log.event(
                now,
                LogEvent::MapBadSnapshot,
                &[("help", Value::Text("if it stays so, run the same bbd on all nodes"))],
            ),
            Notice::OtherCluster { from } => {
                let node = format!("{:016x}", from.get());
                let help = "its id begins so; remove it from that cluster, or wipe it and add it as a new node";
                log.event(now, LogEvent::MapOtherCluster, &[("node", Value::Text(&node)), ("help", Value::Text(help))]);
            }
            Notice::DiskIsLow => log.event(
                now,
                LogEvent::MapDiskIsLow,
                &[("help", Value::Text("no writes are taken until there is room"))],
            ),
            Notice::DiskHasRoom => log.event(now, LogEvent::MapDiskHasRoom, &[]),
            Notice::Broken(what) => self.failed = Some(MapError::Broken(what)),
        }
    }
}

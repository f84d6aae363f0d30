//! The shell of the cluster map: its sockets (`--bind-addr`), the links between its nodes, its disk. Owns the order of its turn; what is answered,
//! sent and saved is the [`Replica`]'s decision.
//!
//! # A turn
//!
//! What the disk has done comes first, for it lets answers and acknowledgements leave; then what other nodes say; then clients; then time. At the
//! end the replica proposes, saves and sends all of it together: one commit of the disk, one write a socket.

mod client;
mod connections;
mod link;
mod links;
mod report;
pub(crate) mod store;

use std::fmt;
use std::io;
use std::sync::Arc;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use self::connections::{CONNECTIONS_MAX, Connections};
use self::links::{LINKS_MAX, Links};
use self::store::{Done, Store, StoreError};
use super::clock;
use super::entropy::OsEntropy;
use super::limits::{EVENTS_PER_TURN_MAX, SLEEP_MAX};
use super::listener::make_room;
use super::peer::listen;
use super::sandbox;
use super::signals::Signals;
use super::systemd::ServiceManager;
use crate::config::map::MapConfig;
use crate::config::secrets::{DEV_INTERNAL_TOKEN, Secret};
use crate::http::HttpDate;
use crate::kv::replica::{Input, Outbox, Replica, SNAPSHOT_ENTRIES, Settings};
use crate::log::{Log, LogEvent, Value};
use crate::node::{Entropy as _, OnPeerLoss};
use crate::peer::link::{Identity, Rules};
use crate::raft::member::{Member, Uuid};
use crate::time::{Instant, Now};

/// The site that nodes of the map name in their handshake, so that no node of a session store is taken for one.
const LINK_SITE: &str = "cluster map";
/// The nodes of the map have no lease between two of them; all say the same.
const LINK_RULES: Rules = Rules { lease_ms: 0, grace_ms: 1, on_peer_loss: OnPeerLoss::Available };
/// A stop waits no longer for the hand-over of the lead and for answers to leave.
const STOP_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// The descriptors that it may take: connections, links, files of the log and snapshots.
pub(super) const DESCRIPTORS: usize = CONNECTIONS_MAX + LINKS_MAX + FILES_MAX;
const FILES_MAX: usize = 32;

const SIGNALS: Token = Token(0);
const LISTENER: Token = Token(1);
const WAKER: Token = Token(2);
const FIRST_LINK: usize = 16;
const FIRST_CONNECTION: usize = FIRST_LINK + LINKS_MAX;

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
}

/// The shell.
pub(super) struct Map {
    poll: Poll,
    log: Log,
    signals: Signals,
    waker: Arc<Waker>,
    store: Store,
    replica: Replica,
    own: Member,
    key: Key,
    settings: MapConfig,
    connections: Connections,
    links: Links,
    date: HttpDate,
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

/// What the other nodes must know: that of `--dev` where none is set.
fn internal_token_of(settings: &MapConfig) -> Secret {
    settings.internal_token.clone().unwrap_or_else(|| Secret::new(DEV_INTERNAL_TOKEN.to_owned()))
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
        let waker = Arc::new(Waker::new(registry, WAKER).map_err(system("make an event counter"))?);
        let draw = || {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            Uuid::from_random(bytes)
        };
        // Clients never take the descriptors that the log and the other nodes need.
        let room = make_room(CONNECTIONS_MAX, DESCRIPTORS - CONNECTIONS_MAX);
        let opened = store::open(&settings.data_dir, draw).map_err(MapError::Store)?;
        let uuid = opened.uuid;
        // Before there is a thread that would not be confined.
        let sandbox = sandbox::confine_map(settings);
        let (store, restored) =
            opened.start(settings.data_dir.clone(), Arc::clone(&waker)).map_err(system("start a thread"))?;
        let own = Member { uuid, address: settings.advertise_addr.to_string() };
        let mut incarnation = [0; 8];
        entropy.fill(&mut incarnation);
        let key = Key {
            own: uuid.to_string(),
            incarnation: u64::from_le_bytes(incarnation),
            token: internal_token_of(settings),
        };
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
            ("landlock", Value::Text(sandbox.landlock.name())),
            ("seccomp", Value::Text(sandbox.seccomp.name())),
        ];
        // What sessions beside it still have to open comes before the calls for that are gone, and they say so.
        let known = if settings.has_sessions { fields.len() - 1 } else { fields.len() };
        log.event(now, LogEvent::MapStarted, &fields[..known]);
        let mut manager = ServiceManager::from_env(now.monotonic);
        manager.is_ready("serving the cluster map".to_owned());
        Ok(Self {
            poll,
            log,
            signals,
            waker,
            store,
            replica,
            own,
            key,
            settings: settings.clone(),
            connections: Connections::new(listener, now.monotonic, room.connections),
            links: Links::default(),
            date: HttpDate::new(now.wall),
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
        self.advance_links(now);
        self.take_callers(now);
        self.visit_connections(now);
        self.tell(now, Input::Time);
        self.tell(now, Input::EndOfTurn);
        self.send_on_links(now);
        self.send_answers(now);
        self.log.close_windows(now);
        self.manager.on_end_of_turn(now.monotonic);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        Ok(!self.is_stopped(now))
    }

    fn sleep_time(&self) -> std::time::Duration {
        if self.replica.has_work() || self.connections.has_work() {
            return std::time::Duration::ZERO;
        }
        let due = Instant::earliest([
            self.replica.next_timeout(),
            self.links.next_deadline(),
            self.connections.next_deadline(),
            self.log.next_deadline(),
            self.manager.next_deadline(),
            self.stopping,
        ]);
        due.map_or(SLEEP_MAX, |due| due.since(clock::monotonic())).min(SLEEP_MAX)
    }

    fn note_event(&mut self, now: Now, event: &Event) {
        match event.token() {
            SIGNALS => self.on_signals(now),
            LISTENER => self.connections.note_callers(),
            // What there is to do is looked at in every turn.
            WAKER => {}
            Token(token) if token >= FIRST_CONNECTION => self.connections.note_event(token - FIRST_CONNECTION, event),
            Token(token) => self.links.note_event(token.saturating_sub(FIRST_LINK), event),
        }
    }

    /// Reads the tokens again. Links that are up stay: new ones prove the new token, so that all nodes are reloaded one after another.
    fn reload(&mut self, now: Now) {
        match self.settings.read_tokens_again() {
            Ok(changed) => {
                self.key.token = internal_token_of(&self.settings);
                if changed.client {
                    self.log.event(now, LogEvent::ClientTokenReloaded, &[]);
                }
                if changed.internal {
                    self.log.event(now, LogEvent::InternalTokenReloaded, &[]);
                }
            }
            Err(error) => {
                self.log.event(now, LogEvent::ReloadFailed, &[("error", Value::Text(&error.to_string()))]);
            }
        }
    }

    fn on_signals(&mut self, now: Now) {
        let received = self.signals.take();
        if received.reload > 0 {
            self.reload(now);
        }
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
        let is_done = (is_alone || !self.replica.raft().is_leader()) && !self.connections.owes();
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
            self.links.push(to, &message);
        }
        for (id, answer) in said.answers {
            self.answer(id, &answer);
        }
        for notice in said.notices {
            self.report(now, &notice);
        }
    }

    fn hear_disk(&mut self, now: Now) {
        while let Some(done) = self.store.next_done() {
            match done {
                Done::Saved(batch) => self.tell(now, Input::Saved(batch)),
                Done::ImageSaved(last) => self.tell(now, Input::ImageSaved(last)),
                Done::DiskIsLow(is_low) => self.tell(now, Input::DiskIsLow(is_low)),
                Done::ImageWaits(waits) => self.tell(now, Input::ImageWaits(waits)),
                Done::Failed(what) => self.failed = Some(MapError::Disk(what)),
            }
        }
    }
}

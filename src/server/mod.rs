//! The shell around the node: one event loop on one thread, its listeners, its connections, clocks, signals and the service
//! manager. Owns the order of a turn; decides nothing about stores.
//!
//! # A turn
//!
//! Sleep until something happens or is due (not at all if work was left over), then:
//!
//! 1. the clocks are read, and events become marks: who may be read, written, accepted;
//! 2. signals: stop, reload;
//! 3. the other node, if there is one, is heard, and whoever dials this one (`peer`): before clients and before timers;
//! 4. connections with marks are visited, those first that keep up, then, for a short part of the turn, those that do not and those
//!    that had work left over (`lanes`). Of those that keep up several are read before the first is served, so that their stores are
//!    looked up together (`arrivals`). A visit and a turn serve so many requests at most (`limits`), shared fairly: who pipelines
//!    a thousand requests waits for himself, nobody else does. While the other node is too far behind, none is visited
//!    (`Node::clients_wait_until`);
//! 5. clients who wait at a listener come in, `limits::ACCEPTS_PER_TURN_MAX` at most, after those who left have made room;
//! 6. the node's timers, if one is due, and everything has been heard that the other node had said by then: expiries, locks, long
//!    jobs, as many as the node allows itself in one call;
//! 7. connections whose patience is over;
//! 8. the node says what the turn comes to for the other node, and it is sent;
//! 9. answers that others have caused (a lock passed on, a wait that timed out) are sent, in one write a connection;
//! 10. the log's windows, the service manager's watchdog, the end of a clean stop.
//!
//! No step holds the loop for more than 1 ms; what is left over is left for the next turn, which then does not sleep.
//!
//! # The life of a request
//!
//! `Server::visit_together` reads from several connections, `Server::visit` from one; `Intake::whole_request` or `Intake::next` finds a
//! request in what came; `Server::answer_request` hands it to `Node::on_request`; the node answers through `Replies::respond`, straight into
//! the connection's output; `Server::send` writes.
//! A request borrows from the buffer it came in, so the buffer is taken out of the connection while it is served.

mod answers;
mod arrivals;
mod clock;
mod connection;
mod connections;
mod entropy;
pub mod intake;
mod lanes;
mod limits;
mod listener;
pub mod map;
mod peer;
mod process;
mod reload;
mod resolver;
mod sandbox;
mod signals;
mod socket_file;
mod stop;
mod stream;
mod systemd;
mod visit;

pub use self::sandbox::seal_memory;

use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rustix::process::{Uid, geteuid};

use self::connection::{HttpTimes, Place};
use self::connections::{CONNECTIONS_MAX, Connections, index_of};
use self::entropy::OsEntropy;
use self::intake::{ChunkedScratch, UNKNOWN_FRAME};
use self::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, EVENTS_PER_TURN_MAX, LOOP_STALL_TIME, MAP_NICENESS, METRICS_CONNECTIONS_MAX,
    OPERATOR_CONNECTIONS_MAX, PEER_DESCRIPTORS, READ_BYTES_MAX, REFUSED_LINGER_TIME_MAX, SLEEP_MAX, TARGET_BYTES_MAX,
    TIMER_STEPS_PER_TURN_MAX,
};
use self::listener::{DoorOwner, Listener, Reserve, Room};
use self::peer::PeerSockets;
use self::process::Process;
use self::reload::KnownKeys;
use self::signals::Signals;
use self::socket_file::ListenError;
use self::stop::Stopping;
use self::stream::Stream;
use self::systemd::ServiceManager;
use crate::api::{ApiError, Code, Settings, write_api_error};
use crate::config::Config;
use crate::http::{HeadLimits, HttpDate};
use crate::log::{Log, LogEvent, Value};
use crate::metrics::limits::{Limit, LimitsMet};
use crate::metrics::requests::Requests;
use crate::node::Node;
use crate::node::request::ConnectionId;
use crate::status::{Sandbox, role_name};
use crate::store_id::{KeyError, KeyRing};
use crate::time::{Instant, Now, WallTime};
use crate::wheel::Timers;

/// Signals; connections have their index in the table, which is smaller, the peer and the listeners the numbers behind.
const SIGNALS: Token = Token(CONNECTIONS_MAX);
const FIRST_OF_PEER: usize = CONNECTIONS_MAX + 1;
const FIRST_LISTENER: usize = FIRST_OF_PEER + peer::TOKENS;

/// Why the daemon could not start or go on. Shown as one line.
#[derive(Debug)]
pub enum ServerError {
    /// A socket could not be opened.
    Listen(ListenError),
    /// `--tcp` could not be opened.
    Tcp(String, io::Error),
    /// The store keys cannot be used.
    Keys(KeyError),
    /// The operating system refused a step.
    System(&'static str, io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Tcp(address, error) => write!(f, "cannot listen on --tcp {address}: {error}"),
            Self::Keys(error) => write!(f, "the store keys cannot be used: {error}"),
            Self::System(step, error) => write!(f, "cannot {step}: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

/// What is settled at the start. Shared, so that requests may borrow from it while everything else changes.
struct Fixed {
    doors: Vec<DoorOwner>,
    head_limits: HeadLimits,
    settings: Settings,
    times: HttpTimes,
    room: Room,
    /// The daemon's own.
    uid: Uid,
    host_id: String,
    site: String,
    warnings: Vec<String>,
}

/// The daemon.
struct Server {
    config: Config,
    fixed: Rc<Fixed>,
    poll: Poll,
    log: Log,
    signals: Signals,
    listeners: Vec<Listener>,
    /// Which listener is served first; moves on every turn.
    first_listener: usize,
    reserve: Reserve,
    /// Nothing is accepted until then.
    accept_paused_until: Option<Instant>,
    connections: Connections,
    timers: Timers<ConnectionId>,
    node: Node,
    peer: Option<PeerSockets>,
    keyring: KeyRing,
    keys: KnownKeys,
    date: HttpDate,
    /// Everything is read into this; it leaves its place while its bytes are served.
    read_buffer: Vec<u8>,
    /// What several connections have sent is read into this, before they are visited.
    arrivals: Vec<u8>,
    scratch: ChunkedScratch,
    started: Instant,
    started_at: WallTime,
    process: Process,
    rejected_total: u64,
    limits_met: LimitsMet,
    requests: Requests,
    loop_stalls_total: u64,
    longest_turn: Duration,
    turn_ended: Instant,
    service_manager: ServiceManager,
    /// What the process has given up.
    sandbox: Sandbox,
    /// A stop was asked for, and the other node is taking over before it.
    handing_over: bool,
    stopping: Option<Stopping>,
}

/// Serves until a clean stop.
///
/// # Errors
///
/// What keeps the daemon from starting, or from going on.
pub fn run(config: Config) -> Result<(), ServerError> {
    let mut server = Server::start(config)?;
    let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
    while server.turn(&mut events)? {}
    Ok(())
}

/// Serves sessions and the cluster map, each in a loop of its own, so that neither waits for the other, until a clean stop of both.
///
/// # Errors
///
/// What keeps either from starting, or from going on.
pub fn run_both(config: Config) -> Result<(), BothError> {
    let Some(settings) = config.map.clone() else { return run(config).map_err(BothError::Sessions) };
    // It is open before the sessions are served, or nothing is.
    let (sender, opened) = std::sync::mpsc::channel();
    let serve = move || {
        // A request for a session takes microseconds and waits for nothing but a core. Refused, it is no worse than without.
        let _ = rustix::process::nice(MAP_NICENESS);
        let mut map = match map::start(&settings, &[]) {
            Ok(map) => map,
            Err(error) => return sender.send(Err(error)).map_or(Ok(()), |()| Ok(())),
        };
        let _ = sender.send(Ok(()));
        let ended = map.serve();
        if ended.is_err() {
            // The other loop stops as if it had been asked to.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        }
        ended
    };
    let thread = std::thread::Builder::new().name("map".to_owned()).spawn(serve);
    let thread = thread.map_err(|error| BothError::Sessions(ServerError::System("start a thread", error)))?;
    opened.recv().unwrap_or(Ok(())).map_err(BothError::Map)?;
    run(config).map_err(BothError::Sessions)?;
    thread.join().unwrap_or(Ok(())).map_err(BothError::Map)
}

/// Why one of the two loops ended.
#[derive(Debug)]
pub enum BothError {
    /// That of the sessions.
    Sessions(ServerError),
    /// That of the cluster map.
    Map(map::MapError),
}

impl fmt::Display for BothError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BothError {}

impl Server {
    fn start(mut config: Config) -> Result<Self, ServerError> {
        let now = clock::now();
        let mut log = Log::to_stderr(config.log_level, config.log_format);
        for warning in &config.warnings {
            log.event(now, LogEvent::Configuration, &[("warning", Value::Text(warning))]);
        }
        let system = |step| move |error| ServerError::System(step, error);
        let poll = Poll::new().map_err(system("make an epoll instance"))?;
        // Before anything is visible from outside: a signal that comes during the start is heard.
        let signals = Signals::catch(poll.registry(), SIGNALS).map_err(system("catch signals"))?;
        let site = (!config.disable_site_verification).then_some(config.site.as_str());
        let keys = mem::take(&mut config.secrets.store_keys);
        let known_keys = KnownKeys::new(&keys);
        let keyring = KeyRing::new(keys, &config.secrets.store_key_current, site).map_err(ServerError::Keys)?;
        let entropy = OsEntropy::new()
            .map_err(|error| ServerError::System("get randomness", io::Error::other(error.to_string())))?;
        let node = Node::new(config.node(), Box::new(entropy), now);

        let peer = PeerSockets::open(&config, &node, now.monotonic, poll.registry(), FIRST_OF_PEER)?;

        let (doors, mut listeners) = listener::open_all(&config).map_err(ServerError::Listen)?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(FIRST_LISTENER + index)).map_err(system("poll a socket"))?;
        }
        let of_peer = if peer.is_some() { PEER_DESCRIPTORS } else { 0 };
        let of_map = if config.map.is_some() { map::DESCRIPTORS } else { 0 };
        let of_metrics = if config.metrics_listen.is_some() { METRICS_CONNECTIONS_MAX } else { 0 };
        let room = listener::make_room(config.max_connections, listeners.len() + of_peer + of_metrics + of_map);
        if room.connections < config.max_connections {
            let fields = [
                ("max_connections", Value::Number(config.max_connections as u64)),
                ("possible", Value::Number(room.connections as u64)),
                ("help", Value::Text("raise the limit of open files: ulimit -n, or LimitNOFILE= in a systemd unit")),
            ];
            log.event(now, LogEvent::TooFewDescriptors, &fields);
        }
        let fixed = Fixed {
            doors,
            head_limits: HeadLimits {
                max_head_bytes: config.http_max_header_bytes,
                max_target_bytes: TARGET_BYTES_MAX,
                max_fields: HeadLimits::MOST_FIELDS,
            },
            settings: Settings {
                max_store_size_bytes: config.max_store_size_bytes,
                max_lock_timeout_ms: millis(config.max_lock_timeout),
            },
            times: HttpTimes {
                read: config.http_read_timeout,
                read_header: config.http_read_header_timeout,
                write: config.http_write_timeout,
                idle: config.http_idle_timeout,
            },
            room,
            uid: geteuid(),
            host_id: config.host_id.clone(),
            site: config.site.clone(),
            warnings: config.warnings.clone(),
        };
        let mut server = Self {
            fixed: Rc::new(fixed),
            poll,
            log,
            signals,
            listeners,
            first_listener: 0,
            reserve: Reserve::new(),
            accept_paused_until: None,
            connections: Connections::new(),
            timers: Timers::new(now.monotonic),
            node,
            peer,
            keyring,
            keys: known_keys,
            date: HttpDate::new(now.wall),
            read_buffer: vec![0; READ_BYTES_MAX],
            arrivals: Vec::new(),
            scratch: ChunkedScratch::default(),
            started: now.monotonic,
            started_at: now.wall,
            process: Process::open(),
            rejected_total: 0,
            limits_met: LimitsMet::default(),
            requests: Requests::default(),
            loop_stalls_total: 0,
            longest_turn: Duration::ZERO,
            turn_ended: now.monotonic,
            service_manager: ServiceManager::from_env(now.monotonic),
            sandbox: sandbox::confine(&config),
            handing_over: false,
            stopping: None,
            config,
        };
        server.report_start(now);
        Ok(server)
    }

    fn report_start(&mut self, now: Now) {
        let uds = self.config.uds.display().to_string();
        let role = role_name(self.node.role());
        let fields = [
            ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
            ("host_id", Value::Text(&self.config.host_id)),
            ("site", Value::Text(&self.config.site)),
            ("uds", Value::Text(&uds)),
            ("role", Value::Text(role)),
            ("pid", Value::Number(u64::from(std::process::id()))),
            ("seccomp", Value::Text(self.sandbox.seccomp.name())),
            ("landlock", Value::Text(self.sandbox.landlock.name())),
        ];
        self.log.event(now, LogEvent::Started, &fields);
        self.service_manager.is_ready(role.to_owned());
    }

    /// One turn. Says whether there is to be another.
    fn turn(&mut self, events: &mut Events) -> Result<bool, ServerError> {
        match self.poll.poll(events, Some(self.sleep_time())) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(ServerError::System("wait for events", error)),
        }
        let now = clock::now();
        let turn_began = now.monotonic;
        self.date.update(now.wall);
        if self.note_events(events, turn_began) {
            self.on_signals(now);
        }
        self.serve_peer();
        let now = if self.peer.is_some() { clock::now() } else { now };
        let now = self.visit_connections(now);
        self.accept_clients(now);
        let now = self.give_timeout(now);
        let mut budget = TIMER_STEPS_PER_TURN_MAX;
        while let Some(id) = self.timers.pop_due(now.monotonic, &mut budget) {
            self.on_connection_timer(now, id);
        }
        self.end_turn_of_peer(now);
        self.stop_if_handed_over(now);
        self.send_to_dirty(now);
        if self.limits_met.has_untold() {
            for (event, refused) in self.limits_met.take_untold() {
                self.log.event(now, event, &[("refused", Value::Number(refused))]);
            }
        }
        self.log.close_windows(now);
        self.service_manager.on_end_of_turn(now.monotonic);
        self.use_next_key(now);
        // A timer that outlived its connection would be a leak.
        assert!(self.timers.len() <= self.connections.len(), "every timer belongs to a connection");
        self.turn_ended = clock::monotonic();
        self.requests.note_end_of_turn(self.turn_ended);
        let took = self.turn_ended.since(turn_began);
        self.longest_turn = self.longest_turn.max(took);
        if took >= LOOP_STALL_TIME {
            self.loop_stalls_total += 1;
            self.log.event(now, LogEvent::LoopStalled, &[("ms", Value::Number(millis(took)))]);
        }
        Ok(!self.is_stopped(now))
    }

    /// How long nothing is to be done.
    fn sleep_time(&self) -> Duration {
        let clients_wait = self.node.clients_wait_until(self.turn_ended);
        let has_visits = clients_wait.is_none() && !self.connections.lanes.is_empty();
        let accept_now = self.accept_paused_until.is_none() && self.listeners.iter().any(|listener| listener.ready);
        let peer_now = self.peer.as_ref().is_some_and(PeerSockets::has_work);
        if accept_now || peer_now || has_visits {
            return Duration::ZERO;
        }
        let due = Instant::earliest([
            self.node.next_timeout(),
            self.timers.next_deadline(),
            self.accept_paused_until,
            clients_wait,
            self.peer.as_ref().and_then(PeerSockets::next_deadline),
            self.log.next_deadline(),
            self.service_manager.next_deadline(),
            self.keys.next_deadline(),
            self.stopping.as_ref().map(Stopping::deadline),
        ]);
        due.map_or(SLEEP_MAX, |due| due.since(self.turn_ended)).min(SLEEP_MAX)
    }

    /// Turns events into marks on listeners and connections. Nothing is opened or closed meanwhile, so that an event is always
    /// about what it was about when it happened. Says whether a signal came.
    fn note_events(&mut self, events: &Events, now: Instant) -> bool {
        let mut signalled = false;
        for event in events {
            match event.token() {
                SIGNALS => signalled = true,
                Token(token) if token >= FIRST_LISTENER => {
                    if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                        listener.ready = true;
                    }
                }
                Token(token) if token >= FIRST_OF_PEER => {
                    if let Some(peer) = &mut self.peer {
                        peer.note_event(event);
                    }
                }
                Token(index) => {
                    let Some(connection) = self.connections.at(index) else { continue };
                    connection.note_event(event);
                    if connection.has_work() {
                        let id = connection.id;
                        self.connections.wake(id, now);
                    }
                }
            }
        }
        signalled
    }

    /// Lets clients in who wait at the listeners, each listener in its turn.
    fn accept_clients(&mut self, now: Now) {
        if self.accept_paused_until.is_some_and(|until| until > now.monotonic) || self.listeners.is_empty() {
            return;
        }
        self.accept_paused_until = None;
        let mut left = ACCEPTS_PER_TURN_MAX;
        self.first_listener = (self.first_listener + 1) % self.listeners.len();
        for offset in 0..self.listeners.len() {
            let index = (self.first_listener + offset) % self.listeners.len();
            while left > 0 && self.listeners[index].ready && self.accept_one(now, index) {
                left -= 1;
            }
        }
    }

    /// Lets one client in; says whether more are to be let in now.
    fn accept_one(&mut self, now: Now, index: usize) -> bool {
        let listener = &mut self.listeners[index];
        let door = listener.door;
        match listener.accept() {
            Ok(Some(stream)) => self.admit(now, door, stream),
            Ok(None) => return false,
            Err(error) => {
                self.accept_paused_until = Some(now.monotonic + ACCEPT_PAUSE);
                let why = error.to_string();
                self.log.event(now, LogEvent::AcceptFailed, &[("error", Value::Text(&why))]);
                if listener::is_exhausted(&error) {
                    self.refuse_one_from_reserve(index);
                }
                return false;
            }
        }
        true
    }

    /// Takes a client in, or tells it that there is no room.
    fn admit(&mut self, now: Now, door: usize, stream: Stream) {
        let place = self.place_for(door, &stream);
        let is_refused = place == Place::Refused;
        if is_refused {
            self.note_no_room();
            if self.connections.count(Place::Refused) >= self.fixed.room.refused {
                return self.refuse(stream);
            }
        }
        let Some(connection) = self.connections.insert(door, place, stream, now.monotonic) else { return };
        let id = connection.id;
        let registered =
            self.poll.registry().register(connection.stream.source(), Token(index_of(id)), Interest::READABLE);
        if let Err(error) = registered {
            let why = error.to_string();
            self.log.event(now, LogEvent::PollFailed, &[("error", Value::Text(&why))]);
            self.connections.remove(id);
            return;
        }
        if is_refused {
            self.answer_error(now, id, UNKNOWN_FRAME, None, &no_room());
            self.send(now, id);
            if let Some(connection) = self.connections.get(id) {
                // Its first request is still to come, and must not fail before it can read why.
                connection.ends_early = true;
                connection.linger(now.monotonic, REFUSED_LINGER_TIME_MAX);
            }
        }
        self.settle_timer(id);
    }

    /// Where there is room for a client. When all places are taken, there is one more for an operator who comes to see why.
    fn place_for(&self, door: usize, stream: &Stream) -> Place {
        let has_room = |place, most| self.connections.count(place) < most;
        match self.fixed.doors[door] {
            DoorOwner::Metrics if has_room(Place::Metrics, METRICS_CONNECTIONS_MAX) => Place::Metrics,
            DoorOwner::Everyone | DoorOwner::Customer(_) if has_room(Place::Client, self.fixed.room.connections) => {
                Place::Client
            }
            DoorOwner::Everyone if has_room(Place::Operator, OPERATOR_CONNECTIONS_MAX) && self.is_operator(stream) => {
                Place::Operator
            }
            DoorOwner::Everyone | DoorOwner::Customer(_) | DoorOwner::Metrics => Place::Refused,
        }
    }

    /// Root, and the daemon's own user, who could stop it as well.
    fn is_operator(&self, stream: &Stream) -> bool {
        stream.client_uid().is_some_and(|uid| uid == Uid::ROOT || uid == self.fixed.uid)
    }

    /// Counts a client for whom there is no room.
    fn note_no_room(&mut self) {
        self.rejected_total += 1;
        self.limits_met.note(Limit::Connections);
    }

    /// Tells a client that there is no room, and closes.
    fn refuse(&self, mut stream: Stream) {
        let mut answer = Vec::new();
        write_api_error(&mut answer, &UNKNOWN_FRAME, &self.date, &no_room());
        // An answer this short fits into a new socket or not at all.
        let _ = stream.write(&answer);
        stream.shutdown_write();
    }

    /// There is no descriptor left: with the one kept for this, one client is told.
    fn refuse_one_from_reserve(&mut self, index: usize) {
        self.limits_met.note(Limit::Descriptors);
        let mut reserve = mem::replace(&mut self.reserve, Reserve::empty());
        reserve.lend(|| {
            if let Ok(Some(stream)) = self.listeners[index].accept() {
                self.rejected_total += 1;
                self.refuse(stream);
            }
        });
        self.reserve = reserve;
    }
}

/// What a client is told for whom there is no room.
fn no_room() -> ApiError {
    ApiError::of(Code::StoreUnavailable)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

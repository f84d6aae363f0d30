//! The sockets between this node and its peer: `--tcp`, where the peer comes in, and the connection that this node dials. Owns who
//! is let in, when is dialled, and how the messages of both directions share the loop with everything else; what messages
//! mean is the node's business, and their bytes are [`crate::peer`]'s.
//!
//! # Two connections
//!
//! Each node dials the other. [`crate::peer::outgoing`] carries this node's messages, [`crate::peer::incoming`] the peer's; what comes back on either are
//! answers that are only counted. So no message ever waits for another one's answer.
//!
//! # A turn
//!
//! `Server::serve_peer` stands first in every turn, before clients and timers: it hears what the peer has said (`Server::hear_peer`),
//! and only when all of that is heard it lets in who dials, and tells the node what has become of the connection that this node
//! dials: a peer that has died has perhaps said something before. For the same reason
//! `Server::give_timeout` hears the peer once more before the node learns that time has passed, whatever the poll said: the
//! process may have been stopped in between. `Server::end_turn_of_peer` stands last: the node hands out what the turn comes to,
//! and it is sent in one go.

mod addresses;
mod events;
mod lag;
mod socket;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use self::addresses::Addresses;
use self::lag::Lag;
use super::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, EXPIRIES_TIME_MAX, PEER_BYTES_PER_TURN_MAX, PEER_MESSAGE_COST_BYTES,
    TURNS_BEHIND_MAX, UNPROVED_LINKS_MAX,
};
use super::{Server, ServerError, clock};
use crate::config::Config;
use crate::config::peer::ON_PEER_LOSS_NAMES;
use crate::config::secrets::Secret;
use crate::config::values;
use crate::log::{LogEvent, Value};
use crate::node::{Input, Node, Role};
use crate::peer::End;
use crate::peer::incoming::{self, Read, Step};
use crate::peer::limits::{BUFFER_KEPT_BYTES, HANDSHAKE_TIME_MAX};
use crate::peer::link::{Acceptor, CHALLENGE_BYTES, Dialler, Identity, Peer, Rules, read_opened};
use crate::peer::message::Message;
use crate::peer::outgoing::{self, Address, Network, News};
use crate::status::PeerStatus;
use crate::time::{Instant, Now};

pub(super) use self::events::log_event;
pub(super) use self::socket::{is_readable, is_writable, listen, set_options};

/// The connection that this node dials.
pub(super) type Outgoing = outgoing::Outgoing<TcpStream>;
/// A connection on `--tcp`.
pub(super) type Incoming = incoming::Incoming<TcpStream>;

/// Those that prove themselves, the one that has, and one more while it takes that one's place.
const INCOMING_MAX: usize = UNPROVED_LINKS_MAX + 1;

/// What the loop calls the sockets of the peer: numbers from the first one given to [`PeerSockets::open`] on.
pub(super) const TOKENS: usize = FIRST_INCOMING + INCOMING_MAX;
const RESOLVER: usize = 0;
const LISTENER: usize = 1;
const OUTGOING: usize = 2;
const FIRST_INCOMING: usize = 3;

/// What a handshake needs of this node.
pub(super) struct Key {
    identity: Identity,
    token: Secret,
}

impl Key {
    /// The peer's host id.
    fn peer_name(&self) -> &str {
        self.identity.peer_host_id.as_deref().unwrap_or_default()
    }

    fn token(&self) -> &[u8] {
        self.token.expose().as_bytes()
    }
}

/// Fresh random for one handshake.
pub(super) fn challenge() -> io::Result<[u8; CHALLENGE_BYTES]> {
    let mut challenge = [0; CHALLENGE_BYTES];
    getrandom::fill(&mut challenge).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(challenge)
}

/// How this node dials the other one.
struct Dialling<'s> {
    addresses: &'s mut Addresses,
    key: &'s Key,
    registry: &'s Registry,
    token: Token,
}

impl Network for Dialling<'_> {
    type Socket = TcpStream;

    fn next_address(&mut self, now: Instant) -> Address {
        self.addresses.next(now)
    }

    fn take_resolved(&mut self) -> Option<io::Result<()>> {
        self.addresses.take_answer()
    }

    fn dial(&mut self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        socket::set_options(&stream)?;
        self.registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(stream)
    }

    fn begin_handshake(&mut self) -> io::Result<(Dialler, Vec<u8>)> {
        Ok(Dialler::new(&self.key.identity, self.key.token(), challenge()?))
    }
}

/// Random for jitter; without any, the jitter is what is missing.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// The sockets of the peer.
pub(super) struct PeerSockets {
    key: Key,
    first_token: usize,
    listener: TcpListener,
    /// Somebody may be waiting there.
    has_callers: bool,
    accept_paused_until: Option<Instant>,
    /// Accepted connections; their place gives them their token.
    incoming: Vec<Option<Incoming>>,
    /// The one that has proved itself, and which life of the peer it is.
    proved: Option<(usize, u64)>,
    addresses: Addresses,
    pub(super) outgoing: Outgoing,
    /// What has become of the outgoing connection, while the node has not been told.
    news: Option<News>,
    /// Turns in which the peer had more to say than a turn's share, without a break.
    turns_behind: u32,
    /// The message being handled.
    message: Vec<u8>,
    lag: Lag,
    /// Before a stop: how many messages the peer must have taken in.
    last_words: Option<u64>,
    /// The epoch of the newest heartbeat heard.
    heartbeat_epoch: u32,
    /// What was last said of a failure to connect: it is said again only when it changes.
    failure_told: String,
    failures_total: u64,
    last_failure: String,
    handshakes_total: u64,
    /// Which bbd the peer last said it is.
    release: String,
    /// Who dialled, why the connection ended or did not come up, and how often: one line for each that ever happened.
    connection_ends: Vec<(&'static str, &'static str, u64)>,
}

impl PeerSockets {
    /// Opens `--tcp` and makes ready to dial; nothing without a peer.
    pub(super) fn open(
        config: &Config,
        node: &Node,
        now: Instant,
        registry: &Registry,
        first_token: usize,
    ) -> Result<Option<Self>, ServerError> {
        let (Some(peer), Some(token)) = (&config.peer, &config.secrets.internal_token) else { return Ok(None) };
        let identity = Identity {
            site: config.site.clone(),
            host_id: config.host_id.clone(),
            incarnation: node.incarnation(),
            peer_host_id: Some(peer.host_id.clone()),
            rules: Rules {
                lease_ms: millis(config.lease),
                grace_ms: millis(config.grace),
                on_peer_loss: config.on_peer_loss,
            },
        };
        let token_of = |offset| Token(first_token + offset);
        let mut listener =
            socket::listen(&config.tcp).map_err(|error| ServerError::Tcp(config.tcp.to_string(), error))?;
        let system = |step| move |error| ServerError::System(step, error);
        registry
            .register(&mut listener, token_of(LISTENER), Interest::READABLE)
            .map_err(system("poll the peer's socket"))?;
        let addresses = Addresses::new(&peer.address, registry, token_of(RESOLVER)).map_err(system("make a waker"))?;
        Ok(Some(Self {
            key: Key { identity, token: token.clone() },
            first_token,
            listener,
            has_callers: true,
            accept_paused_until: None,
            incoming: (0..INCOMING_MAX).map(|_| None).collect(),
            proved: None,
            addresses,
            outgoing: Outgoing::new(&peer.address.to_string(), random(), now),
            news: None,
            turns_behind: 0,
            message: Vec::new(),
            lag: Lag::default(),
            last_words: None,
            heartbeat_epoch: 0,
            failure_told: String::new(),
            failures_total: 0,
            last_failure: String::new(),
            handshakes_total: 0,
            release: String::new(),
            connection_ends: Vec::new(),
        }))
    }

    /// Takes another token, for handshakes from now on. Says whether it is another one.
    pub(super) fn set_token(&mut self, token: Secret) -> bool {
        let is_another = self.key.token.expose() != token.expose();
        self.key.token = token;
        is_another
    }

    /// Marks what an event said.
    pub(super) fn note_event(&mut self, event: &Event) {
        match event.token().0 - self.first_token {
            // The answer is looked for anyway.
            RESOLVER => {}
            LISTENER => self.has_callers = true,
            OUTGOING => self.outgoing.note_ready(is_readable(event), socket::is_writable(event)),
            place => {
                if let Some(Some(link)) = self.incoming.get_mut(place - FIRST_INCOMING) {
                    link.note_ready(is_readable(event), event.is_writable());
                }
            }
        }
    }

    /// Whether there is something to do at once.
    pub(super) fn has_work(&self) -> bool {
        self.turns_behind > 0 || self.news.is_some() || (self.has_callers && self.accept_paused_until.is_none())
    }

    /// When there is something to do by the clock alone.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let unproved = self.unproved().map(|(_, link)| link.deadline).min();
        [self.outgoing.next_deadline(), self.accept_paused_until, unproved].into_iter().flatten().min()
    }

    /// What the shell knows of the peer.
    pub(super) fn status(&self, now: Instant) -> PeerStatus {
        PeerStatus {
            host_id: self.key.peer_name().to_owned(),
            version: self.release.clone(),
            lag: self.lag.at(now),
            failures_total: self.failures_total,
            last_failure: self.last_failure.clone(),
            handshakes_total: self.handshakes_total,
            connection_ends: self.connection_ends.clone(),
            forwarded_total: self.outgoing.forwarded_total,
            served_forwards_total: self.outgoing.served_forwards_total,
        }
    }

    fn count_end(&mut self, direction: &'static str, end: &End) {
        let reason = end.name();
        match self.connection_ends.iter_mut().find(|(known, of, _)| (*known, *of) == (direction, reason)) {
            Some((_, _, count)) => *count += 1,
            None => self.connection_ends.push((direction, reason, 1)),
        }
    }

    fn unproved(&self) -> impl Iterator<Item = (usize, &Incoming)> {
        let links = self.incoming.iter().enumerate();
        links.filter_map(|(place, link)| Some((place, link.as_ref()?))).filter(|(_, link)| link.is_unproved())
    }

    /// The connection on which the peer speaks.
    fn proved_link(&mut self) -> Option<&mut Incoming> {
        let (place, _) = self.proved?;
        self.incoming[place].as_mut()
    }
}

impl Server {
    /// Hears the peer, lets it in, and tells the node of the connection that this node dials.
    pub(super) fn serve_peer(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        let is_quiet =
            peer.turns_behind == 0 && peer.proved_link().is_none_or(|link| !link.readable && !link.can_send());
        let is_heard = is_quiet || self.hear_peer().is_some();
        let now = clock::now();
        self.go_on_with_outgoing(now);
        if !is_heard {
            return;
        }
        self.take_callers(now);
        if self.go_on_with_handshakes(now) && self.hear_peer().is_none() {
            return;
        }
        if let Some(news) = self.peer.as_mut().and_then(|peer| peer.news.take()) {
            self.tell_news(clock::now(), news);
        }
    }

    /// Hears what the peer has said, as much as fits into a turn. Says up to when everything is heard; nothing if more waits.
    fn hear_peer(&mut self) -> Option<Now> {
        let mut buffer = mem::take(&mut self.read_buffer);
        let mut message = self.peer.as_mut().map(|peer| mem::take(&mut peer.message)).unwrap_or_default();
        let heard = self.hear_peer_through(&mut buffer, &mut message);
        self.read_buffer = buffer;
        let peer = self.peer.as_mut()?;
        message.clear();
        message.shrink_to(BUFFER_KEPT_BYTES);
        peer.message = message;
        match heard {
            Some(until) => {
                peer.turns_behind = 0;
                Some(until)
            }
            // A peer that never stops must not stop everything that goes by the clock.
            None if peer.turns_behind >= TURNS_BEHIND_MAX => {
                peer.turns_behind = 1;
                Some(clock::now())
            }
            None => {
                peer.turns_behind += 1;
                None
            }
        }
    }

    fn hear_peer_through(&mut self, buffer: &mut [u8], opened: &mut Vec<u8>) -> Option<Now> {
        let mut left_bytes = PEER_BYTES_PER_TURN_MAX;
        loop {
            // What has come by now is read below.
            let now = clock::now();
            let Some(peer) = &mut self.peer else { return Some(now) };
            let Some((_, incarnation)) = peer.proved else { return Some(now) };
            let Some(link) = peer.proved_link() else { return Some(now) };
            if left_bytes == 0 {
                let sent = link.send();
                self.end_incoming_if_over(now, sent);
                return None;
            }
            let over = match link.next(opened) {
                Ok(Step::Message(path)) => match read_opened(path, opened) {
                    Ok(message) => {
                        if let Message::Heartbeat { epoch, .. } = message {
                            peer.heartbeat_epoch = epoch;
                        }
                        left_bytes = left_bytes.saturating_sub(PEER_MESSAGE_COST_BYTES);
                        self.tell_node(now, Input::PeerMessage { incarnation, message });
                        continue;
                    }
                    Err(error) => Err(End::Wrong(error)),
                },
                Ok(Step::More | Step::Proved(_)) => match link.read(buffer) {
                    Ok(Read::Bytes(length)) => {
                        left_bytes = left_bytes.saturating_sub(length);
                        continue;
                    }
                    Ok(Read::Nothing) => link.send(),
                    Err(end) => Err(end),
                },
                Err(error) => Err(End::Wrong(error)),
            };
            self.end_incoming_if_over(now, over);
            return Some(now);
        }
    }

    fn end_incoming_if_over(&mut self, now: Now, so_far: Result<(), End>) {
        let (Err(end), Some(peer)) = (so_far, &mut self.peer) else { return };
        let Some((place, _)) = peer.proved.take() else { return };
        if let Some(link) = peer.incoming[place].take() {
            self.report_end(now, &link, &end);
        }
    }

    /// Lets in who dials `--tcp`. Whoever has not proved himself makes room for the next one, the oldest first: a handshake takes
    /// a moment, and so nobody can keep the peer out by holding all places.
    fn take_callers(&mut self, now: Now) {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let Some(peer) = &mut self.peer else { return };
            if peer.accept_paused_until.is_some_and(|until| until > now.monotonic) || !peer.has_callers {
                return;
            }
            peer.accept_paused_until = None;
            match peer.listener.accept() {
                Ok((stream, address)) => {
                    if let Err(error) = self.admit_caller(now, stream, address) {
                        self.log_error(now, LogEvent::PeerAcceptFailed, &error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => peer.has_callers = false,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    peer.accept_paused_until = Some(now.monotonic + ACCEPT_PAUSE);
                    self.log_error(now, LogEvent::PeerAcceptFailed, &error);
                }
            }
        }
    }

    fn admit_caller(&mut self, now: Now, mut stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        let Some(peer) = &mut self.peer else { return Ok(()) };
        socket::set_options(&stream)?;
        let acceptor = Acceptor::new(&peer.key.identity, peer.key.token(), challenge()?);
        if peer.unproved().count() >= UNPROVED_LINKS_MAX {
            let oldest = peer.unproved().min_by_key(|(_, link)| link.deadline).map(|(place, _)| place);
            if let Some(link) = oldest.and_then(|place| peer.incoming[place].take()) {
                self.report_end(now, &link, &End::Crowded);
            }
        }
        let Some(peer) = &mut self.peer else { return Ok(()) };
        let Some(place) = peer.incoming.iter().position(Option::is_none) else { return Ok(()) };
        let token = Token(peer.first_token + FIRST_INCOMING + place);
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let deadline = now.monotonic + HANDSHAKE_TIME_MAX;
        peer.incoming[place] = Some(Incoming::new(stream, address, acceptor, deadline));
        Ok(())
    }

    /// Goes on with those that have not proved themselves. Says whether one has now.
    fn go_on_with_handshakes(&mut self, now: Now) -> bool {
        let mut has_proved = false;
        let mut buffer = mem::take(&mut self.read_buffer);
        for place in 0..INCOMING_MAX {
            let Some(peer) = &mut self.peer else { break };
            let Some(link) = peer.incoming[place].as_mut().filter(|link| link.is_unproved()) else { continue };
            let shaken = link.shake_hands(&mut buffer, now.monotonic);
            match shaken {
                Ok(None) => {}
                Ok(Some(incarnation)) => {
                    link.release.clone_into(&mut peer.release);
                    // The one before is the same node's, and nothing more is heard of it.
                    if let Some((former, _)) = peer.proved.replace((place, incarnation)) {
                        peer.incoming[former] = None;
                    }
                    peer.outgoing.dial_soon(now.monotonic);
                    has_proved = true;
                }
                Err(end) => {
                    if let Some(link) = peer.incoming[place].take() {
                        self.report_end(now, &link, &end);
                    }
                }
            }
        }
        self.read_buffer = buffer;
        has_proved
    }

    /// Goes on with the connection that this node dials, unless the node has still to be told what has become of it.
    fn go_on_with_outgoing(&mut self, now: Now) {
        let Some(peer) = &mut self.peer else { return };
        if peer.news.is_none() {
            let mut network = Dialling {
                addresses: &mut peer.addresses,
                key: &peer.key,
                registry: self.poll.registry(),
                token: Token(peer.first_token + OUTGOING),
            };
            peer.news = peer.outgoing.advance(now.monotonic, &mut network);
        }
    }

    fn tell_news(&mut self, now: Now, news: News) {
        match news {
            News::Up { peer: other, address } => {
                self.log_differences(now, &other);
                if let Some(peer) = &mut self.peer {
                    peer.failure_told.clear();
                    peer.handshakes_total += 1;
                    let address = address.to_string();
                    let fields = [("peer", Value::Text(peer.key.peer_name())), ("address", Value::Text(&address))];
                    self.log.event(now, LogEvent::PeerLinkUp, &fields);
                }
                self.tell_node(now, Input::PeerUp { incarnation: other.incarnation });
            }
            News::Down(end) => {
                if let Some(peer) = &mut self.peer {
                    let help = end.to_string();
                    let fields = [
                        ("peer", Value::Text(peer.key.peer_name())),
                        ("why", Value::Text(end.name())),
                        ("help", Value::Text(&help)),
                    ];
                    self.log.event(now, LogEvent::PeerLinkDown, &fields);
                    peer.failures_total += 1;
                    peer.last_failure = help;
                    peer.count_end("outgoing", &end);
                }
                self.tell_node(now, Input::PeerDown);
            }
            News::Failed(end) => {
                self.report_failure(now, &end);
                if let End::Refused = end {
                    self.tell_node(now, Input::PeerRefused);
                }
            }
        }
    }

    /// What two nodes may differ in and should not for long.
    fn log_differences(&mut self, now: Now, other: &Peer) {
        let Some(peer) = &self.peer else { return };
        let [ours, its] = [peer.key.identity.rules, other.rules]
            .map(|rules| values::name_of(rules.on_peer_loss, &ON_PEER_LOSS_NAMES));
        if ours != its {
            let fields = [
                ("flag", Value::Text("--on-peer-loss")),
                ("ours", Value::Text(&ours)),
                ("its", Value::Text(&its)),
                ("help", Value::Text("set the same on both; until then there may be two primaries")),
            ];
            self.log.event(now, LogEvent::PeerDiffers, &fields);
        }
    }

    /// A try to connect came to nothing. Said once, until something else is the reason.
    fn report_failure(&mut self, now: Now, end: &End) {
        let Some(peer) = &mut self.peer else { return };
        peer.count_end("outgoing", end);
        let help = end.to_string();
        if peer.failure_told == help {
            return;
        }
        let fields = [
            ("peer", Value::Text(peer.key.peer_name())),
            ("why", Value::Text(end.name())),
            ("help", Value::Text(&help)),
        ];
        let event = if let End::Wrong(_) = end { LogEvent::PeerRefused } else { LogEvent::PeerUnreachable };
        self.log.event(now, event, &fields);
        peer.failure_told = help;
    }

    /// An accepted connection has ended.
    fn report_end(&mut self, now: Now, link: &Incoming, end: &End) {
        if let Some(peer) = &mut self.peer {
            peer.count_end("incoming", end);
        }
        let (address, help) = (link.address.to_string(), end.to_string());
        let fields =
            [("address", Value::Text(&address)), ("why", Value::Text(end.name())), ("help", Value::Text(&help))];
        // Of a proved one the other connection tells the same; and one that never spoke looked whether the port is open.
        let is_nothing = matches!(end, End::Closed | End::Failed(_)) && (!link.is_unproved() || !link.has_spoken);
        if is_nothing {
            self.log.event(now, LogEvent::PeerConnectionEnded, &fields);
        } else {
            self.log.event(now, LogEvent::PeerRefused, &fields);
        }
    }

    /// Ends both connections with a peer that does what no peer does; both are dialled anew.
    pub(super) fn end_links_if_misbehaved(&mut self, now: Now) {
        let Some(peer) = &mut self.peer else { return };
        let Some(why) = peer.outgoing.misbehaved.take() else { return };
        if let Some((place, _)) = peer.proved.take()
            && let Some(link) = peer.incoming[place].take()
        {
            self.report_end(now, &link, &End::Misbehaved(why));
        }
        if let Some(peer) = &mut self.peer
            && peer.outgoing.is_up()
        {
            let news = peer.outgoing.end(now.monotonic, End::Misbehaved(why));
            peer.news = Some(news);
        }
    }

    /// Tells the node that time has passed, if that is of interest to it, and after it has heard all that the peer has said by then.
    pub(super) fn give_timeout(&mut self, now: Now) -> Now {
        let is_due = |node: &Node, now: Now| node.next_timeout().is_some_and(|due| due <= now.monotonic);
        let Some(peer) = &mut self.peer else {
            if is_due(&self.node, now) {
                self.do_what_is_due(now);
            }
            return now;
        };
        let now = clock::now();
        if !is_due(&self.node, now) {
            return now;
        }
        if let Some(link) = peer.proved_link() {
            // The poll was before the process was stopped, if it was.
            link.readable = true;
        }
        if let Some(now) = self.hear_peer()
            && is_due(&self.node, now)
        {
            self.do_what_is_due(now);
        }
        clock::now()
    }

    /// The node does a little of what is due at a time. Of a wave of expiries that is too little, and the whole of it too much: clients
    /// wait.
    fn do_what_is_due(&mut self, now: Now) {
        let began = clock::monotonic();
        self.tell_node(now, Input::Timeout);
        while self.node.has_more_to_expire(now) && clock::monotonic().since(began) < EXPIRIES_TIME_MAX {
            self.tell_node(now, Input::Timeout);
        }
    }

    /// The end of a turn: the node hands out what is to be sent, and it is sent.
    pub(super) fn end_turn_of_peer(&mut self, now: Now) {
        if self.peer.is_none() {
            return;
        }
        self.tell_node(now, Input::EndOfTurn);
        let status = self.node.status();
        let Some(peer) = &mut self.peer else { return };
        let unacknowledged = if status.role == Role::Primary { status.unacknowledged } else { 0 };
        peer.lag.note(now.monotonic, status.changes, unacknowledged);
        let news = if peer.outgoing.holds_answers() && !self.node.may_answer_changes(clock::now()) {
            Some(peer.outgoing.end(now.monotonic, End::LeaseOver))
        } else {
            peer.outgoing.send(now.monotonic)
        };
        // Told once everything is heard that the peer has said before.
        peer.news = peer.news.take().or(news);
    }

    /// Whether this node may leave, as far as the peer goes. If it was handed this node's place, it must have said as primary that it
    /// lives: behind that come no more requests that it has forwarded before. From there on it must have taken in all that has
    /// been said so far; of what is said still later nobody waits for anything.
    pub(super) fn is_peer_served(&mut self) -> bool {
        let has_handed_over = self.handing_over && self.node.role() == Role::Secondary;
        let epoch = self.node.status().epoch;
        let Some(peer) = &mut self.peer else { return true };
        let Some((said, taken_in)) = peer.outgoing.said_and_taken_in() else { return true };
        if has_handed_over && peer.heartbeat_epoch != epoch {
            return false;
        }
        taken_in >= *peer.last_words.get_or_insert(said)
    }

    fn log_error(&mut self, now: Now, event: LogEvent, error: &io::Error) {
        let why = error.to_string();
        self.log.event(now, event, &[("error", Value::Text(&why))]);
    }
}

/// Bounds what nobody would set.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

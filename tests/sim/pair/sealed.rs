//! What a machine does with its sockets in the runs in which the link is sealed: the daemon's own connections, served in the order of the
//! daemon's own loop (`Server::serve_peer`). It stands in for the shell, and owns nothing that the daemon's link does.

use super::coverage::Met;
use super::host::Arrival;
use super::ledger::Wrong;
use super::socket::{Kernels, Plug, Roughness};
use super::world::{Event, World};
use crate::rng::Rng;
use bigbunny::node::{Entropy as _, OnPeerLoss, Role};
use bigbunny::peer::End;
use bigbunny::peer::incoming::{Incoming, Read, Step};
use bigbunny::peer::limits::HANDSHAKE_TIME_MAX;
use bigbunny::peer::link::{Acceptor, Dialler, Identity, LinkError, Rules, read_opened};
use bigbunny::peer::message::read_message;
use bigbunny::peer::outgoing::{Address, Network, News, Outgoing};
use bigbunny::time::Instant;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// Connections that have not proved themselves, at most: the shell's bound.
const UNPROVED_MAX: usize = 16;

/// The sockets of one process.
pub(crate) struct Sockets {
    identity: Rc<Identity>,
    pub(crate) outgoing: Outgoing<Plug>,
    news: Option<News>,
    /// Accepted by the kernel alone.
    callers: Vec<Plug>,
    incoming: Vec<Incoming<Plug>>,
    /// The connection that has proved itself, and which life of the peer it is.
    proved: Option<(u64, u64)>,
    /// When it is looked at them again by the clock.
    due: Option<u64>,
    /// What has been said and not been heard, each with how often.
    said: BTreeMap<u64, u32>,
}

impl Sockets {
    pub(crate) fn new(identity: Identity, random: u64, now: Instant) -> Self {
        Self {
            identity: identity.into(),
            outgoing: Outgoing::new("other:1", random, now),
            news: None,
            callers: Vec::new(),
            incoming: Vec::new(),
            proved: None,
            due: None,
            said: BTreeMap::new(),
        }
    }

    fn proved_place(&self) -> Option<usize> {
        let (connection, _) = self.proved?;
        self.incoming.iter().position(|link| link.socket().connection == connection)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let unproved = self.incoming.iter().filter(|link| link.is_unproved()).map(|link| link.deadline).min();
        Instant::earliest([self.outgoing.next_deadline(), unproved])
    }
}

/// How one machine dials the other.
struct Dialling<'w> {
    connection: u64,
    identity: Rc<Identity>,
    token: &'w [u8],
    roughness: Roughness,
    rng: &'w mut Rng,
    dialled: Option<Rc<RefCell<Kernels>>>,
}

impl Network for Dialling<'_> {
    type Socket = Plug;

    fn next_address(&mut self, _now: Instant) -> Address {
        Address::Known(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
    }

    fn take_resolved(&mut self) -> Option<io::Result<()>> {
        None
    }

    fn dial(&mut self, _address: SocketAddr) -> io::Result<Plug> {
        let kernels = Rc::new(RefCell::new(Kernels::new(self.roughness, self.rng.fork())));
        self.dialled = Some(Rc::clone(&kernels));
        Ok(Plug { connection: self.connection, end: 0, kernels })
    }

    fn begin_handshake(&mut self) -> io::Result<(Dialler, Vec<u8>)> {
        Ok(Dialler::new(&self.identity, self.token, challenge(self.rng)))
    }
}

fn challenge(rng: &mut Rng) -> [u8; 32] {
    let mut challenge = [0; 32];
    rng.fill(&mut challenge);
    challenge
}

/// A message, for the comparison of what was said and what is heard.
fn message_hash(life: u64, bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(life, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

impl World {
    /// Who this life says that it is.
    pub(crate) fn identity(&self, place: usize) -> Identity {
        let ids = ["a", "b"];
        Identity {
            site: "site".to_owned(),
            host_id: ids[place].to_owned(),
            incarnation: self.hosts[place].node.as_deref().map_or(0, bigbunny::node::Node::incarnation),
            peer_host_id: Some(ids[1 - place].to_owned()),
            rules: Rules {
                lease_ms: 2000,
                grace_ms: 2000,
                on_peer_loss: if self.profile.safe { OnPeerLoss::Safe } else { OnPeerLoss::Available },
            },
        }
    }

    fn token(&self, place: usize) -> [u8; 5] {
        [b't', b'o', b'k', b'n', self.hosts[place].token]
    }

    /// A connection waits to be accepted.
    pub(crate) fn calls(&mut self, place: usize, plug: Plug) {
        if let Some(sockets) = &mut self.hosts[place].sockets {
            sockets.callers.push(plug);
            self.hosts[place].has_ready_sockets = true;
            self.schedule(self.now, Event::Sockets { place, life: self.hosts[place].life });
        }
    }

    /// The kernel tells a process that one of its sockets can be read or written again.
    pub(crate) fn readies(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let place = connection.places[end];
        let Some(sockets) = self.hosts.get_mut(place).and_then(|host| host.sockets.as_mut()) else { return };
        if end == 0 {
            if self.dialled_by(place) == Some(id)
                && let Some(sockets) = &mut self.hosts[place].sockets
            {
                sockets.outgoing.note_ready(true, true);
            }
        } else if let Some(link) = sockets.incoming.iter_mut().find(|link| link.socket().connection == id) {
            link.note_ready(true, true);
        }
        if !std::mem::replace(&mut self.hosts[place].has_ready_sockets, true) {
            self.schedule(self.now, Event::Sockets { place, life: self.hosts[place].life });
        }
    }

    /// Something is to be done with the sockets, now or when the process looks again.
    pub(crate) fn sockets_are_due(&mut self, place: usize, life: u64) -> Result<(), Wrong> {
        let host = &mut self.hosts[place];
        let Some(sockets) = host.sockets.as_mut().filter(|_| host.life == life) else { return Ok(()) };
        if sockets.due.is_some_and(|due| due <= self.now) {
            sockets.due = None;
        }
        host.has_ready_sockets = true;
        if host.busy_until > self.now || host.unsent.is_some() {
            self.wakes_later(place);
            return Ok(());
        }
        self.serves(place)?;
        self.wakes_if_any(place);
        Ok(())
    }

    /// The peer's part of one turn.
    pub(crate) fn serves(&mut self, place: usize) -> Result<(), Wrong> {
        self.hosts[place].has_ready_sockets = false;
        if let Some(arrival) = self.next_of_sockets(place)? {
            // There may be more.
            self.hosts[place].has_ready_sockets = true;
            return self.process(place, arrival);
        }
        self.flushes(place)
    }

    /// What the sockets bring next: first what the peer has said, then what has become of connections.
    fn next_of_sockets(&mut self, place: usize) -> Result<Option<Arrival>, Wrong> {
        loop {
            if let Some(arrival) = self.hears(place)? {
                return Ok(Some(arrival));
            }
            self.goes_on_with_outgoing(place);
            self.accepts(place);
            if self.shakes_hands(place) {
                continue;
            }
            let Some(news) = self.hosts[place].sockets.as_mut().and_then(|sockets| sockets.news.take()) else {
                return Ok(None);
            };
            match news {
                News::Up { peer, .. } => {
                    let generation = self.dialled_by(place).unwrap_or(0);
                    return Ok(Some(Arrival::PeerUp { incarnation: peer.incarnation, generation }));
                }
                News::Down(end) => {
                    self.met_end(place, "its own connection", &end);
                    return Ok(Some(Arrival::PeerDown));
                }
                News::Failed(end) => {
                    self.met_end(place, "a try to connect", &end);
                    if let End::Refused = end {
                        return Ok(Some(Arrival::PeerRefused));
                    }
                }
            }
        }
    }

    fn met_end(&mut self, place: usize, what: &str, end: &End) {
        self.tell(|_| format!("{place}: {what} ends: {}", end.name()));
        let met = match end {
            End::Closed => Met::EndClosed,
            End::Refused => Met::EndRefused,
            End::Failed(error) if error.kind() == io::ErrorKind::TimedOut => Met::EndNoAnswer,
            End::Failed(_) => Met::EndReset,
            End::TimedOut => Met::EndHandshakeTooLong,
            End::Crowded => Met::EndCrowded,
            End::LeaseOver => Met::EndLeaseOver,
            End::Wrong(LinkError::NotHttp(_)) => Met::EndNotHttp,
            End::Wrong(LinkError::Altered) => Met::EndAltered,
            End::Wrong(LinkError::TooLong { .. }) => Met::EndTooLong,
            End::Wrong(LinkError::StrangeAnswer | LinkError::UnaskedAnswer) => Met::EndStrangeAnswer,
            End::Wrong(LinkError::WrongToken) => Met::EndWrongToken,
            End::Wrong(_) => Met::EndOtherwiseWrong,
            End::Unresolved(_) | End::Misbehaved(_) | End::Overflowed => return,
        };
        self.coverage.met(met);
    }

    /// The next message on the connection that has proved itself.
    fn hears(&mut self, place: usize) -> Result<Option<Arrival>, Wrong> {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let heard = self.hears_through(place, &mut buffer);
        self.read_buffer = buffer;
        heard
    }

    fn hears_through(&mut self, place: usize, buffer: &mut [u8]) -> Result<Option<Arrival>, Wrong> {
        let Some(sockets) = &mut self.hosts[place].sockets else { return Ok(None) };
        let (Some((connection, from)), Some(at)) = (sockets.proved, sockets.proved_place()) else { return Ok(None) };
        let link = &mut sockets.incoming[at];
        let mut opened = Vec::new();
        let end = loop {
            match link.next(&mut opened) {
                Ok(Step::Message(path)) => match read_opened(path, &opened) {
                    Ok(_) => {
                        self.check_was_said(place, from, &opened)?;
                        if self.dialled_by(1 - place) != Some(connection) {
                            self.coverage.met(Met::LateMessage);
                        }
                        return Ok(Some(Arrival::Message { from, bytes: opened }));
                    }
                    Err(error) => break End::Wrong(error),
                },
                Ok(Step::More | Step::Proved(_)) => match link.read(buffer) {
                    Ok(Read::Bytes(_)) => {}
                    Ok(Read::Nothing) => match link.send() {
                        Ok(()) => return Ok(None),
                        Err(end) => break end,
                    },
                    Err(end) => break end,
                },
                Err(error) => break End::Wrong(error),
            }
        };
        sockets.incoming.remove(at);
        sockets.proved = None;
        self.met_end(place, "the other's connection", &end);
        Ok(None)
    }

    /// Whatever a node hears, the other has said, and each thing once.
    fn check_was_said(&mut self, place: usize, from: u64, bytes: &[u8]) -> Result<(), Wrong> {
        let other = &mut self.hosts[1 - place];
        if other.node.as_ref().is_none_or(|node| node.incarnation() != from) {
            // A life that is over: its words are over with it.
            return Ok(());
        }
        let said = other.sockets.as_mut().and_then(|sockets| sockets.said.get_mut(&message_hash(from, bytes)));
        match said {
            Some(times) if *times > 0 => {
                *times -= 1;
                Ok(())
            }
            _ => Err(format!("sealed-link: {place} hears what the other did not say: {:?}", read_message(bytes))),
        }
    }

    fn goes_on_with_outgoing(&mut self, place: usize) {
        let (token, connection) = (self.token(place), self.last_connection + 1);
        let host = &mut self.hosts[place];
        let now = host.clock.read(self.now).monotonic;
        let Some(sockets) = host.sockets.as_mut().filter(|sockets| sockets.news.is_none()) else { return };
        let mut network = Dialling {
            connection,
            identity: Rc::clone(&sockets.identity),
            token: &token,
            roughness: self.profile.roughness,
            rng: &mut self.net_rng,
            dialled: None,
        };
        sockets.news = sockets.outgoing.advance(now, &mut network);
        if let Some(kernels) = network.dialled {
            self.last_connection = connection;
            self.dialled(place, connection, kernels);
        }
    }

    fn accepts(&mut self, place: usize) {
        let token = self.token(place);
        let host = &mut self.hosts[place];
        let Some(sockets) = host.sockets.as_mut().filter(|sockets| !sockets.callers.is_empty()) else { return };
        let deadline = host.clock.read(self.now).monotonic + HANDSHAKE_TIME_MAX;
        let mut crowded = 0;
        for plug in sockets.callers.drain(..) {
            let mut unproved = sockets.incoming.iter().enumerate().filter(|(_, link)| link.is_unproved());
            if let (Some((oldest, _)), others) = (unproved.next(), unproved.count())
                && others + 1 >= UNPROVED_MAX
            {
                sockets.incoming.remove(oldest);
                crowded += 1;
            }
            let acceptor = Acceptor::new(&sockets.identity, &token, challenge(&mut self.net_rng));
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2));
            sockets.incoming.push(Incoming::new(plug, address, acceptor, deadline));
        }
        for _ in 0..crowded {
            self.met_end(place, "a stranger's connection", &End::Crowded);
        }
    }

    /// Goes on with those that have not proved themselves. Says whether one has now.
    fn shakes_hands(&mut self, place: usize) -> bool {
        let host = &mut self.hosts[place];
        let now = host.clock.read(self.now).monotonic;
        let Some(sockets) = &mut host.sockets else { return false };
        let mut ends = Vec::new();
        let mut has_proved = false;
        let mut at = 0;
        while at < sockets.incoming.len() {
            let link = &mut sockets.incoming[at];
            if !link.is_unproved() {
                at += 1;
                continue;
            }
            match link.shake_hands(&mut self.read_buffer, now) {
                Ok(None) => at += 1,
                Ok(Some(incarnation)) => {
                    let connection = link.socket().connection;
                    // The one before is the same node's, and nothing more is heard of it.
                    if let Some((former, _)) = sockets.proved.replace((connection, incarnation)) {
                        self.coverage.met(Met::ConnectionReplaced);
                        sockets.incoming.retain(|link| link.socket().connection != former);
                    }
                    sockets.outgoing.dial_soon(now);
                    has_proved = true;
                    at = 0;
                }
                Err(end) => {
                    sockets.incoming.remove(at);
                    ends.push(end);
                }
            }
        }
        for end in ends {
            self.met_end(place, "an unproved connection", &end);
        }
        has_proved
    }

    /// A node sends on the connection that it has dialled.
    pub(crate) fn says(&mut self, place: usize, life: u64, bytes: &[u8]) {
        let Some(sockets) = self.hosts[place].sockets.as_mut().filter(|sockets| sockets.outgoing.is_up()) else {
            return;
        };
        *sockets.said.entry(message_hash(life, bytes)).or_insert(0) += 1;
        sockets.outgoing.push(&read_message(bytes).expect("what was written reads back"));
    }

    /// The end of a turn: what waits is sent, unless it may not be any more.
    pub(crate) fn flushes(&mut self, place: usize) -> Result<(), Wrong> {
        let host = &mut self.hosts[place];
        let (Some(node), Some(sockets)) = (&host.node, &mut host.sockets) else { return Ok(()) };
        let now = host.clock.read(self.now);
        let news = if sockets.outgoing.holds_answers() && !node.may_answer_changes(now) {
            Some(sockets.outgoing.end(now.monotonic, End::LeaseOver))
        } else {
            let lease_holds = host.forced || host.lease_until > now.monotonic;
            let is_bound = self.profile.safe && node.role() == Role::Primary;
            if sockets.outgoing.holds_answers() && is_bound && !lease_holds {
                return Err(format!("no-answer-without-lease: node {place} answers the other's client"));
            }
            sockets.outgoing.send(now.monotonic)
        };
        sockets.news = sockets.news.take().or(news);
        host.has_ready_sockets |= sockets.news.is_some();
        let deadline = sockets.next_deadline().map(|at| host.clock.when(at));
        if let Some(at) = deadline
            && sockets.due.is_none_or(|due| due > at)
        {
            sockets.due = Some(at);
            let life = host.life;
            self.schedule(at, Event::Sockets { place, life });
        }
        self.carries(place);
        Ok(())
    }
}

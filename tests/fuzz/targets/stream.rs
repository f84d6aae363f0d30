//! One node, told anything by its peer, its clients and the clock, in any order.

use bigbunny::node::request::{ConnectionId, RequestId};
use bigbunny::node::response::Response;
use bigbunny::node::{Event, Input, Limits, Node, NodeConfig, OnPeerLoss, Outbox, PeerConfig, PeerMisbehaved, Role};
use bigbunny::peer::message::{Message, read_message, write_message};
use bigbunny::time::Instant;

use super::bytes::{Bytes, Seeded, now};
use super::requests::Known;

/// Steps of one run: longer ones find nothing more.
const STEPS_MAX: usize = 300;
/// Times that a node may ask for more time at once, in one step: far more than its work can be cut into.
const TIMEOUTS_A_STEP_MAX: usize = 100_000;

/// What a node said.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) known: Known,
    pub(crate) answered: Vec<RequestId>,
    pub(crate) misbehaved: Option<PeerMisbehaved>,
    pub(crate) events: Vec<Event>,
}

impl Outbox for Said {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        self.known.learn(&response);
        self.answered.push(id);
    }

    fn send_peer(&mut self, message: Message<'_>) {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &message).expect("a node's messages are short enough");
        assert!(read_message(&bytes).is_ok(), "what a node says can be read: {message:?}");
        self.messages.push(bytes);
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        self.misbehaved = Some(why);
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// The settings of the two nodes `a` and `b`: small limits, so that they are met.
pub(crate) fn config(own: &str, other: &str, choices: u8) -> NodeConfig {
    let peer = PeerConfig {
        own_id: own.to_owned(),
        peer_id: other.to_owned(),
        heartbeat_interval_ms: 200,
        lease_ms: 2000,
        grace_ms: 2000,
        on_peer_loss: if choices & 1 == 0 { OnPeerLoss::Available } else { OnPeerLoss::Safe },
        replicate_all: choices & 2 != 0,
        backlog_limit_bytes: if choices & 4 == 0 { 1 << 20 } else { 30_000 },
    };
    NodeConfig {
        limits: Limits {
            memory_limit_bytes: if choices & 8 == 0 { 0 } else { 60_000 },
            customer_memory_quota_bytes: if choices & 16 == 0 { 0 } else { 30_000 },
            rate_limit_per_second: if choices & 32 == 0 { 0 } else { 3 },
            burst_size: 3,
            tombstone_customer_limit: if choices & 64 == 0 { 0 } else { 3 },
            tombstone_global_limit: if choices & 64 == 0 { 0 } else { 5 },
        },
        peer: Some(peer),
        ..NodeConfig::default()
    }
}

/// Has a node do all that is due.
pub(crate) fn run_timeouts(node: &mut Node, at: Instant, said: &mut Said) {
    for _ in 0..TIMEOUTS_A_STEP_MAX {
        if node.next_timeout().is_none_or(|due| due > at) {
            return;
        }
        node.handle(now(at), Input::Timeout, said);
        node.handle(now(at), Input::EndOfTurn, said);
    }
    panic!("a node that is never done is busy for ever");
}

/// Each step is a message, made up or as bytes, or another input.
pub fn stream(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut at = Instant::from_millis(1000);
    let mut node = Node::new(config("a", "b", bytes.byte()), Box::new(Seeded(1)), now(at));
    let mut said = Said::default();
    for step in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        let status = node.status();
        let incarnation = 1 + bytes.below(3) as u64;
        let input = match bytes.below(16) {
            0 => {
                at = at + std::time::Duration::from_millis(bytes.pause_ms());
                Input::EndOfTurn
            }
            1 => Input::PeerUp { incarnation },
            2 => Input::PeerDown,
            3 => Input::PeerRefused,
            4 => Input::Promote { id: RequestId(step as u64), force: bytes.below(2) == 1 },
            5 => Input::ConnectionClosed { connection: ConnectionId(bytes.below(4) as u64) },
            6 | 7 => Input::Request { id: RequestId(step as u64), request: said.known.request(&mut bytes) },
            8 => match read_message(bytes.piece()) {
                Ok(message) => Input::PeerMessage { incarnation, message },
                Err(_) => continue,
            },
            // What would be next in the stream that it follows.
            9..=11 => {
                let first_number = if bytes.below(8) == 7 { bytes.number() } else { status.changes + 1 };
                let epoch = if bytes.below(8) == 7 { bytes.number() as u32 } else { status.epoch };
                let count = 1 + bytes.below(3) as u32;
                let clock_offset_ns = if bytes.below(4) == 3 { bytes.number() as i64 } else { 0 };
                let records = bytes.piece();
                let message = Message::Changes { epoch, first_number, count, clock_offset_ns, records };
                Input::PeerMessage { incarnation, message }
            }
            _ => Input::PeerMessage {
                incarnation,
                message: message(&mut bytes, status.epoch, status.changes, at, &said),
            },
        };
        let mut wire = Vec::new();
        let input = match input {
            Input::PeerMessage { incarnation, message } => match as_heard(&message, &mut wire) {
                Some(message) => Input::PeerMessage { incarnation, message },
                None => continue,
            },
            Input::Request { .. }
            | Input::ConnectionClosed { .. }
            | Input::Timeout
            | Input::EndOfTurn
            | Input::PeerUp { .. }
            | Input::PeerDown
            | Input::PeerRefused
            | Input::Promote { .. } => input,
        };
        node.handle(now(at), input, &mut said);
        node.handle(now(at), Input::EndOfTurn, &mut said);
        if said.misbehaved.take().is_some() {
            node.handle(now(at), Input::PeerDown, &mut said);
            node.handle(now(at), Input::EndOfTurn, &mut said);
        }
        run_timeouts(&mut node, at, &mut said);
        if step % 16 == 15 {
            node.check_invariants();
        }
    }
    node.check_invariants();
    let mut answered = said.answered.clone();
    answered.sort_unstable_by_key(|id| id.0);
    answered.dedup();
    assert_eq!(answered.len(), said.answered.len(), "each is answered once at most");
}

/// What cannot be said on the wire is not heard.
fn as_heard<'w>(message: &Message<'_>, wire: &'w mut Vec<u8>) -> Option<Message<'w>> {
    write_message(wire, message).ok()?;
    read_message(wire).ok()
}

/// A message with numbers near those that mean something.
fn message<'b>(bytes: &mut Bytes<'b>, epoch: u32, number: u64, at: Instant, said: &Said) -> Message<'b> {
    let near_epoch = match bytes.below(8) {
        0 => bytes.number() as u32,
        1 => epoch.wrapping_add(1),
        2 => epoch.wrapping_sub(1),
        _ => epoch,
    };
    let near_number = match bytes.below(8) {
        0 => bytes.number(),
        1 => number.wrapping_add(1),
        2 => number.wrapping_sub(1),
        3 => 0,
        _ => number,
    };
    let (epoch, number) = (near_epoch, near_number);
    let primary = 1 + bytes.below(3) as u64;
    let sent_at_ns = if bytes.below(4) == 3 { bytes.number() } else { at.as_nanos() };
    match bytes.below(14) {
        0 => {
            let role = [Role::Joining, Role::Primary, Role::Secondary][bytes.below(3)];
            Message::Status { role, epoch, number }
        }
        1 => Message::Join { epoch, primary, number },
        2 => Message::Begin { epoch, primary, number, base: bytes.number() },
        3 => Message::Resume { epoch, primary, number, base: bytes.number() },
        4 | 5 => Message::Heartbeat { epoch, sent_at_ns },
        6 => Message::Ack { epoch, number, heartbeat_sent_at_ns: sent_at_ns, sent_at_ns },
        7 => Message::Handover { epoch },
        8 => Message::HandoverDone { epoch, number },
        9 => Message::HandoverRefused { epoch },
        10 => Message::Forward { id: bytes.below(4) as u64, request: said.known.request(bytes) },
        11 => {
            let id = bytes.below(8) as u64;
            let bytes = bytes.piece();
            let mut reader = bigbunny::wire::Reader::new(bytes);
            match bigbunny::node::codec::read_response(&mut reader) {
                Ok(response) => Message::Forwarded { id, response },
                Err(_) => Message::Handover { epoch },
            }
        }
        12 => {
            let ids = (0..bytes.below(4)).map(|_| bytes.below(8) as u64).collect();
            Message::Unanswered { heard: bytes.below(8) as u64, ids }
        }
        _ => Message::ConnectionClosed { connection: ConnectionId(bytes.below(4) as u64) },
    }
}

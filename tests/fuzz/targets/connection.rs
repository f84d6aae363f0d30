//! Connections of clients from their bytes to the bytes they get, through all that is pure: reading, the API, the node, writing. Time is
//! virtual, and what leaves is read strictly.

use std::collections::VecDeque;
use std::time::Duration;

use bigbunny::api::{self, ApiError, Call, Door, ReplyShape};
use bigbunny::http::{CONTINUE, HeadLimits, HttpDate, ReplyFrame, write_error};
use bigbunny::node::request::{ConnectionId, RequestId};
use bigbunny::node::response::Response;
use bigbunny::node::{Event, Input, Limits, Node, NodeConfig, Outbox, PeerMisbehaved};
use bigbunny::peer::message::Message;
use bigbunny::server::intake::{ChunkedScratch, Context, Intake, Step};
use bigbunny::store_id::KeyRing;
use bigbunny::time::{Instant, WallTime};

use super::bytes::{Seeded, now};
use super::http::{SETTINGS, keyring};

const LIMITS: HeadLimits = HeadLimits { max_head_bytes: 2048, max_target_bytes: 512, max_fields: 24 };
const CONNECTIONS: usize = 3;
/// These bytes never stand in a request that is any good, so they mean something else here, with the byte behind them.
const PAUSE: u8 = 0;
const STORE_ID: u8 = 1;
const LOCK_ID: u8 = 2;
const SWITCH: u8 = 3;
const CLOSE: u8 = 4;
/// More is not asked in one run.
const INPUT_BYTES_MAX: usize = 64 * 1024;

struct Owed {
    frame: ReplyFrame,
    shape: ReplyShape,
}

#[derive(Default)]
struct Client {
    intake: Option<Intake>,
    input: Vec<u8>,
    output: Vec<u8>,
    owed: Option<Owed>,
    /// Of each answer still to be read, whether it has no body.
    heads_only: VecDeque<bool>,
    is_closing: bool,
}

/// The clients, as far as the node sees them.
struct Clients {
    all: [Client; CONNECTIONS],
    keyring: KeyRing,
    date: HttpDate,
    /// Clients whose next request may be served now.
    answered: Vec<usize>,
}

impl Clients {
    fn write(&mut self, client: usize, frame: ReplyFrame, write: impl FnOnce(&mut Vec<u8>, &HttpDate)) {
        let client = &mut self.all[client];
        write(&mut client.output, &self.date);
        client.heads_only.push_back(frame.head_only);
        client.is_closing |= frame.close;
    }

    fn refuse(&mut self, client: usize, frame: ReplyFrame, error: &ApiError) {
        self.write(client, frame, |out, date| api::write_api_error(out, &frame, date, error));
    }
}

impl Outbox for Clients {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        let client = &mut self.all[id.0 as usize % CONNECTIONS];
        let Some(Owed { frame, shape }) = client.owed.take() else { return };
        api::write_answer(&mut client.output, &frame, &self.date, shape, &response, &mut self.keyring);
        client.heads_only.push_back(frame.head_only);
        client.is_closing |= frame.close;
        self.answered.push(id.0 as usize % CONNECTIONS);
    }

    fn send_peer(&mut self, message: Message<'_>) {
        panic!("a node without a peer says {message:?}");
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        panic!("a node without a peer complains of {why:?}");
    }

    fn event(&mut self, event: Event) {
        panic!("a node without a peer has no {event:?}");
    }
}

struct World {
    node: Node,
    clients: Clients,
    /// Opens what the clients' own has sealed.
    keyring: KeyRing,
    at: Instant,
    /// What clients have learnt.
    store_ids: Vec<Vec<u8>>,
    lock_ids: Vec<Vec<u8>>,
}

/// What clients send, with pauses between.
pub fn connection(input: &[u8]) {
    if input.len() > INPUT_BYTES_MAX {
        return;
    }
    let at = Instant::from_millis(1000);
    let config = NodeConfig {
        limits: Limits {
            memory_limit_bytes: 20_000,
            customer_memory_quota_bytes: 9_000,
            burst_size: 20,
            tombstone_customer_limit: 5,
            tombstone_global_limit: 8,
            ..Limits::default()
        },
        ..NodeConfig::default()
    };
    let clients =
        Clients { all: Default::default(), keyring: keyring(), date: HttpDate::new(WallTime(0)), answered: Vec::new() };
    let mut world = World {
        node: Node::new(config, Box::new(Seeded(1)), now(at)),
        clients,
        keyring: keyring(),
        at,
        store_ids: Vec::new(),
        lock_ids: Vec::new(),
    };
    let mut current = 0;
    let mut rest = input;
    while let Some((&first, behind)) = rest.split_first() {
        let argument = behind.first().copied().unwrap_or(0);
        let choice = usize::from(argument);
        match first {
            PAUSE => {
                const PAUSES_MS: [u64; 6] = [1, 100, 500, 2000, 60_000, 1_300_000_000];
                world.at = world.at + Duration::from_millis(PAUSES_MS[choice % PAUSES_MS.len()]);
                world.run_timeouts();
            }
            STORE_ID => {
                let id = world.store_ids.get(choice % 8).cloned().unwrap_or_default();
                world.send(current, &id);
            }
            LOCK_ID => {
                let id = world.lock_ids.get(choice % 8).cloned().unwrap_or_default();
                world.send(current, &id);
            }
            SWITCH => current = choice % CONNECTIONS,
            CLOSE => world.close(current),
            _ => {
                let length = rest.iter().position(|byte| *byte <= CLOSE).unwrap_or(rest.len());
                world.send(current, &rest[..length]);
                rest = &rest[length..];
                continue;
            }
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    world.node.check_invariants();
}

impl World {
    fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients.all[client].input.extend_from_slice(bytes);
        self.clients.answered.push(client);
        self.serve();
    }

    fn close(&mut self, client: usize) {
        self.clients.all[client] = Client::default();
        let connection = ConnectionId(client as u64);
        self.node.handle(now(self.at), Input::ConnectionClosed { connection }, &mut self.clients);
        self.serve();
    }

    fn run_timeouts(&mut self) {
        for _ in 0..100_000 {
            if self.node.next_timeout().is_none_or(|due| due > self.at) {
                return self.serve();
            }
            self.node.handle(now(self.at), Input::Timeout, &mut self.clients);
        }
        panic!("a node that is never done is busy for ever");
    }

    /// Serves whoever can go on, until nobody can.
    fn serve(&mut self) {
        let mut scratch = ChunkedScratch::default();
        while let Some(client) = self.clients.answered.pop() {
            let input = std::mem::take(&mut self.clients.all[client].input);
            let mut used = 0;
            while self.serve_next(client, &input, &mut used, &mut scratch) {}
            let state = &mut self.clients.all[client];
            if !state.is_closing {
                state.input.splice(..0, input[used..].iter().copied());
            }
            self.read_answers(client);
            if self.clients.all[client].is_closing && self.clients.all[client].owed.is_none() {
                self.clients.all[client] = Client::default();
                let connection = ConnectionId(client as u64);
                self.node.handle(now(self.at), Input::ConnectionClosed { connection }, &mut self.clients);
            }
        }
    }

    /// Serves one request. Says whether there may be another.
    fn serve_next(&mut self, client: usize, input: &[u8], used: &mut usize, scratch: &mut ChunkedScratch) -> bool {
        let state = &mut self.clients.all[client];
        if state.owed.is_some() || state.is_closing {
            return false;
        }
        // Taken out while it is served, as the server's connections do with their buffers.
        let mut intake = state.intake.take().unwrap_or_else(Intake::new);
        let mut context =
            Context { head_limits: &LIMITS, settings: &SETTINGS, door: &Door::Main, keyring: &mut self.keyring };
        // What is read ahead is just what comes.
        let ahead = intake.whole_request(&input[*used..], &context);
        let ahead = ahead.and_then(|mut request| request.prepared.open(context.keyring).is_ok().then_some(request));
        let ahead = ahead.map(|request| (request.bytes, format!("{:?} {:?}", request.prepared, request.body)));
        let (consumed, step) = intake.next(&input[*used..], scratch, &mut context);
        if let Some(ahead) = ahead {
            let Step::Request { prepared, body, .. } = &step else { panic!("a whole request is none") };
            assert_eq!(ahead, (consumed, format!("{prepared:?} {body:?}")));
        }
        *used += consumed;
        assert!(*used <= input.len());
        let goes_on = match step {
            Step::More => false,
            Step::Ask { .. } => {
                self.clients.all[client].output.extend_from_slice(CONTINUE);
                false
            }
            Step::Request { frame, mut prepared, body } => {
                let shape = prepared.reply_shape();
                let connection = ConnectionId(client as u64);
                match prepared.call(connection, body) {
                    Ok(Call::Node(request)) => {
                        self.clients.all[client].owed = Some(Owed { frame, shape });
                        let id = RequestId(client as u64);
                        self.node.on_request(now(self.at), id, request, &mut self.clients);
                        self.node.handle(now(self.at), Input::EndOfTurn, &mut self.clients);
                    }
                    Ok(&Call::Promote { force }) => {
                        self.clients.all[client].owed = Some(Owed { frame, shape });
                        let id = RequestId(client as u64);
                        self.node.handle(now(self.at), Input::Promote { id, force }, &mut self.clients);
                    }
                    Ok(Call::Page(_)) => {
                        self.clients.write(client, frame, |out, date| write_error(out, &frame, date, 400, "a page"));
                    }
                    Ok(Call::ReleaseLock { .. }) => {
                        self.clients.write(client, frame, |out, date| api::write_released(out, &frame, date, false));
                    }
                    Err(error) => self.clients.refuse(client, frame, &error),
                }
                true
            }
            Step::Refused { frame, error, .. } => {
                self.clients.refuse(client, frame, &error);
                true
            }
            Step::Broken { frame, error } => {
                let frame = ReplyFrame { close: true, ..frame };
                self.clients.write(client, frame, |out, date| {
                    write_error(out, &frame, date, error.status, error.message);
                });
                false
            }
        };
        self.clients.all[client].intake = Some(intake);
        goes_on
    }

    /// Reads what a client got, strictly, and keeps the ids for later.
    fn read_answers(&mut self, client: usize) {
        let output = std::mem::take(&mut self.clients.all[client].output);
        let mut rest = &output[..];
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix(CONTINUE) {
                rest = behind;
                continue;
            }
            let head_only = self.clients.all[client].heads_only.pop_front().expect("an answer that nobody asked for");
            let Answer { lock_id, body, length } = read_answer(rest, head_only).expect("a good answer");
            if let Some(lock_id) = lock_id {
                self.lock_ids.push(lock_id.to_vec());
                self.lock_ids.truncate(8);
            }
            if body.starts_with(b"v1:") {
                self.store_ids.push(body.to_vec());
                self.store_ids.truncate(8);
            }
            rest = &rest[length..];
        }
        assert!(self.clients.all[client].heads_only.is_empty(), "an answer is missing");
    }
}

/// One answer, as a client reads it.
pub(crate) struct Answer<'b> {
    lock_id: Option<&'b [u8]>,
    body: &'b [u8],
    length: usize,
}

/// Reads one answer strictly.
pub(crate) fn read_answer(bytes: &[u8], head_only: bool) -> Result<Answer<'_>, String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("the head has no end")?;
    let head = str::from_utf8(&bytes[..end]).map_err(|_| "the head is no UTF-8")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    let status = status.filter(|status| (200..600).contains(status)).ok_or(format!("status line {line:?}"))?;
    let mut length = None;
    let mut lock_id = None;
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or(format!("header line {line:?}"))?;
        if line.chars().any(char::is_control) {
            return Err(format!("control character in header line {line:?}"));
        }
        match name {
            "Content-Length" => length = Some(value.parse::<usize>().map_err(|_| format!("length {value:?}"))?),
            "BigBunny-Lock-ID" => lock_id = Some(value.as_bytes()),
            _ => {}
        }
    }
    let length = if head_only || status == 204 { 0 } else { length.ok_or("no length")? };
    let body = bytes.get(end + 4..end + 4 + length).ok_or("the body is cut")?;
    Ok(Answer { lock_id, body, length: end + 4 + length })
}

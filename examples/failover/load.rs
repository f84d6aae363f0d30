//! Clients that write as fast as they are answered, and remember what became of every change.
//!
//! A client has one connection and names of its own, which it writes in turn. Each body begins with the number of the change, so
//! that what a node holds afterwards tells which changes it has.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use memchr::memmem;

/// The customer that all of it belongs to.
pub(crate) const CUSTOMER: &str = "failover";
/// A client that was refused, or found nobody, tries again after this.
const PAUSE: Duration = Duration::from_millis(1);
/// A client that gets no answer for so long looks whether it is to stop.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
/// Names that are read back at a time.
const READS_AT_A_TIME: usize = 64;
/// The number of a change as it stands at the start of its body.
const NUMBER_BYTES: usize = 20;

/// What clients do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// How many there are.
    pub(crate) clients: usize,
    /// Requests that each has under way at a time.
    pub(crate) depth: usize,
    /// Names that each writes in turn.
    pub(crate) names: u64,
    /// The size of a body.
    pub(crate) body_bytes: usize,
    /// Changes are remembered one by one, and not only counted.
    pub(crate) remembers: bool,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with success, by a primary of this epoch.
    Done {
        /// From the `ETag`.
        epoch: u32,
        /// The answer said `DegradedWrite`.
        is_degraded: bool,
    },
    /// It was answered otherwise, with this status.
    Refused(u16),
    /// The connection ended before its answer.
    Unanswered,
}

impl Outcome {
    pub(crate) const fn is_done(self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) number: u64,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// All changes of one client, in the order of their ends; those of one connection are answered in the order of their numbers.
pub(crate) struct Record {
    client: String,
    names: u64,
    pub(crate) changes: Vec<Change>,
}

impl Record {
    fn name_of(&self, number: u64) -> String {
        format!("{}-{}", self.client, number % self.names)
    }

    /// The longest time without a success between these two moments.
    pub(crate) fn longest_gap(&self, since: Instant, until: Instant) -> Duration {
        let done = self.changes.iter().filter(|change| change.outcome.is_done()).map(|change| change.ended);
        let mut last = since;
        let mut longest = Duration::ZERO;
        for ended in done.filter(|ended| (since..until).contains(ended)).chain([until]) {
            longest = longest.max(ended - last);
            last = ended;
        }
        longest
    }

    /// How many changes ended between these two moments without success.
    pub(crate) fn failures(&self, since: Instant, until: Instant) -> usize {
        let ended = self.changes.iter().filter(|change| (since..until).contains(&change.ended));
        ended.filter(|change| !change.outcome.is_done()).count()
    }

    /// Changes that were answered with success and that the node on `socket` does not have, as it is now.
    pub(crate) fn lost(&self, socket: &Path) -> std::io::Result<Vec<Change>> {
        let mut newest: BTreeMap<u64, Vec<Change>> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.outcome.is_done()) {
            newest.entry(change.number % self.names).or_default().push(*change);
        }
        let mut lost = Vec::new();
        let mut connection = Connection::open(socket)?;
        let names: Vec<u64> = newest.keys().copied().collect();
        for names in names.chunks(READS_AT_A_TIME) {
            let held = connection.read_numbers(names.iter().map(|name| self.name_of(*name)))?;
            for (name, held) in names.iter().zip(held) {
                lost.extend(newest[name].iter().filter(|change| held.is_none_or(|held| held < change.number)));
            }
        }
        Ok(lost)
    }
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Record>>,
}

impl Load {
    /// Starts clients of the node on `socket`; `who` makes their names differ from those of other loads.
    pub(crate) fn start(socket: &Path, who: &str, plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let clients = (0..plan.clients).map(|index| {
            let client = Client {
                socket: socket.to_owned(),
                plan,
                stop: Arc::clone(&stop),
                done: Arc::clone(&done),
                record: Record { client: format!("{who}{index}"), names: plan.names, changes: Vec::new() },
            };
            spawn(move || client.run())
        });
        let clients = clients.collect();
        Self { stop, done, clients }
    }

    /// Changes answered with success so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the clients, each when its last answer has come or will not come.
    pub(crate) fn stop(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().filter_map(|client| client.join().ok()).collect()
    }
}

struct Client {
    socket: PathBuf,
    plan: Plan,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    record: Record,
}

impl Client {
    fn run(mut self) -> Record {
        let mut next = 0;
        while !self.is_over() {
            match Connection::open(&self.socket) {
                Ok(mut connection) => next = self.use_connection(&mut connection, next),
                Err(_) => sleep(PAUSE),
            }
        }
        self.record
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Writes on one connection until it ends or the load does; returns the number of the next change.
    fn use_connection(&mut self, connection: &mut Connection, mut next: u64) -> u64 {
        let mut under_way: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut requests = Vec::new();
        loop {
            requests.clear();
            let sent = Instant::now();
            while under_way.len() < self.plan.depth && !self.is_over() {
                self.write_request(next, &mut requests);
                under_way.push_back((next, sent));
                next += 1;
            }
            if under_way.is_empty() {
                return next;
            }
            let is_alive = connection.send(&requests) && connection.receive(&self.stop);
            let mut was_refused = false;
            while let (Some(answer), Some(&(number, sent))) = (connection.answer(), under_way.front()) {
                under_way.pop_front();
                let outcome = answer.outcome();
                was_refused |= !outcome.is_done();
                self.done.fetch_add(u64::from(outcome.is_done()), Ordering::Relaxed);
                self.remember(Change { number, sent, ended: Instant::now(), outcome });
            }
            if !is_alive {
                let ended = Instant::now();
                for (number, sent) in under_way {
                    self.remember(Change { number, sent, ended, outcome: Outcome::Unanswered });
                }
                return next;
            }
            if was_refused {
                sleep(PAUSE);
            }
        }
    }

    fn remember(&mut self, change: Change) {
        if self.plan.remembers {
            self.record.changes.push(change);
        }
    }

    fn write_request(&self, number: u64, requests: &mut Vec<u8>) {
        let (name, length) = (self.record.name_of(number), self.plan.body_bytes);
        let head = format!(
            "PUT /api/v1/named/{name} HTTP/1.1\r\nHost: bbd\r\nX-Customer-ID: {CUSTOMER}\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n{number:0NUMBER_BYTES$}"
        );
        requests.extend_from_slice(head.as_bytes());
        requests.resize(requests.len() + length - NUMBER_BYTES, b'x');
    }
}

/// An answer, as far as anybody here looks at it.
struct Answer {
    status: u16,
    epoch: u32,
    is_degraded: bool,
    body: Vec<u8>,
}

impl Answer {
    const fn outcome(&self) -> Outcome {
        match self.status {
            200..300 => Outcome::Done { epoch: self.epoch, is_degraded: self.is_degraded },
            status => Outcome::Refused(status),
        }
    }
}

/// A connection, with what was received on it and not looked at yet.
struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    taken: usize,
}

impl Connection {
    fn open(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self { stream, received: Vec::new(), taken: 0 })
    }

    /// Sends all of it; a node that does not read is waited for.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Waits for bytes, though not beyond the end of the load. Says whether the connection lives.
    fn receive(&mut self, stop: &AtomicBool) -> bool {
        self.received.drain(..std::mem::take(&mut self.taken));
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    self.received.extend_from_slice(&buffer[..length]);
                    return true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if stop.load(Ordering::Relaxed) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }

    /// The next whole answer among what was received.
    fn answer(&mut self) -> Option<Answer> {
        let bytes = &self.received[self.taken..];
        let head_end = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = str::from_utf8(&bytes[..head_end]).ok()?;
        let field = |name: &str| {
            let (_, rest) = head.split_once(name)?;
            rest.split_once("\r\n").map(|(value, _)| value)
        };
        let length = field("\r\nContent-Length: ").and_then(|value| value.parse().ok()).unwrap_or(0);
        let body = bytes.get(head_end..head_end + length)?.to_vec();
        let epoch = field("\r\nETag: \"").and_then(|etag| etag.split('.').next()?.parse().ok());
        let answer = Answer {
            status: head.get(9..12)?.parse().ok()?,
            epoch: epoch.unwrap_or(0),
            is_degraded: field("\r\nBigBunny-Warning: ").is_some_and(|warning| warning.contains("DegradedWrite")),
            body,
        };
        self.taken += head_end + length;
        Some(answer)
    }

    /// For each name the number of the change that it holds, if there is the name.
    fn read_numbers(&mut self, names: impl Iterator<Item = String>) -> std::io::Result<Vec<Option<u64>>> {
        let mut requests = Vec::new();
        let mut count = 0;
        for name in names {
            let head = format!("GET /api/v1/named/{name} HTTP/1.1\r\nHost: bbd\r\nX-Customer-ID: {CUSTOMER}\r\n\r\n");
            requests.extend_from_slice(head.as_bytes());
            count += 1;
        }
        let answers = self.ask(&requests, count)?;
        let number = |answer: &Answer| str::from_utf8(answer.body.get(..NUMBER_BYTES)?).ok()?.parse().ok();
        Ok(answers.iter().map(|answer| number(answer).filter(|_| answer.status == 200)).collect())
    }

    /// Sends requests and waits for all of their answers.
    fn ask(&mut self, requests: &[u8], count: usize) -> std::io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        let never = AtomicBool::new(false);
        let mut is_alive = self.send(requests);
        while answers.len() < count {
            if !is_alive {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            is_alive = self.receive(&never);
            while let Some(answer) = self.answer() {
                answers.push(answer);
            }
        }
        Ok(answers)
    }
}

/// Makes so many stores of one size, as fast as they are taken.
pub(crate) fn fill(socket: &Path, stores: u64, body_bytes: usize) -> std::io::Result<()> {
    let plan = Plan { clients: 1, depth: 64, names: stores, body_bytes, remembers: false };
    let load = Load::start(socket, "fill", plan);
    while load.done() < stores {
        if load.clients.iter().all(JoinHandle::is_finished) {
            return Err(std::io::Error::other("the node takes no stores"));
        }
        sleep(PAUSE);
    }
    load.stop();
    Ok(())
}

/// What the node answers to a `GET`.
pub(crate) fn get(socket: &Path, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: bbd\r\n\r\n");
    let answers = Connection::open(socket)?.ask(request.as_bytes(), 1)?;
    Ok(answers.iter().map(|answer| String::from_utf8_lossy(&answer.body)).collect())
}

//! The clients of the simulated cluster: what they ask of which node, what they do without an answer, and the histories that come of it.

use std::collections::BTreeMap;

use bigbunny::json::{self, Value};
use bigbunny::kv::ask::{Answer, Question};
use bigbunny::kv::command::{Change, Command};

use crate::history::{Back, Histories, OPERATIONS_MAX, Operation, What};
use crate::rng::Rng;

/// So many keys are asked for at a time; one that is full is followed by a new one.
const KEYS: usize = 5;
const RETRIES_MAX: u32 = 8;
/// Room in a key's history that is left for the reads at the end.
const READS_AT_END: usize = 28;

/// An operation that has no answer yet.
struct Open {
    key: String,
    /// Its place in the history of its key.
    at: usize,
    what: What,
    /// With one it is sent again when its fate is unknown.
    idempotency_key: Option<String>,
    node: usize,
    retries: u32,
    /// Everything up to here was applied somewhere before it was asked.
    known: u64,
}

/// What a read has shown.
#[derive(Debug)]
pub struct Shown {
    pub key: String,
    pub value: Option<String>,
    /// Everything up to here was applied somewhere before it was asked.
    pub known: u64,
}

/// All clients.
pub struct Clients {
    rng: Rng,
    pub histories: Histories,
    keys: [u64; KEYS],
    open: BTreeMap<u64, Open>,
    next_id: u64,
    next_value: u64,
    next_stale_id: u64,
    /// Reads that may be stale, and have no answer yet: their keys.
    stale: BTreeMap<u64, String>,
    /// Everything up to here is applied somewhere.
    pub applied: u64,
    pub done: u64,
    pub mismatches: u64,
    pub unknown: u64,
    pub refused: u64,
    pub retried: u64,
}

/// What a client does next.
#[derive(Clone, Debug)]
pub struct Asked {
    pub id: u64,
    pub node: usize,
    pub question: Question,
}

/// What an answer leads to.
#[derive(Default)]
pub struct Led {
    /// The client asks again.
    pub again: Option<Asked>,
    /// The answer says that this command, as bytes, is the entry at this index; and whether the write was sent more than once.
    pub claim: Option<(u64, Vec<u8>, bool)>,
    /// What a read has shown.
    pub shown: Option<Shown>,
}

impl Clients {
    pub fn new(rng: Rng, first_id: u64, first_stale_id: u64) -> Self {
        Self {
            rng,
            histories: Histories::default(),
            keys: std::array::from_fn(|at| at as u64),
            open: BTreeMap::new(),
            next_id: first_id,
            next_value: 0,
            next_stale_id: first_stale_id,
            stale: BTreeMap::new(),
            applied: 0,
            done: 0,
            mismatches: 0,
            unknown: 0,
            refused: 0,
            retried: 0,
        }
    }

    pub fn open_len(&self) -> usize {
        self.open.len()
    }

    /// What has no answer, for people.
    pub fn open(&self) -> String {
        let story = |(id, open): (&u64, &Open)| format!("{id} of {}, {:?}, at node {}", open.key, open.what, open.node);
        self.open.iter().map(story).collect::<Vec<String>>().join("; ")
    }

    fn command(what: &What, key: &str, idempotency_key: Option<&String>) -> Option<Command> {
        let key = key.to_owned();
        let change = match what.clone() {
            What::Read => return None,
            What::Set(value) => Change::Set { key, value },
            What::Delete => Change::Delete { key },
            What::Cas(expect, value) => Change::Cas { key, expect, value },
        };
        Some(Command { idempotency_key: idempotency_key.cloned(), changes: vec![change], is_batch: false })
    }

    fn question(what: &What, key: &str, idempotency_key: Option<&String>) -> Question {
        match Self::command(what, key, idempotency_key) {
            None => Question::Read { key: key.to_owned() },
            // As it comes over the wire.
            Some(command) => Question::Write(Command::read(&command.to_bytes()).unwrap()),
        }
    }

    /// Asks something of a node at random.
    pub fn ask(&mut self, now: u64, nodes: usize) -> Option<Asked> {
        let place = self.rng.index(KEYS);
        let is_full = |history: &Vec<Operation>| history.len() >= OPERATIONS_MAX - READS_AT_END;
        if self.histories.0.get(&format!("key-{}", self.keys[place])).is_some_and(is_full) {
            self.keys[place] = self.keys.iter().max().unwrap() + 1;
        }
        let key = format!("key-{}", self.keys[place]);
        self.next_value += 1;
        let value = self.next_value.to_string();
        let known = |rng: &mut Rng, last: u64| (!rng.one_in(4)).then(|| (last - rng.below(last.min(12))).to_string());
        let what = match self.rng.below(10) {
            0..4 => What::Read,
            4..7 => What::Set(value),
            7 => What::Delete,
            _ => What::Cas(known(&mut self.rng, self.next_value), (!self.rng.one_in(5)).then_some(value)),
        };
        let node = self.rng.index(nodes);
        let is_idempotent = what != What::Read && self.rng.one_in(3);
        self.begin(now, key, what, node, is_idempotent)
    }

    /// Asks a node at random for what it has applied, however old that is.
    pub fn ask_stale(&mut self, nodes: usize) -> Asked {
        let place = self.rng.index(KEYS);
        let key = format!("key-{}", self.keys[place]);
        self.next_stale_id += 1;
        let (id, node) = (self.next_stale_id, self.rng.index(nodes));
        self.stale.insert(id, key.clone());
        Asked { id, node, question: Question::Read { key } }
    }

    /// What an answer to that shows: a key, and its value.
    pub fn on_stale_answer(&mut self, id: u64, answer: &Answer) -> (String, Option<String>) {
        let key = self.stale.remove(&id).expect("it was asked once");
        (key, (answer.status == 200).then(|| ok_of(&answer.body)).flatten())
    }

    /// What a scenario asks: that, or a new value.
    pub fn ask_for(&mut self, now: u64, key: &str, what: Option<What>, node: usize) -> Option<Asked> {
        self.next_value += 1;
        let what = what.unwrap_or(What::Set(self.next_value.to_string()));
        self.begin(now, key.to_owned(), what, node, false)
    }

    /// Reads keys through a node, at the end: all of them, or a few.
    pub fn read_all(&mut self, now: u64, node: usize, is_all: bool) -> Vec<Asked> {
        let keys: Vec<String> = self.histories.0.keys().cloned().collect();
        let few = keys.len().saturating_sub(if is_all { usize::MAX } else { 4 });
        keys.into_iter().skip(few).filter_map(|key| self.begin(now, key, What::Read, node, false)).collect()
    }

    fn begin(&mut self, now: u64, key: String, what: What, node: usize, is_idempotent: bool) -> Option<Asked> {
        let history = self.histories.0.entry(key.clone()).or_default();
        let most = if what == What::Read { OPERATIONS_MAX } else { OPERATIONS_MAX - READS_AT_END };
        if history.len() >= most {
            return None;
        }
        let at = history.len();
        history.push(Operation { what: what.clone(), asked: now, back: None });
        self.next_id += 1;
        let id = self.next_id;
        let idempotency_key = is_idempotent.then(|| format!("once-{id}"));
        let question = Self::question(&what, &key, idempotency_key.as_ref());
        let known = self.applied;
        self.open.insert(id, Open { key, at, what, idempotency_key, node, retries: 0, known });
        Some(Asked { id, node, question })
    }

    /// An answer has come.
    pub fn on_answer(&mut self, now: u64, id: u64, answer: &Answer, nodes: usize) -> Led {
        let Some(open) = self.open.remove(&id) else { return Led::default() };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let mut claim = None;
        let back = match (answer.status, &open.what) {
            (200, What::Read) => Back::Done(ok_of(&answer.body)),
            (404, What::Read) => Back::Done(None),
            (200, _) => {
                let command = Self::command(&open.what, &open.key, open.idempotency_key.as_ref()).unwrap();
                claim = Some((index_of(&text), command.to_bytes(), open.retries > 0));
                Back::Done(None)
            }
            (409, What::Cas(..)) => {
                self.mismatches += 1;
                Back::Mismatch(mismatch_of(&answer.body))
            }
            (503, _) if text.contains("NoLeader") && open.retries == 0 => {
                // For sure nothing was done.
                self.refused += 1;
                self.withdraw(&open);
                return Led::default();
            }
            (507, _) if open.retries == 0 => {
                self.refused += 1;
                self.withdraw(&open);
                return Led::default();
            }
            (503 | 507, _) => return Led { again: self.on_lost_answer(id, open, nodes), ..Led::default() },
            (status, _) => panic!("an answer of {status}: {text}"),
        };
        self.done += 1;
        let shown = match (&open.what, &back) {
            (What::Read, Back::Done(value)) => {
                Some(Shown { key: open.key.clone(), value: value.clone(), known: open.known })
            }
            _ => None,
        };
        self.histories.0.get_mut(&open.key).unwrap()[open.at].back = Some((now, back));
        Led { again: None, claim, shown }
    }

    /// Whoever asked a node that is gone gets no answer. Says what to ask again.
    pub fn on_crash(&mut self, node: usize, nodes: usize) -> Vec<Asked> {
        let lost: Vec<u64> = self.open.iter().filter(|(_, open)| open.node == node).map(|(id, _)| *id).collect();
        let mut again = Vec::new();
        for id in lost {
            let open = self.open.remove(&id).unwrap();
            again.extend(self.on_lost_answer(id, open, nodes));
        }
        again
    }

    /// Nobody listens where a question went: nothing was done there. Says what to ask again.
    pub fn on_refused(&mut self, id: u64, nodes: usize) -> Option<Asked> {
        let open = self.open.remove(&id)?;
        if open.retries == 0 {
            self.refused += 1;
            self.withdraw(&open);
            return None;
        }
        self.on_lost_answer(id, open, nodes)
    }

    /// A client waits no longer. Says whether it still waited, for an answer of which node, and what it asks again.
    pub fn give_up(&mut self, id: u64, nodes: usize) -> Option<(usize, Option<Asked>)> {
        let open = self.open.remove(&id)?;
        Some((open.node, self.on_lost_answer(id, open, nodes)))
    }

    fn on_lost_answer(&mut self, id: u64, mut open: Open, nodes: usize) -> Option<Asked> {
        let is_change = open.what != What::Read;
        if open.idempotency_key.is_none() || open.retries == RETRIES_MAX {
            self.unknown += u64::from(is_change);
            if !is_change {
                self.withdraw(&open);
            }
            return None;
        }
        self.retried += 1;
        open.retries += 1;
        open.node = self.rng.index(nodes);
        let question = Self::question(&open.what, &open.key, open.idempotency_key.as_ref());
        let node = open.node;
        self.open.insert(id, open);
        Some(Asked { id, node, question })
    }

    /// Takes an operation out of the history that has changed and seen nothing: as a read without an answer it says nothing.
    fn withdraw(&mut self, open: &Open) {
        let operation = &mut self.histories.0.get_mut(&open.key).unwrap()[open.at];
        operation.what = What::Read;
        operation.back = None;
    }
}

fn ok_of(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(object)) = json::read_value(body) else { panic!("no object") };
    match object.members().pop() {
        Some((name, Value::String(text))) if name == "Ok" => Some(text.into_owned()),
        other => panic!("no value: {other:?}"),
    }
}

/// The last number in an answer: `…"index":N}}`
pub fn index_of(text: &str) -> u64 {
    let (_, number) = text.rsplit_once("\"index\":").expect("an answer with an index");
    number.trim_end_matches('}').parse().expect("an index")
}

/// `{"Err":{"CasMismatch":{"value":…}}}`
fn mismatch_of(body: &[u8]) -> Option<String> {
    let mut value = json::read_value(body).unwrap();
    while let Value::Object(object) = value {
        value = object.members().pop().unwrap().1;
    }
    match value {
        Value::String(text) => Some(text.into_owned()),
        Value::Null => None,
        Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Array(_) | Value::Object(_) => {
            panic!("neither a value nor null")
        }
    }
}

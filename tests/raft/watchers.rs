//! Clients that watch: they are told all that happened under a prefix, once each and in order, from whichever node they ask.

use bigbunny::json::{self, Value};
use bigbunny::kv::ask::{Answer, Question};
use bigbunny::kv::map::Map;

use crate::clients::Asked;
use crate::rng::Rng;

/// They look at part of the keys.
const PREFIX: &str = "key-1";

/// An index, a key, and its value if it has one.
type Happening = (u64, String, Option<String>);

/// One that watches.
struct Watcher {
    node: usize,
    id: u64,
    /// It knows all up to here.
    from: u64,
}

/// What one was told: all between two indexes.
struct Told {
    from: u64,
    upto: u64,
    happenings: Vec<Happening>,
}

/// All of them.
pub struct Watchers {
    rng: Rng,
    watchers: Vec<Watcher>,
    told: Vec<Told>,
    next_id: u64,
    pub too_late: u64,
}

impl Watchers {
    pub fn new(mut rng: Rng, first_id: u64) -> Self {
        let count = rng.below(3);
        let watchers = (0..count).map(|at| Watcher { node: 0, id: first_id + at, from: 0 }).collect();
        Self { rng, watchers, told: Vec::new(), next_id: first_id + count, too_late: 0 }
    }

    pub fn answered(&self) -> u64 {
        self.told.len() as u64
    }

    fn ask(&mut self, at: usize, nodes: usize) -> Asked {
        self.next_id += 1;
        let watcher = &mut self.watchers[at];
        (watcher.id, watcher.node) = (self.next_id, self.rng.index(nodes));
        let question = Question::Watch { prefix: PREFIX.to_owned(), from: Some(watcher.from) };
        Asked { id: watcher.id, node: watcher.node, question }
    }

    pub fn ask_all(&mut self, nodes: usize) -> Vec<Asked> {
        (0..self.watchers.len()).map(|at| self.ask(at, nodes)).collect()
    }

    pub fn on_crash(&mut self, node: usize, nodes: usize) -> Vec<Asked> {
        let lost: Vec<usize> = (0..self.watchers.len()).filter(|at| self.watchers[*at].node == node).collect();
        lost.into_iter().map(|at| self.ask(at, nodes)).collect()
    }

    /// Nobody listens where it asked.
    pub fn on_refused(&mut self, id: u64, nodes: usize) -> Option<Asked> {
        let at = self.watchers.iter().position(|watcher| watcher.id == id)?;
        Some(self.ask(at, nodes))
    }

    pub fn on_answer(&mut self, id: u64, answer: &Answer, nodes: usize) -> Option<Asked> {
        let at = self.watchers.iter().position(|watcher| watcher.id == id)?;
        let from = self.watchers[at].from;
        let upto = match answer.status {
            200 => {
                let (happenings, upto) = read_events(&answer.body);
                self.told.push(Told { from, upto, happenings });
                upto
            }
            410 => {
                self.too_late += 1;
                crate::clients::index_of(&String::from_utf8_lossy(&answer.body))
            }
            status => panic!("a watch is answered with {status}"),
        };
        self.watchers[at].from = upto;
        Some(self.ask(at, nodes))
    }

    /// Holds what was told against all that happened.
    pub fn check(&self, replayed: &Map) -> Result<(), String> {
        // Where too much has happened for one history nothing can be said.
        let Some(events) = replayed.events_behind(0) else { return Ok(()) };
        let under_prefix = |key: &str| key.starts_with(PREFIX);
        let all: Vec<Happening> = events
            .filter(|event| under_prefix(&event.key))
            .map(|event| (event.index, event.key.to_string(), event.value.as_ref().map(|value| value.to_string())))
            .collect();
        for told in &self.told {
            let between = |happening: &&Happening| happening.0 > told.from && happening.0 <= told.upto;
            if !all.iter().filter(between).eq(&told.happenings) {
                let expected: Vec<&Happening> = all.iter().filter(between).collect();
                return Err(format!(
                    "a watch from {} to {} was told {:?}, and this happened: {expected:?}",
                    told.from, told.upto, told.happenings
                ));
            }
        }
        Ok(())
    }
}

fn read_events(body: &[u8]) -> (Vec<Happening>, u64) {
    let mut happenings = Vec::new();
    let mut upto = 0;
    let Ok(Value::Object(answer)) = json::read_value(body) else { panic!("no object") };
    let Some((_, Value::Object(ok))) = answer.members().pop() else { panic!("no Ok") };
    for (name, value) in ok.members() {
        match (&*name, value) {
            ("index", Value::Integer(index)) => upto = index as u64,
            ("events", Value::Array(events)) => happenings.extend(events.items().map(read_event)),
            other => panic!("{other:?}"),
        }
    }
    (happenings, upto)
}

fn read_event(event: Value<'_>) -> Happening {
    let Value::Object(event) = event else { panic!("no event") };
    let (mut index, mut key, mut new) = (0, String::new(), None);
    for (name, value) in event.members() {
        match (&*name, value) {
            ("index", Value::Integer(at)) => index = at as u64,
            ("key", Value::String(text)) => key = text.into_owned(),
            ("value", Value::String(text)) => new = Some(text.into_owned()),
            ("value", Value::Null) => {}
            other => panic!("{other:?}"),
        }
    }
    (index, key, new)
}

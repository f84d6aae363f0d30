//! Two nodes and the network between them, which delays, loses with the connection, and, if it comes to that, alters what they say.
//! While nothing was altered they must end up the same.

use std::collections::VecDeque;
use std::time::Duration;

use bigbunny::node::request::{ConnectionId, RequestId};
use bigbunny::node::{Input, Node, Role};
use bigbunny::peer::message::read_message;
use bigbunny::time::Instant;

use super::bytes::{Bytes, Seeded, now};
use super::stream::{Said, config, run_timeouts};

const STEPS_MAX: usize = 200;
/// So long two nodes may take that reach each other: patience, a handover, a snapshot, and time to spare.
const CONVERGE: Duration = Duration::from_secs(12);
const TICK: Duration = Duration::from_millis(50);

struct Pair {
    at: Instant,
    nodes: [Option<Node>; 2],
    said: [Said; 2],
    /// What is on its way to each.
    flying: [VecDeque<(u64, Vec<u8>)>; 2],
    is_linked: bool,
    choices: u8,
    lives: u64,
    requests: u64,
    was_altered: bool,
}

impl Pair {
    fn tell(&mut self, place: usize, input: Input<'_>) {
        let (at, said) = (self.at, &mut self.said[place]);
        let Some(node) = &mut self.nodes[place] else { return };
        node.handle(now(at), input, said);
        node.handle(now(at), Input::EndOfTurn, said);
        run_timeouts(node, at, said);
        self.pick_up(place);
    }

    /// What a node said goes on its way, if there is one.
    fn pick_up(&mut self, place: usize) {
        let Some(node) = &self.nodes[place] else { return };
        let incarnation = node.incarnation();
        let said = &mut self.said[place];
        said.events.clear();
        let misbehaved = said.misbehaved.take();
        let messages = std::mem::take(&mut said.messages);
        if self.is_linked {
            self.flying[1 - place].extend(messages.into_iter().map(|message| (incarnation, message)));
        }
        if let Some(why) = misbehaved {
            assert!(self.was_altered, "a node complains of an honest one: {why:?}");
            self.cut();
        }
    }

    fn start(&mut self, place: usize) {
        let names = ["a", "b"];
        self.lives += 1;
        let config = config(names[place], names[1 - place], self.choices);
        self.nodes[place] = Some(Node::new(config, Box::new(Seeded(self.lives)), now(self.at)));
        self.said[place] = Said { known: std::mem::take(&mut self.said[place].known), ..Said::default() };
    }

    fn connect(&mut self) {
        if let ([Some(a), Some(b)], false) = (&self.nodes, self.is_linked) {
            let lives = [a.incarnation(), b.incarnation()];
            self.is_linked = true;
            for place in 0..2 {
                self.tell(place, Input::PeerUp { incarnation: lives[1 - place] });
            }
        }
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.is_linked) {
            self.flying = Default::default();
            for place in 0..2 {
                self.tell(place, Input::PeerDown);
            }
        }
    }

    fn kill(&mut self, place: usize) {
        self.nodes[place] = None;
        self.cut();
        for _ in 0..3 {
            self.tell(1 - place, Input::PeerRefused);
        }
    }

    fn deliver(&mut self, place: usize, alter: Option<&mut Bytes<'_>>) {
        let Some((incarnation, mut message)) = self.flying[place].pop_front() else { return };
        if let Some(bytes) = alter {
            let at = bytes.number() as usize % message.len();
            let by = bytes.byte();
            message[at] ^= by;
            self.was_altered |= by != 0;
        }
        if let Ok(message) = read_message(&message) {
            self.tell(place, Input::PeerMessage { incarnation, message });
        }
    }

    fn let_pass(&mut self, time: Duration) {
        self.at = self.at + time;
        for place in 0..2 {
            let (at, said) = (self.at, &mut self.said[place]);
            if let Some(node) = &mut self.nodes[place] {
                run_timeouts(node, at, said);
                self.pick_up(place);
            }
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let place = bytes.below(2);
        match bytes.below(16) {
            0..=4 => {
                self.requests += 1;
                let request = self.said[bytes.below(2)].known.request(bytes);
                self.tell(place, Input::Request { id: RequestId(self.requests), request });
            }
            5..=7 => (0..=bytes.below(8)).for_each(|_| self.deliver(place, None)),
            8 => self.deliver(place, Some(bytes)),
            9 | 10 => self.let_pass(Duration::from_millis(bytes.pause_ms())),
            11 => self.cut(),
            12 => self.connect(),
            13 => match self.nodes[place] {
                Some(_) => self.kill(place),
                None => self.start(place),
            },
            14 => self.tell(place, Input::Promote { id: RequestId(0), force: bytes.below(4) == 3 }),
            _ => self.tell(place, Input::ConnectionClosed { connection: ConnectionId(bytes.below(4) as u64) }),
        }
    }

    /// All faults end, and time passes.
    fn heal(&mut self) {
        for place in 0..2 {
            if self.nodes[place].is_none() {
                self.start(place);
            }
        }
        self.cut();
        self.connect();
        let until = self.at + CONVERGE;
        while self.at < until {
            self.let_pass(TICK);
            self.connect();
            while self.flying.iter().any(|flying| !flying.is_empty()) {
                (0..2).for_each(|place| self.deliver(place, None));
            }
        }
    }

    fn check(&self) {
        let [Some(a), Some(b)] = &self.nodes else { return };
        a.check_invariants();
        b.check_invariants();
        if self.was_altered {
            return;
        }
        let mut roles = [a.status().role, b.status().role];
        roles.sort_unstable_by_key(|role| *role == Role::Secondary);
        assert_eq!(roles, [Role::Primary, Role::Secondary], "converge");
        let [mut at_a, mut at_b] = [a.image(), b.image()];
        assert_eq!(at_a.len(), at_b.len(), "prefix");
        for (at_a, at_b) in at_a.iter_mut().zip(&mut at_b) {
            // What was long on its way has less time left; how much may be lost is for the simulator, whose network has a clock.
            at_a.ends_ms = at_b.ends_ms;
        }
        assert_eq!(at_a, at_b, "prefix");
    }
}

/// Each step is a request, a delivery, time, or a fault.
pub fn pair(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut pair = Pair {
        at: Instant::from_millis(1000),
        nodes: [None, None],
        said: Default::default(),
        flying: Default::default(),
        is_linked: false,
        choices: bytes.byte(),
        lives: 0,
        requests: 0,
        was_altered: false,
    };
    (0..2).for_each(|place| pair.start(place));
    pair.connect();
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        pair.step(&mut bytes);
    }
    pair.heal();
    pair.check();
}

//! A small space in full: every state of a node that gets a message, every message, of an older, the same and a newer epoch and at
//! the limits, from this life of the peer, the one before and the next. What comes of it is written down once, in [`expected`].

use super::super::peering::StreamId;
use super::super::record::Record;
use super::*;
use crate::peer::message::{EPOCH_MAX, NUMBER_MAX};

/// What the node is that gets the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Joining, and has heard nothing.
    New,
    /// Joining, and has been primary.
    SteppedDown,
    /// Joining, in the middle of a snapshot: a secondary that was too far behind is in this state too.
    InSnapshot,
    /// Primary with a lease.
    Leased,
    /// Primary without one.
    Unleased,
    /// Primary, waiting for the last acknowledgement.
    HandingOver,
    /// In step.
    Secondary,
}

impl State {
    const ALL: [Self; 7] = [
        Self::New,
        Self::SteppedDown,
        Self::InSnapshot,
        Self::Leased,
        Self::Unleased,
        Self::HandingOver,
        Self::Secondary,
    ];

    const fn role(self) -> Role {
        match self {
            Self::New | Self::SteppedDown | Self::InSnapshot => Role::Joining,
            Self::Leased | Self::Unleased | Self::HandingOver => Role::Primary,
            Self::Secondary => Role::Secondary,
        }
    }
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Former,
    Present,
    Next,
}

/// What has become of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stores {
    Same,
    Forgotten,
    /// Others came, or they or their locks changed.
    Changed,
}

/// What a message does. Nothing else counts: what is sent in answer is the other tests' business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    role: Role,
    epoch: u32,
    stores: Stores,
    closed: Option<PeerMisbehaved>,
}

/// The node in its state, with what can be seen of it.
struct Scene {
    pair: Pair,
    place: usize,
    lives: [u64; 3],
}

/// What a node holds, as text: stores, their locks, the books.
fn held(node: &Node) -> String {
    let status = node.status();
    format!("{:?} {} {} {}", node.image(), status.memory_bytes, status.tombstones, status.names)
}

impl Pair {
    fn promote(&mut self, place: usize) {
        self.next_id += 1;
        self.tell(place, Input::Promote { id: RequestId(self.next_id), force: false });
        self.run_ms(250);
        assert_eq!((self.role(place), self.role(1 - place)), (Role::Primary, Role::Secondary));
    }

    fn node(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().unwrap()
    }
}

impl Scene {
    fn new(state: State, place: usize) -> Self {
        let other = 1 - place;
        if state == State::New {
            let mut pair = Pair::new();
            pair.start(place);
            for incarnation in [1, 2] {
                pair.tell(place, Input::PeerUp { incarnation });
            }
            return Self { pair, place, lives: [1, 2, 3] };
        }
        let mut pair = Pair { backlog_limit_bytes: 64 << 10, ..pair_in_step() };
        let former = pair.node(other).incarnation();
        pair.restart_unnoticed(other);
        pair.run_ms(600);
        for name in ["n", "locked", "deleted"] {
            let id = pair.ask(place, put(name, b"hello"));
            pair.done(id);
        }
        for operation in [begin("locked", 0), Operation::Delete { target: Target::Name("deleted".into()) }] {
            let id = pair.ask(place, operation);
            pair.done(id);
        }
        pair.run_ms(50);
        pair.promote(other);
        pair.promote(place);
        match state {
            State::New | State::Leased => {}
            State::Unleased => {
                pair.stopped = Some(other);
                pair.run_ms(2500);
                assert!(pair.node(place).is_degraded(pair.now()));
            }
            State::HandingOver => {
                pair.ask(place, put("unsent", b"x"));
                let now = pair.now();
                assert!(pair.nodes[place].as_mut().unwrap().begin_handover(now));
            }
            State::SteppedDown => {
                let life = pair.node(other).incarnation();
                let epoch = pair.node(place).status().epoch + 1;
                let message = Message::Status { role: Role::Primary, epoch, number: 1 };
                pair.tell(place, Input::PeerMessage { incarnation: life, message });
            }
            State::Secondary => pair.promote(other),
            State::InSnapshot => {
                pair.promote(other);
                pair.cut();
                for number in 0..60 {
                    pair.ask(other, put(&format!("m{number}"), &[1; 2000]));
                }
                pair.connect();
                while pair.role(place) != Role::Joining || pair.node(place).status().stores < 2 {
                    pair.now = pair.now + DELAY;
                    pair.run_ms(0);
                }
            }
        }
        assert_eq!(pair.role(place), state.role(), "{state:?}");
        let present = pair.node(other).incarnation();
        Self { pair, place, lives: [former, present, 1] }
    }

    fn node(&self) -> &Node {
        self.pair.node(self.place)
    }

    fn peering(&self) -> &Peering {
        self.node().peering.as_ref().unwrap()
    }

    /// Hands over the message, as its bytes, and says what came of it.
    fn deliver(&mut self, life: Life, bytes: &[u8]) -> Outcome {
        let before = held(self.node());
        let mut witness = Witness::default();
        let now = self.pair.now();
        let incarnation = self.lives[life as usize];
        let message = read_message(bytes).unwrap();
        let node = self.pair.nodes[self.place].as_mut().unwrap();
        node.handle(now, Input::PeerMessage { incarnation, message }, &mut witness);
        node.handle(now, Input::EndOfTurn, &mut witness);
        node.check_invariants();
        let stores = match held(node) {
            same if same == before => Stores::Same,
            _ if node.image().is_empty() => Stores::Forgotten,
            _ => Stores::Changed,
        };
        Outcome { role: node.role(), epoch: node.status().epoch, stores, closed: witness.closed }
    }
}

#[derive(Default)]
struct Witness {
    said: Said,
    closed: Option<PeerMisbehaved>,
}

impl Outbox for Witness {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        self.said.respond(id, response);
    }

    fn send_peer(&mut self, message: Message<'_>) {
        self.said.send_peer(message);
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        self.closed = Some(why);
    }

    fn event(&mut self, event: Event) {
        self.said.event(event);
    }
}

fn records(records: &[Record<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.write(&mut bytes));
    bytes
}

fn a_store() -> Record<'static> {
    Record::Store {
        key: StoreKey([9; 20]),
        customer: "shop",
        name: Some("another"),
        etag: Etag { epoch: 1, version: 1 },
        expires_ms: 1 << 40,
        content: Content::Blob(b"another"),
    }
}

/// Every message of the epoch, with each number that makes a difference to a node like this.
fn messages<'a>(scene: &Scene, epoch: u32, batches: &'a [(u32, Vec<u8>)]) -> Vec<Message<'a>> {
    let peering = scene.peering();
    let number = peering.number();
    let mut messages = vec![
        Message::Handover { epoch },
        Message::HandoverRefused { epoch },
        Message::Forwarded { id: 0, response: Response::new(Ok(Answer::Done), None) },
        Message::Forwarded { id: u64::MAX, response: Response::new(Err(Refusal::LeaderChanged), None) },
        Message::ConnectionClosed { connection: ConnectionId(0) },
        Message::ConnectionClosed { connection: ConnectionId(u64::MAX) },
        Message::Unanswered { heard: 0, ids: vec![] },
        Message::Unanswered { heard: u64::MAX, ids: vec![0, u64::MAX] },
    ];
    for sent_at_ns in [0, 1, scene.pair.now.as_nanos(), u64::MAX] {
        messages.push(Message::Heartbeat { epoch, sent_at_ns });
    }
    for operation in [put("n", b"changed"), read("n")] {
        let request = Request::new(ConnectionId(7), "shop", operation);
        messages.push(Message::Forward { id: 1 << 40, request });
    }
    let stream = peering.stream.map_or(0, |stream| stream.primary);
    let mut numbers = vec![0, number.saturating_sub(1), number, number + 1, NUMBER_MAX];
    numbers.dedup();
    for number in numbers {
        messages.push(Message::HandoverDone { epoch, number });
        for role in [Role::Joining, Role::Primary, Role::Secondary] {
            messages.push(Message::Status { role, epoch, number });
        }
        for primary in [0, peering.incarnation, stream, scene.lives[1]] {
            messages.push(Message::Join { epoch, primary, number });
        }
        for base in [0, number] {
            messages.push(Message::Begin { epoch, primary: scene.lives[1], number, base });
            messages.push(Message::Resume { epoch, primary: scene.lives[1], number, base });
        }
        for (count, records) in batches {
            messages.push(Message::Changes { epoch, first_number: number, count: *count, clock_offset_ns: 0, records });
        }
        for heartbeat_sent_at_ns in [0, scene.pair.now.as_nanos(), scene.pair.now.as_nanos() + 1] {
            messages.push(Message::Ack { epoch, number, heartbeat_sent_at_ns, sent_at_ns: u64::MAX });
        }
    }
    messages
}

/// What must come of a message of this life of the peer: the rules of sections 1 to 4 of the replication specification. A new kind of
/// message does not compile until it has its rule here.
fn expected(scene: &Scene, state: State, message: &Message<'_>) -> Outcome {
    let own = scene.node().status().epoch;
    let peering = scene.peering();
    let nothing = Outcome { role: state.role(), epoch: own, stores: Stores::Same, closed: None };
    let forgotten = if held(scene.node()).starts_with("[]") { Stores::Same } else { Stores::Forgotten };
    let is_primary = state.role() == Role::Primary;
    let joining = |epoch| Outcome { role: Role::Joining, epoch, stores: forgotten, ..nothing };
    let primary = |epoch| Outcome { role: Role::Primary, epoch, ..nothing };
    // Whoever promotes itself, and was not handed the locks, has none.
    let has_locks = scene.node().image().iter().any(|entry| entry.lock.is_some());
    let alone = |epoch| Outcome { stores: if has_locks { Stores::Changed } else { Stores::Same }, ..primary(epoch) };
    let handed_over = Outcome { role: Role::Secondary, epoch: own + 1, ..nothing };
    let closed = |why| Outcome { closed: Some(why), ..nothing };
    match *message {
        // Any newer epoch ends a primary's, except that of one that has nothing: its only copy is here.
        Message::Status { role: Role::Joining, epoch, .. } if is_primary && epoch > own => primary(epoch + 1),
        Message::Join { primary, .. } if primary == scene.lives[1] => nothing,
        Message::Status { epoch, .. }
        | Message::Join { epoch, .. }
        | Message::Begin { epoch, .. }
        | Message::Resume { epoch, .. }
        | Message::Changes { epoch, .. }
        | Message::Heartbeat { epoch, .. }
        | Message::Ack { epoch, .. }
        | Message::Handover { epoch }
        | Message::HandoverDone { epoch, .. }
        | Message::HandoverRefused { epoch }
            if is_primary && epoch > own =>
        {
            joining(epoch)
        }
        Message::Status { role: Role::Primary, epoch, number } if is_primary && epoch == own => {
            let goes_first = scene.place == 0;
            if (number, !goes_first) > (peering.told_number, goes_first) { joining(own) } else { nothing }
        }
        // One life of the peer cannot go back; another one, which has nothing, begins at epoch 0.
        Message::Status { role: Role::Joining, epoch, .. } if epoch >= peering.peer_epoch => match state.role() {
            Role::Secondary => alone(own.max(epoch) + 1),
            Role::Joining if scene.place == 0 => alone(own.max(epoch) + 1),
            Role::Joining | Role::Primary => nothing,
        },
        // A joiner knows from then on how new its own epoch has to be.
        Message::Status { role: Role::Primary, epoch, .. } if state.role() == Role::Joining => {
            Outcome { epoch: if epoch >= peering.peer_epoch { own.max(epoch) } else { own }, ..nothing }
        }
        Message::Status { .. } => nothing,
        Message::Join { epoch, primary, number } => {
            let stream = StreamId { epoch, primary };
            let is_ours = stream == StreamId { epoch: own, primary: peering.incarnation };
            let has_all = is_ours && number == peering.number();
            if state == State::HandingOver && has_all { handed_over } else { nothing }
        }
        Message::Begin { epoch, .. } => {
            if is_primary || epoch < own {
                nothing
            } else {
                joining(epoch)
            }
        }
        Message::Resume { epoch, number, .. } => {
            let fits = !is_primary && epoch >= own && number == peering.number();
            if fits { Outcome { epoch, ..nothing } } else { nothing }
        }
        Message::Changes { epoch, first_number, count, records, .. } => {
            let follows = matches!(state, State::InSnapshot | State::Secondary);
            if !follows || epoch != own || first_number > peering.number() + 1 {
                return nothing;
            }
            let worthless = Outcome { closed: Some(PeerMisbehaved::ImpossibleRecord), ..joining(own) };
            let is_end = records == [8];
            let is_repeated = first_number <= peering.number();
            match (count, is_end) {
                // Its records are cut, or there are more than it says.
                (0 | 2.., _) => worthless,
                (1, _) if is_repeated => nothing,
                (1, true) if state == State::Secondary => worthless,
                (1, true) => Outcome { role: Role::Secondary, ..nothing },
                (1, false) => Outcome { stores: Stores::Changed, ..nothing },
            }
        }
        Message::Heartbeat { epoch, .. } => {
            if is_primary || epoch < own {
                nothing
            } else {
                Outcome { epoch, ..nothing }
            }
        }
        Message::Ack { epoch, number, heartbeat_sent_at_ns, .. } => {
            if !is_primary || epoch != own {
                nothing
            } else if heartbeat_sent_at_ns > scene.pair.now.as_nanos() || number > peering.number() {
                closed(PeerMisbehaved::AcknowledgedTheFuture)
            } else if state == State::HandingOver && number == peering.number() {
                handed_over
            } else {
                nothing
            }
        }
        Message::Handover { epoch } => {
            if state == State::Leased && epoch == own {
                handed_over
            } else {
                nothing
            }
        }
        Message::HandoverDone { epoch, number } => {
            let fits = state == State::Secondary && epoch == own && number == peering.number();
            if fits { primary(own + 1) } else { nothing }
        }
        Message::HandoverRefused { .. }
        | Message::Forwarded { .. }
        | Message::Unanswered { .. }
        | Message::ConnectionClosed { .. } => nothing,
        Message::Forward { ref request, .. } => {
            let answers = matches!(state, State::Leased | State::Unleased);
            if answers && request.operation.is_change() {
                Outcome { stores: Stores::Changed, ..nothing }
            } else {
                nothing
            }
        }
    }
}

/// Every message that a node like this is tried with, as its bytes, and what is to come of it.
fn tried(state: State, place: usize) -> Vec<(Vec<u8>, Outcome)> {
    let scene = Scene::new(state, place);
    let own = scene.node().status().epoch;
    let batches = [
        (1, records(&[a_store()])),
        (1, records(&[Record::SnapshotEnd])),
        (0, records(&[a_store()])),
        (2, records(&[a_store()])),
        (u32::MAX, Vec::new()),
    ];
    let mut epochs = vec![own, own + 1, EPOCH_MAX];
    epochs.extend((own > 0).then_some(0));
    epochs.extend((own > 1).then(|| own - 1));
    let mut tried = Vec::new();
    for epoch in epochs {
        for message in messages(&scene, epoch, &batches) {
            let mut bytes = Vec::new();
            write_message(&mut bytes, &message).unwrap();
            tried.push((bytes, expected(&scene, state, &message)));
        }
    }
    tried
}

fn every_state() -> impl Iterator<Item = (State, usize)> {
    State::ALL.into_iter().flat_map(|state| [(state, 0), (state, 1)])
}

#[test]
fn every_message_does_what_the_rules_say_in_every_state() {
    let mut wrong = Vec::new();
    for (state, place) in every_state() {
        for (bytes, expected) in tried(state, place) {
            let mut scene = Scene::new(state, place);
            let outcome = scene.deliver(Life::Present, &bytes);
            if outcome != expected {
                let message = read_message(&bytes).unwrap();
                wrong.push(format!("{state:?} at {place}, {message:?}: {outcome:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_former_life_changes_nothing() {
    for (state, place) in every_state() {
        let mut scene = Scene::new(state, place);
        let seen = |scene: &Scene| {
            let node = scene.node();
            (format!("{:?}", node.status()), node.next_timeout(), held(node))
        };
        let before = seen(&scene);
        for (bytes, _) in tried(state, place) {
            let outcome = scene.deliver(Life::Former, &bytes);
            assert_eq!(outcome.closed, None);
            let message = read_message(&bytes).unwrap();
            assert_eq!(seen(&scene), before, "{state:?} at {place}: {message:?}");
        }
    }
}

/// Whatever it says first: that it says anything proves that the life before is over, and its memory gone.
#[test]
fn the_next_life_is_a_restart() {
    for (state, place) in every_state() {
        for (bytes, _) in tried(state, place) {
            let mut scene = Scene::new(state, place);
            let own = scene.node().status().epoch;
            let outcome = scene.deliver(Life::Next, &bytes);
            let message = read_message(&bytes).unwrap();
            let after = format!("{state:?} at {place}, {message:?}: {outcome:?}");
            // A secondary is primary of the next epoch by then, and the message is judged by that.
            let base = if state == State::Secondary { own + 1 } else { own };
            let told = message.epoch().unwrap_or(0);
            assert!(outcome.epoch >= base && outcome.epoch <= base.max(told) + 1, "{after}");
            match state.role() {
                Role::Secondary | Role::Primary => {
                    assert!(outcome.role != Role::Secondary, "nobody is in step with it: {after}");
                    assert!(outcome.role == Role::Primary || told > base || is_rival(&message), "{after}");
                }
                Role::Joining => {
                    let stays = matches!(outcome.stores, Stores::Same | Stores::Forgotten);
                    assert!(stays && outcome.role != Role::Secondary, "{after}");
                }
            }
        }
    }
}

/// Of two primaries of one epoch one steps down.
const fn is_rival(message: &Message<'_>) -> bool {
    matches!(message, Message::Status { role: Role::Primary, .. })
}

#[test]
fn an_epoch_beyond_the_limit_reaches_no_node() {
    let scene = Scene::new(State::Secondary, 0);
    let batches = [(1, records(&[a_store()]))];
    for epoch in [EPOCH_MAX + 1, u32::MAX] {
        for message in messages(&scene, epoch, &batches).iter().filter(|message| message.epoch().is_some()) {
            let mut bytes = Vec::new();
            write_message(&mut bytes, message).unwrap();
            assert!(read_message(&bytes).is_err(), "{message:?}");
        }
    }
}

//! Small spaces in full: every role, and every two messages to it, of an older, its own and a newer term, from a voter, another, a learner
//! and a stranger. Nodes that lie are among them; whatever they say, nothing panics, no term goes down and no vote is given twice.

#![allow(clippy::unwrap_used, reason = "tests")]

use noraft::{ClusterConfig, LogIndex};

use super::*;
use crate::raft::message::Message;

const OWN_TERM: u64 = 5;
const LAST: u64 = 4;

#[derive(Default)]
struct Said {
    batches: Vec<u64>,
    messages: Vec<(NodeId, Message)>,
}

impl Outbox for Said {
    fn save(&mut self, save: Save) {
        self.batches.push(save.batch);
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.messages.push((to, message));
    }
}

fn uuid(number: u8) -> Uuid {
    Uuid::from_random([number; 16])
}

fn id(number: u8) -> NodeId {
    uuid(number).node_id()
}

/// Voters 1 to 3 and the learner 4.
fn membership() -> Arc<Membership> {
    let mut config = ClusterConfig::new();
    config.voters = [id(1), id(2), id(3)].into();
    config.non_voters = [id(4)].into();
    let member = |number| (id(number), Member { uuid: uuid(number), address: format!("10.0.0.{number}:8080") });
    Arc::new(Membership { config, members: (1..=4).map(member).collect() })
}

fn restored(removed: bool) -> Restored {
    let start = Start {
        position: LogPosition { term: Term::new(2), index: LogIndex::new(1) },
        membership: membership(),
        snapshot: LogPosition { term: Term::new(2), index: LogIndex::new(1) },
        is_new: false,
    };
    let command = |text: &str| Entry::Command(text.as_bytes().into());
    let entries = vec![command("a"), Entry::Term(Term::new(OWN_TERM)), command("b")];
    Restored { cluster: Some(uuid(9)), vote: (Term::new(OWN_TERM), None), start, entries, removed }
}

#[derive(Clone, Copy, Debug)]
enum State {
    OfNoCluster,
    Alone,
    Follows,
    AsksBefore,
    Asks,
    Leads,
    HandsOver,
    Learns,
    Removed,
}

const STATES: [State; 9] = [
    State::OfNoCluster,
    State::Alone,
    State::Follows,
    State::AsksBefore,
    State::Asks,
    State::Leads,
    State::HandsOver,
    State::Learns,
    State::Removed,
];

/// A node, what time it is, and for whom it has voted in which term.
struct Told {
    node: Node,
    now: Instant,
    votes: BTreeMap<Term, NodeId>,
}

impl Told {
    fn new(state: State) -> Self {
        let now = Instant::from_millis(1_000);
        let own = if let State::Learns = state { id(4) } else { id(1) };
        let node = if let State::OfNoCluster = state {
            Node::new(now, own, 7, u64::MAX)
        } else {
            Node::restart(now, own, 7, u64::MAX, restored(matches!(state, State::Removed)))
        };
        let mut told = Self { node, now, votes: BTreeMap::new() };
        let (term, next) = (Term::new(OWN_TERM), Term::new(OWN_TERM + 1));
        match state {
            State::OfNoCluster | State::Alone | State::Removed => {}
            State::Follows | State::Learns => {
                told.hear(2, Message::Heartbeat { term, round: 1, commit: Some(LogIndex::new(1)) })
            }
            State::AsksBefore => told.pass_time(),
            State::Asks | State::Leads | State::HandsOver => {
                told.pass_time();
                told.hear(2, Message::PreVoteReply { term, asked: next, granted: true });
                assert!(told.node.is_candidate());
                if !matches!(state, State::Asks) {
                    told.hear(2, Message::VoteReply { term: next, granted: true });
                    assert!(told.node.is_leader());
                }
                if let State::HandsOver = state {
                    assert!(told.node.transfer(told.now, id(3)));
                }
            }
        }
        told
    }

    fn pass_time(&mut self) {
        self.now = self.now + ELECTION_TIMEOUT_MAX;
        self.does(|node, now, said| node.on_time(now, said));
    }

    fn hear(&mut self, from: u8, message: Message) {
        self.does(|node, now, said| node.on_message(now, id(from), message, said));
    }

    /// Something, and all that follows from it; then what must hold.
    fn does(&mut self, act: impl FnOnce(&mut Node, Instant, &mut Said)) {
        let (before, was_leader, committed) = (self.node.term(), self.node.is_leader(), self.node.commit());
        let mut said = Said::default();
        act(&mut self.node, self.now, &mut said);
        self.node.end_turn(self.now, &mut said);
        while let Some(batch) = said.batches.pop() {
            self.node.on_saved(self.now, batch, &mut said);
            self.node.end_turn(self.now, &mut said);
        }
        while self.node.next_event().is_some() {}
        while self.node.next_committed().is_some() {}
        let _ = self.node.next_timeout();
        assert!(self.node.term() >= before, "a term goes down");
        assert!(self.node.commit() >= committed, "what is committed is committed no more");
        assert!(
            !was_leader || self.node.is_leader() || self.node.term() > before,
            "a leader ends without a newer term"
        );
        for (to, message) in said.messages {
            let term = message.term().unwrap_or(before);
            assert!(term <= self.node.term(), "{message:?} is of no term of its own");
            if let Message::VoteReply { term, granted: true } = message {
                assert_eq!(*self.votes.entry(term).or_insert(to), to, "a vote twice in term {}", term.get());
            }
        }
    }
}

/// Every message about a node of that term, as far as one can be read at all.
fn messages(own: u64) -> Vec<Message> {
    let position = |term: u64, index: u64| LogPosition { term: Term::new(term), index: LogIndex::new(index) };
    let (uuid, command) = (uuid(2), Entry::Command(b"c"[..].into()));
    let mut all = vec![
        Message::Hello { cluster: None, uuid, address: "10.0.0.2:8080".to_owned() },
        Message::Forward { id: 1, request: b"?".to_vec() },
        Message::Forwarded { id: 1, response: b"!".to_vec() },
    ];
    for term in [own - 1, own, own + 1] {
        let newest = Term::new(term);
        all.extend([
            Message::TimeoutNow { term: newest },
            Message::Removed { term: newest },
            Message::Heartbeat { term: newest, round: 9, commit: Some(LogIndex::new(LAST)) },
            Message::HeartbeatReply { term: newest, round: 9 },
        ]);
        for granted in [false, true] {
            all.push(Message::VoteReply { term: newest, granted });
            all.push(Message::PreVoteReply { term: newest, asked: Term::new(own + 1), granted });
        }
        for last in [
            position(2, 0),
            position(2, 2),
            position(OWN_TERM, LAST),
            position(term, LAST + 1),
            position(term, LAST + 9),
        ] {
            all.extend([
                Message::PreVote { term: newest, last },
                Message::Vote { term: newest, last },
                Message::AppendReply { term: newest, last, commit: last.index },
                Message::SnapshotReply { term: newest, last, received: 4 },
                Message::Snapshot { term: newest, last, total: 4, offset: 0, part: b"imag".to_vec() },
                Message::Snapshot { term: newest, last, total: 9, offset: 4, part: b"imag".to_vec() },
            ]);
            for entries in [vec![], vec![command.clone()], vec![Entry::Term(newest), command.clone()]] {
                let commit = LogIndex::new(last.index.get() + 1);
                all.push(Message::Append { term: newest, commit, prev: last, entries });
            }
        }
    }
    all.retain(|message| {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        Message::read(&bytes).is_ok()
    });
    all
}

#[test]
fn every_state_survives_every_two_messages() {
    let mut told_in_all = 0;
    for state in STATES {
        let first_messages = messages(Told::new(state).node.term().get().max(OWN_TERM));
        for from in [2, 4, 8] {
            for first in &first_messages {
                for second in &first_messages {
                    let mut told = Told::new(state);
                    told.hear(from, first.clone());
                    told.hear(3, second.clone());
                    told_in_all += 1;
                }
                let mut told = Told::new(state);
                told.hear(from, first.clone());
                told.pass_time();
                told.pass_time();
            }
        }
    }
    assert!(told_in_all > 300_000, "{told_in_all}");
}

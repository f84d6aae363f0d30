//! What one replica says by itself; what several say to each other is for the simulator.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::kv::ask::Kind;
use crate::raft::{LogIndex, Term};

struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn replica() -> Replica {
    let own = Member { uuid: Uuid::from_random([1; 16]), address: "10.0.0.1:8080".to_owned() };
    let settings = Settings { own, memory_limit_bytes: 0, snapshot_entries: SNAPSHOT_ENTRIES };
    Replica::new(Instant::ZERO, settings, Box::new(Zeros), None)
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

#[test]
fn what_is_here_is_as_old_as_the_leaders_last_word_that_this_node_has_caught_up_with() {
    let mut replica = replica();
    let hear = |replica: &mut Replica, ms, commit: Option<u64>| {
        let message = Message::Heartbeat { term: Term::new(1), round: 1, commit: commit.map(LogIndex::new) };
        let cluster = Some(Uuid::from_random([2; 16]));
        let input = Input::Message { from: NodeId::new(7), cluster, message };
        replica.handle(at(ms), input, &mut Outbox::default());
    };
    let lag_ms = |replica: &mut Replica, ms| {
        let mut out = Outbox::default();
        let question = Question::Read { key: "k".to_owned() };
        replica.handle(at(ms), Input::Question { id: 1, question, is_stale: true }, &mut out);
        let (_, answer) = out.answers.pop().unwrap();
        assert_eq!((answer.status, answer.kind), (404, Kind::Json));
        answer.lag_ms.unwrap()
    };
    assert_eq!(lag_ms(&mut replica, 10_000), 10_000, "it has heard of nobody");
    hear(&mut replica, 10_000, None);
    assert_eq!(lag_ms(&mut replica, 10_000), 10_000, "a leader that is not sure itself");
    hear(&mut replica, 10_010, Some(0));
    assert_eq!(lag_ms(&mut replica, 10_050), 40);
    // The leader has more than this node: what it has grows old, however often the leader says so.
    hear(&mut replica, 10_100, Some(5));
    hear(&mut replica, 10_200, Some(9));
    assert_eq!(lag_ms(&mut replica, 10_200), 190);
    replica.applied.index = LogIndex::new(6);
    replica.note_applied();
    assert_eq!(lag_ms(&mut replica, 10_200), 100, "all that there was when the leader first said so");
    hear(&mut replica, 10_300, Some(6));
    assert_eq!(lag_ms(&mut replica, 10_300), 0);
}

#[test]
fn changes_of_members_past_the_bound_are_refused_at_once() {
    let mut replica = replica();
    let mut out = Outbox::default();
    replica.handle(at(0), Input::Question { id: 0, question: Question::Init, is_stale: false }, &mut out);
    for _ in 0..5 {
        replica.handle(at(0), Input::EndOfTurn, &mut out);
        for save in std::mem::take(&mut out.saves) {
            replica.handle(at(0), Input::Saved(save.batch), &mut out);
        }
    }
    assert_eq!(out.answers.pop().unwrap().1.status, 201);
    for id in 1..=admin::QUEUE_MAX as u64 + 1 {
        let member = Member { uuid: Uuid::from_random([9; 16]), address: "10.0.0.2:8080".to_owned() };
        let question = Question::AddLearner(member);
        replica.handle(at(1), Input::Question { id, question, is_stale: false }, &mut out);
    }
    let answered: Vec<(u64, u16)> = out.answers.iter().map(|(id, answer)| (*id, answer.status)).collect();
    assert_eq!(answered, [(admin::QUEUE_MAX as u64 + 1, 409)]);
}

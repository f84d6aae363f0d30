//! The cluster map: what its nodes say to each other, what clients ask of it, and its pictures, which are snapshots and backups.

use std::sync::Arc;

use bigbunny::kv::ask::{Answer, Endpoint, Question};
use bigbunny::kv::command::Command;
use bigbunny::kv::image;
use bigbunny::kv::map::Map;
use bigbunny::kv::replica::{Input, Outbox, Replica, Settings};
use bigbunny::raft::member::{Member, Membership, Uuid};
use bigbunny::raft::message::Message;
use bigbunny::raft::node::{Restored, Start};
use bigbunny::raft::{LogIndex, LogPosition, Term};
use bigbunny::time::Instant;

use super::bytes::{Bytes, Seeded};

/// Steps of one input at most.
const STEPS_MAX: usize = 200;

fn member(number: u8) -> Member {
    Member { uuid: Uuid::from_random([number; 16]), address: format!("10.0.0.{number}:8080") }
}

/// Voters 1 to 3.
fn membership() -> Membership {
    let mut membership = Membership::default();
    for member in (1..=3).map(member) {
        membership.config.voters.insert(member.uuid.node_id());
        membership.members.insert(member.uuid.node_id(), member);
    }
    membership
}

/// One message between nodes: it is written as it was read.
pub fn raft_message(input: &[u8]) {
    let Ok(message) = Message::read(input) else { return };
    let mut again = Vec::new();
    message.write(&mut again);
    assert_eq!(again, input, "{message:?}");
}

/// What somebody asks of a path, or a node for somebody.
pub fn map_question(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    if let Some((_, _, endpoint)) = Endpoint::ALL.get(usize::from(kind)) {
        let cut = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let query = str::from_utf8(&rest[..cut]).ok();
        let body = rest.get(cut + 1..).unwrap_or_default();
        match Question::parse(*endpoint, body, query, Some("once".to_owned())) {
            Ok(question) => {
                if let Some(bytes) = question.to_bytes() {
                    assert_eq!(Question::read(&bytes).as_ref(), Ok(&question), "what is passed on is what was asked");
                }
            }
            Err(error) => assert!(!Answer::bad(&error).body.is_empty()),
        }
    } else if let Ok(question) = Question::read(rest) {
        let again = question.to_bytes().expect("it came over a link");
        assert_eq!(again, rest, "{question:?}");
    }
    if let Ok(Some(answer)) = Answer::read(rest) {
        assert_eq!(answer.to_bytes(), rest);
    }
}

/// A map that is changed while its picture is made, and the picture altered.
pub fn map_image(input: &[u8]) {
    if image::read(input).is_ok() {
        // Only a whole picture is one: nothing of it can be left out.
        assert!(image::read(&input[..input.len() - 1]).is_err());
    }
    let mut bytes = Bytes(input);
    let mut map = Map::new(0);
    let cluster = Uuid::from_random([9; 16]);
    let (mut index, mut then) = (0, Vec::new());
    let mut begun = None;
    for _ in 0..STEPS_MAX {
        match bytes.byte() {
            0..=199 => {
                if let Ok(command) = Command::read(bytes.piece()) {
                    index += 1;
                    map.apply(index, &command);
                }
            }
            200..=219 if begun.is_none() => {
                let last = LogPosition { term: Term::new(1), index: LogIndex::new(index) };
                map.begin_image(cluster, last, &membership());
                then = map.range("", None).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                begun = Some(last);
            }
            _ => {
                let budget = usize::from(bytes.byte());
                if let Some(image) = map.paint(budget) {
                    let shown = image::read(&image.bytes).expect("it was just made");
                    assert_eq!(Some(shown.last), begun.take());
                    assert!(shown.map.range("", None).eq(then.iter().map(|(key, value)| (&**key, &**value))));
                    let mut altered = image.bytes;
                    let place = (usize::from(bytes.byte()) << 8 | usize::from(bytes.byte())) % altered.len();
                    altered[place] ^= 1 << (budget % 8);
                    assert!(image::read(&altered).is_err(), "every altered bit is seen");
                }
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

/// A voter of three, the others of which may say anything at any time.
pub fn raft_node(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut now = Instant::from_millis(1_000);
    let settings = Settings { own: member(1), memory_limit_bytes: 1 << 20, snapshot_entries: 5 };
    let start = Start {
        position: LogPosition::ZERO,
        membership: Arc::new(membership()),
        snapshot: LogPosition::ZERO,
        is_new: false,
    };
    let cluster = Some(Uuid::from_random([9; 16]));
    let restored = Restored { cluster, vote: (Term::new(2), None), start, entries: Vec::new(), removed: false };
    let restored = (bytes.byte() % 4 > 0).then(|| (restored, Map::new(0)));
    let mut replica = Replica::new(now, settings, Box::new(Seeded(7)), restored);
    for id in 0..STEPS_MAX as u64 {
        let before = replica.raft().term();
        let mut out = Outbox::default();
        let from = member(2 + bytes.byte() % 4).uuid.node_id();
        let input = match bytes.byte() {
            0..=149 => match Message::read(bytes.piece()) {
                Ok(message) => Input::Message { from, cluster, message },
                Err(_) => Input::Time,
            },
            150..=199 => match Question::read(bytes.piece()) {
                Ok(question) => Input::Question { id, question, is_stale: id % 8 == 0 },
                Err(_) => Input::Gone { id: id / 2 },
            },
            200..=204 => Input::LinkUp(from),
            205..=209 => Input::LinkDown(from),
            210..=214 => Input::DiskIsLow(id % 2 == 0),
            _ => {
                now = now + std::time::Duration::from_millis(bytes.pause_ms());
                Input::Time
            }
        };
        replica.handle(now, input, &mut out);
        replica.handle(now, Input::EndOfTurn, &mut out);
        // The disk is as fast as it can be.
        let mut later = Outbox::default();
        if let Some(save) = out.saves.last() {
            replica.handle(now, Input::Saved(save.batch), &mut later);
        }
        for image in &out.images {
            replica.handle(now, Input::ImageSaved(image.last), &mut later);
        }
        assert!(replica.raft().term() >= before, "no term goes down");
        for (_, message) in out.messages.iter().chain(&later.messages) {
            let mut written = Vec::new();
            message.write(&mut written);
            assert_eq!(Message::read(&written).as_ref(), Ok(message), "what is sent can be read");
        }
        if bytes.is_empty() {
            return;
        }
    }
}

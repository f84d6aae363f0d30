//! When a connection may be read, when it has work, and when its patience is over: on a socket pair, without a loop.

#![allow(clippy::unwrap_used, reason = "tests")]

use mio::net::UnixStream;

use super::super::intake::{ChunkedScratch, Context, Step};
use super::*;
use crate::api::endpoints::Operation;
use crate::api::{Door, Settings};
use crate::http::{HeadLimits, Version};
use crate::store_id::{KeyRing, MasterKey};

const TIMES: HttpTimes = HttpTimes {
    read: Duration::from_millis(30),
    read_header: Duration::from_millis(10),
    write: Duration::from_millis(20),
    idle: Duration::from_millis(100),
};

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// A connection that was accepted at 1000 ms, and its other end.
fn connection() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::new(ConnectionId(1 << 20), 0, Place::Client, Stream::Unix(ours), at(1000)), theirs)
}

fn owed() -> Owed {
    let frame = ReplyFrame { version: Version::Http11, head_only: false, close: false };
    Owed { frame, shape: ReplyShape { operation: Operation::Snapshot }, is_change: false }
}

fn answer(connection: &mut Connection, bytes: usize, now: Instant) {
    connection.writer(now, Vec::new).extend(std::iter::repeat_n(b'x', bytes));
}

#[test]
fn idleness_and_the_parts_of_a_request() {
    let (mut connection, _other) = connection();
    assert_eq!(connection.deadline(&TIMES), Some(at(1100)));
    assert_eq!(connection.due(&TIMES, at(1099)), None);
    assert_eq!(connection.due(&TIMES, at(1100)), Some(Due::Idle));
    // The time of a head begins with its first byte, and further bytes do not move it.
    connection.input.append(b"GET", Vec::new);
    connection.input.set_fresh(false);
    connection.note_waiting(at(1050));
    connection.input.append(b" / HT", Vec::new);
    connection.input.set_fresh(false);
    connection.note_waiting(at(1055));
    assert_eq!(connection.deadline(&TIMES), Some(at(1060)));
    assert_eq!(connection.due(&TIMES, at(1060)), Some(Due::Request));
    // A request that is taken ends it.
    connection.note_request(at(1058));
    connection.input.clear();
    connection.note_waiting(at(1058));
    assert_eq!(connection.deadline(&TIMES), Some(at(1158)));
}

#[test]
fn what_was_not_looked_at_is_not_late() {
    let (mut connection, _other) = connection();
    connection.owed = Some(owed());
    connection.input.append(b"GET / HTTP/1.1\r\n", Vec::new);
    connection.note_waiting(at(1001));
    assert_eq!(connection.deadline(&TIMES), None, "waiting for the node counts against nothing");
    connection.owed = None;
    connection.input.set_fresh(false);
    connection.note_waiting(at(5000));
    assert_eq!(connection.deadline(&TIMES), Some(at(5010)));
}

/// An intake to which a part of a request has come.
fn intake_of(part: &str) -> Intake {
    let mut intake = Intake::new();
    let mut context = Context {
        head_limits: &HeadLimits { max_head_bytes: 4096, max_target_bytes: 100, max_fields: 64 },
        settings: &Settings { max_store_size_bytes: 100, max_lock_timeout_ms: 1000 },
        door: &Door::Main,
        keyring: &mut KeyRing::new(vec![MasterKey::dev()], "0", Some("local")).unwrap(),
    };
    assert!(matches!(intake.next(part.as_bytes(), &mut ChunkedScratch::default(), &mut context).1, Step::More));
    intake
}

#[test]
fn each_time_is_over_at_its_value_and_not_a_nanosecond_before() {
    let head = "PUT /api/v1/named/x HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n";
    let body = format!("{head}Content-Length: 2\r\n\r\na");
    let at_first =
        [("", TIMES.idle, Due::Idle), (head, TIMES.read_header, Due::Request), (&body, TIMES.read, Due::Request)];
    for (part, time, due) in at_first {
        let (mut connection, _other) = connection();
        connection.intake = intake_of(part);
        connection.input.append(part.as_bytes(), Vec::new);
        connection.input.set_fresh(false);
        connection.note_waiting(at(1000));
        let over = at(1000) + time;
        assert_eq!(connection.due(&TIMES, Instant::from_nanos(over.as_nanos() - 1)), None, "{part:?}");
        assert_eq!(connection.due(&TIMES, over), Some(due), "{part:?}");
    }
    let (mut connection, _other) = connection();
    answer(&mut connection, 100, at(1000));
    let over = at(1000) + TIMES.write;
    assert_eq!(connection.due(&TIMES, Instant::from_nanos(over.as_nanos() - 1)), None);
    assert_eq!(connection.due(&TIMES, over), Some(Due::Drop));
}

#[test]
fn who_keeps_up_is_known() {
    let (mut connection, _other) = connection();
    assert!(connection.is_prompt(), "whoever is new has the benefit of the doubt");
    // A head, a body and the end of its chunks may come one by one, but not a byte at a time.
    for visit in 1..=UNFINISHED_VISITS_MAX {
        assert!(connection.is_prompt(), "visit {visit}");
        connection.input.append(b"G", Vec::new);
        connection.input.set_fresh(false);
        connection.note_waiting(at(1001));
    }
    assert!(!connection.is_prompt());
    connection.unfinished_visits = u8::MAX;
    connection.note_waiting(at(1001));
    assert!(!connection.is_prompt(), "however long it goes on");
    // A request that came whole after all brings it back, once its answer is read.
    connection.input.clear();
    connection.note_request(at(1002));
    connection.note_waiting(at(1002));
    assert!(connection.is_prompt());
    answer(&mut connection, 100, at(1003));
    assert!(!connection.is_prompt(), "unread answers");
    let _ = connection.output.note_sent(100);
    assert!(connection.is_prompt());
    connection.peer_gone = true;
    assert!(!connection.is_prompt(), "nobody waits for its end");
    connection.peer_gone = false;
    connection.close_when_sent();
    assert!(!connection.is_prompt(), "it only ends");
}

#[test]
fn at_the_place_for_operators_patience_is_short() {
    let (mut connection, _other) = connection();
    let times = HttpTimes {
        read: Duration::from_secs(30),
        read_header: Duration::from_secs(10),
        write: Duration::from_secs(30),
        idle: Duration::from_millis(700),
    };
    connection.place = Place::Operator;
    assert_eq!(connection.deadline(&times), Some(at(1700)), "the shorter one holds");
    connection.request_since = Some(at(1500));
    assert_eq!(connection.deadline(&times), Some(at(2500)));
    answer(&mut connection, 10, at(3000));
    assert_eq!(connection.deadline(&times), Some(at(4000)));
}

#[test]
fn sending_has_its_own_patience_from_its_last_progress() {
    let (mut connection, _other) = connection();
    // Long after the last time that anything was sent.
    answer(&mut connection, 100, at(9000));
    assert_eq!(connection.deadline(&TIMES), Some(at(9020)));
    answer(&mut connection, 100, at(9010));
    assert_eq!(connection.deadline(&TIMES), Some(at(9020)), "more to send is no progress");
    assert!(connection.output.note_sent(50).is_none());
    connection.sent_at = at(9015);
    connection.owed = Some(owed());
    assert_eq!(connection.due(&TIMES, at(9035)), Some(Due::Drop));
    assert!(connection.output.note_sent(150).is_some(), "the memory is given away");
    assert_eq!(connection.deadline(&TIMES), None);
}

#[test]
fn the_end_lingers_for_its_time() {
    let (mut connection, _other) = connection();
    connection.ends_early = true;
    connection.close_when_sent();
    connection.linger(at(2000), Duration::from_millis(500));
    assert_eq!(connection.deadline(&TIMES), Some(at(2500)));
    assert_eq!(connection.due(&TIMES, at(2500)), Some(Due::Drop));
    connection.close_when_sent();
    assert!(matches!(connection.stage, Stage::Lingering { .. }), "there is no way back");
}

#[test]
fn requests_are_taken_while_answers_leave_and_none_is_owed() {
    let (mut connection, _other) = connection();
    connection.readable = true;
    assert!(connection.takes_requests() && connection.has_work());
    answer(&mut connection, OUTPUT_BYTES_MAX - 1, at(1000));
    connection.writable = false;
    assert!(connection.takes_requests() && connection.has_work());
    answer(&mut connection, 1, at(1000));
    assert!(!connection.takes_requests() && !connection.has_work());
    connection.writable = true;
    assert!(connection.has_work(), "sending");
    connection.output.note_sent(1);
    connection.writable = false;
    assert!(connection.takes_requests());
    connection.owed = Some(owed());
    assert!(!connection.takes_requests() && !connection.has_work());
    connection.owed = None;
    connection.close_when_sent();
    assert!(!connection.takes_requests() && !connection.has_work());
}

#[test]
fn sent_bytes_do_not_pile_up_in_front_of_unsent_ones() {
    let mut output = Output::default();
    let mut waiting = 0;
    for _ in 0..10_000 {
        output.writer(Vec::new).extend_from_slice(&[b'x'; 1000]);
        waiting += 1000;
        while waiting > 20_000 {
            assert!(output.note_sent(700).is_none());
            waiting -= 700;
        }
        assert_eq!(output.unsent_bytes(), waiting);
        assert!(output.bytes.capacity() <= 4 * OUTPUT_BYTES_MAX, "{} bytes", output.bytes.capacity());
    }
}

#[test]
fn input_keeps_what_is_not_used() {
    let mut input = Input::default();
    assert!(input.is_empty() && !input.is_fresh());
    input.append(b"abcdef", Vec::new);
    let (bytes, used) = input.lend();
    assert_eq!((bytes.as_slice(), used), (b"abcdef".as_slice(), 0));
    assert!(input.give_back(bytes, 4, false).is_none());
    assert!(!input.is_empty() && !input.is_fresh());
    input.append(b"gh", Vec::new);
    assert!(input.is_fresh());
    let (bytes, used) = input.lend();
    assert_eq!(&bytes[used..], b"efgh");
    let length = bytes.len();
    assert!(input.give_back(bytes, length, true).is_some());
    assert!(input.is_empty() && !input.is_fresh(), "nothing is left to look at");
}

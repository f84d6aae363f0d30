//! Every example is delivered whole, in every two pieces and byte by byte, and must come to the same requests each time.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::store_id::MasterKey;

const LIMITS: HeadLimits = HeadLimits { max_head_bytes: 4096, max_target_bytes: 1024, max_fields: 64 };
const SETTINGS: api::Settings = api::Settings { max_store_size_bytes: 100, max_lock_timeout_ms: 30_000 };

/// What a connection's bytes came to, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Request(String),
    Refused(u16, Closes),
    Broken(u16),
}

type Closes = bool;

/// As a connection does: what is not used is kept and offered again with what comes next.
struct Driver {
    intake: Intake,
    scratch: ChunkedScratch,
    keyring: KeyRing,
    input: Vec<u8>,
    seen: Vec<Seen>,
    asked: usize,
    closed: bool,
    door: Door<'static>,
}

impl Driver {
    fn new() -> Self {
        Self {
            intake: Intake::new(),
            scratch: ChunkedScratch::default(),
            keyring: KeyRing::new(vec![MasterKey::dev()], "0", Some("local")).unwrap(),
            input: Vec::new(),
            seen: Vec::new(),
            asked: 0,
            closed: false,
            door: Door::Main,
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut used = 0;
        while !self.closed {
            let mut context =
                Context { head_limits: &LIMITS, settings: &SETTINGS, door: &self.door, keyring: &mut self.keyring };
            let (consumed, step) = self.intake.next(&self.input[used..], &mut self.scratch, &mut context);
            used += consumed;
            match step {
                Step::More => break,
                Step::Ask { .. } => {
                    self.asked += 1;
                    break;
                }
                Step::Request { frame, mut prepared, body } => {
                    assert!(prepared.call(crate::node::request::ConnectionId(1), body).is_ok());
                    self.seen.push(Seen::Request(String::from_utf8(body.to_vec()).unwrap()));
                    self.closed = frame.close;
                }
                Step::Refused { frame, error, .. } => {
                    self.seen.push(Seen::Refused(error.status(), frame.close));
                    self.closed = frame.close;
                }
                Step::Broken { error, .. } => {
                    self.seen.push(Seen::Broken(error.status));
                    self.closed = true;
                }
            }
        }
        self.input.drain(..used);
    }
}

fn deliver(pieces: &[&[u8]]) -> (Vec<Seen>, Missing, bool) {
    let mut driver = Driver::new();
    for piece in pieces {
        driver.deliver(piece);
    }
    let part_left = !driver.input.is_empty() || driver.intake.holds_part();
    (driver.seen, driver.intake.missing(), part_left && !driver.closed)
}

/// Delivers an example in every way and gives what it came to.
fn every_way(example: &str) -> (Vec<Seen>, Missing, bool) {
    let bytes = example.as_bytes();
    let whole = deliver(&[bytes]);
    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(deliver(&singles), whole, "byte by byte: {example:?}");
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(deliver(&[first, second]), whole, "cut at {cut}: {example:?}");
    }
    whole
}

fn requests(example: &str) -> Vec<Seen> {
    let (seen, missing, part_left) = every_way(example);
    assert_eq!((missing, part_left), (Missing::Head, false), "{example:?}");
    seen
}

fn request(body: &str) -> Seen {
    Seen::Request(body.to_owned())
}

const NEXT: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &str = "PUT /api/v1/named/x HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n";

#[test]
fn bodies_of_every_framing() {
    let length = format!("{PUT}Content-Length: 5\r\n\r\nhello{NEXT}");
    assert_eq!(requests(&length), [request("hello"), request("")]);
    let chunked = format!("{PUT}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: v\r\n\r\n{NEXT}");
    assert_eq!(requests(&chunked), [request("hello"), request("")]);
    let two =
        format!("{PUT}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n{PUT}Content-Length: 1\r\n\r\nb{NEXT}");
    assert_eq!(requests(&two), [request("a"), request("b"), request("")]);
    let none = format!("{PUT}\r\n{NEXT}{NEXT}");
    assert_eq!(requests(&none), [request(""), request(""), request("")]);
    let with_get = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxx{NEXT}");
    assert_eq!(requests(&with_get), [request("xx"), request("")]);
}

#[test]
fn nothing_is_read_behind_the_last_request() {
    let example = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{NEXT}");
    assert_eq!(requests(&example), [request("")]);
}

#[test]
fn at_the_place_for_operators_a_connection_has_one_request() {
    for (request, status) in [("GET /healthz", None), ("GET /api/v1/named/n", Some(503))] {
        let mut driver = Driver::new();
        driver.door = Door::Operators;
        driver.deliver(format!("{request} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n\r\n").repeat(3).as_bytes());
        let only = status.map_or_else(|| Seen::Request(String::new()), |status| Seen::Refused(status, true));
        assert_eq!(driver.seen, [only]);
        assert!(driver.closed);
    }
}

#[test]
fn a_short_body_of_a_refused_request_is_dropped() {
    let example = format!("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n{}{NEXT}", "x".repeat(30));
    assert_eq!(requests(&example), [Seen::Refused(404, false), request("")]);
    let example = format!("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n{}", "x".repeat(29));
    assert_eq!(every_way(&example), (vec![Seen::Refused(404, false)], Missing::Discarded, true));
}

#[test]
fn a_refused_request_closes_when_its_body_is_long_or_held_back() {
    let head = "POST /nowhere HTTP/1.1\r\nHost: a\r\n";
    for rest in [
        format!("Content-Length: {}\r\n\r\nx{NEXT}", DISCARD_BYTES_MAX + 1),
        format!("Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n{NEXT}"),
        format!("Content-Length: 1\r\nExpect: 100-continue\r\n\r\nx{NEXT}"),
    ] {
        assert_eq!(requests(&format!("{head}{rest}")), [Seen::Refused(404, true)], "{rest}");
    }
}

#[test]
fn a_body_over_the_limit_is_not_waited_for() {
    assert_eq!(requests(&format!("{PUT}Content-Length: 101\r\n\r\n")), [Seen::Refused(413, true)]);
    assert_eq!(requests(&format!("{PUT}Content-Length: 18446744073709551615\r\n\r\n")), [Seen::Refused(413, true)]);
    let exactly = "x".repeat(100);
    assert_eq!(requests(&format!("{PUT}Content-Length: 100\r\n\r\n{exactly}")), [request(&exactly)]);
    let chunked = format!("{PUT}Transfer-Encoding: chunked\r\n\r\n40\r\n{}\r\n40\r\n", "x".repeat(64));
    let (seen, _, _) = every_way(&chunked);
    assert_eq!(seen, [Seen::Broken(413)]);
}

#[test]
fn broken_framing_ends_the_connection() {
    assert_eq!(requests(&format!("{NEXT}GET / HTTP/1.1\nHost: a\n\n{NEXT}")), [request(""), Seen::Broken(400)]);
    let chunked = format!("{PUT}Transfer-Encoding: chunked\r\n\r\n1\r\nabc");
    let (seen, _, _) = every_way(&chunked);
    assert_eq!(seen, [Seen::Broken(400)]);
}

#[test]
fn what_is_missing_is_known() {
    assert_eq!(every_way("GET / HT"), (vec![], Missing::Head, true));
    assert_eq!(every_way(&format!("{PUT}Content-Length: 2\r\n\r\na")), (vec![], Missing::Body, true));
    let chunked = format!("{PUT}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert_eq!(every_way(&chunked), (vec![], Missing::Body, true));
}

#[test]
fn the_client_is_asked_once_and_only_if_it_waits() {
    for framing in ["Content-Length: 2", "Transfer-Encoding: chunked"] {
        let head = format!("{PUT}{framing}\r\nExpect: 100-continue\r\n\r\n");
        let body = if framing.starts_with('C') { "hi" } else { "2\r\nhi\r\n0\r\n\r\n" };
        let mut driver = Driver::new();
        driver.deliver(&head.as_bytes()[..30]);
        driver.deliver(&head.as_bytes()[30..]);
        assert_eq!((driver.asked, driver.intake.missing()), (1, Missing::Body));
        for byte in body.as_bytes() {
            driver.deliver(&[*byte]);
        }
        assert_eq!((driver.asked, driver.seen), (1, vec![request("hi")]));

        let mut driver = Driver::new();
        driver.deliver(format!("{head}{body}").as_bytes());
        assert_eq!((driver.asked, driver.seen), (0, vec![request("hi")]), "it did not wait");

        let mut driver = Driver::new();
        driver.deliver(head.replace("/named/x", "/nowhere").as_bytes());
        assert_eq!((driver.asked, driver.seen), (0, vec![Seen::Refused(404, true)]), "it is refused at once");
    }
    let mut driver = Driver::new();
    driver.deliver(format!("{PUT}Content-Length: 101\r\nExpect: 100-continue\r\n\r\n").as_bytes());
    assert_eq!((driver.asked, driver.seen), (0, vec![Seen::Refused(413, true)]));
    let mut driver = Driver::new();
    driver.deliver(format!("{PUT}Expect: 100-continue\r\n\r\n").as_bytes());
    assert_eq!((driver.asked, driver.seen), (0, vec![request("")]), "without a body there is nothing to ask for");
}

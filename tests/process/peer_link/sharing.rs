//! How the link shares the loop: neither a snapshot nor a flood of forwarded requests keeps a heartbeat waiting, and a peer that
//! takes in nothing costs bounded memory.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bigbunny::node::Role;
use bigbunny::node::request::{ConnectionId, Operation, Request, Target};
use bigbunny::peer::message::{Message, Path, read_message};

use super::pair::*;
use super::test_peer::{self, Heard, Line, clock_ns, identity};
use crate::support::Daemon;

/// What came of listening to a node for a while.
#[derive(Debug, Default)]
struct Listened {
    heartbeats: usize,
    /// The longest that one took.
    slowest_heartbeat: Duration,
    changes: u64,
    change_bytes: usize,
    answers: usize,
}

/// Plays a secondary that hears everything and acknowledges it, until it has been quiet for `quiet`.
fn follow(heard: &Receiver<Heard>, line: &mut Line, quiet: Duration) -> Listened {
    let mut listened = Listened::default();
    let (mut applied, mut heartbeat, mut epoch) = (0, 0, 0);
    let mut last_bulk = Instant::now();
    while last_bulk.elapsed() < quiet {
        let Ok(Heard { at_ns, path, bytes }) = heard.recv_timeout(quiet) else { break };
        if path != Path::Heartbeat {
            last_bulk = Instant::now();
        }
        match read_message(&bytes).unwrap() {
            Message::Heartbeat { epoch: of, sent_at_ns } => {
                listened.heartbeats += 1;
                listened.slowest_heartbeat =
                    listened.slowest_heartbeat.max(Duration::from_nanos(at_ns.saturating_sub(sent_at_ns)));
                (epoch, heartbeat) = (of, sent_at_ns);
            }
            Message::Begin { epoch: of, number, .. } => (epoch, applied) = (of, number),
            Message::Changes { first_number, count, records, .. } => {
                assert_eq!(first_number, applied + 1, "in order");
                applied += u64::from(count);
                listened.changes += u64::from(count);
                listened.change_bytes += records.len();
            }
            Message::Forwarded { response, .. } => {
                assert!(response.result.is_ok());
                listened.answers += 1;
                continue;
            }
            Message::Status { .. } => continue,
            Message::Join { .. }
            | Message::Resume { .. }
            | Message::Ack { .. }
            | Message::Handover { .. }
            | Message::HandoverDone { .. }
            | Message::HandoverRefused { .. }
            | Message::Forward { .. }
            | Message::Unanswered { .. }
            | Message::ConnectionClosed { .. } => panic!("a primary does not say this here: {path:?}"),
        }
        line.say(&Message::Ack { epoch, number: applied, heartbeat_sent_at_ns: heartbeat, sent_at_ns: clock_ns() });
    }
    listened
}

/// A primary with some data whose peer is the test.
fn primary(pause: Duration, more: &[&str]) -> (Daemon, Receiver<Heard>, Line) {
    let [flags, _] = two_nodes(more);
    let me = identity("b", "a");
    let heard = test_peer::listen(flags.peer.strip_prefix("b@").unwrap(), me.clone(), pause);
    let daemon = flags.start();
    let mut line = Line::dial(&flags.tcp, &me).unwrap();
    line.say(&Message::Status { role: Role::Joining, epoch: 0, number: 0 });
    wait_for_role(&daemon, "PRIMARY");
    // What it says before its own connection is up is lost, and this peer does not ask twice.
    wait_for_log(&daemon, "peer_link_up peer=b");
    assert_eq!(status(&daemon, "peer_version"), "", "a peer that does not say its version is let in all the same");
    (daemon, heard, line)
}

/// A client of the test peer asks for one of the stores `s…`.
fn forwarded_read(id: u64) -> Message<'static> {
    let read = Operation::Read { target: Target::Name(format!("s{}", id % 100).into()), touch: None };
    let request = Request { from_primary: true, ..Request::new(ConnectionId(1), "c", read) };
    Message::Forward { id, request }
}

/// Puts 100 stores of 200 KB there.
fn fill(daemon: &Daemon) {
    let body = "x".repeat(200_000);
    let mut connection = daemon.connect();
    for number in 0..100 {
        connection.send(&request("PUT", &format!("/api/v1/named/s{number}"), "", &body));
        assert_eq!(connection.answer(false).unwrap().unwrap().status, 201);
    }
}

#[test]
fn a_snapshot_and_a_flood_of_answers_do_not_hold_up_heartbeats() {
    // 64 KiB take 2 ms: about 32 MB/s.
    let (daemon, heard, mut line) = primary(
        Duration::from_millis(2),
        &["--max-store-size=1M", "--heartbeat-interval=50ms", "--lease=20s", "--grace=20s"],
    );
    fill(&daemon);
    line.join();
    for id in 0..100 {
        line.say(&forwarded_read(id));
    }
    let listened = follow(&heard, &mut line, Duration::from_millis(600));
    assert!(listened.answers == 100 && listened.change_bytes > 20_000_000, "{listened:?} {}", daemon.log());
    // 40 MB took more than a second, but no heartbeat did. 50 ms are allowed; the machine may be busy.
    assert!(listened.heartbeats >= 10, "{listened:?}");
    assert!(listened.slowest_heartbeat < Duration::from_millis(150), "{listened:?}");
}

#[test]
fn a_peer_that_takes_in_nothing_costs_bounded_memory_and_nobody_elses_time() {
    let (daemon, heard, mut line) = primary(
        Duration::ZERO,
        &["--max-store-size=1M", "--replication-backlog=4M", "--heartbeat-interval=50ms", "--lease=20s", "--grace=20s"],
    );
    line.join();
    let listened = follow(&heard, &mut line, Duration::from_millis(300));
    assert!(listened.heartbeats > 0 && daemon.log().contains("peer_in_step"), "{listened:?} {}", daemon.log());
    // From here on nothing is acknowledged any more. Changing one store over and over needs no memory by itself.
    let body = "x".repeat(500_000);
    put(&daemon, "s", &body);
    let before = daemon.peak_memory_bytes();
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let asked = Instant::now();
        put(&daemon, "s", &body);
        slowest = slowest.max(asked.elapsed());
    }
    let more = daemon.peak_memory_bytes() - before;
    assert!(more < 40 << 20, "100 MB of changes cost {more} bytes");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(daemon.log().contains("backlog_overflow"), "{}", daemon.log());
}

/// In safe mode what the primary has answered for the peer's clients does not leave after the lease's end, either.
#[test]
fn in_safe_mode_answers_for_the_peers_clients_do_not_outlive_the_lease() {
    let times = ["--heartbeat-interval=50ms", "--lease=600ms", "--grace=20s"];
    let (daemon, heard, mut line) =
        primary(Duration::from_millis(4), &[&times[..], &["--max-store-size=1M", "--on-peer-loss=safe"]].concat());
    line.join();
    let secondary = std::thread::spawn(move || {
        let listened = follow(&heard, &mut line, Duration::from_millis(500));
        (heard, line, listened)
    });
    wait_until("there is a lease", || daemon.ask(&request("PUT", "/api/v1/named/first", "", "x")).status < 300);
    fill(&daemon);
    let (heard, mut line, listened) = secondary.join().unwrap();
    assert!(listened.changes > 100, "{listened:?}");
    // 20 MB at 16 MB/s, and nothing is acknowledged any more.
    for id in 0..100 {
        line.say(&forwarded_read(id));
    }
    wait_for_log(&daemon, "peer_link_down peer=b why=LeaseOver");
    let came = heard.try_iter().filter(|heard| heard.path == Path::Forward).count();
    assert!((1..100).contains(&came), "{came}");
}

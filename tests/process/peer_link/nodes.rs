//! Two daemons: they find each other, replicate, forward, take over, come back, and change places.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pair::*;
use crate::support::{Connection, Daemon, PATIENCE, TempDir};

#[test]
fn they_find_each_other_replicate_and_forward() {
    let (_, a, b) = a_pair(&[]);
    put(&a, "n", "one");
    wait_until("it is replicated", || read(&b, "n").body == b"one");
    assert_eq!(read(&b, "n").header("BigBunny-Role"), Some("secondary"));
    put(&b, "n", "two");
    assert_eq!(read(&a, "n").body, b"two", "a change at the secondary is made at the primary");
    let fresh = b.ask(&request("GET", "/api/v1/named/n", "BigBunny-Read: primary\r\n", ""));
    assert_eq!((fresh.header("BigBunny-Role"), &*fresh.body), (Some("primary"), &b"two"[..]));

    for (node, role) in [(&a, "PRIMARY"), (&b, "SECONDARY")] {
        assert_eq!(get(node, "/readyz").status, 200);
        assert_eq!(status(node, "leader_epoch"), "1");
        assert_eq!(metric(node, &format!("bbd_role{{role=\"{role}\"}}")), 1.0);
        assert_eq!(metric(node, "bbd_leader_epoch"), 1.0);
        assert_eq!(metric(node, "bbd_lost_changes_total"), 0.0);
        let heard: f64 = status(node, "peers").rsplit(':').next().unwrap().trim_matches(['"', 's']).parse().unwrap();
        assert!(heard < 5.0, "{heard}");
        assert_eq!(status(node, "peer_version"), env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(status(&a, "last_leader_seen"), "0.000s");
    assert!(status(&b, "last_leader_seen").ends_with('s'));
    assert_eq!(metric(&a, "bbd_peer_up{peer=\"b\"}"), 1.0);
    wait_until("everything is acknowledged", || status(&a, "queue_length") == "0");
    assert_eq!(metric(&a, "bbd_replication_queue_bytes"), 0.0);
    for node in [&a, &b] {
        assert!(node.log().contains(" info peer_link_up "), "{}", node.log());
        assert!(!node.log().contains("peer_refused"), "{}", node.log());
    }
}

#[test]
fn a_node_that_knows_nothing_is_not_ready() {
    let [a, _] = two_nodes(&["--heartbeat-interval=100ms", "--lease=400ms", "--grace=300ms"]);
    let a = a.start();
    let started = Instant::now();
    let refused = get(&a, "/readyz");
    // On a busy machine it may have given up waiting already.
    if started.elapsed() < Duration::from_millis(300) {
        assert_eq!((refused.status, &*refused.body), (503, &b"this node is JOINING\n"[..]));
        assert_eq!(read(&a, "n").header("BigBunny-Error-Code"), Some("StoreUnavailable"));
        assert!(status(&a, "peers").ends_with("\"never"), "{}", status(&a, "peers"));
        let promote = a.ask(&request("POST", "/internal/promote", "", ""));
        assert_eq!(promote.header("BigBunny-Error-Code"), Some("StoreUnavailable"));
    }
    wait_for_role(&a, "PRIMARY");
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(get(&a, "/readyz").status, 200);
    wait_for_log(&a, "why=\"nobody answered\"");
    assert!(a.log().matches("peer_unreachable").count() <= 2, "said once: {}", a.log());
}

#[test]
fn force_makes_a_node_primary_at_once() {
    let [a, _] = two_nodes(&[]);
    let a = a.start();
    for bad in ["?force=maybe", "?force=", "?by=me", "?force=true&force=true"] {
        assert_eq!(a.ask(&request("POST", &format!("/internal/promote{bad}"), "", "")).status, 400, "{bad}");
    }
    let answer = a.ask(&request("POST", "/internal/promote?force=true", "", ""));
    assert_eq!((answer.status, &*answer.body), (200, &b"this node is PRIMARY\n"[..]));
    assert_eq!(status(&a, "role"), "PRIMARY");
}

#[test]
fn a_primary_that_is_killed_is_replaced_at_once_and_may_come_back() {
    let (flags, mut primary, mut secondary) = a_pair(&[]);
    let mut took = Vec::new();
    for round in 0..4 {
        let name = format!("round-{round}");
        put(&primary, &name, "kept");
        wait_until("it is replicated", || read(&secondary, &name).body == b"kept");
        // A connection that is younger counts for less.
        sleep(Duration::from_millis(1100));
        let killed = Instant::now();
        let dir = crash(primary);
        wait_for_role(&secondary, "PRIMARY");
        took.push(killed.elapsed());
        put(&secondary, &name, "and changed");
        assert_eq!(status(&secondary, "leader_epoch"), format!("{}", round + 2));
        // Who was killed comes back, follows, and is killed no more: the other one is, in the next round.
        let back = flags[round % 2].start_in(dir);
        wait_for_role(&back, "SECONDARY");
        assert_eq!(read(&back, &name).body, b"and changed");
        assert_eq!(status(&back, "leader_epoch"), format!("{}", round + 2));
        (primary, secondary) = (secondary, back);
    }
    took.sort_unstable();
    assert!(took[1] < Duration::from_millis(300), "{took:?} {}", primary.log());
}

/// Increments a counter over one connection until told to stop: how often it was answered, the longest that took, and what else
/// was answered. Goes on over a new connection when the old one is closed between two requests.
fn increment_until(daemon: &Daemon, stop: &AtomicBool) -> (u64, Duration, Vec<String>) {
    let (mut done, mut longest, mut others) = (0, Duration::ZERO, Vec::new());
    let mut connection = daemon.connect();
    // Not for ever, should the rest of the test fail.
    let end = Instant::now() + 3 * PATIENCE;
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        let asked = Instant::now();
        connection.send(&increment());
        match connection.answer(false) {
            Ok(Some(answer)) if answer.status == 200 => done += 1,
            other => others.push(format!("{other:?}")),
        }
        longest = longest.max(asked.elapsed());
        if others.len() > 3 {
            break;
        }
    }
    (done, longest, others)
}

fn counter(daemon: &Daemon) -> u64 {
    let body = String::from_utf8(read(daemon, "n").body).unwrap();
    let digits = body.trim_start_matches("{\"value\":");
    digits.split(',').next().unwrap().parse().unwrap_or_else(|_| panic!("{body}"))
}

#[test]
fn promote_hands_over_without_a_loss_or_an_error() {
    let (_, a, b) = a_pair(&[]);
    let stop = AtomicBool::new(false);
    let (at_a, at_b) = scope(|threads| {
        let at_a = threads.spawn(|| increment_until(&a, &stop));
        let at_b = threads.spawn(|| increment_until(&b, &stop));
        for (round, node) in [&b, &a, &b, &a, &b].into_iter().enumerate() {
            sleep(Duration::from_millis(300));
            let answer = node.ask(&request("POST", "/internal/promote", "", ""));
            assert_eq!((answer.status, &*answer.body), (200, &b"this node is PRIMARY\n"[..]), "{}", node.log());
            assert_eq!(status(node, "leader_epoch"), format!("{}", round + 2));
        }
        sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        (at_a.join().unwrap(), at_b.join().unwrap())
    });
    assert_eq!((&at_a.2[..], &at_b.2[..]), (&[][..], &[][..]), "{}\n{}", a.log(), b.log());
    assert!(at_a.0 > 100 && at_b.0 > 100, "{at_a:?} {at_b:?}");
    // 50 ms are allowed; the machine may be busy.
    assert!(at_a.1.max(at_b.1) < Duration::from_millis(500), "{at_a:?} {at_b:?}");
    assert_eq!(counter(&b), at_a.0 + at_b.0, "every answered increment, once");
    assert!(b.log().contains("why=\"the other node handed over\""), "{}", b.log());
}

#[test]
fn a_primary_that_is_told_to_stop_hands_over_first() {
    let mut took = Vec::new();
    for _ in 0..3 {
        let (_, a, b) = a_pair(&[]);
        let stop = AtomicBool::new(false);
        // It holds more than its share of a turn.
        put(&a, "large", &"x".repeat(2000));
        let (at_b, before) = scope(|threads| {
            let at_b = threads.spawn(|| increment_until(&b, &stop));
            let mut at_a = a.connect();
            let mut before = 0;
            for _ in 0..200 {
                at_a.send(&increment());
                assert_eq!(at_a.answer(false).unwrap().unwrap().status, 200);
                before += 1;
            }
            a.signal(Signal::TERM);
            let asked = Instant::now();
            // Until the end it answers; the last answer says that it closes.
            let ended = loop {
                at_a.send(&increment());
                match at_a.answer(false) {
                    Ok(Some(answer)) => {
                        assert_eq!(answer.status, 200, "{answer:?} {}", a.log());
                        before += 1;
                        if answer.closes() {
                            break at_a.expect_end();
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            ended.unwrap();
            wait_for_log(&a, " info stopped ");
            took.push(asked.elapsed());
            wait_for_role(&b, "PRIMARY");
            sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
            (at_b.join().unwrap(), before)
        });
        let (status_code, dir) = a.wait();
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(status_code.code(), Some(0), "{log}");
        assert!(log.contains(" info handed_over ") && log.contains("stopped unanswered=0"), "{log}");
        assert_eq!(at_b.2, Vec::<String>::new(), "{log}\n{}", b.log());
        assert_eq!(counter(&b), at_b.0 + before);
        assert_eq!(read(&b, "large").body.len(), 2000);
        assert!(b.log().contains("why=\"the other node handed over\""), "{}", b.log());
    }
    assert!(took.iter().min().unwrap() < &Duration::from_millis(500), "a stop under load takes no patience: {took:?}");
}

#[test]
fn a_primary_without_a_healthy_secondary_just_stops() {
    let (_, a, b) = a_pair(&["--heartbeat-interval=100ms", "--lease=400ms", "--grace=5s"]);
    crash(b);
    sleep(Duration::from_millis(600));
    let asked = Instant::now();
    a.signal(Signal::TERM);
    assert_eq!(a.wait().0.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());

    // One that is there but does not answer costs its time.
    let (_, a, b) = a_pair(&[]);
    b.signal(Signal::STOP);
    put(&a, "n", "x");
    let asked = Instant::now();
    a.signal(Signal::TERM);
    let (status, dir) = a.wait();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert!(fs::read_to_string(dir.path().join("log")).unwrap().contains("handover_aborted"));
    b.signal(Signal::CONT);
}

#[test]
fn who_was_stopped_hears_what_waits_before_it_promotes_itself() {
    let (_, a, b) = a_pair(&["--heartbeat-interval=50ms", "--lease=300ms", "--grace=200ms"]);
    for round in 0..5 {
        b.signal(Signal::STOP);
        sleep(Duration::from_millis(900));
        put(&a, "n", &format!("meanwhile {round}"));
        b.signal(Signal::CONT);
        wait_until("it has heard", || read(&b, "n").body == format!("meanwhile {round}").as_bytes());
        assert_eq!(status(&b, "role"), "SECONDARY", "{}", b.log());
    }
    assert_eq!((status(&a, "role"), status(&a, "leader_epoch")), ("PRIMARY".to_owned(), "1".to_owned()));
    assert!(!b.log().contains("promoted"), "{}", b.log());
}

/// In safe mode an answer to a change does not leave after the lease's end, even if the change was made before it: the answer waits
/// behind others that the client has not read.
#[test]
fn in_safe_mode_answers_to_changes_do_not_outlive_the_lease() {
    let flags = ["--on-peer-loss=safe", "--heartbeat-interval=100ms", "--lease=1s", "--grace=60s"];
    let (_, a, b) = a_pair(&[&flags[..], &["--max-store-size=1M"]].concat());
    put(&a, "large", &"x".repeat(20_000));
    let pairs = 40;
    // How many changes were made while the client read nothing, and how many it is told of when it reads at last.
    let ask = |delay: Duration| {
        let before = metric(&a, "bbd_changes_total");
        let mut connection = a.connect();
        for _ in 0..pairs {
            connection.send(&request("GET", "/api/v1/named/large", "", ""));
            connection.send(&increment());
        }
        sleep(delay);
        let made = metric(&a, "bbd_changes_total") - before;
        let told = (0..2 * pairs).map_while(|_| connection.answer(false).ok().flatten());
        let told = told.filter(|answer| answer.status == 200 && answer.body.starts_with(b"{")).count();
        (made as usize, told)
    };
    let (made, told) = ask(Duration::from_millis(300));
    assert!(made < pairs, "the client's silence holds up {made} of {pairs}");
    assert_eq!(told, pairs, "while there is a lease, all answers leave: {}", a.log());
    b.signal(Signal::STOP);
    let (made, told) = ask(Duration::from_millis(2500));
    assert!(told < made, "{told} of {made}: {}", a.log());
    wait_for_log(&a, "answers_withheld");
    let refused = a.ask(&increment());
    assert_eq!((refused.status, refused.header("BigBunny-Error-Code")), (503, Some("NotReplicated")));
    b.signal(Signal::CONT);
    wait_until("the lease is back", || a.ask(&increment()).status == 200);
}

#[test]
fn a_peer_may_have_a_name() {
    // A port below those that the system gives to connections, so that it is free.
    let port = |offset: u32| 20_000 + (std::process::id() * 2 + offset) % 10_000;
    let [mut a, mut b] = two_nodes(&[]);
    (a.tcp, b.tcp) = (format!("127.0.0.1:{}", port(0)), format!("127.0.0.1:{}", port(1)));
    (a.peer, b.peer) = (format!("b@localhost:{}", port(1)), format!("a@localhost:{}", port(0)));
    let (a, b) = (a.start(), b.start());
    wait_for_role(&a, "PRIMARY");
    wait_for_role(&b, "SECONDARY");
    // A name that nobody has is said to be none, and nothing else suffers.
    let [mut c, _] = two_nodes(&[]);
    c.peer = "b@nobody.invalid:1".to_owned();
    let c = c.start();
    assert_eq!(get(&c, "/healthz").status, 200);
    wait_for_log(&c, "why=Unresolved");
}

#[test]
fn a_port_that_is_taken_is_told_at_the_start() {
    let [a, _] = two_nodes(&[]);
    let _taken = std::net::TcpListener::bind(&a.tcp).unwrap();
    let dir = TempDir::new();
    let mut command = Daemon::command_in(&dir);
    command.args([format!("--tcp={}", a.tcp), "--host-id=a".to_owned(), format!("--peers={}", a.peer)]);
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("cannot listen on --tcp {}: ", a.tcp)), "{told}");
    assert!(!Daemon::socket_in(&dir).exists(), "and leaves nothing behind");
}

#[test]
fn without_a_peer_there_is_no_port() {
    let tcp = address();
    let daemon = Daemon::start(&[format!("--tcp={tcp}")]);
    assert!(std::net::TcpStream::connect(&tcp).is_err());
    assert!(!String::from_utf8(get(&daemon, "/metrics").body).unwrap().contains("bbd_peer_up"));
    assert_eq!(status(&daemon, "peers"), "");
}

/// A client whose connection goes away while its request is at the other node harms nobody.
#[test]
fn clients_may_go_while_their_requests_are_forwarded() {
    let (_, a, b) = a_pair(&[]);
    put(&a, "locked", "x");
    let mut holder = a.connect();
    let begin = |headers| request("POST", "/api/v1/named/locked/begin-modify", headers, "");
    holder.send(&begin("BigBunny-Lock-Hold: 1000\r\n"));
    assert_eq!(holder.answer(false).unwrap().unwrap().status, 200);
    for _ in 0..50 {
        let mut gone: Connection = b.connect();
        gone.send(&begin("BigBunny-Lock-Wait: 20000\r\n"));
        gone.send(&increment());
    }
    for _ in 0..50 {
        let mut gone = b.connect();
        gone.send(&increment());
        drop(gone);
    }
    // Those who waited have left the line: it is ours as soon as the holder's time is over.
    let mut waiter = b.connect();
    waiter.send(&begin("BigBunny-Lock-Wait: 5000\r\n"));
    let asked = Instant::now();
    assert_eq!(waiter.answer(false).unwrap().unwrap().status, 200);
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    assert_eq!(b.ask(&increment()).status, 200);
    drop(a);
}

#[test]
fn the_token_can_be_changed_while_both_run() {
    let dir = TempDir::new();
    let file = dir.path().join("token");
    let write = |token: &str| {
        fs::write(&file, token).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("the first token, long enough");
    let (flags, a, b) = a_pair(&[&format!("--internal-token-file={}", file.display())]);
    write("the second one, long enough too");
    a.signal(Signal::HUP);
    wait_for_log(&a, "internal_token_reloaded");
    put(&b, "n", "over the old connection");
    // A connection that is made now needs the new one.
    let dir = crash(b);
    wait_for_log(&a, "peer_link_down");
    let b = flags[1].start_in(dir);
    wait_for_role(&b, "SECONDARY");
    assert_eq!(read(&b, "n").body, b"over the old connection");
    for node in [&a, &b] {
        assert!(!node.log().contains("long enough"), "{}", node.log());
    }
}

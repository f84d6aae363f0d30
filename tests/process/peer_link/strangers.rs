//! Who is not the peer: gets nothing, costs little, and is told about in the log alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bigbunny::config::secrets::DEV_INTERNAL_TOKEN;
use bigbunny::node::Role;
use bigbunny::peer::link::Dialler;
use bigbunny::peer::message::{Message, Path};

use super::pair::*;
use super::test_peer::{self, Line, answer, identity, post};
use crate::support::{Daemon, PATIENCE};

/// Reads until the other side closes: what came, and after how long it closed.
fn read_to_end(mut stream: TcpStream) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // What we sent may not have been read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}; so far {bytes:?}"),
    }
    (bytes, began.elapsed())
}

fn alone() -> (NodeFlags, Daemon) {
    let [flags, _] = two_nodes(&[]);
    let daemon = flags.start();
    (flags, daemon)
}

#[test]
fn nothing_is_served_before_both_have_proved_themselves() {
    let (flags, daemon) = alone();
    let largest = format!("POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", u32::MAX);
    let long = format!("POST /internal/hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (bytes, why) in [
        ("GET /status HTTP/1.1\r\nHost: a\r\n\r\n", "StrangeRequest"),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "StrangeRequest"),
        ("POST /internal/promote?force=true HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "StrangeRequest"),
        ("PUT /api/v1/named/n HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\nContent-Length: 1\r\n\r\nx", "StrangeRequest"),
        ("POST /internal/heartbeat HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789", "OutOfTurn"),
        ("POST /internal/hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "StrangeRequest"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", "NotHttp"),
        ("\0\0\0\0\0\0\0\0\0\0", "NotHttp"),
        (&largest, "TooLong"),
        (&long, "NotHttp"),
    ] {
        let before = daemon.log().matches("peer_refused").count();
        let mut stream = TcpStream::connect(&flags.tcp).unwrap();
        let _ = stream.write_all(bytes.as_bytes());
        let (answer, took) = read_to_end(stream);
        assert_eq!(answer, b"", "{bytes:.60}");
        assert!(took < Duration::from_secs(1), "{bytes:.60}: {took:?}");
        // After five lines of one kind the log only counts.
        let log = daemon.log();
        assert!(before >= 5 || log.contains(&format!("why={why}")), "{bytes:.60}: {log}");
    }
    assert!(!daemon.log().contains("peer_link_up"), "{}", daemon.log());
    assert_eq!(get(&daemon, "/healthz").status, 200);
}

#[test]
fn a_handshake_has_two_seconds_and_little_memory() {
    let (flags, daemon) = alone();
    let before = daemon.peak_memory_bytes();
    let files = daemon.open_files();
    let began = Instant::now();
    // Silence, and a byte at a time, from more callers than there is room for.
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&flags.tcp).unwrap()).collect();
    let mut slow = TcpStream::connect(&flags.tcp).unwrap();
    wait_until("most have been sent away", || daemon.open_files() <= files + 20);
    assert!(began.elapsed() < Duration::from_secs(2), "they make room for each other: {:?}", began.elapsed());
    let mut ended = None;
    for byte in b"POST /internal/hello HTTP/1.1\r\n" {
        if slow.write_all(&[*byte]).is_err() {
            ended = Some(began.elapsed());
            break;
        }
        sleep(Duration::from_millis(200));
    }
    let ended = ended.expect("it does not wait for ever");
    assert!((Duration::from_millis(1500)..Duration::from_secs(4)).contains(&ended), "{ended:?}");
    for stream in silent {
        assert_eq!(read_to_end(stream).0, b"");
    }
    wait_until("all have been sent away", || daemon.open_files() <= files);
    let log = daemon.log();
    assert!(log.contains("why=Crowded"), "{log}");
    assert!(log.matches("peer_refused").count() <= 12, "an attacker cannot fill the log: {log}");
    assert!(daemon.peak_memory_bytes() < before + (2 << 20), "{} {before}", daemon.peak_memory_bytes());
    // A client that floods is not read on.
    let mut flood = TcpStream::connect(&flags.tcp).unwrap();
    flood.set_write_timeout(Some(PATIENCE)).unwrap();
    let block = [b'x'; 65_536];
    let sent = (0..10_000).take_while(|_| flood.write_all(&block).is_ok()).count();
    assert!(sent < 1000, "{sent}");
    assert!(daemon.peak_memory_bytes() < before + (2 << 20));
    assert_eq!(get(&daemon, "/healthz").status, 200);
}

#[test]
fn callers_in_silence_do_not_keep_the_peer_out() {
    let [a, b] = two_nodes(&[]);
    let (a_node, tcp) = (a.start(), a.tcp.clone());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = std::collections::VecDeque::new();
            // Not for ever, should the rest of the test fail.
            let end = Instant::now() + 3 * PATIENCE;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && Instant::now() < end {
                silent.extend(TcpStream::connect(&tcp));
                if silent.len() > 100 {
                    silent.pop_front();
                }
                sleep(Duration::from_millis(2));
            }
        });
        sleep(Duration::from_millis(300));
        let b_node = b.start();
        wait_for_role(&b_node, "SECONDARY");
        wait_for_role(&a_node, "PRIMARY");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Two nodes of which the second is told something else: neither lets the other in, and the names of the reasons are in the logs.
fn strangers(change: impl Fn(&mut NodeFlags), why_at_a: &str, why_at_b: &str) {
    let [a, mut b] = two_nodes(&["--heartbeat-interval=50ms", "--lease=200ms", "--grace=200ms"]);
    change(&mut b);
    let (a, b) = (a.start(), b.start());
    for (node, why) in [(&a, why_at_a), (&b, why_at_b)] {
        wait_for_log(node, &format!("why={why}"));
        wait_for_role(node, "PRIMARY");
        let log = node.log();
        assert!(!log.contains("peer_link_up"), "{log}");
        assert!(!log.contains("secret-"), "{log}");
    }
}

#[test]
fn another_token() {
    let token = |flags: &mut NodeFlags| flags.more.push("--internal-token=secret-of-another-site".to_owned());
    // Who accepts proves first, so that who dials finds out, and says no more.
    strangers(token, "WrongToken", "WrongToken");
}

#[test]
fn another_site() {
    strangers(|flags| flags.more.push("--site=elsewhere".to_owned()), "OtherSite", "OtherSite");
}

#[test]
fn another_host_id() {
    strangers(|flags| flags.host_id = "c", "UnexpectedHostId", "Closed");
}

#[test]
fn times_under_which_both_might_answer() {
    strangers(|flags| flags.more.push("--lease=400ms".to_owned()), "ClashingTimes", "ClashingTimes");
}

#[test]
fn what_is_done_without_a_lease_may_differ_but_is_told() {
    let [a, mut b] = two_nodes(&[]);
    b.more.push("--on-peer-loss=safe".to_owned());
    let (a, b) = (a.start(), b.start());
    wait_for_role(&b, "SECONDARY");
    wait_for_log(&a, "peer_differs flag=--on-peer-loss ours=available its=safe");
    wait_for_log(&b, "peer_differs flag=--on-peer-loss ours=safe its=available");
}

#[test]
fn our_own_host_id() {
    // Both believe to be a: b is told that its peer is c, for a node is not started with itself as its peer.
    let change = |flags: &mut NodeFlags| {
        flags.host_id = "a";
        flags.peer = flags.peer.replace("a@", "c@");
    };
    strangers(change, "OurOwnHostId", "OurOwnHostId");
}

#[test]
fn what_was_altered_or_repeated_ends_the_connection() {
    let (flags, daemon) = alone();
    let status = Message::Status { role: Role::Joining, epoch: 0, number: 0 };
    let me = identity("b", "a");

    let mut line = Line::dial(&flags.tcp, &me).unwrap();
    line.say(&status);
    line.wait_for_answers().unwrap();
    let mut bytes = line.sealed(&status);
    *bytes.last_mut().unwrap() ^= 1;
    line.stream.write_all(&bytes).unwrap();
    assert!(line.wait_for_answers().is_err());
    wait_for_log(&daemon, "why=Altered");

    let mut line = Line::dial(&flags.tcp, &me).unwrap();
    let bytes = line.sealed(&status);
    line.stream.write_all(&bytes).unwrap();
    line.stream.write_all(&bytes).unwrap();
    line.say(&status);
    assert!(line.wait_for_answers().is_err(), "repeated");
    assert!(daemon.log().matches("why=Altered").count() >= 2, "{}", daemon.log());

    // What was recorded of a handshake opens no second one.
    let (_, hello) = Dialler::new(&me, DEV_INTERNAL_TOKEN.as_bytes(), [9; 32]);
    let mut again = TcpStream::connect(&flags.tcp).unwrap();
    again.set_read_timeout(Some(PATIENCE)).unwrap();
    post(&mut again, Path::Hello, &hello).unwrap();
    assert!(answer(&mut again).unwrap().len() > 32);
    post(&mut again, Path::Hello, &[3; 32]).unwrap();
    assert_eq!(read_to_end(again).0, b"");
    wait_for_log(&daemon, "why=WrongToken");
}

#[test]
fn a_new_connection_of_the_peer_takes_the_place_of_the_old_one() {
    let (flags, daemon) = alone();
    let me = identity("b", "a");
    let _heard = test_peer::listen(flags.peer.strip_prefix("b@").unwrap(), me.clone(), Duration::ZERO);
    let mut old = Line::dial(&flags.tcp, &me).unwrap();
    old.say(&Message::Status { role: Role::Joining, epoch: 0, number: 0 });
    old.wait_for_answers().unwrap();
    wait_for_role(&daemon, "PRIMARY");
    let mut new = Line::dial(&flags.tcp, &me).unwrap();
    new.say(&Message::Status { role: Role::Joining, epoch: 0, number: 0 });
    new.wait_for_answers().unwrap();
    assert_eq!(read_to_end(old.stream).0, b"");
    new.say(&Message::Status { role: Role::Joining, epoch: 0, number: 0 });
    new.wait_for_answers().unwrap();
}

#[test]
fn answers_that_no_node_gives_end_the_connection() {
    for (answer, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..], "StrangeAnswer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "StrangeAnswer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "StrangeAnswer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "TimedOut"),
        (b"", "TimedOut"),
    ] {
        let [flags, _] = two_nodes(&["--heartbeat-interval=1s", "--lease=4s", "--grace=4s"]);
        let listener = std::net::TcpListener::bind(flags.peer.strip_prefix("b@").unwrap()).unwrap();
        let daemon = flags.start();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer).unwrap();
        wait_for_log(&daemon, &format!("why={why}"));
        // It tries again, a little later.
        let (_again, _) = listener.accept().unwrap();
    }
}

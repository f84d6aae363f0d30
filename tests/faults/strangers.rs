//! Others than the peer at the port of a pair that works: fault 9.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use bigbunny::peer::link::{Dialler, VERSION};

use crate::history::{Clients, Kept};
use crate::site::{Name, Site, epoch, figure};
use crate::test_peer::identity;

/// Where a hello has its version: behind the magic.
const VERSION_AT: usize = 8;

/// What they send: garbage, a length of 4 GiB, another version, a wrong token, and the beginnings of a request.
fn sayings() -> Vec<Vec<u8>> {
    let hello = |version: u8| {
        let (_, mut body) = Dialler::new(&identity("b", "a"), b"another token", [7; 32]);
        body[VERSION_AT] = version;
        let mut bytes =
            format!("POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend(body);
        bytes
    };
    let mut wrong_token = hello(VERSION);
    wrong_token.extend(b"POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 32\r\n\r\n");
    wrong_token.extend([1; 32]);
    vec![
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a client of another protocol".to_vec(),
        b"POST /internal/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 4294967296\r\n\r\n".to_vec(),
        b"POST /internal/replicate HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789".to_vec(),
        hello(VERSION + 1),
        wrong_token,
        b"POST /internal/hello HTTP/1.1\r\n".to_vec(),
        Vec::new(),
    ]
}

#[test]
fn strangers_at_the_port() {
    const TIME: Duration = Duration::from_secs(3);
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(Duration::from_millis(500));
    let (memory, over) = (a.peak_memory_bytes(), AtomicBool::new(false));
    let connections = scope(|threads| {
        let stranger = |name: Name, seed: usize| {
            let (sayings, mut count) = (sayings(), 0_u64);
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(site.tcp(name)) else { continue };
                let _ = stream.write_all(&sayings[(seed + count as usize) % sayings.len()]);
                count += 1;
                sleep(Duration::from_millis(2));
            }
            count
        };
        let slow = || {
            // One byte a second, of what would be a good request.
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(site.tcp(Name::A)) else { continue };
                for byte in b"POST /internal/hello" {
                    if over.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    sleep(Duration::from_secs(1));
                }
            }
        };
        let strangers: Vec<_> = (0..6)
            .map(|seed| threads.spawn(move || stranger(if seed % 2 == 0 { Name::A } else { Name::B }, seed)))
            .collect();
        threads.spawn(slow);
        sleep(TIME);
        over.store(true, Ordering::Relaxed);
        strangers.into_iter().map(|stranger| stranger.join().unwrap()).sum::<u64>()
    });
    // Whoever has not said who he is is shown out.
    sleep(Duration::from_secs(2));
    let of = "9 strangers at the port: garbage, 4 GiB, another version, a wrong token, a byte a second";
    clients.finish(of, &a, &b, Kept::All);
    assert_eq!(epoch(&a), 1, "{}", b.log());
    for node in [&a, &b] {
        assert_eq!(node.log().matches(" peer_link_up ").count(), 1, "the link lives: {}", node.log());
    }
    let grown = a.peak_memory_bytes() - memory;
    assert!(grown < 8 << 20, "{grown} bytes more");
    figure(of, "connections in 3 s", connections);
    figure(of, "memory grows by", format!("{:.1} MiB", grown as f64 / 1048576.0));
}

#[test]
fn a_peer_of_another_epoch() {
    use bigbunny::node::Role;
    use bigbunny::peer::message::Message;

    use crate::pair::{put, read};
    use crate::site::{QUICK, await_role, role};
    use crate::test_peer::{Line, clock_ns};

    let site = Site::on_loopback(&QUICK);
    let a = site.start(Name::A);
    await_role(&a, "PRIMARY");
    put(&a, "n", "kept");
    let mut line = Line::dial(site.tcp(Name::A), &identity("b", "a")).unwrap();
    let (old, sent_at_ns) = (0, clock_ns());
    for message in [
        Message::Status { role: Role::Primary, epoch: old, number: 1000 },
        Message::Heartbeat { epoch: old, sent_at_ns },
        Message::Begin { epoch: old, primary: 7, number: 0, base: 0 },
        Message::Changes { epoch: old, first_number: 1, count: 1, clock_offset_ns: 0, records: b"no record" },
        Message::Ack { epoch: old, number: 1000, heartbeat_sent_at_ns: sent_at_ns, sent_at_ns },
        Message::Handover { epoch: old },
        Message::HandoverDone { epoch: old, number: 1 },
    ] {
        line.say(&message);
        line.wait_for_answers().unwrap();
    }
    assert_eq!((role(&a), epoch(&a), &*read(&a, "n").body), ("PRIMARY".to_owned(), 1, &b"kept"[..]), "{}", a.log());
    // A newer one ends its epoch, before anything else is answered.
    line.say(&Message::Heartbeat { epoch: 5, sent_at_ns });
    line.wait_for_answers().unwrap();
    assert_ne!(role(&a), "PRIMARY");
    figure("9 a peer of an older epoch; of a newer one", "what it changes", "nothing; the primary steps down at once");
}

//! The event loop under clients that do not behave: that do not read, go away, come in thousands, or send a byte at a time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::support::{Answer, Connection, Daemon, TempDir};

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// A request of the customer `c`.
fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn put(daemon: &Daemon, name: &str, body: &str) {
    let answer = daemon.ask(&request("PUT", &format!("/api/v1/named/{name}"), "", body));
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

fn begin(name: &str, headers: &str) -> Vec<u8> {
    request("POST", &format!("/api/v1/named/{name}/begin-modify"), headers, "")
}

fn cancel(name: &str, lock: &str) -> Vec<u8> {
    request("POST", &format!("/api/v1/named/{name}/cancel-modify"), &format!("BigBunny-Lock-ID: {lock}\r\n"), "")
}

fn answer(connection: &mut Connection) -> Answer {
    connection.answer(false).expect("an answer").expect("an answer before the end")
}

/// Sends a begin-modify that must get the lock at once, and gives its id.
fn lock(connection: &mut Connection, name: &str, headers: &str) -> String {
    connection.send(&begin(name, headers));
    let answer = answer(connection);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("BigBunny-Lock-ID").expect("a lock").to_owned()
}

/// The value of a metric.
fn metric(daemon: &Daemon, name: &str) -> f64 {
    let page = daemon.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = String::from_utf8(page.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// How many descriptors it has open when it has noticed everything that was closed.
fn settled_open_files(daemon: &Daemon) -> usize {
    let mut last = 0;
    wait_until("nothing changes any more", || {
        sleep(Duration::from_millis(50));
        last == std::mem::replace(&mut last, daemon.open_files())
    });
    last
}

#[test]
fn who_does_not_read_is_not_read_from_and_then_gets_everything_in_order() {
    const REQUESTS: usize = 20_000;
    let daemon = Daemon::start(&["--rate-limit=0"]);
    for digit in 0..10 {
        put(&daemon, &format!("s{digit}"), &digit.to_string().repeat(1500));
    }
    let pipeline: Vec<u8> =
        (0..REQUESTS).flat_map(|index| request("GET", &format!("/api/v1/named/s{}", index % 10), "", "")).collect();
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut refused_since = Instant::now();
    while refused_since.elapsed() < Duration::from_millis(300) {
        match (&stream).write(&pipeline[sent..]) {
            Ok(length) => (sent, refused_since) = (sent + length, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < pipeline.len() / 2, "{sent} of {} bytes were taken though nothing was read", pipeline.len());
    assert_eq!(daemon.ask(HEALTHZ).status, 200, "others are served meanwhile");

    stream.set_nonblocking(false).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let rest = pipeline[sent..].to_vec();
    let writing = std::thread::spawn(move || writer.write_all(&rest));
    let mut connection = Connection::new(stream);
    for index in 0..REQUESTS {
        let answer = answer(&mut connection);
        assert_eq!((answer.status, answer.body.len()), (200, 1500), "answer {index}");
        assert_eq!(answer.body[0], b'0' + (index % 10) as u8, "answer {index} is the answer to another request");
    }
    writing.join().unwrap().unwrap();
    assert!(daemon.peak_memory_bytes() < 32 << 20, "{} bytes", daemon.peak_memory_bytes());
}

#[test]
fn who_never_reads_is_dropped_when_sending_makes_no_progress() {
    let daemon = Daemon::start(&["--rate-limit=0", "--http-write-timeout=300ms"]);
    put(&daemon, "s", &"x".repeat(2000));
    let files = settled_open_files(&daemon);
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_nonblocking(true).unwrap();
    for _ in 0..2000 {
        if (&stream).write(&request("GET", "/api/v1/named/s", "", "")).is_err() {
            break;
        }
    }
    wait_until("the connection is taken in", || daemon.open_files() == files + 1);
    wait_until("the connection is dropped", || daemon.open_files() == files);
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    put(&daemon, "s", "body");
    let mut connection = daemon.connect();
    connection.send(&[request("GET", "/api/v1/named/s", "", ""), HEALTHZ.to_vec()].concat());
    connection.end_sending();
    assert_eq!(answer(&mut connection).body, b"body");
    assert_eq!(answer(&mut connection).body, b"ok\n");
    connection.expect_end().unwrap();

    // While it waits for a lock, too, with a further request behind the wait.
    let mut holder = daemon.connect();
    let held = lock(&mut holder, "s", "BigBunny-Lock-Hold: 20000\r\n");
    let mut waiter = daemon.connect();
    waiter.send(&[begin("s", "BigBunny-Lock-Wait: 20000\r\n"), HEALTHZ.to_vec()].concat());
    waiter.end_sending();
    wait_until("it waits", || metric(&daemon, "bbd_lock_waiters") == 1.0);
    sleep(Duration::from_millis(50));
    assert_eq!(metric(&daemon, "bbd_lock_waiters"), 1.0, "a half-close does not end the wait");
    holder.send(&cancel("s", &held));
    assert_eq!(answer(&mut holder).status, 200);
    assert!(answer(&mut waiter).header("BigBunny-Lock-ID").is_some());
    assert_eq!(answer(&mut waiter).body, b"ok\n");
    waiter.expect_end().unwrap();
}

#[test]
fn a_waiting_client_that_goes_away_leaves_the_line() {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    put(&daemon, "s", "body");
    let mut holder = daemon.connect();
    let held = lock(&mut holder, "s", "BigBunny-Lock-Hold: 30000\r\n");
    let wait = begin("s", "BigBunny-Lock-Wait: 30000\r\nBigBunny-Lock-Hold: 30000\r\n");
    let mut gone = daemon.connect();
    gone.send(&[wait.clone(), HEALTHZ.to_vec()].concat());
    wait_until("the first waits", || metric(&daemon, "bbd_lock_waiters") == 1.0);
    let mut stays = daemon.connect();
    stays.send(&wait);
    wait_until("the second waits", || metric(&daemon, "bbd_lock_waiters") == 2.0);
    drop(gone);
    wait_until("the first has left the line", || metric(&daemon, "bbd_lock_waiters") == 1.0);
    holder.send(&cancel("s", &held));
    assert_eq!(answer(&mut holder).status, 200);
    assert!(answer(&mut stays).header("BigBunny-Lock-ID").is_some());
}

#[test]
fn a_lock_of_scope_connection_ends_with_it() {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    put(&daemon, "s", "body");
    let scope = "BigBunny-Lock-Scope: connection\r\nBigBunny-Lock-Hold: 30000\r\n";
    let mut holder = daemon.connect();
    let held = lock(&mut holder, "s", scope);
    drop(holder);
    wait_until("the lock is free", || metric(&daemon, "bbd_locks") == 0.0);
    let mut next = daemon.connect();
    assert_ne!(lock(&mut next, "s", scope), held);
    let mut waiter = daemon.connect();
    waiter.send(&begin("s", "BigBunny-Lock-Wait: 30000\r\n"));
    wait_until("it waits", || metric(&daemon, "bbd_lock_waiters") == 1.0);
    drop(next);
    assert!(answer(&mut waiter).header("BigBunny-Lock-ID").is_some());
}

#[test]
fn waiting_for_a_lock_counts_against_no_deadline() {
    let daemon = Daemon::start(&[
        "--rate-limit=0",
        "--http-read-timeout=100ms",
        "--http-read-header-timeout=100ms",
        "--http-write-timeout=100ms",
        "--http-idle-timeout=100ms",
    ]);
    put(&daemon, "s", "body");
    let mut holder = daemon.connect();
    lock(&mut holder, "s", "BigBunny-Lock-Hold: 700\r\n");
    let mut waiter = daemon.connect();
    let part = HEALTHZ.len() / 2;
    waiter.send(&[begin("s", "BigBunny-Lock-Wait: 10000\r\n"), HEALTHZ[..part].to_vec()].concat());
    assert!(answer(&mut waiter).header("BigBunny-Lock-ID").is_some());
    waiter.send(&HEALTHZ[part..]);
    assert_eq!(answer(&mut waiter).body, b"ok\n", "the time of the next request begins behind the wait");
    waiter.expect_end().expect("closed in silence when idle");
    holder.expect_end().expect("closed in silence when idle");
}

#[test]
fn a_slow_request_is_over_at_its_total_time() {
    let daemon = Daemon::start(&["--http-read-header-timeout=300ms", "--http-read-timeout=600ms"]);
    let body = request("PUT", "/api/v1/named/s", "", &"x".repeat(1000));
    let head_bytes = body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    for (at_once, patience_ms) in [(1, 300), (head_bytes + 1, 600)] {
        let mut connection = daemon.connect();
        let started = Instant::now();
        connection.send(&body[..at_once]);
        connection.stream().set_nonblocking(true).unwrap();
        for byte in body[at_once..].chunks(1) {
            sleep(Duration::from_millis(20));
            connection.send(byte);
            // Until something is there to be read.
            let mut peeked = [0; 1];
            if rustix::net::recv(connection.stream(), &mut peeked, rustix::net::RecvFlags::PEEK).is_ok() {
                break;
            }
        }
        let took = started.elapsed();
        connection.stream().set_nonblocking(false).unwrap();
        let answer = answer(&mut connection);
        assert_eq!((answer.status, answer.closes()), (408, true));
        assert!(took >= Duration::from_millis(patience_ms), "too early: {took:?}");
        assert!(took < Duration::from_millis(3 * patience_ms), "too late: {took:?}");
    }
}

#[test]
fn limits_that_are_met_are_logged_and_not_again_and_again() {
    let daemon = Daemon::start(&[
        "--rate-limit=1000",
        "--burst-size=100",
        "--memory-limit=10K",
        "--customer-memory-quota=5K",
        "--tombstone-customer-limit=1",
    ]);
    let statuses = |requests: &[Vec<u8>]| -> Vec<u16> {
        let mut connection = daemon.connect();
        requests.iter().for_each(|request| connection.send(request));
        requests.iter().map(|_| answer(&mut connection).status).collect()
    };
    let put = |name: &str| request("PUT", &format!("/api/v1/named/{name}"), "", &"x".repeat(1500));
    assert_eq!(statuses(&[put("a"), put("b"), put("c"), put("d")])[3], 507, "the quota");
    let of = |customer: &str| {
        let text = String::from_utf8(put("a")).unwrap().replace("-ID: c", &format!("-ID: {customer}"));
        statuses(&[text.into_bytes()])[0]
    };
    assert!(["d", "e", "f", "g", "h"].map(of).contains(&507), "the memory");
    let delete = |name: &str| request("DELETE", &format!("/api/v1/named/{name}"), "", "");
    assert_eq!(statuses(&[delete("a"), delete("b")]), [200, 429]);
    assert!(statuses(&vec![request("GET", "/api/v1/named/none", "", ""); 500]).contains(&429));
    wait_until("all are logged", || {
        let log = daemon.log();
        ["rate_limit", "memory_limit", "customer_memory_quota", "tombstone_limit"]
            .iter()
            .all(|event| (1..=5).contains(&log.matches(&format!(" {event}_reached ")).count()))
    });
}

#[test]
fn connections_past_the_limit_are_told_and_closed() {
    let dir = TempDir::new();
    // The other door has no place for operators.
    let own = dir.path().join("own.sock");
    let daemon = Daemon::start_in(dir, |command| {
        command.arg("--max-connections=5").arg(format!("--uds-for=acme={}", own.display()));
    });
    let connect = || Connection::new(UnixStream::connect(&own).unwrap());
    let mut open: Vec<Connection> = (0..5).map(|_| daemon.connect()).collect();
    for connection in &mut open {
        connection.send(HEALTHZ);
        assert_eq!(answer(connection).status, 200);
    }
    let mut late = connect();
    sleep(Duration::from_millis(50));
    late.stream().write_all(HEALTHZ).expect("who is refused may still send its request");
    assert_eq!(answer(&mut late).status, 503);
    // More than may linger, so that both ways of refusing are taken.
    for _ in 0..100 {
        let mut refused = connect();
        let answer = answer(&mut refused);
        assert_eq!((answer.status, answer.closes()), (503, true));
        assert!(answer.header("Retry-After").is_some());
        refused.expect_end().unwrap();
    }
    let refused: Vec<Connection> = (0..100).map(|_| connect()).collect();
    for connection in &mut open {
        connection.send(HEALTHZ);
        assert_eq!(answer(connection).status, 200, "those inside are not hurt");
    }
    open.pop();
    let mut next = daemon.connect();
    next.send(HEALTHZ);
    assert_eq!(answer(&mut next).status, 200, "those refused take no room, though they are still there");
    drop(refused);
    assert_eq!(daemon.log().matches("too_many_connections").count(), 5, "counted, not repeated: {}", daemon.log());
}

#[test]
fn no_more_connections_than_descriptors() {
    let dir = TempDir::new();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    let bbd = Daemon::command_in(&dir);
    command.arg(bbd.get_program()).args(bbd.get_args()).stderr(Daemon::log_in(&dir));
    let daemon = Daemon::run(dir, command);
    assert!(daemon.log().contains("too_few_descriptors"), "{}", daemon.log());
    let mut clients: Vec<Connection> = (0..200).map(|_| daemon.connect()).collect();
    let mut served = 0;
    for client in &mut clients {
        client.send(HEALTHZ);
        match answer(client).status {
            200 => served += 1,
            503 => {}
            other => panic!("status {other}"),
        }
    }
    assert!((20..64).contains(&served), "{served} of 200 were served");
    drop(clients);
    wait_until("there is room again", || daemon.ask(HEALTHZ).status == 200);
}

#[test]
fn running_out_of_descriptors_does_not_spin_and_passes() {
    let daemon = Daemon::start(&[] as &[&str]);
    let limit = daemon.open_files() as u64 + 4;
    prlimit(Some(daemon.pid()), Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    let mut clients: Vec<Connection> = (0..50).map(|_| daemon.connect()).collect();
    let mut first = clients.remove(0);
    first.send(HEALTHZ);
    assert_eq!(answer(&mut first).status, 200);
    wait_until("it is noticed", || daemon.log().contains("no_descriptors_left"));
    let before = daemon.processor_time();
    sleep(Duration::from_millis(1000));
    let spent = daemon.processor_time() - before;
    assert!(spent <= Duration::from_millis(200), "{spent:?} of processor time in a second of nothing");
    first.send(HEALTHZ);
    assert_eq!(answer(&mut first).status, 200, "those inside are served meanwhile");
    drop(clients);
    let freed = Instant::now();
    wait_until("there is room again", || daemon.ask(HEALTHZ).status == 200);
    assert!(freed.elapsed() < Duration::from_secs(1), "{:?}", freed.elapsed());
}

#[test]
fn slow_clients_do_not_slow_others() {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    put(&daemon, "s", &"x".repeat(1000));
    let mut slow: Vec<Connection> = (0..200).map(|_| daemon.connect()).collect();
    let get = request("GET", "/api/v1/named/s", "", "");
    let pipeline = get.repeat(1000);
    let greedy = UnixStream::connect(daemon.socket()).unwrap();
    greedy.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut sink = vec![0; 1 << 16];
    let mut fast = daemon.connect();
    let mut times = Vec::new();
    for round in 0..200 {
        for connection in &mut slow {
            connection.send(&get[round % get.len()..][..1]);
        }
        // One that pipelines as much as it can, and reads it all.
        while let Ok(length) = (&greedy).write(&pipeline[sent..]) {
            sent = (sent + length) % pipeline.len();
        }
        while matches!((&greedy).read(&mut sink), Ok(1..)) {}
        let asked = Instant::now();
        fast.send(&get);
        assert_eq!(answer(&mut fast).status, 200);
        times.push(asked.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(5), "median {median:?}, worst {:?}", times.last());
}

/// Connections that have each sent the most of an increment of the same counter, a few bytes at a time.
fn bit_by_bit(daemon: &Daemon, count: usize, increment: &[u8]) -> Vec<Connection> {
    let mut connections: Vec<Connection> = (0..count).map(|_| daemon.connect()).collect();
    for piece in increment[..40].chunks(4) {
        for connection in &mut connections {
            connection.send(piece);
        }
        // Each piece is read by itself.
        sleep(Duration::from_millis(5));
        assert_eq!(daemon.ask(HEALTHZ).status, 200);
    }
    connections
}

/// Which increment of the counter was this connection's: its place in the order in which the daemon served them.
fn place(connection: &mut Connection) -> usize {
    let answer = answer(connection);
    let text = String::from_utf8(answer.body).unwrap();
    let value = text.split_once("\"value\":").and_then(|(_, rest)| rest.split([',', '}']).next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no value in {text}"))
}

#[test]
fn who_keeps_up_is_served_before_those_who_do_not() {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    let increment = request("POST", "/api/v1/named/n/increment", "", "{\"delta\":1}");
    let mut slow = bit_by_bit(&daemon, 200, &increment);
    let mut prompt = daemon.connect();
    prompt.send(HEALTHZ);
    assert_eq!(answer(&mut prompt).status, 200);
    daemon.freeze();
    for connection in &mut slow {
        connection.send(&increment[40..]);
    }
    prompt.send(&increment);
    daemon.signal(Signal::CONT);
    assert_eq!(place(&mut prompt), 1, "200 others were there before it");
    let mut places: Vec<usize> = slow.iter_mut().map(place).collect();
    places.sort_unstable();
    assert!(places.iter().copied().eq(2..=201), "everybody else is served all the same");
}

#[test]
fn nobody_waits_for_ever_behind_those_who_keep_up() {
    // So many requests a turn serves of the prompt lane while the slow one waits.
    const PROMPT_IN_A_TURN: usize = 512 - 128;
    let daemon = Daemon::start(&["--rate-limit=0"]);
    let increment = request("POST", "/api/v1/named/n/increment", "", "{\"delta\":1}");
    let mut slow = bit_by_bit(&daemon, 1, &increment);
    let mut prompt: Vec<Connection> = (0..900).map(|_| daemon.connect()).collect();
    daemon.freeze();
    for connection in &mut prompt {
        connection.send(&increment);
    }
    slow[0].send(&increment[40..]);
    daemon.signal(Signal::CONT);
    let at = place(&mut slow[0]);
    assert!(at <= PROMPT_IN_A_TURN + 1, "it was served as number {at}");
    assert!(prompt.iter_mut().map(place).max() == Some(901));
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let daemon = Daemon::start(&["--rate-limit=0", "--max-connections=200"]);
    put(&daemon, "s", "body");
    let mut inside = daemon.connect();
    inside.send(HEALTHZ);
    assert_eq!(answer(&mut inside).status, 200);
    let files = settled_open_files(&daemon);
    let storm = |seed: usize| {
        let mut kept = std::collections::VecDeque::new();
        for index in 0..2500 {
            let mut connection = daemon.connect();
            match (index + seed) % 5 {
                0 => {}
                1 => connection.send(&HEALTHZ[..7]),
                2 => connection.send(b"\x16\x03\x01\x00\xff garbage"),
                3 => connection.send(&request("GET", "/api/v1/named/s", "", "").repeat(50)),
                _ => connection.send(&request("PUT", "/api/v1/named/s", "", &"x".repeat(5000))[..3000]),
            }
            kept.push_back(connection);
            if kept.len() > 100 {
                kept.pop_front();
            }
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || storm(seed));
        }
    });
    inside.send(HEALTHZ);
    assert_eq!(answer(&mut inside).status, 200, "those inside are not hurt");
    wait_until("every descriptor is freed", || daemon.open_files() == files);
    assert_eq!(
        daemon.ask(&request("GET", "/api/v1/named/s", "", "")).body,
        b"body",
        "no half request changed anything"
    );
    assert!(daemon.peak_memory_bytes() < 48 << 20, "{} bytes", daemon.peak_memory_bytes());
}

#[test]
fn idle_connections_cost_next_to_nothing() {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    put(&daemon, "s", &"x".repeat(2000));
    let before = daemon.peak_memory_bytes();
    let mut idle: Vec<Connection> = (0..1000).map(|_| daemon.connect()).collect();
    for connection in &mut idle {
        connection.send(&request("GET", "/api/v1/named/s", "", "").repeat(20));
        for _ in 0..20 {
            assert_eq!(answer(connection).status, 200);
        }
    }
    let grown = daemon.peak_memory_bytes() - before;
    assert!(grown < 2 << 20, "{grown} bytes for 1000 idle connections");
}

/// All of it is there when the loop wakes up: it is read from many connections before the first is served.
#[test]
fn what_many_send_at_once_is_answered_to_each() {
    const CONNECTIONS: usize = 50;
    let daemon = Daemon::start(&["--rate-limit=0"]);
    let ids: Vec<String> = (0..CONNECTIONS)
        .map(|number| daemon.ask(&request("POST", "/api/v1/create", "", &format!("first of {number}"))))
        .map(|answer| String::from_utf8(answer.body).unwrap())
        .collect();
    let snapshot = |number: usize| request("POST", &format!("/api/v1/snapshot/{}", ids[number]), "", "");
    let update = |number: usize| {
        let body = format!("second of {number}");
        request("POST", &format!("/api/v1/update/{}", ids[number]), "", &body)
    };
    let delete = |number: usize| request("POST", &format!("/api/v1/delete/{}", ids[number]), "", "");
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| daemon.connect()).collect();
    wait_until("all are in", || metric(&daemon, "bbd_connections") >= CONNECTIONS as f64);

    daemon.freeze();
    for (number, connection) in connections.iter_mut().enumerate() {
        let whole = snapshot(number);
        let (half, _) = whole.split_at(whole.len() / 2);
        match number % 7 {
            0 => connection.send(&whole),
            1 => connection.send(&[&update(number)[..], &whole, &whole].concat()),
            2 => connection.send(&[&whole, half].concat()),
            3 => connection.send(half),
            4 => {
                connection.send(&whole);
                connection.end_sending();
            }
            5 => connection.send(&[&whole[..], &delete(number), &whole].concat()),
            _ => connection.send(b"GET\r\n\r\n"),
        }
    }
    daemon.signal(Signal::CONT);
    for (number, connection) in connections.iter_mut().enumerate() {
        let whole = snapshot(number);
        let (_, rest) = whole.split_at(whole.len() / 2);
        let (first, second) = (format!("first of {number}"), format!("second of {number}"));
        let mut expect = |status: u16, body: Option<&str>| {
            let answer = answer(connection);
            assert_eq!(answer.status, status, "{number}: {answer:?}");
            assert!(body.is_none_or(|body| answer.body == body.as_bytes()), "{number}: {answer:?}");
        };
        match number % 7 {
            0 => expect(200, Some(&first)),
            1 => {
                expect(200, Some(""));
                expect(200, Some(&second));
                expect(200, Some(&second));
            }
            2 => {
                expect(200, Some(&first));
                connection.send(rest);
                assert_eq!(answer(connection).body, first.as_bytes());
            }
            3 => {
                connection.send(rest);
                assert_eq!(answer(connection).body, first.as_bytes());
            }
            4 => {
                expect(200, Some(&first));
                connection.expect_end().unwrap();
            }
            5 => {
                expect(200, Some(&first));
                expect(200, None);
                expect(404, None);
            }
            _ => {
                expect(400, None);
                connection.expect_end().unwrap();
            }
        }
    }
}

/// Their keys are looked up together before the first store id is opened.
#[test]
fn customers_who_ask_at_once_get_what_is_theirs_alone() {
    const CONNECTIONS: usize = 40;
    let daemon = Daemon::start(&["--rate-limit=0"]);
    let asked_by = |customer: usize, path: &str, body: &str| {
        let text = String::from_utf8(request("POST", path, "", body)).unwrap();
        text.replace("X-Customer-ID: c", &format!("X-Customer-ID: c-{customer}")).into_bytes()
    };
    let ids: Vec<String> = (0..CONNECTIONS)
        .map(|number| daemon.ask(&asked_by(number, "/api/v1/create", &format!("of {number}"))))
        .map(|answer| String::from_utf8(answer.body).unwrap())
        .collect();
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| daemon.connect()).collect();
    wait_until("all are in", || metric(&daemon, "bbd_connections") >= CONNECTIONS as f64);
    for round in 0..3 {
        daemon.freeze();
        for (number, connection) in connections.iter_mut().enumerate() {
            // Every third one asks for its neighbour's, in front of its own.
            let own = asked_by(number, &format!("/api/v1/snapshot/{}", ids[number]), "");
            let others = asked_by(number, &format!("/api/v1/snapshot/{}", ids[(number + 1) % CONNECTIONS]), "");
            connection.send(&if number % 3 == round { [others, own].concat() } else { own });
        }
        daemon.signal(Signal::CONT);
        for (number, connection) in connections.iter_mut().enumerate() {
            if number % 3 == round {
                assert_eq!(answer(connection).status, 400, "{number}");
            }
            let own = answer(connection);
            assert_eq!((own.status, own.body), (200, format!("of {number}").into_bytes()), "{number}");
        }
    }
}

//! Every limit of section 8 of the specification at its value and one past it; and all of them at once, under clients that mean
//! harm, beside others that mean none.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use bigbunny::node::{NAME_OVERHEAD_BYTES, STORE_OVERHEAD_BYTES};

use crate::support::{Answer, Connection, Daemon, PATIENCE};

fn request(customer: &str, method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: {customer}\r\n{headers}");
    format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// A request of the customer `c`: the status, and the error code if there is one.
fn ask(daemon: &Daemon, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    said(&daemon.ask(&request("c", method, path, headers, body)))
}

fn said(answer: &Answer) -> (u16, String) {
    (answer.status, answer.header("BigBunny-Error-Code").unwrap_or_default().to_owned())
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn sizes_of_requests() {
    let daemon = Daemon::start(&["--rate-limit=0", "--max-store-size=100", "--http-max-header-bytes=4096"]);
    let put =
        |name: &str, headers: &str, body: &str| ask(&daemon, "PUT", &format!("/api/v1/named/{name}"), headers, body);
    assert_eq!(put("a", "", &"x".repeat(100)).0, 201, "--max-store-size");
    assert_eq!(put("a", "", &"x".repeat(101)).0, 413);
    assert_eq!(put(&"n".repeat(256), "", "").0, 201, "a name");
    assert_eq!(put(&"n".repeat(257), "", "").0, 414);
    // A target has 8 KiB at most, whatever a head may have.
    let roomy = Daemon::start(&["--rate-limit=0"]);
    let of_target = |bytes: usize| {
        roomy.ask(&request("c", "GET", &format!("/healthz?{}", "q".repeat(bytes - "/healthz?".len())), "", "")).status
    };
    assert_eq!((of_target(8192), of_target(8193)), (200, 414), "a target");
    let empty = request("c", "PUT", "/api/v1/named/a", "X-Pad: \r\n", "").len();
    let head_of = |bytes: usize| format!("X-Pad: {}\r\n", "p".repeat(bytes - empty));
    assert_eq!(put("a", &head_of(4096), "").0, 200, "--http-max-header-bytes");
    assert_eq!(put("a", &head_of(4097), "").0, 431);
    // Host, X-Customer-ID and Content-Length are three of the lines.
    assert_eq!(put("a", &"A: b\r\n".repeat(61), "").0, 200, "lines of a head");
    assert_eq!(put("a", &"A: b\r\n".repeat(62), "").0, 431);
    let key = |chars: usize| format!("Idempotency-Key: {}\r\n", "k".repeat(chars));
    assert_eq!(put("a", &key(128), "").0, 200, "an idempotency key");
    assert_eq!(put("a", &key(129), "").0, 400);
    let by = |customer: &str| daemon.ask(&request(customer, "GET", "/api/v1/named/b", "", "")).status;
    assert_eq!((by(&"c".repeat(64)), by(&"c".repeat(65))), (404, 400), "a customer");

    let increment = |bytes: usize| {
        let body = format!("{{\"delta\":1{}}}", " ".repeat(bytes - "{\"delta\":1}".len()));
        ask(&daemon, "POST", "/api/v1/named/n/increment", "", &body).0
    };
    assert_eq!((increment(4096), increment(4097)), (200, 413), "a small JSON body");
    let many = |names: usize| {
        ask(&daemon, "POST", "/api/v1/named", "", &format!("{{\"get\":[{}]}}", vec!["\"a\""; names].join(","))).0
    };
    assert_eq!((many(100), many(101)), (200, 400), "names at once");
    let list = |limit: u32| ask(&daemon, "GET", &format!("/api/v1/named?limit={limit}"), "", "").0;
    assert_eq!((list(0), list(1), list(1000), list(1001)), (400, 200, 200, 400), "names on a page");
}

#[test]
fn times_of_life_and_of_locks() {
    let daemon = Daemon::start(&["--rate-limit=0", "--max-lock-timeout=20s"]);
    let put =
        |ttl: &str| ask(&daemon, "PUT", "/api/v1/named/a", &format!("BigBunny-Not-Valid-After: {ttl}\r\n"), "x").0;
    assert_eq!((put("0"), put("1"), put("315360000"), put("315360001")), (400, 201, 200, 400), "a time to live");
    let begin = |headers: &str| {
        let answer = daemon.ask(&request("c", "POST", "/api/v1/named/a/begin-modify", headers, ""));
        if let Some(lock) = answer.header("BigBunny-Lock-ID") {
            let lock = format!("BigBunny-Lock-ID: {lock}\r\n");
            assert_eq!(ask(&daemon, "POST", "/api/v1/named/a/cancel-modify", &lock, "").0, 200);
        }
        answer.status
    };
    assert_eq!((begin("BigBunny-Lock-Hold: 20000\r\n"), begin("BigBunny-Lock-Hold: 20001\r\n")), (200, 400), "a hold");
    assert_eq!((begin("BigBunny-Lock-Wait: 30000\r\n"), begin("BigBunny-Lock-Wait: 30001\r\n")), (200, 400), "a wait");
}

#[test]
fn requests_of_a_customer() {
    // One in 20 s is not one in the time that the test takes.
    let daemon = Daemon::start(&["--rate-limit=1", "--burst-size=20"]);
    let mut connection = daemon.connect();
    let began = Instant::now();
    connection.send(&request("c", "GET", "/api/v1/named/a", "", "").repeat(25));
    let answers: Vec<Answer> = (0..25).map(|_| connection.answer(false).unwrap().unwrap()).collect();
    let passed = answers.iter().take_while(|answer| answer.status == 404).count();
    let earned = began.elapsed().as_secs() as usize + 1;
    assert!((20..=20 + earned).contains(&passed), "{passed} of a burst of 20");
    let refused = answers.last().unwrap();
    assert_eq!((said(refused), refused.header("Retry-After")), (code(429, "RateLimited"), Some("1")));
    let other = daemon.ask(&request("other", "GET", "/api/v1/named/a", "", ""));
    assert_eq!(other.status, 404, "each customer has a bucket of its own");
}

#[test]
fn memory_and_tombstones() {
    // A name of one byte and a body of 100.
    let cost = STORE_OVERHEAD_BYTES + NAME_OVERHEAD_BYTES + 2 + 100;
    let daemon = Daemon::start(&[
        "--rate-limit=0".to_owned(),
        format!("--customer-memory-quota={}", 2 * cost),
        format!("--memory-limit={}", 3 * cost),
        "--tombstone-customer-limit=1".to_owned(),
        "--tombstone-global-limit=2".to_owned(),
    ]);
    let by = |customer: &str, method: &str, name: &str, bytes: usize| {
        said(&daemon.ask(&request(customer, method, &format!("/api/v1/named/{name}"), "", &"x".repeat(bytes))))
    };
    assert_eq!(by("a", "PUT", "1", 100).0, 201);
    assert_eq!(by("a", "PUT", "2", 101), code(507, "CustomerQuotaExceeded"), "one byte past the quota");
    assert_eq!(by("a", "PUT", "2", 100).0, 201, "the quota is used up");
    assert_eq!(by("a", "PUT", "2", 101), code(507, "CustomerQuotaExceeded"), "growing is refused");
    assert_eq!(by("a", "PUT", "2", 99).0, 200, "shrinking is not");
    assert_eq!(by("a", "PUT", "2", 100).0, 200);
    assert_eq!(by("b", "PUT", "1", 101), code(507, "CapacityExceeded"), "one byte past the limit");
    assert_eq!(by("b", "PUT", "1", 100).0, 201, "the node is full");
    assert_eq!(by("c", "PUT", "1", 0), code(507, "CapacityExceeded"));

    assert_eq!(by("a", "DELETE", "1", 0).0, 200);
    assert_eq!(by("a", "DELETE", "2", 0), code(429, "TombstoneLimitExceeded"), "one past the customer's");
    assert_eq!(by("b", "DELETE", "1", 0).0, 200);
    assert_eq!(by("c", "PUT", "1", 0).0, 201);
    assert_eq!(by("c", "DELETE", "1", 0), code(429, "TombstoneLimitExceeded"), "one past that of all");
}

#[test]
fn locks_of_a_connection() {
    let daemon = Daemon::start(&["--rate-limit=0", "--max-lock-timeout=1m", "--lock-timeout=1m"]);
    let mut connection = daemon.connect();
    let scope = "BigBunny-Lock-Scope: connection\r\nBigBunny-Create-If-Missing: true\r\n";
    let mut begin = |name: usize| {
        connection.send(&request("c", "POST", &format!("/api/v1/named/{name}/begin-modify"), scope, ""));
        connection.answer(false).unwrap().unwrap().status
    };
    for name in 0..1000 {
        assert_eq!(begin(name), 201);
    }
    assert_eq!(begin(1000), 503, "one past the locks of a connection");
}

/// Connections of each kind of attacker.
const ATTACKERS: usize = 100;
const HONEST: usize = 20;
/// What a connection may hold: unsent answers, of which one may exceed the bound, and a head that has not ended; with their buffers'
/// slack of one doubling, and what the table holds of it.
const CONNECTION_BYTES_MAX: u64 = 2 * (64 * 1024 + 2048) + 2 * 64 * 1024 + 1024;

/// Slow heads, slow bodies, no reading, endless heads and connects without end, until told to stop.
fn attack(daemon: &Daemon, kind: usize, is_over: &AtomicBool) {
    let connect = || {
        let stream = UnixStream::connect(daemon.socket())?;
        stream.set_nonblocking(true)?;
        Ok::<UnixStream, std::io::Error>(stream)
    };
    let mut open: VecDeque<UnixStream> = VecDeque::new();
    let head = request("evil", "PUT", "/api/v1/named/e", "", &"x".repeat(2000));
    let reads = request("evil", "GET", "/api/v1/named/big", "", "").repeat(500);
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        while open.len() < ATTACKERS {
            match connect() {
                Ok(stream) => open.push_back(stream),
                // The line at the socket is full: that is what a storm does.
                Err(_) => sleep(Duration::from_millis(1)),
            }
            if is_over.load(Ordering::Relaxed) {
                return;
            }
        }
        for stream in &mut open {
            let bytes = match kind {
                0 => &head[round % 50..][..1],
                1 if round == 0 => &head[..300],
                1 => b"x",
                2 => &reads,
                3 => b"X-Endless: 0123456789012345678901234567890123456789\r\n".as_slice(),
                _ => b"G",
            };
            let bytes = if kind == 3 && round == 0 { b"GET / HTTP/1.1\r\n" } else { bytes };
            // Whoever was closed comes back.
            if matches!(stream.write(bytes), Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
                && let Ok(new) = connect()
            {
                *stream = new;
            }
        }
        if kind == 4 {
            open.clear();
        }
        round += 1;
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn honest_clients_are_served_among_hostile_ones() {
    let daemon = Daemon::start(&["--rate-limit=0", "--max-connections=2000"]);
    let big = daemon.ask(&request("evil", "PUT", "/api/v1/named/big", "", &"b".repeat(2000)));
    assert_eq!(big.status, 201);
    let before = daemon.peak_memory_bytes();
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        for kind in 0..5 {
            let (daemon, is_over) = (&daemon, &is_over);
            scope.spawn(move || attack(daemon, kind, is_over));
        }
        let honest = || {
            let mut clients: Vec<Connection> = (0..HONEST).map(|_| daemon.connect()).collect();
            for round in 0..20 {
                for (index, client) in clients.iter_mut().enumerate() {
                    client.send(&request("c", "PUT", &format!("/api/v1/named/{index}"), "", &format!("{round}")));
                    client.send(&request("c", "GET", &format!("/api/v1/named/{index}"), "", ""));
                }
                for client in &mut clients {
                    let put = client.answer(false).unwrap().unwrap();
                    assert_eq!(put.status, if round == 0 { 201 } else { 200 });
                    assert_eq!(client.answer(false).unwrap().unwrap().body, format!("{round}").as_bytes());
                }
                sleep(Duration::from_millis(20));
            }
        };
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(honest));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = served {
            std::panic::resume_unwind(panic);
        }
    });
    let grown = daemon.peak_memory_bytes() - before;
    let bound = (5 * ATTACKERS + HONEST) as u64 * CONNECTION_BYTES_MAX;
    assert!(grown < bound, "{grown} bytes more, {bound} at most");
    let mut last = daemon.connect();
    last.send(&request("c", "GET", "/api/v1/named/0", "", ""));
    assert_eq!(last.answer(false).unwrap().unwrap().body, b"19");
    // Nothing of them stays.
    let deadline = Instant::now() + PATIENCE;
    while daemon.open_files() > 64 {
        assert!(Instant::now() < deadline, "{} files are open", daemon.open_files());
        sleep(Duration::from_millis(20));
    }
}

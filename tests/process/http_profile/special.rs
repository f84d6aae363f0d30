//! The cases that are about connections and time: deadlines, clients that vanish, never read, or are too many.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::case::{Delivery, MARKER, PROBE, check_form, equal, get_named, get_with, put};
use super::expect::{final_answers_when_rate_limited, final_answers_without_continue};
use super::{Daemons, ENOUGH_DEVIATIONS, PROBE_BODY, Report, let_it_read, send_bytes};
use crate::support::{Answer, Connection, Daemon, TempDir};

pub(super) type Outcome = Result<(), String>;
pub(super) type Shared = Mutex<Report>;

/// Each runs on a thread of its own, beside the table. Those that measure milliseconds are in `expect`, and come
/// first and alone.
pub(crate) const ALL: [fn(&Daemons, &Shared); 13] = [
    final_answers_without_continue,
    final_answers_when_rate_limited,
    vanishing_clients,
    slow_heads,
    slow_bodies,
    clients_that_never_read,
    idle_connections,
    too_many_connections,
    a_thousand_requests_in_one_write,
    half_closed_clients,
    uploads_that_are_refused,
    rate_limits,
    requests_behind_the_last,
];

/// Deadlines of the hasty daemon are a second; a busy machine may add to them.
pub(super) const SECOND: Duration = Duration::from_secs(1);
const SOON_AFTER: Duration = Duration::from_secs(4);

pub(super) fn count(report: &Shared, id: &str, delivery: &str, outcome: Outcome) {
    report.lock().unwrap().count(id, delivery, outcome);
}

/// Sends `input` whole, byte by byte, and cut at each offset, each on a connection of its own, which `then` gets.
pub(super) fn each_way(
    report: &Shared,
    id: &str,
    daemon: &Daemon,
    input: &[u8],
    mut then: impl FnMut(&mut Connection) -> Outcome,
) {
    let mut deviations = 0;
    let cuts = (1..input.len()).map(Delivery::Cut);
    for delivery in [Delivery::Whole, Delivery::Bytes].into_iter().chain(cuts) {
        let mut connection = daemon.connect();
        match delivery {
            Delivery::Bytes => send_bytes(&mut connection, input),
            Delivery::Cut(at) => {
                connection.send(&input[..at]);
                let_it_read(daemon);
                connection.send(&input[at..]);
            }
            Delivery::Whole | Delivery::Followed | Delivery::CutFollowed(_) => connection.send(input),
        }
        let outcome = then(&mut connection);
        deviations += usize::from(outcome.is_err());
        count(report, id, &format!("{delivery:?}"), outcome);
        if deviations == ENOUGH_DEVIATIONS {
            return;
        }
    }
}

/// The next answer must have one of these statuses.
pub(super) fn expect_status(connection: &mut Connection, statuses: &[u16]) -> Result<Answer, String> {
    match connection.answer(false)? {
        Some(answer) if statuses.contains(&answer.status) => check_form(&answer, false).map(|()| answer),
        Some(answer) => Err(format!("expected {statuses:?}, got {}", answer.status)),
        None => Err(format!("expected {statuses:?}, the connection ended")),
    }
}

/// The connection lives, and what comes next on it is a new request.
pub(super) fn expect_alive(connection: &mut Connection) -> Outcome {
    connection.send(PROBE);
    equal(&expect_status(connection, &[200])?, PROBE_BODY)?;
    connection.expect_end()
}

/// How many files are open when nobody is connected: the connections of the start may still be on their way out.
fn files_at_rest(daemon: &Daemon) -> usize {
    let counts = (0..10).map(|_| {
        sleep(Duration::from_millis(10));
        daemon.open_files()
    });
    counts.min().unwrap_or_default()
}

/// The number of open files must come back to what it was.
fn expect_files(daemon: &Daemon, before: usize) -> Outcome {
    let deadline = Instant::now() + SOON_AFTER;
    while daemon.open_files() > before {
        if Instant::now() > deadline {
            return Err(format!("{} files are open, {before} were", daemon.open_files()));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// L36 and S08: clients that connect and go, at any point of a request.
fn vanishing_clients(_: &Daemons, report: &Shared) {
    let daemon = Daemon::start(&["--rate-limit=0"]);
    let before = files_at_rest(&daemon);
    let log_before = daemon.log();
    for _ in 0..50 {
        drop(daemon.connect());
        let mut connection = daemon.connect();
        connection.send(b"G");
    }
    count(report, "L36", "connect and close; 1 byte and close", expect_files(&daemon, before));
    let outcome = if daemon.log() == log_before { Ok(()) } else { Err(format!("logged {:?}", daemon.log())) };
    count(report, "L36", "silent", outcome);

    let request = put("bad", "x", "Content-Length: 30\r\n", "thirty bytes make one body");
    for at in 1..request.len() {
        let mut connection = daemon.connect();
        connection.send(&request[..at]);
    }
    // With an answer that it has not read, a client that closes resets the connection.
    for _ in 0..50 {
        let mut connection = daemon.connect();
        connection.send(&[get_with(""), request.clone()].concat());
        let_it_read(&daemon);
    }
    count(report, "S08", "at each offset", expect_files(&daemon, before));
    count(report, "S08", "no change", super::case::no_stores(&daemon, "bad"));
}

/// A deadline must end this connection with `408`, a second after `started`.
fn expect_timeout(connection: &mut Connection, started: Instant) -> Outcome {
    let answer = expect_status(connection, &[408])?;
    let took = started.elapsed();
    if took < SECOND * 9 / 10 || took > SOON_AFTER {
        return Err(format!("408 came after {took:?}"));
    }
    if !answer.closes() {
        return Err("408 without Connection: close".into());
    }
    connection.expect_end()
}

/// Sends a byte each 50 ms until the other side has had enough; then the answer must be `408`.
fn trickle(daemon: &Daemon, first: &[u8], rest: &[u8]) -> Outcome {
    let mut connection = daemon.connect();
    connection.send(first);
    let started = Instant::now();
    let stream = connection.stream().try_clone().map_err(|error| error.to_string())?;
    thread::scope(|scope| {
        scope.spawn(move || {
            for byte in rest {
                if (&stream).write_all(&[*byte]).is_err() || started.elapsed() > SOON_AFTER {
                    break;
                }
                sleep(Duration::from_millis(50));
            }
        });
        expect_timeout(&mut connection, started)
    })
}

/// S01: the deadline is one for the whole head.
fn slow_heads(daemons: &Daemons, report: &Shared) {
    let head = get_with(format!("X: {}\r\n", "y".repeat(200)));
    count(report, "S01", "a byte each 50 ms", trickle(&daemons.hasty, b"", &head));
    count(report, "S01", "empty lines, a byte each 50 ms", trickle(&daemons.hasty, b"", &b"\r\n".repeat(100)));
    count(report, "S01", "behind another request", {
        let mut connection = daemons.hasty.connect();
        connection.send(&get_with(""));
        expect_status(&mut connection, &[200]).and_then(|_| {
            let started = Instant::now();
            connection.send(&head[..20]);
            expect_timeout(&mut connection, started)
        })
    });
}

/// S02: and one for the body.
fn slow_bodies(daemons: &Daemons, report: &Shared) {
    let head = put("bad", "x", "Content-Length: 1000000\r\n", "");
    count(report, "S02", "a byte each 50 ms", trickle(&daemons.hasty, &head, &[b'x'; 200]));
    let head = put("bad", "x", "Transfer-Encoding: chunked\r\n", "");
    count(report, "S02", "a chunk each 250 ms", trickle(&daemons.hasty, &head, &b"1\r\nx\r\n".repeat(40)));
    count(report, "S02", "no change", super::case::no_stores(&daemons.hasty, "bad"));
}

/// S03: nobody's unread answers may pile up, nor keep a connection.
fn clients_that_never_read(_: &Daemons, report: &Shared) {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 20;
    let daemon = Daemon::start(&["--rate-limit=0", "--max-store-size=1M", "--http-write-timeout=1s"]);
    let before = files_at_rest(&daemon);
    let blob = vec![b'x'; 1 << 20];
    assert_eq!(daemon.ask(&put("good", "big", "Content-Length: 1048576\r\n", &blob)).status, 201);
    let requests = get_named("good", "big").repeat(REQUESTS);
    let mut connections: Vec<Connection> = (0..CLIENTS).map(|_| daemon.connect()).collect();
    for connection in &mut connections {
        connection.send(&requests);
    }
    sleep(Duration::from_millis(500));
    let answered = daemon.ask(&get_named("good", "big")).body == blob;
    count(report, "S03", "others are answered meanwhile", if answered { Ok(()) } else { Err("no".into()) });
    count(report, "S03", "the daemon lets go", expect_files(&daemon, before));
    for connection in &connections {
        connection.stream().set_read_timeout(Some(SECOND)).unwrap();
        let mut received = Vec::new();
        let _ = connection.stream().read_to_end(&mut received);
        let all = received.len() >= REQUESTS << 20;
        count(report, "S03", "never reads", if all { Err("all was written".into()) } else { Ok(()) });
    }
    // One answer in each connection's output, and something for the daemon itself.
    let peak = daemon.peak_memory_bytes();
    let bound = (CLIENTS as u64 * 3 + 32) << 20;
    count(report, "S03", "memory", if peak < bound { Ok(()) } else { Err(format!("{peak} bytes of memory")) });
}

/// S04: an idle connection ends without a word; who races that gets an answer or a clean end.
fn idle_connections(daemons: &Daemons, report: &Shared) {
    for used in [true, false] {
        let mut connection = daemons.hasty.connect();
        let outcome = (|| {
            if used {
                connection.send(&get_with(""));
                expect_status(&mut connection, &[200])?;
            }
            let started = Instant::now();
            connection.expect_end()?;
            let took = started.elapsed();
            if took < SECOND * 9 / 10 || took > SOON_AFTER { Err(format!("it ended after {took:?}")) } else { Ok(()) }
        })();
        count(report, "S04", if used { "used" } else { "unused" }, outcome);
    }
    // While the daemon is stopped, both come: the end of its patience, and a request.
    let daemon = Daemon::start(&["--http-idle-timeout=1s"]);
    let health = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut connection = daemon.connect();
    let_it_read(&daemon);
    daemon.signal(rustix::process::Signal::STOP);
    sleep(SECOND * 5 / 4);
    connection.send(health);
    daemon.signal(rustix::process::Signal::CONT);
    let outcome = match connection.answer(false) {
        Ok(Some(answer)) if answer.status == 200 => connection.expect_end(),
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    count(report, "S04", "a request in a pause of the daemon", outcome);
    thread::scope(|scope| {
        for step in 0..60 {
            scope.spawn(move || {
                let mut connection = daemons.hasty.connect();
                connection.send(&get_with(""));
                let outcome = expect_status(&mut connection, &[200]).and_then(|_| {
                    sleep(Duration::from_millis(980) + Duration::from_millis(step));
                    connection.send(PROBE);
                    match connection.answer(false)? {
                        Some(answer) => equal(&answer, PROBE_BODY),
                        None => Ok(()),
                    }
                });
                count(report, "S04", &format!("a request after {} ms", 980 + step), outcome);
            });
        }
    });
}

/// S05: who is in stays in.
fn too_many_connections(_: &Daemons, report: &Shared) {
    const MOST: usize = 4;
    let health = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let dir = TempDir::new();
    // The other door has no place for operators.
    let own = dir.path().join("own.sock");
    let daemon = Daemon::start_in(dir, |command| {
        command.arg(format!("--max-connections={MOST}")).arg(format!("--uds-for=acme={}", own.display()));
    });
    let connect = || Connection::new(UnixStream::connect(&own).expect("the backlog is longer than this"));
    let ask = |connection: &mut Connection| {
        connection.send(health);
        expect_status(connection, &[200]).map(|_| ())
    };
    let before = files_at_rest(&daemon);
    let mut inside: Vec<Connection> = Vec::new();
    let deadline = Instant::now() + SOON_AFTER;
    while inside.len() < MOST && Instant::now() < deadline {
        let mut connection = daemon.connect();
        if ask(&mut connection).is_ok() {
            inside.push(connection);
        }
    }
    count(
        report,
        "S05",
        "as many as may",
        if inside.len() == MOST { Ok(()) } else { Err(format!("only {}", inside.len())) },
    );
    for delivery in ["one too many", "and another"] {
        let mut outside = connect();
        let outcome = expect_status(&mut outside, &[503]).and_then(|answer| {
            if answer.closes() { outside.expect_end() } else { Err("503 without Connection: close".into()) }
        });
        count(report, "S05", delivery, outcome);
        let mut eager = connect();
        eager.send(health);
        count(report, "S05", "one too many that asks at once", expect_status(&mut eager, &[503]).map(|_| ()));
        for connection in &mut inside {
            count(report, "S05", "inside", ask(connection));
        }
    }
    drop(inside);
    count(report, "S05", "all are gone", expect_files(&daemon, before));
    count(report, "S05", "room again", ask(&mut daemon.connect()));
}

/// S06: all that was asked at once is answered in order, and not all at once.
fn a_thousand_requests_in_one_write(_: &Daemons, report: &Shared) {
    const REQUESTS: usize = 1000;
    const NAMES: usize = 7;
    const BYTES: usize = 60_000;
    let daemon = Daemon::start(&["--rate-limit=0", "--max-store-size=64K"]);
    let body = |number: usize| format!("{number}{}", "x".repeat(BYTES));
    for number in 0..NAMES {
        let body = body(number);
        let lines = format!("Content-Length: {}\r\n", body.len());
        assert_eq!(daemon.ask(&put("good", &number.to_string(), lines, body)).status, 201);
    }
    let requests: Vec<u8> = (0..REQUESTS).flat_map(|number| get_named("good", &(number % NAMES).to_string())).collect();
    let mut connection = daemon.connect();
    let stream = connection.stream().try_clone().unwrap();
    let outcome = thread::scope(|scope| {
        scope.spawn(move || (&stream).write_all(&requests));
        sleep(Duration::from_millis(300));
        for number in 0..REQUESTS {
            let answer = expect_status(&mut connection, &[200]).map_err(|error| format!("answer {number}: {error}"))?;
            equal(&answer, &body(number % NAMES)).map_err(|error| format!("answer {number}: {error}"))?;
        }
        Ok(())
    });
    count(report, "S06", "read late", outcome);
    let peak = daemon.peak_memory_bytes();
    let outcome = if peak < 30 << 20 { Ok(()) } else { Err(format!("{peak} bytes of memory for 60 MB of answers")) };
    count(report, "S06", "memory", outcome);
}

/// S07: a client that has said all it has to say still reads.
fn half_closed_clients(daemons: &Daemons, report: &Shared) {
    let two = [put("good", "s07", "Content-Length: 2\r\n", "hi"), get_named("good", "s07")].concat();
    each_way(report, "S07", &daemons.usual, &two, |connection| {
        connection.end_sending();
        expect_status(connection, &[200, 201])?;
        equal(&expect_status(connection, &[200])?, "hi")?;
        connection.expect_end()
    });
}

/// S09: the answer reaches a client that is still sending.
fn uploads_that_are_refused(daemons: &Daemons, report: &Shared) {
    let mebibyte = vec![b'x'; 1 << 20];
    let chunk = [b"100000\r\n", &mebibyte[..], b"\r\n"].concat();
    for (delivery, lines, piece) in [
        ("Content-Length", "Content-Length: 104857600\r\n", &mebibyte),
        ("chunked", "Transfer-Encoding: chunked\r\n", &chunk),
    ] {
        let mut connection = daemons.usual.connect();
        connection.send(&put("bad", "x", format!("Connection: close\r\n{lines}"), ""));
        let started = Instant::now();
        for _ in 0..100 {
            if connection.stream().write_all(piece).is_err() || started.elapsed() > SOON_AFTER {
                break;
            }
        }
        let outcome = expect_status(&mut connection, &[413])
            .and_then(|answer| if answer.closes() { Ok(()) } else { Err("413 without Connection: close".into()) });
        count(report, "S09", delivery, outcome);
    }
}

/// S11: a refusal for haste says when to come back, and nothing else.
fn rate_limits(_: &Daemons, report: &Shared) {
    let daemon = Daemon::start(&["--rate-limit=1", "--burst-size=2"]);
    assert_eq!(daemon.ask(&put("busy", MARKER, "Content-Length: 2\r\n", "hi")).status, 201);
    let refused = |name: &str| loop {
        let answer = daemon.ask(&get_named("busy", name));
        if answer.status == 429 {
            return answer;
        }
    };
    let (known, unknown) = (refused(MARKER), refused("nothing"));
    for answer in [&known, &unknown] {
        let outcome = (|| {
            check_form(answer, false)?;
            super::case::no_echo(answer)?;
            let seconds = answer.header("Retry-After").ok_or("no Retry-After")?;
            if !seconds.parse::<u32>().is_ok_and(|seconds| seconds >= 1) {
                return Err(format!("Retry-After: {seconds}"));
            }
            for name in ["Cache-Control", "ETag", "Expires", "BigBunny-Not-Valid-After", "BigBunny-Lock-State"] {
                if answer.header(name).is_some() {
                    return Err(format!("{name} in a 429"));
                }
            }
            Ok(())
        })();
        count(report, "S11", "form", outcome);
    }
    let outcome =
        if known.body == unknown.body { Ok(()) } else { Err("it tells known names from unknown ones".into()) };
    count(report, "S11", "known and unknown", outcome);
}

/// H20: a request behind the last one meets a connection that is just being closed, and the client sees the end and no
/// reset.
fn requests_behind_the_last(daemons: &Daemons, report: &Shared) {
    const TRIES: u32 = 2000;
    const LATEST: u32 = 200;
    let behind = put("bad", "x", "Content-Length: 2\r\n", "hi");
    for number in 0..TRIES {
        let mut connection = daemons.usual.connect();
        connection.send(PROBE);
        let started = Instant::now();
        while started.elapsed() < Duration::from_micros(u64::from(number % LATEST)) {
            std::hint::spin_loop();
        }
        connection.send(&behind);
        let outcome = expect_status(&mut connection, &[200]).and_then(|_| connection.expect_end());
        count(report, "H20", &format!("a request {} µs behind", number % LATEST), outcome);
    }
}

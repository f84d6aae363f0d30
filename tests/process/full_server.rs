//! A server that has no place left for clients: an operator gets in all the same, and nobody else through the operator's place.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Answer, Connection, Daemon, PATIENCE, TempDir, has_tool};

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_STORE: &[u8] = b"GET /api/v1/named/s HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\n\r\n";
const PUT_STORE: &[u8] =
    b"PUT /api/v1/named/s HTTP/1.1\r\nHost: a\r\nX-Customer-ID: c\r\nContent-Length: 5\r\n\r\nhello";
/// Who has no rights at all, on every system.
const NOBODY: u32 = 65534;

fn answer(connection: &mut Connection) -> Answer {
    connection.answer(false).expect("an answer").expect("an answer before the end")
}

/// Connects so many clients, who have been served and stay.
fn fill(daemon: &Daemon, places: usize) -> Vec<Connection> {
    let mut inside: Vec<Connection> = (0..places).map(|_| daemon.connect()).collect();
    for connection in &mut inside {
        connection.send(HEALTHZ);
        let answer = answer(connection);
        assert_eq!((answer.status, answer.closes()), (200, false), "an ordinary place");
    }
    inside
}

/// Runs a command of the binary on the daemon.
fn run(daemon: &Daemon, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
    command.args(words).arg("--uds").arg(daemon.socket()).env_clear();
    command.output().expect("bbd runs")
}

fn is_for_operators(answer: &Answer) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    answer.status == 503 && answer.closes() && text.contains("kept for operators")
}

#[test]
fn an_operator_gets_in_when_all_places_are_taken() {
    let daemon = Daemon::start(&["--max-connections=5"]);
    let mut inside = fill(&daemon, 5);
    for words in [&["status"][..], &["top", "--once", "--interval=100ms"], &["doctor"], &["promote"], &["status"]] {
        let ran = run(&daemon, words);
        let said = String::from_utf8_lossy(&ran.stderr);
        // What the doctor finds is no failure to see him.
        assert!(ran.status.success() || (words == ["doctor"] && !ran.stdout.is_empty()), "{words:?}: {said}");
        assert!(!said.contains("StoreUnavailable"), "{words:?}: {said}");
    }
    let page = daemon.ask(METRICS);
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("\nbbd_connections 5\n"), "{page}");
    assert!(page.contains("\nbbd_connections_rejected_total 0\n"), "no operator was refused: {page}");

    for request in [GET_STORE, PUT_STORE] {
        let mut connection = daemon.connect();
        connection.send(request);
        let refused = answer(&mut connection);
        assert!(is_for_operators(&refused), "{refused:?}");
        assert_eq!(refused.header("BigBunny-Error-Code"), Some("StoreUnavailable"));
        assert!(refused.header("Retry-After").is_some());
        connection.expect_end().unwrap();
    }
    let page = String::from_utf8(daemon.ask(METRICS).body).unwrap();
    assert!(page.contains("\nbbd_connections_rejected_total 2\n"), "{page}");
    assert!(page.contains("\nbbd_limits_reached_total{limit=\"max-connections\"} 2\n"), "{page}");

    inside[0].send(GET_STORE);
    assert_eq!(answer(&mut inside[0]).status, 404, "those inside are served, and nothing was stored");
    inside.pop();
    let mut next = daemon.connect();
    next.send(PUT_STORE);
    assert_eq!(answer(&mut next).status, 201, "a place that is free again is anybody's");
}

#[test]
fn nobody_stays_at_the_place_for_operators() {
    let daemon = Daemon::start(&["--max-connections=2"]);
    let _inside = fill(&daemon, 2);

    // Who has had an answer is out, although it does not close.
    let mut answered: Vec<Connection> = Vec::new();
    for _ in 0..100 {
        let mut connection = daemon.connect();
        connection.send(HEALTHZ);
        let healthy = answer(&mut connection);
        assert_eq!((healthy.status, healthy.closes()), (200, true), "{healthy:?}");
        answered.push(connection);
    }

    // One who says nothing has it for a second, and one who does not finish a request too.
    for beginning in
        [&b""[..], &HEALTHZ[..10], b"POST /internal/promote HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"]
    {
        let began = Instant::now();
        let mut silent = daemon.connect();
        silent.send(beginning);
        let mut second = daemon.connect();
        second.send(HEALTHZ);
        let refused = answer(&mut second);
        assert_eq!((refused.status, refused.closes()), (503, true), "there is one: {refused:?}");
        match silent.answer(false).expect("an answer or an end") {
            None => assert!(beginning.is_empty()),
            Some(late) => assert_eq!((late.status, late.closes()), (408, true)),
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        assert_eq!(daemon.ask(HEALTHZ).status, 200, "the next one does not wait until it has closed");
        drop(silent);
    }
}

#[test]
fn only_operators_and_only_on_the_main_socket() {
    let dir = TempDir::new();
    set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let own = dir.path().join("own.sock");
    let daemon = Daemon::start_in(dir, |command| {
        command.args(["--max-connections=2", "--uds-mode=0666"]).arg(format!("--uds-for=acme={}", own.display()));
    });
    let _inside = fill(&daemon, 2);
    let mut at_own = Connection::new(UnixStream::connect(&own).unwrap());
    at_own.send(HEALTHZ);
    assert_eq!(answer(&mut at_own).status, 503);
    assert_eq!(daemon.ask(HEALTHZ).status, 200);
    if !rustix::process::geteuid().is_root() || !has_tool("curl") {
        return;
    }
    let status_for = |uid: u32| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(daemon.socket());
        let ran = curl.arg("http://b/healthz").uid(uid).gid(uid).output().unwrap();
        String::from_utf8(ran.stdout).unwrap() + &String::from_utf8_lossy(&ran.stderr)
    };
    assert_eq!(status_for(0), "200");
    assert_eq!(status_for(NOBODY), "503", "another user may use the socket, but is no operator");
}

#[test]
fn the_place_for_operators_has_a_descriptor() {
    let dir = TempDir::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    let bbd = Daemon::command_in(&dir);
    command.arg(bbd.get_program()).args(bbd.get_args()).stderr(Daemon::log_in(&dir));
    let daemon = Daemon::run(dir, command);
    let clients: Vec<Connection> = (0..200).map(|_| daemon.connect()).collect();
    // The first one too many is at the place, and leaves it within a second.
    let deadline = Instant::now() + PATIENCE;
    while !run(&daemon, &["status"]).status.success() {
        assert!(Instant::now() < deadline, "no operator gets in");
        sleep(Duration::from_millis(50));
    }
    for _ in 0..10 {
        let ran = run(&daemon, &["status"]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    let refused = daemon.ask(GET_STORE);
    assert!(is_for_operators(&refused), "{refused:?}");
    assert!(daemon.open_files() <= 64);
    assert!(!daemon.log().contains("no_descriptors_left"), "{}", daemon.log());
    let before = daemon.processor_time();
    sleep(Duration::from_secs(1));
    let spent = daemon.processor_time() - before;
    assert!(spent <= Duration::from_millis(200), "{spent:?} of processor time in a second of nothing");
    drop(clients);
}

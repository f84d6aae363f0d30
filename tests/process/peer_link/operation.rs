//! What operators do to two live nodes under load: they change keys and token, and restart one node after the other. Clients must
//! not notice.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pair::{
    NodeFlags, a_pair, crash, metric, request, status, two_nodes, wait_for_log, wait_for_role, wait_until,
};
use crate::service_manager::passing_in;
use crate::support::{Answer, Connection, Daemon, PATIENCE, TempDir};

fn write_secret(path: &Path, text: &str) {
    // In one step, as a careful operator does: a reload never sees half of it.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, path).unwrap();
}

fn text(answer: Answer) -> String {
    String::from_utf8(answer.body).unwrap()
}

/// Reloads both nodes, one after the other, with clients at work between.
fn reload_both(nodes: [&Daemon; 2]) {
    for node in nodes {
        let before = node.log().matches("store_keys_reloaded").count();
        node.signal(Signal::HUP);
        wait_until("it is reloaded", || node.log().matches("store_keys_reloaded").count() > before);
        sleep(Duration::from_millis(100));
    }
}

/// Makes stores at one node and reads them at the other at once, and an old one with them: how often, and what was refused.
fn make_here_read_there(here: &Daemon, there: &Daemon, old: &str, is_over: &AtomicBool) -> (u32, Vec<String>) {
    let (mut here, mut there) = (here.connect(), there.connect());
    let (mut count, mut refused) = (0, Vec::new());
    let mut ask = |connection: &mut Connection, bytes: &[u8]| {
        connection.send(bytes);
        let answer = connection.answer(false).expect("an answer").expect("an answer");
        if answer.status != 200 {
            refused.push(format!("{answer:?}"));
        }
        answer
    };
    let fresh = "BigBunny-Read: primary\r\n";
    while !is_over.load(Ordering::Relaxed) {
        let id = text(ask(&mut here, &request("POST", "/api/v1/create", "", "x")));
        ask(&mut there, &request("GET", &format!("/api/v1/snapshot/{id}"), fresh, ""));
        ask(&mut there, &request("GET", &format!("/api/v1/snapshot/{old}"), fresh, ""));
        count += 3;
    }
    (count, refused)
}

#[test]
fn keys_and_token_are_changed_on_two_live_nodes_without_refusing_a_request() {
    let dir = TempDir::new();
    let (keys, token) = (dir.path().join("keys"), dir.path().join("token"));
    let key = |id: &str, digit: &str| format!("{id}:{}", digit.repeat(64));
    let (old_key, new_key) = (key("20250101", "1"), key("20260101", "2"));
    write_secret(&keys, &old_key);
    write_secret(&token, "the first token, long enough");
    let flags = [format!("--store-keys-file={}", keys.display()), format!("--internal-token-file={}", token.display())];
    let (flags, a, b) = a_pair(&[&flags[0], &flags[1]]);
    let create = |node: &Daemon| text(node.ask(&request("POST", "/api/v1/create", "", "x")));
    let opens = |node: &Daemon, id: &str| node.ask(&request("GET", &format!("/api/v1/snapshot/{id}"), "", "")).status;
    let old = create(&a);
    let is_over = AtomicBool::new(false);
    let load = scope(|scope| {
        let (a, b, old, is_over) = (&a, &b, old.as_str(), &is_over);
        let clients = [(a, b), (b, a), (a, a), (b, b)]
            .map(|(here, there)| scope.spawn(move || make_here_read_there(here, there, old, is_over)));
        sleep(Duration::from_millis(200));
        // Both learn the key with the first reload, and make ids with it from the second on (or a minute later).
        write_secret(&keys, &format!("{old_key},{new_key}"));
        reload_both([a, b]);
        assert!(create(a).starts_with("v1:20250101:") && create(b).starts_with("v1:20250101:"));
        assert_eq!(status(a, "store_key"), "20250101");
        reload_both([a, b]);
        assert!(create(a).starts_with("v1:20260101:") && create(b).starts_with("v1:20260101:"));
        write_secret(&token, "the second token, long enough too");
        reload_both([a, b]);
        sleep(Duration::from_millis(200));
        is_over.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap())
    });
    let refused: Vec<&String> = load.iter().flat_map(|(_, refused)| refused).collect();
    let count: u32 = load.iter().map(|(count, _)| count).sum();
    assert!(refused.is_empty(), "{} of {count} were refused: {refused:?}", refused.len());
    assert!(load.iter().all(|(count, _)| *count > 100), "{load:?}");
    println!("{count} requests during the change of the key and of the token, none refused");
    for node in [&a, &b] {
        assert!(
            node.log().contains("next=20260101") && node.log().contains("internal_token_reloaded"),
            "{}",
            node.log()
        );
        assert!(!node.log().contains("peer_link_down"), "the connections stay up: {}", node.log());
    }
    // The key that is dropped opens nothing any more, and a connection that is made now is made with the new token.
    write_secret(&keys, &new_key);
    reload_both([&a, &b]);
    let new = create(&a);
    wait_until("it is replicated", || opens(&b, &new) == 200);
    assert_eq!((opens(&a, &old), opens(&b, &old), opens(&a, &new)), (400, 400, 200));
    let dir = crash(b);
    wait_for_log(&a, "peer_link_down");
    let b = flags[1].start_in(dir);
    wait_for_role(&b, "SECONDARY");
    assert_eq!(opens(&b, &new), 200);
}

/// What a client of one node saw.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: u32,
    repeated: u32,
    failed: Vec<String>,
    longest: Duration,
}

/// Increments a counter of its own until told to stop, each time on a connection of its own, as scripts do. What fails is tried once
/// more, when the answer says so, with the same idempotency key.
fn increment_patiently(socket: &Path, name: &str, is_over: &AtomicBool, total: &AtomicU32) -> Seen {
    let mut seen = Seen::default();
    let ask = |number: u32| -> Result<Answer, String> {
        let key = format!("Idempotency-Key: {name}-{number}\r\n");
        let path = format!("/api/v1/named/{name}/increment");
        let mut connection = Connection::new(UnixStream::connect(socket).map_err(|error| error.to_string())?);
        connection.send(&request("POST", &path, &key, r#"{"delta":1}"#));
        let answer = connection.answer(false)?.ok_or("closed without an answer")?;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    };
    while !is_over.load(Ordering::Relaxed) {
        let number = seen.acknowledged + u32::try_from(seen.failed.len()).unwrap();
        let asked = Instant::now();
        let answered = ask(number).or_else(|_| {
            seen.repeated += 1;
            // The least that Retry-After can say.
            sleep(Duration::from_secs(1));
            ask(number)
        });
        seen.longest = seen.longest.max(asked.elapsed());
        match answered {
            Ok(_) => seen.acknowledged += 1,
            Err(error) => seen.failed.push(error),
        }
        total.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(2));
    }
    seen
}

/// A node whose socket is the service manager's.
struct Managed {
    flags: NodeFlags,
    listener: UnixListener,
}

impl Managed {
    fn new(flags: NodeFlags, dir: &TempDir) -> Self {
        Self { flags, listener: UnixListener::bind(Daemon::socket_in(dir)).unwrap() }
    }

    fn start(&self, dir: TempDir) -> Daemon {
        let mut bbd = Daemon::command_in(&dir);
        self.flags.add_to(&mut bbd);
        let command = passing_in(&self.listener, &bbd, &dir);
        Daemon::run(dir, command)
    }

    /// `systemctl restart`, and the wait that the manual asks for: how long nobody served the socket.
    fn restart(&self, daemon: Daemon) -> (Daemon, Duration) {
        daemon.signal(Signal::TERM);
        let (status, dir) = daemon.wait();
        let ended = Instant::now();
        assert_eq!(status.code(), Some(0));
        let again = self.start(dir);
        let away = ended.elapsed();
        wait_for_role(&again, "SECONDARY");
        (again, away)
    }
}

#[test]
fn a_rolling_restart_loses_nothing_and_shows_no_error_to_who_tries_twice() {
    const CLIENTS_PER_NODE: usize = 3;
    let dirs = [TempDir::new(), TempDir::new()];
    let sockets = dirs.each_ref().map(Daemon::socket_in);
    let [flags_a, flags_b] = two_nodes(&[]);
    let (managed_a, managed_b) = (Managed::new(flags_a, &dirs[0]), Managed::new(flags_b, &dirs[1]));
    let [dir_a, dir_b] = dirs;
    let (a, b) = (managed_a.start(dir_a), managed_b.start(dir_b));
    wait_for_role(&a, "PRIMARY");
    wait_for_role(&b, "SECONDARY");
    let (is_over, total) = (AtomicBool::new(false), AtomicU32::new(0));
    let (clients, (a, b), away) = scope(|scope| {
        let clients: Vec<_> = (0..2 * CLIENTS_PER_NODE)
            .map(|number| {
                let (socket, is_over, total) = (&sockets[number % 2], &is_over, &total);
                scope.spawn(move || increment_patiently(socket, &format!("c{number}"), is_over, total))
            })
            .collect();
        let some_more = || {
            let before = total.load(Ordering::Relaxed);
            wait_until("clients go on", || total.load(Ordering::Relaxed) >= before + 100);
        };
        some_more();
        let (b, away_b) = managed_b.restart(b);
        wait_until("in step", || metric(&a, "bbd_peer_in_step{peer=\"b\"}") == 1.0);
        some_more();
        let (a, away_a) = managed_a.restart(a);
        wait_until("in step", || metric(&b, "bbd_peer_in_step{peer=\"a\"}") == 1.0);
        some_more();
        is_over.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        (seen, (a, b), [away_b, away_a])
    });
    let deadline = Instant::now() + PATIENCE;
    for (number, seen) in clients.iter().enumerate() {
        assert_eq!(seen.failed, [] as [&str; 0], "client {number}; a: {} b: {}", a.log(), b.log());
        // Every increment that was acknowledged is there, and no other, at both nodes.
        for node in [&a, &b] {
            let value = || text(node.ask(&request("GET", &format!("/api/v1/named/c{number}"), "", "")));
            let wanted = format!("{{\"value\":{},", seen.acknowledged);
            while !value().starts_with(&wanted) {
                assert!(Instant::now() < deadline, "client {number}: {} is not {wanted}", value());
                sleep(Duration::from_millis(2));
            }
        }
    }
    assert_eq!((status(&a, "role"), status(&b, "role")), ("SECONDARY".to_owned(), "PRIMARY".to_owned()));
    let acknowledged: u32 = clients.iter().map(|seen| seen.acknowledged).sum();
    let repeated: u32 = clients.iter().map(|seen| seen.repeated).sum();
    let longest = clients.iter().map(|seen| seen.longest).max().unwrap();
    println!("{acknowledged} increments over a rolling restart, {repeated} repeated once, none lost, none failed");
    println!("the longest took {longest:?}; the sockets waited for a daemon {away:?}");
}

//! `/metrics` of a living daemon: what is counted, what is timed, and whether Prometheus would take it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Answer, Daemon, PATIENCE, TempDir, has_tool};

fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: b\r\nX-Customer-ID: shop\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    daemon.ask(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

fn page(daemon: &Daemon) -> String {
    String::from_utf8(ask(daemon, "GET", "/metrics", &[], "").body).unwrap()
}

/// The value of a series; 0 if it is not there.
fn value(page: &str, series: &str) -> f64 {
    let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    page.lines().find_map(of).unwrap_or(0.0)
}

#[test]
fn requests_are_counted_by_operation_and_result() {
    let daemon = Daemon::start(&["--rate-limit=1000", "--burst-size=30", "--http-read-header-timeout=200ms"]);
    let id = String::from_utf8(ask(&daemon, "POST", "/api/v1/create", &[], "one").body).unwrap();
    for _ in 0..3 {
        ask(&daemon, "GET", &format!("/api/v1/snapshot/{id}"), &[], "");
    }
    ask(&daemon, "GET", "/api/v1/snapshot/v1:0:nonsense", &[], "");
    ask(&daemon, "POST", "/api/v1/complete-modify/ID", &[], "");
    ask(&daemon, "POST", &format!("/api/v1/update/{id}"), &[], &"x".repeat(3000));
    ask(&daemon, "GET", "/nowhere", &[], "");
    daemon.ask(b"nonsense\r\n\r\n");
    ask(&daemon, "GET", "/api/v1/auth/nobody", &[], "");
    ask(&daemon, "POST", "/internal/release-lock/nonsense", &[], "");
    // The head never ends.
    assert_eq!(daemon.ask(b"GET / HTTP/1.1\r\nHost:").status, 408);
    let page = page(&daemon);
    for (operation, result, count) in [
        ("create", "ok", 1.0),
        ("snapshot", "ok", 3.0),
        ("snapshot", "400", 1.0),
        ("complete-modify", "400", 1.0),
        ("update", "413", 1.0),
        ("none", "404", 1.0),
        ("none", "400", 1.0),
        ("none", "408", 1.0),
        ("auth", "401", 1.0),
        ("release-lock", "NotFound", 1.0),
    ] {
        let series = format!("bbd_requests_total{{operation=\"{operation}\",result=\"{result}\"}}");
        assert_eq!(value(&page, &series), count, "{series}");
    }
    assert_eq!(value(&page, "bbd_limits_reached_total{limit=\"body-size\"}"), 1.0);
    assert_eq!(value(&page, "bbd_limits_reached_total{limit=\"read-time\"}"), 1.0);
    assert!(value(&page, "bbd_connections_accepted_total") >= 13.0, "one a request");
    assert!(value(&page, "bbd_resident_memory_bytes") > 500_000.0);
    // Every answer before this one is timed, and the wait for the rest of the head is not the daemon's time.
    let timed = |operation| value(&page, &format!("bbd_request_duration_seconds_count{{operation=\"{operation}\"}}"));
    assert_eq!((timed("snapshot"), timed("none"), timed("metrics")), (4.0, 3.0, 0.0));
    let slow = "bbd_request_duration_seconds_bucket{operation=\"none\",le=\"0.1\"}";
    assert_eq!(value(&page, slow), 3.0, "{page}");
}

#[test]
fn a_wait_for_a_lock_is_part_of_the_duration() {
    let daemon = Daemon::start(&["--lock-timeout=300ms"]);
    let id = String::from_utf8(ask(&daemon, "POST", "/api/v1/create", &[], "one").body).unwrap();
    ask(&daemon, "POST", &format!("/api/v1/begin-modify/{id}"), &[], "");
    let path = format!("/api/v1/update/{id}");
    assert_eq!(ask(&daemon, "POST", &path, &["BigBunny-Lock-Wait: 5000"], "two").status, 200);
    let page = page(&daemon);
    let bucket =
        |bound| value(&page, &format!("bbd_request_duration_seconds_bucket{{operation=\"update\",le=\"{bound}\"}}"));
    assert_eq!((bucket("0.1"), bucket("+Inf")), (0.0, 1.0), "{page}");
    assert!(value(&page, "bbd_request_duration_seconds_sum{operation=\"update\"}") > 0.2);
    let quick = "bbd_request_duration_seconds_bucket{operation=\"begin-modify\",le=\"0.1\"}";
    assert_eq!(value(&page, quick), 1.0);
}

#[test]
fn a_stalled_loop_is_counted_and_logged() {
    let daemon = Daemon::start::<&str>(&[]);
    let before = value(&page(&daemon), "bbd_loop_stalls_total");
    // Stopped in a turn or not, it is between the two readings of the clock at least once in so many tries.
    for _ in 0..200 {
        let mut connection = daemon.connect();
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n");
        daemon.freeze();
        sleep(Duration::from_millis(6));
        daemon.signal(rustix::process::Signal::CONT);
        connection.answer(false).unwrap();
        if value(&page(&daemon), "bbd_loop_stalls_total") > before {
            assert!(daemon.log().contains(" warn loop_stalled ms="), "{}", daemon.log());
            return;
        }
    }
    panic!("no stall was seen in 200 tries");
}

#[test]
fn prometheus_takes_the_page() {
    if !has_tool("promtool") {
        return;
    }
    let daemon = Daemon::start::<&str>(&[]);
    ask(&daemon, "PUT", "/api/v1/named/a", &[], "one");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page(&daemon).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// An address of this host that nobody listens on.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What curl says of a page on TCP: the status and the body.
fn curl(address: &str, path: &str) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "10", "-w", "%{http_code}"]).arg(format!("http://{address}{path}"));
    let output = curl.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.split_at(text.len() - 3);
    (status.to_owned(), body.to_owned())
}

#[test]
fn over_tcp_there_are_metrics_and_health_alone() {
    if !has_tool("curl") {
        return;
    }
    let address = free_address();
    let daemon = Daemon::start(&[format!("--metrics-listen={address}"), "--max-connections=1".to_owned()]);
    // No client's connection keeps the scraper out.
    let mut only = daemon.connect();
    only.send(b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(only.answer(false).unwrap().unwrap().status, 200);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(curl(&address, path), ("200".to_owned(), "ok\n".to_owned()));
    }
    let (status, page) = curl(&address, "/metrics");
    assert_eq!(status, "200");
    assert!(page.contains("\nbbd_connections 1\n") && page.contains("\nbbd_connections_limit 1\n"), "{page}");
    for path in ["/status", "/metrics/", "/api/v1/named/a", "/api/v1/create", "/internal/promote", "/"] {
        assert_eq!(curl(&address, path).0, "404", "{path}");
    }
}

#[test]
fn scrapers_have_a_limit_of_their_own() {
    let address = free_address();
    let daemon = Daemon::start(&[format!("--metrics-listen={address}")]);
    let status = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes[9..].to_vec()).unwrap()
    };
    let mut scrapers = Vec::new();
    for _ in 0..16 {
        let mut scraper = TcpStream::connect(&address).unwrap();
        scraper.write_all(b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        assert_eq!(status(&mut scraper), "200");
        scrapers.push(scraper);
    }
    let mut late = TcpStream::connect(&address).unwrap();
    assert_eq!(status(&mut late), "503");
    assert_eq!(ask(&daemon, "GET", "/healthz", &[], "").status, 200, "clients have theirs");
    scrapers.pop();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut next = TcpStream::connect(&address).unwrap();
        next.write_all(b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        if status(&mut next) == "200" {
            break;
        }
        assert!(Instant::now() < deadline, "there is no room again");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn other_hosts_are_let_in_only_on_purpose() {
    let refused = |flags: &[&str]| {
        let dir = TempDir::new();
        let output = Daemon::command_in(&dir).args(flags).stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = refused(&["--metrics-listen=0.0.0.0:9120"]);
    assert_eq!(status, Some(2));
    assert!(
        said.contains("--metrics-listen: 0.0.0.0:9120 is not allowed") && said.contains("--metrics-listen-any"),
        "{said}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (status, said) = refused(&[&format!("--metrics-listen={}", taken.local_addr().unwrap())]);
    assert_eq!(status, Some(1));
    assert!(said.contains("cannot listen on --metrics-listen 127.0.0.1:"), "{said}");

    let port = free_address().rsplit_once(':').unwrap().1.to_owned();
    let daemon = Daemon::start(&[format!("--metrics-listen=0.0.0.0:{port}"), "--metrics-listen-any".to_owned()]);
    assert!(daemon.log().contains("--metrics-listen-any: whoever reaches 0.0.0.0:"), "{}", daemon.log());
    TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
}

#[test]
fn the_journal_gets_priorities_and_nobody_a_whole_store_id() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = TempDir::new();
    let log = Daemon::log_in(&dir).metadata().unwrap();
    let daemon = Daemon::start_in(dir, |command| {
        command.env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino())).arg("--log-format=json");
    });
    let id = String::from_utf8(ask(&daemon, "POST", "/api/v1/create", &[], "one").body).unwrap();
    ask(&daemon, "POST", &format!("/api/v1/begin-modify/{id}"), &[], "");
    assert_eq!(ask(&daemon, "POST", &format!("/internal/release-lock/{id}"), &[], "").status, 200);
    let log = daemon.log();
    let event =
        |name: &str| log.lines().find(|line| line.contains(&format!("\"event\":\"{name}\""))).unwrap().to_owned();
    assert!(event("configuration").starts_with("<4>{\"time\":"), "{log}");
    assert!(event("started").starts_with("<6>{\"time\":"), "{log}");
    let released = event("lock_released");
    assert!(
        released.ends_with(&format!(",\"by\":\"operator\",\"store\":\"{}…\"}}", &id[.."v1:0:12345678".len()])),
        "{released}"
    );
    assert_eq!(value(&page(&daemon), "bbd_log_events_total{event=\"lock_released\"}"), 1.0);
}

#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

const DAY: u64 = 20_500;

/// The metrics of a primary of a pair, as they should be.
const METRICS: &str = "bbd_role{role=\"PRIMARY\"} 1\nbbd_memory_limit_bytes 1073741824\nbbd_memory_used_bytes 1000000\n\
    bbd_connections 3\nbbd_connections_limit 1024\nbbd_connections_rejected_total 0\nbbd_loop_turn_seconds_max 0.002\n\
    bbd_peer_up{peer=\"b\"} 1\nbbd_peer_in_step{peer=\"b\"} 1\nbbd_peer_silence_seconds{peer=\"b\"} 0.05\n\
    bbd_replication_lag_seconds 0.0003\nbbd_replication_queue_changes 0\nbbd_lost_changes_total 0\n";

/// A node of a pair, and its host, as they should be.
fn healthy() -> Patient {
    Patient {
        status: Status {
            host_id: "a".to_owned(),
            site: "fra".to_owned(),
            role: "PRIMARY".to_owned(),
            version: "0.1.0".to_owned(),
            peer_version: "0.1.0".to_owned(),
            uptime_seconds: 90_000,
            pid: 7,
            store_key: "20260101".to_owned(),
            seccomp: "on".to_owned(),
            landlock: "on".to_owned(),
            ..Status::default()
        },
        metrics: MetricsPage::parse(METRICS),
        host: Host {
            socket_mode: Some(0o600),
            folder: Some(("/run/bbd".into(), 0o755)),
            open_files_limit: Some(65_536),
            swapped_bytes: Some(0),
            cgroup_limit_bytes: None,
            memory_bytes: Some(4 << 30),
            swap_bytes: Some(0),
            overcommit: Some(0),
            line_length_max: Some(4096),
            clock_is_set: Some(true),
            wall_seconds: DAY * SECONDS_PER_DAY,
        },
        uds: "/run/bbd/bbd.sock".to_owned(),
    }
}

/// What is not as it should be, after a change to the healthy one.
fn ills(change: impl FnOnce(&mut Patient)) -> Vec<(&'static str, State)> {
    let mut patient = healthy();
    change(&mut patient);
    let findings = patient.examine().into_iter().filter(|finding| finding.state != State::Fine);
    findings.map(|finding| (finding.about, finding.state)).collect()
}

/// The metrics of the healthy one, with one value changed.
fn with_metric(name: &'static str, value: f64) -> impl FnOnce(&mut Patient) {
    move |patient| {
        let sample = patient.metrics.samples_mut().find(|sample| sample.is(name)).unwrap();
        sample.value = value;
    }
}

#[test]
fn a_healthy_node_has_nothing() {
    assert_eq!(ills(|_| {}), []);
    let findings = healthy().examine();
    assert!(findings.len() > 12);
    assert!(text(&findings).ends_with("\nnothing is wrong\n"));
}

#[test]
fn every_ill_is_found_and_nothing_else_with_it() {
    use State::{Note, Wrong};
    assert_eq!(ills(|patient| patient.status.role = "JOINING".to_owned()), [("role", Wrong)]);
    assert_eq!(ills(|patient| patient.status.warnings = vec!["--dev".to_owned()]), [("settings", Wrong)]);
    assert_eq!(ills(with_metric("bbd_peer_up", 0.0)), [("peer", Wrong)]);
    assert_eq!(ills(with_metric("bbd_peer_silence_seconds", 9.0)), [("peer", Wrong)]);
    let silent = METRICS.replace("bbd_peer_silence_seconds", "unknown");
    assert_eq!(ills(|patient| patient.metrics = MetricsPage::parse(&silent)), [("peer", Wrong)]);
    assert_eq!(ills(|patient| patient.status.peer_version = "0.2.0".to_owned()), [("versions", Note)]);
    assert_eq!(ills(|patient| patient.status.peer_version = String::new()), [("versions", Note)]);
    assert_eq!(ills(with_metric("bbd_peer_in_step", 0.0)), [("replication", Wrong)]);
    assert_eq!(ills(with_metric("bbd_replication_lag_seconds", 0.5)), [("replication", Wrong)]);
    assert_eq!(ills(with_metric("bbd_lost_changes_total", 3.0)), [("lost changes", Note)]);
    assert_eq!(ills(|patient| patient.host.socket_mode = Some(0o666)), [("socket", Wrong)]);
    assert_eq!(ills(|patient| patient.host.folder = Some(("/tmp".into(), 0o1777))), [("socket", Note)]);
    assert_eq!(ills(|patient| patient.host.folder = Some(("/x".into(), 0o777))), [("socket", Wrong)]);
    assert_eq!(ills(with_metric("bbd_connections", 1000.0)), [("connections", Wrong)]);
    assert_eq!(ills(with_metric("bbd_connections_rejected_total", 1.0)), [("connections", Note)]);
    assert_eq!(ills(|patient| patient.host.open_files_limit = Some(256)), [("open files", Wrong)]);
    assert_eq!(ills(with_metric("bbd_memory_limit_bytes", 0.0)), [("memory limit", Wrong)]);
    assert_eq!(ills(|patient| patient.host.cgroup_limit_bytes = Some(1 << 30)), [("memory limit", Wrong)]);
    assert_eq!(ills(with_metric("bbd_memory_used_bytes", 1.0e9)), [("memory used", Wrong)]);
    assert_eq!(ills(|patient| patient.host.swapped_bytes = Some(4096)), [("swap", Wrong)]);
    assert_eq!(ills(|patient| patient.host.swap_bytes = Some(1 << 30)), [("swap", Note)]);
    assert_eq!(ills(|patient| patient.host.overcommit = Some(2)), [("host", Note)]);
    assert_eq!(ills(|patient| patient.host.line_length_max = Some(128)), [("host", Note)]);
    assert_eq!(ills(|patient| patient.host.wall_seconds = 0), [("clock", Wrong)]);
    assert_eq!(ills(|patient| patient.host.clock_is_set = Some(false)), [("clock", Note)]);
    assert_eq!(ills(|patient| patient.status.store_key = "20240101".to_owned()), [("store key", Wrong)]);
    assert_eq!(ills(|patient| patient.status.landlock = "unavailable".to_owned()), [("sandbox", Note)]);
    assert_eq!(ills(|patient| patient.status.seccomp = "off".to_owned()), [("sandbox", Note)]);
    assert_eq!(ills(with_metric("bbd_loop_turn_seconds_max", 0.5)), [("event loop", Note)]);
}

/// A host of which nothing can be read, and a daemon that says little, are no ills.
#[test]
fn what_is_not_known_is_not_judged() {
    let unknown = |patient: &mut Patient| {
        patient.host = Host { wall_seconds: DAY * SECONDS_PER_DAY, ..Host::default() };
        patient.metrics = MetricsPage::parse("bbd_role{role=\"PRIMARY\"} 1\n");
        patient.status = Status { role: "PRIMARY".to_owned(), ..Status::default() };
    };
    assert_eq!(ills(unknown), []);
}

#[test]
fn the_text_fits_a_terminal() {
    let mut patient = healthy();
    patient.host = Host { socket_mode: Some(0o666), folder: Some(("/tmp".into(), 0o1777)), ..Host::default() };
    patient.host.memory_bytes = Some(1 << 30);
    patient.status.warnings = vec!["--dev: the key is known, ".repeat(9) + &"x".repeat(200)];
    let shown = text(&patient.examine());
    let long: Vec<&str> = shown.lines().filter(|line| line.chars().count() > WIDTH).collect();
    assert!(long.iter().all(|line| line.contains(&"x".repeat(200))), "{long:?}");
    assert!(shown.contains("\nWRONG socket        everybody on the host may read"), "{shown}");
    assert!(shown.lines().all(|line| line.trim_end() == line) && shown.ends_with(" things are wrong\n"), "{shown}");
}

#[test]
fn status_is_read_as_it_is_written_by_any_version() {
    let status = Status::deserialize_json(
        r#"{"host_id":"h","peers":{"x":"1"},"later":[{"a":1}],"warnings":["a \"b\""],"pid":9,"role":"PRIMARY"}"#,
    );
    let status = status.unwrap();
    assert_eq!((status.host_id.as_str(), status.pid, status.store_key.as_str()), ("h", 9, ""));
    assert_eq!(status.warnings, ["a \"b\""]);
}

#[test]
fn ages_and_sizes_are_said_plainly() {
    assert_eq!((day_of("19700102"), day_of("20260230"), day_of("key"), day_of("2026")), (Some(1), None, None, None));
    assert_eq!((uptime(59), uptime(3599), uptime(7260)), ("59 s".into(), "59 min".into(), "2 h 1 min".into()));
    assert_eq!(uptime(90_000), "1 d 1 h");
    assert_eq!(
        (size(1000.0), size(1536.0), size(3.5 * 1_073_741_824.0)),
        ("1000".into(), "1.5K".into(), "3.5G".into())
    );
    assert_eq!(size_flag(819.2 * 1_048_576.0), "819M");
}

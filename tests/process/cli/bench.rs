//! `bbd bench`: what it prints, and that it says so when it measures nothing but a limit.

use bigbunny::json::{Value, read_object};

use super::{run, unlimited};
use crate::support::Daemon;

const SHORT: [&str; 9] = ["bench", "--duration", "200ms", "--connections", "3", "--ids", "40", "--size", "100"];

fn bench(daemon: &Daemon, more: &[&str]) -> super::Ran {
    run(daemon, &[&SHORT[..], more].concat())
}

#[test]
fn a_line_an_operation() {
    let daemon = unlimited();
    let text = String::from_utf8(bench(&daemon, &["--pipeline", "4"]).bytes()).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["requests/s", "p50", "p90", "p99", "p99.9", "max", "(ms)"]);
    let names: Vec<&str> = lines[1..].iter().map(|line| line[0]).collect();
    assert_eq!(names, ["snapshot", "update", "increment", "create", "mixed"]);
    for line in &lines[1..] {
        let numbers: Vec<f64> = line[1..].iter().map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() == 6 && numbers[0] > 10.0, "{line:?}");
        assert!(numbers[1..].is_sorted() && numbers[1] > 0.0, "{line:?}");
    }
    // 40 blobs and 40 counters, and what was created.
    let mut stores = 0;
    let status = run(&daemon, &["status", "--json"]).bytes();
    let _ = read_object(&status, |key, value| {
        if let ("store_count", Value::Integer(number)) = (&*key, value) {
            stores = number;
        }
    });
    assert!(stores > 80, "{}", String::from_utf8_lossy(&status));
}

#[test]
fn the_operations_asked_for_as_json() {
    let daemon = unlimited();
    let json = bench(&daemon, &["--json", "update", "snapshot"]).bytes();
    let mut operations = 0;
    let is_object = read_object(&json, |key, value| match (&*key, value) {
        ("connections", Value::Integer(number)) => assert_eq!(number, 3),
        ("size", Value::Integer(number)) => assert_eq!(number, 100),
        ("results", Value::Array(results)) => operations = results.items().count(),
        _ => {}
    });
    assert_eq!((is_object, operations), (Ok(true), 2));
    let text = String::from_utf8(json).unwrap();
    assert!(text.contains(r#"{"operation":"update","requests":"#) && text.contains(r#""rate_limited":0,"#), "{text}");
}

#[test]
fn a_rate_limit_is_said() {
    let daemon = Daemon::start(&["--rate-limit=50", "--burst-size=60"]);
    let ran = bench(&daemon, &["snapshot"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert!(ran.stderr.contains("requests were refused") && ran.stderr.contains("--rate-limit 0"), "{ran:?}");
    assert!(!ran.stdout.is_empty());
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let daemon = unlimited();
    run(&daemon, &["bench", "snapshots"]).fails(2, "there is: snapshot, update, increment, create, mixed");
    run(&daemon, &["bench", "--connections", "0"]).fails(2, "allowed: 1 to 10000");
    run(&daemon, &["bench", "--size", "1048577"]).fails(2, "allowed: 0 to 1048576");
    run(&daemon, &["bench", "--duration", "0"]).fails(2, "--duration");
    run(&daemon, &["bench", "--size", "3000", "update"]).fails(4, "2048");
    super::run_at(std::path::Path::new("/nonexistent/bbd.sock"), &["bench"]).fails(5, "no daemon");
}

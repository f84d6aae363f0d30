//! E: bodies that are held back until they are asked for, and curl, which does that.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use super::case::{PROBE, equal, get_named, put};
use super::special::{Outcome, SECOND, Shared, count, each_way, expect_alive, expect_status};
use super::{Daemons, PROBE_BODY};
use crate::support::{Answer, Connection, Daemon, TempDir};

/// E01: the body comes only when it was asked for.
pub(super) fn held_back_bodies(daemons: &Daemons, report: &Shared) {
    let daemon = &daemons.usual;
    let framings = [("Content-Length: 2\r\n", "hi"), ("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")];
    let mut waits = Vec::new();
    for (followed, (lines, body)) in
        [false, true].into_iter().flat_map(|followed| framings.map(|framing| (followed, framing)))
    {
        let head = put("good", "e01", format!("Expect: 100-continue\r\n{lines}"), "");
        each_way(report, "E01", daemon, &head, |connection| {
            let asked = Instant::now();
            match connection.any_answer(false)? {
                Some(answer) if answer.status == 100 => waits.push(asked.elapsed()),
                other => return Err(format!("expected 100, got {:?}", other.map(|answer| answer.status))),
            }
            if followed {
                connection.send(&[body.as_bytes(), PROBE].concat());
                expect_status(connection, &[200, 201])?;
                equal(&expect_status(connection, &[200])?, PROBE_BODY)?;
                return connection.expect_end();
            }
            connection.send(body.as_bytes());
            expect_status(connection, &[200, 201])?;
            expect_alive(connection)
        });
    }
    // The median shows whether the daemon waits, whatever else the machine does.
    waits.sort();
    let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let outcome = if median <= Duration::from_millis(10) { Ok(()) } else { Err(format!("100 came after {median:?}")) };
    count(report, "E01", "time", outcome);
    count(report, "E01", "afterwards", equal(&daemon.ask(&get_named("good", "e01")), "hi"));
}

/// What follows a final answer to a request whose body was not sent.
fn after_final(connection: &mut Connection, answer: &Answer, body: &[u8]) -> Outcome {
    if connection.continues > 0 {
        return Err("100 Continue before the final answer".into());
    }
    if answer.closes() {
        return connection.expect_end();
    }
    connection.send(body);
    expect_alive(connection)
}

/// E02: nobody is asked for a body that will be refused.
pub(super) fn final_answers_without_continue(daemons: &Daemons, report: &Shared) {
    let expect = "Expect: 100-continue\r\nContent-Length: 2\r\n";
    let no_customer = format!("POST /api/v1/create HTTP/1.1\r\nHost: a\r\n{expect}\r\n").into_bytes();
    let unknown_path = format!("POST /nothing HTTP/1.1\r\nHost: a\r\n{expect}\r\n").into_bytes();
    let wrong_method =
        format!("PATCH /api/v1/create HTTP/1.1\r\nHost: a\r\nX-Customer-ID: bad\r\n{expect}\r\n").into_bytes();
    let too_long = put("bad", "x", "Expect: 100-continue\r\nContent-Length: 2049\r\n", "");
    for (head, status, body_bytes) in
        [(no_customer, 400, 2), (unknown_path, 404, 2), (wrong_method, 405, 2), (too_long, 413, 2049)]
    {
        each_way(report, "E02", &daemons.usual, &head, |connection| {
            let started = Instant::now();
            let answer = expect_status(connection, &[status])?;
            if started.elapsed() > SECOND {
                return Err(format!("the answer took {:?}", started.elapsed()));
            }
            after_final(connection, &answer, &vec![b'x'; body_bytes])
        });
    }
}

/// E02 for `429`: a customer whose bucket is empty.
pub(super) fn final_answers_when_rate_limited(_: &Daemons, report: &Shared) {
    let daemon = Daemon::start(&["--rate-limit=1", "--burst-size=1"]);
    let head = put("busy", "x", "Expect: 100-continue\r\nContent-Length: 2\r\n", "");
    for followed in [false, true] {
        let outcome = (|| {
            // A token may have come in just before the request; then it is tried again.
            for _ in 0..5 {
                while daemon.ask(&get_named("busy", "x")).status != 429 {}
                let mut connection = daemon.connect();
                connection.send(&head);
                match connection.any_answer(false)? {
                    Some(answer) if answer.status == 429 => {
                        if answer.closes() {
                            return connection.expect_end();
                        }
                        let next = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                        if followed {
                            connection.send(&[&b"hi"[..], next].concat());
                        } else {
                            connection.send(b"hi");
                            connection.send(next);
                        }
                        expect_status(&mut connection, &[200])?;
                        return connection.expect_end();
                    }
                    Some(answer) if answer.status == 100 => {}
                    other => return Err(format!("expected 429, got {:?}", other.map(|answer| answer.status))),
                }
            }
            Err("100 Continue although the bucket is empty".to_owned())
        })();
        count(report, "E02", if followed { "429, followed" } else { "429" }, outcome);
    }
}

/// Runs curl: whether it was content, and what `-w` said.
fn run_curl(daemon: &Daemon, format: &str, args: &[&str], input: &[u8]) -> Result<String, String> {
    let mut child = Command::new("curl")
        .args([
            "-q",
            "-sS",
            "--max-time",
            "10",
            "-H",
            "X-Customer-ID: good",
            "-o",
            "/dev/null",
            "-w",
            format,
            "--unix-socket",
        ])
        .arg(daemon.socket())
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| format!("curl: {error}"))?;
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().map_err(|error| format!("curl: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("curl: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// curl without a `100` waits for a second; the best of a few runs shows whether it did.
fn quick_curl(daemon: &Daemon, statuses: &[&str], args: &[&str], input: &[u8]) -> Outcome {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let said = run_curl(daemon, "%{http_code} %{time_total}", args, input)?;
        let (status, seconds) = said.split_once(' ').ok_or("no status")?;
        if !statuses.contains(&status) {
            return Err(format!("expected {statuses:?}, got {status}"));
        }
        best = best.min(seconds.parse().map_err(|_| format!("{seconds:?} seconds"))?);
    }
    if best < 0.05 { Ok(()) } else { Err(format!("took {best} s at best")) }
}

/// What [`curl`] tries.
pub(crate) const CURL_CASES: [&str; 4] = ["E08", "E09", "E10", "E11"];

/// The real client.
pub(super) fn curl(daemons: &Daemons, report: &Shared) {
    let dir = TempDir::new();
    let file = |name: &str, bytes: usize| {
        let path = dir.path().join(name);
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let stored = ["200", "201"];
    let url = "http://localhost/api/v1/named/curl";
    count(report, "E08", "curl -T -", quick_curl(&daemons.usual, &stored, &["-T", "-", url], b"hi"));
    count(report, "E08", "curl -T -, nothing", quick_curl(&daemons.usual, &stored, &["-T", "-", url], b""));
    count(report, "E08", "what was stored", equal(&daemons.usual.ask(&get_named("good", "curl")), ""));

    let below = format!("@{}", file("below", 1_048_576));
    let above = format!("@{}", file("above", 1_048_577));
    let small = format!("@{}", file("small", 2_000));
    let put_data = ["-X", "PUT", url, "--data-binary"];
    count(
        report,
        "E09",
        "1,048,576 bytes, no Expect",
        quick_curl(&daemons.large, &stored, &[&put_data[..], &[&below]].concat(), b""),
    );
    count(
        report,
        "E09",
        "1,048,577 bytes, Expect",
        quick_curl(&daemons.large, &["413"], &[&put_data[..], &[&above]].concat(), b""),
    );
    let expect = ["-H", "Expect: 100-continue"];
    count(
        report,
        "E09",
        "Expect and 100",
        quick_curl(&daemons.large, &stored, &[&expect[..], &put_data, &[&below]].concat(), b""),
    );
    count(
        report,
        "E09",
        "Expect and 100, short",
        quick_curl(&daemons.usual, &stored, &[&expect[..], &put_data, &[&small]].concat(), b""),
    );

    let three_megabytes = file("three", 3_000_000);
    for (delivery, more) in [
        ("Expect", &["-T"][..]),
        ("no Expect", &["-H", "Expect:", "-T"]),
        ("chunked", &["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T"]),
    ] {
        for _ in 0..5 {
            let outcome =
                match run_curl(&daemons.usual, "%{http_code}", &[more, &[&three_megabytes, url]].concat(), b"")
                    .as_deref()
                {
                    Ok("413") => Ok(()),
                    other => Err(format!("expected 413, got {other:?}")),
                };
            count(report, "E10", delivery, outcome);
        }
    }

    let said = run_curl(
        &daemons.usual,
        "%{http_code}/%{num_connects} ",
        &["http://a/healthz", "-o", "/dev/null", "http://a/status"],
        b"",
    );
    let outcome = if said.as_deref() == Ok("200/1 200/0 ") { Ok(()) } else { Err(format!("{said:?}")) };
    count(report, "E11", "two URLs", outcome);
}

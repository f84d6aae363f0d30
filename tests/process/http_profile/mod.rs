//! The HTTP profile: every case against the real daemon, each in four deliveries.
//!
//! Whole; one byte per write; cut at each offset, and the first piece read before the second one comes; and followed by
//! a valid request in the same write, which must be answered if and only if the case leaves the connection open. In the
//! other deliveries that request is sent when the case's answers are there, and must be answered too, or the connection
//! must have ended. Each cut is tried with the request behind it, too.
//!
//! Long inputs are cut at a bounded set of offsets (see [`cuts`]). Cases that are about held-back bodies and curl are
//! functions in `expect`, those about time and many connections in `special`.

mod body_cases;
mod case;
mod expect;
mod field_cases;
mod line_cases;
mod special;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::support::{Connection, Daemon, has_tool, shown};
use case::{Case, Delivery, Ends, PROBE, PROBE_BODY, Which};

/// The ids of the profile's cases, as it lists them.
const FAMILIES: [(&str, usize); 6] = [("L", 36), ("H", 25), ("C", 16), ("T", 29), ("E", 11), ("S", 12)];
const CASES: usize = 129;

/// Connections that one worker has in work at once.
const BATCH: usize = 32;
const WORKERS: usize = 12;
/// After so many deviations of one input in one kind of delivery the rest of them is not tried.
const ENOUGH_DEVIATIONS: usize = 3;
/// Inputs up to this get a pause between single bytes, so that most of them are read singly.
const SLOW_BYTES: usize = 4096;
/// Longer inputs are sent byte by byte only at both ends.
const ALL_BYTES: usize = 128 * 1024;
const BYTES_AT_ENDS: usize = 4096;

/// The daemons that cases need.
pub(crate) struct Daemons {
    /// All defaults, without a rate limit.
    pub(crate) usual: Daemon,
    /// Deadlines of a second.
    pub(crate) hasty: Daemon,
    /// Stores of a megabyte.
    pub(crate) large: Daemon,
}

impl Daemons {
    fn start() -> Self {
        let second =
            ["--http-read-header-timeout", "--http-read-timeout", "--http-write-timeout", "--http-idle-timeout"];
        let second: Vec<String> = second.iter().map(|flag| format!("{flag}=1s")).collect();
        let hasty =
            [&second[..], &["--rate-limit=0".into(), "--max-connections=4096".into(), "--max-store-size=1M".into()]]
                .concat();
        let daemons = Self {
            usual: Daemon::start(&["--rate-limit=0", "--max-connections=4096"]),
            hasty: Daemon::start(&hasty),
            large: Daemon::start(&["--rate-limit=0", "--max-store-size=1M", "--max-connections=4096"]),
        };
        for daemon in [&daemons.usual, &daemons.hasty, &daemons.large] {
            let put = format!(
                "PUT /api/v1/named/probe HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\nContent-Length: {}\r\n\r\n{PROBE_BODY}",
                PROBE_BODY.len()
            );
            assert_eq!(daemon.ask(put.as_bytes()).status, 201);
        }
        daemons
    }

    pub(crate) fn get(&self, which: Which) -> &Daemon {
        match which {
            Which::Usual => &self.usual,
            Which::Hasty => &self.hasty,
            Which::Large => &self.large,
        }
    }
}

/// What was tried and what was wrong, by case.
#[derive(Default)]
pub(crate) struct Report {
    deliveries: BTreeMap<String, usize>,
    deviations: Vec<String>,
    second_choices: BTreeSet<String>,
}

impl Report {
    /// Counts one delivery of a case, and its deviation if it has one.
    pub(crate) fn count(&mut self, id: &str, delivery: &str, result: Result<(), String>) {
        *self.deliveries.entry(id.to_owned()).or_default() += 1;
        if let Err(deviation) = result {
            self.deviations.push(format!("{id} [{delivery}]: {deviation}"));
        }
    }
}

#[test]
fn every_case_in_every_delivery() {
    let started = Instant::now();
    let daemons = Daemons::start();
    let cases = [line_cases::cases(), field_cases::cases(), body_cases::cases()].concat();
    let report = Mutex::new(Report::default());
    // What is measured in milliseconds comes before the crowd.
    let has_curl = has_tool("curl");
    if has_curl {
        expect::curl(&daemons, &report);
        expect::held_back_bodies(&daemons, &report);
    }
    thread::scope(|scope| {
        for run in special::ALL {
            let (daemons, report) = (&daemons, &report);
            scope.spawn(move || run(daemons, report));
        }
        run_table(&daemons, &cases, &report);
    });
    let mut report = report.into_inner().unwrap();
    for case in &cases {
        if let Some(after) = case.after {
            let result = after(daemons.get(case.which));
            report.count(case.id, "afterwards", result);
        }
    }
    let mut wanted: BTreeSet<String> = FAMILIES
        .iter()
        .flat_map(|(family, count)| (1..=*count).map(move |number| format!("{family}{number:02}")))
        .collect();
    assert_eq!(wanted.len(), CASES);
    if !has_curl {
        wanted.retain(|id| !expect::CURL_CASES.contains(&id.as_str()));
    }
    let tried: BTreeSet<String> = report.deliveries.keys().cloned().collect();
    println!(
        "HTTP profile: {} cases, {} inputs in the table, {} deliveries, {} deviations, {:.1} s",
        tried.len(),
        cases.len(),
        report.deliveries.values().sum::<usize>(),
        report.deviations.len(),
        started.elapsed().as_secs_f64()
    );
    println!("right, but not the preferred status: {:?}", report.second_choices);
    assert_eq!(tried, wanted, "the ids of the profile");
    assert!(report.deviations.is_empty(), "{}", report.deviations.join("\n"));
}

/// Runs all inputs of the table with all their deliveries on a few threads.
fn run_table(daemons: &Daemons, cases: &[Case], report: &Mutex<Report>) {
    let jobs: Vec<(usize, Vec<Delivery>)> = cases
        .iter()
        .enumerate()
        .flat_map(|(index, case)| {
            let cuts: Vec<Delivery> =
                cuts(&case.input).into_iter().flat_map(|at| [Delivery::Cut(at), Delivery::CutFollowed(at)]).collect();
            let mut jobs = vec![vec![Delivery::Whole, Delivery::Followed], vec![Delivery::Bytes]];
            jobs.extend(cuts.chunks(BATCH).map(<[Delivery]>::to_vec));
            jobs.into_iter().map(move |deliveries| (index, deliveries))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let failed: Vec<AtomicUsize> = cases.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(&(index, ref deliveries)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let case = &cases[index];
                    if failed[index].load(Ordering::Relaxed) >= ENOUGH_DEVIATIONS {
                        continue;
                    }
                    for (delivery, result, second_choice) in run_batch(daemons.get(case.which), case, deliveries) {
                        if result.is_err() {
                            failed[index].fetch_add(1, Ordering::Relaxed);
                        }
                        let mut report = report.lock().unwrap();
                        let what = format!("{delivery:?} of {:?}, rule {}", shown(&case.input), case.rule);
                        report.count(case.id, &what, result);
                        if second_choice {
                            report.second_choices.insert(case.id.to_owned());
                        }
                    }
                }
            });
        }
    });
}

/// The offsets at which an input is cut. Up to 512 bytes: each. Longer ones: each up to 512, the last 64, those around
/// the first 64 line ends behind, and 32 between; beyond a megabyte, 40 spread over it.
fn cuts(input: &[u8]) -> Vec<usize> {
    let length = input.len();
    if length > 1 << 20 {
        return (1..=40).map(|part| length * part / 41).collect();
    }
    let mut cuts: BTreeSet<usize> = (1..length.min(513)).collect();
    if length > 512 {
        cuts.extend(length - 64..length);
        cuts.extend((1..=32).map(|part| length * part / 33));
        let line_ends = memchr::memchr_iter(b'\n', &input[512..]).map(|at| at + 512).take(64);
        cuts.extend(line_ends.flat_map(|at| at - 2..=at + 2).filter(|&at| at < length));
    }
    cuts.into_iter().collect()
}

type Outcome = (Delivery, Result<(), String>, bool);

/// Runs some deliveries of one input at once: all first pieces, a pause, all second pieces, then all answers.
fn run_batch(daemon: &Daemon, case: &Case, deliveries: &[Delivery]) -> Vec<Outcome> {
    let mut connections: Vec<Connection> = deliveries.iter().map(|_| daemon.connect()).collect();
    for (connection, delivery) in connections.iter_mut().zip(deliveries) {
        match *delivery {
            Delivery::Whole => connection.send(&case.input),
            Delivery::Followed => connection.send(&[&case.input[..], PROBE].concat()),
            Delivery::Cut(at) | Delivery::CutFollowed(at) => connection.send(&case.input[..at]),
            Delivery::Bytes => send_bytes(connection, &case.input),
        }
    }
    if deliveries.iter().any(|delivery| matches!(delivery, Delivery::Cut(_) | Delivery::CutFollowed(_))) {
        let_it_read(daemon);
    }
    for (connection, delivery) in connections.iter_mut().zip(deliveries) {
        match *delivery {
            Delivery::Whole | Delivery::Bytes | Delivery::Followed => {}
            Delivery::Cut(at) => connection.send(&case.input[at..]),
            Delivery::CutFollowed(at) => connection.send(&[&case.input[at..], PROBE].concat()),
        }
        if case.end_sending {
            connection.end_sending();
        }
    }
    connections
        .iter_mut()
        .zip(deliveries)
        .map(|(connection, &delivery)| {
            let (result, second_choice) = check_answers(connection, case, delivery);
            (delivery, result, second_choice)
        })
        .collect()
}

/// Returns when the daemon has read what was sent so far: it serves connections in the order in which something came on
/// them, and a new one last.
fn let_it_read(daemon: &Daemon) {
    daemon.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
}

fn send_bytes(connection: &mut Connection, input: &[u8]) {
    let middle = if input.len() > ALL_BYTES { BYTES_AT_ENDS..input.len() - BYTES_AT_ENDS } else { 0..0 };
    for at in 0..input.len() {
        if middle.contains(&at) {
            if at == middle.start {
                connection.send(&input[middle.clone()]);
            }
            continue;
        }
        connection.send(&input[at..=at]);
        if input.len() <= SLOW_BYTES {
            sleep(Duration::from_micros(20));
        }
    }
}

/// Whether the answers are the case's, and whether one was right but not the preferred one.
fn check_answers(connection: &mut Connection, case: &Case, delivery: Delivery) -> (Result<(), String>, bool) {
    let mut second_choice = false;
    let result = try_answers(connection, case, delivery, &mut second_choice);
    (result, second_choice)
}

fn try_answers(
    connection: &mut Connection,
    case: &Case,
    delivery: Delivery,
    second_choice: &mut bool,
) -> Result<(), String> {
    let mut last = None;
    for (number, want) in case.wants.iter().enumerate() {
        let number = number + 1;
        let answer = match connection.answer(want.head).map_err(|error| format!("answer {number}: {error}"))? {
            Some(answer) => answer,
            None if case.silence_will_do && number == 1 => return Ok(()),
            None => return Err(format!("expected {:?}, the connection ended before answer {number}", want.statuses)),
        };
        let also = if delivery.is_followed() { case.also_when_followed } else { &[] };
        if !want.statuses.contains(&answer.status) && !also.contains(&answer.status) {
            return Err(format!(
                "expected {:?}, answer {number} is {} {:?}",
                want.statuses,
                answer.status,
                shown(&answer.body)
            ));
        }
        *second_choice |= answer.status >= 400 && want.statuses.first() != Some(&answer.status);
        case::check_form(&answer, want.head).map_err(|error| format!("answer {number}: {error}"))?;
        (want.check)(&answer).map_err(|error| format!("answer {number}, {}: {error}", answer.status))?;
        last = Some(answer);
    }
    if connection.continues > 0 && !case.may_continue {
        return Err("an uncalled-for 100 Continue".into());
    }
    let closes = match case.ends {
        Ends::Closed => true,
        Ends::Open => false,
        Ends::AsTold => last.as_ref().is_some_and(|answer| answer.closes()),
    };
    if closes {
        if last.is_some_and(|answer| !answer.closes()) {
            return Err("the last answer does not say Connection: close".into());
        }
        connection.expect_end()?;
    } else {
        if !delivery.is_followed() {
            connection.send(PROBE);
        }
        match connection.answer(false).map_err(|error| format!("the valid request behind: {error}"))? {
            Some(answer) if answer.status == 200 && answer.body == PROBE_BODY.as_bytes() => connection.expect_end()?,
            Some(answer) => {
                return Err(format!("the valid request behind got {} {:?}", answer.status, shown(&answer.body)));
            }
            None => return Err("the connection ended before the valid request behind was answered".into()),
        }
    }
    if connection.received_bytes() > case.most_answer_bytes {
        return Err(format!("{} bytes of answer", connection.received_bytes()));
    }
    Ok(())
}

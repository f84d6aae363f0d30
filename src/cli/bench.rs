//! Owns `bbd bench`: how fast the daemon answers, as its clients see it. What is asked, of which stores, and the report are here; the
//! connections in [`mod@drive`], the percentiles in [`latency`].

mod drive;
mod latency;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use self::drive::{Driven, Work, drive};
use super::client::connect_unix;
use super::commands::{BENCH_SIZE, CONNECTIONS, CommandFlag, DURATION, IDS, JSON, PIPELINE};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::{Outcome, print, tell, tell_bytes};
use crate::config::values;

/// How long the stores live beyond the measurement: they end by themselves.
const STORES_OUTLIVE: Duration = Duration::from_secs(60);
/// Requests in flight while the stores are made.
const FILL_PIPELINE: usize = 16;
/// What is reported, of a thousand.
const PER_MILLES: [(u64, &str); 4] = [(500, "p50"), (900, "p90"), (990, "p99"), (999, "p99.9")];

/// What can be measured, and what it is in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measured {
    Snapshot,
    Update,
    Increment,
    Create,
    Mixed,
}

impl Measured {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Snapshot, "snapshot"),
        (Self::Update, "update"),
        (Self::Increment, "increment"),
        (Self::Create, "create"),
        (Self::Mixed, "mixed"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The size of the measurement.
struct Plan {
    measured: Vec<Measured>,
    connections: usize,
    pipeline: usize,
    size_bytes: usize,
    ids: usize,
    duration: Duration,
}

impl Plan {
    fn of(invocation: &Invocation) -> Result<Self, Failure> {
        let number = |flag: &'static CommandFlag, most: u64, default: usize| -> Result<usize, Failure> {
            let Some(value) = invocation.value(flag) else { return Ok(default) };
            let least = u64::from(*flag != BENCH_SIZE);
            let number = values::number(value, least..=most).map_err(|_| {
                Failure::usage(format!("--{}: {value:?} is not allowed; allowed: {least} to {most}", flag.name))
            })?;
            Ok(usize::try_from(number).unwrap_or(default))
        };
        let mut measured = Vec::new();
        for word in &invocation.positionals {
            let found = Measured::ALL.iter().find(|(_, name)| word.to_str() == Some(name));
            let names: Vec<&str> = Measured::ALL.iter().map(|(_, name)| *name).collect();
            measured.push(found.map(|(measured, _)| *measured).ok_or_else(|| {
                Failure::usage(format!("there is no operation {word:?}; there is: {}", names.join(", ")))
            })?);
        }
        if measured.is_empty() {
            measured = Measured::ALL.map(|(measured, _)| measured).to_vec();
        }
        Ok(Self {
            measured,
            connections: number(&CONNECTIONS, 10_000, 50)?,
            pipeline: number(&PIPELINE, 1000, 1)?,
            size_bytes: number(&BENCH_SIZE, 1 << 20, 512)?,
            ids: number(&IDS, 10_000_000, 10_000)?,
            duration: invocation.ttl(&DURATION)?.unwrap_or(Duration::from_secs(5)),
        })
    }

    fn measures(&self, wanted: &[Measured]) -> bool {
        self.measured.iter().any(|measured| wanted.contains(measured))
    }
}

/// Requests of one operation: its bytes before and behind the store id.
struct Template {
    before: String,
    behind: Vec<u8>,
}

impl Template {
    fn new(customer: &str, operation: &str, ttl: Option<Duration>, body: &[u8]) -> Self {
        let slash = if operation == "create" { "" } else { "/" };
        let ttl = ttl.map(|ttl| format!("BigBunny-Not-Valid-After: {}\r\n", ttl.as_secs())).unwrap_or_default();
        let head = format!(
            " HTTP/1.1\r\nHost: bbd\r\nX-Customer-ID: {customer}\r\n{ttl}Content-Length: {}\r\n\r\n",
            body.len()
        );
        Self { before: format!("POST /api/v1/{operation}{slash}"), behind: [head.as_bytes(), body].concat() }
    }

    fn write(&self, id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&self.behind);
    }
}

/// What is asked, and the stores it is asked of.
struct Bench {
    create: Template,
    create_counter: Template,
    snapshot: Template,
    update: Template,
    increment: Template,
    blobs: Vec<String>,
    counters: Vec<String>,
    random: u64,
}

impl Bench {
    fn new(customer: &str, plan: &Plan) -> Self {
        // All that is to be measured, the making of the stores, and some time beyond.
        let rounds = u32::try_from(plan.measured.len()).unwrap_or(u32::MAX);
        let ttl = Some(plan.duration.saturating_mul(rounds) + STORES_OUTLIVE);
        let body = vec![b'x'; plan.size_bytes];
        let template = |operation, ttl, body: &[u8]| Template::new(customer, operation, ttl, body);
        Self {
            create: template("create", ttl, &body),
            create_counter: template("create", ttl, br#"{"type":"counter","value":0}"#),
            snapshot: template("snapshot", None, b""),
            update: template("update", None, &body),
            increment: template("increment", None, br#"{"delta":1}"#),
            blobs: Vec::new(),
            counters: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn ask(&mut self, measured: Measured, out: &mut Vec<u8>) {
        let (template, ids) = match measured {
            Measured::Create => return self.create.write("", out),
            Measured::Snapshot => (&self.snapshot, &self.blobs),
            Measured::Update => (&self.update, &self.blobs),
            Measured::Increment => (&self.increment, &self.counters),
            Measured::Mixed => {
                let one = match draw(&mut self.random, 10) {
                    0 => Measured::Update,
                    1 => Measured::Increment,
                    _ => Measured::Snapshot,
                };
                return self.ask(one, out);
            }
        };
        if let Some(id) = ids.get(draw(&mut self.random, ids.len())) {
            template.write(id, out);
        }
    }
}

/// A number below `below`, by xorshift64 (Marsaglia 2003): the same ones in every run.
fn draw(random: &mut u64, below: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (((*random >> 32) * below as u64) >> 32) as usize
}

/// Making the stores: so many, each tried once.
struct Filling<'b> {
    template: &'b Template,
    left: usize,
    ids: Vec<String>,
}

impl Work for Filling<'_> {
    fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.template.write("", out);
        true
    }

    fn answered(&mut self, body: &[u8]) {
        self.ids.push(String::from_utf8_lossy(body).into_owned());
    }

    fn tick(&mut self, done: u64, _: Duration) {
        show_progress(&format!("making stores: {done}"));
    }
}

/// One measurement.
struct Measuring<'b> {
    bench: &'b mut Bench,
    measured: Measured,
    duration: Duration,
}

impl Work for Measuring<'_> {
    fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        self.bench.ask(self.measured, out);
        true
    }

    fn answered(&mut self, _: &[u8]) {}

    fn tick(&mut self, done: u64, elapsed: Duration) {
        let (name, elapsed, all) = (self.measured.name(), elapsed.as_secs_f64(), self.duration.as_secs_f64());
        show_progress(&format!("{name}: {elapsed:.1} s of {all:.1} s, {:.0} requests/s", done as f64 / elapsed));
    }
}

/// Replaces the line of progress, on a terminal alone. Nothing wipes it.
fn show_progress(line: &str) {
    if std::io::stderr().is_terminal() {
        tell_bytes(format!("\r{line}\x1b[K").as_bytes());
    }
}

/// `bbd bench`
pub(super) fn bench(invocation: &Invocation) -> Outcome {
    let plan = Plan::of(invocation)?;
    let mut bench = Bench::new(invocation.customer(), &plan);
    let connect =
        |count: usize| -> Result<Vec<_>, Failure> { (0..count).map(|_| connect_unix(invocation.uds())).collect() };
    let mut rate_limited = 0;
    let mut fill = |template: &Template, wanted: &[Measured]| -> Result<Vec<String>, Failure> {
        if !plan.measures(wanted) {
            return Ok(Vec::new());
        }
        let mut filling = Filling { template, left: plan.ids, ids: Vec::new() };
        rate_limited += drive(connect(1)?, FILL_PIPELINE, None, &mut filling)?.rate_limited;
        if filling.ids.is_empty() {
            return Err(Failure::new(Exit::Limit, format!("no store could be made: {RATE_LIMITED}")));
        }
        Ok(filling.ids)
    };
    bench.blobs = fill(&bench.create, &[Measured::Snapshot, Measured::Update, Measured::Mixed])?;
    bench.counters = fill(&bench.create_counter, &[Measured::Increment, Measured::Mixed])?;
    let mut results = Vec::new();
    for &measured in &plan.measured {
        let mut work = Measuring { bench: &mut bench, measured, duration: plan.duration };
        let driven = drive(connect(plan.connections)?, plan.pipeline, Some(plan.duration), &mut work)?;
        rate_limited += driven.rate_limited;
        results.push((measured, driven));
    }
    show_progress("");
    print(if invocation.has(&JSON) { json(&plan, &results) } else { table(&results) }.as_bytes())?;
    if rate_limited == 0 {
        return Ok(Exit::Done);
    }
    tell(&format!("bbd: bench: {rate_limited} requests were refused: {RATE_LIMITED}"));
    Ok(Exit::Limit)
}

const RATE_LIMITED: &str =
    "the daemon limits the rate, so this measures the limit; start it with --rate-limit 0 to measure the daemon";

fn requests_per_second(driven: &Driven) -> f64 {
    driven.latencies.total() as f64 / driven.elapsed.as_secs_f64()
}

fn milliseconds(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1000.0
}

/// A line an operation, latencies in milliseconds.
fn table(results: &[(Measured, Driven)]) -> String {
    let mut text = format!("{:<10}{:>12}", "", "requests/s");
    for (_, name) in PER_MILLES {
        let _ = write!(text, "{name:>10}");
    }
    text.push_str("       max  (ms)\n");
    for (measured, driven) in results {
        let _ = write!(text, "{:<10}{:>12.0}", measured.name(), requests_per_second(driven));
        for (per_mille, _) in PER_MILLES {
            let _ = write!(text, "{:>10.3}", milliseconds(driven.latencies.per_mille(per_mille)));
        }
        let _ = writeln!(text, "{:>10.3}", milliseconds(driven.latencies.longest()));
    }
    text
}

/// The same and more, for programs.
fn json(plan: &Plan, results: &[(Measured, Driven)]) -> String {
    let mut text = format!(
        r#"{{"connections":{},"pipeline":{},"size":{},"ids":{},"results":["#,
        plan.connections, plan.pipeline, plan.size_bytes, plan.ids
    );
    for (index, (measured, driven)) in results.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(
            text,
            r#"{comma}{{"operation":"{}","requests":{},"seconds":{:.3},"requests_per_second":{:.1},"rate_limited":{},"latency_ms":{{"#,
            measured.name(),
            driven.latencies.total(),
            driven.elapsed.as_secs_f64(),
            requests_per_second(driven),
            driven.rate_limited,
        );
        for (per_mille, name) in PER_MILLES {
            let _ = write!(text, r#""{name}":{:.3},"#, milliseconds(driven.latencies.per_mille(per_mille)));
        }
        let _ = write!(text, r#""max":{:.3}}}}}"#, milliseconds(driven.latencies.longest()));
    }
    text.push_str("]}\n");
    text
}

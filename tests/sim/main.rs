//! The simulator: the real node in virtual time, driven by many random clients, its every answer judged by a model.
//!
//! - `cargo test --test sim` runs some seconds' worth of seeds.
//! - `BBD_SEED=N cargo test --test sim` repeats one; with `BBD_TRACE=1` it tells its story.
//! - `BBD_SEEDS=10000 cargo test --release --test sim` runs that many on all cores, and says what they have met.
//!
//! All of this is about one node; [`pair`] is the same for two, and chosen by `BBD_WORLD=pair`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(unreachable_pub, reason = "there is no outside")]

mod checks;
mod clients;
mod coverage;
mod kinds;
mod model;
mod pair;
mod profile;
mod reply;
mod rng;
mod scenarios;
mod subject;
mod universe;
mod world;

use coverage::Coverage;
use reply::TraceHash;
use std::hash::Hasher as _;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as RealInstant;
use world::World;

/// Seeds of an ordinary test run.
const ORDINARY_SEEDS: u64 = 600;
/// From so many seeds on every rare state must have occurred.
const SEEDS_FOR_COVERAGE: u64 = 600;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn say(line: std::fmt::Arguments<'_>) {
    // Not through the test harness, which keeps what passing tests print.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One run. An assertion of the node counts as a finding like any other.
fn run_seed(seed: u64, tells: bool) -> Result<(TraceHash, Coverage), String> {
    let run = || {
        let mut world = World::new(seed, tells);
        let hash = world.run()?;
        Ok((hash, world.coverage().clone()))
    };
    let result = std::panic::catch_unwind(AssertUnwindSafe(run));
    let wrong = match result {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(wrong)) => wrong,
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => format!("assertion: {text}"),
            (None, text) => format!("assertion: {}", text.copied().unwrap_or("?")),
        },
    };
    Err(format!(
        "{wrong}\nseed {seed} failed; to repeat it: BBD_SEED={seed} BBD_TRACE=1 cargo test --test sim simulation"
    ))
}

/// Many runs on all cores. Stops at the first failure. The sum of the traces is the same in every build.
fn run_seeds(seeds: u64) -> Result<(Coverage, u64), String> {
    let next = AtomicU64::new(1);
    let total = Mutex::new((Coverage::new(), 0u64, None::<String>));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    let result = run_seed(seed, false);
                    let (coverage, traces, failure) = &mut *total.lock().unwrap();
                    match result {
                        Ok((trace, met)) => {
                            coverage.add(&met);
                            *traces = traces.wrapping_add(trace.finish());
                        }
                        Err(text) => {
                            failure.get_or_insert(text);
                            next.store(seeds + 1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (coverage, traces, failure) = total.into_inner().unwrap();
    failure.map_or(Ok((coverage, traces)), Err)
}

#[test]
fn simulation() {
    if std::env::var("BBD_WORLD").is_ok_and(|world| world == "pair") {
        return;
    }
    if let Some(seed) = from_environment("BBD_SEED") {
        match run_seed(seed, from_environment("BBD_TRACE") == Some(1)) {
            Ok((trace, coverage)) => {
                say(format_args!("{}seed {seed} holds; trace {:016x}", coverage.report(), trace.finish()));
            }
            Err(text) => panic!("{text}"),
        }
        return;
    }
    let seeds = from_environment("BBD_SEEDS").unwrap_or(ORDINARY_SEEDS);
    let started = RealInstant::now();
    let (coverage, traces) = run_seeds(seeds).unwrap_or_else(|text| panic!("{text}"));
    let real = started.elapsed().as_secs_f64();
    let simulated = coverage.simulated_ms as f64 / 1000.0;
    say(format_args!(
        "{}{seeds} seeds, {} requests answered, traces {traces:016x}; {simulated:.0} s simulated in {real:.1} s: {:.0} times \
         real time",
        coverage.report(),
        coverage.answers_in_all(),
        simulated / real,
    ));
    if seeds >= SEEDS_FOR_COVERAGE {
        assert!(coverage.missing().is_empty(), "these never occurred: {:?}", coverage.missing());
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=5 {
        let (first, _) = run_seed(seed, false).unwrap();
        let (second, _) = run_seed(seed, false).unwrap();
        assert_eq!(first, second, "seed {seed}");
    }
}

//! The simulator of the cluster map: one to seven real replicas in virtual time, with a network that loses, delays, repeats and cuts, disks
//! that lose what was not synced, crashes between any two steps, and members that come and go.
//!
//! - `cargo test --test raft` runs some seconds' worth of seeds.
//! - `BBD_SEED=N cargo test --test raft simulation` repeats one; with `BBD_TRACE=1` it tells its story.
//! - `BBD_SEEDS=10000 cargo test --release --test raft simulation` runs that many on all cores.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(unreachable_pub, reason = "there is no outside")]

mod clients;
mod disk;
mod history;
mod planted;
#[path = "../sim/rng.rs"]
#[allow(dead_code, reason = "the other simulator draws more kinds of numbers")]
mod rng;
mod world;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as RealInstant;

use planted::Planted;
use world::{Met, World};

/// Seeds of an ordinary test run.
const ORDINARY_SEEDS: u64 = 200;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn say(line: std::fmt::Arguments<'_>) {
    // Not through the test harness, which keeps what passing tests print.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One run. An assertion of the code counts as a finding like any other.
pub(crate) fn run_seed(seed: u64, planted: Option<Planted>, tells: bool) -> Result<Met, String> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, planted, tells).run()));
    let wrong = match result {
        Ok(Ok(met)) => return Ok(met),
        Ok(Err(wrong)) => wrong,
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => format!("assertion: {text}"),
            (None, text) => format!("assertion: {}", text.copied().unwrap_or("?")),
        },
    };
    Err(format!(
        "{wrong}\nseed {seed} failed; to repeat it: BBD_SEED={seed} BBD_TRACE=1 cargo test --test raft simulation"
    ))
}

/// Many runs on all cores. Stops at the first failure.
fn run_seeds(first: u64, seeds: u64, planted: Option<Planted>) -> Result<Met, String> {
    let next = AtomicU64::new(first);
    let total = Mutex::new((Met::default(), None::<String>));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let result = run_seed(seed, planted, false);
                    let (met, failure) = &mut *total.lock().unwrap();
                    match result {
                        Ok(more) => met.add(&more),
                        Err(text) => {
                            failure.get_or_insert(text);
                            next.store(first + seeds, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (met, failure) = total.into_inner().unwrap();
    failure.map_or(Ok(met), Err)
}

#[test]
fn simulation() {
    if let Some(seed) = from_environment("BBD_SEED") {
        match run_seed(seed, None, from_environment("BBD_TRACE") == Some(1)) {
            Ok(met) => say(format_args!("seed {seed} holds: {met}")),
            Err(text) => panic!("{text}"),
        }
        return;
    }
    let seeds = from_environment("BBD_SEEDS").unwrap_or(ORDINARY_SEEDS);
    let started = RealInstant::now();
    let met = run_seeds(1, seeds, None).unwrap_or_else(|text| panic!("{text}"));
    let real = started.elapsed().as_secs_f64();
    let times = met.simulated_ms as f64 / 1000.0 / real;
    say(format_args!("{met}\n{seeds} seeds in {real:.1} s, {times:.0} times real time"));
    if seeds >= ORDINARY_SEEDS {
        assert!(met.missing().is_empty(), "these never occurred: {:?}", met.missing());
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=5 {
        assert_eq!(run_seed(seed, None, false), run_seed(seed, None, false), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    const SEEDS_MAX: u64 = 3_000;
    for planted in Planted::ALL {
        match run_seeds(1, SEEDS_MAX, Some(planted)) {
            Ok(_) => panic!("{planted:?} was not found in {SEEDS_MAX} seeds"),
            Err(wrong) => say(format_args!("{planted:?}: {}", wrong.lines().next().unwrap_or_default())),
        }
    }
}

//! The simulated pair: two real nodes, a network that does what networks do, machines that stop, die and come back, and a
//! reference history that says what may be lost.
//!
//! `BBD_WORLD=pair BBD_SEED=N BBD_TRACE=1 cargo test --test sim pair` tells the story of one seed;
//! `BBD_WORLD=pair BBD_SEEDS=10000 cargo test --release --test sim pair` runs that many.

mod checks;
mod clients;
mod coverage;
mod faults;
mod host;
mod ledger;
mod net;
#[cfg(feature = "planted-bugs")]
mod planted;
mod profile;
mod turn;
mod world;

use coverage::Coverage;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as RealInstant;
use world::World;

/// Seeds of an ordinary test run.
const ORDINARY_SEEDS: u64 = 300;
/// From so many seeds on every fault and rare state must have occurred.
const SEEDS_FOR_COVERAGE: u64 = 2000;

fn run_seed(seed: u64, tells: bool) -> Result<(u64, Coverage), String> {
    let run = || {
        let mut world = World::new(seed, tells);
        world.run().map_err(|wrong| format!("{:.6} s: {wrong}", world.now as f64 / 1e9))?;
        Ok((world.finish(), world.coverage.clone()))
    };
    let wrong = match std::panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(wrong)) => wrong,
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => format!("assertion: {text}"),
            (None, text) => format!("assertion: {}", text.copied().unwrap_or("?")),
        },
    };
    Err(format!(
        "{wrong}\nseed {seed} failed; to repeat it: BBD_WORLD=pair BBD_SEED={seed} BBD_TRACE=1 cargo test --test sim pair"
    ))
}

/// Runs seeds on all cores and gathers what fails, at most so many.
fn run_seeds(first: u64, seeds: u64, failures_max: usize) -> (Coverage, u64, Vec<String>) {
    let next = AtomicU64::new(first);
    let total = Mutex::new((Coverage::new(), 0u64, Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let result = run_seed(seed, false);
                    let (coverage, traces, failures) = &mut *total.lock().unwrap();
                    match result {
                        Ok((trace, met)) => {
                            coverage.add(&met);
                            *traces = traces.wrapping_add(trace);
                        }
                        Err(text) => {
                            if failures_max > 1 {
                                super::say(format_args!("{text}\n"));
                            }
                            failures.push(text);
                        }
                    }
                    if failures.len() >= failures_max {
                        next.store(first + seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    total.into_inner().unwrap()
}

#[test]
fn pair_simulation() {
    let is_meant = std::env::var("BBD_WORLD").is_ok_and(|world| world == "pair");
    if !is_meant && (super::from_environment("BBD_SEED").is_some() || super::from_environment("BBD_SEEDS").is_some()) {
        return;
    }
    if let Some(seed) = super::from_environment("BBD_SEED") {
        match run_seed(seed, super::from_environment("BBD_TRACE") == Some(1)) {
            Ok((trace, coverage)) => {
                super::say(format_args!("{}seed {seed} holds; trace {trace:016x}", coverage.report()));
            }
            Err(text) => panic!("{text}"),
        }
        return;
    }
    let seeds = super::from_environment("BBD_SEEDS").unwrap_or(ORDINARY_SEEDS);
    let first = super::from_environment("BBD_FIRST_SEED").unwrap_or(1);
    let failures_max = super::from_environment("BBD_FAILURES").unwrap_or(1) as usize;
    let started = RealInstant::now();
    let (coverage, traces, failures) = run_seeds(first, seeds, failures_max);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let real = started.elapsed().as_secs_f64();
    let simulated = coverage.simulated_ms as f64 / 1000.0;
    super::say(format_args!(
        "{}{seeds} seeds of the pair, traces {traces:016x}; {simulated:.0} s simulated in {real:.1} s: {:.0} times real time",
        coverage.report(),
        simulated / real,
    ));
    if seeds >= SEEDS_FOR_COVERAGE {
        assert!(coverage.missing().is_empty(), "these never occurred: {:?}", coverage.missing());
    }
}

#[test]
fn the_same_seed_is_the_same_pair() {
    for seed in 1..=3 {
        assert_eq!(run_seed(seed, false).map(|(trace, _)| trace), run_seed(seed, false).map(|(trace, _)| trace));
    }
}

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
#[path = "../sim/seeds.rs"]
mod seeds;
mod world;

use planted::Planted;
use seeds::{Simulator, say};
use world::{Met, World};

/// Seeds of an ordinary test run.
const ORDINARY_SEEDS: u64 = 200;

/// Runs with a mistake planted, or none.
fn simulator(planted: Option<Planted>) -> Simulator<Met> {
    Simulator {
        command: "--test raft simulation",
        ordinary_seeds: ORDINARY_SEEDS,
        seeds_for_coverage: ORDINARY_SEEDS,
        run: Box::new(move |seed, tells| World::new(seed, planted, tells).run()),
    }
}

#[test]
fn simulation() {
    simulator(None).run_as_asked();
}

#[test]
fn the_same_seed_is_the_same_run() {
    simulator(None).check_repeats(1..6);
}

#[test]
fn every_planted_bug_is_found() {
    const SEEDS_MAX: u64 = 3_000;
    for planted in Planted::ALL {
        let (_, failures) = simulator(Some(planted)).run_seeds(1..SEEDS_MAX + 1, 1);
        let Some((seed, wrong)) = failures.first() else { panic!("{planted:?} was not found in {SEEDS_MAX} seeds") };
        say(format_args!("{planted:?}: seed {seed}, {}", wrong.lines().next().unwrap_or_default()));
    }
}

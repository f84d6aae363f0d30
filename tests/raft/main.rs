//! The simulator of the cluster map: one to seven real replicas in virtual time, with a network that loses, delays, repeats, stalls and cuts,
//! clocks that drift, machines that pause, disks that lose what was not synced, crashes at every step of a write and between any two steps of
//! a turn, and members that come and go. Everything is judged: see `world/checks.rs` for what must hold.
//!
//! - `cargo test --test raft` runs some seconds' worth of seeds.
//! - `BBD_SEED=N cargo test --test raft simulation` repeats one; with `BBD_TRACE=1` it tells its story.
//! - `BBD_SEEDS=10000 cargo test --release --test raft simulation` runs that many on all cores, and says what they have met.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(unreachable_pub, reason = "there is no outside")]

mod clients;
mod disk;
mod history;
#[path = "../sim/linear.rs"]
mod linear;
mod met;
#[path = "../sim/mistakes.rs"]
#[cfg(feature = "planted-bugs")]
mod mistakes;
mod profile;
#[path = "../sim/rng.rs"]
#[allow(dead_code, reason = "the other simulator draws more kinds of numbers")]
mod rng;
mod scenarios;
#[path = "../sim/seeds.rs"]
mod seeds;
mod watchers;
mod world;

use met::Met;
use seeds::Simulator;
use world::World;

/// Seeds of an ordinary test run, which meet everything.
const ORDINARY_SEEDS: u64 = 1000;

fn simulator() -> Simulator<Met> {
    Simulator {
        command: "--test raft simulation",
        ordinary_seeds: ORDINARY_SEEDS,
        seeds_for_coverage: ORDINARY_SEEDS,
        run: Box::new(|seed, tells| World::new(seed, tells).run()),
    }
}

#[test]
fn simulation() {
    simulator().run_as_asked();
}

#[test]
fn the_same_seed_is_the_same_run() {
    simulator().check_repeats(1..6);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_found() {
    mistakes::find_all(bigbunny::planted::Bug::OF_MAP, simulator);
}

//! The simulator: the real node in virtual time, driven by many random clients, its every answer judged by a model.
//!
//! - `cargo test --test sim` runs some seconds' worth of seeds.
//! - `BBD_SEED=N cargo test --test sim one_node` repeats one; with `BBD_TRACE=1` it tells its story.
//! - `BBD_SEEDS=10000 cargo test --release --test sim one_node` runs that many on all cores, and says what they have met.
//!
//! All of this is about one node; [`pair`] is the same for two, with `pair_of_nodes` in the place of `one_node`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(unreachable_pub, reason = "there is no outside")]

mod checks;
mod clients;
mod coverage;
mod kinds;
mod linear;
#[cfg(feature = "planted-bugs")]
mod mistakes;
mod model;
mod pair;
mod profile;
mod reply;
mod rng;
mod scenarios;
mod seeds;
mod subject;
mod universe;
mod world;

use coverage::Coverage;
use seeds::Simulator;
use world::World;

fn runs_of_one_node() -> Simulator<Coverage> {
    Simulator {
        command: "--test sim one_node",
        ordinary_seeds: 600,
        seeds_for_coverage: 600,
        run: Box::new(|seed, tells| World::new(seed, tells).run()),
    }
}

#[test]
fn one_node() {
    runs_of_one_node().run_as_asked();
}

#[test]
fn the_same_seed_is_the_same_run() {
    runs_of_one_node().check_repeats(1..6);
}

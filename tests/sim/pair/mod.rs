//! The simulated pair: two real nodes, a network that does what networks do, machines that stop, die and come back, and a
//! reference history that says what may be lost. In a quarter of the runs the network carries the bytes of the sealed link, in the
//! others whole messages; `faults` has the table of all that can strike.
//!
//! `BBD_SEED=N BBD_TRACE=1 cargo test --test sim pair_of_nodes` tells the story of one seed;
//! `BBD_SEEDS=10000 cargo test --release --test sim pair_of_nodes` runs that many.

mod asks;
mod checks;
mod clients;
mod coverage;
mod faults;
mod history;
mod host;
mod ledger;
mod net;
mod operators;
mod profile;
mod sealed;
mod socket;
mod turn;
mod visits;
mod wires;
mod world;

use crate::seeds::Simulator;
use coverage::Coverage;
use world::World;

fn runs_of_a_pair() -> Simulator<Coverage> {
    Simulator {
        command: "--test sim pair_of_nodes",
        ordinary_seeds: 300,
        seeds_for_coverage: 2000,
        run: Box::new(|seed, tells| World::new(seed, tells).run()),
    }
}

#[test]
fn pair_of_nodes() {
    runs_of_a_pair().run_as_asked();
}

#[test]
fn the_same_seed_is_the_same_pair() {
    // The fourth is the first whose link is sealed.
    runs_of_a_pair().check_repeats(1..5);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_found() {
    crate::mistakes::find_all(bigbunny::planted::Bug::OF_PAIR, runs_of_a_pair);
}

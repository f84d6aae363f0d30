//! Each planted mistake, and after how many seeds the pair finds it.

use super::world::World;
use crate::seeds::{Simulator, say};
use bigbunny::planted::{self, Bug};

/// A mistake that so many seeds do not find is not found.
const SEEDS_MAX: u64 = 5000;
/// What half of the mistakes are found in.
const MEDIAN_MAX: u64 = 200;

/// The first seed that finds it, and what it says.
fn first_find(bug: Bug) -> Option<(u64, String)> {
    let run = move |seed, tells| {
        planted::plant(Some(bug));
        World::new(seed, tells).run()
    };
    let (_, failures) = Simulator { run: Box::new(run), ..super::runs_of_a_pair() }.run_seeds(1..SEEDS_MAX + 1, 1);
    failures.into_iter().next()
}

#[test]
fn planted_bugs_are_found() {
    // The runs are meant to fail, and say so in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = std::env::var("BBD_BUG").unwrap_or_default();
    let mut seeds_needed = Vec::new();
    for &(bug, name) in Bug::ALL.iter().filter(|(_, name)| name.contains(&chosen)) {
        let found = first_find(bug);
        let (seeds, says) = found.map_or((u64::MAX, String::new()), |(seed, text)| (seed, text));
        let shown = if seeds == u64::MAX { "not found".to_owned() } else { seeds.to_string() };
        let says: String = says.lines().next().unwrap_or_default().chars().take(100).collect();
        say(format_args!("{name:<44}{shown:>10}  {says}"));
        seeds_needed.push(seeds);
    }
    seeds_needed.sort_unstable();
    let (median, worst) = (seeds_needed[seeds_needed.len() / 2], *seeds_needed.last().unwrap());
    say(format_args!("median {median}, worst {worst}"));
    assert!(median <= MEDIAN_MAX && worst <= SEEDS_MAX, "the simulator does not look where it should");
}

//! Each planted mistake of a list, and after how many seeds a simulator finds it: the proof that it looks.
//!
//! `BBD_SEED=N BBD_BUG=WORDS BBD_TRACE=1 cargo test --features planted-bugs … planted_bugs_are_found` tells the story of one find.

use bigbunny::planted::{self, Bug};

use crate::seeds::{Simulator, Tally, from_environment, say};

/// A mistake that so many seeds do not find is not found.
const SEEDS_MAX: u64 = 5000;
/// What half of the mistakes are found in.
const MEDIAN_MAX: u64 = 200;

/// A simulator whose nodes make a mistake.
fn with_mistake<T: Tally + 'static>(bug: Bug, simulator: fn() -> Simulator<T>) -> Simulator<T> {
    let without = simulator();
    let run = move |seed, tells| {
        planted::plant(Some(bug));
        (without.run)(seed, tells)
    };
    Simulator { run: Box::new(run), ..simulator() }
}

/// The first seed that finds it, and what it says; or the one that is asked for.
fn first_find<T: Tally + 'static>(bug: Bug, simulator: fn() -> Simulator<T>) -> Option<(u64, String)> {
    let simulator = with_mistake(bug, simulator);
    if let Some(seed) = from_environment("BBD_SEED") {
        let text = simulator.run_seed(seed, from_environment("BBD_TRACE") == Some(1)).err()?;
        return Some((seed, text));
    }
    let (_, failures) = simulator.run_seeds(1..SEEDS_MAX + 1, 1);
    failures.into_iter().next()
}

/// Plants one after the other, or only those with `BBD_BUG` in their names, and prints the table.
pub(crate) fn find_all<T: Tally + 'static>(bugs: &[(Bug, &str)], simulator: fn() -> Simulator<T>) {
    // The runs are meant to fail, and say so in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = std::env::var("BBD_BUG").unwrap_or_default();
    let mut seeds_needed = Vec::new();
    for &(bug, name) in bugs.iter().filter(|(_, name)| name.contains(&chosen)) {
        let found = first_find(bug, simulator);
        let (seeds, says) = found.map_or((u64::MAX, String::new()), |(seed, text)| (seed, text));
        let shown = if seeds == u64::MAX { "not found".to_owned() } else { seeds.to_string() };
        let says: String = says.lines().next().unwrap_or_default().chars().take(100).collect();
        say(format_args!("{name:<50}{shown:>10}  {says}"));
        seeds_needed.push(seeds);
    }
    seeds_needed.sort_unstable();
    let Some(worst) = seeds_needed.last() else { return };
    let median = seeds_needed[seeds_needed.len() / 2];
    say(format_args!("median {median}, worst {worst}"));
    assert!(median <= MEDIAN_MAX && *worst <= SEEDS_MAX, "the simulator does not look where it should");
}

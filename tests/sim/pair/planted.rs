//! Each planted mistake, and after how many seeds the pair finds it.

use bigbunny::planted::{self, Bug};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A mistake that so many seeds do not find is not found.
const SEEDS_MAX: u64 = 5000;
/// What half of the mistakes are found in.
const MEDIAN_MAX: u64 = 200;

/// The first seed that finds it, and what it says.
fn first_find(bug: Bug) -> Option<(u64, String)> {
    let next = AtomicU64::new(1);
    let found = Mutex::new(None::<(u64, String)>);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                planted::plant(Some(bug));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_settled = found.lock().unwrap().as_ref().is_some_and(|(first, _)| *first < seed);
                    if is_settled || seed > SEEDS_MAX {
                        return;
                    }
                    if let Err(text) = super::run_seed(seed, false) {
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *found = Some((seed, text));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
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
        crate::say(format_args!("{name:<44}{shown:>10}  {says}"));
        seeds_needed.push(seeds);
    }
    seeds_needed.sort_unstable();
    let (median, worst) = (seeds_needed[seeds_needed.len() / 2], *seeds_needed.last().unwrap());
    crate::say(format_args!("median {median}, worst {worst}"));
    assert!(median <= MEDIAN_MAX && worst <= SEEDS_MAX, "the simulator does not look where it should");
}

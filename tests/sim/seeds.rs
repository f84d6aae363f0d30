//! Seeds: which of them the environment asks for, running them on all cores, and saying what came of it. Every simulator uses it; what a
//! run is and what it meets is the simulator's own business.
//!
//! - `BBD_SEED=N` repeats one run, and with `BBD_TRACE=1` it tells its story;
//! - `BBD_SEEDS=N` runs that many, from `BBD_FIRST_SEED` (1) on, until `BBD_FAILURES` (1) of them have failed.

use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What one run has met, or many together.
pub(crate) trait Tally: Default + Send {
    fn add(&mut self, more: &Self);

    /// How much time has passed inside the runs, in milliseconds.
    fn simulated_ms(&self) -> u64;

    /// What should have occurred, and never did.
    fn missing(&self) -> Vec<&'static str>;

    /// All of it, for people, and a hash of what happened: the same for the same seeds in every build.
    fn report(&self) -> String;
}

/// A kind of runs.
pub(crate) struct Simulator<T> {
    /// What repeats it, behind `cargo test`.
    pub(crate) command: &'static str,
    /// How many seeds an ordinary test runs.
    pub(crate) ordinary_seeds: u64,
    /// From so many seeds on everything must have occurred.
    pub(crate) seeds_for_coverage: u64,
    /// Makes a run by its seed, and has it tell its story if that is true.
    pub(crate) run: Box<dyn Fn(u64, bool) -> Result<T, String> + Sync>,
}

/// Seeds that failed, and what they say.
pub(crate) type Failures = Vec<(u64, String)>;

impl<T: Tally> Simulator<T> {
    /// What the environment asks for, or what is ordinary. Panics with what has failed.
    pub(crate) fn run_as_asked(&self) {
        if let Some(seed) = from_environment("BBD_SEED") {
            match self.run_seed(seed, from_environment("BBD_TRACE") == Some(1)) {
                Ok(met) => say(format_args!("{}\nseed {seed} holds", met.report())),
                Err(text) => panic!("{text}"),
            }
            return;
        }
        let count = from_environment("BBD_SEEDS").unwrap_or(self.ordinary_seeds);
        let first = from_environment("BBD_FIRST_SEED").unwrap_or(1);
        let failures_max = from_environment("BBD_FAILURES").unwrap_or(1);
        let started = Instant::now();
        let (met, failures) = self.run_seeds(first..first + count, failures_max as usize);
        let texts: Vec<String> = failures.into_iter().map(|(_, text)| text).collect();
        assert!(texts.is_empty(), "{}", texts.join("\n\n"));
        let real = started.elapsed().as_secs_f64();
        let simulated = met.simulated_ms() as f64 / 1000.0;
        say(format_args!(
            "{}\n{count} seeds; {simulated:.0} s simulated in {real:.1} s: {:.0} times real time",
            met.report(),
            simulated / real,
        ));
        if count >= self.seeds_for_coverage {
            assert!(met.missing().is_empty(), "these never occurred: {:?}", met.missing());
        }
    }

    /// One run. An assertion of the code counts as a finding like any other.
    pub(crate) fn run_seed(&self, seed: u64, tells: bool) -> Result<T, String> {
        let wrong = match catch_unwind(AssertUnwindSafe(|| (self.run)(seed, tells))) {
            Ok(Ok(met)) => return Ok(met),
            Ok(Err(wrong)) => wrong,
            Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                (Some(text), _) => format!("assertion: {text}"),
                (None, text) => format!("assertion: {}", text.copied().unwrap_or("?")),
            },
        };
        let command = self.command;
        Err(format!("{wrong}\nseed {seed} failed; to repeat it: BBD_SEED={seed} BBD_TRACE=1 cargo test {command}"))
    }

    /// Many runs on all cores, until so many have failed. Whatever is below the first seed that failed is run, so that one is always the
    /// same.
    pub(crate) fn run_seeds(&self, seeds: Range<u64>, failures_max: usize) -> (T, Failures) {
        let next = AtomicU64::new(seeds.start);
        let total = Mutex::new((T::default(), Failures::new()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let result = self.run_seed(seed, false);
                        let (met, failures) = &mut *total.lock().unwrap();
                        match result {
                            Ok(more) => met.add(&more),
                            Err(text) => {
                                if failures_max > 1 {
                                    say(format_args!("{text}\n"));
                                }
                                failures.push((seed, text));
                            }
                        }
                        if failures.len() >= failures_max {
                            next.store(seeds.end, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let (met, mut failures) = total.into_inner().unwrap();
        failures.sort_unstable();
        (met, failures)
    }

    /// A run means the same when it is made again.
    pub(crate) fn check_repeats(&self, seeds: Range<u64>) {
        for seed in seeds {
            let [first, second] = [0; 2].map(|_| self.run_seed(seed, false).map(|met| met.report()));
            assert_eq!(first, second, "seed {seed}");
        }
    }
}

/// A line that is seen at once: the test harness keeps what passing tests print.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

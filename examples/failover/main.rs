//! Measures what clients notice when one of two nodes fails, and what replication costs: `scripts/failover` runs it.
//!
//! Each scenario starts two real daemons, writes to them as fast as they answer, does something to them, and looks at what became
//! of every single change. A table on standard output has for each figure the median and the range of all runs; the worst of them
//! is held against what is to be reached.

mod load;
mod nodes;
mod scenarios;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodes::{Fallible, folder, remove_folder};
use scenarios::{Figure, Goal, SCENARIOS, Scenario};

/// What the command line asks for.
struct Options {
    bbd: PathBuf,
    runs: usize,
    /// Names of scenarios; none means all.
    only: Vec<String>,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self { bbd: PathBuf::from("target/release/bbd"), runs: 5, only: Vec::new() };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("bbd") => options.bbd = parser.value()?.into(),
                lexopt::Arg::Long("runs") => options.runs = parser.value()?.to_string_lossy().parse()?,
                lexopt::Arg::Value(name) if SCENARIOS.iter().any(|scenario| name == *scenario.name) => {
                    options.only.push(name.to_string_lossy().into_owned());
                }
                lexopt::Arg::Value(_) | lexopt::Arg::Long(_) | lexopt::Arg::Short(_) => {
                    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
                    return Err(format!("usage: failover [--bbd PROGRAM] [--runs N] [{}] ...", names.join("|")).into());
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario.name)
    }
}

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs all that is wanted and prints the table; says whether every goal was reached.
fn measure() -> Fallible<bool> {
    let options = Options::parse()?;
    println!("| | figure | median | least to most | to reach | |\n|---|---|---|---|---|---|");
    let mut is_well = true;
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants(scenario)) {
        let runs = options.runs.min(scenario.runs_at_most);
        match run_all(scenario, &options.bbd, runs) {
            Ok(results) => is_well &= print_rows(scenario, &results),
            Err(error) => {
                return Err(format!("{}: {error}; logs are in {}", scenario.name, folder().display()).into());
            }
        }
    }
    remove_folder();
    Ok(is_well)
}

/// The numbers of each run.
fn run_all(scenario: &Scenario, bbd: &Path, runs: usize) -> Fallible<Vec<Vec<f64>>> {
    let mut results = Vec::new();
    for run in 1..=runs {
        eprint!("{} {run}/{runs}: ", scenario.name);
        let result = (scenario.run)(bbd).inspect_err(|_| eprintln!())?;
        for (figure, value) in scenario.figures.iter().zip(&result) {
            eprint!("{} {}; ", figure.name, shown(*value, figure.unit));
        }
        eprintln!();
        results.push(result);
    }
    Ok(results)
}

fn print_rows(scenario: &Scenario, results: &[Vec<f64>]) -> bool {
    let mut is_well = true;
    for (index, figure) in scenario.figures.iter().enumerate() {
        let mut values: Vec<f64> = results.iter().map(|result| result[index]).collect();
        values.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (values.first(), values.last()) else { continue };
        let median = values[values.len() / 2];
        let worst = if matches!(figure.goal, Goal::AtLeast(_)) { least } else { most };
        let title = if index == 0 { format!("{} ({} runs)", scenario.title, values.len()) } else { String::new() };
        let (goal, is_reached) = judge(figure, worst);
        is_well &= is_reached;
        let verdict = match figure.goal {
            Goal::None => "",
            Goal::AtMost(_) | Goal::AtLeast(_) if is_reached => "reached",
            Goal::AtMost(_) | Goal::AtLeast(_) => "MISSED",
        };
        let [median, least, most] = [median, least, most].map(|value| shown(value, figure.unit));
        println!("| {title} | {} | {median} | {least} to {most} | {goal} | {verdict} |", figure.name);
    }
    is_well
}

/// The goal in words, and whether this value reaches it.
fn judge(figure: &Figure, value: f64) -> (String, bool) {
    match figure.goal {
        Goal::AtMost(limit) => (format!("≤ {}", shown(limit, figure.unit)), value <= limit),
        Goal::AtLeast(limit) => (format!("≥ {}", shown(limit, figure.unit)), value >= limit),
        Goal::None => (String::new(), true),
    }
}

fn shown(value: f64, unit: &str) -> String {
    let digits = if value.fract() == 0.0 || value >= 1000.0 { 0 } else { 2 };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

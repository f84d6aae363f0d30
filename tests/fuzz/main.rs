//! Every input that fuzzing has kept, run as an ordinary test: whole, cut, and with single bits turned. `scripts/fuzz` looks for more.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "the fuzzers are outside")]

mod targets;

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use targets::{TARGETS, Target};

/// Cuts, and turned bits, of one input at most, spread over its length.
const VARIANTS_MAX: usize = 24;

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus"))
}

/// Places in a length, at most so many.
fn places(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length.div_ceil(VARIANTS_MAX).max(1))
}

fn run(name: &str, target: Target, input: &[u8], of: &Path) {
    let survived = std::panic::catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
    assert!(survived, "{name} fails on a variant of {}: {:?}", of.display(), input.escape_ascii().to_string());
}

#[test]
fn kept_inputs() {
    for (name, target) in TARGETS {
        let mut paths: Vec<_> = fs::read_dir(corpus().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!paths.is_empty(), "{name} has kept nothing");
        paths.sort();
        for path in paths {
            let input = fs::read(&path).unwrap();
            run(name, target, &input, &path);
            for end in places(input.len()) {
                run(name, target, &input[..end], &path);
            }
            for place in places(input.len()) {
                let mut altered = input.clone();
                altered[place] ^= 1 << (place % 8);
                run(name, target, &altered, &path);
            }
        }
    }
}

#[test]
fn every_target_has_its_fuzzer() {
    let manifest = include_str!("Cargo.toml");
    let named: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")).collect();
    let in_table: Vec<String> = TARGETS.iter().map(|(name, _)| format!("{name}\"")).collect();
    assert_eq!(named[2..], in_table, "behind the package and its library");
    for (name, _) in TARGETS {
        let text = fs::read_to_string(format!("{}/tests/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR")));
        assert!(text.unwrap().contains(&format!("targets::{name}(input)")), "{name}");
    }
}

//! The manual pages say what the tables say, and mandoc finds nothing wrong with them.

use std::fs;
use std::path::Path;
use std::process::Command;

use bigbunny::cli::commands::COMMANDS;
use bigbunny::cli::exit::EXITS;
use bigbunny::config::flags::{FLAGS, OLDER_ENVIRONMENT_NAMES};

use crate::support::has_tool;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The items of a page's lists that begin with this macro, each with its text: heads as they would be read, without macros.
fn items(page: &str, macro_name: &str) -> Vec<(String, String)> {
    let mut items: Vec<(String, String)> = Vec::new();
    let mut in_item = false;
    for line in page.lines() {
        if let Some(head) = line.strip_prefix(".It ") {
            in_item = head.starts_with(&format!("{macro_name} "));
            if in_item {
                items.push((as_read(head), String::new()));
            }
        } else if in_item && let Some((_, text)) = items.last_mut() {
            text.push_str(line.trim_start_matches('.'));
            text.push('\n');
        }
        in_item &= line != ".El";
    }
    items
}

/// A line of mdoc as a reader sees it: `Oo Fl -ttl Ar S Oc Ar ID` is `[--ttl S] ID`.
fn as_read(line: &str) -> String {
    let mut text = String::new();
    let mut is_flag = false;
    for word in line.split(' ') {
        match word {
            "Cm" | "Ar" => {}
            "Oo" => text.push('['),
            "Oc" => text = format!("{}] ", text.trim_end()),
            "Fl" => is_flag = true,
            _ => {
                text.push_str(if is_flag { "-" } else { "" });
                text.push_str(word);
                text.push(' ');
                is_flag = false;
            }
        }
    }
    text.trim_end().to_owned()
}

#[test]
fn every_command_is_in_the_manual_as_it_is() {
    let expected: Vec<String> = COMMANDS
        .iter()
        .map(|command| format!("{} {}", command.name, command.synopsis()).trim_end().to_owned())
        .collect();
    let mut found: Vec<String> = items(&page("bbd.1"), "Cm").into_iter().map(|(head, _)| head).collect();
    let mut sorted = expected.clone();
    found.sort();
    sorted.sort();
    assert_eq!(found, sorted);
}

#[test]
fn every_flag_is_in_the_manual_with_its_default() {
    let found = items(&page("bbd.8"), "Fl");
    let heads: Vec<&str> = found.iter().map(|(head, _)| head.as_str()).collect();
    let expected: Vec<String> = FLAGS
        .iter()
        .map(|flag| format!("--{} {}", flag.name, flag.value_name.unwrap_or_default()).trim_end().to_owned())
        .collect();
    assert_eq!(heads, expected, "in the same order");
    for (flag, (_, text)) in FLAGS.iter().zip(&found) {
        let default = flag.default.unwrap_or(flag.default_words);
        assert!(
            default.is_empty() || text.contains(&format!("[{default}]")),
            "--{}: [{default}] in {text:?}",
            flag.name
        );
    }
}

#[test]
fn environment_and_exit_statuses_are_in_the_manual() {
    let (commands, daemon) = (page("bbd.1"), page("bbd.8"));
    for (name, _) in OLDER_ENVIRONMENT_NAMES {
        assert!(daemon.contains(name), "{name}");
    }
    for (exit, _) in EXITS {
        assert!(commands.contains(&format!("\n.It {}\n", exit.status())), "exit status {}", exit.status());
    }
}

#[test]
fn the_pages_are_clean() {
    if !has_tool("mandoc") {
        return;
    }
    for name in ["bbd.1", "bbd.8", "bbd-api.7", "bbd-cluster.7", "bbd-internals.7", "bbd-kv.7"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
        let output = Command::new("mandoc").args(["-T", "lint"]).arg(&path).output().expect("mandoc runs");
        let complaints = String::from_utf8_lossy(&output.stdout).into_owned();
        // Pages that are not installed are not found, which is no fault of this one.
        let faults: Vec<&str> =
            complaints.lines().filter(|line| !line.contains("referenced manual not found")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

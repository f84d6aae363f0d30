//! Owns the help texts, made of the tables of commands and flags. Does not own the manual, which is checked against the same tables.

use std::fmt::Write as _;

use super::commands::{self, COMMANDS, Command, CommandFlag};
use super::exit::{EXITS, Failure};
use super::invocation::Invocation;
use super::{Outcome, print};
use crate::config::flags::FLAGS;

/// The name and version of the program, on one line.
pub const VERSION: &str = concat!("bbd ", env!("CARGO_PKG_VERSION"), "\n");
/// How wide the left column of help texts is.
const COLUMN: usize = 38;

/// What `bbd` without arguments says.
#[must_use]
pub fn usage() -> String {
    let mut text = String::from(
        "Usage: bbd --FLAG ...              start the daemon (bbd --dev to try it out)\n\
        \x20      bbd COMMAND [--FLAG ...]    ask a running one\n\nCommands:\n",
    );
    for command in COMMANDS {
        line(&mut text, command.name, command.help);
    }
    text.push_str("\nbbd help lists the daemon's flags too; bbd help COMMAND tells more about a command.\n");
    text
}

/// All commands, all flags of the daemon and all exit statuses.
#[must_use]
pub fn everything() -> String {
    let mut text = usage();
    text.push_str("\nFlags of the daemon (each also as BBD_ and its name in the environment):\n");
    for flag in FLAGS {
        let default = match flag.default {
            Some(default) => format!(" [{default}]"),
            None => String::new(),
        };
        line(&mut text, &dashed(flag.name, flag.value_name), &format!("{}{default}", flag.help));
    }
    text.push_str("\nExit statuses of commands:\n");
    for (exit, meaning) in EXITS {
        line(&mut text, &exit.status().to_string(), meaning);
    }
    text
}

/// One command.
#[must_use]
pub fn of_command(command: &Command) -> String {
    let usage = format!("Usage: bbd {} {}", command.name, command.synopsis());
    let mut text = format!("{}\n\n{}.\n\nFlags:\n", usage.trim_end(), command.help);
    let (common, own): (Vec<&CommandFlag>, Vec<&CommandFlag>) = command.all_flags().partition(|flag| flag.is_common());
    for flag in own.into_iter().chain(common) {
        line(&mut text, &dashed(flag.name, flag.value_name), flag.help);
    }
    text
}

/// The commands whose name begins with this word.
fn of_family(word: &str) -> Option<String> {
    let mut text = format!("Usage: bbd {word} COMMAND [--FLAG ...]\n\nCommands:\n");
    let usage_length = text.len();
    for command in
        COMMANDS.iter().filter(|command| command.name.split(' ').next() == Some(word) && command.name != word)
    {
        line(&mut text, command.name, command.help);
    }
    (text.len() > usage_length).then_some(text)
}

/// `bbd help [COMMAND]`
pub(super) fn run(invocation: &Invocation) -> Outcome {
    let words: Vec<String> = invocation.positionals.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let name = words.join(" ");
    if name.is_empty() {
        return print(everything().as_bytes());
    }
    let text = commands::find(&name).map(of_command).or_else(|| of_family(&name));
    match text {
        Some(text) => print(text.as_bytes()),
        None => Err(Failure::usage(format!("there is no command {name:?}; bbd help lists them"))),
    }
}

/// `bbd version`
pub(super) fn version(_: &Invocation) -> Outcome {
    print(VERSION.as_bytes())
}

fn dashed(name: &str, value_name: Option<&str>) -> String {
    value_name.map_or_else(|| format!("--{name}"), |value_name| format!("--{name} {value_name}"))
}

fn line(text: &mut String, left: &str, right: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {left:<COLUMN$}{right}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_fit_their_columns() {
        for text in [usage(), everything()].into_iter().chain(COMMANDS.iter().map(of_command)) {
            for line in text.lines() {
                assert!(line.len() <= 150 && line.trim_end() == line, "{line:?}");
            }
        }
        for flag in FLAGS {
            assert!(dashed(flag.name, flag.value_name).len() < COLUMN, "{}", flag.name);
        }
    }

    #[test]
    fn commands_are_named_once() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert!(COMMANDS[..index].iter().all(|earlier| earlier.name != command.name), "{}", command.name);
            for (index, takes) in command.flags.iter().enumerate() {
                assert!(
                    command.flags[..index].iter().all(|earlier| earlier.flag.name != takes.flag.name),
                    "{}",
                    command.name
                );
            }
            assert!(!command.help.ends_with('.') && !command.help.is_empty(), "{}", command.name);
        }
    }
}

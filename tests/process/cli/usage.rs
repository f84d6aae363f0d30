//! Command lines that are wrong: every command, every flag. No daemon is there, so that whatever is not refused before it is
//! asked ends with 5.

use std::path::Path;

use bigbunny::cli::commands::{COMMANDS, Command};

use super::{NO_ADDR, Ran, bbd, run_at};

const NOBODY: &str = "/nonexistent/x.sock";

/// What a command needs at least, so that only what is added can be wrong.
fn least(command: &Command) -> Vec<String> {
    let mut args: Vec<String> = command.name.split(' ').map(str::to_owned).collect();
    for takes in command.flags.iter().filter(|takes| takes.is_needed) {
        args.push(format!("--{}=1", takes.flag.name));
    }
    args.extend((0..*command.argument_count.start()).map(|_| argument(command).to_owned()));
    if command.flags.iter().any(|takes| takes.flag.name == "data" && takes.flag.value_name.is_some()) {
        args.push("--data=x".to_owned());
    }
    args
}

/// An argument that the command takes.
fn argument(command: &Command) -> &'static str {
    match command.arguments {
        "SHELL" => "bash",
        "HOST:PORT" => NO_ADDR,
        _ => "argument",
    }
}

/// Commands that ask no daemon.
fn asks_nobody(command: &Command) -> bool {
    ["keygen", "completions", "help", "version", "cluster restore"].contains(&command.name)
}

fn with(command: &Command, more: &[&str]) -> Vec<String> {
    least(command).into_iter().chain(more.iter().map(|&arg| arg.to_owned())).collect()
}

fn run_nowhere(args: &[String]) -> Ran {
    run_at(Path::new(NOBODY), args)
}

#[test]
fn the_least_that_each_command_needs_is_enough() {
    for command in COMMANDS {
        let expected = match command.name {
            // There is no such backup.
            "cluster restore" => 70,
            _ if asks_nobody(command) => 0,
            _ => 5,
        };
        assert_eq!(run_nowhere(&least(command)).status, expected, "{}", command.name);
    }
}

#[test]
fn every_wrong_use_ends_with_2_and_says_what_is_right() {
    for command in COMMANDS {
        let usage = format!("bbd {}", command.name);
        run_nowhere(&with(command, &["--nonsense"])).fails(2, &usage);
        run_nowhere(&with(command, &["-n"])).fails(2, &usage);
        if *command.argument_count.end() != usize::MAX {
            let surplus = vec!["argument"; 1 + command.argument_count.end() - command.argument_count.start()];
            run_nowhere(&with(command, &surplus)).fails(2, "too many");
        }
        for takes in command.flags {
            let name = takes.flag.name;
            if takes.flag.value_name.is_some() {
                run_nowhere(&with(command, &[&format!("--{name}")])).fails(2, &format!("--{name} needs a value"));
            } else {
                run_nowhere(&with(command, &[&format!("--{name}=perhaps")])).fails(2, &format!("--{name}"));
            }
            if takes.is_needed {
                let without = least(command).into_iter().filter(|arg| !arg.starts_with(&format!("--{name}=")));
                run_nowhere(&without.collect::<Vec<String>>()).fails(2, &format!("--{name} is needed"));
            }
        }
        if *command.argument_count.start() > 0 {
            let argument = argument(command);
            let without: Vec<String> = least(command).into_iter().filter(|arg| arg != argument).collect();
            run_nowhere(&without).fails(2, "is needed");
            let empty: Vec<String> =
                least(command).into_iter().map(|arg| if arg == argument { String::new() } else { arg }).collect();
            run_nowhere(&empty).fails(2, "empty");
        }
    }
}

/// Every flag whose value has a form, with values that have none.
#[test]
fn every_flag_refuses_nonsense() {
    let nonsense = ["", " ", "nonsense", "1.5", "9223372036854775808", "+1", "1e3", "\u{1b}[2J", "0x10", "١"];
    // Free text: whatever it is, the daemon sees to it.
    let text = ["data", "name", "prefix", "after", "expect"];
    for command in COMMANDS.iter().filter(|command| !asks_nobody(command)) {
        for takes in command.flags.iter().filter(|takes| takes.flag.value_name.is_some()) {
            let name = takes.flag.name;
            for value in nonsense {
                let is_good = text.contains(&name)
                    || (name == "customer" && ["nonsense", "1e3", "0x10", "9223372036854775808"].contains(&value))
                    || (name == "lock" && value.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !value.is_empty())
                    || (["limit", "from"].contains(&name) && value == "9223372036854775808");
                // An empty name names nothing; an empty variable is none, but an empty flag is one.
                let is_good = is_good && !(name == "name" && value.is_empty());
                let ran = run_nowhere(&with(command, &[&format!("--{name}={value}")]));
                if is_good {
                    assert_eq!(ran.status, 5, "{} --{name}={value:?}: {ran:?}", command.name);
                } else {
                    ran.fails(2, &format!("--{name}"));
                }
            }
        }
    }
}

#[test]
fn commands_that_are_none() {
    let fails = |args: &[&str], message: &str| Ran::new(bbd().args(args).output().unwrap()).fails(2, message);
    fails(&["nonsense"], "\"nonsense\"");
    fails(&[""], "no command");
    fails(&["named"], "named needs a command");
    fails(&["kv"], "kv needs a command");
    fails(&["cluster", "nonsense"], "cluster \"nonsense\"");
    fails(&["named", "--uds=x"], "named needs a command");
    fails(&["named", "nonsense"], "named \"nonsense\"");
    fails(&["help", "nonsense"], "\"nonsense\"");
    fails(&["help", "get", "nonsense"], "\"get nonsense\"");
    // These come with later versions.
    fails(&["tops"], "\"tops\"");
}

#[test]
fn the_environment_is_checked_too() {
    let status = |name: &str, value: &str| Ran::new(bbd().args(["lookup", "n"]).env(name, value).output().unwrap());
    status("BBD_CUSTOMER", "no customer").fails(2, "BBD_CUSTOMER");
    status("BBD_UDS", &"x".repeat(200)).fails(2, "--uds");
    let map = |name: &str, value: &str| Ran::new(bbd().args(["kv", "list"]).env(name, value).output().unwrap());
    map("BBD_ADDR", "nowhere").fails(2, "--addr");
    map("BBD_CLIENT_TOKEN", "two\nlines").fails(2, "--client-token");
    map("BBD_CLIENT_TOKEN_FILE", "/nonexistent/token").fails(2, "--client-token-file");
    map("BBD_ADDR", "").fails(5, "BBD_ADDR");
    // What commands about stores do not ask for does not stop them.
    status("BBD_ADDR", "nowhere").fails(5, "/tmp/bbd.sock");
    let mut command = bbd();
    command.args(["lookup", "n", "--uds", NOBODY]).env("BBD_UDS", "").env("BBD_CUSTOMER", "");
    Ran::new(command.output().unwrap()).fails(5, NOBODY);
}

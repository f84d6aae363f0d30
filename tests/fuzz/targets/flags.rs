//! Command lines and environments: the daemon's, and those of the client commands.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use bigbunny::cli::commands::COMMANDS;
use bigbunny::cli::invocation::Invocation;
use bigbunny::config::{self, Parsed};

/// One line is one argument, or a variable if it begins with `$`; the first byte chooses the daemon or a command.
pub fn flags(input: &[u8]) {
    let Some((&command, input)) = input.split_first() else { return };
    // Nothing is read from disk here.
    let names_file = input.to_ascii_lowercase().windows(4).any(|word| word == b"file" || word == b"cred");
    if names_file || input.len() > 4096 {
        return;
    }
    let mut args = Vec::new();
    let mut variables = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"$") {
            Some(variable) => {
                let mut parts = variable.splitn(2, |byte| *byte == b'=');
                let name = parts.next().unwrap_or_default();
                variables.push((name, parts.next().unwrap_or_default()));
            }
            None => args.push(OsString::from_vec(line.to_vec())),
        }
    }
    let env = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name.as_bytes());
        found.map(|(_, value)| OsStr::from_bytes(value).to_owned())
    };
    match COMMANDS.get(usize::from(command)) {
        Some(command) => {
            if let Ok(invocation) = Invocation::parse(command, args, &env) {
                let _ = (invocation.hold_ms(), invocation.customer().len());
                for takes in command.flags {
                    let _ = (invocation.integer(takes.flag), invocation.ttl(takes.flag), invocation.has(takes.flag));
                }
            }
        }
        None => match config::parse_or_help(args, &env) {
            Ok(Parsed::Config(config)) => {
                assert!(config.heartbeat_interval * 3 <= config.lease && config.heartbeat_interval <= config.grace);
                assert!(config.lock_timeout <= config.max_lock_timeout && config.max_connections > 0);
                let _ = (config.report(), config.node());
            }
            Ok(Parsed::Help) => {}
            Err(error) => assert!(!error.to_string().contains('\n'), "an error is one line: {error}"),
        },
    }
}

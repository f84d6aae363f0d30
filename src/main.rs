//! Owns the way from the command line to a command, and the exit status; nothing else.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use bigbunny::cli::exit::Exit;
use bigbunny::cli::{self, Outcome, help};
use bigbunny::config::{self, Parsed};
use bigbunny::server;

/// Stores are many small allocations that come and go: see Cargo.toml for what the C library would make of them.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The daemon failed while it ran, or could not open its sockets.
const RUNTIME_FAILURE: u8 = 1;

fn main() -> ExitCode {
    if cfg!(feature = "planted-bugs") {
        cli::tell("bbd: built with planted bugs, which are for the simulator alone; build it without that feature");
        return ExitCode::from(RUNTIME_FAILURE);
    }
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let env = |name: &str| env::var_os(name);
    let status = match args.first().map(|first| first.to_string_lossy().into_owned()).as_deref() {
        // As other programs do when they are given nothing to do.
        None => {
            cli::tell(help::usage().trim_end());
            Exit::Usage.status()
        }
        Some("--version" | "-version") => command(vec!["version".into()], &env),
        Some(first) if first.starts_with('-') => daemon(args, &env),
        Some(_) => command(args, &env),
    };
    ExitCode::from(status)
}

/// Runs a client command.
fn command(args: Vec<OsString>, env: &dyn Fn(&str) -> Option<OsString>) -> u8 {
    ended(cli::run(args, env))
}

/// Says what went wrong, if something did, and how the process is to end.
fn ended(outcome: Outcome) -> u8 {
    match outcome {
        Ok(exit) => exit.status(),
        Err(failure) => {
            cli::tell(&format!("bbd: {}", failure.message));
            failure.exit.status()
        }
    }
}

/// Runs the daemon: 0 is a clean stop, 1 a failure while it ran, 2 a configuration that is wrong.
fn daemon(args: Vec<OsString>, env: &dyn Fn(&str) -> Option<OsString>) -> u8 {
    server::seal_memory();
    let config = match config::parse_or_help(args, env) {
        Ok(Parsed::Config(config)) => *config,
        Ok(Parsed::Help) => return command(vec!["help".into()], env),
        Err(error) => {
            cli::tell(&format!("bbd: {error}"));
            return Exit::Usage.status();
        }
    };
    if config.check_config {
        for warning in &config.warnings {
            cli::tell(&format!("bbd: warning: {warning}"));
        }
        return ended(cli::print(config.report().as_bytes()));
    }
    let failed = |error: &dyn std::fmt::Display| {
        cli::tell(&format!("bbd: {error}"));
        RUNTIME_FAILURE
    };
    let ended = match &config.map {
        None => server::run(config).map_err(|error| failed(&error)),
        Some(map) if !config.serves_sessions() => {
            server::map::run(map, &config.warnings).map_err(|error| failed(&error))
        }
        Some(_) => server::run_both(config).map_err(|error| failed(&error)),
    };
    ended.map_or_else(|status| status, |()| Exit::Done.status())
}

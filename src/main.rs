//! Owns the way from the command line to a command, and the exit status; nothing else.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let config = match bigbunny::config::parse(env::args_os().skip(1), &|name| env::var_os(name)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("bbd: {error}");
            return ExitCode::from(2);
        }
    };
    match bigbunny::server::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bbd: {error}");
            ExitCode::FAILURE
        }
    }
}

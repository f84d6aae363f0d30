//! Owns the client commands of `bbd`: finding the command, running it, and how it ends. Data goes to standard output, everything
//! else to standard error. The table of commands is in [`commands`], the conversation with the daemon in [`client`].

mod bench;
pub mod client;
mod cluster;
pub mod commands;
mod completions;
mod doctor;
pub mod exit;
pub mod help;
pub mod invocation;
mod kv;
mod map;
mod metrics_page;
mod modify;
mod named;
mod operate;
mod stores;
mod top;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use commands::Command;
use exit::{Exit, Failure};
use invocation::Invocation;

/// How a command ended, and how the process is to end.
pub type Outcome = Result<Exit, Failure>;

/// Runs one client command. `args` begin with its name.
///
/// # Errors
/// Why it did not do what it was asked for, with the command's name in front of the message.
pub fn run(args: Vec<OsString>, env: &dyn Fn(&str) -> Option<OsString>) -> Outcome {
    let (command, rest) = find(args)?;
    let named = |failure: Failure| Failure { message: format!("{}: {}", command.name, failure.message), ..failure };
    let invocation = Invocation::parse(command, rest, env).map_err(named)?;
    if invocation.help {
        return print(help::of_command(command).as_bytes());
    }
    (command.run)(&invocation).map_err(named)
}

/// The command that the first argument names, or the first two, and the arguments behind its name.
fn find(mut args: Vec<OsString>) -> Result<(&'static Command, Vec<OsString>), Failure> {
    let word = |index: usize| args.get(index).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let (first, second) = (word(0), word(1));
    for (name, words) in [(first.clone(), 1), (format!("{first} {second}"), 2)] {
        if let Some(command) = commands::find(&name) {
            return Ok((command, args.split_off(words)));
        }
    }
    let mut family = commands::COMMANDS.iter().filter(|command| command.name.starts_with(&format!("{first} ")));
    Err(match family.next() {
        Some(_) if second.is_empty() || second.starts_with('-') => {
            Failure::usage(format!("{first} needs a command: see bbd help {first}"))
        }
        Some(_) => Failure::usage(format!("there is no command {first} {second:?}; see bbd help {first}")),
        None => Failure::usage(format!("there is no command {first:?}; bbd help lists them")),
    })
}

/// Whether anybody still reads what we print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Listening,
    Gone,
}

/// Writes to standard output. That nobody reads it, as in `bbd named list | head -1`, is no failure.
fn write_out(parts: &[&[u8]]) -> Result<Reader, Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = parts.iter().try_for_each(|part| stdout.write_all(part)).and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(Exit::Other, format!("standard output cannot be written: {error}"))),
    }
}

/// Prints bytes as they are.
///
/// # Errors
/// Standard output cannot be written; that nobody reads it is none.
pub fn print(bytes: &[u8]) -> Outcome {
    write_out(&[bytes]).map(|_| Exit::Done)
}

/// Prints bytes and a newline.
fn print_line(bytes: &[u8]) -> Outcome {
    write_out(&[bytes, b"\n"]).map(|_| Exit::Done)
}

/// Prints lines.
fn print_lines<'l>(lines: impl Iterator<Item = &'l [u8]>) -> Result<Reader, Failure> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    write_out(&[&text])
}

/// Says one line on standard error; if nobody hears it, nobody can be told.
pub fn tell(line: &str) {
    tell_bytes(line.as_bytes());
    tell_bytes(b"\n");
}

/// Writes bytes to standard error as they are.
fn tell_bytes(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}

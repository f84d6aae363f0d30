//! Owns `bbd modify`: a change of a blob by a program, under the lock. What the program prints is what is written; if it fails, or
//! the lock is lost, nothing is.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::Outcome;
use super::client::{Ask, Client, Reply, percent_encode};
use super::commands::TTL;
use super::exit::{Exit, Failure};
use super::invocation::{Invocation, MAX_DATA_BYTES};
use super::stores::{self, BLOB, with_ttl};

/// How long one request waits in the daemon's line for the lock; in line it is first come, first served.
const WAIT_IN_LINE: Duration = Duration::from_secs(10);
/// The bounds of the time between two tries, whatever the daemon says.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a shell says of a command that is not there, of one that cannot be run, and adds to a signal's number.
const STATUS_NOT_FOUND: u8 = 127;
const STATUS_NOT_RUNNABLE: u8 = 126;
const STATUS_OF_SIGNAL: i32 = 128;

/// `bbd modify`
pub(super) fn modify(invocation: &Invocation) -> Outcome {
    let ttl = invocation.ttl(&TTL)?;
    let hold_ms = invocation.hold_ms()?;
    // One connection for all of it: the lock ends with it, so that it does not outlive us if we are killed.
    let mut client = invocation.connect()?;
    let locked = lock(invocation, &mut client, hold_ms)?;
    let lock_id = stores::lock_of(&locked)?;
    let request = |operation: &str| {
        let ask = Ask::post(format!("/api/v1/{operation}/{}", percent_encode(invocation.first())));
        invocation.as_customer(ask.header("BigBunny-Lock-ID", lock_id.clone()))
    };
    let output = match run(invocation, &locked.body) {
        Ok(output) => output,
        Err(failure) => {
            // Whatever comes of it, the lock ends with the connection.
            let _ = client.ask(&request("cancel-modify"));
            return Err(failure);
        }
    };
    let ask = with_ttl(request("complete-modify").header(BLOB.0, BLOB.1).body(&output), ttl);
    let reply = client.ask(&ask)?;
    if reply.code() == Some("LockMismatch") {
        let hint = "COMMAND took longer than the lock was held, or the primary failed meanwhile, so nothing was written; \
                    hold it longer with --hold MS, or try again";
        return Err(Failure::new(Exit::Conflict, format!("LockMismatch: {hint}")));
    }
    reply.success()?;
    Ok(Exit::Done)
}

/// Takes the lock, however long others hold it.
fn lock(invocation: &Invocation, client: &mut Client, hold_ms: Option<u64>) -> Result<Reply, Failure> {
    let mut ask = Ask::post(format!("/api/v1/begin-modify/{}", percent_encode(invocation.first())))
        .header("BigBunny-Lock-Scope", "connection")
        .header("BigBunny-Lock-Wait", WAIT_IN_LINE.as_millis().to_string());
    if let Some(hold_ms) = hold_ms {
        ask = ask.header("BigBunny-Lock-Hold", hold_ms.to_string());
    }
    ask.wait = WAIT_IN_LINE;
    let ask = invocation.as_customer(ask);
    loop {
        let reply = client.ask(&ask)?;
        if !matches!(reply.code(), Some("StoreLocked" | "LockStateUnknown")) {
            return reply.success();
        }
        std::thread::sleep(reply.retry_after().unwrap_or(SHORTEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}

/// Runs the command with the contents on its standard input, and returns what it printed.
fn run(invocation: &Invocation, contents: &[u8]) -> Result<Vec<u8>, Failure> {
    let (program, arguments) = match invocation.positionals.as_slice() {
        [_id, program, arguments @ ..] => (program, arguments),
        _ => return Err(Failure::usage("COMMAND is needed")),
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let cannot = |error: std::io::Error| {
        let not_found = error.kind() == std::io::ErrorKind::NotFound;
        let status = if not_found { STATUS_NOT_FOUND } else { STATUS_NOT_RUNNABLE };
        Failure::new(Exit::OfCommand(status), format!("{program:?} cannot be run: {error}; nothing was written"))
    };
    let mut child = command.spawn().map_err(cannot)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    let read = std::thread::scope(|scope| {
        // Fed from a thread of its own: a program that prints before it has read everything would block us both.
        scope.spawn(move || {
            // One that does not read its input is none of our business.
            let _ = stdin.map(|mut stdin| stdin.write_all(contents));
        });
        // Our end is closed when this returns, so that a program that prints for ever is stopped by its next line.
        stdout.map(|stdout| stdout.take(MAX_DATA_BYTES).read_to_end(&mut output)).transpose()
    });
    let status = child.wait().map_err(cannot)?;
    if output.len() as u64 == MAX_DATA_BYTES {
        return Err(Failure::new(
            Exit::Limit,
            format!("{program:?} printed more than any store may have; nothing was written"),
        ));
    }
    if !status.success() {
        let message = format!("{program:?} ended with {}; nothing was written", in_words(status));
        return Err(Failure::new(Exit::OfCommand(shell_status(status)), message));
    }
    read.map_err(cannot)?;
    Ok(output)
}

/// The status that a shell would report.
fn shell_status(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| STATUS_OF_SIGNAL + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(Exit::Other.status())
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

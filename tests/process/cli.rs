//! Every client command against a real daemon: what it prints where, and how it ends.

mod bench;
mod ends;
mod locks;
mod map;
mod operation;
mod stores;
mod usage;
mod watching;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::Daemon;

/// An address where nobody answers.
const NO_ADDR: &str = "127.0.0.1:1";

/// The binary, without any environment but a path to find programs on, and an address of no cluster map.
fn bbd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("BBD_ADDR", NO_ADDR).stdin(Stdio::null());
    command
}

/// How a command ended and what it said.
#[derive(Debug)]
struct Ran {
    status: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).expect("messages are text");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let status = output.status.code().expect("bbd is not ended by a signal");
        Self { status, stdout: output.stdout, stderr }
    }

    /// Standard output of a success that said nothing on standard error, without its newline.
    #[track_caller]
    fn line(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        let text = String::from_utf8(self.stdout).expect("text");
        text.strip_suffix('\n').expect("a whole line").to_owned()
    }

    /// Standard output of a success that said nothing on standard error, as it is.
    #[track_caller]
    fn bytes(self) -> Vec<u8> {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// Asserts a success that said nothing at all.
    #[track_caller]
    fn done(self) {
        assert_eq!(self.bytes(), b"");
    }

    /// Asserts a failure: its status, one line on standard error that contains `message`, and nothing on standard output.
    #[track_caller]
    fn fails(self, status: i32, message: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.stderr.contains(message), "{message:?} in {self:?}");
        assert!(self.stderr.starts_with("bbd: ") && self.stderr.lines().count() == 1, "{self:?}");
        assert_eq!(self.stdout, b"", "{self:?}");
    }
}

/// Runs a command against this socket, its standard input empty.
fn run_at<S: AsRef<OsStr>>(socket: &Path, args: &[S]) -> Ran {
    Ran::new(bbd().env("BBD_UDS", socket).args(args).output().expect("bbd runs"))
}

/// Runs a command against this daemon, its standard input empty.
fn run(daemon: &Daemon, args: &[&str]) -> Ran {
    run_at(daemon.socket(), args)
}

/// Runs a command with something on its standard input.
fn run_with(daemon: &Daemon, args: &[&str], input: &[u8]) -> Ran {
    let mut command = bbd();
    command.env("BBD_UDS", daemon.socket()).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("bbd runs");
    let mut stdin = child.stdin.take().unwrap();
    // A command that ends before it has read everything breaks the pipe, and says itself why.
    let _ = stdin.write_all(input);
    drop(stdin);
    Ran::new(child.wait_with_output().expect("bbd ends"))
}

/// A daemon that limits nobody's rate, so that tests may ask as fast as they like.
fn unlimited() -> Daemon {
    Daemon::start(&["--rate-limit=0"])
}

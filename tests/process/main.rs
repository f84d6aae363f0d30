//! Tests of the real binary: real sockets, real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cli;
mod http_profile;
mod manual;
mod support;

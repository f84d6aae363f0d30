//! Tests of the real binary: real sockets, real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cli;
mod event_loop;
mod examples;
mod http_profile;
mod lifecycle;
mod manual;
mod support;

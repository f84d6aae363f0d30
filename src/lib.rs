//! Big Bunny: a session store for edge hosts.
//!
//! The node ([`node`]) is a pure state machine and the event loop ([`server`]) a thin shell around it: the node knows no
//! socket, clock, file or thread. It is told what happened and what time it is, and says what to do.

pub mod api;
pub mod cli;
pub mod config;
pub mod http;
pub mod json;
pub mod log;
pub mod node;
pub mod server;
pub mod status;
pub mod store_id;
pub mod time;
pub mod wheel;

//! Tests of the real binary: real sockets, real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cli;
mod cluster_script;
mod completions;
mod event_loop;
mod examples;
mod full_server;
mod http_profile;
mod install;
mod lifecycle;
mod limits;
mod manual;
mod map;
mod map_attack;
mod map_backup;
mod map_faults;
mod map_scripts;
mod metrics;
mod monitoring;
mod peer_link;
mod sandbox;
mod service_manager;
mod support;

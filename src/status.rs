//! What the shell knows of the process, for `/status` and `/metrics`, and the JSON of `/status`: section 9 of the specification.
//!
//! Both pages are made of this and of what the node says of itself; nothing is counted here.

use std::collections::BTreeMap;
use std::time::Duration;

use nanoserde::SerJson;

use crate::log::Log;
use crate::metrics::limits::LimitsMet;
use crate::metrics::requests::Requests;
use crate::node::{NodeStatus, Role};
use crate::time::{Instant, WallTime};

/// What the shell knows of the daemon.
#[derive(Clone, Copy)]
pub struct ShellStatus<'s> {
    /// The program's version.
    pub version: &'s str,
    /// `--host-id`
    pub host_id: &'s str,
    /// `--site`
    pub site: &'s str,
    /// When it was started, by the wall clock of then.
    pub started_at: WallTime,
    /// Since the start.
    pub uptime: Duration,
    /// What the operating system says of the process.
    pub process: ProcessStatus,
    /// Requests and how long they took.
    pub requests: &'s Requests,
    /// Limits and how often they were met.
    pub limits: &'s LimitsMet,
    /// Events and how often they happened.
    pub log: &'s Log,
    /// Open connections of clients.
    pub connections: u64,
    /// How many there may be: `--max-connections`, or what the limit of open files leaves.
    pub connections_limit: u64,
    /// Connections that came in, refused ones included.
    pub connections_accepted_total: u64,
    /// Connections refused past the limit.
    pub connections_rejected_total: u64,
    /// `--memory-limit`, 0 = none.
    pub memory_limit_bytes: u64,
    /// Turns of the loop that took longer than they may.
    pub loop_stalls_total: u64,
    /// The longest turn of the loop so far, waiting for events not counted.
    pub longest_turn: Duration,
    /// What it is compared with when something happened.
    pub now: Instant,
    /// What the process has given up.
    pub sandbox: Sandbox,
    /// The process.
    pub pid: u32,
    /// The id of the key that new store ids are made with.
    pub store_key: &'s str,
    /// What was warned about at the start.
    pub warnings: &'s [String],
    /// Of the other node, if there is one.
    pub peer: Option<&'s PeerStatus>,
}

/// How much of a protection is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// All of it.
    On,
    /// What an older kernel has of it.
    Partial,
    /// Nothing: the kernel, or what runs the daemon, does not allow it.
    Unavailable,
    /// Nothing: `--no-sandbox`.
    Off,
}

impl Protection {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Partial => "partial",
            Self::Unavailable => "unavailable",
            Self::Off => "off",
        }
    }
}

/// What the process has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// System calls.
    pub seccomp: Protection,
    /// Files and ports.
    pub landlock: Protection,
}

/// What the operating system says of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessStatus {
    /// Its memory that is in RAM; nothing where the system does not say.
    pub resident_bytes: Option<u64>,
    /// Processor time used.
    pub cpu_time: Duration,
}

/// What the shell knows of the other node.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its host id.
    pub host_id: String,
    /// Which bbd it last said it is; empty if it never did.
    pub version: String,
    /// How far it is behind.
    pub lag: Duration,
    /// How often the connection to it has ended.
    pub failures_total: u64,
    /// Why it last did; empty if it never did.
    pub last_failure: String,
    /// How often it has come up.
    pub handshakes_total: u64,
    /// Who dialled (`outgoing`, `incoming`), why the connection ended or did not come up, and how often.
    pub connection_ends: Vec<(&'static str, &'static str, u64)>,
    /// Requests that were passed on to it.
    pub forwarded_total: u64,
    /// Requests of its clients that were answered here.
    pub served_forwards_total: u64,
}

/// A role as the specification writes it.
#[must_use]
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Joining => "JOINING",
        Role::Primary => "PRIMARY",
        Role::Secondary => "SECONDARY",
    }
}

/// How long something is ago, as `0.203s`.
fn since(now: Instant, then: Option<Instant>) -> String {
    then.map_or_else(|| "never".to_owned(), |then| format!("{:.3}s", now.since(then).as_secs_f64()))
}

/// The fields of `/status`, named as they are written.
#[derive(SerJson)]
struct Status {
    host_id: String,
    site: String,
    role: String,
    leader_epoch: u64,
    last_leader_seen: String,
    store_count: u64,
    memory_usage: u64,
    tombstone_count: u64,
    peers: BTreeMap<String, String>,
    queue_length: u64,
    registry_count: u64,
    registry_queue_length: u64,
    registry_states: BTreeMap<String, u64>,
    replication_fail_count: u64,
    last_replication_fail: String,
    version: String,
    peer_version: String,
    uptime_seconds: u64,
    customer_count: u64,
    connections: u64,
    replication_lag_ms: u64,
    lock_count: u64,
    seccomp: String,
    landlock: String,
    pid: u32,
    store_key: String,
    warnings: Vec<String>,
}

/// The JSON of `/status`. A primary has just heard of its leader, which it is itself.
#[must_use]
pub fn status_json(node: &NodeStatus, shell: &ShellStatus<'_>) -> String {
    let leader_heard_at = if node.role == Role::Primary { Some(shell.now) } else { node.peer_heard_at };
    let status = Status {
        host_id: shell.host_id.to_owned(),
        site: shell.site.to_owned(),
        role: role_name(node.role).to_owned(),
        leader_epoch: u64::from(node.epoch),
        last_leader_seen: since(shell.now, leader_heard_at),
        store_count: node.stores,
        memory_usage: node.memory_bytes,
        tombstone_count: node.tombstones,
        peers: shell.peer.iter().map(|peer| (peer.host_id.clone(), since(shell.now, node.peer_heard_at))).collect(),
        queue_length: node.unacknowledged,
        registry_count: node.names,
        registry_queue_length: 0,
        registry_states: BTreeMap::new(),
        replication_fail_count: shell.peer.map_or(0, |peer| peer.failures_total),
        last_replication_fail: shell.peer.map_or_else(String::new, |peer| peer.last_failure.clone()),
        version: shell.version.to_owned(),
        peer_version: shell.peer.map_or_else(String::new, |peer| peer.version.clone()),
        uptime_seconds: shell.uptime.as_secs(),
        customer_count: node.customers,
        connections: shell.connections,
        replication_lag_ms: shell.peer.map_or(0, |peer| peer.lag.as_millis() as u64),
        lock_count: node.locks,
        seccomp: shell.sandbox.seccomp.name().to_owned(),
        landlock: shell.sandbox.landlock.name().to_owned(),
        pid: shell.pid,
        store_key: shell.store_key.to_owned(),
        warnings: shell.warnings.to_vec(),
    };
    let mut json = status.serialize_json();
    json.push('\n');
    json
}

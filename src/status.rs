//! What `/status` and `/metrics` say: section 9 of the specification.
//!
//! Both are made of what the node says of itself and what the shell knows; nothing is counted here.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use nanoserde::SerJson;

use crate::node::{NodeStatus, Role};
use crate::time::Instant;

/// What the shell knows of the process.
#[derive(Clone, Copy, Debug)]
pub struct ShellStatus<'s> {
    /// The program's version.
    pub version: &'s str,
    /// `--host-id`
    pub host_id: &'s str,
    /// `--site`
    pub site: &'s str,
    /// Since the start.
    pub uptime: Duration,
    /// Open connections of clients.
    pub connections: u64,
    /// Connections refused past `--max-connections`.
    pub connections_rejected_total: u64,
    /// `--memory-limit`, 0 = none.
    pub memory_limit_bytes: u64,
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

/// What the shell knows of the other node.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its host id.
    pub host_id: String,
    /// How far it is behind.
    pub lag: Duration,
    /// How often the connection to it has ended.
    pub failures_total: u64,
    /// Why it last did; empty if it never did.
    pub last_failure: String,
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

/// The kinds of metrics that there are.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// The text of `/metrics` (Prometheus text exposition format 0.0.4).
#[must_use]
pub fn metrics_text(node: &NodeStatus, shell: &ShellStatus<'_>) -> String {
    let mut page = String::with_capacity(4096);
    let mut add = |name: &str, kind: Kind, help: &str, labels: &str, value: &dyn Display| {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}");
    };
    let info = format!("{{site=\"{}\",host_id=\"{}\",version=\"{}\"}}", shell.site, shell.host_id, shell.version);
    add("bbd_node_info", Kind::Gauge, "Which node this is; always 1.", &info, &1);
    let role = format!("{{role=\"{}\"}}", role_name(node.role));
    add("bbd_role", Kind::Gauge, "1 for the role that the node has.", &role, &1);
    add("bbd_leader_epoch", Kind::Gauge, "The epoch of the primary.", "", &node.epoch);
    add("bbd_uptime_seconds", Kind::Gauge, "Seconds since the start.", "", &shell.uptime.as_secs());
    add("bbd_stores", Kind::Gauge, "Stores, expired ones not yet removed included.", "", &node.stores);
    add("bbd_names", Kind::Gauge, "Names in use.", "", &node.names);
    add("bbd_customers", Kind::Gauge, "Customers that have anything.", "", &node.customers);
    add("bbd_tombstones", Kind::Gauge, "Deleted stores that are remembered.", "", &node.tombstones);
    add("bbd_locks", Kind::Gauge, "Locks held.", "", &node.locks);
    add("bbd_lock_waiters", Kind::Gauge, "Requests that wait for a lock.", "", &node.waiters);
    add("bbd_memory_used_bytes", Kind::Gauge, "Bytes of all stores, as limits count them.", "", &node.memory_bytes);
    add("bbd_memory_limit_bytes", Kind::Gauge, "The memory limit; 0 is none.", "", &shell.memory_limit_bytes);
    add("bbd_connections", Kind::Gauge, "Open connections of clients.", "", &shell.connections);
    add(
        "bbd_connections_rejected_total",
        Kind::Counter,
        "Connections refused because there were too many.",
        "",
        &shell.connections_rejected_total,
    );
    add("bbd_expired_total", Kind::Counter, "Stores removed at their expiry.", "", &node.expired_total);
    add(
        "bbd_lock_expirations_total",
        Kind::Counter,
        "Locks that ran into their time-out.",
        "",
        &node.lock_expirations_total,
    );
    add("bbd_rate_limited_total", Kind::Counter, "Requests refused by the rate limit.", "", &node.rate_limited_total);
    add(
        "bbd_capacity_refused_total",
        Kind::Counter,
        "Requests refused for want of memory or quota.",
        "",
        &node.capacity_refused_total,
    );
    add(
        "bbd_loop_turn_seconds_max",
        Kind::Gauge,
        "The longest turn of the event loop since the start.",
        "",
        &shell.longest_turn.as_secs_f64(),
    );
    let sandbox = shell.sandbox;
    let protections = format!("{{landlock=\"{}\",seccomp=\"{}\"}}", sandbox.landlock.name(), sandbox.seccomp.name());
    add("bbd_sandbox_info", Kind::Gauge, "How far the process has confined itself; always 1.", &protections, &1);
    let Some(peer) = shell.peer else { return page };
    let id = format!("{{peer=\"{}\"}}", peer.host_id);
    add(
        "bbd_peer_up",
        Kind::Gauge,
        "Whether there is a connection to the other node.",
        &id,
        &u8::from(node.is_peer_up),
    );
    add(
        "bbd_peer_in_step",
        Kind::Gauge,
        "Whether the other node follows this one and has all that it acknowledged.",
        &id,
        &u8::from(node.is_peer_in_step),
    );
    if let Some(heard_at) = node.peer_heard_at {
        let seconds = shell.now.since(heard_at).as_secs_f64();
        add("bbd_peer_silence_seconds", Kind::Gauge, "Since the other node was last heard.", &id, &seconds);
    }
    add(
        "bbd_peer_failures_total",
        Kind::Counter,
        "Connections to the other node that have ended.",
        &id,
        &peer.failures_total,
    );
    add(
        "bbd_replication_lag_seconds",
        Kind::Gauge,
        "How long a change takes to be acknowledged by the other node.",
        "",
        &peer.lag.as_secs_f64(),
    );
    add(
        "bbd_replication_queue_changes",
        Kind::Gauge,
        "Changes that the other node has not acknowledged.",
        "",
        &node.unacknowledged,
    );
    add("bbd_replication_queue_bytes", Kind::Gauge, "The same in bytes.", "", &node.backlog_bytes);
    add("bbd_changes_total", Kind::Counter, "Changes made or applied.", "", &node.changes);
    add(
        "bbd_lost_changes_total",
        Kind::Counter,
        "Changes of this node that were dropped because the other had become primary.",
        "",
        &node.lost_changes_total,
    );
    page
}

//! What `/status` and `/metrics` say: section 9 of the specification.
//!
//! Both are made of what the node says of itself and what the shell knows; nothing is counted here.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use nanoserde::SerJson;

use crate::node::NodeStatus;

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
}

/// The JSON of `/status`. A node without a peer is PRIMARY of the first epoch, has just heard of its leader, which it is itself,
/// and replicates nothing.
#[must_use]
pub fn status_json(node: &NodeStatus, shell: &ShellStatus<'_>) -> String {
    let status = Status {
        host_id: shell.host_id.to_owned(),
        site: shell.site.to_owned(),
        role: "PRIMARY".to_owned(),
        leader_epoch: 1,
        last_leader_seen: "0.000s".to_owned(),
        store_count: node.stores,
        memory_usage: node.memory_bytes,
        tombstone_count: node.tombstones,
        peers: BTreeMap::new(),
        queue_length: 0,
        registry_count: node.names,
        registry_queue_length: 0,
        registry_states: BTreeMap::new(),
        replication_fail_count: 0,
        last_replication_fail: String::new(),
        version: shell.version.to_owned(),
        uptime_seconds: shell.uptime.as_secs(),
        customer_count: node.customers,
        connections: shell.connections,
        replication_lag_ms: 0,
        lock_count: node.locks,
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
    add("bbd_role", Kind::Gauge, "1 for the role that the node has.", "{role=\"PRIMARY\"}", &1);
    add("bbd_leader_epoch", Kind::Gauge, "The epoch of the primary.", "", &1);
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
    page
}

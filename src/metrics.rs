//! `/metrics`: the table of all metrics, and the page in the text exposition format of Prometheus (version 0.0.4).
//!
//! The table is the one place that says which metrics there are; the manual bbd-api(7), the alerts and the dashboard are checked
//! against it. What is shown comes from the node, the shell and the books of [`requests`] and [`limits`]; nothing is counted here.
//! The page grows with the endpoints that are used, never with stores or customers.

pub mod limits;
pub mod requests;

use std::fmt::{Display, Write as _};

use self::requests::LATENCY_BOUNDS_NANOS;
use crate::node::{NodeStatus, Role};
use crate::status::{PeerStatus, ShellStatus, role_name};

/// The kinds of metrics that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Starts at 0 and only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets, each with all below it.
    Histogram,
}

impl Kind {
    /// As `# TYPE` and the manual say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each is")]
pub enum Metric {
    NodeInfo,
    Role,
    LeaderEpoch,
    StartTime,
    Uptime,
    ResidentMemory,
    CpuSeconds,
    SandboxInfo,
    Requests,
    RequestDuration,
    ForwardedRequests,
    ServedForwards,
    LimitsReached,
    LogEvents,
    Stores,
    Names,
    Customers,
    Tombstones,
    Locks,
    LockWaiters,
    Expired,
    LockExpirations,
    MemoryUsed,
    MemoryLimit,
    Connections,
    ConnectionsLimit,
    ConnectionsAccepted,
    ConnectionsRejected,
    LoopStalls,
    LoopTurnMax,
    PeerInfo,
    PeerUp,
    PeerInStep,
    PeerSilence,
    PeerHandshakes,
    PeerFailures,
    PeerConnectionEnds,
    ReplicationLag,
    ReplicationQueueChanges,
    ReplicationQueueBytes,
    ReplicationWaits,
    Changes,
    LostChanges,
}

/// One line of the table.
pub struct MetricRow {
    /// Which.
    pub metric: Metric,
    /// As it is written.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels; a histogram has `le` beside.
    pub labels: &'static [&'static str],
    /// What it says, as a sentence.
    pub help: &'static str,
}

const fn row(
    metric: Metric,
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricRow {
    MetricRow { metric, name, kind, labels, help }
}

/// The table, in the order of the page.
#[rustfmt::skip]
pub static METRICS: [MetricRow; 43] = [
    row(Metric::NodeInfo, Kind::Gauge, "bbd_node_info", &["site", "host_id", "version"], "Which node this is; always 1."),
    row(Metric::Role, Kind::Gauge, "bbd_role", &["role"], "1 for the role that the node has, 0 for the others."),
    row(Metric::LeaderEpoch, Kind::Gauge, "bbd_leader_epoch", &[], "The epoch of the primary."),
    row(Metric::StartTime, Kind::Gauge, "bbd_start_time_seconds", &[], "When the daemon was started, in seconds since 1970."),
    row(Metric::Uptime, Kind::Gauge, "bbd_uptime_seconds", &[], "Seconds since the start."),
    row(Metric::ResidentMemory, Kind::Gauge, "bbd_resident_memory_bytes", &[], "Memory of the process that is in RAM."),
    row(Metric::CpuSeconds, Kind::Counter, "bbd_cpu_seconds_total", &[], "Processor time that the process has used."),
    row(Metric::SandboxInfo, Kind::Gauge, "bbd_sandbox_info", &["landlock", "seccomp"], "How far the process has confined itself; always 1."),
    row(Metric::Requests, Kind::Counter, "bbd_requests_total", &["operation", "result"], "Requests answered; the result is ok, an error code, or a status that has none."),
    row(Metric::RequestDuration, Kind::Histogram, "bbd_request_duration_seconds", &["operation"], "From when the loop learnt of a request to when its answer had been sent."),
    row(Metric::ForwardedRequests, Kind::Counter, "bbd_forwarded_requests_total", &[], "Requests of this node's clients that were passed on to the other node."),
    row(Metric::ServedForwards, Kind::Counter, "bbd_served_forwards_total", &[], "Requests of the other node's clients that were answered here."),
    row(Metric::LimitsReached, Kind::Counter, "bbd_limits_reached_total", &["limit"], "Requests or connections that were refused or ended by a limit."),
    row(Metric::LogEvents, Kind::Counter, "bbd_log_events_total", &["event"], "Events of the log, whether written or not; the manual of the daemon lists them."),
    row(Metric::Stores, Kind::Gauge, "bbd_stores", &[], "Stores, expired ones not yet removed included."),
    row(Metric::Names, Kind::Gauge, "bbd_names", &[], "Names in use."),
    row(Metric::Customers, Kind::Gauge, "bbd_customers", &[], "Customers that have anything."),
    row(Metric::Tombstones, Kind::Gauge, "bbd_tombstones", &[], "Deleted stores that are remembered."),
    row(Metric::Locks, Kind::Gauge, "bbd_locks", &[], "Locks held."),
    row(Metric::LockWaiters, Kind::Gauge, "bbd_lock_waiters", &[], "Requests that wait for a lock."),
    row(Metric::Expired, Kind::Counter, "bbd_expired_total", &[], "Stores removed at their expiry."),
    row(Metric::LockExpirations, Kind::Counter, "bbd_lock_expirations_total", &[], "Locks that ran into their time-out."),
    row(Metric::MemoryUsed, Kind::Gauge, "bbd_memory_used_bytes", &[], "Bytes of all stores, as limits count them."),
    row(Metric::MemoryLimit, Kind::Gauge, "bbd_memory_limit_bytes", &[], "The memory limit; 0 is none."),
    row(Metric::Connections, Kind::Gauge, "bbd_connections", &[], "Open connections of clients."),
    row(Metric::ConnectionsLimit, Kind::Gauge, "bbd_connections_limit", &[], "How many there may be at a time."),
    row(Metric::ConnectionsAccepted, Kind::Counter, "bbd_connections_accepted_total", &[], "Connections that came in, refused ones included."),
    row(Metric::ConnectionsRejected, Kind::Counter, "bbd_connections_rejected_total", &[], "Connections refused because there were too many."),
    row(Metric::LoopStalls, Kind::Counter, "bbd_loop_stalls_total", &[], "Turns of the event loop that took 5 ms or longer."),
    row(Metric::LoopTurnMax, Kind::Gauge, "bbd_loop_turn_seconds_max", &[], "The longest turn of the event loop since the start."),
    row(Metric::PeerInfo, Kind::Gauge, "bbd_peer_info", &["peer", "version"], "Which bbd the other node says it is; always 1."),
    row(Metric::PeerUp, Kind::Gauge, "bbd_peer_up", &["peer"], "Whether there is a connection to the other node."),
    row(Metric::PeerInStep, Kind::Gauge, "bbd_peer_in_step", &["peer"], "Whether the other node follows this one and has all that it acknowledged."),
    row(Metric::PeerSilence, Kind::Gauge, "bbd_peer_silence_seconds", &["peer"], "Since the other node was last heard."),
    row(Metric::PeerHandshakes, Kind::Counter, "bbd_peer_handshakes_total", &["peer"], "Connections to the other node that have come up."),
    row(Metric::PeerFailures, Kind::Counter, "bbd_peer_failures_total", &["peer"], "Connections to the other node that have ended."),
    row(Metric::PeerConnectionEnds, Kind::Counter, "bbd_peer_connection_ends_total", &["direction", "reason"], "Connections between the nodes that have ended or did not come up, by who dialled and why."),
    row(Metric::ReplicationLag, Kind::Gauge, "bbd_replication_lag_seconds", &[], "How long a change takes to be acknowledged by the other node."),
    row(Metric::ReplicationQueueChanges, Kind::Gauge, "bbd_replication_queue_changes", &[], "Changes that the other node has not acknowledged."),
    row(Metric::ReplicationQueueBytes, Kind::Gauge, "bbd_replication_queue_bytes", &[], "The same in bytes."),
    row(Metric::ReplicationWaits, Kind::Counter, "bbd_replication_waits_total", &[], "Times that clients waited for the other node to come on."),
    row(Metric::Changes, Kind::Counter, "bbd_changes_total", &[], "Changes made or applied."),
    row(Metric::LostChanges, Kind::Counter, "bbd_lost_changes_total", &[], "Changes of this node that were dropped because the other had become primary."),
];

/// The page as it grows, and the metric that it has got to.
struct PageWriter {
    page: String,
    row: &'static MetricRow,
    is_begun: bool,
}

impl PageWriter {
    /// A sample of the metric. Its help and type are written before the first.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample_named("", labels, value);
    }

    fn sample_named(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let MetricRow { name, kind, help, .. } = self.row;
        // Writing to a String cannot fail.
        if !self.is_begun {
            let _ = writeln!(self.page, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
            self.is_begun = true;
        }
        let _ = write!(self.page, "{name}{suffix}");
        for (index, (label, value)) in labels.iter().enumerate() {
            // What stands in labels is our own or of a restricted alphabet, so that nothing is to be escaped.
            let _ = write!(self.page, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.page, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// The text of `/metrics`.
#[must_use]
pub fn metrics_text(node: &NodeStatus, shell: &ShellStatus<'_>) -> String {
    let mut writer = PageWriter { page: String::with_capacity(16 * 1024), row: &METRICS[0], is_begun: false };
    for row in &METRICS {
        (writer.row, writer.is_begun) = (row, false);
        write_metric(&mut writer, row.metric, node, shell);
    }
    writer.page
}

fn write_metric(page: &mut PageWriter, metric: Metric, node: &NodeStatus, shell: &ShellStatus<'_>) {
    match metric {
        Metric::NodeInfo => {
            let labels = [("site", shell.site), ("host_id", shell.host_id), ("version", shell.version)];
            page.sample(&labels, 1);
        }
        Metric::Role => {
            for role in [Role::Primary, Role::Secondary, Role::Joining] {
                page.sample(&[("role", role_name(role))], u8::from(role == node.role));
            }
        }
        Metric::LeaderEpoch => page.sample(&[], node.epoch),
        Metric::StartTime => page.sample(&[], seconds(shell.started_at.0, 1000)),
        Metric::Uptime => page.sample(&[], shell.uptime.as_secs()),
        Metric::ResidentMemory => {
            if let Some(bytes) = shell.process.resident_bytes {
                page.sample(&[], bytes);
            }
        }
        Metric::CpuSeconds => page.sample(&[], shell.process.cpu_time.as_secs_f64()),
        Metric::SandboxInfo => {
            let (landlock, seccomp) = (shell.sandbox.landlock.name(), shell.sandbox.seccomp.name());
            page.sample(&[("landlock", landlock), ("seccomp", seccomp)], 1);
        }
        Metric::Requests => {
            for (operation, result, count) in shell.requests.by_result() {
                page.sample(&[("operation", operation), ("result", &result)], count);
            }
        }
        Metric::RequestDuration => write_latencies(page, shell),
        Metric::ForwardedRequests => with_peer(shell, |peer| page.sample(&[], peer.forwarded_total)),
        Metric::ServedForwards => with_peer(shell, |peer| page.sample(&[], peer.served_forwards_total)),
        Metric::LimitsReached => {
            for (limit, count) in shell.limits.totals() {
                page.sample(&[("limit", limit)], count);
            }
        }
        Metric::LogEvents => {
            for (event, count) in shell.log.counts() {
                page.sample(&[("event", event)], count);
            }
        }
        Metric::Stores => page.sample(&[], node.stores),
        Metric::Names => page.sample(&[], node.names),
        Metric::Customers => page.sample(&[], node.customers),
        Metric::Tombstones => page.sample(&[], node.tombstones),
        Metric::Locks => page.sample(&[], node.locks),
        Metric::LockWaiters => page.sample(&[], node.waiters),
        Metric::Expired => page.sample(&[], node.expired_total),
        Metric::LockExpirations => page.sample(&[], node.lock_expirations_total),
        Metric::MemoryUsed => page.sample(&[], node.memory_bytes),
        Metric::MemoryLimit => page.sample(&[], shell.memory_limit_bytes),
        Metric::Connections => page.sample(&[], shell.connections),
        Metric::ConnectionsLimit => page.sample(&[], shell.connections_limit),
        Metric::ConnectionsAccepted => page.sample(&[], shell.connections_accepted_total),
        Metric::ConnectionsRejected => page.sample(&[], shell.connections_rejected_total),
        Metric::LoopStalls => page.sample(&[], shell.loop_stalls_total),
        Metric::LoopTurnMax => page.sample(&[], shell.longest_turn.as_secs_f64()),
        Metric::PeerInfo => with_peer(shell, |peer| {
            page.sample(&[("peer", &peer.host_id), ("version", &peer.version)], 1);
        }),
        Metric::PeerUp => {
            with_peer(shell, |peer| page.sample(&[("peer", &peer.host_id)], u8::from(node.is_peer_up)));
        }
        Metric::PeerInStep => {
            with_peer(shell, |peer| page.sample(&[("peer", &peer.host_id)], u8::from(node.is_peer_in_step)));
        }
        Metric::PeerSilence => with_peer(shell, |peer| {
            if let Some(heard_at) = node.peer_heard_at {
                page.sample(&[("peer", &peer.host_id)], shell.now.since(heard_at).as_secs_f64());
            }
        }),
        Metric::PeerHandshakes => {
            with_peer(shell, |peer| page.sample(&[("peer", &peer.host_id)], peer.handshakes_total));
        }
        Metric::PeerFailures => {
            with_peer(shell, |peer| page.sample(&[("peer", &peer.host_id)], peer.failures_total));
        }
        Metric::PeerConnectionEnds => with_peer(shell, |peer| {
            for (direction, reason, count) in &peer.connection_ends {
                page.sample(&[("direction", direction), ("reason", reason)], count);
            }
        }),
        Metric::ReplicationLag => with_peer(shell, |peer| page.sample(&[], peer.lag.as_secs_f64())),
        Metric::ReplicationQueueChanges => with_peer(shell, |_| page.sample(&[], node.unacknowledged)),
        Metric::ReplicationQueueBytes => with_peer(shell, |_| page.sample(&[], node.backlog_bytes)),
        Metric::ReplicationWaits => with_peer(shell, |_| page.sample(&[], node.pace_waits_total)),
        Metric::Changes => with_peer(shell, |_| page.sample(&[], node.changes)),
        Metric::LostChanges => with_peer(shell, |_| page.sample(&[], node.lost_changes_total)),
    }
}

fn with_peer(shell: &ShellStatus<'_>, write: impl FnOnce(&PeerStatus)) {
    if let Some(peer) = shell.peer {
        write(peer);
    }
}

fn write_latencies(page: &mut PageWriter, shell: &ShellStatus<'_>) {
    for (operation, latencies) in shell.requests.latencies() {
        let mut count = 0;
        for (bucket, bound) in latencies.buckets.iter().zip(LATENCY_BOUNDS_NANOS) {
            count += bucket;
            let bound = seconds(bound, 1_000_000_000).to_string();
            page.sample_named("_bucket", &[("operation", operation), ("le", &bound)], count);
        }
        count += latencies.buckets[LATENCY_BOUNDS_NANOS.len()];
        page.sample_named("_bucket", &[("operation", operation), ("le", "+Inf")], count);
        page.sample_named("_sum", &[("operation", operation)], seconds(latencies.sum_nanos, 1_000_000_000));
        page.sample_named("_count", &[("operation", operation)], count);
    }
}

/// So many units in seconds, of which `per_second` make one. Exact enough to be shown: a float has 15 digits.
fn seconds(units: u64, per_second: u32) -> f64 {
    units as f64 / f64::from(per_second)
}

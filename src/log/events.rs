//! The one table of what is logged: the name of each event, how much it matters, its fields, and what it means. The manual is checked
//! against it, and `/metrics` counts by it. Where an event happens is not its business.

use super::Level;

/// Something that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each is")]
pub enum LogEvent {
    Started,
    Configuration,
    TooFewDescriptors,
    Stopping,
    Stopped,
    StoreKeysReloaded,
    StoreKeyCurrent,
    InternalTokenReloaded,
    ClientTokenReloaded,
    LimitsReloaded,
    ReloadFailed,
    PromotionAskedFor,
    LockReleased,
    RoleChanged,
    Promoted,
    SteppedDown,
    ChangesLost,
    HandingOver,
    HandedOver,
    HandoverAborted,
    PeerLinkUp,
    PeerLinkDown,
    PeerDiffers,
    PeerUnreachable,
    PeerRefused,
    PeerConnectionEnded,
    PeerAcceptFailed,
    PeerRestarted,
    PeerInStep,
    PeerOutOfStep,
    SnapshotBegun,
    BacklogOverflow,
    AnswersWithheld,
    LoopStalled,
    AcceptFailed,
    PollFailed,
    RateLimitReached,
    MemoryLimitReached,
    CustomerMemoryQuotaReached,
    TombstoneLimitReached,
    LockWaitersLimitReached,
    AnswerSizeLimitReached,
    BodySizeLimitReached,
    HeadSizeLimitReached,
    ReadTimeLimitReached,
    WriteTimeLimitReached,
    TooManyConnections,
    NoDescriptorsLeft,
    MapStarted,
    MapInitialised,
    MapInitialisedByWrite,
    MapJoined,
    MapLeader,
    MapLeadsNoMore,
    MapLeaderChanged,
    MapMembershipChanged,
    MapRemoved,
    MapSnapshotSaved,
    MapSnapshotInstalled,
    MapBadSnapshot,
    MapOtherCluster,
    MapDiskIsLow,
    MapDiskHasRoom,
    MapSnapshotWaits,
    MapSnapshotGoesOn,
    MapLinkUp,
    MapLinkDown,
    MapLinkFailed,
    MapNodeRefused,
    LogLinesLost,
}

/// One line of the table.
pub struct EventRow {
    /// Which.
    pub event: LogEvent,
    /// As it is written.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// The fields that a line may have.
    pub fields: &'static [&'static str],
    /// What it says, as a sentence.
    pub doc: &'static str,
}

const fn row(
    event: LogEvent,
    level: Level,
    name: &'static str,
    fields: &'static [&'static str],
    doc: &'static str,
) -> EventRow {
    EventRow { event, name, level, fields, doc }
}

/// The table, in the order of [`LogEvent`].
#[rustfmt::skip]
pub static EVENTS: [EventRow; 70] = [
    row(LogEvent::Started, Level::Info, "started", &["version", "host_id", "site", "uds", "role", "pid", "seccomp", "landlock"],
        "The daemon serves from here on."),
    row(LogEvent::Configuration, Level::Warn, "configuration", &["warning"],
        "A setting that deserves a second thought."),
    row(LogEvent::TooFewDescriptors, Level::Warn, "too_few_descriptors", &["max_connections", "possible", "help"],
        "The limit of open files leaves room for fewer connections than were asked for."),
    row(LogEvent::Stopping, Level::Info, "stopping", &["connections"],
        "A clean stop begins."),
    row(LogEvent::Stopped, Level::Info, "stopped", &["unanswered"],
        "The daemon has stopped; so many connections were still open."),
    row(LogEvent::StoreKeysReloaded, Level::Info, "store_keys_reloaded", &["current", "added", "removed", "next"],
        "SIGHUP: the store keys were read again."),
    row(LogEvent::StoreKeyCurrent, Level::Info, "store_key_current", &["current"],
        "The key that was next makes the store ids from here on."),
    row(LogEvent::InternalTokenReloaded, Level::Info, "internal_token_reloaded", &[],
        "SIGHUP: the internal token is another one."),
    row(LogEvent::ClientTokenReloaded, Level::Info, "client_token_reloaded", &[],
        "Users of the cluster map send another token from here on."),
    row(LogEvent::LimitsReloaded, Level::Info, "limits_reloaded", &["memory_limit", "customer_memory_quota", "rate_limit", "burst_size", "tombstone_customer_limit", "tombstone_global_limit"],
        "SIGHUP: a limit is another one; these are in effect."),
    row(LogEvent::ReloadFailed, Level::Error, "reload_failed", &["error"],
        "SIGHUP: a file could not be used, and nothing has changed."),
    row(LogEvent::PromotionAskedFor, Level::Info, "promotion_asked_for", &["force"],
        "An operator wants this node to be PRIMARY."),
    row(LogEvent::LockReleased, Level::Info, "lock_released", &["by", "store"],
        "An operator has dropped a lock; of the store id only the beginning is told."),
    row(LogEvent::RoleChanged, Level::Info, "role_changed", &["role"],
        "This node is something else now."),
    row(LogEvent::Promoted, Level::Info, "promoted", &["epoch", "why"],
        "This node has become PRIMARY."),
    row(LogEvent::SteppedDown, Level::Warn, "stepped_down", &["old_epoch", "epoch"],
        "This node was PRIMARY and has heard of a newer one."),
    row(LogEvent::ChangesLost, Level::Error, "changes_lost", &["count"],
        "Changes that this node had made alone were dropped."),
    row(LogEvent::HandingOver, Level::Info, "handing_over", &[],
        "Before a stop the other node is to take over."),
    row(LogEvent::HandedOver, Level::Info, "handed_over", &["epoch"],
        "The other node has taken over without loss."),
    row(LogEvent::HandoverAborted, Level::Warn, "handover_aborted", &[],
        "The other node did not take over in time, and this one goes on."),
    row(LogEvent::PeerLinkUp, Level::Info, "peer_link_up", &["peer", "address"],
        "The connection to the other node is up."),
    row(LogEvent::PeerLinkDown, Level::Warn, "peer_link_down", &["peer", "why", "help"],
        "The connection to the other node has ended."),
    row(LogEvent::PeerDiffers, Level::Warn, "peer_differs", &["flag", "ours", "its", "help"],
        "The other node goes by another value of a flag than this one."),
    row(LogEvent::PeerUnreachable, Level::Warn, "peer_unreachable", &["peer", "why", "help"],
        "The other node cannot be reached; said again when the reason changes."),
    row(LogEvent::PeerRefused, Level::Warn, "peer_refused", &["peer", "address", "why", "help"],
        "Somebody who is not the other node, or does what no node does, was refused."),
    row(LogEvent::PeerConnectionEnded, Level::Debug, "peer_connection_ended", &["address", "why", "help"],
        "An incoming connection has ended that is worth no more."),
    row(LogEvent::PeerAcceptFailed, Level::Error, "peer_accept_failed", &["error"],
        "The system refused a connection of the other node."),
    row(LogEvent::PeerRestarted, Level::Warn, "peer_restarted", &[],
        "The process of the other node is another one than before."),
    row(LogEvent::PeerInStep, Level::Info, "peer_in_step", &[],
        "The other node has everything."),
    row(LogEvent::PeerOutOfStep, Level::Warn, "peer_out_of_step", &[],
        "The other node does not follow any more."),
    row(LogEvent::SnapshotBegun, Level::Info, "snapshot_begun", &[],
        "The other node gets a copy of everything."),
    row(LogEvent::BacklogOverflow, Level::Warn, "backlog_overflow", &["help"],
        "The other node has missed more changes than are kept."),
    row(LogEvent::AnswersWithheld, Level::Warn, "answers_withheld", &["why"],
        "Answers to changes were not sent, and their connection closed, since the lease is over."),
    row(LogEvent::LoopStalled, Level::Warn, "loop_stalled", &["ms"],
        "A turn of the event loop took so long: the host has no time for the daemon, or the daemon has a fault."),
    row(LogEvent::AcceptFailed, Level::Error, "accept_failed", &["error"],
        "The system refused a connection of a client."),
    row(LogEvent::PollFailed, Level::Error, "poll_failed", &["error"],
        "A connection could not be watched and was closed."),
    row(LogEvent::RateLimitReached, Level::Warn, "rate_limit_reached", &["refused"],
        "So many requests were refused by the rate limit."),
    row(LogEvent::MemoryLimitReached, Level::Warn, "memory_limit_reached", &["refused"],
        "So many requests were refused since the node is full."),
    row(LogEvent::CustomerMemoryQuotaReached, Level::Warn, "customer_memory_quota_reached", &["refused"],
        "So many requests were refused since the customer's share is used up."),
    row(LogEvent::TombstoneLimitReached, Level::Warn, "tombstone_limit_reached", &["refused"],
        "So many deletions were refused since too many are remembered."),
    row(LogEvent::LockWaitersLimitReached, Level::Warn, "lock_waiters_limit_reached", &["refused"],
        "So many requests would have waited behind too many others."),
    row(LogEvent::AnswerSizeLimitReached, Level::Warn, "answer_size_limit_reached", &["refused"],
        "So many requests asked for more than fits into an answer."),
    row(LogEvent::BodySizeLimitReached, Level::Warn, "body_size_limit_reached", &["refused"],
        "So many requests had too long a body."),
    row(LogEvent::HeadSizeLimitReached, Level::Warn, "head_size_limit_reached", &["refused"],
        "So many requests had too long a head."),
    row(LogEvent::ReadTimeLimitReached, Level::Warn, "read_time_limit_reached", &["refused"],
        "So many requests did not come whole in time."),
    row(LogEvent::WriteTimeLimitReached, Level::Warn, "write_time_limit_reached", &["refused"],
        "So many clients did not take their answers in time."),
    row(LogEvent::TooManyConnections, Level::Warn, "too_many_connections", &["refused"],
        "So many connections were refused."),
    row(LogEvent::NoDescriptorsLeft, Level::Warn, "no_descriptors_left", &["refused"],
        "So many connections could not be accepted for want of descriptors."),
    row(LogEvent::MapStarted, Level::Info, "map_started", &["version", "id", "bind_addr", "data_dir", "pid", "landlock", "seccomp"],
        "The cluster map is served from here on."),
    row(LogEvent::MapInitialised, Level::Info, "map_initialised", &["cluster"],
        "This node was made a cluster of its own."),
    row(LogEvent::MapInitialisedByWrite, Level::Warn, "map_initialised_by_write", &["cluster", "help"],
        "This node belonged to no cluster, and its first write has made it one of its own."),
    row(LogEvent::MapJoined, Level::Info, "map_joined", &["cluster"],
        "A leader has taken this node into its cluster."),
    row(LogEvent::MapLeader, Level::Info, "map_leader", &["term"],
        "This node leads the cluster map."),
    row(LogEvent::MapLeadsNoMore, Level::Warn, "map_leads_no_more", &["term"],
        "This node leads the cluster map no more."),
    row(LogEvent::MapLeaderChanged, Level::Info, "map_leader_changed", &["leader"],
        "Another node leads the cluster map, or none is known."),
    row(LogEvent::MapMembershipChanged, Level::Info, "map_membership_changed", &["voters", "learners"],
        "The cluster has so many voters and learners now."),
    row(LogEvent::MapRemoved, Level::Warn, "map_removed", &["help"],
        "This node is no member of its cluster any more."),
    row(LogEvent::MapSnapshotSaved, Level::Info, "map_snapshot_saved", &["index"],
        "The map is on disk as of this index, and the log before it is dropped."),
    row(LogEvent::MapSnapshotInstalled, Level::Info, "map_snapshot_installed", &["index", "bytes"],
        "The leader's map has taken the place of this node's."),
    row(LogEvent::MapBadSnapshot, Level::Error, "map_bad_snapshot", &["help"],
        "A snapshot from the leader was damaged, and is asked for again."),
    row(LogEvent::MapOtherCluster, Level::Warn, "map_other_cluster", &["node", "help"],
        "A node of another cluster speaks to this one, and is not heard."),
    row(LogEvent::MapDiskIsLow, Level::Error, "map_disk_is_low", &["help"],
        "The disk is nearly full, and no writes are taken."),
    row(LogEvent::MapDiskHasRoom, Level::Info, "map_disk_has_room", &[],
        "The disk has room again."),
    row(LogEvent::MapSnapshotWaits, Level::Warn, "map_snapshot_waits", &["help"],
        "A snapshot is not written before the disk has more room."),
    row(LogEvent::MapSnapshotGoesOn, Level::Info, "map_snapshot_goes_on", &[],
        "The disk has room for the snapshot that waited."),
    row(LogEvent::MapLinkUp, Level::Info, "map_link_up", &["address"],
        "The link to another node of the cluster is up."),
    row(LogEvent::MapLinkDown, Level::Warn, "map_link_down", &["address"],
        "The link to another node of the cluster has ended."),
    row(LogEvent::MapLinkFailed, Level::Warn, "map_link_failed", &["address", "error"],
        "Another node of the cluster cannot be reached."),
    row(LogEvent::MapNodeRefused, Level::Warn, "map_node_refused", &["address", "error"],
        "Somebody who speaks as a node of the cluster map was refused."),
    row(LogEvent::LogLinesLost, Level::Warn, "log_lines_lost", &["lines"],
        "So many lines could not be written, since standard error took none."),
];

impl LogEvent {
    /// Its line of the table.
    #[must_use]
    pub fn row(self) -> &'static EventRow {
        &EVENTS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

    use std::fs;
    use std::path::Path;

    use super::*;

    const MANUAL: &str = include_str!("../../man/bbd.8");

    #[test]
    fn the_table_stands_in_the_order_of_the_events() {
        for (index, row) in EVENTS.iter().enumerate() {
            assert_eq!(row.event as usize, index);
            assert_eq!(row.name.replace('_', ""), format!("{:?}", row.event).to_lowercase());
        }
    }

    #[test]
    fn the_manual_has_every_event() {
        let section = MANUAL.split_once("\n.Sh LOG\n").unwrap().1.split_once("\n.Sh ").unwrap().0;
        let listed: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix(".It Li ")).collect();
        assert_eq!(listed, EVENTS.each_ref().map(|row| row.name), "in the same order");
        let read = section.replace('\n', " ");
        for row in &EVENTS {
            let fields = if row.fields.is_empty() { String::new() } else { format!(": {}", row.fields.join(", ")) };
            let entry = format!(".It Li {} {:?}{fields}. {} .", row.name, row.level, row.doc);
            assert!(read.contains(&entry), "{entry}");
        }
    }

    #[test]
    fn every_event_happens_somewhere() {
        let mut sources = String::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("log/events.rs") {
                    sources.push_str(&fs::read_to_string(path).unwrap());
                }
            }
        }
        for row in &EVENTS {
            let used = format!("LogEvent::{:?}", row.event);
            assert!(
                sources
                    .match_indices(&used)
                    .any(|(at, _)| !sources[at + used.len()..].starts_with(char::is_alphanumeric)),
                "{used}"
            );
        }
    }
}

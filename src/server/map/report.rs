//! What the log says of what the replica notices.

use super::{Map, MapError};
use crate::kv::replica::Notice;
use crate::log::{LogEvent, Value};
use crate::raft::member::Uuid;
use crate::time::Now;

impl Map {
    /// Writes it into the log; a node that must stop is stopped.
    pub(super) fn report(&mut self, now: Now, notice: &Notice) {
        let text = |uuid: &Uuid| uuid.to_string();
        let log = &mut self.log;
        match notice {
            Notice::InitialisedByWrite { cluster } => {
                let fields = [
                    ("cluster", Value::Text(&text(cluster))),
                    (
                        "help",
                        Value::Text("this node belonged to no cluster, and its first write has made it one of its own"),
                    ),
                ];
                log.event(now, LogEvent::MapInitialisedByWrite, &fields);
            }
            Notice::Initialised { cluster } => {
                log.event(now, LogEvent::MapInitialised, &[("cluster", Value::Text(&text(cluster)))])
            }
            Notice::Joined { cluster } => {
                log.event(now, LogEvent::MapJoined, &[("cluster", Value::Text(&text(cluster)))])
            }
            Notice::BecameLeader { term } => {
                log.event(now, LogEvent::MapLeader, &[("term", Value::Number(term.get()))])
            }
            Notice::LostLeadership { term } => {
                log.event(now, LogEvent::MapLeadsNoMore, &[("term", Value::Number(term.get()))])
            }
            Notice::LeaderChanged { leader } => {
                let leader = leader.as_ref().map_or_else(|| "none".to_owned(), text);
                log.event(now, LogEvent::MapLeaderChanged, &[("leader", Value::Text(&leader))]);
            }
            Notice::MembershipChanged { voters, learners } => {
                let fields = [("voters", Value::Number(*voters as u64)), ("learners", Value::Number(*learners as u64))];
                log.event(now, LogEvent::MapMembershipChanged, &fields);
            }
            Notice::Removed => log.event(
                now,
                LogEvent::MapRemoved,
                &[("help", Value::Text("this node is no member of its cluster any more; stop it"))],
            ),
            Notice::SnapshotSaved { index, .. } => {
                log.event(now, LogEvent::MapSnapshotSaved, &[("index", Value::Number(*index))])
            }
            Notice::SnapshotInstalled { index, bytes } => {
                let fields = [("index", Value::Number(*index)), ("bytes", Value::Number(*bytes as u64))];
                log.event(now, LogEvent::MapSnapshotInstalled, &fields);
            }
            Notice::BadSnapshot { .. } => log.event(
                now,
                LogEvent::MapBadSnapshot,
                &[("help", Value::Text("if it stays so, run the same bbd on all nodes"))],
            ),
            Notice::OtherCluster { from } => {
                let node = format!("{:016x}", from.get());
                let help = "its id begins so; remove it from that cluster, or wipe it and add it as a new node";
                log.event(now, LogEvent::MapOtherCluster, &[("node", Value::Text(&node)), ("help", Value::Text(help))]);
            }
            Notice::DiskIsLow => log.event(
                now,
                LogEvent::MapDiskIsLow,
                &[("help", Value::Text("no writes are taken until there is room"))],
            ),
            Notice::DiskHasRoom => log.event(now, LogEvent::MapDiskHasRoom, &[]),
            Notice::SnapshotWaits => log.event(
                now,
                LogEvent::MapSnapshotWaits,
                &[("help", Value::Text("free some of the disk; the log grows until then"))],
            ),
            Notice::SnapshotGoesOn => log.event(now, LogEvent::MapSnapshotGoesOn, &[]),
            Notice::Broken(what) => self.failed = Some(MapError::Broken(what)),
        }
    }
}

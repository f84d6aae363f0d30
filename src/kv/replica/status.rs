//! What a node says of itself: `/get-id`, `/healthz`, and `/metrics` in both of its forms.

use std::fmt::Write as _;

use noraft::NodeId;

use super::Replica;
use crate::json::write_string;
use crate::kv::ask::{Answer, Kind, Question, write_ids, write_option};
use crate::raft::member::Uuid;
use crate::time::Instant;

/// A metric of the cluster map.
#[derive(Debug)]
pub struct MetricRow {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    kind: &'static str,
    value: Measured,
}

/// How a metric is measured.
#[derive(Debug)]
enum Measured {
    /// One value.
    Node(fn(&Replica, Instant) -> u64),
    /// One for each follower, with its id, if this node leads.
    Followers(fn(&Replica, Instant, NodeId) -> Option<u64>),
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Replica, Instant) -> u64) -> MetricRow {
    MetricRow { name, help, kind: "gauge", value: Measured::Node(value) }
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Replica, Instant) -> u64) -> MetricRow {
    MetricRow { name, help, kind: "counter", value: Measured::Node(value) }
}

/// Every metric of the cluster map, in the order of the page.
#[rustfmt::skip]
pub const METRICS: [MetricRow; 21] = [
    gauge("bbd_map_is_leader", "1 if this node leads.", |node, _| u64::from(node.raft.is_leader())),
    gauge("bbd_map_has_leader", "1 if this node knows a leader.", |node, _| u64::from(node.raft.leader().is_some())),
    gauge("bbd_map_in_cluster", "1 if this node belongs to a cluster.", |node, _| u64::from(node.raft.cluster().is_some())),
    gauge("bbd_map_removed", "1 if this node was removed from its cluster.", |node, _| u64::from(node.raft.is_removed())),
    gauge("bbd_map_read_only", "1 if the disk is nearly full and writes are refused.", |node, _| u64::from(node.disk_is_low)),
    gauge("bbd_map_lag_ms", "How old what this node has may be, in milliseconds; 0 at the leader.", Replica::lag_ms),
    counter("bbd_map_term", "The term.", |node, _| node.raft.term().get()),
    counter("bbd_map_last_log_index", "The last entry of the log.", |node, _| node.raft.last().index.get()),
    counter("bbd_map_committed_index", "The last committed entry.", |node, _| node.raft.commit()),
    counter("bbd_map_applied_index", "The last applied entry.", |node, _| node.applied.index.get()),
    counter("bbd_map_snapshot_index", "The last entry in the snapshot on disk; 0 without one.",
        |node, _| node.snapshots.saved.map_or(0, |saved| saved.index.get())),
    gauge("bbd_map_snapshots_waiting", "Snapshots that are not written before there is more room on the disk.",
        |node, _| node.snapshots.waiting),
    gauge("bbd_map_log_bytes", "Bytes of the log behind the snapshot, about.", |node, _| node.raft.log_bytes() as u64),
    gauge("bbd_map_keys", "Keys.", |node, _| node.map.len() as u64),
    gauge("bbd_map_bytes", "Bytes of keys and values, about.", |node, _| node.map.bytes()),
    gauge("bbd_map_memory_limit_bytes", "--kv-memory-limit; 0 is none.", |node, _| node.settings.memory_limit_bytes),
    gauge("bbd_map_questions", "Requests without an answer yet.", |node, _| node.questions_len() as u64),
    gauge("bbd_map_voters", "Voters of the cluster.", |node, _| node.raft.membership().config.voters.len() as u64),
    gauge("bbd_map_learners", "Learners of the cluster.", |node, _| node.raft.membership().config.non_voters.len() as u64),
    MetricRow { name: "bbd_map_follower_matched_index", help: "The last entry that a follower has; at the leader.", kind: "counter",
        value: Measured::Followers(|node, _, id| node.raft.matched(id)) },
    MetricRow { name: "bbd_map_follower_silence_ms", help: "Milliseconds since a follower was heard; at the leader.", kind: "gauge",
        value: Measured::Followers(|node, now, id| node.raft.silence_ms(now, id)) },
];

impl Replica {
    /// The answer to a question about this node alone.
    pub(super) fn answer_of_self(&self, now: Instant, question: &Question) -> Option<Answer> {
        match question {
            Question::GetId => {
                let mut body = Vec::new();
                write_string(&mut body, &self.settings.own.uuid.to_string());
                Some(Answer::json(200, body))
            }
            Question::Healthz => Some(Answer::json(200, "{\"Ok\":\"Alive\"}")),
            Question::Metrics { as_prometheus: false } => Some(Answer::json(200, self.metrics_json(now))),
            Question::Metrics { as_prometheus: true } => {
                let body = self.metrics_text(now).into_bytes();
                Some(Answer { status: 200, kind: Kind::Prometheus, body, lag_ms: None })
            }
            Question::Write(_)
            | Question::Read { .. }
            | Question::List { .. }
            | Question::Watch { .. }
            | Question::Init
            | Question::AddLearner(_)
            | Question::RemoveLearner(_)
            | Question::ChangeMembership(_)
            | Question::TransferLeader(_)
            | Question::Backup => None,
        }
    }

    /// Leader, follower, candidate or learner.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        if self.raft.is_leader() {
            "Leader"
        } else if self.raft.is_candidate() {
            "Candidate"
        } else if self.raft.membership().is_voter(self.raft.id()) {
            "Follower"
        } else {
            "Learner"
        }
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<Uuid> {
        let leader = self.raft.leader()?;
        self.raft.membership().members.get(&leader).map(|member| member.uuid)
    }

    fn metrics_json(&self, now: Instant) -> Vec<u8> {
        let membership = self.raft.membership();
        let config = &membership.config;
        let mut out = b"{\"Ok\":{\"id\":".to_vec();
        write_string(&mut out, &self.settings.own.uuid.to_string());
        out.extend_from_slice(b",\"cluster\":");
        write_option(&mut out, self.raft.cluster().map(|cluster| cluster.to_string()).as_deref());
        out.extend_from_slice(format!(",\"state\":\"{}\",\"current_leader\":", self.state_name()).as_bytes());
        write_option(&mut out, self.leader().map(|leader| leader.to_string()).as_deref());
        out.extend_from_slice(
            format!(
                ",\"current_term\":{},\"last_log_index\":{},\"committed\":{},\"last_applied\":{},\"snapshot\":",
                self.raft.term().get(),
                self.raft.last().index.get(),
                self.raft.commit(),
                self.applied.index.get(),
            )
            .as_bytes(),
        );
        match self.snapshots.saved {
            Some(saved) => out.extend_from_slice(saved.index.get().to_string().as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(
            format!(
                ",\"keys\":{},\"bytes\":{},\"removed\":{},\"read_only\":{},\"membership_config\":{{\"membership\":{{\"configs\":[",
                self.map.len(),
                self.map.bytes(),
                self.raft.is_removed(),
                self.disk_is_low,
            )
            .as_bytes(),
        );
        write_ids(&mut out, membership, config.voters.iter());
        if config.is_joint_consensus() {
            out.push(b',');
            write_ids(&mut out, membership, config.new_voters.iter());
        }
        out.extend_from_slice(b"],\"learners\":");
        write_ids(&mut out, membership, config.non_voters.iter());
        out.extend_from_slice(b",\"nodes\":{");
        for (count, member) in membership.members.values().enumerate() {
            if count > 0 {
                out.push(b',');
            }
            write_string(&mut out, &member.uuid.to_string());
            out.extend_from_slice(b":{\"addr\":");
            write_string(&mut out, &member.address);
            out.push(b'}');
        }
        out.extend_from_slice(b"}}},\"replication\":");
        if self.raft.is_leader() {
            out.push(b'{');
            let others = membership.members.iter().filter(|(id, _)| **id != self.raft.id());
            for (count, (id, member)) in others.enumerate() {
                if count > 0 {
                    out.push(b',');
                }
                write_string(&mut out, &member.uuid.to_string());
                let matched = self.raft.matched(*id).unwrap_or(0);
                let heard = self.raft.silence_ms(now, *id).unwrap_or(0);
                out.extend_from_slice(format!(":{{\"matched\":{matched},\"heard_ms\":{heard}}}").as_bytes());
            }
            out.push(b'}');
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b"}}");
        out
    }

    fn metrics_text(&self, now: Instant) -> String {
        let mut text = String::new();
        for row in &METRICS {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {}", row.name, row.help, row.name, row.kind);
            match row.value {
                Measured::Node(value) => _ = writeln!(text, "{} {}", row.name, value(self, now)),
                Measured::Followers(value) => {
                    for (id, member) in &self.raft.membership().members {
                        if let Some(value) = value(self, now, *id) {
                            let _ = writeln!(text, "{}{{id=\"{}\"}} {value}", row.name, member.uuid);
                        }
                    }
                }
            }
        }
        text
    }
}

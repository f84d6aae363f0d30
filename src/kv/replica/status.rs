//! What a node says of itself: `/get-id`, `/healthz`, and `/metrics` in both of its forms.

use std::fmt::Write as _;

use super::Replica;
use crate::json::write_string;
use crate::kv::ask::{Answer, Kind, Question, write_ids, write_option};
use crate::raft::member::Uuid;
use crate::time::Instant;

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
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "# HELP bbd_map_{name} {help}\n# TYPE bbd_map_{name} {kind}\nbbd_map_{name} {value}");
        };
        let is_leader = self.raft.is_leader();
        metric("is_leader", "gauge", "1 if this node leads.", u64::from(is_leader));
        metric("has_leader", "gauge", "1 if this node knows a leader.", u64::from(self.raft.leader().is_some()));
        metric("term", "counter", "The term.", self.raft.term().get());
        metric("last_log_index", "counter", "The last entry of the log.", self.raft.last().index.get());
        metric("committed_index", "counter", "The last committed entry.", self.raft.commit());
        metric("applied_index", "counter", "The last applied entry.", self.applied.index.get());
        let snapshot = self.snapshots.saved.map_or(0, |saved| saved.index.get());
        metric("snapshot_index", "counter", "The last entry in the snapshot on disk; 0 without one.", snapshot);
        metric("log_bytes", "gauge", "Bytes of the log behind the snapshot, about.", self.raft.log_bytes() as u64);
        metric("keys", "gauge", "Keys.", self.map.len() as u64);
        metric("bytes", "gauge", "Bytes of keys and values, about.", self.map.bytes());
        metric("questions", "gauge", "Requests without an answer yet.", self.questions_len() as u64);
        metric(
            "read_only",
            "gauge",
            "1 if the disk is nearly full and writes are refused.",
            u64::from(self.disk_is_low),
        );
        let voters = self.raft.membership().config.voters.len();
        metric("voters", "gauge", "Voters of the cluster.", voters as u64);
        if is_leader {
            text.push_str("# HELP bbd_map_follower_matched_index The last entry that a follower has.\n# TYPE bbd_map_follower_matched_index counter\n");
            for (id, member) in &self.raft.membership().members {
                if let Some(matched) = self.raft.matched(*id) {
                    let _ = writeln!(text, "bbd_map_follower_matched_index{{id=\"{}\"}} {matched}", member.uuid);
                }
            }
            text.push_str("# HELP bbd_map_follower_silence_ms Milliseconds since a follower was heard.\n# TYPE bbd_map_follower_silence_ms gauge\n");
            for (id, member) in &self.raft.membership().members {
                if let Some(silence) = self.raft.silence_ms(now, *id) {
                    let _ = writeln!(text, "bbd_map_follower_silence_ms{{id=\"{}\"}} {silence}", member.uuid);
                }
            }
        }
        text
    }
}

//! Owns what the daemon is told about its peer: who it is, the times of the lease, what happens without it, and what must hold
//! between these. Does not own the table of flags ([`super::flags`]), nor what a node does with any of it ([`crate::node`]).

use std::time::Duration;

use super::values::{self, HostPort};
use super::{Config, ConfigError};
use crate::node::{OnPeerLoss, PeerConfig};

/// A lease outlasts so many heartbeats, so that it takes more than one lost packet to lose it.
const HEARTBEATS_IN_A_LEASE: u32 = 3;
/// So many changes of the greatest size fit into the backlog: a peer that is a moment behind must not need a snapshot each time.
const GREATEST_CHANGES_IN_BACKLOG: u64 = 4;
/// A token shorter than this is warned about: who records the handshake can try out short ones at leisure.
const GOOD_TOKEN_BYTES: usize = 16;

/// One `--peers`: the other node of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its host id, 1 to 64 of `A-Z a-z 0-9 . _ -`, and not our own.
    pub host_id: String,
    /// Where it listens; the host is not empty.
    pub address: HostPort,
}

/// `--durability`: what a change waits for that says nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// For nothing: it is answered once this node has it, and sent right after.
    Async,
    /// For the acknowledgement of the other node, as with `BigBunny-Durability: replicated`.
    Replicated,
}

impl Durability {
    /// Each with its name on the command line.
    pub const NAMES: [(Self, &'static str); 2] = [(Self::Async, "async"), (Self::Replicated, "replicated")];
}

/// What a primary does without its peer, with the names on the command line.
pub const ON_PEER_LOSS_NAMES: [(OnPeerLoss, &str); 2] =
    [(OnPeerLoss::Available, "available"), (OnPeerLoss::Safe, "safe")];

impl Config {
    /// What must hold between the values that are about the peer. The times are checked without one too: a slip shows at once.
    pub(super) fn check_peer(&self) -> Result<(), ConfigError> {
        let duration = values::show_duration;
        if self.heartbeat_interval * HEARTBEATS_IN_A_LEASE > self.lease {
            return Err(ConfigError::new(format!(
                "--heartbeat-interval: {} is not allowed; allowed: at most a third of --lease, which is {}",
                duration(self.heartbeat_interval),
                duration(self.lease)
            )));
        }
        if self.grace < self.heartbeat_interval {
            return Err(ConfigError::new(format!(
                "--grace: {} is not allowed; allowed: at least --heartbeat-interval, which is {}",
                duration(self.grace),
                duration(self.heartbeat_interval)
            )));
        }
        let least_backlog_bytes = GREATEST_CHANGES_IN_BACKLOG * self.max_store_size_bytes as u64;
        if self.replication_backlog_bytes < least_backlog_bytes {
            return Err(ConfigError::new(format!(
                "--replication-backlog: {} is not allowed; allowed: at least four times --max-store-size, which makes {}",
                values::show_size(self.replication_backlog_bytes),
                values::show_size(least_backlog_bytes)
            )));
        }
        let Some(peer) = &self.peer else {
            if self.durability == Durability::Replicated {
                return Err(ConfigError::new(
                    "--durability: replicated is not allowed without --peers; \
                     there is no other node that could have the changes",
                ));
            }
            return Ok(());
        };
        if peer.host_id == self.host_id {
            return Err(ConfigError::new(format!(
                "--peers: {} is this node's own id; allowed: the --host-id of the other node",
                peer.host_id
            )));
        }
        if peer.address == self.tcp {
            return Err(ConfigError::new(format!(
                "--peers: {} is this node's own address (--tcp); allowed: that of the other node",
                peer.address
            )));
        }
        if self.secrets.internal_token.is_none() {
            return Err(ConfigError::new(
                "no internal token: with --peers set --internal-token-file or --internal-token, BBD_INTERNAL_TOKEN, or the \
                 credential internal-token, the same on both nodes; `bbd keygen` makes one",
            ));
        }
        Ok(())
    }

    /// What an operator should hear about the peer.
    pub(super) fn collect_peer_warnings(&mut self) {
        if self.peer.is_none() {
            return;
        }
        if self.uses_dev_token() {
            self.warnings.push(
                "--dev: the internal token is known to everybody, so anybody who reaches --tcp can be the peer; \
                 NOT FOR PRODUCTION"
                    .to_owned(),
            );
        } else if self.secrets.internal_token.as_ref().is_some_and(|token| token.expose().len() < GOOD_TOKEN_BYTES) {
            self.warnings.push(format!(
                "the internal token is shorter than {GOOD_TOKEN_BYTES} bytes: who sees the traffic between the nodes can \
                 guess it; bbd keygen makes a good one"
            ));
        }
    }

    /// The node's settings about its peer, if it has one.
    pub(super) fn peer_config(&self) -> Option<PeerConfig> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.peer.as_ref().map(|peer| PeerConfig {
            own_id: self.host_id.clone(),
            peer_id: peer.host_id.clone(),
            heartbeat_interval_ms: millis(self.heartbeat_interval),
            lease_ms: millis(self.lease),
            grace_ms: millis(self.grace),
            on_peer_loss: self.on_peer_loss,
            replicate_all: self.durability == Durability::Replicated,
            backlog_limit_bytes: self.replication_backlog_bytes,
        })
    }
}

//! What operators do while everything runs: other limits, other store keys on one node before the other, and orders to take over at any
//! moment, the wrong ones too.

use super::asks::State;
use super::coverage::Met;
use super::net::MS;
use super::world::{Event, World};
use bigbunny::node::{Limits, Role};
use bigbunny::store_id::{KeyRing, MASTER_KEY_BYTES, MasterKey};

/// By now the other node has been reloaded too, and the new key may make ids: see `server::reload`.
const NEW_KEY_WAIT_MS: u64 = 60_000;
/// So many requests under way are a load.
const LOAD: usize = 4;

fn master_key(generation: u8) -> MasterKey {
    MasterKey { id: format!("k{generation}"), key: [generation; MASTER_KEY_BYTES].into() }
}

/// What a node makes ids with before anything was changed.
pub(crate) fn first_keyring() -> KeyRing {
    KeyRing::new(vec![master_key(0)], "k0", Some("site")).expect("a good key")
}

impl World {
    /// The limits of one node are other ones.
    pub(crate) fn changes_limits(&mut self, place: usize) {
        self.coverage.met(Met::NewLimits);
        let rng = &mut self.fault_rng;
        let limits = Limits {
            memory_limit_bytes: rng.pick(&[0, 3000, 100_000]),
            customer_memory_quota_bytes: rng.pick(&[0, 2000, 20_000]),
            rate_limit_per_second: rng.pick(&[0, 2, 50, 1000]),
            burst_size: rng.pick(&[2, 20]),
            tombstone_customer_limit: rng.pick(&[0, 10, 100]),
            tombstone_global_limit: rng.pick(&[0, 20]),
        };
        self.tell(|_| format!("{place} has other limits: {limits:?}"));
        let host = &mut self.hosts[place];
        host.limits = limits;
        host.buckets.clear();
        if let Some(node) = &mut host.node {
            node.set_limits(limits);
        }
    }

    /// The store keys are changed as the manual says: a new one beside the old one on both nodes, one after the other; it makes ids
    /// later.
    pub(crate) fn changes_keys(&mut self, place: usize) {
        if self.hosts.iter().any(|host| host.keyring.current_id() != format!("k{}", self.key_generation)) {
            // The last change is under way.
            return;
        }
        self.key_generation += 1;
        let generation = self.key_generation;
        self.coverage.met(Met::NewKeys);
        self.reloads_keys(place, generation);
        let other_at = self.now + self.fault_rng.log_between(1, NEW_KEY_WAIT_MS - 5_000) * MS;
        self.schedule(other_at, Event::ReloadsKeys { place: 1 - place, generation });
    }

    pub(crate) fn reloads_keys(&mut self, place: usize, generation: u8) {
        self.tell(|_| format!("{place} reads its store keys again"));
        let keys = vec![master_key(generation - 1), master_key(generation)];
        let in_use = format!("k{}", generation - 1);
        self.hosts[place].keyring.replace_keys(keys, &in_use).expect("good keys");
        self.schedule(self.now + NEW_KEY_WAIT_MS * MS, Event::UsesKey { place, generation });
    }

    pub(crate) fn uses_key(&mut self, place: usize, generation: u8) {
        self.hosts[place].keyring.use_key(&format!("k{generation}"));
    }

    /// When an operator wants a node to take over.
    pub(crate) fn note_moment(&mut self, place: usize) {
        let other = self.hosts[1 - place].node.as_ref();
        let met = match self.hosts[place].node.as_ref().map(|node| node.role()) {
            None => return,
            Some(Role::Primary) => Met::PromoteAtPrimary,
            Some(Role::Joining) => Met::PromoteAtJoining,
            Some(Role::Secondary) if other.is_some_and(|node| node.is_handing_over()) => Met::PromoteTwice,
            Some(Role::Secondary) => {
                let under_way = self.asks.values().filter(|ask| ask.state == State::Waits).count();
                if under_way < LOAD {
                    return;
                }
                Met::HandoverUnderLoad
            }
        };
        self.coverage.met(met);
    }
}

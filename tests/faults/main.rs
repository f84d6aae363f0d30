//! The faults of the specification on real processes, real sockets and the real clock. What two nodes decide is tried out much further by the
//! simulator; here is what it cannot see. `map` does the same to the cluster map.
//!
//! `cargo test --test faults` runs those that take seconds, `scripts/faults` all of them, and makes a table of their figures. They run one
//! after the other: each has the machine to itself, as far as this process goes. Network namespaces need the superuser and some
//! tools; a test that lacks them says so, and leaves itself out.

#![allow(clippy::unwrap_used, reason = "tests")]

mod calls;
mod clocks;
mod deaths;
mod history;
mod limits;
mod links;
#[allow(dead_code, reason = "shared with the measurement of failovers, which needs more")]
#[path = "../../examples/failover/load.rs"]
mod load;
mod map;
mod network;
#[allow(dead_code, reason = "shared with the tests of single processes, which need more")]
#[path = "../process/peer_link/pair.rs"]
mod pair;
mod partitions;
mod pauses;
mod proxy;
mod site;
mod sockets;
mod strangers;
#[allow(dead_code, reason = "shared with the tests of single processes, which need more")]
#[path = "../process/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of single processes, which need more")]
#[path = "../process/peer_link/test_peer.rs"]
mod test_peer;

//! Two real nodes, and strangers at their TCP port: the shell around the peer's connections. What the nodes decide is tried out
//! much further by the simulator; here are sockets, processes, signals and the real clock.

mod nodes;
mod operation;
mod pair;
mod sharing;
mod strangers;
mod test_peer;

//! Big Bunny: a session store for edge hosts.
//!
//! The node ([`node`]) is a pure state machine and the event loop ([`server`]) a thin shell around it: the node knows no
//! socket, clock, file or thread. It is told what happened and what time it is, and says what to do. So a whole pair of nodes
//! runs in one process, in simulated time, and every fault can be repeated from its seed.
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`node`] | stores, names, locks, counters, limits, roles, the change stream |
//! | [`server`] | the loop, listeners, connections, signals, the service manager |
//! | [`http`] | bytes to requests and answers to bytes, strictly after RFC 9112, as functions of slices |
//! | [`api`] | requests to operations and back: the tables of endpoints, headers and errors |
//! | [`peer`] | what two nodes say to each other, and the sealed link that carries it |
//! | [`kv`] | the cluster map: its requests, its state, one node's copy of it |
//! | [`raft`] | what nodes of the cluster map agree on, around the crate noraft |
//! | [`store_id`] | sealing and opening store ids; `siv` is what of AES-SIV it shares with the link |
//! | [`wheel`], [`time`], [`wire`], [`json`] | timers, the two clocks, our byte formats, JSON |
//! | [`metrics`], [`status`], [`log`] | what an operator sees: the table of metrics, `/status`, the log |
//! | [`config`], [`cli`] | the table of flags, the client commands |
//! | [`planted`] | mistakes that the simulator must find; never in a daemon |
//!
//! # The life of a request
//!
//! `Server::visit_together` or `Server::visit` reads what a connection sent; `Intake::whole_request` finds a request in it (`Intake::next`,
//! if it is not there whole, or not as usual): [`http::parse_head`], then [`api::prepare`] (who asks, for what, with which headers), then
//! the body, and the store id is opened. Of requests of several connections the keys of the customers are looked up together before that
//! (`KeyRing::look_up_ahead`), and of several requests the stores behind it (`Node::look_up_ahead`). Then, for one after the other,
//! `Prepared::call` makes a [`node::request::Request`]; [`node::Node::on_request`] takes it through `pass_on` (is this the
//! node to ask?), `admit` (lease, rate, idempotency key), `carry_out` (the operation, an `on_…` each), `answer`, and at last `serve_lines` (whoever waited
//! for a lock that is free now). The answer borrows the store's bytes; [`api::write_answer`] copies them once, into the
//! connection's output, and `Server::send` writes it.
//!
//! # The life of a change, between two nodes
//!
//! The operation calls `log_store` or one of its like, which numbers the change and appends it to the backlog. At the end of the
//! turn `on_end_of_turn` sends a batch ([`peer::message::Message::Changes`]); the follower's `on_changes` applies it, record by
//! record, and its own end of turn sends an acknowledgement; the primary's `on_ack` frees the backlog, and answers whoever asked to
//! wait for that (`release_withheld`).
//!
//! # The life of a heartbeat
//!
//! `on_end_of_turn` sends it with the time of sending; `on_heartbeat` lets the secondary be patient for lease and grace from now;
//! the acknowledgement carries the time back, and `on_ack` counts the lease from it: so the lease is over before the patience is.
//!
//! # The life of a promotion
//!
//! `on_peering_time` (patience is over), `on_peer_refused` or `note_incarnation` (the other process is gone) call `become_primary`:
//! a new epoch, locks void for one lock time-out, and whatever was forwarded is answered as unknown. A handover instead goes
//! `on_handover`, `finish_handover_if_acknowledged` at the old primary, and `on_handover_done` at the new one: nothing is missing,
//! locks go on, and what waits is passed on.
//!
//! # The life of a join
//!
//! `on_status` of a primary makes a joiner `send_join`; `on_join` answers with [`peer::message::Message::Resume`], if the backlog still
//! holds what is missing, or with [`peer::message::Message::Begin`] and a snapshot: `append_images` puts images of what is there into
//! the same stream, between the changes, and `SnapshotEnd` behind them makes the joiner a secondary.
//!
//! # What always holds
//!
//! [`node::Node::check_invariants`] asserts it by the names of the specification: one-lock-holder, name-unique, books-exact; the
//! simulator in `tests/sim` checks the others from outside, against a model of its own: commit-needs-lock, no-lost-update,
//! version-monotone, counter-exact, no-resurrection, ttl-never-extends, expired-never-served, refused-changes-nothing,
//! customers-apart, and for two nodes those of section 6 of the replication specification.

pub mod api;
pub mod cli;
pub mod config;
pub mod http;
pub mod json;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod planted;
pub mod raft;
pub mod server;
mod siv;
pub mod status;
pub mod store_id;
pub mod time;
pub mod wheel;
pub mod wire;

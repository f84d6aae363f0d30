//! What is fuzzed: one function of bytes for each thing that reads what comes from outside. It must not panic, whatever the bytes
//! are, and each says beside that what must hold of what it has read.
//!
//! `scripts/fuzz` gives them what libFuzzer finds; `cargo test --test fuzz` gives them every input that was kept in `corpus`.

mod bytes;
mod connection;
mod flags;
mod http;
mod json;
mod link;
mod map;
mod message;
mod pair;
mod requests;
mod store_ids;
mod stream;

pub use connection::connection;
pub use flags::flags;
pub use http::{chunks, http_head};
pub use json::json;
pub use link::sealed_link;
pub use map::{map_image, map_question, raft_message, raft_node};
pub use message::peer_message;
pub use pair::pair;
pub use store_ids::store_ids;
pub use stream::stream;

/// One of them: it panics if something is wrong.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("http_head", http_head),
    ("chunks", chunks),
    ("connection", connection),
    ("peer_message", peer_message),
    ("sealed_link", sealed_link),
    ("stream", stream),
    ("pair", pair),
    ("store_ids", store_ids),
    ("flags", flags),
    ("json", json),
    ("raft_message", raft_message),
    ("raft_node", raft_node),
    ("map_question", map_question),
    ("map_image", map_image),
];

//! What two nodes say to each other, as pure code: the messages and their bytes, the sealed link that carries them, and the HTTP
//! around it. bbd-internals(7) has all of it byte by byte.

pub mod http;
pub mod link;
pub mod message;

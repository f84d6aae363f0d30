//! Every bound of the link in one place; those of the loop that it runs in are the shell's.

use std::time::Duration;

use super::http::UNPROVED_INPUT_MAX_BYTES;
use super::message::MESSAGE_MAX_BYTES;
use crate::node::{REFUSALS_PROVING_DEATH, REFUSALS_WITHIN_MS};

/// How long a handshake may take, on either side.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(2);
/// Sent to the peer and not answered, at most: what may stand before a heartbeat. 20 ms at 100 Mbit/s, while 256 MB/s still get
/// through if an answer takes 1 ms. The message with which it is reached may exceed it.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// So much is sealed before the socket has taken it.
pub const SEALED_AHEAD_BYTES: usize = 64 * 1024;
/// More than this never waits for the peer. The node sends 4 MiB of changes ahead of their acknowledgements, and whatever
/// its clients ask of the other node and are asked; past this the connection is given up.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Answers that the peer does not read, until no more of it is heard.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// Buffers of a connection keep so much memory when they are empty.
pub const BUFFER_KEPT_BYTES: usize = 256 * 1024;
/// The pauses between tries to dial the peer.
pub const REDIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
/// See [`REDIAL_PAUSE_MIN`].
pub const REDIAL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pause after a refusal, while the proof of the peer's death is sought: the third is 80 ms after the first.
pub const QUICK_REDIAL_PAUSE: Duration = Duration::from_millis(40);
/// So many tries are made for that proof, in case that they take longer.
pub const QUICK_REDIALS_MAX: u32 = 10;
/// A connection that ends sooner is not dialled anew at once.
pub const STABLE_LINK_TIME: Duration = Duration::from_secs(1);

const _: () = {
    assert!(2 * QUICK_REDIAL_PAUSE.as_millis() < REFUSALS_WITHIN_MS as u128 && REFUSALS_PROVING_DEATH == 3);
    assert!(QUICK_REDIAL_PAUSE.as_millis() < REDIAL_PAUSE_MIN.as_millis());
    assert!(SEALED_AHEAD_BYTES < WINDOW_BYTES && WINDOW_BYTES < QUEUE_BYTES_MAX);
    assert!(QUEUE_BYTES_MAX > 4 * MESSAGE_MAX_BYTES);
    assert!(ANSWERS_BYTES_MAX >= UNPROVED_INPUT_MAX_BYTES);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_the_bounds() {
        let manual = include_str!("../../man/bbd-internals.7");
        let queue = format!("More than {QUEUE_BYTES_MAX} bytes wait");
        let window = format!("At most {WINDOW_BYTES} bytes of requests");
        for bound in [queue, window] {
            assert!(manual.contains(&bound), "{bound}");
        }
    }
}

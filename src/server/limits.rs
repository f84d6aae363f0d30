//! Every bound of the shell in one place; those of the link are in [`crate::peer::limits`]. What users can set is in the
//! configuration; these are the ones that nobody needs to.

use std::time::Duration;

/// A request target has at most this: a path and two parameters, each a name of 256 bytes that are all percent-encoded, are less than
/// 3 KiB, and RFC 9112 section 3 wants 8,000 bytes to be possible. Past it `414`.
pub(super) const TARGET_BYTES_MAX: usize = 8 * 1024;
/// One read takes at most this from a connection.
pub(super) const READ_BYTES_MAX: usize = 64 * 1024;
/// What is read from several connections before the first is visited, together; and the room without which no further one is read.
pub(super) const ARRIVALS_BYTES_MAX: usize = 128 * 1024;
pub(super) const READ_AHEAD_BYTES_MIN: usize = 16 * 1024;
/// One visit reads at most so often: 256 KiB, about 50 µs of copying.
pub(super) const READS_PER_VISIT_MAX: u32 = 4;
/// One visit writes at most this.
pub(super) const WRITE_BYTES_PER_VISIT_MAX: usize = 256 * 1024;
/// A connection whose unsent answers reach this is neither read nor parsed until some are sent. One answer may exceed it.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Written bytes are moved out of the way of unsent ones when there are so many of them.
pub(super) const OUTPUT_COMPACT_BYTES: usize = 16 * 1024;

/// One visit serves at most so many requests, 2 µs each, and at least so many when many connections wait.
pub(super) const REQUESTS_PER_VISIT_MAX: u32 = 64;
pub(super) const REQUESTS_PER_VISIT_MIN: u32 = 4;
/// One turn serves at most so many requests, and visits no further connection after so long: a visit takes two system calls
/// besides, so that connections with one request each cost a multiple of those with many.
pub(super) const REQUESTS_PER_TURN_MAX: u32 = 512;
pub(super) const VISITS_TIME_MAX: Duration = Duration::from_millis(1);
/// So much of a turn belongs to the slow lane, even while the prompt one never empties. It gets no more time than that even when nobody
/// else waits: whoever comes meanwhile waits for its end, and another turn costs next to nothing.
pub(super) const SLOW_REQUESTS_PER_TURN: u32 = REQUESTS_PER_TURN_MAX / 4;
pub(super) const SLOW_VISITS_TIME_MAX: Duration = Duration::from_micros(100);
/// A connection is in the slow lane from so many visits on that have not ended a request: a head, a body and the end of its
/// chunks may come one by one.
pub(super) const UNFINISHED_VISITS_MAX: u8 = 4;
/// Stores that expire in a wave take this much of a turn, and no more than a few dozen of them longer.
pub(super) const EXPIRIES_TIME_MAX: Duration = Duration::from_micros(300);
/// The clock is read after so many requests of a turn; a visit counts for one at least.
pub(super) const REQUESTS_PER_CLOCK: u32 = 8;
/// So much output counts as one more request: an answer of 1 MiB is not as cheap as one of 100 bytes.
pub(super) const OUTPUT_BYTES_PER_REQUEST: usize = 16 * 1024;
/// One turn accepts at most so many connections, about 5 µs each: no more time than the slow lane has.
pub(super) const ACCEPTS_PER_TURN_MAX: u32 = 8;
/// One turn looks at most at so many timers of connections.
pub(super) const TIMER_STEPS_PER_TURN_MAX: u32 = 256;
/// One poll reports at most so many events.
pub(super) const EVENTS_PER_TURN_MAX: usize = 1024;
/// A turn that takes so long has delayed others by more than any client may delay another.
pub(super) const LOOP_STALL_TIME: Duration = Duration::from_millis(5);
/// The loop never sleeps longer: a suspended machine's sleep counts for deadlines, but not for `epoll_wait`.
pub(super) const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The body of a refused request is read and dropped up to this, so that the connection can go on.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// A connection that ends with an error reads on, and drops what it reads, until the client has seen the answer and closes:
/// at most this long and this much (an upload of 100 MB is let through).
pub(super) const LINGER_TIME_MAX: Duration = Duration::from_secs(5);
pub(super) const LINGER_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// So many connections that were refused for want of room may linger like that; the others are closed at once.
pub(super) const REFUSED_LINGERING_MAX: usize = 64;
/// The same for a connection that was refused.
pub(super) const REFUSED_LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// Buffers kept for the next connection that needs one, and the largest that is kept.
pub(super) const SPARE_BUFFERS_MAX: usize = 16;
pub(super) const SPARE_BUFFER_BYTES_MAX: usize = 128 * 1024;

/// How long nothing is accepted after the system had no descriptor or memory for one more connection.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections on `--metrics-listen`, at most; they do not count as clients.
pub(super) const METRICS_CONNECTIONS_MAX: usize = 16;
/// Connections for operators while all places of clients are taken, and how long one may keep its place without getting on.
pub(super) const OPERATOR_CONNECTIONS_MAX: usize = 1;
pub(super) const OPERATOR_PATIENCE: Duration = Duration::from_secs(1);
/// Descriptors beside those of clients: standard streams, epoll, signals, the reserve, files read at a reload.
pub(super) const OTHER_DESCRIPTORS: usize = 24;
/// Descriptors for the peer, if there is one: the listening socket, both connections, the resolver's, and those of callers.
pub(super) const PEER_DESCRIPTORS: usize = 8 + UNPROVED_LINKS_MAX;

/// How long a store key that a reload brings waits for the other node's reload before it makes store ids.
pub(super) const NEW_KEY_WAIT: Duration = Duration::from_secs(60);

/// How much later than that of sessions the threads of the cluster map get a core that both want.
pub(super) const MAP_NICENESS: i32 = 10;

/// How long a clean stop waits for requests in flight and for answers to leave.
pub(super) const STOP_TIME_MAX: Duration = Duration::from_secs(1);
/// A clean stop lets those in who stand in line already, in so many rounds of [`ACCEPTS_PER_TURN_MAX`]: Linux' longest line.
pub(super) const STOP_ACCEPT_ROUNDS_MAX: u32 = 4096 / ACCEPTS_PER_TURN_MAX;

/// For a lock's release by an operator who names no customer: so many customers are tried.
pub(super) const RELEASE_CUSTOMERS_MAX: usize = 256;

/// Of the token in a store id so many characters may stand in the log.
pub(super) const STORE_ID_CHARS_LOGGED: usize = 8;

/// Connections on `--tcp` that have not proved who they are, at most.
pub(super) const UNPROVED_LINKS_MAX: usize = 16;
/// One turn hears so much of the peer, about 1 ms of unsealing and applying; a message is finished all the same. Each message
/// counts for some bytes more than it has.
pub(super) const PEER_BYTES_PER_TURN_MAX: usize = 128 * 1024;
pub(super) const PEER_MESSAGE_COST_BYTES: usize = 512;
/// So many turns in a row may end without everything being heard that the peer has said, before timers are served all the same.
pub(super) const TURNS_BEHIND_MAX: u32 = 64;
/// A connection on which the other side's system has been silent for so long, although something was sent, is dead; on an idle
/// one it is asked by probes.
pub(super) const PEER_SILENCE_MAX: Duration = Duration::from_secs(3);
pub(super) const PEER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const PEER_KEEPALIVE_COUNT: u32 = 3;
/// How long the addresses of a name are used without asking for them again, and how many of them.
pub(super) const ADDRESSES_KEPT_TIME: Duration = Duration::from_secs(10);
pub(super) const ADDRESSES_MAX: usize = 8;

const _: () = {
    assert!(REQUESTS_PER_VISIT_MAX + SLOW_REQUESTS_PER_TURN <= REQUESTS_PER_TURN_MAX);
    assert!(SLOW_VISITS_TIME_MAX.as_micros() < VISITS_TIME_MAX.as_micros());
    assert!(REQUESTS_PER_VISIT_MIN <= REQUESTS_PER_VISIT_MAX);
    assert!(SPARE_BUFFER_BYTES_MAX >= READ_BYTES_MAX && SPARE_BUFFER_BYTES_MAX >= OUTPUT_BYTES_MAX);
    assert!(OUTPUT_COMPACT_BYTES < OUTPUT_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_the_bounds() {
        let manual = include_str!("../../man/bbd-internals.7");
        let turn = format!("about {PEER_BYTES_PER_TURN_MAX} bytes are heard");
        let unproved = format!(".It connections without a proof Ta {UNPROVED_LINKS_MAX}; ");
        for bound in [turn, unproved] {
            assert!(manual.contains(&bound), "{bound}");
        }
    }
}

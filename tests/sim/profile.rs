//! What one run is like: drawn from its seed, each strength from nothing to its maximum, so that some runs have one thing alone
//! ("swarm testing", Groce et al., ISSTA 2012).

use crate::rng::Rng;
use bigbunny::node::{Limits, NodeConfig, STORE_OVERHEAD_BYTES};

macro_rules! acts {
    ($($name:ident,)*) => {
        /// What a client can do next.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Act { $($name,)* }

        impl Act {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

acts! {
    Create, CreateNamed, Put, Lookup, Read, ReadTouch, Authorize, Update, BeginModify, CompleteModify, CancelModify, Renew,
    Delete, Increment, Touch, List, DeletePrefix, ReadMany, DeleteMany, Rename, Repeat, Disconnect, OperatorReleases,
}

/// TTLs a client may ask for: 1 ms to ten years.
pub(crate) const TEN_YEARS_MS: u64 = 315_360_000_000;
/// Waits and holds over this are refused before the node hears of them.
const LONGEST_WAIT_MS: u64 = 30_000;

/// From and to, both included.
pub(crate) type Range = (u64, u64);

/// One run's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) config: NodeConfig,
    pub(crate) customers: usize,
    pub(crate) clients: usize,
    /// How often a customer fills all its names and then deletes them by prefix.
    pub(crate) fillings: u64,
    /// Names in use, from this one on.
    pub(crate) first_name: usize,
    pub(crate) names: usize,
    /// How often each [`Act`] is drawn.
    pub(crate) weights: Vec<u32>,
    pub(crate) ttl_ms: Range,
    /// How often a TTL is given, in a thousand; and so on below.
    pub(crate) ttl_given: u64,
    pub(crate) blob_bytes: Range,
    pub(crate) counters: u64,
    pub(crate) counter_span: u64,
    pub(crate) by_name: u64,
    pub(crate) hold_ms: Range,
    pub(crate) hold_given: u64,
    pub(crate) wait_ms: Range,
    pub(crate) waits: u64,
    pub(crate) connection_scope: u64,
    pub(crate) create_if_missing: u64,
    pub(crate) conditions: u64,
    pub(crate) idempotency: u64,
    pub(crate) durable: u64,
    pub(crate) impatience: u64,
    /// Between the acts of a burst, in microseconds.
    pub(crate) think_us: Range,
    /// Acts in a burst.
    pub(crate) burst: Range,
    /// Between bursts, in milliseconds.
    pub(crate) idle_ms: Range,
    /// From a client to the node, in microseconds.
    pub(crate) delay_us: Range,
    /// How long the node's process may be stopped, in milliseconds, and at how many events in a hundred thousand.
    pub(crate) pause_ms: Range,
    pub(crate) pauses: u64,
    /// How often the machine is suspended.
    pub(crate) sleeps: u64,
    /// The clock's resolution, in nanoseconds.
    pub(crate) clock_step_ns: u64,
    /// How late a timeout may be, and how long a turn of the loop takes, in microseconds.
    pub(crate) timeout_late_us: Range,
    pub(crate) turn_us: u64,
    /// Timeouts that come before their time, in a thousand events.
    pub(crate) early_timeouts: u64,
    /// After a pause the loop looks at its timers before it looks at its clients.
    pub(crate) timers_first: bool,
    /// Acts after which the clients only rest.
    pub(crate) acts: u64,
}

impl Profile {
    /// The profile of a seed.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let clients = rng.log_between(1, 24) as usize;
        let fillings = if rng.one_in(16) { rng.between(1, 3) } else { 0 };
        let names = if fillings > 0 { rng.between(200, 900) } else { rng.log_between(1, 60) };
        let ttl_low_ms = rng.log_between(1, 20_000);
        let ttl_high_ms = rng.log_between(ttl_low_ms, TEN_YEARS_MS);
        let blob_high = if rng.one_in(4) { rng.log_between(1, 2048) } else { rng.log_between(1, 64) };
        let hold_high_ms = rng.log_between(1, LONGEST_WAIT_MS);
        let wait_high_ms = rng.log_between(1, LONGEST_WAIT_MS);
        let think_high_us = rng.log_between(1, 2_000_000);
        let idle_high_ms = rng.log_between(100, 120_000);
        let delay_high_us = rng.log_between(1, 100_000);
        let pause_high_ms = rng.log_between(1, 30_000);
        let profile = Self {
            config: config(rng),
            customers: rng.log_between(1, 6) as usize,
            clients,
            fillings,
            first_name: rng.below(4096) as usize,
            names: names as usize,
            weights: weights(rng),
            ttl_ms: (ttl_low_ms, ttl_high_ms),
            ttl_given: rng.pick(&[0, 200, 700, 1000]),
            blob_bytes: (0, blob_high),
            counters: rng.pick(&[0, 50, 300, 1000]),
            counter_span: rng.pick(&[2, 20, 1000, u64::MAX]),
            by_name: rng.pick(&[0, 300, 700, 1000]),
            hold_ms: (1, hold_high_ms),
            hold_given: rng.pick(&[0, 500, 1000]),
            wait_ms: (1, wait_high_ms),
            waits: rng.pick(&[0, 300, 800, 1000]),
            connection_scope: rng.pick(&[0, 200, 1000]),
            create_if_missing: rng.pick(&[0, 300, 1000]),
            conditions: rng.pick(&[0, 0, 0, 200, 800]),
            idempotency: rng.pick(&[0, 0, 100, 600]),
            durable: rng.pick(&[0, 0, 0, 20]),
            impatience: rng.pick(&[0, 100, 500]),
            think_us: (if rng.one_in(2) { 0 } else { 1 }, think_high_us),
            burst: (1, rng.log_between(1, 60)),
            idle_ms: (1, idle_high_ms),
            delay_us: (0, if rng.one_in(2) { 0 } else { delay_high_us }),
            pause_ms: (1, pause_high_ms),
            pauses: rng.pick(&[0, 0, 50, 500, 3000]),
            sleeps: rng.pick(&[0, 0, 0, 1, 3]),
            clock_step_ns: rng.pick(&[1, 1, 1000, 1_000_000, 4_000_000, 15_600_000]),
            timeout_late_us: (0, rng.pick(&[0, 0, 999, 20_000])),
            turn_us: rng.pick(&[0, 10, 500, 20_000]),
            early_timeouts: rng.pick(&[0, 0, 5, 100]),
            timers_first: rng.one_in(2),
            acts: rng.log_between(500, 12_000),
        };
        if rng.one_in(6) { profile.storm(rng) } else { profile }
    }

    /// Many clients want the locks of few stores, and wait for them.
    fn storm(mut self, rng: &mut Rng) -> Self {
        self.clients = rng.between(3, 24) as usize;
        self.customers = 1;
        self.names = rng.between(1, 3) as usize;
        self.fillings = 0;
        self.by_name = rng.pick(&[500, 1000]);
        self.waits = rng.pick(&[800, 1000]);
        self.counters = rng.pick(&[0, 20]);
        self.conditions /= 4;
        self.config.limits.rate_limit_per_second = 0;
        self.think_us = (1, rng.log_between(1000, 1_000_000));
        let acts = [
            (Act::BeginModify, 60),
            (Act::Put, 20),
            (Act::Update, 20),
            (Act::CompleteModify, 20),
            (Act::CancelModify, 10),
            (Act::Renew, 5),
            (Act::Read, 5),
            (Act::Touch, 2),
            (Act::Delete, 3),
            (Act::DeleteMany, 1),
            (Act::DeletePrefix, 1),
            (Act::Rename, 2),
            (Act::Disconnect, 4),
            (Act::Repeat, 6),
            (Act::OperatorReleases, 1),
        ];
        self.weights.fill(0);
        for (act, weight) in acts {
            self.weights[act as usize] = if rng.one_in(5) { 0 } else { weight };
        }
        self.weights[Act::BeginModify as usize] += 10;
        self.weights[Act::CreateNamed as usize] += 1;
        self
    }
}

fn config(rng: &mut Rng) -> NodeConfig {
    let memory = |rng: &mut Rng| {
        if rng.one_in(3) { rng.between(1, 60) * (STORE_OVERHEAD_BYTES + rng.log_between(1, 400)) } else { 0 }
    };
    let tombstones = |rng: &mut Rng| if rng.one_in(5) { rng.log_between(1, 300) } else { 0 };
    let limited = rng.one_in(8);
    NodeConfig {
        limits: Limits {
            memory_limit_bytes: memory(rng),
            customer_memory_quota_bytes: memory(rng),
            rate_limit_per_second: if limited { rng.pick(&[1, 3, 7, 100, 1000]) } else { 0 },
            burst_size: rng.pick(&[1, 2, 10, 200]),
            tombstone_customer_limit: tombstones(rng),
            tombstone_global_limit: tombstones(rng),
        },
        lock_timeout_ms: rng.pick(&[1, 10, 100, 500, 500, 500, 5000, 30_000]),
        default_ttl_ms: rng.pick(&[1000, 60_000, 1_209_600_000, 1_209_600_000, TEN_YEARS_MS]),
        peer: None,
    }
}

/// One run in eight knows two or three acts only; in the others each is missing one time in four.
fn weights(rng: &mut Rng) -> Vec<u32> {
    let mut weights: Vec<u32> = if rng.one_in(8) {
        let mut weights = vec![0; Act::ALL.len()];
        for _ in 0..rng.between(2, 3) {
            weights[rng.index(Act::ALL.len())] = rng.between(1, 100) as u32;
        }
        weights
    } else {
        Act::ALL.iter().map(|_| if rng.one_in(4) { 0 } else { rng.log_between(1, 100) as u32 }).collect()
    };
    // Something to act on, whatever else there is; and connections that live for a while.
    let makes = rng.pick(&[Act::Create, Act::CreateNamed, Act::Put, Act::Increment, Act::BeginModify]);
    weights[makes as usize] += rng.between(1, 60) as u32;
    weights[Act::Disconnect as usize] = weights[Act::Disconnect as usize].div_ceil(8);
    weights[Act::OperatorReleases as usize] = weights[Act::OperatorReleases as usize].div_ceil(16);
    weights[Act::DeletePrefix as usize] = weights[Act::DeletePrefix as usize].div_ceil(8);
    weights
}

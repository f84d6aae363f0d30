//! What one run of the pair is like: drawn from its seed, each strength from nothing to its maximum.

use super::coverage::Met;
use super::socket::Roughness;
use crate::rng::Rng;
use bigbunny::config::flags::MAX_STORE_SIZE_BYTES;
use bigbunny::node::{Limits, NodeConfig, OnPeerLoss, PeerConfig};

macro_rules! kinds {
    ($(#[doc = $of:literal])* $kind:ident: $($(#[doc = $doc:literal])* $name:ident,)*) => {
        $(#[doc = $of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $kind { $($(#[doc = $doc])* $name,)* }

        impl $kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

kinds! {
    /// What can go wrong at any moment.
    Fault:
    /// Nothing passes in either direction.
    CutBoth,
    /// Nothing passes in one direction.
    CutOneWay,
    /// Cut and healed ten times a second for a while.
    Flap,
    /// A connection is reset, and what was on it is lost.
    Reset,
    /// A connection swallows what is sent until somebody notices.
    HalfOpen,
    /// A process dies; its port refuses connections until it is started again, empty.
    Crash,
    /// A machine vanishes without a packet, and comes back empty.
    Vanish,
    /// Both processes die within a moment.
    CrashBoth,
    /// A process is stopped for a while.
    Pause,
    /// The operator asks a node to take over.
    Promote,
    /// The operator orders it.
    Force,
    /// A process is asked to stop, hands over first, and is started again.
    GracefulStop,
    /// Somebody sets a wall clock by an hour.
    WallStep,
    /// A node gets other limits while it runs.
    NewLimits,
    /// The store keys are changed, on one node first.
    NewKeys,
    /// A wall clock runs backwards for a while.
    WallBackwards,
    /// A machine sleeps: its process, its network and all; its clock goes on.
    Suspend,
    /// Nothing that a machine sends arrives for a while, and then all of it does.
    Stall,
    /// A connection ends as if the other side had closed it.
    HangUp,
    /// Somebody between the two changes what is on a connection.
    Tamper,
    /// Somebody dials who is no node.
    Stranger,
    /// The internal token is another one, on one node first.
    RotateToken,
}

kinds! {
    /// What clients do who come for one thing.
    Habit:
    /// Sends up to a thousand requests before it reads one answer.
    Pipelines,
    /// The same, and never reads.
    NeverReads,
    /// Takes a lock that ends with the connection, and is gone in the middle of the body to be saved.
    LeavesInMidBody,
    /// Takes a lock, and is gone.
    HoldsAndVanishes,
    /// For a while everybody wants the same store.
    StormsAStore,
    /// Makes a great many names, and perhaps deletes them by their prefix.
    MakesNames,
    /// Makes a store and deletes it, in a loop, and looks whether it is gone.
    MakesAndDeletes,
}

/// The greatest time to live anybody can think of.
pub(crate) const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
/// As many names as a customer may want.
pub(crate) const MANY_NAMES: u64 = 100_000;
/// So many cost a second or two of a core, with a pair of nodes to hold them: one run in so many has them, the others a few thousand at most.
const MANY_NAMES_ONE_IN: u64 = 200;

impl Fault {
    /// There must be bytes for it.
    fn is_of_sealed_link(self) -> bool {
        match self {
            Self::HangUp | Self::Tamper | Self::Stranger | Self::RotateToken => true,
            Self::CutBoth
            | Self::CutOneWay
            | Self::Flap
            | Self::Reset
            | Self::HalfOpen
            | Self::Crash
            | Self::Vanish
            | Self::CrashBoth
            | Self::Pause
            | Self::Promote
            | Self::Force
            | Self::GracefulStop
            | Self::WallStep
            | Self::NewLimits
            | Self::NewKeys
            | Self::WallBackwards
            | Self::Suspend
            | Self::Stall => false,
        }
    }
}

/// What somebody between the two does to the next bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tampering {
    BitFlip,
    Garbage,
    HugeLength,
    Replay,
    LeaveOut,
    CutMid,
}

impl Tampering {
    pub(crate) const ALL: [Self; 6] =
        [Self::BitFlip, Self::Garbage, Self::HugeLength, Self::Replay, Self::LeaveOut, Self::CutMid];

    pub(crate) fn met(self) -> Met {
        match self {
            Self::BitFlip => Met::BitFlip,
            Self::Garbage => Met::Garbage,
            Self::HugeLength => Met::HugeLength,
            Self::Replay => Met::Replay,
            Self::LeaveOut => Met::LeftOut,
            Self::CutMid => Met::CutInMidMessage,
        }
    }
}

/// In one of so many runs the link is sealed and its bytes are what the network carries; in the others whole messages are.
const SEALED_ONE_IN: u64 = 4;

/// From and to, both included.
pub(crate) type Range = (u64, u64);

/// One run's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// The network carries the bytes of the sealed link, and not whole messages.
    pub(crate) sealed: bool,
    pub(crate) roughness: Roughness,
    /// Of each node's wire, in bytes a second; only where the link is sealed.
    pub(crate) bandwidth: [u64; 2],
    /// In a thousand writes: they arrive in two parts.
    pub(crate) split: u64,
    pub(crate) safe: bool,
    pub(crate) replicate_all: bool,
    pub(crate) backlog_bytes: u64,
    /// How often each [`Fault`] is drawn; all nothing in a run without faults.
    pub(crate) faults: Vec<u32>,
    /// Between faults, in milliseconds.
    pub(crate) fault_every_ms: Range,
    /// How long the storm lasts, in milliseconds: everything at once.
    pub(crate) storm_ms: u64,
    /// Between faults in the calm behind it, in milliseconds, and between what a client asks, in microseconds.
    pub(crate) calm_fault_every_ms: Range,
    pub(crate) calm_think_us: Range,
    /// From one node to the other, in microseconds, each direction alone.
    pub(crate) delay_us: [Range; 2],
    /// How many of a thousand messages take up to this long, in microseconds.
    pub(crate) tail: u64,
    pub(crate) tail_us: u64,
    /// How long a cut lasts, and until a connection that is cut is given up, in milliseconds.
    pub(crate) cut_ms: Range,
    pub(crate) notice_ms: Range,
    pub(crate) restart_ms: Range,
    pub(crate) pause_ms: Range,
    /// In a hundred thousand events: a pause between what a node decides and what leaves it.
    pub(crate) mid_pauses: u64,
    /// In a hundred thousand events: a crash there, before or behind the answers to its clients.
    pub(crate) mid_crashes: u64,
    pub(crate) stall_ms: Range,
    /// Requests that a node serves in one turn, if so many wait.
    pub(crate) requests_per_turn: u32,
    /// In a thousand lost connections: what was on it arrives all the same, later.
    pub(crate) late: u64,
    /// Each node's drift in parts per million, and its clock's resolution.
    pub(crate) drift_ppm: [i64; 2],
    pub(crate) clock_step_ns: u64,
    /// In a thousand restarts: the whole machine booted, and its clock begins anew.
    pub(crate) reboots: u64,
    /// How long a turn of each node's loop takes, in nanoseconds.
    pub(crate) turn_ns: [u64; 2],
    pub(crate) clients: usize,
    pub(crate) customers: usize,
    pub(crate) names: u64,
    pub(crate) think_us: Range,
    pub(crate) blob_bytes: Range,
    /// In a thousand values: one is as large as may be, which is a quarter of the backlog at most.
    pub(crate) largest: u64,
    pub(crate) largest_bytes: u64,
    pub(crate) durable: u64,
    pub(crate) keyed: u64,
    pub(crate) impatience: u64,
    pub(crate) patience_ms: Range,
    pub(crate) wait_ms: Range,
    pub(crate) hold_ms: Range,
    pub(crate) ttl_ms: Range,
    /// How often each kind of deed is drawn; the order is that of `clients`.
    pub(crate) deeds: Vec<u32>,
    pub(crate) lock_timeout_ms: u64,
    /// Requests a second and customer, and at once; no limit if nothing.
    pub(crate) rate_per_second: u32,
    pub(crate) burst: u32,
    pub(crate) memory_limit_bytes: u64,
    pub(crate) customer_quota_bytes: u64,
    pub(crate) tombstone_limit: u64,
    /// How often each [`Habit`] is drawn, and between visits, in milliseconds.
    pub(crate) habits: Vec<u32>,
    pub(crate) visit_every_ms: Range,
    /// Of whoever makes names.
    pub(crate) names_at_once: u64,
    /// Half of those that end are to end after this.
    pub(crate) ttl_exact_ms: Option<u64>,
}

impl Profile {
    pub(crate) fn draw(rng: &mut Rng, deeds: usize) -> Self {
        let strengths = [0, 0, 0, 1, 3, 10];
        let mut faults: Vec<u32> = Fault::ALL.iter().map(|_| rng.pick(&strengths)).collect();
        let mut sealed = rng.one_in(SEALED_ONE_IN);
        if rng.one_in(5) {
            // One fault alone.
            let alone = rng.index(faults.len());
            faults.iter_mut().for_each(|weight| *weight = 0);
            faults[alone] = 1;
            sealed |= Fault::ALL[alone].is_of_sealed_link();
        }
        if !sealed {
            let weights = Fault::ALL.iter().zip(&mut faults);
            weights.filter(|(fault, _)| fault.is_of_sealed_link()).for_each(|(_, weight)| *weight = 0);
        }
        let piece_bytes = if rng.one_in(3) { rng.log_between(1, 4096) } else { 1 << 20 };
        let roughness = Roughness {
            piece_bytes,
            // Of many calls a few are enough.
            hiccups: rng.pick(&[0, 0, 10, 200]).min(2 + 10 * piece_bytes),
            buffer_bytes: rng.log_between(1 << 12, 1 << 22) as usize,
        };
        let mut bandwidth = || if rng.one_in(2) { 1 << 30 } else { rng.log_between(10_000, 100_000_000) };
        let bandwidth = [bandwidth(), bandwidth()];
        let fault_every_ms = rng.log_between(20, 8000);
        let mut delay = || (50, rng.log_between(60, 100_000));
        let delay_us = [delay(), delay()];
        let mut drift = || match rng.below(3) {
            0 => 0,
            1 => rng.between(0, 2000) as i64 - 1000,
            _ => rng.between(0, 20_000) as i64 - 10_000,
        };
        let drift_ppm = [drift(), drift()];
        let backlog_bytes = rng.pick(&[256 << 10, 256 << 10, 1 << 20, 16 << 20]);
        let think = rng.log_between(500, 500_000);
        let mut profile = Self {
            sealed,
            roughness,
            bandwidth,
            split: rng.pick(&[0, 0, 20, 500]),
            safe: rng.one_in(3),
            replicate_all: rng.one_in(8),
            backlog_bytes,
            faults,
            fault_every_ms: (1, fault_every_ms),
            storm_ms: rng.between(5_000, 60_000),
            calm_fault_every_ms: (1000, rng.log_between(5_000, 200_000)),
            calm_think_us: (1000, rng.log_between(1_000_000, 60_000_000)),
            delay_us,
            tail: rng.pick(&[0, 0, 0, 1, 20]),
            tail_us: rng.log_between(1000, 5_000_000),
            cut_ms: (1, rng.log_between(10, 12_000)),
            notice_ms: (10, rng.log_between(20, 10_000)),
            restart_ms: (0, rng.log_between(1, 10_000)),
            pause_ms: (1, rng.log_between(2, 30_000)),
            mid_pauses: rng.pick(&[0, 0, 10, 200]),
            mid_crashes: rng.pick(&[0, 0, 0, 20]),
            stall_ms: (1, rng.log_between(2, 10_000)),
            requests_per_turn: rng.log_between(1, 512) as u32,
            late: rng.pick(&[0, 0, 300, 1000]),
            drift_ppm,
            clock_step_ns: rng.pick(&[1, 1, 1000, 1_000_000, 15_600_000]),
            reboots: rng.pick(&[0, 500]),
            turn_ns: [rng.pick(&[5_000, 20_000, 1_000_000, 10_000_000]), rng.pick(&[5_000, 20_000, 1_000_000])],
            clients: rng.log_between(1, 16) as usize,
            customers: rng.between(1, 2) as usize,
            names: rng.log_between(1, 8),
            think_us: (100, think),
            blob_bytes: (0, if rng.one_in(4) { rng.log_between(1, 60_000) } else { 32 }),
            largest: if rng.one_in(16) { 5 } else { 0 },
            largest_bytes: MAX_STORE_SIZE_BYTES.min(backlog_bytes / 4),
            durable: rng.pick(&[0, 0, 200, 1000]),
            keyed: rng.pick(&[0, 500, 1000]),
            impatience: rng.pick(&[0, 100, 500]),
            patience_ms: (1, rng.log_between(2, 20_000)),
            wait_ms: (1, rng.log_between(2, 4000)),
            hold_ms: (1, rng.log_between(2, 3000)),
            ttl_ms: (1, rng.log_between(2, 60_000)),
            deeds: (0..deeds).map(|_| rng.pick(&[0, 1, 1, 4])).collect(),
            lock_timeout_ms: rng.pick(&[500, 500, 3000]),
            rate_per_second: rng.pick(&[0, 0, 0, 2, 50]),
            burst: rng.pick(&[2, 20]),
            memory_limit_bytes: rng.pick(&[0, 0, 0, 3000, 100_000]),
            customer_quota_bytes: rng.pick(&[0, 0, 0, 2000, 20_000]),
            tombstone_limit: rng.pick(&[0, 0, 0, 10, 100]),
            habits: Habit::ALL.iter().map(|_| rng.pick(&strengths)).collect(),
            visit_every_ms: (1, rng.log_between(100, 20_000)),
            names_at_once: rng.log_between(100, 2000),
            ttl_exact_ms: rng.pick(&[None, None, Some(1000), Some(TEN_YEARS_MS)]),
        };
        if rng.one_in(MANY_NAMES_ONE_IN) {
            profile.makes_many_names();
        }
        profile
    }

    /// Nothing keeps anybody from making them.
    fn makes_many_names(&mut self) {
        self.names_at_once = MANY_NAMES;
        self.habits = Habit::ALL.iter().map(|habit| u32::from(*habit == Habit::MakesNames)).collect();
        (self.rate_per_second, self.memory_limit_bytes, self.customer_quota_bytes, self.tombstone_limit) = (0, 0, 0, 0);
        self.turn_ns = [5_000; 2];
        self.visit_every_ms = (1, 500);
        self.storm_ms = self.storm_ms.max(20_000);
        for (weight, fault) in self.faults.iter_mut().zip(Fault::ALL) {
            if *fault == Fault::NewLimits {
                *weight = 0;
            }
        }
    }

    /// The limits of the start.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            rate_limit_per_second: self.rate_per_second,
            burst_size: self.burst,
            memory_limit_bytes: self.memory_limit_bytes,
            customer_memory_quota_bytes: self.customer_quota_bytes,
            tombstone_customer_limit: self.tombstone_limit,
            ..Limits::default()
        }
    }

    pub(crate) fn config(&self, place: usize, limits: Limits) -> NodeConfig {
        let ids = ["a", "b"];
        let peer = PeerConfig {
            own_id: ids[place].into(),
            peer_id: ids[1 - place].into(),
            heartbeat_interval_ms: 200,
            lease_ms: 2000,
            grace_ms: 2000,
            on_peer_loss: if self.safe { OnPeerLoss::Safe } else { OnPeerLoss::Available },
            replicate_all: self.replicate_all,
            backlog_limit_bytes: self.backlog_bytes,
        };
        NodeConfig { limits, lock_timeout_ms: self.lock_timeout_ms, peer: Some(peer), ..NodeConfig::default() }
    }
}

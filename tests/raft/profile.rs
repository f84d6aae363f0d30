//! What one seed's run is like: how many machines, how good their disks, clocks and links are, and which faults it has. Every run has some
//! faults and lacks others: what all faults together keep from happening happens where some of them are missing.

use crate::rng::Rng;
use crate::world::faults::Fault;

/// How one run goes.
#[derive(Clone, Debug)]
pub struct Profile {
    pub machines: usize,
    /// So many of them vote at the beginning; the others learn.
    pub voters: usize,
    /// Nobody asks for `/init`: the first write makes the cluster.
    pub begins_with_write: bool,
    pub snapshot_entries: u64,
    /// Keys with long values, so that snapshots come in parts.
    pub has_ballast: bool,
    /// One machine leaves the cluster, loses its disk, and comes back as another member.
    pub replaces_machine: bool,
    /// Messages of one link stay in order, as on a real one; otherwise they overtake each other.
    pub is_in_order: bool,
    pub loss_permille: u64,
    /// One message in so many is late, and one in so many comes twice; 0 is none.
    pub late_one_in: u64,
    pub twice_one_in: u64,
    /// Clocks run faster or slower by so much at most.
    pub drift_permille: u64,
    /// A machine crashes at so many in a thousand of its writes to the disk, and in the middle of so many in a hundred thousand of its turns.
    pub disk_crash_permille: u64,
    pub turn_crash_per_100_000: u64,
    pub faulty_seconds: u64,
    pub client_pause_max_ms: u64,
    pub fault_pause_max_ms: u64,
    /// By the place of each in [`Fault::ALL`].
    pub weights: Vec<u32>,
}

impl Profile {
    /// The one of a seed.
    pub fn draw(rng: &mut Rng) -> Self {
        // Three and five are what people run.
        let machines = rng.pick(&[1, 2, 3, 3, 3, 4, 5, 5, 6, 7]);
        let weights = Fault::ALL.iter().map(|(_, weight)| if rng.one_in(2) { 0 } else { *weight }).collect();
        let is_without_faults = rng.one_in(25);
        let mut profile = Self {
            machines,
            voters: rng.between(1, machines as u64) as usize,
            begins_with_write: rng.one_in(3),
            snapshot_entries: rng.pick(&[5, 5, 20, 40, 400]),
            has_ballast: rng.one_in(40),
            replaces_machine: machines > 1 && rng.one_in(6),
            is_in_order: rng.one_in(2),
            loss_permille: rng.pick(&[0, 0, 0, 5, 50]),
            late_one_in: rng.pick(&[0, 50, 200, 1000]),
            twice_one_in: rng.pick(&[0, 20, 100]),
            drift_permille: rng.pick(&[0, 5, 50]),
            disk_crash_permille: rng.pick(&[0, 0, 3, 15]),
            turn_crash_per_100_000: rng.pick(&[0, 0, 20, 100]),
            faulty_seconds: rng.between(3, 9),
            client_pause_max_ms: rng.pick(&[10, 40, 120, 2_000]),
            fault_pause_max_ms: rng.pick(&[300, 1_000, 2_000]),
            weights,
        };
        if is_without_faults || profile.weights.iter().all(|weight| *weight == 0) {
            profile.weights = vec![0; Fault::ALL.len()];
            profile.weights[0] = 1;
        }
        profile
    }

    /// Nothing goes wrong but what a scenario asks for.
    pub fn quiet(machines: usize) -> Self {
        Self {
            machines,
            voters: machines,
            begins_with_write: false,
            snapshot_entries: 40,
            has_ballast: false,
            replaces_machine: false,
            is_in_order: true,
            loss_permille: 0,
            late_one_in: 0,
            twice_one_in: 0,
            drift_permille: 0,
            disk_crash_permille: 0,
            turn_crash_per_100_000: 0,
            faulty_seconds: 0,
            client_pause_max_ms: 40,
            fault_pause_max_ms: 1_000,
            weights: vec![0; Fault::ALL.len()],
        }
    }
}

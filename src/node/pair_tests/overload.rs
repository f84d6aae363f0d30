//! A follower that is slow, or stopped, under writers that are not.

use super::*;

impl Pair {
    fn primary(&self) -> &Node {
        self.nodes[0].as_ref().unwrap()
    }

    /// Writes at the first node as fast as it lets clients, up to so many changes in each millisecond. Says how many it took.
    fn write_for_ms(&mut self, millis: u64, per_ms: u64) -> u64 {
        let mut written = 0;
        for _ in 0..millis {
            for number in 0..per_ms {
                if self.primary().clients_wait_until(self.now).is_some() {
                    break;
                }
                self.ask(0, put(&format!("n{}", number % 50), &[3; 1000]));
                written += 1;
            }
            self.run_ms(1);
        }
        written
    }

    fn times(&self, event: &Event) -> usize {
        self.said[0].events.iter().filter(|told| *told == event).count()
    }
}

#[test]
fn writers_that_outrun_the_follower_wait_and_it_stays_in_step() {
    // Acknowledgements take 10 ms: what is written meanwhile would fill the backlog three times.
    let mut pair = Pair { delay: Duration::from_millis(5), ..pair_in_step() };
    let written = pair.write_for_ms(1000, 300);
    assert!(written > 15_000, "they are slowed down, and no more: {written}");
    let status = pair.primary().status();
    assert!(status.pace_waits_total > 50, "{status:?}");
    assert!(status.is_peer_in_step && pair.times(&Event::BacklogOverflow) == 0);
    // A quarter of the backlog, and what one turn may add.
    assert!(status.backlog_bytes < (1 << 18) + 300 * 1100, "{status:?}");
    pair.run_ms(100);
    assert_eq!(pair.primary().clients_wait_until(pair.now), None);
    pair.check_equal();
}

#[test]
fn a_snapshot_ends_under_writers_that_never_rest_and_makes_none_of_them_wait() {
    let mut pair = Pair { backlog_limit_bytes: 16 << 20, ..Pair::new() };
    pair.start(0);
    pair.run_ms(4001);
    for number in 0..5000 {
        pair.ask(0, put(&format!("m{number}"), &[1; 1000]));
    }
    pair.start(1);
    let written = pair.write_for_ms(100, 100);
    assert_eq!((written, pair.primary().status().pace_waits_total), (10_000, 0));
    assert_eq!(pair.role(1), Role::Secondary);
    pair.check_equal();
}

#[test]
fn a_stopped_follower_is_not_waited_for_and_costs_one_snapshot_when_it_is_back() {
    let mut pair = pair_in_step();
    let before = pair.times(&Event::SnapshotBegun);
    pair.stopped = Some(1);
    pair.write_for_ms(150, 10);
    let written = pair.write_for_ms(3000, 10);
    assert_eq!(written, 30_000, "writers wait a tenth of a second at most");
    assert_eq!(pair.times(&Event::BacklogOverflow), 1);
    assert_eq!((pair.times(&Event::SnapshotBegun) - before, pair.primary().status().backlog_bytes), (0, 0));
    pair.stopped = None;
    pair.write_for_ms(100, 10);
    assert_eq!(pair.times(&Event::SnapshotBegun) - before, 1);
    pair.check_equal();
}

#[test]
fn a_joiner_that_stops_on_the_way_costs_one_more_snapshot() {
    let mut pair = Pair::new();
    pair.start(0);
    pair.run_ms(4001);
    for number in 0..2000 {
        pair.ask(0, put(&format!("m{number}"), &[1; 1000]));
    }
    pair.start(1);
    pair.run_ms(3);
    assert_eq!((pair.role(1), pair.times(&Event::SnapshotBegun)), (Role::Joining, 1));
    pair.stopped = Some(1);
    pair.write_for_ms(3000, 10);
    assert_eq!((pair.times(&Event::BacklogOverflow), pair.times(&Event::SnapshotBegun)), (1, 1));
    pair.stopped = None;
    pair.write_for_ms(100, 10);
    assert_eq!((pair.times(&Event::BacklogOverflow), pair.times(&Event::SnapshotBegun)), (1, 2));
    pair.run_ms(10);
    assert_eq!(pair.role(1), Role::Secondary);
    pair.check_equal();
}

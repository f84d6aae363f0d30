//! Nodes that stand still: stopped, and starved by others. Faults 2, 10 and 11.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::history::{Clients, Kept, check_at_rest, converge, settle};
use crate::load::{Load, Plan};
use crate::site::{Site, await_role, epoch, figure, ms, role};

const SOME_TIME: Duration = Duration::from_millis(700);
/// The times of the specification: up to the first nobody may take over, from the second on somebody must.
const LEASE: Duration = Duration::from_secs(2);
const LEASE_AND_GRACE: Duration = Duration::from_secs(4);
/// As long as a heartbeat may have been on its way, or late, on a busy machine.
const SLACK: Duration = Duration::from_millis(400);

const SAFE: [&str; 2] = ["--on-peer-loss=safe", "--durability=replicated"];

/// Stops the primary for a while, with clients at both nodes that stay connected.
fn stop_the_primary_for(pause: Duration, flags: &[&str]) {
    let site = Site::on_loopback(flags);
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    a.freeze();
    sleep(pause);
    a.signal(Signal::CONT);
    sleep(SOME_TIME);
    let rest = settle(&a, &b);
    sleep(SOME_TIME);
    let mode = if flags == SAFE { "safe and replicated" } else { "available" };
    let of = format!("2 SIGSTOP of the primary for {:.1} s, {mode}", pause.as_secs_f64());
    clients.finish(&of, &a, &b, if flags == SAFE { Kept::All } else { Kept::WhatWasReplicated });
    if pause < LEASE - SLACK {
        assert_eq!(epoch(&a), 1, "nobody takes over: {}", b.log());
    }
    if pause > LEASE_AND_GRACE + SLACK {
        assert_eq!((epoch(&b), role(&b)), (2, "PRIMARY".to_owned()), "{}", b.log());
    }
    figure(&of, "epoch afterwards", epoch(&a));
    figure(&of, "until both are equal again", ms(rest));
}

#[test]
fn a_primary_stopped_for_2_1_s() {
    stop_the_primary_for(Duration::from_millis(2100), &SAFE);
}

#[test]
#[ignore = "takes a minute: scripts/faults"]
fn a_primary_stopped_for_all_other_times() {
    for pause_ms in [100, 1900, 3900, 4100, 7000, 30_000] {
        stop_the_primary_for(Duration::from_millis(pause_ms), &SAFE);
    }
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn a_primary_stopped_and_available() {
    for pause_ms in [2100, 4100, 7000] {
        stop_the_primary_for(Duration::from_millis(pause_ms), &[]);
    }
}

/// Changes as fast as they are taken, over many names so that nothing is saved by writing the same again.
const FULL_LOAD: Plan = Plan { clients: 2, depth: 16, names: 2000, body_bytes: 1000, remembers: false };
/// The backlog, what is sealed ahead, and what the allocator keeps.
const GROWTH_MAX_BYTES: u64 = 24 << 20;

fn stop_the_secondary_for(pause: Duration) {
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    let load = Load::start(a.socket(), "a", FULL_LOAD);
    // Until every name is there once.
    while load.done() < 3 * 2 * FULL_LOAD.names {
        sleep(Duration::from_millis(50));
    }
    let (before, done_before) = (a.peak_memory_bytes(), load.done());
    let descriptors = a.open_files();
    b.freeze();
    sleep(pause);
    let (grown, done) = (a.peak_memory_bytes() - before, load.done() - done_before);
    assert!(grown < GROWTH_MAX_BYTES, "{} MiB more", grown >> 20);
    assert!(a.open_files() <= descriptors + 4, "{} descriptors instead of {descriptors}", a.open_files());
    assert_eq!(role(&a), "PRIMARY");
    b.signal(Signal::CONT);
    let back = Instant::now();
    sleep(SOME_TIME);
    load.stop();
    await_role(&b, "SECONDARY");
    converge(&a, &b);
    check_at_rest([&a, &b]);
    let snapshots = a.log().matches(" snapshot_begun").count() - 1;
    let of = format!("10 stopped secondary, full write load for {} s", pause.as_secs());
    figure(&of, "changes meanwhile", done);
    figure(&of, "memory of the primary grows by (backlog 16 MiB)", format!("{:.1} MiB", grown as f64 / 1048576.0));
    figure(&of, "snapshots for the absence", snapshots);
    figure(&of, "until both are equal again", ms(back.elapsed()));
}

#[test]
#[ignore = "takes a minute: scripts/faults"]
fn a_stopped_secondary_under_load_for_a_minute() {
    stop_the_secondary_for(Duration::from_secs(60));
}

/// Programs that do nothing as fast as they can; ended when dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Self {
        let start = |_| Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        Self((0..count).map(start).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = (child.kill(), child.wait());
        }
    }
}

#[test]
#[ignore = "takes the whole machine for ten seconds: scripts/faults"]
fn eight_busy_loops() {
    const TIME: Duration = Duration::from_secs(10);
    let site = Site::on_loopback(&SAFE);
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    let busy = Busy::start(8);
    sleep(TIME);
    drop(busy);
    let rest = settle(&a, &b);
    let of = "11 eight busy loops for 10 s, safe and replicated";
    clients.finish(of, &a, &b, Kept::All);
    figure(of, "epoch afterwards (1: no failover)", epoch(&a));
    figure(of, "until both are equal again", ms(rest));
}

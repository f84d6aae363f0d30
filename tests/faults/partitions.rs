//! Networks that are cut: both ways, one way, while a node joins, while both start, ten times a second, and for good. Faults 3, 5 and 6.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::history::{Clients, Kept, check_at_rest, converge, settle};
use crate::load::fill;
use crate::site::{Name, QUICK, Site, await_role, epoch, figure, ms, role, stores, wait_until};

const SOME_TIME: Duration = Duration::from_millis(700);
/// Longer than the lease and the grace of [`QUICK`].
const CUT: Duration = Duration::from_millis(2500);

fn flags<'f>(more: &[&'f str]) -> Vec<&'f str> {
    QUICK.iter().chain(more).copied().collect()
}

/// Cuts what some of the nodes say for a while.
fn cut(of: &str, silenced: &[Name], more: &[&str]) {
    let Some(site) = Site::with_network(of, &flags(more)) else { return };
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    silenced.iter().for_each(|name| site.cut_from(*name));
    sleep(CUT);
    let roles = format!("{} and {}", role(&a), role(&b));
    site.network().heal();
    let rest = settle(&a, &b);
    sleep(SOME_TIME);
    clients.finish(of, &a, &b, if more == SAFE { Kept::All } else { Kept::WhatWasReplicated });
    figure(of, "roles at the end of it, and the epoch afterwards", format!("{roles}, {}", epoch(&a)));
    figure(of, "until both are equal again", ms(rest));
}

const SAFE: [&str; 2] = ["--on-peer-loss=safe", "--durability=replicated"];

#[test]
#[ignore = "with all the others: scripts/faults"]
fn cut_both_ways() {
    cut("3 partition both ways for 2.5 s, safe and replicated", &Name::BOTH, &SAFE);
}

#[test]
fn cut_from_the_primary() {
    cut("3 partition from the primary, safe and replicated", &[Name::A], &SAFE);
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn cut_from_the_secondary() {
    cut("3 partition from the secondary, safe and replicated", &[Name::B], &SAFE);
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn cut_both_ways_and_available() {
    cut("3 partition both ways for 2.5 s, available", &Name::BOTH, &[]);
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn cut_while_joining() {
    const STORES: u64 = 20_000;
    let of = "3 partition while joining";
    let Some(site) = Site::with_network(of, &flags(&[])) else { return };
    let a = site.start(Name::A);
    await_role(&a, "PRIMARY");
    fill(a.socket(), STORES, 1000).unwrap();
    // So that there is a middle to be met.
    site.network().slow_down("40mbit");
    let b = site.start(Name::B);
    wait_until("the joiner gets something", || stores(&b) > 0);
    Name::BOTH.iter().for_each(|name| site.cut_from(*name));
    assert_eq!(role(&b), "JOINING");
    sleep(CUT);
    assert_eq!((role(&a), role(&b)), ("PRIMARY".to_owned(), "JOINING".to_owned()), "half of the data is no data");
    site.network().heal();
    site.network().speed_up();
    let rest = converge(&a, &b);
    assert_eq!(epoch(&a), 1);
    check_at_rest([&a, &b]);
    figure(of, "until the joiner is SECONDARY, once healed", ms(rest));
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn cold_start_with_one_way_open() {
    for silenced in Name::BOTH {
        let of = format!("14 cold start while nothing that {} says arrives, safe", silenced.id());
        let Some(site) = Site::with_network(&of, &flags(&["--on-peer-loss=safe"])) else { return };
        site.cut_from(silenced);
        let (a, b) = (site.start(Name::A), site.start(Name::B));
        let clients = Clients::start(&a, &b);
        sleep(CUT);
        let roles = format!("{} and {}", role(&a), role(&b));
        assert_eq!(clients.done(), [0, 0], "without a lease nothing is changed");
        site.network().heal();
        let rest = settle(&a, &b);
        wait_until("changes are taken", || clients.done().iter().sum::<u64>() > 0);
        clients.finish(&of, &a, &b, Kept::All);
        figure(&of, "roles before it heals", roles);
        figure(&of, "until both have their roles, once healed", ms(rest));
    }
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn ten_flaps_a_second() {
    let of = "5 ten flaps a second for 5 s, safe and replicated";
    let Some(site) = Site::with_network(of, &SAFE) else { return };
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    let (used, since) = ([a.processor_time(), b.processor_time()], Instant::now());
    for _ in 0..50 {
        Name::BOTH.iter().for_each(|name| site.cut_from(*name));
        sleep(Duration::from_millis(50));
        site.network().heal();
        sleep(Duration::from_millis(30));
    }
    let lasted = since.elapsed();
    let used = (a.processor_time() - used[0]).max(b.processor_time() - used[1]);
    let rest = settle(&a, &b);
    sleep(SOME_TIME);
    clients.finish(of, &a, &b, Kept::All);
    figure(of, "epoch afterwards (1: no failover)", epoch(&a));
    figure(of, "of a core at most", format!("{:.0} %", 100.0 * used.as_secs_f64() / lasted.as_secs_f64()));
    figure(of, "until both are equal again", ms(rest));
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn a_peer_that_vanishes_without_a_packet() {
    let of = "6 the primary's host vanishes without a packet";
    let Some(site) = Site::with_network(of, &[]) else { return };
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    // Before its cable is gone: not one packet tells of its end.
    a.freeze();
    site.network().unplug(Name::A.id());
    let vanished = Instant::now();
    a.signal(Signal::KILL);
    drop(a);
    await_role(&b, "PRIMARY");
    let took = vanished.elapsed();
    sleep(SOME_TIME);
    let history = clients.stop();
    history.check_one_primary_at_a_time();
    let lost = history.lost(&b).len();
    // It dials an address that never answers, and keeps nothing of what has failed.
    let (used, descriptors) = (crate::site::idle_use(&[&b]), b.open_files());
    assert!(used < 0.25 && descriptors < 40, "{used} of a core, {descriptors} descriptors");
    figure(of, "until the other is PRIMARY", ms(took));
    figure(of, "answered changes, lost (async)", format!("{}, {lost}", history.done()));
    assert!(took < Duration::from_millis(4600) + Duration::from_secs(2), "{took:?}");
}

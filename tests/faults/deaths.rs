//! Nodes that are killed, again and again, and nodes that start where nobody is: faults 1, 13 and 14.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::history::{Clients, Kept, check_at_rest, converge, has_mark, leave_mark};
use crate::load::fill;
use crate::site::{Name, QUICK, Site, await_role, epoch, figure, ms, role, wait_until};
use crate::support::{Daemon, TempDir};

/// The load before something happens, and after.
const SOME_TIME: Duration = Duration::from_millis(700);

fn kill(node: Daemon) -> TempDir {
    node.signal(Signal::KILL);
    node.wait().1
}

#[test]
fn kill_9_of_the_primary() {
    let site = Site::on_loopback(&["--durability=replicated"]);
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    let killed = Instant::now();
    let dir = kill(a);
    await_role(&b, "PRIMARY");
    let promoted = killed.elapsed();
    let a = site.start_in(dir, Name::A);
    await_role(&a, "SECONDARY");
    let joined = killed.elapsed();
    sleep(SOME_TIME);
    let of = "1 kill -9 of the primary, replicated";
    clients.finish(of, &a, &b, Kept::All);
    assert_eq!(epoch(&b), 2);
    figure(of, "until the other is PRIMARY", ms(promoted));
    figure(of, "until the killed one is back as SECONDARY", ms(joined));
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn kill_9_of_the_secondary() {
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    let dir = kill(b);
    sleep(SOME_TIME);
    let b = site.start_in(dir, Name::B);
    await_role(&b, "SECONDARY");
    sleep(SOME_TIME);
    let of = "1 kill -9 of the secondary";
    clients.finish(of, &a, &b, Kept::All);
    assert_eq!(epoch(&a), 1, "the primary stays");
}

#[test]
fn kill_9_of_both() {
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    leave_mark(&a, "m");
    a.signal(Signal::KILL);
    let (dir_b, dir_a) = (kill(b), kill(a));
    let killed = Instant::now();
    let (a, b) = (site.start_in(dir_a, Name::A), site.start_in(dir_b, Name::B));
    converge(&a, &b);
    figure("1 kill -9 of both", "until one is PRIMARY and one SECONDARY", ms(killed.elapsed()));
    assert!(!has_mark(&a, "m") && !has_mark(&b, "m"), "what both lose is gone");
    leave_mark(&b, "n");
    converge(&a, &b);
    check_at_rest([&a, &b]);
}

/// Waits until a joiner has some of what there is and not all of it, and says whether that moment was met.
fn is_in_mid_snapshot(joiner: &Daemon, stores: u64) -> bool {
    let mut has = 0;
    wait_until("the joiner gets something", || {
        has = crate::site::stores(joiner);
        has > 0
    });
    has < stores && role(joiner) == "JOINING"
}

#[test]
fn kill_9_in_mid_snapshot() {
    const STORES: u64 = 20_000;
    const JOINERS: u32 = 3;
    let site = Site::on_loopback(&[]);
    let a = site.start(Name::A);
    await_role(&a, "PRIMARY");
    fill(a.socket(), STORES, 1000).unwrap();
    let of = "1 kill -9 in mid-snapshot";
    let mut met = 0;
    for _ in 0..JOINERS {
        let b = site.start(Name::B);
        met += u32::from(is_in_mid_snapshot(&b, STORES));
        kill(b);
        assert_eq!((role(&a), epoch(&a)), ("PRIMARY".to_owned(), 1));
    }
    let b = site.start(Name::B);
    converge(&a, &b);
    figure(of, "joiners killed, of them in the middle of it", format!("{JOINERS}, {met}"));
    kill(b);
    let b = site.start(Name::B);
    let was_met = is_in_mid_snapshot(&b, STORES);
    kill(a);
    sleep(Duration::from_millis(300));
    assert!(!was_met || role(&b) == "JOINING", "half of the data is no data");
    let a = site.start(Name::A);
    converge(&a, &b);
    figure(of, "primary killed; the joiner stays JOINING until it is back", was_met);
    check_at_rest([&a, &b]);
}

fn restarted_again_and_again(total: Duration) {
    const EVERY: Duration = Duration::from_millis(300);
    let site = Site::on_loopback(&[]);
    let (a, b) = site.start_both();
    leave_mark(&a, "m");
    // The primary of before, which is empty now.
    let mut dir = Some(kill(a));
    await_role(&b, "PRIMARY");
    let until = Instant::now() + total;
    let (mut restarts, mut roles) = (0, Vec::new());
    while Instant::now() < until {
        let a = site.start_in(dir.take().unwrap(), Name::A);
        let killed_at = Instant::now() + EVERY;
        while Instant::now() < killed_at {
            roles.push(role(&a));
            assert_eq!((role(&b), epoch(&b)), ("PRIMARY".to_owned(), 2), "{}", b.log());
            sleep(Duration::from_millis(20));
        }
        dir = Some(kill(a));
        restarts += 1;
    }
    assert!(!roles.iter().any(|role| role == "PRIMARY"), "the empty one never promotes itself");
    let a = site.start_in(dir.take().unwrap(), Name::A);
    converge(&a, &b);
    assert!(has_mark(&a, "m") && has_mark(&b, "m"));
    check_at_rest([&a, &b]);
    let of = format!("13 restarts every 300 ms, for {} s", total.as_secs());
    figure(&of, "restarts of the empty node, promotions of it", format!("{restarts}, 0"));
    figure(&of, "memory of the full one at most", format!("{} MiB", b.peak_memory_bytes() >> 20));
}

#[test]
fn restarts_every_300_ms() {
    restarted_again_and_again(Duration::from_secs(2));
}

#[test]
#[ignore = "takes a minute: scripts/faults"]
fn restarts_every_300_ms_for_a_minute() {
    restarted_again_and_again(Duration::from_secs(60));
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn cold_starts() {
    let of = "14 cold start";
    {
        let site = Site::on_loopback(&QUICK);
        let since = Instant::now();
        let (a, b) = (site.start(Name::A), site.start(Name::B));
        converge(&a, &b);
        figure(of, "both at once, until both have their roles", ms(since.elapsed()));
    }
    for first in Name::BOTH {
        let site = Site::on_loopback(&QUICK);
        let one = site.start(first);
        await_role(&one, "PRIMARY");
        let since = Instant::now();
        let other = site.start(first.other());
        converge(&one, &other);
        assert_eq!(role(&one), "PRIMARY", "who was there stays");
        figure(of, &format!("{} first, until the other is SECONDARY", first.id()), ms(since.elapsed()));
    }
    let site = Site::on_loopback(&[]);
    let since = Instant::now();
    let alone = site.start(Name::B);
    await_role(&alone, "PRIMARY");
    let took = since.elapsed();
    assert!(took >= Duration::from_secs(4), "lease and grace: {took:?}");
    figure(of, "one gone for good, until the other is PRIMARY", ms(took));
}

//! Links that are there and no good: resets, narrow ones, jitter, pieces of single bytes, turned bits. Faults 4, 5 and 15.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::history::{Clients, Kept, settle};
use crate::load::fill;

use crate::site::{Name, QUICK, Site, await_role, epoch, field, figure, leave_out, ms, role, stores, wait_until};

const SOME_TIME: Duration = Duration::from_millis(700);
/// A primary that is not heard for so long, and for the grace behind it, is taken to be gone: `--lease-duration`.
const LEASE: Duration = Duration::from_secs(2);

#[test]
fn resets() {
    let of = "4 resets of the established link, six in 2 s";
    let Some(site) = Site::with_network(of, &[]) else { return };
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    let mut longest = Duration::ZERO;
    for round in 0..6 {
        let begun = Instant::now();
        site.reset_from([Name::A, Name::B][round % 2]);
        sleep(Duration::from_millis(30));
        site.network().heal();
        longest = longest.max(begun.elapsed());
        sleep(Duration::from_millis(270));
    }
    let rest = settle(&a, &b);
    clients.finish(of, &a, &b, Kept::All);
    // On a machine that has no time for nft, what is meant to be a reset is a cut of seconds, after which the other node rightly takes over.
    assert!(epoch(&a) == 1 || longest > LEASE, "a reset alone proves nothing: {}", b.log());
    figure(of, "longest of the resets", ms(longest));
    figure(of, "epoch afterwards (1: no failover)", epoch(&a));
    figure(of, "connections that ended, at b", field(&b, "replication_fail_count").unwrap_or_default());
    figure(of, "until both are equal again", ms(rest));
}

/// The ends of the established connections of an address: both ports of each.
fn connections_of(ip: Ipv4Addr) -> Vec<(Ipv4Addr, u16, Ipv4Addr, u16)> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let end = |text: &str| -> Option<(Ipv4Addr, u16)> {
        let (ip, port) = text.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?;
        Some((Ipv4Addr::from(ip.to_le_bytes()), u16::from_str_radix(port, 16).ok()?))
    };
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ((here, port), (there, other)) = (end(fields.get(1)?)?, end(fields.get(2)?)?);
        (fields.get(3) == Some(&"01") && here == ip).then_some((here, port, there, other))
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// A segment with nothing but RST set, as its checksum wants it.
fn reset_segment((from, from_port, to, to_port): (Ipv4Addr, u16, Ipv4Addr, u16), sequence: u32) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&from_port.to_be_bytes());
    segment[2..4].copy_from_slice(&to_port.to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 4;
    let mut words: Vec<u8> = [from.octets(), to.octets()].concat();
    words.extend([0, 6, 0, 20]);
    words.extend(segment);
    let mut sum: u32 = words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    segment
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn a_storm_of_forged_resets() {
    use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket};
    const RESETS: u32 = 200_000;
    let of = "4 a storm of forged resets";
    let site = Site::on_loopback(&[]);
    let Ok(raw) = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP)) else {
        return leave_out(of, "it needs the superuser");
    };
    let (a, b) = site.start_both();
    let ip: Ipv4Addr = site.tcp(Name::A).split(':').next().unwrap().parse().unwrap();
    let connections = connections_of(ip);
    assert!(!connections.is_empty(), "they are connected");
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    let since = Instant::now();
    bind(&raw, &std::net::SocketAddrV4::new(ip, 0)).unwrap();
    let mut sequence = 1_u32;
    for index in 0..RESETS {
        let connection = connections[index as usize % connections.len()];
        sequence = sequence.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let to = std::net::SocketAddrV4::new(connection.2, 0);
        sendto(&raw, &reset_segment(connection, sequence), SendFlags::empty(), &to).unwrap();
    }
    let lasted = since.elapsed();
    settle(&a, &b);
    clients.finish(of, &a, &b, Kept::All);
    assert_eq!(epoch(&a), 1, "a reset alone proves nothing: {}", b.log());
    figure(of, "segments, in", format!("{RESETS}, {}", ms(lasted)));
    figure(of, "connections that ended, at b", field(&b, "replication_fail_count").unwrap_or_default());
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn a_link_of_1_mbit_a_second() {
    let of = "5 a link of 1 Mbit/s, replicated, for 5 s";
    let Some(site) = Site::with_network(of, &["--durability=replicated"]) else { return };
    let (a, b) = site.start_both();
    site.network().slow_down("1mbit");
    let clients = Clients::start(&a, &b);
    sleep(Duration::from_secs(5));
    assert_eq!((epoch(&a), epoch(&b)), (1, 1), "a slow link is no dead one: {}", b.log());
    let rest = clients.finish(of, &a, &b, Kept::All);
    figure(of, "until both are equal again", ms(rest));
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn a_link_of_64_kbit_a_second_in_mid_snapshot() {
    const STORES: u64 = 20_000;
    let of = "5 a link of 64 kbit/s in mid-snapshot, for 6 s";
    let Some(site) = Site::with_network(of, &[]) else { return };
    let a = site.start(Name::A);
    await_role(&a, "PRIMARY");
    fill(a.socket(), STORES, 1000).unwrap();
    site.network().slow_down("40mbit");
    let b = site.start(Name::B);
    wait_until("the joiner gets something", || stores(&b) > 0);
    site.network().slow_down("64kbit");
    let clients = Clients::start(&a, &b);
    sleep(Duration::from_secs(6));
    assert_eq!((role(&a), epoch(&a)), ("PRIMARY".to_owned(), 1));
    assert_eq!(role(&b), "JOINING", "half of the data is no data");
    let at_a = clients.done()[0];
    assert!(at_a > 100, "the primary goes on: {at_a}");
    site.network().speed_up();
    let rest = settle(&a, &b);
    clients.finish(of, &a, &b, Kept::All);
    figure(of, "changes through the primary meanwhile", at_a);
    figure(of, "memory of the primary at most", format!("{} MiB", a.peak_memory_bytes() >> 20));
    figure(of, "until the joiner is SECONDARY, once it is fast", ms(rest));
}

/// Something is done to all that passes, and then no more.
fn through_proxies(
    of: &str,
    time: Duration,
    change: impl Fn(&crate::proxy::Faults),
    undo: impl Fn(&crate::proxy::Faults),
) {
    let flags: Vec<&str> = QUICK.iter().copied().chain(["--on-peer-loss=safe", "--durability=replicated"]).collect();
    let site = Site::with_proxies(&flags);
    let (a, b) = site.start_both();
    let clients = Clients::start(&a, &b);
    sleep(SOME_TIME);
    Name::BOTH.iter().for_each(|name| change(&site.proxy_of(*name).faults));
    sleep(time);
    Name::BOTH.iter().for_each(|name| undo(&site.proxy_of(*name).faults));
    let rest = settle(&a, &b);
    sleep(SOME_TIME);
    clients.finish(of, &a, &b, Kept::All);
    let flipped: u64 = Name::BOTH.iter().map(|name| site.proxy_of(*name).faults.flipped.load(Ordering::Relaxed)).sum();
    if flipped > 0 {
        figure(of, "turned bits", flipped);
        assert!(a.log().contains("why=Altered") || b.log().contains("why=Altered"), "it is noticed: {}", a.log());
    }
    figure(of, "epoch afterwards", epoch(&a));
    figure(of, "until both are equal again", ms(rest));
}

#[test]
fn turned_bits() {
    through_proxies(
        "9 one bit of 20 kB turned, for 3 s",
        Duration::from_secs(3),
        |faults| faults.flip_every_bytes.store(20_000, Ordering::Relaxed),
        |faults| faults.flip_every_bytes.store(0, Ordering::Relaxed),
    );
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn jitter() {
    through_proxies(
        "5 jitter of up to 40 ms, for 3 s",
        Duration::from_secs(3),
        |faults| faults.delay_us.store(20_000, Ordering::Relaxed),
        |faults| faults.delay_us.store(0, Ordering::Relaxed),
    );
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn pieces_of_single_bytes() {
    through_proxies(
        "15 short reads: pieces of 1 to 3 bytes, for 3 s",
        Duration::from_secs(3),
        |faults| faults.piece_bytes.store(3, Ordering::Relaxed),
        |faults| faults.piece_bytes.store(0, Ordering::Relaxed),
    );
}

#[test]
fn half_open() {
    through_proxies(
        "6 half-open: nothing passes and nobody is told, for 2.5 s",
        Duration::from_millis(2500),
        |faults| faults.stalled.store(true, Ordering::Relaxed),
        |faults| faults.stalled.store(false, Ordering::Relaxed),
    );
}

#[test]
#[ignore = "with all the others: scripts/faults"]
fn connections_that_end_at_once() {
    through_proxies(
        "4 every connection ends at once, for 2.5 s",
        Duration::from_millis(2500),
        |faults| faults.closed.store(true, Ordering::Relaxed),
        |faults| faults.closed.store(false, Ordering::Relaxed),
    );
}

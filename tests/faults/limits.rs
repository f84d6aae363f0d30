//! Too few descriptors: fault 8.

use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::history::{check_at_rest, converge, leave_mark};
use crate::pair::metric;
use crate::site::{Name, Site, await_role, epoch, figure, leave_out, ms};
use crate::support::{TempDir, has_tool};

#[test]
#[ignore = "with all the others: scripts/faults"]
fn descriptors_64_and_200_clients() {
    let of = "8 64 descriptors and 200 clients";
    if !has_tool("prlimit") {
        return leave_out(of, "prlimit is missing");
    }
    let site = Site::on_loopback(&[]);
    let a = site.start_under(TempDir::new(), Name::A, &["prlimit", "--nofile=64", "--"]);
    let b = site.start(Name::B);
    await_role(&a, "PRIMARY");
    await_role(&b, "SECONDARY");
    let clients: Vec<UnixStream> = (0..200).filter_map(|_| UnixStream::connect(a.socket()).ok()).collect();
    sleep(Duration::from_millis(500));
    let (used, since) = (a.processor_time(), Instant::now());
    // More than one lease and grace.
    sleep(Duration::from_secs(5));
    let used = (a.processor_time() - used).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(used < 0.25, "it spins: {used} of a core");
    assert_eq!(epoch(&b), 1, "the link lives: {}", b.log());
    assert_eq!(metric(&b, "bbd_peer_up{peer=\"a\"}"), 1.0, "the link lives: {}", b.log());
    leave_mark(&b, "m");
    let descriptors = a.open_files();
    assert!(descriptors <= 64);
    drop(clients);
    let gone = Instant::now();
    leave_mark(&a, "n");
    let recovered = gone.elapsed();
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
    converge(&a, &b);
    check_at_rest([&a, &b]);
    figure(of, "of a core", format!("{:.1} %", 100.0 * used));
    figure(of, "descriptors of the node", descriptors);
    figure(of, "until it serves again, once they are gone", ms(recovered));
}

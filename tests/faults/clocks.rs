//! Wall clocks that are set: fault 7. The nodes ask libc for the time here, and libfaketime answers; the clock of the machine stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::history::{Clients, Kept, converge};
use crate::pair::{put, read, request};
use crate::site::{Name, Site, epoch, figure, leave_out};
use crate::support::{Daemon, TempDir};

const LIBFAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

/// What a node believes that the date is.
fn date(node: &Daemon) -> String {
    read(node, "none").header("Date").unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs a daemon whose clocks can be set: scripts/faults"]
fn a_wall_clock_an_hour_ahead_and_an_hour_back() {
    let of = "7 the primary's wall clock an hour ahead, then an hour back";
    let Some(program) = std::env::var_os("BBD_LIBC_CLOCKS").map(PathBuf::from) else {
        return leave_out(of, "BBD_LIBC_CLOCKS names no daemon whose clocks can be set");
    };
    let Some(library) = LIBFAKETIME.iter().find(|path| Path::new(path).exists()) else {
        return leave_out(of, "libfaketime is missing");
    };
    let site = Site::on_loopback(&["--no-sandbox", "--on-peer-loss=safe"]);
    let dir = TempDir::new();
    let offset = dir.path().join("offset");
    fs::write(&offset, "+0").unwrap();
    let preload = format!("LD_PRELOAD={library}");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", offset.display());
    let wrapper = ["env", &preload, &file, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"];
    let a = site.start_program_under(dir, Name::A, &wrapper, Some(program.as_os_str()));
    let b = site.start(Name::B);
    converge(&a, &b);
    put(&a, "long", "kept");
    let short = a.ask(&request("PUT", "/api/v1/named/short", "BigBunny-Not-Valid-After: 60\r\n", "kept"));
    assert_eq!(short.status, 201);
    let before = date(&a);
    let clients = Clients::start(&a, &b);
    let mut dates = Vec::new();
    for set_to in ["+3600s", "-3600s", "+0"] {
        fs::write(&offset, set_to).unwrap();
        sleep(Duration::from_secs(2));
        dates.push(date(&a));
        assert_eq!((&*read(&a, "long").body, &*read(&a, "short").body), (&b"kept"[..], &b"kept"[..]));
    }
    clients.finish(of, &a, &b, Kept::All);
    assert_ne!(before[..19], dates[0][..19], "the clock was set: {before}, {dates:?}");
    assert_ne!(dates[0][..19], dates[1][..19], "the clock was set: {before}, {dates:?}");
    assert_eq!(epoch(&a), 1, "{}", b.log());
    figure(of, "its dates", dates.join("; "));
    figure(of, "epoch afterwards (1: no failover)", epoch(&a));
}

//! Owns the conversation with the service manager (sd_notify(3)): readiness, what the node is, stopping, and that the loop still
//! turns. Nothing here waits for it: what its socket has no room for is sent with a later turn, or not at all.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::time::Instant;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// What it has not been told yet. Of several states of one kind it is told the last.
    ready: bool,
    stopping: bool,
    status: Option<String>,
    watchdog: Option<Watchdog>,
}

/// How often the service manager wants to hear that the loop turns.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    due: Instant,
}

impl ServiceManager {
    /// The one that the environment names. One that cannot be reached is as good as none: a daemon must not fall over its
    /// supervisor.
    pub(super) fn from_env(now: Instant) -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|address| connect(&address).ok());
        let interval = watchdog_interval(|name| env::var(name).ok()).filter(|_| socket.is_some());
        let watchdog = interval.map(|interval| Watchdog { interval, due: now + interval });
        Self { socket, watchdog, ..Self::default() }
    }

    /// Requests are answered from here on.
    pub(super) fn is_ready(&mut self, status: String) {
        self.ready = true;
        self.is_now(status);
    }

    /// What the node is now, for the line that `systemctl status` shows.
    pub(super) fn is_now(&mut self, status: String) {
        self.status = Some(status);
        self.send();
    }

    /// A clean stop has begun.
    pub(super) fn is_stopping(&mut self) {
        self.stopping = true;
        self.send();
    }

    /// Tells that the loop turns, if that is due, and what could not be told before.
    pub(super) fn on_end_of_turn(&mut self, now: Instant) {
        if self.ready || self.stopping || self.status.is_some() {
            self.send();
        }
        if let (Some(socket), Some(watchdog)) = (&self.socket, &mut self.watchdog)
            && watchdog.due <= now
        {
            // If there is no room now, there may be when half of its patience is left.
            let _ = socket.send(b"WATCHDOG=1\n");
            watchdog.due = now + watchdog.interval;
        }
    }

    /// When the next turn is due for it. What could not be told waits for the turns that come anyway, one a second at least.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Tells what is to be told, in one message, so that READY never comes before the state that goes with it.
    fn send(&mut self) {
        let mut message = String::new();
        for (is_true, line) in [(self.ready, "READY=1\n"), (self.stopping, "STOPPING=1\n")] {
            message.push_str(if is_true { line } else { "" });
        }
        if let Some(status) = &self.status {
            message.push_str(&format!("STATUS={status}\n"));
        }
        let sent = self.socket.as_ref().map_or(Ok(0), |socket| socket.send(message.as_bytes()));
        if !sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            (self.ready, self.stopping, self.status) = (false, false, None);
        }
    }
}

/// A socket for `NOTIFY_SOCKET`: a path, or a name in the abstract namespace behind an `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // The manager's queue has room for a few messages, and if it hangs, sending would wait for it.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How often the watchdog is to be fed: twice as often as `WATCHDOG_USEC` asks, if that is meant for this process
/// (sd_watchdog_enabled(3)).
fn watchdog_interval(env: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let microseconds = env("WATCHDOG_USEC")?.parse::<u64>().ok()?;
    let is_ours = env("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    Some(Duration::from_micros(microseconds / 2)).filter(|interval| is_ours && !interval.is_zero())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const NOW: Instant = Instant::from_millis(1_000_000);

    fn manager_of(socket: UnixDatagram) -> ServiceManager {
        socket.set_nonblocking(true).unwrap();
        let watchdog = Some(Watchdog { interval: Duration::from_secs(1), due: NOW });
        ServiceManager { socket: Some(socket), watchdog, ..ServiceManager::default() }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn what_finds_no_room_is_told_later_and_nobody_waits_for_it() {
        let (theirs, ours) = UnixDatagram::pair().unwrap();
        let fill = ours.try_clone().unwrap();
        let mut manager = manager_of(ours);
        let mut filled = 0;
        while fill.send(b"x").is_ok() {
            filled += 1;
        }
        manager.is_ready("JOINING".to_owned());
        manager.is_now("PRIMARY".to_owned());
        manager.on_end_of_turn(NOW);
        for _ in 0..filled {
            assert_eq!(received(&theirs), "x");
        }
        manager.on_end_of_turn(NOW);
        assert_eq!(received(&theirs), "READY=1\nSTATUS=PRIMARY\n", "the newest state, once");
        theirs.set_nonblocking(true).unwrap();
        assert!(theirs.recv(&mut [0; 8]).is_err(), "nothing is told twice, and the watchdog has its own time");
        manager.is_stopping();
        manager.on_end_of_turn(NOW + Duration::from_secs(1));
        assert_eq!((received(&theirs), received(&theirs)), ("STOPPING=1\n".to_owned(), "WATCHDOG=1\n".to_owned()));
    }

    #[test]
    fn names_in_the_abstract_namespace_are_reached() {
        let name = format!("bbd-notify-{}", std::process::id());
        let theirs = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut manager = manager_of(connect(OsStr::new(&format!("@{name}"))).unwrap());
        manager.is_ready("PRIMARY".to_owned());
        assert_eq!(received(&theirs), "READY=1\nSTATUS=PRIMARY\n");
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        let env = |usec: &str, pid: Option<&str>| {
            let (usec, pid) = (usec.to_owned(), pid.map(str::to_owned));
            watchdog_interval(move |name| if name == "WATCHDOG_USEC" { Some(usec.clone()) } else { pid.clone() })
        };
        assert_eq!(env("200000", Some(&own)), Some(Duration::from_millis(100)));
        assert_eq!(env("200000", None), Some(Duration::from_millis(100)));
        assert_eq!((env("200000", Some("1")), env("0", None), env("soon", None)), (None, None, None));
    }
}

//! Two daemons in one of three surroundings: the loopback interface, proxies of the test between them, or a network of their own.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::load::get;
use crate::network::Network;
use crate::pair::address;
use crate::proxy::Proxy;
use crate::support::{Daemon, TempDir};

/// How long two nodes may take to be what they should be, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Times at which a failover takes a second, so that a test need not take minutes.
pub(crate) const QUICK: [&str; 3] = ["--heartbeat-interval=100ms", "--lease=500ms", "--grace=500ms"];
/// Where tools are, for commands whose environment is empty.
pub(crate) const TOOLS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Which of the two. At the start `A` becomes primary, for its host id is the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    A,
    B,
}

impl Name {
    pub(crate) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Prints one figure, for the table that `scripts/faults` makes.
pub(crate) fn figure(of: &str, what: &str, value: impl std::fmt::Display) {
    // Not through the test harness, which keeps what passing tests print.
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "\nfigure|{of}|{what}|{value}");
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// Says plainly what is not tested here.
pub(crate) fn leave_out(what: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "\nleft out: {what}: {why}");
}

/// Held for the whole of a test: the next one waits for it.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where two nodes live, and the flags that they share.
pub(crate) struct Site {
    flags: Vec<String>,
    own: [String; 2],
    /// Where each finds the other.
    others: [String; 2],
    network: Option<Network>,
    proxies: Option<[Proxy; 2]>,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    pub(crate) fn on_loopback(flags: &[&str]) -> Self {
        let alone = alone();
        let own = [address(), address()];
        let others = [own[1].clone(), own[0].clone()];
        Self { flags: owned(flags), own, others, network: None, proxies: None, _alone: alone }
    }

    /// Every byte between the two goes through the test.
    pub(crate) fn with_proxies(flags: &[&str]) -> Self {
        let alone = alone();
        let own = [address(), address()];
        let proxies = [Proxy::start(address(), own[1].clone()), Proxy::start(address(), own[0].clone())];
        let others = [proxies[0].address().to_owned(), proxies[1].address().to_owned()];
        Self { flags: owned(flags), own, others, network: None, proxies: Some(proxies), _alone: alone }
    }

    /// Each has a network namespace. Nothing if this cannot be had here, which is said.
    pub(crate) fn with_network(what: &str, flags: &[&str]) -> Option<Self> {
        let alone = alone();
        let network = match Network::new(&["a", "b"]) {
            Ok(network) => network,
            Err(why) => {
                leave_out(what, &why);
                return None;
            }
        };
        let own = Name::BOTH.map(|name| format!("{}:8080", network.address(name.id())));
        let others = [own[1].clone(), own[0].clone()];
        Some(Self { flags: owned(flags), own, others, network: Some(network), proxies: None, _alone: alone })
    }

    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("made with a network")
    }

    /// Nothing that this node sends arrives.
    pub(crate) fn cut_from(&self, name: Name) {
        self.network().cut(name.id(), name.other().id());
    }

    /// What this node sends on a connection that is up is answered by a reset.
    pub(crate) fn reset_from(&self, name: Name) {
        self.network().reset(name.id(), name.other().id());
    }

    /// What `name` says, and what it is answered, goes through this.
    pub(crate) fn proxy_of(&self, name: Name) -> &Proxy {
        &self.proxies.as_ref().expect("made with proxies")[name as usize]
    }

    pub(crate) fn tcp(&self, name: Name) -> &str {
        &self.own[name as usize]
    }

    pub(crate) fn start(&self, name: Name) -> Daemon {
        self.start_in(TempDir::new(), name)
    }

    pub(crate) fn start_in(&self, dir: TempDir, name: Name) -> Daemon {
        self.start_under(dir, name, &[])
    }

    /// Starts a node as the last words of another command: `prlimit`, `strace`.
    pub(crate) fn start_under(&self, dir: TempDir, name: Name, wrapper: &[&str]) -> Daemon {
        self.start_program_under(dir, name, wrapper, None)
    }

    /// The same with another program than the one that was built for the tests.
    pub(crate) fn start_program_under(
        &self,
        dir: TempDir,
        name: Name,
        wrapper: &[&str],
        program: Option<&OsStr>,
    ) -> Daemon {
        let plain = Daemon::command_in(&dir);
        let mut words: Vec<&OsStr> = Vec::new();
        let namespace = self.network.as_ref().map(|network| network.namespace(name.id()));
        if let Some(namespace) = &namespace {
            words.extend(["ip", "netns", "exec", namespace].map(OsStr::new));
        }
        words.extend(wrapper.iter().map(OsStr::new));
        words.push(program.unwrap_or(plain.get_program()));
        words.extend(plain.get_args());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().env("PATH", TOOLS);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(Daemon::log_in(&dir));
        command.args([format!("--host-id={}", name.id()), format!("--tcp={}", self.own[name as usize])]);
        command.arg(format!("--peers={}@{}", name.other().id(), self.others[name as usize]));
        command.arg("--rate-limit=0").args(&self.flags);
        Daemon::run(dir, command)
    }

    /// Starts both and waits until the second follows the first.
    pub(crate) fn start_both(&self) -> (Daemon, Daemon) {
        let (a, b) = (self.start(Name::A), self.start(Name::B));
        await_role(&a, "PRIMARY");
        await_role(&b, "SECONDARY");
        (a, b)
    }
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|&flag| flag.to_owned()).collect()
}

/// A field of `/status`, if the node answers.
pub(crate) fn field(node: &Daemon, name: &str) -> Option<String> {
    let page = get(node.socket(), "/status").ok()?;
    let (_, behind) = page.split_once(&format!("\"{name}\":"))?;
    let end = behind.find([',', '}'])?;
    Some(behind[..end].trim_matches(['"', '{']).to_owned())
}

/// How many stores a node holds.
pub(crate) fn stores(node: &Daemon) -> u64 {
    let page = get(node.socket(), "/metrics").unwrap_or_default();
    let stores = page.lines().find_map(|line| line.strip_prefix("bbd_stores ")?.parse().ok());
    stores.unwrap_or(0)
}

pub(crate) fn role(node: &Daemon) -> String {
    field(node, "role").unwrap_or_default()
}

pub(crate) fn epoch(node: &Daemon) -> u32 {
    field(node, "leader_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

/// Waits until it holds, and says how long that took.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(2));
    }
    since.elapsed()
}

pub(crate) fn await_role(node: &Daemon, expected: &str) -> Duration {
    let since = Instant::now();
    while role(node) != expected {
        assert!(since.elapsed() < PATIENCE, "never {expected}: {}", node.log());
        sleep(Duration::from_millis(2));
    }
    since.elapsed()
}

/// What a process uses while nothing happens to it: a loop that spins would use all of a core.
pub(crate) fn idle_use(nodes: &[&Daemon]) -> f64 {
    const WATCHED: Duration = Duration::from_secs(1);
    let before: Vec<Duration> = nodes.iter().map(|node| node.processor_time()).collect();
    sleep(WATCHED);
    let used = nodes.iter().zip(before).map(|(node, before)| node.processor_time() - before).max();
    used.unwrap_or_default().as_secs_f64() / WATCHED.as_secs_f64()
}

//! Two real daemons on this machine, with a network of their own if one is asked for, and what can befall them.

use std::error::Error;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::load::get;

/// Anything may go wrong here, and nothing of it can be helped.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// How many sites there were.
static SITES: AtomicU32 = AtomicU32::new(0);
/// How long a node may take to be what it should be.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a node is asked what it is.
const POLL: Duration = Duration::from_millis(5);

/// Which of the two. At the start `A` becomes primary, for its host id is the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    A,
    B,
}

impl Name {
    const fn id(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Node {
    pub(crate) fn signal(&self, signal: Signal) -> Fallible<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    pub(crate) fn wait(&mut self) -> Fallible<()> {
        self.child.wait()?;
        Ok(())
    }

    /// A field of `/status`.
    pub(crate) fn status(&self, field: &str) -> Option<String> {
        let json = get(&self.socket, "/status").ok()?;
        let (_, rest) = json.split_once(&format!("\"{field}\":"))?;
        let end = rest.find([',', '}'])?;
        Some(rest[..end].trim_matches('"').to_owned())
    }

    /// A metric without labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = get(&self.socket, "/metrics").ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until it has this role.
    pub(crate) fn await_role(&mut self, role: &str) -> Fallible<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.status("role").as_deref() != Some(role) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("a node ended with {status} before it was {role}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("a node did not become {role} within {PATIENCE:?}").into());
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// The memory that it has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> Fallible<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where two nodes live: a folder, addresses, and the flags that they share.
pub(crate) struct Site {
    bbd: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    addresses: [String; 2],
    network: Option<Network>,
}

impl Site {
    /// One whose nodes speak over the loopback interface.
    pub(crate) fn on_loopback(bbd: &Path, flags: &[&str]) -> Fallible<Self> {
        // Both are held until both are known, so that they differ.
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let ports = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
        Self::new(bbd, flags, ports.map(|port| format!("127.0.0.1:{port}")), None)
    }

    /// One whose nodes live in network namespaces of their own, joined by a switch. Needs the superuser.
    pub(crate) fn with_network(bbd: &Path, flags: &[&str]) -> Fallible<Self> {
        let network = Network::new()?;
        let addresses = [Name::A, Name::B].map(|name| format!("{}:8080", Network::address(name)));
        Self::new(bbd, flags, addresses, Some(network))
    }

    fn new(bbd: &Path, flags: &[&str], addresses: [String; 2], network: Option<Network>) -> Fallible<Self> {
        let folder = folder().join(SITES.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&folder)?;
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Ok(Self { bbd: bbd.to_owned(), folder, flags, addresses, network })
    }

    /// Starts a node that has a peer.
    pub(crate) fn start(&self, name: Name) -> Fallible<Node> {
        let [own, other] = if name == Name::A { [0, 1] } else { [1, 0] };
        let tcp = format!("--tcp={}", self.addresses[own]);
        let peers = format!("--peers={}@{}", name.other().id(), self.addresses[other]);
        self.spawn(name, &[tcp, peers])
    }

    /// Starts a node that has none.
    pub(crate) fn start_single(&self) -> Fallible<Node> {
        let mut node = self.spawn(Name::A, &[])?;
        node.await_role("PRIMARY")?;
        Ok(node)
    }

    /// Starts both and waits until the second follows the first.
    pub(crate) fn start_both(&self) -> Fallible<(Node, Node)> {
        let (mut a, mut b) = (self.start(Name::A)?, self.start(Name::B)?);
        a.await_role("PRIMARY")?;
        b.await_role("SECONDARY")?;
        Ok((a, b))
    }

    fn spawn(&self, name: Name, flags: &[String]) -> Fallible<Node> {
        let socket = self.folder.join(format!("{}.sock", name.id()));
        let mut command = match &self.network {
            Some(network) => network.command(name, &self.bbd),
            None => Command::new(&self.bbd),
        };
        command.args(["--dev", "--rate-limit=0", "--host-id", name.id(), "--uds"]).arg(&socket);
        let log = File::options().create(true).append(true).open(self.folder.join(format!("{}.log", name.id())))?;
        command.args(flags).args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Node { child: command.spawn()?, socket })
    }

    /// From here on nothing that a node sends arrives, and it is not told.
    pub(crate) fn cut(&self, name: Name) -> Fallible<()> {
        self.network.as_ref().ok_or("there is no network to cut")?.cut(name)
    }
}

/// Three network namespaces: one for each node, and one with a switch between them.
struct Network(u32);

impl Network {
    fn new() -> Fallible<Self> {
        let network = Self(std::process::id());
        let switch = network.namespace("switch");
        run(&format!("ip netns add {switch}"))?;
        run(&format!("ip -n {switch} link add switch type bridge"))?;
        run(&format!("ip -n {switch} link set switch up"))?;
        for name in [Name::A, Name::B] {
            let (id, space, address) = (name.id(), network.namespace(name.id()), Self::address(name));
            run(&format!("ip netns add {space}"))?;
            run(&format!("ip -n {switch} link add port-{id} type veth peer name uplink netns {space}"))?;
            run(&format!("ip -n {switch} link set port-{id} master switch up"))?;
            run(&format!("ip -n {space} address add {address}/24 dev uplink"))?;
            run(&format!("ip -n {space} link set lo up"))?;
            run(&format!("ip -n {space} link set uplink up"))?;
        }
        Ok(network)
    }

    const fn address(name: Name) -> &'static str {
        match name {
            Name::A => "10.77.0.1",
            Name::B => "10.77.0.2",
        }
    }

    fn namespace(&self, what: &str) -> String {
        format!("bbd-{}-{what}", self.0)
    }

    fn command(&self, name: Name, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name.id())]).arg(program);
        command
    }

    /// The port leaves the switch: both ends of its cable stay up, as when a host falls silent.
    fn cut(&self, name: Name) -> Fallible<()> {
        run(&format!("ip -n {} link set port-{} nomaster", self.namespace("switch"), name.id()))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for what in ["a", "b", "switch"] {
            let _ = run(&format!("ip netns del {}", self.namespace(what)));
        }
    }
}

/// Where the sockets and the logs of all sites are.
pub(crate) fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("bbd-failover-{}", std::process::id()))
}

/// Removes all of it, if there is any.
pub(crate) fn remove_folder() {
    let _ = fs::remove_dir_all(folder());
}

/// Runs a command whose words hold no spaces.
fn run(command: &str) -> Fallible<()> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

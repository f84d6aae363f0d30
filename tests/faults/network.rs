//! A network of namespaces: one for each node, and one with a switch between them. It can be cut, slowed down and made to reset.

use std::process::Command;

/// The namespaces are removed when this is dropped; the programs in them are not ended by that.
pub(crate) struct Network {
    nodes: &'static [&'static str],
}

impl Network {
    /// # Errors
    ///
    /// What is missing here: the superuser, or a tool.
    pub(crate) fn new(nodes: &'static [&'static str]) -> Result<Self, String> {
        for tool in ["ip", "nft", "tc"] {
            if Command::new(tool).arg("-V").output().is_err() {
                return Err(format!("{tool} is missing"));
            }
        }
        let network = Self { nodes };
        let switch = network.namespace("switch");
        try_to_run(&format!("ip netns add {switch}"))?;
        run(&format!("ip -n {switch} link add switch type bridge"));
        run(&format!("ip -n {switch} link set switch up"));
        for &id in nodes {
            let (space, address) = (network.namespace(id), network.address(id));
            run(&format!("ip netns add {space}"));
            run(&format!("ip -n {switch} link add port-{id} type veth peer name uplink netns {space}"));
            run(&format!("ip -n {switch} link set port-{id} master switch up"));
            run(&format!("ip -n {space} address add {address}/24 dev uplink"));
            run(&format!("ip -n {space} link set lo up"));
            run(&format!("ip -n {space} link set uplink up"));
            run(&format!("ip netns exec {space} nft add table inet faults"));
            run(&format!(
                "ip netns exec {space} nft add chain inet faults input {{ type filter hook input priority 0 ; }}"
            ));
        }
        Ok(network)
    }

    pub(crate) fn address(&self, node: &str) -> String {
        let place = self.nodes.iter().position(|other| *other == node).expect("one of this network");
        format!("10.77.0.{}", place + 1)
    }

    pub(crate) fn namespace(&self, what: &str) -> String {
        format!("bbd-faults-{}-{what}", std::process::id())
    }

    fn nft(&self, node: &str, command: &str) {
        run(&format!("ip netns exec {} nft {command}", self.namespace(node)));
    }

    /// Nothing that `from` sends arrives at `to`.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.nft(to, &format!("add rule inet faults input ip saddr {} drop", self.address(from)));
    }

    /// What `from` sends to `to` on a connection that is up is answered by a reset.
    pub(crate) fn reset(&self, from: &str, to: &str) {
        let what = format!("ip saddr {} tcp flags & ( syn | rst ) == 0", self.address(from));
        self.nft(to, &format!("add rule inet faults input {what} reject with tcp reset"));
    }

    /// Ends [`Self::cut`] and [`Self::reset`].
    pub(crate) fn heal(&self) {
        for node in self.nodes {
            self.nft(node, "flush chain inet faults input");
        }
    }

    /// What each node sends goes no faster than this, for example `1mbit`.
    pub(crate) fn slow_down(&self, rate: &str) {
        for node in self.nodes {
            let space = self.namespace(node);
            run(&format!(
                "ip netns exec {space} tc qdisc replace dev uplink root tbf rate {rate} burst 4kb latency 400ms"
            ));
        }
    }

    /// Ends [`Self::slow_down`].
    pub(crate) fn speed_up(&self) {
        for node in self.nodes {
            run(&format!("ip netns exec {} tc qdisc del dev uplink root", self.namespace(node)));
        }
    }

    /// The node's cable is gone, at both ends: nothing comes and nothing goes, and nobody is told.
    pub(crate) fn unplug(&self, node: &str) {
        run(&format!("ip -n {} link del port-{node}", self.namespace("switch")));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for what in self.nodes.iter().chain(&["switch"]) {
            let _ = try_to_run(&format!("ip netns del {}", self.namespace(what)));
        }
    }
}

/// Runs a command whose words hold no spaces.
fn try_to_run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn run(command: &str) {
    try_to_run(command).unwrap_or_else(|why| panic!("{why}"));
}

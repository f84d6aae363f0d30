//! A network of three namespaces: one for each node, and one with a switch between them. It can be cut, slowed down and made to reset.

use std::process::Command;

use crate::site::Name;

/// The namespaces are removed when this is dropped; the programs in them are not ended by that.
pub(crate) struct Network(());

impl Network {
    /// # Errors
    ///
    /// What is missing here: the superuser, or a tool.
    pub(crate) fn new() -> Result<Self, String> {
        for tool in ["ip", "nft", "tc"] {
            if Command::new(tool).arg("-V").output().is_err() {
                return Err(format!("{tool} is missing"));
            }
        }
        let network = Self(());
        let switch = network.namespace("switch");
        try_to_run(&format!("ip netns add {switch}"))?;
        run(&format!("ip -n {switch} link add switch type bridge"));
        run(&format!("ip -n {switch} link set switch up"));
        for name in Name::BOTH {
            let (id, space, address) = (name.id(), network.namespace(name.id()), Self::address(name));
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

    pub(crate) const fn address(name: Name) -> &'static str {
        match name {
            Name::A => "10.77.0.1",
            Name::B => "10.77.0.2",
        }
    }

    pub(crate) fn namespace(&self, what: &str) -> String {
        format!("bbd-faults-{}-{what}", std::process::id())
    }

    fn nft(&self, name: Name, command: &str) {
        run(&format!("ip netns exec {} nft {command}", self.namespace(name.id())));
    }

    /// Nothing that this node sends arrives.
    pub(crate) fn cut_from(&self, name: Name) {
        self.nft(name.other(), "add rule inet faults input iif uplink drop");
    }

    /// What this node sends on a connection that is up is answered by a reset.
    pub(crate) fn reset_from(&self, name: Name) {
        self.nft(name.other(), "add rule inet faults input tcp flags & ( syn | rst ) == 0 reject with tcp reset");
    }

    /// Ends [`Self::cut_from`] and [`Self::reset_from`].
    pub(crate) fn heal(&self) {
        for name in Name::BOTH {
            self.nft(name, "flush chain inet faults input");
        }
    }

    /// What each node sends goes no faster than this, for example `1mbit`.
    pub(crate) fn slow_down(&self, rate: &str) {
        for name in Name::BOTH {
            let space = self.namespace(name.id());
            run(&format!(
                "ip netns exec {space} tc qdisc replace dev uplink root tbf rate {rate} burst 4kb latency 400ms"
            ));
        }
    }

    /// Ends [`Self::slow_down`].
    pub(crate) fn speed_up(&self) {
        for name in Name::BOTH {
            run(&format!("ip netns exec {} tc qdisc del dev uplink root", self.namespace(name.id())));
        }
    }

    /// The node's cable is gone, at both ends: nothing comes and nothing goes, and nobody is told.
    pub(crate) fn unplug(&self, name: Name) {
        run(&format!("ip -n {} link del port-{}", self.namespace("switch"), name.id()));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for what in ["a", "b", "switch"] {
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

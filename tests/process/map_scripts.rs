//! The scripts of the cluster map: nodes started, joined, added, removed, killed and stopped, as processes and in containers; and that they say
//! what they did. For podman stands a script here that runs the binary: whether the image can be built, no test knows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::support::{PATIENCE, TempDir, free_ports, has_tool, kill_nodes_in};

/// A stand-in for podman: a container is a process whose number is in a file.
const PODMAN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$@" >>calls
for name; do :; done
case $1 in
build) ;;
run)
  while [ "$1" != localhost/bbd ]; do
    case $1 in --name) name=$2 ;; --volume) folder=${2%:/data} ;; esac
    shift
  done
  shift
  # There is one /data for each.
  "$BBD" "$1" "--data-dir=$folder" >"$name.log" 2>&1 </dev/null &
  echo $! >"$name.pid"
  ;;
inspect) kill -0 "$(cat "$name.pid")" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$(cat "$name.pid")/status" && echo true ;;
stop) kill -TERM "$(cat "$name.pid")" ;;
kill) kill -KILL "$(cat "$name.pid")" ;;
rm) rm -f "$name.pid" ;;
logs) tail -n 1 "$name.log" ;;
*) exit 1 ;;
esac
"#;

/// A folder of the scripts'; the nodes in it are killed when it is dropped.
struct Scripts {
    dir: TempDir,
    /// Of eight in a row.
    first_port: u16,
}

impl Scripts {
    fn new() -> Self {
        Self { dir: TempDir::new(), first_port: free_ports(8) }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs a script, where `+N` stands for a port: its exit status, what it prints, and what it says on standard error.
    fn run(&self, script: &str, args: &[&str]) -> (i32, String, String) {
        let args = args.iter().map(|arg| match arg.strip_prefix('+') {
            Some(number) => (self.first_port + number.parse::<u16>().unwrap()).to_string(),
            None => (*arg).to_owned(),
        });
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script));
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("BBD", env!("CARGO_BIN_EXE_bbd"));
        command.env("BBD_CLUSTER_DIR", self.folder()).env("CONTAINER_ENGINE", self.dir.path().join("podman"));
        let output = command.output().expect("the script runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The same of scripts/cluster_manager.sh, where it should succeed; what it says.
    #[track_caller]
    fn manage(&self, args: &[&str]) -> String {
        let (status, _, said) = self.run("cluster_manager.sh", args);
        assert_eq!(status, 0, "{args:?}: {said}");
        said
    }

    /// A port.
    fn port(&self, number: u16) -> u16 {
        self.first_port + number
    }

    /// A client command, asked of one of the nodes, tried again while it cannot be answered.
    #[track_caller]
    fn ask(&self, number: u16, args: &[&str]) -> String {
        for _ in 0..100 {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
            command.args(args).env_clear().env("BBD_ADDR", format!("127.0.0.1:{}", self.port(number)));
            let output = command.output().expect("bbd runs");
            if output.status.code() != Some(5) {
                assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
                return String::from_utf8(output.stdout).expect("text");
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{args:?}: nobody answers");
    }

    /// What the status shows of each node, with the ports counted from the first.
    fn states(&self) -> (i32, Vec<(u16, String)>) {
        let (status, shown, _) = self.run("cluster_manager.sh", &["status"]);
        let rows = shown.lines().skip(1).map(|line| {
            let mut words = line.split_whitespace();
            let port: u16 = words.next().unwrap().parse().unwrap();
            (port - self.first_port, words.next().unwrap().to_owned())
        });
        (status, rows.collect())
    }

    /// The port of the leader, once there is one.
    #[track_caller]
    fn leader(&self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, states) = self.states();
            if let Some((port, _)) = states.iter().find(|(_, state)| state == "Leader") {
                return *port;
            }
            assert!(Instant::now() < deadline, "{states:?}");
        }
    }

    /// One leads, the others follow, and these are all.
    #[track_caller]
    fn assert_cluster(&self, ports: &[u16]) {
        // On a busy machine they may be electing another one just now.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, states) = self.states();
            let count = |state: &str| states.iter().filter(|(_, found)| found == state).count();
            if (status, count("Leader"), count("Follower")) == (0, 1, ports.len() - 1) {
                return assert!(states.iter().map(|(port, _)| port).eq(ports), "{states:?}");
            }
            assert!(Instant::now() < deadline, "{states:?}");
        }
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        kill_nodes_in(&self.folder());
        for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "pid") {
                let pid = fs::read_to_string(entry.path()).unwrap_or_default();
                let _ = Command::new("kill").args(["-KILL", pid.trim()]).output();
            }
        }
    }
}

#[test]
fn two_nodes_are_joined_and_go_on_after_a_stop() {
    let scripts = Scripts::new();
    let (status, _, said) = scripts.run("join_cluster.sh", &["+0"]);
    assert!(status == 0 && said.contains("a cluster of 2"), "{said}");
    assert!(said.contains(&format!("{} runs: process", scripts.port(1))), "{said}");
    scripts.assert_cluster(&[0, 1]);
    scripts.ask(0, &["kv", "set", "--data", "v", "k"]);
    assert_eq!(scripts.ask(1, &["kv", "get", "k"]), "v");
    let said = scripts.manage(&["stop-all"]);
    assert_eq!(said.matches("is stopped").count(), 2, "{said}");
    assert_eq!(scripts.states(), (1, Vec::new()));
    let (status, _, said) = scripts.run("join_cluster.sh", &["+0"]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(scripts.ask(1, &["kv", "get", "k"]), "v");
    let (_, _, said) = scripts.run("join_cluster.sh", &["+0"]);
    assert_eq!(said.matches("runs already").count(), 2, "{said}");
    scripts.assert_cluster(&[0, 1]);
}

#[test]
fn five_nodes_lose_two_get_one_back_and_remove_the_other() {
    let scripts = Scripts::new();
    let (status, _, said) = scripts.run("setup_5node_cluster.sh", &["+0"]);
    assert!(status == 0 && said.contains("a cluster of 5"), "{said}");
    scripts.assert_cluster(&[0, 1, 2, 3, 4]);
    scripts.ask(4, &["kv", "set", "--data", "v", "k"]);
    let leader = scripts.leader();
    let other = (leader + 1) % 5;
    for port in [leader, other] {
        let said = scripts.manage(&["kill-node", &format!("+{port}")]);
        assert!(said.contains(&format!("killed {}", scripts.port(port))), "{said}");
    }
    let (status, states) = scripts.states();
    assert_eq!((status, states.iter().filter(|(_, state)| state == "(does").count()), (1, 2), "{states:?}");
    scripts.ask((leader + 2) % 5, &["kv", "set", "--data", "w", "k"]);
    let said = scripts.manage(&["add-node", &format!("+{leader}")]);
    assert!(said.contains("votes"), "{said}");
    assert_eq!(scripts.ask(leader, &["kv", "get", "k"]), "w");
    // One that does not run can be removed too; so can the leader, which hands over.
    scripts.manage(&["remove-node", &format!("+{other}")]);
    let leader = scripts.leader();
    let said = scripts.manage(&["remove-node", &format!("+{leader}")]);
    assert!(said.contains("is no member any more") && said.contains("is stopped"), "{said}");
    let said = scripts.manage(&["add-node", "+5"]);
    assert!(said.contains("votes"), "{said}");
    let mut left: Vec<u16> = (0..=5).filter(|port| *port != leader && *port != other).collect();
    scripts.assert_cluster(&left);
    // Whoever was removed may come back with what it had.
    scripts.manage(&["add-node", &format!("+{leader}")]);
    left.push(leader);
    left.sort_unstable();
    scripts.assert_cluster(&left);
    assert_eq!(scripts.ask(leader, &["kv", "get", "k"]), "w");
    scripts.manage(&["stop-all"]);
}

#[test]
fn what_users_filter_the_metrics_with_works() {
    if !has_tool("jq") || !has_tool("curl") {
        return;
    }
    let scripts = Scripts::new();
    scripts.manage(&["start-cluster", "3", "+0"]);
    let filter = "{leader: .Ok.current_leader, state: .Ok.state, term: .Ok.current_term, \
                  members: .Ok.membership_config.membership.configs[-1]}";
    let ask = |number: u16| {
        let command = format!("curl -s 127.0.0.1:{}/metrics | jq -c '{filter}'", scripts.port(number));
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let ids = [0, 1, 2].map(|number| {
        let status = scripts.ask(number, &["cluster", "status"]);
        status.lines().find_map(|line| line.strip_prefix("id ")).unwrap().trim().to_owned()
    });
    let mut members = ids.clone();
    members.sort();
    let (_, states) = scripts.states();
    for (number, state) in states {
        let (before, term_and_members) =
            ask(number).split_once(",\"term\":").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let (term, shown) = term_and_members.split_once(",\"members\":").unwrap();
        let leader = before.strip_prefix("{\"leader\":\"").unwrap().split('"').next().unwrap();
        assert!(ids.iter().any(|id| id == leader), "{before}");
        assert_eq!(before, format!("{{\"leader\":\"{leader}\",\"state\":\"{state}\""));
        assert!(term.parse::<u64>().unwrap() >= 1);
        assert_eq!(shown, format!("[\"{}\"]}}", members.join("\",\"")));
    }
}

#[test]
fn containers_are_managed_as_processes_are() {
    let scripts = Scripts::new();
    let podman = scripts.dir.path().join("podman");
    fs::write(&podman, PODMAN).unwrap();
    fs::set_permissions(&podman, fs::Permissions::from_mode(0o755)).unwrap();
    let said = scripts.manage(&["--podman", "start-cluster", "2", "+0"]);
    assert!(said.contains(&format!("{0} runs: container bbd-{0}", scripts.port(0))), "{said}");
    scripts.ask(0, &["kv", "set", "--data", "v", "k"]);
    scripts.manage(&["add-node", "+2", "--podman"]);
    scripts.assert_cluster(&[0, 1, 2]);
    scripts.manage(&["kill-node", "+0"]);
    assert_eq!(scripts.ask(1, &["kv", "get", "k"]), "v");
    scripts.manage(&["--podman", "add-node", "+0"]);
    scripts.manage(&["remove-node", "+1"]);
    scripts.assert_cluster(&[0, 2]);
    scripts.manage(&["stop-all"]);
    assert_eq!(scripts.states(), (1, Vec::new()));
    let calls = fs::read_to_string(scripts.dir.path().join("calls")).unwrap();
    assert!(calls.starts_with("build --quiet --tag localhost/bbd --file "), "{calls}");
}

#[test]
fn what_goes_wrong_is_said() {
    let scripts = Scripts::new();
    for args in [
        &[][..],
        &["nonsense"],
        &["start-cluster"],
        &["start-cluster", "0"],
        &["start-cluster", "8"],
        &["start-cluster", "3", "70000"],
        &["start-cluster", "3", "+0", "more"],
        &["add-node"],
        &["add-node", "x"],
        &["status", "more"],
    ] {
        let (status, _, said) = scripts.run("cluster_manager.sh", args);
        assert!(status == 2 && said.contains("usage: scripts/cluster_manager.sh"), "{args:?}: {said}");
    }
    let (status, _, said) = scripts.run("cluster_manager.sh", &["kill-node", "+0"]);
    assert!(status == 1 && said.contains("does not run"), "{said}");
    let (status, _, said) = scripts.run("cluster_manager.sh", &["--podman", "add-node", "+0"]);
    assert!(status == 1 && said.contains("CONTAINER_ENGINE"), "{said}");
    let taken = std::net::TcpListener::bind(("127.0.0.1", scripts.port(0))).unwrap();
    let (status, _, said) = scripts.run("cluster_manager.sh", &["start-cluster", "1", "+0"]);
    assert!(status == 1 && said.contains("did not start") && said.contains("cannot listen"), "{said}");
    drop(taken);
    scripts.manage(&["start-cluster", "1", "+0"]);
    let (status, _, said) = scripts.run("cluster_manager.sh", &["remove-node", "+0"]);
    assert!(status == 1 && said.contains("nobody would be left"), "{said}");
}

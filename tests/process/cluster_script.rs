//! `scripts/cluster`: two real nodes on this machine, started, asked, killed, brought back and stopped; and what bbd-cluster(7)
//! says that they show is what they show.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::TempDir;

/// A folder of the script's; its nodes are killed when it is dropped.
struct Cluster {
    dir: TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self { dir: TempDir::new() }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// Runs the script: its exit status, what it prints, and what it says on standard error.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cluster"));
        command.arg("-d").arg(self.folder()).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("BBD", env!("CARGO_BIN_EXE_bbd"));
        let output = command.output().expect("the script runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The same, where it should succeed; what it says.
    #[track_caller]
    fn does(&self, args: &[&str]) -> String {
        let (status, _, said) = self.run(args);
        assert_eq!(status, 0, "{args:?}: {said}");
        said
    }

    /// A client command, asked of one of the nodes.
    #[track_caller]
    fn ask(&self, node: &str, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
        command.args(args).env_clear().env("BBD_UDS", self.folder().join(format!("{node}.sock")));
        let output = command.output().expect("bbd runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in ["a", "b"] {
            self.run(&["kill", node]);
        }
    }
}

#[test]
fn two_nodes_from_their_start_to_their_end() {
    let cluster = Cluster::new();
    let said = cluster.does(&["start", "--rate-limit=0"]);
    assert!(said.contains("a is PRIMARY") && said.contains("b is SECONDARY"), "{said}");
    let said = cluster.does(&["start"]);
    assert!(said.contains("a runs already") && said.contains("b runs already"), "{said}");
    cluster.ask("b", &["named", "put", "--data=user=ada", "session"]);
    assert_eq!(cluster.ask("a", &["named", "get", "session"]), "user=ada");

    let (status, shown, _) = cluster.run(&["status"]);
    let role = shown.lines().find(|line| line.starts_with("role ")).unwrap_or_default();
    assert_eq!(role.split_whitespace().collect::<Vec<&str>>(), ["role", "PRIMARY", "SECONDARY"], "{shown}");
    assert_eq!(status, 0);

    assert!(cluster.does(&["kill", "a"]).contains("killed a"));
    let (status, shown, _) = cluster.run(&["status"]);
    assert!(status == 1 && shown.contains("(does not run)"), "{shown}");
    assert_eq!(cluster.ask("b", &["named", "get", "session"]), "user=ada");
    let said = cluster.does(&["start", "a"]);
    assert!(said.contains("a is SECONDARY"), "{said}");
    assert_eq!(cluster.ask("a", &["named", "get", "session"]), "user=ada");

    let said = cluster.does(&["stop"]);
    assert!(said.contains("stopped a") && said.contains("stopped b"), "{said}");
    assert_eq!(cluster.run(&["kill", "a"]).0, 1);
    for args in [&[][..], &["kill"], &["kill", "c"], &["nonsense"]] {
        let (status, _, said) = cluster.run(args);
        assert!(status == 2 && said.contains("usage: scripts/cluster"), "{args:?}: {said}");
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let cluster = Cluster::new();
    let (status, _, said) = cluster.run(&["start", "--lease=1h"]);
    assert!(status == 1 && said.contains("a did not start") && said.contains("--lease"), "{said}");
}

/// Every metric and every field of the status that the manual of two nodes speaks of.
#[test]
fn the_manual_names_what_there_is() {
    let cluster = Cluster::new();
    cluster.does(&["start"]);
    let mut client = crate::support::Connection::new(
        std::os::unix::net::UnixStream::connect(cluster.folder().join("a.sock")).expect("a listens"),
    );
    let mut page = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        String::from_utf8(client.answer(false).unwrap().expect("an answer").body).expect("text")
    };
    let (metrics, status) = (page("/metrics"), page("/status"));
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/bbd-cluster.7")).unwrap();
    let words = manual.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let mut named: Vec<&str> = words.filter(|word| word.starts_with("bbd_")).collect();
    named.sort_unstable();
    named.dedup();
    assert!(named.len() >= 6, "{named:?}");
    for metric in named {
        assert!(metrics.contains(&format!("# TYPE {metric} ")), "there is no metric {metric}");
    }
    let (_, monitoring) = manual.split_once("\n.Sh MONITORING\n").expect("the section");
    let (fields, _) = monitoring.split_once("\n.El\n").expect("the list of fields");
    let heads = fields.lines().filter_map(|line| line.strip_prefix(".It Li "));
    let fields: Vec<&str> = heads.flat_map(|head| head.split(" , ")).collect();
    assert!(fields.len() >= 6, "{fields:?}");
    for field in fields {
        assert!(status.contains(&format!("\"{field}\":")), "the status has no {field}");
    }
}

//! Backups of the cluster map: taken while it is written, restored elsewhere, and equal to what had been written up to their index.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::map::{Node, add_voters, command, free_port, set};
use crate::support::{PATIENCE, TempDir};

/// Clients that write, each its own keys.
const WRITERS: usize = 4;
const KEYS_OF_EACH: usize = 50;

fn bbd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bbd")).args(args).env_clear().output().expect("bbd runs")
}

/// The exit status, and the line on standard error.
fn refusal(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    (output.status.code(), said)
}

fn backup(node: &Node, file: &Path) -> u64 {
    let output = bbd(&["cluster", "backup", file.to_str().unwrap(), "--addr", &format!("127.0.0.1:{}", node.port)]);
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{output:?}"))
}

fn restore(file: &Path, folder: &Path) -> Output {
    bbd(&["cluster", "restore", file.to_str().unwrap(), "--data-dir", folder.to_str().unwrap()])
}

/// A member of the JSON of `/metrics`.
fn metric(node: &Node, name: &str) -> String {
    let (_, metrics) = node.ask("/metrics", "");
    let (_, rest) = metrics.split_once(&format!("\"{name}\":")).expect("the member");
    rest.split([',', '}']).next().unwrap().trim_matches('"').to_owned()
}

#[test]
fn a_backup_taken_under_writes_is_restored_as_of_its_index_into_a_cluster_of_its_own() {
    let dir = TempDir::new();
    let nodes: Vec<Node> = (0..3).map(|_| Node::start(&dir, free_port())).collect();
    add_voters(&nodes);
    let is_over = AtomicBool::new(false);
    let file = dir.path().join("map.backup");
    let (index, written) = scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (node, is_over) = (&nodes[writer % 3], &is_over);
                scope.spawn(move || {
                    let mut written = Vec::new();
                    for at in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let (key, value) = (format!("{writer}/{}", at % KEYS_OF_EACH), format!("{at}"));
                        let answer = node.insist("/write", &set(&key, &value));
                        let (_, index) = answer.trim_end_matches('}').rsplit_once(':').unwrap();
                        written.push((index.parse::<u64>().unwrap(), key, value));
                    }
                    written
                })
            })
            .collect();
        sleep(Duration::from_millis(500));
        let index = backup(&nodes[1], &file);
        sleep(Duration::from_millis(200));
        is_over.store(true, Ordering::Relaxed);
        (index, writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>())
    });
    assert!(written.iter().any(|(at, ..)| *at > index), "nothing was written behind the backup");
    let mut upto: Vec<&(u64, String, String)> = written.iter().filter(|(at, ..)| *at <= index).collect();
    assert!(upto.len() > WRITERS * 10, "{} writes before the backup", upto.len());
    upto.sort();
    let expected: BTreeMap<&str, &str> = upto.iter().map(|(_, key, value)| (&**key, &**value)).collect();

    let port = free_port();
    let folder = dir.path().join(format!("data-{port}"));
    let restored = restore(&file, &folder);
    assert_eq!(
        (restored.status.code(), String::from_utf8_lossy(&restored.stdout).trim()),
        (Some(0), &*index.to_string())
    );
    let node = Node::start(&dir, port);
    let pairs: Vec<String> = expected.iter().map(|(key, value)| format!("[\"{key}\",\"{value}\"]")).collect();
    let list = format!("{{\"Ok\":{{\"entries\":[{}],\"next\":null}}}}", pairs.join(","));
    assert_eq!(node.insist("/list", r#"{"limit":1000}"#), list);

    // It is a cluster of its own, of this node alone, which others can join and the old ones cannot.
    let deadline = Instant::now() + PATIENCE;
    while !node.ask("/metrics", "").1.contains(&format!("{{\"addr\":\"127.0.0.1:{port}\"}}")) {
        assert!(Instant::now() < deadline, "its address stays unknown");
        sleep(Duration::from_millis(10));
    }
    assert_eq!(metric(&node, "state"), "Leader");
    assert_ne!(metric(&node, "cluster"), metric(&nodes[0], "cluster"));
    assert_ne!(metric(&node, "id"), metric(&nodes[0], "id"));
    let another = Node::start(&dir, free_port());
    let learner = format!("[{},\"127.0.0.1:{}\"]", another.ask("/get-id", "").1, another.port);
    assert_eq!(node.insist("/add-learner", &learner), r#"{"Ok":"Added"}"#);
    assert_eq!(another.insist("/list", r#"{"limit":1000}"#), list);
    let port_of_old = nodes[2].port;
    let learner = format!("[{},\"127.0.0.1:{port_of_old}\"]", nodes[2].ask("/get-id", "").1);
    // It is refused twice alike, and no member afterwards.
    for _ in 0..2 {
        let (status, said) = node.ask("/add-learner", &learner);
        assert!(status == 409 && said.contains("it belongs to another cluster; to add it, stop it"), "{said}");
        let members = node.ask("/metrics", "").1;
        assert!(!members.contains(&format!("127.0.0.1:{port_of_old}")), "{members}");
    }
    let log = dir.path().join(format!("log-{port_of_old}"));
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(&log).unwrap().contains(" warn map_other_cluster ") {
        assert!(Instant::now() < deadline, "the old node does not say that it heard of another cluster");
        sleep(Duration::from_millis(10));
    }
    nodes[2].insist("/write", &set("old", "1"));
    assert_eq!(node.ask("/read", "\"old\"").0, 404);
}

#[test]
fn what_is_no_good_backup_or_no_empty_folder_is_refused_in_one_line() {
    let dir = TempDir::new();
    let node = Node::start(&dir, free_port());
    node.insist("/write", &set("k", "v"));
    let file = dir.path().join("map.backup");
    backup(&node, &file);
    let good = fs::read(&file).unwrap();
    let folder = dir.path().join("restored");
    let refused = |bytes: &[u8], expected: &str| {
        fs::write(&file, bytes).unwrap();
        let (status, said) = refusal(&restore(&file, &folder));
        assert!(status == Some(70) && said.contains(expected) && said.contains("map.backup"), "{said}");
        assert!(!folder.exists());
    };
    for length in [8, good.len() / 2, good.len() - 1] {
        refused(&good[..length], "cut or altered");
    }
    for at in [8, 20, good.len() / 2, good.len() - 1] {
        let mut altered = good.clone();
        altered[at] ^= 0x10;
        refused(&altered, "cut or altered");
    }
    refused(&[&good[..], b"\n"].concat(), "cut or altered");
    refused(b"", "no snapshot or backup");
    refused(&[&b"b"[..], &good].concat(), "no snapshot or backup");
    fs::remove_file(&file).unwrap();
    let (status, said) = refusal(&restore(&file, &folder));
    assert!(status == Some(70) && said.contains("map.backup cannot be read"), "{said}");

    fs::write(&file, &good).unwrap();
    let in_use = dir.path().join(format!("data-{}", node.port));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes"), "").unwrap();
    for folder in [&in_use, &folder] {
        let (status, said) = refusal(&restore(&file, folder));
        assert!(status == Some(70) && said.contains("is not empty"), "{said}");
    }
    assert_eq!(node.insist("/read", "\"k\""), r#"{"Ok":"v"}"#);
    fs::remove_file(folder.join("notes")).unwrap();
    assert_eq!(restore(&file, &folder).status.code(), Some(0), "an empty folder does");

    // Half of one is never taken for a new node's.
    let port = free_port();
    let half = dir.path().join(format!("data-{port}"));
    assert_eq!(restore(&file, &half).status.code(), Some(0));
    fs::remove_file(half.join("log-1")).unwrap();
    let (status, said) = refusal(&command(&dir, port).stderr(std::process::Stdio::piped()).output().unwrap());
    assert!(status == Some(1) && said.contains("but no log"), "{said}");
}

//! The cluster map when machines fail: nodes killed, stopped, cut off, and with a full disk, while clients write. Nothing that was answered is
//! lost, and all nodes hold the same at the same index.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::map::{Node, add_voters, ask_at, command, free_port, set};
use crate::support::{PATIENCE, TempDir};

/// Keys of each client.
const KEYS: usize = 20;

/// Writes of one client to one node: of each key the last value that was answered, and those behind it whose fate is open.
#[derive(Default)]
struct Written {
    done: usize,
    keys: BTreeMap<String, (usize, Vec<usize>)>,
}

/// Writes ever greater numbers, until it is over.
fn write_on(client: usize, port: u16, is_over: &AtomicBool) -> Written {
    let mut written = Written::default();
    for number in 1.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{client}/{}", number % KEYS);
        let answer = ask_at(port, "POST", "/write", "", &set(&key, &number.to_string()));
        let known = written.keys.entry(key).or_default();
        if matches!(answer, Some((200, _))) {
            *known = (number, Vec::new());
            written.done += 1;
        } else {
            known.1.push(number);
            sleep(Duration::from_millis(5));
        }
    }
    written
}

/// Everything is there that was answered, and all nodes have the same.
fn check(nodes: &[&Node], written: &[Written]) {
    let deadline = Instant::now() + 2 * PATIENCE;
    for node in nodes {
        for (key, (done, open)) in written.iter().flat_map(|written| &written.keys) {
            let answer = loop {
                match node.ask("/read", &format!("\"{key}\"")) {
                    (503, _) if Instant::now() < deadline => sleep(Duration::from_millis(20)),
                    (_, answer) => break answer,
                }
            };
            let value = answer.strip_prefix("{\"Ok\":\"").and_then(|rest| rest.strip_suffix("\"}"));
            let value: usize = value.map_or(0, |value| value.parse().unwrap());
            assert!(value == *done || open.contains(&value), "{key}: {answer}, where {done} was answered");
        }
    }
    loop {
        let applied = || -> Vec<String> {
            let of = |node: &&Node| {
                let (_, metrics) = node.ask("/metrics", "");
                let (_, rest) = metrics.split_once("\"last_applied\":").expect("the member");
                rest.split(',').next().unwrap().to_owned()
            };
            nodes.iter().map(of).collect()
        };
        let before = applied();
        let backups: Vec<String> = nodes.iter().map(|node| node.ask("/backup", "").1).collect();
        if before.iter().all(|index| *index == before[0]) && applied() == before {
            assert!(backups.iter().all(|backup| *backup == backups[0]), "the same index, and not the same map");
            return;
        }
        assert!(Instant::now() < deadline, "they do not come to the same index");
        sleep(Duration::from_millis(20));
    }
}

fn leader_of(nodes: &[Option<Node>]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leads = |node: &Option<Node>| node.as_ref().is_some_and(Node::is_leader);
        if let Some(leader) = nodes.iter().position(leads) {
            return leader;
        }
        assert!(Instant::now() < deadline, "nobody leads");
        sleep(Duration::from_millis(20));
    }
}

/// Runs a cluster of so many under writes through all nodes while `faults` happen to it.
fn run(count: usize, faults: impl FnOnce(&TempDir, &mut [Option<Node>])) {
    let dir = TempDir::new();
    let nodes: Vec<Node> = (0..count).map(|_| Node::start(&dir, free_port())).collect();
    add_voters(&nodes);
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let is_over = AtomicBool::new(false);
    let written: Vec<Written> = scope(|scope| {
        let is_over = &is_over;
        let clients: Vec<_> = (0..count).map(|at| (at, ports[at])).collect();
        let clients: Vec<_> =
            clients.into_iter().map(|(at, port)| scope.spawn(move || write_on(at, port, is_over))).collect();
        sleep(Duration::from_millis(200));
        faults(&dir, &mut nodes);
        sleep(Duration::from_millis(500));
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(written.iter().all(|written| written.done > 20), "hardly anything was written");
    let nodes: Vec<&Node> = nodes.iter().flatten().collect();
    check(&nodes, &written);
}

#[test]
fn three_nodes_killed_and_stopped_under_writes_lose_nothing() {
    run(3, |dir, nodes| {
        for is_leader in [true, false, true] {
            let at = (leader_of(nodes) + usize::from(!is_leader)) % 3;
            let port = nodes[at].take().unwrap().kill();
            sleep(Duration::from_millis(600));
            nodes[at] = Some(Node::start(dir, port));
        }
        let stopped = leader_of(nodes);
        let pid = Pid::from_child(&nodes[stopped].as_ref().unwrap().child);
        kill_process(pid, Signal::STOP).unwrap();
        sleep(Duration::from_millis(900));
        kill_process(pid, Signal::CONT).unwrap();
        sleep(Duration::from_millis(300));
    });
}

#[test]
fn five_nodes_go_on_without_two_and_start_again_after_all_were_killed() {
    run(5, |dir, nodes| {
        let leader = leader_of(nodes);
        let gone = [leader, (leader + 1) % 5].map(|at| (at, nodes[at].take().unwrap().kill()));
        sleep(Duration::from_millis(800));
        for (at, port) in gone {
            nodes[at] = Some(Node::start(dir, port));
        }
        let ports: Vec<u16> = nodes.iter_mut().map(|node| node.take().unwrap().kill()).collect();
        for (node, port) in nodes.iter_mut().zip(ports) {
            *node = Some(Node::start(dir, port));
        }
        leader_of(nodes);
    });
}

/// The way to a node, which can be cut: nothing passes any more, and nothing is closed.
struct Way {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Way {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let Ok(callee) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (mut from, mut to) in [(caller.try_clone().unwrap(), callee.try_clone().unwrap()), (callee, caller)]
                {
                    let cut = Arc::clone(&cut);
                    thread::spawn(move || {
                        let mut buffer = [0; 16 * 1024];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            while cut.load(Ordering::Relaxed) {
                                sleep(Duration::from_millis(5));
                            }
                            if to.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port: own_port, is_cut }
    }
}

/// The leader speaks and hears nothing: it stops answering what it cannot know, the others elect, and it follows when it is back.
#[test]
fn a_leader_that_nobody_can_reach_leads_no_more() {
    let dir = TempDir::new();
    let mut ways = Vec::new();
    let nodes: Vec<Node> = (0..3)
        .map(|_| {
            let port = free_port();
            let way = Way::to(port);
            let mut command = command(&dir, port);
            command.arg("--advertise-addr").arg(format!("127.0.0.1:{}", way.port));
            ways.push(way);
            Node::run(command, port)
        })
        .collect();
    nodes[0].ask("/init", "");
    let ids: Vec<String> = nodes.iter().map(|node| node.ask("/get-id", "").1).collect();
    for at in [1, 2] {
        nodes[0].insist("/add-learner", &format!("[{},\"127.0.0.1:{}\"]", ids[at], ways[at].port));
    }
    nodes[0].insist("/change-membership", &format!("[{}]", ids.join(",")));
    nodes[0].insist("/write", &set("k", "before"));
    let old = nodes.iter().position(Node::is_leader).unwrap();
    ways[old].is_cut.store(true, Ordering::Relaxed);
    let other = (old + 1) % 3;
    nodes[other].insist("/write", &set("k", "meanwhile"));
    // What was true when it led is not what it answers now.
    for _ in 0..5 {
        let (status, answer) = nodes[old].ask("/read", "\"k\"");
        assert!(status == 503 || answer.contains("meanwhile"), "{status} {answer}");
    }
    assert!(!nodes[old].is_leader());
    ways[old].is_cut.store(false, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    while nodes[old].ask("/read", "\"k\"") != (200, r#"{"Ok":"meanwhile"}"#.to_owned()) {
        assert!(Instant::now() < deadline, "it does not come back");
        sleep(Duration::from_millis(20));
    }
    check(&nodes.iter().collect::<Vec<_>>(), &[]);
}

/// A disk of one's own, as far as the system lets us have one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let dir = TempDir::new();
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        output.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_disk_that_fills_up_takes_reads_and_no_writes_until_there_is_room() {
    let Some(disk) = SmallDisk::new("180m") else {
        println!("left out: no disk of its own can be mounted here");
        return;
    };
    let dir = TempDir::new();
    let port = free_port();
    let mut command = command(&dir, port);
    command.arg("--data-dir").arg(disk.0.path().join("data"));
    let node = Node::run(command, port);
    node.insist("/write", &set("k", "v"));
    let ballast = disk.0.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let wait_for = |status: u16| {
        let deadline = Instant::now() + PATIENCE;
        while node.ask("/write", &set("l", "w")).0 != status {
            assert!(Instant::now() < deadline, "no {status}: {:?}", node.ask("/write", &set("l", "w")));
            sleep(Duration::from_millis(20));
        }
    };
    for round in 0..2 {
        // Nearly full first, then to the last byte.
        let megabyte = vec![1; 1 << 20];
        let most = if round == 0 { 125 } else { 1000 };
        let _ = (0..most).try_for_each(|_| file.write_all(&megabyte));
        wait_for(507);
        assert_eq!(node.ask("/read", "\"k\""), (200, r#"{"Ok":"v"}"#.to_owned()));
        assert!(node.ask("/metrics", "").1.contains("\"read_only\":true"));
        // What takes something away is let through.
        assert_eq!(node.ask("/write", r#"{"Delete":{"key":"none"}}"#).0, 200);
        file.set_len(0).unwrap();
        file = fs::File::create(&ballast).unwrap();
        wait_for(200);
    }
    let log = fs::read_to_string(dir.path().join(format!("log-{port}"))).unwrap();
    assert_eq!(
        (log.matches(" error map_disk_is_low ").count(), log.matches(" info map_disk_has_room").count()),
        (2, 2)
    );
}

#[test]
fn a_snapshot_waits_for_room_and_says_so() {
    let Some(disk) = SmallDisk::new("180m") else {
        println!("left out: no disk of its own can be mounted here");
        return;
    };
    let dir = TempDir::new();
    let port = free_port();
    let mut command = command(&dir, port);
    command.arg("--data-dir").arg(disk.0.path().join("data"));
    let node = Node::run(command, port);
    node.insist("/write", &set("k", "v"));
    let mut ballast = fs::File::create(disk.0.path().join("ballast")).unwrap();
    (0..135).try_for_each(|_| ballast.write_all(&vec![1; 1 << 20])).unwrap();
    let log = || fs::read_to_string(dir.path().join(format!("log-{port}"))).unwrap();
    let waiting = || {
        let page = node.ask("/metrics?format=prometheus", "").1;
        page.lines().find_map(|line| line.strip_prefix("bbd_map_snapshots_waiting ")).map(str::to_owned)
    };
    assert_eq!(waiting().as_deref(), Some("0"));
    // Deletions are let through, and make the log so long that it is time for a snapshot.
    let delete = format!(r#"{{"Delete":{{"key":"{}"}}}}"#, "x".repeat(512));
    let batch = format!(r#"{{"Batch":[{}]}}"#, vec![delete; 500].join(","));
    for _ in 0..70 {
        assert_eq!(node.ask("/write", &batch).0, 200);
    }
    let wait_for = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not {what}: {}", log());
            sleep(Duration::from_millis(20));
        }
    };
    wait_for("waiting", &|| waiting().as_deref() == Some("1"));
    assert!(log().contains(" warn map_snapshot_waits ") && !log().contains("map_snapshot_saved"), "{}", log());
    ballast.set_len(0).unwrap();
    wait_for("saved", &|| log().contains(" info map_snapshot_saved "));
    assert!(log().contains(" info map_snapshot_goes_on"), "{}", log());
    assert_eq!(waiting().as_deref(), Some("0"));
}

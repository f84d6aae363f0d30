//! What is measured: one function each, which starts its own nodes and returns one number for each of its figures.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::{Change, Load, Outcome, Plan, Record, fill};
use crate::nodes::{Fallible, Name, Node, Site};

/// What a number should be at most, or at least.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// It is only told.
    None,
}

/// One number of a scenario.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

/// One thing to measure.
pub(crate) struct Scenario {
    /// For the command line.
    pub(crate) name: &'static str,
    /// For the table.
    pub(crate) title: &'static str,
    pub(crate) figures: &'static [Figure],
    /// It takes so long, or varies so little, that more runs than this are not worth it.
    pub(crate) runs_at_most: usize,
    pub(crate) run: fn(&Path) -> Fallible<Vec<f64>>,
}

const fn figure(name: &'static str, unit: &'static str, goal: Goal) -> Figure {
    Figure { name, unit, goal }
}

/// All of it, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill",
        title: "kill -9 of the primary, async",
        figures: &[
            figure("longest refusal through the survivor", "ms", Goal::AtMost(300.0)),
            figure("answered changes", "", Goal::None),
            figure("of them lost", "", Goal::None),
            figure("the oldest of them before the kill", "ms", Goal::AtMost(10.0)),
        ],
        runs_at_most: usize::MAX,
        run: |bbd| killed(bbd, &[], EACH_ONCE),
    },
    Scenario {
        name: "kill-busy",
        title: "the same with 16 changes under way on each connection; it comes back under that load",
        figures: &[
            figure("longest refusal through the survivor", "ms", Goal::AtMost(300.0)),
            figure("answered changes", "", Goal::None),
            figure("of them lost", "", Goal::None),
            figure("the oldest of them before the kill", "ms", Goal::AtMost(10.0)),
            figure("until it is SECONDARY again", "ms", Goal::None),
        ],
        runs_at_most: usize::MAX,
        run: killed_and_back,
    },
    Scenario {
        name: "kill-replicated",
        title: "kill -9 of the primary, replicated",
        figures: &[figure("answered changes", "", Goal::None), figure("of them lost", "", Goal::AtMost(0.0))],
        runs_at_most: usize::MAX,
        // How long changes are refused is up to who starts another secondary.
        run: |bbd| Ok(killed(bbd, &["--durability=replicated"], EACH_ONCE)?[1..3].to_vec()),
    },
    Scenario {
        name: "silence",
        title: "the primary's host falls silent",
        figures: &[figure("longest refusal through the survivor", "ms", Goal::AtMost(4600.0))],
        runs_at_most: usize::MAX,
        run: silenced,
    },
    Scenario {
        name: "term",
        title: "SIGTERM of the primary",
        figures: &[
            figure("longest wait through the survivor", "ms", Goal::AtMost(50.0)),
            figure("errors there", "", Goal::AtMost(0.0)),
            figure("answered changes lost", "", Goal::AtMost(0.0)),
        ],
        runs_at_most: usize::MAX,
        run: terminated,
    },
    Scenario {
        name: "promote",
        title: "bbd promote",
        figures: &[
            figure("longest wait on either node", "ms", Goal::AtMost(50.0)),
            figure("errors on either node", "", Goal::AtMost(0.0)),
            figure("answered changes lost", "", Goal::AtMost(0.0)),
        ],
        runs_at_most: usize::MAX,
        run: promoted,
    },
    Scenario {
        name: "join",
        title: "a node joins 100,000 stores of 1 KB",
        figures: &[
            figure("writes refused", "", Goal::AtMost(0.0)),
            figure("longest write before", "ms", Goal::None),
            figure("longest write meanwhile", "ms", Goal::None),
            figure("the latter beyond the former", "ms", Goal::AtMost(5.0)),
            figure("until it is SECONDARY", "ms", Goal::None),
        ],
        runs_at_most: usize::MAX,
        run: joined,
    },
    Scenario {
        name: "stop-safe",
        title: "SIGSTOP of the primary for 7 s, safe",
        figures: &[
            figure("answers as primary after the lease", "", Goal::AtMost(0.0)),
            figure("of them not marked", "", Goal::AtMost(0.0)),
            figure("answered changes lost beyond those counted", "", Goal::AtMost(0.0)),
            figure("changes counted as dropped", "", Goal::None),
        ],
        runs_at_most: 3,
        run: |bbd| paused(bbd, &["--on-peer-loss=safe"]),
    },
    Scenario {
        name: "stop-available",
        title: "SIGSTOP of the primary for 7 s, available",
        figures: &[
            figure("answers as primary after the lease", "", Goal::None),
            figure("of them not marked", "", Goal::AtMost(0.0)),
            figure("answered changes lost beyond those counted", "", Goal::AtMost(0.0)),
            figure("changes counted as dropped", "", Goal::None),
        ],
        runs_at_most: 3,
        run: |bbd| paused(bbd, &[]),
    },
    Scenario {
        name: "memory",
        title: "the peer is stopped for a minute, full write load",
        figures: &[
            figure("memory of the primary before", "MiB", Goal::None),
            figure("most of it meanwhile", "MiB", Goal::None),
            figure("growth in all (the backlog has 16 MiB)", "MiB", Goal::AtMost(24.0)),
            figure("growth in the last 30 s", "MiB", Goal::AtMost(1.0)),
        ],
        runs_at_most: 1,
        run: peer_stopped,
    },
    Scenario {
        name: "cost",
        title: "writes with a secondary and without, 4 connections with 16 under way each",
        figures: COST_FIGURES,
        runs_at_most: usize::MAX,
        run: |bbd| cost(bbd, 4, 16),
    },
    Scenario {
        name: "cost-singly",
        title: "the same, 16 connections with one under way each",
        figures: COST_FIGURES,
        runs_at_most: usize::MAX,
        run: |bbd| cost(bbd, 16, 1),
    },
];

const COST_FIGURES: &[Figure] = &[
    figure("single node", "/s", Goal::None),
    figure("with a secondary", "/s", Goal::None),
    figure("ratio", "", Goal::AtLeast(0.6)),
];

/// Writers that never write a name twice, so that every single loss shows.
const EACH_ONCE: Plan = Plan { clients: 4, depth: 1, names: u64::MAX, body_bytes: 256, remembers: true };
/// Writers that write the same names again and again.
const AGAIN: Plan = Plan { clients: 4, depth: 16, names: 1000, body_bytes: 256, remembers: false };

/// How long the load runs before something happens, and after all is well again.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(1);

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn longest_gap(records: &[Record], since: Instant, until: Instant) -> Duration {
    records.iter().map(|record| record.longest_gap(since, until)).max().unwrap_or_default()
}

fn failures(records: &[Record], since: Instant, until: Instant) -> usize {
    records.iter().map(|record| record.failures(since, until)).sum()
}

fn changes(records: &[Record]) -> impl Iterator<Item = &Change> {
    records.iter().flat_map(|record| &record.changes)
}

fn lost(records: &[Record], survivor: &Node) -> Fallible<Vec<Change>> {
    let mut lost = Vec::new();
    for record in records {
        lost.extend(record.lost(&survivor.socket)?);
    }
    Ok(lost)
}

/// Writers on both nodes.
struct BothLoads {
    at_a: Load,
    at_b: Load,
    since: Instant,
}

impl BothLoads {
    fn start(a: &Node, b: &Node, plan: Plan) -> Self {
        let loads = Self {
            at_a: Load::start(&a.socket, "a", plan),
            at_b: Load::start(&b.socket, "b", plan),
            since: Instant::now(),
        };
        sleep(BEFORE);
        loads
    }

    /// What became of the changes of either, and when the last of them counts.
    fn stop(self) -> (Vec<Record>, Vec<Record>, Instant) {
        let until = Instant::now();
        (self.at_a.stop(), self.at_b.stop(), until)
    }
}

fn killed(bbd: &Path, flags: &[&str], plan: Plan) -> Fallible<Vec<f64>> {
    let site = Site::on_loopback(bbd, flags)?;
    let (mut a, mut b) = site.start_both()?;
    kill_under_load(&mut a, &mut b, plan)
}

fn kill_under_load(a: &mut Node, b: &mut Node, plan: Plan) -> Fallible<Vec<f64>> {
    let loads = BothLoads::start(a, b, plan);
    let killed = Instant::now();
    a.signal(Signal::KILL)?;
    a.wait()?;
    b.await_role("PRIMARY")?;
    sleep(AFTER);
    let (at_a, at_b, until) = loads.stop();
    let answered =
        changes(&at_a).chain(changes(&at_b)).filter(|change| change.outcome.is_done() && change.ended < killed).count();
    let mut lost_changes = lost(&at_a, b)?;
    lost_changes.extend(lost(&at_b, b)?);
    let oldest = lost_changes.iter().map(|change| killed.saturating_duration_since(change.ended)).max();
    Ok(vec![
        ms(longest_gap(&at_b, killed, until)),
        answered as f64,
        lost_changes.len() as f64,
        ms(oldest.unwrap_or_default()),
    ])
}

fn killed_and_back(bbd: &Path) -> Fallible<Vec<f64>> {
    let site = Site::on_loopback(bbd, &[])?;
    let (mut a, mut b) = site.start_both()?;
    let mut figures = kill_under_load(&mut a, &mut b, Plan { depth: 16, ..EACH_ONCE })?;
    let load = Load::start(&b.socket, "again", AGAIN);
    let began = Instant::now();
    let mut a = site.start(Name::A)?;
    a.await_role("SECONDARY")?;
    figures.push(ms(began.elapsed()));
    load.stop();
    Ok(figures)
}

fn silenced(bbd: &Path) -> Fallible<Vec<f64>> {
    let site = Site::with_network(bbd, &[])?;
    let (a, mut b) = site.start_both()?;
    let loads = BothLoads::start(&a, &b, EACH_ONCE);
    let cut = Instant::now();
    site.cut(Name::A)?;
    b.await_role("PRIMARY")?;
    sleep(AFTER);
    let (_, at_b, until) = loads.stop();
    Ok(vec![ms(longest_gap(&at_b, cut, until))])
}

fn terminated(bbd: &Path) -> Fallible<Vec<f64>> {
    let site = Site::on_loopback(bbd, &[])?;
    let (mut a, mut b) = site.start_both()?;
    let loads = BothLoads::start(&a, &b, EACH_ONCE);
    let asked = Instant::now();
    a.signal(Signal::TERM)?;
    a.wait()?;
    b.await_role("PRIMARY")?;
    sleep(AFTER);
    let since = loads.since;
    let (at_a, at_b, until) = loads.stop();
    let lost_changes = lost(&at_a, &b)?.len() + lost(&at_b, &b)?.len();
    Ok(vec![ms(longest_gap(&at_b, asked, until)), failures(&at_b, since, until) as f64, lost_changes as f64])
}

fn promoted(bbd: &Path) -> Fallible<Vec<f64>> {
    let site = Site::on_loopback(bbd, &[])?;
    let (mut a, mut b) = site.start_both()?;
    let loads = BothLoads::start(&a, &b, EACH_ONCE);
    let asked = Instant::now();
    let output = Command::new(bbd).arg("promote").arg("--uds").arg(&b.socket).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    b.await_role("PRIMARY")?;
    a.await_role("SECONDARY")?;
    sleep(AFTER);
    let since = loads.since;
    let (at_a, at_b, until) = loads.stop();
    let longest = longest_gap(&at_a, asked, until).max(longest_gap(&at_b, asked, until));
    let errors = failures(&at_a, since, until) + failures(&at_b, since, until);
    let lost_changes = lost(&at_a, &b)?.len() + lost(&at_b, &b)?.len();
    Ok(vec![ms(longest), errors as f64, lost_changes as f64])
}

fn joined(bbd: &Path) -> Fallible<Vec<f64>> {
    let site = Site::on_loopback(bbd, &[])?;
    let mut a = site.start(Name::A)?;
    a.await_role("PRIMARY")?;
    fill(&a.socket, 100_000, 1024)?;
    let load = Load::start(&a.socket, "a", Plan { depth: 1, remembers: true, ..AGAIN });
    let since = Instant::now();
    sleep(2 * BEFORE);
    let began = Instant::now();
    let mut b = site.start(Name::B)?;
    b.await_role("SECONDARY")?;
    let until = Instant::now();
    let records = load.stop();
    let longest = |from: Instant, to: Instant| {
        let within = changes(&records).filter(|change| change.sent < to && change.ended > from);
        within.map(|change| change.ended - change.sent).max().unwrap_or_default()
    };
    let (before, meanwhile) = (longest(since, began), longest(began, until));
    Ok(vec![
        failures(&records, since, until) as f64,
        ms(before),
        ms(meanwhile),
        ms(meanwhile.saturating_sub(before)),
        ms(until - began),
    ])
}

fn paused(bbd: &Path, flags: &[&str]) -> Fallible<Vec<f64>> {
    let site = Site::on_loopback(bbd, flags)?;
    let (mut a, mut b) = site.start_both()?;
    let epoch: u32 = a.status("leader_epoch").ok_or("no epoch")?.parse()?;
    // Many requests of each connection wait while the node is stopped.
    let load = Load::start(&a.socket, "a", Plan { depth: 64, ..EACH_ONCE });
    sleep(BEFORE);
    a.signal(Signal::STOP)?;
    sleep(Duration::from_secs(7));
    let resumed = Instant::now();
    a.signal(Signal::CONT)?;
    a.await_role("SECONDARY")?;
    sleep(AFTER);
    let records = load.stop();
    b.await_role("PRIMARY")?;
    let late = || {
        changes(&records).filter(|change| {
            change.ended > resumed && matches!(change.outcome, Outcome::Done { epoch: of, .. } if of == epoch)
        })
    };
    let unmarked = late().filter(|change| matches!(change.outcome, Outcome::Done { is_degraded: false, .. })).count();
    let counted = a.metric("bbd_lost_changes_total").ok_or("no count of lost changes")?;
    let lost_changes = lost(&records, &b)?.len() as f64;
    Ok(vec![late().count() as f64, unmarked as f64, (lost_changes - counted).max(0.0), counted])
}

fn peer_stopped(bbd: &Path) -> Fallible<Vec<f64>> {
    const MIB: f64 = 1_048_576.0;
    let site = Site::on_loopback(bbd, &[])?;
    let (a, b) = site.start_both()?;
    let load = Load::start(&a.socket, "a", AGAIN);
    sleep(5 * BEFORE);
    let before = a.resident_bytes()? as f64;
    b.signal(Signal::STOP)?;
    let (mut most, mut most_of_first_half) = (before, before);
    for second in 0..60 {
        sleep(Duration::from_secs(1));
        most = most.max(a.resident_bytes()? as f64);
        if second < 30 {
            most_of_first_half = most;
        }
    }
    load.stop();
    Ok(vec![before / MIB, most / MIB, (most - before) / MIB, (most - most_of_first_half) / MIB])
}

fn cost(bbd: &Path, clients: usize, depth: usize) -> Fallible<Vec<f64>> {
    /// Both are measured in turn, so that what else the machine does meets both alike.
    const TURNS: u32 = 4;
    let (site_of_one, site_of_two) = (Site::on_loopback(bbd, &[])?, Site::on_loopback(bbd, &[])?);
    let single = site_of_one.start_single()?;
    let (a, _b) = site_of_two.start_both()?;
    let mut rates = [0.0, 0.0];
    // The first turn is not counted: it makes stores, what follows writes them again.
    for turn in 0..=TURNS {
        for (node, rate) in [&single, &a].into_iter().zip(&mut rates) {
            let load = Load::start(&node.socket, "a", Plan { clients, depth, ..AGAIN });
            let began = Instant::now();
            sleep(BEFORE);
            let done = load.done() as f64 / began.elapsed().as_secs_f64();
            *rate += if turn == 0 { 0.0 } else { done / f64::from(TURNS) };
            load.stop();
        }
    }
    let [alone, paired] = rates;
    Ok(vec![alone, paired, paired / alone])
}

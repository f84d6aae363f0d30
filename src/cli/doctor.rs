//! Owns `bbd doctor`: the table of what it looks at in a running node and its host, and what it says in plain words of each. What is
//! read of the host is in [`mod@host`], of the daemon in its `/status` and `/metrics`. It changes nothing.

mod host;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nanoserde::{DeJson, SerJson};

use self::host::Host;
use super::client::Ask;
use super::commands::JSON;
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::metrics_page::{MetricsPage, size};
use super::{Outcome, print};
use crate::config::values::show_size;
use crate::time::days_from_civil;

/// A store key older than this should be followed by a new one.
const KEY_DAYS_MAX: u64 = 365;
/// Of the memory that there is, the stores may take so much; the rest is for connections, the backlog and other programs.
const MEMORY_SHARE_MAX: f64 = 0.8;
/// Above this share of a limit it is time to act.
const FULL_SHARE: f64 = 0.9;
/// A line of connections that is shorter overflows when many come at once.
const LINE_LENGTH_MIN: u64 = 1024;
/// Descriptors that the daemon needs beside one for each connection.
const DESCRIPTORS_BESIDE: u64 = 128;
/// A turn of the loop that took longer held everybody up.
const LONG_TURN_SECONDS: f64 = 0.1;
/// A secondary that is further behind loses more than a moment if the primary dies.
const LAG_SECONDS_MAX: f64 = 0.1;
/// A node that is there says so several times a second, whatever its role.
const SILENCE_SECONDS_MAX: f64 = 5.0;
/// No clock that is right says less: 2025-01-01.
const CLOCK_SECONDS_MIN: u64 = 1_735_689_600;
const SECONDS_PER_DAY: u64 = 86_400;
/// How wide the text is, for a terminal of 80 columns, and its left columns.
const WIDTH: usize = 79;
const COLUMN: usize = 20;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As it should be.
    Fine,
    /// Worth knowing; nothing to be done at once.
    Note,
    /// Something is to be done.
    Wrong,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Note => "note",
            Self::Wrong => "WRONG",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    about: &'static str,
    state: State,
    says: String,
}

/// The part of `/status` that is judged. What an older daemon does not say is empty.
#[derive(Clone, Debug, Default, DeJson)]
#[nserde(default)]
struct Status {
    host_id: String,
    site: String,
    role: String,
    version: String,
    uptime_seconds: u64,
    pid: u32,
    store_key: String,
    seccomp: String,
    landlock: String,
    last_replication_fail: String,
    peer_version: String,
    warnings: Vec<String>,
}

/// All that is known.
struct Patient {
    status: Status,
    metrics: MetricsPage,
    host: Host,
    uds: String,
}

/// What is looked at, and what judges it.
type Check = (&'static str, fn(&Patient) -> Judgement);

/// What is looked at, in the order in which it is shown.
const CHECKS: &[Check] = &[
    ("daemon", daemon),
    ("settings", settings),
    ("role", role),
    ("peer", peer),
    ("versions", versions),
    ("replication", replication),
    ("lost changes", lost_changes),
    ("socket", socket),
    ("connections", connections),
    ("open files", open_files),
    ("memory limit", memory_limit),
    ("memory used", memory_used),
    ("swap", swap),
    ("host", host_settings),
    ("clock", clock),
    ("store key", store_key),
    ("sandbox", sandbox),
    ("event loop", event_loop),
];

/// What a check finds: nothing if it does not apply, or several things.
type Judgement = Vec<(State, String)>;

fn fine(says: impl Into<String>) -> Judgement {
    vec![(State::Fine, says.into())]
}

fn note(says: impl Into<String>) -> Judgement {
    vec![(State::Note, says.into())]
}

fn wrong(says: impl Into<String>) -> Judgement {
    vec![(State::Wrong, says.into())]
}

impl Patient {
    fn examine(&self) -> Vec<Finding> {
        let judged = CHECKS.iter().flat_map(|&(about, check)| check(self).into_iter().map(move |found| (about, found)));
        judged.map(|(about, (state, says))| Finding { about, state, says }).collect()
    }

    /// A metric that there is for a node with a peer alone.
    fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.value(name)
    }

    fn has_peer(&self) -> bool {
        self.metric("bbd_peer_up").is_some()
    }

    fn peer_name(&self) -> &str {
        self.metrics.label("bbd_peer_up", "peer").unwrap_or("the other node")
    }

    /// The memory that the daemon may have at most, and whose limit that is.
    fn memory_there_is(&self) -> Option<(u64, &'static str)> {
        let group = self.host.cgroup_limit_bytes.map(|bytes| (bytes, "its control group allows"));
        let host = self.host.memory_bytes.map(|bytes| (bytes, "the host has"));
        group.into_iter().chain(host).min_by_key(|(bytes, _)| *bytes)
    }
}

fn daemon(patient: &Patient) -> Judgement {
    let Status { version, host_id, site, uptime_seconds, .. } = &patient.status;
    let up = uptime(*uptime_seconds);
    fine(format!("bbd {version}, host {host_id}, site {site}, up {up}"))
}

/// What the daemon warned about when it started, `--dev` above all.
fn settings(patient: &Patient) -> Judgement {
    patient.status.warnings.iter().map(|warning| (State::Wrong, warning.clone())).collect()
}

fn role(patient: &Patient) -> Judgement {
    match patient.status.role.as_str() {
        "JOINING" => {
            wrong("JOINING: this node does not have the data yet; see TROUBLESHOOTING AT NIGHT in bbd-cluster(7)")
        }
        "PRIMARY" if !patient.has_peer() => fine("PRIMARY, alone: what it holds is gone when it stops"),
        role => fine(role),
    }
}

fn peer(patient: &Patient) -> Judgement {
    let Some(up) = patient.metric("bbd_peer_up") else { return Vec::new() };
    let name = patient.peer_name();
    if up == 0.0 {
        let last = &patient.status.last_replication_fail;
        let why = if last.is_empty() { String::new() } else { format!(" (the last connection ended with: {last})") };
        return wrong(format!(
            "{name} cannot be reached{why}: look whether bbd runs there, at its log, and at the network between"
        ));
    }
    let heard = match patient.metric("bbd_peer_silence_seconds") {
        Some(silence) if silence <= SILENCE_SECONDS_MAX => {
            return fine(format!("{name} is connected, heard {silence:.1} s ago"));
        }
        Some(silence) => format!("was last heard {silence:.0} s ago"),
        None => "was never heard".to_owned(),
    };
    wrong(format!(
        "this node reaches {name}, which {heard}: see there whether bbd is stopped, and whether its log has \
         peer_unreachable: it must reach this node's --tcp too"
    ))
}

/// Two versions at once are meant for a rolling upgrade alone.
fn versions(patient: &Patient) -> Judgement {
    if patient.metric("bbd_peer_up") != Some(1.0) {
        return Vec::new();
    }
    let (name, ours) = (patient.peer_name(), &patient.status.version);
    match patient.status.peer_version.as_str() {
        "" => note(format!("{name} does not say which bbd it runs: it is older than {ours}; upgrade it too")),
        theirs if theirs == ours => fine(format!("bbd {ours} on both")),
        theirs => note(format!("{name} runs bbd {theirs} and this node {ours}: bring the upgrade to its end")),
    }
}

fn replication(patient: &Patient) -> Judgement {
    if !patient.has_peer() || patient.metrics.role() != "PRIMARY" {
        return Vec::new();
    }
    let queue = patient.metric("bbd_replication_queue_changes").unwrap_or(0.0);
    let lag = patient.metric("bbd_replication_lag_seconds").unwrap_or(0.0);
    let figures = format!("lag {:.1} ms, {queue:.0} changes on their way", lag * 1000.0);
    if patient.metric("bbd_peer_in_step") == Some(0.0) {
        return wrong(format!(
            "{} does not have the data: if this node dies now, everything is lost; bring the other one back ({figures})",
            patient.peer_name()
        ));
    }
    if lag > LAG_SECONDS_MAX {
        return wrong(format!(
            "the other node is behind, {figures}: it or the link is too slow; that much is lost if this node dies"
        ));
    }
    fine(format!("in step, {figures}"))
}

fn lost_changes(patient: &Patient) -> Judgement {
    match patient.metric("bbd_lost_changes_total") {
        Some(lost) if lost > 0.0 => note(format!(
            "{lost:.0} changes of this node were dropped since its start, because the other had become primary meanwhile"
        )),
        _ => Vec::new(),
    }
}

fn socket(patient: &Patient) -> Judgement {
    let uds = &patient.uds;
    let mut found = Vec::new();
    if let Some(mode) = patient.host.socket_mode
        && mode & 0o002 != 0
    {
        found.extend(wrong(format!(
            "everybody on the host may read and change every store: {uds} has mode {mode:04o}; start with --uds-mode=0600, \
             and give applications sockets of their own with --uds-for"
        )));
    }
    if let Some((folder, mode)) = &patient.host.folder
        && mode & 0o002 != 0
    {
        let folder = folder.display();
        found.extend(if mode & 0o1000 == 0 {
            wrong(format!("everybody may replace {uds}, as {folder} has mode {mode:04o}; choose a folder of bbd's own"))
        } else {
            note(format!(
                "before bbd starts, everybody may take its place at {uds}, since {folder} is everybody's; a folder as \
                 /run/bbd is safer"
            ))
        });
    }
    if found.is_empty() {
        let mode = patient.host.socket_mode.map_or_else(String::new, |mode| format!(" has mode {mode:04o}"));
        found = fine(format!("{uds}{mode}"));
    }
    found
}

fn connections(patient: &Patient) -> Judgement {
    let (Some(open), Some(limit)) = (patient.metric("bbd_connections"), patient.metric("bbd_connections_limit")) else {
        return Vec::new();
    };
    let rejected = patient.metric("bbd_connections_rejected_total").unwrap_or(0.0);
    if open >= FULL_SHARE * limit {
        return wrong(format!(
            "{open:.0} of {limit:.0} are open, and further ones are refused: raise --max-connections, or find who keeps them"
        ));
    }
    if rejected > 0.0 {
        return note(format!("{rejected:.0} were refused since the start, past --max-connections={limit:.0}"));
    }
    fine(format!("{open:.0} of {limit:.0}"))
}

fn open_files(patient: &Patient) -> Judgement {
    let Some(limit) = patient.host.open_files_limit else { return Vec::new() };
    let connections = patient.metric("bbd_connections_limit").unwrap_or(0.0) as u64;
    if limit < connections + DESCRIPTORS_BESIDE && limit < 1024 {
        return wrong(format!(
            "{limit} are too few for {connections} connections: raise LimitNOFILE= in the systemd unit, or ulimit -n"
        ));
    }
    fine(if limit == u64::MAX { "no limit".to_owned() } else { format!("{limit} allowed") })
}

fn memory_limit(patient: &Patient) -> Judgement {
    let limit = patient.metric("bbd_memory_limit_bytes").unwrap_or(0.0);
    let Some((bytes, whose)) = patient.memory_there_is() else { return Vec::new() };
    let (room, good) = (size(bytes as f64), size_flag(bytes as f64 * MEMORY_SHARE_MAX));
    if limit == 0.0 {
        return wrong(format!(
            "there is none, and {whose} {room}: past that the kernel kills the daemon and all is gone; start with \
             --memory-limit={good} or less, which refuses changes instead"
        ));
    }
    if limit > bytes as f64 * MEMORY_SHARE_MAX {
        return wrong(format!("{} is too much, {whose} {room}: start with --memory-limit={good} or less", size(limit)));
    }
    fine(format!("{} of the {room} that {whose}", size(limit)))
}

fn memory_used(patient: &Patient) -> Judgement {
    let used = patient.metric("bbd_memory_used_bytes").unwrap_or(0.0);
    let limit = patient.metric("bbd_memory_limit_bytes").unwrap_or(0.0);
    if limit > 0.0 && used >= FULL_SHARE * limit {
        return wrong(format!(
            "{} of {}: soon new stores are refused with CapacityExceeded; raise --memory-limit, or see which customer grows",
            size(used),
            size(limit)
        ));
    }
    fine(size(used))
}

fn swap(patient: &Patient) -> Judgement {
    match (patient.host.swapped_bytes, patient.host.swap_bytes) {
        (Some(swapped), _) if swapped > 0 => wrong(format!(
            "{} of the daemon are on swap: it is slow, and sessions are on a disk; set MemorySwapMax=0 in its unit",
            size(swapped as f64)
        )),
        (_, Some(swap)) if swap > 0 => {
            note(format!("the host has {} of it; MemorySwapMax=0 in the unit keeps sessions off it", size(swap as f64)))
        }
        (_, Some(_)) => fine("none"),
        _ => Vec::new(),
    }
}

fn host_settings(patient: &Patient) -> Judgement {
    let mut found = Vec::new();
    if patient.host.overcommit == Some(2) {
        found.extend(note(
            "vm.overcommit_memory is 2: memory is refused before it is full, and a daemon that gets none ends; 0 is usual",
        ));
    }
    if let Some(length) = patient.host.line_length_max.filter(|length| *length < LINE_LENGTH_MIN) {
        found.extend(note(format!(
            "net.core.somaxconn is {length}: when many connect at once, some are turned away; set it to 4096"
        )));
    }
    found
}

fn clock(patient: &Patient) -> Judgement {
    if patient.host.wall_seconds < CLOCK_SECONDS_MIN {
        return wrong(
            "the wall clock is years behind: logs and dates in answers are wrong; set up time synchronisation",
        );
    }
    if patient.host.clock_is_set == Some(false) {
        return note("systemd-timesyncd has not set it since the host's start: times in logs may be off");
    }
    fine("plausible")
}

fn store_key(patient: &Patient) -> Judgement {
    let id = &patient.status.store_key;
    let Some(made) = day_of(id) else {
        return if id.is_empty() { Vec::new() } else { fine(format!("{id}, of no known age")) };
    };
    let days = (patient.host.wall_seconds / SECONDS_PER_DAY).saturating_sub(made);
    if days > KEY_DAYS_MAX {
        return wrong(format!(
            "{id} is {days} days old: make a new one, see \"Changing the store keys\" in bbd-cluster(7)"
        ));
    }
    fine(format!("{id}, {days} days old"))
}

/// The day, since 1970, that the id of a key names, as `bbd keygen` makes them.
fn day_of(id: &str) -> Option<u64> {
    if id.len() != 8 || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, month, day) = (id[..4].parse().ok()?, id[4..6].parse().ok()?, id[6..].parse().ok()?);
    days_from_civil(year, month, day)
}

fn sandbox(patient: &Patient) -> Judgement {
    let parts = [("seccomp", &patient.status.seccomp), ("landlock", &patient.status.landlock)];
    let missing: Vec<&str> = parts.iter().filter(|(_, state)| *state == "unavailable").map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return note(format!(
            "{} unavailable: the kernel does not have it, or what runs the daemon forbids it",
            missing.join(" and ")
        ));
    }
    if parts.iter().any(|(_, state)| state.is_empty()) {
        return Vec::new();
    }
    let shown = parts.map(|(name, state)| format!("{name} {state}")).join(", ");
    // That it is off is among the warnings already.
    if shown.contains("off") { note(shown) } else { fine(shown) }
}

fn event_loop(patient: &Patient) -> Judgement {
    let longest = patient.metric("bbd_loop_turn_seconds_max").unwrap_or(0.0);
    if longest > LONG_TURN_SECONDS {
        return note(format!(
            "once since the start it was held up for {longest:.2} s: the host was overloaded, paused or out of memory"
        ));
    }
    fine(format!("longest turn {:.1} ms", longest * 1000.0))
}

/// A time as people say it.
fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A size as a flag takes it, in whole mebibytes.
fn size_flag(bytes: f64) -> String {
    show_size((bytes as u64 >> 20) << 20)
}

/// `bbd doctor`
pub(super) fn doctor(invocation: &Invocation) -> Outcome {
    let mut client = invocation.connect()?;
    let reply = client.ask(&Ask::post("/status".to_owned()).method("GET"))?.success()?;
    let status = Status::deserialize_json(&String::from_utf8_lossy(&reply.body))
        .map_err(|_| Failure::new(Exit::Other, "the daemon's /status is not as it should be"))?;
    let metrics = MetricsPage::fetch(&mut client)?;
    let wall_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let host = Host::read(Path::new("/"), invocation.uds(), status.pid, wall_seconds);
    let patient = Patient { status, metrics, host, uds: invocation.uds().display().to_string() };
    let findings = patient.examine();
    print(if invocation.has(&JSON) { json(&findings) } else { text(&findings) }.as_bytes())?;
    let is_wrong = findings.iter().any(|finding| finding.state == State::Wrong);
    Ok(if is_wrong { Exit::Wrong } else { Exit::Done })
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mut line = format!("{:<6}{:<14}", finding.state.name(), finding.about);
        for word in finding.says.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && !line.trim_start().is_empty() {
                text.push_str(line.trim_end());
                text.push('\n');
                line = " ".repeat(COLUMN);
            }
            if !line.ends_with("  ") {
                line.push(' ');
            }
            line.push_str(word);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let summary = match count(State::Wrong) {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        wrong => format!("{wrong} things are wrong"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{summary}");
    text
}

/// The findings for programs.
#[derive(SerJson)]
struct Report {
    wrong: u64,
    findings: Vec<ReportedFinding>,
}

#[derive(SerJson)]
struct ReportedFinding {
    about: String,
    state: String,
    says: String,
}

fn json(findings: &[Finding]) -> String {
    let reported = findings.iter().map(|finding| ReportedFinding {
        about: finding.about.to_owned(),
        state: finding.state.name().to_ascii_lowercase(),
        says: finding.says.clone(),
    });
    let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count() as u64;
    Report { wrong, findings: reported.collect() }.serialize_json() + "\n"
}

#[cfg(test)]
mod tests;

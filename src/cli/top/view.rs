//! Owns what a screen of `bbd top` says, as plain lines: the node, rates, latencies, memory, the peer, and the busiest operations.
//! Pure: two pages of metrics and the time between them become text of a given size.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::super::metrics_page::{MetricsPage, Sample, size};

/// How wide the left column is.
const COLUMN: usize = 13;

/// What is shown.
pub(super) struct Shown<'s> {
    /// What the daemon said before.
    pub(super) before: &'s MetricsPage,
    /// And now.
    pub(super) now: &'s MetricsPage,
    /// The time between; zero if there is no before.
    pub(super) elapsed: Duration,
    /// Why there is nothing newer.
    pub(super) trouble: Option<&'s str>,
    /// A line at the end.
    pub(super) foot: Option<&'s str>,
}

/// One screen of so many columns and lines at most.
pub(super) fn screen(shown: &Shown<'_>, (columns, lines): (usize, usize)) -> String {
    let mut rows = vec![title(shown)];
    if let Some(trouble) = shown.trouble {
        rows.push(format!("NO ANSWER: {trouble}"));
    }
    rows.extend(shown.general());
    rows.push(String::new());
    let operations = shown.operations();
    rows.push(format!(
        "{:<26}{:>12}{:>10}{:>10}{:>10}{:>10}",
        "operation", "requests/s", "errors/s", "p50 ms", "p99 ms", "p99.9 ms"
    ));
    let foot_lines = usize::from(shown.foot.is_some());
    let room = lines.saturating_sub(rows.len() + foot_lines);
    rows.extend(operations.iter().take(room).map(Operation::row));
    if operations.is_empty() && room > 0 {
        rows.push("(no requests yet)".to_owned());
    }
    rows.truncate(lines.saturating_sub(foot_lines));
    if let Some(foot) = shown.foot {
        rows.resize(lines.saturating_sub(1), String::new());
        rows.push(foot.to_owned());
    }
    let mut text = String::new();
    for row in rows {
        // A control character would move the cursor; a line too long would be two.
        let row: String = row.chars().filter(|c| !c.is_control()).take(columns).collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn title(shown: &Shown<'_>) -> String {
    let label = |name| shown.now.label("bbd_node_info", name).unwrap_or("?");
    let epoch = shown.now.value("bbd_leader_epoch").unwrap_or(0.0);
    let up = shown.now.value("bbd_uptime_seconds").unwrap_or(0.0) as u64;
    let (days, hours, minutes, seconds) = (up / 86_400, up / 3600 % 24, up / 60 % 60, up % 60);
    format!(
        "bbd {}   {} at {}   {}   epoch {epoch:.0}   up {days} d {hours:02}:{minutes:02}:{seconds:02}",
        label("version"),
        label("host_id"),
        label("site"),
        shown.now.role()
    )
}

impl Shown<'_> {
    /// A second of what a counter has grown by; `None` if the daemon does not have it.
    fn rate(&self, name: &str) -> Option<f64> {
        let now: Option<f64> = self.now.all(name).map(|sample| sample.value).reduce(|sum, value| sum + value);
        let before: f64 = self.before.all(name).map(|sample| sample.value).sum();
        now.map(|now| self.per_second(now, before))
    }

    /// A daemon that was started anew counts from 0.
    fn per_second(&self, now: f64, before: f64) -> f64 {
        let grown = if now >= before { now - before } else { now };
        if self.elapsed.is_zero() { 0.0 } else { grown / self.elapsed.as_secs_f64() }
    }

    fn value(&self, name: &str) -> f64 {
        self.now.value(name).unwrap_or(0.0)
    }

    /// The lines above the operations.
    fn general(&self) -> Vec<String> {
        let operations = self.operations();
        let requests: f64 = operations.iter().map(|operation| operation.requests).sum();
        let errors: f64 = operations.iter().map(|operation| operation.errors).sum();
        let mut rows = Vec::new();
        let mut row = |name: &str, text: String| rows.push(format!("{name:<COLUMN$}{text}"));
        let mut text = format!("{}/s   errors {}/s", count(requests), count(errors));
        for (name, what) in
            [("bbd_forwarded_requests_total", "passed on"), ("bbd_served_forwards_total", "for the peer")]
        {
            if let Some(rate) = self.rate(name) {
                let _ = write!(text, "   {what} {}/s", count(rate));
            }
        }
        row("requests", text);
        let all = Histogram::between(self, |_| true);
        let percentiles = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")]
            .map(|(share, name)| format!("{name} {}", milliseconds(all.quantile(share))));
        let turn = milliseconds(Some(self.value("bbd_loop_turn_seconds_max")));
        row("latency ms", format!("{}   longest turn {turn}", percentiles.join("   ")));
        row("memory", self.memory());
        row(
            "stores",
            format!(
                "{}   names {}   customers {}   tombstones {}   expired {}/s",
                count(self.value("bbd_stores")),
                count(self.value("bbd_names")),
                count(self.value("bbd_customers")),
                count(self.value("bbd_tombstones")),
                count(self.rate("bbd_expired_total").unwrap_or(0.0))
            ),
        );
        row(
            "locks",
            format!(
                "{}   waiting {}   run out {}/s",
                count(self.value("bbd_locks")),
                count(self.value("bbd_lock_waiters")),
                count(self.rate("bbd_lock_expirations_total").unwrap_or(0.0))
            ),
        );
        row("connections", self.connections());
        if let Some(limits) = self.limits() {
            row("refused", limits);
        }
        if let Some(up) = self.now.value("bbd_peer_up") {
            row("peer", self.peer(up != 0.0));
        }
        rows
    }

    fn memory(&self) -> String {
        let (used, limit) = (self.value("bbd_memory_used_bytes"), self.value("bbd_memory_limit_bytes"));
        let mut text = if limit > 0.0 {
            format!("{} of {} ({:.0} %)", size(used), size(limit), 100.0 * used / limit)
        } else {
            format!("{}, no limit", size(used))
        };
        if let Some(resident) = self.now.value("bbd_resident_memory_bytes") {
            let _ = write!(text, "   process {}", size(resident));
        }
        if let Some(cpu) = self.rate("bbd_cpu_seconds_total") {
            let _ = write!(text, "   processor {:.0} %", 100.0 * cpu);
        }
        text
    }

    fn connections(&self) -> String {
        let mut text = count(self.value("bbd_connections"));
        if let Some(limit) = self.now.value("bbd_connections_limit") {
            let _ = write!(text, " of {}", count(limit));
        }
        if let Some(rate) = self.rate("bbd_connections_accepted_total") {
            let _ = write!(text, "   new {}/s", count(rate));
        }
        let _ = write!(text, "   refused {}", count(self.value("bbd_connections_rejected_total")));
        text
    }

    /// The limits that requests have met since the look before, with how often a second.
    fn limits(&self) -> Option<String> {
        let met = self.now.all("bbd_limits_reached_total").filter_map(|sample| {
            let limit = sample.label("limit")?;
            let earlier =
                self.before.all("bbd_limits_reached_total").find(|before| before.label("limit") == Some(limit));
            let rate = self.per_second(sample.value, earlier.map_or(0.0, |before| before.value));
            (rate > 0.0).then(|| format!("{limit} {}/s", count(rate)))
        });
        let met: Vec<String> = met.collect();
        (!met.is_empty()).then(|| met.join("   "))
    }

    fn peer(&self, is_up: bool) -> String {
        let name = self.now.label("bbd_peer_up", "peer").unwrap_or("?");
        let silence =
            self.now.value("bbd_peer_silence_seconds").map_or("never".to_owned(), |s| format!("{s:.1} s ago"));
        if !is_up {
            return format!("{name}   NOT CONNECTED   heard {silence}");
        }
        let is_primary = self.now.role() == "PRIMARY";
        let step = match self.value("bbd_peer_in_step") {
            _ if !is_primary => "connected",
            step if step > 0.0 => "in step",
            _ => "NOT IN STEP",
        };
        let mut text = format!("{name}   {step}   heard {silence}");
        if is_primary {
            let _ = write!(
                text,
                "   lag {} ms   queue {}, {}",
                milliseconds(self.now.value("bbd_replication_lag_seconds")),
                count(self.value("bbd_replication_queue_changes")),
                size(self.value("bbd_replication_queue_bytes"))
            );
        }
        text
    }

    /// What was asked for since the look before, the busiest first, and then what was asked for at any time.
    fn operations(&self) -> Vec<Operation> {
        let mut counts: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for sample in self.now.all("bbd_requests_total") {
            let (Some(operation), Some(result)) = (sample.label("operation"), sample.label("result")) else { continue };
            let is_same =
                |other: &&Sample| other.label("operation") == Some(operation) && other.label("result") == Some(result);
            let earlier = self.before.all("bbd_requests_total").find(is_same).map_or(0.0, |before| before.value);
            let rate = self.per_second(sample.value, earlier);
            let (requests, errors) = counts.entry(operation).or_default();
            *requests += rate;
            *errors += if result == "ok" { 0.0 } else { rate };
        }
        let mut operations: Vec<Operation> = counts
            .into_iter()
            .map(|(name, (requests, errors))| Operation {
                name: name.to_owned(),
                requests,
                errors,
                latency: Histogram::between(self, |sample| sample.label("operation") == Some(name)),
            })
            .collect();
        operations.sort_by(|a, b| b.requests.total_cmp(&a.requests));
        operations
    }
}

/// One operation.
struct Operation {
    name: String,
    requests: f64,
    errors: f64,
    latency: Histogram,
}

impl Operation {
    fn row(&self) -> String {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| milliseconds(self.latency.quantile(share)));
        let (requests, errors) = (count(self.requests), count(self.errors));
        format!("{:<26}{requests:>12}{errors:>10}{p50:>10}{p99:>10}{p999:>10}", self.name)
    }
}

/// Latencies since the look before: upper bounds in seconds, and how many were at most that.
struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    fn between(shown: &Shown<'_>, is_wanted: impl Fn(&Sample) -> bool) -> Self {
        const NAME: &str = "bbd_request_duration_seconds_bucket";
        let mut counts: Vec<(f64, f64)> = Vec::new();
        for (page, sign) in [(shown.now, 1.0), (shown.before, -1.0)] {
            for sample in page.all(NAME).filter(|sample| is_wanted(sample)) {
                let bound = sample.label("le").and_then(|bound| bound.parse::<f64>().ok());
                let Some(bound) = bound else { continue };
                match counts.iter_mut().find(|(found, _)| *found == bound) {
                    Some((_, count)) => *count += sign * sample.value,
                    None => counts.push((bound, sign * sample.value)),
                }
            }
        }
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self(counts)
    }

    /// What this share of the requests stayed below, in seconds: on a straight line between the bounds around it, as Prometheus'
    /// `histogram_quantile` does. `None` without requests.
    fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let wanted = share * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= wanted {
                let within = if count > below { (wanted - below) / (count - below) } else { 1.0 };
                return Some(if bound.is_finite() { lower + (bound - lower) * within } else { lower });
            }
            (lower, below) = (bound, count);
        }
        Some(lower)
    }
}

/// A number or a rate, with commas; small ones with a decimal.
fn count(number: f64) -> String {
    if number > 0.0 && number < 10.0 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as milliseconds, without the unit.
fn milliseconds(seconds: Option<f64>) -> String {
    match seconds.map(|seconds| seconds * 1000.0) {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "bbd_requests_total{operation=\"snapshot\",result=\"ok\"} 1000\n\
        bbd_request_duration_seconds_bucket{operation=\"snapshot\",le=\"0.001\"} 1000\n\
        bbd_request_duration_seconds_bucket{operation=\"snapshot\",le=\"0.002\"} 1000\n\
        bbd_request_duration_seconds_bucket{operation=\"snapshot\",le=\"+Inf\"} 1000\n";
    const NOW: &str = "bbd_node_info{site=\"fra\",host_id=\"a\",version=\"0.1.0\"} 1\nbbd_role{role=\"PRIMARY\"} 1\n\
        bbd_leader_epoch 3\nbbd_uptime_seconds 90061\nbbd_stores 1234567\nbbd_memory_used_bytes 1048576\n\
        bbd_memory_limit_bytes 4194304\nbbd_connections 12\nbbd_connections_limit 1024\n\
        bbd_requests_total{operation=\"snapshot\",result=\"ok\"} 3000\n\
        bbd_requests_total{operation=\"snapshot\",result=\"NotFound\"} 20\n\
        bbd_requests_total{operation=\"update\",result=\"ok\"} 30000\n\
        bbd_request_duration_seconds_bucket{operation=\"snapshot\",le=\"0.001\"} 2000\n\
        bbd_request_duration_seconds_bucket{operation=\"snapshot\",le=\"0.002\"} 3000\n\
        bbd_request_duration_seconds_bucket{operation=\"snapshot\",le=\"+Inf\"} 3000\n\
        bbd_limits_reached_total{limit=\"rate-limit\"} 40\nbbd_limits_reached_total{limit=\"body-size\"} 0\n\
        bbd_peer_up{peer=\"b\"} 1\nbbd_peer_in_step{peer=\"b\"} 1\nbbd_peer_silence_seconds{peer=\"b\"} 0.05\n\
        bbd_replication_lag_seconds 0.0004\nbbd_replication_queue_changes 2\nbbd_replication_queue_bytes 2048\n";

    fn shown(before: &str, now: &str, size: (usize, usize)) -> String {
        let (before, now) = (MetricsPage::parse(before), MetricsPage::parse(now));
        let elapsed = Duration::from_secs(2);
        screen(&Shown { before: &before, now: &now, elapsed, trouble: None, foot: Some("q leaves") }, size)
    }

    #[test]
    fn a_screen_says_what_has_happened_since_the_one_before() {
        let screen = shown(BEFORE, NOW, (80, 24));
        let expected = "\
bbd 0.1.0   a at fra   PRIMARY   epoch 3   up 1 d 01:01:01
requests     16,010/s   errors 10/s
latency ms   p50 1.00   p90 1.80   p99 1.98   p99.9 2.00   longest turn 0.00
memory       1.0M of 4.0M (25 %)
stores       1,234,567   names 0   customers 0   tombstones 0   expired 0/s
locks        0   waiting 0   run out 0/s
connections  12 of 1,024   refused 0
refused      rate-limit 20/s
peer         b   in step   heard 0.1 s ago   lag 0.40 ms   queue 2, 2.0K

operation                   requests/s  errors/s    p50 ms    p99 ms  p99.9 ms
update                          15,000         0         -         -         -
snapshot                         1,010        10      1.00      1.98      2.00
";
        assert_eq!(screen.lines().take(13).collect::<Vec<_>>().join("\n") + "\n", expected);
        assert_eq!((screen.lines().count(), screen.lines().last()), (24, Some("q leaves")));
    }

    #[test]
    fn it_fits_any_terminal() {
        for (columns, lines) in [(80, 24), (200, 50), (20, 5), (1, 1)] {
            let screen = shown(BEFORE, NOW, (columns, lines));
            assert_eq!(screen.lines().count(), lines);
            assert!(screen.lines().all(|line| line.chars().count() <= columns), "{screen}");
        }
    }

    #[test]
    fn a_daemon_that_says_nothing_or_was_started_anew_is_no_trouble() {
        assert!(shown("", "", (80, 24)).contains("(no requests yet)"));
        assert!(
            shown(NOW, BEFORE, (80, 24)).contains("500         0"),
            "counted from 0: {}",
            shown(NOW, BEFORE, (80, 24))
        );
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.25, 9.0, 999.6, 12_345.0, 1_234_567.0].map(count);
        assert_eq!(shown, ["0", "0.2", "9", "1,000", "12,345", "1,234,567"]);
        assert_eq!([Some(0.000_05), Some(1.5), None].map(milliseconds), ["0.05", "1500", "-"]);
    }
}

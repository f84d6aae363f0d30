//! The log: one line an event on standard error, as text or as JSON. Owns the form of a line, the bound on repeated events and
//! the promise that a slow or closed standard error never holds the caller. What is worth a line, and how much it matters, stands in
//! the table of [`LogEvent`].
//!
//! No store contents, no whole store ids and no secrets are ever handed to it. Values are escaped here, so that nothing a
//! client sends can forge a line.

mod events;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::time::{Instant, Now, WallTime, civil_from_days};

pub use self::events::{EVENTS, EventRow, LogEvent};

/// So many lines of one event are written in one window; the rest is counted.
const LINES_PER_WINDOW_MAX: u32 = 5;
/// The length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// A line is cut here. Not above `PIPE_BUF` (4096 on Linux): a pipe that polls as writable takes that much without blocking.
const LINE_BYTES_MAX: usize = 4096;
/// A value is cut here.
const VALUE_BYTES_MAX: usize = 512;

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something needs an eye: a limit reached, a risky setting.
    Warn,
    /// What happens in the life of a daemon.
    #[default]
    Info,
    /// For a developer.
    Debug,
}

impl Level {
    /// Every level, the most important first.
    pub const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// The name of the level, as in `--log-level` and in every line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The syslog priority that the journal reads from the start of a line (sd-daemon(3)).
    const fn journal_prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warn => "<4>",
            Self::Info => "<6>",
            Self::Debug => "<7>",
        }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-02T03:04:05.678Z info started pid=1`
    #[default]
    Text,
    /// `{"time":"2026-01-02T03:04:05.678Z","level":"info","event":"started","pid":1}`
    Json,
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text from anywhere; escaped and cut.
    Text(&'a str),
    /// A number.
    Number(u64),
}

/// A named value of an event.
pub type LogField<'a> = (&'static str, Value<'a>);

/// Where lines go.
trait Sink {
    /// Takes a whole line or nothing, without waiting; says whether it took it.
    fn take(&mut self, line: &[u8]) -> bool;
}

/// Standard error, which is asked whether it has room before every line: making it non-blocking would make the terminal or pipe
/// non-blocking for everyone who shares it.
struct StandardError;

impl Sink for StandardError {
    fn take(&mut self, line: &[u8]) -> bool {
        let stderr = io::stderr();
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(stderr.as_fd(), rustix::event::PollFlags::OUT)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if !matches!(rustix::event::poll(&mut fds, Some(&at_once)), Ok(1)) {
            return false;
        }
        stderr.lock().write_all(line).is_ok()
    }
}

/// What was written of one event in its current window.
struct EventWindow {
    event: LogEvent,
    started: Instant,
    lines: u32,
    suppressed: u64,
}

/// The log of a daemon.
pub struct Log {
    level: Level,
    format: Format,
    journal: bool,
    sink: Box<dyn Sink>,
    windows: Vec<EventWindow>,
    line: String,
    lost_lines: u64,
    counts: [u64; EVENTS.len()],
}

impl Log {
    /// A log on standard error. If the journal reads it (`JOURNAL_STREAM` names this very stream), lines carry its priorities.
    #[must_use]
    pub fn to_stderr(level: Level, format: Format) -> Self {
        Self::to_sink(level, format, stderr_is_the_journal(), Box::new(StandardError))
    }

    fn to_sink(level: Level, format: Format, journal: bool, sink: Box<dyn Sink>) -> Self {
        Self {
            level,
            format,
            journal,
            sink,
            windows: Vec::new(),
            line: String::new(),
            lost_lines: 0,
            counts: [0; EVENTS.len()],
        }
    }

    /// One event, with some of the fields that its table has.
    pub fn event(&mut self, now: Now, event: LogEvent, fields: &[LogField<'_>]) {
        let row = event.row();
        debug_assert!(fields.iter().all(|(name, _)| row.fields.contains(name)), "{event:?} {fields:?}");
        self.counts[event as usize] += 1;
        if row.level > self.level {
            return;
        }
        self.close_windows(now);
        let window = match self.windows.iter_mut().position(|window| window.event == event) {
            Some(at) => &mut self.windows[at],
            None => {
                self.windows.push(EventWindow { event, started: now.monotonic, lines: 0, suppressed: 0 });
                let last = self.windows.len() - 1;
                &mut self.windows[last]
            }
        };
        if window.lines >= LINES_PER_WINDOW_MAX {
            window.suppressed += 1;
            return;
        }
        window.lines += 1;
        self.write(now.wall, event, fields);
    }

    /// How often each event has happened, whether it was written or not.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        EVENTS.iter().map(|row| row.name).zip(self.counts)
    }

    /// When [`Self::close_windows`] has something to say.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.windows.iter().filter(|window| window.suppressed > 0).map(|window| window.started + WINDOW).min()
    }

    /// Ends the windows whose time is over, with a line for each in which something was suppressed.
    pub fn close_windows(&mut self, now: Now) {
        let mut at = 0;
        while at < self.windows.len() {
            if now.monotonic.since(self.windows[at].started) < WINDOW {
                at += 1;
                continue;
            }
            let window = self.windows.swap_remove(at);
            if window.suppressed > 0 {
                let fields = [
                    ("repeated", Value::Number(window.suppressed)),
                    ("within_seconds", Value::Number(now.monotonic.since(window.started).as_secs())),
                ];
                self.write(now.wall, window.event, &fields);
            }
        }
    }

    fn write(&mut self, wall: WallTime, event: LogEvent, fields: &[LogField<'_>]) {
        if self.lost_lines > 0 {
            let fields = [("lines", Value::Number(self.lost_lines))];
            self.render(wall, LogEvent::LogLinesLost, &fields);
            if self.sink.take(self.line.as_bytes()) {
                self.lost_lines = 0;
                self.counts[LogEvent::LogLinesLost as usize] += 1;
            }
        }
        self.render(wall, event, fields);
        if !self.sink.take(self.line.as_bytes()) {
            self.lost_lines += 1;
        }
    }

    /// Makes the line. Writing to a `String` cannot fail, so the results are dropped.
    fn render(&mut self, wall: WallTime, event: LogEvent, fields: &[LogField<'_>]) {
        let EventRow { name: event, level, .. } = event.row();
        let line = &mut self.line;
        line.clear();
        if self.journal {
            line.push_str(level.journal_prefix());
        }
        match self.format {
            Format::Text => {
                push_rfc3339(line, wall);
                let _ = write!(line, " {} {event}", level.name());
                for (name, value) in fields {
                    let _ = write!(line, " {name}=");
                    match value {
                        Value::Number(number) => {
                            let _ = write!(line, "{number}");
                        }
                        Value::Text(text) if is_plain(text) => line.push_str(text),
                        Value::Text(text) => push_quoted(line, text),
                    }
                }
            }
            Format::Json => {
                line.push_str("{\"time\":\"");
                push_rfc3339(line, wall);
                let _ = write!(line, "\",\"level\":\"{}\",\"event\":\"{event}\"", level.name());
                for (name, value) in fields {
                    // Fields that no longer fit are left out whole, so that the line stays one JSON object.
                    let before = line.len();
                    let _ = write!(line, ",\"{name}\":");
                    match value {
                        Value::Number(number) => {
                            let _ = write!(line, "{number}");
                        }
                        Value::Text(text) => push_quoted(line, text),
                    }
                    if line.len() + 2 > LINE_BYTES_MAX {
                        line.truncate(before);
                    }
                }
                line.push('}');
            }
        }
        let fits = line.floor_char_boundary(LINE_BYTES_MAX - 1);
        line.truncate(fits);
        line.push('\n');
    }
}

/// Whether a value can stand in a text line without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= VALUE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'='))
}

/// Appends `text` as a JSON string, cut at [`VALUE_BYTES_MAX`]; everything but visible ASCII and plain letters is escaped, so
/// that neither a terminal nor a line reader sees control characters.
fn push_quoted(line: &mut String, text: &str) {
    let shown = &text[..text.floor_char_boundary(VALUE_BYTES_MAX)];
    line.push('"');
    for character in shown.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Not only the ASCII controls: the line and paragraph separators and the marks that turn text around, too.
            _ if character.is_control()
                || matches!(character, '\u{2028}'..='\u{202e}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            _ => line.push(character),
        }
    }
    if shown.len() < text.len() {
        line.push('…');
    }
    line.push('"');
}

/// Appends `2026-01-02T03:04:05.678Z` (RFC 3339).
fn push_rfc3339(line: &mut String, wall: WallTime) {
    let seconds = wall.0 / 1000;
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let second_of_day = seconds % 86_400;
    let _ = write!(
        line,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
        wall.0 % 1000
    );
}

/// Whether standard error is the journal's stream: systemd then puts its device and inode into `JOURNAL_STREAM` (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    struct Shared(Rc<RefCell<Vec<String>>>, Rc<RefCell<bool>>);

    impl Sink for Shared {
        fn take(&mut self, line: &[u8]) -> bool {
            if *self.1.borrow() {
                return false;
            }
            self.0.borrow_mut().push(String::from_utf8(line.to_vec()).unwrap_or_default());
            true
        }
    }

    type Lines = Rc<RefCell<Vec<String>>>;

    fn log(level: Level, format: Format) -> (Log, Lines, Rc<RefCell<bool>>) {
        let lines = Lines::default();
        let full = Rc::new(RefCell::new(false));
        (Log::to_sink(level, format, false, Box::new(Shared(lines.clone(), full.clone()))), lines, full)
    }

    fn at(ms: u64) -> Now {
        Now { monotonic: Instant::from_millis(ms), wall: WallTime(1_767_323_045_678 + ms) }
    }

    #[test]
    fn text_lines() {
        let (mut log, lines, _) = log(Level::Info, Format::Text);
        let fields = [("pid", Value::Number(7)), ("uds", Value::Text("/tmp/bbd.sock"))];
        log.event(at(0), LogEvent::Started, &fields);
        let odd = [("why", Value::Text("two words")), ("help", Value::Text("x\n\u{1b}[31m\"\\\u{202e}é"))];
        log.event(at(1), LogEvent::PeerRefused, &odd);
        log.event(at(2), LogEvent::PeerConnectionEnded, &[]);
        log.event(at(2), LogEvent::RoleChanged, &[("role", Value::Text(""))]);
        assert_eq!(
            *lines.borrow(),
            [
                "2026-01-02T03:04:05.678Z info started pid=7 uds=/tmp/bbd.sock\n",
                "2026-01-02T03:04:05.679Z warn peer_refused why=\"two words\" help=\"x\\n\\u001b[31m\\\"\\\\\\u202eé\"\n",
                "2026-01-02T03:04:05.680Z info role_changed role=\"\"\n",
            ]
        );
        let counted = [("started", 1), ("role_changed", 1), ("peer_refused", 1), ("peer_connection_ended", 1)];
        let counts: Vec<_> = log.counts().filter(|&(_, count)| count > 0).collect();
        assert_eq!(counts, counted, "what is not written is counted too");
    }

    #[test]
    fn json_lines_stay_whole_when_cut() {
        let (mut log, lines, _) = log(Level::Debug, Format::Json);
        log.event(at(0), LogEvent::ChangesLost, &[("count", Value::Number(1))]);
        log.event(at(0), LogEvent::ReloadFailed, &[("error", Value::Text("a \"b\""))]);
        let long = "x".repeat(2 * VALUE_BYTES_MAX);
        let fields: Vec<LogField<'_>> = (0..20).map(|_| ("error", Value::Text(&long))).collect();
        log.event(at(0), LogEvent::AcceptFailed, &fields);
        let lines = lines.borrow();
        let start = "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"error\",\"event\":";
        assert_eq!(lines[0], format!("{start}\"changes_lost\",\"count\":1}}\n"));
        assert_eq!(lines[1], format!("{start}\"reload_failed\",\"error\":\"a \\\"b\\\"\"}}\n"));
        assert!(lines[2].len() <= LINE_BYTES_MAX && lines[2].ends_with("\"}\n"), "{}", lines[2].len());
    }

    #[test]
    fn the_journal_is_told_how_much_it_matters() {
        for (format, begins) in [(Format::Text, "2026-"), (Format::Json, "{\"time\":")] {
            let (mut log, lines, _) = log(Level::Debug, format);
            log.journal = true;
            for (event, prefix) in [
                (LogEvent::AcceptFailed, "<3>"),
                (LogEvent::LoopStalled, "<4>"),
                (LogEvent::Started, "<6>"),
                (LogEvent::PeerConnectionEnded, "<7>"),
            ] {
                log.event(at(0), event, &[]);
                let line = lines.borrow().last().cloned().unwrap_or_default();
                assert!(line.strip_prefix(prefix).is_some_and(|line| line.starts_with(begins)), "{line}");
            }
        }
    }

    #[test]
    fn repeated_events_are_counted() {
        let (mut log, lines, _) = log(Level::Info, Format::Text);
        for ms in 0..1000 {
            log.event(at(ms), LogEvent::RateLimitReached, &[]);
            assert!(lines.borrow().len() <= LINES_PER_WINDOW_MAX as usize);
        }
        log.event(at(1000), LogEvent::LoopStalled, &[]);
        assert_eq!(lines.borrow().len(), 6, "each event has its own count");
        assert_eq!(log.next_deadline(), Some(Instant::from_millis(10_000)));
        log.close_windows(at(9_999));
        assert_eq!(lines.borrow().len(), 6);
        log.close_windows(at(10_000));
        let summary = "2026-01-02T03:04:15.678Z warn rate_limit_reached repeated=995 within_seconds=10\n";
        assert_eq!(lines.borrow()[6], summary);
        log.event(at(10_001), LogEvent::RateLimitReached, &[]);
        assert_eq!(lines.borrow().len(), 8);
        assert_eq!(log.next_deadline(), None);
        for count in [("loop_stalled", 1), ("rate_limit_reached", 1001), ("started", 0)] {
            assert!(log.counts().any(|known| known == count), "{count:?}");
        }
    }

    #[test]
    fn a_full_standard_error_loses_lines_and_says_so() {
        let (mut log, lines, full) = log(Level::Info, Format::Text);
        *full.borrow_mut() = true;
        log.event(at(0), LogEvent::Started, &[]);
        log.event(at(0), LogEvent::Stopping, &[]);
        *full.borrow_mut() = false;
        log.event(at(0), LogEvent::Stopped, &[]);
        let lines = lines.borrow();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].ends_with("warn log_lines_lost lines=2\n") && lines[1].ends_with("info stopped\n"),
            "{lines:?}"
        );
    }
}

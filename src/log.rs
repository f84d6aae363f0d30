//! The log: one line an event on standard error, as text or as JSON. Owns the form of a line, the bound on repeated events and
//! the promise that a slow or closed standard error never holds the caller. It does not own what is worth a line.
//!
//! No store contents, no whole store ids and no secrets are ever handed to it. Values are escaped here, so that nothing a
//! client sends can forge a line.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::time::{Instant, Now, WallTime, civil_from_days};

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
    event: &'static str,
    level: Level,
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
}

impl Log {
    /// A log on standard error. If the journal reads it (`JOURNAL_STREAM` names this very stream), text lines carry its priorities.
    #[must_use]
    pub fn to_stderr(level: Level, format: Format) -> Self {
        Self::to_sink(level, format, stderr_is_the_journal(), Box::new(StandardError))
    }

    fn to_sink(level: Level, format: Format, journal: bool, sink: Box<dyn Sink>) -> Self {
        Self { level, format, journal, sink, windows: Vec::new(), line: String::new(), lost_lines: 0 }
    }

    /// Something is broken.
    pub fn error(&mut self, now: Now, event: &'static str, fields: &[LogField<'_>]) {
        self.event(now, Level::Error, event, fields);
    }

    /// Something needs an eye.
    pub fn warn(&mut self, now: Now, event: &'static str, fields: &[LogField<'_>]) {
        self.event(now, Level::Warn, event, fields);
    }

    /// Something that happens in the life of a daemon.
    pub fn info(&mut self, now: Now, event: &'static str, fields: &[LogField<'_>]) {
        self.event(now, Level::Info, event, fields);
    }

    /// Something for a developer.
    pub fn debug(&mut self, now: Now, event: &'static str, fields: &[LogField<'_>]) {
        self.event(now, Level::Debug, event, fields);
    }

    /// One event. `event` is a fixed name, by which repetitions are counted.
    fn event(&mut self, now: Now, level: Level, event: &'static str, fields: &[LogField<'_>]) {
        if level > self.level {
            return;
        }
        self.close_windows(now);
        let window = match self.windows.iter_mut().position(|window| window.event == event) {
            Some(at) => &mut self.windows[at],
            None => {
                self.windows.push(EventWindow { event, level, started: now.monotonic, lines: 0, suppressed: 0 });
                let last = self.windows.len() - 1;
                &mut self.windows[last]
            }
        };
        if window.lines >= LINES_PER_WINDOW_MAX {
            window.suppressed += 1;
            return;
        }
        window.lines += 1;
        self.write(now.wall, level, event, fields);
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
                self.write(now.wall, window.level, window.event, &fields);
            }
        }
    }

    fn write(&mut self, wall: WallTime, level: Level, event: &'static str, fields: &[LogField<'_>]) {
        if self.lost_lines > 0 {
            let fields = [("lines", Value::Number(self.lost_lines))];
            self.render(wall, Level::Warn, "log_lines_lost", &fields);
            if self.sink.take(self.line.as_bytes()) {
                self.lost_lines = 0;
            }
        }
        self.render(wall, level, event, fields);
        if !self.sink.take(self.line.as_bytes()) {
            self.lost_lines += 1;
        }
    }

    /// Makes the line. Writing to a `String` cannot fail, so the results are dropped.
    fn render(&mut self, wall: WallTime, level: Level, event: &str, fields: &[LogField<'_>]) {
        let line = &mut self.line;
        line.clear();
        match self.format {
            Format::Text => {
                if self.journal {
                    line.push_str(level.journal_prefix());
                }
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
        log.info(at(0), "started", &[("pid", Value::Number(7)), ("uds", Value::Text("/tmp/bbd.sock"))]);
        log.warn(at(1), "odd", &[("a", Value::Text("two words")), ("b", Value::Text("x\n\u{1b}[31m\"\\\u{202e}é"))]);
        log.debug(at(2), "quiet", &[]);
        log.info(at(2), "empty", &[("v", Value::Text(""))]);
        assert_eq!(
            *lines.borrow(),
            [
                "2026-01-02T03:04:05.678Z info started pid=7 uds=/tmp/bbd.sock\n",
                "2026-01-02T03:04:05.679Z warn odd a=\"two words\" b=\"x\\n\\u001b[31m\\\"\\\\\\u202eé\"\n",
                "2026-01-02T03:04:05.680Z info empty v=\"\"\n",
            ]
        );
    }

    #[test]
    fn json_lines_stay_whole_when_cut() {
        let (mut log, lines, _) = log(Level::Debug, Format::Json);
        log.error(at(0), "broken", &[("why", Value::Text("a \"b\"")), ("n", Value::Number(1))]);
        let long = "x".repeat(2 * VALUE_BYTES_MAX);
        let fields: Vec<LogField<'_>> = (0..20).map(|_| ("long", Value::Text(&long))).collect();
        log.debug(at(0), "long", &fields);
        let lines = lines.borrow();
        assert_eq!(
            lines[0],
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"error\",\"event\":\"broken\",\"why\":\"a \\\"b\\\"\",\"n\":1}\n"
        );
        assert!(lines[1].len() <= LINE_BYTES_MAX && lines[1].ends_with("\"}\n"), "{}", lines[1].len());
    }

    #[test]
    fn repeated_events_are_counted() {
        let (mut log, lines, _) = log(Level::Info, Format::Text);
        for ms in 0..1000 {
            log.warn(at(ms), "limit", &[]);
            assert!(lines.borrow().len() <= LINES_PER_WINDOW_MAX as usize);
        }
        log.warn(at(1000), "other", &[]);
        assert_eq!(lines.borrow().len(), 6, "each event has its own count");
        assert_eq!(log.next_deadline(), Some(Instant::from_millis(10_000)));
        log.close_windows(at(9_999));
        assert_eq!(lines.borrow().len(), 6);
        log.close_windows(at(10_000));
        assert_eq!(lines.borrow()[6], "2026-01-02T03:04:15.678Z warn limit repeated=995 within_seconds=10\n");
        log.warn(at(10_001), "limit", &[]);
        assert_eq!(lines.borrow().len(), 8);
        assert_eq!(log.next_deadline(), None);
    }

    #[test]
    fn a_full_standard_error_loses_lines_and_says_so() {
        let (mut log, lines, full) = log(Level::Info, Format::Text);
        *full.borrow_mut() = true;
        log.info(at(0), "a", &[]);
        log.info(at(0), "b", &[]);
        *full.borrow_mut() = false;
        log.info(at(0), "c", &[]);
        let lines = lines.borrow();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("warn log_lines_lost lines=2\n") && lines[1].ends_with("info c\n"), "{lines:?}");
    }
}

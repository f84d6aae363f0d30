//! Owns `bbd top`: asking the daemon for `/metrics` again and again, and showing what has happened in between. What a screen says is
//! in [`mod@view`], the terminal in [`mod@terminal`].

mod terminal;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use self::terminal::Terminal;
use self::view::{Shown, screen};
use super::client::Client;
use super::commands::{INTERVAL, ONCE};
use super::exit::{Exit, Failure};
use super::invocation::Invocation;
use super::metrics_page::MetricsPage;
use super::{Outcome, print};

/// The time between two looks, unless asked otherwise.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(2);
/// With `--once` the time that rates are counted over.
const ONCE_DEFAULT: Duration = Duration::from_secs(1);
/// More often, the looks would be a load themselves.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How long a key or a resize waits for an answer.
const TICK: Duration = Duration::from_millis(100);
/// What is printed where no terminal says how large it is.
const PRINTED_SIZE: (usize, usize) = (80, 24);

/// What the daemon said, and when.
struct Look {
    at: Instant,
    page: MetricsPage,
}

/// `bbd top`
pub(super) fn top(invocation: &Invocation) -> Outcome {
    let interval = invocation.ttl(&INTERVAL)?;
    if interval.is_some_and(|interval| interval < INTERVAL_MIN) {
        return Err(Failure::usage("--interval: allowed: at least 100ms"));
    }
    if invocation.has(&ONCE) || !io::stdout().is_terminal() {
        return once(invocation, interval.unwrap_or(ONCE_DEFAULT));
    }
    let interval = interval.unwrap_or(INTERVAL_DEFAULT);
    // The first look is before the terminal is taken: that nobody answers is said in one plain line.
    let first = Look { at: Instant::now(), page: MetricsPage::fetch(&mut invocation.connect()?)? };
    let looks = look_on(invocation.uds().to_owned(), interval);
    let shown = Terminal::take().and_then(|terminal| live(&terminal, &looks, first, interval));
    match shown {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Failure::new(Exit::Other, format!("the terminal cannot be used: {error}"))),
    }
}

/// Two looks, and what happened between.
fn once(invocation: &Invocation, interval: Duration) -> Outcome {
    let mut client = invocation.connect()?;
    let before = Look { at: Instant::now(), page: MetricsPage::fetch(&mut client)? };
    thread::sleep(interval);
    let now = Look { at: Instant::now(), page: MetricsPage::fetch(&mut client)? };
    let shown = Shown { before: &before.page, now: &now.page, elapsed: now.at - before.at, trouble: None, foot: None };
    print(screen(&shown, PRINTED_SIZE).as_bytes())
}

/// Looks from a thread of its own, so that a daemon that hangs does not make the terminal hang.
fn look_on(uds: PathBuf, interval: Duration) -> Receiver<Result<Look, Failure>> {
    let (sender, looks) = sync_channel(1);
    thread::spawn(move || {
        let mut client: Option<Client> = None;
        loop {
            thread::sleep(interval);
            let connected = client.take().map_or_else(|| Client::connect(&uds), Ok);
            let look = connected.and_then(|mut connected| {
                let page = MetricsPage::fetch(&mut connected)?;
                client = Some(connected);
                Ok(Look { at: Instant::now(), page })
            });
            if sender.send(look).is_err() {
                return;
            }
        }
    });
    looks
}

/// Shows one screen after the other until somebody leaves.
fn live(
    terminal: &Terminal,
    looks: &Receiver<Result<Look, Failure>>,
    first: Look,
    interval: Duration,
) -> io::Result<()> {
    let foot = format!("q leaves; every {:.1} s", interval.as_secs_f64());
    let (mut before, mut now) = (None, first);
    let (mut trouble, mut drawn_size) = (None, None);
    loop {
        let is_new = match looks.try_recv() {
            Ok(Ok(look)) => {
                trouble = None;
                before = Some(std::mem::replace(&mut now, look));
                true
            }
            Ok(Err(failure)) => {
                trouble = Some(failure.message);
                true
            }
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => return Ok(()),
        };
        let size = terminal.size();
        if is_new || drawn_size != Some(size) {
            let earlier = before.as_ref().unwrap_or(&now);
            let shown = Shown {
                before: &earlier.page,
                now: &now.page,
                elapsed: now.at - earlier.at,
                trouble: trouble.as_deref(),
                foot: Some(&foot),
            };
            terminal.show(&screen(&shown, size))?;
            drawn_size = Some(size);
        }
        if terminal.wants_to_leave_within(TICK)? {
            return Ok(());
        }
    }
}

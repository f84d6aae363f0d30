//! Owns the terminal while `bbd top` has it: its second screen, keys as they are pressed, and putting everything back.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The second screen, which leaves the first as it was, without the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// What a terminal is taken for that does not say how large it is.
const SIZE: (usize, usize) = (80, 24);
/// Ctrl-C and Ctrl-D, where they come as keys.
const LEAVING_KEYS: [u8; 4] = [b'q', b'Q', 0x03, 0x04];

/// The terminal.
pub(super) struct Terminal {
    /// How it was, if keys come from it.
    before: Option<Termios>,
    /// A signal has come that ends us.
    is_ending: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        let is_ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&is_ending))?;
        }
        let stdin = io::stdin();
        let before = if stdin.is_terminal() { Some(tcgetattr(&stdin)?) } else { None };
        if let Some(before) = &before {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Now, &keys)?;
        }
        let terminal = Self { before, is_ending };
        write(ENTER)?;
        Ok(terminal)
    }

    /// Its columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        let known = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        known.map_or(SIZE, |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// Shows lines in place of what is shown, without a moment of nothing between.
    pub(super) fn show(&self, text: &str) -> io::Result<()> {
        write(&format!("\x1b[H{}\x1b[J", text.trim_end().replace('\n', "\x1b[K\r\n") + "\x1b[K"))
    }

    /// Waits for a while: whether somebody wants to leave.
    pub(super) fn wants_to_leave_within(&self, wait: Duration) -> io::Result<bool> {
        if self.before.is_none() {
            sleep(wait);
        } else {
            let stdin = io::stdin();
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
            if matches!(poll(&mut fds, Some(&wait)), Ok(1)) {
                let mut keys = [0; 64];
                let count = stdin.lock().read(&mut keys)?;
                if count == 0 || keys[..count].iter().any(|key| LEAVING_KEYS.contains(key)) {
                    return Ok(true);
                }
            }
        }
        Ok(self.is_ending.load(Ordering::Relaxed))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal is gone, nobody misses it.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

//! What the operating system says of this process, for `/metrics`. Owns the file that says it, which is opened once at the start:
//! later there may be no descriptor left, or no right to open anything.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::status::ProcessStatus;

/// `/proc/self/status` is about 1.5 KB long, and what is looked for stands in its first half.
const STATUS_BYTES_MAX: usize = 4096;

/// The process.
pub(super) struct Process {
    status_file: Option<File>,
}

impl Process {
    /// Opens what is read later; without `/proc` there is nothing to read.
    pub(super) fn open() -> Self {
        Self { status_file: File::open("/proc/self/status").ok() }
    }

    /// How it is now.
    pub(super) fn status(&self) -> ProcessStatus {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let mut bytes = [0; STATUS_BYTES_MAX];
        let length = self.status_file.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
        ProcessStatus {
            resident_bytes: resident_bytes(&String::from_utf8_lossy(&bytes[..length])),
            cpu_time: Duration::try_from(used).unwrap_or_default(),
        }
    }
}

/// The line `VmRSS:     1234 kB`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_time() {
        let process = Process::open();
        let before = process.status();
        assert!((64 * 1024..1 << 40).contains(&before.resident_bytes.unwrap_or(0)));
        let mut sum: u64 = 0;
        while process.status().cpu_time == before.cpu_time {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(process.status().cpu_time > before.cpu_time, "{sum}");
    }

    #[test]
    fn other_lines_say_nothing() {
        assert_eq!(resident_bytes("VmHWM:\t 2 kB\nVmRSS:\t   1234 kB\nVmData:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes("VmRSS:\t 1234 MB\n"), None);
        assert_eq!(resident_bytes(""), None);
    }
}

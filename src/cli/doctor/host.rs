//! Owns what `bbd doctor` reads of the host and of the daemon's process, from `/proc`, `/sys` and the socket's file. Does not judge it.
//! What cannot be read is `None`: another host has other files.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// Permission bits of the socket's file.
    pub(super) socket_mode: Option<u32>,
    /// The folder that it is in, and that folder's permission bits.
    pub(super) folder: Option<(PathBuf, u32)>,
    /// The daemon's limit of open files.
    pub(super) open_files_limit: Option<u64>,
    /// Memory of the daemon that is on swap.
    pub(super) swapped_bytes: Option<u64>,
    /// The least limit of memory among the daemon's control groups.
    pub(super) cgroup_limit_bytes: Option<u64>,
    /// The host's memory.
    pub(super) memory_bytes: Option<u64>,
    /// The host's swap.
    pub(super) swap_bytes: Option<u64>,
    /// `vm.overcommit_memory`
    pub(super) overcommit: Option<u64>,
    /// `net.core.somaxconn`
    pub(super) line_length_max: Option<u64>,
    /// Whether systemd has set the clock; `None` where something else does.
    pub(super) clock_is_set: Option<bool>,
    /// Seconds since 1970, as the wall clock says.
    pub(super) wall_seconds: u64,
}

impl Host {
    /// Looks at the host below `root`, which is `/` outside of tests.
    pub(super) fn read(root: &Path, uds: &Path, pid: u32, wall_seconds: u64) -> Self {
        let at = |path: &str| root.join(path);
        let process = at("proc").join(pid.to_string());
        let meminfo = fs::read_to_string(at("proc/meminfo")).unwrap_or_default();
        let folder = uds.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
        let mode = |path: &Path| fs::metadata(path).ok().map(|found| found.mode() & 0o7777);
        let timesync = at("run/systemd/timesync");
        Self {
            socket_mode: mode(uds),
            folder: folder.and_then(|folder| Some((folder.to_owned(), mode(folder)?))),
            open_files_limit: open_files_limit(&fs::read_to_string(process.join("limits")).unwrap_or_default()),
            swapped_bytes: kilobytes(&fs::read_to_string(process.join("status")).unwrap_or_default(), "VmSwap:"),
            cgroup_limit_bytes: cgroup_limit(
                &at("sys/fs/cgroup"),
                &fs::read_to_string(process.join("cgroup")).unwrap_or_default(),
            ),
            memory_bytes: kilobytes(&meminfo, "MemTotal:"),
            swap_bytes: kilobytes(&meminfo, "SwapTotal:"),
            overcommit: number_in(&at("proc/sys/vm/overcommit_memory")),
            line_length_max: number_in(&at("proc/sys/net/core/somaxconn")),
            clock_is_set: timesync.exists().then(|| timesync.join("synchronized").exists()),
            wall_seconds,
        }
    }
}

/// The number that a file holds.
fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line such as `VmSwap:      0 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit in effect of `Max open files  1024  4096  files`; none is as good as the greatest.
fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// The least `memory.max` from the group of `0::/a/b` up to the root; of version 2 alone.
fn cgroup_limit(groups: &Path, of_process: &str) -> Option<u64> {
    let path = of_process.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = groups.join(path);
    let ancestors = group.ancestors().take_while(|folder| folder.starts_with(groups));
    ancestors.filter_map(|folder| number_in(&folder.join("memory.max"))).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_host_is_read() {
        let root = std::env::temp_dir().join(format!("bbd-doctor-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/7/limits", "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n");
        write("proc/7/status", "Name:\tbbd\nVmSwap:\t      12 kB\n");
        write("proc/7/cgroup", "0::/system.slice/bbd.service\n");
        write("sys/fs/cgroup/system.slice/memory.max", "1000\n");
        write("sys/fs/cgroup/system.slice/bbd.service/memory.max", "max\n");
        write("proc/meminfo", "MemTotal:        2048 kB\nSwapTotal:       0 kB\n");
        write("proc/sys/vm/overcommit_memory", "2\n");
        write("proc/sys/net/core/somaxconn", "128\n");
        write("run/systemd/timesync/x", "");
        let host = Host::read(&root, &root.join("proc/7/limits"), 7, 1);
        let other = Host::read(&root.join("nothing"), Path::new("s"), 8, 1);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((host.open_files_limit, host.swapped_bytes), (Some(1024), Some(12 * 1024)));
        assert_eq!((host.cgroup_limit_bytes, host.memory_bytes), (Some(1000), Some(2048 * 1024)));
        assert_eq!((host.swap_bytes, host.overcommit, host.line_length_max), (Some(0), Some(2), Some(128)));
        assert_eq!(host.clock_is_set, Some(false));
        assert!(host.socket_mode.is_some() && host.folder.is_some());
        assert_eq!((other.open_files_limit, other.cgroup_limit_bytes, other.clock_is_set), (None, None, None));
    }

    #[test]
    fn a_group_without_limit_has_none() {
        assert_eq!(cgroup_limit(Path::new("/no/such"), "0::/\n"), None);
        assert_eq!(cgroup_limit(Path::new("/no/such"), "1:memory:/x\n"), None);
        assert_eq!(open_files_limit("Max open files  unlimited  unlimited  files"), Some(u64::MAX));
    }
}

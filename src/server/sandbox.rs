//! Owns what the process gives up: memory that others may read, at the start, and every system call and file that it does not need
//! any more, once it serves (`--no-sandbox` keeps those). Whoever finds a fault in the daemon then finds himself in a process that
//! can run no program, open no new kind of socket, and read nothing but its own key files.
//!
//! Does not own what systemd takes away before the start (`scripts/systemd`); both hold together.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::config::Config;
use crate::config::map::MapConfig;
use crate::status::{Protection, Sandbox};

/// The newest of Landlock's versions whose restrictions we know; an older kernel enforces what it has.
const LANDLOCK: ABI = ABI::V6;
/// Name servers are asked over TCP for long answers.
const DNS_PORT: u16 = 53;
/// Where the system's resolver reads: its settings, which are replaced and not rewritten, so that their folder must be open; its
/// modules; and the settings that systemd-resolved writes.
const RESOLVER_FOLDERS: [&str; 6] = ["/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/run/systemd/resolve"];
/// Kept open for the moment without descriptors.
const NULL_DEVICE: &str = "/dev/null";
/// What the process may read about itself.
const OWN_PROCESS: &str = "/proc/self";

/// Gives up, before any secret is read, what nobody needs of a daemon: dumps of its memory on a disk, other processes of its user
/// looking into it, and privileges from programs with the set-user-id bit. What the system refuses stays as it was.
pub fn seal_memory() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = set_no_new_privs(true);
}

/// Confines the process for the rest of its life, as far as the kernel can, and says how far that is. To be called when everything
/// is open that is only opened once.
pub(super) fn confine(config: &Config) -> Sandbox {
    if config.no_sandbox {
        return Sandbox { seccomp: Protection::Off, landlock: Protection::Off };
    }
    // First the files: once the system calls are counted, those for it are gone.
    let landlock = protection(&restrict_files(config));
    let seccomp = restrict_calls(Needs::of(config)).map_or(Protection::Unavailable, |()| Protection::On);
    Sandbox { seccomp, landlock }
}

/// The same for the thread of the cluster map and those that it will start. Where sessions are served beside it, [`confine`] takes the
/// system calls from all threads, once the sessions have opened what they need.
pub(super) fn confine_map(settings: &MapConfig) -> Sandbox {
    if settings.no_sandbox {
        return Sandbox { seccomp: Protection::Off, landlock: Protection::Off };
    }
    let landlock = protection(&restrict_files_of_map(settings));
    let needs = Needs { peer: false, resolver: false, map: true };
    let seccomp = match settings.has_sessions {
        true => Protection::Off,
        false => restrict_calls(needs).map_or(Protection::Unavailable, |()| Protection::On),
    };
    Sandbox { seccomp, landlock }
}

fn protection(status: &Result<RulesetStatus, RulesetError>) -> Protection {
    match status {
        Ok(RulesetStatus::FullyEnforced) => Protection::On,
        Ok(RulesetStatus::PartiallyEnforced) => Protection::Partial,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Protection::Unavailable,
    }
}

/// What is needed beside the bare service of connections.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// Connections to another node.
    peer: bool,
    /// The system's resolver, on a thread of its own.
    resolver: bool,
    /// The cluster map: its files, its threads, nodes at any address, whose names it may have to resolve.
    map: bool,
}

impl Needs {
    fn of(config: &Config) -> Self {
        let resolver = config.peer.as_ref().is_some_and(|peer| peer.address.ip().is_none());
        Self { peer: config.peer.is_some(), resolver, map: config.map.is_some() }
    }
}

/// Restricts files and TCP ports with Landlock.
fn restrict_files(config: &Config) -> Result<RulesetStatus, RulesetError> {
    let needs = Needs::of(config);
    let mut readable: Vec<PathBuf> = vec![NULL_DEVICE.into(), OWN_PROCESS.into()];
    readable.extend(config.reloaded_files().iter().flat_map(|path| folders_of(path)));
    if needs.resolver {
        readable.extend(RESOLVER_FOLDERS.map(PathBuf::from));
    }
    let sockets = std::iter::once(&config.uds).chain(config.uds_for.iter().map(|socket| &socket.path));
    let with_sockets: Vec<PathBuf> = sockets.flat_map(|path| folders_of(path)).collect();
    let mut ports = Vec::new();
    ports.extend(config.peer.as_ref().map(|peer| peer.address.port));
    ports.extend(needs.resolver.then_some(DNS_PORT));

    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(with_sockets, AccessFs::RemoveFile))?
        .add_rules(ports.into_iter().map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

/// The same for the cluster map: its data folder, in which files come and go, the files of its tokens, and what the resolver reads. Its
/// nodes may be at any port, but it listens nowhere any more.
fn restrict_files_of_map(settings: &MapConfig) -> Result<RulesetStatus, RulesetError> {
    let mut readable: Vec<PathBuf> = vec![NULL_DEVICE.into(), OWN_PROCESS.into()];
    readable.extend(settings.reloaded_files().iter().flat_map(|path| folders_of(path)));
    readable.extend(RESOLVER_FOLDERS.map(PathBuf::from));
    let in_data_dir = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?;
    if !settings.has_sessions {
        // Else it must be able to stop the sessions, which some kernels take for another process.
        ruleset = ruleset.scope(Scope::from_all(LANDLOCK))?;
    }
    let restricted = ruleset
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules([&settings.data_dir], in_data_dir))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

/// The folders in which a file stands, as named and behind links: a file that is replaced is another one to Landlock, its folder is
/// not. A credential's folder may be replaced too, with all of its files.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| {
        path.parent().map(|folder| if folder == Path::new("") { PathBuf::from(".") } else { folder.to_owned() })
    };
    let mut folders: Vec<PathBuf> = folder(path).into_iter().collect();
    folders.extend(path.canonicalize().ok().as_deref().and_then(folder));
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    if credentials.is_some() && folder(path) == credentials {
        folders.extend(credentials.as_deref().and_then(folder));
    }
    folders
}

/// Restricts system calls with two seccomp filters, of which the stricter answer counts.
///
/// What only an intruder would ask for ends the process, which the kernel's log and the service manager tell. Any other call that is
/// not listed fails as on a kernel that does not have it: a library newer than this list falls back on what it did before, and all
/// data is in memory, so that ending the process for a call that is merely new would lose more than it saves. A build with debug
/// assertions ends for these too, so that no test misses one.
fn restrict_calls(needs: Needs) -> seccompiler::Result<()> {
    let unknown = if cfg!(debug_assertions) {
        SeccompAction::KillProcess
    } else {
        SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or_default())
    };
    let deadly = DEADLY_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let filters = [compile(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?, {
        compile(allowed_calls(needs)?, unknown, SeccompAction::Allow)?
    }];
    filters.iter().try_for_each(|filter| seccompiler::apply_filter_all_threads(filter))
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> seccompiler::Result<BpfProgram> {
    let architecture = TargetArch::try_from(env::consts::ARCH)?;
    Ok(BpfProgram::try_from(SeccompFilter::new(rules, otherwise, listed, architecture)?)?)
}

/// The calls that are allowed; without rules whatever their arguments, which the kernel then decides without running the filter.
fn allowed_calls(needs: Needs) -> seccompiler::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut tables: Vec<&[i64]> = vec![CALLS, CALLS_OF_OLDER_NAMES];
    tables.extend((needs.peer || needs.map).then_some(PEER_CALLS));
    tables.extend((needs.resolver || needs.map).then_some(RESOLVER_CALLS));
    tables.extend(needs.map.then_some(MAP_CALLS));
    calls.extend(tables.concat().into_iter().map(|call| (call, Vec::new())));
    if needs.map {
        // A map that fails stops the sessions beside it, and nobody else.
        let own = u64::from(std::process::id());
        let rule = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own)?;
        calls.insert(libc::SYS_kill, vec![SeccompRule::new(vec![rule])?]);
    }
    if !needs.resolver && !needs.map {
        // No memory becomes a program. The resolver alone loads modules.
        let no_program = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let rule = SeccompCondition::new(2, SeccompCmpArgLen::Dword, no_program.clone(), 0)?;
            calls.insert(call, vec![SeccompRule::new(vec![rule])?]);
        }
    }
    Ok(calls)
}

/// What serving connections takes, and what the runtime needs beside it. A test whose daemon ended with signal 31 asks for one more:
/// `strace -f` shows which.
const CALLS: &[i64] = &[
    // Connections and open files.
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_fcntl,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    // Key files, and socket files at the end.
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Time and randomness.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Signals, and the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Calls of the first architectures that later ones have under newer names alone.
#[cfg(target_arch = "x86_64")]
const CALLS_OF_OLDER_NAMES: &[i64] =
    &[libc::SYS_epoll_wait, libc::SYS_lstat, libc::SYS_open, libc::SYS_poll, libc::SYS_stat, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const CALLS_OF_OLDER_NAMES: &[i64] = &[];

/// What dialling another node takes.
const PEER_CALLS: &[i64] = &[libc::SYS_bind, libc::SYS_connect, libc::SYS_socket];

/// What the system's resolver takes, and the thread that it runs on.
const RESOLVER_CALLS: &[i64] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    libc::SYS_membarrier,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_readlinkat,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_set_robust_list,
    libc::SYS_statfs,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// What the files of the cluster map take, and the threads that write them.
const MAP_CALLS: &[i64] = &[
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// What nothing in a daemon ever asks for: other programs and processes, the kernel itself, other roots and namespaces.
const DEADLY_CALLS: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_deadly_and_every_filter_compiles() {
        for (peer, resolver, map) in
            [(false, false, false), (true, false, false), (true, true, false), (false, false, true), (true, true, true)]
        {
            let calls = allowed_calls(Needs { peer, resolver, map }).unwrap();
            assert!(DEADLY_CALLS.iter().all(|call| !calls.contains_key(call)));
            assert_eq!(calls.contains_key(&libc::SYS_socket), peer || map);
            assert_eq!(calls.contains_key(&libc::SYS_clone3), resolver || map);
            assert_eq!(calls.contains_key(&libc::SYS_fsync), map);
            assert_eq!(calls.get(&libc::SYS_kill).is_some_and(|rules| !rules.is_empty()), map);
            assert_eq!(
                calls[&libc::SYS_mmap].is_empty(),
                resolver || map,
                "memory becomes a program for modules alone"
            );
            compile(calls, SeccompAction::KillProcess, SeccompAction::Allow).unwrap();
        }
    }

    #[test]
    fn folders_are_those_that_hold_the_file_whatever_takes_its_place() {
        assert_eq!(folders_of(Path::new("no-such-file")), [PathBuf::from(".")]);
        assert_eq!(folders_of(Path::new("/no/such/file")), [PathBuf::from("/no/such")]);
        let folder = env::temp_dir().join(format!("bbd-sandbox-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::fs::write(folder.join("real/keys"), "").unwrap();
        std::os::unix::fs::symlink("real/keys", folder.join("keys")).unwrap();
        let found = folders_of(&folder.join("keys"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0] == folder && found[1].ends_with("real"), "{found:?}");
    }
}

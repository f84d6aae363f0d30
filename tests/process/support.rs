//! What tests of the real binary share: a daemon of one's own, raw connections to it, and a strict reader of its
//! answers.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything that should happen at once may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a program is there that tests use beside `bbd`. Without it they are left out, which `scripts/check` says; CI
/// leaves nothing out.
pub(crate) fn has_tool(name: &str) -> bool {
    let mut command = Command::new(name);
    let is_there = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(is_there || !is_ci, "{name} is missing; scripts/check installs it where CI=true");
    is_there
}

/// The first of so many ports in a row that nobody listens on, as far as one can know.
pub(crate) fn free_ports(count: u16) -> u16 {
    // Below those that the kernel gives to connections, which come and go.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let place = std::process::id().wrapping_mul(17).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 1000;
        let first = 10_000 + 20 * place as u16;
        // All are held until all are known.
        let held: Vec<TcpListener> =
            (first..first + count).map_while(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
        if held.len() == usize::from(count) {
            return first;
        }
    }
    panic!("there are no {count} free ports in a row");
}

/// Kills the nodes that scripts/cluster_manager.sh has started in a folder, whatever became of the test.
pub(crate) fn kill_nodes_in(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let run = fs::read_to_string(entry.path()).unwrap_or_default();
        let pid = run.trim().strip_prefix("process ").and_then(|pid| pid.parse().ok());
        let command = pid.map(|pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        let is_ours = command.is_some_and(|command| {
            String::from_utf8_lossy(&command).contains(&format!("--data-dir={}", folder.display()))
        });
        if let Some(pid) = pid.filter(|_| is_ours).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A directory that is removed with everything in it when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bbd-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory for the test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `bbd --dev` with a socket of its own; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    dir: TempDir,
    socket: PathBuf,
}

impl Daemon {
    /// Starts `bbd --dev --uds=… flags…` and waits until it answers.
    pub(crate) fn start<S: AsRef<OsStr>>(flags: &[S]) -> Self {
        Self::start_in(TempDir::new(), |command| {
            command.args(flags);
        })
    }

    /// The same in a directory of one's own, after a last change to the command: [`Daemon::socket_in`] is its socket.
    pub(crate) fn start_in(dir: TempDir, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Self::command_in(&dir);
        change(&mut command);
        Self::run(dir, command)
    }

    /// Runs a command that becomes a daemon, and waits until it answers.
    pub(crate) fn run(dir: TempDir, mut command: Command) -> Self {
        let child = command.spawn().expect("bbd starts");
        let socket = Self::socket_in(&dir);
        let mut daemon = Self { child, dir, socket };
        daemon.wait_until_it_answers();
        daemon
    }

    /// `bbd --dev --uds=…` in a directory of one's own, logging into its file `log`.
    pub(crate) fn command_in(dir: &TempDir) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bbd"));
        command.arg("--dev").arg("--uds").arg(Self::socket_in(dir)).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Self::log_in(dir));
        command
    }

    /// The file that a daemon in a directory logs into, at its end.
    pub(crate) fn log_in(dir: &TempDir) -> fs::File {
        let log = fs::File::options().create(true).append(true).open(dir.path().join("log"));
        log.expect("a file for the log")
    }

    /// The socket of a daemon in a directory.
    pub(crate) fn socket_in(dir: &TempDir) -> PathBuf {
        dir.path().join("x.sock")
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("bbd ended at its start with {status}: {}", self.log());
            }
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                let mut connection = Connection::new(stream);
                connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
                if matches!(connection.answer(false), Ok(Some(answer)) if answer.status == 200) {
                    return;
                }
            }
            sleep(Duration::from_millis(5));
        }
        panic!("bbd does not answer: {}", self.log());
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> Connection {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return Connection::new(stream),
                // The backlog is full for a moment.
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("cannot connect: {error}; log: {}", self.log()),
            }
        }
    }

    /// One request on a connection of its own, and its answer.
    pub(crate) fn ask(&self, request: &[u8]) -> Answer {
        let mut connection = self.connect();
        connection.send(request);
        connection.answer(request.starts_with(b"HEAD ")).expect("an answer").expect("an answer before the end")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("bbd runs");
    }

    /// Stops it in the middle of whatever it does, until `Signal::CONT`.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("bbd runs");
            if stat[stat.rfind(')').unwrap()..].starts_with(") T") {
                return;
            }
            assert!(Instant::now() < deadline, "it does not stop: {stat}");
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end: its exit status, and its directory with what it left there.
    pub(crate) fn wait(mut self) -> (ExitStatus, TempDir) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let dir = std::mem::replace(&mut self.dir, TempDir::new());
                return (status, dir);
            }
            assert!(Instant::now() < deadline, "bbd does not end: {}", self.log());
            sleep(Duration::from_millis(2));
        }
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// How many file descriptors it has open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("bbd runs").count()
    }

    /// How much processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("bbd runs");
        // Behind the name, which may hold anything, the 12th and 13th field are user and system time in ticks of 10 ms.
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The most memory it ever had resident, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("bbd runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number of kB") * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// It says that the connection ends behind it.
    pub(crate) fn closes(&self) -> bool {
        self.header("Connection") == Some("close")
    }

    /// Reads one answer strictly: it and its length, or `None` if there is more to come.
    pub(crate) fn parse(bytes: &[u8], head_only: bool) -> Result<Option<(Self, usize)>, String> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = str::from_utf8(&bytes[..end]).map_err(|_| "the head of the answer is no UTF-8")?;
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let code =
            line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..4)).and_then(|code| code.strip_suffix(' '));
        let status = code.and_then(|code| code.parse().ok()).ok_or_else(|| format!("status line {line:?}"))?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("header line {line:?}"))?;
            if line.chars().any(char::is_control) {
                return Err(format!("control character in header line {line:?}"));
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut answer = Self { status, headers, body: Vec::new() };
        let start = end + 4;
        let bodiless = status < 200 || status == 204 || status == 304;
        let length = match answer.header("Content-Length") {
            Some(_) if bodiless && status != 304 => return Err(format!("a Content-Length with status {status}")),
            Some(length) => length.parse::<usize>().map_err(|_| format!("Content-Length {length:?}"))?,
            None if bodiless => 0,
            None => return Err(format!("status {status} without Content-Length")),
        };
        let length = if head_only || bodiless { 0 } else { length };
        let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
        answer.body = body.to_vec();
        Ok(Some((answer, start + length)))
    }
}

/// A raw connection.
pub(crate) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    /// Bytes of answers that were taken from `received`.
    taken_bytes: usize,
    /// How many `100 Continue` were passed over.
    pub(crate) continues: usize,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new(), taken_bytes: 0, continues: 0 }
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// How many bytes ever came.
    pub(crate) fn received_bytes(&self) -> usize {
        self.taken_bytes + self.received.len()
    }

    /// Sends all of it; that the other side has closed is found out when reading.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends the sending side.
    pub(crate) fn end_sending(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The next final answer; `None` if the connection was ended in good order between two answers.
    pub(crate) fn answer(&mut self, head_only: bool) -> Result<Option<Answer>, String> {
        loop {
            match self.any_answer(head_only)? {
                Some(answer) if answer.status == 100 => self.continues += 1,
                other => return Ok(other),
            }
        }
    }

    /// The next answer, `100 Continue` included.
    pub(crate) fn any_answer(&mut self, head_only: bool) -> Result<Option<Answer>, String> {
        loop {
            if let Some((answer, length)) = Answer::parse(&self.received, head_only)? {
                self.received.drain(..length);
                self.taken_bytes += length;
                return Ok(Some(answer));
            }
            if !self.receive()? {
                return match self.received.len() {
                    0 => Ok(None),
                    length => Err(format!("the connection ended within an answer, after {length} bytes of it")),
                };
            }
        }
    }

    /// Reads until the other side ends its sending; whatever still comes is an error.
    pub(crate) fn expect_end(&mut self) -> Result<(), String> {
        loop {
            if !self.received.is_empty() {
                return Err(format!("more bytes: {:?}", shown(&self.received)));
            }
            if !self.receive()? {
                return Ok(());
            }
        }
    }

    /// Reads once; `false` at the end.
    fn receive(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 16 * 1024];
        loop {
            return match self.stream.read(&mut buffer) {
                Ok(0) => Ok(false),
                Ok(length) => {
                    self.received.extend_from_slice(&buffer[..length]);
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Err(format!("nothing came for {PATIENCE:?}; so far {:?}", shown(&self.received)))
                }
                Err(error) => Err(format!("{error} while reading")),
            };
        }
    }
}

/// The start of some bytes, for messages.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned()
}

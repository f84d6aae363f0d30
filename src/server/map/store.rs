//! The disk of the cluster map: a journal with the log and what Raft must not forget, a file for the snapshot, and the thread that writes and
//! syncs them. Owns the data folder. All that waits goes into one record; the loop never waits for a disk.
//!
//! | in the folder | |
//! |---|---|
//! | `log-N` | parts of the [`journal`]: the node's id, term and vote, cluster, the log and where it begins |
//! | `log-spare` | a part that is to be written |
//! | `snapshot-INDEX` | the map at that index, with a checksum; named in the journal before it counts |

mod disk;
mod journal;
pub(crate) mod restore;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use self::disk::Folder;
use self::journal::{Held, Journal, PART_BYTES, Unreadable};
use crate::kv::image;
use crate::kv::map::Map;
use crate::raft::LogPosition;
use crate::raft::lead::Image;
use crate::raft::member::Uuid;
use crate::raft::node::{Restored, Save};

const SNAPSHOT_PREFIX: &str = "snapshot-";
/// Below so much room on the disk nothing is taken in any more, and from so much on again.
const ROOM_MIN_BYTES: u64 = 64 * 1024 * 1024;
const ROOM_AGAIN_BYTES: u64 = 96 * 1024 * 1024;
/// How often the room is looked at.
const ROOM_INTERVAL: Duration = Duration::from_millis(200);

/// Why a data folder cannot be used. Shown as one line that says what to do.
#[derive(Debug)]
pub enum StoreError {
    /// The folder or a file in it cannot be made, opened or written.
    Io(PathBuf, io::Error),
    /// Another process has it.
    InUse(PathBuf),
    /// What is in it is damaged.
    Damaged(PathBuf, String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "--data-dir: {}: {error}", path.display()),
            Self::InUse(path) => {
                write!(f, "--data-dir: {} is in use by another process; give each node its own", path.display())
            }
            Self::Damaged(path, what) => write!(
                f,
                "--data-dir: {} is damaged: {what}; remove this node from its cluster, move the folder away, and add the \
                 node as a new one",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {}

/// What a data folder holds at the start.
pub(crate) struct Opened {
    journal: Journal<Folder>,
    /// The id of the node, drawn when the folder was made.
    pub(crate) uuid: Uuid,
    /// What it starts again from; `None` if it was never in a cluster.
    pub(crate) restored: Option<(Restored, Map)>,
}

/// Opens a data folder, or makes it. `draw` gives the id of a new node.
pub(crate) fn open(folder: &Path, draw: impl FnOnce() -> Uuid) -> Result<Opened, StoreError> {
    let io = |error| StoreError::Io(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    let disk = Folder::lock(folder.to_owned()).map_err(io)?.ok_or_else(|| StoreError::InUse(folder.to_owned()))?;
    let opened = Journal::open(disk, PART_BYTES).map_err(|error| match error {
        Unreadable::Io(name, error) => StoreError::Io(folder.join(name), error),
        Unreadable::Damaged(name, what) => StoreError::Damaged(folder.join(name), what.to_owned()),
    })?;
    let (journal, held) = match opened {
        Ok(opened) => opened,
        Err(disk) => {
            if let Some(snapshot) = snapshots_in(folder).next() {
                let what = format!("it has {SNAPSHOT_PREFIX}{snapshot} but no log");
                return Err(StoreError::Damaged(folder.to_owned(), what));
            }
            let uuid = draw();
            let journal = Journal::create(disk, PART_BYTES, uuid, Save::default()).map_err(io)?;
            (journal, Held { uuid, restored: None })
        }
    };
    let restored = match held.restored {
        Some(restored) => {
            let map = read_snapshot(folder, restored.start.snapshot)?;
            Some((restored, map))
        }
        None => None,
    };
    Ok(Opened { journal, uuid: held.uuid, restored })
}

/// The map of the snapshot at a position.
fn read_snapshot(folder: &Path, last: LogPosition) -> Result<Map, StoreError> {
    if last == LogPosition::ZERO {
        return Ok(Map::new(0));
    }
    let path = snapshot_path(folder, last.index.get());
    let bytes = fs::read(&path).map_err(|error| StoreError::Io(path.clone(), error))?;
    let shown = image::read(&bytes).map_err(|error| StoreError::Damaged(path.clone(), error.to_string()))?;
    if shown.last != last {
        return Err(StoreError::Damaged(path, "it is of another index".to_owned()));
    }
    Ok(shown.map)
}

fn snapshot_path(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("{SNAPSHOT_PREFIX}{index}"))
}

/// Writes a snapshot under its name, whole or not at all.
pub(crate) fn write_snapshot(folder: &Path, image: &Image) -> io::Result<()> {
    let unfinished = folder.join(format!("unfinished-{}", image.last.index.get()));
    let mut file = File::create(&unfinished)?;
    file.write_all(&image.bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, snapshot_path(folder, image.last.index.get()))?;
    File::open(folder)?.sync_all()
}

/// Removes the snapshots that a newer one has taken the place of.
fn remove_older_snapshots(folder: &Path, newest: u64) {
    for index in snapshots_in(folder).filter(|index| *index < newest) {
        // One that cannot be removed costs room and nothing else.
        let _ = fs::remove_file(snapshot_path(folder, index));
    }
}

/// The indices of the snapshots in a folder.
fn snapshots_in(folder: &Path) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.file_name().to_str()?.strip_prefix(SNAPSHOT_PREFIX)?.parse().ok())
}

/// What the thread is given.
enum Job {
    Save(Save),
    Image(Arc<Image>),
}

/// What the thread has done.
#[derive(Debug)]
pub(super) enum Done {
    /// All batches up to this one are on disk.
    Saved(u64),
    /// That snapshot is on disk.
    ImageSaved(LogPosition),
    /// There is little room, or enough again.
    DiskIsLow(bool),
    /// A snapshot waits for room, or does not any more.
    ImageWaits(bool),
    /// The disk failed: nothing that this process holds may be relied on.
    Failed(String),
}

/// The way to the thread and back.
pub(super) struct Store {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

impl Store {
    pub(super) fn save(&self, save: Save) {
        // A thread that has ended has said why.
        let _ = self.jobs.send(Job::Save(save));
    }

    pub(super) fn save_image(&self, image: &Arc<Image>) {
        let _ = self.jobs.send(Job::Image(Arc::clone(image)));
    }

    pub(super) fn next_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

impl Opened {
    /// Starts the thread, which wakes the loop whenever it has done something. Gives what was restored, too.
    pub(super) fn start(self, folder: PathBuf, waker: Arc<Waker>) -> io::Result<(Store, Option<(Restored, Map)>)> {
        let (jobs, jobs_there) = channel();
        let (done_there, done) = channel();
        let teller = Teller { done: done_there, waker };
        let writer = Writer { journal: self.journal, folder, jobs: jobs_there, teller };
        thread::Builder::new().name("storage".to_owned()).spawn(move || writer.run())?;
        Ok((Store { jobs, done }, self.restored))
    }
}

/// Tells the loop.
#[derive(Clone)]
struct Teller {
    done: Sender<Done>,
    waker: Arc<Waker>,
}

impl Teller {
    fn tell(&self, done: Done) {
        let _ = self.done.send(done);
        // Without a wake it is seen when something else happens.
        let _ = self.waker.wake();
    }
}

struct Writer {
    journal: Journal<Folder>,
    folder: PathBuf,
    jobs: Receiver<Job>,
    teller: Teller,
}

impl Writer {
    fn run(mut self) {
        let mut is_low = false;
        let mut next_look = Instant::now();
        let mut saves: Vec<Save> = Vec::new();
        let mut waiting = VecDeque::new();
        loop {
            match self.jobs.recv_timeout(ROOM_INTERVAL) {
                Ok(job) => waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            waiting.extend(self.jobs.try_iter());
            for job in waiting.drain(..) {
                match job {
                    Job::Save(save) => saves.push(save),
                    Job::Image(image) => self.save_image(image),
                }
            }
            if let Some(last) = saves.last() {
                let batch = last.batch;
                if let Err(error) = self.journal.commit(&saves) {
                    return self.teller.tell(Done::Failed(error.to_string()));
                }
                self.teller.tell(Done::Saved(batch));
                if let Some(start) = saves.iter().rev().find_map(|save| save.start.as_ref()) {
                    remove_older_snapshots(&self.folder, start.snapshot.index.get());
                }
                saves.clear();
            }
            if next_look <= Instant::now() {
                next_look = Instant::now() + ROOM_INTERVAL;
                let room = room_bytes(&self.folder);
                let limit = if is_low { ROOM_AGAIN_BYTES } else { ROOM_MIN_BYTES };
                if is_low != (room < limit) {
                    is_low = !is_low;
                    self.teller.tell(Done::DiskIsLow(is_low));
                }
            }
        }
    }

    /// On a thread of its own: a long snapshot must not hold up the log.
    fn save_image(&self, image: Arc<Image>) {
        let (folder, teller, last) = (self.folder.clone(), self.teller.clone(), image.last);
        let save = move || {
            // One that would take the last room waits for more. The log grows meanwhile, until no writes are taken.
            let has_room = || room_bytes(&folder) >= image.bytes.len() as u64 + ROOM_MIN_BYTES / 2;
            if !has_room() {
                teller.tell(Done::ImageWaits(true));
                while !has_room() {
                    thread::sleep(ROOM_INTERVAL);
                }
                teller.tell(Done::ImageWaits(false));
            }
            match write_snapshot(&folder, &image) {
                Ok(()) => teller.tell(Done::ImageSaved(last)),
                Err(error) => teller.tell(Done::Failed(format!("a snapshot cannot be written: {error}"))),
            }
        };
        if let Err(error) = thread::Builder::new().name("snapshot".to_owned()).spawn(save) {
            self.teller.tell(Done::Failed(format!("no thread for a snapshot: {error}")));
        }
    }
}

/// How much room there is on the disk of a folder; what cannot be asked counts as plenty.
fn room_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests;

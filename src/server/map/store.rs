//! The disk of the cluster map: one file of redb with the log and what Raft must not forget, a file for the snapshot, and the thread that
//! writes and syncs them. Owns the data folder. All that waits goes into one commit; the loop never waits for a disk.
//!
//! | in the folder | |
//! |---|---|
//! | `raft.redb` | the node's id, term and vote, cluster, the log and where it begins |
//! | `snapshot-INDEX` | the map at that index, with a checksum; named in `raft.redb` before it counts |

pub(crate) mod restore;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::kv::image;
use crate::kv::map::Map;
use crate::raft::entry::Entry;
use crate::raft::lead::Image;
use crate::raft::member::{Membership, Uuid};
use crate::raft::node::{Restored, Save, Start};
use crate::raft::{LogIndex, LogPosition, NodeId, Term};
use crate::wire::{Malformed, Reader, Write as _};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const DATABASE_FILE: &str = "raft.redb";
const SNAPSHOT_PREFIX: &str = "snapshot-";
/// The pages of the log that redb keeps in memory.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Below so much room on the disk nothing is taken in any more, and from so much on again.
const ROOM_MIN_BYTES: u64 = 64 * 1024 * 1024;
const ROOM_AGAIN_BYTES: u64 = 96 * 1024 * 1024;
/// How often the room is looked at.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

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
    database: Database,
    /// The id of the node, drawn when the folder was made.
    pub(crate) uuid: Uuid,
    /// What it starts again from; `None` if it was never in a cluster.
    pub(crate) restored: Option<(Restored, Map)>,
}

/// Opens a data folder, or makes it. `draw` gives the id of a new node.
pub(crate) fn open(folder: &Path, draw: impl FnOnce() -> Uuid) -> Result<Opened, StoreError> {
    let io = |error| StoreError::Io(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    let path = folder.join(DATABASE_FILE);
    let is_new = !path.exists();
    if is_new && let Some(snapshot) = snapshots_in(folder).next() {
        let what = format!("it has {SNAPSHOT_PREFIX}{snapshot} but no {DATABASE_FILE}");
        return Err(StoreError::Damaged(folder.to_owned(), what));
    }
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(!is_new)
        .create(&path)
        .map_err(|error| of_open(&path, error))?;
    if is_new {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    let damaged = |error: &dyn fmt::Display| StoreError::Damaged(path.clone(), error.to_string());
    let mut opened = read_or_begin(database, draw).map_err(|error| damaged(&error))?;
    let Some((restored, map)) = &mut opened.restored else { return Ok(opened) };
    let last = restored.start.snapshot;
    if last != LogPosition::ZERO {
        let path = snapshot_path(folder, last.index.get());
        let bytes = fs::read(&path).map_err(|error| StoreError::Io(path.clone(), error))?;
        let shown = image::read(&bytes).map_err(|error| StoreError::Damaged(path.clone(), error.to_string()))?;
        if shown.last != last {
            return Err(StoreError::Damaged(path, "it is of another index".to_owned()));
        }
        *map = shown.map;
    }
    Ok(opened)
}

/// Opens a database on another kind of disk, for tests.
#[cfg(test)]
fn open_on(backend: impl redb::StorageBackend, draw: impl FnOnce() -> Uuid) -> Result<Opened, redb::Error> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
    read_or_begin(database, draw)
}

fn of_open(path: &Path, error: redb::DatabaseError) -> StoreError {
    if let redb::DatabaseError::DatabaseAlreadyOpen = error {
        return StoreError::InUse(path.to_owned());
    }
    if let redb::DatabaseError::Storage(redb::StorageError::Io(error)) = error {
        return StoreError::Io(path.to_owned(), error);
    }
    StoreError::Damaged(path.to_owned(), error.to_string())
}

fn read_or_begin(database: Database, draw: impl FnOnce() -> Uuid) -> Result<Opened, redb::Error> {
    let transaction = database.begin_write()?;
    let uuid;
    {
        let mut meta = transaction.open_table(META)?;
        transaction.open_table(LOG)?;
        let known = meta.get("uuid")?.and_then(|bytes| <[u8; 16]>::try_from(bytes.value()).ok());
        uuid = known.map_or_else(draw, Uuid::from_bytes);
        meta.insert("uuid", &uuid.bytes()[..])?;
    }
    transaction.commit()?;
    let restored = read_restored(&database)?;
    Ok(Opened { database, uuid, restored })
}

fn malformed(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} cannot be read"))
}

fn read_restored(database: &Database) -> Result<Option<(Restored, Map)>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let get = |name: &str| -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(meta.get(name)?.map(|bytes| bytes.value().to_vec()))
    };
    let (vote, start, cluster) = (get("vote")?, get("start")?, get("cluster")?);
    if vote.is_none() && start.is_none() && cluster.is_none() {
        return Ok(None);
    }
    let vote = match vote {
        Some(bytes) => read_vote(&bytes).map_err(|Malformed| malformed("the vote"))?,
        None => (Term::ZERO, None),
    };
    let start = match start {
        Some(bytes) => read_start(&bytes).map_err(|Malformed| malformed("the start of the log"))?,
        None => Start {
            position: LogPosition::ZERO,
            membership: Arc::new(Membership::default()),
            snapshot: LogPosition::ZERO,
            is_new: false,
        },
    };
    let cluster = match cluster {
        Some(bytes) => Some(Uuid::from_bytes(bytes.try_into().map_err(|_| malformed("the cluster"))?)),
        None => None,
    };
    let mut entries = Vec::new();
    for (next, item) in (start.position.index.get() + 1..).zip(transaction.open_table(LOG)?.iter()?) {
        let (index, bytes) = item?;
        if index.value() != next {
            return Err(redb::Error::Corrupted(format!("the log has a gap before {}", index.value())));
        }
        let mut reader = Reader::new(bytes.value());
        let entry = Entry::read(&mut reader).and_then(|entry| reader.finish().map(|()| entry));
        entries.push(entry.map_err(|Malformed| malformed("an entry of the log"))?);
    }
    let removed = get("removed")?.is_some_and(|bytes| bytes == [1]);
    let map = Map::new(0);
    Ok(Some((Restored { cluster, vote, start, entries, removed }, map)))
}

fn write_position(out: &mut Vec<u8>, position: LogPosition) {
    out.put_u64(position.term.get());
    out.put_u64(position.index.get());
}

fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, Malformed> {
    Ok(LogPosition { term: Term::new(reader.u64()?), index: LogIndex::new(reader.u64()?) })
}

fn read_vote(bytes: &[u8]) -> Result<(Term, Option<NodeId>), Malformed> {
    let mut reader = Reader::new(bytes);
    let vote = (Term::new(reader.u64()?), reader.option(|reader| reader.u64().map(NodeId::new))?);
    reader.finish()?;
    Ok(vote)
}

fn read_start(bytes: &[u8]) -> Result<Start, Malformed> {
    let mut reader = Reader::new(bytes);
    let (position, snapshot) = (read_position(&mut reader)?, read_position(&mut reader)?);
    let membership = Arc::new(Membership::read(&mut reader)?);
    reader.finish()?;
    Ok(Start { position, membership, snapshot, is_new: false })
}

/// Writes batches in one commit, which is on disk when this returns.
fn commit(database: &Database, saves: &[Save]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut log = transaction.open_table(LOG)?;
        let mut bytes = Vec::new();
        for save in saves {
            if let Some(cluster) = save.cluster {
                meta.insert("cluster", &cluster.bytes()[..])?;
            }
            if let Some((term, voted_for)) = save.vote {
                bytes.clear();
                bytes.put_u64(term.get());
                bytes.put_option(voted_for, |out, id| out.put_u64(id.get()));
                meta.insert("vote", &bytes[..])?;
            }
            if let Some(removed) = save.removed {
                meta.insert("removed", &[u8::from(removed)][..])?;
            }
            if let Some(start) = &save.start {
                bytes.clear();
                write_position(&mut bytes, start.position);
                write_position(&mut bytes, start.snapshot);
                start.membership.write(&mut bytes);
                meta.insert("start", &bytes[..])?;
                let upto = start.position.index.get();
                if start.is_new {
                    log.retain(|_, _| false)?;
                } else {
                    log.retain_in(..=upto, |_, _| false)?;
                }
            }
            if let Some(append) = &save.append {
                let last = log.last()?.map(|(index, _)| index.value());
                if last.is_some_and(|last| last > append.prev) {
                    log.retain_in(append.prev + 1.., |_, _| false)?;
                }
                for (index, entry) in (append.prev + 1..).zip(&append.entries) {
                    bytes.clear();
                    entry.write(&mut bytes);
                    log.insert(index, &bytes[..])?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
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
    /// The disk failed: nothing that this process holds may be relied on.
    Failed(String),
}

/// The way to the thread and back.
pub(super) struct Store {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

impl Store {
    /// Starts the thread, which writes a byte to `waker` whenever it has done something.
    pub(super) fn start(opened: Database, folder: PathBuf, waker: UnixStream) -> io::Result<Self> {
        let (jobs, jobs_there) = channel();
        let (done_there, done) = channel();
        let writer = Writer {
            database: opened,
            folder,
            jobs: jobs_there,
            teller: Teller { done: done_there, waker: Arc::new(waker) },
        };
        thread::Builder::new().name("storage".to_owned()).spawn(move || writer.run())?;
        Ok(Self { jobs, done })
    }

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
    /// The database, without the rest.
    pub(super) fn into_parts(self) -> (Database, Uuid, Option<(Restored, Map)>) {
        (self.database, self.uuid, self.restored)
    }
}

/// Tells the loop.
#[derive(Clone)]
struct Teller {
    done: Sender<Done>,
    waker: Arc<UnixStream>,
}

impl Teller {
    fn tell(&self, done: Done) {
        let _ = self.done.send(done);
        // A full pipe wakes as well as one byte more.
        let _ = (&*self.waker).write(&[1]);
    }
}

struct Writer {
    database: Database,
    folder: PathBuf,
    jobs: Receiver<Job>,
    teller: Teller,
}

impl Writer {
    fn run(self) {
        let mut is_low = false;
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
                if let Err(error) = commit(&self.database, &saves) {
                    return self.teller.tell(Done::Failed(error.to_string()));
                }
                self.teller.tell(Done::Saved(batch));
                if let Some(start) = saves.iter().rev().find_map(|save| save.start.as_ref()) {
                    remove_older_snapshots(&self.folder, start.snapshot.index.get());
                }
                saves.clear();
            } else {
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
        let save = move || match write_snapshot(&folder, &image) {
            Ok(()) => teller.tell(Done::ImageSaved(last)),
            Err(error) => teller.tell(Done::Failed(format!("a snapshot cannot be written: {error}"))),
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

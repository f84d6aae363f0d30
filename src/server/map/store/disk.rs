//! The files of a data folder, as far as the journal needs them. Owns when something is on disk: whatever changes a file or a name is when it
//! returns, so that a crash leaves at most one thing half done.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What is written without the system's cache must begin, in memory and in the file, and end at multiples of this: a sector.
const DIRECT_ALIGNMENT_BYTES: usize = 512;
/// A new file is filled by so much at a time: all of it in memory would stay there, between what is in use.
const ZEROS_BYTES: usize = 16 * 1024;

/// A folder of files; the tests have one that loses power.
pub(super) trait Disk {
    /// A file that is open for writing.
    type File;

    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// All of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new file of zeros; in the place of one of that name.
    fn create(&self, name: &str, bytes: usize) -> io::Result<Self::File>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Writes whole sectors. If the power fails meanwhile, any of them may be written, and any may be as before.
    fn write(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name, which no file has.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A data folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Open, and locked, for as long as this lives.
    folder: File,
}

impl Folder {
    /// A folder for this process alone; `None` if another one has it.
    pub(super) fn lock(path: PathBuf) -> io::Result<Option<Self>> {
        let folder = File::open(&path)?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(Self { path, folder })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A file whose every write is on disk when it returns.
#[derive(Debug)]
pub(super) struct Synced {
    file: File,
    /// It is written past the system's cache.
    is_direct: bool,
}

impl Synced {
    /// A file that is there. Past the cache a record costs the processor and the disk a third less: nothing is copied into pages, and a whole
    /// page is not written for the sake of one sector. Some file systems cannot do it, nor can a disk with longer sectors: a read shows that.
    fn open(path: &Path) -> io::Result<Self> {
        let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(libc::O_DSYNC | flags).open(path);
        if let Ok(file) = open(libc::O_DIRECT) {
            let (mut room, start) = aligned(&[0; DIRECT_ALIGNMENT_BYTES]);
            if file.read_at(&mut room[start..], DIRECT_ALIGNMENT_BYTES as u64).is_ok() {
                return Ok(Self { file, is_direct: true });
            }
        }
        Ok(Self { file: open(0)?, is_direct: false })
    }
}

/// The same bytes, behind so many others that they begin where they must.
fn aligned(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut room: Vec<u8> = Vec::with_capacity(bytes.len() + DIRECT_ALIGNMENT_BYTES);
    let start = room.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES).min(DIRECT_ALIGNMENT_BYTES);
    room.resize(start, 0);
    room.extend_from_slice(bytes);
    (room, start)
}

impl Disk for Folder {
    type File = Synced;

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        // What has no name in Unicode is nothing of ours.
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str, bytes: usize) -> io::Result<Synced> {
        let path = self.path.join(name);
        let file = File::create(&path)?;
        // Written and not just reserved: what is there already is synced twice as fast as what makes a file grow.
        let zeros = [0; ZEROS_BYTES];
        for start in (0..bytes).step_by(ZEROS_BYTES) {
            file.write_all_at(&zeros[..ZEROS_BYTES.min(bytes - start)], start as u64)?;
        }
        file.sync_all()?;
        self.folder.sync_all()?;
        Synced::open(&path)
    }

    fn open(&self, name: &str) -> io::Result<Synced> {
        Synced::open(&self.path.join(name))
    }

    fn write(&self, file: &Synced, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if file.is_direct {
            let (room, start) = aligned(bytes);
            file.file.write_all_at(&room[start..], offset)
        } else {
            file.file.write_all_at(bytes, offset)
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))?;
        self.folder.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))?;
        self.folder.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_past_the_cache_or_through_it_stands_where_it_belongs() {
        let path = std::env::temp_dir().join(format!("bbd-disk-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let folder = Folder::lock(path.clone()).unwrap().unwrap();
        let sector = |byte| vec![byte; DIRECT_ALIGNMENT_BYTES];
        let mut file = folder.create("log", 3 * ZEROS_BYTES + DIRECT_ALIGNMENT_BYTES).unwrap();
        folder.write(&file, ZEROS_BYTES as u64, &sector(1)).unwrap();
        file = folder.open("log").unwrap();
        // Bytes that begin nowhere in particular.
        folder.write(&file, 0, &[vec![0], sector(2), sector(3)].concat()[1..]).unwrap();
        file = Synced { file: OpenOptions::new().write(true).open(path.join("log")).unwrap(), is_direct: false };
        folder.write(&file, DIRECT_ALIGNMENT_BYTES as u64, &sector(4)).unwrap();
        let bytes = folder.read("log").unwrap();
        assert_eq!(bytes.len(), 3 * ZEROS_BYTES + DIRECT_ALIGNMENT_BYTES);
        let of_sector = |at: usize| &bytes[at * DIRECT_ALIGNMENT_BYTES..][..DIRECT_ALIGNMENT_BYTES];
        let written = [0, 1, ZEROS_BYTES / DIRECT_ALIGNMENT_BYTES];
        assert_eq!(written.map(of_sector), [sector(2), sector(4), sector(1)]);
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), written.len() * DIRECT_ALIGNMENT_BYTES);
        fs::remove_dir_all(&path).unwrap();
    }
}

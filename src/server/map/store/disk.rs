//! The files of a data folder, as far as the journal needs them. Owns when something is on disk: whatever changes a file or a name is when it
//! returns, so that a crash leaves at most one thing half done.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

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
    /// Writes. If the power fails meanwhile, any of its sectors may be written, and any may be as before.
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

impl Disk for Folder {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        // What has no name in Unicode is nothing of ours.
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str, bytes: usize) -> io::Result<File> {
        let file = File::create(self.path.join(name))?;
        // Written and not just reserved: what is there already is synced twice as fast as what makes a file grow.
        file.write_all_at(&vec![0; bytes], 0)?;
        file.sync_all()?;
        self.folder.sync_all()?;
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join(name))
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        file.sync_data()
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

//! The file of a Unix socket: made at start, with its mode and group, and removed at a clean stop. Owns the decision whether what
//! already stands at the path may be replaced: only a socket on which nobody answers.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use rustix::fs::{FlockOperation, Mode, flock};

/// Another daemon that starts at the same path holds the folder's lock for much less than this.
const FOLDER_LOCK_TRIES_MAX: u32 = 100;
const FOLDER_LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why a socket could not be opened. Each is shown as one line that says what to do.
#[derive(Debug)]
pub enum ListenError {
    /// A live daemon answers there.
    Answered(PathBuf),
    /// Something stands there that is no socket.
    NotASocket(PathBuf),
    /// A socket stands there and it cannot be told whether somebody answers.
    Unclear(PathBuf, io::Error),
    /// The operating system refused a step.
    Refused(&'static str, PathBuf, io::Error),
    /// `--metrics-listen` could not be opened.
    Metrics(SocketAddr, io::Error),
    /// What was passed in by socket activation cannot be used.
    Activation(String),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(path) => write!(
                f,
                "another daemon answers on {}: stop it first, or choose another path with --uds",
                path.display()
            ),
            Self::NotASocket(path) => write!(
                f,
                "{} exists and is not a socket, so it is left alone: move it away, or choose another path",
                path.display()
            ),
            Self::Unclear(path, error) => write!(
                f,
                "{} exists, and whether a daemon answers there cannot be told ({error}): remove it, or choose another path",
                path.display()
            ),
            Self::Refused(step, path, error) => write!(f, "cannot {step} {}: {error}", path.display()),
            Self::Metrics(address, error) => write!(f, "cannot listen on --metrics-listen {address}: {error}"),
            Self::Activation(why) => {
                write!(f, "the sockets passed in by activation (LISTEN_FDS) cannot be used: {why}")
            }
        }
    }
}

impl std::error::Error for ListenError {}

/// The file of a socket that this process has bound.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes the file, unless it is gone or something else stands in its place by now. To be called while the socket is
    /// still open: as long as it is, its inode's number cannot be given to another file.
    pub(super) fn remove(self) {
        if let Ok(there) = fs::symlink_metadata(&self.path)
            && there.dev() == self.device
            && there.ino() == self.inode
        {
            // Whoever removed it in between has done our work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket at `path` and listens. The file appears with mode 0600 and is opened to the group `gid` and to `mode` only
/// then, so that it is never open wider than asked.
pub(super) fn listen_at(path: &Path, mode: u32, gid: Option<u32>) -> Result<(UnixListener, SocketFile), ListenError> {
    let refused = |step| move |error| ListenError::Refused(step, path.to_owned(), error);

    let folder = lock_folder(path);
    remove_if_stale(path)?;
    let listener = {
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let bound = StdUnixListener::bind(path);
        rustix::process::umask(before);
        bound.map_err(refused("make the socket"))?
    };
    let made = fs::symlink_metadata(path).map_err(refused("look at the socket"))?;
    drop(folder);
    // From here on an error must not leave the file behind.
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    let opened = (|| {
        if let Some(gid) = gid {
            std::os::unix::fs::chown(path, None, Some(gid)).map_err(refused("set the group of"))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(refused("set the mode of"))?;
        listener.set_nonblocking(true).map_err(refused("set up"))
    })();
    match opened {
        Ok(()) => Ok((UnixListener::from_std(listener), file)),
        Err(error) => {
            file.remove();
            Err(error)
        }
    }
}

/// Locks the folder of `path` while the file there is judged and replaced: of two daemons that start at once, the second must
/// not take the first one's new socket for a stale one. Best effort: where the folder cannot be locked, go on without.
fn lock_folder(path: &Path) -> Option<fs::File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::File::open(parent).ok()?;
    for _ in 0..FOLDER_LOCK_TRIES_MAX {
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(folder);
        }
        std::thread::sleep(FOLDER_LOCK_PAUSE);
    }
    None
}

/// Removes a socket file on which nobody answers.
fn remove_if_stale(path: &Path) -> Result<(), ListenError> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::Refused("look at", path.to_owned(), error)),
    };
    if !there.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::Answered(path.to_owned())),
        // Its queue of connections is full, so somebody holds it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ListenError::Answered(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| ListenError::Refused("remove the stale socket", path.to_owned(), error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ListenError::Unclear(path.to_owned(), error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bbd-socket-file-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn mode_and_removal() {
        let folder = Folder::new("mode");
        let path = folder.0.join("s");
        for mode in [0o600, 0o660, 0o666] {
            let (listener, file) = listen_at(&path, mode, None).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            file.remove();
            assert!(!path.exists());
            drop(listener);
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_a_live_one_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("s");
        let (listener, first) = listen_at(&path, 0o600, None).unwrap();
        assert!(matches!(listen_at(&path, 0o600, None), Err(ListenError::Answered(_))));
        drop(listener);
        drop(first);
        let (second_listener, second) = listen_at(&path, 0o600, None).unwrap();
        fs::remove_file(&path).unwrap();
        let (_third_listener, third) = listen_at(&path, 0o600, None).unwrap();
        second.remove();
        assert!(path.exists(), "what another made is left alone");
        drop(second_listener);
        third.remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_never_touched() {
        let folder = Folder::new("foreign");
        let file = folder.0.join("file");
        fs::write(&file, "precious").unwrap();
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link, &folder.0] {
            assert!(matches!(listen_at(path, 0o600, None), Err(ListenError::NotASocket(_))), "{path:?}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn a_folder_that_is_not_there() {
        let folder = Folder::new("paths");
        let nowhere = folder.0.join("no/such");
        assert!(matches!(listen_at(&nowhere, 0o600, None), Err(ListenError::Refused(..))));
    }
}

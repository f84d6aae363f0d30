//! A backup becomes a data folder: that of a new node, alone in a new cluster. Owns the order in which the folder comes into being, so that one
//! that is half made is never taken for a whole one, nor for a new one.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Folder;
use super::journal::{Journal, PART_BYTES, SPARE, part_name};
use super::{snapshot_path, write_snapshot};
use crate::kv::image::Shown;
use crate::raft::member::{Member, Membership, Uuid};
use crate::raft::node::{Save, Start};

/// Who a restored node is.
pub(crate) struct NewNode {
    /// Its own id.
    pub(crate) uuid: Uuid,
    /// The id of its cluster, which no node has ever belonged to.
    pub(crate) cluster: Uuid,
}

/// Why a backup cannot be restored. Shown as one line.
#[derive(Debug)]
pub(crate) enum RestoreError {
    /// There is something in the folder.
    NotEmpty(PathBuf),
    /// The folder cannot be made, read or written.
    Io(PathBuf, io::Error),
    /// Another process has the folder.
    InUse(PathBuf),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty(folder) => write!(
                f,
                "--data-dir: {} is not empty; a backup goes into a folder of its own, and what is in this one stays as it is",
                folder.display()
            ),
            Self::Io(path, error) => write!(f, "--data-dir: {}: {error}", path.display()),
            Self::InUse(folder) => super::StoreError::InUse(folder.clone()).fmt(f),
        }
    }
}

/// Makes a data folder of a backup. The index that its map is of.
pub(crate) fn restore(backup: Shown, folder: &Path, node: &NewNode) -> Result<u64, RestoreError> {
    let of_folder = |error| RestoreError::Io(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(of_folder)?;
    if fs::read_dir(folder).map_err(of_folder)?.next().is_some() {
        return Err(RestoreError::NotEmpty(folder.to_owned()));
    }
    let index = backup.last.index.get();
    let made = fill(folder, backup, node);
    if made.is_err() {
        // So that it can be tried again; the first error is the one to tell.
        for path in [folder.join(part_name(1)), folder.join(SPARE), snapshot_path(folder, index)] {
            let _ = fs::remove_file(path);
        }
    }
    made.map(|()| index)
}

fn fill(folder: &Path, backup: Shown, node: &NewNode) -> Result<(), RestoreError> {
    let mut map = backup.map;
    let mut membership = Membership::default();
    membership.config.voters.insert(node.uuid.node_id());
    // Its address is not known before it starts; then it makes it known itself.
    membership.members.insert(node.uuid.node_id(), Member { uuid: node.uuid, address: String::new() });
    map.begin_image(node.cluster, backup.last, &membership);
    let image = std::iter::repeat_with(|| map.paint(usize::MAX / 2)).find_map(|image| image);
    // First the snapshot: a folder that has one and no log is never taken for that of a new node. The log is there whole or not at all.
    let of_folder = |error| RestoreError::Io(folder.to_owned(), error);
    if let Some(image) = &image {
        write_snapshot(folder, image).map_err(of_folder)?;
    }
    let disk = Folder::lock(folder.to_owned()).map_err(of_folder)?;
    let disk = disk.ok_or_else(|| RestoreError::InUse(folder.to_owned()))?;
    let start = Start { position: backup.last, membership: Arc::new(membership), snapshot: backup.last, is_new: true };
    let vote = Some((backup.last.term, None));
    let saved = Save { vote, start: Some(start), cluster: Some(node.cluster), ..Save::default() };
    Journal::create(disk, PART_BYTES, node.uuid, saved).map(drop).map_err(of_folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::open;
    use super::*;
    use crate::kv::command::{Change, Command};
    use crate::kv::image;
    use crate::kv::map::Map;
    use crate::raft::{LogIndex, LogPosition, Term};

    const LAST: LogPosition = LogPosition { term: Term::new(5), index: LogIndex::new(3) };

    fn backup() -> Shown {
        let mut map = Map::new(0);
        for index in 1..=3 {
            let change = Change::Set { key: format!("key {index}"), value: "value".to_owned() };
            let idempotency_key = Some(format!("once {index}"));
            map.apply(index, &Command { idempotency_key, changes: vec![change], is_batch: false });
        }
        map.begin_image(Uuid::from_random([1; 16]), LAST, &Membership::default());
        image::read(&map.paint(usize::MAX / 2).unwrap().bytes).unwrap()
    }

    fn node() -> NewNode {
        NewNode { uuid: Uuid::from_random([2; 16]), cluster: Uuid::from_random([3; 16]) }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("bbd-restore-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_restored_folder_is_that_of_a_new_node_alone_in_a_new_cluster() {
        let folder = Folder::new("whole");
        assert_eq!(restore(backup(), &folder.0, &node()).unwrap(), 3);
        let opened = open(&folder.0, || unreachable!("it has an id")).unwrap();
        let (restored, map) = opened.restored.unwrap();
        assert_eq!((opened.uuid, restored.cluster), (node().uuid, Some(node().cluster)));
        assert_eq!((restored.vote, restored.start.position, restored.removed), ((LAST.term, None), LAST, false));
        assert!(restored.start.membership.config.voters.iter().eq([&node().uuid.node_id()]));
        assert_eq!((map.len(), map.answers_len(), map.get("key 3").map(|value| &**value)), (3, 3, Some("value")));
        assert!(matches!(restore(backup(), &folder.0, &node()), Err(RestoreError::NotEmpty(_))));
    }

    #[test]
    fn a_folder_that_is_half_made_is_never_started_with() {
        let folder = Folder::new("half");
        restore(backup(), &folder.0, &node()).unwrap();
        fs::rename(folder.0.join(part_name(1)), folder.0.join(SPARE)).unwrap();
        let refused = open(&folder.0, || node().uuid).err().unwrap().to_string();
        assert!(refused.contains("snapshot-3 but no log"), "{refused}");
    }
}

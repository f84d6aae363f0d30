//! The folder after an orderly end, and a disk that loses and tears what was not synced, at every step.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Mutex;

use redb::StorageBackend;

use super::*;
use crate::raft::node::Append;

fn append(batch: u64, prev: u64, texts: &[&str]) -> Save {
    let entries = texts.iter().map(|text| Entry::Command(text.as_bytes().into())).collect();
    Save { batch, append: Some(Append { prev, entries }), ..Save::default() }
}

fn vote(batch: u64, term: u64) -> Save {
    Save { batch, vote: Some((Term::new(term), Some(NodeId::new(7)))), ..Save::default() }
}

fn texts(restored: &Restored) -> Vec<String> {
    let text = |entry: &Entry| match entry {
        Entry::Command(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Entry::Term(_) | Entry::Config(_) => String::new(),
    };
    restored.entries.iter().map(text).collect()
}

fn uuid() -> Uuid {
    Uuid::from_random([9; 16])
}

/// What has reached the platter, and what is on its way.
#[derive(Debug, Default)]
struct Platter {
    synced: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    steps: u64,
    /// Fails from this step on.
    dies_at: u64,
}

#[derive(Clone, Debug, Default)]
struct Tearing(Arc<Mutex<Platter>>);

impl Tearing {
    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, Platter>> {
        let mut platter = self.0.lock().unwrap();
        platter.steps += 1;
        if platter.steps > platter.dies_at { Err(io::Error::other("the power is gone")) } else { Ok(platter) }
    }

    /// The disk after the power came back: of what was not synced some is there, some is not, and some is torn.
    fn after_crash(&self, seed: u64) -> Self {
        let platter = self.0.lock().unwrap();
        let mut bytes = platter.synced.clone();
        let mut random = seed;
        for (offset, data) in &platter.unsynced {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let length = match random >> 62 {
                0 => 0,
                1 => data.len(),
                _ => (random >> 33) as usize % (data.len() + 1) / 512 * 512,
            };
            let offset = *offset as usize;
            if bytes.len() < offset + length {
                bytes.resize(offset + length, 0);
            }
            bytes[offset..offset + length].copy_from_slice(&data[..length]);
        }
        let now = bytes.clone();
        Self(Arc::new(Mutex::new(Platter { synced: bytes, now, dies_at: u64::MAX, ..Platter::default() })))
    }
}

impl StorageBackend for Tearing {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let start = offset as usize;
        let bytes = platter.now.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.step()?;
        platter.now.resize(len as usize, 0);
        // A longer or shorter file is no write that could be torn.
        platter.synced.resize(len as usize, 0);
        platter.unsynced.retain(|(offset, data)| offset + data.len() as u64 <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.step()?;
        platter.synced = platter.now.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.step()?;
        let start = offset as usize;
        platter.now[start..start + data.len()].copy_from_slice(data);
        platter.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

#[test]
fn a_crash_at_every_step_loses_nothing_that_was_synced_and_tears_nothing() {
    let mut survived = 0;
    for dies_at in 0.. {
        let disk = Tearing(Arc::new(Mutex::new(Platter { dies_at, ..Platter::default() })));
        // How many commits were said to be on disk before the power went.
        let mut done = 0;
        if let Ok(opened) = open_on(disk.clone(), uuid) {
            for number in 1..=8_u64 {
                let saves =
                    [vote(2 * number, number), append(2 * number + 1, number - 1, &[&format!("entry {number}")])];
                if commit(&opened.database, &saves).is_err() {
                    break;
                }
                done = number;
            }
        }
        for seed in 0..4 {
            let again = match open_on(disk.after_crash(seed * 977 + dies_at), uuid) {
                Ok(opened) => opened,
                Err(error) => {
                    assert_eq!(done, 0, "died at {dies_at} after {done} commits, and then: {error}");
                    continue;
                }
            };
            assert_eq!(again.uuid, uuid());
            let (vote, entries) = match &again.restored {
                Some((restored, _)) => (restored.vote.0.get(), texts(restored)),
                None => (0, Vec::new()),
            };
            assert!(vote == done || vote == done + 1, "died at {dies_at}: the vote of commit {vote}, {done} were done");
            let expected: Vec<String> = (1..=vote).map(|number| format!("entry {number}")).collect();
            assert_eq!(entries, expected, "one commit is whole or not there");
            survived += 1;
        }
        if done == 8 {
            break;
        }
    }
    assert!(survived > 50, "{survived}");
}

#[test]
fn a_folder_is_what_was_saved_and_belongs_to_one_process() {
    let folder = std::env::temp_dir().join(format!("bbd-store-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let opened = open(&folder, uuid).unwrap();
    assert!(opened.restored.is_none());
    assert!(matches!(open(&folder, uuid), Err(StoreError::InUse(_))));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&folder).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let cluster = Uuid::from_random([3; 16]);
    let first = Save { cluster: Some(cluster), ..vote(1, 4) };
    commit(&opened.database, &[first, append(2, 0, &["a", "b", "c"]), append(3, 1, &["B"])]).unwrap();
    drop(opened);
    let opened = open(&folder, || Uuid::from_random([1; 16])).unwrap();
    assert_eq!(opened.uuid, uuid(), "an id is drawn once");
    let restored = &opened.restored.as_ref().unwrap().0;
    assert_eq!((restored.cluster, restored.vote), (Some(cluster), (Term::new(4), Some(NodeId::new(7)))));
    assert_eq!(texts(restored), ["a", "B"]);
    // A snapshot takes the place of the log's beginning.
    let last = LogPosition { term: Term::new(4), index: LogIndex::new(1) };
    let mut map = Map::new(1);
    map.begin_image(cluster, last, &Membership::default());
    write_snapshot(&folder, &map.paint(usize::MAX / 2).unwrap()).unwrap();
    let start = Start { position: last, membership: Arc::new(Membership::default()), snapshot: last, is_new: false };
    commit(&opened.database, &[Save { batch: 4, start: Some(start), ..Save::default() }]).unwrap();
    drop(opened);
    let opened = open(&folder, uuid).unwrap();
    let restored = &opened.restored.as_ref().unwrap().0;
    assert_eq!((restored.start.snapshot, texts(restored)), (last, vec!["B".to_owned()]));
    drop(opened);
    fs::write(folder.join("snapshot-1"), b"bbd map\x01, but not for long").unwrap();
    assert!(matches!(open(&folder, uuid), Err(StoreError::Damaged(..))));
    fs::remove_dir_all(&folder).unwrap();
}

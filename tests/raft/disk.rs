//! A simulated disk: what is synced, what is only written, and what a crash leaves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bigbunny::kv::image;
use bigbunny::kv::map::Map;
use bigbunny::raft::LogPosition;
use bigbunny::raft::entry::Entry;
use bigbunny::raft::lead::Image;
use bigbunny::raft::member::Membership;
use bigbunny::raft::node::{Restored, Save, Start};

use crate::planted::Planted;
use crate::rng::Rng;

/// One node's disk.
#[derive(Default)]
pub struct Disk {
    synced: State,
    written: VecDeque<Save>,
    images: BTreeMap<u64, Arc<Image>>,
    written_images: VecDeque<Arc<Image>>,
}

#[derive(Clone, Default)]
struct State {
    restored: Option<Restored>,
}

impl State {
    fn take(&mut self, save: Save) {
        let restored = self.restored.get_or_insert_with(|| Restored {
            cluster: None,
            vote: (bigbunny::raft::Term::ZERO, None),
            start: Start {
                position: LogPosition::ZERO,
                membership: Arc::new(Membership::default()),
                snapshot: LogPosition::ZERO,
                is_new: false,
            },
            entries: Vec::new(),
            removed: false,
        });
        restored.cluster = save.cluster.or(restored.cluster);
        restored.vote = save.vote.unwrap_or(restored.vote);
        restored.removed = save.removed.unwrap_or(restored.removed);
        if let Some(start) = save.start {
            if start.is_new {
                restored.entries.clear();
            } else {
                let dropped = start.position.index.get() - restored.start.position.index.get();
                restored.entries.drain(..restored.entries.len().min(dropped as usize));
            }
            restored.start = start;
        }
        if let Some(append) = save.append {
            let kept = append.prev.checked_sub(restored.start.position.index.get()).expect("behind the start");
            assert!(kept as usize <= restored.entries.len(), "no gap in the log");
            restored.entries.truncate(kept as usize);
            restored.entries.extend(append.entries);
        }
    }
}

impl Disk {
    pub fn write(&mut self, save: Save) {
        self.written.push_back(save);
    }

    pub fn write_image(&mut self, image: Arc<Image>) {
        self.written_images.push_back(image);
    }

    /// The number of the newest batch that waits for its sync.
    pub fn newest_batch(&self) -> Option<u64> {
        self.written.back().map(|save| save.batch)
    }

    /// All batches up to this one are synced.
    pub fn sync_to(&mut self, batch: u64) {
        while self.written.front().is_some_and(|save| save.batch <= batch) {
            let save = self.written.pop_front().unwrap();
            self.synced.take(save);
        }
    }

    pub fn sync_image(&mut self, last: LogPosition) {
        self.written_images.retain(|image| {
            image.last != last || {
                self.images.insert(last.index.get(), Arc::clone(image));
                false
            }
        });
    }

    pub fn unsynced(&self) -> usize {
        self.written.len()
    }

    /// The machine loses power: of what was written and not synced, some is there and the rest is not.
    pub fn crash(&mut self, rng: &mut Rng, planted: Option<Planted>) {
        let kept = rng.index(self.written.len() + 1);
        for save in self.written.drain(..).take(kept).collect::<Vec<Save>>() {
            self.synced.take(save);
        }
        self.written_images.clear();
        let Some(restored) = &mut self.synced.restored else { return };
        match planted {
            Some(Planted::VoteNotSynced) => {
                let newest = restored.entries.iter().rev().find_map(|entry| match entry {
                    Entry::Term(term) => Some(*term),
                    Entry::Config(_) | Entry::Command(_) => None,
                });
                restored.vote = (newest.unwrap_or(restored.start.position.term), None);
            }
            Some(Planted::TornTailAccepted) => {
                let torn = rng.index(4).min(restored.entries.len());
                restored.entries.truncate(restored.entries.len() - torn);
            }
            Some(Planted::AnsweredBeforeSync | Planted::AnswersMissingInSnapshot | Planted::StaleReads) | None => {}
        }
    }

    /// What a node starts again from.
    pub fn read(&self, planted: Option<Planted>) -> Option<(Restored, Map)> {
        let restored = self.synced.restored.clone()?;
        let snapshot = restored.start.snapshot;
        if snapshot == LogPosition::ZERO {
            return Some((restored, Map::new(0)));
        }
        let image = self.images.get(&snapshot.index.get()).expect("a snapshot is synced before it counts");
        assert_eq!(image.last, snapshot);
        let mut shown = image::read(&image.bytes).expect("a whole snapshot");
        if planted == Some(Planted::AnswersMissingInSnapshot) {
            let pairs: Vec<(String, String)> =
                shown.map.range("", None).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            shown.map = Map::new(snapshot.index.get());
            for (key, value) in pairs {
                let changes = vec![bigbunny::kv::command::Change::Set { key, value }];
                let command = bigbunny::kv::command::Command { idempotency_key: None, changes, is_batch: false };
                shown.map.apply(snapshot.index.get(), &command);
            }
        }
        Some((restored, shown.map))
    }

    /// The entries on the disk, to look at.
    pub fn entries(&self) -> &[Entry] {
        self.synced.restored.as_ref().map_or(&[], |restored| &restored.entries)
    }
}

//! A simulated disk: what is synced, what is only written, and what a crash leaves. What it keeps is what the real one promises to keep; that
//! the real one does is shown where it is, on a disk that loses and tears every write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bigbunny::kv::image;
use bigbunny::kv::map::Map;
use bigbunny::planted::{self, Bug};
use bigbunny::raft::entry::Entry;
use bigbunny::raft::lead::Image;
use bigbunny::raft::member::{Membership, Uuid};
use bigbunny::raft::node::{Restored, Save, Start};
use bigbunny::raft::{LogIndex, LogPosition, NodeId, Term};

use crate::met::Kind;
use crate::rng::Rng;

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// The first of it, up to anywhere.
    Some,
    /// All of it, and the snapshots too.
    All,
}

/// One node's disk.
#[derive(Default)]
pub struct Disk {
    synced: Option<State>,
    written: VecDeque<Save>,
    images: BTreeMap<u64, Arc<Image>>,
    written_images: Vec<Arc<Image>>,
    /// The last entry, when all is synced.
    last_written: u64,
}

/// What a node starts again from, with the term of every entry.
struct State {
    cluster: Option<Uuid>,
    vote: (Term, Option<NodeId>),
    start: Start,
    entries: VecDeque<(Term, Entry)>,
    removed: bool,
    /// Entries that were here, until others took their place.
    replaced: BTreeSet<LogPosition>,
}

impl State {
    fn new() -> Self {
        let start = Start {
            position: LogPosition::ZERO,
            membership: Arc::new(Membership::default()),
            snapshot: LogPosition::ZERO,
            is_new: false,
        };
        Self {
            cluster: None,
            vote: (Term::ZERO, None),
            start,
            entries: VecDeque::new(),
            removed: false,
            replaced: BTreeSet::new(),
        }
    }

    fn last(&self) -> u64 {
        self.start.position.index.get() + self.entries.len() as u64
    }

    fn take(&mut self, save: Save) {
        self.cluster = save.cluster.or(self.cluster);
        self.vote = save.vote.unwrap_or(self.vote);
        self.removed = save.removed.unwrap_or(self.removed);
        if let Some(start) = save.start {
            let dropped = start.position.index.get() - self.start.position.index.get();
            let dropped = if start.is_new { usize::MAX } else { dropped as usize };
            self.entries.drain(..self.entries.len().min(dropped));
            self.start = start;
        }
        if let Some(append) = save.append {
            let kept = append.prev.checked_sub(self.start.position.index.get()).expect("behind the start");
            assert!(kept as usize <= self.entries.len(), "no gap in the log");
            let gone = (append.prev + 1..).zip(self.entries.drain(kept as usize..));
            self.replaced.extend(gone.map(|(index, (term, _))| LogPosition { term, index: LogIndex::new(index) }));
            for entry in append.entries {
                let before = self.entries.back().map_or(self.start.position.term, |(term, _)| *term);
                let term = if let Entry::Term(term) = entry { term } else { before };
                self.entries.push_back((term, entry));
            }
        }
    }
}

impl Disk {
    pub fn write(&mut self, save: Save) {
        if let Some(start) = save.start.as_ref() {
            let position = start.position.index.get();
            self.last_written = if start.is_new { position } else { self.last_written.max(position) };
        }
        if let Some(append) = &save.append {
            self.last_written = append.prev + append.entries.len() as u64;
        }
        self.written.push_back(save);
    }

    pub fn write_image(&mut self, image: Arc<Image>) {
        self.written_images.push(image);
    }

    /// The number of the newest batch that waits for its sync.
    pub fn newest_batch(&self) -> Option<u64> {
        self.written.back().map(|save| save.batch)
    }

    /// What a batch that is about to be written is made of.
    pub fn kinds_of(&self, save: &Save) -> Vec<Kind> {
        let append = save.append.as_ref().map(|append| match append.entries.len() {
            0 => Kind::Cut,
            _ if append.prev < self.last_written => Kind::EntriesForOthers,
            _ => Kind::Entries,
        });
        // A compaction keeps some entries before its snapshot.
        let is_compaction = |start: &Start| start.position < start.snapshot;
        let start = save.start.as_ref().map(|start| match is_compaction(start) {
            true => Kind::Compaction,
            false => Kind::Installation,
        });
        let vote = save.vote.map(|_| Kind::Vote);
        let cluster = save.cluster.map(|_| Kind::Cluster);
        let removal = save.removed.map(|_| Kind::Removal);
        [append, start, vote, cluster, removal].into_iter().flatten().collect()
    }

    /// All batches up to this one are synced.
    pub fn sync_to(&mut self, batch: u64) {
        while self.written.front().is_some_and(|save| save.batch <= batch) {
            let save = self.written.pop_front().unwrap();
            self.take(save);
        }
    }

    fn take(&mut self, save: Save) {
        let newest = save.start.as_ref().map(|start| start.snapshot.index.get());
        self.synced.get_or_insert_with(State::new).take(save);
        // A newer snapshot has taken the place of the older ones.
        if let Some(newest) = newest {
            self.images.retain(|index, _| *index >= newest);
        }
    }

    pub fn sync_image(&mut self, last: LogPosition) {
        for image in self.written_images.extract_if(.., |image| image.last == last) {
            self.images.insert(last.index.get(), image);
        }
    }

    /// The machine loses power. Says how many batches are lost.
    pub fn crash(&mut self, rng: &mut Rng, left: Left) -> usize {
        let count = match left {
            Left::Nothing => 0,
            Left::Some => rng.index(self.written.len() + 1),
            Left::All => self.written.len(),
        };
        for save in self.written.drain(..count).collect::<Vec<Save>>() {
            self.take(save);
        }
        let images = std::mem::take(&mut self.written_images);
        if left == Left::All {
            self.images.extend(images.into_iter().map(|image| (image.last.index.get(), image)));
        }
        let lost = self.written.len();
        self.written.clear();
        if let Some(state) = &mut self.synced
            && planted::is(Bug::TornTailAccepted)
        {
            let torn = rng.index(4).min(state.entries.len());
            state.entries.truncate(state.entries.len() - torn);
        }
        self.last_written = self.synced.as_ref().map_or(0, State::last);
        lost
    }

    /// What a node starts again from.
    pub fn read(&self) -> Option<(Restored, Map)> {
        let state = self.synced.as_ref()?;
        let restored = Restored {
            cluster: state.cluster,
            vote: state.vote,
            start: state.start.clone(),
            entries: state.entries.iter().map(|(_, entry)| entry.clone()).collect(),
            removed: state.removed,
        };
        let snapshot = restored.start.snapshot;
        if snapshot == LogPosition::ZERO {
            return Some((restored, Map::new(0)));
        }
        let image = self.images.get(&snapshot.index.get()).expect("a snapshot is synced before it counts");
        assert!(image.last == snapshot, "the snapshot of {snapshot:?} is of {:?}", image.last);
        let shown = image::read(&image.bytes).expect("a whole snapshot");
        Some((restored, shown.map))
    }

    // To look at.

    /// The term and the vote on the disk.
    pub fn vote(&self) -> (Term, Option<NodeId>) {
        self.synced.as_ref().map_or((Term::ZERO, None), |state| state.vote)
    }

    /// The last entry on the disk.
    pub fn last(&self) -> u64 {
        self.synced.as_ref().map_or(0, State::last)
    }

    /// Whether an entry was on the disk, until a later write put others in its place.
    pub fn had(&self, position: LogPosition) -> bool {
        self.synced.as_ref().is_some_and(|state| state.replaced.contains(&position))
    }

    /// Whether an entry is on the disk, or is in the snapshot there.
    pub fn has(&self, position: LogPosition) -> bool {
        let Some(state) = &self.synced else { return position == LogPosition::ZERO };
        match position.index.get().checked_sub(state.start.position.index.get()) {
            None => true,
            Some(0) => position.term == state.start.position.term,
            Some(behind) => state.entries.get(behind as usize - 1).is_some_and(|(term, _)| *term == position.term),
        }
    }
}

//! Pictures of the map: when one is made, and who gets it (the disk, followers, backups); and those that come from a leader. Owns no bytes
//! longer than somebody needs them.

use std::sync::Arc;

use noraft::{LogPosition, NodeId};

use super::{Asker, Notice, Outbox, Replica};
use crate::kv::ask::{Answer, Kind};
use crate::kv::image::{self, Shown};
use crate::planted::{self, Bug};
use crate::raft::lead::Image;
use crate::time::Instant;

/// A snapshot is saved when the log has so many entries ([`super::Settings::snapshot_entries`]), or so many bytes.
pub const SNAPSHOT_ENTRIES: u64 = 10_000;
const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One in so many entries before the snapshot is kept, for followers that are a little behind, if they are not too long.
const KEPT_PART: u64 = 5;
const BYTES_KEPT: usize = LOG_BYTES_MAX / 4;
/// A picture grows by so much in a turn.
const PAINTED_PER_TURN_BYTES: usize = 128 * 1024;

/// The longest snapshot that is taken from a leader: of a map that is full, with all that stands in it beside.
pub(super) const fn longest_image(memory_limit_bytes: u64) -> u64 {
    const BESIDE_BYTES: u64 = 64 * 1024 * 1024;
    match memory_limit_bytes {
        0 => u64::MAX,
        limit => 2 * limit + BESIDE_BYTES,
    }
}

/// Pictures under way.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// The picture that is being made is for the disk too.
    is_for_disk: bool,
    /// One is on its way to the disk.
    saving: Option<LogPosition>,
    /// So many wait for room on it: one of its own, and one of the leader's.
    pub(super) waiting: u64,
    /// The newest one on the disk.
    pub(super) saved: Option<LogPosition>,
    /// Followers that need one.
    wanted: Vec<NodeId>,
    /// Backups that the picture being made is for, and those that came too late for it.
    backups: Vec<Asker>,
    later_backups: Vec<Asker>,
    /// The newest picture, while it is on its way to followers.
    kept: Option<Arc<Image>>,
    /// One that came from a leader, on its way to the disk.
    received: Option<(Arc<Image>, Shown)>,
}

impl Snapshots {
    pub(super) fn new(saved: Option<LogPosition>) -> Self {
        Self { saved, ..Self::default() }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.kept.is_some() || !self.wanted.is_empty()
    }

    pub(super) fn want_for(&mut self, to: NodeId) {
        if !self.wanted.contains(&to) {
            self.wanted.push(to);
        }
    }
}

impl Replica {
    pub(super) fn on_backup(&mut self, asker: Asker, out: &mut Outbox) {
        if self.raft.cluster().is_none() {
            let why = "this node belongs to no cluster; there is nothing to back up";
            return out.reply(asker, Answer::not_allowed(why));
        }
        // A backup shows all that was written before it was asked for, so that one under way does not do.
        if self.map.is_painting() {
            self.snapshots.later_backups.push(asker);
        } else {
            self.snapshots.backups.push(asker);
        }
    }

    /// Goes on with the picture under way; begins one if it is needed.
    pub(super) fn step_snapshots(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(image) = self.map.paint(PAINTED_PER_TURN_BYTES) {
            self.on_image(now, image, out);
        }
        if self.raft.snapshots_in_flight() == 0 && self.snapshots.wanted.is_empty() {
            self.snapshots.kept = None;
        }
        self.send_kept(now, out);
        if self.map.is_painting() {
            return;
        }
        let log_entries = self.applied.index.get().saturating_sub(self.raft.start().index.get());
        let entries_max = self.settings.snapshot_entries + self.settings.snapshot_entries / KEPT_PART;
        let is_log_long = log_entries >= entries_max || self.raft.log_bytes() >= LOG_BYTES_MAX;
        let is_new = self.snapshots.saved.is_none_or(|saved| saved.index < self.applied.index);
        let is_for_disk = is_log_long && is_new && self.snapshots.saving.is_none() && self.snapshots.received.is_none();
        if is_for_disk || !self.snapshots.wanted.is_empty() || !self.snapshots.backups.is_empty() {
            self.snapshots.is_for_disk = is_for_disk;
            self.begin_image();
        }
    }

    fn begin_image(&mut self) {
        let Some(cluster) = self.raft.cluster() else { return };
        let index = self.applied.index.get();
        // The membership at what is applied; where the log begins behind it, it is that of the log's start.
        let membership = match self.raft.position_and_membership(index) {
            Some((_, membership)) => membership,
            None => Arc::clone(self.raft.membership()),
        };
        self.map.begin_image(cluster, self.applied, &membership);
    }

    fn on_image(&mut self, now: Instant, image: Image, out: &mut Outbox) {
        let image = Arc::new(image);
        if std::mem::take(&mut self.snapshots.is_for_disk) {
            self.snapshots.saving = Some(image.last);
            out.images.push(Arc::clone(&image));
            if planted::is(Bug::CompactedBeforeSaved) {
                self.on_image_saved(now, image.last, out);
            }
        }
        for asker in std::mem::take(&mut self.snapshots.backups) {
            let answer = Answer { status: 200, kind: Kind::Bytes, body: image.bytes.clone(), lag_ms: None };
            out.reply(asker, answer);
        }
        self.snapshots.backups = std::mem::take(&mut self.snapshots.later_backups);
        if !self.snapshots.wanted.is_empty() {
            self.snapshots.kept = Some(image);
            self.send_kept(now, out);
        }
    }

    /// Sends the picture at hand to those who need one, if the log goes on behind it.
    fn send_kept(&mut self, now: Instant, out: &mut Outbox) {
        let start = self.raft.start().index;
        let Some(image) = self.snapshots.kept.as_ref().filter(|image| image.last.index >= start) else { return };
        for to in std::mem::take(&mut self.snapshots.wanted) {
            self.raft.send_snapshot(now, to, image, out);
        }
    }

    /// A snapshot came whole: it is looked at, and saved before it counts.
    pub(super) fn on_image_received(&mut self, image: Image, out: &mut Outbox) {
        match image::read(&image.bytes) {
            Ok(shown) if Some(shown.cluster) == self.raft.cluster() && shown.last == image.last => {
                let image = Arc::new(image);
                out.images.push(Arc::clone(&image));
                self.snapshots.received = Some((image, shown));
            }
            Ok(_) | Err(_) => {
                out.notice(Notice::BadSnapshot { from: self.raft.leader() });
                self.raft.reject_snapshot();
            }
        }
    }

    pub(super) fn on_image_waits(&mut self, waits: bool, out: &mut Outbox) {
        let waiting = &mut self.snapshots.waiting;
        let before = *waiting;
        *waiting = if waits { before + 1 } else { before.saturating_sub(1) };
        match (before, *waiting) {
            (0, 1) => out.notice(Notice::SnapshotWaits),
            (1, 0) => out.notice(Notice::SnapshotGoesOn),
            _ => {}
        }
    }

    pub(super) fn on_image_saved(&mut self, now: Instant, last: LogPosition, out: &mut Outbox) {
        if let Some((image, shown)) = self.snapshots.received.take_if(|(image, _)| image.last == last) {
            return self.install(now, &image, shown, out);
        }
        if self.snapshots.saving.take_if(|saving| *saving == last).is_some() {
            self.snapshots.saved = Some(last);
            out.notice(Notice::SnapshotSaved { index: last.index.get(), bytes: self.raft.log_bytes() });
            let kept = if self.raft.log_bytes() > BYTES_KEPT { 0 } else { self.settings.snapshot_entries / KEPT_PART };
            let to = last.index.get().saturating_sub(kept).max(self.raft.start().index.get());
            self.raft.compact(to, last);
        }
    }

    fn install(&mut self, now: Instant, image: &Image, shown: Shown, out: &mut Outbox) {
        if !self.raft.install(now, image.last, Arc::new(shown.membership)) {
            return self.raft.reject_snapshot();
        }
        // A picture of the map before is of no use to anybody; backups begin anew.
        let backups = std::mem::take(&mut self.snapshots.later_backups);
        self.snapshots.backups.extend(backups);
        // One of its own that is on its way to the disk is older.
        self.snapshots.saving = None;
        self.snapshots.saved = Some(image.last);
        self.map = shown.map;
        self.applied = image.last;
        self.note_applied();
        self.has_news = true;
        out.notice(Notice::SnapshotInstalled { index: image.last.index.get(), bytes: image.bytes.len() });
    }
}

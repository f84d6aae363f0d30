//! The whole map at one index as bytes: snapshots on disk and between nodes, and backups. The same map at the same index makes the same
//! bytes on every node. Made a little at a time while the map changes; read in one go.
//!
//! ```text
//! "bbd map\x01" | cluster 16 | term 8 | index 8 | membership | ( 1 | key | value )* | 0 | answers | SHA-256 of all before, 32
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use noraft::{LogIndex, LogPosition, Term};
use sha2::{Digest as _, Sha256};

use super::map::Map;
use super::{KEY_MAX_BYTES, VALUE_MAX_BYTES};
use crate::planted::{self, Bug};
use crate::raft::lead::Image;
use crate::raft::member::{Membership, Uuid};
use crate::wire::{Malformed, Reader, Write as _};

const MAGIC: &[u8; 8] = b"bbd map\x01";
const HASH_BYTES: usize = 32;
const PAIR: u8 = 1;
const END: u8 = 0;

/// A picture of the map that is being made, as the map was when it was begun.
#[derive(Debug)]
pub struct Painter {
    last: LogPosition,
    out: Vec<u8>,
    answers: Vec<u8>,
    /// All keys up to this one are painted.
    cursor: Option<Arc<str>>,
    /// What keys behind the cursor had when this was begun, and have no more.
    changed: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

impl Painter {
    /// A key is about to change, and has had this value.
    pub(super) fn note_change(&mut self, key: &Arc<str>, old: Option<&Arc<str>>) {
        if self.cursor.as_ref().is_none_or(|cursor| key > cursor) && !planted::is(Bug::SnapshotNotWhole) {
            self.changed.entry(Arc::clone(key)).or_insert_with(|| old.cloned());
        }
    }

    fn paint(&mut self, key: &Arc<str>, value: &Arc<str>) {
        self.out.put_u8(PAIR);
        self.out.put_bytes(key.as_bytes());
        self.out.put_bytes(value.as_bytes());
    }
}

impl Map {
    /// Begins a picture of the map as it is now, which `last` was the last entry to change.
    pub fn begin_image(&mut self, cluster: Uuid, last: LogPosition, membership: &Membership) {
        let mut out = MAGIC.to_vec();
        out.put_array(cluster.bytes());
        out.put_u64(last.term.get());
        out.put_u64(last.index.get());
        membership.write(&mut out);
        let mut answers = Vec::new();
        self.write_answers(&mut answers);
        self.painter = Some(Painter { last, out, answers, cursor: None, changed: BTreeMap::new() });
    }

    /// Whether a picture is being made.
    #[must_use]
    pub fn is_painting(&self) -> bool {
        self.painter.is_some()
    }

    /// Paints about so many bytes. The picture, when it is whole.
    pub fn paint(&mut self, budget_bytes: usize) -> Option<Image> {
        let mut painter = self.painter.take()?;
        let goal = painter.out.len() + budget_bytes;
        // What is there now and what was there then, side by side, in order.
        let cursor = painter.cursor.clone();
        let mut pairs = self.pairs_behind(cursor.as_deref()).peekable();
        while painter.out.len() < goal {
            let changed = painter.changed.first_key_value().map(|(key, _)| Arc::clone(key));
            let next = pairs.peek().map(|(key, _)| Arc::clone(key));
            let key = match (changed, next) {
                (None, None) => {
                    drop(pairs);
                    painter.out.put_u8(END);
                    painter.out.extend_from_slice(&painter.answers);
                    let hash = Sha256::digest(&painter.out);
                    painter.out.put_array(&hash);
                    return Some(Image { last: painter.last, bytes: painter.out });
                }
                (Some(key), None) | (None, Some(key)) => key,
                (Some(changed), Some(next)) => changed.min(next),
            };
            let now = pairs.next_if(|(next, _)| **next == key).map(|(_, value)| Arc::clone(value));
            let then = painter.changed.remove(&key).unwrap_or(now);
            if let Some(value) = then {
                painter.paint(&key, &value);
            }
            painter.cursor = Some(key);
        }
        drop(pairs);
        self.painter = Some(painter);
        None
    }
}

/// What a picture shows.
#[derive(Debug)]
pub struct Shown {
    /// Whose it is.
    pub cluster: Uuid,
    /// The last entry that is in it.
    pub last: LogPosition,
    /// The members then.
    pub membership: Membership,
    /// The map.
    pub map: Map,
}

/// Why bytes are no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadImage {
    /// They are something else.
    OtherFile,
    /// They are cut or altered.
    Damaged,
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherFile => "it is no snapshot or backup of a cluster map",
            Self::Damaged => "it is cut or altered: its checksum does not fit",
        })
    }
}

/// Reads a picture.
///
/// # Errors
///
/// See [`BadImage`].
pub fn read(bytes: &[u8]) -> Result<Shown, BadImage> {
    if !bytes.starts_with(MAGIC) {
        return Err(BadImage::OtherFile);
    }
    let (painted, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(BadImage::Damaged)?;
    if Sha256::digest(painted)[..] != hash[..] {
        return Err(BadImage::Damaged);
    }
    read_painted(&painted[MAGIC.len()..]).map_err(|Malformed| BadImage::Damaged)
}

fn read_painted(bytes: &[u8]) -> Result<Shown, Malformed> {
    let mut reader = Reader::new(bytes);
    let cluster = Uuid::from_bytes(reader.array()?);
    let last = LogPosition { term: Term::new(reader.u64()?), index: LogIndex::new(reader.u64()?) };
    let membership = Membership::read(&mut reader)?;
    let mut map = Map::new(last.index.get());
    loop {
        match reader.u8()? {
            END => break,
            PAIR => {
                let (key, value) = (reader.str()?, reader.str()?);
                if key.is_empty() || key.len() > KEY_MAX_BYTES || value.len() > VALUE_MAX_BYTES {
                    return Err(Malformed);
                }
                map.restore(key, value)?;
            }
            _ => return Err(Malformed),
        }
    }
    map.read_answers(&mut reader)?;
    reader.finish()?;
    Ok(Shown { cluster, last, membership, map })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kv::command::{Change, Command};

    fn set(map: &mut Map, index: u64, key: &str, value: Option<&str>, idempotency_key: Option<&str>) {
        let key = key.to_owned();
        let change = match value {
            Some(value) => Change::Set { key, value: value.to_owned() },
            None => Change::Delete { key },
        };
        let idempotency_key = idempotency_key.map(str::to_owned);
        map.apply(index, &Command { idempotency_key, changes: vec![change], is_batch: false });
    }

    fn filled() -> Map {
        let mut map = Map::new(0);
        for number in 0..100 {
            set(&mut map, number + 1, &format!("key {number:03}"), Some("value"), Some(&format!("once {number}")));
        }
        map
    }

    fn last() -> LogPosition {
        LogPosition { term: Term::new(3), index: LogIndex::new(100) }
    }

    fn cluster() -> Uuid {
        Uuid::from_random([1; 16])
    }

    #[test]
    fn a_map_that_changes_meanwhile_is_painted_as_it_was() {
        let mut still = filled();
        still.begin_image(cluster(), last(), &Membership::default());
        let expected = still.paint(usize::MAX / 2).unwrap();
        for budget in [1, 50, 333] {
            let mut map = filled();
            map.begin_image(cluster(), last(), &Membership::default());
            let mut step = 0;
            let image = loop {
                if let Some(image) = map.paint(budget) {
                    break image;
                }
                // Before, at and behind the cursor; new keys, gone keys, changed keys, changed again.
                for number in [step % 100, 99 - step % 100, 50] {
                    set(&mut map, 101 + step, &format!("key {number:03}"), None, None);
                    set(&mut map, 101 + step, &format!("key {number:03}x"), Some("new"), None);
                    set(
                        &mut map,
                        101 + step,
                        &format!("key {:03}", 98 - number % 90),
                        Some("other"),
                        Some("new answer"),
                    );
                }
                step += 1;
            };
            assert_eq!(image, expected, "budget {budget}");
        }
    }

    #[test]
    fn what_is_painted_is_read_and_every_damage_is_seen() {
        let mut map = filled();
        map.begin_image(cluster(), last(), &Membership::default());
        let image = map.paint(usize::MAX / 2).unwrap();
        let mut shown = read(&image.bytes).unwrap();
        assert_eq!((shown.cluster, shown.last, shown.map.len()), (cluster(), last(), 100));
        assert_eq!((shown.map.bytes(), shown.map.answers_len()), (map.bytes(), 100));
        assert!(shown.map.range("", None).eq(map.range("", None)));
        shown.map.begin_image(cluster(), last(), &Membership::default());
        assert_eq!(shown.map.paint(usize::MAX / 2).unwrap(), image);
        for at in 0..image.bytes.len() {
            let mut altered = image.bytes.clone();
            altered[at] ^= 1;
            assert!(read(&altered).is_err(), "{at}");
            assert!(read(&image.bytes[..at]).is_err(), "{at}");
        }
    }
}

//! The journal: what Raft must not forget, one record behind the other, each on disk when [`Journal::commit`] returns. Owns the files `log-N`
//! and their bytes; when something is saved, and what it means, is for others.
//!
//! # Files
//!
//! The files are parts of one journal, in the order of their numbers. Each begins with a record that says all that the parts before it have come
//! to but the entries of the log, so that a part whose entries a snapshot covers is not needed any more. It is then kept as `log-spare` and
//! overwritten as the next one: a disk is fastest where a file neither grows nor moves. A part gets its name when its first record is on disk.
//!
//! # A record
//!
//! ```text
//! 0                               16      20
//! +-------------------------------+-------+------------------------+- - - - -
//! | checksum                      | bytes | body                   | up to a whole sector
//! +-------------------------------+-------+------------------------+- - - - -
//! ```
//!
//! The checksum is of the part's salt, the record's place, its length and its body: what was in the file in an earlier life, or what a client
//! has put into a value, is never taken for a record. No record shares a sector with another: writing one does not touch what is on disk.
//!
//! # After a crash
//!
//! One record at a time is on its way to the disk, and nothing depends on it before it is there. So whatever cannot be read behind the last good
//! record is that one, and is overwritten. Anything good behind something bad is no crash but damage, and ends the start.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use crate::planted::{self, Bug};
use crate::raft::entry::Entry;
use crate::raft::member::{Membership, Uuid};
use crate::raft::node::{Append, Restored, Save, Start};
use crate::raft::{INDEX_MAX, LogIndex, LogPosition, NodeId, TERM_MAX, Term};
use crate::wire::{Malformed, Reader, Write as _};

/// A part is so long, if no single record is longer.
pub(super) const PART_BYTES: usize = 4 * 1024 * 1024;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
const SUM_BYTES: usize = 16;
const HEAD_BYTES: usize = SUM_BYTES + 4;
/// Kept of the buffer for the next commit.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;
const PREFIX: &str = "log-";
/// The part that is to be written next.
pub(super) const SPARE: &str = "log-spare";

/// Random bytes that tell a part from all others.
type Salt = [u8; 16];

/// Why a journal cannot be read. Names the file.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(String, io::Error),
    Damaged(String, &'static str),
}

/// What the first record of a part says.
#[derive(Debug)]
struct Header {
    number: u64,
    salt: Salt,
    /// Where the part before it ends.
    previous_end: u64,
    uuid: Uuid,
    /// All that was saved before, without entries.
    before: Save,
}

/// What a journal holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) uuid: Uuid,
    /// `None` if nothing was ever saved.
    pub(super) restored: Option<Restored>,
}

/// A part that is complete.
#[derive(Debug)]
struct Complete {
    number: u64,
    /// No entry in it has a higher index.
    last: u64,
}

/// A journal that is open for writing.
#[derive(Debug)]
pub(super) struct Journal<D: Disk> {
    disk: D,
    part_bytes: usize,
    uuid: Uuid,
    complete: VecDeque<Complete>,
    has_spare: bool,
    number: u64,
    file: D::File,
    salt: Salt,
    /// Where the next record goes.
    end: u64,
    /// No entry in this part has a higher index.
    last: u64,
    /// All that was saved, without entries.
    saved: Save,
    buffer: Vec<u8>,
}

impl<D: Disk> Journal<D> {
    /// A journal in a folder that has none, in which `saved` was saved.
    pub(super) fn create(disk: D, part_bytes: usize, uuid: Uuid, saved: Save) -> io::Result<Self> {
        let header = Header { number: 1, salt: draw_salt()?, previous_end: 0, uuid, before: saved };
        let (file, end) = begin_part(&disk, part_bytes, false, &header)?;
        Ok(Self {
            disk,
            part_bytes,
            uuid,
            complete: VecDeque::new(),
            has_spare: false,
            number: header.number,
            file,
            salt: header.salt,
            end,
            last: 0,
            saved: header.before,
            buffer: Vec::new(),
        })
    }

    /// Opens the journal of a folder and gives what is in it; the disk itself if there is none.
    pub(super) fn open(disk: D, part_bytes: usize) -> Result<Result<(Self, Held), D>, Unreadable> {
        let names = disk.names().map_err(|error| Unreadable::Io("the folder".to_owned(), error))?;
        let has_spare = names.iter().any(|name| name == SPARE);
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect();
        numbers.sort_unstable();
        let mut replay = Replay::default();
        let mut complete = VecDeque::new();
        let mut newest: Option<(Header, u64, u64)> = None;
        for number in numbers {
            let name = part_name(number);
            let damaged = |what| Unreadable::Damaged(name.clone(), what);
            let bytes = disk.read(&name).map_err(|error| Unreadable::Io(name.clone(), error))?;
            let (header, mut end) = read_header(&bytes).ok_or_else(|| damaged("its first record is damaged"))?;
            if header.number != number {
                return Err(damaged("it has the name of another one"));
            }
            match newest.take() {
                None => replay.take(header.before.clone()),
                Some((before, last, before_end)) => {
                    if before.number + 1 != number {
                        return Err(damaged("the one before it is missing"));
                    }
                    if header.previous_end != before_end && !planted::is(Bug::PreviousEndUnchecked) {
                        return Err(Unreadable::Damaged(part_name(before.number), "a record in it is damaged"));
                    }
                    complete.push_back(Complete { number: before.number, last });
                }
            }
            replay.last = 0;
            while let Some((body, next)) = read_record(&bytes, end, &header.salt) {
                for save in read_saves(body).map_err(|Malformed| damaged("a record in it cannot be read"))? {
                    replay.take(save);
                }
                end = next;
            }
            let places = (end..bytes.len()).step_by(SECTOR_BYTES).skip(1);
            if places.into_iter().any(|place| read_record(&bytes, place, &header.salt).is_some()) {
                return Err(damaged("a record in it is damaged"));
            }
            newest = Some((header, replay.last, end as u64));
        }
        let Some((header, last, end)) = newest else { return Ok(Err(disk)) };
        let name = part_name(header.number);
        let file = disk.open(&name).map_err(|error| Unreadable::Io(name.clone(), error))?;
        let saved = replay.saved.clone();
        let restored = replay.into_restored().map_err(|what| Unreadable::Damaged(name, what))?;
        let held = Held { uuid: header.uuid, restored };
        let (number, salt, uuid) = (header.number, header.salt, header.uuid);
        let buffer = Vec::new();
        let journal =
            Self { disk, part_bytes, uuid, complete, has_spare, number, file, salt, end, last, saved, buffer };
        Ok(Ok((journal, held)))
    }

    /// Appends one record of all that; on disk when this returns.
    pub(super) fn commit(&mut self, saves: &[Save]) -> io::Result<()> {
        let mut record = std::mem::take(&mut self.buffer);
        record.resize(HEAD_BYTES, 0);
        for save in saves {
            write_save(save, &mut record);
        }
        let padded = record.len().next_multiple_of(SECTOR_BYTES);
        if self.end as usize + padded > self.part_bytes {
            self.begin_next()?;
        }
        seal(&mut record, self.end, &self.salt);
        self.disk.write(&self.file, self.end, &record)?;
        self.end += record.len() as u64;
        record.clear();
        record.shrink_to(BUFFER_KEPT_BYTES);
        self.buffer = record;
        for save in saves {
            if let Some(append) = &save.append {
                self.last = self.last.max(append.prev + append.entries.len() as u64);
            }
            if let Some(start) = &save.start
                && start.is_new
            {
                self.complete.iter_mut().for_each(|part| part.last = 0);
            }
            note_saved(&mut self.saved, save);
        }
        if saves.iter().any(|save| save.start.is_some()) {
            self.drop_complete()?;
        }
        Ok(())
    }

    fn begin_next(&mut self) -> io::Result<()> {
        let header = Header {
            number: self.number + 1,
            salt: draw_salt()?,
            previous_end: self.end,
            uuid: self.uuid,
            before: self.saved.clone(),
        };
        (self.file, self.end) = begin_part(&self.disk, self.part_bytes, self.has_spare, &header)?;
        self.has_spare = false;
        self.complete.push_back(Complete { number: self.number, last: self.last });
        (self.number, self.salt, self.last) = (header.number, header.salt, 0);
        Ok(())
    }

    /// Drops the parts at the beginning that hold nothing behind the start of the log.
    fn drop_complete(&mut self) -> io::Result<()> {
        let start = self.saved.start.as_ref().map_or(0, |start| start.position.index.get());
        while let Some(part) = self.complete.pop_front_if(|part| part.last <= start) {
            let name = part_name(part.number);
            if self.has_spare {
                self.disk.remove(&name)?;
            } else {
                self.disk.rename(&name, SPARE)?;
                self.has_spare = true;
            }
        }
        Ok(())
    }
}

/// The name of a part, the first of which has the number 1.
pub(super) fn part_name(number: u64) -> String {
    format!("{PREFIX}{number}")
}

fn draw_salt() -> io::Result<Salt> {
    let mut salt = Salt::default();
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(salt)
}

/// Writes the first record of a part, which then gets its name. The file, and where the next record goes.
fn begin_part<D: Disk>(disk: &D, part_bytes: usize, has_spare: bool, header: &Header) -> io::Result<(D::File, u64)> {
    let file = if has_spare { disk.open(SPARE)? } else { disk.create(SPARE, part_bytes)? };
    let mut record = vec![0; HEAD_BYTES];
    record.put_u64(header.number);
    record.put_array(&header.salt);
    record.put_u64(header.previous_end);
    record.put_array(header.uuid.bytes());
    write_save(&header.before, &mut record);
    seal(&mut record, 0, &Salt::default());
    if planted::is(Bug::NamedBeforeWritten) {
        disk.rename(SPARE, &part_name(header.number))?;
        disk.write(&file, 0, &record)?;
    } else {
        disk.write(&file, 0, &record)?;
        disk.rename(SPARE, &part_name(header.number))?;
    }
    Ok((file, record.len() as u64))
}

fn read_header(bytes: &[u8]) -> Option<(Header, usize)> {
    let (body, end) = read_record(bytes, 0, &Salt::default())?;
    let mut reader = Reader::new(body);
    let (number, salt, previous_end) = (reader.u64().ok()?, reader.array().ok()?, reader.u64().ok()?);
    let uuid = Uuid::from_bytes(reader.array().ok()?);
    let before = read_save(&mut reader).ok()?;
    reader.finish().ok()?;
    Some((Header { number, salt, previous_end, uuid, before }, end))
}

/// Completes a record, whose body stands behind room for its head.
fn seal(record: &mut Vec<u8>, place: u64, salt: &Salt) {
    let length = u32::try_from(record.len() - HEAD_BYTES).unwrap_or(u32::MAX);
    record[SUM_BYTES..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    let sum = sum_of(&record[SUM_BYTES..], place, salt);
    record[..SUM_BYTES].copy_from_slice(&sum);
    record.resize(record.len().next_multiple_of(SECTOR_BYTES), 0);
}

/// The body of the record at a place, and the place of the next one; `None` if there is none.
fn read_record<'b>(bytes: &'b [u8], place: usize, salt: &Salt) -> Option<(&'b [u8], usize)> {
    let record = bytes.get(place..)?;
    let (sum, rest) = record.split_first_chunk::<SUM_BYTES>()?;
    let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    // An empty record says nothing, and zeros look like one.
    let summed = rest.get(..4 + length).filter(|_| length > 0)?;
    let body = &summed[4..];
    (*sum == sum_of(summed, place as u64, salt))
        .then(|| (body, place + (HEAD_BYTES + length).next_multiple_of(SECTOR_BYTES)))
}

fn sum_of(length_and_body: &[u8], place: u64, salt: &Salt) -> [u8; SUM_BYTES] {
    let place = if planted::is(Bug::PlaceNotSummed) { 0 } else { place };
    let of_first_sector = length_and_body.len().min(SECTOR_BYTES - SUM_BYTES);
    let length_and_body =
        if planted::is(Bug::CutRecordTaken) { &length_and_body[..of_first_sector] } else { length_and_body };
    let sum: [u8; 32] = Sha256::new()
        .chain_update(salt)
        .chain_update(place.to_le_bytes())
        .chain_update(length_and_body)
        .finalize()
        .into();
    let mut short = [0; SUM_BYTES];
    short.copy_from_slice(&sum[..SUM_BYTES]);
    short
}

// What is saved.

fn write_save(save: &Save, out: &mut Vec<u8>) {
    out.put_option(save.cluster, |out, cluster| out.put_array(cluster.bytes()));
    out.put_option(save.vote, |out, (term, voted_for)| {
        out.put_u64(term.get());
        out.put_option(voted_for, |out, id| out.put_u64(id.get()));
    });
    out.put_option(save.removed, |out, removed| out.put_bool(removed));
    out.put_option(save.start.as_ref(), |out, start| {
        write_position(out, start.position);
        write_position(out, start.snapshot);
        start.membership.write(out);
        out.put_bool(start.is_new);
    });
    out.put_option(save.append.as_ref(), |out, append| {
        out.put_u64(append.prev);
        out.put_u32(u32::try_from(append.entries.len()).unwrap_or(u32::MAX));
        for entry in &append.entries {
            entry.write(out);
        }
    });
}

fn read_saves(body: &[u8]) -> Result<Vec<Save>, Malformed> {
    let mut reader = Reader::new(body);
    let mut saves = Vec::new();
    while !reader.is_empty() {
        saves.push(read_save(&mut reader)?);
    }
    Ok(saves)
}

fn read_save(reader: &mut Reader<'_>) -> Result<Save, Malformed> {
    let cluster = reader.option(|reader| reader.array().map(Uuid::from_bytes))?;
    let vote =
        reader.option(|reader| Ok((read_term(reader)?, reader.option(|reader| reader.u64().map(NodeId::new))?)))?;
    let removed = reader.option(Reader::bool)?;
    let start = reader.option(|reader| {
        Ok(Start {
            position: read_position(reader)?,
            snapshot: read_position(reader)?,
            membership: Arc::new(Membership::read(reader)?),
            is_new: reader.bool()?,
        })
    })?;
    let append = reader.option(|reader| {
        let prev = read_index(reader)?.get();
        let entries = (0..reader.u32()?).map(|_| Entry::read(reader)).collect::<Result<_, Malformed>>()?;
        Ok(Append { prev, entries })
    })?;
    Ok(Save { batch: 0, vote, append, start, cluster, removed })
}

fn write_position(out: &mut Vec<u8>, position: LogPosition) {
    out.put_u64(position.term.get());
    out.put_u64(position.index.get());
}

fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, Malformed> {
    Ok(LogPosition { term: read_term(reader)?, index: read_index(reader)? })
}

fn read_term(reader: &mut Reader<'_>) -> Result<Term, Malformed> {
    reader.u64().and_then(|term| if term > TERM_MAX { Err(Malformed) } else { Ok(Term::new(term)) })
}

fn read_index(reader: &mut Reader<'_>) -> Result<LogIndex, Malformed> {
    reader.u64().and_then(|index| if index > INDEX_MAX { Err(Malformed) } else { Ok(LogIndex::new(index)) })
}

/// What is left of several saves: the newest of each, and no entries.
fn note_saved(saved: &mut Save, newer: &Save) {
    saved.cluster = newer.cluster.or(saved.cluster);
    saved.vote = newer.vote.or(saved.vote);
    saved.removed = newer.removed.or(saved.removed);
    if newer.start.is_some() {
        saved.start.clone_from(&newer.start);
    }
}

/// A journal that is read again.
#[derive(Default)]
struct Replay {
    saved: Save,
    entries: BTreeMap<u64, Entry>,
    /// The highest index since this was set to 0.
    last: u64,
}

impl Replay {
    fn take(&mut self, save: Save) {
        note_saved(&mut self.saved, &save);
        if let Some(start) = &save.start {
            // What stands in a part that is not needed any more may be gone already.
            self.entries = match start.is_new {
                true => BTreeMap::new(),
                false => self.entries.split_off(&(start.position.index.get() + 1)),
            };
        }
        if let Some(append) = save.append {
            self.entries.split_off(&(append.prev + 1));
            self.last = self.last.max(append.prev + append.entries.len() as u64);
            self.entries.extend((append.prev + 1..).zip(append.entries));
        }
    }

    fn into_restored(self) -> Result<Option<Restored>, &'static str> {
        if self.saved == Save::default() && self.entries.is_empty() {
            return Ok(None);
        }
        let Save { vote, start, cluster, removed, .. } = self.saved;
        let nowhere = || Start {
            position: LogPosition::ZERO,
            membership: Arc::default(),
            snapshot: LogPosition::ZERO,
            is_new: false,
        };
        let start = Start { is_new: false, ..start.unwrap_or_else(nowhere) };
        let first = start.position.index.get() + 1;
        if !self.entries.keys().copied().eq((first..).take(self.entries.len())) {
            return Err("entries of the log are missing");
        }
        let entries = self.entries.into_values().collect();
        let vote = vote.unwrap_or((Term::ZERO, None));
        Ok(Some(Restored { cluster, vote, start, entries, removed: removed.unwrap_or(false) }))
    }
}

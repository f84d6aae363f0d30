//! The folder after an orderly end; and the journal on a disk that dies at every step, tears what is on its way, and forgets names.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::disk::Disk;
use super::*;
use crate::raft::entry::Entry;
use crate::raft::member::Membership;
use crate::raft::node::{Append, Start};
use crate::raft::{LogIndex, NodeId, Term};

fn append(prev: u64, texts: &[&str]) -> Save {
    let entries = texts.iter().map(|text| Entry::Command(text.as_bytes().into())).collect();
    Save { append: Some(Append { prev, entries }), ..Save::default() }
}

fn vote(term: u64) -> Save {
    Save { vote: Some((Term::new(term), Some(NodeId::new(7)))), ..Save::default() }
}

fn start_at(index: u64, is_new: bool) -> Save {
    let position = LogPosition { term: Term::new(1), index: LogIndex::new(index) };
    let start = Start { position, membership: Arc::new(Membership::default()), snapshot: position, is_new };
    Save { start: Some(start), ..Save::default() }
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

/// xorshift64.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A folder whose machine dies at one step, with that step half done.
#[derive(Clone)]
struct Dying(Rc<RefCell<Platter>>);

struct Platter {
    files: BTreeMap<String, Rc<RefCell<Vec<u8>>>>,
    steps: u64,
    dies_at: u64,
    dice: Dice,
}

enum Fate {
    Lives,
    Dies(Dice),
}

impl Dying {
    fn new(seed: u64) -> Self {
        let dice = Dice(seed | 1);
        Self(Rc::new(RefCell::new(Platter { files: BTreeMap::new(), steps: 0, dies_at: u64::MAX, dice })))
    }

    fn dies_in(&self, steps: u64) {
        let mut platter = self.0.borrow_mut();
        platter.dies_at = platter.steps + steps;
    }

    fn step(&self) -> io::Result<Fate> {
        let mut platter = self.0.borrow_mut();
        platter.steps += 1;
        platter.dice.below(2);
        match platter.steps.cmp(&platter.dies_at) {
            std::cmp::Ordering::Less => Ok(Fate::Lives),
            std::cmp::Ordering::Equal => Ok(Fate::Dies(platter.dice.clone())),
            std::cmp::Ordering::Greater => Err(io::Error::other("it is dead")),
        }
    }

    /// Does something whole, or at the step at which it dies whole or not at all.
    fn do_or_die(&self, act: impl FnOnce(&mut Platter)) -> io::Result<()> {
        let fate = self.step()?;
        let (does, dies) = match fate {
            Fate::Lives => (true, false),
            Fate::Dies(mut dice) => (dice.below(2) == 0, true),
        };
        if does {
            act(&mut self.0.borrow_mut());
        }
        if dies { Err(io::Error::other("it dies")) } else { Ok(()) }
    }
}

impl Disk for Dying {
    type File = Rc<RefCell<Vec<u8>>>;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.open(name)?.borrow().clone())
    }

    fn create(&self, name: &str, bytes: usize) -> io::Result<Self::File> {
        let file = Rc::new(RefCell::new(vec![0; bytes]));
        self.do_or_die(|platter| {
            platter.files.insert(name.to_owned(), Rc::clone(&file));
        })?;
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.0.borrow().files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fate = self.step()?;
        let mut file = file.borrow_mut();
        let offset = offset as usize;
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        match fate {
            Fate::Lives => {
                file[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Fate::Dies(mut dice) => {
                for (at, sector) in bytes.chunks(512).enumerate() {
                    if dice.below(2) == 0 {
                        file[offset + 512 * at..][..sector.len()].copy_from_slice(sector);
                    }
                }
                Err(io::Error::other("it dies"))
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.do_or_die(|platter| {
            let file = platter.files.remove(from).unwrap();
            assert!(platter.files.insert(to.to_owned(), file).is_none());
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.do_or_die(|platter| assert!(platter.files.remove(name).is_some()))
    }
}

/// What a journal should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    term: u64,
    start: u64,
    entries: Vec<String>,
}

impl Model {
    fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// Something to save, which this model then holds.
    fn draw(&mut self, dice: &mut Dice) -> Save {
        match dice.below(8) {
            0 => {
                self.term += 1;
                vote(self.term)
            }
            1 | 2 if self.last() > self.start => {
                let index = self.start + 1 + dice.below(self.last() - self.start);
                self.entries.drain(..(index - self.start) as usize);
                self.start = index;
                start_at(index, false)
            }
            3 if dice.below(4) == 0 => {
                self.start = self.last() + dice.below(9);
                self.entries.clear();
                start_at(self.start, true)
            }
            _ => {
                let prev = if dice.below(4) == 0 {
                    self.start + dice.below(self.last() - self.start + 1)
                } else {
                    self.last()
                };
                let texts: Vec<String> = (0..=dice.below(3))
                    .map(|number| format!("{number} {}", "x".repeat(dice.below(1_500) as usize)))
                    .collect();
                self.entries.truncate((prev - self.start) as usize);
                self.entries.extend(texts.iter().cloned());
                append(prev, &texts.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    }

    fn of(held: Option<&Restored>) -> Self {
        let Some(restored) = held else { return Self::default() };
        let (term, start) = (restored.vote.0.get(), restored.start.position.index.get());
        Self { term, start, entries: texts(restored) }
    }
}

/// So short that many are needed.
const SHORT_PART_BYTES: usize = 8 * 1024;

fn open_or_create(disk: &Dying) -> io::Result<(Journal<Dying>, Option<Restored>)> {
    match Journal::open(disk.clone(), SHORT_PART_BYTES).unwrap() {
        Ok((journal, held)) => {
            assert_eq!(held.uuid, uuid());
            Ok((journal, held.restored))
        }
        Err(disk) => Ok((Journal::create(disk, SHORT_PART_BYTES, uuid(), Save::default())?, None)),
    }
}

/// How often something came about.
#[derive(Default)]
struct Counts {
    lives: u64,
    lost: u64,
    kept: u64,
    parts: usize,
    refused: u64,
    cut: u64,
    unharmed: u64,
}

/// A journal that dies at six of its steps.
fn crash(seed: u64, counts: &mut Counts) {
    let disk = Dying::new(seed * 0x9e37_79b9);
    let mut dice = Dice(seed * 0x85eb_ca6b + 1);
    // What is on disk for sure, and what may be.
    let mut model = Model::default();
    let mut maybe = model.clone();
    for _ in 0..6 {
        disk.dies_in(1 + dice.below(60));
        counts.lives += 1;
        let Ok((mut journal, restored)) = open_or_create(&disk) else { continue };
        let found = Model::of(restored.as_ref());
        assert!(found == model || found == maybe, "found {found:?}, and not {model:?} nor {maybe:?}");
        if model != maybe {
            counts.lost += u64::from(found == model);
            counts.kept += u64::from(found == maybe);
        }
        model = found;
        maybe = model.clone();
        loop {
            let saves: Vec<Save> = (0..=dice.below(3)).map(|_| maybe.draw(&mut dice)).collect();
            if journal.commit(&saves).is_err() {
                break;
            }
            model.clone_from(&maybe);
        }
        counts.parts = counts.parts.max(disk.names().unwrap().len());
    }
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_was_on_disk_and_tears_nothing() {
    let mut counts = Counts::default();
    (1..400).for_each(|seed| crash(seed, &mut counts));
    let Counts { lives, lost, kept, parts, .. } = counts;
    assert!(lives > 2_000 && lost > 300 && kept > 300 && parts > 3, "{lives} {lost} {kept} {parts}");
}

/// A journal with bits turned everywhere, and with sectors where others belong. The disk it is on.
fn damage(seed: u64, counts: &mut Counts) -> Dying {
    let disk = Dying::new(seed);
    let (mut journal, _) = open_or_create(&disk).unwrap();
    let mut dice = Dice(seed * 0x85eb_ca6b + 5);
    let mut model = Model::default();
    // What it was before the last record, before the one before that, and so on.
    let mut before = VecDeque::new();
    for _ in 0..40 {
        before.push_front(model.clone());
        // Every other one takes the place of the one before: without it nothing would be missing.
        let last = model.last() - u64::from(model.last() > 0 && dice.below(2) == 0);
        model.entries.truncate(last as usize);
        model.entries.push(format!("{} {}", dice.below(1_000), "x".repeat(dice.below(900) as usize)));
        journal.commit(&[append(last, &[model.entries.last().unwrap()])]).unwrap();
    }
    let mut check = |lost_max: usize, of: &dyn Fn() -> String| match Journal::open(disk.clone(), SHORT_PART_BYTES) {
        Err(Unreadable::Damaged(..)) => counts.refused += 1,
        Err(Unreadable::Io(name, error)) => panic!("{name}: {error}"),
        Ok(Err(_)) => panic!("there is a journal, with {}", of()),
        Ok(Ok((_, held))) => {
            let found = Model::of(held.restored.as_ref());
            // Behind a record, up to the next sector, and behind the last one nothing is said.
            counts.unharmed += u64::from(found == model);
            // The last record may be one that was cut off by a crash, and where more is overwritten those before it, too.
            let is_cut = before.iter().take(lost_max).any(|before| found == *before);
            counts.cut += u64::from(is_cut);
            let entries = found.entries.len();
            assert!(found == model || is_cut, "{entries} entries are taken as whole, with {}", of());
        }
    };
    for name in disk.names().unwrap() {
        let file = disk.open(&name).unwrap();
        let whole = file.borrow().clone();
        for place in (0..whole.len()).step_by(97) {
            file.borrow_mut()[place] ^= 0x40;
            check(1, &|| format!("a bit of {name} turned at {place}"));
            file.borrow_mut()[place] = whole[place];
        }
        let sectors = (whole.len() / 512) as u64;
        for _ in 0..sectors * 4 {
            let count = 1 + dice.below(3);
            let [from, to] = [0; 2].map(|_| 512 * dice.below(sectors - count) as usize);
            file.borrow_mut().copy_within(from..from + 512 * count as usize, to);
            check(count as usize, &|| format!("{count} sectors of {name} at {from} written at {to} too"));
            file.borrow_mut().clone_from(&whole);
        }
    }
    disk
}

#[test]
fn damage_anywhere_but_in_the_last_record_ends_the_start() {
    let mut counts = Counts::default();
    let disk = damage(1, &mut counts);
    let Counts { refused, cut, unharmed, .. } = counts;
    assert!(refused > 200 && (1..40).contains(&cut) && unharmed > 20, "{refused} {cut} {unharmed}");
    disk.0.borrow_mut().files.remove("log-2").unwrap();
    let Err(Unreadable::Damaged(name, what)) = Journal::open(disk, SHORT_PART_BYTES) else { panic!() };
    assert_eq!((name.as_str(), what), ("log-3", "the one before it is missing"));
}

/// `scripts/planted-bugs` prints this table: after how many seeds of crashes and damage each mistake is found, and what it says then.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_found() {
    use std::io::Write as _;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::planted::{self, Bug};

    // The runs are meant to fail.
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = std::env::var("BBD_BUG").unwrap_or_default();
    for &(bug, name) in Bug::OF_JOURNAL.iter().filter(|(_, name)| name.contains(&chosen)) {
        planted::plant(Some(bug));
        let run = |seed| {
            crash(seed, &mut Counts::default());
            damage(seed, &mut Counts::default());
        };
        let found = (1..200).find_map(|seed| Some((seed, catch_unwind(AssertUnwindSafe(|| run(seed))).err()?)));
        planted::plant(None);
        let (seed, panic) = found.unwrap_or_else(|| panic!("{name} is not found"));
        let says: String = panic.downcast_ref::<String>().map_or("?", String::as_str).chars().take(100).collect();
        // At once: the harness keeps what passing tests print.
        let _ = writeln!(io::stdout(), "{name:<50}{seed:>10}  {says}");
    }
}

#[test]
fn a_folder_is_what_was_saved_and_belongs_to_one_process() {
    let folder = std::env::temp_dir().join(format!("bbd-store-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let mut opened = open(&folder, uuid).unwrap();
    assert!(opened.restored.is_none());
    assert!(matches!(open(&folder, uuid), Err(StoreError::InUse(_))));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&folder).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let cluster = Uuid::from_random([3; 16]);
    let first = Save { cluster: Some(cluster), ..vote(4) };
    opened.journal.commit(&[first, append(0, &["a", "b", "c"]), append(1, &["B"])]).unwrap();
    drop(opened);
    let mut opened = open(&folder, || Uuid::from_random([1; 16])).unwrap();
    assert_eq!(opened.uuid, uuid(), "an id is drawn once");
    let restored = &opened.restored.as_ref().unwrap().0;
    assert_eq!((restored.cluster, restored.vote), (Some(cluster), (Term::new(4), Some(NodeId::new(7)))));
    assert_eq!(texts(restored), ["a", "B"]);
    // A snapshot takes the place of the log's beginning.
    let last = LogPosition { term: Term::new(1), index: LogIndex::new(1) };
    let mut map = Map::new(1);
    map.begin_image(cluster, last, &Membership::default());
    write_snapshot(&folder, &map.paint(usize::MAX / 2).unwrap()).unwrap();
    opened.journal.commit(&[start_at(1, false)]).unwrap();
    drop(opened);
    let opened = open(&folder, uuid).unwrap();
    let restored = &opened.restored.as_ref().unwrap().0;
    assert_eq!((restored.start.snapshot, texts(restored)), (last, vec!["B".to_owned()]));
    drop(opened);
    fs::write(folder.join("snapshot-1"), b"bbd map\x01, but not for long").unwrap();
    assert!(matches!(open(&folder, uuid), Err(StoreError::Damaged(..))));
    let log = folder.join("log-1");
    let mut bytes = fs::read(&log).unwrap();
    bytes[3] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let refused = open(&folder, uuid).err().unwrap().to_string();
    assert!(refused.contains("log-1 is damaged: its first record is damaged; remove this node"), "{refused}");
    fs::remove_dir_all(&folder).unwrap();
}

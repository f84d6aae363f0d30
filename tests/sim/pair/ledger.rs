//! The reference history: every epoch of every primary is a branch that begins where it left its parent, and everything
//! answered is known by the branch and the change number at which it was carried out. So what may be lost, and what may not,
//! follows from the promotions alone, and not from what a node thinks of itself.

use super::host::{Digest, Hashed, content_hash, tag_hash};
use bigbunny::node::EntryImage;
use bigbunny::node::request::LockId;
use std::collections::{BTreeMap, HashMap};

/// What went wrong, beginning with the name of the invariant.
pub(crate) type Wrong = String;

/// A store by customer, class (`r`egister, `c`ounter, `l`ocked, `t`imed, `w`ild) and number.
pub(crate) type Place = (usize, u8, u64);

/// An epoch of one primary.
pub(crate) struct Branch {
    pub(crate) epoch: u32,
    pub(crate) owner: u64,
    /// Where it began: a branch and the last change taken over from it; nothing where there was nothing to take over.
    pub(crate) parent: Option<(usize, u64)>,
    /// The branch all of this began with.
    pub(crate) root: usize,
    pub(crate) last: u64,
    pub(crate) digests: BTreeMap<u64, Digest>,
    /// Who got each lock last, and what was written last under it.
    pub(crate) grants: BTreeMap<Place, LockId>,
    pub(crate) bodies: BTreeMap<Place, u64>,
    pub(crate) by_handover: bool,
    /// It began with a part of another's state, and nobody knows which.
    pub(crate) is_partial: bool,
    /// Another has begun with what this one had.
    pub(crate) is_superseded: bool,
    /// The other node has had a message of it.
    pub(crate) was_heard: bool,
    /// By true time: until then nobody knows of locks.
    pub(crate) window_until: u64,
}

/// Where and when a deed was done: by the change numbers before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) branch: usize,
    pub(crate) before: u64,
    pub(crate) after: u64,
    /// The true time.
    pub(crate) at: u64,
    /// Answered under `replicated`: whoever goes on from this branch has it.
    pub(crate) durable: bool,
    /// Nobody had taken over from the branch yet.
    pub(crate) is_fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A value, or nothing: a deletion.
    Write(Option<u64>),
    /// So many steps of a counter.
    Add(i64),
}

/// One thing a client wants done once.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) place: Place,
    pub(crate) deed: Deed,
    pub(crate) done: Vec<Done>,
    /// Somebody was told that nobody knows, or nothing at all.
    pub(crate) unknown: bool,
    pub(crate) attempts: u32,
    /// When it was asked for first.
    pub(crate) asked: u64,
    pub(crate) answered: Option<Told>,
}

/// An answer of success that came to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) at: u64,
    /// What a counter was said to be.
    pub(crate) count: Option<u64>,
    /// Where this answer was made: one that is tried again on the other node is done by both, and only one of them may count.
    pub(crate) done: Done,
}

impl Op {
    pub(crate) fn new(place: Place, deed: Deed, asked: u64) -> Self {
        Self { place, deed, done: Vec::new(), unknown: false, attempts: 0, asked, answered: None }
    }
}

/// What a primary said that a store was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) place: Place,
    pub(crate) seen: Option<u64>,
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) done: Done,
}

/// Whether a deed is part of the history that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Certain,
    Uncertain,
    Lost,
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) branches: Vec<Branch>,
    pub(crate) ops: Vec<Op>,
    pub(crate) looks: Vec<Look>,
    /// Values and what wrote them.
    pub(crate) values: BTreeMap<u64, usize>,
    /// For timed values: when they were written and for how long, in nanoseconds.
    pub(crate) times: BTreeMap<u64, (u64, u64)>,
    /// By true time: when each lock ends at the latest, by the clock of the node that gave it.
    pub(crate) lock_ends: HashMap<LockId, u64>,
    /// What was seen under each tag of each store, which stand here by their hash, and in which epoch.
    contents: HashMap<u64, (u64, u32), Hashed>,
}

impl Ledger {
    /// A node has become primary.
    pub(crate) fn branch(
        &mut self,
        epoch: u32,
        owner: u64,
        parent: Option<(usize, u64)>,
        by_handover: bool,
        alive: &[u64],
    ) -> Result<usize, Wrong> {
        let number = self.branches.len();
        let root = parent.map_or(number, |(parent, _)| self.branches[parent].root);
        for other in &self.branches {
            // What begins with nothing cannot know of epochs it never heard of, and nobody knows of one whose primary died, with
            // all its memory, before anybody had heard of it: that is what memory alone cannot do.
            let is_forgotten = !other.was_heard && !alive.contains(&other.owner);
            if other.epoch == epoch && other.root == root && !is_forgotten {
                return Err(format!("one-primary-per-epoch: epoch {epoch} belongs to {:x} and {owner:x}", other.owner));
            }
            if other.epoch == epoch && is_forgotten {
                // Nor of what it wrote.
                self.contents.retain(|_, (_, of)| *of != epoch);
            }
        }
        let mut branch = Branch {
            epoch,
            owner,
            parent,
            root,
            last: parent.map_or(0, |(_, number)| number),
            digests: BTreeMap::new(),
            grants: BTreeMap::new(),
            bodies: BTreeMap::new(),
            by_handover,
            is_partial: false,
            is_superseded: false,
            was_heard: false,
            window_until: 0,
        };
        if let Some((parent, at)) = parent {
            let old = &self.branches[parent];
            if at > old.last {
                return Err(format!("prefix: {owner:x} has applied {at} of {} changes", old.last));
            }
            if by_handover {
                branch.grants = old.grants.clone();
                branch.bodies = old.bodies.clone();
            }
        }
        if let Some((parent, _)) = parent {
            self.branches[parent].is_superseded = true;
        }
        self.branches.push(branch);
        Ok(number)
    }

    pub(crate) fn find(&self, epoch: u32, owner: u64) -> Option<usize> {
        self.branches.iter().rposition(|branch| branch.epoch == epoch && branch.owner == owner)
    }

    /// What the history at a change number of a branch looked like, if anybody looked.
    pub(crate) fn digest_at(&self, mut branch: usize, number: u64) -> Option<(Digest, bool)> {
        let mut locks_count = true;
        loop {
            let here = &self.branches[branch];
            match here.parent {
                Some((parent, at)) if number <= at && !here.digests.contains_key(&number) => {
                    locks_count &= here.by_handover;
                    branch = parent;
                }
                _ => return here.digests.get(&number).map(|digest| (*digest, locks_count)),
            }
        }
    }

    /// No tag of a store ever stands for two contents, whatever was lost in between.
    pub(crate) fn check_tag(&mut self, entry: &EntryImage<'_>) -> Result<(), Wrong> {
        let Some(etag) = entry.etag else { return Ok(()) };
        let content = content_hash(entry);
        if self.contents.entry(tag_hash(&entry.key, etag)).or_insert((content, etag.epoch)).0 != content {
            return Err(format!("version-monotone: {entry:?} had another content under the same tag"));
        }
        Ok(())
    }

    /// Whether this life of a node was primary of the branch or of one before it.
    pub(crate) fn was_primary(&self, branch: usize, owner: u64) -> bool {
        self.path(branch).iter().any(|(branch, _)| self.branches[*branch].owner == owner)
    }

    /// What a branch began with, by the history of its parent.
    pub(crate) fn taken_over(&self, branch: usize) -> Option<(Digest, bool)> {
        let here = &self.branches[branch];
        let (parent, at) = here.parent?;
        let (digest, locks_count) = self.digest_at(parent, at)?;
        Some((digest, locks_count && here.by_handover))
    }

    /// The branches that lead to this one, each with its last change that counts; the oldest first.
    pub(crate) fn path(&self, branch: usize) -> Vec<(usize, u64)> {
        let mut path = vec![(branch, u64::MAX)];
        let mut here = branch;
        while let Some((parent, at)) = self.branches[here].parent {
            path.push((parent, at));
            here = parent;
        }
        path.reverse();
        // What a later branch took over may be less than what an earlier one did.
        for place in (1..path.len()).rev() {
            path[place - 1].1 = path[place - 1].1.min(path[place].1);
        }
        path
    }

    /// The last change that a branch, followed up to this one of its changes, has in common with another branch; 0 where they have nothing.
    pub(crate) fn common(&self, (branch, last): (usize, u64), other: usize) -> u64 {
        let others = self.path(other);
        let shared = self.path(branch).into_iter().rev().find_map(|(branch, end)| {
            let (_, other_end) = others.iter().find(|(other, _)| *other == branch)?;
            Some(end.min(*other_end))
        });
        shared.map_or(0, |shared| shared.min(last))
    }

    pub(crate) fn fate(path: &[(usize, u64)], done: &Done) -> Fate {
        match path.iter().find(|(branch, _)| *branch == done.branch) {
            Some((_, last)) if done.durable || done.after <= *last => Fate::Certain,
            Some((_, last)) if done.before < *last => Fate::Uncertain,
            Some(_) | None => Fate::Lost,
        }
    }

    pub(crate) fn fate_of(path: &[(usize, u64)], op: &Op) -> Fate {
        let fates = op.done.iter().map(|done| Self::fate(path, done));
        let mut best = if op.unknown { Fate::Uncertain } else { Fate::Lost };
        for fate in fates {
            match (fate, best) {
                (Fate::Certain, _) => return Fate::Certain,
                (Fate::Uncertain, Fate::Lost) => best = Fate::Uncertain,
                _ => {}
            }
        }
        best
    }

    /// All that was done until now came to this, on both nodes: from here on it is one deed for each place, and those that are still under way.
    pub(crate) fn settle(
        &mut self,
        branch: usize,
        number: u64,
        counters: &BTreeMap<Place, i64>,
        registers: &BTreeMap<Place, u64>,
        under_way: &[usize],
    ) {
        // Said of the branch that made the last change: one that made none may be left out of a path.
        let mut made_by = branch;
        while let Some((parent, at)) = self.branches[made_by].parent
            && at == number
        {
            made_by = parent;
        }
        let open: Vec<Op> = under_way
            .iter()
            .map(|&op| {
                let op = &self.ops[op];
                Op { unknown: true, attempts: 2, ..Op::new(op.place, op.deed, 0) }
            })
            .collect();
        self.ops = open;
        self.looks.clear();
        self.begin_with(made_by, number, counters, registers);
    }

    /// What these stores are was done by one deed each, before anything else on this branch.
    pub(crate) fn begin_with(
        &mut self,
        branch: usize,
        number: u64,
        counters: &BTreeMap<Place, i64>,
        registers: &BTreeMap<Place, u64>,
    ) {
        let before = number.saturating_sub(1);
        let done = Done { branch, before, after: number, at: 0, durable: false, is_fresh: true };
        let told = Told { at: 0, count: None, done };
        let begun = |place, deed| Op { done: vec![done], attempts: 1, answered: Some(told), ..Op::new(place, deed, 0) };
        self.ops.extend(counters.iter().map(|(&place, &value)| begun(place, Deed::Add(value))));
        self.ops.extend(registers.iter().map(|(&place, &value)| begun(place, Deed::Write(Some(value)))));
    }

    /// In the end: every counter and every register has a value that the history allows.
    pub(crate) fn check_end(
        &self,
        branch: usize,
        counters: &BTreeMap<Place, i64>,
        registers: &BTreeMap<Place, u64>,
    ) -> Result<u64, Wrong> {
        let path = self.path(branch);
        let mut by_place: BTreeMap<Place, Vec<&Op>> = BTreeMap::new();
        for op in &self.ops {
            by_place.entry(op.place).or_default().push(op);
        }
        let mut lost = 0;
        for (place, ops) in by_place {
            let fates: Vec<(Fate, &Op)> = ops.into_iter().map(|op| (Self::fate_of(&path, op), op)).collect();
            lost += fates.iter().filter(|(fate, op)| *fate == Fate::Lost && !op.done.is_empty()).count() as u64;
            let steps = |wanted: Fate| {
                let steps = |(fate, op): &(Fate, &Op)| match op.deed {
                    Deed::Add(steps) if *fate == wanted => steps,
                    Deed::Add(_) | Deed::Write(_) => 0,
                };
                fates.iter().map(steps).sum::<i64>()
            };
            let (certain, uncertain) = (steps(Fate::Certain), steps(Fate::Uncertain));
            match place.1 {
                b'c' => {
                    let value = counters.get(&place).copied().unwrap_or(0);
                    if value < certain || value > certain + uncertain {
                        let others = fates.iter().filter(|(fate, _)| *fate != Fate::Certain).collect::<Vec<_>>();
                        return Err(format!(
                            "counter-exact: {place:?} is {value}; {certain} steps were answered and kept, of \
                             {uncertain} nobody knows; path {path:?}, not kept: {others:?}",
                        ));
                    }
                }
                b'r' | b'l' => check_register(&path, place, &fates, registers.get(&place).copied())?,
                _ => {}
            }
        }
        Ok(lost)
    }
}

/// The last write that surely counts, or one that may have come behind it.
fn check_register(path: &[(usize, u64)], place: Place, fates: &[(Fate, &Op)], value: Option<u64>) -> Result<(), Wrong> {
    let position = |branch: usize| path.iter().position(|(other, _)| *other == branch);
    // Where in the history an operation was surely over, and where it surely had not begun.
    let first = |op: &Op| {
        if op.attempts > 1 || op.done.iter().any(|done| done.durable) {
            // A repeat is answered with what was done before, and the other node's word may have been long in coming.
            return None;
        }
        // What was gone already was not deleted again.
        let changes = op.done.iter().filter(|done| done.after > done.before);
        changes.filter_map(|done| Some((position(done.branch)?, done.before))).min()
    };
    let last = |op: &Op| op.done.iter().filter_map(|done| Some((position(done.branch)?, done.after))).max();
    let wrote = |op: &Op| match op.deed {
        Deed::Write(value) => value,
        Deed::Add(_) => None,
    };
    let is_overwritten = |candidate: Option<&Op>| {
        fates.iter().filter(|(fate, _)| *fate == Fate::Certain).any(|(_, later)| {
            if candidate.is_some_and(|candidate| std::ptr::eq(candidate, *later)) {
                return false;
            }
            match candidate {
                None => first(later).is_some() || later.attempts > 1,
                Some(candidate) if candidate.unknown => false,
                Some(candidate) => match (last(candidate), first(later)) {
                    (Some(end), Some(start)) => end <= start,
                    _ => false,
                },
            }
        })
    };
    let candidates = fates.iter().filter(|(fate, op)| *fate != Fate::Lost && wrote(op) == value);
    if candidates.clone().any(|(_, op)| !is_overwritten(Some(op))) || (value.is_none() && !is_overwritten(None)) {
        return Ok(());
    }
    let found = candidates.map(|(fate, op)| format!("{fate:?} {op:?}")).collect::<Vec<_>>();
    let newest = fates
        .iter()
        .filter(|(fate, op)| *fate == Fate::Certain && first(op).is_some())
        .max_by_key(|(_, op)| first(op))
        .map(|(_, op)| format!("{op:?}"));
    Err(format!("no-lost-update: {place:?} holds {value:?} ({found:?}); newest that counts: {newest:?}, path {path:?}"))
}

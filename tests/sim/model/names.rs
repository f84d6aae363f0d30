//! The model's names: made, found, listed, changed, deleted one by one, in lists and by prefix.

use super::stores::{Found, refuse_bounds};
use super::{Model, Pending, Place, Slot, Wrong, plain, refusal, said};
use crate::coverage::Rare;
use crate::reply::{Matter, Reply, Told};
use bigbunny::node::PREFIX_DELETES_PER_TURN;
use bigbunny::node::request::{Content, Operation, Request, RequestId, Target, TouchOnRead};
use bigbunny::node::response::Refusal;
use std::borrow::Cow;
use std::ops::Bound;

/// Names that one turn of a long deletion deletes.
const TURN: usize = PREFIX_DELETES_PER_TURN;

/// A prefix that is being deleted.
#[derive(Debug)]
pub(crate) struct PrefixJob {
    pub(super) id: RequestId,
    pub(super) customer: &'static str,
    pub(super) prefix: &'static str,
    pub(super) deleted: u64,
}

impl Model {
    /// The store that has a name, be it past its expiry.
    pub(super) fn name_taken(&self, customer: &'static str, name: &'static str) -> Option<Slot> {
        self.customers.get(customer)?.names.get(name).copied()
    }

    /// What a name leads to.
    pub(super) fn by_name(&self, customer: &'static str, name: &'static str) -> Found {
        match self.name_taken(customer, name) {
            None => Found::Nothing(Refusal::NotFound),
            Some(slot) if self.alive(slot) => Found::Alive(slot),
            Some(slot) => Found::Overdue(slot),
        }
    }

    pub(super) fn create_named(
        &mut self,
        request: &Request<'static>,
        name: &'static str,
        content: &Content<'static>,
        ttl_ms: Option<u64>,
        reuse: bool,
        seen: &Reply,
    ) -> Result<Reply, Wrong> {
        let found = self.by_name(request.customer, name);
        if let Some(refused) = self.condition_on_found(request, &found) {
            return Ok(refused);
        }
        match found {
            Found::Alive(slot) if reuse => self.told_id(slot, false, seen),
            Found::Alive(slot) => Ok(self.refused(slot, Refusal::NameExists)),
            Found::Overdue(_) => {
                self.met(Rare::NameTakenPastExpiry);
                Ok(refusal(Refusal::NameExists))
            }
            Found::Nothing(_) => self.create(request, Some(name), content, ttl_ms, seen),
        }
    }

    pub(super) fn put(
        &mut self,
        pending: &Pending,
        name: &'static str,
        content: &Content<'static>,
        ttl_ms: Option<u64>,
        through: bool,
        seen: &Reply,
    ) -> Result<Reply, Wrong> {
        let request = &pending.request;
        let found = self.by_name(request.customer, name);
        if let Some(refused) = self.condition_on_found(request, &found) {
            if through {
                self.met(Rare::PreconditionFailedInLine);
            }
            return Ok(refused);
        }
        let slot = match found {
            Found::Nothing(_) => return self.create(request, Some(name), content, ttl_ms, seen),
            Found::Overdue(slot) => {
                self.met(Rare::NameTakenPastExpiry);
                return self.blocked(slot, pending, seen);
            }
            Found::Alive(slot) if self.is_blocked(slot, through) => return self.blocked(slot, pending, seen),
            Found::Alive(slot) => slot,
        };
        if let Some(refused) = refuse_bounds(content) {
            return Ok(self.refused(slot, refused));
        }
        match self.replace(request, slot, Matter::asked(content), ttl_ms, seen) {
            Ok(()) => self.told_id(slot, false, seen),
            Err(refused) => Ok(self.refused(slot, refused)),
        }
    }

    pub(super) fn lookup(
        &mut self,
        request: &Request<'static>,
        name: &'static str,
        seen: &Reply,
    ) -> Result<Reply, Wrong> {
        match self.by_name(request.customer, name) {
            Found::Alive(slot) => self.told_id(slot, false, seen),
            Found::Overdue(_) | Found::Nothing(_) => Ok(refusal(Refusal::NotFound)),
        }
    }

    pub(super) fn authorize(
        &mut self,
        request: &Request<'static>,
        name: Option<&'static str>,
        touch: Option<TouchOnRead>,
    ) -> Reply {
        match name.map(|name| self.by_name(request.customer, name)) {
            Some(Found::Alive(slot)) => {
                self.touch_on_read(slot, touch);
                self.told(slot, Told::Authorized)
            }
            Some(Found::Overdue(_) | Found::Nothing(_)) | None => refusal(Refusal::NotAuthorized),
        }
    }

    pub(super) fn list(
        &mut self,
        customer: &'static str,
        prefix: &'static str,
        after: Option<&'static str>,
        limit: usize,
    ) -> Reply {
        let mut names = Vec::new();
        let mut more = false;
        if let Some(account) = self.customers.get(customer) {
            let from = after.map_or(Bound::Included(prefix), |after| {
                if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) }
            });
            let behind = account.names.range::<str, _>((from, Bound::Unbounded));
            for (name, slot) in behind.take_while(|(name, _)| name.starts_with(prefix)) {
                if !self.alive(*slot) {
                    continue;
                }
                if names.len() == limit {
                    more = true;
                    break;
                }
                names.push(Cow::Borrowed(*name));
            }
        }
        if more {
            self.met(Rare::ListedInPages);
        }
        plain(Told::Names { names, more })
    }

    pub(super) fn read_many(&mut self, customer: &'static str, names: &[Cow<'static, str>]) -> Reply {
        let stores = names
            .iter()
            .map(|name| match self.by_name(customer, said(name)) {
                Found::Alive(slot) => Some((self.stores[slot].matter.clone(), self.facts(slot))),
                Found::Overdue(_) | Found::Nothing(_) => None,
            })
            .collect();
        plain(Told::Stores(stores))
    }

    pub(super) fn delete_many(
        &mut self,
        request: &Request<'static>,
        names: &[Cow<'static, str>],
        seen: &Reply,
    ) -> Reply {
        let mut slots: Vec<Slot> = names
            .iter()
            .filter_map(|name| match self.by_name(request.customer, said(name)) {
                Found::Alive(slot) | Found::Overdue(slot) => Some(slot),
                Found::Nothing(_) => None,
            })
            .collect();
        slots.sort_unstable();
        slots.dedup();
        if let Some(refused) = self.refuse_tombstones(request.customer, slots.len() as u64, seen) {
            return refusal(refused);
        }
        let count = slots.iter().filter(|slot| self.alive(**slot)).count() as u64;
        for slot in slots {
            self.bury(slot);
        }
        plain(Told::Deleted { count })
    }

    pub(super) fn rename(
        &mut self,
        request: &Request<'static>,
        name: &'static str,
        to: &'static str,
        seen: &Reply,
    ) -> Reply {
        let found = self.by_name(request.customer, name);
        if let Some(refused) = self.condition_on_found(request, &found) {
            return refused;
        }
        let Found::Alive(slot) = found else { return refusal(Refusal::NotFound) };
        if name == to {
            return self.told(slot, Told::Done);
        }
        if self.name_taken(request.customer, to).is_some() {
            return self.refused(slot, Refusal::NameExists);
        }
        let old_bytes = self.cost_bytes(slot);
        let new_bytes = super::limits::cost_bytes(&self.stores[slot].matter, Some(to));
        if let Some(refused) = self.refuse_growth(request, old_bytes, new_bytes, seen) {
            return self.refused(slot, refused);
        }
        self.charge(request.customer, old_bytes, new_bytes);
        let account = self.account(request.customer);
        account.names.remove(name);
        account.names.insert(to, slot);
        account.names_ever.insert(to);
        self.stores[slot].name = Some(to);
        self.met(Rare::Renamed);
        if self.lined.contains(&slot) {
            self.met(Rare::RenamedWhileLocked);
        }
        // Those in line go along: what they asked for by the old name they now ask for by the new one.
        for id in self.stores[slot].line.clone() {
            let pending = self.pending.get_mut(&id).expect("it waits");
            if let Operation::Put { name, .. } | Operation::BeginModify { target: Target::Name(name), .. } =
                &mut pending.request.operation
            {
                *name = Cow::Borrowed(to);
            }
        }
        self.told(slot, Told::Done)
    }

    /// The answer to the deletion of a prefix, given at once or after several turns.
    pub(super) fn delete_prefix(&mut self, id: RequestId, pending: &Pending, seen: &Reply) -> Result<Reply, Wrong> {
        let Operation::DeletePrefix { prefix } = &pending.request.operation else {
            unreachable!("only deletions by prefix come here")
        };
        let (customer, prefix) = (pending.request.customer, said(prefix));
        let job = self.prefix_jobs.iter().position(|job| job.id == id).and_then(|at| self.prefix_jobs.remove(at));
        let slots = self.names_with(customer, prefix);
        let in_one_go = job.is_none();
        let so_far = job.map_or(0, |job| job.deleted);
        if in_one_go && let Some(refused) = self.refuse_tombstones(customer, slots.len().min(TURN) as u64, seen) {
            return Ok(refusal(refused));
        }
        let mut count = so_far;
        for (turn, slot) in slots.into_iter().enumerate() {
            // Past the limit a long deletion stops; what is deleted by then stays deleted.
            if let Some(refused) = self.refuse_tombstones(customer, 1, seen) {
                return Ok(refusal(refused));
            }
            if turn + 1 == TURN {
                return Err(format!("bounded-turn: {TURN} names or more are deleted in one turn: {seen:?}"));
            }
            count += u64::from(self.alive(slot));
            self.bury(slot);
        }
        Ok(plain(Told::Deleted { count }))
    }

    /// The stores with such names, in byte order: also those past their expiry that are locked, for what is logged out must
    /// not come back by the completion of a save.
    fn names_with(&self, customer: &'static str, prefix: &'static str) -> Vec<Slot> {
        let Some(account) = self.customers.get(customer) else { return Vec::new() };
        let behind = account.names.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        behind.take_while(|(name, _)| name.starts_with(prefix)).map(|(_, slot)| *slot).collect()
    }

    pub(super) fn start_prefix_job(&mut self, id: RequestId, customer: &'static str, prefix: &'static str) {
        self.met(Rare::PrefixDeletedInTurns);
        self.prefix_jobs.push_front(PrefixJob { id, customer, prefix, deleted: 0 });
        self.prefix_turn_taken = false;
        self.take_prefix_turn();
        self.prefix_turn_taken = true;
    }

    /// A timeout does a turn's worth of the first job, which then is the last. Names are deleted in byte order; how many were
    /// shows in the tombstones, for those that were over and not yet noticed take up a part of the turn.
    pub(super) fn take_prefix_turn(&mut self) {
        if std::mem::replace(&mut self.prefix_turn_taken, true) {
            return;
        }
        let count = self.tombstones_seen.saturating_sub(self.tombstones.len() as u64);
        if count == 0 {
            return;
        }
        let Some(mut job) = self.prefix_jobs.pop_front() else { return };
        for slot in self.names_with(job.customer, job.prefix).into_iter().take((count as usize).min(TURN)) {
            job.deleted += u64::from(self.alive(slot));
            self.bury(slot);
        }
        self.prefix_jobs.push_back(job);
    }

    /// One who waited is answered in a way that shows that a long deletion has had its turn before.
    pub(super) fn catch_up_with_prefix_jobs(&mut self, id: RequestId, seen: &Reply) -> Result<(), Wrong> {
        let Place::InLine(slot) = self.pending[&id].place else { return Ok(()) };
        let gone = match seen.result {
            Err(Refusal::NotFound) => true,
            Ok(Told::Locked { created, .. } | Told::StoreId { created, .. }) => created,
            Ok(_) => false,
            Err(Refusal::StoreLocked { .. }) => false,
            Err(_) => self.stores[slot].lock.is_some(),
        };
        let starts = self.asked_now.is_some_and(|id| {
            let pending = self.pending.get(&id);
            pending.is_some_and(|pending| {
                pending.place == Place::Fresh && matches!(pending.request.operation, Operation::DeletePrefix { .. })
            })
        });
        if gone && starts {
            return self.stays_unanswered(self.asked_now.expect("it was just there"));
        }
        if gone && self.is_timeout {
            self.take_prefix_turn();
        }
        Ok(())
    }
}

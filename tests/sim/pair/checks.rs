//! What must hold: after every turn of a node, and in the end. It judges by the ledger and by both nodes together.
//!
//! The invariants of section 6 of the replication specification, and where each is looked at:
//!
//! | | |
//! |---|---|
//! | one-primary-per-epoch | at every promotion, `Ledger::branch` |
//! | no-answer-without-lease | at every answer, `leaves` in `turn` |
//! | no-overlap | after every turn, `two_at_once` and `check_patience` |
//! | promote-only-synced | at every promotion, `has_become` and `founds` |
//! | prefix, secondary-never-expires-alone | after every turn that changed anything, `looks_at`; of large states a share in proportion |
//! | no-gap-no-repeat, backlog-bound | after every turn |
//! | snapshot-atomic | as prefix, from the turn on in which a joiner becomes secondary |
//! | survive-one-failure | at every promotion, `looks_at` |
//! | loss-is-suffix | at every end of a former primary, `check_loss`; in both ends, `Ledger::check_end` |
//! | replicated-is-safe, no-lost-update, counter-exact | at every answer about a lock; in both ends, with the history of every store in `history` |
//! | one-lock-holder, commit-needs-lock | at every answer about a lock, at every timeout, whenever a connection with a lock ends |
//! | no-resurrection | at every read of what a visitor has deleted, and in the histories |
//! | version-monotone | as prefix, at the primary |
//! | name-unique, books-exact | the sums of the books as prefix; those of each customer, and the names, one turn in [`BOOKS_DONE_ONE_IN`] and more: they cost most |
//! | ttl-never-extends, expired-never-served | at every answer with a time left; in both ends |
//! | refused-changes-nothing | after every turn without a new change number, by the books |
//! | customers-apart | at every answer, and in both ends |
//! | resync-ends, converge | in both ends |

use super::asks::State;
use super::coverage::Met;
use super::host::{Body, Books, Digest, Heard, Said, digest};
use super::ledger::{Done, Wrong};
use super::net::MS;
use super::profile::MANY_NAMES;
use super::world::{Event, HEALED_MS, LAST_ANSWERS_MS, World};
use bigbunny::node::{EntryImage, Event as Told, Limits, Node, NodeStatus, Role};
use bigbunny::time::Instant;
use std::time::Duration;

/// How long a secondary waits for a heartbeat.
const LEASE_AND_GRACE_MS: u64 = 4000;
/// By so much a lock that was handed over may end later by another clock.
const LOCK_SLACK_MS: u64 = 500;
/// By so much a deadline may seem to grow, beside what the clocks drift apart: their resolution.
const GROWTH_SLACK_MS: u64 = 60;
/// Up to so many entries, all of them are compared after every event that changes anything; of more, as many on average.
const ENTRIES_COMPARED: u64 = 64;
/// The books, which cost a walk too, are done anew after one event in so many, and in more if there are many entries.
const BOOKS_DONE_ONE_IN: u64 = 16;

impl World {
    /// Roles and epochs: what the node says it has become.
    pub(crate) fn has_become(
        &mut self,
        place: usize,
        before: &NodeStatus,
        after: &NodeStatus,
        said: &Said,
    ) -> Result<(), Wrong> {
        if let Some(why) = said.misbehaved {
            return Err(format!(
                "no-gap-no-repeat: node {place} calls the other's stream impossible: {why:?}; {before:?} {after:?} {:?}",
                self.hosts[place].clock.read(self.now)
            ));
        }
        let incarnation = self.hosts[place].node.as_ref().expect("it lives").incarnation();
        let mut role = before.role;
        let mut is_new = false;
        for event in &said.events {
            self.tell(|_| format!("{place}: {event:?}"));
            match *event {
                Told::RoleChanged { role: new } => {
                    role = new;
                    self.hosts[place].buckets.clear();
                    is_new = true;
                }
                Told::Promoted { epoch, why } => {
                    let by_handover = why.contains("handed over") || before.role == Role::Primary;
                    let was = before.role;
                    let parent = match (was, self.hosts[place].branch) {
                        (Role::Secondary, Some(branch)) => Some((branch, before.changes)),
                        (Role::Secondary, None) => return Err(format!("{place} followed nobody: promote-only-synced")),
                        (Role::Primary, Some(branch)) => Some((branch, before.changes)),
                        (Role::Joining | Role::Primary, _) => None,
                    };
                    if was == Role::Joining {
                        self.founds(place, why)?;
                    }
                    self.check_patience(place, why)?;
                    self.coverage.met(match why {
                        why if why.contains("handed over") => Met::PromotedByHandover,
                        why if why.contains("newer epoch") => Met::Outbid,
                        why if why.contains("silent") => Met::PromotedBySilence,
                        why if why.contains("refuses") => Met::PromotedByRefusals,
                        why if why.contains("restarted") || why.contains("lost its memory") => Met::PromotedByRestart,
                        why if why.contains("did not answer") => Met::PromotedAfterNoAnswer,
                        why if why.contains("operator") => Met::PromotedByOrder,
                        why if why.contains("both") => Met::FoundedTogether,
                        _ => Met::FoundedAlone,
                    });
                    let alive: Vec<u64> =
                        self.hosts.iter().filter_map(|host| Some(host.node.as_ref()?.incarnation())).collect();
                    let branch = self.ledger.branch(epoch, incarnation, parent, by_handover, &alive)?;
                    if was == Role::Secondary && !by_handover {
                        let clock = &self.hosts[place].clock;
                        let window = Duration::from_millis(self.profile.lock_timeout_ms);
                        let until = clock.when(clock.read(self.now).monotonic + window);
                        self.ledger.branches[branch].window_until = until;
                    }
                    if was == Role::Joining {
                        self.ledger.branches[branch].is_partial = before.changes > 0;
                        self.begins_with_what_is_there(place, branch)?;
                    }
                    self.hosts[place].branch = Some(branch);
                    self.hosts[place].lease_until =
                        if by_handover { self.hosts[place].lease_until } else { Instant::ZERO };
                    self.hosts[place].forced = why == "the operator asked for it";
                }
                Told::SteppedDown { .. } => {
                    self.coverage.met(Met::SteppedDown);
                    let host = &mut self.hosts[place];
                    host.was_primary = host.branch.take().map(|branch| (branch, before.changes));
                    self.hosts[place].forced = false;
                }
                Told::ChangesLost { count } if count > 0 => self.coverage.met(Met::ChangesLost),
                Told::SnapshotBegun => self.coverage.met(Met::SnapshotBegun),
                Told::BacklogOverflow => self.coverage.met(Met::BacklogOverflow),
                Told::FollowerInStep => self.coverage.met(Met::InStepAgain),
                Told::HandoverAborted => self.coverage.met(Met::HandoverAborted),
                Told::ChangesLost { .. }
                | Told::PeerLinkDown
                | Told::PeerRestarted
                | Told::FollowerLost
                | Told::HandedOver { .. } => {}
            }
        }
        if is_new {
            self.hosts[place].heartbeat_at = None;
        }
        if role != after.role {
            return Err(format!("{place} is {:?} and said it was {role:?}", after.role));
        }
        if before.role == Role::Joining && after.role == Role::Joining && after.changes < before.changes {
            self.coverage.met(Met::SnapshotCut);
        }
        if after.epoch < before.epoch {
            return Err(format!("one-primary-per-epoch: node {place} went back to epoch {}", after.epoch));
        }
        self.two_at_once(place)
    }

    /// What a former primary says that it has lost is what the branch that it follows, or begins, does not have in common with its own.
    pub(crate) fn check_loss(&mut self, place: usize, said: &Said) -> Result<(), Wrong> {
        for event in &said.events {
            let Told::ChangesLost { count } = *event else { continue };
            let host = &mut self.hosts[place];
            let (Some((former, last)), Some(branch)) = (host.was_primary.take(), host.branch) else {
                return Err(format!("loss-is-suffix: {place} has lost {count} changes, and was no primary"));
            };
            if self.ledger.path(branch).iter().any(|(branch, _)| self.ledger.branches[*branch].is_partial) {
                continue;
            }
            self.coverage.met(Met::LossCounted);
            let lost = last - self.ledger.common((former, last), branch);
            if count != lost {
                return Err(format!("loss-is-suffix: {place} has lost {lost} changes, and says {count}"));
            }
        }
        Ok(())
    }

    /// Silence is silence for lease and grace from the last heartbeat on, by the node's own clock.
    fn check_patience(&self, place: usize, why: &str) -> Result<(), Wrong> {
        let host = &self.hosts[place];
        let Some(at) = host.heartbeat_at.filter(|_| why.contains("silent")) else { return Ok(()) };
        let silent = host.clock.read(self.now).monotonic.since(at);
        if silent < Duration::from_millis(LEASE_AND_GRACE_MS) {
            return Err(format!("no-overlap: {place} takes over after {silent:?} of silence"));
        }
        Ok(())
    }

    /// What was answered took a token, of which there are only so many.
    pub(crate) fn check_rate(&mut self, place: usize, id: u64) -> Result<(), Wrong> {
        let Limits { rate_limit_per_second: rate, burst_size: burst, .. } = self.hosts[place].limits;
        if rate == 0 {
            return Ok(());
        }
        self.coverage.met(Met::RateChecked);
        let customer = self.asks[&id].customer;
        let host = &mut self.hosts[place];
        let now = host.clock.read(self.now).monotonic;
        let token = Duration::from_secs(1) / rate;
        let full_at = host.buckets.entry(customer).or_insert(now);
        *full_at = (*full_at).max(now) + token;
        if full_at.since(now) > token * (burst + 1) {
            return Err(format!("rate: {place} answers more than {rate} a second and {burst} at once"));
        }
        Ok(())
    }

    /// No lock is given or used while nobody knows of the old ones.
    pub(crate) fn check_lock_answer(&mut self, place: usize, id: u64, heard: &Heard, done: Done) -> Result<(), Wrong> {
        let Some(hold_ms) = self.asks[&id].lock_hold_ms() else { return Ok(()) };
        if heard.by != Role::Primary || self.profile.replicate_all {
            return Ok(());
        }
        let window_until = self.ledger.branches[done.branch].window_until;
        if self.now < window_until {
            return Err(format!("one-lock-holder: {place} knows of locks {} ns too early", window_until - self.now));
        }
        if let Ok(Body::Locked { lock, .. }) = &heard.result {
            let clock = &self.hosts[place].clock;
            let until = clock.read(self.now).monotonic + Duration::from_millis(hold_ms);
            self.ledger.lock_ends.insert(*lock, clock.when(until));
        }
        Ok(())
    }

    /// After a time-out that left nothing over no lock is held that is over: after a long pause there may be more than one turn does.
    pub(crate) fn check_locks(&mut self, place: usize) -> Result<(), Wrong> {
        let host = &self.hosts[place];
        let node = host.node.as_ref().expect("it lives");
        if node.next_timeout().is_some_and(|due| due <= host.clock.read(self.now).monotonic) {
            return Ok(());
        }
        for lock in node.entries().filter_map(|entry| entry.lock) {
            self.coverage.met(Met::LockEndChecked);
            if let Some(&until) = self.ledger.lock_ends.get(&lock)
                && until + LOCK_SLACK_MS * MS < self.now
            {
                return Err(format!("one-lock-holder: {lock:?} is held {} ns after its end", self.now - until));
            }
        }
        Ok(())
    }

    /// A node became primary with nothing: only where nobody else has anything.
    fn founds(&mut self, place: usize, why: &'static str) -> Result<(), Wrong> {
        if why == "the operator asked for it" {
            return Ok(());
        }
        let other = &self.hosts[1 - place];
        let Some(node) = &other.node else { return Ok(()) };
        let host = &self.hosts[place];
        let knew = host.knows_of_data && host.knows_from == node.incarnation();
        let has_data = node.role() != Role::Joining && node.status().stores > 0;
        if has_data && knew {
            return Err(format!(
                "promote-only-synced: {place} has nothing, knows that the other has, and promotes itself"
            ));
        }
        Ok(())
    }

    /// Who makes one primary that had a part of a snapshot has a part of everything, and no history says which: its own begins with that.
    fn begins_with_what_is_there(&mut self, place: usize, branch: usize) -> Result<(), Wrong> {
        let node = self.hosts[place].node.as_ref().expect("it lives");
        node.check_invariants();
        let status = node.status();
        if status.stores > 0 {
            self.coverage.met(Met::PromotedInMidSnapshot);
            let (counters, registers) = super::asks::read_image(&node.image())?;
            self.ledger.begin_with(branch, status.changes, &counters, &registers);
        }
        Ok(())
    }

    /// In safe mode two nodes would never both answer a change; in any, two primaries have different epochs.
    fn two_at_once(&mut self, _place: usize) -> Result<(), Wrong> {
        let [Some(a), Some(b)] = [&self.hosts[0].node, &self.hosts[1].node] else { return Ok(()) };
        match (a.role(), b.role()) {
            (Role::Primary, Role::Primary) => {}
            (Role::Secondary, Role::Secondary) => {
                self.coverage.met(Met::BothSecondary);
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.coverage.met(Met::TwoPrimaries);
        if a.status().epoch == b.status().epoch {
            self.coverage.met(Met::SamePrimaryEpoch);
        }
        let would = [0, 1].map(|place| {
            let host = &self.hosts[place];
            host.node.as_ref().is_some_and(|node| node.may_answer_changes(host.clock.read(self.now)))
        });
        let forced = self.hosts.iter().any(|host| host.forced);
        if self.profile.safe && would == [true, true] && !forced {
            return Err("no-overlap: both nodes would answer a change".to_owned());
        }
        Ok(())
    }

    /// What the node holds, compared with the history.
    pub(crate) fn looks_at(&mut self, place: usize, before: &NodeStatus, after: &NodeStatus) -> Result<(), Wrong> {
        let host = &mut self.hosts[place];
        let node = host.node.as_ref().expect("it lives");
        let moved = before.changes != after.changes || before.role != after.role;
        let entries = (after.stores + after.tombstones) as usize;
        if after.names >= MANY_NAMES {
            self.coverage.met(Met::ManyNames);
        }
        let by_chance = self.fault_rng.one_in(BOOKS_DONE_ONE_IN + entries as u64 / 2);
        if after.role != Role::Joining {
            (host.knows_of_data, host.knows_from) = (false, 0);
        }
        if by_chance {
            node.check_invariants();
        }
        let books = |status: &NodeStatus| (status.stores, status.tombstones, status.names, status.memory_bytes);
        if !moved && after.role != Role::Joining && books(before) != books(after) {
            return Err(format!("prefix: {place} changed without a number: {before:?} {after:?}"));
        }
        if !moved && !by_chance {
            return Ok(());
        }
        let Some(branch) = host.branch else { return Ok(()) };
        match after.role {
            Role::Primary => {
                let here = &mut self.ledger.branches[branch];
                here.last = after.changes;
                if !(by_chance || before.role != after.role || is_looked_at(after.changes, entries)) {
                    return Ok(());
                }
                let ledger = &mut self.ledger;
                let digest = looked_through(node, after, self.profile.keyed > 0, |entry| ledger.check_tag(entry))?;
                // What was taken over is what the other had; locks go on only by a handover.
                if before.role == Role::Secondary
                    && let Some((expected, locks_count)) = self.ledger.taken_over(branch)
                    && (expected.without_locks != digest.without_locks || (locks_count && expected.all != digest.all))
                {
                    return Err(format!(
                        "survive-one-failure: {place} took over something else: {digest:?} {expected:?}"
                    ));
                }
                let here = &mut self.ledger.branches[branch];
                if let Some(recorded) = here.digests.insert(after.changes, digest)
                    && recorded.without_locks != digest.without_locks
                {
                    return Err(format!("prefix: {place} changed without a number, at {}", after.changes));
                }
            }
            Role::Secondary => {
                if let Some((expected, locks_count)) = self.ledger.digest_at(branch, after.changes) {
                    self.coverage.met(Met::PrefixCompared);
                    let digest = looked_through(node, after, self.profile.keyed > 0, |_| Ok(()))?;
                    if expected.without_locks != digest.without_locks || (locks_count && expected.all != digest.all) {
                        return Err(format!(
                            "prefix: {place} at change {} of epoch {}: {digest:?} instead of {expected:?}{}",
                            after.changes,
                            self.ledger.branches[branch].epoch,
                            self.difference()
                        ));
                    }
                }
            }
            Role::Joining => {}
        }
        Ok(())
    }

    /// How the two differ now, for people.
    pub(crate) fn difference(&self) -> String {
        let images = [0, 1].map(|place| self.hosts[place].node.as_deref().map(Node::image).unwrap_or_default());
        let strip = |image: &EntryImage<'_>| {
            let mut image = image.clone();
            image.ends_ms = 0;
            image.blob = image.blob.map(|blob| &blob[..blob.len().min(12)]);
            format!("{image:?}")
        };
        let mut text = String::new();
        for (place, image) in images.iter().enumerate() {
            let others: Vec<String> = images[1 - place].iter().map(strip).collect();
            for entry in image.iter().map(strip).filter(|entry| !others.contains(entry)).take(5) {
                text.push_str(&format!("\n  only {place} has {entry}"));
            }
        }
        text
    }

    /// Everything was well for a while: the two are one again, and everything asked has its answer.
    pub(crate) fn ends(&mut self) -> Result<(), Wrong> {
        let [Some(a), Some(b)] = [&self.hosts[0].node, &self.hosts[1].node] else {
            return Err("converge: a node is gone".to_owned());
        };
        let roles = [a.role(), b.role()];
        let (there, here) = match roles {
            [Role::Primary, Role::Secondary] => (0, 1),
            [Role::Secondary, Role::Primary] => (1, 0),
            _ => return Err(format!("converge: the nodes are {roles:?}, {:?} {:?}", a.status(), b.status())),
        };
        if !self.clients.iter().any(|client| client.rests) {
            // Clients stop; what they asked for still comes.
            self.clients.iter_mut().for_each(|client| client.rests = true);
            self.schedule(self.now + LAST_ANSWERS_MS * MS, Event::Ends);
            return Ok(());
        }
        let [primary, secondary] = [there, here].map(|place| self.hosts[place].node.as_ref().expect("it lives"));
        let (of_primary, of_secondary) = (primary.status(), secondary.status());
        if of_primary.unacknowledged > 0 && self.now < self.healed_at + (HEALED_MS + 2 * LAST_ANSWERS_MS) * MS {
            // Something is on its way; it is soon there.
            self.schedule(self.now + 7 * MS, Event::Ends);
            return Ok(());
        }
        let books = |status: &NodeStatus| {
            (status.memory_bytes, status.stores, status.tombstones, status.names, status.epoch, status.changes)
        };
        if books(&of_primary) != books(&of_secondary) || !of_primary.is_peer_in_step {
            return Err(format!("converge: {of_primary:?}\n {of_secondary:?}{}", self.difference()));
        }
        if digest(primary.entries()) != digest(secondary.entries()) {
            return Err(format!("converge: the images differ{}", self.difference()));
        }
        let (theirs, ours) = (primary.image(), secondary.image());
        primary.check_invariants();
        secondary.check_invariants();
        self.check_deadlines(there, &theirs, here, &ours)?;
        let (counters, registers) = super::asks::read_image(&theirs)?;
        let branch = self.hosts[there].branch.expect("a primary has a branch");
        let lost = self.ledger.check_end(branch, &counters, &registers)?;
        self.coverage.met_often(Met::ExecutedAndLost, lost);
        self.coverage.met(Met::ConvergedAfterFault);
        if let Some((id, (place, life, at))) = self
            .promotions
            .iter()
            .find(|(_, (place, life, at))| self.hosts[*place].life == *life && *at + 3000 * MS < self.now)
        {
            return Err(format!("answered-once: promotion {id} of {place} in life {life} at {at} has no answer"));
        }
        self.everything_is_answered()?;
        let [decided, undecided] = self.ledger.check_histories(branch, self.now, &counters, &registers)?;
        self.coverage.met_often(Met::HistoryExplained, decided);
        self.coverage.undecided += undecided;
        let under_way: Vec<usize> =
            self.asks.values().filter(|ask| ask.state == State::Waits).filter_map(|ask| ask.op).collect();
        self.ledger.settle(branch, of_primary.changes, &counters, &registers, &under_way);
        if self.calm {
            self.over = true;
        } else {
            self.calms_down();
        }
        Ok(())
    }

    /// A deadline of the secondary is the primary's, by as much as the clocks and the network allow.
    fn check_deadlines(
        &self,
        there: usize,
        theirs: &[EntryImage<'_>],
        here: usize,
        ours: &[EntryImage<'_>],
    ) -> Result<(), Wrong> {
        // Whoever handed over has the deadlines as they were, and the other one what it was told.
        let branch = self.hosts[there].branch.expect("a primary has a branch");
        let follower = self.hosts[here].node.as_ref().expect("it lives").incarnation();
        let has_originals = self.ledger.was_primary(branch, follower);
        for (original, copy) in theirs.iter().zip(ours) {
            let [original_at, copy_at] = [(there, original), (here, copy)]
                .map(|(place, entry)| self.hosts[place].clock.when(Instant::from_millis(entry.ends_ms)));
            // What is left drifts apart until it is over, and has drifted for as long as the run took.
            let left = original_at.saturating_sub(self.now);
            let drift = self.profile.drift_ppm.iter().map(|ppm| ppm.unsigned_abs()).sum::<u64>();
            // Two hundredths of two hundredths more: the ratio of two clocks is not quite the difference of their drifts.
            let allowed = (left + self.now) / 1_000_000 * drift / 100 * 103 + 12_000 * MS;
            let grown_by = if has_originals { 0 } else { copy_at.saturating_sub(original_at) };
            if original_at.abs_diff(copy_at) > allowed || grown_by + 12_000 * MS > allowed + GROWTH_SLACK_MS * MS {
                return Err(format!(
                    "ttl-never-extends: {original:?} ends at {original_at}, its copy at {copy_at}: allowed {allowed}"
                ));
            }
        }
        Ok(())
    }
}

/// What a node holds, once each of its entries was looked at and its books say what they come to. Those of answers that are kept stand
/// beside them, if there can be any.
fn looked_through(
    node: &Node,
    status: &NodeStatus,
    may_keep_answers: bool,
    mut each: impl FnMut(&EntryImage<'_>) -> Result<(), Wrong>,
) -> Result<Digest, Wrong> {
    let (mut books, mut all) = (Books::default(), Ok(()));
    let digest = digest(node.entries().inspect(|entry| {
        books.add(entry);
        if all.is_ok() {
            all = each(entry);
        }
    }));
    all?;
    let &NodeStatus { stores, tombstones, names, memory_bytes, .. } = status;
    let for_answers = memory_bytes.saturating_sub(books.memory_bytes);
    let told = Books { stores, tombstones, names, memory_bytes: memory_bytes - for_answers };
    if books != told || (for_answers > 0 && !may_keep_answers) {
        return Err(format!("books-exact: {status:?}, and its entries come to {books:?}"));
    }
    Ok(digest)
}

/// Whether the state behind this change is compared.
fn is_looked_at(number: u64, entries: usize) -> bool {
    let one_in = (entries as u64).div_ceil(ENTRIES_COMPARED).max(1);
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(one_in)
}

//! What must hold: judged after every step of a machine, before every message that leaves, and at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bigbunny::kv::ask::Answer;
use bigbunny::kv::image;
use bigbunny::kv::map::Map;
use bigbunny::kv::replica::Replica;
use bigbunny::raft::entry::Entry;
use bigbunny::raft::member::Membership;
use bigbunny::raft::message::Message;
use bigbunny::raft::{LogIndex, LogPosition, NodeId, Term};

use super::values::Values;
use super::{MS, World, replica_of};
use crate::clients::Shown;
use crate::met::Met;

/// A leader that has heard no majority for so long must not lead: an election timeout of 400 ms by a slow clock, and a heartbeat.
const SILENCE_MAX: u64 = 700 * MS;
/// A leader whom nothing has disturbed for so long, nor a majority with him, stays leader.
const CALM: u64 = 1_500 * MS;

/// All that was ever seen, on any machine.
#[derive(Default)]
pub struct Seen {
    /// Who led in which term.
    leaders: BTreeMap<Term, NodeId>,
    /// When a term was first seen.
    terms: BTreeMap<Term, u64>,
    /// Whom a node gave its vote.
    votes: HashMap<(NodeId, Term), NodeId>,
    /// What was applied, by its index.
    pub committed: BTreeMap<u64, (Term, Entry)>,
    /// What the map was behind an entry, and each key.
    states: BTreeMap<u64, u64>,
    pub values: Values,
    /// Everything up to an entry, as one number.
    chains: HashMap<(u64, Term), u64>,
    /// The members as of the last of them, and whoever was one.
    members: Arc<Membership>,
    ever_members: BTreeSet<NodeId>,
    /// How long a snapshot is.
    pub image_lengths: HashMap<LogPosition, u64>,
}

impl Seen {
    /// A configuration is committed.
    fn note_members(&mut self, membership: &Arc<Membership>, met: &mut Met) {
        let (before, now) = (&self.members.config, &membership.config);
        if !now.new_voters.is_disjoint(&before.non_voters) {
            met.note("a learner became a voter");
        }
        for id in now.unique_nodes().filter(|id| !before.contains(*id)) {
            if !self.ever_members.insert(id) {
                met.note("a node taken in again");
            }
        }
        self.members = Arc::clone(membership);
    }
}

/// What a check knows of one machine.
#[derive(Default)]
pub struct Watched {
    /// The terms of the entries behind `log_start` that were looked at.
    log: VecDeque<Term>,
    log_start: u64,
    /// Everything up to here was looked at when it was applied; and what this was before the last turn.
    applied: u64,
    applied_before: u64,
    /// The newest term that a message of this machine has named.
    named: Option<Term>,
    /// When it heard whom, and when it became leader, or a leader of others.
    heard: BTreeMap<NodeId, u64>,
    leads_since: u64,
    leads: Arc<Membership>,
    was_leader: Option<Term>,
    /// When something last went wrong with it or its disk.
    pub disturbed: u64,
}

pub fn digest_of(map: &Map) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, value) in map.range("", None) {
        // Of what is long the beginning tells.
        (key, value.len(), value.get(..64).unwrap_or(value)).hash(&mut hasher);
    }
    map.answers_len().hash(&mut hasher);
    hasher.finish()
}

/// A majority of the voters, and in a joint configuration of the new ones too. Not the node's own count, which is what is judged.
fn is_majority(membership: &Membership, holds: impl Fn(NodeId) -> bool) -> bool {
    let sets = [&membership.config.voters, &membership.config.new_voters];
    sets.iter().all(|ids| ids.is_empty() || ids.iter().filter(|id| holds(**id)).count() > ids.len() / 2)
}

impl World {
    pub(super) fn fail(&mut self, wrong: impl FnOnce() -> String) {
        self.wrong.get_or_insert_with(wrong);
    }

    /// A machine starts from what is on its disk.
    pub(super) fn check_start(&mut self, machine: usize) {
        let node = &mut self.machines[machine];
        let raft = node.replica.as_ref().expect("it runs").raft();
        let (term, log_start, applied) = (raft.term(), raft.start().index.get(), raft.applied());
        let Watched { disturbed, named, .. } = node.watched;
        node.watched = Watched { named, disturbed, log_start, applied, ..Watched::default() };
        if let Some(named) = named.filter(|named| term < *named) {
            self.fail(|| format!("{machine} starts in term {} and has spoken of term {}", term.get(), named.get()));
        }
        self.check_log(machine);
    }

    /// A machine has crashed. A term that a lone voter has begun and not saved may begin anew, for nobody has heard of it.
    pub(super) fn check_crash(&mut self, machine: usize) {
        let (term_there, _) = self.machines[machine].disk.vote();
        let id = self.machines[machine].uuid.node_id();
        let forgotten: Vec<Term> = self
            .seen
            .leaders
            .iter()
            .filter(|(term, leader)| **term > term_there && **leader == id)
            .map(|(term, _)| *term)
            .collect();
        for term in forgotten {
            self.seen.leaders.remove(&term);
            self.seen.chains.retain(|(_, of), _| *of != term);
        }
    }

    /// A machine has done something.
    pub(super) fn check_machine(&mut self, machine: usize) {
        let Some(replica) = &self.machines[machine].replica else { return };
        let raft = replica.raft();
        assert!(raft.applied() <= raft.commit() && raft.commit() <= raft.last().index.get());
        self.seen.terms.entry(raft.term()).or_insert(self.now);
        self.check_log(machine);
        self.check_leader(machine);
        self.check_applied(machine);
    }

    /// Log matching: where two logs have an entry of one term at one index, all before it is the same.
    fn check_log(&mut self, machine: usize) {
        let node = &mut self.machines[machine];
        let raft = node.replica.as_ref().expect("it runs").raft();
        let watched = &mut node.watched;
        let (start, last) = (raft.start(), raft.last().index.get());
        let was_last = watched.log_start + watched.log.len() as u64;
        if start.index.get() > watched.log_start {
            let dropped = (start.index.get() - watched.log_start) as usize;
            watched.log.drain(..dropped.min(watched.log.len()));
            watched.log_start = start.index.get();
        }
        let mut known = watched.log_start + watched.log.len() as u64;
        while known > last
            || (known > watched.log_start && raft.entry(known).map(|entry| entry.0) != watched.log.back().copied())
        {
            watched.log.pop_back();
            known -= 1;
        }
        let mut wrong = None;
        if known < was_last.min(last) && known > start.index.get() {
            self.met.note("a log of two leaders mended");
        }
        if known < was_last && raft.is_leader() && watched.was_leader == Some(raft.term()) {
            wrong = Some(format!("leader append-only: {machine} has dropped entries of its own term"));
        }
        for index in known + 1..=last {
            let Some((term, entry)) = raft.entry(index) else { break };
            let before_term = watched.log.back().copied().unwrap_or(start.term);
            let before = match index {
                1 => 0,
                _ => self.seen.chains.get(&(index - 1, before_term)).copied().unwrap_or_else(|| {
                    wrong.get_or_insert(format!(
                        "log matching: {machine} has an entry behind {} that nobody had",
                        index - 1
                    ));
                    0
                }),
            };
            let mut hasher = DefaultHasher::new();
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            (before, term.get(), bytes).hash(&mut hasher);
            let chain = hasher.finish();
            if *self.seen.chains.entry((index, term)).or_insert(chain) != chain {
                wrong.get_or_insert(format!("log matching: {machine} has another log up to {index} of one term"));
            }
            watched.log.push_back(term);
        }
        watched.was_leader = raft.is_leader().then(|| raft.term());
        if let Some(wrong) = wrong {
            self.fail(|| wrong);
        }
    }

    fn check_leader(&mut self, machine: usize) {
        let raft = replica_of(&self.machines[machine]).raft();
        if !raft.is_leader() {
            return;
        }
        let term = raft.term();
        let mut wrong = None;
        let is_new = !self.seen.leaders.contains_key(&term);
        let leader = *self.seen.leaders.entry(term).or_insert(raft.id());
        if leader != raft.id() {
            wrong = Some(format!("election safety: {leader:?} and {machine} lead in term {}", term.get()));
        }
        // One that late votes make a leader of a term that is over owes nothing to later ones.
        let is_newest = self.seen.leaders.last_key_value().is_some_and(|(newest, _)| *newest == term);
        if is_new && is_newest {
            for (index, (term, entry)) in self.seen.committed.range(raft.start().index.get() + 1..) {
                if raft.entry(*index) != Some((*term, entry)) {
                    wrong = Some(format!("leader completeness: {machine} leads without the committed entry {index}"));
                }
            }
        }
        let (membership, node) = (Arc::clone(raft.membership()), &mut self.machines[machine]);
        if node.watched.leads != membership {
            (node.watched.leads, node.watched.leads_since) = (membership, self.now);
        }
        let raft = replica_of(&self.machines[machine]).raft();
        let watched = &self.machines[machine].watched;
        let heard = |id: NodeId| watched.heard.get(&id).copied().unwrap_or(0).max(watched.leads_since);
        let is_heard = is_majority(raft.membership(), |id| id == raft.id() || heard(id) + SILENCE_MAX > self.now);
        if !is_heard && self.machines[machine].disturbed_until() + SILENCE_MAX < self.now {
            wrong = Some(format!("{machine} still leads and has heard no majority for long"));
        }
        if let Some(wrong) = wrong {
            self.fail(|| wrong);
        }
    }

    /// State machine safety; that what is applied is on the disks of a majority; and that equal indexes are equal maps.
    fn check_applied(&mut self, machine: usize) {
        let raft = replica_of(&self.machines[machine]).raft();
        let (from, applied) = (self.machines[machine].watched.applied + 1, raft.applied());
        let mut wrong = None;
        for index in from..=applied {
            let Some((term, entry)) = raft.entry(index) else { continue };
            match self.seen.committed.get(&index) {
                Some((known_term, known)) if *known_term != term || known != entry => {
                    wrong = Some(format!("state machine safety: {machine} applies another entry {index}"));
                }
                Some(_) => {}
                None => {
                    let position = LogPosition { term, index: LogIndex::new(index) };
                    let has =
                        |id: NodeId| self.numbers.get(&id).is_some_and(|at| self.machines[*at].disk.has(position));
                    // By the configuration of its time, or by a later one, whose entry takes with it what is before it.
                    let then = raft.position_and_membership(index).map(|(_, membership)| membership);
                    let later = (index + 1..=raft.last().index.get()).filter_map(|at| match raft.entry(at)?.1 {
                        Entry::Config(membership) => Some(Arc::clone(membership)),
                        Entry::Term(_) | Entry::Command(_) => None,
                    });
                    if !is_majority(raft.membership(), has)
                        && !then.into_iter().chain(later).any(|membership| is_majority(&membership, has))
                    {
                        wrong =
                            Some(format!("{machine} applies the entry {index}, which no majority has on its disks"));
                    }
                    if let Entry::Config(membership) = entry {
                        self.seen.note_members(membership, &mut self.met);
                    }
                    if !self.seen.values.apply(index, entry) {
                        wrong = Some(format!("{machine} applies the entry {index}, and nobody has the one before"));
                    }
                    self.clients.applied = index;
                    self.seen.committed.insert(index, (term, entry.clone()));
                }
            }
        }
        if applied >= from {
            let digest = digest_of(replica_of(&self.machines[machine]).map());
            if *self.seen.states.entry(applied).or_insert(digest) != digest {
                wrong = Some(format!("{machine} has another state at {applied} than another node had"));
            }
        }
        let watched = &mut self.machines[machine].watched;
        (watched.applied_before, watched.applied) = (from - 1, applied.max(from - 1));
        if let Some(wrong) = wrong {
            self.fail(|| wrong);
        }
    }

    /// Nothing leaves before that on which it depends is on the disk.
    pub(super) fn check_leaves(&mut self, machine: usize, to: NodeId, message: &Message) {
        let node = &self.machines[machine];
        let (own, disk) = (node.uuid.node_id(), &node.disk);
        let (term_there, vote_there) = disk.vote();
        let leader_of = |term: Term| self.seen.leaders.get(&term).copied();
        // Of a vote that is over by now a newer one tells as well; and who leads has all votes, whoever had them before.
        let has_vote = |term: Term, to: NodeId| {
            let is_over = vote_there.is_some() && vote_there == leader_of(term);
            term_there > term || (term_there == term && (vote_there == Some(to) || is_over))
        };
        let is_there = match message {
            Message::Hello { .. } | Message::PreVote { .. } | Message::Forward { .. } | Message::Forwarded { .. } => {
                true
            }
            Message::PreVoteReply { term, .. }
            | Message::HeartbeatReply { term, .. }
            | Message::Removed { term }
            | Message::VoteReply { term, granted: false } => term_there >= *term,
            Message::Vote { term, last } => {
                has_vote(*term, own) && (disk.has(*last) || term_there > *term || leader_of(*term).is_some())
            }
            Message::VoteReply { term, granted: true } => has_vote(*term, to),
            Message::TimeoutNow { term } | Message::Heartbeat { term, .. } | Message::Snapshot { term, .. } => {
                has_vote(*term, own)
            }
            Message::Append { term, prev, entries, .. } => {
                // Entries may leave beside their way to the disk; a configuration may not.
                let config = entries.iter().rposition(|entry| matches!(entry, Entry::Config(_)));
                let last = config.map_or(0, |at| prev.index.get() + 1 + at as u64);
                has_vote(*term, own) && (disk.last() >= last || term_there > *term)
            }
            Message::AppendReply { term, last, .. } => {
                // It may be gone again by the word of a later leader, of whom the node has heard before it could answer.
                let is_replaced = term_there > *term && disk.had(*last);
                term_there >= *term && (disk.has(*last) || is_replaced || !self.counts(*term, *last))
            }
            Message::SnapshotReply { term, last, received } => {
                let is_whole = self.seen.image_lengths.get(last).is_some_and(|length| length == received);
                term_there >= *term && (!is_whole || disk.last() >= last.index.get())
            }
        };
        let is_for_leader = |term: Term| leader_of(term) == Some(to);
        let is_second_vote = if let Message::VoteReply { term, granted: true } = message {
            !is_for_leader(*term) && *self.seen.votes.entry((own, *term)).or_insert(to) != to
        } else {
            false
        };
        if is_second_vote {
            self.fail(|| format!("{machine} votes twice: {message:?}"));
        }
        let node = &mut self.machines[machine];
        node.watched.named = node.watched.named.max(message.term());
        if !is_there {
            let last = node.disk.last();
            self.fail(|| {
                format!("{machine} says what is not on its disk yet, where {vote_there:?} has its vote in {term_there:?} and {last} is last: {message:?}")
            });
        }
    }

    /// Whether the leader of a term has this entry, so that it counts who else has it: others it only takes out of its followers' logs.
    fn counts(&self, term: Term, position: LogPosition) -> bool {
        let leader = self.seen.leaders.get(&term).and_then(|id| self.numbers.get(id));
        let leader = leader.and_then(|at| self.machines[*at].replica.as_ref());
        leader.map(Replica::raft).filter(|raft| raft.is_leader() && raft.term() == term).is_some_and(|raft| {
            let index = position.index.get();
            let compacted = self.seen.committed.get(&index).filter(|_| index <= raft.start().index.get());
            let there = raft.entry(index).map(|(term, _)| term).or(compacted.map(|(term, _)| *term));
            there == Some(position.term)
        })
    }

    pub(super) fn note_heard(&mut self, machine: usize, from: NodeId) {
        let now = self.now;
        self.machines[machine].watched.heard.insert(from, now);
    }

    /// It leads from now on: whom it must have heard is counted from here.
    pub(super) fn note_leads(&mut self, machine: usize) {
        self.machines[machine].watched.leads_since = self.now;
    }

    /// A leader leads no more: for a reason?
    pub(super) fn check_unseated(&mut self, machine: usize) {
        let calm_since = self.now.saturating_sub(CALM);
        if self.loss_permille > 0 || self.lossless_since > calm_since || self.reign_changes > calm_since {
            return;
        }
        let raft = replica_of(&self.machines[machine]).raft();
        // A term that was begun before may come to light at any time.
        if self.seen.terms.get(&raft.term()).is_some_and(|begun| *begun < calm_since)
            || self.profile.drift_permille > 10
        {
            return;
        }
        let is_calm =
            |at: usize| self.machines[at].replica.is_some() && self.machines[at].disturbed_until() < calm_since;
        let is_near = |id: NodeId| {
            self.numbers.get(&id).is_some_and(|&at| {
                let is_linked =
                    |pair| self.links.get(&pair).is_none_or(|link: &super::Link| link.disturbed < calm_since);
                is_calm(at) && (at == machine || (is_linked((machine, at)) && is_linked((at, machine))))
            })
        };
        if is_calm(machine)
            && self.machines[machine].watched.leads_since < calm_since
            && is_majority(raft.membership(), is_near)
        {
            let term = raft.term().get();
            self.fail(|| format!("{machine}, a leader whom nothing has disturbed, was unseated in term {term}"));
        }
    }

    /// A write was answered: it is what it is said to be.
    pub(super) fn check_claim(&mut self, index: u64, command: &[u8]) {
        let is_it = |entry: &Entry| matches!(entry, Entry::Command(bytes) if **bytes == *command);
        if !self.seen.committed.get(&index).is_some_and(|(_, entry)| is_it(entry)) {
            self.fail(|| format!("a write was answered as the entry {index}, and is not"));
        }
    }

    /// A read was answered: it shows what was so at a moment between question and answer.
    pub(super) fn check_shown(&mut self, shown: &Shown) {
        let between = shown.known..=self.seen.values.applied();
        if !self.seen.values.was(&shown.key, between.clone(), shown.value.as_deref()) {
            self.fail(|| {
                format!("a read is answered with what was not so at any of the entries {between:?}: {shown:?}")
            });
        }
    }

    /// A read that may be stale was answered: it shows what the node had applied just then, so that it never goes back.
    pub(super) fn check_stale(&mut self, machine: usize, id: u64, answer: &Answer) {
        let (key, value) = self.clients.on_stale_answer(id, answer);
        let watched = &self.machines[machine].watched;
        let between = watched.applied_before..=watched.applied;
        self.met.note("a stale read answered");
        if watched.applied < self.seen.values.applied() {
            self.met.note("a stale read of an old state");
        }
        if answer.lag_ms.is_none() || !self.seen.values.was(&key, between.clone(), value.as_deref()) {
            self.fail(|| format!("{machine} has applied {between:?}, and shows {key} as {value:?}: {answer:?}"));
        }
    }

    /// A backup was made.
    pub(super) fn check_image(&mut self, bytes: &[u8]) {
        match image::read(bytes) {
            Ok(shown) => {
                let (index, digest) = (shown.last.index.get(), digest_of(&shown.map));
                if self.seen.states.get(&index).is_some_and(|known| *known != digest) {
                    self.fail(|| format!("a picture of the map at {index} shows another map"));
                }
            }
            Err(error) => self.fail(|| format!("a backup cannot be read: {error}")),
        }
    }

    /// Whether all members have applied the same, and somebody leads.
    pub(super) fn is_settled(&self) -> bool {
        let members: Vec<usize> = (0..self.machines.len()).filter(|machine| self.is_member(*machine)).collect();
        let applied = |machine: &usize| self.machines[*machine].replica.as_ref().map(|replica| replica.applied());
        let raft = |machine: &usize| replica_of(&self.machines[*machine]).raft();
        !members.is_empty()
            && members.windows(2).all(|pair| applied(&pair[0]) == applied(&pair[1]))
            && members.iter().all(|machine| raft(machine).durable_last() == raft(machine).applied())
            && members.iter().all(|machine| raft(machine).last().index.get() == raft(machine).applied())
    }

    /// At the end, when everything is healed: members are equal to the last byte, and to what the entries make when they are replayed.
    pub(super) fn check_agreement(&mut self) -> Result<(), String> {
        let members: Vec<usize> = (0..self.machines.len()).filter(|machine| self.is_member(*machine)).collect();
        if members.is_empty() {
            return Err("nobody leads long after everything was healed".to_owned());
        }
        let replicas: Vec<_> = members.iter().map(|machine| replica_of(&self.machines[*machine])).collect();
        let applied: Vec<u64> = replicas.iter().map(|replica| replica.applied().index.get()).collect();
        if !self.is_settled() {
            return Err(format!("members differ long after everything was healed: {members:?} are at {applied:?}"));
        }
        let replayed = self.seen.values.map();
        let is_same =
            |map: &Map| map.range("", None).eq(replayed.range("", None)) && map.answers_len() == replayed.answers_len();
        if let Some(at) = replicas.iter().position(|replica| !is_same(replica.map())) {
            return Err(format!("{} is not what the entries make of it", members[at]));
        }
        Ok(())
    }
}

//! The links between machines: one for each way between two. A cut one loses what is sent, and its sender is told; a stalled one holds it
//! back, and nobody is told.

use bigbunny::kv::replica::Input;
use bigbunny::raft::NodeId;
use bigbunny::raft::member::Uuid;
use bigbunny::raft::message::{ENTRIES_MAX, Message};

use super::{Event, MS, World};

/// As many messages with entries may be unanswered.
const WINDOW: u32 = 8;
/// A message is on its way no longer, where nothing holds it back.
const DELAY_MAX: u64 = 2 * MS;

/// The way from one machine to another.
#[derive(Default)]
pub struct Link {
    is_cut: bool,
    /// Which of its cuts this is: an older one does not end a newer.
    cut: u64,
    stalled_until: u64,
    /// When the last message arrives that is on its way.
    busy_until: u64,
    /// When it last lost or held back something.
    pub disturbed: u64,
    /// Messages with entries since the last answer.
    unanswered: u32,
}

impl World {
    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.is_cut)
    }

    pub fn cut(&mut self, from: usize, to: usize, nanos: u64) {
        if from == to || self.is_cut(from, to) {
            return;
        }
        self.tell(|| format!("cut from {from} to {to}"));
        let link = self.link(from, to);
        link.is_cut = true;
        link.cut += 1;
        link.disturbed = u64::MAX;
        let cut = link.cut;
        self.arrive(from, Input::LinkDown(self.machines[to].uuid.node_id()));
        self.schedule(self.now.saturating_add(nanos), Event::Heal { from, to, cut });
    }

    pub(super) fn heal_link(&mut self, from: usize, to: usize, cut: u64) {
        let now = self.now;
        let link = self.link(from, to);
        if link.is_cut && link.cut == cut {
            link.is_cut = false;
            link.disturbed = now;
            self.tell(|| format!("healed from {from} to {to}"));
            self.arrive(from, Input::LinkUp(self.machines[to].uuid.node_id()));
        }
    }

    pub fn heal_links(&mut self) {
        let now = self.now;
        let cut: Vec<(usize, usize, u64)> =
            self.links.iter().map(|((from, to), link)| (*from, *to, link.cut)).collect();
        for (from, to, cut) in cut {
            self.link(from, to).stalled_until = now;
            self.heal_link(from, to, cut);
        }
    }

    /// Whether a link still holds back what was sent before everything was healed.
    pub(super) fn is_held_back(&self) -> bool {
        self.links.values().any(|link| link.busy_until > self.now + DELAY_MAX)
    }

    pub(super) fn stall(&mut self, from: usize, to: usize, nanos: u64) {
        let until = self.now + nanos;
        let link = self.link(from, to);
        link.stalled_until = link.stalled_until.max(until);
        if link.disturbed < until {
            link.disturbed = until;
        }
    }

    pub(super) fn send(&mut self, from: usize, to: NodeId, cluster: Option<Uuid>, message: &Message) {
        self.check_leaves(from, to, message);
        // One that was replaced is not there any more: at its address answers another.
        let Some(&to) = self.numbers.get(&to) else { return };
        assert!(to != from, "nobody speaks to himself");
        let now = self.now;
        if let Message::Append { entries, .. } = message
            && !entries.is_empty()
        {
            let link = self.link(from, to);
            link.unanswered += 1;
            if link.unanswered == WINDOW {
                self.met.note("a stalled window of messages");
            }
            if entries.len() == ENTRIES_MAX {
                self.met.note("a message of 500 entries");
            }
        } else if let Message::Snapshot { last, total, part, .. } = message {
            self.seen.image_lengths.insert(*last, *total);
            if (part.len() as u64) < *total {
                self.met.note("a snapshot in several parts");
            }
        } else if let Message::Removed { .. } = message {
            self.met.note("a removed node told so");
        }
        if self.is_cut(from, to) || self.rng.chance(self.loss_permille) {
            self.met.note("a message lost");
            return;
        }
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        let mut delay = self.rng.log_between(MS / 20, DELAY_MAX);
        let (late_one_in, twice_one_in) = (self.profile.late_one_in, self.profile.twice_one_in);
        if self.is_faulty && late_one_in > 0 && self.rng.one_in(late_one_in) {
            self.met.note("a message delayed");
            delay = self.rng.log_between(MS, 800 * MS);
            let link = self.link(from, to);
            link.disturbed = link.disturbed.max(now + delay);
        }
        // What is asked once is done once: a link repeats nothing. Everything else may come twice.
        let may_repeat = !matches!(message, Message::Forward { .. } | Message::Forwarded { .. });
        if self.is_faulty && may_repeat && twice_one_in > 0 && self.rng.one_in(twice_one_in) {
            self.met.note("a message came twice");
            let later = self.rng.log_between(MS, 300 * MS);
            self.schedule(now + later, Event::Deliver { from, to, cluster, bytes: bytes.clone() });
        }
        let is_in_order = self.profile.is_in_order;
        let link = self.link(from, to);
        let mut at = (now + delay).max(link.stalled_until);
        if is_in_order {
            at = at.max(link.busy_until);
        }
        let overtakes = at < link.busy_until;
        link.busy_until = link.busy_until.max(at);
        if overtakes {
            self.met.note("a message overtook another");
        }
        self.schedule(at, Event::Deliver { from, to, cluster, bytes });
    }

    /// A message has come to the end of its link.
    pub(super) fn deliver(&mut self, from: usize, to: usize, cluster: Option<Uuid>, bytes: &[u8]) {
        if self.is_cut(from, to) || self.machines[to].replica.is_none() {
            return;
        }
        let message = Message::read(bytes).expect("what is sent can be read");
        if matches!(message, Message::AppendReply { .. }) {
            self.link(to, from).unanswered = 0;
        }
        let from = self.machines[from].uuid.node_id();
        self.arrive(to, Input::Message { from, cluster, message });
    }
}

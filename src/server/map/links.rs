//! The links to all other nodes: who has one, and what becomes of it. Owns which nodes are dialled; a link itself is [`super::link`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use mio::Token;
use mio::event::Event;

use super::link::{Dialling, Link, News};
use super::{FIRST_LINK, Map};
use crate::kv::replica::Input;
use crate::log::{LogEvent, Value};
use crate::raft::NodeId;
use crate::raft::member::{MEMBERS_MAX, Member, Membership};
use crate::raft::message::Message;
use crate::time::{Instant, Now};

/// Links at most: to members, and to those who speak to this node and are none.
pub(super) const LINKS_MAX: usize = 2 * MEMBERS_MAX;

/// The links, and whom they are to.
#[derive(Default)]
pub(super) struct Links {
    /// With the number of each, for the loop.
    links: BTreeMap<NodeId, (usize, Link)>,
    /// Where nodes that are no members yet have said that they are.
    heard_of: BTreeMap<NodeId, Member>,
    /// The membership that there are links to; `None` if it is to be looked at anew.
    linked: Option<Arc<Membership>>,
}

impl Links {
    pub(super) fn push(&mut self, to: NodeId, message: &Message) {
        if let Some((_, link)) = self.links.get_mut(&to) {
            link.push(message);
        }
    }

    pub(super) fn note_event(&mut self, place: usize, event: &Event) {
        if let Some((_, link)) = self.links.values_mut().find(|(at, _)| *at == place) {
            link.note_event(event);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.links.values().filter_map(|(_, link)| link.next_deadline()).min()
    }

    /// A node has said who it is and where.
    pub(super) fn hear_of(&mut self, now: Instant, member: Member) {
        let id = member.uuid.node_id();
        if let Some((_, link)) = self.links.get_mut(&id) {
            link.dial_soon(now);
        }
        if self.heard_of.len() < MEMBERS_MAX {
            self.heard_of.insert(id, member);
            self.linked = None;
        }
    }

    /// A node that had said so is gone.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.heard_of.remove(&id);
        self.linked = None;
    }

    /// Has a link to every member and to everybody who speaks to this node, and to nobody else. The nodes to which a link is gone.
    fn follow(&mut self, now: Instant, own_id: NodeId, membership: &Arc<Membership>) -> Vec<NodeId> {
        if self.linked.as_ref().is_some_and(|linked| Arc::ptr_eq(linked, membership)) {
            return Vec::new();
        }
        self.linked = Some(Arc::clone(membership));
        let mut wanted = self.heard_of.clone();
        wanted.extend(membership.members.iter().map(|(id, member)| (*id, member.clone())));
        wanted.remove(&own_id);
        let is_wanted =
            |id: &NodeId, link: &Link| wanted.get(id).is_some_and(|member| *member.address == *link.address);
        let mut gone = Vec::new();
        self.links.retain(|id, (_, link)| {
            let is_kept = is_wanted(id, link);
            if !is_kept && link.is_up() {
                gone.push(*id);
            }
            is_kept
        });
        for (id, member) in wanted {
            if !self.links.contains_key(&id)
                && let Some(place) = (0..LINKS_MAX).find(|place| self.links.values().all(|(at, _)| at != place))
            {
                self.links.insert(id, (place, Link::new(member.uuid, &member.address, now)));
            }
        }
        gone
    }
}

impl Map {
    /// Goes on with every link: those that come up, and those that are lost.
    pub(super) fn advance_links(&mut self, now: Now) {
        for id in self.links.follow(now.monotonic, self.own.uuid.node_id(), self.replica.raft().membership()) {
            self.tell(now, Input::LinkDown(id));
        }
        let mut news = Vec::new();
        for (&id, (place, link)) in &mut self.links.links {
            let token = Token(FIRST_LINK + *place);
            let dialling = Dialling { registry: self.poll.registry(), token, key: &self.key, waker: &self.waker };
            news.extend(link.advance(now.monotonic, &dialling).map(|news| (id, news)));
        }
        self.tell_news(now, news);
    }

    /// Sends what the turn has come to.
    pub(super) fn send_on_links(&mut self, now: Now) {
        let mut news = Vec::new();
        for (&id, (_, link)) in &mut self.links.links {
            news.extend(link.send(now.monotonic).map(|news| (id, news)));
        }
        self.tell_news(now, news);
    }

    fn tell_news(&mut self, now: Now, news: Vec<(NodeId, News)>) {
        for (id, news) in news {
            let Some((_, link)) = self.links.links.get_mut(&id) else { continue };
            let address = std::rc::Rc::clone(&link.address);
            let address = ("address", Value::Text(&address));
            match news {
                News::Up => {
                    let (cluster, uuid) = (self.replica.raft().cluster(), self.own.uuid);
                    link.push(&Message::Hello { cluster, uuid, address: self.own.address.clone() });
                    self.log.event(now, LogEvent::MapLinkUp, &[address]);
                    self.tell(now, Input::LinkUp(id));
                }
                News::Down => {
                    self.log.event(now, LogEvent::MapLinkDown, &[address]);
                    self.tell(now, Input::LinkDown(id));
                }
                News::Failed(end) => {
                    let why = end.to_string();
                    self.log.event(now, LogEvent::MapLinkFailed, &[address, ("error", Value::Text(&why))]);
                }
            }
        }
    }
}

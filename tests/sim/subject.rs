//! A node under test and the model that judges it, call by call.

use crate::coverage::Rare;
use crate::model::{Model, Wrong};
use crate::reply::Reply;
use crate::rng::Rng;
use bigbunny::node::request::{ConnectionId, Request, RequestId, StoreKey};
use bigbunny::node::response::Response;
use bigbunny::node::{Event, Input, Node, NodeConfig, Outbox, PeerMisbehaved};
use bigbunny::peer::message::Message;
use bigbunny::time::{Instant, Now};
use std::collections::VecDeque;

/// Events between two looks at everything a node has.
const EVENTS_PER_FULL_CHECK: u64 = 97;

/// What comes to a node.
pub(crate) enum Arrival {
    Request {
        id: RequestId,
        request: Box<Request<'static>>,
    },
    Closed(ConnectionId),
    /// The operator drops the lock of a store.
    Release(StoreKey),
    Timeout,
}

/// Answers, as they come.
#[derive(Default)]
struct Answers(VecDeque<(RequestId, Reply)>);

impl Outbox for Answers {
    fn respond(&mut self, id: RequestId, response: Response<'_>) {
        self.0.push_back((id, response.into()));
    }

    fn send_peer(&mut self, message: Message<'_>) {
        unreachable!("a node without a peer says {message:?}");
    }

    fn close_peer(&mut self, why: PeerMisbehaved) {
        unreachable!("a node without a peer complains of {why:?}");
    }

    fn event(&mut self, event: Event) {
        unreachable!("a node without a peer has no {event:?}");
    }
}

/// The two, side by side.
pub(crate) struct Subject {
    pub(crate) node: Node,
    pub(crate) model: Model,
    answers: Answers,
    now: Instant,
    refused: Option<Wrong>,
}

impl Subject {
    pub(crate) fn new(config: NodeConfig, entropy: Rng, now: Now) -> Self {
        let node = Node::new(config.clone(), Box::new(entropy), now);
        let model = Model::new(config);
        Self { node, model, answers: Answers::default(), now: now.monotonic, refused: None }
    }

    /// The node hears what happens. Its answers wait to be judged, in the order in which it gave them.
    pub(crate) fn handle(&mut self, now: Now, arrival: Arrival) {
        let Self { node, model, answers, .. } = self;
        model.coverage.events += 1;
        if self.now == now.monotonic {
            model.met(Rare::ClockReadTwice);
        }
        self.now = now.monotonic;
        model.begin(now.monotonic);
        let judged = match arrival {
            Arrival::Request { id, request } => {
                let judged = model.peeked(request.customer, node.is_rate_limited(now, request.customer));
                model.asked(id, (*request).clone());
                node.handle(now, Input::Request { id, request: *request }, answers);
                judged
            }
            Arrival::Closed(connection) => {
                model.connection_closed(connection);
                node.handle(now, Input::ConnectionClosed { connection }, answers);
                Ok(())
            }
            Arrival::Release(key) => {
                let released = node.release_lock(now, key, answers);
                model.released(key, released)
            }
            Arrival::Timeout => {
                model.coverage.timeouts += 1;
                model.timed_out();
                node.handle(now, Input::Timeout, answers);
                Ok(())
            }
        };
        model.has_tombstones(node.status().tombstones);
        self.refused = judged.err();
    }

    /// The next answer to be judged.
    pub(crate) fn has_answered(&self) -> Option<&(RequestId, Reply)> {
        self.answers.0.front()
    }

    /// Judges the next answer. Gives back what was asked.
    pub(crate) fn judge_next(&mut self) -> Result<Request<'static>, Wrong> {
        let (id, reply) = self.answers.0.pop_front().expect("somebody has looked");
        Ok(self.model.answered(id, &reply)?.request)
    }

    /// The event is over, and all answers are judged: the books must agree. Says when the node wants to be told of the time.
    pub(crate) fn end(&mut self) -> Result<Option<Instant>, Wrong> {
        if let Some(wrong) = self.refused.take() {
            return Err(wrong);
        }
        let due = self.node.next_timeout();
        self.model.end(due.is_none_or(|due| due > self.now), &self.node.status())?;
        if self.model.coverage.events.is_multiple_of(EVENTS_PER_FULL_CHECK) {
            self.node.check_invariants();
        }
        Ok(due)
    }
}

//! Answers to single requests: through the node, from a page, or a refusal. Owns nothing but the way there; when a request is
//! served and when its answer leaves is the visit's business.

use super::Server;
use super::connection::{Owed, Place, Stage};
use super::connections::{Replies, request_id};
use super::limits::{RELEASE_CUSTOMERS_MAX, STORE_ID_CHARS_LOGGED};
use crate::api::endpoints::Operation;
use crate::api::{self, ApiError, Call, Code, Page, Prepared};
use crate::http::{CONTINUE, HttpDate, ReplyFrame, write_error};
use crate::log::{LogEvent, Value};
use crate::metrics::requests::AnswerResult;
use crate::node::request::{ConnectionId, StoreKey};
use crate::node::response::Refusal;
use crate::node::{Input, Node};
use crate::status::ShellStatus;
use crate::time::Now;

impl Server {
    /// The node, and its way to answer.
    fn node_and_replies(&mut self, now: Now) -> (&mut Node, Replies<'_>) {
        let replies = Replies {
            connections: &mut self.connections,
            keyring: &mut self.keyring,
            date: &self.date,
            now,
            stopping: self.stopping.is_some(),
            limits_met: &mut self.limits_met,
            requests: &mut self.requests,
            peer: self.peer.as_mut().map(|peer| &mut peer.outgoing),
            log: &mut self.log,
            service_manager: &mut self.service_manager,
        };
        (&mut self.node, replies)
    }

    /// Tells the node something, and lets it answer whomever it likes.
    pub(super) fn tell_node(&mut self, now: Now, input: Input<'_>) {
        let (node, mut replies) = self.node_and_replies(now);
        node.handle(now, input, &mut replies);
        self.end_links_if_misbehaved(now);
    }

    /// Has a whole request answered, by the node at once or later, by others at once.
    pub(super) fn answer_request<'b>(
        &mut self,
        now: Now,
        id: ConnectionId,
        frame: ReplyFrame,
        prepared: &mut Prepared<'b>,
        body: &'b [u8],
    ) {
        let shape = prepared.reply_shape();
        let operation = shape.operation;
        match prepared.call(id, body) {
            Ok(Call::Node(request)) => {
                let Some(connection) = self.connections.get(id) else { return };
                connection.owed = Some(Owed { frame, shape, is_change: request.operation.is_change() });
                connection.known_to_node = true;
                let (node, mut replies) = self.node_and_replies(now);
                node.on_request(now, request_id(id), request, &mut replies);
                self.end_links_if_misbehaved(now);
            }
            Ok(&Call::Promote { force }) => {
                let Some(connection) = self.connections.get(id) else { return };
                connection.owed = Some(Owed { frame, shape, is_change: false });
                self.log.event(
                    now,
                    LogEvent::PromotionAskedFor,
                    &[("force", Value::Text(if force { "yes" } else { "no" }))],
                );
                self.tell_node(now, Input::Promote { id: request_id(id), force });
            }
            Ok(&Call::Page(page)) => self.answer_page(now, id, frame, operation, page),
            Ok(Call::ReleaseLock { id: store, customer }) => {
                let released = self.release_lock(now, store, *customer);
                let result = if released { AnswerResult::OK } else { AnswerResult::of_code(Code::NotFound) };
                self.note_answer(id, Some(operation), result);
                self.answer(now, id, frame, |output, frame, date| api::write_released(output, frame, date, released));
            }
            Err(error) => self.answer_error(now, id, frame, Some(operation), &error),
        }
    }

    /// Counts an answer that does not come from the node.
    fn note_answer(&mut self, id: ConnectionId, operation: Option<Operation>, result: AnswerResult) {
        let leaves_now = self.connections.is_visited(id);
        let Some(connection) = self.connections.get(id) else { return };
        self.requests.note(operation, result, connection.asked_at, leaves_now);
    }

    fn answer_page(&mut self, now: Now, id: ConnectionId, frame: ReplyFrame, operation: Operation, page: Page) {
        let node = self.node.status();
        let peer = self.peer.as_ref().map(|peer| peer.status(now.monotonic));
        let shell = ShellStatus {
            now: now.monotonic,
            version: env!("CARGO_PKG_VERSION"),
            host_id: &self.fixed.host_id,
            site: &self.fixed.site,
            started_at: self.started_at,
            uptime: now.monotonic.since(self.started),
            process: self.process.status(),
            requests: &self.requests,
            limits: &self.limits_met,
            log: &self.log,
            connections: self.connections.count(Place::Client) as u64,
            connections_limit: self.fixed.room.connections as u64,
            connections_accepted_total: self.connections.accepted_total(),
            connections_rejected_total: self.rejected_total,
            memory_limit_bytes: self.config.limits.memory_limit_bytes,
            loop_stalls_total: self.loop_stalls_total,
            longest_turn: self.longest_turn,
            sandbox: self.sandbox,
            pid: std::process::id(),
            store_key: self.keyring.current_id(),
            warnings: &self.fixed.warnings,
            peer: peer.as_ref(),
        };
        let rendered = api::render_page(page, &node, &shell);
        self.note_answer(id, Some(operation), AnswerResult::of_status(rendered.status));
        self.answer(now, id, frame, |output, frame, date| api::write_page(output, frame, date, page, &rendered));
    }

    /// Drops the lock of a store for an operator, who may not know whose store it is: then those that hold locks are tried,
    /// since an id opens only for its own customer.
    fn release_lock(&mut self, now: Now, store: &[u8], customer: Option<&str>) -> bool {
        let key: Option<StoreKey> = match customer {
            Some(customer) => self.keyring.open(customer, store),
            None => {
                let holders = self.node.customers_holding_locks(RELEASE_CUSTOMERS_MAX);
                holders.iter().find_map(|customer| self.keyring.open(customer, store))
            }
        };
        let Some(key) = key else { return false };
        let (node, mut replies) = self.node_and_replies(now);
        let released = node.release_lock(now, key, &mut replies);
        if released {
            let beginning = beginning_of(store);
            let fields = [("by", Value::Text("operator")), ("store", Value::Text(&beginning))];
            self.log.event(now, LogEvent::LockReleased, &fields);
        }
        released
    }

    /// Answers with an error of the API.
    pub(super) fn answer_error(
        &mut self,
        now: Now,
        id: ConnectionId,
        frame: ReplyFrame,
        operation: Option<Operation>,
        error: &ApiError,
    ) {
        let result = AnswerResult::of_error(error);
        if error.code().is_none() {
            self.limits_met.note_status(error.status());
        }
        self.note_answer(id, operation, result);
        self.answer(now, id, frame, |output, frame, date| api::write_api_error(output, frame, date, error));
    }

    /// Sends `100 Continue`, unless what would be refused anyway can be refused before its body has travelled.
    pub(super) fn ask_for_body(&mut self, now: Now, id: ConnectionId, frame: ReplyFrame, prepared: &Prepared<'_>) {
        let wait = prepared.customer().and_then(|customer| self.node.is_rate_limited(now, customer));
        let Some(retry_after_ms) = wait else {
            if let Some(output) = self.connections.writer(id, now.monotonic) {
                output.extend_from_slice(CONTINUE);
            }
            return;
        };
        // The client may or may not send the body now, so nothing behind it can be told apart from it.
        let frame = ReplyFrame { close: true, ..frame };
        let refusal = Refusal::RateLimited { retry_after_ms };
        self.limits_met.note_refusal(refusal);
        self.answer_error(now, id, frame, Some(prepared.reply_shape().operation), &ApiError::from(refusal));
        self.end_early_if_closing(id);
    }

    /// Answers with one line of text, after which nothing more is read.
    pub(super) fn refuse_and_close(&mut self, now: Now, id: ConnectionId, frame: ReplyFrame, status: u16, line: &str) {
        let frame = ReplyFrame { close: true, ..frame };
        self.limits_met.note_status(status);
        self.note_answer(id, None, AnswerResult::of_status(status));
        self.answer(now, id, frame, |output, frame, date| write_error(output, frame, date, status, line));
        self.end_early_if_closing(id);
    }

    /// Behind a refusal: if the connection closes, the client may still be sending what was refused.
    pub(super) fn end_early_if_closing(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.ends_early = connection.stage != Stage::Open;
        }
    }

    /// Writes an answer, behind which the connection closes if its frame says so or a clean stop is under way.
    pub(super) fn answer(
        &mut self,
        now: Now,
        id: ConnectionId,
        frame: ReplyFrame,
        write: impl FnOnce(&mut Vec<u8>, &ReplyFrame, &HttpDate),
    ) {
        let frame = ReplyFrame { close: frame.close || self.stopping.is_some(), ..frame };
        if let Some(output) = self.connections.writer(id, now.monotonic) {
            write(output, &frame, &self.date);
        }
        if frame.close
            && let Some(connection) = self.connections.get(id)
        {
            connection.close_when_sent();
        }
    }
}

/// So much of a store id that an operator knows it again, and nobody can use it.
fn beginning_of(store: &[u8]) -> String {
    let id = String::from_utf8_lossy(store);
    let (keys, token) = id.rsplit_once(':').unwrap_or(("", &id));
    format!("{keys}:{}…", token.chars().take(STORE_ID_CHARS_LOGGED).collect::<String>())
}

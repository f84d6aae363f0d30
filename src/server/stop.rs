//! Signals, and the two ways to end: a clean stop, and the end of its patience. The reload is in [`super::reload`].

use super::Server;
use super::connection::{Place, Stage};
use super::limits::{STOP_ACCEPT_ROUNDS_MAX, STOP_TIME_MAX};
use crate::log::{LogEvent, Value};
use crate::node::request::ConnectionId;
use crate::time::{Instant, Now};

/// A clean stop under way.
pub(super) struct Stopping {
    /// Whoever is not done by then is left.
    deadline: Instant,
    /// A second signal came.
    at_once: bool,
}

impl Stopping {
    /// When the stop ends, done or not.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Server {
    /// Does what signals ask.
    pub(super) fn on_signals(&mut self, now: Now) {
        let received = self.signals.take();
        if received.reload > 0 {
            self.reload(now);
        }
        let mut stops = received.stop;
        if stops > 0 && self.stopping.is_none() {
            if self.handing_over {
                self.begin_stop(now);
            } else {
                self.hand_over_or_stop(now);
                stops -= 1;
            }
        }
        if stops > 0
            && let Some(stopping) = &mut self.stopping
        {
            stopping.at_once = true;
        }
    }

    /// A primary whose secondary is in step lets that one take over first, and goes on until it has.
    fn hand_over_or_stop(&mut self, now: Now) {
        if self.node.begin_handover(now) {
            self.handing_over = true;
            self.log.event(now, LogEvent::HandingOver, &[]);
        } else {
            self.begin_stop(now);
        }
    }

    /// Begins the stop for which a handover was waited for, once that is over.
    pub(super) fn stop_if_handed_over(&mut self, now: Now) {
        if self.handing_over && self.stopping.is_none() && !self.node.is_handing_over() {
            self.begin_stop(now);
        }
    }

    /// Begins a clean stop: nobody new comes in, what is in flight is answered, every connection closes behind its next answer
    /// or, if it is idle, at once.
    fn begin_stop(&mut self, now: Now) {
        self.log.event(
            now,
            LogEvent::Stopping,
            &[("connections", Value::Number(self.connections.count(Place::Client) as u64))],
        );
        self.service_manager.is_stopping();
        // Those who wait at a socket that was passed in are left to the next daemon that it is passed to. From one of our own
        // the file goes first, so that nobody joins the line any more; then those who stand in it are still served.
        self.listeners.retain_mut(|listener| {
            listener.ready = listener.has_file();
            listener.remove_file();
            listener.ready
        });
        for _ in 0..STOP_ACCEPT_ROUNDS_MAX {
            if self.listeners.iter().any(|listener| listener.ready) {
                self.accept_clients(now);
            }
        }
        self.listeners.clear();
        self.stopping = Some(Stopping { deadline: now.monotonic + STOP_TIME_MAX, at_once: false });
        let all: Vec<ConnectionId> = self.connections.iter().map(|connection| connection.id).collect();
        for id in all {
            if let Some(connection) = self.connections.get(id) {
                // A last look, so that what has been sent before the stop is answered.
                connection.readable = true;
                self.connections.wake(id, now.monotonic);
            }
        }
    }

    /// Whether the stop is complete: everybody is served, or the patience is over.
    pub(super) fn is_stopped(&mut self, now: Now) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let is_over = stopping.at_once || now.monotonic >= stopping.deadline;
        let in_flight =
            self.connections.iter().filter(|connection| !matches!(connection.stage, Stage::Lingering { .. })).count();
        // What was said to the other node must have arrived: the handover above all.
        let is_done = in_flight == 0 && self.is_peer_served();
        if !is_done && !is_over {
            return false;
        }
        self.log.event(now, LogEvent::Stopped, &[("unanswered", Value::Number(in_flight as u64))]);
        true
    }
}

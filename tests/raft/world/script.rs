//! What scenarios ask of the world.

use bigbunny::kv::ask::Question;
use bigbunny::kv::command::{Change, Command};
use bigbunny::raft::Term;

use super::{World, replica_of};
use crate::clients::index_of;
use crate::history::What;

impl World {
    pub fn term(&self, machine: usize) -> Term {
        replica_of(&self.machines[machine]).raft().term()
    }

    /// Where the log of a machine begins.
    pub fn log_start(&self, machine: usize) -> u64 {
        replica_of(&self.machines[machine]).raft().start().index.get()
    }

    /// Somebody who leads, other than that machine.
    pub fn leader_beside(&self, machine: usize) -> Option<usize> {
        let leads = |at: usize| self.machines[at].replica.as_ref().is_some_and(|replica| replica.raft().is_leader());
        (0..self.machines.len()).find(|at| *at != machine && leads(*at))
    }

    /// Nobody hears a machine, and it hears nobody.
    pub fn isolate(&mut self, machine: usize, nanos: u64) {
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            self.cut(machine, other, nanos);
            self.cut(other, machine, nanos);
        }
    }

    /// A client writes something new.
    pub fn write(&mut self, key: &str, node: usize) {
        let asked = self.clients.ask_for(self.now, key, None, node);
        self.ask_all(asked.into_iter().collect());
    }

    pub fn read(&mut self, key: &str, node: usize) {
        let asked = self.clients.ask_for(self.now, key, Some(What::Read), node);
        self.ask_all(asked.into_iter().collect());
    }

    /// A write that may be repeated. Its number.
    pub fn write_once(&mut self, idempotency_key: &str, node: usize) -> u64 {
        let changes = vec![Change::Set { key: idempotency_key.to_owned(), value: "1".to_owned() }];
        let idempotency_key = Some(idempotency_key.to_owned());
        self.ask_admin(node, Question::Write(Command { idempotency_key, changes, is_batch: false }))
    }

    pub fn status_of(&self, id: u64) -> Option<u16> {
        self.admin_answers.get(&id).map(|answer| answer.status)
    }

    /// As which entry a write was answered.
    pub fn entry_of(&self, id: u64) -> Option<u64> {
        let answer = self.admin_answers.get(&id).filter(|answer| answer.status == 200)?;
        Some(index_of(&String::from_utf8_lossy(&answer.body)))
    }
}

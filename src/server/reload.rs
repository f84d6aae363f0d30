//! The reload: keys, token and limits are read again while everything goes on. Owns when a new key is first used.
//!
//! Of two nodes, one is always reloaded first, and the store ids that it makes must open at the other one too. So a key that a reload
//! brings opens ids at once, and makes them a little later: by then the other node is reloaded as well.
//! The next reload means that it is, whatever that one is for; an operator who says so too early has ids that do not open over there.

use super::Server;
use super::limits::NEW_KEY_WAIT;
use crate::log::{LogEvent, Value};
use crate::node::Limits;
use crate::store_id::MasterKey;
use crate::time::{Instant, Now};

/// The store keys as they were last read.
pub(super) struct KnownKeys {
    /// Their ids, to tell what a reload changes.
    ids: Vec<String>,
    /// The key that is to make store ids, and from when on.
    next: Option<(Instant, String)>,
}

impl KnownKeys {
    /// Those of the start.
    pub(super) fn new(keys: &[MasterKey]) -> Self {
        Self { ids: ids_of(keys), next: None }
    }

    /// When the next key is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next.as_ref().map(|(due, _)| *due)
    }
}

impl Server {
    /// Reads the files with keys, token and limits again. Any that cannot be read or used changes nothing.
    pub(super) fn reload(&mut self, now: Now) {
        let read = self.config.read_secrets_again().and_then(|secrets| Ok((secrets, self.config.read_limits_again()?)));
        let (secrets, limits) = match read {
            Ok(read) => read,
            Err(error) => {
                return self.log.event(now, LogEvent::ReloadFailed, &[("error", Value::Text(&error.to_string()))]);
            }
        };
        let ids = ids_of(&secrets.store_keys);
        let newest = secrets.store_key_current;
        let in_use = self.keyring.current_id().to_owned();
        // Without another node there is nobody to wait for, nor if this is the second reload that finds the key.
        let waits = self.peer.is_some() && !self.keys.ids.contains(&newest) && ids.contains(&in_use);
        let current = if waits { &in_use } else { &newest };
        if let Err(error) = self.keyring.replace_keys(secrets.store_keys, current) {
            return self.log.event(now, LogEvent::ReloadFailed, &[("error", Value::Text(&error.to_string()))]);
        }
        let (added, removed) = (missing_from(&self.keys.ids, &ids), missing_from(&ids, &self.keys.ids));
        let fields = [
            ("current", Value::Text(current)),
            ("added", Value::Text(&added)),
            ("removed", Value::Text(&removed)),
            ("next", Value::Text(if waits { &newest } else { "" })),
        ];
        self.log.event(now, LogEvent::StoreKeysReloaded, &fields);
        self.keys = KnownKeys { ids, next: waits.then(|| (now.monotonic + NEW_KEY_WAIT, newest.clone())) };
        if let (Some(peer), Some(token)) = (&mut self.peer, secrets.internal_token)
            && peer.set_token(token)
        {
            self.log.event(now, LogEvent::InternalTokenReloaded, &[]);
        }
        if limits != self.config.limits {
            self.use_limits(now, limits);
        }
    }

    fn use_limits(&mut self, now: Now, limits: Limits) {
        self.config.limits = limits;
        self.node.set_limits(limits);
        let fields = [
            ("memory_limit", Value::Number(limits.memory_limit_bytes)),
            ("customer_memory_quota", Value::Number(limits.customer_memory_quota_bytes)),
            ("rate_limit", Value::Number(limits.rate_limit_per_second.into())),
            ("burst_size", Value::Number(limits.burst_size.into())),
            ("tombstone_customer_limit", Value::Number(limits.tombstone_customer_limit)),
            ("tombstone_global_limit", Value::Number(limits.tombstone_global_limit)),
        ];
        self.log.event(now, LogEvent::LimitsReloaded, &fields);
    }

    /// Makes store ids with the key that has waited long enough.
    pub(super) fn use_next_key(&mut self, now: Now) {
        if let Some((_, id)) = self.keys.next.take_if(|(due, _)| *due <= now.monotonic) {
            self.keyring.use_key(&id);
            self.log.event(now, LogEvent::StoreKeyCurrent, &[("current", Value::Text(&id))]);
        }
    }
}

/// The ids of keys, which are no secret: they stand in every store id.
fn ids_of(keys: &[MasterKey]) -> Vec<String> {
    keys.iter().map(|key| key.id.clone()).collect()
}

/// Those of `there` that are not `here`.
fn missing_from(here: &[String], there: &[String]) -> String {
    there.iter().filter(|id| !here.contains(id)).map(String::as_str).collect::<Vec<&str>>().join(",")
}

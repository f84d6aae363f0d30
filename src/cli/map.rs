//! Owns the conversation with a node of the cluster map: its client token, and what its answers say, in words. Does not own what is
//! asked ([`super::kv`], [`super::cluster`]).

use std::borrow::Cow;

use super::client::{Ask, Client, Reply, printable};
use super::exit::{Exit, Failure};
use super::invocation::{Invocation, NodeOfMap};
use crate::config::values::HostPort;
use crate::json::{self, Object, Value};

/// A connection to a node.
pub(super) struct Node<'i> {
    client: Client,
    place: &'i NodeOfMap,
}

impl<'i> Node<'i> {
    /// Connects to the node that the command line or the environment names.
    pub(super) fn connect(invocation: &'i Invocation) -> Result<Self, Failure> {
        Self::connect_to(&invocation.node().addr, invocation)
    }

    /// Connects to another node of the same cluster.
    pub(super) fn connect_to(addr: &HostPort, invocation: &'i Invocation) -> Result<Self, Failure> {
        Ok(Self { client: Client::connect_tcp(addr)?, place: invocation.node() })
    }

    /// Asks one thing.
    pub(super) fn ask(&mut self, ask: Ask<'_>) -> Result<Reply, Failure> {
        let ask = match &self.place.token {
            Some(token) => ask.header("Authorization", format!("Bearer {}", token.expose())),
            None => ask,
        };
        let reply = self.client.ask(&ask)?;
        if (200..300).contains(&reply.status) { Ok(reply) } else { Err(failure(&reply)) }
    }

    /// Asks for a path without a body.
    pub(super) fn get(&mut self, path: &str) -> Result<Reply, Failure> {
        self.ask(Ask::post(path.to_owned()).method("GET"))
    }
}

/// What stands under `Ok` in an answer.
pub(super) fn answer(reply: &Reply) -> Result<Value<'_>, Failure> {
    member(&reply.body, "Ok").ok_or_else(strange)
}

/// The same, where it must be an object.
pub(super) fn object(reply: &Reply) -> Result<Object<'_>, Failure> {
    as_object(answer(reply)?).ok_or_else(strange)
}

/// A value, if it is an object.
pub(super) fn as_object(value: Value<'_>) -> Option<Object<'_>> {
    if let Value::Object(object) = value { Some(object) } else { None }
}

/// The answer is not what the map answers.
pub(super) fn strange() -> Failure {
    Failure::new(Exit::Other, "the answer is none of a cluster map; is it one that --addr or BBD_ADDR names?")
}

/// A member of an object.
pub(super) fn find<'a>(object: Object<'a>, name: &str) -> Option<Value<'a>> {
    object.members().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A member of the object that a body is.
fn member<'a>(body: &'a [u8], name: &str) -> Option<Value<'a>> {
    match json::read_value(body) {
        Ok(Value::Object(object)) => find(object, name),
        _ => None,
    }
}

/// What an answer that is no success means: its error, and what to do.
fn failure(reply: &Reply) -> Failure {
    let Some(error) = member(&reply.body, "Err") else { return reply.failure() };
    let (name, detail) = if let Value::String(name) = error {
        (name, None)
    } else {
        let detailed = as_object(error).and_then(|object| object.members().into_iter().next());
        let Some((name, detail)) = detailed else { return reply.failure() };
        (name, Some(detail))
    };
    let message = format!("{}: {}", printable(&name), printable(&in_our_words(&name, detail)));
    Failure::new(Exit::of_map_status(reply.status), message)
}

fn in_our_words<'a>(name: &str, detail: Option<Value<'a>>) -> Cow<'a, str> {
    let inside = |name: &str| match &detail {
        Some(Value::Object(object)) => find(*object, name),
        _ => None,
    };
    match (name, &detail) {
        ("KeyNotFound", _) => "there is no such key".into(),
        ("Unknown", _) => "the leader was lost meanwhile: it may have been done, or not; look, and try again".into(),
        ("NoLeader", _) => {
            "nobody leads; nothing was done; try again, and if it stays so, see bbd cluster status on each node".into()
        }
        ("Unauthorized", _) => "name the file of the client token with --client-token-file".into(),
        ("CasMismatch", _) => match inside("value") {
            Some(Value::String(value)) => format!("nothing was changed: the value is {value:?}").into(),
            _ => "nothing was changed: there is no such key".into(),
        },
        ("Compacted", _) => match inside("index") {
            Some(Value::Integer(index)) => {
                format!("what happened up to {index} is forgotten; list, and watch from there").into()
            }
            _ => "what happened then is forgotten; list, and watch from now on".into(),
        },
        ("APIError", _) => match inside("NotAllowed") {
            Some(Value::Object(reasons)) => match find(reasons, "reason") {
                Some(Value::String(reason)) => reason,
                _ => "it is not allowed now".into(),
            },
            _ => "it is not allowed now".into(),
        },
        (_, Some(Value::String(text))) => text.clone(),
        _ => "the node does not say why".into(),
    }
}

//! The invariants by name: what a disagreement between node and model breaks, and what the node's books must say.
//!
//! The names are those of section 6 of the replication specification, as far as they mean something on one node.

use crate::coverage::Rare;
use crate::kinds::operation_name;
use crate::model::{Model, Wrong};
use crate::reply::{Reply, Told, View};
use bigbunny::node::NodeStatus;
use bigbunny::node::request::Request;
use bigbunny::node::response::{Refusal, StoreFacts};

/// Compares an answer with the one that was due.
pub(crate) fn compare(request: &Request<'static>, expected: &Reply, seen: &Reply) -> Result<(), Wrong> {
    if same_result(expected, seen) && same_facts(expected, seen) {
        return Ok(());
    }
    let broken = broken_invariant(request, expected, seen);
    Err(format!("{broken}: {request:?}\n  expected {expected:?}\n  got      {seen:?}"))
}

fn same_result(expected: &Reply, seen: &Reply) -> bool {
    match (&expected.result, &seen.result) {
        (Ok(expected), Ok(seen)) => same_told(expected, seen),
        // The words are for people.
        (Err(Refusal::BadCounterBody(_)), Err(Refusal::BadCounterBody(_))) => true,
        (Err(expected), Err(seen)) => expected == seen,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

fn same_told(expected: &Told, seen: &Told) -> bool {
    match (expected, seen) {
        (Told::Stores(expected), Told::Stores(seen)) => {
            expected.len() == seen.len() && expected.iter().zip(seen).all(|(expected, seen)| same_view(expected, seen))
        }
        (expected, seen) => expected == seen,
    }
}

fn same_view(expected: &Option<View>, seen: &Option<View>) -> bool {
    match (expected, seen) {
        (None, None) => true,
        (Some((expected, facts)), Some((seen, facts_seen))) => expected == seen && same_store_facts(facts, facts_seen),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Every answer about one store says its tag and time, refusals included.
fn same_facts(expected: &Reply, seen: &Reply) -> bool {
    match (&expected.facts, &seen.facts) {
        (None, None) => true,
        (Some(expected), Some(seen)) => same_store_facts(expected, seen),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Where the model does not say whether a lock is held, the node may or may not.
fn same_store_facts(expected: &StoreFacts, seen: &StoreFacts) -> bool {
    (expected.etag, expected.ttl_left_ms) == (seen.etag, seen.ttl_left_ms)
        && (expected.locked.is_none() || expected.locked == seen.locked)
}

fn broken_invariant(request: &Request<'static>, expected: &Reply, seen: &Reply) -> &'static str {
    match (&expected.result, &seen.result) {
        (_, Ok(Told::StoreId { customer, .. })) if *customer != request.customer => "customers-apart",
        (Err(Refusal::StoreExpired), Ok(_)) => "expired-never-served",
        (Err(Refusal::NotFound | Refusal::NotAuthorized), Ok(_)) => "no-resurrection",
        (Err(Refusal::NameExists), Ok(_)) => "name-unique",
        (Err(Refusal::StoreLocked { .. }), Ok(Told::Locked { .. })) => "one-lock-holder",
        (Err(Refusal::StoreLocked { .. } | Refusal::LockMismatch), Ok(_)) => "commit-needs-lock",
        (Err(Refusal::VersionMismatch), Ok(_)) => "no-lost-update",
        (Err(Refusal::CapacityExceeded | Refusal::CustomerQuotaExceeded), _)
        | (_, Err(Refusal::CapacityExceeded | Refusal::CustomerQuotaExceeded)) => "books-exact",
        (Ok(Told::Counter { counter, .. }), Ok(Told::Counter { counter: counter_seen, .. }))
            if counter != counter_seen =>
        {
            "counter-exact"
        }
        (Ok(told), Ok(told_seen)) => broken_by_facts(told, told_seen, expected, seen),
        (Ok(_) | Err(_), _) => operation_name(&request.operation),
    }
}

fn broken_by_facts(told: &Told, told_seen: &Told, expected: &Reply, seen: &Reply) -> &'static str {
    match (expected.facts, seen.facts) {
        (Some(expected), Some(seen)) if seen.ttl_left_ms > expected.ttl_left_ms => "ttl-never-extends",
        (Some(expected), Some(seen)) if seen.ttl_left_ms < expected.ttl_left_ms => "ttl-exact",
        (Some(expected), Some(seen)) if seen.etag != expected.etag => "version-monotone",
        _ if !same_told(told, told_seen) => "no-lost-update",
        _ => "facts-exact",
    }
}

/// The node's books agree with the model's, to the byte.
pub(crate) fn books(model: &Model, status: &NodeStatus) -> Result<(), Wrong> {
    let expected = [
        ("stores", model.expiries.len() as u64, status.stores),
        ("names", model.names_in_use(), status.names),
        ("memory_bytes", model.memory_bytes + model.limbo_bytes(None), status.memory_bytes),
        ("tombstones", model.tombstones.len() as u64, status.tombstones),
        ("waiters", model.waiting(), status.waiters),
        ("locks", model.held(), status.locks),
        ("expired_total", model.expired_total, status.expired_total),
        ("rate_limited_total", model.coverage.count(Rare::RateLimited), status.rate_limited_total),
        ("capacity_refused_total", model.memory_refused_total, status.capacity_refused_total),
    ];
    for (what, expected, seen) in expected {
        if expected != seen {
            return Err(format!("books-exact: {what} are {expected}, the node says {seen}"));
        }
    }
    // A hold that ran out unnoticed may be ended by something else first.
    let run_out = model.coverage.count(Rare::LockTimedOut);
    if status.lock_expirations_total > run_out {
        return Err(format!("books-exact: {run_out} holds ran out, the node says {}", status.lock_expirations_total));
    }
    Ok(())
}

//! Bounds that nobody reaches over a socket in a test: at their value, and one past it.

use super::super::locks::WAITERS_MAX;
use super::*;

/// A node alone that has one store, `n`.
fn alone() -> (Node, Said, Now) {
    let now = Now { monotonic: Instant::from_millis(1000), wall: WallTime(0) };
    let limits = Limits { rate_limit_per_second: 0, ..Limits::default() };
    let mut node = Node::new(NodeConfig { limits, ..NodeConfig::default() }, Box::new(Seeded(1)), now);
    let mut said = Said::default();
    assert!(ask(&mut node, now, &mut said, 0, put("n", b"body")).is_some_and(|result| result.is_ok()));
    (node, said, now)
}

/// What is answered at once to a request, on a connection of its own.
fn ask(
    node: &mut Node,
    now: Now,
    said: &mut Said,
    id: u64,
    operation: Operation<'_>,
) -> Option<Result<String, Refusal>> {
    let request = Request::new(ConnectionId(id), "shop", operation);
    node.handle(now, Input::Request { id: RequestId(id), request }, said);
    said.answers.pop().map(|(_, result, _)| result)
}

#[test]
fn so_many_wait_for_locks_and_no_more() {
    let (mut node, mut said, now) = alone();
    let mut wait = |node: &mut Node, id: u64| ask(node, now, &mut said, id, begin("n", 30_000));
    let waiters = WAITERS_MAX as u64;
    assert!(wait(&mut node, 1).is_some_and(|result| result.is_ok()), "the first one has it");
    for id in 2..2 + waiters {
        assert_eq!(wait(&mut node, id), None, "{id} waits");
    }
    assert_eq!(wait(&mut node, 2 + waiters), Some(Err(Refusal::TooManyWaiting)));
    assert_eq!(node.status().waiters, waiters);
    // Whoever leaves makes room for one.
    node.handle(now, Input::ConnectionClosed { connection: ConnectionId(1000) }, &mut Said::default());
    assert_eq!(wait(&mut node, 3 + waiters), None);
    assert_eq!(wait(&mut node, 4 + waiters), Some(Err(Refusal::TooManyWaiting)));
    node.check_invariants();
    // Whoever goes is not told, and nothing of them stays.
    let mut told = Said::default();
    for id in 2..4 + waiters {
        node.handle(now, Input::ConnectionClosed { connection: ConnectionId(id) }, &mut told);
    }
    assert_eq!((node.status().waiters, told.answers.len()), (0, 0));
    node.check_invariants();
}

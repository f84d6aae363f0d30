//! Changing places, by order and otherwise: what is lost on the way is said again, and what a former primary has lost is counted.

use super::*;

impl Pair {
    fn asks_to_promote(&mut self, place: usize) -> RequestId {
        self.next_id += 1;
        let id = RequestId(self.next_id);
        self.tell(place, Input::Promote { id, force: false });
        id
    }

    /// The connection that a node dialled ends with all that it has said on it, and is dialled anew.
    fn lose_words_of(&mut self, place: usize, down_ms: u64) {
        self.flying.retain(|(_, from, ..)| *from != place);
        self.tell(place, Input::PeerDown);
        self.reaches[place] = false;
        self.run_ms(down_ms);
        self.reaches[place] = true;
        let incarnation = self.nodes[1 - place].as_ref().unwrap().incarnation();
        self.tell(place, Input::PeerUp { incarnation });
    }

    fn lost(&self, place: usize) -> u64 {
        self.nodes[place].as_ref().unwrap().status().lost_changes_total
    }

    fn changes(&self, place: usize) -> u64 {
        self.nodes[place].as_ref().unwrap().status().changes
    }

    /// The process ends, and nobody hears that it did.
    fn vanish(&mut self, place: usize) {
        self.nodes[place] = None;
        self.cut();
    }
}

/// A pair with a lock, whose primary is busy.
fn pair_with_a_lock() -> Pair {
    let mut pair = Pair { delay: Duration::from_millis(2), ..pair_in_step() };
    pair.ask(0, put("n", b"hello"));
    let lock = pair.ask(0, begin("n", 0));
    pair.done(lock);
    pair.run_ms(250);
    pair
}

/// The second node is primary by a handover and not by force: it knows of the lock, and nothing is lost.
fn check_handed_over(pair: &mut Pair, promote: RequestId) {
    pair.done(promote);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    let busy = pair.ask(1, begin("n", 0));
    assert!(matches!(pair.answer(busy), Some(Err(Refusal::StoreLocked { .. }))), "the lock went along");
    pair.run_ms(300);
    assert_eq!((pair.lost(0), pair.lost(1)), (0, 0));
    pair.check_equal();
}

/// Its heartbeats came all the time, and after a second the other node took over by force.
#[test]
fn a_handover_whose_beginning_is_lost_with_a_connection_is_asked_for_again() {
    let mut pair = pair_with_a_lock();
    let promote = pair.asks_to_promote(1);
    pair.lose_words_of(1, 300);
    pair.ask(0, put("unsent", b"x"));
    pair.run_ms(20);
    check_handed_over(&mut pair, promote);
}

/// One connection is down, and the other brings the primary's heartbeats: it took over at once.
#[test]
fn a_handover_waits_for_a_connection_as_for_an_answer() {
    let mut pair = pair_with_a_lock();
    pair.lose_words_of(1, 0);
    pair.tell(1, Input::PeerDown);
    let promote = pair.asks_to_promote(1);
    assert_eq!((pair.answer(promote), pair.role(1)), (None, Role::Secondary));
    pair.lose_words_of(1, 300);
    pair.run_ms(20);
    check_handed_over(&mut pair, promote);

    // But for no longer than for the answer.
    pair.stopped = Some(1);
    let promote = pair.asks_to_promote(0);
    pair.run_ms(999);
    assert_eq!((pair.answer(promote), pair.role(0)), (None, Role::Secondary));
    pair.run_ms(2);
    pair.done(promote);
    assert_eq!(pair.role(0), Role::Primary);
}

#[test]
fn a_handover_whose_end_is_lost_with_a_connection_is_ended_again() {
    let mut pair = pair_with_a_lock();
    let promote = pair.asks_to_promote(1);
    pair.run_ms(3);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Secondary));
    pair.lose_words_of(0, 300);
    pair.run_ms(20);
    check_handed_over(&mut pair, promote);

    // Both connections at once: it is asked for again where it has been done.
    let promote = pair.asks_to_promote(0);
    pair.run_ms(3);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Secondary));
    pair.cut();
    pair.run_ms(300);
    pair.connect();
    pair.run_ms(300);
    pair.done(promote);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Secondary));
    assert_eq!((pair.lost(0), pair.lost(1)), (0, 0));
    pair.check_equal();
}

/// The second node was primary, made changes alone, and has just heard that the first has gone on without it.
fn pair_whose_second_has_stepped_down() -> (Pair, u64) {
    let mut pair = pair_in_step();
    pair.ask(0, put("n", b"hello"));
    pair.run_ms(250);
    pair.asks_to_promote(1);
    pair.run_ms(300);
    pair.cut();
    pair.run_ms(4001);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Primary));
    for number in 0..10 {
        pair.ask(1, put(&format!("alone{number}"), b"x"));
    }
    let changes = pair.changes(1);
    pair.connect();
    pair.now = pair.now + DELAY;
    pair.run_ms(0);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Joining));
    assert_eq!(pair.lost(1), 0, "it does not know yet what was taken over");
    (pair, changes)
}

/// The other node has begun anew, and has made more changes of its own since than it could have taken over: they are none that this one had.
#[test]
fn what_a_former_primary_has_lost_does_not_depend_on_later_promotions() {
    let (mut pair, changes) = pair_whose_second_has_stepped_down();
    pair.vanish(0);
    pair.reaches = [false; 2];
    pair.start(0);
    pair.run_ms(4001);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Joining));
    for number in 0..50 {
        pair.ask(0, put(&format!("new{number}"), b"x"));
    }
    pair.reaches = [true; 2];
    pair.connect();
    pair.run_ms(300);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Secondary));
    assert_eq!(pair.lost(1), changes);
    pair.check_equal();
}

#[test]
fn a_former_primary_that_begins_anew_has_lost_everything() {
    let (mut pair, changes) = pair_whose_second_has_stepped_down();
    pair.kill(0);
    pair.run_ms(4001);
    assert_eq!((pair.role(1), pair.lost(1)), (Role::Primary, changes));
    // And is counted once.
    pair.start(0);
    pair.run_ms(300);
    assert_eq!((pair.role(1), pair.lost(1)), (Role::Primary, changes));
    pair.check_equal();
}

/// Its changes have numbers that the other node's history has too, and not one is the same.
#[test]
fn a_primary_that_began_with_nothing_has_nothing_in_common_with_the_other() {
    let mut pair = pair_in_step();
    for number in 0..20 {
        pair.ask(0, put(&format!("n{number}"), b"x"));
    }
    pair.run_ms(250);
    pair.asks_to_promote(1);
    pair.run_ms(300);
    pair.vanish(0);
    pair.reaches = [false; 2];
    pair.start(0);
    pair.run_ms(4001);
    pair.ask(0, put("alone", b"x"));
    assert_eq!((pair.role(0), pair.role(1)), (Role::Primary, Role::Primary));
    let changes = pair.changes(0);
    assert!(changes > 0);
    pair.reaches = [true; 2];
    pair.connect();
    pair.run_ms(300);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    assert_eq!(pair.lost(0), changes);
    pair.check_equal();
}

/// It had handed over, and was made primary again by force before the other node knew that it was.
#[test]
fn what_a_former_primary_had_in_common_may_be_of_an_earlier_epoch_of_its_own() {
    let mut pair = pair_with_a_lock();
    pair.asks_to_promote(1);
    pair.run_ms(3);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Secondary));
    pair.cut();
    let common = pair.changes(1);
    pair.tell(0, Input::Promote { id: RequestId(1 << 20), force: true });
    pair.ask(0, put("alone", b"x"));
    let alone = pair.changes(0) - common;
    // All that the other node hears is that there is a newer epoch.
    let (epoch, incarnation) = {
        let node = pair.nodes[0].as_ref().unwrap();
        (node.status().epoch, node.incarnation())
    };
    let message = Message::Heartbeat { epoch, sent_at_ns: 1 };
    pair.tell(1, Input::PeerMessage { incarnation, message });
    pair.tell(1, Input::Promote { id: RequestId(1 << 21), force: true });
    pair.connect();
    pair.run_ms(300);
    assert_eq!((pair.role(0), pair.role(1)), (Role::Secondary, Role::Primary));
    assert_eq!(pair.lost(0), alone);
    pair.check_equal();
}

/// What ends a handover may end the primary as well: then nothing of what was held for it is done and lost at once.
#[test]
fn what_was_held_for_a_handover_is_not_done_by_a_primary_that_steps_down() {
    for (role, is_done) in [(Role::Primary, false), (Role::Joining, true)] {
        let mut pair = pair_with_a_lock();
        pair.reaches[1] = false;
        pair.ask(0, put("unacknowledged", b"x"));
        let (epoch, incarnation) =
            (pair.nodes[0].as_ref().unwrap().status().epoch, pair.nodes[1].as_ref().unwrap().incarnation());
        pair.tell(0, Input::PeerMessage { incarnation, message: Message::Handover { epoch } });
        let held = pair.ask(0, put("held", b"y"));
        assert!(pair.answer(held).is_none());
        // The other node has restarted.
        let epoch = if is_done { epoch } else { epoch + 1 };
        let message = Message::Status { role, epoch, number: 1 };
        pair.tell(0, Input::PeerMessage { incarnation: incarnation + 1, message });
        let answer = pair.answer(held);
        if is_done {
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
        } else {
            assert!(matches!(answer, Some(Err(Refusal::LeaderChanged))), "{answer:?}");
        }
    }
}

//! Scenarios with names: what the specification promises, and what failing seeds once showed, told as short stories. Everything is judged
//! here as in any run; what a scenario asserts by itself is the point of it.

use bigbunny::kv::ask::Question;

use crate::disk::Left;
use crate::profile::Profile;
use crate::rng::Rng;
use crate::world::faults::Fault;
use crate::world::{MS, World};

/// A cluster of voters in which nothing goes wrong by itself.
fn cluster(machines: usize) -> World {
    let mut world = World::with(Profile::quiet(machines), Rng::new(7), false);
    world.set_up().unwrap();
    world
}

fn ends_well(mut world: World) {
    world.settle().unwrap();
    world.finish().unwrap();
}

#[test]
fn a_node_that_comes_back_does_not_unseat_the_leader() {
    let mut world = cluster(5);
    let leader = world.leader().unwrap();
    let (term, other) = (world.term(leader), (leader + 1) % 5);
    world.isolate(other, 10_000 * MS);
    world.run_for(11_000 * MS).unwrap();
    assert_eq!((world.leader(), world.term(leader)), (Some(leader), term));
    assert_eq!(world.term(other), term, "who cannot win begins no election");
    ends_well(world);
}

#[test]
fn a_leader_paused_over_an_election_answers_nothing_old() {
    let mut world = cluster(3);
    let leader = world.leader().unwrap();
    for round in 0..20 {
        let leader = world.leader().unwrap_or(leader);
        world.write("shared", leader);
        world.run_for(50 * MS).unwrap();
        // It has looked at the clock, and at nothing else: a read is on its way when it stops.
        world.read("shared", leader);
        world.run_for(round * MS / 10).unwrap();
        world.fault(Fault::PauseInTurn, leader, 4_000 * MS);
        world.read("shared", leader);
        world.run_for(900 * MS).unwrap();
        assert_ne!(world.leader_beside(leader), None, "the others have elected another");
        world.write("shared", (leader + 1) % 3);
        world.run_for(2_000 * MS).unwrap();
    }
    ends_well(world);
}

#[test]
fn what_was_answered_survives_the_loss_of_every_byte_that_was_not_synced() {
    let mut world = cluster(3);
    for round in 0..30 {
        for node in 0..3 {
            world.write(&format!("key-{}", round % 5), node);
        }
        // At another moment of the writes each time.
        world.run_for(3 * MS + round * MS / 4).unwrap();
        world.fault(Fault::PowerLost, 0, MS);
        world.run_for(4_000 * MS).unwrap();
    }
    assert!(world.clients.done > 10, "some were answered in time");
    ends_well(world);
}

#[test]
fn an_initialised_cluster_is_on_the_disk() {
    let mut world = World::with(Profile::quiet(1), Rng::new(3), false);
    world.start(0);
    let init = world.ask_admin(0, Question::Init);
    world.run_until(1_000 * MS, |world| world.status_of(init).is_some()).unwrap();
    assert_eq!(world.status_of(init), Some(201));
    world.crash(0, Left::Nothing);
    world.start(0);
    world.run_for(1_000 * MS).unwrap();
    assert_eq!(world.leader(), Some(0), "it knows its cluster");
}

#[test]
fn a_repeated_write_is_answered_alike_by_another_leader_behind_a_snapshot() {
    let mut world = cluster(3);
    let leader = world.leader().unwrap();
    let once = world.write_once("once", leader);
    world.run_for(100 * MS).unwrap();
    let first = world.entry_of(once).expect("it was answered");
    // Far behind the snapshot, and at another node.
    for _ in 0..200 {
        world.write("other", leader);
        world.run_for(10 * MS).unwrap();
    }
    assert!(world.log_start(leader) > first, "its entry is in no log any more");
    world.crash(leader, Left::Nothing);
    world.run_for(1_500 * MS).unwrap();
    let other = world.leader_beside(leader).expect("another leads");
    let again = world.write_once("once", other);
    world.run_for(500 * MS).unwrap();
    assert_eq!(world.entry_of(again), Some(first));
    ends_well(world);
}

#[test]
fn a_leader_that_is_removed_leaves_the_others_a_leader() {
    let mut world = cluster(3);
    let leader = world.leader().unwrap();
    world.fault(Fault::RemoveLeader, leader, MS);
    // Not half of the time after which anybody would miss a leader.
    world.run_for(100 * MS).unwrap();
    let next = world.leader_beside(leader).expect("another leads");
    assert_eq!(world.leader(), Some(next));
    world.write("after", next);
    ends_well(world);
}

#[test]
fn a_follower_far_behind_is_sent_a_snapshot_in_parts_and_then_entries() {
    let mut world = World::with(Profile { has_ballast: true, ..Profile::quiet(3) }, Rng::new(11), false);
    world.set_up().unwrap();
    let leader = world.leader().unwrap();
    let other = (leader + 1) % 3;
    world.isolate(other, 4_000 * MS);
    for _ in 0..120 {
        world.write("other", leader);
        world.run_for(20 * MS).unwrap();
    }
    ends_well(world);
}

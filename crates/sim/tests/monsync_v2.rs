//! The second dialect in a world that goes wrong.
//!
//! Always: a target that says it is complete is a point of its source's history. After healing: every requester
//! gets there.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

#[path = "../../monsync/tests/model/mod.rs"]
mod model;
#[path = "monsync_v2/nodes.rs"]
mod nodes;

use core::time::Duration;

use cuttlebone_machine::SplitMix;
use cuttlebone_sim::{Fault, Network, NodeId, World, for_each_seed};
use nodes::{MonNode, Provides, Pulls};

const FIRST: NodeId = NodeId(0);
const SECOND: NodeId = NodeId(1);
const PULLER: NodeId = NodeId(2);

/// Two providers with the same history, the second behind the first, and one requester that pulls `copies` times.
fn world(seed: u64, versions: u64, copies: u32) -> World<MonNode> {
    let mut chance = SplitMix::new(seed ^ 0x5eed);
    let mut source = model::Source::new(versions, &mut chance);
    // Or replaying the log alone would bring everything back, and hide that a key is missing.
    source.trim(3);
    let nodes = vec![
        MonNode::Provides(Provides::leader(source.clone(), seed)),
        MonNode::Provides(Provides::follower(source, seed + 1)),
        MonNode::Pulls(Pulls::new(vec![FIRST, SECOND], copies)),
    ];
    World::new(seed, Network::default(), nodes)
}

fn done(world: &World<MonNode>) -> bool {
    matches!(&world[PULLER], MonNode::Pulls(pulls) if pulls.done())
}

fn run(mut world: World<MonNode>) {
    assert!(world.run_until(Duration::from_secs(3 * 3600), done), "no copy: {world}");
}

#[test]
fn copies_succeed_in_a_quiet_world() {
    for_each_seed(100, |seed| run(world(seed, 20 + seed % 30, 2)));
}

#[test]
fn nothing_fails_while_a_source_commits_and_nothing_goes_wrong() {
    for_each_seed(200, |seed| {
        let mut world = world(seed, 20 + seed % 30, 4);
        if let MonNode::Provides(provides) = &mut world[FIRST] {
            provides.keep_busy(Duration::from_millis(10 + seed % 300), 1000, u64::MAX);
        }
        assert!(world.run_until(Duration::from_secs(60), done), "{world}");
        if let MonNode::Pulls(pulls) = &world[PULLER] {
            assert_eq!(pulls.last_error(), None, "{world}");
        }
    });
}

#[test]
fn copies_survive_lost_connections_partitions_crashes_and_clock_jumps() {
    for_each_seed(500, |seed| {
        let mut world = world(seed, 10 + seed % 40, 3);
        world.chaos(12, Duration::from_secs(6), Duration::from_secs(40));
        run(world);
    });
}

#[test]
fn copies_of_a_source_that_keeps_committing_and_trimming_are_points_of_its_history() {
    for_each_seed(500, |seed| {
        let mut world = world(seed, 20 + seed % 20, 3);
        for (id, ticks) in [(FIRST, 200), (SECOND, 300)] {
            if let MonNode::Provides(provides) = &mut world[id] {
                provides.keep_busy(Duration::from_millis(20 + seed % 150), ticks, 30);
            }
        }
        world.chaos(6, Duration::from_secs(6), Duration::from_secs(10));
        run(world);
    });
}

/// A world, and one of the steps that it takes when nothing goes wrong: a seed is one step of one world.
fn one_step(seed: u64) -> (World<MonNode>, u64) {
    const STEPS: u64 = 70;
    (world(seed / STEPS, 15, 2), seed % STEPS)
}

#[test]
fn every_role_may_crash_at_every_step() {
    for_each_seed(350, |seed| {
        for victim in [FIRST, SECOND, PULLER] {
            let (mut world, step) = one_step(seed);
            world.fault_at_step(step, Fault::Crash(victim, Duration::from_secs(1)));
            run(world);
        }
    });
}

#[test]
fn a_connection_may_be_lost_at_every_step() {
    for_each_seed(350, |seed| {
        let (mut world, step) = one_step(seed);
        world.fault_at_step(step, Fault::Cut(FIRST, PULLER));
        run(world);
    });
}

#[test]
fn a_run_without_faults_takes_fewer_steps_than_are_tried() {
    let mut world = world(0, 15, 2);
    assert!(world.run_until(Duration::from_secs(600), done));
    assert!((35..70).contains(&world.steps()), "{world}");
}

#[test]
fn a_store_that_fails_now_and_then_is_started_over() {
    for_each_seed(200, |seed| {
        let mut world = world(seed, 10 + seed % 30, 2);
        if let MonNode::Pulls(pulls) = &mut world[PULLER] {
            pulls.fail_permille(60);
        }
        world.chaos(3, Duration::from_secs(3), Duration::from_secs(10));
        run(world);
    });
}

//! The first dialect in a world that goes wrong: three monitors in a quorum, two that synchronise.
//!
//! Always: a target that says it is complete is a point of the quorum's history. After healing: everybody gets
//! there.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

#[path = "../../monsync/tests/model/mod.rs"]
mod model;
#[path = "monsync_v1/nodes.rs"]
mod nodes;

use core::time::Duration;

use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_monsync::Error;
use cuttlebone_sim::{Fault, Network, NodeId, World, for_each_seed};
use nodes::{Mon, Shared};

const QUORUM: usize = 3;

/// How the quorum behaves.
#[derive(Clone, Copy)]
struct Plan {
    versions: u64,
    /// Commits while the world runs.
    commits: u32,
    elections: u32,
    /// Copies that each requester makes.
    copies: u32,
}

const QUIET: Plan = Plan { versions: 15, commits: 0, elections: 0, copies: 1 };

fn world(seed: u64, plan: Plan) -> World<Mon> {
    let mut chance = SplitMix::new(seed ^ 0x0d1a_1ec7);
    let mut source = model::Source::new(plan.versions, &mut chance);
    // Or replaying the log alone would bring everything back, and hide that a key is missing.
    source.trim(3);
    let shared = Shared::new(source, QUORUM);
    let mut nodes: Vec<_> = (0..QUORUM).map(|id| Mon::member(id, &shared, chance.next_u64())).collect();
    nodes[0].conduct(plan.commits, plan.elections);
    for id in QUORUM..QUORUM + 2 {
        nodes.push(Mon::requester(id, &shared, chance.next_u64(), plan.copies));
    }
    World::new(seed, Network::default(), nodes)
}

fn done(world: &World<Mon>) -> bool {
    (QUORUM..QUORUM + 2).all(|id| world[NodeId(id)].done())
}

fn run(mut world: World<Mon>) -> World<Mon> {
    assert!(world.run_until(Duration::from_secs(6 * 3600), done), "no copy: {world}");
    world
}

#[test]
fn copies_succeed_in_a_quiet_world() {
    for_each_seed(100, |seed| {
        let world = run(world(seed, Plan { versions: 10 + seed % 30, ..QUIET }));
        for id in QUORUM..QUORUM + 2 {
            // One that asks the other requester too early is not answered.
            let unanswered = Error::TimedOut { after: Duration::from_secs(60), waiting_for: "permission" };
            let error = world[NodeId(id)].last_error();
            assert!(error.is_none_or(|error| *error == unanswered), "{world}");
        }
    });
}

#[test]
fn copies_survive_lost_connections_partitions_crashes_and_clock_jumps() {
    for_each_seed(200, |seed| {
        let mut world = world(seed, Plan { versions: 10 + seed % 30, copies: 3, ..QUIET });
        world.chaos(5, Duration::from_millis(800), Duration::from_secs(40));
        world.chaos(10, Duration::from_secs(120), Duration::from_secs(40));
        run(world);
    });
}

#[test]
fn copies_of_a_quorum_that_commits_and_trims_and_elects_are_points_of_its_history() {
    for_each_seed(200, |seed| {
        let plan = Plan { versions: 10 + seed % 30, commits: 120, elections: 4, copies: 2 };
        let mut world = world(seed, plan);
        world.chaos(5, Duration::from_millis(800), Duration::from_secs(40));
        world.chaos(6, Duration::from_secs(60), Duration::from_secs(40));
        run(world);
    });
}

/// A world, and one of the steps that it takes when nothing goes wrong: a seed is one step of one world.
fn one_step(seed: u64) -> (World<Mon>, u64) {
    const STEPS: u64 = 120;
    let world = world(seed / STEPS, QUIET);
    (world, seed % STEPS)
}

#[test]
fn every_role_may_crash_at_every_step() {
    for_each_seed(120, |seed| {
        for victim in (0..QUORUM + 2).map(NodeId) {
            let (mut world, step) = one_step(seed);
            world.fault_at_step(step, Fault::Crash(victim, Duration::from_secs(1)));
            run(world);
        }
    });
}

#[test]
fn the_leader_may_change_at_every_step() {
    for_each_seed(120, |seed| {
        let (mut world, step) = one_step(seed);
        while world.steps() < step && !done(&world) {
            world.step();
        }
        world[NodeId(0)].elect(1);
        run(world);
    });
}

#[test]
fn a_run_without_faults_takes_fewer_steps_than_are_tried() {
    let mut world = world(0, QUIET);
    assert!(world.run_until(Duration::from_secs(600), done));
    assert!((60..120).contains(&world.steps()), "{world}");
}

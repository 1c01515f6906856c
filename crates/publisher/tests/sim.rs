//! Many seeds of everything that goes wrong with tables, on virtual time: safety always, and progress after healing.
//! `CUTTLEBONE_SEED=n` replays one, `CUTTLEBONE_SEEDS=n` runs more.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::collections::BTreeSet;

use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_publisher::{Config, Settled};
use support::{LATEST_MS, Mood, SimTable, World, ms, name, secs, server};

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("CUTTLEBONE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("CUTTLEBONE_SEEDS").unwrap_or(4)).collect(),
    }
}

struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with CUTTLEBONE_SEED={}", self.0);
        }
    }
}

/// 1,000 pairs at three tables: one refreshed entry by entry, one in batches, one on a lease.
fn world(seed: u64) -> World {
    let plain = SimTable { delay: 1..30, ..SimTable::default() };
    let batched = SimTable { delay: 5..60, batch_max: 64, ..SimTable::default() };
    let mut world = World::with(Config::default(), vec![plain, batched, SimTable::leased()], seed);
    for at in 0..100 {
        world.add_name(&format!("n{at}"));
    }
    for port in 1..=10 {
        world.add_server(&format!("h:{port}"));
    }
    world
}

/// One thing that goes wrong, or that a user wants.
fn disturb(world: &mut World, dice: &mut SplitMix) {
    let table = usize::try_from(dice.below(3)).unwrap();
    match dice.below(12) {
        0 => world.set_mood(table, Mood::Hangs),
        1 => world.set_mood(table, Mood::LosesReplies),
        2 => world.set_mood(table, Mood::Refuses),
        3..=5 => world.set_mood(table, Mood::Up),
        6 => {
            let now = world.now;
            world.tables[table].restart_empty(now);
        }
        7 => world.tables[table].delay = if dice.below(2) == 0 { 200..900 } else { 1..30 },
        8 => drop(world.add_name(&format!("n{}", dice.below(120)))),
        9 => drop(world.remove_name(&format!("n{}", dice.below(120)))),
        10 => {
            let (old, new) = (dice.below(12) + 1, dice.below(12) + 1);
            let (old, new) = (server(&format!("h:{old}")), server(&format!("h:{new}")));
            world.tell(|core, now| core.replace_server(now, &old, &new)).unwrap();
        }
        _ => {
            let count = dice.below(8);
            let names: BTreeSet<_> = (0..count).map(|_| name(&format!("n{}", dice.below(100)))).collect();
            world.set_hanging(table, names);
        }
    }
}

#[test]
fn a_healthy_entry_never_lapses_and_everything_converges_after_healing() {
    for seed in seeds() {
        let replay = Replay(seed);
        let mut dice = SplitMix::new(seed);
        let mut world = world(seed);
        world.run(secs(30));
        assert!(world.converged());
        for _ in 0..60 {
            disturb(&mut world, &mut dice);
            world.run(ms(500 + dice.below(15_000)));
        }
        for table in 0..3 {
            world.set_mood(table, Mood::Up);
            world.set_hanging(table, BTreeSet::new());
            world.tables[table].delay = 1..30;
        }
        // What hangs has to time out, and then one back-off passes.
        let one_back_off = world.config.call_timeout + world.config.retry_max + secs(2);
        world.run(one_back_off);
        for table in 0..3 {
            let (there, wanted) = (world.at(table), world.wanted());
            let missing = wanted.difference(&there).count();
            let extra = there.difference(&wanted).count();
            assert!(missing == 0 && extra == 0, "table {table}: {missing} missing, {extra} extra");
            assert_eq!(world.tables[table].lapses, [], "table {table}");
        }
        assert!(world.core.status().all(|status| status.is_mounted()));
        drop(replay);
    }
}

/// Nobody but the table could tell a request that comes after its time from a new one, so this is not mended within a
/// back-off: what a late withdrawal took away is missed by the next refresh, what a late mount put there lapses, or goes
/// with its lease.
#[test]
fn what_arrives_late_is_mended_within_a_period_and_gone_within_a_time_to_live() {
    for seed in seeds() {
        let replay = Replay(seed);
        let mut dice = SplitMix::new(seed ^ 0x1a7e);
        let mut world = world(seed);
        world.run(secs(30));
        for _ in 0..20 {
            let table = usize::try_from(dice.below(3)).unwrap();
            world.set_mood(table, if dice.below(2) == 0 { Mood::Late } else { Mood::Up });
            disturb(&mut world, &mut dice);
            world.run(ms(500 + dice.below(15_000)));
        }
        for table in 0..3 {
            world.set_mood(table, Mood::Up);
            world.set_hanging(table, BTreeSet::new());
            world.tables[table].delay = 1..30;
        }
        world.run(world.config.call_timeout + ms(LATEST_MS) + world.config.retry_max);
        let (period, ttl) = (world.config.period, world.config.ttl().as_duration());
        world.run(period);
        for table in 0..3 {
            assert_eq!(world.wanted().difference(&world.at(table)).count(), 0, "missing at table {table}");
            assert_eq!(world.tables[table].lapses, [], "table {table}");
        }
        world.run(ttl.saturating_sub(period));
        for table in 0..3 {
            let (there, wanted) = (world.at(table), world.wanted());
            let (extra, missing) = (there.difference(&wanted).count(), wanted.difference(&there).count());
            // What came late onto a lease that is kept stays as long as that.
            let extra = if table == 2 { 0 } else { extra };
            assert_eq!((extra, missing), (0, 0), "extra and missing at table {table}");
        }
        assert!(world.core.status().all(|status| status.is_mounted()));
        world.stop(secs(10));
        world.run(secs(11));
        assert!((0..3).all(|table| world.at(table).is_empty()));
        drop(replay);
    }
}

#[test]
fn a_stop_at_any_moment_withdraws_everything_from_tables_that_answer() {
    for seed in seeds() {
        let replay = Replay(seed);
        let mut dice = SplitMix::new(seed ^ 0x5109);
        let mut world = world(seed);
        for _ in 0..dice.below(12) {
            disturb(&mut world, &mut dice);
            world.run(ms(dice.below(9000)));
        }
        for table in 0..3 {
            world.set_hanging(table, BTreeSet::new());
            world.set_mood(table, Mood::Up);
        }
        world.stop(secs(60));
        world.run(secs(61));
        let (_, report) = world.closed.clone().unwrap();
        assert!(report.left.is_empty());
        assert!((0..3).all(|table| world.at(table).is_empty()));
        assert!(world.settled.values().all(|(_, settled)| matches!(
            settled,
            Settled::Applied | Settled::Superseded | Settled::Stopped
        )));
        drop(replay);
    }
}

#[test]
fn the_number_of_calls_in_flight_never_exceeds_its_limit() {
    for seed in seeds() {
        let replay = Replay(seed);
        let mut dice = SplitMix::new(seed ^ 0x77);
        let mut world = world(seed);
        for _ in 0..20 {
            disturb(&mut world, &mut dice);
            world.run(ms(dice.below(20_000)));
        }
        let limit = world.config.calls_max + world.config.slow_calls_max + 1;
        assert!(
            world.tables.iter().all(|table| table.in_flight_peak <= limit),
            "the one more is the lease's"
        );
        drop(replay);
    }
}

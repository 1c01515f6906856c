//! The scenarios of the publishers that went before, by their numbers in the list of acceptance scenarios.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::Kind;
use cuttlebone_publisher::{Actual, Settled, Work};
use support::{Mood, SimTable, World, ms, name, secs, server};

#[test]
fn s1_s2_s3_names_and_servers_are_published_as_a_cross_product() {
    let mut world = World::one();
    world.add_name("foo");
    world.add_server("h:1");
    world.run(ms(100));
    assert_eq!(world.at(0), [(name("foo"), server("h:1"))].into());
    world.add_server("h:2");
    world.run(ms(100));
    assert_eq!(world.at(0).len(), 2);
    world.add_name("bar");
    world.run(ms(100));
    assert_eq!(world.at(0).len(), 4);
    assert!(world.converged());
}

#[test]
fn s4_a_removed_name_stops_resolving_at_once_and_the_other_stays() {
    let mut world = World::one();
    for text in ["foo", "bar"] {
        world.add_name(text);
    }
    world.add_server("h:1");
    world.run(ms(100));
    let ticket = world.remove_name("foo");
    world.run(ms(100));
    assert_eq!(world.at(0), [(name("bar"), server("h:1"))].into());
    assert_eq!(world.settled[&ticket].1, Settled::Applied);
}

#[test]
fn s5_a_stop_closes_after_the_unmounts() {
    let mut world = World::one();
    world.add_name("foo");
    world.add_server("h:1");
    world.run(ms(100));
    world.stop(secs(5));
    assert!(world.closed.is_none(), "not before they are answered");
    world.run(ms(100));
    let (_, report) = world.closed.clone().unwrap();
    assert!(report.left.is_empty() && world.at(0).is_empty());
}

#[test]
fn s6_s7_s8_the_status_has_a_line_for_each_pair() {
    let mut world = World::one();
    world.add_name("a");
    assert_eq!(world.core.status().count(), 0);
    world.add_server("h:1");
    assert_eq!(world.core.status().count(), 1);
    world.add_server("h:2");
    world.add_name("b");
    assert_eq!(world.core.status().count(), 4);
    for at in ["a", "b"] {
        assert_eq!(world.core.status().filter(|status| status.name == name(at)).count(), 2);
    }
    world.run(ms(100));
    let seen = world.changes.len();
    world.remove_name("a");
    world.run(ms(100));
    assert_eq!(world.core.status().count(), 2);
    let told: Vec<_> = world.changes[seen..].iter().filter(|(_, status)| status.tables.is_empty()).collect();
    assert_eq!(told.len(), 2, "the changes are enough to see it");
}

#[test]
fn s9_s10_without_a_table_an_entry_is_never_mounted_and_can_be_removed() {
    let mut world = World::one();
    world.set_mood(0, Mood::Refuses);
    world.add_server("h:1");
    world.add_name("a");
    assert_eq!(world.core.status().count(), 1);
    for _ in 0..50 {
        world.run(secs(7));
        assert_ne!(world.actual("a", "h:1"), [Actual::Mounted]);
    }
    world.remove_name("a");
    // It may have arrived although nobody answered: what was possible is over after a time to live.
    world.run(secs(100));
    assert_eq!(world.core.status().count(), 0);
}

#[test]
fn adding_twice_is_adding_once() {
    let mut world = World::one();
    let first = world.add_name("a");
    assert_eq!(world.add_name("a"), first);
    world.add_server("h:1");
    world.add_server("h:1");
    world.run(ms(100));
    assert_eq!(world.tables[0].mounts, 1);
}

#[test]
fn another_kind_takes_effect_at_once_and_not_at_the_next_period() {
    let mut world = World::one();
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(1));
    let ticket = world.tell(|core, now| core.add_name(now, &name("a"), Kind::Leaf)).unwrap();
    world.run(ms(100));
    assert_eq!(world.tables[0].entries[&(name("a"), server("h:1"))].kind, Kind::Leaf);
    assert_eq!(world.settled[&ticket].1, Settled::Applied);
}

#[test]
fn w11_r5_a_name_moved_to_another_server_is_never_without_one() {
    let mut world = World::one();
    world.tables[0].delay = 20..400;
    for text in ["a", "b", "c"] {
        world.add_name(text);
    }
    world.add_server("h:1");
    world.run(secs(5));
    let from = world.tables[0].history.len();
    let ticket = world.tell(|core, now| core.replace_server(now, &server("h:1"), &server("h:2"))).unwrap();
    world.run(secs(5));
    assert!(world.converged());
    assert_eq!(world.settled[&ticket].1, Settled::Applied);
    for at in ["a", "b", "c"] {
        let steps: Vec<_> =
            world.tables[0].history[from..].iter().filter(|(_, key, _)| key.0 == name(at)).collect();
        assert_eq!(steps.iter().map(|(_, _, came)| *came).collect::<Vec<_>>(), [true, false], "{at}");
    }
}

#[test]
fn a_replaced_server_is_refreshed_until_its_successor_is_there() {
    let mut world = World::one();
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(1));
    world.set_mood(0, Mood::Hangs);
    world.tell(|core, now| core.replace_server(now, &server("h:1"), &server("h:2"))).unwrap();
    world.run(secs(20));
    world.set_mood(0, Mood::Up);
    world.run(secs(25));
    assert!(world.converged(), "{:?}", world.at(0));
    let gone =
        world.tables[0].history.iter().position(|(_, key, came)| key.1 == server("h:1") && !came).unwrap();
    let came =
        world.tables[0].history.iter().position(|(_, key, came)| key.1 == server("h:2") && *came).unwrap();
    assert!(came < gone);
}

#[test]
fn the_root_and_what_is_beyond_a_limit_are_refused() {
    let mut config = cuttlebone_publisher::Config::default();
    config.names_max = 2;
    config.entries_max = 3;
    let mut world = World::with(config, vec![SimTable::default()], 1);
    assert!(world.tell(|core, now| core.add_name(now, &name("//"), Kind::Server)).is_err());
    world.add_name("a");
    world.add_name("b");
    assert!(world.tell(|core, now| core.add_name(now, &name("c"), Kind::Server)).is_err());
    world.add_server("h:1");
    assert!(world.tell(|core, now| core.add_server(now, &server("h:2"))).is_err(), "four entries");
    world.run(ms(100));
    assert_eq!(world.at(0).len(), 2);
}

#[test]
fn ten_thousand_entries_are_refreshed_within_each_period_and_never_in_a_burst() {
    let mut world = World::new(vec![SimTable { batch_max: 64, ..SimTable::default() }]);
    for at in 0..100 {
        world.add_name(&format!("n{at}"));
    }
    for port in 1..=100 {
        world.add_server(&format!("h:{port}"));
    }
    world.run(secs(60));
    let (calls, mounts) = (world.calls.len(), world.tables[0].mounts);
    world.run(secs(600));
    let mounts = world.tables[0].mounts - mounts;
    assert!(
        (100_000..170_000).contains(&mounts),
        "{mounts} refreshes in ten periods, each after 60 to 90 % of one"
    );
    let mut seconds = std::collections::BTreeMap::new();
    for (at, _, work) in &world.calls[calls..] {
        let Work::Mount(batch) = work else { panic!("{work:?}") };
        *seconds.entry(at.since(Instant::ZERO).as_secs()).or_insert(0) += batch.len();
    }
    let most = seconds.values().max().unwrap();
    assert!(*most < 1_000, "{most} of 10,000 in one second");
    assert!(world.converged() && world.tables[0].lapses.is_empty());
}

//! Each weakness of the publishers that went before, as a test that fails on the old behaviour. `w` are the 24 of the
//! first version, `r` the 8 that the last one kept; 7, 15, 18 and 20 are about how those were written and have no
//! counterpart: there is no timer per turn, no list to scan, no channel to race on, no pre-sized text.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mounttable::{Failure, Kind};
use cuttlebone_publisher::{Actual, Config, Refused, Settled, Work};
use support::{LEASE, Mood, SimTable, World, ms, name, secs, server};

fn many(world: &mut World, count: usize) {
    for at in 0..count {
        world.add_name(&format!("n{at:04}"));
    }
    world.add_server("h:1");
}

#[test]
fn w1_r1_calls_are_answered_and_healthy_tables_served_while_another_hangs() {
    let mut world = World::new(vec![SimTable::default(), SimTable::default()]);
    world.set_mood(0, Mood::Hangs);
    many(&mut world, 50);
    world.run(ms(50));
    assert_eq!(world.at(1).len(), 50, "the hanging table delays nobody");
    world.remove_name("n0007");
    world.run(ms(50));
    assert_eq!(world.at(1).len(), 49);
}

#[test]
fn w2_entries_are_mounted_side_by_side_up_to_the_limit() {
    let mut world = World::one();
    world.tables[0].delay = 50..51;
    many(&mut world, 320);
    world.run(ms(1200));
    assert_eq!(world.at(0).len(), 320, "ten rounds of 32, not 320 of one");
    assert_eq!(world.tables[0].in_flight_peak, 32);
}

#[test]
fn w3_healthy_entries_do_not_lapse_beside_hanging_ones() {
    let mut world = World::one();
    many(&mut world, 100);
    for at in 0..40 {
        world.tables[0].hanging.insert(name(&format!("n{at:04}")));
    }
    world.run(secs(1800));
    assert_eq!(world.tables[0].lapses, []);
    for at in 40..100 {
        assert_eq!(world.actual(&format!("n{at:04}"), "h:1"), [Actual::Mounted]);
    }
    assert!(world.tables[0].in_flight_peak <= 32 + 224);
}

#[test]
fn w4_what_started_together_spreads_out() {
    let mut world = World::one();
    many(&mut world, 600);
    world.run(secs(300));
    let from = world.calls.len();
    world.run(secs(60));
    let mut per_second = [0_u32; 60];
    for (at, ..) in &world.calls[from..] {
        let second = at.since(Instant::ZERO).as_secs().saturating_sub(300);
        per_second[usize::try_from(second).unwrap().min(59)] += 1;
    }
    let peak = per_second.iter().max().unwrap();
    assert!(*peak <= 60, "600 entries in 60 s are 13 a second, not all at once: {per_second:?}");
}

#[test]
fn w5_a_failed_mount_is_retried_soon_and_not_once_a_period() {
    let mut world = World::one();
    world.set_mood(0, Mood::Refuses);
    world.add_name("a");
    let ticket = world.add_server("h:1");
    world.run(ms(500));
    world.set_mood(0, Mood::Up);
    world.run(ms(1000));
    assert_eq!(world.actual("a", "h:1"), [Actual::Mounted]);
    assert_eq!(world.settled[&ticket].1, Settled::Applied);
}

#[test]
fn w5_a_permanently_bad_entry_backs_off_to_the_limit() {
    let mut world = World::one();
    world.tables[0].refused.insert(name("a"));
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(60));
    let from = world.tables[0].mounts;
    world.run(secs(600));
    let tries = world.tables[0].mounts - from;
    assert!((60..=121).contains(&tries), "one in 5 to 10 s, not {tries} in 600");
}

#[test]
fn w6_calls_are_served_while_a_refresh_takes_longer_than_a_period() {
    let mut config = Config::default();
    config.calls_max = 1;
    let mut world = World::with(config, vec![SimTable { delay: 300..301, ..SimTable::default() }], 1);
    many(&mut world, 200); // 120 s of work for each period of 60 s
    world.run(secs(200));
    let before = world.core.status().count();
    world.remove_name("n0001");
    assert_eq!(world.core.status().filter(|s| s.tables[0].actual == Actual::Unmounting).count(), 1);
    assert!(world.core.status().count() <= before);
}

#[test]
fn w8_an_unmount_is_given_up_when_the_entry_cannot_be_there_any_more() {
    let mut world = World::one();
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(1));
    world.set_mood(0, Mood::Hangs);
    world.remove_name("a");
    world.run(secs(60));
    assert_eq!(world.actual("a", "h:1"), [Actual::Unmounting]);
    world.run(secs(60));
    assert_eq!(world.core.status().count(), 0, "after the time to live it is gone by itself");
}

#[test]
fn w9_r2_readding_during_an_unmount_wins_whatever_the_answers() {
    for mood in [Mood::Up, Mood::Hangs, Mood::LosesReplies, Mood::Refuses] {
        let mut world = World::one();
        world.tables[0].delay = 100..101;
        world.add_name("a");
        world.add_server("h:1");
        world.run(secs(1));
        world.set_mood(0, mood);
        let removal = world.remove_name("a");
        world.run(ms(50));
        let addition = world.add_name("a");
        assert_eq!(world.settled[&removal].1, Settled::Superseded);
        world.run(secs(3));
        world.set_mood(0, Mood::Up);
        world.run(secs(21));
        assert!(world.converged() && world.at(0).len() == 1, "{mood:?}");
        assert_eq!(world.settled[&addition].1, Settled::Applied);
    }
}

#[test]
fn w10_r3_a_mount_whose_answer_was_lost_is_unmounted_on_removal() {
    let mut world = World::one();
    world.set_mood(0, Mood::LosesReplies);
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(12));
    assert_eq!(world.at(0).len(), 1, "it is there although nobody said so");
    assert_ne!(world.actual("a", "h:1"), [Actual::Mounted]);
    world.remove_name("a");
    world.set_mood(0, Mood::Up);
    world.run(secs(21));
    assert!(world.at(0).is_empty());
    assert_eq!(world.core.status().count(), 0);
}

#[test]
fn w12_the_status_says_which_replica_failed_and_how() {
    let mut world = World::new(vec![SimTable::default(), SimTable::default()]);
    world.set_mood(1, Mood::Refuses);
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(5));
    let status = world.core.status().next().unwrap();
    assert_eq!(world.actual("a", "h:1"), [Actual::Mounted, Actual::Mounting]);
    assert_eq!(status.tables[0].last_failure, None);
    assert!(matches!(status.tables[1].last_failure, Some(Failure::Unreachable { .. })));
    assert!(!status.is_mounted());
}

#[test]
fn two_replicas_with_one_down_at_mount_and_at_unmount_both_converge() {
    let mut world = World::new(vec![SimTable::default(), SimTable::default()]);
    world.set_mood(1, Mood::Hangs);
    many(&mut world, 20);
    world.run(secs(30));
    world.set_mood(1, Mood::Up);
    world.run(secs(21));
    assert!(world.converged());
    world.set_mood(0, Mood::Hangs);
    world.remove_name("n0003");
    world.run(secs(5));
    assert_eq!(world.at(1).len(), 19, "withdrawn where it can be");
    world.set_mood(0, Mood::Up);
    world.run(secs(21));
    assert!(world.converged() && world.at(0).len() == 19);
}

#[test]
fn w14_names_can_be_removed_and_have_kinds() {
    let mut world = World::one();
    world.tell(|core, now| core.add_name(now, &name("t"), Kind::Table)).unwrap();
    world.add_server("h:1");
    world.run(ms(100));
    assert_eq!(world.tables[0].entries[&(name("t"), server("h:1"))].kind, Kind::Table);
    world.remove_name("t");
    world.run(ms(100));
    assert!(world.at(0).is_empty());
}

/// With a scan of the list for each addition this would be five thousand million comparisons.
#[test]
fn w15_a_hundred_thousand_names_are_added_and_removed_in_the_time_of_a_test() {
    let mut world = World::one();
    let names = world.config.names_max;
    for at in 0..names {
        world.add_name(&format!("folder/n{at}"));
    }
    assert_eq!(world.core.names().count(), names);
    for at in 0..names {
        world.remove_name(&format!("folder/n{at}"));
    }
    assert_eq!(world.core.names().count(), 0);
}

#[test]
fn w16_w17_no_mount_is_sent_once_stop_has_returned_and_every_call_is_answered() {
    let mut world = World::one();
    world.tables[0].delay = 100..101;
    let mut tickets = Vec::new();
    for at in 0..100 {
        tickets.push(world.add_name(&format!("n{at}")));
    }
    tickets.push(world.add_server("h:1"));
    world.run(ms(50));
    world.stop(secs(30));
    let from = world.calls.len();
    assert_eq!(world.tell(|core, now| core.add_name(now, &name("x"), Kind::Server)), Err(Refused::Stopped));
    world.run(secs(31));
    assert!(world.calls[from..].iter().all(|(_, _, work)| matches!(work, Work::Unmount(_))));
    assert!(world.at(0).is_empty(), "also the mounts that were in flight");
    assert!(tickets.iter().all(|ticket| world.settled.contains_key(ticket)));
    assert!(world.closed.is_some());
}

#[test]
fn w21_a_stop_keeps_its_deadline_and_reports_what_is_left() {
    let mut world = World::new(vec![SimTable::default(), SimTable::default()]);
    many(&mut world, 200);
    world.run(secs(5));
    world.set_mood(0, Mood::Hangs);
    world.stop(secs(5));
    world.run(secs(6));
    let (at, report) = world.closed.clone().unwrap();
    assert_eq!(at, Instant::ZERO + secs(10));
    assert_eq!(report.left.len(), 200);
    assert!(report.left.iter().all(|(_, _, table)| *table == 0));
    assert!(world.at(1).is_empty());
    assert_eq!(world.core.poll_timeout(), None, "nothing follows");
}

#[test]
fn w22_a_second_stop_is_no_panic_and_may_only_shorten_the_deadline() {
    let mut world = World::one();
    many(&mut world, 3);
    world.run(secs(1));
    world.set_mood(0, Mood::Hangs);
    world.stop(secs(20));
    world.stop(secs(40));
    world.run(secs(1));
    world.stop(secs(2));
    world.run(secs(3));
    assert_eq!(world.closed.clone().unwrap().0, Instant::ZERO + secs(4));
    world.stop(secs(1));
    world.tell(Machine::handle_timeout);
}

#[test]
fn w24_there_is_no_wall_clock_and_an_early_or_repeated_timeout_changes_nothing() {
    let mut world = World::one();
    many(&mut world, 10);
    world.run(secs(10));
    let (calls, timer) = (world.calls.len(), world.core.poll_timeout());
    for _ in 0..5 {
        world.tell(Machine::handle_timeout);
    }
    assert_eq!((world.calls.len(), world.core.poll_timeout()), (calls, timer));
}

#[test]
fn r4_mounted_is_shown_only_after_a_success_and_only_until_the_local_deadline() {
    let mut world = World::one();
    world.add_name("a");
    world.add_server("h:1");
    world.run(secs(1));
    assert_eq!(world.actual("a", "h:1"), [Actual::Mounted]);
    world.set_mood(0, Mood::Hangs);
    world.run(secs(78));
    assert_eq!(world.actual("a", "h:1"), [Actual::Mounted], "80 s have not passed since the last success");
    let seen = world.changes.len();
    world.run(secs(60));
    assert_eq!(world.actual("a", "h:1"), [Actual::Unmounted]);
    assert_eq!(world.changes[seen].1.tables[0].actual, Actual::Unmounted, "and watchers hear of it at once");
}

#[test]
fn r6_the_status_can_be_read_during_a_stop() {
    let mut world = World::one();
    many(&mut world, 5);
    world.run(secs(1));
    world.set_mood(0, Mood::Hangs);
    world.stop(secs(10));
    world.run(secs(3));
    assert!(world.core.status().all(|status| status.tables[0].actual == Actual::Unmounting));
}

#[test]
fn r7_watchers_hear_of_what_was_asked_for_and_not_only_of_results() {
    let mut world = World::one();
    world.set_mood(0, Mood::Hangs);
    world.add_name("a");
    world.add_server("h:1");
    assert_eq!(world.changes.last().unwrap().1.tables[0].actual, Actual::Mounting);
}

#[test]
fn r8_a_dead_table_costs_a_probe_and_not_a_call_for_every_entry() {
    let mut world = World::one();
    many(&mut world, 5000);
    world.run(secs(100));
    world.set_mood(0, Mood::Hangs);
    world.run(secs(100));
    let from = world.tables[0].calls;
    world.run(secs(300));
    let calls = world.tables[0].calls - from;
    assert!(calls <= 400, "{calls} calls in 300 s to a table that is down");
    world.set_mood(0, Mood::Up);
    world.run(secs(21));
    assert!(world.converged(), "{} of 5000 are back", world.at(0).len());
}

#[test]
fn a_table_that_forgot_everything_is_filled_again_when_the_first_refresh_shows_it() {
    let mut world = World::one();
    many(&mut world, 1000);
    world.run(secs(100));
    let now = world.now;
    world.tables[0].restart_empty(now);
    world.run(secs(2));
    assert!(world.converged(), "{} of 1000 are back", world.at(0).len());
}

#[test]
fn one_hanging_entry_in_a_batch_spoils_the_batch_once() {
    let mut world = World::new(vec![SimTable { batch_max: 64, ..SimTable::default() }]);
    world.tables[0].hanging.insert(name("n0003"));
    many(&mut world, 64);
    world.run(secs(15));
    assert_eq!(world.at(0).len(), 63);
}

#[test]
fn a_lease_is_kept_by_one_call_however_many_entries_there_are() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 2000);
    world.run(secs(1));
    assert!(world.converged());
    let (from, mounts) = (world.tables[0].calls, world.tables[0].mounts);
    world.run(secs(600));
    assert!((110..=130).contains(&(world.tables[0].calls - from)), "one every 5 s, a third of 15 s");
    assert_eq!(world.tables[0].mounts, mounts, "and no entry is mounted again");
    assert!(world.converged());
}

#[test]
fn a_lost_lease_is_followed_by_exactly_one_registration_of_everything() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 1000);
    world.run(secs(20));
    let (now, mounts) = (world.now, world.tables[0].mounts);
    world.tables[0].restart_empty(now);
    world.run(LEASE / 3 + secs(1));
    assert!(world.converged());
    assert_eq!(world.tables[0].mounts - mounts, 1000);
}

#[test]
fn a_lease_that_is_found_lost_by_a_mount_is_lost_for_all() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 300);
    world.run(secs(20));
    let now = world.now;
    world.tables[0].restart_empty(now);
    world.add_name("new");
    world.run(ms(500));
    assert!(world.converged(), "long before the next keep");
}

#[test]
fn on_a_lease_nothing_is_shown_as_mounted_after_its_local_deadline_and_all_comes_back() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 50);
    world.run(secs(20));
    world.set_mood(0, Mood::Hangs);
    world.run(LEASE + secs(1));
    assert!(world.core.status().all(|status| status.tables[0].actual == Actual::Unmounted));
    world.run(secs(60));
    world.set_mood(0, Mood::Up);
    world.run(secs(21));
    assert!(world.converged());
    assert!(world.core.status().all(|status| status.is_mounted()));
}

#[test]
fn a_stop_on_a_lease_is_one_release() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 500);
    world.run(secs(1));
    let from = world.calls.len();
    world.stop(secs(5));
    world.run(secs(1));
    assert!(matches!(world.calls[from..], [(_, _, Work::Release)]));
    assert!(
        world.closed.as_ref().is_some_and(|(_, report)| report.left.is_empty()) && world.at(0).is_empty()
    );
}

#[test]
fn a_stop_during_the_first_registration_on_a_lease_leaves_nothing() {
    let mut world = World::new(vec![SimTable { delay: 200..900, ..SimTable::leased() }]);
    many(&mut world, 1000);
    world.run(ms(700));
    world.stop(secs(20));
    world.run(secs(21));
    assert!(world.at(0).is_empty(), "{}", world.at(0).len());
    assert!(world.closed.is_some());
}

/// Whoever finds a loss may be given up before it can tell, and the next mount begins another lease: the number tells.
#[test]
fn a_loss_that_nobody_could_tell_is_noticed_by_the_number_of_the_next_lease() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 300);
    world.run(secs(2));
    let now = world.now;
    world.tables[0].restart_empty(now);
    world.tables[0].client_lease = None; // found, and not told
    world.add_name("one/more");
    world.run(secs(2));
    assert!(world.converged());
    assert_eq!(world.tables[0].leases, 2);
}

#[test]
fn a_keep_without_a_lease_mounts_everything_again() {
    let mut world = World::new(vec![SimTable::leased()]);
    many(&mut world, 300);
    world.run(secs(2));
    let now = world.now;
    world.tables[0].restart_empty(now);
    world.tables[0].client_lease = None;
    world.run(secs(8)); // a third of the lease and a little more
    assert!(world.converged());
    assert!(world.tables[0].keeps < 6, "{} questions", world.tables[0].keeps);
}

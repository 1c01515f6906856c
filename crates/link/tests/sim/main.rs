//! Two links and a bad network between them, with a clock and dice of their own.
//!
//! The client dials, an acceptor answers. Connections break after any number of bytes, each side hears of it in its
//! own time, bytes arrive in pieces of any size, and both sides crash. Whatever happens, a lossless link delivers
//! every message once and in order, or says that its session was lost.

mod world;

use core::time::Duration;

use cuttlebone_link::{Error, Event, Policy, Start};
use world::{Cut, Direction, MESSAGES, World};

#[test]
fn a_connection_may_break_at_any_byte_of_either_direction() {
    let whole = World::new(0, Policy::Lossless).run();
    let (up, down) = whole.bytes_of_first_connection();
    assert!(up > 1000 && down > 1000, "the loops below would prove nothing");
    for (direction, bytes) in [(Direction::Up, up), (Direction::Down, down)] {
        for at in 0..bytes {
            let seed = u64::try_from(at).expect("a small number");
            let world = World::new(seed, Policy::Lossless).cut(Cut { direction, at }).run();
            world.assert_all_arrived_once_in_order();
        }
    }
}

#[test]
fn connections_that_break_again_and_again_lose_and_double_nothing() {
    let mut resumed = 0;
    for seed in 0..1500 {
        let world = World::new(seed, Policy::Lossless).cut_randomly(8, 1600).run();
        world.assert_all_arrived_once_in_order();
        resumed += world.client_ready.iter().filter(|start| **start == Start::Resumed).count();
    }
    assert!(resumed > 1500, "sessions were resumed {resumed} times");
}

#[test]
fn a_server_that_forgets_makes_the_client_say_so_and_start_anew() {
    let mut resets = 0;
    for seed in 0..500 {
        let world = World::new(seed, Policy::Lossless).cut_randomly(4, 1600).crash_server(2).run();
        resets += world.client_resets;
        world.assert_in_order_between_resets();
        if world.server_crashes == 0 {
            world.assert_all_arrived_once_in_order();
        }
    }
    assert!(resets > 100, "{resets} resets");
}

#[test]
fn a_client_that_crashes_gets_a_new_session_and_its_old_one_ends() {
    for seed in 0..500 {
        let world = World::new(seed, Policy::Lossless).cut_randomly(3, 1600).crash_client(2).run();
        world.assert_in_order_between_resets();
        assert!(world.client_closed.is_empty(), "seed {seed}: {:?}", world.client_closed);
        assert_eq!(world.acceptor_sessions(), 1, "seed {seed}: the sessions of the dead are gone");
    }
}

#[test]
fn a_client_that_comes_back_under_its_old_name_replaces_its_session() {
    let mut replaced = 0;
    for seed in 0..200 {
        let world = World::new(seed, Policy::Lossless).crash_client(1).keep_nonce().run();
        world.assert_in_order_between_resets();
        assert_eq!(world.acceptor_sessions(), 1, "seed {seed}");
        replaced += world.server_closed.iter().filter(|how| **how == Err(Error::Replaced)).count();
        assert!(world.elapsed() < Duration::from_secs(60), "seed {seed}: nobody waited for the old session");
    }
    // The other crashes come before the session was granted.
    assert!(replaced > 40, "{replaced} sessions were replaced");
}

#[test]
fn a_lossy_link_ends_with_its_connection_and_never_doubles() {
    let mut lost = 0;
    for seed in 0..500 {
        let world = World::new(seed, Policy::Lossy).cut_randomly(1, 3000).run();
        world.assert_prefixes_in_order();
        match world.client_closed.as_slice() {
            [] => world.assert_all_arrived_once_in_order(),
            [Err(Error::Disconnected { .. })] => lost += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(lost > 50, "{lost} links were lost");
}

#[test]
fn a_peer_that_falls_silent_is_noticed_and_the_session_survives() {
    let world = World::new(3, Policy::Lossless).fall_silent_after(2000).run();
    world.assert_all_arrived_once_in_order();
    let silent = world.client_lost.iter().any(|error| matches!(error, Error::TimedOut { .. }));
    assert!(silent, "{:?}", world.client_lost);
    assert!(world.elapsed() < Duration::from_secs(120), "{:?}", world.elapsed());
}

#[test]
fn nobody_to_dial_is_given_up_after_the_time_that_was_asked_for() {
    let world = World::new(4, Policy::Lossless).unreachable().run();
    assert_eq!(world.client_closed, [Err(Error::Disconnected { during: "dialling" })]);
    assert!(world.dials > 3, "{} attempts", world.dials);
    let allowed = Duration::from_secs(60)..Duration::from_secs(80);
    assert!(allowed.contains(&world.elapsed()), "{:?}", world.elapsed());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| World::new(seed, Policy::Lossless).cut_randomly(5, 2000).run();
    assert_eq!(run(7).trace, run(7).trace);
    assert_ne!(run(7).trace, run(8).trace);
}

#[test]
fn the_first_event_is_ready_and_the_last_one_closed() {
    let world = World::new(1, Policy::Lossless).run_and_close();
    assert!(matches!(world.client_events.first(), Some(Event::Ready(_))));
    assert_eq!(world.client_events.last(), Some(&Event::Closed(Ok(()))));
    let messages = world.client_events.iter().filter(|event| matches!(event, Event::Message(_)));
    assert_eq!(messages.count(), MESSAGES);
}

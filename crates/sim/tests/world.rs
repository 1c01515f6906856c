//! What a world promises to those who live in it.

use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_sim::{Context, Event, Fault, Network, Node, NodeId, World, for_each_seed};

const ONE: NodeId = NodeId(0);
const OTHER: NodeId = NodeId(1);

/// Sends a numbered message to everybody each 10 ms, and notes everything that happens.
#[derive(Default)]
struct Talker {
    next: u64,
    limit: u64,
    events: Vec<(Instant, Event<u64>)>,
    starts: u64,
    deadline: Option<Instant>,
}

impl Talker {
    fn pair(limit: u64) -> Vec<Self> {
        let talker = || Self { limit, ..Self::default() };
        vec![talker(), talker()]
    }

    fn received(&self) -> Vec<u64> {
        let message = |event: &Event<u64>| match event {
            Event::Message { message, .. } => Some(*message),
            _ => None,
        };
        self.events.iter().filter_map(|(_, event)| message(event)).collect()
    }

    fn happened(&self, wanted: &Event<u64>) -> usize {
        self.events.iter().filter(|(_, event)| event == wanted).count()
    }
}

impl Node for Talker {
    type Message = u64;

    fn start(&mut self, cx: &mut Context<'_, u64>) {
        self.starts += 1;
        cx.wake_after(Duration::from_millis(10), self.starts);
    }

    fn handle(&mut self, cx: &mut Context<'_, u64>, event: Event<u64>) {
        self.events.push((cx.now(), event.clone()));
        match event {
            Event::Wake(life) => {
                assert_eq!(life, self.starts, "an earlier life's wake");
                if self.next < self.limit {
                    self.next += 1;
                    cx.send(NodeId(1 - cx.id().0), self.next);
                    cx.wake_after(Duration::from_millis(10), self.starts);
                }
            }
            Event::Timeout => self.deadline = None,
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

fn always(permille: u64) -> Network {
    Network { resume_permille: permille, half_open_permille: 0, ..Network::default() }
}

fn run(world: &mut World<Talker>) {
    world.run_until(Duration::from_secs(60), |_| false);
}

#[test]
fn a_seed_gives_the_same_world_every_time() {
    for_each_seed(20, |seed| {
        let history = |seed| {
            let mut world = World::new(seed, Network::default(), Talker::pair(50));
            world.chaos(6, Duration::from_millis(500), Duration::from_millis(300));
            run(&mut world);
            [ONE, OTHER].map(|id| format!("{:?}", world[id].events))
        };
        assert_eq!(history(seed), history(seed));
    });
}

#[test]
fn within_a_connection_messages_keep_their_order_and_all_arrive() {
    for_each_seed(50, |seed| {
        let mut world = World::new(seed, Network::default(), Talker::pair(50));
        run(&mut world);
        assert_eq!(world[ONE].received(), (1..=50).collect::<Vec<_>>());
        assert_eq!(world[OTHER].received(), (1..=50).collect::<Vec<_>>());
    });
}

#[test]
fn a_connection_that_is_resumed_loses_nothing_and_one_that_is_not_loses_what_was_on_its_way() {
    let mut lost = 0;
    for seed in 0..50 {
        for resumes in [true, false] {
            let network = always(if resumes { 1000 } else { 0 });
            let mut world = World::new(seed, network, Talker::pair(50));
            world.fault_after(Duration::from_millis(200), Fault::Cut(ONE, OTHER));
            run(&mut world);
            let received = world[OTHER].received();
            assert!(received.is_sorted());
            assert_eq!(world[OTHER].happened(&Event::Disconnected(ONE)), 1);
            let (resumed, reconnected) = (Event::Resumed(ONE), Event::Reconnected(ONE));
            assert_eq!(world[OTHER].happened(&resumed), usize::from(resumes));
            assert_eq!(world[OTHER].happened(&reconnected), usize::from(!resumes));
            if resumes {
                assert_eq!(received.len(), 50);
            } else {
                lost += 50 - received.len();
            }
        }
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_partition_lasts_as_long_as_it_was_told_to() {
    let mut world = World::new(3, always(0), Talker::pair(3000));
    world.fault_after(Duration::from_secs(5), Fault::Partition(ONE, OTHER, Duration::from_secs(10)));
    run(&mut world);
    let (five, fifteen) = (Instant::from_nanos(5_000_000_000), Instant::from_nanos(15_000_000_000));
    let during = |(at, event): &&(Instant, Event<u64>)| {
        *at > five && *at < fifteen && matches!(event, Event::Message { .. })
    };
    assert_eq!(world[OTHER].events.iter().filter(during).count(), 0);
    assert!(world[OTHER].received().contains(&3000));
}

#[test]
fn a_crash_takes_wakes_and_connections_with_it() {
    let mut world = World::new(3, always(1000), Talker::pair(50));
    world.fault_after(Duration::from_millis(105), Fault::Crash(ONE, Duration::from_secs(1)));
    run(&mut world);
    assert_eq!(world[ONE].starts, 2);
    assert_eq!(world[OTHER].happened(&Event::Reconnected(ONE)), 1);
    assert!(world[OTHER].received().len() < 50);
}

#[test]
fn a_jump_moves_one_clock_and_its_deadlines() {
    let mut world = World::new(3, Network::default(), Talker::pair(0));
    for id in [ONE, OTHER] {
        world[id].deadline = Some(Instant::from_nanos(8_000_000_000));
    }
    world.fault_after(Duration::from_secs(1), Fault::Jump(ONE, Duration::from_secs(5)));
    assert!(world.run_until(Duration::from_secs(60), |world| world[ONE].deadline.is_none()));
    assert_eq!(world.age(), Duration::from_secs(3));
    assert!(world.run_until(Duration::from_secs(60), |world| world[OTHER].deadline.is_none()));
    assert_eq!(world.age(), Duration::from_secs(8));
}

#[test]
fn faults_strike_at_the_step_that_was_named() {
    let mut world = World::new(3, Network::default(), Talker::pair(50));
    world.fault_at_step(7, Fault::Crash(ONE, Duration::from_secs(1)));
    while world.steps() < 7 {
        world.step();
    }
    assert_eq!(world[ONE].starts, 1);
    assert!(world.run_until(Duration::from_secs(5), |world| world[ONE].starts == 2));
}

//! Watches, streams and the collecting task, polled by hand: no clock, no runtime.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::pin::pin;
use std::sync::Arc;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    Event, Kind, Limits, Mount, Name, Namespace, Pattern, Permissions, Replicated, SharedTable, Subtree,
    Table, Tag, Watched, Withdrawal,
};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use support::{name, server, ttl, who};

struct World {
    table: SharedTable,
    now: Arc<AtomicU64>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        let clock = move || Instant::from_nanos(clock.load(Ordering::SeqCst));
        Self { table: SharedTable::new(Table::new(limits, who("service")), clock), now }
    }

    fn pass(&self, secs: u64) {
        self.now.fetch_add(secs * 1_000_000_000, Ordering::SeqCst);
    }

    fn mount(&self, at: &str, what: &str, secs: u64) {
        self.table.mount(&who("service"), &Mount::new(name(at), server(what), ttl(secs))).unwrap();
    }
}

fn short(item: Watched) -> String {
    match item {
        Watched::Present(found) => format!("={}", found.name),
        Watched::Listed(_) => ".".into(),
        Watched::Change(change) => {
            let sign = match change.event {
                Event::Mounted { kind: Kind::Server, .. } => '+',
                Event::Mounted { .. } => '?',
                Event::Unmounted => '-',
                Event::Expired => '!',
            };
            format!("{sign}{}", change.name)
        }
    }
}

#[test]
fn a_watch_lists_what_is_there_and_then_tells_every_change_once() {
    let world = World::new(Limits::private());
    world.mount("a/one", "h:1", 60);
    world.mount("b/two", "h:1", 5);
    let mut watch = world.table.watch(who("service"), Pattern::parse("[ab]/*").unwrap()).unwrap();
    let mut next = || watch.next().now_or_never().map(|item| short(item.unwrap().unwrap()));
    assert_eq!([next().unwrap(), next().unwrap(), next().unwrap()], ["=a/one", "=b/two", "."]);
    assert_eq!(next(), None);
    world.mount("a/new", "h:1", 60);
    world.mount("c/elsewhere", "h:1", 60);
    world.mount("a/one", "h:1", 60); // a refresh
    world.pass(6);
    world.table.counters();
    assert_eq!([next().unwrap(), next().unwrap()], ["+a/new", "!b/two"]);
    assert_eq!(next(), None);
}

#[test]
fn a_watcher_that_is_too_slow_is_told_so_and_delays_nobody() {
    let mut limits = Limits::private();
    limits.changes_max = 8;
    let world = World::new(limits);
    let mut watch = world.table.watch(who("service"), Pattern::everything()).unwrap();
    assert!(matches!(watch.next().now_or_never(), Some(Some(Ok(Watched::Listed(_))))));
    for at in 0..20 {
        world.mount(&format!("n{at}"), "h:1", 60);
    }
    assert!(matches!(watch.next().now_or_never(), Some(Some(Err(_)))));
    assert_eq!(watch.next().now_or_never(), Some(None));
}

#[test]
fn a_watcher_hears_neither_of_the_life_nor_of_the_end_of_a_name_that_it_may_not_see() {
    let world = World::new(Limits::private());
    let open = Permissions::none().allow(Tag::Admin, "service").allow(Tag::Read, "...");
    world.table.set_permissions(&who("service"), &Name::root(), &open, None).unwrap();
    let closed = Permissions::none().allow(Tag::Admin, "service");
    world.table.set_permissions(&who("service"), &name("secret"), &closed, None).unwrap();
    let mut watch = world.table.watch(who("stranger"), Pattern::everything()).unwrap();
    world.mount("secret/expires", "h:1", 1);
    world.mount("secret/is/deleted", "h:1", 9);
    world.pass(2);
    world.table.delete(&who("service"), &name("secret"), Subtree::Delete).unwrap();
    world.mount("open", "h:1", 9);
    let heard: Vec<_> = core::iter::from_fn(|| watch.next().now_or_never()).flatten().collect();
    assert_eq!(heard.into_iter().map(|item| short(item.unwrap())).collect::<Vec<_>>(), [".", "+open"]);
}

#[test]
fn watchers_have_a_limit_and_leave_when_they_are_dropped() {
    let mut limits = Limits::private();
    limits.watchers_max = 1;
    let world = World::new(limits);
    let held = world.table.watch(who("a"), Pattern::everything()).unwrap();
    assert!(world.table.watch(who("a"), Pattern::everything()).is_err());
    drop(held);
    world.table.watch(who("a"), Pattern::everything()).unwrap();
}

#[test]
fn a_list_and_its_changes_are_the_next_list() {
    let world = World::new(Limits::private());
    let mut watch = world.table.watch(who("service"), Pattern::everything()).unwrap();
    let mut copy: std::collections::BTreeSet<Name> = std::collections::BTreeSet::new();
    for step in 0_u64..200 {
        let at = format!("n{}/m{}", step * 7 % 13, step * 5 % 11);
        if step % 3 == 0 {
            let all = cuttlebone_mounttable::Which::All;
            world.table.unmount(&who("service"), &name(&at), &all).unwrap();
        } else {
            world.mount(&at, "h:1", step % 17 + 1);
        }
        world.pass(1);
        world.table.counters();
        while let Some(Some(item)) = watch.next().now_or_never() {
            match item.unwrap() {
                Watched::Present(found) => assert!(copy.insert(found.name), "listed twice"),
                Watched::Listed(_) => {}
                Watched::Change(change) => match change.event {
                    Event::Mounted { .. } => assert!(copy.insert(change.name), "mounted twice"),
                    Event::Unmounted | Event::Expired => assert!(copy.remove(&change.name), "gone twice"),
                },
            }
        }
        let mut glob = world.table.glob(who("service"), Name::root(), Pattern::everything());
        let mut now = std::collections::BTreeSet::new();
        while let Some(found) = block_on(glob.next()) {
            let found = found.unwrap();
            if !found.servers.is_empty() {
                now.insert(found.name);
            }
        }
        assert_eq!(copy, now, "step {step}");
    }
}

#[test]
fn s30_a_glob_that_is_dropped_before_it_is_polled_finds_nothing() {
    let world = World::new(Limits::private());
    world.mount("a", "h:1", 60);
    drop(world.table.glob(who("service"), Name::root(), Pattern::everything()));
    let mut glob = world.table.glob(who("service"), Name::root(), Pattern::everything());
    assert!(block_on(glob.next()).is_some(), "and the table is none the worse");
}

#[test]
fn the_collecting_task_wakes_for_the_earliest_expiry_and_tells_watchers() {
    let world = World::new(Limits::private());
    world.mount("late", "h:1", 3600);
    let mut watch = world.table.watch(who("service"), Pattern::everything()).unwrap();
    let slept = core::cell::RefCell::new(Vec::new());
    let now = Arc::clone(&world.now);
    let sleep = |at: Instant| {
        slept.borrow_mut().push(at);
        let now = Arc::clone(&now);
        futures::future::poll_fn(move |_| {
            let over = now.load(Ordering::SeqCst) >= at.as_nanos();
            if over { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
        })
    };
    let mut collect = pin!(world.table.collect(sleep));
    assert!(collect.as_mut().now_or_never().is_none());
    world.mount("soon", "h:1", 5);
    assert!(collect.as_mut().now_or_never().is_none());
    let asked: Vec<Duration> = slept.borrow().iter().map(|at| at.since(Instant::ZERO)).collect();
    assert_eq!(
        asked.iter().map(Duration::as_secs).collect::<Vec<_>>(),
        [3600, 5],
        "woken for the earlier one"
    );
    world.pass(6);
    assert!(collect.as_mut().now_or_never().is_none());
    let seen: Vec<String> = core::iter::from_fn(|| watch.next().now_or_never())
        .map(|item| short(item.unwrap().unwrap()))
        .collect();
    assert_eq!(seen, ["=late", ".", "+soon", "!soon"]);
}

#[test]
fn replicas_all_get_an_entry_and_all_lose_it_and_a_refusal_by_one_is_not_masked() {
    let worlds = [World::new(Limits::private()), World::new(Limits::private())];
    let tables = worlds.iter().map(|world| world.table.namespace(who("pub"))).collect();
    let both = Replicated::new(tables).unwrap();
    let mount = Mount::new(name("a"), server("h:1"), ttl(60));
    assert!(block_on(both.mount(vec![mount.clone()]))[0].is_ok());
    assert!(worlds.iter().all(|world| world.table.counters().servers == 1));
    assert_eq!(block_on(both.resolve(name("a/b"))).unwrap().suffix, name("b"));
    let gone = Withdrawal::new(name("a"), server("h:1"), cuttlebone_mounttable::Epoch(0));
    assert!(block_on(both.unmount(vec![gone])).iter().all(Result::is_ok));
    assert!(worlds.iter().all(|world| world.table.counters().servers == 0));
    // The first replica refuses, the second accepts: the original reported the last result only.
    worlds[0].mount("a", "h:9", 60);
    let other_kind = mount.with_kind(Kind::Table);
    assert!(block_on(both.mount(vec![other_kind]))[0].is_err());
}

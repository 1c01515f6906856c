//! The handle and its driver, on a clock that the test moves and a table in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex};

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    Failure, Kept, Kind, Lease, Limits, LocalNamespace, Mount, Mounted, Name, Namespace, Principal, Resolved,
    SharedTable, Table, Upkeep, Withdrawal,
};
use cuttlebone_publisher::{Actual, Both, Clock, Config, Refused, Settled, publisher};
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt};
use support::{name, secs, server};

#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Watch>>);

#[derive(Default)]
struct Watch {
    now: Instant,
    wakers: Vec<Waker>,
    /// Timers that exist.
    sleeps: usize,
}

impl Hands {
    fn pass(&self, time: core::time::Duration) {
        let mut watch = self.0.lock().unwrap();
        watch.now = watch.now + time;
        watch.wakers.drain(..).for_each(Waker::wake);
    }

    fn sleep(&self, until: Instant) -> Sleep {
        self.0.lock().unwrap().sleeps += 1;
        Sleep(self.clone(), until)
    }
}

struct Sleep(Hands, Instant);

impl Drop for Sleep {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().sleeps -= 1;
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut watch = self.0.0.lock().unwrap();
        if watch.now >= self.1 {
            return Poll::Ready(());
        }
        watch.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        self.0.lock().unwrap().now
    }

    async fn sleep_until(&self, at: Instant) {
        self.sleep(at).await;
    }
}

/// A table that works, or one that swallows every request.
enum Either {
    Works(LocalNamespace),
    Hangs,
}

impl Namespace for Either {
    fn upkeep(&self) -> Upkeep {
        Upkeep::Refresh
    }

    fn batch_max(&self) -> usize {
        8
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        match self {
            Self::Works(table) => table.mount(batch).await,
            Self::Hangs => core::future::pending().await,
        }
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        match self {
            Self::Works(table) => table.unmount(batch).await,
            Self::Hangs => core::future::pending().await,
        }
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        Ok(Kept::Lost { lease: Lease::NONE })
    }

    async fn release(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        match self {
            Self::Works(table) => table.resolve(name).await,
            Self::Hangs => core::future::pending().await,
        }
    }
}

fn start(hanging: bool) -> (Both<Either, Hands>, SharedTable, Hands) {
    let hands = Hands::default();
    let clock = hands.clone();
    let table = SharedTable::new(Table::new(Limits::private(), Principal::new("p")), move || clock.now());
    let mut tables = vec![Either::Works(table.namespace(Principal::new("p")))];
    if hanging {
        tables.push(Either::Hangs);
    }
    (publisher(Config::default(), tables, hands.clone(), 1).unwrap(), table, hands)
}

#[test]
fn names_are_mounted_refreshed_and_withdrawn_by_the_driver() {
    let ((publisher, driver), table, hands) = start(false);
    let mut pool = LocalPool::new();
    let ended = pool.spawner().spawn_local_with_handle(driver.run()).unwrap();
    let server = server("h:1");
    drop(publisher.add_server(&server).unwrap());
    let added = publisher.add_name(&name("a"), Kind::Server).unwrap();
    assert_eq!(pool.run_until(added), Settled::Applied);
    for _ in 0..60 {
        hands.pass(secs(5));
        pool.run_until_stalled();
        assert_eq!(table.counters().servers, 1, "five minutes, a time to live is 80 s");
    }
    assert_eq!(pool.run_until(publisher.add_name(&name("a"), Kind::Server).unwrap()), Settled::Applied);
    publisher.stop(hands.now() + secs(5));
    publisher.stop(hands.now() + secs(5));
    assert!(pool.run_until(publisher.closed()).left.is_empty());
    assert_eq!(table.counters().servers, 0);
    assert!(publisher.add_name(&name("b"), Kind::Server).is_err());
    pool.run_until(ended);
}

#[test]
fn w13_published_says_what_each_table_answers_and_not_who_would_be_responsible() {
    let ((publisher, driver), _table, hands) = start(true);
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(driver.run()).unwrap();
    drop(publisher.add_server(&server("h:1")).unwrap());
    drop(publisher.add_name(&name("a"), Kind::Server).unwrap());
    pool.run_until_stalled();
    let asked = publisher.clone();
    let asking = pool.spawner().spawn_local_with_handle(async move { asked.published().await }).unwrap();
    pool.run_until_stalled();
    hands.pass(secs(11));
    let answers = pool.run_until(asking);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].tables[0].as_ref().unwrap().servers[0].server, server("h:1"));
    assert!(answers[0].tables[1].is_err());
}

#[test]
fn w7_a_stream_of_calls_leaves_no_timers_behind() {
    let ((publisher, driver), _table, hands) = start(true);
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(driver.run()).unwrap();
    drop(publisher.add_server(&server("h:1")).unwrap());
    for at in 0..500 {
        let name = name(&format!("n{}", at % 7));
        drop(if at % 3 == 0 {
            publisher.remove_name(&name)
        } else {
            publisher.add_name(&name, Kind::Server)
        });
        pool.run_until_stalled();
        assert!(hands.0.lock().unwrap().sleeps <= 1, "the driver's");
    }
}

#[test]
fn w18_calls_that_race_with_a_stop_are_all_answered() {
    for round in 0..8 {
        let ((publisher, driver), table, hands) = start(false);
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (publisher, barrier) = (&publisher, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for at in 0..50 {
                        let name = name(&format!("t{thread}/n{}", at % 5));
                        let added = publisher.add_name(&name, Kind::Server);
                        let removed = publisher.remove_name(&name);
                        // Refused from some moment on, and answered before.
                        for answer in [added, removed] {
                            match answer {
                                Ok(pending) => drop(futures::executor::block_on(pending)),
                                Err(refused) => assert_eq!(refused, Refused::Stopped),
                            }
                        }
                    }
                });
            }
            scope.spawn(|| futures::executor::block_on(driver.run()));
            drop(publisher.add_server(&server("h:1")).unwrap());
            barrier.wait();
            for _ in 0..round * 20 {
                std::thread::yield_now();
            }
            publisher.stop(hands.now() + secs(5));
        });
        assert!(publisher.closed().now_or_never().unwrap().left.is_empty());
        assert_eq!(table.counters().servers, 0);
    }
}

#[test]
fn w19_w20_the_debug_text_says_what_is_so_and_stopped_only_when_it_is() {
    let ((publisher, driver), _table, hands) = start(false);
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(driver.run()).unwrap();
    drop(publisher.add_server(&server("h:1")).unwrap());
    drop(publisher.add_name(&name("a/b"), Kind::Server).unwrap());
    pool.run_until_stalled();
    let text = format!("{publisher:?}");
    assert!(text.contains("a/b h:1 Mounted(Server): Mounted") && !text.contains("stopped"), "{text}");
    assert!(
        text.starts_with("publisher with 1 tables") && text.lines().all(|line| !line.is_empty()),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2);
    publisher.stop(hands.now() + secs(1));
    pool.run_until_stalled();
    assert!(format!("{publisher:?}").contains("stopped"));
}

#[test]
fn w23_a_stop_with_a_hanging_table_ends_at_its_deadline_and_says_what_is_left() {
    let ((publisher, driver), table, hands) = start(true);
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(driver.run()).unwrap();
    drop(publisher.add_server(&server("h:1")).unwrap());
    let pending = publisher.add_name(&name("a"), Kind::Server).unwrap();
    pool.run_until_stalled();
    publisher.stop(hands.now() + secs(3));
    pool.run_until_stalled();
    assert_eq!(table.counters().servers, 0, "withdrawn where it can be");
    assert!(publisher.closed().now_or_never().is_none());
    hands.pass(secs(3));
    pool.run_until_stalled();
    let report = publisher.closed().now_or_never().unwrap();
    assert_eq!(report.left, [(name("a"), server("h:1"), 1)]);
    assert_eq!(pending.now_or_never(), Some(Settled::Stopped));
}

#[test]
fn changes_begin_with_what_is_so_and_merge_when_nobody_takes_them() {
    let ((publisher, driver), _table, hands) = start(false);
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(driver.run()).unwrap();
    drop(publisher.add_server(&server("h:1")).unwrap());
    drop(publisher.add_name(&name("a"), Kind::Server).unwrap());
    let mut changes = publisher.changes().unwrap();
    assert_eq!(changes.next().now_or_never().unwrap().unwrap().tables[0].actual, Actual::Mounting);
    pool.run_until_stalled();
    for _ in 0..10 {
        drop(publisher.remove_name(&name("a")).unwrap());
        pool.run_until_stalled();
        drop(publisher.add_name(&name("a"), Kind::Server).unwrap());
        pool.run_until_stalled();
    }
    assert!(changes.next().now_or_never().unwrap().unwrap().is_mounted());
    assert!(changes.next().now_or_never().is_none());
    publisher.stop(hands.now() + secs(1));
    pool.run_until_stalled();
    assert!(changes.next().now_or_never().unwrap().unwrap().tables.is_empty());
    assert_eq!(changes.next().now_or_never(), Some(None), "closed");
}

#[test]
fn a_driver_that_never_ran_still_lets_calls_return() {
    let ((publisher, _driver), table, _hands) = start(false);
    for at in 0..1000 {
        drop(publisher.add_name(&name(&format!("n{at}")), Kind::Server).unwrap());
    }
    drop(publisher.add_server(&server("h:1")).unwrap());
    assert_eq!(publisher.status().len(), 1000);
    assert_eq!(table.counters().servers, 0);
}

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, and its readers pause when idle"
)]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Mutex;
use std::time::Instant as Clock;

use cuttlebone_checkpoint::{Droppable, FetchLimit, Item, Resume};
use cuttlebone_machine::Instant;
use serde_json::{Value, json};

use crate::single::{per, unlimited};
use crate::{Keys, Source, VALUE_BYTES, peak_memory, process_cpu};

/// How long a reader waits when there is nothing to read, as the readers of the measured ancestor do.
const IDLE: Duration = Duration::from_micros(50);

/// One writer, persistence and three replication cursors, each on a thread of its own, until all have everything.
pub(crate) fn log(per_checkpoint: usize, size: u64) -> Value {
    let log = Mutex::new(unlimited(per_checkpoint));
    let cursors: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|name| {
            let mut log = log.lock().expect("no thread has panicked");
            log.register(name, Droppable::No, Resume::Oldest).expect("there is room").cursor
        })
        .collect();
    let delivered = AtomicU64::new(0);
    let (memory, cpu, start) = (peak_memory(), process_cpu(), Clock::now());
    std::thread::scope(|scope| {
        for cursor in cursors {
            let (log, delivered) = (&log, &delivered);
            scope.spawn(move || {
                let mut read = 0;
                while read < size {
                    let batch =
                        log.lock().expect("no panic").fetch(cursor, FetchLimit::default()).expect("is there");
                    if batch.is_empty() {
                        std::thread::sleep(IDLE);
                    }
                    read += batch.items().filter(|item| !item.value().is_empty()).count() as u64;
                }
                delivered.fetch_add(read, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let mut read = 0;
            while read < size {
                let taken = log.lock().expect("no panic").take(FetchLimit::ALL).expect("no flush is open");
                let Some(flush) = taken else {
                    std::thread::sleep(IDLE);
                    continue;
                };
                read += flush.batch().items().filter(|item| !item.value().is_empty()).count() as u64;
                let freed = log.lock().expect("no panic").commit(&flush).expect("the flush is open");
                drop((flush, freed));
            }
            delivered.fetch_add(read, Ordering::Relaxed);
        });
        let mut source = Source::new(Keys::Distinct, per_checkpoint);
        for _ in 0..size {
            let item = Item::set(source.next(), &[b'v'; VALUE_BYTES]).expect("within the limits");
            log.lock().expect("no panic").queue(Instant::ZERO, item).expect("no limit is reached");
        }
    });
    report(size, start.elapsed(), process_cpu() - cpu, delivered.into_inner(), peak_memory() - memory)
}

/// The same with a broadcast channel and a map under a lock.
pub(crate) fn broadcast(size: u64) -> Value {
    use std::collections::HashMap;
    use std::sync::Arc;
    use tokio::sync::broadcast::{channel, error::TryRecvError};
    type Change = (Arc<[u8]>, Arc<[u8]>);
    type Map = HashMap<Arc<[u8]>, Arc<[u8]>>;
    let (sender, _) = channel::<Change>(1 << 21);
    let map: Mutex<Map> = Mutex::default();
    let (memory, cpu, start) = (peak_memory(), process_cpu(), Clock::now());
    let delivered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (mut receiver, delivered) = (sender.subscribe(), &delivered);
            scope.spawn(move || {
                let mut read = 0;
                while read < size {
                    match receiver.try_recv() {
                        Ok((_, value)) => read += u64::from(!value.is_empty()),
                        Err(TryRecvError::Empty) => std::thread::sleep(IDLE),
                        Err(TryRecvError::Lagged(lost)) => read += lost,
                        Err(TryRecvError::Closed) => break,
                    }
                }
                delivered.fetch_add(read, Ordering::Relaxed);
            });
        }
        let mut source = Source::new(Keys::Distinct, 5_000);
        for _ in 0..size {
            let change: Change = (Arc::from(source.next()), Arc::from(&[b'v'; VALUE_BYTES][..]));
            map.lock().expect("no panic").insert(Arc::clone(&change.0), Arc::clone(&change.1));
            let _ = sender.send(change);
        }
    });
    report(size, start.elapsed(), process_cpu() - cpu, delivered.into_inner(), peak_memory() - memory)
}

fn report(size: u64, wall: Duration, cpu: u64, delivered: u64, memory: u64) -> Value {
    let nanos = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "writes_per_s": size.saturating_mul(1_000_000_000) / nanos.max(1),
        "delivered_per_s": delivered.saturating_mul(1_000_000_000) / nanos.max(1),
        "process_cpu_ns_per_write": per(cpu, size),
        "peak_extra_bytes": memory,
    })
}

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_checkpoint::{ChangeLog, Durability, FetchLimit, Item, Limits, Start};
use cuttlebone_machine::Instant;
use serde_json::{Value, json};

use crate::{Keys, Source, VALUE_BYTES, peak_memory, thread_cpu};

/// How many operations lie between two drains.
const DRAIN_EVERY: u64 = 5_000;

pub(crate) fn unlimited(per_checkpoint: usize) -> ChangeLog {
    let limits = Limits {
        items_max: per_checkpoint,
        checkpoint_bytes_max: usize::MAX / 4,
        memory_max: usize::MAX / 2,
        age_max: Duration::from_secs(3600),
        cursors_max: 8,
    };
    ChangeLog::new(Instant::ZERO, Start::default(), Durability::Persisted, limits, 7)
        .expect("limits in range")
}

/// Queues without reading.
pub(crate) fn queue(keys: Keys, per_checkpoint: usize, size: u64) -> Value {
    let mut source = Source::new(keys, per_checkpoint);
    let mut log = unlimited(per_checkpoint);
    let value = [b'v'; VALUE_BYTES];
    let (memory, start) = (peak_memory(), thread_cpu());
    for _ in 0..size {
        let item = Item::set(source.next(), &value).expect("within the limits");
        log.queue(Instant::ZERO, item).expect("no limit is reached");
    }
    let spent = thread_cpu() - start;
    let memory = peak_memory() - memory;
    let left = log.status().mutations;
    let begin = thread_cpu();
    let flush = log.take(FetchLimit::ALL).expect("no flush is open").expect("there are items");
    let read = flush.batch().items().map(|item| item.value().len()).sum::<usize>();
    let fetch = thread_cpu() - begin;
    json!({
        "cpu_ns_per_op": per(spent, size),
        "items_left": left,
        "peak_bytes_per_item": per(memory, left),
        "accounted_bytes_per_item": per(log.memory() as u64, left),
        "fetch_and_read_ns_per_item": per(fetch, left),
        "bytes_read": read,
    })
}

/// One checkpoint, written by hand: what is newest of each key, and in which order that came.
#[derive(Default)]
struct ByHand {
    newest: HashMap<Bytes, (u64, Bytes)>,
    order: VecDeque<(u64, Bytes)>,
}

impl ByHand {
    fn is_newest(&self, (seqno, key): &(u64, Bytes)) -> bool {
        self.newest.get(key).is_some_and(|(newest, _)| newest == seqno)
    }

    /// Drops the places of what was overwritten when there are as many as of what was not.
    fn queue(&mut self, seqno: u64, key: Bytes, value: Bytes) {
        self.newest.insert(key.clone(), (seqno, value));
        self.order.push_back((seqno, key));
        if self.order.len() > 2 * self.newest.len() + 64 {
            let mut order = core::mem::take(&mut self.order);
            order.retain(|place| self.is_newest(place));
            self.order = order;
        }
    }
}

/// Queues without reading into maps and queues of the standard library: no cursor, no limit, no fetch by reference. Shows
/// what keys and values of this size and number cost on this machine in any case.
pub(crate) fn by_hand(keys: Keys, per_checkpoint: usize, size: u64) -> Value {
    let mut source = Source::new(keys, per_checkpoint);
    let (mut closed, mut open) = (Vec::new(), ByHand::default());
    let value = [b'v'; VALUE_BYTES];
    let (memory, start) = (peak_memory(), thread_cpu());
    for seqno in 0..size {
        if open.newest.len() == per_checkpoint {
            closed.push(core::mem::take(&mut open));
        }
        open.queue(seqno, Bytes::copy_from_slice(source.next()), Bytes::copy_from_slice(&value));
    }
    let spent = thread_cpu() - start;
    let memory = peak_memory() - memory;
    closed.push(open);
    let left: u64 = closed.iter().map(|checkpoint| checkpoint.newest.len() as u64).sum();
    json!({
        "cpu_ns_per_op": per(spent, size),
        "items_left": left,
        "peak_bytes_per_item": per(memory, left),
    })
}

/// Queues, and lets persistence take, commit and free everything every few thousand operations.
pub(crate) fn drain(keys: Keys, per_checkpoint: usize, size: u64) -> Value {
    let mut source = Source::new(keys, per_checkpoint);
    let mut log = unlimited(per_checkpoint);
    let value = [b'v'; VALUE_BYTES];
    let (mut queueing, mut draining, mut drained) = (0, 0, 0);
    let memory = peak_memory();
    for _ in 0..size / DRAIN_EVERY {
        let start = thread_cpu();
        for _ in 0..DRAIN_EVERY {
            let item = Item::set(source.next(), &value).expect("within the limits");
            log.queue(Instant::ZERO, item).expect("no limit is reached");
        }
        let queued = thread_cpu();
        let flush = log.take(FetchLimit::ALL).expect("no flush is open").expect("there are items");
        drained += flush.batch().items().filter(|item| !item.value().is_empty()).count() as u64;
        let freed = log.commit(&flush).expect("the flush is open");
        drop((flush, freed));
        queueing += queued - start;
        draining += thread_cpu() - queued;
    }
    json!({
        "queue_cpu_ns_per_op": per(queueing, size),
        "drain_cpu_ns_per_item": per(draining, drained),
        "total_cpu_ns_per_op": per(queueing + draining, size),
        "drained": drained,
        "peak_extra_bytes": peak_memory() - memory,
    })
}

/// What one would take otherwise: a map of current values and a channel that hands every change to everybody.
pub(crate) fn broadcast(keys: Keys, per_checkpoint: usize, size: u64) -> Value {
    type Change = (Arc<[u8]>, Arc<[u8]>);
    let mut source = Source::new(keys, per_checkpoint);
    let value = [b'v'; VALUE_BYTES];
    let (sender, mut receiver) = tokio::sync::broadcast::channel::<Change>(8192);
    // The map that de-duplicates what persistence has not written yet.
    let mut dirty: HashMap<Arc<[u8]>, Arc<[u8]>> = HashMap::new();
    let (mut queueing, mut draining, mut drained) = (0, 0, 0);
    for _ in 0..size / DRAIN_EVERY {
        let start = thread_cpu();
        for _ in 0..DRAIN_EVERY {
            let change: Change = (Arc::from(source.next()), Arc::from(&value[..]));
            dirty.insert(Arc::clone(&change.0), Arc::clone(&change.1));
            let _ = sender.send(change);
        }
        let queued = thread_cpu();
        let mut read = 0;
        while let Ok((key, _)) = receiver.try_recv() {
            read += key.len();
        }
        drained += dirty.drain().filter(|(key, _)| key.len() <= read).count() as u64;
        queueing += queued - start;
        draining += thread_cpu() - queued;
    }
    json!({
        "queue_cpu_ns_per_op": per(queueing, size),
        "drain_cpu_ns_per_item": per(draining, drained),
        "total_cpu_ns_per_op": per(queueing + draining, size),
        "drained": drained,
    })
}

/// A quotient with one digit behind the point.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn per(total: u64, count: u64) -> f64 {
    (total as f64 / count.max(1) as f64 * 10.0).round() / 10.0
}

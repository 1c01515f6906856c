//! A change feed with two consumers: one reads seldom, one is restarted and goes on where it was.

use std::collections::BTreeMap;

use cuttlebone_checkpoint::{
    ChangeLog, CursorId, Droppable, Durability, FetchLimit, Item, Limits, Op, Resume, Seqno, Start,
};
use cuttlebone_machine::Instant;

/// A consumer that keeps a copy, and remembers how far it is.
#[derive(Default)]
struct Copy {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    through: Seqno,
    read: usize,
}

impl Copy {
    fn follow(&mut self, log: &mut ChangeLog, cursor: CursorId) -> anyhow::Result<()> {
        let batch = log.fetch(cursor, FetchLimit::default())?;
        for item in batch.items() {
            self.read += 1;
            match item.op() {
                Op::Set => self.values.insert(item.key().to_vec(), item.value().to_vec()),
                Op::Delete => self.values.remove(item.key()),
            };
        }
        self.through = batch.through();
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let now = Instant::ZERO;
    let mut log = ChangeLog::new(now, Start::default(), Durability::MemoryOnly, Limits::default(), 42)?;
    let slow_cursor = log.register("slow", Droppable::Yes, Resume::Oldest)?.cursor;
    let mut cursor = log.register("restarted", Droppable::Yes, Resume::Oldest)?.cursor;
    let (mut slow, mut restarted) = (Copy::default(), Copy::default());

    for round in 0..1000_u32 {
        let key = format!("sensor/{}", round % 10);
        log.queue(now, Item::set(key.as_bytes(), &round.to_be_bytes())?)?;
        restarted.follow(&mut log, cursor)?;
        if round == 500 {
            // It dies here, and comes back with nothing but the seqno that it had stored beside its copy.
            drop(log.unregister(cursor)?);
            log.queue(now, Item::delete(b"sensor/3")?)?;
            let again = log.register("restarted", Droppable::Yes, Resume::After(restarted.through))?;
            println!(
                "restarted after {}, goes on with {}, backfill: {}",
                restarted.through, again.next, again.backfill
            );
            cursor = again.cursor;
        }
    }
    slow.follow(&mut log, slow_cursor)?;

    println!("the quick one read {} mutations, the slow one {}", restarted.read, slow.read);
    anyhow::ensure!(slow.values == restarted.values, "both have the same values");
    anyhow::ensure!(slow.through == log.last_seqno(), "both are at the end");
    println!("both have {} keys as of {}", slow.values.len(), slow.through);
    Ok(())
}

//! A node with a source of one's own: it counts, into a bucket that other nodes could follow.
//!
//! `cargo run -p cuttlebone-node --example own_source`

use core::time::Duration;

use anyhow::Result;
use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Error as BucketError, Mode, Now, VbucketState};
use cuttlebone_checkpoint::Item;
use cuttlebone_node::{BuildError, Error, Ground, Node, Plan, Replicas, Running, Source};

/// Sets `count` to 1, 2, 3, … and goes on where the bucket says that it was.
struct Counter {
    every: Duration,
}

const VBUCKET: u16 = 0;
const KEY: &[u8] = b"count";

impl Source for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        let (part, why) = (self.name().into(), "a counter without a bucket has nothing to count in".into());
        if plan.bucket { Ok(()) } else { Err(BuildError::Refused { part, why }) }
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        Box::pin(async move {
            let Some(bucket) = ground.bucket() else { return Ok(()) };
            match bucket.create(VBUCKET, ground.now(), VbucketState::Active) {
                Ok(()) | Err(BucketError::Exists) => {}
                Err(error) => return Err(error.into()),
            }
            ground.ready();
            loop {
                let last = bucket.get(VBUCKET, ground.now(), KEY).ok();
                let last = last.and_then(|found| found.item.value().first_chunk().copied());
                let next = last.map_or(0, u64::from_le_bytes) + 1;
                let item = Item::set(KEY, &next.to_le_bytes()).map_err(BucketError::from)?;
                bucket.set(VBUCKET, ground.now(), item, Mode::Set).map_err(Error::from)?;
                ground.source(|source| source.items_total += 1);
                tokio::select! {
                    () = tokio::time::sleep(self.every) => {}
                    () = ground.stopping() => return Ok(()),
                }
            }
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = LogEngine::open(dir.path())?;
    let bucket = Bucket::open(disk, BucketLimits::default(), Now::default(), 1)?;
    let node = Node::builder()
        .name("counter")
        .bucket(bucket.clone())
        .source(Counter { every: Duration::from_millis(1) })
        .listen(([127, 0, 0, 1], 0).into())
        .sink(Replicas::new())
        .build()?;
    node.run(tokio::time::sleep(Duration::from_secs(1))).await?;
    let found = bucket.peek(VBUCKET, KEY)?;
    println!("counted to {:?}", found.item.value().first_chunk().copied().map(u64::from_le_bytes));
    Ok(())
}

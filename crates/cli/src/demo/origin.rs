use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_mon::{MonInfo, MonMap};
use cuttlebone_store::{Ingest, Limits, NewPoint, Origin as PointOrigin, Pull, Writer};
use cuttlebone_wire::{Decode, Encode, EntityAddr, Features, Op, Reader, Transaction, Uuid};

/// A store that looks like a monitor's, made up for the demonstration; commits are made by hand.
pub(super) struct Origin {
    dir: PathBuf,
    version: u64,
    fsid: Uuid,
    chance: SplitMix,
}

/// Small values, like most of a monitor's.
const SMALL: (u64, usize) = (20_000, 400);
/// Large values, like full maps.
const LARGE: (u64, usize) = (1_200, 65_536);
/// Bytes of values in one transaction.
const BATCH_BYTES: usize = 1 << 20;
/// The oldest version that the store still has; above 1, as in every store that is older than a few hours.
const FIRST_VERSION: u64 = 8;
/// The version at which the store begins.
const START_VERSION: u64 = 10;
/// Bytes of the value that one commit sets.
const COMMIT_BYTES: usize = 300;

impl Origin {
    /// Makes the store in `dir`. The same seed as ever, but an identity of its own.
    pub(super) fn found(dir: &Path) -> Result<Self> {
        let mut chance = SplitMix::new(0x5e9a_50f7);
        let mut fsid = [0; 16];
        getrandom::fill(&mut fsid).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let mut origin =
            Self { dir: dir.into(), version: START_VERSION, fsid: Uuid(fsid), chance: chance.fork() };
        let mut writer = Writer::open(dir, Limits::default())?;
        let mut ingest = writer.begin(Pull::Full { start: START_VERSION })?;
        origin.fill(&mut ingest)?;
        ingest.replay(START_VERSION..=START_VERSION)?;
        ingest.commit(origin.point())?;
        Ok(origin)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Commits `count` versions, each of which sets one key.
    pub(super) fn commit(&mut self, count: u64) -> Result<()> {
        let mut writer = Writer::open(&self.dir, Limits::default())?;
        let from = self.version;
        let mut ingest = writer.begin(Pull::Recent { from })?;
        for _ in 0..count {
            self.version += 1;
            let op = self.committed(self.version);
            append(&mut ingest, vec![op])?;
        }
        ingest.replay(from + 1..=self.version)?;
        ingest.commit(self.point())?;
        Ok(())
    }

    /// Every key in the order in which a monitor sends them: that of prefixes and keys.
    fn fill(&mut self, ingest: &mut Ingest<'_>) -> Result<()> {
        let mut batch = Batch::default();
        for i in 0..LARGE.0 {
            let value = self.value(LARGE.1);
            batch.push(ingest, Op::put("mon_config_key", format!("demo/large/{i:06}"), value))?;
        }
        for i in 0..SMALL.0 {
            let value = self.value(SMALL.1);
            batch.push(ingest, Op::put("mon_config_key", format!("demo/small/{i:06}"), value))?;
        }
        batch.push(ingest, Op::put("monmap", "1", self.monmap()))?;
        batch.push(ingest, Op::put("monmap", "first_committed", number(1)))?;
        batch.push(ingest, Op::put("monmap", "last_committed", number(1)))?;
        for version in FIRST_VERSION..=START_VERSION {
            let op = self.committed(version);
            batch.push(ingest, op)?;
        }
        batch.push(ingest, Op::put("paxos", "first_committed", number(FIRST_VERSION)))?;
        batch.push(ingest, Op::put("paxos", "last_committed", number(START_VERSION)))?;
        batch.flush(ingest)
    }

    /// One version as a monitor keeps it: a transaction as a value.
    fn committed(&mut self, version: u64) -> Op {
        let value = self.value(COMMIT_BYTES);
        let change = Op::put("mon_config_key", format!("demo/commit/{version:08}"), value);
        let transaction = Transaction::new(vec![change]).to_bytes(Features::PACIFIC);
        Op::put("paxos", version.to_string(), transaction)
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(len + 8);
        while value.len() < len {
            value.extend(self.chance.next_u64().to_le_bytes());
        }
        value.truncate(len);
        value
    }

    fn monmap(&self) -> Bytes {
        let mut map = MonMap::default();
        map.fsid = self.fsid;
        map.epoch = 1;
        let addr: EntityAddr = EntityAddr::v2(([127, 0, 0, 1], 3300).into());
        map.mons.insert("demo".into(), MonInfo::new("demo", addr.into()));
        map.ranks.push("demo".into());
        map.to_bytes(Features::PACIFIC)
    }

    fn point(&self) -> NewPoint {
        let origin = PointOrigin { fsid: self.fsid, provider: "demo".into() };
        NewPoint { last_committed: self.version, origin, ..NewPoint::default() }
    }
}

/// Operations that gather until they make a transaction.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, ingest: &mut Ingest<'_>, op: Op) -> Result<()> {
        self.bytes += op.value.len();
        self.ops.push(op);
        if self.bytes < BATCH_BYTES { Ok(()) } else { self.flush(ingest) }
    }

    fn flush(&mut self, ingest: &mut Ingest<'_>) -> Result<()> {
        self.bytes = 0;
        append(ingest, core::mem::take(&mut self.ops))
    }
}

/// Hands a transaction over as one that was received: encoded, and decoded from those bytes.
fn append(ingest: &mut Ingest<'_>, ops: Vec<Op>) -> Result<()> {
    let raw = Transaction::new(ops).to_bytes(Features::PACIFIC);
    let transaction = Transaction::decode(&mut Reader::new(&raw))?;
    Ok(ingest.append(&raw, &transaction)?)
}

fn number(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_le_bytes())
}

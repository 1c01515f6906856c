use core::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Transaction, crc32c};

use crate::builder::{Builder, Built, LAST_COMMITTED, PAXOS, Start};
use crate::generation::{Begin, Generation, write_changes, write_point};
use crate::layers::Layers;
use crate::limits::{GENERATIONS_MAX, PROVIDER_BYTES_MAX};
use crate::log::{HEADER_BYTES, Log, LogWriter, RecordKind, join_key, key_crc};
use crate::manifest::GenerationMeta;
use crate::point::{PlacedPoint, Summary};
use crate::run::Run;
use crate::writer::Active;
use crate::{Error, NewPoint, Point, PointId, PointKind, ProviderFault, Writer};

/// What is about to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pull {
    /// Every key, as of paxos version `start`, with newer versions among them. Begins a generation.
    Full {
        /// The version from which the caller will replay.
        start: u64,
    },
    /// The versions after `from`, which is the latest point's. Continues its generation.
    Recent {
        /// The latest point's `last_committed`.
        from: u64,
    },
    /// The content of an earlier point. Begins a generation.
    Rebase,
    /// Transactions to be applied as they are. Continues the generation, or begins the first.
    Batch,
}

impl Pull {
    pub(crate) const fn kind(self) -> PointKind {
        match self {
            Self::Full { .. } => PointKind::Full,
            Self::Recent { .. } => PointKind::Recent,
            Self::Rebase => PointKind::Rebase,
            Self::Batch => PointKind::Batch,
        }
    }

    const fn from(self) -> u64 {
        match self {
            Self::Full { start } => start,
            Self::Recent { from } => from,
            Self::Rebase | Self::Batch => 0,
        }
    }
}

/// A pull in progress. It is invisible until [`commit`](Self::commit), and dropping it gives it up.
#[derive(Debug)]
pub struct Ingest<'a> {
    writer: &'a mut Writer,
    kind: PointKind,
    id: PointId,
    /// The generation being continued; `None` for one that begins.
    base: Option<Generation>,
    number: u64,
    log: LogWriter,
    builder: Builder,
    /// Set by the first failure: what came after it is missing.
    failed: bool,
}

impl<'a> Ingest<'a> {
    pub(crate) fn begin(writer: &'a mut Writer, pull: Pull) -> Result<Self, Error> {
        let kind = pull.kind();
        let base = writer.active.as_ref().filter(|_| !kind.is_base());
        if let Pull::Recent { from } = pull
            && base.and_then(|base| base.generation.latest()).map(|latest| latest.point.last_committed)
                != Some(from)
        {
            return Err(Error::Misuse("a recent pull continues the latest point"));
        }
        let id = PointId(writer.manifest.next_point);
        let disk = &*writer.disk;
        let streams = base.is_none();
        let (start, log) = if let Some(Active { generation, summary }) = base {
            let GenerationMeta { number, log_end, next_run, .. } = generation.meta;
            let (beneath, summary) = (generation.layers.clone(), summary.clone());
            let start = Start { generation: number, point: id.0, next_run, beneath, summary, streams };
            (start, LogWriter::reopen(disk, number, log_end)?)
        } else {
            let number = writer.manifest.next_generation;
            let (beneath, summary) = (Layers::default(), Summary::default());
            let start = Start { generation: number, point: id.0, next_run: 0, beneath, summary, streams };
            (start, LogWriter::create(disk, number)?)
        };
        let (number, base) = (start.generation, base.map(|base| base.generation.clone()));
        let builder = Builder::new(Arc::clone(&writer.disk), writer.limits.clone(), start)?;
        let mut ingest = Self { writer, kind, id, base, number, log, builder, failed: false };
        let begin = Begin { kind, from: pull.from(), point: id.0 };
        ingest.log.record(RecordKind::Begin, &[&begin.to_bytes()])?;
        Ok(ingest)
    }

    /// Takes in one transaction: `raw` as it was received, and what it decodes to. Not durable before the commit.
    ///
    /// The values of `transaction` have to share the memory of `raw`, as those of a decoder do.
    ///
    /// # Errors
    ///
    /// [`Error::Provider`] for what no store can hold, and what the disk says. After any error the pull is lost.
    pub fn append(&mut self, raw: &Bytes, transaction: &Transaction) -> Result<(), Error> {
        self.step(|ingest| {
            let at = ingest.log.record(RecordKind::Chunk, &[raw])?;
            ingest.builder.apply(transaction, raw, at)
        })
    }

    /// Applies the transactions in `paxos:<first> ..= paxos:<last>` in the order of versions, and sets
    /// `paxos:last_committed` to the last.
    ///
    /// # Errors
    ///
    /// [`Error::Provider`] if one is missing or malformed, and what the disk says. After any error the pull is lost.
    pub fn replay(&mut self, versions: RangeInclusive<u64>) -> Result<(), Error> {
        let (first, last) = versions.into_inner();
        self.step(|ingest| {
            let at = ingest.log.record(RecordKind::Replay, &[&first.to_le_bytes(), &last.to_le_bytes()])?;
            let log = ingest.readable()?;
            ingest.builder.replay(&log, first, last)?;
            ingest.builder.set_last_committed(last, at + 8)
        })
    }

    /// Makes the pull a point. When this returns, the point is durable and every reader can see it.
    ///
    /// # Errors
    ///
    /// [`Error::Provider`] if the copy's own last version is another than `new` says, and what the disk says. The
    /// pull is then lost, and earlier points are intact.
    pub fn commit(mut self, new: NewPoint) -> Result<Point, Error> {
        self.step(|ingest| ingest.check_last_committed(new.last_committed))?;
        let Self { writer, kind, id, base, number, mut log, builder, .. } = self;
        let Built { summary, runs, changes, next_run } = builder.finish(!kind.is_base() && base.is_some())?;
        let totals = summary.totals();
        let mut origin = new.origin;
        while origin.provider.len() > PROVIDER_BYTES_MAX {
            origin.provider.pop();
        }
        let point = Point {
            id,
            kind,
            time: new.time,
            last_committed: new.last_committed,
            keys: totals.keys,
            bytes: totals.bytes,
            digest: summary.digest,
            origin,
            generation: number,
        };
        let inline = || changes.iter().map(|(key, change)| (&**key, *change));
        write_changes(&mut log, id.0, inline())?;
        let record_at = write_point(&mut log, &point, &summary)? - HEADER_BYTES as u64;
        let log_end = log.sync()?;
        let placed = PlacedPoint { point: point.clone(), record_at };

        let mut generation = match base {
            Some(base) => base,
            None => Generation {
                meta: GenerationMeta {
                    number,
                    log_end,
                    tail_from: record_at,
                    next_run,
                    last_point: id.0,
                    runs: Vec::new(),
                },
                log: Log::open(&*writer.disk, number, log_end)?,
                layers: Layers::default(),
                tail_points: Vec::new(),
            },
        };
        for meta in &runs {
            generation.layers.runs.push(Arc::new(Run::open(&*writer.disk, number, *meta)?));
        }
        for (key, change) in inline() {
            generation.layers.push_tail(key, id.0, change);
        }
        generation.meta.runs.extend(runs);
        generation.meta.log_end = log_end;
        generation.meta.next_run = next_run;
        generation.meta.last_point = id.0;
        generation.log = generation.log.extended(log_end);
        generation.tail_points.push(placed);
        writer.add_point(generation, summary)?;
        Ok(point)
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.failed {
            return Err(Error::Misuse("the pull has failed before"));
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    /// What the log holds so far, for reading.
    fn readable(&mut self) -> Result<Log, Error> {
        let end = self.log.flush()?;
        Log::open(&*self.writer.disk, self.number, end)
    }

    /// A copy of a monitor's store knows its own version. Transactions of another kind of store need not.
    fn check_last_committed(&mut self, expected: u64) -> Result<(), Error> {
        if self.kind == PointKind::Batch {
            return Ok(());
        }
        let found = match self.builder.get(PAXOS, LAST_COMMITTED)? {
            None => None,
            Some(slot) => {
                let mut key = Vec::new();
                join_key(&mut key, PAXOS, LAST_COMMITTED);
                if slot.len == 8 && slot.crc == crc32c(key_crc(&key), &expected.to_le_bytes()) {
                    return Ok(());
                }
                let value = self.readable()?.value(&key, slot)?;
                <[u8; 8]>::try_from(&value[..]).ok().map(u64::from_le_bytes)
            }
        };
        match (self.kind, found) {
            // A store of batches can be rebased as well.
            (PointKind::Rebase, None) => Ok(()),
            _ => Err(ProviderFault::LastCommitted { expected, found }.into()),
        }
    }
}

impl Writer {
    /// Publishes the point that was just written at the end of `generation`.
    fn add_point(&mut self, generation: Generation, summary: Summary) -> Result<(), Error> {
        let mut manifest = self.manifest.clone();
        manifest.next_point += 1;
        match manifest.generations.last_mut() {
            Some(last) if last.number == generation.meta.number => *last = generation.meta.clone(),
            _ => {
                manifest.next_generation = generation.meta.number + 1;
                manifest.generations.push(generation.meta.clone());
                let surplus = manifest
                    .generations
                    .len()
                    .saturating_sub(self.limits.generations_max.clamp(1, GENERATIONS_MAX));
                manifest.generations.drain(..surplus);
            }
        }
        self.publish(manifest)?;
        self.active = Some(Active { generation, summary });
        // Frees the space of generations that were dropped. The point is made whether or not that works, and the next
        // pull tries again.
        let _ = self.sweep();
        Ok(())
    }
}

//! One generation, open for reading: its log, its index, its points.

use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Reader, Writer};

use crate::Error;
use crate::block::{BlockReader, BlockWriter, Change};
use crate::disk::Disk;
use crate::layers::Layers;
use crate::limits::RUN_BLOCK_BYTES;
use crate::log::{Log, LogWriter, Record, RecordKind};
use crate::manifest::GenerationMeta;
use crate::point::{PlacedPoint, Point, Summary};
use crate::run::Run;

/// Everything that a view needs.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) meta: GenerationMeta,
    pub(crate) log: Log,
    pub(crate) layers: Layers,
    /// The newest points, which are in no run yet.
    pub(crate) tail_points: Vec<PlacedPoint>,
}

impl Generation {
    pub(crate) fn open(disk: &dyn Disk, meta: GenerationMeta) -> Result<Self, Error> {
        let log = Log::open(disk, meta.number, meta.log_end)?;
        let mut layers = Layers::default();
        for run in &meta.runs {
            layers.runs.push(Arc::new(Run::open(disk, meta.number, *run)?));
        }
        let mut generation = Self { meta, log, layers, tail_points: Vec::new() };
        generation.read_tail()?;
        match generation.latest() {
            Some(latest) if latest.point.id.0 == generation.meta.last_point => Ok(generation),
            _ => Err(generation.log.corrupt(generation.meta.tail_from, "the last point is missing")),
        }
    }

    /// Takes in the inline changes and the points that no run covers.
    fn read_tail(&mut self) -> Result<(), Error> {
        let mut at = self.meta.tail_from;
        let mut changes = Vec::new();
        while let Some(record) = self.log.record_at(at)? {
            match record.kind {
                RecordKind::Changes => changes.push(record),
                RecordKind::Point => {
                    for record in changes.drain(..) {
                        self.read_changes(&record)?;
                    }
                    let (point, _) = read_point(&self.log, &record)?;
                    self.tail_points.push(PlacedPoint { point, record_at: at });
                }
                _ => {}
            }
            at = record.end();
        }
        Ok(())
    }

    fn read_changes(&mut self, record: &Record) -> Result<(), Error> {
        let mut block = BlockReader::new(self.log.payload(record)?);
        while block.advance().map_err(|bad| self.log.corrupt(record.at, bad.0))? {
            self.layers.push_tail(block.key(), block.point(), block.change());
        }
        Ok(())
    }

    /// All points, oldest first.
    pub(crate) fn points(&self) -> impl DoubleEndedIterator<Item = &PlacedPoint> {
        self.layers.runs.iter().flat_map(|run| run.points()).chain(&self.tail_points)
    }

    pub(crate) fn latest(&self) -> Option<&PlacedPoint> {
        self.points().next_back()
    }

    pub(crate) fn summary(&self, placed: &PlacedPoint) -> Result<Summary, Error> {
        let missing = || self.log.corrupt(placed.record_at, "there should be a point here");
        let record = self.log.record_at(placed.record_at)?.ok_or_else(missing)?;
        let (point, summary) = read_point(&self.log, &record)?;
        if record.kind == RecordKind::Point && point == placed.point { Ok(summary) } else { Err(missing()) }
    }
}

/// Decodes the payload of a point's record.
pub(crate) fn read_point(log: &Log, record: &Record) -> Result<(Point, Summary), Error> {
    let bytes = log.payload(record)?;
    let mut r = Reader::new(&bytes);
    let decoded = Point::decode(&mut r).and_then(|point| Ok((point, Summary::decode(&mut r)?)));
    decoded.map_err(|_| log.corrupt(record.at, "a point is malformed"))
}

pub(crate) fn write_point(log: &mut LogWriter, point: &Point, summary: &Summary) -> Result<u64, Error> {
    let mut w = Writer::new(Features::empty());
    point.encode(&mut w);
    summary.encode(&mut w);
    log.record(RecordKind::Point, &[w.as_slice()])
}

/// Writes changes of one point as one or more records.
pub(crate) fn write_changes<'a>(
    log: &mut LogWriter,
    point: u64,
    changes: impl Iterator<Item = (&'a [u8], Change)>,
) -> Result<(), Error> {
    let mut block = BlockWriter::default();
    for (key, change) in changes {
        block.push(key, point, change);
        if block.bytes().len() >= RUN_BLOCK_BYTES {
            log.record(RecordKind::Changes, &[block.bytes()])?;
            block.clear();
        }
    }
    if !block.bytes().is_empty() {
        log.record(RecordKind::Changes, &[block.bytes()])?;
    }
    Ok(())
}

/// What a pull says when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) kind: crate::PointKind,
    /// Version that the pull starts from.
    pub(crate) from: u64,
    /// The point that it will be.
    pub(crate) point: u64,
}

impl Begin {
    pub(crate) fn to_bytes(self) -> Bytes {
        let mut w = Writer::new(Features::empty());
        self.kind.encode(&mut w);
        w.u64(self.from);
        w.u64(self.point);
        w.into_bytes()
    }

    pub(crate) fn parse(bytes: &Bytes) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let kind = crate::PointKind::decode(&mut r).ok()?;
        Some(Self { kind, from: r.u64("from").ok()?, point: r.u64("point").ok()? })
    }
}

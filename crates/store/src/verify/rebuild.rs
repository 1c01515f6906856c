use std::sync::Arc;

use cuttlebone_wire::{Decode, Reader, Transaction};

use super::Report;
use crate::builder::{Builder, Built, Start};
use crate::disk::Disk;
use crate::generation::{Begin, Generation, read_point};
use crate::layers::Layers;
use crate::log::{LOG_VERSION, Log, Record, RecordKind};
use crate::point::Summary;
use crate::run::{Run, RunWriter};
use crate::{Corruption, Error, Limits};

/// Reads a log from its first byte to its last, and builds the index anew from what it says.
#[derive(Debug)]
pub(super) struct Rebuild {
    scratch: Arc<dyn Disk>,
    log: Log,
    limits: Limits,
    layers: Layers,
    summary: Summary,
    next_run: u64,
    /// The pull that is being read.
    pull: Option<(Begin, Builder)>,
    /// Set when a record is damaged: from there on the index cannot be known.
    is_broken: bool,
}

/// Generation under which scratch files are named; the real one has its files elsewhere.
const SCRATCH_GENERATION: u64 = 0;

impl Rebuild {
    pub(super) fn new(scratch: Arc<dyn Disk>, log: Log) -> Self {
        Self {
            scratch,
            log,
            limits: Limits::default(),
            layers: Layers::default(),
            summary: Summary::default(),
            next_run: 0,
            pull: None,
            is_broken: false,
        }
    }

    /// The index as the log has it, if all of the log could be read.
    pub(super) fn layers(&self) -> Option<&Layers> {
        (!self.is_broken).then_some(&self.layers)
    }

    /// Reads all records. `index` serves to name the keys whose values are damaged.
    pub(super) fn run(&mut self, index: Option<&Generation>, report: &mut Report) -> Result<(), Error> {
        let mut at = 0;
        loop {
            // Behind a damaged header no length can be trusted, and the next record cannot be found.
            let record = match report.note(self.log.record_at(at))? {
                None => {
                    self.is_broken = true;
                    return Ok(());
                }
                Some(None) => break,
                Some(Some(record)) => record,
            };
            report.records += 1;
            report.log_bytes += record.end() - at;
            match self.take(&record) {
                Ok(()) => {}
                Err(Error::Corrupt(corruption)) => {
                    self.is_broken = true;
                    if !name_damaged_values(index, &record, report)? {
                        report.add(corruption);
                    }
                }
                Err(error) => return Err(error),
            }
            at = record.end();
        }
        if self.pull.is_some() {
            self.is_broken = true;
            report.add(Corruption::new(self.log.name(), at, "the log ends in the middle of a pull"));
        }
        Ok(())
    }

    fn take(&mut self, record: &Record) -> Result<(), Error> {
        let payload = self.log.payload(record)?;
        if self.is_broken {
            return Ok(());
        }
        let misplaced = || Err(self.log.corrupt(record.at, "a record that does not belong here"));
        match (record.kind, &mut self.pull) {
            (RecordKind::Header, None) => {
                let version = payload.first_chunk().copied().map(u32::from_le_bytes);
                if version == Some(LOG_VERSION) { Ok(()) } else { misplaced() }
            }
            (RecordKind::Begin, None) => match Begin::parse(&payload) {
                Some(begin) => self.begin(begin),
                None => misplaced(),
            },
            (RecordKind::Chunk, Some((_, builder))) => {
                let Ok(transaction) = Transaction::decode(&mut Reader::new(&payload)) else {
                    return misplaced();
                };
                builder.apply(&transaction, &payload, record.at).map_err(|error| self.provider(error, record))
            }
            (RecordKind::Replay, Some((_, builder))) => {
                let number = |at: usize| payload.get(at..).and_then(|rest| rest.first_chunk()).copied();
                let (Some(first), Some(last)) = (number(0), number(8)) else { return misplaced() };
                let (first, last) = (u64::from_le_bytes(first), u64::from_le_bytes(last));
                builder
                    .replay(&self.log, first, last)
                    .and_then(|()| builder.set_last_committed(last, record.at + 8))
                    .map_err(|error| self.provider(error, record))
            }
            // The inline copy of changes is compared with the rest of the index.
            (RecordKind::Changes, Some(_)) | (RecordKind::Filler, _) => Ok(()),
            (RecordKind::Point, Some(_)) => self.end(record),
            _ => misplaced(),
        }
    }

    /// What could not have been written is damage here, not the provider's fault.
    fn provider(&self, error: Error, record: &Record) -> Error {
        match error {
            Error::Provider(_) => self.log.corrupt(record.at, "what was kept cannot be applied again"),
            error => error,
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        self.fold()?;
        let start = Start {
            generation: SCRATCH_GENERATION,
            point: begin.point,
            next_run: self.next_run,
            beneath: self.layers.clone(),
            summary: self.summary.clone(),
            streams: self.layers.runs.is_empty() && self.layers.tail_len() == 0,
        };
        self.pull = Some((begin, Builder::new(Arc::clone(&self.scratch), self.limits.clone(), start)?));
        Ok(())
    }

    fn end(&mut self, record: &Record) -> Result<(), Error> {
        let Some((begin, builder)) = self.pull.take() else { return Ok(()) };
        let (point, summary) = read_point(&self.log, record)?;
        let Built { summary: rebuilt, runs, changes, next_run } = builder.finish(true)?;
        self.next_run = next_run;
        for meta in runs {
            self.layers.runs.push(Arc::new(Run::open(&*self.scratch, SCRATCH_GENERATION, meta)?));
        }
        for (key, change) in &changes {
            self.layers.push_tail(key, begin.point, *change);
        }
        let totals = rebuilt.totals();
        let is_right = (point.id.0, point.kind) == (begin.point, begin.kind)
            && (point.keys, point.bytes, point.digest) == (totals.keys, totals.bytes, rebuilt.digest)
            && summary == rebuilt;
        self.summary = rebuilt;
        if is_right {
            Ok(())
        } else {
            Err(self.log.corrupt(record.at, "a point says something else than its log"))
        }
    }

    /// Keeps memory bounded, as a writer does.
    fn fold(&mut self) -> Result<(), Error> {
        if self.layers.tail_len() < self.limits.tail_entries_max {
            return Ok(());
        }
        let mut run = RunWriter::create(&*self.scratch, SCRATCH_GENERATION, self.next_run)?;
        self.next_run += 1;
        for (key, point, change) in self.layers.tail() {
            run.push(key, point, change)?;
        }
        let run = Run::open(&*self.scratch, SCRATCH_GENERATION, run.finish(&[])?)?;
        self.layers.runs.push(Arc::new(run));
        self.layers.clear_tail();
        Ok(())
    }

    /// Empties the scratch directory, which nobody else uses.
    pub(super) fn clean_up(self) -> Result<(), Error> {
        let names = self.scratch.names().map_err(|source| Error::io("list", "scratch", source))?;
        for name in names {
            self.scratch.remove(&name).map_err(|source| Error::io("remove", &name, source))?;
        }
        Ok(())
    }
}

/// Names every key whose value lies in a damaged record and is damaged itself. `false` if there is none: then the
/// damage is between the values.
fn name_damaged_values(
    index: Option<&Generation>,
    record: &Record,
    report: &mut Report,
) -> Result<bool, Error> {
    let Some(index) = index.filter(|_| record.kind == RecordKind::Chunk) else { return Ok(false) };
    let mut any = false;
    let Some(mut versions) = report.note(index.layers.versions(&[]))? else { return Ok(false) };
    while report.note(versions.advance())? == Some(true) {
        let Some(slot) = versions.change() else { continue };
        if (record.at..record.end()).contains(&slot.at) && slot.len > 0 {
            let value = index.log.value(versions.key(), slot);
            any |= report.note(value)?.is_none();
        }
    }
    Ok(any)
}

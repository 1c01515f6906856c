//! Entry points of the fuzz targets. They panic when a promise is broken.

use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Op, Reader as Cursor, Transaction};

use crate::block::{BlockReader, BlockWriter};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::log::{LogWriter, RecordKind};
use crate::manifest::{GenerationMeta, MANIFEST_FILE, Manifest};
use crate::point::PlacedPoint;
use crate::run::{RunMeta, RunWriter};
use crate::verify::verify_on;
use crate::{Error, Limits, NewPoint, Pull, Reader, Writer};

/// Points of a directory that are looked at.
const LOOKS_MAX: usize = 16;
/// The one generation of a directory made from fuzz input.
const GENERATION: u64 = 1;

/// Decodes an index block; what decodes must come back when it is packed again.
pub fn block(data: &[u8]) {
    let entries = |bytes: &[u8]| {
        let mut reader = BlockReader::new(Bytes::copy_from_slice(bytes));
        let mut entries = Vec::new();
        while reader.advance()? {
            entries.push((reader.key().to_vec(), reader.point(), reader.change()));
        }
        Ok::<_, crate::block::BadBlock>(entries)
    };
    if let Ok(decoded) = entries(data) {
        let mut writer = BlockWriter::default();
        for (key, point, change) in &decoded {
            writer.push(key, *point, *change);
        }
        assert_eq!(entries(writer.bytes()), Ok(decoded), "what was packed must come back");
    }
}

/// Opens, reads, verifies and continues a directory that the input describes.
///
/// The input is a list of pieces: a tag, a length in two bytes, and bytes. Log records and blocks get their checksums
/// here, since guessing one is not what a fuzzer is for; raw logs and manifests are taken as they are.
pub fn directory(data: &[u8]) {
    let disk = build(data);
    look(&disk);
    let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
    // Any report will do, and so will any error; only a panic or a hang is a finding.
    let _ = verify_on(&disk, &scratch);
    let _ = go_on(&disk);
}

/// How many points were looked at.
fn look(disk: &SimDisk) -> usize {
    let Ok(Some(reader)) = Reader::open_on(disk) else { return 0 };
    let mut looks = 0;
    for point in reader.points().take(LOOKS_MAX) {
        let Ok(view) = reader.at(crate::Selector::Id(point.id)) else { continue };
        looks += 1;
        for entry in view.entries(None).into_iter().flatten().flatten() {
            let _ = view.value(&entry);
        }
        let _ = (view.versions(), view.prefixes());
    }
    looks
}

/// A writer either refuses the directory or makes a point that can be read.
fn go_on(disk: &SimDisk) -> Result<(), Error> {
    let mut writer = Writer::open_on(Arc::new(disk.clone()), Limits::default(), None)?;
    let raw = Transaction::new(vec![Op::put("fuzz", "key", "value"), Op::erase_range("auth", "", "z")])
        .to_bytes(Features::PACIFIC);
    let transaction = Transaction::decode(&mut Cursor::new(&raw)).expect("what we wrote must decode");
    let mut pull = writer.begin(Pull::Batch)?;
    pull.append(&raw, &transaction)?;
    pull.commit(NewPoint::default())?;
    let value = writer.view().expect("a point was just made").get(b"fuzz", b"key")?;
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
    Ok(())
}

/// What a piece of the input is.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// A record: its kind, then its payload.
    Record(RecordKind),
    /// Bytes of a run's only block, before them the length of its last key in one byte, and that key.
    Block,
    /// Points of the run that the last block began, and its end.
    Points,
    /// Next point, next generation, tail, next run, last point.
    Numbers,
    /// The log as it is on disk, after the records so far.
    RawLog,
    /// The manifest as it is on disk.
    RawManifest,
    /// A filler; its payload is as many zeros as two bytes say.
    Zeros,
}

impl Piece {
    fn of(tag: u8) -> Option<Self> {
        Some(match tag {
            0..=6 => Self::Record(RecordKind::ALL[usize::from(tag)]),
            7 => Self::Block,
            8 => Self::Points,
            9 => Self::Numbers,
            10 => Self::RawLog,
            11 => Self::RawManifest,
            12 => Self::Zeros,
            _ => return None,
        })
    }
}

fn pieces(mut data: &[u8]) -> impl Iterator<Item = (Piece, &[u8])> {
    core::iter::from_fn(move || {
        let ([tag, low, high], rest) = data.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (piece, rest) = rest.split_at(len);
        data = rest;
        Some((Piece::of(*tag)?, piece))
    })
}

fn build(data: &[u8]) -> SimDisk {
    const WORKS: &str = "a disk in memory takes everything";
    let disk = SimDisk::default();
    let mut log = LogWriter::create_empty(&disk, GENERATION).expect(WORKS);
    let (mut runs, mut run): (Vec<RunMeta>, Option<RunWriter>) = (Vec::new(), None);
    let mut numbers = [1_u64; 5];
    let (mut raw_log, mut raw_manifest) = (Vec::new(), None);
    for (piece, bytes) in pieces(data) {
        match piece {
            Piece::Record(kind) => {
                log.record(kind, &[bytes]).expect(WORKS);
            }
            Piece::Block => {
                let Some((key_len, rest)) = bytes.split_first() else { continue };
                let (key, block) = rest.split_at(usize::from(*key_len).min(rest.len()));
                let id = runs.len() as u64;
                let run = run.get_or_insert_with(|| RunWriter::create(&disk, GENERATION, id).expect(WORKS));
                run.push_raw_block(block, key).expect(WORKS);
            }
            Piece::Points => {
                if let Some(run) = run.take() {
                    let bytes = Bytes::copy_from_slice(bytes);
                    let points = Cursor::new(&bytes).list("points", 64, 93, PlacedPoint::decode);
                    runs.push(run.finish(&points.unwrap_or_default()).expect(WORKS));
                }
            }
            Piece::Numbers => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *number = u64::from_le_bytes(*bytes);
                }
            }
            Piece::RawLog => raw_log.extend_from_slice(bytes),
            Piece::Zeros => {
                let len = bytes.first_chunk().copied().map_or(0, u16::from_le_bytes);
                log.record(RecordKind::Filler, &[&vec![0; len.into()]]).expect(WORKS);
            }
            Piece::RawManifest => raw_manifest = Some(bytes.to_vec()),
        }
    }
    let mut log_end = log.flush().expect(WORKS);
    disk.with_file(&crate::log::log_name(GENERATION), |file| {
        file.extend_from_slice(&raw_log);
        file.resize(file.len().next_multiple_of(crate::limits::BLOCK_BYTES), 0);
        log_end = file.len() as u64;
    });
    let [next_point, next_generation, tail_from, next_run, last_point] = numbers;
    let generation = GenerationMeta { number: GENERATION, log_end, tail_from, next_run, last_point, runs };
    let manifest = Manifest { next_point, next_generation, generations: vec![generation] };
    manifest.publish(&disk).expect(WORKS);
    if let Some(raw) = raw_manifest {
        disk.with_file(MANIFEST_FILE, |file| *file = raw);
    }
    disk
}

/// Inputs that describe sound directories, from which a fuzzer may start.
pub fn seeds() -> Vec<Vec<u8>> {
    (1..=4).map(seed).collect()
}

fn seed(points: u64) -> Vec<u8> {
    const WORKS: &str = "a disk in memory takes everything";
    let disk = SimDisk::default();
    let limits = Limits { tail_points_max: 2, runs_max: 2, ..Limits::default() };
    let mut writer = Writer::open_on(Arc::new(disk.clone()), limits, None).expect(WORKS);
    for version in 1..=points {
        let change = Transaction::new(vec![
            Op::put("auth", version.to_string(), "value"),
            Op::put("auth", "last_committed", version.to_le_bytes().to_vec()),
            Op::erase_range("logm", "1", "2"),
        ]);
        let change = change.to_bytes(Features::PACIFIC);
        let ops = vec![Op::put("logm", "15", "gone"), Op::put("paxos", version.to_string(), change)];
        let raw = Transaction::new(ops).to_bytes(Features::PACIFIC);
        let transaction = Transaction::decode(&mut Cursor::new(&raw)).expect(WORKS);
        let pull = if version == 1 { Pull::Full { start: 1 } } else { Pull::Recent { from: version - 1 } };
        let mut pull = writer.begin(pull).expect(WORKS);
        pull.append(&raw, &transaction).expect(WORKS);
        pull.replay(version..=version).expect(WORKS);
        pull.commit(NewPoint { last_committed: version, ..NewPoint::default() }).expect(WORKS);
    }
    let generation = &writer.active.as_ref().expect("points were made").generation;
    let mut data = Vec::new();
    let mut piece = |tag: u8, bytes: &[u8]| {
        data.push(tag);
        data.extend_from_slice(&u16::try_from(bytes.len()).expect("a seed is small").to_le_bytes());
        data.extend_from_slice(bytes);
    };
    let mut at = 0;
    while let Some(record) = generation.log.record_at(at).expect(WORKS) {
        let payload = generation.log.payload(&record).expect(WORKS);
        if record.kind == RecordKind::Filler {
            piece(12, &u16::try_from(payload.len()).expect("a filler is short").to_le_bytes());
        } else {
            let kind = RecordKind::ALL.iter().position(|kind| *kind == record.kind).unwrap_or(0);
            piece(u8::try_from(kind).expect("seven kinds"), &payload);
        }
        at = record.end();
    }
    for run in &generation.layers.runs {
        for (last_key, block) in run.raw_blocks().expect(WORKS) {
            let key_len = u8::try_from(last_key.len()).expect("keys of a seed are short");
            piece(7, &[&[key_len][..], &last_key, &block].concat());
        }
        let mut points = cuttlebone_wire::Writer::new(Features::empty());
        points.list(run.points(), |w, point| point.encode(w));
        piece(8, points.as_slice());
    }
    let GenerationMeta { tail_from, last_point, .. } = generation.meta;
    let next_run = generation.layers.runs.len() as u64;
    let numbers = [last_point + 1, 2, tail_from, next_run, last_point];
    piece(9, &numbers.map(u64::to_le_bytes).concat());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_describe_directories_that_can_be_read_to_the_end() {
        for (points, seed) in (1..).zip(seeds()) {
            let disk = build(&seed);
            assert_eq!(look(&disk), points);
            let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
            let report = verify_on(&disk, &scratch).unwrap().unwrap();
            assert!(report.is_sound(), "{report:?}");
            go_on(&disk).unwrap();
        }
    }

    #[test]
    fn no_mutation_of_a_seed_breaks_a_promise() {
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            usize::try_from(random >> 33).unwrap() % below
        };
        for seed in seeds() {
            for _ in 0..300 {
                let mut data = seed.clone();
                for _ in 0..=next(4) {
                    let at = next(data.len());
                    match next(4) {
                        0 => data[at] ^= 1 << next(8),
                        1 => data[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                        2 => drop(data.remove(at)),
                        _ => data.insert(at, u8::try_from(next(256)).unwrap()),
                    }
                }
                directory(&data);
                block(&data[next(data.len())..]);
            }
        }
    }
}

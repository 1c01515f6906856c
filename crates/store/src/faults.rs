//! What is left after the disk fails at any operation, in any way, and what a writer makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Op, Reader as Cursor, Transaction};

use crate::disk::Disk;
use crate::disk::sim::{Fault, SimDisk};
use crate::verify::verify_on;
use crate::{Error, Keep, Limits, NewPoint, Point, PointId, Pull, Reader, Selector, View, Writer};

type Content = BTreeMap<(Vec<u8>, Vec<u8>), Bytes>;

/// What the caller was told, and what was under way when it ended.
#[derive(Default)]
struct Told {
    points: Vec<(Point, Content)>,
    /// The content that the pull under way would have had.
    next: Content,
    /// Points given up by a prune that had at least begun.
    given_up: Option<PointId>,
}

/// Small limits, so that a short scenario passes through spills, folds and merges.
fn limits() -> Limits {
    Limits {
        overlay_entries_max: 6,
        inline_entries_max: 4,
        tail_points_max: 2,
        runs_max: 2,
        ..Limits::default()
    }
}

fn encoded(ops: Vec<Op>) -> Bytes {
    Transaction::new(ops).to_bytes(Features::PACIFIC)
}

fn append(pull: &mut crate::Ingest<'_>, ops: Vec<Op>) -> Result<(), Error> {
    let raw = encoded(ops);
    pull.append(&raw, &Transaction::decode(&mut Cursor::new(&raw)).unwrap())
}

impl Told {
    fn put(&mut self, prefix: &str, key: &str, value: &[u8]) -> Op {
        let (p, k) = (prefix.as_bytes().to_vec(), key.as_bytes().to_vec());
        self.next.insert((p.clone(), k.clone()), Bytes::copy_from_slice(value));
        Op::put(p, k, value.to_vec())
    }

    fn finish(&mut self, pull: crate::Ingest<'_>, version: u64) -> Result<(), Error> {
        let point = pull.commit(NewPoint { last_committed: version, ..NewPoint::default() })?;
        self.points.push((point, self.next.clone()));
        Ok(())
    }

    /// Versions 1..=3 with everything, then recent pulls of various sizes, a rebase, a prune.
    fn run(&mut self, writer: &mut Writer) -> Result<(), Error> {
        self.full(writer, 3)?;
        for version in 4..9 {
            self.recent(writer, version)?;
        }
        if let Some(rebased) = writer.rebase()? {
            self.points.push((rebased, self.next.clone()));
        }
        self.recent(writer, 9)?;
        // The last two: the rebase, and the pull after it.
        self.given_up = self.points.last().map(|(point, _)| PointId(point.id.0 - 1));
        writer.prune(Keep::Points(1))?;
        self.recent(writer, 10)?;
        self.full(writer, 10)
    }

    fn full(&mut self, writer: &mut Writer, version: u64) -> Result<(), Error> {
        let mut pull = writer.begin(Pull::Full { start: version })?;
        self.next.clear();
        let change = {
            let op = self.put("osdmap", &version.to_string(), b"replayed");
            encoded(vec![op])
        };
        let mut ops: Vec<Op> = (0..9).map(|n| self.put("auth", &n.to_string(), &[n; 700])).collect();
        ops.push(self.put("paxos", &version.to_string(), &change));
        append(&mut pull, ops)?;
        pull.replay(version..=version)?;
        self.put("paxos", "last_committed", &version.to_le_bytes());
        self.finish(pull, version)
    }

    fn recent(&mut self, writer: &mut Writer, version: u64) -> Result<(), Error> {
        let mut pull = writer.begin(Pull::Recent { from: version - 1 })?;
        self.next = self.points.last().map(|(_, content)| content.clone()).unwrap_or_default();
        // Every third one is too large to stay inline.
        let count = if version.is_multiple_of(3) { 8 } else { 1 };
        let mut ops: Vec<Op> =
            (0..count).map(|n| self.put("osdmap", &format!("{version}.{n}"), &[7; 300])).collect();
        ops.push(Op::erase("auth", (version % 9).to_string()));
        self.next.remove(&(b"auth".to_vec(), (version % 9).to_string().into_bytes()));
        let change = encoded(ops);
        let op = self.put("paxos", &version.to_string(), &change);
        append(&mut pull, vec![op])?;
        pull.replay(version..=version)?;
        self.put("paxos", "last_committed", &version.to_le_bytes());
        self.finish(pull, version)
    }

    /// Every acknowledged point is there and whole, and nothing else but the one under way.
    fn check(&self, disk: &SimDisk, what: &str) {
        let reader = match Reader::open_on(disk) {
            Ok(Some(reader)) => reader,
            Ok(None) if self.points.is_empty() => return,
            other => panic!("{what}: {other:?}"),
        };
        let first_kept = self.given_up.unwrap_or_default();
        for (point, content) in self.points.iter().filter(|(point, _)| point.id >= first_kept) {
            let view = reader.at(Selector::Id(point.id)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(view.point(), point, "{what}");
            assert_eq!(&content_of(&view), content, "{what}: point {}", point.id);
        }
        let last_told = self.points.last().map_or(PointId(0), |(point, _)| point.id);
        for point in reader.points().filter(|point| point.id > last_told) {
            assert_eq!(point.id.0, last_told.0 + 1, "{what}");
            assert_eq!(content_of(&reader.at(Selector::Id(point.id)).unwrap()), self.next, "{what}");
        }
    }
}

fn content_of(view: &View) -> Content {
    let entries = view.entries(None).unwrap().map(Result::unwrap);
    entries.map(|e| ((e.prefix().to_vec(), e.key().to_vec()), view.value(&e).unwrap())).collect()
}

fn open(disk: &SimDisk) -> Result<Writer, Error> {
    Writer::open_on(Arc::new(disk.clone()), limits(), None)
}

fn is_sound(disk: &SimDisk, what: &str) {
    let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
    match verify_on(disk, &scratch) {
        Ok(None) => {}
        Ok(Some(report)) => assert!(report.is_sound(), "{what}: {report:?}"),
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// Runs the scenario with `fault` at every operation it has, one after the other.
fn at_every_operation(fault: Fault, mut check: impl FnMut(&SimDisk, &Told, Option<Error>, u64)) {
    let whole = SimDisk::default();
    Told::default().run(&mut open(&whole).unwrap()).unwrap();
    let operations = whole.operations();
    assert!(operations > 100, "the scenario has shrunk to {operations} operations");
    for n in 0..operations {
        let disk = SimDisk::default();
        disk.fail_after(n, fault);
        let mut told = Told::default();
        let result = open(&disk).and_then(|mut writer| told.run(&mut writer));
        check(&disk, &told, result.err(), n);
    }
}

#[test]
fn the_scenario_itself_is_sound() {
    let disk = SimDisk::default();
    let mut told = Told::default();
    told.run(&mut open(&disk).unwrap()).unwrap();
    told.check(&disk, "whole");
    is_sound(&disk, "whole");
}

#[test]
fn a_full_disk_is_named_and_leaves_every_earlier_point() {
    at_every_operation(Fault::Full, |disk, told, error, n| {
        assert!(matches!(error, Some(Error::NoSpace { .. })), "operation {n}: {error:?}");
        told.check(disk, &format!("full at {n}"));
        disk.heal();
        is_sound(disk, &format!("full at {n}"));
        let mut writer = open(disk).unwrap();
        let mut again = Told::default();
        again.full(&mut writer, 11).unwrap();
        again.check(disk, &format!("full at {n}, then healed"));
    });
}

#[test]
fn after_one_failure_the_same_writer_goes_on_or_says_that_it_cannot() {
    let whole = SimDisk::default();
    Told::default().run(&mut open(&whole).unwrap()).unwrap();
    let opening = {
        let disk = SimDisk::default();
        open(&disk).unwrap();
        disk.operations()
    };
    for n in opening..whole.operations() {
        let disk = SimDisk::default();
        let mut writer = open(&disk).unwrap();
        disk.fail_after(n - opening, Fault::Once);
        let mut told = Told::default();
        let error = told.run(&mut writer);
        assert!(matches!(error, Err(Error::Io { .. })), "operation {n}: {error:?}");
        told.check(&disk, &format!("failure at {n}"));
        if let Some(from) = writer.latest().map(|point| point.last_committed) {
            // Enough to reach the disk without a commit. It must not touch what a reader sees.
            match writer.begin(Pull::Recent { from }) {
                Ok(mut pull) => append(&mut pull, vec![Op::put("a", "b", vec![1; (1 << 20) + 1])]).unwrap(),
                Err(error) => assert!(matches!(error, Error::Poisoned), "operation {n}: {error:?}"),
            }
            told.check(&disk, &format!("failure at {n}, then a pull given up"));
        }
        let mut again = Told::default();
        match again.full(&mut writer, 11) {
            Ok(()) => again.check(&disk, &format!("failure at {n}, then again")),
            Err(error) => assert!(matches!(error, Error::Poisoned), "operation {n}: {error:?}"),
        }
        is_sound(&disk, &format!("failure at {n}"));
    }
}

#[test]
fn a_power_failure_at_any_operation_loses_nothing_that_was_acknowledged() {
    at_every_operation(Fault::Crash, |disk, told, _, n| {
        // Nothing that was not synced is kept, then everything, then some of it.
        for seed in 0..3_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n);
            let found = disk.after_crash(|| match seed {
                0 => false,
                1 => true,
                _ => {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    state >> 63 == 1
                }
            });
            let what = format!("crash at {n}, seed {seed}");
            is_sound(&found, &what);
            let mut writer = open(&found).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            told.check(&found, &what);
            let mut again = Told::default();
            again.full(&mut writer, 11).unwrap();
            again.check(&found, &what);
        }
    });
}

#[test]
fn verify_finds_one_flipped_bit_in_any_byte_of_any_file() {
    let disk = SimDisk::default();
    let mut writer = open(&disk).unwrap();
    let mut told = Told::default();
    told.full(&mut writer, 3).unwrap();
    for version in 4..9 {
        told.recent(&mut writer, version).unwrap();
    }
    drop(writer);
    let mut flips = 0;
    for name in disk.names().unwrap() {
        let len = disk.with_file(&name, |bytes| bytes.len());
        // Every byte of the manifest; elsewhere a stride that meets headers, payloads, padding and footers.
        let stride = if name == "manifest" { 1 } else { 23 };
        for at in (0..len).step_by(stride) {
            let damaged = disk.duplicate();
            damaged.with_file(&name, |bytes| bytes[at] ^= 1 << (at % 8));
            let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
            let report = verify_on(&damaged, &scratch).unwrap().unwrap();
            assert!(!report.is_sound(), "bit {} of byte {at} of {name}", at % 8);
            let text = report.problems[0].to_string();
            assert!(text.contains(&name), "{text} does not name {name}");
            assert!(scratch.names().unwrap().is_empty(), "scratch files are left behind");
            flips += 1;
        }
    }
    assert!(flips > 1000, "only {flips}");
}

#[test]
fn verify_finds_a_file_that_is_cut_or_gone() {
    let disk = SimDisk::default();
    let mut writer = open(&disk).unwrap();
    let mut told = Told::default();
    told.full(&mut writer, 3).unwrap();
    for version in 4..9 {
        told.recent(&mut writer, version).unwrap();
    }
    drop(writer);
    for name in disk.names().unwrap() {
        let len = disk.with_file(&name, |bytes| bytes.len());
        for keep in (0..len).step_by(97).chain([len - 1]) {
            let damaged = disk.duplicate();
            damaged.with_file(&name, |bytes| bytes.truncate(keep));
            let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
            let report = verify_on(&damaged, &scratch).unwrap().unwrap();
            assert!(!report.is_sound(), "{name} cut to {keep}");
            assert!(report.problems[0].to_string().contains(&name), "{:?}", report.problems);
        }
        let damaged = disk.duplicate();
        damaged.remove(&name).unwrap();
        let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let report = verify_on(&damaged, &scratch).unwrap().unwrap();
        assert!(!report.is_sound(), "{name} gone");
        assert!(report.problems[0].to_string().contains(&name), "{:?}", report.problems);
    }
}

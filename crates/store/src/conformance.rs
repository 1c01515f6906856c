//! One suite that every store has to pass: random batches against a naive history of maps.

use core::ops::Range;
use std::collections::BTreeMap;

use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Op, OpKind, Transaction};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::verify::verify_on;
use crate::{Limits, MemoryStore, Snapshot, Store, Writer, verify};

type Model = BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Op>),
    /// Looks at the state now, and at the one that an earlier look kept.
    Look(Range<Vec<u8>>),
    /// Starts the store anew from what it has kept.
    Reopen,
}

/// Few enough keys that batches meet, among them the odd ones: empty, of any byte, a part of another.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(0xff)], 0..3),
        vec(any::<u8>(), 0..2)
    ]
}

fn prefix() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("auth"), Just("aut"), Just("paxos"), Just("")]
}

fn op() -> impl Strategy<Value = Op> {
    let put = (prefix(), key(), vec(any::<u8>(), 0..20))
        .prop_map(|(prefix, key, value)| Op::put(prefix, key, value));
    prop_oneof![
        6 => put,
        2 => (prefix(), key()).prop_map(|(prefix, key)| Op::erase(prefix, key)),
        1 => (prefix(), key(), key()).prop_map(|(prefix, from, to)| Op::erase_range(prefix, from, to)),
        1 => prefix().prop_map(|prefix| Op { kind: OpKind::Compact, ..Op::erase(prefix, "") }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(op(), 0..12).prop_map(Step::Batch),
        2 => (key(), key()).prop_map(|(from, to)| Step::Look(from..to)),
        1 => Just(Step::Reopen),
    ]
}

fn apply_to_model(model: &mut Model, op: &Op) {
    let (prefix, key) = (op.prefix.to_vec(), op.key.to_vec());
    match op.kind {
        OpKind::Put => {
            model.insert((prefix, key), op.value.to_vec());
        }
        OpKind::Erase => {
            model.remove(&(prefix, key));
        }
        OpKind::EraseRange => {
            model.retain(|(p, k), _| *p != prefix || *k < key || k[..] >= op.end_key[..]);
        }
        OpKind::Compact => {}
    }
}

fn agree(snapshot: &impl Snapshot, model: &Model, keys: &Range<Vec<u8>>) {
    for prefix in ["auth", "aut", "paxos", "", "absent"] {
        let prefix = prefix.as_bytes();
        let expected: Vec<(Vec<u8>, Vec<u8>)> = model
            .iter()
            .filter(|((p, k), _)| p == prefix && *k >= keys.start && *k < keys.end)
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect();
        let range = snapshot.range(prefix, &keys.start[..]..&keys.end[..]).unwrap();
        let found: Vec<(Vec<u8>, Vec<u8>)> =
            range.map(Result::unwrap).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        assert_eq!(found, expected);
        for key in [&keys.start, &keys.end] {
            let expected = model.get(&(prefix.to_vec(), key.clone())).cloned().map(Bytes::from);
            assert_eq!(snapshot.get(prefix, key).unwrap(), expected);
        }
    }
    for ((prefix, key), value) in model {
        assert_eq!(snapshot.get(prefix, key).unwrap().as_deref(), Some(&value[..]));
    }
}

fn conforms<S: Store>(mut store: S, steps: &[Step], mut reopen: impl FnMut(S) -> S) {
    let everything = Vec::new()..vec![0xff; 8];
    let mut model = Model::new();
    let mut kept = (store.snapshot(), model.clone());
    let mut last = None;
    for step in steps {
        match step {
            Step::Batch(ops) => {
                let id = store.apply(&Transaction::new(ops.clone())).unwrap();
                assert!(Some(id) > last.replace(id), "numbers of points only grow");
                for op in ops {
                    apply_to_model(&mut model, op);
                }
                agree(&store.snapshot(), &model, &everything);
            }
            Step::Look(keys) => {
                agree(&store.snapshot(), &model, keys);
                agree(&kept.0, &kept.1, &everything);
                kept = (store.snapshot(), model.clone());
            }
            Step::Reopen => store = reopen(store),
        }
    }
    agree(&kept.0, &kept.1, &everything);
    assert!(store.apply(&Transaction::new(vec![Op::put("a\0b", "", "")])).is_err(), "a prefix holds no NUL");
    agree(&store.snapshot(), &model, &everything);
}

/// So small that a handful of batches spills, folds and merges.
fn tiny() -> Limits {
    Limits {
        overlay_entries_max: 5,
        inline_entries_max: 3,
        tail_points_max: 2,
        tail_entries_max: 4,
        runs_max: 2,
        ..Limits::default()
    }
}

/// No file of regressions: a failure prints its steps, which then become a test of their own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_store_in_memory_conforms(steps in vec(step(), 0..40)) {
        conforms(MemoryStore::default(), &steps, |store| store);
    }

    #[test]
    fn a_store_on_a_disk_in_memory_conforms(steps in vec(step(), 0..40)) {
        let disk = SimDisk::default();
        let open = || Writer::open_on(Arc::new(disk.clone()), tiny(), None).unwrap();
        conforms(open(), &steps, |writer| {
            drop(writer);
            open()
        });
        let scratch: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let report = verify_on(&disk, &scratch).unwrap().unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
    }
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn a_store_on_disk_conforms(steps in vec(step(), 0..16)) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Writer::open(dir.path(), tiny()).unwrap();
        conforms(open(), &steps, |writer| {
            drop(writer);
            open()
        });
        let report = verify(dir.path()).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
    }
}

//! What we list and export, beside what Ceph's own tools list and restore.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use cuttlebone_store::{
    LOCAL_PREFIXES, Limits, NewPoint, Pull, Reader, Selector, Store, View, Writer, export_trace, list,
    list_crc,
};
use cuttlebone_wire::{Decode, Encode, Features, Op, Transaction};

/// Runs a tool of the packages `ceph-base`, `ceph-common` and `ceph-mon`, which these tests cannot do without.
fn tool(name: &str, args: &[&str], dir: &Path) -> Output {
    let output = Command::new(name).args(args).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{name}: {error}; install ceph-base, ceph-common and ceph-mon (cargo xtask setup)")
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {}\n{text}", output.status);
    output
}

/// A store as mkfs leaves it: nothing but what belongs to one monitor.
fn make_monitor(dir: &Path) {
    let fsid = "b37e210b-85b4-4a4c-be36-add3d265cc21";
    let conf = format!(
        "[global]\nfsid={fsid}\nauth_cluster_required=none\nauth_client_required=none\n[mon.a]\nmon_data={}/mon.a\n",
        dir.display()
    );
    std::fs::write(dir.join("ceph.conf"), conf).unwrap();
    std::fs::create_dir(dir.join("mon.a")).unwrap();
    tool("monmaptool", &["--create", "--fsid", fsid, "--add", "a", "127.0.0.1:6789", "monmap"], dir);
    let mkfs = ["-c", "ceph.conf", "-i", "a", "--mkfs", "--monmap", "monmap", "--keyring", "/dev/null"];
    tool("ceph-mon", &mkfs, dir);
}

fn apply(writer: &mut Writer, ops: Vec<Op>) {
    writer.apply(&Transaction::new(ops)).unwrap();
}

fn latest(dir: &Path) -> View {
    Reader::open(dir).unwrap().at(Selector::Latest).unwrap()
}

fn our_list(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    list_crc(view, None, &mut lines).unwrap();
    String::from_utf8(lines).unwrap().lines().map(String::from).collect()
}

/// Lines of the stock tool, without those of the monitor's own prefixes.
fn stock_list(command: &str, dir: &Path) -> Vec<String> {
    let output = tool("ceph-kvstore-tool", &["rocksdb", "mon.a/store.db", command], dir);
    let local = |line: &&str| {
        LOCAL_PREFIXES
            .iter()
            .any(|prefix| line.as_bytes().strip_prefix(*prefix).is_some_and(|l| l[0] == b'\t'))
    };
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty() && !local(line)).map(String::from).collect()
}

#[test]
fn a_restored_store_lists_what_we_list_for_every_byte_in_a_key() {
    let dir = tempfile::tempdir().unwrap();
    make_monitor(dir.path());
    let copy = dir.path().join("copy");
    let mut writer = Writer::open(&copy, Limits::default()).unwrap();
    let mut ops: Vec<Op> =
        (0..=255).map(|byte| Op::put("odd", vec![byte], vec![byte; byte.into()])).collect();
    ops.extend((1..=255).map(|byte: u8| Op::put(vec![b'p', byte], "key", "value")));
    ops.push(Op::put("mgr_command_descs", "", "an empty key"));
    ops.push(Op::put("odd", "nul\0inside", ""));
    ops.push(Op::put("large", "value", vec![7; 3 << 20]));
    ops.push(Op::put("mon_sync", "in_sync", 1_u64.to_le_bytes().to_vec()));
    apply(&mut writer, ops);
    apply(&mut writer, vec![Op::erase_range("odd", "a", "f"), Op::put("odd", "b", "again")]);

    let view = latest(&copy);
    let exported = export_trace(&view, &dir.path().join("trace")).unwrap();
    assert_eq!(exported.keys, view.point().keys - 1, "all but the key of mon_sync");
    assert_eq!(exported.bytes, std::fs::metadata(dir.path().join("trace")).unwrap().len());
    tool("ceph-monstore-tool", &["mon.a", "replay-trace", "trace"], dir.path());

    let ours: Vec<String> =
        our_list(&view).into_iter().filter(|line| !line.starts_with("mon_sync\t")).collect();
    assert_eq!(ours.len() as u64, exported.keys);
    assert_eq!(stock_list("list-crc", dir.path()), ours);

    let mut names = Vec::new();
    list(&view, Some(b"odd"), &mut names).unwrap();
    let output = tool("ceph-kvstore-tool", &["rocksdb", "mon.a/store.db", "list", "odd"], dir.path());
    let stock: Vec<u8> = output.stdout.into_iter().collect();
    assert_eq!(stock.trim_ascii_end(), names.trim_ascii_end());
}

#[test]
fn a_trace_of_the_stock_tools_own_making_reads_the_same_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    make_monitor(dir.path());
    // Erasures, ranges and compactions as a monitor would log them, applied by the stock tool and by us.
    let history: Vec<Bytes> = [
        (0..500).map(|n| Op::put("logm", n.to_string(), vec![1; 50])).collect(),
        vec![Op::erase_range("logm", "10", "200"), Op::erase("logm", "3"), Op::erase("logm", "none")],
        vec![
            Op::put("logm", "150", "back"),
            Op::erase_range("logm", "9", "8"),
            Op::erase_range("logm", "5", ""),
        ],
        vec![Op { kind: cuttlebone_wire::OpKind::Compact, ..Op::erase("logm", "") }],
    ]
    .into_iter()
    .map(|ops| Transaction::new(ops).to_bytes(Features::PACIFIC))
    .collect();
    let mut trace = std::fs::File::create(dir.path().join("trace")).unwrap();
    for raw in &history {
        trace.write_all(raw).unwrap();
    }
    drop(trace);
    tool("ceph-monstore-tool", &["mon.a", "replay-trace", "trace"], dir.path());

    let copy = dir.path().join("copy");
    let mut writer = Writer::open(&copy, Limits::default()).unwrap();
    let mut pull = writer.begin(Pull::Batch).unwrap();
    for raw in &history {
        let transaction = Transaction::decode(&mut cuttlebone_wire::Reader::new(raw)).unwrap();
        pull.append(raw, &transaction).unwrap();
    }
    pull.commit(NewPoint::default()).unwrap();
    assert_eq!(stock_list("list-crc", dir.path()), our_list(&latest(&copy)));
}

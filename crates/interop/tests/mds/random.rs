//! A random sequence of operations by us and by Ceph's own client, in turn, agrees with a plain tree step by step.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{FileSystem, Place};
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_testkit::{Cluster, SecondClient};
use serde_json::{Value, json};

use crate::clients::{agrees, ours, shown, theirs};
use crate::model::Tree;
use crate::op::errno::{EACCES, ENAMETOOLONG, ENOTDIR};
use crate::op::{Coverage, Op, Outcome};
use crate::world::{ONE, blocking, finish_after, mounted, number};

/// How many operations, unless `CUTTLEBONE_FS_OPS` says otherwise.
const OPS: u64 = 5000;
/// How often the whole trees are compared.
const COMPARE_EVERY: u64 = 100;
/// The second client fails at most that often.
const FAILURES_EVERY: u64 = 250;
/// How long it may take to unmount, which takes milliseconds if it can.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// A run of at least so many has to see all but a few of the answers there are; which few is a matter of luck.
const COVERS_MOST: u64 = 5000;
const MISSING_MAX: usize = 6;

fn path(chance: &mut SplitMix) -> String {
    let depth = 1 + chance.below(3);
    (0..depth).flat_map(|_| ["/".into(), name(chance)]).collect()
}

/// Few names, so that operations meet; now and then the longest there is, or one that is longer.
fn name(chance: &mut SplitMix) -> String {
    match chance.below(100) {
        0..2 => "l".repeat(255),
        2 => "l".repeat(256),
        _ => pick(chance, &["a", "b", "c", "d"]).into(),
    }
}

fn pick<'a>(chance: &mut SplitMix, of: &[&'a str]) -> &'a str {
    let at = chance.below(u64::try_from(of.len()).unwrap_or(0));
    usize::try_from(at).ok().and_then(|at| of.get(at)).copied().unwrap_or_default()
}

fn small(chance: &mut SplitMix, below: u64) -> u32 {
    u32::try_from(chance.below(below)).unwrap_or(0)
}

fn op(chance: &mut SplitMix) -> Op {
    let xattr = |chance: &mut SplitMix| pick(chance, &["user.note", "user.other"]);
    let field = |chance: &mut SplitMix| pick(chance, &["stripe_count", "object_size"]);
    let snapshot = |chance: &mut SplitMix| pick(chance, &["s", "t"]);
    match chance.below(40) {
        0..4 => Op::Mkdir(path(chance)),
        4..7 => Op::Create(path(chance)),
        // As many as that, or every name would be taken before long.
        7..12 => Op::Unlink(path(chance)),
        12..15 => Op::Rmdir(path(chance)),
        15..18 => Op::Rename(path(chance), path(chance)),
        18 | 19 => Op::Link(path(chance), path(chance)),
        20 | 21 => {
            let target = pick(chance, &["/a", "b", "../c", "/d/a", ".."]);
            Op::Symlink(target.into(), path(chance))
        }
        22 => Op::Chmod(path(chance), 0o600 + small(chance, 0o100)),
        23 => Op::Chown(path(chance), small(chance, 3), small(chance, 3)),
        24 => Op::Times(path(chance), chance.below(1 << 31), chance.below(1 << 31)),
        25 => Op::Truncate(path(chance), chance.below(10_000)),
        26 | 27 => {
            let value = format!("{:x}", chance.below(1000));
            Op::SetXattr(path(chance), xattr(chance), value, small(chance, 3))
        }
        28 => Op::RemoveXattr(path(chance), xattr(chance)),
        29 => Op::GetXattr(path(chance), xattr(chance)),
        30 => Op::ListXattrs(path(chance)),
        31 => match field(chance) {
            "stripe_count" => Op::SetLayout(path(chance), "stripe_count", 1 + chance.below(4)),
            field => Op::SetLayout(path(chance), field, (1 + chance.below(3)) << 22),
        },
        32 => Op::GetLayout(path(chance), field(chance)),
        33 => {
            Op::Count(path(chance), pick(chance, &["ceph.dir.entries", "ceph.dir.files", "ceph.dir.subdirs"]))
        }
        34 | 35 => match chance.below(9) {
            0 | 1 => Op::RemoveSnapshot(path(chance), snapshot(chance)),
            2 => Op::Snapshots(path(chance)),
            3..5 => Op::RenameSnapshot(path(chance), snapshot(chance), snapshot(chance)),
            _ => Op::MakeSnapshot(path(chance), snapshot(chance)),
        },
        36 => Op::ReadLink(path(chance)),
        37 => Op::ReadDir(path(chance)),
        _ => Op::Stat(path(chance)),
    }
}

/// Who may do an operation, so that its answer says something about us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Anybody,
    /// Ceph's library answers by itself, in its own way.
    Us,
    Nobody,
}

/// What only one kind of inode is asked for is not asked of others: there the two clients differ in their answers, and
/// neither is wrong.
fn who(op: &Op, tree: &Tree) -> Who {
    let outcome = tree.clone().apply(op);
    let kind =
        |path: &String| tree.clone().apply(&Op::Stat(path.clone())).ok().map(|shown| shown["type"].clone());
    let is_comparable = match op {
        Op::Truncate(path, _) | Op::Link(path, _) => kind(path).is_none_or(|kind| kind == "file"),
        Op::Chmod(path, _)
        | Op::Chown(path, ..)
        | Op::Times(path, ..)
        | Op::SetXattr(path, ..)
        | Op::RemoveXattr(path, _)
        | Op::GetXattr(path, _)
        | Op::ListXattrs(path)
        | Op::GetLayout(path, _) => kind(path).is_none_or(|kind| kind != "symlink"),
        // A file whose contents are somewhere already has its layout for good.
        Op::SetLayout(path, ..) => kind(path).is_none_or(|kind| kind == "dir") || tree.is_untouched(path),
        Op::ReadDir(path) => kind(path).is_none_or(|kind| kind != "symlink"),
        Op::Count(path, _)
        | Op::MakeSnapshot(path, _)
        | Op::RemoveSnapshot(path, _)
        | Op::RenameSnapshot(path, ..)
        | Op::Snapshots(path) => kind(path).is_none_or(|kind| kind == "dir"),
        _ => true,
    };
    match outcome {
        _ if !is_comparable => Who::Nobody,
        // Ceph's library can sleep for ever after a rename that failed, with every answer of the server in its hands; and
        // it does ask for what a server waits for itself over. So what fails is ours.
        Err(_) if matches!(op, Op::Rename(..) | Op::RenameSnapshot(..)) => Who::Us,
        // It keeps a reference to the name of a snapshot for ever, and may not be able to unmount any more.
        _ if matches!(op, Op::RemoveSnapshot(..)) => Who::Us,
        // It asks for names that are too long, and the server makes them.
        Err(ENAMETOOLONG) => Who::Us,
        _ => Who::Anybody,
    }
}

/// What the server still does, for a failure to tell.
fn under_way(cluster: &Cluster) -> String {
    let under_way = |prefix| blocking(|| cluster.mds("a").admin(&json!({"prefix": prefix})));
    format!("{:?} {:?}", under_way("dump_ops_in_flight"), under_way("session ls"))
}

/// Every path with what is there, and the inode numbers by path.
async fn walk(fs: &FileSystem) -> Result<(BTreeMap<String, Value>, BTreeMap<String, u64>)> {
    let (mut all, mut inos) = (BTreeMap::new(), BTreeMap::new());
    let mut waiting = vec![Place::root()];
    while let Some(place) = waiting.pop() {
        let mut dir = fs.read_dir(&place);
        while let Some(entry) = dir.next().await {
            let entry = entry?;
            let below = place.join(&entry.name);
            // A listing shows what the server knows; what the other client has changed and not told it yet has to be
            // asked for.
            all.insert(below.to_string(), shown(&fs.stat(&below).await?));
            inos.insert(below.to_string(), entry.metadata.ino.0);
            if entry.metadata.is_dir() {
                waiting.push(below);
            }
        }
    }
    Ok((all, inos))
}

/// Whether an answer is right.
fn is_right(found: &Outcome, expected: &Outcome, faults: &[i32], ours_turn: bool) -> bool {
    match (found, expected) {
        (Ok(found), Ok(expected)) => agrees(found, expected),
        // Ceph's library checks permissions before types, and a file that cannot be executed cannot be searched.
        (Err(EACCES), Err(ENOTDIR)) if !ours_turn => true,
        (Err(found), Err(expected)) => found == expected || faults.contains(found),
        _ => false,
    }
}

/// Ceph's own client, which is started anew when it dies, or turns out to believe what is not so.
///
/// With another client that renames much in few directories, libcephfs 16.2.15 does not live long: it fails assertions of
/// its own (`Dir* Inode::open_dir()`, `dentries.size() < 2`; `Client::close_dir`; `Dentry::~Dentry`), keeps the absence of
/// a name in its cache that its own listing has, asks for the same over and over, and cannot unmount with nothing under way
/// in the server. Who asks the server for the first time decides what is right.
struct Second<'a> {
    cluster: &'a Cluster,
    client: SecondClient,
    failures: Vec<String>,
}

/// What came of an operation of the second client.
enum Answer {
    Outcome(Outcome),
    /// It died over it, and may have done it or not.
    Unknown,
}

impl Second<'_> {
    fn answer(&mut self, op: &Op, is_right: impl Fn(&Outcome) -> bool) -> Result<Answer> {
        let first = match theirs(&mut self.client, op) {
            Ok(first) if is_right(&first) || first.is_ok() && op.changes() => {
                return Ok(Answer::Outcome(first));
            }
            Ok(first) => first,
            Err(error) => {
                self.replace(format!("{op:?}: {error:#}"))?;
                return Ok(Answer::Unknown);
            }
        };
        self.replace(format!("{op:?}: {first:?}"))?;
        // Wrong once more is wrong.
        theirs(&mut self.client, op).map(Answer::Outcome)
    }

    fn replace(&mut self, failure: String) -> Result<()> {
        println!("the second client is started anew: {failure}");
        self.failures.push(failure);
        blocking(|| {
            // Nobody waits for us, or for a request of ours: it did that all by itself.
            self.client.freeze(true).ok();
            let old = self.client.global_id();
            if self.cluster.mds_sessions(0)?.iter().any(|session| session["id"] == json!(old)) {
                self.cluster.evict_client(0, old)?;
            }
            self.client = self.cluster.second_client()?;
            Ok(())
        })
    }

    fn unmount(mut self) -> Result<Vec<String>> {
        self.client.send("unmount", &[]).ok();
        if self.client.wait(UNMOUNT_TIMEOUT).is_err() {
            self.cluster.wait_until_idle()?;
            self.replace("unmount".into())?;
            self.client.unmount()?;
        }
        Ok(self.failures)
    }
}

/// Compares the whole trees, and the inode numbers that the second client sees.
async fn compare(fs: &FileSystem, tree: &Tree, second: Option<&mut Second<'_>>) -> Result<()> {
    let (all, inos) = walk(fs).await?;
    let expected = tree.everything();
    let paths: BTreeSet<_> = all.keys().chain(expected.keys()).collect();
    for path in paths {
        let (found, expected) = (all.get(path), expected.get(path));
        let is_right = matches!((found, expected), (Some(found), Some(expected)) if agrees(found, expected));
        ensure!(is_right, "{path}: {found:?}, not {expected:?}");
    }
    let Some(second) = second else { return Ok(()) };
    for (path, ino) in inos {
        let is_right = |found: &Outcome| found.as_ref().is_ok_and(|stat| stat["ino"] == json!(ino));
        if let Answer::Outcome(theirs) = second.answer(&Op::Stat(path.clone()), is_right)? {
            ensure!(is_right(&theirs), "{path}: {theirs:?}, not {ino}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_and_a_plain_tree_agree_after_every_step() -> Result<()> {
    let seed = number("CUTTLEBONE_SEED", 1);
    let (cluster, fs) = mounted(ONE).await?;
    let client = blocking(|| cluster.second_client())?;
    let mut second = Second { cluster: &cluster, client, failures: Vec::new() };
    let (mut chance, mut tree) = (SplitMix::new(seed), Tree::new());
    let mut coverage = Coverage::default();
    let count = number("CUTTLEBONE_FS_OPS", OPS);
    let mut step = 0;
    while step < count {
        let op = op(&mut chance);
        let who = who(&op, &tree);
        if who == Who::Nobody {
            continue;
        }
        step += 1;
        let ours_turn = chance.below(2) == 0 || who == Who::Us;
        let faults = tree.faults(&op);
        let before = tree.clone();
        let expected = tree.apply(&op);
        let is_right = |found: &Outcome| is_right(found, &expected, &faults, ours_turn);
        let found = if ours_turn {
            Answer::Outcome(ours(&fs, &op).await.with_context(|| under_way(&cluster))?)
        } else {
            second.answer(&op, is_right).with_context(|| under_way(&cluster))?
        };
        let by = if ours_turn { "ours" } else { "theirs" };
        match found {
            Answer::Outcome(found) => {
                // Shown when it fails.
                println!("{step} {by}: {op:?}: {found:?}");
                let is_right = is_right(&found);
                ensure!(is_right, "step {step}, seed {seed}, {by}: {op:?}: {found:?}, not {expected:?}");
                coverage.note(&op, &expected, ours_turn);
            }
            Answer::Unknown if compare(&fs, &tree, None).await.is_ok() => {}
            Answer::Unknown => tree = before,
        }
        if step % COMPARE_EVERY == 0 || step == count {
            compare(&fs, &tree, Some(&mut second))
                .await
                .with_context(|| format!("step {step}, seed {seed}"))?;
        }
    }
    let failures = blocking(|| second.unmount())?;
    let missing = coverage.missing();
    println!(
        "seed {seed}: not seen in {count} steps: {missing:?}; the second client failed over {failures:#?}"
    );
    let is_enough = count < COVERS_MOST || missing.len() <= MISSING_MAX;
    ensure!(is_enough, "seed {seed}: {count} steps have not seen {missing:?}");
    let limit = usize::try_from(2 + count / FAILURES_EVERY)?;
    ensure!(failures.len() <= limit, "seed {seed}: the second client failed {} times", failures.len());
    finish_after(&cluster, fs, None, &["vict"]).await
}

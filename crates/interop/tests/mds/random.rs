//! A random sequence of operations by us and by Ceph's own client, in turn, agrees with a plain tree step by step.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{AttrChanges, Error, FileSystem, Metadata, Place, Resize};
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_testkit::{Cluster, SecondClient};
use serde_json::{Value, json};

use crate::model::errno::{EACCES, ENOTDIR};
use crate::model::{Op, Outcome, Tree, XATTR};
use crate::world::{ONE, blocking, finish, mounted, number};

/// How many operations, unless `CUTTLEBONE_FS_OPS` says otherwise.
const OPS: u64 = 400;
/// How often the whole trees are compared.
const COMPARE_EVERY: u64 = 100;

fn path(chance: &mut SplitMix) -> String {
    let depth = 1 + chance.below(3);
    (0..depth).flat_map(|_| ["/", pick(chance, &["a", "b", "c", "d"])]).collect()
}

fn pick<'a>(chance: &mut SplitMix, of: &[&'a str]) -> &'a str {
    let at = chance.below(u64::try_from(of.len()).unwrap_or(0));
    usize::try_from(at).ok().and_then(|at| of.get(at)).copied().unwrap_or_default()
}

fn op(chance: &mut SplitMix) -> Op {
    match chance.below(20) {
        0..4 => Op::Mkdir(path(chance)),
        4..7 => Op::Create(path(chance)),
        7 => Op::Unlink(path(chance)),
        8 => Op::Rmdir(path(chance)),
        9 | 10 => Op::Rename(path(chance), path(chance)),
        11 => Op::Link(path(chance), path(chance)),
        12 => {
            let target = pick(chance, &["/a", "b", "../c", "/d/a", "..", "a/../b"]);
            Op::Symlink(target.into(), path(chance))
        }
        13 => Op::Chmod(path(chance), 0o600 + u32::try_from(chance.below(0o100)).unwrap_or(0)),
        14 => Op::Truncate(path(chance), chance.below(10_000)),
        15 => Op::SetXattr(path(chance), format!("{:x}", chance.below(1000))),
        16 => {
            if chance.below(2) == 0 {
                Op::RemoveXattr(path(chance))
            } else {
                Op::GetXattr(path(chance))
            }
        }
        17 => Op::ReadLink(path(chance)),
        18 => Op::ReadDir(path(chance)),
        _ => Op::Stat(path(chance)),
    }
}

/// What only one kind of inode is asked for is not asked of others: there the two clients differ in their answers, and
/// neither is wrong.
fn is_comparable(op: &Op, tree: &Tree) -> bool {
    let kind =
        |path: &String| tree.clone().apply(&Op::Stat(path.clone())).ok().map(|shown| shown["type"].clone());
    match op {
        Op::Truncate(path, _) | Op::Link(path, _) => kind(path).is_none_or(|kind| kind == "file"),
        Op::Chmod(path, _) | Op::SetXattr(path, _) | Op::RemoveXattr(path) | Op::GetXattr(path) => {
            kind(path).is_none_or(|kind| kind != "symlink")
        }
        Op::ReadDir(path) => kind(path).is_none_or(|kind| kind == "dir"),
        _ => true,
    }
}

fn shown(metadata: &Metadata) -> Value {
    if metadata.is_dir() {
        json!({"type": "dir", "mode": metadata.mode})
    } else if metadata.is_symlink() {
        json!({"type": "symlink", "size": metadata.size})
    } else {
        json!({"type": "file", "mode": metadata.mode, "nlink": metadata.nlink, "size": metadata.size})
    }
}

async fn names(fs: &FileSystem, path: &str) -> Result<Value, Error> {
    let mut names = Vec::new();
    let mut dir = fs.read_dir(path);
    while let Some(entry) = dir.next().await {
        names.push(String::from_utf8_lossy(&entry?.name).into_owned());
    }
    names.sort();
    Ok(json!(names))
}

async fn ours(fs: &FileSystem, op: &Op) -> Result<Outcome> {
    let done = async {
        Ok(match op {
            Op::Mkdir(path) => fs.mkdir(path, 0o755).await.map(|_| Value::Null)?,
            Op::Create(path) => fs.create(path, 0o644).await.map(|_| Value::Null)?,
            Op::Unlink(path) => fs.unlink(path).await.map(|()| Value::Null)?,
            Op::Rmdir(path) => fs.rmdir(path).await.map(|()| Value::Null)?,
            Op::Rename(from, to) => fs.rename(from, to).await.map(|()| Value::Null)?,
            Op::Link(from, to) => fs.link(from, to).await.map(|_| Value::Null)?,
            Op::Symlink(target, path) => fs.symlink(target, path).await.map(|_| Value::Null)?,
            Op::Chmod(path, mode) => {
                let changes = AttrChanges { mode: Some(*mode), ..AttrChanges::default() };
                fs.set_attributes(path, changes).await.map(|_| Value::Null)?
            }
            Op::Truncate(path, to) => {
                let from = fs.stat(path).await?.size;
                let changes = AttrChanges { size: Some(Resize { from, to: *to }), ..AttrChanges::default() };
                fs.set_attributes(path, changes).await.map(|_| Value::Null)?
            }
            Op::SetXattr(path, value) => fs.set_xattr(path, XATTR, value).await.map(|()| Value::Null)?,
            Op::RemoveXattr(path) => fs.remove_xattr(path, XATTR).await.map(|()| Value::Null)?,
            Op::GetXattr(path) => {
                fs.get_xattr(path, XATTR).await.map(|value| json!(String::from_utf8_lossy(&value)))?
            }
            Op::Stat(path) => shown(&fs.stat(path).await?),
            Op::ReadDir(path) => names(fs, path).await?,
            Op::ReadLink(path) => fs.read_link(path).await.map(|to| json!(String::from_utf8_lossy(&to)))?,
        })
    };
    match crate::world::soon(&format!("{op:?}"), done).await? {
        Ok(value) => Ok(Ok(value)),
        Err::<_, Error>(error) => match error.errno() {
            Some(errno) => Ok(Err(errno.0)),
            None => Err(error.into()),
        },
    }
}

fn theirs(second: &mut SecondClient, op: &Op) -> Result<Outcome> {
    let mut call = |op: &str, arguments: &[Value]| blocking(|| second.call(op, arguments));
    let nothing = |outcome: Outcome| outcome.map(|_| Value::Null);
    Ok(match op {
        Op::Mkdir(path) => nothing(call("mkdir", &[json!(path)])?),
        Op::Create(path) => nothing(call("create", &[json!(path)])?),
        Op::Unlink(path) => nothing(call("unlink", &[json!(path)])?),
        Op::Rmdir(path) => nothing(call("rmdir", &[json!(path)])?),
        Op::Rename(from, to) => nothing(call("rename", &[json!(from), json!(to)])?),
        Op::Link(from, to) => nothing(call("link", &[json!(from), json!(to)])?),
        Op::Symlink(target, path) => nothing(call("symlink", &[json!(target), json!(path)])?),
        Op::Chmod(path, mode) => nothing(call("chmod", &[json!(path), json!(mode)])?),
        Op::Truncate(path, to) => nothing(call("truncate", &[json!(path), json!(to)])?),
        Op::SetXattr(path, value) => nothing(call("setxattr", &[json!(path), json!(XATTR), json!(value)])?),
        Op::RemoveXattr(path) => nothing(call("removexattr", &[json!(path), json!(XATTR)])?),
        Op::GetXattr(path) => call("getxattr", &[json!(path), json!(XATTR)])?,
        Op::ReadLink(path) => call("readlink", &[json!(path)])?,
        Op::Stat(path) => call("stat", &[json!(path)])?.map(|stat| {
            let mode = stat["mode"].as_u64().unwrap_or_default();
            let permissions = mode & 0o7777;
            match mode & 0o170_000 {
                0o040_000 => json!({"type": "dir", "mode": permissions}),
                0o120_000 => json!({"type": "symlink", "size": stat["size"]}),
                _ => json!({
                    "type": "file", "mode": permissions, "nlink": stat["nlink"], "size": stat["size"],
                }),
            }
        }),
        Op::ReadDir(path) => call("readdir", &[json!(path)])?.map(|entries| {
            json!(
                entries
                    .as_array()
                    .map(|entries| entries.iter().map(|entry| entry[0].clone()).collect::<Vec<_>>())
            )
        }),
    })
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

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_and_a_plain_tree_agree_after_every_step() -> Result<()> {
    let seed = number("CUTTLEBONE_SEED", 1);
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    let (mut chance, mut tree) = (SplitMix::new(seed), Tree::new());
    let count = number("CUTTLEBONE_FS_OPS", OPS);
    let mut step = 0;
    while step < count {
        let op = op(&mut chance);
        if !is_comparable(&op, &tree) {
            continue;
        }
        step += 1;
        // Ceph's library can sleep for ever after a rename that failed, with every answer of the server in its hands; and it
        // does ask for what a server waits for itself over. So what fails is ours.
        let ours_turn =
            chance.below(2) == 0 || matches!(op, Op::Rename(..)) && tree.clone().apply(&op).is_err();
        let faults = tree.faults(&op);
        let expected = tree.apply(&op);
        let mut found = if ours_turn {
            ours(&fs, &op).await.with_context(|| under_way(&cluster))?
        } else {
            theirs(&mut second, &op).with_context(|| under_way(&cluster))?
        };
        // Ceph's library checks permissions before types, and a file that cannot be executed cannot be searched.
        if !ours_turn && (&found, &expected) == (&Err(EACCES), &Err(ENOTDIR)) {
            found = Err(ENOTDIR);
        }
        if let (Err(found_errno), Err(_)) = (&found, &expected)
            && faults.contains(found_errno)
        {
            found.clone_from(&expected);
        }
        let who = if ours_turn { "ours" } else { "theirs" };
        ensure!(found == expected, "step {step}, seed {seed}, {who}: {op:?}: {found:?}, not {expected:?}");
        if step % COMPARE_EVERY == 0 || step == count {
            let (all, inos) = walk(&fs).await.with_context(|| format!("step {step}"))?;
            let expected = tree.everything();
            let paths: BTreeSet<_> = all.keys().chain(expected.keys()).collect();
            for path in paths {
                assert_eq!(all.get(path), expected.get(path), "{path}, step {step}, seed {seed}");
            }
            for (path, ino) in inos {
                let theirs = blocking(|| second.ok("stat", &[json!(path)]))?;
                assert_eq!(theirs["ino"], json!(ino), "{path}, step {step}, seed {seed}");
            }
        }
    }
    finish(&cluster, fs, Some(second)).await
}

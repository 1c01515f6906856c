//! A node that follows a tree of CephFS: whoever reads its changes has what Ceph's own client sees, whatever is done to the
//! tree, to the metadata server and to the node.
//!
//! `CUTTLEBONE_FS_OPS=<n>` does that many random operations, `CUTTLEBONE_SEED` chooses others.

use core::time::Duration;
use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cuttlebone_http::changes::{Change, ChangesQuery, Mutation};
use cuttlebone_http::{Address, Client};
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_node::mds::{InodeNumber, InodeRecord};
use cuttlebone_testkit::{Cluster, Deadline, FsSpec, SecondClient};
use serde_json::{Value, json};
use tokio::time::timeout;

mod running;

use running::Running;

const WITHIN: Duration = Duration::from_secs(90);
const ONE: FsSpec = FsSpec { active: 1, standby: 0 };

/// What a reader has of each path: number, mode with its type, links, size.
type Tree = BTreeMap<String, [u64; 4]>;

fn node(cluster: &Cluster, dir: &std::path::Path, more: &str) -> Result<Running> {
    let monitor = cluster.mon("a").addr();
    Running::new(dir, "n1", &format!("[source.mds]\nmonitors = [\"{monitor}\"]\nevery_ms = 200\n{more}"))
}

/// The tree as Ceph's own client sees it.
fn truth(second: &mut SecondClient) -> Result<Tree> {
    let (mut tree, mut dirs) = (Tree::new(), vec![String::new()]);
    while let Some(dir) = dirs.pop() {
        let entries = second.ok("readdir", &[json!(format!("{dir}/"))])?;
        for entry in entries.as_array().context("a list of entries")? {
            let path = format!("{dir}/{}", entry[0].as_str().context("a name")?);
            let stat = second.ok("stat", &[json!(path)])?;
            let number = |field: &str| stat[field].as_u64().context("a number");
            let mode = number("mode")?;
            let is_dir = mode & 0o170_000 == 0o040_000;
            // Ceph's client makes up links and sizes of directories.
            let [nlink, size] = if is_dir { [0, 0] } else { [number("nlink")?, number("size")?] };
            tree.insert(path.clone(), [number("ino")?, mode, nlink, size]);
            if is_dir {
                dirs.push(path);
            }
        }
    }
    Ok(tree)
}

/// The tree that items make up, by the names in them.
fn tree_of(items: &BTreeMap<u64, InodeRecord>) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![(1_u64, String::new())];
    let mut below: BTreeMap<u64, Vec<(u64, String)>> = BTreeMap::new();
    for (number, record) in items {
        for name in &record.names {
            let text = String::from_utf8_lossy(&name.name.0).into_owned();
            below.entry(name.dir.0).or_default().push((*number, text));
        }
    }
    while let Some((dir, path)) = waiting.pop() {
        for (number, name) in below.remove(&dir).into_iter().flatten() {
            let (path, record) = (format!("{path}/{name}"), &items[&number]);
            let kind = match record.target {
                _ if record.is_dir() => 0o040_000,
                Some(_) => 0o120_000,
                None => 0o100_000,
            };
            let [nlink, size] = if record.is_dir() { [0, 0] } else { [u64::from(record.nlink), record.size] };
            tree.insert(path.clone(), [number, kind | u64::from(record.mode), nlink, size]);
            if record.is_dir() {
                waiting.push((number, path));
            }
        }
    }
    tree
}

/// Reads a node's changes from the beginning until they make up `expected`, and nothing but it is an item.
async fn reads(node: &Running, expected: &Tree) -> Result<BTreeMap<u64, InodeRecord>> {
    let mut items = BTreeMap::new();
    let wait = async {
        loop {
            let address: Address = node.server().parse()?;
            let query = ChangesQuery { cursor: "reader".into(), ..ChangesQuery::default() };
            let Ok((_connection, mut lines)) = Client::new(address, None).changes(&query).await else {
                // It has just been started.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            items.clear();
            while let Ok(Some(line)) = lines.next().await {
                if apply(&mut items, &line)? && tree_of(&items) == *expected {
                    let named: usize = items.values().filter(|it| !it.names.is_empty()).count();
                    let inodes: std::collections::BTreeSet<_> = expected.values().map(|it| it[0]).collect();
                    ensure!(named == inodes.len(), "{named} items for {} inodes", inodes.len());
                    return anyhow::Ok(());
                }
            }
        }
    };
    let done = timeout(WITHIN, wait).await;
    if done.is_err() {
        let ours = tree_of(&items);
        let differs = expected.iter().filter(|(path, it)| ours.get(*path) != Some(it)).take(5);
        let surplus = ours.iter().filter(|(path, _)| !expected.contains_key(*path)).take(5);
        anyhow::bail!(
            "not what Ceph's client sees: missing {:?}, too much {:?}, status {}",
            differs.map(|(path, it)| (path, it, ours.get(path))).collect::<Vec<_>>(),
            surplus.collect::<Vec<_>>(),
            node.status()?["sources"]
        );
    }
    done??;
    Ok(items)
}

/// Whether the reader is consistent after it.
fn apply(items: &mut BTreeMap<u64, InodeRecord>, change: &Change) -> Result<bool> {
    let number = |mutation: &Mutation| -> Result<Option<u64>> {
        Ok(InodeNumber::of_key(&BASE64_STANDARD.decode(&mutation.key)?).map(|number| number.0))
    };
    match change {
        Change::Rollback => items.clear(),
        Change::Set(mutation) => {
            if let Some(number) = number(mutation)? {
                items.insert(number, InodeRecord::decode(&BASE64_STANDARD.decode(&mutation.value)?)?);
            }
        }
        Change::Delete(mutation) => {
            if let Some(number) = number(mutation)? {
                items.remove(&number);
            }
        }
        Change::UpdateRevert { .. } | Change::Alive => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// One change that somebody makes; some of them fail, as `rmdir` of what is not empty.
fn change(second: &mut SecondClient, chance: &mut SplitMix, tree: &Tree, at: u64) -> Result<()> {
    let mut pick = |is_dir: bool| {
        let fits = |mode: u64| (mode & 0o170_000 == 0o040_000) == is_dir;
        let all: Vec<_> = tree.iter().filter(|(_, it)| fits(it[1])).map(|(path, _)| path).collect();
        let one = usize::try_from(chance.next_u64()).unwrap_or(0) % all.len().max(1);
        all.get(one).map(|path| (*path).clone()).unwrap_or_default()
    };
    let (dir, other, file) = (pick(true), pick(true), pick(false));
    let name = format!("{dir}/{at}");
    let (op, arguments): (_, Vec<Value>) = match chance.next_u64() % 12 {
        0..3 => ("create", vec![json!(name)]),
        3 => ("mkdir", vec![json!(name)]),
        4 => ("unlink", vec![json!(file)]),
        5 => ("rmdir", vec![json!(dir)]),
        6 => ("rename", vec![json!(file), json!(name)]),
        // A directory with all that is in it, also where it cannot go: below itself.
        7 if !name.starts_with(&format!("{other}/")) => ("rename", vec![json!(other), json!(name)]),
        8 => ("link", vec![json!(file), json!(name)]),
        9 => ("symlink", vec![json!("somewhere"), json!(name)]),
        10 => ("truncate", vec![json!(file), json!(at)]),
        _ => ("chmod", vec![json!(dir), json!(0o700 + at % 8)]),
    };
    if arguments.iter().any(|argument| argument == "") {
        return Ok(());
    }
    // What is refused is refused to both.
    let _ = second.call(op, &arguments)?;
    Ok(())
}

/// Kills the node, and has its session ended, as an administrator does who will not wait until the server does it.
fn kill(cluster: &Cluster, node: &mut Running, second: &SecondClient) -> Result<()> {
    node.kill()?;
    let sessions = cluster.mds_sessions(0)?;
    let others = sessions.iter().filter_map(|session| session["id"].as_u64());
    let mut dead = others.filter(|id| *id != second.global_id());
    dead.try_for_each(|id| cluster.evict_client(0, id))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn plant(second: &mut SecondClient) -> Result<()> {
    for dir in ["/a", "/a/b", "/a/b/c", "/d", "/e"] {
        second.ok("mkdir", &[json!(dir)])?;
        second.ok("batch", &[json!("create"), json!(format!("{dir}/f")), json!(40)])?;
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[test]
fn a_tree_is_followed_while_the_node_and_the_server_are_killed() -> Result<()> {
    let cluster = Cluster::builder().fs(ONE).start()?;
    let dir = tempfile::tempdir()?;
    let mut second = cluster.second_client()?;
    plant(&mut second)?;
    let mut node = node(&cluster, dir.path(), "")?;
    node.start()?;
    let runtime = runtime()?;
    runtime.block_on(reads(&node, &truth(&mut second)?))?;

    let seed = number("CUTTLEBONE_SEED", 7);
    eprintln!("CUTTLEBONE_SEED={seed}");
    let mut chance = SplitMix::new(seed);
    let ops = number("CUTTLEBONE_FS_OPS", 240);
    for part in 0..6 {
        let tree = truth(&mut second)?;
        if part % 2 == 1 {
            kill(&cluster, &mut node, &second)?;
        }
        for at in 0..ops / 6 {
            if part == 2 && at == ops / 12 {
                kill(&cluster, &mut node, &second)?;
                node.start()?;
            }
            change(&mut second, &mut chance, &tree, part * ops + at)?;
        }
        if part % 2 == 1 {
            node.start()?;
        }
        if part == 4 {
            cluster.crash_mds(0, 1)?;
        }
        let expected = truth(&mut second)?;
        runtime.block_on(reads(&node, &expected)).with_context(|| format!("part {part}"))?;
    }
    node.wait_until_serving()?;
    node.stop()?;
    second.unmount()?;
    cluster.wait_until_healthy()
}

#[test]
fn a_restart_lists_only_what_has_changed_meanwhile() -> Result<()> {
    let cluster = Cluster::builder().fs(ONE).start()?;
    let dir = tempfile::tempdir()?;
    let mut second = cluster.second_client()?;
    plant(&mut second)?;
    let mut node = node(&cluster, dir.path(), "")?;
    node.start()?;
    let runtime = runtime()?;
    let expected = truth(&mut second)?;
    runtime.block_on(reads(&node, &expected))?;
    let written = |node: &Running| -> Result<u64> {
        node.status()?["sources"][0]["items_total"].as_u64().context("items")
    };
    ensure!(written(&node)? >= 205, "{} items for 205 inodes", written(&node)?);
    // Every directory is complete, so that the next start has nothing to list.
    Deadline::after(WITHIN).wait_for("every directory is complete", || {
        let items = runtime.block_on(reads(&node, &expected)).ok()?;
        let complete = |it: &InodeRecord| it.complete.is_some_and(|stamp| Some(stamp.sums) == it.dir);
        items.values().filter(|it| it.is_dir()).all(complete).then_some(())
    })?;
    node.stop()?;
    second.ok("create", &[json!("/a/b/c/new")])?;
    let expected = truth(&mut second)?;
    node.start()?;
    node.wait_until_serving()?;
    runtime.block_on(reads(&node, &expected))?;
    // The file, and what the sums of the directories above it say by and by.
    let after = written(&node)?;
    ensure!((1..=40).contains(&after), "{after} items were written for one new file");
    node.stop()?;
    second.unmount()
}

#[test]
fn what_a_revert_undoes_is_brought_again() -> Result<()> {
    let cluster = Cluster::builder().fs(ONE).start()?;
    let dir = tempfile::tempdir()?;
    let mut second = cluster.second_client()?;
    plant(&mut second)?;
    let mut node = node(&cluster, dir.path(), "watched_max = 16\n")?;
    node.start()?;
    let runtime = runtime()?;
    runtime.block_on(reads(&node, &truth(&mut second)?))?;
    let mut chance = SplitMix::new(11);
    for round in 0..4_u64 {
        node.update("start")?;
        let tree = truth(&mut second)?;
        for at in 0..30 {
            change(&mut second, &mut chance, &tree, 10_000 + round * 100 + at)?;
        }
        // Once with everything in the window, once in the middle of it.
        if round % 2 == 0 {
            runtime.block_on(reads(&node, &truth(&mut second)?))?;
        }
        node.update("revert")?;
        runtime.block_on(reads(&node, &truth(&mut second)?)).with_context(|| format!("round {round}"))?;
    }
    node.stop()?;
    second.unmount()
}

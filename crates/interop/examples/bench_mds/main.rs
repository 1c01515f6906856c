//! A file system's metadata beside libcephfs, on the same cluster in the same run: `cargo xtask bench mds --json`.
//!
//! One JSON object for each kind of operation, then one for what another client sees of a walk. Times are wall clock and
//! the processor time of the whole process; `…_ratio` says how many times as fast we are, `…_cpu_share` which part of its
//! processor time per operation we take. libcephfs runs with eight threads, which is its best here, and is built from
//! `libcephfs.c` beside this file; without its headers the figures are ours alone.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_fs::{Error, FileSystem, FsConfig, Ino, Place};
use cuttlebone_testkit::{Cluster, FsSpec};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Names in the directory of each kind of operation, unless `--ops` says otherwise.
const OPS: u64 = 10_000;
/// Entries of the tree that is walked while another client works, unless `--walk` says otherwise.
const WALK: u64 = 50_000;
/// Entries in each directory of that tree.
const WALK_DIR: u64 = 1_000;
/// Operations of ours under way at the same time.
const PARALLEL: u64 = 64;
/// Threads of libcephfs.
const THREADS: &str = "8";

/// What a phase took.
#[derive(Clone, Copy, Debug)]
struct Took {
    ops: u64,
    seconds: f64,
    cpu_seconds: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (ops, walk) = (argument("--ops", OPS)?, argument("--walk", WALK)?);
    // Nothing but the servers and what is measured, and no log that costs them time.
    let quiet = |builder: cuttlebone_testkit::Builder| builder.option("debug_mon", "1");
    let cluster = quiet(Cluster::builder().fs(FsSpec { active: 1, standby: 0 })).start()?;
    let rival = Rival::build(&cluster)?;
    let theirs = match &rival {
        Some(rival) => rival.phases(ops)?,
        None => Vec::new(),
    };
    for (phase, took) in ours(&cluster, ops).await? {
        let theirs = theirs.iter().find(|(name, _)| name == phase).map(|(_, took)| *took);
        println!("{}", figures(phase, took, theirs));
    }
    victims(&cluster, rival.as_ref(), walk).await
}

fn argument(name: &str, default: u64) -> Result<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    Ok(arguments.next().map(|text| text.parse()).transpose()?.unwrap_or(default))
}

#[expect(clippy::cast_precision_loss, reason = "numbers of operations are far below 2^52")]
fn figures(phase: &str, ours: Took, theirs: Option<Took>) -> Value {
    let rate = |took: Took| took.ops as f64 / took.seconds;
    let cpu = |took: Took| took.cpu_seconds / took.ops as f64 * 1e6;
    let mut figures = json!({
        "schema": 1,
        "bench": format!("mds {phase}"),
        "ops": ours.ops,
        "ops_per_second": rate(ours).round(),
        "cpu_microseconds_per_op": cpu(ours),
    });
    if let Some(theirs) = theirs {
        figures["libcephfs_ops_per_second"] = json!(rate(theirs).round());
        figures["libcephfs_cpu_microseconds_per_op"] = json!(cpu(theirs));
        figures["rate_ratio"] = json!(rate(ours) / rate(theirs));
        figures["cpu_share"] = json!(cpu(ours) / cpu(theirs));
    }
    figures
}

/// Runs one phase of ours: `step` for every number below `ops`, many at a time.
async fn phase<F, S>(fs: &FileSystem, ops: u64, step: S) -> Result<Took>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
    S: Fn(FileSystem, u64) -> F + Send + Clone + 'static,
{
    let (wall, cpu) = (tokio::time::Instant::now(), cpu_time());
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..PARALLEL {
        let (fs, next, step) = (fs.clone(), Arc::clone(&next), step.clone());
        tasks.spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= ops {
                    return Ok::<_, Error>(());
                }
                step(fs.clone(), i).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let cpu_seconds = cpu_time().saturating_sub(cpu).as_secs_f64();
    Ok(Took { ops, seconds: wall.elapsed().as_secs_f64(), cpu_seconds })
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn name(dir: Ino, kind: char, i: u64) -> Place {
    Place::from(dir).join(format!("{kind}{i}"))
}

/// Each phase that asks for what was made before begins with a fresh mount, which knows nothing.
async fn ours(cluster: &Cluster, ops: u64) -> Result<Vec<(&'static str, Took)>> {
    let mut took = Vec::new();
    let fs = mount(cluster).await?;
    let dir = fs.mkdir("/ours", 0o755).await?.ino;
    let made =
        phase(&fs, ops, move |fs, i| async move { fs.create(name(dir, 'f', i), 0o644).await.map(drop) });
    took.push(("create", made.await?));
    fs.unmount().await?;
    let fs = mount(cluster).await?;
    let stat = phase(&fs, ops, move |fs, i| async move { fs.stat(name(dir, 'f', i)).await.map(drop) });
    took.push(("stat", stat.await?));
    fs.unmount().await?;
    let fs = mount(cluster).await?;
    let lookup = phase(&fs, ops, move |fs, i| async move { fs.lookup(name(dir, 'f', i)).await.map(drop) });
    took.push(("lookup", lookup.await?));
    fs.unmount().await?;
    for (label, page_entries) in [("readdir", 128), ("readdir unbounded", 0)] {
        let mut config = config(cluster);
        config.page_entries = page_entries;
        let fs = FileSystem::mount(config).await?;
        let (wall, cpu) = (tokio::time::Instant::now(), cpu_time());
        let mut listing = fs.read_dir(dir);
        let mut found = 0;
        while let Some(entry) = listing.next().await {
            entry?;
            found += 1;
        }
        ensure!(found == ops, "{found} entries of {ops}");
        let cpu_seconds = cpu_time().saturating_sub(cpu).as_secs_f64();
        took.push((label, Took { ops, seconds: wall.elapsed().as_secs_f64(), cpu_seconds }));
        fs.unmount().await?;
    }
    let fs = mount(cluster).await?;
    let rename =
        phase(&fs, ops, move |fs, i| async move { fs.rename(name(dir, 'f', i), name(dir, 'r', i)).await });
    took.push(("rename", rename.await?));
    let mkdir =
        phase(&fs, ops, move |fs, i| async move { fs.mkdir(name(dir, 'd', i), 0o755).await.map(drop) });
    took.push(("mkdir", mkdir.await?));
    fs.unmount().await?;
    Ok(took)
}

fn config(cluster: &Cluster) -> FsConfig {
    FsConfig::new(cluster.mons().iter().map(|mon| mon.addrs().clone()))
}

async fn mount(cluster: &Cluster) -> Result<FileSystem> {
    Ok(FileSystem::mount(config(cluster)).await?)
}

/// The program beside this one.
struct Rival {
    program: PathBuf,
    conf: PathBuf,
}

impl Rival {
    fn build(cluster: &Cluster) -> Result<Option<Self>> {
        if !Path::new("/usr/include/cephfs/libcephfs.h").exists() {
            eprintln!("no libcephfs-dev: nothing to compare with");
            return Ok(None);
        }
        let program = cluster.path().join("libcephfs-bench");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench_mds/libcephfs.c");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-o"]).arg(&program).arg(source).args(["-lcephfs", "-lpthread"]);
        ensure!(cc.status().context("cc")?.success(), "libcephfs.c does not build");
        Ok(Some(Self { program, conf: cluster.conf() }))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&self.conf).args(words);
        command
    }

    fn phases(&self, ops: u64) -> Result<Vec<(String, Took)>> {
        let output = self.command(&[THREADS, &ops.to_string(), "/theirs"]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut phases = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let number = |field: &str| line[field].as_f64().with_context(|| format!("{field} in {line}"));
            let ops = line["ops"].as_u64().context("ops")?;
            let took = Took { ops, seconds: number("seconds")?, cpu_seconds: number("cpu_seconds")? };
            let phase = line["phase"].as_str().context("phase")?.to_owned();
            if phase == "readdir" {
                phases.push(("readdir unbounded".to_owned(), took));
            }
            phases.push((phase, took));
        }
        Ok(phases)
    }
}

/// How long another client takes to make and remove a directory while nobody walks, while we do, and while libcephfs does.
async fn victims(cluster: &Cluster, rival: Option<&Rival>, entries: u64) -> Result<()> {
    let fs = mount(cluster).await?;
    let root = fs.mkdir("/tree", 0o755).await?.ino;
    for at in 0..entries.div_ceil(WALK_DIR) {
        let dir = fs.mkdir(name(root, 'd', at), 0o755).await?.ino;
        let made = WALK_DIR.min(entries - at * WALK_DIR);
        phase(&fs, made, move |fs, i| async move { fs.create(name(dir, 'f', i), 0o644).await.map(drop) })
            .await?;
    }
    fs.create("/victim", 0o644).await?;
    fs.sync().await?;
    fs.unmount().await?;
    let program = std::env::current_exe()?;
    let ours = program.ancestors().nth(2).context("a target directory")?.join("cuttlebone");
    ensure!(ours.is_file(), "{} is not built", ours.display());
    let mut find = Command::new(ours);
    find.args(["fs", "--mon", &cluster.mon_host(), "find", "/tree"]);
    let alone = victim(cluster, None)?;
    let with_us = victim(cluster, Some(find))?;
    let mut figures = json!({
        "schema": 1,
        "bench": "mds victim",
        "entries": entries,
        "alone_p99_microseconds": alone.p99,
        "while_we_walk_p99_microseconds": with_us.p99,
        "our_walk_seconds": with_us.seconds,
    });
    if let Some(rival) = rival {
        let with_them = victim(cluster, Some(rival.command(&["walk", "0", "/tree"])))?;
        figures["while_libcephfs_walks_p99_microseconds"] = json!(with_them.p99);
        figures["libcephfs_walk_seconds"] = json!(with_them.seconds);
        figures["p99_ratio"] = json!(with_us.p99 / with_them.p99);
    }
    println!("{figures}");
    Ok(())
}

struct Seen {
    p99: f64,
    seconds: f64,
}

/// The second client makes and removes a directory again and again, for as long as `walk` runs.
fn victim(cluster: &Cluster, walk: Option<Command>) -> Result<Seen> {
    const AT_ONCE: u64 = 100;
    const ALONE: usize = 2_000;
    let mut second = cluster.second_client()?;
    second.ok("timed", &[json!("/victim"), json!(AT_ONCE)])?;
    let begin = tokio::time::Instant::now();
    let mut child = match walk {
        Some(mut command) => Some(command.stdout(std::process::Stdio::null()).spawn()?),
        None => None,
    };
    let mut took: Vec<f64> = Vec::new();
    let mut seconds = 0.0;
    loop {
        match child.as_mut().map(std::process::Child::try_wait).transpose()? {
            None if took.len() >= ALONE => break,
            Some(Some(status)) => {
                if !status.success() {
                    bail!("the walk ended with {status}");
                }
                break;
            }
            _ => {}
        }
        let answers = second.ok("timed", &[json!("/victim"), json!(AT_ONCE)])?;
        took.extend(answers.as_array().into_iter().flatten().filter_map(Value::as_f64));
        seconds = begin.elapsed().as_secs_f64();
    }
    second.unmount()?;
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len().saturating_mul(99) / 100).copied().context("no answers")?;
    Ok(Seen { p99, seconds })
}

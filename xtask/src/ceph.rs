//! A cluster that stays: `cargo xtask ceph up`, look around with `ceph`, `cargo xtask ceph down`.

use core::time::Duration;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use cuttlebone_testkit::{Cluster, Deadline, FsSpec};
use serde_json::{Value, json};

use crate::{run, setup};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Starts monitors with AUTH_NONE on loopback and leaves them running
    Up(Size),
    /// Ends what `up` started and removes its files
    Down,
    /// Holds the cluster; what `up` starts in the background
    #[command(hide = true)]
    Hold(Size),
}

/// How much to start.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Size {
    /// How many monitors
    #[arg(long, default_value_t = 1)]
    mons: usize,
    /// How many active metadata servers, with a file system and an OSD in memory; 0 for none of them
    #[arg(long, default_value_t = 0)]
    mds: usize,
    /// How many metadata servers stand by
    #[arg(long, default_value_t = 0, requires = "mds")]
    standby: usize,
}

/// How long a cluster may take to come up.
const UP_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one may take to go.
const DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the running cluster is described.
fn state_file() -> PathBuf {
    run::root().join("target/ceph/state.json")
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Up(size) => up(*size),
        Verb::Down => down(),
        Verb::Hold(size) => hold(*size),
    }
}

fn up(size: Size) -> Result<()> {
    if let Err(advice) = setup::peers() {
        bail!(advice);
    }
    let state = state_file();
    if state.exists() {
        bail!("a cluster is up already, or was not taken down: cargo xtask ceph down");
    }
    let folder = state.parent().context("the state file is in a folder")?;
    fs::create_dir_all(folder)?;
    let log = fs::File::create(folder.join("log"))?;
    let mut holder = Command::new(std::env::current_exe()?);
    holder.args(["ceph", "hold"]).current_dir(run::root());
    for (flag, count) in [("--mons", size.mons), ("--mds", size.mds), ("--standby", size.standby)] {
        holder.args([flag, &count.to_string()]);
    }
    // A session of its own, so that the terminal's end does not end the cluster.
    let mut holder =
        holder.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
    let up = Deadline::after(UP_TIMEOUT).wait_for("the cluster is up", || {
        if holder.try_wait().is_ok_and(|status| status.is_some()) {
            return Some(None);
        }
        Some(Some(serde_json::from_slice::<Value>(&fs::read(&state).ok()?).ok()?))
    })?;
    let Some(up) = up else {
        bail!("the cluster did not start: {}", fs::read_to_string(folder.join("log"))?);
    };
    let text = |key: &str| up.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    println!("ceph -c {} -s", text("conf"));
    println!("cargo run --release -- mon backup --mon '{}' --store DIR", text("mon_host"));
    if size.mds > 0 {
        println!("cargo run --release -- fs ls --mon '{}' /", text("mon_host"));
    }
    println!("cargo xtask ceph down");
    Ok(())
}

/// Starts the cluster, says so in the state file, and waits for the signal that ends both.
fn hold(size: Size) -> Result<()> {
    let mut cluster = Cluster::builder().mons(size.mons);
    if size.mds > 0 {
        cluster = cluster.fs(FsSpec { active: size.mds, standby: size.standby });
    }
    let cluster = cluster.start()?;
    let state = json!({
        "pid": std::process::id(),
        "dir": cluster.path(),
        "conf": cluster.conf(),
        "mon_host": cluster.mon_host(),
    });
    let new = state_file().with_extension("new");
    fs::write(&new, state.to_string())?;
    fs::rename(&new, state_file())?;
    loop {
        // The daemons are tied to this process: they end when `down` ends it.
        std::thread::park();
    }
}

fn down() -> Result<()> {
    let path = state_file();
    let state: Value = serde_json::from_slice(&fs::read(&path).context("no cluster is up")?)?;
    let pid = state.get("pid").and_then(Value::as_u64).context("the state file has no process id")?;
    let dir = state.get("dir").and_then(Value::as_str).context("the state file has no directory")?;
    // A holder that is gone already leaves only files to remove.
    let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
    let gone = || (!PathBuf::from(format!("/proc/{pid}")).exists()).then_some(());
    Deadline::after(DOWN_TIMEOUT).wait_for("the cluster is down", gone)?;
    if PathBuf::from(dir).exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::remove_file(path)?)
}

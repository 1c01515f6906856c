//! Recording objects from a real peer, and rewriting expected texts.

use std::fs;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use cuttlebone_testkit::{Cluster, corpus_dir};
use cuttlebone_wire::crc32c;

use crate::{run, setup};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Records objects that a real monitor writes, into the folder of recorded objects
    Capture,
    /// Rewrites what tests expect: texts, first inputs of fuzz targets, and a bucket's store if there is none of this
    /// version; review the diff
    Bless,
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Capture => capture(),
        Verb::Bless => {
            let blessed = "binary(/^(tables|golden)/) | package(cuttlebone-fuzz)";
            let mut command = run::cargo(["nextest", "run", "--workspace", "-E", blessed]);
            run::step(command.env("CUTTLEBONE_BLESS", "1"))
        }
    }
}

/// Versions that a capture makes besides those of a new cluster.
const COMMITS: u64 = 3;

fn capture() -> Result<()> {
    if let Err(advice) = setup::peers() {
        bail!(advice);
    }
    let cluster = Cluster::builder().start()?;
    cluster.commits("golden", COMMITS, 100)?;
    let release = cluster.ceph_json(&["versions"])?;
    let release = release["mon"].as_object().and_then(|mons| mons.keys().next().cloned());
    let release = release.and_then(|text| text.split(' ').nth(2).map(String::from)).context("no version")?;
    let map = cluster.path().join("map");
    cluster.ceph(&["mon", "getmap", "-o", &map.display().to_string()])?;
    keep(&release, "MonMap", &fs::read(&map)?)?;
    let mon = cluster.mon("a");
    mon.stop()?;
    let last = mon.store_get("paxos", "last_committed")?;
    let last = u64::from_le_bytes(*last.first_chunk().context("last_committed is too short")?);
    for version in last.saturating_sub(COMMITS)..=last {
        keep(&release, "MonitorDBStore::Transaction", &mon.store_get("paxos", &version.to_string())?)?;
    }
    Ok(())
}

fn keep(release: &str, kind: &str, bytes: &[u8]) -> Result<()> {
    let folder = corpus_dir().join(release).join(kind);
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{:08x}", crc32c(0, bytes)));
    println!("{}", file.display());
    Ok(fs::write(file, bytes)?)
}

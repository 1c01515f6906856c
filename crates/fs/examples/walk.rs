//! Prints every path below a directory: `walk / v2:127.0.0.1:3300`, or `CEPH_CONF=ceph.conf walk /`.

use std::{env, fs};

use cuttlebone_fs::{FileSystem, FsConfig, Place};
use cuttlebone_wire::EntityAddr;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut arguments = env::args().skip(1);
    let root = arguments.next().unwrap_or_else(|| "/".into());
    let monitors = match (arguments.next(), env::var_os("CEPH_CONF")) {
        (Some(monitor), _) => vec![monitor.parse()?],
        (None, Some(conf)) => monitors_of(&fs::read_to_string(conf)?)?,
        (None, None) => return Err("usage: walk PATH [MONITOR], where CEPH_CONF may name a ceph.conf".into()),
    };
    let fs = FileSystem::mount(FsConfig::new(monitors.into_iter().map(Into::into))).await?;
    let mut waiting = vec![Place::from(&root)];
    while let Some(place) = waiting.pop() {
        println!("{place}");
        let mut listing = fs.read_dir(&place);
        while let Some(entry) = listing.next().await {
            let entry = entry?;
            let below = place.join(&entry.name);
            if entry.metadata.is_dir() {
                waiting.push(below);
            } else {
                println!("{below}");
            }
        }
    }
    Ok(fs.unmount().await?)
}

/// The addresses of messenger v2 in the line `mon_host = [v2:10.0.0.1:3300,v1:10.0.0.1:6789],…`, which is what the tools
/// that set clusters up write. The `cuttlebone` command reads everything else that such a file may hold.
fn monitors_of(conf: &str) -> Result<Vec<EntityAddr>, Box<dyn core::error::Error>> {
    let lines = conf.lines().filter_map(|line| line.split_once('='));
    let mut hosts = lines.filter(|(key, _)| matches!(key.trim(), "mon_host" | "mon host"));
    let (_, hosts) = hosts.next().ok_or("this file has no mon_host")?;
    let parts = hosts.split(['[', ']', ',', ' ', ';']).map(str::trim);
    let addresses = parts.filter(|part| part.starts_with("v2:")).map(str::parse);
    let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err("its mon_host has no address of the form v2:10.0.0.1:3300".into());
    }
    Ok(addresses)
}

//! Three nodes and a real monitor.

use std::collections::BTreeSet;

use anyhow::Result;
use cuttlebone_testkit::Cluster;

use super::Running;

/// Prefixes of one monitor's own, which no monitor sends.
const PRIVATE: [&str; 4] = ["mkfs\t", "mon_sync\t", "monitor\t", "monitor_store\t"];

/// The keys that every monitor of a cluster has.
pub(crate) fn shared(lines: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let own = |line: &String| PRIVATE.iter().any(|prefix| line.starts_with(prefix));
    lines.into_iter().filter(|line| !own(line)).collect()
}

/// The origin follows the monitor, the two others follow it.
pub(crate) fn three(cluster: &Cluster, dir: &std::path::Path) -> Result<[Running; 3]> {
    let monitor = cluster.mon("a").addr();
    let mut origin =
        Running::new(dir, "n1", &format!("[source.monsync]\nmonitors = [\"{monitor}\"]\nevery_ms = 100\n"))?;
    origin.serve_replicas();
    origin.start()?;
    let follow = format!("[source.follow]\norigin = \"{}\"\n", origin.links()?);
    let mut others = ["n2", "n3"].map(|name| Running::new(dir, name, &follow));
    for node in &mut others {
        node.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?.start()?;
    }
    let [second, third] = others;
    Ok([origin, second?, third?])
}

//! The harness for metadata servers itself: a file system comes up, fails over, and a second client works on it.

use anyhow::{Context, Result};
use cuttlebone_testkit::{Cluster, FsSpec};
use serde_json::json;

#[test]
fn a_file_system_comes_up_fails_over_and_is_healthy_again() -> Result<()> {
    let cluster = Cluster::builder().fs(FsSpec { active: 1, standby: 1 }).start()?;
    cluster.wait_until_healthy()?;
    let mut second = cluster.second_client()?;
    second.ok("mkdir", &[json!("/a")])?;
    let ino = second.ok("create", &[json!("/a/f")])?;
    assert_eq!(second.call("mkdir", &[json!("/a")])?, Err(17));
    let sessions = cluster.mds_sessions(0)?;
    assert!(sessions.iter().any(|session| session["id"] == json!(second.global_id())), "{sessions:?}");
    let before = cluster.active_mds(0)?.context("one is active")?;
    cluster.crash_mds(0, 1)?;
    let after = cluster.active_mds(0)?.context("one is active again")?;
    assert_ne!(before.id(), after.id(), "the standby has taken over");
    assert_eq!(second.ok("readdir", &[json!("/a")])?, json!([["f", ino]]));
    second.unmount()?;
    cluster.wait_until_healthy()
}

#[test]
fn two_ranks_share_a_tree_by_pins() -> Result<()> {
    let cluster = Cluster::builder().fs(FsSpec { active: 2, standby: 0 }).start()?;
    let mut second = cluster.second_client()?;
    second.ok("mkdir", &[json!("/b")])?;
    second.ok("setxattr", &[json!("/b"), json!("ceph.dir.pin"), json!("1")])?;
    second.ok("batch", &[json!("create"), json!("/b/f"), json!(10)])?;
    second.unmount()?;
    cluster.wait_until_healthy()
}

//! The check with which every test ends can fail: a client that is deaf is seen, in each of the places that are looked at.

use core::time::Duration;

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{AttrChanges, FileSystem, Place};
use cuttlebone_testkit::{Cluster, SecondClient};
use serde_json::json;

use crate::world::{ONE, blocking, config, finish_after, soon, trust};

/// Files, each of which a client that has looked at it holds a capability for.
const FILES: u64 = 200;

/// A cluster that asks for capabilities back when a client has more than a few, and complains soon.
fn strict() -> Result<Cluster> {
    let options = [
        ("mds_max_caps_per_client", "50"),
        ("mds_min_caps_per_client", "10"),
        ("mds_recall_warning_threshold", "20"),
        ("mds_min_caps_working_set", "20"),
    ];
    let builder = Cluster::builder().fs(ONE);
    options.into_iter().fold(builder, |builder, (name, value)| builder.option(name, value)).start()
}

fn caps_of(cluster: &Cluster, client: u64) -> Result<u64> {
    let sessions = cluster.mds_sessions(0)?;
    let session = sessions.iter().find(|session| session["id"] == json!(client)).context("its session")?;
    session["num_caps"].as_u64().context("a number")
}

/// Has the second client look at every file, and stops it before it has given enough of that back.
fn go_deaf(cluster: &Cluster, second: &mut SecondClient) -> Result<()> {
    for _ in 0..20 {
        second.ok("batch", &[json!("stat"), json!("/d/f"), json!(FILES)])?;
        second.freeze(true)?;
        if caps_of(cluster, second.global_id())? > FILES / 2 {
            return Ok(());
        }
        second.freeze(false)?;
    }
    anyhow::bail!("it gives everything back at once")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ignores_recalls_is_seen_and_we_are_not_that_client() -> Result<()> {
    let cluster = blocking(strict)?;
    let fs = FileSystem::mount(config(&cluster)).await?;
    fs.mkdir("/d", 0o755).await?;
    for i in 0..FILES {
        fs.create(&Place::from("/d").join(format!("f{i}")), 0o644).await?;
    }
    blocking(|| trust(&cluster, &[]))?;
    let mut second = blocking(|| cluster.second_client())?;
    blocking(|| second.ok("hold", &[json!("/d/f0"), json!(0o2)]))?;
    blocking(|| go_deaf(&cluster, &mut second))?;
    let deaf = format!("client_id: {}", second.global_id());
    let warned = async {
        loop {
            // We are asked for as much as the other is, and go on taking capabilities.
            for i in 1..FILES {
                fs.stat(&Place::from("/d").join(format!("f{i}"))).await?;
            }
            let checks = blocking(|| cluster.health_checks())?;
            if let Some(check) = checks.into_iter().find(|check| check.starts_with("MDS_CLIENT_RECALL")) {
                return anyhow::Ok(check);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let check = soon("a warning without a manager", warned).await??;
    ensure!(check.contains(&deaf), "{check}: not about the deaf client, {deaf}");
    ensure!(!check.contains(&format!("client_id: {}", fs.global_id())), "{check}: we are warned of");
    // A request of ours that waits for the deaf client is seen as one that is under way.
    let waiting = tokio::spawn({
        let fs = fs.clone();
        async move {
            let changes = AttrChanges { mode: Some(0o600), ..AttrChanges::default() };
            fs.set_attributes("/d/f0", changes).await
        }
    });
    let seen = async {
        while blocking(|| cluster.ops_in_flight())?.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    soon("a request that waits", seen).await??;
    second.freeze(false)?;
    soon("our request", waiting).await???;
    blocking(|| second.ok("drop", &[json!("/d/f0")]))?;
    ensure!(
        blocking(|| trust(&cluster, &[])).is_err(),
        "what the log had is forgotten when the health is clean"
    );
    finish_after(&cluster, fs, Some(second), &["MDS_CLIENT_RECALL"]).await
}

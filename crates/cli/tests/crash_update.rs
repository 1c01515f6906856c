//! An agent that drives hot reload and is killed again and again: what an older incarnation asked for never takes
//! effect after what a newer one did.
//!
//! `CUTTLEBONE_ROUNDS=<n>` kills that many.

use core::time::Duration;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, RunnerConfig, VbucketState};
use cuttlebone_checkpoint::Item;
use cuttlebone_http::update::{NAME, Step};
use cuttlebone_http::{Client, ClientError};
use cuttlebone_machine::{Entropy, SplitMix};
use tokio::time::Instant;

mod running;

use running::holder::hold;
use running::{Running, rounds};

/// The fence of an incarnation that is over as soon as this returns.
async fn fence_of_one_that_died(client: &Client) -> Result<String> {
    let (held, fence) = hold(client, NAME).await?;
    drop(held);
    Ok(fence)
}

/// A disk with something on it, so that every step has something to do.
fn fill(dir: &Path) -> Result<()> {
    let bucket = Bucket::open(LogEngine::open(dir)?, BucketLimits::default(), Now::default(), 1)?;
    bucket.create(0, Now::default(), VbucketState::Active)?;
    for key in 0..1000_u32 {
        bucket.set(0, Now::default(), Item::set(&key.to_be_bytes(), &[b'v'; 100])?, Mode::Set)?;
    }
    bucket.run(RunnerConfig::default(), Now::default)?.stop(Duration::from_secs(10))?;
    Ok(())
}

fn agent(node: &Running, step: &str) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuttlebone"));
    command.args(["node", "update", step, "--server", node.server()]);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// What the log says of one step: the incarnation that asked for it, what it was, and whether it was done.
struct Logged {
    epoch: u64,
    step: String,
    done: bool,
}

/// Every step, in the order in which they took effect; `None` where the node was started.
fn logged(node: &Running) -> Result<Vec<Option<Logged>>> {
    let mut steps = Vec::new();
    for line in node.logged() {
        match line["message"].as_str() {
            Some("running") => steps.push(None),
            Some("hot reload") => steps.push(Some(Logged {
                epoch: line["epoch"].as_u64().context("an epoch")?,
                step: line["step"].as_str().context("a step")?.into(),
                done: line["done"].as_bool().context("whether it was done")?,
            })),
            _ => {}
        }
    }
    Ok(steps)
}

#[tokio::test]
async fn no_step_of_an_older_incarnation_follows_one_of_a_newer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Running::new(dir.path(), "n1", "")?;
    fill(&node.dir().join("bucket"))?;
    node.start()?;
    // How long an agent takes that is left alone; others are killed at any moment of such a life.
    let began = Instant::now();
    ensure!(agent(&node, "start")?.wait()?.success());
    let whole = began.elapsed();
    let client = Client::new(node.server().parse()?, None);
    let steps = ["start", "complete", "start", "revert"];
    let mut chance = SplitMix::new(0xa6e7);
    let (mut killed, mut refused, mut newer) = (0, 0, String::new());
    for round in 0..rounds(100) {
        if round % 25 == 24 {
            // A node that restarts knows its old incarnations still.
            node.kill()?;
            node.start()?;
            let answer = client.update(Step::Start, &newer).await;
            let Err(ClientError::Refused(_, problem)) = answer else { bail!("{answer:?}") };
            ensure!(problem.error == "fenced", "{problem:?}");
        }
        let old = fence_of_one_that_died(&client).await?;
        let mut agent = agent(&node, steps[usize::try_from(round)? % steps.len()])?;
        let life = whole.mul_f64(f64::from(u32::try_from(chance.below(120))?) / 100.0);
        tokio::time::sleep(life).await; // how long it lives is what varies
        agent.kill()?;
        killed += u32::from(!agent.wait()?.success());
        // One that comes through, so that there is a newer one in any case.
        newer = fence_of_one_that_died(&client).await?;
        let step = [Step::Start, Step::Complete, Step::Revert][usize::try_from(chance.below(3))?];
        let answer = client.update(step, &newer).await;
        ensure!(matches!(&answer, Ok(_) | Err(ClientError::Refused(..))), "{answer:?}");
        // And what the old one had on its way arrives only now.
        match client.update(Step::Revert, &old).await {
            Err(ClientError::Refused(_, problem)) if problem.error == "fenced" => refused += 1,
            other => bail!("round {round}: the old one was answered {other:?}"),
        }
    }
    ensure!(killed > 0 && refused == rounds(100), "{killed} killed, {refused} refused");

    // The log has the steps in the order in which they took effect. Each did what a model says, whoever asked for it.
    let (mut newest, mut open, mut taken, mut done) = (0, false, 0, 0);
    for step in logged(&node)? {
        let Some(Logged { epoch, step, done: was }) = step else {
            open = false; // a window does not survive the node
            continue;
        };
        ensure!(epoch >= newest, "{step} of {epoch} after {newest}");
        newest = epoch;
        let may = (step == "start") != open;
        ensure!(was == may, "{step} of {epoch}: done is {was}, and a window was open: {open}");
        open ^= was;
        taken += 1;
        done += u32::from(was);
    }
    ensure!(node.status()?["update"]["stage"] == if open { "on" } else { "off" }, "the last step");
    let killed_later = taken - 1 - rounds(100);
    eprintln!(
        "{killed} killed, {killed_later} of the agents took their step; {taken} steps, {done} of them done"
    );
    ensure!(taken > rounds(100) && done > 0, "{taken} steps were logged");
    node.stop()
}

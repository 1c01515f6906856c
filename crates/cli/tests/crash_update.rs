//! An agent that drives hot reload and is killed again and again: what an older incarnation asked for never takes
//! effect after what a newer one did.
//!
//! `CUTTLEBONE_ROUNDS=<n>` kills that many.

use core::time::Duration;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::update::{NAME, Step};
use cuttlebone_http::{Client, ClientError};

mod running;

use running::{Running, rounds};

/// The fence of an incarnation that is over as soon as this returns.
async fn fence_of_one_that_died(client: &Client) -> Result<String> {
    let request = RegisterRequest {
        name: NAME.into(),
        takeover: TakeoverName::Wait,
        limit: Some(1),
        lease: LeaseTerms::Response,
    };
    let mut owner = client.register(&request).await?;
    let Event::Registered { epoch, .. } = owner.held(|_| {}).await? else { bail!("no registration") };
    let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..Default::default() };
    let mut token = client.token(NAME, &request).await?;
    let Event::Granted { fence, .. } = token.held(|_| {}).await? else { bail!("no token") };
    Ok(fence)
}

#[tokio::test]
async fn no_step_of_an_older_incarnation_follows_one_of_a_newer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Running::new(dir.path(), "n1", "")?;
    node.start()?;
    let client = Client::new(node.server().parse()?, None);
    let steps = ["start", "complete", "start", "revert"];
    let (mut killed, mut refused) = (0, 0);
    for round in 0..rounds(20) {
        let old = fence_of_one_that_died(&client).await?;
        // One that may be killed at any moment: while it registers, waits, or has asked.
        let step = steps[usize::try_from(round)? % steps.len()];
        let mut agent = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
            .args(["node", "update", step, "--server", node.server()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let life = Duration::from_millis(u64::from(round * 7 % 50));
        tokio::time::sleep(life).await; // how long it lives is what varies
        agent.kill()?;
        killed += u32::from(!agent.wait()?.success());
        // One that comes through, so that there is a newer one in any case.
        let newer = fence_of_one_that_died(&client).await?;
        let answer = client.update(Step::Start, &newer).await;
        ensure!(matches!(&answer, Ok(_) | Err(ClientError::Refused(..))), "{answer:?}");
        // And what the old one had on its way arrives only now.
        match client.update(Step::Revert, &old).await {
            Err(ClientError::Refused(_, problem)) if problem.error == "fenced" => refused += 1,
            other => bail!("round {round}: the old one was answered {other:?}"),
        }
        if round == 10 {
            // A node that restarts knows its old incarnations still.
            node.kill()?;
            node.start()?;
            let answer = client.update(Step::Start, &newer).await;
            let Err(ClientError::Refused(_, problem)) = answer else { bail!("{answer:?}") };
            ensure!(problem.error == "fenced", "{problem:?}");
        }
    }
    ensure!(killed > 0 && refused == rounds(20), "{killed} killed, {refused} refused");
    let mut newest = 0;
    let mut taken = 0;
    for line in node.logged().iter().filter(|line| line["message"] == "hot reload") {
        let epoch = line["epoch"].as_u64().context("an epoch")?;
        ensure!(epoch >= newest, "{epoch} after {newest}: {line}");
        newest = epoch;
        taken += 1;
    }
    ensure!(taken >= rounds(20), "{taken} steps were logged");
    node.stop()
}

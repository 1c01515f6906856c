//! `cuttlebone node`: a node run, watched and driven.

use core::time::Duration;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::status::Status;
use cuttlebone_http::update::{NAME, Step};
use cuttlebone_http::{Client, ClientError};
use serde_json::{Value, json};

use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::mon::runtime;
use crate::output::{Output, table};
use crate::token::ServiceArgs;

mod notify;
mod run;

pub use run::{LogFormat, RunArgs};

/// Verbs of `cuttlebone node`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum NodeCommand {
    /// Runs a node until it is told to end.
    Run(RunArgs),
    /// Shows what a node does: its sources, what it keeps, who is connected.
    Status(ServiceArgs),
    /// Has a node read its configuration anew, and shows what has changed.
    Reload(ServiceArgs),
    /// Hot reload: holds persistence back, and then keeps or undoes what came since.
    #[command(subcommand)]
    Update(UpdateCommand),
    /// Prints every key that a node keeps with the checksum of its value, as ceph-kvstore-tool does.
    ListCrc(ListArgs),
}

/// Steps of hot reload.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum UpdateCommand {
    /// From now on nothing is written to disk.
    Start(UpdateArgs),
    /// Keeps what came since the start.
    Complete(UpdateArgs),
    /// Undoes what came since the start, on every replica, too.
    Revert(UpdateArgs),
}

/// Which node, and as whom.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct UpdateArgs {
    /// The node.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// A token's fence, of the name `update`; without it the command takes a token for itself, and waits for it.
    #[arg(long, value_name = "FENCE")]
    pub fence: Option<String>,
}

/// What to list.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ListArgs {
    /// The node.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The vbucket.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub vbucket: u16,
}

/// How long a client waits for the turn to drive hot reload.
const TURN_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn run<W: Write>(command: &NodeCommand, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    match command {
        NodeCommand::Run(arguments) => run::run(arguments, global, output),
        NodeCommand::Status(service) => runtime()?.block_on(status(service, output)),
        NodeCommand::Reload(service) => runtime()?.block_on(reload(service, output)),
        NodeCommand::Update(command) => {
            let (step, arguments) = match command {
                UpdateCommand::Start(arguments) => (Step::Start, arguments),
                UpdateCommand::Complete(arguments) => (Step::Complete, arguments),
                UpdateCommand::Revert(arguments) => (Step::Revert, arguments),
            };
            runtime()?.block_on(update(step, arguments, output))
        }
        NodeCommand::ListCrc(arguments) => runtime()?.block_on(async {
            let list = arguments.service.client()?.list_crc(arguments.vbucket).await?;
            output.raw(list.as_bytes())?;
            Ok(Exit::Done)
        }),
    }
}

async fn status<W: Write>(service: &ServiceArgs, output: &mut Output<W>) -> Result<Exit> {
    let status = service.client()?.status().await?;
    output.item(&serde_json::to_value(&status)?, |out| print(&status, out))?;
    Ok(Exit::Done)
}

/// The status for people.
fn print(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
    let word = |value: &dyn erased::Word| value.word();
    let node = &status.node;
    write!(out, "{} {}", node.name, word(&node.stage))?;
    if !node.detail.is_empty() {
        write!(out, " ({})", node.detail)?;
    }
    writeln!(out, ", up {} s, version {}", node.uptime_ms / 1000, node.version)?;
    if !status.sources.is_empty() {
        let rows = status.sources.iter().map(|source| {
            let error = source.last_error.clone().unwrap_or_default();
            let peer = source.peer.clone().unwrap_or_default();
            vec![source.name.clone(), word(&source.state), peer, source.failures_total.to_string(), error]
        });
        writeln!(out, "{}", table(&["SOURCE", "STATE", "PEER", "FAILURES", "LAST ERROR"], rows))?;
    }
    let vbuckets = status.buckets.iter().flat_map(|bucket| &bucket.vbuckets.rows);
    let rows: Vec<_> = vbuckets
        .map(|vbucket| {
            let window = if vbucket.in_window { "held" } else { "" };
            vec![
                vbucket.id.to_string(),
                word(&vbucket.state),
                vbucket.items.to_string(),
                vbucket.last_seqno.to_string(),
                vbucket.persisted_seqno.to_string(),
                window.into(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        writeln!(
            out,
            "{}",
            table(&["VBUCKET", "STATE", "ITEMS", "SEQNO", "ON DISK", "WINDOW"], rows.into_iter())
        )?;
    }
    for published in &status.published.rows {
        let state = if published.mounted { "mounted" } else { "not mounted" };
        writeln!(out, "{} at {}: {state}", published.name, published.server)?;
    }
    for connection in &status.connections.rows {
        let (peer, address) = (&connection.peer, &connection.address);
        writeln!(out, "{} {peer} {address}, {} s", connection.purpose, connection.age_ms / 1000)?;
    }
    Ok(())
}

/// Words as the JSON has them.
mod erased {
    use serde::Serialize;

    pub(super) trait Word {
        fn word(&self) -> String;
    }

    impl<T: Serialize> Word for T {
        fn word(&self) -> String {
            let value = serde_json::to_value(self).unwrap_or_default();
            value.as_str().map(|word| word.replace('_', " ")).unwrap_or_default()
        }
    }
}

async fn reload<W: Write>(service: &ServiceArgs, output: &mut Output<W>) -> Result<Exit> {
    let reloaded = service.client()?.reload().await?;
    output.item(&serde_json::to_value(&reloaded)?, |out| {
        for change in &reloaded.changes {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".into());
            writeln!(out, "{}: {} -> {}", change.key, text(&change.from), text(&change.to))?;
        }
        if reloaded.changes.is_empty() { writeln!(out, "nothing has changed") } else { Ok(()) }
    })?;
    Ok(Exit::Done)
}

async fn update<W: Write>(step: Step, arguments: &UpdateArgs, output: &mut Output<W>) -> Result<Exit> {
    let client = arguments.service.client()?;
    let updated = match &arguments.fence {
        Some(fence) => client.update(step, fence).await?,
        None => with_turn(&client, step).await?,
    };
    let (done, keys) = (&updated.done, updated.restored_keys);
    let answer: Value = json!({ "schema": updated.schema, "done": done, "restored_keys": keys });
    output.item(&answer, |out| match step {
        Step::Revert => writeln!(out, "{done}: {keys} keys restored"),
        Step::Start | Step::Complete => writeln!(out, "{done}: done"),
    })?;
    Ok(Exit::Done)
}

/// As the owner of the name, with a token: so that two who try at the same time come one after the other, and what an
/// older one still has on its way is refused.
async fn with_turn(client: &Client, step: Step) -> Result<cuttlebone_http::update::Updated> {
    let turn = async {
        let request = RegisterRequest {
            name: NAME.into(),
            takeover: TakeoverName::Wait,
            limit: Some(1),
            lease: LeaseTerms::Response,
        };
        let mut owner = client.register(&request).await?;
        let Event::Registered { epoch, .. } = owner.held(|_| {}).await? else {
            return Err(ClientError::Malformed("an answer that is no registration"));
        };
        let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..TokenRequest::default() };
        let mut token = client.token(NAME, &request).await?;
        let Event::Granted { fence, .. } = token.held(|_| {}).await? else {
            return Err(ClientError::Malformed("an answer that is no token"));
        };
        Ok((owner, token, fence))
    };
    let late = || Failed::new(Exit::Unreachable, "somebody else drives hot reload and does not end");
    let (owner, token, fence) = tokio::time::timeout(TURN_WITHIN, turn).await.ok().with_context(late)??;
    let updated = client.update(step, &fence).await?;
    drop((token, owner));
    Ok(updated)
}

/// Options of the file that a node runs from.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct ConfigArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// A key of it with another value, as in bucket.dir=/data; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

//! `cuttlebone mount`: servers under names, for as long as they live.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use cuttlebone_http::mounts::{Mounts, Principals};
use cuttlebone_http::{Config, Server, TokioClock};
use cuttlebone_mounttable::{
    Event, Found, Journal, Kind, Limits, Live, Name, Pattern, Permissions, Place, Principal, Resolver,
    SharedTable, Table, Watched,
};
use cuttlebone_tokens::Clock;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::interrupt::interrupted;
use crate::mon::runtime;
use crate::output::Output;
use crate::token::SecretArgs;

mod publish;
mod ready;
mod table;

pub use publish::PublishArgs;
pub use ready::{Probe, ProbeError};
use table::{AnyTable, Tables};

/// Verbs of `cuttlebone mount`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum MountCommand {
    /// Serves a mount table.
    Serve(ServeArgs),
    /// Lists what is mounted on the names that match, also in tables that are mounted in the table.
    Ls(LsArgs),
    /// Prints the servers that a name leads to, one a line.
    Resolve(ResolveArgs),
    /// Keeps names mounted while a command runs and is ready.
    Publish(PublishArgs),
    /// Takes servers from a name.
    Unmount(UnmountArgs),
    /// Prints what is mounted on the names that match, and then every change.
    Watch(WatchArgs),
}

/// How to serve.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ServeArgs {
    /// Where: HOST:PORT, or unix:PATH.
    #[arg(long, value_name = "ADDR")]
    pub listen: String,
    /// Directory for permissions that are set and names that are deleted, so that they survive a restart.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// File with who may do what, as JSON: names, or NAME/%% for what lies below, to {"admin": [PRINCIPAL, ...], ...}.
    #[arg(long, value_name = "FILE")]
    pub permissions: Option<PathBuf>,
    /// File with a principal and its secret on each line.
    #[arg(long, value_name = "FILE")]
    pub principals: Option<PathBuf>,
    /// Names that each principal may make; without it, no limit.
    #[arg(long, value_name = "N")]
    pub quota: Option<usize>,
    /// The secret of the table's owner.
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// Which table to ask.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct TableArgs {
    /// The table: http://HOST:PORT, unix:PATH, or etcd://HOST:PORT with more members after commas and /PREFIX behind.
    #[arg(long, value_name = "URL", env = "CUTTLEBONE_MOUNT_TABLE")]
    pub table: String,
    /// What to show it; for etcd, USER:PASSWORD.
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// What to list.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct LsArgs {
    /// Where.
    #[command(flatten)]
    pub table: TableArgs,
    /// Which names: elements with *, ?, [a-c], and at the end ... for everything below.
    #[arg(value_name = "PATTERN", default_value = "...")]
    pub pattern: Pattern,
}

/// What to resolve.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ResolveArgs {
    /// Where to begin.
    #[command(flatten)]
    pub table: TableArgs,
    /// The name.
    #[arg(value_name = "NAME")]
    pub resolved: Name,
}

/// What to take away.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct UnmountArgs {
    /// Where.
    #[command(flatten)]
    pub table: TableArgs,
    /// The name.
    #[arg(value_name = "NAME")]
    pub unmounted: Name,
    /// This server alone, whichever incarnation mounted it.
    #[arg(long, value_name = "SERVER")]
    pub server: Option<cuttlebone_mounttable::Server>,
}

/// What to watch.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct WatchArgs {
    /// Where; tables that are mounted in it are not watched.
    #[command(flatten)]
    pub table: TableArgs,
    /// Which names.
    #[arg(value_name = "PATTERN", default_value = "...")]
    pub pattern: Pattern,
}

/// What servers are.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[non_exhaustive]
pub enum KindArg {
    /// Plain servers.
    #[default]
    Server,
    /// Servers with nothing below them.
    Leaf,
    /// Mount tables, which resolve the rest.
    Table,
}

impl From<KindArg> for Kind {
    fn from(argument: KindArg) -> Self {
        match argument {
            KindArg::Server => Self::Server,
            KindArg::Leaf => Self::Leaf,
            KindArg::Table => Self::Table,
        }
    }
}

pub(crate) fn run<W: Write>(command: &MountCommand, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let runtime = runtime()?;
    match command {
        MountCommand::Serve(arguments) => runtime.block_on(serve(arguments, output)),
        MountCommand::Ls(arguments) => runtime.block_on(ls(arguments, output)),
        MountCommand::Resolve(arguments) => runtime.block_on(resolve(arguments, output)),
        MountCommand::Publish(arguments) => runtime.block_on(publish::publish(arguments, global)),
        MountCommand::Unmount(arguments) => runtime.block_on(unmount(arguments)),
        MountCommand::Watch(arguments) => runtime.block_on(watch(arguments, output)),
    }
}

/// Whom the table belongs to.
const OWNER: &str = "owner";

async fn serve<W: Write>(arguments: &ServeArgs, output: &mut Output<W>) -> Result<Exit> {
    let owner = Principal::new(OWNER);
    let mut limits = Limits::private();
    limits.nodes_per_principal_max = arguments.quota;
    let table = match &arguments.permissions {
        Some(path) => {
            let config: BTreeMap<String, Permissions> = serde_json::from_str(&text(path)?)
                .map_err(|error| Failed::new(Exit::Usage, format_args!("{}: {error}", path.display())))?;
            Table::with_permissions(limits, &owner, &config)
                .map_err(|error| Failed::new(Exit::Usage, format_args!("{}: {error}", path.display())))?
        }
        None => Table::new(limits, owner.clone()),
    };
    let clock = TokioClock::new();
    let now = move || clock.now();
    let table = match &arguments.state {
        Some(folder) => {
            let journal = Journal::open(folder).with_context(|| folder.display().to_string())?;
            SharedTable::with_journal(table, journal, now)?
        }
        None => SharedTable::new(table, now),
    };
    let principals = match &arguments.principals {
        Some(path) => Principals::parse(owner, &text(path)?)
            .map_err(|error| Failed::new(Exit::Usage, format_args!("{}: {error}", path.display())))?,
        None => Principals::owner(owner),
    };
    let config = Config { bearer: arguments.secret.bearer()?, ..Config::default() };
    let server = Server::bind(&arguments.listen.parse()?, config).await?;
    let address = server.address().to_string();
    output.item(&json!({ "event": "listening", "address": address }), |out| {
        writeln!(out, "listening on {address}")
    })?;
    output.finish()?;
    server.serve(Mounts::new(table, principals), async { _ = interrupted().await }).await;
    Ok(Exit::Done)
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

impl TableArgs {
    async fn open(&self) -> Result<AnyTable> {
        AnyTable::open(&self.table, &self.secret).await
    }

    async fn resolver(&self) -> Result<Resolver<Tables>> {
        Ok(Resolver::new(vec![self.open().await?], Tables::default()))
    }
}

async fn ls<W: Write>(arguments: &LsArgs, output: &mut Output<W>) -> Result<Exit> {
    let resolver = arguments.table.resolver().await?;
    let mut found = pin!(resolver.glob(&arguments.pattern));
    let (mut shown, mut unseen) = (0_usize, None);
    while let Some(item) = found.next().await {
        match item {
            Ok(found) if found.place == Place::MountPoint => {
                print(&found, output)?;
                shown += 1;
            }
            Ok(_) => {}
            Err(error) => unseen = Some(anyhow::Error::new(error)),
        }
        if unseen.is_some() && shown == 0 {
            break;
        }
    }
    match unseen {
        None => Ok(Exit::Done),
        Some(error) if shown == 0 => Err(error),
        Some(error) => Err(error.context(Failed::new(Exit::Partial, "some of the names are missing"))),
    }
}

/// One name: its servers one a line, with what they are and how long they have left.
fn print<W: Write>(found: &Found, output: &mut Output<W>) -> std::io::Result<()> {
    let (name, kind) = (found.name.as_str(), kind(found.kind));
    let servers: Vec<Value> = found.servers.iter().map(server).collect();
    output.item(&json!({ "name": name, "kind": kind, "servers": servers }), |out| {
        for live in &found.servers {
            let left = live.left.map_or_else(|| "-".into(), |left| format!("{:.1}s", left.as_secs_f64()));
            writeln!(out, "{name}\t{kind}\t{}\t{left}", live.server)?;
        }
        Ok(())
    })
}

fn server(live: &Live) -> Value {
    let left = live.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    json!({ "server": live.server.as_str(), "left_ms": left, "epoch": live.epoch.0 })
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "server",
        Kind::Leaf => "leaf",
        Kind::Table => "table",
    }
}

async fn resolve<W: Write>(arguments: &ResolveArgs, output: &mut Output<W>) -> Result<Exit> {
    let resolver = arguments.table.resolver().await?;
    let name = &arguments.resolved;
    let found = resolver.resolve(name).await.with_context(|| name.to_string())?;
    let servers: Vec<Value> = found.servers.iter().map(server).collect();
    let answer = json!({
        "name": name.as_str(),
        "mount": found.mount.as_str(),
        "suffix": found.suffix.as_str(),
        "kind": kind(found.kind),
        "servers": servers,
    });
    output.answer(&answer, |out| {
        for live in &found.servers {
            // What is to be asked for there is a part of where to go.
            let whole = live.server.join(&found.suffix).unwrap_or_else(|_| live.server.clone());
            writeln!(out, "{whole}")?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

async fn unmount(arguments: &UnmountArgs) -> Result<Exit> {
    let resolver = arguments.table.resolver().await?;
    let name = &arguments.unmounted;
    for held in resolver.responsible(name).await.with_context(|| name.to_string())? {
        held.table.remove(&held.name, arguments.server.as_ref()).await.with_context(|| name.to_string())?;
    }
    Ok(Exit::Done)
}

async fn watch<W: Write>(arguments: &WatchArgs, output: &mut Output<W>) -> Result<Exit> {
    let table = arguments.table.open().await?;
    let mut watch = table.watch(&arguments.pattern).await?;
    loop {
        tokio::select! {
            item = watch.next() => tell(&item?, output)?,
            _ = interrupted() => return Ok(Exit::Done),
        }
        output.finish()?;
    }
}

fn tell<W: Write>(item: &Watched, output: &mut Output<W>) -> std::io::Result<()> {
    match item {
        Watched::Present(found) => {
            let (name, kind) = (found.name.as_str(), kind(found.kind));
            let servers: Vec<Value> = found.servers.iter().map(server).collect();
            let line = json!({ "event": "present", "name": name, "kind": kind, "servers": servers });
            output.item(&line, |out| {
                found.servers.iter().try_for_each(|live| writeln!(out, "present\t{name}\t{}", live.server))
            })
        }
        Watched::Listed(revision) => {
            output.item(&json!({ "event": "listed", "revision": revision.0 }), |_| Ok(()))
        }
        Watched::Change(change) => {
            let (name, server) = (change.name.as_str(), change.server.as_str());
            let event = match change.event {
                Event::Mounted { .. } => "mounted",
                Event::Unmounted => "unmounted",
                Event::Expired => "expired",
            };
            let mut line =
                json!({ "event": event, "revision": change.revision.0, "name": name, "server": server });
            if let Event::Mounted { kind: of, epoch } = change.event {
                line["kind"] = kind(of).into();
                line["epoch"] = epoch.0.into();
            }
            output.item(&line, |out| writeln!(out, "{event}\t{name}\t{server}"))
        }
    }
}

//! `cuttlebone token`: bounded, fenced access for programs that restart.

use core::time::Duration;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use cuttlebone_http::message::{ClassName, TakeoverName};
use cuttlebone_http::{Address, Bearer, Client, Config, Server, TokioClock};
use cuttlebone_tokens::{DrainPolicy, FileEpochs, Registry, Rules};
use serde_json::json;

use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::interrupt::interrupted;
use crate::mon::runtime;
use crate::output::{Output, table};

pub(crate) mod child;
mod exec;

/// Verbs of `cuttlebone token`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum TokenCommand {
    /// Serves a registry.
    Serve(ServeArgs),
    /// Registers a name, for as long as this runs or while a command runs.
    Register(RegisterArgs),
    /// Holds a token while a command runs, and ends the command when it is fenced.
    Exec(ExecArgs),
    /// Lists names, who has them, and the tokens that are out.
    Ls(ServiceArgs),
    /// Ends the current incarnation of a name and tells its holders to stop.
    Revoke(RevokeArgs),
}

/// How to serve.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ServeArgs {
    /// Where: HOST:PORT, or unix:PATH.
    #[arg(long, value_name = "ADDR")]
    pub listen: String,
    /// Directory for the epochs, so that they survive a restart; without it they do not.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Seconds a client may be silent or unreachable before what it holds comes back.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub lease: u64,
    /// Seconds a drain may last before --drain-policy applies.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub drain_max: u64,
    /// What happens then.
    #[arg(long, value_enum, default_value_t)]
    pub drain_policy: Policy,
    /// A proxy lies between: its connections break without the client's doing.
    #[arg(long)]
    pub behind_proxy: bool,
    /// Who may ask.
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// What happens when a drain does not end.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[non_exhaustive]
pub enum Policy {
    /// Go on waiting and reporting.
    #[default]
    Wait,
    /// Forget the old tokens; safe only where the resources refuse their fences.
    Fence,
    /// Fail whoever waits for the name.
    Fail,
}

/// The secret that clients show.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct SecretArgs {
    /// File with the bearer token; required where others can reach the service.
    #[arg(long, value_name = "FILE", env = "CUTTLEBONE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// Which service to ask.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ServiceArgs {
    /// The service: http://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL", env = "CUTTLEBONE_TOKEN_SERVER")]
    pub server: String,
    /// What to show it.
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// What to register.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct RegisterArgs {
    /// Where.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The name.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What to do if somebody has it.
    #[arg(long, value_enum, default_value_t)]
    pub takeover: TakeoverArg,
    /// Slots of the name.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// How to end the command.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// Runs while registered, with CUTTLEBONE_NAME and CUTTLEBONE_EPOCH; without it, events are printed until the end.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What to hold and what to run.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ExecArgs {
    /// Where.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The name.
    #[arg(long, value_name = "NAME", env = "CUTTLEBONE_NAME")]
    pub name: String,
    /// Slots of the name, shared by all who run without an epoch.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// How heavy the command is.
    #[arg(long, value_enum, default_value_t)]
    pub class: ClassArg,
    /// Slots it takes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub slots: u32,
    /// The incarnation it works for, as `token register` tells it to its command.
    #[arg(long, value_name = "EPOCH", env = "CUTTLEBONE_EPOCH")]
    pub epoch: Option<u64>,
    /// Fail rather than wait for a token.
    #[arg(long)]
    pub no_wait: bool,
    /// How to end the command.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// Runs with CUTTLEBONE_FENCE, CUTTLEBONE_NAME, CUTTLEBONE_EPOCH and CUTTLEBONE_SEQ.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// How a command is ended.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct GraceArgs {
    /// Seconds between SIGTERM and SIGKILL when the command has to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub grace: u64,
}

/// What to revoke.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct RevokeArgs {
    /// Where.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// The name.
    #[arg(value_name = "NAME")]
    pub revoked: String,
    /// Also forgets the tokens that are out: only if their holders are dead or the resource refuses them.
    #[arg(long, requires = "yes")]
    pub force: bool,
    /// Yes, the holders are dead or refused.
    #[arg(long)]
    pub yes: bool,
}

/// What to do if a name is taken.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[non_exhaustive]
pub enum TakeoverArg {
    /// Fail.
    #[default]
    Deny,
    /// Stand in line.
    Wait,
    /// Take it; its owner and holders are told to stop.
    Preempt,
}

impl From<TakeoverArg> for TakeoverName {
    fn from(argument: TakeoverArg) -> Self {
        match argument {
            TakeoverArg::Deny => Self::Deny,
            TakeoverArg::Wait => Self::Wait,
            TakeoverArg::Preempt => Self::Preempt,
        }
    }
}

/// How heavy work is.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[non_exhaustive]
pub enum ClassArg {
    /// May use every slot.
    #[default]
    Light,
    /// Leaves one slot to light work.
    Heavy,
    /// As heavy, one at a time.
    VeryHeavy,
}

impl From<ClassArg> for ClassName {
    fn from(argument: ClassArg) -> Self {
        match argument {
            ClassArg::Light => Self::Light,
            ClassArg::Heavy => Self::Heavy,
            ClassArg::VeryHeavy => Self::VeryHeavy,
        }
    }
}

pub(crate) fn run<W: Write>(command: &TokenCommand, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    match command {
        TokenCommand::Serve(arguments) => runtime()?.block_on(serve(arguments, global, output)),
        TokenCommand::Register(arguments) => runtime()?.block_on(exec::register(arguments, global, output)),
        TokenCommand::Exec(arguments) => runtime()?.block_on(exec::exec(arguments, global)),
        TokenCommand::Ls(service) => runtime()?.block_on(ls(service, output)),
        TokenCommand::Revoke(arguments) => runtime()?.block_on(async {
            arguments.service.client()?.revoke(&arguments.revoked, arguments.force).await?;
            Ok(Exit::Done)
        }),
    }
}

impl SecretArgs {
    pub(crate) fn bearer(&self) -> Result<Option<Bearer>> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let bearer = self.text()?.as_deref().and_then(Bearer::new);
        let empty = || Failed::new(Exit::Usage, format_args!("{} is empty", path.display()));
        Ok(Some(bearer.ok_or_else(empty)?))
    }

    /// What is in the file.
    pub(crate) fn text(&self) -> Result<Option<String>> {
        let Some(path) = &self.token_file else { return Ok(None) };
        Ok(Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?))
    }
}

impl ServiceArgs {
    fn address(&self) -> Result<Address> {
        Ok(self.server.parse()?)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(self.address()?, self.secret.bearer()?))
    }
}

async fn serve<W: Write>(arguments: &ServeArgs, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let lease = Duration::from_secs(arguments.lease);
    let policy = match arguments.drain_policy {
        Policy::Wait => DrainPolicy::KeepWaiting,
        Policy::Fence => DrainPolicy::Fence,
        Policy::Fail => DrainPolicy::Fail,
    };
    let drain_max = Duration::from_secs(arguments.drain_max);
    let rules = Rules { drain_max, drain_policy: policy, ..Rules::default() };
    let config = cuttlebone_tokens::Config { rules, recovery: lease, ..Default::default() };
    let registry = if let Some(directory) = &arguments.state {
        let store = FileEpochs::open(directory).with_context(|| directory.display().to_string())?;
        Registry::open(config, TokioClock::new(), store).await?
    } else {
        if !global.quiet {
            crate::complain("without --state epochs do not survive a restart, so no fence does");
        }
        Registry::new(config, TokioClock::new())
    };
    let network = if arguments.behind_proxy {
        cuttlebone_http::Network::Between
    } else {
        cuttlebone_http::Network::Detect
    };
    let config = Config { lease, bearer: arguments.secret.bearer()?, network, ..Config::default() };
    let server = Server::bind(&arguments.listen.parse()?, config).await?;
    let address = server.address().to_string();
    output.item(&json!({ "event": "listening", "address": address }), |out| {
        writeln!(out, "listening on {address}")
    })?;
    output.finish()?;
    let watchdog = registry.watchdog();
    tokio::select! {
        () = server.serve(registry, async { _ = interrupted().await }) => {}
        () = watchdog => {}
    }
    Ok(Exit::Done)
}

async fn ls<W: Write>(service: &ServiceArgs, output: &mut Output<W>) -> Result<Exit> {
    let listing = service.client()?.list().await?;
    let answer = json!({ "registrations": listing.registrations });
    output.answer(&answer, |out| {
        let rows = listing.registrations.iter().map(|row| {
            let epoch = row.epoch.map_or_else(|| "-".into(), |epoch| epoch.to_string());
            let slots = format!("{}/{}", row.slots_held, row.limit);
            vec![
                row.name.clone(),
                row.state.clone(),
                epoch,
                slots,
                row.outstanding.to_string(),
                row.waiting.to_string(),
            ]
        });
        writeln!(out, "{}", table(&["NAME", "STATE", "EPOCH", "SLOTS", "TOKENS", "WAITING"], rows))
    })?;
    Ok(Exit::Done)
}

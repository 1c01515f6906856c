//! `mount publish`: names that are mounted while a command runs and is ready.

use core::time::Duration;
use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::{Context, Result};
use clap::Args;
use cuttlebone_http::TokioClock;
use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Epoch, Name, Server};
use cuttlebone_publisher::{Actual, Clock, Config, Desired, EntryStatus, Publisher, publisher};
use futures::StreamExt;
use rustix::process::Signal;

use super::ready::{Probe, Readiness};
use super::table::AnyTable;
use super::{KindArg, TableArgs};
use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::interrupt::{Interrupt, interrupted};
use crate::token::child::Child;

/// How long the command that is told to end waits for its names to be withdrawn first.
const SIGNAL_DELAY_MAX: Duration = Duration::from_secs(1);

/// What to publish while a command runs.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct PublishArgs {
    /// In which table.
    #[command(flatten)]
    pub table: TableArgs,
    /// A name to publish under; may be repeated.
    #[arg(long, required = true, value_name = "NAME")]
    pub name: Vec<String>,
    /// A server that the command is; may be repeated, and the first one is probed.
    #[arg(long, required = true, value_name = "SERVER")]
    pub server: Vec<Server>,
    /// What the servers are.
    #[arg(long, value_enum, default_value_t)]
    pub kind: KindArg,
    /// When the command is ready: tcp, http:/PATH, or cmd:COMMAND for sh; without it, from the start.
    #[arg(long, value_name = "PROBE")]
    pub ready: Option<Probe>,
    /// Seconds between two probes of a command that is ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub ready_every: u64,
    /// Seconds for which the names stay if this process is killed; they are refreshed within three quarters of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=86_400))]
    pub ttl: u64,
    /// Which incarnation this is; what an earlier one does late changes nothing.
    #[arg(long, value_name = "EPOCH", env = "CUTTLEBONE_EPOCH", default_value_t = 0)]
    pub epoch: u64,
    /// Seconds to try to withdraw the names after the command has ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub withdraw: u64,
    /// Runs while the names are up.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl PublishArgs {
    /// Three quarters of the time to live are the period, and what is left covers a call that hangs and its retry.
    fn config(&self) -> Config {
        let ttl = Duration::from_secs(self.ttl);
        let mut config = Config::default();
        (config.period, config.slack) = (ttl * 3 / 4, ttl / 4);
        config.call_timeout = config.call_timeout.min(ttl / 8);
        config.retry_max = config.retry_max.min(ttl / 8);
        config.epoch = Epoch(self.epoch);
        config
    }
}

/// The runtime's clock as a publisher asks it.
#[derive(Clone, Copy)]
struct RuntimeClock(TokioClock);

impl Clock for RuntimeClock {
    fn now(&self) -> Instant {
        cuttlebone_tokens::Clock::now(&self.0)
    }

    async fn sleep_until(&self, at: Instant) {
        cuttlebone_tokens::Clock::until(&self.0, at).await;
    }
}

/// A command, and what is published of it.
struct Published {
    publisher: Publisher<AnyTable, RuntimeClock>,
    clock: RuntimeClock,
    withdraw: Duration,
    quiet: bool,
}

pub(super) async fn publish(arguments: &PublishArgs, global: &Global) -> Result<Exit> {
    let names = names(&arguments.name)?;
    let first = arguments.server.first().context("no server")?;
    let (address, _) = first.split();
    if matches!(arguments.ready, Some(Probe::Tcp | Probe::Http(_))) && address.contains('@') {
        let message = format!("{first} cannot be probed; use cmd:COMMAND");
        return Err(Failed::new(Exit::Usage, message).into());
    }
    let every = Duration::from_secs(arguments.ready_every);
    let mut readiness = Readiness::new(arguments.ready.clone(), address, every);
    let table = arguments.table.open().await?;
    let clock = RuntimeClock(TokioClock::new());
    let (handle, driver) = publisher(arguments.config(), vec![table], clock, getrandom::u64()?)?;
    let mut child = Child::start(&arguments.command, [], None)?;
    let driver = tokio::spawn(driver.run());
    for name in &names {
        drop(handle.add_name(name, arguments.kind.into())?);
    }
    let withdraw = Duration::from_secs(arguments.withdraw);
    let published = Published { publisher: handle, clock, withdraw, quiet: global.quiet };
    let ended = published.while_it_runs(&arguments.server, &mut readiness, &mut child).await;
    published.take_back().await;
    driver.await?;
    ended
}

fn names(texts: &[String]) -> Result<Vec<Name>> {
    let read = |text: &String| {
        let name =
            Name::parse(text).map_err(|error| Failed::new(Exit::Usage, format_args!("{text}: {error}")))?;
        if name.is_root() {
            return Err(Failed::new(Exit::Usage, "the root of a mount table cannot be published").into());
        }
        Ok(name)
    };
    texts.iter().map(read).collect()
}

impl Published {
    async fn while_it_runs(
        &self,
        servers: &[Server],
        readiness: &mut Readiness,
        child: &mut Child,
    ) -> Result<Exit> {
        let mut changes = pin!(self.publisher.changes()?);
        let (mut said, mut told_to_end) = (BTreeMap::new(), false);
        loop {
            tokio::select! {
                exit = child.ended() => return exit,
                ready = readiness.changed(), if !told_to_end => {
                    for server in servers {
                        let publisher = &self.publisher;
                        let pending =
                            if ready { publisher.add_server(server) } else { publisher.remove_server(server) };
                        drop(pending?);
                    }
                    if !ready {
                        self.remark("the command is not ready");
                    }
                }
                Some(status) = changes.next() => self.report(&mut said, status),
                interrupt = interrupted() => {
                    let signal = match interrupt {
                        _ if told_to_end => Signal::KILL,
                        Interrupt::Interrupt => Signal::INT,
                        Interrupt::Terminate => Signal::TERM,
                    };
                    if !told_to_end {
                        told_to_end = true;
                        // Nobody shall be sent to a server that is on its way out.
                        self.publisher.stop(self.clock.now() + self.withdraw);
                        let withdrawn = tokio::time::timeout(SIGNAL_DELAY_MAX, self.publisher.closed());
                        tokio::select! {
                            _ = withdrawn => {}
                            exit = child.ended() => return exit,
                        }
                    }
                    child.signal(signal);
                }
            }
        }
    }

    /// Withdraws what is published, and tells what could not be.
    async fn take_back(&self) {
        self.publisher.stop(self.clock.now() + self.withdraw);
        for (name, server, _) in self.publisher.closed().await.left {
            crate::complain(format_args!("{name} may lead to {server} until its time to live ends"));
        }
    }

    fn remark(&self, what: impl core::fmt::Display) {
        if !self.quiet {
            crate::complain(what);
        }
    }

    /// Says when a name comes up, and the first failure after that.
    fn report(&self, said: &mut BTreeMap<(Name, Server), bool>, status: EntryStatus) {
        let Some(slot) = status.tables.first() else { return };
        let up = slot.actual == Actual::Mounted && slot.last_failure.is_none();
        if status.desired == Desired::Unmounted || !up && slot.last_failure.is_none() {
            return;
        }
        let line = match &slot.last_failure {
            None => format!("{} leads to {}", status.name, status.server),
            Some(failure) => format!("{}: {failure}; trying again", status.name),
        };
        if said.insert((status.name, status.server), up) != Some(up) {
            self.remark(line);
        }
    }
}

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cuttlebone_http::reload::{Change, Outcome};
use cuttlebone_http::status::Stage;
use cuttlebone_node::Handle;
use cuttlebone_node::config::{Config, Fault, Override};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::ConfigArgs;
use super::notify::Manager;
use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::output::Output;

/// What to run.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct RunArgs {
    /// Its configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only checks the configuration, with everything it names on this machine.
    #[arg(long)]
    pub check: bool,
    /// How to write the log, which goes to standard error.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[non_exhaustive]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// How often the service manager is told what the node does, if that has changed.
const LOOK_EVERY: core::time::Duration = core::time::Duration::from_millis(200);

impl ConfigArgs {
    /// What has the last word: the environment over the file, flags over the environment.
    fn overrides(&self) -> Result<Vec<Override>> {
        let mut all = Override::of_environment(
            env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        for set in &self.set {
            let usage = || Failed::new(Exit::Usage, format_args!("--set {set}: KEY=VALUE is wanted"));
            let (key, value) = set.split_once('=').with_context(usage)?;
            all.push(Override { at: format!("--set {key}"), key: key.into(), value: value.into() });
        }
        Ok(all)
    }
}

pub(super) fn run<W: Write>(arguments: &RunArgs, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let overrides = arguments.config.overrides()?;
    let file = &arguments.config.config;
    let config = Config::read(file, &overrides).and_then(|config| config.check().map(|()| config));
    let config = match config {
        Ok(config) => config,
        Err(faults) => return Ok(complain(&faults)),
    };
    if arguments.check {
        output.item(&json!({ "faults": [] }), |out| writeln!(out, "the configuration makes sense"))?;
        return Ok(Exit::Done);
    }
    let log = start_log(arguments.log_format, &config, global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(arguments, overrides, config, log, output));
    // A node that ended step by step has left nothing behind; after a second signal nobody waits for what it had.
    runtime.shutdown_background();
    ended
}

/// One line for each fault.
fn complain(faults: &[Fault]) -> Exit {
    for fault in faults {
        crate::complain(fault);
    }
    Exit::Usage
}

/// The log's level, while it runs.
type Level = tracing_subscriber::reload::Handle<EnvFilter, tracing_subscriber::Registry>;

fn start_log(format: LogFormat, config: &Config, global: &Global) -> Result<Level> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => &config.log_level,
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_new(level)
        .with_context(|| Failed::new(Exit::Usage, format_args!("log.level: {level:?} is no level")))?;
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Plain => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_ansi(false)).try_init()?;
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json();
            registry.with(layer.flatten_event(true)).try_init()?;
        }
    }
    Ok(handle)
}

/// Reads the configuration anew, and applies what can change.
struct Reloading {
    file: PathBuf,
    overrides: Vec<Override>,
    current: Mutex<Config>,
    level: Level,
    node: Mutex<Option<Handle>>,
}

impl Reloading {
    /// What it runs with.
    fn current(&self) -> MutexGuard<'_, Config> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self) -> Outcome {
        let new = match Config::read(&self.file, &self.overrides) {
            Ok(new) => new,
            Err(faults) => return Outcome::Invalid(faults.iter().map(ToString::to_string).collect()),
        };
        let mut current = self.current();
        let differences = current.difference(&new);
        let (live, fixed): (Vec<_>, Vec<_>) = differences.into_iter().partition(|difference| difference.live);
        let changes = |differences: Vec<cuttlebone_node::config::Difference>| {
            let change =
                |it: cuttlebone_node::config::Difference| Change { key: it.key, from: it.from, to: it.to };
            differences.into_iter().map(change).collect()
        };
        if !fixed.is_empty() {
            return Outcome::NotLive(changes(fixed));
        }
        match EnvFilter::try_new(&new.log_level) {
            Ok(filter) => drop(self.level.reload(filter)),
            Err(error) => return Outcome::Invalid(vec![format!("log.level: {error}")]),
        }
        if let Some(node) = &*self.node.lock().unwrap_or_else(PoisonError::into_inner) {
            node.set_deadlines(new.stop);
        }
        *current = new;
        Outcome::Applied(changes(live))
    }
}

async fn serve<W: Write>(
    arguments: &RunArgs,
    overrides: Vec<Override>,
    config: Config,
    level: Level,
    output: &mut Output<W>,
) -> Result<Exit> {
    let manager = Manager::from_environment();
    // Before anything is opened: a signal that comes while the disk is read neither kills nor gets lost.
    let mut signals = Signals::listen()?;
    manager.status("warming up");
    let reloading = Arc::new(Reloading {
        file: arguments.config.config.clone(),
        overrides,
        current: Mutex::new(config.clone()),
        level,
        node: Mutex::new(None),
    });
    let asked = Arc::clone(&reloading);
    let node = tokio::select! {
        node = config.open(Some(move || asked.reload())) => node?,
        // Nobody has been told anything yet, and the disk is as safe as in a kill.
        () = signals.end() => return Ok(Exit::Done),
    };
    let handle = node.handle();
    *reloading.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let mut running = core::pin::pin!(node.run(async { drop(stopped.await) }));
    let mut told: Option<Told> = None;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            ended = &mut running => {
                ended?;
                return Ok(Exit::Done);
            }
            asked = signals.next() => match asked {
                Asked::End => {
                    // The second one: at once. What was acknowledged as durable is on the disk.
                    let Some(stop) = stop.take() else { return Ok(Exit::Interrupted) };
                    manager.stopping(reloading.current().stop.total());
                    drop(stop);
                }
                Asked::Reload => {
                    // Only who was ready can be ready again: before and after that the manager hears nothing of it.
                    let serves = told.as_ref().is_some_and(|(stage, ..)| *stage == Stage::Serving);
                    let serves = serves && stop.is_some();
                    if serves {
                        manager.reloading();
                    }
                    log_reload(&reloading.reload());
                    if serves {
                        manager.ready("serving");
                    }
                }
            },
            _ = look.tick() => {
                manager.alive();
                tell(&handle, &manager, &mut told, output)?;
            }
        }
    }
}

/// What a signal asks for.
enum Asked {
    /// SIGTERM, SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

/// What a node obeys.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// What comes next. Cancel safe.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
        }
    }

    /// Ends when somebody asks the node to end. Cancel safe.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What was told last: the stage, and where peers and browsers find the node.
type Told = (Stage, Option<String>, Option<String>);

/// Says on standard output where the node is once it is known, and to the manager what it does.
fn tell<W: Write>(
    handle: &Handle,
    manager: &Manager,
    told: &mut Option<Told>,
    output: &mut Output<W>,
) -> Result<()> {
    let stage = handle.status().node.stage;
    let now = (stage, handle.listening().map(|addrs| addrs.to_string()), handle.http());
    if told.as_ref() == Some(&now) {
        return Ok(());
    }
    match stage {
        Stage::Serving => manager.ready("serving"),
        Stage::Stopping => {}
        _ => manager.status("catching up"),
    }
    let (links, http) = (&now.1, &now.2);
    let word = serde_json::to_value(stage)?;
    output.item(&json!({ "stage": word, "links": links, "http": http }), |out| {
        write!(out, "{}", word.as_str().unwrap_or_default().replace('_', " "))?;
        if let Some(links) = links {
            write!(out, ", links at {links}")?;
        }
        if let Some(http) = http {
            write!(out, ", look at {http}")?;
        }
        writeln!(out)
    })?;
    output.finish()?;
    *told = Some(now);
    Ok(())
}

fn log_reload(outcome: &Outcome) {
    match outcome {
        Outcome::Applied(changes) => tracing::info!(?changes, "the configuration was read anew"),
        Outcome::NotLive(changes) => {
            tracing::warn!(?changes, "cannot change while the node runs; nothing has changed");
        }
        Outcome::Invalid(faults) => {
            tracing::warn!(?faults, "the configuration makes no sense; nothing has changed");
        }
    }
}

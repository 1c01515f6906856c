//! `cuttlebone fs`: names and attributes of a CephFS, without mounting it.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use cuttlebone_fs::{FileSystem, FsConfig};
use cuttlebone_wire::EntityType;

use crate::args::Global;
use crate::environment::{Environment, host_name};
use crate::exit::{Exit, Failed};
use crate::interrupt::interrupted;
use crate::mon::runtime;
use crate::output::Output;

mod change;
mod glob;
mod list;
mod paths;
mod show;
mod walk;
mod watch;

pub use change::{CreateArgs, LinkArgs, MakeDirArgs, MoveArgs, RemoveArgs, XattrCommand};
pub use list::{ListArgs, StatArgs, TreeArgs};
pub use walk::{ChangedArgs, FindArgs, FindKind, UsageArgs};
pub use watch::WatchArgs;

/// What all verbs of `cuttlebone fs` take.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct FsCommand {
    /// The file system's name, where a cluster has several.
    #[arg(long, global = true, value_name = "NAME")]
    pub fs: Option<String>,
    /// Directories that are listed, or names that are changed, at the same time.
    #[arg(long, global = true, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub parallel: u16,
    /// Entries that are asked for at once; more is faster for us and longer for whoever asks after us.
    #[arg(long, global = true, value_name = "N", default_value_t = 128)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub page: u32,
    /// The verb.
    #[command(subcommand)]
    pub verb: FsVerb,
}

/// Verbs of `cuttlebone fs`. Paths may be globs.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum FsVerb {
    /// Lists directories.
    Ls(ListArgs),
    /// Prints everything that is known of a name.
    Stat(StatArgs),
    /// Draws the tree below a directory.
    Tree(TreeArgs),
    /// Prints every name below a directory, or those that fit.
    Find(FindArgs),
    /// Prints how much is below directories, from the sums that the file system keeps itself.
    Du(UsageArgs),
    /// Prints what changed since a moment; directories in which nothing can have changed are not visited.
    Changed(ChangedArgs),
    /// Makes directories.
    Mkdir(MakeDirArgs),
    /// Makes empty files.
    Create(CreateArgs),
    /// Removes names.
    Rm(RemoveArgs),
    /// Renames, or moves into a directory.
    Mv(MoveArgs),
    /// Makes hard or symbolic links.
    Ln(LinkArgs),
    /// Extended attributes, among them those of Ceph: quotas, pins, layouts.
    #[command(subcommand)]
    Xattr(XattrCommand),
    /// Prints changes of a directory or file as they happen, until interrupted.
    Watch(WatchArgs),
}

pub(crate) fn run<W: Write>(command: &FsCommand, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let config = config(command, global)?;
    runtime()?.block_on(async {
        let fs = FileSystem::mount(config).await?;
        let done = tokio::select! {
            done = carry_out(&fs, command, output) => done,
            // Not left to the signal's default: a session that is not closed keeps other clients waiting.
            _ = interrupted() => Ok(Exit::Interrupted),
        };
        // What was done counts; how the session ended is only worth a word if nothing else went wrong.
        let unmounted = fs.unmount().await;
        let exit = done?;
        if let Err(error) = unmounted
            && !global.quiet
        {
            crate::complain(format_args!("unmount: {}", crate::exit::chain(&error)));
        }
        Ok(exit)
    })
}

async fn carry_out<W: Write>(fs: &FileSystem, command: &FsCommand, output: &mut Output<W>) -> Result<Exit> {
    let parallel = usize::from(command.parallel);
    match &command.verb {
        FsVerb::Ls(arguments) => list::list(fs, arguments, output).await,
        FsVerb::Stat(arguments) => list::stat(fs, arguments, output).await,
        FsVerb::Tree(arguments) => list::tree(fs, arguments, output).await,
        FsVerb::Find(arguments) => walk::find(fs, arguments, parallel, output).await,
        FsVerb::Du(arguments) => walk::usage(fs, arguments, parallel, output).await,
        FsVerb::Changed(arguments) => walk::changed(fs, arguments, parallel, output).await,
        FsVerb::Mkdir(arguments) => change::make_dirs(fs, arguments, output).await,
        FsVerb::Create(arguments) => change::create(fs, arguments, parallel, output).await,
        FsVerb::Rm(arguments) => change::remove(fs, arguments, parallel, output).await,
        FsVerb::Mv(arguments) => change::rename(fs, arguments, output).await,
        FsVerb::Ln(arguments) => change::link(fs, arguments, output).await,
        FsVerb::Xattr(command) => change::xattr(fs, command, output).await,
        FsVerb::Watch(arguments) => watch::watch(fs, arguments, output).await,
    }
}

fn config(command: &FsCommand, global: &Global) -> Result<FsConfig> {
    let environment = Environment::load(global)?;
    if environment.name.kind != EntityType::CLIENT {
        let refused = format_args!("{} is no client; a file system is for clients", environment.name);
        return Err(Failed::new(Exit::Usage, refused).into());
    }
    let mut config = FsConfig::new(environment.monitors()?);
    config.id = environment.name.id;
    config.fs_name.clone_from(&command.fs);
    config.page_entries = command.page;
    config.mount_within = global.connect_timeout();
    config.metadata.insert("hostname".into(), host_name());
    // What this process makes belongs to whoever runs it, as with any other tool.
    config.uid = rustix::process::getuid().as_raw();
    config.gid = rustix::process::getgid().as_raw();
    Ok(config)
}

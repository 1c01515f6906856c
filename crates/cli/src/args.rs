use core::time::Duration;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::demo::DemoArgs;
use crate::fs::FsCommand;
use crate::manual::{CompletionsArgs, ManArgs};
use crate::mon::MonCommand;
use crate::mount::MountCommand;
use crate::node::NodeCommand;
use crate::store::StoreCommand;
use crate::token::TokenCommand;
use crate::wire::WireCommand;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "cuttlebone", version, about, long_about = None, propagate_version = true, max_term_width = 100)]
#[command(args_override_self = true)]
#[non_exhaustive]
pub struct CommandLine {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The noun.
    #[command(subcommand)]
    pub command: Command,
}

/// Nouns.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Shows the main job on this machine alone: copy, keep current, lose a process, recover, verify.
    Demo(DemoArgs),
    /// Decodes and encodes Ceph's structures and messages.
    #[command(subcommand)]
    Wire(WireCommand),
    /// Copies, serves and asks live monitors.
    #[command(subcommand)]
    Mon(MonCommand),
    /// Names and attributes of a CephFS, without mounting it.
    Fs(FsCommand),
    /// Looks into a copy of a monitor's store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Runs a node, watches it and drives it.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Servers under names, for as long as they live.
    #[command(subcommand)]
    Mount(MountCommand),
    /// Bounded, fenced access for programs that restart.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Prints a script that completes commands and options in a shell.
    Completions(CompletionsArgs),
    /// Prints a page of the manual, or writes all of them.
    Man(ManArgs),
}

/// Options that every command takes, spelled as in Ceph.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
#[non_exhaustive]
pub struct Global {
    /// Configuration file instead of those that are searched for.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Whom to authenticate as, with type: client.admin.
    #[arg(short, long, global = true, value_name = "TYPE.ID")]
    pub name: Option<String>,
    /// Whom to authenticate as, without type: admin.
    #[arg(long, visible_alias = "user", global = true, value_name = "ID", overrides_with = "name")]
    pub id: Option<String>,
    /// File with keys.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    /// File with the one key to use.
    #[arg(long, global = true, value_name = "FILE")]
    pub keyfile: Option<PathBuf>,
    /// Monitors: addresses, lists in brackets, host names.
    #[arg(short, long, visible_alias = "mon", alias = "mon_host", global = true, value_name = "ADDRS")]
    pub mon_host: Option<String>,
    /// Name of the cluster, from which the configuration file's name follows.
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Seconds until one of the monitors has to answer.
    #[arg(long, alias = "connect_timeout", global = true, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub connect_timeout: Option<u64>,
    /// How to print the answer.
    #[arg(short, long, global = true, value_enum)]
    pub format: Option<Format>,
    /// The same as --format json.
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no remarks, errors only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More diagnostics; repeat for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Format {
    /// For people.
    #[default]
    Plain,
    /// One object on one line.
    Json,
    /// One object, indented.
    JsonPretty,
    /// Of `store export` alone: the form of the file. What is printed is for people, or JSON with `--json`.
    #[value(hide = true)]
    Trace,
}

/// How long to look for a monitor if nothing is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Global {
    /// How to print; `--json` without a `--format` means JSON.
    pub fn format(&self) -> Format {
        match self.format {
            Some(Format::Trace) | None if self.json => Format::Json,
            Some(Format::Trace) | None => Format::Plain,
            Some(format) => format,
        }
    }

    /// How long to look for a monitor.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.map_or(CONNECT_TIMEOUT, Duration::from_secs)
    }
}

/// The arguments with those of `CEPH_ARGS` before them, so that the command line's own come last and win.
///
/// Only options that we know are taken: the variable is made for Ceph's tools, which know thousands. The first
/// argument, the program's name, stays first.
pub(crate) fn with_ceph_args(
    arguments: impl IntoIterator<Item = OsString>,
    ceph_args: Option<&OsStr>,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut all: Vec<OsString> = arguments.next().into_iter().collect();
    if let Some(text) = ceph_args.and_then(OsStr::to_str) {
        all.extend(known_options(text).into_iter().map(OsString::from));
    }
    all.extend(arguments);
    all
}

/// The options of `text` that we know, each as one or two words. Words are separated by blanks, as Ceph does it;
/// there are no quotes.
///
/// Source: `ceph/ceph:src/common/ceph_argparse.cc`, `env_to_vec`; checked with 16.2.15.
fn known_options(text: &str) -> Vec<String> {
    let command = CommandLine::command();
    let mut known = Vec::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or(word);
        let found = command.get_arguments().find(|option| is_called(option, name));
        let joined = word.contains('=');
        let takes_value = found.is_none_or(|option| option.get_action().takes_values());
        // An unknown option's value cannot be told from the next option's name in any other way.
        let value = words.next_if(|next| takes_value && !joined && !next.starts_with('-'));
        if found.is_some() {
            known.push(word.into());
            known.extend(value.map(String::from));
        }
    }
    known
}

/// Whether `name`, with its dashes, is one of the option's names. Underscores in long names stand for dashes.
fn is_called(option: &clap::Arg, name: &str) -> bool {
    let long = name.strip_prefix("--").map(|long| long.replace('_', "-"));
    match long {
        Some(long) => {
            option.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long.as_str()))
        }
        None => {
            option.get_short().is_some_and(|short| name.strip_prefix('-') == Some(short.to_string().as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn ceph_args_come_first_and_unknown_ones_are_left_out() {
        let line = ["cuttlebone", "mon", "map"].map(OsString::from);
        let variable = "--debug-ms 1 -m 10.0.0.1 --mon_host=a --log-file=/x --keyring /k --quiet";
        let all = with_ceph_args(line, Some(OsStr::new(variable)));
        assert_eq!(
            all,
            ["cuttlebone", "-m", "10.0.0.1", "--mon_host=a", "--keyring", "/k", "--quiet", "mon", "map"]
        );
    }
}

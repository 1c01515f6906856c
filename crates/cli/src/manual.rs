//! `cuttlebone completions` and `cuttlebone man`: for shells and packagers.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::CommandLine;
use crate::exit::Exit;
use crate::output::Output;

/// For which shell.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Where to.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ManArgs {
    /// Writes a page for every command there, instead of printing the first.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

pub(crate) fn completions<W: Write>(arguments: &CompletionsArgs, output: &mut Output<W>) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "cuttlebone", &mut script);
    output.raw(&script)?;
    Ok(Exit::Done)
}

pub(crate) fn man<W: Write>(arguments: &ManArgs, output: &mut Output<W>) -> Result<Exit> {
    let mut command = CommandLine::command();
    command.build();
    match &arguments.dir {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            pages(&command, dir)?;
        }
        None => output.raw(&page(&command)?)?,
    }
    Ok(Exit::Done)
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

/// A page for a command and for each below it, as `cuttlebone-mon-backup.1`.
fn pages(command: &clap::Command, dir: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let file = dir.join(format!("{name}.1"));
    fs::write(&file, page(command)?).with_context(|| file.display().to_string())?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    below.into_iter().try_for_each(|below| pages(below, dir))
}

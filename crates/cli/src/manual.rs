//! What the command says about itself: help, pages of the manual, completions for shells.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::CommandLine;
use crate::examples::{self, Example};
use crate::exit::{Exit, Failed, STATUSES};
use crate::output::Output;

/// Which shell to complete for.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Which page to print, or where to write all of them.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ManArgs {
    /// The command whose page is printed; without one, that of cuttlebone itself.
    #[arg(value_name = "COMMAND")]
    pub words: Vec<String>,
    /// Directory into which the pages of all commands are written; made if it is not there.
    #[arg(long, value_name = "DIR", conflicts_with = "words")]
    pub out: Option<PathBuf>,
}

/// The definition of the whole command line, each command with its examples.
pub fn definition() -> Command {
    let statuses: Vec<_> =
        STATUSES.iter().map(|(exit, meaning)| format!("  {:<4} {meaning}", exit.code())).collect();
    let command = with_examples(CommandLine::command(), "");
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_help(format!("{examples}\n\nExit status:\n{}", statuses.join("\n")))
}

fn with_examples(command: Command, path: &str) -> Command {
    let examples: Vec<_> =
        examples::of(path).iter().map(|Example { what, line }| format!("  {what}:\n    {line}")).collect();
    let command = if examples.is_empty() {
        command
    } else {
        command.after_help(format!("Examples:\n{}", examples.join("\n")))
    };
    command.mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name());
        with_examples(sub, path.trim_start())
    })
}

pub(crate) fn completions<W: Write>(arguments: &CompletionsArgs, output: &mut Output<W>) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut definition(), "cuttlebone", &mut script);
    output.raw(&script)?;
    Ok(Exit::Done)
}

pub(crate) fn man<W: Write>(arguments: &ManArgs, output: &mut Output<W>) -> Result<Exit> {
    let mut top = definition().disable_help_subcommand(true);
    // Gives every command its whole name and the options that hold everywhere.
    top.build();
    if let Some(dir) = &arguments.out {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        write_pages(&top, "", dir)?;
        return Ok(Exit::Done);
    }
    let mut command = &top;
    for word in &arguments.words {
        let words = arguments.words.join(" ");
        command = command
            .find_subcommand(word)
            .with_context(|| Failed::new(Exit::Usage, format_args!("there is no command {words}")))?;
    }
    output.raw(&page(command, &arguments.words.join(" "))?)?;
    Ok(Exit::Done)
}

/// Writes the page of `command`, whose path is `path`, and those of all commands below it.
fn write_pages(command: &Command, path: &str, dir: &Path) -> Result<()> {
    let file = dir.join(format!("{}.1", page_name(command)));
    fs::write(&file, page(command, path)?).with_context(|| file.display().to_string())?;
    for sub in visible(command) {
        write_pages(sub, format!("{path} {}", sub.get_name()).trim_start(), dir)?;
    }
    Ok(())
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

/// Such as `cuttlebone-mon-backup`.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The usage as help shows it; clap_mangen would list every option and no value.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text([roman(usage.trim_start_matches("Usage: "))]);
    roff
}

/// One page: what clap knows, then examples and exit statuses under headings of their own. It carries no date, so the
/// same release gives the same bytes.
fn page(command: &Command, path: &str) -> io::Result<Vec<u8>> {
    let version = command.get_version().unwrap_or(env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(format!("cuttlebone {version}")).manual("Cuttlebone Manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    if let [_, ..] = examples::of(path) {
        roff.control("SH", ["EXAMPLES"]);
    }
    for Example { what, line } in examples::of(path) {
        roff.control("TP", []).text([roman(*what)]).text([bold(*line)]);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in STATUSES {
        roff.control("TP", []).text([bold(exit.code().to_string())]).text([roman(*meaning)]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

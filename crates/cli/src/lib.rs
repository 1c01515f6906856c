#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

use core::fmt::Display;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

mod args;
pub mod conf;
pub mod demo;
mod environment;
mod examples;
mod exit;
pub mod fs;
mod interrupt;
pub mod manual;
pub mod mon;
pub mod mon_host;
pub mod mount;
pub mod node;
mod output;
mod progress;
pub mod store;
mod text;
pub mod token;
mod usage;
pub mod wire;

pub use args::{Command, CommandLine, Format, Global};
pub use environment::Environment;
pub use exit::{Exit, Failed};
pub use output::Output;

/// Runs the command line of this process to its end.
pub fn main() -> ExitCode {
    let arguments = args::with_ceph_args(env::args_os(), env::var_os("CEPH_ARGS").as_deref());
    let line = manual::definition().try_get_matches_from(arguments);
    let exit = match line.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(line) => run(line),
        Err(error) => {
            // Help and version are data, and go to standard output; a closed pipe is the only way this can fail.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            }
        }
    };
    exit.into()
}

/// Runs one command and reports its failure.
fn run(line: CommandLine) -> Exit {
    let exports = matches!(line.command, Command::Store(store::StoreCommand::Export(_)));
    if line.global.format == Some(Format::Trace) && !exports {
        complain("--format trace is for `store export`; here it is plain, json or json-pretty");
        return Exit::Usage;
    }
    let mut output = Output::new(&line.global, io::stdout().lock());
    let result = match line.command {
        Command::Demo(arguments) => demo::run(&arguments, &line.global, &mut output),
        Command::Wire(command) => wire::run(&command, &mut output),
        Command::Mon(command) => mon::run(&command, &line.global, &mut output),
        Command::Fs(command) => fs::run(&command, &line.global, &mut output),
        Command::Store(command) => store::run(&command, &mut output),
        Command::Node(command) => node::run(&command, &line.global, &mut output),
        Command::Mount(command) => mount::run(&command, &line.global, &mut output),
        Command::Token(command) => token::run(&command, &line.global, &mut output),
        Command::Completions(arguments) => manual::completions(&arguments, &mut output),
        Command::Man(arguments) => manual::man(&arguments, &mut output),
    };
    match result.and_then(|exit| Ok(output.finish().map(|()| exit)?)) {
        Ok(exit) => exit,
        Err(error) if exit::is_closed_pipe(&error) => Exit::Done,
        Err(error) => {
            complain(format_args!("{error:#}"));
            Exit::of(&error)
        }
    }
}

/// One line on standard error. If even that is closed, there is nobody left to tell.
pub(crate) fn complain(message: impl Display) {
    let _ = writeln!(io::stderr(), "cuttlebone: {message}");
}

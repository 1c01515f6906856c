//! The `cuttlebone` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cuttlebone_cli::main()
}

//! The `mapkeeper` command.

use std::process::ExitCode;

use mapkeeper::{cli, logging};

fn main() -> ExitCode {
    let cli: cli::Cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    logging::start();
    cli::run(&cli).into()
}

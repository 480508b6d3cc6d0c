//! The `mapkeeper` command.

use std::ffi::OsString;
use std::process::ExitCode;

use mapkeeper::cli::arguments::called_as_helper;
use mapkeeper::{cli, logging};
use nix::sys::stat::{Mode, umask};

fn main() -> ExitCode {
    // Nobody else may write to what is made, whatever shell has started this.
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    umask(umask(others) | others);
    let words: Vec<OsString> = std::env::args_os().collect();
    if called_as_helper(words.first()) {
        return cli::parse(words).map_or_else(ExitCode::from, |helper| cli::run_helper(&helper).into());
    }
    let cli: cli::Cli = match cli::parse(words) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    logging::start(cli.logs_to());
    cli::run(&cli).into()
}

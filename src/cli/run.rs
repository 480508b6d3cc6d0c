//! From words to a command, and from the command to the part that does the work.

use std::ffi::OsString;

use clap::Parser;
use tokio::runtime::Runtime;

use super::command::{Cli, Command, ConfigCommand};
#[cfg(feature = "demo")]
use super::demo;
use super::ended::ended;
use super::{agent, bootstrap, config, inspect, manual, mount, user_data};
use crate::agent::status;
use crate::error::{Exit, Failed};

/// Reads the command line. Where there is nothing to run (help, version, wrong usage) it has been
/// printed, and the code to exit with is returned.
///
/// # Errors
///
/// [`Exit::Success`] after `--help` and `--version`, [`Exit::Usage`] for everything that is wrong.
pub fn parse<T: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<T, Exit> {
    T::try_parse_from(words).map_err(|error| {
        if error.use_stderr() {
            eprint!("{}", usage_text(&error));
            Exit::Usage
        } else {
            // A reader that has gone away (`--help | head`) is no failure.
            let _gone = error.print();
            Exit::Success
        }
    })
}

/// What clap says, in the form in which mapkeeper speaks.
fn usage_text(error: &clap::Error) -> String {
    let text = error.render().to_string();
    match text.strip_prefix("error: ") {
        Some(wrong) => format!("mapkeeper: {}", wrong.replace("\n  tip: ", "\nhint: ")),
        // No command at all: the help itself.
        None => text,
    }
}

/// Runs a command to its end and prints what went wrong.
pub fn run(cli: &Cli) -> Exit {
    let runtime_dir = &cli.global.runtime_dir;
    match &cli.command {
        Command::Run(arguments) => blocking(agent::run(arguments, runtime_dir)),
        Command::Bootstrap(arguments) => blocking(bootstrap::bootstrap(arguments)),
        Command::UserData(arguments) => ended(user_data::print(arguments)),
        Command::Mount(arguments) if arguments.supervised => blocking(mount::foreground(arguments)),
        Command::Mount(arguments) => mount::supervised(arguments),
        Command::Supervise(arguments) => mount::run_supervised(&arguments.words, None),
        Command::Status(arguments) => blocking(agent::status(arguments, runtime_dir)),
        Command::Bundle(arguments) => asking(inspect::bundle(arguments, runtime_dir)),
        Command::Doctor(arguments) => asking(inspect::doctor(arguments, runtime_dir)),
        Command::Explain(arguments) => asking(inspect::explain(arguments)),
        Command::Wait(arguments) => blocking(status::wait(runtime_dir, arguments.timeout)),
        Command::Pause(arguments) => ended(agent::pause(arguments, runtime_dir)),
        Command::Resume => ended(agent::resume(runtime_dir)),
        #[cfg(not(feature = "demo"))]
        Command::Demo(_) => {
            eprintln!(
                "mapkeeper: this program was built without the demo, as packages are\nhint: make demo, in the source"
            );
            Exit::Degraded
        }
        #[cfg(feature = "demo")]
        Command::Demo(arguments) if arguments.supervised => blocking(demo::demo(arguments)),
        #[cfg(feature = "demo")]
        Command::Demo(_) => demo::supervised(),
        Command::Manual(arguments) => ended(manual::write(arguments)),
        Command::ProbeMount(arguments) => agent::probe_mount(arguments),
        Command::Config(ConfigCommand::Check(arguments)) => blocking(config::check(arguments)),
        Command::Config(ConfigCommand::Show(arguments)) => blocking(config::show(arguments)),
        Command::Config(ConfigCommand::Schema) => {
            config::schema();
            Exit::Success
        }
    }
}

/// Runs a command on the single-threaded runtime of this process.
fn blocking<T: Into<Exit>, E: Into<Failed>>(command: impl Future<Output = Result<T, E>>) -> Exit {
    on_runtime(command, drop)
}

/// The same for a command that asks what may hang: its end waits for no thread that still does.
fn asking<T: Into<Exit>, E: Into<Failed>>(command: impl Future<Output = Result<T, E>>) -> Exit {
    on_runtime(command, Runtime::shutdown_background)
}

fn on_runtime<T: Into<Exit>, E: Into<Failed>>(
    command: impl Future<Output = Result<T, E>>,
    end: fn(Runtime),
) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = ended(runtime.block_on(command));
            end(runtime);
            exit
        }
        Err(error) => {
            eprintln!("mapkeeper: cannot start: {error}");
            Exit::Degraded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_is_said_in_our_own_form() {
        let error = Cli::try_parse_from(["mapkeeper", "config", "chek"]).expect_err("no such command");
        let text = usage_text(&error);
        assert!(text.starts_with("mapkeeper: unrecognized subcommand 'chek'"), "{text}");
        assert!(text.contains("\nhint: ") && text.contains("'check'"), "{text}");
    }
}

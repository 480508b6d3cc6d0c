//! The command line: from words to the part that does the work, and from its error to an exit code.
//!
//! ```text
//!   words --parse--> Cli --run--> a command --> Ok: 0
//!     |                               +-------> error: `mapkeeper: ...`, `hint: ...`, its own code
//!     +--> usage: 64      --help, --version: 0
//! ```

mod agent;
pub mod arguments;
mod bootstrap;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod inspect;
mod manual;
mod mount;
mod reload;
#[cfg(feature = "ec2")]
mod tag;
mod user_data;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::error::{self, Advise, Exit};
use crate::logging::To;
use arguments::{
    BootstrapArguments, BundleArguments, CheckArguments, DemoArguments, DoctorArguments, ExplainArguments,
    GlobalArguments, HelperArguments, ManualArguments, MountArguments, PauseArguments, ProbeArguments,
    RunArguments, ShowArguments, StatusArguments, SuperviseArguments, UserDataArguments, WaitArguments,
};

/// Serves maps out of an S3 bucket on a stock ECS host
///
/// mapkeeper mounts the bucket, proves that the mount serves, lets MapServer start on it, and from then on
/// watches the chain from bucket to WMS answer and repairs the first broken link.
#[derive(Debug, Parser)]
#[command(name = "mapkeeper", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Where the log of this command goes.
    pub fn logs_to(&self) -> To {
        match self.command {
            Command::Bootstrap(_) => To::Both,
            _ => To::StandardError,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look after this host: mount, watch, repair; the daemon
    Run(RunArguments),
    /// Prepare this host, at each boot: gate, configuration, overlay, ECS, units, start
    Bootstrap(BootstrapArguments),
    /// Print the cloud-init user data for this configuration
    UserData(UserDataArguments),
    /// Mount one bucket, in the foreground, without an agent
    Mount(MountArguments),
    /// Run another mapkeeper command so that its mounts outlive its process, where there is no systemd
    Supervise(SuperviseArguments),
    /// Show the chain, one line a link, and explain the first fault
    Status(StatusArguments),
    /// Check every precondition of this host, and say what cures what is wrong
    Doctor(DoctorArguments),
    /// Follow one map from the bucket to MapServer's answer, and name the first wrong link
    Explain(ExplainArguments),
    /// Wait until every mount is proven
    Wait(WaitArguments),
    /// Write everything that somebody else needs to help into one tar, without secrets
    Bundle(BundleArguments),
    /// Let the agent observe and repair nothing, for a while or until `resume`
    Pause(PauseArguments),
    /// Let the agent repair again
    #[command(after_help = "Example, after work on the host:\n  mapkeeper resume")]
    Resume,
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Play the whole chain on this machine, with a directory as the bucket
    Demo(DemoArguments),
    /// Write man pages and shell completions
    #[command(hide = true)]
    Manual(ManualArguments),
    #[command(name = crate::host::probe::MOUNT_COMMAND, hide = true)]
    ProbeMount(ProbeArguments),
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Validate the configuration and list every fault at once
    Check(CheckArguments),
    /// Print the effective values as TOML, secrets redacted
    Show(ShowArguments),
    /// Print the JSON Schema of a configuration file
    #[command(
        after_help = "Example, for an editor that checks TOML:\n  mapkeeper config schema >mapkeeper.schema.json"
    )]
    Schema,
}

const EXAMPLES: &str = "\
Examples:
  mapkeeper config check --config ./config.toml
  mapkeeper doctor
  mapkeeper status --watch
  mapkeeper explain island.map

Environment:
  MAPKEEPER_CONFIG       configuration file, as --config
  MAPKEEPER_RUNTIME_DIR  as --runtime-dir
  MAPKEEPER_LOG          error, warn, info, debug or trace
  MAPKEEPER_<KEY>        a setting: MAPKEEPER_REGION, MAPKEEPER_MOUNT__0__FRESHNESS";

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
        Command::Supervise(arguments) => mount::supervise_command(arguments),
        Command::Status(arguments) => blocking(agent::status(arguments, runtime_dir)),
        Command::Bundle(arguments) => asking(inspect::bundle(arguments, runtime_dir)),
        Command::Doctor(arguments) => asking(inspect::doctor(arguments, runtime_dir)),
        Command::Explain(arguments) => asking(inspect::explain(arguments)),
        Command::Wait(arguments) => blocking(agent::wait(arguments, runtime_dir)),
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
        Command::Demo(arguments) => match arguments.supervised {
            Some(bucket_port) => blocking(demo::demo(arguments, bucket_port)),
            None => demo::supervised(),
        },
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

/// Runs `mount.mapkeeper`, the form in which mount(8) calls us.
pub fn run_helper(arguments: &HelperArguments) -> Exit {
    mount::helper(arguments)
}

/// Runs a command on the single-threaded runtime of this process.
fn blocking<T: Into<Exit>, E: Advise + 'static>(command: impl Future<Output = Result<T, E>>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ended(runtime.block_on(command)),
        Err(error) => {
            eprintln!("mapkeeper: cannot start: {error}");
            Exit::Degraded
        }
    }
}

/// The same for a command that asks what may hang: its end waits for no thread that still does.
fn asking<T: Into<Exit>, E: Advise + 'static>(command: impl Future<Output = Result<T, E>>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(command);
            runtime.shutdown_background();
            ended(done)
        }
        Err(error) => {
            eprintln!("mapkeeper: cannot start: {error}");
            Exit::Degraded
        }
    }
}

/// Prints an error as people meet it, once, and gives its code.
pub fn ended<T: Into<Exit>, E: Advise + 'static>(result: Result<T, E>) -> Exit {
    match result {
        Ok(done) => done.into(),
        Err(error) => {
            eprint!("{}", error::report(&error));
            error.exit()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        arguments::HelperArguments::command().debug_assert();
    }

    /// Every command that a person may call, from the first to the last level.
    fn commands(of: &clap::Command) -> Vec<clap::Command> {
        let visible =
            of.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
        visible
            .flat_map(|command| match command.has_subcommands() {
                true => commands(command),
                false => vec![command.clone()],
            })
            .collect()
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_is_understood() {
        let all = commands(&Cli::command());
        assert!(all.len() >= 15, "{}", all.len());
        for command in all {
            let help = command.clone().render_long_help().to_string();
            let (_, examples) =
                help.split_once("Example").unwrap_or_else(|| panic!("{}", command.get_name()));
            let lines = examples.lines().map(str::trim).filter(|line| line.starts_with("mapkeeper "));
            for line in lines {
                let words = line.split(['|', '>']).next().unwrap_or_default().replace(['\'', '"'], "");
                if words.contains("$(") {
                    continue;
                }
                Cli::try_parse_from(words.split_whitespace())
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }

    #[test]
    fn a_wrong_word_is_said_in_our_own_form() {
        let error = Cli::try_parse_from(["mapkeeper", "config", "chek"]).expect_err("no such command");
        let text = usage_text(&error);
        assert!(text.starts_with("mapkeeper: unrecognized subcommand 'chek'"), "{text}");
        assert!(text.contains("\nhint: ") && text.contains("'check'"), "{text}");
    }
}

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
mod command;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod ended;
mod inspect;
mod manual;
mod mount;
mod reload;
mod run;
#[cfg(feature = "ec2")]
mod tag;
mod user_data;

pub use command::{Cli, Command, ConfigCommand};
pub use mount::helper as run_helper;
pub use run::{parse, run};

//! `mapkeeper doctor`, `explain` and `bundle`: what a person asks when something is wrong.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::arguments::{BundleArguments, DoctorArguments, ExplainArguments};
use super::config::print;
use crate::config::{ConfigError, Inputs, Loaded};
use crate::diagnose::bundle::{self, Bundle};
use crate::diagnose::doctor;
use crate::diagnose::explain::{self, Explanation};
use crate::diagnose::result;
use crate::error::{Advise, Exit, Failed};
use crate::host::configuration;
use crate::terminal::{COLUMNS, Style, while_waiting, wrap};

/// Version of what `--json` prints.
const VERSION: u32 = 1;
/// Longest wait for Parameter Store and tags; after that file and environment have to do.
const SOURCES_LIMIT: Duration = Duration::from_secs(10);

/// Looks at everything, and prints each check with its cure.
///
/// # Errors
///
/// None: what is wrong is what it prints.
pub(super) async fn doctor(arguments: &DoctorArguments, runtime_dir: &Path) -> Result<Exit, Failed> {
    let loaded = configuration(arguments.file.inputs()).await;
    let results = while_waiting("looking at everything", doctor::doctor(&loaded, runtime_dir)).await;
    if arguments.json {
        let json = json!({ "version": VERSION, "worst": result::worst(&results), "checks": results });
        print(&format!("{json:#}\n"));
    } else {
        print(&result::text(&results, Style::of(&io::stdout())));
        print(&format!("\n{} checks: {}\n", results.len(), result::counts(&results)));
    }
    Ok(result::exit(&results))
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path:?}")]
pub(super) struct BundleError {
    path: PathBuf,
    source: io::Error,
}

impl Advise for BundleError {
    fn hint(&self) -> Option<String> {
        Some("name another file with --output; one that is there already is not overwritten".to_owned())
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

/// Collects everything that somebody else needs, and writes it.
///
/// # Errors
///
/// [`BundleError`] when the file cannot be written, or is there already.
pub(super) async fn bundle(arguments: &BundleArguments, runtime_dir: &Path) -> Result<(), BundleError> {
    let loaded = configuration(arguments.file.inputs()).await;
    let bundle = while_waiting("collecting", Bundle::collect(&loaded, runtime_dir)).await;
    let name = bundle::name();
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar")));
    if path == Path::new("-") {
        return bundle.write(&name, io::stdout().lock()).map_err(|source| BundleError { path, source });
    }
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|file| bundle.write(&name, file));
    written.map_err(|source| BundleError { path: path.clone(), source })?;
    print(&format!("{}\n", path.display()));
    Ok(())
}

/// Follows one map, and prints each link and the first wrong one.
///
/// # Errors
///
/// A wrong configuration, or a map that no mount shows.
pub(super) async fn explain(arguments: &ExplainArguments) -> Result<Exit, Failed> {
    let config = configuration(arguments.file.inputs()).await?.config;
    let explained = while_waiting("following the map", explain::explain(&config, &arguments.map)).await?;
    if arguments.json {
        let first_wrong = explained.first_wrong().map(|link| link.name.clone());
        let json = json!({
            "version": VERSION,
            "map": explained.map,
            "first_wrong": first_wrong,
            "links": explained.links,
            "remarks": explained.remarks,
        });
        print(&format!("{json:#}\n"));
    } else {
        print(&told(&explained, Style::of(&io::stdout())));
    }
    Ok(explained.exit())
}

/// The first wrong link, then all of them, then what is unwise in the mapfile.
fn told(explained: &Explanation, style: Style) -> String {
    let lines = |text: String, most| wrap(&text, COLUMNS - 1, most).join("\n") + "\n";
    let mut text = match explained.first_wrong() {
        None => lines(format!("{}: every link is good", explained.map), 3),
        Some(link) => {
            let hint = link.hint.as_ref().map(|hint| lines(format!("hint: {hint}"), 4));
            lines(format!("{}: first wrong link is {}: {}", explained.map, link.name, link.detail), 6)
                + &hint.unwrap_or_default()
        }
    };
    text.push('\n');
    let first = explained.first_wrong().map(|link| link.name.clone());
    let mut links = explained.links.clone();
    // Its cure stands at the top.
    links.iter_mut().filter(|link| Some(&link.name) == first.as_ref()).for_each(|link| link.hint = None);
    text.push_str(&result::text(&links, style));
    if !explained.remarks.is_empty() {
        text.push_str("\nin the mapfile:\n");
        text.push_str(&result::text(&explained.remarks, style));
    }
    text
}

/// The configuration from all of its sources; from file and environment alone where the others do not answer.
async fn configuration(inputs: Inputs) -> Result<Loaded, ConfigError> {
    let gathered = timeout(SOURCES_LIMIT, configuration::load(&inputs, None));
    let gathered = while_waiting("asking Parameter Store and tags", gathered);
    match gathered.await {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(error)) => match Loaded::read(&inputs.file, inputs.environment) {
            Ok(loaded) => {
                eprintln!("warning: file and environment alone are used: {}", crate::error::Chain(&error));
                Ok(loaded)
            }
            Err(_) => Err(error),
        },
        Err(_) => {
            eprintln!("warning: file and environment alone are used: the other sources do not answer");
            Loaded::read(&inputs.file, inputs.environment)
        }
    }
}

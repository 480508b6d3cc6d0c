//! A configuration that has been read from its layers and checked.
//!
//! What must hold: there is no other way to one than [`Loaded::from_layers`]; all that is wrong is told at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::{ConfigError, Fault, Faults, Problem};
use super::model::Config;
use super::setting::KeyPath;
use super::show::{self, Defaults, Origins};
use super::source::{Entries, Layer, Origin};
use super::{check, read};

/// The configuration file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/mapkeeper/config.toml";

/// Which configuration file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigFile {
    /// [`DEFAULT_FILE`], if it is there: the environment may hold the whole configuration.
    Standard,
    /// This one, and it must be there.
    Named(PathBuf),
}

/// A checked configuration and where each of its values was written.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// What is allowed and yet hardly meant.
    pub warnings: Vec<Fault>,
    /// The tags of the instance as they were last read; `None`: they never were.
    pub tags: Option<BTreeMap<String, String>>,
    pub(super) entries: Entries,
}

impl Loaded {
    /// Lays `layers` over the defaults, the last uppermost, and checks the result.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Faults`] with every fault at once.
    pub fn from_layers(layers: Vec<Layer>) -> Result<Loaded, ConfigError> {
        let (entries, faults) = Entries::merged(layers);
        Loaded::checked(entries, faults)
    }

    pub(super) fn checked(entries: Entries, mut faults: Vec<Fault>) -> Result<Loaded, ConfigError> {
        let outcome = read::config(&entries);
        faults.extend(outcome.faults);
        faults.extend(check::circular(&entries));
        faults.extend(check::faults(&entries, &outcome.claims));
        faults.sort_by_key(|fault| match &fault.origin {
            Some(Origin::File { line, .. }) => line.unwrap_or(0),
            _ => usize::MAX,
        });
        match outcome.config {
            Some(config) if faults.is_empty() => {
                let warnings = check::warnings(&entries, &outcome.claims);
                Ok(Loaded { config, warnings, tags: None, entries })
            }
            _ => Err(ConfigError::Faults(Faults(faults))),
        }
    }

    /// Says what is wrong with one layer whatever others may add to it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Faults`] with every fault that no other layer can cure by completing it.
    pub fn faults_of(layer: Layer) -> Result<(), ConfigError> {
        let may_be_completed = |fault: &Fault| {
            use Problem::{Gap, Missing, NoMount, NoSelector, OwnedNeedsImage, OwnedNeedsName};
            matches!(
                fault.problem,
                Missing { .. } | NoMount | NoSelector | OwnedNeedsImage | OwnedNeedsName | Gap { .. }
            )
        };
        match Loaded::from_layers(vec![layer]) {
            Err(ConfigError::Faults(Faults(mut faults))) => {
                faults.retain(|fault| !may_be_completed(fault));
                if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults(Faults(faults))) }
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// The effective configuration as TOML, without secrets; every value followed by its origin where
    /// asked for.
    pub fn show(&self, origins: Origins) -> String {
        show::toml(&self.config, &self.entries, origins, Defaults::Shown)
    }

    /// What of the configuration somebody has written, as TOML, without secrets: a program with other defaults reads
    /// it with those.
    pub fn said(&self) -> String {
        show::toml(&self.config, &self.entries, Origins::Hidden, Defaults::LeftOut)
    }

    /// Where the value at `path` was written.
    pub fn origin(&self, path: &KeyPath) -> Origin {
        self.entries.origin(path)
    }

    /// All that is allowed and yet hardly meant, or without effect: a sentence each.
    pub fn doubts(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(ToString::to_string).chain(self.config.notices())
    }

    /// What is to be told of a source that was wanted and could not be asked.
    pub fn unasked(&self) -> Option<String> {
        let is_unasked =
            |fault: &&Fault| matches!(fault.problem, Problem::TagsUnasked { .. } | Problem::TagsUnread);
        self.warnings.iter().find(is_unasked).map(ToString::to_string)
    }
}

/// The settings in the standard file; without it none, if the environment has some.
pub(super) fn standard_layer(path: &Path, environment: &Layer) -> Result<Layer, ConfigError> {
    match Layer::file(path) {
        Err(ConfigError::Absent { .. }) if !environment.is_empty() => Ok(Layer::default()),
        read => read,
    }
}

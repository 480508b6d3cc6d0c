//! What each container was made from when it served: the exact image, by its id.
//!
//! A tag may move, or be gone, while a container runs. One that is made again is made from the image that served,
//! for as long as that image is on the host and the configuration is the same. The record is a file in the runtime
//! directory, so that it outlives an agent that is replaced, and a reboot takes the tag anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::Chain;
use crate::host::container::fingerprint;

const FILE: &str = "containers.json";

/// By the name of the container.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    file: Option<PathBuf>,
    made: BTreeMap<String, Made>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    specification: String,
    image_id: String,
}

impl Recorded {
    /// What was kept in the runtime directory; nothing, if that cannot be read.
    pub(super) fn read(runtime_dir: Option<&Path>) -> Recorded {
        let file = runtime_dir.map(|dir| dir.join(FILE));
        let text = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let made = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Recorded { file, made }
    }

    /// The image that `name` was made from when it served; `None` after its configuration changed.
    pub(super) fn of(&self, name: &str, wanted: &config::Container) -> Option<String> {
        let made = self.made.get(name)?;
        (made.specification == fingerprint(wanted)).then(|| made.image_id.clone())
    }

    /// `name` serves, made from this image.
    pub(super) fn note(&mut self, name: &str, wanted: &config::Container, image_id: &str) {
        if image_id.is_empty() || wanted.owner != config::Owner::Mapkeeper {
            return;
        }
        let made = Made { specification: fingerprint(wanted), image_id: image_id.to_owned() };
        if self.made.get(name) == Some(&made) {
            return;
        }
        self.made.insert(name.to_owned(), made);
        let Some(file) = &self.file else { return };
        let text = serde_json::to_vec_pretty(&self.made).expect("strings in maps with string keys");
        let fresh = file.with_extension("new");
        if let Err(error) = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, file)) {
            tracing::warn!(error = %Chain(&error), ?file, "what a container was made from is not kept");
        }
    }
}

//! Settings from the tags of the instance: `mapkeeper:mount.0.freshness` = `5s`.
//!
//! The right to write tags is given away more freely than root, so only settings that are marked for it
//! ([`Setting::taggable`](super::super::setting::Setting)) are taken from one. Tags of mapkeeper's own, which it writes itself
//! (`mapkeeper:state`), are no settings.

use std::collections::BTreeMap;

use super::super::fault::{Fault, Problem};
use super::key_syntax::plain;
use super::layer::Layer;
use super::origin::Origin;

/// Tags that begin with this are settings of mapkeeper, or what it says of itself.
pub const TAG_PREFIX: &str = "mapkeeper:";
/// What mapkeeper writes and never reads.
pub const STATE_TAG: &str = "mapkeeper:state";

impl Layer {
    /// The settings among the tags of an instance, and those that no tag may set.
    pub fn tags(tags: &BTreeMap<String, String>) -> (Layer, Vec<Fault>) {
        let (mut layer, mut refused) = (Layer::default(), Vec::new());
        for (name, value) in tags {
            let Some(rest) = name.strip_prefix(TAG_PREFIX).filter(|_| name != STATE_TAG) else { continue };
            let found = plain(".").path_or_fault(rest);
            let origin = Origin::Tag { name: name.clone() };
            match found.path.known().value() {
                Some(key) if !key.taggable => {
                    refused.push(Fault::new(Some(origin), found.path.to_string(), Problem::NotByTag));
                }
                _ => layer.set_found(found, value, origin),
            }
        }
        (layer, refused)
    }
}

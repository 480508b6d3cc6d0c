//! Settings from the tags of the instance: `mapkeeper:mount.0.freshness` = `5s`.
//!
//! Tags of mapkeeper's own, which it writes itself (`mapkeeper:state`), are no settings.

use std::collections::BTreeMap;

use super::words::plain;
use super::{Layer, Origin};
use crate::instance::TAG_PREFIX;

/// What mapkeeper writes and never reads.
pub const STATE_TAG: &str = "mapkeeper:state";

pub(super) fn layer(tags: &BTreeMap<String, String>) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in tags {
        let Some(rest) = name.strip_prefix(TAG_PREFIX).filter(|_| name != STATE_TAG) else { continue };
        let found = plain(".").path_or_fault(rest);
        layer.set_found(found, value, Origin::Tag { name: name.clone() });
    }
    layer
}

//! The tags of this instance, as far as it is one and lets them be read.

use std::collections::BTreeMap;

use crate::config::{Fault, Problem, TAG_PREFIX};
use crate::error::Chain;
use crate::host::instance::{InstanceError, Metadata};

/// Tags of an instance, by their names.
type Tags = BTreeMap<String, String>;

/// The tags of this instance; `None`: it is none, or they could not be asked.
pub(super) async fn instance_tags(warnings: &mut Vec<Fault>) -> Option<Tags> {
    let metadata = Metadata::from_environment();
    if !metadata.is_expected() {
        return None;
    }
    let problem = match tags(&metadata).await {
        Ok(Some(tags)) => return Some(tags),
        Ok(None) => Problem::TagsUnread,
        Err(Unasked::NoInstance) => return None,
        Err(Unasked::Because(reason)) => Problem::TagsUnasked { reason },
    };
    warnings.push(Fault::new(None, "sources.instance_tags", problem));
    None
}

/// Why tags could not be asked.
enum Unasked {
    NoInstance,
    Because(String),
}

impl From<InstanceError> for Unasked {
    fn from(error: InstanceError) -> Unasked {
        match error {
            InstanceError::NotEc2 => Unasked::NoInstance,
            other => Unasked::Because(Chain(&other).to_string()),
        }
    }
}

/// `None`: nobody lets us read them.
#[cfg(feature = "ec2")]
async fn tags(metadata: &Metadata) -> Result<Option<Tags>, Unasked> {
    use crate::host::instance::TagsError;
    match metadata.tags(TAG_PREFIX).await {
        Ok(tags) => Ok(Some(tags)),
        Err(error) if error.is_denied() => Ok(None),
        Err(TagsError::Instance { source }) => Err(source.into()),
        Err(error) => Err(Unasked::Because(Chain(&error).to_string())),
    }
}

#[cfg(not(feature = "ec2"))]
async fn tags(metadata: &Metadata) -> Result<Option<Tags>, Unasked> {
    Ok(metadata.offered_tags(TAG_PREFIX).await?)
}

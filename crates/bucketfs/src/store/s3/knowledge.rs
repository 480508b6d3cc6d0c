//! What is known of how a store keeps the conditions of writes.
//!
//! What must hold: of AWS it is known from the beginning, of any other once it was tried.

use std::sync::atomic::AtomicBool;

use hyper::Uri;
use tokio::sync::OnceCell;

use crate::store::write::Conditions;

/// What is known of a store.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    pub(super) found: OnceCell<Conditions>,
    /// It compares entity tags with what comes without quotes.
    pub(super) bare_tags: AtomicBool,
}

impl Knowledge {
    /// Of the store behind this URL; `None`: AWS.
    pub(super) fn of(url: Option<&str>) -> Knowledge {
        let host = url.map(|url| url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_lowercase)));
        let is_aws = host.is_none_or(|host| {
            host.is_some_and(|host| {
                [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|end| host.ends_with(end))
            })
        });
        let found = OnceCell::new_with(is_aws.then(Conditions::default));
        Knowledge { found, bare_tags: AtomicBool::new(false) }
    }

    pub(super) fn conditions(&self) -> Conditions {
        self.found.get().copied().unwrap_or_default()
    }
}

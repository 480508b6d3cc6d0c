//! Whether the container instance that introspection names is this host.
//!
//! Anybody on the host can listen at the agent's address while the agent is down, and name another host: that one would
//! be drained. So the instance that the cluster has behind the name is compared with what the instance metadata says.
//!
//! | instance metadata | the cluster says | then |
//! | --- | --- | --- |
//! | an id | the same id | same |
//! | an id | another | other |
//! | an id | none | unknown |
//! | this host is no EC2 instance, or it may not be asked | none | same: nothing claims to be one |
//! | the same | any | unknown |
//! | no answer | any | unknown |

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::error::Chain;
use crate::host::instance::Metadata;
use ladder::state::Identity;

/// Longest wait for the instance metadata.
const LIMIT: Duration = Duration::from_secs(2);
/// That there is nobody to ask is believed this long.
const NAMELESS: Duration = Duration::from_secs(300);

/// What this host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Own {
    Instance(String),
    /// No EC2 instance, or one whose metadata may not be asked for.
    Nameless(String),
    Unknown(String),
}

/// What this host was told to be, and when.
#[derive(Debug, Default)]
pub(super) struct OwnId(Mutex<Option<(Instant, Own)>>);

impl OwnId {
    /// Asks once: an id never changes. That there is none is believed for a while.
    pub(super) async fn ask(&self) -> Own {
        let told = || self.0.lock().expect("nobody panics while holding it");
        match &*told() {
            Some((_, own @ Own::Instance(_))) => return own.clone(),
            Some((at, own @ Own::Nameless(_))) if at.elapsed() < NAMELESS => return own.clone(),
            _ => {}
        }
        let own = asked().await;
        *told() = Some((Instant::now(), own.clone()));
        own
    }
}

async fn asked() -> Own {
    let metadata = Metadata::from_environment();
    let is_expected = metadata.is_expected();
    let why = match timeout(LIMIT, metadata.anywhere().id()).await {
        Ok(Ok(id)) => return Own::Instance(id),
        Ok(Err(error)) => Chain(&error).to_string(),
        Err(_) => "the instance metadata service does not answer".to_owned(),
    };
    if is_expected { Own::Unknown(why) } else { Own::Nameless(why) }
}

/// Compares this host with the EC2 instance that the cluster has behind a container instance.
pub(super) fn compare(own: Own, claimed: Option<&str>) -> Identity {
    match (own, claimed) {
        (Own::Instance(own), Some(claimed)) if own == claimed => Identity::Same,
        (Own::Instance(own), Some(claimed)) => {
            Identity::Other(format!("the ECS agent names instance {claimed}, this host is {own}"))
        }
        (Own::Instance(own), None) => {
            Identity::Unknown(format!("the cluster does not say whether it is {own}"))
        }
        (Own::Nameless(_), None) => Identity::Same,
        (Own::Nameless(reason) | Own::Unknown(reason), _) => Identity::Unknown(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_instance_is_this_host_only_if_both_say_the_same() {
        let instance = || Own::Instance("i-1".to_owned());
        let nameless = || Own::Nameless("no EC2 instance".to_owned());
        assert_eq!(compare(instance(), Some("i-1")), Identity::Same);
        assert_eq!(compare(nameless(), None), Identity::Same);
        let other = Identity::Other("the ECS agent names instance i-2, this host is i-1".to_owned());
        assert_eq!(compare(instance(), Some("i-2")), other);
        let unknown =
            [(instance(), None), (nameless(), Some("i-2")), (Own::Unknown("slow".to_owned()), Some("i-2"))];
        for (own, claimed) in unknown {
            let found = compare(own.clone(), claimed);
            assert!(matches!(found, Identity::Unknown(_)), "{own:?} {claimed:?}: {found:?}");
        }
    }
}

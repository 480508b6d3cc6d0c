//! A new configuration for a host that runs: taken over between two rounds, in one step.
//!
//! ```text
//!   signal, poll --> gathered, checked --refused--> [inbox] --> said by the status; the old one stays in force
//!                           |                          |
//!                           +--- consequences named ---+--> mounts that differ end, containers that nobody wants
//!                                                           are removed, everything else goes on; what is missing
//!                                                           afterwards is put up by the ladder, as after a fault
//! ```
//!
//! What must hold: a mount whose settings are the same is not touched; the newest configuration counts.

use std::rc::Rc;

use super::cluster::Cluster;
use super::convert::{named, settings};
use super::credential_cache::CredentialCache;
use super::escalation::GivingBack;
use super::inbox::Arrival;
use super::mounts::Mounts;
use super::state::Live;
use super::stores::Stores;
use crate::agent::host::ConfigChange;
use crate::config::{self, Config, Owner};
use crate::error::Chain;
use ladder::state::Settings;

impl Live {
    /// Takes over what has come since, if anything.
    pub(super) async fn take_over(&self) -> Option<ConfigChange> {
        let inbox = self.inbox.as_ref()?;
        match inbox.take()? {
            Arrival::Refused(error) => Some(ConfigChange::Refused { error }),
            Arrival::Fresh(new) => {
                let consequences = self.config.borrow().difference(&new);
                self.reconfigure(&new).await;
                inbox.taken();
                let consequences = consequences.iter().map(ToString::to_string).collect();
                let settings = Settings { workers: self.workers(), ..settings(&new) };
                Some(ConfigChange::Taken { settings: Box::new(settings), consequences })
            }
        }
    }

    async fn reconfigure(&self, new: &Config) {
        let old = self.config.replace(new.clone());
        self.remove_unwanted(&old, new).await;
        let mounts = Mounts::renewed(&self.mounts(), &old, new);
        let left = self.mounts.replace(Rc::new(mounts));
        // What was not taken over serves nothing that is wanted.
        left.unmount_all().await;
        left.detach_unwanted(&old, new).await;
        let is_same_source = old.credentials.is_same_source(&new.credentials);
        let keys = match is_same_source && old.region == new.region && profiles(&old) == profiles(new) {
            true => self.keys.borrow().renewed(new),
            false => CredentialCache::new(new, None),
        };
        self.keys.replace(Rc::new(keys));
        self.containers.replace(Rc::new(named(new).collect()));
        self.stores.replace(Rc::new(Stores::new(new)));
        self.cluster.replace(Cluster::new(new).map(Rc::new));
        self.giving_back.replace(Rc::new(GivingBack::new(&self.state_dir, new)));
        self.listed.borrow_mut().clear();
        self.facts.borrow_mut().clear();
        self.services.forget();
        self.follow_anew(new);
    }

    /// Removes the containers of ours that the new configuration does not have.
    async fn remove_unwanted(&self, old: &Config, new: &Config) {
        let kept = |gone: &config::Container| {
            new.containers.iter().any(|other| other.selector == gone.selector && other.owner == gone.owner)
        };
        for gone in old.containers.iter().filter(|gone| gone.owner == Owner::Mapkeeper && !kept(gone)) {
            let removed = async { self.engine().await?.remove(gone).await };
            if let Err(error) = removed.await {
                tracing::warn!(error = %Chain(&error), "a container that is no longer wanted stays");
            }
        }
    }
}

fn profiles(config: &Config) -> Vec<&Option<String>> {
    config.mounts.iter().map(|mount| &mount.profile).collect()
}

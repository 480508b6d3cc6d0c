//! What a live host consists of, and how its parts are reached.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::convert::{named, seen_at};
use super::credential_cache::CredentialCache;
use super::escalation::{self, GivingBack};
use super::image_pins::Recorded;
use super::inbox::Inbox;
use super::mount_watch;
use super::mounts::Mounts;
use super::services::Services;
use super::stats::Meter;
use super::stores::Stores;
use crate::agent::signals::Orders;
use crate::config::{self, Config, Selector};
use crate::error::{Advise, Exit};
use crate::host::container::{self, Engine, Facts, follow_events};
use crate::host::credentials::Holder;
use crate::host::mount::handover::Sessions;
use crate::host::probe::{Limits, MountProbe};

/// A mount has this long to answer a child. Listing it waits for S3: no less than a bucket itself has.
const MOUNT_LIMITS: Limits = Limits { ask: Duration::from_secs(3), read: Duration::from_secs(4) };
/// Docker's events are asked for again this long after they broke off.
const EVENTS_PAUSE: Duration = Duration::from_secs(2);

/// What becomes of the containers that mapkeeper owns when the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtStop {
    /// They are stopped; the next start of the agent starts them again.
    Stop,
    /// They are removed: the host is left as it was found.
    Remove,
}

/// What a live host needs beside the configuration.
#[derive(Debug)]
pub struct Options {
    /// Takes the place of the credentials that the configuration names.
    pub credentials: Option<Holder>,
    /// The program that children run: this binary, as `/proc/self/exe`.
    pub program: Vec<OsString>,
    pub at_stop: AtStop,
    /// Where new configurations come from.
    pub inbox: Option<Inbox>,
    /// Sessions that a process before has left.
    pub left: Sessions,
    /// What signals have ordered; without them nobody takes the place of this process.
    pub orders: Option<Orders>,
    /// Where `pause` leaves its wish, and where it is kept what each container was made from. `None`: nobody
    /// can pause, and nothing is kept.
    pub runtime_dir: Option<PathBuf>,
    /// Where it is kept that the instance was given back.
    pub state_dir: PathBuf,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            credentials: None,
            program: vec!["/proc/self/exe".into()],
            at_stop: AtStop::Stop,
            inbox: None,
            left: Sessions::default(),
            orders: None,
            runtime_dir: None,
            state_dir: escalation::STATE.into(),
        }
    }
}

/// Why a host cannot be looked after.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the list of mounts")]
pub struct LiveError {
    source: io::Error,
}

impl Advise for LiveError {
    fn hint(&self) -> Option<String> {
        Some("check that /proc is mounted".to_owned())
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

/// This host.
pub struct Live {
    pub(super) config: RefCell<Config>,
    pub(super) inbox: Option<Inbox>,
    /// Taken at the first round.
    pub(super) left: RefCell<Option<Sessions>>,
    pub(super) orders: Option<Orders>,
    pub(super) mounts: RefCell<Rc<Mounts>>,
    pub(super) keys: RefCell<Rc<CredentialCache>>,
    pub(super) stores: RefCell<Rc<Stores>>,
    pub(super) cluster: RefCell<Option<Rc<Cluster>>>,
    pub(super) giving_back: RefCell<Rc<GivingBack>>,
    pub(super) probe: MountProbe,
    /// When the root of each mount was last listed.
    pub(super) listed: RefCell<BTreeMap<String, Instant>>,
    pub(super) recorded: RefCell<Recorded>,
    pub(super) runtime_dir: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
    pub(super) table: mount_watch::Watch,
    /// By the name in the settings.
    pub(super) containers: RefCell<Rc<BTreeMap<String, config::Container>>>,
    pub(super) engine: RefCell<Option<Engine>>,
    /// What Docker said of each container at the last look.
    pub(super) facts: RefCell<BTreeMap<String, Facts>>,
    pub(super) services: Services,
    pub(super) meter: RefCell<Meter>,
    pub(super) docker_events: Arc<Notify>,
    pub(super) follower: RefCell<Option<JoinHandle<()>>>,
    pub(super) at_stop: AtStop,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get_mut() {
            follower.abort();
        }
    }
}

impl Live {
    /// Takes charge of the host that `config` describes. Nothing is mounted or started yet.
    ///
    /// Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel's list of mounts cannot be watched.
    pub fn new(config: &Config, options: Options) -> Result<Live, LiveError> {
        let docker_events = Arc::new(Notify::new());
        let follower = (!config.containers.is_empty()).then(|| follow(config, &docker_events));
        Ok(Live {
            config: RefCell::new(config.clone()),
            inbox: options.inbox,
            left: RefCell::new(Some(options.left)),
            orders: options.orders,
            mounts: RefCell::new(Rc::new(Mounts::new(config))),
            keys: RefCell::new(Rc::new(CredentialCache::new(config, options.credentials))),
            stores: RefCell::new(Rc::new(Stores::new(config))),
            cluster: RefCell::new(Cluster::new(config).map(Rc::new)),
            giving_back: RefCell::new(Rc::new(GivingBack::new(&options.state_dir, config))),
            listed: RefCell::default(),
            recorded: RefCell::new(Recorded::read(options.runtime_dir.as_deref())),
            runtime_dir: options.runtime_dir,
            state_dir: options.state_dir,
            probe: MountProbe::new(options.program, MOUNT_LIMITS),
            table: mount_watch::Watch::new().map_err(|source| LiveError { source })?,
            containers: RefCell::new(Rc::new(named(config).collect())),
            engine: RefCell::new(None),
            facts: RefCell::new(BTreeMap::new()),
            services: Services::default(),
            meter: RefCell::default(),
            docker_events,
            follower: RefCell::new(follower),
            at_stop: options.at_stop,
        })
    }

    pub(super) fn mounts(&self) -> Rc<Mounts> {
        self.mounts.borrow().clone()
    }

    pub(super) fn stores(&self) -> Rc<Stores> {
        self.stores.borrow().clone()
    }

    pub(super) fn wanted(&self, container: &str) -> Option<config::Container> {
        self.containers.borrow().get(container).cloned()
    }

    /// Follows Docker's events for the containers of another configuration.
    pub(super) fn follow_anew(&self, config: &Config) {
        let follower = (!config.containers.is_empty()).then(|| follow(config, &self.docker_events));
        if let Some(old) = self.follower.replace(follower) {
            old.abort();
        }
    }

    /// A connection to Docker, made once and made again after it was lost.
    pub(super) async fn engine(&self) -> Result<Engine, container::ContainerError> {
        if let Some(engine) = &*self.engine.borrow() {
            return Ok(engine.clone());
        }
        let mut engine = Engine::connect().await?;
        if let Some(runtime_dir) = &self.runtime_dir {
            engine = engine.on_behalf_of(runtime_dir);
        }
        *self.engine.borrow_mut() = Some(engine.clone());
        Ok(engine)
    }

    /// Where a container sees a mount of ours, by its configured binds, else by those that Docker shows.
    pub(super) fn seen_in(&self, container: &str, mount: &str) -> Option<PathBuf> {
        let (_, configured, real) = self.mounts().paths().into_iter().find(|(name, ..)| name == mount)?;
        let facts = self.facts.borrow();
        let shown = facts.get(container).map_or(&[][..], |facts| &facts.binds);
        let shown = shown.iter().map(|(source, target)| (PathBuf::from(source), target));
        let wanted = self.wanted(container)?;
        let wanted = wanted.binds.iter();
        let wanted = wanted.map(|bind| (bind.source.clone(), &bind.target));
        wanted.chain(shown).find_map(|(source, target)| {
            seen_at(&source, target, &configured).or_else(|| seen_at(&source, target, &real))
        })
    }
}

/// Follows Docker's events in a task of its own and passes on those that concern us.
fn follow(config: &Config, events: &Arc<Notify>) -> JoinHandle<()> {
    // A container that is found by label or image may have any name.
    let names: Option<Vec<String>> = config
        .containers
        .iter()
        .map(|wanted| match &wanted.selector {
            Selector::Name(name) => Some(name.clone()),
            Selector::Match { .. } => None,
        })
        .collect();
    let events = events.clone();
    let happened = move |name: Option<&str>| {
        let concerns_us = match (&names, name) {
            (Some(ours), Some(name)) => ours.iter().any(|our| our == name),
            _ => true,
        };
        if concerns_us {
            events.notify_one();
        }
    };
    tokio::spawn(async move { match follow_events(happened, EVENTS_PAUSE).await {} })
}

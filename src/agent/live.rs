//! The real host: mounts of this process, Docker, the kernel's tables, services over HTTP.
//!
//! Nothing here decides: questions are answered and actions carried out. What an action rests on is
//! compared once more right before it, because a mount may have gone between the look and the deed.
//!
//! No file below a mount of ours is ever touched from this process: paths are asked about by children
//! (`probe.rs`), everything else is read from `/proc` and `/sys`.

mod cluster;
mod convert;
mod credential_cache;
mod escalation;
mod image_pins;
mod mount_watch;
mod mounts;
pub mod reload;
mod services;
mod stats;
mod stores;
mod takeover;
mod work;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::cluster::Cluster;
use self::convert::{escalation, named, state_of};
pub use self::convert::{seen_at, settings};
use self::credential_cache::CredentialCache;
use self::escalation::GivingBack;
use self::image_pins::Recorded;
use self::mounts::{Mounts, device};
use self::reload::Inbox;
use self::services::Services;
use self::stats::Meter;
use self::stores::Stores;
use super::status::uptime;
use super::{ConfigChange, Host, Orders};
use crate::config::{self, Config, Selector};
use crate::error::{Advise, Chain, Exit};
use crate::host::container::{self, Engine, Facts, Found, follow_events};
use crate::host::credentials::Holder;
use crate::host::mount::handover::Sessions;
use crate::host::mount::{MountTable, is_kernel};
use crate::host::probe::{Limits, MountFinding, MountProbe, MountProbeError};
use ladder::state::{
    Action, ContainerSettings, ContainerState, CredentialsSeen, DataSeen, Device, DockerSeen, EcsSeen,
    Failure, Maintenance, MountAnswer, MountEntry, Repair, Requests, Seen, ServiceSeen, Session, Stats,
    StoreSeen, Target,
};

/// A mount has this long to answer a child. Listing it waits for S3: no less than a bucket itself has.
const MOUNT_LIMITS: Limits = Limits { ask: Duration::from_secs(3), read: Duration::from_secs(4) };
/// Docker's events are asked for again this long after they broke off.
const EVENTS_PAUSE: Duration = Duration::from_secs(2);
/// Time between two listings of a mount's root.
const LISTED: Duration = Duration::from_secs(30);

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
pub enum LiveError {
    #[error("cannot watch the list of mounts")]
    Watch { source: io::Error },
}

impl Advise for LiveError {
    fn hint(&self) -> Option<String> {
        match self {
            LiveError::Watch { .. } => Some("check that /proc is mounted".to_owned()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            LiveError::Watch { .. } => Exit::Degraded,
        }
    }
}

/// This host.
pub struct Live {
    config: RefCell<Config>,
    inbox: Option<Inbox>,
    /// Taken at the first round.
    left: RefCell<Option<Sessions>>,
    orders: Option<Orders>,
    mounts: RefCell<Rc<Mounts>>,
    keys: RefCell<Rc<CredentialCache>>,
    stores: RefCell<Rc<Stores>>,
    cluster: RefCell<Option<Rc<Cluster>>>,
    giving_back: RefCell<Rc<GivingBack>>,
    probe: MountProbe,
    /// When the root of each mount was last listed.
    listed: RefCell<BTreeMap<String, Instant>>,
    recorded: RefCell<Recorded>,
    runtime_dir: Option<PathBuf>,
    state_dir: PathBuf,
    table: mount_watch::Watch,
    /// By the name in the settings.
    containers: RefCell<Rc<BTreeMap<String, config::Container>>>,
    engine: RefCell<Option<Engine>>,
    /// What Docker said of each container at the last look.
    facts: RefCell<BTreeMap<String, Facts>>,
    services: Services,
    meter: RefCell<Meter>,
    docker_events: Arc<Notify>,
    follower: RefCell<Option<JoinHandle<()>>>,
    at_stop: AtStop,
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
    /// [`LiveError::Watch`] when the kernel's list of mounts cannot be watched.
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
            giving_back: RefCell::new(Rc::new(GivingBack::new(
                &options.state_dir,
                config.region.as_deref(),
                escalation(config),
            ))),
            listed: RefCell::default(),
            recorded: RefCell::new(Recorded::read(options.runtime_dir.as_deref())),
            runtime_dir: options.runtime_dir,
            state_dir: options.state_dir,
            probe: MountProbe::new(options.program, MOUNT_LIMITS),
            table: mount_watch::Watch::new().map_err(|source| LiveError::Watch { source })?,
            containers: RefCell::new(Rc::new(
                named(config).into_iter().map(|(name, wanted)| (name, wanted.clone())).collect(),
            )),
            engine: RefCell::new(None),
            facts: RefCell::new(BTreeMap::new()),
            services: Services::default(),
            meter: RefCell::default(),
            docker_events,
            follower: RefCell::new(follower),
            at_stop: options.at_stop,
        })
    }

    fn mounts(&self) -> Rc<Mounts> {
        self.mounts.borrow().clone()
    }

    fn stores(&self) -> Rc<Stores> {
        self.stores.borrow().clone()
    }

    fn wanted(&self, container: &str) -> Option<config::Container> {
        self.containers.borrow().get(container).cloned()
    }

    /// Follows Docker's events for the containers of another configuration.
    fn follow_anew(&self, config: &Config) {
        let follower = (!config.containers.is_empty()).then(|| follow(config, &self.docker_events));
        if let Some(old) = self.follower.replace(follower) {
            old.abort();
        }
    }

    /// A connection to Docker, made once and made again after it was lost.
    async fn engine(&self) -> Result<Engine, container::ContainerError> {
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

    async fn act_on_container(&self, name: &str, action: &Action) -> Result<(), Failure> {
        let Some(wanted) = &self.wanted(name) else {
            return Err(plain_failure(format!("no container is called {name:?}")));
        };
        let engine = self.engine().await.map_err(|error| failure(&error))?;
        let gone =
            action.rests_on.iter().find(|proof| !self.mounts().still_shows(&proof.mount, proof.device));
        if let Some(proof) = gone {
            return Err(plain_failure(format!("mount {} changed in the meantime", proof.mount)));
        }
        let recorded = self.recorded.borrow().of(name, wanted);
        let done = match action.repair {
            Repair::Create => engine.create(wanted, recorded.as_deref()).await,
            Repair::Recreate => engine.recreate(wanted, recorded.as_deref()).await,
            Repair::Start => engine.start(wanted).await,
            Repair::Restart => engine.restart(wanted).await,
            Repair::Stop => engine.stop(wanted).await,
            Repair::Unpause => engine.unpause(wanted).await,
            Repair::MakeErrorLog => engine.make_error_log(wanted).await,
            _ => return Err(misplaced(action)),
        };
        done.map_err(|error| failure(&error))
    }

    async fn put_containers_away(&self) {
        let containers = self.containers.borrow().clone();
        let ours = containers.iter().filter(|(_, wanted)| wanted.owner == config::Owner::Mapkeeper);
        for (name, wanted) in ours {
            let away = async {
                let engine = self.engine().await?;
                match (self.at_stop, engine.find(wanted).await?) {
                    // Of another agent's nothing is put away.
                    (_, Found::Absent | Found::Foreign { .. }) => Ok(()),
                    (AtStop::Stop, Found::Present(_)) => engine.stop(wanted).await,
                    (AtStop::Remove, Found::Present(_)) => engine.remove(wanted).await,
                }
            };
            if let Err(error) = away.await {
                tracing::warn!(container = %name, error = %Chain(&error), "container not put away");
            }
        }
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

impl Host for Live {
    fn clock(&self) -> (Duration, SystemTime) {
        (uptime().unwrap_or_default(), SystemTime::now())
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn maintenance(&self) -> Maintenance {
        self.runtime_dir.as_deref().map_or(Maintenance::Off, super::maintenance::wished)
    }

    async fn credentials(&self) -> Seen<CredentialsSeen> {
        let keys = self.keys.borrow().clone();
        keys.look().await
    }

    async fn store(&self, mount: &str) -> Seen<StoreSeen> {
        let (mounts, stores) = (self.mounts(), self.stores());
        let credentials = mounts.spec(mount).and_then(|spec| self.keys.borrow().for_mount(spec));
        stores.look(mount, credentials).await
    }

    async fn mount_entry(&self, mount: &str) -> Seen<Option<MountEntry>> {
        self.mounts().entry(mount)
    }

    async fn session(&self, mount: &str) -> Seen<Option<Session>> {
        self.mounts().session(mount)
    }

    async fn mount_answer(&self, mount: &str) -> Seen<MountAnswer> {
        let Some((path, expected)) = self.mounts().asked_at(mount) else {
            return Seen::Unknown("nothing is mounted there".to_owned());
        };
        let expected = expected.map(|device| (device.major, device.minor));
        // Listing costs a request to S3: twice a minute, and always while something is amiss.
        let list = self.listed.borrow().get(mount).is_none_or(|at| at.elapsed() >= LISTED);
        let mut found = self.probe.ask(&path, expected, false).await;
        // What gives no sign of life would not list anything either: that is known sooner.
        if let (Ok(MountFinding::Answered { .. }), true) = (&found, list) {
            found = self.probe.ask(&path, expected, true).await;
        }
        let well = matches!(found, Ok(MountFinding::Listed { .. } | MountFinding::Answered { .. }));
        self.stores().mount_answered(mount, well);
        match (&found, well) {
            (Ok(MountFinding::Listed { .. }), _) => {
                self.listed.borrow_mut().insert(mount.to_owned(), Instant::now());
            }
            (_, false) => drop(self.listed.borrow_mut().remove(mount)),
            _ => {}
        }
        match found {
            Ok(MountFinding::Content { .. }) => Seen::Unknown("a probe read instead of asking".to_owned()),
            Ok(MountFinding::Listed { device: (major, minor), .. })
            | Ok(MountFinding::Answered { device: (major, minor) })
            | Ok(MountFinding::Elsewhere { device: (major, minor) }) => {
                Seen::Known(MountAnswer::Serves(Device { major, minor }))
            }
            Ok(MountFinding::Failed { errno }) => Seen::Known(MountAnswer::Errno(errno)),
            Err(MountProbeError::Silent(limit)) => Seen::Known(MountAnswer::Silent(limit)),
            Err(error) => Seen::Unknown(Chain(&error).to_string()),
        }
    }

    async fn data(&self, mount: &str) -> DataSeen {
        match self.mounts().asked_at(mount) {
            Some((path, Some(_))) => self.stores().compare(mount, &path, &self.probe).await,
            _ => DataSeen::NotCompared,
        }
    }

    async fn requests(&self, mount: &str) -> Seen<Requests> {
        self.mounts().requests(mount).await
    }

    async fn docker(&self) -> Seen<DockerSeen> {
        let asked = async { self.engine().await?.ping().await };
        match asked.await {
            Ok(()) => Seen::Known(DockerSeen::Answers),
            Err(error) => {
                self.engine.take();
                let hint = error.hint().unwrap_or_default();
                Seen::Known(DockerSeen::Unreachable { reason: Chain(&error).to_string(), hint })
            }
        }
    }

    async fn container(&self, container: &ContainerSettings) -> Seen<ContainerState> {
        let Some(wanted) = &self.wanted(&container.name) else {
            return Seen::Unknown(format!("no container is called {:?}", container.name));
        };
        let found = async { self.engine().await?.find(wanted).await };
        self.facts.borrow_mut().remove(&container.name);
        match found.await {
            Ok(Found::Absent) => Seen::Known(ContainerState::Absent),
            Ok(Found::Foreign { id, agent }) => Seen::Known(ContainerState::Foreign { id, agent }),
            Ok(Found::Present(facts)) => {
                let state = ContainerState::Present(state_of(&facts, wanted));
                self.facts.borrow_mut().insert(container.name.clone(), *facts);
                Seen::Known(state)
            }
            Err(error) => Seen::Unknown(Chain(&error).to_string()),
        }
    }

    fn mounts_bound(&self, container: &ContainerSettings) -> Vec<String> {
        let facts = self.facts.borrow();
        let shown = facts.get(&container.name).map_or(&[][..], |facts| &facts.binds);
        let binds = |path: &Path| {
            shown.iter().any(|(source, target)| seen_at(Path::new(source), target, path).is_some())
        };
        let mut names = container.mounts.clone();
        for (name, configured, real) in self.mounts().paths() {
            if !names.contains(&name) && (binds(&configured) || binds(&real)) {
                names.push(name);
            }
        }
        names
    }

    async fn view(&self, container: &ContainerSettings, pid: u32, mount: &str) -> Seen<Option<Device>> {
        let Some(at) = self.seen_in(&container.name, mount) else {
            return Seen::Unknown(format!("no bind of {} shows {mount}", container.name));
        };
        match MountTable::of(Some(pid)) {
            Ok(table) => Seen::Known(table.top(&at).map(|entry| device(entry.device))),
            Err(error) => Seen::Unknown(format!("cannot read the mounts of process {pid}: {error}")),
        }
    }

    async fn service(&self, container: &ContainerSettings) -> Seen<ServiceSeen> {
        let probe = self.wanted(&container.name).and_then(|wanted| wanted.probe);
        let Some(probe) = probe else { return Seen::Unknown("it has no probe".to_owned()) };
        let facts = self.facts.borrow().get(&container.name).cloned();
        let life = facts.as_ref().map(|facts| facts.started.clone());
        let id = facts.as_ref().map(|facts| facts.id.clone()).unwrap_or_default();
        let used = async {
            match async { self.engine().await?.processor_time(&id).await }.await {
                Ok(Some(used)) => Seen::Known(used),
                Ok(None) => Seen::Unknown("Docker does not tell its processor time".to_owned()),
                Err(error) => Seen::Unknown(Chain(&error).to_string()),
            }
        };
        let seen = self.services.look(&container.name, &life.unwrap_or_default(), &probe, used).await;
        let named = facts.as_ref().and_then(|facts| facts.error_log.as_deref());
        let seen = services::confined(seen, named);
        if let (ServiceSeen::Healthy, Some(facts), Some(wanted)) =
            (&seen, facts, self.wanted(&container.name))
        {
            // What serves is worth being made again, exactly.
            self.recorded.borrow_mut().note(&container.name, &wanted, &facts.image_id);
        }
        Seen::Known(seen)
    }

    async fn ecs(&self) -> Seen<EcsSeen> {
        let cluster = self.cluster.borrow().clone();
        match cluster {
            Some(cluster) => cluster.look().await,
            None => Seen::Unknown("no cluster is configured".to_owned()),
        }
    }

    async fn apply(&self, action: &Action) -> Result<(), Failure> {
        self.services.forget();
        self.stores().forget();
        self.listed.borrow_mut().clear();
        match (&action.target, action.repair) {
            (Target::Credentials, Repair::Refresh) => {
                let keys = self.keys.borrow().clone();
                keys.refresh().await?;
                self.stores().reconnect();
                Ok(())
            }
            (Target::Mount(name), Repair::RestartWorkers) => self.restart_workers(name),
            (Target::Instance, Repair::Terminate) => {
                let giving_back = self.giving_back.borrow().clone();
                giving_back.give_back().await
            }
            (Target::Ecs | Target::Instance, repair) => {
                let cluster = self.cluster.borrow().clone();
                match cluster {
                    Some(cluster) => cluster.apply(repair).await,
                    None => Err(misplaced(action)),
                }
            }
            (Target::Mount(name), Repair::Uncover) => self.mounts().uncover(name).await,
            (Target::Mount(name), Repair::Mount | Repair::Remount) => {
                let mounts = self.mounts();
                if mounts.spec(name).is_some_and(|spec| is_kernel(&spec.source)) {
                    return mounts.mount_kernel(name, action.repair).await;
                }
                let holder = mounts.spec(name).and_then(|spec| self.keys.borrow().for_mount(spec));
                match holder {
                    Some(holder) => mounts.mount(name, action.repair, holder).await,
                    None => Err(no_credentials()),
                }
            }
            (Target::Container(name), _) => self.act_on_container(name, action).await,
            _ => Err(misplaced(action)),
        }
    }

    fn stats(&self) -> Stats {
        let mounts = self.mounts();
        let served = mounts.served();
        self.meter.borrow_mut().figures(served.iter().map(|(spec, mounted)| (*spec, mounted.session())))
    }

    async fn apply_config(&self) -> Option<ConfigChange> {
        self.resume_left().await;
        self.take_over().await
    }

    async fn wake(&self) {
        let mounts = self.mounts();
        let arrival = async {
            match &self.inbox {
                Some(inbox) => inbox.arrival().await,
                None => std::future::pending().await,
            }
        };
        // Cancel-safe: all arms only wait.
        tokio::select! {
            () = self.docker_events.notified() => {}
            () = mounts.disturbed(&self.table) => {}
            () = arrival => {}
        }
    }

    async fn shut_down(&self) {
        if self.is_replaced().await {
            return self.mounts().leave_all().await;
        }
        self.put_containers_away().await;
        self.mounts().unmount_all().await;
    }
}

impl Live {
    /// Where a container sees a mount of ours, by its configured binds, else by those that Docker shows.
    fn seen_in(&self, container: &str, mount: &str) -> Option<PathBuf> {
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

/// An error in the words and with the exit code that a person would get.
fn failure<E: Advise + 'static>(error: &E) -> Failure {
    Failure { error: Chain(error).to_string(), hint: error.hint(), exit: error.exit().code() }
}

fn no_credentials() -> Failure {
    plain_failure("there are no credentials for it".to_owned())
}

fn plain_failure(error: String) -> Failure {
    Failure { error, hint: None, exit: Exit::Degraded.code() }
}

fn misplaced(action: &Action) -> Failure {
    plain_failure(format!("{:?} is no repair of {}", action.repair, action.target))
}

#[cfg(test)]
mod tests;

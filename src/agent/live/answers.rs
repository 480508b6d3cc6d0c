//! The questions and orders of the loop, answered and carried out by this host.
//!
//! What must hold: nothing is decided; what an action rests on is compared once more right before it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::convert::seen_at;
use super::failure::{failure, misplaced, no_credentials, plain_failure};
use super::mounts::device;
use super::services;
use super::state::{AtStop, Live};
use crate::agent::host::{ConfigChange, Host};
use crate::agent::maintenance;
use crate::agent::status::uptime;
use crate::config;
use crate::error::{Advise, Chain};
use crate::host::container::Found;
use crate::host::mount::{MountTable, is_kernel};
use crate::host::probe::{MountFinding, MountProbeError};
use ladder::state::{
    Action, ContainerSettings, ContainerState, CredentialsSeen, DataSeen, Device, DockerSeen, EcsSeen,
    Failure, Maintenance, MountAnswer, MountEntry, Repair, Requests, Seen, ServiceSeen, Session, Stats,
    StoreSeen, Target,
};

/// Time between two listings of a mount's root.
const LISTED: Duration = Duration::from_secs(30);

impl Host for Live {
    fn clock(&self) -> (Duration, SystemTime) {
        (uptime().unwrap_or_default(), SystemTime::now())
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn maintenance(&self) -> Maintenance {
        self.runtime_dir.as_deref().map_or(Maintenance::Off, maintenance::wished)
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
        // Listing costs a request to S3: twice a minute, and always while something is faulty.
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
                let state = ContainerState::Present(facts.seen.clone());
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
        let life = facts.as_ref().map(|facts| facts.seen.started.clone());
        let id = facts.as_ref().map(|facts| facts.seen.id.clone()).unwrap_or_default();
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
        self.meter.borrow_mut().figures(served.iter().map(|(spec, mounted)| (*spec, &***mounted)))
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

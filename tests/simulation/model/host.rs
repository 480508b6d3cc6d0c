//! The model as the loop sees it: each question is remembered with its answer.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ladder::state::*;
use mapkeeper::agent::Host;
use tokio::time::sleep;

use super::Model;
use crate::check;
use crate::schedule::Kind;

/// The model, as the loop sees it.
pub struct Simulated(pub Rc<Model>);

impl std::ops::Deref for Simulated {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0
    }
}

/// An action under way. One that the loop gives up was an attempt as well.
struct Attempt<'a> {
    model: &'a Model,
    action: &'a Action,
    done: bool,
}

impl<'a> Attempt<'a> {
    fn begin(model: &'a Model, action: &'a Action) -> Attempt<'a> {
        model.acting.set(true);
        Attempt { model, action, done: false }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.model.acting.set(false);
        let ended = (self.model.now(), self.action.clone(), self.done);
        self.model.actions.borrow_mut().push(ended);
    }
}

impl Model {
    /// The life of the container, noted as soon as it is seen.
    fn note_life(&self) -> u32 {
        let life = self.truth.borrow().container.as_ref().map_or(0, |container| container.life);
        if self.first_seen.get().0 != life {
            self.first_seen.set((life, self.now()));
            self.misses.set(0);
        }
        life
    }

    /// Notes that all is well and was seen so.
    fn saw_well(&self) {
        let seeing = !self.any(&[Kind::Blind, Kind::Deaf]);
        self.seen_well.set(self.seen_well.get() || seeing && self.serves_maps());
    }
}

impl Host for Simulated {
    fn clock(&self) -> (Duration, SystemTime) {
        (
            self.now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.now() + self.wall_jump.get(),
        )
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    fn maintenance(&self) -> Maintenance {
        match self.is(Kind::Maintenance) {
            true => Maintenance::On { left: None },
            false => Maintenance::Off,
        }
    }

    async fn credentials(&self) -> Seen<CredentialsSeen> {
        self.passes();
        self.looks.set(self.looks.get() + 1);
        let missing = CredentialsSeen::Missing { reason: "none".to_owned(), hint: None };
        let found = || if self.is(Kind::CredentialsGone) { missing } else { CredentialsSeen::Held };
        let seen = self.tell(|told, seen| told.credentials = seen, found).await;
        if let Seen::Known(CredentialsSeen::Missing { .. }) = &seen {
            self.shared.set(Some(self.now()));
        }
        seen
    }

    async fn store(&self, _: &str) -> Seen<StoreSeen> {
        let seen = self.tell(|told, seen| told.store = seen, || self.store_now()).await;
        if matches!(&seen, Seen::Known(store) if *store != StoreSeen::Answers) {
            self.shared.set(Some(self.now()));
        }
        seen
    }

    async fn mount_entry(&self, _: &str) -> Seen<Option<MountEntry>> {
        self.tell(|told, seen| told.entry = seen, || self.entry_now()).await
    }

    async fn session(&self, _: &str) -> Seen<Option<Session>> {
        self.tell(|told, seen| told.session = seen, || self.session_now()).await
    }

    async fn mount_answer(&self, _: &str) -> Seen<MountAnswer> {
        if self.truth.borrow().stuck {
            sleep(Duration::from_secs(3)).await;
        }
        let seen = self.tell(|told, seen| told.answer = seen, || self.answer_now()).await;
        match &seen {
            Seen::Known(MountAnswer::Serves(_)) => {
                self.faulty.set(0);
                self.mount_seen_well.set(self.mount_seen_well.get() || self.serving());
                if self.bare {
                    self.saw_well();
                }
            }
            Seen::Known(MountAnswer::Errno(errno)) if errno == "ENOTCONN" => self.faulty.set(0),
            Seen::Known(_) => self.faulty.set(self.faulty.get() + 1),
            Seen::Unknown(_) => {}
        }
        seen
    }

    async fn data(&self, _: &str) -> DataSeen {
        DataSeen::NotCompared
    }

    async fn requests(&self, _: &str) -> Seen<Requests> {
        let found = || {
            let truth = self.truth.borrow();
            let (lost, taken) = (u64::from(truth.lost.is_some()), u64::from(truth.stuck));
            Requests { waiting: lost + taken, taken }
        };
        let seen = self.tell(|told, seen| told.requests = seen, found).await;
        if let Seen::Known(requests) = &seen {
            self.lost.set(requests.are_lost().then(|| self.lost.get().unwrap_or(self.now())));
        }
        seen
    }

    async fn docker(&self) -> Seen<DockerSeen> {
        let away = DockerSeen::Unreachable { reason: "refused".to_owned(), hint: "start it".to_owned() };
        let found = || if self.is(Kind::DockerDown) { away } else { DockerSeen::Answers };
        self.tell(|told, seen| told.docker = seen, found).await
    }

    async fn container(&self, _: &ContainerSettings) -> Seen<ContainerState> {
        if self.is(Kind::DockerDown) {
            let seen = Seen::Unknown("Docker does not answer".to_owned());
            self.answered.borrow_mut().container = seen.clone();
            return seen;
        }
        let seen = self.tell(|told, seen| told.container = seen, || self.container_now()).await;
        if let Seen::Known(ContainerState::Present(ContainerFacts { phase: Phase::Running, .. })) = &seen {
            self.note_life();
        }
        seen
    }

    fn mounts_bound(&self, _: &ContainerSettings) -> Vec<String> {
        vec!["mapfiles".to_owned()]
    }

    async fn view(&self, _: &ContainerSettings, _: u32, _: &str) -> Seen<Option<Device>> {
        let view = || self.truth.borrow().container.as_ref().and_then(|container| container.view);
        self.tell(|told, seen| told.view = seen, view).await
    }

    async fn service(&self, _: &ContainerSettings) -> Seen<ServiceSeen> {
        let seen = self.tell(|told, seen| told.service = seen, || self.service_now()).await;
        let life = self.note_life();
        match &seen {
            Seen::Known(seen) if check::is_silent(seen) => self.misses.set(self.misses.get() + 1),
            Seen::Known(ServiceSeen::Unanswered { .. }) => {}
            Seen::Known(_) => {
                self.misses.set(0);
                self.served.set(life);
                self.saw_well();
            }
            Seen::Unknown(_) => {}
        }
        seen
    }

    async fn ecs(&self) -> Seen<EcsSeen> {
        let seen = self.tell(|told, seen| told.ecs = seen, || self.ecs_now()).await;
        if let Seen::Known(EcsSeen { agent, instance, .. }) = &seen {
            let connected = matches!(instance, Seen::Known(EcsInstance::Present { connected: true, .. }));
            let well = connected && matches!(agent, EcsAgent::Registered { .. });
            self.ecs_faulty.set(if well { None } else { self.ecs_faulty.get().or(Some(self.now())) });
        }
        seen
    }

    async fn apply(&self, action: &Action) -> Result<(), Failure> {
        check::action_begins(self, action);
        self.log(format!("{:?} {} for {:?}", action.repair, action.target, action.trigger));
        let mut attempt = Attempt::begin(self, action);
        let done = self.carry_out(action).await;
        attempt.done = done.is_ok();
        self.log(format!(
            "      -> {}",
            done.as_ref().map_or_else(|failure| failure.error.as_str(), |()| "done")
        ));
        done
    }

    async fn wake(&self) {
        self.wake.notified().await;
    }

    async fn shut_down(&self) {}
}

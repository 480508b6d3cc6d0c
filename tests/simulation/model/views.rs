//! What the model shows to whoever looks: late, not at all, or true.

use std::time::Duration;

use ladder::state::*;
use tokio::time::sleep;

use super::{Answered, DISK, FOREIGN, Model};
use crate::schedule::Kind;

impl Model {
    /// One answer: late, missing or given, and remembered as what was answered.
    pub(super) async fn tell<T: Clone>(
        &self,
        slot: impl Fn(&mut Answered, Seen<T>),
        truth: impl FnOnce() -> T,
    ) -> Seen<T> {
        slot(&mut self.answered.borrow_mut(), Seen::Unknown("no answer".to_owned()));
        if self.is(Kind::Deaf) && self.chance(3) {
            std::future::pending::<()>().await;
        }
        let pause = self.rng.borrow_mut().u64(0..30);
        sleep(Duration::from_millis(pause)).await;
        let seen = match self.is(Kind::Blind) && self.chance(2) {
            true => Seen::Unknown("could not look".to_owned()),
            false => Seen::Known(truth()),
        };
        slot(&mut self.answered.borrow_mut(), seen.clone());
        seen
    }

    pub(super) fn store_now(&self) -> StoreSeen {
        let why = || "as the schedule says".to_owned();
        if self.any(&[Kind::S3Away, Kind::S3Slow]) {
            StoreSeen::Away { reason: why(), hint: None }
        } else if self.is(Kind::BucketGone) {
            StoreSeen::Missing { reason: why(), hint: None }
        } else if self.is(Kind::S3Refuses) {
            StoreSeen::Refuses { reason: why(), hint: None }
        } else {
            StoreSeen::Answers
        }
    }

    pub(super) fn entry_now(&self) -> Option<MountEntry> {
        let truth = self.truth.borrow();
        truth.layers.last().map(|device| MountEntry {
            device: *device,
            fs_type: "fuse".to_owned(),
            source: "s3://maps".to_owned(),
            hidden_by: self.is(Kind::Hidden).then(|| "tmpfs at /srv".to_owned()),
            origin: match (*device == FOREIGN, truth.layers.iter().any(|layer| *layer != FOREIGN)) {
                (false, _) => Origin::Mapkeeper,
                (true, true) => Origin::OverMapkeeper,
                (true, false) => Origin::Foreign,
            },
        })
    }

    pub(super) fn session_now(&self) -> Option<Session> {
        let truth = self.truth.borrow();
        let state = match (truth.session_ended, self.any(&[Kind::S3Away, Kind::S3Slow])) {
            (true, _) => SessionState::Ended("aborted".to_owned()),
            (false, true) => SessionState::Degraded("S3 is away".to_owned()),
            (false, false) => SessionState::Serving,
        };
        truth.session.map(|device| Session { device, state })
    }

    pub(super) fn answer_now(&self) -> MountAnswer {
        if self.is(Kind::Hidden) {
            return MountAnswer::Errno("ENOENT".to_owned());
        }
        let truth = self.truth.borrow();
        match truth.layers.last() {
            None => MountAnswer::Serves(DISK),
            Some(device) if *device == FOREIGN => MountAnswer::Serves(FOREIGN),
            Some(device) if Some(*device) != truth.session || truth.session_ended => {
                MountAnswer::Errno("ENOTCONN".to_owned())
            }
            Some(_) if truth.stuck => MountAnswer::Silent(Duration::from_secs(3)),
            Some(_) if truth.errors => MountAnswer::Errno("EIO".to_owned()),
            Some(device) => MountAnswer::Serves(*device),
        }
    }

    pub(super) fn container_now(&self) -> ContainerState {
        match &self.truth.borrow().container {
            None => ContainerState::Absent,
            Some(container) => ContainerState::Present(ContainerFacts {
                id: container.id.clone(),
                phase: container.phase,
                pid: (container.phase == Phase::Running).then_some(42),
                started: format!("life {}", container.life),
                restarts: 0,
                oom_killed: false,
                exit_code: Some(137),
                image: "mapserver:8".to_owned(),
                specification: if container.outdated {
                    Specification::Outdated
                } else {
                    Specification::Current
                },
            }),
        }
    }

    pub(super) fn service_now(&self) -> ServiceSeen {
        let seen = self.service_by_now();
        if !matches!(seen, ServiceSeen::Unanswered { .. }) {
            self.unanswered.set(None);
        }
        seen
    }

    /// No answer yet, in this life of the container.
    fn unanswered(&self, life: u32, works: bool) -> ServiceSeen {
        let timeout = Duration::from_secs(1);
        let since = self.unanswered.get().filter(|(of, _)| *of == life);
        let (_, since) = since.unwrap_or((life, self.now().saturating_sub(timeout)));
        self.unanswered.set(Some((life, since)));
        ServiceSeen::Unanswered { waited: self.now() - since, timeout, works: Seen::Known(works) }
    }

    fn service_by_now(&self) -> ServiceSeen {
        let faulty = |trigger| ServiceSeen::Faulty { trigger, detail: "faulty".to_owned() };
        let truth = self.truth.borrow();
        let Some(container) = &truth.container else { return faulty(Reason::NoConnection) };
        if container.phase != Phase::Running || self.now() < container.answers_from {
            faulty(Reason::NoConnection)
        } else if container.wedged {
            self.unanswered(container.life, false)
        } else if container.view != truth.session || truth.session_ended || truth.errors {
            faulty(Reason::MapMissing)
        } else if truth.stuck || self.any(&[Kind::S3Slow, Kind::ServiceBusy]) {
            self.unanswered(container.life, self.is(Kind::ServiceBusy))
        } else if self.is(Kind::MapBroken) {
            faulty(Reason::MapBroken)
        } else if self.is(Kind::ServiceSlow) {
            ServiceSeen::Slow { took: Duration::from_millis(1_300), timeout: Duration::from_secs(1) }
        } else {
            ServiceSeen::Healthy
        }
    }

    pub(super) fn ecs_now(&self) -> EcsSeen {
        let truth = self.truth.borrow();
        let none = || "no place in a cluster".to_owned();
        if self.is(Kind::EcsAgentDown) || truth.agent_restarting.is_some() {
            let agent = EcsAgent::Down { reason: "refused".to_owned() };
            return EcsSeen { agent, instance: Seen::Unknown(none()), tasks: Seen::Unknown(none()) };
        }
        let instance = match truth.registered {
            true => EcsInstance::Present {
                connected: !self.is(Kind::EcsDisconnected),
                draining: truth.draining,
                ready: Some(truth.ready),
                identity: match self.is(Kind::Impostor) {
                    true => Identity::Other("another host".to_owned()),
                    false => Identity::Same,
                },
            },
            false => EcsInstance::Absent,
        };
        let tasks = truth.container.iter().map(|container| container.id.clone()).collect();
        EcsSeen {
            agent: EcsAgent::Registered { cluster: "maps".to_owned(), instance: "arn".to_owned() },
            instance: Seen::Known(instance),
            tasks: Seen::Known(tasks),
        }
    }
}

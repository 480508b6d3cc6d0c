//! What happens to the model by itself: faults come and go, time passes, ECS replaces what ended.

use std::rc::Rc;
use std::time::Duration;

use ladder::state::*;
use tokio::time::sleep;

use super::{Container, FOREIGN, Model, Truth};
use crate::schedule::{Kind, Schedule};
use crate::until;

impl Model {
    /// Brings every fault at its time and takes away what lasts at its end.
    pub async fn suffers(self: Rc<Self>, schedule: &Schedule) {
        let ends = schedule.faults.iter().map(|fault| (fault.at + fault.lasts, false, fault.kind));
        let begins = schedule.faults.iter().map(|fault| (fault.at, true, fault.kind));
        let mut turns: Vec<_> = begins.chain(ends).collect();
        turns.sort_by_key(|(at, begins, _)| (*at, *begins));
        for (at, begins, kind) in turns {
            until(at).await;
            self.turns.set(self.turns.get() + 1);
            self.log(format!("{} {kind:?}", if begins { "FAULT" } else { "over " }));
            if begins {
                self.conditions.borrow_mut().push(kind);
                self.strike(kind);
            } else {
                let place = self.conditions.borrow().iter().position(|one| *one == kind);
                place.map(|place| self.conditions.borrow_mut().remove(place));
                if kind == Kind::DrainedByHand && !self.is(kind) {
                    let mut truth = self.truth.borrow_mut();
                    truth.draining &= !truth.ready;
                }
            }
            // Some changes are told at once, as by Docker's events; others are found by looking.
            if self.chance(2) {
                self.wake.notify_one();
            }
        }
        std::future::pending().await
    }

    fn strike(&self, kind: Kind) {
        let now = self.now();
        let mut truth = self.truth.borrow_mut();
        match kind {
            Kind::SessionAborted if truth.session.is_some() => {
                (truth.session_ended, truth.died) = (true, Some(now));
            }
            Kind::Unmounted => drop(truth.layers.pop()),
            // Where nothing of ours ever was it would be somebody's, and a person's to take away.
            Kind::Covered if !truth.layers.is_empty() => truth.layers.push(FOREIGN),
            Kind::WorkersStuck => truth.stuck = truth.session.is_some(),
            Kind::MountErrors => truth.errors = truth.session.is_some(),
            Kind::RequestLost => truth.lost = truth.session.map(|_| self.rng.borrow_mut().bool()),
            Kind::EcsDeregistered if self.in_cluster => truth.registered = false,
            Kind::DrainedByHand => truth.draining = self.in_cluster,
            Kind::AgentKilled => self.kill.notify_one(),
            Kind::ClockJump => {
                let jump = Duration::from_secs(self.rng.borrow_mut().u64(0..1_000_000_000));
                self.wall_jump.set(jump);
            }
            Kind::DockerDown => {
                if let Some(container) = &mut truth.container {
                    container.phase = Phase::Exited;
                }
            }
            Kind::RestartedByHand if !truth.layers.contains(&FOREIGN) => {
                let shown = truth.layers.last().copied();
                truth.lives += 1;
                let life = truth.lives;
                if let Some(container) = &mut truth.container {
                    (container.life, container.phase, container.view) = (life, Phase::Running, shown);
                }
            }
            _ => self.strike_container(kind, &mut truth),
        }
    }

    fn strike_container(&self, kind: Kind, truth: &mut Truth) {
        if kind == Kind::ContainerRemoved {
            truth.container = None;
        }
        let Some(container) = &mut truth.container else { return };
        match kind {
            Kind::ContainerKilled => container.phase = Phase::Exited,
            Kind::ContainerPaused if container.phase == Phase::Running => container.phase = Phase::Paused,
            Kind::ServiceWedged => container.wedged = true,
            Kind::Rotten => (container.wedged, container.rotten) = (true, true),
            Kind::Outdated if self.owner == Owner::Mapkeeper => container.outdated = true,
            _ => {}
        }
    }

    /// Runs a container on whatever is mounted.
    pub(super) fn run_container(&self, truth: &mut Truth, fresh: bool) {
        truth.lives += 1;
        let now = self.now();
        let shown = truth.layers.last().copied();
        let id = match (&truth.container, fresh) {
            (Some(container), false) => container.id.clone(),
            _ => format!("container{}", truth.lives),
        };
        let ends_at = self.is(Kind::BadEntrypoint).then(|| now + Duration::from_millis(200));
        let rotten = !fresh && truth.container.as_ref().is_some_and(|container| container.rotten);
        truth.container = Some(Container {
            id,
            phase: Phase::Running,
            life: truth.lives,
            view: shown,
            wedged: rotten || self.is(Kind::BornWedged),
            rotten,
            outdated: truth.container.as_ref().is_some_and(|container| container.outdated && !fresh),
            answers_from: now + Duration::from_millis(self.rng.borrow_mut().u64(500..5_000)),
            ends_at,
        });
    }

    /// What time does to a container by itself.
    pub(super) fn passes(&self) {
        let now = self.now();
        let mut truth = self.truth.borrow_mut();
        if truth.agent_restarting.is_some_and(|until| now >= until) {
            truth.agent_restarting = None;
        }
        if let Some(container) = &mut truth.container
            && container.ends_at.is_some_and(|end| now >= end)
        {
            container.phase = Phase::Exited;
            container.ends_at = None;
        }
    }

    /// ECS: replaces what ended, knowing nothing of mounts. On a host that is drained it places nothing, and stops what
    /// is there; nor does it place anything where the attribute says "not ready", as the task asks.
    pub async fn replaces(self: Rc<Self>) {
        if self.owner != Owner::Ecs || self.bare {
            return std::future::pending().await;
        }
        loop {
            sleep(Duration::from_millis(500)).await;
            self.passes();
            let can_hear = !self.any(&[Kind::DockerDown, Kind::EcsAgentDown, Kind::EcsDisconnected]);
            let can = can_hear && !self.any(&[Kind::PortTaken, Kind::ImageGone]);
            let heard = can_hear && self.has_its_place();
            if heard && self.truth.borrow().draining && self.truth.borrow().container.is_some() {
                let pause = Duration::from_millis(self.rng.borrow_mut().u64(500..6_000));
                sleep(pause).await;
                if self.truth.borrow().draining {
                    self.log("ECS takes the container away".to_owned());
                    self.truth.borrow_mut().container = None;
                }
                continue;
            }
            let wanted = {
                let truth = self.truth.borrow();
                let placed = !truth.draining && truth.ready;
                let gone = truth.container.as_ref().is_none_or(|one| one.phase == Phase::Exited);
                gone && placed && truth.registered && truth.agent_restarting.is_none()
            };
            if can && wanted {
                let pause = Duration::from_millis(self.rng.borrow_mut().u64(500..6_000));
                sleep(pause).await;
                self.log("ECS starts a container".to_owned());
                let mut truth = self.truth.borrow_mut();
                if truth.draining || !truth.ready {
                    continue;
                }
                self.run_container(&mut truth, true);
                drop(truth);
                self.wake.notify_one();
            }
        }
    }
}

//! What repairs do to the model.

use std::time::Duration;

use ladder::state::*;
use tokio::time::sleep;

use super::Model;
use crate::check;
use crate::schedule::Kind;

impl Model {
    pub(super) fn fail(&self, error: &str) -> Result<(), Failure> {
        Err(Failure { error: error.to_owned(), hint: None, exit: 1 })
    }

    pub(super) async fn carry_out(&self, action: &Action) -> Result<(), Failure> {
        let took = match self.is(Kind::Slow) {
            true if self.chance(4) => return std::future::pending().await,
            true => self.rng.borrow_mut().u64(1_000..20_000),
            false => self.rng.borrow_mut().u64(50..1_500),
        };
        let clumsy = self.is(Kind::Clumsy) && self.chance(2);
        if clumsy && self.chance(2) {
            sleep(Duration::from_millis(took)).await;
            return self.fail("it went wrong before it began");
        }
        match &action.target {
            Target::Mount(_) => self.carry_out_mount(action.repair, took, clumsy).await,
            Target::Container(_) => self.carry_out_container(action, took, clumsy).await,
            Target::Ecs => {
                let mut truth = self.truth.borrow_mut();
                truth.agent_restarting = Some(self.now() + Duration::from_secs(5));
                truth.registered |= action.repair == Repair::Reregister;
                Ok(())
            }
            Target::Instance if action.repair != Repair::Terminate => {
                let ready = action.repair == Repair::MarkReady;
                let mut truth = self.truth.borrow_mut();
                // The attribute says "not ready" for as long as any of it is so.
                if ready || clumsy {
                    truth.draining &= !ready;
                }
                if clumsy {
                    truth.ready &= ready;
                    return self.fail("it was half done");
                }
                (truth.ready, truth.draining) = (ready, !ready);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn carry_out_mount(&self, repair: Repair, took: u64, clumsy: bool) -> Result<(), Failure> {
        if repair == Repair::RestartWorkers {
            sleep(Duration::from_millis(took)).await;
            // Only workers are cured by new workers, and what the kernel can send again.
            let mut truth = self.truth.borrow_mut();
            truth.stuck = false;
            truth.lost = truth.lost.filter(|can_be_sent_again| !can_be_sent_again);
            return Ok(());
        }
        if self.is(Kind::Hidden) {
            return self.fail("something is mounted over a directory above it");
        }
        if repair == Repair::Uncover {
            sleep(Duration::from_millis(took)).await;
            let mut truth = self.truth.borrow_mut();
            while truth.layers.last().is_some_and(|top| Some(*top) != truth.session) {
                truth.layers.pop();
            }
            return Ok(());
        }
        {
            let mut truth = self.truth.borrow_mut();
            if repair == Repair::Remount {
                truth.layers.clear();
            } else if !truth.layers.is_empty() {
                return self.fail("something is mounted there");
            }
            truth.session = None;
            (truth.stuck, truth.errors, truth.session_ended) = (false, false, false);
            truth.lost = None;
            truth.died = Some(self.now());
        }
        sleep(Duration::from_millis(took)).await;
        if self.is(Kind::Unmountable) {
            return self.fail("there is no /dev/fuse");
        }
        if clumsy || self.store_now() != StoreSeen::Answers || self.is(Kind::CredentialsGone) {
            return self.fail("the bucket does not answer");
        }
        let mut truth = self.truth.borrow_mut();
        truth.next_device += 1;
        let device = Device { major: 0, minor: truth.next_device };
        truth.layers.push(device);
        truth.session = Some(device);
        Ok(())
    }

    async fn carry_out_container(&self, action: &Action, took: u64, clumsy: bool) -> Result<(), Failure> {
        let shown = self.truth.borrow().layers.last().copied();
        let hidden = self.is(Kind::Hidden);
        if hidden || action.rests_on.iter().any(|proof| Some(proof.device) != shown) {
            return self.fail("the mount changed in the meantime");
        }
        if self.is(Kind::DockerDown) {
            return self.fail("Docker does not answer");
        }
        check::container_starts(self, action);
        if action.repair == Repair::Recreate && !self.is(Kind::ImageGone) {
            self.truth.borrow_mut().container = None;
        }
        let starts =
            matches!(action.repair, Repair::Create | Repair::Recreate | Repair::Start | Repair::Restart);
        let fresh = matches!(action.repair, Repair::Create | Repair::Recreate);
        if starts && (self.is(Kind::PortTaken) || (fresh && self.is(Kind::ImageGone)) || clumsy) {
            return self.fail("it cannot be started");
        }
        {
            let mut truth = self.truth.borrow_mut();
            match action.repair {
                Repair::Stop => {
                    if let Some(container) = &mut truth.container {
                        container.phase = Phase::Exited;
                    }
                }
                Repair::Unpause => {
                    if let Some(container) = &mut truth.container {
                        container.phase = Phase::Running;
                    }
                }
                Repair::Create if truth.container.is_some() => {}
                _ if starts => self.run_container(&mut truth, fresh),
                _ => {}
            }
        }
        sleep(Duration::from_millis(took)).await;
        Ok(())
    }
}

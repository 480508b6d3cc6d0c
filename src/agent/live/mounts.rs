//! The mounts of a live host: those that this process serves, and what the kernel shows at their paths.
//!
//! ```text
//! [none] --attach--> [attaching] -- done --> [served] --ended, covered, taken away--> attach again
//!                        | given up by the loop
//!                        v
//!                    [overdue] -- done after all --> [served]
//! ```
//!
//! Attaching runs in a task of its own: if the loop gives it up, the mount may still come, and a mount
//! that nobody holds would look like that of another process.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::failure::{failure, plain_failure};
use super::mount_watch::Watch;
use crate::config::{self, KernelFlags, Source};
use crate::error::Chain;
use crate::host::credentials::Holder;
use crate::host::mount::handover::{self, Sessions};
use crate::host::mount::{
    AttachError, DetachError, Entry, How, MissingDirectory, MountTable, Mounted, attach, attach_kernel,
    detach, is_kernel, requests_waiting, resume, shows, uncover,
};
use bucketfs::session::FS_TYPE;
use bucketfs::{Handover, StoreHealth};
use ladder::state::{Device, Failure, MountEntry, Origin, Repair, Requests, Seen, Session, SessionState};

/// How often, and after which pause, a request is looked for that no process has in hand.
const LOST_LOOKS: u32 = 20;
const LOST_AGAIN: Duration = Duration::from_millis(25);

/// The mounts of a host, by name.
pub(super) struct Mounts {
    region: Option<String>,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    spec: config::Mount,
    /// The path as the kernel names it, as far as that can be told without touching the mount.
    path: RefCell<PathBuf>,
    served: RefCell<Option<Rc<Mounted>>>,
    attaching: RefCell<Option<JoinHandle<Result<Mounted, AttachError>>>>,
    /// The end of this session has been told already.
    end_told: Cell<bool>,
    /// What the kernel showed at the last look.
    shown: Cell<Option<Shown>>,
    /// A session that a process before has left, and nobody serves yet.
    left: RefCell<Option<Handover>>,
}

impl Mounts {
    pub(super) fn new(config: &config::Config) -> Mounts {
        let slot = |spec: &config::Mount| Slot {
            path: RefCell::new(resolved(&spec.path)),
            spec: spec.clone(),
            served: RefCell::new(None),
            attaching: RefCell::new(None),
            end_told: Cell::new(false),
            shown: Cell::new(None),
            left: RefCell::new(None),
        };
        let slots = config.mounts.iter().map(|spec| (spec.name.clone(), slot(spec))).collect();
        Mounts { region: config.region.clone(), slots }
    }

    /// The mounts of `new`. Those whose settings are the same are taken out of `self` as they are.
    pub(super) fn renewed(&self, old: &config::Config, new: &config::Config) -> Mounts {
        let renewed = Mounts::new(new);
        for spec in old.mounts.iter().filter(|spec| old.goes_on(spec, new)) {
            if let (Some(from), Some(to)) = (self.slots.get(&spec.name), renewed.slots.get(&spec.name)) {
                to.served.replace(from.served.take());
                to.attaching.replace(from.attaching.take());
                to.end_told.set(from.end_told.get());
                to.shown.set(from.shown.get());
                to.left.replace(from.left.take());
            }
        }
        renewed
    }

    fn slot(&self, mount: &str) -> Result<&Slot, Failure> {
        self.slots.get(mount).ok_or_else(|| plain_failure(no_such(mount)))
    }

    pub(super) fn spec(&self, mount: &str) -> Option<&config::Mount> {
        self.slots.get(mount).map(|slot| &slot.spec)
    }

    /// Those that this process serves at this moment.
    pub(super) fn served(&self) -> Vec<(&config::Mount, Rc<Mounted>)> {
        let served = |slot: &'_ Slot| slot.served.borrow().clone();
        self.slots.values().filter_map(|slot| Some((&slot.spec, served(slot)?))).collect()
    }

    /// Names of all mounts with their paths, as configured and as the kernel has them.
    pub(super) fn paths(&self) -> Vec<(String, PathBuf, PathBuf)> {
        let of = |(name, slot): (&String, &Slot)| {
            (name.clone(), slot.spec.path.clone(), slot.path.borrow().clone())
        };
        self.slots.iter().map(of).collect()
    }

    /// What the kernel shows at the path of `mount`.
    pub(super) fn entry(&self, mount: &str) -> Seen<Option<MountEntry>> {
        let Some(slot) = self.slots.get(mount) else { return Seen::Unknown(no_such(mount)) };
        let table = match MountTable::of(None) {
            Ok(table) => table,
            Err(error) => return Seen::Unknown(format!("cannot read the list of mounts: {error}")),
        };
        let path = slot.path.borrow();
        let ours = |entry: &&Entry| entry.path == *path && entry.fs_type == FS_TYPE;
        let covers = table.0.iter().any(|entry| ours(&entry));
        let entry = table.top(&path).map(|entry| MountEntry {
            device: device(entry.device),
            fs_type: entry.fs_type.clone(),
            source: entry.source.clone(),
            hidden_by: above(&table, entry).map(ToString::to_string),
            origin: match (entry.fs_type == FS_TYPE || shows(&slot.spec.source, entry), covers) {
                (true, _) => Origin::Mapkeeper,
                (false, true) => Origin::OverMapkeeper,
                (false, false) => Origin::Foreign,
            },
        });
        slot.shown.set(shown(&table, &path));
        Seen::Known(entry)
    }

    /// How the session of `mount` does.
    pub(super) fn session(&self, mount: &str) -> Seen<Option<Session>> {
        let Some(slot) = self.slots.get(mount) else { return Seen::Unknown(no_such(mount)) };
        if is_kernel(&slot.spec.source) {
            return kernel_session(slot);
        }
        slot.adopt_overdue();
        if slot.attaching.borrow().is_some() {
            return Seen::Unknown("an earlier attempt to mount has not ended".to_owned());
        }
        let session = slot.served.borrow().as_ref().map(|served| {
            let health = served.health();
            let state = match (health.ended, health.store) {
                (true, _) => SessionState::Ended("its connection to the kernel is closed".to_owned()),
                (false, StoreHealth::Silent { reason, .. }) => SessionState::Degraded(reason),
                (false, StoreHealth::Answering) => match health.kept.as_slice() {
                    [] => health.unguarded.map_or(SessionState::Serving, SessionState::Noted),
                    [one] => SessionState::Keeps(format!("what was written is in {}", one.display())),
                    [first, rest @ ..] => SessionState::Keeps(format!(
                        "what was written is in {} and {} files more",
                        first.display(),
                        rest.len()
                    )),
                },
            };
            Session { device: device(served.device()), state }
        });
        Seen::Known(session)
    }

    /// The path that a child is sent to and the device that it should find; `None` where nothing is
    /// mounted.
    pub(super) fn asked_at(&self, mount: &str) -> Option<(PathBuf, Option<Device>)> {
        let slot = self.slots.get(mount)?;
        let path = slot.path.borrow().clone();
        MountTable::of(None).ok()?.top(&path)?;
        let expected = slot.served.borrow().as_ref().map(|served| device(served.device()));
        Some((path, expected))
    }

    /// Whether the kernel still shows `expected` at the path of `mount`.
    pub(super) fn still_shows(&self, mount: &str, expected: Device) -> bool {
        let shows = |entry: &MountEntry| entry.device == expected && entry.hidden_by.is_none();
        matches!(self.entry(mount), Seen::Known(Some(entry)) if shows(&entry))
    }

    /// Mounts, after every layer at the path was taken away if that is what `repair` says.
    pub(super) async fn mount(
        &self,
        mount: &str,
        repair: Repair,
        credentials: Holder,
    ) -> Result<(), Failure> {
        let slot = self.slot(mount)?;
        if let Some(Ok(())) = self.resume(mount, &credentials).await {
            return Ok(());
        }
        if repair == Repair::Remount {
            slot.take_away(detach).await?;
        }
        // A session that lost its path serves whoever still holds it and ends with the last of them.
        drop(slot.served.take());
        let (spec, region) = (slot.spec.clone(), self.region.clone());
        let task = tokio::spawn(async move {
            let how = How { missing: MissingDirectory::Create, flags: KernelFlags::default() };
            attach(&spec, region.as_deref(), &credentials, how).await
        });
        *slot.attaching.borrow_mut() = Some(task);
        slot.attached().await
    }

    /// Takes away what was mounted over a session that lives.
    pub(super) async fn uncover(&self, mount: &str) -> Result<(), Failure> {
        let slot = self.slot(mount)?;
        let served = slot.served.borrow().as_ref().map(|served| served.device());
        match served {
            Some(device) => slot.take_away(move |path| uncover(path, device)).await,
            None => Err(plain_failure("its session is gone".to_owned())),
        }
    }

    /// Mounts what the kernel serves, after every layer at the path was taken away if that is what `repair` says. What
    /// is external is left as it is, whatever is wrong with it.
    pub(super) async fn mount_kernel(&self, mount: &str, repair: Repair) -> Result<(), Failure> {
        let slot = self.slot(mount)?;
        if repair == Repair::Remount && slot.spec.source != Source::External {
            slot.take_away(detach).await?;
        }
        let attached = attach_kernel(&slot.spec, self.region.as_deref(), MissingDirectory::Create).await;
        attached.map_err(|error| failure(&error))
    }

    /// Takes away what the kernel serves for mounts that are not the same in `new`. What is external stays.
    pub(super) async fn detach_unwanted(&self, old: &config::Config, new: &config::Config) {
        let is_ours = |spec: &&config::Mount| is_kernel(&spec.source) && spec.source != Source::External;
        for spec in old.mounts.iter().filter(is_ours).filter(|spec| !old.goes_on(spec, new)) {
            let Some(slot) = self.slots.get(&spec.name) else { continue };
            let path = slot.path.borrow().clone();
            let detached = tokio::task::spawn_blocking(move || detach(&path)).await;
            if let Ok(Err(error)) = detached {
                tracing::error!(mount = %spec.name, error = %Chain(&error), "cannot unmount");
            }
        }
    }

    /// Takes those of `left` that are mounts of this host; the others come back.
    pub(super) fn adopt_left(&self, mut left: Sessions) -> Sessions {
        for (name, slot) in &self.slots {
            *slot.left.borrow_mut() = left.take(name);
        }
        left
    }

    pub(super) fn has_left(&self) -> bool {
        self.slots.values().any(|slot| slot.left.borrow().is_some())
    }

    /// Goes on with all sessions that were left and for which there are credentials.
    pub(super) async fn resume_left(&self, credentials: impl Fn(&config::Mount) -> Option<Holder>) {
        for (name, slot) in &self.slots {
            if let Some(credentials) = credentials(&slot.spec) {
                // A failure was told, and the ladder goes on from what it finds.
                let _ = self.resume(name, &credentials).await;
            }
        }
    }

    /// Goes on with a session that was left; `None` if there is none. What cannot go on is ended.
    async fn resume(&self, mount: &str, credentials: &Holder) -> Option<Result<(), Failure>> {
        let slot = self.slots.get(mount)?;
        let left = slot.left.take()?;
        let flags = KernelFlags::default();
        let resumed = resume(&slot.spec, self.region.as_deref(), credentials, flags, left).await;
        Some(match resumed {
            Ok(mounted) => {
                slot.serve(mounted);
                Ok(())
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(mount, error, "cannot go on with the mount: it will be mounted anew");
                let (name, path) = (mount.to_owned(), slot.path.borrow().clone());
                // Unmounting may wait for the kernel.
                let _ = tokio::task::spawn_blocking(move || handover::end(&name, &path)).await;
                Err(plain_failure(error))
            }
        })
    }

    /// Serves no more and leaves every mount to the process that takes the place of this one.
    pub(super) async fn leave_all(&self) {
        for slot in self.slots.values() {
            if slot.attaching.borrow().is_some() {
                // Whatever comes of it is left like the others.
                let _ = slot.attached().await;
            }
            if let Some(served) = slot.served.take() {
                served.leave().await;
            }
        }
    }

    /// What the session of `mount` has not answered. Kernel and session are not asked at the same moment: what looks lost
    /// is looked at again and again.
    pub(super) async fn requests(&self, mount: &str) -> Seen<Requests> {
        let served = self.slots.get(mount).and_then(|slot| slot.served.borrow().clone());
        let Some(served) = served else { return Seen::Known(Requests::default()) };
        let mut requests = Requests::default();
        for _ in 0..LOST_LOOKS {
            requests = match requests_waiting(served.device()) {
                Ok(waiting) => Requests { waiting, taken: served.health().taken },
                Err(error) => {
                    return Seen::Unknown(format!("cannot read how many requests wait: {error}"));
                }
            };
            if !requests.are_lost() {
                break;
            }
            sleep(LOST_AGAIN).await;
        }
        Seen::Known(requests)
    }

    /// Waits until something happened to a mount: its session ended, or the kernel shows another device
    /// at its path than at the last look. Cancel-safe.
    pub(super) async fn disturbed(&self, table: &Watch) {
        let served = self.slots.values().filter(|slot| !slot.end_told.get()).filter_map(|slot| {
            let served = slot.served.borrow().clone()?;
            Some(async move {
                served.ended().await;
                slot.end_told.set(true);
            })
        });
        let mut ends: Vec<_> = served.map(FutureExt::boxed_local).collect();
        ends.push(self.displaced(table).boxed_local());
        select_all(ends).await;
    }

    async fn displaced(&self, table: &Watch) {
        loop {
            table.changed().await;
            let Ok(now) = MountTable::of(None) else { return };
            let moved = |slot: &Slot| shown(&now, &slot.path.borrow()) != slot.shown.get();
            if self.slots.values().any(moved) {
                return;
            }
        }
    }

    /// Unmounts everything that this process serves.
    pub(super) async fn unmount_all(&self) {
        for (name, slot) in &self.slots {
            if slot.attaching.borrow().is_some() {
                // Whatever comes of it is unmounted below.
                let _ = slot.attached().await;
            }
            let Some(served) = slot.served.take() else { continue };
            match served.unmount().await {
                Ok(()) => tracing::info!(mount = %name, "unmounted"),
                Err(error) => tracing::error!(mount = %name, error = %Chain(&error), "cannot unmount"),
            }
        }
    }
}

impl Slot {
    /// Has `take` unmount what is at the path: that may wait for the kernel.
    async fn take_away(
        &self,
        take: impl FnOnce(&Path) -> Result<(), DetachError> + Send + 'static,
    ) -> Result<(), Failure> {
        let path = self.path.borrow().clone();
        let by_hand = format!("unmount it by hand: umount -l {}", path.display());
        let taken = tokio::task::spawn_blocking(move || take(&path)).await;
        match taken {
            Ok(Ok(())) => Ok(()),
            // Neither would that be the right one.
            Ok(Err(error @ DetachError::Hidden { .. })) => Err(plain_failure(Chain(&error).to_string())),
            Ok(Err(error)) => {
                Err(Failure { hint: Some(by_hand), ..plain_failure(Chain(&error).to_string()) })
            }
            Err(error) => Err(plain_failure(Chain(&error).to_string())),
        }
    }

    /// Waits for the attempt that is under way. If this is dropped, the attempt goes on.
    async fn attached(&self) -> Result<(), Failure> {
        let mut waiting = Waiting { slot: self, task: self.attaching.take() };
        let Some(task) = waiting.task.as_mut() else { return Ok(()) };
        let ended = task.await;
        waiting.task = None;
        self.take_in(ended)
    }

    fn adopt_overdue(&self) {
        let ended = self.attaching.borrow_mut().as_mut().and_then(FutureExt::now_or_never);
        if let Some(ended) = ended {
            self.attaching.take();
            // A failure was told when the attempt was given up.
            let _ = self.take_in(ended);
        }
    }

    fn take_in(
        &self,
        ended: Result<Result<Mounted, AttachError>, tokio::task::JoinError>,
    ) -> Result<(), Failure> {
        match ended {
            Ok(Ok(mounted)) => {
                self.serve(mounted);
                Ok(())
            }
            Ok(Err(error)) => Err(failure(&error)),
            Err(error) => Err(plain_failure(Chain(&error).to_string())),
        }
    }

    fn serve(&self, mounted: Mounted) {
        *self.path.borrow_mut() = mounted.path().to_owned();
        self.end_told.set(false);
        self.served.replace(Some(Rc::new(mounted)));
    }
}

/// Puts the task back when the wait for it is dropped.
struct Waiting<'a> {
    slot: &'a Slot,
    task: Option<JoinHandle<Result<Mounted, AttachError>>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            *self.slot.attaching.borrow_mut() = Some(task);
        }
    }
}

/// What the kernel has at a path: a device, and whether something over a directory above hides it.
type Shown = (Device, bool);

fn shown(table: &MountTable, path: &Path) -> Option<Shown> {
    table.top(path).map(|entry| (device(entry.device), above(table, entry).is_some()))
}

/// What is mounted over a directory above `entry`.
fn above<'a>(table: &'a MountTable, entry: &Entry) -> Option<&'a Entry> {
    table.cover(entry).filter(|cover| cover.path != entry.path)
}

pub(super) fn device(device: crate::host::mount::Device) -> Device {
    Device { major: device.major, minor: device.minor }
}

/// A kernel mount has no session in this process: what stands for it is the mount itself.
fn kernel_session(slot: &Slot) -> Seen<Option<Session>> {
    let table = match MountTable::of(None) {
        Ok(table) => table,
        Err(error) => return Seen::Unknown(format!("cannot read the list of mounts: {error}")),
    };
    let shown = table.top(&slot.path.borrow()).filter(|entry| shows(&slot.spec.source, entry));
    Seen::Known(shown.map(|entry| Session { device: device(entry.device), state: SessionState::Serving }))
}

/// `path` with the links in its parent followed. The last component is left alone: it may be a mount.
fn resolved(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    parent.canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name))
}

fn no_such(mount: &str) -> String {
    format!("no mount is called {mount:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_parent_is_followed_and_the_last_component_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink(real.join("real"), real.join("link")).unwrap();
        std::os::unix::fs::symlink("/none", real.join("real/maps")).unwrap();
        assert_eq!(resolved(&real.join("link/maps")), real.join("real/maps"));
        assert_eq!(resolved(Path::new("/none/deeper/maps")), Path::new("/none/deeper/maps"));
    }
}

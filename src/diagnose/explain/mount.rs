//! The mount of a map, as the host has it, as a child reads it and as the container sees it.

use std::time::Duration;

use tokio::time::sleep;

use super::location::MapLocation;
use crate::config::Mount;
use crate::diagnose::clients::child;
use crate::diagnose::result::CheckResult;
use crate::error::Chain;
use crate::host::container::Facts;
use crate::host::mount::{MountTable, shows};
use crate::host::probe::MountFinding;
use bucketfs::mountinfo::Device;
use bucketfs::session::FS_TYPE;
use bucketfs::store::Object;
use ladder::state::Phase;

/// What the kernel has at the mount's path, and its device.
pub(super) fn mounted(mount: &Mount) -> (CheckResult, Option<Device>) {
    let path = mount.path.display();
    let fail = |said: String, hint: &str| (CheckResult::fail("mount", said, hint), None);
    let table = match MountTable::of(None) {
        Ok(table) => table,
        Err(error) => return fail(format!("cannot read the list of mounts: {error}"), "is /proc mounted?"),
    };
    match table.top(&mount.path) {
        None => {
            let hint = "mapkeeper status says why; where no agent runs: systemctl start mapkeeper";
            fail(format!("nothing is mounted at {path}"), hint)
        }
        Some(entry) if entry.fs_type != FS_TYPE && !shows(&mount.source, entry) => {
            let said =
                format!("{} ({}) is mounted at {path}, not {}", entry.source, entry.fs_type, mount.source);
            fail(said, &format!("umount {path}; look for it in /etc/fstab and rc.local"))
        }
        Some(entry) => {
            let said = format!("{} at {path}, device {}", entry.source, entry.device);
            (CheckResult::ok("mount", said), Some(entry.device))
        }
    }
}

/// Whether the mount shows the bytes of the object, asked by a child. A change is given the mount's freshness to show.
pub(super) async fn file(place: &MapLocation<'_>, object: Option<&(Object, u64)>) -> CheckResult {
    let (path, child) = (place.on_host(), child());
    let shown = path.display();
    let pause = place.mount.freshness.min(Duration::from_secs(5)) + Duration::from_millis(500);
    for attempt in 0..2 {
        let found = child.read(&path).await;
        let said = match (&found, object) {
            (Ok(MountFinding::Content { size, hash }), Some((object, wanted))) => {
                if (*size, *hash) == (object.size, *wanted) {
                    return CheckResult::ok("file", format!("{shown} shows what the object holds"));
                }
                format!("{shown} shows {size} bytes that are not those of the object ({} bytes)", object.size)
            }
            (Ok(MountFinding::Content { size, .. }), None) => {
                return CheckResult::ok("file", format!("{shown} has {size} bytes"));
            }
            (Ok(MountFinding::Failed { errno }), _) => format!("{shown} cannot be read: {errno}"),
            (Ok(other), _) => format!("{shown}: {other:?}"),
            (Err(error), _) => format!("{shown}: {}", Chain(error)),
        };
        if attempt == 1 {
            let hint = match found {
                Ok(MountFinding::Content { .. }) => {
                    "wait for `freshness`; if it stays: mapkeeper status, and report it"
                }
                _ => "mapkeeper status says how the mount is, and whether it is being repaired",
            };
            return CheckResult::fail("file", said, hint);
        }
        if found.is_ok() {
            sleep(pause).await;
        }
    }
    unreachable!("the second attempt returns")
}

/// Whether the container sees the mount that the host has.
pub(super) fn bind(place: &MapLocation<'_>, facts: Option<&Facts>, device: Option<Device>) -> CheckResult {
    let fail = |said: String, hint: &str| CheckResult::fail("bind", said, hint);
    let (Some(root), Some(inside)) = (&place.root_inside, place.inside()) else {
        let hint = "add it to `binds` of [container]";
        return fail("no bind of the container shows the mount".to_owned(), hint);
    };
    let Some(pid) = facts.filter(|facts| facts.seen.phase == Phase::Running).and_then(|facts| facts.seen.pid)
    else {
        let said = "not looked at: the container does not run";
        return CheckResult::warn("bind", said, "see `container` below");
    };
    let table = match MountTable::of(Some(pid)) {
        Ok(table) => table,
        Err(error) => {
            let said = format!("cannot look into the container: {error}");
            return CheckResult::warn("bind", said, "run it as root");
        }
    };
    let seen = inside.ancestors().find_map(|path| table.top(path)).map(|entry| entry.device);
    let root = root.display();
    let restart =
        "the agent restarts it by itself; by hand: docker restart of the container, once the mount serves";
    match (seen, device) {
        (Some(seen), Some(device)) if seen == device => {
            CheckResult::ok("bind", format!("the container sees device {seen} at {root}, as the host does"))
        }
        (Some(seen), Some(device)) => fail(
            format!("stale: the container sees device {seen} at {root}, the host has mounted {device}"),
            restart,
        ),
        (seen, None) => {
            let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| format!("device {seen}"));
            let said = format!("the container sees {seen} at {root}, the host has nothing mounted");
            fail(said, "repair the mount first: see `mount` above")
        }
        (None, Some(_)) => fail(format!("the container sees no mount at {root}"), restart),
    }
}

//! The host itself: kernel, FUSE, mounts, systemd, clock, memory, disk, and what an older recipe has left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask::{command, detached, limited};
use crate::bootstrap;
use crate::config::Config;
use crate::diagnose::result::CheckResult;

/// The oldest kernel that mapkeeper is tested on, and the first that sends again what a dead process left.
const TESTED: (u32, u32) = (6, 1);
const RESENDS: (u32, u32) = (6, 9);
/// Longest wait for a call that only reads something local, and for systemctl.
const LOCAL_LIMIT: Duration = Duration::from_secs(3);
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(5);
/// Free disk below which writing is refused, and below which it is worth a word.
const DISK_LEAST: u64 = 64 << 20;
const DISK_FEW: u64 = 512 << 20;
/// Memory of the process beside what the mounts may hold.
const OVERHEAD: u64 = 64 << 20;

pub(super) async fn checks(config: Option<&Config>) -> Vec<CheckResult> {
    let mut results = vec![root(), kernel(), fuse(), connections(), propagation()];
    let (systemd, unit, gate, disk, clock) = futures::join!(
        systemd(),
        limited("unit", SYSTEMCTL_LIMIT, "systemctl status mapkeeper", unit()),
        async { gate(config) },
        disk(config),
        async { clock() },
    );
    results.extend([systemd, unit, gate, clock, memory(config), disk, leftovers(config)]);
    results
}

fn root() -> CheckResult {
    match nix::unistd::geteuid().is_root() {
        true => CheckResult::ok("user", "root"),
        false => CheckResult::fail(
            "user",
            "not root: mounting and Docker need it, and so do some checks",
            "sudo mapkeeper doctor",
        ),
    }
}

fn kernel() -> CheckResult {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    match version {
        Some(version) if version >= RESENDS => {
            CheckResult::ok("kernel", format!("{release}: sends again what a killed process left unanswered"))
        }
        Some(version) if version >= TESTED => CheckResult::ok(
            "kernel",
            format!("{release}: a killed process's requests are answered from its journal"),
        ),
        _ => CheckResult::warn(
            "kernel",
            format!("{release}: mapkeeper is not tested below 6.1"),
            "use an Amazon Linux 2023 AMI",
        ),
    }
}

fn fuse() -> CheckResult {
    let hint = "modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN";
    match fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => CheckResult::ok("/dev/fuse", "can be opened"),
        Err(error) => CheckResult::fail("/dev/fuse", format!("cannot be opened: {error}"), hint),
    }
}

/// The kernel's list of connections is how a mount that hangs is taken away.
fn connections() -> CheckResult {
    match fs::read_dir("/sys/fs/fuse/connections").map(|entries| entries.count()) {
        Ok(count) if count > 0 || is_mounted("/sys/fs/fuse/connections") => {
            CheckResult::ok("fuse connections", format!("{count} in the kernel's list"))
        }
        Ok(_) => CheckResult::warn(
            "fuse connections",
            "the kernel's list is not mounted; the agent mounts it when it needs it",
            "mount -t fusectl fusectl /sys/fs/fuse/connections",
        ),
        Err(error) => {
            CheckResult::fail("fuse connections", format!("cannot be listed: {error}"), "modprobe fuse")
        }
    }
}

fn is_mounted(path: &str) -> bool {
    bucketfs::mountinfo::MountTable::of(None).is_ok_and(|table| table.top(Path::new(path)).is_some())
}

fn propagation() -> CheckResult {
    let name = "propagation of /";
    let hint = "mount --make-rshared /: without it a container bound with rslave sees no later mount";
    match fs::read_to_string("/proc/self/mountinfo") {
        Err(error) => {
            let said = format!("cannot read the list of mounts: {error}");
            CheckResult::fail(name, said, "is /proc mounted?")
        }
        Ok(table) if is_shared(&table) => CheckResult::ok(name, "shared"),
        Ok(_) => CheckResult::warn(name, "private", hint),
    }
}

/// Whether the mount at `/` of a `mountinfo` is shared.
fn is_shared(table: &str) -> bool {
    let root = table.lines().rev().find(|line| line.split(' ').nth(4) == Some("/"));
    let optional = root.and_then(|line| line.split(" - ").next()).unwrap_or_default();
    optional.split(' ').skip(6).any(|field| field.starts_with("shared:"))
}

async fn systemd() -> CheckResult {
    let hint = "without systemd run `mapkeeper supervise run`, so that mounts outlive the process";
    if !Path::new("/run/systemd/system").is_dir() {
        return CheckResult::warn("systemd", "is not what runs this host", hint);
    }
    match command("systemctl", &["--version"], LOCAL_LIMIT).await {
        Ok(said) => CheckResult::ok("systemd", said.lines().next().unwrap_or_default().to_owned()),
        Err(why) => CheckResult::warn("systemd", why, hint),
    }
}

/// Whether the unit is the one that this program brings, and systemd has read it.
async fn unit() -> CheckResult {
    let warn = |said: &str, hint: &str| CheckResult::warn("unit", said, hint);
    let Some((file, wanted)) = bootstrap::units().first() else {
        return CheckResult::ok("unit", "none is needed");
    };
    let packaged = ["/usr/lib/systemd/system/mapkeeper.service", "/lib/systemd/system/mapkeeper.service"];
    let found =
        std::iter::once(*file).chain(packaged).find_map(|path| Some((path, fs::read_to_string(path).ok()?)));
    let Some((path, text)) = found else {
        let said = "mapkeeper.service is not installed: the agent does not come up at boot";
        return warn(said, "mapkeeper bootstrap puts it in place");
    };
    if text != *wanted {
        let hint = "mapkeeper bootstrap renews it; changes of yours belong into systemctl edit mapkeeper";
        return warn(&format!("{path} differs from the one of this version of mapkeeper"), hint);
    }
    let asked = ["show", "mapkeeper.service", "--property=NeedDaemonReload,ActiveState", "--value"];
    match command("systemctl", &asked, SYSTEMCTL_LIMIT).await {
        Ok(said) if said.lines().any(|line| line == "yes") => {
            warn("systemd has not read its newest version", "systemctl daemon-reload")
        }
        Ok(said) => CheckResult::ok("unit", format!("{path}, {}", said.lines().last().unwrap_or_default())),
        Err(why) => warn(&why, "systemctl status mapkeeper"),
    }
}

/// The gate that keeps ECS from starting tasks on an unproven mount.
fn gate(config: Option<&Config>) -> CheckResult {
    let name = "gate of ecs.service";
    let has_ecs = Path::new("/usr/lib/systemd/system/ecs.service").exists()
        || config.is_some_and(|config| config.ecs.is_some());
    if !has_ecs {
        return CheckResult::ok(name, "not needed: no ECS agent here");
    }
    let hint = "mapkeeper bootstrap puts it in place; without it tasks start before the mounts are proven";
    match bootstrap::units().iter().find(|(path, _)| path.contains("ecs.service.d")) {
        Some((path, wanted)) => match fs::read_to_string(path) {
            Ok(text) if text == *wanted => CheckResult::ok(name, *path),
            Ok(_) => CheckResult::warn(name, format!("{path} differs from the one of this version"), hint),
            Err(_) => CheckResult::fail(name, format!("{path} is missing"), hint),
        },
        None => CheckResult::ok(name, "none is needed"),
    }
}

/// Whether the clock is kept right by somebody.
fn clock() -> CheckResult {
    let name = "clock";
    // SAFETY: an all-zero `timex` asks for everything and sets nothing.
    let state = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut asked)
    };
    match state {
        libc::TIME_ERROR => CheckResult::warn(
            name,
            "nobody keeps it right; S3 refuses what is signed more than 15 minutes off",
            "systemctl enable --now chronyd; timedatectl set-ntp true",
        ),
        state if state < 0 => {
            CheckResult::warn(name, "the kernel does not say whether it is kept right", "timedatectl")
        }
        _ => CheckResult::ok(name, "is kept right"),
    }
}

fn memory(config: Option<&Config>) -> CheckResult {
    let name = "memory budget";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let (Some(total), Some(available)) = (of("MemTotal:"), of("MemAvailable:")) else {
        return CheckResult::warn(name, "/proc/meminfo does not say how much there is", "is /proc mounted?");
    };
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let room = limit.map_or(total, |limit| limit.min(total));
    let mounts = config.map_or(0, |config| config.mounts.iter().map(|mount| mount.memory).sum());
    let wanted = mounts + OVERHEAD;
    let said = format!("mapkeeper may take {} of {} ({} free)", mib(wanted), mib(room), mib(available));
    if wanted > room / 2 {
        let hint = "lower `memory` of the mounts, or take a larger instance: MapServer needs the rest";
        return CheckResult::fail(name, said, hint);
    }
    if wanted > available {
        let hint = "lower `memory` of the mounts, or look for what takes the rest";
        return CheckResult::warn(name, said, hint);
    }
    CheckResult::ok(name, said)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Room for files that are being written, and for what the agent keeps.
async fn disk(config: Option<&Config>) -> CheckResult {
    let name = "disk";
    let writable = config.into_iter().flat_map(|config| &config.mounts).filter(|mount| !mount.read_only);
    let paths: Vec<PathBuf> =
        writable.map(|mount| mount.staging.clone()).chain([PathBuf::from("/var/lib/mapkeeper")]).collect();
    let measured =
        detached(LOCAL_LIMIT, move || paths.iter().map(|path| room(path)).collect::<Vec<_>>()).await;
    let Some(measured) = measured else {
        let hint = "look for a network file system below /var/lib: findmnt";
        return CheckResult::fail(name, "the disk does not answer", hint);
    };
    let mut least: Option<(u64, PathBuf)> = None;
    for place in measured {
        match place {
            Err((path, error)) => {
                let said = format!("{}: {error}", path.display());
                return CheckResult::fail(name, said, "check that the disk is there and writable");
            }
            Ok(place) => least = Some(least.map_or(place.clone(), |known| known.min(place))),
        }
    }
    let (free, path) = least.unwrap_or_default();
    let said = format!("{} free at {}", mib(free), path.display());
    match free {
        0..DISK_LEAST => CheckResult::fail(name, said, "make room: below 64 MiB every write is refused"),
        DISK_LEAST..DISK_FEW => CheckResult::warn(name, said, "make room, or set `staging` to another disk"),
        _ => CheckResult::ok(name, said),
    }
}

/// Free bytes where `path` is, or would be made.
fn room(path: &Path) -> Result<(u64, PathBuf), (PathBuf, io::Error)> {
    let found = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(found) {
        Ok(told) => Ok((told.blocks_available().saturating_mul(told.fragment_size()), found.to_owned())),
        Err(errno) => Err((found.to_owned(), errno.into())),
    }
}

/// What mounts the same bucket at boot in an older way, and would be in the way.
fn leftovers(config: Option<&Config>) -> CheckResult {
    let name = "older recipes";
    let files = ["/etc/fstab", "/etc/rc.local", "/etc/rc.d/rc.local"];
    let found = files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let line = (1..)
            .zip(text.lines())
            .find(|(_, line)| !line.trim_start().starts_with('#') && is_older(line, config))?;
        Some(format!("{file} line {} mounts with an older tool, or at a path of the configuration", line.0))
    });
    match found {
        None => CheckResult::ok(name, "no s3fs, goofys or mount of the same path in fstab and rc.local"),
        Some(said) => {
            CheckResult::warn(name, said, "take the line out: the agent mounts by itself (docs/migration.md)")
        }
    }
}

fn is_older(line: &str, config: Option<&Config>) -> bool {
    let tools = ["s3fs", "goofys", "mount-s3", "geesefs"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut paths = config.into_iter().flat_map(|config| &config.mounts).map(|mount| mount.path.as_path());
    tools.iter().any(|tool| line.contains(tool))
        || paths.any(|path| words.iter().any(|word| Path::new(word) == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_root_is_told_from_a_private_one() {
        let shared =
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n30 22 0:5 / /sys rw - sysfs sysfs rw\n";
        assert!(is_shared(shared));
        assert!(!is_shared(&shared.replace("shared:1", "master:1")));
        assert!(!is_shared("22 1 8:1 / / rw,relatime - ext4 /dev/shared:1 rw\n"));
        assert!(!is_shared(""));
    }

    #[test]
    fn lines_of_an_older_recipe_are_known() {
        assert!(is_older("s3fs bucket /srv/maps -o allow_other", None));
        assert!(is_older("bucket /srv/maps fuse.s3fs _netdev,allow_other 0 0", None));
        assert!(!is_older("UUID=1 / ext4 defaults 0 1", None));
    }
}

//! What systemd is told, what it asks, and what it keeps for the next process.
//!
//! Everything here does nothing when the process was not started by systemd, or by our own supervisor, which speaks the
//! same protocol (`NOTIFY_SOCKET` is unset). A message that cannot be delivered is logged and forgotten: systemd acts
//! on silence by itself.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::error::Chain;

/// The service does its work: units that wait for it may start.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The line that `systemctl status` shows.
pub fn status(text: &str) {
    // A line break would begin another message.
    tell(&[NotifyState::Status(&text.replace(char::is_control, " "))]);
}

/// The loop went round: the watchdog starts counting anew.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// A reload has begun. It ends with [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(error = %Chain(&error), "systemd not told of the reload"),
    }
}

/// The service is on its way down.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How long systemd waits for [`alive`] before it kills the service; `None` when it does not watch.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Whether there is somebody who may keep descriptors.
pub fn keeps() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Has a descriptor kept beyond the end of this process, and handed to the next one under the same name. systemd keeps
/// it if the unit says so (`FileDescriptorStoreMax=`), until the unit is stopped.
pub fn keep(name: &str, descriptor: BorrowedFd<'_>) {
    let states = [NotifyState::FdStore, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify_with_fds(&states, &[descriptor]) {
        tracing::warn!(name, error = %Chain(&error), "a descriptor is not kept");
    }
}

/// Has what is kept under `name` closed.
pub fn let_go(name: &str) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// What processes before had kept, by name. To be asked once, before any thread or process is started.
pub fn kept() -> Vec<(String, OwnedFd)> {
    let Ok(descriptors) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    let taken = descriptors.map(|(number, name)| {
        // SAFETY: handed to this process to own, and asked for once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        // No child of ours may keep a connection alive by accident.
        let _ = rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC);
        (name, descriptor)
    });
    taken.collect()
}

/// Whether this process ends so that another takes its place: systemd has no order to stop its unit.
///
/// Asks `systemctl` for the orders under way, and waits for it for as long as that takes. Without systemd, or if it
/// does not say, nothing takes its place.
pub fn is_to_be_replaced() -> bool {
    let is_systemd = std::env::var("NOTIFY_SOCKET").is_ok_and(|socket| socket.starts_with("/run/systemd/"));
    let Some(unit) = is_systemd.then(unit).flatten() else { return false };
    let jobs = Command::new("systemctl").args(["list-jobs", "--plain", "--no-legend", "--no-pager"]).output();
    match jobs {
        Ok(jobs) if jobs.status.success() => !is_stopped_by(&String::from_utf8_lossy(&jobs.stdout), &unit),
        _ => false,
    }
}

/// The unit that this process belongs to.
fn unit() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut parts = groups.lines().flat_map(|line| line.split('/'));
    parts.rfind(|part| part.ends_with(".service")).map(str::to_owned)
}

/// Whether one of `jobs`, a line each (number, unit, kind, state), stops `unit` for good.
fn is_stopped_by(jobs: &str, unit: &str) -> bool {
    jobs.lines().any(|job| {
        let mut words = job.split_whitespace().skip(1);
        words.next() == Some(unit) && words.next() == Some("stop")
    })
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = %Chain(&error), "systemd not notified");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Runs the test `name` again in a process of its own, whose environment is ours to set, and which
    /// only tells everything.
    fn tells(name: &str, variables: &[(&str, &str)]) {
        let mut command = Command::new(std::env::current_exe().expect("this test's program"));
        command.args(["--exact", &format!("host::systemd::tests::{name}")]).env("TELLS_SYSTEMD", "1");
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        let output = command.envs(variables.iter().copied()).output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// The first messages that systemd gets of the test `name` in a process of its own.
    fn heard(name: &str, variables: &[(&str, &str)], messages: usize) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("binds");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("sets a limit");
        tells(name, &[&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))], variables].concat());
        let mut buffer = [0; 256];
        let mut message = || {
            let length = socket.recv(&mut buffer).expect("a message within the limit");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        (0..messages).map(|_| message()).collect()
    }

    /// Whether this is the process that tells; then it has told.
    fn told() -> bool {
        if std::env::var_os("TELLS_SYSTEMD").is_none() {
            return false;
        }
        let expected = std::env::var("EXPECTED_WATCHDOG_MS").ok().and_then(|text| text.parse().ok());
        assert_eq!(watchdog(), expected.map(Duration::from_millis));
        ready();
        status("1 mount\nserves");
        alive();
        reloading();
        stopping();
        true
    }

    #[test]
    fn systemd_hears_every_state() {
        if told() {
            return;
        }
        let variables = [("WATCHDOG_USEC", "30000000"), ("EXPECTED_WATCHDOG_MS", "30000")];
        let heard = heard("systemd_hears_every_state", &variables, 5);
        assert_eq!(heard[0], "READY=1\n");
        assert_eq!(heard[1], "STATUS=1 mount serves\n");
        assert_eq!(heard[2], "WATCHDOG=1\n");
        assert!(heard[3].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", heard[3]);
        assert_eq!(heard[4], "STOPPING=1\n");
    }

    #[test]
    fn only_an_order_to_stop_this_unit_ends_it_for_good() {
        let jobs = "  7 ecs.service stop running\n 12 mapkeeper.service restart running\n";
        assert!(!is_stopped_by(jobs, "mapkeeper.service"));
        assert!(is_stopped_by(jobs, "ecs.service"));
        assert!(is_stopped_by("3 mapkeeper.service stop waiting\n", "mapkeeper.service"));
        assert!(!is_stopped_by("", "mapkeeper.service"));
    }

    #[test]
    fn what_is_kept_arrives_with_its_name() {
        if std::env::var_os("TELLS_SYSTEMD").is_some() {
            use std::os::fd::AsFd;
            keep("device.maps", std::io::stdin().as_fd());
            return let_go("device.maps");
        }
        let expected = ["FDSTORE=1\nFDNAME=device.maps\n", "FDSTOREREMOVE=1\nFDNAME=device.maps\n"];
        assert_eq!(heard("what_is_kept_arrives_with_its_name", &[], 2), expected);
    }

    #[test]
    fn without_systemd_nothing_happens() {
        if told() {
            return;
        }
        let name = "without_systemd_nothing_happens";
        tells(name, &[]);
        tells(name, &[("WATCHDOG_USEC", "0")]);
    }

    #[test]
    fn a_socket_that_is_gone_is_no_reason_to_fail() {
        if told() {
            return;
        }
        tells("a_socket_that_is_gone_is_no_reason_to_fail", &[("NOTIFY_SOCKET", "/nonexistent/notify")]);
    }
}

//! What systemd is told, and what it asks.
//!
//! Everything here does nothing when the process was not started by systemd (`NOTIFY_SOCKET` is unset).
//! A message that cannot be delivered is logged and forgotten: systemd acts on silence by itself.

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
        command.args(["--exact", &format!("systemd::tests::{name}")]).env("TELLS_SYSTEMD", "1");
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        let output = command.envs(variables.iter().copied()).output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("binds");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("sets a limit");
        let path = path.to_str().expect("UTF-8");
        tells(
            "systemd_hears_every_state",
            &[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "30000000"), ("EXPECTED_WATCHDOG_MS", "30000")],
        );
        let mut heard = Vec::new();
        for _ in 0..5 {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).expect("a message within the limit");
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(heard[0], "READY=1\n");
        assert_eq!(heard[1], "STATUS=1 mount serves\n");
        assert_eq!(heard[2], "WATCHDOG=1\n");
        assert!(heard[3].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", heard[3]);
        assert_eq!(heard[4], "STOPPING=1\n");
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

//! Maintenance: a person asks the agent to keep its hands off, for a while or until told otherwise.
//!
//! ```text
//! [off] -- mapkeeper pause [--for 1h] --> [on] -- mapkeeper resume, the time is over, reboot --> [off]
//! ```
//!
//! The wish is a file beside the status document, so it needs no agent that runs and outlives one that is replaced.
//! It names a time on the clock since boot, which nobody can set. A file that cannot be understood is a wish all the
//! same: doing nothing is the safe side.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::milliseconds;
use ladder::state::Maintenance;

const FILE: &str = "maintenance.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wish {
    boot_id: String,
    until_uptime_ms: Option<u64>,
}

/// Asks for maintenance in the runtime directory `dir`, for this long or until [`resume`].
///
/// # Errors
///
/// Those of the file system.
pub fn pause(dir: &Path, length: Option<Duration>) -> io::Result<()> {
    let (boot_id, uptime) = this_boot()?;
    let until_uptime_ms = length.map(|length| milliseconds(uptime + length));
    let text = serde_json::to_vec(&Wish { boot_id, until_uptime_ms }).map_err(io::Error::other)?;
    std::fs::create_dir_all(dir)?;
    let fresh = dir.join(format!("{FILE}.new"));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, dir.join(FILE))
}

/// Takes the wish back. None is no error.
///
/// # Errors
///
/// Those of the file system.
pub fn resume(dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is wished in the runtime directory `dir`.
pub fn wished(dir: &Path) -> Maintenance {
    let text = match std::fs::read(dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Maintenance::Off,
        Err(_) => return Maintenance::On { left: None },
    };
    let (Ok(wish), Ok((boot_id, uptime))) = (serde_json::from_slice::<Wish>(&text), this_boot()) else {
        return Maintenance::On { left: None };
    };
    if wish.boot_id != boot_id {
        return Maintenance::Off;
    }
    match wish.until_uptime_ms {
        None => Maintenance::On { left: None },
        Some(until) => match until.saturating_sub(milliseconds(uptime)) {
            0 => Maintenance::Off,
            left => Maintenance::On { left: Some(Duration::from_millis(left)) },
        },
    }
}

fn this_boot() -> io::Result<(String, Duration)> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok((boot_id, super::status::uptime()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_holds_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(wished(dir.path()), Maintenance::Off);
        pause(dir.path(), None).unwrap();
        assert_eq!(wished(dir.path()), Maintenance::On { left: None });
        resume(dir.path()).unwrap();
        resume(dir.path()).unwrap();
        assert_eq!(wished(dir.path()), Maintenance::Off);
    }

    #[test]
    fn a_pause_with_a_length_ends_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3600);
        pause(dir.path(), Some(hour)).unwrap();
        let Maintenance::On { left: Some(left) } = wished(dir.path()) else { panic!("it is off") };
        assert!(left <= hour && left > hour - Duration::from_secs(60), "{left:?}");
        pause(dir.path(), Some(Duration::ZERO)).unwrap();
        assert_eq!(wished(dir.path()), Maintenance::Off);
    }

    #[test]
    fn a_pause_of_an_earlier_boot_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let wish = Wish { boot_id: "another".to_owned(), until_uptime_ms: None };
        std::fs::write(dir.path().join(FILE), serde_json::to_vec(&wish).unwrap()).unwrap();
        assert_eq!(wished(dir.path()), Maintenance::Off);
    }

    #[test]
    fn a_wish_that_nobody_understands_is_a_wish() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "hands off!").unwrap();
        assert_eq!(wished(dir.path()), Maintenance::On { left: None });
    }
}

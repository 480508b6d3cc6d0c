//! Questions to a mount, each with a deadline, and what the answers of a service mean.
//!
//! A mount is asked by a **child process**: the agent serves the mount itself, and a file call of its
//! own on a stuck mount could never be interrupted. The child is this same binary, called as
//! `probe-mount PATH --expect-device MAJ:MIN`; it prints one line of JSON. It always asks for the mount's
//! statistics, which no cache of the kernel answers and which cost the bucket nothing; with `--list` it lists the
//! root, with `--read` it reads a file instead. A child that does not return
//! is killed and nobody waits for its end; those that are still there are counted, and when [`LEFT_BEHIND`] of
//! them are stuck in the kernel no further one is sent. One whose parent is killed ends as well, as soon as the kernel
//! lets go of it: it holds nothing that the parent's successor needs, and the successor does not wait for it
//! (`units/mapkeeper.service`).
//!
//! ```text
//! [asked] -- line of JSON --> answer
//!    | deadline
//!    v
//! [killed, silent] -- gone --> forgotten
//! ```
//!
//! A service is asked by HTTP (`http.rs`); what its answer means is told by [`classify`].

pub mod verdict;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::hash::Hasher;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fnv::FnvHasher;
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub use verdict::{ServiceVerdict, classify};

/// Name of the hidden subcommand that a child runs.
pub const MOUNT_COMMAND: &str = "probe-mount";
/// Most children that may be stuck at the same time.
pub const LEFT_BEHIND: usize = 3;
/// Most entries of the mount's root that are listed.
const ENTRIES: usize = 3;
/// Most bytes read of a child's answer.
const LINE_BYTES: u64 = 4096;
/// Most bytes of a file that are compared.
pub const CONTENT_BYTES: u64 = 64 << 10;

/// What a child found at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountFinding {
    /// The directory is on this device (major, minor) and answered.
    Answered { device: (u32, u32) },
    /// The same, and it was listed, at least in part.
    Listed { device: (u32, u32), entries: usize },
    /// The file has this many bytes; the hash is that of the first [`CONTENT_BYTES`].
    Content { size: u64, hash: u64 },
    /// The directory is on this device, which is not the expected one; it was not listed.
    Elsewhere { device: (u32, u32) },
    /// A file call failed.
    Failed { errno: String },
}

/// What a child does at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Ask the file system that is expected on this device for a sign of life.
    Ask { expected: Option<(u32, u32)>, list: bool },
    /// Read a file.
    Read,
}

/// Looks at `path` from this process: only for the child, which may hang for ever.
pub fn look_at_mount(path: &Path, look: Look) -> MountFinding {
    let found = match look {
        Look::Ask { expected, list } => answers(path, expected, list),
        Look::Read => content(path),
    };
    found.unwrap_or_else(|error| {
        let errno = error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)));
        MountFinding::Failed { errno }
    })
}

/// A hash of what a file begins with: the same in the child and in the agent, and nothing else.
pub fn content_hash(bytes: &[u8]) -> u64 {
    let mut hash = FnvHasher::default();
    hash.write(bytes);
    hash.finish()
}

fn content(path: &Path) -> io::Result<MountFinding> {
    use std::io::Read;
    let file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(CONTENT_BYTES).read_to_end(&mut bytes)?;
    Ok(MountFinding::Content { size, hash: content_hash(&bytes) })
}

fn answers(path: &Path, expected: Option<(u32, u32)>, list: bool) -> io::Result<MountFinding> {
    let number = fs::metadata(path)?.dev();
    let part = |value: u64| u32::try_from(value).map_err(io::Error::other);
    let device = (part(major(number))?, part(minor(number))?);
    if expected.is_some_and(|expected| expected != device) {
        return Ok(MountFinding::Elsewhere { device });
    }
    // Unlike `stat`, this reaches the file system each time.
    nix::sys::statvfs::statvfs(path)?;
    if !list {
        return Ok(MountFinding::Answered { device });
    }
    let mut entries = 0;
    for entry in fs::read_dir(path)?.take(ENTRIES) {
        entry?;
        entries += 1;
    }
    Ok(MountFinding::Listed { device, entries })
}

/// Has this process end with the one that started it, however that ends.
///
/// # Errors
///
/// When the kernel refuses, and when that process has ended already: then nobody reads what is written to `out`.
pub fn end_with_parent(out: BorrowedFd<'_>) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut reader = libc::pollfd { fd: out.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one structure, which lives for as long as the call; it waits for nothing.
    let polled = unsafe { libc::poll(&raw mut reader, 1, 0) };
    if polled == 1 && reader.revents & libc::POLLERR != 0 {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Runs the hidden subcommand: looks, and prints one line of JSON.
///
/// # Errors
///
/// When the line cannot be written.
pub fn run_mount_command(path: &Path, look: Look, mut out: impl io::Write) -> io::Result<()> {
    let line = serde_json::to_string(&look_at_mount(path, look)).map_err(io::Error::other)?;
    writeln!(out, "{line}")
}

/// How long a child has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To ask for a sign of life, which needs nothing but the file system's own process.
    pub ask: Duration,
    /// To list or read, which needs the bucket.
    pub read: Duration,
}

/// Sends children to mounts.
#[derive(Debug)]
pub struct MountProbe {
    program: Vec<OsString>,
    limits: Limits,
    stuck: RefCell<Vec<Child>>,
}

/// Why there is no finding.
#[derive(Debug, thiserror::Error)]
pub enum MountProbeError {
    /// The mount did not answer: this is an observation, unlike the others.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("{LEFT_BEHIND} earlier probes are stuck and cannot be killed")]
    TooManyStuck,
    #[error("cannot start a probe")]
    Start { source: io::Error },
    #[error("a probe ended without an answer")]
    NoAnswer { source: io::Error },
    #[error("a probe answered {line:?}, expected one line of JSON")]
    Nonsense { line: String, source: serde_json::Error },
}

impl MountProbe {
    /// Children run `program` (a path and leading arguments, normally only `/proc/self/exe`).
    pub fn new(program: Vec<OsString>, limits: Limits) -> MountProbe {
        MountProbe { program, limits, stuck: RefCell::new(Vec::new()) }
    }

    /// Asks what is at `path`, and lists it where `list` says so.
    ///
    /// # Errors
    ///
    /// [`MountProbeError::Silent`] if the mount did not answer in time; any other says that it could
    /// not be asked.
    pub async fn ask(
        &self,
        path: &Path,
        expected: Option<(u32, u32)>,
        list: bool,
    ) -> Result<MountFinding, MountProbeError> {
        let mut arguments = vec![path.as_os_str().to_owned()];
        if let Some((major, minor)) = expected {
            arguments.extend(["--expect-device".into(), format!("{major}:{minor}").into()]);
        }
        if list {
            arguments.push("--list".into());
        }
        self.send(&arguments, if list { self.limits.read } else { self.limits.ask }).await
    }

    /// Reads the file at `path`: its size, and a hash of its first bytes.
    ///
    /// # Errors
    ///
    /// As [`MountProbe::ask`].
    pub async fn read(&self, path: &Path) -> Result<MountFinding, MountProbeError> {
        self.send(&[path.as_os_str().to_owned(), "--read".into()], self.limits.read).await
    }

    async fn send(&self, arguments: &[OsString], limit: Duration) -> Result<MountFinding, MountProbeError> {
        if self.stuck() >= LEFT_BEHIND {
            return Err(MountProbeError::TooManyStuck);
        }
        let (program, leading) = self.program.split_first().ok_or_else(|| MountProbeError::Start {
            source: io::Error::new(io::ErrorKind::InvalidInput, "no program is named"),
        })?;
        let mut command = Command::new(program);
        command.args(leading).arg(MOUNT_COMMAND).args(arguments);
        command.current_dir("/").env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|source| MountProbeError::Start { source })?;
        match timeout(limit, answer(&mut child)).await {
            Ok(answer) => understood(answer.map_err(|source| MountProbeError::NoAnswer { source })?),
            Err(_) => {
                // An error says that it is gone already.
                let _ = child.start_kill();
                self.stuck.borrow_mut().push(child);
                Err(MountProbeError::Silent(limit))
            }
        }
    }

    /// How many children are stuck; those that are gone at last are forgotten.
    pub fn stuck(&self) -> usize {
        let mut stuck = self.stuck.borrow_mut();
        stuck.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        stuck.len()
    }
}

/// Everything that the child prints, and its end.
async fn answer(child: &mut Child) -> io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(LINE_BYTES).read_to_end(&mut line).await?;
    }
    child.wait().await?;
    Ok(line)
}

fn understood(line: Vec<u8>) -> Result<MountFinding, MountProbeError> {
    serde_json::from_slice(&line).map_err(|source| MountProbeError::Nonsense {
        line: String::from_utf8_lossy(&line).chars().take(80).collect(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn a_directory_is_found_with_its_device_and_some_of_its_entries() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..10 {
            fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        let MountFinding::Listed { device, entries } = look_at_mount(dir.path(), asked(None)) else {
            panic!()
        };
        assert_eq!(entries, ENTRIES);
        let number = fs::metadata(dir.path()).unwrap().dev();
        assert_eq!((u64::from(device.0), u64::from(device.1)), (major(number), minor(number)));
        assert_eq!(look_at_mount(dir.path(), asked(Some(device))), MountFinding::Listed { device, entries });
        let other = Some((device.0, device.1 + 1));
        assert_eq!(look_at_mount(dir.path(), asked(other)), MountFinding::Elsewhere { device });
        let cheap = look_at_mount(dir.path(), Look::Ask { expected: None, list: false });
        assert_eq!(cheap, MountFinding::Answered { device });
    }

    fn asked(expected: Option<(u32, u32)>) -> Look {
        Look::Ask { expected, list: true }
    }

    #[test]
    fn a_file_is_told_by_its_size_and_the_hash_of_its_beginning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = vec![7; CONTENT_BYTES as usize + 1];
        fs::write(file.path(), &long).unwrap();
        let found = look_at_mount(file.path(), Look::Read);
        let hash = content_hash(&long[..CONTENT_BYTES as usize]);
        assert_eq!(found, MountFinding::Content { size: CONTENT_BYTES + 1, hash });
        assert_ne!(hash, content_hash(&long));
        let gone = look_at_mount(Path::new("/none"), Look::Read);
        assert_eq!(gone, MountFinding::Failed { errno: "ENOENT".to_owned() });
    }

    #[test]
    fn a_file_call_that_fails_is_told_by_the_name_of_its_errno() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let errno = |path: &Path| look_at_mount(path, asked(None));
        assert_eq!(errno(Path::new("/none")), MountFinding::Failed { errno: "ENOENT".to_owned() });
        assert_eq!(errno(file.path()), MountFinding::Failed { errno: "ENOTDIR".to_owned() });
    }

    #[test]
    fn the_hidden_subcommand_prints_one_line_of_json() {
        let mut out = Vec::new();
        run_mount_command(Path::new("/none"), asked(None), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"failed\":{\"errno\":\"ENOENT\"}}\n");
    }

    fn both(limit: Duration) -> Limits {
        Limits { ask: limit, read: limit }
    }

    /// A program that behaves like a child, or does not. Its `$0` is the subcommand.
    fn program(script: &str) -> Vec<OsString> {
        ["/bin/sh", "-c", script].map(OsString::from).to_vec()
    }

    async fn ask(script: &str) -> Result<MountFinding, MountProbeError> {
        let probe = MountProbe::new(program(script), both(Duration::from_secs(20)));
        probe.ask(Path::new("/srv/maps"), Some((0, 50)), true).await
    }

    #[tokio::test]
    async fn a_child_is_told_the_path_and_the_device_and_its_answer_is_understood() {
        let script = r#"[ "$0 $*" = "probe-mount /srv/maps --expect-device 0:50 --list" ] || exit 1
            echo '{"listed":{"device":[0,50],"entries":2}}'"#;
        assert_eq!(ask(script).await.unwrap(), MountFinding::Listed { device: (0, 50), entries: 2 });
    }

    #[tokio::test]
    async fn a_child_that_talks_nonsense_is_quoted() {
        let error = ask("echo hello").await.unwrap_err();
        assert_eq!(error.to_string(), "a probe answered \"hello\\n\", expected one line of JSON");
        let error = ask("exit 3").await.unwrap_err();
        assert_eq!(error.to_string(), "a probe answered \"\", expected one line of JSON");
    }

    #[tokio::test]
    async fn a_child_that_cannot_be_started_is_not_silence() {
        let probe = MountProbe::new(vec!["/none".into()], both(SHORT));
        let error = probe.ask(Path::new("/"), None, false).await.unwrap_err();
        assert!(matches!(error, MountProbeError::Start { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot start a probe");
    }

    #[tokio::test]
    async fn a_child_that_does_not_return_is_killed_and_called_silent() {
        let probe = MountProbe::new(program("exec sleep 1000"), both(SHORT));
        let error = probe.ask(Path::new("/"), None, false).await.unwrap_err();
        assert!(matches!(error, MountProbeError::Silent(SHORT)), "{error:?}");
        assert_eq!(error.to_string(), "no answer within 200 ms");
        let began = tokio::time::Instant::now();
        while probe.stuck() > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "it was not killed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn no_further_child_is_sent_after_too_many_got_stuck() {
        let probe = MountProbe::new(vec!["/none".into()], both(SHORT));
        for _ in 0..LEFT_BEHIND {
            let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
            probe.stuck.borrow_mut().push(child);
        }
        let error = probe.ask(Path::new("/"), None, false).await.unwrap_err();
        assert_eq!(error.to_string(), "3 earlier probes are stuck and cannot be killed");
        let mut freed = probe.stuck.borrow_mut().remove(1);
        freed.kill().await.unwrap();
        probe.stuck.borrow_mut().push(freed);
        assert_eq!(probe.stuck(), LEFT_BEHIND - 1);
        assert!(matches!(probe.ask(Path::new("/"), None, false).await, Err(MountProbeError::Start { .. })));
    }
}

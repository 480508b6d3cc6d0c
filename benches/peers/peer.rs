//! The file systems that are compared: how each is mounted, and what its process uses.
//!
//! ```text
//!   start the process -> mount point serves -> ... -> unmount lazily -> process ends, or is killed
//! ```
//!
//! What must hold: every mount is fresh, its caches are empty and its scratch directory is its own; nothing stays
//! mounted or running, whatever goes wrong.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use bucketfs::mountinfo::MountTable;
use clap::ValueEnum;
use nix::mount::{MntFlags, umount2};
use s3_testbed::{ACCESS_KEY, SECRET_KEY};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::{reader, world};

/// Longest wait for a mount to serve, and for its process to end.
const MOUNT_LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How the kernel counts processor time: `USER_HZ` is 100 on every architecture of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A file system to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Peer {
    Mapkeeper,
    /// As people run it: defaults.
    S3fs,
    /// With `kernel_cache,enable_noobj_cache`, which give up seeing changes.
    S3fsTuned,
    /// Tuned for reading, with a cache on disk.
    Rclone,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Mapkeeper => "mapkeeper",
            Peer::S3fs => "s3fs",
            Peer::S3fsTuned => "s3fs tuned",
            Peer::Rclone => "rclone",
        }
    }

    /// Whether modes, owners and times in the objects' headers are shown.
    pub fn shows_headers(self) -> bool {
        self != Peer::Rclone
    }
}

/// How peers are mounted.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub mapkeeper: PathBuf,
    pub endpoint: String,
    /// Options of mapkeeper for this phase, before those of the command line.
    pub options: Vec<String>,
    pub access: Access,
}

/// Whether a mount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

const S3FS_TUNED: &str = "kernel_cache,enable_noobj_cache";
const RCLONE_TUNED: [&str; 12] = [
    "--vfs-cache-mode=full",
    "--vfs-read-chunk-size=8M",
    "--vfs-read-chunk-size-limit=64M",
    "--buffer-size=16M",
    "--dir-cache-time=60s",
    "--attr-timeout=60s",
    "--poll-interval=0",
    "--use-server-modtime",
    "--no-checksum",
    "--vfs-fast-fingerprint",
    "--read-only",
    "--allow-other",
];

/// Written through, so that closing a file waits for the store.
const RCLONE_DURABLE: [&str; 2] = ["--vfs-cache-mode=off", "--allow-other"];

/// The settings of a peer, as the report shows them.
pub fn settings(peer: Peer) -> String {
    match peer {
        Peer::Mapkeeper => "`freshness=60s`, in the WMS phases the default `freshness=1s`".into(),
        Peer::S3fs => "defaults (`stat_cache_expire=900`)".into(),
        Peer::S3fsTuned => format!("`{S3FS_TUNED}`"),
        Peer::Rclone => format!("`{}`; written: `{}`", RCLONE_TUNED.join(" "), RCLONE_DURABLE.join(" ")),
    }
}

/// A mount that serves. Dropped, it is unmounted and its process killed.
pub struct Mounted {
    child: Child,
    pid: u32,
    scratch: TempDir,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub peak_rss_bytes: u64,
}

impl Mounted {
    pub async fn new(peer: Peer, recipe: &Recipe) -> anyhow::Result<Mounted> {
        let scratch = tempfile::Builder::new().prefix("mapkeeper-peers-").tempdir()?;
        std::fs::create_dir(scratch.path().join("mnt"))?;
        let passwd = scratch.path().join("passwd");
        std::fs::write(&passwd, format!("{ACCESS_KEY}:{SECRET_KEY}\n"))?;
        std::fs::set_permissions(&passwd, std::fs::Permissions::from_mode(0o600))?;
        let mut command = command(peer, recipe, scratch.path(), &passwd);
        let log = std::fs::File::create(scratch.path().join("log"))?;
        // Nothing of whoever runs this: no proxies, profiles or authorities of theirs.
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment(peer, recipe));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("{} does not start", peer.name()))?;
        let pid = child.id().context("the process has not been waited for")?;
        let mut mounted = Mounted { child, pid, scratch };
        mounted.serves().await.with_context(|| format!("{} does not mount", peer.name()))?;
        Ok(mounted)
    }

    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }

    async fn serves(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while MountTable::of(None)?.top(&self.path()).is_none() {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}: {}", self.said());
            }
            if begun.elapsed() > MOUNT_LIMIT {
                bail!("nothing is mounted after {MOUNT_LIMIT:?}: {}", self.said());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let mut look = Command::new("stat");
        look.arg(self.path());
        reader::output(look, MOUNT_LIMIT).await.map(|_| ())
    }

    /// What its process has written.
    fn said(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default().trim().to_string()
    }

    pub fn usage(&self) -> anyhow::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        usage(&stat, &status).with_context(|| format!("the process ended: {}", self.said()))
    }

    /// Lets the peak begin anew.
    pub fn forget_peak(&self) -> io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
    }

    /// Unmounts and waits for the end of the process.
    pub async fn unmount(mut self) -> anyhow::Result<()> {
        umount2(&self.path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
        if tokio::time::timeout(MOUNT_LIMIT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Already unmounted, as a rule.
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

fn command(peer: Peer, recipe: &Recipe, scratch: &Path, passwd: &Path) -> Command {
    let (directory, passwd) = (scratch.join("mnt"), passwd.display());
    let (bucket, endpoint) = (world::BUCKET, &recipe.endpoint);
    match peer {
        Peer::Mapkeeper => {
            let mut command = Command::new(&recipe.mapkeeper);
            command.arg("mount").arg(format!("s3://{bucket}")).arg(directory);
            let store = format!("endpoint_url={endpoint},path_style,region=us-east-1,passwd_file={passwd}");
            let options = std::iter::once(store).chain(recipe.options.iter().cloned());
            options.for_each(|options| _ = command.arg("-o").arg(options));
            if recipe.access == Access::Write {
                command.arg("-o").arg(format!("rw,staging={}", scratch.join("staging").display()));
            }
            command
        }
        Peer::S3fs | Peer::S3fsTuned => {
            let mut command = Command::new("s3fs");
            command
                .arg(bucket)
                .arg(directory)
                .arg("-f")
                .arg("-o")
                .arg(format!("url={endpoint},use_path_request_style,passwd_file={passwd},allow_other"));
            if recipe.access == Access::Read {
                command.arg("-o").arg("ro");
            }
            if peer == Peer::S3fsTuned {
                command.arg("-o").arg(S3FS_TUNED);
            }
            command
        }
        Peer::Rclone => {
            let mut command = Command::new("rclone");
            command.arg("mount").arg(format!("bench:{bucket}")).arg(directory);
            match recipe.access {
                Access::Read => command.args(RCLONE_TUNED),
                Access::Write => command.args(RCLONE_DURABLE),
            };
            command.arg("--cache-dir").arg(scratch.join("cache"));
            command
        }
    }
}

/// What a peer has to find in its environment.
fn environment(peer: Peer, recipe: &Recipe) -> Vec<(String, String)> {
    if peer != Peer::Rclone {
        return Vec::new();
    }
    let remote = [
        ("TYPE", "s3"),
        ("PROVIDER", "Other"),
        ("ENDPOINT", &recipe.endpoint),
        ("ACCESS_KEY_ID", ACCESS_KEY),
        ("SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    let remote = remote.map(|(key, value)| (format!("RCLONE_CONFIG_BENCH_{key}"), value.to_string()));
    // No configuration file.
    remote.into_iter().chain([("RCLONE_CONFIG".to_string(), String::new())]).collect()
}

/// Reads `/proc/PID/stat` and `/proc/PID/status`; `None` for a process that is over.
fn usage(stat: &str, status: &str) -> Option<Usage> {
    // The name in brackets may hold anything, brackets and blanks too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Option<Vec<f64>> =
        fields.split(' ').skip(11).take(4).map(|field| field.parse().ok()).collect();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kib: u64 = peak.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    let cpu_seconds = ticks?.iter().sum::<f64>() / TICKS_PER_SECOND;
    Some(Usage { cpu_seconds, peak_rss_bytes: peak_kib * 1024 })
}

//! How a bucket is mounted, and what follows from that.

use std::time::Duration;

use nix::mount::MsFlags;

use super::attr::Defaults;
use super::write::WriteOptions;

/// Least memory a mount can work with: 16 MiB.
pub const MEMORY_MIN: u64 = 16 * 1024 * 1024;

/// How a bucket is mounted.
#[derive(Clone, Debug)]
pub struct Options {
    /// What `/proc/mounts` shows as the source: `s3://bucket/prefix`.
    pub source: String,
    /// Key prefix that is the root: empty, or ending in `/`.
    pub prefix: String,
    pub read_only: bool,
    /// `MS_NOEXEC`: no program on the mount can be started.
    pub no_exec: bool,
    /// `MS_NOSYMFOLLOW`: symbolic links on the mount are not followed.
    pub no_symlink_follow: bool,
    /// Shows what makes a program run with other rights: set-id bits of files, `security.*` and `trusted.*` attributes.
    /// The mount is `nosuid` all the same; a bind of it in a container need not be.
    pub suid: bool,
    /// How old an answer may be when a file is opened; zero asks at every open.
    pub freshness: Duration,
    /// Where the bucket is, if not at AWS: a session that was left is not resumed elsewhere.
    pub endpoint: Option<String>,
    /// The AWS region in which the bucket is asked, for a successor: it shall not have to find that out while it is
    /// waited for.
    pub region: Option<String>,
    /// Whether a kernel that can (Linux 6.9 and later) is asked to send again what a process before left unanswered.
    /// If not, or where it cannot, the answers come from the journal.
    pub resend: bool,
    /// How long what is known is served when the store cannot be asked.
    pub max_stale: Duration,
    pub defaults: Defaults,
    /// Bytes for all caches and buffers, at least [`MEMORY_MIN`].
    pub memory: u64,
    /// Of no meaning where nothing is written.
    pub write: WriteOptions,
}

pub(super) fn flags(options: &Options) -> MsFlags {
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    flags.set(MsFlags::MS_NOEXEC, options.no_exec);
    flags.set(MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW), options.no_symlink_follow);
    flags
}

/// What of the options cannot change while a session lives: which bucket its numbers are of, and what the kernel has
/// been told of the mount.
pub(super) fn settings(options: &Options) -> String {
    let Options { source, prefix, endpoint, read_only, no_exec, no_symlink_follow, suid, .. } = options;
    let endpoint = endpoint.as_deref().unwrap_or("AWS");
    let access = if *read_only { "read" } else { "written" };
    let mut text = format!("{source} ({prefix:?}) at {endpoint}, {access}");
    text.push_str(if *no_exec { ", noexec" } else { "" });
    text.push_str(if *no_symlink_follow { ", nosymfollow" } else { "" });
    text.push_str(if *suid { ", suid" } else { "" });
    text
}

/// Who gets how much of the memory.
pub(super) struct Memory {
    pub(super) content: u64,
    pub(super) names: u64,
    pub(super) writing: u64,
}

impl Memory {
    pub(super) fn of(options: &Options) -> Memory {
        let names = options.memory / 4;
        let writing = if options.read_only { 0 } else { options.memory / 8 * 3 };
        Memory { content: options.memory - names - writing, names, writing }
    }
}

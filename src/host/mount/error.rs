//! Why a mount was not put up, with the cure and the exit code of each reason.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Advise, Exit};
use bucketfs::session::DEVICE;
use bucketfs::store::{ClockSkew, StoreError};
use bucketfs::{MountError, SessionError};

/// Longest wait for a helper: less than the ladder gives a mount.
pub(super) const HELPER_LIMIT: Duration = Duration::from_secs(25);

/// Why a mount was not put up. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("mount {name:?} has source {source_text:?}, and `mapkeeper mount` mounts s3:// only")]
    Source { name: String, source_text: String },
    #[error("only root can mount")]
    NotRoot,
    #[error("the mount point {path:?} does not exist")]
    Absent { path: PathBuf },
    #[error("the mount point {path:?} cannot be used")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("the mount point {path:?} is not a directory")]
    NotDirectory { path: PathBuf },
    #[error("the mount point {path:?} is not empty")]
    NotEmpty { path: PathBuf },
    #[error("{found:?} ({fs_type}) is already mounted on {path:?}")]
    AlreadyMounted { path: PathBuf, found: String, fs_type: String },
    #[error("cannot read the list of mounts")]
    Table { source: io::Error },
    #[error("cannot start the file system's threads")]
    Runtime { source: io::Error },
    #[error(transparent)]
    Kernel(KernelError),
    #[error("cannot mount {origin:?} on {path:?}")]
    Mount { origin: String, path: PathBuf, source: Box<MountError> },
}

impl AttachError {
    /// Where the bucket lives, if that is all that kept it from being mounted.
    pub(super) fn region_of_bucket(&self) -> Option<&str> {
        let AttachError::Mount { source, .. } = self else { return None };
        match &**source {
            MountError::Store { source: StoreError::WrongRegion { region, .. }, .. } => region.as_deref(),
            _ => None,
        }
    }
}

impl Advise for AttachError {
    fn hint(&self) -> Option<String> {
        match self {
            AttachError::Source { .. } => Some(
                "mount it with mount(8), or let `mapkeeper run` do it: [[mount]] in the configuration".into(),
            ),
            AttachError::Kernel(error) => error.hint(),
            AttachError::NotRoot => Some("run it as root, with sudo for example".into()),
            AttachError::Absent { path } => Some(format!("create it: mkdir -p {}", path.display())),
            AttachError::Unusable { .. } | AttachError::NotDirectory { .. } => {
                Some("choose a path that is, or can become, an empty directory".into())
            }
            AttachError::NotEmpty { path } => Some(format!(
                "mounting would hide what is in it: move it away, or mount elsewhere; ls -A {}",
                path.display()
            )),
            AttachError::AlreadyMounted { path, .. } => {
                Some(format!("unmount it first: umount {}; or mount elsewhere", path.display()))
            }
            AttachError::Table { .. } => Some("check that /proc is mounted".into()),
            AttachError::Runtime { .. } => Some("check the limits on processes and memory".into()),
            AttachError::Mount { source, .. } => mount_hint(source),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            AttachError::Source { .. } => Exit::Usage,
            AttachError::Kernel(error) => error.exit(),
            AttachError::NotRoot => Exit::NotRoot,
            AttachError::Absent { .. }
            | AttachError::Unusable { .. }
            | AttachError::NotDirectory { .. }
            | AttachError::NotEmpty { .. } => Exit::MountPointUnusable,
            AttachError::AlreadyMounted { .. } => Exit::AlreadyMounted,
            AttachError::Table { .. } | AttachError::Runtime { .. } => Exit::Degraded,
            AttachError::Mount { source, .. } => mount_exit(source),
        }
    }
}

/// Why a kernel mount was not put up.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("nothing is mounted on {path:?}, and its source is `external:`")]
    External { path: PathBuf },
    #[error("{program} is not installed")]
    NoHelper { program: &'static str },
    #[error("no EFS file system has the tag Name = {name:?}")]
    NoFileSystem { name: String },
    #[error("{} EFS file systems have the tag Name = {name:?}: {}", .ids.len(), .ids.join(", "))]
    Ambiguous { name: String, ids: Vec<String> },
    #[error("cannot ask for the EFS file system {name:?}: {reason}")]
    Asking { name: String, reason: String },
    #[error("{program} did not end within {} s", HELPER_LIMIT.as_secs())]
    Silent { program: &'static str },
    #[error("{program} failed: {said}")]
    Failed { program: &'static str, said: String },
}

impl Advise for KernelError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            KernelError::External { path } => {
                format!("whoever mounts it has to do so: mount {}, or look at its unit", path.display())
            }
            KernelError::NoHelper { program: "mount.efs" } => "install amazon-efs-utils".to_owned(),
            KernelError::NoHelper { .. } => "install nfs-utils (Debian: nfs-common)".to_owned(),
            KernelError::NoFileSystem { .. } => "check the name and the region".to_owned(),
            KernelError::Ambiguous { .. } => "name the one that is meant by its id: efs://fs-...".to_owned(),
            KernelError::Asking { .. } => {
                "allow elasticfilesystem:DescribeFileSystems to this instance, or use the id: efs://fs-..."
                    .to_owned()
            }
            KernelError::Silent { .. } => {
                "check that port 2049 of the server is open to this host (security group, firewall)"
                    .to_owned()
            }
            KernelError::Failed { .. } => {
                "see what the server exports to this host, and try the same by hand: mount -v".to_owned()
            }
        })
    }

    fn exit(&self) -> Exit {
        Exit::MountPointUnusable
    }
}

fn mount_hint(error: &MountError) -> Option<String> {
    match error {
        MountError::Store { source, .. } => store_hint(source),
        MountError::Session(SessionError::NoDevice { .. }) => {
            Some(format!("load the FUSE module (modprobe fuse), and in a container pass --device {DEVICE}"))
        }
        MountError::Session(SessionError::Mount { .. }) => {
            Some("mounting needs CAP_SYS_ADMIN: run it as root outside of an unprivileged container".into())
        }
        MountError::Staging { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
            "let `staging` name a directory that root alone may write to, and so all above it; the default is one: \
             /var/lib/mapkeeper/staging"
                .into(),
        ),
        MountError::Staging { .. } => {
            Some("set `staging` to a directory that can be written, on a disk with room".into())
        }
        MountError::Session(_) | MountError::Task { .. } => None,
    }
}

fn mount_exit(error: &MountError) -> Exit {
    match error {
        MountError::Store { source, .. } => store_exit(source),
        MountError::Session(SessionError::NoDevice { .. }) => Exit::NoFuse,
        MountError::Session(SessionError::Mount { .. }) => Exit::MountPointUnusable,
        MountError::Session(_) | MountError::Task { .. } | MountError::Staging { .. } => Exit::Degraded,
    }
}

/// What cures a store that did not answer as asked.
pub fn store_hint(error: &StoreError) -> Option<String> {
    let hint = match error {
        StoreError::NoBucket { .. } => "check the name of the bucket, its account and its region".to_string(),
        StoreError::Denied { .. } => {
            "allow s3:ListBucket on the bucket and s3:GetObject on its objects".to_string()
        }
        StoreError::Credentials { skew: Some(ClockSkew { server_time }), .. } => match server_time {
            Some(time) => format!("set the clock of this host: the store's says {time}"),
            None => "set the clock of this host".to_string(),
        },
        StoreError::Credentials { .. } => "check the access key and its secret".to_string(),
        StoreError::NoCredentials { reason } => {
            format!("give credentials by a secret, a role, a profile or passwd_file ({reason})")
        }
        StoreError::NoRegion { .. } => {
            "set `region` or AWS_REGION, or see why the instance metadata does not tell it: curl http://169.254.169.254".to_string()
        }
        StoreError::WrongRegion { region: Some(region), .. } => format!("set region = {region:?}"),
        StoreError::WrongRegion { region: None, .. } => "set the bucket's own region".to_string(),
        StoreError::Unreachable { .. } | StoreError::TimedOut(_) => {
            "check the endpoint, the network and the name server".to_string()
        }
        StoreError::Throttled { .. } => "wait, or ask for a higher request rate".to_string(),
        _ => return None,
    };
    Some(hint)
}

fn store_exit(error: &StoreError) -> Exit {
    match error {
        StoreError::NoBucket { .. } | StoreError::WrongRegion { .. } | StoreError::NotFound { .. } => {
            Exit::BucketMissing
        }
        StoreError::Denied { .. } | StoreError::Credentials { .. } | StoreError::NoCredentials { .. } => {
            Exit::CredentialsRefused
        }
        _ => Exit::S3Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;

    #[test]
    fn what_keeps_a_bucket_from_being_mounted_has_a_cure_and_a_code() {
        let cases = [
            (
                StoreError::NoBucket { bucket: "b".into() },
                Exit::BucketMissing,
                "check the name of the bucket",
            ),
            (
                StoreError::Credentials { code: "InvalidAccessKeyId".into(), skew: None },
                Exit::CredentialsRefused,
                "check the access key",
            ),
            (
                StoreError::Credentials {
                    code: "RequestTimeTooSkewed".into(),
                    skew: Some(ClockSkew { server_time: Some("noon".into()) }),
                },
                Exit::CredentialsRefused,
                "set the clock of this host: the store's says noon",
            ),
            (
                StoreError::Unreachable { endpoint: "http://h".into(), reason: "refused".into() },
                Exit::S3Unreachable,
                "check the endpoint",
            ),
            (StoreError::TimedOut(Duration::from_secs(1)), Exit::S3Unreachable, "check the endpoint"),
            (
                StoreError::WrongRegion { bucket: "b".into(), region: Some("eu-west-1".into()) },
                Exit::BucketMissing,
                "set region = \"eu-west-1\"",
            ),
            (
                StoreError::Denied { what: "".into(), code: "AccessDenied".into() },
                Exit::CredentialsRefused,
                "allow s3:ListBucket",
            ),
        ];
        for (source, exit, hint) in cases {
            let text = source.to_string();
            let source = Box::new(MountError::Store { bucket: "s3://b".into(), source });
            let error = AttachError::Mount { origin: "s3://b".into(), path: "/m".into(), source };
            assert_eq!(error.exit(), exit, "{text}");
            assert!(error.hint().unwrap_or_default().starts_with(hint), "{text}: {:?}", error.hint());
            let chain = Chain(&error).to_string();
            assert_eq!(chain, format!("cannot mount \"s3://b\" on \"/m\": cannot list \"s3://b\": {text}"));
        }
    }
}

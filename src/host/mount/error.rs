//! Why a mount was not put up, with the cure and the exit code of each reason.

use std::io;
use std::path::PathBuf;

use super::KernelError;
use crate::config::Refusal;
use crate::error::{Advise, Exit};
use bucketfs::session::DEVICE;
use bucketfs::store::{ClockSkew, StoreError};
use bucketfs::{MountError, SessionError};

/// Why a mount was not put up. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error(transparent)]
    Refused(Refusal),
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
            AttachError::Refused(refusal) => refusal.hint(),
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
            AttachError::Refused(refusal) => refusal.exit(),
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

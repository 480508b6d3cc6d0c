//! A bucket at a directory: put up by a FUSE session of this process, gone on with, and asked past any mount.
//!
//! What must hold: a failed attach leaves nothing behind.

use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_credential_types::provider::SharedCredentialsProvider;
use tokio::runtime::{Handle, Runtime};

use super::error::AttachError;
use super::handover;
use super::point::{MissingDirectory, prepare, resolved};
use crate::aws;
use crate::config::{self, KernelFlags, Source};
use crate::host::credentials::Holder;
use bucketfs::measure;
use bucketfs::store::s3::{Endpoint, S3};
use bucketfs::store::write::{Encryption, NewContent};
use bucketfs::store::{Depth, List, ListStart, ObjectStore, StoreError};
use bucketfs::{
    Defaults, Handover, MountError, OnConflict, Options, ResumeError, SessionError, UnmountError,
    WriteOptions,
};

/// How a mount is put up, beside what the configuration says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    pub missing: MissingDirectory,
    pub flags: KernelFlags,
}

/// A mount that this process serves. Dropping it does not unmount.
pub struct Mounted {
    name: String,
    session: bucketfs::Session,
}

impl Deref for Mounted {
    type Target = bucketfs::Session;

    /// The session that serves it.
    fn deref(&self) -> &bucketfs::Session {
        &self.session
    }
}

impl Mounted {
    /// Unmounts; what is in use disappears from its path at once and ends with its last user.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn unmount(&self) -> Result<(), UnmountError> {
        self.session.unmount().await?;
        handover::let_go(&self.name);
        Ok(())
    }
}

/// Mounts what `spec` says, once the bucket has answered.
///
/// # Errors
///
/// Any [`AttachError`]: nothing is mounted then, and no directory was made by it.
pub async fn attach(
    spec: &config::Mount,
    region: Option<&str>,
    credentials: &Holder,
    how: How,
) -> Result<Mounted, AttachError> {
    let Source::S3 { bucket, prefix } = &spec.source else {
        let (name, source_text) = (spec.name.clone(), spec.source.to_string());
        return Err(AttachError::Source { name, source_text });
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(AttachError::NotRoot);
    }
    let path = resolved(&spec.path)?;
    let made = prepare(&path, how.missing)?;
    let region = spec.region.as_deref().or(region);
    let mut attached = attach_in(region, spec, (bucket, prefix), &path, (credentials, how.flags)).await;
    if let Some(home) = attached.as_ref().err().and_then(AttachError::region_of_bucket) {
        tracing::info!(mount = %spec.name, bucket, region = home, "the bucket lives in another region");
        let home = home.to_string();
        attached = attach_in(Some(&home), spec, (bucket, prefix), &path, (credentials, how.flags)).await;
    }
    match attached {
        Ok(session) => {
            handover::keep(&spec.name, &session);
            measure::watch_mount(&spec.name, session.counted());
            tracing::info!(mount = %spec.name, device = %session.device(), ?path, "mount serves");
            Ok(Mounted { name: spec.name.clone(), session })
        }
        Err(error) => {
            if made {
                // Only ever an empty directory that was made a moment ago.
                let _ = std::fs::remove_dir(&path);
            }
            Err(error)
        }
    }
}

/// Goes on with a session that a process before has left. The bucket is not asked for anything.
///
/// # Errors
///
/// [`ResumeError`]: the mount is there, nobody serves it, and it is to be taken away.
pub async fn resume(
    spec: &config::Mount,
    region: Option<&str>,
    credentials: &Holder,
    flags: KernelFlags,
    handover: Handover,
) -> Result<Mounted, ResumeError> {
    let no_threads =
        |error: AttachError| MountError::Session(SessionError::Handshake { source: io::Error::other(error) });
    let runtime = runtime().map_err(no_threads)?;
    let (bucket, prefix) = match &spec.source {
        Source::S3 { bucket, prefix } => (bucket.as_str(), prefix.as_str()),
        // No session of ours was ever mounted from it, which is what the file system will say.
        _ => ("", ""),
    };
    let region = spec.region.as_deref().or(region);
    let connect = async |known: Option<&str>| {
        let store = connect(known.or(region), spec, bucket, credentials).await;
        store.map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
    };
    let session = bucketfs::resume(connect, handover, options(spec, prefix, flags), runtime).await?;
    let resumed = session.health().resumed;
    measure::watch_mount(&spec.name, session.counted());
    tracing::info!(mount = %spec.name, device = %session.device(), resumed, "mount goes on");
    Ok(Mounted { name: spec.name.clone(), session })
}

/// Mounts a bucket that lives in `region` on the prepared directory `path`.
async fn attach_in(
    region: Option<&str>,
    spec: &config::Mount,
    (bucket, prefix): (&str, &str),
    path: &Path,
    (credentials, flags): (&Holder, KernelFlags),
) -> Result<bucketfs::Session, AttachError> {
    let runtime = runtime()?;
    let mounted = async {
        let store = connect(region, spec, bucket, credentials).await;
        let store = store.map_err(|source| MountError::Store { bucket: spec.source.to_string(), source })?;
        let options = Options { region: store.region(), ..options(spec, prefix, flags) };
        bucketfs::mount(Arc::new(store), path, options, runtime).await
    };
    mounted.await.map_err(|error| AttachError::Mount {
        origin: spec.source.to_string(),
        path: path.to_path_buf(),
        source: Box::new(error),
    })
}

/// The bucket of `spec` in `region`, to be asked past any mount; `None` where its source is no bucket.
///
/// # Errors
///
/// [`StoreError::NoRegion`].
pub async fn store(
    spec: &config::Mount,
    region: Option<&str>,
    credentials: &Holder,
) -> Result<Option<S3>, StoreError> {
    match &spec.source {
        Source::S3 { bucket, .. } => connect(region, spec, bucket, credentials).await.map(Some),
        _ => Ok(None),
    }
}

/// A client of the bucket. Without a region there is none: it would be refused by itself, for ever.
async fn connect(
    region: Option<&str>,
    spec: &config::Mount,
    bucket: &str,
    credentials: &Holder,
) -> Result<S3, StoreError> {
    let sdk = aws::sdk_config(region, spec.profile.as_deref(), Some(credentials.provider())).await;
    if sdk.region().is_none() {
        return Err(StoreError::NoRegion { bucket: bucket.to_string() });
    }
    let sdk = credentials.signs(sdk);
    let endpoint = Endpoint { url: spec.endpoint_url.clone(), path_style: spec.path_style };
    Ok(S3::new(&sdk, &endpoint, bucket).with_new_content(new_content(spec)))
}

/// How what is written is stored: no more is said to the bucket than what is not its own way.
fn new_content(spec: &config::Mount) -> NewContent {
    let encryption = spec.sse.as_ref().map(|sse| Encryption {
        algorithm: sse.algorithm.to_owned(),
        key: sse.key.clone(),
        bucket_key: None,
    });
    NewContent {
        encryption,
        storage_class: Some(spec.storage_class.clone()).filter(|class| class != "STANDARD"),
        acl: Some(spec.acl).filter(|acl| *acl != config::CannedAcl::Private).map(|acl| acl.to_string()),
    }
}

/// Asks the bucket of `spec` for one key, signed with `credentials`: whether they are good for this mount. What is no
/// bucket has nothing to ask.
///
/// # Errors
///
/// What the store said.
pub async fn prove(
    spec: &config::Mount,
    region: Option<&str>,
    credentials: SharedCredentialsProvider,
) -> Result<(), StoreError> {
    let Source::S3 { bucket, prefix } = &spec.source else { return Ok(()) };
    let mut region = spec.region.as_deref().or(region).map(str::to_string);
    let endpoint = Endpoint { url: spec.endpoint_url.clone(), path_style: spec.path_style };
    let one = List { prefix, depth: Depth::Directory, from: ListStart::Start, limit: 1 };
    let mut is_moved = false;
    loop {
        let keys = Some(credentials.clone());
        let sdk = aws::sdk_config(region.as_deref(), spec.profile.as_deref(), keys).await;
        match S3::new(&sdk, &endpoint, bucket).list(one.clone()).await {
            Err(StoreError::WrongRegion { region: Some(home), .. }) if !is_moved => {
                (region, is_moved) = (Some(home), true);
            }
            answer => return answer.map(|_| ()),
        }
    }
}

fn options(spec: &config::Mount, prefix: &str, flags: KernelFlags) -> Options {
    Options {
        source: spec.source.to_string(),
        prefix: prefix.to_string(),
        read_only: spec.read_only,
        no_exec: flags.no_exec,
        no_symlink_follow: flags.no_symlink_follow,
        suid: spec.suid,
        endpoint: spec.endpoint_url.clone(),
        region: None,
        resend: spec.resend,
        freshness: spec.freshness,
        max_stale: spec.max_stale,
        defaults: defaults(spec),
        memory: spec.memory,
        write: WriteOptions {
            staging: spec.staging.clone(),
            on_conflict: match spec.on_conflict {
                config::OnConflict::Fail => OnConflict::Fail,
                config::OnConflict::Overwrite => OnConflict::Overwrite,
            },
            remove_hidden: spec.remove_hidden,
        },
    }
}

/// Owner and mode of what has no headers that say them.
pub fn defaults(spec: &config::Mount) -> Defaults {
    Defaults {
        uid: spec.uid,
        gid: spec.gid,
        file_permissions: (spec.file_mode & 0o7777) as u16,
        directory_permissions: (spec.dir_mode & 0o7777) as u16,
    }
}

/// The runtime of all file systems of this process: the agent's own has one thread and must not wait for them.
fn runtime() -> Result<Handle, AttachError> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let built = tokio::runtime::Builder::new_multi_thread().thread_name("fs").enable_all().build();
    let built = built.map_err(|source| AttachError::Runtime { source })?;
    Ok(RUNTIME.get_or_init(|| built).handle().clone())
}

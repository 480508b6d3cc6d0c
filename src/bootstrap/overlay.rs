//! The overlay: files from a bucket or a directory, put in place together, and commands afterwards.
//!
//! ```text
//!   manifest.toml --> every file that differs: fetched, checksum, staged beside its place --one is wrong--> nothing
//!                                                                   |                                       changed
//!                                                 all renamed; one fails --> those before it are put back
//!                                                                   |
//!                                                     commands, in order; an essential one that fails ends the boot
//! ```
//!
//! What must hold: a host has all files of one manifest or those it had before; a file whose checksum is not the
//! manifest's never reaches its place; a second run changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::TryStreamExt;
use nix::unistd::{Group, User};
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::time::timeout;

use super::error::BootstrapError;
use super::file::{Attributes, Change, below, beside, stage, sync_directory};
use super::manifest::{self, Manifest, OverlayFile, Step, When};
use super::step::{Done, HostRoot};
use crate::aws;
use crate::config::{Config, Overlay};
use bucketfs::store::s3::{Endpoint, S3};
use bucketfs::store::{Condition, Fetch, Fetched, ObjectStore};

const MANIFEST: &str = "manifest.toml";
/// Largest file of an overlay.
const FILE_BYTES: u64 = 256 << 20;
/// Where commands that are run once are remembered.
const ONCE: &str = "/var/lib/mapkeeper/once";

/// Where the files are.
pub(super) enum OverlaySource {
    Bucket { store: Box<S3>, prefix: String },
    Directory(PathBuf),
}

impl OverlaySource {
    pub(super) async fn of(overlay: &Overlay, config: &Config) -> OverlaySource {
        match overlay {
            Overlay::Directory(path) => OverlaySource::Directory(path.clone()),
            Overlay::Bucket { bucket, prefix } => {
                let store = Box::new(bucket_of(bucket, config.region.as_deref()).await);
                OverlaySource::Bucket { store, prefix: prefix.clone() }
            }
        }
    }

    /// The whole content of one file.
    async fn read(&self, key: &str, version: Option<&str>) -> Result<Vec<u8>, String> {
        match self {
            OverlaySource::Bucket { store, prefix } => {
                read_object(store, &format!("{prefix}{key}"), version).await
            }
            OverlaySource::Directory(directory) => {
                let path = directory.join(key);
                let read = tokio::task::spawn_blocking(move || fs::read(path));
                // It may be on a mount that hangs.
                match timeout(Duration::from_secs(60), read).await {
                    Ok(Ok(read)) => read.map_err(|error| error.to_string()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer within 60 s".to_owned()),
                }
            }
        }
    }
}

/// A bucket as the environment says where S3 is.
pub(super) async fn bucket_of(bucket: &str, region: Option<&str>) -> S3 {
    let sdk = aws::sdk_config(region, None, None).await;
    let named = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
    let url = named("AWS_ENDPOINT_URL_S3").or_else(|| named("AWS_ENDPOINT_URL"));
    S3::new(&sdk, &Endpoint { path_style: url.is_some(), url }, bucket)
}

pub(super) async fn read_object(store: &S3, key: &str, version: Option<&str>) -> Result<Vec<u8>, String> {
    let fetch = Fetch { key, range: None, condition: Condition::Always, version_id: version };
    let Fetched::Content { mut body, .. } = store.fetch(fetch).await.map_err(|error| error.to_string())?
    else {
        return Err("the store says that it has not changed, though nothing was known".to_owned());
    };
    let mut content = Vec::new();
    while let Some(chunk) = body.try_next().await.map_err(|error| error.to_string())? {
        content.extend_from_slice(&chunk);
        if content.len() as u64 > FILE_BYTES {
            return Err(format!("larger than {FILE_BYTES} bytes"));
        }
    }
    Ok(content)
}

/// Puts all files of the overlay in place and runs its commands.
pub(super) async fn apply(
    source: &OverlaySource,
    version: Option<&str>,
    place: &HostRoot,
) -> Result<Vec<Done>, BootstrapError> {
    let unreadable = |reason| BootstrapError::Overlay { file: MANIFEST.to_owned(), reason };
    let text = source.read(MANIFEST, version).await.map_err(unreadable)?;
    let text = String::from_utf8(text).map_err(|error| unreadable(error.to_string()))?;
    let manifest = manifest::parse(&text).map_err(|faults| BootstrapError::Manifest { faults })?;
    let mut done = put_in_place(source, &manifest, place).await?;
    for step in &manifest.commands {
        done.push(run(step, place).await?);
    }
    Ok(done)
}

/// A file that waits beside its place.
struct Staged {
    path: PathBuf,
    new: PathBuf,
}

async fn put_in_place(
    source: &OverlaySource,
    manifest: &Manifest,
    place: &HostRoot,
) -> Result<Vec<Done>, BootstrapError> {
    let (mut done, mut staged) = (Vec::new(), Vec::new());
    for file in &manifest.files {
        let what = file.path.display().to_string();
        match stage_one(source, file, place).await {
            Ok(Some(one)) => {
                staged.push(one);
                done.push(Done { what, change: Change::Made });
            }
            Ok(None) => done.push(Done { what, change: Change::None }),
            Err(reason) => {
                discard(&staged);
                return Err(BootstrapError::Overlay { file: what, reason });
            }
        }
    }
    commit(&staged).map_err(|(path, source)| BootstrapError::Write { path, source })?;
    Ok(done)
}

/// Fetches and stages a file; `None` where it is right already.
async fn stage_one(
    source: &OverlaySource,
    file: &OverlayFile,
    place: &HostRoot,
) -> Result<Option<Staged>, String> {
    let attributes =
        Attributes { mode: file.bits().ok_or("its mode is not octal")?, owner: Some(owner(&file.owner)?) };
    let path = below(&place.root, &file.path);
    let wanted = file.sha256.to_ascii_lowercase();
    // What is there already need not be fetched.
    let there = fs::read(&path).ok().filter(|content| sum(content) == wanted);
    let content = match there {
        Some(content) => content,
        None => {
            let content = source.read(&file.key(), file.version.as_deref()).await?;
            let found = sum(&content);
            if found != wanted {
                return Err(format!("its sha256 is {found}, the manifest says {wanted}"));
            }
            content
        }
    };
    let io = |error: io::Error| error.to_string();
    if super::file::is_right(&path, &content, attributes).map_err(io)? {
        return Ok(None);
    }
    let new = stage(&path, &content, attributes).map_err(io)?;
    Ok(Some(Staged { path, new }))
}

fn discard(staged: &[Staged]) {
    for one in staged {
        // Whatever stays is overwritten by the next run.
        let _ = fs::remove_file(&one.new);
    }
}

/// Renames all, or puts back what was renamed before one failed.
fn commit(staged: &[Staged]) -> Result<(), (PathBuf, io::Error)> {
    for (number, one) in staged.iter().enumerate() {
        if let Err(error) = replace(one) {
            for earlier in staged[..number].iter().rev() {
                put_back(earlier);
            }
            discard(staged);
            return Err((one.path.clone(), error));
        }
    }
    for one in staged {
        let _ = fs::remove_file(beside(&one.path, "old"));
        let _ = sync_directory(&one.path);
    }
    Ok(())
}

fn replace(one: &Staged) -> io::Result<()> {
    let old = beside(&one.path, "old");
    let _ = fs::remove_file(&old);
    match fs::hard_link(&one.path, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&one.new, &one.path)
}

fn put_back(one: &Staged) {
    let old = beside(&one.path, "old");
    // What was not there before goes away again.
    let outcome = if old.exists() { fs::rename(&old, &one.path) } else { fs::remove_file(&one.path) };
    if let Err(error) = outcome {
        tracing::error!(path = %one.path.display(), %error, "cannot put a file back");
    }
}

fn sum(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `user:group` as numbers.
fn owner(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').ok_or_else(|| format!("owner {text:?} is not user:group"))?;
    let named_user = || User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
    let named_group = || Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
    let uid = user.parse().ok().or_else(named_user);
    let gid = group.parse().ok().or_else(named_group);
    Ok((
        uid.ok_or_else(|| format!("this host has no user {user:?}"))?,
        gid.ok_or_else(|| format!("this host has no group {group:?}"))?,
    ))
}

/// Runs one command, unless it was to be run once and has been.
async fn run(step: &Step, place: &HostRoot) -> Result<Done, BootstrapError> {
    let what = format!("command {:?}", step.name);
    let mark = below(&place.root, Path::new(ONCE)).join(sum(step.run.join("\0").as_bytes()));
    if step.when == When::Once && mark.exists() {
        return Ok(Done { what, change: Change::None });
    }
    match execute(step).await {
        Ok(()) => {
            if step.when == When::Once {
                let attributes = Attributes { mode: 0o644, owner: None };
                let name = format!("{}\n", step.name);
                super::file::put(&mark, name.as_bytes(), attributes)
                    .map_err(|source| BootstrapError::Write { path: mark, source })?;
            }
            Ok(Done { what, change: Change::Made })
        }
        Err(reason) if step.essential => Err(BootstrapError::Command { name: step.name.clone(), reason }),
        Err(reason) => {
            tracing::warn!(command = %step.name, reason, "a command that is not essential failed");
            Ok(Done { what: format!("{what} failed and is not essential: {reason}"), change: Change::Made })
        }
    }
}

async fn execute(step: &Step) -> Result<(), String> {
    let (program, arguments) = step.run.split_first().ok_or("it has no program")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    let limit = step.limit().ok_or("its timeout has no unit")?;
    let output = match timeout(limit, command.output()).await {
        Err(_) => return Err(format!("it did not end within {} s", limit.as_secs())),
        Ok(output) => output.map_err(|error| error.to_string())?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let last: String = last.chars().take(200).collect();
    Err(format!("{}{}{last}", output.status, if last.is_empty() { "" } else { ": " }))
}

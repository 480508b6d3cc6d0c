//! `mapkeeper mount` and its form for mount(8), `mount.mapkeeper`.
//!
//! ```text
//!   mount            starts `mount --supervised`, and another should it be killed; ends with the last one's code
//!   mount --supervised  attach, or go on with what was left -> serve -> SIGTERM, SIGINT: unmount -> 0
//!                                                                    -> unmounted by somebody    -> 0
//!                                                                    -> SIGUSR1: leave it to the next one
//!   mount.mapkeeper  starts `mount` as a process of its own, waits for its word, returns its code
//! ```
//!
//! What must hold: the helper returns 0 only when the mount serves; whatever a failed start says reaches the
//! terminal of whoever mounted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::arguments::{HelperArguments, MountArguments};
use super::ended::ended;
use crate::agent::stop_on_signals;
use crate::config::{CredentialsChoice, MountRequest, Source};
use crate::error::{Advise, Chain, Exit, Failed, report};
use crate::host::credentials::{CredentialsError, Holder, keep_out_of_core_dumps};
use crate::host::mount::{AttachError, How, MissingDirectory, Mounted, attach, handover, resume};
use crate::host::systemd;
use crate::supervisor::{self, supervise};
use bucketfs::{Handover, UnmountError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the serving process writes to its helper when the mount serves.
const WORD: &[u8] = b"serving";
/// Most descriptors that are asked for: some engines allow a thousand million, which makes programs slow that close each.
const FILES_MAX: u64 = 1 << 20;

/// Why `mount` ended with an error that no other part has a word for.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountCommandError {
    #[error(transparent)]
    Unmount(UnmountError),
    #[error("cannot wait for signals")]
    Signals { source: io::Error },
    #[error("cannot start the process that serves the mount")]
    Serve { source: io::Error },
}

impl Advise for MountCommandError {
    fn hint(&self) -> Option<String> {
        match self {
            MountCommandError::Unmount(error) => {
                Some(format!("unmount it by hand: umount -l {}", error.path.display()))
            }
            MountCommandError::Signals { .. } | MountCommandError::Serve { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

/// Mounts and serves until it is told to stop, or until somebody has unmounted.
///
/// # Errors
///
/// Whatever keeps the bucket from being mounted, or from being unmounted at the end.
pub(super) async fn foreground(arguments: &MountArguments) -> Result<(), Failed> {
    let request = MountRequest::parse(&arguments.source, &arguments.directory, &arguments.options)?;
    for remark in &request.remarks {
        tracing::warn!("{remark}");
    }
    prepare_process();
    let mut left = handover::left();
    let mut orders = stop_on_signals().map_err(|source| MountCommandError::Signals { source })?;
    let mount = &request.mount;
    let credentials = holder(&request).await?;
    let mounted = match left.take(&mount.name) {
        Some(left) => resumed(&request, &credentials, left).await?,
        None => attached(&request, &credentials).await?,
    };
    if let Some(helper) = arguments.ready_fd {
        tell(helper);
    }
    systemd::ready();
    // Both arms are cancel-safe: they only wait.
    tokio::select! {
        _ = orders.stop.wait_for(|stop| *stop) => {}
        () = mounted.ended() => tracing::info!(mount = %mount.name, "unmounted by somebody else"),
    }
    if orders.replace() {
        mounted.leave().await;
        return Ok(());
    }
    systemd::stopping();
    mounted.unmount().await.map_err(MountCommandError::Unmount)?;
    Ok(())
}

async fn attached(request: &MountRequest, credentials: &Holder) -> Result<Mounted, AttachError> {
    let how = How { missing: MissingDirectory::Refuse, flags: request.flags };
    attach(&request.mount, request.mount.region.as_deref(), credentials, how).await
}

/// Goes on with what a process before has left; if that cannot be, mounts anew.
async fn resumed(
    request: &MountRequest,
    credentials: &Holder,
    left: Handover,
) -> Result<Mounted, AttachError> {
    let mount = &request.mount;
    match resume(mount, mount.region.as_deref(), credentials, request.flags, left).await {
        Ok(mounted) => Ok(mounted),
        Err(error) => {
            tracing::warn!(mount = %mount.name, error = %Chain(&error), "cannot go on with the mount: mounting anew");
            handover::end(&mount.name, &mount.path);
            attached(request, credentials).await
        }
    }
}

/// Has the mount served by a process of its own, and by another should that one end before its time.
pub(super) fn supervised(arguments: &MountArguments) -> Exit {
    let word = OsString::from;
    let mut words =
        vec![word("mount"), word(&arguments.source), arguments.directory.clone().into_os_string()];
    for option in &arguments.options {
        words.extend([word("-o"), word(option)]);
    }
    words.push(word("--supervised"));
    // SAFETY: the helper has opened this descriptor for us and said its number; nothing else knows it.
    let helper = arguments.ready_fd.and_then(|number| unsafe { supervisor::given(number) });
    if let Some(helper) = &helper {
        words.extend([word("--ready-fd"), word(&helper.as_raw_fd().to_string())]);
    }
    run_supervised(&words, helper)
}

/// Has a command run under a supervisor.
pub(super) fn run_supervised(words: &[OsString], given: Option<OwnedFd>) -> Exit {
    let program = std::env::current_exe();
    let supervised = program.and_then(|program| supervise(&program, words, given));
    ended(supervised.map_err(|source| MountCommandError::Serve { source }))
}

/// What holds of a process that mounts: keys are in its memory, and many files may be open in it.
pub(super) fn prepare_process() {
    if let Err(error) = keep_out_of_core_dumps() {
        tracing::warn!(%error, "a core dump of this process may hold keys");
    }
    // systemd and login shells give 1,024, and allow more to whoever asks.
    let files = Resource::RLIMIT_NOFILE;
    let raised =
        getrlimit(files).and_then(|(soft, hard)| setrlimit(files, hard.min(FILES_MAX).max(soft), hard));
    if let Err(errno) = raised {
        tracing::warn!(error = %errno, "the limit of open files stays as it was");
    }
}

async fn holder(request: &MountRequest) -> Result<Holder, CredentialsError> {
    let mount = &request.mount;
    match &request.credentials {
        CredentialsChoice::PasswdFile(path) => {
            let bucket = match &mount.source {
                Source::S3 { bucket, .. } => bucket.as_str(),
                // Refused when it is mounted.
                _ => "",
            };
            Holder::passwd_file(path, bucket)
        }
        CredentialsChoice::DefaultChain => {
            Holder::default_chain(mount.profile.as_deref(), mount.region.as_deref()).await
        }
    }
}

/// Gives the helper its word and lets go of its terminal, so that whoever reads the helper's output sees its end.
fn tell(helper: RawFd) {
    // SAFETY: the helper has opened this descriptor for us and said its number; nothing else knows it.
    let mut pipe = File::from(unsafe { OwnedFd::from_raw_fd(helper) });
    if pipe.write_all(WORD).is_err() {
        tracing::warn!("who asked for this mount has gone away");
    }
    supervisor::let_go_of_terminal();
}

/// Does what mount(8) asks: returns when the mount serves, and leaves a process behind that serves it.
pub fn helper(arguments: &HelperArguments) -> Exit {
    let MountArguments { source, directory, options, .. } = &arguments.mount;
    let request = MountRequest::parse(source, directory, options);
    match request {
        Err(error) if !arguments.sloppy => {
            eprint!("{}", report(&error));
            return error.exit();
        }
        _ if arguments.fake => return Exit::Success,
        _ => {}
    }
    ended(serve_apart(source, directory, options).map_err(|source| MountCommandError::Serve { source }))
}

/// Starts `mapkeeper mount` in a session of its own and waits for its word, or for its end.
fn serve_apart(source: &str, directory: &Path, options: &[String]) -> io::Result<Exit> {
    let (mut word, pipe) = io::pipe()?;
    let number = pipe.as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mapkeeper").arg("mount").arg(source).arg(directory).stdin(Stdio::null());
    for option in options {
        command.arg("-o").arg(option);
    }
    command.arg("--ready-fd").arg(number.to_string());
    // SAFETY: between fork and exec only async-signal-safe calls are made: setsid and fcntl.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            if libc::fcntl(number, libc::F_SETFD, 0) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    drop(pipe);
    let mut said = Vec::new();
    word.read_to_end(&mut said)?;
    if said == WORD {
        return Ok(Exit::Success);
    }
    // It has said on our standard error what was wrong.
    let code = child.wait()?.code().unwrap_or(1);
    Ok(Exit::of(u8::try_from(code).unwrap_or(1)).unwrap_or(Exit::Degraded))
}

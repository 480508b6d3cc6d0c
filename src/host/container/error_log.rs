//! The error log of MapServer that is missing in a container of ours: made where the container's environment says.
//!
//! What must hold: no answer of a service names a path here, only `MS_ERRORFILE` in the environment that the container
//! was made with. The file is made in the container, by a shell of its own, with no right that its root has not. Every
//! directory on the way is root's alone, so that nobody in there can put a link in its place between a look and a deed.
//! Nothing that exists is touched, and nothing below what is mounted there: that is the host's, or the bucket's.

use std::path::{Component, Path};

use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures::StreamExt;

use super::engine::Engine;
use super::error::ContainerError;
use super::facts::Facts;
use crate::config;
use bucketfs::mountinfo::MountTable;

/// `$1` is the path, `$2` the user of the image, if it names one; else MapServer's process says who it is, else any that
/// is not root's. The owner is told by name or number; nobody else reads the log or writes to it.
const SCRIPT: &str = r#"
set -eu
refuse() { echo "$*" >&2; exit 1; }
closed() { [ -n "$(find "$1" -prune -type d -user 0 ! -perm -20 ! -perm -2 -print)" ] || refuse "$1 is not a directory of root's alone"; }
rest=${1#/} file='' owner=$2
closed /
while [ "$rest" != "${rest#*/}" ]; do
    file=$file/${rest%%/*} rest=${rest#*/}
    [ -e "$file" ] || [ -L "$file" ] || mkdir -m 755 "$file"
    closed "$file"
done
file=$file/$rest
! [ -e "$file" ] && ! [ -L "$file" ] || refuse "it exists"
[ -n "$owner" ] || for process in /proc/[0-9]*; do
    user=0 group=0
    while read -r key _ number _; do
        case $key in Uid:) user=$number ;; Gid:) group=$number ;; esac
    done 2>/dev/null <"$process/status" || continue
    [ "$user" != 0 ] || continue
    owner=$user:$group
    case $(cat "$process/comm" 2>/dev/null) in mapserv*) break ;; esac
done
umask 077
set -C
: >"$file"
{ chown -- "${owner:-0}" "$file" && chmod 640 "$file"; } || { rm -f -- "$file"; exit 1; }
"#;

/// Whether `path` is absolute and leads straight down.
fn is_plain(path: &str) -> bool {
    let mut parts = Path::new(path).components().skip(1);
    // With as many slashes as parts, none is `.`, and none is doubled or at the end.
    let slashes = path.matches('/').count();
    path.starts_with('/')
        && path.len() > 1
        && parts.clone().count() == slashes
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.contains(char::is_control)
}

impl Engine {
    /// Makes the error log that the environment of a container of ours names, for the user that MapServer runs as.
    ///
    /// # Errors
    ///
    /// [`ContainerError::NotMade`] where nothing names one, where it exists, where it is below a mount or a directory
    /// that is not root's alone, or the container has no shell, or refuses; else what Docker says.
    pub async fn make_error_log(&self, wanted: &config::Container) -> Result<(), ContainerError> {
        let facts = self.ours(wanted).await?;
        let path = facts.error_log.clone().unwrap_or_default();
        let not_made = |why: &str| ContainerError::NotMade { path: path.clone(), why: why.to_owned() };
        if !is_plain(&path) {
            return Err(not_made("MS_ERRORFILE of the container names no file by an absolute path"));
        }
        if lies_below_a_mount(&facts, &path) != Some(false) {
            return Err(not_made("it is below something that is mounted there"));
        }
        let refused = |error| ContainerError::refused("make a file in", wanted, error);
        // The path is an argument, never a part of the script.
        let exec = ExecConfig {
            cmd: Some(["sh", "-c", SCRIPT, "sh", &path, &facts.user].map(str::to_owned).to_vec()),
            user: Some("0".to_owned()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let made = self.docker.create_exec(&facts.seen.id, exec).await.map_err(refused)?;
        let mut said = String::new();
        if let StartExecResults::Attached { mut output, .. } =
            self.docker.start_exec(&made.id, None).await.map_err(refused)?
        {
            while let Some(line) = output.next().await {
                said.push_str(&line.map_err(refused)?.to_string());
            }
        }
        match self.docker.inspect_exec(&made.id).await.map_err(refused)?.exit_code {
            Some(0) => Ok(()),
            code => Err(not_made(&format!("code {}: {}", code.unwrap_or(-1), said.trim()))),
        }
    }
}

/// Whether something is mounted in the container at `path` or above it, its root aside; `None`: it cannot be told.
fn lies_below_a_mount(facts: &Facts, path: &str) -> Option<bool> {
    let table = MountTable::of(Some(facts.seen.pid?)).ok()?;
    let mut places =
        table.0.iter().map(|entry| entry.path.as_path()).filter(|place| *place != Path::new("/"));
    Some(places.any(|place| Path::new(path).starts_with(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_leads_straight_down_is_an_error_log() {
        for path in ["/log", "/var/log/ms_error.log", "/a b/$(c)"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "stderr",
            "stdout",
            "windowsdebug",
            "/",
            "//log",
            "/var/log/",
            "var/log",
            "/x/../data/secret",
            "/var/./log",
            "/var//log",
            "/..",
            "/var/log\n/x",
        ] {
            assert!(!is_plain(path), "{path:?}");
        }
    }
}

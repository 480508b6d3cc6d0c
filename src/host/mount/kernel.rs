//! Mounts that the kernel serves by itself: NFS and EFS through their own helpers, and what somebody else mounts.
//!
//! What must hold: they are supervised like a bucket, by probes from outside, and repaired by the same ladder; one
//! that is `external:` is looked at and never touched; no option is taken from anywhere but the configuration. They
//! outlive the agent: nothing of them is in its process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::timeout;

use super::efs::file_system_id;
use super::error::{AttachError, HELPER_LIMIT, KernelError};
use super::point::{MissingDirectory, prepare, resolved};
use crate::aws;
use crate::config::{self, Source};
use bucketfs::mountinfo::Entry;

/// What AWS recommends for EFS; the best choice for any other NFS 4 server as well.
const NFS_OPTIONS: &str = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2";
/// What AWS recommends besides, for its own servers: others refuse a port that is not privileged unless told otherwise.
const AWS_OPTIONS: &str = ",noresvport";

/// A call of a helper of mount(8). Past mount(8) itself, which wants to set its own user before it calls one: our unit
/// forbids that.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    helper: &'static str,
    arguments: Vec<String>,
}

/// Whether the kernel serves this source.
pub fn is_kernel(source: &Source) -> bool {
    !matches!(source, Source::S3 { .. })
}

/// Whether what is mounted is what `source` says.
pub fn shows(source: &Source, entry: &Entry) -> bool {
    let is_nfs = entry.fs_type.starts_with("nfs");
    match source {
        Source::S3 { .. } => false,
        Source::External => true,
        Source::Nfs { host, export } => {
            is_nfs && entry.source.trim_end_matches('/') == format!("{host}:{export}").trim_end_matches('/')
        }
        // Its helper puts a tunnel between: the source is that of the tunnel.
        Source::Efs { .. } => is_nfs,
    }
}

/// How `spec` is mounted on `path`; `None`: not by us.
fn call(spec: &config::Mount, path: &Path, region: Option<&str>) -> Option<Call> {
    let access = if spec.read_only { "ro" } else { "rw" };
    let (helper, options, source) = match &spec.source {
        Source::S3 { .. } | Source::External => return None,
        Source::Nfs { host, export } => {
            let more = if host.ends_with(".amazonaws.com") { AWS_OPTIONS } else { "" };
            let options = format!("{access},nosuid,nodev,{NFS_OPTIONS}{more}");
            ("mount.nfs4", options, format!("{host}:{export}"))
        }
        Source::Efs { id, path } => {
            let region = spec.region.as_deref().or(region);
            let region = region.map_or(String::new(), |region| format!(",region={region}"));
            ("mount.efs", format!("{access},nosuid,nodev,tls{region}"), format!("{id}:{path}"))
        }
    };
    let arguments = vec![source, path.to_string_lossy().into_owned(), "-o".to_owned(), options];
    Some(Call { helper, arguments })
}

/// Mounts what `spec` says, if it is ours to mount.
///
/// # Errors
///
/// [`AttachError::Kernel`], or what is wrong with the mount point.
pub async fn attach_kernel(
    spec: &config::Mount,
    region: Option<&str>,
    missing: MissingDirectory,
) -> Result<(), AttachError> {
    let path = resolved(&spec.path)?;
    let found = match &spec.source {
        Source::Efs { id, path } if !id.starts_with("fs-") => {
            let region = spec.region.as_deref().or(region);
            let sdk = aws::sdk_config(region, spec.profile.as_deref(), None).await;
            let id = file_system_id(&sdk, id).await.map_err(AttachError::Kernel)?;
            &config::Mount { source: Source::Efs { id, path: path.clone() }, ..spec.clone() }
        }
        _ => spec,
    };
    let Some(call) = call(found, &path, region) else {
        return Err(AttachError::Kernel(KernelError::External { path }));
    };
    let program = call.helper;
    let Some(helper) = installed(program) else {
        return Err(AttachError::Kernel(KernelError::NoHelper { program }));
    };
    prepare(&path, missing)?;
    run(&helper, &call).await.map_err(AttachError::Kernel)
}

async fn run(helper: &Path, call: &Call) -> Result<(), KernelError> {
    let program = call.helper;
    let mut command = Command::new(helper);
    command.args(&call.arguments).stdin(Stdio::null()).kill_on_drop(true);
    // A helper tries for minutes; the successor of this process starts another.
    // SAFETY: between fork and exec only a system call with plain numbers is made.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
    let output = match timeout(HELPER_LIMIT, command.output()).await {
        Err(_) => return Err(KernelError::Silent { program }),
        Ok(output) => output.map_err(|error| KernelError::Failed { program, said: error.to_string() })?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said =
        said.lines().find(|line| !line.trim().is_empty()).map_or(output.status.to_string(), str::to_owned);
    Err(KernelError::Failed { program, said: said.chars().take(300).collect() })
}

/// Where a helper is: mount(8) looks for them here and nowhere else.
fn installed(helper: &str) -> Option<PathBuf> {
    let places = ["/sbin", "/sbin/fs.d", "/sbin/fs", "/usr/sbin"];
    places.iter().map(|place| Path::new(place).join(helper)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::super::bucket::{How, attach};
    use super::*;
    use crate::error::{Advise, Chain, Exit};
    use crate::host::credentials::{Holder, Secret};
    use bucketfs::mountinfo::Device;

    fn spec(source: &str, more: &str) -> config::Mount {
        let text = format!("[[mount]]\nsource = \"{source}\"\npath = \"/srv/maps\"\n{more}");
        crate::config::tests::config(&text).mounts.remove(0)
    }

    fn words(source: &str, more: &str) -> String {
        call(&spec(source, more), Path::new("/srv/maps"), Some("us-east-1"))
            .expect("ours")
            .arguments
            .join(" ")
    }

    #[test]
    fn nfs_and_efs_are_mounted_by_their_helpers_with_options_of_ours_only() {
        assert_eq!(
            words("nfs://nas.example/export/maps", ""),
            "nas.example:/export/maps /srv/maps -o ro,nosuid,nodev,nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,\
             retrans=2"
        );
        assert!(words("nfs://nas/x", "read_only = false").starts_with("nas:/x /srv/maps -o rw,nosuid"));
        assert!(words("nfs://fs-01.efs.eu-west-1.amazonaws.com/x", "").ends_with(",retrans=2,noresvport"));
        assert_eq!(
            words("efs://fs-0123456789abcdef0/maps", ""),
            "fs-0123456789abcdef0:/maps /srv/maps -o ro,nosuid,nodev,tls,region=us-east-1"
        );
        let elsewhere = words("efs://fs-01", "region = \"eu-west-1\"");
        assert!(elsewhere.starts_with("fs-01:/ ") && elsewhere.ends_with(",region=eu-west-1"), "{elsewhere}");
        assert_eq!(call(&spec("external:", ""), Path::new("/x"), None), None);
    }

    #[test]
    fn what_is_mounted_is_compared_with_what_is_wanted() {
        let entry = |fs_type: &str, source: &str| Entry {
            id: 1,
            parent: 0,
            device: Device { major: 0, minor: 50 },
            root: "/".to_owned(),
            path: "/srv/maps".into(),
            read_only: true,
            fs_type: fs_type.to_owned(),
            source: source.to_owned(),
        };
        for (source, fs_type, from, expected) in [
            ("nfs://nas/maps", "nfs4", "nas:/maps", true),
            ("nfs://nas/maps", "nfs4", "nas:/maps/", true),
            ("nfs://nas/maps", "nfs4", "nas:/other", false),
            ("nfs://nas/maps", "ext4", "nas:/maps", false),
            ("efs://fs-01", "nfs4", "127.0.0.1:/", true),
            ("external:", "tmpfs", "tmpfs", true),
            ("s3://maps", "nfs4", "x", false),
        ] {
            assert_eq!(shows(&spec(source, "").source, &entry(fs_type, from)), expected, "{source} {from}");
        }
    }

    #[tokio::test]
    async fn what_is_external_is_never_mounted_by_us() {
        let error = attach_kernel(&spec("external:", ""), None, MissingDirectory::Create)
            .await
            .expect_err("not ours");
        let expected = "nothing is mounted on \"/srv/maps\", and its source is `external:`";
        assert_eq!(Chain(&error).to_string(), expected);
        assert_eq!(
            error.hint().as_deref(),
            Some("whoever mounts it has to do so: mount /srv/maps, or look at its unit")
        );
    }

    #[tokio::test]
    async fn what_is_no_bucket_is_not_attached_as_one() {
        let how = How { missing: MissingDirectory::Create, flags: Default::default() };
        let keys = Holder::fixed(Secret::new("id".to_owned()), Secret::new("key".to_owned()), None);
        let refused = attach(&spec("nfs://h/x", "name = \"maps\""), None, &keys, how).await.err();
        let refused = refused.expect("no bucket");
        let expected = "mount \"maps\" has source \"nfs://h/x\", and `mapkeeper mount` mounts s3:// only";
        assert_eq!((refused.to_string().as_str(), refused.exit()), (expected, Exit::Usage));
        assert!(refused.hint().is_some());
    }

    #[tokio::test]
    async fn what_a_helper_says_is_passed_on() {
        let arguments = ["-t", "tmpfs", "--", "x", "/nonexistent"].map(str::to_owned).to_vec();
        let call = Call { helper: "mount.x", arguments };
        let error = run(Path::new("/bin/mount"), &call).await.expect_err("no such directory");
        assert!(error.to_string().starts_with("mount.x failed: mount: /nonexistent: "), "{error}");
    }

    #[test]
    fn every_error_has_its_cure() {
        for (error, text, hint) in [
            (
                KernelError::NoHelper { program: "mount.efs" },
                "mount.efs is not installed",
                "install amazon-efs-utils",
            ),
            (
                KernelError::NoHelper { program: "mount.nfs4" },
                "mount.nfs4 is not installed",
                "install nfs-utils",
            ),
            (
                KernelError::Asking { name: "maps".into(), reason: "no route".into() },
                "cannot ask for the EFS file system \"maps\": no route",
                "allow elasticfilesystem:DescribeFileSystems",
            ),
            (
                KernelError::Silent { program: "mount.efs" },
                "mount.efs did not end within 25 s",
                "check that port 2049",
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(error.hint().is_some_and(|found| found.starts_with(hint)));
        }
    }
}

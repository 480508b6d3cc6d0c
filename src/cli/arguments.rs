//! The words of the command line: one structure a command, with the help that people read.
//!
//! The names are a contract (they stand in units, fstab and user data). Nothing is done here.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser};

use crate::config::{ConfigFile, Inputs, quantity};
use bucketfs::mountinfo::Device;

/// What every command takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GlobalArguments {
    /// Directory of the status file and the lock of the agent
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MAPKEEPER_RUNTIME_DIR",
        default_value = "/run/mapkeeper"
    )]
    pub runtime_dir: PathBuf,
}

/// The configuration file of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct FileArguments {
    /// Configuration file [default: /etc/mapkeeper/config.toml]
    #[arg(long, value_name = "FILE", env = "MAPKEEPER_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, above all others: mount[0].freshness=5s; may be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl FileArguments {
    /// The file to read.
    pub fn file(&self) -> ConfigFile {
        self.config.clone().map_or(ConfigFile::Standard, ConfigFile::Named)
    }

    /// Everything that the configuration of this command is made from.
    pub fn inputs(&self) -> Inputs {
        Inputs { file: self.file(), environment: std::env::vars_os().collect(), flags: self.set.clone() }
    }
}

/// `mapkeeper run`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "SIGTERM and SIGINT put everything away; SIGHUP reads the configuration anew; SIGUSR1 leaves all to \
    a successor.\n\nExamples:\n  mapkeeper run --config ./config.toml\n  systemctl start mapkeeper"
)]
pub struct RunArguments {
    #[command(flatten)]
    pub file: FileArguments,
}

/// `mapkeeper bootstrap`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Safe to run at every boot, and by two at once. Exit status: 0 prepared, 64 a wrong \
    configuration, 1 a step failed;\nthen the agent is not started.\n\nExamples:\n  \
    mapkeeper bootstrap --from s3://mapserver-bucket/config.toml\n  mapkeeper bootstrap --from ssm:/maps/config")]
pub struct BootstrapArguments {
    #[command(flatten)]
    pub file: FileArguments,
    /// Where the configuration file comes from: a file, s3://bucket/key or ssm:PARAMETER
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<String>,
    /// Prepare what is below this directory instead of this host
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// `mapkeeper user-data`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "Reads file, environment and flags only. Refuses to print what looks like a secret: everybody \
    on the instance can read user data.\n\nExamples:\n  mapkeeper user-data --config maps.toml >user-data.txt\n  \
    mapkeeper user-data --url https://example.com/mapkeeper --sha256 \"$(sha256sum mapkeeper | cut -d ' ' -f 1)\""
)]
pub struct UserDataArguments {
    #[command(flatten)]
    pub file: FileArguments,
    /// Where the program is, instead of `bootstrap.binary_url`
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Its checksum, instead of `bootstrap.binary_sha256`
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
}

/// `mapkeeper mount`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = MOUNT_HELP)]
pub struct MountArguments {
    /// What to mount: s3://bucket[/prefix], or as s3fs has it: bucket, bucket:/path
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Where to mount it: an empty directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Options, separated by commas; may be given more than once, the last one counts
    #[arg(short = 'o', value_name = "KEY=VALUE,...")]
    pub options: Vec<String>,
    /// Descriptor on which mount.mapkeeper waits for the word that the mount serves
    #[arg(long, hide = true)]
    pub ready_fd: Option<RawFd>,
    /// Somebody keeps the session should this process end
    #[arg(long, hide = true)]
    pub supervised: bool,
}

const MOUNT_HELP: &str = "\
Options:
  Every key of [[mount]] in the configuration: freshness=1s, memory=128MiB, uid=0,
  gid=0, file_mode=0644, dir_mode=0755, max_stale=1h, endpoint_url=URL, path_style,
  region=NAME, profile=NAME, name=NAME, read_only (or ro). A key without a value
  means true. passwd_file=FILE takes the credentials from a file of s3fs; otherwise
  the AWS default chain is asked. Options of s3fs and of mount(8) are understood too.

Examples:
  mapkeeper mount s3://mapserver-bucket/maps /srv/maps -o freshness=5s
  mapkeeper mount mapserver-bucket /srv/maps -o passwd_file=/etc/passwd-s3fs
  mapkeeper mount s3://maps /srv/maps -o endpoint_url=http://127.0.0.1:9000,path_style

It stays in the foreground and unmounts on SIGTERM and SIGINT.";

/// `mapkeeper supervise`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = SUPERVISE_HELP)]
pub struct SuperviseArguments {
    /// A command of mapkeeper with its arguments: run --config FILE
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub words: Vec<OsString>,
}

const SUPERVISE_HELP: &str = "\
It starts the command again when it is killed, and hands it the mounts that its predecessor served.
SIGTERM, SIGINT and SIGHUP end both; SIGUSR1 has the command replaced, by a newer program if there is one.
`mapkeeper mount` does the same by itself, and systemd does it for the service.

Examples:
  mapkeeper supervise run --config /etc/mapkeeper/config.toml";

/// `mapkeeper status`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "Exit status: 0 healthy, 1 degraded or repairing, 2 not running or stale, 64 usage.\n\n\
    Examples:\n  mapkeeper status\n  mapkeeper status --watch\n  mapkeeper status --json | jq .first_fault"
)]
pub struct StatusArguments {
    /// Print the whole status document as JSON
    #[arg(long)]
    pub json: bool,
    /// Show it again whenever it changes, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Look for the outcome of `bootstrap` below this directory
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    pub boot_root: PathBuf,
}

/// `mapkeeper wait`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Exit status: 0 every mount is proven, 21 not in time, 64 usage.\n\n\
    Example, in a unit that must not start before the maps are there:\n  \
    ExecStartPre=/usr/bin/mapkeeper wait --timeout 60s")]
pub struct WaitArguments {
    /// Longest wait, with a unit: 500ms, 60s, 5m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// `mapkeeper pause`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Example, before work on the host:\n  mapkeeper pause --for 1h\n\n\
    A pause outlives the agent and ends at the latest with a reboot.")]
pub struct PauseArguments {
    /// Length of the pause, with a unit: 10m, 1h; without it until `mapkeeper resume`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Option<Duration>,
}

/// `mapkeeper manual`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ManualArguments {
    /// Directory to write them into
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `mapkeeper probe-mount`: what the agent's children do.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ProbeArguments {
    /// Directory to look at
    pub path: PathBuf,
    /// Device that is expected there, as in /proc/self/mountinfo; another one is not listed
    #[arg(long, value_name = "MAJOR:MINOR", value_parser = device)]
    pub expect_device: Option<Device>,
    /// List it as well
    #[arg(long)]
    pub list: bool,
    /// Read it as a file instead
    #[arg(long, conflicts_with_all = ["list", "expect_device"])]
    pub read: bool,
}

/// `mapkeeper doctor`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "Exit status: 0 nothing fails (warnings are allowed), 1 something does, 64 usage.\n\n\
    It changes nothing, and works before the first start and while the agent is down.\n\n\
    Examples:\n  mapkeeper doctor\n  mapkeeper doctor --json | jq '.checks[] | select(.grade != \"ok\")'"
)]
pub struct DoctorArguments {
    #[command(flatten)]
    pub file: FileArguments,
    /// Print the checks as JSON
    #[arg(long)]
    pub json: bool,
}

/// `mapkeeper explain`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = EXPLAIN_HELP)]
pub struct ExplainArguments {
    /// The map: its name in the bucket, s3://bucket/key, a path of the host or the container, or a URL with map=
    #[arg(value_name = "MAP")]
    pub map: String,
    #[command(flatten)]
    pub file: FileArguments,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}

const EXPLAIN_HELP: &str = "\
Exit status: 0 every link is good, 1 one is wrong, 64 usage or a map that no mount shows.

Examples:
  mapkeeper explain island.map
  mapkeeper explain s3://mapserver-bucket/maps/island.map
  mapkeeper explain 'http://maps.example.com/?map=/mapfiles/island.map&SERVICE=WMS&REQUEST=GetCapabilities'";

/// `mapkeeper bundle`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "It holds status, configuration, journal, mounts, containers, versions and what doctor finds. \
    Whatever looks like\na secret is taken out; look through it all the same before you send it.\n\n\
    Examples:\n  mapkeeper bundle\n  mapkeeper bundle --output - | ssh desk tar -t"
)]
pub struct BundleArguments {
    #[command(flatten)]
    pub file: FileArguments,
    /// The file to write, readable by its owner; `-` is standard output [default: mapkeeper-HOST-TIME.tar]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `mapkeeper config check`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Exit status: 0 valid (warnings are allowed), 64 faults; all of them are listed.\n\n\
    Example:\n  mapkeeper config check --config ./config.toml")]
pub struct CheckArguments {
    #[command(flatten)]
    pub file: FileArguments,
    /// Also ask AWS: keys, buckets, rights, the cluster; nothing is changed
    #[arg(long)]
    pub remote: bool,
}

/// `mapkeeper config show`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Example:\n  MAPKEEPER_REGION=eu-west-1 mapkeeper config show --origin")]
pub struct ShowArguments {
    #[command(flatten)]
    pub file: FileArguments,
    /// Say behind each value where it comes from: default, file and line, parameter, tag, environment, --set
    #[arg(long)]
    pub origin: bool,
}

/// `mapkeeper demo`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Example:\n  mapkeeper demo ./maps\n\n\
    Drop a mapfile into the directory: the next request serves it. Ctrl-C leaves nothing behind.")]
pub struct DemoArguments {
    /// Directory that plays the bucket [default: sample data]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Fetch one map, verify it, clean up and exit
    #[arg(long)]
    pub check: bool,
    /// Port of this host at which MapServer answers
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Image of MapServer
    #[arg(long, value_name = "IMAGE", default_value = "mapserver:8")]
    pub image: String,
    /// File that the fetched map is written to
    #[arg(long, value_name = "FILE", default_value = "mapkeeper-demo.png")]
    pub output: PathBuf,
    /// A supervisor has started this process
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// `mount.mapkeeper`, as mount(8) calls it.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "mount.mapkeeper", about = "Mount helper of mount(8): returns when the mount serves")]
pub struct HelperArguments {
    #[command(flatten)]
    pub mount: MountArguments,
    /// Accept options that are not understood (sloppy)
    #[arg(short = 's')]
    pub sloppy: bool,
    /// Check everything and mount nothing (fake)
    #[arg(short = 'f')]
    pub fake: bool,
    /// Leave /etc/mtab alone; nothing writes it anyway
    #[arg(short = 'n')]
    pub no_mtab: bool,
    /// Say more
    #[arg(short = 'v')]
    pub verbose: bool,
    /// Type of the file system, as mount(8) passes it
    #[arg(short = 't', value_name = "TYPE")]
    pub file_system_type: Option<String>,
}

/// Whether the program was started under the name by which mount(8) knows it.
pub fn called_as_helper(program: Option<&OsString>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some(OsStr::new("mount.mapkeeper"))
}

fn device(text: &str) -> Result<Device, String> {
    text.parse().map_err(|()| "expected MAJOR:MINOR".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).map_err(|expected| expected.to_string())
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[derive(Debug, Parser)]
    struct Of<T: Args> {
        #[command(flatten)]
        arguments: T,
    }

    fn parse<T: Args>(words: &[&str]) -> Result<T, clap::Error> {
        let words = std::iter::once("mapkeeper").chain(words.iter().copied());
        Of::<T>::try_parse_from(words).map(|of| of.arguments)
    }

    #[test]
    fn a_mount_collects_its_options() {
        let mount: MountArguments = parse(&["s3://b", "/m", "-o", "ro,uid=1", "-o", "gid=2"]).expect("valid");
        assert_eq!(mount.options, ["ro,uid=1", "gid=2"]);
        assert_eq!((mount.source.as_str(), mount.directory.as_path()), ("s3://b", Path::new("/m")));
        let error = parse::<MountArguments>(&["s3://b"]).expect_err("no directory");
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn the_helper_takes_the_letters_of_mount() {
        let words = ["mount.mapkeeper", "s3://b", "/m", "-sfnv", "-t", "fuse.mapkeeper", "-o", "rw,_netdev"];
        let helper = HelperArguments::try_parse_from(words).expect("valid");
        assert!(helper.sloppy && helper.fake && helper.no_mtab && helper.verbose);
        assert_eq!(helper.file_system_type.as_deref(), Some("fuse.mapkeeper"));
        assert_eq!(helper.mount.options, ["rw,_netdev"]);
    }

    #[test]
    fn the_helper_is_recognised_by_its_name() {
        for (program, expected) in [
            ("mount.mapkeeper", true),
            ("/sbin/mount.mapkeeper", true),
            ("/usr/bin/mapkeeper", false),
            ("", false),
        ] {
            assert_eq!(called_as_helper(Some(&OsString::from(program))), expected, "{program}");
        }
        assert!(!called_as_helper(None));
    }

    #[test]
    fn a_wait_has_a_limit_with_a_unit() {
        assert_eq!(parse::<WaitArguments>(&[]).expect("valid").timeout, Duration::from_secs(60));
        let short: WaitArguments = parse(&["--timeout", "500ms"]).expect("valid");
        assert_eq!(short.timeout, Duration::from_millis(500));
        let error = parse::<WaitArguments>(&["--timeout", "60"]).expect_err("no unit").to_string();
        assert!(error.contains("expected a whole number with a unit"), "{error}");
    }

    #[test]
    fn the_demo_has_a_default_for_everything() {
        let demo: DemoArguments = parse(&[]).expect("valid");
        assert_eq!((demo.directory, demo.check, demo.port), (None, false, 8080));
        let demo: DemoArguments = parse(&["maps", "--check", "--port", "81"]).expect("valid");
        assert_eq!((demo.directory.as_deref(), demo.check, demo.port), (Some(Path::new("maps")), true, 81));
        assert!(parse::<DemoArguments>(&["--port", "0"]).is_err());
    }
}

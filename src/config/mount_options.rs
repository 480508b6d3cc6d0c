//! The options of `mapkeeper mount`: our own, those of mount(8), and those of s3fs.
//!
//! A line of `/etc/fstab` or `rc.local` that was written for s3fs moves over by changing its first word.
//! So every option of s3fs is known: it is taken for ours where we have the same thing, passed over with
//! a remark where it has no meaning here, and refused where passing over it would do harm. The rest goes
//! through the same reader, and meets the same limits, as a configuration file.

mod s3fs;

use std::fmt;
use std::path::{Path, PathBuf};

use super::fault::{ConfigError, Expected, Fault, Faults, Problem};
use super::loaded::Loaded;
use super::model::{Config, Mount};
use super::quantity::{show_duration, show_mode};
use super::redact;
use super::setting::{KEYS, KeyPath, nearest};
use super::source::{Layer, Origin};

/// What `mapkeeper mount SOURCE DIR -o ...` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    pub mount: Mount,
    pub credentials: CredentialsChoice,
    /// Flags of mount(2) beside `nosuid` and `nodev`, which are always set.
    pub flags: KernelFlags,
    /// What was understood differently than written, one line each.
    pub remarks: Vec<Remark>,
}

/// Where the credentials of a single mount come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsChoice {
    /// The AWS default chain, with the profile of the mount.
    DefaultChain,
    /// A file of s3fs.
    PasswdFile(PathBuf),
}

/// Flags of mount(2) that an option asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelFlags {
    /// `MS_NOEXEC`: no program on the mount can be started.
    pub no_exec: bool,
    /// `MS_NOSYMFOLLOW`: symbolic links on the mount are not followed.
    pub no_symlink_follow: bool,
}

/// An option that was understood differently than written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Its name.
    pub option: String,
    /// What became of it: the end of a sentence that starts with the option.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "option `{}` {}", self.option, self.text)
    }
}

/// Options that say nothing to a FUSE file system: for mount(8), for systemd, or always the case.
const SILENT: &str = "_netdev nofail defaults auto noauto nouser owner group nogroup dev nodev atime noatime diratime \
    nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime sync async dirsync \
    silent loud mand nomand iversion noiversion symfollow";

/// Directories of the system in which everybody may make names.
const OF_EVERYBODY: &[&str] = &["/tmp", "/var/tmp", "/dev/shm"];

/// Options that change a mount that is already there.
const OF_OTHER_MOUNTS: &str =
    "remount bind rbind move shared rshared slave rslave private rprivate unbindable runbindable";

impl MountRequest {
    /// Reads the arguments of `mount`; `options` are the values of all `-o`, in order, and of two that
    /// contradict each other the last counts.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Options`] with every fault at once: unknown or refused options, values outside
    /// their limits, a source or a directory that cannot be one.
    pub fn parse(source: &str, directory: &Path, options: &[String]) -> Result<MountRequest, ConfigError> {
        let mut parser = Parser::default();
        parser.source(source);
        parser.directory(directory);
        for option in options.iter().flat_map(|options| split(options)) {
            parser.option(&option);
        }
        parser.finish()
    }
}

/// Splits at commas; `\,` is a comma inside a value.
fn split(options: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in options.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            ',' if !escaped => parts.push(String::new()),
            c => {
                let part = parts.last_mut().expect("starts with one part and only grows");
                if escaped && !matches!(c, ',' | '\\') {
                    part.push('\\');
                }
                part.push(c);
            }
        }
        escaped = false;
    }
    if escaped {
        parts.last_mut().expect("starts with one part and only grows").push('\\');
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[derive(Default)]
struct Parser {
    layer: Layer,
    passwd_file: Option<PathBuf>,
    /// An option asked for the role of the instance or the task: s3fs then ignores its password file.
    role: bool,
    flags: KernelFlags,
    remarks: Vec<Remark>,
    /// The line was written for s3fs, so it may mean something else by `uid` and `gid`.
    from_s3fs: bool,
    owner_options: Vec<String>,
}

impl Parser {
    fn source(&mut self, source: &str) {
        let text = if source.contains("://") || source == "external:" {
            source.to_owned()
        } else {
            self.from_s3fs = true;
            let plain = source.strip_prefix("s3fs#").unwrap_or(source);
            let (bucket, path) = plain.split_once(":/").unwrap_or((plain, ""));
            format!("s3://{bucket}/{path}")
        };
        self.layer.set(mount_key("source"), &text, Origin::Argument { name: "SOURCE" });
    }

    fn directory(&mut self, directory: &Path) {
        let origin = Origin::Argument { name: "DIR" };
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        match absolute.to_str() {
            Some(text) => self.layer.set(mount_key("path"), text, origin),
            None => self.fault(origin, Some(format!("{directory:?}")), Problem::NotText),
        }
    }

    fn option(&mut self, option: &str) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let shown = if redact::names_a_secret(name) && name != "passwd_file" { name } else { option };
        let origin = Origin::Option { text: redact::shown(shown) };
        if is_mount_key(name) {
            return self.own(name, value, origin);
        }
        match (name, value) {
            ("ro", None) => self.layer.set(mount_key("read_only"), "true", origin),
            ("rw", None) => self.layer.set(mount_key("read_only"), "false", origin),
            ("passwd_file", Some(path)) if !path.is_empty() => self.passwd_file = Some(PathBuf::from(path)),
            ("passwd_file", _) => {
                self.expected(origin, Expected::fixed("the path of a file of s3fs credentials"))
            }
            ("nosuid", None) => self.layer.set(mount_key("suid"), "false", origin),
            ("user" | "users", _) | ("noexec", None) => self.flags.no_exec = true,
            ("exec", None) => self.flags.no_exec = false,
            ("nosymfollow", None) => self.flags.no_symlink_follow = true,
            (name, None) if is_among(SILENT, name) => {}
            (name, _) if name.starts_with("x-") || name.starts_with("X-") || name == "comment" => {}
            (name, _) if is_among(OF_OTHER_MOUNTS, name) => {
                let reason = "it changes a mount that exists, unmount and mount again instead";
                self.fault(origin, None, Problem::Unsupported { reason });
            }
            (name, value) => self.of_s3fs(name, value, origin),
        }
    }

    /// A key of the configuration; without a value it means true.
    fn own(&mut self, name: &str, value: Option<&str>, origin: Origin) {
        if matches!(name, "uid" | "gid") {
            self.owner_options.push(name.to_owned());
        }
        self.layer.set(mount_key(name), value.unwrap_or("true"), origin);
    }

    fn of_s3fs(&mut self, name: &str, value: Option<&str>, origin: Origin) {
        let Some(treatment) = s3fs::treatment(name) else {
            let suggestion = nearest(name, known_names()).map(str::to_owned);
            return self.fault(origin, None, Problem::UnknownOption { suggestion });
        };
        self.from_s3fs = true;
        let off = matches!(value, Some("0" | "no"));
        match treatment {
            s3fs::Treatment::SameAs(key) => self.own(key, value, origin),
            s3fs::Treatment::Ignored(reason) => self.remark(name, format!("is ignored: {reason}")),
            s3fs::Treatment::Refused(_) if off => {}
            s3fs::Treatment::Refused(reason) => self.fault(origin, None, Problem::Unsupported { reason }),
            s3fs::Treatment::Umask => self.umask(value, origin),
            s3fs::Treatment::CacheExpiry => self.cache_expiry(value, origin),
            s3fs::Treatment::TemporaryDirectory => self.temporary_directory(value, origin),
            s3fs::Treatment::Encryption | s3fs::Treatment::ReducedRedundancy if off => {}
            s3fs::Treatment::Encryption => self.encryption(value, origin),
            s3fs::Treatment::ReducedRedundancy => {
                self.own("storage_class", Some("REDUCED_REDUNDANCY"), origin)
            }
            s3fs::Treatment::Role => {
                self.role = true;
                let text =
                    "is taken as the AWS default chain, which asks for the role of the instance or task";
                self.remark(name, text.to_owned());
            }
        }
    }

    fn umask(&mut self, value: Option<&str>, origin: Origin) {
        let octal = value.filter(|text| (1..=4).contains(&text.len()) && !text.starts_with('+'));
        let Some(mask) =
            octal.and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|mask| *mask <= 0o777)
        else {
            return self.expected(origin, Expected::fixed(r#"an octal mask such as "0022""#));
        };
        let mode = show_mode(0o777 & !mask);
        self.layer.set(mount_key("file_mode"), &mode, origin.clone());
        self.layer.set(mount_key("dir_mode"), &mode, origin);
        let text = format!(
            "is taken as file_mode={mode},dir_mode={mode}: for objects without s3fs headers, while s3fs shows it for all"
        );
        self.remark("umask", text);
    }

    fn cache_expiry(&mut self, value: Option<&str>, origin: Origin) {
        let digits = value.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let Some(seconds) = digits.and_then(|text| text.parse::<u64>().ok()) else {
            return self.expected(origin, Expected::fixed("a number of seconds"));
        };
        let freshness = show_duration(std::time::Duration::from_secs(seconds.min(3_600)));
        self.layer.set(mount_key("freshness"), &freshness, origin);
        let longest = if seconds > 3_600 { ", the longest there is" } else { "" };
        self.remark("stat_cache_expire", format!("is taken as freshness={freshness}{longest}"));
    }

    /// Files are staged where nobody but root can write: below the directory, or where they are by default if everybody
    /// may put something there first.
    fn temporary_directory(&mut self, value: Option<&str>, origin: Origin) {
        let Some(path) = value.filter(|path| path.starts_with('/')) else {
            return self.own("staging", value, origin);
        };
        let path = path.trim_end_matches('/');
        if OF_EVERYBODY.contains(&path) {
            let text = "is ignored: everybody may write there; `staging` says where files are while they are written";
            return self.remark("tmpdir", text.to_owned());
        }
        let staging = format!("{path}/mapkeeper");
        self.layer.set(mount_key("staging"), &staging, origin);
        self.remark("tmpdir", format!("is taken as staging={staging}, a directory of root's"));
    }

    /// `use_sse`, `use_sse=1`, `use_sse=kmsid:KEY`; anything else is a key of the customer.
    fn encryption(&mut self, value: Option<&str>, origin: Origin) {
        let key = value.and_then(|value| value.strip_prefix("kmsid:").or_else(|| value.strip_prefix("k:")));
        match (value, key) {
            (None | Some("1"), _) => self.own("sse", Some("AES256"), origin),
            (_, Some(key)) => self.own("sse", Some(&format!("aws:kms:{key}")), origin),
            (Some("kmsid" | "k"), _) => self.expected(
                origin,
                Expected::fixed("kmsid:KEY with the key, which is not taken from the variable AWSSSEKMSID"),
            ),
            _ => self.expected(
                origin,
                Expected::fixed(
                    "1 or kmsid:KEY, because keys of the customer (SSE-C) can be used neither to read nor to write: take a key \
                     of KMS",
                ),
            ),
        }
    }

    fn remark(&mut self, option: &str, text: String) {
        self.remarks.push(Remark { option: option.to_owned(), text });
    }

    fn expected(&mut self, origin: Origin, expected: Expected) {
        self.fault(origin, None, expected.into());
    }

    fn fault(&mut self, origin: Origin, found: Option<String>, problem: Problem) {
        self.layer.fault(Fault { origin: Some(origin), key: String::new(), found, problem });
    }

    fn finish(mut self) -> Result<MountRequest, ConfigError> {
        if self.from_s3fs {
            for option in std::mem::take(&mut self.owner_options) {
                let text = "is for objects without s3fs headers, while s3fs shows it for all".to_owned();
                self.remark(&option, text);
            }
        }
        let credentials = match self.passwd_file.take() {
            Some(_) if self.role => {
                self.remark("passwd_file", "is ignored: a role was asked for too".to_owned());
                CredentialsChoice::DefaultChain
            }
            Some(path) => CredentialsChoice::PasswdFile(path),
            None => CredentialsChoice::DefaultChain,
        };
        let loaded = Loaded::from_layers(vec![self.layer]).map_err(|error| match error {
            ConfigError::Faults(Faults(faults)) => ConfigError::Options(Faults(faults)),
            other => other,
        })?;
        let Config { mut mounts, .. } = loaded.config;
        let mount = mounts.pop().expect("source and path were set, so there is one mount");
        Ok(MountRequest { mount, credentials, flags: self.flags, remarks: self.remarks })
    }
}

fn is_among(words: &str, name: &str) -> bool {
    words.split(' ').any(|word| word == name)
}

fn mount_key(name: &str) -> KeyPath {
    KeyPath::default().with("mount").at(0).with(name)
}

fn mount_keys() -> impl Iterator<Item = &'static str> {
    let of_mount = KEYS.iter().filter_map(|key| key.path.strip_prefix("mount[]."));
    of_mount.filter(|name| !matches!(*name, "source" | "path"))
}

fn is_mount_key(name: &str) -> bool {
    mount_keys().any(|known| known == name)
}

fn known_names() -> impl Iterator<Item = &'static str> {
    let ours = mount_keys().chain(["ro", "rw", "passwd_file", "nosuid", "noexec", "exec", "nosymfollow"]);
    ours.chain(s3fs::names()).chain(SILENT.split(' '))
}

#[cfg(test)]
mod tests;

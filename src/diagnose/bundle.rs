//! Everything that somebody else needs to help, in one tar: what is known of the host, without secrets.
//!
//! What must hold: every text passes the redactor before it is written, also what other programs say; the file is
//! readable by its owner alone; what cannot be had is told in its place, and keeps nothing else out.

mod redact;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::ProvideCredentials;
use tokio::time::timeout;

use self::redact::Redactor;
use super::clients::{keys, output};
use super::doctor;
use super::result;
use crate::agent::status;
use crate::bootstrap;
use crate::config::{Config, ConfigError, Loaded, Origins, names_a_secret};
use crate::error::Chain;
use crate::host::container::{Engine, Found, title};
use crate::host::http;
use crate::terminal::Style;

/// Longest wait for another program, and for Docker.
const LIMIT: Duration = Duration::from_secs(15);
/// Lines of the journal.
const JOURNAL_LINES: &str = "5000";
/// Longest file of a bundle: what is beyond is cut, and said so.
const FILE_BYTES: usize = 8 << 20;

/// The files of a bundle, by name, already without secrets.
#[derive(Debug)]
pub struct Bundle(BTreeMap<String, String>);

const README: &str = "\
What is in here, made by `mapkeeper bundle`:

  status.txt status.json   what the agent last said
  doctor.txt               every precondition of the host
  config.toml              the configuration in force, each value with its origin
  journal.txt              the journal of mapkeeper, docker and ecs of this boot
  mountinfo.txt            what is mounted on the host
  inspect/                 what Docker shows of each configured container
  metrics.txt              what was counted, where health.listen is set
  units/                   the units as they are installed
  versions.txt             program, kernel, system, Docker

Secrets were taken out. Look through it all the same before you hand it on.
";

impl Bundle {
    /// Collects everything. `loaded` is the configuration, or why there is none.
    pub async fn collect(loaded: &Result<Loaded, ConfigError>, runtime_dir: &Path) -> Bundle {
        let config = loaded.as_ref().ok().map(|loaded| &loaded.config);
        let (known, inspected) = futures::join!(secrets(config), inspected(config));
        let mut known = known;
        let (shown, of_containers) = inspected;
        known.extend(of_containers);
        let redactor = Redactor::new(known);
        let mut files = BTreeMap::from([("README.txt".to_owned(), README.to_owned())]);
        let (results, journal, versions, metrics) =
            futures::join!(doctor::doctor(loaded, runtime_dir), journal(), versions(), metrics(config));
        files.extend(status_files(runtime_dir));
        files.insert("doctor.txt".to_owned(), result::text(&results, Style::Plain));
        files.insert("config.toml".to_owned(), configuration(loaded));
        files.insert("journal.txt".to_owned(), journal);
        files.insert("versions.txt".to_owned(), versions);
        files.extend(metrics.map(|text| ("metrics.txt".to_owned(), text)));
        files.insert("mountinfo.txt".to_owned(), read("/proc/self/mountinfo"));
        for (path, _) in bootstrap::units() {
            let name = path.trim_start_matches('/').replace('/', "-");
            files.insert(format!("units/{name}"), read(path));
        }
        for (name, mut json) in shown {
            redactor.json(&mut json);
            let name = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
            files.insert(format!("inspect/{name}.json"), format!("{json:#}\n"));
        }
        for text in files.values_mut() {
            *text = redactor.text(text);
            if text.len() > FILE_BYTES {
                let end = (0..=FILE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
                text.truncate(end);
                text.push_str("\n[the rest was cut]\n");
            }
        }
        Bundle(files)
    }

    /// Writes the files as a tar, below a directory called `name`.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&self, name: &str, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for (file, text) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now);
            tar.append_data(&mut header, format!("{name}/{file}"), text.as_bytes())?;
        }
        tar.into_inner()?.flush()
    }
}

/// A name for a bundle of this host: `mapkeeper-HOST-20261121T191645Z`.
pub fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-', "-");
    let now = time::OffsetDateTime::now_utc();
    let (year, month, day) = now.to_calendar_date();
    let (hour, minute, second) = now.to_hms();
    format!("mapkeeper-{host}-{year}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

/// Values that must not be in the bundle wherever they may stand: the keys that are used, and every variable of this
/// process and of the configuration whose name says what it is.
async fn secrets(config: Option<&Config>) -> Vec<String> {
    let own = std::env::vars().filter(|(name, _)| names_a_secret(name)).map(|(_, value)| value);
    let mut known: Vec<String> = own.collect();
    let Some(config) = config else { return known };
    for container in &config.containers {
        let named = container.environment.iter().filter(|(name, _)| names_a_secret(name));
        known.extend(named.map(|(_, value)| value.clone()));
    }
    for mount in &config.mounts {
        let Ok(held) = keys(config, mount).await else { continue };
        if let Ok(keys) = held.provide_credentials().await {
            known.push(keys.access_key_id().to_owned());
            known.push(keys.secret_access_key().to_owned());
            known.extend(keys.session_token().map(str::to_owned));
        }
    }
    known
}

/// What Docker shows of each configured container, and the secrets in their environments.
async fn inspected(config: Option<&Config>) -> (Vec<(String, serde_json::Value)>, Vec<String>) {
    let (mut shown, mut known) = (Vec::new(), Vec::new());
    for container in config.into_iter().flat_map(|config| &config.containers) {
        let name = title(container);
        let asked = async {
            let engine = Engine::connect().await?;
            let Found::Present(facts) = engine.find(container).await? else { return Ok(None) };
            Ok::<_, crate::host::container::ContainerError>(Some((
                engine.shown(&facts.seen.id).await?,
                engine.environment(&facts.seen.id).await?,
            )))
        };
        let told = match timeout(LIMIT, asked).await {
            Ok(Ok(Some((json, environment)))) => {
                known.extend(
                    environment.into_iter().filter(|(name, _)| names_a_secret(name)).map(|(_, value)| value),
                );
                json
            }
            Ok(Ok(None)) => "there is no such container".into(),
            Ok(Err(error)) => Chain(&error).to_string().into(),
            Err(_) => "Docker does not answer".into(),
        };
        shown.push((name, told));
    }
    (shown, known)
}

fn status_files(runtime_dir: &Path) -> Vec<(String, String)> {
    let (text, json) = match status::read(runtime_dir) {
        Ok(report) => (status::render(&report, Style::Plain), format!("{:#}\n", report.json())),
        Err(error) => (crate::error::report(&error), "null\n".to_owned()),
    };
    vec![("status.txt".to_owned(), text), ("status.json".to_owned(), json)]
}

fn configuration(loaded: &Result<Loaded, ConfigError>) -> String {
    match loaded {
        Ok(loaded) => loaded.show(Origins::Shown),
        Err(error) => format!("# {}\n", Chain(error).to_string().replace('\n', "\n# ")),
    }
}

async fn journal() -> String {
    let units = ["-u", "mapkeeper", "-u", "docker", "-u", "ecs"];
    let how = ["--boot", "--no-pager", "--output=short-iso-precise", "--lines", JOURNAL_LINES];
    said("journalctl", &[&units[..], &how[..]].concat()).await
}

async fn versions() -> String {
    let (kernel, docker, systemd) = futures::join!(
        said("uname", &["-a"]),
        said("docker", &["version"]),
        said("systemctl", &["--version"])
    );
    let system = read("/etc/os-release");
    format!("mapkeeper {}\n\n{kernel}\n{system}\n{docker}\n{systemd}", env!("CARGO_PKG_VERSION"))
}

async fn metrics(config: Option<&Config>) -> Option<String> {
    let health = config?.health?;
    let told = match http::get(&format!("http://{}/metrics", health.listen), LIMIT).await {
        Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
        Err(error) => format!("{}\n", Chain(&error)),
    };
    Some(told)
}

/// What another program says, or why it does not.
async fn said(program: &str, arguments: &[&str]) -> String {
    match output(program, arguments, LIMIT).await {
        Ok(Output { stdout, stderr, .. }) => String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(),
        Err(why) => format!("{why}\n"),
    }
}

fn read(path: &str) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_else(|error| format!("cannot read {path}: {error}\n"))
}

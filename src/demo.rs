//! The whole main job on one machine: an S3 server over a directory, the mount, MapServer, the agent.
//!
//! ```text
//!   directory -> S3 server (this process) -> mount (kernel, this process) -> container -> WMS
//!                                    the agent watches and repairs, as in production
//!   start -> first healthy round -> a map is fetched and written -> until the end -> nothing is left
//!      '------ a failure that no retry cures ---------------------------^
//! ```
//!
//! Only what is around the agent is different from `run`: the settings are made here, and at the end the container
//! is removed and not just stopped. What must hold: whatever happens, no mount and no container is left behind.

mod map;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::agent::live::{self, AtStop, Live, LiveError};
use crate::agent::status::{Document, RuntimeDir, RuntimeDirError, Writer};
use crate::agent::{self, Orders, Publisher};
use crate::config::{Config, ConfigError, Layer, Loaded};
use crate::error::{Advise, Exit};
use crate::host::container::{ContainerError, Engine};
use crate::host::credentials::{Holder, Secret};
use crate::host::mount::handover::{self, Sessions};
use ladder::state::{Failure, Health, Settings};
use s3_testbed::{ACCESS_KEY, SECRET_KEY, Server, Store};

pub use map::{MapError, Picture};

/// Where the demo's mount and status live, apart from those of an agent on the same host.
pub const RUNTIME_DIR: &str = "/run/mapkeeper-demo";
/// The bucket that the directory plays.
const BUCKET: &str = "demo";
/// Longest wait for the whole chain to be healthy for the first time.
const START_LIMIT: Duration = Duration::from_secs(90);

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Show {
    /// The directory that plays the bucket.
    pub directory: PathBuf,
    /// Port of this host at which MapServer answers.
    pub port: u16,
    /// Image of MapServer.
    pub image: String,
    /// File that the fetched map is written to.
    pub output: PathBuf,
}

/// What this process has from outside, and another would have as well.
#[derive(Debug)]
pub struct Life {
    /// Sessions that a process before has left, and the socket at which it served the bucket: a mount goes on only with the
    /// bucket that it had.
    pub left: Sessions,
    pub orders: Orders,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("only root can mount and speak to Docker")]
    NotRoot,
    #[error("cannot serve the directory {path:?}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("there is no mapfile in {path:?}")]
    NoMap { path: PathBuf },
    #[error("port {port} is in use")]
    PortTaken { port: u16, source: io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    #[error(transparent)]
    Docker(#[from] ContainerError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("cannot find out who this process is")]
    Process { source: io::Error },
    #[error("{}", .0.error)]
    Failed(Failure),
    #[error("the chain is not healthy after {} s: {found}", .waited.as_secs())]
    TimedOut { waited: Duration, found: String, hint: Option<String> },
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("cannot write {path:?}")]
    Output { path: PathBuf, source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl Advise for DemoError {
    fn hint(&self) -> Option<String> {
        match self {
            DemoError::NotRoot => Some("run it as root, with sudo for example".into()),
            DemoError::Directory { .. } => Some("name a directory that exists".into()),
            DemoError::NoMap { .. } => {
                Some("`make demo` draws sample data; or name a directory with mapfiles in it".into())
            }
            DemoError::PortTaken { port, .. } => {
                Some(format!("free it, or choose another: --port {}", port ^ 1))
            }
            DemoError::Config(error) => error.hint(),
            DemoError::RuntimeDir(error) => error.hint(),
            DemoError::Docker(error) => error.hint(),
            DemoError::Live(error) => error.hint(),
            DemoError::Failed(failure) => failure.hint.clone(),
            DemoError::TimedOut { hint, .. } => hint.clone(),
            DemoError::Map(error) => error.hint(),
            DemoError::Output { .. } => Some("choose another file: --output FILE".into()),
            DemoError::Process { .. } | DemoError::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            DemoError::NotRoot => Exit::NotRoot,
            DemoError::Directory { .. } | DemoError::NoMap { .. } => Exit::Usage,
            DemoError::PortTaken { .. } => Exit::PortTaken,
            DemoError::Config(error) => error.exit(),
            DemoError::RuntimeDir(error) => error.exit(),
            DemoError::Docker(error) => error.exit(),
            DemoError::Live(error) => error.exit(),
            DemoError::Failed(failure) => Exit::of(failure.exit).unwrap_or(Exit::Degraded),
            DemoError::TimedOut { .. } => Exit::TimedOut,
            DemoError::Map(_)
            | DemoError::Output { .. }
            | DemoError::Process { .. }
            | DemoError::Interrupted => Exit::Degraded,
        }
    }
}

/// Plays the whole chain and hands the documents of the agent, and the first map, to `watcher`; ends when that does.
///
/// `watcher` is given the settings, the map that was fetched and the documents to come.
///
/// # Errors
///
/// What keeps the chain from becoming healthy, and what `watcher` returns.
pub async fn play<F>(
    show: &Show,
    life: Life,
    watcher: impl FnOnce(Stage, watch::Receiver<Option<Arc<Document>>>) -> F,
) -> Result<(), DemoError>
where
    F: Future<Output = Result<(), DemoError>>,
{
    if !nix::unistd::geteuid().is_root() {
        return Err(DemoError::NotRoot);
    }
    let directory = show.directory.canonicalize();
    let directory =
        directory.map_err(|source| DemoError::Directory { path: show.directory.clone(), source })?;
    let map = map::first(&directory).ok_or_else(|| DemoError::NoMap { path: directory.clone() })?;
    let Life { mut left, orders } = life;
    let goes_on = !left.is_empty();
    if !goes_on {
        port_is_free(show.port)?;
    }
    Engine::connect().await?.ping().await?;
    let server = bucket(&directory, left.listener())
        .map_err(|source| DemoError::Directory { path: directory.clone(), source })?;
    let config = settings(show, &server.endpoint(), &map)?;

    // The first thing that leaves a trace: whatever is refused above leaves none.
    let runtime_dir = RuntimeDir::claim(Path::new(RUNTIME_DIR))?;
    let host = Live::new(&config, options(&runtime_dir, left, orders.clone()))?;
    let writer = Writer::this().map_err(|source| DemoError::Process { source })?;
    let (publisher, documents) = Publisher::new(Some(runtime_dir));
    let (end, ended) = watch::channel(false);
    let mut stop = orders.stop.clone();
    let script = async {
        let told = async {
            // Cancel-safe: both arms only wait.
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Err(DemoError::Interrupted),
                healthy = first_healthy(documents.clone()) => healthy?,
            }
            let picture = map::fetch(show.port, &map).await?;
            let output = show.output.clone();
            std::fs::write(&output, &picture.bytes)
                .map_err(|source| DemoError::Output { path: output.clone(), source })?;
            watcher(Stage { directory: directory.clone(), picture, output }, documents.clone()).await
        };
        let outcome = told.await;
        end.send_replace(true);
        outcome
    };
    let settings = Settings { workers: host.workers(), ..live::settings(&config) };
    let ((), outcome) = futures::join!(agent::run(&host, &settings, writer, publisher, ended), script);
    drop(server.stop().await);
    // Whatever is mounted there still is left alone, and so is what a process that goes on needs.
    if !orders.replace() && std::fs::remove_dir(mount_path()).is_ok() {
        let _ = std::fs::remove_dir_all(RUNTIME_DIR);
    }
    outcome
}

/// Serves `directory` as the bucket.
fn bucket(directory: &Path, listener: Option<TcpListener>) -> io::Result<Server> {
    let store = Store::directory(BUCKET, directory)?;
    let listener = listener.map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)?;
    handover::keep_listener(&listener);
    Server::start_on(listener, s3_testbed::Options::new(store))
}

/// What the live host needs beside the settings.
fn options(runtime_dir: &RuntimeDir, left: Sessions, orders: Orders) -> live::Options {
    let credentials =
        Holder::fixed(Secret::new(ACCESS_KEY.to_owned()), Secret::new(SECRET_KEY.to_owned()), None);
    live::Options {
        credentials: Some(credentials),
        at_stop: AtStop::Remove,
        runtime_dir: Some(runtime_dir.path().to_owned()),
        left,
        orders: Some(orders),
        ..live::Options::default()
    }
}

/// What has been set up when the watcher is called.
#[derive(Clone, Debug)]
pub struct Stage {
    pub directory: PathBuf,
    pub picture: Picture,
    /// Where the picture was written.
    pub output: PathBuf,
}

fn mount_path() -> PathBuf {
    Path::new(RUNTIME_DIR).join("mapfiles")
}

/// The settings of the demo, read as those of a person are.
fn settings(show: &Show, endpoint: &str, map: &str) -> Result<Config, ConfigError> {
    let (path, port) = (mount_path(), show.port);
    let path = path.display();
    let image = toml_text(&show.image);
    let url = toml_text(&map::capabilities_url(port, map));
    let text = format!(
        r#"
region = "us-east-1"

[[mount]]
name = "mapfiles"
source = "s3://{BUCKET}"
path = "{path}"
freshness = "0s"
endpoint_url = "{endpoint}"

[container]
owner = "mapkeeper"
name = "mapkeeper-demo"
image = {image}
ports = ["{port}:80"]
binds = ["{path}:/mapfiles:ro"]

[container.probe]
url = {url}
interval = "2s"
timeout = "2s"
"#
    );
    let layer = Layer::toml(Path::new("demo"), &text)?;
    Ok(Loaded::from_layers(vec![layer])?.config)
}

/// A string of any characters, as TOML writes it.
fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn port_is_free(port: u16) -> Result<(), DemoError> {
    // Docker publishes on all addresses, so all must be free.
    TcpListener::bind(("0.0.0.0", port)).map(drop).map_err(|source| DemoError::PortTaken { port, source })
}

/// Waits for the first healthy document, or for the first failure: in a demo nobody is there to retry for.
async fn first_healthy(mut documents: watch::Receiver<Option<Arc<Document>>>) -> Result<(), DemoError> {
    let settled = documents.wait_for(|document| {
        document.as_ref().is_some_and(|now| now.health == Health::Healthy || now.last_failure.is_some())
    });
    let settled = timeout(START_LIMIT, settled).await.map(|seen| seen.map(|document| document.clone()));
    match settled {
        Ok(Ok(document)) => match document.and_then(|now| now.last_failure.clone()) {
            Some(failure) => Err(DemoError::Failed(failure)),
            None => Ok(()),
        },
        Ok(Err(_)) => Err(DemoError::Interrupted),
        Err(_) => {
            let document = documents.borrow().clone();
            let fault = document.as_ref().and_then(|now| now.first_fault.clone());
            let found = match &fault {
                Some(fault) => format!("{}: {}", fault.target, fault.cause),
                None => "no fault was found".to_owned(),
            };
            Err(DemoError::TimedOut { waited: START_LIMIT, found, hint: fault.and_then(|fault| fault.hint) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(image: &str) -> Show {
        Show { directory: "/d".into(), port: 8080, image: image.into(), output: "/o.png".into() }
    }

    #[test]
    fn the_settings_are_valid_whatever_the_image_and_the_map_are_called() {
        for (image, map) in [("mapserver:8", "health.map"), ("a\"b\\c", "with blank & more.map")] {
            let config = settings(&show(image), "http://127.0.0.1:1", map).expect("valid");
            assert_eq!(config.containers[0].image.as_deref(), Some(image));
            let probe = config.containers[0].probe.as_ref().expect("probed");
            assert!(probe.url.starts_with("http://127.0.0.1:8080/?map=/mapfiles/"), "{}", probe.url);
            assert_eq!(config.mounts[0].freshness, Duration::ZERO);
        }
    }

    #[test]
    fn a_port_in_use_is_named_before_anything_is_started() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let error = port_is_free(port).expect_err("it is taken");
        assert_eq!(error.to_string(), format!("port {port} is in use"));
        assert_eq!(error.exit(), Exit::PortTaken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_that_never_becomes_healthy_is_given_up() {
        let (_sender, documents) = watch::channel(None);
        let error = first_healthy(documents).await.expect_err("nothing happens");
        assert_eq!(error.to_string(), "the chain is not healthy after 90 s: no fault was found");
        assert_eq!(error.exit(), Exit::TimedOut);
    }
}

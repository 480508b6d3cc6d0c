//! Servers to hold the contract against, and a fresh bucket for every claim.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::rgw::Rgw;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use s3_testbed::{ACCESS_KEY, Options, SECRET_KEY, Server, Store};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Directory,
    Moto,
    /// Ceph's RADOS Gateway.
    Rgw,
}

/// A server under test.
pub struct Running {
    kind: Kind,
    client: Client,
    server: Option<Server>,
    moto: Option<Child>,
    _rgw: Option<Rgw>,
    directory: tempfile::TempDir,
    buckets: AtomicU32,
}

/// What a claim may use.
pub struct World {
    pub s3: Client,
    /// Empty when the claim begins. Over a directory it is always the same one.
    pub bucket: String,
}

/// Python has a lot to read, and the machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(120);
const DIRECTORY_BUCKET: &str = "directory";

/// Signs with the keys of our server, asks once.
pub fn client(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .http_client(http)
        .build();
    Client::from_conf(config)
}

impl Running {
    pub async fn start(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rgw = None;
        let (server, moto, endpoint) = match kind {
            Kind::Memory => {
                let server = Server::start(Options::memory(["unused"])).unwrap();
                let endpoint = server.endpoint();
                (Some(server), None, endpoint)
            }
            Kind::Directory => {
                let store = Store::directory(DIRECTORY_BUCKET, directory.path()).unwrap();
                let server = Server::start(Options::new(store)).unwrap();
                let endpoint = server.endpoint();
                (Some(server), None, endpoint)
            }
            Kind::Moto => {
                let (moto, address) = start_moto().await;
                (None, Some(moto), format!("http://{address}"))
            }
            Kind::Rgw => {
                let started = Rgw::start(ACCESS_KEY, SECRET_KEY);
                let endpoint = started.url.clone();
                rgw = Some(started);
                (None, None, endpoint)
            }
        };
        let client = client(&endpoint);
        Self { kind, client, server, moto, _rgw: rgw, directory, buckets: AtomicU32::new(0) }
    }

    pub async fn world(&self, claim: &str) -> World {
        let s3 = self.client.clone();
        if self.kind == Kind::Directory {
            let server = self.server.as_ref().expect("our server runs");
            server.store().clear(DIRECTORY_BUCKET).unwrap();
            let left = std::fs::read_dir(self.directory.path()).unwrap().count();
            assert_eq!(left, 0, "left behind before {claim}");
            return World { s3, bucket: DIRECTORY_BUCKET.to_owned() };
        }
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        s3.create_bucket().bucket(&bucket).send().await.unwrap();
        World { s3, bucket }
    }

    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(moto) = &mut self.moto {
            let _ = moto.kill();
            let _ = moto.wait();
        }
    }
}

async fn start_moto() -> (Child, SocketAddr) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/moto");
    let made = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
    assert!(made.status.success(), "{} cannot make moto runnable", script.display());
    let program = String::from_utf8(made.stdout).unwrap();
    let mut moto = Command::new(program.trim())
        .args(["--host", "127.0.0.1", "--port", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(moto.stderr.take().unwrap());
    let (sender, address) = tokio::sync::oneshot::channel();
    // It reads on until moto ends, which would else wait for whoever reads.
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in said.lines().map_while(Result::ok) {
            let found = line.split_once("Running on http://").and_then(|(_, rest)| rest.trim().parse().ok());
            if let (Some(address), Some(sender)) = (found, sender.take_if(|_| found.is_some())) {
                let _nobody_waits = sender.send(address);
            }
        }
    });
    let Ok(Ok(address)) = tokio::time::timeout(START_LIMIT, address).await else {
        let _ = moto.kill();
        panic!("moto does not say where it listens after {START_LIMIT:?}");
    };
    (moto, address)
}

impl World {
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> String {
        let body = ByteStream::from(body.into());
        let put = self.s3.put_object().bucket(&self.bucket).key(key).body(body).send().await.unwrap();
        put.e_tag.unwrap()
    }

    pub async fn read(&self, key: &str) -> Vec<u8> {
        let got = self.s3.get_object().bucket(&self.bucket).key(key).send().await.unwrap();
        got.body.collect().await.unwrap().to_vec()
    }

    /// All keys and common prefixes of one page, in the order of keys first.
    pub async fn keys(&self) -> Vec<String> {
        let page = self.s3.list_objects_v2().bucket(&self.bucket).send().await.unwrap();
        page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    }
}

/// Status and S3 error code of a refusal; the code is empty where the answer has no body.
#[track_caller]
pub fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    answer: Result<T, SdkError<E>>,
) -> (u16, String) {
    let error = answer.expect_err("a refusal");
    let status = error.raw_response().unwrap_or_else(|| panic!("no answer: {error:?}")).status().as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}

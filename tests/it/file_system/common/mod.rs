//! What several tests of the file system share: a bucket in two stores, and one mounted.

pub mod hostile;
pub mod peculiar;

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls;
use bucketfs::store::ObjectStore;
use bucketfs::store::memory::Memory;
use bucketfs::store::s3::{Endpoint, S3};
use bucketfs::{Defaults, OnConflict, Options, Session, WriteOptions};
use s3_testbed::{self, ACCESS_KEY, Attributes, Content, Control, SECRET_KEY, Server, WriteCondition};
use tokio::runtime::Handle;

/// Longest that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(180);
pub const DEFAULTS: Defaults =
    Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 };
pub const BUCKET: &str = "bucket";

/// A bucket, and the hand that changes it from outside.
pub enum Bucket {
    Memory(Memory),
    S3 {
        server: Server,
        client: S3,
    },
    /// On a server of somebody else's: only the store's own requests change it.
    Elsewhere(S3),
}

impl Bucket {
    pub fn memory() -> Bucket {
        Bucket::Memory(Memory::default())
    }

    /// On a server of its own, in this process.
    pub async fn s3() -> Bucket {
        let server = Server::start(s3_testbed::Options::memory([BUCKET])).expect("a free port");
        let client = s3_client(&server.endpoint()).await;
        Bucket::S3 { server, client }
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        match self {
            Bucket::Memory(memory) => Arc::new(memory.clone()),
            Bucket::S3 { client, .. } | Bucket::Elsewhere(client) => Arc::new(client.clone()),
        }
    }

    /// The URL of the server.
    pub fn endpoint(&self) -> String {
        match self {
            Bucket::Memory(_) | Bucket::Elsewhere(_) => panic!("no server of ours"),
            Bucket::S3 { server, .. } => server.endpoint(),
        }
    }

    /// Counters and faults of the server.
    pub fn control(&self) -> Control {
        match self {
            Bucket::Memory(_) | Bucket::Elsewhere(_) => panic!("no server of ours"),
            Bucket::S3 { server, .. } => server.control(),
        }
    }

    pub fn put(&self, key: &str, body: &[u8], metadata: &[(&str, &str)]) {
        self.put_typed(key, body, None, metadata);
    }

    pub fn put_typed(&self, key: &str, body: &[u8], content_type: Option<&str>, metadata: &[(&str, &str)]) {
        match self {
            Bucket::Memory(memory) => memory.put_typed(key, body.to_vec(), content_type, metadata),
            Bucket::S3 { server, .. } => {
                let content = Content::from(body.to_vec());
                let attributes = Attributes {
                    content_type: content_type.map(str::to_string),
                    ..Attributes::with_metadata(metadata.iter().copied())
                };
                let always = WriteCondition::default();
                let put = server.store().put_object_with(BUCKET, key, content, attributes, &always);
                put.expect("written");
            }
            Bucket::Elsewhere(_) => panic!("no server of ours"),
        }
    }

    /// Other headers, the same content: what `aws s3 cp` of an object onto itself does.
    pub fn put_headers(&self, key: &str, metadata: &[(&str, &str)]) {
        match self {
            Bucket::Memory(memory) => memory.put_headers(key, metadata),
            Bucket::S3 { server, .. } => {
                let Ok(object) = server.store().get(BUCKET, key) else { return };
                let attributes = Attributes::with_metadata(metadata.iter().copied());
                let always = WriteCondition::default();
                let content = object.content.clone();
                server.store().put_object_with(BUCKET, key, content, attributes, &always).expect("written");
            }
            Bucket::Elsewhere(_) => panic!("no server of ours"),
        }
    }

    pub fn delete(&self, key: &str) {
        match self {
            Bucket::Memory(memory) => memory.delete(key),
            Bucket::S3 { server, .. } => server.store().delete(BUCKET, key).expect("deleted"),
            Bucket::Elsewhere(_) => panic!("no server of ours"),
        }
    }
}

/// A client as a mount makes it.
pub async fn s3_client(url: &str) -> S3 {
    let keys = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let keys = SharedCredentialsProvider::new(keys);
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
    let limits = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(Duration::from_secs(10))
        .build();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(limits)
        .region("us-east-1")
        .credentials_provider(keys);
    let config = config.load().await;
    S3::new(&config, &Endpoint { url: Some(url.to_string()), path_style: true }, BUCKET)
}

/// A bucket that is mounted. Files below the mount are touched by child processes only.
pub struct Mounted {
    pub bucket: Bucket,
    pub session: Session,
    pub scratch: tempfile::TempDir,
    /// Where files are while they are written.
    pub staging: tempfile::TempDir,
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

impl Mounted {
    pub async fn new(bucket: Bucket, freshness: Duration) -> Mounted {
        Mounted::with(bucket, |options| options.freshness = freshness).await
    }

    /// Mounted to be written.
    pub async fn writable(bucket: Bucket) -> Mounted {
        Mounted::with(bucket, |options| options.read_only = false).await
    }

    pub async fn with(bucket: Bucket, set: impl FnOnce(&mut Options)) -> Mounted {
        let (scratch, staging) = (directory(), directory());
        let mut options = Options {
            source: "s3://bucket".into(),
            prefix: String::new(),
            read_only: true,
            no_exec: false,
            no_symlink_follow: false,
            suid: false,
            endpoint: None,
            region: None,
            resend: true,
            freshness: Duration::from_secs(1),
            max_stale: Duration::from_secs(3600),
            defaults: DEFAULTS,
            memory: 64 << 20,
            write: WriteOptions {
                staging: staging.path().to_path_buf(),
                on_conflict: OnConflict::Fail,
                remove_hidden: false,
            },
        };
        set(&mut options);
        let session = bucketfs::mount(bucket.store(), scratch.path(), options, Handle::current()).await;
        Mounted { bucket, session: session.expect("mounted"), scratch, staging }
    }

    pub fn root(&self) -> &Path {
        self.scratch.path()
    }

    /// What a shell command, run in the root of the mount, prints.
    pub async fn sh(&self, command: &str) -> String {
        let output = self.run(command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    /// What a command that fails says.
    pub async fn fails(&self, command: &str) -> String {
        let output = self.run(command).await;
        assert!(!output.status.success(), "{command} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub async fn run(&self, command: &str) -> Output {
        let script = format!("cd {} && {{ {command}\n}}", self.root().display());
        let child = tokio::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(LIMIT, child).await.expect("the command ends in time").expect("a shell")
    }

    pub async fn end(self) {
        self.session.unmount().await.expect("unmounted");
        tokio::time::timeout(LIMIT, self.session.ended()).await.expect("the session ends");
    }
}

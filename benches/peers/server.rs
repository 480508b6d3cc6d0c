//! The S3 server as a process of its own, and its control from here.
//!
//! What must hold: the server ends with whoever started it, however that ends: it lives as long as its standard
//! input is open. Numbers are taken when nothing is in progress any more, so a request that a peer makes ahead
//! counts for the phase that caused it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use s3_testbed::{Options, Remote, Server as S3Server, Store};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::world;

/// Longest wait for the server to be filled and listening.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for requests in progress to end after a phase.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Age of what is in the bucket when the first phase begins.
const SETTLED: Duration = Duration::from_secs(4);
/// How long nothing may arrive before a peer counts as done.
const QUIET: Duration = Duration::from_millis(150);

/// Serves the bucket until standard input ends. What the hidden subcommand `serve` does.
pub fn serve(maps: Option<&Path>) -> anyhow::Result<()> {
    let store = Store::memory([world::BUCKET]);
    world::fill(&store, maps)?;
    let server = S3Server::start(Options { remote: Remote::Served, ..Options::new(store) })?;
    println!("{}", server.endpoint());
    std::io::stdout().flush()?;
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    Ok(())
}

/// The running server. Dropped, it is killed.
pub struct Server {
    endpoint: String,
    client: Client<HttpConnector, Full<Bytes>>,
    _child: Child,
}

/// Requests and bytes since the last reset.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Counters {
    pub counts: BTreeMap<String, u64>,
    pub total: u64,
    pub bytes_sent: u64,
    pub in_progress: u64,
}

impl Server {
    pub async fn start(maps: Option<&Path>) -> anyhow::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").args(maps);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the S3 server does not start")?;
        let output = child.stdout.take().context("the server's output was asked for")?;
        let mut endpoint = String::new();
        let line = tokio::time::timeout(START_LIMIT, BufReader::new(output).read_line(&mut endpoint)).await;
        ensure!(line.context("the S3 server is not ready in time")?? > 0, "the S3 server ended early");
        // Headers can change within the second of a write without a listing showing it, so of what has just been
        // written they are asked for again. The files of a bucket are older than that.
        tokio::time::sleep(SETTLED).await;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Server { endpoint: endpoint.trim().to_string(), client, _child: child })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub async fn set_latency(&self, milliseconds: u64) -> anyhow::Result<()> {
        self.change(&format!(r#"{{"latency_ms":{milliseconds}}}"#)).await.map(|_| ())
    }

    pub async fn reset(&self) -> anyhow::Result<()> {
        self.counters_when_idle().await?;
        self.change(r#"{"reset":true}"#).await.map(|_| ())
    }

    /// The counters once nothing is in progress and nothing has arrived for a while.
    pub async fn counters_when_idle(&self) -> anyhow::Result<Counters> {
        let begun = Instant::now();
        let mut last = self.change("{}").await?;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.change("{}").await?;
            if now.in_progress == 0 && now.total == last.total {
                return Ok(now);
            }
            if begun.elapsed() > IDLE_LIMIT {
                bail!("{} requests are still in progress after {IDLE_LIMIT:?}", now.in_progress);
            }
            last = now;
        }
    }

    async fn change(&self, change: &str) -> anyhow::Result<Counters> {
        let request = Request::post(format!("{}/-/control", self.endpoint));
        let request = request.body(Full::new(Bytes::copy_from_slice(change.as_bytes())))?;
        let answer = tokio::time::timeout(IDLE_LIMIT, self.client.request(request));
        let answer = answer.await.context("the server's control does not answer")??;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "the server refuses {change}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

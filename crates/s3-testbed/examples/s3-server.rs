//! Our S3 server as a process of its own, for work by hand and for benchmarks.
//!
//! Prints its endpoint on standard output as soon as it serves, and ends on Ctrl-C or SIGTERM. Its counters, latency
//! and faults are under `/-/control`, its log under `/-/log`:
//!
//! ```text
//! cargo run --example s3-server -- --dir demo-data --bucket maps --latency-ms 20
//! curl -s http://127.0.0.1:9000/-/control
//! curl -s http://127.0.0.1:9000/-/control -d '{"reset":true,"faults":[{"operation":"get_object","times":3,"action":"stall"}]}'
//! ```

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use s3_testbed::{
    ACCESS_KEY, Attributes, Control, Fault, Latency, Options, Remote, SECRET_KEY, Server, Store,
};
use tokio::signal::unix::{SignalKind, signal};

/// A small S3 server over a directory or in memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes any that is free.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Serve this directory as the only bucket. Without it objects are in memory and gone at the end.
    #[arg(long, value_name = "DIR", conflicts_with = "fill")]
    dir: Option<PathBuf>,
    /// Name of a bucket; in memory there can be several.
    #[arg(long = "bucket", value_name = "NAME", default_value = "maps")]
    buckets: Vec<String>,
    /// Put so many empty objects `fill/0000000`, `fill/0000001`, ... into the first bucket.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    fill: usize,
    #[arg(long, default_value = ACCESS_KEY)]
    access_key: String,
    #[arg(long, default_value = SECRET_KEY)]
    secret_key: String,
    /// Also answer requests that nobody signed.
    #[arg(long)]
    anonymous: bool,
    /// Time that every request waits for the first byte of its answer.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    latency_ms: u64,
    /// Upper bound of a random time on top of that.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    jitter_ms: u64,
    /// A rule by which requests go wrong, as JSON: {"operation":"get_range","after":5,"times":1,"action":"reset"}
    #[arg(long = "fault", value_name = "JSON", value_parser = fault)]
    faults: Vec<Fault>,
    /// Threads that serve.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn fault(text: &str) -> Result<Fault, serde_json::Error> {
    serde_json::from_str(text)
}

impl Arguments {
    fn store(&self) -> anyhow::Result<Store> {
        if let Some(path) = &self.dir {
            let [bucket] = self.buckets.as_slice() else {
                anyhow::bail!("a directory is one bucket, expected --bucket at most once");
            };
            return Store::directory(bucket, path)
                .with_context(|| format!("cannot serve directory {}", path.display()));
        }
        let store = Store::memory(&self.buckets);
        let keys = (0..self.fill).map(|number| format!("fill/{number:07}"));
        store.fill(&self.buckets[0], keys, "", Attributes::default())?;
        Ok(store)
    }

    fn control(&self) -> Control {
        let control = Control::default();
        control.revoke_key(ACCESS_KEY);
        control.accept_key(&self.access_key, &self.secret_key);
        if self.anonymous {
            control.allow_anonymous();
        }
        control.set_latency_with_jitter(Latency { fixed_ms: self.latency_ms, jitter_ms: self.jitter_ms });
        self.faults.iter().for_each(|fault| control.inject(fault.clone()));
        control
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = Server::start(Options {
        listen: arguments.listen,
        store: arguments.store()?,
        control: arguments.control(),
        domain: None,
        remote: Remote::Served,
        threads: arguments.threads,
    })
    .with_context(|| format!("cannot serve at {}", arguments.listen))?;
    println!("{}", server.endpoint());
    std::io::stdout().flush()?;
    // Cancel-safe: a signal stays received.
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.stop().await;
    Ok(())
}

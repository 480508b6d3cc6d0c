//! A server: it takes an address, serves a store on threads of its own, and stops.
//!
//! What must hold: a busy client in the same process cannot starve it; what is stopped has closed its port and every
//! connection, and can be started again as it was.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use s3s::host::SingleDomain;
use s3s::service::S3ServiceBuilder;
use tokio::sync::oneshot;

use super::control::Control;
use super::remote::Remote;
use super::store::Store;
use super::{auth, connection, protocol};

/// Where a server listens and what it serves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Loopback and any free port by default.
    pub listen: SocketAddr,
    pub store: Store,
    /// Counters, faults and keys. Two servers may share one.
    pub control: Control,
    pub remote: Remote,
    /// Asked under `BUCKET.DOMAIN`, as AWS is, and no more by the path alone; `None`: by the path, whatever the name.
    pub domain: Option<String>,
    /// Threads that serve; at least one.
    pub threads: usize,
}

impl Options {
    /// A server of `store` on a free port of loopback.
    pub fn new(store: Store) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            store,
            control: Control::default(),
            remote: Remote::Absent,
            domain: None,
            threads: 2,
        }
    }

    /// A server of empty buckets in memory.
    pub fn memory<N: Into<String>>(buckets: impl IntoIterator<Item = N>) -> Self {
        Self::new(Store::memory(buckets))
    }
}

/// A running server. Dropped, it stops.
#[derive(Debug)]
pub struct Server {
    /// With the port that was really taken.
    options: Options,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Dropped to stop.
    stop: oneshot::Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl Running {
    fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the S3 server panicked");
        }
    }
}

impl Server {
    /// Starts a server on threads of its own; it accepts connections when this returns.
    ///
    /// # Errors
    ///
    /// Those of taking the address, and of starting a thread; a domain that is none.
    pub fn start(options: Options) -> io::Result<Self> {
        Self::start_on(TcpListener::bind(options.listen)?, options)
    }

    /// The same on a socket that listens already, whatever `options` say of the address.
    ///
    /// # Errors
    ///
    /// Those of starting a thread; a domain that is none.
    pub fn start_on(listener: TcpListener, mut options: Options) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        options.listen = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("s3-server")
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let front = connection::Front {
            s3: service(&options)?,
            control: options.control.clone(),
            remote: options.remote,
            domain: options.domain.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("s3-server".to_owned()).spawn(move || {
            runtime.block_on(async {
                // On a worker and not on this thread, which only waits: between the two every accept would cost a switch.
                let _ = tokio::spawn(connection::serve(listener, front, stopped)).await;
            });
            // Reads of a disk that are under way have nobody left to answer.
            runtime.shutdown_background();
        })?;
        Ok(Self { options, running: Some(Running { stop, thread }) })
    }

    /// The URL of the server, for `endpoint_url`. Ask with path-style addresses.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.options.listen)
    }

    /// The address with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.options.listen
    }

    pub fn control(&self) -> Control {
        self.options.control.clone()
    }

    pub fn store(&self) -> Store {
        self.options.store.clone()
    }

    /// Stops the server: its port refuses connections and those that were open are closed. Starting again with what
    /// this returns serves the same contents at the same address.
    pub async fn stop(mut self) -> Options {
        let options = self.options.clone();
        if let Some(running) = self.running.take() {
            // To join a thread is to wait, and the caller's threads have other things to do.
            if tokio::task::spawn_blocking(|| running.end()).await.is_err() {
                tracing::error!("the S3 server could not be waited for");
            }
        }
        options
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}

fn service(options: &Options) -> io::Result<s3s::service::S3Service> {
    let mut builder = S3ServiceBuilder::new(protocol::Protocol::new(options.store.clone()));
    let doorkeeper = auth::Doorkeeper(options.control.clone());
    builder.set_auth(doorkeeper.clone());
    builder.set_access(doorkeeper);
    if let Some(domain) = &options.domain {
        builder.set_host(SingleDomain::new(domain).map_err(io::Error::other)?);
    }
    Ok(builder.build())
}

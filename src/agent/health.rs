//! `GET /healthz`: whether this host serves, for load balancers. Off unless `health.listen` is set.
//!
//! It answers from the document that the loop last published and asks nobody else, so it answers at once. 200 while
//! the host is ready and the loop alive; 503 otherwise, with the reason. What must hold: nothing that a client sends
//! or leaves unsent holds up another client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::status::{Document, is_fresh};

/// Longest time that one connection may take.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// Most connections at the same time; more wait.
const CONNECTIONS: usize = 32;

/// What the loop last published.
pub type Published = watch::Receiver<Option<Arc<Document>>>;

/// The listener; it ends when this is dropped.
#[derive(Debug)]
pub struct Listening {
    task: JoinHandle<()>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers on `listen` from now on.
///
/// # Errors
///
/// When the address cannot be had.
pub async fn listen(listen: SocketAddr, published: Published) -> std::io::Result<Listening> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    Ok(Listening { task: tokio::spawn(accept(listener, published)), address })
}

async fn accept(listener: TcpListener, published: Published) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others need a moment to give some back.
                tracing::warn!(error = %crate::error::Chain(&error), "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let published = published.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, published.borrow().as_deref());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong is the client's affair.
            let _ = timeout(CONNECTION_LIMIT, connection).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, document: Option<&Document>) -> Response<Full<Bytes>> {
    let (status, text) = match (request.uri().path(), request.method()) {
        ("/healthz", &Method::GET | &Method::HEAD) => healthz(document),
        ("/healthz", _) => (StatusCode::METHOD_NOT_ALLOWED, "GET it\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "there is /healthz\n".to_owned()),
    };
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(CACHE_CONTROL, "no-store")
        .body(Full::from(text))
        .expect("constant headers")
}

fn healthz(document: Option<&Document>) -> (StatusCode, String) {
    let unready = StatusCode::SERVICE_UNAVAILABLE;
    match document {
        None => (unready, "not ready: the agent is starting\n".to_owned()),
        Some(document) if document.ended.is_some() => (unready, "not ready: the agent stops\n".to_owned()),
        Some(document) if !is_fresh(document) => (unready, "not ready: the agent is stuck\n".to_owned()),
        Some(document) if document.ready => (StatusCode::OK, "ready\n".to_owned()),
        Some(document) => (unready, format!("not ready: {}\n", document.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::tests::document;
    use crate::agent::status::{milliseconds, uptime};
    use crate::probe::ask_service;

    async fn asked(path: &str, document: Option<Document>) -> (u16, String) {
        let (_sender, published) = watch::channel(document.map(Arc::new));
        let listening = listen("127.0.0.1:0".parse().unwrap(), published).await.unwrap();
        let url = format!("http://{}{path}", listening.address);
        let answer = ask_service(&url, Duration::from_secs(20)).await.unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    fn fresh() -> Document {
        let mut document = document();
        document.ready = true;
        document.ended = None;
        document.written_uptime_ms = milliseconds(uptime().unwrap());
        document.fresh_for_ms = 60_000;
        document
    }

    #[tokio::test]
    async fn a_host_that_serves_is_ready_and_any_other_says_why_not() {
        assert_eq!(asked("/healthz", Some(fresh())).await, (200, "ready\n".to_owned()));
        let broken = Document { ready: false, reason: "mount maps: gone".to_owned(), ..fresh() };
        let answer = asked("/healthz", Some(broken)).await;
        assert_eq!(answer, (503, "not ready: mount maps: gone\n".to_owned()));
        let ended = Document { ended: Some("stopped in order".to_owned()), ..fresh() };
        assert_eq!(asked("/healthz", Some(ended)).await.0, 503);
        assert_eq!(asked("/healthz", None).await, (503, "not ready: the agent is starting\n".to_owned()));
    }

    #[tokio::test]
    async fn a_loop_that_is_stuck_is_not_ready() {
        let stuck = Document { fresh_for_ms: 0, written_uptime_ms: 0, ..fresh() };
        assert_eq!(asked("/healthz", Some(stuck)).await, (503, "not ready: the agent is stuck\n".to_owned()));
    }

    #[tokio::test]
    async fn there_is_nothing_else_to_be_had() {
        assert_eq!(asked("/", Some(fresh())).await.0, 404);
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_holds_up_no_other() {
        let (_sender, published) = watch::channel(Some(Arc::new(fresh())));
        let listening = listen("127.0.0.1:0".parse().unwrap(), published).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS / 2 {
            silent.push(tokio::net::TcpStream::connect(listening.address).await.unwrap());
        }
        let url = format!("http://{}/healthz", listening.address);
        assert_eq!(ask_service(&url, Duration::from_secs(5)).await.unwrap().status, 200);
    }
}

//! The listener for load balancers, Prometheus and people. Off unless `health.listen` is set.
//!
//! ```text
//!   GET /healthz  200 while the host is ready and the loop alive; 503 otherwise, with the reason
//!   GET /metrics  everything that is counted (`metrics.rs`)
//!   GET /         the chain as a page (`page.rs`)
//! ```
//!
//! It answers from the document that the loop last published and from counters of this process, so it answers at once.
//! What must hold: nothing that a client sends or leaves unsent holds up another client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
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

use super::metrics;
use super::page::{History, SAMPLE_EVERY, page};
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
    let history = Arc::new(Mutex::new(History::default()));
    // Cancel-safe: neither ends.
    tokio::select! {
        () = sampled(&history) => {}
        () = serve(listener, published, &history) => {}
    }
}

/// Takes points for the lines of the page.
async fn sampled(history: &Mutex<History>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        history.lock().unwrap_or_else(PoisonError::into_inner).sample();
    }
}

async fn serve(listener: TcpListener, published: Published, history: &Arc<Mutex<History>>) {
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
        let (published, history) = (published.clone(), history.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, published.borrow().as_deref(), &history);
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

fn answer(
    request: &Request<Incoming>,
    document: Option<&Document>,
    history: &Mutex<History>,
) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match request.uri().path() {
        "/healthz" | "/metrics" | "/" if !asks => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET it\n".to_owned())
        }
        "/healthz" => {
            let (status, text) = healthz(document);
            (status, TEXT, text)
        }
        "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, metrics::exposition(document)),
        "/" => {
            let history = history.lock().unwrap_or_else(PoisonError::into_inner);
            (StatusCode::OK, "text/html; charset=utf-8", page(document, &history))
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "there is /, /healthz and /metrics\n".to_owned()),
    };
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .header(CACHE_CONTROL, "no-store")
        .header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")
        .header("x-content-type-options", "nosniff")
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
    use crate::host::http;

    async fn asked(path: &str, document: Option<Document>) -> (u16, String) {
        let (_sender, published) = watch::channel(document.map(Arc::new));
        let listening = listen("127.0.0.1:0".parse().unwrap(), published).await.unwrap();
        let url = format!("http://{}{path}", listening.address);
        let answer = http::get(&url, Duration::from_secs(20)).await.unwrap();
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
    async fn metrics_and_the_page_are_told_also_before_the_first_document() {
        for document in [None, Some(fresh())] {
            let (status, metrics) = asked("/metrics", document.clone()).await;
            assert!(status == 200 && metrics.contains("mapkeeper_build_info"), "{metrics}");
            let (status, page) = asked("/", document).await;
            assert!(status == 200 && page.starts_with("<!doctype html>"), "{page}");
        }
    }

    #[tokio::test]
    async fn there_is_nothing_else_to_be_had() {
        assert_eq!(asked("/elsewhere", Some(fresh())).await.0, 404);
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
        assert_eq!(http::get(&url, Duration::from_secs(5)).await.unwrap().status, 200);
    }
}

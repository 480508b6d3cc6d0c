//! Connections and the way of a request through the server.
//!
//! ```text
//! request -> counted -> gate -> fault? -> refused? -> S3 -> latency -> answer
//!                                 |                                      |
//!                                 +-> error, reset, stall                +-> spoiled
//! ```
//!
//! Requests on different connections wait independently of each other, as long as the latency lasts or the gate is
//! shut. The remote control, where it is served, is outside of all this and always answers.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use s3s::service::S3Service;
use s3s::{S3Error, S3ErrorCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::answer::{AnswerBody, Spoil};
use super::control::{Control, Refusal};
use super::fault::Action;
use super::operation::Target;
use super::remote;
use super::wire::{Break, Breaker, Wire};

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
#[derive(Clone)]
pub(super) struct Front {
    pub s3: S3Service,
    pub control: Control,
    pub remote: remote::Remote,
    pub domain: Option<String>,
}

/// A request gets no answer: its connection breaks.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks instead of an answer")]
struct Broken;

/// Serves connections until `stop` is sent or dropped. When this returns the port is free and all connections are
/// closed.
pub(super) async fn serve(listener: TcpListener, front: Front, mut stop: oneshot::Receiver<Infallible>) {
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: a oneshot keeps its state, accept loses no connection, join_next no task.
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, front.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of descriptors, most likely: asking again at once would only keep a processor busy.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, front: Front) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection keeps its delay");
    }
    let breaker = Breaker::default();
    let wire = Wire::new(stream, breaker.clone());
    let service = service_fn(move |request| {
        let (front, breaker) = (front.clone(), breaker.clone());
        async move { answer(request, front, breaker).await }
    });
    let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(wire, service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    front: Front,
    breaker: Breaker,
) -> Result<Response<AnswerBody>, Broken> {
    if front.remote.serves(request.uri()) {
        return Ok(remote::answer(request, &front.control).await);
    }
    let control = &front.control;
    let target = Target::of(request.method(), request.uri(), request.headers(), front.domain.as_deref());
    let action = control.fault(&target);
    let ticket = control.begin(target);
    control.pass_gate(ticket.number).await;
    let mut delay = Duration::ZERO;
    let mut spoil = None;
    let mut refusal = control.refusal().map(refused);
    match action {
        None => {}
        Some(Action::Error { status, code }) => refusal = Some(error(status, &code)),
        Some(Action::Delay { milliseconds }) => delay = Duration::from_millis(milliseconds),
        Some(Action::Reset) => {
            breaker.trip(Break::Reset);
            return Err(Broken);
        }
        Some(Action::Stall) => pending().await,
        Some(Action::ResetAfter { bytes }) => spoil = Some(Spoil::Break { at: bytes, how: Break::Reset }),
        Some(Action::TruncateAfter { bytes }) => spoil = Some(Spoil::Break { at: bytes, how: Break::Close }),
        Some(Action::StallAfter { bytes }) => spoil = Some(Spoil::Stall { at: bytes }),
        Some(Action::FlipBit { offset }) => spoil = Some(Spoil::FlipBit { at: offset }),
    }
    let mut answered = match refusal {
        Some(refusal) => refuse(request, refusal).await,
        None => front.s3.call(request.map(s3s::Body::from)).await.map_err(|error| {
            tracing::warn!(error = ?error, "no answer to an S3 request");
            Broken
        }),
    }?;
    // Not in steps: a delay comes on top of the latency, as a slow disk comes on top of a long line.
    tokio::time::sleep(control.latency() + delay).await;
    ticket.answered(answered.status().as_u16());
    answered.headers_mut().insert("x-amz-request-id", HeaderValue::from(ticket.number));
    Ok(answered.map(|body| AnswerBody::new(body, Some(ticket), breaker, spoil)))
}

/// Answers `refusal` after the request is read to its end: a client that still sends would not see the answer.
async fn refuse(request: Request<Incoming>, refusal: S3Error) -> Result<Response<s3s::Body>, Broken> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    refusal.to_http_response().map_err(|_| Broken)
}

fn refused(refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::AccessDenied => S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"),
        Refusal::ExpiredToken => {
            S3Error::with_message(S3ErrorCode::ExpiredToken, "The provided token has expired.")
        }
        Refusal::RequestTimeTooSkewed => S3Error::with_message(
            S3ErrorCode::RequestTimeTooSkewed,
            "The difference between the request time and the current time is too large.",
        ),
    }
}

fn error(status: u16, code: &str) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, "This error was asked for.");
    error.set_status_code(
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR),
    );
    error
}

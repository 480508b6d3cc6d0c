//! The [`Control`] of a server for another process: JSON over HTTP under a path that no bucket can have.
//!
//! `GET /-/control` shows the state, `POST /-/control` changes what its body names and shows the state after that,
//! `GET /-/log` shows the latest requests. No key is asked for: serve it on loopback only.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::answer::AnswerBody;
use super::control::Control;
use super::fault::Fault;

const CONTROL: &str = "/-/control";
const LOG: &str = "/-/log";
const BODY_LIMIT_BYTES: usize = 1024 * 1024;

/// Whether a server's control is served beside its buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Remote {
    #[default]
    Absent,
    /// Under `/-/control`, to whoever reaches the server.
    Served,
}

impl Remote {
    pub(super) fn serves(self, uri: &Uri) -> bool {
        self == Self::Served && uri.path().starts_with("/-/")
    }
}

/// The state of a server as `GET /-/control` shows it.
fn shown(control: &Control) -> serde_json::Value {
    serde_json::json!({
        "counts": control.counts(),
        "total": control.total(),
        "bytes_sent": control.bytes_sent(),
        "in_progress": control.in_progress(),
        "highest_concurrency": control.highest_concurrency(),
        "held": control.held(),
        "latency_ms": u64::try_from(control.latency().as_millis()).unwrap_or(u64::MAX),
    })
}

/// What `POST /-/control` can change. Fields that are absent stay as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    /// Sets the counters to zero, after everything else in this change.
    reset: bool,
    latency_ms: Option<u64>,
    /// Ends all faults, before those of this change begin.
    clear_faults: bool,
    faults: Vec<Fault>,
}

impl Change {
    fn apply(self, control: &Control) {
        if let Some(latency) = self.latency_ms {
            control.set_latency(Duration::from_millis(latency));
        }
        if self.clear_faults {
            control.clear_faults();
        }
        self.faults.into_iter().for_each(|fault| control.inject(fault));
        if self.reset {
            control.reset();
        }
    }
}

pub(super) async fn answer(request: Request<Incoming>, control: &Control) -> Response<AnswerBody> {
    match (request.method().clone(), request.uri().path()) {
        (Method::GET, CONTROL) => json(StatusCode::OK, &shown(control)),
        (Method::GET, LOG) => json(StatusCode::OK, &control.log()),
        (Method::POST, CONTROL) => match change(request).await {
            Ok(change) => {
                change.apply(control);
                json(StatusCode::OK, &shown(control))
            }
            Err(error) => json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error })),
        },
        (method, path) => {
            let error = format!("{method} {path:?} is not served, only GET and POST {CONTROL} and GET {LOG}");
            json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": error }))
        }
    }
}

async fn change(request: Request<Incoming>) -> Result<Change, String> {
    let body = Limited::new(request.into_body(), BODY_LIMIT_BYTES);
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<AnswerBody> {
    let text = serde_json::to_vec(value).expect("plain data with text for keys is always JSON");
    let mut response = Response::new(AnswerBody::plain(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::super::operation::{Operation, Target};
    use super::*;

    #[test]
    fn a_change_touches_only_what_it_names() {
        let control = Control::default();
        let text = r#"{"latency_ms":20,"faults":[{"action":"stall"}]}"#;
        serde_json::from_str::<Change>(text).unwrap().apply(&control);
        assert_eq!(control.latency(), Duration::from_millis(20));
        serde_json::from_str::<Change>(r#"{"clear_faults":true}"#).unwrap().apply(&control);
        let target =
            Target { operation: Operation::GetObject, bucket: "b".into(), key: "k".into(), range: None };
        assert_eq!(control.fault(&target), None);
        assert_eq!(control.latency(), Duration::from_millis(20));
    }

    #[test]
    fn a_misspelt_change_is_refused() {
        assert!(serde_json::from_str::<Change>(r#"{"latncy_ms":1}"#).is_err());
    }
}

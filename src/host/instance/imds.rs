//! The wire to the instance metadata service: tokens, limits, retries, and what a failure means.
//!
//! ```text
//!              PUT token: 200 ------------------> GET with the token
//!   connected  |  403: off    404, 405, ...: version 1 only
//!      ^       |  silence --> GET without token: any answer -> hop limit, silence -> slow: again, more patient
//!      |
//!   refused, unreachable --> DMI says EC2: again, until the deadline    else: no EC2 instance
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use hyper::Method;
use tokio::time::{Instant, sleep, timeout};

use super::error::InstanceError;
use crate::host::http::{Answer, Connection, HttpError};

const ENDPOINT: &str = "http://169.254.169.254";
const ENDPOINT_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const DISABLED_VARIABLE: &str = "AWS_EC2_METADATA_DISABLED";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_LIFE_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// How long a token is asked for. It is renewed when half of that is over.
const TOKEN_LIFE: Duration = Duration::from_secs(21_600);

/// How patient one question is.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wait for a connection.
    pub connect: Duration,
    /// First wait for an answer; it doubles with each attempt.
    pub answer: Duration,
    /// All attempts of one question together.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(1),
            answer: Duration::from_secs(1),
            whole: Duration::from_secs(10),
        }
    }
}

/// The metadata service of this instance.
#[derive(Debug)]
pub struct Metadata {
    endpoint: String,
    /// Named by the environment: then it is asked wherever this runs.
    is_named: bool,
    disabled: bool,
    limits: Limits,
    /// Where the kernel shows what the firmware says of the machine.
    firmware: PathBuf,
    token: Mutex<Option<Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    renew_at: Instant,
}

impl Metadata {
    /// The service as the environment says: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_EC2_METADATA_DISABLED`.
    pub fn from_environment() -> Metadata {
        let named = std::env::var(ENDPOINT_VARIABLE).ok().filter(|text| !text.is_empty());
        let disabled = std::env::var(DISABLED_VARIABLE).is_ok_and(|text| text.eq_ignore_ascii_case("true"));
        Metadata { disabled, ..Metadata::at(named.as_deref(), Limits::default(), Path::new("/sys")) }
    }

    /// The service at `endpoint`, else where EC2 has it, of a machine whose `/sys` is at `firmware`.
    pub fn at(endpoint: Option<&str>, limits: Limits, firmware: &Path) -> Metadata {
        Metadata {
            endpoint: endpoint.unwrap_or(ENDPOINT).trim_end_matches('/').to_owned(),
            is_named: endpoint.is_some(),
            disabled: false,
            limits,
            firmware: firmware.to_owned(),
            token: Mutex::new(None),
        }
    }

    /// The same, asked wherever this runs: in a container no firmware says that this is EC2.
    pub fn anywhere(self) -> Metadata {
        Metadata { is_named: true, ..self }
    }

    /// Whether asking makes sense: a service is named, or this machine is an instance by its firmware.
    pub fn is_expected(&self) -> bool {
        !self.disabled && (self.is_named || self.is_instance())
    }

    fn is_instance(&self) -> bool {
        let says = |file: &str, begins: &str| {
            std::fs::read_to_string(self.firmware.join(file))
                .is_ok_and(|text| text.to_ascii_lowercase().starts_with(begins))
        };
        says("devices/virtual/dmi/id/board_vendor", "amazon ec2")
            || says("devices/virtual/dmi/id/sys_vendor", "amazon ec2")
            || says("hypervisor/uuid", "ec2")
    }

    /// What stands at `path` below `/latest/`; `None` where nothing does. Waits at most [`Limits::whole`].
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, InstanceError> {
        if self.disabled {
            return Err(InstanceError::Disabled);
        }
        if !self.is_expected() {
            return Err(InstanceError::NotEc2);
        }
        let deadline = Instant::now() + self.limits.whole;
        let mut patience = self.limits.answer;
        loop {
            let failed = match self.attempt(path, patience.min(left(deadline))).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let pause = Duration::from_millis(50 + fastrand::u64(..100));
            if !may_pass(&failed) || left(deadline) <= pause {
                return Err(failed);
            }
            sleep(pause).await;
            patience = patience.saturating_mul(2);
        }
    }

    async fn attempt(&self, path: &str, patience: Duration) -> Result<Option<Vec<u8>>, InstanceError> {
        let token = self.token(patience).await?;
        let target = format!("/latest/{path}");
        let headers = [(TOKEN_HEADER, token.as_str())];
        match self.ask(Method::GET, &target, &headers, patience).await {
            Ok(Answer { status: 200, body, .. }) => Ok(Some(body.into())),
            Ok(Answer { status: 404, .. }) => Ok(None),
            Ok(Answer { status, .. }) => {
                // 401: the token is no longer good, whatever we think of its life.
                self.keep(None);
                Err(InstanceError::Refused { path: path.to_owned(), status })
            }
            Err(unanswered) => Err(self.meaning(unanswered)),
        }
    }

    async fn token(&self, patience: Duration) -> Result<String, InstanceError> {
        let held = self.token.lock().expect("nobody panics while holding it").clone();
        if let Some(token) = held.filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.text);
        }
        let life = TOKEN_LIFE.as_secs().to_string();
        let answer =
            self.ask(Method::PUT, "/latest/api/token", &[(TOKEN_LIFE_HEADER, life.as_str())], patience).await;
        let endpoint = self.endpoint.clone();
        match answer {
            Ok(Answer { status: 200, body, .. }) => {
                let text = String::from_utf8_lossy(&body).trim().to_owned();
                if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
                    return Err(InstanceError::OnlyVersion1 { endpoint, status: 200 });
                }
                self.keep(Some(Token { text: text.clone(), renew_at: Instant::now() + TOKEN_LIFE / 2 }));
                Ok(text)
            }
            Ok(Answer { status: 403, .. }) => Err(InstanceError::Off { endpoint }),
            Ok(Answer { status: status @ (429 | 500..), .. }) if status != 501 => {
                Err(InstanceError::Refused { path: "api/token".to_owned(), status })
            }
            Ok(Answer { status, .. }) => Err(InstanceError::OnlyVersion1 { endpoint, status }),
            Err(HttpError::Silent(_)) => Err(self.silent(patience).await),
            Err(unanswered) => Err(self.meaning(unanswered)),
        }
    }

    /// A token did not come. The limit on hops holds for nothing else: does another answer come?
    async fn silent(&self, patience: Duration) -> InstanceError {
        let endpoint = self.endpoint.clone();
        match self.ask(Method::GET, "/latest/meta-data/", &[], patience).await {
            Ok(_) => InstanceError::HopLimit { endpoint },
            Err(_) => InstanceError::Slow { endpoint, limit: self.limits.whole },
        }
    }

    fn meaning(&self, unanswered: HttpError) -> InstanceError {
        let endpoint = self.endpoint.clone();
        match unanswered {
            HttpError::Url { .. } => InstanceError::Endpoint { endpoint },
            HttpError::Connect { .. } if !self.is_instance() && !self.is_named => InstanceError::NotEc2,
            HttpError::Connect { source, .. } => {
                InstanceError::Unreachable { endpoint, reason: source.to_string() }
            }
            HttpError::Broken { source, .. } => {
                InstanceError::Unreachable { endpoint, reason: source.to_string() }
            }
            HttpError::Silent(_) => InstanceError::Slow { endpoint, limit: self.limits.whole },
        }
    }

    fn keep(&self, token: Option<Token>) {
        *self.token.lock().expect("nobody panics while holding it") = token;
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Answer, HttpError> {
        let url = format!("{}{target}", self.endpoint);
        let late = |_| HttpError::Connect {
            address: self.endpoint.clone(),
            source: io::Error::new(io::ErrorKind::TimedOut, "no connection in time"),
        };
        let connection = timeout(self.limits.connect, Connection::open(&url)).await.map_err(late)??;
        timeout(patience, connection.ask(method, headers)).await.unwrap_or(Err(HttpError::Silent(patience)))
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Whether asking again may help.
fn may_pass(error: &InstanceError) -> bool {
    match error {
        InstanceError::Slow { .. } | InstanceError::Unreachable { .. } => true,
        InstanceError::Refused { status, .. } => matches!(status, 401 | 429 | 500..),
        _ => false,
    }
}

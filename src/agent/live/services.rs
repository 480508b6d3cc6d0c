//! Asking services: no more often than configured while they are well, and never twice at a time.
//!
//! A question that is under way outlives the look that began it, so that a probe with a long timeout
//! neither holds up the loop nor is asked anew at every look.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use tokio::time::Instant;

use crate::agent::state::{ServiceSeen, Trigger};
use crate::config::Probe;
use crate::error::Chain;
use crate::measure;
use crate::probe::{ServiceError, ServiceVerdict, ask_service, classify};

/// Between the looks and the publishing, something always takes its time.
const SLACK: Duration = Duration::from_secs(1);

/// The services of a host, by the name of their container.
#[derive(Default)]
pub(super) struct Services {
    asked: RefCell<BTreeMap<String, Asked>>,
}

struct Asked {
    /// The life of the container that was asked.
    life: String,
    pending: Option<Question>,
    /// The last good answer and when it came.
    good: Option<Instant>,
}

type Question = Shared<LocalBoxFuture<'static, ServiceSeen>>;

impl Services {
    /// How the service in `life` of `container` does. A good answer is believed for the interval of the
    /// probe less its timeout. May be dropped and asked again.
    pub(super) async fn look(&self, container: &str, life: &str, probe: &Probe) -> ServiceSeen {
        let question = {
            let mut services = self.asked.borrow_mut();
            let fresh = || Asked { life: life.to_owned(), pending: None, good: None };
            let asked = services.entry(container.to_owned()).or_insert_with(fresh);
            if asked.life != life {
                *asked = fresh();
            }
            // Asked so early that silence is known when the interval is over.
            let believed = probe.interval.saturating_sub(probe.timeout + SLACK);
            if asked.good.is_some_and(|at| at.elapsed() < believed) {
                return ServiceSeen::Healthy;
            }
            let (title, probe) = (container.to_owned(), probe.clone());
            asked.pending.get_or_insert_with(|| ask(title, probe).boxed_local().shared()).clone()
        };
        let seen = question.await;
        if let Some(asked) = self.asked.borrow_mut().get_mut(container).filter(|asked| asked.life == life) {
            asked.pending = None;
            asked.good = (seen == ServiceSeen::Healthy).then(Instant::now);
        }
        seen
    }

    /// Forgets what was answered: something was done to the host.
    pub(super) fn forget(&self) {
        self.asked.borrow_mut().clear();
    }
}

async fn ask(container: String, probe: Probe) -> ServiceSeen {
    let began = Instant::now();
    let answer = match ask_service(&probe.url, probe.timeout).await {
        Ok(answer) => answer,
        Err(error) => return unanswered(&error),
    };
    let verdict = classify(answer.status, answer.content_type.as_deref(), &answer.body, probe.expect);
    let seen = understood(&verdict, &probe.url);
    if seen == ServiceSeen::Healthy {
        measure::probed(&container, began.elapsed());
    }
    seen
}

/// The map that a probe asks for: MapServer names it in only some of its messages.
pub(super) fn map_asked_for(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    query
        .split('&')
        .filter_map(|field| field.split_once('='))
        .find_map(|(name, value)| (name.eq_ignore_ascii_case("map") && !value.is_empty()).then_some(value))
}

/// What was seen, where the environment of the container names the error log `named`: that one may be made when it is
/// missing. A path in an answer is only told, because whoever writes a mapfile chooses it.
pub(super) fn confined(seen: ServiceSeen, named: Option<&str>) -> ServiceSeen {
    match seen {
        ServiceSeen::Faulty { trigger: Trigger::ErrorFile, detail } => {
            let is_named = named.is_some() && error_log_in(&detail).as_deref() == named;
            let trigger = if is_named { Trigger::ErrorFile } else { Trigger::ErrorFileUnnamed };
            ServiceSeen::Faulty { trigger, detail }
        }
        other => other,
    }
}

/// The path in `... Failed to open MS_ERRORFILE /var/log/ms_error.log`.
fn error_log_in(detail: &str) -> Option<String> {
    let (_, after) = detail.rsplit_once("MS_ERRORFILE")?;
    let path = after.split_whitespace().next()?.trim_matches(|c| c == '(' || c == ')' || c == '.');
    path.starts_with('/').then(|| path.to_owned())
}

fn unanswered(error: &ServiceError) -> ServiceSeen {
    let trigger = match error {
        ServiceError::Silent(_) => Trigger::NoAnswer,
        ServiceError::Connect { .. } | ServiceError::Broken { .. } => Trigger::NoConnection,
        ServiceError::Url { .. } => Trigger::NotWms,
    };
    ServiceSeen::Faulty { trigger, detail: Chain(error).to_string() }
}

fn understood(verdict: &ServiceVerdict, url: &str) -> ServiceSeen {
    let trigger = match verdict {
        // The request is wrong, the service is not.
        ServiceVerdict::Healthy | ServiceVerdict::LayerUnknown => return ServiceSeen::Healthy,
        ServiceVerdict::MapBroken { .. } => Trigger::MapBroken,
        ServiceVerdict::MapMissing { .. } => Trigger::MapMissing,
        ServiceVerdict::ErrorFile { .. } => Trigger::ErrorFile,
        ServiceVerdict::PatternRefused => Trigger::PatternRefused,
        ServiceVerdict::ConfigMissing => Trigger::ConfigMissing,
        ServiceVerdict::RasterCredentials { .. } => Trigger::RasterCredentials,
        ServiceVerdict::ServiceException { .. } => Trigger::ServiceException,
        ServiceVerdict::HttpStatus(500..) => Trigger::ServerError,
        ServiceVerdict::HttpStatus(_) => Trigger::HttpStatus,
        ServiceVerdict::NotWms { .. } => Trigger::NotWms,
    };
    let detail = match (verdict, map_asked_for(url)) {
        (ServiceVerdict::MapBroken { .. } | ServiceVerdict::PatternRefused, Some(map)) => {
            format!("{map}: {verdict}")
        }
        _ => verdict.to_string(),
    };
    ServiceSeen::Faulty { trigger, detail }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Expect;

    fn probe(url: String) -> Probe {
        Probe {
            url,
            expect: Expect::Http,
            interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(20),
        }
    }

    /// Answers every request with `status` and counts them.
    async fn serve(listener: &TcpListener, status: u16, count: &RefCell<u32>) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            *count.borrow_mut() += 1;
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_good_answer_is_believed_for_the_interval_and_only_in_that_life() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = probe(format!("http://{}/", listener.local_addr().unwrap()));
        let count = RefCell::new(0);
        let services = Services::default();
        let story = async {
            for _ in 0..3 {
                assert_eq!(services.look("web", "life 1", &probe).await, ServiceSeen::Healthy);
            }
            assert_eq!(*count.borrow(), 1);
            services.look("web", "life 2", &probe).await;
            assert_eq!(*count.borrow(), 2);
            tokio::time::pause();
            tokio::time::advance(probe.interval).await;
            tokio::time::resume();
            services.look("web", "life 2", &probe).await;
            assert_eq!(*count.borrow(), 3);
            services.forget();
            services.look("web", "life 2", &probe).await;
            assert_eq!(*count.borrow(), 4);
        };
        tokio::select! {
            () = serve(&listener, 200, &count) => {}
            () = story => {}
        }
    }

    #[tokio::test]
    async fn a_bad_answer_is_asked_for_again_at_every_look() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = probe(format!("http://{}/", listener.local_addr().unwrap()));
        let count = RefCell::new(0);
        let services = Services::default();
        let story = async {
            for _ in 0..3 {
                let seen = services.look("web", "life", &probe).await;
                assert!(
                    matches!(seen, ServiceSeen::Faulty { trigger: Trigger::ServerError, .. }),
                    "{seen:?}"
                );
            }
            assert_eq!(*count.borrow(), 3);
        };
        tokio::select! {
            () = serve(&listener, 503, &count) => {}
            () = story => {}
        }
    }

    #[tokio::test]
    async fn a_look_that_is_dropped_does_not_ask_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = probe(format!("http://{}/", listener.local_addr().unwrap()));
        let services = Services::default();
        let dropped = timeout(Duration::from_millis(100), services.look("web", "life", &probe)).await;
        assert!(dropped.is_err());
        let count = RefCell::new(0);
        let story = async {
            assert_eq!(services.look("web", "life", &probe).await, ServiceSeen::Healthy);
            assert_eq!(*count.borrow(), 1);
        };
        tokio::select! {
            () = serve(&listener, 200, &count) => {}
            () = story => {}
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_no_connection_and_a_silent_one_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let short = Probe { timeout: Duration::from_millis(100), ..probe(format!("http://{address}/")) };
        let services = Services::default();
        let seen = services.look("web", "life", &short).await;
        assert!(matches!(seen, ServiceSeen::Faulty { trigger: Trigger::NoAnswer, .. }), "{seen:?}");
        drop(listener);
        let seen = services.look("web", "life", &short).await;
        assert!(matches!(seen, ServiceSeen::Faulty { trigger: Trigger::NoConnection, .. }), "{seen:?}");
    }

    #[test]
    fn the_error_log_that_mapserver_misses_is_found_in_its_words() {
        let text =
            "msSetErrorFile(): General error message. Failed to open MS_ERRORFILE /var/log/ms_error.log";
        assert_eq!(error_log_in(text).as_deref(), Some("/var/log/ms_error.log"));
        for text in ["", "Failed to open MS_ERRORFILE", "Failed to open MS_ERRORFILE stderr"] {
            assert_eq!(error_log_in(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_log_that_only_the_answer_names_is_told_and_not_made() {
        let missed = |path: &str| ServiceSeen::Faulty {
            trigger: Trigger::ErrorFile,
            detail: format!("msSetErrorFile(): General error message. Failed to open MS_ERRORFILE {path}"),
        };
        let named = Some("/var/log/ms_error.log");
        for (path, named, expected) in [
            ("/var/log/ms_error.log", named, Trigger::ErrorFile),
            ("/etc/shadow", named, Trigger::ErrorFileUnnamed),
            ("/x/../data/secret", named, Trigger::ErrorFileUnnamed),
            ("/var/log/ms_error.log", None, Trigger::ErrorFileUnnamed),
            ("/var/log/ms_error.log", Some("stderr"), Trigger::ErrorFileUnnamed),
            ("", None, Trigger::ErrorFileUnnamed),
        ] {
            let ServiceSeen::Faulty { trigger, detail } = confined(missed(path), named) else { panic!() };
            assert_eq!(trigger, expected, "{path} {named:?}");
            assert!(detail.ends_with(path), "it is told: {detail}");
        }
    }

    #[test]
    fn a_broken_map_is_told_by_its_name() {
        let broken = ServiceVerdict::MapBroken { near: "X".to_owned(), line: 3, message: String::new() };
        let told = |url| match understood(&broken, url) {
            ServiceSeen::Faulty { detail, .. } => detail,
            ServiceSeen::Healthy => String::new(),
        };
        let plain = "the mapfile is broken at line 3, near \"X\"";
        assert_eq!(told("http://h/?SERVICE=WMS&MAP=/maps/a.map&x"), format!("/maps/a.map: {plain}"));
        for url in ["http://h/?map=&SERVICE=WMS", "http://h/", "http://h/map=/a"] {
            assert_eq!(told(url), plain);
        }
    }

    #[test]
    fn every_verdict_has_its_trigger() {
        let text = String::new;
        let cases = [
            (ServiceVerdict::Healthy, None),
            (ServiceVerdict::LayerUnknown, None),
            (ServiceVerdict::MapBroken { near: text(), line: 1, message: text() }, Some(Trigger::MapBroken)),
            (ServiceVerdict::MapMissing { path: text() }, Some(Trigger::MapMissing)),
            (ServiceVerdict::ErrorFile { message: text() }, Some(Trigger::ErrorFile)),
            (ServiceVerdict::PatternRefused, Some(Trigger::PatternRefused)),
            (ServiceVerdict::ConfigMissing, Some(Trigger::ConfigMissing)),
            (ServiceVerdict::RasterCredentials { message: text() }, Some(Trigger::RasterCredentials)),
            (ServiceVerdict::ServiceException { message: text() }, Some(Trigger::ServiceException)),
            (ServiceVerdict::HttpStatus(499), Some(Trigger::HttpStatus)),
            (ServiceVerdict::HttpStatus(500), Some(Trigger::ServerError)),
            (ServiceVerdict::NotWms { excerpt: text() }, Some(Trigger::NotWms)),
        ];
        for (verdict, expected) in cases {
            let trigger = match understood(&verdict, "http://x/") {
                ServiceSeen::Healthy => None,
                ServiceSeen::Faulty { trigger, .. } => Some(trigger),
            };
            assert_eq!(trigger, expected, "{verdict:?}");
        }
    }
}

//! Asking services: no more often than configured while they are well, and how late they answer.
//!
//! ```text
//!   [believed] -- the interval is over --> [asked] -- answer in time ------> healthy      \
//!                                             |  ---- answer, later -------> slow          > believed
//!                                             |  ---- an answer that is faulty, no connection: asked anew at the next look
//!                                             v
//!                         past the timeout: unanswered, for how long, and whether the container works
//!                         every third of the silence: one more question, in case that one was lost
//! ```
//!
//! A question runs in a task of its own until it is answered or as old as silence is: it outlives the look that began
//! it, neither holds up the loop nor is asked anew at every look, and how long an answer took is measured when it comes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{RemoteHandle, Shared, select_all};
use tokio::time::{Instant, timeout};

use super::work::Work;
use crate::config::Probe;
use crate::error::Chain;
use crate::host::http::{self, HttpError};
use crate::host::probe::{ServiceVerdict, classify};
use bucketfs::measure;
use ladder::state::{Reason, Seen, ServiceSeen, silence};

/// Between the looks and the publishing, something always takes its time.
const SLACK: Duration = Duration::from_secs(1);
/// Longest wait of one look for an answer that is late: less than the loop gives a look.
const LATE: Duration = Duration::from_secs(5);

/// The services of a host, by the name of their container.
#[derive(Default)]
pub(super) struct Services {
    asked: RefCell<BTreeMap<String, Asked>>,
}

struct Asked {
    /// The life of the container that was asked.
    life: String,
    /// Those without an answer, the youngest last. Dropping one ends it.
    questions: Vec<(Instant, Question)>,
    /// Since when nothing was answered that was asked.
    since: Option<Instant>,
    /// The last good answer, in time or late, and when it came.
    good: Option<(Instant, ServiceSeen)>,
    /// How long the last answer took.
    took: Duration,
    work: Work,
}

impl Asked {
    fn new(life: &str) -> Asked {
        Asked {
            life: life.to_owned(),
            questions: Vec::new(),
            since: None,
            good: None,
            took: Duration::ZERO,
            work: Work::default(),
        }
    }
}

type Question = Shared<RemoteHandle<Heard>>;

/// What came of a question.
#[derive(Debug, Clone)]
enum Heard {
    Answer {
        seen: ServiceSeen,
        took: Duration,
    },
    /// No connection, or nothing that could be asked.
    Unasked(ServiceSeen),
    Nothing,
}

impl Services {
    /// How the service in `life` of `container` does. A good answer is believed for the interval of the
    /// probe less its timeout. `used` tells the processor time of the container; it is asked only while no answer
    /// comes. May be dropped and asked again.
    pub(super) async fn look(
        &self,
        container: &str,
        life: &str,
        probe: &Probe,
        used: impl Future<Output = Seen<Duration>>,
    ) -> ServiceSeen {
        let (questions, since, patience) = {
            let mut services = self.asked.borrow_mut();
            let asked = services.entry(container.to_owned()).or_insert_with(|| Asked::new(life));
            if asked.life != life {
                *asked = Asked::new(life);
            }
            // Asked so early that silence is known when the interval is over.
            let believed = probe.interval.saturating_sub(probe.timeout + SLACK);
            if let Some((at, seen)) = &asked.good
                && at.elapsed() < believed
            {
                return seen.clone();
            }
            let since = *asked.since.get_or_insert_with(Instant::now);
            let again = silence(probe.timeout) / 3;
            if asked.questions.last().is_none_or(|(at, _)| at.elapsed() >= again) {
                asked.questions.push((Instant::now(), begin(container.to_owned(), probe.clone())));
            }
            let patience = probe.timeout.max(LATE.min(probe.timeout.max(asked.took) * 2));
            (asked.questions.clone(), since, patience)
        };
        let (times, questions): (Vec<Instant>, Vec<Question>) = questions.into_iter().unzip();
        let first = timeout(patience.saturating_sub(since.elapsed()), select_all(questions)).await;
        if let Ok((heard, place, _)) = first
            && let Some(seen) = self.heard(container, life, probe, heard, times[place])
        {
            return seen;
        }
        let used = used.await;
        let mut services = self.asked.borrow_mut();
        let works = match services.get_mut(container).filter(|asked| asked.life == life) {
            Some(asked) => asked.work.note(Instant::now(), used),
            None => Seen::Unknown("it was started again".to_owned()),
        };
        ServiceSeen::Unanswered { waited: since.elapsed(), timeout: probe.timeout, works }
    }

    /// Takes in what came of the question that was asked at `at`; `None`: nothing came.
    fn heard(
        &self,
        container: &str,
        life: &str,
        probe: &Probe,
        heard: Heard,
        at: Instant,
    ) -> Option<ServiceSeen> {
        let mut services = self.asked.borrow_mut();
        let asked = services.get_mut(container).filter(|asked| asked.life == life);
        let unasked = match heard {
            Heard::Answer { seen: ServiceSeen::Healthy, took } if took > probe.timeout => {
                return Some(noted(asked, ServiceSeen::Slow { took, timeout: probe.timeout }, took));
            }
            Heard::Answer { seen, took } => return Some(noted(asked, seen, took)),
            Heard::Unasked(seen) => Some(seen),
            Heard::Nothing => None,
        };
        if let Some(asked) = asked {
            asked.questions.retain(|(one, _)| *one != at);
            if asked.questions.is_empty() && unasked.is_some() {
                asked.since = None;
            }
        }
        unasked
    }

    /// Believes no more what was answered: something was done to the host. What has not been answered stays so: a
    /// service is no less silent for what was done elsewhere.
    pub(super) fn forget(&self) {
        self.asked.borrow_mut().values_mut().for_each(|asked| asked.good = None);
    }
}

/// Remembers an answer, which took so long.
fn noted(asked: Option<&mut Asked>, seen: ServiceSeen, took: Duration) -> ServiceSeen {
    if let Some(asked) = asked {
        let good = matches!(seen, ServiceSeen::Healthy | ServiceSeen::Slow { .. });
        let good = good.then(|| (Instant::now(), seen.clone()));
        *asked = Asked { took, good, ..Asked::new(&asked.life) };
    }
    seen
}

fn begin(container: String, probe: Probe) -> Question {
    let (question, answer) = ask(container, probe).remote_handle();
    tokio::spawn(question);
    answer.shared()
}

async fn ask(container: String, probe: Probe) -> Heard {
    let began = Instant::now();
    let answer = match http::get(&probe.url, silence(probe.timeout)).await {
        Ok(answer) => answer,
        Err(HttpError::Silent(_)) => return Heard::Nothing,
        Err(error) => return Heard::Unasked(unasked(&error)),
    };
    let took = began.elapsed();
    let verdict = classify(answer.status, answer.content_type.as_deref(), &answer.body, probe.expect);
    let seen = understood(&verdict, &probe.url);
    if seen == ServiceSeen::Healthy {
        measure::probed(&container, took);
    }
    Heard::Answer { seen, took }
}

/// The map that a probe asks for: MapServer names it in only some of its messages.
pub fn map_asked_for(url: &str) -> Option<&str> {
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
        ServiceSeen::Faulty { trigger: Reason::ErrorFile, detail } => {
            let is_named = named.is_some() && error_log_in(&detail).as_deref() == named;
            let trigger = if is_named { Reason::ErrorFile } else { Reason::ErrorFileUnnamed };
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

fn unasked(error: &HttpError) -> ServiceSeen {
    let trigger = match error {
        HttpError::Connect { .. } | HttpError::Broken { .. } => Reason::NoConnection,
        HttpError::Silent(_) | HttpError::Url { .. } => Reason::NotWms,
    };
    ServiceSeen::Faulty { trigger, detail: Chain(error).to_string() }
}

fn understood(verdict: &ServiceVerdict, url: &str) -> ServiceSeen {
    let trigger = match verdict {
        // The request is wrong, the service is not.
        ServiceVerdict::Healthy | ServiceVerdict::LayerUnknown => return ServiceSeen::Healthy,
        ServiceVerdict::MapBroken { .. } => Reason::MapBroken,
        ServiceVerdict::MapMissing { .. } => Reason::MapMissing,
        ServiceVerdict::ErrorFile { .. } => Reason::ErrorFile,
        ServiceVerdict::PatternRefused => Reason::PatternRefused,
        ServiceVerdict::ConfigMissing => Reason::ConfigMissing,
        ServiceVerdict::RasterCredentials { .. } => Reason::RasterCredentials,
        ServiceVerdict::ServiceException { .. } => Reason::ServiceException,
        ServiceVerdict::HttpStatus(500..) => Reason::ServerError,
        ServiceVerdict::HttpStatus(_) => Reason::HttpStatus,
        ServiceVerdict::NotWms { .. } => Reason::NotWms,
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
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Expect;
    use crate::host::http::stand_in::{Play, serve, server};

    fn probe(url: String) -> Probe {
        Probe {
            url,
            expect: Expect::Http,
            interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(20),
        }
    }

    /// Lets `time` pass at once.
    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    async fn look(services: &Services, life: &str, probe: &Probe) -> ServiceSeen {
        services.look("web", life, probe, async { Seen::Known(Duration::from_secs(1)) }).await
    }

    /// What answers every request at once with `status`, and how many there were.
    fn counting(status: u16) -> (impl Play, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let play = move |_: &str, _: Option<&str>| {
            counted.fetch_add(1, SeqCst);
            Some((status, ""))
        };
        (play, count)
    }

    #[tokio::test]
    async fn a_good_answer_is_believed_for_the_interval_and_only_in_that_life() {
        let (play, count) = counting(200);
        let server = server(play).await;
        let (services, probe) = (Services::default(), probe(server.url.clone()));
        for _ in 0..3 {
            assert_eq!(look(&services, "life 1", &probe).await, ServiceSeen::Healthy);
        }
        assert_eq!(count.load(SeqCst), 1);
        look(&services, "life 2", &probe).await;
        assert_eq!(count.load(SeqCst), 2);
        pass(probe.interval).await;
        look(&services, "life 2", &probe).await;
        assert_eq!(count.load(SeqCst), 3);
        services.forget();
        look(&services, "life 2", &probe).await;
        assert_eq!(count.load(SeqCst), 4);
    }

    #[tokio::test]
    async fn a_bad_answer_is_asked_for_again_at_every_look() {
        let (play, count) = counting(503);
        let server = server(play).await;
        let (services, probe) = (Services::default(), probe(server.url.clone()));
        for _ in 0..3 {
            let seen = look(&services, "life", &probe).await;
            assert!(matches!(seen, ServiceSeen::Faulty { trigger: Reason::ServerError, .. }), "{seen:?}");
        }
        assert_eq!(count.load(SeqCst), 3);
    }

    #[tokio::test]
    async fn a_look_that_is_dropped_does_not_ask_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = probe(format!("http://{}/", listener.local_addr().unwrap()));
        let services = Services::default();
        let dropped = timeout(Duration::from_millis(100), look(&services, "life", &probe)).await;
        assert!(dropped.is_err());
        let (play, count) = counting(200);
        let _server = serve(listener, play);
        assert_eq!(look(&services, "life", &probe).await, ServiceSeen::Healthy);
        assert_eq!(count.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_closed_port_is_no_connection_and_a_silent_one_is_unanswered_so_far() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let short = Probe { timeout: Duration::from_millis(100), ..probe(format!("http://{address}/")) };
        let services = Services::default();
        let seen = look(&services, "life", &short).await;
        assert!(matches!(seen, ServiceSeen::Unanswered { .. }), "{seen:?}");
        drop(listener);
        let seen = look(&services, "another life", &short).await;
        assert!(matches!(seen, ServiceSeen::Faulty { trigger: Reason::NoConnection, .. }), "{seen:?}");
    }

    /// Answers each request after `pause`.
    async fn serve_late(listener: &TcpListener, pause: Duration) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            tokio::time::sleep(pause).await;
            stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_is_an_answer_and_told_with_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let short = Duration::from_millis(20);
        let probe = Probe { timeout: short, ..probe(format!("http://{}/", listener.local_addr().unwrap())) };
        let services = Services::default();
        let pause = Duration::from_millis(600);
        let story = async {
            let mut seen = look(&services, "life", &probe).await;
            assert!(matches!(seen, ServiceSeen::Unanswered { .. }), "{seen:?}");
            // What is done elsewhere does not ask it anew.
            services.forget();
            let began = Instant::now();
            while matches!(seen, ServiceSeen::Unanswered { .. }) {
                assert!(began.elapsed() < Duration::from_secs(60), "it never came");
                tokio::time::sleep(short).await;
                seen = look(&services, "life", &probe).await;
            }
            let ServiceSeen::Slow { took, timeout } = seen else { panic!("{seen:?}") };
            assert!(took >= pause && timeout == short, "{took:?}");
            // Believed like a good one: it is not asked the harder for being slow.
            assert_eq!(look(&services, "life", &probe).await, ServiceSeen::Slow { took, timeout });
        };
        tokio::select! {
            () = serve_late(&listener, pause) => {}
            () = story => {}
        }
    }

    #[tokio::test]
    async fn what_answers_nothing_is_asked_again_and_is_unanswered_for_as_long_as_that_lasts() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let server = server(move |_: &str, _: Option<&str>| {
            counted.fetch_add(1, SeqCst);
            None
        })
        .await;
        let short = Duration::from_millis(20);
        let probe = Probe { timeout: short, ..probe(server.url.clone()) };
        let services = Services::default();
        look(&services, "life", &probe).await;
        for asked in 1..=3 {
            let began = Instant::now();
            while count.load(SeqCst) < asked {
                assert!(began.elapsed() < Duration::from_secs(60), "it was not asked again");
                look(&services, "life", &probe).await;
                tokio::time::sleep(short).await;
            }
            pass(silence(short) / 3).await;
        }
        let seen = look(&services, "life", &probe).await;
        let ServiceSeen::Unanswered { waited, works, .. } = seen else { panic!("{seen:?}") };
        assert!(waited >= silence(short), "{waited:?}");
        assert_eq!(works, Seen::Known(false));
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
            trigger: Reason::ErrorFile,
            detail: format!("msSetErrorFile(): General error message. Failed to open MS_ERRORFILE {path}"),
        };
        let named = Some("/var/log/ms_error.log");
        for (path, named, expected) in [
            ("/var/log/ms_error.log", named, Reason::ErrorFile),
            ("/etc/shadow", named, Reason::ErrorFileUnnamed),
            ("/x/../data/secret", named, Reason::ErrorFileUnnamed),
            ("/var/log/ms_error.log", None, Reason::ErrorFileUnnamed),
            ("/var/log/ms_error.log", Some("stderr"), Reason::ErrorFileUnnamed),
            ("", None, Reason::ErrorFileUnnamed),
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
            _ => String::new(),
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
            (ServiceVerdict::MapBroken { near: text(), line: 1, message: text() }, Some(Reason::MapBroken)),
            (ServiceVerdict::MapMissing { path: text() }, Some(Reason::MapMissing)),
            (ServiceVerdict::ErrorFile { message: text() }, Some(Reason::ErrorFile)),
            (ServiceVerdict::PatternRefused, Some(Reason::PatternRefused)),
            (ServiceVerdict::ConfigMissing, Some(Reason::ConfigMissing)),
            (ServiceVerdict::RasterCredentials { message: text() }, Some(Reason::RasterCredentials)),
            (ServiceVerdict::ServiceException { message: text() }, Some(Reason::ServiceException)),
            (ServiceVerdict::HttpStatus(499), Some(Reason::HttpStatus)),
            (ServiceVerdict::HttpStatus(500), Some(Reason::ServerError)),
            (ServiceVerdict::NotWms { excerpt: text() }, Some(Reason::NotWms)),
        ];
        for (verdict, expected) in cases {
            let trigger = match understood(&verdict, "http://x/") {
                ServiceSeen::Faulty { trigger, .. } => Some(trigger),
                _ => None,
            };
            assert_eq!(trigger, expected, "{verdict:?}");
        }
    }
}

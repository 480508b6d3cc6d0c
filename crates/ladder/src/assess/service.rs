//! Judging the service inside a container: healthy, slow, silent, or wrong.

use std::time::Duration;

use super::condition::{Condition, Fault};
use crate::state::{ContainerSeen, Reason, Seen, ServiceSeen, Target, silence};

pub(super) fn assess_service(name: &str, seen: Option<&ContainerSeen>, container: &Condition) -> Condition {
    match (container, seen.and_then(|seen| seen.service.as_ref())) {
        (Condition::Good(_) | Condition::Reduced(_), Some(Seen::Known(ServiceSeen::Healthy))) => {
            Condition::Good("answers".to_owned())
        }
        (
            Condition::Good(_) | Condition::Reduced(_),
            Some(Seen::Known(ServiceSeen::Faulty { trigger, detail })),
        ) => Condition::Faulty(Fault { trigger: *trigger, detail: detail.clone(), hint: cure(*trigger) }),
        (
            Condition::Good(_) | Condition::Reduced(_),
            Some(Seen::Known(ServiceSeen::Slow { took, timeout })),
        ) => Condition::Reduced(late(
            Reason::ServiceSlow,
            format!("answers after {}", tenths(*took)),
            *timeout,
        )),
        (
            Condition::Good(_) | Condition::Reduced(_),
            Some(Seen::Known(ServiceSeen::Unanswered { waited, timeout, works })),
        ) => Condition::Faulty(unanswered(*waited, *timeout, works)),
        (Condition::Good(_) | Condition::Reduced(_), Some(Seen::Unknown(reason))) => {
            Condition::Unknown(reason.clone())
        }
        (Condition::Good(_) | Condition::Reduced(_), None) => {
            Condition::Unknown("it was not asked".to_owned())
        }
        _ => Condition::Blocked(Target::Container(name.to_owned())),
    }
}

/// A service that has not answered yet: slow, or silent.
fn unanswered(waited: Duration, timeout: Duration, works: &Seen<bool>) -> Fault {
    let nothing = format!("no answer for {}", tenths(waited));
    if waited < silence(timeout) {
        return late(Reason::AnswerOverdue, nothing, timeout);
    }
    match works {
        Seen::Known(false) => {
            Fault::new(Reason::NoAnswer, format!("{nothing}, and its container does no work"))
        }
        Seen::Known(true) => late(Reason::Overloaded, format!("{nothing}, and its container works"), timeout),
        Seen::Unknown(reason) => {
            let what = format!("{nothing}; whether its container works is not known ({reason})");
            late(Reason::Overloaded, what, timeout)
        }
    }
}

fn late(trigger: Reason, what: String, timeout: Duration) -> Fault {
    let detail = format!("{what}; the timeout of its probe is {}", tenths(timeout));
    Fault::new(trigger, detail)
        .hint("docker stats shows what it is busy with; more processors, MAPSERV_PROCS or a longer container.probe.timeout help")
}

fn tenths(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What a person can do about a service that answers wrongly.
fn cure(trigger: Reason) -> Option<String> {
    let text = match trigger {
        Reason::MapBroken => "correct the mapfile in the bucket; the next request reads it",
        Reason::MapMissing => "put the map into the bucket, or check its name and mode in the probe's URL",
        Reason::ErrorFile | Reason::ErrorFileUnnamed => {
            "take MS_ERRORFILE out of the mapfile, or set it to stderr"
        }
        Reason::PatternRefused => "set MS_MAP_PATTERN of the container to one that allows /mapfiles",
        Reason::ConfigMissing => "set MAPSERVER_CONFIG_FILE of the container to a file that exists",
        Reason::RasterCredentials => "give MapServer's own S3 access: the raster is not read from the mount",
        Reason::HttpStatus => "check the path in the probe's URL",
        Reason::NotWms => "check that the probe's URL leads to MapServer",
        Reason::ServiceException => "check the request in the probe's URL",
        _ => return None,
    };
    Some(text.to_owned())
}

//! Judging the service inside a container: healthy, slow, silent, or wrong.

use std::time::Duration;

use super::{Fault, Verdict};
use crate::state::{ContainerSeen, Seen, ServiceSeen, Target, Trigger, silence};

pub(super) fn judge_service(name: &str, seen: Option<&ContainerSeen>, container: &Verdict) -> Verdict {
    match (container, seen.and_then(|seen| seen.service.as_ref())) {
        (Verdict::Good(_) | Verdict::Reduced(_), Some(Seen::Known(ServiceSeen::Healthy))) => {
            Verdict::Good("answers".to_owned())
        }
        (
            Verdict::Good(_) | Verdict::Reduced(_),
            Some(Seen::Known(ServiceSeen::Faulty { trigger, detail })),
        ) => Verdict::Faulty(Fault { trigger: *trigger, detail: detail.clone(), hint: cure(*trigger) }),
        (Verdict::Good(_) | Verdict::Reduced(_), Some(Seen::Known(ServiceSeen::Slow { took, timeout }))) => {
            Verdict::Reduced(late(Trigger::ServiceSlow, format!("answers after {}", tenths(*took)), *timeout))
        }
        (
            Verdict::Good(_) | Verdict::Reduced(_),
            Some(Seen::Known(ServiceSeen::Unanswered { waited, timeout, works })),
        ) => Verdict::Faulty(unanswered(*waited, *timeout, works)),
        (Verdict::Good(_) | Verdict::Reduced(_), Some(Seen::Unknown(reason))) => {
            Verdict::Unknown(reason.clone())
        }
        (Verdict::Good(_) | Verdict::Reduced(_), None) => Verdict::Unknown("it was not asked".to_owned()),
        _ => Verdict::Blocked(Target::Container(name.to_owned())),
    }
}

/// A service that has not answered yet: slow, or silent.
fn unanswered(waited: Duration, timeout: Duration, works: &Seen<bool>) -> Fault {
    let nothing = format!("no answer for {}", tenths(waited));
    if waited < silence(timeout) {
        return late(Trigger::AnswerOverdue, nothing, timeout);
    }
    match works {
        Seen::Known(false) => {
            Fault::new(Trigger::NoAnswer, format!("{nothing}, and its container does no work"))
        }
        Seen::Known(true) => {
            late(Trigger::Overloaded, format!("{nothing}, and its container works"), timeout)
        }
        Seen::Unknown(reason) => {
            let what = format!("{nothing}; whether its container works is not known ({reason})");
            late(Trigger::Overloaded, what, timeout)
        }
    }
}

fn late(trigger: Trigger, what: String, timeout: Duration) -> Fault {
    let detail = format!("{what}; the timeout of its probe is {}", tenths(timeout));
    Fault::new(trigger, detail)
        .hint("docker stats shows what it is busy with; more processors, MAPSERV_PROCS or a longer container.probe.timeout help")
}

fn tenths(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What a person can do about a service that answers wrongly.
fn cure(trigger: Trigger) -> Option<String> {
    let text = match trigger {
        Trigger::MapBroken => "correct the mapfile in the bucket; the next request reads it",
        Trigger::MapMissing => "put the map into the bucket, or check its name and mode in the probe's URL",
        Trigger::ErrorFile | Trigger::ErrorFileUnnamed => {
            "take MS_ERRORFILE out of the mapfile, or set it to stderr"
        }
        Trigger::PatternRefused => "set MS_MAP_PATTERN of the container to one that allows /mapfiles",
        Trigger::ConfigMissing => "set MAPSERVER_CONFIG_FILE of the container to a file that exists",
        Trigger::RasterCredentials => "give MapServer's own S3 access: the raster is not read from the mount",
        Trigger::HttpStatus => "check the path in the probe's URL",
        Trigger::NotWms => "check that the probe's URL leads to MapServer",
        Trigger::ServiceException => "check the request in the probe's URL",
        _ => return None,
    };
    Some(text.to_owned())
}

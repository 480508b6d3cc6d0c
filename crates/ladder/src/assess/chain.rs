//! Judging the whole chain, link by link, in order of dependency.

use std::collections::BTreeMap;

use super::condition::{Assessment, Condition, Fault, Finding};
use super::container::assess_container;
use super::ecs::{assess_ecs, known_to_ecs, taken_by_ecs};
use super::mount::{assess_mount, prove};
use super::service::assess_service;
use crate::state::{CredentialsSeen, DockerSeen, Observation, Reason, Seen, Settings, StoreSeen, Target};

/// Judges every link of the chain.
pub fn assess(seen: &Observation, settings: &Settings) -> Assessment {
    let mut findings =
        vec![Finding { target: Target::Credentials, condition: assess_credentials(&seen.credentials) }];
    let mut proven = BTreeMap::new();
    for name in &settings.mounts {
        let (store, condition) = match seen.mounts.get(name) {
            Some(mount) => (assess_store(&mount.store), assess_mount(mount)),
            None => (Some(not_looked_at()), not_looked_at()),
        };
        if let Some(condition) = store {
            findings.push(Finding { target: Target::Store(name.clone()), condition });
        }
        if let Some(proof) = seen.mounts.get(name).and_then(|mount| prove(mount, &condition)) {
            proven.insert(name.clone(), proof);
        }
        findings.push(Finding { target: Target::Mount(name.clone()), condition });
    }
    if !settings.containers.is_empty() {
        findings.push(Finding { target: Target::Docker, condition: assess_docker(&seen.docker) });
    }
    if let Some(ecs) = &settings.ecs {
        let condition = seen.ecs.as_ref().map_or_else(not_looked_at, |seen| assess_ecs(seen, ecs));
        findings.push(Finding { target: Target::Ecs, condition });
    }
    let docker_answers = seen.docker == Seen::Known(DockerSeen::Answers);
    for container in &settings.containers {
        let looked_at = seen.containers.get(&container.name);
        let condition = assess_container(container, looked_at, docker_answers, &proven);
        let condition = taken_by_ecs(container, seen, known_to_ecs(container, looked_at, seen, condition));
        let service = container.probed.then(|| assess_service(&container.name, looked_at, &condition));
        findings.push(Finding { target: Target::Container(container.name.clone()), condition });
        if let Some(condition) = service {
            findings.push(Finding { target: Target::Service(container.name.clone()), condition });
        }
    }
    Assessment { findings, proven }
}

fn assess_credentials(seen: &Seen<CredentialsSeen>) -> Condition {
    match seen {
        Seen::Unknown(reason) => Condition::Unknown(reason.clone()),
        Seen::Known(CredentialsSeen::Held) => Condition::Good("held".to_owned()),
        Seen::Known(CredentialsSeen::HeldAs(detail)) => Condition::Good(detail.clone()),
        Seen::Known(CredentialsSeen::Missing { reason, hint }) => Condition::Faulty(Fault {
            trigger: Reason::CredentialsMissing,
            detail: reason.clone(),
            hint: hint.clone(),
        }),
    }
}

fn not_looked_at() -> Condition {
    Condition::Unknown("it was not looked at".to_owned())
}

/// The condition on the bucket of a mount; `None` for a mount that has none.
fn assess_store(seen: &Seen<StoreSeen>) -> Option<Condition> {
    let faulty = |trigger, reason: &String, hint: &Option<String>| {
        Condition::Faulty(Fault { trigger, detail: reason.clone(), hint: hint.clone() })
    };
    Some(match seen {
        Seen::Known(StoreSeen::NoStore) => return None,
        Seen::Unknown(reason) => Condition::Unknown(reason.clone()),
        Seen::Known(StoreSeen::Answers) => Condition::Good("answers".to_owned()),
        Seen::Known(StoreSeen::Away { reason, hint }) => faulty(Reason::StoreAway, reason, hint),
        Seen::Known(StoreSeen::Refuses { reason, hint }) => faulty(Reason::StoreRefuses, reason, hint),
        Seen::Known(StoreSeen::Missing { reason, hint }) => faulty(Reason::BucketMissing, reason, hint),
    })
}

fn assess_docker(seen: &Seen<DockerSeen>) -> Condition {
    match seen {
        Seen::Unknown(reason) => Condition::Unknown(reason.clone()),
        Seen::Known(DockerSeen::Answers) => Condition::Good("answers".to_owned()),
        Seen::Known(DockerSeen::Unreachable { reason, hint }) => {
            Condition::Faulty(Fault::new(Reason::DockerUnreachable, reason.clone()).hint(hint.clone()))
        }
    }
}

//! Judging: what an observation says about each link of the chain, without any memory.
//!
//! The order is the order of dependency: credentials, each bucket and its mount, Docker, the ECS agent, then
//! each container and its service. A link whose dependency is not good is [`Condition::Blocked`] and not assessed itself: a
//! container on a mount that is not proven is neither well nor ill, it waits.
//!
//! A mount is *proven* when the kernel shows our session's device at the path, the session has not
//! ended, and a child process listed the path on that same device. Anything less proves nothing.

mod ecs;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use ecs::is_gone;
use ecs::{assess_ecs, known_to_ecs, taken_by_ecs};
use service::assess_service;

use crate::state::{
    ContainerFacts, ContainerSeen, ContainerSettings, ContainerState, CredentialsSeen, DataSeen, Device,
    DockerSeen, MountAnswer, MountEntry, MountSeen, Observation, Origin, Owner, Phase, Proof, Reason, Seen,
    Session, SessionState, Settings, Specification, StoreSeen, Target,
};

/// What a person can do about a mount that does not serve although its session lives.
const ASK_S3: &str =
    "check that this host reaches S3 and may read the bucket; it ends by itself when S3 answers";

/// Everything that one observation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// In order of dependency.
    pub findings: Vec<Finding>,
    /// The mounts that are proven, by name.
    pub proven: BTreeMap<String, Proven>,
}

/// What a mount was proven to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    pub device: Device,
    /// It serves what it remembers, because S3 cannot be asked.
    pub from_cache: bool,
}

/// The condition on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub target: Target,
    pub condition: Condition,
}

/// How one link is, going by this observation alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It does its work; the text says how.
    Good(String),
    /// It does its work, but something is amiss.
    Reduced(Fault),
    Faulty(Fault),
    /// It could not be looked at.
    Unknown(String),
    /// It waits for that link.
    Blocked(Target),
}

/// Something amiss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub trigger: Reason,
    pub detail: String,
    pub hint: Option<String>,
}

impl Fault {
    fn new(trigger: Reason, detail: impl Into<String>) -> Fault {
        Fault { trigger, detail: detail.into(), hint: None }
    }

    /// What the instance as a whole is at fault for.
    pub(super) fn exhausted() -> Fault {
        Fault::new(Reason::Exhausted, "its repairs did not help")
    }

    pub(super) fn requests_stuck(waited: Duration) -> Fault {
        let detail = format!("at each look of the last {} s some request was waiting", waited.as_secs());
        let hint = "if nobody reads that much, find who waits: ps axo pid,stat,wchan:20,comm | grep ' D'";
        Fault::new(Reason::RequestsStuck, detail).hint(hint)
    }

    pub(super) fn requests_lost() -> Fault {
        Fault::new(Reason::RequestsLost, "somebody waits for an answer that nobody will give")
    }

    fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

impl Assessment {
    /// The condition on `target`; `None` for a link that the chain does not have.
    pub fn condition(&self, target: &Target) -> Option<&Condition> {
        self.findings.iter().find(|finding| finding.target == *target).map(|finding| &finding.condition)
    }
}

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

/// The names of all mounts that a container binds: by configuration, and by what Docker shows.
pub fn mounts_bound<'a>(
    container: &'a ContainerSettings,
    seen: Option<&'a ContainerSeen>,
) -> BTreeSet<&'a str> {
    let shown = seen.into_iter().flat_map(|seen| seen.views.keys());
    container.mounts.iter().chain(shown).map(String::as_str).collect()
}

/// The proofs of all mounts that a container binds; `None` if one of them is not proven.
pub fn proofs(
    container: &ContainerSettings,
    seen: Option<&ContainerSeen>,
    proven: &BTreeMap<String, Proven>,
) -> Option<Vec<Proof>> {
    mounts_bound(container, seen)
        .into_iter()
        .map(|mount| proven.get(mount).map(|found| Proof { mount: mount.to_owned(), device: found.device }))
        .collect()
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

/// Judges a mount by what the kernel shows and what our session says; only when these two agree does
/// the answer that a child got at the path matter.
fn assess_mount(seen: &MountSeen) -> Condition {
    let (entry, session) = match (&seen.entry, &seen.session) {
        (Seen::Unknown(reason), _) | (_, Seen::Unknown(reason)) => return Condition::Unknown(reason.clone()),
        (Seen::Known(entry), Seen::Known(session)) => (entry, session),
    };
    if let Some(MountEntry { hidden_by: Some(cover), .. }) = entry {
        return Condition::Faulty(hidden(cover));
    }
    match (entry, session) {
        (None, None) => Condition::Faulty(Fault::new(Reason::NothingMounted, "nothing is mounted")),
        (Some(entry), None) => assess_stranger(entry, &seen.answer),
        (Some(entry), Some(session)) if entry.device != session.device => Condition::Faulty(Fault::new(
            Reason::Covered,
            format!("{} ({}) was mounted over {}", entry.source, entry.fs_type, session.device),
        )),
        (_, Some(Session { state: SessionState::Ended(reason), .. })) => {
            Condition::Faulty(Fault::new(Reason::SessionEnded, format!("the session ended: {reason}")))
        }
        (None, Some(_)) => Condition::Faulty(Fault::new(Reason::NothingMounted, "the mount was taken away")),
        (Some(_), Some(session)) => assess_answer(session, seen),
    }
}

/// A mount over a directory above: no repair of ours brings the path back, and containers that hold the mount are
/// served.
fn hidden(cover: &str) -> Fault {
    Fault::new(Reason::Hidden, format!("hidden by {cover}; who holds the mount is served"))
        .hint("unmount what is over the parent directory, or mount it before mapkeeper starts")
}

/// Judges a mount at our path that this process did not make.
///
/// One that a dead mapkeeper left behind is told by ENOTCONN: only then may it be detached. One that
/// still answers is served by somebody.
fn assess_stranger(entry: &MountEntry, answer: &Seen<MountAnswer>) -> Condition {
    let what = format!("{} ({}, device {})", entry.source, entry.fs_type, entry.device);
    match (entry.origin, answer) {
        (Origin::Mapkeeper, Seen::Unknown(reason)) => Condition::Unknown(reason.clone()),
        (Origin::Mapkeeper, Seen::Known(MountAnswer::Errno(errno))) if disconnected(errno) => {
            Condition::Faulty(Fault::new(
                Reason::LeftOver,
                format!("{what} was left by a process that is gone"),
            ))
        }
        (Origin::Mapkeeper, Seen::Known(_)) => Condition::Faulty(
            Fault::new(Reason::ForeignMount, format!("{what} is served by another mapkeeper process"))
                .hint("end that process, or unmount it"),
        ),
        // An agent that ends in order leaves nothing below it: this one was covered while it ran, or killed.
        (Origin::OverMapkeeper, _) => Condition::Faulty(Fault::new(
            Reason::Covered,
            format!("{what} was mounted over the mount of a process that is gone"),
        )),
        (Origin::Foreign, _) => Condition::Faulty(
            Fault::new(Reason::ForeignMount, format!("{what} is already mounted there"))
                .hint("unmount it and take it out of fstab, or give the mount another path"),
        ),
    }
}

fn assess_answer(session: &Session, seen: &MountSeen) -> Condition {
    match &seen.answer {
        Seen::Unknown(reason) => Condition::Unknown(reason.clone()),
        Seen::Known(MountAnswer::Serves(device)) if *device == session.device => match &session.state {
            SessionState::Degraded(reason) => Condition::Reduced(
                Fault::new(Reason::ServesFromCache, format!("serves what it remembers: {reason}"))
                    .hint("it ends by itself when S3 answers again"),
            ),
            SessionState::Keeps(kept) => Condition::Reduced(
                Fault::new(Reason::WriteKept, format!("another writer was faster: {kept}"))
                    .hint("compare the kept file with the object, put back what is missing, then remove it"),
            ),
            _ => assess_data(*device, &seen.data),
        },
        Seen::Known(MountAnswer::Serves(device)) => {
            let shown = format!("something of device {device}");
            Condition::Faulty(hidden(&shown))
        }
        Seen::Known(MountAnswer::Errno(errno)) if disconnected(errno) => Condition::Faulty(Fault::new(
            Reason::Disconnected,
            "the kernel has no connection to the session (ENOTCONN)",
        )),
        Seen::Known(MountAnswer::Errno(errno)) => {
            let why = match &session.state {
                SessionState::Degraded(reason) => format!("file calls fail with {errno}: {reason}"),
                _ => format!("file calls fail with {errno}"),
            };
            Condition::Faulty(Fault::new(Reason::MountErrors, why).hint(ASK_S3))
        }
        Seen::Known(MountAnswer::Silent(limit)) => Condition::Faulty(
            Fault::new(
                Reason::MountSilent,
                format!("file calls have not returned within {} s", limit.as_secs()),
            )
            .hint(ASK_S3),
        ),
    }
}

/// What a known key showed, on a mount that answers otherwise.
fn assess_data(device: Device, data: &DataSeen) -> Condition {
    match data {
        DataSeen::Same | DataSeen::NotCompared => Condition::Good(format!("proven, device {device}")),
        DataSeen::Differs(how) => Condition::Reduced(
            Fault::new(Reason::DataDiffers, how.clone())
                .hint("compare the file with the object; mapkeeper status shows whether it lasts"),
        ),
    }
}

fn disconnected(errno: &str) -> bool {
    errno == "ENOTCONN"
}

/// The proof that a mount serves, if the condition on it is one.
fn prove(seen: &MountSeen, condition: &Condition) -> Option<Proven> {
    let from_cache = match condition {
        Condition::Good(_) => false,
        Condition::Reduced(fault) => fault.trigger == Reason::ServesFromCache,
        _ => return None,
    };
    match &seen.session {
        Seen::Known(Some(session)) => Some(Proven { device: session.device, from_cache }),
        _ => None,
    }
}

fn assess_container(
    container: &ContainerSettings,
    seen: Option<&ContainerSeen>,
    docker_answers: bool,
    proven: &BTreeMap<String, Proven>,
) -> Condition {
    if !docker_answers {
        return Condition::Blocked(Target::Docker);
    }
    if let Some(mount) = mounts_bound(container, seen).into_iter().find(|mount| !proven.contains_key(*mount))
    {
        return Condition::Blocked(Target::Mount(mount.to_owned()));
    }
    let Some(seen) = seen else { return Condition::Unknown("it was not looked at".to_owned()) };
    match (&seen.state, container.owner) {
        (Seen::Unknown(reason), _) => Condition::Unknown(reason.clone()),
        (Seen::Known(ContainerState::Absent), Owner::Mapkeeper) => {
            Condition::Faulty(Fault::new(Reason::ContainerAbsent, "it does not exist"))
        }
        (Seen::Known(ContainerState::Absent), Owner::Ecs) => Condition::Faulty(
            Fault::new(Reason::ContainerAbsent, "ECS has not started it")
                .hint("look at the events of the ECS service"),
        ),
        (Seen::Known(ContainerState::Foreign { id, agent: Some(agent) }), _) => Condition::Faulty(
            Fault::new(
                Reason::ForeignContainer,
                format!("container {} ({id}) belongs to the agent of {agent}", container.name),
            )
            .hint(format!("choose another name, or end that agent: mapkeeper --runtime-dir {agent} status")),
        ),
        (Seen::Known(ContainerState::Foreign { id, agent: None }), _) => Condition::Faulty(
            Fault::new(
                Reason::ForeignContainer,
                format!("a container named {} exists and was not made by mapkeeper ({id})", container.name),
            )
            .hint(format!("remove it (docker rm -f {}) or choose another name", container.name)),
        ),
        (Seen::Known(ContainerState::Present(facts)), owner) => {
            assess_life(facts, owner, seen, mounts_bound(container, Some(seen)), proven)
        }
    }
}

fn assess_life(
    facts: &ContainerFacts,
    owner: Owner,
    seen: &ContainerSeen,
    mounts: BTreeSet<&str>,
    proven: &BTreeMap<String, Proven>,
) -> Condition {
    let faulty = |trigger, detail: String| Condition::Faulty(Fault::new(trigger, detail));
    let settled = !matches!(facts.phase, Phase::Restarting | Phase::Stopping | Phase::Removing);
    if settled && owner == Owner::Mapkeeper && facts.specification == Specification::Outdated {
        return faulty(
            Reason::SpecificationChanged,
            "it was made from another configuration than the one in force".to_owned(),
        );
    }
    match facts.phase {
        Phase::Running => assess_views(facts, seen, mounts, proven),
        Phase::Created => faulty(Reason::ContainerCreated, "it was made and never started".to_owned()),
        Phase::Paused => faulty(Reason::ContainerPaused, "it is paused".to_owned()),
        Phase::Dead => faulty(Reason::ContainerDead, "Docker cannot use it any more (dead)".to_owned()),
        Phase::Restarting => faulty(Reason::ContainerInTransit, "Docker is restarting it".to_owned()),
        Phase::Stopping => faulty(Reason::ContainerInTransit, "it is stopping".to_owned()),
        Phase::Removing => faulty(Reason::ContainerInTransit, "Docker is removing it".to_owned()),
        Phase::Exited => {
            let code = facts.exit_code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
            let memory = if facts.oom_killed { ", out of memory" } else { "" };
            faulty(Reason::ContainerExited, format!("it ended with {code}{memory}"))
        }
    }
}

/// Judges a running container by what it sees of its mounts. One mount known to be stale outweighs
/// another that could not be looked at.
fn assess_views(
    facts: &ContainerFacts,
    seen: &ContainerSeen,
    mounts: BTreeSet<&str>,
    proven: &BTreeMap<String, Proven>,
) -> Condition {
    let mut unknown = None;
    for mount in mounts {
        let expected = proven.get(mount).map(|found| found.device);
        match seen.views.get(mount) {
            None => unknown = Some(format!("its view of {mount} was not looked at")),
            Some(Seen::Unknown(reason)) => unknown = Some(reason.clone()),
            Some(Seen::Known(None)) => {
                return Condition::Faulty(Fault::new(
                    Reason::MountNotVisible,
                    format!("it sees no mount where {mount} should be"),
                ));
            }
            Some(Seen::Known(shown)) if *shown != expected => {
                return Condition::Faulty(Fault::new(
                    Reason::StaleMount,
                    format!("it holds a replaced mount of {mount}"),
                ));
            }
            Some(Seen::Known(_)) => {}
        }
    }
    match unknown {
        Some(reason) => Condition::Unknown(reason),
        None if facts.restarts > 0 => {
            Condition::Good(format!("runs, restarted {} times by Docker", facts.restarts))
        }
        None => Condition::Good("runs".to_owned()),
    }
}

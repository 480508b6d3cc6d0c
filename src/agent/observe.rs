//! One look at every part of a host.
//!
//! What must hold: all parts are asked at the same time and each under [`LOOK_LIMIT`], so one part that hangs is
//! `Unknown` and holds up nothing else; a look changes nothing and may be dropped.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::host::Host;
use super::status::milliseconds;
use ladder::state::{
    ContainerSeen, ContainerSettings, ContainerState, DataSeen, MountAnswer, MountSeen, Observation, Phase,
    Seen, Settings,
};

/// Longest wait for one part of an observation.
pub const LOOK_LIMIT: Duration = Duration::from_secs(6);

/// Looks at every part of the host at the same time, each under [`LOOK_LIMIT`].
pub async fn observe<H: Host>(host: &H, settings: &Settings) -> Observation {
    // The mounts that were found not to serve in this look, and word of each.
    let (useless, told) = (RefCell::new(Vec::new()), Notify::new());
    let (useless, told) = (&useless, &told);
    let mounts = join_all(settings.mounts.iter().map(|name| async move {
        // Only what gives a sign of life can be read.
        let answered = async {
            let answer = limited(host.mount_answer(name)).await;
            if !matches!(answer, Seen::Known(MountAnswer::Serves(_))) {
                useless.borrow_mut().push(name.clone());
                told.notify_waiters();
                return (answer, DataSeen::NotCompared);
            }
            let data = timeout(LOOK_LIMIT, host.data(name)).await;
            (answer, data.unwrap_or(DataSeen::NotCompared))
        };
        let (store, entry, session, requests, (answer, data)) = futures::join!(
            limited(host.store(name)),
            limited(host.mount_entry(name)),
            limited(host.session(name)),
            limited(host.requests(name)),
            answered,
        );
        (name.clone(), MountSeen { store, entry, session, answer, data, requests })
    }));
    let containers = join_all(settings.containers.iter().map(|container| async move {
        let waits = |mounts: Vec<String>| any_of(mounts, useless, told);
        (container.name.clone(), observe_container(host, container, waits).await)
    }));
    let docker = async {
        if settings.containers.is_empty() {
            return Seen::Unknown("no container is configured".to_owned());
        }
        limited(host.docker()).await
    };
    let ecs = async {
        match settings.ecs {
            Some(_) => Some(limited(host.ecs()).await),
            None => None,
        }
    };
    let (credentials, mounts, docker, containers, ecs) =
        futures::join!(limited(host.credentials()), mounts, docker, containers, ecs);
    Observation {
        maintenance: host.maintenance(),
        credentials,
        mounts: mounts.into_iter().collect(),
        docker,
        containers: containers.into_iter().collect(),
        ecs,
    }
}

/// Waits until one of `mounts` was found not to serve.
async fn any_of(mounts: Vec<String>, useless: &RefCell<Vec<String>>, told: &Notify) {
    loop {
        let next = told.notified();
        if useless.borrow().iter().any(|name| mounts.contains(name)) {
            return;
        }
        next.await;
    }
}

/// `fails` ends when one of the mounts that it is given does not serve: what a service answers then says nothing of
/// the service, and is not waited for.
async fn observe_container<H: Host, F: Future<Output = ()>>(
    host: &H,
    container: &ContainerSettings,
    fails: impl FnOnce(Vec<String>) -> F,
) -> ContainerSeen {
    let state = limited(host.container(container)).await;
    let pid = match &state {
        Seen::Known(ContainerState::Present(facts)) if facts.phase == Phase::Running => facts.pid,
        _ => return ContainerSeen { state, views: Default::default(), service: None },
    };
    let bound = host.mounts_bound(container);
    let fails = fails(bound.clone());
    let views = join_all(bound.into_iter().map(|mount| async move {
        let view = match pid {
            Some(pid) => limited(host.view(container, pid, &mount)).await,
            None => Seen::Unknown("Docker shows no process of it".to_owned()),
        };
        (mount, view)
    }));
    let service = async {
        match container.probed {
            // Cancel-safe: a question to a service outlives whoever waits for it.
            true => Some(tokio::select! {
                biased;
                seen = limited(host.service(container)) => seen,
                () = fails => Seen::Unknown("its mount does not serve".to_owned()),
            }),
            false => None,
        }
    };
    let (views, service) = futures::join!(views, service);
    ContainerSeen { state, views: views.into_iter().collect(), service }
}

/// Waits for one answer; none within [`LOOK_LIMIT`] is [`Seen::Unknown`].
async fn limited<T>(question: impl Future<Output = Seen<T>>) -> Seen<T> {
    match timeout(LOOK_LIMIT, question).await {
        Ok(seen) => seen,
        Err(_) => Seen::Unknown(format!("no answer within {} s", milliseconds(LOOK_LIMIT) / 1000)),
    }
}

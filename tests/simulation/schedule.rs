//! What happens to a host, made from a seed: its configuration, and its faults with their times.

use std::time::Duration;

use fastrand::Rng;
use ladder::state::{ContainerSettings, EcsSettings, Escalation, Owner, Settings, Timing, Workers};

/// Faults begin before this.
const STORM: u64 = 240_000;
/// One schedule in so many has a fault that outlasts every budget.
const DOOM: u32 = 12;
/// One schedule in so many has a service that fails again and again, and once more after a long health.
const WEAR: u32 = 12;

/// One schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub owner: Owner,
    pub in_cluster: bool,
    /// No container is configured: the mount is all there is.
    pub bare: bool,
    pub workers: Workers,
    pub escalation: Escalation,
    pub faults: Vec<Fault>,
    /// When the service fails after a health so long that what was done before is forgotten.
    pub anew: Vec<Duration>,
}

/// One fault: it begins, and what lasts ends by itself.
#[derive(Debug, Clone)]
pub struct Fault {
    pub at: Duration,
    pub lasts: Duration,
    pub kind: Kind,
}

/// What can happen. Those that last are conditions, the others strike once and stay until repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The container's process dies, of memory or otherwise.
    ContainerKilled,
    ContainerRemoved,
    ContainerPaused,
    /// It runs and answers nobody.
    ServiceWedged,
    /// The same, and no restart of it helps.
    Rotten,
    /// Every answer comes, and late.
    ServiceSlow,
    /// No answer comes, and the container works hard: a peak of load.
    ServiceBusy,
    /// Each container that starts answers nobody.
    BornWedged,
    /// It was made from another configuration.
    Outdated,
    /// Docker restarts it behind our back, whatever is mounted.
    RestartedByHand,
    /// Each container ends at once.
    BadEntrypoint,
    /// No container can be started.
    PortTaken,
    ImageGone,
    DockerDown,
    SessionAborted,
    /// The path is taken away, the session lives.
    Unmounted,
    Covered,
    /// Something is mounted over a directory above the path: the session serves who holds it.
    Hidden,
    /// Nothing can be mounted, although the bucket answers.
    Unmountable,
    WorkersStuck,
    /// File calls fail although the bucket answers.
    MountErrors,
    /// Somebody waits for an answer that nobody will give.
    RequestLost,
    S3Away,
    S3Refuses,
    BucketGone,
    S3Slow,
    CredentialsGone,
    MapBroken,
    EcsAgentDown,
    EcsDisconnected,
    EcsDeregistered,
    /// Somebody sets the instance to DRAINING, and in the end to ACTIVE again.
    DrainedByHand,
    /// Somebody else answers for the ECS agent, and names another host.
    Impostor,
    /// Looks fail, part by part.
    Blind,
    /// Looks hang, part by part.
    Deaf,
    /// Repairs fail, some of them half done.
    Clumsy,
    /// Repairs take long, or for ever.
    Slow,
    /// Wall time jumps.
    ClockJump,
    /// The agent is killed and started again.
    AgentKilled,
    /// A person asks for a pause.
    Maintenance,
}

const KINDS: [Kind; 40] = [
    Kind::ContainerKilled,
    Kind::ContainerRemoved,
    Kind::ContainerPaused,
    Kind::ServiceWedged,
    Kind::Rotten,
    Kind::ServiceSlow,
    Kind::ServiceBusy,
    Kind::BornWedged,
    Kind::Outdated,
    Kind::RestartedByHand,
    Kind::BadEntrypoint,
    Kind::PortTaken,
    Kind::ImageGone,
    Kind::DockerDown,
    Kind::SessionAborted,
    Kind::Unmounted,
    Kind::Covered,
    Kind::Hidden,
    Kind::Unmountable,
    Kind::WorkersStuck,
    Kind::MountErrors,
    Kind::RequestLost,
    Kind::S3Away,
    Kind::S3Refuses,
    Kind::BucketGone,
    Kind::S3Slow,
    Kind::CredentialsGone,
    Kind::MapBroken,
    Kind::EcsAgentDown,
    Kind::EcsDisconnected,
    Kind::EcsDeregistered,
    Kind::DrainedByHand,
    Kind::Impostor,
    Kind::Blind,
    Kind::Deaf,
    Kind::Clumsy,
    Kind::Slow,
    Kind::ClockJump,
    Kind::AgentKilled,
    Kind::Maintenance,
];

impl Schedule {
    pub fn from_seed(seed: u64) -> Schedule {
        let mut rng = Rng::with_seed(seed);
        let owner = if rng.bool() { Owner::Mapkeeper } else { Owner::Ecs };
        let mut faults = Vec::new();
        let doomed = rng.u32(0..DOOM) == 0;
        for _ in 0..rng.u32(1..=if doomed { 2 } else { 4 }) {
            fault(&mut rng, &mut faults);
        }
        if doomed {
            doom(&mut rng, &mut faults);
        }
        let in_cluster = owner == Owner::Ecs && rng.u32(0..4) > 0;
        let bare = rng.u32(0..10) == 0;
        let mut anew = Vec::new();
        if rng.u32(0..WEAR) == 0 && owner == Owner::Mapkeeper && !bare {
            (faults, anew) = wear(&mut rng);
        }
        faults.sort_by_key(|fault| fault.at);
        Schedule {
            owner,
            in_cluster,
            bare,
            workers: if rng.bool() { Workers::Fixed } else { Workers::Restartable },
            escalation: [Escalation::Drain, Escalation::DryRun, Escalation::Terminate][rng.usize(0..3)],
            faults,
            anew,
        }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            mounts: vec!["mapfiles".to_owned()],
            containers: if self.bare {
                Vec::new()
            } else {
                vec![ContainerSettings {
                    name: "mapserver".to_owned(),
                    owner: self.owner,
                    mounts: vec!["mapfiles".to_owned()],
                    probed: true,
                }]
            },
            ecs: self.in_cluster.then(|| EcsSettings { cluster: "maps".to_owned() }),
            workers: self.workers,
            escalation: self.escalation,
            timing: Timing::default(),
        }
    }

    /// When the last fault is over.
    pub fn over(&self) -> Duration {
        self.faults.iter().map(|fault| fault.at + fault.lasts).max().unwrap_or_default()
    }
}

/// One fault, or a flapping one: the same several times in a row.
fn fault(rng: &mut Rng, faults: &mut Vec<Fault>) {
    let kind = KINDS[rng.usize(0..KINDS.len())];
    let mut at = Duration::from_millis(rng.u64(0..STORM));
    let times = if rng.u32(0..6) == 0 { rng.u32(2..12) } else { 1 };
    for _ in 0..times {
        // Now and then long enough to spend every budget.
        let longest = if rng.u32(0..12) == 0 { 900_000 } else { 60_000 };
        let lasts = Duration::from_millis(rng.u64(50..longest / u64::from(times)));
        faults.push(Fault { at, lasts, kind });
        at += lasts + Duration::from_millis(rng.u64(10..20_000));
    }
}

/// Something that no repair cures for longer than an instance is kept, and now and then, meanwhile, a cause that
/// every other instance would meet as well, nobody who could see whether there is one, or another host that is named.
fn doom(rng: &mut Rng, faults: &mut Vec<Fault>) {
    let (lasting, trigger) = match rng.u32(0..4) {
        0 => (Kind::BadEntrypoint, Kind::ContainerKilled),
        1 => (Kind::PortTaken, Kind::ContainerKilled),
        2 => (Kind::BornWedged, Kind::ServiceWedged),
        _ => (Kind::Unmountable, Kind::SessionAborted),
    };
    let at = Duration::from_millis(rng.u64(20_000..STORM));
    let lasts = Duration::from_millis(rng.u64(900_000..2_000_000));
    faults.push(Fault { at, lasts, kind: lasting });
    let moment = Duration::from_millis(100);
    faults.push(Fault { at: at + moment, lasts: moment, kind: trigger });
    if rng.bool() {
        let shared = [Kind::S3Away, Kind::S3Slow, Kind::S3Refuses, Kind::BucketGone, Kind::CredentialsGone];
        let unseen = [Kind::Blind, Kind::Deaf];
        let at = at + Duration::from_millis(rng.u64(100_000..700_000));
        let lasts = Duration::from_millis(rng.u64(60_000..900_000));
        let kind =
            if rng.u32(0..3) == 0 { unseen[rng.usize(0..2)] } else { shared[rng.usize(0..shared.len())] };
        faults.push(Fault { at, lasts, kind });
    }
    // Who is past help is about to be marked in the cluster.
    if rng.u32(0..4) == 0 {
        let lasts = Duration::from_millis(rng.u64(100_000..600_000));
        faults.push(Fault { at, lasts, kind: Kind::Impostor });
    }
}

/// A service that fails every half minute until its budget is long spent; that serves for so long that everything is
/// forgotten; and that then fails again.
fn wear(rng: &mut Rng) -> (Vec<Fault>, Vec<Duration>) {
    let wedged = |at: u64| Fault {
        at: Duration::from_millis(at),
        lasts: Duration::from_millis(50),
        kind: Kind::ServiceWedged,
    };
    let mut at = rng.u64(20_000..60_000);
    let mut faults = Vec::new();
    while at < 1_200_000 {
        faults.push(wedged(at));
        at += rng.u64(20_000..30_000);
    }
    // The slow pause, the time after which is forgiven, and a little.
    let first = at + rng.u64(660_000..900_000);
    let again = [first, first + 60_000];
    faults.extend(again.map(wedged));
    (faults, again.map(Duration::from_millis).to_vec())
}

//! What can be wrong, as words that actions and events carry.

use serde::{Deserialize, Serialize};

/// What is wrong, as a word that `action` and events carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    CredentialsMissing,
    /// S3 cannot be asked.
    StoreAway,
    /// S3 refuses the credentials or the access.
    StoreRefuses,
    /// There is no such bucket.
    BucketMissing,
    /// Nothing is mounted at the path.
    NothingMounted,
    /// The mount of a mapkeeper process that is gone.
    LeftOver,
    /// Something else was mounted over ours.
    Covered,
    /// Something that is not ours, where ours never was.
    ForeignMount,
    SessionEnded,
    /// The kernel says ENOTCONN although the session does not know of its end.
    Disconnected,
    /// It serves whoever holds it, and something over a directory above it keeps it from being found by its path.
    Hidden,
    MountSilent,
    MountErrors,
    /// The mount shows something else than the bucket holds.
    DataDiffers,
    /// Requests of the kernel have been waiting for an answer all the time.
    RequestsStuck,
    /// The kernel waits for answers of which the session knows nothing.
    RequestsLost,
    /// S3 cannot be asked; the mount serves what it remembers.
    ServesFromCache,
    /// What was written lost a race and is kept on disk.
    WriteKept,
    DockerUnreachable,
    ContainerAbsent,
    ForeignContainer,
    SpecificationChanged,
    ContainerCreated,
    ContainerExited,
    ContainerDead,
    ContainerPaused,
    ContainerInTransit,
    /// The container sees another device than the host has mounted.
    StaleMount,
    /// The container sees no mount at all at the bind's target.
    MountNotVisible,
    NoConnection,
    /// Silence: no answer for much longer than the probe's timeout, and no work.
    NoAnswer,
    ServerError,
    /// It answers, later than the probe's timeout.
    ServiceSlow,
    /// It has not answered yet, and is not silent yet either.
    AnswerOverdue,
    /// No answer for as long as a silent one, but it works, or that could not be told.
    Overloaded,
    MapBroken,
    MapMissing,
    /// MapServer misses the error log that the environment of its container names.
    ErrorFile,
    /// It says that it misses another file than that.
    ErrorFileUnnamed,
    PatternRefused,
    ConfigMissing,
    RasterCredentials,
    HttpStatus,
    NotWms,
    ServiceException,
    EcsAgentDown,
    EcsUnregistered,
    EcsWrongCluster,
    EcsDisconnected,
    /// The cluster does not know this instance.
    EcsInstanceAbsent,
    /// The ECS agent's word is about another instance, or it cannot be told whether it is.
    EcsIdentity,
    /// The cluster takes its tasks away.
    EcsDraining,
    /// The container is not among those of the ECS agent.
    EcsTaskUnknown,
    /// The readiness attribute in the cluster is not what it should be.
    EcsReadiness,
    /// Every repair of this host was tried and did not help.
    Exhausted,
}

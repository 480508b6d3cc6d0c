//! What can be done: repairs, the rungs that they stand on, and how one ended.

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use super::seen::Device;
use super::target::Target;

/// What is done about it. `remedy.rs` says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Fetch the credentials anew.
    Refresh,
    /// Let new workers answer on the session that exists.
    RestartWorkers,
    /// Mount where nothing is mounted.
    Mount,
    /// Detach every layer, then mount.
    Remount,
    /// Take away what was mounted over a session that lives.
    Uncover,
    Unpause,
    Restart,
    /// Stop a container of ECS, which replaces it.
    Stop,
    Start,
    Create,
    /// Remove a container of ours and create it again.
    Recreate,
    /// Make the log file inside the container that MapServer misses.
    MakeErrorLog,
    RestartEcsAgent,
    /// Let the ECS agent forget which instance it was, and start it again.
    Reregister,
    /// Tell the cluster that tasks may, or may not, be placed here.
    MarkReady,
    MarkUnready,
    /// Give the instance back to the Auto Scaling group.
    Terminate,
}

impl Repair {
    /// The rung of the ladder that it stands on: attempts are counted and limited per rung.
    pub fn rung(self) -> Rung {
        match self {
            Repair::Refresh => Rung::Credentials,
            Repair::RestartWorkers => Rung::Workers,
            Repair::Mount | Repair::Remount | Repair::Uncover => Rung::Remount,
            Repair::Unpause | Repair::Restart | Repair::Stop => Rung::Restart,
            Repair::MakeErrorLog => Rung::Adjust,
            Repair::Start | Repair::Create | Repair::Recreate => Rung::Recreate,
            Repair::RestartEcsAgent | Repair::Reregister => Rung::Ecs,
            Repair::MarkReady | Repair::MarkUnready => Rung::Drain,
            Repair::Terminate => Rung::Terminate,
        }
    }
}

/// A rung of the ladder in the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Rung 1: fetch credentials.
    Credentials,
    /// Rung 2: new workers for the session that exists.
    Workers,
    /// Rung 3: detach and mount again.
    Remount,
    /// Rung 4: the same container once more.
    Restart,
    /// Rung 4 as well: something inside the container.
    Adjust,
    /// Rung 5: start what ended, or make it again.
    Recreate,
    /// Rung 5 for ECS: its agent and its membership.
    Ecs,
    /// Rung 6: no tasks are placed here.
    Drain,
    /// Rung 7: give the instance back.
    Terminate,
}

/// One repair of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub target: Target,
    pub repair: Repair,
    pub trigger: Reason,
    /// The mounts that had to be proven for this action, with the devices that proved it. Whoever
    /// applies it compares them once more and refuses if one has changed.
    pub rests_on: Vec<Proof>,
}

/// A mount that was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub mount: String,
    pub device: Device,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Failed(Failure),
}

/// Why an action failed, in the words and with the exit code that a person would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
    pub hint: Option<String>,
    /// The code that a process ends with which fails so.
    pub exit: u8,
}

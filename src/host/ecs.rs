//! The ECS agent of this host and its place in a cluster: the only place that speaks to either.
//!
//! ```text
//!   introspection (127.0.0.1:51678)   what the agent believes: cluster, instance, tasks. Green while it is disconnected
//!   the cluster (ECS API)             what is true: known or not, connected or not, the readiness attribute
//!   systemctl, the agent's data       start it again; let it forget which instance it was
//! ```
//!
//! What must hold: no instance is marked but this one (`identity.rs`); nothing here starts, stops or changes a container; `systemctl` is never waited for beyond its
//! queueing (`--no-block`), because `ecs.service` may wait for mapkeeper; the agent's data is moved aside, not
//! deleted; every question has a limit.

mod identity;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_ecs::types::{Attribute, ContainerInstanceStatus, TargetType};
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::aws;
use crate::error::{Advise, Exit};
use crate::host::http::{self, HttpError};

use identity::OwnId;
use ladder::state::{EcsAgent, EcsInstance, Identity};

/// Where every ECS agent answers about itself.
pub const INTROSPECTION: &str = "http://127.0.0.1:51678";
/// Where the ECS agent remembers which instance it is.
pub const DATA: &str = "/var/lib/ecs/data";
/// The attribute by which tasks are placed on hosts that serve.
pub const READY_ATTRIBUTE: &str = "mapkeeper.ready";
/// What to do where the agent's address may be somebody else's.
const STRANGER: &str = "look who listens there: ss -ltnp sport = 51678; is the instance metadata service on?";
/// The unit of the ECS agent.
const UNIT: &str = "ecs.service";
/// Longest wait for introspection, for the cluster and for `systemctl`.
const LOCAL_LIMIT: Duration = Duration::from_secs(2);
const CLUSTER_LIMIT: Duration = Duration::from_secs(4);
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(20);

/// The ECS agent of this host and its cluster.
#[derive(Debug)]
pub struct Ecs {
    cluster: String,
    region: Option<String>,
    introspection: String,
    data: PathBuf,
    client: OnceCell<Client>,
    own: OwnId,
}

/// Why the ECS agent or the cluster could not be asked, or did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EcsError {
    #[error("the ECS agent does not answer")]
    Introspection { source: HttpError },
    #[error("the ECS agent answers {status} to {path:?}")]
    Status { path: &'static str, status: u16 },
    #[error("the ECS agent's answer to {path:?} makes no sense")]
    Malformed { path: &'static str, source: serde_json::Error },
    #[error("the role of this instance may not call ecs:{operation}")]
    Denied { operation: &'static str },
    #[error("ecs:{operation} of cluster {cluster:?} went wrong: {reason}")]
    Cluster { operation: &'static str, cluster: String, reason: String },
    #[error("cluster {cluster:?} did not answer ecs:{operation} within {} s", CLUSTER_LIMIT.as_secs())]
    Silent { operation: &'static str, cluster: String },
    #[error("container instance {instance} is not marked: {reason}")]
    NotThisHost { instance: String, reason: String },
    #[error("cannot run systemctl")]
    Systemctl { source: io::Error },
    #[error("systemctl {verb} {UNIT} ended with {status}: {said}")]
    Unit { verb: &'static str, status: String, said: String },
    #[error("systemctl {verb} {UNIT} did not end within {} s", SYSTEMCTL_LIMIT.as_secs())]
    UnitSilent { verb: &'static str },
    #[error("cannot move {path:?} aside")]
    Data { path: PathBuf, source: io::Error },
}

impl Advise for EcsError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            EcsError::Introspection { .. } | EcsError::Status { .. } | EcsError::Malformed { .. } => {
                "systemctl status ecs; journalctl -u ecs".to_owned()
            }
            EcsError::Denied { operation } => format!("allow ecs:{operation} to the role of the instance"),
            EcsError::Cluster { .. } | EcsError::Silent { .. } => {
                "check that this host reaches the endpoints of ECS, and the name of the cluster".to_owned()
            }
            EcsError::NotThisHost { .. } => STRANGER.to_owned(),
            EcsError::Systemctl { .. } => {
                "the ECS agent is restarted by systemd: is this such a host?".to_owned()
            }
            EcsError::Unit { .. } | EcsError::UnitSilent { .. } => "journalctl -u ecs".to_owned(),
            EcsError::Data { .. } => return None,
        };
        Some(hint)
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    cluster: Option<String>,
    container_instance_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tasks {
    tasks: Option<Vec<Task>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    containers: Option<Vec<TaskContainer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskContainer {
    docker_id: Option<String>,
}

impl Ecs {
    /// The agent that answers at `introspection` (normally [`INTROSPECTION`]) and keeps its data in `data`
    /// (normally [`DATA`]).
    pub fn new(cluster: &str, region: Option<&str>, introspection: &str, data: &Path) -> Ecs {
        Ecs {
            cluster: cluster.to_owned(),
            region: region.map(str::to_owned),
            introspection: introspection.to_owned(),
            data: data.to_owned(),
            client: OnceCell::new(),
            own: OwnId::default(),
        }
    }

    /// What the agent believes of itself. That nobody listens is an answer, silence is none.
    ///
    /// # Errors
    ///
    /// [`EcsError`] when it could not be asked.
    pub async fn agent(&self) -> Result<EcsAgent, EcsError> {
        let body = match self.introspect("/v1/metadata").await {
            Err(EcsError::Introspection { source: HttpError::Connect { source, .. } })
                if source.kind() == io::ErrorKind::ConnectionRefused =>
            {
                return Ok(EcsAgent::Down { reason: source.to_string() });
            }
            other => other?,
        };
        let found: Metadata = understood("/v1/metadata", &body)?;
        Ok(match (found.cluster, found.container_instance_arn) {
            (Some(cluster), Some(instance)) if !instance.is_empty() => {
                EcsAgent::Registered { cluster, instance }
            }
            _ => EcsAgent::Unregistered,
        })
    }

    /// The Docker ids of the containers that the agent knows of.
    ///
    /// # Errors
    ///
    /// [`EcsError`] when it could not be asked.
    pub async fn tasks(&self) -> Result<Vec<String>, EcsError> {
        let body = self.introspect("/v1/tasks").await?;
        let found: Tasks = understood("/v1/tasks", &body)?;
        let containers = found.tasks.unwrap_or_default().into_iter().filter_map(|task| task.containers);
        Ok(containers.flatten().filter_map(|container| container.docker_id).collect())
    }

    /// What the cluster says of `instance`.
    ///
    /// # Errors
    ///
    /// [`EcsError::Denied`] when the role may not ask, else why it could not be asked.
    pub async fn instance(&self, instance: &str) -> Result<EcsInstance, EcsError> {
        let operation = "DescribeContainerInstances";
        let client = self.client().await;
        let asked =
            client.describe_container_instances().cluster(&self.cluster).container_instances(instance).send();
        let (answer, own) = futures::join!(self.limited(operation, asked), self.own.ask());
        let answer = answer?;
        let inactive = "INACTIVE";
        let found = answer
            .container_instances()
            .iter()
            .find(|one| one.container_instance_arn() == Some(instance) && one.status() != Some(inactive));
        Ok(found.map_or(EcsInstance::Absent, |one| EcsInstance::Present {
            connected: one.agent_connected(),
            draining: one.status() == Some("DRAINING"),
            identity: identity::compare(own, one.ec2_instance_id()),
            ready: one
                .attributes()
                .iter()
                .find(|attribute| attribute.name() == READY_ATTRIBUTE)
                .map(|attribute| attribute.value() == Some("true")),
        }))
    }

    /// Tells the cluster whether tasks may be placed on `instance`, which must be this host: the attribute, and the state
    /// that moves the tasks which are there to other hosts. The attribute says "not ready" for as long as any of it is
    /// so: a drain beside an attribute that says "ready" is somebody else's.
    ///
    /// # Errors
    ///
    /// [`EcsError::NotThisHost`], [`EcsError::Denied`] when the role may not, else what the cluster says.
    pub async fn mark(&self, instance: &str, ready: bool) -> Result<(), EcsError> {
        let not_this_host =
            |reason: &str| EcsError::NotThisHost { instance: instance.to_owned(), reason: reason.to_owned() };
        match self.instance(instance).await? {
            EcsInstance::Present { identity: Identity::Same, .. } => {}
            EcsInstance::Present {
                identity: Identity::Other(reason) | Identity::Unknown(reason), ..
            } => {
                return Err(not_this_host(&reason));
            }
            _ => return Err(not_this_host("the cluster does not know it")),
        }
        if ready {
            self.set_state(instance, ContainerInstanceStatus::Active).await?;
            return self.put_ready(instance, "true").await;
        }
        self.put_ready(instance, "false").await?;
        self.set_state(instance, ContainerInstanceStatus::Draining).await
    }

    async fn put_ready(&self, instance: &str, value: &str) -> Result<(), EcsError> {
        let attribute = Attribute::builder()
            .name(READY_ATTRIBUTE)
            .value(value)
            .target_type(TargetType::ContainerInstance)
            .target_id(instance)
            .build()
            .expect("it has a name");
        let client = self.client().await;
        let put = client.put_attributes().cluster(&self.cluster).attributes(attribute).send();
        self.limited("PutAttributes", put).await.map(drop)
    }

    async fn set_state(&self, instance: &str, state: ContainerInstanceStatus) -> Result<(), EcsError> {
        let operation = "UpdateContainerInstancesState";
        let client = self.client().await;
        let set = client.update_container_instances_state();
        let set = set.cluster(&self.cluster).container_instances(instance).status(state).send();
        let answer = self.limited(operation, set).await?;
        // It answers with success, and with what it did not do.
        match answer.failures().first() {
            None => Ok(()),
            Some(failure) => {
                let reason = failure.reason().unwrap_or("it does not say why").to_owned();
                Err(EcsError::Cluster { operation, cluster: self.cluster.clone(), reason })
            }
        }
    }

    /// Queues a restart of the agent.
    ///
    /// # Errors
    ///
    /// When systemd refuses.
    pub async fn restart_agent(&self) -> Result<(), EcsError> {
        systemctl("restart").await
    }

    /// Lets the agent forget which instance it was, and start anew: it registers again. What it knew stays beside
    /// its place, as `agent.db.forgotten`.
    ///
    /// # Errors
    ///
    /// When systemd refuses, or the data cannot be moved.
    pub async fn reregister(&self) -> Result<(), EcsError> {
        // The agent writes its data when it ends, so it is moved after that: `stop` is waited for.
        systemctl("stop").await?;
        let path = self.data.join("agent.db");
        match std::fs::rename(&path, self.data.join("agent.db.forgotten")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EcsError::Data { path, source: error })
            }
            _ => systemctl("start").await,
        }
    }

    async fn introspect(&self, path: &'static str) -> Result<Vec<u8>, EcsError> {
        let url = format!("{}{path}", self.introspection);
        let answer = http::get(&url, LOCAL_LIMIT).await;
        let answer = answer.map_err(|source| EcsError::Introspection { source })?;
        match answer.status {
            200 => Ok(answer.body.to_vec()),
            status => Err(EcsError::Status { path, status }),
        }
    }

    async fn client(&self) -> Client {
        if let Some(client) = self.client.get() {
            return client.clone();
        }
        // The role of the instance, not the keys of the bucket.
        let sdk = aws::sdk_config(self.region.as_deref(), None, None).await;
        let client = Client::new(&sdk);
        // One without a region asks nobody, whenever it is used: the next may have one.
        if sdk.region().is_some() {
            let _ = self.client.set(client.clone());
        }
        client
    }

    async fn limited<T, E, R>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T, aws_sdk_ecs::error::SdkError<E, R>>>,
    ) -> Result<T, EcsError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        let cluster = self.cluster.clone();
        match timeout(CLUSTER_LIMIT, asked).await {
            Err(_) => Err(EcsError::Silent { operation, cluster }),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.code().is_some_and(|code| code.starts_with("AccessDenied")) => {
                Err(EcsError::Denied { operation })
            }
            Ok(Err(error)) => {
                let reason = DisplayErrorContext(&error).to_string().chars().take(300).collect();
                Err(EcsError::Cluster { operation, cluster, reason })
            }
        }
    }
}

fn understood<T: for<'a> Deserialize<'a>>(path: &'static str, body: &[u8]) -> Result<T, EcsError> {
    serde_json::from_slice(body).map_err(|source| EcsError::Malformed { path, source })
}

/// Runs systemctl on the agent's unit. Only a stop is waited for.
async fn systemctl(verb: &'static str) -> Result<(), EcsError> {
    let mut command = Command::new("systemctl");
    if verb != "stop" {
        command.arg("--no-block");
    }
    command.args([verb, UNIT]).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(SYSTEMCTL_LIMIT, command.output()).await {
        Err(_) => return Err(EcsError::UnitSilent { verb }),
        Ok(output) => output.map_err(|source| EcsError::Systemctl { source })?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(200).collect();
    Err(EcsError::Unit { verb, status: output.status.to_string(), said })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::host::http::stand_in::server;

    fn ecs(introspection: &str) -> Ecs {
        Ecs::new("maps", Some("us-east-1"), introspection, Path::new("/none"))
    }

    #[tokio::test]
    async fn an_agent_is_told_by_its_introspection() {
        let registered = r#"{"Cluster":"maps","ContainerInstanceArn":"arn:x","Version":"1.105"}"#;
        let cases = [
            (registered, EcsAgent::Registered { cluster: "maps".to_owned(), instance: "arn:x".to_owned() }),
            (r#"{"Cluster":"maps","ContainerInstanceArn":null}"#, EcsAgent::Unregistered),
            (r#"{"Cluster":"","ContainerInstanceArn":""}"#, EcsAgent::Unregistered),
            ("{}", EcsAgent::Unregistered),
        ];
        for (body, expected) in cases {
            let server = server(move |_, _| Some((200, body))).await;
            assert_eq!(ecs(&server.url).agent().await.unwrap(), expected, "{body}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_away_is_known_and_one_that_talks_nonsense_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let found = ecs(&address).agent().await.unwrap();
        assert!(matches!(&found, EcsAgent::Down { reason } if reason.contains("refused")), "{found:?}");
        let error = ecs(&server(|_, _| Some((200, "hello"))).await.url).agent().await.unwrap_err();
        assert_eq!(error.to_string(), "the ECS agent's answer to \"/v1/metadata\" makes no sense");
        let error = ecs(&server(|_, _| Some((500, ""))).await.url).agent().await.unwrap_err();
        assert_eq!(error.to_string(), "the ECS agent answers 500 to \"/v1/metadata\"");
        assert!(error.hint().unwrap().contains("journalctl -u ecs"));
    }

    #[tokio::test]
    async fn the_containers_of_all_tasks_are_known() {
        let body = r#"{"Tasks":[{"Arn":"a","Containers":[{"DockerId":"one","Name":"x"},{"DockerId":"two"}]},
            {"Arn":"b","Containers":[{"DockerId":"three"}]},{"Arn":"c"}]}"#;
        let agent = server(move |_, _| Some((200, body))).await;
        assert_eq!(ecs(&agent.url).tasks().await.unwrap(), ["one", "two", "three"]);
        let idle = server(|_, _| Some((200, r#"{"Tasks":null}"#))).await;
        assert!(ecs(&idle.url).tasks().await.unwrap().is_empty());
    }

    #[test]
    fn every_error_says_what_it_is_about() {
        let cluster = || "maps".to_owned();
        let cases = [
            (
                EcsError::Denied { operation: "PutAttributes" },
                "the role of this instance may not call ecs:PutAttributes",
            ),
            (
                EcsError::Cluster { operation: "X", cluster: cluster(), reason: "no".to_owned() },
                "ecs:X of cluster \"maps\" went wrong: no",
            ),
            (
                EcsError::NotThisHost { instance: "arn:x".to_owned(), reason: "no".to_owned() },
                "container instance arn:x is not marked: no",
            ),
            (
                EcsError::Silent { operation: "X", cluster: cluster() },
                "cluster \"maps\" did not answer ecs:X within 4 s",
            ),
            (
                EcsError::Unit {
                    verb: "restart",
                    status: "exit status: 5".to_owned(),
                    said: "no".to_owned(),
                },
                "systemctl restart ecs.service ended with exit status: 5: no",
            ),
            (EcsError::UnitSilent { verb: "stop" }, "systemctl stop ecs.service did not end within 20 s"),
            (EcsError::Systemctl { source: io::Error::other("x") }, "cannot run systemctl"),
            (EcsError::Data { path: "/d".into(), source: io::Error::other("x") }, "cannot move \"/d\" aside"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.exit(), Exit::Degraded);
        }
    }
}

//! What can go wrong with Docker, told apart by what a person has to do about it.
//!
//! Docker says most of it as text within HTTP 500. Its text is looked at in this file only, and only
//! to name the port or the directory; an unknown text is passed on whole.

use std::time::Duration;

use bollard::errors::Error;

use super::identity::title;
use crate::config::{self, Port};
use crate::error::{Advise, Exit};

/// Why Docker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("Docker does not answer at {socket}")]
    Unreachable { socket: String, source: Box<Error> },
    #[error("Docker ended its stream of events")]
    EventsEnded,
    #[error("image {image:?} is not on this host and cannot be pulled")]
    ImageMissing { image: String, source: Box<Error> },
    #[error("image {image:?} is not on this host and was not pulled within {} s", limit.as_secs())]
    PullSilent { image: String, limit: Duration },
    #[error("port {port} of container {name:?} is taken")]
    PortTaken { name: String, port: u16, source: Box<Error> },
    #[error("a bind of container {name:?} has no source directory")]
    BindSourceMissing { name: String, source: Box<Error> },
    #[error("a container named {name:?} exists and was not made by mapkeeper")]
    Foreign { name: String },
    #[error("container {name:?} belongs to another agent, that of the runtime directory {agent:?}")]
    Anothers { name: String, agent: String },
    #[error("container {name:?} is gone")]
    Gone { name: String },
    #[error("container {name:?} has no name and image to be made from")]
    NotDescribed { name: String },
    #[error("the file {path:?} cannot be made in the container: {why}")]
    NotMade { path: String, why: String },
    #[error("Docker refused to {doing} {name:?}")]
    Refused { doing: &'static str, name: String, source: Box<Error> },
}

impl Advise for ContainerError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            ContainerError::Unreachable { .. } | ContainerError::EventsEnded => {
                "install and start it (apt-get install docker.io; systemctl start docker), or set DOCKER_HOST"
                    .to_owned()
            }
            ContainerError::ImageMissing { image, .. } | ContainerError::PullSilent { image, .. } => {
                format!("build or load the image, or check its name: docker pull {image}")
            }
            ContainerError::PortTaken { port, .. } => {
                format!("see who listens (ss -ltnp 'sport = :{port}'), or choose another port")
            }
            ContainerError::BindSourceMissing { .. } => {
                "create the directory, or correct `binds` of the container".to_owned()
            }
            ContainerError::Foreign { name } => {
                format!("remove it (docker rm -f {name}), or choose another name")
            }
            ContainerError::Anothers { agent, .. } => {
                format!("choose another name, or end that agent: mapkeeper --runtime-dir {agent} status")
            }
            ContainerError::NotMade { .. } => {
                "set MS_ERRORFILE of the container to stderr, and take it out of the mapfile".to_owned()
            }
            ContainerError::NotDescribed { .. } => "give the container a name and an image".to_owned(),
            ContainerError::Gone { .. } | ContainerError::Refused { .. } => return None,
        };
        Some(hint)
    }

    fn exit(&self) -> Exit {
        match self {
            ContainerError::Unreachable { .. } | ContainerError::EventsEnded => Exit::DockerUnreachable,
            ContainerError::ImageMissing { .. } | ContainerError::PullSilent { .. } => Exit::ImageMissing,
            ContainerError::PortTaken { .. } => Exit::PortTaken,
            ContainerError::NotDescribed { .. } => Exit::Usage,
            ContainerError::BindSourceMissing { .. }
            | ContainerError::Foreign { .. }
            | ContainerError::Anothers { .. }
            | ContainerError::Gone { .. }
            | ContainerError::NotMade { .. }
            | ContainerError::Refused { .. } => Exit::Degraded,
        }
    }
}

impl ContainerError {
    pub(super) fn unreachable(error: Error) -> ContainerError {
        ContainerError::Unreachable { socket: socket(), source: Box::new(error) }
    }

    pub(super) fn foreign(wanted: &config::Container, agent: Option<String>) -> ContainerError {
        let name = title(wanted);
        match agent {
            Some(agent) => ContainerError::Anothers { name, agent },
            None => ContainerError::Foreign { name },
        }
    }

    /// A question that went wrong: either Docker is away, or it refused.
    pub(super) fn asked(doing: &'static str, name: &str, error: Error) -> ContainerError {
        if matches!(error, Error::DockerResponseServerError { .. }) {
            return ContainerError::Refused { doing, name: name.to_owned(), source: Box::new(error) };
        }
        ContainerError::unreachable(error)
    }

    /// An order that went wrong: like a question, and some refusals have a name.
    pub(super) fn refused(doing: &'static str, wanted: &config::Container, error: Error) -> ContainerError {
        let name = title(wanted);
        if let Error::DockerResponseServerError { message, .. } = &error {
            if let Some(port) = port_taken(message, &wanted.ports) {
                return ContainerError::PortTaken { name, port, source: Box::new(error) };
            }
            if message.contains("bind source path does not exist") {
                return ContainerError::BindSourceMissing { name, source: Box::new(error) };
            }
        }
        ContainerError::asked(doing, &name, error)
    }
}

pub(super) fn is_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// The socket that is meant, for messages.
fn socket() -> String {
    std::env::var("DOCKER_HOST")
        .ok()
        .filter(|host| host.starts_with("unix://"))
        .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

/// Which of the wanted ports Docker says is taken. Its words differ from release to release, by another
/// container or by another process; the port stands in them as `:8080`.
fn port_taken(message: &str, wanted: &[Port]) -> Option<u16> {
    let taken = message.contains("port is already allocated") || message.contains("address already in use");
    let named = |port: &&Port| {
        let text = format!(":{}", port.host);
        message.match_indices(&text).any(|(at, _)| {
            let after = message.get(at + text.len()..).unwrap_or("");
            !after.starts_with(|next: char| next.is_ascii_digit())
        })
    };
    wanted.iter().filter(|_| taken).find(named).map(|port| port.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;

    fn response(message: &str) -> Error {
        Error::DockerResponseServerError { status_code: 500, message: message.to_owned() }
    }

    fn wanted() -> config::Container {
        crate::config::tests::container("name = \"web\"\nports = [\"808:80\", \"8080:80\"]\n")
    }

    #[test]
    fn a_port_that_is_taken_is_named_in_all_of_dockers_ways() {
        for message in [
            "driver failed programming external connectivity on endpoint x (0a): Bind for 0.0.0.0:8080 \
             failed: port is already allocated",
            "driver failed programming external connectivity on endpoint x (0a): Error starting userland \
             proxy: listen tcp4 127.0.0.1:8080: bind: address already in use",
            "failed to bind host port 0.0.0.0:8080/tcp: address already in use",
        ] {
            let error = ContainerError::refused("start", &wanted(), response(message));
            assert_eq!(error.to_string(), "port 8080 of container \"web\" is taken", "{message}");
            assert_eq!(error.exit(), Exit::PortTaken);
            assert!(error.hint().unwrap().contains("sport = :8080"));
        }
    }

    #[test]
    fn a_port_in_another_complaint_is_not_taken() {
        let error = ContainerError::refused("start", &wanted(), response("no route to 10.0.0.1:8080"));
        assert!(matches!(error, ContainerError::Refused { .. }), "{error:?}");
    }

    #[test]
    fn a_missing_source_of_a_bind_is_told() {
        let error = ContainerError::refused(
            "create",
            &wanted(),
            response("invalid mount config for type \"bind\": bind source path does not exist: /none"),
        );
        assert!(Chain(&error).to_string().contains("/none"), "{error}");
        assert_eq!(error.to_string(), "a bind of container \"web\" has no source directory");
        assert!(error.hint().is_some());
    }

    #[test]
    fn what_docker_refuses_otherwise_is_passed_on() {
        let error = ContainerError::refused("restart", &wanted(), response("no space left"));
        let text = Chain(&error).to_string();
        assert_eq!(
            text,
            "Docker refused to restart \"web\": Docker responded with status code 500: no space left"
        );
        assert_eq!((error.hint(), error.exit()), (None, Exit::Degraded));
    }

    #[test]
    fn a_broken_connection_means_that_docker_is_away() {
        let error = ContainerError::asked("list", "", Error::RequestTimeoutError);
        assert!(error.to_string().starts_with("Docker does not answer at unix://"), "{error}");
        assert_eq!(error.exit(), Exit::DockerUnreachable);
        assert!(error.hint().unwrap().contains("systemctl start docker"));
    }

    #[test]
    fn every_other_error_says_what_it_is_about() {
        let image = || "mapserver:8".to_owned();
        let name = || "web".to_owned();
        let source = || Box::new(Error::RequestTimeoutError);
        let limit = Duration::from_secs(240);
        let cases = [
            (ContainerError::EventsEnded, "Docker ended its stream of events", 15),
            (
                ContainerError::ImageMissing { image: image(), source: source() },
                "image \"mapserver:8\" is not on this host and cannot be pulled",
                18,
            ),
            (
                ContainerError::PullSilent { image: image(), limit },
                "image \"mapserver:8\" is not on this host and was not pulled within 240 s",
                18,
            ),
            (
                ContainerError::Foreign { name: name() },
                "a container named \"web\" exists and was not made by mapkeeper",
                1,
            ),
            (
                ContainerError::Anothers { name: name(), agent: "/run/a".to_owned() },
                "container \"web\" belongs to another agent, that of the runtime directory \"/run/a\"",
                1,
            ),
            (
                ContainerError::NotMade { path: "/l".to_owned(), why: "no".to_owned() },
                "the file \"/l\" cannot be made in the container: no",
                1,
            ),
            (ContainerError::Gone { name: name() }, "container \"web\" is gone", 1),
            (
                ContainerError::NotDescribed { name: name() },
                "container \"web\" has no name and image to be made from",
                64,
            ),
        ];
        for (error, text, exit) in cases {
            assert_eq!((error.to_string().as_str(), error.exit().code()), (text, exit));
        }
    }
}

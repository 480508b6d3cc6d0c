//! Why the metadata of the instance is not known, with the cure of each reason.

use crate::error::{Advise, Exit};

/// Why the metadata of the instance is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    #[error("this host is no EC2 instance")]
    NotEc2,
    #[error("the instance metadata service is not asked, because AWS_EC2_METADATA_DISABLED is set")]
    Disabled,
    #[error("{endpoint:?} is no address of an instance metadata service, expected http://host[:port]")]
    Endpoint { endpoint: String },
    #[error("the instance metadata service at {endpoint} cannot be reached: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("the instance metadata service at {endpoint} is turned off (403)")]
    Off { endpoint: String },
    #[error(
        "the metadata service at {endpoint} has no session tokens (IMDSv2): it answered {status} to the request for one"
    )]
    OnlyVersion1 { endpoint: String, status: u16 },
    #[error(
        "the instance metadata service at {endpoint} answers, but its session token does not arrive: the hop limit is 1 and this process is more than one hop away"
    )]
    HopLimit { endpoint: String },
    #[error("the instance metadata service at {endpoint} gave no answer within {} ms", .limit.as_millis())]
    Slow { endpoint: String, limit: std::time::Duration },
    #[error("the instance metadata service answered {status} to a request for {path:?}")]
    Refused { path: String, status: u16 },
    #[error("the instance metadata has no {what}")]
    Absent { what: &'static str },
    #[error("the instance metadata service said {found:?} for {path:?}, expected one line of text")]
    Malformed { path: String, found: String },
}

impl Advise for InstanceError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            InstanceError::NotEc2 => {
                "say in the configuration what the instance would have said, first of all `region`"
            }
            InstanceError::Disabled => {
                "unset AWS_EC2_METADATA_DISABLED, or set `region` in the configuration"
            }
            InstanceError::Endpoint { .. } => "correct AWS_EC2_METADATA_SERVICE_ENDPOINT",
            InstanceError::Unreachable { .. } => {
                "a firewall rule or a route stands between: iptables -S | grep 169.254.169.254; ip route get 169.254.169.254"
            }
            InstanceError::Off { .. } => {
                "turn it on: aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled"
            }
            InstanceError::OnlyVersion1 { .. } => {
                "mapkeeper speaks IMDSv2 only: update the metadata service, or set what it would say in the configuration"
            }
            InstanceError::HopLimit { .. } => {
                "run on the host's network, or: aws ec2 modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2"
            }
            InstanceError::Slow { .. } => {
                "it limits the rate per instance: look for a process that asks it all the time"
            }
            InstanceError::Refused { .. }
            | InstanceError::Absent { .. }
            | InstanceError::Malformed { .. } => {
                "is this the metadata service of EC2? curl it by hand with a token"
            }
        };
        Some(hint.to_owned())
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

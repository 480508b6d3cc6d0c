//! What the instance knows of itself: region, zone, id, role, tags and user data.
//!
//! ```text
//!   Metadata --IMDSv2--> 169.254.169.254        region, zone, id, role, user data, tags
//!      |                                          tags not offered there (404)
//!      +----EC2 API----> ec2:DescribeTags  <------+
//!                        ec2:CreateTags           what mapkeeper says of itself
//! ```
//!
//! What must hold: nothing is asked without a session token (IMDSv2); nothing is guessed, so a region is never cut
//! out of the name of a zone; on a host that is no instance nobody waits; each way in which the service can fail has
//! a message and a cure of its own.

#[cfg(feature = "ec2")]
mod ec2;
mod imds;

use std::collections::BTreeMap;

use crate::error::{Advise, Exit};

#[cfg(feature = "ec2")]
pub use ec2::{TagsError, terminate, write_tags};
pub use imds::{Limits, Metadata};

/// Tags that begin with this are settings of mapkeeper, or what it says of itself.
pub const TAG_PREFIX: &str = "mapkeeper:";

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
        Some(match self {
            InstanceError::NotEc2 => {
                "say in the configuration what the instance would have said, first of all `region`".to_owned()
            }
            InstanceError::Disabled => "unset AWS_EC2_METADATA_DISABLED, or set `region` in the configuration".to_owned(),
            InstanceError::Endpoint { .. } => "correct AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(),
            InstanceError::Unreachable { .. } => {
                "a firewall rule or a route stands between: iptables -S | grep 169.254.169.254; ip route get 169.254.169.254"
                    .to_owned()
            }
            InstanceError::Off { .. } => {
                "turn it on: aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled".to_owned()
            }
            InstanceError::OnlyVersion1 { .. } => {
                "mapkeeper speaks IMDSv2 only: update the metadata service, or set what it would say in the configuration"
                    .to_owned()
            }
            InstanceError::HopLimit { .. } => {
                "run on the host's network, or: aws ec2 modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2"
                    .to_owned()
            }
            InstanceError::Slow { .. } => {
                "it limits the rate per instance: look for a process that asks it all the time".to_owned()
            }
            InstanceError::Refused { .. } | InstanceError::Absent { .. } | InstanceError::Malformed { .. } => {
                "is this the metadata service of EC2? curl it by hand with a token".to_owned()
            }
        })
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

/// Who this instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub region: String,
    /// Availability or local zone: its name need not begin with that of the region.
    pub zone: String,
    pub id: String,
    /// Name of the role of the instance profile, where it has one.
    pub role: Option<String>,
}

impl Metadata {
    /// Region of the instance, as the service names it.
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn region(&self) -> Result<String, InstanceError> {
        self.line("meta-data/placement/region", "region").await
    }

    /// Everything that names the instance.
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn identity(&self) -> Result<Identity, InstanceError> {
        Ok(Identity {
            region: self.region().await?,
            zone: self.line("meta-data/placement/availability-zone", "zone").await?,
            id: self.id().await?,
            role: self.role().await?,
        })
    }

    /// Id of the instance: `i-...`.
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn id(&self) -> Result<String, InstanceError> {
        self.line("meta-data/instance-id", "instance id").await
    }

    /// Name of the role of the instance, if it has one.
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn role(&self) -> Result<Option<String>, InstanceError> {
        let path = "meta-data/iam/security-credentials/";
        let Some(text) = self.text(path).await? else { return Ok(None) };
        Ok(text.lines().next().map(str::to_owned).filter(|name| !name.is_empty()))
    }

    /// User data as it was given; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn user_data(&self) -> Result<Option<Vec<u8>>, InstanceError> {
        self.get("user-data").await
    }

    /// Tags of the instance whose names begin with `prefix`, from the metadata service. `None` where the
    /// instance does not offer its tags there, which is the default of EC2.
    ///
    /// # Errors
    ///
    /// Any [`InstanceError`].
    pub async fn offered_tags(
        &self,
        prefix: &str,
    ) -> Result<Option<BTreeMap<String, String>>, InstanceError> {
        let Some(names) = self.text("meta-data/tags/instance/").await? else { return Ok(None) };
        let mut tags = BTreeMap::new();
        for name in names.lines().filter(|name| name.starts_with(prefix)) {
            // Gone since it was listed: then it is not there.
            if let Some(value) = self.text(&format!("meta-data/tags/instance/{name}")).await? {
                tags.insert(name.to_owned(), value);
            }
        }
        Ok(Some(tags))
    }

    /// Tags of the instance whose names begin with `prefix`: from the metadata service, else from the EC2 API.
    ///
    /// # Errors
    ///
    /// Those of either; [`TagsError::is_denied`] tells a missing permission.
    #[cfg(feature = "ec2")]
    pub async fn tags(&self, prefix: &str) -> Result<BTreeMap<String, String>, TagsError> {
        let unknown = |source| TagsError::Instance { source };
        if let Some(tags) = self.offered_tags(prefix).await.map_err(unknown)? {
            return Ok(tags);
        }
        let (region, id) = (self.region().await.map_err(unknown)?, self.id().await.map_err(unknown)?);
        ec2::read_tags(&region, &id, prefix).await
    }

    async fn line(&self, path: &str, what: &'static str) -> Result<String, InstanceError> {
        let text = self.text(path).await?.ok_or(InstanceError::Absent { what })?;
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        plain.then(|| text.clone()).ok_or_else(|| InstanceError::Malformed {
            path: path.to_owned(),
            found: text.chars().take(60).collect(),
        })
    }

    async fn text(&self, path: &str) -> Result<Option<String>, InstanceError> {
        let Some(bytes) = self.get(path).await? else { return Ok(None) };
        let found = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        String::from_utf8(bytes)
            .map(|_| Some(found.clone()))
            .map_err(|_| InstanceError::Malformed { path: path.to_owned(), found })
    }
}

#[cfg(test)]
mod tests;

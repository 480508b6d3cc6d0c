//! What the metadata service is asked for: who the instance is, its user data, its tags.
//!
//! What must hold: nothing is guessed, so a region is never cut out of the name of a zone.

use std::collections::BTreeMap;

#[cfg(feature = "ec2")]
use super::ec2::{self, TagsError};
use super::error::InstanceError;
use super::imds::Metadata;

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

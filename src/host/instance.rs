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
mod error;
mod identity;
mod imds;

#[cfg(feature = "ec2")]
pub use ec2::{TagsError, terminate, write_tags};
pub use error::InstanceError;
pub use identity::Identity;
pub use imds::{Limits, Metadata};

#[cfg(test)]
mod tests;

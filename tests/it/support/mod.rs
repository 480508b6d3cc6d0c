//! What several tests of the agent share: hosts, agents, stand-ins for AWS.

pub mod agent;
pub mod aws;
pub mod child;
pub mod port;
pub mod rgw;
pub mod scratch;
pub mod stand_in;
pub mod world;

//! How a container is told from others: its title for people, its labels for Docker.

use crate::config::{self, Selector};

/// Marks a container that mapkeeper made.
pub const LABEL_MANAGED: &str = "mapkeeper.managed";
/// Says from which specification it was made.
pub const LABEL_SPECIFICATION: &str = "mapkeeper.spec";
/// Says which agent made it, by its runtime directory.
pub const LABEL_AGENT: &str = "mapkeeper.agent";

/// How a configured container is called in messages, in status and in the plan.
pub fn title(wanted: &config::Container) -> String {
    match &wanted.selector {
        Selector::Name(name) => name.clone(),
        Selector::Match { label, image } => {
            let parts: Vec<&str> = label.iter().chain(image).map(String::as_str).collect();
            parts.join(" ")
        }
    }
}

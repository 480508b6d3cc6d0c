//! What a new configuration means for a host that runs an old one: named before anything is done.
//!
//! What must hold: every difference between two configurations has at least one consequence, and only what differs
//! is touched: a mount whose settings are the same goes on serving without a pause.

use std::fmt;

use super::choice::Owner;
use super::container::Selector;
use super::model::{Bootstrap, Config, Container, Credentials, Ecs, Health, Mount, Probe, Sources};
use super::setting::OnChange;
use super::table::settings;

/// One thing that follows from a change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consequence {
    /// A mount is put up.
    Mounted { mount: String },
    /// A mount is taken away.
    Unmounted { mount: String },
    /// A mount is taken away and put up again.
    Remounted { mount: String, because: Vec<&'static str> },
    /// A container of ours is made.
    Created { container: String },
    /// A container of ours is removed.
    Removed { container: String },
    /// A container of ours is removed and made again.
    Recreated { container: String },
    /// A container is restarted, because a mount that it sees is another one.
    Restarted { container: String, mount: String },
    /// Somebody else's container is looked after, or no longer.
    Watched { container: String },
    /// The questions to a service change; nothing is interrupted.
    Probed { container: String },
    /// A part of the agent is set anew; nothing is interrupted.
    Set { what: &'static str },
}

impl fmt::Display for Consequence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consequence::Mounted { mount } => write!(out, "mount {mount} is put up"),
            Consequence::Unmounted { mount } => write!(out, "mount {mount} is taken away"),
            Consequence::Remounted { mount, because } => {
                write!(out, "mount {mount} is mounted again ({})", because.join(", "))
            }
            Consequence::Created { container } => write!(out, "container {container} is created"),
            Consequence::Removed { container } => write!(out, "container {container} is removed"),
            Consequence::Recreated { container } => write!(out, "container {container} is created anew"),
            Consequence::Restarted { container, mount } => {
                write!(out, "container {container} is restarted on mount {mount}")
            }
            Consequence::Watched { container } => write!(out, "container {container} is watched differently"),
            Consequence::Probed { container } => write!(out, "container {container} is probed differently"),
            Consequence::Set { what } => write!(out, "{what} is set anew"),
        }
    }
}

/// Notes a field of the table that differs, with what becomes of an agent; of a section its settings say that.
macro_rules! change {
    ($found:ident $name:expr, $old:expr, $new:expr, in always $section:ident) => {
        $found.extend($old.changes(&$new).into_iter().map(|(_, on)| ($name, on)))
    };
    ($found:ident $name:expr, $old:expr, $new:expr, in maybe $section:ident) => {
        match (&$old, &$new) {
            (Some(old), Some(new)) => $found.extend(old.changes(new).into_iter().map(|(_, on)| ($name, on))),
            (None, None) => {}
            _ => $found.push(($name, OnChange::Live)),
        }
    };
    ($found:ident $name:expr, $old:expr, $new:expr, in each $section:ident $list:literal) => {};
    ($found:ident $name:expr, $old:expr, $new:expr, of [$(
        $(#[$doc:meta])+
        $row:literal $default:tt, $kind:expr, $expects:expr, $limits:expr, $on:ident;
    )+] $read:expr) => {
        if $old != $new {
            $found.extend([$(($name, OnChange::$on)),+]);
        }
    };
    ($found:ident $name:expr, $old:expr, $new:expr,
        $default:tt, $kind:expr, $expects:expr, $limits:expr, $on:ident $($tag:ident)?, $read:expr) => {
        if $old != $new {
            $found.push(($name, OnChange::$on));
        }
    };
}

macro_rules! changes {
    ($(
        $(#[$about:meta])+
        $section:ident $prefix:literal { $($(#[$doc:meta])+ $field:ident: $type:ty { $($how:tt)+ })+ } $rule:tt
    )+) => { $(
        impl $section {
            /// The fields that differ, and what becomes of an agent for each setting in them; lists of tables are left out.
            fn changes(&self, new: &$section) -> Vec<(&'static str, OnChange)> {
                let mut found = Vec::new();
                $(change!(found stringify!($field), self.$field, new.$field, $($how)+);)+
                found
            }
        }
    )+ };
}

settings!(changes);

/// Whether one of `changes` is of this kind.
fn any(changes: &[(&str, OnChange)], kind: OnChange) -> bool {
    changes.iter().any(|(_, on)| *on == kind)
}

impl Credentials {
    /// Whether both are the same credentials, looked at however often.
    pub fn is_same_source(&self, other: &Credentials) -> bool {
        !any(&self.changes(other), OnChange::Remount)
    }
}

impl Config {
    /// What it means to go from this configuration to `new`; empty exactly when they are the same.
    pub fn difference(&self, new: &Config) -> Vec<Consequence> {
        let mut found = Vec::new();
        let replaced = self.mount_changes(new, &mut found);
        self.container_changes(new, &replaced, &mut found);
        let mut parts: Vec<&str> = self.changes(new).into_iter().map(|(what, _)| what).collect();
        parts.dedup();
        found.extend(parts.into_iter().map(|what| Consequence::Set { what }));
        found
    }

    /// Why the mount `old` cannot go on under `new`; empty if it can. `None`: it is not wanted any more.
    fn remount_reasons(&self, old: &Mount, new: &Config) -> Option<Vec<&'static str>> {
        let wanted = new.mounts.iter().find(|mount| mount.name == old.name)?;
        let changes = old.changes(wanted).into_iter();
        let mut because: Vec<_> =
            changes.filter(|(_, on)| *on == OnChange::Remount).map(|(name, _)| name).collect();
        if !self.credentials.is_same_source(&new.credentials) {
            because.push("credentials");
        }
        if self.region != new.region && old.region.is_none() {
            because.push("region");
        }
        Some(because)
    }

    /// Whether the mount `old` goes on under `new` as it is.
    pub fn goes_on(&self, old: &Mount, new: &Config) -> bool {
        self.remount_reasons(old, new).is_some_and(|because| because.is_empty())
    }

    /// Notes what happens to mounts; those that will be other ones.
    fn mount_changes<'a>(&self, new: &'a Config, found: &mut Vec<Consequence>) -> Vec<&'a Mount> {
        let mut replaced = Vec::new();
        for old in &self.mounts {
            let mount = old.name.clone();
            match self.remount_reasons(old, new) {
                None => found.push(Consequence::Unmounted { mount }),
                Some(because) if because.is_empty() => {}
                Some(because) => {
                    replaced.extend(new.mounts.iter().find(|other| other.name == mount));
                    found.push(Consequence::Remounted { mount, because });
                }
            }
        }
        for mount in &new.mounts {
            if !self.mounts.iter().any(|old| old.name == mount.name) {
                found.push(Consequence::Mounted { mount: mount.name.clone() });
            }
        }
        replaced
    }

    fn container_changes(&self, new: &Config, replaced: &[&Mount], found: &mut Vec<Consequence>) {
        let same = |a: &Container, b: &Container| a.selector == b.selector && a.owner == b.owner;
        for old in self.containers.iter().filter(|old| !new.containers.iter().any(|other| same(old, other))) {
            let container = called(old);
            found.push(match old.owner {
                Owner::Mapkeeper => Consequence::Removed { container },
                Owner::Ecs => Consequence::Watched { container },
            });
        }
        for wanted in &new.containers {
            let container = called(wanted);
            let Some(old) = self.containers.iter().find(|old| same(old, wanted)) else {
                found.push(match wanted.owner {
                    Owner::Mapkeeper => Consequence::Created { container },
                    Owner::Ecs => Consequence::Watched { container },
                });
                continue;
            };
            match (any(&old.changes(wanted), OnChange::RestartContainer), wanted.owner) {
                (true, Owner::Mapkeeper) => found.push(Consequence::Recreated { container }),
                (true, Owner::Ecs) => found.push(Consequence::Watched { container }),
                (false, _) => {
                    let binds =
                        |mount: &&&Mount| wanted.binds.iter().any(|bind| meets(&bind.source, &mount.path));
                    if let Some(mount) = replaced.iter().find(binds) {
                        let (container, mount) = (container.clone(), mount.name.clone());
                        found.push(Consequence::Restarted { container, mount });
                    }
                    if old.probe != wanted.probe {
                        found.push(Consequence::Probed { container });
                    }
                }
            }
        }
        if found.is_empty() && self.containers != new.containers {
            found.push(Consequence::Set { what: "the order of the containers" });
        }
        if found.is_empty() && self.mounts != new.mounts {
            found.push(Consequence::Set { what: "the order of the mounts" });
        }
    }
}

fn meets(a: &std::path::Path, b: &std::path::Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn called(container: &Container) -> String {
    match &container.selector {
        Selector::Name(name) => name.clone(),
        Selector::Match { label, image } => {
            label.clone().or_else(|| image.clone()).unwrap_or_else(|| "without a name".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;

    const OLD: &str = r#"
[[mount]]
name = "maps"
source = "s3://maps"
path = "/srv/maps"
[[mount]]
name = "fonts"
source = "s3://fonts"
path = "/srv/fonts"
[container]
owner = "mapkeeper"
name = "mapserver"
image = "mapserver:8"
binds = ["/srv/maps:/mapfiles:ro"]
[container.probe]
url = "http://127.0.0.1/"
"#;

    fn follows(from: &str, to: &str) -> Vec<String> {
        config(from).difference(&config(to)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_configuration_has_no_consequence() {
        assert_eq!(follows(OLD, OLD), Vec::<String>::new());
    }

    #[test]
    fn a_changed_mount_is_named_with_the_container_on_it_and_the_other_one_is_left_alone() {
        let new = OLD.replace("path = \"/srv/maps\"", "path = \"/srv/maps\"\nfreshness = \"5s\"\nuid = 7");
        let expected = [
            "mount maps is mounted again (freshness, uid)",
            "container mapserver is restarted on mount maps",
        ];
        assert_eq!(follows(OLD, &new), expected);
    }

    #[test]
    fn mounts_and_containers_come_and_go() {
        let less = "[[mount]]\nname = \"maps\"\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n";
        assert_eq!(follows(OLD, less), ["mount fonts is taken away", "container mapserver is removed"]);
        assert_eq!(follows(less, OLD), ["mount fonts is put up", "container mapserver is created"]);
    }

    #[test]
    fn a_container_is_created_anew_for_its_image_and_not_for_its_probe() {
        assert_eq!(
            follows(OLD, &OLD.replace("mapserver:8", "mapserver:9")),
            ["container mapserver is created anew"]
        );
        assert_eq!(
            follows(OLD, &OLD.replace("127.0.0.1/", "127.0.0.1/x")),
            ["container mapserver is probed differently"]
        );
    }

    #[test]
    fn other_credentials_mount_everything_again() {
        let new = format!("{OLD}[credentials]\nsecret = \"maps\"\n");
        let expected = [
            "mount maps is mounted again (credentials)",
            "mount fonts is mounted again (credentials)",
            "container mapserver is restarted on mount maps",
            "credentials is set anew",
        ];
        assert_eq!(follows(OLD, &new), expected);
    }

    #[test]
    fn looking_at_a_secret_more_often_interrupts_nothing() {
        let of = |refresh: &str| format!("{OLD}[credentials]\nsecret = \"maps\"\nrefresh = \"{refresh}\"\n");
        assert_eq!(follows(&of("5m"), &of("1m")), ["credentials is set anew"]);
    }

    #[test]
    fn what_interrupts_nothing_is_named_as_well() {
        let watched = OLD.replace("owner = \"mapkeeper\"", "owner = \"ecs\"");
        assert_eq!(
            follows(OLD, &watched),
            ["container mapserver is removed", "container mapserver is watched differently"]
        );
        let polled = format!("{OLD}[sources]\npoll = \"5s\"\n[ecs]\ncluster = \"maps\"\n");
        assert_eq!(follows(OLD, &polled), ["sources is set anew", "ecs is set anew"]);
        let ending = format!("escalate = \"terminate\"\n{OLD}");
        assert_eq!(follows(OLD, &ending), ["escalate is set anew"]);
    }
}

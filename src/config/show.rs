//! The effective configuration as TOML.
//!
//! What is shown reads back as the same configuration, except for values that look like secrets: those
//! are replaced.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::container::{Container, Probe, Selector};
use super::model::{Config, Mount};
use super::quantity::{show_duration, show_mode, show_size};
use super::redact::{self, REDACTED};
use super::setting::{KeyPath, quoted, quoted_key};
use super::source::{Entries, Origin};

/// Whether each value is followed by a comment that says where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    Shown,
    Hidden,
}

/// Whether what nobody has written is shown as well, with its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defaults {
    Shown,
    LeftOut,
}

/// Column at which the comments with the origins begin, where the value leaves room.
const COMMENT_COLUMN: usize = 48;

pub(super) fn toml(config: &Config, entries: &Entries, origins: Origins, defaults: Defaults) -> String {
    let (text, pending) = (String::new(), String::new());
    let mut page = Page { entries, origins, defaults, text, pending, at: KeyPath::default() };
    page.optional("region", config.region.as_deref());
    page.string("escalate", config.escalate.as_str());
    page.table("[sources]", KeyPath::default().with("sources"));
    page.optional("parameters", config.sources.parameters.as_deref());
    page.line("instance_tags", &config.sources.instance_tags.to_string());
    page.string("poll", &show_duration(config.sources.poll));
    page.table("[credentials]", KeyPath::default().with("credentials"));
    page.optional("secret", config.credentials.secret.as_deref());
    page.optional("role", config.credentials.role.as_deref());
    page.string("refresh", &show_duration(config.credentials.refresh));
    for (place, mount) in config.mounts.iter().enumerate() {
        page.table("[[mount]]", KeyPath::default().with("mount").at(place));
        page.mount(mount);
    }
    let list = if config.containers.len() == 1 { "[container]" } else { "[[container]]" };
    for (place, container) in config.containers.iter().enumerate() {
        page.table(list, KeyPath::default().with("container").at(place));
        page.container(container);
    }
    page.table("[bootstrap]", KeyPath::default().with("bootstrap"));
    page.optional("overlay", config.bootstrap.overlay.as_ref().map(ToString::to_string).as_deref());
    page.optional("overlay_version", config.bootstrap.overlay_version.as_deref());
    page.line("block_imds", &config.bootstrap.block_imds.to_string());
    page.optional("binary_url", config.bootstrap.binary_url.as_deref());
    page.optional("binary_sha256", config.bootstrap.binary_sha256.as_deref());
    page.optional("signal", config.bootstrap.signal.as_ref().map(ToString::to_string).as_deref());
    if let Some(ecs) = &config.ecs {
        page.table("[ecs]", KeyPath::default().with("ecs"));
        page.string("cluster", &ecs.cluster);
        page.named("ecs", "attributes", &ecs.attributes);
    }
    if let Some(health) = &config.health {
        page.table("[health]", KeyPath::default().with("health"));
        page.string("listen", &health.listen.to_string());
    }
    page.text
}

struct Page<'a> {
    entries: &'a Entries,
    origins: Origins,
    defaults: Defaults,
    text: String,
    /// The heading of a table in which nothing stands yet.
    pending: String,
    /// The table that is being written.
    at: KeyPath,
}

impl Page<'_> {
    fn mount(&mut self, mount: &Mount) {
        self.string("name", &mount.name);
        self.string("source", &mount.source.to_string());
        self.string("path", &mount.path.to_string_lossy());
        self.line("read_only", &mount.read_only.to_string());
        self.string("freshness", &show_duration(mount.freshness));
        self.line("uid", &mount.uid.to_string());
        self.line("gid", &mount.gid.to_string());
        self.string("file_mode", &show_mode(mount.file_mode));
        self.string("dir_mode", &show_mode(mount.dir_mode));
        self.string("memory", &show_size(mount.memory));
        self.string("disk_cache", &show_size(mount.disk_cache));
        self.string("max_stale", &show_duration(mount.max_stale));
        self.string("staging", &mount.staging.to_string_lossy());
        self.string("on_conflict", mount.on_conflict.as_str());
        self.line("resend", &mount.resend.to_string());
        self.line("suid", &mount.suid.to_string());
        self.optional("endpoint_url", mount.endpoint_url.as_deref());
        self.line("path_style", &mount.path_style.to_string());
        self.optional("region", mount.region.as_deref());
        self.optional("profile", mount.profile.as_deref());
    }

    fn container(&mut self, container: &Container) {
        self.string("owner", container.owner.as_str());
        if let Selector::Name(name) = &container.selector {
            self.string("name", name);
        }
        self.optional("image", container.image.as_deref());
        let quote = |texts: Vec<String>| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        let ports = quote(container.ports.iter().map(ToString::to_string).collect());
        let binds = quote(container.binds.iter().map(ToString::to_string).collect());
        self.line("ports", &format!("[{ports}]"));
        self.line("binds", &format!("[{binds}]"));
        let (at, heading) = (self.at.clone(), "container");
        if let Selector::Match { label, image } = &container.selector {
            self.table("[container.match]", at.with("match"));
            self.optional("label", label.as_deref());
            self.optional("image", image.as_deref());
            self.at = at.clone();
        }
        self.named(heading, "environment", &container.environment);
        if let Some(probe) = &container.probe {
            self.table("[container.probe]", at.with("probe"));
            self.probe(probe);
        }
    }

    fn probe(&mut self, probe: &Probe) {
        self.string("url", &probe.url);
        self.string("expect", probe.expect.as_str());
        self.string("interval", &show_duration(probe.interval));
        self.string("timeout", &show_duration(probe.timeout));
    }

    fn table(&mut self, heading: &str, at: KeyPath) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.pending = format!("{gap}{heading}\n");
        // One of a list counts, and so does a section that somebody has written, whatever is in it.
        if heading.starts_with("[[") || self.entries.origin(&at) != Origin::Default {
            self.flush();
        }
        self.at = at;
    }

    fn flush(&mut self) {
        self.text.push_str(&std::mem::take(&mut self.pending));
    }

    /// A table whose names the user has chosen; left out when empty.
    fn named(&mut self, parent: &str, name: &str, values: &BTreeMap<String, String>) {
        if values.is_empty() {
            return;
        }
        let outer = self.at.clone();
        self.table(&format!("[{parent}.{name}]"), outer.with(name));
        for (name, value) in values {
            let value = if redact::names_a_secret(name) { REDACTED } else { value };
            self.string(name, value);
        }
        self.at = outer;
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.string(name, value),
            None if self.defaults == Defaults::LeftOut => {}
            None => {
                self.flush();
                self.text.push_str(&format!("# {name} is not set\n"));
            }
        }
    }

    fn string(&mut self, name: &str, value: &str) {
        self.line(name, &quoted(&redact::shown(value)));
    }

    fn line(&mut self, name: &str, value: &str) {
        let origin = self.entries.origin(&self.at.with(name));
        if self.defaults == Defaults::LeftOut && origin == Origin::Default {
            return;
        }
        self.flush();
        let value = if origin.is_secure() { &quoted(REDACTED) } else { value };
        let line = format!("{} = {value}", quoted_key(name));
        let written = match self.origins {
            Origins::Hidden => writeln!(self.text, "{line}"),
            Origins::Shown => {
                let origin = origin.to_string().replace(char::is_control, "?");
                writeln!(self.text, "{line:COMMENT_COLUMN$}  # {origin}")
            }
        };
        written.expect("writing to a String cannot fail");
    }
}

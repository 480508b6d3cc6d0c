//! The list of all settings, and the paths that name them: `mount[0].freshness`.
//!
//! [`KEYS`] is the one place that says which settings exist and what their defaults are: the reader
//! takes defaults from it, unknown keys are found with it, and the tables of `docs/configuration.md` are written from
//! it (`config::reference`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its path: `[]` stands for a place in a list of tables, `*` for a name that the user chooses.
    pub path: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// What its value has to be, as the end of a sentence that starts with "expected".
    pub expects: &'static str,
    /// The value it has when nobody sets it, in the text form of an environment variable.
    pub default: Option<&'static str>,
    /// What is asked of its value beyond that, in Markdown; empty for nothing.
    pub limits: &'static str,
    /// What it does, in Markdown: a row of `docs/configuration.md`.
    pub meaning: &'static str,
    /// Whether a tag of the instance may set it. Whoever may write tags must come by no command, path, bind, image,
    /// endpoint or credential, so nothing may be set so that is not marked.
    pub taggable: bool,
}

impl Setting {
    const fn means(mut self, limits: &'static str, meaning: &'static str) -> Setting {
        (self.limits, self.meaning) = (limits, meaning);
        self
    }

    const fn taggable(mut self) -> Setting {
        self.taggable = true;
        self
    }
}

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A text that is one of these.
    Choice(&'static [&'static str]),
    Boolean,
    /// A whole number from 0 to 4294967294.
    Number,
    /// A whole number with a unit of time.
    Duration,
    /// A whole number with a unit of bytes, or `"0"`.
    Size,
    /// Three or four octal digits.
    Mode,
    /// A list of texts.
    Texts,
}

const fn key(
    path: &'static str,
    kind: Kind,
    expects: &'static str,
    default: Option<&'static str>,
) -> Setting {
    Setting { path, kind, expects, default, limits: "", meaning: "", taggable: false }
}

/// Every setting there is, in the order in which they are documented and shown.
pub const KEYS: &[Setting] = &[
    key("region", Kind::Text, r#"an AWS region such as "us-east-1""#, None).means("letters, digits, `-`", "AWS region of everything that does not name its own. Without it: `AWS_REGION`, the AWS profile, the instance metadata"),
    key(
        "escalate",
        Kind::Choice(&["drain", "dry-run", "terminate"]),
        r#""drain", "dry-run" or "terminate""#,
        Some("drain"),
    ).means(r#"`"drain"`, `"dry-run"` or `"terminate"`"#, "how far an instance goes that cannot be repaired: it says that it is not ready; it also asks AWS whether it could end itself; it ends itself ([operating](operating.md#giving-the-instance-back))"),
    key("sources.parameters", Kind::Text, r#"a path of Parameter Store such as "/maps/prod""#, None).means("a path as Parameter Store has it", "every parameter below this path is a setting: see [Layers](#layers)"),
    key("sources.instance_tags", Kind::Boolean, "true or false", Some("false")).means("", "some tags `mapkeeper:*` of the instance are settings, where this host is an EC2 instance: see [Layers](#layers)"),
    key("sources.poll", Kind::Duration, r#"a duration such as "1m""#, Some("1m")).means("1 s to 24 h", "how often the running agent looks at all sources again, give or take a tenth").taggable(),
    key("credentials.secret", Kind::Text, "the name or ARN of a secret in Secrets Manager", None).means("a name or ARN", r#"secret in Secrets Manager; without it the AWS default chain is asked. Its value is `{"access_key_id": "...", "secret_access_key": "...", "session_token": "..."}` (the token may be absent) or `ACCESS_KEY_ID:SECRET_ACCESS_KEY`. Never write the key itself here"#),
    key(
        "credentials.role",
        Kind::Text,
        r#"the ARN of a role such as "arn:aws:iam::123456789012:role/maps""#,
        None,
    ).means("the ARN of a role; not together with `secret`", "role that is assumed with what the AWS default chain gives"),
    key("credentials.refresh", Kind::Duration, r#"a duration such as "5m""#, Some("5m")).means("1 s to 24 h", "how often the secret is looked at again, give or take a tenth; a changed value is used from the next request on").taggable(),
    key("mount[].name", Kind::Text, r#"letters, digits, ".", "_" and "-", at most 64"#, None).means("at most 64 letters, digits, `.`, `_`, `-`; unique", "name in messages, status and metrics; without it the last part of `path`"),
    key("mount[].source", Kind::Text, r#"a source such as "s3://bucket/prefix""#, None).means("required", "`s3://bucket[/prefix]`, `nfs://host/export`, `efs://fs-id[/path]`, `efs://NAME[/path]` (the tag Name, of exactly one), or `external:` (somebody else mounts it)"),
    key("mount[].path", Kind::Text, r#"an absolute path such as "/srv/mapkeeper/mapfiles""#, None).means("required; absolute, not `/`, not below another mount", "mount point"),
    key("mount[].read_only", Kind::Boolean, "true or false", Some("true")).means("", "refuse every write"),
    key("mount[].freshness", Kind::Duration, r#"a duration such as "1s""#, Some("1s")).means("0 s to 1 h", "a change in the bucket is seen by an open at most this much later; `0s`: every open asks S3").taggable(),
    key("mount[].uid", Kind::Number, "a user number from 0 to 4294967294", Some("0")).means("0 to 4294967294", "owner of objects without s3fs headers").taggable(),
    key("mount[].gid", Kind::Number, "a group number from 0 to 4294967294", Some("0")).means("0 to 4294967294", "group of objects without s3fs headers").taggable(),
    key("mount[].file_mode", Kind::Mode, r#"an octal mode in quotes such as "0644""#, Some("0644")).means("permission bits", "mode of files without s3fs headers").taggable(),
    key("mount[].dir_mode", Kind::Mode, r#"an octal mode in quotes such as "0755""#, Some("0755")).means("permission bits", "mode of directories without s3fs headers").taggable(),
    key("mount[].memory", Kind::Size, r#"a size such as "128MiB""#, Some("128MiB")).means("at least 16 MiB", "bytes that all caches and buffers of this mount hold together").taggable(),
    key("mount[].disk_cache", Kind::Size, r#"a size such as "10GiB", or "0" for none"#, Some("0")).means("", "bytes of the block cache on disk; `0`: none"),
    key("mount[].max_stale", Kind::Duration, r#"a duration such as "1h", or "0s" for never"#, Some("1h")).means("0 s to 30 d", "last-known-good content is served this long when S3 cannot be asked; `0s`: never").taggable(),
    key(
        "mount[].staging",
        Kind::Text,
        "an absolute path such as \"/var/lib/mapkeeper/staging\"",
        Some("/var/lib/mapkeeper/staging"),
    ).means("absolute path", "where files are kept while they are being written, and what could not be stored; `docs/filesystem.md`"),
    key(
        "mount[].on_conflict",
        Kind::Choice(&["fail", "overwrite"]),
        r#""fail" or "overwrite""#,
        Some("fail"),
    ).means(r#"`"fail"` or `"overwrite"`"#, "what becomes of a write if somebody else has written the object since it was opened: `ESTALE` and a kept copy, or the last one wins"),
    key("mount[].resend", Kind::Boolean, "true or false", Some("true")).means("`true` or `false`", "have the kernel send again what a killed agent left unanswered, where it can (Linux 6.9 and later); if not, the next agent answers from what the killed one wrote down"),
    key("mount[].suid", Kind::Boolean, "true or false", Some("false")).means("`true` or `false`", "show set-id bits of files, and attributes `security.*` and `trusted.*`. Without it no object makes a program run with other rights, not even through a bind in a container"),
    key("mount[].endpoint_url", Kind::Text, r#"a base URL such as "http://127.0.0.1:9000""#, None).means("`http://` or `https://`", "base URL of another S3 server"),
    key("mount[].path_style", Kind::Boolean, "true or false", None).means("", "name the bucket in the path of a request; without it true when `endpoint_url` is set, else false"),
    key("mount[].region", Kind::Text, r#"an AWS region such as "us-east-1""#, None).means("letters, digits, `-`", "region of the bucket; without it `region`"),
    key("mount[].profile", Kind::Text, "the name of a profile in the AWS configuration files", None).means("", "profile of the AWS configuration files that the default chain reads"),
    key("container[].owner", Kind::Choice(&["ecs", "mapkeeper"]), r#""ecs" or "mapkeeper""#, Some("ecs")).means(r#"`"ecs"` or `"mapkeeper"`"#, "who creates it: ECS, or mapkeeper from this table"),
    key("container[].name", Kind::Text, "the name of a container", None).means("by the rules of Docker; unique", "the container's name. Exactly one of `name` and `match` is given"),
    key("container[].match.label", Kind::Text, r#"a label such as "role" or "role=mapserver""#, None).means("`key` or `key=value`", "a label by which the container is recognised"),
    key("container[].match.image", Kind::Text, r#"an image such as "mapserver:8""#, None).means("", "an image by which the container is recognised"),
    key("container[].image", Kind::Text, r#"an image such as "mapserver:8""#, None).means("required when mapkeeper is the owner", "image to create it from"),
    key("container[].ports", Kind::Texts, r#"a list of ports such as ["8080:80"]"#, None).means("no host port twice", "ports of the host that lead into the container"),
    key("container[].binds", Kind::Texts, r#"a list of binds such as ["/src:/dst:ro"]"#, None).means("no target twice", "directories of the host that the container sees"),
    key("container[].environment.*", Kind::Text, "a string", None).means("strings", "environment of the container; values with a name like a password are never shown"),
    key("container[].probe.url", Kind::Text, r#"an http:// URL such as "http://127.0.0.1:8080/""#, None).means("`http://`", "what is asked to see whether the service answers; its port should be one of `ports`"),
    key("container[].probe.expect", Kind::Choice(&["wms", "http"]), r#""wms" or "http""#, Some("wms")).means(r#"`"wms"` or `"http"`"#, "a good answer: a WMS document or an image, or any status of 2xx and 3xx"),
    key("container[].probe.interval", Kind::Duration, r#"a duration such as "10s""#, Some("10s")).means("1 s to 1 h", "from one question to the next").taggable(),
    key("container[].probe.timeout", Kind::Duration, r#"a duration such as "5s""#, Some("5s")).means("100 ms to `interval`", "longest wait for an answer").taggable(),
    key(
        "bootstrap.overlay",
        Kind::Text,
        r#"files for this host such as "s3://bucket/prefix" or "/srv/mapkeeper/mapfiles/host""#,
        None,
    ).means("`s3://bucket/prefix` or an absolute directory", "files for this host and their `manifest.toml`: see [bootstrap.md](bootstrap.md)"),
    key(
        "bootstrap.overlay_version",
        Kind::Text,
        "the version id of the manifest in a bucket that keeps versions",
        None,
    ).means("a version id", "version of the manifest, in a bucket that keeps versions"),
    key("bootstrap.block_imds", Kind::Boolean, "true or false", Some("false")).means("", "a rule in Docker's chain DOCKER-USER keeps containers from the instance metadata, and so from the instance's role"),
    key("bootstrap.binary_url", Kind::Text, r#"an https:// URL of the program"#, None).means("`https://`, no user and password", "where user data fetches the program from"),
    key("bootstrap.binary_sha256", Kind::Text, "64 hexadecimal digits", None).means("64 hexadecimal digits", "checksum of the program"),
    key("bootstrap.signal", Kind::Text, r#"a stack and a resource such as "maps/Hosts""#, None).means("`STACK/RESOURCE`", "the resource of a CloudFormation stack that waits for this host: see [bootstrap.md](bootstrap.md)"),
    key("ecs.cluster", Kind::Text, "the name of an ECS cluster", None).means("required in `[ecs]`", "name of the ECS cluster, written into `/etc/ecs/ecs.config` by `mapkeeper bootstrap`"),
    key("ecs.attributes.*", Kind::Text, "a string", None).means("strings", r#"attributes of the container instance. `mapkeeper.ready` is kept true to the host: `"false"` while nothing on it can be repaired"#),
    key("health.listen", Kind::Text, r#"an address and port such as "127.0.0.1:8081""#, None).means("address and port", "`GET /healthz` for load balancers: 200 while the host serves, else 503 and why; `GET /metrics` for Prometheus; `GET /`: the chain as a page ([operating](operating.md#monitoring)). Off without it. On loopback only this host can ask; it tells names of buckets and maps to whoever may"),
];

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// The name of a key or table.
    Name(String),
    /// The place in a list, from 0.
    Place(usize),
}

/// The way from the top of the configuration to one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyPath(pub Vec<Step>);

/// What a path leads to.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// A value.
    Value(&'static Setting),
    /// A table, or a list of tables, of the configuration.
    Section,
    /// Nothing: the first `depth` steps of the path already name nothing that exists.
    Nothing { depth: usize },
}

impl Known {
    /// The setting, where the path leads to one.
    pub fn value(self) -> Option<&'static Setting> {
        match self {
            Known::Value(key) => Some(key),
            Known::Section | Known::Nothing { .. } => None,
        }
    }
}

impl KeyPath {
    /// This path and then the name `step`.
    pub fn with(&self, step: &str) -> KeyPath {
        self.and(Step::Name(step.to_owned()))
    }

    /// This path and then the place `place`.
    pub fn at(&self, place: usize) -> KeyPath {
        self.and(Step::Place(place))
    }

    fn and(&self, step: Step) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }

    /// What this path leads to.
    pub fn known(&self) -> Known {
        let mut reached = 0;
        for key in KEYS {
            let pattern = key.steps();
            let same = pattern.iter().zip(&self.0).take_while(|(part, step)| part.fits(step)).count();
            if same == self.0.len() {
                return if pattern.len() == same { Known::Value(key) } else { Known::Section };
            }
            reached = reached.max(same);
        }
        Known::Nothing { depth: reached + 1 }
    }

    /// The setting that was probably meant by a path that leads to nothing, as it would be written.
    pub fn nearest(&self) -> Option<String> {
        let Some((Step::Name(wrong), before)) = self.0.split_last() else { return None };
        let siblings = KEYS.iter().filter_map(|key| {
            let pattern = key.steps();
            let fits = before.iter().zip(&pattern).all(|(step, part)| part.fits(step));
            match (fits, pattern.get(before.len())) {
                (true, Some(Part::Name(name))) => Some(*name),
                _ => None,
            }
        });
        if let Some(name) = nearest(wrong, siblings) {
            return Some(name.to_owned());
        }
        let elsewhere = |key: &&Setting| key.path.rsplit('.').next() == Some(wrong.as_str());
        KEYS.iter().find(elsewhere).map(|key| key.path.to_owned())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if number == 0 => out.write_str(&quoted_key(name))?,
                Step::Name(name) => write!(out, ".{}", quoted_key(name))?,
                Step::Place(place) => write!(out, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// One step of a pattern of [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Exactly this name.
    Name(&'static str),
    /// Any place in a list.
    AnyPlace,
    /// Any name.
    AnyName,
}

impl Part {
    fn fits(self, step: &Step) -> bool {
        match (self, step) {
            (Part::Name(wanted), Step::Name(name)) => wanted == name,
            (Part::AnyPlace, Step::Place(_)) | (Part::AnyName, Step::Name(_)) => true,
            _ => false,
        }
    }
}

impl Setting {
    /// The pattern of its path, step by step.
    pub fn steps(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for word in self.path.split('.') {
            let name = word.strip_suffix("[]").unwrap_or(word);
            parts.push(if name == "*" { Part::AnyName } else { Part::Name(name) });
            if name.len() < word.len() {
                parts.push(Part::AnyPlace);
            }
        }
        parts
    }
}

/// The candidate that differs from `wrong` by so few letters that it was probably meant.
pub fn nearest<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wrong.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, taken out or replaced to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (cell, to) in row[1..].iter_mut().zip(&b) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// A key as TOML writes it: in quotes where it has to be.
pub fn quoted_key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A string as TOML writes it on one line.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(steps: &[&str]) -> KeyPath {
        let step = |text: &&str| text.parse().map_or_else(|_| Step::Name((*text).to_owned()), Step::Place);
        KeyPath(steps.iter().map(step).collect())
    }

    #[test]
    fn a_path_is_written_as_people_write_it() {
        assert_eq!(path(&["mount", "0", "freshness"]).to_string(), "mount[0].freshness");
        assert_eq!(path(&["ecs", "attributes", "a.b"]).to_string(), r#"ecs.attributes."a.b""#);
    }

    #[test]
    fn a_path_leads_to_a_value_a_section_or_nothing() {
        let value = path(&["mount", "3", "uid"]).known();
        assert!(matches!(value, Known::Value(key) if key.path == "mount[].uid"), "{value:?}");
        assert!(matches!(path(&["mount", "3"]).known(), Known::Section));
        assert!(matches!(path(&["container", "0", "probe"]).known(), Known::Section));
        assert!(matches!(path(&["mounts", "0", "uid"]).known(), Known::Nothing { depth: 1 }));
        assert!(matches!(path(&["mount", "0", "user"]).known(), Known::Nothing { depth: 3 }));
        assert!(matches!(path(&["region", "name"]).known(), Known::Nothing { depth: 2 }));
    }

    #[test]
    fn a_tag_sets_no_command_path_bind_image_endpoint_or_credential() {
        let taggable: Vec<&str> = KEYS.iter().filter(|key| key.taggable).map(|key| key.path).collect();
        let expected = [
            "sources.poll",
            "credentials.refresh",
            "mount[].freshness",
            "mount[].uid",
            "mount[].gid",
            "mount[].file_mode",
            "mount[].dir_mode",
            "mount[].memory",
            "mount[].max_stale",
            "container[].probe.interval",
            "container[].probe.timeout",
        ];
        assert_eq!(taggable, expected);
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(path(&["mount", "0", "freshnes"]).nearest().as_deref(), Some("freshness"));
        assert_eq!(path(&["mounts"]).nearest().as_deref(), Some("mount"));
        assert_eq!(path(&["freshness"]).nearest().as_deref(), Some("mount[].freshness"));
        assert_eq!(path(&["mount", "0", "colour"]).nearest(), None);
    }

    #[test]
    fn the_distance_counts_single_letters() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn the_distance_is_the_same_both_ways_and_zero_only_for_equals(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }

        #[test]
        fn a_quoted_string_is_the_same_string_to_toml(text in any::<String>()) {
            let document = format!("{} = {}", quoted_key(&text), quoted(&text));
            let table: toml::Table = document.parse().expect("valid TOML");
            prop_assert_eq!(table.get(&text), Some(&toml::Value::String(text.clone())));
        }
    }
}

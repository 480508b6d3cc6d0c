//! From entries to the typed configuration, collecting every fault on the way.
//!
//! Each setting is read whatever became of the one before it, and only at the end of a section is it
//! decided whether there is a value. What has to be unique is handed to `config::check` even where the
//! rest of its section is faulty.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::claims::Claims;
use super::container::{Container, Expect, Owner, Probe, Selector};
use super::fault::{Expected, Fault, Problem};
use super::model::{Bootstrap, Config, Credentials, Ecs, Escalate, Health, Mount, OnConflict, Sources};
use super::quantity::{self, show_duration, show_size};
use super::setting::{KeyPath, Setting};
use super::source::{Entries, Entry, Value};
use super::{signal, value};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const LEAST_MEMORY: u64 = 16 << 20;

/// What reading found.
pub(super) struct Outcome {
    /// Present exactly when there are no faults.
    pub config: Option<Config>,
    pub faults: Vec<Fault>,
    pub claims: Claims,
}

/// Reads the whole configuration.
pub(super) fn config(entries: &Entries) -> Outcome {
    let mut reader = Reader { entries, faults: Vec::new(), claims: Claims::default() };
    let top = KeyPath::default();
    let region = reader.optional(&top.with("region"), text(value::region));
    let sources = reader.sources(&top.with("sources"));
    let escalate = reader.setting(&top.with("escalate"), text(escalate));
    let credentials = reader.credentials(&top.with("credentials"));
    let mounts = reader.each("mount", Reader::mount);
    let containers = reader.each("container", Reader::container);
    let bootstrap = reader.bootstrap(&top.with("bootstrap"));
    let ecs = reader.section(&top.with("ecs"), Reader::ecs);
    let health = reader.section(&top.with("health"), Reader::health);
    let config = || {
        Some(Config {
            region: region?,
            sources: sources?,
            credentials: credentials?,
            mounts: mounts?,
            containers: containers?,
            bootstrap: bootstrap?,
            ecs: ecs?,
            health: health?,
            escalate: escalate?,
        })
    };
    Outcome { config: config(), faults: reader.faults, claims: reader.claims }
}

/// A typed value, or `None` where the value is of a kind that the setting cannot have.
type Judged<T> = Option<Result<T, Expected>>;

struct Reader<'a> {
    entries: &'a Entries,
    faults: Vec<Fault>,
    claims: Claims,
}

impl Reader<'_> {
    fn credentials(&mut self, at: &KeyPath) -> Option<Credentials> {
        self.must_be_table(at);
        let secret = self.optional(&at.with("secret"), text(value::secret_name));
        let role = self.optional(&at.with("role"), text(value::role));
        let refresh = self.setting(&at.with("refresh"), duration(SECOND, DAY));
        if matches!((&secret, &role), (Some(Some(_)), Some(Some(_)))) {
            self.fault(&at.with("role"), Problem::SecretAndRole);
        }
        Some(Credentials { secret: secret?, role: role?, refresh: refresh? })
    }

    fn sources(&mut self, at: &KeyPath) -> Option<Sources> {
        self.must_be_table(at);
        let parameters = self.optional(&at.with("parameters"), text(value::parameter_path));
        let instance_tags = self.setting(&at.with("instance_tags"), boolean);
        let poll = self.setting(&at.with("poll"), duration(SECOND, DAY));
        Some(Sources { parameters: parameters?, instance_tags: instance_tags?, poll: poll? })
    }

    fn mount(&mut self, at: &KeyPath) -> Option<Mount> {
        let source = self.setting(&at.with("source"), text(value::source));
        let path = self.setting(&at.with("path"), text(value::absolute_path));
        let name = self.mount_name(at, path.as_deref());
        let read_only = self.setting(&at.with("read_only"), boolean);
        let freshness = self.setting(&at.with("freshness"), duration(Duration::ZERO, HOUR));
        let uid = self.setting(&at.with("uid"), number);
        let gid = self.setting(&at.with("gid"), number);
        let file_mode = self.setting(&at.with("file_mode"), text(quantity::mode));
        let dir_mode = self.setting(&at.with("dir_mode"), text(quantity::mode));
        let memory = self.setting(&at.with("memory"), size(LEAST_MEMORY));
        let disk_cache = self.setting(&at.with("disk_cache"), size(0));
        let max_stale = self.setting(&at.with("max_stale"), duration(Duration::ZERO, DAY * 30));
        let staging = self.setting(&at.with("staging"), text(value::absolute_path));
        let on_conflict = self.setting(&at.with("on_conflict"), text(on_conflict));
        let resend = self.setting(&at.with("resend"), boolean);
        let suid = self.setting(&at.with("suid"), boolean);
        let endpoint_url = self.optional(&at.with("endpoint_url"), text(value::endpoint_url));
        let path_style = self.optional(&at.with("path_style"), boolean);
        let region = self.optional(&at.with("region"), text(value::region));
        let profile = self.optional(&at.with("profile"), text(value::line));
        if let Some(path) = &path {
            self.claims.paths.push((at.with("path"), path.clone()));
        }
        if let Some(name) = &name {
            self.claims.names.push((at.with("name"), name.clone()));
        }
        let endpoint_url = endpoint_url?;
        Some(Mount {
            name: name?,
            source: source?,
            path: path?,
            read_only: read_only?,
            freshness: freshness?,
            uid: uid?,
            gid: gid?,
            file_mode: file_mode?,
            dir_mode: dir_mode?,
            memory: memory?,
            disk_cache: disk_cache?,
            max_stale: max_stale?,
            staging: staging?,
            on_conflict: on_conflict?,
            resend: resend?,
            suid: suid?,
            path_style: path_style?.unwrap_or(endpoint_url.is_some()),
            endpoint_url,
            region: region?,
            profile: profile?,
        })
    }

    /// The name as given, or the last part of the path.
    fn mount_name(&mut self, at: &KeyPath, path: Option<&std::path::Path>) -> Option<String> {
        let key = at.with("name");
        match (self.optional(&key, text(value::name))?, path) {
            (Some(name), _) => Some(name),
            (None, None) => None,
            (None, Some(path)) => {
                let name = value::name_of(path);
                if name.is_none() {
                    self.missing(&key);
                }
                name
            }
        }
    }

    fn container(&mut self, at: &KeyPath) -> Option<Container> {
        let owner = self.setting(&at.with("owner"), text(owner));
        let selector = self.selector(at, owner);
        let image = self.optional(&at.with("image"), text(value::word));
        let ports =
            self.list(&at.with("ports"), value::port, |claims, path, port| claims.ports.push((path, port)));
        let binds = self.list(&at.with("binds"), value::bind, |claims, path, bind| {
            claims.targets.push((path, bind.target));
        });
        let environment = self.named(&at.with("environment"), variable_name);
        let probe = self.section(&at.with("probe"), Reader::probe);
        if owner == Some(Owner::Mapkeeper) && image == Some(None) {
            self.fault(&at.with("image"), Problem::OwnedNeedsImage);
        }
        if let (Some(Some(probe)), Some(ports)) = (&probe, &ports) {
            self.claims.probes.push((at.with("probe").with("url"), probe.url.clone(), ports.clone()));
        }
        Some(Container {
            owner: owner?,
            selector: selector?,
            image: image?,
            ports: ports?,
            binds: binds?,
            environment: environment?,
            probe: probe?,
        })
    }

    fn selector(&mut self, at: &KeyPath, owner: Option<Owner>) -> Option<Selector> {
        let criteria = at.with("match");
        let has_match = self.entries.entry(&criteria).is_some();
        let match_reads = self.must_be_table(&criteria);
        let name = self.optional(&at.with("name"), text(container_name));
        let label = self.optional(&criteria.with("label"), text(value::line));
        let image = self.optional(&criteria.with("image"), text(value::word));
        let has_name = self.entries.entry(&at.with("name")).is_some();
        if let Some(Some(name)) = &name {
            self.claims.containers.push((at.with("name"), name.clone()));
        }
        let problem = match (has_name, has_match) {
            (true, true) => Problem::NameAndMatch,
            (true, false) => return name?.map(Selector::Name),
            (false, _) if owner == Some(Owner::Mapkeeper) => Problem::OwnedNeedsName,
            (false, false) => Problem::NoSelector,
            (false, true) if !match_reads => return None,
            (false, true) => match (label?, image?) {
                (None, None) => Problem::EmptyMatch,
                (label, image) => return Some(Selector::Match { label, image }),
            },
        };
        self.fault(&if has_match { criteria } else { at.with("name") }, problem);
        None
    }

    fn probe(&mut self, at: &KeyPath) -> Option<Probe> {
        let url = self.setting(&at.with("url"), text(value::probe_url));
        let expect = self.setting(&at.with("expect"), text(expect));
        let interval = self.setting(&at.with("interval"), duration(SECOND, HOUR));
        let timeout = self.setting(&at.with("timeout"), duration(Duration::from_millis(100), HOUR));
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout > interval
        {
            let interval = show_duration(interval);
            self.fault(&at.with("timeout"), Problem::TimeoutAboveInterval { interval });
        }
        Some(Probe { url: url?, expect: expect?, interval: interval?, timeout: timeout? })
    }

    fn bootstrap(&mut self, at: &KeyPath) -> Option<Bootstrap> {
        self.must_be_table(at);
        let overlay = self.optional(&at.with("overlay"), text(value::overlay));
        let overlay_version = self.optional(&at.with("overlay_version"), text(value::word));
        let block_imds = self.setting(&at.with("block_imds"), boolean);
        let binary_url = self.optional(&at.with("binary_url"), text(value::https_url));
        let binary_sha256 = self.optional(&at.with("binary_sha256"), text(value::sha256));
        let signal = self.optional(&at.with("signal"), text(signal::stack_signal));
        Some(Bootstrap {
            overlay: overlay?,
            overlay_version: overlay_version?,
            block_imds: block_imds?,
            binary_url: binary_url?,
            binary_sha256: binary_sha256?,
            signal: signal?,
        })
    }

    fn ecs(&mut self, at: &KeyPath) -> Option<Ecs> {
        let cluster = self.setting(&at.with("cluster"), text(value::word));
        let attributes = self.named(&at.with("attributes"), value::line);
        Some(Ecs { cluster: cluster?, attributes: attributes? })
    }

    fn health(&mut self, at: &KeyPath) -> Option<Health> {
        let listen = self.setting(&at.with("listen"), text(listen));
        if let Some(listen) = listen {
            self.claims.listeners.push((at.with("listen"), listen));
        }
        Some(Health { listen: listen? })
    }

    /// A setting that has a default or must be given.
    fn setting<T>(&mut self, path: &KeyPath, judge: impl Fn(&Value) -> Judged<T>) -> Option<T> {
        match (self.optional(path, &judge)?, key(path).default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => {
                let judged = judge(&Value::Untyped(default.to_owned()));
                Some(judged.and_then(Result::ok).expect("a test reads the default of every key"))
            }
            (None, None) => {
                self.missing(path);
                None
            }
        }
    }

    /// A setting that may be absent: `Some(None)`. `None` is a value with a fault.
    fn optional<T>(&mut self, path: &KeyPath, judge: impl Fn(&Value) -> Judged<T>) -> Option<Option<T>> {
        let Some(entry) = self.entries.entry(path) else { return Some(None) };
        match judged(key(path), entry, judge) {
            Ok(value) => Some(Some(value)),
            Err(expected) => {
                self.fault(path, expected.into());
                None
            }
        }
    }

    /// A list of texts; from a layer of texts, one text or a TOML array. Every good one is claimed.
    fn list<T: Clone>(
        &mut self,
        path: &KeyPath,
        parse: fn(&str) -> Result<T, Expected>,
        claim: fn(&mut Claims, KeyPath, T),
    ) -> Option<Vec<T>> {
        let Some(entry) = self.entries.entry(path) else { return Some(Vec::new()) };
        let Some(items) = items(entry) else {
            self.fault(path, Expected::fixed(key(path).expects).into());
            return None;
        };
        let mut values = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match judged(key(path), item, text(parse)) {
                Ok(value) => {
                    claim(&mut self.claims, path.at(place), value.clone());
                    values.push(value);
                }
                Err(expected) => self.faults.push(Fault {
                    origin: Some(item.origin.clone()),
                    key: self.entries.written(&path.at(place)),
                    found: Some(item.shown()),
                    problem: expected.into(),
                }),
            }
        }
        (values.len() == items.len()).then_some(values)
    }

    /// The texts below a section whose names the user chooses.
    fn named(
        &mut self,
        at: &KeyPath,
        name: fn(&str) -> Result<String, Expected>,
    ) -> Option<BTreeMap<String, String>> {
        self.must_be_table(at);
        let entries = self.entries;
        let mut values = BTreeMap::new();
        let mut all_good = true;
        for (word, entry) in entries.named_below(at) {
            let problem = match (name(word), judged(key(&at.with(word)), entry, text(any))) {
                (Ok(word), Ok(text)) => {
                    values.insert(word, text);
                    continue;
                }
                (Err(expected), _) => Expected::from(format!("{} as the name", expected.0)),
                (_, Err(expected)) => expected,
            };
            self.fault(&at.with(word), problem.into());
            all_good = false;
        }
        all_good.then_some(values)
    }

    /// A section that may be absent: `Some(None)`.
    fn section<T>(&mut self, at: &KeyPath, read: fn(&mut Self, &KeyPath) -> Option<T>) -> Option<Option<T>> {
        match self.entries.entry(at) {
            None => Some(None),
            Some(_) if self.must_be_table(at) => read(self, at).map(Some),
            Some(_) => None,
        }
    }

    /// Every entry of a list of tables.
    fn each<T>(&mut self, list: &str, read: fn(&mut Self, &KeyPath) -> Option<T>) -> Option<Vec<T>> {
        let path = KeyPath::default().with(list);
        let mut good = true;
        if let Some(Entry { value, .. }) = self.entries.entry(&path)
            && *value != Value::Section
        {
            self.fault(&path, Expected::from(format!("a table in double brackets: [[{list}]]")).into());
            good = false;
        }
        let places = self.entries.places(list);
        if list == "mount" && places.is_empty() && good {
            self.faults.push(Fault {
                origin: None,
                key: String::new(),
                found: None,
                problem: Problem::NoMount,
            });
            good = false;
        }
        let read: Vec<Option<T>> =
            places.iter().map(|place| self.section(&path.at(*place), read).flatten()).collect();
        read.into_iter().collect::<Option<Vec<T>>>().filter(|_| good)
    }

    fn must_be_table(&mut self, at: &KeyPath) -> bool {
        let wrong = self.entries.entry(at).is_some_and(|entry| entry.value != Value::Section);
        if wrong {
            let expected = Expected::from(format!("a table: [{}]", self.entries.written(at)));
            self.fault(at, expected.into());
        }
        !wrong
    }

    /// A setting that must be given is not: said of the place where its section begins.
    fn missing(&mut self, path: &KeyPath) {
        self.fault(path, Problem::Missing { expected: key(path).expects.into() });
    }

    fn fault(&mut self, path: &KeyPath, problem: Problem) {
        let fault = self.entries.fault(path, problem);
        self.faults.push(fault);
    }
}

fn key(path: &KeyPath) -> &'static Setting {
    path.known().value().expect("every path that is read stands in KEYS")
}

fn judged<T>(key: &Setting, entry: &Entry, judge: impl Fn(&Value) -> Judged<T>) -> Result<T, Expected> {
    judge(&entry.value).unwrap_or(Err(Expected::fixed(key.expects)))
}

fn items(entry: &Entry) -> Option<Vec<Entry>> {
    let one = || Some(vec![entry.clone()]);
    match &entry.value {
        Value::List(items) => Some(items.clone()),
        Value::Untyped(text) if text.starts_with('[') => {
            let table: toml::Table = format!("list = {text}").parse().ok()?;
            let texts = table.get("list")?.as_array()?.iter();
            let entry =
                |text: &str| Entry { value: Value::Text(text.to_owned()), origin: entry.origin.clone() };
            texts.map(|item| item.as_str().map(entry)).collect()
        }
        Value::Untyped(_) => one(),
        _ => None,
    }
}

fn text<T>(parse: impl Fn(&str) -> Result<T, Expected>) -> impl Fn(&Value) -> Judged<T> {
    move |value| match value {
        Value::Text(text) | Value::Untyped(text) => Some(parse(text)),
        _ => None,
    }
}

fn any(text: &str) -> Result<String, Expected> {
    if text.contains('\0') {
        Err(Expected::fixed("a string without zero bytes"))
    } else {
        Ok(text.to_owned())
    }
}

fn boolean(value: &Value) -> Judged<bool> {
    match value {
        Value::Boolean(value) => Some(Ok(*value)),
        Value::Untyped(text) => text.parse().ok().map(Ok),
        _ => None,
    }
}

/// A user or group number; the largest `u32` means "nobody in particular" to the kernel.
fn number(value: &Value) -> Judged<u32> {
    let number: u32 = match value {
        Value::Integer(number) => (*number).try_into().ok()?,
        Value::Untyped(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
        _ => return None,
    };
    (number != u32::MAX).then_some(Ok(number))
}

fn duration(least: Duration, most: Duration) -> impl Fn(&Value) -> Judged<Duration> {
    text(move |text| {
        let duration = quantity::duration(text)?;
        if (least..=most).contains(&duration) {
            return Ok(duration);
        }
        Err(format!("a duration from {} to {}", show_duration(least), show_duration(most)).into())
    })
}

fn size(least: u64) -> impl Fn(&Value) -> Judged<u64> {
    text(move |text| {
        let size = quantity::size(text)?;
        if size >= least { Ok(size) } else { Err(format!("a size of at least {}", show_size(least)).into()) }
    })
}

fn escalate(text: &str) -> Result<Escalate, Expected> {
    [Escalate::Drain, Escalate::DryRun, Escalate::Terminate]
        .into_iter()
        .find(|escalate| escalate.as_str() == text)
        .ok_or(Expected::fixed(r#""drain", "dry-run" or "terminate""#))
}

fn owner(text: &str) -> Result<Owner, Expected> {
    match text {
        "ecs" => Ok(Owner::Ecs),
        "mapkeeper" => Ok(Owner::Mapkeeper),
        _ => Err(Expected::fixed(r#""ecs" or "mapkeeper""#)),
    }
}

fn on_conflict(text: &str) -> Result<OnConflict, Expected> {
    match text {
        "fail" => Ok(OnConflict::Fail),
        "overwrite" => Ok(OnConflict::Overwrite),
        _ => Err(Expected::fixed(r#""fail" or "overwrite""#)),
    }
}

fn expect(text: &str) -> Result<Expect, Expected> {
    match text {
        "wms" => Ok(Expect::Wms),
        "http" => Ok(Expect::Http),
        _ => Err(Expected::fixed(r#""wms" or "http""#)),
    }
}

/// A container's name by the rules of Docker.
fn container_name(text: &str) -> Result<String, Expected> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts && text.len() >= 2 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Expected::fixed(r#"at least two letters, digits, "_", "." and "-", the first a letter or digit"#))
}

fn variable_name(text: &str) -> Result<String, Expected> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(Expected::fixed("text without \"=\""));
    }
    Ok(text.to_owned())
}

fn listen(text: &str) -> Result<SocketAddr, Expected> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or(Expected::fixed(r#"an address and port such as "127.0.0.1:8081""#))
}

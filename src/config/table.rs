//! Every setting there is: one entry each, of which everything else is made.
//!
//! `settings!(make)` hands the whole table to the macro `make`, and each part of this module takes from it what it needs:
//! `model` the types, `setting` the list that documentation, schema and all layers go by, `read` the reader, `show` the
//! writer, `diff` what a change means. A section is its doc, its type, the path before its settings, its fields, and what
//! holds between them, as statements of `read` that see each field as far as it could be read. A field is one of
//!
//! ```text
//! /// its doc: a row of docs/configuration.md
//! name: Type { DEFAULT, KIND, "expected ...", "limits, in Markdown", ON_CHANGE [taggable], how its value is judged }
//! name: Type { of [ settings below this table ] how it is read }
//! name: Type { in always Section | maybe Section | each Section "list" }
//! ```
//!
//! DEFAULT is the text of an environment variable, or `required`, `none` (the type is an `Option`), `derived` (from others
//! if it is not set: the rule of the section says how), `list` or `named` (by names that the user chooses).
//!
//! What must hold: the order is the one in which settings are documented and shown. Whoever may write tags must come by no
//! command, path, bind, image, endpoint or credential, so nothing may be set by a tag that is not marked `taggable`.

macro_rules! settings {
    ($make:ident) => { $make! {

/// The whole configuration, checked.
Config "" {
    /// AWS region of everything that does not name its own. Without it: `AWS_REGION`, the AWS profile, the instance metadata
    region: Option<String> { none, Text, r#"an AWS region such as "us-east-1""#, "letters, digits, `-`", Remount, text(value::region) }
    /// how far an instance goes that cannot be repaired: it says that it is not ready; it also asks AWS whether it could end
    /// itself; it ends itself ([operating](operating.md#giving-the-instance-back))
    escalate: Escalate { "drain", Choice(Escalate::WORDS), r#""drain", "dry-run" or "terminate""#, r#"`"drain"`, `"dry-run"` or `"terminate"`"#, Live, word(Escalate::of) }
    /// Where settings come from, beside file, environment and flags.
    sources: Sources { in always Sources }
    /// Where credentials come from.
    credentials: Credentials { in always Credentials }
    /// The mounts, at least one, in the order of the file. Names and paths are unique, and no path lies below another.
    mounts: Vec<Mount> { in each Mount "mount" }
    /// The containers that are served by the mounts, in the order of the file.
    containers: Vec<Container> { in each Container "container" }
    /// How the host is prepared at boot.
    bootstrap: Bootstrap { in always Bootstrap }
    /// Membership in an ECS cluster.
    ecs: Option<Ecs> { in maybe Ecs }
    /// The listener for load balancers and Prometheus.
    health: Option<Health> { in maybe Health }
} { reader, at => reader.tell_first(at, &["region", "sources", "escalate"]); }

/// Where settings come from, beside file, environment and flags.
Sources "sources." {
    /// every parameter below this path is a setting: see [Layers](#layers)
    parameters: Option<String> { none, Text, r#"a path of Parameter Store such as "/maps/prod""#, "a path as Parameter Store has it", Live, text(value::parameter_path) }
    /// some tags `mapkeeper:*` of the instance are settings, where this host is an EC2 instance: see [Layers](#layers)
    instance_tags: bool { "false", Boolean, "true or false", "", Live, boolean }
    /// how often the running agent looks at all sources again, give or take a tenth
    poll: Duration { "1m", Duration, r#"a duration such as "1m""#, "1 s to 24 h", Live taggable, duration(SECOND, DAY) }
} {}

/// Where credentials come from.
Credentials "credentials." {
    /// secret in Secrets Manager; without it the AWS default chain is asked. Its value is
    /// `{"access_key_id": "...", "secret_access_key": "...", "session_token": "..."}` (the token may be absent) or
    /// `ACCESS_KEY_ID:SECRET_ACCESS_KEY`. Never write the key itself here
    secret: Option<String> { none, Text, "the name or ARN of a secret in Secrets Manager", "a name or ARN", Remount, text(value::secret_name) }
    /// role that is assumed with what the AWS default chain gives
    role: Option<String> { none, Text, r#"the ARN of a role such as "arn:aws:iam::123456789012:role/maps""#, "the ARN of a role; not together with `secret`", Remount, text(value::role) }
    /// how often the secret is looked at again, give or take a tenth; a changed value is used from the next request on
    refresh: Duration { "5m", Duration, r#"a duration such as "5m""#, "1 s to 24 h", Live taggable, duration(SECOND, DAY) }
} { reader, at =>
    if matches!((&secret, &role), (Some(Some(_)), Some(Some(_)))) {
        reader.fault(&at.with("role"), Problem::SecretAndRole);
    }
}

/// One bucket (or other source) at one directory.
Mount "mount[]." {
    /// name in messages, status and metrics; without it the last part of `path`
    name: String { derived, Text, r#"letters, digits, ".", "_" and "-", at most 64"#, "at most 64 letters, digits, `.`, `_`, `-`; unique", Remount, text(value::name) }
    /// `s3://bucket[/prefix]`, `nfs://host/export`, `efs://fs-id[/path]`, `efs://NAME[/path]` (the tag Name, of exactly
    /// one), or `external:` (somebody else mounts it)
    source: Source { required, Text, r#"a source such as "s3://bucket/prefix""#, "required", Remount, text(value::source) }
    /// mount point
    path: PathBuf { required, Path, r#"an absolute path such as "/srv/mapkeeper/mapfiles""#, "required; absolute, not `/`, not below another mount", Remount, text(value::absolute_path) }
    /// refuse every write
    read_only: bool { "true", Boolean, "true or false", "", Remount, boolean }
    /// a change in the bucket is seen by an open at most this much later; `0s`: every open asks S3
    freshness: Duration { "1s", Duration, r#"a duration such as "1s""#, "0 s to 1 h", Remount taggable, duration(Duration::ZERO, HOUR) }
    /// owner of objects without s3fs headers
    uid: u32 { "0", Number, "a user number from 0 to 4294967294", "0 to 4294967294", Remount taggable, number }
    /// group of objects without s3fs headers
    gid: u32 { "0", Number, "a group number from 0 to 4294967294", "0 to 4294967294", Remount taggable, number }
    /// mode of files without s3fs headers
    file_mode: u32 { "0644", Mode, r#"an octal mode in quotes such as "0644""#, "permission bits", Remount taggable, text(quantity::mode) }
    /// mode of directories without s3fs headers
    dir_mode: u32 { "0755", Mode, r#"an octal mode in quotes such as "0755""#, "permission bits", Remount taggable, text(quantity::mode) }
    /// bytes that all caches and buffers of this mount hold together
    memory: u64 { "128MiB", Size, r#"a size such as "128MiB""#, "at least 16 MiB", Remount taggable, size(16 << 20) }
    /// bytes of the block cache on disk; `0`: none
    disk_cache: u64 { "0", Size, r#"a size such as "10GiB", or "0" for none"#, "", Remount, size(0) }
    /// last-known-good content is served this long when S3 cannot be asked; `0s`: never
    max_stale: Duration { "1h", Duration, r#"a duration such as "1h", or "0s" for never"#, "0 s to 30 d", Remount taggable, duration(Duration::ZERO, DAY * 30) }
    /// where files are kept while they are being written, and what could not be stored; `docs/filesystem.md`
    staging: PathBuf { "/var/lib/mapkeeper/staging", Path, r#"an absolute path such as "/var/lib/mapkeeper/staging""#, "absolute path", Remount, text(value::absolute_path) }
    /// what becomes of a write if somebody else has written the object since it was opened: `ESTALE` and a kept copy, or the
    /// last one wins
    on_conflict: OnConflict { "fail", Choice(OnConflict::WORDS), r#""fail" or "overwrite""#, r#"`"fail"` or `"overwrite"`"#, Remount, word(OnConflict::of) }
    /// how S3 encrypts what is written; without it as the bucket says. An object that is only renamed, or gets other
    /// attributes, keeps a KMS key that it has
    sse: Option<Sse> { none, Text, r#""AES256", "aws:kms" or "aws:kms:KEY" such as "aws:kms:alias/maps""#, "`\"AES256\"`, `\"aws:kms\"` or `\"aws:kms:KEY\"` with the id, ARN or alias of a key; also `aws:kms:dsse`", Remount, text(value::sse) }
    /// storage class of new content. With `"STANDARD"` a new object has the class that S3 gives it, and one that is there
    /// keeps its own
    storage_class: String { "STANDARD", Text, r#"a storage class that can be read at once such as "STANDARD_IA""#, "any but those that have to be restored before they are read", Remount, text(value::storage_class) }
    /// who may read what is written, beside its owner: a canned ACL of S3. `"private"` is what S3 does anyway and is not sent:
    /// buckets without ACLs refuse the word
    acl: CannedAcl { "private", Choice(CannedAcl::WORDS), r#"a canned ACL such as "bucket-owner-full-control""#, "a canned ACL of objects", Remount, word(CannedAcl::of) }
    /// `rmdir` of a directory that holds nothing but keys that no file name can stand for, such as `d//x`, removes them. Without
    /// it the directory is not empty, and the log and `mapkeeper explain DIR` name such a key
    remove_hidden: bool { "false", Boolean, "true or false", "`true` or `false`", Remount, boolean }
    /// have the kernel send again what a killed agent left unanswered, where it can (Linux 6.9 and later); if not, the next
    /// agent answers from what the killed one wrote down
    resend: bool { "true", Boolean, "true or false", "`true` or `false`", Remount, boolean }
    /// show set-id bits of files, and attributes `security.*` and `trusted.*`. Without it no object makes a program run with
    /// other rights, not even through a bind in a container
    suid: bool { "false", Boolean, "true or false", "`true` or `false`", Remount, boolean }
    /// base URL of another S3 server
    endpoint_url: Option<String> { none, Text, r#"a base URL such as "http://127.0.0.1:9000""#, "`http://` or `https://`", Remount, text(value::endpoint_url) }
    /// name the bucket in the path of a request; without it true when `endpoint_url` is set, else false
    path_style: bool { derived, Boolean, "true or false", "", Remount, boolean }
    /// region of the bucket; without it `region`
    region: Option<String> { none, Text, r#"an AWS region such as "us-east-1""#, "letters, digits, `-`", Remount, text(value::region) }
    /// profile of the AWS configuration files that the default chain reads
    profile: Option<String> { none, Text, "the name of a profile in the AWS configuration files", "", Remount, text(value::line) }
} { reader, at =>
    let name = reader.mount_name(&at.with("name"), name, path.as_deref());
    let path_style = path_style.map(|given| given.unwrap_or(matches!(endpoint_url, Some(Some(_)))));
    reader.claims.paths.extend(path.clone().map(|path| (at.with("path"), path)));
    reader.claims.names.extend(name.clone().map(|name| (at.with("name"), name)));
    reader.tell_first(at, &["source", "path", "name"]);
}

/// A container that reads from the mounts.
Container "container[]." {
    /// who creates it: ECS, or mapkeeper from this table
    owner: Owner { "ecs", Choice(Owner::WORDS), r#""ecs" or "mapkeeper""#, r#"`"ecs"` or `"mapkeeper"`"#, RestartContainer, word(Owner::of) }
    /// How it is recognised among the containers of the host; one that mapkeeper creates always by its name.
    selector: Selector { of [
        /// the container's name. Exactly one of `name` and `match` is given
        "name" none, Text, "the name of a container", "by the rules of Docker; unique", RestartContainer;
        /// a label by which the container is recognised
        "match.label" none, Text, r#"a label such as "role" or "role=mapserver""#, "`key` or `key=value`", RestartContainer;
        /// an image by which the container is recognised
        "match.image" none, Text, r#"an image such as "mapserver:8""#, "", RestartContainer;
    ] |reader, at| reader.selector(at, owner) }
    /// image to create it from
    image: Option<String> { none, Text, r#"an image such as "mapserver:8""#, "required when mapkeeper is the owner", RestartContainer, text(value::word) }
    /// ports of the host that lead into the container
    ports: Vec<Port> { list, Texts, r#"a list of ports such as ["8080:80"]"#, "no host port twice", RestartContainer,
        |reader, at| reader.list(at, value::port, |claims, path, port| claims.ports.push((path, port))) }
    /// directories of the host that the container sees
    binds: Vec<Bind> { list, Texts, r#"a list of binds such as ["/src:/dst:ro"]"#, "no target twice", RestartContainer,
        |reader, at| reader.list(at, value::bind, |claims, path, bind| claims.targets.push((path, bind.target))) }
    /// environment of the container; values with a name like a password are never shown
    environment: BTreeMap<String, String> { named, Text, "a string", "strings", RestartContainer, |reader, at| reader.named(at, variable_name) }
    /// How to ask whether the service in it answers.
    probe: Option<Probe> { in maybe Probe }
} { reader, at =>
    if owner == Some(Owner::Mapkeeper) && image == Some(None) {
        reader.fault(&at.with("image"), Problem::OwnedNeedsImage);
    }
    if let (Some(Some(probe)), Some(ports)) = (&probe, &ports) {
        reader.claims.probes.push((at.with("probe").with("url"), probe.url.clone(), ports.clone()));
    }
}

/// How to ask whether a service answers.
Probe "container[].probe." {
    /// what is asked to see whether the service answers; its port should be one of `ports`
    url: String { required, Text, r#"an http:// URL such as "http://127.0.0.1:8080/""#, "`http://`", Live, text(value::probe_url) }
    /// a good answer: a WMS document or an image, or any status of 2xx and 3xx
    expect: Expect { "wms", Choice(Expect::WORDS), r#""wms" or "http""#, r#"`"wms"` or `"http"`"#, Live, word(Expect::of) }
    /// from one question to the next
    interval: Duration { "10s", Duration, r#"a duration such as "10s""#, "1 s to 1 h", Live taggable, duration(SECOND, HOUR) }
    /// longest wait for an answer
    timeout: Duration { "5s", Duration, r#"a duration such as "5s""#, "100 ms to `interval`", Live taggable, duration(SECOND / 10, HOUR) }
} { reader, at =>
    if let Some(interval) = interval.filter(|interval| timeout > Some(*interval)) {
        let interval = show_duration(interval);
        reader.fault(&at.with("timeout"), Problem::TimeoutAboveInterval { interval });
    }
}

/// How the host is prepared at boot.
#[derive(Default)]
Bootstrap "bootstrap." {
    /// files for this host and their `manifest.toml`: see [bootstrap.md](bootstrap.md)
    overlay: Option<Overlay> { none, Text, r#"files for this host such as "s3://bucket/prefix" or "/srv/mapkeeper/mapfiles/host""#,
        "`s3://bucket/prefix` or an absolute directory", Boot, text(value::overlay) }
    /// version of the manifest, in a bucket that keeps versions
    overlay_version: Option<String> { none, Text, "the version id of the manifest in a bucket that keeps versions", "a version id", Boot, text(value::word) }
    /// a rule in Docker's chain DOCKER-USER keeps containers from the instance metadata, and so from the instance's role
    block_imds: bool { "false", Boolean, "true or false", "", Boot, boolean }
    /// where user data fetches the program from
    binary_url: Option<String> { none, Text, "an https:// URL of the program", "`https://`, no user and password", Boot, text(value::https_url) }
    /// checksum of the program
    binary_sha256: Option<String> { none, Text, "64 hexadecimal digits", "64 hexadecimal digits", Boot, text(value::sha256) }
    /// the resource of a CloudFormation stack that waits for this host: see [bootstrap.md](bootstrap.md)
    signal: Option<StackSignal> { none, Text, r#"a stack and a resource such as "maps/Hosts""#, "`STACK/RESOURCE`", Boot, text(value::stack_signal) }
} {}

/// Membership in an ECS cluster.
Ecs "ecs." {
    /// name of the ECS cluster, written into `/etc/ecs/ecs.config` by `mapkeeper bootstrap`
    cluster: String { required, Text, "the name of an ECS cluster", "required in `[ecs]`", Live, text(value::word) }
    /// attributes of the container instance. `mapkeeper.ready` is kept true to the host: `"false"` while nothing on it can be
    /// repaired
    attributes: BTreeMap<String, String> { named, Text, "a string", "strings", Boot, |reader, at| reader.named(at, value::line) }
} {}

/// The listener for load balancers and Prometheus.
#[derive(Copy)]
Health "health." {
    /// `GET /healthz` for load balancers: 200 while the host serves, else 503 and why; `GET /metrics` for Prometheus; `GET /`:
    /// the chain as a page ([operating](operating.md#monitoring)). Off without it. On loopback only this host can ask; it
    /// tells names of buckets and maps to whoever may
    listen: SocketAddr { required, Text, r#"an address and port such as "127.0.0.1:8081""#, "address and port", RestartAgent, text(listen) }
} { reader, at => reader.claims.listeners.extend(listen.map(|listen| (at.with("listen"), listen))); }

    } };
}

pub(super) use settings;

//! The layers of the configuration, each from where it really is: a file, Parameter Store and EC2 played by moto, an
//! instance metadata service of version 2, the environment, the command line.

use crate::support::aws as support;

use std::path::PathBuf;
use std::process::Command;

use aws_sdk_ssm::types::ParameterType;
use support::{Http, Moto, metadata, streams};

const FILE: &str = r#"[sources]
parameters = "/maps/prod"
instance_tags = true

[[mount]]
source = "s3://maps"
path = "/srv/maps"
uid = 1
freshness = "1s"
max_stale = "1h"
file_mode = "0600"

[container]
owner = "mapkeeper"
name = "mapserver"
image = "mapserver:8"
"#;

/// A configuration file, and everything that a command finds around it.
struct World {
    /// Where it is asked; without it nothing of AWS answers.
    moto: Option<Moto>,
    metadata: Http,
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl World {
    fn new(file: &str, pages: &[(&str, &str)]) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("c.toml"), file).expect("written");
        let program = env!("CARGO_BIN_EXE_mapkeeper").into();
        World { moto: None, metadata: metadata(pages), directory, program }
    }

    fn with_moto(file: &str, pages: &[(&str, &str)]) -> World {
        World { moto: Some(Moto::start(&[])), ..World::new(file, pages) }
    }

    /// With the program that can ask the EC2 API.
    fn shipped(self) -> World {
        World { program: support::shipped(), ..self }
    }

    fn moto(&self) -> &Moto {
        self.moto.as_ref().expect("it was asked for")
    }

    fn mapkeeper(&self, words: &[&str]) -> Command {
        let mut command = support::alone(&self.program);
        command
            .args(words)
            .env("MAPKEEPER_CONFIG", self.directory.path().join("c.toml"))
            .env("AWS_ENDPOINT_URL", self.moto.as_ref().map_or("http://127.0.0.1:1".to_owned(), Moto::url))
            .env_remove("AWS_EC2_METADATA_DISABLED")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.metadata.url);
        command
    }

    async fn parameters(&self, parameters: &[(&str, &str, ParameterType)]) {
        let client = aws_sdk_ssm::Client::new(&self.moto().sdk().await);
        for (name, value, kind) in parameters {
            let put = client.put_parameter().name(*name).value(*value).r#type(kind.clone()).overwrite(true);
            put.send().await.expect("moto stores a parameter");
        }
    }
}

#[tokio::test]
async fn every_layer_is_read_and_each_value_says_where_it_was_written() {
    let tags = [
        (
            "meta-data/tags/instance/",
            "Name\nmapkeeper:mount.0.max_stale\nmapkeeper:mount.0.freshness\nmapkeeper:state",
        ),
        ("meta-data/tags/instance/mapkeeper:mount.0.max_stale", "3h"),
        ("meta-data/tags/instance/mapkeeper:mount.0.freshness", "3s"),
        ("meta-data/tags/instance/mapkeeper:state", "healthy"),
    ];
    let world = World::with_moto(FILE, &tags);
    let text = ParameterType::String;
    // More than one page of ten.
    let many: Vec<(String, String)> =
        (0..21).map(|n| (format!("/maps/prod/container/environment/A{n:02}"), n.to_string())).collect();
    let mut parameters: Vec<(&str, &str, ParameterType)> =
        many.iter().map(|(name, value)| (name.as_str(), value.as_str(), text.clone())).collect();
    parameters.extend([
        ("/maps/prod/mount/0/gid", "2", text.clone()),
        ("/maps/prod/mount/0/freshness", "2s", text.clone()),
        ("/maps/prod/mount/0/max_stale", "2h", text.clone()),
        ("/maps/prod/container/environment/DATABASE", "hunter2", ParameterType::SecureString),
        ("/maps/prod/container/ports", "8080:80,8443:443", ParameterType::StringList),
        ("/maps/test/mount/0/gid", "9", text),
    ]);
    world.parameters(&parameters).await;
    let mut command = world.mapkeeper(&["config", "show", "--origin", "--set", "mount[0].dir_mode=0700"]);
    command.env("MAPKEEPER_MOUNT__0__FRESHNESS", "4s");
    let (code, shown, errors) = streams(&mut command);
    println!("{shown}");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let file = world.directory.path().join("c.toml");
    for (setting, origin) in [
        ("read_only = true", "default".to_owned()),
        ("uid = 1", format!("{}:8", file.display())),
        ("gid = 2", "parameter /maps/prod/mount/0/gid".to_owned()),
        ("max_stale = \"3h\"", "tag mapkeeper:mount.0.max_stale".to_owned()),
        ("freshness = \"4s\"", "environment MAPKEEPER_MOUNT__0__FRESHNESS".to_owned()),
        ("dir_mode = \"0700\"", "--set mount[0].dir_mode".to_owned()),
        ("ports = [\"8080:80\", \"8443:443\"]", "parameter /maps/prod/container/ports".to_owned()),
        ("A20 = \"20\"", "parameter /maps/prod/container/environment/A20".to_owned()),
        (
            "DATABASE = \"[redacted]\"",
            "secure parameter /maps/prod/container/environment/DATABASE".to_owned(),
        ),
    ] {
        let line =
            shown.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{setting}"));
        assert_eq!(line.split("  # ").nth(1), Some(origin.as_str()), "{line}");
    }
    assert!(!shown.contains("hunter2"));
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_layer_all_at_once() {
    let tags = [
        ("meta-data/tags/instance/", "mapkeeper:mount.0.freshnes"),
        ("meta-data/tags/instance/mapkeeper:mount.0.freshnes", "3s"),
    ];
    let world = World::with_moto(FILE, &tags);
    let secure = ParameterType::SecureString;
    world
        .parameters(&[
            ("/maps/prod/mount/0/memory", "hunter2", secure),
            ("/maps/prod/sources/parameters", "/elsewhere", ParameterType::String),
        ])
        .await;
    let mut command =
        world.mapkeeper(&["config", "check", "--set", "mount[0].read_only=perhaps", "--set", "x"]);
    let (code, _, errors) = streams(&mut command);
    assert_eq!(code, Some(64), "{errors}");
    for line in [
        "secure parameter /maps/prod/mount/0/memory: mount[0].memory = [redacted]: expected a whole number with a unit",
        "tag mapkeeper:mount.0.freshnes: mount[0].freshnes: unknown key, did you mean `freshness`?",
        "--set mount[0].read_only: mount[0].read_only = \"perhaps\": expected true or false",
        "--set x: expected KEY=VALUE such as mount[0].freshness=5s",
        "parameter /maps/prod/sources/parameters: sources.parameters: not supported: a parameter cannot say where",
    ] {
        assert!(errors.contains(line), "{line}\n{errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[tokio::test]
async fn tags_come_from_the_api_where_the_metadata_does_not_offer_them() {
    let world = World::with_moto(&FILE.replace("parameters = \"/maps/prod\"", ""), &[]).shipped();
    let id = world.moto().instance();
    for (name, value) in [("Name", "maps"), ("mapkeeper:mount.0.uid", "33"), ("mapkeeper:state", "failed")] {
        world.moto().ec2("CreateTags", &[("ResourceId.1", &id), ("Tag.1.Key", name), ("Tag.1.Value", value)]);
    }
    let metadata = metadata(&[("meta-data/instance-id", &id)]);
    let mut command = world.mapkeeper(&["config", "show", "--origin"]);
    let (code, shown, errors) = streams(command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let uid = shown.lines().find(|line| line.starts_with("uid")).expect("it is shown");
    assert!(uid.starts_with("uid = 33 ") && uid.ends_with("# tag mapkeeper:mount.0.uid"), "{uid}");
}

#[test]
fn tags_that_nobody_may_read_are_a_warning() {
    let world = World::new(&FILE.replace("parameters = \"/maps/prod\"", ""), &[]).shipped();
    let refusing = Http::start(|_| {
        let body = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
        Some((403, String::new(), body.to_owned()))
    });
    let mut command = world.mapkeeper(&["config", "check"]);
    let (code, said, errors) = streams(command.env("AWS_ENDPOINT_URL_EC2", &refusing.url));
    assert_eq!((code, said.as_str()), (Some(0), "the configuration is valid: 1 mount, 1 container\n"));
    let expected = "warning: sources.instance_tags: the tags of this instance cannot be read: allow \
                    ec2:DescribeTags, or offer them in the instance metadata\n";
    assert_eq!(errors, expected);
}

#[test]
fn tags_are_left_alone_where_nobody_wants_them() {
    let text = FILE.replace("parameters = \"/maps/prod\"\ninstance_tags = true", "");
    let world = World::new(&text, &[]);
    let (code, _, errors) = streams(&mut world.mapkeeper(&["config", "check"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(world.metadata.requests().is_empty(), "{:?}", world.metadata.requests());
}

#[test]
fn parameters_that_cannot_be_read_are_no_half_configuration() {
    let world = World::new(FILE, &[("meta-data/tags/instance/", "")]);
    let run = |variable: &str, url: &str| streams(world.mapkeeper(&["config", "check"]).env(variable, url));
    let (code, _, errors) = run("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1");
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.starts_with("mapkeeper: cannot read the parameters below \"/maps/prod\": "), "{errors}");
    let refusing = Http::start(|_| {
        let body = r#"{"__type":"AccessDeniedException","message":"no"}"#;
        Some((400, "Content-Type: application/x-amz-json-1.1\r\n".to_owned(), body.to_owned()))
    });
    let (code, _, errors) = run("AWS_ENDPOINT_URL_SSM", &refusing.url);
    let expected = "mapkeeper: access to the parameters below \"/maps/prod\" is denied\nhint: allow \
                    ssm:GetParametersByPath on arn:aws:ssm:REGION:ACCOUNT:parameter/maps/prod, and kms:Decrypt on \
                    the key of its secure parameters\n";
    assert_eq!((code, errors.as_str()), (Some(12), expected));
}

#[test]
fn a_path_without_parameters_is_a_warning() {
    let world = World::new(FILE, &[("meta-data/tags/instance/", "")]);
    let empty = Http::start(|_| {
        let headers = "Content-Type: application/x-amz-json-1.1\r\n";
        Some((200, headers.to_owned(), r#"{"Parameters":[]}"#.to_owned()))
    });
    let mut command = world.mapkeeper(&["config", "check"]);
    let (code, _, errors) = streams(command.env("AWS_ENDPOINT_URL_SSM", &empty.url));
    let expected = "warning: sources.parameters = \"/maps/prod\": nothing is there in Parameter Store, the path is \
                    perhaps misspelt\n";
    assert_eq!((code, errors.as_str()), (Some(0), expected));
}

#[tokio::test]
async fn everything_may_come_from_parameters_and_nothing_from_a_file() {
    let world = World::with_moto("", &[("meta-data/tags/instance/", "")]);
    let text = ParameterType::String;
    let (source, path) = ("/maps/prod/mount/0/source", "/maps/prod/mount/0/path");
    world.parameters(&[(source, "s3://maps", text.clone()), (path, "/srv/maps", text)]).await;
    let mut command = world.mapkeeper(&["config", "check"]);
    command.env_remove("MAPKEEPER_CONFIG").env("MAPKEEPER_SOURCES__PARAMETERS", "/maps/prod/");
    let (code, said, errors) = streams(&mut command);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "the configuration is valid: 1 mount, 0 containers\n"),
        "{errors}"
    );
}

#[test]
fn tags_that_cannot_be_asked_are_a_warning() {
    let world = World::new(&FILE.replace("parameters = \"/maps/prod\"", ""), &[]);
    let off = Http::start(|_| Some((403, String::new(), String::new())));
    let mut command = world.mapkeeper(&["config", "check"]);
    let (code, _, errors) = streams(command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &off.url));
    let expected = format!(
        "warning: sources.instance_tags: the tags of this instance cannot be asked, what was last known of them stays \
         in force: the instance metadata service at {} is turned off (403)\n",
        off.url
    );
    assert_eq!((code, errors), (Some(0), expected));
}

//! `docs/iam.md` is exact: every feature works behind a gate that refuses what the page does not list, and everything
//! that it lists is asked for.
//!
//! The gate stands before moto and an S3 server, reads action and resource out of each request, and compares them with
//! the statements on the page. Needs root and `/dev/fuse`.

use crate::support::agent;
use crate::support::aws as support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use agent::Agent;
use aws_sdk_ssm::types::ParameterType;
use s3_testbed::ACCESS_KEY;
use serde_json::Value;
use support::{Moto, metadata, streams};

const ACCOUNT: &str = "123456789012";
/// Set where this program asks AWS by itself: the container instance.
const ASKS: &str = "ASKS_OF_CONTAINER_INSTANCE";

/// One line of the page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Statement {
    action: String,
    resource: String,
    /// The only keys that tags may have.
    tag_keys: Vec<String>,
}

fn statements() -> Vec<Statement> {
    let page = include_str!("../../docs/iam.md");
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(|block| serde_json::from_str::<Vec<Value>>(block).expect("a list of statements"))
        .map(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            let text = |name: &str| statement[name].as_str().expect("one text").to_owned();
            let resource = text("Resource").replace("REGION", support::REGION).replace("ACCOUNT", ACCOUNT);
            let keys = statement["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"].as_array();
            let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            Statement { action: text("Action"), resource, tag_keys: keys }
        })
        .collect()
}

/// As IAM compares: `*` is anything, `?` one character.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, text) || text.split_first().is_some_and(|(_, text)| fits(pattern, text))
        }
        (Some((b'?', rest)), Some((_, text))) => fits(rest, text),
        (Some((wanted, rest)), Some((found, text))) => wanted == found && fits(rest, text),
        _ => false,
    }
}

#[derive(Default)]
struct Book {
    used: BTreeSet<Statement>,
    refused: BTreeSet<(String, String)>,
}

/// What a request asks for.
struct Asked {
    action: String,
    resource: String,
    tag_keys: Vec<String>,
}

fn form(body: &str, name: &str) -> String {
    let field = body.split('&').filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name);
    field.map_or(String::new(), |(_, value)| value.replace("%3A", ":").replace("%2F", "/"))
}

fn asked(line: &str, headers: &[(String, String)], body: &str) -> Vec<Asked> {
    let header = |name: &str| {
        let found = headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    };
    let region = support::REGION;
    let json: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    let service = header("authorization").split('/').nth(3).unwrap_or_default().to_owned();
    let (mut action, mut resource, mut tag_keys) = (String::new(), String::new(), Vec::new());
    if let Some((_, operation)) = header("x-amz-target").split_once('.') {
        action = format!("{service}:{operation}");
        resource = match service.as_str() {
            "secretsmanager" => {
                format!("arn:aws:secretsmanager:{region}:{ACCOUNT}:secret:{}-AbCdEf", text("SecretId"))
            }
            "ecs" => {
                let named = [&json["containerInstances"][0], &json["attributes"][0]["targetId"]];
                named.iter().find_map(|value| value.as_str()).unwrap_or_default().to_owned()
            }
            _ => format!("arn:aws:ssm:{region}:{ACCOUNT}:parameter{}", text("Path") + &text("Name")),
        };
    } else if service == "s3" {
        return asked_of_s3(line, &header);
    } else if service == "elasticfilesystem" {
        let is_list = line.starts_with("GET /2015-02-01/file-systems");
        action = if is_list { "elasticfilesystem:DescribeFileSystems".to_owned() } else { line.to_owned() };
        resource = format!("arn:aws:elasticfilesystem:{region}:{ACCOUNT}:file-system/*");
    } else if body.contains("Action=") {
        action = format!("{service}:{}", form(body, "Action"));
        resource = match form(body, "Action").as_str() {
            "CreateTags" => format!("arn:aws:ec2:{region}:{ACCOUNT}:instance/{}", form(body, "ResourceId.1")),
            "AssumeRole" => form(body, "RoleArn"),
            "TerminateInstances" => {
                format!("arn:aws:ec2:{region}:{ACCOUNT}:instance/{}", form(body, "InstanceId.1"))
            }
            "SignalResource" => {
                format!("arn:aws:cloudformation:{region}:{ACCOUNT}:stack/{}/0-0", form(body, "StackName"))
            }
            _ => "*".to_owned(),
        };
        tag_keys =
            (1..9).map(|n| form(body, &format!("Tag.{n}.Key"))).filter(|key| !key.is_empty()).collect();
    }
    vec![Asked { action, resource, tag_keys }]
}

/// What a request to S3 needs: one that copies or tags needs more than one thing.
fn asked_of_s3<'a>(line: &str, header: &dyn Fn(&str) -> &'a str) -> Vec<Asked> {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let has = |name: &str| query.split('&').any(|pair| pair == name || pair.starts_with(&format!("{name}=")));
    let of = |action: &str, path: &str| {
        let resource = format!("arn:aws:s3:::{}", path.trim_matches('/'));
        Asked { action: format!("s3:{action}"), resource, tag_keys: Vec::new() }
    };
    let mut all = vec![match method {
        "GET" if has("list-type") => of("ListBucket", path),
        // Whether there is such a bucket.
        "HEAD" if !path.trim_matches('/').contains('/') => of("ListBucket", path),
        "GET" if has("tagging") => of("GetObjectTagging", path),
        "GET" | "HEAD" if has("versionId") => of("GetObjectVersion", path),
        "GET" | "HEAD" => of("GetObject", path),
        "PUT" | "POST" => of("PutObject", path),
        "DELETE" if has("uploadId") => of("AbortMultipartUpload", path),
        "DELETE" => of("DeleteObject", path),
        other => of(other, path),
    }];
    let source = header("x-amz-copy-source");
    if !source.is_empty() {
        all.push(of("GetObject", source));
    }
    if !header("x-amz-tagging").is_empty() {
        all.push(of("PutObjectTagging", path));
    }
    all
}

/// A gate before the server at `backend`; its address.
fn gate(backend: String, statements: Arc<Vec<Statement>>, book: Arc<Mutex<Book>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (backend, statements, book) = (backend.clone(), statements.clone(), book.clone());
            std::thread::spawn(move || pass(stream, &backend, &statements, &book));
        }
    });
    url
}

/// One request, to the server behind or refused. `None`: the connection ended.
fn pass(mut stream: TcpStream, backend: &str, statements: &[Statement], book: &Mutex<Book>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    // Who only tries whether there is a way asks for nothing.
    (reader.read_line(&mut line).ok()? > 0).then_some(())?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("expect")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    reader.read_exact(&mut body).ok()?;
    let asked = asked(line.trim_end(), &headers, &String::from_utf8_lossy(&body));
    let allowing = |asked: &Asked| {
        statements.iter().find(|statement| {
            fits(statement.action.as_bytes(), asked.action.as_bytes())
                && fits(statement.resource.as_bytes(), asked.resource.as_bytes())
                && (statement.tag_keys.is_empty()
                    || asked.tag_keys.iter().all(|key| statement.tag_keys.contains(key)))
        })
    };
    if let Some(refused) = asked.iter().find(|one| allowing(one).is_none()) {
        let named = (refused.action.clone(), refused.resource.clone());
        book.lock().expect("not poisoned").refused.insert(named);
        let refusal = "{\"__type\":\"AccessDeniedException\"}";
        let head = "HTTP/1.1 403 x\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n";
        stream
            .write_all(format!("{head}Content-Length: {}\r\n\r\n{refusal}", refusal.len()).as_bytes())
            .ok()?;
        return Some(());
    }
    book.lock().expect("not poisoned").used.extend(asked.iter().filter_map(allowing).cloned());
    let mut server = TcpStream::connect(backend).ok()?;
    let mut head = line;
    let passes = |name: &str| !["connection", "expect"].iter().any(|kept| name.eq_ignore_ascii_case(kept));
    for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    server.write_all(head.as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    std::io::copy(&mut server, &mut stream).ok().map(|_| ())
}

/// Everything that asks AWS for something, behind the gate. What was used and what was refused.
async fn every_feature(statements: Vec<Statement>) -> Book {
    let moto = Moto::start(&[]);
    let sdk = moto.sdk().await;
    let ssm = aws_sdk_ssm::Client::new(&sdk);
    let put =
        ssm.put_parameter().name("/maps/prod/mount/0/freshness").value("1s").r#type(ParameterType::String);
    put.send().await.expect("moto stores a parameter");
    let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
    let create = secrets.create_secret().name("maps/s3").secret_string("AKIASECRET:secret");
    create.send().await.expect("moto creates a secret");
    let id = moto.instance();
    let metadata = metadata(&[("meta-data/instance-id", &id)]);

    let (statements, book) = (Arc::new(statements), Arc::new(Mutex::new(Book::default())));
    let mut agent = Agent::of(support::shipped());
    let behind = agent.server.endpoint().trim_start_matches("http://").to_owned();
    let (aws, s3) = (
        gate(moto.address.clone(), statements.clone(), book.clone()),
        gate(behind, statements.clone(), book.clone()),
    );
    agent.server.control().accept_key("AKIASECRET", "secret");
    agent.server.store().put("fonts", "host/manifest.toml", "", &[]).expect("stored");
    let variables = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", s3_testbed::SECRET_KEY),
        ("AWS_ENDPOINT_URL", &aws),
        ("AWS_ENDPOINT_URL_S3", &s3),
        ("AWS_REGION", support::REGION),
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url),
    ];
    agent.variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mount = agent.mount("maps", "").replace(&agent.server.endpoint(), &s3);
    let sources = "[sources]\nparameters = \"/maps/prod\"\ninstance_tags = true\n";
    agent.write(&format!("escalate = \"dry-run\"\n{sources}[credentials]\nsecret = \"maps/s3\"\n{mount}"));
    agent.start();
    until_read_and_tagged(&agent, &book).await;
    // The role, whose keys no S3 server knows here.
    let role = format!("role = \"arn:aws:iam::{ACCOUNT}:role/maps\"");
    let mut other = Agent::of(support::shipped());
    other.variables.clone_from(&agent.variables);
    let bucket = other.mount("fonts", "");
    other.write(&format!("[credentials]\n{role}\n{bucket}"));
    other.start();
    other.until("an attempt", |status| status.to_string().contains("role/maps")).await;
    // A file system by its name; there is none of that name.
    let sdk = support::sdk(&aws, "test", "test").await;
    mapkeeper::host::mount::file_system_id(&sdk, "data").await.expect_err("none is called so");

    write_files(&agent, (statements, book.clone())).await;
    let instance = container_instance(&moto, &id).await;
    let mut cluster = std::process::Command::new(std::env::current_exe().expect("this test's program"));
    cluster.args(["--exact", "iam::a_cluster_is_asked_for_by_name", "--nocapture"]);
    cluster.envs(agent.variables.iter().map(|(name, value)| (name, value)));
    cluster.env(ASKS, &instance);
    println!("{:?}", streams(&mut cluster));
    other_commands(&agent, &ssm).await;
    drop((agent, other));
    std::mem::take(&mut *book.lock().expect("not poisoned"))
}

/// Waits until the mount serves and the instance has its tag, or something was refused.
async fn until_read_and_tagged(agent: &Agent, book: &Mutex<Book>) {
    let tagged = |book: &Book| {
        let asked = |action: &str| action == "ec2:CreateTags";
        book.used.iter().any(|statement| asked(&statement.action))
            || book.refused.iter().any(|(action, _)| asked(action))
    };
    let began = tokio::time::Instant::now();
    let mut read = false;
    while began.elapsed() < support::LIMIT {
        let done = {
            let book = book.lock().expect("not poisoned");
            !book.refused.is_empty() || (tagged(&book) && read)
        };
        if done {
            break;
        }
        let cat = tokio::process::Command::new("cat").arg(agent.point("maps").join("file")).output();
        read = read || cat.await.expect("cat").stdout == b"maps";
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// What an operator and a boot ask for beside the agent.
async fn other_commands(agent: &Agent, ssm: &aws_sdk_ssm::Client) {
    println!("{:?}", streams(agent.mapkeeper().arg("doctor")));
    let text = "[[mount]]\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n\
                [bootstrap]\noverlay = \"s3://fonts/host\"\nsignal = \"maps/Hosts\"\n";
    let put = ssm.put_parameter().name("/maps/config").value(text).r#type(ParameterType::String);
    put.send().await.expect("moto stores a parameter");
    let tools = agent.scratch.path().join("tools");
    std::fs::create_dir(&tools).expect("made");
    std::os::unix::fs::symlink("/bin/true", tools.join("systemctl")).expect("made");
    let mut bootstrap = agent.mapkeeper();
    bootstrap.env_remove("MAPKEEPER_CONFIG").args(["bootstrap", "--from", "ssm:/maps/config", "--root"]);
    bootstrap
        .arg(agent.scratch.path().join("root"))
        .env("PATH", format!("{}:/usr/bin:/bin", tools.display()));
    println!("{:?}", streams(&mut bootstrap));
}

/// All kinds of changes on a mount that is written: of objects with tags and in parts, and of one that is given up.
async fn write_files(agent: &Agent, (statements, book): (Arc<Vec<Statement>>, Arc<Mutex<Book>>)) {
    let mut writer = Agent::new();
    let keys = (ACCESS_KEY, s3_testbed::SECRET_KEY);
    let sdk = support::sdk(&writer.server.endpoint(), keys.0, keys.1).await;
    let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
    let put =
        aws_sdk_s3::Client::from_conf(s3).put_object().bucket("maps").key("tagged").tagging("team=maps");
    put.send().await.expect("stored");
    let behind = writer.server.endpoint().trim_start_matches("http://").to_owned();
    let s3 = gate(behind, statements, book);
    writer.variables.clone_from(&agent.variables);
    writer.variables.retain(|(name, _)| !name.starts_with("AWS_ENDPOINT_URL"));
    let staging = writer.scratch.path().join("staging");
    let more = format!("read_only = false\nstaging = \"{}\"", staging.display());
    let mount = writer.mount("maps", &more).replace(&writer.server.endpoint(), &s3);
    writer.write(&mount);
    writer.start();
    let began = tokio::time::Instant::now();
    while writer.device("maps").is_none() && began.elapsed() < std::time::Duration::from_secs(30) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let script = "echo new > new; echo more >> tagged; chmod 600 tagged; mv new moved; rm moved; mkdir d; mv d e; rmdir e; \
                  python3 -c 'import os, time; f = open(\"given-up\", \"wb\", 0); f.write(bytes(30000000)); time.sleep(1); \
                  os.unlink(\"given-up\"); f.close()'; \
                  head -c 30000000 /dev/zero > large; printf x | dd of=large bs=1 seek=9 conv=notrunc";
    let mut shell = tokio::process::Command::new("sh");
    let shell = shell.args(["-c", script]).current_dir(writer.point("maps")).kill_on_drop(true).output();
    println!("{:?}", tokio::time::timeout(support::LIMIT, shell).await);
}

/// The container instance that `id` is in the cluster `maps`.
async fn container_instance(moto: &Moto, id: &str) -> String {
    let ecs = aws_sdk_ecs::Client::new(&moto.sdk().await);
    ecs.create_cluster().cluster_name("maps").send().await.expect("moto makes a cluster");
    let document = serde_json::json!({ "instanceId": id, "region": support::REGION, "accountId": ACCOUNT });
    let register = ecs.register_container_instance().cluster("maps");
    let registered = register.instance_identity_document(document.to_string()).send().await;
    let instance = registered.expect("moto registers").container_instance.expect("an instance");
    instance.container_instance_arn.expect("it has a name")
}

/// The other half of `every_feature`: what takes its addresses from the environment, in a process that has one.
#[tokio::test]
async fn a_cluster_is_asked_for_by_name() {
    let Ok(container) = std::env::var(ASKS) else { return };
    let nowhere = std::path::Path::new("/nonexistent");
    let ecs = mapkeeper::host::ecs::Ecs::new(
        "maps",
        Some(support::REGION),
        mapkeeper::host::ecs::INTROSPECTION,
        nowhere,
    );
    println!("{:?}", ecs.instance(&container).await);
    println!("{:?}", ecs.mark(&container, true).await);
}

#[tokio::test]
async fn the_page_lists_what_is_needed_and_nothing_else() {
    let book = every_feature(statements()).await;
    for statement in &book.used {
        println!("used: {} on {}", statement.action, statement.resource);
    }
    assert_eq!(book.refused, BTreeSet::new(), "asked for, and not on the page");
    let unused: Vec<_> =
        statements().into_iter().filter(|statement| !book.used.contains(statement)).collect();
    assert_eq!(unused, Vec::<Statement>::new(), "on the page, and nobody asks for it");
}

#[tokio::test]
async fn a_missing_permission_to_tag_is_one_line_in_the_log() {
    let refusing = support::Http::start(|_| {
        let body = "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>";
        Some((403, String::new(), body.to_owned()))
    });
    let metadata = metadata(&[("meta-data/tags/instance/", "")]);
    let mut agent = Agent::of(support::shipped());
    agent.variables.extend(
        [
            ("AWS_ENDPOINT_URL_EC2", &refusing.url),
            ("AWS_EC2_METADATA_DISABLED", &"false".to_owned()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone())),
    );
    agent.write(&agent.mount("maps", ""));
    agent.start();
    agent.healthy().await;
    let began = tokio::time::Instant::now();
    while !agent.said().contains("the instance is not tagged") {
        assert!(began.elapsed() < support::LIMIT, "{}", agent.said());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(agent.said().contains("ec2:CreateTags is not allowed"), "{}", agent.said());
    agent.healthy().await;
    assert_eq!(agent.said().matches("the instance is not tagged").count(), 1);
    agent.end().await;
}

#[test]
fn patterns_are_compared_as_iam_does() {
    for (pattern, text, expected) in [
        ("arn:aws:s3:::maps/*", "arn:aws:s3:::maps/a/b", true),
        ("arn:aws:s3:::maps/*", "arn:aws:s3:::maps", false),
        ("secret:a-??????", "secret:a-AbCdEf", true),
        ("secret:a-??????", "secret:a-b-AbCdEf", false),
        ("*", "", true),
    ] {
        assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }
}

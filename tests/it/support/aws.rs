//! What tests of the AWS side share: moto in a process of its own, small HTTP servers, an instance metadata service.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

/// Longest wait for anything in these tests.
pub const LIMIT: Duration = Duration::from_secs(120);

pub const REGION: &str = "us-east-1";

/// A moto server; it ends with this value.
pub struct Moto {
    process: Child,
    /// Its address without scheme: `127.0.0.1:40123`.
    pub address: String,
}

impl Moto {
    pub fn start(arguments: &[&str]) -> Moto {
        Moto::start_with(arguments, &[])
    }

    pub fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Moto {
        let mut process = Command::new(moto_program())
            .args(["-H", "127.0.0.1", "-p", "0"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto starts");
        let lines = BufReader::new(process.stderr.take().expect("piped above")).lines();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("Running on ") {
                    let address = address.trim().rsplit('/').next().unwrap_or_default().to_owned();
                    // The test may be over already; then nobody waits for the address.
                    let _over = sender.send(address);
                }
            }
        });
        let address = receiver.recv_timeout(LIMIT).expect("moto says where it listens");
        Moto { process, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the EC2 API answers to `action` with these fields.
    pub fn ec2(&self, action: &str, fields: &[(&str, &str)]) -> String {
        let mut form = format!("Action={action}&Version=2016-11-15");
        for (name, value) in fields {
            form.push_str(&format!("&{name}={}", value.replace(':', "%3A")));
        }
        let mut curl = Command::new("curl");
        let signed = ["--aws-sigv4", "aws:amz:us-east-1:ec2", "--user", "test:test"];
        let output =
            curl.args(["-sS", "--fail-with-body", "--data", &form]).args(signed).arg(self.url()).output();
        let output = output.expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{action}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The id of an instance that this server runs from now on.
    pub fn instance(&self) -> String {
        let fields = [("ImageId", "ami-12345678"), ("MinCount", "1"), ("MaxCount", "1")];
        let said = self.ec2("RunInstances", &fields);
        let id = said.split_once("<instanceId>").and_then(|(_, rest)| rest.split_once('<'));
        id.expect("an id").0.to_owned()
    }

    /// The settings of a client of this server, with any keys.
    pub async fn sdk(&self) -> aws_config::SdkConfig {
        sdk(&self.url(), "test", "test").await
    }
}

/// The settings of a client of the server at `url`, with these keys.
pub async fn sdk(url: &str, id: &str, key: &str) -> aws_config::SdkConfig {
    let keys = SharedCredentialsProvider::new(Credentials::new(id, key, None, None, "test"));
    let config = mapkeeper::aws::sdk_config(Some(REGION), None, Some(keys)).await;
    config.into_builder().endpoint_url(url).build()
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().expect("our own child can be killed");
        self.process.wait().expect("our own child can be waited for");
    }
}

pub fn moto_program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/moto");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("tests/support/moto runs");
    assert!(output.status.success(), "{} makes moto available", script.display());
    PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim())
}

/// A request as a small server sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Status, further header lines, body; `None`: no answer, ever.
pub type Answer = Option<(u16, String, String)>;

/// A small HTTP server in this process; one request a connection.
pub struct Http {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Http {
    pub fn start(play: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, play) = (requests.clone(), Arc::new(play));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, play) = (seen.clone(), play.clone());
                std::thread::spawn(move || {
                    if let Some(request) = read_request(&stream) {
                        seen.lock().expect("not poisoned").push(request.clone());
                        answer(stream, play(&request));
                    }
                });
            }
        });
        Http { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn answer(mut stream: TcpStream, answer: Answer) {
    match answer {
        None => {
            // Until the other side gives up.
            let _ = stream.read(&mut [0; 1]);
        }
        Some((status, headers, body)) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _gone = stream.write_all(format!("{head}{body}").as_bytes());
        }
    }
}

/// An instance metadata service of version 2 that says `pages` below `/latest/`.
pub fn metadata(pages: &[(&str, &str)]) -> Http {
    let mut all = BTreeMap::from([
        ("meta-data/placement/region".to_owned(), REGION.to_owned()),
        ("meta-data/placement/availability-zone".to_owned(), "us-east-1a".to_owned()),
        ("meta-data/instance-id".to_owned(), "i-0123456789abcdef0".to_owned()),
    ]);
    all.extend(pages.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
    Http::start(move |request| {
        let plain = |status, text: &str| Some((status, String::new(), text.to_owned()));
        if request.method == "PUT" && request.path == "/latest/api/token" {
            let life =
                request.headers.get("x-aws-ec2-metadata-token-ttl-seconds").cloned().unwrap_or_default();
            let life = format!("x-aws-ec2-metadata-token-ttl-seconds: {life}\r\n");
            return Some((200, life, "TOKEN".to_owned()));
        }
        if request.headers.get("x-aws-ec2-metadata-token").map(String::as_str) != Some("TOKEN") {
            return plain(401, "");
        }
        match request.path.strip_prefix("/latest/").and_then(|path| all.get(path)) {
            Some(text) => plain(200, text),
            None => plain(404, ""),
        }
    })
}

/// The program as it is shipped, with all of AWS in it, which the build of the tests does not have.
pub fn shipped() -> PathBuf {
    let named = std::env::var_os("PROGRAM_UNDER_TEST")
        .expect("PROGRAM_UNDER_TEST names a release build: scripts/release");
    PathBuf::from(named)
}

/// The program, with nothing of AWS or of mapkeeper in its environment.
pub fn mapkeeper() -> Command {
    alone(Path::new(env!("CARGO_BIN_EXE_mapkeeper")))
}

/// `program`, likewise.
pub fn alone(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        let foreign = text.starts_with("AWS_") || text.starts_with("MAPKEEPER_");
        if foreign || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error of a command that has ended; without the lines about a wait, which
/// come when a retry or the machine is slow and are tested where they are made.
pub fn streams(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let errors = text(output.stderr).split_inclusive('\n').filter(|line| !tells_of_a_wait(line)).collect();
    (output.status.code(), text(output.stdout), errors)
}

/// Whether a line is `mapkeeper: WHAT, SECONDS s`.
fn tells_of_a_wait(line: &str) -> bool {
    let seconds =
        line.strip_prefix("mapkeeper: ").and_then(|rest| rest.strip_suffix(" s\n")?.rsplit_once(", "));
    seconds.is_some_and(|(_, seconds)| seconds.parse::<u64>().is_ok())
}

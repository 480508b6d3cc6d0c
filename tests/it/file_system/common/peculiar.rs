//! A server that does not do all that S3 does: our own behind a proxy, which changes requests and answers on their way.
//!
//! Nothing is signed behind it, so that a header can be taken away.

use std::net::SocketAddr;
use std::sync::Arc;

use s3_testbed::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{BUCKET, Bucket, s3_client};

/// A request or an answer on its way.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The request's own: also in its answer.
    pub method: String,
    /// With the query.
    pub path: String,
    first: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn without(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.without(name);
        self.headers.push((name.to_string(), value.to_string()));
    }

    /// Whether anything depends on a condition.
    pub fn has_condition(&self) -> bool {
        CONDITIONS.iter().any(|name| self.header(name).is_some())
    }

    pub fn without_conditions(&mut self) {
        CONDITIONS.iter().for_each(|name| self.without(name));
    }

    pub fn is_copy(&self) -> bool {
        self.header("x-amz-copy-source").is_some()
    }

    pub fn completes(&self) -> bool {
        self.method == "POST" && self.path.contains("uploadId=")
    }

    fn text(&self) -> Vec<u8> {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("{}\r\n{}\r\n", self.first, headers.collect::<String>());
        [head.as_bytes(), &self.body].concat()
    }
}

const CONDITIONS: [&str; 3] = ["if-match", "if-none-match", "x-amz-copy-source-if-match"];

/// What is peculiar: a request may be changed, or answered at once with this status and S3 error code; an answer may be
/// changed.
pub struct Peculiar {
    pub request: fn(&mut Message) -> Option<(u16, &'static str)>,
    pub answer: fn(&Message, &mut Message),
}

impl Default for Peculiar {
    fn default() -> Peculiar {
        Peculiar { request: |_| None, answer: |_, _| {} }
    }
}

impl Peculiar {
    /// A bucket on such a server.
    pub async fn bucket(self) -> Bucket {
        let server = Server::start(s3_testbed::Options::memory([BUCKET])).expect("a free port");
        server.control().allow_anonymous();
        let behind: SocketAddr = server.endpoint().trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let this = Arc::new(self);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(converse(connection, behind, this.clone()));
            }
        });
        Bucket::S3 { server, client: s3_client(&url).await }
    }
}

async fn converse(mut connection: TcpStream, behind: SocketAddr, this: Arc<Peculiar>) -> Option<()> {
    loop {
        let mut request = message(&mut connection, None).await?;
        let mut words = request.first.split(' ').map(str::to_string);
        (request.method, request.path) = (words.next()?, words.next()?);
        request.without("authorization");
        let refusal = (this.request)(&mut request);
        let mut answer = match refusal {
            Some((status, code)) => refused(&request.method, status, code),
            None => {
                let mut server = TcpStream::connect(behind).await.ok()?;
                request.set("connection", "close");
                server.write_all(&request.text()).await.ok()?;
                message(&mut server, Some(&request.method)).await?
            }
        };
        answer.without("connection");
        (this.answer)(&request, &mut answer);
        connection.write_all(&answer.text()).await.ok()?;
    }
}

fn refused(method: &str, status: u16, code: &str) -> Message {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let body = if method == "HEAD" { String::new() } else { body };
    let mut answer = Message { first: format!("HTTP/1.1 {status} X"), ..Message::default() };
    answer.set("content-length", &body.len().to_string());
    Message { body: body.into(), ..answer }
}

/// One message; an answer to `asked`, where that is given. Chunks become one body.
async fn message(connection: &mut TcpStream, asked: Option<&str>) -> Option<Message> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.lines();
    let first = lines.next()?.to_string();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_string())).collect();
    let mut message = Message { first, headers, ..Message::default() };
    if asked == Some("HEAD") {
        return Some(message);
    }
    if message.header("transfer-encoding").is_some() {
        // The other side closes behind it.
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).await.ok()?;
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
            message.body.extend_from_slice(rest.get(end + 2..end + 2 + length)?);
            rest.drain(..(end + length + 4).min(rest.len()));
            if length == 0 {
                break;
            }
        }
        message.without("transfer-encoding");
        message.set("content-length", &message.body.len().to_string());
        return Some(message);
    }
    let length = message.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    message.body = vec![0; length];
    connection.read_exact(&mut message.body).await.ok()?;
    Some(message)
}

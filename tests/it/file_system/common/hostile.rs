//! An HTTP server that answers as a test says, and not as S3 would.
//!
//! A good bucket stands behind it: what the test's own answer leaves open (`None`) is answered as S3 does, for objects
//! that are handed in as key and body.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What every object of the good bucket has as its entity tag and time.
pub const STAMP: &str = "etag: \"e\"\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";

/// One request: everything that an answer may depend on.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the bucket, percent-encoded, without the query.
    pub path: String,
    pub query: String,
    /// First and last byte.
    pub range: Option<(usize, usize)>,
    /// As it was sent, the request line included.
    pub head: String,
}

impl Request {
    /// A header; its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Head and body as they are to be sent.
pub struct Answer {
    text: Vec<u8>,
    /// Sent again and again behind it until the other side has had enough.
    endless: Vec<u8>,
}

impl Answer {
    /// With a right `Content-Length`.
    pub fn new(status: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
        Answer { text: [head.as_bytes(), body].concat(), endless: Vec::new() }
    }

    /// Exactly this.
    pub fn raw(text: impl AsRef<[u8]>) -> Answer {
        Answer { text: text.as_ref().to_vec(), endless: Vec::new() }
    }

    /// Chunked: `body`, and then `endless` for ever, a mebibyte at a time.
    pub fn endless(headers: &str, body: &str, endless: &str) -> Answer {
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{headers}\r\n");
        let many = endless.repeat((1 << 20) / endless.len());
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let body = if body.is_empty() { String::new() } else { chunk(body) };
        Answer { text: (head + &body).into(), endless: chunk(&many).into() }
    }

    /// With another status than 200.
    pub fn with_status(mut self, status: &str) -> Answer {
        let text = String::from_utf8_lossy(&self.text).replacen("200 OK", status, 1);
        self.text = text.into();
        self
    }

    /// A page of a listing.
    pub fn page(inner: &str) -> Answer {
        Answer::new("200 OK", "", format!("{LIST_HEAD}{inner}</ListBucketResult>").as_bytes())
    }
}

pub const LIST_HEAD: &str = "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name>";

/// One key of a page.
pub fn contents(key: &str, size: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>\"e\"</ETag>\
         <LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
    )
}

/// Starts it and answers its URL.
pub async fn serve(
    objects: &'static [(&'static str, &'static str)],
    answer: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let answer = answer.clone();
            let answer = move |request: &Request| answer(request).unwrap_or_else(|| good(objects, request));
            tokio::spawn(converse(connection, answer));
        }
    });
    format!("http://{address}")
}

async fn converse(mut connection: TcpStream, answer: impl Fn(&Request) -> Answer) {
    while let Some(request) = request(&mut connection).await {
        let Answer { text, endless } = answer(&request);
        if connection.write_all(&text).await.is_err() {
            return;
        }
        while !endless.is_empty() {
            if connection.write_all(&endless).await.is_err() {
                return;
            }
        }
    }
}

async fn request(connection: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_string(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let range = head.lines().find_map(|line| {
        let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let (path, query) = (path.to_string(), query.to_string());
    Some(Request { method, path, query, range, head: head.clone() })
}

fn good(objects: &[(&str, &str)], request: &Request) -> Answer {
    let key = request.path.strip_prefix("/bucket/").unwrap_or_default();
    if key.is_empty() {
        return list(objects, &request.query);
    }
    let Some((_, body)) = objects.iter().find(|(known, _)| *known == key) else {
        return Answer::new("404 Not Found", "", b"");
    };
    let size = body.len();
    match (request.method.as_str(), request.range) {
        ("HEAD", _) => Answer::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n{STAMP}\r\n")),
        (_, Some((first, _))) if first >= size => Answer::new("416 Range Not Satisfiable", "", b""),
        (_, Some((first, last))) => {
            let last = last.min(size - 1);
            let headers = format!("{STAMP}content-range: bytes {first}-{last}/{size}\r\n");
            Answer::new("206 Partial Content", &headers, &body.as_bytes()[first..=last])
        }
        (_, None) => Answer::new("200 OK", STAMP, body.as_bytes()),
    }
}

fn list(objects: &[(&str, &str)], query: &str) -> Answer {
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
    let prefix = value("prefix=").replace("%2F", "/").replace("%24", "$");
    let delimited = !value("delimiter=").is_empty();
    let mut entries: Vec<String> = Vec::new();
    for (key, body) in objects {
        let Some(rest) = key.strip_prefix(&prefix) else { continue };
        let entry = match rest.find('/').filter(|_| delimited) {
            Some(at) => {
                format!("<CommonPrefixes><Prefix>{prefix}{}</Prefix></CommonPrefixes>", &rest[..=at])
            }
            None => contents(key, &body.len().to_string()),
        };
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    let from: usize = value("continuation-token=").parse().unwrap_or(0);
    let to = entries.len().min(from + value("max-keys=").parse().unwrap_or(1000));
    let next = match to < entries.len() {
        true => format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{to}</NextContinuationToken>"),
        false => String::new(),
    };
    Answer::page(&(next + &entries[from.min(to)..to].concat()))
}

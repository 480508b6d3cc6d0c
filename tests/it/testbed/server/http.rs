//! Plain HTTP: which bytes came, and how the connection ended.

use std::io;
use std::time::Duration;

use s3_testbed::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time that something expected may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How a connection stood when reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Open,
    Closed,
    Reset,
}

/// What came from a connection.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub end: End,
}

pub async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

pub async fn ask(stream: &mut TcpStream, method: &str, path: &str, headers: &str, body: &str) {
    let length = body.len();
    let text =
        format!("{method} {path} HTTP/1.1\r\nHost: s3\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the answer is complete, the connection ends, or nothing comes for a while.
pub async fn listen(stream: &mut TcpStream, patience: Duration) -> Answer {
    listen_until(stream, patience, complete).await
}

async fn listen_until(stream: &mut TcpStream, patience: Duration, enough: fn(&[u8]) -> bool) -> Answer {
    let (mut bytes, mut end) = (Vec::new(), End::Open);
    while !enough(&bytes) {
        let mut piece = vec![0; 64 * 1024];
        match timeout(patience, stream.read(&mut piece)).await {
            Err(_) => break,
            Ok(Ok(0)) => {
                end = End::Closed;
                break;
            }
            Ok(Ok(count)) => bytes.extend_from_slice(&piece[..count]),
            Ok(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                end = End::Reset;
                break;
            }
        }
    }
    let (head, body) = split(&bytes).unwrap_or_default();
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    Answer { status, head, body, end }
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4)
}

fn split(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let (head, body) = bytes.split_at(head_length(bytes)?);
    Some((String::from_utf8(head.to_vec()).unwrap(), body.to_vec()))
}

fn complete(bytes: &[u8]) -> bool {
    let Some(length) = head_length(bytes) else { return false };
    let head = std::str::from_utf8(&bytes[..length]).unwrap();
    // An answer that never has a body has no length either.
    bytes.len() - length >= field(head, "content-length").map_or(0, |length| length.parse().unwrap())
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

pub fn header<'h>(head: &'h str, name: &str) -> &'h str {
    field(head, name).unwrap_or_else(|| panic!("no {name} in {head}"))
}

pub async fn request(server: &Server, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = connect(server).await;
    ask(&mut stream, method, path, headers, "").await;
    // The length in the answer to a HEAD is that of a body which does not come.
    let enough = if method == "HEAD" { |bytes: &[u8]| head_length(bytes).is_some() } else { complete };
    listen_until(&mut stream, LIMIT, enough).await
}

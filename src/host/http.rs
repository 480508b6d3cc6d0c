//! Plain HTTP to what is near: the service of a container, the ECS agent, the metadata of the instance.
//!
//! What must hold: each question has a connection of its own, which ends with the answer, whatever the server does with
//! it; a redirect is an answer like any other; of an answer no more than [`BODY_BYTES`] are kept, and one without an end
//! is cut off there. How long it may take is said by whoever asks.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Most bytes read of an answer.
const BODY_BYTES: usize = 1 << 20;

/// An answer to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    /// The first [`BODY_BYTES`] of it.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{url:?} is not an http:// URL with a host")]
    Url { url: String },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("{address} broke off")]
    Broken { address: String, source: hyper::Error },
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
}

/// Gets `url` within `limit`.
///
/// # Errors
///
/// [`HttpError`] when there is no whole answer.
pub async fn get(url: &str, limit: Duration) -> Result<Answer, HttpError> {
    let asked = async { Connection::open(url).await?.ask(Method::GET, &[]).await };
    timeout(limit, asked).await.unwrap_or(Err(HttpError::Silent(limit)))
}

/// A connection to the host of a URL, for one question.
pub(super) struct Connection {
    url: Uri,
    address: String,
    stream: TcpStream,
}

impl Connection {
    /// Connects to the host of `url`. Has no limit.
    pub(super) async fn open(url: &str) -> Result<Connection, HttpError> {
        let wrong = || HttpError::Url { url: url.to_owned() };
        let url: Uri = url.parse().map_err(|_| wrong())?;
        let (Some("http"), Some(host)) = (url.scheme_str(), url.host()) else { return Err(wrong()) };
        let port = url.port_u16().unwrap_or(80);
        let address = format!("{host}:{port}");
        match TcpStream::connect((host.trim_matches(['[', ']']), port)).await {
            Ok(stream) => Ok(Connection { url, address, stream }),
            Err(source) => Err(HttpError::Connect { address, source }),
        }
    }

    /// Asks for the path and query of the URL. Has no limit.
    pub(super) async fn ask(self, method: Method, headers: &[(&str, &str)]) -> Result<Answer, HttpError> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let request = Request::builder().method(method).uri(path);
        let request = request.header(HOST, authority).header(USER_AGENT, "mapkeeper");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let wrong = |_| HttpError::Url { url: self.url.to_string() };
        let request = request.body(Empty::<Bytes>::new()).map_err(wrong)?;
        let broken = |source| HttpError::Broken { address: self.address.clone(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.stream)).await.map_err(broken)?;
        let mut exchange = std::pin::pin!(async { take_in(sender.send_request(request).await?).await });
        // Cancel-safe: what it goes on with is pinned outside. A connection that ends first leaves the rest of the answer,
        // or its error, with the exchange.
        tokio::select! {
            answer = &mut exchange => return answer.map_err(broken),
            _ = connection => {}
        }
        exchange.await.map_err(broken)
    }
}

async fn take_in(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while body.len() < BODY_BYTES
        && let Some(frame) = stream.frame().await
    {
        if let Some(data) = frame?.data_ref() {
            body.extend_from_slice(data);
        }
    }
    body.truncate(BODY_BYTES);
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(Answer {
        status: head.status.as_u16(),
        content_type: content_type.map(str::to_owned),
        body: body.into(),
    })
}

#[cfg(test)]
pub(crate) mod stand_in;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    /// Serves one connection with `answer`, after reading the request, which it returns.
    async fn served(answer: &'static [u8], limit: Duration) -> (Result<Answer, HttpError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/?map=/mapfiles/a.map&REQUEST=x", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request_text = String::from_utf8(request[..length].to_vec()).unwrap();
            stream.write_all(answer).await.unwrap();
            if answer.is_empty() {
                // Until the client is gone.
                let _ = stream.read(&mut request).await;
            }
            request_text
        };
        let (request, answer) = tokio::join!(server, get(&url, limit));
        (answer, request)
    }

    #[tokio::test]
    async fn a_service_is_asked_by_get_with_its_host_and_whole_query() {
        let (answer, request) = served(
            b"HTTP/1.1 302 Found\r\nContent-Type: text/xml; charset=UTF-8\r\nLocation: /x\r\nContent-Length: 5\r\n\r\nhello",
            Duration::from_secs(20),
        )
        .await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.content_type.as_deref()), (302, Some("text/xml; charset=UTF-8")));
        assert_eq!(answer.body, "hello");
        assert!(request.starts_with("GET /?map=/mapfiles/a.map&REQUEST=x HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("host: 127.0.0.1:"), "{request}");
    }

    #[tokio::test]
    async fn an_answer_without_a_length_ends_with_its_connection() {
        let (answer, _) = served(b"HTTP/1.0 200 OK\r\n\r\nhello", Duration::from_secs(20)).await;
        assert_eq!(answer.unwrap().body, "hello");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_answer() {
        let (answer, _) =
            served(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", Duration::from_secs(20)).await;
        let error = answer.unwrap_err();
        assert!(error.to_string().ends_with("broke off"), "{error}");
    }

    #[tokio::test]
    async fn a_service_that_says_nothing_is_silent() {
        let (answer, _) = served(b"", SHORT).await;
        assert_eq!(answer.unwrap_err().to_string(), "no answer within 200 ms");
    }

    #[tokio::test]
    async fn a_closed_port_is_told_by_its_address() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = get(&format!("http://{free}/"), Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot connect to {free}"));
    }

    #[tokio::test]
    async fn only_http_urls_are_asked() {
        for url in ["https://127.0.0.1/", "127.0.0.1", "/x", "http://"] {
            let error = get(url, SHORT).await.unwrap_err();
            assert_eq!(error.to_string(), format!("{url:?} is not an http:// URL with a host"));
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        };
        let (_, answer) = tokio::join!(server, async { get(&url, Duration::from_secs(20)).await });
        assert_eq!(answer.unwrap().body.len(), BODY_BYTES);
    }
}

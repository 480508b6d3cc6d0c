//! A server for tests of those who ask: one answer a connection, which then stays open.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the server does with a request line and its token; `None`: it never answers.
pub(crate) trait Play:
    Fn(&str, Option<&str>) -> Option<(u16, &'static str)> + Clone + Send + 'static
{
}

impl<P: Fn(&str, Option<&str>) -> Option<(u16, &'static str)> + Clone + Send + 'static> Play for P {}

/// It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn server(play: impl Play) -> Server {
    serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), play)
}

pub(crate) fn serve(listener: TcpListener, play: impl Play) -> Server {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let play = play.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let token = text.lines().find_map(|line| line.strip_prefix("x-aws-ec2-metadata-token: "));
                match play(text.lines().next().unwrap_or_default(), token) {
                    None => std::future::pending().await,
                    Some((status, body)) => {
                        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
                        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                        // It waits for more, as HTTP/1.1 has it.
                        let _ = stream.read(&mut buffer).await;
                    }
                }
            });
        }
    });
    Server { url, task }
}

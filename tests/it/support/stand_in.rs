//! Stand-ins for services of AWS, as far as the agent asks them: one answer each, which the test chooses.

use std::sync::{Arc, Mutex};

use s3_testbed::{ACCESS_KEY, SECRET_KEY};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Reads one request: its head and its body, as text.
pub async fn request(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).await.ok()?;
        text.extend_from_slice(part.get(..read)?);
        let seen = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = seen.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(seen);
            }
        }
        if read == 0 {
            return None;
        }
    }
}

/// Answers with this status and JSON.
pub async fn answer(stream: &mut tokio::net::TcpStream, status: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// Secrets Manager with one secret.
pub struct Secrets {
    pub endpoint: String,
    value: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Secrets {
    pub async fn start() -> Secrets {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let value = Arc::new(Mutex::new(String::new()));
        let told = value.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                let value = told.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    if request(&mut stream).await.is_some() {
                        let body = serde_json::json!({
                            "ARN": "arn:aws:secretsmanager:us-east-1:1:secret:maps",
                            "Name": "maps",
                            "VersionId": "11111111-2222-3333-4444-555555555555",
                            "VersionStages": ["AWSCURRENT"],
                            "SecretString": value,
                        });
                        answer(&mut stream, 200, &body.to_string()).await;
                    }
                });
            }
        });
        Secrets { endpoint, value, task }
    }

    pub fn say(&self, value: &str) {
        *self.value.lock().expect("no panic") = value.to_owned();
    }

    pub fn say_right(&self) {
        self.say(&format!("{ACCESS_KEY}:{SECRET_KEY}"));
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

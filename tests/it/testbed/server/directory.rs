//! A directory as a bucket while other programs work in it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use s3_testbed::{Options, Server, Store};

use super::http::{Answer, End, LIMIT, ask, connect, header, listen, request};

struct World {
    /// Holds the bucket and, outside of it, a file that nobody must reach.
    around: tempfile::TempDir,
    directory: PathBuf,
    server: Server,
}

fn start() -> World {
    let around = tempfile::tempdir().unwrap();
    std::fs::write(around.path().join("secret"), "secret").unwrap();
    let directory = around.path().join("bucket");
    std::fs::create_dir(&directory).unwrap();
    let store = Store::directory("bucket", &directory).unwrap();
    let server = Server::start(Options::new(store)).unwrap();
    server.control().allow_anonymous();
    World { around, directory, server }
}

impl World {
    fn drop_in(&self, name: &str, text: &str) {
        std::fs::write(self.directory.join(name), text).unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        request(&self.server, "GET", path, "").await
    }
}

#[tokio::test]
async fn a_map_that_is_dropped_in_or_edited_is_served_by_the_next_request() {
    let world = start();
    assert_eq!(world.get("/bucket/roads.map").await.status, 404);
    world.drop_in("roads.map", "MAP END");
    let first = world.get("/bucket/roads.map").await;
    assert_eq!((first.status, first.body.as_slice()), (200, b"MAP END".as_slice()));
    assert_eq!(header(&first.head, "content-type"), "text/plain");
    world.drop_in("roads.map", "MAP NAME x END");
    let tag = header(&first.head, "etag");
    let second =
        request(&world.server, "GET", "/bucket/roads.map", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((second.status, second.body.as_slice()), (200, b"MAP NAME x END".as_slice()));
    let tag = header(&second.head, "etag");
    let same = request(&world.server, "GET", "/bucket/roads.map", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((same.status, header(&same.head, "etag")), (304, tag));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_does_not_arrive_as_a_whole() {
    let world = start();
    let path = world.directory.join("large");
    let size = 256 * 1024 * 1024;
    OpenOptions::new().create_new(true).write(true).open(&path).unwrap().set_len(size).unwrap();
    let mut stream = connect(&world.server).await;
    ask(&mut stream, "GET", "/bucket/large", "", "").await;
    stream.readable().await.unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().write_all(b"new").unwrap();
    let answer = listen(&mut stream, LIMIT).await;
    assert_eq!((answer.status, header(&answer.head, "content-length")), (200, "268435456"));
    assert!((answer.body.len() as u64) < size);
    assert_ne!(answer.end, End::Open);
}

/// Writes a file again and again, now full of one letter and now of another, until it is dropped.
struct Editor {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Editor {
    fn start(path: PathBuf) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let thread = std::thread::spawn(move || {
            for letter in [b'a', b'b'].into_iter().cycle() {
                std::fs::write(&path, vec![letter; 500_000]).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().expect("dropped once").join().unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_written_all_the_time_is_never_a_mix_and_never_a_broken_server() {
    let world = start();
    world.drop_in("busy", "a");
    let editor = Editor::start(world.directory.join("busy"));
    let mut served = 0;
    for _ in 0..300 {
        let answer = world.get("/bucket/busy").await;
        match answer.status {
            200 => served += 1,
            503 => continue,
            status => panic!("{status}: {}", String::from_utf8_lossy(&answer.body)),
        }
        assert_eq!(answer.body.len().to_string(), header(&answer.head, "content-length"));
        assert!(answer.body.iter().all(|byte| *byte == answer.body[0]), "a mix of two versions");
    }
    drop(editor);
    assert!(served > 0);
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_the_directory() {
    let world = start();
    for path in [
        "/bucket/../secret",
        "/bucket/%2e%2e/secret",
        "/bucket/..%2fsecret",
        "/bucket/a/..%2f..%2fsecret",
        "/bucket//secret",
        "/bucket/%2Fetc%2Fpasswd",
        "/bucket//etc/passwd",
        "/bucket/a%00/../../secret",
    ] {
        for method in ["GET", "PUT"] {
            let answer = request(&world.server, method, path, "").await;
            assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
        }
        request(&world.server, "DELETE", path, "").await;
    }
    assert_eq!(std::fs::read(world.around.path().join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&world.directory).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_put_is_a_file_for_everybody() {
    let world = start();
    let mut stream = connect(&world.server).await;
    ask(&mut stream, "PUT", "/bucket/dir/a.map", "x-amz-meta-mode: 33188\r\n", "MAP END").await;
    assert_eq!(listen(&mut stream, LIMIT).await.status, 200);
    assert_eq!(std::fs::read(world.directory.join("dir/a.map")).unwrap(), b"MAP END");
    let head = request(&world.server, "HEAD", "/bucket/dir/a.map", "").await.head;
    assert_eq!(header(&head, "x-amz-meta-mode"), "33188");
    assert_eq!(request(&world.server, "HEAD", "/bucket/dir/", "").await.status, 200);
}

#[tokio::test]
async fn a_taken_port_is_an_error_and_not_a_silent_server() {
    let world = start();
    let options = Options { listen: world.server.address(), ..Options::memory(["bucket"]) };
    assert_eq!(Server::start(options).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}

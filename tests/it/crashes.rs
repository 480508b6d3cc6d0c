//! The process that serves a mount is killed at every request that it makes: nothing that was acknowledged is lost, and
//! nothing is left that cannot be read.
//!
//! ```text
//!   for each story, for N = 1, 2, ...:  fill a bucket, mount it in a process, stop the world at request N,
//!                                       play the story, SIGKILL, let the world go on --> look at the bucket,
//!                                       mount it again and read all of it
//! ```
//!
//! A story ends when it has been played without reaching request N. Needs root and `/dev/fuse`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bucketfs::mountinfo::MountTable;
use mapkeeper::host::mount;
use s3_testbed::{ACCESS_KEY, Options, SECRET_KEY, Server};
use tokio::process::Command as AsyncCommand;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(180);
const BUCKET: &str = "maps";
/// More requests than any story makes.
const REQUESTS_MAX: u64 = 200;

/// What is done on the mount, a step a line; each says `ok NUMBER` when it was acknowledged.
struct Story {
    name: &'static str,
    /// A step that was begun is finished by the next process, or has not happened at all.
    is_finished_later: bool,
    steps: &'static [Step],
}

struct Step {
    command: &'static str,
    /// Holds as soon as the step was acknowledged, until a later step says otherwise.
    then: &'static str,
}

const fn step(command: &'static str, then: &'static str) -> Step {
    Step { command, then }
}

/// Files that are there from the start, and that no story may lose.
const FILLED: [(&str, &str); 5] = [
    ("a.map", "MAP A"),
    ("b.map", "MAP B"),
    ("dir/c.map", "MAP C"),
    ("dir/sub/d.map", "MAP D"),
    ("bare/e", "E"),
];

const STORIES: &[Story] = &[
    Story {
        name: "files are made, overwritten and appended to",
        is_finished_later: false,
        steps: &[
            step("printf one > new", "grep -qx one new"),
            step("printf two > a.map", "grep -qx two a.map"),
            step("printf three >> new", "grep -qx onethree new"),
            step("truncate -s 2 b.map", "test $(stat -c %s b.map) = 2"),
        ],
    },
    Story {
        name: "files are moved and taken away",
        is_finished_later: true,
        steps: &[
            step("mv a.map a.new", "grep -qx 'MAP A' a.new && test ! -e a.map"),
            step("mv a.new b.map", "grep -qx 'MAP A' b.map && test ! -e a.new"),
            step("rm bare/e", "test ! -e bare/e && test -d bare"),
        ],
    },
    Story {
        name: "a directory is moved",
        is_finished_later: true,
        steps: &[step(
            "mv dir moved",
            "grep -qx 'MAP C' moved/c.map && grep -qx 'MAP D' moved/sub/d.map && test ! -e dir",
        )],
    },
    Story {
        name: "directories, links and attributes",
        is_finished_later: false,
        steps: &[
            step("mkdir made", "test -d made"),
            step("ln -s ../a.map made/link", "test $(readlink made/link) = ../a.map"),
            step("chmod 600 a.map", "test $(stat -c %a a.map) = 600"),
            step("setfattr -n user.x -v y a.map", "getfattr --only-values -n user.x a.map | grep -qx y"),
            step("rm made/link && rmdir made", "test ! -e made"),
        ],
    },
    Story {
        name: "a large file is written, and changed in the middle",
        is_finished_later: false,
        steps: &[
            step(
                "head -c 30000000 /dev/zero | tr '\\0' z > large",
                "test $(tr -d z < large | wc -c) = 0 && test $(stat -c %s large) = 30000000",
            ),
            step(
                "printf X | dd of=large bs=1 seek=20000000 conv=notrunc status=none",
                "test $(tr -d z < large) = X",
            ),
        ],
    },
];

struct Host {
    server: Server,
    scratch: tempfile::TempDir,
    child: Option<Child>,
}

impl Host {
    fn new() -> Host {
        let server = Server::start(Options::memory([BUCKET])).expect("a server");
        for (key, body) in FILLED {
            server.store().put(BUCKET, key, body.as_bytes(), &[("mode", "33188")]).expect("stored");
        }
        let scratch = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(scratch.path().join("m")).expect("a directory");
        Host { server, scratch, child: None }
    }

    fn point(&self) -> std::path::PathBuf {
        self.scratch.path().join("m")
    }

    async fn mount(&mut self) {
        let staging = self.scratch.path().join("staging");
        let options = format!(
            "endpoint_url={},path_style,region=us-east-1,rw,freshness=0s,staging={}",
            self.server.endpoint(),
            staging.display()
        );
        let child = Command::new(env!("CARGO_BIN_EXE_mapkeeper"))
            .args(["mount", "s3://maps"])
            .arg(self.point())
            // Without a supervisor: nobody goes on where it is killed, as when the host itself ends.
            .args(["-o", &options, "--supervised"])
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("started"));
        let began = Instant::now();
        while MountTable::of(None).expect("readable").top(&self.point()).is_none() {
            assert!(began.elapsed() < LIMIT, "it does not mount");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("waited for");
        }
        mount::detach(&self.point()).expect("detached");
    }

    fn shell(&self, script: &str) -> AsyncCommand {
        let mut command = AsyncCommand::new("sh");
        command.args(["-c", script]).current_dir(self.scratch.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, script: &str) -> std::process::Output {
        timeout(LIMIT, self.shell(script).output()).await.expect("in time").expect("a shell")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Plays a story until it reaches request `number`, kills, and looks. Answers whether it was reached.
async fn killed_at(story: &Story, number: u64) -> bool {
    let mut host = Host::new();
    host.mount().await;
    let control = host.server.control();
    control.until(|control| control.in_progress() == 0).await;
    control.reset();
    control.hold_from(number);
    let steps: Vec<String> = (0..)
        .zip(story.steps)
        .map(|(at, step)| format!("{{ {}; }} && echo ok {at} >> ../acknowledged || exit 1", step.command))
        .collect();
    let mut playing = host.shell(&format!("cd m && {}", steps.join("\n"))).spawn().expect("a shell");
    let reached = tokio::select! {
        // Both only wait: whichever is dropped has lost nothing.
        _ = playing.wait() => false,
        _ = timeout(LIMIT, control.until(|control| control.held() > 0)) => true,
    };
    host.kill();
    control.release();
    // What had arrived when the process died is done all the same.
    timeout(LIMIT, control.until(|control| control.in_progress() == 0)).await.expect("it ends");
    let _ = timeout(LIMIT, playing.wait()).await;
    look(&mut host, story, number).await;
    reached
}

async fn look(host: &mut Host, story: &Story, number: u64) {
    let place = format!("{:?}, killed at request {number}", story.name);
    let acknowledged = std::fs::read_to_string(host.scratch.path().join("acknowledged")).unwrap_or_default();
    let done = acknowledged.lines().count();
    host.mount().await;
    if let Some(step) = story.steps.get(done).filter(|_| story.is_finished_later) {
        finished_or_not_begun(host, step, &place).await;
    }
    let listed = host.run("cd m && ls -lR . && find . -type f -exec cat {} + > /dev/null").await;
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{place}: not all of it can be read: {said}");
    // What the next step may have done in part undoes what the last one promised, so only that one is not held to it
    // if the next was begun: it is either as it was, or as it was to be.
    if let Some(last) = done.checked_sub(1) {
        let now = &story.steps[last].then;
        let next = story.steps.get(done).map(|step| format!(" || {{ {}; }}", step.then)).unwrap_or_default();
        let held = host.run(&format!("cd m && {{ {now}; }}{next}")).await;
        assert!(
            held.status.success(),
            "{place}: {:?} was acknowledged\n{}",
            story.steps[last].command,
            String::from_utf8_lossy(&host.run("cd m && ls -lR").await.stdout)
        );
    }
    every_map_is_somewhere(host, &place);
    let began = Instant::now();
    let sessions = || std::fs::read_dir(host.scratch.path().join("staging")).expect("a directory").count();
    while host.server.store().open_uploads(BUCKET) > 0 || sessions() > 1 {
        assert!(began.elapsed() < LIMIT, "{place}: an upload or what was staged is left behind");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until what a step moves has one name only, whichever.
async fn finished_or_not_begun(host: &Host, step: &Step, place: &str) {
    let [verb, from, to] = step.command.split(' ').collect::<Vec<_>>()[..] else { return };
    if verb != "mv" {
        return;
    }
    let began = Instant::now();
    let keys = |name: &str| {
        let keys = host.server.store().keys(BUCKET).expect("a bucket");
        keys.into_iter().filter(|key| key == name || key.starts_with(&format!("{name}/"))).count()
    };
    let is_moved = || keys(from) == 0;
    // The target of the second move is there from the start.
    let is_untouched =
        || keys(to) == 0 || (to == "b.map" && body(host, to).is_some_and(|body| body == "MAP B"));
    while !is_moved() && !is_untouched() {
        assert!(began.elapsed() < LIMIT, "{place}: {:?} is left half done", step.command);
        sleep(Duration::from_millis(10)).await;
    }
}

/// How the object at `key` begins.
fn body(host: &Host, key: &str) -> Option<String> {
    let object = host.server.store().get(BUCKET, key).ok()?;
    let size = object.content.size().min(100);
    Some(String::from_utf8_lossy(&object.content.bytes(0..size).ok()?).into_owned())
}

/// No story takes away the content of a map that it does not say it takes away.
fn every_map_is_somewhere(host: &Host, place: &str) {
    let store = host.server.store();
    let keys = store.keys(BUCKET).expect("a bucket");
    let bodies: Vec<String> = keys.iter().filter_map(|key| body(host, key)).collect();
    for map in ["MAP C", "MAP D"] {
        assert!(bodies.iter().any(|body| body == map), "{place}: {map} is gone");
    }
}

async fn killed_at_every_request(name: &str) {
    if !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: no /dev/fuse");
        return;
    }
    let story = STORIES.iter().find(|story| story.name == name).expect("a story");
    for number in 1..REQUESTS_MAX {
        if !killed_at(story, number).await {
            println!("{name}: killed at {} points", number - 1);
            assert!(number > 3, "nothing was asked");
            return;
        }
    }
    panic!("{name}: it never ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn written_files_survive_a_kill_at_any_request() {
    killed_at_every_request("files are made, overwritten and appended to").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_files_survive_a_kill_at_any_request() {
    killed_at_every_request("files are moved and taken away").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_directory_survives_a_kill_at_any_request() {
    killed_at_every_request("a directory is moved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_attributes_survive_a_kill_at_any_request() {
    killed_at_every_request("directories, links and attributes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_survive_a_kill_at_any_request() {
    killed_at_every_request("a large file is written, and changed in the middle").await;
}

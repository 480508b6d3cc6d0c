//! `mapkeeper mount` and `mount.mapkeeper` as processes, against an S3 server: what works, and every refusal.
//!
//! Needs root and `/dev/fuse`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bucketfs::mountinfo::MountTable;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{ACCESS_KEY, Options, Refusal, SECRET_KEY, Server};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);

struct World {
    server: Server,
    scratch: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let server = Server::start(Options::memory(["maps"])).expect("a server");
        server.store().put("maps", "a.map", "MAP", &[]).expect("stored");
        server.store().put("maps", "below/b.map", "BELOW", &[]).expect("stored");
        World { server, scratch: tempfile::tempdir().expect("a directory") }
    }

    fn point(&self) -> PathBuf {
        let point = self.scratch.path().join("maps");
        std::fs::create_dir_all(&point).expect("a directory");
        point
    }

    fn options(&self) -> String {
        format!("endpoint_url={},path_style,freshness=0s,region=us-east-1", self.server.endpoint())
    }

    /// `mapkeeper mount` with the server's keys in its environment.
    fn mount(&self, source: &str, point: &Path) -> Command {
        let mut command = mapkeeper();
        command.args(["mount", source]).arg(point).args(["-o", &self.options()]);
        command
    }

    async fn refused(&self, command: &mut Command) -> (i32, String) {
        let output = output(command).await;
        (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn mapkeeper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end on a thread of its own: the caller's may be serving what it touches.
async fn output(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let pid = Pid::from_raw(child.id() as i32);
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    match timeout(LIMIT, ended).await {
        Ok(output) => output.expect("waited for").expect("waited for"),
        Err(_) => {
            let _ = kill(pid, Signal::SIGKILL);
            panic!("{command:?} did not end in time");
        }
    }
}

async fn sh(script: String) -> String {
    let output = output(Command::new("sh").args(["-c", &script])).await;
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A serving process, killed when a test fails before it has ended it.
struct Serving(Option<Child>);

impl Serving {
    fn start(mut command: Command) -> Serving {
        Serving(Some(command.spawn().expect("started")))
    }

    fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().expect("not ended yet");
        kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
    }

    async fn ended(mut self) -> Option<i32> {
        let mut child = self.0.take().expect("ended once");
        let waited = tokio::task::spawn_blocking(move || child.wait());
        timeout(LIMIT, waited).await.expect("it ends").expect("waited for").expect("waited for").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_mounted(point: &Path) -> bool {
    MountTable::of(None).expect("readable").top(point).is_some()
}

async fn until(mut condition: impl FnMut() -> bool, what: &str) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "{what} did not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_served_until_a_signal_and_nothing_is_left() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::new();
        let point = world.point();
        let serving = Serving::start(world.mount("s3://maps", &point));
        until(|| is_mounted(&point), "the mount").await;
        assert_eq!(sh(format!("cat {0}/a.map {0}/below/b.map", point.display())).await, "MAPBELOW");
        serving.signal(signal);
        assert_eq!(serving.ended().await, Some(0));
        assert!(!is_mounted(&point));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_mounted_alone() {
    let world = World::new();
    let point = world.point();
    let serving = Serving::start(world.mount("s3://maps/below", &point));
    until(|| is_mounted(&point), "the mount").await;
    assert_eq!(sh(format!("ls {}", point.display())).await, "b.map\n");
    assert_eq!(sh(format!("umount {}", point.display())).await, "");
    assert_eq!(serving.ended().await, Some(0), "being unmounted by somebody is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_another_region_is_mounted_from_there() {
    let world = World::new();
    world.server.control().live_in("eu-north-1");
    let point = world.point();
    let serving = Serving::start(world.mount("s3://maps", &point));
    until(|| is_mounted(&point), "the mount").await;
    assert_eq!(sh(format!("cat {}/a.map", point.display())).await, "MAP");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_wrong_keys_and_a_dead_endpoint_mount_nothing() {
    let world = World::new();
    let point = world.point();

    let (code, said) = world.refused(&mut world.mount("s3://absent", &point)).await;
    assert_eq!(code, 11, "{said}");
    let shown = point.display();
    assert!(said.contains(&format!("mapkeeper: cannot mount \"s3://absent\" on \"{shown}\"")), "{said}");
    assert!(said.contains("no bucket is named \"absent\""), "{said}");
    assert!(said.contains("\nhint: check the name of the bucket, its account and its region\n"), "{said}");

    let mut wrong = world.mount("s3://maps", &point);
    let (code, said) = world.refused(wrong.env("AWS_SECRET_ACCESS_KEY", "wrong")).await;
    assert_eq!(code, 12, "{said}");
    assert!(said.contains("the credentials are refused (SignatureDoesNotMatch)"), "{said}");

    world.server.control().refuse_all(Some(Refusal::AccessDenied));
    let (code, said) = world.refused(&mut world.mount("s3://maps", &point)).await;
    assert_eq!(code, 12, "{said}");
    assert!(said.contains("(AccessDenied)") && said.contains("allow s3:ListBucket"), "{said}");

    let (options, directory) = (world.options(), point.clone());
    let _ = world.server.stop().await;
    let mut dead = mapkeeper();
    dead.args(["mount", "s3://maps"]).arg(&directory).args(["-o", &options]);
    let output = output(&mut dead).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(17), "{said}");
    assert!(said.contains("cannot reach the store at \"http://127.0.0.1:"), "{said}");
    assert!(!is_mounted(&point));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_point_that_cannot_be_one_is_named() {
    let world = World::new();
    let absent = world.scratch.path().join("absent");
    let (code, said) = world.refused(&mut world.mount("s3://maps", &absent)).await;
    assert_eq!(code, 13, "{said}");
    assert!(said.contains("does not exist\nhint: create it: mkdir -p "), "{said}");
    assert!(!absent.exists());

    let full = world.point();
    std::fs::write(full.join("file"), "").expect("written");
    let (code, said) = world.refused(&mut world.mount("s3://maps", &full)).await;
    assert_eq!(code, 13, "{said}");
    assert!(said.contains("is not empty"), "{said}");
    let (code, said) = world.refused(&mut world.mount("s3://maps", &full.join("file"))).await;
    assert_eq!(code, 13, "{said}");
    assert!(said.contains("is not a directory"), "{said}");

    let (code, said) = world.refused(&mut world.mount("s3://maps", Path::new("/proc"))).await;
    assert_eq!(code, 14, "{said}");
    assert!(said.contains("is already mounted on \"/proc\""), "{said}");
    assert_eq!(world.server.control().total(), 0, "the bucket is not asked for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_point_behind_a_symbolic_link_is_the_directory_it_leads_to() {
    let world = World::new();
    let point = world.point();
    let link = world.scratch.path().join("link");
    std::os::unix::fs::symlink(&point, &link).expect("linked");
    let serving = Serving::start(world.mount("s3://maps", &link));
    until(|| is_mounted(&point), "the mount").await;
    let (code, said) = world.refused(&mut world.mount("s3://maps", &link)).await;
    assert_eq!(code, 14, "{said}");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.ended().await, Some(0));
    assert!(!is_mounted(&point));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_rights_or_device_is_told_so() {
    let world = World::new();
    let point = world.point();
    let shown = point.display();
    let binary = env!("CARGO_BIN_EXE_mapkeeper");
    let copy = world.scratch.path().join("mapkeeper");
    std::fs::copy(binary, &copy).expect("copied");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.scratch.path(), everybody).expect("set");
    let arguments = format!("mount s3://maps {shown} -o {}", world.options());
    let keys = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}");

    let nobody =
        format!("{keys} setpriv --reuid=65534 --clear-groups {} {arguments}; echo code $?", copy.display());
    let said = sh(nobody).await;
    assert!(said.contains("code 19\n") && said.contains("only root can mount"), "{said}");

    let hidden = format!(
        "{keys} unshare --mount sh -c 'mount -t tmpfs none /dev && {} {arguments}; echo code $?'",
        copy.display()
    );
    let said = sh(hidden).await;
    assert!(said.contains("code 10\n") && said.contains("cannot open \"/dev/fuse\""), "{said}");
    assert!(said.contains("hint: load the FUSE module"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_s3fs_and_its_options_move_over() {
    let world = World::new();
    let point = world.point();
    let keys = world.scratch.path().join("passwd");
    std::fs::write(&keys, format!("{ACCESS_KEY}:{SECRET_KEY}\n")).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&keys, private).expect("set");
    let options = format!(
        "passwd_file={},url={},use_path_request_style,endpoint=us-east-1,multireq_max=5,allow_other",
        keys.display(),
        world.server.endpoint()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
    command.args(["mount", "maps:/below"]).arg(&point).args(["-o", &options]).stderr(Stdio::null());
    let serving = Serving::start(command);
    until(|| is_mounted(&point), "the mount").await;
    assert_eq!(sh(format!("cat {}/b.map", point.display())).await, "BELOW");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_helper_of_mount_returns_when_the_mount_serves() {
    let world = World::new();
    let point = world.point();
    let helper = |source: &str| {
        let mut command = mapkeeper();
        command
            .arg0("mount.mapkeeper")
            .arg(source)
            .arg(&point)
            .args(["-o", &format!("ro,_netdev,{}", world.options())]);
        command
    };
    let (code, said) = world.refused(&mut helper("s3://absent")).await;
    assert_eq!(code, 11, "{said}");
    assert!(said.contains("no bucket is named \"absent\""), "{said}");

    // Its output ends with it, although a process stays behind: scripts that read it do not hang.
    let (code, said) = world.refused(&mut helper("s3://maps")).await;
    assert_eq!(code, 0, "{said}");
    assert!(is_mounted(&point));
    assert_eq!(sh(format!("cat {}/a.map", point.display())).await, "MAP");
    assert_eq!(sh(format!("umount {}", point.display())).await, "");
    assert!(!is_mounted(&point));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_all_named_at_once() {
    let world = World::new();
    let mut command = mapkeeper();
    command
        .args(["mount", "s3://maps"])
        .arg(world.point())
        .args(["-o", "freshnes=1s,memory=lots,file_mode=9"]);
    let (code, said) = world.refused(&mut command).await;
    assert_eq!(code, 64, "{said}");
    for name in ["freshnes", "memory", "file_mode"] {
        assert!(said.contains(name), "{name} is missing in {said}");
    }
}

#[tokio::test]
async fn a_staging_directory_that_cannot_be_used_is_named() {
    let world = World::new();
    let mut writable = world.mount("s3://maps", &world.point());
    let (code, said) = world.refused(writable.args(["-o", "rw,staging=/proc/nothing"])).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot use the staging directory \"/proc/nothing\""), "{said}");
    assert!(said.contains("hint: set `staging`"), "{said}");
}

/// What a process seems to have left in `staging`: a move of `a.map` to `moved.map`.
fn plant(world: &World, staging: &Path, owner: u32) {
    let session = staging.join("session-1.1");
    std::fs::create_dir_all(&session).expect("made");
    let lock = serde_json::json!({"source": "s3://maps", "mount_point": world.point()});
    std::fs::write(session.join("lock"), lock.to_string()).expect("written");
    let etag = format!("\"{}\"", world.server.store().get("maps", "a.map").expect("there").tag);
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_secs();
    let planted = serde_json::json!({"version": 1, "from": "a.map", "to": "moved.map", "began": began,
        "old": "a.map", "new": "moved.map", "objects": [["", etag]]});
    std::fs::write(session.join("1.move"), planted.to_string()).expect("written");
    std::os::unix::fs::chown(&session, Some(owner), None).expect("given away");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staging_directory_of_everybody_is_refused_and_a_line_of_s3fs_is_not() {
    let world = World::new();
    let shared = world.scratch.path().join("shared");
    plant(&world, &shared, 0);
    set_mode(&shared, 0o1777);
    let mut writable = world.mount("s3://maps", &world.point());
    let (code, said) =
        world.refused(writable.args(["-o", &format!("rw,staging={}", shared.display())])).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is a directory of uid 0 with mode 1777, expected"), "{said}");
    assert!(said.contains("hint: let `staging` name a directory that root alone may write to"), "{said}");
    let mut moved = world.mount("s3://maps", &world.point());
    moved.args(["-o", &format!("rw,tmpdir={}", shared.display())]);
    let serving = Serving::start(moved);
    until(|| is_mounted(&world.point()), "the mount").await;
    let made = sh(format!(
        "cd {}; echo new > new.map; ls; stat -c %a {}/mapkeeper",
        world.point().display(),
        shared.display()
    ));
    assert_eq!(made.await, "a.map\nbelow\nnew.map\n700\n");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_somebody_else_has_put_into_the_staging_directory_does_nothing() {
    for (owner, found) in [(65534, "a.map\nbelow\n"), (0, "below\nmoved.map\n")] {
        let world = World::new();
        let staging = world.scratch.path().join("staging");
        plant(&world, &staging, owner);
        let mut writable = world.mount("s3://maps", &world.point());
        writable.args(["-o", &format!("rw,staging={}", staging.display())]);
        let serving = Serving::start(writable);
        until(|| is_mounted(&world.point()), "the mount").await;
        assert_eq!(sh(format!("ls {}", world.point().display())).await, found);
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.ended().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_hundred_files_can_be_written_at_once_although_a_thousand_descriptors_are_given() {
    let world = World::new();
    let point = world.point();
    let mut command = world.mount("s3://maps", &point);
    command.args(["-o", &format!("rw,staging={}", world.scratch.path().join("staging").display())]);
    // SAFETY: between fork and exec only setrlimit is called, which is async-signal-safe.
    unsafe { command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_NOFILE, 1024, 8192)?)) };
    let serving = Serving::start(command);
    until(|| is_mounted(&point), "the mount").await;
    let script = "files = [open(f'f{number}', 'w') for number in range(1500)]\n\
                  for file in files: file.write('x')\nfor file in files: file.close()";
    let all =
        format!("cd {} && ulimit -n 4096 && python3 -c \"{script}\" && cat f* | wc -c", point.display());
    assert_eq!(sh(all).await, "1500\n");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_the_key_for_which_an_empty_directory_cannot_be_removed() {
    let world = World::new();
    world.server.store().put("maps", "d//x", "", &[]).expect("stored");
    let config = world.scratch.path().join("config.toml");
    let (url, point) = (world.server.endpoint(), world.point());
    let text = format!(
        "region = \"us-east-1\"\n[[mount]]\nsource = \"s3://maps\"\npath = {point:?}\nendpoint_url = \"{url}\"\n"
    );
    std::fs::write(&config, text).expect("written");
    for name in ["d", "s3://maps/d/"] {
        let mut command = mapkeeper();
        command.args(["explain", name, "--json", "--config"]).arg(&config);
        let output = output(&mut command).await;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let (object, detail) = (&said["links"][0], said["links"][0]["detail"].to_string());
        assert_eq!((&object["name"], &object["grade"]), (&"object".into(), &"fail".into()), "{said:#}");
        assert!(detail.contains("1 key that no file name can stand for, such as \\\"d//x\\\""), "{detail}");
        assert!(object["hint"].to_string().contains("--key 'd//x'; or mount with remove_hidden"), "{said:#}");
    }
}

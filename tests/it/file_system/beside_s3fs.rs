//! One bucket, mounted here and by s3fs: what either has written, the other one reads alike.
//!
//! Needs root, `/dev/fuse` and Debian's s3fs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::file_system::common::{Bucket, LIMIT, Mounted};
use bucketfs::connection;
use bucketfs::mountinfo::MountTable;
use s3_testbed::{ACCESS_KEY, SECRET_KEY};
use tokio::time::{Instant, sleep};

/// s3fs on the same bucket; taken away when dropped.
struct S3fs {
    point: PathBuf,
    _scratch: tempfile::TempDir,
    child: Child,
}

impl S3fs {
    async fn new(endpoint: &str) -> S3fs {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().expect("a directory");
        let (point, passwd) = (scratch.path().join("m"), scratch.path().join("passwd"));
        std::fs::create_dir(&point).expect("a directory");
        std::fs::write(&passwd, format!("{ACCESS_KEY}:{SECRET_KEY}")).expect("written");
        std::fs::set_permissions(&passwd, std::fs::Permissions::from_mode(0o600)).expect("set");
        let options = format!(
            "url={endpoint},use_path_request_style,passwd_file={},allow_other,use_xattr,max_stat_cache_size=0",
            passwd.display()
        );
        let child = Command::new("s3fs")
            .args(["bucket", &point.display().to_string(), "-f", "-o", &options])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("s3fs is installed");
        let began = Instant::now();
        while MountTable::of(None).expect("readable").top(&point).is_none() {
            assert!(began.elapsed() < LIMIT, "s3fs does not mount");
            sleep(Duration::from_millis(20)).await;
        }
        S3fs { point, _scratch: scratch, child }
    }
}

impl Drop for S3fs {
    fn drop(&mut self) {
        let _ = connection::detach(&self.point);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both read of what `written` wrote, once each has forgotten what it knew of it before.
async fn alike(ours: &Path, theirs: &Path, written: &str) -> String {
    let began = Instant::now();
    loop {
        let (here, there) = (sh(ours, READ, written).await, sh(theirs, READ, written).await);
        if here == there {
            return here;
        }
        assert!(began.elapsed() < LIMIT, "written by {written}:\n{here}\n{there}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Makes one of each; `$1` tells the two writers apart.
const WRITE: &str = r#"
umask 022; mkdir "$1"; cd "$1"
echo content > plain; chmod 640 plain; chown 33:34 plain; touch -d '2001-02-03 04:05:06' plain
mkdir -p dir/below; chmod 1777 dir; echo below > dir/below/file; ln -s plain link; mkfifo fifo
setfattr -n user.color -v 'dark blue' plain; setfattr -n user.empty plain
: > empty; head -c 12000000 /dev/zero | tr '\0' x > large; printf Y | dd of=large bs=1 seek=7000000 conv=notrunc status=none
echo 1 > moved.from; mv moved.from moved; echo gone > gone; rm gone; chmod 4755 empty
"#;

/// Says all that can be said of it.
const READ: &str = r#"
cd "$1"; find . | sort | while read -r name; do
  case "$(stat -c %F "$name")" in
  directory) stat -c '%n %F %a %u %g' "$name" ;;
  *) stat -c '%n %F %a %u %g %s %Y' "$name" ;;
  esac
done
readlink link; cat plain dir/below/file moved; cksum < large
getfattr -d --absolute-names plain | grep color
"#;

async fn sh(directory: &Path, script: &str, argument: &str) -> String {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &format!("set -e\n{script}"), "sh", argument]).current_dir(directory);
    let child = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(LIMIT, child).await.expect("in time").expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", directory.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_written_the_other_reads_alike() {
    if !Path::new("/usr/bin/s3fs").exists() {
        println!("SKIPPED: s3fs is not installed: scripts/install");
        return;
    }
    let bucket = Bucket::s3().await;
    let endpoint = bucket.endpoint();
    let ours = Mounted::with(bucket, |options| {
        options.read_only = false;
        options.suid = true;
    })
    .await;
    let theirs = S3fs::new(&endpoint).await;
    sh(ours.root(), WRITE, "ours").await;
    sh(&theirs.point, WRITE, "theirs").await;
    for written in ["ours", "theirs"] {
        let here = alike(ours.root(), &theirs.point, written).await;
        assert!(here.contains("./plain regular file 640 33 34 8 981173106"), "{here}");
        assert!(here.contains("./dir directory 1777 0 0"), "{here}");
        assert!(here.contains("user.color=\"dark blue\""), "{here}");
    }
    let differing = |text: String| -> Vec<String> {
        // Times of what was not given one are those of its writing.
        text.lines()
            .filter(|line| line.starts_with("./plain") || !line.starts_with("./"))
            .map(str::to_string)
            .collect()
    };
    let both = (sh(ours.root(), READ, "ours").await, sh(ours.root(), READ, "theirs").await);
    assert_eq!(differing(both.0), differing(both.1));
    drop(theirs);
    ours.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_changes_the_other_sees_changed() {
    if !Path::new("/usr/bin/s3fs").exists() {
        println!("SKIPPED: s3fs is not installed: scripts/install");
        return;
    }
    let bucket = Bucket::s3().await;
    let endpoint = bucket.endpoint();
    let ours = Mounted::with(bucket, |options| {
        options.read_only = false;
        options.freshness = Duration::ZERO;
    })
    .await;
    let theirs = S3fs::new(&endpoint).await;
    sh(&theirs.point, "mkdir d; echo one > d/f; chmod 600 d/f", "").await;
    sh(ours.root(), "echo two >> d/f; chmod 644 d/f; mv d e", "").await;
    assert_eq!(sh(&theirs.point, "cat e/f; stat -c %a e/f; ls", "").await, "one\ntwo\n644\ne\n");
    sh(&theirs.point, "echo three >> e/f; mv e/f g; rmdir e", "").await;
    assert_eq!(sh(ours.root(), "cat g; ls", "").await, "one\ntwo\nthree\ng\n");
    drop(theirs);
    ours.end().await;
}

//! The suites by which file systems are judged, on a mount that is written: fsx, pjdfstest, fio, dbench, stress-ng.
//!
//! Needs root, `/dev/fuse`, Debian's packages (`scripts/install`) and two crates (`scripts/tools`).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::file_system::common::{Bucket, Mounted};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(600);

/// Failures of pjdfstest and why: hard links, device numbers, and two limits that a bucket has.
const EXPECTED: [(&str, &str); 8] = [
    ("link::", "there are no hard links"),
    ("rename::preserve_metadata", "asks for hard links"),
    ("rename::to_multiply_linked", "asks for hard links"),
    ("unlink::unchanged_ctime_failed", "asks for hard links"),
    ("unlink::update_ctime_success", "asks for hard links"),
    ("::enametoolong_path", "a key has at most 1,024 bytes, a path of Linux 4,096"),
    ("mknod::device_files", "device numbers are not in the bucket"),
    ("rename::updates_link_parent", "a directory counts one link"),
];

/// A tool from the cache, or from Debian.
fn tool(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("MAPKEEPER_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/mapkeeper")));
    let places = cache.map(|cache| cache.join("tools/bin")).into_iter().chain(["/usr/bin".into()]);
    let found = places.map(|place: PathBuf| place.join(name)).find(|path| path.exists());
    if found.is_none() {
        println!("SKIPPED: {name} is not installed: scripts/install, scripts/tools");
    }
    found
}

async fn run(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).kill_on_drop(true).output();
    timeout(LIMIT, child).await.expect("it ends in time").expect("it starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Seeds of fsx: as many as `FSX_SEEDS` says, or from one to another (`4-6`); without it `default` of them.
fn seeds(default: u32) -> RangeInclusive<u32> {
    let Ok(text) = std::env::var("FSX_SEEDS") else { return 1..=default };
    let (first, last) = text.split_once('-').unwrap_or(("1", &text));
    let number = |text: &str| text.parse().expect("FSX_SEEDS is a number, or two: 4-6");
    number(first)..=number(last)
}

async fn fsx(world: &Mounted, fsx: &Path, config: &str, seed: u32, operations: u32) {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("fsx.toml");
    std::fs::write(&file, config).expect("written");
    let mut command = Command::new(fsx);
    command.arg("-q").arg("-f").arg(&file).args(["-N", &operations.to_string(), "-S", &seed.to_string()]);
    command.arg("-P").arg(scratch.path()).arg("file").current_dir(world.root());
    let output = run(&mut command).await;
    assert!(output.status.success(), "seed {seed}, {config}: {}", said(&output));
    world.sh("rm -f file").await;
}

fn config(size: u64, operation: u64, weights: &str) -> String {
    format!("flen = {size}\n[opsize]\nmax = {operation}\n[weights]\n{weights}\n")
}

const NO_MMAP: &str = "mapread = 0\nmapwrite = 0";
const REOPEN: &str =
    "close_open = 1\ninvalidate = 1\nfsync = 0.5\nposix_fallocate = 1\npunch_hole = 1\ncopy_file_range = 1";

async fn all_kinds_of_fsx(bucket: Bucket, size: u64, seeds: RangeInclusive<u32>, operations: u32) {
    let Some(tool) = tool("fsx") else { return };
    let world = Mounted::writable(bucket).await;
    let mut runs = 0;
    for seed in seeds {
        for weights in ["", NO_MMAP, REOPEN] {
            fsx(&world, &tool, &config(size, size / 8, weights), seed, operations).await;
            runs += 1;
            println!("fsx: seed {seed}, {:?}: nothing", weights.lines().next().unwrap_or("all"));
        }
    }
    println!("fsx: {runs} runs of {operations} operations on a file of {size} bytes");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fsx_finds_nothing_in_small_files() {
    all_kinds_of_fsx(Bucket::s3().await, 256 << 10, seeds(10), 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fsx_finds_nothing_in_files_of_several_parts() {
    let operations = if std::env::var_os("FSX_SEEDS").is_some() { 2_000 } else { 200 };
    all_kinds_of_fsx(Bucket::memory(), 32 << 20, seeds(1), operations).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pjdfstest_fails_only_where_it_is_said() {
    let Some(tool) = tool("pjdfstest") else { return };
    let world = Mounted::with(Bucket::s3().await, |options| {
        options.read_only = false;
        options.suid = true;
    })
    .await;
    world.sh("mkdir pjd; chmod 777 . pjd").await;
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("pjdfstest.toml");
    let config = "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutimensat = {}\nutime_now = {}\n\
                  [settings]\nnaptime = 0.01\n[dummy_auth]\nentries = [[\"games\", \"games\"], [\"man\", \"man\"]]\n";
    std::fs::write(&file, config).expect("written");
    let mut command = Command::new(tool);
    let output = run(command.arg("-c").arg(&file).arg("-p").arg(world.root().join("pjd"))).await;
    let text = said(&output);
    let of = |word: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_suffix(word));
        lines.map(|line| line.trim().to_string()).filter(|name| name.contains("::")).collect()
    };
    let (passed, failed, skipped) = (of(" ok"), of(" FAILED"), of(" skipped"));
    println!("pjdfstest: {} passed, {} failed, {} skipped", passed.len(), failed.len(), skipped.len());
    let unexpected: Vec<&String> =
        failed.iter().filter(|name| EXPECTED.iter().all(|(known, _)| !name.contains(known))).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert!(passed.len() >= 309, "{} passed", passed.len());
    world.end().await;
}

async fn fio(world: &Mounted, fio: &Path, name: &str, options: &[&str]) {
    let mut command = Command::new(fio);
    command.arg(format!("--directory={}", world.root().display())).arg(format!("--name={name}"));
    command.args(["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--end_fsync=1"]).args(options);
    let output = run(command.current_dir("/tmp")).await;
    let text = said(&output);
    assert!(output.status.success() && !text.contains("verify failed"), "{name}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fio_reads_what_it_has_written() {
    let Some(tool) = tool("fio") else { return };
    let world = Mounted::writable(Bucket::s3().await).await;
    fio(&world, &tool, "sequential", &["--rw=write", "--bs=128k", "--size=64m"]).await;
    fio(&world, &tool, "random", &["--rw=randwrite", "--bs=4k", "--size=8m"]).await;
    fio(&world, &tool, "jobs", &["--rw=write", "--numjobs=4", "--bs=64k", "--size=8m"]).await;
    fio(&world, &tool, "small", &["--rw=write", "--nrfiles=100", "--size=800k", "--bs=4k"]).await;
    fio(&world, &tool, "mapped", &["--rw=randwrite", "--ioengine=mmap", "--bs=4k", "--size=8m"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dbench_and_stress_ng_end_well() {
    let (Some(dbench), Some(stress)) = (tool("dbench"), tool("stress-ng")) else { return };
    let world = Mounted::writable(Bucket::s3().await).await;
    let mut command = Command::new(dbench);
    let output = run(command.arg("-D").arg(world.root()).args(["-t", "5", "2"])).await;
    assert!(output.status.success() && said(&output).contains("Throughput"), "{}", said(&output));
    for stressor in ["dir", "dentry", "rename", "open"] {
        let mut command = Command::new(&stress);
        command.arg("--temp-path").arg(world.root()).args([&format!("--{stressor}"), "2"]);
        command.args(["--timeout", "2s", "--dentries", "64", "--dir-dirs", "64"]);
        let output = run(&mut command).await;
        let text = said(&output);
        assert!(output.status.success() && text.contains("successful run completed"), "{stressor}: {text}");
    }
    world.end().await;
}

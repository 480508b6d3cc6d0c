//! Parts of a machine that a test may break without anybody else noticing, a disk and a clock, and their rows of the
//! table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use s3_testbed::Refusal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::table::{Table, became, defaults, life};
use crate::support::world::{Kit, World, output};

/// A disk of 100 MiB.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new() -> SmallDisk {
        let at = tempfile::tempdir().expect("a directory");
        mount(Some("tmpfs"), at.path(), Some("tmpfs"), MsFlags::empty(), Some("size=100m,mode=0700"))
            .expect("mounted");
        SmallDisk(at)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// A wall clock for one process: what the C library answers, moved by what a file says.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *at = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        if (at != MAP_FAILED) offset = at;
        close(file);
    }
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int answer = syscall(SYS_clock_gettime, clock, time);
    if (answer == 0 && clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return answer;
}
"#;

/// The wall clock of the agent of a test.
pub struct Clock {
    directory: tempfile::TempDir,
}

impl Clock {
    pub async fn new() -> Clock {
        let clock = Clock { directory: tempfile::tempdir().expect("a directory") };
        let source = clock.path("clock.c");
        std::fs::write(&source, SHIM).expect("written");
        let mut compiler = Command::new("cc");
        let built =
            output(compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.path("clock.so")).arg(source));
        let built = built.await;
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        clock.move_to(0);
        clock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What a process needs in its environment to live by this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let value = |name: &str| self.path(name).display().to_string();
        vec![("LD_PRELOAD".to_owned(), value("clock.so")), ("TEST_CLOCK".to_owned(), value("offset"))]
    }

    /// From now on the clock is so many seconds ahead.
    pub fn move_to(&self, seconds: i64) {
        use std::os::unix::fs::FileExt;
        let file =
            std::fs::File::options().create(true).write(true).truncate(false).open(self.path("offset"));
        file.expect("a file").write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }
}

/// Nothing of the chain depends on the disk for what is written: a writer is told, and nothing is repaired.
pub async fn disks(table: &mut Table) {
    let fault = "disk full for staging (a writer is told)";
    let disk = SmallDisk::new();
    let staging = format!("read_only = false\nstaging = \"{}\"", disk.path().display());
    let world = World::healthy_with("disks", Kit { mount: staging, ..defaults() }).await;
    let before = life(&world).await;
    let filler = disk.path().join("filler");
    let fill = "head -c 40M /dev/zero > \"$0\"";
    assert!(output(Command::new("sh").args(["-c", fill]).arg(&filler)).await.status.success());
    let struck = Instant::now();
    let file = world.point().join("written.map");
    // Not from the beginning on, so that it has to be staged.
    let write = async || {
        let of = format!("of={}", file.display());
        output(Command::new("dd").args(["if=/dev/zero", &of, "bs=1M", "count=4", "seek=1", "conv=fsync"]))
            .await
    };
    let told = write().await;
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && said.contains("No space left on device"), "{said}");
    let detected = struck.elapsed();
    let looks = Instant::now();
    while looks.elapsed() < Duration::from_secs(15) {
        let status = world.status().await;
        assert_eq!(status["acting"], Value::Null, "{status:#}");
        assert!(world.serves().await, "maps are served with the disk full: {status:#}");
        sleep(Duration::from_millis(500)).await;
    }
    std::fs::remove_file(&filler).expect("removed");
    let freed = Instant::now();
    let written = write().await;
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let repaired = freed.elapsed();
    world.until("health", |status| status["health"] == "healthy").await;
    let container = became(&before, &life(&world).await);
    table.add(fault, detected.as_secs_f64(), repaired.as_secs_f64(), container);
    world.end().await;
}

/// The wall clock of the agent is three hours off, and S3 refuses what it signs then. By the test's own clock, because
/// the events of the agent are told by the wrong one.
pub async fn clocks(table: &mut Table) {
    let fault = "clock moved by 3 h, then set right";
    let clock = Clock::new().await;
    let environment = clock.environment();
    let world = World::healthy_with("clocks", Kit { environment, ..defaults() }).await;
    let before = life(&world).await;
    clock.move_to(3 * 3600);
    world.server().control().refuse_all(Some(Refusal::RequestTimeTooSkewed));
    let (_, detected) = world.until(fault, |status| status["health"] != "healthy").await;
    let named = |status: &Value| status["first_fault"].to_string().contains("clock");
    world.until("the cause", named).await;
    let wrong = Instant::now();
    while wrong.elapsed() < Duration::from_secs(15) {
        let status = world.status().await;
        assert_eq!(status["acting"], Value::Null, "{status:#}");
        sleep(Duration::from_millis(200)).await;
    }
    clock.move_to(0);
    world.server().control().refuse_all(None);
    let (_, repaired) = world.until(fault, |status| status["health"] == "healthy").await;
    assert!(world.serves().await, "{fault}: the map is not served");
    let container = became(&before, &life(&world).await);
    table.add(fault, detected.as_secs_f64(), repaired.as_secs_f64(), container);
    world.end().await;
}

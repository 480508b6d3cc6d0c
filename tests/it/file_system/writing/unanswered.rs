//! What the store does without saying so, and who waits for it.
//!
//! An answer that does not come is no refusal: what the store has is looked up, and what was done is no error.

use std::process::Stdio;
use std::time::Duration;

use bucketfs::store::memory::Asked;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::{header, memory, stored, text, world};
use crate::file_system::common::{Bucket, Mounted};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_done_without_saying_so_is_done() {
    let world = world().await;
    let store = memory(&world.bucket);
    store.lose(Some(|asked| match asked {
        Asked::Put(_) | Asked::Copy(..) | Asked::Complete(_) => true,
        // What is asked whether names may be deleted is answered.
        Asked::Delete(key) => !key.contains(".mapkeeper-"),
        _ => false,
    }));
    let script = "set -e
echo x > a; echo y >> a; chmod 600 a; setfattr -n user.x -v y a; mkdir d; chmod 700 d
echo over > b; mv a b; mv b d/c; ln -s c d/l; (set -C; echo new > d/n); truncate -s 3 d/c
head -c 20000000 /dev/zero > large
mkdir gone; echo x > gone/x; rm gone/x; rmdir gone; mv d e";
    world.sh(script).await;
    store.lose(None);
    assert_eq!(
        world.sh("cat e/c e/n; readlink e/l; ls . e").await,
        "x\nynew\nc\n.:\ne\nlarge\n\ne:\nc\nl\nn"
    );
    let (object, body) = stored(&world.bucket, "e/c").await.expect("there");
    assert_eq!((header(&object, "mode"), &body[..]), ("33152", &b"x\ny"[..]));
    assert_eq!(
        world.sh("stat -c '%a' e; getfattr --only-values -n user.x e/c; stat -c %s large").await,
        "700\ny20000000"
    );
    assert!(world.session.health().kept.is_empty());
    world.end().await;
}

/// What the store takes for an answer: the world ends only when it has given those that nobody waits for.
const STALL: Duration = Duration::from_secs(40);

fn shell(world: &Mounted, command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("cd {} && exec {command}", world.root().display())]);
    shell
}

/// Whoever has written, and comes to `end` when it is told to.
async fn writer(world: &Mounted, name: &str, end: &str) -> Child {
    let script = format!(
        "python3 -c \"
import os, sys
f = os.open('{name}', os.O_RDWR | os.O_CREAT)
os.write(f, b'mine')
print('written', flush=True)
sys.stdin.read(1)
{end}
\""
    );
    let child = shell(world, &script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("a shell");
    let stdout = child.stdout.as_mut().expect("piped");
    stdout.read_exact(&mut [0; 8]).await.expect("it writes");
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_to_a_silent_store_can_be_killed() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::from_secs(3600);
    })
    .await;
    let store = memory(&world.bucket);
    for key in ["a", "b", "x/", "x/c", "y/", "y/e", "z/", "other"] {
        world.bucket.put(key, b"before", &[("mode", if key.ends_with('/') { "16877" } else { "33188" })]);
    }
    world.sh("ls -l a b other new x y z y/f z/no 2> /dev/null || true").await;
    // Killed while it stores, and before it does: then it is closed by the kernel.
    let mut children = Vec::new();
    for (name, end) in [("a", "os.fsync(f)"), ("b", "os.close(f)"), ("new", "import time; time.sleep(3600)")]
    {
        children.push(writer(&world, name, end).await);
    }
    store.set_latency(STALL);
    store.take_asked();
    for child in &mut children {
        let stdin = child.stdin.as_mut().expect("piped");
        stdin.write_all(b"x").await.expect("it goes on");
    }
    for command in ["rm x/c", "mv y/e y/f", "chmod 600 other", "mkdir z/no"] {
        children.push(shell(&world, command).spawn().expect("a shell"));
    }
    let began = tokio::time::Instant::now();
    let mut asked = Vec::new();
    let waits = |asked: &[Asked]| {
        [
            Asked::Put("a".into()),
            Asked::Put("b".into()),
            Asked::Delete("x/c".into()),
            Asked::Head("y/e".into()),
            Asked::Put("z/no/".into()),
        ]
        .iter()
        .all(|one| asked.contains(one))
    };
    while !waits(&asked) {
        assert!(began.elapsed() < STALL / 2, "not all of them wait: {asked:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        asked.extend(store.take_asked());
    }
    for mut child in children {
        child.start_kill().expect("alive");
        child.wait().await.expect("it ends");
    }
    // None of it is done yet.
    assert!(
        store.headers("x/c").is_some() && store.headers("z/no/").is_none() && store.headers("new").is_none()
    );
    store.set_latency(Duration::ZERO);
    let bucket = Bucket::Memory(store.clone());
    world.end().await;
    for key in ["a", "b"] {
        assert_eq!(text(&bucket, key).await, "minere", "{key}");
    }
    assert_eq!(text(&bucket, "new").await, "mine");
}

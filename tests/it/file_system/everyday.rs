//! What everybody does with a directory, and must not be surprised by: list it, walk it, archive it, remove it, fill it.
//!
//! Needs root and `/dev/fuse`.

use std::time::Duration;

use crate::file_system::common::{Bucket, Mounted, hostile};
use bucketfs::StoreHealth;
use bucketfs::attr::Timestamp;
use hostile::Answer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use s3_testbed::{Control, Operation};

const LONG: Duration = Duration::from_secs(600);

async fn listed(count: usize) -> (Mounted, Control) {
    let bucket = Bucket::s3().await;
    (0..count).for_each(|number| bucket.put(&format!("d/n{number:04}"), b"x", &[("mode", "33188")]));
    bucket.put("d/link", b"n0000", &[("mode", "41471")]);
    let control = bucket.control();
    let mounted = Mounted::new(bucket, LONG).await;
    mounted.sh("stat d").await;
    control.reset();
    (mounted, control)
}

fn headers(control: &Control) -> u64 {
    [Operation::HeadObject, Operation::GetObject, Operation::GetRange]
        .map(|asked| control.count(asked))
        .iter()
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_names_alone_asks_for_no_headers_and_tells_no_kind_that_it_does_not_know() {
    let (mounted, control) = listed(2500).await;
    assert_eq!(mounted.sh("ls d | wc -l; ls -U d | sort -u | wc -l").await, "2501\n2501");
    assert_eq!(headers(&control), 0, "{:?}", control.counts());
    assert_eq!(
        mounted.sh("find d -type l; find d -type f | wc -l; readlink d/link").await,
        "d/link\n2500\nn0000"
    );
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_up_one_name_after_the_other_waits_for_few_round_trips() {
    for walk in [
        "find d -type f | wc -l",
        "find d -size -2 -type f | wc -l",
        "ls d | (cd d; xargs stat -c %F | grep -c file)",
    ] {
        let (mounted, control) = listed(600).await;
        control.set_latency(Duration::from_millis(20));
        assert_eq!(mounted.sh(walk).await, "600", "{walk}");
        let together = control.highest_concurrency();
        assert!(together >= 17, "{walk}: {together} at once");
        // Each once, and the kernel's own doubts about the first.
        assert!(headers(&control) <= 610, "{walk}: {:?}", control.counts());
        mounted.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_one_file_of_a_listed_directory_asks_for_that_one() {
    let (mounted, control) = listed(600).await;
    assert_eq!(mounted.sh("ls d >/dev/null; cat d/n0300").await, "x");
    assert_eq!(headers(&control), 1, "{:?}", control.counts());
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_marker_is_as_old_as_the_mount() {
    let began = Timestamp::now().seconds;
    let bucket = Bucket::memory();
    bucket.put("d/e/x", b"1", &[]);
    let mounted = Mounted::new(bucket, Duration::ZERO).await;
    for name in [".", "d", "d/e"] {
        let times = mounted.sh(&format!("ls {name} >/dev/null; stat -c '%X %Y %Z' {name}")).await;
        for time in times.split(' ') {
            let time: i64 = time.parse().expect("seconds");
            assert!((began..=Timestamp::now().seconds).contains(&time), "{name}: {time}");
        }
    }
    let once = mounted.sh("stat -c %y d; touch -r d /tmp; stat -c %y d/e").await;
    let (above, below) = once.split_once('\n').expect("two times");
    assert_eq!(above, below);
    mounted.end().await;
}

const HIDDEN: [&str; 4] = ["d//x", "d/./y", "d/e/../z", "d/e//"];

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_keys_without_a_name_is_removed_only_if_the_mount_says_so() {
    for remove_hidden in [false, true] {
        let bucket = Bucket::s3().await;
        HIDDEN.iter().for_each(|key| bucket.put(key, b"x", &[]));
        bucket.put("d/e/seen", b"x", &[]);
        bucket.put("full/x", b"x", &[]);
        bucket.put("full//x", b"x", &[]);
        let store = bucket.store();
        let mounted = Mounted::with(bucket, |options| {
            (options.read_only, options.write.remove_hidden) = (false, remove_hidden);
        })
        .await;
        assert!(mounted.fails("rmdir full").await.contains("Directory not empty"));
        let is_gone = mounted.run("rm -rf d").await.status.success();
        assert_eq!(is_gone, remove_hidden);
        for key in HIDDEN {
            assert_eq!(store.head(key).await.is_err(), remove_hidden, "{key}");
        }
        assert!(store.head("d/e/seen").await.is_err());
        for key in ["full/x", "full//x"] {
            store.head(key).await.expect(key);
        }
        assert_eq!(mounted.run("ls d").await.status.success(), !remove_hidden);
        mounted.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_open_files_than_there_may_be_are_enfile_and_nobody_else_notices() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 400, hard).expect("less");
    let world = Mounted::writable(Bucket::s3().await).await;
    world.bucket.put("there", b"x", &[]);
    let script = "import errno, os\nfiles = []\ntry:\n while True: files.append(open(f'f{len(files)}', 'w'))\n\
                  except OSError as error: print(errno.errorcode[error.errno], len(files) > 100, open('there').read())\n\
                  for file in files: file.write('y')\nfor file in files: file.close()\nprint(len(files) == len(os.listdir()) - 1)";
    assert_eq!(world.sh(&format!("python3 -c \"{script}\"")).await, "ENFILE True x\nTrue");
    // And once they are closed there is room again.
    assert_eq!(world.sh("echo z > f0; cat f0").await, "z");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_that_somebody_asks_for_is_an_outage() {
    let mounted = Mounted::new(Bucket::s3().await, Duration::ZERO).await;
    let long = "n".repeat(255);
    let names =
        [" ", "\u{1}", "\u{7f}", "\t\n", "%", "%00", "?a=b", "#", "+", "a b ", "\u{feff}", "..a", "*", &long];
    for name in names {
        let said = mounted.fails(&format!("LC_ALL=C stat -- '{name}'")).await;
        assert!(said.ends_with("No such file or directory\n"), "{name:?}: {said}");
        let said = mounted.fails(&format!("LC_ALL=C stat -- '{name}/{name}'")).await;
        assert!(said.ends_with("No such file or directory\n"), "{name:?}: {said}");
        assert_eq!(mounted.session.health().store, StoreHealth::Answering, "{name:?}");
    }
    mounted.end().await;
}

/// Refuses the headers, and the content, of what lies at `paths`.
async fn refusing(status: &'static str, paths: &'static [&'static str]) -> Mounted {
    const OBJECTS: &[(&str, &str)] = &[
        ("a", "1"),
        ("bad", "12345"),
        ("d/bad", "1"),
        ("d/x", "1"),
        ("f_$folder$", ""),
        ("f2/", ""),
        ("f2/x", "1"),
    ];
    let url = hostile::serve(OBJECTS, move |request| {
        let is_refused = paths.contains(&request.path.as_str());
        is_refused.then(|| Answer::new(status, "", b""))
    })
    .await;
    let server = s3_testbed::Server::start(s3_testbed::Options::memory(["bucket"])).expect("a free port");
    let client = crate::file_system::common::s3_client(&url).await;
    Mounted::new(Bucket::S3 { server, client }, Duration::ZERO).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_guise_a_key_has_that_is_refused_the_others_are_shown_as_ever() {
    let paths = &["/bucket/bad", "/bucket/d/bad", "/bucket/f_%24folder%24", "/bucket/f2/"];
    for status in ["400 Bad Request", "403 Forbidden", "405 Method Not Allowed", "409 Conflict"] {
        let mounted = refusing(status, paths).await;
        // By name, with nothing listed yet.
        assert_eq!(
            mounted.sh("stat -c '%a %s %F' bad d/bad").await,
            "0 5 regular file\n0 1 regular file",
            "{status}"
        );
        for _ in 0..2 {
            assert_eq!(mounted.sh("ls; ls -l | grep -c .").await, "a\nbad\nd\nf\nf2\n6", "{status}");
            assert_eq!(
                mounted.sh("find . -type f | sort; cat a d/x f2/x").await,
                "./a\n./bad\n./d/bad\n./d/x\n./f2/x\n111"
            );
            assert_eq!(
                mounted.sh("stat -c '%a %F' f f2 a").await,
                "755 directory\n755 directory\n644 regular file"
            );
        }
        let health = mounted.session.health();
        assert_eq!(health.store, StoreHealth::Answering, "{status}");
        assert!(health.unreadable_keys >= 3, "{status}: {}", health.unreadable_keys);
        mounted.end().await;
    }
}

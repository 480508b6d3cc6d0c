//! How many requests the file system makes, counted by an S3 server, through the kernel.
//!
//! Needs root and `/dev/fuse`. Latency is injected so that requests which do not wait for each other are seen to
//! overlap; nothing is measured by the clock.

use std::time::Duration;

use crate::file_system::common::{Bucket, LIMIT, Mounted};
use s3_testbed::{Action, Attributes, Checksums, Content, Control, Fault, Operation, WriteCondition};

/// Longer than a handful of commands takes.
const SHORT: Duration = Duration::from_secs(2);
/// Longer than a listing takes to be read, or many readers to begin.
const MEDIUM: Duration = Duration::from_secs(8);
const LONG: Duration = Duration::from_secs(600);

async fn mounted(freshness: Duration, fill: impl FnOnce(&Bucket)) -> (Mounted, Control) {
    let bucket = Bucket::s3().await;
    fill(&bucket);
    let control = bucket.control();
    let mounted = Mounted::new(bucket, freshness).await;
    // The kernel asks for the root's attributes, and opens a connection, only once.
    mounted.sh("true").await;
    control.reset();
    (mounted, control)
}

/// Lets what is known grow older than `freshness`.
async fn age(freshness: Duration) {
    tokio::time::sleep(freshness + Duration::from_millis(20)).await;
}

/// Writes bear the second they are made in; what is older than two seconds can be compared by it.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(2100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_open_and_read_costs_two_requests_at_the_same_time() {
    let (mounted, control) = mounted(LONG, |bucket| bucket.put("a.map", b"MAP", &[("mode", "33188")])).await;
    control.set_latency(Duration::from_secs(1));
    assert_eq!(mounted.sh("cat a.map").await, "MAP");
    assert_eq!((control.total(), control.highest_concurrency()), (2, 2), "{:?}", control.log());
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_contradict_their_checksum_are_fetched_again_and_never_shown() {
    let (mounted, control) = mounted(LONG, |bucket| {
        let Bucket::S3 { server, .. } = bucket else { panic!("a server") };
        for key in ["a.map", "b.map"] {
            let checksums = Checksums::from([("crc32".into(), "BQroMQ==".into())]);
            let attributes = Attributes { checksums, ..Attributes::default() };
            let put = server.store().put_object_with(
                "bucket",
                key,
                Content::from(b"MAP".to_vec()),
                attributes,
                &WriteCondition::default(),
            );
            put.expect("written");
        }
    })
    .await;
    // What was listed is known to be small, and is asked for as a whole.
    mounted.sh("ls").await;
    control.inject(Fault::new(Action::FlipBit { offset: 1 }).under("a.map").times(1));
    assert_eq!(mounted.sh("cat a.map").await, "MAP");
    control.inject(Fault::new(Action::FlipBit { offset: 1 }).under("b.map"));
    let shown = mounted.run("cat b.map").await;
    assert_eq!((shown.stdout.as_slice(), shown.status.success()), (&b""[..], false));
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_freshness_nothing_is_asked() {
    let (mounted, control) = mounted(LONG, |bucket| bucket.put("d/a.map", b"MAP", &[])).await;
    mounted.sh("cat d/a.map; stat d/absent || true; ls -l d").await;
    control.reset();
    mounted.sh("for i in 1 2 3; do cat d/a.map; stat d/a.map; stat d/absent || true; done").await;
    assert_eq!(control.total(), 0, "{:?}", control.log());
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_freshness_one_conditional_request_serves_all_who_wait() {
    let (mounted, control) = mounted(MEDIUM, |bucket| bucket.put("maps/d/a.map", b"MAP", &[])).await;
    settle().await;
    assert_eq!(mounted.sh("cat maps/d/a.map").await, "MAP");
    age(MEDIUM).await;
    control.set_latency(Duration::from_secs(1));
    control.reset();
    let all = "for i in 1 2 3 4 5 6 7 8; do cat maps/d/a.map & done; wait";
    assert_eq!(mounted.sh(all).await, "MAP".repeat(8));
    let log = control.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!((log[0].operation, log[0].status), (Operation::GetRange, Some(304)));
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_in_one_directory_run_side_by_side() {
    let (mounted, control) = mounted(LONG, |bucket| {
        // More than are worth listing for the sake of a few.
        (0..400).for_each(|number| bucket.put(&format!("d/n{number}"), b"x", &[]));
    })
    .await;
    mounted.sh("cat d/n0 d/n1 d/n2").await;
    control.set_latency(Duration::from_secs(1));
    control.reset();
    mounted.sh("for i in 10 11 12 13 14 15 16 17; do cat d/n$i & done; wait").await;
    assert!(control.total() <= 2 * 8, "{:?}", control.counts());
    assert!(control.highest_concurrency() >= 8, "{} at once", control.highest_concurrency());
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_long_listing_asks_for_headers_side_by_side_and_a_warm_one_for_pages() {
    let (mounted, control) = mounted(MEDIUM, |bucket| {
        for number in 0..2500u32 {
            let (mode, uid) = ((0o100600 + number % 64).to_string(), number.to_string());
            bucket.put(&format!("d/n{number:04}"), b"x", &[("mode", &mode), ("uid", &uid), ("gid", &uid)]);
        }
    })
    .await;
    settle().await;
    control.set_latency(Duration::from_millis(20));
    control.reset();
    let cold = mounted.sh("ls -ln d").await;
    assert_eq!(cold.lines().count(), 2501);
    for number in [0, 1234, 2499u32] {
        let line = cold.lines().find(|line| line.ends_with(&format!("n{number:04}"))).expect("listed");
        assert_eq!(line.split_whitespace().nth(2), Some(number.to_string().as_str()));
    }
    assert_eq!(control.count(Operation::HeadObject), 2500);
    let together = control.highest_concurrency();
    // 128 headers, and the page behind them.
    assert!((17..=129).contains(&together), "{together} at once");
    for _ in 0..2 {
        age(MEDIUM).await;
        control.reset();
        assert_eq!(mounted.sh("ls -ln d").await, cold);
        // The directory is proved by a listing of its own before it is opened, and opening it lists the first page.
        let counts = control.counts();
        assert_eq!(counts.keys().collect::<Vec<_>>(), [&Operation::ListObjects], "{counts:?}");
        assert!(control.total() <= 4, "{counts:?}");
    }
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_map_asks_for_costs_a_request_however_much_is_absent() {
    let (mounted, control) = mounted(SHORT, |bucket| {
        bucket.put("maps/x.map", b"MAP", &[]);
        bucket.put("maps/x.tif", &[7; 5000], &[("mode", "33188")]);
        (0..40).for_each(|number| bucket.put(&format!("maps/other{number}"), b"x", &[]));
    })
    .await;
    settle().await;
    let map = "cat maps/x.map maps/x.tif >/dev/null; \
               for name in x.aux.xml x.tif.aux.xml x.tif.ovr x.tif.msk x.tfw x.wld x.prj; do \
               stat maps/$name 2>/dev/null || true; done";
    mounted.sh(map).await;
    age(SHORT).await;
    control.reset();
    const MAPS: u64 = 4;
    for _ in 0..MAPS {
        mounted.sh(map).await;
        age(SHORT).await;
    }
    assert!(control.total() <= MAPS, "{} requests: {:?}", control.total(), control.counts());
    // And what appears is seen all the same.
    mounted.bucket.put("maps/x.tif.ovr", b"OVR", &[]);
    age(SHORT).await;
    assert_eq!(mounted.sh("cat maps/x.tif.ovr").await, "OVR");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_is_not_listed_for_absent_names() {
    let (mounted, control) = mounted(SHORT, |bucket| {
        (0..1000).for_each(|number| bucket.put(&format!("d/n{number}"), b"x", &[]));
    })
    .await;
    let absent = "for i in 1 2 3 4 5 6 7 8; do stat d/absent$i 2>/dev/null || true; done";
    mounted.sh(absent).await;
    age(SHORT).await;
    control.reset();
    mounted.sh(absent).await;
    let listed: Vec<_> =
        control.log().into_iter().filter(|entry| entry.operation == Operation::ListObjects).collect();
    assert!(control.bytes_sent() < 20_000, "{} bytes: {listed:?}", control.bytes_sent());
    assert!(control.total() <= 2 * 8 + 1, "{:?}", control.counts());
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_freshness_every_open_asks() {
    let (mounted, control) = mounted(Duration::ZERO, |bucket| bucket.put("d/a.map", b"MAP", &[])).await;
    settle().await;
    mounted.sh("cat d/a.map").await;
    control.reset();
    mounted.sh("cat d/a.map").await;
    let log = control.log();
    // One for each part of the path.
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!((log[1].key.as_str(), log[1].status), ("d/a.map", Some(304)));
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_is_made_to_forget_what_is_too_much_to_remember() {
    const NAMES: usize = 20_000;
    let bucket = Bucket::memory();
    (0..NAMES).for_each(|number| bucket.put(&format!("d/n{number:05}"), b"x", &[]));
    let mounted = Mounted::with(bucket, |options| options.memory = 16 << 20).await;
    assert_eq!(mounted.sh("ls -l d | wc -l").await, (NAMES + 1).to_string());
    // A quarter of the memory is the table's, half of that for names that the kernel knows.
    let few = (16 << 20) / 4 / 2 / 640;
    let shrunk = async {
        while mounted.session.health().inodes > few {
            tokio::task::yield_now().await;
        }
    };
    let health = mounted.session.health();
    tokio::time::timeout(LIMIT, shrunk).await.unwrap_or_else(|_| panic!("{} names in use", health.inodes));
    assert_eq!(mounted.sh("cat d/n00000 d/n19999").await, "xx");
    mounted.end().await;
}

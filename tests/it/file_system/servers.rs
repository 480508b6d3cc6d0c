//! Servers that do not do all that S3 does, and S3 when it is busy: what is not protected is said, and nothing is lost in
//! silence. Needs root and `/dev/fuse`.

use std::time::Duration;

use crate::file_system::common::hostile::{self, Answer, STAMP};
use crate::file_system::common::peculiar::{Message, Peculiar};
use crate::file_system::common::{Bucket, LIMIT, Mounted, s3_client};
use crate::support::rgw::Rgw;
use crate::testbed::contract::world::client;
use bucketfs::store::write::{PART_MIN, PartOf, Put, Upload, WriteIf};
use bucketfs::store::{
    Condition, Depth, ETag, Fetch, Fetched, Headers, List, ListStart, ObjectStore, ObjectStoreWrite,
    StoreError,
};
use bucketfs::{OnConflict, StoreHealth};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use s3_testbed::{ACCESS_KEY, Action, Fault, Operation, SECRET_KEY};

async fn mounted(bucket: Bucket, on_conflict: OnConflict) -> Mounted {
    Mounted::with(bucket, |options| {
        options.read_only = false;
        options.freshness = Duration::ZERO;
        options.write.on_conflict = on_conflict;
    })
    .await
}

async fn stored(bucket: &Bucket, key: &str) -> Option<Vec<u8>> {
    let fetch = Fetch { key, range: None, condition: Condition::Always, version_id: None };
    let Ok(Fetched::Content { mut body, .. }) = bucket.store().fetch(fetch).await else { return None };
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.expect("whole"));
    }
    Some(bytes.to_vec())
}

async fn keys(bucket: &Bucket) -> Vec<String> {
    let list = List { prefix: "", depth: Depth::Tree, from: ListStart::Start, limit: 1000 };
    let page = bucket.store().list(list).await.expect("listed");
    page.objects.into_iter().map(|object| object.key).collect()
}

/// What somebody else writes meanwhile.
async fn theirs(bucket: &Bucket, key: &str) {
    let (body, headers, condition) = (Bytes::from_static(b"theirs"), Headers::default(), WriteIf::Always);
    bucket.store().put(Put { key, body, headers: &headers, tags: &[], condition }).await.expect("written");
}

async fn everything_is_written(world: &Mounted) {
    world.sh("echo one > f; chmod 600 f; setfattr -n user.a -v b f; mkdir d; mv f d/g; ln -s g d/l").await;
    world.sh("echo two >> d/g; touch -d @5 d/g; set -C; echo x > d/new; rm d/l").await;
    assert_eq!(world.sh("cat d/g; stat -c %a d/g; ls d").await, "one\ntwo\n600\ng\nnew");
    assert_eq!(world.session.health().store, StoreHealth::Answering);
    assert_eq!(keys(&world.bucket).await, ["d/", "d/g", "d/new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_not_written_to_unless_the_last_one_shall_win() {
    let ignores = || Peculiar {
        request: |request| {
            if request.method != "GET" {
                request.without_conditions();
            }
            None
        },
        ..Peculiar::default()
    };
    let world = mounted(ignores().bucket().await, OnConflict::Fail).await;
    let said = world.session.health().unguarded.expect("it is said");
    assert!(said.contains("ignores conditions") && said.contains("on_conflict = \"overwrite\""), "{said}");
    world.bucket.put("theirs", b"theirs", &[]);
    for command in ["echo x > new", "echo x >> theirs", "truncate -s 1 theirs", "mkdir d", "ln -s a l"] {
        let said = world.fails(command).await;
        assert!(said.contains("not supported"), "{command}: {said}");
    }
    assert_eq!(world.sh("cat theirs").await, "theirs");
    assert_eq!(keys(&world.bucket).await, ["theirs"]);
    world.end().await;
    let world = mounted(ignores().bucket().await, OnConflict::Overwrite).await;
    let said = world.session.health().unguarded.expect("it is said");
    assert!(said.contains("the last one wins"), "{said}");
    everything_is_written(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_conditions_is_no_outage_and_is_written_to_without() {
    for refuses in [
        (|request| request.has_condition().then_some((501, "NotImplemented")))
            as fn(&mut Message) -> Option<(u16, &'static str)>,
        |request| (request.method != "GET" && request.has_condition()).then_some((400, "InvalidArgument")),
    ] {
        let refuses = || Peculiar { request: refuses, ..Peculiar::default() };
        let world = mounted(refuses().bucket().await, OnConflict::Fail).await;
        let said = world.session.health().unguarded.expect("it is said");
        assert!(said.contains("refuses conditions"), "{said}");
        assert!(world.fails("echo x > new").await.contains("not supported"));
        assert_eq!(world.session.health().store, StoreHealth::Answering);
        world.end().await;
        let world = mounted(refuses().bucket().await, OnConflict::Overwrite).await;
        world.sh("echo one > f; chmod 600 f; setfattr -n user.a -v b f; mkdir d; mv f d/g").await;
        assert_eq!(stored(&world.bucket, "d/g").await.expect("there"), b"one\n");
        assert_eq!(world.session.health().store, StoreHealth::Answering);
        world.end().await;
    }
}

/// What Ceph's gateway does: tags are compared without quotes, only of PUT, and nobody says what a completion made.
fn like_ceph() -> Peculiar {
    Peculiar {
        request: |request| {
            let is_put = request.method == "PUT" && !request.is_copy();
            match request.header("if-match").map(str::to_string) {
                Some(tag) if is_put && tag.starts_with('"') => return Some((412, "PreconditionFailed")),
                Some(tag) if is_put => request.set("if-match", &format!("\"{tag}\"")),
                _ if request.method != "GET" && !is_put => request.without_conditions(),
                _ => {}
            }
            let is_unsaid = request.header("content-length").is_none();
            (request.method == "PUT" && is_unsaid).then_some((411, "MissingContentLength"))
        },
        answer: |request, answer| {
            if request.completes() {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let from = text.find("<ETag>").expect("there") + "<ETag>".len();
                let to = text.find("</ETag>").expect("there");
                answer.body = [&text.as_bytes()[..from], &text.as_bytes()[to..]].concat();
                answer.set("content-length", &answer.body.len().to_string());
            }
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_compares_tags_without_quotes_and_completes_without_one_is_written_to() {
    let world = mounted(like_ceph().bucket().await, OnConflict::Fail).await;
    let said = world.session.health().unguarded.expect("it is said");
    assert!(said.contains("large files, copies, deletions"), "{said}");
    everything_is_written(&world).await;
    what_others_write_is_seen(&world).await;
    world.end().await;
}

/// Also of large files, which the store itself puts together.
async fn what_others_write_is_seen(world: &Mounted) {
    world.sh("head -c 20000000 /dev/zero > large").await;
    world.sh("printf x | dd of=large bs=1 seek=12000000 conv=notrunc status=none").await;
    let large = stored(&world.bucket, "large").await.expect("there");
    assert_eq!((large.len(), large[12_000_000]), (20_000_000, b'x'));
    for (name, size) in [("small", 10), ("large", 20_000_000)] {
        let before = format!("head -c {size} /dev/zero > {name}; exec 3>> {name}");
        let others = async || theirs(&world.bucket, name).await;
        let said = meanwhile(world, &before, WRITE_3, others).await;
        assert!(said.contains("tale"), "{said}");
        assert_eq!(stored(&world.bucket, name).await.expect("there"), b"theirs");
    }
    assert_eq!(world.session.health().kept.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_of_ceph_is_read_and_written() {
    let rgw = Rgw::start(ACCESS_KEY, SECRET_KEY);
    client(&rgw.url).create_bucket().bucket("bucket").send().await.expect("made");
    let world = mounted(Bucket::Elsewhere(s3_client(&rgw.url).await), OnConflict::Fail).await;
    let said = world.session.health().unguarded.expect("it is said");
    assert!(said.contains("large files, copies, deletions"), "{said}");
    everything_is_written(&world).await;
    what_others_write_is_seen(&world).await;
    // A change is seen, and an open file is of one version.
    theirs(&world.bucket, "seen").await;
    assert_eq!(world.sh("cat seen").await, "theirs");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_the_root_of_a_bucket_for_the_bucket_is_mounted() {
    let takes = Peculiar {
        request: |request| {
            let is_root = request.path.split('?').next() == Some("/bucket//");
            (is_root && matches!(request.method.as_str(), "HEAD" | "GET")).then_some((200, ""))
        },
        answer: |request, answer| {
            if request.method == "HEAD" && request.path.starts_with("/bucket//") {
                answer.without("content-length");
            }
        },
    };
    let bucket = takes.bucket().await;
    bucket.put("a", b"content", &[]);
    let absent = bucket.store().head("/").await.expect_err("an answer about the bucket");
    assert!(matches!(absent, StoreError::NotFound { .. }), "{absent:?}");
    let world = mounted(bucket, OnConflict::Fail).await;
    assert_eq!(world.sh("ls; cat a; stat -c %a .").await, "a\ncontent755");
    assert_eq!(world.session.health().unguarded, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_trial_stays_and_aws_is_not_tried() {
    let world = mounted(Bucket::s3().await, OnConflict::Fail).await;
    assert_eq!(keys(&world.bucket).await, [""; 0]);
    let Bucket::S3 { server, .. } = &world.bucket else { panic!("it has one") };
    assert_eq!(server.store().open_uploads("bucket"), 0);
    assert_eq!(world.session.health().unguarded, None);
    world.end().await;
}

fn error(status: u16, code: &str) -> Fault {
    Fault::new(Action::Error { status, code: code.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_another_one_is_sent_again_and_an_upload_begun_again() {
    let world = mounted(Bucket::s3().await, OnConflict::Fail).await;
    let control = world.bucket.control();
    let code = "ConditionalRequestConflict";
    control.inject(error(409, code).on(Operation::PutObject).under("small").times(3));
    control.inject(error(409, code).on(Operation::CompleteMultipartUpload).under("large").times(2));
    world.sh("echo one > small; head -c 20000000 /dev/zero > large").await;
    assert_eq!(stored(&world.bucket, "small").await.expect("there"), b"one\n");
    assert_eq!(stored(&world.bucket, "large").await.expect("there").len(), 20_000_000);
    let Bucket::S3 { server, .. } = &world.bucket else { panic!("it has one") };
    assert_eq!(server.store().open_uploads("bucket"), 0);
    assert!(world.session.health().kept.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_outlasts_a_store_that_is_busy() {
    let world = mounted(Bucket::s3().await, OnConflict::Fail).await;
    world.bucket.control().inject(Fault::slow_down().on(Operation::PutObject).under("f").times(7));
    // One store alone: a shell's redirection has it stored twice.
    world.sh("echo one | dd of=f conv=fsync status=none").await;
    assert_eq!(stored(&world.bucket, "f").await.expect("there"), b"one\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_look_who_was_faster_does_not_say_that_it_was_somebody_else() {
    let world = mounted(Bucket::s3().await, OnConflict::Fail).await;
    let control = world.bucket.control();
    let others = async || {
        theirs(&world.bucket, "f").await;
        control.inject(error(403, "AccessDenied").on(Operation::HeadObject).under("f"));
    };
    let said = meanwhile(&world, "echo old > f; exec 3>> f", WRITE_3, others).await;
    assert!(said.contains("ermission denied"), "{said}");
    // What nobody stored is kept once it is closed, and for what was said.
    let began = tokio::time::Instant::now();
    while world.session.health().kept.is_empty() {
        assert!(began.elapsed() < LIMIT, "it is not kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let about = world.session.health().kept[0].with_added_extension("json");
    let about = std::fs::read_to_string(about).expect("described");
    assert!(about.contains("denied"), "{about}");
    control.clear_faults();
    world.end().await;
}

/// Writes to the descriptor 3 and has it stored, by a process that says what is answered.
const WRITE_3: &str = "python3 -c 'import os; os.write(3, b\"x\"); os.fsync(3)'";

/// Runs two commands of one shell, does something in between, and answers what the second says, which fails.
async fn meanwhile(world: &Mounted, before: &str, after: &str, others: impl AsyncFn()) -> String {
    let go = world.scratch.path().with_extension("go");
    let file = go.display();
    let command = format!("{before}; touch {file}; while [ -e {file} ]; do sleep 0.1; done; {after}");
    let others = async {
        while !go.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        others().await;
        std::fs::remove_file(&go).expect("there");
    };
    futures::join!(world.fails(&command), others).0
}

#[tokio::test]
async fn a_store_that_contradicts_itself_is_named_as_the_cause() {
    let contradicts = Peculiar {
        request: |request| {
            (request.method == "PUT" && request.header("if-match").is_some())
                .then_some((412, "PreconditionFailed"))
        },
        ..Peculiar::default()
    };
    let bucket = contradicts.bucket().await;
    let store = bucket.store();
    let headers = Headers::default();
    let put = |condition| {
        let body = Bytes::from_static(b"x");
        store.put(Put { key: "a", body, headers: &headers, tags: &[], condition })
    };
    let etag = put(WriteIf::Absent).await.err();
    assert!(matches!(etag, Some(StoreError::Unconditional { .. })), "{etag:?}");
    assert!(store.known_conditions().lacking().expect("said").contains("refuses conditions"));
}

#[tokio::test]
async fn a_part_that_was_copied_of_another_version_is_none() {
    let bucket = like_ceph().bucket().await;
    bucket.put("a", &vec![1; PART_MIN as usize], &[]);
    let store = bucket.store();
    let headers = Headers::default();
    let id = store.begin_upload("b", &headers, &[]).await.expect("begun");
    let upload = Upload { key: "b", id: &id };
    let etag = store.head("a").await.expect("there").version.etag;
    let part = PartOf { from: "a", etag: &etag, range: 0..PART_MIN };
    store.copy_part(upload, 1, part.clone()).await.expect("copied");
    bucket.put("a", &vec![2; PART_MIN as usize], &[]);
    let error = store.copy_part(upload, 2, part).await.expect_err("another version");
    assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_region_is_read_where_only_the_text_of_an_error_names_it() {
    let url = hostile::serve(&[], |request| {
        let region = request.path.strip_prefix("/bucket/")?;
        let body = format!(
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>{}</Region></Error>",
            region.replace("%3C", "<")
        );
        Some(Answer::new("400 Bad Request", "", body.as_bytes()))
    })
    .await;
    let store = s3_client(&url).await;
    let region = async |key| {
        let fetch = Fetch { key, range: None, condition: Condition::Always, version_id: None };
        match store.fetch(fetch).await.err() {
            Some(StoreError::WrongRegion { region, .. }) => region,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(region("eu-west-1").await.as_deref(), Some("eu-west-1"));
    assert_eq!(region("a%20b").await, None);
}

#[tokio::test]
async fn an_error_behind_the_status_of_a_success_is_told_as_what_it_is() {
    let url = hostile::serve(&[], |request| {
        let code = request.path.strip_prefix("/bucket/")?;
        Some(match request.method.as_str() {
            "PUT" if code.starts_with('.') => Answer::new("200 OK", STAMP, b""),
            "PUT" => Answer::new("200 OK", "", format!("<Error><Code>{code}</Code></Error>").as_bytes()),
            _ => Answer::new("400 Bad Request", "", b""),
        })
    })
    .await;
    let store = s3_client(&url).await;
    let etag = ETag("\"e\"".into());
    let part = PartOf { from: "a", etag: &etag, range: 0..9 };
    let error = store.copy_part(Upload { key: "NoSuchThing", id: "u" }, 1, part).await.expect_err("an error");
    assert_eq!(error.to_string(), "the store answered 500 NoSuchThing");
    let error = store.head("a").await.expect_err("refused");
    assert_eq!(error.to_string(), "the store answered 400");
}

//! Both stores answer alike: what is proved on the one in memory holds on S3.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::file_system::common::hostile::{self, Answer, LIST_HEAD, STAMP, contents};
use crate::file_system::common::{Bucket, s3_client};
use bucketfs::store::write::{CopyRequest, PartOf, Put, Upload, WriteIf};
use bucketfs::store::{
    Condition, Depth, ETag, Fetch, Fetched, Headers, Kept, List, ListStart, Object, ObjectStore, StoreError,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use proptest::prelude::*;

/// Runs the same story on both.
async fn on_both<F: Future<Output = ()>>(story: impl Fn(Arc<Bucket>) -> F) {
    story(Arc::new(Bucket::memory())).await;
    story(Arc::new(Bucket::s3().await)).await;
}

async fn fetched(
    store: &dyn ObjectStore,
    key: &str,
    condition: Condition,
) -> Result<(Object, Bytes), StoreError> {
    match store.fetch(Fetch { key, range: Some(0..1 << 20), condition, version_id: None }).await? {
        Fetched::Content { object, mut body, range } => {
            let mut bytes = BytesMut::new();
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece?);
            }
            assert_eq!(range, 0..bytes.len() as u64);
            Ok((object, bytes.freeze()))
        }
        Fetched::NotModified { .. } => panic!("not modified"),
    }
}

/// All keys and prefixes, in pages of `limit`.
async fn listed(
    store: &dyn ObjectStore,
    prefix: &str,
    depth: Depth,
    limit: u16,
) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes, mut next) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let from = next.as_deref().map_or(ListStart::Start, ListStart::Page);
        let page = store.list(List { prefix, depth, from, limit }).await.expect("it answers");
        assert!(page.objects.len() + page.prefixes.len() <= usize::from(limit));
        keys.extend(page.objects.into_iter().map(|object| object.key));
        prefixes.extend(page.prefixes);
        next = page.next;
        if next.is_none() {
            return (keys, prefixes);
        }
    }
}

#[tokio::test]
async fn an_object_is_read_back_with_its_headers() {
    on_both(|bucket| async move {
        let store = bucket.store();
        bucket.put_typed("maps/a", b"body", Some("text/plain"), &[("mode", "33188"), ("uid", "33")]);
        let (object, body) = fetched(&*store, "maps/a", Condition::Always).await.expect("there");
        assert_eq!((object.size, &body[..]), (4, &b"body"[..]));
        assert_eq!(object.content_type.as_deref(), Some("text/plain"));
        let metadata: BTreeMap<_, _> = object.metadata.iter().cloned().collect();
        assert_eq!((metadata["mode"].as_str(), metadata["uid"].as_str()), ("33188", "33"));
        let head = store.head("maps/a").await.expect("there");
        assert_eq!((head.size, &head.version), (object.size, &object.version));
    })
    .await;
}

#[tokio::test]
async fn a_range_is_cut_at_the_end_and_refused_behind_it() {
    on_both(|bucket| async move {
        let store = bucket.store();
        bucket.put("a", b"0123456789", &[]);
        bucket.put("empty", b"", &[]);
        let ask =
            |key, range| Fetch { key, range: Some(range), condition: Condition::Always, version_id: None };
        match store.fetch(ask("a", 7..100)).await.expect("there") {
            Fetched::Content { object, range, .. } => assert_eq!((object.size, range), (10, 7..10)),
            Fetched::NotModified { .. } => panic!("nothing was asked"),
        }
        for (key, range) in [("a", 10..20), ("empty", 0..10)] {
            let error = store.fetch(ask(key, range)).await.map(drop).expect_err("nothing is there");
            assert!(matches!(error, StoreError::RangeOutside { .. }), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_absent() {
    on_both(|bucket| async move {
        let store = bucket.store();
        bucket.put("d/x", b"1", &[]);
        for key in ["absent", "d", "d/", "/"] {
            let head = store.head(key).await.expect_err("absent");
            assert!(matches!(head, StoreError::NotFound { .. }), "{key}: {head:?}");
            let fetch = fetched(&*store, key, Condition::Always).await.expect_err("absent");
            assert!(matches!(fetch, StoreError::NotFound { .. }), "{key}: {fetch:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn conditions_follow_the_content_and_times_the_headers() {
    on_both(|bucket| async move {
        let store = bucket.store();
        bucket.put("a", b"one", &[("mode", "33188")]);
        let before = store.head("a").await.expect("there").version;
        let changed = Condition::Changed(before.etag.clone());
        let ask = |condition| Fetch { key: "a", range: Some(0..10), condition, version_id: None };
        match store.fetch(ask(changed.clone())).await.expect("there") {
            Fetched::NotModified { last_modified } => assert_eq!(last_modified, Some(before.last_modified)),
            Fetched::Content { .. } => panic!("it has not changed"),
        }
        bucket.put_headers("a", &[("mode", "33152")]);
        assert!(matches!(store.fetch(ask(changed.clone())).await, Ok(Fetched::NotModified { .. })));
        let (object, _) =
            fetched(&*store, "a", Condition::Unchanged(before.etag.clone())).await.expect("same");
        assert_eq!(object.metadata, [("mode".to_string(), "33152".to_string())]);
        bucket.put("a", b"two", &[]);
        assert_eq!(fetched(&*store, "a", changed).await.expect("changed").1, "two");
        let unchanged = Condition::Unchanged(before.etag.clone());
        let error = fetched(&*store, "a", unchanged).await.expect_err("changed");
        assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
        bucket.put("a", b"one", &[]);
        assert_eq!(store.head("a").await.expect("there").version.etag, before.etag, "the same content again");
        bucket.delete("a");
        let gone = fetched(&*store, "a", Condition::Changed(before.etag)).await.expect_err("deleted");
        assert!(matches!(gone, StoreError::NotFound { .. }), "{gone:?}");
    })
    .await;
}

#[tokio::test]
async fn a_listing_has_what_conditions_compare() {
    on_both(|bucket| async move {
        let store = bucket.store();
        bucket.put("d/a", b"12345", &[]);
        bucket.put("d/", b"", &[]);
        let list = List { prefix: "d/", depth: Depth::Directory, from: ListStart::Start, limit: 1000 };
        let page = store.list(list).await.expect("it answers");
        let head = store.head("d/a").await.expect("there");
        let listed = &page.objects[1];
        assert_eq!((listed.key.as_str(), listed.size), ("d/a", 5));
        assert_eq!(listed.etag, head.version.etag);
        assert_eq!(listed.last_modified, head.version.last_modified);
        assert_eq!(page.objects[0].key, "d/");
    })
    .await;
}

#[tokio::test]
async fn keys_that_xml_cannot_say_are_listed() {
    on_both(|bucket| async move {
        let store = bucket.store();
        let keys =
            ["a b", "a%20b", "a+b", "a&<>\"'", "\u{1}\u{1f}", "\u{e9}\u{1f5fa}", "c\r\nd", "e\u{fffe}"];
        for key in keys {
            bucket.put(key, b"x", &[]);
            bucket.put(&format!("below {key}/x"), b"x", &[]);
        }
        let (mut listed, prefixes) = listed(&*store, "", Depth::Directory, 3).await;
        let mut expected = keys.map(str::to_string).to_vec();
        expected.sort();
        listed.sort();
        assert_eq!(listed, expected);
        assert_eq!(prefixes.len(), keys.len());
        for key in keys {
            assert!(prefixes.contains(&format!("below {key}/")), "{key:?}");
            assert_eq!(store.head(key).await.expect(key).size, 1);
        }
    })
    .await;
}

#[tokio::test]
async fn pages_begin_where_the_one_before_ended() {
    on_both(|bucket| async move {
        let store = bucket.store();
        for key in ["a", "d", "d/", "d/x", "d/y", "d-1/z", "e/f/g", "z"] {
            bucket.put(key, b"x", &[]);
        }
        for limit in 1..9 {
            let (keys, prefixes) = listed(&*store, "", Depth::Directory, limit).await;
            assert_eq!(keys, ["a", "d", "z"], "pages of {limit}");
            assert_eq!(prefixes, ["d-1/", "d/", "e/"], "pages of {limit}");
            assert_eq!(listed(&*store, "d/", Depth::Tree, limit).await.0, ["d/", "d/x", "d/y"]);
        }
    })
    .await;
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[ab/.! +%-]{1,6}", "[a-c]{1,2}/[a-c]{0,2}", "\\PC{1,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn both_list_any_keys_alike(
        keys in prop::collection::btree_set(key(), 1..20),
        prefix in prop::sample::select(vec!["", "a", "a/", "b/"]),
        limit in 1u16..6,
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        runtime.block_on(async {
            let (memory, s3) = (Bucket::memory(), Bucket::s3().await);
            for key in &keys {
                memory.put(key, b"x", &[]);
                s3.put(key, b"x", &[]);
            }
            for depth in [Depth::Directory, Depth::Tree] {
                let expected = listed(&*memory.store(), prefix, depth, limit).await;
                prop_assert_eq!(listed(&*s3.store(), prefix, depth, limit).await, expected);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_key_of_blanks_is_a_key_like_any_other() {
    on_both(|bucket| async move {
        let store = bucket.store();
        for key in [" ", "\t", "\r", "\u{a0}", "\u{2003}", " \u{85}"] {
            let absent = store.head(key).await.expect_err(key);
            assert!(matches!(absent, StoreError::NotFound { .. }), "{key:?}: {absent:?}");
            let etag = put(&*store, key, b"body", WriteIf::Absent).await.expect(key);
            assert_eq!(fetched(&*store, key, Condition::Always).await.expect(key).1, "body");
            assert_eq!(store.tags(key).await.expect(key), []);
            let (to, condition) = ("\u{3000}", WriteIf::Always);
            store
                .copy(CopyRequest { from: key, etag: &etag, to, headers: None, condition })
                .await
                .expect(key);
            assert_eq!(store.head("\u{3000}").await.expect("copied").size, 4);
            let id = store.begin_upload(key, &Headers::default(), &[]).await.expect(key);
            store.abort_upload(Upload { key, id: &id }).await.expect(key);
            assert_eq!(listed(&*store, key, Depth::Tree, 10).await.0, [key]);
            store.delete(key, WriteIf::Always).await.expect(key);
        }
        let keys = listed(&*store, "", Depth::Tree, 100).await.0;
        assert_eq!(keys, ["\u{3000}"]);
    })
    .await;
}

#[tokio::test]
async fn a_key_or_prefix_of_any_length_ends_nothing() {
    let url = hostile::serve(&[], |_| None).await;
    let (store, long) = (s3_client(&url).await, "k".repeat(100_000));
    let error = store.head(&long).await.expect_err("too long");
    assert!(matches!(error, StoreError::KeyTooLong { .. }), "{error:?}");
    let list = List { prefix: &long, depth: Depth::Tree, from: ListStart::Start, limit: 10 };
    assert_eq!(store.list(list).await.expect("nothing can be there"), Default::default());
}

/// Reads bytes 4 to 9 of version `"e"` of `key`.
async fn read_part(url: &str, key: &str) -> Result<Bytes, StoreError> {
    let condition = Condition::Unchanged(ETag("\"e\"".into()));
    let fetch = Fetch { key, range: Some(4..10), condition, version_id: None };
    let Fetched::Content { mut body, .. } = s3_client(url).await.fetch(fetch).await? else {
        panic!("not modified")
    };
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

fn part(range: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("{headers}content-range: bytes {range}\r\n");
    Answer::new("206 Partial Content", &headers, body.as_bytes())
}

#[tokio::test]
async fn bytes_that_were_not_asked_for_are_no_answer() {
    let url = hostile::serve(&[("good", "0123456789abcdef"), ("short", "0123456")], |request| {
        let other = STAMP.replace("\"e\"", "\"f\"");
        let length = "content-length: 6\r\ntransfer-encoding: chunked\r\n";
        Some(match request.path.strip_prefix("/bucket/")? {
            "later" => part("5-10/16", STAMP, "56789a"),
            "first" => part("0-5/16", STAMP, "012345"),
            "more" => part("4-10/16", STAMP, "456789a"),
            "less" => part("4-8/16", STAMP, "45678"),
            "ends" => part("4-9/10995116277760000", STAMP, "456789"),
            "lies" => part("4-9/16", STAMP, "45678"),
            "whole" => Answer::new("200 OK", STAMP, b"0123456789abcdef"),
            "unsaid" => Answer::new("206 Partial Content", STAMP, b"456789"),
            "backwards" => part("9-4/16", STAMP, "456789"),
            "etag" => part("4-9/16", &other, "456789"),
            "none" => part("4-9/16", "", "456789"),
            "created" => Answer::new("201 Created", STAMP, b"456789"),
            "chunks" => Answer::raw(format!(
                "HTTP/1.1 206 X\r\n{STAMP}content-range: bytes 4-9/16\r\n{length}\r\n7\r\n456789a\r\n0\r\n\r\n"
            )),
            _ => return None,
        })
    })
    .await;
    assert_eq!(read_part(&url, "good").await.expect("as asked"), "456789");
    assert_eq!(read_part(&url, "short").await.expect("cut at its end"), "456");
    let error = read_part(&url, "etag").await.expect_err("another version");
    assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
    for key in [
        "later",
        "first",
        "more",
        "less",
        "ends",
        "lies",
        "whole",
        "unsaid",
        "backwards",
        "none",
        "created",
        "chunks",
    ] {
        let error = read_part(&url, key).await.expect_err(key);
        let StoreError::Malformed { reason } = &error else { panic!("{key}: {error:?}") };
        assert!(reason.contains(&url), "{key}: {reason}");
    }
}

#[tokio::test]
async fn a_whole_object_answers_a_range_that_it_lies_in() {
    let url = hostile::serve(&[], |_| Some(Answer::new("200 OK", STAMP, b"0123"))).await;
    let store = s3_client(&url).await;
    let (_, body) = fetched(&store, "a", Condition::Always).await.expect("the same bytes");
    assert_eq!(body, "0123");
}

#[tokio::test]
async fn a_size_that_s3_does_not_have_is_not_believed() {
    const LARGEST: &str = "53687091200000";
    let url = hostile::serve(&[], |request| {
        if request.path == "/bucket/" {
            let sizes = ["-1", "53687091200001", "9223372036854775807", LARGEST];
            return Some(Answer::page(&sizes.map(|size| contents(&format!("s{size}"), size)).concat()));
        }
        let size = request.path.strip_prefix("/bucket/")?;
        Some(Answer::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n{STAMP}\r\n")))
    })
    .await;
    let store = s3_client(&url).await;
    assert_eq!(store.head(LARGEST).await.expect("as large as may be").size.to_string(), LARGEST);
    for size in ["53687091200001", "9223372036854775807"] {
        let error = store.head(size).await.expect_err(size);
        assert!(matches!(&error, StoreError::Malformed { reason } if reason.contains(size)), "{error:?}");
        let fetch = Fetch { key: size, range: None, condition: Condition::Always, version_id: None };
        assert!(matches!(store.fetch(fetch).await, Err(StoreError::Malformed { .. })));
    }
    let list = List { prefix: "", depth: Depth::Tree, from: ListStart::Start, limit: 10 };
    let page = store.list(list).await.expect("one size is not the page");
    let seen: Vec<_> = page.objects.iter().map(|object| (object.size, &*object.etag.0)).collect();
    assert_eq!(seen, [(0, ""), (0, ""), (0, ""), (53_687_091_200_000, "\"e\"")]);
}

/// Mebibytes that this process has taken at the most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

#[tokio::test]
async fn an_answer_without_end_takes_no_more_memory_than_an_honest_one() {
    let url = hostile::serve(&[], |request| {
        let query = &request.query;
        Some(match request.path.strip_prefix("/bucket/")? {
            "" if query.contains("prefix=keys") => Answer::endless("", LIST_HEAD, &contents("keys", "1")),
            "" if query.contains("prefix=tags") => Answer::endless("", LIST_HEAD, "<Contents/>"),
            "" if query.contains("prefix=blank") => Answer::endless("", "", " "),
            "" => Answer::page(&contents("many", "1").repeat(1_000_000)),
            "error" => Answer::endless("", "", "<Error>").with_status("403 Forbidden"),
            _ => Answer::endless(STAMP, "", "0123456789abcdef"),
        })
    })
    .await;
    let (store, before) = (s3_client(&url).await, peak());
    for prefix in ["keys", "tags", "blank", "many"] {
        let list = List { prefix, depth: Depth::Tree, from: ListStart::Start, limit: 1000 };
        let error = store.list(list).await.expect_err(prefix);
        assert!(matches!(error, StoreError::Malformed { .. }), "{prefix}: {error:?}");
    }
    for key in ["error", "object"] {
        let fetch = Fetch { key, range: None, condition: Condition::Always, version_id: None };
        let error = store.fetch(fetch).await.err().expect(key);
        assert!(matches!(error, StoreError::Malformed { .. }), "{key}: {error:?}");
    }
    let taken = peak() - before;
    assert!(taken < 400, "{taken} MiB");
}

#[tokio::test]
async fn a_page_that_cannot_follow_is_no_page() {
    let url = hostile::serve(&[], |request| {
        let next = |token: &str| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
        };
        let prefix = request.query.split('&').find_map(|pair| pair.strip_prefix("prefix="))?;
        Some(Answer::page(&match prefix {
            "later" if request.query.contains("continuation-token=u") => contents("later", "1"),
            "later" => next("u"),
            "same" => next("t") + &contents("same", "1"),
            "endless" => next(&"t".repeat(100_000)) + &contents("endless", "1"),
            "half" => {
                return Some(Answer::new(
                    "200 OK",
                    "",
                    (LIST_HEAD.to_owned() + "<Contents><Key>half").as_bytes(),
                ));
            }
            "none" => format!("<IsTruncated>true</IsTruncated>{}", contents("none", "1")),
            "more" => contents("more", "1").repeat(1001),
            "other" => contents("else", "1"),
            _ => contents("good", "1").repeat(10),
        }))
    })
    .await;
    let store = s3_client(&url).await;
    let list = |prefix| List { prefix, depth: Depth::Tree, from: ListStart::Page("t"), limit: 10 };
    assert_eq!(store.list(list("good")).await.expect("a page").objects.len(), 10);
    // A page without keys says nothing of what follows.
    assert_eq!(store.list(list("later")).await.expect("a page").objects.len(), 1);
    for prefix in ["same", "endless", "half", "none", "more", "other"] {
        let error = store.list(list(prefix)).await.expect_err(prefix);
        assert!(matches!(error, StoreError::Malformed { .. }), "{prefix}: {error:?}");
    }
}

#[tokio::test]
async fn headers_that_are_no_text_do_not_make_an_object_unreadable() {
    let url = hostile::serve(&[], |_| Some(Answer::raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: \"e\"\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
          x-amz-meta-mode: 33152\r\nx-amz-meta-author: Andr\xe9\r\nx-amz-meta-place: Z\xc3\xbcrich\r\n\
          x-amz-meta-title: =?UTF-8?B?w6k=?=\r\n\r\n",
    )))
    .await;
    let object = s3_client(&url).await.head("a").await.expect("readable");
    let metadata: BTreeMap<_, _> = object.metadata.iter().cloned().collect();
    assert_eq!(metadata["mode"], "33152");
    assert_eq!(metadata["author"], "Andr\u{fffd}");
    assert_eq!(metadata["place"], "Z\u{fc}rich");
    assert_eq!(metadata["title"], "=?UTF-8?B?w6k=?=");
    assert_eq!(object.version.etag, ETag("\"e\"".into()));
}

fn headers(metadata: &[(&str, &str)]) -> Headers {
    let metadata = metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Headers { content_type: Some("text/plain".into()), metadata, ..Headers::default() }
}

async fn put(
    store: &dyn ObjectStore,
    key: &str,
    body: &'static [u8],
    condition: WriteIf,
) -> Result<ETag, StoreError> {
    let (body, headers) = (Bytes::from_static(body), headers(&[("mode", "33188")]));
    let written = store.put(Put { key, body, headers: &headers, tags: &[], condition }).await?;
    Ok(written.etag)
}

#[tokio::test]
async fn what_is_put_is_there_with_all_its_headers_and_tags() {
    on_both(|bucket| async move {
        let store = bucket.store();
        let kept = Kept {
            cache_control: Some("max-age=9".into()),
            content_disposition: Some("inline".into()),
            content_encoding: Some("gzip".into()),
            content_language: Some("de".into()),
            expires: Some("Wed, 21 Oct 2015 07:28:00 GMT".into()),
            storage_class: Some("STANDARD_IA".into()),
            tags: 2,
            ..Kept::default()
        };
        let headers = Headers { kept: Box::new(kept), ..headers(&[("mode", "33188"), ("xattr", "%7B%7D")]) };
        let tags = [("a b".to_string(), "c/d&e".to_string()), ("x".to_string(), String::new())];
        let body = Bytes::from_static(b"body");
        let put =
            Put { key: "d/a +%\u{e9}", body, headers: &headers, tags: &tags, condition: WriteIf::Always };
        let written = store.put(put).await.expect("written");
        let found = store.head("d/a +%\u{e9}").await.expect("there");
        assert_eq!((found.size, &found.version.etag), (4, &written.etag));
        assert_eq!((&found.content_type, &found.kept), (&headers.content_type, &headers.kept));
        let sorted = |mut metadata: Vec<(String, String)>| {
            metadata.sort();
            metadata
        };
        assert_eq!(sorted(found.metadata), sorted(headers.metadata.clone()));
        assert_eq!(sorted(store.tags("d/a +%\u{e9}").await.expect("there")), tags);
        let etag = &written.etag;
        for (to, with) in [("b \u{e9}", Some(&Headers::default())), ("c", None)] {
            let condition = WriteIf::Always;
            let copy = CopyRequest { from: "d/a +%\u{e9}", etag, to, headers: with, condition };
            store.copy(copy).await.expect("copied");
            let copied = store.head(to).await.expect("there");
            assert_eq!(copied.metadata.is_empty(), with.is_some());
            assert_eq!((copied.size, copied.kept.tags), (4, 2));
        }
    })
    .await;
}

#[tokio::test]
async fn a_write_whose_condition_does_not_hold_changes_nothing() {
    on_both(|bucket| async move {
        let store = bucket.store();
        let first = put(&*store, "a", b"one", WriteIf::Absent).await.expect("absent");
        let second = put(&*store, "a", b"two", WriteIf::Unchanged(first.clone())).await.expect("unchanged");
        for condition in [WriteIf::Absent, WriteIf::Unchanged(first.clone())] {
            let error = put(&*store, "a", b"three", condition.clone()).await.expect_err("refused");
            assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
            let (etag, to) = (&second, "a");
            let copy = CopyRequest { from: "a", etag, to, headers: Some(&Headers::default()), condition };
            assert!(matches!(store.copy(copy).await, Err(StoreError::Changed { .. })));
        }
        let error = store.delete("a", WriteIf::Unchanged(first.clone())).await.expect_err("refused");
        assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
        let error =
            put(&*store, "absent", b"x", WriteIf::Unchanged(first.clone())).await.expect_err("absent");
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
        let copy =
            CopyRequest { from: "a", etag: &first, to: "b", headers: None, condition: WriteIf::Always };
        assert!(matches!(store.copy(copy).await, Err(StoreError::Changed { .. })));
        let copy =
            CopyRequest { from: "absent", etag: &first, to: "b", headers: None, condition: WriteIf::Always };
        assert!(matches!(store.copy(copy).await, Err(StoreError::NotFound { .. })));
        assert_eq!(fetched(&*store, "a", Condition::Always).await.expect("there").1, "two");
        store.delete("a", WriteIf::Unchanged(second)).await.expect("deleted");
        store.delete("a", WriteIf::Always).await.expect("gone is gone");
        assert!(matches!(store.head("a").await, Err(StoreError::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn metadata_beyond_two_kilobytes_is_refused_by_name() {
    on_both(|bucket| async move {
        let store = bucket.store();
        let headers = headers(&[("a", &"x".repeat(2100))]);
        let (body, condition) = (Bytes::new(), WriteIf::Always);
        let put = Put { key: "a", body, headers: &headers, tags: &[], condition };
        assert!(matches!(store.put(put).await, Err(StoreError::MetadataTooLarge { .. })));
    })
    .await;
}

#[tokio::test]
async fn an_upload_in_parts_is_invisible_until_it_is_complete() {
    on_both(|bucket| async move {
        let store = bucket.store();
        let old: Vec<u8> = (0..6 << 20).map(|at: u32| (at / 251) as u8).collect();
        bucket.put("a", &old, &[]);
        let base = store.head("a").await.expect("there").version.etag;
        let headers = headers(&[("mode", "33188")]);
        let id = store.begin_upload("a", &headers, &[("t".into(), "1".into())]).await.expect("begun");
        let upload = Upload { key: "a", id: &id };
        let wrong = ETag("\"0123456789abcdef0123456789abcdef\"".into());
        let part = PartOf { from: "a", etag: &wrong, range: 0..5 << 20 };
        assert!(matches!(store.copy_part(upload, 2, part).await, Err(StoreError::Changed { .. })));
        let part = PartOf { from: "a", etag: &base, range: 1..(5 << 20) + 1 };
        let second = store.copy_part(upload, 2, part).await.expect("copied");
        store.put_part(upload, 1, Bytes::from(vec![1; 5 << 20])).await.expect("sent");
        let first = store.put_part(upload, 1, Bytes::from(vec![9; 5 << 20])).await.expect("sent again");
        let third = store.put_part(upload, 7, Bytes::from_static(b"end")).await.expect("sent");
        assert_eq!(store.head("a").await.expect("there").version.etag, base);
        let parts = [(1, first), (2, second), (7, third)];
        let refused = store.complete_upload(upload, &parts, WriteIf::Absent).await.expect_err("there is one");
        assert!(matches!(refused, StoreError::Changed { .. }), "{refused:?}");
        let condition = WriteIf::Unchanged(base);
        let written = store.complete_upload(upload, &parts, condition.clone()).await.expect("complete");
        let found = store.head("a").await.expect("there");
        assert_eq!((found.size, found.version.etag, found.kept.tags), ((10 << 20) + 3, written.etag, 1));
        let again = store.complete_upload(upload, &parts, condition).await.expect_err("it is over");
        assert!(matches!(again, StoreError::NoUpload { .. }), "{again:?}");
        let id = store.begin_upload("a", &headers, &[]).await.expect("begun");
        let upload = Upload { key: "a", id: &id };
        store.abort_upload(upload).await.expect("aborted");
        store.abort_upload(upload).await.expect("gone is gone");
        let error = store.put_part(upload, 1, Bytes::new()).await.expect_err("aborted");
        assert!(matches!(error, StoreError::NoUpload { .. }), "{error:?}");
    })
    .await;
}

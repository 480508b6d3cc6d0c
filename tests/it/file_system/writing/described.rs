//! Headers that describe the bytes, or the name: they go with what they describe, and all others stay.

use std::time::Duration;

use bucketfs::store::write::{Headers, Kept, Put, WriteIf};
use bytes::Bytes;

use super::{header, stored};
use crate::file_system::common::{Bucket, Mounted};

/// An object as another tool leaves it: packed, archived, with a sum of its bytes.
async fn put(bucket: &Bucket, key: &str, content_type: &str, class: &str) {
    let metadata = [("md5chksum", "x"), ("sha256", "y"), ("s3cmd-attrs", "md5:z"), ("author", "me")];
    let metadata = metadata.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let kept = Kept {
        content_encoding: Some("gzip".into()),
        cache_control: Some("max-age=9".into()),
        storage_class: Some(class.into()),
        ..Kept::default()
    };
    let headers = Headers { content_type: Some(content_type.into()), metadata, kept: Box::new(kept) };
    let (body, condition) = (Bytes::from_static(b"packed"), WriteIf::Always);
    bucket.store().put(Put { key, body, headers: &headers, tags: &[], condition }).await.expect("written");
}

async fn unbelieving(bucket: Bucket) -> Mounted {
    Mounted::with(bucket, |options| (options.read_only, options.freshness) = (false, Duration::ZERO)).await
}

async fn said(bucket: &Bucket, key: &str) -> [String; 5] {
    let object = bucket.store().head(key).await.expect("there");
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let sums = ["md5chksum", "sha256", "s3cmd-attrs", "author"].map(|name| header(&object, name)).concat();
    let kept = &object.kept;
    [
        sums,
        text(&kept.content_encoding),
        text(&kept.storage_class),
        text(&kept.cache_control),
        text(&object.content_type),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_bytes_goes_with_them() {
    for bucket in [Bucket::memory(), Bucket::s3().await] {
        let world = unbelieving(bucket).await;
        for (key, class) in [("a.json", "GLACIER"), ("b.json", "DEEP_ARCHIVE"), ("c.json", "STANDARD_IA")] {
            put(&world.bucket, key, "application/json", class).await;
            let before = said(&world.bucket, key).await;
            world.sh(&format!("chmod 600 {key}; setfattr -n user.own -v o {key}; touch {key}")).await;
            assert_eq!(said(&world.bucket, key).await, before, "only its headers were changed");
            assert_eq!(world.sh(&format!("getfattr --only-values -n user.sha256 {key}")).await, "y");
            world.sh(&format!("echo plain > new; cp new {key}")).await;
            let class = if class == "STANDARD_IA" { class } else { "" };
            assert_eq!(said(&world.bucket, key).await, ["me", "", class, "max-age=9", "application/json"]);
            world.sh(&format!("echo more >> {key}; chmod 644 {key}")).await;
            assert_eq!(said(&world.bucket, key).await[0], "me");
            assert!(
                world.fails(&format!("getfattr -n user.sha256 {key}")).await.contains("No such attribute")
            );
            assert_eq!(world.sh(&format!("getfattr --only-values -n user.own {key}")).await, "o");
        }
        // Of what is only changed, the rest is as packed as it was.
        put(&world.bucket, "d.json", "application/json", "STANDARD_IA").await;
        world.sh("echo more >> d.json").await;
        assert_eq!(said(&world.bucket, "d.json").await[..2], ["me", "gzip"]);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_the_name_gave_is_that_of_the_new_name() {
    let world = unbelieving(Bucket::memory()).await;
    world.sh("echo {} > x.tmp; mv x.tmp x.json; echo {} > y.json; mv y.json y.json~; mkdir d").await;
    world.sh("exec 3> z.tmp; echo {} >&3; mv z.tmp d/z.json; echo {} >&3; exec 3>&-").await;
    put(&world.bucket, "own.tmp", "text/x-own", "STANDARD_IA").await;
    put(&world.bucket, "foreign.tmp", "binary/octet-stream", "STANDARD_IA").await;
    world.sh("mv own.tmp own.json; mv foreign.tmp foreign.json").await;
    let content_type = async |key: &str| stored(&world.bucket, key).await.expect(key).0.content_type;
    for (key, expected) in [
        ("x.json", "application/json"),
        ("y.json~", "application/octet-stream"),
        ("d/z.json", "application/json"),
        ("own.json", "text/x-own"),
        ("foreign.json", "application/json"),
    ] {
        assert_eq!(content_type(key).await.as_deref(), Some(expected), "{key}");
    }
    world.end().await;
}

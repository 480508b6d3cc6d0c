//! PUT and DELETE.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Delete, ObjectIdentifier, StorageClass};

use super::world::{World, refusal};

const HELLO_MD5: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

pub async fn headers_and_metadata_come_back(w: &World) {
    let put = w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from_static(b"x"));
    put.content_type("text/x-map")
        .cache_control("max-age=60")
        .content_encoding("gzip")
        .content_disposition("attachment; filename=\"a\"")
        .content_language("de")
        .metadata("mode", "33188")
        .metadata("Upper-Name", "Kept As It Is")
        .send()
        .await
        .unwrap();
    let got = w.s3.get_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert_eq!(got.content_type(), Some("text/x-map"));
    assert_eq!(got.cache_control(), Some("max-age=60"));
    assert_eq!(got.content_encoding(), Some("gzip"));
    assert_eq!(got.content_disposition(), Some("attachment; filename=\"a\""));
    assert_eq!(got.content_language(), Some("de"));
    let head = w.s3.head_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert_eq!(head.content_type(), Some("text/x-map"));
    assert_eq!(got.metadata(), head.metadata());
    let metadata = head.metadata().unwrap();
    assert_eq!(metadata.len(), 2);
    assert_eq!((metadata["mode"].as_str(), metadata["upper-name"].as_str()), ("33188", "Kept As It Is"));
}

pub async fn the_tag_is_the_md5_of_what_was_put(w: &World) {
    assert_eq!(w.put("a", "hello").await, HELLO_MD5);
    let listed = w.s3.list_objects_v2().bucket(&w.bucket).send().await.unwrap();
    assert_eq!(listed.contents()[0].e_tag(), Some(HELLO_MD5));
}

pub async fn a_put_replaces_everything(w: &World) {
    let put = w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from_static(b"long content"));
    let first = put.metadata("old", "1").send().await.unwrap().e_tag.unwrap();
    let second = w.put("a", "short").await;
    assert_ne!(first, second);
    let got = w.s3.get_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert!(got.metadata().is_none_or(|metadata| metadata.is_empty()), "{:?}", got.metadata());
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"short");
}

pub async fn a_put_can_insist_on_absence(w: &World) {
    let put = || w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from_static(b"x"));
    put().if_none_match("*").send().await.unwrap();
    assert_eq!(refusal(put().if_none_match("*").send().await), (412, "PreconditionFailed".into()));
    w.s3.delete_object().bucket(&w.bucket).key("a").send().await.unwrap();
    put().if_none_match("*").send().await.unwrap();
}

pub async fn of_many_writers_that_insist_on_absence_one_wins(w: &World) {
    let put = |number: u8| {
        let put = w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from(vec![number]));
        put.if_none_match("*").send()
    };
    let puts = futures::future::join_all((0..16).map(put)).await;
    let winners: Vec<_> = puts.iter().enumerate().filter(|(_, put)| put.is_ok()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(w.read("a").await, [winners[0].0 as u8]);
}

pub async fn a_put_can_insist_on_a_version(w: &World) {
    let tag = w.put("a", "one").await;
    let put = |text: &'static str| {
        w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from_static(text.as_bytes()))
    };
    put("three").if_match(&tag).send().await.unwrap();
    assert_eq!(refusal(put("lost").if_match(&tag).send().await), (412, "PreconditionFailed".into()));
    assert_eq!(w.read("a").await, b"three");
    let absent = w.s3.put_object().bucket(&w.bucket).key("absent").if_match(&tag).send().await;
    assert_eq!(refusal(absent), (404, "NoSuchKey".into()));
}

pub async fn a_wrong_content_md5_is_refused(w: &World) {
    let put = |md5: &str| {
        let body = ByteStream::from_static(b"hello");
        w.s3.put_object().bucket(&w.bucket).key("a").body(body).content_md5(md5)
    };
    put("XUFAKrxLKna5cZ2REBfFkg==").send().await.unwrap();
    let wrong = put("AAAAAAAAAAAAAAAAAAAAAA==").send().await;
    assert_eq!(refusal(wrong), (400, "BadDigest".into()));
    assert_eq!(refusal(put("nonsense").send().await), (400, "InvalidDigest".into()));
}

pub async fn a_checksum_comes_back(w: &World) {
    let put = w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from_static(b"hello"));
    put.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    let head = w.s3.head_object().bucket(&w.bucket).key("a").checksum_mode(ChecksumMode::Enabled);
    let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    assert_eq!(head.send().await.unwrap().checksum_sha256(), Some(sha256));
}

pub async fn the_checksum_of_a_streamed_body_comes_after_it(w: &World) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; 300_000]).unwrap();
    let body = ByteStream::read_from().path(file.path()).buffer_size(4096).build().await.unwrap();
    let put = w.s3.put_object().bucket(&w.bucket).key("a").body(body);
    put.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.unwrap();
    let head = w.s3.head_object().bucket(&w.bucket).key("a").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!((head.checksum_crc32(), head.content_encoding()), (Some("TdILRA=="), None));
    assert_eq!(w.read("a").await, vec![7; 300_000]);
}

pub async fn a_wrong_checksum_is_refused(w: &World) {
    let put = || w.s3.put_object().bucket(&w.bucket).key("a").body(ByteStream::from_static(b"hello"));
    put().checksum_crc32("NhCmhg==").send().await.unwrap();
    assert_eq!(refusal(put().checksum_crc32("AAAAAA==").send().await), (400, "BadDigest".into()));
}

pub async fn a_storage_class_is_kept_and_listed(w: &World) {
    for (key, class) in [("a", StorageClass::StandardIa), ("b", StorageClass::Standard)] {
        w.s3.put_object().bucket(&w.bucket).key(key).storage_class(class).send().await.unwrap();
    }
    let head = |key: &str| w.s3.head_object().bucket(&w.bucket).key(key).send();
    assert_eq!(head("a").await.unwrap().storage_class(), Some(&StorageClass::StandardIa));
    assert_eq!(head("b").await.unwrap().storage_class(), None);
    let listed = w.s3.list_objects_v2().bucket(&w.bucket).send().await.unwrap();
    let classes: Vec<_> =
        listed.contents().iter().map(|object| object.storage_class().unwrap().as_str()).collect();
    assert_eq!(classes, ["STANDARD_IA", "STANDARD"]);
}

pub async fn tags_come_back(w: &World) {
    let put = w.s3.put_object().bucket(&w.bucket).key("a").tagging("owner=gis%20team&stage=test");
    put.send().await.unwrap();
    let tags = w.s3.get_object_tagging().bucket(&w.bucket).key("a").send().await.unwrap();
    let mut tags: Vec<_> = tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect();
    tags.sort_unstable();
    assert_eq!(tags, [("owner", "gis team"), ("stage", "test")]);
    let got = w.s3.get_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert_eq!(got.tag_count(), Some(2));
}

pub async fn what_is_deleted_is_gone_and_deleting_again_is_success(w: &World) {
    w.put("a", "x").await;
    for _ in 0..2 {
        w.s3.delete_object().bucket(&w.bucket).key("a").send().await.unwrap();
    }
    assert_eq!(refusal(w.s3.head_object().bucket(&w.bucket).key("a").send().await).0, 404);
    assert!(w.keys().await.is_empty());
}

pub async fn a_delete_can_insist_on_a_version(w: &World) {
    let old = w.put("a", "one").await;
    let new = w.put("a", "other").await;
    let delete = |tag: &str| w.s3.delete_object().bucket(&w.bucket).key("a").if_match(tag).send();
    assert_eq!(refusal(delete(&old).await), (412, "PreconditionFailed".into()));
    assert_eq!(w.read("a").await, b"other");
    delete(&new).await.unwrap();
    assert!(w.keys().await.is_empty());
}

pub async fn many_keys_are_deleted_at_once(w: &World) {
    let keys = ["a", "b & <c>", "kept"];
    for key in keys {
        w.put(key, "x").await;
    }
    let object = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
    let delete = Delete::builder().objects(object("a")).objects(object("b & <c>")).objects(object("absent"));
    let delete = delete.build().unwrap();
    let done = w.s3.delete_objects().bucket(&w.bucket).delete(delete).send().await.unwrap();
    assert_eq!((done.deleted().len(), done.errors().len()), (3, 0));
    assert_eq!(w.keys().await, ["kept"]);
}

pub async fn of_many_keys_those_that_changed_are_not_deleted(w: &World) {
    w.put("a", "x").await;
    let tag = w.put("b", "x").await;
    let object = |key: &str, tag: &str| ObjectIdentifier::builder().key(key).e_tag(tag).build().unwrap();
    let delete = Delete::builder().objects(object("a", "\"0123\"")).objects(object("b", &tag));
    let delete = delete.build().unwrap();
    let done = w.s3.delete_objects().bucket(&w.bucket).delete(delete).send().await.unwrap();
    let errors: Vec<_> = done.errors().iter().map(|error| (error.key(), error.code())).collect();
    assert_eq!(errors, [(Some("a"), Some("PreconditionFailed"))]);
    assert_eq!(w.keys().await, ["a"]);
}

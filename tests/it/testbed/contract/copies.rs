//! Copies: how a file system renames, and how it changes mode, owner and times.

use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::MetadataDirective;

use super::world::{World, refusal};

/// `bucket/key` as the header of a copy wants it.
fn source(bucket: &str, key: &str) -> String {
    let mut text = format!("{bucket}/");
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(byte as char)
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn copy(w: &World, from: &str, to: &str) -> CopyObjectFluentBuilder {
    w.s3.copy_object().bucket(&w.bucket).key(to).copy_source(source(&w.bucket, from))
}

async fn put(w: &World, key: &str) -> String {
    let put = w.s3.put_object().bucket(&w.bucket).key(key).body(ByteStream::from_static(b"content"));
    put.content_type("text/x-map").metadata("mode", "33188").send().await.unwrap().e_tag.unwrap()
}

async fn mode_and_type(w: &World, key: &str) -> (Option<String>, Option<String>) {
    let head = w.s3.head_object().bucket(&w.bucket).key(key).send().await.unwrap();
    let mode = head.metadata().and_then(|metadata| metadata.get("mode").cloned());
    (mode, head.content_type)
}

pub async fn a_copy_takes_metadata_along(w: &World) {
    put(w, "a").await;
    let copied = copy(w, "a", "dir/b").metadata("mode", "ignored").send().await.unwrap();
    assert_eq!(w.read("dir/b").await, b"content");
    assert_eq!(mode_and_type(w, "dir/b").await, (Some("33188".into()), Some("text/x-map".into())));
    let result = copied.copy_object_result.unwrap();
    let head = w.s3.head_object().bucket(&w.bucket).key("dir/b").send().await.unwrap();
    assert_eq!(result.e_tag(), head.e_tag());
    assert_eq!(result.last_modified(), head.last_modified());
}

pub async fn a_copy_keeps_the_tag(w: &World) {
    let tag = put(w, "a").await;
    let copied = copy(w, "a", "b").send().await.unwrap();
    assert_eq!(copied.copy_object_result.unwrap().e_tag, Some(tag));
}

pub async fn a_copy_can_replace_metadata(w: &World) {
    put(w, "a").await;
    let copy = copy(w, "a", "b").metadata_directive(MetadataDirective::Replace);
    copy.metadata("mode", "33060").content_type("text/plain").send().await.unwrap();
    assert_eq!(mode_and_type(w, "b").await, (Some("33060".into()), Some("text/plain".into())));
    assert_eq!(mode_and_type(w, "a").await, (Some("33188".into()), Some("text/x-map".into())));
}

pub async fn a_copy_onto_itself_must_change_something(w: &World) {
    put(w, "a").await;
    assert_eq!(refusal(copy(w, "a", "a").send().await), (400, "InvalidRequest".into()));
}

pub async fn a_copy_onto_itself_replaces_metadata_and_not_content(w: &World) {
    let tag = put(w, "a").await;
    let copy = copy(w, "a", "a").metadata_directive(MetadataDirective::Replace).copy_source_if_match(&tag);
    copy.metadata("mode", "33060").content_type("text/plain").send().await.unwrap();
    assert_eq!(mode_and_type(w, "a").await, (Some("33060".into()), Some("text/plain".into())));
    let got = w.s3.get_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert_eq!(got.e_tag(), Some(tag.as_str()));
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"content");
}

pub async fn a_copy_can_insist_on_the_version_of_its_source(w: &World) {
    let tag = put(w, "a").await;
    copy(w, "a", "b").copy_source_if_match(&tag).send().await.unwrap();
    let wrong = copy(w, "a", "c").copy_source_if_match("\"0123\"").send().await;
    assert_eq!(refusal(wrong), (412, "PreconditionFailed".into()));
    assert_eq!(refusal(w.s3.head_object().bucket(&w.bucket).key("c").send().await).0, 404);
}

pub async fn a_copy_can_insist_on_the_absence_of_its_target(w: &World) {
    put(w, "a").await;
    copy(w, "a", "b").if_none_match("*").send().await.unwrap();
    let refused = copy(w, "a", "b").if_none_match("*").send().await;
    assert_eq!(refusal(refused), (412, "PreconditionFailed".into()));
}

pub async fn a_copy_of_a_multipart_object_is_an_object_in_one_piece(w: &World) {
    let id = super::multipart::create(w, "a").await;
    let parts = vec![super::multipart::part(w, "a", &id, 1, b"hello".to_vec()).await];
    super::multipart::complete(w, "a", &id, parts).send().await.unwrap();
    let copied = copy(w, "a", "b").send().await.unwrap();
    let tag = copied.copy_object_result.unwrap().e_tag.unwrap();
    assert_eq!(tag, "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(w.read("b").await, b"hello");
}

pub async fn nothing_cannot_be_copied(w: &World) {
    assert_eq!(refusal(copy(w, "absent", "c").send().await), (404, "NoSuchKey".into()));
    assert_eq!(refusal(w.s3.head_object().bucket(&w.bucket).key("c").send().await).0, 404);
}

pub async fn a_copy_can_come_from_another_bucket(w: &World) {
    let other = format!("{}-other", w.bucket);
    w.s3.create_bucket().bucket(&other).send().await.unwrap();
    put(w, "a").await;
    let copy = w.s3.copy_object().bucket(&other).key("b").copy_source(source(&w.bucket, "a"));
    copy.send().await.unwrap();
    let got = w.s3.get_object().bucket(&other).key("b").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"content");
}

pub async fn a_copy_of_a_strange_key_finds_its_source(w: &World) {
    for key in ["a b", "a+b", "a%20b", "é/漢.map", "q?versionId=1"] {
        put(w, key).await;
        let to = format!("copies/{key}");
        copy(w, key, &to).send().await.unwrap();
        assert_eq!(w.read(&to).await, b"content", "{key}");
    }
}

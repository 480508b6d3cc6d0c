//! GET and HEAD.

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::world::{World, refusal};

pub async fn what_was_put_is_read_back(w: &World) {
    let tag = w.put("dir/a", "hello").await;
    let got = w.s3.get_object().bucket(&w.bucket).key("dir/a").send().await.unwrap();
    assert_eq!(got.e_tag(), Some(tag.as_str()));
    assert_eq!(got.content_length(), Some(5));
    assert_eq!(got.accept_ranges(), Some("bytes"));
    assert_eq!(got.content_range(), None);
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"hello");
    let head = w.s3.head_object().bucket(&w.bucket).key("dir/a").send().await.unwrap();
    assert_eq!((head.e_tag(), head.content_length()), (Some(tag.as_str()), Some(5)));
}

pub async fn a_key_that_is_not_there_is_not_found(w: &World) {
    w.put("dir/a", "x").await;
    for key in ["nothing", "dir", "dir/a/", "dir/a/b"] {
        let got = w.s3.get_object().bucket(&w.bucket).key(key).send().await;
        assert_eq!(refusal(got), (404, "NoSuchKey".into()), "{key}");
        assert_eq!(refusal(w.s3.head_object().bucket(&w.bucket).key(key).send().await).0, 404, "{key}");
    }
}

pub async fn a_missing_bucket_is_told_from_a_missing_key(w: &World) {
    let got = w.s3.get_object().bucket("no-such-bucket").key("k").send().await;
    assert_eq!(refusal(got), (404, "NoSuchBucket".into()));
    assert_eq!(refusal(w.s3.head_bucket().bucket("no-such-bucket").send().await).0, 404);
    let listed = w.s3.list_objects_v2().bucket("no-such-bucket").send().await;
    assert_eq!(refusal(listed), (404, "NoSuchBucket".into()));
    w.s3.head_bucket().bucket(&w.bucket).send().await.unwrap();
}

pub async fn a_directory_object_is_an_object_of_zero_bytes(w: &World) {
    let put = w.s3.put_object().bucket(&w.bucket).key("dir/").metadata("mode", "16877");
    let tag = put.send().await.unwrap().e_tag.unwrap();
    let head = w.s3.head_object().bucket(&w.bucket).key("dir/").send().await.unwrap();
    assert_eq!((head.content_length(), head.e_tag()), (Some(0), Some(tag.as_str())));
    assert_eq!(head.metadata().unwrap()["mode"], "16877");
    assert!(w.read("dir/").await.is_empty());
    assert_eq!(refusal(w.s3.head_object().bucket(&w.bucket).key("dir").send().await).0, 404);
}

pub async fn ranges_are_served_and_clipped_to_the_object(w: &World) {
    w.put("a", "0123456789").await;
    for (range, text, shown) in [
        ("bytes=2-5", "2345", "bytes 2-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
        ("bytes=-40", "0123456789", "bytes 0-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
        ("bytes=0-0", "0", "bytes 0-0/10"),
    ] {
        let got = w.s3.get_object().bucket(&w.bucket).key("a").range(range).send().await.unwrap();
        assert_eq!(got.content_range(), Some(shown));
        assert_eq!(got.content_length(), Some(text.len() as i64), "{range}");
        assert_eq!(got.body.collect().await.unwrap().to_vec(), text.as_bytes(), "{range}");
    }
    let head = w.s3.head_object().bucket(&w.bucket).key("a").range("bytes=2-5").send().await.unwrap();
    assert_eq!(head.content_length(), Some(4));
}

pub async fn a_range_beyond_the_end_is_refused(w: &World) {
    w.put("a", "0123456789").await;
    w.put("empty", "").await;
    for (key, range) in [("a", "bytes=10-"), ("a", "bytes=10-20"), ("empty", "bytes=0-5")] {
        let got = w.s3.get_object().bucket(&w.bucket).key(key).range(range).send().await;
        assert_eq!(refusal(got), (416, "InvalidRange".into()), "{key} {range}");
    }
}

pub async fn conditional_reads_send_only_what_is_new(w: &World) {
    let tag = w.put("a", "hello").await;
    let get = || w.s3.get_object().bucket(&w.bucket).key("a");
    let modified = get().send().await.unwrap().last_modified.unwrap();
    let earlier = DateTime::from_secs(modified.secs() - 10);

    assert_eq!(refusal(get().if_none_match(&tag).send().await).0, 304);
    assert_eq!(refusal(get().if_modified_since(modified).send().await).0, 304);
    assert_eq!(refusal(get().if_match("\"0123\"").send().await), (412, "PreconditionFailed".into()));
    assert_eq!(refusal(get().if_unmodified_since(earlier).send().await), (412, "PreconditionFailed".into()));

    get().if_match(&tag).send().await.unwrap();
    get().if_none_match("\"0123\"").send().await.unwrap();
    get().if_modified_since(earlier).send().await.unwrap();
    get().if_unmodified_since(modified).send().await.unwrap();
    get().if_match(&tag).range("bytes=1-1").send().await.unwrap();

    let head = || w.s3.head_object().bucket(&w.bucket).key("a");
    assert_eq!(refusal(head().if_none_match(&tag).send().await).0, 304);
    assert_eq!(refusal(head().if_match("\"0123\"").send().await).0, 412);
}

pub async fn strange_keys_are_keys_like_any_other(w: &World) {
    let keys = ["a//b", "/leading", "/", "//", "a/./b", "a/../b", "..", "trailing//", "dir/", "dir"];
    for key in keys {
        w.put(key, format!("content of {key}")).await;
    }
    for key in keys {
        assert_eq!(w.read(key).await, format!("content of {key}").as_bytes(), "{key}");
        w.s3.head_object().bucket(&w.bucket).key(key).send().await.unwrap();
    }
}

pub async fn keys_are_decoded_once(w: &World) {
    let keys =
        ["a b", "a+b", "a%20b", "a%2Fb", "é/ü 漢字.map", "q?x=1&y#z", "semi;colon=,@:$!*'()[]", "~._-"];
    for key in keys {
        w.put(key, format!("content of {key}")).await;
    }
    for key in keys {
        assert_eq!(w.read(key).await, format!("content of {key}").as_bytes(), "{key}");
    }
    assert_eq!(w.keys().await.iter().filter(|key| keys.contains(&key.as_str())).count(), keys.len());
}

pub async fn last_modified_has_whole_seconds(w: &World) {
    w.put("a", "x").await;
    let head = w.s3.head_object().bucket(&w.bucket).key("a").send().await.unwrap();
    let listed = w.s3.list_objects_v2().bucket(&w.bucket).send().await.unwrap();
    let in_list = listed.contents()[0].last_modified().unwrap();
    assert_eq!(in_list.subsec_nanos(), 0);
    assert_eq!(head.last_modified(), Some(in_list));
    in_list.fmt(DateTimeFormat::HttpDate).unwrap();
}

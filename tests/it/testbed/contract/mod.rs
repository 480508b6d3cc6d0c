//! What an S3 server is to a file system: one contract, held against every server that the tests rely on.
//!
//! The same claims run against our server in memory, against our server over a directory as far as a directory can
//! be a bucket, and against moto and Ceph's gateway, which others wrote after the real S3. Where one is known to differ
//! from S3 the claim and the reason are in [`MOTO_DIFFERS`] or [`RGW_DIFFERS`], and nowhere else.

mod copies;
mod listings;
mod multipart;
mod reads;
mod versions;
pub mod world;
mod writes;

use self::world::{Kind, World};

/// Claims that moto does not meet, with what it does instead. The claim is S3's documented behaviour in each case.
const MOTO_DIFFERS: &[(&str, &str)] = &[
    ("writes::a_wrong_content_md5_is_refused", "does not look at Content-MD5"),
    ("writes::a_wrong_checksum_is_refused", "keeps what it is told"),
    ("writes::of_many_keys_those_that_changed_are_not_deleted", "deletes them all"),
    ("copies::a_copy_can_insist_on_the_version_of_its_source", "does not look at x-amz-copy-source-if-match"),
    ("copies::a_copy_can_insist_on_the_absence_of_its_target", "does not look at If-None-Match of a copy"),
    (
        "listings::both_lists_agree_on_every_page_of_keys_and_prefixes",
        "version 1 does not count prefixes into max-keys",
    ),
    ("multipart::a_part_cannot_be_copied_from_beyond_the_end", "copies what there is"),
    ("multipart::an_aborted_upload_is_unknown", "answers 500"),
    ("multipart::parts_are_listed_page_by_page", "names the root of its answer ListPartsResponse"),
    ("multipart::parts_out_of_order_are_refused", "takes them in any order"),
    ("versions::a_delete_marker_cannot_be_read", "answers 404"),
];

/// Claims that Ceph's gateway (16.2) does not meet, with what it does instead.
const RGW_DIFFERS: &[(&str, &str)] = &[
    ("reads::last_modified_has_whole_seconds", "a list has fractions"),
    ("writes::a_put_can_insist_on_a_version", "compares the tag with what comes without its quotes"),
    ("writes::a_checksum_comes_back", "keeps none"),
    ("writes::the_checksum_of_a_streamed_body_comes_after_it", "knows no trailers"),
    ("writes::a_wrong_checksum_is_refused", "keeps none"),
    ("writes::a_storage_class_is_kept_and_listed", "knows only classes that were set up"),
    ("writes::a_delete_can_insist_on_a_version", "does not look at If-Match of a deletion"),
    ("writes::of_many_keys_those_that_changed_are_not_deleted", "deletes them all"),
    ("copies::a_copy_takes_metadata_along", "names the tag without its quotes"),
    ("copies::a_copy_keeps_the_tag", "names the tag without its quotes"),
    ("copies::a_copy_can_insist_on_the_version_of_its_source", "does not look at x-amz-copy-source-if-match"),
    ("copies::a_copy_can_insist_on_the_absence_of_its_target", "does not look at If-None-Match of a copy"),
    ("copies::a_copy_of_a_multipart_object_is_an_object_in_one_piece", "keeps the tag of the parts"),
    ("listings::a_delimiter_rolls_keys_up", "times in a list have fractions"),
    ("multipart::the_tag_of_a_multipart_object_counts_its_parts", "a completion names no tag"),
    ("multipart::a_part_can_be_copied_from_a_range_of_an_object", "wants Content-Length: 0"),
    ("multipart::a_completion_can_insist_on_absence", "does not look at If-None-Match of a completion"),
    ("multipart::parts_out_of_order_are_refused", "takes them in any order"),
    ("versions::a_delete_marker_cannot_be_read", "answers 404"),
    ("versions::a_copy_can_bring_an_old_version_back", "does not say the version of the copy"),
];

/// Claims that need keys or features that a directory cannot have.
const DIRECTORY_LACKS: &[(&str, &str)] = &[
    ("reads::strange_keys_are_keys_like_any_other", "empty segments"),
    ("writes::the_tag_is_the_md5_of_what_was_put", "tags are made from the file and not from its bytes"),
    ("writes::a_storage_class_is_kept_and_listed", "the list does not open every file"),
    ("copies::a_copy_keeps_the_tag", "tags are made from the file and not from its bytes"),
    (
        "copies::a_copy_of_a_multipart_object_is_an_object_in_one_piece",
        "tags are made from the file and not from its bytes",
    ),
    ("copies::a_copy_can_come_from_another_bucket", "there is one bucket"),
    ("listings::strange_keys_are_listed_in_byte_order_and_encoded_on_demand", "empty segments"),
    ("listings::a_directory_object_alone_is_listed", "its parents are keys too"),
    ("multipart::the_tag_of_a_multipart_object_counts_its_parts", "tags are made from the file"),
    ("versions::a_deleted_object_is_still_there_by_its_version", "no versions"),
    ("versions::a_delete_marker_cannot_be_read", "no versions"),
    ("versions::versions_are_listed_newest_first_page_by_page", "no versions"),
    ("versions::a_copy_can_bring_an_old_version_back", "no versions"),
];

macro_rules! claims {
    ($($module:ident { $($claim:ident),* $(,)? })*) => {
        /// Runs one claim by its name.
        async fn check(claim: &str, world: &World) {
            match claim {
                $($(concat!(stringify!($module), "::", stringify!($claim)) => $module::$claim(world).await,)*)*
                unknown => panic!("no claim {unknown:?}"),
            }
        }

        const CLAIMS: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($claim)),)*)*];
    };
}

claims! {
    reads {
        what_was_put_is_read_back,
        a_key_that_is_not_there_is_not_found,
        a_missing_bucket_is_told_from_a_missing_key,
        a_directory_object_is_an_object_of_zero_bytes,
        ranges_are_served_and_clipped_to_the_object,
        a_range_beyond_the_end_is_refused,
        conditional_reads_send_only_what_is_new,
        strange_keys_are_keys_like_any_other,
        keys_are_decoded_once,
        last_modified_has_whole_seconds,
    }
    writes {
        headers_and_metadata_come_back,
        the_tag_is_the_md5_of_what_was_put,
        a_put_replaces_everything,
        a_put_can_insist_on_absence,
        of_many_writers_that_insist_on_absence_one_wins,
        a_put_can_insist_on_a_version,
        a_wrong_content_md5_is_refused,
        a_checksum_comes_back,
        the_checksum_of_a_streamed_body_comes_after_it,
        a_wrong_checksum_is_refused,
        a_storage_class_is_kept_and_listed,
        tags_come_back,
        what_is_deleted_is_gone_and_deleting_again_is_success,
        a_delete_can_insist_on_a_version,
        many_keys_are_deleted_at_once,
        of_many_keys_those_that_changed_are_not_deleted,
    }
    copies {
        a_copy_takes_metadata_along,
        a_copy_keeps_the_tag,
        a_copy_can_replace_metadata,
        a_copy_onto_itself_must_change_something,
        a_copy_onto_itself_replaces_metadata_and_not_content,
        a_copy_can_insist_on_the_version_of_its_source,
        a_copy_can_insist_on_the_absence_of_its_target,
        a_copy_of_a_multipart_object_is_an_object_in_one_piece,
        nothing_cannot_be_copied,
        a_copy_can_come_from_another_bucket,
        a_copy_of_a_strange_key_finds_its_source,
    }
    listings {
        an_empty_bucket_lists_nothing,
        a_delimiter_rolls_keys_up,
        a_list_pages_over_prefixes_and_keys_in_order,
        both_lists_agree_on_every_page_of_keys,
        both_lists_agree_on_every_page_of_keys_and_prefixes,
        a_list_can_start_after_a_key,
        a_directory_object_alone_is_listed,
        no_keys_on_demand,
        strange_keys_are_listed_in_byte_order_and_encoded_on_demand,
    }
    multipart {
        parts_become_an_object_in_the_order_of_their_numbers,
        the_tag_of_a_multipart_object_counts_its_parts,
        a_part_can_be_copied_from_a_range_of_an_object,
        a_part_cannot_be_copied_from_beyond_the_end,
        an_aborted_upload_leaves_nothing,
        an_aborted_upload_is_unknown,
        open_uploads_are_listed,
        parts_are_listed_page_by_page,
        a_completion_can_insist_on_absence,
        parts_that_are_wrong_are_refused,
        parts_out_of_order_are_refused,
    }
    versions {
        a_deleted_object_is_still_there_by_its_version,
        a_delete_marker_cannot_be_read,
        versions_are_listed_newest_first_page_by_page,
        a_copy_can_bring_an_old_version_back,
    }
}

/// Holds every claim against a server. One that is excepted must fail: an exception that is no longer needed goes.
async fn check_all(kind: Kind, except: &[(&str, &str)]) {
    for (claim, _) in except {
        assert!(CLAIMS.contains(claim), "{claim:?} is excepted and does not exist");
    }
    let server = world::Running::start(kind).await;
    let (mut broken, mut needless) = (Vec::new(), Vec::new());
    for claim in CLAIMS {
        let world = server.world(claim).await;
        let held = tokio::spawn(async move { check(claim, &world).await }).await.is_ok();
        match (held, except.iter().any(|(excepted, _)| excepted == claim)) {
            (false, false) => broken.push(*claim),
            (true, true) => needless.push(*claim),
            _ => {}
        }
    }
    server.stop().await;
    assert!(broken.is_empty(), "{kind:?} does not hold: {broken:#?}");
    assert!(needless.is_empty(), "{kind:?} holds although excepted: {needless:#?}");
}

#[tokio::test]
async fn our_server_in_memory_holds_the_contract() {
    check_all(Kind::Memory, &[]).await;
}

#[tokio::test]
async fn our_server_over_a_directory_holds_the_contract() {
    check_all(Kind::Directory, DIRECTORY_LACKS).await;
}

#[tokio::test]
async fn moto_holds_the_contract() {
    check_all(Kind::Moto, MOTO_DIFFERS).await;
}

#[tokio::test]
async fn the_gateway_of_ceph_holds_the_contract() {
    check_all(Kind::Rgw, RGW_DIFFERS).await;
}

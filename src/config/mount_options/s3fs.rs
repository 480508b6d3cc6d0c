//! What each option of s3fs (1.80 to 1.97) and of the FUSE library below it becomes here.

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Treatment {
    /// We have the same thing under this key.
    SameAs(&'static str),
    /// It has no meaning here, and nobody misses it.
    Ignored(&'static str),
    /// It changes what is read or who may read it, so it must not be passed over.
    Refused(&'static str),
    /// Every mode is 0777 without these bits.
    Umask,
    /// Seconds that attributes are believed.
    CacheExpiry,
    /// Where temporary files are.
    TemporaryDirectory,
    /// How the store encrypts what is written.
    Encryption,
    /// An older word for a storage class.
    ReducedRedundancy,
    /// Credentials of the instance or the task.
    Role,
}

use Treatment::{
    CacheExpiry, Encryption, Ignored, ReducedRedundancy, Refused, Role, SameAs, TemporaryDirectory, Umask,
};

const WRITES: &str = "how writes are sent follows their size";
const MEMORY: &str = "`memory` bounds all caches and buffers, and requests in flight follow the readers";
const PATIENCE: &str = "requests are repeated until their deadline, which is seconds and not minutes";
const CACHE: &str = "what is cached is bounded by `memory` and as fresh as `freshness` says";
const DISK: &str = "nothing is cached on disk in this version, see `disk_cache`";
const ALWAYS: &str = "it is always so";
const LOG: &str = "the level of the log is in the variable MAPKEEPER_LOG";
const ANSWERS: &str = "directories are recognised in every form, without asking more";
const KERNEL: &str = "it is negotiated with the kernel";
const TLS: &str = "certificates are always checked against the trust store of the system";
const SIGNING: &str = "requests are signed with version 4";

/// Options with what becomes of them; between two names stands a space.
const OPTIONS: &[(&str, Treatment)] = &[
    ("url host", SameAs("endpoint_url")),
    ("endpoint", SameAs("region")),
    ("use_path_request_style", SameAs("path_style")),
    ("umask", Umask),
    ("stat_cache_expire", CacheExpiry),
    ("iam_role ecs", Role),
    ("allow_other", Ignored("every user may read the mount as the modes of its files say")),
    ("mp_umask", Ignored("the mount point has `dir_mode`")),
    ("nonempty", Ignored("a mount point that is not empty is refused")),
    ("default_permissions", Ignored(ALWAYS)),
    ("complement_stat compat_dir notsup_compat_dir", Ignored(ANSWERS)),
    ("listobjectsv2", Ignored(ALWAYS)),
    ("listobjectsv1", Ignored("listings use version 2 of the call")),
    ("list_object_max_keys", Ignored("a page of a listing has 1000 keys")),
    ("max_stat_cache_size", Ignored(MEMORY)),
    ("stat_cache_interval_expire enable_noobj_cache disable_noobj_cache", Ignored(CACHE)),
    ("enable_negative_cache disable_negative_cache", Ignored(CACHE)),
    ("use_cache check_cache_dir_exist del_cache ensure_diskfree free_space_ratio", Ignored(DISK)),
    ("fake_diskfree", Ignored(DISK)),
    ("tmpdir", TemporaryDirectory),
    ("set_check_cache_sigusr1", Ignored(DISK)),
    ("multireq_max parallel_count max_thread_count", Ignored(MEMORY)),
    ("retries connect_timeout readwrite_timeout", Ignored(PATIENCE)),
    ("multipart_size multipart_copy_size multipart_threshold singlepart_copy_limit", Ignored(WRITES)),
    ("max_dirty_data nomultipart streamupload nomixupload nocopyapi norenameapi", Ignored(WRITES)),
    ("use_sse", Encryption),
    ("use_rrs", ReducedRedundancy),
    ("default_acl", SameAs("acl")),
    ("enable_content_md5 enable_unsigned_payload", Ignored("every write carries a checksum")),
    ("mime", Ignored("the type of a new object follows its name, by a list of its own")),
    (
        "update_parent_dir_stat",
        Ignored("a directory shows when something in it changed, and does not store it"),
    ),
    ("hard_remove", Ignored("a removed file that is open stays readable, and no hidden copy of it is made")),
    ("use_xattr", Ignored("extended attributes are always shown, and set where the mount is written")),
    ("dbglevel d debug curldbg", Ignored(LOG)),
    ("f", Ignored("the mount stays in the foreground")),
    ("no_time_stamp_msg", Ignored(LOG)),
    ("logfile", Ignored("the log goes to standard error or the journal")),
    ("instance_name", Ignored("the log names the mount by `name`")),
    ("bucket_size", Ignored("a bucket has no size to show")),
    ("sigv2 sigv4", Ignored(SIGNING)),
    ("noxmlns", Ignored("answers are read with and without name spaces")),
    ("noua", Ignored("requests name the program that sends them")),
    ("nodnscache", Ignored("names are looked up for each new connection")),
    ("nosscache", Ignored("TLS sessions are resumed where the server allows it")),
    ("no_check_certificate ssl_verify_hostname", Ignored(TLS)),
    ("cipher_suites", Ignored("the suites are those of TLS 1.2 and 1.3 without known weakness")),
    ("ipresolve", Ignored("addresses are tried in the order of the resolver")),
    ("imdsv1only", Ignored("the instance is asked by version 2 of its metadata service")),
    ("use_session_token", Ignored("a session token is used where there is one")),
    ("big_writes max_read max_write max_readahead max_background congestion_threshold", Ignored(KERNEL)),
    ("async_read sync_read large_read", Ignored(KERNEL)),
    ("kernel_cache auto_cache direct_io entry_timeout attr_timeout negative_timeout", Ignored(CACHE)),
    ("noforget", Ignored(CACHE)),
    ("use_ino readdir_ino", Ignored(KERNEL)),
    ("fsname", Ignored("the mount table shows the source")),
    ("subtype", Ignored("the mount table shows the type mapkeeper")),
    ("auto_unmount intr", Ignored(ALWAYS)),
    ("allow_root", Refused("every user may read the mount as the modes of its files say")),
    ("bucket", Refused("name the bucket as SOURCE")),
    ("servicepath", Refused("put the path into endpoint_url")),
    ("public_bucket", Refused("requests are always signed, so credentials are needed")),
    ("requester_pays", Refused("requests do not offer to pay")),
    ("load_sse_c", Refused("objects encrypted with a key of the customer cannot be read")),
    ("ssl_client_cert", Refused("there is no client certificate")),
    ("proxy proxy_cred_file", Refused("S3 is asked directly")),
    ("credlib credlib_opts", Refused("credentials come from the AWS default chain or passwd_file")),
    ("ibm_iam_auth", Refused("credentials come from the AWS default chain or passwd_file")),
    ("ibm_iam_endpoint", Refused("credentials come from the AWS default chain or passwd_file")),
    ("ahbe_conf", Refused("requests carry no headers of the user")),
    ("use_wtf8", Refused("names are shown as they are in the bucket")),
];

fn options() -> impl Iterator<Item = (&'static str, Treatment)> {
    OPTIONS.iter().flat_map(|(names, treatment)| names.split(' ').map(|name| (name, *treatment)))
}

/// What becomes of the option `name`; `None` when s3fs has no such option.
pub(super) fn treatment(name: &str) -> Option<Treatment> {
    options().find(|(known, _)| *known == name).map(|(_, treatment)| treatment)
}

/// The names of all options.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    options().map(|(name, _)| name)
}

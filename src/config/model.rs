//! The configuration as plain data: a type for each section of the table of settings, and the values with parts.
//!
//! What must hold: a value that exists has been checked; nothing here reads or asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::choice::{CannedAcl, Escalate, Expect, OnConflict, Owner};
use super::container::{Bind, Port, Selector};
use super::table::settings;

macro_rules! types {
    ($(
        $(#[$about:meta])+
        $section:ident $prefix:literal { $($(#[$doc:meta])+ $field:ident: $type:ty { $($how:tt)+ })+ } $rule:tt
    )+) => { $(
        $(#[$about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $section {
            $($(#[$doc])+ pub $field: $type,)+
        }
    )+ };
}

settings!(types);

impl Config {
    /// Everything that is set, accepted and checked, and that this version does not act on.
    pub fn notices(&self) -> Vec<String> {
        let cached = self.mounts.iter().enumerate().filter(|(_, mount)| mount.disk_cache > 0);
        cached
            .map(|(number, _)| format!("`mount[{number}].disk_cache` has no effect in this version"))
            .collect()
    }
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `s3://bucket[/prefix]`
    S3 {
        /// A name by the rules of S3.
        bucket: String,
        /// The part of the bucket that is shown: empty, or a key prefix that ends in `/`.
        prefix: String,
    },
    /// `nfs://host/export`
    Nfs {
        /// Host name or address of the server.
        host: String,
        /// Absolute path of the export.
        export: String,
    },
    /// `efs://fs-id[/path]`
    Efs {
        /// File system id, `fs-...`, or the value of its tag `Name`.
        id: String,
        /// Absolute path inside the file system; `/` is all of it.
        path: String,
    },
    /// `external:`: somebody else mounts it, mapkeeper supervises it.
    External,
}

impl fmt::Display for Source {
    /// The text of the configuration: `s3://bucket/maps`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::S3 { bucket, prefix } if prefix.is_empty() => write!(out, "s3://{bucket}"),
            Source::S3 { bucket, prefix } => {
                write!(out, "s3://{bucket}/{}", prefix.strip_suffix('/').unwrap_or(prefix))
            }
            Source::Nfs { host, export } => write!(out, "nfs://{host}{export}"),
            Source::Efs { id, path } if path == "/" => write!(out, "efs://{id}"),
            Source::Efs { id, path } => write!(out, "efs://{id}{path}"),
            Source::External => write!(out, "external:"),
        }
    }
}

/// How the store encrypts an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sse {
    /// As S3 calls it: `AES256`, `aws:kms`, `aws:kms:dsse`.
    pub algorithm: &'static str,
    /// Id, ARN or alias of a KMS key; without one AWS's own.
    pub key: Option<String>,
}

impl fmt::Display for Sse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.algorithm)?;
        self.key.iter().try_for_each(|key| write!(out, ":{key}"))
    }
}

/// Where the files of an overlay and its `manifest.toml` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    Bucket {
        bucket: String,
        /// Empty, or a key prefix that ends in `/`.
        prefix: String,
    },
    Directory(PathBuf),
}

impl fmt::Display for Overlay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overlay::Bucket { bucket, prefix } => {
                let (bucket, prefix) = (bucket.clone(), prefix.clone());
                Source::S3 { bucket, prefix }.fmt(out)
            }
            Overlay::Directory(path) => write!(out, "{}", path.display()),
        }
    }
}

/// A resource of a CloudFormation stack, which waits for this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSignal {
    /// Its name.
    pub stack: String,
    /// The logical id in the template: letters and digits.
    pub resource: String,
}

impl fmt::Display for StackSignal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.stack, self.resource)
    }
}

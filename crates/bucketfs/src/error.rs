//! The one place where an errno is chosen.
//!
//! Everything below reports what happened; here it becomes the number that a reader of a file sees. What must
//! hold: "could not ask" is `EIO`, never `ENOENT`, because a program that is told a file does not exist acts on it.

use super::store::StoreError;

/// Why an operation on a file did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FsError {
    #[error("no such file or directory")]
    NotFound,
    #[error("not a directory")]
    NotDirectory,
    #[error("is a directory")]
    IsDirectory,
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// The number means nothing (any more), or names a version that is no longer there: look it up again.
    #[error("the file was replaced")]
    Stale,
    #[error("not a symbolic link")]
    NotSymlink,
    #[error("no such attribute")]
    NoAttribute,
    #[error("the file exists")]
    Exists,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("the directory holds only keys that no file name can stand for, such as {key:?}")]
    OnlyHidden { key: String },
    #[error("the file system cannot do that")]
    NotSupported,
    #[error("a value that makes no sense")]
    Invalid,
    #[error("the name is no text")]
    NotText,
    #[error("the file would be too large")]
    TooLarge,
    #[error("there is no room left to stage what is written")]
    NoRoom,
    #[error("extended attributes take more than the store's 2 KB")]
    TooManyAttributes,
    /// The opened version has been replaced by somebody else.
    #[error("the object was changed by somebody else since it was opened")]
    Lost,
    /// Nobody knows how much of it was done.
    #[error("processes have died with a request for it in hand")]
    Deadly,
    #[error("as many files are open for writing as this process may have")]
    TooManyOpen,
    /// Of the disk on which files are staged.
    #[error("cannot stage what is written")]
    Staging { errno: i32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<std::io::Error> for FsError {
    fn from(error: std::io::Error) -> FsError {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => FsError::NoRoom,
            Some(libc::EMFILE | libc::ENFILE) => FsError::TooManyOpen,
            errno => FsError::Staging { errno: errno.unwrap_or(libc::EIO) },
        }
    }
}

impl FsError {
    /// The errno by which the kernel is told.
    pub fn errno(&self) -> i32 {
        match self {
            FsError::NotFound => libc::ENOENT,
            FsError::NotDirectory => libc::ENOTDIR,
            FsError::IsDirectory => libc::EISDIR,
            FsError::NameTooLong => libc::ENAMETOOLONG,
            FsError::Stale => libc::ESTALE,
            FsError::NotSymlink => libc::EINVAL,
            FsError::NoAttribute => libc::ENODATA,
            FsError::Exists => libc::EEXIST,
            FsError::NotEmpty | FsError::OnlyHidden { .. } => libc::ENOTEMPTY,
            FsError::NotSupported => libc::EOPNOTSUPP,
            FsError::Invalid => libc::EINVAL,
            FsError::NotText => libc::EILSEQ,
            FsError::TooLarge => libc::EFBIG,
            FsError::NoRoom | FsError::TooManyAttributes => libc::ENOSPC,
            FsError::Lost => libc::ESTALE,
            // Not EMFILE: the limit is not that of the process that asks.
            FsError::TooManyOpen => libc::ENFILE,
            FsError::Staging { .. } | FsError::Deadly => libc::EIO,
            FsError::Store(error) => store_errno(error),
        }
    }
}

fn store_errno(error: &StoreError) -> i32 {
    match error {
        StoreError::NotFound { .. } => libc::ENOENT,
        StoreError::Denied { .. } => libc::EACCES,
        StoreError::Changed { .. } => libc::ESTALE,
        StoreError::Archived { .. } => libc::EREMOTE,
        StoreError::KeyTooLong { .. } => libc::ENAMETOOLONG,
        StoreError::Conflict { .. } => libc::EBUSY,
        StoreError::Unconditional { .. } => libc::EOPNOTSUPP,
        StoreError::TooLarge { .. } => libc::EFBIG,
        StoreError::MetadataTooLarge { .. } => libc::ENOSPC,
        StoreError::NoUpload { .. }
        | StoreError::RangeOutside { .. }
        | StoreError::NoBucket { .. }
        | StoreError::Credentials { .. }
        | StoreError::NoCredentials { .. }
        | StoreError::NoRegion { .. }
        | StoreError::WrongRegion { .. }
        | StoreError::Truncated { .. }
        | StoreError::Corrupt { .. }
        | StoreError::TimedOut(_)
        | StoreError::Unreachable { .. }
        | StoreError::Throttled { .. }
        | StoreError::Refused { .. }
        | StoreError::Malformed { .. }
        | StoreError::NotSent { .. } => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_an_answer_says_that_a_file_does_not_exist() {
        let absent = FsError::Store(StoreError::NotFound { key: "a".into() });
        assert_eq!(absent.errno(), libc::ENOENT);
        assert_eq!(FsError::NotFound.errno(), libc::ENOENT);
        for unasked in [
            StoreError::TimedOut(Duration::from_secs(1)),
            StoreError::Throttled { code: "SlowDown".into() },
            StoreError::NoBucket { bucket: "b".into() },
            StoreError::Credentials { code: "ExpiredToken".into(), skew: None },
        ] {
            assert_eq!(FsError::Store(unasked).errno(), libc::EIO);
        }
    }

    #[test]
    fn a_replaced_file_asks_to_be_looked_up_again() {
        assert_eq!(FsError::Store(StoreError::Changed { key: "a".into() }).errno(), libc::ESTALE);
    }

    #[test]
    fn each_refusal_has_its_own_number() {
        let numbers = [
            (FsError::NotDirectory, libc::ENOTDIR),
            (FsError::IsDirectory, libc::EISDIR),
            (FsError::NameTooLong, libc::ENAMETOOLONG),
            (FsError::NotSymlink, libc::EINVAL),
            (FsError::Deadly, libc::EIO),
            (FsError::OnlyHidden { key: "d//x".into() }, libc::ENOTEMPTY),
            (std::io::Error::from_raw_os_error(libc::EMFILE).into(), libc::ENFILE),
            (FsError::NoAttribute, libc::ENODATA),
            (FsError::Store(StoreError::Denied { what: "a".into(), code: "c".into() }), libc::EACCES),
            (FsError::Store(StoreError::Archived { key: "a".into() }), libc::EREMOTE),
            (FsError::Store(StoreError::KeyTooLong { key: "a".into() }), libc::ENAMETOOLONG),
            (FsError::Store(StoreError::Conflict { key: "a".into() }), libc::EBUSY),
            (FsError::Store(StoreError::Unconditional { key: "a".into() }), libc::EOPNOTSUPP),
        ];
        for (error, number) in numbers {
            assert_eq!(error.errno(), number, "{error}");
        }
    }
}

//! Settings whose value is one of some words.
//!
//! What must hold: what is read as a choice is shown as the same word.

use std::fmt;

/// Makes an enum of a choice, with the word of each.
macro_rules! choices {
    ($($(#[$about:meta])+ $choice:ident { $($(#[$doc:meta])+ $one:ident = $word:literal)+ })+) => { $(
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $choice {
            $($(#[$doc])+ $one,)+
        }

        impl $choice {
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            pub(super) fn of(word: &str) -> Option<$choice> {
                match word { $($word => Some($choice::$one),)+ _ => None }
            }
        }

        impl fmt::Display for $choice {
            /// The text of the configuration.
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self { $($choice::$one => $word),+ })
            }
        }
    )+ };
}

choices! {
    /// How far an instance goes that cannot be repaired.
    #[derive(Default)]
    Escalate {
        /// It says that it is not ready, and stays.
        #[default]
        Drain = "drain"
        /// It asks AWS whether it could end itself, says so, and stays.
        DryRun = "dry-run"
        /// It ends itself, so that its Auto Scaling group puts another in its place.
        Terminate = "terminate"
    }

    /// What happens to a write if somebody else was faster.
    OnConflict {
        /// It is an error, and what was written is kept on disk.
        Fail = "fail"
        /// The last one wins.
        Overwrite = "overwrite"
    }

    /// Who may read what is written, beside its owner.
    CannedAcl {
        /// Nobody.
        Private = "private"
        /// Everybody.
        PublicRead = "public-read"
        /// Everybody, who may write it too.
        PublicReadWrite = "public-read-write"
        /// Everybody with an AWS account.
        AuthenticatedRead = "authenticated-read"
        /// EC2, for the bundle of an AMI.
        AwsExecRead = "aws-exec-read"
        /// The owner of the bucket.
        BucketOwnerRead = "bucket-owner-read"
        /// The owner of the bucket, who may write it too.
        BucketOwnerFullControl = "bucket-owner-full-control"
    }

    /// Who creates a container.
    Owner {
        /// ECS starts it; mapkeeper watches it.
        Ecs = "ecs"
        /// mapkeeper creates it from the configuration.
        Mapkeeper = "mapkeeper"
    }

    /// What a good answer of a probe is.
    Expect {
        /// A WMS capabilities document or an image. A status of 200 proves nothing: MapServer says 200 to a broken map.
        Wms = "wms"
        /// Any status of 2xx or 3xx.
        Http = "http"
    }
}

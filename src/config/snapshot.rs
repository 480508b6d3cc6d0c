//! A checked configuration as bytes: what a process leaves to the next one, which may find its sources gone or wrong.
//!
//! What must hold: it goes into memory only, never to a disk, because values that were encrypted where they came from
//! are in it. Where a value was written is kept as the words that say so.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::loaded::Loaded;
use super::setting::KeyPath;
use super::source::{Entries, Entry, Origin};

/// Changes with what an older version would misread.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    entries: Vec<(KeyPath, Entry)>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

/// An [`Origin`] in its own words.
#[derive(Serialize, Deserialize)]
struct Words {
    text: String,
    secure: bool,
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Words { text: self.to_string(), secure: self.is_secure() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Origin, D::Error> {
        let Words { text, secure } = Words::deserialize(deserializer)?;
        Ok(Origin::Before { text, secure })
    }
}

impl Loaded {
    /// All of it, secrets as well; empty if it cannot be written so, from which nothing can be read.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|(path, entry)| (path.clone(), entry.clone())).collect();
        let tags = self.tags.clone();
        serde_json::to_vec(&Kept { format: FORMAT, entries, tags }).unwrap_or_default()
    }

    /// What [`to_bytes`](Loaded::to_bytes) has made; `None` for anything else, and for what this version finds wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Loaded> {
        let kept: Kept = serde_json::from_slice(bytes).ok().filter(|kept: &Kept| kept.format == FORMAT)?;
        let loaded = Loaded::checked(Entries::of(kept.entries), Vec::new()).ok()?;
        Some(Loaded { tags: kept.tags, ..loaded })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Layer, Origins};

    #[test]
    fn a_configuration_is_the_same_after_it_was_kept() {
        let text = "region = \"eu-west-1\"\n[[mount]]\nname = \"maps\"\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n\
                    [container]\nowner = \"ecs\"\nname = \"web\"\nports = [\"8080:80\"]\n[container.environment]\nA = \"b\"\n";
        let layer = Layer::toml(Path::new("/etc/c.toml"), text).expect("TOML");
        let mut loaded = Loaded::from_layers(vec![layer]).expect("valid");
        loaded.tags = Some(BTreeMap::from([("mapkeeper:mount.0.uid".to_owned(), "33".to_owned())]));
        let found = Loaded::from_bytes(&loaded.to_bytes()).expect("readable");
        assert_eq!((&found.config, &found.tags), (&loaded.config, &loaded.tags));
        assert_eq!(found.show(Origins::Shown), loaded.show(Origins::Shown));
    }

    #[test]
    fn what_was_encrypted_stays_unshown_after_it_was_kept() {
        let mut layer =
            Layer::toml(Path::new("c"), "[[mount]]\nname = \"a\"\nsource = \"s3://aaa\"\npath = \"/a\"\n")
                .expect("TOML");
        let path = KeyPath::default().with("region");
        layer.set(path, "eu-west-1", Origin::Parameter { name: "/maps/region".to_owned(), secure: true });
        let loaded = Loaded::from_layers(vec![layer]).expect("valid");
        let found = Loaded::from_bytes(&loaded.to_bytes()).expect("readable");
        assert_eq!(found.config.region.as_deref(), Some("eu-west-1"));
        assert!(!found.show(Origins::Shown).contains("eu-west-1"), "{}", found.show(Origins::Shown));
    }

    #[test]
    fn anything_else_is_no_configuration() {
        for bytes in [&b""[..], b"{}", b"{\"format\":2,\"entries\":[]}", b"{\"format\":1,\"entries\":[]}"] {
            assert!(Loaded::from_bytes(bytes).is_none(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}

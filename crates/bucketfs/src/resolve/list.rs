//! Listings of directories, for what they say of the directory and of the names in it.

use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{DirectoryProbe, listed_version, mount_is_gone};
use super::record::is_settled;
use crate::directory::Page;
use crate::inode::Facts;
use crate::listing::{Names, Open, Shown, names};
use crate::store::{Depth, List, ListStart, Listed, StoreError};
use crate::tree::{Tree, join};

impl Tree {
    /// Lists `directory` to see whether it is one, together with whoever is listing it already. If it is small,
    /// all its names are recorded.
    pub(crate) async fn list_directory(&self, directory: &Arc<str>) -> Result<DirectoryProbe, StoreError> {
        let (this, subject) = (self.this.clone(), directory.clone());
        let question = move |sent_at| async move {
            let tree = this.upgrade().ok_or_else(mount_is_gone)?;
            tree.listing(&subject, sent_at).await
        };
        self.listings.answer(directory, self.rules.freshness, self.runtime(), question).await.1
    }

    async fn listing(&self, directory: &str, sent_at: Instant) -> Result<DirectoryProbe, StoreError> {
        let limit = self.negative_cache().limit(directory, sent_at);
        let prefix = self.directory_prefix(directory);
        let list = List { prefix: &prefix, depth: Depth::Directory, from: ListStart::Start, limit };
        let page = self.store().list(list).await?;
        let exists = !page.objects.is_empty() || !page.prefixes.is_empty();
        let is_whole = page.next.is_none();
        let names = names(&prefix, page, Open::default(), &self.hidden);
        match is_whole {
            true => self.note_whole(directory, &names, exists, sent_at),
            false => self.negative_cache().keep_too_large(directory, sent_at),
        }
        if exists {
            let inos = self.record_names(directory, &names, sent_at);
            self.note_directory(directory, names.marker.as_ref(), sent_at);
            if let Some(ino) = self.table().find(directory).filter(|_| is_whole) {
                // Whoever lists it next need not ask again.
                self.keep_page(directory.into(), Page::whole(ino, names.shown, inos, sent_at).into());
            }
        }
        Ok(DirectoryProbe { sent_at, exists, is_whole, marker: names.marker })
    }

    /// Keeps that `names` are all of `directory`.
    pub(crate) fn note_whole(&self, directory: &str, names: &Names, exists: bool, asked: Instant) {
        // What is no directory is asked about by its own name, not by those below it.
        if exists || directory.is_empty() {
            self.negative_cache().keep(directory, names.shown.iter().map(|(name, _)| &**name), asked);
        }
    }

    /// Records the names of a page of `directory` and answers their numbers, in the same order.
    pub(crate) fn record_names(&self, directory: &str, names: &Names, asked: Instant) -> Vec<u64> {
        if names.has_folder_keys {
            self.folder_keys_seen();
        }
        let mut table = self.table();
        let facts = |shown: &Shown| match shown {
            // Recorded when it was made; a listing does not show it.
            Shown::Unsent => Facts::default(),
            Shown::Directory => Facts::directory(),
            Shown::Object(listed) => {
                let settled = is_settled(listed.last_modified);
                Facts { alone: Some(asked), ..Facts::listed(listed_version(listed), listed.size, settled) }
            }
        };
        names
            .shown
            .iter()
            .map(|(name, shown)| table.record(&join(directory, name), facts(shown), asked))
            .collect()
    }

    /// Records that `directory` was listed and is one, and whether its marker is the one that is known.
    pub(crate) fn note_directory(&self, directory: &str, marker: Option<&Listed>, asked: Instant) {
        let mut table = self.table();
        let Some(ino) = table.find(directory) else { return };
        if let Some(node) = table.node_mut(ino)
            && node.facts.is_directory()
            && node.facts.version.is_none()
        {
            node.checked = node.checked.max(Some(asked));
            let known = node.facts.marker.as_ref().map(|known| (&known.etag, known.last_modified));
            let listed = marker.map(|listed| (&listed.etag, listed.last_modified));
            let is_same = known == listed && node.facts.settled && node.facts.attributes.is_some();
            // The marker of a bucket's root is not among what is listed in it.
            if !self.directory_prefix(directory).is_empty() {
                node.facts.marker_checked =
                    node.facts.marker_checked.filter(|_| is_same).max(is_same.then_some(asked));
            }
        }
        table.prove_above(ino, asked);
    }
}

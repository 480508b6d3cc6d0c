//! What a name or a number is: from memory while that is fresh, else from the store.
//!
//! What must hold: an answer is never older than `freshness` when the store answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::mount::{Entry, Looked, Tree};
use super::path::{join, parent_and_name};
use crate::attr::{self, Kind};
use crate::error::FsError;
use crate::inode::{Node, ROOT};
use crate::listing::NAME_MAX;
use crate::read::Content;
use crate::resolve::Answer;
use crate::store::{Depth, List, ListStart, StoreError};
use crate::xattr::Xattrs;

/// How often a name is asked for that changes while it is asked for.
const LOOKUPS: usize = 4;
/// How long the kernel may believe attributes that can never change: those of a version that was replaced.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

impl Tree {
    /// What the store says of the root: that it is reachable, and the root's own marker if there is one.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bucket from being listed.
    pub async fn prove(&self) -> Result<(), StoreError> {
        let list = List { prefix: &self.rules.prefix, depth: Depth::Tree, from: ListStart::Start, limit: 1 };
        let (listed, root) = futures::join!(self.store().list(list), self.ask_for_root());
        listed?;
        root
    }

    /// Answers from memory if what is known is fresh enough.
    pub fn lookup_now(&self, parent: u64, name: &str) -> Option<Result<Looked, FsError>> {
        let path = match self.child_path(parent, name) {
            Ok(path) => path,
            Err(error) => return Some(Err(error)),
        };
        let (directory, _) = parent_and_name(&path);
        let mut table = self.table();
        table.touch(parent);
        let known = table.named(&path).map(|(ino, node)| (ino, node.checked, self.fresh_entry(node, ino)));
        if let Some((ino, checked, Some(entry))) = known {
            self.remember(&mut table, ino);
            drop(table);
            if let Some(checked) = checked {
                self.ages.note(checked.elapsed());
                self.negative_cache().count_answer(directory, checked);
            }
            return Some(Ok(Looked::Found(entry)));
        }
        drop(table);
        let freshness = self.rules.freshness;
        let listed = self.negative_cache().absent_since(directory, name, Instant::now(), freshness)?;
        // Something was seen there since, and asked about by itself.
        if known.is_some_and(|(_, checked, _)| checked > Some(listed)) {
            return None;
        }
        self.table().record_absent(&path, listed);
        Some(Ok(Looked::Absent { valid_for: freshness.saturating_sub(listed.elapsed()) }))
    }

    /// What `name` in the directory `parent` is. What is found counts as told to the kernel once more.
    ///
    /// # Errors
    ///
    /// [`FsError::NameTooLong`]; [`FsError::Stale`] when `parent` is no number of ours; [`FsError::Store`] when
    /// the store neither answers nor is what was known young enough.
    pub async fn lookup(&self, parent: u64, name: &str) -> Result<Looked, FsError> {
        let path = self.child_path(parent, name)?;
        for _ in 0..LOOKUPS {
            let is_known = self.table().named(&path).is_some_and(|(_, node)| self.is_young(node));
            let Answer { found, sent_at } = match self.patiently(is_known, self.resolve(&path)).await {
                Ok(answer) => answer,
                Err(error) => return self.last_known(&path, error),
            };
            let age = sent_at.elapsed();
            self.ages.note(age);
            let valid_for = self.rules.freshness.saturating_sub(age);
            let Some(ino) = found else { return Ok(Looked::Absent { valid_for }) };
            let mut table = self.table();
            // A question that left later may have found something else meanwhile.
            if let Some(attributes) = table.node(ino).and_then(|node| node.facts.attributes.clone()) {
                self.remember(&mut table, ino);
                return Ok(Looked::Found(Entry { ino, attributes, valid_for }));
            }
        }
        Err(FsError::Stale)
    }

    /// Attributes of a number from memory, if what is known is fresh enough or can never change.
    pub fn attributes_now(&self, ino: u64) -> Option<Result<Entry, FsError>> {
        if ino == ROOT && !self.root_is_believed() {
            return None;
        }
        let table = self.table();
        let Some(node) = table.node(ino) else { return Some(Err(FsError::Stale)) };
        if table.find(&node.path) != Some(ino) && !node.facts.is_directory() {
            let attributes = node.facts.attributes.clone().ok_or(FsError::Stale);
            return Some(attributes.map(|attributes| Entry { ino, attributes, valid_for: FOR_EVER }));
        }
        self.fresh_entry(node, ino).map(Ok)
    }

    /// Attributes of a number.
    ///
    /// A file that is open or mapped keeps the attributes of its version although its name has moved on.
    ///
    /// # Errors
    ///
    /// [`FsError::Stale`] for no number of ours, or for a directory that is none any more.
    pub async fn attributes(&self, ino: u64) -> Result<Entry, FsError> {
        if ino == ROOT {
            return self.root_attributes().await;
        }
        let (path, is_known) = {
            let table = self.table();
            let node = table.node(ino).ok_or(FsError::Stale)?;
            (node.path.clone(), node.facts.attributes.is_some() && self.is_young(node))
        };
        let outcome = self.patiently(is_known, self.resolve(&path)).await;
        let table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        let attributes = node.facts.attributes.clone().ok_or(FsError::Stale)?;
        let valid_for = match outcome {
            Ok(Answer { found: Some(now), sent_at }) if now == ino => {
                self.rules.freshness.saturating_sub(sent_at.elapsed())
            }
            Ok(_) if node.facts.is_directory() => return Err(FsError::Stale),
            Ok(_) => Duration::ZERO,
            Err(error) => {
                self.believable(node, &error)?;
                Duration::ZERO
            }
        };
        Ok(Entry { ino, attributes, valid_for })
    }

    /// The root is what is mounted: an outage changes nothing about it.
    async fn root_attributes(&self) -> Result<Entry, FsError> {
        let asked = self.patiently(true, self.ask_for_root()).await;
        let table = self.table();
        let attributes = table.node(ROOT).and_then(|root| root.facts.attributes.clone());
        let valid_for = if asked.is_ok() { self.rules.freshness } else { Duration::ZERO };
        Ok(Entry { ino: ROOT, attributes: attributes.ok_or(FsError::Stale)?, valid_for })
    }

    /// The extended attributes of a number; asks only if they are not known or not fresh.
    ///
    /// # Errors
    ///
    /// As [`attributes`](Self::attributes).
    pub async fn xattrs(&self, ino: u64) -> Result<Xattrs, FsError> {
        match self.attributes_now(ino) {
            Some(known) => known?,
            None => self.attributes(ino).await?,
        };
        self.xattrs_known(ino)
    }

    /// The extended attributes of a number if [`attributes_now`](Self::attributes_now) answers.
    pub fn xattrs_now(&self, ino: u64) -> Option<Result<Xattrs, FsError>> {
        let known = self.attributes_now(ino)?;
        Some(known.and_then(|_| self.xattrs_known(ino)))
    }

    fn xattrs_known(&self, ino: u64) -> Result<Xattrs, FsError> {
        self.table().node(ino).map(|node| node.facts.xattrs.clone()).ok_or(FsError::Stale)
    }

    /// Where the bytes of a file come from.
    ///
    /// # Errors
    ///
    /// [`FsError::IsDirectory`]; [`FsError::Stale`] for no number of ours.
    pub fn content(&self, ino: u64) -> Result<Arc<Content>, FsError> {
        let mut table = self.table();
        let node = table.node_mut(ino).ok_or(FsError::Stale)?;
        if let Some(content) = &node.content {
            return Ok(content.clone());
        }
        let version = match &node.facts.version {
            Some(version) if !node.facts.is_directory() => version.clone(),
            _ => return Err(FsError::IsDirectory),
        };
        let key = format!("{}{}", self.rules.prefix, node.path);
        let content = Arc::new(Content::new(ino, key, version, node.facts.size, self.source.clone()));
        node.content = Some(content.clone());
        Ok(content)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    ///
    /// [`FsError::NotSymlink`]; whatever reading its body meets.
    pub async fn symlink_target(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        let (kind, size, target) = {
            let table = self.table();
            let facts = &table.node(ino).ok_or(FsError::Stale)?.facts;
            (facts.kind, facts.size, facts.target.clone())
        };
        if kind != Some(Kind::Symlink) {
            return Err(FsError::NotSymlink);
        }
        if let Some(target) = target {
            return Ok(target.to_vec());
        }
        let body = self.content(ino)?.read(0, size.min(attr::SYMLINK_MAX) as usize).await?;
        Ok(attr::symlink_target_body(&body).to_vec())
    }

    fn child_path(&self, parent: u64, name: &str) -> Result<Arc<str>, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let parent = self.directory_path(parent)?;
        Ok(join(&parent, name))
    }

    /// Falls back to what was known when the store cannot be asked.
    fn last_known(&self, path: &str, error: StoreError) -> Result<Looked, FsError> {
        let mut table = self.table();
        let Some((ino, node)) = table.named(path) else { return Err(error.into()) };
        self.believable(node, &error)?;
        self.ages.note(node.checked.map_or(Duration::ZERO, |checked| checked.elapsed()));
        let attributes = node.facts.attributes.clone().ok_or(error)?;
        self.remember(&mut table, ino);
        Ok(Looked::Found(Entry { ino, attributes, valid_for: Duration::ZERO }))
    }

    /// Whether what is known of a node may be served when the store cannot be asked.
    fn is_young(&self, node: &Node<Content>) -> bool {
        node.checked.is_some_and(|checked| checked.elapsed() < self.rules.max_stale)
    }

    fn believable(&self, node: &Node<Content>, error: &StoreError) -> Result<(), StoreError> {
        if error.is_outage() && self.is_young(node) { Ok(()) } else { Err(error.clone()) }
    }
}

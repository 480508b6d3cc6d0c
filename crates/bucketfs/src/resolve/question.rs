//! Questions about one name: which requests answer it, from what is known.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::answer::{Answer, KeyProbe, Outcome, RESOLVE_DEADLINE, mount_is_gone};
use crate::cache::BLOCK;
use crate::inode::Facts;
use crate::negative_cache::Advice;
use crate::single_flight::Role;
use crate::store::{Condition, StoreError, Version};
use crate::tree::{Tree, parent_and_name};

/// How long an object is believed to be the only thing of its name: only a listing tells of keys that have appeared
/// below it, and such a bucket is a mistake.
const ALONE_PATIENCE: Duration = Duration::from_secs(300);

impl Tree {
    /// Asks the store about `path`, together with whoever is asking already, and records the answer.
    pub(crate) async fn resolve(&self, path: &Arc<str>) -> Outcome {
        let freshness = self.rules.freshness;
        let asked = Instant::now();
        loop {
            let (this, subject) = (self.this.clone(), path.clone());
            let question = move |sent_at| async move {
                let tree = this.upgrade().ok_or_else(mount_is_gone)?;
                let answer = tokio::time::timeout(RESOLVE_DEADLINE, tree.question(&subject, sent_at)).await;
                let answer = answer.unwrap_or(Err(StoreError::TimedOut(RESOLVE_DEADLINE)));
                tree.availability().note(&answer);
                if let Ok(Answer { found: Some(ino), .. }) = answer {
                    tree.table().bear_witness(ino);
                }
                answer
            };
            let (role, answer) = self.questions.answer(path, freshness, self.runtime(), question).await;
            match answer {
                // What was joined may itself have joined an older question, once.
                Ok(Answer { sent_at, .. }) if role == Role::Follower && sent_at + freshness < asked => {}
                answer => return answer,
            }
        }
    }

    /// As [`ask`](Self::ask), by a question itself: boxed, because a future cannot hold one of its own kind.
    fn resolve_below<'a>(&'a self, path: &'a Arc<str>) -> BoxFuture<'a, Outcome> {
        self.resolve(path).boxed()
    }

    async fn question(&self, path: &Arc<str>, sent_at: Instant) -> Outcome {
        let known = self.table().named(path).map(|(ino, node)| (ino, node.facts.clone()));
        let (parent, _) = parent_and_name(path);
        let freshness = self.rules.freshness;
        let advice = self.negative_cache().advice(parent, known.is_none(), sent_at, freshness);
        if advice == Advice::List
            && let Some(answer) = self.by_listing(parent, path).await?
        {
            return Ok(answer);
        }
        let beside = (advice == Advice::AskAndList).then_some(parent);
        match known {
            Some((_, facts)) if facts.version.is_some() => {
                let answer = self.object(path, &facts, sent_at).await;
                self.even_if_unreadable(path, facts, sent_at, answer)
            }
            Some((ino, facts)) if facts.is_directory() => {
                self.known_directory(path, ino, &facts, sent_at).await
            }
            _ => self.discover(path, beside, sent_at).await,
        }
    }

    /// What a listing of `directory` says of `path` in it, if it says all that is wanted.
    async fn by_listing(&self, directory: &str, path: &str) -> Result<Option<Answer>, StoreError> {
        let seen = self.list_directory(&Arc::from(directory)).await?;
        if !seen.is_whole {
            return Ok(None);
        }
        let known = {
            let table = self.table();
            table.named(path).map(|(ino, node)| (ino, node.checked, self.fresh_entry(node, ino).is_some()))
        };
        let mut negative_cache = self.negative_cache();
        if let Some((ino, checked, is_fresh)) = known {
            let sent_at = checked.filter(|_| is_fresh);
            if let Some(sent_at) = sent_at {
                negative_cache.count_answer(directory, sent_at);
            }
            return Ok(sent_at.map(|sent_at| Answer { found: Some(ino), sent_at }));
        }
        let (_, name) = parent_and_name(path);
        // Only what the listing did not show is absent: the table may have had no room for it.
        let absent = negative_cache.absent_since(directory, name, Instant::now(), Duration::MAX);
        Ok(absent.map(|sent_at| Answer { found: None, sent_at }))
    }

    /// What the object known at `path` is now; and, once in a while, whether there is a directory of its name.
    async fn object(&self, path: &Arc<str>, known: &Facts, sent_at: Instant) -> Outcome {
        if known.alone.is_some_and(|seen| seen.elapsed() < ALONE_PATIENCE) {
            return self.object_itself(path, known, sent_at).await;
        }
        let (answer, seen) =
            futures::join!(self.object_itself(path, known, sent_at), self.list_directory(path));
        let seen = seen?;
        if seen.exists {
            return self.record_directory(path, seen).await;
        }
        let answer = answer?;
        self.note_alone(answer, sent_at);
        Ok(answer)
    }

    /// Whether the object known at `path` is still what it was.
    async fn object_itself(&self, path: &str, known: &Facts, sent_at: Instant) -> Outcome {
        let key = self.key(path);
        let version = known.version.as_ref().filter(|_| known.attributes.is_some() && known.settled);
        if let Some(Version { etag, last_modified: wrote, .. }) = version {
            match self.first(&key, Condition::Changed(etag.clone())).await? {
                KeyProbe::Unchanged { last_modified } if last_modified == Some(*wrote) => {
                    if let Some(ino) = self.record_unchanged(path, known, sent_at) {
                        return Ok(Answer { found: Some(ino), sent_at });
                    }
                }
                // The same content written again, perhaps with other headers.
                KeyProbe::Unchanged { .. } => {}
                first => return self.recorded(path, first, sent_at).await,
            }
        }
        // The headers are wanted: those of a listed object have not been seen, others may have changed unseen.
        let is_small = (1..=BLOCK).contains(&known.size) && known.attributes.is_none();
        let first = match known.version.as_ref().filter(|_| is_small) {
            Some(version) => self.whole(&key, version).await?,
            None => match self.store().head(&key).await {
                Ok(object) => KeyProbe::Object(object, None),
                Err(StoreError::NotFound { .. }) => KeyProbe::Absent,
                Err(error) => return Err(error),
            },
        };
        self.recorded(path, first, sent_at).await
    }

    /// Whether the directory known at `path` is still there.
    async fn known_directory(&self, path: &Arc<str>, ino: u64, known: &Facts, sent_at: Instant) -> Outcome {
        let witness = self.table().witness(ino).filter(|_| self.marker_is_believed(known));
        if let Some(witness) = witness {
            let answer = self.resolve_below(&witness).await?;
            let proved = self.table().node(ino).and_then(|node| node.checked);
            if answer.found.is_some() && proved.is_some_and(|proved| proved >= answer.sent_at) {
                return Ok(Answer { found: Some(ino), sent_at: answer.sent_at });
            }
        }
        let seen = self.list_directory(path).await?;
        match seen.exists {
            true => self.record_directory(path, seen).await,
            false => {
                let key = self.key(path);
                match self.first(&key, Condition::Always).await {
                    Ok(first) => self.recorded_unless_folder(path, first, sent_at).await,
                    Err(error) => self.unasked(path, &key, sent_at, error).await,
                }
            }
        }
    }

    /// What `path` is, knowing nothing. Lists `beside`, the directory that it is in, instead of itself if that
    /// says as much.
    async fn discover(&self, path: &Arc<str>, beside: Option<&str>, sent_at: Instant) -> Outcome {
        let key = self.key(path);
        let below = async {
            if let Some(beside) = beside
                && self.list_directory(&Arc::from(beside)).await?.is_whole
                && !self.table().named(path).is_some_and(|(_, node)| node.facts.is_directory())
            {
                return Ok(None);
            }
            self.list_directory(path).await.map(|seen| seen.exists.then_some(seen))
        };
        let (first, below) = futures::join!(self.first(&key, Condition::Always), below);
        match (below?, first) {
            (Some(seen), _) => self.record_directory(path, seen).await,
            (None, Err(error)) => self.unasked(path, &key, sent_at, error).await,
            (None, Ok(first)) => {
                let answer = self.recorded_unless_folder(path, first, sent_at).await?;
                self.note_alone(answer, sent_at);
                Ok(answer)
            }
        }
    }

    /// Records what the key of `path` holds; where it holds nothing, whether `path` is a directory.
    async fn recorded(&self, path: &str, first: KeyProbe, sent_at: Instant) -> Outcome {
        match first {
            KeyProbe::Absent => {
                let path = Arc::from(path);
                let seen = self.list_directory(&path).await?;
                match seen.exists {
                    true => self.record_directory(&path, seen).await,
                    false => self.recorded_unless_folder(&path, KeyProbe::Absent, sent_at).await,
                }
            }
            first => self.recorded_unless_folder(path, first, sent_at).await,
        }
    }
}

//! What answers the kernel's requests, and what all answers rest on.

use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};

use fuser::{INodeNo, ReplyXattr};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::directories::Directories;
use super::reply::errno;
use crate::inode::Eviction;
use crate::journal::{Journal, Recovered};
use crate::measure::operation_name;
use crate::relay::{GiveUp, Relay, TakeBack};
use crate::tree::{Tree, join, parent_and_name};
use crate::wire::{self, KernelRef};
use crate::write::Writing;
use crate::xattr::Xattrs;

/// Names that may wait to be dropped.
const SURPLUS_WAITING: usize = 1024;

/// Answers the kernel's requests out of a [`Tree`].
pub struct Adapter {
    pub(super) tree: Arc<Tree>,
    /// Absent on a mount that is only read.
    pub(super) writing: Option<Arc<Writing>>,
    pub(super) directories: Arc<Directories>,
    /// The short way for the bytes of files.
    pub(super) relay: Option<Arc<Relay>>,
    /// Whether the kernel may be asked to send requests again.
    pub(super) resend: bool,
}

impl Adapter {
    /// What is told is written down in `journal`, where `held` is what a process before was told.
    pub fn new(
        tree: Arc<Tree>,
        writing: Option<Arc<Writing>>,
        journal: Arc<Journal>,
        held: Recovered,
    ) -> Adapter {
        let directories = Arc::new(Directories::new(journal, held));
        Adapter { tree, writing, directories, relay: None, resend: true }
    }

    /// What a relay calls: see [`Relay::new`].
    pub fn callbacks(&self) -> (TakeBack, GiveUp) {
        (self.take_back(), self.give_up())
    }

    /// Tells of a request that is not done again. A file that it leaves uncertain is not stored: whoever flushes or
    /// closes it hears of that.
    fn give_up(&self) -> GiveUp {
        let (tree, writing) = (Arc::downgrade(&self.tree), self.writing.as_ref().map(Arc::downgrade));
        Box::new(move |request| {
            let (Some(header), Some(tree)) = (wire::Header::of(request), tree.upgrade()) else { return };
            let operation = operation_name(header.opcode);
            let path = tree.table().node(header.node).map(|node| node.path.clone()).unwrap_or_default();
            let name = wire::looked_up(request).unwrap_or_default();
            tracing::error!(
                req = header.unique,
                operation,
                ino = header.node,
                path = &*path,
                name,
                "processes have died with this request in hand: it is not done again"
            );
            if let (Some(writing), Some(what)) =
                (writing.as_ref().and_then(Weak::upgrade), wire::uncertain(request))
            {
                writing.give_up(header.node, what);
            }
        })
    }

    /// Takes back what an answer gave the kernel that the kernel did not take.
    fn take_back(&self) -> TakeBack {
        let tree = Arc::downgrade(&self.tree);
        let (directories, writing) =
            (Arc::downgrade(&self.directories), self.writing.as_ref().map(Arc::downgrade));
        Box::new(move |told| match told {
            KernelRef::Number(ino) => {
                if let Some(tree) = tree.upgrade() {
                    tree.forget(ino, 1);
                }
            }
            KernelRef::Content(ino) => {
                if let Some(tree) = tree.upgrade() {
                    let runtime = tree.runtime().clone();
                    runtime.spawn(async move { tree.invalidate(ino).await });
                }
            }
            KernelRef::Directory(handle) => {
                if let Some(directories) = directories.upgrade() {
                    directories.close(handle);
                }
            }
            KernelRef::File(handle) => {
                if let (Some(tree), Some(writing)) =
                    (tree.upgrade(), writing.as_ref().and_then(Weak::upgrade))
                {
                    tree.runtime().spawn(async move { writing.release(handle).await });
                }
            }
        })
    }

    /// From now on hands the bytes of files to `relay`.
    pub fn through(mut self, relay: &Arc<Relay>) -> Adapter {
        self.relay = Some(relay.clone());
        self
    }

    /// What to wait for before it is told what is in `directory`, or what `name` in it is: a file whose writer has just
    /// been told that it is refused is about to be let go.
    pub(super) fn about_to_go(&self, directory: u64, name: Option<&str>) -> Option<BoxFuture<'static, ()>> {
        let refused = &self.writing.as_ref()?.refused;
        if refused.is_empty() {
            return None;
        }
        let directory = self.tree.directory_path(directory).ok()?;
        let asked = name.map(|name| join(&directory, name));
        let is_meant = move |path: &str| match &asked {
            Some(asked) => **asked == *path,
            None => parent_and_name(path).0 == &*directory,
        };
        Some(refused.about_to_go(is_meant)?.boxed())
    }

    pub fn wants_resend(&self) -> bool {
        self.resend
    }

    /// Never has the kernel send requests again: what a process before left is answered from the journal.
    pub fn without_resend(mut self) -> Adapter {
        self.resend = false;
        self
    }

    pub fn tree(&self) -> Arc<Tree> {
        self.tree.clone()
    }

    /// Answers out of a file's extended attributes, at once if they are known.
    pub(super) fn with_xattrs(
        &self,
        ino: INodeNo,
        reply: ReplyXattr,
        answer: impl FnOnce(&Xattrs, ReplyXattr) + Send + 'static,
    ) {
        if let Some(Ok(xattrs)) = self.tree.xattrs_now(ino.0) {
            return answer(&xattrs, reply);
        }
        let tree = self.tree.clone();
        self.spawn(async move {
            match tree.xattrs(ino.0).await {
                Ok(xattrs) => answer(&xattrs, reply),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tree.runtime().spawn(task);
    }
}

/// Has the kernel drop the names that are too many, until `tree` is told to hand out no more.
///
/// From a thread of its own: the kernel takes a directory's lock for it, and whoever holds that may be waiting for
/// an answer of ours.
///
/// # Errors
///
/// That of starting a thread.
pub fn drop_surplus(tree: &Tree, relay: Arc<Relay>) -> io::Result<()> {
    let (sender, eviction) = std::sync::mpsc::sync_channel::<Eviction>(SURPLUS_WAITING);
    std::thread::Builder::new().name("fuse-forget".into()).spawn(move || {
        for Eviction { parent, name } in eviction {
            if let Err(error) = relay.drop_name(parent, &name) {
                tracing::debug!(ino = parent, error = %error, "the kernel keeps a name");
            }
        }
    })?;
    tree.hand_surplus_to(Some(sender));
    Ok(())
}

//! Notices to the kernel that nobody has asked for: names and content to drop, bytes to take.
//!
//! What must hold: none is given while a request of ours holds what the kernel needs for it. The kernel waits for that
//! uninterruptibly: a process that is killed meanwhile could not end, and nobody else would answer the request.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use super::forward::Relay;
use super::pending::Pending;
use crate::wire;

/// How often, and after which pause, it is looked whether a notice can be given; then it is not.
const NOTICE_LOOKS: u32 = 50;
const NOTICE_LOOK: Duration = Duration::from_millis(20);

impl Relay {
    /// Waits until no request under way is in the way.
    fn wait_without(&self, is_in_the_way: impl Fn(&Pending) -> bool) -> io::Result<()> {
        let mut state = self.state();
        for _ in 0..NOTICE_LOOKS {
            if !state.pending.values().any(&is_in_the_way) {
                return Ok(());
            }
            state = self.changed.wait_timeout(state, NOTICE_LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Has the kernel drop `name` in the directory `parent`. Blocks for as long as the kernel does.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] while the directory is in use; `ENOENT` if the kernel does not know the name.
    pub fn drop_name(&self, parent: u64, name: &str) -> io::Result<()> {
        self.wait_without(|one| one.header.node == parent)?;
        self.write(&wire::drop_name(parent, name), &[])
    }

    /// Has the kernel drop the content and the attributes of `ino`. Blocks for as long as the kernel does.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] while somebody reads it; `ENOENT` if the kernel does not know the number.
    pub fn drop_content(&self, ino: u64) -> io::Result<()> {
        self.wait_without(|one| one.header.node == ino && one.range.is_some())?;
        self.write(&wire::drop_content(ino), &[])
    }

    /// Puts bytes into the kernel's page cache. Blocks for as long as the kernel does: not for pages that an answer of ours
    /// is to fill, because nobody would give it if this process were killed, which could not end then.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] for bytes that somebody waits for already; `ENOENT` if the kernel does not know the
    /// number.
    pub fn store(&self, ino: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let stored = offset..offset.saturating_add(bytes.len() as u64);
        if self.state().pending.values().any(|one| one.reads(ino, &stored)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.write(&wire::store(ino, offset, bytes.len()), bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::super::{GiveUp, TakeBack};
    use super::*;
    use crate::journal::Journal;
    use crate::wire::Header;

    #[test]
    fn the_kernel_is_given_nothing_where_somebody_waits_for_an_answer() {
        let journal = Arc::new(Journal::create().expect("memory"));
        // It takes every answer, as the kernel does.
        let device = File::options().write(true).open("/dev/null").expect("there");
        let callbacks: (TakeBack, GiveUp) = (Box::new(|_| ()), Box::new(|_| ()));
        let (relay, _fusers) = Relay::new(device, journal, callbacks).expect("sockets");
        let mut request = vec![0; wire::IN_HEADER + 40];
        for (at, word) in [(4, wire::READ), (8, 6), (16, 7), (48, 8192), (56, 4096)] {
            request[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        let header = Header::of(&request).expect("whole");
        let slot = relay.journal.requests.large().expect("free");
        relay.state().pending.insert(header.unique, Pending::new(header, slot, &request));
        let stored =
            |ino: u64, offset: u64| relay.store(ino, offset, &[0; 4096]).map_err(|error| error.kind());
        assert_eq!(stored(7, 8192), Err(io::ErrorKind::WouldBlock));
        assert_eq!([stored(7, 4096), stored(7, 12288), stored(8, 8192)], [Ok(()); 3]);
        let dropped = |ino: u64| relay.drop_content(ino).map_err(|error| error.kind());
        let name_dropped = |parent: u64| relay.drop_name(parent, "a").map_err(|error| error.kind());
        assert_eq!([dropped(7), name_dropped(7)], [Err(io::ErrorKind::WouldBlock); 2]);
        assert_eq!([dropped(8), name_dropped(8)], [Ok(()); 2]);
        relay.answer(header.unique, &[]);
        assert_eq!([stored(7, 8192), dropped(7), name_dropped(7)], [Ok(()); 3]);
    }
}

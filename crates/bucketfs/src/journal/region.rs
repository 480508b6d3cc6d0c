//! Memory that outlives this process: a sealed memfd, mapped.
//!
//! What must hold: no access is out of bounds, and the file cannot be made shorter under the mapping. Whoever reads or
//! writes a part of it holds it alone: that is its callers' promise, kept by a lock or by ownership of the part.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

/// Bytes shared with whoever holds the descriptor next.
pub struct Region {
    file: File,
    map: MmapRaw,
}

impl Region {
    /// Zeroes, which take no memory until they are written.
    ///
    /// # Errors
    ///
    /// Those of `memfd_create(2)` and `mmap(2)`.
    pub fn create(bytes: u64) -> io::Result<Region> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("mapkeeper-ledger", flags)?);
        file.set_len(bytes)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        Region::map(file)
    }

    /// What an earlier process has left.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it may change its size; else those of `mmap(2)`.
    pub fn open(file: OwnedFd) -> io::Result<Region> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it may be cut at any time"));
        }
        Region::map(file.into())
    }

    fn map(file: File) -> io::Result<Region> {
        let map = MmapOptions::new().map_raw(&file)?;
        Ok(Region { file, map })
    }

    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// # Panics
    ///
    /// If the part is not within the region, as everything here.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        self.check(at, bytes.len());
        // SAFETY: within the mapping, which lives as long as `self` and cannot shrink; nobody writes this part now.
        unsafe { std::ptr::copy_nonoverlapping(self.map.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) }
    }

    pub fn copy(&self, at: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(at, &mut bytes);
        bytes
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: as in `read`; and nobody else reads or writes this part now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) }
    }

    /// A part of it as a slice.
    ///
    /// # Safety
    ///
    /// The part belongs to the caller alone for as long as the slice lives.
    #[expect(clippy::mut_from_ref, reason = "the region is shared; its parts are not")]
    pub unsafe fn part(&self, at: usize, length: usize) -> &mut [u8] {
        self.check(at, length);
        // SAFETY: within the mapping; alone, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(at), length) }
    }

    /// Stores a number in one piece, after everything that was written before it.
    pub fn set_u64(&self, at: usize, value: u64) {
        self.u64_at(at).store(value, Ordering::Release);
    }

    pub fn u64(&self, at: usize) -> u64 {
        self.u64_at(at).load(Ordering::Acquire)
    }

    /// As [`Region::set_u64`].
    pub fn set_u32(&self, at: usize, value: u32) {
        self.u32_at(at).store(value, Ordering::Release);
    }

    pub fn u32(&self, at: usize) -> u32 {
        self.u32_at(at).load(Ordering::Acquire)
    }

    /// A number that may never have been written: unlike every other access this one takes no memory.
    pub fn peek_u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        match self.file.read_exact_at(&mut bytes, at as u64) {
            Ok(()) => u32::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }

    /// Gives the memory of a part back; it reads as zeroes.
    pub fn clear(&self, at: usize, length: usize) {
        self.check(at, length);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where it cannot be given back it is only memory: everything that is read was written first.
        let _ = rustix::fs::fallocate(&self.file, flags, at as u64, length as u64);
    }

    fn u64_at(&self, at: usize) -> &AtomicU64 {
        self.check(at, 8);
        assert!(at.is_multiple_of(8), "numbers are aligned");
        // SAFETY: aligned (the mapping is, to a page), within it, and only ever accessed as an atomic.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    fn u32_at(&self, at: usize) -> &AtomicU32 {
        self.check(at, 4);
        assert!(at.is_multiple_of(4), "numbers are aligned");
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    fn check(&self, at: usize, length: usize) {
        let end = at.checked_add(length).expect("far below the end of memory");
        assert!(end <= self.map.len(), "{at} + {length} is outside of the region");
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

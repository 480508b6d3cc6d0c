//! Keeps the memory of this process out of core dumps: keys are in it, also in buffers that are not ours.

use std::io;

use nix::sys::resource::{Resource, setrlimit};

/// From here on the kernel writes no core of this process, and a debugger that respects the filter saves none of its
/// memory. Children inherit the filter and the limit.
///
/// # Errors
///
/// When the kernel refuses one of the three; the others hold.
pub fn keep_out_of_core_dumps() -> io::Result<()> {
    // No segment of any kind is dumped, wherever a key was copied to: MADV_DONTDUMP for all memory there will be.
    let filter = std::fs::write("/proc/self/coredump_filter", "0");
    let limit = setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(io::Error::from);
    // The limit does not hold where cores are piped to a program; this does.
    // SAFETY: prctl with PR_SET_DUMPABLE takes plain numbers.
    let dumpable = match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    filter.and(limit).and(dumpable)
}

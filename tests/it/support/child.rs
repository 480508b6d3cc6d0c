//! The process that a supervisor has started: what tests kill in its place.

use nix::unistd::Pid;

/// The child of `parent`; it has at most one.
pub fn child_of(parent: Pid) -> Option<Pid> {
    let parent = parent.to_string();
    let is_child = |pid: &Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
    };
    let all = std::fs::read_dir("/proc").expect("readable").flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.find(is_child)
}

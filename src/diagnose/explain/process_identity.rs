//! As whom MapServer reads in a container, and whether that one may read a file.

use std::fs;

use bucketfs::attr::Attributes;

/// A user by numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reader {
    pub uid: u32,
    pub groups: Vec<u32>,
    /// Name of the process that was looked at.
    pub process: String,
}

/// The one as whom the container of process `pid` reads maps: a process called like MapServer, else any that is not
/// root, else root. `None`: its processes cannot be looked at.
pub fn reader(pid: u32) -> Option<Reader> {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = space(&pid.to_string())?;
    let processes =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let inside = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let inside = inside.filter(|name| space(name).as_ref() == Some(&wanted));
    let readers = inside.filter_map(|name| parse(&fs::read_to_string(format!("/proc/{name}/status")).ok()?));
    readers.max_by_key(|reader| (reader.process.contains("mapserv"), reader.uid != 0))
}

/// Reads what `/proc/PID/status` says.
fn parse(status: &str) -> Option<Reader> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let effective = |text: &str| text.split_whitespace().nth(1).and_then(|number| number.parse::<u32>().ok());
    let groups = field("Groups:").unwrap_or_default().split_whitespace();
    let mut groups: Vec<u32> = groups.filter_map(|number| number.parse().ok()).collect();
    groups.insert(0, field("Gid:").and_then(effective)?);
    Some(Reader { uid: field("Uid:").and_then(effective)?, groups, process: field("Name:")?.to_owned() })
}

/// Whether `reader` gets `wanted` (4: read, 1: look into a directory) of something with these attributes.
pub fn allows(attributes: &Attributes, reader: &Reader, wanted: u16) -> bool {
    let shift = if attributes.uid == reader.uid {
        6
    } else if reader.groups.contains(&attributes.gid) {
        3
    } else {
        0
    };
    reader.uid == 0 || (attributes.permissions >> shift) & wanted == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use bucketfs::Defaults;
    use bucketfs::attr::Timestamp;

    #[test]
    fn this_process_is_read_as_itself() {
        let own = parse(&fs::read_to_string("/proc/self/status").expect("readable")).expect("understood");
        assert_eq!(own.uid, nix::unistd::geteuid().as_raw());
        assert!(reader(std::process::id()).is_some());
        assert!(reader(u32::MAX).is_none());
    }

    #[test]
    fn permissions_are_those_of_owner_group_or_others() {
        let defaults = Defaults { uid: 7, gid: 8, file_permissions: 0o640, directory_permissions: 0o750 };
        let file =
            Attributes { permissions: 0o640, ..Attributes::implicit_directory(&defaults, Timestamp::EPOCH) };
        let reader = |uid, group| Reader { uid, groups: vec![group], process: String::new() };
        for (who, read) in
            [(reader(7, 1), true), (reader(9, 8), true), (reader(33, 33), false), (reader(0, 0), true)]
        {
            assert_eq!(allows(&file, &who, 4), read, "{who:?}");
        }
        assert!(allows(&Attributes::implicit_directory(&defaults, Timestamp::EPOCH), &reader(9, 8), 1));
    }
}

//! POSIX access control lists, as far as a file system has to understand them.
//!
//! The kernel judges by them; what is left to us is that they agree with the mode: a list that is set changes the
//! mode, a mode that is set changes the list, and what is made in a directory with a default list gets it.
//!
//! Pure. The bytes are those of the extended attributes `system.posix_acl_access` and `system.posix_acl_default`:
//! a version and entries of tag, permissions and id, all in the order of small machines. What must hold: bytes that
//! are no list are refused, never guessed at.

use crate::attr::Kind;
use crate::xattr::Xattrs;

/// Who may do what with the file itself.
pub const ACCESS: &str = "system.posix_acl_access";
/// What is made in a directory gets this.
pub const DEFAULT: &str = "system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const ENTRY_BYTES: usize = 8;

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// What something new gets from the directory that it is made in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    pub permissions: u16,
    pub xattrs: Xattrs,
}

impl Acl {
    pub fn parse(bytes: &[u8]) -> Option<Acl> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % ENTRY_BYTES != 0 {
            return None;
        }
        let entries = rest.chunks_exact(ENTRY_BYTES).map(|bytes| Entry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            permissions: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
        let acl = Acl(entries.collect());
        let once = |tag| acl.0.iter().filter(|entry| entry.tag == tag).count() == 1;
        let is_known = |entry: &Entry| {
            [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].contains(&entry.tag) && entry.permissions <= 7
        };
        let is_whole = once(USER_OBJ) && once(GROUP_OBJ) && once(OTHER);
        let is_masked = once(MASK) || !acl.is_extended();
        (is_whole && is_masked && acl.0.iter().all(is_known)).then_some(acl)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.permissions.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    /// Whether it says more than a mode can.
    pub fn is_extended(&self) -> bool {
        self.0.iter().any(|entry| matches!(entry.tag, USER | GROUP | MASK))
    }

    /// The mode's bits that the list stands for.
    pub fn permissions(&self) -> u16 {
        let of = |tag| self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions);
        let group = of(MASK).or(of(GROUP_OBJ)).unwrap_or(0);
        of(USER_OBJ).unwrap_or(0) << 6 | group << 3 | of(OTHER).unwrap_or(0)
    }

    /// The list after the mode was set.
    pub fn with_permissions(mut self, permissions: u16) -> Acl {
        self.each_class(|allowed, bits| *allowed = permissions >> bits & 7);
        self
    }

    /// Cuts the list and `permissions` to what both allow.
    fn create(mut self, permissions: u16) -> (Acl, u16) {
        self.each_class(|allowed, bits| *allowed &= permissions >> bits & 7);
        let both = self.permissions();
        (self, permissions & !0o777 | both)
    }

    /// The entries that are the mode's three classes, with the place of their bits in it.
    fn each_class(&mut self, change: impl Fn(&mut u16, u16)) {
        let has_mask = self.0.iter().any(|entry| entry.tag == MASK);
        for entry in &mut self.0 {
            let bits = match entry.tag {
                USER_OBJ => 6,
                MASK => 3,
                GROUP_OBJ if !has_mask => 3,
                OTHER => 0,
                _ => continue,
            };
            change(&mut entry.permissions, bits);
        }
    }
}

/// What something of `kind` gets that is made in a directory with these attributes.
pub fn inherited(parent: &Xattrs, kind: Kind, permissions: u16, umask: u16) -> Inherited {
    let default = parent.value(DEFAULT).and_then(Acl::parse).filter(|_| kind != Kind::Symlink);
    let Some(default) = default else {
        let permissions = if kind == Kind::Symlink { permissions } else { permissions & !umask };
        return Inherited { permissions, xattrs: Xattrs::default() };
    };
    let (access, permissions) = default.clone().create(permissions);
    let mut xattrs = Xattrs::default();
    if access.is_extended() {
        xattrs = xattrs.with(ACCESS, &access.bytes());
    }
    if kind == Kind::Directory {
        xattrs = xattrs.with(DEFAULT, &default.bytes());
    }
    Inherited { permissions, xattrs }
}

/// The attributes after the mode was set to `permissions`.
pub fn after_chmod(xattrs: &Xattrs, permissions: u16) -> Xattrs {
    match xattrs.value(ACCESS).and_then(Acl::parse) {
        Some(acl) => xattrs.with(ACCESS, &acl.with_permissions(permissions).bytes()),
        None => xattrs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl(entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id }).collect())
    }

    fn of_33(mask: u16) -> Acl {
        let none = u32::MAX;
        acl(&[(USER_OBJ, 6, none), (USER, 7, 33), (GROUP_OBJ, 4, none), (MASK, mask, none), (OTHER, 0, none)])
    }

    #[test]
    fn a_list_and_a_mode_agree() {
        assert_eq!(of_33(5).permissions(), 0o650);
        assert_eq!(
            of_33(5).with_permissions(0o4711),
            acl(&[
                (USER_OBJ, 7, u32::MAX),
                (USER, 7, 33),
                (GROUP_OBJ, 4, u32::MAX),
                (MASK, 1, u32::MAX),
                (OTHER, 1, u32::MAX),
            ])
        );
        let plain = acl(&[(USER_OBJ, 6, 0), (GROUP_OBJ, 4, 0), (OTHER, 4, 0)]);
        assert_eq!((plain.permissions(), plain.is_extended()), (0o644, false));
        assert_eq!(plain.with_permissions(0o750).permissions(), 0o750);
    }

    #[test]
    fn what_is_made_gets_the_default_list_and_no_umask() {
        let parent = Xattrs::default().with(DEFAULT, &of_33(7).bytes());
        let file = inherited(&parent, Kind::File, 0o666, 0o077);
        assert_eq!(file.permissions, 0o660);
        assert_eq!(file.xattrs, Xattrs::default().with(ACCESS, &of_33(6).bytes()));
        let directory = inherited(&parent, Kind::Directory, 0o777, 0o077);
        assert_eq!(directory.xattrs.value(DEFAULT), Some(&of_33(7).bytes()[..]));
        let link = inherited(&parent, Kind::Symlink, 0o777, 0o077);
        assert_eq!(link, Inherited { permissions: 0o777, xattrs: Xattrs::default() });
        let plain = inherited(&Xattrs::default(), Kind::File, 0o666, 0o027);
        assert_eq!(plain, Inherited { permissions: 0o640, xattrs: Xattrs::default() });
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert_eq!(Acl::parse(&of_33(7).bytes()), Some(of_33(7)));
        for entries in [
            &[][..],
            &[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0)],
            &[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0), (OTHER, 8, 0)],
            &[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0), (OTHER, 7, 0), (USER, 7, 33)],
            &[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0), (OTHER, 7, 0), (0x40, 7, 33)],
        ] {
            assert_eq!(Acl::parse(&acl(entries).bytes()), None, "{entries:?}");
        }
        let mut bytes = of_33(7).bytes();
        bytes[0] = 1;
        assert_eq!(Acl::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), permissions in any::<u16>()) {
            if let Some(acl) = Acl::parse(&bytes) {
                prop_assert_eq!(acl.bytes(), bytes);
                prop_assert_eq!(acl.with_permissions(permissions).permissions(), permissions & 0o777);
            }
        }
    }
}

use core::fmt;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cuttlebone_mds::Ino;

/// Where something is: an inode, and a path below it that may be empty.
///
/// A text is a path from the root of the file system. Its `.` and empty parts mean nothing, and `..` takes the part
/// before it away as the text has it, whatever that part is: a server knows no such names. Paths are bytes.
///
/// ```
/// use cuttlebone_fs::{Ino, Place};
///
/// assert_eq!(Place::from("/a/./b//../c"), Place::root().join("a").join("c"));
/// assert_eq!(Place::from("/a/b").split(), Some((Place::from("/a"), &b"b"[..])));
/// assert_eq!(Place::from(Ino(0x10000000000)).join("x").to_string(), "#0x10000000000/x");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    base: Ino,
    /// Parts joined by `/`, without one in front or behind.
    path: Vec<u8>,
}

impl Place {
    /// The root directory.
    pub const fn root() -> Self {
        Self { base: Ino::ROOT, path: Vec::new() }
    }

    /// The entry `name` of the directory that this is.
    ///
    /// A name is taken as it is, also one that no server would take: `..`, or one with a `/`, is refused by the
    /// operation that is asked for it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<[u8]>) -> Self {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.as_ref().len());
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_ref());
        Self { base: self.base, path }
    }

    /// The inode that the path starts from.
    pub const fn base(&self) -> Ino {
        self.base
    }

    /// The path below it: parts joined by `/`.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The directory and the last part; `None` for an inode by itself.
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.path.is_empty() {
            return None;
        }
        let cut = self.path.iter().rposition(|byte| *byte == b'/');
        let (path, name) = match cut.and_then(|cut| self.path.split_at_checked(cut)) {
            Some((path, name)) => (path, name.get(1..).unwrap_or_default()),
            None => (&[][..], &self.path[..]),
        };
        Some((Self { base: self.base, path: path.to_vec() }, name))
    }

    /// The parts of the path.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }
}

impl From<&[u8]> for Place {
    fn from(text: &[u8]) -> Self {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in text.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Self { base: Ino::ROOT, path: parts.join(&b'/') }
    }
}

impl From<&str> for Place {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&String> for Place {
    fn from(text: &String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&OsStr> for Place {
    fn from(text: &OsStr) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::from(path.as_os_str())
    }
}

impl From<Ino> for Place {
    fn from(base: Ino) -> Self {
        Self { base, path: Vec::new() }
    }
}

impl From<&Self> for Place {
    fn from(place: &Self) -> Self {
        place.clone()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.base != Ino::ROOT {
            write!(f, "#{}", self.base)?;
        }
        if self.base == Ino::ROOT || !self.path.is_empty() {
            f.write_str("/")?;
        }
        f.write_str(&String::from_utf8_lossy(&self.path))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

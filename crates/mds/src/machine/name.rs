use core::fmt;

use bytes::Bytes;

/// One name in a directory: 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`.
///
/// It exists because a metadata server checks none of this: 16.2.15 makes entries of 256 bytes that no other client can
/// reach, splits at `/`, and looks `..` up like any other name. Bytes, not text: any other byte is allowed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Bytes);

/// Longest name, in bytes.
///
/// Source: `torvalds/linux:include/uapi/linux/limits.h`, `NAME_MAX`.
pub const NAME_BYTES_MAX: usize = 255;

impl Name {
    /// The name with these bytes.
    ///
    /// # Errors
    ///
    /// Which rule they break.
    pub fn new(name: impl Into<Bytes>) -> Result<Self, NameError> {
        let name = name.into();
        match &*name {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            long if long.len() > NAME_BYTES_MAX => Err(NameError::TooLong { len: long.len() }),
            other if other.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(NameError::Separator),
            _ => Ok(Self(name)),
        }
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        Self::new(Bytes::copy_from_slice(name.as_bytes()))
    }
}

/// Why bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There are none.
    #[error("a name has at least one byte")]
    Empty,
    /// It is `.` or `..`, which a client resolves by itself.
    #[error("`.` and `..` are not names of entries")]
    Dots,
    /// It is longer than any file system allows.
    #[error("a name has at most {NAME_BYTES_MAX} bytes, and this one {len}")]
    TooLong {
        /// Bytes it has.
        len: usize,
    },
    /// It holds a `/` or a NUL.
    #[error("a name holds no `/` and no NUL")]
    Separator,
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn check(name: &str, expected: Result<(), NameError>) {
        assert_eq!(Name::try_from(name).map(|_| ()), expected, "{name:?}");
    }

    #[test]
    fn names_that_a_server_would_misread_are_refused() {
        check("a", Ok(()));
        check("...", Ok(()));
        check(&String::from("x").repeat(255), Ok(()));
        check(&String::from("x").repeat(256), Err(NameError::TooLong { len: 256 }));
        check("", Err(NameError::Empty));
        check(".", Err(NameError::Dots));
        check("..", Err(NameError::Dots));
        check("a/b", Err(NameError::Separator));
        check("a\0b", Err(NameError::Separator));
    }

    #[test]
    fn a_name_need_not_be_text() {
        assert!(Name::new(Bytes::from_static(b"\xff\xfe")).is_ok());
    }
}

use core::fmt;

/// Bytes that do not follow their encoding: what was being read, where, and why it could not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {at}: {kind}")]
#[non_exhaustive]
pub struct DecodeError {
    /// Offset from the start of the outermost buffer, in bytes.
    pub at: usize,
    /// The name of the field.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

impl DecodeError {
    /// An error at a place that the caller knows.
    pub const fn new(at: usize, field: &'static str, kind: DecodeErrorKind) -> Self {
        Self { at, field, kind }
    }
}

/// Why a field could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// It needs more bytes than its structure has left.
    Short {
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// A length or count is above the limit of this field.
    TooLong {
        /// What the bytes say.
        len: usize,
        /// What we accept.
        max: usize,
    },
    /// The writer says that only newer readers can understand it.
    TooNew {
        /// The oldest version that may read it.
        compat: u8,
        /// The newest version that we know.
        known: u8,
    },
    /// A value that has no meaning here, and that cannot be kept either.
    Unknown {
        /// The value.
        value: u64,
    },
    /// Text that is not UTF-8.
    NotUtf8,
    /// Bytes are left over where none may be.
    Trailing {
        /// How many.
        left: usize,
    },
    /// A rule of the format is broken.
    Invalid(&'static str),
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, left } => write!(f, "needs {needed} bytes, {left} are left"),
            Self::TooLong { len, max } => write!(f, "length {len} is above the limit of {max}"),
            Self::TooNew { compat, known } => {
                write!(f, "can be read from version {compat} on, and we know version {known}")
            }
            Self::Unknown { value } => write!(f, "unknown value {value:#x}"),
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::Trailing { left } => write!(f, "{left} bytes too many"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

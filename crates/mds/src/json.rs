//! How fields that are bytes are shown.

use bytes::Bytes;
use serde::ser::Serializer;

/// Names: bytes that are nearly always UTF-8.
pub(crate) fn text<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&alloc::string::String::from_utf8_lossy(bytes))
}

/// Contents that are not ours to show: their length.
pub(crate) fn length<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

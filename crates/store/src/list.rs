use std::io::{self, Write};

use crate::log::split_key;
use crate::{Error, View};

/// Writes what `ceph-kvstore-tool rocksdb store.db list-crc [PREFIX]` prints: prefix, key and crc between tabs, one
/// entry a line.
///
/// Source: `ceph/ceph:src/tools/kvstore_tool.cc`, `StoreTool::list`; seen in 16.2.15.
///
/// # Errors
///
/// [`ListError::Store`] for a damaged copy, [`ListError::Output`] if `out` fails.
pub fn list_crc(view: &View, prefix: Option<&[u8]>, out: &mut impl Write) -> Result<(), ListError> {
    list_lines(view, prefix, out, |line, crc| line.extend_from_slice(format!("\t{crc}").as_bytes()))
}

/// Writes what `ceph-kvstore-tool rocksdb store.db list [PREFIX]` prints: prefix and key between tabs.
///
/// # Errors
///
/// As [`list_crc`].
pub fn list(view: &View, prefix: Option<&[u8]>, out: &mut impl Write) -> Result<(), ListError> {
    list_lines(view, prefix, out, |_, _| {})
}

fn list_lines(
    view: &View,
    prefix: Option<&[u8]>,
    out: &mut impl Write,
    finish: impl Fn(&mut Vec<u8>, u32),
) -> Result<(), ListError> {
    let mut line = Vec::new();
    for entry in view.entries(prefix)? {
        let entry = entry?;
        line.clear();
        escape(entry.prefix(), &mut line);
        line.push(b'\t');
        escape(entry.key(), &mut line);
        finish(&mut line, entry.crc());
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

/// Why a list ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The copy could not be read.
    #[error(transparent)]
    Store(#[from] Error),
    /// The list could not be written.
    #[error("cannot write the list")]
    Output(#[from] io::Error),
}

/// Appends `bytes` as the stock tools escape prefixes and keys.
///
/// Source: `ceph/ceph:src/common/url_escape.cc`, `url_escape`; seen in 16.2.15 for every byte.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-./_~".contains(byte) {
            out.push(*byte);
        } else {
            let digit = |nibble: u8| DIGITS[usize::from(nibble & 0xf)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(*byte)]);
        }
    }
}

/// `prefix:key`, escaped, for messages.
pub(crate) fn key_text(combined: &[u8]) -> String {
    let (prefix, key) = split_key(combined);
    let mut text = Vec::new();
    escape(prefix, &mut text);
    text.push(b':');
    escape(key, &mut text);
    // Escaped text is ASCII.
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn escapes_what_16_2_15_escapes() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        escape(&all, &mut out);
        let plain: Vec<u8> =
            all.iter().copied().filter(|byte| !out.windows(3).any(|w| w == hex(*byte))).collect();
        assert_eq!(plain, b"-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
        let mut odd = Vec::new();
        escape(b"o d+/%", &mut odd);
        assert_eq!(odd, b"o%20d%2b/%25");
    }

    fn hex(byte: u8) -> [u8; 3] {
        format!("%{byte:02x}").into_bytes().try_into().unwrap()
    }
}

//! Messages that real releases wrote, as their object corpus keeps them: they decode to what their text says and
//! encode to the same bytes again.
//!
//! `CUTTLEBONE_BLESS=1` writes the texts anew, for review.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

use core::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use bytes::Bytes;
use cuttlebone_monsync::{AnyMessage, MESSAGE_TYPE};
use cuttlebone_wire::{DecodeError, Message, Reader};

/// Bytes of a messenger v1 header with its checksum, and of the footer behind it.
const HEADER_BYTES: usize = 53;
const FOOTER_BYTES: usize = 13;
/// Where the header has the version and, behind the source, the oldest compatible one.
const VERSION_AT: usize = 20;
const COMPAT_AT: usize = 45;

/// Takes a message out of the container: header, footer, then front, middle and data with their lengths.
fn open(file: &Bytes) -> Result<Message, DecodeError> {
    let mut r = Reader::new(file);
    let header = r.bytes(HEADER_BYTES, "header")?;
    r.skip(FOOTER_BYTES, "footer")?;
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let message = Message {
        kind: MESSAGE_TYPE,
        version: short(VERSION_AT),
        compat_version: short(COMPAT_AT),
        front: r.blob("front", usize::MAX)?,
        middle: r.blob("middle", usize::MAX)?,
        data: r.blob("data", usize::MAX)?,
        ..Message::default()
    };
    r.finish("container")?;
    Ok(message)
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    files.sort();
    files
}

#[test]
fn every_message_of_the_corpus_decodes_and_encodes_to_the_same_bytes() {
    let mut text = String::new();
    assert_eq!(files().len(), 9);
    for path in files() {
        let message = open(&fs::read(&path).unwrap().into()).unwrap();
        let (any, features) = AnyMessage::from_message(&message).unwrap();
        assert_eq!(any.front(features), message.front, "{}", path.display());
        writeln!(text, "{}: {any:?}", path.file_stem().unwrap().display()).unwrap();
    }
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/messages.txt");
    if env::var_os("CUTTLEBONE_BLESS").is_some() {
        fs::write(&expected, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&expected).unwrap(), text);
}

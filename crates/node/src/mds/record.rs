//! An inode as an item of a bucket: a key with its number, and a value in JSON that any reader of `/v1/changes` can use.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cuttlebone_fs::{DirSums, Ino, Kind, Metadata};
use cuttlebone_wire::WallTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What keys of inodes begin with; the number follows, in hexadecimal, as Ceph names the objects of an inode.
pub(crate) const PREFIX: &[u8] = b"inode\0";
/// The version that is written. Readers pass over fields that they do not know.
pub(crate) const VERSION: u32 = 1;
/// Names of one inode that its record has; those beyond are not told.
pub(crate) const NAMES_MAX: usize = 64;
/// The longest name or target of a symbolic link that a record has, in bytes. POSIX has 255 for a name and 4,096 for a
/// path; servers of 16.2.15 take more.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// The value of an inode's item. `docs/node.md` has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, which readers decode")]
pub struct InodeRecord {
    /// The version of this layout: 1.
    pub v: u32,
    /// Where it is in the tree; empty for the tree's root. A directory has one name, a file as many as it has links,
    /// 64 at most.
    pub names: Vec<NameRecord>,
    /// What it is: `dir`, `file`, `symlink`, `block`, `char`, `fifo`, `socket`, `other`.
    pub kind: KindRecord,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How many names it has, those outside the tree included.
    pub nlink: u32,
    /// Bytes in a file; 0 for a directory.
    pub size: u64,
    /// When its contents changed last.
    pub mtime: Time,
    /// When it changed last in any way.
    pub ctime: Time,
    /// When it was made.
    pub btime: Time,
    /// Counts its changes.
    pub change: u64,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Text>,
    /// Of a directory: what is in it and below, as its server has summed it up by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<SumsRecord>,
    /// Of a directory: everything that was in it and below when it was so is in the bucket. Without it, or if it is not
    /// what `change`, `ctime` and `dir` say, the source is still at work below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Stamp>,
}

/// A name of an inode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct NameRecord {
    /// The directory that it is in.
    pub dir: InodeNumber,
    /// The name.
    pub name: Text,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KindRecord {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

/// What is in a directory, and below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct SumsRecord {
    /// Entries that are no directories.
    pub files: u64,
    /// Entries that are directories.
    pub subdirs: u64,
    /// Bytes in all files below.
    pub rbytes: u64,
    /// Everything below that is no directory.
    pub rfiles: u64,
    /// All directories below, itself included.
    pub rsubdirs: u64,
    /// All snapshots below.
    pub rsnaps: u64,
    /// The newest change of anything below.
    pub rctime: Time,
}

/// A state of a directory: as long as it is the same, nothing that its server has told of has changed below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Stamp {
    /// How often it has changed.
    pub change: u64,
    /// When it changed last.
    pub ctime: Time,
    /// Its sums.
    #[serde(flatten)]
    pub sums: SumsRecord,
}

/// The number of an inode: text in hexadecimal, since not every reader of JSON keeps 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct InodeNumber(pub u64);

/// Seconds since 1970 with nine digits behind the point, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a moment")]
pub struct Time(pub WallTime);

/// Bytes of a name: text if they are UTF-8, and otherwise an object with `base64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "plain bytes")]
pub struct Text(pub Bytes);

impl InodeRecord {
    /// What the value of an item says.
    ///
    /// # Errors
    ///
    /// If it is no record of version 1.
    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        let record: Self = serde_json::from_slice(value)?;
        if record.v != VERSION {
            return Err(de::Error::custom(format_args!("version {} instead of {VERSION}", record.v)));
        }
        Ok(record)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and text can be said in JSON")
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == KindRecord::Dir
    }

    /// The record of these attributes, and nothing else.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let target = &metadata.symlink;
        let target = Bytes::copy_from_slice(target.get(..TEXT_BYTES_MAX).unwrap_or(target));
        Self {
            v: VERSION,
            names: Vec::new(),
            kind: metadata.kind.into(),
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            nlink: metadata.nlink,
            size: metadata.size,
            mtime: Time(metadata.mtime),
            ctime: Time(metadata.ctime),
            btime: Time(metadata.btime),
            change: metadata.change,
            target: metadata.is_symlink().then_some(Text(target)),
            dir: metadata.dir.map(Into::into),
            complete: None,
        }
    }
}

impl Stamp {
    /// Of a directory; `None` of anything else.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        let sums = metadata.dir?.into();
        Some(Self { change: metadata.change, ctime: Time(metadata.ctime), sums })
    }
}

impl From<Kind> for KindRecord {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Dir => Self::Dir,
            Kind::File => Self::File,
            Kind::Symlink => Self::Symlink,
            Kind::Block => Self::Block,
            Kind::Char => Self::Char,
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
            _ => Self::Other,
        }
    }
}

impl From<DirSums> for SumsRecord {
    fn from(sums: DirSums) -> Self {
        let DirSums { files, subdirs, rbytes, rfiles, rsubdirs, rsnaps, rctime, .. } = sums;
        Self { files, subdirs, rbytes, rfiles, rsubdirs, rsnaps, rctime: Time(rctime) }
    }
}

impl From<Ino> for InodeNumber {
    fn from(ino: Ino) -> Self {
        Self(ino.0)
    }
}

impl InodeNumber {
    /// The key of its item.
    pub fn key(self) -> Vec<u8> {
        [PREFIX, format!("{:x}", self.0).as_bytes()].concat()
    }

    /// The number in the key of an item; `None` of a key that is not an inode's.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let digits = core::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
        let number = Self(u64::from_str_radix(digits, 16).ok()?);
        // One inode has one key.
        (number.key() == key).then_some(number)
    }
}

impl Serialize for InodeNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:x}", self.0))
    }
}

impl<'de> Deserialize<'de> for InodeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:09}", self.0.secs, self.0.nanos))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('.').filter(|(_, nanos)| nanos.len() == 9);
        let time = parts.and_then(|(secs, nanos)| {
            Some(WallTime { secs: secs.parse().ok()?, nanos: nanos.parse().ok()? })
        });
        time.map(Self).ok_or_else(|| de::Error::custom("a moment has nine digits behind the point"))
    }
}

/// How bytes look in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Shown {
    Utf8(String),
    Other { base64: String },
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match core::str::from_utf8(&self.0) {
            Ok(text) => text.serialize(serializer),
            Err(_) => Shown::Other { base64: BASE64_STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Shown::deserialize(deserializer)? {
            Shown::Utf8(text) => text.into_bytes(),
            Shown::Other { base64 } => BASE64_STANDARD.decode(base64).map_err(de::Error::custom)?,
        };
        Ok(Self(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"v":1,"names":[{"dir":"1","name":"reports"}],"kind":"dir","mode":493,"uid":0,"gid":0,"nlink":1,"size":0,"mtime":"1700000000.000000001","ctime":"1700000000.000000001","btime":"1600000000.500000000","change":3,"dir":{"files":2,"subdirs":0,"rbytes":10,"rfiles":2,"rsubdirs":1,"rsnaps":0,"rctime":"1700000000.090000000"},"complete":{"change":3,"ctime":"1700000000.000000001","files":2,"subdirs":0,"rbytes":10,"rfiles":2,"rsubdirs":1,"rsnaps":0,"rctime":"1700000000.090000000"}}"#;

    #[test]
    fn a_record_is_the_same_after_being_written_and_read() {
        let record = InodeRecord::decode(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(record.encode()).unwrap(), EXAMPLE);
        assert_eq!(record.complete.unwrap().sums, record.dir.unwrap());
    }

    #[test]
    fn names_that_are_no_text_survive() {
        let mut record = InodeRecord::decode(EXAMPLE.as_bytes()).unwrap();
        record.names[0].name = Text(Bytes::from_static(b"\xff/\0"));
        let bytes = record.encode();
        assert!(String::from_utf8_lossy(&bytes).contains(r#""name":{"base64":"/y8A"}"#));
        assert_eq!(InodeRecord::decode(&bytes).unwrap(), record);
    }

    #[test]
    fn fields_of_the_future_are_passed_over_and_a_future_version_is_not_read() {
        let more = EXAMPLE.replacen("\"kind\"", "\"colour\":\"blue\",\"kind\"", 1);
        assert!(InodeRecord::decode(more.as_bytes()).is_ok());
        let next = EXAMPLE.replacen("\"v\":1", "\"v\":2", 1);
        assert!(InodeRecord::decode(next.as_bytes()).unwrap_err().to_string().contains("version 2"));
        for cut in 0..EXAMPLE.len() {
            assert!(InodeRecord::decode(&EXAMPLE.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn an_inode_has_one_key() {
        let number = InodeNumber(0x100_0000_002a);
        assert_eq!(number.key(), b"inode\x001000000002a");
        assert_eq!(InodeNumber::of_key(&number.key()), Some(number));
        for key in
            [&b"inode\x0001"[..], b"inode\x00A", b"inode\0", b"inode\0+1", b"inodes\x001", b"paxos\x001"]
        {
            assert_eq!(InodeNumber::of_key(key), None, "{key:?}");
        }
    }
}

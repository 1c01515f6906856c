use bytes::Bytes;
use cuttlebone_wire::{
    Body, Decode, DecodeError, Encode, Message, MessageType, Priority, Reader, Uuid, Writer,
};

use crate::limits::{BLOB_BYTES_MAX, NAME_BYTES_MAX};
use crate::{FsMap, FsMapUser, MdsMap};

/// The map of one filesystem; monitors and metadata servers send it, also several times the same.
///
/// Source: `ceph/ceph:src/messages/MMDSMap.h`; version 2 seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct MdsMapMessage {
    /// The cluster's identity.
    pub fsid: Uuid,
    /// The map's epoch.
    pub epoch: u32,
    /// The map.
    pub map: MdsMap,
    /// The filesystem's name; from version 2 on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub fs_name: Bytes,
}

impl Body for MdsMapMessage {
    const KIND: MessageType = MessageType(21);
    const NAME: &'static str = "MMDSMap";
    const VERSION: u16 = 2;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let (fsid, epoch) = (Uuid::decode(r)?, r.u32("epoch")?);
        let len = r.len("mdsmap", BLOB_BYTES_MAX)?;
        let map = r.within(len, "mdsmap", MdsMap::decode)?;
        let fs_name = if version >= 2 { r.blob("map_fs_name", NAME_BYTES_MAX)? } else { Bytes::new() };
        Ok(Self { fsid, epoch, map, fs_name })
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        self.fsid.encode(w);
        w.u32(self.epoch);
        w.sized(|w| self.map.encode(w));
        if version >= 2 {
            w.blob(&self.fs_name);
        }
    }
}

/// The map of all filesystems, with those who stand by.
///
/// Source: `ceph/ceph:src/messages/MFSMap.h`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct FsMapMessage {
    /// The map's epoch.
    pub epoch: u32,
    /// The map.
    pub map: FsMap,
}

impl Body for FsMapMessage {
    const KIND: MessageType = MessageType(45);
    const NAME: &'static str = "MFSMap";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self { epoch: r.u32("epoch")?, map: FsMap::decode(r)? })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.u32(self.epoch);
        self.map.encode(w);
    }
}

/// The names of all filesystems, which is what a client needs to find its own.
///
/// Source: `ceph/ceph:src/messages/MFSMapUser.h`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct FsMapUserMessage {
    /// The map's epoch.
    pub epoch: u32,
    /// The map.
    pub map: FsMapUser,
}

impl Body for FsMapUserMessage {
    const KIND: MessageType = MessageType(103);
    const NAME: &'static str = "MFSMapUser";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self { epoch: r.u32("epoch")?, map: FsMapUser::decode(r)? })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.u32(self.epoch);
        self.map.encode(w);
    }
}

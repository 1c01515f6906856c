use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Body, DecodeError, Encode, Features, Message, MessageType, Reader, Writer};

use super::request::Op;
use crate::limits::BLOB_BYTES_MAX;
use crate::{ReplyForm, SnapRealm};

mod extra;
mod trace;

pub use extra::{Created, DelegatedInos, DirEntry, DirPage, FileLock, PageFlags};
pub use trace::{DirStat, LeaseStat, Trace, TraceDentry};

/// What became of a request; its tid is that of the request.
///
/// A change may be answered twice: first *unsafe*, when it was made in memory, with everything that it touched; then
/// *safe*, when it is on disk, with nothing else. Either may come alone.
///
/// The three parts are kept as they came, since their form was agreed on when the session was opened:
/// [`trace`](Self::trace), [`realms`](Self::realms) and the methods for the extra part read them.
///
/// Source: `ceph/ceph:src/messages/MClientReply.h`; seen in 16.2.15, corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct ClientReply {
    /// What was asked for.
    pub op: Op,
    /// 0, or a negative errno as Linux numbers it.
    pub result: i32,
    /// The map that the server knows; 0 in unsafe replies.
    pub mdsmap_epoch: u32,
    /// Whether the change is on disk.
    pub safe: bool,
    /// Whether the trace begins with a directory and a name in it.
    pub is_dentry: bool,
    /// Whether the trace ends with an inode.
    pub is_target: bool,
    /// Inodes and a name; empty if nothing is told.
    pub trace: Bytes,
    /// What only this kind of request is told.
    pub extra: Bytes,
    /// The chain of realms.
    pub snap: Bytes,
}

impl ClientReply {
    /// The inodes and the name that the request touched.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn trace(&self, form: ReplyForm) -> Result<Trace, DecodeError> {
        Trace::decode(&self.trace, self.is_dentry, self.is_target, form)
    }

    /// The realm of what the request touched, and those around it.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn realms(&self) -> Result<Vec<SnapRealm>, DecodeError> {
        SnapRealm::decode_chain(&mut Reader::new(&self.snap))
    }

    /// The extra part of [`Op::READDIR`] and [`Op::LSSNAP`].
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn dir_page(&self, form: ReplyForm) -> Result<DirPage, DecodeError> {
        DirPage::decode(&self.extra, form)
    }

    /// The extra part of requests that may create: none if nothing was created.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn created(&self) -> Result<Option<Created>, DecodeError> {
        Created::decode(&self.extra)
    }

    /// The extra part of [`Op::GETVXATTR`]: a value.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn vxattr(&self) -> Result<Bytes, DecodeError> {
        let mut r = Reader::new(&self.extra);
        r.versioned("vxattr", 1, |r, _| r.blob("value", BLOB_BYTES_MAX))
    }

    /// The extra part of [`Op::GETFILELOCK`].
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn file_lock(&self) -> Result<FileLock, DecodeError> {
        use cuttlebone_wire::Decode as _;

        FileLock::decode(&mut Reader::new(&self.extra))
    }

    /// The same with this trace.
    #[must_use]
    pub fn with_trace(mut self, trace: &Trace, form: ReplyForm) -> Self {
        self.is_dentry = trace.dentry.is_some();
        self.is_target = trace.target.is_some();
        let mut w = Writer::new(Features::all_known());
        trace.encode(&mut w, form);
        self.trace = w.into_bytes();
        self
    }

    /// The same with this chain of realms.
    #[must_use]
    pub fn with_realms(mut self, realms: &[SnapRealm]) -> Self {
        let mut w = Writer::new(Features::all_known());
        SnapRealm::encode_chain(realms, &mut w);
        self.snap = w.into_bytes();
        self
    }

    /// The same with this value for [`Op::GETVXATTR`].
    #[must_use]
    pub fn with_vxattr(mut self, value: &[u8]) -> Self {
        let mut w = Writer::new(Features::all_known());
        w.versioned(1, 1, |w| w.blob(value));
        self.extra = w.into_bytes();
        self
    }

    /// The same with this page of a directory.
    #[must_use]
    pub fn with_dir_page(mut self, page: &DirPage, form: ReplyForm) -> Self {
        let mut w = Writer::new(Features::all_known());
        page.encode(&mut w, form);
        self.extra = w.into_bytes();
        self
    }

    /// The same with what was created.
    #[must_use]
    pub fn with_created(mut self, created: &Created) -> Self {
        self.extra = created.to_bytes(Features::all_known());
        self
    }
}

impl Body for ClientReply {
    const KIND: MessageType = MessageType(26);
    const NAME: &'static str = "MClientReply";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            op: Op(r.u32("op")?),
            result: r.i32("result")?,
            mdsmap_epoch: r.u32("mdsmap_epoch")?,
            safe: r.bool("safe")?,
            is_dentry: r.bool("is_dentry")?,
            is_target: r.bool("is_target")?,
            trace: r.blob("trace", BLOB_BYTES_MAX)?,
            extra: r.blob("extra", BLOB_BYTES_MAX)?,
            snap: r.blob("snap", BLOB_BYTES_MAX)?,
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.u32(self.op.0);
        w.i32(self.result);
        w.u32(self.mdsmap_epoch);
        w.bool(self.safe);
        w.bool(self.is_dentry);
        w.bool(self.is_target);
        w.blob(&self.trace);
        w.blob(&self.extra);
        w.blob(&self.snap);
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{ClientReply, ReplyForm, Trace};
    use crate::InodeStat;
    use cuttlebone_wire::{DecodeError, Features};
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    /// A message does not say in which form its trace is; only one of the two takes all the bytes.
    fn trace(reply: &ClientReply) -> Result<Trace, DecodeError> {
        let legacy = || reply.trace(ReplyForm::Legacy(Features::all_known()));
        reply.trace(ReplyForm::Versioned).or_else(|_| legacy())
    }

    impl Serialize for ClientReply {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("ClientReply", 9)?;
            object.serialize_field("op", &self.op)?;
            object.serialize_field("result", &self.result)?;
            object.serialize_field("mdsmap_epoch", &self.mdsmap_epoch)?;
            object.serialize_field("safe", &self.safe)?;
            object.serialize_field("is_dentry", &self.is_dentry)?;
            object.serialize_field("is_target", &self.is_target)?;
            let trace = trace(self).ok();
            let dentry = trace.as_ref().and_then(|trace| trace.dentry.as_ref());
            object.serialize_field("dentry", &dentry)?;
            let target: Option<&InodeStat> = trace.as_ref().and_then(|trace| trace.target.as_ref());
            object.serialize_field("target", &target)?;
            object.serialize_field("trace_bytes", &self.trace.len())?;
            object.serialize_field("extra_bytes", &self.extra.len())?;
            object.serialize_field("realms", &self.realms().ok())?;
            object.end()
        }
    }
}

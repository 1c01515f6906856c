use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, EntityName, Features, Reader, Writer};

use crate::MethodId;

/// First byte of a request to a service.
const FORM_AUTHORIZER: u8 = 1;
/// First byte of a request to a monitor as the authority.
const FORM_MONITOR: u8 = 10;
/// First byte that no request has any more.
const FORM_END: u8 = 20;
/// Most methods in a [`Hello`].
const METHODS_MAX: usize = 64;

/// To whom a claim is made.
///
/// Source: `ceph/ceph:src/auth/Auth.h`, `AUTH_MODE_*`; 1, 9, 10 and 15 tried on 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two ranges of the first byte")]
pub enum Form {
    /// To a service that takes the authority's word: metadata servers, OSDs, managers, and monitors from monitors.
    Authorizer,
    /// To a monitor as the authority that gives global ids away.
    Monitor,
}

/// Who somebody says they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what both forms carry")]
pub struct Claim {
    /// To whom it is made.
    pub form: Form,
    /// The name.
    pub name: EntityName,
    /// The number that a monitor gave earlier; 0 for none.
    pub global_id: u64,
}

impl Claim {
    /// The first request of messenger v2: the claim, then what the method adds.
    pub fn to_request(&self, method: &Bytes) -> Bytes {
        let mut w = Writer::new(Features::PACIFIC);
        w.u8(match self.form {
            Form::Authorizer => FORM_AUTHORIZER,
            Form::Monitor => FORM_MONITOR,
        });
        self.name.encode(&mut w);
        w.u64(self.global_id);
        w.raw(method);
        w.into_bytes()
    }

    /// Reads the claim of a first request and leaves the reader at what the method added.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`], also for a first byte that stands for no form.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let form = match r.peek_u8() {
            Some(FORM_AUTHORIZER..FORM_MONITOR) => Form::Authorizer,
            Some(FORM_MONITOR..FORM_END) => Form::Monitor,
            Some(other) => return Err(r.error("form", DecodeErrorKind::Unknown { value: other.into() })),
            None => return Err(r.error("form", DecodeErrorKind::Short { needed: 1, left: 0 })),
        };
        r.skip(1, "form")?;
        Ok(Self { form, name: EntityName::decode(r)?, global_id: r.u64("global id")? })
    }
}

/// The payload of the first MAuth: who somebody is, and which methods they know, for the acceptor to choose from.
///
/// Source: `ceph/ceph:src/mon/MonClient.cc`, `_send_hello`; seen in 16.2.15 and in objects of 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the payload")]
pub struct Hello {
    /// Methods, in no order of preference.
    pub methods: Vec<MethodId>,
    /// The name.
    pub name: EntityName,
    /// The number that a monitor gave earlier; 0 for none.
    pub global_id: u64,
}

impl Decode for Hello {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("version")? {
            1 => {}
            other => return Err(r.error("version", DecodeErrorKind::Unknown { value: other.into() })),
        }
        Ok(Self {
            methods: r.list("methods", METHODS_MAX, 4, |r| r.u32("method").map(MethodId))?,
            name: EntityName::decode(r)?,
            global_id: r.u64("global id")?,
        })
    }
}

impl Encode for Hello {
    fn encode(&self, w: &mut Writer) {
        w.u8(1);
        w.list(&self.methods, |w, method| w.u32(method.0));
        self.name.encode(w);
        w.u64(self.global_id);
    }
}

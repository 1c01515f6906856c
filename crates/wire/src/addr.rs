use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use bytes::Bytes;

use crate::socket::{SOCKADDR_STORAGE_BYTES, SockAddr};
use crate::{Decode, DecodeError, DecodeErrorKind, Encode, EntityNum, Features, Reader, Writer};

/// Which protocol an address is for. Unknown kinds are kept.
///
/// Source: `ceph/ceph:src/msg/msg_types.h`, `entity_addr_t::type_t`; 0 to 3 seen in 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct AddrKind(pub u32);

impl AddrKind {
    /// No address.
    pub const NONE: Self = Self(0);
    /// Messenger v1.
    pub const LEGACY: Self = Self(1);
    /// Messenger v2.
    pub const MSGR2: Self = Self(2);
    /// Either messenger; what a client that does not listen announces.
    pub const ANY: Self = Self(3);
    /// A range of addresses, in block lists only (Quincy and later).
    pub const CIDR: Self = Self(4);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::NONE, "none"),
        (Self::LEGACY, "v1"),
        (Self::MSGR2, "v2"),
        (Self::ANY, "any"),
        (Self::CIDR, "cidr"),
    ];
}

impl fmt::Display for AddrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "type{}", self.0),
        }
    }
}

impl fmt::Debug for AddrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an entity can be reached, or is known from: `v2:10.0.0.1:3300/0`.
///
/// Two addresses are the same only if every part is, the nonce included. The legacy form, for peers without
/// [`Features::ADDR2`], loses the kind.
///
/// Source: `ceph/ceph:src/msg/msg_types.h`, `entity_addr_t`; both forms seen in 16.2.15.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "identity of a peer: a new part would change every comparison")]
pub struct EntityAddr {
    /// Which protocol it is for.
    pub kind: AddrKind,
    /// Tells incarnations of a process at one address apart; 0 for monitors.
    pub nonce: u32,
    /// The socket.
    pub socket: SockAddr,
}

impl EntityAddr {
    /// No address at all.
    pub const BLANK: Self = Self { kind: AddrKind::NONE, nonce: 0, socket: SockAddr::UNSET };

    /// An address of `kind`.
    pub const fn new(kind: AddrKind, socket: SocketAddr, nonce: u32) -> Self {
        let socket = match socket {
            SocketAddr::V4(addr) => SockAddr::V4(addr),
            SocketAddr::V6(addr) => SockAddr::V6(addr),
        };
        Self { kind, nonce, socket }
    }

    /// The address of a messenger v2 endpoint with nonce 0, as monitors have it.
    pub const fn v2(socket: SocketAddr) -> Self {
        Self::new(AddrKind::MSGR2, socket, 0)
    }

    /// The IP address and port, if there are any.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        self.socket.socket_addr()
    }

    /// Whether it names nothing.
    pub fn is_blank(&self) -> bool {
        self.kind == AddrKind::NONE || self.socket_addr().is_none()
    }

    fn decode_addr2(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("entity_addr_t", 1, |r, _| {
            let kind = AddrKind(r.u32("type")?);
            let nonce = r.u32("nonce")?;
            let len = r.len("sockaddr length", SOCKADDR_STORAGE_BYTES)?;
            let socket = if len == 0 {
                SockAddr::Other { family: 0, rest: Bytes::new() }
            } else {
                r.within(len, "sockaddr", |r| {
                    let family = r.u16("family")?;
                    SockAddr::decode_rest(r, family, false)
                })?
            };
            Ok(Self { kind, nonce, socket })
        })
    }

    fn decode_legacy(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.without(Features::ADDR2);
        r.skip(3, "type")?;
        let nonce = r.u32("nonce")?;
        let socket = r.within(SOCKADDR_STORAGE_BYTES, "sockaddr", |r| {
            // Big-endian here and little-endian in the newer form; verified against 16.2.15.
            let family = u16::from_be_bytes(r.array("family")?);
            SockAddr::decode_rest(r, family, true)
        })?;
        let kind = if socket.family() == 0 { AddrKind::NONE } else { AddrKind::LEGACY };
        Ok(Self { kind, nonce, socket })
    }

    /// The 136 bytes of the legacy form, whatever the features are: messenger v1 starts with them.
    pub fn encode_legacy(&self, w: &mut Writer) {
        w.u32(0);
        w.u32(self.nonce);
        let mut storage = Writer::new(w.features());
        storage.raw(&self.socket.family().to_be_bytes());
        self.socket.encode_rest(&mut storage);
        let used = storage.as_slice().get(..SOCKADDR_STORAGE_BYTES).unwrap_or(storage.as_slice());
        w.raw(used);
        w.zeros(SOCKADDR_STORAGE_BYTES.saturating_sub(used.len()));
    }
}

/// Marks the legacy form, in which it is the first byte of a `u32` 0.
const MARKER_LEGACY: u8 = 0;
/// Marks a single address with type and length.
const MARKER_ADDR2: u8 = 1;
/// Marks a list of addresses.
const MARKER_ADDRS: u8 = 2;

impl Default for EntityAddr {
    fn default() -> Self {
        Self::BLANK
    }
}

impl Decode for EntityAddr {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("address marker")? {
            MARKER_LEGACY => Self::decode_legacy(r),
            MARKER_ADDR2 => Self::decode_addr2(r),
            other => Err(r.error("address marker", DecodeErrorKind::Unknown { value: other.into() })),
        }
    }
}

impl Encode for EntityAddr {
    fn encode(&self, w: &mut Writer) {
        if !w.features().contains(Features::ADDR2) {
            self.encode_legacy(w);
            return;
        }
        // Peers before Nautilus do not know the kind "any".
        let known = self.kind != AddrKind::ANY || w.features().contains(Features::SERVER_NAUTILUS);
        let kind = if known { self.kind } else { AddrKind::LEGACY };
        w.u8(MARKER_ADDR2);
        w.versioned(1, 1, |w| {
            w.u32(kind.0);
            w.u32(self.nonce);
            match &self.socket {
                SockAddr::Other { family: 0, rest } if rest.is_empty() => w.u32(0),
                socket => w.sized(|w| {
                    w.u16(socket.family());
                    socket.encode_rest(w);
                }),
            }
        });
    }
}

impl fmt::Display for EntityAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            Some(socket) => write!(f, "{}:{socket}/{}", self.kind, self.nonce),
            None if self.kind == AddrKind::NONE => f.write_str("-"),
            None => write!(f, "{}:-/{}", self.kind, self.nonce),
        }
    }
}

impl fmt::Debug for EntityAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address is written v2:10.0.0.1:3300/0, with the kind and the nonce left out if they are v2 and 0"
)]
#[non_exhaustive]
pub struct ParseAddrError;

impl FromStr for EntityAddr {
    type Err = ParseAddrError;

    /// Reads `[v1:|v2:|any:]ip:port[/nonce]`; lists, host names and default ports are the command line's business.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        let (kind, rest) = match text.split_once(':') {
            Some(("v1", rest)) => (AddrKind::LEGACY, rest),
            Some(("v2", rest)) => (AddrKind::MSGR2, rest),
            Some(("any", rest)) => (AddrKind::ANY, rest),
            _ => (AddrKind::MSGR2, text),
        };
        let (socket, nonce) = match rest.split_once('/') {
            Some((socket, nonce)) => (socket, nonce.parse().map_err(|_| ParseAddrError)?),
            None => (rest, 0),
        };
        Ok(Self::new(kind, socket.parse().map_err(|_| ParseAddrError)?, nonce))
    }
}

/// All addresses of one entity: `[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]`.
///
/// Peers without [`Features::ADDR2`] are sent the messenger v1 address alone, in legacy form.
///
/// Source: `ceph/ceph:src/msg/msg_types.h`, `entity_addrvec_t`; seen in 16.2.15.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a list is a list")]
pub struct EntityAddrs(pub Vec<EntityAddr>);

/// Most addresses that we accept for one entity.
const ADDRS_MAX: usize = 256;

impl EntityAddrs {
    /// The address to use with messenger v2, if there is one.
    pub fn msgr2(&self) -> Option<&EntityAddr> {
        self.0.iter().find(|addr| addr.kind == AddrKind::MSGR2)
    }

    /// The address that stands for the entity towards peers that know only one.
    pub fn legacy_or_first(&self) -> EntityAddr {
        let legacy = self.0.iter().find(|addr| addr.kind == AddrKind::LEGACY);
        legacy.or_else(|| self.0.first()).cloned().unwrap_or_default()
    }

    /// An IP address that one of them has.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.iter().find_map(EntityAddr::socket_addr).map(|socket| socket.ip())
    }
}

impl From<EntityAddr> for EntityAddrs {
    fn from(addr: EntityAddr) -> Self {
        Self(alloc::vec![addr])
    }
}

impl Decode for EntityAddrs {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.peek_u8() == Some(MARKER_ADDRS) {
            r.skip(1, "address marker")?;
            // A list is the newer form, whatever the forms inside it: the legacy one would lose all but one address.
            let seen = r.features_seen();
            let addrs = r.list("addresses", ADDRS_MAX, 19, EntityAddr::decode);
            r.restore_features_seen(seen);
            return addrs.map(Self);
        }
        // A single address stands for a list of one; an unset one in legacy form for the list that had none.
        let legacy = r.peek_u8() == Some(MARKER_LEGACY);
        let addr = EntityAddr::decode(r)?;
        Ok(if legacy && addr == EntityAddr::BLANK { Self::default() } else { addr.into() })
    }
}

impl Encode for EntityAddrs {
    fn encode(&self, w: &mut Writer) {
        if w.features().contains(Features::ADDR2) {
            w.u8(MARKER_ADDRS);
            w.list(&self.0, |w, addr| addr.encode(w));
        } else {
            self.legacy_or_first().encode_legacy(w);
        }
    }
}

impl fmt::Display for EntityAddrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [addr] => write!(f, "{addr}"),
            addrs => {
                f.write_str("[")?;
                for (i, addr) in addrs.iter().enumerate() {
                    write!(f, "{}{addr}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl fmt::Debug for EntityAddrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entity and one address of it.
///
/// Source: `ceph/ceph:src/msg/msg_types.h`, `entity_inst_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no version to add a third")]
pub struct EntityInst {
    /// Who.
    pub name: EntityNum,
    /// Where.
    pub addr: EntityAddr,
}

impl Decode for EntityInst {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: EntityNum::decode(r)?, addr: EntityAddr::decode(r)? })
    }
}

impl Encode for EntityInst {
    fn encode(&self, w: &mut Writer) {
        self.name.encode(w);
        self.addr.encode(w);
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{EntityAddr, EntityAddrs};
    use alloc::string::ToString;
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    impl Serialize for EntityAddr {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("EntityAddr", 3)?;
            object.serialize_field("type", &self.kind.to_string())?;
            object.serialize_field("addr", &self.socket_addr().map(|socket| socket.to_string()))?;
            object.serialize_field("nonce", &self.nonce)?;
            object.end()
        }
    }

    impl Serialize for EntityAddrs {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn v2() -> EntityAddr {
        "v2:127.0.0.1:3300/0".parse().unwrap()
    }

    fn round_trip(addr: &EntityAddr, features: Features) -> (Bytes, EntityAddr) {
        let bytes = addr.to_bytes(features);
        let mut r = Reader::new(&bytes);
        let decoded = EntityAddr::decode(&mut r).unwrap();
        r.finish("address").unwrap();
        (bytes, decoded)
    }

    #[test]
    fn the_newer_form_takes_the_bytes_of_a_captured_hello() {
        let (bytes, decoded) = round_trip(&v2(), Features::PACIFIC);
        assert_eq!(
            &bytes[..],
            b"\x01\x01\x01\x1c\0\0\0\x02\0\0\0\0\0\0\0\x10\0\0\0\x02\0\x0c\xe4\x7f\0\0\x01\0\0\0\0\0\0\0\0"
        );
        assert_eq!(decoded, v2());
    }

    #[test]
    fn the_legacy_form_is_136_bytes_and_loses_the_kind() {
        let (bytes, decoded) = round_trip(&v2(), Features::empty());
        assert_eq!(bytes.len(), 136);
        assert_eq!(&bytes[8..16], b"\0\x02\x0c\xe4\x7f\0\0\x01");
        assert_eq!(decoded.to_string(), "v1:127.0.0.1:3300/0");
    }

    #[test]
    fn a_blank_address_is_47_bytes_and_may_also_come_as_19() {
        let (bytes, decoded) = round_trip(&EntityAddr::BLANK, Features::PACIFIC);
        assert_eq!((bytes.len(), decoded), (47, EntityAddr::BLANK));
        let short = Bytes::from_static(b"\x01\x01\x01\x0c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let decoded = EntityAddr::decode(&mut Reader::new(&short)).unwrap();
        assert!(decoded.is_blank());
        assert_eq!(decoded.to_bytes(Features::PACIFIC), short);
    }

    #[test]
    fn ipv6_and_stray_padding_survive() {
        let v6: EntityAddr = "any:[::1]:0/2934640610".parse().unwrap();
        assert_eq!(round_trip(&v6, Features::PACIFIC).1, v6);
        let mut bytes = v2().to_bytes(Features::PACIFIC).to_vec();
        *bytes.last_mut().unwrap() = 0x55;
        let bytes = Bytes::from(bytes);
        let odd = EntityAddr::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(odd.to_bytes(Features::PACIFIC), bytes);
    }

    #[test]
    fn a_list_reads_from_all_three_forms() {
        let both = EntityAddrs(alloc::vec![v2(), "v1:127.0.0.1:6789/0".parse().unwrap()]);
        let bytes = both.to_bytes(Features::PACIFIC);
        assert_eq!(EntityAddrs::decode(&mut Reader::new(&bytes)), Ok(both.clone()));
        let legacy = both.to_bytes(Features::empty());
        let decoded = EntityAddrs::decode(&mut Reader::new(&legacy)).unwrap();
        assert_eq!(decoded.to_string(), "v1:127.0.0.1:6789/0");
        let none = EntityAddrs::default().to_bytes(Features::PACIFIC);
        assert_eq!(&none[..], b"\x02\0\0\0\0");
        assert_eq!(both.to_string(), "[v2:127.0.0.1:3300/0,v1:127.0.0.1:6789/0]");
    }

    #[test]
    fn a_list_with_a_legacy_address_inside_is_written_as_a_list_again() {
        let mut w = Writer::new(Features::empty());
        w.u8(MARKER_ADDRS);
        w.count(2);
        v2().encode(&mut w);
        w.raw(&v2().to_bytes(Features::PACIFIC));
        let bytes = w.into_bytes();
        let mut r = Reader::new(&bytes);
        let decoded = EntityAddrs::decode(&mut r).unwrap();
        assert_eq!(decoded.0.len(), 2);
        let again = decoded.to_bytes(r.features_seen());
        assert_eq!(EntityAddrs::decode(&mut Reader::new(&again)), Ok(decoded));
    }

    #[test]
    fn text_without_a_kind_means_messenger_v2() {
        assert_eq!("127.0.0.1:3300".parse::<EntityAddr>(), Ok(v2()));
        assert_eq!("127.0.0.1".parse::<EntityAddr>(), Err(ParseAddrError));
    }
}

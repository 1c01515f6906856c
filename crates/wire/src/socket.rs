use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, Reader, Writer};

/// The socket part of an address.
///
/// What is not an exact IPv4 or IPv6 address, stray bytes in its padding included, is kept as bytes, since Ceph
/// compares addresses byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the last variant holds everything else")]
pub enum SockAddr {
    /// IPv4.
    V4(SocketAddrV4),
    /// IPv6, with flow label and scope.
    V6(SocketAddrV6),
    /// Anything else: family and the bytes behind it. Family 0 stands for "not set".
    Other {
        /// Address family, Linux numbers.
        family: u16,
        /// The bytes after the family.
        rest: Bytes,
    },
}

/// Family of IPv4, as Linux numbers it.
const FAMILY_V4: u16 = 2;
/// Family of IPv6, as Linux numbers it.
const FAMILY_V6: u16 = 10;
/// Bytes of a `sockaddr_in6`, which is also what an unset address takes.
const SOCKADDR_V6_BYTES: usize = 28;
/// Bytes of a `sockaddr_storage`: all that the legacy form carries, and the most that any form may.
pub(crate) const SOCKADDR_STORAGE_BYTES: usize = 128;

impl SockAddr {
    /// Nothing set, in the length in which 16.2 writes it.
    pub const UNSET: Self = Self::Other { family: 0, rest: Bytes::from_static(&[0; SOCKADDR_V6_BYTES - 2]) };

    /// The IP address and port, if there are any.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::V4(addr) => Some(SocketAddr::V4(*addr)),
            Self::V6(addr) => Some(SocketAddr::V6(*addr)),
            Self::Other { .. } => None,
        }
    }

    /// Reads what follows the family, `r` being bounded to it. `padded` allows zeros up to the end.
    pub(crate) fn decode_rest(r: &mut Reader<'_>, family: u16, padded: bool) -> Result<Self, DecodeError> {
        let all = r.clone();
        let parsed = match family {
            FAMILY_V4 => Self::decode_v4(r).ok(),
            FAMILY_V6 => Self::decode_v6(r).ok(),
            _ => None,
        };
        let exact = if padded {
            r.bytes(r.remaining(), "padding")?.iter().all(|byte| *byte == 0)
        } else {
            r.is_empty()
        };
        match parsed {
            Some(addr) if exact => Ok(addr),
            _ => {
                *r = all;
                let rest = r.bytes(r.remaining(), "sockaddr")?;
                Ok(Self::Other { family, rest })
            }
        }
    }

    fn decode_v4(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = u16::from_be_bytes(r.array("port")?);
        let ip = Ipv4Addr::from(r.array::<4>("ip")?);
        if r.array::<8>("zero")? == [0; 8] {
            Ok(Self::V4(SocketAddrV4::new(ip, port)))
        } else {
            Err(r.error("zero", DecodeErrorKind::Invalid("padding is not zero")))
        }
    }

    fn decode_v6(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = u16::from_be_bytes(r.array("port")?);
        let flow = r.u32("flowinfo")?;
        let ip = Ipv6Addr::from(r.array::<16>("ip")?);
        let scope = r.u32("scope id")?;
        Ok(Self::V6(SocketAddrV6::new(ip, port, flow, scope)))
    }

    /// Writes what follows the family.
    pub(crate) fn encode_rest(&self, w: &mut Writer) {
        match self {
            Self::V4(addr) => {
                w.raw(&addr.port().to_be_bytes());
                w.raw(&addr.ip().octets());
                w.zeros(8);
            }
            Self::V6(addr) => {
                w.raw(&addr.port().to_be_bytes());
                w.u32(addr.flowinfo());
                w.raw(&addr.ip().octets());
                w.u32(addr.scope_id());
            }
            Self::Other { rest, .. } => w.raw(rest),
        }
    }

    /// The address family, Linux numbers; 0 for none.
    pub(crate) const fn family(&self) -> u16 {
        match self {
            Self::V4(_) => FAMILY_V4,
            Self::V6(_) => FAMILY_V6,
            Self::Other { family, .. } => *family,
        }
    }
}

//! Lists of monitors as people write them: `10.0.0.1`, `[v2:10.0.0.1:3300,v1:10.0.0.1:6789]`, `ceph-mon.example`.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str::FromStr;
use std::io;
use std::net::ToSocketAddrs;

use cuttlebone_wire::{AddrKind, EntityAddr, EntityAddrs};
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, one_of, u16 as number16, u32 as number32};
use nom::combinator::{all_consuming, map_opt, opt, value};
use nom::multi::{many0_count, many1_count, separated_list0, separated_list1};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// Where monitors listen for messenger v2 if nothing else is said.
const PORT_MSGR2: u16 = 3300;
/// Where monitors listen for messenger v1 if nothing else is said.
const PORT_LEGACY: u16 = 6789;
/// Most addresses that we take from one host name.
const ADDRS_PER_NAME_MAX: usize = 64;

/// A list of monitors whose host names have not been looked up yet.
///
/// Source: `ceph/ceph:src/mon/MonMap.cc`, `init_with_hosts`; `ceph/ceph:src/msg/msg_types.cc`, `entity_addrvec_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonHost {
    monitors: Vec<Vec<Endpoint>>,
}

/// One address, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    kind: Option<AddrKind>,
    host: Host,
    port: Option<u16>,
    nonce: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Text that is not a list of monitors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a list of monitors, as in 10.0.0.1,[v2:10.0.0.2:3300/0,v1:10.0.0.2:6789/0] or a host name"
)]
#[non_exhaustive]
pub struct ParseError(String);

impl FromStr for MonHost {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match all_consuming(list).parse(text) {
            Ok((_, monitors)) if !monitors.is_empty() => Ok(Self { monitors }),
            _ => Err(ParseError(text.into())),
        }
    }
}

impl MonHost {
    /// The addresses of each monitor. A host name with several addresses stands for as many monitors.
    ///
    /// # Errors
    ///
    /// If a host name cannot be looked up.
    pub fn resolve(&self) -> io::Result<Vec<EntityAddrs>> {
        let mut monitors = Vec::new();
        for endpoints in &self.monitors {
            match endpoints.as_slice() {
                [Endpoint { host: Host::Name(name), .. }] => {
                    let ips = look_up(name)?;
                    monitors.extend(ips.into_iter().map(|ip| EntityAddrs(endpoints[0].addrs(ip))));
                }
                endpoints => {
                    let mut addrs = Vec::new();
                    for endpoint in endpoints {
                        let ip = match &endpoint.host {
                            Host::Ip(ip) => *ip,
                            Host::Name(name) => {
                                let ips = look_up(name)?;
                                *ips.first().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
                            }
                        };
                        addrs.extend(endpoint.addrs(ip));
                    }
                    monitors.push(EntityAddrs(addrs));
                }
            }
        }
        Ok(monitors)
    }
}

/// The addresses of a host name, each once.
fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0)
        .to_socket_addrs()
        .map_err(|error| io::Error::new(io::ErrorKind::HostUnreachable, format!("host {name}: {error}")))?;
    let mut ips = Vec::new();
    for ip in found.map(|addr| addr.ip()).take(ADDRS_PER_NAME_MAX) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

impl Endpoint {
    /// What it stands for: where neither kind nor port says which messenger, both are tried.
    fn addrs(&self, ip: IpAddr) -> Vec<EntityAddr> {
        let at = |kind, port| EntityAddr::new(kind, SocketAddr::new(ip, port), self.nonce);
        let kind = self.kind.filter(|kind| *kind != AddrKind::ANY).or(match self.port {
            Some(PORT_MSGR2) => Some(AddrKind::MSGR2),
            Some(PORT_LEGACY) => Some(AddrKind::LEGACY),
            _ => None,
        });
        match kind {
            Some(AddrKind::LEGACY) => vec![at(AddrKind::LEGACY, self.port.unwrap_or(PORT_LEGACY))],
            Some(kind) => vec![at(kind, self.port.unwrap_or(PORT_MSGR2))],
            None => vec![
                at(AddrKind::MSGR2, self.port.unwrap_or(PORT_MSGR2)),
                at(AddrKind::LEGACY, self.port.unwrap_or(PORT_LEGACY)),
            ],
        }
    }
}

impl fmt::Display for MonHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, endpoints) in self.monitors.iter().enumerate() {
            let list: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            let comma = if i == 0 { "" } else { "," };
            match endpoints.as_slice() {
                [endpoint] => write!(f, "{comma}{endpoint}")?,
                _ => write!(f, "{comma}[{}]", list.join(","))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{kind}:")?;
        }
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Name(name) => f.write_str(name)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if self.nonce != 0 {
            write!(f, "/{}", self.nonce)?;
        }
        Ok(())
    }
}

fn separator(text: &str) -> IResult<&str, usize> {
    many1_count(one_of(",; \t\r\n")).parse(text)
}

fn list(text: &str) -> IResult<&str, Vec<Vec<Endpoint>>> {
    let blank = |text| many0_count(one_of(",; \t\r\n")).parse(text);
    delimited(blank, separated_list0(separator, monitor), blank).parse(text)
}

/// One monitor: an address, or several in brackets.
fn monitor(text: &str) -> IResult<&str, Vec<Endpoint>> {
    let several = delimited(char('['), separated_list1(separator, endpoint), char(']'));
    alt((endpoint.map(|one| vec![one]), several)).parse(text)
}

fn endpoint(text: &str) -> IResult<&str, Endpoint> {
    let kind = alt((
        value(AddrKind::LEGACY, tag("v1:")),
        value(AddrKind::MSGR2, tag("v2:")),
        value(AddrKind::ANY, tag("any:")),
    ));
    let port = preceded(char(':'), number16);
    let nonce = preceded(char('/'), number32);
    let parts = (opt(kind), host, opt(port), opt(nonce));
    parts
        .map(|(kind, host, port, nonce)| Endpoint {
            kind,
            host,
            port: port.filter(|port| *port != 0),
            nonce: nonce.unwrap_or(0),
        })
        .parse(text)
}

fn host(text: &str) -> IResult<&str, Host> {
    let v6 = |text| {
        map_opt(take_while1(|c: char| c.is_ascii_hexdigit() || c == ':' || c == '.'), parse_v6).parse(text)
    };
    let bracketed = delimited(char('['), v6, char(']'));
    let word = take_while1(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let named = word.map(|word: &str| match word.parse() {
        Ok(ip) => Host::Ip(ip),
        Err(_) => Host::Name(word.into()),
    });
    // Without brackets a v6 address can have no port: all its colons are its own.
    alt((bracketed, terminated(v6, nom::combinator::not(char(':'))), named)).parse(text)
}

fn parse_v6(text: &str) -> Option<Host> {
    text.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(IpAddr::V6(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let monitors = text.parse::<MonHost>().unwrap().resolve().unwrap();
        let monitors: Vec<_> = monitors.iter().map(ToString::to_string).collect();
        assert_eq!(monitors, expected, "{text:?}");
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        check("10.0.0.1", &["[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]"]);
        check("10.0.0.1:3300", &["v2:10.0.0.1:3300/0"]);
        check("10.0.0.1:6789", &["v1:10.0.0.1:6789/0"]);
        check("10.0.0.1:40000", &["[v2:10.0.0.1:40000/0,v1:10.0.0.1:40000/0]"]);
        check("v2:10.0.0.1", &["v2:10.0.0.1:3300/0"]);
        check("v1:10.0.0.1", &["v1:10.0.0.1:6789/0"]);
        check("v2:10.0.0.1:40000/7", &["v2:10.0.0.1:40000/7"]);
    }

    #[test]
    fn lists_are_separated_by_commas_semicolons_and_blanks() {
        check(
            "10.0.0.1:3300, 10.0.0.2:3300;10.0.0.3:3300",
            &["v2:10.0.0.1:3300/0", "v2:10.0.0.2:3300/0", "v2:10.0.0.3:3300/0"],
        );
        check(
            "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0] [v2:10.0.0.2:3300,v1:10.0.0.2:6789]",
            &["[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", "[v2:10.0.0.2:3300/0,v1:10.0.0.2:6789/0]"],
        );
    }

    #[test]
    fn ipv6_comes_with_and_without_brackets() {
        check("[::1]:3300", &["v2:[::1]:3300/0"]);
        check("2001:db8::1", &["[v2:[2001:db8::1]:3300/0,v1:[2001:db8::1]:6789/0]"]);
        check(
            "[v2:[2001:db8::1]:3300/0,v1:[2001:db8::1]:6789/0]",
            &["[v2:[2001:db8::1]:3300/0,v1:[2001:db8::1]:6789/0]"],
        );
    }

    #[test]
    fn host_names_are_looked_up() {
        let monitors = "localhost:3300".parse::<MonHost>().unwrap().resolve().unwrap();
        assert!(monitors.iter().any(|addrs| addrs.ip().is_some_and(|ip| ip.is_loopback())), "{monitors:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", " ", "[", "10.0.0.1:99999", "v2:", "a b!", "[v2:10.0.0.1:3300", "10.0.0.1/x"] {
            assert!(text.parse::<MonHost>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        for text in ["10.0.0.1", "[v2:[::1]:3300,v1:a.example:6789]", "a-b.example;v1:10.0.0.1:1/2"] {
            let list: MonHost = text.parse().unwrap();
            assert_eq!(list.to_string().parse(), Ok(list));
        }
    }
}

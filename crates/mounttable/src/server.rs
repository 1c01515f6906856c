use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_until, take_while_m_n, take_while1};
use nom::character::complete::{char, digit1};
use nom::combinator::{map_opt, peek, recognize, rest, verify};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::Name;
use crate::name::push;

/// Bytes in a server's address, without its suffix.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Where a server is: an address, and the name that is meant within it.
///
/// An address is `host:port`, `[v6]:port`, either after `(identity)@`, or a Vanadium endpoint (`@6@tcp@host:port@…@@`).
/// Written with or without a leading slash it is the same server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server(Arc<str>);

impl Server {
    /// Checks `text`.
    ///
    /// # Errors
    ///
    /// [`ServerError`] for text that names no reachable address: a host without a port, a broken endpoint.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        let rooted = text.strip_prefix('/').unwrap_or(text);
        let (rest, found) = recognize(address).parse(rooted).map_err(|_| ServerError)?;
        let suffix = match rest.strip_prefix('/') {
            Some(suffix) => Name::parse(suffix).map_err(|_| ServerError)?,
            None if rest.is_empty() => Name::root(),
            None => return Err(ServerError),
        };
        if found.len() > ADDRESS_BYTES_MAX {
            return Err(ServerError);
        }
        if suffix.is_root() {
            return Ok(Self(Arc::from(found)));
        }
        let mut clean = alloc::string::String::from(found);
        push(&mut clean, suffix.as_str());
        Ok(Self(Arc::from(clean)))
    }

    /// Address and suffix, as [`Server::parse`] reads them again.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address and the suffix.
    pub fn split(&self) -> (&str, Name) {
        let end = match recognize(address).parse(self.as_str()) {
            Ok((rest, found)) if rest.is_empty() || rest.starts_with('/') => found.len(),
            _ => self.0.len(),
        };
        let (address, rest) = self.0.split_at(end);
        (address, Name::from_clean(rest.strip_prefix('/').unwrap_or("")))
    }

    /// This server, asked for what lies `suffix` below.
    ///
    /// # Errors
    ///
    /// When the suffix becomes longer than a name may be.
    pub fn join(&self, suffix: &Name) -> Result<Self, ServerError> {
        let (address, mine) = self.split();
        let suffix = mine.join(suffix).map_err(|_| ServerError)?;
        let mut text = alloc::string::String::from(address);
        if !suffix.is_root() {
            push(&mut text, suffix.as_str());
        }
        Ok(Self(Arc::from(text)))
    }
}

fn address(input: &str) -> IResult<&str, &str> {
    alt((endpoint, recognize((identity, host_and_port)), host_and_port)).parse(input)
}

/// Source: `vanadium/core:v23/naming/endpoint.go`; `@6@protocol@address@routes@id@m|s@blessings@@`, where fields after
/// the address may be empty, so that only `@@` before a slash or at the end closes it.
fn endpoint(input: &str) -> IResult<&str, &str> {
    let body =
        alt((recognize((take_until("@@/"), tag("@@"))), verify(rest, |text: &str| text.ends_with("@@"))));
    let (left, found) = preceded(peek(char('@')), body).parse(input)?;
    let protocol = take_while1(|c: char| c.is_ascii_alphanumeric());
    (tag("@6@"), protocol, char('@'), host_and_port, char('@')).parse(found)?;
    Ok((left, found))
}

/// Source: `vanadium/core:v23/naming/parse.go`; who has to answer at the address.
fn identity(input: &str) -> IResult<&str, &str> {
    recognize((char('('), is_not("()/"), tag(")@"))).parse(input)
}

fn host_and_port(input: &str) -> IResult<&str, &str> {
    recognize((host, preceded(char(':'), port))).parse(input)
}

fn host(input: &str) -> IResult<&str, &str> {
    let v6 = recognize((
        char('['),
        take_while_m_n(2, 45, |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.'),
        char(']'),
    ));
    let plain = take_while1(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    alt((v6, plain)).parse(input)
}

fn port(input: &str) -> IResult<&str, u16> {
    map_opt(digit1, |digits: &str| digits.parse().ok().filter(|&port: &u16| port != 0)).parse(input)
}

/// Text that names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server: expected host:port, [v6]:port or an endpoint, and an optional /suffix")]
#[non_exhaustive]
pub struct ServerError;

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        Self::parse(text)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_an_address_with_a_port() {
        for (text, address, suffix) in [
            ("@6@tcp@10.0.0.1:80@@@s@@@", "@6@tcp@10.0.0.1:80@@@s@@@", ""),
            ("@6@tcp@10.0.0.1:80@@00a1@s@dev@@/sub", "@6@tcp@10.0.0.1:80@@00a1@s@dev@@", "sub"),
            ("host:8000", "host:8000", ""),
            ("/host:8000", "host:8000", ""),
            ("/host:8000//a/b/", "host:8000", "a/b"),
            ("[::1]:8000/a", "[::1]:8000", "a"),
            ("(dev:root)@host:1/x", "(dev:root)@host:1", "x"),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!(server.split(), (address, Name::parse(suffix).unwrap()), "{text}");
            assert_eq!(Server::parse(server.as_str()).unwrap(), server);
        }
    }

    #[test]
    fn a_host_without_a_port_and_a_broken_endpoint_are_no_servers() {
        for text in [
            "",
            "/",
            "/host",
            "host",
            "host:0",
            "host:65536",
            "host:80x",
            "@",
            "@@",
            "@6@@",
            "@6@tcp@h@@",
            "@2@tcp@h:1@@",
        ] {
            assert_eq!(Server::parse(text), Err(ServerError), "{text}");
        }
    }

    #[test]
    fn a_suffix_is_appended_to_the_one_there_is() {
        let server = Server::parse("host:1/a").unwrap();
        assert_eq!(server.join(&Name::parse("b/c").unwrap()).unwrap().as_str(), "host:1/a/b/c");
        assert_eq!(server.join(&Name::root()).unwrap(), server);
    }
}

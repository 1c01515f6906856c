use core::fmt;
use core::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest body that is read, in bytes; a request has a handful of short fields.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// The longest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a client may take to send a head, and then a body, unless told otherwise.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to read what it asked for, in one piece, unless told otherwise.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How the service behaves.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..Config::default()`")]
pub struct Config {
    /// How long a client may be silent or unreachable before what it holds comes back.
    pub lease: Duration,
    /// Connections open at once; on HTTP/1.1 each carries one answer at a time.
    pub connections_max: usize,
    /// Connections of one client at once: of one address, or of one IPv6 network of 64 bits. Clients on this machine have
    /// no such limit, but for behind a proxy ([`Network::Between`]).
    pub connections_per_client_max: u32,
    /// Sessions at once: those with an open answer, and those whose connection was lost and whose lease runs.
    pub sessions_max: usize,
    /// What a client has to show. A listener that others can reach does not start without one.
    pub bearer: Option<Bearer>,
    /// Who is behind a connection that breaks.
    pub network: Network,
    /// How long a client may take to send a head, and then a body; also how long an idle connection is kept.
    pub head_timeout: Duration,
    /// How long a client may read nothing while there is something to read; then its connection is broken off.
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            connections_max: 4_096,
            connections_per_client_max: 256,
            sessions_max: 100_000,
            bearer: None,
            network: Network::Detect,
            head_timeout: HEAD_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
        }
    }
}

/// Whether a connection can break without its peer's doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "told or found out")]
pub enum Network {
    /// Not on a Unix socket or between loopback addresses, otherwise yes.
    #[default]
    Detect,
    /// Always: a proxy lies between, or a test stands in for a network.
    Between,
}

/// A secret that clients show.
#[derive(Clone)]
pub struct Bearer(String);

impl Bearer {
    /// `None` if it is empty.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        (!secret.is_empty()).then(|| Self(secret.to_owned()))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `Bearer` with the secret, or, as browsers ask people, `Basic` with any user and the secret for a password.
    pub(crate) fn admits(&self, shown: Option<&[u8]>) -> bool {
        let shown = shown.unwrap_or_default();
        let word = |word: &str| {
            let (before, after) = shown.split_at_checked(word.len())?;
            before.eq_ignore_ascii_case(word.as_bytes()).then_some(after)
        };
        if let Some(pair) = word("Basic ") {
            let pair = STANDARD.decode(pair).unwrap_or_default();
            let colon = pair.iter().position(|byte| *byte == b':').map_or(pair.len(), |at| at + 1);
            return self.is(pair.get(colon..).unwrap_or_default());
        }
        word("Bearer ").is_some_and(|secret| self.is(secret))
    }

    /// Takes the same time wherever the difference is.
    fn is(&self, shown: &[u8]) -> bool {
        let differences = self.0.bytes().zip(shown).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.0.len() == shown.len() && differences == 0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

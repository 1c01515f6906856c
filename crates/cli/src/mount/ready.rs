//! Whether a command is ready for those who find it by its name.

use core::str::FromStr;
use core::time::Duration;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

/// How long one probe may take before the command counts as not ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two probes of a command that is not ready yet.
const EAGER: Duration = Duration::from_millis(100);
/// Bytes of an answer that are read for its status line.
const STATUS_LINE_BYTES_MAX: u64 = 1024;

/// How to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Probe {
    /// The server accepts a connection.
    Tcp,
    /// The server answers a `GET` of this path with a status from 200 to 299.
    Http(String),
    /// This shell command ends with status 0.
    Command(String),
}

/// Text that names no probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write tcp, http:/PATH or cmd:COMMAND")]
#[non_exhaustive]
pub struct ProbeError;

impl FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        match text.split_once(':') {
            None if text == "tcp" => Ok(Self::Tcp),
            Some(("http", path))
                if path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || c.is_control()) =>
            {
                Ok(Self::Http(path.into()))
            }
            Some(("cmd", command)) if !command.trim().is_empty() => Ok(Self::Command(command.into())),
            _ => Err(ProbeError),
        }
    }
}

/// A probe that is repeated.
#[derive(Debug)]
pub(super) struct Readiness {
    /// Without one the command is ready from the start.
    probe: Option<Probe>,
    /// Where the server is, as `HOST:PORT`.
    address: String,
    /// Between two probes of a command that is ready.
    every: Duration,
    ready: bool,
    next: Instant,
}

impl Readiness {
    pub(super) fn new(probe: Option<Probe>, address: &str, every: Duration) -> Self {
        Self { probe, address: address.into(), every, ready: false, next: Instant::now() }
    }

    /// Waits until the command becomes ready, or is no longer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up one probe, which is then made again.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            let Some(probe) = &self.probe else {
                if self.ready {
                    core::future::pending::<()>().await;
                }
                self.ready = true;
                return true;
            };
            sleep_until(self.next).await;
            let ready = matches!(timeout(PROBE_TIMEOUT, probe.passes(&self.address)).await, Ok(true));
            self.next = Instant::now() + if ready { self.every } else { EAGER.min(self.every) };
            if ready != self.ready {
                self.ready = ready;
                return ready;
            }
        }
    }
}

impl Probe {
    async fn passes(&self, address: &str) -> bool {
        match self {
            Self::Tcp => TcpStream::connect(address).await.is_ok(),
            Self::Http(path) => says_ok(address, path).await.is_ok_and(|ok| ok),
            Self::Command(command) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                shell.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
            }
        }
    }
}

async fn says_ok(address: &str, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut head = stream.take(STATUS_LINE_BYTES_MAX);
    while !answer.contains(&b'\n') && head.read_buf(&mut answer).await? > 0 {}
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..5));
    Ok(status.is_some_and(|status| status.starts_with(b" 2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_they_are_documented() {
        for (text, expected) in [
            ("tcp", Ok(Probe::Tcp)),
            ("http:/healthz", Ok(Probe::Http("/healthz".into()))),
            ("cmd:test -e x:y", Ok(Probe::Command("test -e x:y".into()))),
            ("", Err(ProbeError)),
            ("tcp:1", Err(ProbeError)),
            ("http:healthz", Err(ProbeError)),
            ("http:/a b", Err(ProbeError)),
            ("http:/a\r\nx", Err(ProbeError)),
            ("cmd: ", Err(ProbeError)),
        ] {
            assert_eq!(text.parse::<Probe>(), expected, "{text}");
        }
    }
}

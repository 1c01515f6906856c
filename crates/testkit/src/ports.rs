use core::net::Ipv4Addr;
use core::ops::Range;
use std::net::TcpListener;

use anyhow::{Context, Result};

/// Where free ports are looked for: below the range from which Linux takes the local ports of outgoing connections,
/// so that no client can take one between our look and the daemon's bind.
const PORTS: Range<u16> = 20_000..32_000;
/// How many ports to try before giving up.
const TRIES: u32 = 200;

/// A port of 127.0.0.1 on which nobody listens.
///
/// Another process may still be faster; whoever starts a daemon tries again with another port then.
///
/// # Errors
///
/// If none of many tries was free.
pub fn free_port() -> Result<u16> {
    (0..TRIES)
        .find_map(|_| listener().ok()?.local_addr().ok())
        .map(|addr| addr.port())
        .context("no free port")
}

/// A listener on a free port of 127.0.0.1.
pub(crate) fn listener() -> Result<TcpListener> {
    let mut chance = [0; 2];
    getrandom::fill(&mut chance).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let port = PORTS.start + u16::from_le_bytes(chance) % (PORTS.end - PORTS.start);
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
}

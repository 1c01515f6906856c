use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use cuttlebone_node::{Provide, ProvideConfig, ProvideEvent};
use cuttlebone_wire::EntityAddr;
use serde_json::json;

use super::runtime;
use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::Output;
use crate::text::bytes;

/// What to serve, and where.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ServeArgs {
    /// Directory of the copy. A backup may keep it current meanwhile.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Where to listen: address and port, with or without v2: in front; 3300 without a port, a free one with 0.
    #[arg(long, value_name = "ADDR", value_parser = listen_addr)]
    pub listen: SocketAddr,
    /// The address under which monitors dial us, where it is another one: v2:10.0.0.1:3300/0.
    #[arg(long, value_name = "ADDR")]
    pub advertise: Option<EntityAddr>,
    /// What we are called among monitors.
    #[arg(long = "as", value_name = "NAME", default_value = "cuttlebone")]
    pub called: String,
    /// Most bytes of one chunk.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(4096..=64 << 20))]
    pub chunk_bytes: u32,
}

/// The port of monitors, with messenger v2.
const MON_PORT: u16 = 3300;

fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    let plain = text.strip_prefix("v2:").unwrap_or(text);
    let plain = plain.split('/').next().unwrap_or(plain);
    if let Some(Ok(port)) = plain.strip_prefix(':').map(str::parse) {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    plain
        .parse::<SocketAddr>()
        .or_else(|_| plain.parse::<IpAddr>().map(|ip| (ip, MON_PORT).into()))
        .map_err(|_| format!("{text} is no address to listen on, such as 10.0.0.1:3300"))
}

pub(super) fn run<W: Write>(arguments: &ServeArgs, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let mut config = ProvideConfig::new(&arguments.store, arguments.listen);
    config.advertise = arguments.advertise.clone().map(Into::into);
    config.name.clone_from(&arguments.called);
    config.provider.budget.bytes = usize::try_from(arguments.chunk_bytes).unwrap_or(usize::MAX);
    runtime()?.block_on(async {
        let provide = Provide::bind(config).await.with_context(|| arguments.store.display().to_string())?;
        announce(&provide, output)?;
        let mut ended = Exit::Done;
        let mut failed = None;
        let shutdown = async {
            ended = match interrupted().await {
                Interrupt::Terminate => Exit::Done,
                Interrupt::Interrupt => Exit::Interrupted,
            };
        };
        let mut report = |event: ProvideEvent<'_>| {
            if let Err(error) = tell(&event, global, output) {
                failed.get_or_insert(error);
            }
        };
        provide.run(shutdown, &mut report).await?;
        match failed {
            // Nobody reads what we tell; we have served all the same.
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(anyhow::Error::new(error).context(Failed::new(Exit::Failure, "standard output")))
            }
            _ => Ok(ended),
        }
    })
}

fn announce<W: Write>(provide: &Provide, output: &mut Output<W>) -> Result<()> {
    let point = provide.point();
    let item = json!({
        "event": "listening",
        "addrs": provide.addrs().to_string(),
        "fsid": provide.fsid().to_string(),
        "point": point.id.0,
        "version": point.last_committed,
        "keys": point.keys,
        "bytes": point.bytes,
    });
    output.item(&item, |out| {
        writeln!(
            out,
            "serving point {} at version {} ({} keys, {}) of cluster {} on {}",
            point.id,
            point.last_committed,
            point.keys,
            bytes(point.bytes),
            provide.fsid(),
            provide.addrs()
        )
    })?;
    Ok(output.finish()?)
}

fn tell<W: Write>(event: &ProvideEvent<'_>, global: &Global, output: &mut Output<W>) -> std::io::Result<()> {
    let (name, detail) = match event {
        ProvideEvent::Connected { kind, addrs } => ("connected", format!("{kind} {addrs}")),
        ProvideEvent::Gone { addrs } => ("gone", addrs.to_string()),
        ProvideEvent::Finished { copies, chunks, bytes: sent } => (
            "finished",
            format!("a copy; {chunks} chunks and {} so far, {copies} more in progress", bytes(*sent)),
        ),
        ProvideEvent::Unreadable(error) => ("unreadable", crate::exit::chain(*error)),
        ProvideEvent::Dropped(why) if global.verbose > 0 => ("dropped", format!("{why:?}")),
        _ => return Ok(()),
    };
    if global.quiet {
        return Ok(());
    }
    output.item(&json!({"event": name, "detail": detail}), |out| writeln!(out, "{name}: {detail}"))?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_is_given_as_people_write_it() {
        for (text, expected) in [
            ("127.0.0.1:3300", "127.0.0.1:3300"),
            ("v2:127.0.0.1:0/0", "127.0.0.1:0"),
            ("10.0.0.1", "10.0.0.1:3300"),
            ("[::1]:3300", "[::1]:3300"),
            ("::1", "[::1]:3300"),
            (":3301", "127.0.0.1:3301"),
        ] {
            assert_eq!(listen_addr(text).unwrap().to_string(), expected);
        }
        assert!(listen_addr("somewhere").is_err());
    }
}

//! A node that does one thing: it keeps a copy of a cluster's monitor store current, and shows how it is doing.
//!
//! `cargo run -p cuttlebone-node --example backup_only -- v2:10.0.0.1:3300/0 /var/backups/mon`

use core::time::Duration;

use anyhow::{Context, Result};
use cuttlebone_node::{Face, MonSync, Node};
use cuttlebone_wire::EntityAddr;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: backup_only v2:ADDRESS:PORT/0 DIRECTORY [SECONDS]";
    let monitor: EntityAddr = arguments.next().context(usage)?.parse()?;
    let dir = arguments.next().context(usage)?;
    // For how long; without it until Ctrl-C.
    let seconds = arguments.next().map(|text| text.parse()).transpose()?;

    let node = Node::builder()
        .name("backup")
        .copy(dir)
        .source(MonSync::from(vec![monitor.into()]).every(Duration::from_secs(1)))
        .status(Face::listening("127.0.0.1:0".parse()?))
        .build()?;
    let handle = node.handle();
    let shutdown = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
        for source in handle.status().sources {
            println!("{}: {:?}, {} keys", source.name, source.state, source.items_total);
        }
    };
    Ok(node.run(shutdown).await?)
}

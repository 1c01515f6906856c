//! A token service that is announced in etcd for as long as it serves: a node without a bucket.
//!
//! `cargo run -p cuttlebone-interop --example token_service -- http://127.0.0.1:2379 /var/lib/tokens`

use core::time::Duration;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cuttlebone_http::TokioClock;
use cuttlebone_mounttable_etcd::{Config as EtcdConfig, EtcdNamespace};
use cuttlebone_node::{Face, Node, Publish};
use cuttlebone_tokens::{Config, FileEpochs, Registry};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: token_service ETCD DIRECTORY [SECONDS]";
    let etcd = arguments.next().context(usage)?;
    let dir: PathBuf = arguments.next().context(usage)?.into();
    let seconds = arguments.next().map(|text| text.parse()).transpose()?;

    // Epochs survive a restart, so that what was fenced before it stays fenced.
    let registry = Registry::open(Config::default(), TokioClock::new(), FileEpochs::open(&dir)?).await?;
    let table = EtcdNamespace::connect(&EtcdConfig::new([etcd])).await?;
    let node = Node::builder()
        .name("tokens")
        .tokens(registry)
        .status(Face::listening("127.0.0.1:7480".parse()?))
        .publish(Publish::to(table).name("cell/tokens".parse()?).server("127.0.0.1:7480".parse()?))
        .build()?;
    let shutdown = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
    };
    Ok(node.run(shutdown).await?)
}

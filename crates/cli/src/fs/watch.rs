use std::io::Write;

use anyhow::Result;
use clap::Args;
use cuttlebone_fs::{Change, FileSystem, Place};
use serde_json::json;

use super::show::text;
use crate::exit::Exit;
use crate::output::Output;

/// What to watch.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct WatchArgs {
    /// End after so many changes.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Directories or files.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
}

pub(super) async fn watch<W: Write>(
    fs: &FileSystem,
    args: &WatchArgs,
    output: &mut Output<W>,
) -> Result<Exit> {
    let places: Vec<_> = args.paths.iter().map(Place::from).collect();
    let mut changes = fs.watch(&places).await?;
    output.item(&json!({"watching": args.paths}), |_| Ok(()))?;
    // Whoever waits for this line has to see it now.
    output.finish()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0
        && let Some((place, change)) = changes.next().await
    {
        left -= 1;
        let (what, name) = match &change {
            Change::Entries => ("entries", None),
            Change::Name(name) => ("name", Some(text(name))),
            Change::Attributes => ("attributes", None),
            Change::Unknown => ("unknown", None),
            _ => ("other", None),
        };
        let item = json!({"path": place.to_string(), "change": what, "name": name});
        output.item(&item, |out| match &name {
            Some(name) => writeln!(out, "{place}: {what} {name}"),
            None => writeln!(out, "{place}: {what}"),
        })?;
        output.finish()?;
    }
    Ok(Exit::Done)
}

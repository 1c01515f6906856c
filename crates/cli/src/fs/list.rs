use std::io::Write;

use anyhow::Result;
use clap::Args;
use cuttlebone_fs::{Entry, FileSystem, Metadata, Place};
use serde_json::{Value, json};

use super::paths::{Found, expand, inside};
use super::show::{mode, object, precise, text};
use crate::exit::Exit;
use crate::output::Output;
use crate::text::stamp;

/// What to list.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ListArgs {
    /// Type, permissions, owner, size and time as well.
    #[arg(short = 'l', long)]
    pub long: bool,
    /// Directories themselves instead of what is in them.
    #[arg(short, long)]
    pub directory: bool,
    /// Names that begin with a dot as well.
    #[arg(short, long)]
    pub all: bool,
    /// Directories or other names; globs are expanded.
    #[arg(value_name = "PATH", default_value = "/")]
    pub paths: Vec<String>,
}

/// What to show.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct StatArgs {
    /// Names; globs are expanded.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
}

/// What to draw.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct TreeArgs {
    /// How many levels.
    #[arg(short = 'L', long, value_name = "LEVELS")]
    pub depth: Option<usize>,
    /// Directories only.
    #[arg(short, long)]
    pub directories: bool,
    /// Where to begin.
    #[arg(value_name = "PATH", default_value = "/")]
    pub path: String,
}

pub(super) async fn list<W: Write>(fs: &FileSystem, args: &ListArgs, output: &mut Output<W>) -> Result<Exit> {
    let (found, exit) = expand(fs, &args.paths).await?;
    let titles = found.len() > 1;
    for Found { place, metadata } in found {
        if args.directory || !metadata.is_dir() {
            line(args.long, &place, &place.to_string(), &metadata, output)?;
            continue;
        }
        if titles && output.format() == crate::args::Format::Plain {
            writeln!(output.plain(), "{place}:")?;
        }
        for Entry { name, metadata, .. } in sorted(fs, &place).await? {
            if args.all || name.first() != Some(&b'.') {
                line(args.long, &place.join(&name), &text(&name), &metadata, output)?;
            }
        }
    }
    Ok(exit)
}

/// A directory as people want to see it. Servers list by the hash of the names.
async fn sorted(fs: &FileSystem, place: &Place) -> Result<Vec<Entry>> {
    let mut listing = fs.read_dir(place);
    let mut entries = Vec::new();
    while let Some(entry) = listing.next().await {
        entries.push(entry?);
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn line<W: Write>(
    long: bool,
    place: &Place,
    name: &str,
    metadata: &Metadata,
    output: &mut Output<W>,
) -> Result<()> {
    Ok(output.item(&object(place, metadata), |out| {
        if !long {
            return writeln!(out, "{name}");
        }
        let (mode, time) = (mode(metadata), stamp(metadata.mtime));
        let Metadata { nlink, uid, gid, size, .. } = metadata;
        // A directory's size is what is below it, as every CephFS client shows it.
        let size = metadata.dir.as_ref().map_or(*size, |dir| dir.rbytes);
        write!(out, "{mode} {nlink:>3} {uid:>6} {gid:>6} {size:>14} {time} {name}")?;
        if metadata.is_symlink() {
            write!(out, " -> {}", text(&metadata.symlink))?;
        }
        writeln!(out)
    })?)
}

pub(super) async fn stat<W: Write>(fs: &FileSystem, args: &StatArgs, output: &mut Output<W>) -> Result<Exit> {
    let (found, exit) = expand(fs, &args.paths).await?;
    for Found { place, metadata } in found {
        let mut answer = object(&place, &metadata);
        answer.insert("atime".into(), precise(metadata.atime).into());
        answer.insert("btime".into(), precise(metadata.btime).into());
        answer.insert("change".into(), metadata.change.into());
        if metadata.quota.is_set() {
            let quota = metadata.quota;
            answer
                .insert("quota".into(), json!({"max_bytes": quota.max_bytes, "max_files": quota.max_files}));
        }
        if let Some(pin) = metadata.pin {
            answer.insert("pin".into(), pin.0.into());
        }
        output.item(&answer, |out| {
            for (name, value) in &answer {
                match value {
                    Value::String(text) => writeln!(out, "{name:>9}  {text}")?,
                    other => writeln!(out, "{name:>9}  {other}")?,
                }
            }
            Ok(())
        })?;
    }
    Ok(exit)
}

pub(super) async fn tree<W: Write>(fs: &FileSystem, args: &TreeArgs, output: &mut Output<W>) -> Result<Exit> {
    let root = Place::from(&args.path);
    let metadata = fs.stat(&root).await?;
    output.item(&object(&root, &metadata), |out| writeln!(out, "{root}"))?;
    if !metadata.is_dir() {
        return Ok(Exit::Done);
    }
    // What is open: a directory's entries that are still to be drawn, last one first.
    let mut open = vec![(root.clone(), remaining(fs, &root, args).await?)];
    while let Some((shown, entries)) = open.last_mut() {
        let Some(Entry { name, metadata, .. }) = entries.pop() else {
            open.pop();
            continue;
        };
        let place = shown.join(&name);
        let depth = open.len();
        let bars: String = open
            .iter()
            .enumerate()
            .map(|(level, (_, left))| match (level + 1 == depth, left.is_empty()) {
                (true, true) => "└── ",
                (true, false) => "├── ",
                (false, true) => "    ",
                (false, false) => "│   ",
            })
            .collect();
        output.item(&object(&place, &metadata), |out| {
            write!(out, "{bars}{}", text(&name))?;
            if metadata.is_symlink() {
                write!(out, " -> {}", text(&metadata.symlink))?;
            }
            writeln!(out)
        })?;
        if metadata.is_dir() && args.depth.is_none_or(|levels| depth < levels) {
            let below = inside(&place, &metadata);
            let entries = remaining(fs, &below, args).await?;
            open.push((place, entries));
        }
    }
    Ok(Exit::Done)
}

async fn remaining(fs: &FileSystem, place: &Place, args: &TreeArgs) -> Result<Vec<Entry>> {
    let mut entries = sorted(fs, place).await?;
    entries.retain(|entry| !args.directories || entry.metadata.is_dir());
    entries.reverse();
    Ok(entries)
}

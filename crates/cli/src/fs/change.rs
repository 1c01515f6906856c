use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use cuttlebone_fs::{Entry, Errno, Error, FileSystem, Metadata, Place};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Map, Value, json};

use super::paths::{Found, expand, plain};
use super::show::{object, text};
use crate::exit::{Exit, Failed, chain};
use crate::output::Output;

/// Directories to make.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct MakeDirArgs {
    /// Those above as well, and no complaint about what is there already.
    #[arg(short, long)]
    pub parents: bool,
    /// Permission bits.
    #[arg(long, value_name = "OCTAL", default_value = "755", value_parser = octal)]
    pub mode: u32,
    /// Their paths.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
}

/// Files to make.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct CreateArgs {
    /// Permission bits.
    #[arg(long, value_name = "OCTAL", default_value = "644", value_parser = octal)]
    pub mode: u32,
    /// Return only when they are committed.
    #[arg(long)]
    pub sync: bool,
    /// Their paths; none of them may exist.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
}

/// What to remove.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct RemoveArgs {
    /// Directories with everything below them.
    #[arg(short, long)]
    pub recursive: bool,
    /// Empty directories as well.
    #[arg(short, long)]
    pub dir: bool,
    /// Print what would be removed instead.
    #[arg(long)]
    pub dry_run: bool,
    /// Names; globs are expanded.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
}

/// What to rename.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct MoveArgs {
    /// Old names, then the new one; with several old ones, an existing directory.
    #[arg(value_name = "PATH", required = true, num_args = 2..)]
    pub paths: Vec<String>,
}

/// What to link.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct LinkArgs {
    /// A symbolic link, whose text is TARGET as it is.
    #[arg(short, long)]
    pub symbolic: bool,
    /// What the link leads to.
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// The new name.
    #[arg(value_name = "PATH")]
    pub path: String,
}

/// Verbs of `cuttlebone fs xattr`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum XattrCommand {
    /// Lists names.
    Ls {
        /// Of what.
        path: String,
    },
    /// Prints a value.
    Get {
        /// Of what.
        path: String,
        /// Which, such as user.note or ceph.dir.rbytes.
        #[arg(value_name = "NAME")]
        attribute: String,
    },
    /// Sets a value.
    Set {
        /// Of what.
        path: String,
        /// Which, such as user.note or ceph.quota.max_files.
        #[arg(value_name = "NAME")]
        attribute: String,
        /// To what.
        value: String,
    },
    /// Removes one.
    Rm {
        /// Of what.
        path: String,
        /// Which.
        #[arg(value_name = "NAME")]
        attribute: String,
    },
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).map_err(|error| error.to_string())?;
    if mode > 0o7777 { Err("permissions are at most 7777".into()) } else { Ok(mode) }
}

fn made<W: Write>(place: &Place, metadata: &Metadata, output: &mut Output<W>) -> Result<()> {
    Ok(output.item(&object(place, metadata), |_| Ok(()))?)
}

pub(super) async fn make_dirs<W: Write>(
    fs: &FileSystem,
    args: &MakeDirArgs,
    output: &mut Output<W>,
) -> Result<Exit> {
    for path in &args.paths {
        let place = plain(path);
        if args.parents {
            let mut above = Place::root();
            for part in place.parts() {
                above = above.join(part);
                match fs.mkdir(&above, args.mode).await {
                    Ok(metadata) => made(&above, &metadata, output)?,
                    Err(error) if error.errno() == Some(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !fs.stat(&place).await?.is_dir() {
                return Err(Failed::new(Exit::Failure, format_args!("{place}: is no directory")).into());
            }
        } else {
            let metadata = fs.mkdir(&place, args.mode).await?;
            made(&place, &metadata, output)?;
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn create<W: Write>(
    fs: &FileSystem,
    args: &CreateArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let mut failed = 0;
    let mut under_way = FuturesUnordered::new();
    let mut paths = args.paths.iter();
    loop {
        while under_way.len() < parallel
            && let Some(path) = paths.next()
        {
            under_way.push(async move {
                let place = plain(path);
                let metadata = fs.create(&place, args.mode).await;
                (place, metadata)
            });
        }
        match under_way.next().await {
            None => break,
            Some((place, Ok(metadata))) => made(&place, &metadata, output)?,
            Some((_, Err(error))) if args.paths.len() == 1 => return Err(error.into()),
            Some((_, Err(error))) => {
                failed += 1;
                crate::complain(chain(&error));
            }
        }
    }
    if args.sync {
        fs.sync().await?;
    }
    Ok(match failed {
        0 => Exit::Done,
        all if all == args.paths.len() => Exit::Failure,
        _ => Exit::Partial,
    })
}

pub(super) async fn remove<W: Write>(
    fs: &FileSystem,
    args: &RemoveArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let (found, exit) = expand(fs, &args.paths).await?;
    for Found { place, metadata } in found {
        if place.split().is_none() {
            return Err(Failed::new(Exit::Usage, "the root cannot be removed").into());
        }
        if metadata.is_dir() && args.recursive {
            remove_tree(fs, &place, args.dry_run, parallel, output).await?;
        } else if metadata.is_dir() && !args.dir {
            let advice =
                format_args!("{place}: is a directory; --dir removes it if empty, --recursive with all");
            return Err(Failed::new(Exit::Usage, advice).into());
        }
        if metadata.is_dir() {
            step(&place, args.dry_run, output, fs.rmdir(&place)).await?;
        } else {
            step(&place, args.dry_run, output, fs.unlink(&place)).await?;
        }
    }
    Ok(exit)
}

/// Removes one name, or only says that it would.
async fn step<W: Write>(
    place: &Place,
    dry_run: bool,
    output: &mut Output<W>,
    remove: impl Future<Output = Result<(), Error>>,
) -> Result<()> {
    if !dry_run {
        remove.await?;
    }
    let verb = if dry_run { "would_remove" } else { "removed" };
    output.item(&json!({verb: place.to_string()}), |out| {
        if dry_run { writeln!(out, "{place}") } else { Ok(()) }
    })?;
    Ok(())
}

/// Removes everything below a directory: its files many at a time, its directories one after another, depth first.
async fn remove_tree<W: Write>(
    fs: &FileSystem,
    root: &Place,
    dry_run: bool,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<()> {
    // A directory comes back behind the directories in it, to be removed when they are gone.
    let mut waiting = vec![(root.clone(), false)];
    while let Some((place, emptied)) = waiting.pop() {
        if emptied {
            step(&place, dry_run, output, fs.rmdir(&place)).await?;
            continue;
        }
        if place != *root {
            waiting.push((place.clone(), true));
        }
        let mut listing = fs.read_dir(&place);
        let mut files = Vec::new();
        while let Some(entry) = listing.next().await {
            let Entry { name, metadata, .. } = entry?;
            if metadata.is_dir() {
                waiting.push((place.join(name), false));
            } else {
                files.push(place.join(name));
            }
        }
        let mut under_way = FuturesUnordered::new();
        let mut files = files.into_iter();
        loop {
            while under_way.len() < parallel
                && let Some(file) = files.next()
            {
                under_way.push(async move {
                    let done = if dry_run { Ok(()) } else { fs.unlink(&file).await };
                    (file, done)
                });
            }
            let Some((file, done)) = under_way.next().await else { break };
            step(&file, dry_run, output, async { done }).await?;
        }
    }
    Ok(())
}

pub(super) async fn rename<W: Write>(
    fs: &FileSystem,
    args: &MoveArgs,
    output: &mut Output<W>,
) -> Result<Exit> {
    let Some((target, sources)) = args.paths.split_last() else { return Ok(Exit::Usage) };
    let target = plain(target);
    let into = match fs.stat(&target).await {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.errno() == Some(Errno::ENOENT) => false,
        Err(error) => return Err(error.into()),
    };
    let (found, exit) = expand(fs, sources).await?;
    if found.len() > 1 && !into {
        return Err(Failed::new(Exit::Usage, format_args!("{target}: is no directory")).into());
    }
    for Found { place, .. } in found {
        let Some((_, name)) = place.split() else {
            return Err(Failed::new(Exit::Usage, "the root cannot be renamed").into());
        };
        let to = if into { target.join(name) } else { target.clone() };
        fs.rename(&place, &to).await?;
        output.item(&json!({"from": place.to_string(), "to": to.to_string()}), |_| Ok(()))?;
    }
    Ok(exit)
}

pub(super) async fn link<W: Write>(fs: &FileSystem, args: &LinkArgs, output: &mut Output<W>) -> Result<Exit> {
    let place = plain(&args.path);
    let metadata = if args.symbolic {
        fs.symlink(args.target.as_bytes(), &place).await?
    } else {
        fs.link(&plain(&args.target), &place).await?
    };
    made(&place, &metadata, output)?;
    Ok(Exit::Done)
}

pub(super) async fn xattr<W: Write>(
    fs: &FileSystem,
    command: &XattrCommand,
    output: &mut Output<W>,
) -> Result<Exit> {
    match command {
        XattrCommand::Ls { path } => {
            let names = fs.list_xattrs(plain(path)).await?;
            for (name, value) in &names {
                let mut item = Map::new();
                item.insert("name".into(), text(name).into());
                item.insert("value".into(), Value::from(text(value)));
                output.item(&item, |out| writeln!(out, "{}", text(name)))?;
            }
        }
        XattrCommand::Get { path, attribute } => {
            let value = fs.get_xattr(plain(path), attribute.as_bytes()).await?;
            output.answer(&json!({"name": attribute, "value": text(&value)}), |out| {
                out.write_all(&value)?;
                out.write_all(b"\n")
            })?;
        }
        XattrCommand::Set { path, attribute, value } => {
            fs.set_xattr(plain(path), attribute.as_bytes(), value.as_bytes()).await?;
        }
        XattrCommand::Rm { path, attribute } => fs.remove_xattr(plain(path), attribute.as_bytes()).await?,
    }
    Ok(Exit::Done)
}

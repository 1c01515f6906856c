use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::io::Write;

use anyhow::Result;
use clap::{Args, ValueEnum};
use cuttlebone_fs::{DirSums, Entry, Error, FileSystem, Kind, Metadata, Place, ReadDir};
use cuttlebone_wire::WallTime;
use futures_core::Stream;
use serde_json::json;

use super::glob::Glob;
use super::paths::{Found, expand, inside};
use super::show::{object, precise};
use crate::exit::{Exit, Failed, chain};
use crate::output::Output;
use crate::text::bytes;

/// What to find.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct FindArgs {
    /// Only names that fit this pattern; it is about the last part of the path.
    #[arg(long, value_name = "PATTERN")]
    pub glob: Option<String>,
    /// Only this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<FindKind>,
    /// How many levels below the paths.
    #[arg(long, value_name = "LEVELS")]
    pub max_depth: Option<usize>,
    /// Where to look; globs are expanded.
    #[arg(value_name = "PATH", default_value = "/")]
    pub paths: Vec<String>,
}

/// Types as `find` spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum FindKind {
    /// Directories.
    #[value(name = "d")]
    Dir,
    /// Files.
    #[value(name = "f")]
    File,
    /// Symbolic links.
    #[value(name = "l")]
    Symlink,
}

/// What to sum up.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct UsageArgs {
    /// Directories below the paths as well, so many levels deep.
    #[arg(short = 'd', long, value_name = "LEVELS", default_value_t = 0)]
    pub depth: usize,
    /// What to sum up; globs are expanded.
    #[arg(value_name = "PATH", default_value = "/")]
    pub paths: Vec<String>,
}

/// Since when.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ChangedArgs {
    /// A moment in RFC 3339, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: jiff::Timestamp,
    /// Where to look; globs are expanded.
    #[arg(value_name = "PATH", default_value = "/")]
    pub paths: Vec<String>,
}

/// Directories that are being listed at the same time, and those that wait for it.
///
/// What waits is a stack: going deep first keeps it short, whatever the tree looks like.
struct Walk {
    parallel: usize,
    waiting: Vec<Dir>,
    open: VecDeque<(Dir, ReadDir)>,
}

/// A directory on the way.
#[derive(Clone, Debug)]
struct Dir {
    place: Place,
    metadata: Metadata,
    depth: usize,
}

impl Walk {
    fn new(parallel: usize) -> Self {
        Self { parallel, waiting: Vec::new(), open: VecDeque::new() }
    }

    fn visit(&mut self, dir: Dir) {
        self.waiting.push(dir);
    }

    /// The next entry of any directory, with that directory; `None` when all have been listed.
    async fn next(&mut self, fs: &FileSystem) -> Option<(Dir, Result<Entry, Error>)> {
        loop {
            while self.open.len() < self.parallel
                && let Some(dir) = self.waiting.pop()
            {
                // By number: what is renamed on the way down is still listed, and no path is looked up again.
                let listing = fs.read_dir(inside(&dir.place, &dir.metadata));
                self.open.push_back((dir, listing));
            }
            if self.open.is_empty() {
                return None;
            }
            match core::future::poll_fn(|cx| self.poll(cx)).await {
                (at, Some(entry)) => {
                    let dir = self.open.get(at).map(|(dir, _)| dir.clone())?;
                    if entry.is_err() {
                        self.open.remove(at);
                    }
                    return Some((dir, entry));
                }
                (at, None) => drop(self.open.remove(at)),
            }
        }
    }

    /// Whichever listing has something to say. A listing that has nothing wakes us when it does.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Option<Result<Entry, Error>>)> {
        for (at, (_, listing)) in self.open.iter_mut().enumerate() {
            if let Poll::Ready(entry) = Pin::new(listing).poll_next(cx) {
                return Poll::Ready((at, entry));
            }
        }
        Poll::Pending
    }
}

/// How a walk went: directories that could not be listed do not stop it.
#[derive(Debug, Default)]
struct Faults {
    count: usize,
}

impl Faults {
    /// Reports a directory. One that went away while we were on our way to it is none.
    fn add(&mut self, dir: &Dir, error: &Error) {
        let gone = matches!(error.errno(), Some(cuttlebone_fs::Errno::ENOENT | cuttlebone_fs::Errno::ESTALE));
        if !(gone && dir.depth > 0) {
            self.count += 1;
            crate::complain(format_args!("{}: {}", dir.place, chain(error)));
        }
    }

    fn exit(&self, exit: Exit) -> Exit {
        if self.count > 0 { Exit::Partial } else { exit }
    }
}

pub(super) async fn find<W: Write>(
    fs: &FileSystem,
    args: &FindArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let glob = args.glob.as_deref().map(Glob::new);
    let wanted = |name: &[u8], metadata: &Metadata| {
        let kind = args.kind.is_none_or(|kind| {
            metadata.kind
                == match kind {
                    FindKind::Dir => Kind::Dir,
                    FindKind::File => Kind::File,
                    FindKind::Symlink => Kind::Symlink,
                }
        });
        kind && glob.as_ref().is_none_or(|glob| glob.fits(name))
    };
    let show = |place: &Place, metadata: &Metadata, output: &mut Output<W>| {
        output.item(&object(place, metadata), |out| writeln!(out, "{place}"))
    };
    let (mut walk, mut faults) = (Walk::new(parallel), Faults::default());
    let (found, exit) = expand(fs, &args.paths).await?;
    for Found { place, metadata } in found.into_iter().rev() {
        let name = place.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
        if wanted(&name, &metadata) {
            show(&place, &metadata, output)?;
        }
        if metadata.is_dir() && args.max_depth != Some(0) {
            walk.visit(Dir { place, metadata, depth: 0 });
        }
    }
    while let Some((dir, entry)) = walk.next(fs).await {
        let Entry { name, metadata, .. } = match entry {
            Ok(entry) => entry,
            Err(error) => {
                faults.add(&dir, &error);
                continue;
            }
        };
        let (place, depth) = (dir.place.join(&name), dir.depth + 1);
        if wanted(&name, &metadata) {
            show(&place, &metadata, output)?;
        }
        if metadata.is_dir() && args.max_depth.is_none_or(|max| depth < max) {
            walk.visit(Dir { place, metadata, depth });
        }
    }
    Ok(faults.exit(exit))
}

/// Sums that the servers keep: a directory's own are enough, nothing below it has to be visited.
pub(super) async fn usage<W: Write>(
    fs: &FileSystem,
    args: &UsageArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let show = |place: &Place, metadata: &Metadata, output: &mut Output<W>| {
        let DirSums { rbytes, rfiles, rsubdirs, .. } = metadata.dir.unwrap_or_default();
        // A file's sums are its own.
        let (rbytes, rfiles) = if metadata.is_dir() { (rbytes, rfiles) } else { (metadata.size, 1) };
        output.item(&object(place, metadata), |out| {
            let (size, dirs) = (bytes(rbytes), rsubdirs);
            writeln!(out, "{size:>12} {rfiles:>10} files {dirs:>10} directories  {place}")
        })
    };
    let (mut walk, mut faults) = (Walk::new(parallel), Faults::default());
    let (found, exit) = expand(fs, &args.paths).await?;
    for Found { place, metadata } in found.into_iter().rev() {
        show(&place, &metadata, output)?;
        if metadata.is_dir() && args.depth > 0 {
            walk.visit(Dir { place, metadata, depth: 0 });
        }
    }
    while let Some((dir, entry)) = walk.next(fs).await {
        let Entry { name, metadata, .. } = match entry {
            Ok(entry) => entry,
            Err(error) => {
                faults.add(&dir, &error);
                continue;
            }
        };
        if metadata.is_dir() {
            let (place, depth) = (dir.place.join(&name), dir.depth + 1);
            show(&place, &metadata, output)?;
            if depth < args.depth {
                walk.visit(Dir { place, metadata, depth });
            }
        }
    }
    Ok(faults.exit(exit))
}

/// Visits a directory only if something below it has changed since: the newest change below is part of its sums.
pub(super) async fn changed<W: Write>(
    fs: &FileSystem,
    args: &ChangedArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let secs = u32::try_from(args.since.as_second());
    let secs = secs.map_err(|_| Failed::new(Exit::Usage, "--since: a moment between 1970 and 2106"))?;
    let since = WallTime { secs, nanos: u32::try_from(args.since.subsec_nanosecond()).unwrap_or_default() };
    let below = |metadata: &Metadata| metadata.dir.is_some_and(|dir| dir.rctime >= since);
    let (mut walk, mut faults) = (Walk::new(parallel), Faults::default());
    let (mut visited, mut passed) = (0_u64, 0_u64);
    let (found, exit) = expand(fs, &args.paths).await?;
    let roots = found.into_iter().rev().map(|found| (found.place, found.metadata, 0));
    let mut ready: Vec<_> = roots.collect();
    loop {
        while let Some((place, metadata, depth)) = ready.pop() {
            if metadata.ctime >= since {
                output.item(&object(&place, &metadata), |out| {
                    writeln!(out, "{} {place}", precise(metadata.ctime))
                })?;
            }
            if below(&metadata) {
                visited += 1;
                walk.visit(Dir { place, metadata, depth });
            } else if metadata.is_dir() {
                passed += 1;
            }
        }
        match walk.next(fs).await {
            None => break,
            Some((dir, Ok(Entry { name, metadata, .. }))) => {
                ready.push((dir.place.join(&name), metadata, dir.depth + 1));
            }
            Some((dir, Err(error))) => faults.add(&dir, &error),
        }
    }
    if output.format() != crate::args::Format::Plain {
        let end = json!({"end": true, "directories_visited": visited, "directories_passed_over": passed});
        output.item(&end, |_| Ok(()))?;
    }
    Ok(faults.exit(exit))
}

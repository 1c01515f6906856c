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
use super::paths::{expand, inside};
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

/// A walk below some places: directories that are being listed at the same time, and those that wait for it.
///
/// What waits is a stack: going deep first keeps it short, whatever the tree looks like. Directories that cannot be listed
/// are reported and do not stop it.
struct Walk {
    parallel: usize,
    roots: VecDeque<Visited>,
    waiting: Vec<Visited>,
    open: VecDeque<(Visited, ReadDir)>,
    exit: Exit,
}

/// What a walk came by.
#[derive(Debug)]
struct Visited {
    place: Place,
    metadata: Metadata,
    /// Levels below the place where the walk began.
    depth: usize,
}

impl Walk {
    /// Begins at what the arguments stand for.
    async fn begin(fs: &FileSystem, arguments: &[String], parallel: usize) -> Result<Self> {
        let (found, exit) = expand(fs, arguments).await?;
        let roots = found.into_iter().map(|it| Visited { place: it.place, metadata: it.metadata, depth: 0 });
        Ok(Self { parallel, roots: roots.collect(), waiting: Vec::new(), open: VecDeque::new(), exit })
    }

    /// Has the entries of a directory come up, too.
    fn enter(&mut self, dir: Visited) {
        self.waiting.push(dir);
    }

    /// The places where it begins in their order, then entries of any directory that was entered.
    async fn next(&mut self, fs: &FileSystem) -> Option<Visited> {
        if let Some(root) = self.roots.pop_front() {
            return Some(root);
        }
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
            let (at, entry) = core::future::poll_fn(|cx| self.poll(cx)).await;
            match entry {
                Some(Ok(Entry { name, metadata, .. })) => {
                    let (dir, _) = self.open.get(at)?;
                    return Some(Visited { place: dir.place.join(&name), metadata, depth: dir.depth + 1 });
                }
                Some(Err(error)) => {
                    let (dir, _) = self.open.remove(at)?;
                    self.report(&dir, &error);
                }
                None => drop(self.open.remove(at)),
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

    /// A directory that went away while we were on our way to it is none to complain of.
    fn report(&mut self, dir: &Visited, error: &Error) {
        let gone = matches!(error.errno(), Some(cuttlebone_fs::Errno::ENOENT | cuttlebone_fs::Errno::ESTALE));
        if !(gone && dir.depth > 0) {
            self.exit = Exit::Partial;
            crate::complain(format_args!("{}: {}", dir.place, chain(error)));
        }
    }
}

pub(super) async fn find<W: Write>(
    fs: &FileSystem,
    args: &FindArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let glob = args.glob.as_deref().map(Glob::new);
    let wanted = |Visited { place, metadata, .. }: &Visited| {
        let kind = args.kind.is_none_or(|kind| {
            metadata.kind
                == match kind {
                    FindKind::Dir => Kind::Dir,
                    FindKind::File => Kind::File,
                    FindKind::Symlink => Kind::Symlink,
                }
        });
        kind && glob.as_ref().is_none_or(|glob| glob.fits(place.parts().last().unwrap_or_default()))
    };
    let mut walk = Walk::begin(fs, &args.paths, parallel).await?;
    while let Some(found) = walk.next(fs).await {
        if wanted(&found) {
            let place = &found.place;
            output.item(&object(place, &found.metadata), |out| writeln!(out, "{place}"))?;
        }
        if found.metadata.is_dir() && args.max_depth.is_none_or(|max| found.depth < max) {
            walk.enter(found);
        }
    }
    Ok(walk.exit)
}

/// Sums that the servers keep: a directory's own are enough, nothing below it has to be visited.
pub(super) async fn usage<W: Write>(
    fs: &FileSystem,
    args: &UsageArgs,
    parallel: usize,
    output: &mut Output<W>,
) -> Result<Exit> {
    let mut walk = Walk::begin(fs, &args.paths, parallel).await?;
    while let Some(found) = walk.next(fs).await {
        let Visited { place, metadata, depth } = &found;
        if !metadata.is_dir() && *depth > 0 {
            continue;
        }
        let DirSums { rbytes, rfiles, rsubdirs, .. } = metadata.dir.unwrap_or_default();
        // A file's sums are its own.
        let (rbytes, rfiles) = if metadata.is_dir() { (rbytes, rfiles) } else { (metadata.size, 1) };
        output.item(&object(place, metadata), |out| {
            let (size, dirs) = (bytes(rbytes), rsubdirs);
            writeln!(out, "{size:>12} {rfiles:>10} files {dirs:>10} directories  {place}")
        })?;
        if metadata.is_dir() && *depth < args.depth {
            walk.enter(found);
        }
    }
    Ok(walk.exit)
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
    let (mut visited, mut passed) = (0_u64, 0_u64);
    let mut walk = Walk::begin(fs, &args.paths, parallel).await?;
    while let Some(found) = walk.next(fs).await {
        let Visited { place, metadata, .. } = &found;
        if metadata.ctime >= since {
            output
                .item(&object(place, metadata), |out| writeln!(out, "{} {place}", precise(metadata.ctime)))?;
        }
        if metadata.dir.is_some_and(|dir| dir.rctime >= since) {
            visited += 1;
            walk.enter(found);
        } else if metadata.is_dir() {
            passed += 1;
        }
    }
    if output.format() != crate::args::Format::Plain {
        let end = json!({"end": true, "directories_visited": visited, "directories_passed_over": passed});
        output.item(&end, |_| Ok(()))?;
    }
    Ok(walk.exit)
}

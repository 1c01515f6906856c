use anyhow::Result;
use cuttlebone_fs::{Errno, FileSystem, Metadata, Place};

use super::glob::Glob;
use crate::exit::{Exit, Failed};

/// A name that an argument stands for.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) metadata: Metadata,
}

/// What the arguments stand for. A pattern in them is looked up level by level; one that fits nothing is an error like
/// a name that is not there.
///
/// With several arguments, those that fail are reported and the rest goes on: [`Exit::Partial`].
pub(super) async fn expand(fs: &FileSystem, arguments: &[String]) -> Result<(Vec<Found>, Exit)> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for argument in arguments {
        match one(fs, argument).await {
            Ok(places) => found.extend(places),
            Err(error) => failed.push(error),
        }
    }
    match failed.pop() {
        None => Ok((found, Exit::Done)),
        Some(only) if found.is_empty() && failed.is_empty() => Err(only),
        Some(last) => {
            let all_failed = found.is_empty();
            for error in failed.iter().chain([&last]) {
                crate::complain(format_args!("{error:#}"));
            }
            if all_failed {
                Err(last.context("nothing of this could be found"))
            } else {
                Ok((found, Exit::Partial))
            }
        }
    }
}

/// A path that need not exist, as it is written: no pattern is looked for in it.
pub(super) fn plain(argument: &str) -> Place {
    Place::from(argument)
}

async fn one(fs: &FileSystem, argument: &str) -> Result<Vec<Found>> {
    let globs: Vec<_> =
        Place::from(argument).parts().map(|part| Glob::new(&super::show::text(part))).collect();
    if !globs.iter().any(Glob::is_pattern) {
        let place = Place::from(argument);
        let metadata = fs.stat(&place).await?;
        return Ok(vec![Found { place, metadata }]);
    }
    let mut level = vec![Found { place: Place::root(), metadata: fs.stat(Place::root()).await? }];
    for glob in &globs {
        let mut next = Vec::new();
        for Found { place, metadata } in level {
            if metadata.is_dir() {
                below(fs, &place, &metadata, glob, &mut next).await?;
            }
        }
        level = next;
    }
    if level.is_empty() {
        return Err(Failed::new(Exit::NotFound, format_args!("{argument}: nothing fits")).into());
    }
    Ok(level)
}

/// Where to look into a directory that was found at a place: by its number, so that no path is looked up again, unless it
/// is among the snapshots, where numbers stand for what is there today.
pub(super) fn inside(place: &Place, dir: &Metadata) -> Place {
    if dir.snap.is_head() { dir.ino.into() } else { place.clone() }
}

/// The entries of one directory that fit one part of a pattern, in order.
async fn below(
    fs: &FileSystem,
    place: &Place,
    dir: &Metadata,
    glob: &Glob,
    found: &mut Vec<Found>,
) -> Result<()> {
    let at = inside(place, dir);
    if let Some(name) = glob.literal() {
        match fs.stat(at.join(&name)).await {
            Ok(metadata) => found.push(Found { place: place.join(&name), metadata }),
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        return Ok(());
    }
    let from = found.len();
    let mut listing = fs.read_dir(&at);
    while let Some(entry) = listing.next().await {
        let entry = entry?;
        if glob.matches(&entry.name) {
            found.push(Found { place: place.join(&entry.name), metadata: entry.metadata });
        }
    }
    if let Some(new) = found.get_mut(from..) {
        new.sort_by(|a, b| a.place.cmp(&b.place));
    }
    Ok(())
}

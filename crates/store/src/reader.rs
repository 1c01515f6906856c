use core::fmt;
use core::str::FromStr;
use std::path::Path;
use std::sync::Arc;

use cuttlebone_wire::WallTime;

use crate::disk::{Disk, OsDisk};
use crate::generation::Generation;
use crate::limits::OPEN_ATTEMPTS_MAX;
use crate::manifest::Manifest;
use crate::view::View;
use crate::writer::is_ours;
use crate::{Corruption, Error, Point, PointId};

/// The points of a copy, as they were when it was opened. Takes no lock, writes nothing, and is not disturbed by a
/// writer; open another one to see newer points.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Oldest first.
    generations: Vec<Arc<Generation>>,
}

impl Reader {
    /// Opens the copy in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`] if there is none, [`Error::Corrupt`] if it is damaged, and what the disk says.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let none = || Error::NotAStore { dir: dir.display().to_string() };
        match Self::open_on(&OsDisk::new(dir)) {
            Ok(reader) => reader.ok_or_else(none),
            Err(Error::Io { source, .. })
                if !dir.is_dir() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Err(none())
            }
            Err(error) => Err(error),
        }
    }

    /// `None` if there is no copy.
    pub(crate) fn open_on(disk: &dyn Disk) -> Result<Option<Self>, Error> {
        let mut attempts = 0;
        loop {
            let Some(manifest) = Manifest::read(disk)? else { return Self::without_manifest(disk) };
            let error = match Self::open_manifest(disk, &manifest) {
                Ok(reader) => return Ok(Some(reader)),
                Err(error) => error,
            };
            // A writer may have dropped a generation, or merged runs, since we read the manifest. Then there is
            // another manifest by now.
            attempts += 1;
            if attempts == OPEN_ATTEMPTS_MAX || Manifest::read(disk)?.as_ref() == Some(&manifest) {
                return Err(match error {
                    Error::Io { file, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                        Corruption::new(file, None, "the file is missing").into()
                    }
                    error => error,
                });
            }
        }
    }

    fn open_manifest(disk: &dyn Disk, manifest: &Manifest) -> Result<Self, Error> {
        let generations = manifest.generations.iter();
        let generations = generations.map(|meta| Generation::open(disk, meta.clone()).map(Arc::new));
        Ok(Self { generations: generations.collect::<Result<_, _>>()? })
    }

    fn without_manifest(disk: &dyn Disk) -> Result<Option<Self>, Error> {
        let names = disk.names().map_err(|source| Error::io("list", ".", source))?;
        if names.iter().any(|name| is_ours(name)) {
            return Err(
                Corruption::new(crate::manifest::MANIFEST_FILE, None, "the manifest is missing").into()
            );
        }
        Ok(None)
    }

    /// All points, oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &Point> {
        self.placed().map(|(_, placed)| &placed.point)
    }

    fn placed(&self) -> impl DoubleEndedIterator<Item = (&Arc<Generation>, &crate::point::PlacedPoint)> {
        self.generations
            .iter()
            .flat_map(|generation| generation.points().map(move |placed| (generation, placed)))
    }

    /// The copy as of the newest point that answers to `selector`.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPoint`] if none does.
    pub fn at(&self, selector: Selector) -> Result<View, Error> {
        let matches = |point: &Point| match selector {
            Selector::Latest => true,
            Selector::Id(id) => point.id == id,
            Selector::Version(version) => point.last_committed == version,
            Selector::Time(time) => point.time <= time,
        };
        let found = self.placed().rev().find(|(_, placed)| matches(&placed.point));
        let (generation, placed) = found.ok_or(Error::NoSuchPoint(selector))?;
        Ok(View::new(Arc::clone(generation), placed.clone()))
    }
}

/// Which point is meant.
///
/// As text: `latest`, `17` or `id:17`, `version:600`, `time:1700000000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// The newest.
    #[default]
    Latest,
    /// The one with this number.
    Id(PointId),
    /// The newest that is consistent at this paxos version.
    Version(u64),
    /// The newest that was made at this time or before.
    Time(WallTime),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Id(id) => write!(f, "id:{id}"),
            Self::Version(version) => write!(f, "version:{version}"),
            Self::Time(time) => write!(f, "time:{}", time.secs),
        }
    }
}

/// Text that selects no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a point is latest, id:<number>, version:<paxos version> or time:<seconds since 1970>")]
#[non_exhaustive]
pub struct ParseSelectorError;

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        let number = |text: &str| text.parse().map_err(|_| ParseSelectorError);
        match text.split_once(':') {
            None if text == "latest" => Ok(Self::Latest),
            None => number(text).map(|id| Self::Id(PointId(id))),
            Some(("id", id)) => number(id).map(|id| Self::Id(PointId(id))),
            Some(("version", version)) => number(version).map(Self::Version),
            // Up to the end of that second.
            Some(("time", secs)) => {
                let secs = secs.parse().map_err(|_| ParseSelectorError)?;
                Ok(Self::Time(WallTime { secs, nanos: u32::MAX }))
            }
            Some(_) => Err(ParseSelectorError),
        }
    }
}

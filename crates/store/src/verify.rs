//! A full scrub: every byte that exists is checked, and the index against what the log says it should be.

mod compare;
mod rebuild;

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, OsDisk};
use crate::generation::Generation;
use crate::limits::{OPEN_ATTEMPTS_MAX, PROBLEMS_MAX};
use crate::log::Log;
use crate::manifest::{GenerationMeta, MANIFEST_FILE, Manifest};
use crate::view::View;
use crate::writer::is_ours;
use crate::{Corruption, Error, PointId, Window};

use self::compare::compare;
use self::rebuild::Rebuild;

/// What is wrong with a copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Bytes are not what was written.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The bytes are as written, and yet a service lacks versions or has some that it should not have: the
    /// provider's store was like that, or the copy was made wrong.
    #[error("at point {point}: {} has {} versions missing ({:?}) and {} beyond {} ({:?})",
        .window.prefix.escape_ascii(), .window.missing, .window.missing_first,
        .window.beyond, .window.last, .window.beyond_first)]
    Versions {
        /// At which point.
        point: PointId,
        /// The service's window.
        window: Window,
    },
}

/// What is said of a file that the manifest names and that is not there.
const MISSING: &str = "the file is missing";

impl Problem {
    fn is_missing_file(&self) -> bool {
        matches!(self, Self::Corrupt(corruption) if corruption.what == MISSING)
    }
}

/// What a scrub has looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Generations looked at.
    pub generations: u64,
    /// Points looked at.
    pub points: u64,
    /// Log records read and checked.
    pub records: u64,
    /// Bytes of logs read and checked.
    pub log_bytes: u64,
    /// Index entries compared with the log, all points together.
    pub entries: u64,
    /// Files of pulls that did not end, or are still going on. They are no problem, and the next pull removes them.
    pub unfinished: Vec<String>,
    /// What is wrong, at most 100 of it.
    pub problems: Vec<Problem>,
    /// How many more problems there are.
    pub further_problems: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: impl Into<Problem>) {
        let problem = problem.into();
        if self.problems.contains(&problem) {
            // Damage to an index is met once when it is opened and again when it is compared.
        } else if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.further_problems += 1;
        }
    }

    /// Notes damage and goes on; anything else ends the scrub.
    fn note<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupt(corruption)) => {
                self.add(corruption);
                Ok(None)
            }
            Err(Error::Io { file, source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.add(Corruption::new(file, None, MISSING));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads everything in `dir` and checks it: every checksum, every index entry against a replay of the log, and the
/// version windows of the newest point of every generation. Takes no lock; a writer may go on meanwhile.
///
/// The replay writes an index of its own into a private directory under the system's temporary one, and removes it.
///
/// # Errors
///
/// What keeps the scrub from being done at all, such as [`Error::NotAStore`]. Damage is in the report.
pub fn verify(dir: impl AsRef<Path>) -> Result<Report, Error> {
    let dir = dir.as_ref();
    let disk = OsDisk::new(dir);
    let scratch = Scratch::create()?;
    let scratch_disk: Arc<dyn Disk> = Arc::new(OsDisk::new(&scratch.0));
    match verify_on(&disk, &scratch_disk) {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Err(Error::NotAStore { dir: dir.display().to_string() }),
        Err(Error::Io { source, .. }) if !dir.is_dir() && source.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NotAStore { dir: dir.display().to_string() })
        }
        Err(error) => Err(error),
    }
}

/// `None` if there is no copy.
pub(crate) fn verify_on(disk: &dyn Disk, scratch: &Arc<dyn Disk>) -> Result<Option<Report>, Error> {
    let mut attempts = 0;
    loop {
        let mut report = Report::default();
        for corruption in Manifest::check(disk)? {
            report.add(corruption);
        }
        let manifest = match Manifest::read(disk) {
            Ok(manifest) => manifest,
            Err(Error::Corrupt(_)) => return Ok(Some(report)),
            Err(error) => return Err(error),
        };
        let Some(manifest) = manifest else { return without_manifest(disk, report) };
        verify_manifest(disk, scratch, &manifest, &mut report)?;
        // A writer that goes on may have dropped a file under our feet; that is not damage.
        attempts += 1;
        let misses_a_file = report.problems.iter().any(Problem::is_missing_file);
        let is_current = || Manifest::read(disk).is_ok_and(|now| now.as_ref() == Some(&manifest));
        if !misses_a_file || attempts == OPEN_ATTEMPTS_MAX || is_current() {
            return Ok(Some(report));
        }
    }
}

fn without_manifest(disk: &dyn Disk, mut report: Report) -> Result<Option<Report>, Error> {
    let names = disk.names().map_err(|source| Error::io("list", ".", source))?;
    if names.iter().any(|name| is_ours(name)) {
        report.add(Corruption::new(MANIFEST_FILE, None, "the manifest is missing"));
        return Ok(Some(report));
    }
    Ok(None)
}

fn verify_manifest(
    disk: &dyn Disk,
    scratch: &Arc<dyn Disk>,
    manifest: &Manifest,
    report: &mut Report,
) -> Result<(), Error> {
    for meta in &manifest.generations {
        report.generations += 1;
        verify_generation(disk, scratch, meta, report)?;
    }
    let names = disk.names().map_err(|source| Error::io("list", ".", source))?;
    report.unfinished = names.into_iter().filter(|name| is_ours(name) && !manifest.names(name)).collect();
    Ok(())
}

fn verify_generation(
    disk: &dyn Disk,
    scratch: &Arc<dyn Disk>,
    meta: &GenerationMeta,
    report: &mut Report,
) -> Result<(), Error> {
    let opened = report.note(Generation::open(disk, meta.clone()))?.map(Arc::new);
    // With a damaged index, the log can still be looked through.
    let Some(log) = report.note(Log::open(disk, meta.number, meta.log_end))? else { return Ok(()) };
    let mut rebuild = Rebuild::new(Arc::clone(scratch), log);
    rebuild.run(opened.as_deref(), report)?;
    let Some(generation) = opened else { return rebuild.clean_up() };

    for run in &generation.layers.runs {
        report.note(run.check_padding())?;
    }
    for placed in generation.points() {
        report.points += 1;
        report.note(generation.summary(placed))?;
    }
    if let Some(rebuilt) = rebuild.layers() {
        let compared = compare(&generation, rebuilt, report);
        report.note(compared)?;
    }
    rebuild.clean_up()?;
    if let Some(latest) = generation.latest() {
        let point = latest.point.id;
        let view = View::new(Arc::clone(&generation), latest.clone());
        for window in report.note(view.versions())?.unwrap_or_default() {
            if !window.is_sound() {
                report.add(Problem::Versions { point, window });
            }
        }
    }
    Ok(())
}

/// A directory of our own that goes away with us.
#[derive(Debug)]
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn create() -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let parent = std::env::temp_dir();
        for attempt in 0..OPEN_ATTEMPTS_MAX {
            let path = parent.join(format!("cuttlebone-verify-{}-{attempt}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", &path.display().to_string(), error)),
            }
        }
        let error = std::io::ErrorKind::AlreadyExists.into();
        Err(Error::io("create a directory in", &parent.display().to_string(), error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is a private directory with an index of keys; nothing else can be done about it here.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, LOCK_FILE, Lock, OsDisk, close_to_others, create_private_dir};
use crate::generation::Generation;
use crate::ingest::{Ingest, Pull};
use crate::layers::Layers;
use crate::limits::{RUNS_MAX, STAGING_BYTES};
use crate::manifest::{GenerationMeta, MANIFEST_FILE, Manifest};
use crate::point::{PlacedPoint, Summary};
use crate::run::{Run, RunWriter};
use crate::view::View;
use crate::{Corruption, Error, Limits, Point};

/// The one that writes a copy. There is one at a time per directory; readers need not know of it.
///
/// Synchronous: it waits for the disk. A node calls it from a thread of its own.
#[derive(Debug)]
pub struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) limits: Limits,
    pub(crate) manifest: Manifest,
    /// The newest generation, which recent pulls continue.
    pub(crate) active: Option<Active>,
    /// Set while the manifest is being replaced, and left set if that failed.
    pub(crate) poisoned: bool,
    _lock: Option<Lock>,
}

#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) generation: Generation,
    /// Totals of the latest point.
    pub(crate) summary: Summary,
}

impl Writer {
    /// Opens the copy in `dir`, or starts one there; the directory is made if need be and closed to other users.
    ///
    /// What an earlier writer left unfinished is gone with the next pull.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] while another writer has it, [`Error::Corrupt`] if it is damaged,
    /// [`Error::ForeignDirectory`] if it holds something else, and what the disk says.
    pub fn open(dir: impl AsRef<Path>, limits: Limits) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let failed = |source| Error::io("prepare", &dir.to_string_lossy(), source);
        create_private_dir(dir).map_err(failed)?;
        let disk = OsDisk::new(dir);
        // Whoever names a directory in use by mistake should not find it closed to others, nor files of ours in it.
        let names = disk.names().map_err(failed)?;
        let is_expected = |name: &String| is_ours(name) || name == LOCK_FILE || name == "lost+found";
        if !names.iter().any(|name| name == MANIFEST_FILE) && !names.iter().all(is_expected) {
            return Err(Error::ForeignDirectory { dir: dir.display().to_string() });
        }
        close_to_others(dir).map_err(failed)?;
        let lock = Lock::take(dir)?;
        Self::open_on(Arc::new(disk), limits, Some(lock))
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, limits: Limits, lock: Option<Lock>) -> Result<Self, Error> {
        let manifest = match Manifest::read(&*disk)? {
            Some(manifest) => manifest,
            None => Self::found(&*disk)?,
        };
        let active = match manifest.generations.last() {
            None => None,
            Some(meta) => Some(Active::open(&*disk, meta.clone())?),
        };
        Ok(Self { disk, limits, manifest, active, poisoned: false, _lock: lock })
    }

    /// Writes the first manifest. Later, that it is missing means damage.
    fn found(disk: &dyn Disk) -> Result<Manifest, Error> {
        let names = disk.names().map_err(|source| Error::io("list", ".", source))?;
        if names.iter().any(|name| is_ours(name)) {
            return Err(Corruption::new(MANIFEST_FILE, None, "the manifest is missing").into());
        }
        let manifest = Manifest { next_point: 1, next_generation: 1, generations: Vec::new() };
        manifest.publish(disk)?;
        Ok(manifest)
    }

    /// The latest point, if there is any.
    pub fn latest(&self) -> Option<&Point> {
        Some(&self.active.as_ref()?.generation.latest()?.point)
    }

    /// The copy as of the latest point. It stays as it is whatever is written later.
    pub fn view(&self) -> Option<View> {
        let generation = &self.active.as_ref()?.generation;
        let placed = generation.latest()?.clone();
        Some(View::new(Arc::new(generation.clone()), placed))
    }

    /// Begins a pull. Dropping what this returns gives the pull up and leaves no trace.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if a recent pull does not start from the latest point's version, and what the disk says.
    pub fn begin(&mut self, pull: Pull) -> Result<Ingest<'_>, Error> {
        self.usable()?;
        self.sweep()?;
        if !pull.kind().is_base() {
            self.tidy_index()?;
        }
        Ingest::begin(self, pull)
    }

    pub(crate) fn usable(&self) -> Result<(), Error> {
        if self.poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Makes `manifest` what exists.
    pub(crate) fn publish(&mut self, manifest: Manifest) -> Result<(), Error> {
        self.poisoned = true;
        manifest.publish(&*self.disk)?;
        self.poisoned = false;
        self.manifest = manifest;
        Ok(())
    }

    /// Removes files that the manifest does not name: what an unfinished pull or a dropped generation left.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let names = self.disk.names().map_err(|source| Error::io("list", ".", source))?;
        for name in names.iter().filter(|name| is_ours(name) && !self.manifest.names(name)) {
            self.disk.remove(name).map_err(|source| Error::io("remove", name, source))?;
        }
        Ok(())
    }

    /// Writes the inline changes since the last run as a run, once they are many, and merges runs that are too many.
    fn tidy_index(&mut self) -> Result<(), Error> {
        let Some(active) = &self.active else { return Ok(()) };
        let Generation { layers, tail_points, .. } = &active.generation;
        let is_tail_long = layers.tail_len() >= self.limits.tail_entries_max
            || tail_points.len() >= self.limits.tail_points_max;
        let runs = layers.runs.len() + usize::from(is_tail_long);
        let are_runs_many = runs > self.limits.runs_max.clamp(2, RUNS_MAX / 2);
        if !is_tail_long && !are_runs_many {
            return Ok(());
        }
        let mut generation = active.generation.clone();
        if is_tail_long {
            self.fold_tail(&mut generation)?;
        }
        if are_runs_many {
            self.merge_runs(&mut generation)?;
        }
        let mut manifest = self.manifest.clone();
        if let Some(last) = manifest.generations.last_mut() {
            *last = generation.meta.clone();
        }
        self.publish(manifest)?;
        if let Some(active) = &mut self.active {
            active.generation = generation;
        }
        self.sweep()
    }

    fn fold_tail(&self, generation: &mut Generation) -> Result<(), Error> {
        let mut run = self.create_run(generation)?;
        for (key, point, change) in generation.layers.tail() {
            run.push(key, point, change)?;
        }
        let points = core::mem::take(&mut generation.tail_points);
        self.add_run(generation, run, &points)?;
        generation.layers.clear_tail();
        generation.meta.tail_from = generation.meta.log_end;
        Ok(())
    }

    /// Merges all runs but the first, which a full pull wrote and which is by far the longest.
    fn merge_runs(&self, generation: &mut Generation) -> Result<(), Error> {
        let merged = Layers::of_runs(generation.layers.runs.split_off(1));
        generation.meta.runs.truncate(1);
        let mut run = self.create_run(generation)?;
        let mut versions = merged.versions(&[])?;
        while versions.advance()? {
            run.push(versions.key(), versions.point(), versions.change())?;
        }
        let points: Vec<PlacedPoint> = merged.runs.iter().flat_map(|run| run.points()).cloned().collect();
        self.add_run(generation, run, &points)
    }

    fn create_run(&self, generation: &mut Generation) -> Result<RunWriter, Error> {
        let id = generation.meta.next_run;
        generation.meta.next_run += 1;
        RunWriter::create(&*self.disk, generation.meta.number, id)
    }

    fn add_run(
        &self,
        generation: &mut Generation,
        run: RunWriter,
        points: &[PlacedPoint],
    ) -> Result<(), Error> {
        let meta = run.finish(points)?;
        let run = Run::open(&*self.disk, generation.meta.number, meta)?;
        generation.layers.runs.push(Arc::new(run));
        generation.meta.runs.push(meta);
        Ok(())
    }

    /// Removes the generations that hold nothing `keep` asks for.
    ///
    /// The latest point always stays. A crash in between leaves either all of them or what `keep` says.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn prune(&mut self, keep: Keep) -> Result<Pruned, Error> {
        self.usable()?;
        let mut manifest = self.manifest.clone();
        let generations = manifest.generations.len();
        match keep {
            Keep::Everything => {}
            Keep::Generations(count) => {
                manifest.generations.drain(..generations.saturating_sub(count.max(1)));
            }
            Keep::Points(count) => {
                // Numbers of points have no gaps, but for those that were dropped with a whole generation.
                let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
                let first = manifest.next_point.saturating_sub(count);
                manifest.generations.retain(|generation| generation.last_point >= first);
            }
        }
        let pruned = Pruned { generations: generations - manifest.generations.len() };
        if manifest != self.manifest {
            self.publish(manifest)?;
            self.sweep()?;
        }
        Ok(pruned)
    }

    /// Starts a new generation if the history of the current one has outgrown its limits, then prunes.
    ///
    /// # Errors
    ///
    /// What the disk says; earlier points are then intact.
    pub fn maintain(&mut self, keep: Keep) -> Result<Maintained, Error> {
        self.usable()?;
        let rebased = if self.has_outgrown() { self.rebase()? } else { None };
        Ok(Maintained { rebased, pruned: self.prune(keep)? })
    }

    fn has_outgrown(&self) -> bool {
        let Some(active) = &self.active else { return false };
        let log = active.generation.meta.log_end;
        let live = active.summary.totals().bytes + STAGING_BYTES as u64;
        let points = active.generation.points().count() as u64;
        points > self.limits.generation_points_max
            || (log > self.limits.generation_bytes_min
                && log > live.saturating_mul(self.limits.generation_growth_max))
    }

    /// Writes the latest point anew as the start of a generation, which leaves all history behind.
    ///
    /// # Errors
    ///
    /// What the disk says; earlier points are then intact.
    pub fn rebase(&mut self) -> Result<Option<Point>, Error> {
        let Some(view) = self.view() else { return Ok(None) };
        let mut ingest = self.begin(Pull::Rebase)?;
        let mut batches = view.transactions(&[])?;
        while let Some((raw, transaction)) = batches.next_batch()? {
            ingest.append(&raw, &transaction)?;
        }
        ingest
            .commit(crate::NewPoint {
                last_committed: view.point().last_committed,
                time: view.point().time,
                origin: view.point().origin.clone(),
            })
            .map(Some)
    }
}

/// Which points to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// All of them.
    Everything,
    /// Those of the last so many generations; at least one.
    Generations(usize),
    /// At least the last so many, and at least one: a generation goes once it holds none of them.
    Points(usize),
}

/// What pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Generations removed.
    pub generations: usize,
}

/// What maintenance did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// The first point of a new generation, if one was started.
    pub rebased: Option<Point>,
    /// What was removed.
    pub pruned: Pruned,
}

impl Active {
    fn open(disk: &dyn Disk, meta: GenerationMeta) -> Result<Self, Error> {
        let generation = Generation::open(disk, meta)?;
        let summary = match generation.latest() {
            Some(placed) => generation.summary(placed)?,
            None => Summary::default(),
        };
        Ok(Self { generation, summary })
    }
}

/// Whether a file name is one that this crate gives to logs and runs.
pub(crate) fn is_ours(name: &str) -> bool {
    let stem = name.strip_suffix(".log").or_else(|| name.strip_suffix(".run"));
    stem.and_then(|stem| stem.strip_prefix('g'))
        .is_some_and(|digits| digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

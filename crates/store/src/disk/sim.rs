//! A directory in memory that fails when told to, and forgets what was not synced when it crashes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Input, Output};

/// What goes wrong at a chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "fuzz targets use the disk without its faults"))]
pub(crate) enum Fault {
    /// The disk is full from then on, after half of the bytes.
    Full,
    /// One operation fails, and the next ones work.
    Once,
    /// The machine dies in the middle of the operation; nothing works until [`SimDisk::after_crash`].
    Crash,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut { len: usize },
}

#[derive(Debug, Default)]
struct File {
    /// What the operating system shows.
    seen: Vec<u8>,
    /// What the disk has.
    durable: Vec<u8>,
    /// What the disk may or may not have, in order.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Naming {
    Set(String, usize),
    Remove(String),
}

#[derive(Debug, Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<Naming>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

/// Smallest piece that a disk writes whole, in bytes.
const SECTOR: usize = 512;

/// An offset in a file that is in memory.
fn memory(at: u64) -> usize {
    usize::try_from(at).expect("the file would not fit into memory")
}

#[cfg_attr(not(test), expect(dead_code, reason = "fuzz targets use the disk without its faults"))]
impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that changed something so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets `fault` happen at the operation after `operations` more.
    pub(crate) fn fail_after(&self, operations: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + operations, fault));
    }

    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    /// The disk as it is found after a power failure: what was synced, and of the rest whatever `chance` lets through.
    pub(crate) fn after_crash(&self, mut chance: impl FnMut() -> bool) -> Self {
        let state = self.state();
        let mut next = State { names: state.durable_names.clone(), ..State::default() };
        // File systems that journal names lose the latest ones only; no standard promises that.
        for naming in state.pending_names.iter().filter(|_| chance()) {
            naming.apply(&mut next.names);
        }
        next.durable_names = next.names.clone();
        for file in &state.files {
            let mut data = file.durable.clone();
            for change in &file.pending {
                change.apply_partly(&mut data, &mut chance);
            }
            next.files.push(File { seen: data.clone(), durable: data, pending: Vec::new() });
        }
        Self(Arc::new(Mutex::new(next)))
    }

    /// Content of a file, for a test to look at or to damage.
    pub(crate) fn with_file<T>(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut state = self.state();
        let index = state.names[name];
        change(&mut state.files[index].seen)
    }

    /// A second disk with the same visible content.
    pub(crate) fn duplicate(&self) -> Self {
        let state = self.state();
        let files = state.files.iter();
        let files = files
            .map(|f| File { seen: f.seen.clone(), durable: f.seen.clone(), pending: Vec::new() })
            .collect();
        let (names, durable_names) = (state.names.clone(), state.names.clone());
        Self(Arc::new(Mutex::new(State { files, names, durable_names, ..State::default() })))
    }
}

impl State {
    /// Counts an operation. An error inside `Ok` asks the caller to do half of it and to fail with that.
    fn operate(&mut self) -> io::Result<Option<io::Error>> {
        if self.dead {
            return Err(io::Error::other("the machine is dead"));
        }
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Full)) if now >= at => Ok(Some(ErrorKind::StorageFull.into())),
            Some((at, Fault::Once)) if now == at => Ok(Some(io::Error::other("the disk failed"))),
            Some((at, Fault::Crash)) if now >= at => {
                self.dead = true;
                Ok(Some(io::Error::other("the machine died")))
            }
            _ => Ok(None),
        }
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    fn index(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, index) => {
                // A file has one name; a rename is the new one appearing and the old one going, at once.
                names.retain(|_, other| other != index);
                names.insert(name.clone(), *index);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        self.apply_partly(data, &mut || true);
    }

    fn apply_partly(&self, data: &mut Vec<u8>, chance: &mut impl FnMut() -> bool) {
        match self {
            Self::Cut { len } => {
                if chance() {
                    data.resize(*len, 0);
                }
            }
            Self::Write { at, bytes } => {
                for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                    if chance() {
                        let from = at + i * SECTOR;
                        data.resize(data.len().max(from + sector.len()), 0);
                        data[from..from + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    index: usize,
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn Input>> {
        let index = self.state().index(name)?;
        Ok(Arc::new(SimFile { disk: self.clone(), index }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        if let Some(error) = state.operate()? {
            return Err(error);
        }
        let index = state.files.len();
        state.files.push(File::default());
        state.name(Naming::Set(name.to_owned(), index));
        Ok(Box::new(SimFile { disk: self.clone(), index }))
    }

    fn reopen(&self, name: &str, len: u64) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        if let Some(error) = state.operate()? {
            return Err(error);
        }
        let index = state.index(name)?;
        let cut = Change::Cut { len: memory(len) };
        cut.apply(&mut state.files[index].seen);
        state.files[index].pending.push(cut);
        Ok(Box::new(SimFile { disk: self.clone(), index }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.operate()? {
            return Err(error);
        }
        let index = state.index(from)?;
        state.name(Naming::Set(to.to_owned(), index));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.operate()? {
            return Err(error);
        }
        state.index(name)?;
        state.name(Naming::Remove(name.to_owned()));
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.operate()? {
            return Err(error);
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }
}

impl Output for SimFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let failure = state.operate()?;
        let done = if failure.is_some() { bytes.len() / 2 } else { bytes.len() };
        let write = Change::Write { at: memory(at), bytes: bytes[..done].to_vec() };
        let file = &mut state.files[self.index];
        write.apply(&mut file.seen);
        file.pending.push(write);
        failure.map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Some(error) = state.operate()? {
            return Err(error);
        }
        let file = &mut state.files[self.index];
        file.durable = file.seen.clone();
        file.pending.clear();
        Ok(())
    }
}

impl Input for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.disk.state();
        let at = memory(at);
        let bytes = state.files[self.index].seen.get(at..at + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.index].seen.len() as u64)
    }
}

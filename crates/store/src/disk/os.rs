use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::{Disk, Input, Output};
use crate::Error;

/// Held by the one writer; its content is only for people.
pub(crate) const LOCK_FILE: &str = "lock";

/// A directory of the operating system.
#[derive(Debug)]
pub(crate) struct OsDisk {
    dir: PathBuf,
}

impl OsDisk {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn private(direct: bool) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if direct {
            // The bits are those of open(2); the type is rustix's, the sign that of the C function.
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        options
    }

    /// Opens past the page cache where the file system allows it.
    fn open_for_writing(&self, name: &str, create: bool) -> io::Result<Box<dyn Output>> {
        let path = self.dir.join(name);
        let open = |direct| Self::private(direct).create(create).truncate(create).open(&path);
        let (file, direct) = match open(true) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::InvalidInput => (open(false)?, false),
            Err(error) => return Err(error),
        };
        Ok(Box::new(OsOutput { file, direct, path }))
    }
}

/// Makes a directory that only its owner can enter, with its parents. One that exists stays as it is.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Closes a directory to everybody but its owner: it is about to hold keys.
pub(crate) fn close_to_others(dir: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(dir)?.permissions().mode();
    let private = mode & 0o700;
    if mode & 0o777 == private {
        Ok(())
    } else {
        std::fs::set_permissions(dir, Permissions::from_mode(private))
    }
}

impl Disk for OsDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn Input>> {
        File::open(self.dir.join(name)).map(|file| Arc::new(OsInput(file)) as Arc<dyn Input>)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        self.open_for_writing(name, true)
    }

    fn reopen(&self, name: &str, len: u64) -> io::Result<Box<dyn Output>> {
        Self::private(false).open(self.dir.join(name))?.set_len(len)?;
        self.open_for_writing(name, false)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

#[derive(Debug)]
struct OsOutput {
    file: File,
    direct: bool,
    path: PathBuf,
}

impl Output for OsOutput {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.file.write_all_at(bytes, at) {
            // Some file systems take the flag and refuse the write, or want larger blocks than ours; and a manifest
            // is no block at all.
            Err(error) if self.direct && error.kind() == ErrorKind::InvalidInput => {
                self.file = OsDisk::private(false).open(&self.path)?;
                self.direct = false;
                self.file.write_all_at(bytes, at)
            }
            done => done,
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct OsInput(File);

impl Input for OsInput {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, at)
    }

    fn will_need(&self, at: u64, len: u64) {
        // Without the hint the same bytes are read, only later.
        let _ =
            rustix::fs::fadvise(&self.0, at, core::num::NonZeroU64::new(len), rustix::fs::Advice::WillNeed);
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

/// The right to write, held until dropped. The system releases it when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::io("lock", LOCK_FILE, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(LOCK_FILE)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The holder writes its number just after taking the lock; that it has not yet is no error.
                let _ = file.take(32).read_to_string(&mut pid);
                return Err(Error::Locked { pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // A full disk must not keep anybody from opening a copy in order to prune it, so the number is best effort.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

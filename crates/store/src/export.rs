use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, View};

/// Prefixes that a restored monitor must not get: they are its own, or would make it throw the rest away.
///
/// - `mkfs`: exists until the first quorum only, and names the keys that a new monitor starts from.
/// - `mon_sync`: with `in_sync` there, a monitor clears its store when it starts.
/// - `monitor`: the identity and state of one monitor, which its own mkfs writes.
///
/// A monitor sends none of them, but a copy can have got one by replay.
///
/// Source: `ceph/ceph:src/mon/Monitor.cc`, `get_sync_targets_names` and `sync_start`; seen in 16.2.15.
pub const LOCAL_PREFIXES: [&[u8]; 3] = [b"mkfs", b"mon_sync", b"monitor"];

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Transactions.
    pub transactions: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the view as a trace, which `ceph-monstore-tool <mon_data> replay-trace FILE` applies to a new store.
///
/// The file is private to the user, durable when this returns, and appears under its name only when complete. It
/// holds the state at the point, without [`LOCAL_PREFIXES`]; not the history.
///
/// Source: `ceph/ceph:src/tools/ceph_monstore_tool.cc`, replay-trace: encoded transactions one after the other.
///
/// # Errors
///
/// [`Error::Corrupt`] for a damaged copy, and what the disk says; `path` is then as it was.
pub fn export_trace(view: &View, path: &Path) -> Result<Exported, Error> {
    let temporary = temporary_beside(path)?;
    let done = write_trace(view, &temporary).and_then(|exported| {
        std::fs::rename(&temporary, path).map_err(failed("rename", path))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync the directory of", path))?;
        Ok(exported)
    });
    if done.is_err() {
        // The first error is the one to tell; after a rename there is nothing to remove.
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

fn temporary_beside(path: &Path) -> Result<PathBuf, Error> {
    let Some(name) = path.file_name() else {
        return Err(failed("create", path)(io::Error::from(io::ErrorKind::IsADirectory)));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

fn write_trace(view: &View, path: &Path) -> Result<Exported, Error> {
    // What somebody else may have put there, under a name that can be guessed, must not get our keys.
    let _ = std::fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(path).map_err(failed("create", path))?;
    let mut out = BufWriter::new(file);
    let mut exported = Exported::default();
    let mut transactions = view.transactions(&LOCAL_PREFIXES)?;
    while let Some((raw, transaction)) = transactions.next_batch()? {
        out.write_all(&raw).map_err(failed("write", path))?;
        exported.transactions += 1;
        exported.keys += transaction.ops.len() as u64;
        exported.bytes += raw.len() as u64;
    }
    let file = out.into_inner().map_err(|error| failed("write", path)(error.into_error()))?;
    file.sync_all().map_err(failed("sync", path))?;
    Ok(exported)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let file = path.display().to_string();
    move |source| Error::io(action, &file, source)
}

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use core::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Which package has a program that the suites use.
const PACKAGES: [(&str, &str); 10] = [
    ("ceph", "ceph-common"),
    ("ceph-conf", "ceph-common"),
    ("ceph-dencoder", "ceph-common"),
    ("ceph-kvstore-tool", "ceph-base"),
    ("ceph-mds", "ceph-mds"),
    ("ceph-mon", "ceph-mon"),
    ("ceph-monstore-tool", "ceph-mon"),
    ("ceph-osd", "ceph-osd"),
    ("monmaptool", "ceph-base"),
    ("setpriv", "util-linux"),
];

/// Checks that a program is there.
///
/// # Errors
///
/// What to install if it is not.
pub(crate) fn require(program: &str) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
    bail!("{program} is not installed: run `cargo xtask setup`, or `apt-get install {package}`")
}

/// Runs a program to its end and answers what it wrote to standard output.
///
/// # Errors
///
/// If it is missing or fails; with everything it wrote to standard error.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    require(program)?;
    let mut command = Command::new(program);
    command.args(arguments);
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How long a daemon may take to answer on its admin socket.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is believed, in bytes.
const ADMIN_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Asks a daemon on its admin socket: the command and a NUL there, a big-endian length and JSON back.
///
/// Source: `ceph/ceph:src/common/admin_socket.cc`, `AdminSocket::do_accept`; seen in 16.2.15.
///
/// # Errors
///
/// If nobody listens there, or what came back is not JSON.
pub(crate) fn ask(socket: &Path, command: &Value) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    stream.write_all(command.to_string().as_bytes())?;
    stream.write_all(&[0])?;
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len);
    if len > ADMIN_BYTES_MAX {
        bail!("the admin socket announces {len} bytes");
    }
    let mut answer = Vec::new();
    stream.take(len.into()).read_to_end(&mut answer)?;
    // What has nothing to say says nothing, not even `null`.
    if answer.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer)
        .with_context(|| format!("{command} answered {}", String::from_utf8_lossy(&answer)))
}

/// Copies a directory with everything in it.
///
/// # Errors
///
/// What the file system says.
pub(crate) fn copy_dir(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

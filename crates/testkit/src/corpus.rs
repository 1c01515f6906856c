use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// An encoded structure or message that a real release has written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// The release, as `git describe` has it.
    pub release: String,
    /// The type's name in C++.
    pub kind: String,
    /// The file's name: a checksum.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The folder of recorded objects: `<release>/<type>/<checksum>`.
///
/// The one in this crate, or another one that `CUTTLEBONE_CORPUS` names.
pub fn corpus_dir() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    env::var_os("CUTTLEBONE_CORPUS").map_or_else(own, PathBuf::from)
}

/// Every recorded object of `kind`, all releases.
///
/// # Errors
///
/// If the folder is missing or holds none, since a test over nothing proves nothing.
pub fn corpus(kind: &str) -> Result<Vec<Object>> {
    let dir = corpus_dir();
    let mut objects = Vec::new();
    for release in sorted(&dir)? {
        let folder = release.join(kind);
        if !folder.is_dir() {
            continue;
        }
        for file in sorted(&folder)? {
            objects.push(Object {
                release: last_name(&release),
                kind: kind.into(),
                name: last_name(&file),
                bytes: fs::read(&file)?,
            });
        }
    }
    if objects.is_empty() {
        bail!("{} holds no object of type {kind}", dir.display());
    }
    Ok(objects)
}

/// The folders or objects in a folder; a page that explains them is none.
fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    paths.sort();
    Ok(paths)
}

fn last_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

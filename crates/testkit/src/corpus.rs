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
/// `CUTTLEBONE_CORPUS` names it; without, `shared/corpus` beside the repository or beside a folder that holds it.
///
/// # Errors
///
/// Where it was expected, if it is nowhere.
pub fn corpus_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("CUTTLEBONE_CORPUS") {
        return Ok(dir.into());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = here.ancestors().map(|folder| folder.join("shared/corpus")).find(|folder| folder.is_dir());
    found.with_context(|| {
        let repository = here.ancestors().nth(2).unwrap_or(here).display();
        format!("no recorded objects: expected in {repository}/../shared/corpus, or where CUTTLEBONE_CORPUS points")
    })
}

/// Every recorded object of `kind`, all releases.
///
/// # Errors
///
/// If the folder is missing or holds none, since a test over nothing proves nothing.
pub fn corpus(kind: &str) -> Result<Vec<Object>> {
    let dir = corpus_dir()?;
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

fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn last_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

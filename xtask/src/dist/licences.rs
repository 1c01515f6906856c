//! The licences of what is linked into the binary, which each of them wants to be passed on.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run;

/// One text with the name, version, licence and licence texts of every package that goes into the command.
pub(super) fn of_dependencies(target: &str) -> Result<String> {
    let tree =
        ["tree", "--package", "cuttlebone-cli", "--edges", "normal", "--prefix", "none", "--target", target];
    let tree = run::output(run::cargo(tree).args(["--locked", "--format", "{p}"]))?;
    let metadata = run::output(&mut run::cargo(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("metadata without packages")?;
    let known: BTreeMap<(&str, &str), &Value> =
        packages.iter().map(|package| ((text(package, "name"), text(package, "version")), package)).collect();
    let mut linked: Vec<_> = tree.lines().filter_map(name_and_version).collect();
    linked.sort_unstable();
    linked.dedup();
    // Most texts are the same to the letter; each stands once, after the packages that carry it.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked {
        let (name, version) = package;
        if name.starts_with("cuttlebone-") {
            continue;
        }
        let package =
            known.get(&package).with_context(|| format!("cargo knows nothing of {name} {version}"))?;
        let licence = text(package, "license");
        ensure!(!licence.is_empty(), "{name} {version} names no licence");
        let manifest = Path::new(text(package, "manifest_path"));
        for file in licence_files(manifest.parent().context("a manifest is in a folder")?)? {
            texts.entry(file).or_default().push(format!("{name} {version}: {licence}"));
        }
    }
    let mut all =
        String::from("The cuttlebone command contains the packages named here, each under its licence.\n");
    for (text, packages) in texts {
        write!(all, "\n{}\n{}\n\n{}\n", "=".repeat(80), packages.join("\n"), text.trim_end())?;
    }
    Ok(all)
}

/// `serde v1.0.229 (proc-macro) (*)` is `serde`, `1.0.229`.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

/// The texts of all files of a package that are called after a licence, in the order of their names.
fn licence_files(folder: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let starts = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
        if starts.iter().any(|start| name.starts_with(start)) && entry.path().is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| path.display().to_string());
    let texts: Vec<String> = paths.iter().map(read).collect::<Result<_>>()?;
    // A package without a text is one all the same.
    Ok(if texts.is_empty() { vec!["The package carries no text of its licence.".into()] } else { texts })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_a_name_and_a_version() {
        assert_eq!(name_and_version("serde v1.0.229"), Some(("serde", "1.0.229")));
        assert_eq!(
            name_and_version("thiserror-impl v2.0.21 (proc-macro) (*)"),
            Some(("thiserror-impl", "2.0.21"))
        );
        assert_eq!(name_and_version(""), None);
    }
}

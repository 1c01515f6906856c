//! House rules that a machine can check.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::run;

/// A file longer than this tells more than one story. Files that are one long table are listed with their reason.
const LINES_MAX: usize = 500;
/// The exceptions, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[
    ("crates/link/tests/sim/world.rs", "one world with two ends, whose faults share everything"),
    (
        "crates/tokens/src/name/model.rs",
        "a specification, the shipped code beside it, and the worlds they walk are one proof",
    ),
    ("crates/monsync/tests/tables.rs", "how to bring each of five machines into each of its states"),
];

/// Words that mark unfinished work, in halves so that this file does not accuse itself.
const UNFINISHED: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("todo", "!("), ("unimplemented", "!(")];

/// Checks everything and reports all faults at once.
pub(crate) fn check() -> Result<()> {
    run::step(&mut run::cargo(["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--workspace", "--all-targets", "--all-features", "--quiet", "--", "-D", "warnings"];
    run::step(&mut run::cargo(clippy))?;
    let mut faults = Vec::new();
    for file in run::files(&[".rs"])? {
        check_source(&file, &fs::read_to_string(run::root().join(&file))?, &mut faults);
    }
    let pages = run::files(&[".md"])?;
    for file in &pages {
        let text = fs::read_to_string(run::root().join(file))?;
        check_links(file, &text, &mut faults);
        check_paths(file, &text, &mut faults);
    }
    check_book(&pages, &fs::read_to_string(run::root().join(BOOK))?, &mut faults);
    if faults.is_empty() { Ok(()) } else { bail!("tidy:\n  {}", faults.join("\n  ")) }
}

fn check_source(file: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LINES_MAX && !LONG_FILES.iter().any(|(known, _)| *known == file) {
        faults
            .push(format!("{file}: {lines} lines; split it, or list it with a reason in xtask/src/tidy.rs"));
    }
    let name = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if matches!(name, "util" | "utils" | "common" | "helpers" | "misc") {
        faults.push(format!("{file}: a name that says nothing"));
    }
    // Under `tests` a file beside the folder would be a test of its own.
    if file.ends_with("/mod.rs") && !file.contains("/tests/") {
        faults.push(format!("{file}: modules are foo.rs beside foo/"));
    }
    if file.ends_with("src/lib.rs") && !text.starts_with("#![doc") && !text.starts_with("//!") {
        faults.push(format!("{file}: starts without documentation"));
    }
    for (at, line) in text.lines().enumerate() {
        let place = at + 1;
        if let Some(source) = line.trim_start().strip_prefix("/// Source: ")
            && !source.contains(':')
            && !source.starts_with("corpus")
        {
            faults.push(format!("{file}:{place}: a source is given as `repository:path`, symbol"));
        }
        if UNFINISHED.iter().any(|(head, tail)| line.contains(&format!("{head}{tail}"))) {
            faults.push(format!("{file}:{place}: unfinished work belongs in an issue"));
        }
    }
}

/// Relative links have to lead somewhere.
fn check_links(file: &str, text: &str, faults: &mut Vec<String>) {
    let folder = run::root().join(file).parent().map(Path::to_path_buf).unwrap_or_default();
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let path = target.split('#').next().unwrap_or_default();
        let elsewhere =
            path.is_empty() || path.contains("://") || path.contains("::") || path.starts_with("mailto:");
        // Crate pages link to items by their Rust path; rustdoc checks those.
        let item = !path.contains('/') && !path.contains('.');
        if !elsewhere && !item && !folder.join(path).exists() {
            faults.push(format!("{file}: the link to {target} leads nowhere"));
        }
    }
}

/// Folders of the repository in which a path that a page names is looked for.
const FOLDERS: &[&str] = &["crates/", "dist/", "docs/", "xtask/", ".github/"];

/// Files that a page names between backticks, such as the test behind a claim, exist. Patterns are no files.
fn check_paths(file: &str, text: &str, faults: &mut Vec<String>) {
    let prose = text.split("```").step_by(2);
    let named = prose.flat_map(|text| text.split('`').skip(1).step_by(2));
    for path in named.filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder))) {
        let literal = !path.contains(|c: char| c.is_whitespace() || "*<>{}[]:,".contains(c));
        if literal && !path.contains("artifacts") && !run::root().join(path).exists() {
            faults.push(format!("{file}: there is no {path}"));
        }
    }
}

/// The list of all pages.
const BOOK: &str = "docs/README.md";

/// Every page under `docs` is listed in the book's first one.
fn check_book(pages: &[String], book: &str, faults: &mut Vec<String>) {
    for page in pages.iter().filter(|page| *page != BOOK) {
        if let Some(inside) = page.strip_prefix("docs/")
            && !book.contains(&format!("]({inside})"))
        {
            faults.push(format!("{page}: {BOOK} has no link to it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_and_clean_files_pass() {
        let mut faults = Vec::new();
        check_source("crates/x/src/a.rs", "/// Source: `ceph/ceph:src/a.h`, `b`.\n", &mut faults);
        assert_eq!(faults, Vec::<String>::new());
        check_source("crates/x/src/util.rs", "/// Source: somewhere\n", &mut faults);
        check_source("crates/x/src/long.rs", &"\n".repeat(LINES_MAX + 1), &mut faults);
        check_links(
            "README.md",
            "[gone](docs/gone.md) [item](Thing::method) [web](https://a.b)",
            &mut faults,
        );
        check_paths("README.md", "`crates/cli/tests/gone.rs` `crates/<x>/a.rs` `crates/cli`", &mut faults);
        assert_eq!(faults.len(), 5, "{faults:?}");
        let pages = [BOOK, "docs/found.md", "docs/protocols/lost.md", "README.md"].map(String::from);
        check_book(&pages, "[found](found.md)", &mut faults);
        assert_eq!(faults.len(), 6, "{faults:?}");
    }
}

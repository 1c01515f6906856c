//! Workflows call verbs of this program and nothing else that could go wrong unseen: a workflow is tried by nobody before
//! it has landed.

use std::fs;

use clap::Parser;

use crate::{Arguments, nightly, run};

fn workflows() -> Vec<(String, String)> {
    let folder = run::root().join(".github/workflows");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
    };
    let all: Vec<_> = entries.map(read).collect();
    assert!(!all.is_empty());
    all
}

/// The words of a list in brackets, as in `run: [sim, crash]`.
fn list<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let found = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix('[')?.strip_suffix(']'));
    found.map(|list| list.split(',').map(str::trim).collect()).unwrap_or_default()
}

/// Every command of a workflow, once for each entry of its matrix.
fn commands(text: &str) -> Vec<String> {
    const RUN: &str = "${{ matrix.run }}";
    let lines = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run: "));
    let lines = lines.filter(|line| !line.starts_with('['));
    lines
        .flat_map(|line| {
            let runs = if line.contains(RUN) { list(text, "run:") } else { vec![""] };
            runs.into_iter().map(|run| line.replace(RUN, run)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_verb_that_a_workflow_calls_is_one_of_ours() {
    let mut called = 0;
    let ci = fs::read_to_string(run::root().join(".ci/run")).unwrap();
    let of_ci =
        ci.lines().filter_map(|line| line.split_once("--package xtask -- ").map(|(_, rest)| rest.to_owned()));
    let of_workflows = workflows().into_iter().flat_map(|(_, text)| commands(&text));
    let of_workflows = of_workflows.filter_map(|line| line.strip_prefix("cargo xtask ").map(String::from));
    for line in of_ci.chain(of_workflows) {
        let words = ["cargo xtask"].into_iter().chain(line.split_whitespace());
        if let Err(error) = Arguments::try_parse_from(words) {
            panic!("cargo xtask {line}: {error}");
        }
        called += 1;
    }
    assert!(called >= 8, "{called} calls were found");
}

#[test]
fn the_night_runs_everything_that_takes_long() {
    let nightly = workflows().into_iter().find(|(name, _)| name == "nightly.yml").unwrap().1;
    let mut listed = list(&nightly, "run:");
    let mut there: Vec<_> = nightly::names().collect();
    listed.sort_unstable();
    there.sort_unstable();
    there.dedup();
    assert_eq!(listed, there);
}

#[test]
fn workflows_do_not_change_by_themselves_and_end() {
    for (name, text) in workflows() {
        assert!(
            text.contains("\npermissions:\n  contents: read\n"),
            "{name}: rights that nobody has asked for"
        );
        assert!(!text.contains('\t'), "{name}: a tab");
        for line in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            let commit = line.split_once('@').unwrap().1.split(' ').next().unwrap();
            let pinned = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(pinned, "{name}: {line} can become something else");
        }
        let (jobs, limits) = (text.matches("runs-on:").count(), text.matches("timeout-minutes:").count());
        let releases = usize::from(text.contains("gh release create"));
        assert!(limits + releases >= jobs, "{name}: {jobs} jobs, {limits} of them with a limit");
    }
}

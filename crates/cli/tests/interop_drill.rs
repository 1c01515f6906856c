//! The drill of docs/backup.md, as it stands there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Cluster, Fill, Program};

/// The shell block of the page that has `word` in it.
fn block(page: &str, word: &str) -> Result<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks
        .into_iter()
        .find(|block| block.contains(word))
        .map(String::from)
        .context("the page has no such block")
}

#[test]
fn the_drill_of_the_documentation_passes_and_notices_a_difference() -> Result<()> {
    let cluster = Cluster::builder().fill(Fill { keys: 200, value_bytes: 5_000, seed: 31 }).start()?;
    cluster.config_key_set("greeting", "hello")?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    let program = env!("CARGO_BIN_EXE_cuttlebone");
    Program::new(program).ok(["mon", "backup", "--mon", &cluster.mon_host(), "--store", &store])?;

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/backup.md");
    let page = std::fs::read_to_string(page)?;
    let drill = block(&page, "replay-trace")?;
    ensure!(drill.contains("STORE=/backup/mon"), "the page names a directory of its own");
    let drill = drill.replace("STORE=/backup/mon", &format!("STORE={store}"));
    let passes = |drill: &str| -> Result<bool> {
        let folder = Path::new(program).parent().context("a program is in a folder")?.display();
        let path = format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", drill]).env("PATH", path).env("TMPDIR", scratch.path());
        let output = shell.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let passed = said.ends_with("the drill has passed\n");
        ensure!(passed || said.contains("ours theirs differ"), "{output:?}");
        Ok(passed)
    };
    assert!(passes(&drill)?);

    // One more key in the copy than in what was restored: the comparison at its end is one that can fail.
    let export = "cuttlebone store export";
    let grown = format!("cuttlebone mon backup --mon '{}' --store {store} >/dev/null", cluster.mon_host());
    let drill = drill.replace("cuttlebone store list-crc", &format!("{grown}\ncuttlebone store list-crc"));
    ensure!(drill.contains(export) && drill.contains(&grown), "the page exports before it lists");
    cluster.config_key_set("later", "x")?;
    Program::new(program).ok(["store", "verify", "--store", &store])?;
    assert!(!passes(&drill)?);
    Ok(())
}

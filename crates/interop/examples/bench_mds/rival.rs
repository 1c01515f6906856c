//! The same phases by Ceph's own library, in a program built from `libcephfs.c` beside this file.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_testkit::Cluster;
use serde_json::Value;

use crate::Took;
use crate::server::Server;

/// The program, and the cluster that it mounts.
#[derive(Debug)]
pub(crate) struct Rival {
    program: PathBuf,
    conf: PathBuf,
}

impl Rival {
    /// Builds it, if what it needs is there.
    pub(crate) fn build(cluster: &Cluster) -> Result<Option<Self>> {
        if !Path::new("/usr/include/cephfs/libcephfs.h").exists() {
            eprintln!("no libcephfs-dev: nothing to compare with");
            return Ok(None);
        }
        let program = cluster.path().join("libcephfs-bench");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench_mds/libcephfs.c");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-o"]).arg(&program).arg(source).args(["-lcephfs", "-lpthread"]);
        ensure!(cc.status().context("cc")?.success(), "libcephfs.c does not build");
        Ok(Some(Self { program, conf: cluster.conf() }))
    }

    /// The program, to do this.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&self.conf).args(words);
        command
    }

    /// One phase by so many threads, on a mount of its own.
    pub(crate) fn phase(
        &self,
        server: &Server,
        phase: &str,
        threads: u64,
        ops: u64,
        dir: &str,
    ) -> Result<Took> {
        let mut command = self.command(&[phase, &threads.to_string(), &ops.to_string(), dir]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(mut go), Some(says)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes") };
        let mut says = BufReader::new(says);
        let mut line = String::new();
        says.read_line(&mut line)?;
        ensure!(line == "ready\n", "{} {phase}: {line}", self.program.display());
        let before = server.usage()?;
        go.write_all(b"go\n")?;
        line.clear();
        says.read_line(&mut line)?;
        let server = server.usage()?.since(before);
        go.write_all(b"go\n")?;
        ensure!(child.wait()?.success(), "{} {phase} failed", self.program.display());
        let line: Value = serde_json::from_str(&line)?;
        let number = |field: &str| line[field].as_f64().with_context(|| format!("{field} in {line}"));
        let ops = line["ops"].as_u64().context("ops")?;
        Ok(Took { ops, seconds: number("seconds")?, cpu_seconds: number("cpu_seconds")?, server })
    }
}
